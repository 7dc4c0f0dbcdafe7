//! Reading a journal back: every record in its order, a clean end where the last write was torn, and an error that names file
//! and offset where something else is wrong.
//!
//! A frame is written only when the one before it is complete. So bytes that are no frame are the end of the journal, unless
//! a frame with a higher number lies behind them: then something that was acknowledged is damaged, and nothing is served.

use std::io;
use std::path::{Path, PathBuf};

use caxton_shards::frame::{BLOCK_BYTES, Expected, Frame, FrameFault, read_frame};
use caxton_shards::record::AppendSequence;

use super::segment::{SUFFIX, path};
use crate::store::disk::{Buffer, Disk, DiskFile};

/// Why a journal cannot be read. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum JournalFault {
    /// The disk does not give its bytes.
    #[error("{path} cannot be read: {error}", path = path.display())]
    Read {
        /// Which file, or directory.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// Bytes that were acknowledged are damaged.
    #[error(
        "{path} is damaged at byte {offset}: {fault}, and there are newer records behind it. Nothing of this directory is \
         served; restore it from a backup, or move the file away to start without what is in it",
        path = path.display()
    )]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// Where, in bytes.
        offset: u64,
        /// What is wrong there.
        fault: String,
    },
    /// A segment between two others is missing.
    #[error("{path} is missing: there are older and newer segments beside it", path = path.display())]
    Missing {
        /// The file that should be there.
        path: PathBuf,
    },
    /// Another program's version wrote it.
    #[error("{path}, byte {offset}: {fault}", path = path.display())]
    Version {
        /// Which file.
        path: PathBuf,
        /// Where, in bytes.
        offset: u64,
        /// Which version, and what to do.
        fault: FrameFault,
    },
    /// Whoever takes the records cannot take one.
    #[error("{path}, byte {offset}: record {sequence}: {what}", path = path.display(), sequence = sequence.0)]
    Record {
        /// Which file.
        path: PathBuf,
        /// Where its frame begins, in bytes.
        offset: u64,
        /// Which record.
        sequence: AppendSequence,
        /// What is wrong with it.
        what: String,
    },
}

/// What was found in one segment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SegmentSummary {
    /// Its file.
    pub path: PathBuf,
    /// Frames that are whole.
    pub frames: u64,
    /// Their records.
    pub records: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Where a torn write begins, in bytes.
    pub torn_at: Option<u64>,
}

/// What was found in a journal.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct JournalSummary {
    /// Its segments, oldest first.
    pub segments: Vec<SegmentSummary>,
    /// The last record.
    pub last: AppendSequence,
}

impl JournalSummary {
    /// All records.
    pub fn records(&self) -> u64 {
        self.segments.iter().map(|segment| segment.records).sum()
    }
}

/// Reads the journal of a shard, and hands out every record: its sequence, kind and body.
///
/// # Errors
/// Where it is damaged, or a record is not taken. Records before that have been handed out.
pub fn scan<D: Disk>(
    disk: &mut D,
    directory: &Path,
    shard: u16,
    mut each: impl FnMut(AppendSequence, u8, &[u8]) -> Result<(), String>,
) -> Result<JournalSummary, JournalFault> {
    let numbers = numbers(disk, directory)?;
    let mut summary = JournalSummary::default();
    let mut reached = Reached { frame: None, sequence: 0 };
    let mut end: Option<(PathBuf, u64, FrameFault)> = None;
    for (index, number) in numbers.iter().enumerate() {
        if index > 0 && numbers[index - 1] + 1 != *number {
            return Err(JournalFault::Missing { path: path(directory, numbers[index - 1] + 1) });
        }
        let path = path(directory, *number);
        let bytes = read_all(disk, &path)?;
        let expected = Expected { shard, segment: *number };
        let mut found = SegmentSummary { path: path.clone(), frames: 0, records: 0, bytes: 0, torn_at: None };
        let mut offset = 0;
        let fault = loop {
            let frame = match read_frame(bytes.get(offset..).unwrap_or_default(), expected) {
                Ok(frame) => frame,
                Err(fault) => break fault,
            };
            if let Some((damaged, at, fault)) = &end {
                // The frames before this one ended too early.
                return Err(damage(damaged, *at, *fault));
            }
            if !reached.continues(&frame) {
                return Err(JournalFault::Damaged {
                    path,
                    offset: offset as u64,
                    fault: format!("frame {} does not continue what is before it", frame.header.frame),
                });
            }
            let first = frame.header.first_sequence;
            for (record, sequence) in frame.records().zip(first..) {
                let place = |what: String| JournalFault::Record {
                    path: path.clone(),
                    offset: offset as u64,
                    sequence: AppendSequence(sequence),
                    what,
                };
                let (kind, body) = record.map_err(|fault| place(fault.to_string()))?;
                each(AppendSequence(sequence), kind, body).map_err(place)?;
            }
            reached.take(&frame);
            found.frames += 1;
            found.records += u64::from(frame.header.records);
            found.bytes += frame.bytes() as u64;
            offset += frame.bytes();
        };
        if let FrameFault::Shard(_) = fault {
            return Err(damage(&path, offset as u64, fault));
        }
        if let FrameFault::Version(_) = fault {
            return Err(JournalFault::Version { path, offset: offset as u64, fault });
        }
        if let Some(later) = later_frame(&bytes, offset, expected, &reached) {
            return Err(JournalFault::Damaged {
                path,
                offset: offset as u64,
                fault: format!("{fault}; frame {later} lies behind it"),
            });
        }
        let torn = !matches!(fault, FrameFault::NoFrame | FrameFault::Segment(_));
        found.torn_at = torn.then_some(offset as u64);
        if torn {
            end.get_or_insert((path, offset as u64, fault));
        }
        summary.segments.push(found);
    }
    summary.last = AppendSequence(reached.sequence);
    Ok(summary)
}

