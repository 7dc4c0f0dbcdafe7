//! Deliberately planted bugs, which show that the simulators find them.
//!
//! Each [`Bug`] is at the very place of the engine where it could occur, as `planted::is(Bug::...)`. Without the
//! feature `planted-bugs`, which only tests enable, that is the constant `false` and costs nothing. With it, [`plant`]
//! activates one bug for the current thread. `tests/planted.rs` makes the simulators search for each of them:
//!
//! ```text
//! cargo test -p caxton-shards --features planted-bugs --test planted
//! ```
//!
//! It prints the seed by which each bug was found; to replay one, plant the bug and run that seed. A new bug is a
//! variant here, a line at its place and a line in the test with the number of seeds within which it has to be found.

macro_rules! bugs {
    ($($(#[$doc:meta])* $variant:ident = $name:literal;)+) => {
        /// A bug that can be planted.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum Bug {
            $($(#[$doc])* $variant,)+
        }

        #[cfg(feature = "planted-bugs")]
        impl Bug {
            /// All bugs.
            pub const ALL: [Self; [$($name),+].len()] = [$(Self::$variant),+];

            /// Returns the bug's name.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }
        }
    };
}

bugs! {
    /// A start recovers unsettled messages in reverse order.
    OrderReversedAtStart = "order-reversed-at-start";
    /// A start forgets the ids of earlier messages.
    HandledIdsForgotten = "handled-ids-forgotten";
    /// The deregistration of a persistent agent is not written to the journal.
    DeregisteredAgentReturns = "deregistered-agent-returns";
    /// A start does not rewrite the records of persistent agents.
    PersistentAgentForgotten = "persistent-agent-forgotten";
    /// A repeated durable message is dispatched again.
    DuplicateDispatched = "duplicate-dispatched";
    /// The credit of one in 5,000 messages placed into their mailbox is not returned.
    CreditLost = "credit-lost";
    /// The credit of a refused message is not returned.
    RefusedCreditLost = "refused-credit-lost";
    /// One in 100 processed messages is not counted.
    ProcessedNotCounted = "processed-not-counted";
    /// A durable message is acknowledged before its commit.
    AcknowledgedEarly = "acknowledged-early";
    /// A durable message is dispatched before its commit.
    DispatchedEarly = "dispatched-early";
    /// A durable message is settled before what its handler sent is durable.
    SettledEarly = "settled-early";
    /// An acknowledgement counts for two deliveries.
    AcknowledgedTwice = "acknowledged-twice";
    /// One in 20 acknowledgements from another shard is lost.
    AcknowledgementLost = "acknowledgement-lost";
    /// A shard that waits for credit is not woken.
    WakeUpLost = "wake-up-lost";
    /// The timer of one in 20 delayed messages is not armed.
    TimerLost = "timer-lost";
    /// A rewritten record is not marked as the successor of its earlier one.
    CarriedTwice = "carried-twice";
    /// A rewritten message loses its place in the order of messages.
    CarriedOutOfOrder = "carried-out-of-order";
    /// A message overtakes others in its sender's outbox.
    OutboxOvertaken = "outbox-overtaken";
    /// One in ten senders is not notified of its message's failure.
    FailureNotTold = "failure-not-told";
    /// A new dead letter declares those being replayed as gone.
    ReplayedLettersForgotten = "replayed-letters-forgotten";
    /// Conversations of an earlier run are checked as if nothing had been lost or sent before.
    RecoveredConversationsEnforced = "recovered-conversations-enforced";
    /// A message counts as a duplicate if another sender's message had the same id.
    ForeignIdsDeduplicated = "foreign-ids-deduplicated";
    /// Messages that handlers send because of two senders' messages with the same id also get the same id.
    ForeignIdsInherited = "foreign-ids-inherited";
    /// After a start, messages from outside without a sender belong to an agent that no longer exists.
    GatewayOfEarlierRun = "gateway-of-earlier-run";
    /// A start counts attempts from one again.
    AttemptsForgotten = "attempts-forgotten";
    /// A dead letter releases its message but is not written to the journal.
    DeadLetterNotKept = "dead-letter-not-kept";
    /// The id of a replayed message is derived from its dead letter's number, which changes with the number of shards.
    ReplayedIdByNumber = "replayed-id-by-number";
    /// A start treats a withdrawn message as handled.
    WithdrawnTakenForHandled = "withdrawn-taken-for-handled";
}

#[cfg(not(feature = "planted-bugs"))]
mod switch {
    use super::Bug;

    /// Whether this bug is planted: never.
    #[inline(always)]
    pub(crate) const fn is(_: Bug) -> bool {
        false
    }

    /// Whether this bug is planted and triggers: never.
    #[inline(always)]
    pub(crate) const fn strikes(_: Bug, _: u64, _: u64) -> bool {
        false
    }
}

#[cfg(feature = "planted-bugs")]
mod switch {
    use std::cell::Cell;

    use super::Bug;

    thread_local! {
        static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
    }

    /// Plants a bug in every shard that runs on this thread, or removes it.
    pub fn plant(bug: Option<Bug>) {
        PLANTED.set(bug);
    }

    pub(crate) fn is(bug: Bug) -> bool {
        PLANTED.get() == Some(bug)
    }

    /// Whether the bug is planted and triggers, which it does once in `times` cases, decided by a number that is the
    /// same in every run of a seed.
    pub(crate) fn strikes(bug: Bug, times: u64, number: u64) -> bool {
        is(bug) && crate::base::rng::mixed(number, 1).is_multiple_of(times)
    }
}

#[cfg(feature = "planted-bugs")]
pub use switch::plant;
pub(crate) use switch::{is, strikes};
