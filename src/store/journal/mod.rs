//! One shard's journal: records gathered into frames, frames written into segments, one write in flight.
//!
//! While a frame is being written the next one gathers (group commit), so batches form by themselves and no record
//! waits for others. A frame begins on a fresh block, and no block with acknowledged records is written again until its
//! whole segment is reused.
//!
//! A [catalogue](Catalogue) records which segments must exist, before they are used or given up.
//!
//! Invariants: records are committed in LSN order; a segment is reused only when nothing in it is needed: its records
//! were released, those for the projection were projected, and its ids have left the deduplication window; a step that
//! fails for want of room, descriptors or memory changes nothing and is retried, any other failure ends the journal for
//! good; a full or obstructed state is reported until something succeeds.

mod backlog;
mod catalogue;
mod prepare;
mod progress;
mod projection;
mod scan;
mod segment;
mod state;
mod trouble;
mod write;

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::task::Waker;
use std::time::Duration;

use caxton_shards::journal::record::{Lsn, RECORD_HEADER_BYTES, RecordClass};

use backlog::Backlog;
pub use backlog::Projection;
use catalogue::Ledger;
pub use catalogue::{CATALOGUE, Catalogue, JournalId};
pub use progress::{MARK_IDLE_MS, MARK_INTERVAL_MS};
pub use scan::{
    JournalError, JournalSummary, SegmentSummary, has_frames, read_catalogue, read_frame_at, salvage, scan,
};
pub(crate) use segment::path as segment_path;
use segment::{Active, Sealed, Spare};
pub use state::{GATHERED_BYTES_BUSY, JournalState, WRITE_TIME_MAX_MS};
use trouble::Trouble;
pub use trouble::{RETRY_INTERVAL_MS, Severity, no_room, severity};

use super::disk::{Buffer, Disk, DiskFile, WriteMode};

/// Polling interval while the first segment or the last entry of the catalogue is written.
const WAIT: Duration = Duration::from_millis(1);

/// The settings of a journal.
#[derive(Clone, Debug)]
pub struct JournalOptions {
    /// The directory of its segments.
    pub directory: PathBuf,
    /// Its identity.
    pub id: JournalId,
    /// The length of a segment in bytes: a multiple of 4 KiB.
    pub segment_bytes: u64,
    /// The maximum number of segments.
    pub segments_max: usize,
    /// The number of newest messages kept for their ids, settled or not, as long as there are fewer segments than the
    /// maximum.
    pub retained_messages: u64,
    /// The number of newest conversation steps passed to the projection; older waiting ones are skipped.
    pub history: u64,
}

/// The journal of one shard. It belongs to one thread, and never blocks it after creation.
pub struct Journal<D: Disk> {
    disk: D,
    options: JournalOptions,
    /// The tag of its frames.
    tag: u32,
    ledger: Ledger<D::File>,
    /// When the catalogue is next to record the progress, in milliseconds.
    mark_at_ms: u64,
    active: Active<D::File>,
    sealed: VecDeque<Sealed>,
    spare: Spare<D::File>,
    /// The highest number used for a segment.
    numbered: u64,
    frame: u64,
    gathered: Vec<u8>,
    /// How many of these bytes are already in a frame.
    taken: usize,
    /// For each gathered record: its length, and its class.
    waiting: VecDeque<(u32, RecordClass)>,
    /// The LSN of the last record passed to the journal, of the last one in a frame, and of the last durable one.
    handed: u64,
    framed: u64,
    committed: u64,
    /// The number of the last durable frame, and when it became durable, in milliseconds.
    committed_frame: u64,
    committed_ms: u64,
    /// The number of messages in frames.
    messages: u64,
    /// What the projection is reading: its first segment, and its last record.
    reading: Option<(u64, Lsn)>,
    /// The frame in flight: its last LSN, and its stretch if it holds records for the projection.
    in_flight: Option<InFlight>,
    /// A frame that found no room.
    postponed: Option<(u64, Buffer, InFlight)>,
    buffers: Vec<Buffer>,
    projections: Backlog,
    /// Whether a segment was reused before the projection had read it.
    overrun: bool,
    /// Why the last frame is not written, and why there is no next segment. Each is kept until the operation itself has
    /// succeeded.
    frame_trouble: Option<Trouble>,
    segment_trouble: Option<Trouble>,
    catalogue_trouble: Option<Trouble>,
    /// When the write in flight began, and when it was last polled, in milliseconds.
    began_ms: u64,
    now_ms: u64,
    failure: Option<String>,
    /// Bytes of frames written.
    pub written_bytes: u64,
    /// The number of frames written.
    pub commits: u64,
}

#[derive(Clone, Debug)]
struct InFlight {
    last: u64,
    frame: u64,
    projection: Option<Projection>,
}

impl<D: Disk> Journal<D> {
    /// Creates a new journal in an empty directory, with its first segment written out. Blocks until that is done.
    ///
    /// # Errors
    ///
    /// The first segment could not be created.
    pub fn create(disk: D, options: JournalOptions) -> io::Result<Self> {
        Self::create_unless(disk, options, || false)
    }

