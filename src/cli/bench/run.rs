//! One run of one scenario: registers agents, starts them, measures, drains, and checks the account.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use caxton_router::doctor::SHARDS;
use caxton_router::serve::Doors;
use caxton_router::signals::Signal;
use caxton_router::stats::Report;
use caxton_router::{Config, Message, Performative, Router};
use hdrhistogram::Histogram;
use rustix::time::{ClockId, clock_gettime};
use tempfile::TempDir;

use super::super::complain;
use super::super::interrupt::Interrupt;
use super::super::settings::{has_doors, tell_door_addresses, tell_metrics_address};
use super::Scenario;
use super::cast::{cast, names};
use super::disturbance::{Disturbance, Patients};
use super::load::Control;
use super::machine::Machine;
use super::patients::SlowConsumer;
use super::protocols::{self, Offences, Played};

/// The share of the time after which measuring begins.
pub const WARM_UP_SHARE: f64 = 0.2;
/// Time limit for messages in flight at the end.
const DRAIN_DEADLINE: Duration = Duration::from_mins(1);
/// Maximum extension of a run whose effect has not happened in its time, as on a busy machine.
const EXTENSION_MAX: Duration = Duration::from_mins(1);
/// How often such a run is checked.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// The plan of a run.
#[derive(Clone, Debug)]
pub struct Plan {
    pub scenario: Scenario,
    pub agents: usize,
    /// Whether WebAssembly guests are raw modules.
    pub raw: bool,
    pub size: usize,
    pub length: Length,
    /// Messages per second in an open loop; without it, as many as the router handles.
    pub rate: Option<f64>,
    /// The disturbance, if the scenario has one.
    pub disturbance: Option<Disturbance>,
    /// The shares of violations and late messages, if the scenario has protocols.
    pub offences: Offences,
    /// The parent of the store's directory, if messages are durable.
    pub durable: Option<PathBuf>,
    /// Time limit for draining after a signal.
    pub shutdown: Duration,
    pub config: Config,
    /// Settings of a file, the environment or `--set`.
    pub settings: Vec<String>,
}

impl Plan {
    /// Returns the run's name in reports.
    pub fn name(&self) -> String {
        let durable = if self.is_durable() { " durable" } else { "" };
        let raw = if self.raw { " raw" } else { "" };
        format!("{}{raw}{durable}", self.scenario.name())
    }

    /// Whether the measured messages are durable.
    pub fn is_durable(&self) -> bool {
        self.durable.is_some() && self.scenario != Scenario::DurableLoad
    }

    /// Creates the store's directory, if needed. It is removed with the result.
    fn data_directory(&mut self) -> Result<Option<TempDir>, String> {
        let Some(place) = &self.durable else { return Ok(None) };
        let made = tempfile::Builder::new().prefix("caxton-bench-").tempdir_in(place);
        let directory = made.map_err(|error| format!("no directory can be made in {}: {error}", place.display()))?;
        self.config.store.directory = directory.path().to_owned().into();
        Ok(Some(directory))
    }
}

/// The length of a run.
#[derive(Clone, Copy, Debug)]
pub enum Length {
    Seconds(f64),
    Messages(u64),
}

/// The result of a run.
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
    /// Resident memory with all agents and no message, and the maximum: in an overload also during the run.
    pub rss_start_bytes: u64,
    pub rss_max_bytes: u64,
    pub report: Report,
    pub refused: u64,
    pub failures: u64,
    /// Results for the agents subjected to the disturbance.
    pub patients: Patients,
    /// Results of conversations with protocols.
    pub played: Played,
    /// Whether what was written to disk survives a power cut.
    pub survives_power_cut: bool,
    /// The machine, and the share of its cores used by other processes.
    pub machine: Machine,
    pub share_of_others: Option<f64>,
    /// The signal that ended the run early.
    pub interrupted: Option<Signal>,
    /// Whether the figures exclude the warm-up. They include it if a signal arrived before its end.
    pub warmed_up: bool,
}

impl Outcome {
    /// Returns the number of messages handled per second.
    pub fn messages_per_second(&self) -> f64 {
        self.messages as f64 / self.seconds
    }

    /// Whether any message was handled during the measurement. Otherwise figures per message or second are meaningless.
    pub fn is_measured(&self) -> bool {
        self.messages > 0 && self.seconds > 0.0
    }

