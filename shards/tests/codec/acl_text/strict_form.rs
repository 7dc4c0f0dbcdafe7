//! The written form is strict, and nothing passed by native code can break it.

use super::*;

#[test]
fn every_parameter_has_its_place() {
    let all = "(request :sender (agent-identifier :name a@x :addresses (sequence http://x/acc \"a b\") :resolvers \
               (sequence (agent-identifier :name r)) :X-home yes) \
               :receiver (set (agent-identifier :name b) (agent-identifier :name c)) \
               :reply-to (set (agent-identifier :name d)) \
               :content \"say \\\"hi\\\"\" :language sl0 :encoding \"utf 8\" :ontology \"99 problems\" :protocol fipa-request \
               :conversation-id \"a (b)\" :reply-with 99 :in-reply-to 20020314T091400500Z \
               :reply-by 20250131T235959999Z \
               :X-caxton-message-id m00000000000000010000000000000002 :X-caxton-priority high :X-caxton-reliability durable \
               :X-caxton-receipt processed :X-caxton-when-unavailable fail-fast :X-caxton-attempts-max 3 :X-caxton-time-to-live-ms 1000 :X-caxton-deliver-at 20240229T000000000Z \
               :X-caxton-traceparent \"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\" \
               :X-a word :X-b \"text\" :X-c #2\"\\\\ :X-d (a (b \"c)\")))";
    writes(all, all);
    let message = reads(all);
    assert_eq!(message.content().as_bytes(), b"say \"hi\"");
    assert_eq!(message.encoding(), Some("utf 8"));
    assert_eq!(message.priority(), Priority::High);
    assert_eq!(message.reliability(), Reliability::Durable);
    assert_eq!(message.receipt(), Receipt::Processed);
    assert_eq!(message.options().when_unavailable, WhenUnavailable::FailFast);
    assert_eq!(message.options().attempts_max, NonZeroU8::new(3));
    assert_eq!(message.options().time_to_live, LifetimeMs::try_new(1000).ok());
    assert_eq!(message.options().deliver_at, Some(WallTime(1_709_164_800_000)));
    assert_eq!(message.id(), MessageId::from_u128((1 << 64) + 2));
    assert_eq!(message.trace().unwrap().span_id[0], 0xb7);
    assert_eq!(message.sender(), Some(AgentId::of_text("a@x")));
}

#[test]
fn the_smallest_message() {
    writes("(inform)", "(inform)");
    writes(" ( INFORM ) \r\n", "(inform)");
    writes("(inform :receiver (set) :reply-to (set))", "(inform)");
}

#[test]
fn a_capability_is_an_address() {
    writes("(request :x-caxton-capability translate.text)", "(request :X-caxton-capability translate.text)");
    writes("(request :X-caxton-choice ANY :X-caxton-capability 3d)", "(request :X-caxton-capability \"3d\")");
    writes(
        "(request :X-caxton-choice round-robin :X-caxton-capability a)",
        "(request :X-caxton-capability a :X-caxton-choice round-robin)",
    );
    let capability = CapabilityName::try_new("translate.text").unwrap();
    for choice in [Choice::Any, Choice::All, Choice::RoundRobin, Choice::LeastLoaded] {
        let message = Message::builder(Performative::Request).capability(&capability, choice).build().unwrap();
        assert_eq!(reads(written(&message)), message);
    }
}

