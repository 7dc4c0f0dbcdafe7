//! The JSON form of messages: what is written reads back, equals the string and the XML form, and errors and hostile
//! input are refused with their position.

use caxton_shards::codec::json::{Messages, from_json, limits, to_json};
use caxton_shards::codec::text::{self, Limits, NoNames, ParseError, ParseErrorKind};
use caxton_shards::codec::xml;
use caxton_shards::domain::ContentLimit;
use caxton_shards::message::{AID_DEPTH_MAX, Message, Performative, WallTime};
use proptest::prelude::*;

use crate::generators::{message, mutate, mutations};
use crate::linear::grows_with_its_input;

/// 2023-11-14T22:13:20Z
const NOW: WallTime = WallTime(1_700_000_000_000);

fn usual() -> Limits {
    limits(ContentLimit::default())
}

fn read(input: impl AsRef<[u8]>) -> Result<Message, ParseError> {
    from_json(input.as_ref(), NOW, &usual())
}

#[track_caller]
fn reads(input: impl AsRef<[u8]>) -> Message {
    read(&input).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(input.as_ref())))
}

fn written(message: &Message) -> Vec<u8> {
    let mut output = Vec::new();
    to_json(message, &NoNames, &mut output);
    output
}

fn of_text(input: &str) -> Message {
    text::parse(input.as_bytes(), NOW, &Limits::default()).unwrap()
}

#[track_caller]
fn same(json: &str, text: &str) {
    assert_eq!(reads(json), of_text(text), "{json}");
}

#[test]
fn every_parameter_is_a_member() {
    let message = of_text(
        "(request :sender (agent-identifier :name a@x :addresses (sequence http://x/acc) \
         :resolvers (sequence (agent-identifier :name r@x)) :X-home \"a b\") :receiver (set (agent-identifier :name b@x)) \
         :reply-to (set (agent-identifier :name c@x)) :content \"a\\\"b\" :language fipa-sl0 :encoding utf-8 \
         :ontology o :protocol fipa-request :conversation-id c-1 :reply-with w :in-reply-to i \
         :reply-by 20250131T235959999Z :X-caxton-priority high :X-caxton-attempts-max 3 :X-caxton-time-to-live-ms 9 :X-word w :X-list (a b) \
         :X-bytes #1\"\u{7f})",
    );
    assert_eq!(
        String::from_utf8(written(&message)).unwrap(),
        "{\"performative\":\"request\",\"sender\":{\"name\":\"a@x\",\"addresses\":[\"http://x/acc\"],\
         \"resolvers\":[\"r@x\"],\"user-defined\":[{\"name\":\"X-home\",\"string\":\"a b\"}]},\"receiver\":[\"b@x\"],\
         \"reply-to\":[\"c@x\"],\"content\":\"a\\\"b\",\"language\":\"fipa-sl0\",\"encoding\":\"utf-8\",\"ontology\":\"o\",\
         \"protocol\":\"fipa-request\",\"conversation-id\":\"c-1\",\"reply-with\":\"w\",\"in-reply-to\":\"i\",\
         \"reply-by\":\"20250131T235959999Z\",\"X-caxton-priority\":\"high\",\"X-caxton-attempts-max\":3,\"X-caxton-time-to-live-ms\":9,\
         \"user-defined\":[{\"name\":\"X-word\",\"word\":\"w\"},{\"name\":\"X-list\",\"list\":\"(a b)\"},\
         {\"name\":\"X-bytes\",\"base64\":\"fw==\"}]}"
    );
    assert_eq!(reads(written(&message)), message);
}

#[test]
fn order_and_white_space_do_not_matter() {
    same(
        " {\n\t\"content\" : {\"base64\": \"aGVsbG8\"},\r\n \"performative\" : \"INFORM\" } ",
        "(inform :content hello)",
    );
    same("\u{feff}{\"\\u0070erformative\":\"inform\",\"content\":\"\\ud83d\\ude00\"}", "(inform :content \"😀\")");
    same(
        "{\"performative\":\"inform\",\"receiver\":[],\"X-caxton-capability\":\"c\",\"X-caxton-choice\":\"all\"}",
        "(inform :X-caxton-capability c :X-caxton-choice all)",
    );
    same(
        "{\"performative\":\"inform\",\"reply-by\":\"+00000000T000001000\"}",
        "(inform :reply-by 20231114T221321000Z)",
    );
}

