//! Guests' state that survives the process: a SQLite database, written by a separate thread through `io_uring`.
//!
//! A message that changed something is handled only once the change is on disk: its guest is suspended meanwhile, and
//! its shard continues with others. Changes of several guests that arrive together are one transaction.
//!
//! In a data directory it is the file [`STATES_FILE`](super::STATES_FILE), and part of every backup.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use caxton_shards::message::AgentId;
use rusqlite::{Connection, OpenFlags, params};

use crate::store::{files, vfs};

/// Maximum number of changes waiting for the thread.
const CHANGES_WAITING_MAX: usize = 10_000;
/// Maximum number of changes in one transaction.
const CHANGES_PER_TRANSACTION: usize = 1_000;
/// How long a copy waits for the writer.
const COPY_WITHIN: Duration = Duration::from_secs(10);
/// Marks the database as one of these.
const APPLICATION_ID: i32 = 0x6361_7867;

/// The guests' state cannot be stored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StatesError {
    /// SQLite reports an error.
    #[error("{path}: {source}")]
    Sqlite {
        /// The database.
        path: String,
        /// Its error.
        source: rusqlite::Error,
    },
    /// There is a database of another program.
    #[error("{path}: this is not a database of guests: name another file")]
    Foreign {
        /// The database.
        path: String,
    },
    /// `io_uring` or a thread is refused.
    #[error("{0}")]
    Host(String),
}

type Entries = BTreeMap<String, Vec<u8>>;
/// The changes of one message; `None` for a removed value.
pub(super) type Changes = BTreeMap<String, Option<Vec<u8>>>;

enum Work {
    Write(AgentId, Changes, flume::Sender<Result<(), String>>),
    Read(AgentId, flume::Sender<Result<Entries, String>>),
}

/// The state stored for guests, by agent. It is open until its last clone and the last guest that uses it are dropped.
#[derive(Clone)]
pub struct GuestStates(Arc<Inner>);

struct Inner {
    work: Option<flume::Sender<Work>>,
    thread: Option<JoinHandle<()>>,
}

impl std::fmt::Debug for GuestStates {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("GuestStates")
    }
}

impl GuestStates {
    /// Opens or creates the database.
    ///
    /// # Errors
    ///
    /// It cannot be opened, or belongs to another program.
    pub fn open(path: &Path) -> Result<Self, StatesError> {
        crate::signals::survive_file_size_limit();
        vfs::register().map_err(|error| StatesError::Host(error.to_string()))?;
        let connection = connect(path)?;
        let file = OpenFile::of(path)?;
        let (sender, receiver) = flume::bounded(CHANGES_WAITING_MAX);
        let thread = std::thread::Builder::new().name("caxton-states".to_owned());
        let thread = thread.spawn(move || serve(connection, &file, &receiver));
        let thread = thread.map_err(|error: io::Error| StatesError::Host(error.to_string()))?;
        Ok(Self(Arc::new(Inner { work: Some(sender), thread: Some(thread) })))
    }

    /// Returns the state of an agent. Waits for the disk; do not call it on a shard's thread.
    pub(super) fn read(&self, agent: AgentId) -> Result<Entries, String> {
        let (sender, receiver) = flume::bounded(1);
        self.put(Work::Read(agent, sender))?;
        receiver.recv().map_err(|_| GONE.to_owned())?
    }

    /// Writes changes. The result arrives when they are on disk.
    pub(super) fn write(
        &self,
        agent: AgentId,
        changes: Changes,
    ) -> Result<flume::Receiver<Result<(), String>>, String> {
        let (sender, receiver) = flume::bounded(1);
        self.put(Work::Write(agent, changes, sender))?;
        Ok(receiver)
    }

    fn put(&self, work: Work) -> Result<(), String> {
        let sent = self.0.work.as_ref().map(|sender| sender.try_send(work));
        match sent {
            Some(Ok(())) => Ok(()),
            Some(Err(flume::TrySendError::Full(_))) => {
                Err("too many changes wait to be stored: try again later".to_owned())
            }
            _ => Err(GONE.to_owned()),
        }
    }
}

const GONE: &str = "the guests' state is closed";

impl Drop for Inner {
    fn drop(&mut self) {
        // The thread ends once it has done its queued work.
        self.work = None;
        if let Some(thread) = self.thread.take()
            && thread.thread().id() != std::thread::current().id()
        {
            let _ = thread.join();
        }
    }
}

/// Copies a database to a new file, as committed at one moment. Needs only read permission.
///
/// If somebody has it open, as its third file shows, SQLite copies it. Otherwise it is copied together with its log:
/// SQLite would create new files beside it.
pub(crate) fn copy(from: &Path, to: &Path, in_use: bool) -> Result<(), StatesError> {
    vfs::register().map_err(|error| StatesError::Host(error.to_string()))?;
    if in_use || beside(from, "-shm").exists() {
        match copy_open(from, to) {
            // What a killed router has left cannot always be opened with read permission only.
            Err(_) if !in_use => {}
            copied => return copied,
        }
    }
    for suffix in ["", "-wal"] {
        let (from, to) = (beside(from, suffix), beside(to, suffix));
        if from.exists() {
            let copied = files::create(&to).and_then(|mut copy| {
                io::copy(&mut std::fs::File::open(from)?, &mut copy)?;
                copy.sync_all()
            });
            copied.map_err(|error| StatesError::Host(format!("{}: {error}", to.display())))?;
        }
    }
    // Another kind of database is refused.
    open(to, OpenFlags::SQLITE_OPEN_READ_WRITE).map(drop)
}

