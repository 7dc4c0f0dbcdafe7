//! Sends what is in a queue, one request after the other, and tries again what failed.

use std::hash::{BuildHasher as _, RandomState};
use std::pin::pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use glommio::timer::Timer;

use super::connection::within;
use super::queue::{Entry, Queue};
use super::reporter::Reporter;
use super::state::{Activity, SignalCounts};
use crate::telemetry::logs::LineSender;

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

    /// Returns the time after which an attempt that goes on counts as failing; none if attempts end within a bound.
    fn patience(&self) -> Option<Duration>;

    /// Makes one attempt.
    async fn send(&mut self, entry: &Entry, prepared: &Bytes) -> Outcome;

    /// Closes what is open.
    async fn close(self);
}

/// Sends the requests of a queue until it is closed. `delay` is that before the second attempt.
pub(super) async fn run<D: Destination>(queue: Rc<Queue>, mut destination: D, delay: Duration, log: LineSender) {
    let state = &queue.state;
    let mut reporter = Reporter::new(D::NAME, log);
    while let Some(entry) = queue.front().await {
        state.turn(Activity::Sending);
        let counts = state.of(entry.signal);
        match send(&queue, &mut destination, &entry, delay, &mut reporter).await {
            Some(rejected) => {
                let rejected = rejected.min(entry.items);
                SignalCounts::add(&counts.exported, entry.items - rejected);
                SignalCounts::add(&counts.rejected, rejected);
                if state.succeeded() {
                    reporter.succeeded();
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
async fn send<D: Destination>(
    queue: &Queue,
    destination: &mut D,
    entry: &Entry,
    delay: Duration,
    reporter: &mut Reporter,
) -> Option<u64> {
    let prepared = destination.prepare(entry).await;
    for attempt in 1.. {
        let (why, after) = match attempt_at(queue, destination, (entry, &prepared), reporter).await {
            Outcome::Delivered { rejected } => return Some(rejected),
            Outcome::Again { why, after } => (why, after),
            Outcome::Refused { why } => {
                report(queue, &why, reporter);
                return None;
            }
        };
        report(queue, &why, reporter);
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

/// Makes one attempt. One that does not end is reported, and waited for: what it has begun cannot be taken back, so that
/// another one could not know what it finds.
async fn attempt_at<D: Destination>(
    queue: &Queue,
    destination: &mut D,
    (entry, prepared): (&Entry, &Bytes),
    reporter: &mut Reporter,
) -> Outcome {
    let patience = destination.patience();
    let mut attempt = pin!(destination.send(entry, prepared));
    if let Some(patience) = patience {
        if let Some(outcome) = within(patience, attempt.as_mut()).await {
            return outcome;
        }
        report(queue, &format!("no response within {} ms", patience.as_millis()), reporter);
    }
    attempt.await
}

/// Remembers a failure, and logs the first in a row.
fn report(queue: &Queue, why: &str, reporter: &mut Reporter) {
    let why: String = why.chars().take(WHY_CHARACTERS_MAX).flat_map(char::escape_debug).collect();
    if queue.state.failed(&why) {
        reporter.failed(&why, Instant::now());
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
