//! The seeded simulation: random agents, random traffic and everything that can go wrong, on the real shards.
//!
//! Everything that a run does derives from its seed through a plan: each action, each agent and each handling of a
//! message has a generator of its own, made from the seed and from what it is about. So a kind of fault that is turned
//! off takes nothing away from the rest of the plan, and what still happens happens alike as far as it can.
//!
//! Three tables say what there is: [`faults`] what can go wrong, [`actions`] what the world does, [`cast`] what agents
//! do. A new thing is a line in one of them. The [`ledger`] writes down what agents saw and what senders were promised,
//! beside the shards' own books, and [`play`] holds the two against each other.

mod actions;
mod cast;
mod faults;
mod ledger;
mod play;
mod shrink;

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::account::Account;
use crate::agent::Agent;
use crate::dispatch::panic_text;
use crate::domain::AgentName;

use self::play::Play;
use super::world::World;

pub use self::faults::Fault;
pub use self::shrink::{SHRINK_RUNS_MAX, Shrunk, shrink};

/// The most shards of a simulated run.
pub const SHARDS_MAX: u16 = 64;
/// The most actions of one run.
pub const ACTIONS_MAX: u32 = 1_000_000;

type OwnFactory = Arc<dyn Fn() -> Box<dyn Agent> + Send + Sync>;
type OwnCheck = Arc<dyn Fn(&mut World) -> Result<(), String>>;

/// What a run is to be like, where its seed is not to decide.
#[derive(Clone, Default, Debug)]
pub struct Options {
    /// How many shards, from 1 to [`SHARDS_MAX`]. Without it the seed chooses.
    pub shards: Option<u16>,
    /// How many actions of the plan are done before the run comes to its end, up to [`ACTIONS_MAX`]. Without it the seed
    /// chooses.
    pub actions: Option<u32>,
    /// What is not to go wrong.
    pub without: BTreeSet<Fault>,
    /// What the caller adds: see [`Options::with_agent`] and [`Options::with_check`].
    pub own: Own,
}

/// Agents and invariants of the caller's own.
#[derive(Clone, Default)]
pub struct Own {
    agents: Vec<(AgentName, OwnFactory)>,
    checks: Vec<OwnCheck>,
}

impl std::fmt::Debug for Own {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<_> = self.agents.iter().map(|(name, _)| name).collect();
        formatter.debug_struct("Own").field("agents", &names).field("checks", &self.checks.len()).finish()
    }
}

impl Options {
    /// Adds an agent of the caller's own: it takes part from the beginning and gets its share of the random traffic. It
    /// is called message by message. A panic of it fails the run.
    #[must_use]
    pub fn with_agent<A: Agent + 'static>(
        mut self,
        name: AgentName,
        make: impl Fn() -> A + Send + Sync + 'static,
    ) -> Self {
        self.own.agents.push((name, Arc::new(move || Box::new(make()))));
        self
    }

    /// Adds an invariant of the caller's own. It is checked after every step; an error fails the run.
    #[must_use]
    pub fn with_check(mut self, check: impl Fn(&mut World) -> Result<(), String> + 'static) -> Self {
        self.own.checks.push(Arc::new(check));
        self
    }

    fn allows(&self, fault: Fault) -> bool {
        !self.without.contains(&fault)
    }
}

/// What came of a run in which nothing was wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// The run's seed.
    pub seed: u64,
    /// How many shards it had.
    pub shards: u16,
    /// How many actions were done.
    pub actions: u32,
    /// How many turns the shards took.
    pub steps: u64,
    /// What became of the messages, over all shards.
    pub account: Account,
    /// A digest of what each agent saw, when, and what it and the world got back.
    pub history: u64,
}

/// A run in which something was wrong.
#[derive(Clone, Debug, thiserror::Error)]
#[error("seed {seed}, step {step}, action {action}: {text}")]
pub struct Failed {
    /// The run's seed.
    pub seed: u64,
    /// How many shards it had.
    pub shards: u16,
    /// How many actions had been begun. When it is all of them, the failure may lie in the end of the run.
    pub action: u32,
    /// How many turns the shards had taken.
    pub step: u64,
    /// What was wrong.
    pub text: String,
}

/// Runs the simulation of a seed.
///
/// # Errors
/// The first thing that was wrong: an invariant that did not hold or a panic, outside of what the plan lets agents do. The
/// panic hook of the process is called for it as for every panic.
///
/// # Panics
/// When the options are out of range.
pub fn run(seed: u64, options: &Options) -> Result<Outcome, Failed> {
    assert!(options.shards.is_none_or(|shards| (1..=SHARDS_MAX).contains(&shards)), "allowed are 1 to 64 shards");
    assert!(options.actions.is_none_or(|actions| actions <= ACTIONS_MAX), "allowed are up to 1,000,000 actions");
    let mut play = Play::new(seed, options.clone());
    match catch_unwind(AssertUnwindSafe(|| play.play())) {
        Ok(()) => Ok(play.outcome()),
        Err(panic) => Err(play.failed(panic_text(&*panic))),
    }
}
