//! Messages and their bytes, composed by hand from the tables of SC00069, to detect errors shared by reader and writer.

use super::*;

/// String forms and the equivalent bytes, which are also what is written.
const BOTH_WAYS: &[(&str, &str)] = &[
    // Header, performative, end of message.
    ("(inform)", "fa10 08 01"),
    // The first and the last performative, and a user-defined one.
    ("(accept-proposal)", "fa10 01 01"),
    ("(subscribe)", "fa10 16 01"),
    ("(x-greet)", "fa10 00 10'x-greet'00 01"),
    // The worked example, with a type designator.
    ("(request-whenever :reply-by 20091201T010101111Z)", "fa10 15 06 24 311a23121212122220 'Z' 01"),
    // Identifiers: name, addresses, resolvers, user-defined parameters; collections and their ends.
    ("(inform :sender (agent-identifier :name a@x))", "fa10 08 02 02 10'a@x'00 01 01"),
    (
        "(inform :receiver (set (agent-identifier :name b) (agent-identifier :name c)))",
        "fa10 08 03 02 10'b'00 01 02 10'c'00 01 01 01",
    ),
    (
        "(inform :sender (agent-identifier :name a :addresses (sequence iiop://x http://y/acc) :resolvers \
         (sequence (agent-identifier :name r)) :X-home yes :X-age 7))",
        "fa10 08 02 02 10'a'00 02 10'iiop://x'00 10'http://y/acc'00 01 03 02 10'r'00 01 01 \
         04 10'X-home'00 10'yes'00 04 10'X-age'00 12 80 01 01",
    ),
    ("(inform :reply-to (set (agent-identifier :name d)))", "fa10 08 08 02 10'd'00 01 01 01"),
    // Content of each length class is tested below; here the shortest.
    ("(inform :content \"hi \\\"there\\\"\")", "fa10 08 04 16 0a 'hi \"there\"' 01"),
    // Each textual parameter, in the order in which they are written.
    (
        "(query-ref :language sl :encoding utf8 :ontology trade :protocol fipa-query :conversation-id c1 \
         :reply-with q1 :in-reply-to q0)",
        "fa10 10 09 10'sl'00 0a 10'utf8'00 0b 10'trade'00 0c 10'fipa-query'00 0d 10'c1'00 05 10'q1'00 07 10'q0'00 01",
    ),
    // Numbers: half-bytes of one more than the digit; C is +, D is E, E is -, F is a point; odd and even counts.
    ("(inform :reply-with 150)", "fa10 08 05 12 2610 01"),
    ("(inform :reply-with 1999)", "fa10 08 05 12 2aaa00 01"),
    ("(inform :reply-with -1.5E+07)", "fa10 08 05 12 e2f6dc1800 01"),
    // Text that is not a word, and a number that half-bytes cannot hold.
    ("(inform :ontology \"two words\")", "fa10 08 0b 16 09 'two words' 01"),
    ("(inform :reply-with 1e5)", "fa10 08 05 16 03 '1e5' 01"),
    // Values of user-defined parameters: word, number, string, bytes, expression, date.
    ("(inform :X-a word)", "fa10 08 00 10'X-a'00 10'word'00 01"),
    // The standard requires no prefix of user-defined parameters here, and the string form wraps them.
    ("(inform :X-caxton-user-defined (tone soft))", "fa10 08 00 10'tone'00 10'soft'00 01"),
    ("(inform :X-caxton-user-defined (12 #1\"\u{7f}))", "fa10 08 00 16 02'12' 16 01 7f 01"),
    // Empty values are values.
    ("(inform :content \"\" :language \"\")", "fa10 08 04 16 00 09 16 00 01"),
    // A name that is not a word.
    ("(inform :sender (agent-identifier :name \"Night Porter@p\"))", "fa10 08 02 02 16 0e'Night Porter@p' 01 01"),
    ("(inform :X-a .5)", "fa10 08 00 10'X-a'00 10'.5'00 01"),
    ("(inform :X-a 42)", "fa10 08 00 10'X-a'00 12 5300 01"),
    ("(inform :X-a \"say \\\"hi\\\"\")", "fa10 08 00 10'X-a'00 14'\"say \\\"hi\\\"\"'00 01"),
    ("(inform :X-a #2\"xy)", "fa10 08 00 10'X-a'00 16 02'xy' 01"),
    ("(inform :X-a (b  (c)))", "fa10 08 00 10'X-a'00 ff 16 08'(b  (c))' 01"),
    ("(inform :X-a 20091201T010101111Z)", "fa10 08 00 10'X-a'00 ff 16 13'20091201T010101111Z' 01"),
    // The router's own parameters are user-defined ones.
    (
        "(request :X-caxton-capability translate.text :X-caxton-choice all :X-caxton-priority high :X-caxton-attempts-max 3)",
        "fa10 13 00 10'X-caxton-capability'00 10'translate.text'00 00 10'X-caxton-choice'00 10'all'00 00 10'X-caxton-priority'00 10'high'00 \
         00 10'X-caxton-attempts-max'00 12 40 01",
    ),
];

