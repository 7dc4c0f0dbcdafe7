//! What operators can query: each shard's journal as a SQLite database, written by a separate thread.
//!
//! The journal is the source of truth; the database is a view of its current state, rebuilt at every start. When this
//! thread asks, shards pass on which stretches of their journals to read, and continue: nothing that is acknowledged
//! waits for it. What comes and goes between two batches never becomes a row.
//!
//! Invariants: rows and the watermark in `progress` change in one transaction; a segment of the journal that is still
//! to be read is not reused, unless the journal has no room left: then the database is emptied and the current state is
//! rewritten; of the history of conversations the newest steps are kept.

mod changes;
mod schema;

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use caxton_shards::journal::record::Lsn;
use caxton_shards::message::AgentId;
use flume::RecvTimeoutError;
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior, params};
use thread_priority::{
    NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy, set_thread_priority_and_policy, thread_native_id,
};

use self::changes::{Changes, Names};
use super::disk::Buffer;
use super::disk::direct::DirectDisk;
use super::files;
use super::journal::{JournalError, Projection, read_frame_at};
use super::vfs::{self, VfsError};
use crate::clock::wall_time;
use crate::config::Vfs;
use crate::shard_handle::Shared;

pub use self::schema::APPLICATION_ID;

/// The database's file in a shard's directory.
pub const DATABASE: &str = "state.db";
/// Maximum number of journal bytes that a shard passes on at a time.
pub(crate) const BATCH_BYTES: usize = 16 << 20;
/// How long the next batch gathers; longer if the last one took longer, so that the databases of all shards take at
/// most half of a core.
const GATHER: Duration = Duration::from_millis(100);
/// Delay before a database that could not be written is rebuilt.
const RETRY: Duration = Duration::from_secs(10);
/// Delay before checking again for a reader in the way.
const READER_RETRY: Duration = Duration::from_secs(1);
/// Approximate number of rows in one transaction.
const ROWS_PER_TRANSACTION: usize = 50_000;
/// While a reader keeps the write-ahead log from being reset beyond this many pages of 4 KiB, nothing more is written.
const LOG_PAGES_MAX: i64 = 16_384;
/// How long a write waits for other holders of a lock; the databases of all shards wait with it.
const BUSY_TIMEOUT: Duration = Duration::from_millis(100);
/// How long a reader of a database waits for its writer.
const READ_TIMEOUT: Duration = Duration::from_secs(5);
/// The thread's nice(2) value, unless it is scheduled as idle.
const NICENESS: i32 = 10;
/// If something took longer than this that takes at most a tenth of it, other processes leave the thread no core, and
/// it takes a share.
const STARVED: Duration = Duration::from_secs(1);
/// Number of records, and of rows, after which the thread yields its core. Being scheduled as idle is not enough: a
/// kernel with 250 ticks a second leaves it running for up to 4 ms.
const RECORDS_PER_TURN: u64 = 16;
/// The size to which a log that was reset is cut, in bytes.
const LOG_BYTES_KEPT: i64 = 16 << 20;

/// A shard's database cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProjectionError {
    /// SQLite reports an error.
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    /// It is not a database of this program, or of a newer version.
    #[error("it is of version {version}, and this program writes version {known}: use the program that made it")]
    Foreign {
        /// Its version.
        version: i32,
        /// The newest known version.
        known: i32,
    },
    /// A reader keeps the write-ahead log from being reset.
    #[error("a reader has kept one transaction open for so long that the write-ahead log has reached its limit")]
    Reader,
    /// The journal cannot be read.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// SQLite cannot write through `io_uring`.
    #[error(transparent)]
    Vfs(#[from] VfsError),
    /// An `io_uring` for reading cannot be created.
    #[error("there is no io_uring: {0}")]
    Ring(io::Error),
    /// The file cannot be created or read.
    #[error(transparent)]
    File(#[from] io::Error),
}

/// The result of examining a database.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Examined {
    /// The last record of the shard's journal in it.
    pub record: u64,
    /// The result of `PRAGMA integrity_check`: "ok", or what is wrong.
    pub integrity: String,
}

