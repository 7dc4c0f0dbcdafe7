//! The data directory: who uses it, its current generation, and what an earlier run left in it.

use std::cell::Cell;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use caxton_shards::message::WallTime;
use caxton_shards::routing::partition::{Partition, ShardIndex};
use caxton_shards::shard::recovery::{RecoveredState, Recovery};
use rustix::fs::{FlockOperation, flock};

use super::clock::{ClockJump, Stamp};
use super::disk::Disk;
use super::disk::direct::DirectDisk;
use super::disk::host::HostFiles;
use super::journal::{CATALOGUE, Catalogue, JournalError, JournalId, scan};
use super::manifest::{Identity, Manifest, read_manifest, write_manifest};
use super::survey::{MismatchError, Survey};
use super::{attempt, files};
use crate::router::CancelStart;

/// The file whose lock marks the directory as used by a router.
pub(super) const LOCK: &str = "lock";
/// What guests in WebAssembly remember, in the data directory of their router.
pub const STATES_FILE: &str = "guests.db";
/// The suffix of a generation being removed.
const REMOVED: &str = "removed";

/// A data directory cannot be used. Nothing in it was changed, unless the error says so.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The directory, or something in it, cannot be read or written.
    #[error("the data directory: {path}: {error}{hint}", path = path.display(), hint = hint(error))]
    Directory {
        /// The file or directory.
        path: PathBuf,
        /// The system's error.
        error: io::Error,
    },
    /// Another process uses the directory.
    #[error(
        "the data directory {path} is used by another router: stop it, or give this one a directory of its own",
        path = path.display()
    )]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// The manifest is not in this version's format.
    #[error("{path}: {what}", path = path.display())]
    Manifest {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        what: String,
    },
    /// The contents are not as expected.
    #[error(transparent)]
    Mismatch(#[from] MismatchError),
    /// A journal cannot be read.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// An `io_uring` for the journals cannot be created.
    #[error("the journals need io_uring, which this host refuses: {0}; run `caxton doctor`")]
    Ring(io::Error),
    /// There is no room for a second copy of what an earlier run left, which every start writes.
    #[error(
        "the data directory {path}: the start needs {needed} bytes for {segments} segments of {segment_bytes} bytes, and \
         {available} are available on its file system. What is there was not changed: free at least {missing} bytes, or lower \
         store.segment_bytes",
        path = path.display(),
        missing = needed.saturating_sub(*available)
    )]
    NoRoom {
        /// The directory.
        path: PathBuf,
        /// The number of bytes needed.
        needed: u64,
        /// The number of bytes available.
        available: u64,
        /// The number of segments, in all shards.
        segments: u64,
        /// The length of each, in bytes.
        segment_bytes: u64,
    },
    /// The limit on file sizes is below the size of a segment.
    #[error(
        "the data directory {path}: files may have {limit} bytes (RLIMIT_FSIZE, ulimit -f), and a segment of the journal has \
         {segment_bytes}. What is there was not changed: raise the limit, or lower store.segment_bytes",
        path = path.display()
    )]
    FileSizeLimit {
        /// The directory.
        path: PathBuf,
        /// The limit in bytes.
        limit: u64,
        /// The length of a segment in bytes.
        segment_bytes: u64,
    },
    /// What was recovered could not be rewritten within the time limit.
    #[error("what an earlier run left could not be copied into a new generation: {0}")]
    NotWritten(String),
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => ": the user that runs the router has to own it",
        io::ErrorKind::ReadOnlyFilesystem => ": it has to be on a file system that can be written",
        io::ErrorKind::StorageFull => ": the file system is full",
        _ => "",
    }
}

/// What a start found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Recovered {
    /// Messages that were not settled.
    pub messages: usize,
    /// Of these, the number whose lifetime ended while no router ran. They are dead-lettered.
    pub expired: usize,
    /// Dead letters.
    pub dead_letters: usize,
    /// Persistent agents.
    pub agents: usize,
    /// Conversations that were open.
    pub conversations: usize,
    /// Records read.
    pub records: u64,
    /// The time that reading took.
    pub took: Duration,
    /// How the clock was set since the last run, if it was.
    pub clock: Option<ClockJump>,
    /// Warnings for an operator, as sentences: about the clock, expired lifetimes, and unexpected contents.
    pub warnings: Vec<String>,
}

