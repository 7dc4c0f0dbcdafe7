//! Two and more routers that reach each other's agents.

use std::time::Duration;

use caxton_router::AgentId;
use caxton_router::agent::AgentKind;
use caxton_router::cluster::{Cluster, ClusterError, ClusterView, Health};
use caxton_router::dead_letter::DeadLetterReason;
use caxton_router::error::{AskError, DeliveryError, FailureReason};
use tempfile::TempDir;

use super::broker::{Broker, Faults};
use super::fixture::{Node, Pair, assert_nothing_further, durable_inform, inform, receive_text, send, start_router};
use crate::common::{PATIENCE, bounded, shutdown, start};
use crate::edge::wait_until;

/// Asks an agent that no node has, and returns why the question was not delivered.
fn ask_nobody(node: &Node) -> DeliveryError {
    let Err(AskError::Undeliverable(error)) = node.try_ask("ghost", "boo") else { panic!("there is no such agent") };
    assert_eq!(error.reason(), FailureReason::DeadLetter(DeadLetterReason::UnknownReceiver));
    *error
}

fn deregister(node: &Node, agent: &str) {
    assert!(node.router.blocking().deregister(AgentId::of_text(agent)).expect("it runs"));
}

#[test]
fn an_agent_of_another_node_answers_like_one_of_this() {
    Pair::run(|Pair { one, two, .. }| {
        two.register("clerk");
        one.register("boss");
        assert_eq!(one.ask("clerk", "a letter"), "clerk got a letter");
        assert_eq!(two.ask("boss", "a question"), "boss got a question");
        assert_eq!(one.ask("clerk", "another"), "clerk got another");
    });
}

#[test]
fn what_is_sent_to_another_node_arrives_in_order_and_once_whatever_the_network_does() {
    const MESSAGES: usize = 2_000;
    Pair::run_with(&[("mailbox.overflow", "back-pressure")], |pair| {
        let (sender, receiver) = pair.inboxes("sender", "receiver");
        pair.broker.fail(7, Faults { subjects: String::new(), lost_per_mille: 100, doubled_per_mille: 100 });
        let sending = std::thread::spawn(move || {
            for number in 0..MESSAGES {
                send(&sender, inform("receiver", &number.to_string()));
            }
            sender
        });
        for number in 0..MESSAGES {
            assert_eq!(receive_text(&receiver), number.to_string());
        }
        drop(sending.join().expect("all is sent"));
        pair.broker.heal();
    });
}

#[test]
fn an_agent_that_no_node_has_is_reported_to_the_sender() {
    Pair::run(|Pair { one, two, .. }| {
        two.register("clerk");
        // The nodes know each other then.
        one.ask("clerk", "hello");
        let error = ask_nobody(one);
        assert!(error.explanation().contains("no node of the cluster has it"), "{error}");
    });
}

#[test]
fn an_agent_that_moved_is_found_where_it_is_now() {
    bounded(|| {
        let broker = Broker::start();
        let nodes = [1, 2, 3].map(|number| Node::start(number, &broker));
        let [one, two, three] = &nodes;
        two.register("clerk");
        assert_eq!(one.ask("clerk", "first"), "clerk got first");
        deregister(two, "clerk");
        three.register("clerk");
        assert_eq!(one.ask("clerk", "second"), "clerk got second");
        nodes.into_iter().for_each(Node::stop);
    });
}

#[test]
fn a_node_shows_the_others_and_says_goodbye() {
    bounded(|| {
        let Pair { broker: _broker, one, two } = Pair::start();
        two.register("clerk");
        one.ask("clerk", "hello");
        let is_complete = |view: &ClusterView| {
            let [other] = view.nodes.as_slice() else { return false };
            let sent = other.link.is_some_and(|link| link.messages_sent > 0 && link.messages_received > 0);
            sent && other.health == Health::Alive && other.load.is_some() && view.remote_agents > 0
        };
        let wait = |condition: &dyn Fn(&ClusterView) -> bool, time_limit| {
            one.cluster().wait_until(time_limit, condition).expect("this is no shard's thread")
        };
        let shown = wait(&is_complete, PATIENCE).expect("the other node is shown");
        assert!(shown.is_connected);
        assert_eq!((shown.name.as_str(), shown.node.into_inner(), shown.nodes[0].node.into_inner()), ("t", 1, 2));
        assert_eq!(shown.nodes[0].shards, 2);
        let is_dead = |view: &ClusterView| view.nodes[0].health == Health::Dead;
        assert_eq!(wait(&is_dead, Duration::from_millis(1)), None, "it is alive");
        two.stop();
        wait(&is_dead, PATIENCE).expect("it has left");
        one.stop();
    });
}