/// Inputs and their errors.
const REFUSED: &[(&str, &str)] = &[
    ("", "line 1, column 1: expected a message, which is a JSON object, found the end of the input"),
    ("[]", "line 1, column 1: expected a message, which is a JSON object, found \"[]\""),
    ("{}", "line 1, column 1: expected the member performative, which every message has, found an object without it"),
    ("{\n \"ä\" 1}", "line 2, column 6: not well-formed JSON: expected `:`"),
    ("{\"performative\":\"inform\"", "line 1, column 25: not well-formed JSON: EOF while parsing an object"),
    ("{\"performative\":\"inform\"} x", "line 1, column 27: not well-formed JSON: trailing characters"),
    (
        "{\"performative\":\"9\"}",
        "line 1, column 17: performative \"9\" is not allowed: expected one of the 22 acts of FIPA SC00037, or a word of 1 to 64 letters, digits, - _ .",
    ),
    ("{\"performative\":1}", "line 1, column 17: expected a performative such as \"inform\", found \"1\""),
    (
        "{\"performative\":\"inform\",\n\"performative\":\"cfp\"}",
        "line 2, column 1: the parameter :performative is given twice",
    ),
    (
        "{\"performative\":\"inform\",\n\"language\":\"a\",\"language\":\"a\"}",
        "line 2, column 16: the parameter :language is given twice",
    ),
    (
        "{\"performative\":\"inform\",\n \"langage\":\"a\"}",
        "line 2, column 2: unknown member of a message \"langage\"; did you mean language?; expected performative, sender, ",
    ),
    (
        "{\"performative\":\"inform\",\n \"Language\":\"a\"}",
        "line 2, column 2: unknown member of a message \"Language\"; did you mean language?; expected performative, sender, ",
    ),
    (
        "{\"performative\":\"inform\",\"sender\":{\"nam\":\"a\"}}",
        "line 1, column 36: unknown member of an agent \"nam\"; did you mean name?; expected name, addresses, resolvers, user-defined",
    ),
    (
        "{\"performative\":\"inform\",\"sender\":{}}",
        "line 1, column 35: expected an agent with the member name, found \"{}\"",
    ),
    (
        "{\"performative\":\"inform\",\"sender\":null}",
        "line 1, column 35: expected an agent: a name, or an object with a name, found \"null\"",
    ),
    (
        "{\"performative\":\"inform\",\"sender\":\" a\"}",
        "line 1, column 35: agent name \" a\" is not allowed: expected 1 to 512 bytes without control characters and without white space other than blanks, not beginning or ending with a blank",
    ),
    (
        "{\"performative\":\"inform\",\"receiver\":\"a\"}",
        "line 1, column 37: expected an array of agents, found \"\\\"a\\\"\"",
    ),
    (
        "{\"performative\":\"inform\",\"content\":7}",
        "line 1, column 36: expected content, which is a string or {\"base64\": string}, found \"7\"",
    ),
    (
        "{\"performative\":\"inform\",\"content\":{\"base64\":\"*\"}}",
        "line 1, column 46: \"*\" is not a valid value of :content: expected base64 (RFC 4648)",
    ),
    (
        "{\"performative\":\"inform\",\"content\":\"\\ud800\"}",
        "line 1, column 43: not well-formed JSON: unexpected end of hex escape",
    ),
    (
        "{\"performative\":\"inform\",\"reply-by\":\"soon\"}",
        "line 1, column 37: \"soon\" is not a valid value of :reply-by: expected a date such as 20250131T235959999Z",
    ),
    (
        "{\"performative\":\"inform\",\"X-caxton-attempts-max\":0}",
        "line 1, column 50: \"0\" is not a valid value of :X-caxton-attempts-max: expected 1 to 255",
    ),
    (
        "{\"performative\":\"inform\",\"X-caxton-attempts-max\":\"3\"}",
        "line 1, column 50: expected a number, found \"\\\"3\\\"\"",
    ),
    (
        "{\"performative\":\"inform\",\"X-caxton-priority\":\"top\"}",
        "line 1, column 46: \"top\" is not a valid value of :X-caxton-priority: expected low, normal, high or urgent",
    ),
    (
        "{\"performative\":\"inform\",\"user-defined\":[{\"name\":\"sender\",\"word\":\"b\"}]}",
        "line 1, column 50: \"sender\" cannot be the name of a user-defined parameter: expected a word that is not a parameter of FIPA SC00061",
    ),
    (
        "{\"performative\":\"inform\",\"user-defined\":[{\"name\":\"X-a\",\"word\":\"b\",\"list\":\"()\"}]}",
        "line 1, column 67: a parameter has one of word, string, list and base64",
    ),
    (
        "{\"performative\":\"inform\",\"user-defined\":[{\"name\":\"X-a\"}]}",
        "line 1, column 42: expected a user-defined parameter with one of word, string, list and base64, found ",
    ),
];

