//! Scenarios of more than one run: pairs of runs without and with a disturbance, and a peak before an overload.

use std::fmt::Write as _;

use caxton_router::dead_letter::DeadLetterReason;
use caxton_router::domain::{BackoffDelayMs, DeadLetterBytes, DomainError, MailboxCapacity, ShardCount};
use caxton_router::{Config, Message, Performative};
use serde_json::{Value, json};

use super::disturbance::{Disturbance, Patients, attempts_of, patients_for};
use super::run::{Length, Outcome, Plan};
use super::{Scenario, protocols};
use crate::cli::thousands;

/// Messages per second in the paired scenarios: well below the capacity of two cores.
const PAIRED_RATE: f64 = 100_000.0;
/// Messages per second that the receivers of an overload can handle, in total.
const SERVED_RATE: f64 = 20_000.0;
/// Factor between what is sent and what the receivers can handle.
const OVERLOAD_FACTOR: f64 = 10.0;
/// Factor between what is sent and what they should be able to handle while their peak is measured, so that none is
/// ever idle.
const PEAK_FACTOR: f64 = 2.0;
/// Maximum duration of measuring the peak, in seconds. It ends before the mailboxes are full.
const PEAK_SECONDS_MAX: f64 = 2.0;
/// Size of the mailboxes in an overload, in seconds of their owners' work.
const MAILBOX_SECONDS: f64 = 5.0;
/// Default number of pairs.
const PAIRS: u16 = 3;
/// Default number of pairs with a durable load.
const DURABLE_PAIRS: u16 = 9;
/// Default durable messages per second beside the volatile ones.
const DURABLE_RATE: f64 = 50_000.0;
/// Messages per second to hostile guests, in total.
const HOSTILE_RATE: f64 = 40.0;
/// Ends their actions within the run: with the presets' settings each message would take four times 5 s.
const HOSTILE_SETTINGS: [(&str, &str); 3] =
    [("wasm.call_ms", "100"), ("retry.attempts", "0"), ("supervision.restarts", "10000")];
/// Default number of poison messages.
const POISON: u64 = 1_000;
/// Size of the dead letters kept by one shard in an overload, in bytes: 64 MiB.
const DEAD_LETTER_BYTES: u64 = 64 << 20;
/// Delay before the first retry of a poison message, in milliseconds. With the presets' seconds a run would take longer
/// than it measures.
const POISON_RETRY_MS: u32 = 10;

/// Parameters of a scenario besides the plan of a run.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Pairs of runs, if not [`PAIRS`] or [`DURABLE_PAIRS`].
    pub pairs: Option<u16>,
    /// Poison messages, if not [`POISON`].
    pub poison: Option<u64>,
    /// Durable messages per second beside others, if not [`DURABLE_RATE`].
    pub durable_rate: Option<f64>,
}

/// The result of a scenario: one representative run, and the results of all runs together.
pub struct Trial {
    pub outcome: Outcome,
    findings: Findings,
    /// What was wrong in some other run.
    complaint: Option<String>,
    /// Settings besides the preset.
    settings: Vec<String>,
}

enum Findings {
    /// There was one run.
    One,
    Pairs(Vec<Pair>),
    Overload(Overload),
}

/// The 99th percentiles of the messages to the other agents, in nanoseconds.
#[derive(Clone, Copy)]
struct Pair {
    without_ns: u64,
    with_ns: u64,
}

impl Pair {
    fn ratio(self) -> f64 {
        self.with_ns as f64 / self.without_ns.max(1) as f64
    }
}

struct Overload {
    /// What the receivers handled without being idle, in messages per second.
    peak: f64,
    /// What was sent, in messages per second.
    sent: f64,
    /// Resident memory before both runs.
    rss_start_bytes: u64,
    budget_bytes: u64,
}

