//! Options for opening an inbox: its agent's capabilities, and when a message counts as processed.

use caxton_shards::agent::Registration;
use caxton_shards::api::{Answer, InboxNumber, Input, OverflowPolicy, RegistrationError};
use caxton_shards::domain::{AgentName, CapabilityName, DomainError};
use caxton_shards::routing::partition::Placement;

use super::Router;
use super::calls::{new_call_with, no_room, not_on_a_shard, put};
use super::error::CallError;
use super::inbox::{Acknowledging, Inbox};

/// Number of messages that an inbox holds; further ones wait in the agent's mailbox.
pub const INBOX_WINDOW: u32 = 256;

/// An inbox to be opened, from [`Router::inbox`].
///
/// ```
/// use std::time::Duration;
///
/// use caxton_router::router::Router;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # futures_lite::future::block_on(async {
/// let router = Router::builder().start()?;
/// let inbox = router.inbox("clerk").offering("stamp").acknowledged().open().await?;
/// assert_eq!(router.discover(&"stamp".try_into()?).await?, [inbox.id()]);
/// # router.shutdown(Duration::from_secs(5))?;
/// # Ok(())
/// # })
/// # }
/// ```
#[must_use = "an inbox is there once it was opened"]
pub struct InboxBuilder {
    router: Router,
    number: InboxNumber,
    registration: Registration,
    acknowledging: Acknowledging,
}

impl Router {
    /// Returns a builder for an agent outside the shards that takes its messages from an [`Inbox`].
    ///
    /// An invalid name is refused when the inbox is opened.
    pub fn inbox(&self, name: impl TryInto<AgentName, Error: Into<DomainError>>) -> InboxBuilder {
        let number = self.shared().next_inbox();
        let registration = Registration::outside(name, number, INBOX_WINDOW);
        InboxBuilder { router: self.clone(), number, registration, acknowledging: Acknowledging::Nothing }
    }
}

impl InboxBuilder {
    /// Adds a capability of the agent. An invalid name is refused when the inbox is opened.
    pub fn offering(mut self, capability: impl TryInto<CapabilityName, Error: Into<DomainError>>) -> Self {
        self.registration = self.registration.offering(capability);
        self
    }

    /// Sets the overflow policy of the agent's mailbox, instead of the router's own.
    pub fn overflow(mut self, policy: OverflowPolicy) -> Self {
        self.registration = self.registration.overflow(policy);
        self
    }

    /// Makes the agent persistent if the router has a store: see [`Registration::persistent`].
    pub fn persistent(mut self) -> Self {
        self.registration = self.registration.persistent();
        self
    }

    /// Has the agent live on a certain shard: see [`Registration::placed`].
    pub fn placed(mut self, placement: Placement) -> Self {
        self.registration = self.registration.placed(placement);
        self
    }

    /// Has a message count as processed when the owner [acknowledges](Inbox::acknowledge) it, and not already when it is
    /// taken. At most [`INBOX_WINDOW`] messages are handed out and not acknowledged at a time, whichever they are; the
    /// rest wait in the agent's mailbox.
    ///
    /// Unacknowledged messages count as not taken. They are dead-lettered when the inbox is dropped. At a stop, and
    /// after a crash, durable ones are left to the next start and handed out again there.
    pub fn acknowledged(mut self) -> Self {
        self.acknowledging = Acknowledging::Everything;
        self
    }

    /// Has a durable message, and one whose sender wants a receipt, count as processed when the owner acknowledges it, as
    /// [`InboxBuilder::acknowledged`] has every message; all others are processed when they are taken, and cost nothing
    /// more.
    #[cfg(feature = "serve")]
    pub(crate) fn acknowledging_durable(mut self) -> Self {
        self.acknowledging = Acknowledging::Durable;
        self
    }

    /// Makes the agent the proxy of an agent of another node: see [`Registration::proxy`]. Messages that are durable,
    /// or whose senders want a receipt, have to be [acknowledged](Self::acknowledging_durable).
    #[cfg(feature = "cluster")]
    pub(crate) fn proxy(mut self) -> Self {
        self.registration = self.registration.proxy();
        self.acknowledging_durable()
    }

    /// Registers the agent and returns its inbox. Every shard knows the agent then.
    ///
    /// # Errors
    ///
    /// As for [`Router::register`].
    pub async fn open(self) -> Result<Inbox, CallError<RegistrationError>> {
        not_on_a_shard()?;
        let Self { router, number, mut registration, acknowledging } = self;
        if acknowledging != Acknowledging::Nothing {
            registration = registration.acknowledged();
        }
        let registration = registration.complete(router.shared().partition);
        let id = registration.id();
        let (shard, deadline) = (router.shared().partition.shard_of(id).as_usize(), router.deadline());
        let (inbox, link) = Inbox::new(router.clone(), (id, number), INBOX_WINDOW, acknowledging);
        let register = |token| Input::Register(vec![registration], token);
        let (caller, work) = new_call_with(router.shared(), shard, register, Some((number, link)));
        put(router.shared(), shard, work, || deadline).await.map_err(|(error, _)| no_room(error))?;
        match caller.answer(deadline).await? {
            Answer::Registered(mut results) => match results.pop() {
                Some(Ok(_)) => Ok(inbox),
                Some(Err(error)) => Err(CallError::Refused(error)),
                None => Err(CallError::Stopped),
            },
            _ => Err(CallError::Stopped),
        }
    }
}
