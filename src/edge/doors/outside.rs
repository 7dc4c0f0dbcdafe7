//! Agents whose clients are outside this process: registered through a door, with their messages in an inbox.
//!
//! A client attaches to its agent while it is connected, or while a request of it is served. An agent without a client
//! keeps its mailbox for the grace period, so that a client that lost its connection misses nothing; then it is
//! deregistered, and what it has not taken is dead-lettered.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use caxton_shards::api::{OverflowPolicy, RegistrationError};
use caxton_shards::domain::{AgentName, CapabilityName};
use caxton_shards::message::AgentId;
use tokio::sync::{Notify, watch};

use super::deliveries::Deliveries;
use super::identity::Identity;
use super::reason::{self, Reason};
use crate::router::error::CallError;
use crate::router::{Inbox, Router};

/// How an outside agent is registered.
#[derive(Clone, Debug, Default)]
pub(crate) struct OutsideOptions {
    /// Its capabilities.
    pub capabilities: Vec<CapabilityName>,
    /// Whether its messages are processed when they are acknowledged, and not already when they are taken.
    pub acknowledged: bool,
    /// Whether it is registered again at the next start, before its client is back.
    pub persistent: bool,
    /// What happens to a message that finds its mailbox full; `None` for what the settings say.
    pub overflow: Option<OverflowPolicy>,
}

/// Why an outside agent was not registered. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OutsideError {
    /// The identity does not permit it.
    #[error("\"{identity}\" may not act as {agent}")]
    Forbidden {
        /// Whose token it is.
        identity: Arc<str>,
        /// The agent.
        agent: AgentName,
    },
    /// Somebody else has registered it.
    #[error("{0} is registered by another client")]
    Taken(AgentName),
    /// It is registered with the other way to acknowledge messages.
    #[error("{0} is registered with another way to acknowledge its messages")]
    OtherMode(AgentName),
    /// There are too many of them.
    #[error("{agents} outside agents: the limit is doors.agents_max")]
    TooMany {
        /// How many there are.
        agents: usize,
    },
    /// The router has refused it.
    #[error(transparent)]
    Router(#[from] CallError<RegistrationError>),
}

impl OutsideError {
    /// Returns the reason for programs.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Forbidden { .. } => reason::FOREIGN_AGENT,
            Self::Taken(_) => reason::TAKEN,
            Self::OtherMode(_) => reason::OTHER_MODE,
            Self::TooMany { .. } => reason::TOO_MANY_AGENTS,
            Self::Router(CallError::Refused(
                RegistrationError::Duplicate { .. } | RegistrationError::OnOtherNode { .. },
            )) => reason::DUPLICATE,
            Self::Router(_) => reason::NOT_REGISTERED,
        }
    }
}

/// An agent whose client is outside this process.
#[derive(Debug)]
pub(crate) struct OutsideAgent {
    name: AgentName,
    owner: Arc<str>,
    options: OutsideOptions,
    inbox: Inbox,
    clients: Mutex<Clients>,
    /// Messages that clients were handed and have not acknowledged.
    deliveries: Deliveries,
    /// Whether its clients get nothing further from it.
    is_gone: watch::Sender<bool>,
}

#[derive(Debug)]
struct Clients {
    attached: usize,
    /// Since when there has been none.
    gone_since: Instant,
    /// The earliest end of its grace period, if that is watched.
    watched_until: Option<Instant>,
}

impl OutsideAgent {
    /// Returns its name.
    pub fn name(&self) -> &AgentName {
        &self.name
    }

    /// Returns its inbox.
    pub fn inbox(&self) -> &Inbox {
        &self.inbox
    }

    /// Whether its messages are to be acknowledged.
    pub fn is_acknowledged(&self) -> bool {
        self.options.acknowledged
    }

    /// Returns how it is registered.
    pub fn options(&self) -> &OutsideOptions {
        &self.options
    }

    /// Returns the name of the identity that has registered it.
    pub fn owner(&self) -> &Arc<str> {
        &self.owner
    }

    pub(super) fn deliveries(&self) -> &Deliveries {
        &self.deliveries
    }

    /// Whether its clients get nothing further from it: it was deregistered, or the router has removed it and everything
    /// was taken.
    pub fn is_gone(&self) -> bool {
        *self.is_gone.borrow()
    }