#[test]
fn an_agent_that_is_gone_has_no_proxy_any_more() {
    Pair::run(|Pair { one, two, .. }| {
        two.register("clerk");
        one.ask("clerk", "hello");
        let is_known = || {
            let view = one.router.blocking().agent(AgentId::of_text("clerk")).expect("it runs");
            view.is_some_and(|view| view.kind == Some(AgentKind::Proxy))
        };
        assert!(is_known());
        deregister(two, "clerk");
        wait_until("it is not known any more", || {
            one.try_ask("clerk", "are you there?").expect_err("it is gone");
            !is_known()
        });
    });
}

#[test]
fn a_durable_message_is_kept_until_the_other_node_has_it_and_handled_once() {
    bounded(|| {
        let broker = Broker::start();
        let data = [1, 2].map(|_| TempDir::new().expect("it is made"));
        let start = |number: u16| {
            let directory = data[usize::from(number) - 1].path().to_str().expect("it is text");
            Node::start_with(number, &broker, &[("store.directory", directory)])
        };
        let (one, two) = (start(1), start(2));
        let receiver = two.inbox("receiver");
        one.send(durable_inform("receiver", "first"));
        assert_eq!(receive_text(&receiver), "first");
        drop(receiver);
        two.stop();
        // No node has the receiver now.
        one.send(durable_inform("receiver", "second"));
        one.stop_within(Duration::from_millis(100));
        let (one, two) = (start(1), start(2));
        let receiver = two.inbox("receiver");
        assert_eq!(receive_text(&receiver), "second");
        assert_nothing_further(&receiver);
        one.stop();
        two.stop();
    });
}

#[test]
fn a_node_alone_reports_an_unknown_receiver_and_stops() {
    bounded(|| {
        let mut broker = Broker::start();
        let one = Node::start(1, &broker);
        ask_nobody(&one);
        broker.stop();
        one.register("clerk");
        assert_eq!(one.ask("clerk", "alone"), "clerk got alone");
        one.stop();
    });
}

#[test]
fn a_router_without_the_settings_joins_no_cluster() {
    bounded(|| {
        let router = start(1);
        let error = Cluster::join(&router).expect_err("no cluster is named");
        assert!(error.to_string().contains("cluster.nats"), "{error}");
        shutdown(&router);
    });
}

#[test]
fn a_router_joins_once() {
    bounded(|| {
        let broker = Broker::start();
        let one = Node::start(1, &broker);
        let error = Cluster::join(&one.router).expect_err("it has joined");
        assert!(matches!(error, ClusterError::AlreadyJoined), "{error}");
        let router = one.leave();
        assert!(Cluster::join(&router).is_err(), "links between the same two runs cannot begin again");
        shutdown(&router);
    });
}

#[test]
fn a_router_whose_settings_cannot_be_used_says_which_and_may_try_again() {
    bounded(|| {
        let directory = TempDir::new().expect("it is made");
        let key_file = directory.path().join("key");
        let write_secret = |bytes: &[u8]| std::fs::write(&key_file, bytes).expect("it is written");
        write_secret(&[7; 32]);
        let broker = Broker::start();
        let router = start_router(1, &broker, &[("cluster.key_file", key_file.to_str().expect("it is text"))]);
        write_secret(&[7; 8]);
        let error = Cluster::join(&router).expect_err("the secret is too short");
        assert!(matches!(error, ClusterError::Secret(_)) && error.to_string().contains("8 bytes"), "{error}");
        write_secret(&[7; 32]);
        Cluster::join(&router).expect("it joins now").leave();
        shutdown(&router);
    });
}
