//! The files of a journal: the current segment, the sealed ones, and the one being prepared.

use std::io;
use std::path::{Path, PathBuf};

use super::JournalOptions;
use super::catalogue::Ledger;
use crate::store::disk::{Buffer, Disk, DiskFile};

/// The suffix of a segment's file.
pub(super) const SUFFIX: &str = ".journal";
/// A new segment is written out in portions of this many bytes, so that a commit never waits for long behind one.
pub(super) const PORTION_BYTES: usize = 256 << 10;

/// Returns the file of the segment with this number.
pub(crate) fn path(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("{number:016}{SUFFIX}"))
}

/// Which records of a segment are still needed.
#[derive(Clone, Debug)]
pub(super) struct Held {
    /// The LSN of the segment's first record.
    pub first: u64,
    /// One bit for each record.
    bits: Vec<u64>,
    records: u64,
    /// The number of needed records.
    pub needed: u64,
}

impl Held {
    pub fn new(first: u64) -> Self {
        Self { first, bits: Vec::new(), records: 0, needed: 0 }
    }

    /// Adds the next record.
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

/// The segment being written.
pub(super) struct Active<F> {
    pub file: F,
    pub number: u64,
    /// The number of its first frame.
    pub first_frame: u64,
    /// The offset of the next frame.
    pub offset: u64,
    pub held: Held,
}

impl<F> Active<F> {
    /// Creates a segment that begins with this frame and this record.
    pub fn new(file: F, number: u64, first_frame: u64, first: u64) -> Self {
        Self { file, number, first_frame, offset: 0, held: Held::new(first) }
    }

    /// Whether this many bytes still fit. An empty segment accepts a frame of any length.
    pub fn has_room(&self, bytes: u64, segment_bytes: u64) -> bool {
        self.offset == 0 || self.offset + bytes <= segment_bytes
    }
}

/// A full segment.
#[derive(Debug)]
pub(super) struct Sealed {
    pub number: u64,
    /// The number of its first frame.
    pub first_frame: u64,
    pub last: u64,
    /// The number of messages up to its end.
    pub messages: u64,
    pub held: Held,
}

/// The next segment.
///
/// Each step either succeeds or leaves everything unchanged, so that it can be retried: a reused segment is opened
/// before it is renamed, and from then on only the new name exists.
pub(super) enum Spare<F> {
    /// There is none.
    None,
    /// The catalogue is recording that the segment `old` is given up, whose file becomes that of `number`.
    GivingUp { old: u64, number: u64, change: u64 },
    /// It is being written out.
    Writing { file: F, number: u64, written: u64, length: u64, buffer: Option<Buffer> },
    /// It has its name, which is to be made durable.
    Named { file: F, number: u64 },
    /// Its name is being made durable.
    Syncing { file: F, number: u64 },
    /// Its name is durable, and the catalogue is recording it.
    Listing { file: F, number: u64, change: u64 },
    /// It can be used.
    Ready { file: F, number: u64 },
}

impl<F: DiskFile> Spare<F> {
    /// Begins to create a new segment.
    ///
    /// # Errors
    ///
    /// There is no file of this number, or at most an empty one.
    pub fn begin<D: Disk<File = F>>(disk: &mut D, options: &JournalOptions, number: u64) -> io::Result<Self> {
        let path = path(&options.directory, number);
        let file = disk.create(&path).inspect_err(|_| {
            // It may have been created and not opened. The remains would be overwritten.
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

    /// Gives up a segment that finds no room, and frees the room it has taken. Returns whether there was one.
    pub fn remove_unfinished<D: Disk<File = F>>(&mut self, disk: &mut D, directory: &Path) -> bool {
        let Self::Writing { number, .. } = self else { return false };
        // A file that cannot be removed is overwritten by the next one of its number.
        let _ = disk.remove(&path(directory, *number));
        *self = Self::None;
        true
    }

    /// Continues creating it. The catalogue records it before it can be used, and a segment given up before that is
    /// renamed.
    ///
    /// # Errors
    ///
    /// The step was not done. It is done by a later call, unless the error is final.
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
                // It is opened first, because there is no way back once it is renamed.
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

    /// Records it in the catalogue, unless that already contains it.
    fn list(file: F, number: u64, ledger: &mut Ledger<F>) -> Self {
        if ledger.entry().last == number {
            // It was recorded when a segment was given up for it, or as the first one.
            return Self::Listing { file, number, change: ledger.named() };
        }
        let change = ledger.name(|entry| (entry.last, entry.reused) = (number, None));
        Self::Listing { file, number, change }
    }

    /// Writes the next portion once the previous one is written.
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
            // Many operations are in flight: there is room for this one once some are complete.
            outcome = if error.kind() == io::ErrorKind::ResourceBusy { Ok(()) } else { Err(error) };
        }
        (Self::Writing { file, number, written, length, buffer }, outcome)
    }
}
