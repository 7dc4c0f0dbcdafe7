//! `caxton sim`: the seeded simulation of [`caxton_router::sim`], for any number of seeds.
//!
//! Exit status: 0 if no seed failed; 1 at the first seed that fails, with the command that replays the smallest failing
//! run found; 2 if the arguments cannot be used. SIGTERM or SIGINT ends it after the current seed, with the summary so
//! far.

mod report;

use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::ops::Range;
use std::panic::{PanicHookInfo, set_hook, take_hook};
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::Instant;

use caxton_router::sim::durable::{self, Figures};
use caxton_router::sim::{ACTIONS_MAX, Failed, Fault, Options, SHARDS_MAX, Shrunk, run as run_seed, shrink};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use self::report::Summary;
use super::interrupt::Interrupt;
use super::print;

/// Arguments of `caxton sim`.
#[derive(Debug, Args)]
#[command(after_help = "\
Each run is a router on one thread in virtual time, with random agents, random traffic and faults, all of which follow \
from the seed. After every step and at the end the router's invariants are checked.

Exit status: 0 if nothing was wrong; 1 if a seed failed: the command that replays it is printed; 2 if the arguments \
cannot be used.")]
pub struct SimArguments {
    /// The seeds: a single one, or a range without its end, such as 0..500
    #[arg(long, value_name = "A..B", value_parser = parse_seeds)]
    seeds: Range<u64>,
    /// Number of shards; by default chosen by each seed
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=i64::from(SHARDS_MAX)))]
    shards: Option<u16>,
    /// Number of actions before the run ends; by default chosen by each seed
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=i64::from(ACTIONS_MAX)))]
    actions: Option<u32>,
    /// Faults to disable, separated by commas
    #[arg(long, value_name = "KIND,KIND", value_delimiter = ',', value_parser = parse_fault)]
    without: Vec<Fault>,
    /// Run the simulation of durable messages instead, in which commits are late or fail and the machine crashes at any
    /// moment
    #[arg(long, conflicts_with_all = ["shards", "actions", "without", "json"])]
    crashes: bool,
    /// Print the summary, or the failure, as one JSON object
    #[arg(long)]
    json: bool,
}

/// Runs `caxton sim`.
pub fn run(arguments: &SimArguments) -> ExitCode {
    if arguments.crashes {
        return run_crashes(arguments.seeds.clone());
    }
    let options = Options {
        shards: arguments.shards,
        actions: arguments.actions,
        without: arguments.without.iter().copied().collect(),
        ..Options::default()
    };
    let interrupt = match Interrupt::listen() {
        Ok(interrupt) => interrupt,
        Err(error) => return crate::cli::fail(&error),
    };
    let quiet = Quiet::new();
    let started = Instant::now();
    let bar = bar(arguments);
    let mut summary = Summary::new(arguments.seeds.clone());
    for seed in arguments.seeds.clone() {
        match run_seed(seed, &options) {
            Ok(outcome) => summary.add(&outcome),
            Err(failed) => {
                bar.finish_and_clear();
                return fail(arguments, &failed, &options);
            }
        }
        bar.inc(1);
        if let Some(signal) = interrupt.signal() {
            summary.interrupt(signal, seed);
            break;
        }
    }
    bar.finish_and_clear();
    drop(quiet);
    summary.seconds = started.elapsed().as_secs_f64();
    print(&if arguments.json { format!("{}\n", summary.json()) } else { summary.text() })
}

/// Runs the simulation of durable messages. A broken invariant of the engine is printed as a panic with its location.
fn run_crashes(seeds: Range<u64>) -> ExitCode {
    let started = Instant::now();
    let (mut total, count) = (Figures::default(), seeds.end - seeds.start);
    for seed in seeds {
        match durable::run(seed) {
            Ok(figures) => total += figures,
            Err(what) => {
                print(&format!("seed {seed}: {what}\nreplay it with: caxton sim --crashes --seeds {seed}\n"));
                return ExitCode::FAILURE;
            }
        }
    }
    let Figures { acknowledged, letters, repeated, crashes, stops, failures, recovered, .. } = total;
    let Figures { replayed, purged, steps, duplicates, deregistered, .. } = total;
    let seconds = started.elapsed().as_secs_f64();
    print(&format!(
        "{count} seeds in {seconds:.1} s: no errors. {crashes} crashes, {stops} stops and {failures} failed journals; of \
         {acknowledged} acknowledged messages none is lost, {letters} are kept as dead letters, {repeated} were handled again \
         after a crash, {duplicates} came again and were not; starts found {recovered}; {replayed} dead letters were replayed \
         and {purged} purged, {steps} messages followed a protocol, {deregistered} persistent agents were deregistered\n"
    ))
}

