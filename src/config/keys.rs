//! The table of all keys: name, meaning, type, and value in each preset.

#[cfg(any(feature = "store", feature = "wasm"))]
use super::directory::Directory;
use super::files::FileList;
#[cfg(feature = "wasm")]
use super::plugins::{OnFailure, PluginFiles};
use super::protocols::ProtocolModes;
#[cfg(feature = "store")]
use super::store::Vfs;
use super::value::Setting;
#[cfg(feature = "wasm")]
use super::wasi::Grants;
use super::{Preset, Provenance, RingChoice, ShardChoice};
use caxton_shards::api::OverflowPolicy;
use caxton_shards::codec::text::Strictness;
use caxton_shards::domain::{
    BackoffDelayMs, BackoffFactor, BackoffJitter, BatchSize, BreakerDelayMs, BreakerThreshold, BreakerWindowMs,
    CallTimeoutMs, ChannelCapacity, ContentLimit, ConversationCapacity, ConversationTimeoutMs, DeadLetterBytes,
    DeadLetterCapacity, DescriptionCapacity, DomainError, HistoryLength, MailboxBytes, MailboxCapacity,
    MaxParticipants, MemoryBudget, MessageTimeoutMs, NodeId, OutboxCapacity, PendingCapacity, PlatformName, ProbeCount,
    RestartCount, RestartDelayMs, RestartWindowMs, RetryCount, ShutdownDeadlineMs, SlowCallMs, SpinMicroseconds,
    SubscriptionCapacity, TurnQuota,
};
#[cfg(feature = "wasm")]
use caxton_shards::domain::{
    BlockDepth, ComponentParts, FunctionBytes, GuestCallMs, GuestCount, GuestMemoryBytes, GuestMessageBytes,
    GuestSliceMs, GuestStackBytes, GuestStateBytes, GuestTableElements, HostCallCount, LogRate, ModuleBytes,
    ModuleFunctions,
};
#[cfg(feature = "store")]
use caxton_shards::domain::{DuplicatesWindow, DurableLifetimeMs, HistoryRows, SegmentBytes, SegmentCount};
use caxton_shards::protocol::Mode;
use std::sync::LazyLock;

/// One key of the configuration, with the access to its field.
pub(super) struct Key {
    pub section: &'static str,
    pub section_documentation: &'static str,
    pub name: &'static str,
    /// Section and name, such as `mailbox.messages`.
    pub path: &'static str,
    /// The first line of the documentation.
    pub documentation: &'static str,
    pub write: fn(&mut Config, &str) -> Result<(), DomainError>,
    /// The value as TOML.
    pub show: fn(&Config) -> String,
}

