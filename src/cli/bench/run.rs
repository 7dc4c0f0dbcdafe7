//! One run of one scenario: agents are registered, set going, measured, drained, and accounted for.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use caxton_router::doctor::SHARDS;
use caxton_router::domain::{AgentName, CapabilityName};
use caxton_router::signals::Signal;
use caxton_router::wasm::Sandbox;
use caxton_router::{AgentId, Config, Message, Performative, Registration, Report, Router};
use hdrhistogram::Histogram;
use rustix::time::{ClockId, clock_gettime};
use tempfile::TempDir;

use super::super::complain;
use super::super::interrupt::Interrupt;
use super::Scenario;
use super::disturbance::{Disturbance, Patients};
use super::load::{Broadcaster, Contractor, Control, Feeder, Kit, Listener, Manager, Pacer, Rally, Requester, Sink};
use super::machine::Machine;
use super::patients::SlowConsumer;
use super::protocols::{self, Offences, Played, Player};

/// Conversations that each agent begins in the scenarios that send messages back and forth.
const CONVERSATIONS_PER_AGENT: usize = 1;
/// Contractors that each negotiation asks.
const CONTRACTORS: usize = 10;
/// Agents that each broadcast reaches.
const LISTENERS_MAX: usize = 100;
/// Messages that wait for one guest in WebAssembly at most, and for all of them together.
const GUEST_WINDOW_MAX: u64 = 256;
const GUEST_MESSAGES_MAX: u64 = 65_536;
/// What is measured begins after this share of the time.
pub const WARM_UP_SHARE: f64 = 0.2;
/// How long messages that are under way at the end get to arrive.
const DRAIN_DEADLINE: Duration = Duration::from_mins(1);
/// How long a run goes on beyond its time if what it is about has not happened by then, as on a machine that is busy with other
/// work.
const EXTENSION_MAX: Duration = Duration::from_mins(1);
/// How often such a run is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// What is to be run.
#[derive(Clone, Debug)]
pub struct Plan {
    pub scenario: Scenario,
    pub agents: usize,
    /// Whether guests in WebAssembly are raw modules.
    pub raw: bool,
    pub size: usize,
    pub length: Length,
    /// Messages per second in an open loop; without it, as many as the router handles.
    pub rate: Option<f64>,
    /// What the load has to cope with, in the scenarios that are about that.
    pub disturbance: Option<Disturbance>,
    /// How much agents break the protocols of their conversations, in the scenario that is about that.
    pub offences: Offences,
    /// Where the store's directory is made, if messages are to be on disk before they are handled.
    pub durable: Option<PathBuf>,
    /// How long what is under way may take after a signal.
    pub shutdown: Duration,
    pub config: Config,
    /// What a file, the environment or `--set` said beside the preset.
    pub settings: Vec<String>,
}

impl Plan {
    /// What the run is called in reports.
    pub fn name(&self) -> String {
        let durable = if self.is_durable() { " durable" } else { "" };
        let raw = if self.raw { " raw" } else { "" };
        format!("{}{raw}{durable}", self.scenario.name())
    }

    /// Whether what is measured is on disk before it is handled.
    pub fn is_durable(&self) -> bool {
        self.durable.is_some() && self.scenario != Scenario::DurableLoad
    }

    /// Makes the store's directory, where there is to be one. It is removed with what is answered.
    fn data_directory(&mut self) -> Result<Option<TempDir>, String> {
        let Some(place) = &self.durable else { return Ok(None) };
        let made = tempfile::Builder::new().prefix("caxton-bench-").tempdir_in(place);
        let directory = made.map_err(|error| format!("no directory can be made in {}: {error}", place.display()))?;
        self.config.store.directory = directory.path().to_owned().into();
        Ok(Some(directory))
    }
}

/// How long a run is.
#[derive(Clone, Copy, Debug)]
pub enum Length {
    Seconds(f64),
    Messages(u64),
}

