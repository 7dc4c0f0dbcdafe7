//! `caxton bench`: measures the router on this machine.
//!
//! Every run counts what was handled, not what was accepted, and fails if its account does not balance or any message
//! was lost. The scenarios with disturbances expect certain losses, and fail on any other.
//!
//! SIGTERM or SIGINT ends the run early: the load stops, what is in flight is drained, and the figures so far are
//! printed, or that there are none. The exit status is then 0 if anything was measured, everything was handled within
//! the shutdown deadline, and the account balances.

mod cast;
mod disturbance;
mod hostile;
mod load;
mod machine;
mod patients;
mod protocols;
mod report;
mod run;
mod trial;

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use caxton_router::Config;
use caxton_router::config::Directory;
use caxton_router::config::Preset;
use caxton_router::domain::ShardCount;
use caxton_router::protocol::Mode;
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};

use self::protocols::Offences;
use self::run::{Length, Outcome, Plan, run};
use self::trial::{Effort, Trial, run_trial};
use super::interrupt::{Interrupt, parse_timeout};
use super::log::LogOption;
use super::settings::{self, DoorsOptions, MetricsOption, Settings};
use super::{fail, print, refuse};

/// Seconds per scenario if all of them are run: about 20 s in total.
const SUITE_SECONDS: f64 = 3.0;
/// Seconds of a run of one scenario.
const RUN_SECONDS: f64 = 5.0;
/// Default number of agents.
const AGENTS: usize = 1_000;
/// Default number of WebAssembly guests: few, so that calls are measured and not memory.
const GUESTS: usize = 16;
/// Default share of violations among the messages that can violate a protocol, and of late replies.
const OFFENCE_SHARE: f64 = 0.01;

/// A pattern of traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Scenario {
    /// Pairs of agents on the same shard
    Local,
    /// Pairs of agents on different shards: every message crosses
    Cross,
    /// Pairs of agents picked uniformly at random
    Mixed,
    /// FIPA request conversations: request, agree, inform
    Request,
    /// Contract net negotiations of one initiator with ten participants
    ContractNet,
    /// Messages to all providers of a capability, and their replies
    Broadcast,
    /// WebAssembly guests that are kept busy, and reply to one message of up to 256
    Wasm,
    /// Conversations with every FIPA protocol, some with violations or late messages
    Protocols,
    /// Ten times what the receivers can handle, after a run that measures how much that is
    Overload,
    /// One agent that takes a second for each message, and its effect on the others: paired runs without and with it
    SlowConsumer,
    /// Durable messages at a fixed rate, and their effect on volatile ones: paired runs without and with them
    DurableLoad,
    /// WebAssembly guests that loop, take all memory, flood the router or reply nonsense, and their effect on the
    /// others: paired runs without and with them
    HostileGuests,
    /// Messages that fail or panic at every attempt, and their effect on the others: paired runs without and with them
    Poison,
}

impl Scenario {
    /// The scenarios that `caxton bench` runs by default. The others take longer.
    const SUITE: [Self; 6] = [Self::Local, Self::Cross, Self::Mixed, Self::Request, Self::ContractNet, Self::Broadcast];

    pub fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Cross => "cross",
            Self::Mixed => "mixed",
            Self::Request => "request",
            Self::ContractNet => "contract-net",
            Self::Broadcast => "broadcast",
            Self::Wasm => "wasm",
            Self::Protocols => "protocols",
            Self::Overload => "overload",
            Self::SlowConsumer => "slow-consumer",
            Self::DurableLoad => "durable-load",
            Self::HostileGuests => "hostile-guests",
            Self::Poison => "poison",
        }
    }

    fn is_paired(self) -> bool {
        matches!(self, Self::SlowConsumer | Self::Poison | Self::DurableLoad | Self::HostileGuests)
    }

    fn agents(self) -> usize {
        match self {
            Self::Wasm => GUESTS,
            _ => AGENTS,
        }
    }

    /// Returns the default number of shards: messages on one shard are measured on one.
    fn shards(self) -> Option<ShardCount> {
        match self {
            Self::Local | Self::Wasm => ShardCount::try_new(1).ok(),
            _ => None,
        }
    }
}