#[test]
fn a_backslash_escapes_a_quote_and_nothing_else() {
    for (content, form) in [
        (r#"""#, r#""\"""#),
        (r#"\""#, r#""\\"""#),
        (r#"\\""#, r#""\\\"""#),
        (r"\", r#"#1"\"#),
        (r"\\", r#"#2"\\"#),
        (r#""\"#, r#"#2""\"#),
        (r"a\b", r#""a\b""#),
        (r"a\ ", r#""a\ ""#),
        ("\u{1b}\n", "\"\u{1b}\n\""),
        ("a\0b", "#3\"a\0b"),
    ] {
        let message = Message::builder(Performative::Inform).content(content).build().unwrap();
        assert_eq!(String::from_utf8_lossy(&written(&message)), format!("(inform :content {form})"));
        assert_eq!(reads(written(&message)).content().as_bytes(), content.as_bytes());
    }
    assert_eq!(reads(r#"(inform :content "a\\b\n\"")"#).content().as_bytes(), br#"a\\b\n""#);
}

#[test]
fn bytes_that_are_no_text_travel_with_their_length() {
    let message = Message::builder(Performative::Inform).content(b"\xff\")(\x00").build().unwrap();
    assert_eq!(written(&message), b"(inform :content #5\"\xff\")(\0)");
    assert_eq!(reads(written(&message)), message);
    assert_eq!(reads(b"(inform :content \"\xff\")").content().as_bytes(), b"\xff");
}

#[test]
fn content_of_quotes_does_not_double() {
    let message = Message::builder(Performative::Inform).content("\"".repeat(10 << 20)).build().unwrap();
    let output = written(&message);
    assert!(output.len() < (10 << 20) + 100);
    assert_eq!(reads(output), message);
}

#[test]
fn native_agents_are_written_by_name_where_one_is_known() {
    let [known, unknown] = ["known@x", "unknown"].map(AgentId::of_text);
    let message = Message::builder(Performative::Inform).sender(known).receivers([unknown, known]).build().unwrap();
    let names = |agent| (agent == known).then(|| AgentName::try_new("known@x").unwrap());
    let mut output = Vec::new();
    print(&message, &names, &mut output);
    assert_eq!(
        String::from_utf8(output).unwrap(),
        format!(
            "(inform :sender (agent-identifier :name known@x) \
             :receiver (set (agent-identifier :name {unknown}) (agent-identifier :name known@x)))"
        )
    );
    assert!(unknown.to_string().starts_with('a') && unknown.to_string().len() == 33);
}

#[test]
fn generated_ids_are_written_as_they_are_and_need_no_details() {
    let message = Message::builder(Performative::Request)
        .conversation(ConversationId::from_u128(7).unwrap())
        .reply_with(Correlation::new(NonZeroU64::MIN))
        .in_reply_to(Correlation::new(NonZeroU64::MAX))
        .build()
        .unwrap();
    let output = written(&message);
    assert_eq!(
        String::from_utf8_lossy(&output),
        "(request :conversation-id c00000000000000000000000000000007 :reply-with r0000000000000001 \
         :in-reply-to rffffffffffffffff)"
    );
    let again = reads(&output);
    assert_eq!(again.conversation(), message.conversation());
    assert_eq!((again.reply_with(), again.in_reply_to()), (message.reply_with(), message.in_reply_to()));
    assert_eq!(again.details(), None);
}

#[test]
fn identifiers_follow_the_receivers_that_a_message_has_now() {
    let aid = |name: &str| {
        let mut aid = Aid::new(AgentName::try_new(name).unwrap());
        aid.addresses = vec!["http://x".into()];
        aid
    };
    let message = Message::builder(Performative::Inform)
        .receiver_aids(vec![aid("gone"), aid("kept"), aid("kept")])
        .receivers([AgentId::of_text("new"), AgentId::of_text("kept")])
        .sender_aid(aid("gone"))
        .sender(AgentId::of_text("new"))
        .build()
        .unwrap();
    let text = String::from_utf8(written(&message)).unwrap();
    assert!(!text.contains("gone"), "{text}");
    assert_eq!(text.matches(":name kept :addresses").count(), 2, "{text}");
    assert_eq!(text.matches(&AgentId::of_text("new").to_string()).count(), 2, "{text}");
}

#[test]
fn what_native_code_passes_can_not_break_out() {
    let evil = "x) (inform :content \"y\")";
    let message = Message::builder(Performative::Inform)
        .protocol(evil)
        .conversation_text(evil)
        .user_parameter("X-atom", ParameterValue::Atom(evil.into()))
        .user_parameter("X-list", ParameterValue::list(format!("() {evil}")))
        .user_parameter("X-text", ParameterValue::Text("x\\".into()))
        .build()
        .unwrap();
    let again = reads(written(&message));
    assert_eq!(again, message);
    assert_eq!(again.protocol(), Some(evil));
    assert_eq!(user_values(&again)[2].1, &ParameterValue::Binary((*b"x\\").into()));
    for name in ["X-", "X-a b", "X-a\"", "X-a(", "Y-a", "X-a\u{2003}b", "X-CAXTON-PRIORITY", "x-caxton-message-id", ""]
    {
        let value = ParameterValue::Atom("high".into());
        assert!(Message::builder(Performative::Inform).user_parameter(name, value).build().is_err(), "{name}");
    }
}

#[test]
fn a_date_beyond_the_calendar_is_its_last_moment() {
    let message = Message::builder(Performative::Cfp).reply_by(WallTime(u64::MAX)).build().unwrap();
    assert_eq!(written(&message), b"(cfp :reply-by 99991231T235959999Z)");
}
