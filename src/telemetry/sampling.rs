//! How many messages are watched: the configured part, or fewer when there would be too many records.

use std::sync::atomic::Ordering;

use caxton_shards::trace::Watching;

use crate::config::Config;
use crate::telemetry::state::TelemetryState;

/// The threshold at which everything is watched.
pub(crate) const ALL: u64 = 1 << 32;

/// Returns which messages the shards of a router watch at first.
pub(crate) fn watching(config: &Config, state: &TelemetryState) -> Watching {
    Watching {
        threshold: threshold(config),
        followed_threshold: ALL,
        salt: state.ids.salt(),
        keeps: true,
        slow_ms: u64::from(config.telemetry.slow_ms.into_inner()),
        kept_per_second_max: config.telemetry.kept_per_second.into_inner(),
    }
}

/// Returns the configured part of the messages, in 2^32nds.
pub(crate) fn threshold(config: &Config) -> u64 {
    threshold_of(config.telemetry.sampling.into_inner())
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // A ratio is from 0 to 1.
fn threshold_of(ratio: f64) -> u64 {
    ((ratio * ALL as f64) as u64).min(ALL)
}

/// Adjusts the thresholds to what the telemetry thread is to take.
#[derive(Debug)]
pub(crate) struct Adjustment {
    configured: u64,
    records_per_second_max: u64,
    seen: u64,
}

impl Adjustment {
    pub fn new(config: &Config) -> Self {
        Self {
            configured: threshold(config),
            records_per_second_max: u64::from(config.telemetry.records_per_second.into_inner()),
            seen: 0,
        }
    }

    /// Looks at what came in an interval of this many milliseconds, and sets the thresholds for the next one: that for the
    /// router's own conversations, and that for traces that peers sampled. All shards use the same, so that conversations
    /// and traces are still watched as a whole.
    pub fn adjust(&mut self, state: &TelemetryState, interval_ms: u64) {
        let so_far = state.records_taken.load(Ordering::Relaxed) + state.records_dropped.load(Ordering::Relaxed);
        let came = (so_far - self.seen) * 1_000 / interval_ms.max(1);
        self.seen = so_far;
        for (threshold, configured) in [(&state.sampling_threshold, self.configured), (&state.followed_threshold, ALL)]
        {
            let next = next_threshold(threshold.load(Ordering::Relaxed), configured, came, self.records_per_second_max);
            threshold.store(next, Ordering::Relaxed);
        }
    }
}

/// Returns the threshold after an interval with so many records per second.
fn next_threshold(threshold: u64, configured: u64, came: u64, most: u64) -> u64 {
    let fitting = u128::from(threshold) * u128::from(most) / u128::from(came.max(1));
    let fitting = u64::try_from(fitting).unwrap_or(u64::MAX);
    if came > most {
        // Never zero: otherwise nothing would show that there is room again.
        fitting.max(1)
    } else {
        // Not at once to the limit, because the load may have fallen for a moment only.
        fitting.min(threshold.saturating_mul(2)).min(configured)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_a_part_of_all() {
        assert_eq!([0.0, 0.5, 1.0].map(threshold_of), [0, 1 << 31, 1 << 32]);
    }

    #[test]
    fn sampling_falls_to_what_fits_and_recovers() {
        let configured = ALL / 100;
        let fallen = next_threshold(configured, configured, 500_000, 50_000);
        assert_eq!(fallen, configured / 10);
        let risen = next_threshold(fallen, configured, 10_000, 50_000);
        assert_eq!(risen, fallen * 2);
        assert_eq!(next_threshold(risen, configured, 0, 50_000), risen * 2);
        assert_eq!(next_threshold(configured, configured, 10, 50_000), configured);
        assert_eq!(next_threshold(1, configured, u64::MAX, 1), 1);
        assert_eq!(next_threshold(0, 0, 0, 1), 0, "what is off stays off");
    }

    #[test]
    fn what_peers_sample_falls_and_recovers_with_the_rest() {
        let mut config = Config::default();
        config.set("telemetry.records_per_second", "1000", "test").expect("it is legal");
        config.set("telemetry.sampling", "0.5", "test").expect("it is legal");
        let state = TelemetryState::new(threshold(&config));
        let mut adjustment = Adjustment::new(&config);
        let thresholds =
            || [&state.sampling_threshold, &state.followed_threshold].map(|one| one.load(Ordering::Relaxed));
        TelemetryState::add(&state.records_taken, 1_000);
        adjustment.adjust(&state, 100);
        assert_eq!(thresholds(), [ALL / 20, ALL / 10]);
        adjustment.adjust(&state, 100);
        assert_eq!(thresholds(), [ALL / 20 * 2, ALL / 10 * 2]);
        for _ in 0..9 {
            adjustment.adjust(&state, 100);
        }
        assert_eq!(thresholds(), [ALL / 2, ALL]);
    }
}
