//! A shard's half of the way to the telemetry thread: its records in a ring, and its turns in intervals.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use caxton_shards::mesh::ring::{Consumer, Producer, ring};
use caxton_shards::shard::Shard;
use caxton_shards::trace::{StageRecord, Watching};
use hdrhistogram::Histogram;

use crate::telemetry::latency::{Latencies, Latency};
use crate::telemetry::state::TelemetryState;

/// Maximum number of records in the ring of one shard. Beyond it they are dropped and counted.
const RING_RECORDS: NonZeroUsize = NonZeroUsize::new(16_384).expect("it is not zero");

type Interval = Box<Histogram<u64>>;

/// What a shard's driver holds.
pub(crate) struct RecordFeed {
    records: Producer<StageRecord>,
    state: Arc<TelemetryState>,
    watching: Watching,
    /// The turns since the last interval was handed over.
    turns: Interval,
    worked: bool,
    last_ns: u64,
    wanted: Arc<AtomicBool>,
    intervals: flume::Sender<Interval>,
    spares: flume::Receiver<Interval>,
    /// What the shard itself dropped, as far as it is counted.
    lost: u64,
    /// Messages that the shard did not keep, as far as they are counted.
    unkept: u64,
    /// Messages of traces sampled by peers that the shard did not follow, as far as they are counted.
    unfollowed: u64,
}

/// What the telemetry thread holds for each shard.
pub(crate) struct RecordSource {
    records: Consumer<StageRecord>,
    wanted: Arc<AtomicBool>,
    intervals: flume::Receiver<Interval>,
    spares: flume::Sender<Interval>,
}

/// Creates both halves for one shard.
pub(crate) fn feed(state: Arc<TelemetryState>, watching: Watching) -> (RecordFeed, RecordSource) {
    let (producer, consumer) = ring(RING_RECORDS);
    let (intervals, handed_over) = flume::bounded(1);
    let (spares, taken_back) = flume::bounded(1);
    let wanted = Arc::new(AtomicBool::new(false));
    let _ = spares.send(Box::new(Latencies::empty()));
    let feed = RecordFeed {
        records: producer,
        state,
        watching,
        turns: Box::new(Latencies::empty()),
        worked: false,
        last_ns: 0,
        wanted: Arc::clone(&wanted),
        intervals,
        spares: taken_back,
        lost: 0,
        unkept: 0,
        unfollowed: 0,
    };
    (feed, RecordSource { records: consumer, wanted, intervals: handed_over, spares })
}

impl RecordFeed {
    /// Passes on what a turn recorded, after the turn that began at this time. Never waits.
    #[inline]
    pub fn pass(&mut self, shard: &mut Shard, now_ns: u64, worked: bool) {
        if self.worked {
            // A driver continues at once after a turn that did something, so this was the duration of that turn.
            self.turns.saturating_record(now_ns.saturating_sub(self.last_ns).max(1));
        }
        (self.worked, self.last_ns) = (worked, now_ns);
        if !shard.stage_records().is_empty() {
            self.pass_records(shard);
        }
        let unkept = shard.unkept_messages();
        if unkept != self.unkept {
            TelemetryState::add(&self.state.messages_unkept, unkept - self.unkept);
            self.unkept = unkept;
        }
        let unfollowed = shard.unfollowed_messages();
        if unfollowed != self.unfollowed {
            TelemetryState::add(&self.state.messages_unfollowed, unfollowed - self.unfollowed);
            self.unfollowed = unfollowed;
        }
        let threshold = self.state.sampling_threshold.load(Ordering::Relaxed);
        let followed_threshold = self.state.followed_threshold.load(Ordering::Relaxed);
        if (threshold, followed_threshold) != (self.watching.threshold, self.watching.followed_threshold) {
            self.watching = Watching { threshold, followed_threshold, ..self.watching };
            shard.watch_messages(self.watching);
        }
        if self.wanted.load(Ordering::Relaxed) {
            self.hand_over();
        }
    }

    #[cold]
    fn pass_records(&mut self, shard: &mut Shard) {
        let mut dropped = 0;
        for record in shard.stage_records().drain(..) {
            dropped += u64::from(self.records.push(record).is_err());
        }
        self.records.publish();
        let lost = shard.stage_records_lost();
        dropped += lost - self.lost;
        self.lost = lost;
        TelemetryState::add(&self.state.records_dropped, dropped);
        self.state.bell.ring();
    }

    #[cold]
    fn hand_over(&mut self) {
        self.wanted.store(false, Ordering::Relaxed);
        if let Ok(spare) = self.spares.try_recv() {
            // There is one interval on its way at most, so that there is room.
            let _ = self.intervals.try_send(std::mem::replace(&mut self.turns, spare));
        }
    }
}

impl RecordSource {
    /// Takes up to `most` records.
    pub fn drain(&mut self, most: usize, accept: impl FnMut(StageRecord)) -> usize {
        self.records.drain_chunk(most, accept)
    }

    /// Whether there are records.
    pub fn has_records(&mut self) -> bool {
        !self.records.is_empty()
    }

    /// Adds the last interval's turns, and asks the shard for the next one. A shard that takes no turns hands nothing
    /// over.
    pub fn collect_turns(&self, latencies: &mut Latencies) {
        if let Ok(mut interval) = self.intervals.try_recv() {
            latencies.add(Latency::Turn, &interval);
            interval.reset();
            let _ = self.spares.try_send(interval);
        }
        self.wanted.store(true, Ordering::Relaxed);
    }
}
