//! Agents made of closures, and the logs that they write.

use std::sync::{Arc, Mutex, PoisonError};

use crate::domain::{AgentName, BatchSize, CapabilityName};
use crate::message::notice::is_notice;
use crate::message::{Message, Performative};
use crate::shard::agent::{Agent, Context, Failure, Outcome, Polled, Registration, Supervision};
use crate::shard::path::dispatch::Batch;
use crate::supervision::RestartPolicy;

/// A list written by agents and read by tests.
pub struct Log<T>(Arc<Mutex<Vec<T>>>);

impl<T> Clone for Log<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Default for Log<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Log<T> {
    /// Creates an empty list.
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new(Vec::new())))
    }

    /// Appends an item.
    pub fn push(&self, item: T) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(item);
    }

    /// Takes all items.
    pub fn take(&self) -> Vec<T> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns the number of items.
    pub fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whether the list is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Log<String> {
    /// Whether the list contains exactly these texts.
    pub fn texts_eq(&self, expected: &[&str]) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().eq(expected)
    }
}

impl Log<Message> {
    /// Returns the contents of the logged messages, in order. Content that is not text counts as empty.
    pub fn texts(&self) -> Vec<String> {
        self.texts_of(|_| true)
    }

    /// Returns the contents of the router's notices.
    pub fn notices(&self) -> Vec<String> {
        self.texts_of(is_notice)
    }

    /// Returns the contents of the messages from agents.
    pub fn letters(&self) -> Vec<String> {
        self.texts_of(|message| !is_notice(message))
    }

    fn texts_of(&self, wanted: impl Fn(&Message) -> bool) -> Vec<String> {
        let messages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = messages.iter().filter(|message| wanted(message));
        wanted.map(|message| message.content().as_text().unwrap_or_default().to_owned()).collect()
    }
}

