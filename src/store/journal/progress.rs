//! What the catalogue records of a journal: its progress while it runs, and that it was closed.

use std::time::{Duration, Instant};

use caxton_shards::journal::record::Lsn;
use caxton_shards::message::WallTime;

use super::super::disk::{Disk, Files};
use super::scan::scan;
use super::trouble::Trouble;
use super::{Journal, WAIT};

/// Interval at which the catalogue records the journal's progress while it is written, in milliseconds.
pub const MARK_INTERVAL_MS: u64 = 1_000;
/// Idle time after which the catalogue records the progress, in milliseconds.
pub const MARK_IDLE_MS: u64 = 50;
/// Time limit for the entry of the catalogue that ends a start. Nothing is served yet, and a disk that is busy with the
/// work of others can hold up a sync for many seconds.
const BEGIN_WITHIN: Duration = Duration::from_mins(1);
/// Time limit for the last entry of the catalogue.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);

impl<D: Disk> Journal<D> {
    #[cold]
    pub(super) fn write_catalogue(&mut self, now_ms: u64) {
        if self.catalogue_trouble.as_ref().is_some_and(|trouble| !trouble.is_over(now_ms)) {
            return;
        }
        let Err(error) = self.ledger.poll() else {
            if !self.ledger.is_busy() {
                self.catalogue_trouble = None;
            }
            return;
        };
        let what = "the catalogue of the journal could not be written";
        let before = self.catalogue_trouble.as_ref();
        let trouble = Trouble::of(&error, what, &self.options.directory, before, now_ms);
        if trouble.is_none() {
            return self.fail(what, &error);
        }
        self.catalogue_trouble = trouble;
    }

    /// Whether the catalogue is being written, or waits to be.
    pub fn writes_catalogue(&self) -> bool {
        self.failure.is_none() && self.ledger.is_busy()
    }

    /// Whether the catalogue is to [record](Journal::mark) the journal's progress.
    pub fn wants_mark(&self, now_ms: u64) -> bool {
        self.mark_due_ms().is_some_and(|due_ms| now_ms >= due_ms)
    }

    /// Returns when that is next due, in milliseconds, if nothing else happens.
    pub fn mark_due_ms(&self) -> Option<u64> {
        if self.committed == self.ledger.entry().committed.0 || self.failure.is_some() {
            return None;
        }
        let idle = self.in_flight.is_none() && self.waiting.is_empty();
        Some(if idle { self.mark_at_ms.min(self.committed_ms + MARK_IDLE_MS) } else { self.mark_at_ms })
    }

    /// Records the journal's progress in the catalogue, at this wall time.
    pub fn mark(&mut self, now_ms: u64, wall: WallTime) {
        self.mark_at_ms = now_ms + MARK_INTERVAL_MS;
        let (committed, frame) = (Lsn(self.committed), self.committed_frame);
        self.ledger.change(|entry| (entry.committed, entry.frame, entry.wall) = (committed, frame, wall));
        // At once: a shard that has nothing else to do sleeps after this.
        self.write_catalogue(now_ms);
    }

    /// Reads back what an earlier run left, all of which was written, and records in the catalogue that it is complete.
    /// Blocks until that is on disk.
    ///
    /// # Errors
    ///
    /// It cannot be read, or differs from what was written.
    pub fn complete(&mut self, files: &impl Files, wall: WallTime) -> Result<(), String> {
        let committed = Lsn(self.committed);
        if committed > Lsn(0) {
            let found = scan(files, &self.options.directory, &self.options.id, |_, _, _| Ok(()));
            let found = found.map_err(|fault| format!("what was written does not come back: {fault}"))?;
            if found.last != committed {
                let directory = self.options.directory.display();
                let (found, committed) = (found.last.0, committed.0);
                return Err(format!("of {committed} records that were written to {directory}, {found} come back"));
            }
        }
        self.mark(0, wall);
        let change = self.ledger.change(|entry| entry.inherited = Some(committed));
        self.until_durable(change, BEGIN_WITHIN)
    }

    /// Records in the catalogue that nothing more is written. Blocks until that is on disk, for at most 5 s. The
    /// journal accepts nothing any more.
    ///
    /// # Errors
    ///
    /// It could not be written in time, or something is still to be written.
    pub fn close(&mut self, wall: WallTime) -> Result<(), String> {
        if let Some(what) = &self.failure {
            return Err(what.clone());
        }
        if self.is_busy() {
            return Err("records wait to be written".to_owned());
        }
        self.mark(0, wall);
        let change = self.ledger.change(|entry| entry.closed = true);
        self.until_durable(change, CLOSE_WITHIN)
    }

    fn until_durable(&mut self, change: u64, within: Duration) -> Result<(), String> {
        let began = Instant::now();
        while !self.ledger.has(change) {
            let result = self.ledger.poll();
            if began.elapsed() > within {
                let directory = self.options.directory.display();
                let why = result.err().map_or_else(|| "it takes too long".to_owned(), |error| error.to_string());
                return Err(format!("the catalogue of the journal in {directory} could not be written: {why}"));
            }
            self.disk.wait(WAIT);
        }
        Ok(())
    }
}
