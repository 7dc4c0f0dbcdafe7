//! State shared by a shard's thread and the rest of the process: the inbound channel, the doorbell, and published
//! figures.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

#[cfg(feature = "telemetry")]
use caxton_shards::api::Details;
#[cfg(feature = "cluster")]
use caxton_shards::api::Input;
use caxton_shards::api::{Event, InboxNumber, LiveConfig, Snapshot, Token, Unfinished, UnresponsiveError};
use caxton_shards::dead_letter::{DeadLetter, DeadLetterReason};
use caxton_shards::mesh::doorbell::Doorbell;
use caxton_shards::message::Message;
use caxton_shards::routing::partition::{Partition, ShardIndex};
use caxton_shards::stats::Calling;
use crossbeam::utils::CachePadded;

use crate::call::Callee;
use crate::config::Config;
use crate::deadline::Deadlines;
#[cfg(feature = "telemetry")]
use crate::edge::EdgeFigures;
#[cfg(feature = "store")]
use crate::store::projector::ProjectionFigures;
#[cfg(feature = "telemetry")]
use crate::telemetry::health::HealthMonitor;
#[cfg(feature = "telemetry")]
use crate::telemetry::logs::LogSender;
#[cfg(feature = "telemetry")]
use crate::telemetry::state::TelemetryState;
use crate::watchdog::WatchdogHandle;

/// Number of messages of a batch that count as one entry in the inbound channel.
pub(crate) const BATCH_MESSAGES_MAX: usize = 10_000;

/// A shard that has been in one turn for this long counts as stalled, for calls whose deadline is over.
const STANDS_STILL: Duration = Duration::from_millis(10);

/// A shard that has been in one turn for this long is blocked. Together with the watchdog's longest interval it is
/// reported within a second.
const BLOCKED_AFTER: Duration = Duration::from_millis(500);

/// What enters a shard from other threads.
pub(crate) enum Work {
    /// A message to admit.
    Tell(Message),
    /// Messages to admit.
    TellAll(Vec<Message>),
    /// A request, and where its response goes.
    Call(Callee),
    /// A new subscriber of events.
    Subscribe(flume::Sender<Event>, Arc<AtomicU64>),
    /// Inputs that need no response.
    #[cfg(feature = "cluster")]
    Inputs(Vec<Input>),
    /// An entry that its caller, who waits for room, may still take back.
    Held(Held),
}

/// Work on its way into a shard.
pub(crate) struct Job {
    pub work: Work,
    /// `None` for work that brings its own.
    pub holder: Option<GateHolder>,
}

/// An entry that the shard takes or its caller takes back.
#[derive(Clone)]
pub(crate) struct Held(Arc<Mutex<Option<Job>>>);

impl Held {
    pub fn new(entry: Job) -> Self {
        Self(Arc::new(Mutex::new(Some(entry))))
    }