/// Examines a database from another process than the router's. Changes nothing, and needs only read permission.
///
/// A database in use is read together with what its router has written beside it. One that is not in use would get new
/// files beside it that way, so it is read as an immutable file; if changes of a killed router wait in a log, a copy is
/// read.
///
/// # Errors
///
/// It cannot be read.
pub fn examine(path: &Path, in_use: bool) -> Result<Examined, ProjectionError> {
    let log = path.with_extension("db-wal");
    let waits = std::fs::metadata(&log).is_ok_and(|log| log.len() > 0);
    if in_use {
        let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        connection.busy_timeout(READ_TIMEOUT)?;
        return examine_open(&connection);
    }
    let copies = waits.then(tempfile::tempdir).transpose()?;
    let path = match &copies {
        Some(copies) => {
            let copy = copies.path().join(DATABASE);
            std::fs::copy(path, &copy)?;
            std::fs::copy(&log, copy.with_extension("db-wal"))?;
            let connection = Connection::open(&copy)?;
            return examine_open(&connection);
        }
        None => path,
    };
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    examine_open(&Connection::open_with_flags(uri(path), flags)?)
}

fn examine_open(connection: &Connection) -> Result<Examined, ProjectionError> {
    Ok(Examined {
        record: connection.query_row("SELECT record FROM progress", [], |row| row.get(0))?,
        integrity: connection.query_row("PRAGMA integrity_check", [], |row| row.get(0))?,
    })
}

/// Returns the URI of a database that nobody writes.
fn uri(path: &Path) -> String {
    let mut uri = String::from("file:");
    for byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'_' | b'.' => uri.push(char::from(*byte)),
            _ => {
                let _ = write!(uri, "%{byte:02x}");
            }
        }
    }
    uri + "?immutable=1"
}

/// The state of one shard's database, shared with its shard and others.
#[derive(Debug, Default)]
pub(crate) struct ProjectionFigures {
    /// Whether the next stretches may be passed on.
    wants: AtomicBool,
    /// The last record in the database.
    projected: AtomicU64,
    /// Whether the database is rebuilt, and needs the whole current state.
    lost: AtomicBool,
    /// Whether it is given up until the next start.
    stopped: AtomicBool,
    /// Conversation steps that never became rows, because so many newer ones waited.
    pub left_out: AtomicU64,
    /// The number of times it was rebuilt.
    pub rebuilds: AtomicU64,
    /// Why it is not written, if so.
    pub complaint: Mutex<Option<String>>,
}

impl ProjectionFigures {
    /// Whether stretches may be passed on; at most one batch at a time.
    pub fn wants(&self) -> bool {
        self.wants.load(Ordering::Relaxed)
    }

    /// Returns the last record in the database.
    pub fn projected(&self) -> Lsn {
        Lsn(self.projected.load(Ordering::Acquire))
    }

    /// Whether nothing will be read any more.
    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// Whether the database is rebuilt. Returns true once.
    pub fn take_lost(&self) -> bool {
        self.lost.load(Ordering::Relaxed) && self.lost.swap(false, Ordering::AcqRel)
    }

    /// Stops writing until the next start.
    pub fn give_up(&self, complaint: String) {
        self.complain(Some(complaint));
        self.stopped.store(true, Ordering::Relaxed);
    }

    fn complain(&self, complaint: Option<String>) {
        *self.complaint.lock().unwrap_or_else(PoisonError::into_inner) = complaint;
    }
}

/// A batch of stretches from a shard.
#[derive(Debug)]
pub(crate) struct Batch {
    pub shard: u16,
    pub stretches: Vec<Projection>,
    /// The last record passed on so far, including this batch.
    pub upto: Lsn,
    /// Whether the database is to be emptied first.
    pub anew: bool,
    /// The number of steps skipped so far.
    pub left_out: u64,
    pub handed_over: Instant,
}

/// Where a shard passes on its stretches.
#[derive(Clone, Debug)]
pub(crate) struct ProjectionSender(flume::Sender<Batch>);

impl ProjectionSender {
    /// Passes a batch on. Never waits: there is room for the batch that was asked for, and for a last one.
    pub fn hand_over(&self, batch: Batch, figures: &ProjectionFigures) -> bool {
        figures.wants.store(false, Ordering::Relaxed);
        self.0.try_send(batch).is_ok()
    }
}

/// The thread that writes the databases. It ends when all senders are gone and what they sent is written.
pub(crate) struct Projector {
    views: Vec<View>,
    batches: flume::Receiver<Batch>,
}

