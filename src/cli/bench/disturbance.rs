//! Disturbances of an open loop, and the checks on their results.
//!
//! Each of them except the durable load makes the router refuse messages or give them up. A run therefore fails unless
//! every one of those is accounted for by a reason expected in the scenario, its sender was notified, and no other
//! agent lost anything.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use caxton_router::dead_letter::DeadLetterReason;
use caxton_router::router::INBOX_WINDOW;
use caxton_router::{AgentId, Config, Registration, Router};
use caxton_shards::stats::Account;

use super::cast::{Cast, Named, Pace, kit, pacers, sink};
use super::hostile;
use super::load::{Control, Pacer};
use super::patients::{Errand, Poisoned, Server};
use super::run::{Length, Outcome, Plan, WARM_UP_SHARE};

/// The share of the time within which all poison is sent, so that its last attempts belong to the run.
const POISON_ENDS_SHARE: f64 = 0.9;

/// The disturbance of a run.
#[derive(Clone, Debug)]
pub enum Disturbance {
    /// The first agent takes its messages from an inbox, slowly. Its mailbox is full from the beginning. If it is not
    /// `present` it is an ordinary agent.
    SlowConsumer { present: bool },
    /// The first `patients` agents receive this many messages that fail at each of `attempts`; none in a run for
    /// comparison.
    Poison { patients: usize, messages: u64, attempts: u8 },
    /// This many durable messages per second are sent to the same agents; none in a run for comparison. Their latencies
    /// are not recorded.
    DurableLoad { rate: f64 },
    /// This many messages per second are sent to guests that attack their shards; none in a run for comparison.
    HostileGuests { rate: f64 },
    /// Every agent takes this long for a message. `too_much` means that more is sent than they can handle.
    Overload { takes_ns: u64, too_much: bool },
}

/// Results for the agents subjected to the disturbance.
#[derive(Clone, Copy, Debug, Default)]
pub struct Patients {
    /// Their number.
    pub count: usize,
    /// Ordinary messages sent to them.
    pub sent: u64,
    /// Messages taken by the slow consumer.
    pub taken: u64,
    pub poison_sent: u64,
    /// Poison messages that were tried exactly the maximum number of times.
    pub poison_exhausted: u64,
    /// Restarts of the agents that received poison. Restarts still pending at the end do not count.
    pub restarts: u64,
}

impl Patients {
    pub fn of(control: &Control, cast: &Cast, attempts: u8, taken: u64) -> Self {
        let count = cast.patients.len();
        Self {
            count,
            sent: control.to_patients.load(Ordering::Relaxed),
            taken,
            poison_sent: control.poison.sent(),
            poison_exhausted: control.poison.tried(attempts),
            restarts: control.poison.made().saturating_sub(count as u64),
        }
    }
}

impl Disturbance {
    /// Returns the number of poison messages.
    pub fn poison(&self) -> u64 {
        match self {
            Self::Poison { messages, .. } => *messages,
            Self::SlowConsumer { .. }
            | Self::DurableLoad { .. }
            | Self::HostileGuests { .. }
            | Self::Overload { .. } => 0,
        }
    }

    /// Returns the number of attempts for a message that always fails.
    pub fn attempts(&self) -> u8 {
        match self {
            Self::Poison { attempts, .. } => *attempts,
            Self::SlowConsumer { .. }
            | Self::DurableLoad { .. }
            | Self::HostileGuests { .. }
            | Self::Overload { .. } => 1,
        }
    }

    /// Whether the run differs from an ordinary one.
    pub fn is_present(&self) -> bool {
        match self {
            Self::SlowConsumer { present } => *present,
            Self::Poison { messages, .. } => *messages > 0,
            Self::DurableLoad { rate } | Self::HostileGuests { rate } => *rate > 0.0,
            Self::Overload { .. } => true,
        }
    }

    /// Whether the disturbance has had its effect, by these figures of a running router.
    pub fn has_happened(&self, control: &Control, account: &Account) -> bool {
        let patients_met = || control.to_patients.load(Ordering::Relaxed) > 0;
        let given_up = || account.dead_lettered + account.expired + account.refused > 0;
        match self {
            _ if !self.is_present() => true,
            Self::SlowConsumer { .. } => patients_met() && given_up(),
            Self::Poison { messages, .. } => control.poison.sent() == *messages,
            Self::DurableLoad { .. } | Self::HostileGuests { .. } => patients_met(),
            Self::Overload { too_much, .. } => !too_much || given_up(),
        }
    }

