//! The encoding of a message in the journal: complete, and in a compact format of the router's own.
//!
//! Layout, little-endian: `flags` (u32, which optional parts follow), the act, six bytes of options, the lifetime
//! (u32), the receiver, the parts named by the flags in their order, the details if there are any, and the
//! length-prefixed content. Words are stored as text, because term numbers are valid in one process only.

use std::num::{NonZeroU8, NonZeroU64};
use std::sync::Arc;

use super::{
    AgentId, Aid, Body, Choice, ConversationRole, Correlation, Details, Expression, Message, MessageContent,
    PARAMETER_BYTES_MAX, ParameterValue, Performative, RECEIVERS_MAX, Receipt, Receiver, Reliability, Replay, Term,
    TraceContext, USER_PARAMETERS_MAX, UserParameter, WallTime, WhenUnavailable, pool,
};
use crate::domain::Priority;
use crate::message::aid::{AID_DEPTH_MAX, AID_ENTRIES_MAX};
use crate::message::bytes::{Reader, RecordError, Write};

const ID: u32 = 1;
const SENDER: u32 = 1 << 1;
const CONVERSATION: u32 = 1 << 2;
const REPLY_WITH: u32 = 1 << 3;
const IN_REPLY_TO: u32 = 1 << 4;
const REPLY_BY: u32 = 1 << 5;
const PROTOCOL: u32 = 1 << 6;
const LANGUAGE: u32 = 1 << 7;
const ENCODING: u32 = 1 << 8;
const ONTOLOGY: u32 = 1 << 9;
const LATE: u32 = 1 << 10;
const DETAILS: u32 = 1 << 11;
/// Content is present but empty.
const EMPTY_CONTENT: u32 = 1 << 12;
const ALL: u32 = (1 << 13) - 1;

/// The act's byte for a user-defined act, whose name follows.
const OWN_ACT: u8 = u8::MAX;

/// How much of a message's content is stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Extent {
    /// All of it.
    Whole,
    /// None: the message is recorded as a step of its conversation.
    WithoutContent,
}

impl Message {
    /// Appends the encoded message to `out`.
    pub(crate) fn store(&self, out: &mut Vec<u8>, extent: Extent) {
        let body = &*self.0;
        let details = body.details.as_deref();
        let flag = |there: bool, flag: u32| if there { flag } else { 0 };
        let flags = flag(body.id.is_some(), ID)
            | flag(body.sender.is_some(), SENDER)
            | flag(body.conversation.is_some(), CONVERSATION)
            | flag(body.reply_with.is_some(), REPLY_WITH)
            | flag(body.in_reply_to.is_some(), IN_REPLY_TO)
            | flag(body.reply_by.is_some(), REPLY_BY)
            | flag(body.protocol.is_some(), PROTOCOL)
            | flag(body.language.is_some(), LANGUAGE)
            | flag(body.encoding.is_some(), ENCODING)
            | flag(body.ontology.is_some(), ONTOLOGY)
            | flag(body.late, LATE)
            | flag(details.is_some(), DETAILS)
            | flag(body.content.is_empty() && body.content.is_given(), EMPTY_CONTENT);
        out.put_u32(flags);
        match body.performative {
            Performative::UserDefined(term) => {
                out.put_u8(OWN_ACT);
                out.put_text(term.as_str());
            }
            act => out.put_u8(u8::try_from(act.place()).unwrap_or(OWN_ACT)),
        }
        out.put(&[
            body.role as u8,
            body.priority as u8,
            body.reliability as u8,
            body.receipt as u8,
            body.when_unavailable as u8,
            body.attempts_max.map_or(0, NonZeroU8::get),
        ]);
        out.put_u32(body.time_to_live_ms);
        store_receiver(&body.receiver, out);
        if let Some(id) = body.id {
            out.put_u128(id.to_u128());
        }
        if let Some(sender) = body.sender {
            out.put_u128(sender.to_u128());
        }
        if let Some(conversation) = body.conversation {
            out.put_u128(conversation.to_u128());
        }
        if let Some(correlation) = body.reply_with {
            out.put_u64(correlation.get());
        }
        if let Some(correlation) = body.in_reply_to {
            out.put_u64(correlation.get());
        }
        if let Some(moment) = body.reply_by {
            out.put_u64(moment.get());
        }
        for word in [body.protocol, body.language, body.encoding, body.ontology].into_iter().flatten() {
            out.put_text(word.as_str());
        }
        if let Some(details) = details {
            store_details(details, out);
        }
        out.put_bytes(match extent {
            Extent::Whole => body.content.as_bytes(),
            Extent::WithoutContent => &[],
        });
    }

