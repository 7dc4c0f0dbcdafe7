//! The files of a journal: one that is written, those that are full, and one that is made ready.

use std::io;
use std::path::{Path, PathBuf};

use super::JournalOptions;
use crate::store::disk::{Buffer, Disk, DiskFile};

/// How a segment's file ends.
pub(super) const SUFFIX: &str = ".journal";
/// A new segment is written out in portions of so many bytes, so that a commit never waits for long behind one.
const PORTION_BYTES: usize = 256 << 10;

/// The file of the segment with this number.
pub(super) fn path(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("{number:016}{SUFFIX}"))
}

/// Which records of a segment are still needed.
#[derive(Clone, Debug)]
pub(super) struct Held {
    /// The sequence of the segment's first record.
    pub first: u64,
    /// One bit for each record.
    bits: Vec<u64>,
    records: u64,
    /// How many are needed.
    pub needed: u64,
}

impl Held {
    pub fn new(first: u64) -> Self {
        Self { first, bits: Vec::new(), records: 0, needed: 0 }
    }

    /// Takes note of the next record.
    pub fn push(&mut self, holds: bool) {
        let bit = self.records % 64;
        if bit == 0 {
            self.bits.push(0);
        }
        if holds && let Some(word) = self.bits.last_mut() {
            *word |= 1 << bit;
            self.needed += 1;
        }
        self.records += 1;
    }

    pub fn release(&mut self, sequence: u64) {
        let Some(place) = sequence.checked_sub(self.first).filter(|place| *place < self.records) else { return };
        let word = usize::try_from(place / 64).ok().and_then(|word| self.bits.get_mut(word));
        if let Some(word) = word.filter(|word| **word >> (place % 64) & 1 == 1) {
            *word &= !(1 << (place % 64));
            self.needed -= 1;
        }
    }
}

/// The segment that is written.
pub(super) struct Active<F> {
    pub file: F,
    pub number: u64,
    /// Where the next frame goes.
    pub offset: u64,
    pub held: Held,
}

impl<F> Active<F> {
    pub fn new(file: F, number: u64, first: u64) -> Self {
        Self { file, number, offset: 0, held: Held::new(first) }
    }

    /// Whether so many bytes still fit. An empty segment takes a frame of any length.
    pub fn has_room(&self, bytes: u64, segment_bytes: u64) -> bool {
        self.offset == 0 || self.offset + bytes <= segment_bytes
    }
}

/// A segment that is full.
#[derive(Debug)]
pub(super) struct Sealed {
    pub number: u64,
    pub last: u64,
    pub held: Held,
}

/// The segment that comes next.
pub(super) enum Spare<F> {
    /// There is none.
    None,
    /// It is being written out.
    Writing { file: F, number: u64, written: u64, length: u64, buffer: Option<Buffer> },
    /// Its name is being made durable.
    Syncing { file: F, number: u64 },
    /// It can be used.
    Ready { file: F, number: u64 },
}

impl<F: DiskFile> Spare<F> {
    /// Begins to make a new segment.
    pub fn begin<D: Disk<File = F>>(disk: &mut D, options: &JournalOptions, number: u64) -> io::Result<Self> {
        let file = disk.create(&path(&options.directory, number))?;
        let mut buffer = Buffer::new(PORTION_BYTES);
        buffer.resize(PORTION_BYTES).fill(0);
        Ok(Self::Writing { file, number, written: 0, length: options.segment_bytes, buffer: Some(buffer) })
    }

    /// Takes a segment that is needed no longer. What is in it is told apart by the number.
    pub fn again<D: Disk<File = F>>(disk: &mut D, options: &JournalOptions, old: u64, number: u64) -> io::Result<Self> {
        let (from, to) = (path(&options.directory, old), path(&options.directory, number));
        disk.rename(&from, &to)?;
        let file = disk.open(&to)?;
        disk.submit_directory_sync(&options.directory)?;
        Ok(Self::Syncing { file, number })
    }

    pub fn is_ready(&self) -> bool {
        matches!(self, Self::Ready { .. })
    }

    pub fn is_being_made(&self) -> bool {
        matches!(self, Self::Writing { .. } | Self::Syncing { .. })
    }

    pub fn take(&mut self) -> Option<(F, u64)> {
        match std::mem::replace(self, Self::None) {
            Self::Ready { file, number } => Some((file, number)),
            other => {
                *self = other;
                None
            }
        }
    }

    /// Goes on with making it.
    pub fn poll<D: Disk<File = F>>(&mut self, disk: &mut D, directory: &Path) -> io::Result<()> {
        *self = match std::mem::replace(self, Self::None) {
            Self::Writing { mut file, number, mut written, length, mut buffer } => {
                if buffer.is_none()
                    && let Some((result, back)) = file.poll()
                {
                    result?;
                    written += back.bytes().len() as u64;
                    buffer = Some(back);
                }
                match buffer.take() {
                    Some(_) if written >= length => {
                        disk.submit_directory_sync(directory)?;
                        Self::Syncing { file, number }
                    }
                    Some(portion) => match file.submit(written, portion) {
                        Ok(()) => Self::Writing { file, number, written, length, buffer: None },
                        Err((error, portion)) if error.kind() == io::ErrorKind::ResourceBusy => {
                            Self::Writing { file, number, written, length, buffer: Some(portion) }
                        }
                        Err((error, _)) => return Err(error),
                    },
                    None => Self::Writing { file, number, written, length, buffer: None },
                }
            }
            Self::Syncing { file, number } => match disk.poll_directory_sync() {
                None => Self::Syncing { file, number },
                Some(result) => {
                    result?;
                    Self::Ready { file, number }
                }
            },
            other => other,
        };
        Ok(())
    }
}
