//! The seeded simulation: hundreds of runs with every kind of fault, and the same history for the same seed. `caxton
//! sim` runs more of them, and replays one that failed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use caxton_router::dead_letter::DeadLetterReason;
use caxton_router::domain::AgentName;
use caxton_router::message::is_notice;
use caxton_router::sim::Input;
use caxton_router::sim::{Failed, Fault, Options, Outcome, SHRINK_RUNS_MAX, run, shrink};
use caxton_router::stats::Account;
use caxton_router::{Agent, Context, Message, Outcome as Handled};

/// Seeds of the long test.
const SEEDS: u64 = 2_000;

fn clean(seed: u64, options: &Options) -> Outcome {
    match run(seed, options) {
        Ok(outcome) => outcome,
        Err(failed) => panic!("{failed}\nreplay and shrink it with: caxton sim --seeds {seed}"),
    }
}

fn without(faults: impl IntoIterator<Item = Fault>) -> Options {
    Options { without: faults.into_iter().collect(), ..Options::default() }
}

fn failing(options: &Options) -> Failed {
    (0..20).find_map(|seed| run(seed, options).err()).expect("one of 20 seeds finds what is broken")
}

#[test]
fn two_thousand_seeds_are_accounted_for_and_come_to_rest() {
    let outcomes: Vec<Outcome> = (0..SEEDS).map(|seed| clean(seed, &Options::default())).collect();
    let total = outcomes.iter().map(|outcome| &outcome.account).sum::<Account>();
    // Traffic that never approaches a limit would prove little. Journal failures have their own simulation: see `caxton
    // sim --crashes`. Its agents send enough that each reply belongs to one conversation.
    let elsewhere =
        [DeadLetterReason::NotJournalled, DeadLetterReason::Expired, DeadLetterReason::AmbiguousConversation];
    for reason in DeadLetterReason::ALL.into_iter().filter(|reason| !elsewhere.contains(reason)) {
        assert!(total.dead_by_reason[reason.index()] > 0, "nothing was given up as {reason}: {total:?}");
    }
    let counts =
        [total.processed, total.expired, total.departed, total.retried, total.refused, total.notices_coalesced];
    assert!(counts.iter().all(|count| *count > 0), "something never happened: {total:?}");
    assert!((1..=4).all(|shards| outcomes.iter().any(|outcome| outcome.shards == shards)));
}

#[test]
fn the_same_seed_gives_the_same_history_and_another_seed_another() {
    let run = |seed| clean(seed, &Options::default());
    for seed in 0..20 {
        assert_eq!(run(seed), run(seed), "seed {seed}");
    }
    assert_ne!(run(1).history, run(2).history);
}

#[test]
fn shards_and_actions_are_as_the_options_say() {
    let outcome = clean(3, &Options { shards: Some(7), actions: Some(40), ..Options::default() });
    assert_eq!((outcome.shards, outcome.actions), (7, 40));
    let nothing = clean(3, &Options { actions: Some(0), ..without(Fault::ALL) });
    assert_eq!(nothing.account.accepted, nothing.account.processed + nothing.account.dead_lettered);
}

#[test]
fn turns_overlap_unless_that_is_turned_off() {
    let histories = |options: &Options| (0..10).map(|seed| clean(seed, options).history).collect::<Vec<_>>();
    assert_ne!(histories(&Options::default()), histories(&without([Fault::Overlap])));
    let alone = |options| histories(&Options { shards: Some(1), ..options });
    assert_eq!(
        alone(Options::default()),
        alone(without([Fault::Overlap])),
        "a single shard has nobody to overlap with"
    );
}

