//! The bounded values that configure the router and name things in it.
//!
//! A value of one of these types is valid: the only way to make one is to pass its check, so code that holds a
//! [`MailboxCapacity`] never asks again whether it is zero. Every check fails with the same [`DomainError`], which
//! names the field, the value and what is allowed, and nothing changes when it does.
//!
//! A number is made with `try_new`, `TryFrom` or, from text, `FromStr`; its limits are the associated constants
//! `MINIMUM` and `MAXIMUM`. Units are part of the type's name or of its documentation.

mod error;
mod names;

pub use error::{DomainError, ERROR_VALUE_CHARACTERS_MAX, Fault};
pub use names::{
    AGENT_NAME_BYTES_MAX, AgentName, CAPABILITY_NAME_CHARACTERS_MAX, CapabilityName, PLATFORM_NAME_BYTES_MAX,
    PlatformName,
};

use nutype::nutype;
use std::cmp::Ordering;
use std::fmt;
use std::num::IntErrorKind;
use std::str::FromStr;
use std::time::Duration;

/// Declares a whole number with limits: the nutype, its limits as constants, and how it is read from text.
macro_rules! whole_number {
    (
        $(#[$documentation:meta])*
        $name:ident($inner:ident): $field:literal, $minimum:literal to $maximum:literal $unit:literal
        $(, $default_trait:ident = $default:literal)?
    ) => {
        $(#[$documentation])*
        #[nutype(
            validate(with = $name::check, error = DomainError),
            $(default = $default,)?
            derive(
                Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Display, AsRef, Deref, Into, TryFrom
                $(, $default_trait)?
            )
        )]
        pub struct $name($inner);

        impl $name {
            /// The smallest value accepted.
            pub const MINIMUM: $inner = $minimum;
            /// The largest value accepted.
            pub const MAXIMUM: $inner = $maximum;
            /// What the value is called in errors.
            pub const FIELD: &'static str = $field;
            /// What is accepted, in words and with the unit.
            pub fn allowed() -> String {
                allowed_range(Self::MINIMUM, Self::MAXIMUM, $unit)
            }

            fn check(value: &$inner) -> Result<(), DomainError> {
                check_range(Self::FIELD, *value, Self::MINIMUM, Self::MAXIMUM, $unit)
            }
        }

        impl FromStr for $name {
            type Err = DomainError;

            /// Reads a decimal number without unit, sign or separators.
            fn from_str(text: &str) -> Result<Self, DomainError> {
                let text = text.trim();
                match text.parse::<$inner>() {
                    Ok(value) => Self::try_new(value),
                    Err(error) => Err(whole_number_error(Self::FIELD, text, *error.kind(), Self::allowed())),
                }
            }
        }
    };
}

/// Adds the conversion that sizes of buffers need; only for types that fit into `usize` on every 32-bit target.
macro_rules! usable_as_size {
    ($($name:ident),+ $(,)?) => {
        $(impl $name {
            /// The value as a count of elements.
            pub fn as_usize(self) -> usize {
                self.into_inner() as usize
            }
        })+
    };
}

/// Adds the conversion to a span of time.
macro_rules! usable_as_duration {
    ($($name:ident: $from_unit:ident),+ $(,)?) => {
        $(impl $name {
            /// The value as a span of time.
            pub fn as_duration(self) -> Duration {
                Duration::$from_unit(u64::from(self.into_inner()))
            }
        })+
    };
}

fn check_range<Number>(
    field: &'static str,
    value: Number,
    minimum: Number,
    maximum: Number,
    unit: &str,
) -> Result<(), DomainError>
where
    Number: PartialOrd + fmt::Display + Copy,
{
    if (minimum..=maximum).contains(&value) {
        Ok(())
    } else {
        Err(DomainError::out_of_range(field, value, allowed_range(minimum, maximum, unit)))
    }
}

fn allowed_range<Number: fmt::Display>(minimum: Number, maximum: Number, unit: &str) -> String {
    let separator = if unit.is_empty() { "" } else { " " };
    format!("{minimum} to {maximum}{separator}{unit}")
}

