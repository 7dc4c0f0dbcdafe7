//! Transport envelopes (SC00067) in bits (SC00088).

use super::*;
use crate::generators::{aid, mutate, mutations, parameters, text, value};

fn read_envelope(input: impl AsRef<[u8]>) -> Result<(TransportEnvelope, usize), BitsError> {
    parse_envelope(input.as_ref(), NOW, &Limits::default())
}

fn written_envelope(envelope: &TransportEnvelope) -> Vec<u8> {
    let mut output = Vec::new();
    print_envelope(envelope, &mut output).unwrap();
    output
}

fn named(name: &str) -> Aid {
    Aid::new(name.parse().unwrap())
}

/// 2009-12-01T01:01:01.111Z
const DATE: WallTime = WallTime(1_259_629_261_111);

fn plain() -> TransportEnvelope {
    TransportEnvelope::new(vec![named("b@y")], named("a@x"), DATE, AclRepresentation::BitEfficient)
}

/// Identifier, length, representation, date, to, from, end: composed by hand from the tables of SC00088.
const PLAIN: &str = "fe 001f 10 24 311a23121212122220'Z' 02 02'b@y'00 01 01 03 02'a@x'00 01 01";

#[test]
fn the_smallest_envelope_is_as_the_standard_has_it() {
    assert_eq!(written_envelope(&plain()), bytes(PLAIN));
    let with_payload = [bytes(PLAIN), b"payload".to_vec()].concat();
    assert_eq!(read_envelope(&with_payload), Ok((plain(), bytes(PLAIN).len())));
}

#[test]
fn every_parameter_has_its_code() {
    let mut envelope = plain();
    envelope.acl_representation = AclRepresentation::UserDefined("x.rep".into());
    envelope.comments = Some("two words".into());
    envelope.payload_length = Some(150);
    envelope.payload_encoding = Some("utf-8".into());
    envelope.intended_receivers = vec![named("c@z")];
    envelope.transport_behaviour = Some(ParameterValue::list("(fast)"));
    envelope.user_parameters = vec![UserParameter { name: "X-a".into(), value: ParameterValue::Atom("b".into()) }];
    envelope.from.addresses = vec!["http://x/acc".into()];
    envelope.from.resolvers = vec![named("r")];
    envelope.from.user_parameters = vec![UserParameter { name: "X-h".into(), value: ParameterValue::Text("y".into()) }];
    let body = "00'x.rep'00 24 311a23121212122220'Z' 02 02'b@y'00 01 01 \
                03 02'a@x'00 02'http://x/acc'00 01 03 02'r'00 01 01 04'X-h'00 14'\"y\"'00 01 \
                05'two words'00 06 12 2610 07'utf-8'00 09 02'c@z'00 01 01 0b 14'(fast)'00 00'X-a'00'b'00 01";
    let body = bytes(body);
    let length = u8::try_from(body.len() + 3).unwrap();
    let expected = [&[0xfe, 0, length][..], &body].concat();
    assert_eq!(written_envelope(&envelope), expected);
    assert_eq!(read_envelope(&expected), Ok((envelope, expected.len())));
}

#[test]
fn agents_may_stand_in_a_parameter_each_and_parameters_need_no_prefix() {
    let body = "10 24 311a23121212122220'Z' 02 02'b@y'00 01 01 02 02'c d@y'00 01 01 03 02'a@x'00 01 \
                09 02'b@y'00 01 01 09 02'e@y'00 01 01 00'tone'00'soft'00 01";
    let body = bytes(body);
    let length = u8::try_from(body.len() + 3).unwrap();
    let mut expected = plain();
    expected.to = vec![named("b@y"), named("c d@y")];
    expected.intended_receivers = vec![named("b@y"), named("e@y")];
    expected.user_parameters = vec![UserParameter { name: "tone".into(), value: ParameterValue::Atom("soft".into()) }];
    let input = [&[0xfe, 0, length][..], &body].concat();
    assert_eq!(read_envelope(&input).unwrap().0, expected);
    assert_eq!(read_envelope(written_envelope(&expected)).unwrap().0, expected);
}

fn stamp(by: &str, date: WallTime) -> ReceivedStamp {
    ReceivedStamp { by: by.into(), from: None, date, id: None, via: None, user_parameters: Vec::new() }
}

#[test]
fn each_channel_puts_its_stamp_in_front() {
    let mut envelope = plain();
    let mut first = stamp("http://y", DATE);
    first.from = Some("http://x".into());
    first.id = Some("7".into());
    first.via = Some("http".into());
    envelope.received = vec![first, stamp("http://z", DATE)];
    let date = "24 311a23121212122220'Z'";
    let expected = format!(
        "fd 0019 'http://z'00 {date} 01 01 fd 002c 'http://y'00 {date} 02'http://x'00 03'7'00 04'http'00 01 01 {PLAIN}"
    );
    assert_eq!(written_envelope(&envelope), bytes(&expected));
    assert_eq!(read_envelope(bytes(&expected)).unwrap().0, envelope);
}