#[test]
fn what_is_turned_off_does_not_happen() {
    type Seen = fn(&Outcome) -> u64;
    let happened = |options: &Options, seen: Seen| -> u64 { (0..40).map(|seed| seen(&clean(seed, options))).sum() };
    let retried: Seen = |outcome| outcome.account.retried;
    let stopped: Seen = |outcome| outcome.account.dead_by_reason[DeadLetterReason::Stopped.index()];
    let full: Seen = |outcome| outcome.account.dead_by_reason[DeadLetterReason::ShardFull.index()];
    let unaddressed: Seen = |outcome| outcome.account.dead_by_reason[DeadLetterReason::NoRoute.index()];
    for (faults, seen) in [
        (vec![Fault::Failing, Fault::Panics], retried),
        (vec![Fault::Shutdown], stopped),
        (vec![Fault::Limits], full),
        (vec![Fault::Strangers], unaddressed),
    ] {
        assert!(happened(&Options::default(), seen) > 0, "{faults:?} is on");
        assert_eq!(happened(&without(faults.clone()), seen), 0, "{faults:?} is off");
    }
}

#[test]
fn every_kind_of_fault_can_be_turned_off_alone() {
    for fault in Fault::ALL {
        for seed in 0..5 {
            clean(seed, &without([fault]));
        }
    }
}

/// A broken agent: from its third message on its handler panics.
struct Fragile(Arc<AtomicU32>);

impl Agent for Fragile {
    fn handle(&mut self, message: &Message, _: &mut Context<'_>) -> Handled {
        if !is_notice(message) {
            let before = self.0.fetch_add(1, Ordering::Relaxed);
            assert!(before < 2, "the third message is one too many");
        }
        Handled::Done
    }
}

fn with_a_fragile_agent() -> Options {
    let name = AgentName::try_new("fragile").expect("a legal name");
    // Each created agent counts for itself, so that every run is the same.
    Options::default().with_agent(name, || Fragile(Arc::default()))
}

#[test]
fn a_broken_agent_fails_the_run_which_shrinks_to_a_few_actions() {
    let options = with_a_fragile_agent();
    let failed = failing(&options);
    assert!(failed.text.contains("the third message is one too many"), "{failed}");
    assert_eq!(run(failed.seed, &options).expect_err("it fails again").to_string(), failed.to_string());
    let shrunk = shrink(&failed, &options);
    assert!(shrunk.failed.text.contains("one too many"), "{}", shrunk.failed);
    assert!(shrunk.runs <= SHRINK_RUNS_MAX);
    assert!(shrunk.options.actions <= Some(failed.action), "{shrunk:?}");
    for fault in Fault::ALL.into_iter().filter(|fault| !shrunk.options.without.contains(fault)) {
        let mut fewer = shrunk.options.clone();
        fewer.without.insert(fault);
        assert!(run(shrunk.failed.seed, &fewer).is_ok(), "{fault:?} is not needed: {shrunk:?}");
    }
    assert_eq!(shrunk.options.shards, Some(1));
    let again = run(shrunk.failed.seed, &shrunk.options).expect_err("the smallest run fails as well");
    assert_eq!(again.to_string(), shrunk.failed.to_string());
}

#[test]
fn an_answer_that_never_comes_and_an_invariant_of_the_callers_own_fail_the_run() {
    // A request lost on the way in is one that is never answered.
    let options = Options::default().with_check(|world| {
        world.nodes[0].inputs.retain(|input| !matches!(input, Input::Inspect(_)));
        Ok(())
    });
    assert!(failing(&options).text.contains("questions were not answered"));
    // The caller's invariant is checked after every step.
    let options = Options::default().with_check(|world| {
        let total = world.total();
        if total.processed > 30 {
            Err(format!("30 processed messages are enough, not {}", total.processed))
        } else {
            Ok(())
        }
    });
    let failed = failing(&options);
    assert!(failed.text.contains("30 processed messages are enough"), "{failed}");
    let shrunk = shrink(&failed, &options);
    assert!(shrunk.options.actions <= Some(failed.action) && shrunk.runs <= SHRINK_RUNS_MAX, "{shrunk:?}");
}
