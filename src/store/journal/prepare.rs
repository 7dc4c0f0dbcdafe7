//! The segments: the next one is prepared before it is needed, from one that is no longer needed or as a new one.

use std::io;

use caxton_shards::journal::record::Lsn;

use super::super::disk::Disk;
use super::segment::{Active, Sealed, Spare};
use super::trouble::{Severity, Trouble, severity};
use super::{Journal, JournalState};

impl<D: Disk> Journal<D> {
    /// Switches to the spare segment. Returns whether there was one, with room for a frame of this length.
    pub(super) fn next_segment(&mut self, length: usize) -> bool {
        if length as u64 > self.options.segment_bytes && self.active.offset > 0 && self.spare.is_ready() {
            // A record longer than a segment gets its own, which grows for it.
        } else if !self.spare.is_ready() {
            return false;
        }
        let Some((file, number)) = self.spare.take() else { return false };
        let next = Active::new(file, number, self.frame + 1, self.framed + 1);
        let full = std::mem::replace(&mut self.active, next);
        self.sealed.push_back(Sealed {
            number: full.number,
            first_frame: full.first_frame,
            last: self.framed,
            messages: self.messages,
            held: full.held,
        });
        true
    }

    /// Prepares the next segment before it is needed: a reusable one or, up to the maximum, a new one.
    pub(super) fn look_after_segments(&mut self, now_ms: u64) {
        if self.spare.is_ready() || self.segment_trouble.as_ref().is_some_and(|trouble| !trouble.is_over(now_ms)) {
            return;
        }
        let tried = if self.spare.is_being_made() {
            self.spare.poll(&mut self.disk, &self.options.directory, &mut self.ledger)
        } else {
            self.begin_segment()
        };
        match tried {
            // None can be created beyond the maximum.
            Ok(()) if !self.spare.is_being_made() => self.segment_trouble = None,
            Ok(()) => {}
            Err(error) => self.segment_failed(&error, now_ms),
        }
    }

    #[cold]
    fn segment_failed(&mut self, error: &io::Error, now_ms: u64) {
        let what = "a segment of the journal could not be made";
        let before = self.segment_trouble.as_ref();
        let trouble = Trouble::of(error, what, &self.options.directory, before, now_ms);
        if trouble.is_none() {
            return self.fail(what, error);
        }
        self.segment_trouble = trouble;
        // A new segment that finds no room releases what it has: a reusable one may replace it, and others need the
        // room meanwhile.
        if severity(error) == Severity::NoRoom && self.spare.remove_unfinished(&mut self.disk, &self.options.directory)
        {
            self.numbered -= 1;
        }
    }

    /// Begins to create the next segment. If that fails, all segments are unchanged.
    fn begin_segment(&mut self) -> io::Result<()> {
        let first_unread = self.first_unread();
        let crowded = self.sealed.len() + 2 > self.options.segments_max;
        let number = self.numbered + 1;
        let unneeded = self.sealed.front().filter(|segment| {
            // If there is no more room, the projection is not waited for: it is rebuilt.
            segment.held.needed == 0
                && (crowded
                    || segment.number < first_unread
                        && segment.messages + self.options.retained_messages <= self.messages)
        });
        if let Some(segment) = unneeded {
            let old = segment.number;
            self.sealed.pop_front();
            self.overrun |= old >= first_unread;
            self.numbered = number;
            self.spare = self.give_up(old);
        } else if !crowded {
            self.check_room()?;
            self.spare = Spare::begin(&mut self.disk, &self.options, number)?;
            self.numbered = number;
        }
        Ok(())
    }

    /// After a segment that found no room, none is begun before there seems to be enough room.
    fn check_room(&self) -> io::Result<()> {
        if !matches!(self.segment_trouble.as_ref().and_then(Trouble::state), Some(JournalState::NoSpace(_))) {
            return Ok(());
        }
        let free = self.disk.free_space(&self.options.directory)?;
        if free < self.options.segment_bytes { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    /// Records in the catalogue that the oldest segment is given up for the next one. Its file is renamed after that.
    fn give_up(&mut self, old: u64) -> Spare<D::File> {
        let number = self.numbered;
        let oldest = self.sealed.front().map(|segment| (segment.first_frame, segment.held.first));
        let (first_frame, first) = oldest.unwrap_or((self.active.first_frame, self.active.held.first));
        let change = self.ledger.name(|entry| {
            (entry.first, entry.last, entry.reused) = (old + 1, number, Some(old));
            (entry.first_frame, entry.first_record) = (first_frame, Lsn(first));
        });
        Spare::GivingUp { old, number, change }
    }
}
