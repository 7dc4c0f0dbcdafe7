//! The driver, the only place where a shard meets glommio: turns, doorbells, timers, and leaving.
//!
//! One executor per shard, pinned to its core, runs one task: receive, [`Shard::step`], publish. While there is traffic
//! the task spins on its rings, because polling a ring costs well under a microsecond and waking an executor more than
//! a hundred. After a bounded time without work it arms its doorbell, checks its rings once more, and sleeps until the
//! doorbell or the shard's next timer: first it naps, which is cheap, and when nothing happens for some milliseconds it
//! parks. While its journal is being written, or waits for room on a full disk, it naps where the journal's disk can wake
//! it, until the write is complete or the doorbell rings; it does not spin before that, unless the disk has its own core.
//!
//! Three traps of glommio 0.9 are avoided here: the preemption timer of the shard's task is one millisecond (the
//! default of 100 ms delays wake-ups, less than half a millisecond provokes stalls); until that task has left its waker
//! there is no preemption timer, because nobody could end a stall; and the waker is dropped from the doorbell before
//! the executor ends. See the [watchdog](crate::watchdog) for the fourth.

mod wait;

use std::cell::Cell;
use std::collections::{HashMap, HashSet, VecDeque};
use std::future::poll_fn;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::task::Poll;
use std::time::Duration;

use caxton_shards::api::{Event, EventDetail, FailureHandler, InboxNumber, Input, Output, Token};
use caxton_shards::mesh::Port;
use caxton_shards::mesh::doorbell::Doorbell;
use caxton_shards::message::Message;
use caxton_shards::routing::partition::ShardIndex;
#[cfg(feature = "store")]
use caxton_shards::shard::recovery::RecoveredState;
use caxton_shards::shard::{INPUTS_PER_TURN_MAX, Shard, ShardConfig, ShardFrame, Turn};
use glommio::{Latency, Shares};

use self::wait::Wakers;
use crate::call::{Callee, Request};
use crate::clock::Clock;
#[cfg(feature = "store")]
use crate::journal_driver::JournalDriver;
#[cfg(feature = "store")]
use crate::router::CancelStart;
use crate::router::Extensions;
use crate::router::inbox::InboxLink;
use crate::shard_handle::{FinalState, GateHolder, Job, RouterPhase, ShardHandle, Shared, Work};
#[cfg(feature = "store")]
use crate::store::attempt::AttemptFile;
#[cfg(feature = "store")]
use crate::store::journal::JournalOptions;
#[cfg(feature = "store")]
use crate::store::projector::ProjectionSender;
#[cfg(feature = "telemetry")]
use crate::telemetry::RecordFeed;
#[cfg(feature = "telemetry")]
use crate::telemetry::logs::LogSender;

/// Maximum number of jobs taken from the inbound channel at a time.
const WORK_PER_TURN_MAX: usize = 256;
/// How long the shard's task runs before the executor serves its own timers and I/O. See the module's documentation.
const PREEMPTION: Duration = Duration::from_millis(1);
/// Number of turns in which a leaving shard still delivers the router's notices.
const LEAVING_TURNS_MAX: u32 = 16;

thread_local! {
    static ON_SHARD: Cell<bool> = const { Cell::new(false) };
}

/// Whether the calling thread belongs to a shard, where a blocking call would wait for itself.
pub(crate) fn is_shard_thread() -> bool {
    ON_SHARD.get()
}

/// Creates the failure handler of one shard, on the shard's thread.
pub(crate) type FailureHandlers = Arc<dyn Fn(ShardIndex) -> Box<dyn FailureHandler> + Send + Sync>;

/// The arguments of a shard's thread.
pub(crate) struct Launch {
    pub config: ShardConfig,
    pub extensions: Extensions,
    pub port: Port<ShardFrame>,
    pub work: flume::Receiver<Job>,
    pub shared: Arc<Shared>,
    pub clock: Clock,
    #[cfg(feature = "store")]
    pub store: Option<StoreLaunch>,
    /// The way to the telemetry thread, if there is one.
    #[cfg(feature = "telemetry")]
    pub feed: Option<RecordFeed>,
    /// The core to run on, if known.
    pub core: Option<usize>,
    #[cfg(feature = "telemetry")]
    pub log: Option<LogSender>,
}

/// The arguments of a shard's thread with a store.
#[cfg(feature = "store")]
pub(crate) struct StoreLaunch {
    pub journal: JournalOptions,
    /// A core without a shard.
    pub disk_core: Option<usize>,
    pub door: ProjectionSender,
    pub recovered: RecoveredState,
    pub cancel: CancelStart,
}

