//! What of a journal waits for the projection, and what the projection is reading.

use caxton_shards::journal::record::Lsn;

use super::super::disk::Disk;
use super::{Journal, Projection};

impl<D: Disk> Journal<D> {
    /// Takes the next stretches for the projection to read, of about this many bytes together. They are durable, and
    /// stay until [`Journal::projected`] is called with the last one's last record; nothing more is taken before that.
    pub fn take_projections(&mut self, bytes: usize) -> Vec<Projection> {
        if self.reading.is_some() {
            return Vec::new();
        }
        let taken = self.projections.take(bytes);
        let ends = taken.first().zip(taken.last());
        self.reading = ends.map(|(first, last)| (first.segment, last.last));
        taken
    }

    /// Takes all waiting stretches, although the projection may still be reading others: for the end of the journal.
    pub fn take_last_projections(&mut self) -> Vec<Projection> {
        self.projections.take(usize::MAX)
    }

    /// Records that the projection contains everything up to this record.
    pub fn projected(&mut self, sequence: Lsn) {
        self.reading = self.reading.filter(|(_, last)| *last > sequence);
    }

    /// Returns the first segment that the projection still has to read.
    pub(super) fn first_unread(&self) -> u64 {
        let reading = self.reading.map(|(segment, _)| segment);
        reading.or(self.projections.first_segment()).unwrap_or(u64::MAX)
    }

    /// Whether stretches wait for the projection, besides those that it is reading.
    pub fn has_unread(&self) -> bool {
        !self.projections.is_empty()
    }

    /// Whether stretches wait that the projection can take.
    pub fn has_projections(&self) -> bool {
        self.reading.is_none() && !self.projections.is_empty()
    }

    /// Returns the number of conversation steps skipped because so many newer ones waited.
    pub fn steps_left_out(&self) -> u64 {
        self.projections.left_out
    }

    /// Whether a segment had to be reused before the projection had read it: then the projection has to be rebuilt.
    /// Returns true once, and forgets what waits.
    pub fn take_overrun(&mut self) -> bool {
        let overrun = std::mem::take(&mut self.overrun);
        if overrun {
            self.forget_projections();
        }
        overrun
    }

    /// Forgets what waits for the projection, which is rebuilt.
    pub fn forget_projections(&mut self) {
        self.projections.forget();
        self.reading = None;
    }
}
