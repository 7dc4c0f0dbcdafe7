//! `caxton bench`: each scenario handles what it sends and says so in one JSON object.

use std::process::{Command, Output};

use serde_json::Value;

fn bench(arguments: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_caxton"));
    command.arg("bench").args(arguments.split_whitespace()).output().expect("the program runs")
}

/// The one object that a run prints, after checking what holds for every run.
fn measured(arguments: &str) -> Value {
    let output = bench(arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments}: {:?} {errors}", output.status);
    let text = String::from_utf8(output.stdout).expect("it prints UTF-8");
    assert_eq!(text.lines().count(), 1, "{arguments}: {text}");
    let object: Value = serde_json::from_str(&text).expect("it prints JSON");
    assert_eq!(object["accepted"], object["processed"], "{arguments}: {text}");
    for nothing in ["pending", "dead_lettered", "expired"] {
        assert_eq!(object[nothing], 0, "{arguments}: {nothing} in {text}");
    }
    object
}

#[test]
fn a_run_prints_one_object_with_every_figure() {
    const MESSAGES: u64 = 20_000;
    let object = measured(&format!("local --messages {MESSAGES} --json"));
    assert_eq!((&object["scenario"], &object["preset"]), (&"local".into(), &"production".into()));
    assert_eq!((&object["shards"], &object["agents"], &object["size_bytes"]), (&1.into(), &1_000.into(), &200.into()));
    assert!(object["processed"].as_u64().is_some_and(|processed| processed >= MESSAGES), "{object}");
    assert!(object["commit"].as_str().is_some_and(|commit| !commit.is_empty()), "{object}");
    for figure in ["seconds", "messages_per_second", "cpu_ns_per_message", "rss_bytes"] {
        assert!(object[figure].as_f64().is_some_and(|value| value > 0.0), "{figure} in {object}");
    }
    let latencies = ["p50", "p90", "p99", "p999", "max"].map(|name| object["latency_us"][name].as_f64());
    assert!(latencies.iter().all(Option::is_some), "{object}");
    assert!(latencies.is_sorted() && latencies[0] > Some(0.0), "{object}");
}

#[test]
fn every_scenario_runs_on_two_shards_and_on_more_than_there_may_be_cores() {
    for scenario in ["local", "cross", "mixed", "request", "contract-net", "broadcast"] {
        for shards in [2, 3] {
            let object = measured(&format!("{scenario} --messages 2000 --agents 60 --shards {shards} --json"));
            assert_eq!((&object["scenario"], &object["shards"]), (&scenario.into(), &shards.into()));
        }
    }
}

#[test]
fn messages_cross_only_where_they_should() {
    let crossed =
        |scenario| measured(&format!("{scenario} --messages 2000 --agents 60 --shards 2 --json"))["crossed"].as_u64();
    assert_eq!(crossed("local"), Some(0));
    assert!(crossed("cross") >= Some(2_000));
}

#[test]
fn an_open_loop_keeps_to_its_rate() {
    const RATE: u64 = 20_000;
    let object = measured(&format!("mixed --agents 100 --rate {RATE} --seconds 1 --json"));
    let processed = object["processed"].as_u64().expect("it is a number");
    // A machine that is busy with other work may fall behind; none may run ahead.
    assert!((1..=RATE + RATE / 10).contains(&processed), "{object}");
    assert_eq!(object["rate"].as_f64(), Some(20_000.0));
}

#[test]
fn the_histogram_is_a_percentile_distribution() {
    let directory = tempfile::tempdir().expect("there is a place for files");
    let path = directory.path().join("latencies.hgrm");
    let object = measured(&format!("cross --messages 20000 --shards 2 --json --hdr {}", path.display()));
    let text = std::fs::read_to_string(&path).expect("it was written");
    let mut lines = text.lines();
    let head: Vec<_> = lines.next().expect("it has a head").split_whitespace().collect();
    assert_eq!(head, ["Value", "Percentile", "TotalCount", "1/(1-Percentile)"]);
    let rows: Vec<Vec<f64>> = lines
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| line.split_whitespace().map(|cell| cell.parse().expect("a number")).collect())
        .collect();
    assert!(!rows.is_empty(), "{text}");
    for column in 0..3 {
        assert!(rows.is_sorted_by(|one, other| one[column] <= other[column]), "column {column} of {text}");
    }
    let last = rows.last().expect("there is one");
    assert!((last[1] - 1.0).abs() < f64::EPSILON, "the last row is of all samples: {text}");
    assert_eq!(Some(last[2]), object["latency_samples"].as_f64(), "{text}");
}

#[test]
fn a_run_for_people_says_that_the_accounting_balances() {
    let output = bench("request --messages 1000 --agents 20 --shards 1");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("accounting          balances"), "{text}");
}

#[test]
fn arguments_out_of_range_are_refused_with_the_limits() {
    let cases = [
        ("local --size 15", "allowed are 16 bytes to 10 MiB"),
        ("local --size 10485761", "allowed are 16 bytes to 10 MiB"),
        ("local --seconds 0", "allowed are 0.1 to 86400"),
        ("local --seconds NaN", "allowed are 0.1 to 86400"),
        ("local --rate 0", "allowed are 1 to 1,000,000,000"),
        ("local --agents 1", "2 to 50,000,000 agents"),
        ("local --messages 0", "at least 1 message"),
        ("local --shards 0", "allowed is 1 to 1024 shards"),
        ("local --shards 5000", "allowed is 1 to 1024 shards"),
        ("local --preset fast", "allowed is development, testing or production"),
        ("local --messages 5 --seconds 1", "cannot be used with"),
        ("sideways", "contract-net"),
        ("--hdr latencies.hgrm", "SCENARIO"),
    ];
    for (arguments, complaint) in cases {
        let output = bench(arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments}: {errors}");
        assert!(errors.contains(complaint), "{arguments}: {errors}");
        assert!(output.stdout.is_empty(), "{arguments}");
    }
}