/// Runs the shard's task in its own queue, the root future of an executor. Signals through `ready` when it runs.
pub(crate) async fn run_shard(launch: Launch, ready: flume::Sender<usize>) {
    if let Some(id) = launch.core {
        // If that is forbidden the kernel places the thread.
        core_affinity::set_for_current(core_affinity::CoreId { id });
    }
    let queue = glommio::executor().create_task_queue(Shares::default(), Latency::Matters(PREEMPTION), "shard");
    if let Ok(task) = glommio::spawn_local_into(drive(launch, ready), queue) {
        task.await;
    }
}

/// Runs a shard until the router leaves.
async fn drive(launch: Launch, ready: flume::Sender<usize>) {
    ON_SHARD.set(true);
    let index = launch.port.index();
    let shared = Arc::clone(&launch.shared);
    leave_waker(&shared.links[index].doorbell).await;
    // If this task panics, the others must not continue as if messages still arrived here.
    let mut guard = PanicGuard(Some((Arc::clone(&shared), index, launch.work.clone())));
    let mut driver = Driver::new(launch, index);
    driver.begin_log();
    #[cfg(feature = "store")]
    let begins = driver.begin_journal();
    #[cfg(not(feature = "store"))]
    let begins = true;
    if begins {
        let _ = ready.send(index);
    }
    drop(ready);
    driver.run().await;
    guard.0 = None;
    #[cfg(all(feature = "telemetry", feature = "wasm"))]
    crate::telemetry::logs::guests::stop_hearing();
    leave(&shared, index);
}

/// Leaves the waker, so that a stall of the executor can be ended from outside, even before the shard has parked for
/// the first time.
async fn leave_waker(doorbell: &Doorbell) {
    poll_fn(|context| {
        doorbell.arm(context.waker());
        Poll::Ready(())
    })
    .await;
    doorbell.disarm();
}

/// Cleans up the shared state of a shard as its thread's last act.
fn leave(shared: &Shared, index: usize) {
    shared.links[index].doorbell.clear();
    shared.links[index].left.store(true, Ordering::Release);
    shared.bell.hurry();
    #[cfg(feature = "telemetry")]
    if shared.links.iter().all(|link| link.left.load(Ordering::Acquire)) {
        // The telemetry thread ends also if nobody waits for it.
        shared.telemetry.bell.ring();
    }
}

/// Stops the router if a shard's thread unwinds before this is emptied.
struct PanicGuard(Option<(Arc<Shared>, usize, flume::Receiver<Job>)>);

impl Drop for PanicGuard {
    fn drop(&mut self) {
        let Some((shared, index, work)) = self.0.take() else { return };
        leave(&shared, index);
        shared.advance_to(RouterPhase::Failed);
        // Queued jobs will not be taken: dropping them tells their callers that there will be no response.
        work.drain().for_each(drop);
    }
}

struct Driver {
    shard: Shard,
    shared: Arc<Shared>,
    index: usize,
    work: flume::Receiver<Job>,
    /// The gate holders of the jobs taken in this turn; dropped when the turn's figures are published.
    holders: Vec<GateHolder>,
    clock: Clock,
    /// The time of the last turn.
    now_ns: u64,
    stage: RouterPhase,
    /// Set while the router drains, until the shard is told, which happens once it has taken all earlier jobs.
    drain_due: bool,
    inputs: VecDeque<Input>,
    outputs: Vec<Output>,
    calls: HashMap<Token, Callee>,
    inboxes: HashMap<InboxNumber, InboxLink>,
    /// Dropped inboxes whose agents go once everything queued before was taken.
    dropped_inboxes: Vec<InboxNumber>,
    subscribers: Vec<(flume::Sender<Event>, Arc<AtomicU64>)>,
    #[cfg(feature = "telemetry")]
    log: Option<LogSender>,
    spin: Duration,
    #[cfg(feature = "telemetry")]
    feed: Option<RecordFeed>,
    #[cfg(feature = "store")]
    store: Option<StoreLaunch>,
    #[cfg(feature = "store")]
    journal: Option<JournalDriver>,
    /// Missing while they are borrowed.
    wakers: Option<Wakers>,
}

