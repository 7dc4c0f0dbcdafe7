//! The same VFS with a recording writer, for tests of power cuts: possible states of the disk after a cut are derived
//! from the record and from dice.

use std::collections::HashMap;
use std::io;
use std::os::fd::RawFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::queue::Stretch;
use super::writer::{Fault, Writer, write_plainly};
use super::{VfsError, register_as};

/// The atomic unit of a disk write, in bytes.
const SECTOR_BYTES: usize = 512;

/// One of a database's two files.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum FileKind {
    /// The database itself.
    Database,
    /// Its write-ahead log.
    Log,
}

#[derive(Clone, Debug)]
enum Note {
    Wrote(FileKind, u64, Vec<u8>),
    Truncated(FileKind, u64),
    Synced(FileKind),
    /// A progress mark of the test.
    Reached(u64),
}

/// The faults from now on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Faults {
    /// Whether syncs are reported as done without being done.
    pub forgets_syncs: bool,
    /// Whether the next sync fails.
    pub sync_fails: bool,
    /// Whether there is no room for the next write.
    pub no_space: bool,
}

#[derive(Debug, Default)]
struct Notes {
    open: HashMap<RawFd, FileKind>,
    taken: Vec<Note>,
    faults: Faults,
}

/// The record of one database that is written through its own VFS.
#[derive(Clone, Debug, Default)]
pub struct Recording(Arc<Mutex<Notes>>);

/// A possible state of a database's files after a power cut; a file that was never synced may be missing.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Image {
    /// The bytes of each file.
    pub files: HashMap<FileKind, Vec<u8>>,
    /// The progress of the test.
    pub reached: u64,
}

impl Recording {
    /// Registers a VFS of this name with SQLite.
    ///
    /// # Errors
    ///
    /// SQLite refuses.
    pub fn register(name: &str) -> Result<Self, VfsError> {
        let recording = Self::default();
        register_as(name, Box::new(recording.clone()))?;
        Ok(recording)
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Clears the record, for another database.
    pub fn clear(&self) {
        *self.notes() = Notes::default();
    }

    /// Sets the faults from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.notes().faults = faults;
    }

    /// Records the progress of the test.
    pub fn reach(&self, number: u64) {
        self.notes().taken.push(Note::Reached(number));
    }

    /// Returns the number of records.
    pub fn len(&self) -> usize {
        self.notes().taken.len()
    }

    /// Whether nothing was recorded yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the files after a power cut behind this many records. Whatever was not synced is present or not, sector
    /// by sector.
    pub fn cut(&self, after: usize, mut is_there: impl FnMut() -> bool) -> Image {
        let notes = self.notes();
        let happened = notes.taken.iter().take(after);
        // The bytes on disk, and whether the file's name is durable.
        let mut files: HashMap<FileKind, (Vec<u8>, bool)> = HashMap::new();
        let mut unsynced: Vec<&Note> = Vec::new();
        let mut reached = 0;
        for note in happened {
            match note {
                Note::Reached(number) => reached = *number,
                Note::Synced(kind) => {
                    let (bytes, named) = files.entry(*kind).or_default();
                    *named = true;
                    unsynced.retain(|note| !apply(note, *kind, bytes, &mut || true));
                }
                Note::Wrote(..) | Note::Truncated(..) => unsynced.push(note),
            }
        }
        for kind in [FileKind::Database, FileKind::Log] {
            let known = files.contains_key(&kind);
            let (bytes, named) = files.entry(kind).or_default();
            *named |= known || is_there();
            for note in &unsynced {
                apply(note, kind, bytes, &mut is_there);
            }
        }
        let files = files.into_iter().filter(|(_, (_, named))| *named).map(|(kind, (bytes, _))| (kind, bytes));
        Image { files: files.collect(), reached }
    }
}

/// Applies a record to a file, as far as the dice decide. Returns whether the record is about this file.
fn apply(note: &Note, of: FileKind, bytes: &mut Vec<u8>, is_there: &mut impl FnMut() -> bool) -> bool {
    match note {
        Note::Wrote(kind, offset, written) if *kind == of => {
            let offset = usize::try_from(*offset).unwrap_or(usize::MAX);
            for (place, sector) in written.chunks(SECTOR_BYTES).enumerate() {
                if is_there() {
                    let from = offset + place * SECTOR_BYTES;
                    if bytes.len() < from + sector.len() {
                        bytes.resize(from + sector.len(), 0);
                    }
                    bytes[from..from + sector.len()].copy_from_slice(sector);
                }
            }
            true
        }
        Note::Truncated(kind, length) if *kind == of => {
            if is_there() {
                bytes.resize(usize::try_from(*length).unwrap_or(usize::MAX), 0);
            }
            true
        }
        _ => false,
    }
}

impl Writer for Recording {
    fn write(&self, file: RawFd, stretches: Vec<Stretch>, sync: bool) -> Result<(), Fault> {
        let mut notes = self.notes();
        if notes.faults.no_space && !stretches.is_empty() {
            notes.faults.no_space = false;
            return Err(Fault::Write(io::ErrorKind::StorageFull.into()));
        }
        write_plainly(file, &stretches).map_err(Fault::Write)?;
        let Some(kind) = notes.open.get(&file).copied() else { return Ok(()) };
        notes.taken.extend(stretches.into_iter().map(|stretch| Note::Wrote(kind, stretch.offset, stretch.bytes)));
        if sync && notes.faults.sync_fails {
            return Err(Fault::Sync(io::ErrorKind::Other.into()));
        }
        if sync && !notes.faults.forgets_syncs {
            notes.taken.push(Note::Synced(kind));
        }
        Ok(())
    }

    fn opened(&self, file: RawFd, wal: bool) {
        let kind = if wal { FileKind::Log } else { FileKind::Database };
        self.notes().open.insert(file, kind);
    }

    fn synced(&self, file: RawFd) {
        let mut notes = self.notes();
        if let Some(kind) = notes.open.get(&file).copied().filter(|_| !notes.faults.forgets_syncs) {
            notes.taken.push(Note::Synced(kind));
        }
    }

    fn truncated(&self, file: RawFd, length: u64) {
        let mut notes = self.notes();
        if let Some(kind) = notes.open.get(&file).copied() {
            notes.taken.push(Note::Truncated(kind, length));
        }
    }
}
