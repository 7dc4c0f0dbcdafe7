//! Every number with limits, with its meaning and unit.

use super::DomainError;
use super::number::{
    allowed_range, check_range, real_number, usable_as_duration, usable_as_size, whole_number, whole_number_error,
};
use nutype::nutype;
use std::cmp::Ordering;
use std::str::FromStr;
use std::time::Duration;

whole_number! {
    /// Capacity of an agent's mailbox: 1 to 100,000 messages.
    MailboxCapacity(u32): "mailbox capacity", 1 to 100_000 "messages"
}

whole_number! {
    /// Size of an agent's mailbox: 1 KiB to 4 GiB, in bytes.
    MailboxBytes(u64): "mailbox bytes", 1_024 to 4_294_967_296 "bytes"
}

whole_number! {
    /// Size of all messages held by a router, in mailboxes, outboxes and delays: 1 MiB to 16 TiB, in bytes.
    MemoryBudget(u64): "memory budget", 1_048_576 to 17_592_186_044_416 "bytes"
}

whole_number! {
    /// Capacity of the channel from outside threads into one shard: 1 to 1,000,000 messages.
    ChannelCapacity(u32): "channel capacity", 1 to 1_000_000 "messages"
}

whole_number! {
    /// Capacity of the ring from one shard to another: 1 to 1,000,000 messages for each ordered pair.
    RingCapacity(u32): "ring capacity", 1 to 1_000_000 "messages"
}

whole_number! {
    /// Number of shards of a router, one per core: 1 to 1,024.
    ///
    /// The maximum is the number of partition buckets: a further shard would own none.
    ShardCount(u16): "shard count", 1 to 1_024 "shards"
}

whole_number! {
    /// Maximum number of messages passed to an agent in one batch: 1 to 10,000.
    BatchSize(u32): "batch size", 1 to 10_000 "messages"
}

whole_number! {
    /// Time limit for a message from admission to the end of its handling: 1,000 to 300,000 milliseconds.
    MessageTimeoutMs(u32): "message timeout", 1_000 to 300_000 "milliseconds"
}

whole_number! {
    /// Time limit for one message to reach its handler: 1 to 300,000 milliseconds, by default the longest.
    ///
    /// It may be shorter than [`MessageTimeoutMs`], because a handler passes on the remaining time of another message.
    LifetimeMs(u32): "lifetime", 1 to 300_000 "milliseconds", Default = 300_000
}

impl From<MessageTimeoutMs> for LifetimeMs {
    fn from(timeout: MessageTimeoutMs) -> Self {
        // The limits of a message timeout lie within those of a lifetime.
        Self::try_new(timeout.into_inner()).unwrap_or_default()
    }
}

whole_number! {
    /// Idle time after which a conversation times out: 1,000 to 86,400,000 milliseconds (a second to a day).
    ConversationTimeoutMs(u32): "conversation timeout", 1_000 to 86_400_000 "milliseconds"
}

whole_number! {
    /// Time for which a stopping router continues to handle pending messages: 0 to 3,600,000 milliseconds (an hour).
    ShutdownDeadlineMs(u32): "shutdown deadline", 0 to 3_600_000 "milliseconds"
}

whole_number! {
    /// Time for which a call of the embedding API waits for its shard: 1 to 3,600,000 milliseconds (an hour).
    CallTimeoutMs(u32): "call timeout", 1 to 3_600_000 "milliseconds"
}

whole_number! {
    /// Maximum number of participants of a conversation: 1 to 10,000 agents, by default 100.
    MaxParticipants(u16): "maximum of participants", 1 to 10_000 "agents", Default = 100
}

whole_number! {
    /// Number of retries after a failed first attempt: 0 to 100.
    RetryCount(u8): "retry count", 0 to 100 "retries"
}

whole_number! {
    /// Delay before the first retry: 1 to 3,600,000 milliseconds.
    BackoffDelayMs(u32): "backoff delay", 1 to 3_600_000 "milliseconds"
}

whole_number! {
    /// Maximum number of restarts of a failing agent within the restart window: 0 to 10,000. Zero stops it at once.
    RestartCount(u16): "restart count", 0 to 10_000 "restarts"
}

whole_number! {
    /// Window in which an agent's restarts are counted: 1 to 86,400,000 milliseconds (a day).
    RestartWindowMs(u32): "restart window", 1 to 86_400_000 "milliseconds"
}

