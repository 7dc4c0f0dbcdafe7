//! Bugs that are planted on purpose, so that the simulators can be seen to find them.
//!
//! Each [`Bug`] stands at the very place of the engine where it could be made, as `planted::is(Bug::...)`. Without the feature
//! `planted-bugs`, which nothing but a test turns on, that is the constant `false` and costs nothing. With it, [`plant`]
//! plants one bug for the present thread. `tests/planted.rs` has the simulators look for each of them:
//!
//! ```text
//! cargo test -p caxton-shards --features planted-bugs --test planted
//! ```
//!
//! It prints the seed by which each bug was found; to replay one, plant the bug and run that seed. A new bug is a variant
//! here, a line at its place and a line in the test with the number of seeds within which it has to be found.

macro_rules! bugs {
    ($($(#[$doc:meta])* $variant:ident = $name:literal;)+) => {
        /// A bug that can be planted.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum Bug {
            $($(#[$doc])* $variant,)+
        }

        #[cfg(feature = "planted-bugs")]
        impl Bug {
            /// All of them.
            pub const ALL: [Self; [$($name),+].len()] = [$(Self::$variant),+];

            /// Its name.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }
        }
    };
}

bugs! {
    /// A start takes unsettled messages over in the reverse order.
    OrderReversedAtStart = "order-reversed-at-start";
    /// A start forgets which messages came before.
    HandledIdsForgotten = "handled-ids-forgotten";
    /// That an agent was deregistered that outlives the process is not written down.
    DeregisteredAgentReturns = "deregistered-agent-returns";
    /// A start does not write down again which agents outlive the process.
    PersistentAgentForgotten = "persistent-agent-forgotten";
    /// A durable message that comes again is dispatched again.
    DuplicateDispatched = "duplicate-dispatched";
    /// The credit of one message in 5,000 that gets into its mailbox does not go back.
    CreditLost = "credit-lost";
    /// The credit of a message that is refused does not go back.
    RefusedCreditLost = "refused-credit-lost";
    /// One message in 100 that was processed is not counted.
    ProcessedNotCounted = "processed-not-counted";
    /// A durable message is acknowledged before its commit.
    AcknowledgedEarly = "acknowledged-early";
    /// A durable message is dispatched before its commit.
    DispatchedEarly = "dispatched-early";
    /// A durable message is settled before what its handler sent is durable.
    SettledEarly = "settled-early";
    /// An acknowledgement counts for two deliveries.
    AcknowledgedTwice = "acknowledged-twice";
    /// Acknowledgements that come from another shard are not heard, once in 20 times.
    AcknowledgementLost = "acknowledgement-lost";
    /// A shard that waits for credit is not woken for it.
    WakeUpLost = "wake-up-lost";
    /// The timer of one delayed message in 20 is not armed.
    TimerLost = "timer-lost";
    /// What is rewritten is not marked as the successor of its earlier record.
    CarriedTwice = "carried-twice";
    /// What is rewritten loses its place in the order of messages.
    CarriedOutOfOrder = "carried-out-of-order";
    /// A message overtakes what waits in its sender's outbox.
    OutboxOvertaken = "outbox-overtaken";
    /// One sender in ten does not hear of its message's failure.
    FailureNotTold = "failure-not-told";
    /// A new dead letter has those declared gone that are being replayed.
    ReplayedLettersForgotten = "replayed-letters-forgotten";
    /// What goes on in a conversation of an earlier run is held to its protocol as if nothing had been lost or said before.
    RecoveredConversationsEnforced = "recovered-conversations-enforced";
    /// A message is taken for one that has come before if another sender's message had its id.
    ForeignIdsDeduplicated = "foreign-ids-deduplicated";
    /// What handlers send because of two senders' messages under one id has one id as well.
    ForeignIdsInherited = "foreign-ids-inherited";
    /// What came from outside without a sender is, after a start, from an agent that there is no longer.
    GatewayOfEarlierRun = "gateway-of-earlier-run";
    /// A start counts attempts from one again.
    AttemptsForgotten = "attempts-forgotten";
    /// A dead letter releases its message and is not written down itself.
    DeadLetterNotKept = "dead-letter-not-kept";
    /// The id of a replayed message is derived from the number of its dead letter, which changes with the number of shards.
    ReplayedIdByNumber = "replayed-id-by-number";
    /// A start takes a message that was withdrawn for one that was handled.
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

    /// Whether this bug is planted and strikes: never.
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

    /// Plants a bug in every shard that runs on this thread, or takes it out again.
    pub fn plant(bug: Option<Bug>) {
        PLANTED.set(bug);
    }

    pub(crate) fn is(bug: Bug) -> bool {
        PLANTED.get() == Some(bug)
    }

    /// Whether the bug is planted and strikes, which it does once in so many `times`, as a number decides that is the same
    /// whenever the seed is run again.
    pub(crate) fn strikes(bug: Bug, times: u64, number: u64) -> bool {
        is(bug) && crate::base::rng::mixed(number, 1).is_multiple_of(times)
    }
}

#[cfg(feature = "planted-bugs")]
pub use switch::plant;
pub(crate) use switch::{is, strikes};
