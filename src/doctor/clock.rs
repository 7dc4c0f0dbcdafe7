//! The system's clocks: expiry, delays and the order of a store's runs depend on the wall clock.

use std::fs;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Earliest plausible time of a clock: the beginning of 2025, in seconds since 1970.
pub const SECONDS_MIN: u64 = 1_735_689_600;
/// Where the kernel names its clock source.
const CLOCK_SOURCE: &str = "/sys/devices/system/clocksource/clocksource0/current_clocksource";

/// The readings of the clocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clock {
    /// The wall clock, since 1970.
    pub wall: Duration,
    /// How much the wall clock deviated from the monotonic one while both were watched.
    pub stepped: Duration,
    /// Whether the kernel considers the wall clock synchronised. `None` if it does not say.
    pub synchronised: Option<bool>,
    /// The kernel's clock source, such as `tsc`.
    pub source: Option<String>,
}

impl Clock {
    /// Reads the clocks, and watches them for this long.
    pub fn read(watch: Duration) -> Self {
        let (wall, monotonic) = (wall(), Instant::now());
        if !watch.is_zero() {
            // Passing time is what is measured here.
            std::thread::sleep(watch);
        }
        let expected = wall + monotonic.elapsed();
        let now = self::wall();
        Self {
            wall: now,
            stepped: now.abs_diff(expected),
            synchronised: is_synchronised(),
            source: fs::read_to_string(CLOCK_SOURCE).ok().map(|source| source.trim().to_owned()),
        }
    }
}

fn wall() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Whether the kernel's clock is disciplined, for example by an NTP daemon on this host or, for a container, on its
/// host.
#[allow(unsafe_code, reason = "no safe interface to adjtimex exists among the dependencies")]
fn is_synchronised() -> Option<bool> {
    // SAFETY: all zeros are a valid `timex`, which consists of integers; with no mode set the call changes nothing, and
    // it writes within the structure only.
    let (state, status) = unsafe {
        let mut timex: libc::timex = std::mem::zeroed();
        (libc::adjtimex(&raw mut timex), timex.status)
    };
    (state >= 0).then_some(state != libc::TIME_ERROR && status & libc::STA_UNSYNC == 0)
}
