//! The sending end of a stream: the frame that is being filled, and the frames kept until they are acknowledged.
//!
//! Invariants: frames are numbered in the order in which they are sent for the first time, and are sent again unchanged;
//! at most [`LINK_FRAMES_MAX`] frames with messages and [`CONTROL_FRAMES_MAX`] others are kept, and [`LINK_BYTES_MAX`]
//! bytes plus what one message and the others take.

use std::collections::VecDeque;

use bytes::Bytes;

use super::frame::HEADER_BYTES;
use super::round_trip::RoundTrip;

/// Maximum number of frames with messages that are kept until they are acknowledged.
pub const LINK_FRAMES_MAX: usize = 1_024;
/// Maximum number of frames without messages that are kept beside them.
pub const CONTROL_FRAMES_MAX: usize = 64;
/// Once this many bytes are kept, no message is taken.
pub const LINK_BYTES_MAX: usize = 32 << 20;
/// Maximum number of messages that the peer has not settled.
pub const UNSETTLED_MAX: usize = 65_536;
/// Size beyond which a message goes into a frame of its own instead of the open one, in bytes.
pub const FRAME_BYTES_MAX: usize = 256 << 10;
/// Maximum number of frames sent again at once.
const RESENT_MAX: u64 = 16;

/// A frame that is filled and not sent.
#[derive(Default)]
struct Filled {
    /// Begins with room for the header, unless it is empty.
    bytes: Vec<u8>,
    volatile: u64,
}

/// A frame that was sent.
struct Sent {
    frame: Bytes,
    volatile: u64,
    at_ms: u64,
    is_repeated: bool,
    /// Whether it waits in `resend`.
    is_queued: bool,
}

/// The sending end.
pub(super) struct Outbound {
    frame_bytes_max: usize,
    open: Filled,
    filled: VecDeque<Filled>,
    window: VecDeque<Sent>,
    /// Size of `filled` and `window`.
    bytes: usize,
    /// The sequence number of the first frame of the window.
    first: u64,
    resend: VecDeque<u64>,
    /// After a timeout, frames up to this one are sent again, a few with each acknowledgement.
    recover_until: u64,
    recovered: u64,
    round_trip: RoundTrip,
    timeout_at: Option<u64>,
}

impl Outbound {
    pub fn new(payload_bytes_max: usize) -> Self {
        Self {
            frame_bytes_max: payload_bytes_max.min(FRAME_BYTES_MAX),
            open: Filled::default(),
            filled: VecDeque::new(),
            window: VecDeque::new(),
            bytes: 0,
            first: 1,
            resend: VecDeque::new(),
            recover_until: 0,
            recovered: 0,
            round_trip: RoundTrip::default(),
            timeout_at: None,
        }
    }

    pub fn is_full(&self) -> bool {
        self.frames() >= LINK_FRAMES_MAX || self.bytes() >= LINK_BYTES_MAX
    }

    pub fn is_half_free(&self) -> bool {
        self.frames() <= LINK_FRAMES_MAX / 2 && self.bytes() <= LINK_BYTES_MAX / 2
    }

    fn frames(&self) -> usize {
        self.window.len() + self.filled.len()
    }

    /// Returns the number of frames that are not acknowledged.
    pub fn in_flight(&self) -> usize {
        self.window.len()
    }

    /// Returns the size of everything kept.
    pub fn bytes(&self) -> usize {
        self.bytes + self.open.bytes.len()
    }

    pub fn round_trip(&self) -> &RoundTrip {
        &self.round_trip
    }

    /// Returns the frame that is being filled.
    pub fn open(&mut self) -> &mut Vec<u8> {
        if self.open.bytes.is_empty() {
            self.open.bytes.resize(HEADER_BYTES, 0);
        }
        &mut self.open.bytes
    }

    /// Counts the entry that begins at `start` of the open frame. If the frame has become too large, the entry moves to
    /// a new open frame.
    pub fn close_entry(&mut self, start: usize, is_volatile: bool) {
        if self.open.bytes.len() > self.frame_bytes_max && start > HEADER_BYTES {
            let mut next = Filled::default();
            next.bytes.reserve(HEADER_BYTES + self.open.bytes.len() - start);
            next.bytes.resize(HEADER_BYTES, 0);
            next.bytes.extend_from_slice(&self.open.bytes[start..]);
            self.open.bytes.truncate(start);
            let filled = std::mem::replace(&mut self.open, next);
            self.bytes += filled.bytes.len();
            self.filled.push_back(filled);
        }
        self.open.volatile += u64::from(is_volatile);
    }

