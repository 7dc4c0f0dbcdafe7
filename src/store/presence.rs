//! Whether the files that the journals are written to are still where a start looks for them.
//!
//! A file that was removed can still be written as long as it is open, so a journal hears nothing of it: what it acknowledges is
//! gone with the process. A thread of its own looks at the names a few times a second. It has to miss something twice before it
//! says so, because a segment that is reused changes its name between two looks.

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

/// How often it looks. Twice this is the longest that something is missing unnoticed.
const LOOK_EVERY: Duration = Duration::from_millis(400);

/// Ends the thread when it is dropped, and waits for its end.
pub(crate) struct Watch {
    ends: Option<flume::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Begins to look after the directories of all shards.
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

/// Which file or directory a name stands for.
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

/// Where one shard's journal lies.
struct Place {
    manifest: PathBuf,
    directory: PathBuf,
    /// Directories that stay the same as long as the router runs.
    fixed: Vec<(PathBuf, Identity)>,
    /// Which file each segment is, by its number.
    segments: HashMap<u64, Identity>,
    /// What the last look missed.
    missed: Option<String>,
}

impl Place {
    /// Looks, and tells the shard of what was missed twice. Returns whether that was so.
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

    /// What is not where it was. That it can't be looked at for another reason says nothing.
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