impl Driver {
    fn new(launch: Launch, index: usize) -> Self {
        let Launch { config, extensions, port, work, shared, mut clock, .. } = launch;
        let spin = shared.config.drive.spin_us.as_duration();
        let own = ShardIndex(config.id_space.shard);
        let mut shard = Shard::new(config, port, clock.now());
        let _ = shared.links[index].calling.set(shard.calling());
        let mut stopwatch = clock.clone();
        shard.set_stopwatch(Box::new(move || stopwatch.now().monotonic_ns));
        #[cfg(feature = "wasm")]
        for plugin in &extensions.plugins {
            // The router's builder accepts no more of them than a shard.
            let _ = shard.add_plugin(plugin.for_shard());
        }
        if let Some(make) = extensions.failure_handlers {
            shard.set_failure_handler(make(own));
        }
        Self {
            shard,
            index,
            work,
            holders: Vec::new(),
            clock,
            now_ns: 0,
            stage: RouterPhase::Running,
            drain_due: false,
            inputs: VecDeque::new(),
            outputs: Vec::new(),
            calls: HashMap::new(),
            inboxes: HashMap::new(),
            dropped_inboxes: Vec::new(),
            subscribers: Vec::new(),
            #[cfg(feature = "telemetry")]
            log: launch.log,
            spin,
            #[cfg(feature = "telemetry")]
            feed: launch.feed,
            #[cfg(feature = "store")]
            store: launch.store,
            #[cfg(feature = "store")]
            journal: None,
            wakers: None,
            shared,
        }
    }

    /// Has the shard report what is logged, from its first turn on.
    fn begin_log(&mut self) {
        let detail = self.log_detail();
        if detail > EventDetail::Nothing {
            self.inputs.push_back(Input::WatchEvents(detail));
        }
        #[cfg(all(feature = "telemetry", feature = "wasm"))]
        if let Some(log) = &self.log {
            log.hear_guests(self.shard.calling());
        }
    }

    /// Creates the journal, and writes what an earlier run left. Nothing is served before that is on disk. Returns
    /// whether the shard can begin; if not, the journal's figures say why.
    #[cfg(feature = "store")]
    fn begin_journal(&mut self) -> bool {
        let Some(StoreLaunch { journal, disk_core, door, recovered, cancel }) = self.store.take() else { return true };
        self.shard.restore(recovered);
        // Without the mark, a message that crashes the process is handled at each start; nothing is lost.
        if let Ok(mark) = AttemptFile::create(&journal.directory) {
            self.shard.set_attempt_mark(Box::new(mark));
        }
        let figures = &self.shared.links[self.index].journal;
        match JournalDriver::begin(journal, disk_core, door, &mut self.shard, figures, &cancel) {
            Ok(journal) => {
                self.inputs.extend(journal.news());
                self.journal = Some(journal);
                true
            }
            Err(complaint) => {
                let complaints = &self.link().journal.complaint;
                *complaints.lock().unwrap_or_else(PoisonError::into_inner) = Some(complaint);
                false
            }
        }
    }

    /// Passes the shard's records to the journal, and the journal's reports to the shard. Returns whether there were
    /// any.
    #[cfg(feature = "store")]
    fn write_down(&mut self) -> bool {
        let Some(journal) = &mut self.journal else { return false };
        let now_ms = self.now_ns / 1_000_000;
        journal.write(&mut self.shard, now_ms, &self.shared.links[self.index].journal, &mut self.inputs)
    }

    fn link(&self) -> &ShardHandle {
        &self.shared.links[self.index]
    }

    async fn run(&mut self) {
        self.wakers = Some(self.make_wakers().await);
        let mut turns_left = LEAVING_TURNS_MAX;
        loop {
            let turn = self.turn();
            if self.stage >= RouterPhase::Leaving {
                turns_left -= 1;
                if turn.more && turns_left > 0 {
                    continue;
                }
                return self.hand_over();
            }
            #[cfg(feature = "store")]
            let writing = self.journal.as_ref().filter(|journal| journal.wants_looks());
            #[cfg(feature = "store")]
            let (writing, disk_needs_core) =
                (writing.is_some(), writing.is_some_and(|journal| !journal.disk_has_core()));
            #[cfg(not(feature = "store"))]
            let disk_needs_core = false;
            if turn.worked || turn.more || turn.polling && !disk_needs_core {
                // The executor has nothing else to run. Whenever it gets its turn, it may stall.
            } else if !disk_needs_core && self.spin_for_work() {
                // On with it.
            } else {
                #[cfg(feature = "store")]
                if writing {
                    self.nap_beside_disk(&turn);
                    continue;
                }
                if !self.nap(turn.next_deadline_ms) {
                    self.park(turn.next_deadline_ms).await;
                }
            }
        }
    }

