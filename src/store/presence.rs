//! Checks that the journals' files are still where a start looks for them.
//!
//! A removed file can still be written as long as it is open, so a journal does not notice: what it acknowledges is
//! lost with the process. A separate thread checks the names a few times a second. Something must be missing twice
//! before it is reported, because a reused segment is renamed between two checks.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use std::{fs, io};

use hashbrown::HashMap;

use super::journal::segment_path;
use super::manifest::MANIFEST;
use crate::shard_handle::{JournalFigures, Shared};

/// The interval of the checks. A loss is noticed after at most twice this time.
const LOOK_EVERY: Duration = Duration::from_millis(400);

/// The thread; dropping this ends it and waits for its end.
pub(crate) struct Watch {
    ends: Option<flume::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Begins to watch the directories of all shards.
    pub fn begin(data: &Path, directories: &[PathBuf], shared: Arc<Shared>) -> io::Result<Self> {
        let mut places = Vec::with_capacity(directories.len());
        for directory in directories {
            let fixed = [data, directory].into_iter().map(|path| Ok((path.to_owned(), Identity::of(path)?)));
            places.push(Place {
                manifest: data.join(MANIFEST),
                directory: directory.clone(),
                fixed: fixed.collect::<io::Result<_>>()?,
                segments: (1..).map_while(|number| Some((number, segment(directory, number).ok()?))).collect(),
                missed: None,
            });
        }
        let (ends, ended) = flume::bounded(1);
        let thread = std::thread::Builder::new().name("caxton-files".to_owned()).spawn(move || {
            while ended.recv_timeout(LOOK_EVERY) == Err(flume::RecvTimeoutError::Timeout) {
                for (shard, (place, link)) in places.iter_mut().zip(&shared.links).enumerate() {
                    if place.look(&link.journal) {
                        shared.ring(shard);
                    }
                }
            }
        })?;
        Ok(Self { ends: Some(ends), thread: Some(thread) })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.ends = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The identity of the file or directory behind a name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    fn of(path: &Path) -> io::Result<Self> {
        let found = fs::metadata(path)?;
        Ok(Self { device: found.dev(), inode: found.ino() })
    }
}

/// The place of one shard's journal.
struct Place {
    manifest: PathBuf,
    directory: PathBuf,
    /// Directories that stay the same as long as the router runs.
    fixed: Vec<(PathBuf, Identity)>,
    /// The identity of each segment's file, by number.
    segments: HashMap<u64, Identity>,
    /// What the last check missed.
    missed: Option<String>,
}

impl Place {
    /// Checks the files, and tells the shard of anything missed twice. Returns whether there was any.
    fn look(&mut self, figures: &JournalFigures) -> bool {
        if figures.is_lost() {
            return false;
        }
        let missed = self.missing(figures);
        let twice = missed.is_some() && missed == self.missed;
        self.missed = missed;
        if let Some(what) = self.missed.as_ref().filter(|_| twice) {
            figures.lose(format!(
                "{what} while the router was running: what is acknowledged could not be found by the next start, so nothing \
                 more is; put it back, or start the router on another directory"
            ));
        }
        twice
    }

    /// Returns what is not where it was. Other errors say nothing.
    fn missing(&mut self, figures: &JournalFigures) -> Option<String> {
        for (path, identity) in &self.fixed {
            match Identity::of(path) {
                Ok(found) if found == *identity => {}
                Ok(_) => return Some(format!("{} was replaced", path.display())),
                Err(error) if is_gone(&error) => return Some(format!("{} was removed", path.display())),
                Err(_) => return None,
            }
        }
        if fs::symlink_metadata(&self.manifest).is_err_and(|error| is_gone(&error)) {
            return Some(format!("{} was removed", self.manifest.display()));
        }
        let numbers = figures.segments();
        self.segments.retain(|number, _| number >= numbers.start());
        for number in numbers {
            let path = segment_path(&self.directory, number);
            match segment(&self.directory, number) {
                Ok(found) if *self.segments.entry(number).or_insert(found) == found => {}
                Ok(_) => return Some(format!("{} was replaced", path.display())),
                Err(error) if is_gone(&error) => return Some(format!("{} was removed", path.display())),
                Err(_) => return None,
            }
        }
        None
    }
}

fn segment(directory: &Path, number: u64) -> io::Result<Identity> {
    Identity::of(&segment_path(directory, number))
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}
