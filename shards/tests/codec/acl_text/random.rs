//! Random messages, random bytes and messages with random damage.

use super::*;
use crate::generators::{content, message, mutate, mutations, name};

/// Checks that everything read can be written and read back, and that reading always makes progress.
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
    fn mutated_messages_are_read_or_refused(message in message(), mutations in mutations(b"()\"\\:# \n\0-0x")) {
        check_any(&mutate(written(&message), mutations));
    }
}
