//! The `caxton` command.

mod cli;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Freeing on another core than allocating is common here, and this allocator is good at it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A thread-per-core message router for agents that speak FIPA ACL.
#[derive(Debug, Parser)]
#[command(name = "caxton", version)]
struct CommandLine {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Check ACL messages or convert them to another form
    Acl(cli::acl::AclArguments),
    /// Check modules that are to be agents in WebAssembly, or begin new ones
    Agent(cli::agent::AgentArguments),
    /// Measure what the router does on this machine
    Bench(cli::bench::BenchArguments),
    /// List or draw the conversations in a data directory
    Conv(cli::store::ConversationArguments),
    /// Check or show the configuration
    Config(cli::config::ConfigArguments),
    /// List, show, replay or purge the dead letters in a data directory
    Dlq(cli::store::LetterArguments),
    /// Find out whether this host can run the router
    Doctor(cli::doctor::DoctorArguments),
    /// Route a file of ACL messages and say what became of each
    Route(cli::route::RouteArguments),
    /// Look for faults of the router in simulated runs, each of which follows from a seed
    Sim(cli::sim::SimArguments),
    /// Check, dump or compact a data directory
    Store(cli::store::StoreArguments),
}

fn main() -> ExitCode {
    match CommandLine::parse().verb {
        Verb::Acl(arguments) => cli::acl::run(&arguments),
        Verb::Agent(arguments) => cli::agent::run(&arguments),
        Verb::Bench(mut arguments) => cli::bench::run_verb(&mut arguments),
        Verb::Conv(arguments) => cli::store::run_conversations(&arguments),
        Verb::Config(arguments) => cli::config::run(&arguments),
        Verb::Dlq(arguments) => cli::store::run_letters(&arguments),
        Verb::Doctor(arguments) => cli::doctor::run(&arguments),
        Verb::Route(arguments) => cli::route::run(&arguments),
        Verb::Sim(arguments) => cli::sim::run(&arguments),
        Verb::Store(arguments) => cli::store::run(&arguments),
    }
}
