//! The table of all keys: name, meaning, type, and value in each preset.

#[cfg(test)]
mod tests;

#[cfg(feature = "cluster")]
use super::cluster::{ClusterName, NatsServers};
#[cfg(any(feature = "store", feature = "telemetry", feature = "wasm"))]
use super::directory::Directory;
#[cfg(feature = "serve")]
use super::directory::FilePath;
use super::files::FileList;
#[cfg(feature = "serve")]
use super::guests::GuestFiles;
#[cfg(feature = "telemetry")]
use super::listen::ListenAddress;
#[cfg(feature = "telemetry")]
use super::log::{LogFormat, LogLevels};
#[cfg(feature = "telemetry")]
use super::otlp::{CertificateFile, Compression, Endpoint, ExportHeaders, ResourceAttributes, ServiceName};
#[cfg(feature = "wasm")]
use super::plugins::{OnFailure, PluginFiles};
use super::protocols::ProtocolModes;
#[cfg(feature = "serve")]
use super::socket::{SocketMode, SocketPath};
#[cfg(feature = "store")]
use super::store::Vfs;
use super::value::Setting;
#[cfg(feature = "wasm")]
use super::wasi::Grants;
use super::{Preset, Provenance, RingChoice, ShardChoice};
use caxton_shards::api::OverflowPolicy;
use caxton_shards::codec::text::Strictness;
#[cfg(any(feature = "telemetry", feature = "wasm"))]
use caxton_shards::domain::LogRate;
#[cfg(feature = "cluster")]
use caxton_shards::domain::RemoteAgentCount;
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
    GuestSliceMs, GuestStackBytes, GuestStateBytes, GuestTableElements, HostCallCount, ModuleBytes, ModuleFunctions,
};
#[cfg(feature = "serve")]
use caxton_shards::domain::{ConnectionCount, ConnectionIdleMs, OutsideAgentCount, OutsideGraceMs, RequestRate};
#[cfg(feature = "store")]
use caxton_shards::domain::{DuplicatesWindow, DurableLifetimeMs, HistoryRows, SegmentBytes, SegmentCount};
#[cfg(feature = "telemetry")]
use caxton_shards::domain::{
    ExportFileBytes, ExportFileCount, ExportQueueBytes, ExportQueueRequests, ExportTimeoutMs, KeptRate,
    MetricIntervalMs, RecordRate, SamplingRatio, SlowMessageMs,
};
use caxton_shards::protocol::Mode;
use std::sync::LazyLock;

/// A key of the configuration, with access to its field.
pub(super) struct Key {
    pub section: &'static str,
    pub section_documentation: &'static str,
    pub name: &'static str,
    /// Section and name, such as `mailbox.messages`.
    pub path: &'static str,
    /// The first line of its documentation.
    pub documentation: &'static str,
    pub write: fn(&mut Config, &str) -> Result<(), DomainError>,
    /// Returns the value in TOML.
    pub show: fn(&Config) -> String,
}

/// Generates the structures, the presets and [`KEYS`] from one table, so that they always agree.
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

        /// All settings of a router, each valid by its type.
        ///
        /// ```
        /// use caxton_router::config::{Config, Preset};
        ///
        /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
        /// let mut config = Config::preset(Preset::Production);
        /// config.retry.attempts = "7".parse()?;
        /// // By name, as in a file or on a command line; a value outside its limits is refused, with what is allowed.
        /// config.set("mailbox.messages", "5000", "this program")?;
        /// assert!(config.set("mailbox.messages", "many", "this program").is_err());
        /// # Ok(())
        /// # }
        /// ```
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
            /// Returns the values of a preset.
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

        /// All keys, in display order.
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

/// Returns the index of a key in [`KEYS`].
pub(super) fn find(path: &str) -> Option<usize> {
    KEYS.iter().position(|key| key.path == path)
}

fn preset_value<Value: Setting>(text: &str) -> Value {
    Value::read(text).expect("a test reads every value of every preset")
}