/// Runs a plan as often as its scenario needs. `run` runs it once.
///
/// # Errors
///
/// A run could not be measured.
pub fn run_trial(
    plan: Plan,
    effort: Effort,
    run: &mut dyn FnMut(Plan) -> Result<Outcome, String>,
) -> Result<Trial, String> {
    match plan.scenario {
        Scenario::SlowConsumer | Scenario::DurableLoad | Scenario::HostileGuests | Scenario::Poison => {
            pairs(plan, effort, run)
        }
        Scenario::Overload => overload(plan, run),
        _ => {
            let outcome = run(plan)?;
            let (findings, complaint) = (Findings::One, None);
            Ok(Trial { outcome, findings, complaint, settings: Vec::new() })
        }
    }
}

fn pairs(
    mut plan: Plan,
    effort: Effort,
    run: &mut dyn FnMut(Plan) -> Result<Outcome, String>,
) -> Result<Trial, String> {
    plan.rate = plan.rate.or(Some(PAIRED_RATE));
    let mut settings = Vec::new();
    let usual = if plan.scenario == Scenario::DurableLoad { DURABLE_PAIRS } else { PAIRS };
    let (pairs, poison) = (effort.pairs.unwrap_or(usual), effort.poison.unwrap_or(POISON));
    let [without, with] = if plan.scenario == Scenario::Poison {
        plan.config.retry.delay_ms = BackoffDelayMs::try_new(POISON_RETRY_MS).map_err(|error| in_words(&error))?;
        settings.push(format!("retry.delay_ms = {POISON_RETRY_MS}"));
        let (patients, attempts) = (patients_for(poison, &plan.config), attempts_of(&plan.config));
        [0, poison].map(|messages| Disturbance::Poison { patients, messages, attempts })
    } else if plan.scenario == Scenario::DurableLoad {
        [0.0, effort.durable_rate.unwrap_or(DURABLE_RATE)].map(|rate| Disturbance::DurableLoad { rate })
    } else if plan.scenario == Scenario::HostileGuests {
        for (key, value) in HOSTILE_SETTINGS {
            plan.config.set(key, value, "hostile-guests").map_err(|error| error.to_string())?;
            settings.push(format!("{key} = {value}"));
        }
        [0.0, HOSTILE_RATE].map(|rate| Disturbance::HostileGuests { rate })
    } else {
        [false, true].map(|present| Disturbance::SlowConsumer { present })
    };
    let mut complaint = None;
    let mut outcomes = Vec::with_capacity(usize::from(pairs));
    for number in 0..pairs {
        let mut run = |disturbance: &Disturbance| run(Plan { disturbance: Some(disturbance.clone()), ..plan.clone() });
        // Slow changes on the machine favour neither.
        let calm_first = number % 2 == 0;
        let first = run(if calm_first { &without } else { &with })?;
        if first.interrupted.is_some() {
            return Ok(Trial::cut_off(first, settings));
        }
        let second = run(if calm_first { &with } else { &without })?;
        if second.interrupted.is_some() {
            return Ok(Trial::cut_off(second, settings));
        }
        let (calm, disturbed) = if calm_first { (first, second) } else { (second, first) };
        complaint = complaint.or_else(|| calm.complaint()).or_else(|| disturbed.complaint());
        let [without_ns, with_ns] = [&calm, &disturbed].map(|outcome| outcome.latencies.value_at_quantile(0.99));
        outcomes.push((Pair { without_ns, with_ns }, disturbed));
    }
    let pairs: Vec<Pair> = outcomes.iter().map(|(pair, _)| *pair).collect();
    // The median pair represents all.
    outcomes.sort_by(|(one, _), (other, _)| one.ratio().total_cmp(&other.ratio()));
    let middle = (outcomes.len().max(1) - 1) / 2;
    let (_, outcome) = outcomes.into_iter().nth(middle).ok_or("there was no pair of runs")?;
    Ok(Trial { outcome, findings: Findings::Pairs(pairs), complaint, settings })
}