#[test]
fn the_latest_value_of_a_parameter_counts() {
    let external = "fd 0025 'http://z'00 24 311a23121212122220'Z' 01 05'new'00 00'X-a'00'2'00 01";
    let base = "fe 002e 10 24 311a23121212122220'Z' 02 02'b@y'00 01 01 03 02'a@x'00 01 05'old'00 00'x-A'00'1'00 \
                07'e'00 01";
    let (envelope, _) = read_envelope(bytes(&format!("{external}{base}"))).unwrap();
    assert_eq!(envelope.comments.as_deref(), Some("new"));
    assert_eq!(envelope.payload_encoding.as_deref(), Some("e"));
    assert_eq!(
        envelope.user_parameters,
        [UserParameter { name: "X-a".into(), value: ParameterValue::Atom("2".into()) }]
    );
}

#[test]
fn other_spellings_mean_the_same() {
    for other in [
        // The length without its own bytes.
        "fe 001c 10 24 311a23121212122220'Z' 02 02'b@y'00 01 01 03 02'a@x'00 01 01",
        // A length of four bytes.
        "fe 0000 00000023 10 24 311a23121212122220'Z' 02 02'b@y'00 01 01 03 02'a@x'00 01 01",
        // Strings of SC00070 instead of plain text, the representation by name, a date without designator.
        "fe 0041 00'FIPA.acl.rep.bitefficient.std'00 20 311a23121212122220 02 02'\"b@y\"'00 01 01 03 02'#3\"a@x'00 01 01",
    ] {
        assert_eq!(read_envelope(bytes(other)).map(|read| read.0), Ok(plain()), "{other}");
    }
    // The length of the payload without the code of a number; the other code of an identifier's parameters.
    let other = "fe 0029 10 24 311a23121212122220'Z' 02 02'b@y'00 05'X-h'00'y'00 01 01 03 02'a@x'00 01 06 2610 01";
    let (envelope, _) = read_envelope(bytes(other)).unwrap();
    assert_eq!(envelope.payload_length, Some(150));
    assert_eq!(envelope.to[0].user_parameters[0].value, ParameterValue::Atom("y".into()));
}

#[test]
fn each_refusal_names_its_byte_and_its_reason() {
    for (notation, expected) in [
        ("fa10 08 01", "byte 0: expected an envelope, which begins with 0xfe or 0xfd, found 0xfa"),
        ("fe 0004 13", "byte 3: expected a representation, which is 0x10 to 0x12, or 0x00 and its name, found 0x13"),
        ("fe 0004 10 10", "byte 4: expected a date, which begins with 0x20 to 0x22 or 0x24 to 0x26, found 0x10"),
        ("fe 0010 10 24 3111 b1 11 111111 1110'Z' 01", "byte 7: expected two digits of a date, found 0xb1"),
        ("fe 0010 10 24 3111 2a 11 111111 1110'Z' 01", "byte 4: \"20001900T000000000Z\" is not a valid value of :date"),
        (
            "fe 0010 10 24 311a23121212122220'Z' 08",
            "byte 15: expected a parameter of an envelope, or 0x01 for its end, found 0x08",
        ),
        ("fe 0010 10 24 311a23121212122220'Z' 01", "byte 0: the envelope has no parameter to, which is mandatory"),
        (
            "fe 0017 10 24 311a23121212122220'Z' 02 02'b'00 01 01 01",
            "byte 1: the envelope does not have the length that it says",
        ),
        (
            "fe 0015 10 24 311a23121212122220'Z' 02 02'b'00 01 01 01",
            "byte 1: the envelope does not have the length that it says",
        ),
        (
            "fe 0016 10 24 311a23121212122220'Z' 02 02'b'00 01 01 01",
            "byte 0: the envelope has no parameter from, which is mandatory",
        ),
        ("fe 0099 10 24 311a23121212122220'Z' 05'a'00 05'b'00 01", "byte 18: the parameter :comments is given twice"),
        (
            "fe 0099 10 24 311a23121212122220'Z' 06 12 e210 01",
            "byte 16: \"-10\" is not a valid value of :payload-length",
        ),
        ("fe 0099 10 24 311a23121212122220'Z' 00'a b'00'b'00 01", "byte 16: \"a b\" cannot be the name"),
        (
            "fe 0099 10 24 311a23121212122220'Z' 03 01",
            "byte 16: expected an agent identifier, which begins with 0x02, found 0x01",
        ),
        ("fe 0099 10 24 311a23121212122220'Z' 02 02'b@y'00 02'c'00", "byte 24: a string begins here and is not closed"),
    ] {
        let error = read_envelope(bytes(notation)).expect_err(notation).to_string();
        assert!(error.starts_with(expected), "{notation}: {error}");
    }
}

