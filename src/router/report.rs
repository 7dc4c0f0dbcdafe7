//! The router's figures and its final report.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use caxton_shards::api::{Conformance, Snapshot, Stage, Unfinished};
use caxton_shards::dead_letter::{DeadLetter, DeadLetterReason};
use caxton_shards::routing::partition::ShardIndex;
use caxton_shards::stats::Account;
use serde_json::{Map, Value, json};

/// A router's figures at one moment, per shard.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Each shard's figures, taken at the end of one of its turns; not all at the same moment.
    pub shards: Vec<Snapshot>,
    /// Calls from outside that their shards have not taken yet: messages, requests, registrations. A batch counts once
    /// per destination shard.
    pub queued: usize,
    /// Number of times a stalled shard was woken.
    pub watchdog_wakes: u64,
    /// Shards that are blocked now: a call of one of their agents has not returned for at least half a second. See
    /// [`Event::ShardBlocked`](caxton_shards::api::Event::ShardBlocked).
    pub blocked: Vec<ShardIndex>,
    /// Number of times a shard was blocked.
    pub times_blocked: u64,
    /// Number of the router's own agents, `ams` and `df`, among the shards' agents.
    pub own_agents: usize,
}

impl Stats {
    /// Returns the sum of all shards' totals.
    pub fn account(&self) -> Account {
        self.shards.iter().map(|shard| &shard.account).sum()
    }

    /// Returns the number of accepted deliveries that have not ended: pending on a shard or between two. The shards'
    /// figures are not taken at the same moment, so this is exact only when nothing moves.
    pub fn in_progress(&self) -> u64 {
        let Account { pending, departed, arrived, .. } = self.account();
        pending + departed.saturating_sub(arrived)
    }

    /// Returns the number of registered agents, excluding the router's own.
    pub fn agents(&self) -> usize {
        let all: usize = self.shards.iter().map(|shard| shard.agents).sum();
        all.saturating_sub(self.own_agents)
    }

    /// Agents whose circuit breaker is open or half-open.
    pub fn breakers_open(&self) -> usize {
        self.shards.iter().map(|shard| shard.breakers_open).sum()
    }

    /// Returns how often circuit breakers opened.
    pub fn breakers_opened(&self) -> u64 {
        self.shards.iter().map(|shard| shard.breakers_opened).sum()
    }

    /// Returns the bytes of messages held by the router, and their limit.
    pub fn memory_bytes(&self) -> (u64, u64) {
        let bytes = |(held, limit), shard: &Snapshot| (held + shard.memory_bytes, limit + shard.memory_bytes_max);
        self.shards.iter().fold((0, 0), bytes)
    }

    /// Returns the number of closed agents: their mailboxes were full and senders wait for them.
    pub fn receivers_closed(&self) -> usize {
        self.shards.iter().map(|shard| shard.receivers_closed).sum()
    }

    /// Returns the number of messages that wait for closed agents, on the senders' shards and on the receivers'.
    pub fn stalled(&self) -> usize {
        self.shards.iter().map(|shard| shard.stalled + shard.waiting).sum()
    }

    /// Returns the number of replies that did not arrive by their deadline.
    pub fn replies_missing(&self) -> u64 {
        self.shards.iter().map(|shard| shard.replies_missing).sum()
    }

    /// Protocol figures.
    pub fn conformance(&self) -> Conformance {
        self.shards.iter().map(|shard| &shard.conformance).sum()
    }

    /// Open conversations.
    pub fn conversations(&self) -> usize {
        self.shards.iter().map(|shard| shard.conversations).sum()
    }

    /// Number of dead letters kept.
    pub fn dead_letters(&self) -> usize {
        self.shards.iter().map(|shard| shard.dead_letters).sum()
    }

    /// Dead letters replayed, so far.
    pub fn dead_letters_replayed(&self) -> u64 {
        self.shards.iter().map(|shard| shard.dead_letters_replayed).sum()
    }
}

/// A router's totals from start to end, and what it had not finished.
///
/// Its text form is a few lines for people: the account and, if something was left, what and where.
#[derive(Clone)]
#[non_exhaustive]
pub struct Report {
    /// The final figures.
    pub stats: Stats,
    /// Whether everything was handled before the deadline. If not, the rest were dead-lettered with the reason
    /// `stopped`.
    pub drained: bool,
    /// What was left, by place.
    pub unfinished: Unfinished,
    /// Shards that did not end: a handler on them does not return, or their thread has panicked. Their figures are
    /// those from before that call; what they held is [left behind](Report::left_behind).
    pub unresponsive: Vec<ShardIndex>,
    /// The dead letters kept by the shards, within the bounds of the settings, ordered by shard and oldest first: those
    /// of the stop and earlier ones.
    pub dead_letters: Arc<[DeadLetter]>,
    /// The names of agents whose code did not return, with their shards, which are all among the unresponsive ones.
    pub held_up_by: Vec<(ShardIndex, Arc<str>)>,
    /// The time allowed for draining.
    pub allowed: Duration,
    /// The total time of stopping.
    pub took: Duration,
}

impl Report {
    /// Whether the router accounted for every message: every shard ended with all its input matched by output, nothing
    /// is pending, and everything that left a shard arrived at another.
    pub fn balances(&self) -> bool {
        let account = self.stats.account();
        self.unresponsive.is_empty()
            && self.stats.shards.iter().all(|shard| shard.account.balances())
            && account.departed == account.arrived
            && account.pending == 0
    }

