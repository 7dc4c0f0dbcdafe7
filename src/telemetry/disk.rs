//! What is known of the store's disk: its space, and the size of the databases.
//!
//! Asking a file system may block for as long as its disk does. So a thread of its own asks, when somebody wants to
//! know, and others wait for it only for a moment: what they get then is what was known before, with its age. The
//! thread starts with the first question and is left behind if the disk does not respond.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::drive::is_shard_thread;

/// How long a caller waits for a disk that has responded before.
const PATIENCE: Duration = Duration::from_millis(2);
/// How long callers wait for the first response, counted from the first question.
const PATIENCE_AT_FIRST: Duration = Duration::from_millis(100);

/// What to ask about.
#[derive(Clone, Debug)]
pub(crate) struct DiskPaths {
    /// A directory in the file system.
    pub directory: PathBuf,
    pub databases: Vec<PathBuf>,
}

/// The space of a file system.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Disk {
    pub available_bytes: u64,
    pub size_bytes: u64,
}

/// What a disk has said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct DiskReading {
    /// When.
    pub at: Instant,
    /// None if the file system does not tell.
    pub disk: Option<Disk>,
    pub database_bytes: u64,
}

/// What is known of a disk.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct DiskState {
    /// The last reading.
    pub reading: Option<DiskReading>,
    /// Since when the disk has been asked and has not responded.
    pub asked_since: Option<Instant>,
}

/// Asks a disk, on a thread of its own.
pub(crate) struct DiskWatch {
    known: Arc<Known>,
    thread: Mutex<Thread>,
    read: fn(&DiskPaths) -> DiskReading,
}

#[derive(Default)]
struct Known {
    state: Mutex<DiskState>,
    /// Notified when the disk has responded.
    changed: Condvar,
}

enum Thread {
    NotStarted,
    Running(flume::Sender<DiskPaths>, JoinHandle<()>),
    /// It could not be started, or is not needed any more.
    Ended,
}

impl Default for DiskWatch {
    fn default() -> Self {
        Self::new(read)
    }
}

impl DiskWatch {
    fn new(read: fn(&DiskPaths) -> DiskReading) -> Self {
        Self { known: Arc::default(), thread: Mutex::new(Thread::NotStarted), read }
    }

    /// Returns what is known of the disk. If it responds, that is new; otherwise it is what was known before. Waits for a
    /// bounded time, and on a shard's thread not at all.
    pub fn look(&self, paths: impl FnOnce() -> DiskPaths) -> DiskState {
        let mut state = self.known.lock();
        if state.asked_since.is_none() {
            if !self.ask(paths) {
                return *state;
            }
            state.asked_since = Some(Instant::now());
        }
        if is_shard_thread() {
            return *state;
        }
        let wait = match (state.reading, state.asked_since) {
            (None, Some(since)) => PATIENCE_AT_FIRST.saturating_sub(since.elapsed()).max(PATIENCE),
            _ => PATIENCE,
        };
        let is_awaited = |state: &mut DiskState| state.asked_since.is_some();
        let waited = self.known.changed.wait_timeout_while(state, wait, is_awaited);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// Ends the thread, unless it waits for the disk: then it ends when the disk responds.
    pub fn end(&self) {
        let thread = std::mem::replace(&mut *self.lock_thread(), Thread::Ended);
        if let Thread::Running(questions, thread) = thread {
            drop(questions);
            if self.known.lock().asked_since.is_none() {
                let _ = thread.join();
            }
        }
    }

    /// Lets the thread ask the disk. Returns whether there is a thread.
    fn ask(&self, paths: impl FnOnce() -> DiskPaths) -> bool {
        let mut thread = self.lock_thread();
        if matches!(*thread, Thread::NotStarted) {
            *thread = self.start();
        }
        match &*thread {
            // There is one question at a time, so that there is room for it.
            Thread::Running(questions, _) => questions.try_send(paths()).is_ok(),
            Thread::NotStarted | Thread::Ended => false,
        }
    }

    fn start(&self) -> Thread {
        let (questions, asked) = flume::bounded::<DiskPaths>(1);
        let (known, read) = (Arc::clone(&self.known), self.read);
        let thread = std::thread::Builder::new().name("caxton-disk".to_owned()).spawn(move || {
            for paths in asked {
                let reading = read(&paths);
                *known.lock() = DiskState { reading: Some(reading), asked_since: None };
                known.changed.notify_all();
            }
        });
        thread.map_or(Thread::Ended, |thread| Thread::Running(questions, thread))
    }

    fn lock_thread(&self) -> MutexGuard<'_, Thread> {
        self.thread.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn lock(&self) -> MutexGuard<'_, DiskState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks the file system. This may block.
fn read(paths: &DiskPaths) -> DiskReading {
    // What was written last is beside a database until a checkpoint.
    let with_log = |database: &PathBuf| {
        let mut log = database.clone().into_os_string();
        log.push("-wal");
        length(database) + length(Path::new(&log))
    };
    let database_bytes = paths.databases.iter().map(with_log).sum();
    let space = rustix::fs::statvfs(&paths.directory).ok();
    let disk = space.map(|space| Disk {
        available_bytes: space.f_bavail.saturating_mul(space.f_frsize),
        size_bytes: space.f_blocks.saturating_mul(space.f_frsize),
    });
    DiskReading { at: Instant::now(), disk, database_bytes }
}

/// Returns the length of a file, or zero if there is none.
fn length(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |metadata| metadata.len())
}

#[cfg(test)]
mod tests {
    use std::sync::RwLock;

    use super::*;

    /// Longer than any machine takes.
    const LONG: Duration = Duration::from_mins(1);

    fn root() -> DiskPaths {
        DiskPaths { directory: "/".into(), databases: Vec::new() }
    }

    /// Looks until the disk has responded.
    fn wait(watch: &DiskWatch) -> DiskReading {
        let began = Instant::now();
        loop {
            let state = watch.look(root);
            if let (Some(reading), None) = (state.reading, state.asked_since) {
                return reading;
            }
            assert!(began.elapsed() < LONG, "it does not respond");
        }
    }

    #[test]
    fn a_disk_that_responds_is_known() {
        let watch = DiskWatch::default();
        let first = wait(&watch);
        assert!(first.disk.is_some_and(|disk| disk.size_bytes > 0));
        assert!(wait(&watch).at > first.at, "each look asks again");
        watch.end();
        assert_eq!(watch.look(root).asked_since, None, "nothing is asked after the end");
    }

    #[test]
    fn a_disk_that_hangs_holds_up_nobody_and_keeps_what_was_known() {
        /// Held while the disk hangs.
        static HANGS: RwLock<()> = RwLock::new(());
        let watch = DiskWatch::new(|paths| {
            let _responds = HANGS.read();
            read(paths)
        });
        let before = wait(&watch);
        let hangs = HANGS.write();
        let began = Instant::now();
        for _ in 0..20 {
            assert_eq!(watch.look(root).reading, Some(before));
        }
        assert!(began.elapsed() < LONG);
        assert!(watch.look(root).asked_since.is_some_and(|since| since >= before.at));
        drop(hangs);
        assert!(wait(&watch).at > before.at, "it recovers by itself");
        let hangs = HANGS.write();
        watch.look(root);
        watch.end();
        drop(hangs);
    }
}