    /// Decodes a message written by [`Message::store`].
    pub(crate) fn restore(reader: &mut Reader<'_>) -> Result<Self, RecordError> {
        let flags = reader.u32("flags")?;
        if flags & !ALL != 0 {
            return Err(RecordError::Unknown { what: "flags", value: flags.into() });
        }
        let there = |flag: u32| flags & flag != 0;
        let mut body = pool::take();
        let fields: &mut Body = &mut body;
        fields.performative = restore_act(reader)?;
        fields.role = one_of(reader, "role", &ROLES)?;
        fields.priority = one_of(reader, "priority", &PRIORITIES)?;
        fields.reliability = one_of(reader, "reliability", &[Reliability::Volatile, Reliability::Durable])?;
        fields.receipt = one_of(reader, "receipt", &[Receipt::None, Receipt::Delivered, Receipt::Processed])?;
        let patience = [WhenUnavailable::Wait, WhenUnavailable::FailFast];
        fields.when_unavailable = one_of(reader, "patience", &patience)?;
        fields.attempts_max = NonZeroU8::new(reader.u8("attempts")?);
        fields.time_to_live_ms = reader.u32("lifetime")?;
        fields.receiver = restore_receiver(reader)?;
        fields.id = if there(ID) { Some(reader.message_id("id")?) } else { None };
        fields.sender = if there(SENDER) { Some(reader.agent("sender")?) } else { None };
        fields.conversation = if there(CONVERSATION) { Some(reader.conversation("conversation")?) } else { None };
        let mut number = |flag, what| if there(flag) { reader.u64(what).map(NonZeroU64::new) } else { Ok(None) };
        fields.reply_with = number(REPLY_WITH, "reply-with")?.map(Correlation::from_number);
        fields.in_reply_to = number(IN_REPLY_TO, "in-reply-to")?.map(Correlation::from_number);
        fields.reply_by = number(REPLY_BY, "reply-by")?;
        let mut spilled = [None, None, None, None];
        let words = [PROTOCOL, LANGUAGE, ENCODING, ONTOLOGY];
        let mut terms = [None; 4];
        for ((flag, term), spilled) in words.into_iter().zip(&mut terms).zip(&mut spilled) {
            if there(flag) {
                let word = reader.text("word")?;
                *term = Term::of_message(word);
                // A word for which the vocabulary has no room stays with its message as text.
                *spilled = term.is_none().then(|| Box::from(word));
            }
        }
        [fields.protocol, fields.language, fields.encoding, fields.ontology] = terms;
        fields.late = there(LATE);
        let mut details = if there(DETAILS) { Some(restore_details(reader)?) } else { None };
        if spilled.iter().any(Option::is_some) {
            let words = &mut details.get_or_insert_default().words;
            let kept = [&mut words.protocol, &mut words.language, &mut words.encoding, &mut words.ontology];
            for (place, text) in kept.into_iter().zip(spilled) {
                if text.is_some() {
                    *place = text;
                }
            }
        }
        fields.details = details.map(Arc::new);
        fields.content = match reader.bytes("content")? {
            [] if there(EMPTY_CONTENT) => MessageContent::given_empty(),
            bytes => MessageContent::copy_of(bytes),
        };
        Ok(Self(body))
    }
}

const ROLES: [ConversationRole; 4] = [
    ConversationRole::Unresolved,
    ConversationRole::Initiator,
    ConversationRole::Participant,
    ConversationRole::Member,
];
const PRIORITIES: [Priority; 4] = [Priority::Low, Priority::Normal, Priority::High, Priority::Urgent];
const CHOICES: [Choice; 4] = [Choice::Any, Choice::All, Choice::RoundRobin, Choice::LeastLoaded];

fn one_of<T: Copy>(reader: &mut Reader<'_>, what: &'static str, values: &[T]) -> Result<T, RecordError> {
    let value = reader.u8(what)?;
    values.get(usize::from(value)).copied().ok_or(RecordError::Unknown { what, value: value.into() })
}

fn restore_act(reader: &mut Reader<'_>) -> Result<Performative, RecordError> {
    match reader.u8("act")? {
        OWN_ACT => Performative::restored(reader.text("act")?).ok_or(RecordError::Illegal("act")),
        place => Performative::STANDARD
            .get(usize::from(place))
            .copied()
            .ok_or(RecordError::Unknown { what: "act", value: place.into() }),
    }
}