impl Projector {
    /// Creates an empty database in each of the directories.
    pub fn create(
        directories: &[PathBuf],
        boot_epoch: u64,
        vfs: Vfs,
        history: u64,
    ) -> Result<(Self, ProjectionSender), io::Error> {
        let (sender, batches) = flume::bounded(2 * directories.len());
        let mut views = Vec::with_capacity(directories.len());
        for (shard, directory) in (0_u16..).zip(directories) {
            let path = directory.join(DATABASE);
            // SQLite gives its other files the mode of this one.
            let view = files::open_or_create(&path)
                .map_err(ProjectionError::from)
                .and_then(|_| View::create(&path, shard, boot_epoch, vfs, history));
            views.push(view.map_err(|error| io::Error::other(format!("{}: {error}", path.display())))?);
        }
        Ok((Self { views, batches }, ProjectionSender(sender)))
    }

    /// Starts the thread.
    pub fn spawn(self, shared: Arc<Shared>) -> io::Result<JoinHandle<()>> {
        std::thread::Builder::new().name("caxton-projector".to_owned()).spawn(move || self.run(&shared))
    }

    fn run(mut self, shared: &Shared) {
        let mut desk = match DirectDisk::new() {
            Ok(disk) => Desk { disk, names: Names::default(), patience: Patience::Endless },
            Err(error) => return stop_all(shared, &ProjectionError::Ring(error).to_string()),
        };
        desk.patience.apply();
        let now = Instant::now();
        self.views.iter_mut().for_each(|view| view.due = Some(now));
        loop {
            let batch = match self.views.iter().filter_map(|view| view.due).min() {
                Some(due) => match self.batches.recv_deadline(due) {
                    Ok(batch) => batch,
                    Err(RecvTimeoutError::Timeout) => {
                        self.ask(&mut desk, shared);
                        continue;
                    }
                    Err(RecvTimeoutError::Disconnected) => return,
                },
                None => match self.batches.recv() {
                    Ok(batch) => batch,
                    Err(_) => return,
                },
            };
            let place = usize::from(batch.shard);
            if let (Some(view), Some(link)) = (self.views.get_mut(place), shared.links.get(place)) {
                desk.patience.see(batch.handed_over.elapsed());
                view.work(&mut desk, batch, &link.journal.projection);
            }
            let fresh = desk.names.take_fresh();
            for view in self.views.iter_mut().filter(|view| view.changes.await_name_of(&fresh)) {
                view.name(&fresh, &desk.names);
            }
        }
    }

    /// Continues batches that had to wait, and asks the shards that are due. A sleeping shard with stretches is woken
    /// for it.
    fn ask(&mut self, desk: &mut Desk, shared: &Shared) {
        let now = Instant::now();
        for (shard, view) in self.views.iter_mut().enumerate() {
            if view.due.is_some_and(|due| due <= now) {
                view.due = None;
                let figures = &shared.links[shard].journal.projection;
                if let Some(batch) = view.stuck.take() {
                    view.work(desk, batch, figures);
                } else {
                    figures.wants.store(true, Ordering::Release);
                    shared.ring(shard);
                }
            }
        }
    }
}

/// How the thread is scheduled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Patience {
    /// As idle: it gets what nobody else wants, and is preempted as soon as a shard wakes.
    Endless,
    /// With a low priority: it gets a small share of a busy core.
    Some,
}

impl Patience {
    /// Records the duration of something that takes almost no time if a core is free.
    fn see(&mut self, took: Duration) {
        let wanted = if took > STARVED { Self::Some } else { Self::Endless };
        if wanted != *self {
            *self = wanted;
            wanted.apply();
        }
    }

    fn apply(self) {
        let policy = match self {
            Self::Endless => NormalThreadSchedulePolicy::Idle,
            Self::Some => NormalThreadSchedulePolicy::Other,
        };
        // If a sandbox refuses either, the thread continues as it is.
        let policy = ThreadSchedulePolicy::Normal(policy);
        let _ = set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, policy);
        let _ = rustix::process::setpriority_process(None, NICENESS);
    }
}

fn stop_all(shared: &Shared, complaint: &str) {
    for link in &shared.links {
        link.journal.projection.give_up(complaint.to_owned());
    }
}

/// State of the thread for the databases of all shards.
struct Desk {
    disk: DirectDisk,
    names: Names,
    patience: Patience,
}

/// One shard's database.
struct View {
    connection: Connection,
    path: PathBuf,
    shard: u16,
    history: u64,
    changes: Changes,
    buffer: Buffer,
    /// Steps written since the oldest ones were removed.
    steps: u64,
    rebuilds: u64,
    /// The maximum number of pages of the write-ahead log.
    log_pages_max: i64,
    /// A batch that could not be begun, because a reader is in the way.
    stuck: Option<Batch>,
    /// When the next stretches are requested, unless they are already.
    due: Option<Instant>,
}

