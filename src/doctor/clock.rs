//! What the system's clocks do: expiry, delays and the order of a store's runs go by the wall clock.

use std::fs;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The moment before which no clock is right: the beginning of 2025, in seconds since 1970.
pub const SECONDS_MIN: u64 = 1_735_689_600;
/// Where the kernel says by what it counts time.
const CLOCK_SOURCE: &str = "/sys/devices/system/clocksource/clocksource0/current_clocksource";

/// What was read of the clocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clock {
    /// The wall clock, since 1970.
    pub wall: Duration,
    /// By how much the wall clock moved more or less than the monotonic one while both were watched.
    pub stepped: Duration,
    /// Whether the kernel takes the wall clock for synchronised with others. `None` if it does not say.
    pub synchronised: Option<bool>,
    /// By what the kernel counts time, such as `tsc`.
    pub source: Option<String>,
}

impl Clock {
    /// Reads the clocks, and watches them for so long.
    pub fn read(watch: Duration) -> Self {
        let (wall, monotonic) = (wall(), Instant::now());
        if !watch.is_zero() {
            // Time itself is what is waited for here.
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

/// Whether the kernel's clock is disciplined by somebody, such as an NTP daemon on this host or, for a container, on its host.
#[allow(unsafe_code, reason = "no safe interface to adjtimex exists among the dependencies")]
fn is_synchronised() -> Option<bool> {
    // SAFETY: all zeros are a legal `timex`, which is integers throughout; with no mode set the call changes nothing, and writes
    // within the structure only.
    let (state, status) = unsafe {
        let mut timex: libc::timex = std::mem::zeroed();
        (libc::adjtimex(&raw mut timex), timex.status)
    };
    (state >= 0).then_some(state != libc::TIME_ERROR && status & libc::STA_UNSYNC == 0)
}