    /// Waits until it [is gone](Self::is_gone): its clients have to let it go.
    pub async fn gone(&self) {
        // The sender lives as long as the agent.
        let _ = self.is_gone.subscribe().wait_for(|is_gone| *is_gone).await;
    }

    /// Notes that the router has removed it, and that everything was taken. Its clients let it go, and the first one that
    /// does frees its place.
    pub(super) fn note_end(&self) {
        self.is_gone.send_replace(true);
    }

    /// Returns the number of its clients.
    pub fn clients(&self) -> usize {
        self.lock().attached
    }

    fn lock(&self) -> MutexGuard<'_, Clients> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A client of an agent. Without any, the agent is deregistered after the grace period.
#[derive(Debug)]
pub(crate) struct Attachment {
    agent: Arc<OutsideAgent>,
    agents: Arc<OutsideAgents>,
}

impl Attachment {
    /// Returns the agent.
    pub fn agent(&self) -> &Arc<OutsideAgent> {
        &self.agent
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        let mut clients = self.agent.lock();
        clients.attached -= 1;
        if self.agent.is_gone() {
            drop(clients);
            self.agents.deregister(&self.agent);
        } else if clients.attached == 0 {
            clients.gone_since = Instant::now();
            if clients.watched_until.is_none() {
                let ends = clients.gone_since + self.agents.grace();
                clients.watched_until = Some(ends);
                drop(clients);
                self.agents.lock().without_client.insert((ends, self.agent.inbox.id()));
                self.agents.changed.notify_one();
            }
        }
    }
}

/// The outside agents of a router.
#[derive(Debug)]
pub(crate) struct OutsideAgents {
    max: AtomicUsize,
    grace_ms: AtomicU64,
    state: Mutex<State>,
    /// Another agent has no client any more.
    changed: Notify,
    /// The router has opened an agent's inbox, or refused to.
    opened: Notify,
}

#[derive(Debug, Default)]
struct State {
    agents: HashMap<AgentId, Slot>,
    /// Agents that lost their last client, each once, with the earliest end of its grace period.
    without_client: BTreeSet<(Instant, AgentId)>,
}

impl State {
    /// Removes an agent that is open, and lets its clients know.
    fn remove(&mut self, id: AgentId) -> Option<Slot> {
        let Some(Slot::Open(agent)) = self.agents.get(&id) else { return None };
        agent.is_gone.send_replace(true);
        agent.inbox.close();
        if let Some(ends) = agent.lock().watched_until.take() {
            self.without_client.remove(&(ends, id));
        }
        self.agents.remove(&id)
    }
}

/// What a client has of an agent that it registers.
enum Place {
    /// It is a client of an agent that is there.
    Attached(Attachment),
    /// It has the name, and nobody else.
    Reserved,
    /// Another client is registering it.
    Opening,
}

#[derive(Debug)]
enum Slot {
    /// The router has been asked.
    Opening,
    Open(Arc<OutsideAgent>),
}

impl OutsideAgents {
    pub(super) fn new(max: usize, grace: Duration) -> Self {
        let agents = Self {
            max: AtomicUsize::new(0),
            grace_ms: AtomicU64::new(0),
            state: Mutex::default(),
            changed: Notify::new(),
            opened: Notify::new(),
        };
        agents.set_limits(max, grace);
        agents
    }