/// Creates a directory, or checks an existing one as a start does: for files that are put into it before a router
/// starts.
///
/// # Errors
///
/// A router would not start on it: see [`StoreError`].
pub fn prepare_directory(path: &Path) -> Result<(), StoreError> {
    files::make_directory(path).map_err(|error| StoreError::Directory { path: path.to_owned(), error })?;
    Survey::of(path)?.refuse().map(drop)
}

/// Exclusive use of the directory, for as long as this value lives.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
    path: PathBuf,
    /// Whether the file was created for this lock, and is to be removed.
    made: Cell<bool>,
}

impl Lock {
    pub(super) fn take(directory: &Path) -> Result<Self, StoreError> {
        let path = directory.join(LOCK);
        let failed = |error| StoreError::Directory { path: path.clone(), error };
        loop {
            let made = !path.exists();
            let file = files::open_or_create(&path).map_err(failed)?;
            if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
                return Err(StoreError::InUse { path: directory.to_owned() });
            }
            // A process that created the file and was refused removes it again.
            let same = fs::metadata(&path).is_ok_and(|named| file.metadata().is_ok_and(|own| own.ino() == named.ino()));
            if same {
                return Ok(Self { file, path, made: Cell::new(made) });
            }
        }
    }

    /// Records in the file its directory's identity and a lower bound of the current generation, and keeps other users
    /// from locking it: every process that can open a file can lock it.
    pub(super) fn mark(&self, manifest: &Manifest) -> Result<(), StoreError> {
        self.write_mark(manifest).map_err(|error| StoreError::Directory { path: self.path.clone(), error })
    }

    fn write_mark(&self, manifest: &Manifest) -> io::Result<()> {
        if self.file.metadata()?.permissions().mode() & 0o077 != 0 {
            self.file.set_permissions(fs::Permissions::from_mode(files::FILE_MODE))?;
        }
        // Always of the same length, so that it is replaced in one step.
        let mark = mark_of(manifest.identity, manifest.generation.unwrap_or(0));
        self.file.write_all_at(mark.as_bytes(), 0)?;
        self.file.set_len(mark.len() as u64)?;
        self.file.sync_all()?;
        self.made.set(false);
        Ok(())
    }
}

/// Returns the contents of the lock file.
fn mark_of(identity: Identity, generation: u64) -> String {
    format!("caxton data directory {identity}, generation {generation:020}\n")
}

/// Reads the lock file: its directory's identity, and a lower bound of the current generation. Returns `None` if it is
/// empty.
pub(super) fn read_mark(directory: &Path) -> Option<(Identity, u64)> {
    let text = fs::read_to_string(directory.join(LOCK)).ok()?;
    let (identity, generation) = text.trim_end().strip_prefix("caxton data directory ")?.split_once(", generation ")?;
    Some((Identity(u128::from_str_radix(identity, 16).ok()?), generation.parse().ok()?))
}

impl Drop for Lock {
    fn drop(&mut self) {
        // A directory that was refused is left as it was found.
        if self.made.get() {
            let _ = fs::remove_file(&self.path);
        }
        // Closing the file is not enough while a child process that this one has just started still has a copy of it.
        let _ = flock(&self.file, FlockOperation::Unlock);
    }
}

/// A data directory that this process has to itself, as long as this value lives.
///
/// A start goes through [`open`](Self::open), [`recover`](Self::recover), [`prepare`](Self::prepare) and
/// [`commit`](Self::commit). The first two change nothing; only once everything expected was found and read does the
/// third one create or remove anything.
#[derive(Debug)]
pub struct DataDirectory {
    path: PathBuf,
    lock: Lock,
    /// The current manifest.
    manifest: Manifest,
    /// The generation of the run that has begun.
    next: Generation,
    durable: bool,
    warnings: Vec<String>,
    cancel: CancelStart,
    /// Whether anything was created or removed.
    prepared: bool,
}

