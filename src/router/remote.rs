//! The calls of a cluster's link thread. It learns which agents the shards look for on other nodes, tells them what it
//! found out, and delivers the notices of other nodes' routers.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use caxton_shards::api::{Input, SendErrorKind};
use caxton_shards::domain::AgentName;
use caxton_shards::message::{AgentId, Message};

use super::Router;
use super::calls::put;
use crate::cluster::ClusterView;
use crate::shard_handle::{BATCH_MESSAGES_MAX, Work};

/// The agents that shards look for, until the link thread takes them.
///
/// Their number is bounded: a shard looks for at most [`WANTED_MAX`](caxton_shards::api::WANTED_MAX) agents at a time,
/// and ends a search without being told to only when it drains.
pub(crate) struct WantedAgents {
    agents: Mutex<BTreeSet<AgentId>>,
    bell: flume::Sender<()>,
    heard: flume::Receiver<()>,
}

impl Default for WantedAgents {
    fn default() -> Self {
        let (bell, heard) = flume::bounded(1);
        Self { agents: Mutex::default(), bell, heard }
    }
}

impl WantedAgents {
    /// Adds an agent that a shard looks for.
    pub fn add(&self, agent: AgentId) {
        self.lock().insert(agent);
        // If it rings already, the waiting task wakes up anyway.
        let _ = self.bell.try_send(());
    }

    /// Waits until there are agents that were not taken.
    async fn wait(&self) {
        while self.lock().is_empty() {
            // There is always a sender, because it belongs to `self`.
            let _ = self.heard.recv_async().await;
        }
    }

