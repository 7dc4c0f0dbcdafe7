//! Reads a journal back: every record in order, a clean end at a torn write, and an error with file and offset for
//! anything else.
//!
//! Invariants: every segment named in the [catalogue](Catalogue) exists with its full length, and no other one has
//! records of this journal. A frame is written only when the previous one is complete. Bytes that are not a frame are
//! therefore the end of the journal, unless a frame with a higher number follows, or the catalogue knows of a later
//! one: then something acknowledged is damaged, and nothing is served. Only read permission is needed.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use caxton_shards::journal::frame::{BLOCK_BYTES, Expected, Frame, FrameError, MAGIC, frame_bytes, read_frame};
use caxton_shards::journal::record::{Lsn, RECORD_BYTES_MAX};

use super::catalogue::{self, Catalogue, JournalId};
use super::segment::{SUFFIX, path};
use crate::store::disk::{Buffer, Disk, DiskFile, Files};
use crate::store::survey::MismatchError;

/// The advice after damage.
const RESTORE: &str = "Put the whole directory back from a backup. `caxton store check` says what else is intact, and `caxton \
                       store recover` what would be lost without a backup";

/// A journal cannot be read. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// The disk reports an error.
    #[error("{path} cannot be read: {error}", path = path.display())]
    Read {
        /// The file or directory.
        path: PathBuf,
        /// The system's error.
        error: io::Error,
    },
    /// A file is missing, too short, or not the expected one.
    #[error(transparent)]
    Mismatch(#[from] MismatchError),
    /// Acknowledged bytes are damaged.
    #[error(
        "{path} is damaged at byte {offset}: {fault}. Nothing of this directory is served, and nothing was changed. {RESTORE}",
        path = path.display()
    )]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// The position in bytes.
        offset: u64,
        /// What is wrong there.
        fault: String,
    },
    /// Another version of the program wrote it.
    #[error("{path}, byte {offset}: {fault}", path = path.display())]
    Version {
        /// Which file.
        path: PathBuf,
        /// The position in bytes.
        offset: u64,
        /// The version, and what to do.
        fault: FrameError,
    },
    /// A record was not accepted by the reader's callback.
    #[error("{path}, byte {offset}: record {sequence}: {what}", path = path.display(), sequence = sequence.0)]
    Record {
        /// Which file.
        path: PathBuf,
        /// The position of its frame, in bytes.
        offset: u64,
        /// The record.
        sequence: Lsn,
        /// What is wrong with it.
        what: String,
    },
}

/// The contents of one segment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SegmentSummary {
    /// Its file.
    pub path: PathBuf,
    /// The number of complete frames.
    pub frames: u64,
    /// The number of their records.
    pub records: u64,
    /// Their length in bytes.
    pub bytes: u64,
    /// The position of a torn write, in bytes.
    pub torn_at: Option<u64>,
}

/// The contents of a journal.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JournalSummary {
    /// The catalogue.
    pub catalogue: Catalogue,
    /// Its segments, oldest first.
    pub segments: Vec<SegmentSummary>,
    /// The last record.
    pub last: Lsn,
}

impl JournalSummary {
    /// Returns the number of records.
    pub fn records(&self) -> u64 {
        self.segments.iter().map(|segment| segment.records).sum()
    }
}

/// Reads the journal of a shard, and passes every record on: its LSN, kind and body.
///
/// # Errors
///
/// The journal is damaged or incomplete, or a record is not accepted. Earlier records have been passed on.
pub fn scan(
    files: &impl Files,
    directory: &Path,
    id: &JournalId,
    each: impl FnMut(Lsn, u8, &[u8]) -> Result<(), String>,
) -> Result<JournalSummary, JournalError> {
    let catalogue = read_catalogue(files, directory)?;
    if catalogue.id != *id {
        return Err(foreign(&catalogue::path(directory), &catalogue.id, id).into());
    }
    let plan = Plan::of(files, directory, &catalogue)?;
    let mut scan = Scan {
        directory,
        expected: Expected { shard: id.shard, segment: 0, tag: id.tag() },
        reached: Reached::before(catalogue.first_frame, catalogue.first_record.0),
        end: None,
        last: (path(directory, catalogue.first), 0),
        segments: Vec::new(),
        each,
    };
    for (number, length) in &plan.named {
        scan.segment(files, *number, *length)?;
    }
    for (number, length) in &plan.unnamed {
        scan.holds_nothing(files, *number, *length)?;
    }
    scan.finish(&catalogue)?;
    Ok(JournalSummary { catalogue, segments: scan.segments, last: Lsn(scan.reached.sequence) })
}

