//! Code tables: both ends change theirs alike.

use super::*;
use crate::generators::{message, mutate, mutations};

/// Decodes these bytes as the first message of a decoder.
fn decode(decoder: &mut Decoder, notation: &str) -> Result<(Message, usize), BitsError> {
    decoder.parse(&bytes(notation), NOW, &Limits::default())
}

#[track_caller]
fn sent(encoder: &mut Encoder, decoder: &mut Decoder, message: &Message) -> Vec<u8> {
    let mut output = b"before".to_vec();
    encoder.print(message, &NoNames, &mut output);
    let output = output.split_off(6);
    let (read, length) = decoder
        .parse(&[&output[..], b"behind"].concat(), NOW, &Limits::default())
        .unwrap_or_else(|error| panic!("{error}: {output:02x?}"));
    assert_eq!(&read, message, "{output:02x?}");
    assert_eq!(length, output.len());
    output
}

#[test]
fn what_was_sent_once_is_named_by_its_place() {
    let (mut encoder, mut decoder) = (Encoder::new(CodeTableSize::SMALLEST), Decoder::new(CodeTableSize::SMALLEST));
    let message = from_text("(inform :sender a@x :language sl :content \"hi\" :X-p \"q r\")");
    // Codes in the order in which the message is written: a@x 0, "hi" 1, sl 2, X-p 3, "q r" 4.
    let first = sent(&mut encoder, &mut decoder, &message);
    let expected = "fb10 08 02 02 10'a@x'00 01 04 16 02'hi' 09 10'sl'00 00 10'X-p'00 14'\"q r\"'00 01";
    assert_eq!(first, bytes(expected));
    let second = sent(&mut encoder, &mut decoder, &message);
    assert_eq!(second, bytes("fc10 08 02 02 11 00 01 04 18 01 09 11 02 00 11 03 15 04 01"));
}

#[test]
fn larger_tables_have_indexes_of_two_bytes() {
    let size = CodeTableSize::of_bits(9).unwrap();
    let (mut encoder, mut decoder) = (Encoder::new(size), Decoder::new(size));
    let message = from_text("(inform :language sl)");
    sent(&mut encoder, &mut decoder, &message);
    assert_eq!(sent(&mut encoder, &mut decoder, &message), bytes("fc10 08 09 11 0000 01"));
}

#[test]
fn indexes_stand_wherever_words_and_strings_do() {
    let mut decoder = Decoder::new(CodeTableSize::SMALLEST);
    decode(&mut decoder, "fb10 08 09 10'sl'00 0a 14'\"u 8\"'00 0b 16 03'a b' 01").unwrap();
    let (message, _) = decode(&mut decoder, "fc10 08 04 60 71 00 15 01 59 02 75 01 55 01 79 02 51 00 40 01").unwrap();
    let expected = "((sl \"u 8\") #3\"a b (\"u 8\") \"u 8\" (#3\"a b) sl)";
    assert_eq!(message.content().as_text(), Some(expected));
}

#[test]
fn messages_without_update_leave_the_table_as_it_is() {
    let mut decoder = Decoder::new(CodeTableSize::SMALLEST);
    decode(&mut decoder, "fb10 08 09 10'sl'00 01").unwrap();
    decode(&mut decoder, "fc10 08 09 10'other'00 01").unwrap();
    decode(&mut decoder, "fa10 08 09 10'other'00 01").unwrap();
    decode(&mut decoder, "fb10 08 09 10'kif'00 01").unwrap();
    assert_eq!(
        decode(&mut decoder, "fc10 08 09 11 00 0a 11 01 01").unwrap().0,
        from_text("(inform :language sl :encoding kif)")
    );
}

#[test]
fn an_index_without_an_entry_puts_the_table_out_of_step() {
    let mut decoder = Decoder::new(CodeTableSize::SMALLEST);
    decode(&mut decoder, "fb10 08 09 10'sl'00 01").unwrap();
    let error = decode(&mut decoder, "fc10 08 09 11 01 01").unwrap_err();
    assert_eq!(error.to_string(), "byte 5: expected an index that the code table has, found 0x01");
    let error = decode(&mut decoder, "fc10 08 09 11 00 01").unwrap_err();
    assert!(error.to_string().contains("out of step"), "{error}");
    assert_eq!(decode(&mut decoder, "fa10 08 01").unwrap().1, 4, "a message without a table can be read");
    let error = read(bytes("fb10 08 09 11 00 01")).unwrap_err();
    assert_eq!(error.to_string(), "byte 4: expected no index: there is no code table here, found 0x11");
}

