//! Agents whose module can be replaced while they run.
//!
//! A command is queued in the agent's mailbox, as a message from the router: earlier messages are handled by the old
//! version, and later ones as the [`Strategy`] decides. To everybody else both versions are one agent: one name, one
//! mailbox, one state. A version that does not start is never used: the error is reported, and the old one continues.

use std::collections::{HashSet, VecDeque};
use std::hash::{BuildHasher as _, Hasher as _};
use std::sync::{Arc, Mutex, PoisonError};

use caxton_shards::agent::{Agent, Batch, Context, Failure, Outcome, Polled, Registration, Supervision};
use caxton_shards::api::{SendErrorKind, UnresponsiveError};
use caxton_shards::domain::{AgentName, DomainError};
use caxton_shards::message::{AgentId, ConversationId, Message, Performative};

use super::guest::{Guest, GuestName, Instantiated};
use super::host::SharedMemory;
use crate::deadline::within;
use crate::router::error::WouldDeadlockError;
use crate::router::{Router, not_on_a_shard};

/// Maximum number of commands waiting for their agent.
const COMMANDS_MAX: usize = 16;
/// Maximum number of conversations known to belong to the old version. Older ones go to the new version.
const CONVERSATIONS_MAX: usize = 65_536;
/// The ontology of the message that tells an agent of a command.
const DEPLOYMENT: &str = "caxton-deployment";

/// How a new version takes over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Strategy {
    /// As soon as it has started, for everything.
    Immediate,
    /// For new conversations, as soon as it has started. The old version continues with those it knows, for a limited
    /// time.
    Graceful {
        /// The time limit in milliseconds.
        within_ms: u64,
    },
    /// For a percentage of conversations, until [`Deployment::promote`] or [`Deployment::roll_back`]. A trap of the new
    /// version rolls it back.
    Canary {
        /// The percentage.
        percent: u8,
    },
}

/// The versions that an agent runs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum State {
    /// One version.
    Settled,
    /// A new one is being started.
    Starting,
    /// Both versions.
    Both(Strategy),
    /// One version, after a new one was rolled back for this reason.
    RolledBack(String),
}