/// What came of a run.
pub struct Outcome {
    pub plan: Plan,
    pub shards: u16,
    pub seconds: f64,
    pub messages: u64,
    pub cpu_ns_per_message: f64,
    pub rounds: u64,
    pub latencies: Histogram<u64>,
    pub registrations_per_second: f64,
    pub bytes_per_agent: f64,
    pub rss_bytes: u64,
    /// Resident memory with all agents and no message, and the most that was seen: in an overload also while it was going on.
    pub rss_start_bytes: u64,
    pub rss_max_bytes: u64,
    pub report: Report,
    pub refused: u64,
    pub failures: u64,
    /// What became of the agents that the run was hard on.
    pub patients: Patients,
    /// What was done in conversations by protocols.
    pub played: Played,
    /// Whether what was written to disk survives a power cut.
    pub survives_power_cut: bool,
    /// What the run was measured on, and the share of its cores that other processes used meanwhile.
    pub machine: Machine,
    pub share_of_others: Option<f64>,
    /// The signal that ended the run early.
    pub interrupted: Option<Signal>,
    /// Whether the figures are of the time after the warm-up. They include it where a signal came before its end.
    pub warmed_up: bool,
}

impl Outcome {
    /// Messages that were handled per second.
    pub fn messages_per_second(&self) -> f64 {
        self.messages as f64 / self.seconds
    }

    /// Whether any message was handled while the run was measured. Without one, figures per message or second say nothing.
    pub fn is_measured(&self) -> bool {
        self.messages > 0 && self.seconds > 0.0
    }

    /// What does not add up, if anything.
    pub fn complaint(&self) -> Option<String> {
        let account = self.report.stats.account();
        if !self.report.balances() {
            return Some(format!("the accounting does not balance: {account:?}"));
        }
        if !self.report.drained {
            return Some("the router did not handle everything before the deadline".to_owned());
        }
        if self.interrupted.is_some() {
            // The load was cut off, so what it reached says nothing.
            return None;
        }
        if let Some(disturbance) = self.plan.disturbance.as_ref().filter(|disturbance| disturbance.is_present()) {
            return disturbance.complaint(self);
        }
        if self.plan.scenario == Scenario::Protocols {
            return protocols::complaint(self);
        }
        let lost = account.dead_lettered + account.expired + account.refused + self.refused + self.failures;
        if lost > 0 {
            return Some(format!(
                "{} dead letters, {} expired, {} refused, {} failures reported: this load should have none",
                account.dead_lettered,
                account.expired,
                account.refused.max(self.refused),
                self.failures
            ));
        }
        self.complaint_of_nothing()
    }

    pub fn complaint_of_nothing(&self) -> Option<String> {
        (self.messages == 0).then(|| "no message was handled while the run was measured".to_owned())
    }
}

/// A moment of the run.
struct Mark {
    at: Instant,
    cpu: Duration,
    /// What all processes used of the cores that this one may use.
    busy: Option<Duration>,
    processed: u64,
    rounds: u64,
}