configuration! {
    /// The router as a whole.
    router: RouterConfig {
        /// The router's number: part of every message id, and its own in a cluster.
        ///
        /// Each router of a cluster needs another one, from 1 to 65535. Unless it is 0, the names of the router's gateways
        /// contain it.
        node: NodeId = ["0", "0", "0"];
        /// Number of shards, each on its own core: auto, or a number.
        ///
        /// With a store, a further core is used for the disk.
        shards: ShardChoice = ["auto", "auto", "auto"];
        /// Time for which a call of the embedding API waits for its shard.
        ///
        /// Overridden by the handle: see `Router::within`.
        call_timeout_ms: CallTimeoutMs = ["300000", "60000", "60000"];
    }

    /// The channels from other threads into the shards.
    channel: ChannelConfig {
        /// Maximum number of messages waiting to enter one shard.
        capacity: ChannelCapacity = ["1000", "10000", "100000"];
    }

    /// The mailbox of each agent.
    mailbox: MailboxConfig {
        /// Capacity of one mailbox, in messages.
        messages: MailboxCapacity = ["100", "1000", "10000"];
        /// Capacity of one mailbox, in bytes.
        bytes: MailboxBytes = ["1 MiB", "16 MiB", "64 MiB"];
        /// What happens to a message that finds a full mailbox: reject, back-pressure or drop-oldest.
        ///
        /// An agent's registration can override it. Replies and the router's own notices are exempt.
        overflow: OverflowPolicy = ["reject", "reject", "reject"];
    }

    /// Total memory for messages.
    memory: MemoryConfig {
        /// Bytes of messages in mailboxes, outboxes and delays, divided evenly among the shards.
        budget: MemoryBudget = ["256 MiB", "128 MiB", "4 GiB"];
    }

    /// Limits of a single message.
    message: MessageConfig {
        /// Default time limit for a message, from admission to the end of its handling.
        timeout_ms: MessageTimeoutMs = ["10000", "5000", "30000"];
        /// Maximum size of a message's content.
        content_bytes_max: ContentLimit = ["10 MiB", "10 MiB", "10 MiB"];
        /// Whether extensions of FIPA's standards are read (lenient, if unambiguous) or refused (strict).
        ///
        /// This concerns agents' names that are not words, user-defined parameters without X-, and strings that end in
        /// a backslash.
        reading: Strictness = ["lenient", "lenient", "lenient"];
        /// Whether extensions of FIPA's standards are written (lenient, so that they read back) or refused (strict).
        writing: Strictness = ["lenient", "lenient", "lenient"];
    }

    /// How a shard delivers messages to its agents.
    delivery: DeliveryConfig {
        /// Maximum number of messages delivered to an agent in one batch.
        batch: BatchSize = ["10", "100", "1000"];
        /// Number of messages an agent handles before other agents get their turn.
        turn_quota: TurnQuota = ["64", "100", "1000"];
        /// Capacity of an agent's outbox, in messages.
        outbox: OutboxCapacity = ["1024", "1024", "1024"];
        /// Maximum number of messages held by one shard, in mailboxes, outboxes and delays.
        pending_max: PendingCapacity = ["1000000", "1000000", "4000000"];
    }

    /// Retries of messages whose handling failed.
    retry: RetryConfig {
        /// Number of retries after the first attempt.
        attempts: RetryCount = ["2", "1", "3"];
        /// Delay before the first retry.
        delay_ms: BackoffDelayMs = ["500", "100", "1000"];
        /// Factor by which the delay grows from one retry to the next.
        factor: BackoffFactor = ["1.5", "1.1", "2.0"];
        /// Random deviation of each delay in either direction, as a fraction of it.
        jitter: BackoffJitter = ["0.2", "0.0", "0.2"];
    }

    /// Circuit breakers, which stop calls to an agent that fails or holds up its shard.
    breaker: BreakerConfig {
        /// Number of failed calls within the window that open an agent's breaker; 0 disables this.
        failures: BreakerThreshold = ["20", "50", "100"];
        /// The window in which failed and slow calls are counted.
        window_ms: BreakerWindowMs = ["10000", "5000", "10000"];
        /// Duration from which a call counts as slow.
        slow_call_ms: SlowCallMs = ["1000", "500", "1000"];
        /// Number of slow calls within the window that open it; 0 disables this.
        slow_calls: BreakerThreshold = ["5", "5", "5"];
        /// How long it stays open at first; doubled each time a probe fails.
        open_ms: BreakerDelayMs = ["1000", "200", "1000"];
        /// Maximum time for which it stays open; at least the initial time.
        open_ms_max: BreakerDelayMs = ["10000", "1000", "30000"];
        /// Number of messages that have to succeed before it closes.
        probes: ProbeCount = ["1", "1", "3"];
    }

    /// Restarts of agents that panic.
    supervision: SupervisionConfig {
        /// Maximum number of restarts within the window; beyond it the agent is stopped.
        ///
        /// All attempts at one message count as one restart, so that a poison message alone stops no agent.
        restarts: RestartCount = ["10", "100", "100"];
        /// The window in which restarts are counted.
        window_ms: RestartWindowMs = ["60000", "10000", "60000"];
        /// Delay before a restart; doubled after each consecutive failed start, up to 5 seconds.
        delay_ms: RestartDelayMs = ["0", "0", "10"];
    }

    /// Undeliverable messages, kept for inspection.
    dead_letters: DeadLetterConfig {
        /// Number of dead letters kept by one shard.
        messages: DeadLetterCapacity = ["10000", "10000", "1000000"];
        /// Size of the dead letters kept by one shard.
        bytes: DeadLetterBytes = ["64 MiB", "64 MiB", "1 GiB"];
    }

    /// Conversations under a FIPA interaction protocol.
    conversation: ConversationConfig {
        /// Idle time after which a conversation is closed.
        timeout_ms: ConversationTimeoutMs = ["600000", "300000", "1800000"];
        /// Maximum number of participants of one conversation.
        participants_max: MaxParticipants = ["5", "3", "20"];
        /// Number of past messages kept in a conversation's history.
        history: HistoryLength = ["32", "32", "8"];
        /// Maximum number of open conversations on one shard.
        open_max: ConversationCapacity = ["1000000", "1000000", "1000000"];
    }

    /// The agents ams and df, which other platforms communicate with (FIPA SC00023).
    management: ManagementConfig {
        /// Whether these agents are registered.
        enabled: bool = ["true", "true", "true"];
        /// The platform's name, which follows the @ in the names of ams and df.
        platform: PlatformName = ["caxton", "caxton", "caxton"];
        /// Maximum number of registered descriptions kept by each of the two.
        descriptions: DescriptionCapacity = ["10000", "10000", "100000"];
        /// Maximum number of subscriptions kept by df.
        subscriptions: SubscriptionCapacity = ["1000", "1000", "1000"];
    }

    /// The rings between shards.
    ring: RingConfig {
        /// Maximum number of messages in flight from one shard to another, or auto.
        ///
        /// `auto` is 16384 divided by the number of shards, but at least 1024.
        capacity: RingChoice = ["auto", "auto", "auto"];
    }

    /// The interaction protocols that conversations are checked against.
    protocols: ProtocolsConfig {
        /// What happens to messages that violate their conversation's protocol: off, observe or enforce.
        mode: Mode = ["observe", "observe", "off"];
        /// Protocols with their own mode, such as fipa-request=enforce, separated by commas.
        modes: ProtocolModes = ["", "", ""];
        /// Files that define further protocols, separated by commas.
        files: FileList = ["", "", ""];
    }

    /// Content-based routing of messages that name no agent.
    rules: RulesConfig {
        /// Files with routing rules, separated by commas.
        ///
        /// They are tried in order, before those that the program adds.
        files: FileList = ["", "", ""];
    }

    #[cfg(feature = "store")]
    /// What outlives the process.
    store: StoreConfig {
        /// Directory of the store for durable messages; empty for no store.
        directory: Directory = ["", "", ""];
        /// Size of one segment of a shard's journal.
        segment_bytes: SegmentBytes = ["8 MiB", "4 MiB", "64 MiB"];
        /// Maximum number of segments of a shard's journal.
        ///
        /// Beyond it durable messages are refused until some are settled.
        segments_max: SegmentCount = ["32", "32", "64"];
        /// Default time limit for a durable message, from admission to the end of its handling.
        lifetime_ms: DurableLifetimeMs = ["86400000", "86400000", "86400000"];
        /// Minimum size of a shard's deduplication window, in durable messages.
        ///
        /// A message in the window that arrives again is not dispatched again.
        duplicates_window: DuplicatesWindow = ["65536", "65536", "65536"];
        /// Number of conversation steps kept in a shard's database: the newest.
        history: HistoryRows = ["100000", "10000", "100000"];
        /// How the databases are written: uring, or unix for ordinary system calls.
        vfs: Vfs = ["uring", "uring", "uring"];
    }

    #[cfg(feature = "wasm")]
    /// Agents and plugins in WebAssembly. A guest's manifest can override the limits per guest.
    wasm: WasmConfig {
        /// Maximum number of running guests, in all shards together.
        guests: GuestCount = ["1000", "1000", "10000"];
        /// Maximum memory of one guest.
        memory_bytes: GuestMemoryBytes = ["10 MiB", "10 MiB", "10 MiB"];
        /// Maximum number of elements in its tables.
        table_elements: GuestTableElements = ["10000", "10000", "10000"];
        /// Stack size of a guest; the same for all guests.
        stack_bytes: GuestStackBytes = ["256 KiB", "256 KiB", "256 KiB"];
        /// Time for which a guest runs before others get their turn; the same for all guests.
        slice_ms: GuestSliceMs = ["2", "2", "2"];
        /// Time limit for a guest to handle one message, over all its slices.
        call_ms: GuestCallMs = ["5000", "5000", "5000"];
        /// Maximum number of host calls a guest may make for one message.
        host_calls: HostCallCount = ["1000", "1000", "1000"];
        /// Maximum content size of a message sent by a guest.
        message_bytes: GuestMessageBytes = ["100 KiB", "100 KiB", "100 KiB"];
        /// Maximum size of the state stored for a guest.
        state_bytes: GuestStateBytes = ["64 KiB", "64 KiB", "64 KiB"];
        /// Maximum number of lines a guest may log per second.
        log_lines: LogRate = ["100", "100", "100"];
        /// Maximum size of a module, which determines its compilation time.
        ///
        /// The total size of its functions has the same limit.
        module_bytes: ModuleBytes = ["64 MiB", "16 MiB", "64 MiB"];
        /// Maximum number of functions in a module or, for a component, in all its modules.
        functions: ModuleFunctions = ["50000", "20000", "50000"];
        /// Maximum size of one function.
        ///
        /// Each local variable counts as a byte, and so does each value passed in its calls.
        function_bytes: FunctionBytes = ["1 MiB", "512 KiB", "1 MiB"];
        /// Maximum nesting depth of blocks in a function.
        block_depth: BlockDepth = ["5000", "5000", "5000"];
        /// Maximum number of modules, of components and of instances in a component.
        component_parts: ComponentParts = ["200", "200", "200"];
        /// Parts of WASI that manifests may grant: clocks, random, stdout and stubs, separated by commas.
        ///
        /// Empty for none.
        wasi: Grants = ["clocks, random, stdout, stubs", "clocks, random, stdout, stubs", "clocks, random, stdout, stubs"];
        /// Directory for compiled modules, so that the next start need not compile them; empty for none.
        cache: Directory = ["", "", ""];
    }

    #[cfg(feature = "wasm")]
    /// Plugins in WebAssembly that inspect every message before it is accepted, before the program's own.
    plugins: PluginsConfig {
        /// Their names and modules, such as gatekeeper=gatekeeper.wasm, separated by commas, in calling order.
        files: PluginFiles = ["", "", ""];
        /// Time limit for one plugin to inspect a message.
        call_ms: GuestCallMs = ["10", "10", "10"];
        /// What happens to a message on which a plugin fails or takes too long: refuse or pass.
        on_failure: OnFailure = ["refuse", "refuse", "refuse"];
    }

    #[cfg(feature = "telemetry")]
    /// What is measured and traced, while something takes it: an exporter, a scrape, or the program.
    telemetry: TelemetryConfig {
        /// The part of all conversations that is traced, and whose messages' latencies are measured.
        ///
        /// Fewer are traced while there would be more records than `records_per_second`.
        sampling: SamplingRatio = ["1", "0.01", "0.01"];
        /// Age from which a message is slow, so that it is traced, when its handler gets it.
        ///
        /// Of messages whose own lifetime is longer than `message.timeout_ms` only durable ones are found early.
        slow_ms: SlowMessageMs = ["1000", "1000", "1000"];
        /// Number of records per second, of all shards, up to which messages are sampled. A message has about five.
        records_per_second: RecordRate = ["50000", "50000", "50000"];
        /// Maximum number of messages per second and shard that are traced because they fail, expire or are slow.
        kept_per_second: KeptRate = ["1000", "1000", "1000"];
    }

    #[cfg(feature = "telemetry")]
    /// The log. Nothing is written unless a program asks for it.
    log: LogConfig {
        /// What is logged: off, error, warn, info, debug or trace, also for single targets such as `caxton::event=debug`.
        ///
        /// Several are separated by commas; the longest target that fits decides.
        level: LogLevels = ["debug", "warn", "info"];
        /// Form of the lines: text or json.
        format: LogFormat = ["text", "text", "json"];
        /// Maximum number of lines per second from one place in the code; further ones are counted.
        lines_per_second: LogRate = ["100", "100", "100"];
    }

    #[cfg(feature = "telemetry")]
    /// Export of traces, metrics and logs in the OpenTelemetry protocol (OTLP).
    otlp: OtlpConfig {
        /// Whether anything is exported, provided that there is an endpoint or a directory.
        ///
        /// `OTEL_SDK_DISABLED=true` makes it false.
        enabled: bool = ["true", "true", "true"];
        /// URL of the collector, to which /v1/traces, /v1/metrics and /v1/logs are added; empty for none.
        endpoint: Endpoint = ["", "", ""];
        /// URL for traces, used as it is; empty for that of the endpoint.
        traces_endpoint: Endpoint = ["", "", ""];
        /// URL for metrics, used as it is; empty for that of the endpoint.
        metrics_endpoint: Endpoint = ["", "", ""];
        /// URL for logs, used as it is; empty for that of the endpoint.
        logs_endpoint: Endpoint = ["", "", ""];
        /// Headers of every request, such as api-key=secret, separated by commas, with percent-encoded values.
        ///
        /// The values are never shown.
        headers: ExportHeaders = ["", "", ""];
        /// PEM file with the certificates that the collector's certificate is checked against; empty for the system's.
        certificate: CertificateFile = ["", "", ""];
        /// How requests are compressed: gzip or none.
        compression: Compression = ["gzip", "gzip", "gzip"];
        /// Time limit for each attempt to send a request.
        timeout_ms: ExportTimeoutMs = ["10000", "10000", "10000"];
        /// Time between two exports of metrics.
        interval_ms: MetricIntervalMs = ["10000", "10000", "60000"];
        /// Maximum number of requests waiting to be sent, and again to be written; further ones are dropped.
        queue_requests: ExportQueueRequests = ["256", "256", "1024"];
        /// Maximum size of the requests waiting to be sent, and again to be written; further ones are dropped.
        queue_bytes: ExportQueueBytes = ["16 MiB", "16 MiB", "64 MiB"];
        /// Directory for files of OTLP in JSON, one request per line; empty for none.
        directory: Directory = ["", "", ""];
        /// Size from which a file is followed by the next.
        file_bytes: ExportFileBytes = ["64 MiB", "64 MiB", "64 MiB"];
        /// Maximum number of files kept for each of traces, metrics and logs; the oldest are removed.
        files_max: ExportFileCount = ["10", "10", "10"];
        /// The service's name in all telemetry; empty for that of the attributes, or else caxton.
        service: ServiceName = ["", "", ""];
        /// Attributes of the service, such as deployment.environment.name=staging, separated by commas.
        ///
        /// Values are percent-encoded.
        attributes: ResourceAttributes = ["", "", ""];
    }

    #[cfg(feature = "telemetry")]
    /// Metrics and health over HTTP.
    metrics: MetricsConfig {
        /// Address that is listened on, such as 127.0.0.1:9464; empty for none.
        ///
        /// A port alone is on the loopback interface, and port 0 is one that is free.
        listen: ListenAddress = ["", "", ""];
    }

    #[cfg(feature = "serve")]
    /// The HTTP API of `caxton serve` for outside agents and operators.
    http: HttpConfig {
        /// Address that is listened on, such as 127.0.0.1:7411; empty for none.
        ///
        /// A port alone is on the loopback interface, and port 0 is one that is free.
        listen: ListenAddress = ["", "", ""];
        /// Unix socket that is listened on, such as /run/caxton/caxton.sock; empty for none.
        ///
        /// The user of this process and root need no token there. Others do, if the mode lets them connect.
        socket: SocketPath = ["", "", ""];
        /// Permissions of the socket's file: 0600, 0660 or 0666.
        socket_mode: SocketMode = ["0600", "0600", "0600"];
    }

    #[cfg(feature = "serve")]
    /// The door of `caxton serve` for clients of NATS.
    nats: NatsConfig {
        /// Address that is listened on, such as 127.0.0.1:4222; empty for none.
        listen: ListenAddress = ["", "", ""];
        /// Maximum number of messages per second of each token, or of all clients without tokens; 0 for any number.
        messages_per_second: RequestRate = ["0", "0", "0"];
    }

    #[cfg(feature = "serve")]
    /// What the doors for outside clients have in common.
    doors: DoorsConfig {
        /// File with the tokens of those who may connect; empty for everybody on this host.
        ///
        /// An address outside the loopback interface requires it.
        tokens: FilePath = ["", "", ""];
        /// PEM file with the certificate that the doors show, and those of its issuers; empty for no TLS.
        ///
        /// An address outside the loopback interface requires it.
        certificate: FilePath = ["", "", ""];
        /// PEM file with the private key of the certificate.
        key: FilePath = ["", "", ""];
        /// PEM file with the certificates that clients' own certificates are checked against; empty for none needed.
        client_certificates: FilePath = ["", "", ""];
        /// Maximum number of connections of each door.
        connections_max: ConnectionCount = ["1000", "1000", "20000"];
        /// Maximum number of agents that outside clients have registered.
        agents_max: OutsideAgentCount = ["10000", "10000", "100000"];
        /// Time for which an outside agent whose client has disappeared keeps its mailbox.
        grace_ms: OutsideGraceMs = ["60000", "5000", "60000"];
        /// Time after which a connection that carries nothing is closed.
        idle_ms: ConnectionIdleMs = ["60000", "60000", "60000"];
        /// Maximum number of HTTP requests per second of each token, or of all clients without tokens; 0 for any number.
        requests_per_second: RequestRate = ["0", "0", "100000"];
        /// File to which every change by an operator or of outside agents is appended, one JSON object a line; empty for none.
        ///
        /// The changes are also events of the log, with the target `caxton::audit`.
        audit: FilePath = ["", "", ""];
        /// Directory below which backups are made on request; empty for none.
        backups: Directory = ["", "", ""];
    }

    #[cfg(feature = "serve")]
    /// The agents of a daemon.
    agents: AgentsConfig {
        /// Agents in WebAssembly, such as seller=seller.wasm, separated by commas, each with its manifest beside it.
        deploy: GuestFiles = ["", "", ""];
    }

    #[cfg(feature = "cluster")]
    /// The cluster: routers on several hosts that reach each other's agents over NATS.
    cluster: ClusterConfig {
        /// URLs of the cluster's NATS servers, with nats or tls as scheme, separated by commas; empty for no cluster.
        nats: NatsServers = ["", "", ""];
        /// Name of the cluster, of letters, digits, `-` and `_`; required with `cluster.nats`.
        ///
        /// Several clusters with different names can use the same NATS servers.
        name: ClusterName = ["", "", ""];
        /// File with credentials for NATS (.creds); empty for none.
        credentials: FilePath = ["", "", ""];
        /// PEM file with the certificates that those of the NATS servers are checked against; empty for the system's.
        ca: FilePath = ["", "", ""];
        /// File with a secret of at least 32 bytes that seals what routers say about each other; empty for no seals.
        ///
        /// All routers of a cluster have the same. Without it, everybody who may publish to NATS is trusted.
        key_file: FilePath = ["", "", ""];
        /// Maximum number of agents of other routers that are known here.
        remote_agents_max: RemoteAgentCount = ["100000", "100000", "100000"];
    }

    /// How an idle shard waits.
    drive: DriveConfig {
        /// Time for which an idle shard polls its rings before it parks and releases its core.
        spin_us: SpinMicroseconds = ["50", "20", "100"];
    }

    /// How the router shuts down.
    shutdown: ShutdownConfig {
        /// Time for which pending messages are handled after a stop request; the rest is dead-lettered.
        ///
        /// This applies to a router that is stopped by a signal or by dropping its last handle. A service manager has
        /// to allow the process a few seconds more before killing it.
        deadline_ms: ShutdownDeadlineMs = ["5000", "5000", "20000"];
    }
}
