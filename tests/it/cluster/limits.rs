//! What happens when there is no room: in a mailbox on another node, or for another agent of it.

use std::time::Duration;

use caxton_router::dead_letter::DeadLetterReason;
use caxton_router::error::{AskError, FailureReason};
use caxton_router::message::is_notice;

use super::broker::Broker;
use super::fixture::{Node, Pair, inform, meet, receive, receive_text, send};
use crate::common::{bounded, text_of};

const MESSAGES: usize = 400;
/// More messages than a small mailbox takes, and fewer than the reports that wait for a sender.
const BURST: usize = 40;

#[test]
fn a_full_mailbox_on_another_node_holds_up_its_senders_and_nobody_else() {
    const SMALL: &[(&str, &str)] =
        &[("mailbox.messages", "4"), ("mailbox.overflow", "back-pressure"), ("delivery.outbox", "16")];
    Pair::run_with(SMALL, |pair| {
        pair.meet();
        let (eager, slow) = pair.inboxes("eager", "slow");
        let (other, quick) = pair.inboxes("other", "quick");
        let sending = std::thread::spawn(move || {
            for number in 0..MESSAGES {
                send(&eager, inform("slow", &number.to_string()));
            }
            eager
        });
        assert_eq!(receive_text(&slow), "0");
        // Nobody takes what is for the slow one.
        for number in 0..MESSAGES {
            send(&other, inform("quick", &number.to_string()));
            assert_eq!(receive_text(&quick), number.to_string());
        }
        for number in 1..MESSAGES {
            assert_eq!(receive_text(&slow), number.to_string());
        }
        drop(sending.join().expect("all is sent"));
    });
}

#[test]
fn what_a_full_mailbox_on_another_node_refuses_is_reported_to_its_sender() {
    bounded(|| {
        let broker = Broker::start();
        let one = Node::start(1, &broker);
        let two = Node::start_with(2, &broker, &[("mailbox.messages", "4"), ("mailbox.overflow", "reject")]);
        meet(&[&one, &two]);
        let (full, sender) = (two.inbox("full"), one.inbox("sender"));
        for number in 0..BURST {
            send(&sender, inform("full", &number.to_string()));
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
        let one = Node::start_with(1, &broker, &[("cluster.remote_agents_max", "2")]);
        let two = Node::start(2, &broker);
        let clerks = ["clerk-1", "clerk-2", "clerk-3"];
        let inboxes = clerks.map(|clerk| two.inbox(clerk));
        let sender = one.inbox("sender");
        for clerk in &clerks[..2] {
            send(&sender, inform(clerk, "0"));
        }
        for inbox in &inboxes[..2] {
            receive(inbox);
        }
        let answer = one.try_ask(clerks[2], "x");
        let Err(AskError::Undeliverable(error)) = answer else { panic!("{answer:?}") };
        assert_eq!(error.reason(), FailureReason::DeadLetter(DeadLetterReason::UnknownReceiver));
        assert!(error.explanation().contains("cluster.remote_agents_max"), "{error}");
        one.stop();
        two.stop();
    });
}
