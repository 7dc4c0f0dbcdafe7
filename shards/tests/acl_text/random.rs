//! Random messages, random bytes and messages with random damage.

use caxton_shards::message::{MessageBuilder, MessageError};

use super::*;

fn text() -> impl Strategy<Value = String> {
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

fn content() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..400),
        text().prop_map(String::into_bytes),
        "[\"\\\\a\0]{0,300}".prop_map(String::into_bytes),
    ]
}

fn name() -> impl Strategy<Value = AgentName> {
    "[a-zA-Z:._+ä\\\\][a-zA-Z0-9@:._+#ä\\\\-]{0,20}".prop_map(|name| AgentName::try_new(name).unwrap())
}

fn value() -> impl Strategy<Value = ParameterValue> {
    let list = text().prop_map(|text| {
        format!("({} (x \"{}\"))", text.replace(['(', ')', '"', '\\', '#'], ""), text.replace(['"', '\\'], ""))
    });
    prop_oneof![
        text().prop_map(|text| ParameterValue::Atom(text.into())),
        text().prop_map(|text| ParameterValue::Text(text.into())),
        content().prop_map(|bytes| ParameterValue::Binary(bytes.into())),
        list.prop_map(|text| ParameterValue::List(text.into())),
        text().prop_map(|text| ParameterValue::List(text.into())),
    ]
}

fn parameters() -> impl Strategy<Value = Vec<(String, ParameterValue)>> {
    proptest::collection::vec(("[xX]-z[a-zA-Z0-9:#@\\\\ä-]{0,8}", value()), 0..4)
}

