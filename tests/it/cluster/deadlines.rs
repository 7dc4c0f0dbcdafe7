//! Deadlines and ends of conversations, and what a message carries from node to node.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use caxton_router::codec::text::{Limits, NoNames, parse, print};
use caxton_router::message::{ConversationId, Correlation, Performative, TraceContext, WallTime, is_notice};
use caxton_router::{Config, Inbox, Message};

use super::broker::Broker;
use super::nodes::{Node, meet};
use crate::common::{PATIENCE, bounded, text_of};

/// Time in which nothing further comes.
const NOTHING_FURTHER: Duration = Duration::from_millis(100);

fn set(config: &mut Config, settings: &[(&str, &str)]) {
    for (key, value) in settings {
        config.set(key, value, "the test").expect("it is legal");
    }
}

fn receive(inbox: &Inbox) -> Message {
    inbox.blocking().recv_within(PATIENCE).expect("it comes")
}

fn hears_nothing(inbox: &Inbox) -> bool {
    inbox.blocking().recv_within(NOTHING_FURTHER).is_err()
}

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
    bounded(|| {
        let broker = Broker::start();
        let hasty = |config: &mut Config| {
            set(config, &[("conversation.timeout_ms", "1000"), ("protocols.mode", "enforce")]);
        };
        let (one, two) = (Node::start_with(1, &broker, hasty), Node::start_with(2, &broker, hasty));
        meet(&[&one, &two]);
        let (boss, painter) = (one.inbox("boss"), two.inbox("painter"));
        boss.blocking().send(request("painter", "house")).expect("it is accepted");
        assert_eq!(text_of(&receive(&painter)), "paint");
        for side in [&boss, &painter] {
            let told = receive(side);
            assert!(is_notice(&told) && text_of(&told).contains("timed-out"), "{told:?}");
        }
        assert!(hears_nothing(&boss) && hears_nothing(&painter), "each is told by its own node");
        one.stop();
        two.stop();
    });
}

#[test]
fn an_asker_is_told_once_that_no_answer_came_from_another_node_in_time() {
    bounded(|| {
        let broker = Broker::start();
        let (one, two) = (Node::start(1, &broker), Node::start(2, &broker));
        meet(&[&one, &two]);
        let (asker, expert) = (one.inbox("asker"), two.inbox("expert"));
        let by = WallTime(wall_ms() + 500);
        let question = Message::builder(Performative::QueryRef).receiver("expert").content("tea?").reply_by(by);
        let question = question.reply_with(Correlation::of_text("tea?")).build().expect("it is valid");
        asker.blocking().send(question).expect("it is accepted");
        let question = receive(&expert);
        assert_eq!(question.reply_by(), Some(by));
        let told = receive(&asker);
        assert!(is_notice(&told) && text_of(&told).contains("(no-reply "), "{told:?}");
        assert_eq!(told.in_reply_to(), question.reply_with());
        let answer = question.reply(Performative::Inform).content("yes").build().expect("it is valid");
        expert.blocking().send(answer).expect("it is accepted");
        let answer = receive(&asker);
        assert!(answer.is_late() && text_of(&answer) == "yes", "{answer:?}");
        assert!(hears_nothing(&asker) && hears_nothing(&expert), "it is told once");
        one.stop();
        two.stop();
    });
}

#[test]
fn an_initiator_cancels_what_an_agent_of_another_node_does() {
    bounded(|| {
        let broker = Broker::start();
        let enforced = |config: &mut Config| set(config, &[("protocols.mode", "enforce")]);
        let (one, two) = (Node::start_with(1, &broker, enforced), Node::start_with(2, &broker, enforced));
        meet(&[&one, &two]);
        let (boss, painter) = (one.inbox("boss"), two.inbox("painter"));
        let house = ConversationId::of_text("house");
        boss.blocking().send(request("painter", "house")).expect("it is accepted");
        let asked = receive(&painter);
        painter
            .blocking()
            .send(asked.reply(Performative::Agree).build().expect("it is valid"))
            .expect("it is accepted");
        assert_eq!(receive(&boss).performative(), Performative::Agree);
        let cancel = Message::builder(Performative::Cancel).receiver("painter").protocol("fipa-request");
        let cancel = cancel
            .conversation(house)
            .reply_with(Correlation::of_text("stop"))
            .content("paint")
            .build()
            .expect("it is valid");
        boss.blocking().send(cancel).expect("it is accepted");
        let cancel = receive(&painter);
        assert_eq!(cancel.performative(), Performative::Cancel);
        let done = cancel.reply(Performative::Inform).content("cancelled").build().expect("it is valid");
        painter.blocking().send(done).expect("it is accepted");
        assert_eq!(text_of(&receive(&boss)), "cancelled");
        // The exchange is over.
        let more = asked.reply(Performative::Inform).content("painted").build().expect("it is valid");
        painter.blocking().send(more).expect("it is accepted");
        assert_eq!(receive(&painter).performative(), Performative::NotUnderstood);
        assert!(hears_nothing(&boss));
        one.stop();
        two.stop();
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
    bounded(|| {
        let broker = Broker::start();
        let (one, two) = (Node::start(1, &broker), Node::start(2, &broker));
        meet(&[&one, &two]);
        let (_asker, expert) = (one.inbox("asker"), two.inbox("expert"));
        let sent = parse(TEXT.as_bytes(), WallTime(0), &Limits::default()).expect("it is a message");
        one.router.blocking().send(sent.clone()).expect("it is accepted");
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
        one.stop();
        two.stop();
    });
}

#[test]
fn a_trace_goes_on_on_another_node() {
    bounded(|| {
        let broker = Broker::start();
        let (one, two) = (Node::start(1, &broker), Node::start(2, &broker));
        meet(&[&one, &two]);
        let (asker, expert) = (one.inbox("asker"), two.inbox("expert"));
        let trace = TraceContext { trace_id: [7; 16], span_id: [9; 8], flags: 1 };
        let question = Message::builder(Performative::QueryRef).receiver("expert").content("tea?").trace(trace);
        asker.blocking().send(question.build().expect("it is valid")).expect("it is accepted");
        let question = receive(&expert);
        assert_eq!(question.trace().map(|trace| trace.trace_id), Some([7; 16]));
        let answer = question.reply(Performative::Inform).content("yes").build().expect("it is valid");
        expert.blocking().send(answer).expect("it is accepted");
        assert_eq!(receive(&asker).trace().map(|trace| trace.trace_id), Some([7; 16]));
        one.stop();
        two.stop();
    });
}