/// A command was not performed. The agent's version is unchanged, unless the reason says otherwise.
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DeployError {
    /// The new version did not start, or was replaced by another.
    #[error("the new version is not used, and the old one continues: {0}")]
    RolledBack(String),
    /// There is no new version to be promoted or rolled back.
    #[error("there is only one version")]
    NothingNew,
    /// The agent or its router is gone, or accepts no more commands now.
    #[error("the agent cannot be told: {0}")]
    Unreachable(String),
    /// The agent did not perform the command before the deadline of the router's handle.
    #[error(transparent)]
    Unresponsive(#[from] UnresponsiveError),
    /// The call was made on a shard's own thread.
    #[error(transparent)]
    WouldDeadlock(#[from] WouldDeadlockError),
}

enum Command {
    Replace(Guest, Strategy),
    Promote,
    RollBack,
}

type Answer = flume::Sender<Result<(), DeployError>>;

struct Shared {
    commands: Mutex<VecDeque<(Command, Answer)>>,
    state: Mutex<State>,
    /// The version of the next instance: the one promoted last.
    current: Mutex<Guest>,
}

impl Shared {
    fn set(&self, state: State) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }
}

/// Replaces the module of one agent.
#[derive(Clone)]
pub struct Deployment {
    agent: AgentId,
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Deployment {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Deployment")
            .field("agent", &self.agent)
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}

impl Guest {
    /// Returns the registration of an agent whose module can be replaced, and its deployment.
    ///
    /// An invalid name is refused when the registration is handed over.
    pub fn deploy(&self, name: impl TryInto<AgentName, Error: Into<DomainError>>) -> (Registration, Deployment) {
        let name = GuestName::new(name);
        let agent = name.id();
        let shared = Arc::new(Shared {
            commands: Mutex::default(),
            state: Mutex::new(State::Settled),
            current: Mutex::new(self.clone()),
        });
        #[cfg(feature = "store")]
        let memory = self.memory_of(agent);
        #[cfg(not(feature = "store"))]
        let memory = SharedMemory::default();
        let deployment = Deployment { agent, shared: Arc::clone(&shared) };
        let registration = Registration::boxed(
            name,
            Box::new(move || {
                let guest = shared.current.lock().unwrap_or_else(PoisonError::into_inner).clone();
                Box::new(Deployed {
                    me: agent,
                    current: guest.instance(agent, &memory),
                    memory: Arc::clone(&memory),
                    trial: None,
                    known: Lately::default(),
                    busy: Version::Old,
                    hasher: std::hash::BuildHasherDefault::default(),
                    shared: Arc::clone(&shared),
                })
            }),
        );
        (registration, deployment)
    }
}

impl Deployment {
    /// Returns the versions that the agent runs.
    pub fn state(&self) -> State {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Starts a new version. Returns once it has started and receives its share of the messages. Waits as long as calls
    /// of the handle do: see [`Router::within`]. Dropping the future before the agent has begun withdraws the command.
    ///
    /// # Errors
    ///
    /// It did not start, with the reason; or the agent is gone.
    pub async fn replace(&self, router: &Router, guest: Guest, strategy: Strategy) -> Result<(), DeployError> {
        self.command(router, Command::Replace(guest, strategy)).await
    }

    /// Makes the new version handle everything.
    ///
    /// # Errors
    ///
    /// There is none.
    pub async fn promote(&self, router: &Router) -> Result<(), DeployError> {
        self.command(router, Command::Promote).await
    }

    /// Stops the new version.
    ///
    /// # Errors
    ///
    /// There is none.
    pub async fn roll_back(&self, router: &Router) -> Result<(), DeployError> {
        self.command(router, Command::RollBack).await
    }

    async fn command(&self, router: &Router, command: Command) -> Result<(), DeployError> {
        not_on_a_shard()?;
        let deadline = router.deadline();
        let (sender, receiver) = flume::bounded(1);
        let own = sender.clone();
        let unreachable = |reason: &dyn ToString| DeployError::Unreachable(reason.to_string());
        {
            let mut commands = self.shared.commands.lock().unwrap_or_else(PoisonError::into_inner);
            commands.retain(|(_, answer)| !answer.is_disconnected());
            if commands.len() >= COMMANDS_MAX {
                return Err(unreachable(&"too many commands wait for it"));
            }
            commands.push_back((command, sender));
        }
        let message = Message::builder(Performative::Inform).receiver(self.agent).ontology(DEPLOYMENT).build();
        let message = message.map_err(|error| unreachable(&error))?;
        let taken_back = TakenBack { shared: &self.shared, own };
        let sent = router.within(deadline.left()).send(message).await;
        match sent.map_err(SendErrorKind::from) {
            Ok(_) => {}
            Err(SendErrorKind::Unresponsive(late)) => {
                return Err(UnresponsiveError { may_have_changed: !taken_back.take_back(), ..late }.into());
            }
            Err(error) => return Err(unreachable(&error)),
        }
        let shard = router.partition().shard_of(self.agent);
        if let Some(answer) = within(router.shared(), shard.as_usize(), deadline, receiver.recv_async()).await {
            return answer.map_err(|_| unreachable(&"it is gone"))?;
        }
        let may_have_changed = !taken_back.take_back();
        Err(router.shared().unresponsive(shard.as_usize(), may_have_changed).into())
    }
}

/// Withdraws a command that its agent has not begun, when nobody waits for it any more.
struct TakenBack<'a> {
    shared: &'a Shared,
    own: Answer,
}

impl TakenBack<'_> {
    /// Returns whether the command was still queued.
    fn take_back(&self) -> bool {
        let mut commands = self.shared.commands.lock().unwrap_or_else(PoisonError::into_inner);
        let place = commands.iter().position(|(_, answer)| answer.same_channel(&self.own));
        place.and_then(|place| commands.remove(place)).is_some()
    }
}

impl Drop for TakenBack<'_> {
    fn drop(&mut self) {
        self.take_back();
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Version {
    Old,
    New,
}

/// The new version, which receives only some messages.
struct Trial {
    agent: Box<dyn Instantiated>,
    guest: Guest,
    strategy: Strategy,
    /// The waiter for its start.
    starting: Option<Answer>,
    /// When the old version has to end.
    until_ms: u64,
}

struct Deployed {
    me: AgentId,
    current: Box<dyn Instantiated>,
    memory: SharedMemory,
    trial: Option<Trial>,
    /// Conversations of the old version.
    known: Lately,
    /// The version that handles the current message.
    busy: Version,
    hasher: std::hash::BuildHasherDefault<std::collections::hash_map::DefaultHasher>,
    shared: Arc<Shared>,
}

impl Deployed {
    /// Performs the queued commands.
    fn obey(&mut self, context: &mut Context<'_>) {
        loop {
            let next = self.shared.commands.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let Some((command, answer)) = next else { return };
            if answer.is_disconnected() {
                // Its caller was told that it could not be given, or does not wait any more.
                continue;
            }
            match command {
                Command::Replace(guest, strategy) => self.try_out(guest, strategy, answer, context),
                Command::Promote if self.trial.as_ref().is_some_and(|trial| trial.starting.is_none()) => {
                    self.promote();
                    let _ = answer.try_send(Ok(()));
                }
                Command::RollBack if self.trial.is_some() => {
                    self.roll_back("it was requested");
                    let _ = answer.try_send(Ok(()));
                }
                Command::Promote | Command::RollBack => {
                    let _ = answer.try_send(Err(DeployError::NothingNew));
                }
            }
        }
    }

    fn try_out(&mut self, guest: Guest, strategy: Strategy, answer: Answer, context: &mut Context<'_>) {
        self.roll_back("another version was deployed");
        let mut agent = guest.instance(self.me, &self.memory);
        let started = agent.start(context);
        self.shared.set(State::Starting);
        self.trial = Some(Trial { agent, guest, strategy, starting: Some(answer), until_ms: u64::MAX });
        match started {
            Outcome::Done => self.begin_trial(Ok(()), context),
            Outcome::Failed(failure) => self.begin_trial(Err(failure.explanation.into_owned()), context),
            // It continues when the agent is polled.
            Outcome::Suspended => {}
        }
    }

    /// Handles the result of the new version's start.
    fn begin_trial(&mut self, started: Result<(), String>, context: &Context<'_>) {
        let Some(trial) = &mut self.trial else { return };
        if let Err(reason) = started {
            return self.roll_back(&reason);
        }
        let (strategy, answer) = (trial.strategy, trial.starting.take());
        self.shared.set(State::Both(strategy));
        match strategy {
            Strategy::Immediate => self.promote(),
            Strategy::Graceful { within_ms } => {
                trial.until_ms = context.now().monotonic_ms().saturating_add(within_ms);
            }
            Strategy::Canary { .. } => {}
        }
        if let Some(answer) = answer {
            let _ = answer.try_send(Ok(()));
        }
    }

    fn promote(&mut self) {
        let Some(trial) = self.trial.take() else { return };
        let mut old = std::mem::replace(&mut self.current, trial.agent);
        old.stopped();
        *self.shared.current.lock().unwrap_or_else(PoisonError::into_inner) = trial.guest;
        self.known = Lately::default();
        self.shared.set(State::Settled);
    }

    fn roll_back(&mut self, reason: &str) {
        let Some(mut trial) = self.trial.take() else { return };
        trial.agent.stopped();
        self.shared.set(State::RolledBack(reason.to_owned()));
        if let Some(answer) = trial.starting.take() {
            let _ = answer.try_send(Err(DeployError::RolledBack(reason.to_owned())));
        }
    }

    /// Returns the version that handles a message.
    fn version_for(&mut self, message: &Message, context: &Context<'_>) -> Version {
        let over = self.trial.as_ref().is_some_and(|trial| context.now().monotonic_ms() >= trial.until_ms);
        if over {
            self.promote();
        }
        let Some(trial) = self.trial.as_ref().filter(|trial| trial.starting.is_none()) else { return Version::Old };
        match trial.strategy {
            Strategy::Immediate => Version::New,
            Strategy::Graceful { .. } => match message.conversation() {
                Some(conversation) if self.known.has(conversation) => Version::Old,
                _ => Version::New,
            },
            Strategy::Canary { percent } => {
                let mut hasher = self.hasher.build_hasher();
                match message.conversation() {
                    Some(conversation) => hasher.write_u128(conversation.to_u128()),
                    None => hasher.write_u128(message.sender().map_or(0, AgentId::to_u128)),
                }
                if hasher.finish() % 100 < u64::from(percent) { Version::New } else { Version::Old }
            }
        }
    }

    fn instance(&mut self, version: Version) -> &mut dyn Instantiated {
        match (&mut self.trial, version) {
            (Some(trial), Version::New) => &mut *trial.agent,
            _ => &mut *self.current,
        }
    }

    /// Such a message from anyone else finds no command, and changes nothing.
    fn is_command(message: &Message) -> bool {
        message.ontology() == Some(DEPLOYMENT)
    }
}

/// The conversations with recent messages: at least as many as fit into one of the two sets, and at most as fit into
/// both.
#[derive(Default)]
struct Lately {
    now: HashSet<ConversationId>,
    before: HashSet<ConversationId>,
}

impl Lately {
    fn add(&mut self, conversation: ConversationId) {
        if self.now.len() >= CONVERSATIONS_MAX / 2 {
            self.before = std::mem::take(&mut self.now);
        }
        self.now.insert(conversation);
    }

    fn has(&self, conversation: ConversationId) -> bool {
        self.now.contains(&conversation) || self.before.contains(&conversation)
    }
}

impl Drop for Deployed {
    fn drop(&mut self) {
        self.roll_back("the old version is gone");
    }
}

impl Agent for Deployed {
    fn start(&mut self, context: &mut Context<'_>) -> Outcome {
        self.current.start(context)
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Polled {
        let polled = self.current.poll(context);
        let Some(trial) = self.trial.as_mut().filter(|trial| trial.starting.is_some()) else { return polled };
        let of_trial = trial.agent.poll(context);
        if of_trial == Polled::Finished
            && let Some(started) = trial.agent.has_started()
        {
            self.begin_trial(started, context);
            return polled;
        }
        Polled::Waiting
    }

    fn handle(&mut self, message: &Message, context: &mut Context<'_>) -> Outcome {
        if Self::is_command(message) {
            self.obey(context);
            return Outcome::Done;
        }
        self.busy = self.version_for(message, context);
        if let (Version::Old, Some(conversation)) = (self.busy, message.conversation()) {
            self.known.add(conversation);
        }
        let version = self.busy;
        self.instance(version).handle(message, context)
    }

    fn handle_batch(&mut self, batch: &mut Batch<'_>) {
        if self.trial.is_none() {
            let (known, mut commands) = (&mut self.known, false);
            batch.look_ahead(usize::MAX, |message| {
                commands |= Self::is_command(message);
                if let Some(conversation) = message.conversation() {
                    known.add(conversation);
                }
            });
            if !commands {
                self.busy = Version::Old;
                return self.current.handle_batch(batch);
            }
        }
        while let Some((message, mut context)) = batch.next() {
            let outcome = self.handle(message, &mut context);
            batch.settle(outcome);
        }
    }

    fn resume(&mut self, message: &Message, context: &mut Context<'_>) -> Outcome {
        let version = self.busy;
        self.instance(version).resume(message, context)
    }

    fn supervise(&mut self, failure: &Failure) -> Supervision {
        let version = self.busy;
        let supervision = self.instance(version).supervise(failure);
        if version == Version::New && self.trial.is_some() && supervision != Supervision::Resume {
            self.roll_back(&failure.explanation);
            return Supervision::Resume;
        }
        supervision
    }

    fn stopped(&mut self) {
        self.roll_back("the agent was removed");
        self.current.stopped();
    }
}
