//! Comparisons of the router with its peers on the same work, and with itself: see `README.md` beside this crate's manifest.

#[cfg(feature = "peers")]
mod compare;
mod instructions;
#[cfg(feature = "peers")]
mod peers;
#[cfg(feature = "peers")]
mod work;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The same allocator for everybody: with the system's own, messages that are freed on another core than the one that
/// made them cost several times as much.
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
    /// Pairs of agents exchange messages, through each system in turn
    #[cfg(feature = "peers")]
    Peers(compare::Arguments),
    /// Instructions per message of the engine, counted by callgrind, which must not grow
    Instructions {
        /// Write the figures down as those that are expected from now on
        #[arg(long)]
        write: bool,
    },
}

fn main() -> ExitCode {
    let done = match CommandLine::parse().verb {
        #[cfg(feature = "peers")]
        Verb::Peers(arguments) => compare::run(&arguments),
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
