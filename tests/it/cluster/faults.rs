//! What arrives while servers of NATS and nodes stop and start.

use std::collections::BTreeSet;
use std::thread::JoinHandle;
use std::time::Duration;

use caxton_router::message::{Performative, Reliability};
use caxton_router::{Config, Inbox, Message};
use tempfile::TempDir;

use super::broker::Broker;
use super::nodes::{Node, meet};
use crate::common::{PATIENCE, bounded, text_of};

const MESSAGES: usize = 600;
/// After how many of them something is stopped.
const PART: usize = MESSAGES / 4;

fn patient(config: &mut Config) {
    config.set("mailbox.overflow", "back-pressure", "the test").expect("it is legal");
}

fn numbered(sender: &Inbox, number: usize, reliability: Reliability) -> Message {
    let message = Message::builder(Performative::Inform).sender(sender.id()).receiver("receiver");
    message.content(number.to_string()).reliability(reliability).build().expect("it is valid")
}

fn number_of(message: &Message) -> usize {
    text_of(message).parse().expect("it is a number")
}

/// Sends all messages from a thread of its own, which returns the sender.
fn send_all(node: &Node, sender: Inbox, reliability: Reliability) -> JoinHandle<Inbox> {
    let router = node.router.clone();
    std::thread::spawn(move || {
        for number in 0..MESSAGES {
            router.blocking().send(numbered(&sender, number, reliability)).expect("it is accepted");
        }
        sender
    })
}

#[test]
fn messages_arrive_in_order_and_once_while_the_server_restarts() {
    bounded(|| {
        let mut broker = Broker::start();
        let (one, two) = (Node::start_with(1, &broker, patient), Node::start_with(2, &broker, patient));
        meet(&[&one, &two]);
        let (sender, receiver) = (one.inbox("sender"), two.inbox("receiver"));
        let sending = send_all(&one, sender, Reliability::Volatile);
        for expected in 0..MESSAGES {
            let message = receiver.blocking().recv_within(PATIENCE).expect("it comes");
            assert_eq!(number_of(&message), expected);
            if expected % PART == PART - 1 {
                broker.stop();
                broker.restart();
            }
        }
        drop(sending.join().expect("all is sent"));
        one.stop();
        two.stop();
    });
}

#[test]
fn durable_messages_arrive_while_their_receivers_node_restarts() {
    bounded(|| {
        let broker = Broker::start();
        let data = [TempDir::new().expect("it is made"), TempDir::new().expect("it is made")];
        let start = |number: u16| {
            let directory = data[usize::from(number) - 1].path().to_owned();
            Node::start_with(number, &broker, |config| {
                patient(config);
                config.store.directory = directory.into();
            })
        };
        let (one, mut two) = (start(1), start(2));
        meet(&[&one, &two]);
        let open = |node: &Node| node.router.inbox("receiver").acknowledged().blocking().open().expect("it is opened");
        let mut receiver = open(&two);
        let sending = send_all(&one, one.inbox("sender"), Reliability::Durable);
        let (mut arrived, mut stops) = (BTreeSet::new(), 0);
        while arrived.len() < MESSAGES {
            let message = receiver.blocking().recv_within(PATIENCE).expect("it comes");
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