#[test]
fn stamps_and_lengths_are_bounded() {
    let external = bytes("fd 0019 'http://z'00 24 311a23121212122220'Z' 01 01");
    let error = read_envelope(external.repeat(65)).unwrap_err();
    assert_eq!(error.to_string(), "byte 1603: too many stamps: the limit is 64");
    let mut envelope = plain();
    envelope.comments = Some("x".repeat(65_537).into());
    assert!(print_envelope(&envelope, &mut Vec::new()).is_err());
    // One that needs a length of four bytes.
    envelope.comments = Some("x".repeat(65_536).into());
    let output = written_envelope(&envelope);
    assert_eq!(output[..3], [0xfe, 0, 0]);
    assert_eq!(u32::from_be_bytes(*output[3..].first_chunk().unwrap()) as usize, output.len());
    assert_eq!(read_envelope(&output), Ok((envelope, output.len())));
}

fn user_parameters() -> impl Strategy<Value = Vec<UserParameter>> {
    parameters().prop_map(|parameters| {
        let mut kept = Vec::new();
        for (name, value) in parameters {
            kept.push(UserParameter { name: name.into(), value: readable(value) });
        }
        kept
    })
}

/// Returns the form in which a value reads back from an envelope: that of a message, except that an expression
/// containing a terminator is a string.
fn readable(value: ParameterValue) -> ParameterValue {
    let message = Message::builder(caxton_shards::message::Performative::Inform).user_parameter("X-a", value);
    let message = message.build().unwrap();
    match message.details().unwrap().user_parameters[0].value.clone() {
        ParameterValue::List(list) if list.as_str().contains('\0') => ParameterValue::text(list.as_str().into()),
        value => value,
    }
}

fn envelope() -> impl Strategy<Value = TransportEnvelope> {
    let moment = || (0..253_402_300_800_000_u64).prop_map(WallTime);
    let text = || text().prop_map(String::into_boxed_str);
    let stamp = (text(), proptest::option::of(text()), moment(), proptest::option::of(text()), user_parameters())
        .prop_map(|(by, from, date, id, user_parameters)| {
            let via = from.clone();
            ReceivedStamp { by, from, date, id, via, user_parameters }
        });
    let representation = prop_oneof![
        Just(AclRepresentation::BitEfficient),
        Just(AclRepresentation::String),
        Just(AclRepresentation::Xml),
        text().prop_map(|name| AclRepresentation::named(&name)),
    ];
    let agents = || proptest::collection::vec(aid(), 0..3);
    (
        (aid(), agents(), agents(), aid()),
        (moment(), representation),
        (proptest::option::of(text()), any::<Option<u64>>(), proptest::option::of(text())),
        proptest::collection::vec(stamp, 0..3),
        proptest::option::of(value().prop_map(readable)),
        user_parameters(),
    )
        .prop_map(|(agents, (date, representation), texts, received, transport_behaviour, user_parameters)| {
            let (first, mut to, intended_receivers, from) = agents;
            to.push(first);
            let (comments, payload_length, payload_encoding) = texts;
            TransportEnvelope {
                comments,
                payload_length,
                payload_encoding,
                intended_receivers,
                received,
                transport_behaviour,
                user_parameters,
                ..TransportEnvelope::new(to, from, date, representation)
            }
        })
}

proptest! {
    #[test]
    fn any_envelope_reads_back(envelope in envelope(), payload in proptest::collection::vec(any::<u8>(), 0..9)) {
        let mut output = written_envelope(&envelope);
        let length = output.len();
        output.extend_from_slice(&payload);
        let read = read_envelope(&output).map_err(|error| TestCaseError::fail(format!("{error}: {output:02x?}")))?;
        prop_assert_eq!(read, (envelope, length));
    }

    #[test]
    fn damaged_envelopes_are_read_or_refused(envelope in envelope(), mutations in mutations(b"()\"\\:# \n\0-0x")) {
        let input = mutate(written_envelope(&envelope), mutations);
        match read_envelope(&input) {
            Ok((read, length)) => {
                prop_assert!(length <= input.len());
                let again = read_envelope(written_envelope(&read)).unwrap().0;
                prop_assert_eq!(again, read);
            }
            Err(error) => prop_assert!(error.offset <= input.len()),
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(input in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = read_envelope(&input);
        let _ = read_envelope([bytes("fe 0000 00000026 10 24 311a23121212122220'Z'"), input].concat());
    }
}
