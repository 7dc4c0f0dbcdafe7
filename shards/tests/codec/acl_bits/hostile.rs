//! Errors are located, and sizes, counts and nesting are limited.

use caxton_shards::domain::ContentLimit;

use super::*;

const TABLE: &[(&str, &str)] = &[
    ("", "byte 0: expected a message, which begins with 0xfa, 0xfb or 0xfc, found the end of the input"),
    ("'(inform)'", "byte 0: expected a message, which begins with 0xfa, 0xfb or 0xfc, found 0x28"),
    ("fa", "byte 1: expected the version, found the end of the input"),
    ("fa11 08 01", "byte 1: expected version 0x10, found 0x11"),
    ("fa10 17 01", "byte 2: expected a performative, which is 0x01 to 0x16, or 0x00 and a word, found 0x17"),
    (
        "fa10 00 10'9 lives'00 01",
        "byte 3: performative \"9 lives\" is not allowed: expected one of the 22 acts of FIPA SC00037, or a word of 1 to 64 letters, digits, - _ .",
    ),
    ("fa10 08", "byte 3: expected a parameter, or 0x01 for the end of the message, found the end of the input"),
    ("fa10 08 0e 01", "byte 3: expected a parameter, which is 0x02 to 0x0d, or 0x00 and a word, found 0x0e"),
    ("fa10 08 01 01", "byte 4: expected the end of the input, found 0x01"),
    ("fa10 08 09 10'a'00 09 10'b'00 01", "byte 7: the parameter :language is given twice"),
    (
        "fa10 08 00 10'X-caxton-priority'00 10'low'00 00 10'x-caxton-priority'00 10'low'00 01",
        "byte 28: the parameter :X-caxton-priority is given twice",
    ),
    (
        "fa10 08 00 10'content'00 10'b'00 01",
        "byte 4: \"content\" cannot be the name of a user-defined parameter: expected a word that is not a parameter of FIPA SC00061",
    ),
    (
        "fa10 08 00 10'X-caxton-priority'00 10'first'00 01",
        "byte 23: \"first\" is not a valid value of :X-caxton-priority: expected low, normal, high or urgent",
    ),
    (
        "fa10 08 00 10'X-caxton-capability'00 10'a'00 03 02 10'b'00 01 01 01",
        "byte 25: a message has either a receiver or an X-caxton-capability",
    ),
    ("fa10 08 09 10'sl", "byte 5: a word begins here and is not closed"),
    ("fa10 08 09 14'\"sl", "byte 5: a string begins here and is not closed"),
    ("fa10 08 09 12 11", "byte 5: a number begins here and is not closed"),
    ("fa10 08 09 12 00 01", "byte 5: expected two characters of a number, found 0x00"),
    ("fa10 08 09 12 b1 10 01", "byte 5: expected two characters of a number, found 0xb1"),
    (
        "fa10 08 09 13 f110 01",
        "byte 5: expected a whole number of up to 128 bits, which is to be hexadecimal, found 0xf1",
    ),
    ("fa10 08 04 16 03'ab", "byte 4: the length says 3 bytes, but 2 bytes follow"),
    ("fa10 08 04 19 ffffffff", "byte 4: the length says 4294967295 bytes, but 0 bytes follow"),
    ("fa10 08 04 17 00", "byte 6: expected a length of two bytes, found the end of the input"),
    ("fa10 08 04 14'#9\"ab'00 01", "byte 5: the length says 9 bytes, but 4 bytes follow"),
    ("fa10 08 04 14'#1\"ab'00 01", "byte 9: expected 0x00, where the string's length says that it ends, found 0x62"),
    ("fa10 08 06 20 311a 23", "byte 8: expected a date of nine bytes, found the end of the input"),
    ("fa10 08 06 20 311a2312121212222b 01", "byte 13: expected two digits of a date, found 0x2b"),
    ("fa10 08 06 20 c11a23121212122220 01", "byte 5: expected two digits of a date, found 0xc1"),
    ("fa10 08 06 24 311a23121212122220 '1' 01", "byte 14: expected a type designator, which is a letter, found 0x31"),
    ("fa10 08 02 10'a'00 01", "byte 4: expected an agent identifier, which begins with 0x02, found 0x10"),
    ("fa10 08 02 02 10' a'00 01 01", "byte 5: agent name \" a\" is not allowed"),
    ("fa10 08 02 02 10'a'00 05 01", "byte 8: expected a part of an agent identifier, or 0x01 for its end, found 0x05"),
    (
        "fa10 08 02 02 10'a'00 03 01 02 01 01 01",
        "byte 10: expected a part of an agent identifier, or 0x01 for its end, found 0x02",
    ),
    (
        "fa10 08 03 02 10'a'00 01 10'b'00 01",
        "byte 9: expected an agent identifier, which begins with 0x02, or 0x01 for the end, found 0x10",
    ),
    ("fa10 08 04 40 01", "byte 4: expected a word, a string, a number, a date or an expression, found 0x40"),
    ("fa10 08 04 7a 01", "byte 4: expected a word, a string, a number, a date or an expression, found 0x7a"),
    (
        "fa10 08 04 ff 10'a'00 01",
        "byte 7: expected the end of a string with the source text of an expression, found 0x00",
    ),
    ("fa10 08 09 16 01 ff 01", "byte 4: :language is not UTF-8"),
];

