//! What a shard's thread and the rest of the process share: the way in, the doorbell, and published figures.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering, fence};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use caxton_shards::api::{Event, InboxNumber, Snapshot, Token, Unfinished, UnresponsiveError};
use caxton_shards::dead_letter::{DeadLetter, DeadLetterReason};
use caxton_shards::mesh::doorbell::Doorbell;
use caxton_shards::message::Message;
use caxton_shards::routing::partition::{Partition, ShardIndex};
use caxton_shards::stats::Calling;
use crossbeam::utils::CachePadded;

use crate::call::Callee;
use crate::config::Config;
use crate::deadline::Deadlines;
#[cfg(feature = "store")]
use crate::store::projector::ProjectionFigures;
use crate::watchdog::WatchdogHandle;

/// How many entries of a batch count as one place in the inbound channel.
pub(crate) const BATCH_MESSAGES_MAX: usize = 10_000;

/// A shard that has been in one turn for so long counts as one that stands still, for calls whose deadline is over.
const STANDS_STILL: Duration = Duration::from_millis(10);

/// A shard that has been in one turn for so long is blocked. With the longest time between two looks of the watchdog it is
/// reported within a second.
const BLOCKED_AFTER: Duration = Duration::from_millis(500);

/// What enters a shard from other threads.
pub(crate) enum Work {
    /// A message to admit.
    Tell(Message),
    /// Messages to admit.
    TellAll(Vec<Message>),
    /// Something to do, and where the answer goes.
    Call(Callee),
    /// Events go here from now on.
    Subscribe(flume::Sender<Event>, Arc<AtomicU64>),
    /// What its caller, who waits for room, may still take back.
    Held(Held),
}