#[test]
fn bytes_put_together_by_hand_are_read_and_written() {
    for (text, notation) in BOTH_WAYS {
        let (message, bits) = (from_text(text), bytes(notation));
        assert_eq!(format!("{:02x?}", written(&message)), format!("{bits:02x?}"), "{text}");
        assert_eq!(reads(&bits), message, "{text}");
    }
}

/// Bytes that others may send, and the string form of their meaning.
const READ_ONLY: &[(&str, &str)] = &[
    // The worked example to the letter.
    ("fa10 15 06 20 311a23121212122220 01", "(request-whenever :reply-by 20091201T010101111)"),
    // Relative dates, later and earlier, with and without a type designator.
    ("fa10 04 06 21 111111111112111110 01", "(cfp :reply-by +00000000T000100000)"),
    ("fa10 04 06 25 111111111112111110 'Z' 01", "(cfp :reply-by +00000000T000100000Z)"),
    ("fa10 04 06 22 111111121111111110 01", "(cfp :reply-by -00000001T000000000)"),
    ("fa10 04 06 26 111111121111111110 'a' 01", "(cfp :reply-by -00000001T000000000a)"),
    // Invalid dates, and deadlines that are not dates.
    ("fa10 04 06 20 3111 2a 11 111111 1110 01", "(cfp :reply-by 20001900T000000000)"),
    ("fa10 04 06 10'tomorrow'00 01", "(cfp :reply-by tomorrow)"),
    ("fa10 04 06 14'\"20091201T010101111Z\"'00 01", "(cfp :reply-by 20091201T010101111Z)"),
    ("fa10 04 06 ff 16 13'20091201T010101111Z' 01", "(cfp :reply-by 20091201T010101111Z)"),
    // Content as a word, a number, a string with and without quotes, with its length in text and in binary.
    ("fa10 08 04 10'hi'00 01", "(inform :content \"hi\")"),
    ("fa10 08 04 12 2610 01", "(inform :content \"150\")"),
    ("fa10 08 04 14'\"a \\\"b\\\"\"'00 01", "(inform :content \"a \\\"b\\\"\")"),
    ("fa10 08 04 14'a \"b\" c'00 01", "(inform :content \"a \\\"b\\\" c\")"),
    ("fa10 08 04 14'#3\"a'00'b'00 01", "(inform :content #3\"a\0b)"),
    ("fa10 08 04 17 0002'hi' 01", "(inform :content \"hi\")"),
    ("fa10 08 04 19 00000002'hi' 01", "(inform :content \"hi\")"),
    ("fa10 08 04 16 00 01", "(inform :content \"\")"),
    // Hexadecimal numbers, whose digits are those of the decimal number.
    ("fa10 08 05 13 3660 01", "(inform :reply-with \"0xFF\")"),
    ("fa10 08 00 10'X-a'00 13 3660 01", "(inform :X-a \"0xFF\")"),
    // Expressions in tokens: plain and fused parentheses, each kind of token.
    ("fa10 08 04 60 40 01", "(inform :content \"()\")"),
    ("fa10 08 04 60 10'a'00 10'b'00 40 01", "(inform :content \"(a b)\")"),
    ("fa10 08 04 70'a'00 70'b'00 50'c'00 40 01", "(inform :content \"(a (b) c)\")"),
    ("fa10 08 04 60 60 40 60 40 40 01", "(inform :content \"(() ())\")"),
    (
        "fa10 08 00 10'X-a'00 70'a'00 12 2610 14'\"s t\"'00 16 02'xy' 20 311a23121212122220 13 3660 40 01",
        "(inform :X-a (a 150 \"s t\" #2\"xy 20091201T010101111 \"0xFF\"))",
    ),
    ("fa10 08 04 72 20 52 30 40 01", "refused: byte 6: expected 0x40: the expression that began ends here, found 0x52"),
    ("fa10 08 04 60 72 20 52 30 73 20 53 30 40 01", "(inform :content \"((1) 2 (\\\"0x1\\\") \\\"0x2\\\")\")"),
    ("fa10 08 04 60 74'\"a\"'00 54'\"b\"'00 40 01", "(inform :content \"((\\\"a\\\") \\\"b\\\")\")"),
    ("fa10 08 04 60 76 01'a' 56 01'b' 40 01", "(inform :content \"((#1\\\"a) #1\\\"b)\")"),
    ("fa10 08 04 60 77 0001'a' 57 0001'b' 40 01", "(inform :content \"((#1\\\"a) #1\\\"b)\")"),
    ("fa10 08 04 60 78 00000001'a' 58 00000001'b' 40 01", "(inform :content \"((#1\\\"a) #1\\\"b)\")"),
    // An invalid word and a string without literal are preserved inside an expression.
    ("fa10 08 04 70'a b'00 14'c\\'00 40 01", "(inform :content \"(\\\"a b\\\" #2\\\"c\\)\")"),
    // Source text of expressions, words and strings.
    ("fa10 08 00 10'X-a'00 ff 14'\"(a b)\"'00 01", "(inform :X-a (a b))"),
    ("fa10 08 00 10'X-a'00 ff 16 01'b' 01", "(inform :X-a b)"),
    ("fa10 08 00 10'X-a'00 ff 16 05'\"b c\"' 01", "(inform :X-a \"b c\")"),
    ("fa10 08 00 10'X-a'00 ff 16 03'b c' 01", "(inform :X-a \"b c\")"),
    // The end of a string is known, so its last quote closes it even after a backslash.
    ("fa10 08 04 14'\"C:\\logs\\\"'00 01", "(inform :content #8\"C:\\logs\\)"),
    ("fa10 08 04 14'\"say \\\"C:\\\"'00 01", "(inform :content #8\"say \"C:\\)"),
    ("fa10 08 00 10'X-a'00 ff 14'\"C:\\\"'00 01", "(inform :X-a C:\\)"),
    // Text instead of words, in identifiers and names.
    (
        "fa10 08 02 02 14'\"a\"'00 02 14'\"x y\"'00 01 01 01",
        "(inform :sender (agent-identifier :name a :addresses (sequence \"x y\")))",
    ),
    ("fa10 00 14'\"INFORM\"'00 01", "(inform)"),
    // An empty set of receivers is no parameter, and a message with a table but without an index needs no connection.
    ("fb10 08 03 01 08 01 01", "(inform)"),
    ("fc10 08 09 10'sl'00 01", "(inform :language sl)"),
];

