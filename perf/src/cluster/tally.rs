//! The counts of a process, and the first thing that went wrong.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use super::stamp::{Stamp, cpu_ns, now_ns};
use crate::doors::times;

/// Maximum number of acknowledgements that come before one that was due earlier.
const EARLY_MAX: usize = 65_536;

/// The counts of a process.
pub struct Tally {
    pub sent: AtomicU64,
    pub handled: AtomicU64,
    pub acknowledged: AtomicU64,
    /// Whether nothing more is to be sent.
    pub is_over: AtomicBool,
    times: Mutex<Histogram<u64>>,
    fault: OnceLock<String>,
}

impl Tally {
    /// Creates a tally.
    ///
    /// # Errors
    ///
    /// The bounds of the latencies are not allowed.
    pub fn new() -> Result<Self, String> {
        Ok(Self {
            sent: AtomicU64::new(0),
            handled: AtomicU64::new(0),
            acknowledged: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
            times: Mutex::new(times().map_err(|error| error.to_string())?),
            fault: OnceLock::new(),
        })
    }

    /// Notes what went wrong, unless something did before.
    pub fn fail(&self, fault: impl Into<String>) {
        let _ = self.fault.set(fault.into());
    }

    /// Fails if something went wrong.
    ///
    /// # Errors
    ///
    /// What went wrong.
    pub fn check(&self) -> Result<(), String> {
        self.fault.get().map_or(Ok(()), |fault| Err(fault.clone()))
    }

    /// Records the latency of a message that was due at this time. Records nothing if the time is 0.
    pub fn record(&self, due_ns: u64) {
        if due_ns > 0 {
            let mut times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
            times.saturating_record(now_ns().saturating_sub(due_ns));
        }
    }

    /// Counts a message that was handled. `next` is the number that is due in its pair.
    pub fn take(&self, pair: u32, next: &mut u64, content: &[u8]) -> Option<Stamp> {
        let Some(stamp) = Stamp::read(content).filter(|stamp| stamp.pair == pair) else {
            self.fail(format!("pair {pair}: the content has changed on its way"));
            return None;
        };
        if stamp.number != *next {
            self.fail(format!("pair {pair}: message {} came where {next} was due", stamp.number));
        }
        *next = stamp.number + 1;
        self.record(stamp.due_ns);
        self.handled.fetch_add(1, Ordering::Relaxed);
        Some(stamp)
    }

    /// Returns the counts, and the time and CPU time at which they are taken.
    pub fn counts(&self) -> Value {
        json!({
            "at_ns": now_ns(),
            "cpu_ns": cpu_ns(),
            "sent": self.sent.load(Ordering::Relaxed),
            "handled": self.handled.load(Ordering::Relaxed),
            "acknowledged": self.acknowledged.load(Ordering::Relaxed),
        })
    }

    /// Returns the latencies.
    pub fn latencies(&self) -> Value {
        let times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        json!({
            "count": times.len(),
            "p50_ns": times.value_at_quantile(0.5),
            "p99_ns": times.value_at_quantile(0.99),
            "max_ns": times.max(),
        })
    }
}

/// Numbers of which each comes once, not always in order.
#[derive(Default)]
pub struct Once {
    next: u64,
    early: BTreeSet<u64>,
}

impl Once {
    /// Takes a number. Returns whether it has come for the first time, and not too early.
    pub fn take(&mut self, number: u64) -> bool {
        if number < self.next || self.early.len() >= EARLY_MAX || !self.early.insert(number) {
            return false;
        }
        while self.early.remove(&self.next) {
            self.next += 1;
        }
        true
    }

    /// Returns how many have come.
    pub fn count(&self) -> u64 {
        self.next + self.early.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::Once;

    #[test]
    fn each_number_comes_once_in_any_order() {
        let mut once = Once::default();
        assert!([2, 0, 3, 1].into_iter().all(|number| once.take(number)));
        assert_eq!((once.count(), once.next), (4, 4));
        assert!(!once.take(2) && once.take(5) && !once.take(5));
    }
}
