//! Random messages with all parameters, and random damage, for the tests of each form.

use std::num::NonZeroU8;

use caxton_shards::domain::{AgentName, CapabilityName, LifetimeMs, Priority};
use caxton_shards::message::{
    Aid, Choice, Message, MessageBuilder, MessageContent, MessageError, MessageId, ParameterValue, Performative,
    Receipt, Reliability, TraceContext, UserParameter, WallTime, WhenUnavailable,
};
use proptest::prelude::*;

pub fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-zA-Z0-9@:._+#()\"\\\\ -]{0,12}",
        "\\PC{0,8}",
        any::<String>(),
        Just("c00000000000000000000000000000001".to_owned()),
        Just("r0000000000000001".to_owned()),
        Just("20020314T091400500Z".to_owned()),
        Just("-".to_owned()),
        "[+-]?[0-9]{0,3}\\.?[0-9]{0,3}(E[+-]?[0-9]{0,2})?",
    ]
}

pub fn content() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..400),
        text().prop_map(String::into_bytes),
        "[\"\\\\a\0]{0,300}".prop_map(String::into_bytes),
        "[\"\\\\ ():]{0,9}".prop_map(String::into_bytes),
    ]
}

pub fn name() -> impl Strategy<Value = AgentName> {
    prop_oneof![
        4 => "[a-zA-Z:._+ä\\\\][a-zA-Z0-9@:._+#ä\\\\-]{0,20}",
        1 => "[^\\pC\\s]([^\\pC\\s]| [^\\pC\\s]){0,9}",
        1 => "[\"\\\\()a]{1,6}",
    ]
    .prop_map(|name| AgentName::try_new(name).unwrap())
}

pub fn value() -> impl Strategy<Value = ParameterValue> {
    let list = text().prop_map(|text| {
        format!("({} (x \"{}\"))", text.replace(['(', ')', '"', '\\', '#'], ""), text.replace(['"', '\\'], ""))
    });
    prop_oneof![
        text().prop_map(|text| ParameterValue::Atom(text.into())),
        text().prop_map(|text| ParameterValue::Text(text.into())),
        content().prop_map(|bytes| ParameterValue::Binary(bytes.into())),
        list.prop_map(ParameterValue::list),
        text().prop_map(ParameterValue::list),
    ]
}

pub fn parameters() -> impl Strategy<Value = Vec<(String, ParameterValue)>> {
    proptest::collection::vec(("[xX]-z[a-zA-Z0-9:#@\\\\ä-]{0,8}", value()), 0..4)
}

/// Identifiers with values in the form in which they read back: only whole messages are normalised.
pub fn aid() -> impl Strategy<Value = Aid> {
    let leaf = (name(), proptest::collection::vec(text(), 0..3), "[a-z]{1,5}").prop_map(|(name, addresses, word)| {
        let user_parameters = vec![
            UserParameter { name: "X-home".into(), value: ParameterValue::Atom(word.into()) },
            UserParameter { name: "X-home".into(), value: ParameterValue::Binary((*b"\xff)").into()) },
        ];
        let addresses = addresses.into_iter().map(String::into_boxed_str).collect();
        Aid { addresses, user_parameters, ..Aid::new(name) }
    });
    leaf.prop_recursive(3, 12, 3, |inner| {
        (name(), proptest::collection::vec(inner, 0..3))
            .prop_map(|(name, resolvers)| Aid { resolvers, ..Aid::new(name) })
    })
}

fn performative() -> impl Strategy<Value = Performative> {
    prop_oneof![
        9 => proptest::sample::select(Performative::STANDARD.to_vec()),
        1 => "[a-z][a-z0-9._-]{0,2}".prop_filter_map("a word", |word| word.parse().ok()),
    ]
}

#[derive(Debug, Clone)]
struct ColdState {
    options: (u8, bool, u8, Option<NonZeroU8>, Option<u32>, Option<u64>, bool),
    id: Option<u128>,
    trace: Option<([u8; 16], [u8; 8], u8)>,
    capability: Option<(String, u8)>,
}

fn cold() -> impl Strategy<Value = ColdState> {
    (
        (
            0..4_u8,
            any::<bool>(),
            0..3_u8,
            any::<Option<NonZeroU8>>(),
            proptest::option::of(1..300_001_u32),
            proptest::option::of(0..253_402_300_800_000_u64),
            any::<bool>(),
        ),
        any::<Option<u128>>(),
        any::<Option<([u8; 16], [u8; 8], u8)>>(),
        proptest::option::of(("[a-z0-9:#@\\\\][a-z0-9.:-]{0,9}", 0..4_u8)),
    )
        .prop_map(|(options, id, trace, capability)| ColdState { options, id, trace, capability })
}