/// Makes the structures, the presets and [`KEYS`] from one table, so that they cannot disagree. A section of a Cargo feature
/// begins with it, and is not there without the feature.
macro_rules! configuration {
    ($(
        $(#[cfg(feature = $feature:literal)])?
        #[doc = $section_documentation:literal]
        $section:ident: $section_type:ident {
            $(
                #[doc = $documentation:literal]
                $(#[doc = $more_documentation:literal])*
                $key:ident: $type:ident = [$development:literal, $testing:literal, $production:literal];
            )+
        }
    )+) => {
        $(
            $(#[cfg(feature = $feature)])?
            #[doc = $section_documentation]
            #[derive(Debug, Clone, PartialEq, Eq)]
            pub struct $section_type {
                $(
                    #[doc = $documentation]
                    $(#[doc = $more_documentation])*
                    #[doc = concat!(
                        "\n\nDevelopment: ", $development, ", testing: ", $testing, ", production: ", $production, "."
                    )]
                    pub $key: $type,
                )+
            }
        )+

        /// Every setting of a router, each valid by its type.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct Config {
            $(
                $(#[cfg(feature = $feature)])?
                #[doc = $section_documentation]
                pub $section: $section_type,
            )+
            pub(super) provenance: Provenance,
        }

        impl Config {
            /// The values of a preset.
            pub fn preset(preset: Preset) -> Self {
                let column = preset as usize;
                let mut config = Self {
                    $(
                        $(#[cfg(feature = $feature)])?
                        $section: $section_type {
                            $($key: preset_value::<$type>([$development, $testing, $production][column]),)+
                        },
                    )+
                    provenance: Provenance::of_preset(preset, std::iter::empty()),
                };
                config.provenance = Provenance::of_preset(preset, KEYS.iter().map(|key| (key.show)(&config)));
                config
            }
        }

        /// Every key, in the order in which they are shown.
        pub(super) static KEYS: LazyLock<Vec<Key>> = LazyLock::new(|| {
            let mut keys = Vec::new();
            $(
                $(#[cfg(feature = $feature)])?
                keys.extend([$(
                    Key {
                        section: stringify!($section),
                        section_documentation: $section_documentation.trim_ascii(),
                        name: stringify!($key),
                        path: concat!(stringify!($section), ".", stringify!($key)),
                        documentation: $documentation.trim_ascii(),
                        write: |config, text| {
                            config.$section.$key = $type::read(text)?;
                            Ok(())
                        },
                        show: |config| config.$section.$key.show(),
                    },
                )+]);
            )+
            keys
        });

        /// Sections that this program has not, each with the Cargo feature that it belongs to.
        const ABSENT_SECTIONS: &[(&str, &str)] = &[
            $($(
                #[cfg(not(feature = $feature))]
                (stringify!($section), $feature),
            )?)+
        ];
    };
}

/// The Cargo feature that a section belongs to, if this program was built without it.
pub(super) fn absent_feature(section: &str) -> Option<&'static str> {
    ABSENT_SECTIONS.iter().find(|(absent, _)| *absent == section).map(|(_, feature)| *feature)
}

/// The place of a key in [`KEYS`].
pub(super) fn find(path: &str) -> Option<usize> {
    KEYS.iter().position(|key| key.path == path)
}

fn preset_value<Value: Setting>(text: &str) -> Value {
    Value::read(text).expect("a test reads every value of every preset")
}

configuration! {
    /// The router as a whole.
    router: RouterConfig {
        /// Which router of a cluster this is; it is part of every message id.
        node: NodeId = ["0", "0", "0"];
        /// How many shards run, each on a core of its own: auto, or a number. With a store, a core beyond them is the disk's.
        shards: ShardChoice = ["auto", "auto", "auto"];
        /// How long a call of the embedding API waits for its shard, unless its handle says otherwise: see `Router::within`.
        call_timeout_ms: CallTimeoutMs = ["300000", "60000", "60000"];
    }

    /// The way in from other threads.
    channel: ChannelConfig {
        /// How many messages may wait to enter one shard.
        capacity: ChannelCapacity = ["1000", "10000", "100000"];
    }

    /// What waits for one agent.
    mailbox: MailboxConfig {
        /// How many messages one mailbox holds.
        messages: MailboxCapacity = ["100", "1000", "10000"];
        /// How many bytes of messages one mailbox holds.
        bytes: MailboxBytes = ["1 MiB", "16 MiB", "64 MiB"];
        /// What happens to a message that finds a full mailbox: reject, back-pressure or drop-oldest.
        ///
        /// An agent's registration may say otherwise. Replies and the router's own notices are not subject to it.
        overflow: OverflowPolicy = ["reject", "reject", "reject"];
    }

    /// What the router may hold in all.
    memory: MemoryConfig {
        /// How many bytes of messages wait in mailboxes, outboxes and delays, evenly divided among the shards.
        budget: MemoryBudget = ["256 MiB", "128 MiB", "4 GiB"];
    }

    /// Limits of a single message.
    message: MessageConfig {
        /// How long a message may take from admission to the end of its handling, unless it says otherwise itself.
        timeout_ms: MessageTimeoutMs = ["10000", "5000", "30000"];
        /// How large the content of a message may be.
        content_bytes_max: ContentLimit = ["10 MiB", "10 MiB", "10 MiB"];
        /// Whether what goes beyond the letter of FIPA is read: lenient, if it has exactly one reading; or strict, refused.
        ///
        /// This decides about agents' names that are no words, user-defined parameters without X-, and strings that end in a
        /// backslash.
        reading: Strictness = ["lenient", "lenient", "lenient"];
        /// Whether what goes beyond the letter of FIPA is written: lenient, so that it reads back; or strict, refused.
        writing: Strictness = ["lenient", "lenient", "lenient"];
    }

    /// How a shard hands messages to its agents.
    delivery: DeliveryConfig {
        /// How many messages an agent is given in one batch.
        batch: BatchSize = ["10", "100", "1000"];
        /// How many messages an agent handles before its neighbours get their turn.
        turn_quota: TurnQuota = ["64", "100", "1000"];
        /// How many sent messages of one agent may wait to leave.
        outbox: OutboxCapacity = ["1024", "1024", "1024"];
        /// How many messages one shard holds in all, in mailboxes, outboxes and delays.
        pending_max: PendingCapacity = ["1000000", "1000000", "4000000"];
    }

    /// What happens when handling a message fails.
    retry: RetryConfig {
        /// How often it is tried again after the first attempt.
        attempts: RetryCount = ["2", "1", "3"];
        /// How long the first retry waits.
        delay_ms: BackoffDelayMs = ["500", "100", "1000"];
        /// By how much the wait grows from one retry to the next.
        factor: BackoffFactor = ["1.5", "1.1", "2.0"];
        /// How far each wait strays from that, either way, as a fraction of it.
        jitter: BackoffJitter = ["0.2", "0.0", "0.2"];
    }

    /// When an agent that fails, or holds up its shard, is not called for a while.
    breaker: BreakerConfig {
        /// How many failed calls within the window open an agent's breaker; 0 if none do.
        failures: BreakerThreshold = ["20", "50", "100"];
        /// The window in which failed and slow calls are counted.
        window_ms: BreakerWindowMs = ["10000", "5000", "10000"];
        /// Duration from which a call counts as slow.
        slow_call_ms: SlowCallMs = ["1000", "500", "1000"];
        /// How many slow calls within the window open it; 0 if none do.
        slow_calls: BreakerThreshold = ["5", "5", "5"];
        /// How long it stays open at first; twice as long each time that a probe fails.
        open_ms: BreakerDelayMs = ["1000", "200", "1000"];
        /// How long it stays open at most; never less than at first.
        open_ms_max: BreakerDelayMs = ["10000", "1000", "30000"];
        /// How many messages have to succeed before it closes.
        probes: ProbeCount = ["1", "1", "3"];
    }

    /// What happens to an agent that panics.
    supervision: SupervisionConfig {
        /// How often it is restarted within the window before it is stopped instead.
        ///
        /// All attempts at one message count as one restart, so that a poison message alone stops no agent.
        restarts: RestartCount = ["10", "100", "100"];
        /// The window in which restarts are counted.
        window_ms: RestartWindowMs = ["60000", "10000", "60000"];
        /// How long it waits for its restart; twice as long after each start that fails in a row, up to 5 seconds.
        delay_ms: RestartDelayMs = ["0", "0", "10"];
    }

    /// What could not be delivered, kept for inspection.
    dead_letters: DeadLetterConfig {
        /// How many dead letters one shard keeps.
        messages: DeadLetterCapacity = ["10000", "10000", "1000000"];
        /// How many bytes of dead letters one shard keeps.
        bytes: DeadLetterBytes = ["64 MiB", "64 MiB", "1 GiB"];
    }

    /// Exchanges under a FIPA interaction protocol.
    conversation: ConversationConfig {
        /// How long a conversation may stay without a message before it is closed.
        timeout_ms: ConversationTimeoutMs = ["600000", "300000", "1800000"];
        /// How many agents may take part in one conversation.
        participants_max: MaxParticipants = ["5", "3", "20"];
        /// How many past messages a conversation remembers.
        history: HistoryLength = ["32", "32", "8"];
        /// How many conversations may be open on one shard.
        open_max: ConversationCapacity = ["1000000", "1000000", "1000000"];
    }

    /// The agents ams and df, which other platforms talk to (FIPA SC00023).
    management: ManagementConfig {
        /// Whether there are such agents.
        enabled: bool = ["true", "true", "true"];
        /// The platform's name, behind the @ of the names of ams and df.
        platform: PlatformName = ["caxton", "caxton", "caxton"];
        /// Maximum number of registered descriptions kept by each of the two.
        descriptions: DescriptionCapacity = ["10000", "10000", "100000"];
        /// How many subscriptions df keeps.
        subscriptions: SubscriptionCapacity = ["1000", "1000", "1000"];
    }

    /// The way from one shard to another.
    ring: RingConfig {
        /// How many messages may be under way from one shard to another, or auto: 16384 divided by the shards, 1024 at least.
        capacity: RingChoice = ["auto", "auto", "auto"];
    }

    /// The interaction protocols that conversations are held to.
    protocols: ProtocolsConfig {
        /// What becomes of messages that break the protocol that their conversation names: off, observe or enforce.
        mode: Mode = ["observe", "observe", "off"];
        /// Protocols with a mode of their own, such as fipa-request=enforce, with commas between them.
        modes: ProtocolModes = ["", "", ""];
        /// Files in which further protocols are defined, with commas between them.
        files: FileList = ["", "", ""];
    }

    /// Where messages go that name no agent, by their content.
    rules: RulesConfig {
        /// Files with such rules, with commas between them. They are tried in their order, before those that the program adds.
        files: FileList = ["", "", ""];
    }

    #[cfg(feature = "store")]
    /// What outlives the process.
    store: StoreConfig {
        /// Where durable messages are kept; empty if there is no store.
        directory: Directory = ["", "", ""];
        /// How large one file of a shard's journal is.
        segment_bytes: SegmentBytes = ["8 MiB", "4 MiB", "64 MiB"];
        /// How many such files one shard has at most. Beyond it durable messages are refused until some are settled.
        segments_max: SegmentCount = ["32", "32", "64"];
        /// How long a durable message may take from admission to the end of its handling, unless it says otherwise itself.
        lifetime_ms: DurableLifetimeMs = ["86400000", "86400000", "86400000"];
        /// Of how many durable messages a shard remembers the ids at least, so that one that comes again is not dispatched again.
        duplicates_window: DuplicatesWindow = ["65536", "65536", "65536"];
        /// Of how many steps of conversations a shard's database keeps the history: the newest.
        history: HistoryRows = ["100000", "10000", "100000"];
        /// How the databases are written: uring or unix, which uses ordinary system calls.
        vfs: Vfs = ["uring", "uring", "uring"];
    }

    #[cfg(feature = "wasm")]
    /// Agents and plugins in WebAssembly. What holds for one guest can be changed in its manifest.
    wasm: WasmConfig {
        /// How many guests run at a time, in all shards together.
        guests: GuestCount = ["1000", "1000", "10000"];
        /// How much memory one guest may have.
        memory_bytes: GuestMemoryBytes = ["10 MiB", "10 MiB", "10 MiB"];
        /// How many elements its tables may have.
        table_elements: GuestTableElements = ["10000", "10000", "10000"];
        /// How much stack a guest may use. It is the same for all guests.
        stack_bytes: GuestStackBytes = ["256 KiB", "256 KiB", "256 KiB"];
        /// How long a guest runs before its neighbours get their turn. It is the same for all guests.
        slice_ms: GuestSliceMs = ["2", "2", "2"];
        /// How long a guest may run for one message, in all its slices.
        call_ms: GuestCallMs = ["5000", "5000", "5000"];
        /// How often a guest may call the router for one message.
        host_calls: HostCallCount = ["1000", "1000", "1000"];
        /// How long the content of a message from a guest may be.
        message_bytes: GuestMessageBytes = ["100 KiB", "100 KiB", "100 KiB"];
        /// How much the router remembers for a guest.
        state_bytes: GuestStateBytes = ["64 KiB", "64 KiB", "64 KiB"];
        /// How many lines a guest may log in a second.
        log_lines: LogRate = ["100", "100", "100"];
        /// How large a module may be, which decides how long compiling it takes. All its functions together count likewise.
        module_bytes: ModuleBytes = ["64 MiB", "16 MiB", "64 MiB"];
        /// How many functions a module may define, those of the modules in a component included.
        functions: ModuleFunctions = ["50000", "20000", "50000"];
        /// How large one function may be. Its local variables count as a byte each, and so does what passes in its calls.
        function_bytes: FunctionBytes = ["1 MiB", "512 KiB", "1 MiB"];
        /// How deep the blocks of a function may nest.
        block_depth: BlockDepth = ["5000", "5000", "5000"];
        /// How many modules, components and instances a component may hold, of each.
        component_parts: ComponentParts = ["200", "200", "200"];
        /// What of WASI manifests may grant: clocks, random, stdout and stubs, with commas between them; empty if nothing.
        wasi: Grants = ["clocks, random, stdout, stubs", "clocks, random, stdout, stubs", "clocks, random, stdout, stubs"];
        /// Where compiled modules are kept, so that the next start need not compile them; empty if nowhere.
        cache: Directory = ["", "", ""];
    }

    #[cfg(feature = "wasm")]
    /// Plugins in WebAssembly that see every message before it is accepted, in front of those that the program adds itself.
    plugins: PluginsConfig {
        /// Their names and modules, such as gatekeeper=gatekeeper.wasm, with commas between them, in the order in which they are asked.
        files: PluginFiles = ["", "", ""];
        /// How long one of them may take for a message.
        call_ms: GuestCallMs = ["10", "10", "10"];
        /// What becomes of a message over which one fails or takes too long: refuse or pass.
        on_failure: OnFailure = ["refuse", "refuse", "refuse"];
    }

    /// How a shard waits when it has nothing to do.
    drive: DriveConfig {
        /// How long an idle shard watches its rings before it parks and leaves its core to others.
        spin_us: SpinMicroseconds = ["50", "20", "100"];
    }

    /// How the router comes to its end.
    shutdown: ShutdownConfig {
        /// How long it goes on handling what is there once it is told to stop; what is left then is given up.
        ///
        /// This is for a router that is stopped by a signal or by dropping its last handle. Whoever runs the process
        /// has to leave it a few seconds more before killing it.
        deadline_ms: ShutdownDeadlineMs = ["5000", "5000", "20000"];
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    /// The agreed values, written out a second time so that a slip in the table is noticed.
    const EXPECTED: &[(&str, [&str; 3])] = &[
        ("router.node", ["0", "0", "0"]),
        ("router.shards", ["\"auto\"", "\"auto\"", "\"auto\""]),
        ("router.call_timeout_ms", ["300000", "60000", "60000"]),
        ("channel.capacity", ["1000", "10000", "100000"]),
        ("mailbox.messages", ["100", "1000", "10000"]),
        ("mailbox.bytes", ["\"1 MiB\"", "\"16 MiB\"", "\"64 MiB\""]),
        ("mailbox.overflow", ["\"reject\"", "\"reject\"", "\"reject\""]),
        ("memory.budget", ["\"256 MiB\"", "\"128 MiB\"", "\"4 GiB\""]),
        ("message.timeout_ms", ["10000", "5000", "30000"]),
        ("message.content_bytes_max", ["\"10 MiB\"", "\"10 MiB\"", "\"10 MiB\""]),
        ("message.reading", ["\"lenient\"", "\"lenient\"", "\"lenient\""]),
        ("message.writing", ["\"lenient\"", "\"lenient\"", "\"lenient\""]),
        ("delivery.batch", ["10", "100", "1000"]),
        ("delivery.turn_quota", ["64", "100", "1000"]),
        ("delivery.outbox", ["1024", "1024", "1024"]),
        ("delivery.pending_max", ["1000000", "1000000", "4000000"]),
        ("retry.attempts", ["2", "1", "3"]),
        ("retry.delay_ms", ["500", "100", "1000"]),
        ("retry.factor", ["1.5", "1.1", "2"]),
        ("retry.jitter", ["0.2", "0", "0.2"]),
        ("breaker.failures", ["20", "50", "100"]),
        ("breaker.window_ms", ["10000", "5000", "10000"]),
        ("breaker.slow_call_ms", ["1000", "500", "1000"]),
        ("breaker.slow_calls", ["5", "5", "5"]),
        ("breaker.open_ms", ["1000", "200", "1000"]),
        ("breaker.open_ms_max", ["10000", "1000", "30000"]),
        ("breaker.probes", ["1", "1", "3"]),
        ("supervision.restarts", ["10", "100", "100"]),
        ("supervision.window_ms", ["60000", "10000", "60000"]),
        ("supervision.delay_ms", ["0", "0", "10"]),
        ("dead_letters.messages", ["10000", "10000", "1000000"]),
        ("dead_letters.bytes", ["\"64 MiB\"", "\"64 MiB\"", "\"1 GiB\""]),
        ("conversation.timeout_ms", ["600000", "300000", "1800000"]),
        ("conversation.participants_max", ["5", "3", "20"]),
        ("conversation.history", ["32", "32", "8"]),
        ("conversation.open_max", ["1000000", "1000000", "1000000"]),
        ("management.enabled", ["true", "true", "true"]),
        ("management.platform", ["\"caxton\"", "\"caxton\"", "\"caxton\""]),
        ("management.descriptions", ["10000", "10000", "100000"]),
        ("management.subscriptions", ["1000", "1000", "1000"]),
        ("ring.capacity", ["\"auto\"", "\"auto\"", "\"auto\""]),
        ("protocols.mode", ["\"observe\"", "\"observe\"", "\"off\""]),
        ("protocols.modes", ["\"\"", "\"\"", "\"\""]),
        ("protocols.files", ["\"\"", "\"\"", "\"\""]),
        ("rules.files", ["\"\"", "\"\"", "\"\""]),
        ("store.directory", ["\"\"", "\"\"", "\"\""]),
        ("store.segment_bytes", ["\"8 MiB\"", "\"4 MiB\"", "\"64 MiB\""]),
        ("store.segments_max", ["32", "32", "64"]),
        ("store.lifetime_ms", ["86400000", "86400000", "86400000"]),
        ("store.duplicates_window", ["65536", "65536", "65536"]),
        ("store.history", ["100000", "10000", "100000"]),
        ("store.vfs", ["\"uring\"", "\"uring\"", "\"uring\""]),
        ("wasm.guests", ["1000", "1000", "10000"]),
        ("wasm.memory_bytes", ["\"10 MiB\"", "\"10 MiB\"", "\"10 MiB\""]),
        ("wasm.table_elements", ["10000", "10000", "10000"]),
        ("wasm.stack_bytes", ["\"256 KiB\"", "\"256 KiB\"", "\"256 KiB\""]),
        ("wasm.slice_ms", ["2", "2", "2"]),
        ("wasm.call_ms", ["5000", "5000", "5000"]),
        ("wasm.host_calls", ["1000", "1000", "1000"]),
        ("wasm.message_bytes", ["\"100 KiB\"", "\"100 KiB\"", "\"100 KiB\""]),
        ("wasm.state_bytes", ["\"64 KiB\"", "\"64 KiB\"", "\"64 KiB\""]),
        ("wasm.log_lines", ["100", "100", "100"]),
        ("wasm.module_bytes", ["\"64 MiB\"", "\"16 MiB\"", "\"64 MiB\""]),
        ("wasm.functions", ["50000", "20000", "50000"]),
        ("wasm.function_bytes", ["\"1 MiB\"", "\"512 KiB\"", "\"1 MiB\""]),
        ("wasm.block_depth", ["5000", "5000", "5000"]),
        ("wasm.component_parts", ["200", "200", "200"]),
        ("wasm.wasi", ["\"clocks, random, stdout, stubs\""; 3]),
        ("wasm.cache", ["\"\"", "\"\"", "\"\""]),
        ("plugins.files", ["\"\"", "\"\"", "\"\""]),
        ("plugins.call_ms", ["10", "10", "10"]),
        ("plugins.on_failure", ["\"refuse\"", "\"refuse\"", "\"refuse\""]),
        ("drive.spin_us", ["50", "20", "100"]),
        ("shutdown.deadline_ms", ["5000", "5000", "20000"]),
    ];

    #[test]
    fn every_preset_has_the_agreed_values() {
        let known: Vec<_> = KEYS.iter().map(|key| key.path).collect();
        let is_there = |path: &str| path.split_once('.').is_some_and(|(section, _)| absent_feature(section).is_none());
        let expected: Vec<_> = EXPECTED.iter().filter(|(path, _)| is_there(path)).collect();
        assert_eq!(known, expected.iter().map(|(path, _)| *path).collect::<Vec<_>>());
        for preset in Preset::ALL {
            let config = Config::preset(preset);
            for (key, (path, values)) in KEYS.iter().zip(&expected) {
                assert_eq!((key.show)(&config), values[preset as usize], "{path} in {preset}");
            }
        }
    }

    #[test]
    fn no_two_keys_share_a_variable() {
        let variables: HashSet<_> = KEYS.iter().map(Key::variable).collect();
        assert_eq!(variables.len(), KEYS.len());
        assert!(variables.contains("CAXTON_MESSAGE_CONTENT_BYTES_MAX"));
    }

    #[test]
    fn every_key_explains_itself() {
        for key in KEYS.iter() {
            assert!(key.documentation.ends_with('.'), "{} has a sentence", key.path);
            assert!(!key.documentation.starts_with(' '), "{} is trimmed", key.path);
        }
    }
}
