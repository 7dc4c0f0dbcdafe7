//! The `caxton` command.

mod cli;

use clap::{CommandFactory as _, Parser, Subcommand};
use std::process::ExitCode;

/// Freeing on another core than allocating is common here, and this allocator handles it well.
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
    /// Check or create WebAssembly agents; list and control the agents of a running router
    Agent(cli::agent::AgentArguments),
    /// Measure the router on this machine
    Bench(cli::bench::BenchArguments),
    /// Show the cluster of a running router, and say what is wrong with it
    Cluster(cli::remote::cluster::ClusterArguments),
    /// List or draw the conversations in a data directory, or an open one of a running router
    Conv(cli::store::ConversationArguments),
    /// Check or show the configuration
    Config(cli::config::ConfigArguments),
    /// List, show, replay or purge the dead letters of a running router or in a data directory
    Dlq(cli::store::LetterArguments),
    /// Print what a shell needs to complete the words of this command
    Completions(cli::shell::CompletionsArguments),
    /// List the agents of a running router that provide a capability
    Df(cli::remote::agents::ProvidersArguments),
    /// Check whether this host can run the router
    Doctor(cli::doctor::DoctorArguments),
    /// Print what happens in a running router, as it happens
    Events(cli::remote::events::EventsArguments),
    /// Ask a running router whether it is healthy, for containers and scripts
    Health(cli::health::HealthArguments),
    /// Write the manual pages of this command
    Man(cli::shell::ManArguments),
    /// Send a message to a running router and wait for the reply
    Request(cli::remote::messages::RequestArguments),
    /// Route a file of ACL messages and report the outcome of each
    Route(cli::route::RouteArguments),
    /// Send messages to a running router, or ask where one would go
    Send(cli::remote::messages::SendArguments),
    /// Run the router as a daemon, which agents and clients outside reach by HTTP and NATS
    Serve(cli::serve::ServeArguments),
    /// Search for faults of the router in simulated runs, each determined by a seed
    Sim(cli::sim::SimArguments),
    /// Print the figures of a running router
    Stats(cli::remote::stats::StatsArguments),
    /// Check, dump or compact a data directory
    Store(cli::store::StoreArguments),
    /// Register an agent at a running router and print its messages
    Sub(cli::remote::receive::SubscribeArguments),
    /// Create a token for a client of the daemon
    Token(cli::token::TokenArguments),
    /// Watch a running router: rates, shards, and the agents whose messages wait
    Top(cli::remote::top::TopArguments),
    /// Follow a conversation or a message in a running router
    Trace(cli::remote::trace::TraceArguments),
}

/// How long the allocator keeps unused memory, in milliseconds.
///
/// Its default is to return pages after 10 ms. After a stall the messages of a few milliseconds arrive at once, take
/// memory and release it again; if the pages have to be mapped again each time, the router catches up later.
const KEPT_UNUSED_MS: std::ffi::c_long = 1_000;

/// Makes the allocator keep memory longer, unless `MIMALLOC_PURGE_DELAY` is set.
#[allow(unsafe_code, reason = "the allocator's options are set through its C interface")]
fn keep_memory() {
    /// `mi_option_purge_delay` of mimalloc 2, for which the bindings have no name.
    const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;
    const { assert!(PURGE_DELAY == libmimalloc_sys::mi_option_eager_commit_delay + 1, "it comes behind this one") };
    // SAFETY: options may be set while no other thread does so, and there is no other thread yet. An option unknown to
    // the version is ignored.
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
        Verb::Cluster(arguments) => cli::remote::cluster::run(&arguments),
        Verb::Conv(arguments) => cli::store::run_conversations(&arguments),
        Verb::Config(arguments) => cli::config::run(&arguments),
        Verb::Dlq(arguments) => cli::store::run_letters(&arguments),
        Verb::Completions(arguments) => cli::shell::complete(&arguments, &mut CommandLine::command()),
        Verb::Df(arguments) => cli::remote::agents::run_providers(&arguments),
        Verb::Doctor(arguments) => cli::doctor::run(&arguments),
        Verb::Events(arguments) => cli::remote::events::run(&arguments),
        Verb::Health(arguments) => cli::health::run(&arguments),
        Verb::Man(arguments) => cli::shell::write_manual(&arguments, &CommandLine::command()),
        Verb::Request(arguments) => cli::remote::messages::run_request(&arguments),
        Verb::Route(arguments) => cli::route::run(&arguments),
        Verb::Send(arguments) => cli::remote::messages::run_send(&arguments),
        Verb::Serve(arguments) => cli::serve::run(&arguments),
        Verb::Sim(arguments) => cli::sim::run(&arguments),
        Verb::Stats(arguments) => cli::remote::stats::run(&arguments),
        Verb::Store(arguments) => cli::store::run(&arguments),
        Verb::Sub(arguments) => cli::remote::receive::run(&arguments),
        Verb::Token(arguments) => cli::token::run(&arguments),
        Verb::Top(arguments) => cli::remote::top::run(&arguments),
        Verb::Trace(arguments) => cli::remote::trace::run(&arguments),
    }
}