    pub fn take(&self) -> Option<Job> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Counts the work on its way into a shard: from before its caller checks that the router still runs, to the end of the
/// turn that takes it. A stopping router thereby knows when nothing more will arrive.
pub(crate) struct Gate(Arc<()>);

/// Represents one piece of work on its way in.
pub(crate) struct GateHolder(#[expect(dead_code, reason = "what counts is how many there are")] Arc<()>);

impl Gate {
    pub fn new() -> Self {
        Self(Arc::new(()))
    }

    /// Enters the gate. Call it before checking the router's phase.
    #[inline]
    pub fn enter(&self) -> GateHolder {
        let holder = GateHolder(Arc::clone(&self.0));
        // Pairs with the fence in `is_empty`: either the caller sees that the router stops, or the stopping thread sees
        // the holder.
        fence(Ordering::SeqCst);
        holder
    }

    /// Returns the number of pieces of work on their way in.
    pub fn inside(&self) -> usize {
        Arc::strong_count(&self.0) - 1
    }

    /// Whether nothing is, or ever will be, on its way in. Call it after the router's phase has advanced.
    pub fn is_empty(&self) -> bool {
        fence(Ordering::SeqCst);
        let empty = Arc::strong_count(&self.0) == 1;
        // What the shard did with the last work before it dropped the holder is visible from here on.
        fence(Ordering::Acquire);
        empty
    }
}

/// The phase of a router's life.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub(crate) enum RouterPhase {
    /// Everything is allowed.
    Running,
    /// Nothing more is admitted; pending messages are handled.
    Draining,
    /// Pending messages are given up.
    Stopping,
    /// The shards leave together.
    Leaving,
    /// A shard's thread has panicked, so that no state can be relied on.
    Failed,
}

impl RouterPhase {
    const ALL: [Self; 5] = [Self::Running, Self::Draining, Self::Stopping, Self::Leaving, Self::Failed];
}

/// What a stopped shard hands over.
pub(crate) struct FinalState {
    pub unfinished: Unfinished,
    /// Its dead letters, oldest first.
    pub letters: Vec<DeadLetter>,
}

/// A shard as seen by other threads.
pub(crate) struct ShardHandle {
    pub work: flume::Sender<Job>,
    pub gate: Gate,
    pub doorbell: Doorbell,
    pub published: Published,
    /// The number of turns, which the watchdog observes.
    pub turns: CachePadded<AtomicU64>,
    /// The number of times it parked: while no shard parks, the watchdog checks less often, or sleeps.
    pub parks: AtomicU64,
    /// When a parked shard wakes by itself, in milliseconds of monotonic time; `u64::MAX` if it does not.
    pub wakes_at_ms: AtomicU64,
    /// Whether a shard whose doorbell is armed only naps, and is not parked.
    pub naps: AtomicBool,
    /// When the current turn began, in nanoseconds of monotonic time; zero between turns.
    pub in_turn_since_ns: CachePadded<AtomicU64>,
    /// Set when another thread released something: an inbox of this shard was read from or closed, a call was given up,
    /// a subscription dropped.
    pub attention: CachePadded<AtomicBool>,
    /// The inboxes that were read from or closed. Each is there at most twice, once for its opening and once for a change
    /// that the shard has not looked at, so that their number is bounded by that of the inboxes.
    touched: Mutex<Vec<InboxNumber>>,
    /// A configuration that the shard has not taken over.
    new_config: Mutex<Option<LiveConfig>>,
    /// Calls that the shard has begun and nobody waits for any more. There are no more of them than the shard has
    /// begun.
    given_up: Mutex<Vec<Token>>,
    /// The deadlines of the calls to this shard.
    pub deadlines: Deadlines,
    /// The agent that the shard is calling, once it has begun.
    pub calling: OnceLock<Arc<Calling>>,
    /// The number of times it was blocked.
    pub times_blocked: AtomicU64,
    /// The phase in which the shard has nothing left to do.
    pub quiet: AtomicU8,
    /// What the shard leaves when it has ended.
    pub final_state: Mutex<Option<FinalState>>,
    /// Whether the shard's thread needs nothing more from others.
    pub left: AtomicBool,
    /// The figures of the shard's journal.
    #[cfg(feature = "store")]
    pub journal: JournalFigures,
    /// Figures that the shard gathers on request.
    #[cfg(feature = "telemetry")]
    pub details: DetailsOnRequest,
}

impl ShardHandle {
    /// Creates the handle of a shard that has not begun.
    pub fn new(work: flume::Sender<Job>) -> Self {
        Self {
            work,
            gate: Gate::new(),
            doorbell: Doorbell::new(),
            published: Published::new(),
            turns: CachePadded::new(AtomicU64::new(0)),
            parks: AtomicU64::new(0),
            wakes_at_ms: AtomicU64::new(u64::MAX),
            naps: AtomicBool::new(false),
            in_turn_since_ns: CachePadded::new(AtomicU64::new(0)),
            attention: CachePadded::new(AtomicBool::new(false)),
            touched: Mutex::default(),
            new_config: Mutex::default(),
            given_up: Mutex::default(),
            deadlines: Deadlines::default(),
            calling: OnceLock::new(),
            times_blocked: AtomicU64::new(0),
            quiet: AtomicU8::new(0),
            final_state: Mutex::new(None),
            left: AtomicBool::new(false),
            #[cfg(feature = "store")]
            journal: JournalFigures::default(),
            #[cfg(feature = "telemetry")]
            details: DetailsOnRequest::default(),
        }
    }

    /// Records that nobody waits for the response to a call any more. The shard must be rung afterwards.
    pub fn give_up(&self, token: Token) {
        self.given_up.lock().unwrap_or_else(PoisonError::into_inner).push(token);
        self.attention.store(true, Ordering::Release);
    }

