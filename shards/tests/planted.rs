//! Checks that the simulators find planted bugs: see [`caxton_shards::planted`].

use std::panic::{set_hook, take_hook};

use caxton_shards::planted::{Bug, plant};
use caxton_shards::sim::{Options, durable, run};

/// The simulator that has to find a bug.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Simulator {
    /// [`caxton_shards::sim::run`].
    Plain,
    /// [`caxton_shards::sim::durable::run`].
    Crashes,
}

use Simulator::{Crashes, Plain};

impl Simulator {
    /// Returns what is wrong with a seed.
    fn complaint(self, seed: u64) -> Option<String> {
        match self {
            Plain => run(seed, &Options::default()).err().map(|failed| failed.to_string()),
            Crashes => durable::run(seed).err(),
        }
    }
}

/// The number of seeds, from zero, within which each bug has to be found.
const FOUND_WITHIN: [(Bug, Simulator, u64); Bug::ALL.len()] = [
    (Bug::OrderReversedAtStart, Crashes, 100),
    (Bug::HandledIdsForgotten, Crashes, 100),
    (Bug::DeregisteredAgentReturns, Crashes, 100),
    (Bug::PersistentAgentForgotten, Crashes, 100),
    (Bug::DuplicateDispatched, Crashes, 100),
    (Bug::CreditLost, Plain, 400),
    (Bug::RefusedCreditLost, Plain, 10),
    (Bug::ProcessedNotCounted, Plain, 10),
    (Bug::AcknowledgedEarly, Crashes, 100),
    (Bug::DispatchedEarly, Crashes, 100),
    (Bug::SettledEarly, Crashes, 100),
    (Bug::AcknowledgedTwice, Crashes, 100),
    (Bug::AcknowledgementLost, Crashes, 100),
    (Bug::WakeUpLost, Plain, 50),
    (Bug::TimerLost, Plain, 50),
    (Bug::CarriedTwice, Crashes, 100),
    (Bug::CarriedOutOfOrder, Crashes, 100),
    (Bug::OutboxOvertaken, Plain, 50),
    (Bug::FailureNotTold, Plain, 50),
    (Bug::ReplayedLettersForgotten, Crashes, 400),
    (Bug::RecoveredConversationsEnforced, Crashes, 100),
    (Bug::ForeignIdsDeduplicated, Crashes, 100),
    (Bug::ForeignIdsInherited, Crashes, 100),
    (Bug::GatewayOfEarlierRun, Crashes, 100),
    (Bug::AttemptsForgotten, Crashes, 100),
    (Bug::DeadLetterNotKept, Crashes, 100),
    (Bug::ReplayedIdByNumber, Crashes, 4_000),
    (Bug::WithdrawnTakenForHandled, Crashes, 4_000),
];

/// Returns what is wrong with the first seeds of a simulator while no bug is planted.
fn without_a_bug(simulator: Simulator) -> Vec<String> {
    let seeds = FOUND_WITHIN.iter().filter(|(_, looking, _)| *looking == simulator).map(|(.., within)| *within);
    let complaints = (0..seeds.max().unwrap_or(0)).filter_map(|seed| Some((seed, simulator.complaint(seed)?)));
    complaints.map(|(seed, complaint)| format!("{simulator:?}, seed {seed}: {complaint}")).collect()
}

#[test]
fn every_planted_bug_is_found_and_without_one_the_same_seeds_are_clean() {
    let shown = take_hook();
    set_hook(Box::new(|_| {}));
    let wrong = [Plain, Crashes].map(without_a_bug).concat();
    let mut missed = Vec::new();
    for (bug, simulator, within) in FOUND_WITHIN {
        plant(Some(bug));
        match (0..within).find_map(|seed| Some((seed, simulator.complaint(seed)?))) {
            Some((seed, complaint)) => {
                let beginning: String = complaint.chars().take(100).collect();
                println!("{:<28} {simulator:?}, seed {seed} of {within}: {beginning}", bug.name());
            }
            None => missed.push(format!("{} within {within} seeds of {simulator:?}", bug.name())),
        }
    }
    plant(None);
    set_hook(shown);
    assert!(wrong.is_empty(), "without a bug: {wrong:#?}");
    assert!(missed.is_empty(), "not found: {missed:#?}");
}

#[test]
fn every_bug_is_looked_for_once() {
    let mut bugs: Vec<Bug> = FOUND_WITHIN.iter().map(|(bug, ..)| *bug).collect();
    bugs.sort_unstable();
    assert_eq!(bugs, Bug::ALL);
}
