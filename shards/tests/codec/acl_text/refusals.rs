//! Errors with line, column and reason.

use super::*;

/// Inputs and their errors.
const TABLE: &[(&str, &str)] = &[
    ("", "line 1, column 1: expected a message, which begins with (, found the end of the input"),
    ("\n\n  inform", "line 3, column 3: expected a message, which begins with (, found \"inform\""),
    ("()", "line 1, column 2: expected a performative such as inform, found \")\""),
    ("((inform))", "line 1, column 2: expected a performative such as inform, found \"(\""),
    ("(", "line 1, column 2: expected a performative such as inform, found the end of the input"),
    (
        "(9lives)",
        "line 1, column 2: performative \"9lives\" is not allowed: expected one of the 22 acts of FIPA SC00037, \
         or a word of 1 to 64 letters, digits, - _ .",
    ),
    ("(inform", "line 1, column 8: expected a parameter name such as :sender, or ), found the end of the input"),
    ("(inform) x", "line 1, column 10: expected the end of the input, found \"x\""),
    ("(inform)(inform)", "line 1, column 9: expected the end of the input, found \"(\""),
    (
        "(inform\n\n :content \"a\" ä\u{7} b)",
        "line 3, column 15: expected a parameter name such as :sender, or ), found \"ä\"",
    ),
    ("(inform \u{7})", "line 1, column 9: expected a parameter name such as :sender, or ), found \"\\u{7}\""),
    ("(inform :)", "line 1, column 10: expected a parameter name such as sender, found \")\""),
    (
        "(inform :language :ontology x)",
        "line 1, column 19: expected a word, a string or an expression, found \":ontology\"",
    ),
    ("(inform :language)", "line 1, column 18: expected a word, a string or an expression, found \")\""),
    ("(inform :content)", "line 1, column 17: expected content, which is a string, found \")\""),
    ("(inform\n :content \"abc)", "line 2, column 11: a string begins here and is not closed"),
    ("(inform :content \"abc\\\" x)", "line 1, column 18: a string begins here and is not closed"),
    ("(inform :X-a (b", "line 1, column 14: a parenthesis begins here and is not closed"),
    ("(inform :X-a (b \"c))", "line 1, column 17: a string begins here and is not closed"),
    ("(inform :X-a (\0))", "line 1, column 15: expected a word, a string or a parenthesis, found \"\\0\""),
    ("(inform :content #4\"abc", "line 1, column 18: the length says 4 bytes, but 3 bytes follow"),
    (
        "(inform :content #99999999999999999999999\"abc)",
        "line 1, column 18: the length says 18446744073709551615 bytes, but 4 bytes follow",
    ),
    (
        "(inform\n:priority high)",
        "line 2, column 1: unknown parameter \":priority\": names of user-defined parameters begin with X- (FIPA \
         SC00061)",
    ),
    (
        "(inform :X- a)",
        "line 1, column 9: unknown parameter \":X-\": names of user-defined parameters begin with X- (FIPA SC00061)",
    ),
    ("(inform :language a :Language b)", "line 1, column 21: the parameter :language is given twice"),
    (
        "(inform :X-caxton-priority low :x-caxton-priority low)",
        "line 1, column 32: the parameter :X-caxton-priority is given twice",
    ),
    (
        "(inform :sender (agent-identifier :name \"9 \"))",
        "line 1, column 41: agent name \"9 \" is not allowed: expected 1 to 512 bytes without control characters and \
         without white space other than blanks, not beginning or ending with a blank",
    ),
    (
        "(inform :sender (agent-identifier :addresses (sequence a)))",
        "line 1, column 58: expected the parameter :name, which every agent-identifier has, found \")\"",
    ),
    (
        "(inform :sender (agent-identifier :name a b))",
        "line 1, column 43: expected a parameter name such as :name, or ), found \"b\"",
    ),
    ("(inform :sender (agent-identifier :name a :name b))", "line 1, column 43: the parameter :name is given twice"),
    (
        "(inform :sender (agent-identifier :name a :addresses (set) :addresses (set)))",
        "line 1, column 60: the parameter :addresses is given twice",
    ),
    (
        "(inform :sender (agent-identifier :name a :resolvers (set) :resolvers (set)))",
        "line 1, column 60: the parameter :resolvers is given twice",
    ),
    (
        "(inform :sender (agent-identifier :name a :home b))",
        "line 1, column 43: unknown parameter \":home\": names of user-defined parameters begin with X- (FIPA SC00061)",
    ),
    (
        "(inform :sender (agent-identifier :name a :addresses (set (b))))",
        "line 1, column 59: expected an address, found \"(\"",
    ),
    ("(inform :sender (aid :name a))", "line 1, column 18: expected agent-identifier, found \"aid\""),
    ("(inform :sender (set a b))", "line 1, column 18: expected agent-identifier, found \"set\""),
    ("(inform :receiver (set (set a)))", "line 1, column 25: expected agent-identifier, found \"set\""),
    (
        "(inform :receiver (set a",
        "line 1, column 25: expected a word, a string or an expression, found the end of the input",
    ),
    (
        "(inform :X-caxton-priority highest)",
        "line 1, column 28: \"highest\" is not a valid value of :X-caxton-priority: expected low, normal, high or urgent",
    ),
    (
        "(inform :X-caxton-reliability solid)",
        "line 1, column 31: \"solid\" is not a valid value of :X-caxton-reliability: expected volatile, durable",
    ),
    (
        "(inform :X-caxton-receipt read)",
        "line 1, column 27: \"read\" is not a valid value of :X-caxton-receipt: expected none, delivered, processed",
    ),
    (
        "(inform :X-caxton-when-unavailable never)",
        "line 1, column 36: \"never\" is not a valid value of :X-caxton-when-unavailable: expected wait, fail-fast",
    ),
    (
        "(inform :X-caxton-attempts-max 0)",
        "line 1, column 32: \"0\" is not a valid value of :X-caxton-attempts-max: expected 1 to 255",
    ),
    (
        "(inform :X-caxton-time-to-live-ms 0)",
        "line 1, column 35: \"0\" is not a valid value of :X-caxton-time-to-live-ms: expected 1 to 300000 milliseconds",
    ),
    (
        "(inform :X-caxton-deliver-at soon)",
        "line 1, column 30: \"soon\" is not a valid value of :X-caxton-deliver-at: expected a date such as \
         20250131T235959999Z",
    ),
    (
        "(inform :X-caxton-message-id m1)",
        "line 1, column 30: \"m1\" is not a valid value of :X-caxton-message-id: expected m and 32 hexadecimal digits, the \
         last 16 not all zero",
    ),
    (
        "(inform :X-caxton-traceparent 00-1)",
        "line 1, column 31: \"00-1\" is not a valid value of :X-caxton-traceparent: expected a W3C trace context",
    ),
    (
        "(inform :X-caxton-capability \"a b\")",
        "line 1, column 30: capability name \"a b\" is not allowed: expected 1 to 100 characters without white \
         space, control characters, parentheses or double quotes",
    ),
    (
        "(inform :X-caxton-capability a :X-caxton-choice some)",
        "line 1, column 49: \"some\" is not a valid value of :X-caxton-choice: expected any, all, round-robin, least-loaded",
    ),
    ("(inform :X-caxton-choice any)", "line 1, column 26: X-caxton-choice needs an X-caxton-capability to choose from"),
    (
        "(inform :X-caxton-capability a :receiver b)",
        "line 1, column 30: a message has either a receiver or an X-caxton-capability",
    ),
];

