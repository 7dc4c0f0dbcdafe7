//! Whether a journal accepts records, and what keeps it from doing so.

use std::io;

use caxton_shards::journal::frame::FRAME_BYTES_MAX;

use super::super::disk::Disk;
use super::Journal;
use super::segment::Spare;
use super::trouble::Trouble;

/// Gathered bytes beyond which the journal is [busy](JournalState::Busy): as many as a few frames.
pub const GATHERED_BYTES_BUSY: usize = 8 << 20;
/// A write that takes longer than this makes the journal [obstructed](JournalState::Obstructed), in milliseconds.
pub const WRITE_TIME_MAX_MS: u64 = 5_000;

/// Whether a journal accepts records.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum JournalState {
    /// It accepts records.
    Ready,
    /// It accepts records, and has much to write already.
    Busy,
    /// It has the maximum number of segments, and all of them are needed.
    Full,
    /// There is no room for more: the file system is full, a quota is used up, or the file size limit is reached. With
    /// a description.
    NoSpace(String),
    /// The system cannot provide what the journal needs now: it has no descriptors or memory left, or does not complete
    /// a write. With a description.
    Obstructed(String),
    /// A write failed, and nothing is written any more. With a description.
    Failed(String),
}

impl<D: Disk> Journal<D> {
    /// Returns whether it accepts records.
    pub fn state(&self) -> JournalState {
        if let Some(what) = &self.failure {
            return JournalState::Failed(what.clone());
        }
        if self.is_troubled()
            && let Some(state) = self.troubled_state()
        {
            return state;
        }
        if self.gathered.len() - self.taken > GATHERED_BYTES_BUSY {
            return if self.is_full() { JournalState::Full } else { JournalState::Busy };
        }
        if self.is_full() && !self.active.has_room(2 * FRAME_BYTES_MAX as u64, self.options.segment_bytes) {
            return JournalState::Full;
        }
        JournalState::Ready
    }

    /// Whether something may keep it from accepting records.
    fn is_troubled(&self) -> bool {
        self.frame_trouble.is_some()
            || self.segment_trouble.is_some()
            || self.catalogue_trouble.is_some()
            || self.write_takes_long()
    }

    fn write_takes_long(&self) -> bool {
        self.in_flight.is_some() && self.now_ms.saturating_sub(self.began_ms) > WRITE_TIME_MAX_MS
    }

    #[cold]
    fn troubled_state(&self) -> Option<JournalState> {
        let state = |trouble: &Option<Trouble>| trouble.as_ref().and_then(Trouble::state).cloned();
        if let Some(state) = state(&self.frame_trouble) {
            return Some(state);
        }
        // While the current segment has room, nobody has to wait for the next one.
        if !self.active.has_room(2 * FRAME_BYTES_MAX as u64, self.options.segment_bytes)
            && let Some(state) = state(&self.segment_trouble).or_else(|| state(&self.catalogue_trouble))
        {
            return Some(state);
        }
        let directory = self.options.directory.display();
        self.write_takes_long().then(|| {
            JournalState::Obstructed(format!(
                "a write in {directory} has taken longer than {} s: the disk does not respond",
                WRITE_TIME_MAX_MS / 1_000
            ))
        })
    }

    fn is_full(&self) -> bool {
        matches!(self.spare, Spare::None) && self.sealed.len() + 1 >= self.options.segments_max
    }

    /// Whether it can only wait to retry something that failed.
    pub fn is_stuck(&self) -> bool {
        self.in_flight.is_none() && matches!(self.state(), JournalState::NoSpace(_) | JournalState::Obstructed(_))
    }

    /// Whether the next segment is being created after a failure: it has to be polled although nothing else happens.
    pub fn mends(&self) -> bool {
        self.failure.is_none() && self.segment_trouble.is_some() && self.spare.is_being_made()
    }

    /// Returns when something that failed is retried, in milliseconds, unless it is being [mended](Journal::mends)
    /// already.
    pub fn retry_at_ms(&self) -> Option<u64> {
        let trouble =
            self.segment_trouble.as_ref().filter(|_| self.failure.is_none() && !self.spare.is_being_made())?;
        Some(trouble.retry_at_ms())
    }

    /// Whether something is being written, or waits to be.
    pub fn is_busy(&self) -> bool {
        self.failure.is_none() && (self.in_flight.is_some() || !self.waiting.is_empty() || self.postponed.is_some())
    }

    /// Whether something is being written.
    pub fn is_writing(&self) -> bool {
        self.in_flight.is_some()
    }

    /// Whether the next segment is being created, which occupies the disk for a while.
    pub fn makes_segment(&self) -> bool {
        self.failure.is_none() && self.segment_trouble.is_none() && self.spare.is_being_made()
    }

    pub(super) fn fail(&mut self, what: &str, error: &io::Error) {
        let directory = self.options.directory.display();
        self.failure =
            Some(format!("{what} in {directory}: {error}; it takes nothing more until the router is restarted"));
    }

    /// Stops accepting records, because what is written would be lost; `complaint` says why.
    pub fn lose(&mut self, complaint: String) {
        self.failure.get_or_insert(complaint);
    }
}