/// Arguments of `caxton bench`.
#[derive(Debug, Args)]
#[allow(clippy::struct_excessive_bools)] // Each is a switch of its own.
pub struct BenchArguments {
    /// The scenario; by default a short run of each except wasm, protocols, overload, slow-consumer, durable-load,
    /// hostile-guests and poison
    #[arg(value_enum)]
    scenario: Option<Scenario>,
    /// Number of shards; by default 1 for local, all allowed cores but one for durable messages, and all cores
    /// otherwise
    #[arg(long)]
    shards: Option<ShardCount>,
    /// Number of agents; by default 1000, and 16 for wasm
    #[arg(long)]
    agents: Option<usize>,
    /// The same as the scenario wasm
    #[arg(long, conflicts_with = "scenario")]
    wasm: bool,
    /// Use raw modules instead of components as guests of wasm
    #[arg(long)]
    raw: bool,
    /// Approximate number of messages, instead of a time
    #[arg(long, conflicts_with = "seconds")]
    messages: Option<u64>,
    /// Duration of each run in seconds; the first fifth is not measured
    #[arg(long)]
    seconds: Option<f64>,
    /// Bytes of content per message, at least 16
    #[arg(long, default_value_t = 200)]
    size: usize,
    /// Messages per second in an open loop, instead of as many as are handled; by default 100000 for slow-consumer,
    /// durable-load, hostile-guests and poison. For overload, the rate that the receivers can handle, by default 20000
    #[arg(long)]
    rate: Option<f64>,
    /// Number of pairs of runs; by default 9 for durable-load and 3 for the other paired scenarios
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=99))]
    pairs: Option<u16>,
    /// Number of messages that fail at every attempt, for poison; by default 1000
    #[arg(long, value_parser = clap::value_parser!(u64).range(2..=100_000))]
    poison: Option<u64>,
    /// Durable messages per second sent beside the volatile ones, for durable-load; by default 50000
    #[arg(long)]
    durable_rate: Option<f64>,
    /// Check conversations against their protocols: off, observe or enforce; by default enforce for protocols,
    /// otherwise as in the settings
    #[arg(long, value_name = "MODE")]
    protocols: Option<Mode>,
    /// Share of violations among the messages that can violate a protocol, for protocols; by default 0.01
    #[arg(long, value_name = "SHARE", value_parser = parse_share)]
    violating: Option<f64>,
    /// Share of late replies among those that can be late, for protocols; by default 0.01
    #[arg(long, value_name = "SHARE", value_parser = parse_share)]
    late: Option<f64>,
    /// Make every message durable
    #[arg(long)]
    durable: bool,
    /// The parent of the directory for durable messages; by default the system's directory for temporary files
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    #[command(flatten)]
    settings: Settings,
    #[command(flatten)]
    log: LogOption,
    #[command(flatten)]
    metrics: MetricsOption,
    #[command(flatten)]
    doors: DoorsOptions,
    /// Seconds for draining after SIGTERM or SIGINT; by default as in the settings
    #[arg(long, value_name = "SECONDS", value_parser = parse_timeout)]
    shutdown_timeout: Option<Duration>,
    /// Print one JSON object, or one per line for each scenario
    #[arg(long)]
    json: bool,
    /// Write the latencies to this file as an HDR percentile distribution
    #[arg(long, value_name = "FILE")]
    hdr: Option<PathBuf>,
}

/// Runs `caxton bench`.
pub fn run_verb(arguments: &mut BenchArguments) -> ExitCode {
    if arguments.wasm {
        arguments.scenario = Some(Scenario::Wasm);
    }
    if let Err(complaint) = arguments.check() {
        return refuse(&complaint);
    }
    let mut config = match arguments.settings.load(Preset::Production) {
        Ok(config) => config,
        Err(mistakes) => return refuse(&mistakes),
    };
    arguments.metrics.apply(&mut config);
    arguments.doors.apply(&mut config);
    let _log = match arguments.log.begin(&mut config) {
        Ok(log) => log,
        Err(complaint) => return refuse(&complaint),
    };
    let interrupt = match Interrupt::listen() {
        Ok(interrupt) => interrupt,
        Err(error) => return fail(&error),
    };
    match arguments.scenario {
        Some(scenario) => run_one(arguments, &config, scenario, &interrupt),
        None => run_suite(arguments, &config, &interrupt),
    }
}