    /// Stores the shard's final state for the thread that stops the router.
    fn hand_over(&mut self) {
        self.stop_agents();
        // What does not fit into an inbox is counted as not told.
        for (number, inbox) in &self.inboxes {
            self.inputs.push_back(Input::Closed(inbox.agent(), *number, Vec::new()));
        }
        for _ in 0..self.inputs.len().div_ceil(INPUTS_PER_TURN_MAX) {
            self.turn();
        }
        #[cfg(feature = "telemetry")]
        if let Some(feed) = &mut self.feed {
            feed.pass(&mut self.shard, self.now_ns, false);
        }
        #[cfg(feature = "store")]
        if let Some(journal) = self.journal.take() {
            journal.leave(&self.link().journal);
        }
        let final_state = FinalState { unfinished: self.shard.unfinished(), letters: self.shard.take_dead_letters() };
        *self.link().final_state.lock().unwrap_or_else(PoisonError::into_inner) = Some(final_state);
    }

    /// Calls the agents' `stopped`.
    fn stop_agents(&mut self) {
        let link = &self.shared.links[self.index];
        link.in_turn_since_ns.store(self.clock.now().monotonic_ns.max(1), Ordering::Relaxed);
        self.shard.stop_agents(&mut self.outputs);
        link.in_turn_since_ns.store(0, Ordering::Relaxed);
        self.hand_out();
    }

    /// Runs one turn of the shard, with all inputs and outputs.
    fn turn(&mut self) -> Turn {
        self.follow_stage();
        self.take_work();
        self.look_at_attention();
        #[cfg(feature = "telemetry")]
        self.give_details();
        let now = self.clock.now();
        self.now_ns = now.monotonic_ns;
        let link = &self.shared.links[self.index];
        // If the shard stalls, this tells since when.
        link.in_turn_since_ns.store(now.monotonic_ns.max(1), Ordering::Relaxed);
        let turn = self.shard.step(now, &mut self.inputs, &mut self.outputs);
        link.in_turn_since_ns.store(0, Ordering::Relaxed);
        for shard in self.shard.flush() {
            self.shared.ring(*shard);
        }
        let link = &self.shared.links[self.index];
        // A caller that gets its response finds the figures already updated.
        if turn.worked {
            link.published.write(&self.shard.snapshot());
        }
        let turns = link.turns.load(Ordering::Relaxed);
        link.turns.store(turns + 1, Ordering::Relaxed);
        #[cfg(feature = "telemetry")]
        if let Some(feed) = &mut self.feed {
            feed.pass(&mut self.shard, self.now_ns, turn.worked);
        }
        #[cfg(feature = "store")]
        self.write_down();
        self.hand_out();
        self.report_quiet();
        self.holders.clear();
        turn
    }

    /// Follows the router's phase.
    fn follow_stage(&mut self) {
        let stage = self.shared.phase();
        if stage == self.stage {
            return;
        }
        if stage >= RouterPhase::Draining && self.stage < RouterPhase::Draining {
            self.drain_due = true;
        }
        if stage >= RouterPhase::Stopping && self.stage < RouterPhase::Stopping {
            self.drain_due = false;
            self.take_all_work();
            // Queued inputs are answered, but not begun any more.
            self.inputs.push_front(Input::Stop);
            // Inboxes return what was not taken out of them. They stay open for the router's notices.
            for (number, inbox) in &mut self.inboxes {
                inbox.end_acknowledging();
                self.inputs.extend(inbox.taken(*number));
                self.inputs.push_back(Input::Returned(inbox.agent(), *number, inbox.take_back()));
            }
        }
        self.stage = stage;
    }

    /// Reports that this shard has nothing left to do, to the thread that stops the router.
    fn report_quiet(&mut self) {
        if self.stage == RouterPhase::Running {
            return;
        }
        // A full disk does not prevent stopping: what waits for it was not acknowledged.
        let taken_in = self.inputs.is_empty() && self.work.is_empty() && !self.drain_due;
        #[cfg(feature = "store")]
        let taken_in = taken_in && self.is_written();
        let quiet = if taken_in && self.shard.is_quiet() { self.stage as u8 } else { 0 };
        let link = self.link();
        if link.quiet.swap(quiet, Ordering::AcqRel) != quiet {
            link.published.write(&self.shard.snapshot());
            self.shared.notify();
        }
    }

