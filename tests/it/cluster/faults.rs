//! What arrives while servers of NATS and nodes stop and start.

use std::collections::BTreeSet;
use std::thread::JoinHandle;
use std::time::Duration;

use caxton_router::message::Reliability;
use caxton_router::{Inbox, Message};
use tempfile::TempDir;

use super::broker::Broker;
use super::fixture::{Node, Pair, inform, meet, receive, send};
use crate::common::{bounded, text_of};

const MESSAGES: usize = 600;
/// After how many of them something is stopped.
const PART: usize = MESSAGES / 4;

/// Senders wait while a mailbox is full.
const PATIENT: (&str, &str) = ("mailbox.overflow", "back-pressure");

fn numbered(number: usize, reliability: Reliability) -> Message {
    let message = inform("receiver", &number.to_string()).into_builder();
    message.reliability(reliability).build().expect("it is valid")
}

fn number_of(message: &Message) -> usize {
    text_of(message).parse().expect("it is a number")
}

/// Sends all messages from a thread of its own, which returns the sender.
fn send_all(sender: Inbox, reliability: Reliability) -> JoinHandle<Inbox> {
    std::thread::spawn(move || {
        for number in 0..MESSAGES {
            send(&sender, numbered(number, reliability));
        }
        sender
    })
}

#[test]
fn messages_arrive_in_order_and_once_while_the_server_restarts() {
    bounded(|| {
        let mut pair = Pair::start_with(&[PATIENT]);
        pair.meet();
        let (sender, receiver) = pair.inboxes("sender", "receiver");
        let sending = send_all(sender, Reliability::Volatile);
        for expected in 0..MESSAGES {
            let message = receive(&receiver);
            assert_eq!(number_of(&message), expected);
            if expected % PART == PART - 1 {
                pair.broker.stop();
                pair.broker.restart();
            }
        }
        drop(sending.join().expect("all is sent"));
        pair.stop();
    });
}

#[test]
fn durable_messages_arrive_while_their_receivers_node_restarts() {
    bounded(|| {
        let broker = Broker::start();
        let data = [1, 2].map(|_| TempDir::new().expect("it is made"));
        let start = |number: u16| {
            let directory = data[usize::from(number) - 1].path().to_str().expect("it is text");
            Node::start_with(number, &broker, &[PATIENT, ("store.directory", directory)])
        };
        let (one, mut two) = (start(1), start(2));
        meet(&[&one, &two]);
        let open = |node: &Node| node.router.inbox("receiver").acknowledged().blocking().open().expect("it is opened");
        let mut receiver = open(&two);
        let sending = send_all(one.inbox("sender"), Reliability::Durable);
        let (mut arrived, mut stops) = (BTreeSet::new(), 0);
        while arrived.len() < MESSAGES {
            let message = receive(&receiver);
            receiver.acknowledge(&message);
            // One that comes again was not known to be settled when the node stopped.
            arrived.insert(number_of(&message));
            if arrived.len() / PART > stops && arrived.len() < MESSAGES {
                stops += 1;
                two.stop_within(Duration::from_millis(50));
                two = start(2);
                receiver = open(&two);
            }
        }
        drop(sending.join().expect("all is sent"));
        drop(receiver);
        one.stop();
        two.stop();
    });
}
