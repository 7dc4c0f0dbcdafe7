//! Says in the router's log that a destination fails, and that it works again.
//!
//! Bounded, because a destination may fail and work again with each request: what follows on a line within
//! [`REPORT_EVERY`] is counted, and the count is part of the next one.

use std::time::{Duration, Instant};

use tracing::{info, warn};

use crate::telemetry::logs::{EXPORT, LineSender};

/// Minimum time between two lines about failures of one destination.
const REPORT_EVERY: Duration = Duration::from_secs(10);

/// What is said about one destination.
pub(super) struct Reporter {
    destination: &'static str,
    log: LineSender,
    /// When a failure was logged last.
    reported: Option<Instant>,
    /// Whether the failure that goes on was logged.
    is_known: bool,
    /// Failures that were not logged since.
    unreported: u64,
}

impl Reporter {
    pub fn new(destination: &'static str, log: LineSender) -> Self {
        Self { destination, log, reported: None, is_known: false, unreported: 0 }
    }

    /// Logs that the destination begins to fail.
    pub fn failed(&mut self, why: &str, now: Instant) {
        if self.reported.is_some_and(|before| now.saturating_duration_since(before) < REPORT_EVERY) {
            self.unreported += 1;
            return;
        }
        (self.reported, self.is_known) = (Some(now), true);
        let (destination, why) = (self.destination, why.to_owned());
        let unreported = Some(std::mem::take(&mut self.unreported)).filter(|count| *count > 0);
        self.log.log(move || warn!(target: EXPORT, destination, why, unreported, "telemetry is not exported"));
    }

    /// Logs that the destination works again, if it was logged that it did not.
    pub fn succeeded(&mut self) {
        if std::mem::take(&mut self.is_known) {
            let destination = self.destination;
            self.log.log(move || info!(target: EXPORT, destination, "telemetry is exported again"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_destination_that_fails_again_and_again_is_counted() {
        let (log, logged) = LineSender::for_test();
        let mut reporter = Reporter::new("the collector", log);
        let start = Instant::now();
        for second in 0..25 {
            reporter.failed("it is absent", start + Duration::from_secs(second));
            reporter.succeeded();
        }
        assert_eq!(logged(), 6, "at 0, 10 and 20 s a failure and its end");
        assert_eq!(reporter.unreported, 4);
    }
}