/// Tells a number that is too large or negative, which is out of range, from text that is no number at all.
fn whole_number_error(field: &'static str, text: &str, kind: IntErrorKind, allowed: String) -> DomainError {
    let negative = text
        .strip_prefix('-')
        .is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()));
    match kind {
        IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => DomainError::out_of_range(field, text, allowed),
        _ if negative => DomainError::out_of_range(field, text, allowed),
        _ => DomainError::not_a_number(field, text, allowed),
    }
}

whole_number! {
    /// How many messages one agent's mailbox holds: 1 to 100,000 messages.
    MailboxCapacity(u32): "mailbox capacity", 1 to 100_000 "messages"
}

whole_number! {
    /// How many bytes of messages one agent's mailbox holds: 1 KiB to 4 GiB, in bytes.
    MailboxBytes(u64): "mailbox bytes", 1_024 to 4_294_967_296 "bytes"
}

whole_number! {
    /// How many bytes of messages a router holds in all, in mailboxes, outboxes and delays: 1 MiB to 16 TiB, in bytes.
    MemoryBudget(u64): "memory budget", 1_048_576 to 17_592_186_044_416 "bytes"
}

whole_number! {
    /// How many messages may wait on the way from outside threads into one shard: 1 to 1,000,000 messages.
    ChannelCapacity(u32): "channel capacity", 1 to 1_000_000 "messages"
}

whole_number! {
    /// How many messages may be under way from one shard to another: 1 to 1,000,000 messages for each ordered pair.
    RingCapacity(u32): "ring capacity", 1 to 1_000_000 "messages"
}

whole_number! {
    /// How many shards, and so cores, a router runs on: 1 to 1,024 shards.
    ///
    /// The maximum is the number of partition buckets: a further shard would own none.
    ShardCount(u16): "shard count", 1 to 1_024 "shards"
}

whole_number! {
    /// How many messages are handed to one agent in one batch: 1 to 10,000 messages.
    BatchSize(u32): "batch size", 1 to 10_000 "messages"
}

whole_number! {
    /// How long a message may take from admission to the end of its handling: 1,000 to 300,000 milliseconds.
    MessageTimeoutMs(u32): "message timeout", 1_000 to 300_000 "milliseconds"
}

whole_number! {
    /// How long one message may wait for its handler: 1 to 300,000 milliseconds, by default the longest.
    ///
    /// It may be shorter than what a router can be configured with for all messages, because a handler passes on what
    /// is left of another message's time.
    LifetimeMs(u32): "lifetime", 1 to 300_000 "milliseconds", Default = 300_000
}

impl From<MessageTimeoutMs> for LifetimeMs {
    fn from(timeout: MessageTimeoutMs) -> Self {
        // What is allowed for all messages is allowed for one.
        Self::try_new(timeout.into_inner()).unwrap_or_default()
    }
}

whole_number! {
    /// How long a conversation may stay without a message: 1,000 to 86,400,000 milliseconds (a second to a day).
    ConversationTimeoutMs(u32): "conversation timeout", 1_000 to 86_400_000 "milliseconds"
}

whole_number! {
    /// How long a router that is told to stop goes on handling what is there: 0 to 3,600,000 milliseconds (an hour).
    ShutdownDeadlineMs(u32): "shutdown deadline", 0 to 3_600_000 "milliseconds"
}

whole_number! {
    /// How long a call of the embedding API waits for its shard: 1 to 3,600,000 milliseconds (an hour).
    CallTimeoutMs(u32): "call timeout", 1 to 3_600_000 "milliseconds"
}

whole_number! {
    /// How many agents may take part in one conversation: 1 to 10,000 agents, by default 100.
    MaxParticipants(u16): "maximum of participants", 1 to 10_000 "agents", Default = 100
}

whole_number! {
    /// How often a failed delivery is tried again after the first attempt: 0 to 100 retries.
    RetryCount(u8): "retry count", 0 to 100 "retries"
}

whole_number! {
    /// How long the first retry waits: 1 to 3,600,000 milliseconds.
    BackoffDelayMs(u32): "backoff delay", 1 to 3_600_000 "milliseconds"
}

