//! Limits how much of what an agent sends from outside is on its way, to a window of the size of its outbox.
//!
//! If there is no room for a message in its sender's outbox, it waits in the shard's channel and holds up everything
//! behind it, also what others send to that shard. To avoid this, an agent may hand over no more messages than its
//! outbox has room for: those that are not known to be admitted yet, and those in the outbox, count. After every
//! quarter of the window, the shard is asked to respond once at most half of the window is on its way.
//!
//! Everything that sends as the same agent from outside shares its window: connections of the NATS door, and the link
//! thread of a cluster.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use caxton_shards::message::AgentId;
use tokio::task::AbortHandle;

use crate::router::Router;

/// Maximum number of bytes on their way. One message may be larger.
const BYTES_MAX: usize = 1 << 20;

/// The windows of all agents that messages are sent as from outside. A window exists for as long as somebody holds it.
pub(crate) struct Flows {
    router: Router,
    /// Maximum number of messages of an agent.
    window: u32,
    by_agent: Mutex<HashMap<AgentId, Weak<Flow>>>,
}

impl Flows {
    pub fn new(router: &Router) -> Arc<Self> {
        // There is no deadline, because messages that wait move at the pace of their receivers.
        let (router, window) = (router.within(Duration::MAX), router.config().delivery.outbox.into_inner());
        Arc::new(Self { router, window, by_agent: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<AgentId, Weak<Flow>>> {
        self.by_agent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the window of an agent.
    pub fn of(self: &Arc<Self>, agent: AgentId) -> Arc<Flow> {
        let mut by_agent = self.lock();
        if let Some(flow) = by_agent.get(&agent).and_then(Weak::upgrade) {
            return flow;
        }
        let flow = Arc::new(Flow {
            agent,
            flows: Arc::clone(self),
            messages: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            backlog: AtomicUsize::new(0),
            state: Mutex::default(),
        });
        by_agent.insert(agent, Arc::downgrade(&flow));
        flow
    }
}

/// What an agent has on its way into the router.
pub(crate) struct Flow {
    agent: AgentId,
    flows: Arc<Flows>,
    /// Messages handed over and not known to be admitted, and their bytes.
    messages: AtomicUsize,
    bytes: AtomicUsize,
    /// Messages in the outbox, or waiting for their receivers, as of the last response.
    backlog: AtomicUsize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Whether the shard was asked.
    asks: bool,
    /// The task that waits for its response.
    question: Option<AbortHandle>,
    /// Connections that wait for room, by their numbers.
    waiting: HashMap<u32, Waker>,
}

impl Flow {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn window(&self) -> usize {
        self.flows.window as usize
    }

    /// Whether there is room for another message behind `more` of them.
    #[inline]
    pub fn has_room(&self, more: usize) -> bool {
        let on_way = self.messages.load(Ordering::Relaxed) + self.backlog.load(Ordering::Relaxed);
        on_way + more < self.window() && self.bytes.load(Ordering::Relaxed) < BYTES_MAX
    }

    /// Waits until there is room, for the connection of this number.
    pub fn poll_room(&self, connection: u32, context: &mut Context<'_>) -> Poll<()> {
        if self.has_room(0) {
            return Poll::Ready(());
        }
        self.lock().waiting.insert(connection, context.waker().clone());
        // The response may have come before the waker was stored.
        if self.has_room(0) { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Counts messages that were handed over, and asks the shard where that is due.
    pub fn hand_over(self: &Arc<Self>, messages: usize, bytes: usize) {
        self.messages.fetch_add(messages, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.ask_if_due();
    }

    fn ask_if_due(self: &Arc<Self>) {
        let (messages, bytes) = (self.messages.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed));
        if messages < (self.window() / 4).max(1) && bytes < BYTES_MAX / 4 {
            return;
        }
        if std::mem::replace(&mut self.lock().asks, true) {
            return;
        }
        let (flow, router) = (Arc::downgrade(self), self.flows.router.clone());
        let (agent, at_most) = (self.agent, self.flows.window / 2);
        let mut question = Box::pin(async move {
            // If the agent is gone, nothing is on its way, and what is sent as the agent is refused.
            let backlog = router.await_room(agent, at_most).await.unwrap_or(0);
            if let Some(flow) = flow.upgrade() {
                flow.learn(messages, bytes, backlog as usize);
            }
        });
        // The first poll puts the question right behind the messages handed over. A spawned task would put it behind
        // everything else of this turn.
        if question.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
            let question = tokio::spawn(question);
            self.lock().question = Some(question.abort_handle());
        }
    }

    /// Notes that so much of what was handed over was admitted, and how many messages are left.
    fn learn(self: &Arc<Self>, messages: usize, bytes: usize, backlog: usize) {
        self.messages.fetch_sub(messages, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.backlog.store(backlog, Ordering::Relaxed);
        let waiting = {
            let mut state = self.lock();
            (state.asks, state.question) = (false, None);
            std::mem::take(&mut state.waiting)
        };
        self.ask_if_due();
        waiting.into_values().for_each(Waker::wake);
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        if let Some(question) = self.lock().question.take() {
            question.abort();
        }
        let mut by_agent = self.flows.lock();
        // Another connection may have created a new one.
        if by_agent.get(&self.agent).is_some_and(|flow| flow.strong_count() == 0) {
            by_agent.remove(&self.agent);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use caxton_shards::domain::ShardCount;
    use caxton_shards::message::{Message, Performative};

    use super::*;
    use crate::config::{Config, Preset};
    use crate::router::Inbox;

    const WINDOW: usize = 8;

    struct Fixture {
        router: Router,
        flows: Arc<Flows>,
        receiver: Inbox,
        runtime: tokio::runtime::Runtime,
    }

    impl Fixture {
        /// Starts a router with an agent that takes messages only when the test does.
        fn start() -> Self {
            let mut config = Config::preset(Preset::Testing);
            let settings = [("delivery.outbox", "8"), ("mailbox.messages", "1"), ("mailbox.overflow", "back-pressure")];
            for (key, value) in settings {
                config.set(key, value, "the test").expect("it is allowed");
            }
            let one = ShardCount::try_new(1).expect("it is one");
            let router = Router::builder().config(config).shards(one).start().expect("it starts");
            let receiver = router.inbox("receiver").blocking().open().expect("it is opened");
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("it can be built");
            Self { flows: Flows::new(&router), router, receiver, runtime }
        }

        fn send(&self, sender: &Inbox) {
            let message = Message::builder(Performative::Inform).sender(sender.id()).receiver("receiver");
            self.router.try_tell(message.build().expect("it is valid")).expect("there is room");
        }

        /// Sends as the agent until there is no room for more. Returns how much that was.
        async fn fill(&self, sender: &Inbox, flow: &Arc<Flow>) -> usize {
            let mut sent = 0;
            loop {
                while flow.has_room(0) {
                    self.send(sender);
                    flow.hand_over(1, 0);
                    sent += 1;
                }
                let view = self.router.agent(sender.id()).await.expect("it runs").expect("it is registered");
                let on_way = view.outbox + view.waiting;
                assert!(on_way as usize <= WINDOW, "{on_way} are on their way");
                // Responses that the shard has sent by now are handled here. It sends no more until the receiver takes
                // messages.
                tokio::task::yield_now().await;
                if on_way > self.flows.window / 2 && !flow.has_room(0) {
                    return sent;
                }
                poll_fn(|context| flow.poll_room(1, context)).await;
            }
        }
    }

    #[test]
    fn an_agent_that_is_backed_up_goes_on_when_there_is_room_and_holds_up_no_other() {
        let fixture = Fixture::start();
        let open = |name: &str| fixture.router.inbox(name).blocking().open().expect("it is opened");
        let (slow, other) = (open("slow"), open("other"));
        fixture.runtime.block_on(async {
            // All connections that hold the agent share one window.
            let (flow, same) = (fixture.flows.of(slow.id()), fixture.flows.of(slow.id()));
            assert!(Arc::ptr_eq(&flow, &same));
            let sent = fixture.fill(&slow, &flow).await;
            assert!(!same.has_room(0) && fixture.flows.of(other.id()).has_room(WINDOW - 1));
            for _ in 0..sent {
                fixture.receiver.recv().await.expect("it comes");
            }
            poll_fn(|context| same.poll_room(2, context)).await;
            assert!(flow.has_room(0));
        });
    }

    #[test]
    fn an_agent_that_is_gone_holds_up_nobody() {
        let fixture = Fixture::start();
        let slow = fixture.router.inbox("slow").blocking().open().expect("it is opened");
        fixture.runtime.block_on(async {
            let flow = fixture.flows.of(slow.id());
            fixture.fill(&slow, &flow).await;
            drop(slow);
            poll_fn(|context| flow.poll_room(1, context)).await;
        });
    }

    #[test]
    fn a_window_is_there_for_as_long_as_a_connection_has_the_agent() {
        let fixture = Fixture::start();
        let slow = fixture.router.inbox("slow").blocking().open().expect("it is opened");
        fixture.runtime.block_on(async {
            let (flow, same) = (fixture.flows.of(slow.id()), fixture.flows.of(slow.id()));
            fixture.fill(&slow, &flow).await;
            drop(flow);
            assert!(!fixture.flows.of(slow.id()).has_room(0), "the other connection still has it");
            drop(same);
            assert!(fixture.flows.lock().is_empty());
        });
    }
}
