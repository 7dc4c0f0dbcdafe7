//! The receiving end of a stream: what is next in order, what is missing, and what is to be acknowledged.
//!
//! Invariants: a frame is taken once, and only after all before it; frames that arrive before an earlier one are kept
//! within [`EARLY_FRAMES_MAX`] and [`EARLY_BYTES_MAX`] and are otherwise dropped, to be asked for again.

use std::collections::BTreeMap;

/// Maximum number of frames kept that arrived before an earlier one.
pub const EARLY_FRAMES_MAX: usize = 64;
/// Maximum size of the frames kept that arrived before an earlier one, in bytes.
pub const EARLY_BYTES_MAX: usize = 4 << 20;
/// How long an acknowledgement waits for a frame that can carry it, in milliseconds.
const ACK_DELAY_MS: u64 = 5;
/// Once this many frames are not acknowledged, the acknowledgement does not wait.
const ACK_FRAMES: u32 = 8;

/// Where a frame stands in the stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Place {
    /// It is the next one.
    Next,
    /// An earlier one is missing.
    Early,
    /// It was taken before.
    Before,
}

/// The receiving end.
pub(super) struct Inbound {
    /// The sequence number of the next frame in order.
    expected: u64,
    /// The highest sequence number that arrived.
    highest: u64,
    early: BTreeMap<u64, Box<[u8]>>,
    early_bytes: usize,
    /// Frames taken since the last acknowledgement.
    unacknowledged: u32,
    is_ack_due: bool,
    ack_at: Option<u64>,
    is_nak_due: bool,
    nak_at: Option<u64>,
}

impl Default for Inbound {
    fn default() -> Self {
        Self {
            expected: 1,
            highest: 0,
            early: BTreeMap::new(),
            early_bytes: 0,
            unacknowledged: 0,
            is_ack_due: false,
            ack_at: None,
            is_nak_due: false,
            nak_at: None,
        }
    }
}

impl Inbound {
    /// Returns the highest sequence number taken.
    pub fn taken(&self) -> u64 {
        self.expected - 1
    }

    /// Returns where the frame with this sequence number stands.
    pub fn place(&self, sequence: u64) -> Place {
        match sequence.cmp(&self.expected) {
            std::cmp::Ordering::Less => Place::Before,
            std::cmp::Ordering::Equal => Place::Next,
            std::cmp::Ordering::Greater => Place::Early,
        }
    }

    /// Counts the next frame in order as taken.
    pub fn take(&mut self, now_ms: u64) {
        self.highest = self.highest.max(self.expected);
        self.expected += 1;
        self.unacknowledged += 1;
        self.is_ack_due |= self.unacknowledged >= ACK_FRAMES;
        self.ack_at.get_or_insert(now_ms + ACK_DELAY_MS);
        if !self.has_gap() {
            (self.is_nak_due, self.nak_at) = (false, None);
        }
    }

    /// Returns the next frame in order, if it is kept.
    pub fn next_kept(&mut self) -> Option<Box<[u8]>> {
        let body = self.early.remove(&self.expected)?;
        self.early_bytes -= body.len();
        Some(body)
    }

    /// Keeps a frame that arrived before an earlier one, if there is room. Returns whether it is kept already.
    pub fn keep(&mut self, sequence: u64, body: &[u8]) -> bool {
        // The gap is asked for at once, and then from time to time.
        self.is_nak_due |= self.nak_at.is_none();
        self.highest = self.highest.max(sequence);
        if self.early.contains_key(&sequence) {
            return true;
        }
        let is_near = sequence - self.expected <= EARLY_FRAMES_MAX as u64;
        if is_near && self.early_bytes + body.len() <= EARLY_BYTES_MAX {
            self.early.insert(sequence, body.into());
            self.early_bytes += body.len();
        }
        false
    }

    /// Makes an acknowledgement due, even if there is nothing else to send.
    pub fn ack_now(&mut self) {
        self.is_ack_due = true;
    }

    fn has_gap(&self) -> bool {
        self.highest >= self.expected
    }

    pub fn is_ack_due(&self) -> bool {
        self.is_ack_due
    }

    /// Notes that a frame was sent that acknowledges everything taken.
    pub fn acknowledged(&mut self) {
        (self.unacknowledged, self.is_ack_due, self.ack_at) = (0, false, None);
    }

    /// Returns the missing sequence numbers if they are to be asked for now: the first, and the one behind the last.
    /// They are asked for again after `again_ms`.
    pub fn take_nak(&mut self, now_ms: u64, again_ms: u64) -> Option<(u64, u64)> {
        if !std::mem::take(&mut self.is_nak_due) || !self.has_gap() {
            return None;
        }
        self.nak_at = Some(now_ms + again_ms);
        Some((self.expected, self.early.keys().next().copied().unwrap_or(self.highest + 1)))
    }

    pub fn next_deadline_ms(&self) -> Option<u64> {
        self.ack_at.into_iter().chain(self.nak_at).min()
    }

    pub fn on_deadline(&mut self, now_ms: u64) {
        if self.ack_at.is_some_and(|at| at <= now_ms) {
            (self.is_ack_due, self.ack_at) = (true, None);
        }
        if self.nak_at.is_some_and(|at| at <= now_ms) {
            (self.is_nak_due, self.nak_at) = (true, None);
        }
    }

    /// Returns how many frames are kept, and their size.
    #[cfg(test)]
    pub fn kept(&self) -> (usize, usize) {
        (self.early.len(), self.early_bytes)
    }
}