    /// Leaves a configuration for the shard, in place of an earlier one that it has not taken over. The shard must be rung
    /// afterwards.
    pub fn leave(&self, live: LiveConfig) {
        self.new_config.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_default().take_over(live);
        self.attention.store(true, Ordering::Release);
    }

    /// Takes the configuration that was left for the shard.
    pub fn take_config(&self) -> Option<LiveConfig> {
        self.new_config.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Records that an inbox was read from or closed. The shard must be rung afterwards.
    pub fn touch(&self, inbox: InboxNumber) {
        self.touched.lock().unwrap_or_else(PoisonError::into_inner).push(inbox);
        self.attention.store(true, Ordering::Release);
    }

    /// Takes the inboxes touched since the last time.
    pub fn take_touched(&self) -> Vec<InboxNumber> {
        std::mem::take(&mut *self.touched.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes the calls given up since the last time.
    pub fn take_given_up(&self) -> Vec<Token> {
        std::mem::take(&mut *self.given_up.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The figures of a shard's journal, for other threads.
#[cfg(feature = "store")]
#[derive(Default)]
pub(crate) struct JournalFigures {
    pub commits: AtomicU64,
    pub written_bytes: AtomicU64,
    pub records: AtomicU64,
    /// Why it accepts nothing, if so.
    pub complaint: Mutex<Option<String>>,
    /// Whether that is so until the router is restarted.
    pub failed: AtomicBool,
    /// Whether everything was written and the journal was closed.
    pub closed: AtomicBool,
    /// The numbers of the first and the last segment in use.
    segments: [AtomicU64; 2],
    /// Whether files that are needed have disappeared.
    lost: AtomicBool,
    lost_what: Mutex<Option<String>>,
    /// The database that shows its contents.
    pub projection: ProjectionFigures,
}

/// Subscribers of a router's events, each with the number of events it lost.
#[derive(Default)]
pub(crate) struct Subscribers {
    list: Mutex<Vec<(flume::Sender<Event>, Arc<AtomicU64>)>>,
    #[cfg(feature = "telemetry")]
    log: Mutex<Option<LogSender>>,
}

impl Subscribers {
    pub fn add(&self, events: flume::Sender<Event>, lost: Arc<AtomicU64>) {
        self.list.lock().unwrap_or_else(PoisonError::into_inner).push((events, lost));
    }

    /// Removes dropped subscribers.
    pub fn forget_gone(&self) {
        let mut subscribers = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        subscribers.retain(|(subscriber, _)| !subscriber.is_disconnected());
    }

    /// Sends the events to the log too.
    #[cfg(feature = "telemetry")]
    pub fn log_to(&self, log: LogSender) {
        *self.log.lock().unwrap_or_else(PoisonError::into_inner) = Some(log);
    }

    /// Removes all subscribers and the log, which ends their streams.
    pub fn clear(&self) {
        self.list.lock().unwrap_or_else(PoisonError::into_inner).clear();
        #[cfg(feature = "telemetry")]
        {
            *self.log.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }

    pub fn tell(&self, event: &Event) {
        #[cfg(feature = "telemetry")]
        if let Some(log) = &*self.log.lock().unwrap_or_else(PoisonError::into_inner) {
            log.event(event, |_| None);
        }
        for (subscriber, lost) in &*self.list.lock().unwrap_or_else(PoisonError::into_inner) {
            if subscriber.try_send(event.clone()).is_err() {
                lost.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

#[cfg(feature = "store")]
impl JournalFigures {
    /// Records which segments are in use.
    pub fn set_segments(&self, (first, last): (u64, u64)) {
        self.segments[0].store(first, Ordering::Relaxed);
        self.segments[1].store(last, Ordering::Relaxed);
    }

    /// Returns the numbers of the segments in use, as of a recent moment. There are none before the first one is
    /// written.
    pub fn segments(&self) -> std::ops::RangeInclusive<u64> {
        let [first, last] = [0, 1].map(|end: usize| self.segments[end].load(Ordering::Relaxed));
        first.max(1)..=last
    }

    /// Tells the shard that files it needs have disappeared.
    pub fn lose(&self, what: String) {
        *self.lost_what.lock().unwrap_or_else(PoisonError::into_inner) = Some(what);
        self.lost.store(true, Ordering::Release);
    }

    /// Whether files that are needed have disappeared.
    pub fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Relaxed)
    }

    /// Takes the description of those files; it is returned once.
    pub fn take_lost(&self) -> Option<String> {
        self.lost_what.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Figures that a shard gathers when another thread has asked for them.
#[cfg(feature = "telemetry")]
#[derive(Default)]
pub(crate) struct DetailsOnRequest {
    wanted: CachePadded<AtomicBool>,
    /// Whether the states of conversations are to be counted too.
    states_wanted: AtomicBool,
    latest: Mutex<Arc<Details>>,
}

#[cfg(feature = "telemetry")]
impl DetailsOnRequest {
    /// Asks for newer figures. The shard must be rung afterwards.
    pub fn want(&self) {
        self.wanted.store(true, Ordering::Release);
    }

    /// Asks for a newer count of conversations by state, with the next figures.
    pub fn want_states(&self) {
        self.states_wanted.store(true, Ordering::Release);
    }

    /// Whether such a count was asked for since the last time.
    pub fn take_states_wanted(&self) -> bool {
        self.states_wanted.swap(false, Ordering::AcqRel)
    }

    /// Whether the shard was asked and has not answered yet.
    #[inline]
    pub fn are_wanted(&self) -> bool {
        self.wanted.load(Ordering::Acquire)
    }

    /// Publishes figures. Only the shard's thread may call this.
    pub fn give(&self, details: Details) {
        *self.latest.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(details);
        self.wanted.store(false, Ordering::Release);
    }

    /// Returns the figures given last.
    pub fn latest(&self) -> Arc<Details> {
        Arc::clone(&self.latest.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// State shared by all shards of a router.
pub(crate) struct Shared {
    pub links: Vec<ShardHandle>,
    pub partition: Partition,
    pub config: Config,
    pub bell: WatchdogHandle,
    /// The origin of monotonic time.
    start: Instant,
    /// Distinguishes this run of the router from all others.
    #[cfg(feature = "cluster")]
    pub boot_epoch: AtomicU64,
    /// Whether the router has a place in a cluster, or had one.
    #[cfg(feature = "cluster")]
    pub has_place_in_cluster: AtomicBool,
    /// The number of times the watchdog had to wake a stalled shard.
    pub watchdog_wakes: AtomicU64,
    stage: AtomicU8,
    changed: (Mutex<()>, Condvar),
    /// Subscribers to events that the shards cannot report themselves. The shards have lists of their own.
    pub subscribers: Subscribers,
    tokens: AtomicU64,
    /// Counts the work that any shard can do.
    rotation: AtomicUsize,
    inboxes: AtomicU32,
    /// What the telemetry thread finds out.
    #[cfg(feature = "telemetry")]
    pub telemetry: Arc<TelemetryState>,
    /// The health of the router's parts.
    #[cfg(feature = "telemetry")]
    pub health: HealthMonitor,
    /// The figures of the thread that serves HTTP.
    #[cfg(feature = "telemetry")]
    pub edge: Arc<EdgeFigures>,
    /// The figures of the door for clients of NATS.
    #[cfg(feature = "serve")]
    pub nats: Arc<crate::edge::NatsFigures>,
    /// The agents that are looked for on other nodes.
    #[cfg(feature = "cluster")]
    pub wanted: crate::router::remote::WantedAgents,
    /// What the node knows of its cluster, as long as it is in one.
    #[cfg(feature = "cluster")]
    cluster: Mutex<std::sync::Weak<crate::cluster::SharedView>>,
    /// The databases of the shards, once they are written.
    #[cfg(all(feature = "store", feature = "telemetry"))]
    pub databases: OnceLock<Vec<std::path::PathBuf>>,
    /// The routing plugins: those of the settings, and behind them those of the program.
    #[cfg(feature = "wasm")]
    plugins: Mutex<Arc<[crate::wasm::Plugin]>>,
}

impl Shared {
    pub fn new(
        links: Vec<ShardHandle>,
        partition: Partition,
        config: Config,
        bell: WatchdogHandle,
        start: Instant,
    ) -> Self {
        #[cfg(feature = "telemetry")]
        let telemetry = Arc::new(TelemetryState::new(crate::telemetry::threshold(&config)));
        Self {
            links,
            start,
            partition,
            config,
            bell,
            #[cfg(feature = "cluster")]
            boot_epoch: AtomicU64::new(0),
            #[cfg(feature = "cluster")]
            has_place_in_cluster: AtomicBool::new(false),
            watchdog_wakes: AtomicU64::new(0),
            stage: AtomicU8::new(RouterPhase::Running as u8),
            changed: (Mutex::new(()), Condvar::new()),
            subscribers: Subscribers::default(),
            tokens: AtomicU64::new(1),
            rotation: AtomicUsize::new(0),
            inboxes: AtomicU32::new(0),
            #[cfg(feature = "telemetry")]
            telemetry,
            #[cfg(feature = "telemetry")]
            health: HealthMonitor::default(),
            #[cfg(feature = "telemetry")]
            edge: Arc::default(),
            #[cfg(feature = "serve")]
            nats: Arc::default(),
            #[cfg(feature = "cluster")]
            wanted: crate::router::remote::WantedAgents::default(),
            #[cfg(feature = "cluster")]
            cluster: Mutex::default(),
            #[cfg(all(feature = "store", feature = "telemetry"))]
            databases: OnceLock::new(),
            #[cfg(feature = "wasm")]
            plugins: Mutex::new(Arc::from([])),
        }
    }

    /// Returns the routing plugins: those of the settings, and behind them those of the program.
    #[cfg(feature = "wasm")]
    pub fn plugins(&self) -> Arc<[crate::wasm::Plugin]> {
        Arc::clone(&self.plugins.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Sets the routing plugins. The shards are told apart from that.
    #[cfg(feature = "wasm")]
    pub fn set_plugins(&self, plugins: Vec<crate::wasm::Plugin>) {
        *self.plugins.lock().unwrap_or_else(PoisonError::into_inner) = plugins.into();
    }

    /// Shows what the node knows of its cluster, until it leaves it.
    #[cfg(feature = "cluster")]
    pub fn show_cluster(&self, view: &Arc<crate::cluster::SharedView>) {
        *self.cluster.lock().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(view);
    }

    /// Returns what the node knows of its cluster, if it is in one.
    #[cfg(feature = "cluster")]
    pub fn cluster(&self) -> Option<crate::cluster::Look> {
        let view = self.cluster.lock().unwrap_or_else(PoisonError::into_inner).upgrade();
        view.map(|view| view.look(Instant::now()))
    }

    pub fn phase(&self) -> RouterPhase {
        RouterPhase::ALL[usize::from(self.stage.load(Ordering::Acquire))]
    }

    /// Advances to a later phase, and tells every shard. Going back is impossible.
    pub fn advance_to(&self, stage: RouterPhase) {
        self.stage.fetch_max(stage as u8, Ordering::AcqRel);
        for shard in 0..self.links.len() {
            self.ring(shard);
        }
        self.notify();
    }

    /// Wakes a shard if it sleeps, and the watchdog with it, unless the shard only naps: that cannot stall.
    #[inline]
    pub fn ring(&self, shard: usize) {
        let link = &self.links[shard];
        if link.doorbell.ring() && !link.naps.load(Ordering::Relaxed) {
            self.bell.ring();
        }
    }

    /// Returns the monotonic time of the shards.
    pub fn running_for(&self) -> Duration {
        self.start.elapsed()
    }

    /// Returns how long a shard has been in its current turn, if it is in one.
    pub fn in_turn_for(&self, shard: usize) -> Option<Duration> {
        let since_ns = self.links[shard].in_turn_since_ns.load(Ordering::Relaxed);
        (since_ns > 0).then(|| self.running_for().saturating_sub(Duration::from_nanos(since_ns)))
    }

    /// Returns the shard that keeps a call to `asked` from ending in time: a stalled shard, or else the one that was
    /// asked. That one may wait for another one, such as for the journal of the receiver's shard.
    pub fn unresponsive(&self, asked: usize, may_have_changed: bool) -> UnresponsiveError {
        let index = |shard| ShardIndex(u16::try_from(shard).unwrap_or(u16::MAX));
        let mut shards = std::iter::once(asked).chain(0..self.links.len()).map(index);
        let shard = shards.find(|shard| self.stands_still(*shard)).unwrap_or(index(asked));
        let agent = self.called_agent(shard).filter(|_| self.stands_still(shard));
        UnresponsiveError { shard, may_have_changed, agent }
    }

    /// Returns the name of the agent that a shard is calling, if any.
    pub fn called_agent(&self, shard: ShardIndex) -> Option<Arc<str>> {
        self.links[shard.as_usize()].calling.get()?.agent()
    }

    /// Whether a shard is blocked.
    pub fn is_blocked(&self, shard: usize) -> bool {
        self.in_turn_for(shard).is_some_and(|time| time >= BLOCKED_AFTER)
    }

    /// Whether a shard has been in its current turn for long.
    pub fn stands_still(&self, shard: ShardIndex) -> bool {
        self.in_turn_for(shard.as_usize()).is_some_and(|time| time >= STANDS_STILL)
    }

    /// Returns a shard for work that any can do, in rotation.
    pub fn next_shard(&self) -> usize {
        self.rotation.fetch_add(1, Ordering::Relaxed) % self.links.len()
    }

    pub fn next_token(&self) -> Token {
        Token(self.tokens.fetch_add(1, Ordering::Relaxed))
    }

    pub fn next_inbox(&self) -> InboxNumber {
        InboxNumber(self.inboxes.fetch_add(1, Ordering::Relaxed))
    }

    /// Wakes the waiters in [`Shared::wait_until`].
    pub fn notify(&self) {
        let _guard = self.changed.0.lock().unwrap_or_else(PoisonError::into_inner);
        self.changed.1.notify_all();
    }

    /// Waits until `condition` holds, checking it whenever a shard reports something. Returns whether it held before
    /// the deadline, which may move earlier meanwhile.
    pub fn wait_until(&self, deadline: impl Fn() -> Instant, mut condition: impl FnMut() -> bool) -> bool {
        /// A shard that became busy again does not report that, so the condition is also checked at this interval.
        const LOOK_AGAIN: Duration = Duration::from_millis(20);
        let mut guard = self.changed.0.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if condition() {
                return true;
            }
            let left = deadline().saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let waited = self.changed.1.wait_timeout(guard, left.min(LOOK_AGAIN));
            guard = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// A shard's figures where other threads can read them: written by the shard alone, at the end of a turn.
///
/// A sequence lock over atomics: the sequence is odd while the shard writes. A reader that meets a writer reads again,
/// so its result is consistent.
pub(crate) struct Published {
    sequence: CachePadded<AtomicU64>,
    figures: [AtomicU64; Snapshot::WORDS],
    reasons: [AtomicU64; DeadLetterReason::COUNT],
}

impl Published {
    pub fn new() -> Self {
        Self {
            sequence: CachePadded::new(AtomicU64::new(0)),
            figures: [const { AtomicU64::new(0) }; Snapshot::WORDS],
            reasons: [const { AtomicU64::new(0) }; DeadLetterReason::COUNT],
        }
    }

    /// Publishes a shard's figures. Only that shard's thread may call this.
    pub fn write(&self, snapshot: &Snapshot) {
        let sequence = self.sequence.load(Ordering::Relaxed);
        self.sequence.store(sequence + 1, Ordering::Relaxed);
        fence(Ordering::Release);
        for (cell, value) in self.figures.iter().zip(snapshot.to_words()) {
            cell.store(value, Ordering::Relaxed);
        }
        if snapshot.account.dead_lettered > 0 {
            for (cell, value) in self.reasons.iter().zip(snapshot.account.dead_by_reason) {
                cell.store(value, Ordering::Relaxed);
            }
        }
        self.sequence.store(sequence + 2, Ordering::Release);
    }

    /// Returns the figures at the end of a recent turn.
    pub fn read(&self) -> Snapshot {
        loop {
            let before = self.sequence.load(Ordering::Acquire);
            let figures: [u64; Snapshot::WORDS] =
                std::array::from_fn(|index| self.figures[index].load(Ordering::Relaxed));
            let reasons = std::array::from_fn(|index| self.reasons[index].load(Ordering::Relaxed));
            fence(Ordering::Acquire);
            if before.is_multiple_of(2) && self.sequence.load(Ordering::Relaxed) == before {
                return Snapshot::from_words(&figures, reasons);
            }
            std::hint::spin_loop();
        }
    }
}
