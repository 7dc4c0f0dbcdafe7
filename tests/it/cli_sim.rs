//! `caxton sim`: seeds are run and summarised, and the same seeds give the same history.

use std::process::Output;

use serde_json::Value;

use crate::program;

fn sim(arguments: &str) -> Output {
    let mut command = program::caxton();
    command.arg("sim").args(arguments.split_whitespace()).output().expect("the program runs")
}

fn summary(arguments: &str) -> Value {
    let output = sim(arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && errors.is_empty(), "{arguments}: {:?} {errors}", output.status);
    serde_json::from_slice(&output.stdout).expect("it prints JSON")
}

#[test]
fn seeds_are_summed_up_and_the_history_is_the_same_in_every_process() {
    let object = summary("--seeds 0..5 --json");
    assert_eq!((&object["clean"], &object["first_seed"], &object["seeds"]), (&true.into(), &0.into(), &5.into()));
    for figure in ["actions", "steps", "accepted", "processed", "dead_lettered", "expired", "refused", "seconds"] {
        assert!(object[figure].as_f64().is_some_and(|value| value > 0.0), "{figure} in {object}");
    }
    let by_reason = object["dead_by_reason"].as_object().expect("it is an object");
    let sum: u64 = by_reason.values().filter_map(Value::as_u64).sum();
    assert_eq!(object["dead_lettered"], sum, "{object}");
    let history = |arguments| summary(arguments)["history"].clone();
    assert_eq!(history("--seeds 0..5 --json"), object["history"]);
    assert_ne!(history("--seeds 1..6 --json"), object["history"]);
}

#[test]
fn one_seed_is_run_with_the_shards_actions_and_faults_that_are_wanted() {
    let object = summary("--seeds 17 --shards 3 --actions 25 --without slow,pauses --without clock --json");
    assert_eq!((&object["first_seed"], &object["seeds"], &object["actions"]), (&17.into(), &1.into(), &25.into()));
    let other = summary("--seeds 17 --shards 3 --actions 25 --json");
    assert_eq!(summary("--seeds 17 --shards 3 --actions 25 --json")["history"], other["history"]);
}

#[test]
fn a_run_for_people_says_that_it_was_clean() {
    let output = sim("--seeds 2..4");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("2 (2..4), all clean") && text.contains("history"), "{text}");
}

#[test]
fn crashes_are_summed_up_with_what_happened_in_them() {
    let output = sim("--crashes --seeds 0..20");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.starts_with("20 seeds"), "{text}");
    for what in ["no errors", "none is lost", "dead letters were replayed", "followed a protocol"] {
        assert!(text.contains(what), "{what} in {text}");
    }
}

#[test]
fn arguments_out_of_range_are_refused_with_the_limits() {
    let cases = [
        ("", "--seeds"),
        ("--seeds 5..5", "expected a seed such as 17, or a range such as 0..500"),
        ("--seeds many", "expected a seed such as 17"),
        ("--seeds 1 --shards 0", "1..=64"),
        ("--seeds 1 --shards 65", "1..=64"),
        ("--seeds 1 --actions 1000001", "0..=1000000"),
        ("--seeds 1 --without weather", "expected failing, panics, suspended"),
    ];
    for (arguments, complaint) in cases {
        let output = sim(arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments}: {errors}");
        assert!(errors.contains(complaint), "{arguments}: {errors}");
        assert!(output.stdout.is_empty(), "{arguments}");
    }
}