#[test]
fn what_is_wrong_is_refused_where_it_stands() {
    for (input, said) in REFUSED {
        let error = read(input).expect_err(input).to_string();
        let is_cut = said.ends_with(", ") || said.ends_with("found ");
        assert!(error == *said || (is_cut && error.starts_with(said)), "{input}\n{error}\n{said}");
    }
    let error = read(b"{\"performative\":\"inform\",\"content\":\"\xff\"}").unwrap_err();
    assert_eq!(error.to_string(), "line 1, column 37: the message is not UTF-8");
}

#[test]
fn depth_and_numbers_are_limited() {
    let nested = |levels: usize| {
        let open = "{\"name\":\"a\",\"resolvers\":[".repeat(levels);
        format!("{{\"performative\":\"inform\",\"sender\":{open}{}}}", "]}".repeat(levels))
    };
    assert!(read(nested(AID_DEPTH_MAX)).is_ok());
    assert!(matches!(read(nested(AID_DEPTH_MAX + 1)).unwrap_err().kind, ParseErrorKind::NestedTooDeep { .. }));
    let crowd =
        |count: usize| format!("{{\"performative\":\"inform\",\"receiver\":[{}]}}", vec!["\"a\""; count].join(","));
    assert!(read(crowd(10_000)).is_ok());
    assert!(matches!(read(crowd(10_001)).unwrap_err().kind, ParseErrorKind::TooMany { limit: 10_000, .. }));
    let few = Limits { aids_max: 2, ..usual() };
    assert!(matches!(
        from_json(crowd(3).as_bytes(), NOW, &few).unwrap_err().kind,
        ParseErrorKind::TooMany { limit: 2, .. }
    ));
    let own = |count: usize| {
        let one = "{\"name\":\"X-a\",\"word\":\"b\"}";
        format!("{{\"performative\":\"inform\",\"user-defined\":[{}]}}", vec![one; count].join(","))
    };
    assert!(read(own(64)).is_ok());
    assert!(matches!(read(own(65)).unwrap_err().kind, ParseErrorKind::TooMany { limit: 64, .. }));
}

#[test]
fn sizes_are_limited() {
    let small = limits(ContentLimit::try_new(4).unwrap());
    let content =
        |text: &str| from_json(format!("{{\"performative\":\"inform\",\"content\":{text}}}").as_bytes(), NOW, &small);
    for text in ["\"abcd\"", "\"\\u0061bcd\"", "{\"base64\":\"YWJjZA==\"}"] {
        assert!(content(text).is_ok(), "{text}");
    }
    for text in ["\"abcde\"", "\"\\u0061bcde\"", "{\"base64\":\"YWJjZGU=\"}"] {
        assert!(matches!(content(text).unwrap_err().kind, ParseErrorKind::TooLong { limit: 4, .. }), "{text}");
    }
    let long = "x".repeat(65_536);
    let language = |text: &str| read(format!("{{\"performative\":\"inform\",\"language\":\"{text}\"}}"));
    assert!(language(&long).is_ok());
    assert!(matches!(language(&format!("{long}x")).unwrap_err().kind, ParseErrorKind::TooLong { limit: 65_536, .. }));
    let short = Limits { message_bytes_max: 10, ..usual() };
    assert!(matches!(
        from_json(b"{\"performative", NOW, &short).unwrap_err().kind,
        ParseErrorKind::TooLong { limit: 10, .. }
    ));
}

#[test]
fn the_longest_content_of_any_bytes_reads_back() {
    let limit = ContentLimit::default();
    for byte in [b'"', b'\0', 0xff, b'a'] {
        let message = Message::builder(Performative::Inform).content(vec![byte; limit.as_usize()]).build().unwrap();
        assert_eq!(from_json(&written(&message), NOW, &limits(limit)).unwrap(), message);
    }
}

