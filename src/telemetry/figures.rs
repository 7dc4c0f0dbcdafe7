//! All figures of a router at one moment, gathered for a scrape, an export or a check of its health.
//!
//! Gathering reads what the shards publish, and asks them for what they gather on request. It looks at shards, rings
//! and protocols, never at agents, so its cost does not depend on their number. Only the states of conversations are
//! counted one by one, by the shards in portions; if there are many, the last complete count is what is gathered. It
//! blocks its caller for at most
//! [`PATIENCE`] and must not run on a shard's thread.

use std::fs;
#[cfg(feature = "store")]
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use caxton_shards::api::{Details, Snapshot};
use caxton_shards::message::WallTime;
use rustix::param::{clock_ticks_per_second, page_size};

use crate::clock::wall_time;
use crate::drive::is_shard_thread;
use crate::edge::CloseReason;
use crate::shard_handle::{RouterPhase, ShardHandle, Shared};
use crate::telemetry::export::{Activity, DestinationState, ExportState, Signal, SignalCounts};
use crate::telemetry::health::{ComponentHealth, observe};
use crate::telemetry::latency::Latencies;

/// How long gathering waits for the shards' details. A shard in a long turn is not waited for, and older details count.
const PATIENCE: Duration = Duration::from_millis(2);
/// A shard that has been in a turn for this long is not waited for.
const LONG_TURN: Duration = Duration::from_millis(1);