whole_number! {
    /// How often an agent that fails may be restarted within the window: 0 to 10,000 restarts. Zero stops it at once.
    RestartCount(u16): "restart count", 0 to 10_000 "restarts"
}

whole_number! {
    /// The window in which an agent's restarts are counted: 1 to 86,400,000 milliseconds (a day).
    RestartWindowMs(u32): "restart window", 1 to 86_400_000 "milliseconds"
}

whole_number! {
    /// How long an agent that failed waits before it is restarted: 0 (not at all) to 60,000 milliseconds.
    RestartDelayMs(u32): "restart delay", 0 to 60_000 "milliseconds"
}

whole_number! {
    /// How many failed or slow calls of an agent open its circuit breaker: 0 to 1,000 calls, by default 0.
    ///
    /// At zero, calls of that kind never open it.
    BreakerThreshold(u16): "breaker threshold", 0 to 1_000 "calls", Default = 0
}

whole_number! {
    /// How long a failed or slow call counts: 100 to 3,600,000 milliseconds, by default 10,000.
    BreakerWindowMs(u32): "breaker window", 100 to 3_600_000 "milliseconds", Default = 10_000
}

whole_number! {
    /// How long a call takes that counts as slow: 1 to 60,000 milliseconds, by default 1,000.
    SlowCallMs(u32): "slow call time", 1 to 60_000 "milliseconds", Default = 1_000
}

whole_number! {
    /// How long a circuit breaker stays open: 10 to 3,600,000 milliseconds, by default 1,000.
    BreakerDelayMs(u32): "breaker delay", 10 to 3_600_000 "milliseconds", Default = 1_000
}

whole_number! {
    /// How many messages a half-open circuit breaker tries an agent with: 1 to 1,000 messages, by default 1.
    ProbeCount(u16): "probe count", 1 to 1_000 "messages", Default = 1
}

whole_number! {
    /// How large the content of one message may be: 0 to 1,073,741,824 bytes (1 GiB), by default 10 MiB.
    ///
    /// Zero admits only messages without content.
    ContentLimit(u32): "content limit", 0 to 1_073_741_824 "bytes", Default = 10_485_760
}

whole_number! {
    /// How many past messages a conversation remembers: 0 to 1,024 messages.
    HistoryLength(u16): "history length", 0 to 1_024 "messages"
}

whole_number! {
    /// How many messages one agent may handle before its neighbours get their turn: 1 to 10,000 messages.
    TurnQuota(u32): "turn quota", 1 to 10_000 "messages"
}

whole_number! {
    /// How many dead letters one shard keeps: 1 to 10,000,000 messages.
    DeadLetterCapacity(u32): "dead letter capacity", 1 to 10_000_000 "messages"
}

whole_number! {
    /// How many bytes of dead letters one shard keeps: 1 KiB to 1 TiB, in bytes.
    DeadLetterBytes(u64): "dead letter bytes", 1_024 to 1_099_511_627_776 "bytes"
}

whole_number! {
    /// How large one file of a journal is: 64 KiB to 1 GiB, in bytes. It is rounded up to a multiple of 4 KiB.
    SegmentBytes(u64): "segment size", 65_536 to 1_073_741_824 "bytes"
}

whole_number! {
    /// How many files the journal of one shard has at most: 3 to 10,000 files.
    SegmentCount(u32): "segment count", 3 to 10_000 "files"
}

whole_number! {
    /// How long a durable message may take: 1,000 milliseconds to 30 days.
    DurableLifetimeMs(u32): "durable lifetime", 1_000 to 2_592_000_000 "milliseconds"
}

whole_number! {
    /// Of how many durable messages a shard remembers the ids: 0 to 10,000,000 messages.
    DuplicatesWindow(u32): "duplicates window", 0 to 10_000_000 "messages"
}

whole_number! {
    /// Of how many steps of conversations a shard's database keeps the history: 0 to 100,000,000 steps.
    HistoryRows(u32): "history rows", 0 to 100_000_000 "steps"
}