    /// Registers the agents.
    ///
    /// # Errors
    ///
    /// There are too few agents.
    pub fn cast(
        &self,
        plan: &Plan,
        router: &Router,
        names: &[Named],
        control: &Arc<Control>,
        rate: f64,
    ) -> Result<Cast, String> {
        let count = match self {
            Self::SlowConsumer { .. } => 1,
            Self::Poison { patients, .. } => *patients,
            Self::DurableLoad { .. } | Self::HostileGuests { .. } | Self::Overload { .. } => 0,
        };
        if count > names.len() / 2 {
            return Err(format!("{count} agents would get poison, of {}: send less or to more agents", names.len()));
        }
        let patients: Arc<[AgentId]> = names.iter().take(count).map(|named| named.id).collect();
        let errands: Vec<Option<Errand>> = (0..usize::from(router.shard_count()))
            .map(|shard| self.errand(plan, shard, usize::from(router.shard_count()), names, &patients))
            .collect();
        let spared = Arc::clone(&patients);
        let equip = move |shard: usize, pacer: Pacer| pacer.sparing(&spared).on(errands.get(shard).cloned().flatten());
        let pace = Pace { prefix: "pacer", rate, durable: plan.is_durable() };
        let mut cast = pacers(plan, router, names, control, pace, equip)?;
        if let Self::DurableLoad { rate } = *self
            && rate > 0.0
        {
            let pace = Pace { prefix: "durable-pacer", rate, durable: true };
            let beside = pacers(plan, router, names, control, pace, |_, pacer| pacer.unrecorded())?;
            cast.registrations.extend(beside.registrations);
            cast.starters.extend(beside.starters);
        }
        if let Self::HostileGuests { rate } = *self
            && rate > 0.0
        {
            let (guests, hostile) = hostile::guests(plan, router)?;
            let pace = Pace { prefix: "hostile-pacer", rate, durable: false };
            let beside = pacers(plan, router, &hostile, control, pace, |_, pacer| pacer.unrecorded())?;
            cast.registrations.extend(guests);
            cast.registrations.extend(beside.registrations);
            cast.starters.extend(beside.starters);
        }
        for (number, named) in names.iter().enumerate() {
            match self {
                Self::SlowConsumer { present: true } if number < count => {
                    cast.slow_consumer = Some(named.name.clone());
                }
                _ => cast.registrations.push(self.agent(plan, control, named, number, count)),
            }
        }
        cast.patients = patients;
        Ok(cast)
    }

    fn agent(
        &self,
        plan: &Plan,
        control: &Arc<Control>,
        named: &Named,
        number: usize,
        patients: usize,
    ) -> Registration {
        let name = named.name.clone();
        match *self {
            Self::Poison { messages, .. } if number < patients && messages > 0 => {
                let kit = kit(plan, control, named, number);
                Registration::native(name, move || Poisoned::new(kit(), patients))
            }
            Self::Overload { takes_ns, .. } => {
                let kit = kit(plan, control, named, number);
                Registration::native(name, move || Server::new(kit(), takes_ns))
            }
            Self::Poison { .. } | Self::SlowConsumer { .. } | Self::DurableLoad { .. } | Self::HostileGuests { .. } => {
                sink(plan, control, named, number)
            }
        }
    }

    /// Returns the additional task of a shard's pacer.
    fn errand(
        &self,
        plan: &Plan,
        shard: usize,
        shards: usize,
        names: &[Named],
        patients: &Arc<[AgentId]>,
    ) -> Option<Errand> {
        match *self {
            Self::SlowConsumer { present: true } => {
                let slow = names.first().filter(|slow| slow.shard == shard)?;
                let room = u64::from(plan.config.mailbox.messages.into_inner()) + u64::from(INBOX_WINDOW);
                Some(Errand::Fill { agent: slow.id, left: room })
            }
            Self::Poison { messages, .. } if messages > 0 => {
                let Length::Seconds(seconds) = plan.length else { return None };
                let first_of = |shard: usize| messages * shard as u64 / shards as u64;
                #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // A run takes less than 584 years.
                let nanoseconds = |share: f64| (seconds * share * 1e9) as u64;
                Some(Errand::Poison {
                    patients: Arc::clone(patients),
                    first: first_of(shard),
                    messages: first_of(shard + 1) - first_of(shard),
                    sent: 0,
                    begins_ns: nanoseconds(WARM_UP_SHARE),
                    lasts_ns: nanoseconds(POISON_ENDS_SHARE - WARM_UP_SHARE),
                })
            }
            Self::Poison { .. }
            | Self::SlowConsumer { .. }
            | Self::DurableLoad { .. }
            | Self::HostileGuests { .. }
            | Self::Overload { .. } => None,
        }
    }