/// Reads the intact part of a damaged journal: records in order from its oldest segment on, up to the first missing or
/// damaged one. If the catalogue is damaged, the files themselves show where the journal begins.
///
/// # Errors
///
/// Returns where the journal ended too early; nothing is said about what should follow.
pub fn salvage(
    files: &impl Files,
    directory: &Path,
    id: &JournalId,
    each: impl FnMut(Lsn, u8, &[u8]) -> Result<(), String>,
) -> Result<(), JournalError> {
    let catalogue = read_catalogue(files, directory).ok().filter(|catalogue| catalogue.id == *id);
    let found = numbers(files, directory)?;
    let begin = catalogue.as_ref().map(|catalogue| catalogue.first).or(found.first().copied());
    let Some(mut number) = begin else { return Ok(()) };
    let expected = Expected { shard: id.shard, segment: number, tag: id.tag() };
    let file = |number| {
        let path = path(directory, number);
        let length = files.length(&path).map_err(|error| JournalError::Read { path: path.clone(), error })?;
        Ok::<_, JournalError>((path, length))
    };
    let (first, length) = file(number)?;
    let reached = match &catalogue {
        Some(catalogue) => Reached::before(catalogue.first_frame, catalogue.first_record.0),
        None => match read_frame(&read(files, &first, length)?, expected) {
            Ok(frame) => Reached::before(frame.header.frame, frame.header.first_sequence),
            Err(fault) => return Err(damage(&first, 0, fault)),
        },
    };
    let last = (first, 0);
    let mut scan = Scan { directory, expected, reached, end: None, last, segments: Vec::new(), each };
    while found.contains(&number) && scan.end.is_none() {
        scan.segment(files, number, file(number)?.1)?;
        number += 1;
    }
    Ok(())
}

/// Whether a file in a directory begins like a frame, of any journal, or cannot be read.
pub fn has_frames(files: &impl Files, directory: &Path) -> bool {
    let Ok(names) = files.names(directory) else { return true };
    let mut segments = names.iter().filter(|name| name.ends_with(SUFFIX)).map(|name| directory.join(name));
    segments.any(|path| files.read(&path, MAGIC.len() as u64).map_or(true, |bytes| bytes == MAGIC))
}

/// Reads the catalogue of the journal in a directory.
///
/// # Errors
///
/// It is missing or damaged.
pub fn read_catalogue(files: &impl Files, directory: &Path) -> Result<Catalogue, JournalError> {
    Catalogue::read(files, directory).map_err(|found| {
        let expected = "the catalogue of the journal beside it, whole".to_owned();
        MismatchError { path: catalogue::path(directory), found, expected, advice: RESTORE.to_owned() }.into()
    })
}

fn foreign(path: &Path, found: &JournalId, expected: &JournalId) -> MismatchError {
    let describe = |id: &JournalId| {
        let JournalId { directory, generation, shards, shard, boot_epoch } = id;
        format!(
            "shard {shard} of {shards} in generation {generation} of directory {directory}, boot epoch {boot_epoch}"
        )
    };
    MismatchError {
        path: path.to_owned(),
        found: format!("the journal of {}", describe(found)),
        expected: describe(expected),
        advice: format!("It belongs somewhere else. {RESTORE}"),
    }
}

/// The files to read.
struct Plan {
    /// The segments named in the catalogue, oldest first, with their lengths.
    named: Vec<(u64, u64)>,
    /// Other segments: one being created, or intended as the newest one.
    unnamed: Vec<(u64, u64)>,
}

impl Plan {
    fn of(files: &impl Files, directory: &Path, catalogue: &Catalogue) -> Result<Self, JournalError> {
        let found = numbers(files, directory)?;
        // While the oldest one is not renamed, the newest one does not exist, or is the remains of one that found no
        // room.
        let awaits = catalogue.reused.is_some_and(|reused| found.contains(&reused));
        let last = if awaits { catalogue.last - 1 } else { catalogue.last };
        let may_be = |number: u64| number == catalogue.last + 1 || awaits && number == catalogue.last;
        let length = |number: u64| {
            let path = path(directory, number);
            files.length(&path).map_err(|error| JournalError::Read { path, error })
        };
        let mismatch = |number: u64, found: String, expected: String| MismatchError {
            path: path(directory, number),
            found,
            expected,
            advice: RESTORE.to_owned(),
        };
        let mut plan = Self { named: Vec::new(), unnamed: Vec::new() };
        for number in catalogue.first..=last {
            if !found.contains(&number) {
                let expected = format!("segment {number} of {} to {last}", catalogue.first);
                return Err(mismatch(number, "there is no such file".to_owned(), expected).into());
            }
            let length = length(number)?;
            if !has_length(length, catalogue) {
                let expected = format!("{} bytes", catalogue.segment_bytes);
                return Err(mismatch(number, format!("it has {length} bytes"), expected).into());
            }
            plan.named.push((number, length));
        }
        for number in found {
            if may_be(number) {
                plan.unnamed.push((number, length(number)?.min(frame_length_max(catalogue))));
            } else if number > last || number < catalogue.first && catalogue.reused != Some(number) {
                let expected = format!("segments {} to {last}", catalogue.first);
                return Err(mismatch(number, "a segment more than the catalogue names".to_owned(), expected).into());
            }
        }
        Ok(plan)
    }
}

