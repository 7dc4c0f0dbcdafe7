//! All messages of a file together: the number of each outcome, and whether the router's own figures agree.

use std::fmt::Write as _;

use caxton_router::signals::Signal;
use caxton_router::stats::Report;
use caxton_shards::dead_letter::DeadLetterReason;
use caxton_shards::stats::Account;
use serde_json::{Map, Value, json};

use super::conformance::ConformanceReport;
use super::journal::{Fate, Reply};
use super::report::ToldMessage;

/// Deliveries by outcome.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    processed: u64,
    dead_lettered: u64,
    dead_by_reason: [u64; DeadLetterReason::COUNT],
    expired: u64,
    refused: u64,
    pending: u64,
    unsent: u64,
}

impl Tally {
    /// Counts the deliveries of a reply.
    pub fn of_reply(reply: &Reply) -> Self {
        let (processed, pending) = (reply.processed as u64, reply.pending() as u64);
        let mut tally = Self { processed, pending, ..Self::default() };
        reply.lost.values().for_each(|fate| tally.count(fate));
        tally
    }

    /// Adds one delivery.
    pub fn count(&mut self, fate: &Fate) {
        let counter = match fate {
            Fate::Processed => &mut self.processed,
            Fate::DeadLettered(reason) => {
                self.dead_by_reason[reason.index()] += 1;
                &mut self.dead_lettered
            }
            Fate::Expired(_) => &mut self.expired,
            Fate::Refused(_) => &mut self.refused,
            Fate::Pending => &mut self.pending,
            Fate::Unsent => &mut self.unsent,
        };
        *counter += 1;
    }

    fn add(&mut self, other: &Self) {
        self.processed += other.processed;
        self.dead_lettered += other.dead_lettered;
        for (mine, others) in self.dead_by_reason.iter_mut().zip(other.dead_by_reason) {
            *mine += others;
        }
        self.expired += other.expired;
        self.refused += other.refused;
        self.pending += other.pending;
        self.unsent += other.unsent;
    }

    fn counts(&self) -> [(&'static str, u64); 6] {
        [
            ("processed", self.processed),
            ("dead-lettered", self.dead_lettered),
            ("expired", self.expired),
            ("refused", self.refused),
            ("pending", self.pending),
            ("not sent", self.unsent),
        ]
    }

    /// Returns the number of deliveries.
    pub fn deliveries(&self) -> u64 {
        self.counts().iter().map(|(_, count)| count).sum()
    }

    fn is_well(&self) -> bool {
        self.counts().iter().skip(1).all(|(_, count)| *count == 0)
    }

    /// Returns text such as `2 processed, 1 dead-lettered`; zeros are left out.
    pub fn in_words(&self) -> String {
        let counts = self.counts();
        let happened = counts.iter().filter(|(_, count)| *count > 0);
        happened.map(|(what, count)| format!("{count} {what}")).collect::<Vec<_>>().join(", ")
    }

    fn json(&self) -> Value {
        json!({
            "processed": self.processed,
            "dead_lettered": self.dead_lettered,
            "dead_lettered_by_reason": reasons_json(&self.dead_by_reason),
            "expired": self.expired,
            "pending": self.pending,
        })
    }
}

/// All messages of a file together.
#[derive(Debug, Default)]
pub struct Summary {
    /// The number of messages read, including malformed ones.
    messages: u64,
    pub malformed: u64,
    accepted: u64,
    refused: u64,
    unsent: u64,
    /// Deliveries of accepted messages.
    deliveries: Tally,
    replies: u64,
    /// Deliveries of replies.
    reply_deliveries: Tally,
    /// The router's own figures, of messages and replies together.
    account: Account,
    balances: bool,
    /// The report on protocols, if requested.
    pub violations: Option<ConformanceReport>,
    /// The router's shutdown, as text and as JSON.
    end: (String, Value),
    /// The signal that ended the run early.
    interrupted: Option<Signal>,
    pub shards: u16,
    pub seconds: f64,
}

impl Summary {
    /// Creates the summary for a router with this many shards.
    pub fn of_router(shards: u16) -> Self {
        Self { shards, ..Self::default() }
    }

    /// Adds the router's report.
    pub fn close(&mut self, report: &Report, interrupted: Option<Signal>) {
        self.balances = report.balances();
        self.account = report.stats.account();
        self.end = (report.to_string(), report.to_json());
        self.interrupted = interrupted;
    }

    /// Adds a message and its replies.
    pub fn count(&mut self, told: &ToldMessage) {
        self.messages += 1;
        match told.fates.first() {
            Some((_, Fate::Refused(_))) => self.refused += 1,
            Some((_, Fate::Unsent)) => self.unsent += 1,
            _ => {
                self.accepted += 1;
                told.fates.iter().for_each(|(_, fate)| self.deliveries.count(fate));
            }
        }
        self.replies += told.replies.len() as u64;
        told.replies.iter().for_each(|reply| self.reply_deliveries.add(&reply.fates));
    }