    /// Returns the open frame and its maximum size, if entries without messages may be added to it now.
    pub fn control(&mut self) -> Option<(&mut Vec<u8>, usize)> {
        let is_free = self.filled.is_empty() && self.window.len() < LINK_FRAMES_MAX + CONTROL_FRAMES_MAX;
        let bytes_max = self.frame_bytes_max;
        is_free.then(|| (self.open(), bytes_max))
    }

    /// Returns the next frame to send for the first time. `header` returns the header for its sequence number.
    pub fn next_new(&mut self, now_ms: u64, header: impl FnOnce(u64) -> [u8; HEADER_BYTES]) -> Option<Bytes> {
        let mut filled = match self.filled.pop_front() {
            Some(filled) => {
                self.bytes -= filled.bytes.len();
                filled
            }
            None if self.open.bytes.len() > HEADER_BYTES => std::mem::take(&mut self.open),
            None => return None,
        };
        let sequence = self.first + self.window.len() as u64;
        filled.bytes[..HEADER_BYTES].copy_from_slice(&header(sequence));
        let frame = Bytes::from(filled.bytes);
        self.bytes += frame.len();
        let volatile = filled.volatile;
        self.window.push_back(Sent {
            frame: frame.clone(),
            volatile,
            at_ms: now_ms,
            is_repeated: false,
            is_queued: false,
        });
        self.timeout_at.get_or_insert(now_ms + self.round_trip.timeout_ms());
        Some(frame)
    }

    /// Returns the next frame to send again.
    pub fn next_repeated(&mut self) -> Option<Bytes> {
        loop {
            let sequence = self.resend.pop_front()?;
            let Some(sent) = self.sent(sequence) else { continue };
            (sent.is_queued, sent.is_repeated) = (false, true);
            return Some(sent.frame.clone());
        }
    }

    /// Returns the frame of the window with this sequence number.
    fn sent(&mut self, sequence: u64) -> Option<&mut Sent> {
        let place = sequence.checked_sub(self.first)?;
        self.window.get_mut(usize::try_from(place).ok()?)
    }

    fn queue(&mut self, sequence: u64) {
        if let Some(sent) = self.sent(sequence)
            && !std::mem::replace(&mut sent.is_queued, true)
        {
            self.resend.push_back(sequence);
        }
    }

    /// Forgets the frames up to this sequence number. Returns false if no frame with this number was sent.
    pub fn acknowledge(&mut self, now_ms: u64, acknowledged: u64) -> bool {
        if acknowledged >= self.first + self.window.len() as u64 {
            return false;
        }
        let mut latest = None;
        let before = self.first;
        while self.first <= acknowledged
            && let Some(sent) = self.window.pop_front()
        {
            self.first += 1;
            self.bytes -= sent.frame.len();
            // If a frame was sent again, it is not known which copy was acknowledged.
            latest = (!sent.is_repeated).then_some(sent.at_ms);
        }
        if self.first > before {
            if let Some(at_ms) = latest {
                self.round_trip.measure(now_ms.saturating_sub(at_ms));
            }
            self.round_trip.progress();
            self.timeout_at = (!self.window.is_empty()).then(|| now_ms + self.round_trip.timeout_ms());
            self.recover();
        }
        true
    }

    /// Sends again what the peer asks for: the frames from `first` up to and without `end`.
    pub fn repeat(&mut self, first: u64, end: u64) {
        for sequence in first..end.min(first.saturating_add(RESENT_MAX)) {
            self.queue(sequence);
        }
    }

    fn recover(&mut self) {
        let first = self.recovered.max(self.first - 1) + 1;
        let last = self.recover_until.min(first + RESENT_MAX - 1);
        for sequence in first..=last {
            self.queue(sequence);
            self.recovered = sequence;
        }
    }

    pub fn next_deadline_ms(&self) -> Option<u64> {
        self.timeout_at
    }

    /// Begins to send again what is not acknowledged, if that is overdue.
    pub fn on_deadline(&mut self, now_ms: u64) {
        if self.timeout_at.is_some_and(|at| at <= now_ms) {
            self.round_trip.back_off();
            self.begin_again(now_ms);
        }
    }

    /// Begins to send again what is not acknowledged.
    pub fn begin_again(&mut self, now_ms: u64) {
        if self.window.is_empty() {
            return;
        }
        (self.recovered, self.recover_until) = (0, self.first + self.window.len() as u64 - 1);
        self.recover();
        self.timeout_at = Some(now_ms + self.round_trip.timeout_ms());
    }

    /// Returns the number of volatile messages that are not acknowledged.
    pub fn volatile(&self) -> u64 {
        let filled = self.filled.iter().chain([&self.open]).map(|filled| filled.volatile);
        self.window.iter().map(|sent| sent.volatile).chain(filled).sum()
    }
}
