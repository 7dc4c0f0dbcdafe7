//! `caxton bench`: each scenario handles what it sends and reports it in one JSON object.

use std::process::Output;

use serde_json::Value;

use crate::program;

fn bench(arguments: &str) -> Output {
    let mut command = program::caxton();
    command.arg("bench").args(arguments.split_whitespace()).output().expect("the program runs")
}

#[test]
fn settings_come_from_the_environment_a_file_and_the_command_line() {
    let directory = tempfile::tempdir().expect("there is a place for files");
    let file = directory.path().join("caxton.toml");
    let kept = directory.path().join("kept");
    let store = format!("[store]\ndirectory = \"{}\"\n", kept.display());
    std::fs::write(&file, format!("preset = \"testing\"\n[mailbox]\nmessages = 500\n{store}")).expect("it is written");
    let output = program::caxton()
        .args(["bench", "mixed", "--messages", "2000", "--agents", "100", "--json", "--set", "mailbox.messages=600"])
        .arg("--config")
        .arg(&file)
        .env("CAXTON_ROUTER_SHARDS", "1")
        .output()
        .expect("the program runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let object: Value = serde_json::from_slice(&output.stdout).expect("it prints JSON");
    assert_eq!((&object["preset"], figure(&object, "/shards")), (&Value::from("testing"), 1));
    let settings = serde_json::json!(["router.shards = 1", "mailbox.messages = 600"]);
    for setting in settings.as_array().expect("it is a list") {
        assert!(object["settings"].as_array().is_some_and(|said| said.contains(setting)), "{setting} in {object}");
    }
    assert!(!kept.exists(), "the store of an operator is not opened");
}

#[test]
fn mistakes_in_settings_are_told_before_anything_runs() {
    let output =
        program::caxton().args(["bench"]).env("CAXTON_MAILBOX_MESAGES", "5").output().expect("the program runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{errors}");
    assert!(errors.contains("did you mean CAXTON_MAILBOX_MESSAGES?"), "{errors}");
    assert!(output.stdout.is_empty());
}

/// Returns the object that a run prints, after checking what holds for every run.
fn measured(arguments: &str) -> Value {
    let object = balanced(arguments);
    assert_eq!(object["accepted"], object["processed"], "{arguments}: {object}");
    for nothing in ["pending", "dead_lettered", "expired"] {
        assert_eq!(object[nothing], 0, "{arguments}: {nothing} in {object}");
    }
    assert_eq!(object["dead_letters_by_reason"], serde_json::json!({}), "{arguments}: {object}");
    object
}

/// Returns the object that a run prints, whatever happened to its messages.
fn balanced(arguments: &str) -> Value {
    let output = bench(arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments}: {:?} {errors}", output.status);
    let text = String::from_utf8(output.stdout).expect("it prints UTF-8");
    assert_eq!(text.lines().count(), 1, "{arguments}: {text}");
    let object: Value = serde_json::from_str(&text).expect("it prints JSON");
    assert_eq!(object["balances"], true, "{arguments}: {text}");
    object
}

/// Returns a figure of the object, by its path.
fn figure(object: &Value, path: &str) -> u64 {
    object.pointer(path).and_then(Value::as_u64).unwrap_or_else(|| panic!("no figure {path} in {object}"))
}

/// Returns the number of dead letters, after checking that all are accounted for: by a reason, and by notices to their
/// senders.
fn given_up(object: &Value) -> u64 {
    let reasons = object["dead_letters_by_reason"].as_object().expect("it is an object");
    let by_reason: u64 = reasons.values().filter_map(Value::as_u64).sum();
    let given_up = figure(object, "/dead_lettered") + figure(object, "/expired");
    assert_eq!(by_reason, figure(object, "/dead_lettered"), "{object}");
    assert_eq!(figure(object, "/failures_told") + figure(object, "/failures_coalesced"), given_up, "{object}");
    assert_eq!(figure(object, "/processed") + given_up, figure(object, "/accepted"), "{object}");
    assert_eq!(object["pending"], 0, "{object}");
    given_up
}

/// Returns the number of pairs, after checking that the median is within the range of their ratios.
fn pairs(object: &Value) -> usize {
    let pairs = object["pairs"].as_array().expect("there are pairs");
    let mut ratios: Vec<f64> = Vec::new();
    for pair in pairs {
        let [without, with, ratio] =
            ["without_p99_us", "with_p99_us", "ratio"].map(|name| pair[name].as_f64().expect("it is a number"));
        assert!(without > 0.0 && (with / without - ratio).abs() < 1e-6, "{pair}");
        ratios.push(ratio);
    }
    ratios.sort_by(f64::total_cmp);
    let median = object["p99_ratio_median"].as_f64().expect("it is a number");
    assert!(ratios[0] <= median && median <= ratios[ratios.len() - 1], "{object}");
    ratios.len()
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
fn an_open_loop_sends_its_count_and_never_runs_ahead_of_its_rate() {
    const RATE: u64 = 20_000;
    for shards in [1, 2] {
        let object = measured(&format!("mixed --agents 100 --rate {RATE} --messages {RATE} --shards {shards} --json"));
        // Each pacer is told to begin.
        assert_eq!(figure(&object, "/processed"), RATE + shards, "{object}");
        // A busy machine may fall behind. The last message of each shard is due within the second.
        let due = 1.0 - (shards as f64) / (RATE as f64);
        assert!(object["seconds"].as_f64().is_some_and(|seconds| seconds >= due), "{object}");
        assert_eq!(object["rate"].as_f64(), Some(20_000.0));
    }
}

#[test]
fn a_run_that_is_too_short_for_what_it_is_about_goes_on_until_that_has_happened() {
    let object = balanced("slow-consumer --agents 40 --rate 400 --seconds 0.1 --pairs 1 --preset testing --json");
    assert!(given_up(&object) > 0, "{object}");
    let object = balanced("protocols --agents 2 --seconds 0.1 --json");
    let scripts = object["protocols"]["scripts"].as_array().expect("it is a list");
    assert!(scripts.iter().all(|script| script["conversations"].as_u64() > Some(0)), "{object}");
}

#[test]
fn only_the_slow_consumer_is_refused_anything() {
    for shards in [1, 2] {
        let object = balanced(&format!(
            "slow-consumer --agents 40 --rate 4000 --seconds 0.5 --pairs 2 --preset testing --shards {shards} --json"
        ));
        assert_eq!(pairs(&object), 2);
        let lost = given_up(&object);
        let refused = figure(&object, "/slow_consumer/sent") - figure(&object, "/slow_consumer/taken");
        assert!(lost > 0 && lost == refused, "{object}");
        assert_eq!(figure(&object, "/dead_letters_by_reason/mailbox-full"), lost, "{object}");
    }
}

#[test]
fn volatile_messages_are_measured_beside_durable_ones_and_all_are_handled() {
    let object = balanced(
        "durable-load --agents 40 --rate 4000 --durable-rate 2000 --seconds 0.5 --pairs 2 --preset testing --shards 2 --json",
    );
    assert_eq!(pairs(&object), 2);
    assert!(figure(&object, "/durable_load/sent") > 0 && given_up(&object) == 0, "{object}");
    // Latencies are recorded for the volatile ones.
    assert!(figure(&object, "/latency_samples") < figure(&object, "/processed"), "{object}");
    assert!(object["durable_per_second"].is_null(), "{object}");
}

#[test]
fn latencies_of_volatile_messages_are_not_said_to_include_the_disk() {
    let place = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("there is a place for files");
    let run = |arguments: &str| {
        let output =
            bench(&format!("{arguments} --shards 1 --agents 40 --seconds 0.2 --data {}", place.path().display()));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
        text
    };
    let beside = run("durable-load --pairs 1 --rate 2000 --durable-rate 500 --preset testing");
    assert!(
        beside.contains("of the volatile ones beside it") && !beside.contains("latencies include that"),
        "{beside}"
    );
    let durable = run("mixed --durable");
    assert!(durable.lines().any(|line| line.starts_with("every message ")), "{durable}");
}

#[test]
fn poison_is_dead_lettered_after_its_last_attempt_and_nothing_else_is() {
    const POISON: u64 = 60;
    for (preset, attempts) in [("development", 3), ("testing", 2), ("production", 4)] {
        let object = balanced(&format!(
            "poison --poison {POISON} --agents 60 --rate 2000 --seconds 1 --pairs 1 --preset {preset} --json"
        ));
        assert_eq!(pairs(&object), 1);
        assert_eq!((given_up(&object), figure(&object, "/poison/dead_lettered_after_all")), (POISON, POISON));
        assert_eq!(figure(&object, "/dead_letters_by_reason/attempts-exhausted"), POISON, "{object}");
        assert_eq!(figure(&object, "/poison/attempts_max"), attempts, "{object}");
        assert_eq!(figure(&object, "/poison/retried"), POISON * (attempts - 1), "{object}");
        // Half of it panics. An agent whose last panic comes at the very end may not be restarted any more.
        let (restarts, panics) = (figure(&object, "/poison/restarts"), POISON / 2 * attempts);
        assert!((panics - figure(&object, "/poison/agents")..=panics).contains(&restarts), "{object}");
        assert_eq!(figure(&object, "/poison/breakers_opened"), 0, "{object}");
        assert_eq!(object["settings"], serde_json::json!(["retry.delay_ms = 10"]), "{object}");
    }
}

#[test]
fn expected_panics_are_not_printed() {
    let output = bench("poison --poison 20 --agents 60 --rate 1000 --seconds 0.5 --pairs 1 --json");
    assert!(output.status.success() && output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn an_overload_is_refused_with_reasons_and_measured_against_its_peak() {
    let object = balanced("overload --agents 40 --rate 400 --seconds 2 --json");
    let lost = given_up(&object) + figure(&object, "/refused");
    assert!(lost > 0, "{object}");
    let reasons = object["dead_letters_by_reason"].as_object().expect("it is an object");
    assert!(reasons.keys().all(|reason| ["mailbox-full", "shard-full"].contains(&reason.as_str())), "{object}");
    for name in ["peak_messages_per_second", "sent_per_second", "sent_of_peak", "delivered_of_peak"] {
        assert!(object[name].as_f64().is_some_and(|value| value > 0.0), "{name} in {object}");
    }
    let [start, max, budget] = ["start", "max", "budget"].map(|name| figure(&object, &format!("/memory/{name}_bytes")));
    assert!(0 < start && start <= max && 0 < budget, "{object}");
    assert!(object["memory"]["share_of_budget"].is_f64(), "{object}");
}

#[test]
fn what_breaks_a_protocol_or_comes_late_is_found_and_nothing_else() {
    for (mode, found) in [("enforce", true), ("observe", true), ("off", false)] {
        let object = balanced(&format!(
            "protocols --protocols {mode} --agents 50 --seconds 0.3 --violating 0.1 --late 0.2 --json"
        ));
        assert_eq!(object["protocols"]["mode"], mode);
        for what in ["steps", "violations", "late"] {
            let [sent, seen] = ["sent", "found"].map(|side| figure(&object, &format!("/protocols/{what}/{side}")));
            assert!(sent > 0, "{what} in {object}");
            assert_eq!(seen, if found { sent } else { 0 }, "{what} in {object}");
        }
        let refused = if mode == "enforce" { figure(&object, "/protocols/violations/sent") } else { 0 };
        assert_eq!(figure(&object, "/dead_lettered"), refused, "{object}");
        let scripts = object["protocols"]["scripts"].as_array().expect("it is a list");
        assert!(scripts.iter().all(|script| script["conversations"].as_u64() > Some(0)), "{object}");
    }
}

#[test]
fn shares_that_are_none_and_scenarios_that_break_nothing_are_refused() {
    for (arguments, words) in [
        ("protocols --violating 1.5", "1.5 is out of range: expected 0 to 1"),
        ("protocols --late many", "is not a number: expected 0 to 1"),
        ("local --late 0.5", "--violating and --late are for protocols"),
        ("protocols --rate 1000", "--rate is not for protocols"),
        ("protocols --protocols strict", "strict"),
    ] {
        let output = bench(arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments}: {errors}");
        assert!(errors.contains(words), "{arguments}: {errors}");
    }
}

#[test]
fn guests_are_kept_busy_by_either_interface_and_lose_nothing() {
    for arguments in ["--wasm --raw", "--wasm", "wasm --shards 2"] {
        let object = measured(&format!("{arguments} --messages 20000 --agents 4 --json"));
        assert!(object["processed"].as_u64() >= Some(19_000), "{arguments}: {object}");
    }
}

#[test]
fn what_hostile_guests_are_sent_becomes_dead_letters_and_nothing_else_does() {
    let object = balanced("hostile-guests --pairs 1 --seconds 0.5 --agents 20 --json");
    let sent = object["hostile_guests"]["sent"].as_u64().expect("a number");
    assert!(sent > 0, "{object}");
    assert_eq!(object["dead_letters_by_reason"], serde_json::json!({ "attempts-exhausted": sent }), "{object}");
}

#[test]
fn too_much_poison_for_so_few_agents_is_refused() {
    let output = bench("poison --agents 20 --seconds 0.1 --json");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(errors.contains("42 agents would get poison, of 20"), "{errors}");
}

#[test]
fn a_run_of_every_scenario_ends_with_those_that_it_leaves_out() {
    let output = bench("--messages 200 --agents 110 --shards 1");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    let last = text.lines().last().unwrap_or_default();
    assert!(
        ["wasm", "protocols", "overload", "slow-consumer", "durable-load", "hostile-guests", "poison"]
            .iter()
            .all(|name| last.contains(name)),
        "{text}"
    );
    let help = String::from_utf8_lossy(&bench("--help").stdout).into_owned();
    assert!(
        help.contains("except wasm, protocols, overload, slow-consumer, durable-load, hostile-guests and poison"),
        "{help}"
    );
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
    let machine = text.lines().find(|line| line.starts_with("machine ")).expect("it says what it ran on");
    assert!(machine.contains("allowed, Linux ") && machine.contains("of its cores during the run"), "{machine}");
}

#[test]
fn the_machine_and_what_others_used_of_it_are_told() {
    let object = measured("local --messages 20000 --json");
    let machine = &object["machine"];
    assert!(machine["processor"].as_str().is_some_and(|name| !name.is_empty()), "{object}");
    assert!(machine["kernel"].as_str().is_some_and(|name| name.starts_with("Linux ")), "{object}");
    assert!(machine["cores_allowed"].as_u64() > Some(0), "{object}");
    let share = &machine["share_used_by_others"];
    assert!(share.is_null() || share.as_f64().is_some_and(|share| (0.0..=1.0).contains(&share)), "{object}");
}

#[test]
fn arguments_out_of_range_are_refused_with_the_limits() {
    let cases = [
        ("local --size 15", "expected 16 bytes to 10 MiB"),
        ("local --size 10485761", "expected 16 bytes to 10 MiB"),
        ("local --seconds 0", "expected 0.1 to 86400"),
        ("local --seconds NaN", "expected 0.1 to 86400"),
        ("local --rate 0", "expected 1 to 1,000,000,000"),
        ("local --agents 1", "2 to 50,000,000 agents"),
        ("local --messages 0", "at least 1 message"),
        ("local --shards 0", "expected 1 to 1024 shards"),
        ("local --shards 5000", "expected 1 to 1024 shards"),
        ("local --preset fast", "expected development, testing or production"),
        ("local --messages 5 --seconds 1", "cannot be used with"),
        ("sideways", "contract-net"),
        ("overload --messages 5", "--messages is not for overload"),
        ("overload --pairs 3", "--pairs is for slow-consumer, durable-load, hostile-guests and poison"),
        ("poison --pairs 0", "1..=99"),
        ("poison --poison 1", "2..=100000"),
        ("mixed --durable-rate 5", "--durable-rate is for durable-load"),
        ("durable-load --durable", "--durable is not for durable-load"),
        ("mixed --data /tmp", "--data is for --durable and for durable-load"),
        ("slow-consumer --poison 5", "--poison is for poison"),
        ("--hdr latencies.hgrm", "SCENARIO"),
        ("mixed --raw", "--raw is for wasm"),
        ("--wasm --rate 5", "--rate is not for wasm"),
        ("mixed --wasm", "cannot be used with"),
    ];
    for (arguments, complaint) in cases {
        let output = bench(arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments}: {errors}");
        assert!(errors.contains(complaint), "{arguments}: {errors}");
        assert!(output.stdout.is_empty(), "{arguments}");
    }
}
