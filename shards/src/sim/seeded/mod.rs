//! The seeded simulation: random agents, random traffic and every kind of fault, on the real shards.
//!
//! Everything in a run derives from its seed through a plan: each action, each agent and each handling of a message has
//! its own generator, derived from the seed and its subject. Disabling a kind of fault therefore leaves the rest of the
//! plan unchanged as far as possible.
//!
//! Three tables define a run: [`faults`] what can go wrong, [`actions`] what the world does, [`cast`] what agents do. A
//! new entry is a line in one of them. The [`ledger`] records what agents observed and what senders were promised,
//! beside the shards' own accounts, and [`play`] compares the two.

mod actions;
mod cast;
mod faults;
mod ledger;
mod play;
mod shrink;

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::domain::AgentName;
use crate::shard::agent::Agent;
use crate::stats::account::Account;
use crate::supervision::catch_panic;

use self::play::Play;
use super::world::World;

pub use self::faults::Fault;
pub use self::shrink::{SHRINK_RUNS_MAX, Shrunk, shrink};

/// Maximum number of shards of a simulated run.
pub const SHARDS_MAX: u16 = 64;
/// Maximum number of actions of one run.
pub const ACTIONS_MAX: u32 = 1_000_000;

type OwnFactory = Arc<dyn Fn() -> Box<dyn Agent> + Send + Sync>;
type OwnCheck = Arc<dyn Fn(&mut World) -> Result<(), String>>;

/// Options of a run, which override its seed.
#[derive(Clone, Default, Debug)]
pub struct Options {
    /// The number of shards, from 1 to [`SHARDS_MAX`]. By default the seed chooses.
    pub shards: Option<u16>,
    /// The number of actions of the plan before the run ends, up to [`ACTIONS_MAX`]. By default the seed chooses.
    pub actions: Option<u32>,
    /// Faults that are disabled.
    pub without: BTreeSet<Fault>,
    /// Additions of the caller: see [`Options::with_agent`] and [`Options::with_check`].
    pub own: Own,
}

/// Agents and invariants of the caller.
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
    /// Adds an agent of the caller. It takes part from the beginning and receives its share of the random traffic. It
    /// is called message by message. If it panics, the run fails.
    #[must_use]
    pub fn with_agent<A: Agent + 'static>(
        mut self,
        name: AgentName,
        make: impl Fn() -> A + Send + Sync + 'static,
    ) -> Self {
        self.own.agents.push((name, Arc::new(move || Box::new(make()))));
        self
    }

    /// Adds an invariant of the caller. It is checked after every step; an error fails the run.
    #[must_use]
    pub fn with_check(mut self, check: impl Fn(&mut World) -> Result<(), String> + 'static) -> Self {
        self.own.checks.push(Arc::new(check));
        self
    }

    fn allows(&self, fault: Fault) -> bool {
        !self.without.contains(&fault)
    }
}

/// The result of a successful run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// The run's seed.
    pub seed: u64,
    /// The number of shards.
    pub shards: u16,
    /// The number of actions performed.
    pub actions: u32,
    /// The number of turns of the shards.
    pub steps: u64,
    /// The accounts of all shards together.
    pub account: Account,
    /// A digest of what each agent observed, when, and of what it and the world received.
    pub history: u64,
}

/// A failed run.
#[derive(Clone, Debug, thiserror::Error)]
#[error("seed {seed}, step {step}, action {action}: {text}")]
pub struct Failed {
    /// The run's seed.
    pub seed: u64,
    /// The number of shards.
    pub shards: u16,
    /// The number of actions begun. If it is all of them, the failure may be in the end of the run.
    pub action: u32,
    /// The number of turns of the shards.
    pub step: u64,
    /// What was wrong.
    pub text: String,
}

