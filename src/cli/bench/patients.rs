//! The agents subjected to a disturbance: a slow consumer, handlers that fail on poison messages, and overloaded
//! servers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use caxton_router::domain::AgentName;
use caxton_router::error::ReceiveError;
use caxton_router::message::MessageBuilder;
use caxton_router::{Agent, AgentId, Context, Inbox, Message, Outcome, Performative, Router};

use super::load::{Control, Kit, PACED_PER_TURN_MAX};

/// Time that the slow consumer takes for a message.
pub const SLOW_CONSUMER_TAKES: Duration = Duration::from_secs(1);
/// How often an idle consumer checks whether the router still runs.
const LOOKS_EVERY: Duration = Duration::from_secs(1);
/// The text of a handler's failure or panic on poison.
const POISONED: &str = "poison: expected to fail";

/// Results of the poison messages, by number.
#[derive(Default)]
pub struct PoisonTally {
    /// Attempts at each.
    attempts: Vec<AtomicU8>,
    sent: AtomicU64,
    /// The number of times an agent that receives poison was created.
    made: AtomicU64,
}

impl PoisonTally {
    pub fn new(messages: u64) -> Self {
        Self { attempts: (0..messages).map(|_| AtomicU8::new(0)).collect(), ..Self::default() }
    }

    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    pub fn made(&self) -> u64 {
        self.made.load(Ordering::Relaxed)
    }

    /// Returns how many messages were tried exactly this many times.
    pub fn tried(&self, attempts: u8) -> u64 {
        self.attempts.iter().filter(|tried| tried.load(Ordering::Relaxed) == attempts).count() as u64
    }