    /// Whether every message and every reply was processed. What was not sent because of a signal does not count.
    pub fn is_well(&self) -> bool {
        let unsent = if self.interrupted.is_some() { 0 } else { self.unsent };
        let sent = self.malformed + self.refused + unsent == 0;
        sent && self.deliveries.is_well() && self.reply_deliveries.is_well() && self.is_accounted_for()
    }

    /// Whether the router's figures balance and, if nothing is pending, agree with what was reported.
    fn is_accounted_for(&self) -> bool {
        let (ours, replies) = (&self.deliveries, &self.reply_deliveries);
        let told = |count: fn(&Tally) -> u64| count(ours) + count(replies);
        let same = told(|tally| tally.processed) == self.account.processed
            && told(|tally| tally.dead_lettered) == self.account.dead_lettered
            && told(|tally| tally.expired) == self.account.expired;
        self.shards == 0 || self.balances && (same || told(|tally| tally.pending) > 0)
    }

    /// Returns the summary as text.
    pub fn text(&self) -> String {
        if self.messages + self.malformed == 0 && self.interrupted.is_none() {
            return "no messages\n".to_owned();
        }
        let mut text = String::new();
        let mut line = |name: &str, value: &str| {
            let _ = writeln!(text, "{name:<11} {value}");
        };
        let mut messages = format!(
            "{} read, {} malformed, {} accepted",
            self.messages + self.malformed,
            self.malformed,
            self.accepted
        );
        for (count, what) in [(self.refused, "refused"), (self.unsent, "not sent")] {
            if count > 0 {
                let _ = write!(messages, ", {count} {what}");
            }
        }
        line("messages", &messages);
        line("deliveries", &tally_text(&self.deliveries));
        line("replies", &format!("{} sent: {}", self.replies, tally_text(&self.reply_deliveries)));
        if self.shards > 0 {
            let Account { accepted, processed, dead_lettered, expired, pending, departed, .. } = self.account;
            let verdict = if self.is_accounted_for() { "balances" } else { "DOES NOT BALANCE" };
            line(
                "accounting",
                &format!(
                    "{accepted} accepted = {processed} processed + {dead_lettered} dead-lettered + {expired} expired + \
                     {pending} pending: {verdict}"
                ),
            );
            line("crossed", &format!("{departed} between {} shards", self.shards));
        }
        line("time", &format!("{:.3} s", self.seconds));
        if let Some(signal) = self.interrupted {
            line("interrupted", &format!("{signal}: the rest of the file was not sent; the router {}", self.end.0));
        }
        if let Some(report) = &self.violations {
            text.push_str(&report.text());
        }
        text
    }

    /// Returns the summary as JSON.
    pub fn json(&self) -> Value {
        let account = &self.account;
        let mut replies = self.reply_deliveries.json();
        replies["sent"] = self.replies.into();
        let mut summary = json!({ "summary": {
            "messages": self.messages + self.malformed,
            "malformed": self.malformed,
            "accepted": self.accepted,
            "refused": self.refused,
            "unsent": self.unsent,
            "deliveries": self.deliveries.json(),
            "replies": replies,
            "account": {
                "accepted": account.accepted,
                "processed": account.processed,
                "dead_lettered": account.dead_lettered,
                "dead_lettered_by_reason": reasons_json(&account.dead_by_reason),
                "expired": account.expired,
                "pending": account.pending,
                "crossed": account.departed,
                "balances": self.is_accounted_for(),
            },
            "shards": self.shards,
            "seconds": self.seconds,
            "interrupted": self.interrupted.map(Signal::name),
            "shutdown": self.end.1,
        }});
        if let Some(report) = &self.violations {
            summary["summary"]["conformance"] = report.json();
        }
        summary
    }
}

fn tally_text(tally: &Tally) -> String {
    let reasons = DeadLetterReason::ALL.iter().filter(|reason| tally.dead_by_reason[reason.index()] > 0);
    let reasons: Vec<_> = reasons.map(|reason| format!("{reason} {}", tally.dead_by_reason[reason.index()])).collect();
    let reasons = if reasons.is_empty() { String::new() } else { format!(" ({})", reasons.join(", ")) };
    let Tally { processed, dead_lettered, expired, pending, .. } = tally;
    let pending = if *pending > 0 { format!(", {pending} pending") } else { String::new() };
    format!("{processed} processed, {dead_lettered} dead-lettered{reasons}, {expired} expired{pending}")
}

/// Returns the reasons that occurred, with their numbers.
fn reasons_json(counts: &[u64; DeadLetterReason::COUNT]) -> Value {
    let occurred = DeadLetterReason::ALL.iter().filter(|reason| counts[reason.index()] > 0);
    occurred.map(|reason| (reason.as_str().to_owned(), counts[reason.index()].into())).collect::<Map<_, _>>().into()
}
