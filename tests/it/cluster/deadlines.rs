//! Deadlines and ends of conversations, and what a message carries from node to node.

use std::time::{SystemTime, UNIX_EPOCH};

use caxton_router::Message;
use caxton_router::codec::text::{Limits, NoNames, parse, print};
use caxton_router::message::{ConversationId, Correlation, Performative, TraceContext, WallTime, is_notice};

use super::fixture::{Pair, assert_nothing_further, receive, receive_text, reply, send};
use crate::common::text_of;

fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later");
    u64::try_from(since.as_millis()).expect("it is soon")
}

fn request(to: &str, conversation: &str) -> Message {
    let request = Message::builder(Performative::Request).receiver(to).protocol("fipa-request").content("paint");
    request.conversation(ConversationId::of_text(conversation)).build().expect("it is valid")
}

#[test]
fn both_sides_of_a_conversation_are_told_once_that_it_timed_out() {
    const HASTY: &[(&str, &str)] = &[("conversation.timeout_ms", "1000"), ("protocols.mode", "enforce")];
    Pair::run_with(HASTY, |pair| {
        pair.meet();
        let (boss, painter) = pair.inboxes("boss", "painter");
        send(&boss, request("painter", "house"));
        assert_eq!(receive_text(&painter), "paint");
        for side in [&boss, &painter] {
            let told = receive(side);
            assert!(is_notice(&told) && text_of(&told).contains("timed-out"), "{told:?}");
        }
        assert_nothing_further(&boss);
        assert_nothing_further(&painter);
    });
}

#[test]
fn an_asker_is_told_once_that_no_answer_came_from_another_node_in_time() {
    Pair::run(|pair| {
        pair.meet();
        let (asker, expert) = pair.inboxes("asker", "expert");
        let by = WallTime(wall_ms() + 500);
        let question = Message::builder(Performative::QueryRef).receiver("expert").content("tea?").reply_by(by);
        let question = question.reply_with(Correlation::of_text("tea?")).build().expect("it is valid");
        send(&asker, question);
        let question = receive(&expert);
        assert_eq!(question.reply_by(), Some(by));
        let told = receive(&asker);
        assert!(is_notice(&told) && text_of(&told).contains("(no-reply "), "{told:?}");
        assert_eq!(told.in_reply_to(), question.reply_with());
        reply(&expert, &question, Performative::Inform, "yes");
        let answer = receive(&asker);
        assert!(answer.is_late() && text_of(&answer) == "yes", "{answer:?}");
        assert_nothing_further(&asker);
        assert_nothing_further(&expert);
    });
}

#[test]
fn an_initiator_cancels_what_an_agent_of_another_node_does() {
    Pair::run_with(&[("protocols.mode", "enforce")], |pair| {
        pair.meet();
        let (boss, painter) = pair.inboxes("boss", "painter");
        let house = ConversationId::of_text("house");
        send(&boss, request("painter", "house"));
        let asked = receive(&painter);
        send(&painter, asked.reply(Performative::Agree).build().expect("it is valid"));
        assert_eq!(receive(&boss).performative(), Performative::Agree);
        let cancel = Message::builder(Performative::Cancel).receiver("painter").protocol("fipa-request");
        let cancel = cancel
            .conversation(house)
            .reply_with(Correlation::of_text("stop"))
            .content("paint")
            .build()
            .expect("it is valid");
        send(&boss, cancel);
        let cancel = receive(&painter);
        assert_eq!(cancel.performative(), Performative::Cancel);
        reply(&painter, &cancel, Performative::Inform, "cancelled");
        assert_eq!(receive_text(&boss), "cancelled");
        // The exchange is over.
        reply(&painter, &asked, Performative::Inform, "painted");
        assert_eq!(receive(&painter).performative(), Performative::NotUnderstood);
        assert_nothing_further(&boss);
    });
}

#[test]
fn what_a_text_says_arrives_on_another_node() {
    const TEXT: &str = r#"(query-ref
        :sender (agent-identifier :name asker :addresses (sequence http://asker.example/acc))
        :receiver (set (agent-identifier :name expert))
        :content "((iota ?x (kettle ?x)))" :language fipa-sl :encoding utf8 :ontology (kitchen :version 2)
        :reply-with q1 :reply-to (set (agent-identifier :name asker)) :conversation-id tea :protocol fipa-query
        :X-room "second floor")"#;
    Pair::run(|pair| {
        pair.meet();
        let (_asker, expert) = pair.inboxes("asker", "expert");
        let sent = parse(TEXT.as_bytes(), WallTime(0), &Limits::default()).expect("it is a message");
        pair.one.send(sent.clone());
        let arrived = receive(&expert);
        let text = |message: &Message| {
            let mut text = Vec::new();
            print(message, &NoNames, &mut text);
            String::from_utf8(text).expect("it is text")
        };
        let (arrived, sent) = (text(&arrived), text(&sent));
        // The routers have added its id and what is left of its lifetime.
        let (before, rest) = arrived.split_once(" :X-caxton-message-id ").expect("it has an id");
        let (_, after) = rest.split_once(" :X-room").expect("the rest is there");
        assert_eq!(format!("{before} :X-room{after}"), sent);
    });
}

#[test]
fn a_trace_goes_on_on_another_node() {
    Pair::run(|pair| {
        pair.meet();
        let (asker, expert) = pair.inboxes("asker", "expert");
        let trace = TraceContext { trace_id: [7; 16], span_id: [9; 8], flags: 1 };
        let question = Message::builder(Performative::QueryRef).receiver("expert").content("tea?").trace(trace);
        send(&asker, question.build().expect("it is valid"));
        let question = receive(&expert);
        assert_eq!(question.trace().map(|trace| trace.trace_id), Some([7; 16]));
        reply(&expert, &question, Performative::Inform, "yes");
        assert_eq!(receive(&asker).trace().map(|trace| trace.trace_id), Some([7; 16]));
    });
}