    /// Returns the expected reasons of dead letters.
    fn reasons(&self) -> &'static [DeadLetterReason] {
        match self {
            Self::DurableLoad { .. } => &[],
            Self::SlowConsumer { .. } => &[DeadLetterReason::MailboxFull],
            Self::Poison { .. } | Self::HostileGuests { .. } => &[DeadLetterReason::AttemptsExhausted],
            Self::Overload { .. } => &[DeadLetterReason::MailboxFull, DeadLetterReason::ShardFull],
        }
    }

    /// Returns what is wrong in a disturbed run whose account balances.
    pub fn complaint(&self, outcome: &Outcome) -> Option<String> {
        let account = outcome.report.stats.account();
        let given_up = account.dead_lettered + account.expired;
        let told = outcome.failures + account.notices_coalesced;
        if told != given_up {
            return Some(format!("{given_up} messages were given up, and their senders were notified of {told}"));
        }
        if account.refused != outcome.refused {
            return Some(format!("{} sends were refused, and {} counted", outcome.refused, account.refused));
        }
        let unexpected = DeadLetterReason::ALL
            .iter()
            .find(|reason| account.dead_by_reason[reason.index()] > 0 && !self.reasons().contains(reason));
        if let Some(reason) = unexpected {
            let count = account.dead_by_reason[reason.index()];
            return Some(format!("{count} messages were given up because {}", reason.explanation()));
        }
        match self {
            Self::SlowConsumer { .. } => complaint_of_slow_consumer(outcome, given_up),
            Self::DurableLoad { .. } => {
                let sent = outcome.patients.sent;
                let lost = given_up + account.refused;
                let complaint = format!("{lost} messages were lost beside a durable load of {sent}");
                (lost > 0 || sent == 0).then_some(complaint)
            }
            Self::HostileGuests { .. } => {
                let sent = outcome.patients.sent;
                let complaint =
                    format!("{given_up} of {sent} messages to hostile guests were given up: all should have been");
                (given_up != sent || sent == 0).then_some(complaint)
            }
            Self::Poison { messages, .. } => complaint_of_poison(outcome, *messages, given_up),
            Self::Overload { too_much, .. } => {
                let refused = given_up + account.refused;
                (*too_much && refused == 0).then(|| "nothing was refused: this was not an overload".to_owned())
            }
        }
        .or_else(|| outcome.complaint_of_nothing())
    }
}

fn complaint_of_slow_consumer(outcome: &Outcome, given_up: u64) -> Option<String> {
    let Patients { sent, taken, .. } = outcome.patients;
    let its_own = sent.saturating_sub(taken);
    if given_up != its_own || outcome.refused > 0 {
        let others = given_up.saturating_sub(its_own) + outcome.refused;
        return Some(format!("{others} messages of others than the slow consumer were lost"));
    }
    (given_up == 0).then(|| "the slow consumer's mailbox was never full".to_owned())
}

fn complaint_of_poison(outcome: &Outcome, messages: u64, given_up: u64) -> Option<String> {
    let Patients { poison_sent, poison_exhausted, .. } = outcome.patients;
    if poison_sent != messages || outcome.refused > 0 {
        return Some(format!("{poison_sent} of {messages} poison messages were sent, {} refused", outcome.refused));
    }
    if poison_exhausted != messages || given_up != messages {
        return Some(format!(
            "of {messages} poison messages {poison_exhausted} had all their attempts; {given_up} messages were given up"
        ));
    }
    None
}

/// Returns the number of agents over which this much poison is spread, so that no circuit breaker opens: a breaker is
/// for failing agents, and here the messages fail.
pub fn patients_for(messages: u64, config: &Config) -> usize {
    let attempts = u64::from(attempts_of(config));
    let failures = u64::from(config.breaker.failures.into_inner());
    let each = if failures == 0 { messages } else { (failures.saturating_sub(1) / attempts).max(1) };
    usize::try_from(messages.div_ceil(each.max(1))).unwrap_or(usize::MAX).max(1)
}

/// Returns the default number of attempts.
pub fn attempts_of(config: &Config) -> u8 {
    config.retry.attempts.into_inner().saturating_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use caxton_router::config::Preset;

    #[test]
    fn poison_is_spread_so_thin_that_no_breaker_opens_and_no_agent_is_stopped() {
        for preset in Preset::ALL {
            let config = Config::preset(preset);
            for messages in [2_u64, 99, 1_000, 100_000] {
                let each = messages.div_ceil(patients_for(messages, &config) as u64);
                let failures = each * u64::from(attempts_of(&config));
                assert!(failures < u64::from(config.breaker.failures.into_inner()), "{messages} in {preset}");
                assert!(each <= u64::from(config.supervision.restarts.into_inner()), "{messages} in {preset}");
            }
        }
    }
}