/// Runs the plan, or as much of it as a signal leaves time for. `progress` is told how far the run is, from 0 to 1.
///
/// # Errors
/// What kept the run from being measured, in words.
pub fn run(plan: Plan, interrupt: &Interrupt, mut progress: impl FnMut(f64)) -> Result<Outcome, String> {
    let mut plan = plan;
    let directory = plan.data_directory()?;
    let router = Router::builder().config(plan.config.clone()).start().map_err(|error| error.to_string())?;
    for warning in router.host_warnings().iter().filter(|warning| warning.name == SHARDS) {
        complain(&format!("warning: {warning}"));
    }
    let shards = router.shard_count();
    let control = Control::new(shards, plan.disturbance.as_ref().map_or(0, Disturbance::poison));
    let attempts = plan.disturbance.as_ref().map_or(1, Disturbance::attempts);
    let stopped = Arc::clone(&control);
    let _watch = interrupt.watch(&router, plan.shutdown, move || stopped.stop.store(true, Ordering::Relaxed));
    // What the agents of the load themselves hold counts as well.
    let before_bytes = resident_bytes();
    let names = names(&plan, &router)?;
    let mut cast = cast(&plan, &router, &names, &control)?;

    let count = cast.registrations.len();
    let started = Instant::now();
    let results = router.blocking_register_all(std::mem::take(&mut cast.registrations));
    let registered = started.elapsed();
    if let Some(error) = results.into_iter().find_map(Result::err)
        && interrupt.signal().is_none()
    {
        return Err(format!("an agent could not be registered: {error}"));
    }
    let slow_consumer = match &cast.slow_consumer {
        Some(name) => match SlowConsumer::start(&router, name, &control) {
            Ok(slow_consumer) => Some(slow_consumer),
            Err(_) if interrupt.signal().is_some() => None,
            Err(error) => return Err(error),
        },
        None => None,
    };
    let bytes_per_agent = resident_bytes().saturating_sub(before_bytes) as f64 / count as f64;

    let kicks = cast
        .starters
        .iter()
        .filter_map(|starter| Message::builder(Performative::Request).receiver(*starter).content("begin").build().ok());
    let survives_power_cut = router.is_durable();
    let machine = Machine::read();
    let mark = |router: &Router| Mark {
        at: Instant::now(),
        cpu: cpu_time(),
        busy: machine.busy(),
        processed: router.stats().account().processed,
        rounds: control.rounds.load(Ordering::Relaxed),
    };
    let begun = mark(&router);
    let rss_start_bytes = resident_bytes();
    let mut rss_max_bytes = rss_start_bytes;
    if let Err(error) = router.blocking_tell_all(kicks.collect())
        && interrupt.signal().is_none()
    {
        return Err(error.to_string());
    }
    let mut warmed_up = true;
    let (first, last) = match plan.length {
        Length::Seconds(seconds) => {
            let (warm_up, started) = (seconds * WARM_UP_SHARE, begun.at);
            // Where shards have all cores, each look takes one of them away.
            let watches_memory = plan.scenario == Scenario::Overload;
            let mut look = |elapsed| {
                if watches_memory {
                    rss_max_bytes = rss_max_bytes.max(resident_bytes());
                }
                progress(elapsed / seconds);
            };
            wait(started, warm_up, interrupt, &mut look);
            // A run that ends before it is warm is measured from its beginning.
            let first = if interrupt.signal().is_some() {
                warmed_up = false;
                begun
            } else {
                control.begin_recording();
                mark(&router)
            };
            wait(started, seconds, interrupt, &mut look);
            wait_for_substance(&plan, &router, &control, first.processed, interrupt);
            control.end_recording();
            (first, mark(&router))
        }
        Length::Messages(_) => {
            let expected = begun.processed + cast.starters.len() as u64 + cast.messages;
            wait_for(&router, expected, interrupt, &mut progress)?;
            (begun, mark(&router))
        }
    };
    control.stop.store(true, Ordering::Relaxed);
    if let Some(slow_consumer) = &slow_consumer {
        slow_consumer.hurry();
    }
    let rss_bytes = resident_bytes();
    // A signal from here on still has the router drained within its own deadline.
    let deadline = if interrupt.signal().is_some() { plan.shutdown } else { DRAIN_DEADLINE };
    let report = router.shutdown(deadline).map_err(|error| error.to_string())?;
    let taken = slow_consumer.map_or(Ok(0), SlowConsumer::taken)?;
    drop(directory);
    let patients = Patients::of(&control, &cast, attempts, taken);
    let messages = last.processed - first.processed;
    let cpu = last.cpu.saturating_sub(first.cpu);
    let passed = last.at.duration_since(first.at);
    let busy = first.busy.zip(last.busy).map(|(first, last)| last.saturating_sub(first));
    let share_of_others = busy.and_then(|busy| machine.share_of_others(busy, cpu, passed));
    Ok(Outcome {
        plan,
        shards,
        seconds: passed.as_secs_f64(),
        messages,
        cpu_ns_per_message: cpu.as_nanos() as f64 / messages.max(1) as f64,
        rounds: last.rounds - first.rounds,
        latencies: control.latencies(),
        registrations_per_second: count as f64 / registered.as_secs_f64(),
        bytes_per_agent,
        rss_bytes,
        rss_start_bytes,
        rss_max_bytes: rss_max_bytes.max(rss_bytes),
        report,
        refused: control.refused.load(Ordering::Relaxed),
        failures: control.failures.load(Ordering::Relaxed),
        patients,
        played: control.plays.read(),
        survives_power_cut,
        machine,
        share_of_others,
        interrupted: interrupt.signal(),
        warmed_up,
    })
}