/// Every segment is written out before it is used. One with a record longer than that has grown for it.
fn has_length(length: u64, catalogue: &Catalogue) -> bool {
    (catalogue.segment_bytes..=frame_length_max(catalogue)).contains(&length)
        && length.is_multiple_of(BLOCK_BYTES as u64)
}

fn frame_length_max(catalogue: &Catalogue) -> u64 {
    catalogue
        .segment_bytes
        .max(frame_bytes(RECORD_BYTES_MAX) as u64)
        .next_multiple_of(super::segment::PORTION_BYTES as u64)
}

/// A journal being read.
struct Scan<'a, E> {
    directory: &'a Path,
    expected: Expected,
    reached: Reached,
    /// The torn write that ended the journal.
    end: Option<(PathBuf, u64, FrameError)>,
    /// The end of the last frame.
    last: (PathBuf, u64),
    segments: Vec<SegmentSummary>,
    each: E,
}

impl<E: FnMut(Lsn, u8, &[u8]) -> Result<(), String>> Scan<'_, E> {
    fn segment(&mut self, files: &impl Files, number: u64, length: u64) -> Result<(), JournalError> {
        let path = path(self.directory, number);
        let bytes = read(files, &path, length)?;
        self.expected.segment = number;
        let mut found = SegmentSummary { path: path.clone(), frames: 0, records: 0, bytes: 0, torn_at: None };
        let mut offset = 0;
        let fault = loop {
            let frame = match read_frame(bytes.get(offset..).unwrap_or_default(), self.expected) {
                Ok(frame) => frame,
                Err(fault) => break fault,
            };
            self.frame(&frame, &path, offset as u64)?;
            found.frames += 1;
            found.records += u64::from(frame.header.records);
            found.bytes += frame.bytes() as u64;
            offset += frame.bytes();
            self.last = (path.clone(), offset as u64);
        };
        if let FrameError::Shard(_) | FrameError::Foreign = fault {
            return Err(damage(&path, offset as u64, fault));
        }
        if let FrameError::Version(_) = fault {
            return Err(JournalError::Version { path, offset: offset as u64, fault });
        }
        if let Some(later) = later_frame(&bytes, offset, self.expected, &self.reached) {
            return Err(JournalError::Damaged {
                path,
                offset: offset as u64,
                fault: format!("{fault}; frame {later} lies behind it"),
            });
        }
        let torn = !matches!(fault, FrameError::NoFrame | FrameError::Segment(_));
        found.torn_at = torn.then_some(offset as u64);
        if torn {
            self.end.get_or_insert((path, offset as u64, fault));
        }
        self.segments.push(found);
        Ok(())
    }

    fn frame(&mut self, frame: &Frame<'_>, path: &Path, offset: u64) -> Result<(), JournalError> {
        if let Some((damaged, at, fault)) = &self.end {
            // The frames before this one ended too early.
            return Err(damage(damaged, *at, *fault));
        }
        if !self.reached.continues(frame) {
            let (frame, record) = (frame.header.frame, frame.header.first_sequence);
            let Reached { frame: last_frame, sequence } = self.reached;
            return Err(JournalError::Damaged {
                path: path.to_owned(),
                offset,
                fault: format!(
                    "frame {frame} with record {record} does not continue frame {last_frame} with record {sequence}"
                ),
            });
        }
        let first = frame.header.first_sequence;
        for (record, sequence) in frame.records().zip(first..) {
            let place =
                |what: String| JournalError::Record { path: path.to_owned(), offset, sequence: Lsn(sequence), what };
            let (kind, body) = record.map_err(|fault| place(fault.to_string()))?;
            (self.each)(Lsn(sequence), kind, body).map_err(place)?;
        }
        self.reached.take(frame);
        Ok(())
    }

    /// A file that the catalogue does not name may have been created but not used.
    fn holds_nothing(&self, files: &impl Files, number: u64, length: u64) -> Result<(), JournalError> {
        let path = path(self.directory, number);
        let bytes = read(files, &path, length)?;
        if read_frame(&bytes, Expected { segment: number, ..self.expected }).is_err() {
            return Ok(());
        }
        let (found, expected) = ("a segment with records", "one that was not used: the catalogue is older than it");
        let (found, expected, advice) = (found.to_owned(), expected.to_owned(), RESTORE.to_owned());
        Err(MismatchError { path, found, expected, advice }.into())
    }

    /// Compares the end with what is known to have been on disk.
    fn finish(&mut self, catalogue: &Catalogue) -> Result<(), JournalError> {
        let Reached { frame, sequence } = self.reached;
        let too_early = frame < catalogue.frame || sequence < catalogue.committed.0;
        if too_early || catalogue.closed && (frame > catalogue.frame || self.end.is_some()) {
            let (path, offset) = self.last.clone();
            let known = catalogue.committed.0;
            let torn = self.end.as_ref().map_or_else(String::new, |(_, _, fault)| format!(" ({fault})"));
            let fault = format!("the journal ends with record {sequence}{torn}, and the catalogue knows of {known}");
            return Err(JournalError::Damaged { path, offset, fault });
        }
        Ok(())
    }
}

