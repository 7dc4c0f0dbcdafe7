//! Benchmark of the timer wheel: nanoseconds to arm and cancel, to arm and fire, and to find that nothing is due.
//!
//! `cargo bench -p caxton-shards --bench timer` prints the best and the median of several rounds. Without Cargo's
//! `--bench` argument (as in `cargo test --benches`) it runs one short round, as a test.

use caxton_shards::bench::{TimerKey, TimerWheel};
use std::hint::black_box;
use std::time::Instant;

const DELAY_MS_MAX: u64 = 60_000;
const FIRED_PER_TURN: u64 = 32;

fn main() {
    let whole = std::env::args().any(|argument| argument == "--bench");
    let (rounds, operations) = if whole { (9, 1_000_000) } else { (1, 10_000) };
    println!("nanoseconds per operation, best / median of {rounds} rounds of {operations}; delays up to 60 s");
    for armed in [1_000, 1_000_000] {
        let report = |name: &str, round: fn(&mut Bench, u64)| {
            let mut bench = Bench::new(armed);
            round(&mut bench, operations);
            let mut nanoseconds: Vec<f64> = (0..rounds)
                .map(|_| {
                    let start = Instant::now();
                    round(&mut bench, operations);
                    start.elapsed().as_nanos() as f64 / operations as f64
                })
                .collect();
            nanoseconds.sort_unstable_by(f64::total_cmp);
            let (best, median) = (nanoseconds[0], nanoseconds[nanoseconds.len() / 2]);
            println!("{armed:>9} armed  {name:<34} {best:7.2} / {median:7.2}");
        };
        report("insert, cancel it", Bench::insert_and_cancel);
        report("cancel a random one, insert anew", Bench::replace_random);
        report("insert and fire, with relocations", Bench::insert_and_fire);
        report("advance with nothing due", Bench::advance_idle);
        report("next_deadline", Bench::next_deadline);
    }
}

/// A wheel with a constant number of timers armed at random delays.
struct Bench {
    wheel: TimerWheel<u64>,
    keys: Vec<TimerKey>,
    fired: Vec<u64>,
    now_ms: u64,
    random: u64,
}

impl Bench {
    fn new(armed: usize) -> Self {
        let now_ms = 1_700_000_000_000;
        let wheel = TimerWheel::new(now_ms, armed + 1);
        let mut bench = Self { wheel, keys: Vec::new(), fired: Vec::new(), now_ms, random: 0x9E37_79B9_7F4A_7C15 };
        for _ in 0..armed {
            let key = bench.insert();
            bench.keys.push(key);
        }
        bench
    }

    /// Xorshift: enough to spread due times, at about a nanosecond of every figure.
    fn random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }

    fn insert(&mut self) -> TimerKey {
        let due_ms = self.now_ms + 1 + self.random() % DELAY_MS_MAX;
        self.wheel.insert(due_ms, due_ms).expect("one more than is armed fits")
    }

    fn insert_and_cancel(&mut self, operations: u64) {
        for _ in 0..operations {
            let key = self.insert();
            black_box(self.wheel.cancel(key));
        }
    }

    /// Touches memory like answered messages do: the timer cancelled is not the one just armed.
    fn replace_random(&mut self, operations: u64) {
        for _ in 0..operations {
            let pick = usize::try_from(self.random()).expect("64-bit") % self.keys.len();
            assert!(self.wheel.cancel(self.keys[pick]).is_some());
            self.keys[pick] = self.insert();
        }
    }

    /// Advances time and rearms each timer that fires.
    fn insert_and_fire(&mut self, operations: u64) {
        let step_ms = (FIRED_PER_TURN * DELAY_MS_MAX / 2).div_ceil(self.wheel.len() as u64);
        let mut fired = 0;
        while fired < operations {
            self.now_ms += step_ms;
            while self.wheel.advance(self.now_ms, &mut self.fired, 256) {}
            fired += self.fired.len() as u64;
            for _ in 0..self.fired.len() {
                self.insert();
            }
            self.fired.clear();
        }
    }

    fn advance_idle(&mut self, operations: u64) {
        while self.wheel.advance(self.now_ms, &mut self.fired, 256) {}
        let now_ms = self.wheel.next_deadline().expect("timers are armed") - 1;
        for _ in 0..operations {
            black_box(self.wheel.advance(black_box(now_ms), &mut self.fired, 256));
        }
        assert!(self.fired.is_empty(), "nothing was due");
    }

    fn next_deadline(&mut self, operations: u64) {
        for _ in 0..operations {
            black_box(black_box(&self.wheel).next_deadline());
        }
    }
}