/// Waits until `seconds` after `begun` or until a signal comes, telling how far it is.
fn wait(begun: Instant, seconds: f64, interrupt: &Interrupt, progress: &mut dyn FnMut(f64)) {
    const STEP: Duration = Duration::from_millis(250);
    let end = begun + Duration::from_secs_f64(seconds);
    while let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        // Time itself is what is waited for here.
        if interrupt.wait(left.min(STEP)) {
            return;
        }
        progress(begun.elapsed().as_secs_f64());
    }
}

/// Waits until what the run is about has happened, if it has not in its time, but no longer than [`EXTENSION_MAX`].
fn wait_for_substance(plan: &Plan, router: &Router, control: &Control, processed_before: u64, interrupt: &Interrupt) {
    let began = Instant::now();
    while !has_substance(plan, router, control, processed_before) && began.elapsed() < EXTENSION_MAX {
        if interrupt.wait(LOOK_EVERY) {
            return;
        }
    }
}

/// Whether a run has handled and timed anything since its warm-up, and what it is about has happened.
fn has_substance(plan: &Plan, router: &Router, control: &Control, processed_before: u64) -> bool {
    let account = router.stats().account();
    let measured = account.processed > processed_before && control.has_recorded();
    let happened = match &plan.disturbance {
        Some(disturbance) => disturbance.has_happened(control, &account),
        None => plan.scenario != Scenario::Protocols || control.plays.has_every_script(),
    };
    measured && happened
}

/// Waits until as many messages were handled or a signal comes, or until none has been handled for a long time.
fn wait_for(
    router: &Router,
    expected: u64,
    interrupt: &Interrupt,
    progress: &mut dyn FnMut(f64),
) -> Result<(), String> {
    const STEP: Duration = Duration::from_millis(2);
    const STALL: Duration = Duration::from_secs(20);
    let mut seen = 0;
    let mut moved = Instant::now();
    loop {
        let processed = router.stats().account().processed;
        if processed >= expected {
            return Ok(());
        }
        if processed > seen {
            (seen, moved) = (processed, Instant::now());
        } else if moved.elapsed() > STALL {
            return Err(format!("only {processed} of {expected} messages were handled, and none for 20 s"));
        }
        progress(processed as f64 / expected as f64);
        if interrupt.wait(STEP) {
            return Ok(());
        }
    }
}

/// The agents of a run.
#[derive(Default)]
pub struct Cast {
    pub registrations: Vec<Registration>,
    /// Those that begin when they are told to.
    pub starters: Vec<AgentId>,
    /// How many messages a run of [`Length::Messages`] sends in all.
    pub messages: u64,
    /// Those that the run is hard on.
    pub patients: Arc<[AgentId]>,
    /// The one of them that lives outside the shards.
    pub slow_consumer: Option<AgentName>,
}

pub struct Named {
    pub name: AgentName,
    pub id: AgentId,
    pub shard: usize,
}

fn names(plan: &Plan, router: &Router) -> Result<Vec<Named>, String> {
    let partition = router.partition();
    (0..plan.agents)
        .map(|number| {
            let name = AgentName::try_new(format!("agent-{number}")).map_err(|error| error.to_string())?;
            let id = AgentId::of(&name);
            Ok(Named { name, id, shard: partition.shard_of(id).as_usize() })
        })
        .collect()
}

/// Gives each agent its part.
fn cast(plan: &Plan, router: &Router, names: &[Named], control: &Arc<Control>) -> Result<Cast, String> {
    if names.len() < 2 {
        return Err("a run needs at least 2 agents".to_owned());
    }
    if let Some(rate) = plan.rate {
        return match &plan.disturbance {
            Some(disturbance) => disturbance.cast(plan, router, names, control, rate),
            None => paced(plan, router, names, control, rate),
        };
    }
    match plan.scenario {
        Scenario::Local | Scenario::Cross | Scenario::Mixed => rallies(plan, router, names, control),
        Scenario::Request => Ok(requests(plan, names, control)),
        Scenario::ContractNet => negotiations(plan, names, control),
        Scenario::Broadcast => broadcasts(plan, names, control),
        Scenario::Wasm => guests(plan, router, names, control),
        Scenario::Protocols => Ok(plays(plan, names, control)),
        Scenario::Overload
        | Scenario::SlowConsumer
        | Scenario::DurableLoad
        | Scenario::HostileGuests
        | Scenario::Poison => Err("this load has a rate".to_owned()),
    }
}

