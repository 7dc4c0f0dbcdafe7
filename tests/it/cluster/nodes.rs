//! Two and more routers that reach each other's agents.

use std::time::Duration;

use caxton_router::agent::AgentKind;
use caxton_router::cluster::{Cluster, ClusterError, ClusterView, Health};
use caxton_router::dead_letter::DeadLetterReason;
use caxton_router::error::{AskError, FailureReason};
use caxton_router::message::{DeliveryOptions, Performative, Reliability};
use caxton_router::{AgentId, Config, Inbox, Message, Outcome, Router};
use tempfile::TempDir;

use super::broker::{Broker, Faults};
use crate::common::{PATIENCE, bounded, on, shutdown, start_with, text_of};
use crate::edge::wait_until;

/// A router in the cluster.
pub struct Node {
    pub router: Router,
    cluster: Option<Cluster>,
}

impl Node {
    pub fn start(number: u16, broker: &Broker) -> Self {
        Self::start_with(number, broker, |_| {})
    }

    pub fn start_with(number: u16, broker: &Broker, change: impl FnOnce(&mut Config)) -> Self {
        let router = start_with(2, |config| {
            let number = number.to_string();
            for (key, value) in
                [("cluster.nats", broker.url().as_str()), ("cluster.name", "t"), ("router.node", &number)]
            {
                config.set(key, value, "the test").expect("it is legal");
            }
            change(config);
        });
        let cluster = Some(Cluster::join(&router).expect("it joins"));
        Self { router, cluster }
    }

    pub fn cluster(&self) -> &Cluster {
        self.cluster.as_ref().expect("it is in the cluster")
    }

    pub fn view(&self) -> ClusterView {
        self.cluster().view()
    }

    pub fn inbox(&self, name: &str) -> Inbox {
        self.router.inbox(name).blocking().open().expect("it is opened")
    }

    /// Registers an agent that says "NAME got CONTENT" to whoever sends it something.
    pub fn register(&self, name: &'static str) {
        let reply = move || {
            on(move |message, context| {
                let content = format!("{name} got {}", text_of(message));
                let reply = context.reply(message, Performative::Inform).content(content).build().expect("it is valid");
                context.send(reply).expect("there is room");
                Outcome::Done
            })
        };
        self.router.blocking().register(name, reply).expect("it is registered");
    }

    pub fn ask(&self, agent: &str, content: &str) -> Result<String, AskError> {
        let question = Message::builder(Performative::Request).receiver(agent).content(content);
        self.router.blocking().ask(question.build().expect("it is valid"), PATIENCE).map(|reply| text_of(&reply))
    }

    pub fn stop(self) {
        self.stop_within(PATIENCE);
    }

    /// Stops within this time: what is not handled by then is left behind.
    pub fn stop_within(mut self, deadline: Duration) {
        let report = self.router.shutdown(deadline).expect("it stops");
        assert!(report.balances(), "{report:?}");
        self.cluster.take().expect("it is in the cluster").leave();
    }
}

/// Waits until each node can reach the others.
pub(super) fn meet(nodes: &[&Node]) {
    for (number, node) in nodes.iter().enumerate() {
        let name = format!("greeter-{number}");
        let greeter = node.router.inbox(name.as_str()).blocking().open().expect("it is opened");
        for (other, _) in nodes.iter().enumerate().filter(|(other, _)| *other != number) {
            let hello = || to(&name, "hello");
            wait_until("the message has come", || {
                nodes[other].router.blocking().send(hello()).expect("it is accepted");
                greeter.blocking().recv_within(Duration::from_secs(1)).is_ok()
            });
            // Those before it may come yet.
            while greeter.blocking().recv_within(Duration::ZERO).is_ok() {}
        }
    }
}

fn to(receiver: &str, content: &str) -> Message {
    let builder = Message::builder(Performative::Inform).receiver(receiver).content(content);
    builder.build().expect("it is valid")
}

fn durable(message: Message) -> Message {
    let options = DeliveryOptions { reliability: Reliability::Durable, ..message.options() };
    message.into_builder().options(options).build().expect("it is valid")
}

