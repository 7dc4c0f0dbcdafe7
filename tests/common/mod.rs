//! Helpers of the router's tests: a bounded wait for everything, and agents made of closures.

#![allow(dead_code)] // Each test program uses only a part.

use std::io::Write as _;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use caxton_router::config::Preset;
use caxton_router::domain::{AgentName, CapabilityName, ShardCount};
use caxton_router::routing::ShardIndex;
use caxton_router::stats::Report;
use caxton_router::{Agent, AgentId, Config, Context, Message, Outcome, Performative, Router};

/// Far longer than anything here takes: reaching it means a defect.
pub const PATIENCE: Duration = Duration::from_mins(3);

/// Runs a test's body on its own thread, so that a call that never returns fails the test instead of hanging it.
pub fn bounded(body: impl FnOnce() + Send + 'static) {
    let (done, finished) = flume::bounded(1);
    let thread = std::thread::spawn(move || {
        body();
        let _ = done.send(());
    });
    match finished.recv_timeout(2 * PATIENCE) {
        Err(flume::RecvTimeoutError::Timeout) => panic!("the test does not come to its end"),
        Ok(()) | Err(flume::RecvTimeoutError::Disconnected) => {
            if let Err(panic) = thread.join() {
                std::panic::resume_unwind(panic);
            }
        }
    }
}

/// Says that a test, or a part of it, was skipped. The output of tests that pass is not shown; this is.
pub fn skipped(why: &str) {
    let _ = writeln!(std::io::stderr(), "skipped: {why}");
}

/// Starts a router with the settings for tests.
pub fn start(shards: u16) -> Router {
    start_with(shards, |_| {})
}

/// Starts a router with the settings for tests and some changes.
pub fn start_with(shards: u16, change: impl FnOnce(&mut Config)) -> Router {
    let mut config = Config::preset(Preset::Testing);
    // On a busy machine a message may wait for seconds, and a handler may seem to be slow.
    config.message.timeout_ms = 60_000.try_into().expect("the time is allowed");
    config.breaker.slow_calls = 0.try_into().expect("no breaker is allowed");
    change(&mut config);
    let shards = ShardCount::try_new(shards).expect("the number of shards is allowed");
    Router::builder().config(config).shards(shards).start().expect("the router starts")
}

/// Stops a router that has to drain, and checks that its account balances.
pub fn shutdown(router: &Router) -> Report {
    let report = router.shutdown(PATIENCE).expect("this is no shard's thread");
    assert!(report.drained, "the router was not done: {report:?}");
    assert!(report.balances(), "the router lost count: {report:?}");
    report
}

pub fn name(text: &str) -> AgentName {
    AgentName::try_new(text).expect("the name is allowed")
}

pub fn capability(text: &str) -> CapabilityName {
    CapabilityName::try_new(text).expect("the name is allowed")
}

/// Returns a name that belongs to an agent of this shard.
pub fn name_on(router: &Router, shard: u16, prefix: &str) -> AgentName {
    name(&router.partition().name_on(ShardIndex(shard), prefix))
}

pub fn message_to(receiver: AgentId, content: &str) -> Message {
    Message::builder(Performative::Inform).receiver(receiver).content(content).build().expect("the message is valid")
}

pub fn request_to(receiver: AgentId, content: &str) -> Message {
    Message::builder(Performative::Request).receiver(receiver).content(content).build().expect("the message is valid")
}

pub fn text_of(message: &Message) -> String {
    message.content().as_text().expect("the content is text").to_owned()
}

/// An agent made of a closure.
pub struct On<F>(pub F);

impl<F: FnMut(&Message, &mut Context<'_>) -> Outcome> Agent for On<F> {
    fn handle(&mut self, message: &Message, context: &mut Context<'_>) -> Outcome {
        (self.0)(message, context)
    }
}

/// Helps the compiler to infer the closure's type.
pub fn on<F: FnMut(&Message, &mut Context<'_>) -> Outcome>(handler: F) -> On<F> {
    On(handler)
}

/// An agent that replies to requests and queries with their content.
pub fn echo() -> impl Agent {
    on(|message, context| {
        if !matches!(message.performative(), Performative::Request | Performative::QueryRef) {
            return Outcome::Done;
        }
        let reply = message.reply(Performative::Inform).content(message.content().clone()).build();
        context.send(reply.expect("the reply is valid")).expect("there is room for the reply");
        Outcome::Done
    })
}

/// An agent that ignores its messages.
pub fn silent() -> impl Agent {
    on(|_, _| Outcome::Done)
}

/// An agent that forwards the text of its messages to a channel.
pub fn reporter(heard: flume::Sender<String>) -> impl Agent {
    on(move |message, _| {
        let _ = heard.send(text_of(message));
        Outcome::Done
    })
}

/// A barrier that holds up a handler, and so its whole shard, until the test opens it.
#[derive(Clone, Default)]
pub struct Barrier {
    state: Arc<(Mutex<(u32, bool)>, Condvar)>,
}

impl Barrier {
    /// Waits until the barrier is open.
    pub fn pass(&self) {
        let (lock, changed) = &*self.state;
        let mut state = lock.lock().unwrap_or_else(PoisonError::into_inner);
        state.0 += 1;
        changed.notify_all();
        let waited = changed.wait_timeout_while(state, PATIENCE, |state| !state.1);
        assert!(!waited.unwrap_or_else(PoisonError::into_inner).1.timed_out(), "the barrier was never opened");
    }

    /// Waits until this many have reached the barrier.
    pub fn wait_for(&self, count: u32) {
        let (lock, changed) = &*self.state;
        let state = lock.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = changed.wait_timeout_while(state, PATIENCE, |state| state.0 < count);
        assert!(!waited.unwrap_or_else(PoisonError::into_inner).1.timed_out(), "nobody came to the barrier");
    }

    pub fn open(&self) {
        self.state.0.lock().unwrap_or_else(PoisonError::into_inner).1 = true;
        self.state.1.notify_all();
    }
}

/// Registers an agent that holds up its shard from its first message on, and sends it one.
pub fn hold_up(router: &Router, shard: u16) -> Barrier {
    let barrier = Barrier::default();
    let at_barrier = barrier.clone();
    let blocker = router
        .blocking()
        .register(name_on(router, shard, "blocker"), move || {
            let barrier = at_barrier.clone();
            on(move |_, _| {
                barrier.pass();
                Outcome::Done
            })
        })
        .expect("the agent is registered");
    router.blocking().tell(message_to(blocker, "wait")).expect("the router runs");
    barrier.wait_for(1);
    barrier
}
