//! Random messages, random bytes and messages with random damage.

use super::*;
use crate::generators::{message, mutate, mutations};

/// Checks that everything read can be written and read back, here and as text.
fn check_any(input: &[u8]) {
    let _ = read(input);
    let mut end = 0;
    for read in Messages::new(input, NOW, &Limits::default()) {
        match read {
            Ok((message, range)) => {
                assert_eq!(range.start, end);
                assert!(range.start < range.end);
                end = range.end;
                assert_eq!(reads(written(&message)), message);
                assert_eq!(reads(&input[range]), message);
                assert_eq!(from_text_bytes(&message), message);
            }
            Err(error) => {
                assert!(error.offset <= input.len());
                assert!(error.to_string().len() < 2_000);
            }
        }
    }
}

fn from_text_bytes(message: &Message) -> Message {
    let mut output = Vec::new();
    text::print(message, &NoNames, &mut output);
    text::parse(&output, NOW, &Limits::default()).unwrap()
}

/// Bytes that are codes more often than by chance.
fn codes() -> impl Strategy<Value = Vec<u8>> {
    let code = proptest::sample::select(bytes(
        "fa fb fc 10 08 01 02 03 04 05 06 07 08 09 0a 0b 0c 0d 00 10 11 12 13 14 15 16 17 18 19 20 24 25 ff 40 50 60 70 \
         72 7a 5a 'a' '#' '\"' '(' 01 01 00",
    ));
    proptest::collection::vec(code, 0..60).prop_map(|codes| [vec![0xfa, 0x10, 0x08], codes].concat())
}

proptest! {
    #[test]
    fn any_message_reads_back(message in message()) {
        let output = written(&message);
        let again = read(&output).map_err(|error| TestCaseError::fail(format!("{error}: {output:02x?}")))?;
        prop_assert_eq!(&again, &message, "{:02x?}", output);
        prop_assert_eq!(written(&again), output, "the same message gives the same bytes");
    }

    #[test]
    fn text_to_bits_to_text_is_the_same_text(message in message()) {
        let first = to_text(&from_text_bytes(&message));
        let again = to_text(&reads(written(&from_text_bytes(&message))));
        prop_assert_eq!(first, again);
    }

    #[test]
    fn messages_in_a_row_read_back(messages in proptest::collection::vec(message(), 0..5)) {
        let input: Vec<u8> = messages.iter().flat_map(written).collect();
        let again: Vec<Message> = Messages::new(&input, NOW, &Limits::default()).map(|read| read.unwrap().0).collect();
        prop_assert_eq!(again, messages);
    }

    #[test]
    fn any_bytes_are_read_or_refused(input in proptest::collection::vec(any::<u8>(), 0..300)) {
        check_any(&input);
        check_any(&[vec![0xfa, 0x10, 0x08], input].concat());
    }

    #[test]
    fn bytes_like_a_message_are_read_or_refused(input in codes()) {
        check_any(&input);
        check_any(&[input, vec![0x01]].concat());
    }

    #[test]
    fn mutated_messages_are_read_or_refused(message in message(), mutations in mutations(b"()\"\\:# \n\0-0x")) {
        check_any(&mutate(written(&message), mutations));
    }
}