    fn count_attempt(&self, number: u64) {
        let attempts = usize::try_from(number).ok().and_then(|number| self.attempts.get(number));
        if let Some(attempts) = attempts {
            attempts.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// An additional task of a pacer.
#[derive(Clone)]
pub enum Errand {
    /// Sends this many messages to one agent as fast as possible, so that its mailbox is full from the beginning.
    Fill { agent: AgentId, left: u64 },
    /// Sends this many poison messages, numbered from `first`, evenly over a part of the run. They go to each of the
    /// patients in turn.
    Poison { patients: Arc<[AgentId]>, first: u64, messages: u64, sent: u64, begins_ns: u64, lasts_ns: u64 },
}

impl Errand {
    /// Continues the task, this long after the pacer began. Returns whether there was anything to do.
    pub fn go_on(&mut self, kit: &mut Kit, since_start_ns: u64, context: &mut Context<'_>) -> bool {
        match self {
            Self::Fill { agent, left } => {
                let now = (*left).min(PACED_PER_TURN_MAX);
                for _ in 0..now {
                    let builder = Message::builder(Performative::Inform).receiver(*agent);
                    let builder = kit.fill_stamped(builder, 0, 0);
                    if !kit.send(builder, context) {
                        break;
                    }
                    *left -= 1;
                    kit.control.to_patients.fetch_add(1, Ordering::Relaxed);
                }
                now > 0
            }
            Self::Poison { patients, first, messages, sent, begins_ns, lasts_ns } => {
                let share = (since_start_ns.saturating_sub(*begins_ns) as f64 / *lasts_ns as f64).min(1.0);
                #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // The share is from 0 to 1.
                let due = (*messages as f64 * share) as u64;
                let before = *sent;
                let due = due.min(before + PACED_PER_TURN_MAX);
                while *sent < due {
                    let number = *first + *sent;
                    let patient = patients[usize::try_from(number).unwrap_or(0) % patients.len()];
                    let builder = Message::builder(Performative::Request).receiver(patient);
                    let builder = numbered(kit, builder, number);
                    if !kit.send(builder, context) {
                        break;
                    }
                    *sent += 1;
                    kit.control.poison.sent.fetch_add(1, Ordering::Relaxed);
                }
                *sent > before
            }
        }
    }
}

/// Stores a poison message's number in place of the number of returns, which is zero for pacers' messages.
fn numbered(kit: &mut Kit, builder: MessageBuilder, number: u64) -> MessageBuilder {
    kit.fill_stamped(builder, 0, number + 1)
}

/// Receives the messages of pacers, but fails on one poison message and panics on the next.
pub struct Poisoned {
    kit: Kit,
    patients: u64,
}

impl Poisoned {
    /// `patients` is the number of agents that receive poison in turn.
    pub fn new(kit: Kit, patients: usize) -> Self {
        kit.control.poison.made.fetch_add(1, Ordering::Relaxed);
        Self { kit, patients: patients as u64 }
    }
}

impl Agent for Poisoned {
    fn handle(&mut self, message: &Message, _context: &mut Context<'_>) -> Outcome {
        let Some(number) = Kit::returns(message).checked_sub(1) else {
            if !self.kit.is_failure(message) {
                self.kit.receive(message);
            }
            return Outcome::Done;
        };
        self.kit.control.poison.count_attempt(number);
        if (number / self.patients).is_multiple_of(2) {
            return Outcome::failed(POISONED);
        }
        // Unwinds like any panic, but without the hook, which would print this one a thousand times and has to print
        // all others.
        std::panic::resume_unwind(Box::new(POISONED))
    }
}

/// Takes a fixed time for each message without blocking its shard, like an agent that waits for something outside.
pub struct Server {
    kit: Kit,
    takes_ns: u64,
    done_ns: u64,
}

impl Server {
    pub fn new(kit: Kit, takes_ns: u64) -> Self {
        Self { kit, takes_ns, done_ns: 0 }
    }
}

impl Agent for Server {
    fn handle(&mut self, message: &Message, context: &mut Context<'_>) -> Outcome {
        if self.kit.is_failure(message) {
            return Outcome::Done;
        }
        self.done_ns = context.now().monotonic_ns + self.takes_ns;
        self.resume(message, context)
    }

    /// After the run, waiting messages take no time.
    fn resume(&mut self, message: &Message, context: &mut Context<'_>) -> Outcome {
        if context.now().monotonic_ns < self.done_ns && !self.kit.control.stopped() {
            return Outcome::Suspended;
        }
        self.kit.receive(message);
        Outcome::Done
    }
}

/// A thread that takes [`SLOW_CONSUMER_TAKES`] for each message of an inbox until the run is over, and then no time.
pub struct SlowConsumer {
    thread: JoinHandle<u64>,
}

impl SlowConsumer {
    /// Opens the inbox of this name and begins to take messages.
    ///
    /// # Errors
    ///
    /// The inbox or the thread could not be created.
    pub fn start(router: &Router, name: &AgentName, control: &Arc<Control>) -> Result<Self, String> {
        let inbox = router.inbox(name.clone()).blocking().open().map_err(|error| error.to_string())?;
        let control = Arc::clone(control);
        let thread = std::thread::Builder::new()
            .name("slow-consumer".to_owned())
            .spawn(move || consume(&inbox, &control))
            .map_err(|error| error.to_string())?;
        Ok(Self { thread })
    }

    /// Makes it hurry, once the run was stopped.
    pub fn hurry(&self) {
        self.thread.thread().unpark();
    }

    /// Returns how many messages it took until the router stopped.
    ///
    /// # Errors
    ///
    /// The thread panicked.
    pub fn taken(self) -> Result<u64, String> {
        self.thread.join().map_err(|_| "the slow consumer's thread panicked".to_owned())
    }
}

fn consume(inbox: &Inbox, control: &Control) -> u64 {
    let mut taken = 0;
    loop {
        match inbox.blocking().recv_within(LOOKS_EVERY) {
            Ok(_) => taken += 1,
            Err(ReceiveError::TimedOut) => continue,
            Err(_) => return taken,
        }
        let done = Instant::now() + SLOW_CONSUMER_TAKES;
        while let Some(left) = done.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            if control.stopped() {
                break;
            }
            // Passing time is what is waited for here; the end of the run cuts it short.
            std::thread::park_timeout(left);
        }
    }
}
