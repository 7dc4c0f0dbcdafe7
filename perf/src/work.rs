//! The work done by every system, and its measurement.
//!
//! Agents form pairs and send messages back and forth. Each message has new content, and the receiver reads all of it.
//! Each agent counts what it sends and what it handles; a run fails unless every message sent was handled in the end.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crossbeam::utils::CachePadded;
use rustix::time::{ClockId, clock_gettime};

/// Warm-up time before the measurement, as a fraction of it, so that memory is allocated.
const WARM_UP: f64 = 0.25;
/// Maximum time for the messages in flight at the end.
const SETTLE: Duration = Duration::from_secs(10);

/// The amount of work.
#[derive(Clone, Copy)]
pub struct Work {
    /// Number of pairs of agents.
    pub pairs: usize,
    /// Number of messages in flight within a pair.
    pub in_flight: usize,
    /// Bytes of content.
    pub size: usize,
    /// Duration of the measurement.
    pub seconds: f64,
}

/// A message of systems without a message format of their own: sender, exchange, content.
pub struct Ball {
    pub from: usize,
    pub exchange: u64,
    pub content: Vec<u8>,
}

/// State shared by all agents of a run. Each writes only its own counters.
pub struct Tally {
    over: AtomicBool,
    counters: Vec<CachePadded<Counters>>,
}

#[derive(Default)]
struct Counters {
    sent: AtomicU64,
    handled: AtomicU64,
}

impl Tally {
    pub fn new(work: &Work) -> Arc<Self> {
        let counters = (0..2 * work.pairs).map(|_| CachePadded::default()).collect();
        Arc::new(Self { over: AtomicBool::new(false), counters })
    }

    fn sum(&self, of: impl Fn(&Counters) -> &AtomicU64) -> u64 {
        self.counters.iter().map(|counters| of(counters).load(Ordering::Acquire)).sum()
    }
}

/// One agent's part in the work, in any system.
pub struct Player {
    tally: Arc<Tally>,
    number: usize,
    payload: Vec<u8>,
}

impl Player {
    pub fn new(tally: &Arc<Tally>, work: &Work, number: usize) -> Self {
        Self { tally: Arc::clone(tally), number, payload: vec![b'x'; work.size] }
    }

    /// Returns the number of messages that this agent starts with: the first of each pair serves.
    pub fn serves(&self, work: &Work) -> usize {
        if self.number.is_multiple_of(2) { work.in_flight } else { 0 }
    }

    /// Returns the content of the next message to send.
    pub fn content(&mut self) -> &[u8] {
        add_one(&self.tally.counters[self.number].sent);
        &self.payload
    }

    pub fn serve(&mut self, exchange: u64) -> Ball {
        Ball { from: self.number, exchange, content: self.content().to_vec() }
    }

    /// Handles a message. Returns whether it is to be sent back.
    pub fn take(&mut self, content: &[u8]) -> bool {
        assert!(content == self.payload, "the content has changed on its way");
        add_one(&self.tally.counters[self.number].handled);
        !self.tally.over.load(Ordering::Relaxed)
    }

    /// Handles a message and returns the reply.
    pub fn hit(&mut self, ball: &Ball) -> Option<Ball> {
        assert!(ball.from != self.number, "agents send to each other");
        self.take(&ball.content).then(|| self.serve(ball.exchange))
    }
}

/// The counter has one writer.
fn add_one(counter: &AtomicU64) {
    counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Release);
}

/// The result of a system in one round.
#[derive(Clone, Copy)]
pub struct Figures {
    pub messages_per_second: f64,
    pub cpu_ns_per_message: f64,
}

impl fmt::Display for Figures {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:.0} messages/s, {:.0} ns of CPU each", self.messages_per_second, self.cpu_ns_per_message)
    }
}

/// Measures the agents from an independent thread, and ends the run.
///
/// # Errors
///
/// Not every message was handled, or none at all.
pub fn measure(tally: &Tally, work: &Work) -> Result<Figures, String> {
    sleep(Duration::from_secs_f64(work.seconds * WARM_UP));
    let (start, cpu_at_start, at_start) = (Instant::now(), cpu_time(), tally.sum(|counters| &counters.handled));
    sleep(Duration::from_secs_f64(work.seconds));
    let handled = tally.sum(|counters| &counters.handled) - at_start;
    let (elapsed, cpu) = (start.elapsed(), cpu_time().saturating_sub(cpu_at_start));
    tally.over.store(true, Ordering::Relaxed);
    settle(tally)?;
    if handled == 0 {
        return Err("nothing was handled".to_owned());
    }
    Ok(Figures {
        messages_per_second: handled as f64 / elapsed.as_secs_f64(),
        cpu_ns_per_message: cpu.as_nanos() as f64 / handled as f64,
    })
}

/// Waits until everything sent was handled. Checking twice rules out that a message was sent between the readings of
/// two counters.
fn settle(tally: &Tally) -> Result<(), String> {
    let deadline = Instant::now() + SETTLE;
    let mut before = None;
    loop {
        let now = (tally.sum(|counters| &counters.handled), tally.sum(|counters| &counters.sent));
        if now.0 == now.1 && before == Some(now) {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(format!("{} messages were sent and {} handled", now.1, now.0));
        }
        before = Some(now);
        sleep(Duration::from_millis(10));
    }
}

/// Returns the CPU time of the process.
#[allow(clippy::cast_sign_loss)] // CPU time is not negative.
fn cpu_time() -> Duration {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(used.tv_sec as u64, u32::try_from(used.tv_nsec).unwrap_or(0))
}