/// Reads the frames of a stretch of a segment that is known to be durable, and passes their records on.
///
/// # Errors
///
/// As for [`scan`].
pub fn read_frame_at<D: Disk>(
    disk: &mut D,
    projection: &super::Projection,
    buffer: &mut Buffer,
    shard: u16,
    mut each: impl FnMut(Lsn, u8, &[u8]) -> Result<(), String>,
) -> Result<(), JournalError> {
    let path = &projection.path;
    let unreadable = |error| JournalError::Read { path: path.clone(), error };
    let mut file = disk.open(path).map_err(unreadable)?;
    if buffer.capacity() < projection.bytes {
        *buffer = Buffer::new(projection.bytes);
    }
    buffer.resize(projection.bytes);
    let filled = file.read_past_cache(projection.offset, buffer).map_err(unreadable)?;
    let bytes = buffer.bytes();
    let expected = Expected { shard, segment: projection.segment, tag: projection.tag };
    let mut at = 0;
    while at < filled {
        let frame = read_frame(&bytes[at..filled], expected)
            .map_err(|fault| damage(path, projection.offset + at as u64, fault))?;
        for (record, sequence) in frame.records().zip(frame.header.first_sequence..) {
            let place = |what: String| JournalError::Record {
                path: path.clone(),
                offset: projection.offset + at as u64,
                sequence: Lsn(sequence),
                what,
            };
            let (kind, body) = record.map_err(|fault| place(fault.to_string()))?;
            each(Lsn(sequence), kind, body).map_err(place)?;
        }
        at += frame.bytes();
    }
    Ok(())
}

fn damage(path: &Path, offset: u64, fault: FrameError) -> JournalError {
    JournalError::Damaged { path: path.to_owned(), offset, fault: fault.to_string() }
}

/// The progress of reading: the last frame and its last record.
#[derive(Clone, Copy)]
struct Reached {
    frame: u64,
    sequence: u64,
}

impl Reached {
    /// Returns the progress before this frame, which begins with this record.
    fn before(frame: u64, record: u64) -> Self {
        Self { frame: frame.saturating_sub(1), sequence: record.saturating_sub(1) }
    }

    fn continues(&self, frame: &Frame<'_>) -> bool {
        frame.header.frame == self.frame + 1 && frame.header.first_sequence == self.sequence + 1
    }

    fn take(&mut self, frame: &Frame<'_>) {
        self.frame = frame.header.frame;
        self.sequence = frame.header.first_sequence + u64::from(frame.header.records) - 1;
    }
}

/// Returns the number of a complete frame after bytes that are not a frame. Parts of the frame being written may be
/// there, so only one begun after it counts.
fn later_frame(bytes: &[u8], from: usize, expected: Expected, reached: &Reached) -> Option<u64> {
    (from.saturating_add(BLOCK_BYTES)..bytes.len()).step_by(BLOCK_BYTES).find_map(|offset| {
        let frame = read_frame(&bytes[offset..], expected).ok()?;
        (frame.header.frame > reached.frame + 1).then_some(frame.header.frame)
    })
}

/// Returns the numbers of the existing segments, by the journal's own names.
fn numbers(files: &impl Files, directory: &Path) -> Result<BTreeSet<u64>, JournalError> {
    let names = files.names(directory).map_err(|error| JournalError::Read { path: directory.to_owned(), error })?;
    let number = |name: &String| {
        let number = name.strip_suffix(SUFFIX)?.parse().ok()?;
        (path(directory, number).file_name()? == name.as_str()).then_some(number)
    };
    Ok(names.iter().filter_map(number).collect())
}

fn read(files: &impl Files, path: &Path, length: u64) -> Result<Vec<u8>, JournalError> {
    let unreadable = |error| JournalError::Read { path: path.to_owned(), error };
    let bytes = files.read(path, length).map_err(unreadable)?;
    if (bytes.len() as u64) < length {
        return Err(unreadable(io::Error::new(io::ErrorKind::UnexpectedEof, "it became shorter while it was read")));
    }
    Ok(bytes)
}