whole_number! {
    /// How many WebAssembly guests run at a time: 1 to 100,000 guests.
    GuestCount(u32): "guest count", 1 to 100_000 "guests"
}

whole_number! {
    /// How much memory one guest may have: 64 KiB to 4 GiB, in bytes.
    GuestMemoryBytes(u64): "guest memory", 65_536 to 4_294_967_296 "bytes"
}

whole_number! {
    /// How many elements the tables of one guest may have: 0 to 1,000,000 elements.
    GuestTableElements(u32): "guest table", 0 to 1_000_000 "elements"
}

whole_number! {
    /// How large a WebAssembly module may be: 1 KiB to 1 GiB, in bytes.
    ModuleBytes(u64): "module", 1_024 to 1_073_741_824 "bytes"
}

whole_number! {
    /// How many functions a WebAssembly module may define: 1 to 1,000,000 functions.
    ModuleFunctions(u32): "functions of a module", 1 to 1_000_000 "functions"
}

whole_number! {
    /// How large one function of a WebAssembly module may be: 1 KiB to 8 MiB, in bytes.
    FunctionBytes(u32): "function", 1_024 to 8_388_608 "bytes"
}

whole_number! {
    /// How deep the blocks of a WebAssembly function may nest: 16 to 100,000 blocks.
    BlockDepth(u32): "nested blocks", 16 to 100_000 "blocks"
}

whole_number! {
    /// How many modules, components and instances a WebAssembly component may hold: 1 to 10,000 of each.
    ComponentParts(u32): "parts of a component", 1 to 10_000 "parts"
}

whole_number! {
    /// How deep the calls of a guest may nest: 64 KiB to 16 MiB of stack, in bytes.
    GuestStackBytes(u64): "guest stack", 65_536 to 16_777_216 "bytes"
}

whole_number! {
    /// How long a guest runs before its neighbours get their turn: 1 to 1,000 milliseconds.
    GuestSliceMs(u32): "guest slice", 1 to 1_000 "milliseconds"
}

whole_number! {
    /// How long a guest may run for one message, in all its slices: 1 millisecond to 1 hour.
    GuestCallMs(u32): "guest call time", 1 to 3_600_000 "milliseconds"
}

whole_number! {
    /// How often a guest may call the router for one message: 1 to 1,000,000 calls.
    HostCallCount(u32): "host calls", 1 to 1_000_000 "calls"
}

whole_number! {
    /// How long the content of a message from a guest may be: 0 to 64 MiB, in bytes.
    GuestMessageBytes(u64): "guest message", 0 to 67_108_864 "bytes"
}

whole_number! {
    /// How much a guest may have the router remember for it: 0 to 16 MiB, in bytes.
    GuestStateBytes(u64): "guest state", 0 to 16_777_216 "bytes"
}

whole_number! {
    /// How many lines a guest may log in a second: 0 to 1,000,000 lines.
    LogRate(u32): "log rate", 0 to 1_000_000 "lines per second"
}

whole_number! {
    /// How many conversations may be open on one shard: 1 to 100,000,000 conversations.
    ConversationCapacity(u32): "conversation capacity", 1 to 100_000_000 "conversations"
}

whole_number! {
    /// How many messages an agent may have sent that are still waiting to leave: 1 to 100,000 messages.
    OutboxCapacity(u32): "outbox capacity", 1 to 100_000 "messages"
}

whole_number! {
    /// How many messages one shard may hold in all: 1 to 100,000,000 messages.
    PendingCapacity(u32): "pending capacity", 1 to 100_000_000 "messages"
}

whole_number! {
    /// How long an idle shard watches its rings before it parks: 0 to 1,000,000 microseconds.
    ///
    /// A shard that spins answers within a microsecond and burns its core; a parked one takes about 150 microseconds
    /// to wake.
    SpinMicroseconds(u32): "spin time", 0 to 1_000_000 "microseconds"
}

whole_number! {
    /// Which router of a cluster this is: 0 to 65,535, by default 0. It is part of every message id.
    NodeId(u16): "node id", 0 to 65_535 "", Default = 0
}

