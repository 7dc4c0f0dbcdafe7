//! The telemetry thread: takes the shards' records and makes latencies and traces of them.
//!
//! One glommio executor without a core of its own. It looks at the rings at intervals while records arrive, and parks
//! until a shard rings when none do. Nothing that it does can hold up a shard: rings that it does not empty in time drop
//! records.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::{Duration, Instant};

use caxton_shards::mesh::doorbell::Doorbell;
use futures_lite::future::or;
use glommio::timer::Timer;
use glommio::{ExecutorJoinHandle, GlommioError, LocalExecutorBuilder, Placement};

use crate::clock::wall_time;
use crate::shard_handle::Shared;
use crate::telemetry::assemble::{Assembler, MessageTrace};
use crate::telemetry::export::ExportSettings;
use crate::telemetry::exporting::Exporting;
use crate::telemetry::feed::RecordSource;
use crate::telemetry::figures::Figures;
use crate::telemetry::latency::Latencies;
use crate::telemetry::sampling::Adjustment;
use crate::telemetry::state::TelemetryState;

/// Interval between two looks at the rings while records arrive.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Interval at which results are published.
const PUBLISH_EVERY: Duration = Duration::from_secs(1);
/// Interval at which sampling is adjusted while records arrive: short, because what is too much costs the shards.
const ADJUST_EVERY: Duration = Duration::from_millis(100);
/// Maximum number of records taken from one ring at a time.
const RECORDS_PER_LOOK_MAX: usize = 4_096;
/// Registered memory for I/O, in bytes.
const IO_MEMORY: usize = 1 << 18;

/// Receives each trace. What it has no room for is counted.
pub(crate) type TraceSink = flume::Sender<MessageTrace>;

/// The arguments of the telemetry thread.
pub(crate) struct TelemetryLaunch {
    pub state: Arc<TelemetryState>,
    pub sources: Vec<RecordSource>,
    pub sinks: Vec<TraceSink>,
    pub export: ExportSettings,
    /// The router whose metrics are exported.
    pub shared: Arc<Shared>,
    /// The origin of monotonic time.
    pub start: Instant,
    pub adjustment: Adjustment,
}

impl TelemetryLaunch {
    /// Gathers the arguments for a router with these settings.
    pub fn new(shared: &Arc<Shared>, sinks: Vec<TraceSink>, export: ExportSettings, start: Instant) -> Self {
        let (state, adjustment) = (Arc::clone(&shared.telemetry), Adjustment::new(&shared.config));
        Self { state, sources: Vec::new(), sinks, export, shared: Arc::clone(shared), start, adjustment }
    }
}

/// Starts the telemetry thread.
///
/// # Errors
///
/// The executor cannot be created on this host.
pub(crate) fn start(launch: TelemetryLaunch) -> Result<ExecutorJoinHandle<()>, GlommioError<()>> {
    LocalExecutorBuilder::new(Placement::Unbound)
        .name("caxton-telemetry")
        .io_memory(IO_MEMORY)
        .spawn(move || Telemetry::new(launch).run())
}

/// What one look at the rings yielded.
struct Taken {
    records: usize,
    /// Whether a ring may have more.
    is_more: bool,
}

struct Telemetry {
    state: Arc<TelemetryState>,
    shared: Arc<Shared>,
    sources: Vec<RecordSource>,
    sinks: Vec<TraceSink>,
    start: Instant,
    adjustment: Adjustment,
    assembler: Assembler,
    latencies: Latencies,
    published: Instant,
    adjusted: Instant,
    exporting: Option<Exporting>,
}

impl Telemetry {
    fn new(launch: TelemetryLaunch) -> Self {
        let TelemetryLaunch { state, sources, sinks, export, shared, start, adjustment } = launch;
        let exporting = export.exports().then(|| {
            let ago_ns = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
            let start_unix_ns = (wall_time().0 * 1_000_000).saturating_sub(ago_ns);
            Exporting::begin(export, &state.export, state.ids, start_unix_ns)
        });
        Self {
            assembler: Assembler::new(state.ids),
            state,
            sources,
            sinks,
            shared,
            start,
            adjustment,
            latencies: Latencies::new(),
            published: Instant::now(),
            adjusted: Instant::now(),
            exporting,
        }
    }

