//! The data directory: who uses it, which generation holds, and what an earlier run left in it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use caxton_shards::partition::{Partition, ShardIndex};
use caxton_shards::recovery::{Inheritance, Recovery};
use rustix::fs::{FlockOperation, flock};

use super::disk::Disk;
use super::disk::direct::DirectDisk;
use super::journal::{JournalFault, scan};

/// The version of the directory's form that is written, and the only one that is read.
pub const DIRECTORY_VERSION: i64 = 1;
const MANIFEST: &str = "manifest.toml";
const LOCK: &str = "lock";

/// Why a data directory cannot be used. Nothing in it was changed, unless it says so.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The directory, or something in it, cannot be read or written.
    #[error("the data directory: {path}: {error}{hint}", path = path.display(), hint = hint(error))]
    Directory {
        /// Which file or directory.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// Another process uses the directory.
    #[error(
        "the data directory {path} is used by another router: stop it, or give this one a directory of its own",
        path = path.display()
    )]
    InUse {
        /// Which directory.
        path: PathBuf,
    },
    /// The manifest is not of this version's form.
    #[error("{path}: {what}", path = path.display())]
    Manifest {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        what: String,
    },
    /// A journal cannot be read.
    #[error(transparent)]
    Journal(#[from] JournalFault),
    /// There is no `io_uring` for the journals.
    #[error("the journals need io_uring, which this host refuses: {0}; run `caxton doctor`")]
    Ring(io::Error),
    /// What was recovered could not be written anew within the time.
    #[error("what an earlier run left could not be written anew: {0}")]
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

/// What the manifest says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Manifest {
    /// Which generation holds; none before the first start has finished.
    pub generation: u64,
    /// Of how many shards it is.
    pub shards: u16,
    /// The latest run of a router.
    pub boot_epoch: u64,
}

/// What a start found.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Recovered {
    /// Messages that were not settled.
    pub messages: usize,
    /// Dead letters.
    pub dead_letters: usize,
    /// Agents that outlive the process.
    pub agents: usize,
    /// Conversations that were open.
    pub conversations: usize,
    /// Records that were read.
    pub records: u64,
    /// How long reading took.
    pub took: Duration,
}

/// Nobody else uses the directory as long as this lives.
#[derive(Debug)]
struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // To close the file is not enough while a process that this one has just begun still has a copy of it.
        let _ = flock(&self.0, FlockOperation::Unlock);
    }
}

/// A data directory that this process has to itself, as long as this value lives.
#[derive(Debug)]
pub struct DataDirectory {
    path: PathBuf,
    /// Locked; the lock goes with the file.
    _lock: Lock,
    manifest: Option<Manifest>,
    /// Of the run that has begun.
    next: Manifest,
    durable: bool,
}