impl View {
    fn create(path: &Path, shard: u16, boot_epoch: u64, layer: Vfs, history: u64) -> Result<Self, ProjectionError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = match layer {
            Vfs::Unix => Connection::open_with_flags(path, flags)?,
            Vfs::Uring => {
                vfs::register()?;
                Connection::open_with_flags_and_vfs(path, flags, vfs::URING)?
            }
        };
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.set_prepared_statement_cache_capacity(64);
        connection.pragma_update(None, "journal_mode", "wal")?;
        connection.pragma_update(None, "synchronous", "full")?;
        connection.pragma_update(None, "journal_size_limit", LOG_BYTES_KEPT)?;
        schema::migrate(&mut connection)?;
        let view = Self {
            connection,
            path: path.to_owned(),
            shard,
            history,
            changes: Changes::default(),
            buffer: Buffer::new(0),
            steps: 0,
            rebuilds: 0,
            log_pages_max: LOG_PAGES_MAX,
            stuck: None,
            due: None,
        };
        view.connection.execute(
            "INSERT OR REPLACE INTO progress (one, shard, boot_epoch, record, written_ms, rebuilds, steps_left_out)
             VALUES (1, ?1, ?2, 0, ?3, 0, 0)",
            params![shard, i64::try_from(boot_epoch).unwrap_or(i64::MAX), now_ms()],
        )?;
        Ok(view)
    }

    /// Processes a batch, and records the result.
    fn work(&mut self, desk: &mut Desk, batch: Batch, figures: &ProjectionFigures) {
        let began = Instant::now();
        match self.project(desk, &batch) {
            Ok(()) => {
                figures.complain(None);
                figures.left_out.store(batch.left_out, Ordering::Relaxed);
                figures.rebuilds.store(self.rebuilds, Ordering::Relaxed);
                figures.projected.store(batch.upto.0, Ordering::Release);
                self.due = Some(Instant::now() + began.elapsed().max(GATHER));
            }
            Err(ProjectionError::Reader) => {
                let (path, error) = (self.path.display(), ProjectionError::Reader);
                figures.complain(Some(format!("{path}: {error}; it continues when the reader has ended")));
                self.stuck = Some(batch);
                self.due = Some(Instant::now() + READER_RETRY);
            }
            Err(error) => {
                self.changes.forget();
                let path = self.path.display();
                let fatal = is_fatal(&error);
                let then = if fatal { "it is given up until the next start" } else { "it will be rebuilt" };
                let cause = vfs::take_last_error().map_or_else(String::new, |cause| format!(" ({cause})"));
                figures.complain(Some(format!("{path}: {error}{cause}; {then}; no message is affected")));
                figures.lost.store(true, Ordering::Release);
                figures.stopped.store(fatal, Ordering::Relaxed);
                self.due = (!fatal).then(|| Instant::now() + RETRY);
            }
        }
    }

    fn project(&mut self, desk: &mut Desk, batch: &Batch) -> Result<(), ProjectionError> {
        self.wait_for_log()?;
        if batch.anew {
            self.empty()?;
        }
        let Desk { disk, names, patience } = desk;
        for stretch in &batch.stretches {
            let began = Instant::now();
            let steps = stretch.steps > 0;
            let changes = &mut self.changes;
            read_frame_at(disk, stretch, &mut self.buffer, self.shard, |sequence, kind, body| {
                if sequence.0.is_multiple_of(RECORDS_PER_TURN) {
                    std::thread::yield_now();
                }
                changes.take(sequence, (kind, body), steps, names)
            })?;
            self.steps += stretch.steps;
            if self.changes.rows() >= ROWS_PER_TRANSACTION {
                self.write(stretch.last, batch.left_out, names)?;
            }
            patience.see(began.elapsed());
        }
        self.write(batch.upto, batch.left_out, names)
    }

    /// Writes rows and watermark in one transaction.
    fn write(&mut self, last: Lsn, left_out: u64, names: &Names) -> Result<(), ProjectionError> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        self.changes.write(&transaction, names)?;
        if self.steps > self.history / 8 {
            self.changes.prune(&transaction, self.history)?;
            self.steps = 0;
        }
        let [last, left_out, rebuilds] =
            [last.0, left_out, self.rebuilds].map(|value| i64::try_from(value).unwrap_or(i64::MAX));
        let mut progress = transaction.prepare_cached(
            "UPDATE progress SET record = ?1, written_ms = ?2, rebuilds = ?3, steps_left_out = ?4 WHERE one = 1",
        )?;
        progress.execute(params![last, now_ms(), rebuilds, left_out])?;
        drop(progress);
        transaction.commit()?;
        Ok(())
    }

    /// Writes names learnt from another shard's records after the rows that refer to these agents. If that fails, it is
    /// done with the next rows.
    fn name(&mut self, agents: &[AgentId], names: &Names) {
        let written =
            self.connection.transaction_with_behavior(TransactionBehavior::Immediate).and_then(|transaction| {
                self.changes.write_names(&transaction, names)?;
                transaction.commit()
            });
        if written.is_err() {
            self.changes.unname(agents);
        }
    }

    /// Empties the database before the whole current state is written.
    fn empty(&mut self) -> Result<(), ProjectionError> {
        self.changes.forget();
        self.rebuilds += 1;
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for table in ["names", "agents", "capabilities", "conversations", "steps", "dead_letters", "waiting"] {
            transaction.execute(&format!("DELETE FROM {table}"), [])?;
        }
        transaction.commit()?;
        Ok(())
    }

    /// A reader that holds an old snapshot keeps the log from being reset; the log must not grow without bound for
    /// that.
    fn wait_for_log(&self) -> Result<(), ProjectionError> {
        let pages = |mode: &str| {
            let checkpoint = format!("PRAGMA wal_checkpoint({mode})");
            self.connection.query_row(&checkpoint, [], |row| row.get::<_, i64>(1))
        };
        if pages("NOOP")? <= self.log_pages_max {
            return Ok(());
        }
        // The log's contents are in the database after this, but the log can only be reset without old readers.
        let busy = self.connection.query_row("PRAGMA wal_checkpoint(RESTART)", [], |row| row.get::<_, i64>(0))?;
        if busy == 0 {
            return Ok(());
        }
        Err(ProjectionError::Reader)
    }
}

