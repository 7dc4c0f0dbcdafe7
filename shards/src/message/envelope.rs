//! The transport envelope (FIPA SC00067): what platforms exchange about a message without reading it.
//!
//! A [`TransportEnvelope`] is the merged view of an envelope: if channels added parameters on the way, the latest value
//! of each applies (SC00067), and all stamps are kept in the order in which they were added. The encoded forms are
//! beside the codecs of messages.

use super::aid::{Aid, AidError};
use super::details::{
    PARAMETER_BYTES_MAX, ParameterValue, RECEIVERS_MAX, USER_PARAMETERS_MAX, UserParameter, is_kept_parameter_name,
};
use super::options::WallTime;

/// Maximum number of stamps on an envelope: a message that took more hops is assumed to be in a loop.
pub const RECEIVED_STAMPS_MAX: usize = 64;

/// An envelope is invalid.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransportEnvelopeError {
    /// The envelope names no receiver.
    #[error("the envelope has no :to: at least one receiver is needed")]
    NoReceiver,
    /// An identifier breaks a limit.
    #[error("an agent of :{parameter} {fault}")]
    Aid {
        /// `to`, `from` or `intended-receiver`.
        parameter: &'static str,
        /// The limit that was broken.
        fault: AidError,
    },
    /// A list is too long.
    #[error("the envelope has {count} entries in :{parameter}: the limit is {limit}")]
    TooMany {
        /// The name of the list.
        parameter: &'static str,
        /// The number of entries.
        count: usize,
        /// The limit.
        limit: usize,
    },
    /// A text is too long.
    #[error("the envelope's :{parameter} has {bytes} bytes: the limit is {PARAMETER_BYTES_MAX} bytes")]
    TooLong {
        /// The name of the parameter.
        parameter: &'static str,
        /// The length in bytes.
        bytes: usize,
    },
    /// A user-defined parameter's name is not a word, or is the name of a standard parameter.
    #[error("the envelope has the parameter {name:?}: a name is a word that is not a parameter of FIPA SC00061")]
    ParameterName {
        /// The refused name.
        name: String,
    },
}

/// The representation of the message that follows the envelope.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AclRepresentation {
    /// `fipa.acl.rep.bitefficient.std` (SC00069).
    BitEfficient,
    /// `fipa.acl.rep.string.std` (SC00070).
    String,
    /// `fipa.acl.rep.xml.std` (SC00071).
    Xml,
    /// A representation outside the FIPA library, by name.
    UserDefined(Box<str>),
}

impl AclRepresentation {
    /// Returns the representation with this name; the standard names are matched in any case.
    pub fn named(name: &str) -> Self {
        [Self::BitEfficient, Self::String, Self::Xml]
            .into_iter()
            .find(|known| known.as_str().eq_ignore_ascii_case(name))
            .unwrap_or_else(|| Self::UserDefined(name.into()))
    }

    /// Returns the name used in the envelope.
    pub fn as_str(&self) -> &str {
        match self {
            Self::BitEfficient => "fipa.acl.rep.bitefficient.std",
            Self::String => "fipa.acl.rep.string.std",
            Self::Xml => "fipa.acl.rep.xml.std",
            Self::UserDefined(name) => name,
        }
    }
}

/// The stamp that a channel adds to the envelope when it receives a message (SC00067, `received-object`).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReceivedStamp {
    /// The address of the channel that received the message.
    pub by: Box<str>,
    /// The address that the message came from.
    pub from: Option<Box<str>>,
    /// The time of receipt, in milliseconds of wall time.
    pub date: WallTime,
    /// The channel's own identifier of the message.
    pub id: Option<Box<str>>,
    /// The transport protocol used.
    pub via: Option<Box<str>>,
    /// User-defined parameters.
    pub user_parameters: Vec<UserParameter>,
}

/// A transport envelope. `to`, `from`, `date` and `acl-representation` are mandatory (SC00067).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TransportEnvelope {
    /// The receivers of the message: 1 to [`RECEIVERS_MAX`] agents.
    pub to: Vec<Aid>,
    /// The sender.
    pub from: Aid,
    /// When the envelope was created, in milliseconds of wall time.
    pub date: WallTime,
    /// The representation of the message that follows the envelope.
    pub acl_representation: AclRepresentation,
    /// Free text.
    pub comments: Option<Box<str>>,
    /// The length of the message in bytes.
    pub payload_length: Option<u64>,
    /// The character encoding of the message.
    pub payload_encoding: Option<Box<str>>,
    /// The receivers of this copy; if empty, those in `to`.
    pub intended_receivers: Vec<Aid>,
    /// The channels that the message passed, first one first.
    pub received: Vec<ReceivedStamp>,
    /// Requirements on the transport. SC00067 leaves the meaning open.
    pub transport_behaviour: Option<ParameterValue>,
    /// User-defined parameters.
    pub user_parameters: Vec<UserParameter>,
}

impl TransportEnvelope {
    /// Creates an envelope with the mandatory parameters only.
    pub fn new(to: Vec<Aid>, from: Aid, date: WallTime, acl_representation: AclRepresentation) -> Self {
        Self {
            to,
            from,
            date,
            acl_representation,
            comments: None,
            payload_length: None,
            payload_encoding: None,
            intended_receivers: Vec::new(),
            received: Vec::new(),
            transport_behaviour: None,
            user_parameters: Vec::new(),
        }
    }

    /// Returns the receivers of this copy of the message.
    pub fn receivers(&self) -> &[Aid] {
        if self.intended_receivers.is_empty() { &self.to } else { &self.intended_receivers }
    }

