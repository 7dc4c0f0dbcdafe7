//! The `caxton` command.

mod cli;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Freeing on another core than allocating is common here, and this allocator is good at it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A thread-per-core message router for agents that speak FIPA ACL.
#[derive(Debug, Parser)]
#[command(name = "caxton", version, after_help = cli::EXIT_STATUS)]
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

/// How long the allocator keeps memory that is not used, in milliseconds.
///
/// By itself it gives pages back after 10 ms. After a stall the messages of a few milliseconds come at once, take memory
/// and let go of it again; with pages that are gone and made anew each time, the router catches up later.
const KEPT_UNUSED_MS: std::ffi::c_long = 1_000;

/// Has the allocator keep memory longer, unless `MIMALLOC_PURGE_DELAY` says how long.
#[allow(unsafe_code, reason = "the allocator's options are set through its C interface")]
fn keep_memory() {
    /// `mi_option_purge_delay` of mimalloc 2, for which the bindings have no name.
    const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;
    const { assert!(PURGE_DELAY == libmimalloc_sys::mi_option_eager_commit_delay + 1, "it comes behind this one") };
    // SAFETY: options may be set as long as no other thread does so, and there is no other thread yet. One that the version
    // does not have is left alone.
    unsafe { libmimalloc_sys::mi_option_set_default(PURGE_DELAY, KEPT_UNUSED_MS) };
}

fn main() -> ExitCode {
    keep_memory();
    caxton_router::signals::survive_file_size_limit();
    let line = match CommandLine::try_parse() {
        Ok(line) => line,
        Err(error) => return cli::mistaken(&error),
    };
    match line.verb {
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
