//! Whether work grows no faster than its input, whatever the machine is and does beside it.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Bytes of the shorter input.
const LENGTH: usize = 64 << 10;
/// How many times as long the longer one is.
const TIMES: usize = 8;
/// By how much the work may grow between them. Work that grows with the square grows by 64.
const GROWTH_MAX: u32 = 32;
/// What takes less than this says nothing of growth.
const TIME_MIN: Duration = Duration::from_millis(1);
/// Caches and interrupts cost some runs more than others: the cheapest of so many counts.
const TRIES: usize = 3;

/// Asserts that reading `prefix`, then `unit` again and again, and then `suffix` takes time in proportion to the length. What is
/// measured is the time that this thread spent on a processor: it does not count while others do.
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