#[test]
fn other_forms_of_the_standard_mean_the_same() {
    for (notation, text) in READ_ONLY {
        match (read(bytes(notation)), text.strip_prefix("refused: ")) {
            (Ok(message), None) => {
                assert_eq!(message, from_text(text), "{notation}");
                assert_eq!(reads(written(&message)), message, "{notation}");
            }
            (Err(error), Some(reason)) => assert_eq!(error.to_string(), reason, "{notation}"),
            (read, _) => panic!("{notation}: {read:?}"),
        }
    }
}

#[test]
fn content_of_each_class_of_lengths() {
    for (length, header) in [
        (1, "16 01"),
        (255, "16 ff"),
        (256, "17 0100"),
        (65_535, "17 ffff"),
        (65_536, "19 00010000"),
        (1 << 20, "19 00100000"),
    ] {
        let content: Vec<u8> = (0..length).map(|place| u8::try_from(place % 256).unwrap()).collect();
        let message =
            Message::builder(caxton_shards::message::Performative::Inform).content(content.clone()).build().unwrap();
        let expected = [bytes("fa10 08 04"), bytes(header), content, vec![1]].concat();
        assert!(written(&message) == expected, "{length}");
        assert_eq!(reads(expected), message);
    }
}

#[test]
fn all_performatives_have_the_codes_of_their_places() {
    for (code, act) in (1..=22_u8).zip(caxton_shards::message::Performative::STANDARD) {
        assert_eq!(reads([0xfa, 0x10, code, 0x01]).performative(), act);
        assert_eq!(written(&Message::builder(act).build().unwrap()), [0xfa, 0x10, code, 0x01]);
    }
}