    /// Sets the limits: of agents that are registered from now on, and of clients that disappear from now on.
    pub(super) fn set_limits(&self, max: usize, grace: Duration) {
        self.max.store(max, Ordering::Relaxed);
        self.grace_ms.store(u64::try_from(grace.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn grace(&self) -> Duration {
        Duration::from_millis(self.grace_ms.load(Ordering::Relaxed))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers an agent and attaches to it, or attaches to it if the same identity has registered it.
    ///
    /// # Errors
    ///
    /// The identity may not, somebody else has it, there are too many, or the router refuses.
    pub async fn register(
        self: &Arc<Self>,
        router: &Router,
        identity: &Identity,
        name: &AgentName,
        options: OutsideOptions,
    ) -> Result<Attachment, OutsideError> {
        check(identity, name)?;
        let id = AgentId::of(name);
        loop {
            let mut opened = std::pin::pin!(self.opened.notified());
            // From here on nothing is missed.
            opened.as_mut().enable();
            match self.reserve(identity, name, &options)? {
                Place::Attached(attachment) => return Ok(attachment),
                Place::Reserved => break,
                Place::Opening => opened.await,
            }
        }
        // Frees the name also when the future is dropped.
        let reserved = Reserved { agents: self, id };
        let mut builder = router.inbox(name.clone());
        for capability in &options.capabilities {
            builder = builder.offering(capability.clone());
        }
        // Without acknowledgements by clients, the doors acknowledge durable messages: over NATS those that were written
        // to the client, over HTTP those that were taken.
        builder = if options.acknowledged { builder.acknowledged() } else { builder.acknowledging_durable() };
        if options.persistent {
            builder = builder.persistent();
        }
        if let Some(policy) = options.overflow {
            builder = builder.overflow(policy);
        }
        let inbox = builder.open().await?;
        let clients = Mutex::new(Clients { attached: 0, gone_since: Instant::now(), watched_until: None });
        let owner = Arc::clone(identity.name());
        let agent = Arc::new(OutsideAgent {
            name: name.clone(),
            owner,
            options,
            inbox,
            clients,
            deliveries: Deliveries::default(),
            is_gone: watch::Sender::new(false),
        });
        self.lock().agents.insert(id, Slot::Open(Arc::clone(&agent)));
        let attachment = self.attach_to(&agent);
        // What is open is kept.
        drop(reserved);
        Ok(attachment)
    }

    /// Reserves a name, or attaches to the agent that has it.
    fn reserve(
        self: &Arc<Self>,
        identity: &Identity,
        name: &AgentName,
        options: &OutsideOptions,
    ) -> Result<Place, OutsideError> {
        let id = AgentId::of(name);
        let mut state = self.lock();
        if let Some(Slot::Open(agent)) = state.agents.get(&id)
            && agent.inbox.has_ended()
        {
            // The router has removed it, so that anybody can register its name.
            drop(state.remove(id));
        }
        let agents = state.agents.len();
        match state.agents.entry(id) {
            Entry::Occupied(slot) => {
                let Slot::Open(agent) = slot.get() else { return Ok(Place::Opening) };
                if agent.owner != *identity.name() {
                    return Err(OutsideError::Taken(name.clone()));
                }
                if agent.is_acknowledged() != options.acknowledged {
                    return Err(OutsideError::OtherMode(name.clone()));
                }
                Ok(Place::Attached(self.attach_to(agent)))
            }
            Entry::Vacant(_) if agents >= self.max.load(Ordering::Relaxed) => Err(OutsideError::TooMany { agents }),
            Entry::Vacant(slot) => {
                slot.insert(Slot::Opening);
                Ok(Place::Reserved)
            }
        }
    }

    /// Attaches to an agent that is registered, if this identity may act as it.
    ///
    /// # Errors
    ///
    /// The identity may not. `None` if the agent is not registered here.
    pub fn attach(self: &Arc<Self>, identity: &Identity, name: &AgentName) -> Result<Option<Attachment>, OutsideError> {
        check(identity, name)?;
        let found = match self.lock().agents.get(&AgentId::of(name)) {
            Some(Slot::Open(agent)) if !agent.is_gone() => Some(Arc::clone(agent)),
            _ => None,
        };
        match found {
            Some(agent) if agent.owner != *identity.name() => Err(OutsideError::Taken(name.clone())),
            Some(agent) => Ok(Some(self.attach_to(&agent))),
            None => Ok(None),
        }
    }

    fn attach_to(self: &Arc<Self>, agent: &Arc<OutsideAgent>) -> Attachment {
        agent.lock().attached += 1;
        Attachment { agent: Arc::clone(agent), agents: Arc::clone(self) }
    }

    /// Returns an agent by its name, unless the router has removed it.
    pub fn get(&self, name: &AgentName) -> Option<Arc<OutsideAgent>> {
        match self.lock().agents.get(&AgentId::of(name)) {
            Some(Slot::Open(agent)) if !agent.inbox.has_ended() => Some(Arc::clone(agent)),
            _ => None,
        }
    }

    /// Deregisters an agent, unless another one has its name by now. Its clients get nothing further, and its unprocessed
    /// messages are dead-lettered.
    pub fn deregister(&self, former: &Arc<OutsideAgent>) {
        let mut state = self.lock();
        let id = AgentId::of(&former.name);
        if matches!(state.agents.get(&id), Some(Slot::Open(agent)) if Arc::ptr_eq(agent, former)) {
            state.remove(id);
        }
    }

    /// Returns the number of agents.
    pub fn count(&self) -> usize {
        self.lock().agents.len()
    }

    /// Deregisters agents whose grace period is over, for as long as it is polled.
    pub(super) async fn deregister_abandoned(&self) {
        loop {
            let next = self.lock().without_client.first().map(|(ends, _)| *ends);
            match next {
                None => self.changed.notified().await,
                Some(ends) if ends > Instant::now() => tokio::time::sleep_until(ends.into()).await,
                Some(_) => drop(self.take_abandoned()),
            }
        }
    }

    /// Removes the agent whose grace period may have ended first. It stays if it has a client again; if that client has
    /// gone too, a new period has begun.
    fn take_abandoned(&self) -> Option<Slot> {
        let mut state = self.lock();
        let (ends, id) = state.without_client.pop_first()?;
        let Some(Slot::Open(agent)) = state.agents.get(&id) else { return None };
        let mut clients = agent.lock();
        let extended = clients.gone_since + self.grace();
        let is_watched = clients.attached == 0 && extended > ends;
        clients.watched_until = is_watched.then_some(extended);
        let is_attached = clients.attached > 0;
        drop(clients);
        if is_watched {
            state.without_client.insert((extended, id));
        }
        if is_watched || is_attached { None } else { state.remove(id) }
    }
}

/// Checks that an identity may receive what an agent gets.
fn check(identity: &Identity, name: &AgentName) -> Result<(), OutsideError> {
    if identity.may_receive_as(name) {
        return Ok(());
    }
    Err(OutsideError::Forbidden { identity: Arc::clone(identity.name()), agent: name.clone() })
}

/// A name while the router is asked. Dropping it frees the name, unless the agent is open by then.
struct Reserved<'a> {
    agents: &'a OutsideAgents,
    id: AgentId,
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        let mut state = self.agents.lock();
        if matches!(state.agents.get(&self.id), Some(Slot::Opening)) {
            state.agents.remove(&self.id);
        }
        drop(state);
        self.agents.opened.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Preset};

    #[test]
    fn clients_that_register_an_agent_at_the_same_time_share_it() {
        let router = Router::builder().config(Config::preset(Preset::Testing)).start().expect("it starts");
        let outside = Arc::new(OutsideAgents::new(10, Duration::from_mins(1)));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("it can be built");
        let name = "ann".parse().expect("it is a name");
        runtime.block_on(async {
            let identity = Identity::local();
            let register = || outside.register(&router, &identity, &name, OutsideOptions::default());
            // The first one is given up at once, unless the router is quicker than that.
            let given_up = async { drop(tokio::time::timeout(Duration::ZERO, register()).await) };
            let ((), second, third) = tokio::join!(given_up, register(), register());
            let (second, third) = (second.expect("it is registered"), third.expect("it is registered"));
            assert_eq!((outside.count(), second.agent().clients()), (1, 2));
            assert!(Arc::ptr_eq(second.agent(), third.agent()));
        });
        router.shutdown(Duration::from_mins(1)).expect("this is no shard's thread");
    }

    #[test]
    fn an_agent_that_is_deregistered_leaves_nothing_to_be_watched() {
        let router = Router::builder().config(Config::preset(Preset::Testing)).start().expect("it starts");
        let outside = Arc::new(OutsideAgents::new(10, Duration::from_mins(1)));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("it can be built");
        runtime.block_on(async {
            for (name, is_attached) in [("ann", false), ("bob", true)] {
                let name = name.parse().expect("it is a name");
                let registered = outside.register(&router, &Identity::local(), &name, OutsideOptions::default()).await;
                let mut attachment = Some(registered.expect("it is registered"));
                let agent = outside.get(&name).expect("it is registered");
                if !is_attached {
                    attachment = None;
                    assert_eq!(outside.lock().without_client.len(), 1);
                }
                outside.deregister(&agent);
                assert_eq!(outside.count(), 0);
                drop(attachment);
                assert!(outside.lock().without_client.is_empty(), "{name}");
            }
        });
        router.shutdown(Duration::from_mins(1)).expect("this is no shard's thread");
    }
}
