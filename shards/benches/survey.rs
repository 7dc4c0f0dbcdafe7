//! Benchmark of the search for the agents whose messages wait longest, among all agents of one shard. It measures how
//! long the turns of the search take with cold caches: a message that arrives meanwhile waits as long.
//!
//! `cargo bench -p caxton-shards --bench survey -- [AGENTS]`

#![allow(clippy::unwrap_used)] // Benchmarks fail by panicking.

use std::collections::VecDeque;
use std::hint::black_box;
use std::num::{NonZeroU16, NonZeroUsize};
use std::time::{Duration, Instant};

use caxton_shards::agent::Registration;
use caxton_shards::api::{Answer, InboxNumber, Input, Now, Output, SLOW_CONSUMERS_MAX, Token};
use caxton_shards::mesh::{LaneCapacity, mesh};
use caxton_shards::message::{AgentId, Message, Performative, WallTime};
use caxton_shards::shard::Shard;
use caxton_shards::sim::Setup;

/// The allocator that the command uses too.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Number of searches.
const SEARCHES: usize = 9;
/// Number of bytes read between two turns, so that nothing of the last turn is left in the caches.
const OTHER_BYTES: usize = 64 << 20;
/// One of this many agents has messages that wait.
const ONE_WITH_MAIL_IN: usize = 100;
const REGISTERED_AT_ONCE: usize = 10_000;

struct Bench {
    shard: Shard,
    inputs: VecDeque<Input>,
    outputs: Vec<Output>,
    now_ns: u64,
}

impl Bench {
    fn new() -> Self {
        let mut config = Setup::new(1).config;
        config.pending_max = 1_000_000;
        let one = NonZeroUsize::new(64).unwrap();
        let port = mesh(NonZeroU16::new(1).unwrap(), LaneCapacity { credits: one, uncredited: one }).pop().unwrap();
        let shard = Shard::new(config, port, Now { monotonic_ns: 0, wall: WallTime(1) });
        Self { shard, inputs: VecDeque::new(), outputs: Vec::new(), now_ns: 0 }
    }

    /// Runs a turn, and returns how long it took.
    fn turn(&mut self) -> Duration {
        self.now_ns += 1_000;
        let now = Now { monotonic_ns: self.now_ns, wall: WallTime(1) };
        let began = Instant::now();
        black_box(self.shard.step(now, &mut self.inputs, &mut self.outputs));
        began.elapsed()
    }

    fn populate(&mut self, agents: usize) {
        let name = |number: usize| format!("agent-{number}");
        for first in (0..agents).step_by(REGISTERED_AT_ONCE) {
            let some = first..agents.min(first + REGISTERED_AT_ONCE);
            let registrations = some
                .map(|number| Registration::outside(name(number), InboxNumber(u32::try_from(number).unwrap()), 1))
                .collect();
            self.inputs.push_back(Input::Register(registrations, Token(1)));
        }
        while self.shard.snapshot().agents < agents || !self.inputs.is_empty() {
            self.turn();
        }
        for number in (0..agents).step_by(ONE_WITH_MAIL_IN) {
            // The first message is handed out, and the second one waits.
            for _ in 0..2 {
                let message = Message::builder(Performative::Inform).receiver(AgentId::of_text(&name(number)));
                self.inputs.push_back(Input::Tell(message.content("x").build().unwrap()));
            }
        }
        while !self.inputs.is_empty() {
            self.turn();
        }
        self.outputs.clear();
    }

    /// Searches once, and returns how long each of the turns took.
    fn search(&mut self, other: &[u8]) -> Vec<Duration> {
        self.inputs.push_back(Input::SlowConsumers(SLOW_CONSUMERS_MAX, Token(2)));
        let mut turns = Vec::new();
        loop {
            black_box(other.iter().step_by(64).map(|byte| u64::from(*byte)).sum::<u64>());
            turns.push(self.turn());
            for output in self.outputs.drain(..) {
                if let Output::Answer(Token(2), Answer::SlowConsumers(found)) = output {
                    assert_eq!(found.len(), SLOW_CONSUMERS_MAX, "messages wait at enough agents");
                    return turns;
                }
            }
        }
    }
}

fn main() {
    let agents = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(1_000_000);
    let mut bench = Bench::new();
    bench.populate(agents);
    let other = vec![1; OTHER_BYTES];
    let searches: Vec<Vec<Duration>> = (0..SEARCHES).map(|_| bench.search(&other)).collect();
    let mut turns: Vec<Duration> = searches.concat();
    turns.sort();
    let mut sums: Vec<Duration> = searches.iter().map(|turns| turns.iter().sum()).collect();
    sums.sort();
    println!(
        "{agents} agents: {} turns, together {:?}; a turn takes {:?} (median), {:?} (p99), {:?} (longest)",
        searches[0].len(),
        sums[SEARCHES / 2],
        turns[turns.len() / 2],
        turns[turns.len() * 99 / 100],
        turns[turns.len() - 1],
    );
}
