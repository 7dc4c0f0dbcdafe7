//! The files of a journal: one that is written, those that are full, and one that is made ready.

use std::io;
use std::path::{Path, PathBuf};

use super::JournalOptions;
use super::catalogue::Ledger;
use crate::store::disk::{Buffer, Disk, DiskFile};

/// How a segment's file ends.
pub(super) const SUFFIX: &str = ".journal";
/// A new segment is written out in portions of so many bytes, so that a commit never waits for long behind one.
pub(super) const PORTION_BYTES: usize = 256 << 10;

/// The file of the segment with this number.
pub(crate) fn path(directory: &Path, number: u64) -> PathBuf {
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
    /// The number of its first frame.
    pub first_frame: u64,
    /// Where the next frame goes.
    pub offset: u64,
    pub held: Held,
}

impl<F> Active<F> {
    /// One that begins with this frame and this record.
    pub fn new(file: F, number: u64, first_frame: u64, first: u64) -> Self {
        Self { file, number, first_frame, offset: 0, held: Held::new(first) }
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
    /// The number of its first frame.
    pub first_frame: u64,
    pub last: u64,
    /// How many messages had come up to its end.
    pub messages: u64,
    pub held: Held,
}

/// The segment that comes next.
///
/// Each step either succeeds or leaves what there is as it was, so that it can be tried again: a segment that is reused is
/// opened before it gets its new name, and from then on it has no other.
pub(super) enum Spare<F> {
    /// There is none.
    None,
    /// The catalogue is being told that this segment is given up, whose file becomes the one of that number.
    GivingUp { old: u64, number: u64, change: u64 },
    /// It is being written out.
    Writing { file: F, number: u64, written: u64, length: u64, buffer: Option<Buffer> },
    /// It has its name, which is to be made durable.
    Named { file: F, number: u64 },
    /// Its name is being made durable.
    Syncing { file: F, number: u64 },
    /// Its name is durable, and the catalogue is being told of it.
    Listing { file: F, number: u64, change: u64 },
    /// It can be used.
    Ready { file: F, number: u64 },
}

impl<F: DiskFile> Spare<F> {
    /// Begins to make a new segment.
    ///
    /// # Errors
    /// There is none of this number, or an empty file at most.
    pub fn begin<D: Disk<File = F>>(disk: &mut D, options: &JournalOptions, number: u64) -> io::Result<Self> {
        let path = path(&options.directory, number);
        let file = disk.create(&path).inspect_err(|_| {
            // It may have been made and not opened. What is left of it would be written over.
            let _ = disk.remove(&path);
        })?;
        let mut buffer = Buffer::new(PORTION_BYTES);
        buffer.resize(PORTION_BYTES).fill(0);
        Ok(Self::Writing { file, number, written: 0, length: options.segment_bytes, buffer: Some(buffer) })
    }

    pub fn is_ready(&self) -> bool {
        matches!(self, Self::Ready { .. })
    }

    pub fn is_being_made(&self) -> bool {
        !matches!(self, Self::None | Self::Ready { .. })
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

    /// Gives up a segment that finds no room, and gives back what room it has taken. Returns whether it was one.
    pub fn remove_unfinished<D: Disk<File = F>>(&mut self, disk: &mut D, directory: &Path) -> bool {
        let Self::Writing { number, .. } = self else { return false };
        // One that can't be removed is written over by the next one of its number.
        let _ = disk.remove(&path(directory, *number));
        *self = Self::None;
        true
    }

    /// Goes on with making it. The catalogue knows of it before it can be used, and of one that is given up before that has
    /// another name.
    ///
    /// # Errors
    /// The step was not done. It is done at a later call, unless the error is final.
    pub fn poll<D: Disk<File = F>>(
        &mut self,
        disk: &mut D,
        directory: &Path,
        ledger: &mut Ledger<F>,
    ) -> io::Result<()> {
        let (next, outcome) = match std::mem::replace(self, Self::None) {
            Self::Writing { file, number, written, length, buffer } => {
                Self::write_on((file, number), written, length, buffer)
            }
            Self::Syncing { file, number } => match disk.poll_directory_sync() {
                None => (Self::Syncing { file, number }, Ok(())),
                Some(Ok(())) => (Self::list(file, number, ledger), Ok(())),
                Some(Err(error)) => (Self::Named { file, number }, Err(error)),
            },
            Self::GivingUp { old, number, change } if ledger.has(change) => {
                let (from, to) = (path(directory, old), path(directory, number));
                // It is opened first, so that from its new name there is no way back.
                match disk.open(&from).and_then(|file| disk.rename(&from, &to).map(|()| file)) {
                    Ok(file) => (Self::Named { file, number }, Ok(())),
                    Err(error) => (Self::GivingUp { old, number, change }, Err(error)),
                }
            }
            Self::Named { file, number } => match disk.submit_directory_sync(directory) {
                Ok(()) => (Self::Syncing { file, number }, Ok(())),
                Err(error) => (Self::Named { file, number }, Err(error)),
            },
            Self::Listing { file, number, change } if ledger.has(change) => (Self::Ready { file, number }, Ok(())),
            other => (other, Ok(())),
        };
        *self = next;
        outcome
    }

    /// Has the catalogue name it, unless that does so already.
    fn list(file: F, number: u64, ledger: &mut Ledger<F>) -> Self {
        if ledger.entry().last == number {
            // It was named before a segment was given up for it, or as the first one.
            return Self::Listing { file, number, change: ledger.named() };
        }
        let change = ledger.name(|entry| (entry.last, entry.reused) = (number, None));
        Self::Listing { file, number, change }
    }

    /// Writes the next portion once the one before it is written.
    fn write_on(
        (mut file, number): (F, u64),
        mut written: u64,
        length: u64,
        mut buffer: Option<Buffer>,
    ) -> (Self, io::Result<()>) {
        let mut outcome = Ok(());
        if buffer.is_none()
            && let Some((result, back)) = file.poll()
        {
            match result {
                Ok(()) => written += back.bytes().len() as u64,
                Err(error) => outcome = Err(error),
            }
            buffer = Some(back);
        }
        if outcome.is_ok() && buffer.is_some() && written >= length {
            return (Self::Named { file, number }, Ok(()));
        }
        if outcome.is_ok()
            && let Some(portion) = buffer.take()
            && let Err((error, portion)) = file.submit(written, portion)
        {
            buffer = Some(portion);
            // Many operations are in flight: there is room for this one as soon as some are complete.
            outcome = if error.kind() == io::ErrorKind::ResourceBusy { Ok(()) } else { Err(error) };
        }
        (Self::Writing { file, number, written, length, buffer }, outcome)
    }
}