fn overload(mut plan: Plan, run: &mut dyn FnMut(Plan) -> Result<Outcome, String>) -> Result<Trial, String> {
    let served = plan.rate.unwrap_or(SERVED_RATE);
    let each = served / plan.agents as f64;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // Positive, and as much as fits.
    let (messages, takes_ns) = ((each * MAILBOX_SECONDS).ceil() as u32, (1e9 / each) as u64);
    let messages = messages.clamp(MailboxCapacity::MINIMUM, MailboxCapacity::MAXIMUM);
    plan.config.mailbox.messages = MailboxCapacity::try_new(messages).map_err(|error| in_words(&error))?;
    plan.config.dead_letters.bytes = DeadLetterBytes::try_new(DEAD_LETTER_BYTES).map_err(|error| in_words(&error))?;
    let settings =
        vec![format!("mailbox.messages = {messages}"), format!("dead_letters.bytes = {} MiB", DEAD_LETTER_BYTES >> 20)];

    let Length::Seconds(seconds) = plan.length else { return Err("an overload is measured by time".to_owned()) };
    let calm = run(Plan {
        rate: Some(served * PEAK_FACTOR),
        length: Length::Seconds(seconds.min(PEAK_SECONDS_MAX)),
        disturbance: Some(Disturbance::Overload { takes_ns, too_much: false }),
        ..plan.clone()
    })?;
    if calm.interrupted.is_some() {
        return Ok(Trial::cut_off(calm, settings));
    }
    let peak = calm.messages_per_second();
    let outcome = run(Plan {
        rate: Some((peak * OVERLOAD_FACTOR).max(1.0)),
        disturbance: Some(Disturbance::Overload { takes_ns, too_much: true }),
        ..plan
    })?;
    let overload = Overload {
        peak,
        sent: outcome.report.stats.account().accepted as f64 / seconds,
        rss_start_bytes: calm.rss_start_bytes,
        budget_bytes: budget_bytes(&outcome),
    };
    Ok(Trial { complaint: calm.complaint(), outcome, findings: Findings::Overload(overload), settings })
}

/// Returns the memory that the messages of a run may take, by its configuration: the limits of mailboxes and outboxes,
/// within the router's memory budget, plus those of rings and dead letters.
fn budget_bytes(outcome: &Outcome) -> u64 {
    let (plan, shards) = (&outcome.plan, u64::from(outcome.shards));
    let Config { mailbox, delivery, dead_letters, ring, .. } = &plan.config;
    let content = "x".repeat(plan.size);
    let message = Message::builder(Performative::Inform).content(content.as_str()).build();
    let weight = message.map_or(plan.size, |message| message.weight()) as u64;
    let mailbox = (u64::from(mailbox.messages.into_inner()) * weight).min(mailbox.bytes.into_inner());
    let mailboxes = plan.agents as u64 * mailbox;
    let pending = shards * delivery.pending_max.as_usize() as u64 * weight;
    // Each shard has one sending agent.
    let outboxes = shards * u64::from(delivery.outbox.into_inner()) * weight;
    let ring = ShardCount::try_new(outcome.shards).map_or(0, |shards| ring.capacity.resolve(shards).as_usize());
    let rings = shards * (shards - 1) * ring as u64 * weight;
    let letters = (dead_letters.messages.as_usize() as u64 * weight).min(dead_letters.bytes.into_inner());
    let (_, memory_budget) = outcome.report.stats.memory_bytes();
    (mailboxes + outboxes).min(pending).min(memory_budget) + rings + shards * letters
}

fn in_words(error: &DomainError) -> String {
    error.to_string()
}

impl Trial {
    /// Creates the result of a scenario of several runs that a signal ended in this one.
    fn cut_off(outcome: Outcome, settings: Vec<String>) -> Self {
        Self { outcome, findings: Findings::One, complaint: None, settings }
    }

    /// Returns what is wrong with any of the runs, if anything.
    pub fn complaint(&self) -> Option<String> {
        self.complaint.clone().or_else(|| self.outcome.complaint())
    }

