//! Nodes of a cluster for tests, and what tests do with their agents.

use std::time::Duration;

use caxton_router::cluster::{Cluster, ClusterView};
use caxton_router::error::AskError;
use caxton_router::message::{Performative, Reliability};
use caxton_router::{Config, Inbox, Message, Outcome, Router};

use super::broker::Broker;
use crate::common::{PATIENCE, bounded, on, start_with, text_of};
use crate::edge::wait_until;

/// How long a test waits to see that nothing further arrives.
const NOTHING_FURTHER: Duration = Duration::from_millis(100);

/// A router in the cluster `t`.
pub struct Node {
    pub router: Router,
    cluster: Option<Cluster>,
}

impl Node {
    /// Starts the node with this number.
    pub fn start(number: u16, broker: &Broker) -> Self {
        Self::start_with(number, broker, &[])
    }

    /// Starts the node with this number and further settings.
    pub fn start_with(number: u16, broker: &Broker, settings: &[(&str, &str)]) -> Self {
        let router = start_router(number, broker, settings);
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

    /// Registers an agent that responds to a message with "NAME got CONTENT".
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

    /// Sends a request in the router's name, and returns the text of the reply.
    pub fn ask(&self, agent: &str, content: &str) -> String {
        self.try_ask(agent, content).expect("it answers")
    }

    pub fn try_ask(&self, agent: &str, content: &str) -> Result<String, AskError> {
        let question = Message::builder(Performative::Request).receiver(agent).content(content);
        self.router.blocking().ask(question.build().expect("it is valid"), PATIENCE).map(|reply| text_of(&reply))
    }

    /// Sends a message in the router's name.
    pub fn send(&self, message: Message) {
        self.router.blocking().send(message).expect("it is accepted");
    }

    /// Stops the router, and leaves the cluster.
    pub fn stop(self) {
        self.stop_within(PATIENCE);
    }

    /// Stops within this time: what is not handled by then is left behind.
    pub fn stop_within(self, deadline: Duration) {
        let report = self.router.shutdown(deadline).expect("it stops");
        assert!(report.balances(), "{report:?}");
        self.leave();
    }

    /// Leaves the cluster, and returns the router.
    pub fn leave(mut self) -> Router {
        self.cluster.take().expect("it is in the cluster").leave();
        self.router
    }
}

/// Two nodes of a cluster, with the numbers 1 and 2, and their server of NATS.
pub struct Pair {
    pub broker: Broker,
    pub one: Node,
    pub two: Node,
}

impl Pair {
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts both nodes with further settings.
    pub fn start_with(settings: &[(&str, &str)]) -> Self {
        let broker = Broker::start();
        let [one, two] = [1, 2].map(|number| Node::start_with(number, &broker, settings));
        Self { broker, one, two }
    }

    /// Runs the body of a test with two nodes, and stops them.
    pub fn run(test: impl FnOnce(&Self) + Send + 'static) {
        Self::run_with(&[], test);
    }

    /// Like `run`, with further settings of both nodes.
    pub fn run_with(settings: &'static [(&str, &str)], test: impl FnOnce(&Self) + Send + 'static) {
        bounded(move || {
            let pair = Self::start_with(settings);
            test(&pair);
            pair.stop();
        });
    }

    /// Waits until each node can reach the other.
    pub fn meet(&self) {
        meet(&[&self.one, &self.two]);
    }

    /// Opens an inbox on each node: the first name is that on node 1.
    pub fn inboxes(&self, on_one: &str, on_two: &str) -> (Inbox, Inbox) {
        (self.one.inbox(on_one), self.two.inbox(on_two))
    }

    pub fn stop(self) {
        self.one.stop();
        self.two.stop();
    }
}

/// Starts a router whose settings name the cluster, and which has not joined it.
pub fn start_router(number: u16, broker: &Broker, settings: &[(&str, &str)]) -> Router {
    start_with(2, |config| configure(config, number, broker, settings))
}

/// Makes the settings those of a node with this number, with further settings.
pub fn configure(config: &mut Config, number: u16, broker: &Broker, settings: &[(&str, &str)]) {
    let (url, number) = (broker.url(), number.to_string());
    let own = [("cluster.nats", url.as_str()), ("cluster.name", "t"), ("router.node", &number)];
    for (key, value) in own.iter().chain(settings) {
        config.set(key, value, "the test").expect("it is legal");
    }
}

/// Waits until each node can reach the others.
pub fn meet(nodes: &[&Node]) {
    for (number, node) in nodes.iter().enumerate() {
        let name = format!("greeter-{number}");
        let greeter = node.inbox(&name);
        for (_, other) in nodes.iter().enumerate().filter(|(other, _)| *other != number) {
            wait_until("the message has come", || {
                other.send(inform(&name, "hello"));
                greeter.blocking().recv_within(Duration::from_secs(1)).is_ok()
            });
            // Earlier attempts may arrive as well.
            while greeter.blocking().recv_within(Duration::ZERO).is_ok() {}
        }
    }
}

pub fn inform(receiver: &str, content: &str) -> Message {
    let message = Message::builder(Performative::Inform).receiver(receiver).content(content);
    message.build().expect("it is valid")
}

pub fn durable_inform(receiver: &str, content: &str) -> Message {
    let message = Message::builder(Performative::Inform).receiver(receiver).content(content);
    message.reliability(Reliability::Durable).build().expect("it is valid")
}

/// Sends a message in the name of an inbox's agent.
pub fn send(inbox: &Inbox, message: Message) {
    inbox.blocking().send(message).expect("it is accepted");
}

pub fn reply(inbox: &Inbox, to: &Message, act: Performative, content: &str) {
    send(inbox, to.reply(act).content(content).build().expect("it is valid"));
}

/// Returns the next message for an inbox.
pub fn receive(inbox: &Inbox) -> Message {
    inbox.blocking().recv_within(PATIENCE).expect("it comes")
}

pub fn receive_text(inbox: &Inbox) -> String {
    text_of(&receive(inbox))
}

/// Checks that an inbox gets no further message for a while.
pub fn assert_nothing_further(inbox: &Inbox) {
    assert!(inbox.blocking().recv_within(NOTHING_FURTHER).is_err(), "it comes once");
}