pub fn kit(plan: &Plan, control: &Arc<Control>, named: &Named, salt: usize) -> impl Fn() -> Kit + Send + 'static {
    let (control, shard, size) = (Arc::clone(control), named.shard, plan.size);
    #[allow(clippy::cast_possible_truncation)] // Any number will do.
    let salt = salt as u32;
    let durable = plan.is_durable();
    move || Kit::new(&control, shard, size, salt).durable(durable)
}

fn rallies(plan: &Plan, router: &Router, names: &[Named], control: &Arc<Control>) -> Result<Cast, String> {
    let mut dice = Dice(0x5eed);
    let candidates: Vec<Vec<&Named>> =
        (0..usize::from(router.shard_count())).map(|shard| candidates(plan, names, shard)).collect();
    let conversations = names.len() * CONVERSATIONS_PER_AGENT;
    let mut messages = 0;
    let mut registrations = Vec::with_capacity(names.len());
    for (number, named) in names.iter().enumerate() {
        let others = &candidates[named.shard];
        if others.iter().all(|other| other.id == named.id) {
            return Err(format!("agent {number} has nobody to talk to: use more agents or other shards"));
        }
        let mut partners = Vec::with_capacity(CONVERSATIONS_PER_AGENT);
        while partners.len() < CONVERSATIONS_PER_AGENT {
            let other = others[dice.roll(others.len())];
            if other.id != named.id {
                let conversation = number * CONVERSATIONS_PER_AGENT + partners.len();
                let share = share_of(plan.length, conversation, conversations);
                messages += if matches!(plan.length, Length::Messages(_)) { share } else { 0 };
                partners.push((other.id, share.saturating_sub(1)));
            }
        }
        let kit = kit(plan, control, named, number);
        let name = named.name.clone();
        registrations.push(Registration::native(name, move || Rally::new(kit(), partners.clone())));
    }
    Ok(Cast { registrations, starters: names.iter().map(|named| named.id).collect(), messages, ..Cast::default() })
}

/// The messages of one of several rounds when a number of messages is spread over them; each has at least one. A run
/// of seconds has no end of its own.
fn share_of(length: Length, place: usize, places: usize) -> u64 {
    match length {
        Length::Seconds(_) => u64::MAX,
        Length::Messages(messages) => {
            let (places, place) = (places as u64, place as u64);
            (messages / places + u64::from(place < messages % places)).max(1)
        }
    }
}

fn candidates<'a>(plan: &Plan, names: &'a [Named], shard: usize) -> Vec<&'a Named> {
    let several = names.iter().any(|named| named.shard != names[0].shard);
    let fits = |other: &&Named| match plan.scenario {
        Scenario::Local => other.shard == shard,
        Scenario::Cross => !several || other.shard != shard,
        _ => true,
    };
    names.iter().filter(fits).collect()
}

/// A small generator of its own, so that a run's cast is the same every time.
struct Dice(u64);

impl Dice {
    #[allow(clippy::cast_possible_truncation)] // The remainder is an index.
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % sides as u64) as usize
    }
}

/// The rounds that each of `starters` begins, when a round has `per_round` messages, and all messages together.
fn rounds_of(plan: &Plan, starters: usize, per_round: u64) -> (Option<u64>, u64) {
    match plan.length {
        Length::Seconds(_) => (None, 0),
        Length::Messages(messages) => {
            let rounds = (messages / (starters as u64 * per_round)).max(1);
            (Some(rounds), rounds * starters as u64 * per_round)
        }
    }
}

/// Every agent begins request conversations with two others.
fn requests(plan: &Plan, names: &[Named], control: &Arc<Control>) -> Cast {
    const PARTNERS: usize = 2;
    const MESSAGES_PER_ROUND: u64 = 3;
    let mut dice = Dice(0x5eed);
    let (budget, messages) = rounds_of(plan, names.len(), MESSAGES_PER_ROUND);
    let mut registrations = Vec::with_capacity(names.len());
    for (number, named) in names.iter().enumerate() {
        let mut partners = Vec::with_capacity(PARTNERS);
        while partners.len() < PARTNERS {
            let other = &names[dice.roll(names.len())];
            if other.id != named.id {
                partners.push(other.id);
            }
        }
        let kit = kit(plan, control, named, number);
        let name = named.name.clone();
        registrations.push(Registration::native(name, move || Requester::new(kit(), partners.clone(), budget)));
    }
    Cast { registrations, starters: names.iter().map(|named| named.id).collect(), messages, ..Cast::default() }
}

