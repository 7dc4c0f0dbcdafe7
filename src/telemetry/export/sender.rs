//! Sends what is in a queue, one request after the other, and tries again what failed.

use std::hash::{BuildHasher as _, RandomState};
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use glommio::timer::Timer;

use super::queue::{Entry, Queue};
use super::state::{Activity, SignalCounts};

/// Number of attempts at one request.
pub(super) const ATTEMPTS_MAX: u32 = 5;
/// Delay before the second attempt; doubled each time.
pub(super) const RETRY_DELAY: Duration = Duration::from_secs(1);
/// The longest delay between two attempts, also if the collector asks for a longer one.
pub(super) const RETRY_DELAY_MAX: Duration = Duration::from_secs(30);
/// Random deviation of a delay in either direction, in percent.
const JITTER_PERCENT: u32 = 20;
/// Maximum length of a failure that is remembered, in characters.
const WHY_CHARACTERS_MAX: usize = 300;

/// The result of an attempt to send a request.
#[derive(Debug)]
pub(super) enum Outcome {
    /// It arrived, but for this number of items, which the collector does not want.
    Delivered { rejected: u64 },
    /// It did not, and may if it is tried again, at the earliest after this time.
    Again { why: String, after: Option<Duration> },
    /// It did not, and never will.
    Refused { why: String },
}

/// Where requests go.
pub(super) trait Destination {
    /// Its name in the log.
    const NAME: &str;

    /// Returns the bytes to send, for all attempts.
    async fn prepare(&mut self, entry: &Entry) -> Bytes;

    /// Makes one attempt. It ends within a bound.
    async fn send(&mut self, entry: &Entry, prepared: &Bytes) -> Outcome;

    /// Closes what is open.
    async fn close(self);
}

/// Sends the requests of a queue until it is closed. `delay` is that before the second attempt.
pub(super) async fn run<D: Destination>(queue: Rc<Queue>, mut destination: D, delay: Duration) {
    let state = &queue.state;
    while let Some(entry) = queue.front().await {
        state.turn(Activity::Sending);
        let counts = state.of(entry.signal);
        match send(&queue, &mut destination, &entry, delay).await {
            Some(rejected) => {
                let rejected = rejected.min(entry.items);
                SignalCounts::add(&counts.exported, entry.items - rejected);
                SignalCounts::add(&counts.rejected, rejected);
                if state.succeeded() {
                    tracing::info!("telemetry is exported to {} again", D::NAME);
                }
            }
            None => SignalCounts::add(&counts.failed, entry.items),
        }
        queue.pop();
        if queue.is_empty() {
            state.turn(Activity::Idle);
        }
    }
    destination.close().await;
}

/// Makes all attempts at one request. Returns the number of rejected items if it arrived.
async fn send<D: Destination>(queue: &Queue, destination: &mut D, entry: &Entry, delay: Duration) -> Option<u64> {
    let prepared = destination.prepare(entry).await;
    for attempt in 1.. {
        let (why, after) = match destination.send(entry, &prepared).await {
            Outcome::Delivered { rejected } => return Some(rejected),
            Outcome::Again { why, after } => (why, after),
            Outcome::Refused { why } => {
                report::<D>(queue, &why);
                return None;
            }
        };
        report::<D>(queue, &why);
        if attempt == ATTEMPTS_MAX {
            break;
        }
        let backoff = jittered(delay.saturating_mul(1 << (attempt - 1)).min(RETRY_DELAY_MAX));
        let wait = after.map_or(backoff, |after| after.min(RETRY_DELAY_MAX).max(backoff));
        queue.retry_at(Instant::now() + wait);
        Timer::new(wait).await;
        SignalCounts::add(&queue.state.retries, 1);
    }
    None
}

/// Remembers a failure, and logs the first in a row: a log that is exported itself must not grow by being exported.
fn report<D: Destination>(queue: &Queue, why: &str) {
    let why: String = why.chars().take(WHY_CHARACTERS_MAX).flat_map(char::escape_debug).collect();
    if queue.state.failed(&why) {
        tracing::warn!("telemetry is not exported to {}: {why}", D::NAME);
    }
}

fn jittered(delay: Duration) -> Duration {
    let spread = RandomState::new().hash_one(0_u8) % u64::from(2 * JITTER_PERCENT + 1);
    delay * (100 - JITTER_PERCENT + u32::try_from(spread).unwrap_or(0)) / 100
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_are_spread_around_their_length() {
        let delays: Vec<_> = (0..1_000).map(|_| jittered(Duration::from_secs(1)).as_millis()).collect();
        assert!(delays.iter().all(|delay| (800..=1_200).contains(delay)));
        assert!(delays.iter().any(|delay| *delay < 900) && delays.iter().any(|delay| *delay > 1_100));
    }
}