    /// Whether everything that a stop waits for is on disk. A full disk keeps nobody from stopping: what waits for it was
    /// acknowledged to nobody.
    #[cfg(feature = "store")]
    fn is_written(&self) -> bool {
        let stops = self.stage >= RouterPhase::Stopping;
        self.journal.as_ref().is_none_or(|journal| !journal.is_busy() || stops && journal.is_stuck())
    }

    fn take_work(&mut self) {
        while self.inputs.len() < WORK_PER_TURN_MAX {
            let Ok(entry) = self.work.try_recv() else { break };
            self.take(entry);
        }
        // What was queued before the router began to stop is handled like everything else.
        if self.drain_due && self.inputs.is_empty() && self.work.is_empty() {
            self.drain_due = false;
            self.inputs.push_back(Input::Drain);
        }
    }

    /// Takes everything that is queued: at the end so that it is answered, and what comes before the end of an agent.
    fn take_all_work(&mut self) {
        while let Ok(entry) = self.work.try_recv() {
            self.take(entry);
        }
    }

    fn take(&mut self, Job { work, holder }: Job) {
        self.holders.extend(holder);
        match work {
            Work::Tell(message) => self.inputs.push_back(Input::Tell(message)),
            Work::TellAll(messages) => self.inputs.extend(messages.into_iter().map(Input::Tell)),
            Work::Call(call) => self.begin(call),
            Work::Subscribe(events, lost) => {
                self.subscribers.push((events, lost));
                self.inputs.push_back(Input::WatchEvents(EventDetail::Everything));
            }
            #[cfg(feature = "cluster")]
            Work::Inputs(inputs) => self.inputs.extend(inputs),
            Work::Held(held) => {
                if let Some(entry) = held.take() {
                    self.take(entry);
                }
            }
        }
    }

    /// Begins a call, unless its caller has given up.
    fn begin(&mut self, call: Callee) {
        let Some(Request { input, token, inbox, holder }) = call.begin() else { return };
        self.holders.push(holder);
        self.calls.insert(token, call);
        if matches!(input, Input::Register(..)) {
            // The names of agents whose inboxes were dropped before the call was queued are free for it.
            if self.link().attention.load(Ordering::Acquire) {
                self.look_at_inboxes();
            }
            self.close_dropped_inboxes();
        }
        if let Some((number, inbox)) = inbox {
            self.inboxes.insert(number, inbox);
            // Its owner may have given up already, when there was nothing to examine yet.
            self.link().touch(number);
        }
        self.inputs.push_back(input);
    }

    /// Handles changes made by other threads: messages taken from inboxes, and dropped inboxes, calls and
    /// subscriptions.
    fn look_at_attention(&mut self) {
        let attention = &self.shared.links[self.index].attention;
        if !attention.load(Ordering::Relaxed) || !attention.swap(false, Ordering::AcqRel) {
            return;
        }
        self.look_at_inboxes();
        if !self.dropped_inboxes.is_empty() {
            // What was queued in the names of their agents before is admitted.
            self.take_all_work();
            self.close_dropped_inboxes();
        }
        if let Some(live) = self.link().take_config() {
            // Before everything that was asked for after it was left.
            self.inputs.push_front(Input::Reconfigure(Box::new(live), None));
        }
        self.forget_calls();
        self.forget_subscribers();
    }

    /// Handles what the owners of inboxes have done.
    fn look_at_inboxes(&mut self) {
        for number in self.shared.links[self.index].take_touched() {
            let Some(inbox) = self.inboxes.get_mut(&number) else { continue };
            inbox.look();
            if inbox.is_closed() {
                self.dropped_inboxes.push(number);
            } else {
                self.inputs.extend(inbox.taken(number));
            }
        }
    }

    fn close_dropped_inboxes(&mut self) {
        for number in std::mem::take(&mut self.dropped_inboxes) {
            if let Some(inbox) = self.inboxes.remove(&number) {
                close(inbox, number, &mut self.inputs);
            }
        }
    }

    /// Gathers the figures that another thread has asked for.
    #[cfg(feature = "telemetry")]
    fn give_details(&mut self) {
        let details = &self.shared.links[self.index].details;
        if details.are_wanted() {
            if details.take_states_wanted() {
                self.shard.count_states();
            }
            details.give(self.shard.details());
            self.shared.notify();
        }
    }

