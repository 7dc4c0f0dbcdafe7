//! One shard's journal: records gathered into frames, frames written into segments, one write in flight.
//!
//! While a frame is being written the next one gathers, so batches form by themselves and nobody lingers. A frame begins on a
//! fresh block, and no block that holds acknowledged records is written again until its whole segment is reused.
//!
//! A [catalogue](Catalogue) says which segments there must be, before they are used or given up.
//!
//! Invariants: records are committed in the order of their sequences; a segment is reused only when nothing in it is
//! needed: what holds it was released, what belongs into the projection was projected, and its ids have left the window in
//! which a message that comes again is told; a step that fails for want of room, of descriptors or of memory changes nothing and
//! is tried again, any other failure ends the journal for good; that it is full or obstructed is said until something succeeds.

mod backlog;
mod catalogue;
mod scan;
mod segment;
mod trouble;

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::task::Waker;
use std::time::{Duration, Instant};

use caxton_shards::journal::frame::{
    BLOCK_BYTES, FRAME_BYTES_MAX, FrameHeader, HEADER_BYTES, encode_header, frame_bytes,
};
use caxton_shards::journal::record::{Lsn, Projects, RECORD_HEADER_BYTES, RecordClass};
use caxton_shards::message::WallTime;

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

use super::disk::{Buffer, Disk, DiskFile, Files, WriteMode};

/// Records gathered beyond this, in bytes, make the journal [busy](JournalState::Busy): as many as a few frames.
pub const GATHERED_BYTES_BUSY: usize = 8 << 20;
/// A write that takes longer than this, in milliseconds, makes the journal [obstructed](JournalState::Obstructed).
pub const WRITE_TIME_MAX_MS: u64 = 5_000;
/// While the first segment or the last entry of the catalogue is written, it is looked at so often.
const WAIT: Duration = Duration::from_millis(1);
/// The catalogue is told so often how far the journal has come while it is written, in milliseconds.
pub const MARK_INTERVAL_MS: u64 = 1_000;
/// It is told when nothing was written for so long, in milliseconds.
pub const MARK_IDLE_MS: u64 = 50;
/// How long the last entry of the catalogue may take.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);

/// What a journal is made with.
#[derive(Clone, Debug)]
pub struct JournalOptions {
    /// Where its segments lie.
    pub directory: PathBuf,
    /// Whose journal it is.
    pub id: JournalId,
    /// The length of a segment in bytes: a multiple of 4 KiB.
    pub segment_bytes: u64,
    /// The most segments.
    pub segments_max: usize,
    /// So many of the newest messages stay, settled or not, for their ids, as long as there are fewer segments than the most.
    pub retained_messages: u64,
    /// Of so many steps of conversations the newest are handed to the projection; older ones that wait are left out.
    pub history: u64,
}

/// Whether a journal takes records.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum JournalState {
    /// It does.
    Ready,
    /// It does, and has much to write already.
    Busy,
    /// It has as many segments as it may, and all of them are needed.
    Full,
    /// There is no room for more: the file system is full, a quota is used up, or files may not become so long. In words.
    NoSpace(String),
    /// The system can't do now what the journal needs: it has no descriptors or no memory left, or does not complete a write.
    /// In words.
    Obstructed(String),
    /// A write failed, and nothing is written any more. In words.
    Failed(String),
}

