//! What a router needs of its host, according to its settings.

#[cfg(feature = "store")]
use std::path::PathBuf;

use caxton_shards::domain::ShardCount;

#[cfg(feature = "serve")]
use crate::config::ListenAddress;
use crate::config::{Config, ShardChoice, automatic_shard_count, ring_bytes};
#[cfg(feature = "telemetry")]
use crate::edge::EdgeLimits;
#[cfg(feature = "telemetry")]
use crate::telemetry::export::{Signal, destinations_of};

/// Memory that a shard must be able to lock, in bytes. With less in total, no shard starts.
pub const MEMORY_LOCK_BYTES_PER_SHARD: u64 = 512 * 1024;

/// Open files of a shard, rounded up: rings, event counters, timers, journal.
pub const OPEN_FILES_PER_SHARD: u64 = 32;

/// Open files of the router besides those of its shards.
pub const OPEN_FILES_BASE: u64 = 64;

/// Memory that should be available per shard besides the rings, in bytes.
pub const MEMORY_BYTES_PER_SHARD: u64 = 128 << 20;

/// Threads of a shard: its own, one of its executor for blocking calls and, with a store, one for its disk.
const THREADS_PER_SHARD: u64 = 3;

/// Threads besides those of the shards: the watchdog, those that show the store and listen for signals, and some spare.
const THREADS_BASE: u64 = 6;

/// Threads of telemetry: its own, and one of its executor for blocking calls.
#[cfg(feature = "telemetry")]
const THREADS_OF_TELEMETRY: u64 = 2;

/// Threads of a destination of the export: one for calls that block.
#[cfg(feature = "telemetry")]
const THREADS_PER_DESTINATION: u64 = 1;

/// Threads that serve metrics and health.
#[cfg(feature = "telemetry")]
const THREADS_OF_EDGE: u64 = 1;

/// Open files of telemetry, rounded up: rings, event counters, timers, and the connections and files of the export.
#[cfg(feature = "telemetry")]
const OPEN_FILES_OF_TELEMETRY: u64 = 32;

/// Open files of a thread that serves clients, besides its connections.
#[cfg(feature = "telemetry")]
const OPEN_FILES_OF_EDGE: u64 = 8;

/// Threads of the doors: the one that serves them, and the one that writes the audit.
#[cfg(feature = "serve")]
const THREADS_OF_DOORS: u64 = 2;

/// Threads of the cluster: its own, and one that looks up the names of servers.
#[cfg(feature = "cluster")]
const THREADS_OF_CLUSTER: u64 = 2;

/// Open files of the cluster, rounded up: those of its thread, the connection to NATS, and one that is being made.
#[cfg(feature = "cluster")]
const OPEN_FILES_OF_CLUSTER: u64 = 8;

/// Memory of a connection at the door for HTTP that waits for messages, in bytes, rounded up.
#[cfg(feature = "serve")]
const MEMORY_BYTES_PER_HTTP_CONNECTION: u64 = 24 << 10;

/// Memory of a connection at the door for clients of NATS that waits for messages, in bytes, rounded up.
#[cfg(feature = "serve")]
const MEMORY_BYTES_PER_NATS_CONNECTION: u64 = 8 << 10;

/// Memory of an outside agent whose client is not connected and that has no messages, in bytes, rounded up.
#[cfg(feature = "serve")]
const MEMORY_BYTES_PER_OUTSIDE_AGENT: u64 = 2 << 10;

/// Address space of one thread, in bytes: its stack, and what the allocator reserves for it while it aligns a segment.
const ADDRESS_BYTES_PER_THREAD: u64 = 68 << 20;

/// Address space besides threads and rings, in bytes: what is allocated while the first messages pass.
const ADDRESS_BYTES_BASE: u64 = 256 << 20;

#[cfg(feature = "store")]
/// Segments of a journal that are written early in a run: the one in use, and the next.
const SEGMENTS_AT_START: u64 = 2;

/// What a router needs of its host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Demand {
    /// The number of shards.
    pub shards: ShardCount,
    /// Whether that number was configured rather than derived from the cores.
    pub shards_given: bool,
    /// Memory of the rings between the shards when they are full, in bytes.
    pub ring_bytes: u64,
    /// The configured capacity of each ring.
    rings: crate::config::RingChoice,
    /// What runs beside the shards.
    #[cfg(feature = "telemetry")]
    beside: Beside,
    /// The clients that the doors serve.
    #[cfg(feature = "serve")]
    doors: DoorsDemand,
    /// Whether the router is to join a cluster.
    #[cfg(feature = "cluster")]
    joins_cluster: bool,
    /// The maximum number of WebAssembly guests.
    #[cfg(feature = "wasm")]
    pub guests: u32,
    /// What the store needs, if there is one.
    #[cfg(feature = "store")]
    pub store: Option<StoreDemand>,
}