    /// Checks the limits that every form of the envelope relies on.
    ///
    /// # Errors
    ///
    /// Returns the first fault, by parameter.
    pub fn check(&self) -> Result<(), TransportEnvelopeError> {
        if self.to.is_empty() {
            return Err(TransportEnvelopeError::NoReceiver);
        }
        let from = std::slice::from_ref(&self.from);
        for (parameter, aids) in [("to", &self.to[..]), ("from", from), ("intended-receiver", &self.intended_receivers)]
        {
            check_count(parameter, aids.len(), RECEIVERS_MAX)?;
            aids.iter().try_for_each(Aid::check).map_err(|fault| TransportEnvelopeError::Aid { parameter, fault })?;
        }
        check_count("received", self.received.len(), RECEIVED_STAMPS_MAX)?;
        check_text("comments", self.comments.as_deref())?;
        check_text("payload-encoding", self.payload_encoding.as_deref())?;
        check_text("acl-representation", Some(self.acl_representation.as_str()))?;
        check_bytes("transport-behaviour", self.transport_behaviour.as_ref().map_or(0, ParameterValue::bytes))?;
        check_user_parameters(&self.user_parameters)?;
        self.received.iter().try_for_each(ReceivedStamp::check)
    }
}

impl ReceivedStamp {
    fn check(&self) -> Result<(), TransportEnvelopeError> {
        check_text("received by", Some(&self.by))?;
        check_text("received from", self.from.as_deref())?;
        check_text("received id", self.id.as_deref())?;
        check_text("received via", self.via.as_deref())?;
        check_user_parameters(&self.user_parameters)
    }
}

fn check_user_parameters(parameters: &[UserParameter]) -> Result<(), TransportEnvelopeError> {
    check_count("user-defined parameters", parameters.len(), USER_PARAMETERS_MAX)?;
    for UserParameter { name, value } in parameters {
        if !is_kept_parameter_name(name) {
            return Err(TransportEnvelopeError::ParameterName { name: name.chars().take(64).collect() });
        }
        check_bytes("user-defined parameter", name.len().max(value.bytes()))?;
    }
    Ok(())
}

fn check_count(parameter: &'static str, count: usize, limit: usize) -> Result<(), TransportEnvelopeError> {
    if count > limit { Err(TransportEnvelopeError::TooMany { parameter, count, limit }) } else { Ok(()) }
}

fn check_text(parameter: &'static str, text: Option<&str>) -> Result<(), TransportEnvelopeError> {
    check_bytes(parameter, text.map_or(0, str::len))
}

fn check_bytes(parameter: &'static str, bytes: usize) -> Result<(), TransportEnvelopeError> {
    if bytes > PARAMETER_BYTES_MAX { Err(TransportEnvelopeError::TooLong { parameter, bytes }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::AgentName;

    fn aid(name: &str) -> Aid {
        Aid::new(AgentName::try_new(name).unwrap())
    }

    fn envelope() -> TransportEnvelope {
        TransportEnvelope::new(vec![aid("a@x")], aid("b@x"), WallTime(0), AclRepresentation::String)
    }

    #[test]
    fn what_is_mandatory_is_enough() {
        assert_eq!(envelope().check(), Ok(()));
        assert_eq!(TransportEnvelope { to: Vec::new(), ..envelope() }.check(), Err(TransportEnvelopeError::NoReceiver));
    }

    #[test]
    fn intended_receivers_go_before_the_others() {
        assert_eq!(envelope().receivers(), [aid("a@x")]);
        let narrowed = TransportEnvelope { intended_receivers: vec![aid("c@x")], ..envelope() };
        assert_eq!(narrowed.receivers(), [aid("c@x")]);
    }

    #[test]
    fn each_limit_is_checked() {
        let long: Box<str> = "x".repeat(PARAMETER_BYTES_MAX + 1).into();
        let parameter = |name: &str| UserParameter { name: name.into(), value: ParameterValue::Atom("1".into()) };
        let stamp = |by: &str| ReceivedStamp {
            by: by.into(),
            from: None,
            date: WallTime(0),
            id: None,
            via: None,
            user_parameters: Vec::new(),
        };
        let faulty = [
            TransportEnvelope { to: vec![aid("a@x"); RECEIVERS_MAX + 1], ..envelope() },
            TransportEnvelope { comments: Some(long.clone()), ..envelope() },
            TransportEnvelope { transport_behaviour: Some(ParameterValue::Text(long.clone())), ..envelope() },
            TransportEnvelope { acl_representation: AclRepresentation::named(&long), ..envelope() },
            TransportEnvelope { user_parameters: vec![parameter("two words")], ..envelope() },
            TransportEnvelope { user_parameters: vec![parameter("X-p"); USER_PARAMETERS_MAX + 1], ..envelope() },
            TransportEnvelope { received: vec![stamp("http://x"); RECEIVED_STAMPS_MAX + 1], ..envelope() },
            TransportEnvelope { received: vec![stamp(&long)], ..envelope() },
        ];
        for (index, envelope) in faulty.iter().enumerate() {
            assert!(envelope.check().is_err(), "{index}");
        }
    }

    #[test]
    fn representations_are_known_by_name() {
        for known in [AclRepresentation::BitEfficient, AclRepresentation::String, AclRepresentation::Xml] {
            assert_eq!(AclRepresentation::named(&known.as_str().to_uppercase()), known);
        }
        assert_eq!(AclRepresentation::named("x.json"), AclRepresentation::UserDefined("x.json".into()));
    }
}