fn store_receiver(receiver: &Receiver, out: &mut Vec<u8>) {
    match receiver {
        Receiver::Unaddressed => out.put_u8(0),
        Receiver::Agent(agent) => {
            out.put_u8(1);
            out.put_u128(agent.to_u128());
        }
        Receiver::Agents(agents) => {
            out.put_u8(2);
            store_agents(agents, out);
        }
        // The other receivers have copies of their own; this one is restored for a single agent.
        Receiver::Member(agents, index) => match agents.get(*index as usize) {
            Some(agent) => store_receiver(&Receiver::Agent(*agent), out),
            None => out.put_u8(0),
        },
        Receiver::Capability(capability, choice) => {
            out.put_u8(3);
            out.put_text(capability.as_str());
            out.put_u8(*choice as u8);
        }
        Receiver::Provider(agent, capability) => {
            out.put_u8(4);
            out.put_u128(agent.to_u128());
            out.put_text(capability.as_str());
        }
    }
}

fn store_agents(agents: &[AgentId], out: &mut Vec<u8>) {
    out.put_count(agents.len());
    for agent in agents {
        out.put_u128(agent.to_u128());
    }
}

fn restore_receiver(reader: &mut Reader<'_>) -> Result<Receiver, RecordError> {
    match reader.u8("receiver")? {
        0 => Ok(Receiver::Unaddressed),
        1 => Ok(Receiver::Agent(reader.agent("receiver")?)),
        2 => {
            let count = reader.count(RECEIVERS_MAX, "receivers")?;
            let agents = (0..count).map(|_| reader.agent("receiver")).collect::<Result<Vec<_>, _>>()?;
            Ok(Receiver::Agents(agents.into()))
        }
        3 => {
            let capability = restore_term(reader)?;
            Ok(Receiver::Capability(capability, one_of(reader, "choice", &CHOICES)?))
        }
        4 => {
            let agent = reader.agent("receiver")?;
            // If the vocabulary is full, the chosen agent is enough.
            Ok(match Term::of_message(reader.text("capability")?) {
                Some(capability) => Receiver::Provider(agent, capability),
                None => Receiver::Agent(agent),
            })
        }
        value => Err(RecordError::Unknown { what: "receiver", value: value.into() }),
    }
}

fn restore_term(reader: &mut Reader<'_>) -> Result<Term, RecordError> {
    Term::of(reader.text("capability")?).ok_or(RecordError::Illegal("capability"))
}

fn store_details(details: &Details, out: &mut Vec<u8>) {
    // Every field is named, so that none is forgotten.
    let Details {
        sender,
        receivers,
        reply_to,
        initiator,
        conversation,
        reply_with,
        in_reply_to,
        words,
        user_parameters,
        trace,
        // They begin again after a restart.
        trace_is_given: _,
        trace_hops: _,
        deliver_at,
        replay,
    } = details;
    store_aids(sender.as_slice(), out);
    store_aids(receivers, out);
    store_aids(reply_to, out);
    out.put_u128(initiator.map_or(0, AgentId::to_u128));
    for text in
        [conversation, reply_with, in_reply_to, &words.protocol, &words.language, &words.encoding, &words.ontology]
    {
        out.put_optional_text(text.as_deref());
    }
    store_parameters(user_parameters, out);
    out.put_u8(u8::from(trace.is_some()));
    if let Some(trace) = trace {
        out.put(&trace.trace_id);
        out.put(&trace.span_id);
        out.put_u8(trace.flags);
    }
    // A delivery time of zero is in the past, which is the same as none.
    out.put_u64(deliver_at.map_or(0, |moment| moment.0));
    out.put_u8(u8::from(replay.is_some()));
    if let Some(replay) = replay {
        out.put_u8(replay.times);
        out.put_u64(replay.first.0);
        out.put_u8(u8::from(replay.rejoins));
    }
}