    /// Like [`Journal::create`], unless it is cancelled.
    ///
    /// # Errors
    ///
    /// As for [`Journal::create`], or it was cancelled.
    pub fn create_unless(mut disk: D, options: JournalOptions, cancelled: impl Fn() -> bool) -> io::Result<Self> {
        let entry = Catalogue::new(options.id, options.segment_bytes);
        let mut ledger = Ledger::create(&mut disk, &options.directory, entry)?;
        let mut spare = Spare::begin(&mut disk, &options, 1)?;
        loop {
            if cancelled() {
                return Err(io::ErrorKind::Interrupted.into());
            }
            ledger.poll()?;
            spare.poll(&mut disk, &options.directory, &mut ledger)?;
            if spare.is_ready() {
                break;
            }
            disk.wait(WAIT);
        }
        let (file, number) = spare.take().ok_or(io::ErrorKind::NotFound)?;
        let active = Active::new(file, number, 1, 1);
        Ok(Self {
            disk,
            tag: options.id.tag(),
            ledger,
            mark_at_ms: 0,
            active,
            sealed: VecDeque::new(),
            spare: Spare::None,
            numbered: number,
            frame: 0,
            gathered: Vec::new(),
            taken: 0,
            waiting: VecDeque::new(),
            handed: 0,
            framed: 0,
            committed: 0,
            committed_frame: 0,
            committed_ms: 0,
            messages: 0,
            reading: None,
            in_flight: None,
            postponed: None,
            buffers: Vec::new(),
            projections: Backlog::new(options.history),
            overrun: false,
            frame_trouble: None,
            segment_trouble: None,
            catalogue_trouble: None,
            began_ms: 0,
            now_ms: 0,
            failure: None,
            written_bytes: 0,
            commits: 0,
            options,
        })
    }

    /// Appends concatenated records, which have the next LSNs.
    pub fn append(&mut self, records: &[u8]) {
        if self.failure.is_some() {
            return;
        }
        let mut rest = records;
        while let Some((head, _)) = rest.split_first_chunk::<RECORD_HEADER_BYTES>() {
            let [a, b, c, d, kind] = *head;
            let length = 4 + u32::from_le_bytes([a, b, c, d]) as usize;
            let Some((record, behind)) = rest.split_at_checked(length) else { break };
            self.handed += 1;
            let class = RecordClass::of(kind, &record[RECORD_HEADER_BYTES..]);
            self.waiting.push_back((u32::try_from(length).unwrap_or(u32::MAX), class));
            if let Some(released) = class.releases {
                self.release(released.0);
            }
            rest = behind;
        }
        self.gathered.extend_from_slice(records);
    }

    /// Releases a settled record, which no longer holds its segment.
    fn release(&mut self, sequence: u64) {
        if sequence > self.framed {
            let index = usize::try_from(sequence - self.framed - 1).unwrap_or(usize::MAX);
            if let Some((_, class)) = self.waiting.get_mut(index) {
                class.holds = false;
            }
        } else if sequence >= self.active.held.first {
            self.active.held.release(sequence);
        } else {
            let place = self.sealed.partition_point(|segment| segment.held.first <= sequence);
            if let Some(segment) = place.checked_sub(1).and_then(|place| self.sealed.get_mut(place)) {
                segment.held.release(sequence);
            }
        }
    }

    /// Makes progress: finishes completed writes, begins the next one, prepares the next segment. Returns whether more
    /// is durable than before.
    pub fn poll(&mut self, now_ms: u64) -> bool {
        if self.failure.is_some() {
            return false;
        }
        let before = self.committed;
        self.now_ms = now_ms;
        self.finish_write(now_ms);
        // Nothing may be written after a frame that was not written: acknowledged records would look damaged.
        if self.failure.is_none() && self.ledger.is_busy() {
            self.write_catalogue(now_ms);
        }
        if self.failure.is_none() {
            self.look_after_segments(now_ms);
        }
        if self.failure.is_none() && self.in_flight.is_none() {
            self.begin_write(now_ms);
        }
        self.committed > before
    }

    /// Returns the last committed record.
    pub fn committed(&self) -> Lsn {
        Lsn(self.committed)
    }

    /// If more than half of the segments are in use, returns the last record of the oldest one, if something in it is
    /// still needed. Rewriting its needed records frees the segment.
    pub fn wants_carried(&self) -> Option<Lsn> {
        if (self.sealed.len() + 1) * 2 <= self.options.segments_max {
            return None;
        }
        let oldest = self.sealed.front()?;
        (oldest.held.needed > 0).then_some(Lsn(oldest.last))
    }

    /// Returns the number of segments, including the current and the spare one.
    pub fn segments(&self) -> usize {
        self.sealed.len() + 1 + usize::from(!matches!(self.spare, Spare::None))
    }

    /// Returns the numbers of the first and the last segment in use.
    pub fn segments_in_use(&self) -> (u64, u64) {
        (self.sealed.front().map_or(self.active.number, |oldest| oldest.number), self.active.number)
    }

    /// Sleeps until a write is complete, until it is woken, or for this long. For a thread with nothing else to do.
    pub fn wait(&mut self, timeout: Duration) {
        self.disk.wait(timeout);
    }

    /// Returns a waker that ends a [`wait`](Journal::wait), the current one or the next.
    pub fn waker(&self) -> Waker {
        self.disk.waker()
    }

    /// Returns how its segments are written.
    pub fn mode(&self) -> WriteMode {
        self.active.file.mode()
    }

    /// Returns the directory of its segments.
    pub fn directory(&self) -> &Path {
        &self.options.directory
    }
}