/// Any message that text can carry, with everything that a builder accepts.
pub fn message() -> impl Strategy<Value = Message> {
    let agents =
        (proptest::option::of(aid()), proptest::collection::vec(aid(), 0..4), proptest::collection::vec(aid(), 0..3));
    let texts = proptest::collection::vec(proptest::option::of(text()), 7);
    let reply_by = proptest::option::of(1..253_402_300_800_000_u64);
    (performative(), agents, content(), texts, reply_by, parameters(), cold()).prop_filter_map(
        "the vocabulary of the process is full",
        |(performative, (sender, receivers, reply_to), content, texts, reply_by, parameters, cold)| {
            let content = if content.is_empty() { MessageContent::given_empty() } else { content.into() };
            let mut builder = Message::builder(performative).content(content);
            if let Some(sender) = sender {
                builder = builder.sender_aid(sender);
            }
            if !receivers.is_empty() {
                builder = builder.receiver_aids(receivers);
            } else if let Some((name, choice)) = &cold.capability {
                let choice = [Choice::Any, Choice::All, Choice::RoundRobin, Choice::LeastLoaded][usize::from(*choice)];
                builder = builder.capability(&CapabilityName::try_new(name.as_str()).unwrap(), choice);
            }
            if !reply_to.is_empty() {
                builder = builder.reply_to_aids(reply_to);
            }
            let mut texts = texts.iter();
            let mut next = || texts.next().and_then(|text| text.as_deref());
            if let Some(text) = next() {
                builder = builder.language(text);
            }
            if let Some(text) = next() {
                builder = builder.encoding(text);
            }
            if let Some(text) = next() {
                builder = builder.ontology(text);
            }
            if let Some(text) = next() {
                builder = builder.protocol(text);
            }
            if let Some(text) = next() {
                builder = builder.conversation_text(text);
            }
            if let Some(text) = next() {
                builder = builder.reply_with_text(text);
            }
            if let Some(text) = next() {
                builder = builder.in_reply_to_text(text);
            }
            if let Some(moment) = reply_by {
                builder = builder.reply_by(WallTime(moment));
            }
            for (name, value) in parameters {
                builder = builder.user_parameter(&name, value);
            }
            match with_extras(builder, &cold).build() {
                Err(MessageError::VocabularyFull { .. }) => None,
                built => Some(built.unwrap()),
            }
        },
    )
}

fn with_extras(mut builder: MessageBuilder, cold: &ColdState) -> MessageBuilder {
    let (priority, durable, receipt, attempts, time, moment, fails_fast) = cold.options;
    builder = builder
        .priority(Priority::ALL[usize::from(priority)])
        .reliability(if durable { Reliability::Durable } else { Reliability::Volatile })
        .receipt([Receipt::None, Receipt::Delivered, Receipt::Processed][usize::from(receipt)])
        .when_unavailable(if fails_fast { WhenUnavailable::FailFast } else { WhenUnavailable::Wait });
    if let Some(attempts) = attempts {
        builder = builder.attempts_max(attempts);
    }
    if let Some(time) = time {
        builder = builder.time_to_live(LifetimeMs::try_new(time).unwrap());
    }
    if let Some(moment) = moment {
        builder = builder.deliver_at(WallTime(moment));
    }
    if let Some(id) = cold.id.and_then(MessageId::from_u128) {
        builder = builder.id(id);
    }
    if let Some((trace_id, span_id, flags)) = cold.trace
        && trace_id != [0; 16]
        && span_id != [0; 8]
    {
        builder = builder.trace(TraceContext { trace_id, span_id, flags });
    }
    builder
}

/// Changes that leave much of a message intact.
#[derive(Debug, Clone)]
pub enum Mutation {
    Replace(u8),
    Insert(u8),
    Remove,
    Cut,
    Repeat,
}

/// Some of the inserted bytes are `marks`, which have a meaning in the form.
pub fn mutations(marks: &'static [u8]) -> impl Strategy<Value = Vec<(usize, Mutation)>> {
    let byte = move || prop_oneof![any::<u8>(), proptest::sample::select(marks.to_vec())];
    let mutation = prop_oneof![
        byte().prop_map(Mutation::Replace),
        byte().prop_map(Mutation::Insert),
        Just(Mutation::Remove),
        Just(Mutation::Cut),
        Just(Mutation::Repeat),
    ];
    proptest::collection::vec((any::<usize>(), mutation), 1..8)
}

pub fn mutate(mut bytes: Vec<u8>, mutations: Vec<(usize, Mutation)>) -> Vec<u8> {
    for (place, mutation) in mutations {
        let place = place % (bytes.len() + 1);
        match mutation {
            Mutation::Replace(byte) if place < bytes.len() => bytes[place] = byte,
            Mutation::Remove if place < bytes.len() => drop(bytes.remove(place)),
            Mutation::Replace(byte) | Mutation::Insert(byte) => bytes.insert(place, byte),
            Mutation::Remove => {}
            Mutation::Cut => bytes.truncate(place),
            Mutation::Repeat => {
                let end = (place + 20).min(bytes.len());
                bytes.extend_from_within(place..end);
            }
        }
    }
    bytes
}
