//! The connection between a shard and its journal: passes records in and reports what is durable.

use std::collections::VecDeque;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::task::Waker;
use std::time::{Duration, Instant};

use caxton_shards::api::{Input, JournalCondition};
use caxton_shards::journal::record::Lsn;
use caxton_shards::shard::Shard;

use crate::clock::wall_time;
use crate::router::CancelStart;
use crate::shard_handle::JournalFigures;
use crate::store::disk::direct::DirectDisk;
use crate::store::disk::host::HostFiles;
use crate::store::journal::{Journal, JournalOptions, JournalState, Projection};
use crate::store::projector::{BATCH_BYTES, Batch, ProjectionSender};

/// Time limit for rewriting what an earlier run left.
const BEGIN_WITHIN: Duration = Duration::from_mins(10);

/// Time after which a waiting message becomes a row that operators can see, in milliseconds.
const SHOWN_AFTER_MS: u64 = 10_000;

/// Drives the journal of one shard, on the shard's thread.
pub(crate) struct JournalDriver {
    journal: Journal<DirectDisk>,
    condition: JournalCondition,
    /// The last record up to which rewriting was requested.
    carried: Lsn,
    door: ProjectionSender,
    shard: u16,
    disk_has_core: bool,
    /// The LSN up to which waiting messages are shown.
    shown: Lsn,
    /// What was committed at the last check, and when the next check is due.
    older: Lsn,
    look_at_ms: u64,
    /// Whether the database is to be rebuilt from what is passed next.
    anew: bool,
}

impl JournalDriver {
    /// Creates the journal and writes the shard's initial records. Blocks until they are on disk. If the disk has its
    /// own core, a thread there passes writes to the kernel.
    pub fn begin(
        options: JournalOptions,
        disk_core: Option<usize>,
        door: ProjectionSender,
        shard: &mut Shard,
        figures: &JournalFigures,
        cancel: &CancelStart,
    ) -> Result<Self, String> {
        let (directory, number) = (options.directory.display().to_string(), options.id.shard);
        let disk = match disk_core {
            Some(core) => DirectDisk::beside(format!("caxton-disk-{number}"), core),
            None => DirectDisk::new(),
        };
        let disk = disk.map_err(|error| format!("there is no io_uring for {directory}: {error}"))?;
        let journal = Journal::create_unless(disk, options, || cancel.is_cancelled())
            .map_err(|error| format!("the journal in {directory} could not be made: {error}"))?;
        let condition = JournalCondition::Ready;
        let none = Lsn(0);
        let mut driver = Self {
            journal,
            condition,
            carried: none,
            door,
            shard: number,
            disk_has_core: disk_core.is_some(),
            shown: none,
            older: none,
            look_at_ms: 0,
            anew: false,
        };
        let began = Instant::now();
        let mut inputs = VecDeque::new();
        loop {
            let now_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
            driver.write(shard, now_ms, figures, &mut inputs);
            match driver.journal.state() {
                _ if cancel.is_cancelled() => return Err("the start was cancelled".to_owned()),
                JournalState::Failed(complaint) | JournalState::NoSpace(complaint) => return Err(complaint),
                JournalState::Full if driver.journal.is_busy() && !driver.journal.is_writing() => {
                    return Err(format!(
                        "the journal in {directory} is as large as store.segments_max allows before everything is written"
                    ));
                }
                // Nothing is to be served while the disk is busy with the next segment.
                _ if !driver.journal.is_busy() && !driver.journal.makes_segment() => {
                    // Only what was read back may replace what an earlier run left.
                    driver.journal.complete(&HostFiles, wall_time())?;
                    return Ok(driver);
                }
                state if began.elapsed() > BEGIN_WITHIN => {
                    return Err(format!("the journal in {directory}: {state:?}"));
                }
                _ => driver.wait(Duration::from_millis(1)),
            }
        }
    }

    /// Returns the first input of the shard.
    pub fn news(&self) -> Option<Input> {
        Some(Input::Committed(self.journal.committed())).filter(|_| self.journal.committed() > Lsn(0))
    }

    /// Sleeps until a write is complete, until it is woken, or for this long.
    pub fn wait(&mut self, timeout: Duration) {
        self.journal.wait(timeout);
    }

    /// Returns a waker that ends a [`wait`](JournalDriver::wait), the current one or the next.
    pub fn waker(&self) -> Waker {
        self.journal.waker()
    }

    /// Whether the disk works on a core without a shard.
    pub fn disk_has_core(&self) -> bool {
        self.disk_has_core
    }

    /// Whether something is being written, or waits to be.
    pub fn is_busy(&self) -> bool {
        self.journal.is_busy()
    }

    /// Whether it has to be polled although nothing happens to the shard.
    pub fn wants_looks(&self) -> bool {
        self.journal.is_busy() || self.journal.mends()
    }

    /// Whether pending writes wait for something outside the process, such as room on the disk.
    pub fn is_stuck(&self) -> bool {
        self.journal.is_stuck()
    }