#[test]
fn hostile_input_costs_no_more_than_its_length() {
    let inputs = [
        ["", "[", ""],
        ["", "{\"content\":", ""],
        ["", "{\"sender\":{\"resolvers\":[", ""],
        ["", "{\"performative\":\"inform\n", ""],
        ["", "{\"performative\":[\n", ""],
        ["{\"performative\":\"inform\",\"content\":\"", "\\u0061", ""],
        ["{\"", "x", "\":1}"],
        ["", "{\n", ""],
    ];
    for shape in inputs {
        grows_with_its_input(shape.map(str::as_bytes), |input| {
            assert!(read(input).is_err());
            assert!(Messages::new(input, NOW, &usual()).all(|read| read.is_err()));
        });
    }
}

#[test]
fn several_messages_are_read_and_a_malformed_one_is_stepped_over() {
    let text = "{\"performative\":\"inform\"}\n{\"performative\":\"9\"}{\"performative\":\"cfp\"}\n\
                {\"performative\":\"cfp\n{\"performative\":\n\"agree\"}\n{\"performative\":\"ä\" \n";
    let found: Vec<String> = Messages::new(text.as_bytes(), NOW, &usual())
        .map(|read| match read {
            Ok(located) => {
                assert_eq!(reads(&text[located.range]), located.value);
                format!("{}:{} {}", located.line, located.column, located.value.performative())
            }
            Err(error) => format!("{}:{}", error.line, error.column),
        })
        .collect();
    assert_eq!(found, ["1:1 inform", "2:17", "2:21 cfp", "3:20", "4:1 agree", "7:1"]);
    let cut = [&b"{\"performative\":\"\xff\"}\n"[..], b"{\"performative\":\"inform\"}"].concat();
    let found: Vec<bool> = Messages::new(&cut, NOW, &usual()).map(|read| read.is_ok()).collect();
    assert_eq!(found, [false, true]);
}

/// Checks that everything read can be written and read back, and that reading always makes progress.
fn check_any(input: &[u8]) {
    let _ = read(input);
    let mut end = 0;
    for read in Messages::new(input, NOW, &usual()) {
        match read {
            Ok(located) => {
                assert!(end <= located.range.start && located.range.start < located.range.end);
                end = located.range.end;
                assert_eq!(reads(written(&located.value)), located.value);
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
        let again = read(&output).map_err(|error| TestCaseError::fail(format!("{error}: {}", String::from_utf8_lossy(&output))))?;
        prop_assert_eq!(&again, &message, "{}", String::from_utf8_lossy(&output));
        prop_assert_eq!(written(&again), output, "the same message gives the same bytes");
    }

    #[test]
    fn the_other_forms_say_the_same(message in message()) {
        let read_back = reads(written(&message));
        let mut string_form = Vec::new();
        text::print(&read_back, &NoNames, &mut string_form);
        prop_assert_eq!(written(&text::parse(&string_form, NOW, &Limits::default()).unwrap()), written(&message));
        let mut xml_form = Vec::new();
        xml::to_xml(&read_back, &NoNames, &mut xml_form);
        prop_assert_eq!(xml::from_xml(&xml_form, NOW, &usual()).unwrap(), message);
    }

    #[test]
    fn messages_in_a_row_read_back(messages in proptest::collection::vec(message(), 0..5), between in "[ \r\n\t]{0,3}") {
        let all: Vec<u8> = messages.iter().flat_map(|message| [written(message), between.clone().into()].concat()).collect();
        let again: Vec<Message> = Messages::new(&all, NOW, &usual()).map(|read| read.unwrap().value).collect();
        prop_assert_eq!(again, messages);
    }

    #[test]
    fn any_bytes_are_read_or_refused(input in proptest::collection::vec(any::<u8>(), 0..300)) {
        check_any(&input);
    }

    #[test]
    fn bytes_like_a_message_are_read_or_refused(input in "(\\{\"performative\":\"inform\"|\"sender\":|\"content\":|\"user-defined\":|\"name\":|\"word\":|\\{|\\}|\\[|\\]|,|:|\"|\\\\|\"[a-zX-]{0,3}\"|[0-9]|\\\\u00|[ \n]){0,30}") {
        check_any(input.as_bytes());
    }

    #[test]
    fn mutated_messages_are_read_or_refused(message in message(), mutations in mutations(b"{}[]\",:\\ \n\0-0xu")) {
        check_any(&mutate(written(&message), mutations));
    }
}
