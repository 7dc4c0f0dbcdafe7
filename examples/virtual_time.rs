//! Testing an agent in virtual time: a supplier is asked, is slow and goes quiet, and an hour passes at once. Then a
//! few random runs with every kind of fault around the agent.
//!
//! `cargo run --example virtual_time`

use std::error::Error;

use caxton_router::dead_letter::DeadLetterReason;
use caxton_router::domain::AgentName;
use caxton_router::error::AskError;
use caxton_router::message::WallTime;
use caxton_router::message::is_notice;
use caxton_router::sim::{self, Log, Options, Script, WALL_START_MS, World};
use caxton_router::{Agent, Context, Message, Outcome, Performative, Registration};

/// Sells bolts while there are some.
struct Supplier {
    bolts: u32,
}

impl Agent for Supplier {
    fn handle(&mut self, message: &Message, context: &mut Context<'_>) -> Outcome {
        if is_notice(message) || message.performative() != Performative::Request {
            return Outcome::Done;
        }
        if self.bolts == 0 {
            return Outcome::failed("sold out");
        }
        let reply = message.reply(Performative::Inform).content("one bolt").build();
        if !reply.is_ok_and(|reply| context.send(reply).is_ok()) {
            return Outcome::failed("the reply could not be sent");
        }
        self.bolts -= 1;
        Outcome::Done
    }
}

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    const HOUR_MS: u64 = 3_600_000;
    let order = |supplier| Message::builder(Performative::Request).receiver(supplier).content("a bolt, please");
    let name = AgentName::try_new("supplier")?;

    let mut world = World::new(2);
    let supplier = world.register(Registration::native(name.clone(), || Supplier { bolts: 1 }));
    let answer = world.ask_and_wait(order(supplier).build()?, 1_000)?;
    println!("asked: {}", answer.content().as_text().unwrap_or("(no text)"));

    // Sold out: the order is retried with growing delays, then dead-lettered, and its sender notified.
    let log = Log::new();
    let buyer = world.add(1, "buyer", Script::listener(&log));
    world.tell(order(supplier).sender(buyer).build()?);
    world.advance(10_000);
    assert_eq!(world.dead(DeadLetterReason::AttemptsExhausted), 1);
    println!("told: {}", log.notices().join(" "));

    // The hour passes at once.
    let later = WallTime(WALL_START_MS + world.now_ms + HOUR_MS);
    world.tell(
        Message::builder(Performative::Inform).receiver(buyer).content("closing time").deliver_at(later).build()?,
    );
    world.advance(HOUR_MS - 1);
    assert!(log.letters().is_empty(), "not yet");
    world.advance(1);
    assert_eq!(log.letters(), ["closing time"]);

    // A shard whose core is busy elsewhere does not respond; the question still ends at its timeout.
    let shard = world.shard_of(supplier);
    world.pause(shard, true);
    let asker = 1 - shard;
    let token = world.ask(asker, order(supplier).build()?, 500);
    world.advance(500);
    assert!(matches!(world.take_reply(asker, token), Some(Err(AskError::TimedOut))));
    world.pause(shard, false);
    world.advance(60_000);
    world.assert_settled();

    // The same agent among random ones, with every kind of fault. Each run is determined by its seed.
    let options = Options::default().with_agent(name, || Supplier { bolts: 1 });
    for seed in 0..5 {
        let outcome = sim::run(seed, &options)?;
        println!("seed {seed}: {} steps, history {:016x}", outcome.steps, outcome.history);
    }
    Ok(())
}