/// The generation that a run writes.
#[derive(Clone, Copy, Debug)]
struct Generation {
    number: u64,
    shards: u16,
    boot_epoch: u64,
}

impl DataDirectory {
    /// Opens a directory for a router with this many shards, and creates it if it does not exist. `epoch` is the boot
    /// epoch that the run would have without a directory: it gets at least this one, and always a higher one than the
    /// run before.
    ///
    /// # Errors
    ///
    /// It cannot be used: see [`StoreError`]. Nothing was changed.
    pub fn open(path: &Path, shards: u16, epoch: u64) -> Result<Self, StoreError> {
        Self::open_for(path, shards, epoch, false)
    }

    /// Opens an empty directory for a backup of another one. No router starts on it before it is committed.
    pub(super) fn open_copy(path: &Path, shards: u16, epoch: u64) -> Result<Self, StoreError> {
        Self::open_for(path, shards, epoch, true)
    }

    fn open_for(path: &Path, shards: u16, epoch: u64, copying: bool) -> Result<Self, StoreError> {
        let failed = |error| StoreError::Directory { path: path.to_owned(), error };
        crate::signals::survive_file_size_limit();
        files::make_directory(path).map_err(failed)?;
        let lock = Lock::take(path)?;
        let survey = Survey::of(path).and_then(Survey::refuse);
        let disk = DirectDisk::new().map_err(StoreError::Ring);
        let (survey, durable) = survey.and_then(|survey| Ok((survey, disk?.durable(path).map_err(failed)?)))?;
        let warnings = survey.notes.clone();
        let manifest = survey.settled().unwrap_or_else(|| Manifest::new(copying));
        let next = Generation {
            number: manifest.generation.unwrap_or(0) + 1,
            shards,
            boot_epoch: manifest.generation.map_or(epoch, |_| epoch.max(manifest.boot_epoch + 1)),
        };
        Ok(Self {
            path: path.to_owned(),
            lock,
            manifest,
            next,
            durable,
            warnings,
            cancel: CancelStart::new(),
            prepared: false,
        })
    }

    /// Makes the reading of the earlier run's state cancellable.
    pub(crate) fn cancelled_by(mut self, cancel: &CancelStart) -> Self {
        self.cancel = cancel.clone();
        self
    }

    /// Returns its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the boot epoch of this run.
    pub fn boot_epoch(&self) -> u64 {
        self.next.boot_epoch
    }

    /// Whether its contents survive a power cut: a file system in memory keeps nothing.
    pub fn is_durable(&self) -> bool {
        self.durable
    }

    /// Returns the identity of a shard's journal of this run.
    pub fn journal(&self, shard: u16) -> JournalId {
        let Generation { number, shards, boot_epoch } = self.next;
        JournalId { directory: self.manifest.identity, generation: number, shards, shard, boot_epoch }
    }

    /// Returns the directory of a shard's files of this run.
    pub fn shard(&self, shard: u16) -> PathBuf {
        shard_directory(&self.path, self.next.number, shard)
    }

    /// Reads what the earlier run left, and divides it among the shards of this one. Changes nothing.
    ///
    /// # Errors
    ///
    /// A journal is damaged, or of another version.
    pub fn recover(&self, window: usize, partition: Partition) -> Result<(Vec<RecoveredState>, Recovered), StoreError> {
        self.recover_at(window, partition, &Stamp::now())
    }

