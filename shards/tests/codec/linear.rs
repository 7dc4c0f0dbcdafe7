//! Checks that work grows no faster than its input, independent of the machine and its load.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Length of the shorter input, in bytes.
const LENGTH: usize = 64 << 10;
/// Factor between the lengths.
const TIMES: usize = 8;
/// Maximum growth of the work between them. Quadratic work grows by 64.
const GROWTH_MAX: u32 = 32;
/// Shorter times are too inaccurate to measure growth.
const TIME_MIN: Duration = Duration::from_millis(1);
/// Caches and interrupts slow some runs down: the fastest of this many counts.
const TRIES: usize = 3;

/// Asserts that reading `prefix`, then repetitions of `unit`, then `suffix` takes time proportional to the length.
/// Measures the CPU time of this thread, which does not count while others run.
#[track_caller]
pub fn grows_with_its_input([prefix, unit, suffix]: [&[u8]; 3], read: impl Fn(&[u8])) {
    let [short, long] = [LENGTH, LENGTH * TIMES].map(|length| {
        let input = [prefix, &unit.repeat(length / unit.len()), suffix].concat();
        cheapest(|| read(&input))
    });
    let allowed = GROWTH_MAX * short.max(TIME_MIN);
    assert!(
        long <= allowed,
        "{long:?} instead of {short:?} for {TIMES} times {:?}{:?}",
        String::from_utf8_lossy(prefix),
        String::from_utf8_lossy(unit)
    );
}

fn cheapest(work: impl Fn()) -> Duration {
    let once = |_| {
        let began = processor_time();
        work();
        processor_time().saturating_sub(began)
    };
    (0..TRIES).map(once).min().unwrap_or_default()
}

fn processor_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).expect("no thread has used negative time")
}