#[test]
fn each_names_its_place_and_its_reason() {
    for (input, expected) in TABLE {
        let error = read(input).expect_err(input);
        assert_eq!(error.to_string(), *expected, "{input}");
    }
}

#[test]
fn offsets_count_bytes_and_columns_count_characters() {
    let error = read("\u{feff}(inform\n:language ä :ö x)").unwrap_err();
    assert_eq!((error.line, error.column, error.offset), (2, 13, 24));
    let error = read("\u{feff}inform").unwrap_err();
    assert_eq!((error.line, error.column, error.offset), (1, 1, 3));
}

#[test]
fn excerpts_are_short_and_harmless() {
    let error = read(format!("(inform \u{1b}[31m{})", "x".repeat(100_000))).unwrap_err();
    assert_eq!(
        error.to_string(),
        "line 1, column 9: expected a parameter name such as :sender, or ), found \"\\u{1b}\""
    );
    let error = read(format!("(inform {})", "ß".repeat(100_000))).unwrap_err();
    assert!(error.to_string().chars().count() < 80 + EXCERPT_CHARACTERS_MAX + 3, "{error}");
    let error = read(format!("(inform :{} x)", "\u{202e}".repeat(100_000))).unwrap_err();
    assert!(!error.to_string().contains('\u{202e}'), "{error}");
}

#[test]
fn bytes_that_are_no_text_are_refused_outside_content() {
    let place = |input: &[u8]| {
        let error = read(input).unwrap_err();
        assert!(matches!(error.kind, ParseErrorKind::NotUtf8 { .. }), "{error}");
        (error.to_string(), error.column)
    };
    assert_eq!(place(b"(inf\xffrm)"), ("line 1, column 2: the performative is not UTF-8".into(), 2));
    assert_eq!(place(b"(inform :language \xff)"), ("line 1, column 19: :language is not UTF-8".into(), 19));
    assert_eq!(place(b"(inform :X-a (\xff))"), ("line 1, column 14: :X-a is not UTF-8".into(), 14));
    assert!(read(b"(inform :X-\xff a)").is_err());
    assert!(read(b"(inform :sender (agent-identifier :name \xff))").is_err());
}

#[test]
fn a_message_that_breaks_off_anywhere_is_refused() {
    let whole = b"(request :sender (agent-identifier :name a) :content \"x\" :X-a (b \"c\") :X-b #2\"de)";
    reads(whole);
    for end in 0..whole.len() {
        let error = read(&whole[..end]).expect_err("it breaks off");
        assert!(error.offset <= end, "{error} at {} of {end}", error.offset);
    }
}