#[test]
fn an_agent_of_another_node_answers_like_one_of_this() {
    bounded(|| {
        let broker = Broker::start();
        let (one, two) = (Node::start(1, &broker), Node::start(2, &broker));
        two.register("clerk");
        one.register("boss");
        assert_eq!(one.ask("clerk", "a letter").expect("it answers"), "clerk got a letter");
        assert_eq!(two.ask("boss", "a question").expect("it answers"), "boss got a question");
        assert_eq!(one.ask("clerk", "another").expect("it answers"), "clerk got another");
        one.stop();
        two.stop();
    });
}

#[test]
fn what_is_sent_to_another_node_arrives_in_order_and_once_whatever_the_network_does() {
    const MESSAGES: usize = 2_000;
    bounded(|| {
        let broker = Broker::start();
        let start = |number| {
            Node::start_with(number, &broker, |config| {
                config.set("mailbox.overflow", "back-pressure", "the test").expect("it is legal");
            })
        };
        let (one, two) = (start(1), start(2));
        let (sender, receiver) = (one.inbox("sender"), two.inbox("receiver"));
        broker.fail(7, Faults { subjects: String::new(), lost_per_mille: 100, doubled_per_mille: 100 });
        let sending = std::thread::spawn({
            let router = one.router.clone();
            move || {
                for number in 0..MESSAGES {
                    let message = to("receiver", &number.to_string()).into_builder().sender(sender.id());
                    let message = message.build().expect("it is valid");
                    router.blocking().send(message).expect("it is accepted");
                }
                sender
            }
        });
        for number in 0..MESSAGES {
            let message = receiver.blocking().recv_within(PATIENCE).expect("it comes");
            assert_eq!(text_of(&message), number.to_string());
        }
        drop(sending.join().expect("all is sent"));
        broker.heal();
        one.stop();
        two.stop();
    });
}

#[test]
fn an_agent_that_no_node_has_is_reported_to_the_sender() {
    bounded(|| {
        let broker = Broker::start();
        let (one, two) = (Node::start(1, &broker), Node::start(2, &broker));
        two.register("clerk");
        one.ask("clerk", "hello").expect("the nodes know each other");
        let Err(AskError::Undeliverable(error)) = one.ask("ghost", "boo") else { panic!("there is no such agent") };
        assert_eq!(error.reason(), FailureReason::DeadLetter(DeadLetterReason::UnknownReceiver));
        assert!(error.explanation().contains("no node of the cluster has it"), "{error}");
        one.stop();
        two.stop();
    });
}

#[test]
fn an_agent_that_moved_is_found_where_it_is_now() {
    bounded(|| {
        let broker = Broker::start();
        let nodes = [Node::start(1, &broker), Node::start(2, &broker), Node::start(3, &broker)];
        let [one, two, three] = &nodes;
        two.register("clerk");
        assert_eq!(one.ask("clerk", "first").expect("it answers"), "clerk got first");
        let clerk = Message::builder(Performative::Inform).receiver("clerk").build().expect("it is valid");
        let clerk = clerk.target().expect("it has one");
        assert!(two.router.blocking().deregister(clerk).expect("it runs"));
        three.register("clerk");
        assert_eq!(one.ask("clerk", "second").expect("it answers"), "clerk got second");
        nodes.into_iter().for_each(Node::stop);
    });
}

#[test]
fn a_node_shows_the_others_and_says_goodbye() {
    bounded(|| {
        let broker = Broker::start();
        let (one, two) = (Node::start(1, &broker), Node::start(2, &broker));
        two.register("clerk");
        one.ask("clerk", "hello").expect("it answers");
        wait_until("the other node is shown", || {
            let view = one.view();
            let [other] = view.nodes.as_slice() else { return false };
            let sent = other.link.is_some_and(|link| link.messages_sent > 0 && link.messages_received > 0);
            sent && other.health == Health::Alive && other.load.is_some() && view.remote_agents > 0
        });
        let shown = one.view();
        assert!(shown.is_connected);
        assert_eq!((shown.name.as_str(), shown.node.into_inner(), shown.nodes[0].node.into_inner()), ("t", 1, 2));
        assert_eq!(shown.nodes[0].shards, 2);
        two.stop();
        wait_until("the other node is dead", || one.view().nodes[0].health == Health::Dead);
        one.stop();
    });
}