/// All figures of a router.
#[derive(Debug)]
pub(crate) struct Figures {
    /// When they were gathered.
    pub now: WallTime,
    pub shards: Vec<ShardFigures>,
    pub watchdog_wakes: u64,
    pub own_agents: usize,
    pub latencies: Arc<Latencies>,
    pub records_taken: u64,
    pub records_dropped: u64,
    pub exports: Vec<ExportTotals>,
    pub messages_given_up: u64,
    pub traces_dropped: u64,
    pub messages_unkept: u64,
    pub messages_unfollowed: u64,
    /// None without a telemetry thread: nothing is sampled then.
    pub sampling: Option<f64>,
    pub connections: u64,
    pub connections_refused: u64,
    /// Connections that the edge closed, by reason.
    pub connections_closed: [(&'static str, u64); CloseReason::COUNT],
    pub requests: u64,
    #[cfg(feature = "serve")]
    pub nats: Arc<crate::edge::NatsFigures>,
    /// None if the router is in no cluster.
    #[cfg(feature = "cluster")]
    pub cluster: Option<crate::cluster::Look>,
    pub health: Vec<ComponentHealth>,
    pub process: ProcessFigures,
    #[cfg(feature = "store")]
    pub store: Option<StoreFigures>,
    #[cfg(feature = "wasm")]
    pub wasm: crate::wasm::figures::WasmFigures,
    #[cfg(feature = "wasm")]
    pub plugins: Vec<PluginTotals>,
}

/// The figures of one shard.
#[derive(Debug)]
pub(crate) struct ShardFigures {
    pub snapshot: Snapshot,
    pub details: Arc<Details>,
    pub turns: u64,
    pub parks: u64,
    pub times_blocked: u64,
    pub is_blocked: bool,
    /// The time of the current turn, if the shard is in one.
    pub in_turn: Option<Duration>,
    /// Calls from outside that it has not taken yet.
    pub queued: usize,
    #[cfg(feature = "store")]
    pub journal: JournalTotals,
}

/// The figures of a shard's journal and its database.
#[cfg(feature = "store")]
#[derive(Debug)]
pub(crate) struct JournalTotals {
    pub commits: u64,
    pub records: u64,
    pub written_bytes: u64,
    pub segments: u64,
    pub is_refusing: bool,
    pub projected: u64,
    pub left_out: u64,
    pub rebuilds: u64,
}

/// The store's use of its disk.
#[cfg(feature = "store")]
#[derive(Debug)]
pub(crate) struct StoreFigures {
    pub journal_bytes: u64,
    pub database_bytes: u64,
    /// None if the file system does not tell.
    pub disk: Option<Disk>,
}

/// The space of a file system.
#[cfg(feature = "store")]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Disk {
    pub available_bytes: u64,
    pub size_bytes: u64,
}

/// The figures of a routing plugin.
#[cfg(feature = "wasm")]
#[derive(Debug)]
pub(crate) struct PluginTotals {
    pub name: Arc<str>,
    /// Messages that it inspected, rerouted, refused, annotated and failed on.
    pub inspected: u64,
    pub outcomes: [(&'static str, u64); 4],
}

/// What became of what was exported to one destination.
#[derive(Debug)]
pub(crate) struct ExportTotals {
    pub destination: &'static str,
    /// For each signal, how many of its items came to which end.
    pub outcomes: Vec<(&'static str, [(&'static str, u64); 4])>,
    pub retries: u64,
    pub queued_requests: u64,
    pub queued_bytes: u64,
}

/// The figures of the process; zero where the kernel does not tell.
#[derive(Debug, Default)]
pub(crate) struct ProcessFigures {
    pub user_seconds: f64,
    pub system_seconds: f64,
    pub resident_bytes: u64,
    pub virtual_bytes: u64,
    pub threads: u64,
    pub descriptors: u64,
    pub uptime_seconds: f64,
}

impl Figures {
    /// Gathers the figures.
    pub fn gather(shared: &Shared) -> Self {
        shared.links.iter().for_each(|link| link.details.want_states());
        refresh_details(shared);
        let state = &shared.telemetry;
        Self {
            now: wall_time(),
            shards: (0..shared.links.len()).map(|shard| ShardFigures::read(shared, shard)).collect(),
            watchdog_wakes: shared.watchdog_wakes.load(Relaxed),
            own_agents: crate::management::own_agents(&shared.config),
            latencies: state.latencies(),
            records_taken: state.records_taken.load(Relaxed),
            records_dropped: state.records_dropped.load(Relaxed),
            exports: exports(&state.export),
            messages_given_up: state.messages_given_up.load(Relaxed),
            traces_dropped: state.traces_dropped.load(Relaxed),
            messages_unkept: state.messages_unkept.load(Relaxed),
            messages_unfollowed: state.messages_unfollowed.load(Relaxed),
            sampling: state
                .has_thread
                .load(Relaxed)
                .then(|| state.sampling_threshold.load(Relaxed) as f64 / (1_u64 << 32) as f64),
            connections: shared.edge.connections.load(Relaxed),
            connections_refused: shared.edge.refused.load(Relaxed),
            connections_closed: CloseReason::ALL
                .map(|reason| (reason.as_str(), shared.edge.closed[reason as usize].load(Relaxed))),
            requests: shared.edge.requests.load(Relaxed),
            #[cfg(feature = "serve")]
            nats: Arc::clone(&shared.nats),
            #[cfg(feature = "cluster")]
            cluster: shared.cluster(),
            health: observe(shared).components().to_vec(),
            process: ProcessFigures::read(shared.running_for()),
            #[cfg(feature = "store")]
            store: StoreFigures::read(shared),
            #[cfg(feature = "wasm")]
            wasm: crate::wasm::figures::read(),
            #[cfg(feature = "wasm")]
            plugins: plugins(shared),
        }
    }
}

/// Asks all shards for their details.
pub(crate) fn request_details(shared: &Shared) {
    for (shard, link) in shared.links.iter().enumerate() {
        link.details.want();
        shared.ring(shard);
    }
}

/// Asks all shards for their details, and waits for them for a bounded time.
pub(crate) fn refresh_details(shared: &Shared) {
    request_details(shared);
    if is_shard_thread() {
        return;
    }
    let deadline = Instant::now() + PATIENCE;
    let is_awaited = |(shard, link): (usize, &ShardHandle)| {
        link.details.are_wanted() && shared.in_turn_for(shard).is_none_or(|time| time < LONG_TURN)
    };
    let is_done = || shared.phase() >= RouterPhase::Leaving || !shared.links.iter().enumerate().any(is_awaited);
    // A shard that has given its details notifies.
    shared.wait_until(|| deadline, is_done);
}

impl ShardFigures {
    /// Reads the figures of a shard. The details are those that it has given last.
    pub fn read(shared: &Shared, index: usize) -> Self {
        let link = &shared.links[index];
        Self {
            snapshot: link.published.read(),
            details: link.details.latest(),
            turns: link.turns.load(Relaxed),
            parks: link.parks.load(Relaxed),
            times_blocked: link.times_blocked.load(Relaxed),
            is_blocked: shared.is_blocked(index),
            in_turn: shared.in_turn_for(index),
            queued: link.gate.inside(),
            #[cfg(feature = "store")]
            journal: JournalTotals::read(&link.journal),
        }
    }
}

#[cfg(feature = "store")]
impl JournalTotals {
    fn read(figures: &crate::shard_handle::JournalFigures) -> Self {
        let segments = figures.segments();
        Self {
            commits: figures.commits.load(Relaxed),
            records: figures.records.load(Relaxed),
            written_bytes: figures.written_bytes.load(Relaxed),
            segments: (segments.end() + 1).saturating_sub(*segments.start()),
            is_refusing: figures.complaint.lock().unwrap_or_else(std::sync::PoisonError::into_inner).is_some(),
            projected: figures.projection.projected().0,
            left_out: figures.projection.left_out.load(Relaxed),
            rebuilds: figures.projection.rebuilds.load(Relaxed),
        }
    }
}

#[cfg(feature = "store")]
impl StoreFigures {
    /// Reads the figures, if there is a store.
    pub fn read(shared: &Shared) -> Option<Self> {
        let directory = shared.config.store.directory.path()?;
        let segments: u64 = shared.links.iter().map(|link| JournalTotals::read(&link.journal).segments).sum();
        let databases = shared.databases.get().map(Vec::as_slice).unwrap_or_default();
        // What was written last is beside the database until a checkpoint.
        let with_log = |database: &std::path::PathBuf| {
            let mut log = database.clone().into_os_string();
            log.push("-wal");
            length(database) + length(Path::new(&log))
        };
        Some(Self {
            journal_bytes: segments * crate::router::store::segment_bytes(&shared.config),
            database_bytes: databases.iter().map(with_log).sum(),
            disk: Disk::of(directory),
        })
    }
}

/// Returns the length of a file, or zero if there is none.
#[cfg(feature = "store")]
fn length(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |metadata| metadata.len())
}