fn now_ms() -> i64 {
    i64::try_from(wall_time().0).unwrap_or(i64::MAX)
}

/// Whether rebuilding the database is useless. A missing part of the journal, and a lack of room, descriptors or memory
/// or a reader in the way, can be retried.
fn is_fatal(error: &ProjectionError) -> bool {
    match error {
        ProjectionError::Sqlite(error) => !matches!(
            error.sqlite_error_code(),
            Some(
                ErrorCode::DiskFull
                    | ErrorCode::DatabaseBusy
                    | ErrorCode::DatabaseLocked
                    | ErrorCode::OutOfMemory
                    | ErrorCode::CannotOpen
            )
        ),
        ProjectionError::Journal(_) | ProjectionError::Reader => false,
        ProjectionError::Foreign { .. }
        | ProjectionError::Ring(_)
        | ProjectionError::Vfs(_)
        | ProjectionError::File(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_in_the_way_is_waited_for_and_nothing_is_lost() {
        for layer in [Vfs::Uring, Vfs::Unix] {
            let directory = tempfile::tempdir().expect("a directory");
            let path = directory.path().join(DATABASE);
            let mut view = View::create(&path, 3, 7, layer, 100).expect("it is made");
            view.log_pages_max = 8;
            let mut reader = Connection::open(&path).expect("it opens");
            let transaction = reader.transaction().expect("it begins");
            let record = |connection: &Connection| {
                connection
                    .query_row("SELECT record FROM progress", [], |row| row.get::<_, u64>(0))
                    .expect("there is one")
            };
            assert_eq!(record(&transaction), 0);
            let mut written = 0;
            let refused = loop {
                match view.wait_for_log() {
                    Ok(()) => {}
                    Err(error) => break error,
                }
                written += 1;
                assert!(written < 100, "the log grows without end");
                view.write(Lsn(written), 0, &Names::default()).expect("it is written");
            };
            assert!(matches!(refused, ProjectionError::Reader), "{refused}");
            assert_eq!(record(&transaction), 0, "the reader stays where it is");
            drop(transaction);
            view.wait_for_log().expect("nobody is in the way");
            view.write(Lsn(written + 1), 0, &Names::default()).expect("it is written");
            assert_eq!(record(&reader), written + 1);
        }
    }
}
