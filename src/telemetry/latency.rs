//! Latencies of sampled messages.

use hdrhistogram::Histogram;

/// The largest latency that is told apart: one hour, in nanoseconds. Longer ones count as this long.
pub(crate) const LATENCY_NS_MAX: u64 = 3_600_000_000_000;

/// A part of a message's time in the router.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Latency {
    /// From its admission to the end of its handling.
    EndToEnd,
    /// From its admission on one shard to its arrival on another.
    Crossing,
    /// From its arrival to its commit in the journal.
    Journal,
    /// From its mailbox to its handler.
    Mailbox,
    /// In its handler, per attempt.
    Handler,
    /// One turn of a shard that did something.
    Turn,
}

impl Latency {
    /// The number of latencies.
    pub const COUNT: usize = 6;
    /// All latencies.
    #[cfg(feature = "serve")]
    pub const ALL: [Self; Self::COUNT] =
        [Self::EndToEnd, Self::Crossing, Self::Journal, Self::Mailbox, Self::Handler, Self::Turn];

    /// Returns the latency as one word.
    #[cfg(feature = "serve")]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::EndToEnd => "end_to_end",
            Self::Crossing => "crossing",
            Self::Journal => "journal",
            Self::Mailbox => "mailbox",
            Self::Handler => "handler",
            Self::Turn => "turn",
        }
    }
}

/// Histograms of all latencies, in nanoseconds, since the start of the router.
#[derive(Clone, Debug)]
pub(crate) struct Latencies([Histogram<u64>; Latency::COUNT]);

impl Latencies {
    /// Creates empty histograms with two significant digits.
    pub fn new() -> Self {
        Self(std::array::from_fn(|_| Self::empty()))
    }

    /// Creates one empty histogram.
    pub fn empty() -> Histogram<u64> {
        Histogram::new_with_bounds(1, LATENCY_NS_MAX, 2).expect("the bounds are legal")
    }

    /// Returns one of the histograms.
    pub fn of(&self, latency: Latency) -> &Histogram<u64> {
        &self.0[latency as usize]
    }

    /// Counts one latency.
    pub fn record(&mut self, latency: Latency, ns: u64) {
        self.0[latency as usize].saturating_record(ns.max(1));
    }

    /// Adds the counts of an interval.
    pub fn add(&mut self, latency: Latency, interval: &Histogram<u64>) {
        // Both have the same bounds, so that every value fits.
        let _ = self.0[latency as usize].add(interval);
    }
}