/// The journal of one shard. It belongs to one thread, and never blocks it once it is made.
pub struct Journal<D: Disk> {
    disk: D,
    options: JournalOptions,
    /// The tag of its frames.
    tag: u32,
    ledger: Ledger<D::File>,
    /// When the catalogue is to be told next how far the journal has come, in milliseconds.
    mark_at_ms: u64,
    active: Active<D::File>,
    sealed: VecDeque<Sealed>,
    spare: Spare<D::File>,
    /// The highest number that a segment had.
    numbered: u64,
    frame: u64,
    gathered: Vec<u8>,
    /// So many of these bytes are in a frame already.
    taken: usize,
    /// Of each gathered record: its length, and whether it holds its segment.
    waiting: VecDeque<(u32, RecordClass)>,
    /// The sequence of the last record that was handed over, of the last one in a frame, and of the last durable one.
    handed: u64,
    framed: u64,
    committed: u64,
    /// The number of the last durable frame, and when it became that, in milliseconds.
    committed_frame: u64,
    committed_ms: u64,
    /// How many messages are in frames.
    messages: u64,
    /// What the projection reads now: its first segment, and its last record.
    reading: Option<(u64, Lsn)>,
    /// The frame in flight: its last sequence, and whether it holds records for the projection, with its place.
    in_flight: Option<InFlight>,
    /// A frame that found no room.
    postponed: Option<(u64, Buffer, InFlight)>,
    buffers: Vec<Buffer>,
    projections: Backlog,
    /// A segment was reused although the projection had not read it.
    overrun: bool,
    /// Why the last frame is not written, and why there is no next segment. Each is there until the thing itself has succeeded.
    frame_trouble: Option<Trouble>,
    segment_trouble: Option<Trouble>,
    catalogue_trouble: Option<Trouble>,
    /// When the write in flight began, and when it was looked at last, in milliseconds.
    began_ms: u64,
    now_ms: u64,
    failure: Option<String>,
    /// Bytes of frames that were written.
    pub written_bytes: u64,
    /// Frames that were written.
    pub commits: u64,
}

#[derive(Clone, Debug)]
struct InFlight {
    last: u64,
    frame: u64,
    projection: Option<Projection>,
}

impl<D: Disk> Journal<D> {
    /// Makes a new journal in an empty directory, with its first segment written out. Blocks until that is there.
    ///
    /// # Errors
    /// The first segment could not be made.
    pub fn create(disk: D, options: JournalOptions) -> io::Result<Self> {
        Self::create_unless(disk, options, || false)
    }

    /// As [`Journal::create`], until it is cancelled.
    ///
    /// # Errors
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

    /// How its segments are written.
    pub fn mode(&self) -> WriteMode {
        self.active.file.mode()
    }

    /// Takes over records, which stand one after another and have the next sequences.
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

    /// A record is settled, and no longer holds its segment.
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

    /// Takes the next stretches that the projection has to read, of about so many bytes together. They are durable, and stay
    /// until [`Journal::projected`] is told of the last one's last record; nothing is taken before that.
    pub fn take_projections(&mut self, bytes: usize) -> Vec<Projection> {
        if self.reading.is_some() {
            return Vec::new();
        }
        let taken = self.projections.take(bytes);
        let ends = taken.first().zip(taken.last());
        self.reading = ends.map(|(first, last)| (first.segment, last.last));
        taken
    }

    /// Takes all stretches that wait, although the projection may still read others: for when the journal ends.
    pub fn take_last_projections(&mut self) -> Vec<Projection> {
        self.projections.take(usize::MAX)
    }

    /// The projection has everything up to this record.
    pub fn projected(&mut self, sequence: Lsn) {
        self.reading = self.reading.filter(|(_, last)| *last > sequence);
    }

    /// The first segment that the projection still has to read.
    fn first_unread(&self) -> u64 {
        let reading = self.reading.map(|(segment, _)| segment);
        reading.or(self.projections.first_segment()).unwrap_or(u64::MAX)
    }

    /// Whether stretches wait for the projection, beside those that it reads now.
    pub fn has_unread(&self) -> bool {
        !self.projections.is_empty()
    }

    /// Whether stretches wait for the projection that it can take.
    pub fn has_projections(&self) -> bool {
        self.reading.is_none() && !self.projections.is_empty()
    }

    /// Steps of conversations that were left out, because so many newer ones waited.
    pub fn steps_left_out(&self) -> u64 {
        self.projections.left_out
    }

    /// Whether a segment had to be reused before the projection had read it: then the projection has to begin again. Answers
    /// that once, and forgets what waits.
    pub fn take_overrun(&mut self) -> bool {
        let overrun = std::mem::take(&mut self.overrun);
        if overrun {
            self.forget_projections();
        }
        overrun
    }

    /// Forgets what waits for the projection, which begins again.
    pub fn forget_projections(&mut self) {
        self.projections.forget();
        self.reading = None;
    }