/// Reads the frames of a stretch of a segment that is known to be durable, and hands out their records.
///
/// # Errors
/// As for [`scan`].
pub fn read_frame_at<D: Disk>(
    disk: &mut D,
    projection: &super::Projection,
    buffer: &mut Buffer,
    shard: u16,
    mut each: impl FnMut(AppendSequence, u8, &[u8]) -> Result<(), String>,
) -> Result<(), JournalFault> {
    let path = &projection.path;
    let unreadable = |error| JournalFault::Read { path: path.clone(), error };
    let mut file = disk.open(path).map_err(unreadable)?;
    if buffer.capacity() < projection.bytes {
        *buffer = Buffer::new(projection.bytes);
    }
    buffer.resize(projection.bytes);
    let filled = file.read_past_cache(projection.offset, buffer).map_err(unreadable)?;
    let bytes = buffer.bytes();
    let expected = Expected { shard, segment: projection.segment };
    let mut at = 0;
    while at < filled {
        let frame = read_frame(&bytes[at..filled], expected)
            .map_err(|fault| damage(path, projection.offset + at as u64, fault))?;
        for (record, sequence) in frame.records().zip(frame.header.first_sequence..) {
            let place = |what: String| JournalFault::Record {
                path: path.clone(),
                offset: projection.offset + at as u64,
                sequence: AppendSequence(sequence),
                what,
            };
            let (kind, body) = record.map_err(|fault| place(fault.to_string()))?;
            each(AppendSequence(sequence), kind, body).map_err(place)?;
        }
        at += frame.bytes();
    }
    Ok(())
}

fn damage(path: &Path, offset: u64, fault: FrameFault) -> JournalFault {
    JournalFault::Damaged { path: path.to_owned(), offset, fault: fault.to_string() }
}

/// How far reading has come.
struct Reached {
    /// The last frame's number; none before the first one.
    frame: Option<u64>,
    sequence: u64,
}

impl Reached {
    fn continues(&self, frame: &Frame<'_>) -> bool {
        match self.frame {
            // Segments before the first one were used anew.
            None => true,
            Some(last) => frame.header.frame == last + 1 && frame.header.first_sequence == self.sequence + 1,
        }
    }

    fn take(&mut self, frame: &Frame<'_>) {
        self.frame = Some(frame.header.frame);
        self.sequence = frame.header.first_sequence + u64::from(frame.header.records) - 1;
    }
}

/// The number of a whole frame behind bytes that are none. The one that was being written may be there in parts, so only one
/// that was begun after it counts.
fn later_frame(bytes: &[u8], from: usize, expected: Expected, reached: &Reached) -> Option<u64> {
    let torn = reached.frame.map_or(1, |last| last + 1);
    (from.saturating_add(BLOCK_BYTES)..bytes.len()).step_by(BLOCK_BYTES).find_map(|offset| {
        let frame = read_frame(&bytes[offset..], expected).ok()?;
        (frame.header.frame > torn).then_some(frame.header.frame)
    })
}

fn numbers<D: Disk>(disk: &mut D, directory: &Path) -> Result<Vec<u64>, JournalFault> {
    let names = disk.list(directory).map_err(|error| JournalFault::Read { path: directory.to_owned(), error })?;
    let mut numbers: Vec<u64> =
        names.iter().filter_map(|name| name.strip_suffix(SUFFIX).and_then(|number| number.parse().ok())).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

fn read_all<D: Disk>(disk: &mut D, path: &Path) -> Result<Vec<u8>, JournalFault> {
    let unreadable = |error| JournalFault::Read { path: path.to_owned(), error };
    let mut file = disk.open(path).map_err(unreadable)?;
    let length = usize::try_from(file.length().map_err(unreadable)?).unwrap_or(usize::MAX);
    let mut bytes = vec![0; length];
    let mut filled = 0;
    while filled < length {
        match file.read_at(filled as u64, &mut bytes[filled..]).map_err(unreadable)? {
            0 => break,
            count => filled += count,
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}