    /// Forgets the calls that nobody waits for any more.
    fn forget_calls(&mut self) {
        let mut given_up: HashSet<Token> = self.link().take_given_up().into_iter().collect();
        given_up.retain(|token| self.calls.remove(token).is_some());
        if given_up.is_empty() {
            return;
        }
        // Inputs that the shard has not examined yet need not be begun.
        self.inputs.retain(|input| !input.token().is_some_and(|token| given_up.remove(&token)));
        if !given_up.is_empty() {
            self.inputs.push_back(Input::Cancel(given_up.into_iter().collect()));
        }
    }

    /// Returns which events are logged.
    #[cfg_attr(
        not(feature = "telemetry"),
        expect(clippy::unused_self, reason = "only with the feature there is a log")
    )]
    fn log_detail(&self) -> EventDetail {
        #[cfg(feature = "telemetry")]
        if let Some(log) = &self.log {
            return log.detail();
        }
        EventDetail::Nothing
    }

    /// Forgets dropped subscribers.
    fn forget_subscribers(&mut self) {
        let before = self.subscribers.len();
        self.subscribers.retain(|(subscriber, _)| !subscriber.is_disconnected());
        if self.subscribers.is_empty() && before > 0 {
            self.inputs.push_back(Input::WatchEvents(self.log_detail()));
        }
    }

    /// Delivers the shard's outputs.
    fn hand_out(&mut self) {
        for output in self.outputs.drain(..) {
            match output {
                Output::Answer(token, answer) => {
                    if let Some(call) = self.calls.remove(&token) {
                        call.answer(answer);
                    }
                }
                Output::Deliver(number, message) => {
                    // The shard sends no more than the inbox has room for. An inbox dropped at this very moment keeps
                    // the message until its leftovers are returned.
                    if let Some(inbox) = self.inboxes.get_mut(&number) {
                        inbox.put(message);
                    } else if let Some(leftovers) = leftovers_of(&mut self.inputs, number) {
                        leftovers.push(message);
                    }
                }
                Output::CloseInbox(number) => {
                    if let Some(inbox) = self.inboxes.remove(&number) {
                        close(inbox, number, &mut self.inputs);
                    }
                }
                Output::InboxEnded(number) => {
                    // Its owner can still read what it was given, and then learns that nothing follows.
                    if let Some(mut inbox) = self.inboxes.remove(&number) {
                        inbox.end_acknowledging();
                    }
                }
                #[cfg(feature = "cluster")]
                Output::Wanted(agent) => self.shared.wanted.add(agent),
                #[cfg(not(feature = "cluster"))]
                Output::Wanted(_) => {}
                Output::Event(event) => {
                    #[cfg(feature = "telemetry")]
                    if let Some(log) = &self.log {
                        log.event(&event, |agent| self.shard.remembered_name_of(agent));
                    }
                    for (subscriber, lost) in &self.subscribers {
                        if subscriber.try_send(event.clone()).is_err() {
                            lost.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                }
            }
        }
    }
}

/// Closes an inbox: its shard learns of what was processed, and gets back everything else. From then on it is too late to
/// acknowledge anything.
fn close(mut inbox: InboxLink, number: InboxNumber, inputs: &mut VecDeque<Input>) {
    inbox.end_acknowledging();
    inputs.extend(inbox.taken(number));
    inputs.push_back(Input::Closed(inbox.agent(), number, inbox.leftovers()));
}

/// Returns the contents of a dropped inbox, as long as the shard does not know of the drop.
fn leftovers_of(inputs: &mut VecDeque<Input>, number: InboxNumber) -> Option<&mut Vec<Message>> {
    inputs.iter_mut().find_map(|input| match input {
        Input::Closed(_, closed, leftovers) if *closed == number => Some(leftovers),
        _ => None,
    })
}

/// Configures an executor's preemption timer and ring.
///
/// The shard pins its thread itself: glommio's placement reads the machine's topology from /sys, and panics if
/// something is missing there, as in some containers.
pub(crate) fn executor(index: usize) -> glommio::LocalExecutorBuilder {
    /// The preemption timer for everything but the shard's task: long enough to be none. Nobody could wake an executor
    /// that stalls before that task has run for the first time.
    const PREEMPTION_AT_START: Duration = Duration::from_mins(1);
    /// Registered memory for I/O, in bytes: what the shard needs without a store.
    const IO_MEMORY: usize = 1 << 20;
    glommio::LocalExecutorBuilder::new(glommio::Placement::Unbound)
        .name(&format!("caxton-shard-{index}"))
        .preempt_timer(PREEMPTION_AT_START)
        .io_memory(IO_MEMORY)
}
