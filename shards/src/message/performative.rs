//! Communicative acts (FIPA SC00037).

use std::fmt;
use std::str::FromStr;

use super::term::Term;
use crate::domain::DomainError;

macro_rules! performatives {
    ($($(#[$doc:meta])* $variant:ident = $word:literal),+ $(,)?) => {
        /// A communicative act: one of the 22 of FIPA SC00037, or a user-defined one.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum Performative {
            $($(#[$doc])* $variant,)+
            /// An act outside the FIPA library.
            UserDefined(Term),
        }

        impl Performative {
            /// The acts of SC00037 in the order of their bit-efficient codes (SC00069), 0x01 to 0x16.
            pub const STANDARD: [Performative; 22] = [$(Performative::$variant),+];

            /// Returns the act's index in [`Performative::STANDARD`], or [`Performative::OWN`] for a user-defined act.
            #[inline]
            pub(crate) const fn place(self) -> usize {
                #[repr(u8)]
                enum Place { $($variant),+ }
                match self {
                    $(Performative::$variant => Place::$variant as usize,)+
                    Performative::UserDefined(_) => Performative::OWN,
                }
            }

            /// Returns the act's name in lower case, as FIPA writes it.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Performative::$variant => $word,)+
                    Performative::UserDefined(term) => term.as_str(),
                }
            }
        }
    };
}

performatives! {
    /// Accept a proposal made earlier.
    AcceptProposal = "accept-proposal",
    /// Agree to perform an action.
    Agree = "agree",
    /// Withdraw a request made earlier.
    Cancel = "cancel",
    /// Call for proposals.
    Cfp = "cfp",
    /// Say that something the receiver is unsure of is true.
    Confirm = "confirm",
    /// Say that something the receiver believes is false.
    Disconfirm = "disconfirm",
    /// Say that an action was attempted and failed.
    Failure = "failure",
    /// Say that something is true.
    Inform = "inform",
    /// Say whether something is true (part of query-if).
    InformIf = "inform-if",
    /// Say which object matches a description (part of query-ref).
    InformRef = "inform-ref",
    /// Say that a message was not understood.
    NotUnderstood = "not-understood",
    /// Forward a message to agents of a kind.
    Propagate = "propagate",
    /// Propose an action under conditions.
    Propose = "propose",
    /// Ask the receiver to send a message to agents of a kind.
    Proxy = "proxy",
    /// Ask whether something is true.
    QueryIf = "query-if",
    /// Ask which object matches a description.
    QueryRef = "query-ref",
    /// Refuse to perform an action.
    Refuse = "refuse",
    /// Reject a proposal made earlier.
    RejectProposal = "reject-proposal",
    /// Ask for an action.
    Request = "request",
    /// Ask for an action once something becomes true.
    RequestWhen = "request-when",
    /// Ask for an action each time that something becomes true.
    RequestWhenever = "request-whenever",
    /// Ask to be told of a value and of its changes.
    Subscribe = "subscribe",
}

/// Maximum length of a user-defined act, in bytes.
pub const PERFORMATIVE_BYTES_MAX: usize = 64;

impl Performative {
    /// The index after those of all standard acts.
    pub(crate) const OWN: usize = Self::STANDARD.len();

    /// Returns the standard act with this name, ignoring case (SC00070 keywords are case-insensitive).
    pub fn standard(word: &str) -> Option<Self> {
        Self::STANDARD.into_iter().find(|act| act.as_str().eq_ignore_ascii_case(word))
    }
}

impl Performative {
    /// Whether an act asks its receiver for a reply. An accept-proposal does not: it is a reply to a proposal, and ends the
    /// exchange of SC00036.
    pub const fn asks_for_reply(self) -> bool {
        matches!(
            self,
            Self::Request
                | Self::RequestWhen
                | Self::RequestWhenever
                | Self::QueryIf
                | Self::QueryRef
                | Self::Cfp
                | Self::Propose
                | Self::Proxy
                | Self::Propagate
                | Self::Subscribe
                | Self::Cancel
        )
    }
}

impl fmt::Display for Performative {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl FromStr for Performative {
    type Err = DomainError;

    /// Parses a standard act, ignoring case, or a user-defined act: a word of 1 to 64 bytes (a letter, then letters,
    /// digits, `-`, `_` or `.`), which is converted to lower case.
    fn from_str(word: &str) -> Result<Self, DomainError> {
        Self::read(word, Term::of_performative)
    }
}

impl Performative {
    /// Like [`str::parse`], for a word accepted in an earlier run.
    pub(super) fn restored(word: &str) -> Option<Self> {
        Self::read(word, Term::of).ok()
    }

    fn read(word: &str, term: impl FnOnce(&str) -> Option<Term>) -> Result<Self, DomainError> {
        if let Some(act) = Self::standard(word) {
            return Ok(act);
        }
        let legal = (1..=PERFORMATIVE_BYTES_MAX).contains(&word.len())
            && word.starts_with(|first: char| first.is_ascii_alphabetic())
            && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
        let refuse = |allowed: &str| DomainError::not_allowed("performative", word, allowed);
        if !legal {
            return Err(refuse("one of the 22 acts of FIPA SC00037, or a word of 1 to 64 letters, digits, - _ ."));
        }
        term(&word.to_ascii_lowercase())
            .map(Self::UserDefined)
            .ok_or_else(|| refuse("a known act: the vocabulary of the process has room for no more of them"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_22_acts_and_each_is_found_in_any_case() {
        assert_eq!(Performative::STANDARD.len(), 22);
        for (place, act) in Performative::STANDARD.into_iter().enumerate() {
            assert_eq!(act.place(), place);
            assert_eq!(act.as_str().parse(), Ok(act));
            assert_eq!(act.as_str().to_uppercase().parse(), Ok(act));
        }
    }

    #[test]
    fn a_user_defined_act_keeps_its_word() {
        let act: Performative = "X-Greet".parse().unwrap();
        assert_eq!(act.to_string(), "x-greet");
        assert_eq!("x-GREET".parse(), Ok(act));
    }

    #[test]
    fn what_is_no_word_is_refused_by_name() {
        for word in ["", "9lives", "two words", "a(b", &"a".repeat(65)] {
            let error = word.parse::<Performative>().unwrap_err();
            assert!(error.to_string().contains("performative"), "{error}");
        }
    }
}