    /// Passes the shard's records on. Adds what the shard has to know to its inputs; returns whether there was
    /// anything.
    pub fn write(
        &mut self,
        shard: &mut Shard,
        now_ms: u64,
        figures: &JournalFigures,
        inputs: &mut VecDeque<Input>,
    ) -> bool {
        let records = shard.records();
        if records.count() > 0 {
            self.journal.append(records.bytes());
            records.clear();
        }
        let before = inputs.len();
        if figures.is_lost() {
            self.lose(figures);
        }
        if self.journal.poll(now_ms) {
            figures.set_segments(self.journal.segments_in_use());
            inputs.push_back(Input::Committed(self.journal.committed()));
            figures.commits.store(self.journal.commits, Ordering::Relaxed);
            figures.written_bytes.store(self.journal.written_bytes, Ordering::Relaxed);
            figures.records.store(self.journal.committed().0, Ordering::Relaxed);
            if let Some(upto) = self.journal.wants_carried().filter(|upto| *upto > self.carried) {
                self.carried = upto;
                inputs.push_back(Input::CarryForward(upto));
            }
        }
        if self.journal.wants_mark(now_ms) {
            self.journal.mark(now_ms, wall_time());
        }
        self.project(figures, inputs);
        self.show_waiting(now_ms, inputs);
        let state = self.journal.state();
        let condition = match &state {
            JournalState::Ready => JournalCondition::Ready,
            JournalState::Busy => JournalCondition::Busy,
            JournalState::Full | JournalState::NoSpace(_) | JournalState::Obstructed(_) => JournalCondition::Full,
            JournalState::Failed(_) => JournalCondition::Failed,
        };
        if condition != self.condition {
            self.condition = condition;
            inputs.push_back(Input::Journal(condition));
            let complaint = match state {
                JournalState::Failed(what) | JournalState::NoSpace(what) | JournalState::Obstructed(what) => Some(what),
                JournalState::Full => Some("the journal has reached its maximum size: store.segments_max".to_owned()),
                JournalState::Ready | JournalState::Busy => None,
            };
            figures.failed.store(condition == JournalCondition::Failed, Ordering::Relaxed);
            *figures.complaint.lock().unwrap_or_else(PoisonError::into_inner) = complaint;
        }
        inputs.len() > before
    }

    /// Handles the loss of files that the journal needs.
    #[cold]
    fn lose(&mut self, figures: &JournalFigures) {
        if let Some(what) = figures.take_lost() {
            self.journal.lose(what);
        }
    }

    /// Returns when there will be something to write without any other event, in milliseconds.
    pub fn due_ms(&self) -> Option<u64> {
        let shows = (self.shown < self.journal.committed()).then_some(self.look_at_ms);
        let journal = [self.journal.mark_due_ms(), self.journal.retry_at_ms()];
        shows.into_iter().chain(journal.into_iter().flatten()).min()
    }

    /// Shows messages that have waited for long: for at least one interval, and at most two.
    fn show_waiting(&mut self, now_ms: u64, inputs: &mut VecDeque<Input>) {
        if now_ms < self.look_at_ms || self.shown >= self.journal.committed() {
            return;
        }
        if self.older > self.shown {
            self.shown = self.older;
            inputs.push_back(Input::ShowWaiting(self.older));
        }
        self.older = self.journal.committed();
        self.look_at_ms = now_ms + SHOWN_AFTER_MS;
    }

    /// Passes changes on to the database, if it asked for them.
    fn project(&mut self, figures: &JournalFigures, inputs: &mut VecDeque<Input>) {
        let projection = &figures.projection;
        self.journal.projected(projection.projected());
        let lost = projection.take_lost();
        if self.journal.take_overrun() || lost {
            self.journal.forget_projections();
            if !projection.is_stopped() {
                self.anew = true;
                inputs.push_back(Input::CarryForward(self.journal.committed()));
            }
        }
        if projection.is_stopped() {
            if self.journal.has_projections() {
                self.journal.forget_projections();
            }
        } else if projection.wants() && self.journal.has_projections() {
            let stretches = self.journal.take_projections(BATCH_BYTES);
            self.hand_over(stretches, figures);
        }
    }

    fn hand_over(&mut self, stretches: Vec<Projection>, figures: &JournalFigures) {
        let (anew, left_out) = (std::mem::take(&mut self.anew), self.journal.steps_left_out());
        // If nothing more waits, the records after the last stretch contain nothing for the database.
        let last = stretches.last().map(|stretch| stretch.last);
        let upto = last.filter(|_| self.journal.has_unread()).unwrap_or(self.journal.committed());
        let handed_over = Instant::now();
        let batch = Batch { shard: self.shard, stretches, upto, anew, left_out, handed_over };
        if !self.door.hand_over(batch, &figures.projection) {
            figures
                .projection
                .give_up("the thread that writes the databases has ended; no message is affected".to_owned());
            self.journal.forget_projections();
        }
    }

    /// Passes on everything that is left, before the shard's thread ends, and closes the journal.
    pub fn leave(mut self, figures: &JournalFigures) {
        let stretches = self.journal.take_last_projections();
        if self.journal.committed() > figures.projection.projected() && !figures.projection.is_stopped() {
            self.hand_over(stretches, figures);
        }
        // A journal that is not closed is read at the next start as after a crash.
        figures.closed.store(self.journal.close(wall_time()).is_ok(), Ordering::Release);
    }
}