    /// Like [`recover`](Self::recover), at this time.
    ///
    /// # Errors
    ///
    /// As for [`recover`](Self::recover).
    pub fn recover_at(
        &self,
        window: usize,
        partition: Partition,
        now: &Stamp,
    ) -> Result<(Vec<RecoveredState>, Recovered), StoreError> {
        let began = Instant::now();
        let mut recovery = Recovery::new(window).of_shards_and_node(self.manifest.shards, partition.node());
        let mut records = 0;
        let mut end = self.manifest.stamp.clone();
        for id in self.manifest.journals() {
            let directory = shard_directory(&self.path, id.generation, id.shard);
            let summary = scan(&HostFiles, &directory, &id, |sequence, kind, body| {
                if self.cancel.is_cancelled() {
                    return Err("the start was cancelled".to_owned());
                }
                recovery.take(ShardIndex(id.shard), sequence, kind, body).map_err(|fault| fault.to_string())
            })?;
            check_state(&directory, &summary.catalogue, &self.manifest)?;
            records += summary.records();
            if let Some(attempt) = attempt::read(&directory) {
                recovery.note_attempts(ShardIndex(id.shard), attempt.record, attempt.number);
            }
            end.wall = end.wall.max(summary.catalogue.wall);
        }
        let expired = recovery.unsettled().filter(|message| message.expires <= now.wall).count();
        let shares = recovery.divide(partition);
        let clock = self.manifest.generation.and_then(|_| clock_jump(now, &self.manifest.stamp, &end));
        let mut recovered = Recovered {
            messages: shares.iter().map(RecoveredState::messages).sum(),
            expired,
            dead_letters: shares.iter().map(RecoveredState::letters).sum(),
            agents: shares.iter().map(RecoveredState::agents).sum(),
            conversations: shares.iter().map(RecoveredState::conversations).sum(),
            records,
            took: began.elapsed(),
            clock,
            warnings: self.warnings.clone(),
        };
        recovered.warnings.extend(clock.map(|jump| jump.to_string()));
        recovered.warnings.extend(warning_of_expired(&recovered, end.wall, now.wall));
        Ok((shares, recovered))
    }

    /// Creates the directories of this run's generation, after removing the leftovers of earlier runs: a generation
    /// before the one that was [recovered](Self::recover), and the files of an interrupted start. The manifest records
    /// both beforehand.
    ///
    /// # Errors
    ///
    /// Something could not be written or removed. The current generation is unchanged.
    pub fn prepare(&mut self) -> Result<(), StoreError> {
        let gone = self.manifest.previous.take();
        self.manifest.unfinished.extend(gone);
        let leftovers = self.manifest.unfinished.clone();
        if !leftovers.contains(&self.next.number) {
            self.manifest.unfinished.push(self.next.number);
        }
        self.prepared = true;
        write_manifest(&self.path, &self.manifest)?;
        self.lock.mark(&self.manifest)?;
        for generation in leftovers {
            self.remove(generation)?;
        }
        for shard in 0..self.next.shards {
            let path = self.shard(shard);
            files::make_directory(&path).map_err(|error| StoreError::Directory { path, error })?;
        }
        // A shard's directory that is missing later was not lost in a power cut.
        for path in [generation_directory(&self.path, self.next.number), self.path.clone()] {
            files::sync_directory(&path).map_err(|error| StoreError::Directory { path, error })?;
        }
        Ok(())
    }

    /// Makes this run's generation current: what was recovered is on disk in it. The previous one is kept until
    /// [`close`](Self::close).
    ///
    /// # Errors
    ///
    /// The manifest could not be written: the old generation is still current.
    pub fn commit(&mut self) -> Result<(), StoreError> {
        let Generation { number, shards, boot_epoch } = self.next;
        let shard_directories = (0..shards).map(|shard| self.shard(shard));
        for directory in shard_directories.chain([generation_directory(&self.path, number), self.path.clone()]) {
            files::sync_directory(&directory).map_err(|error| StoreError::Directory { path: directory, error })?;
        }
        let committed = Manifest {
            generation: Some(number),
            previous: self.manifest.generation,
            unfinished: Vec::new(),
            shards,
            boot_epoch,
            copying: false,
            clean: false,
            stamp: Stamp::now(),
            identity: self.manifest.identity,
        };
        write_manifest(&self.path, &committed)?;
        self.manifest = committed;
        self.lock.mark(&self.manifest)?;
        Ok(())
    }

    /// Removes what this run has written, because it does not start. Nothing is removed that may be the current
    /// generation.
    pub fn give_up(mut self) {
        if !self.prepared {
            return;
        }
        if let Ok(Some(found)) = read_manifest(&self.path)
            && found.unfinished.contains(&self.next.number)
        {
            self.manifest = found;
            // What cannot be removed now is left over, as after a crash.
            let _ = self.remove(self.next.number);
        }
    }