/// Work on its way into a shard.
pub(crate) struct Job {
    pub work: Work,
    /// None for what brings its own.
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

/// Counts what is on its way into a shard: from before its caller looks whether the router still runs, to the end of
/// the turn that takes it in. So a stopping router knows when nothing more will come.
pub(crate) struct Gate(Arc<()>);

/// Stands for one piece of work on its way in.
pub(crate) struct GateHolder(#[expect(dead_code, reason = "what counts is how many there are")] Arc<()>);

impl Gate {
    pub fn new() -> Self {
        Self(Arc::new(()))
    }

    /// To be called before looking at the router's stage.
    #[inline]
    pub fn enter(&self) -> GateHolder {
        let holder = GateHolder(Arc::clone(&self.0));
        // Pairs with the fence in `is_empty`: the caller sees that the router stops, or who stops it sees the ticket.
        fence(Ordering::SeqCst);
        holder
    }

    /// How many pieces of work are on their way in.
    pub fn inside(&self) -> usize {
        Arc::strong_count(&self.0) - 1
    }

    /// To be called after the router's stage has advanced: then nothing is on its way in, and nothing will be.
    pub fn is_empty(&self) -> bool {
        fence(Ordering::SeqCst);
        let empty = Arc::strong_count(&self.0) == 1;
        // What the shard did with the last work before it gave up the ticket is visible from here on.
        fence(Ordering::Acquire);
        empty
    }
}

/// How far the router is in its life.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub(crate) enum RouterPhase {
    /// Everything goes.
    Running,
    /// Nothing more is admitted; what is there is handled.
    Draining,
    /// What is left is given up.
    Stopping,
    /// The shards leave together.
    Leaving,
    /// A shard's thread has panicked, so that nothing can be relied on any more.
    Failed,
}

impl RouterPhase {
    const ALL: [Self; 5] = [Self::Running, Self::Draining, Self::Stopping, Self::Leaving, Self::Failed];
}

/// What a shard that has stopped hands over.
pub(crate) struct FinalState {
    pub unfinished: Unfinished,
    /// The dead letters that it kept, oldest first.
    pub letters: Vec<DeadLetter>,
}

/// One shard as other threads see it.
pub(crate) struct ShardHandle {
    pub work: flume::Sender<Job>,
    pub gate: Gate,
    pub doorbell: Doorbell,
    pub published: Published,
    /// Turns so far: what the watchdog looks at.
    pub turns: CachePadded<AtomicU64>,
    /// How often it parked so far: while nobody does, the watchdog looks less often, or sleeps.
    pub parks: AtomicU64,
    /// When a parked shard wakes by itself, in milliseconds of monotonic time; `u64::MAX` when it does not.
    pub wakes_at_ms: AtomicU64,
    /// Whether a shard whose doorbell is armed only naps while its journal is being written, and is not parked.
    pub naps: AtomicBool,
    /// When the turn began that the shard is in, in nanoseconds of monotonic time; zero between turns.
    pub in_turn_since_ns: CachePadded<AtomicU64>,
    /// Somebody let go of something: an inbox of this shard was read from or closed, a call was given up, a subscription
    /// dropped.
    pub attention: CachePadded<AtomicBool>,
    /// Calls that the shard has begun and nobody waits for any more. There are no more of them than the shard has begun.
    given_up: Mutex<Vec<Token>>,
    /// Of the calls to this shard.
    pub deadlines: Deadlines,
    /// Which agent the shard is calling, once it has begun.
    pub calling: OnceLock<Arc<Calling>>,
    /// How often it was blocked.
    pub times_blocked: AtomicU64,
    /// The shard has nothing left to do, at the stage that it has reached.
    pub quiet: AtomicU8,
    /// What the shard leaves when it has come to its end.
    pub final_state: Mutex<Option<FinalState>>,
    /// The shard's thread needs nothing more from anybody.
    pub left: AtomicBool,
    /// What the shard's journal did so far.
    #[cfg(feature = "store")]
    pub journal: JournalFigures,
}

impl ShardHandle {
    /// A shard that has not begun, and the way into it.
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
            given_up: Mutex::default(),
            deadlines: Deadlines::default(),
            calling: OnceLock::new(),
            times_blocked: AtomicU64::new(0),
            quiet: AtomicU8::new(0),
            final_state: Mutex::new(None),
            left: AtomicBool::new(false),
            #[cfg(feature = "store")]
            journal: JournalFigures::default(),
        }
    }

    /// Tells the shard that nobody waits for the answer to a call any more. It is to be rung afterwards.
    pub fn give_up(&self, token: Token) {
        self.given_up.lock().unwrap_or_else(PoisonError::into_inner).push(token);
        self.attention.store(true, Ordering::Release);
    }

    /// The calls that were given up since the last time.
    pub fn take_given_up(&self) -> Vec<Token> {
        std::mem::take(&mut *self.given_up.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What a shard's journal did so far, for whoever wants to know.
#[cfg(feature = "store")]
#[derive(Default)]
pub(crate) struct JournalFigures {
    pub commits: AtomicU64,
    pub written_bytes: AtomicU64,
    pub records: AtomicU64,
    /// Why it takes nothing, if it does not.
    pub complaint: Mutex<Option<String>>,
    /// Whether everything was written and the journal says so.
    pub closed: AtomicBool,
    /// The numbers of the first and the last segment that hold something.
    segments: [AtomicU64; 2],
    /// Files that are needed are no longer there. In words, which.
    lost: AtomicBool,
    lost_what: Mutex<Option<String>>,
    /// The database that shows what it holds.
    pub projection: ProjectionFigures,
}

/// Subscribers of a router's events, each with the number of those that it lost.
#[derive(Default)]
pub(crate) struct Subscribers(Mutex<Vec<(flume::Sender<Event>, Arc<AtomicU64>)>>);

impl Subscribers {
    pub fn add(&self, events: flume::Sender<Event>, lost: Arc<AtomicU64>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((events, lost));
    }

    /// Forgets those that have gone.
    pub fn forget_gone(&self) {
        let mut subscribers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        subscribers.retain(|(subscriber, _)| !subscriber.is_disconnected());
    }

    /// Forgets all, who hear then that nothing more comes from here.
    pub fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    pub fn tell(&self, event: &Event) {
        for (subscriber, lost) in &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            if subscriber.try_send(event.clone()).is_err() {
                lost.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

#[cfg(feature = "store")]
impl JournalFigures {
    /// Takes note of which segments hold something.
    pub fn set_segments(&self, (first, last): (u64, u64)) {
        self.segments[0].store(first, Ordering::Relaxed);
        self.segments[1].store(last, Ordering::Relaxed);
    }

    /// The numbers of the segments that hold something, at some recent moment. There is none before the first one is written.
    pub fn segments(&self) -> std::ops::RangeInclusive<u64> {
        let [first, last] = [0, 1].map(|end: usize| self.segments[end].load(Ordering::Relaxed));
        first.max(1)..=last
    }

    /// Tells the shard that files are no longer there which it needs.
    pub fn lose(&self, what: String) {
        *self.lost_what.lock().unwrap_or_else(PoisonError::into_inner) = Some(what);
        self.lost.store(true, Ordering::Release);
    }

    /// Whether files are no longer there that are needed.
    pub fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Relaxed)
    }

    /// Which they are, in words: once.
    pub fn take_lost(&self) -> Option<String> {
        self.lost_what.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// What all shards of a router share.
pub(crate) struct Shared {
    pub links: Vec<ShardHandle>,
    pub partition: Partition,
    pub config: Config,
    pub bell: WatchdogHandle,
    /// The moment from which monotonic time counts.
    start: Instant,
    /// Times that the watchdog had to wake a shard that stood still.
    pub watchdog_wakes: AtomicU64,
    stage: AtomicU8,
    changed: (Mutex<()>, Condvar),
    /// Who hears of what the shards cannot tell themselves. The shards have lists of their own.
    pub subscribers: Subscribers,
    tokens: AtomicU64,
    inboxes: AtomicU32,
}

impl Shared {
    pub fn new(
        links: Vec<ShardHandle>,
        partition: Partition,
        config: Config,
        bell: WatchdogHandle,
        start: Instant,
    ) -> Self {
        Self {
            links,
            start,
            partition,
            config,
            bell,
            watchdog_wakes: AtomicU64::new(0),
            stage: AtomicU8::new(RouterPhase::Running as u8),
            changed: (Mutex::new(()), Condvar::new()),
            subscribers: Subscribers::default(),
            tokens: AtomicU64::new(1),
            inboxes: AtomicU32::new(0),
        }
    }

    pub fn phase(&self) -> RouterPhase {
        RouterPhase::ALL[usize::from(self.stage.load(Ordering::Acquire))]
    }

    /// Goes on to a later stage, and tells every shard. Going back is not possible.
    pub fn advance_to(&self, stage: RouterPhase) {
        self.stage.fetch_max(stage as u8, Ordering::AcqRel);
        for shard in 0..self.links.len() {
            self.ring(shard);
        }
        self.notify();
    }

    /// Wakes a shard if it sleeps, and the watchdog with it.
    #[inline]
    pub fn ring(&self, shard: usize) {
        if self.links[shard].doorbell.ring() {
            self.bell.ring();
        }
    }

    /// Monotonic time, as the shards count it.
    pub fn running_for(&self) -> Duration {
        self.start.elapsed()
    }

    /// How long a shard has been in its present turn, if it is in one.
    pub fn in_turn_for(&self, shard: usize) -> Option<Duration> {
        let since_ns = self.links[shard].in_turn_since_ns.load(Ordering::Relaxed);
        (since_ns > 0).then(|| self.running_for().saturating_sub(Duration::from_nanos(since_ns)))
    }

    /// Says which shard keeps a call from ending in time that was put to `asked`: a shard that stands still, or else the one
    /// that was asked. That one may wait for another one, such as for the journal of the receiver's shard.
    pub fn unresponsive(&self, asked: usize, may_have_changed: bool) -> UnresponsiveError {
        let index = |shard| ShardIndex(u16::try_from(shard).unwrap_or(u16::MAX));
        let mut shards = std::iter::once(asked).chain(0..self.links.len()).map(index);
        let shard = shards.find(|shard| self.stands_still(*shard)).unwrap_or(index(asked));
        let agent = self.called_agent(shard).filter(|_| self.stands_still(shard));
        UnresponsiveError { shard, may_have_changed, agent }
    }

    /// The name of the agent that a shard is calling, if it is calling one.
    pub fn called_agent(&self, shard: ShardIndex) -> Option<Arc<str>> {
        self.links[shard.as_usize()].calling.get()?.agent()
    }

    /// Whether a shard is blocked.
    pub fn is_blocked(&self, shard: usize) -> bool {
        self.in_turn_for(shard).is_some_and(|time| time >= BLOCKED_AFTER)
    }

    /// Whether a shard has been in its present turn for long.
    pub fn stands_still(&self, shard: ShardIndex) -> bool {
        self.in_turn_for(shard.as_usize()).is_some_and(|time| time >= STANDS_STILL)
    }

    pub fn next_token(&self) -> Token {
        Token(self.tokens.fetch_add(1, Ordering::Relaxed))
    }

    pub fn next_inbox(&self) -> InboxNumber {
        InboxNumber(self.inboxes.fetch_add(1, Ordering::Relaxed))
    }

    /// Wakes whoever waits in [`Shared::wait_until`].
    pub fn notify(&self) {
        let _guard = self.changed.0.lock().unwrap_or_else(PoisonError::into_inner);
        self.changed.1.notify_all();
    }

    /// Waits until `condition` holds, which is looked at whenever a shard has something to say. Returns whether it
    /// held before the deadline, which may come nearer meanwhile.
    pub fn wait_until(&self, deadline: impl Fn() -> Instant, mut condition: impl FnMut() -> bool) -> bool {
        /// A shard that became busy again does not say so, so the condition is looked at from time to time as well.
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
/// A sequence lock over atomics: odd while the shard writes. A reader that meets a writer reads again, so that what it
/// gets was true at one moment.
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

    /// The figures at the end of some recent turn.
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