impl BenchArguments {
    fn check(&self) -> Result<(), String> {
        if self.size < load::SIZE_MIN || self.size > 10 * 1024 * 1024 {
            return Err(format!("--size {} is out of range: expected {} bytes to 10 MiB", self.size, load::SIZE_MIN));
        }
        if self.seconds.is_some_and(|seconds| !(0.1..=86_400.0).contains(&seconds)) {
            return Err("--seconds is out of range: expected 0.1 to 86400".to_owned());
        }
        if self.rate.is_some_and(|rate| !(1.0..=1e9).contains(&rate)) {
            return Err("--rate is out of range: expected 1 to 1,000,000,000 messages per second".to_owned());
        }
        if self.messages == Some(0) || self.agents.is_some_and(|agents| !(2..=50_000_000).contains(&agents)) {
            return Err("at least 1 message, and 2 to 50,000,000 agents are needed".to_owned());
        }
        if self.pairs.is_some() && !self.scenario.is_some_and(Scenario::is_paired) {
            return Err("--pairs is for slow-consumer, durable-load, hostile-guests and poison".to_owned());
        }
        let beside = self.scenario == Some(Scenario::DurableLoad);
        if self.durable_rate.is_some() && !beside {
            return Err("--durable-rate is for durable-load".to_owned());
        }
        if self.durable_rate.is_some_and(|rate| !(1.0..=1e9).contains(&rate)) {
            return Err("--durable-rate is out of range: expected 1 to 1,000,000,000 messages per second".to_owned());
        }
        if self.durable && beside {
            return Err("--durable is not for durable-load: what is measured there is volatile".to_owned());
        }
        if self.data.is_some() && !self.durable && !beside {
            return Err("--data is for --durable and for durable-load".to_owned());
        }
        if self.poison.is_some() && self.scenario != Some(Scenario::Poison) {
            return Err("--poison is for poison".to_owned());
        }
        if (self.violating.is_some() || self.late.is_some()) && self.scenario != Some(Scenario::Protocols) {
            return Err("--violating and --late are for protocols".to_owned());
        }
        if self.hdr.is_some() && self.scenario.is_none() {
            return Err("--hdr is for one SCENARIO".to_owned());
        }
        if self.raw && self.scenario != Some(Scenario::Wasm) {
            return Err("--raw is for wasm".to_owned());
        }
        if self.rate.is_some() && self.scenario == Some(Scenario::Wasm) {
            return Err("--rate is not for wasm: every guest is sent as much as it handles".to_owned());
        }
        if self.rate.is_some() && self.scenario == Some(Scenario::Protocols) {
            return Err("--rate is not for protocols: every agent waits for its partner".to_owned());
        }
        let disturbed = |scenario: &Scenario| !Scenario::SUITE.contains(scenario) && *scenario != Scenario::Wasm;
        if let (Some(scenario), Some(_)) = (self.scenario.filter(disturbed), self.messages) {
            return Err(format!("--messages is not for {}: its runs take a time, see --seconds", scenario.name()));
        }
        Ok(())
    }

    fn effort(&self) -> Effort {
        Effort { pairs: self.pairs, poison: self.poison, durable_rate: self.durable_rate }
    }

    fn plan(&self, config: &Config, scenario: Scenario, seconds: f64) -> Plan {
        let settings = settings::said(config);
        let mut config = config.clone();
        // A benchmark must not open the store of an operator's router.
        config.store.directory = Directory::default();
        let usual = scenario.shards().filter(|_| settings::is_unsaid(&config, "router.shards"));
        if let Some(shards) = self.shards.or(usual) {
            config.router.shards = caxton_router::config::ShardChoice::Exactly(shards);
        }
        let enforced = scenario == Scenario::Protocols && settings::is_unsaid(&config, "protocols.mode");
        let usual = Some(Mode::Enforce).filter(|_| enforced);
        if let Some(mode) = self.protocols.or(usual) {
            config.protocols.mode = mode;
        }
        let share = |share: Option<f64>| share.unwrap_or(OFFENCE_SHARE);
        let offences = Offences { violating: share(self.violating), late: share(self.late) };
        let length = match self.messages {
            Some(messages) => Length::Messages(messages),
            None => Length::Seconds(self.seconds.unwrap_or(seconds)),
        };
        let shutdown = self.shutdown_timeout.unwrap_or(config.shutdown.deadline_ms.as_duration());
        let (size, rate, raw) = (self.size, self.rate, self.raw);
        let agents = self.agents.unwrap_or(scenario.agents());
        let durable = (self.durable || scenario == Scenario::DurableLoad)
            .then(|| self.data.clone().unwrap_or_else(std::env::temp_dir));
        let disturbance = None;
        Plan { scenario, agents, raw, size, length, rate, disturbance, offences, durable, shutdown, config, settings }
    }
}

