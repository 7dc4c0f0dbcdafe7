//! The simulator: a router of several shards on one thread, in virtual time.
//!
//! It runs the real [`Shard`](crate::shard::Shard) code; only a driver's clock, threads and doorbells are replaced.
//! It serves two purposes:
//!
//! **A test kit.** [`World`] is a router for tests of agents. Time stands still unless the test advances it, so a
//! timeout of an hour takes no time at all and every run of a test is the same. [`Setup`] starts one from a
//! [`ShardConfig`](crate::shard::ShardConfig) with defaults suited to tests, [`Script`] makes an agent out of closures.
//!
//! ```
//! use caxton_shards::agent::{Agent, Context, Outcome, Registration};
//! use caxton_shards::dead_letter::DeadLetterReason;
//! use caxton_shards::domain::AgentName;
//! use caxton_shards::message::{Message, Performative};
//! use caxton_shards::sim::World;
//!
//! struct Greeter;
//!
//! impl Agent for Greeter {
//!     fn handle(&mut self, message: &Message, context: &mut Context<'_>) -> Outcome {
//!         match message.content().as_text() {
//!             Some("world") => {
//!                 let reply = message.reply(Performative::Inform).content("hello, world").build();
//!                 match reply.map(|reply| context.send(reply)) {
//!                     Ok(Ok(_)) => Outcome::Done,
//!                     _ => Outcome::failed("the reply could not be sent"),
//!                 }
//!             }
//!             _ => Outcome::failed("greets nobody but the world"),
//!         }
//!     }
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut world = World::new(2);
//! let greeter = world.register(Registration::native(AgentName::try_new("greeter")?, || Greeter));
//!
//! let question = Message::builder(Performative::Request).receiver(greeter).content("world").build()?;
//! let answer = world.ask_and_wait(question, 1_000)?;
//! assert_eq!(answer.content().as_text(), Some("hello, world"));
//!
//! // A message that the agent fails to handle is retried and finally dead-lettered; a minute passes at once.
//! world.tell(Message::builder(Performative::Request).receiver(greeter).content("nobody").build()?);
//! world.advance(60_000);
//! assert_eq!(world.dead(DeadLetterReason::AttemptsExhausted), 1);
//! world.assert_settled();
//! # Ok(())
//! # }
//! ```
//!
//! The kit fails loudly: a broken invariant of the router, a response of the wrong kind and a shard number out of range
//! panic.
//!
//! **A seeded simulation.** [`run`] lets random agents do random things while everything that can go wrong does, checks
//! the invariants after every step, and returns a digest of the history: the same seed gives the same one. Agents and
//! invariants of an embedder can take part ([`Options`]). [`shrink`] searches for the smallest run that still fails.

mod answers;
mod books;
mod dice;
pub mod durable;
mod inbox;
mod script;
mod seeded;
mod setup;
mod world;

pub use dice::Dice;
pub use script::{Log, Script};
pub use seeded::{ACTIONS_MAX, Failed, Fault, Options, Outcome, Own, SHARDS_MAX, SHRINK_RUNS_MAX, Shrunk, run, shrink};
pub use setup::Setup;
pub use world::{Delay, Node, WALL_START_MS, World};
