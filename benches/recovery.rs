//! Time of a start with a million durable messages: until all of them are read, rewritten and waiting for their
//! receivers.
//!
//! `cargo bench --bench recovery`, optionally with a number of messages after `--`.

use std::time::{Duration, Instant};

use caxton_router::config::Preset;
use caxton_router::domain::{AgentName, ShardCount};
use caxton_router::message::Reliability;
use caxton_router::{Agent, AgentId, Config, Context, Message, Outcome, Performative, Registration, Router};

const AGENTS: usize = 1_000;
const MESSAGES: usize = 1_000_000;
const BATCH: usize = 10_000;
const CONTENT: [u8; 200] = [b'x'; 200];

/// Never finishes a message.
struct Stubborn;

impl Agent for Stubborn {
    fn handle(&mut self, _: &Message, _: &mut Context<'_>) -> Outcome {
        Outcome::Suspended
    }

    fn resume(&mut self, _: &Message, _: &mut Context<'_>) -> Outcome {
        Outcome::Suspended
    }
}

fn start(directory: &std::path::Path, shards: u16) -> Router {
    let shards = ShardCount::try_new(shards).expect("a legal number");
    let config = Config::preset(Preset::Production);
    Router::builder().config(config).shards(shards).store(directory).start().expect("the router starts")
}

fn main() {
    let messages = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(MESSAGES);
    let directory = tempfile::tempdir().expect("a directory");
    let router = start(directory.path(), 2);
    let names: Vec<AgentName> =
        (0..AGENTS).map(|number| AgentName::try_new(format!("agent-{number}")).expect("a legal name")).collect();
    let registrations = names.iter().map(|name| Registration::native(name.clone(), || Stubborn).persistent());
    for result in router.blocking().register_all(registrations.collect()) {
        result.expect("the agent is registered");
    }
    let agents: Vec<AgentId> = names.iter().map(AgentId::of).collect();
    let mut sent = 0;
    while sent < messages {
        let batch = (sent..messages.min(sent + BATCH)).map(|number| {
            let message = Message::builder(Performative::Inform).receiver(agents[number % AGENTS]).content(&CONTENT);
            message.reliability(Reliability::Durable).build().expect("a legal message")
        });
        router.blocking().tell_all(batch.collect()).expect("they are queued");
        sent = messages.min(sent + BATCH);
    }
    let report = router.shutdown(Duration::from_secs(5)).expect("it stops");
    let kept = report.stats.account().kept;
    assert!(report.balances(), "{report}");
    drop(router);
    for shards in [2, 2, 1] {
        let began = Instant::now();
        let router = start(directory.path(), shards);
        let took = began.elapsed();
        let recovered = router.recovered().expect("there is a store");
        assert_eq!(recovered.messages as u64, kept, "every message is found");
        println!(
            "{} messages with {shards} shards: {:.2} s, of which reading {:.2} s",
            recovered.messages,
            took.as_secs_f64(),
            recovered.took.as_secs_f64()
        );
        let report = router.shutdown(Duration::ZERO).expect("it stops");
        assert_eq!(report.stats.account().kept, kept, "{report}");
    }
}