whole_number! {
    /// Delay before a failed agent is restarted: 0 to 60,000 milliseconds.
    RestartDelayMs(u32): "restart delay", 0 to 60_000 "milliseconds"
}

whole_number! {
    /// Number of failed or slow calls that open an agent's circuit breaker: 0 to 1,000, by default 0.
    ///
    /// At zero, calls of that kind never open it.
    BreakerThreshold(u16): "breaker threshold", 0 to 1_000 "calls", Default = 0
}

whole_number! {
    /// Window in which failed and slow calls are counted: 100 to 3,600,000 milliseconds, by default 10,000.
    BreakerWindowMs(u32): "breaker window", 100 to 3_600_000 "milliseconds", Default = 10_000
}

whole_number! {
    /// Duration from which a call counts as slow: 1 to 60,000 milliseconds, by default 1,000.
    SlowCallMs(u32): "slow call time", 1 to 60_000 "milliseconds", Default = 1_000
}

whole_number! {
    /// Time for which a circuit breaker stays open: 10 to 3,600,000 milliseconds, by default 1,000.
    BreakerDelayMs(u32): "breaker delay", 10 to 3_600_000 "milliseconds", Default = 1_000
}

whole_number! {
    /// Number of probe messages of a half-open circuit breaker: 1 to 1,000, by default 1.
    ProbeCount(u16): "probe count", 1 to 1_000 "messages", Default = 1
}

whole_number! {
    /// Maximum size of a message's content: 0 to 1,073,741,824 bytes (1 GiB), by default 10 MiB.
    ///
    /// Zero admits only messages without content.
    ContentLimit(u32): "content limit", 0 to 1_073_741_824 "bytes", Default = 10_485_760
}

whole_number! {
    /// Number of past messages kept in a conversation's history: 0 to 1,024.
    HistoryLength(u16): "history length", 0 to 1_024 "messages"
}

whole_number! {
    /// Number of messages an agent may handle before other agents get their turn: 1 to 10,000.
    TurnQuota(u32): "turn quota", 1 to 10_000 "messages"
}

whole_number! {
    /// Number of dead letters kept by a shard: 1 to 10,000,000.
    DeadLetterCapacity(u32): "dead letter capacity", 1 to 10_000_000 "messages"
}

whole_number! {
    /// Size of the dead letters kept by a shard: 1 KiB to 1 TiB, in bytes.
    DeadLetterBytes(u64): "dead letter bytes", 1_024 to 1_099_511_627_776 "bytes"
}

whole_number! {
    /// Size of a journal segment: 64 KiB to 1 GiB, in bytes. It is rounded up to a multiple of 4 KiB.
    SegmentBytes(u64): "segment size", 65_536 to 1_073_741_824 "bytes"
}

whole_number! {
    /// Maximum number of segments of a shard's journal: 3 to 10,000.
    SegmentCount(u32): "segment count", 3 to 10_000 "files"
}

whole_number! {
    /// Lifetime of a durable message: 1,000 milliseconds to 30 days, in milliseconds.
    DurableLifetimeMs(u32): "durable lifetime", 1_000 to 2_592_000_000 "milliseconds"
}

whole_number! {
    /// Size of a shard's deduplication window for durable messages: 0 to 10,000,000 message ids.
    DuplicatesWindow(u32): "duplicates window", 0 to 10_000_000 "messages"
}

whole_number! {
    /// Number of conversation steps kept in a shard's database: 0 to 100,000,000.
    HistoryRows(u32): "history rows", 0 to 100_000_000 "steps"
}

whole_number! {
    /// Maximum number of running WebAssembly guests: 1 to 100,000.
    GuestCount(u32): "guest count", 1 to 100_000 "guests"
}

whole_number! {
    /// Maximum memory of a guest: 64 KiB to 4 GiB, in bytes.
    GuestMemoryBytes(u64): "guest memory", 65_536 to 4_294_967_296 "bytes"
}

whole_number! {
    /// Maximum size of a guest's tables: 0 to 1,000,000 elements.
    GuestTableElements(u32): "guest table", 0 to 1_000_000 "elements"
}

whole_number! {
    /// Maximum size of a WebAssembly module: 1 KiB to 1 GiB, in bytes.
    ModuleBytes(u64): "module", 1_024 to 1_073_741_824 "bytes"
}

