//! The output of `caxton sim`.

use std::fmt::Write as _;
use std::ops::Range;

use caxton_router::dead_letter::DeadLetterReason;
use caxton_router::signals::Signal;
use caxton_router::sim::{Failed, Outcome, Shrunk};
use serde_json::{Map, Value, json};

/// The successful runs of all seeds together.
pub struct Summary {
    seeds: Range<u64>,
    steps: u64,
    actions: u64,
    /// The combined digest of all runs, in the order of their seeds.
    history: u64,
    accepted: u64,
    processed: u64,
    expired: u64,
    retried: u64,
    refused: u64,
    dead_by_reason: [u64; DeadLetterReason::COUNT],
    pub seconds: f64,
    interrupted: Option<Signal>,
}

impl Summary {
    pub fn new(seeds: Range<u64>) -> Self {
        Self {
            seeds,
            steps: 0,
            actions: 0,
            history: 0,
            accepted: 0,
            processed: 0,
            expired: 0,
            retried: 0,
            refused: 0,
            dead_by_reason: [0; DeadLetterReason::COUNT],
            seconds: 0.0,
            interrupted: None,
        }
    }

    /// Records that a signal arrived before the seeds after this one were tried.
    pub fn interrupt(&mut self, signal: Signal, last: u64) {
        self.interrupted = Some(signal);
        self.seeds.end = last + 1;
    }

    pub fn add(&mut self, outcome: &Outcome) {
        /// An odd number with well-distributed bits, so that the order of the digests matters.
        const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
        self.history = (self.history.rotate_left(5) ^ outcome.history).wrapping_mul(SPREAD);
        self.steps += outcome.steps;
        self.actions += u64::from(outcome.actions);
        self.accepted += outcome.account.accepted;
        self.processed += outcome.account.processed;
        self.expired += outcome.account.expired;
        self.retried += outcome.account.retried;
        self.refused += outcome.account.refused;
        for (mine, others) in self.dead_by_reason.iter_mut().zip(outcome.account.dead_by_reason) {
            *mine += others;
        }
    }

    fn dead_lettered(&self) -> u64 {
        self.dead_by_reason.iter().sum()
    }

    /// Returns the reasons that occurred, with their numbers.
    fn reasons(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts =
            DeadLetterReason::ALL.into_iter().map(|reason| (reason.as_str(), self.dead_by_reason[reason.index()]));
        counts.filter(|(_, count)| *count > 0)
    }

    pub fn text(&self) -> String {
        let count = self.seeds.end - self.seeds.start;
        let mut text = String::new();
        let mut line = |name: &str, value: String| {
            writeln!(text, "{name:<16}{value}").expect("writing to a string does not fail");
        };
        let until = self.interrupted.map_or_else(String::new, |signal| format!(", until {signal}"));
        line("seeds", format!("{count} ({}..{}), all clean{until}", self.seeds.start, self.seeds.end));
        line("actions", self.actions.to_string());
        line("steps", self.steps.to_string());
        line("accepted", self.accepted.to_string());
        line("processed", self.processed.to_string());
        line("dead-lettered", self.dead_lettered().to_string());
        for (reason, count) in self.reasons() {
            line("", format!("{count} {reason}"));
        }
        line("expired", self.expired.to_string());
        line("retried", self.retried.to_string());
        line("refused", self.refused.to_string());
        line("seconds", format!("{:.1}", self.seconds));
        line("history", format!("{:016x}", self.history));
        text
    }

    pub fn json(&self) -> Value {
        let reasons: Map<String, Value> =
            self.reasons().map(|(reason, count)| (reason.to_owned(), count.into())).collect();
        json!({
            "clean": true,
            "first_seed": self.seeds.start,
            "seeds": self.seeds.end - self.seeds.start,
            "actions": self.actions,
            "steps": self.steps,
            "accepted": self.accepted,
            "processed": self.processed,
            "dead_lettered": self.dead_lettered(),
            "dead_by_reason": reasons,
            "expired": self.expired,
            "retried": self.retried,
            "refused": self.refused,
            "seconds": self.seconds,
            "history": format!("{:016x}", self.history),
            "interrupted": self.interrupted.map(Signal::name),
        })
    }
}

/// Describes a failure as text.
pub fn failure_text(failed: &Failed, shrunk: &Shrunk, place: Option<&str>, command: &str) -> String {
    let place = place.map_or_else(String::new, |place| format!("\nfound at {place}"));
    let smallest = &shrunk.failed;
    format!("{failed}\nsmallest of {} runs that fail as well: {smallest}{place}\nreplay with: {command}\n", shrunk.runs)
}

/// Describes a failure as JSON.
pub fn failure_json(failed: &Failed, shrunk: &Shrunk, place: Option<&str>, command: &str) -> Value {
    let json = |failed: &Failed| {
        json!({
            "seed": failed.seed,
            "shards": failed.shards,
            "action": failed.action,
            "step": failed.step,
            "text": failed.text,
        })
    };
    json!({
        "clean": false,
        "failed": json(failed),
        "smallest": json(&shrunk.failed),
        "runs": shrunk.runs,
        "place": place,
        "replay": command,
    })
}