/// Identifiers with values in the form in which they read back: only messages as a whole are put into it.
fn aid() -> impl Strategy<Value = Aid> {
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
struct Extras {
    options: (u8, bool, u8, Option<NonZeroU8>, Option<u32>, Option<u64>, bool),
    id: Option<u128>,
    trace: Option<([u8; 16], [u8; 8], u8)>,
    capability: Option<(String, u8)>,
}

fn extras() -> impl Strategy<Value = Extras> {
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
        .prop_map(|(options, id, trace, capability)| Extras { options, id, trace, capability })
}

/// Any message as text can bring it, with whatever a builder accepts.
fn message() -> impl Strategy<Value = Message> {
    let agents =
        (proptest::option::of(aid()), proptest::collection::vec(aid(), 0..4), proptest::collection::vec(aid(), 0..3));
    let texts = proptest::collection::vec(proptest::option::of(text()), 7);
    let reply_by = proptest::option::of(1..253_402_300_800_000_u64);
    (performative(), agents, content(), texts, reply_by, parameters(), extras()).prop_filter_map(
        "the vocabulary of the process is full",
        |(performative, (sender, receivers, reply_to), content, texts, reply_by, parameters, extras)| {
            let mut builder = Message::builder(performative).content(content);
            if let Some(sender) = sender {
                builder = builder.sender_aid(sender);
            }
            if !receivers.is_empty() {
                builder = builder.receiver_aids(receivers);
            } else if let Some((name, choice)) = &extras.capability {
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
            match with_extras(builder, &extras).build() {
                Err(MessageError::VocabularyFull { .. }) => None,
                built => Some(built.unwrap()),
            }
        },
    )
}

fn with_extras(mut builder: MessageBuilder, extras: &Extras) -> MessageBuilder {
    let (priority, durable, receipt, attempts, time, moment, fails_fast) = extras.options;
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
    if let Some(id) = extras.id.and_then(MessageId::from_u128) {
        builder = builder.id(id);
    }
    if let Some((trace_id, span_id, flags)) = extras.trace
        && trace_id != [0; 16]
        && span_id != [0; 8]
    {
        builder = builder.trace(TraceContext { trace_id, span_id, flags });
    }
    builder
}

/// Changes that leave much of a message as it is.
#[derive(Debug, Clone)]
enum Mutation {
    Replace(u8),
    Insert(u8),
    Remove,
    Cut,
    Repeat,
}

fn mutations() -> impl Strategy<Value = Vec<(usize, Mutation)>> {
    let byte = || prop_oneof![any::<u8>(), proptest::sample::select(b"()\"\\:# \n\0-0x".to_vec())];
    let mutation = prop_oneof![
        byte().prop_map(Mutation::Replace),
        byte().prop_map(Mutation::Insert),
        Just(Mutation::Remove),
        Just(Mutation::Cut),
        Just(Mutation::Repeat),
    ];
    proptest::collection::vec((any::<usize>(), mutation), 1..8)
}

fn mutate(mut bytes: Vec<u8>, mutations: Vec<(usize, Mutation)>) -> Vec<u8> {
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

/// Whatever is read is written so that it reads back, and reading always goes forward.
fn check_any(input: &[u8]) {
    let _ = read(input);
    let mut end = 0;
    for read in Messages::new(input, NOW, &Limits::default()) {
        match read {
            Ok(located) => {
                assert!(end <= located.range.start && located.range.start < located.range.end);
                end = located.range.end;
                let output = written(&located.value);
                assert_eq!(reads(&output), located.value);
                assert_eq!(reads(&input[located.range]), located.value);
            }
            Err(error) => {
                assert!(error.offset <= input.len());
                assert!(error.to_string().len() < 2_000);
            }
        }
    }
}

proptest! {
    #[test]
    fn any_message_reads_back(message in message()) {
        let output = written(&message);
        super::grammar::assert_strict(&output);
        let again = read(&output).map_err(|error| TestCaseError::fail(format!("{error}: {}", String::from_utf8_lossy(&output))))?;
        prop_assert_eq!(&again, &message, "{}", String::from_utf8_lossy(&output));
        prop_assert_eq!(written(&again), output, "the same message gives the same bytes");
    }

    #[test]
    fn messages_in_a_row_read_back(messages in proptest::collection::vec(message(), 0..5), between in "[ \r\n\t]{0,3}") {
        let text: Vec<u8> = messages.iter().flat_map(|message| [written(message), between.clone().into()].concat()).collect();
        let again: Vec<Message> = Messages::new(&text, NOW, &Limits::default()).map(|read| read.unwrap().value).collect();
        prop_assert_eq!(again, messages);
    }

    #[test]
    fn native_messages_keep_what_the_string_form_has(
        agents in proptest::collection::vec(name(), 1..20),
        conversation in any::<u128>(),
        correlation in any::<NonZeroU64>(),
        content in content(),
    ) {
        let ids: Vec<AgentId> = agents.iter().map(AgentId::of).collect();
        let mut builder = Message::builder(Performative::Request)
            .sender(ids[0])
            .receivers(ids.iter().copied())
            .reply_with(Correlation::new(correlation))
            .content(content);
        if let Some(conversation) = ConversationId::from_u128(conversation) {
            builder = builder.conversation(conversation);
        }
        let message = builder.build().unwrap();
        let names = |agent| agents.iter().find(|name| AgentId::of(name) == agent).cloned();
        let mut output = Vec::new();
        print(&message, &names, &mut output);
        let again = reads(&output);
        prop_assert_eq!(again.sender(), message.sender());
        prop_assert_eq!(again.receiver(), message.receiver());
        prop_assert_eq!(again.conversation(), message.conversation());
        prop_assert_eq!(again.reply_with(), message.reply_with());
        prop_assert_eq!(again.content(), message.content());
        if let Receiver::Agents(agents) = again.receiver() {
            prop_assert!(agents.len() > 1);
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(input in proptest::collection::vec(any::<u8>(), 0..300)) {
        check_any(&input);
    }

    #[test]
    fn bytes_like_a_message_are_read_or_refused(input in "(\\(inform|\\)|\\(|:content|:X-a|:receiver|set|:sender|agent-identifier|:name|[a-z]{1,3}|\"|\\\\|#[0-9]{1,2}|[ \n]){0,30}") {
        check_any(input.as_bytes());
    }

    #[test]
    fn mutated_messages_are_read_or_refused(message in message(), mutations in mutations()) {
        check_any(&mutate(written(&message), mutations));
    }
}