whole_number! {
    /// Maximum number of functions in a WebAssembly module: 1 to 1,000,000.
    ModuleFunctions(u32): "functions of a module", 1 to 1_000_000 "functions"
}

whole_number! {
    /// Maximum size of a WebAssembly function: 1 KiB to 8 MiB, in bytes.
    FunctionBytes(u32): "function", 1_024 to 8_388_608 "bytes"
}

whole_number! {
    /// Maximum nesting depth of blocks in a WebAssembly function: 16 to 100,000.
    BlockDepth(u32): "nested blocks", 16 to 100_000 "blocks"
}

whole_number! {
    /// Maximum number of modules, components and instances in a WebAssembly component: 1 to 10,000 of each.
    ComponentParts(u32): "parts of a component", 1 to 10_000 "parts"
}

whole_number! {
    /// Size of a guest's stack: 64 KiB to 16 MiB, in bytes.
    GuestStackBytes(u64): "guest stack", 65_536 to 16_777_216 "bytes"
}

whole_number! {
    /// Time for which a guest runs before others get their turn: 1 to 1,000 milliseconds.
    GuestSliceMs(u32): "guest slice", 1 to 1_000 "milliseconds"
}

whole_number! {
    /// Time limit for a guest to handle one message, over all its slices: 1 millisecond to 1 hour, in milliseconds.
    GuestCallMs(u32): "guest call time", 1 to 3_600_000 "milliseconds"
}

whole_number! {
    /// Maximum number of host calls a guest may make for one message: 1 to 1,000,000.
    HostCallCount(u32): "host calls", 1 to 1_000_000 "calls"
}

whole_number! {
    /// Maximum content size of a message sent by a guest: 0 to 64 MiB, in bytes.
    GuestMessageBytes(u64): "guest message", 0 to 67_108_864 "bytes"
}

whole_number! {
    /// Maximum size of the state that the router stores for a guest: 0 to 16 MiB, in bytes.
    GuestStateBytes(u64): "guest state", 0 to 16_777_216 "bytes"
}

whole_number! {
    /// Maximum number of lines logged per second, by a guest or from one place in the code: 0 to 1,000,000.
    LogRate(u32): "log rate", 0 to 1_000_000 "lines per second"
}

whole_number! {
    /// Age from which a message is slow: 1 to 86,400,000 milliseconds.
    SlowMessageMs(u32): "slow message time", 1 to 86_400_000 "milliseconds"
}

whole_number! {
    /// Number of telemetry records per second: 1 to 100,000,000.
    RecordRate(u32): "record rate", 1 to 100_000_000 "records per second"
}

whole_number! {
    /// Maximum number of messages per second that are traced because of how they fare: 0 to 1,000,000.
    KeptRate(u32): "kept rate", 0 to 1_000_000 "messages per second"
}

whole_number! {
    /// Maximum number of connections of outside clients: 1 to 1,000,000.
    ConnectionCount(u32): "number of connections", 1 to 1_000_000 "connections"
}

whole_number! {
    /// Maximum number of agents that outside clients have registered: 1 to 1,000,000.
    OutsideAgentCount(u32): "number of outside agents", 1 to 1_000_000 "agents"
}

whole_number! {
    /// Maximum number of agents of other routers that a router knows: 1 to 1,000,000.
    RemoteAgentCount(u32): "number of remote agents", 1 to 1_000_000 "agents"
}

whole_number! {
    /// Time for which an outside agent stays registered without its client: 0 to 1 day, in milliseconds.
    OutsideGraceMs(u32): "grace period", 0 to 86_400_000 "milliseconds"
}

whole_number! {
    /// Time after which a connection that carries nothing is closed: 1 second to 1 day, in milliseconds.
    ConnectionIdleMs(u32): "idle time", 1_000 to 86_400_000 "milliseconds"
}

whole_number! {
    /// Number of requests per second: 0 to 10,000,000, where 0 means any number.
    RequestRate(u32): "request rate", 0 to 10_000_000 "requests per second"
}

whole_number! {
    /// Maximum number of open conversations on a shard: 1 to 100,000,000.
    ConversationCapacity(u32): "conversation capacity", 1 to 100_000_000 "conversations"
}

whole_number! {
    /// Capacity of an agent's outbox, the sent messages that have not left yet: 1 to 100,000 messages.
    OutboxCapacity(u32): "outbox capacity", 1 to 100_000 "messages"
}