fn copy_open(from: &Path, to: &Path) -> Result<(), StatesError> {
    let made = |error: io::Error| StatesError::Host(format!("{}: {error}", to.display()));
    let connection = open(from, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    // SQLite writes into an empty file, and leaves its mode unchanged.
    files::create(to).map_err(made)?;
    connection
        .busy_timeout(COPY_WITHIN)
        .and_then(|()| connection.execute("VACUUM INTO ?1", params![to.to_string_lossy()]))
        .map_err(|source| StatesError::Sqlite { path: to.display().to_string(), source })?;
    // SQLite does not sync a copy, because it could be made again.
    std::fs::File::open(to).and_then(|file| file.sync_all()).map_err(made)
}

/// Returns a file that SQLite keeps beside a database.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Opens a database of guests, or an empty one.
fn open(path: &Path, flags: OpenFlags) -> Result<Connection, StatesError> {
    let name = path.display().to_string();
    let failed = |source| StatesError::Sqlite { path: name.clone(), source };
    let flags = flags | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags_and_vfs(path, flags, vfs::URING).map_err(failed)?;
    let number = |pragma: &str| connection.query_row(pragma, [], |row| row.get::<_, i64>(0));
    let tables = number("SELECT count(*) FROM sqlite_master").map_err(failed)?;
    if tables > 0 && number("PRAGMA application_id").map_err(failed)? != i64::from(APPLICATION_ID) {
        return Err(StatesError::Foreign { path: name });
    }
    Ok(connection)
}

fn connect(path: &Path) -> Result<Connection, StatesError> {
    // SQLite gives its other files the mode of this one.
    files::open_or_create(path).map_err(|error| StatesError::Host(format!("{}: {error}", path.display())))?;
    let connection = open(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE)?;
    connection
        .execute_batch(&format!(
            "PRAGMA application_id = {APPLICATION_ID};
             PRAGMA journal_mode = WAL;
             PRAGMA synchronous = FULL;
             CREATE TABLE IF NOT EXISTS states (
                 agent BLOB NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL, PRIMARY KEY (agent, key)
             ) WITHOUT ROWID;"
        ))
        .map_err(|source| StatesError::Sqlite { path: path.display().to_string(), source })?;
    Ok(connection)
}

/// The identity of the database's file when it was opened.
struct OpenFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl OpenFile {
    fn of(path: &Path) -> Result<Self, StatesError> {
        let found = std::fs::metadata(path);
        let found = found.map_err(|error| StatesError::Host(format!("{}: {error}", path.display())))?;
        Ok(Self { path: path.to_owned(), device: found.dev(), inode: found.ino() })
    }

    /// Checks that its name still refers to it: what is written to an unlinked file is lost with the process.
    fn check(&self) -> Result<(), String> {
        match std::fs::metadata(&self.path) {
            Ok(found) if (found.dev(), found.ino()) == (self.device, self.inode) => Ok(()),
            Err(error) if error.kind() != io::ErrorKind::NotFound => Ok(()),
            _ => Err(format!(
                "{} was removed or replaced while in use: nothing more is stored until the router is restarted",
                self.path.display()
            )),
        }
    }
}

fn serve(mut connection: Connection, file: &OpenFile, work: &flume::Receiver<Work>) {
    while let Ok(first) = work.recv() {
        let mut written = Vec::new();
        let mut read = Vec::new();
        let rest = std::iter::from_fn(|| work.try_recv().ok());
        for work in std::iter::once(first).chain(rest).take(CHANGES_PER_TRANSACTION) {
            match work {
                Work::Write(agent, changes, answer) => written.push((agent, changes, answer)),
                Work::Read(agent, answer) => read.push((agent, answer)),
            }
        }
        let checked = if written.is_empty() { Ok(()) } else { file.check() };
        let outcome = checked.and_then(|()| write(&mut connection, &written).map_err(|error| error.to_string()));
        for (_, _, answer) in written {
            let _ = answer.send(outcome.clone());
        }
        for (agent, answer) in read {
            let _ = answer.send(entries(&connection, agent).map_err(|error| error.to_string()));
        }
    }
}

type Written = (AgentId, Changes, flume::Sender<Result<(), String>>);

fn write(connection: &mut Connection, written: &[Written]) -> rusqlite::Result<()> {
    if written.is_empty() {
        return Ok(());
    }
    let transaction = connection.transaction()?;
    {
        let mut set =
            transaction.prepare_cached("INSERT OR REPLACE INTO states (agent, key, value) VALUES (?1, ?2, ?3)")?;
        let mut remove = transaction.prepare_cached("DELETE FROM states WHERE agent = ?1 AND key = ?2")?;
        for (agent, changes, _) in written {
            let agent = agent.to_u128().to_be_bytes();
            for (key, value) in changes {
                match value {
                    Some(value) => set.execute(params![agent, key, value])?,
                    None => remove.execute(params![agent, key])?,
                };
            }
        }
    }
    transaction.commit()
}

fn entries(connection: &Connection, agent: AgentId) -> rusqlite::Result<Entries> {
    let mut select = connection.prepare_cached("SELECT key, value FROM states WHERE agent = ?1")?;
    select.query_map([agent.to_u128().to_be_bytes()], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}