    /// What is committed so far.
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

    /// Whether the segment that comes next is being made. That takes the disk for a while.
    pub fn makes_segment(&self) -> bool {
        self.failure.is_none() && self.segment_trouble.is_none() && self.spare.is_being_made()
    }

    /// Whether it has nothing to do but to wait until something can be tried again that could not be done.
    pub fn is_stuck(&self) -> bool {
        self.in_flight.is_none() && matches!(self.state(), JournalState::NoSpace(_) | JournalState::Obstructed(_))
    }

    /// Whether the next segment is being made after something went wrong with it: it is to be looked at although nothing else
    /// happens.
    pub fn mends(&self) -> bool {
        self.failure.is_none() && self.segment_trouble.is_some() && self.spare.is_being_made()
    }

    /// When something is to be tried again that could not be done, in milliseconds, unless it [waits](Journal::mends) already.
    pub fn retry_at_ms(&self) -> Option<u64> {
        let trouble =
            self.segment_trouble.as_ref().filter(|_| self.failure.is_none() && !self.spare.is_being_made())?;
        Some(trouble.retry_at_ms())
    }

    /// Whether it takes records.
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

    /// Whether something may keep it from taking records.
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
        // As long as the present segment has room, nobody has to wait for the next one.
        if !self.active.has_room(2 * FRAME_BYTES_MAX as u64, self.options.segment_bytes)
            && let Some(state) = state(&self.segment_trouble).or_else(|| state(&self.catalogue_trouble))
        {
            return Some(state);
        }
        let directory = self.options.directory.display();
        self.write_takes_long().then(|| {
            JournalState::Obstructed(format!(
                "a write in {directory} has taken longer than {} s: the disk does not answer",
                WRITE_TIME_MAX_MS / 1_000
            ))
        })
    }

    fn is_full(&self) -> bool {
        matches!(self.spare, Spare::None) && self.sealed.len() + 1 >= self.options.segments_max
    }

    /// Sleeps until a write is complete, until it is woken, or for this long: for whoever has nothing else to do.
    pub fn wait(&mut self, timeout: Duration) {
        self.disk.wait(timeout);
    }

    /// Ends a [`wait`](Journal::wait), the present one or the next.
    pub fn waker(&self) -> Waker {
        self.disk.waker()
    }

    /// How many segments there are, the one that is written and the spare one included.
    pub fn segments(&self) -> usize {
        self.sealed.len() + 1 + usize::from(!matches!(self.spare, Spare::None))
    }

    /// When more than half of the segments are in use: the last record of the oldest one, if something in it is still needed.
    /// What is rewritten behind it lets the segment be reused.
    pub fn wants_carried(&self) -> Option<Lsn> {
        if (self.sealed.len() + 1) * 2 <= self.options.segments_max {
            return None;
        }
        let oldest = self.sealed.front()?;
        (oldest.held.needed > 0).then_some(Lsn(oldest.last))
    }

    /// Goes on: finishes the write that the kernel has finished, begins the next one, makes the next segment ready. Answers
    /// whether more is durable than before.
    pub fn poll(&mut self, now_ms: u64) -> bool {
        if self.failure.is_some() {
            return false;
        }
        let before = self.committed;
        self.now_ms = now_ms;
        self.finish_write(now_ms);
        // Behind a frame that was not written nothing may be written: it would look as if what was acknowledged were damaged.
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

    #[cold]
    fn write_catalogue(&mut self, now_ms: u64) {
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

    /// Has a frame written later that could not be written now, unless the error is final.
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
            Some(format!("{what} in {directory}: {error}; it takes nothing more until the router is started anew"));
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
        // What is left is moved to the front only when it is less than what is gone.
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

    /// Goes on to the spare segment. Returns whether there was one, with room for a frame of so many bytes.
    fn next_segment(&mut self, length: usize) -> bool {
        if length as u64 > self.options.segment_bytes && self.active.offset > 0 && self.spare.is_ready() {
            // A record longer than a segment gets one of its own, which grows for it.
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

    /// Has the next segment ready before it is needed: one that is needed no longer or, up to the maximum, a new one.
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
            // There is none to be made where there are as many as there may be.
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
        // A new segment that finds no room gives back what it has: one that is needed no longer may take its place, and others
        // need the room meanwhile.
        if severity(error) == Severity::NoRoom && self.spare.remove_unfinished(&mut self.disk, &self.options.directory)
        {
            self.numbered -= 1;
        }
    }

    /// Begins to make the next segment. If that fails, all segments are what they were.
    fn begin_segment(&mut self) -> io::Result<()> {
        let first_unread = self.first_unread();
        let crowded = self.sealed.len() + 2 > self.options.segments_max;
        let number = self.numbered + 1;
        let unneeded = self.sealed.front().filter(|segment| {
            // Where there is no more room, the projection is not waited for: it begins again.
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

    /// After a segment that found no room, none is begun before there seems to be enough of it.
    fn check_room(&self) -> io::Result<()> {
        if !matches!(self.segment_trouble.as_ref().and_then(Trouble::state), Some(JournalState::NoSpace(_))) {
            return Ok(());
        }
        let free = self.disk.free_space(&self.options.directory)?;
        if free < self.options.segment_bytes { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    /// The numbers of the segments that hold what was written: the first and the last.
    pub fn segments_in_use(&self) -> (u64, u64) {
        (self.sealed.front().map_or(self.active.number, |oldest| oldest.number), self.active.number)
    }

    /// Takes nothing more, because what is written would be lost. In words, why.
    pub fn lose(&mut self, complaint: String) {
        self.failure.get_or_insert(complaint);
    }

    /// Has the catalogue told that the oldest segment is given up for the next one. Its file gets the new name after that.
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

    /// Whether the catalogue is being written, or waits to be.
    pub fn writes_catalogue(&self) -> bool {
        self.failure.is_none() && self.ledger.is_busy()
    }

    /// Whether the catalogue is to be [told](Journal::mark) how far the journal has come.
    pub fn wants_mark(&self, now_ms: u64) -> bool {
        self.mark_due_ms().is_some_and(|due_ms| now_ms >= due_ms)
    }

    /// When it is to be told next, in milliseconds, if nothing else happens.
    pub fn mark_due_ms(&self) -> Option<u64> {
        if self.committed == self.ledger.entry().committed.0 || self.failure.is_some() {
            return None;
        }
        let idle = self.in_flight.is_none() && self.waiting.is_empty();
        Some(if idle { self.mark_at_ms.min(self.committed_ms + MARK_IDLE_MS) } else { self.mark_at_ms })
    }

    /// Has the catalogue told how far the journal has come, at this wall time.
    pub fn mark(&mut self, now_ms: u64, wall: WallTime) {
        self.mark_at_ms = now_ms + MARK_INTERVAL_MS;
        let (committed, frame) = (Lsn(self.committed), self.committed_frame);
        self.ledger.change(|entry| (entry.committed, entry.frame, entry.wall) = (committed, frame, wall));
        // At once: a shard that has nothing else to do sleeps after this.
        self.write_catalogue(now_ms);
    }

    /// Reads back what an earlier run left, all of which was written, and has the catalogue told that it is complete. Blocks
    /// until that is on disk.
    ///
    /// # Errors
    /// It cannot be read, or is not what was written.
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
        self.until_durable(change)
    }

    /// Has the catalogue told that nothing more is written. Blocks until that is on disk, for 5 s at most. The journal takes
    /// nothing any more.
    ///
    /// # Errors
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
        self.until_durable(change)
    }

    fn until_durable(&mut self, change: u64) -> Result<(), String> {
        let began = Instant::now();
        while !self.ledger.has(change) {
            let result = self.ledger.poll();
            if began.elapsed() > CLOSE_WITHIN {
                let directory = self.options.directory.display();
                let why = result.err().map_or_else(|| "it takes too long".to_owned(), |error| error.to_string());
                return Err(format!("the catalogue of the journal in {directory} could not be written: {why}"));
            }
            self.disk.wait(WAIT);
        }
        Ok(())
    }

    /// Where its segments lie.
    pub fn directory(&self) -> &Path {
        &self.options.directory
    }
}