#[test]
fn each_names_its_byte_and_its_reason() {
    for (notation, expected) in TABLE {
        let error = read(bytes(notation)).expect_err(notation);
        assert!(error.to_string().starts_with(expected), "{notation}: {error}");
    }
}

#[test]
fn a_message_that_breaks_off_anywhere_is_refused() {
    let text = "(request :sender (agent-identifier :name a :addresses (sequence b)) :receiver c :content \"x\" :X-a (b) \
                :X-b \"c\" :reply-by 20250131T235959999Z :reply-with 12)";
    let whole = written(&from_text(text));
    reads(&whole);
    for end in 0..whole.len() {
        let error = read(&whole[..end]).expect_err("it breaks off");
        assert!(error.offset <= end, "{error} at {} of {end}", error.offset);
    }
}

#[track_caller]
fn refused(input: &[u8], limits: &Limits, expected: &str) {
    let error = parse(input, NOW, limits).unwrap_err();
    assert_eq!(error.to_string(), expected);
}

#[test]
fn nesting_is_bounded() {
    let limits = Limits::default();
    let bomb = [bytes("fa10 08 04"), vec![0x60; 1_000_000]].concat();
    refused(&bomb, &limits, "byte 67: nested too deep: the limit is 64 levels of parentheses");
    let nested = |depth| [bytes("fa10 08 00 10'X-a'00"), vec![0x60; depth], vec![0x40; depth], vec![1]].concat();
    let deepest = reads(nested(63));
    assert_eq!(reads(written(&deepest)), deepest);
    assert_eq!(from_text(&to_text(&deepest)), deepest);
    assert!(read(nested(64)).is_err());

    let resolvers = |depth: usize| [bytes("fa10 08 02"), bytes("02 10'a'00 03").repeat(depth)].concat();
    refused(&resolvers(100_000), &limits, "byte 44: nested too deep: the limit is 8 levels of resolvers");
}

#[test]
fn counts_are_bounded() {
    let limits = Limits::default();
    let agents = [bytes("fa10 08 03"), bytes("02 10'a'00 01").repeat(10_001)].concat();
    refused(&agents, &limits, "byte 50004: too many agents: the limit is 10000");
    let few = Limits { aids_max: 3, ..limits };
    let agents = [bytes("fa10 08 03"), bytes("02 10'a'00 01").repeat(4)].concat();
    refused(&agents, &few, "byte 19: too many agent identifiers: the limit is 3");
    let addresses = [bytes("fa10 08 02 02 10'a'00 02"), bytes("10'b'00").repeat(65)].concat();
    refused(&addresses, &limits, "byte 201: too many addresses: the limit is 64");
    let parameters = [bytes("fa10 08"), bytes("00 10'X-a'00 10'b'00").repeat(65)].concat();
    refused(&parameters, &limits, "byte 579: too many user-defined parameters: the limit is 64");
}

#[test]
fn sizes_are_bounded() {
    let limits = Limits::default();
    let long = [bytes("fa10 08 09 19 00010001"), vec![b'x'; 65_537], vec![1]].concat();
    refused(&long, &limits, "byte 4: :language is too long: the limit is 65536 bytes");
    let small = Limits::with_content(ContentLimit::try_new(4).unwrap());
    refused(&bytes("fa10 08 04 16 05'12345' 01"), &small, "byte 4: the content is too long: the limit is 4 bytes");
    refused(&bytes("fa10 08 04 70'12345'00 40 01"), &small, "byte 4: the content is too long: the limit is 4 bytes");
    let short = Limits { message_bytes_max: 8, ..limits };
    for cut in ["fa10 08 04 16 09'123456789' 01", "fa10 08 09 10'abcdefg'00 01", "fa10 08 09 14'#9\"123456789'00 01"] {
        refused(&bytes(cut), &short, "byte 8: the message is too long: the limit is 8 bytes");
    }
    assert!(parse(&bytes("fa10 08 04 16 01'1' 01"), NOW, &short).is_ok());
}

#[test]
fn hostile_input_takes_time_in_proportion_to_its_length() {
    for part in
        ["10 00", "14'\"'00", "14'\"\\\"'00", "14'#1\"x'00", "14'#99999'", "12 11", "60 40", "70'a'00 40", "16 00"]
    {
        grows_with_its_input([&bytes("fa10 08 04 60"), &bytes(part), b""], |input| {
            let _ = read(input);
        });
    }
}