    /// Records that everything was written and nobody writes any more, and removes the previous generation.
    ///
    /// # Errors
    ///
    /// The manifest could not be written, or the old generation not removed: the next start does it.
    pub fn close(&mut self) -> Result<(), StoreError> {
        let previous = self.manifest.previous.take();
        self.manifest.unfinished.extend(previous);
        self.manifest.clean = true;
        self.manifest.stamp = Stamp::now();
        write_manifest(&self.path, &self.manifest)?;
        previous.map_or(Ok(()), |generation| self.remove(generation))
    }

    /// Removes a generation that the manifest marks as being created or removed.
    fn remove(&self, generation: u64) -> Result<(), StoreError> {
        assert!(self.manifest.unfinished.contains(&generation), "only what the manifest has given up is removed");
        let path = generation_directory(&self.path, generation);
        let removed = path.with_extension(REMOVED);
        let done = remove_all(&removed).and_then(|()| match fs::rename(&path, &removed) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            // A partially removed generation has another name: under its own name, something missing is damage.
            renamed => renamed.and_then(|()| files::sync_directory(&self.path)).and_then(|()| remove_all(&removed)),
        });
        done.map_err(|error| StoreError::Directory { path, error })
    }
}

fn remove_all(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Returns how the clock was set since the manifest was written, or since the journals were last written.
pub(super) fn clock_jump(now: &Stamp, start: &Stamp, end: &Stamp) -> Option<ClockJump> {
    let since_end = Stamp { wall: end.wall, boot: None };
    now.jump_since(start).or_else(|| now.jump_since(&since_end))
}

/// Compares a journal's record of its own state with the manifest's record of the generation.
pub(super) fn check_state(directory: &Path, catalogue: &Catalogue, manifest: &Manifest) -> Result<(), MismatchError> {
    let (found, expected) = if catalogue.inherited.is_none() {
        ("a journal that was not written to its end by the start that made it", "a whole one")
    } else if manifest.clean && !catalogue.closed {
        (
            "a journal that is still written",
            "one that was closed, because the manifest says that the router stopped cleanly",
        )
    } else {
        return Ok(());
    };
    let advice = "Its catalogue is older than the manifest: put the whole directory back from a backup".to_owned();
    Err(MismatchError {
        path: directory.join(CATALOGUE),
        found: found.to_owned(),
        expected: expected.to_owned(),
        advice,
    })
}

/// Returns a warning if lifetimes ended while no router ran.
fn warning_of_expired(recovered: &Recovered, then: WallTime, now: WallTime) -> Option<String> {
    let &Recovered { messages, expired, .. } = recovered;
    let away = Duration::from_secs(now.0.saturating_sub(then.0) / 1_000);
    (expired > 0).then(|| {
        format!(
            "the lifetimes of {expired} of {messages} durable messages have ended since the last run, of which the last is \
             known from {} ago: they are dead-lettered, and can be replayed",
            humantime::format_duration(away)
        )
    })
}

pub(super) fn generation_directory(path: &Path, generation: u64) -> PathBuf {
    path.join(format!("gen-{generation}"))
}

pub(super) fn shard_directory(path: &Path, generation: u64, shard: u16) -> PathBuf {
    generation_directory(path, generation).join(format!("shard-{shard}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_starts_on_a_copy_that_was_not_finished() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut copy = DataDirectory::open_copy(directory.path(), 1, 1).expect("it is empty");
        copy.prepare().expect("it can be written");
        drop(copy);
        let refusal = DataDirectory::open(directory.path(), 1, 1).expect_err("it is not whole").to_string();
        assert!(
            refusal.contains("an unfinished backup") && refusal.contains("Copy to this directory again"),
            "{refusal}"
        );
    }

    #[test]
    fn what_others_could_lock_is_closed_to_them_at_the_next_start() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join(LOCK);
        fs::write(&path, "").expect("it is written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("it is this user's");
        let mut opened = DataDirectory::open(directory.path(), 1, 1).expect("it is empty");
        opened.prepare().expect("it can be written");
        let mode = fs::metadata(&path).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