whole_number! {
    /// How many descriptions of registered agents `ams` and `df` keep each: 0 to 10,000,000 descriptions.
    DescriptionCapacity(u32): "description capacity", 0 to 10_000_000 "descriptions"
}

whole_number! {
    /// How many subscriptions `df` keeps: 0 to 1,000,000 subscriptions.
    SubscriptionCapacity(u32): "subscription capacity", 0 to 1_000_000 "subscriptions"
}

usable_as_size! {
    ModuleFunctions, FunctionBytes, BlockDepth, ComponentParts, GuestTableElements, DescriptionCapacity, SubscriptionCapacity, SegmentCount, DuplicatesWindow, HistoryRows,
    MailboxCapacity, ChannelCapacity, RingCapacity, ShardCount, BatchSize, MaxParticipants, RetryCount, RestartCount,
    ContentLimit, HistoryLength, TurnQuota, DeadLetterCapacity, ConversationCapacity, OutboxCapacity,
    PendingCapacity
}

usable_as_duration! {
    MessageTimeoutMs: from_millis, ConversationTimeoutMs: from_millis, BackoffDelayMs: from_millis,
    RestartWindowMs: from_millis, RestartDelayMs: from_millis, SlowCallMs: from_millis,
    ShutdownDeadlineMs: from_millis, CallTimeoutMs: from_millis, SpinMicroseconds: from_micros
}

/// Declares a number with a fraction and limits: the nutype, its limits as constants, and how it is read from text.
macro_rules! real_number {
    ($(#[$documentation:meta])* $name:ident: $field:literal, $minimum:literal to $maximum:literal) => {
        $(#[$documentation])*
        #[nutype(
            validate(with = $name::check, error = DomainError),
            derive(Debug, Clone, Copy, PartialEq, Display, AsRef, Deref, Into, TryFrom)
        )]
        pub struct $name(f64);

        impl $name {
            /// The smallest value accepted.
            pub const MINIMUM: f64 = $minimum;
            /// The largest value accepted.
            pub const MAXIMUM: f64 = $maximum;
            /// What the value is called in errors.
            pub const FIELD: &'static str = $field;

            /// What is accepted, in words.
            pub fn allowed() -> String {
                allowed_range(Self::MINIMUM, Self::MAXIMUM, "")
            }

            fn check(value: &f64) -> Result<(), DomainError> {
                check_range(Self::FIELD, *value, Self::MINIMUM, Self::MAXIMUM, "")
            }
        }

        /// The range has no NaN in it, so equality is total.
        impl Eq for $name {}

        impl PartialOrd for $name {
            fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
                Some(self.cmp(other))
            }
        }

        impl Ord for $name {
            fn cmp(&self, other: &Self) -> Ordering {
                self.into_inner().total_cmp(&other.into_inner())
            }
        }

        impl FromStr for $name {
            type Err = DomainError;

            /// Reads a decimal number such as `1.5`.
            fn from_str(text: &str) -> Result<Self, DomainError> {
                let text = text.trim();
                match text.parse::<f64>() {
                    Ok(value) => Self::try_new(value),
                    Err(_) => Err(DomainError::not_a_number(Self::FIELD, text, Self::allowed())),
                }
            }
        }
    };
}

real_number! {
    /// By how much the wait grows from one retry to the next: 1.0 (it stays the same) to 10.0, without unit.
    BackoffFactor: "backoff factor", 1.0 to 10.0
}

real_number! {
    /// How far a wait strays from what was set, either way, as a fraction of it: 0.0 (not at all) to 1.0 (anything from
    /// nothing to twice as long), without unit.
    BackoffJitter: "backoff jitter", 0.0 to 1.0
}

/// The lane of a mailbox in which a message waits. A higher lane is always served first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(u8)]
pub enum Priority {
    /// Served when no other lane has a message.
    Low = 0,
    /// Where messages wait unless the sender says otherwise.
    #[default]
    Normal = 1,
    /// Served before normal messages.
    High = 2,
    /// Served before everything else that agents send.
    Urgent = 3,
}