    /// Adds the results of all runs to the object of the representative one.
    pub fn extend(&self, object: &mut Value) {
        object["balances"] = self.complaint().is_none().into();
        if !self.settings.is_empty() {
            object["settings"] = json!(self.settings);
        }
        let account = self.outcome.report.stats.account();
        if self.outcome.plan.disturbance.is_some() {
            object["refused"] = account.refused.into();
            object["failures_told"] = self.outcome.failures.into();
            object["failures_coalesced"] = account.notices_coalesced.into();
        }
        match &self.findings {
            Findings::One => {}
            Findings::Pairs(pairs) => {
                object["pairs"] = pairs
                    .iter()
                    .map(|pair| {
                        json!({
                            "without_p99_us": microseconds(pair.without_ns),
                            "with_p99_us": microseconds(pair.with_ns),
                            "ratio": pair.ratio(),
                        })
                    })
                    .collect();
                object["p99_ratio_median"] = median_ratio(pairs).into();
            }
            Findings::Overload(overload) => {
                object["peak_messages_per_second"] = overload.peak.into();
                object["sent_per_second"] = overload.sent.into();
                object["sent_of_peak"] = (overload.sent / overload.peak).into();
                object["delivered_of_peak"] = self.delivered_of_peak(overload).into();
                object["memory"] = json!({
                    "start_bytes": overload.rss_start_bytes,
                    // Includes what the allocator has kept of the run that measured the peak.
                    "after_peak_bytes": self.outcome.rss_start_bytes,
                    "max_bytes": self.outcome.rss_max_bytes,
                    "budget_bytes": overload.budget_bytes,
                    "share_of_budget": self.share_of_budget(overload),
                });
            }
        }
        if self.outcome.plan.scenario == Scenario::Protocols {
            object["protocols"] = protocols::json(&self.outcome);
        }
        match self.outcome.plan.disturbance {
            Some(Disturbance::SlowConsumer { .. }) => {
                let Patients { sent, taken, .. } = self.outcome.patients;
                object["slow_consumer"] = json!({ "sent": sent, "taken": taken });
            }
            Some(Disturbance::Poison { messages, attempts, .. }) => {
                let Patients { count, poison_exhausted, restarts, .. } = self.outcome.patients;
                object["poison"] = json!({
                    "messages": messages,
                    "agents": count,
                    "attempts_max": attempts,
                    "dead_lettered_after_all": poison_exhausted,
                    "retried": account.retried,
                    "restarts": restarts,
                    "breakers_opened": self.outcome.report.stats.breakers_opened(),
                });
            }
            Some(Disturbance::HostileGuests { rate }) => {
                object["hostile_guests"] = json!({ "rate": rate, "sent": self.outcome.patients.sent });
            }
            Some(Disturbance::DurableLoad { rate }) => {
                object["durable_load"] = json!({ "rate": rate, "sent": self.outcome.patients.sent });
            }
            Some(Disturbance::Overload { .. }) | None => {}
        }
    }