type Shared<F> = Arc<Mutex<F>>;
type Handle = dyn FnMut(&Message, &mut Context<'_>) -> Outcome + Send;
type Poll = dyn FnMut(&mut Context<'_>) -> Polled + Send;
type Start = dyn FnMut(&mut Context<'_>) + Send;
type Supervise = dyn FnMut(&Failure) -> Supervision + Send;
type Handled = dyn FnMut(&mut Batch<'_>) + Send;
type Stopped = dyn FnMut() + Send;

/// An agent made of closures. Methods that are not set have the [trait](Agent)'s default behaviour. All agents of one
/// script share its closures, so that their state survives a restart.
#[derive(Clone)]
pub struct Script {
    handle: Shared<Handle>,
    resume: Option<Shared<Handle>>,
    poll: Option<Shared<Poll>>,
    started: Option<Shared<Start>>,
    supervise: Option<Shared<Supervise>>,
    batch: Option<Shared<Handled>>,
    stopped: Option<Shared<Stopped>>,
    batch_size: Option<u32>,
    capabilities: Vec<CapabilityName>,
    made: Log<()>,
    policy: Option<RestartPolicy>,
}

impl Script {
    /// Creates an agent that handles each message with `handle`.
    pub fn new(handle: impl FnMut(&Message, &mut Context<'_>) -> Outcome + Send + 'static) -> Self {
        Self {
            handle: Arc::new(Mutex::new(handle)),
            resume: None,
            poll: None,
            started: None,
            supervise: None,
            batch: None,
            stopped: None,
            batch_size: None,
            capabilities: Vec::new(),
            made: Log::new(),
            policy: None,
        }
    }

    /// Creates an agent that ignores its messages.
    pub fn idle() -> Self {
        Self::new(|_, _| Outcome::Done)
    }

    /// Creates an agent that logs its messages.
    pub fn listener(log: &Log<Message>) -> Self {
        let log = log.clone();
        Self::new(move |message, _| {
            log.push(message.clone());
            Outcome::Done
        })
    }

    /// Creates an agent that replies to every message not from the router with an inform of the same content.
    pub fn echo() -> Self {
        Self::new(|message, context| {
            if !is_notice(message) {
                let reply = context.reply(message, Performative::Inform).content(message.content().clone());
                context.send(reply.build().expect("a reply is valid")).expect("there is room for the reply");
            }
            Outcome::Done
        })
    }

    /// Sets [`Agent::resume`].
    #[must_use]
    pub fn resuming(mut self, resume: impl FnMut(&Message, &mut Context<'_>) -> Outcome + Send + 'static) -> Self {
        self.resume = Some(Arc::new(Mutex::new(resume)));
        self
    }

    /// Sets [`Agent::poll`].
    #[must_use]
    pub fn polling(mut self, poll: impl FnMut(&mut Context<'_>) -> Polled + Send + 'static) -> Self {
        self.poll = Some(Arc::new(Mutex::new(poll)));
        self
    }

    /// Sets [`Agent::started`].
    #[must_use]
    pub fn starting(mut self, started: impl FnMut(&mut Context<'_>) + Send + 'static) -> Self {
        self.started = Some(Arc::new(Mutex::new(started)));
        self
    }

    /// Sets [`Agent::supervise`].
    #[must_use]
    pub fn supervised(mut self, supervise: impl FnMut(&Failure) -> Supervision + Send + 'static) -> Self {
        self.supervise = Some(Arc::new(Mutex::new(supervise)));
        self
    }

    /// Sets [`Agent::handle_batch`].
    #[must_use]
    pub fn batched(mut self, batch: impl FnMut(&mut Batch<'_>) + Send + 'static) -> Self {
        self.batch = Some(Arc::new(Mutex::new(batch)));
        self
    }

    /// Sets [`Agent::stopped`].
    #[must_use]
    pub fn stopping(mut self, stopped: impl FnMut() + Send + 'static) -> Self {
        self.stopped = Some(Arc::new(Mutex::new(stopped)));
        self
    }

    /// Sets the maximum batch size.
    #[must_use]
    pub fn in_batches_of(mut self, messages: u32) -> Self {
        self.batch_size = Some(messages);
        self
    }

    /// Adds a capability.
    ///
    /// # Panics
    ///
    /// If the name is not a valid capability name.
    #[must_use]
    pub fn offering(mut self, capability: &str) -> Self {
        self.capabilities.push(CapabilityName::try_new(capability).expect("a legal name of a capability"));
        self
    }

    /// Logs each creation of the agent.
    #[must_use]
    pub fn counted(mut self, made: &Log<()>) -> Self {
        self.made = made.clone();
        self
    }

    /// Sets the agent's own restart policy: the number of restarts within a window, each after a delay, both in
    /// milliseconds.
    ///
    /// # Panics
    ///
    /// If a value is out of range.
    #[must_use]
    pub fn restarting(mut self, restarts: u16, window_ms: u32, delay_ms: u32) -> Self {
        self.policy = Some(RestartPolicy {
            restarts: restarts.try_into().expect("a legal number of restarts"),
            window_ms: window_ms.try_into().expect("a legal window"),
            delay_ms: delay_ms.try_into().expect("a legal delay"),
        });
        self
    }

    /// Returns the registration of the script under this name.
    pub fn registration(self, name: AgentName) -> Registration {
        let (capabilities, policy) = (self.capabilities.clone(), self.policy);
        let registration = Registration::native(name, move || {
            self.made.push(());
            Scripted(self.clone())
        });
        let registration = capabilities.into_iter().fold(registration, Registration::offering);
        policy.into_iter().fold(registration, Registration::supervised)
    }
}

struct Scripted(Script);

/// Ignores poisoning: a closure that panicked is called again.
fn call<F: ?Sized, R>(shared: &Shared<F>, call: impl FnOnce(&mut F) -> R) -> R {
    call(&mut shared.lock().unwrap_or_else(PoisonError::into_inner))
}

impl Agent for Scripted {
    fn started(&mut self, context: &mut Context<'_>) {
        if let Some(started) = &self.0.started {
            call(started, |started| started(context));
        }
    }

    fn handle(&mut self, message: &Message, context: &mut Context<'_>) -> Outcome {
        call(&self.0.handle, |handle| handle(message, context))
    }

    fn handle_batch(&mut self, batch: &mut Batch<'_>) {
        if let Some(handled) = &self.0.batch {
            return call(handled, |handled| handled(batch));
        }
        while let Some((message, mut context)) = batch.next() {
            let outcome = self.handle(message, &mut context);
            batch.settle(outcome);
        }
    }

    fn batch_size(&self) -> Option<BatchSize> {
        self.0.batch_size.map(|messages| BatchSize::try_new(messages).expect("a legal batch"))
    }

    fn resume(&mut self, message: &Message, context: &mut Context<'_>) -> Outcome {
        self.0.resume.as_ref().map_or(Outcome::Done, |resume| call(resume, |resume| resume(message, context)))
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Polled {
        self.0.poll.as_ref().map_or(Polled::Finished, |poll| call(poll, |poll| poll(context)))
    }

    fn supervise(&mut self, failure: &Failure) -> Supervision {
        let supervise = self.0.supervise.as_ref();
        supervise.map_or(Supervision::Resume, |supervise| call(supervise, |supervise| supervise(failure)))
    }

    fn stopped(&mut self) {
        if let Some(stopped) = &self.0.stopped {
            call(stopped, |stopped| stopped());
        }
    }
}