/// Reports what failed and how to replay it.
fn fail(arguments: &SimArguments, failed: &Failed, options: &Options) -> ExitCode {
    let shrunk = shrink(failed, options);
    // The smallest run is repeated once for the location of its panic.
    let place = run_seed(failed.seed, &shrunk.options).err().and_then(|_| Quiet::place());
    let command = command_line(&shrunk);
    let text = if arguments.json {
        format!("{}\n", report::failure_json(failed, &shrunk, place.as_deref(), &command))
    } else {
        report::failure_text(failed, &shrunk, place.as_deref(), &command)
    };
    print(&text);
    ExitCode::FAILURE
}

/// Returns the command that replays the smallest run.
fn command_line(Shrunk { options, failed, .. }: &Shrunk) -> String {
    let mut command = format!("caxton sim --seeds {}", failed.seed);
    if let Some(shards) = options.shards {
        let _ = write!(command, " --shards {shards}");
    }
    if let Some(actions) = options.actions {
        let _ = write!(command, " --actions {actions}");
    }
    if !options.without.is_empty() {
        let names: Vec<&str> = options.without.iter().map(|fault| fault.name()).collect();
        let _ = write!(command, " --without {}", names.join(","));
    }
    command
}

fn bar(arguments: &SimArguments) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(arguments.seeds.end - arguments.seeds.start);
    if let Ok(style) = ProgressStyle::with_template("{pos:>8} of {len} seeds [{bar:40}] {elapsed_precise}") {
        bar.set_style(style.progress_chars("=> "));
    }
    bar
}

/// The location of the latest panic.
static PLACE: Mutex<Option<String>> = Mutex::new(None);

type Hook = Box<dyn Fn(&PanicHookInfo<'_>) + Sync + Send + 'static>;

/// As long as it lives, panics are not printed; only their location is recorded. A failure is reported once, when the
/// smallest run has been found.
struct Quiet(Option<Hook>);

impl Quiet {
    fn new() -> Self {
        let shown = take_hook();
        set_hook(Box::new(|panic| {
            if let Ok(mut place) = PLACE.lock() {
                *place = panic.location().map(ToString::to_string);
            }
        }));
        Self(Some(shown))
    }

    fn place() -> Option<String> {
        PLACE.lock().ok().and_then(|place| place.clone())
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        if let Some(shown) = self.0.take() {
            set_hook(shown);
        }
    }
}

fn parse_seeds(text: &str) -> Result<Range<u64>, String> {
    const ALLOWED: &str = "expected a seed such as 17, or a range such as 0..500 with the second number larger";
    let number = |text: &str| text.parse::<u64>().map_err(|_| ALLOWED.to_owned());
    let seeds = match text.split_once("..") {
        None => {
            let seed = number(text)?;
            seed..seed.checked_add(1).ok_or(ALLOWED)?
        }
        Some((first, end)) => number(first)?..number(end)?,
    };
    if seeds.is_empty() { Err(ALLOWED.to_owned()) } else { Ok(seeds) }
}

fn parse_fault(name: &str) -> Result<Fault, String> {
    Fault::of_name(name).ok_or_else(|| {
        let known: Vec<&str> = Fault::ALL.iter().map(|fault| fault.name()).collect();
        format!("\"{}\" is not a kind of fault: expected {}", name.escape_debug(), known.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_one_or_a_range() {
        assert_eq!(parse_seeds("17"), Ok(17..18));
        assert_eq!(parse_seeds("0..500"), Ok(0..500));
        for text in ["", "..", "5..", "..5", "5..5", "6..5", "-1", "five", "18446744073709551615", "1..2..3"] {
            assert!(parse_seeds(text).is_err_and(|error| error.contains("0..500")), "{text}");
        }
    }

    #[test]
    fn faults_are_known_by_their_names() {
        assert_eq!(parse_fault("slow"), Ok(Fault::Slow));
        assert!(parse_fault("weather").is_err_and(|error| error.contains("failing, panics, suspended")));
    }

    #[test]
    fn the_command_replays_what_was_found() {
        let failed = Failed { seed: 17, shards: 2, action: 31, step: 812, text: "it leaks".to_owned() };
        let mut shrunk = Shrunk { options: Options::default(), failed, runs: 3 };
        assert_eq!(command_line(&shrunk), "caxton sim --seeds 17");
        shrunk.options.shards = Some(2);
        shrunk.options.actions = Some(31);
        shrunk.options.without = [Fault::Slow, Fault::Pauses].into();
        assert_eq!(command_line(&shrunk), "caxton sim --seeds 17 --shards 2 --actions 31 --without slow,pauses");
    }
}
