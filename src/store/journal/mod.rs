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
mod progress;
mod scan;
mod segment;
mod trouble;

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::task::Waker;
use std::time::Duration;

use caxton_shards::journal::frame::{
    BLOCK_BYTES, FRAME_BYTES_MAX, FrameHeader, HEADER_BYTES, encode_header, frame_bytes,
};
use caxton_shards::journal::record::{Lsn, Projects, RECORD_HEADER_BYTES, RecordClass};

use backlog::Backlog;
pub use backlog::Projection;
use catalogue::Ledger;
pub use catalogue::{CATALOGUE, Catalogue, JournalId};
pub use scan::{
    JournalError, JournalSummary, SegmentSummary, has_frames, read_catalogue, read_frame_at, salvage, scan,
};
pub(crate) use segment::path as segment_path;
use segment::{Active, Sealed, Spare};
use trouble::Trouble;
pub use trouble::{RETRY_INTERVAL_MS, Severity, no_room, severity};

use super::disk::{Buffer, Disk, DiskFile, WriteMode};

/// Gathered bytes beyond which the journal is [busy](JournalState::Busy): as many as a few frames.
pub const GATHERED_BYTES_BUSY: usize = 8 << 20;
/// A write that takes longer than this makes the journal [obstructed](JournalState::Obstructed), in milliseconds.
pub const WRITE_TIME_MAX_MS: u64 = 5_000;
/// Polling interval while the first segment or the last entry of the catalogue is written.
const WAIT: Duration = Duration::from_millis(1);
/// Interval at which the catalogue records the journal's progress while it is written, in milliseconds.
pub const MARK_INTERVAL_MS: u64 = 1_000;
/// Idle time after which the catalogue records the progress, in milliseconds.
pub const MARK_IDLE_MS: u64 = 50;
/// Time limit for the entry of the catalogue that ends a start. Nothing is served yet, and a disk that is busy with the
/// work of others can hold up a sync for many seconds.
const BEGIN_WITHIN: Duration = Duration::from_mins(1);
/// Time limit for the last entry of the catalogue.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);

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

    /// Returns how its segments are written.
    pub fn mode(&self) -> WriteMode {
        self.active.file.mode()
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
    fn first_unread(&self) -> u64 {
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

    /// Returns the last committed record.
    pub fn committed(&self) -> Lsn {
        Lsn(self.committed)
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

    /// Sleeps until a write is complete, until it is woken, or for this long. For a thread with nothing else to do.
    pub fn wait(&mut self, timeout: Duration) {
        self.disk.wait(timeout);
    }

    /// Returns a waker that ends a [`wait`](Journal::wait), the current one or the next.
    pub fn waker(&self) -> Waker {
        self.disk.waker()
    }

    /// Returns the number of segments, including the current and the spare one.
    pub fn segments(&self) -> usize {
        self.sealed.len() + 1 + usize::from(!matches!(self.spare, Spare::None))
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

    fn finish_write(&mut self, now_ms: u64) {
        if self.in_flight.is_none() {
            return;
        }
        let Some((result, buffer)) = self.active.file.poll() else { return };
        let Some(write) = self.in_flight.take() else { return };
        match result {
            Ok(()) => {
                self.written_bytes += buffer.bytes().len() as u64;
                self.commits += 1;
                (self.committed, self.committed_frame) = (write.last, write.frame);
                self.committed_ms = now_ms;
                self.frame_trouble = None;
                self.buffers.push(buffer);
                if let Some(projection) = write.projection {
                    self.projections.push(projection);
                }
            }
            Err(error) => {
                let offset = self.active.offset - buffer.bytes().len() as u64;
                self.postpone("a write to the journal failed", &error, (offset, buffer, write), now_ms);
            }
        }
    }

    /// Postpones a frame that could not be written now, unless the error is final.
    #[cold]
    fn postpone(&mut self, what: &str, error: &io::Error, frame: (u64, Buffer, InFlight), now_ms: u64) {
        let trouble = Trouble::of(error, what, &self.options.directory, self.frame_trouble.as_ref(), now_ms);
        if trouble.is_none() {
            return self.fail(what, error);
        }
        self.frame_trouble = trouble;
        self.postponed = Some(frame);
    }

    fn fail(&mut self, what: &str, error: &io::Error) {
        let directory = self.options.directory.display();
        self.failure =
            Some(format!("{what} in {directory}: {error}; it takes nothing more until the router is restarted"));
    }

    /// Writes what was gathered as one frame.
    fn begin_write(&mut self, now_ms: u64) {
        if let Some((offset, buffer, write)) = self.postponed.take() {
            if self.frame_trouble.as_ref().is_some_and(|trouble| !trouble.is_over(now_ms)) {
                self.postponed = Some((offset, buffer, write));
                return;
            }
            return self.submit(offset, buffer, write, now_ms);
        }
        if self.waiting.is_empty() {
            return;
        }
        let (mut records, mut bytes) = (0_usize, 0_usize);
        for (length, _) in &self.waiting {
            if records > 0 && bytes + *length as usize > FRAME_BYTES_MAX - HEADER_BYTES {
                break;
            }
            records += 1;
            bytes += *length as usize;
        }
        let length = frame_bytes(bytes);
        if !self.active.has_room(length as u64, self.options.segment_bytes) && !self.next_segment(length) {
            return;
        }
        self.frame += 1;
        let header = FrameHeader {
            shard: self.options.id.shard,
            boot_epoch: self.options.id.boot_epoch,
            segment: self.active.number,
            frame: self.frame,
            first_sequence: self.framed + 1,
            records: u32::try_from(records).unwrap_or(u32::MAX),
            payload_bytes: u32::try_from(bytes).unwrap_or(u32::MAX),
            tag: self.tag,
        };
        let mut buffer = self.take_buffer(length);
        let place = buffer.resize(length);
        let payload = &self.gathered[self.taken..self.taken + bytes];
        place[..HEADER_BYTES].copy_from_slice(&encode_header(&header, payload));
        place[HEADER_BYTES..HEADER_BYTES + bytes].copy_from_slice(payload);
        place[HEADER_BYTES + bytes..].fill(0);
        self.taken += bytes;
        // The rest is moved to the front only if it is less than what is gone.
        if self.taken * 2 >= self.gathered.len() {
            self.gathered.drain(..self.taken);
            self.taken = 0;
        }
        let (mut steps, mut state) = (0, false);
        for (_, class) in self.waiting.drain(..records) {
            self.framed += 1;
            self.messages += u64::from(class.arrives);
            self.active.held.push(class.holds);
            steps += u64::from(class.projects == Projects::History);
            state |= class.projects == Projects::State;
        }
        let projects = state || steps > 0;
        let offset = self.active.offset;
        self.active.offset += length as u64;
        let projection = projects.then(|| Projection {
            path: segment::path(&self.options.directory, self.active.number),
            segment: self.active.number,
            tag: self.tag,
            offset,
            bytes: length,
            last: Lsn(self.framed),
            steps,
            state,
        });
        self.submit(offset, buffer, InFlight { last: self.framed, frame: self.frame, projection }, now_ms);
    }

    fn submit(&mut self, offset: u64, buffer: Buffer, write: InFlight, now_ms: u64) {
        self.began_ms = now_ms;
        match self.active.file.submit(offset, buffer) {
            Ok(()) => self.in_flight = Some(write),
            Err((error, buffer)) => {
                self.postpone("a write to the journal could not be begun", &error, (offset, buffer, write), now_ms);
            }
        }
    }

    fn take_buffer(&mut self, length: usize) -> Buffer {
        match self.buffers.pop() {
            Some(buffer) if buffer.capacity() >= length => buffer,
            _ => Buffer::new(length.max(FRAME_BYTES_MAX + BLOCK_BYTES)),
        }
    }

    /// Switches to the spare segment. Returns whether there was one, with room for a frame of this length.
    fn next_segment(&mut self, length: usize) -> bool {
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
    fn look_after_segments(&mut self, now_ms: u64) {
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

    /// Returns the numbers of the first and the last segment in use.
    pub fn segments_in_use(&self) -> (u64, u64) {
        (self.sealed.front().map_or(self.active.number, |oldest| oldest.number), self.active.number)
    }

    /// Stops accepting records, because what is written would be lost; `complaint` says why.
    pub fn lose(&mut self, complaint: String) {
        self.failure.get_or_insert(complaint);
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

    /// Returns the directory of its segments.
    pub fn directory(&self) -> &Path {
        &self.options.directory
    }
}