#[cfg(feature = "store")]
impl Disk {
    /// Returns the space of the file system of a directory.
    pub fn of(directory: &Path) -> Option<Self> {
        let space = rustix::fs::statvfs(directory).ok()?;
        Some(Self {
            available_bytes: space.f_bavail.saturating_mul(space.f_frsize),
            size_bytes: space.f_blocks.saturating_mul(space.f_frsize),
        })
    }
}

/// Returns the totals of the destinations that are used.
fn exports(state: &ExportState) -> Vec<ExportTotals> {
    let destinations = [("collector", &state.collector), ("files", &state.files)];
    let used = destinations.into_iter().filter(|(_, destination)| destination.activity() != Activity::Off);
    let totals = |(name, destination): (&'static str, &Arc<DestinationState>)| ExportTotals {
        destination: name,
        outcomes: Signal::ALL.map(|signal| (signal.name(), outcomes(destination.of(signal)))).into(),
        retries: destination.retries.load(Relaxed),
        queued_requests: destination.queued_requests.load(Relaxed),
        queued_bytes: destination.queued_bytes.load(Relaxed),
    };
    used.map(totals).collect()
}

fn outcomes(counts: &SignalCounts) -> [(&'static str, u64); 4] {
    [
        ("exported", counts.exported.load(Relaxed)),
        ("dropped", counts.dropped.load(Relaxed)),
        ("failed", counts.failed.load(Relaxed)),
        ("rejected", counts.rejected.load(Relaxed)),
    ]
}

#[cfg(feature = "wasm")]
fn plugins(shared: &Shared) -> Vec<PluginTotals> {
    let plugins = shared.plugins();
    let totals = |plugin: &crate::wasm::Plugin| {
        let figures = plugin.figures();
        PluginTotals {
            name: plugin.name().into(),
            inspected: figures.asked.load(Relaxed),
            outcomes: [
                ("rerouted", figures.rerouted.load(Relaxed)),
                ("refused", figures.refused.load(Relaxed)),
                ("annotated", figures.annotated.load(Relaxed)),
                ("failed", figures.failed.load(Relaxed)),
            ],
        }
    };
    plugins.iter().map(totals).collect()
}

impl ProcessFigures {
    /// Reads the figures of this process. `uptime` is that of the router, which is as old as the process in a server.
    fn read(uptime: Duration) -> Self {
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        Self { descriptors: descriptors(), uptime_seconds: uptime.as_secs_f64(), ..Self::parse(&stat) }
    }

    /// Parses `/proc/self/stat`: see proc(5).
    fn parse(stat: &str) -> Self {
        // The name of the program, in parentheses, may contain anything; field 3 follows it.
        let fields: Vec<&str> =
            stat.rsplit_once(')').map_or_else(Vec::new, |(_, rest)| rest.split_whitespace().collect());
        let field = |number: usize| fields.get(number - 3).and_then(|text| text.parse().ok()).unwrap_or(0_u64);
        let seconds = |ticks: u64| ticks as f64 / clock_ticks_per_second().max(1) as f64;
        Self {
            user_seconds: seconds(field(14)),
            system_seconds: seconds(field(15)),
            threads: field(20),
            virtual_bytes: field(23),
            resident_bytes: field(24) * page_size() as u64,
            ..Self::default()
        }
    }
}

/// Returns the number of open file descriptors.
fn descriptors() -> u64 {
    const DESCRIPTORS: &str = "/proc/self/fd";
    // Since Linux 6.2 the directory's size is their number; before, it is zero.
    match fs::metadata(DESCRIPTORS).map_or(0, |metadata| metadata.len()) {
        0 => fs::read_dir(DESCRIPTORS).map_or(0, |entries| entries.count() as u64),
        count => count,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figures_of_a_process_are_read_behind_its_name() {
        let stat = "7 (a) b (c) R 1 7 7 0 -1 4194560 1 0 0 0 250 50 0 0 20 0 12 0 99 4096000 30 18446744073709551615";
        let figures = ProcessFigures::parse(stat);
        let ticks = clock_ticks_per_second() as f64;
        assert_eq!((figures.user_seconds * ticks, figures.system_seconds * ticks), (250.0, 50.0));
        assert_eq!((figures.threads, figures.virtual_bytes), (12, 4_096_000));
        assert_eq!(figures.resident_bytes, 30 * page_size() as u64);
        assert_eq!(ProcessFigures::parse("").threads, 0);
    }

    #[test]
    fn this_process_has_threads_memory_and_descriptors() {
        let figures = ProcessFigures::read(Duration::from_secs(3));
        assert!(figures.threads > 0 && figures.resident_bytes > 0 && figures.descriptors > 0, "{figures:?}");
        #[cfg(feature = "store")]
        assert!(Disk::of(Path::new("/")).is_some_and(|disk| disk.size_bytes > 0));
    }
}