impl DataDirectory {
    /// Takes a directory for a router of so many shards, and makes it if it is not there. `epoch` is the boot epoch that the
    /// run would have without a directory: it gets at least this one, and always a higher one than the run before.
    ///
    /// # Errors
    /// It cannot be used: see [`StoreError`].
    pub fn open(path: &Path, shards: u16, epoch: u64) -> Result<Self, StoreError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |error| StoreError::Directory { path, error }
        };
        fs::create_dir_all(path).map_err(failed(path))?;
        let lock_path = lock_path(path);
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(&lock_path);
        let lock = lock.map_err(failed(&lock_path))?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Err(StoreError::InUse { path: path.to_owned() });
        }
        let manifest = read_manifest(path)?;
        let next = Manifest {
            generation: manifest.map_or(1, |manifest| manifest.generation + 1),
            shards,
            boot_epoch: manifest.map_or(epoch, |manifest| epoch.max(manifest.boot_epoch + 1)),
        };
        let durable = DirectDisk::new().map_err(StoreError::Ring)?.durable(path).map_err(failed(path))?;
        let directory = Self { path: path.to_owned(), _lock: Lock(lock), manifest, next, durable };
        directory.remove_other_generations()?;
        for shard in 0..shards {
            let path = directory.shard(shard);
            fs::create_dir_all(&path).map_err(failed(&path))?;
        }
        Ok(directory)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The boot epoch of this run.
    pub fn boot_epoch(&self) -> u64 {
        self.next.boot_epoch
    }

    /// Whether what is written here survives a power cut: a file system in memory keeps nothing.
    pub fn is_durable(&self) -> bool {
        self.durable
    }

    /// Where a shard's files of this run lie.
    pub fn shard(&self, shard: u16) -> PathBuf {
        shard_directory(&self.path, self.next.generation, shard)
    }

    /// Reads what the earlier run left, and divides it among the shards of this one.
    ///
    /// # Errors
    /// A journal is damaged, or of another version.
    pub fn recover(&self, window: usize, partition: Partition) -> Result<(Vec<Inheritance>, Recovered), StoreError> {
        let began = Instant::now();
        let mut recovery = Recovery::new(window);
        let mut records = 0;
        if let Some(manifest) = self.manifest {
            let mut disk = DirectDisk::new().map_err(StoreError::Ring)?;
            for shard in 0..manifest.shards {
                let directory = shard_directory(&self.path, manifest.generation, shard);
                let summary = scan(&mut disk, &directory, shard, |sequence, kind, body| {
                    recovery.take(ShardIndex(shard), sequence, kind, body).map_err(|fault| fault.to_string())
                })?;
                records += summary.records();
            }
        }
        let shares = recovery.divide(partition);
        let recovered = Recovered {
            messages: shares.iter().map(Inheritance::messages).sum(),
            dead_letters: shares.iter().map(Inheritance::letters).sum(),
            agents: shares.iter().map(Inheritance::agents).sum(),
            conversations: shares.iter().map(Inheritance::conversations).sum(),
            records,
            took: began.elapsed(),
        };
        Ok((shares, recovered))
    }

    /// Has this run's generation hold from now on: what was recovered is on disk in it. The old one is removed.
    ///
    /// # Errors
    /// The manifest could not be written: then the old generation still holds.
    pub fn commit(&mut self) -> Result<(), StoreError> {
        let generations = generation_directory(&self.path, self.next.generation);
        for directory in [&generations, &self.path] {
            sync(directory)?;
        }
        write_manifest(&self.path, self.next)?;
        self.manifest = Some(self.next);
        self.remove_other_generations()
    }

    /// Removes what an interrupted start, or a finished one, has left over.
    fn remove_other_generations(&self) -> Result<(), StoreError> {
        let failed = |path: PathBuf| move |error| StoreError::Directory { path, error };
        let entries = fs::read_dir(&self.path).map_err(failed(self.path.clone()))?;
        for entry in entries {
            let entry = entry.map_err(failed(self.path.clone()))?;
            let name = entry.file_name();
            let number = name.to_str().and_then(|name| name.strip_prefix("gen-")).and_then(|name| name.parse().ok());
            if number.is_some_and(|number: u64| self.manifest.is_none_or(|manifest| manifest.generation != number)) {
                fs::remove_dir_all(entry.path()).map_err(failed(entry.path()))?;
            }
        }
        Ok(())
    }
}

/// The file whose lock says that a router uses the directory.
pub(super) fn lock_path(directory: &Path) -> PathBuf {
    directory.join(LOCK)
}

fn generation_directory(path: &Path, generation: u64) -> PathBuf {
    path.join(format!("gen-{generation}"))
}

pub(super) fn shard_directory(path: &Path, generation: u64, shard: u16) -> PathBuf {
    generation_directory(path, generation).join(format!("shard-{shard}"))
}

/// What the manifest of a data directory says; nothing where there is none.
///
/// # Errors
/// It cannot be read, or is of another version.
pub fn read_manifest(directory: &Path) -> Result<Option<Manifest>, StoreError> {
    let path = directory.join(MANIFEST);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(StoreError::Directory { path, error }),
    };
    let wrong = |what: String| StoreError::Manifest { path: path.clone(), what };
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| wrong(error.message().to_owned()))?;
    let number = |key: &str| {
        table.get(key).and_then(toml::Value::as_integer).ok_or_else(|| wrong(format!("the key {key} is missing")))
    };
    let version = number("version")?;
    if version != DIRECTORY_VERSION {
        return Err(wrong(format!(
            "the directory is of version {version}, and this program reads version {DIRECTORY_VERSION}: use the program that \
             wrote it"
        )));
    }
    let positive = |key: &str| u64::try_from(number(key)?).map_err(|_| wrong(format!("{key} is negative")));
    let shards = u16::try_from(positive("shards")?).map_err(|_| wrong("shards is too large".to_owned()))?;
    Ok(Some(Manifest { generation: positive("generation")?, shards, boot_epoch: positive("boot_epoch")? }))
}

/// Replaces the manifest in one step.
fn write_manifest(directory: &Path, manifest: Manifest) -> Result<(), StoreError> {
    let Manifest { generation, shards, boot_epoch } = manifest;
    let text = format!(
        "# Written by the router at every start.\nversion = {DIRECTORY_VERSION}\ngeneration = {generation}\n\
         shards = {shards}\nboot_epoch = {boot_epoch}\n"
    );
    let (path, new) = (directory.join(MANIFEST), directory.join("manifest.new"));
    let written = File::create(&new).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    written.and_then(|()| fs::rename(&new, &path)).map_err(|error| StoreError::Directory { path, error })?;
    sync(directory)
}

fn sync(directory: &Path) -> Result<(), StoreError> {
    let synced = File::open(directory).and_then(|file| file.sync_all());
    synced.map_err(|error| StoreError::Directory { path: directory.to_owned(), error })
}