    /// Returns what is wrong with the run, if anything.
    pub fn complaint(&self) -> Option<String> {
        let account = self.report.stats.account();
        if !self.report.balances() {
            return Some(format!("the account does not balance: {account:?}"));
        }
        if !self.report.drained {
            return Some("the router did not handle everything before the deadline".to_owned());
        }
        if self.interrupted.is_some() {
            // The load was cut off, so its results mean nothing.
            return None;
        }
        if let Some(disturbance) = self.plan.disturbance.as_ref().filter(|disturbance| disturbance.is_present()) {
            return disturbance.complaint(self);
        }
        if self.plan.scenario == Scenario::Protocols {
            return protocols::complaint(self);
        }
        // What clients at the doors send may end in any way.
        let of_router =
            if has_doors(&self.plan.config) { 0 } else { account.dead_lettered + account.expired + account.refused };
        let lost = of_router + self.refused + self.failures;
        if lost > 0 {
            return Some(format!(
                "{} dead letters, {} expired, {} refused, {} failures reported: this load should cause none",
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

/// A reading during the run.
struct Mark {
    at: Instant,
    cpu: Duration,
    /// The busy time of the cores that this process may use.
    busy: Option<Duration>,
    processed: u64,
    rounds: u64,
}

/// Runs the plan, or as much of it as a signal leaves time for. `progress` receives the completed share, from 0 to 1.
///
/// # Errors
///
/// The run could not be measured.
pub fn run(plan: Plan, interrupt: &Interrupt, mut progress: impl FnMut(f64)) -> Result<Outcome, String> {
    let mut plan = plan;
    let directory = plan.data_directory()?;
    let router = Router::builder().config(plan.config.clone()).start().map_err(|error| error.to_string())?;
    let doors = has_doors(&plan.config).then(|| Doors::open(&router)).transpose().map_err(|error| error.to_string())?;
    if let Some(doors) = &doors {
        tell_door_addresses(doors);
    }
    tell_metrics_address(&router);
    for warning in router.host_warnings().iter().filter(|warning| warning.name == SHARDS) {
        complain(&format!("warning: {warning}"));
    }
    let shards = router.shard_count();
    let control = Control::new(shards, plan.disturbance.as_ref().map_or(0, Disturbance::poison));
    let attempts = plan.disturbance.as_ref().map_or(1, Disturbance::attempts);
    let stopped = Arc::clone(&control);
    let _watch = interrupt.watch(&router, plan.shutdown, move || stopped.stop.store(true, Ordering::Relaxed));
    // The memory of the load's agents themselves counts as well.
    let before_bytes = resident_bytes();
    let names = names(&plan, &router)?;
    let mut cast = cast(&plan, &router, &names, &control)?;

    let count = cast.registrations.len();
    let started = Instant::now();
    let results = router.blocking().register_all(std::mem::take(&mut cast.registrations));
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
    if let Err(error) = router.blocking().tell_all(kicks.collect())
        && interrupt.signal().is_none()
    {
        return Err(error.to_string());
    }
    let mut warmed_up = true;
    let (first, last) = match plan.length {
        Length::Seconds(seconds) => {
            let (warm_up, started) = (seconds * WARM_UP_SHARE, begun.at);
            // If shards use all cores, each reading takes one of them away.
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
    // After a signal the router is drained within its own deadline.
    let deadline = if interrupt.signal().is_some() { plan.shutdown } else { DRAIN_DEADLINE };
    let report = router.shutdown(deadline).map_err(|error| error.to_string())?;
    if let Some(doors) = doors {
        doors.close();
    }
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

/// Waits until `seconds` after `begun` or until a signal arrives, reporting progress.
fn wait(begun: Instant, seconds: f64, interrupt: &Interrupt, progress: &mut dyn FnMut(f64)) {
    const STEP: Duration = Duration::from_millis(250);
    let end = begun + Duration::from_secs_f64(seconds);
    while let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        // Passing time is what is measured here.
        if interrupt.wait(left.min(STEP)) {
            return;
        }
        progress(begun.elapsed().as_secs_f64());
    }
}

/// Waits until the effect of the run has happened, if it has not in its time, but no longer than [`EXTENSION_MAX`].
fn wait_for_substance(plan: &Plan, router: &Router, control: &Control, processed_before: u64, interrupt: &Interrupt) {
    let began = Instant::now();
    while !has_substance(plan, router, control, processed_before) && began.elapsed() < EXTENSION_MAX {
        if interrupt.wait(LOOK_EVERY) {
            return;
        }
    }
}

/// Whether a run has handled and timed anything since its warm-up, and its effect has happened.
fn has_substance(plan: &Plan, router: &Router, control: &Control, processed_before: u64) -> bool {
    let account = router.stats().account();
    let measured = account.processed > processed_before && control.has_recorded();
    let happened = match &plan.disturbance {
        Some(disturbance) => disturbance.has_happened(control, &account),
        None => plan.scenario != Scenario::Protocols || control.plays.has_every_script(),
    };
    measured && happened
}

/// Waits until this many messages were handled or a signal arrives, or until none has been handled for a long time.
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

/// Returns the CPU time of the process.
#[allow(clippy::cast_sign_loss)] // CPU time is not negative.
fn cpu_time() -> Duration {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(used.tv_sec as u64, u32::try_from(used.tv_nsec).unwrap_or(0))
}

/// Returns the process's resident memory in bytes; zero if the kernel does not say.
fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = statm.split_whitespace().nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    pages * rustix::param::page_size() as u64
}
