//! How long it takes to the peer and back, and how long to wait for an acknowledgement (as in RFC 6298).

/// The shortest and longest time to wait for an acknowledgement.
const TIMEOUT_MS_MIN: u64 = 100;
const TIMEOUT_MS_MAX: u64 = 5_000;
/// How long to wait while nothing was measured.
const TIMEOUT_MS_FIRST: u64 = 500;
/// Maximum number of times that the time is doubled.
const DOUBLINGS_MAX: u32 = 6;

/// An estimate of the round trip.
#[derive(Default)]
pub(super) struct RoundTrip {
    /// The smoothed time and its deviation, in milliseconds times eight and four.
    smoothed: Option<(u64, u64)>,
    doublings: u32,
}

impl RoundTrip {
    /// Takes a measured round trip into account.
    pub fn measure(&mut self, milliseconds: u64) {
        self.smoothed = Some(match self.smoothed {
            None => (milliseconds * 8, milliseconds * 2),
            Some((smoothed, deviation)) => {
                let difference = (smoothed / 8).abs_diff(milliseconds);
                (smoothed - smoothed / 8 + milliseconds, deviation - deviation / 4 + difference)
            }
        });
    }

    /// Returns the estimate in milliseconds.
    pub fn estimate_ms(&self) -> Option<u64> {
        self.smoothed.map(|(smoothed, _)| smoothed / 8)
    }

    /// Returns how long to wait for an acknowledgement.
    pub fn timeout_ms(&self) -> u64 {
        let once = self.smoothed.map_or(TIMEOUT_MS_FIRST, |(smoothed, deviation)| smoothed / 8 + deviation);
        (once.clamp(TIMEOUT_MS_MIN, TIMEOUT_MS_MAX) << self.doublings).min(TIMEOUT_MS_MAX)
    }

    /// Returns how long to wait for something that was asked for.
    pub fn patience_ms(&self) -> u64 {
        self.timeout_ms() / 2
    }

    /// Doubles the time to wait, up to its limit: nothing was acknowledged within it.
    pub fn back_off(&mut self) {
        self.doublings = (self.doublings + 1).min(DOUBLINGS_MAX);
    }

    /// Ends the doubling: something was acknowledged.
    pub fn progress(&mut self) {
        self.doublings = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_to_wait_follows_the_measurements_and_is_doubled_within_limits() {
        let mut round_trip = RoundTrip::default();
        assert_eq!((round_trip.estimate_ms(), round_trip.timeout_ms()), (None, TIMEOUT_MS_FIRST));
        for _ in 0..100 {
            round_trip.measure(40);
        }
        assert_eq!(round_trip.estimate_ms(), Some(40));
        assert_eq!(round_trip.timeout_ms(), TIMEOUT_MS_MIN);
        let waits = |round_trip: &mut RoundTrip| {
            round_trip.back_off();
            round_trip.timeout_ms()
        };
        let times: Vec<_> = (0..8).map(|_| waits(&mut round_trip)).collect();
        assert_eq!(times, [200, 400, 800, 1_600, 3_200, 5_000, 5_000, 5_000]);
        round_trip.progress();
        assert_eq!(round_trip.timeout_ms(), TIMEOUT_MS_MIN);
        round_trip.measure(2_000);
        assert!(round_trip.timeout_ms() > 500);
    }
}