impl Priority {
    /// How many lanes there are.
    pub const LANES: usize = Self::ALL.len();

    /// Every lane, the lowest first.
    pub const ALL: [Self; 4] = [Self::Low, Self::Normal, Self::High, Self::Urgent];

    /// The lane's place in [`Priority::ALL`], for tables with one entry per lane.
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The lane's name, as [`FromStr`] reads it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Normal => "normal",
            Self::High => "high",
            Self::Urgent => "urgent",
        }
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

impl FromStr for Priority {
    type Err = DomainError;

    /// Reads a lane's name in any case.
    fn from_str(text: &str) -> Result<Self, DomainError> {
        Self::ALL
            .into_iter()
            .find(|priority| priority.name().eq_ignore_ascii_case(text.trim()))
            .ok_or_else(|| DomainError::not_allowed("priority", text, "low, normal, high or urgent"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks both edges of a numeric type, just inside and just outside, as a number and as text.
    macro_rules! check_edges {
        ($($name:ident: $below:literal, $minimum:literal to $maximum:literal, $above:literal, $allowed:literal;)+) => {
            $(
                for (text, accepted) in
                    [($below, false), ($minimum, true), ($maximum, true), ($above, false)]
                {
                    let name = stringify!($name);
                    match text.parse::<$name>() {
                        Ok(value) => {
                            assert!(accepted, "{name} accepts {text}");
                            assert_eq!(value.to_string(), text, "{name} prints what it read");
                            assert_eq!($name::try_from(value.into_inner()), Ok(value), "{name} from a number");
                        }
                        Err(error) => {
                            assert!(!accepted, "{name} refuses {text}: {error}");
                            let field = $name::FIELD;
                            assert_eq!(
                                error.to_string(),
                                format!("{field} {text} is out of range: allowed is {}", $allowed)
                            );
                            if let Ok(number) = text.parse() {
                                assert_eq!($name::try_new(number), Err(error), "{name}: same error for a number");
                            }
                        }
                    }
                    assert!("".parse::<$name>().is_err(), "{name} refuses nothing at all");
                    assert!("many".parse::<$name>().is_err(), "{name} refuses words");
                }
                assert_eq!($name::MINIMUM.to_string(), $minimum);
                assert_eq!($name::MAXIMUM.to_string(), $maximum);
                assert_eq!($name::allowed(), $allowed);
            )+
        };
    }

    #[test]
    fn every_number_has_its_limits() {
        check_edges! {
            MailboxCapacity: "0", "1" to "100000", "100001", "1 to 100000 messages";
            MailboxBytes: "1023", "1024" to "4294967296", "4294967297", "1024 to 4294967296 bytes";
            ChannelCapacity: "0", "1" to "1000000", "1000001", "1 to 1000000 messages";
            RingCapacity: "0", "1" to "1000000", "1000001", "1 to 1000000 messages";
            ShardCount: "0", "1" to "1024", "1025", "1 to 1024 shards";
            BatchSize: "0", "1" to "10000", "10001", "1 to 10000 messages";
            MessageTimeoutMs: "999", "1000" to "300000", "300001", "1000 to 300000 milliseconds";
            ConversationTimeoutMs: "999", "1000" to "86400000", "86400001", "1000 to 86400000 milliseconds";
            ShutdownDeadlineMs: "-1", "0" to "3600000", "3600001", "0 to 3600000 milliseconds";
            CallTimeoutMs: "0", "1" to "3600000", "3600001", "1 to 3600000 milliseconds";
            MaxParticipants: "0", "1" to "10000", "10001", "1 to 10000 agents";
            RetryCount: "-1", "0" to "100", "101", "0 to 100 retries";
            RestartCount: "-1", "0" to "10000", "10001", "0 to 10000 restarts";
            RestartWindowMs: "0", "1" to "86400000", "86400001", "1 to 86400000 milliseconds";
            RestartDelayMs: "-1", "0" to "60000", "60001", "0 to 60000 milliseconds";
            BackoffFactor: "0.99", "1" to "10", "10.01", "1 to 10";
            BackoffJitter: "-0.01", "0" to "1", "1.01", "0 to 1";
            BreakerThreshold: "-1", "0" to "1000", "1001", "0 to 1000 calls";
            BreakerWindowMs: "99", "100" to "3600000", "3600001", "100 to 3600000 milliseconds";
            SlowCallMs: "0", "1" to "60000", "60001", "1 to 60000 milliseconds";
            BreakerDelayMs: "9", "10" to "3600000", "3600001", "10 to 3600000 milliseconds";
            ProbeCount: "0", "1" to "1000", "1001", "1 to 1000 messages";
            BackoffDelayMs: "0", "1" to "3600000", "3600001", "1 to 3600000 milliseconds";
            ContentLimit: "-1", "0" to "1073741824", "1073741825", "0 to 1073741824 bytes";
            HistoryLength: "-1", "0" to "1024", "1025", "0 to 1024 messages";
            TurnQuota: "0", "1" to "10000", "10001", "1 to 10000 messages";
            DeadLetterCapacity: "0", "1" to "10000000", "10000001", "1 to 10000000 messages";
            DeadLetterBytes: "1023", "1024" to "1099511627776", "1099511627777", "1024 to 1099511627776 bytes";
            ConversationCapacity: "0", "1" to "100000000", "100000001", "1 to 100000000 conversations";
            OutboxCapacity: "0", "1" to "100000", "100001", "1 to 100000 messages";
            PendingCapacity: "0", "1" to "100000000", "100000001", "1 to 100000000 messages";
            SpinMicroseconds: "-1", "0" to "1000000", "1000001", "0 to 1000000 microseconds";
            NodeId: "-1", "0" to "65535", "65536", "0 to 65535";
        }
    }

    #[test]
    fn an_error_names_field_value_and_limits() {
        let error = MailboxCapacity::try_new(0).expect_err("zero is refused");
        assert_eq!(error.to_string(), "mailbox capacity 0 is out of range: allowed is 1 to 100000 messages");

        let error = "a few".parse::<MailboxCapacity>().expect_err("words are refused");
        assert_eq!(error.to_string(), "mailbox capacity \"a few\" is not a number: allowed is 1 to 100000 messages");
    }

    #[test]
    fn defaults_are_as_documented() {
        assert_eq!(MaxParticipants::default().into_inner(), 100);
        assert_eq!(ContentLimit::default().as_usize(), 10 * 1024 * 1024);
        assert_eq!(NodeId::default().into_inner(), 0);
        assert_eq!(Priority::default(), Priority::Normal);
    }

    #[test]
    fn times_become_durations_of_their_unit() {
        assert_eq!("1000".parse().map(MessageTimeoutMs::as_duration), Ok(Duration::from_secs(1)));
        assert_eq!("90000".parse().map(ConversationTimeoutMs::as_duration), Ok(Duration::from_secs(90)));
        assert_eq!("5".parse().map(BackoffDelayMs::as_duration), Ok(Duration::from_millis(5)));
        assert_eq!("50".parse().map(SpinMicroseconds::as_duration), Ok(Duration::from_micros(50)));
    }

    #[test]
    fn factor_and_jitter_refuse_what_is_not_finite() {
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0] {
            assert!(BackoffFactor::try_new(value).is_err(), "{value}");
            assert!(BackoffJitter::try_new(value).is_err(), "{value}");
        }
        let [small, large] = [1.5, 2.0].map(|value| BackoffFactor::try_new(value).expect("it is in range"));
        assert!(small < large);
    }

    #[test]
    fn priorities_are_ordered_lanes_with_names() {
        for (place, priority) in Priority::ALL.into_iter().enumerate() {
            assert_eq!(priority.index(), place);
            assert_eq!(priority.to_string().parse(), Ok(priority));
            assert_eq!(priority.name().to_uppercase().parse(), Ok(priority));
        }
        assert!(Priority::ALL.is_sorted());
        assert_eq!(
            "high est".parse::<Priority>().expect_err("not a lane").to_string(),
            "priority \"high est\" is not allowed: allowed is low, normal, high or urgent"
        );
    }
}