fn restore_details(reader: &mut Reader<'_>) -> Result<Details, RecordError> {
    let sender = restore_aids(reader, 1, AID_DEPTH_MAX)?.pop();
    let receivers = restore_aids(reader, RECEIVERS_MAX, AID_DEPTH_MAX)?;
    let reply_to = restore_aids(reader, RECEIVERS_MAX, AID_DEPTH_MAX)?;
    let initiator = AgentId::from_u128(reader.u128("initiator")?);
    let mut text = |what| reader.optional_text(what);
    let (conversation, reply_with, in_reply_to) = (text("conversation")?, text("reply-with")?, text("in-reply-to")?);
    let words = super::Words {
        protocol: text("protocol")?,
        language: text("language")?,
        encoding: text("encoding")?,
        ontology: text("ontology")?,
    };
    let user_parameters = restore_parameters(reader, USER_PARAMETERS_MAX)?;
    let trace = if restore_flag(reader)? {
        let trace_id = reader.u128("trace")?.to_le_bytes();
        let span_id = reader.u64("trace")?.to_le_bytes();
        Some(TraceContext { trace_id, span_id, flags: reader.u8("trace")? })
    } else {
        None
    };
    let deliver_at = Some(reader.u64("moment of delivery")?).filter(|moment| *moment > 0).map(WallTime);
    let replay = if restore_flag(reader)? {
        let times = reader.u8("replays")?;
        Some(Replay { times, first: WallTime(reader.u64("replays")?), rejoins: restore_flag(reader)? })
    } else {
        None
    };
    Ok(Details {
        sender,
        receivers,
        reply_to,
        initiator,
        conversation,
        reply_with,
        in_reply_to,
        words,
        user_parameters,
        trace,
        trace_is_given: false,
        trace_hops: 0,
        deliver_at,
        replay,
    })
}

fn restore_flag(reader: &mut Reader<'_>) -> Result<bool, RecordError> {
    one_of(reader, "flag", &[false, true])
}

fn store_aids(aids: &[Aid], out: &mut Vec<u8>) {
    out.put_count(aids.len());
    for aid in aids {
        out.put_text(aid.name.as_ref());
        out.put_count(aid.addresses.len());
        for address in &aid.addresses {
            out.put_text(address);
        }
        store_aids(&aid.resolvers, out);
        store_parameters(&aid.user_parameters, out);
    }
}

fn restore_aids(reader: &mut Reader<'_>, most: usize, depth: usize) -> Result<Vec<Aid>, RecordError> {
    let count = reader.count(most, "identifiers")?;
    if count > 0 && depth == 0 {
        return Err(RecordError::Illegal("identifiers"));
    }
    (0..count)
        .map(|_| {
            let name = reader.name("name")?;
            let addresses = reader.count(AID_ENTRIES_MAX, "addresses")?;
            let addresses = (0..addresses).map(|_| restore_parameter_text(reader)).collect::<Result<_, _>>()?;
            let resolvers = restore_aids(reader, AID_ENTRIES_MAX, depth - 1)?;
            Ok(Aid { name, addresses, resolvers, user_parameters: restore_parameters(reader, AID_ENTRIES_MAX)? })
        })
        .collect()
}

fn store_parameters(parameters: &[UserParameter], out: &mut Vec<u8>) {
    out.put_count(parameters.len());
    for parameter in parameters {
        out.put_text(&parameter.name);
        let (kind, bytes) = match &parameter.value {
            ParameterValue::Atom(text) => (0, text.as_bytes()),
            ParameterValue::Text(text) => (1, text.as_bytes()),
            ParameterValue::Binary(bytes) => (2, &**bytes),
            ParameterValue::List(expression) => (3, expression.as_str().as_bytes()),
        };
        out.put_u8(kind);
        out.put_bytes(bytes);
    }
}

fn restore_parameters(reader: &mut Reader<'_>, most: usize) -> Result<Vec<UserParameter>, RecordError> {
    let count = reader.count(most, "parameters")?;
    (0..count)
        .map(|_| {
            let name = restore_parameter_text(reader)?;
            let value = match reader.u8("parameter")? {
                0 => ParameterValue::Atom(restore_parameter_text(reader)?),
                1 => ParameterValue::Text(restore_parameter_text(reader)?),
                2 => ParameterValue::Binary(reader.bytes("parameter")?.into()),
                3 => ParameterValue::List(Expression::of_source(restore_parameter_text(reader)?)),
                value => return Err(RecordError::Unknown { what: "parameter", value: value.into() }),
            };
            Ok(UserParameter { name, value })
        })
        .collect()
}

fn restore_parameter_text(reader: &mut Reader<'_>) -> Result<Box<str>, RecordError> {
    let text = reader.text("parameter")?;
    if text.len() > PARAMETER_BYTES_MAX { Err(RecordError::Illegal("parameter")) } else { Ok(text.into()) }
}