#[test]
fn an_agent_that_is_gone_has_no_proxy_any_more() {
    bounded(|| {
        let broker = Broker::start();
        let (one, two) = (Node::start(1, &broker), Node::start(2, &broker));
        two.register("clerk");
        one.ask("clerk", "hello").expect("it answers");
        let clerk = AgentId::of_text("clerk");
        let is_known = || {
            let view = one.router.blocking().agent(clerk).expect("it runs");
            view.is_some_and(|view| view.kind == Some(AgentKind::Proxy))
        };
        assert!(is_known());
        assert!(two.router.blocking().deregister(clerk).expect("it runs"));
        wait_until("it is not known any more", || {
            one.ask("clerk", "are you there?").expect_err("it is gone");
            !is_known()
        });
        one.stop();
        two.stop();
    });
}

#[test]
fn a_durable_message_is_kept_until_the_other_node_has_it_and_handled_once() {
    bounded(|| {
        let broker = Broker::start();
        let data = [TempDir::new().expect("it is made"), TempDir::new().expect("it is made")];
        let start = |number: u16| {
            let directory = data[usize::from(number) - 1].path().to_owned();
            Node::start_with(number, &broker, |config| config.store.directory = directory.into())
        };
        let (one, two) = (start(1), start(2));
        let receiver = two.inbox("receiver");
        one.router.blocking().send(durable(to("receiver", "first"))).expect("it is kept");
        assert_eq!(text_of(&receiver.blocking().recv_within(PATIENCE).expect("it comes")), "first");
        drop(receiver);
        two.stop();
        // Nobody is there who could take it.
        one.router.blocking().send(durable(to("receiver", "second"))).expect("it is kept");
        one.stop_within(Duration::from_millis(100));
        let (one, two) = (start(1), start(2));
        let receiver = two.inbox("receiver");
        assert_eq!(text_of(&receiver.blocking().recv_within(PATIENCE).expect("it comes")), "second");
        assert!(receiver.blocking().recv_within(Duration::from_millis(50)).is_err(), "it comes once");
        one.stop();
        two.stop();
    });
}

#[test]
fn a_node_alone_reports_an_unknown_receiver_and_stops() {
    bounded(|| {
        let mut broker = Broker::start();
        let one = Node::start(1, &broker);
        let Err(AskError::Undeliverable(error)) = one.ask("ghost", "boo") else { panic!("there is no such agent") };
        assert_eq!(error.reason(), FailureReason::DeadLetter(DeadLetterReason::UnknownReceiver));
        broker.stop();
        one.register("clerk");
        assert_eq!(one.ask("clerk", "alone").expect("it answers"), "clerk got alone");
        one.stop();
    });
}

#[test]
fn a_router_without_the_settings_joins_no_cluster() {
    bounded(|| {
        let router = start_with(1, |_| {});
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
        let Node { router, cluster } = one;
        cluster.expect("it is in the cluster").leave();
        assert!(Cluster::join(&router).is_err(), "links between the same two runs cannot begin again");
        shutdown(&router);
    });
}

#[test]
fn a_router_whose_settings_cannot_be_used_says_which_and_may_try_again() {
    bounded(|| {
        let directory = TempDir::new().expect("it is made");
        let key_file = directory.path().join("key");
        std::fs::write(&key_file, [7; 32]).expect("it is written");
        let broker = Broker::start();
        let router = start_with(1, |config| {
            let key_file = key_file.to_str().expect("it is text");
            let settings = [
                ("cluster.nats", broker.url()),
                ("cluster.name", "t".to_owned()),
                ("router.node", "1".to_owned()),
                ("cluster.key_file", key_file.to_owned()),
            ];
            for (key, value) in settings {
                config.set(key, &value, "the test").expect("it is legal");
            }
        });
        std::fs::write(&key_file, [7; 8]).expect("it is written");
        let error = Cluster::join(&router).expect_err("the secret is too short");
        assert!(matches!(error, ClusterError::Secret(_)) && error.to_string().contains("8 bytes"), "{error}");
        std::fs::write(&key_file, [7; 32]).expect("it is written");
        Cluster::join(&router).expect("it joins now").leave();
        shutdown(&router);
    });
}