    /// Takes all agents.
    fn take(&self) -> Vec<AgentId> {
        std::mem::take(&mut *self.lock()).into_iter().collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<AgentId>> {
        self.agents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Router {
    /// Waits until shards look for agents on other nodes that were not [taken](Self::take_wanted).
    pub(crate) async fn wants(&self) {
        self.shared().wanted.wait().await;
    }

    /// Returns the agents that shards look for on other nodes and that were not returned before. Each is then
    /// [registered](super::InboxBuilder::proxy) or [given up](Self::give_up_wanted).
    pub(crate) fn take_wanted(&self) -> Vec<AgentId> {
        self.shared().wanted.take()
    }

    /// Ends the search for an agent that no node has. The messages that wait for it are given up, with this
    /// explanation.
    ///
    /// # Errors
    ///
    /// The router stops, which ends all searches, or its shard did not take the call in time.
    pub(crate) async fn give_up_wanted(&self, agent: AgentId, why: impl Into<Box<str>>) -> Result<(), SendErrorKind> {
        let shard = self.partition().shard_of(agent).as_usize();
        self.give(shard, vec![Input::Unwanted { agent, why: why.into() }]).await
    }

    /// Starts to look for agents that durable messages of an earlier run wait for: see [`Input::WantAbsent`].
    ///
    /// # Errors
    ///
    /// The router stops, or a shard did not take the call in time.
    pub(crate) async fn want_absent(&self) -> Result<(), SendErrorKind> {
        for shard in 0..self.shared().links.len() {
            self.give(shard, vec![Input::WantAbsent]).await?;
        }
        Ok(())
    }

    /// Delivers notices of other nodes' routers to agents of this one: see [`Input::Notice`]. A notice without a
    /// receiver is dropped.
    ///
    /// # Errors
    ///
    /// The router stops, or a shard did not take its notices in time. The others were delivered.
    pub(crate) async fn notify(&self, notices: Vec<Message>) -> Result<(), SendErrorKind> {
        let mut by_shard: Vec<Vec<Input>> = self.shared().links.iter().map(|_| Vec::new()).collect();
        for notice in notices {
            if let Some(to) = notice.target() {
                by_shard[self.partition().shard_of(to).as_usize()].push(Input::Notice(notice));
            }
        }
        let mut result = Ok(());
        for (shard, mut inputs) in by_shard.into_iter().enumerate() {
            while !inputs.is_empty() {
                let rest = inputs.split_off(inputs.len().min(BATCH_MESSAGES_MAX));
                result = result.and(self.give(shard, inputs).await);
                inputs = rest;
            }
        }
        result
    }

    /// Returns the time since the router's start, from which the lifetimes of messages are counted.
    pub(crate) fn running_for(&self) -> Duration {
        self.shared().running_for()
    }

    /// Returns the name of an agent, or of one that was removed not long ago.
    pub(crate) async fn name_of(&self, agent: AgentId) -> Option<AgentName> {
        let shard = self.partition().shard_of(agent);
        let gateway = self.partition().gateway_name(shard);
        let name = match self.agent(agent).await.ok()? {
            _ if AgentId::of_text(&gateway) == agent => gateway,
            view => view?.name.into(),
        };
        AgentName::try_new(name).ok()
    }

    /// Returns what tells this run of the router from all others.
    pub(crate) fn boot_epoch(&self) -> u64 {
        self.shared().boot_epoch.load(Ordering::Relaxed)
    }

    /// Takes the one place in a cluster that this run of the router has. False if it is taken.
    pub(crate) fn claim_place_in_cluster(&self) -> bool {
        !self.shared().has_place_in_cluster.swap(true, Ordering::Relaxed)
    }

    /// Gives back the place in a cluster, which was not used.
    pub(crate) fn release_place_in_cluster(&self) {
        self.shared().has_place_in_cluster.store(false, Ordering::Relaxed);
    }

    /// Logs what has changed between two views of the cluster.
    pub(crate) fn log_cluster(&self, before: &ClusterView, now: &ClusterView) {
        if let Some(log) = &self.inner.log {
            log.cluster(before, now);
        }
    }

    async fn give(&self, shard: usize, inputs: Vec<Input>) -> Result<(), SendErrorKind> {
        let put = put(self.shared(), shard, Work::Inputs(inputs), || self.deadline()).await;
        put.map_err(|(error, _)| error)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // Tests fail by panicking.
mod tests {
    use caxton_shards::api::{AskError, FailureReason, RegistrationError};
    use caxton_shards::dead_letter::DeadLetterReason;
    use caxton_shards::message::{Performative, Receipt};
    use futures_lite::future::{block_on, zip};

    use super::*;
    use crate::config::{Config, Preset};
    use crate::router::Inbox;
    use crate::router::error::CallError;
    use crate::stats::Report;

    const PATIENCE: Duration = Duration::from_secs(30);

    /// A router whose settings name a cluster. It does not join it: a test does what the link thread would do.
    struct Fixture {
        router: Router,
    }

    impl Fixture {
        /// Runs the body of a test, stops the router, and returns the report.
        fn run(test: impl AsyncFnOnce(&Self)) -> Report {
            let mut config = Config::preset(Preset::Testing);
            let settings = [("cluster.nats", "nats://127.0.0.1:1"), ("cluster.name", "test"), ("router.node", "1")];
            for (key, value) in settings {
                config.set(key, value, "the test").unwrap();
            }
            let router = Router::builder().config(config).shards(2.try_into().unwrap()).start().unwrap();
            let fixture = Self { router };
            block_on(test(&fixture));
            fixture.router.shutdown(PATIENCE).unwrap()
        }

        /// Opens the inbox of the proxy of an agent of another node.
        async fn proxy(&self, name: &str) -> Inbox {
            self.router.inbox(name).proxy().open().await.unwrap()
        }

        /// Waits until agents are looked for, and takes them.
        async fn next_wanted(&self) -> Vec<AgentId> {
            self.router.wants().await;
            self.router.take_wanted()
        }
    }

    fn question(to: &str) -> Message {
        Message::builder(Performative::Request).receiver(to).content("x").build().unwrap()
    }

    /// Returns the receipt for a message that another node's router sends when the message was processed.
    fn receipt(message: &Message) -> Message {
        let receipt = Message::builder(Performative::Inform).sender(AgentId::of_text("ams"));
        let receipt = receipt.receiver(message.sender().unwrap()).in_reply_to(message.reply_with().unwrap());
        receipt.content("((processed (inform m1)))").build().unwrap()
    }

    #[test]
    fn an_agent_that_is_not_registered_is_looked_for_and_its_proxy_gets_what_waits() {
        Fixture::run(async |fixture| {
            let router = &fixture.router;
            let strangers = ["ann", "bob", "carl", "dora"];
            for stranger in strangers {
                router.tell(question(stranger)).await.unwrap();
            }
            let mut wanted = Vec::new();
            while wanted.len() < strangers.len() {
                wanted.extend(fixture.next_wanted().await);
            }
            for stranger in strangers {
                assert!(wanted.contains(&AgentId::of_text(stranger)), "{stranger}");
                let message = fixture.proxy(stranger).await.recv_within(PATIENCE).await.unwrap();
                assert_eq!(message.content().as_text(), Some("x"));
            }
        });
    }

    #[test]
    fn the_name_of_a_proxy_is_taken() {
        Fixture::run(async |fixture| {
            let _proxy = fixture.proxy("ann").await;
            let Err(CallError::Refused(error)) = fixture.router.inbox("ann").open().await else {
                panic!("it is taken")
            };
            assert_eq!(error, RegistrationError::OnOtherNode { name: "ann".to_owned() });
        });
    }

    #[test]
    fn a_question_to_an_agent_that_no_node_has_fails_with_the_reason() {
        Fixture::run(async |fixture| {
            let router = &fixture.router;
            let give_up = async {
                let wanted = fixture.next_wanted().await;
                router.give_up_wanted(wanted[0], "no node has it").await.unwrap();
            };
            let (answer, ()) = zip(router.ask(question("nobody"), PATIENCE), give_up).await;
            let Err(AskError::Undeliverable(error)) = answer else { panic!("{answer:?}") };
            assert_eq!(error.reason(), FailureReason::DeadLetter(DeadLetterReason::UnknownReceiver));
            assert!(error.explanation().contains("no node has it"), "{error}");
        });
    }

    #[test]
    fn a_notice_of_another_router_ends_the_wait_for_a_receipt() {
        Fixture::run(async |fixture| {
            let router = &fixture.router;
            let inbox = fixture.proxy("far").await;
            let message = question("far").into_builder().receipt(Receipt::Processed).build().unwrap();
            let finish = async {
                let message = inbox.recv_within(PATIENCE).await.unwrap();
                assert!(inbox.acknowledge(&message), "its sender wants a receipt");
                router.notify(vec![receipt(&message)]).await.unwrap();
            };
            let (answer, ()) = zip(router.send_for_receipt(message, PATIENCE), finish).await;
            assert!(answer.unwrap().content().as_text().unwrap().contains("(inform m1)"), "it is the other node's");
        });
    }

    #[test]
    fn a_router_that_looks_for_agents_stops_without_an_end_of_the_search() {
        let report = Fixture::run(async |fixture| {
            fixture.router.tell(question("nobody")).await.unwrap();
            assert_eq!(fixture.next_wanted().await, [AgentId::of_text("nobody")]);
            fixture.router.want_absent().await.unwrap();
        });
        assert!(report.balances());
        let dead_lettered = report.stats.account().dead_lettered;
        assert_eq!((report.left_behind(), dead_lettered), (0, 1), "it was given up when the router drained");
    }
}