    /// Returns the number of deliveries known not to have ended. It is zero unless there are
    /// [unresponsive](Report::unresponsive) shards, which may have accepted more since they last published their
    /// figures.
    pub fn left_behind(&self) -> u64 {
        self.stats.in_progress()
    }

    /// Returns the report as one JSON object. Times are in milliseconds.
    pub fn to_json(&self) -> Value {
        let account = self.stats.account();
        let unresponsive: Vec<u16> = self.unresponsive.iter().map(|shard| shard.0).collect();
        json!({
            "drained": self.drained,
            "balances": self.balances(),
            "allowed_ms": milliseconds(self.allowed),
            "took_ms": milliseconds(self.took),
            "accepted": account.accepted,
            "recovered": account.recovered,
            "kept": account.kept,
            "processed": account.processed,
            "dead_lettered": account.dead_lettered,
            "dead_lettered_by_reason": occurred(DeadLetterReason::ALL.map(DeadLetterReason::as_str), account.dead_by_reason),
            "expired": account.expired,
            "expired_by_phase": occurred(Stage::ALL.map(Stage::as_str), account.expired_by_stage),
            "left_behind": self.left_behind(),
            "queued": self.stats.queued,
            "stopped": self.unfinished.total(),
            "stopped_by_place": occurred(Stage::ALL.map(Stage::as_str), self.unfinished.messages),
            "questions_open": self.unfinished.questions,
            "asks_open": self.unfinished.asks,
            "conversations_open": self.unfinished.conversations,
            "dead_letters_kept": self.dead_letters.len(),
            "unresponsive_shards": unresponsive,
            "held_up_by": self.held_up_by.iter().map(|(_, agent)| agent.as_ref()).collect::<Vec<_>>(),
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let took = self.took.as_secs_f64();
        let allowed = self.allowed.as_secs_f64();
        if self.drained {
            writeln!(formatter, "stopped in {took:.3} s of {allowed:.3} s: everything was handled")?;
        } else if self.unresponsive.is_empty() {
            writeln!(formatter, "stopped in {took:.3} s: not everything was handled within {allowed:.3} s")?;
        } else {
            writeln!(formatter, "stopped in {took:.3} s: not every shard came to its end")?;
        }
        let account = self.stats.account();
        writeln!(
            formatter,
            "  {} accepted{} = {} processed + {} dead-lettered + {} expired{} + {} left behind: {}",
            account.accepted,
            counted(" + ", account.recovered, " recovered"),
            account.processed,
            account.dead_lettered,
            account.expired,
            counted(" + ", account.kept, " kept in the journal"),
            self.left_behind(),
            if self.balances() { "balances" } else { "DOES NOT BALANCE" }
        )?;
        for reason in DeadLetterReason::ALL {
            let count = account.dead_by_reason[reason.index()];
            if count > 0 {
                writeln!(formatter, "  {count} dead-lettered as {reason}: {}", reason.explanation())?;
            }
        }
        for stage in Stage::ALL {
            let count = self.unfinished.at(stage);
            if count > 0 {
                writeln!(formatter, "    {count} {}", stage.explanation())?;
            }
        }
        for stage in Stage::ALL {
            let count = account.expired_by_stage[stage.index()];
            if count > 0 {
                writeln!(formatter, "  {count} expired {}", stage.explanation())?;
            }
        }
        let open = [
            (self.unfinished.questions, "messages with reply-by were not answered yet"),
            (self.unfinished.asks, "questions from outside were not answered"),
            (self.unfinished.conversations, "conversations were open"),
        ];
        for (count, what) in open {
            if count > 0 {
                writeln!(formatter, "  {count} {what}")?;
            }
        }
        if self.stats.queued > 0 {
            writeln!(formatter, "  {} calls from outside were not taken in", self.stats.queued)?;
        }
        for shard in &self.unresponsive {
            let pending = self.stats.shards.get(shard.as_usize()).map_or(0, |figures| figures.account.pending);
            write!(formatter, "  {shard} did not come to its end, with {pending} pending: ")?;
            match self.held_up_by.iter().find(|(held_up, _)| held_up == shard) {
                Some((_, agent)) => writeln!(formatter, "a handler of the agent {agent:?} does not return")?,
                None => writeln!(formatter, "its thread panicked, or a handler does not return")?,
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Report")
            .field("stats", &self.stats)
            .field("drained", &self.drained)
            .field("remains", &self.unfinished)
            .field("unresponsive", &self.unresponsive)
            .field("held_up_by", &self.held_up_by)
            .field("dead_letters", &self.dead_letters.len())
            .field("allowed", &self.allowed)
            .field("took", &self.took)
            .finish()
    }
}

/// Formats a count that is zero for most routers.
fn counted(before: &str, count: u64, after: &str) -> String {
    if count == 0 { String::new() } else { format!("{before}{count}{after}") }
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}

/// Returns the nonzero counts by name.
fn occurred<const COUNT: usize>(words: [&'static str; COUNT], counts: [u64; COUNT]) -> Value {
    let occurred = words.into_iter().zip(counts).filter(|(_, count)| *count > 0);
    occurred.map(|(word, count)| (word.to_owned(), count.into())).collect::<Map<_, _>>().into()
}