/// One agent in eleven negotiates with the ten that follow it.
fn negotiations(plan: &Plan, names: &[Named], control: &Arc<Control>) -> Result<Cast, String> {
    let group = CONTRACTORS + 1;
    if names.len() < group {
        return Err(format!("contract-net needs at least {group} agents"));
    }
    let allowed = usize::from(plan.config.conversation.participants_max.into_inner());
    let contractors = CONTRACTORS.min(allowed.saturating_sub(1)).max(1);
    // A call, a proposal and an answer for each contractor, and one result.
    let per_round = 3 * contractors as u64 + 1;
    let (budget, messages) = rounds_of(plan, names.len() / group, per_round);
    let mut registrations = Vec::with_capacity(names.len());
    let mut starters = Vec::new();
    for (number, group) in names.chunks_exact(group).enumerate() {
        let [manager, others @ ..] = group else { continue };
        starters.push(manager.id);
        let asked: Vec<AgentId> = others.iter().take(contractors).map(|other| other.id).collect();
        let kit_of_manager = kit(plan, control, manager, number);
        registrations.push(Registration::native(manager.name.clone(), move || {
            Manager::new(kit_of_manager(), asked.clone(), budget)
        }));
        for (number, contractor) in others.iter().enumerate() {
            let kit = kit(plan, control, contractor, number);
            registrations.push(Registration::native(contractor.name.clone(), move || Contractor::new(kit())));
        }
    }
    Ok(Cast { registrations, starters, messages, ..Cast::default() })
}

/// Each agent is a guest in WebAssembly, which one native agent on its shard keeps busy.
fn guests(plan: &Plan, router: &Router, names: &[Named], control: &Arc<Control>) -> Result<Cast, String> {
    let (file, text) = if plan.raw {
        ("echo/raw.wat", include_str!("../../../examples/guests/echo/raw.wat"))
    } else {
        ("echo/component.wat", include_str!("../../../examples/guests/echo/component.wat"))
    };
    let sandbox = Sandbox::start(&plan.config.wasm).map_err(|error| error.to_string())?;
    let module = wat::parse_str(text).map_err(|error| format!("{file}: {error}"))?;
    let guest = sandbox.load(file, &module).map_err(|error| error.to_string())?;
    let window = (GUEST_MESSAGES_MAX / names.len() as u64).clamp(1, GUEST_WINDOW_MAX);
    // A window of messages, and one answer.
    let (budget, messages) = rounds_of(plan, names.len(), window + 1);
    let mut cast = Cast { messages, ..Cast::default() };
    for (number, named) in names.iter().enumerate() {
        cast.registrations.push(guest.agent(named.name.clone()));
        let index = caxton_router::ShardIndex(u16::try_from(named.shard).unwrap_or(u16::MAX));
        let name = router.partition().name_on(index, &format!("feeder-{number}"));
        let name = AgentName::try_new(name).map_err(|error| error.to_string())?;
        let feeder = Named { id: AgentId::of(&name), name, shard: named.shard };
        let (kit, guest) = (kit(plan, control, &feeder, number), named.id);
        cast.starters.push(feeder.id);
        cast.registrations.push(Registration::native(feeder.name, move || Feeder::new(kit(), guest, window, budget)));
    }
    Ok(cast)
}

/// Every agent plays one script after the other with the one behind it.
fn plays(plan: &Plan, names: &[Named], control: &Arc<Control>) -> Cast {
    let agents: Vec<AgentId> = names.iter().map(|named| named.id).collect();
    let partners = protocols::partners(&agents);
    let players = names.iter().zip(partners.iter()).enumerate().map(|(number, (named, partner))| {
        let (kit, partner, offences) = (kit(plan, control, named, number), *partner, plan.offences);
        Registration::native(named.name.clone(), move || Player::new(kit(), partner, offences, number))
    });
    Cast { registrations: players.collect(), starters: agents, ..Cast::default() }
}

