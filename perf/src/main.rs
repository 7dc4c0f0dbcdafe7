//! Comparisons of the router with its peers on the same work, and with its own former cost: see `README.md` beside this
//! crate's manifest.

#[cfg(feature = "cluster")]
mod cluster;
#[cfg(feature = "peers")]
mod compare;
#[cfg(feature = "peers")]
mod doors;
#[cfg(feature = "peers")]
mod figures;
mod instructions;
#[cfg(feature = "peers")]
mod peers;
#[cfg(feature = "peers")]
mod work;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The same allocator for all systems: with the system's, messages freed on another core than the one that allocated
/// them cost several times as much.
#[cfg(feature = "peers")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Compares the Caxton router with other ways of passing messages between agents.
#[derive(Parser)]
#[command(name = "caxton-perf", version)]
struct CommandLine {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Exchange messages between pairs of agents, in each system in turn
    #[cfg(feature = "peers")]
    Peers(compare::Arguments),
    /// Load the daemon's doors, and other servers with the same client
    #[cfg(feature = "peers")]
    Doors(doors::Arguments),
    /// Become a server that ends with the benchmark which has started it
    #[cfg(feature = "peers")]
    #[command(hide = true)]
    Bound {
        /// The program and its arguments
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<std::ffi::OsString>,
    },
    /// Measure two nodes of a cluster, and clients of NATS on the same work
    #[cfg(feature = "cluster")]
    Cluster(cluster::Arguments),
    /// Be a node that `cluster` has started
    #[cfg(feature = "cluster")]
    #[command(hide = true)]
    ClusterNode(cluster::NodeArguments),
    /// Be a client of NATS that `cluster` has started
    #[cfg(feature = "cluster")]
    #[command(hide = true)]
    ClusterBare(cluster::BareArguments),
    /// Count the engine's instructions per message under callgrind, and compare them with the expected figures
    Instructions {
        /// Write the figures as the expected ones
        #[arg(long)]
        write: bool,
    },
}

fn main() -> ExitCode {
    let done = match CommandLine::parse().verb {
        #[cfg(feature = "peers")]
        Verb::Peers(arguments) => compare::run(&arguments),
        #[cfg(feature = "peers")]
        Verb::Doors(arguments) => doors::run(&arguments),
        #[cfg(feature = "peers")]
        Verb::Bound { command } => doors::become_bound(&command),
        #[cfg(feature = "cluster")]
        Verb::Cluster(arguments) => cluster::run(&arguments),
        #[cfg(feature = "cluster")]
        Verb::ClusterNode(arguments) => cluster::run_node(&arguments),
        #[cfg(feature = "cluster")]
        Verb::ClusterBare(arguments) => cluster::run_bare(&arguments),
        Verb::Instructions { write } => instructions::run(write),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}