    /// Returns the results of all runs, as text.
    pub fn details(&self) -> String {
        let account = self.outcome.report.stats.account();
        let mut text = String::new();
        if self.outcome.plan.scenario == Scenario::Protocols {
            text.push_str(&protocols::text(&self.outcome));
        }
        if !self.settings.is_empty() {
            let _ = writeln!(text, "settings            {}, the rest as in the preset", self.settings.join(", "));
        }
        if self.outcome.plan.disturbance.is_some() {
            let reasons =
                DeadLetterReason::ALL.iter().map(|reason| (reason.as_str(), account.dead_by_reason[reason.index()]));
            let others = [("expired", account.expired), ("refused at once", account.refused)];
            let counts: Vec<String> = reasons
                .chain(others)
                .filter(|(_, count)| *count > 0)
                .map(|(word, count)| format!("{} {word}", thousands(count as f64)))
                .collect();
            let counts = if counts.is_empty() { "none".to_owned() } else { counts.join(", ") };
            let _ = writeln!(text, "refusals            {counts}");
            let _ = writeln!(
                text,
                "  senders notified    {} by message, {} as a figure because their control lane was full",
                thousands(self.outcome.failures as f64),
                thousands(account.notices_coalesced as f64)
            );
        }
        match self.outcome.plan.disturbance {
            Some(Disturbance::SlowConsumer { .. }) => {
                let Patients { sent, taken, .. } = self.outcome.patients;
                let [sent, taken] = [sent, taken].map(|count| thousands(count as f64));
                let _ = writeln!(text, "slow consumer       was sent {sent}, took {taken} with those at the end");
            }
            Some(Disturbance::Poison { messages, attempts, .. }) => {
                let Patients { count, poison_exhausted, restarts, .. } = self.outcome.patients;
                let opened = self.outcome.report.stats.breakers_opened();
                let _ = writeln!(
                    text,
                    "poison              {poison_exhausted} of {messages} dead-lettered after all {attempts} attempts \
                     at {count} agents, {restarts} restarts, {opened} breakers opened"
                );
            }
            Some(Disturbance::HostileGuests { rate }) => {
                let sent = thousands(self.outcome.patients.sent as f64);
                let letters = thousands(account.dead_lettered as f64);
                let _ = writeln!(text, "hostile guests      {rate}/s, {sent} in all, {letters} dead letters");
            }
            Some(Disturbance::DurableLoad { rate }) => {
                let sent = thousands(self.outcome.patients.sent as f64);
                let _ = writeln!(text, "durable load        {}/s, {sent} in all", thousands(rate));
            }
            Some(Disturbance::Overload { .. }) | None => {}
        }
        match &self.findings {
            Findings::One => {}
            Findings::Pairs(pairs) => {
                let _ = writeln!(
                    text,
                    "p99 of the others   without, with, ratio; the figures above are of the middle pair"
                );
                for pair in pairs {
                    let [without, with] = [pair.without_ns, pair.with_ns].map(microseconds);
                    let _ = writeln!(text, "  pair              {without:.1} us  {with:.1} us  {:.2}", pair.ratio());
                }
                let _ = writeln!(text, "  median ratio      {:.2}", median_ratio(pairs));
            }
            Findings::Overload(overload) => {
                let _ = writeln!(
                    text,
                    "overload            {:.1} times the peak of {}/s was sent, {:.1} % of the peak was delivered",
                    overload.sent / overload.peak,
                    thousands(overload.peak.round()),
                    100.0 * self.delivered_of_peak(overload)
                );
                let (start, between) = (overload.rss_start_bytes, self.outcome.rss_start_bytes);
                let [start, between, max, budget] = [start, between, self.outcome.rss_max_bytes, overload.budget_bytes]
                    .map(|bytes| bytes as f64 / 1_048_576.0);
                let _ = writeln!(
                    text,
                    "  memory            from {start:.1} MiB, {between:.1} after the peak, to at most {max:.1} MiB: {:.0} % \
                     of the {budget:.1} MiB that budget and bounds allow",
                    100.0 * self.share_of_budget(overload)
                );
            }
        }
        text
    }

    fn delivered_of_peak(&self, overload: &Overload) -> f64 {
        self.outcome.messages_per_second() / overload.peak
    }

    /// Returns the resident memory added by the load, as a share of what it may add.
    fn share_of_budget(&self, overload: &Overload) -> f64 {
        let added = self.outcome.rss_max_bytes.saturating_sub(overload.rss_start_bytes);
        added as f64 / overload.budget_bytes.max(1) as f64
    }
}

fn microseconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1_000.0
}

fn median_ratio(pairs: &[Pair]) -> f64 {
    let mut ratios: Vec<f64> = pairs.iter().map(|pair| pair.ratio()).collect();
    ratios.sort_by(f64::total_cmp);
    match (ratios.get(ratios.len().saturating_sub(1) / 2), ratios.get(ratios.len() / 2)) {
        (Some(low), Some(high)) => f64::midpoint(*low, *high),
        _ => f64::NAN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_ratio_is_the_middle_one_or_between_the_two_in_the_middle() {
        let pairs = |ratios: &[u64]| -> Vec<Pair> {
            ratios.iter().map(|ratio| Pair { without_ns: 100, with_ns: *ratio }).collect()
        };
        for (ratios, median) in [(&[300][..], 3.0), (&[500, 100, 200], 2.0), (&[100, 400, 200, 900], 3.0)] {
            assert!((median_ratio(&pairs(ratios)) - median).abs() < 1e-9, "{ratios:?}");
        }
    }
}