whole_number! {
    /// Maximum number of messages held by a shard: 1 to 100,000,000.
    PendingCapacity(u32): "pending capacity", 1 to 100_000_000 "messages"
}

whole_number! {
    /// Time for which an idle shard polls its rings before it parks: 0 to 1,000,000 microseconds.
    ///
    /// A spinning shard reacts within a microsecond but keeps its core busy. One that naps, for up to 10 milliseconds, takes
    /// about 20 microseconds to wake, a parked one about 150.
    SpinMicroseconds(u32): "spin time", 0 to 1_000_000 "microseconds"
}

whole_number! {
    /// A router's number in its cluster: 0 to 65,535, by default 0. It is part of every message id.
    NodeId(u16): "node id", 0 to 65_535 "", Default = 0
}

whole_number! {
    /// Maximum number of agent descriptions kept by `ams` and by `df`: 0 to 10,000,000 each.
    DescriptionCapacity(u32): "description capacity", 0 to 10_000_000 "descriptions"
}

whole_number! {
    /// Maximum number of subscriptions kept by `df`: 0 to 1,000,000.
    SubscriptionCapacity(u32): "subscription capacity", 0 to 1_000_000 "subscriptions"
}

whole_number! {
    /// Time limit for one attempt to export telemetry: 1 ms to 10 minutes, in milliseconds.
    ExportTimeoutMs(u32): "export timeout", 1 to 600_000 "milliseconds"
}

whole_number! {
    /// Time between two exports of metrics: 100 ms to 1 hour, in milliseconds.
    MetricIntervalMs(u32): "metric interval", 100 to 3_600_000 "milliseconds"
}

whole_number! {
    /// Number of requests waiting to be exported: 1 to 100,000.
    ExportQueueRequests(u32): "export queue", 1 to 100_000 "requests"
}

whole_number! {
    /// Size of the requests waiting to be exported: 64 KiB to 4 GiB, in bytes.
    ExportQueueBytes(u64): "export queue bytes", 65_536 to 4_294_967_296 "bytes"
}

whole_number! {
    /// Size from which a file of telemetry is followed by the next: 1 KiB to 1 TiB, in bytes.
    ExportFileBytes(u64): "export file size", 1_024 to 1_099_511_627_776 "bytes"
}

whole_number! {
    /// Number of files of telemetry kept for each signal: 1 to 10,000.
    ExportFileCount(u32): "export files", 1 to 10_000 "files"
}

real_number! {
    /// Factor by which the delay grows from one retry to the next: 1.0 (constant) to 10.0, without unit.
    BackoffFactor: "backoff factor", 1.0 to 10.0
}

real_number! {
    /// Largest random deviation of a delay in either direction, as a fraction of it: 0.0 (none) to 1.0 (from zero to
    /// twice the delay), without unit.
    BackoffJitter: "backoff jitter", 0.0 to 1.0
}

real_number! {
    /// Part of all conversations that is traced: 0.0 (none) to 1.0 (all), without unit.
    SamplingRatio: "sampling ratio", 0.0 to 1.0
}

usable_as_size! {
    ModuleFunctions, FunctionBytes, BlockDepth, ComponentParts, GuestTableElements, DescriptionCapacity,
    SubscriptionCapacity, SegmentCount, DuplicatesWindow, HistoryRows, MailboxCapacity, ChannelCapacity, RingCapacity,
    ShardCount, BatchSize, MaxParticipants, RetryCount, RestartCount, ContentLimit, HistoryLength, TurnQuota,
    DeadLetterCapacity, ConversationCapacity, OutboxCapacity, PendingCapacity, ExportQueueRequests, ExportFileCount,
    ConnectionCount, OutsideAgentCount, RemoteAgentCount
}

usable_as_duration! {
    MessageTimeoutMs: from_millis, ConversationTimeoutMs: from_millis, BackoffDelayMs: from_millis,
    RestartWindowMs: from_millis, RestartDelayMs: from_millis, SlowCallMs: from_millis,
    ShutdownDeadlineMs: from_millis, CallTimeoutMs: from_millis, SpinMicroseconds: from_micros,
    ExportTimeoutMs: from_millis, MetricIntervalMs: from_millis, OutsideGraceMs: from_millis,
    ConnectionIdleMs: from_millis
}