fn run_one(arguments: &BenchArguments, config: &Config, scenario: Scenario, interrupt: &Interrupt) -> ExitCode {
    let seconds = if scenario.is_paired() { SUITE_SECONDS } else { RUN_SECONDS };
    let mut run = |plan| run_with_bar(plan, interrupt);
    let trial = match run_trial(arguments.plan(config, scenario, seconds), arguments.effort(), &mut run) {
        Ok(trial) => trial,
        Err(error) => return fail(&error),
    };
    if let Some(path) = &arguments.hdr
        && let Err(error) = report::write_histogram(path, &trial.outcome.latencies)
    {
        return fail(&format!("cannot write {}: {error}", path.display()));
    }
    if arguments.json {
        print(&format!("{}\n", report::json(&trial)));
    } else {
        let table = format!("{}\n{}", report::head(), report::row(&trial));
        print(&format!("{}\n\n{table}\n\n{}", report::provenance(&trial.outcome), report::details(&trial)));
    }
    verdict(&trial)
}

fn run_suite(arguments: &BenchArguments, config: &Config, interrupt: &Interrupt) -> ExitCode {
    let mut code = ExitCode::SUCCESS;
    let mut plans: Vec<Plan> = Scenario::SUITE.map(|scenario| arguments.plan(config, scenario, SUITE_SECONDS)).into();
    if !arguments.durable {
        plans.push(Plan {
            durable: Some(std::env::temp_dir()),
            ..arguments.plan(config, Scenario::Mixed, SUITE_SECONDS)
        });
    }
    for (place, plan) in plans.into_iter().enumerate() {
        let mut run = |plan| run_with_bar(plan, interrupt);
        let trial = match run_trial(plan, arguments.effort(), &mut run) {
            Ok(trial) => trial,
            Err(error) => return fail(&error),
        };
        if arguments.json {
            print(&format!("{}\n", report::json(&trial)));
        } else {
            if place == 0 {
                print(&format!("{}\n\n{}\n", report::provenance(&trial.outcome), report::head()));
            }
            print(&format!("{}\n", report::row(&trial)));
        }
        if verdict(&trial) != ExitCode::SUCCESS {
            code = ExitCode::FAILURE;
        }
        if trial.outcome.interrupted.is_some() {
            if !arguments.json {
                print(&format!("\n{}", report::shutdown(&trial.outcome)));
            }
            return code;
        }
    }
    if !arguments.json {
        let left_out = Scenario::value_variants().iter().filter(|scenario| !Scenario::SUITE.contains(scenario));
        let names: Vec<&str> = left_out.map(|scenario| scenario.name()).collect();
        print(&format!("\nNot run: {}. Name one to run it.\n", names.join(", ")));
    }
    code
}

fn parse_share(text: &str) -> Result<f64, String> {
    let share: f64 = text.parse().map_err(|_| format!("{text:?} is not a number: expected 0 to 1"))?;
    if (0.0..=1.0).contains(&share) { Ok(share) } else { Err(format!("{share} is out of range: expected 0 to 1")) }
}

fn verdict(trial: &Trial) -> ExitCode {
    match trial.complaint() {
        None if !trial.outcome.is_measured() => {
            fail(&format!("{}: nothing was measured before the run was ended", trial.outcome.plan.name()))
        }
        None => ExitCode::SUCCESS,
        Some(complaint) => fail(&format!("{}: {complaint}", trial.outcome.plan.name())),
    }
}

/// Shows a progress bar on a terminal during the run, and removes it afterwards.
fn run_with_bar(plan: Plan, interrupt: &Interrupt) -> Result<Outcome, String> {
    const STEPS: u64 = 1_000;
    if !std::io::stderr().is_terminal() {
        return run(plan, interrupt, |_| {});
    }
    let bar = ProgressBar::new(STEPS);
    if let Ok(style) = ProgressStyle::with_template("{msg:>14} [{bar:40}] {elapsed_precise}") {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.set_message(plan.name());
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // The share is from 0 to 1.
    let outcome = run(plan, interrupt, |share| bar.set_position((share.clamp(0.0, 1.0) * STEPS as f64) as u64));
    bar.finish_and_clear();
    outcome
}