/// Runs the simulation of a seed.
///
/// # Errors
///
/// Returns the first fault: a violated invariant, or a panic that was not planned. The panic hook of the process is
/// called for it as for every panic.
///
/// # Panics
///
/// If the options are out of range.
pub fn run(seed: u64, options: &Options) -> Result<Outcome, Failed> {
    assert!(options.shards.is_none_or(|shards| (1..=SHARDS_MAX).contains(&shards)), "expected 1 to 64 shards");
    assert!(options.actions.is_none_or(|actions| actions <= ACTIONS_MAX), "at most 1,000,000 actions");
    let mut play = Play::new(seed, options.clone());
    match catch_panic(|| play.play()) {
        Ok(()) => Ok(play.outcome()),
        Err(what) => Err(play.failed(what)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::io::Input;

    /// Returns how a run fails whose world is modified once, after 100 turns.
    fn failure_after(meddle: fn(&mut World)) -> Failed {
        let done = std::cell::Cell::new(false);
        let options = Options { without: [Fault::Shutdown].into(), ..Options::default() };
        let options = options.with_check(move |world| {
            if world.steps() >= 100 && !done.replace(true) {
                meddle(world);
            }
            Ok(())
        });
        run(1, &options).expect_err("the run is meddled with")
    }

    #[test]
    fn agents_break_their_protocol_and_are_found_only_while_that_is_allowed() {
        let refused = |without: &[Fault]| -> u64 {
            let options = Options { without: without.iter().copied().collect(), ..Options::default() };
            let reason = crate::dead_letter::DeadLetterReason::ProtocolViolation.index();
            (0..40).map(|seed| run(seed, &options).expect("a good seed").account.dead_by_reason[reason]).sum()
        };
        let found = refused(&[]);
        assert!(found > 20, "{found} were refused");
        assert_eq!(refused(&[Fault::Protocols]), 0);
    }

    #[test]
    fn a_shard_that_counts_wrong_is_noticed_at_once() {
        let failed = failure_after(|world| world.nodes[0].shard.account_mut().processed += 1);
        assert!(failed.text.contains("lost count") || failed.text.contains("do not balance"), "{failed}");
        assert!((100..=102).contains(&failed.step), "{failed}");
    }

    #[test]
    fn books_that_balance_and_are_wrong_are_held_against_what_agents_saw() {
        let failed = failure_after(|world| {
            world.nodes[0].shard.account_mut().processed += 100_000;
            world.nodes[0].shard.account_mut().accepted += 100_000;
        });
        assert!(failed.text.contains("agents processed"), "{failed}");
        let failed = failure_after(|world| {
            let account = world.nodes[0].shard.account_mut();
            account.dead_by_reason[0] += 1;
            account.dead_lettered += 1;
            account.accepted += 1;
        });
        assert!(failed.text.contains("dead letters were reported as"), "{failed}");
    }

    #[test]
    fn a_message_that_disappears_is_missed() {
        let options = Options { without: Fault::ALL.into(), ..Options::default() };
        let lost = std::cell::Cell::new(false);
        let options = options.with_check(move |world| {
            // Replaces a message on its way in by something harmless.
            for node in &mut world.nodes {
                let send = node.inputs.iter_mut().find(|input| matches!(input, Input::Send(..)));
                if let Some(input) = send.filter(|_| !lost.replace(true)) {
                    *input = Input::WatchEvents(crate::shard::io::EventDetail::Everything);
                }
            }
            Ok(())
        });
        let failed = run(1, &options).expect_err("a message is lost");
        assert!(failed.text.contains("questions were not answered"), "{failed}");
    }

    #[test]
    fn messages_that_overtake_each_other_are_noticed() {
        let options = Options { without: Fault::ALL.into(), ..Options::default() }.with_check(|world| {
            world.nodes.iter_mut().for_each(|node| node.inputs.make_contiguous().reverse());
            Ok(())
        });
        let failed = (0..20).find_map(|seed| run(seed, &options).err()).expect("the order is noticed");
        assert!(failed.text.contains("out of order"), "{failed}");
    }

    #[test]
    fn a_panic_inside_the_engine_is_found_also_where_a_handler_is_blamed() {
        /// Causes an unplanned panic.
        struct Faulty;
        impl Agent for Faulty {
            fn handle(
                &mut self,
                _: &crate::message::Message,
                _: &mut crate::shard::agent::Context<'_>,
            ) -> crate::shard::agent::Outcome {
                panic!("an assertion of the engine")
            }
        }
        let name = AgentName::try_new("faulty").unwrap();
        let failed = run(1, &Options::default().with_agent(name, || Faulty)).expect_err("it panics");
        assert!(failed.text.contains("an assertion of the engine"), "{failed}");
    }
}
