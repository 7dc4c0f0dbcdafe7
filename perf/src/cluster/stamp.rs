//! The content of every message, with which its receiver checks it and measures its latency; and the times at which
//! messages are due.
//!
//! Times are those of the monotonic clock, which all processes of a machine share.

use std::num::NonZeroU64;
use std::time::Duration;

use rustix::thread::set_current_timer_slack;
use rustix::time::{ClockId, clock_gettime};

/// Size of a message's content, in bytes.
pub const CONTENT_BYTES: usize = 200;

/// Returns the time, in nanoseconds.
pub fn now_ns() -> u64 {
    nanoseconds(ClockId::Monotonic)
}

/// Returns the CPU time of this process, in nanoseconds.
pub fn cpu_ns() -> u64 {
    nanoseconds(ClockId::ProcessCPUTime)
}

#[allow(clippy::cast_sign_loss)] // Neither is negative.
fn nanoseconds(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// What the content of a message begins with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Which sender and receiver it belongs to.
    pub pair: u32,
    /// Its number in its pair, from 0.
    pub number: u64,
    /// When it was due, or 0 if its latency does not count.
    pub due_ns: u64,
    /// Whether its receiver is to acknowledge it, and all before it.
    pub wants_ack: bool,
}

impl Stamp {
    /// Returns the content of the message.
    pub fn content(&self) -> [u8; CONTENT_BYTES] {
        let mut content = [b'x'; CONTENT_BYTES];
        content[..8].copy_from_slice(&self.number.to_le_bytes());
        content[8..16].copy_from_slice(&self.due_ns.to_le_bytes());
        content[16..20].copy_from_slice(&self.pair.to_le_bytes());
        content[20] = self.wants_ack.into();
        content
    }

    /// Reads the content of a message. None if it is not what was sent.
    pub fn read(content: &[u8]) -> Option<Self> {
        let (head, rest) = content.split_at_checked(21)?;
        let is_whole = content.len() == CONTENT_BYTES && rest.iter().all(|byte| *byte == b'x');
        let (number, head) = head.split_first_chunk()?;
        let (due, head) = head.split_first_chunk()?;
        let (pair, head) = head.split_first_chunk()?;
        is_whole.then_some(Self {
            pair: u32::from_le_bytes(*pair),
            number: u64::from_le_bytes(*number),
            due_ns: u64::from_le_bytes(*due),
            wants_ack: head == [1],
        })
    }
}

/// The times at which the messages of an open loop are due: at a fixed rate, however long they take.
#[derive(Clone, Copy)]
pub struct Pace {
    began_ns: u64,
    interval_ns: u64,
    warm_up: u64,
    total: u64,
}

impl Pace {
    /// Begins now. The figures of the messages due in `warm_up` do not count.
    pub fn begin(per_second: u64, warm_up: Duration, time: Duration) -> Self {
        // Without this, timers are late by 50 us, which would count as latency.
        let _ = set_current_timer_slack(NonZeroU64::new(1));
        let count = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX) * per_second / 1_000_000;
        Self {
            began_ns: now_ns(),
            interval_ns: 1_000_000_000 / per_second.max(1),
            warm_up: count(warm_up),
            total: count(warm_up + time),
        }
    }

    /// Returns the number of messages.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Returns when a message is due.
    pub fn due_ns(&self, number: u64) -> u64 {
        self.began_ns + number * self.interval_ns
    }

    /// Returns when a message was due if its latency counts, otherwise 0.
    pub fn counted_from_ns(&self, number: u64) -> u64 {
        if number < self.warm_up { 0 } else { self.due_ns(number) }
    }

    /// Waits until a message is due. Returns the number of the first one that is not, within `batch_max` of it.
    pub fn wait_for(&self, number: u64, batch_max: u64) -> u64 {
        let due_ns = self.due_ns(number);
        let mut now = now_ns();
        if now < due_ns {
            std::thread::sleep(Duration::from_nanos(due_ns - now));
            now = now_ns();
        }
        let end = (now.saturating_sub(self.began_ns) / self.interval_ns.max(1)).max(number) + 1;
        end.min(number + batch_max).min(self.total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_reads_back_and_a_changed_content_does_not() {
        let stamp = Stamp { pair: 3, number: 1 << 40, due_ns: 17, wants_ack: true };
        let mut content = stamp.content();
        assert!(Stamp::read(&content) == Some(stamp));
        content[CONTENT_BYTES - 1] = b'y';
        assert!(Stamp::read(&content).is_none() && Stamp::read(&content[..20]).is_none());
    }
}