/// What runs beside the shards to observe them.
#[cfg(feature = "telemetry")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Beside {
    /// Whether there is a telemetry thread.
    telemetry: bool,
    /// The number of destinations of the export.
    destinations: u64,
    /// Whether metrics and health are served over HTTP.
    edge: bool,
}

#[cfg(feature = "telemetry")]
impl Beside {
    fn of(config: &Config) -> Self {
        let used = |place: usize| Signal::ALL.into_iter().any(|signal| destinations_of(config, signal)[place]);
        let destinations = u64::from(used(0)) + u64::from(used(1));
        let edge = config.metrics.listen.address().is_some();
        Self { telemetry: config.serves_metrics() || destinations > 0, destinations, edge }
    }

    fn threads(self) -> u64 {
        let telemetry = if self.telemetry { THREADS_OF_TELEMETRY } else { 0 };
        let edge = if self.edge { THREADS_OF_EDGE } else { 0 };
        telemetry + self.destinations * THREADS_PER_DESTINATION + edge
    }

    fn open_files(self) -> u64 {
        let telemetry = if self.telemetry { OPEN_FILES_OF_TELEMETRY } else { 0 };
        let edge = if self.edge { OPEN_FILES_OF_EDGE + EdgeLimits::DEFAULT.connections as u64 } else { 0 };
        telemetry + edge
    }
}

/// The clients that the doors serve at most.
#[cfg(feature = "serve")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct DoorsDemand {
    http_connections: u64,
    nats_connections: u64,
    agents: u64,
}

#[cfg(feature = "serve")]
impl DoorsDemand {
    fn of(config: &Config) -> Self {
        let (doors, http, nats) = (&config.doors, config.http.listen, config.nats.listen);
        let connections = |listen: ListenAddress| {
            if listen.address().is_some() { doors.connections_max.as_usize() as u64 } else { 0 }
        };
        let socket = if config.http.socket.path().is_some() { doors.connections_max.as_usize() as u64 } else { 0 };
        let (http_connections, nats_connections) = (connections(http) + socket, connections(nats));
        let are_open = http_connections + nats_connections > 0;
        Self {
            http_connections,
            nats_connections,
            agents: if are_open { doors.agents_max.as_usize() as u64 } else { 0 },
        }
    }

    fn are_open(self) -> bool {
        self.connections() > 0
    }

    fn connections(self) -> u64 {
        self.http_connections + self.nats_connections
    }

    fn memory_bytes(self) -> u64 {
        self.http_connections * MEMORY_BYTES_PER_HTTP_CONNECTION
            + self.nats_connections * MEMORY_BYTES_PER_NATS_CONNECTION
            + self.agents * MEMORY_BYTES_PER_OUTSIDE_AGENT
    }
}

/// What the store needs of its disk.
#[cfg(feature = "store")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreDemand {
    /// Its directory.
    pub directory: PathBuf,
    /// The size of one segment of a shard's journal, in bytes.
    pub segment_bytes: u64,
    /// The maximum number of segments of a shard's journal.
    pub segments_max: u64,
}

impl Demand {
    /// Returns what a router with these settings needs on this many allowed cores.
    pub fn of(config: &Config, cores_allowed: usize) -> Self {
        let shards = config.router.shards.resolve(cores_allowed, config.has_store());
        Self {
            shards,
            shards_given: matches!(config.router.shards, ShardChoice::Exactly(_)),
            ring_bytes: ring_bytes(config.ring.capacity, shards),
            rings: config.ring.capacity,
            #[cfg(feature = "telemetry")]
            beside: Beside::of(config),
            #[cfg(feature = "serve")]
            doors: DoorsDemand::of(config),
            #[cfg(feature = "cluster")]
            joins_cluster: config.cluster.is_enabled(),
            #[cfg(feature = "wasm")]
            guests: config.wasm.guests.into_inner(),
            #[cfg(feature = "store")]
            store: config.store.directory.path().map(|directory| StoreDemand {
                directory: directory.to_owned(),
                segment_bytes: config.store.segment_bytes.into_inner(),
                segments_max: config.store.segments_max.as_usize() as u64,
            }),
        }
    }

    /// Adds the telemetry thread, which there is also when a program takes the traces.
    #[cfg(feature = "telemetry")]
    pub(crate) fn with_telemetry(mut self) -> Self {
        self.beside.telemetry = true;
        self
    }

