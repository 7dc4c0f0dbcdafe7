//! Figures of all guests of the process, for metrics. Calls are counted and timed only once somebody reads them.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use crossbeam::utils::CachePadded;

/// The threads share this many groups of counters, so that shards seldom write to the same one.
const GROUPS: usize = 16;

static MEASURED: AtomicBool = AtomicBool::new(false);
static CALLS: [CachePadded<[AtomicU64; 2]>; GROUPS] =
    [const { CachePadded::new([const { AtomicU64::new(0) }; 2]) }; GROUPS];
static TRAPS: AtomicU64 = AtomicU64::new(0);
static MEMORY_BYTES: AtomicU64 = AtomicU64::new(0);
static NEXT_GROUP: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static GROUP: Cell<usize> = Cell::new(NEXT_GROUP.fetch_add(1, Ordering::Relaxed) % GROUPS);
}

/// The figures at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct WasmFigures {
    /// Slices of calls that have run.
    pub slices: u64,
    /// Their time in total, in nanoseconds.
    pub time_ns: u64,
    /// Calls that ended with a trap.
    pub traps: u64,
    /// Bytes of linear memory in use.
    pub memory_bytes: u64,
}

/// Returns the figures. Slices are counted from the first call on.
pub(crate) fn read() -> WasmFigures {
    MEASURED.store(true, Ordering::Relaxed);
    let sum = |figure: usize| CALLS.iter().map(|group| group[figure].load(Ordering::Relaxed)).sum();
    WasmFigures { slices: sum(0), time_ns: sum(1), traps: traps(), memory_bytes: MEMORY_BYTES.load(Ordering::Relaxed) }
}

/// Returns the number of calls that ended with a trap.
pub(crate) fn traps() -> u64 {
    TRAPS.load(Ordering::Relaxed)
}

/// Begins to measure a slice, if slices are measured.
pub(super) fn begin() -> Option<Instant> {
    MEASURED.load(Ordering::Relaxed).then(Instant::now)
}

/// Counts a slice that began then.
pub(super) fn end(began: Option<Instant>) {
    if let Some(began) = began {
        let group = &CALLS[GROUP.get()];
        group[0].fetch_add(1, Ordering::Relaxed);
        group[1].fetch_add(u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

/// Counts a call that ended with a trap.
#[cold]
pub(super) fn count_trap() {
    TRAPS.fetch_add(1, Ordering::Relaxed);
}

/// Counts memory that an instance has grown by.
pub(super) fn grow(bytes: usize) {
    MEMORY_BYTES.fetch_add(bytes as u64, Ordering::Relaxed);
}

/// Counts memory that an instance has given back.
pub(super) fn shrink(bytes: usize) {
    MEMORY_BYTES.fetch_sub(bytes as u64, Ordering::Relaxed);
}