    async fn run(mut self) {
        loop {
            // Nobody may be there to say so: the last handle may have been dropped on a shard's thread.
            let have_left = || self.shared.links.iter().all(|link| link.left.load(Ordering::Acquire));
            let stopping = self.state.stopping.load(Ordering::Acquire) || have_left();
            let taken = self.look();
            self.give_up();
            self.adjust();
            if self.published.elapsed() >= PUBLISH_EVERY || stopping {
                self.publish();
            }
            self.export_metrics();
            self.export_logs();
            let due = self.exporting.as_mut().map(|exporting| {
                let spans_due = exporting.look(Instant::now());
                spans_due.map_or(exporting.metrics_due(), |due| due.min(exporting.metrics_due()))
            });
            if stopping && taken.records == 0 {
                break;
            }
            if taken.is_more {
                // What else this executor does gets its turn meanwhile.
                glommio::executor().yield_now().await;
            } else if taken.records > 0 {
                if !stopping {
                    Timer::new(LOOK_EVERY).await;
                }
            } else {
                let sources = &mut self.sources;
                let is_due =
                    || self.state.stopping.load(Ordering::Acquire) || sources.iter_mut().any(RecordSource::has_records);
                let wait = due.map_or(PUBLISH_EVERY, |due| due.saturating_duration_since(Instant::now()));
                or(rung(&self.state.bell, is_due), async {
                    Timer::new(wait.min(PUBLISH_EVERY)).await;
                })
                .await;
            }
        }
        for trace in self.assembler.finish() {
            self.pass(&trace);
        }
        self.publish();
        self.export_logs();
        if let Some(mut exporting) = self.exporting.take() {
            // The shards have left, so these are the final figures.
            exporting.send_metrics(&Figures::gather(&self.shared));
            exporting.close().await;
        }
        self.state.bell.clear();
    }

    /// Adjusts sampling to what has come, if it is time.
    fn adjust(&mut self) {
        let interval = self.adjusted.elapsed();
        if interval >= ADJUST_EVERY {
            self.adjusted = Instant::now();
            self.adjustment.adjust(&self.state, u64::try_from(interval.as_millis()).unwrap_or(u64::MAX));
        }
    }

    /// Exports the metrics, if it is time.
    fn export_metrics(&mut self) {
        if let Some(exporting) = &mut self.exporting
            && exporting.is_metrics_turn(Instant::now())
        {
            exporting.send_metrics(&Figures::gather(&self.shared));
        }
    }

    /// Exports what was logged since the last time.
    fn export_logs(&self) {
        if let Some(exporting) = &self.exporting {
            let records: Vec<_> = self.state.log_records.1.drain().collect();
            if !records.is_empty() {
                exporting.send_logs(records);
            }
        }
    }

    /// Takes what is in the rings, up to a maximum.
    fn look(&mut self) -> Taken {
        let mut taken = Taken { records: 0, is_more: false };
        for place in 0..self.sources.len() {
            let mut traces = Vec::new();
            let assembler = &mut self.assembler;
            let records =
                self.sources[place].drain(RECORDS_PER_LOOK_MAX, |record| traces.extend(assembler.take(record)));
            taken.records += records;
            taken.is_more |= records == RECORDS_PER_LOOK_MAX;
            for trace in traces {
                self.pass(&trace);
            }
        }
        TelemetryState::add(&self.state.records_taken, taken.records as u64);
        taken
    }

    fn give_up(&mut self) {
        let now_ns = u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        for trace in self.assembler.give_up(now_ns) {
            self.pass(&trace);
        }
    }

    /// Counts a message's latencies, and passes its trace on.
    fn pass(&mut self, trace: &MessageTrace) {
        trace.measure(&mut self.latencies);
        if let Some(exporting) = &mut self.exporting {
            exporting.take(trace);
        }
        for sink in &self.sinks {
            if sink.try_send(trace.clone()).is_err() {
                TelemetryState::add(&self.state.traces_dropped, 1);
            }
        }
    }

    fn publish(&mut self) {
        self.published = Instant::now();
        for source in &self.sources {
            source.collect_turns(&mut self.latencies);
        }
        self.state.messages_given_up.store(self.assembler.given_up(), Ordering::Relaxed);
        self.state.publish(Arc::new(self.latencies.clone()));
    }
}

/// Waits until the doorbell is rung, or returns at once if `is_due`.
async fn rung(bell: &Doorbell, mut is_due: impl FnMut() -> bool) {
    let mut armed = false;
    poll_fn(|context| {
        if armed && !bell.is_armed() {
            return Poll::Ready(());
        }
        armed = true;
        bell.arm(context.waker());
        if is_due() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    bell.disarm();
}
