//! What happens when there is no room: in a mailbox on another node, or for another agent of it.

use std::time::Duration;

use caxton_router::dead_letter::DeadLetterReason;
use caxton_router::error::{AskError, FailureReason};
use caxton_router::message::{Performative, is_notice};
use caxton_router::{Config, Inbox, Message};

use super::broker::Broker;
use super::nodes::{Node, meet};
use crate::common::{PATIENCE, bounded, text_of};

const MESSAGES: usize = 400;
/// More messages than a small mailbox takes, and fewer than the reports that wait for a sender.
const BURST: usize = 40;

fn set(config: &mut Config, settings: &[(&str, &str)]) {
    for (key, value) in settings {
        config.set(key, value, "the test").expect("it is legal");
    }
}

fn numbered(sender: &Inbox, receiver: &str, number: usize) -> Message {
    let message = Message::builder(Performative::Inform).sender(sender.id()).receiver(receiver);
    message.content(number.to_string()).build().expect("it is valid")
}

#[test]
fn a_full_mailbox_on_another_node_holds_up_its_senders_and_nobody_else() {
    bounded(|| {
        let broker = Broker::start();
        let small = |config: &mut Config| {
            let settings =
                [("mailbox.messages", "4"), ("mailbox.overflow", "back-pressure"), ("delivery.outbox", "16")];
            set(config, &settings);
        };
        let (one, two) = (Node::start_with(1, &broker, small), Node::start_with(2, &broker, small));
        meet(&[&one, &two]);
        let (slow, quick) = (two.inbox("slow"), two.inbox("quick"));
        let (eager, other) = (one.inbox("eager"), one.inbox("other"));
        let sending = std::thread::spawn({
            let router = one.router.clone();
            move || {
                for number in 0..MESSAGES {
                    router.blocking().send(numbered(&eager, "slow", number)).expect("it waits for room");
                }
                eager
            }
        });
        assert_eq!(text_of(&slow.blocking().recv_within(PATIENCE).expect("it comes")), "0");
        // Nobody takes what is for the slow one.
        for number in 0..MESSAGES {
            one.router.blocking().send(numbered(&other, "quick", number)).expect("there is room");
            assert_eq!(text_of(&quick.blocking().recv_within(PATIENCE).expect("it comes")), number.to_string());
        }
        for number in 1..MESSAGES {
            assert_eq!(text_of(&slow.blocking().recv_within(PATIENCE).expect("it comes")), number.to_string());
        }
        drop(sending.join().expect("all is sent"));
        one.stop();
        two.stop();
    });
}

#[test]
fn what_a_full_mailbox_on_another_node_refuses_is_reported_to_its_sender() {
    bounded(|| {
        let broker = Broker::start();
        let one = Node::start(1, &broker);
        let two = Node::start_with(2, &broker, |config| {
            set(config, &[("mailbox.messages", "4"), ("mailbox.overflow", "reject")]);
        });
        meet(&[&one, &two]);
        let (full, sender) = (two.inbox("full"), one.inbox("sender"));
        for number in 0..BURST {
            sender.blocking().send(numbered(&sender, "full", number)).expect("there is room");
        }
        let (mut received, mut told) = (0, 0);
        while received + told < BURST {
            if full.blocking().recv_within(Duration::ZERO).is_ok() {
                received += 1;
            } else if let Ok(notice) = sender.blocking().recv_within(Duration::from_millis(1)) {
                assert!(is_notice(&notice) && text_of(&notice).contains("mailbox-full"), "{notice:?}");
                told += 1;
            }
        }
        assert!(told > 0, "they did not fit");
        one.stop();
        two.stop();
    });
}

#[test]
fn more_agents_of_other_nodes_than_are_allowed_are_reported_with_the_limit() {
    bounded(|| {
        let broker = Broker::start();
        let one = Node::start_with(1, &broker, |config| set(config, &[("cluster.remote_agents_max", "2")]));
        let two = Node::start(2, &broker);
        let clerks = ["clerk-1", "clerk-2", "clerk-3"];
        let inboxes = clerks.map(|clerk| two.inbox(clerk));
        let sender = one.inbox("sender");
        for clerk in &clerks[..2] {
            sender.blocking().send(numbered(&sender, clerk, 0)).expect("it is accepted");
        }
        for inbox in &inboxes[..2] {
            inbox.blocking().recv_within(PATIENCE).expect("it comes");
        }
        let question = Message::builder(Performative::Request).receiver(clerks[2]).content("x").build();
        let answer = one.router.blocking().ask(question.expect("it is valid"), PATIENCE);
        let Err(AskError::Undeliverable(error)) = answer else { panic!("{answer:?}") };
        assert_eq!(error.reason(), FailureReason::DeadLetter(DeadLetterReason::UnknownReceiver));
        assert!(error.explanation().contains("cluster.remote_agents_max"), "{error}");
        one.stop();
        two.stop();
    });
}