    fn count(&self) -> u64 {
        u64::from(self.shards.into_inner())
    }

    /// Whether there is a telemetry thread.
    #[cfg_attr(
        not(feature = "telemetry"),
        expect(clippy::unused_self, reason = "only with the feature there can be one")
    )]
    pub(super) fn has_telemetry(&self) -> bool {
        #[cfg(feature = "telemetry")]
        return self.beside.telemetry;
        #[cfg(not(feature = "telemetry"))]
        false
    }

    /// Returns the memory to be locked by the shards and the telemetry thread, in bytes. Each has an executor with rings.
    pub fn memory_lock_bytes(&self) -> u64 {
        (self.count() + u64::from(self.has_telemetry())) * MEMORY_LOCK_BYTES_PER_SHARD
    }

    /// Returns the number of open files, besides the connections of the doors.
    pub fn open_files(&self) -> u64 {
        let shards = OPEN_FILES_BASE + self.count() * OPEN_FILES_PER_SHARD;
        #[cfg(feature = "telemetry")]
        let shards = shards + self.beside.open_files();
        #[cfg(feature = "serve")]
        let shards = shards + if self.doors.are_open() { OPEN_FILES_OF_EDGE } else { 0 };
        #[cfg(feature = "cluster")]
        let shards = shards + if self.joins_cluster { OPEN_FILES_OF_CLUSTER } else { 0 };
        shards
    }

    /// Returns the maximum number of connections of the doors, each of which is an open file.
    pub fn connections(&self) -> u64 {
        #[cfg(feature = "serve")]
        return self.doors.connections();
        #[cfg(not(feature = "serve"))]
        0
    }

    /// Returns the number of threads.
    pub fn threads(&self) -> u64 {
        let shards = THREADS_BASE + self.count() * THREADS_PER_SHARD;
        #[cfg(feature = "telemetry")]
        let shards = shards + self.beside.threads();
        #[cfg(feature = "serve")]
        let shards = shards + if self.doors.are_open() { THREADS_OF_DOORS } else { 0 };
        #[cfg(feature = "cluster")]
        let shards = shards + if self.joins_cluster { THREADS_OF_CLUSTER } else { 0 };
        shards
    }

    /// Returns the memory that should be available, in bytes.
    pub fn memory_bytes(&self) -> u64 {
        (self.count() * MEMORY_BYTES_PER_SHARD).saturating_add(self.ring_bytes).saturating_add(self.doors_bytes())
    }

    /// Returns the memory of the doors when they serve as many clients as they may and nothing waits for those, in bytes.
    pub fn doors_bytes(&self) -> u64 {
        #[cfg(feature = "serve")]
        return self.doors.memory_bytes();
        #[cfg(not(feature = "serve"))]
        0
    }

    /// Returns the address space that a start takes, in bytes.
    pub fn address_bytes(&self) -> u64 {
        (ADDRESS_BYTES_BASE + self.threads() * ADDRESS_BYTES_PER_THREAD).saturating_add(self.ring_bytes)
    }

    /// Returns the maximum number of shards whose rings fit into this many bytes.
    pub fn shards_within(&self, bytes: u64) -> u16 {
        let fits =
            |shards: &u16| ShardCount::try_new(*shards).is_ok_and(|shards| ring_bytes(self.rings, shards) <= bytes);
        (1..=self.shards.into_inner()).rev().find(fits).unwrap_or(1)
    }

    /// Returns the automatic number of shards for this many allowed cores.
    pub fn automatic_shards(&self, cores_allowed: usize) -> ShardCount {
        automatic_shard_count(cores_allowed, self.has_store())
    }

    /// Whether there is a store.
    #[cfg_attr(not(feature = "store"), expect(clippy::unused_self, reason = "only with the feature there can be one"))]
    fn has_store(&self) -> bool {
        #[cfg(feature = "store")]
        return self.store.is_some();
        #[cfg(not(feature = "store"))]
        false
    }
}

#[cfg(feature = "store")]
impl StoreDemand {
    /// Returns the bytes that this many shards write early in a run.
    pub fn bytes_at_start(&self, shards: ShardCount) -> u64 {
        u64::from(shards.into_inner()) * SEGMENTS_AT_START.min(self.segments_max) * self.segment_bytes
    }

    /// Returns the maximum size of the journals of this many shards, in bytes.
    pub fn bytes_max(&self, shards: ShardCount) -> u64 {
        u64::from(shards.into_inner()).saturating_mul(self.segments_max.saturating_mul(self.segment_bytes))
    }
}