/// The codes of SC00069, section 2.3, worked out by hand: 0 to 255 for the first words; then 32 entries are evicted,
/// those with the codes 200 to 230 and 5, and the next word gets the smallest of these codes.
#[test]
fn a_new_word_has_the_smallest_free_code() {
    let mut decoder = Decoder::new(CodeTableSize::SMALLEST);
    let words = (0..256).map(|number| format!(" 10'w{number}'00")).collect::<Vec<_>>().concat();
    decode(&mut decoder, &format!("fb10 08 04 60{words} 40 01")).unwrap();
    let used = std::iter::once(5)
        .chain((0..256).filter(|code| *code != 5 && !(200..=230).contains(code)))
        .map(|code| format!(" 11 {code:02x}"))
        .collect::<Vec<_>>()
        .concat();
    decode(&mut decoder, &format!("fc10 08 04 60{used} 40 01")).unwrap();
    decode(&mut decoder, "fb10 08 09 10'fresh'00 01").unwrap();
    decode(&mut decoder, "fb10 08 09 10'fresher'00 01").unwrap();
    for (code, word) in [(5, "fresh"), (200, "fresher"), (4, "w4"), (231, "w231")] {
        let (message, _) = decode(&mut decoder, &format!("fc10 08 09 11 {code:02x} 01")).unwrap();
        assert_eq!(message.language(), Some(word), "{code}");
    }
    assert!(decode(&mut decoder, "fc10 08 09 11 c9 01").is_err(), "201 is free");
}

/// The same at the writing end.
#[test]
fn the_end_that_writes_gives_out_the_smallest_free_code_too() {
    let mut encoder = Encoder::new(CodeTableSize::SMALLEST);
    let mut printed = |text: &str| {
        let mut output = Vec::new();
        encoder.print(&from_text(text), &NoNames, &mut output);
        output
    };
    for number in 0..256 {
        printed(&format!("(inform :language w{number})"));
    }
    for code in std::iter::once(5).chain((0..256).filter(|code| *code != 5 && !(200..=230).contains(code))) {
        assert_eq!(printed(&format!("(inform :language w{code})")), bytes(&format!("fc10 08 09 11 {code:02x} 01")));
    }
    printed("(inform :language fresh)");
    assert_eq!(printed("(inform :language fresh)"), bytes("fc10 08 09 11 05 01"));
}

#[test]
fn content_that_is_long_or_new_does_not_push_out_names() {
    let (mut encoder, mut decoder) = (Encoder::new(CodeTableSize::SMALLEST), Decoder::new(CodeTableSize::SMALLEST));
    let message = |number: usize| {
        from_text(&format!(
            "(request :sender a@x :receiver b@x :content \"content {number}\" :conversation-id talk-{number} :protocol p)"
        ))
    };
    for number in 0..2_000 {
        let output = sent(&mut encoder, &mut decoder, &message(number));
        assert_eq!(output[0], if number == 0 { 0xfb } else { 0xfc });
        assert_eq!(output.windows(3).any(|bytes| bytes == b"a@x"), number == 0, "{number}");
    }
    let long = from_text(&format!("(request :sender new@x :content \"{}\")", "x".repeat(2_000)));
    assert_eq!(sent(&mut encoder, &mut decoder, &long)[0], 0xfc);
}

#[test]
fn a_table_holds_no_more_text_than_its_limit() {
    let mut decoder = Decoder::new(CodeTableSize::LARGEST);
    let long = [bytes("fb10 08 04 19 00100000"), vec![b'x'; 1 << 20], vec![1]].concat();
    for _ in 0..4 {
        decoder.parse(&long, NOW, &Limits::default()).unwrap();
    }
    let error = decoder.parse(&long, NOW, &Limits::default()).unwrap_err();
    assert!(error.to_string().contains("the text in the code table is too long"), "{error}");

    let (mut encoder, mut decoder) = (Encoder::new(CodeTableSize::LARGEST), Decoder::new(CodeTableSize::LARGEST));
    for number in 0..200 {
        let values = format!(":X-long-{number} \"{}\"", "y".repeat(60_000));
        sent(&mut encoder, &mut decoder, &from_text(&format!("(inform {values})")));
    }
}

#[test]
fn what_an_index_repeats_is_limited_like_all_else() {
    let mut decoder = Decoder::new(CodeTableSize::SMALLEST);
    let entry = [bytes("fb10 08 04 17 8000"), vec![b'x'; 0x8000], vec![1]].concat();
    decoder.parse(&entry, NOW, &Limits::default()).unwrap();
    let bomb = [bytes("fc10 08 00 10'X-a'00 60"), bytes("18 00").repeat(1_000), bytes("40 01")].concat();
    let error = decoder.parse(&bomb, NOW, &Limits::default()).unwrap_err();
    assert_eq!(error.to_string(), "byte 12: :X-a is too long: the limit is 65536 bytes");
}

proptest! {
    #[test]
    fn both_ends_of_a_connection_agree(messages in proptest::collection::vec(message(), 1..40), again in 1..3_usize) {
        let (mut encoder, mut decoder) = (Encoder::new(CodeTableSize::SMALLEST), Decoder::new(CodeTableSize::SMALLEST));
        for message in messages.iter().cycle().take(messages.len() * again) {
            sent(&mut encoder, &mut decoder, message);
        }
    }

    #[test]
    fn damaged_messages_never_break_a_decoder(
        messages in proptest::collection::vec((message(), mutations(b"()\"\\:# \n\0-0x")), 1..8),
    ) {
        let (mut encoder, mut decoder) = (Encoder::new(CodeTableSize::SMALLEST), Decoder::new(CodeTableSize::SMALLEST));
        for (message, mutations) in messages {
            let mut output = Vec::new();
            encoder.print(&message, &NoNames, &mut output);
            if let Ok((read, length)) = decoder.parse(&mutate(output, mutations), NOW, &Limits::default()) {
                prop_assert!(length > 0);
                prop_assert_eq!(reads(written(&read)), read);
            }
        }
    }
}
