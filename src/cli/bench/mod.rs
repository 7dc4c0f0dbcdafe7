//! `caxton bench`: what the router does, measured on this machine.
//!
//! Every run counts what was handled, not what was accepted, and fails when its accounting does not balance or any
//! message was lost on the way. The scenarios that are about trouble expect to lose some, and fail when it was any other.
//!
//! SIGTERM or SIGINT ends the run early: the load stops, what is under way is drained, and the figures so far are
//! printed; where there are none, that is said. The exit status is 0 then if anything was measured, everything was handled within
//! the shutdown's deadline, and the accounting balances.

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

use caxton_router::config::Directory;
use caxton_router::domain::ShardCount;
use caxton_router::protocol::Mode;
use caxton_router::{Config, Preset};
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};

use self::protocols::Offences;
use self::run::{Length, Outcome, Plan, run};
use self::trial::{Effort, Trial, run_trial};
use super::interrupt::{Interrupt, parse_timeout};
use super::settings::{self, Settings};
use super::{fail, print, refuse};

/// Seconds per scenario when all of them are run: about 20 s in all.
const SUITE_SECONDS: f64 = 3.0;
/// Seconds of a run of one scenario.
const RUN_SECONDS: f64 = 5.0;
/// Agents of a run, unless it is said how many.
const AGENTS: usize = 1_000;
/// The same for guests in WebAssembly, so that what is measured is their calls and not memory.
const GUESTS: usize = 16;
/// How many of the messages that can break a protocol do so, and of the answers that can come late.
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
    /// Contract-net negotiations of one initiator with ten participants
    ContractNet,
    /// Messages to everyone who offers a capability, and their answers
    Broadcast,
    /// Guests in WebAssembly that are kept busy, and answer one message of up to 256
    Wasm,
    /// Conversations by every FIPA protocol, some with messages that break it or come late
    Protocols,
    /// Ten times what the receivers can take, after a run that measures how much that is
    Overload,
    /// One agent that takes a second for each message, and what the others notice of it: paired runs without and with
    SlowConsumer,
    /// Durable messages at a fixed rate, and what volatile ones notice of them: paired runs without and with
    DurableLoad,
    /// Guests in WebAssembly that loop, take all memory, flood the router or answer nonsense, and what the others notice of them:
    /// paired runs without and with
    HostileGuests,
    /// Messages that fail or panic at every attempt, and what the others notice of them: paired runs without and with
    Poison,
}

impl Scenario {
    /// Those that `caxton bench` runs when it is given none. The others take longer.
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

    /// Messages on one shard are measured on one shard, unless more are asked for.
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
    /// The traffic; without it, a short run of each kind but wasm and protocols, and overload, slow-consumer, durable-load,
    /// hostile-guests and poison, which take longer
    #[arg(value_enum)]
    scenario: Option<Scenario>,
    /// How many shards; by default 1 for local, all allowed cores but one where messages are durable, and all for the rest
    #[arg(long)]
    shards: Option<ShardCount>,
    /// How many agents; by default 1000, and for wasm 16
    #[arg(long)]
    agents: Option<usize>,
    /// The same as the scenario wasm: guests in WebAssembly
    #[arg(long, conflicts_with = "scenario")]
    wasm: bool,
    /// Have the guests of wasm be raw modules instead of components
    #[arg(long)]
    raw: bool,
    /// How many messages, about, instead of a time
    #[arg(long, conflicts_with = "seconds")]
    messages: Option<u64>,
    /// How long each run takes, in seconds; the first fifth is not measured
    #[arg(long)]
    seconds: Option<f64>,
    /// Bytes of content per message, at least 16
    #[arg(long, default_value_t = 200)]
    size: usize,
    /// Send so many messages per second in an open loop, instead of as many as are handled; by default 100000 for
    /// slow-consumer, durable-load, hostile-guests and poison. For overload, what the receivers can take: by default 20000
    #[arg(long)]
    rate: Option<f64>,
    /// How many pairs of runs, without and with: for durable-load by default 9, for the others that have pairs 3
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=99))]
    pairs: Option<u16>,
    /// How many messages fail at every attempt: for poison, by default 1000
    #[arg(long, value_parser = clap::value_parser!(u64).range(2..=100_000))]
    poison: Option<u64>,
    /// How many durable messages per second are sent beside the volatile ones: for durable-load, by default 50000
    #[arg(long)]
    durable_rate: Option<f64>,
    /// Hold conversations to the protocols that they name: off, observe or enforce; by default enforce for protocols, else
    /// what the settings say
    #[arg(long, value_name = "MODE")]
    protocols: Option<Mode>,
    /// Which share of the messages that can break a protocol does so: for protocols, by default 0.01
    #[arg(long, value_name = "SHARE", value_parser = parse_share)]
    violating: Option<f64>,
    /// Which share of the answers that can come late does so: for protocols, by default 0.01
    #[arg(long, value_name = "SHARE", value_parser = parse_share)]
    late: Option<f64>,
    /// Have every message on disk before it is handled
    #[arg(long)]
    durable: bool,
    /// Where the directory for that is made; by default among the system's temporary files
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    #[command(flatten)]
    settings: Settings,
    /// How many seconds what is under way may take after SIGTERM or SIGINT; by default what the settings say
    #[arg(long, value_name = "SECONDS", value_parser = parse_timeout)]
    shutdown_timeout: Option<Duration>,
    /// Print one JSON object, or one for each scenario on a line of its own
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
    let config = match arguments.settings.load(Preset::Production) {
        Ok(config) => config,
        Err(mistakes) => return refuse(&mistakes),
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
            return Err(format!(
                "--size {} is out of range: allowed are {} bytes to 10 MiB",
                self.size,
                load::SIZE_MIN
            ));
        }
        if self.seconds.is_some_and(|seconds| !(0.1..=86_400.0).contains(&seconds)) {
            return Err("--seconds is out of range: allowed are 0.1 to 86400".to_owned());
        }
        if self.rate.is_some_and(|rate| !(1.0..=1e9).contains(&rate)) {
            return Err("--rate is out of range: allowed are 1 to 1,000,000,000 messages per second".to_owned());
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
            return Err("--durable-rate is out of range: allowed are 1 to 1,000,000,000 messages per second".to_owned());
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
        // What an operator's router keeps is not for a benchmark to open.
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
        return fail(&format!("can't write {}: {error}", path.display()));
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
    let share: f64 = text.parse().map_err(|_| format!("{text:?} is no number: allowed are 0 to 1"))?;
    if (0.0..=1.0).contains(&share) { Ok(share) } else { Err(format!("{share} is out of range: allowed are 0 to 1")) }
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

/// Shows a bar on a terminal while the run goes on; nothing of it is left behind.
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