/// One agent broadcasts to up to a hundred others, on whichever shards they live.
fn broadcasts(plan: &Plan, names: &[Named], control: &Arc<Control>) -> Result<Cast, String> {
    let group = names.len().min(LISTENERS_MAX + 1);
    let listeners = group - 1;
    let (budget, messages) = rounds_of(plan, names.len() / group, 2 * listeners as u64);
    let mut registrations = Vec::with_capacity(names.len());
    let mut starters = Vec::new();
    for (number, group) in names.chunks_exact(group).enumerate() {
        let [broadcaster, others @ ..] = group else { continue };
        let capability = CapabilityName::try_new(format!("listening-{number}")).map_err(|error| error.to_string())?;
        starters.push(broadcaster.id);
        let kit_of_broadcaster = kit(plan, control, broadcaster, number);
        let wanted = capability.clone();
        registrations.push(Registration::native(broadcaster.name.clone(), move || {
            Broadcaster::new(kit_of_broadcaster(), &wanted, listeners, budget)
        }));
        for (number, listener) in others.iter().enumerate() {
            let kit = kit(plan, control, listener, number);
            let registration = Registration::native(listener.name.clone(), move || Listener::new(kit()));
            registrations.push(registration.offering(capability.clone()));
        }
    }
    Ok(Cast { registrations, starters, messages, ..Cast::default() })
}

/// An open loop: agents that take in what pacers send to them.
fn paced(plan: &Plan, router: &Router, names: &[Named], control: &Arc<Control>, rate: f64) -> Result<Cast, String> {
    let pace = Pace { prefix: "pacer", rate, durable: plan.is_durable() };
    let mut cast = pacers(plan, router, names, control, pace, |_, pacer| pacer)?;
    let sinks = names.iter().enumerate().map(|(number, named)| sink(plan, control, named, number));
    cast.registrations.extend(sinks);
    Ok(cast)
}

pub fn sink(plan: &Plan, control: &Arc<Control>, named: &Named, number: usize) -> Registration {
    let kit = kit(plan, control, named, number);
    Registration::native(named.name.clone(), move || Sink::new(kit()))
}

/// How pacers send.
#[derive(Clone, Copy)]
pub struct Pace {
    /// How their names begin.
    pub prefix: &'static str,
    /// Messages per second, of all of them together.
    pub rate: f64,
    pub durable: bool,
}

/// One pacer per shard, which sends to agents picked at random among those that the scenario allows. `equip` is given
/// the number of the shard and the pacer as it would be without further work.
pub fn pacers(
    plan: &Plan,
    router: &Router,
    names: &[Named],
    control: &Arc<Control>,
    pace: Pace,
    equip: impl Fn(usize, Pacer) -> Pacer + Clone + Send + 'static,
) -> Result<Cast, String> {
    let shards = usize::from(router.shard_count());
    let share = pace.rate / shards as f64;
    let mut cast = Cast::default();
    for shard in 0..shards {
        let index = caxton_router::ShardIndex(u16::try_from(shard).unwrap_or(u16::MAX));
        let name =
            AgentName::try_new(router.partition().name_on(index, pace.prefix)).map_err(|error| error.to_string())?;
        let receivers: Vec<AgentId> = candidates(plan, names, shard).iter().map(|named| named.id).collect();
        if receivers.is_empty() {
            return Err("the pacer has nobody to send to: use more agents or other shards".to_owned());
        }
        let sent_max = share_of(plan.length, shard, shards);
        cast.messages += if matches!(plan.length, Length::Messages(_)) { sent_max } else { 0 };
        let pacer = Named { id: AgentId::of(&name), name, shard };
        cast.starters.push(pacer.id);
        let kit = kit(plan, control, &pacer, shard);
        let equip = equip.clone();
        cast.registrations.push(Registration::native(pacer.name, move || {
            equip(shard, Pacer::new(kit().durable(pace.durable), receivers.clone(), share, sent_max))
        }));
    }
    Ok(cast)
}

/// What the process has used of all processors.
#[allow(clippy::cast_sign_loss)] // A process has used no negative time.
fn cpu_time() -> Duration {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(used.tv_sec as u64, u32::try_from(used.tv_nsec).unwrap_or(0))
}

/// The process's resident memory, in bytes; zero where the kernel does not say.
fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = statm.split_whitespace().nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    pages * rustix::param::page_size() as u64
}
