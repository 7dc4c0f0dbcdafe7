//! The log of `caxton route` and `caxton bench`: none unless somebody asks for it, and never on standard output.

use std::process::Output;

use serde_json::Value;

use crate::program::caxton;

/// Routes a file that is without fault. Returns standard output and standard error.
fn route(arguments: &[&str], variables: &[(&str, &str)]) -> (String, String) {
    let mut command = caxton();
    command.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data")).args(["route", "exchange.acl", "--json"]);
    let output = command.args(arguments).envs(variables.iter().copied()).output().expect("the program runs");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    texts(output)
}

fn texts(output: Output) -> (String, String) {
    (String::from_utf8(output.stdout).expect("it is UTF-8"), String::from_utf8(output.stderr).expect("it is UTF-8"))
}

fn is_logged(errors: &str) -> bool {
    errors.contains("router starts") && errors.contains("router stopped")
}

#[test]
fn there_is_no_log_unless_somebody_asks_for_it() {
    for preset in ["development", "testing", "production"] {
        let (output, errors) = route(&["--preset", preset], &[]);
        assert!(!output.contains("router starts") && errors.is_empty(), "{preset}: {errors}");
    }
    // The form alone asks for nothing.
    assert_eq!(route(&["--set", "log.format=json"], &[]).1, "");
}

#[test]
fn the_log_goes_to_standard_error_and_the_results_stay_what_they_are() {
    let (plain, _) = route(&[], &[]);
    let (output, errors) = route(&["--log", "info"], &[]);
    assert!(is_logged(&errors), "{errors}");
    assert!(!errors.contains("agent registered"), "that is for debug: {errors}");
    let objects: Vec<Value> = output.lines().map(|line| serde_json::from_str(line).expect("it is JSON")).collect();
    assert_eq!(objects.len(), plain.lines().count());
    assert!(route(&["--log", "debug"], &[]).1.contains("agent registered"));
}

#[test]
fn the_setting_and_the_common_variable_ask_for_it_too_and_the_setting_is_the_stronger() {
    assert!(is_logged(&route(&["--set", "log.level=info"], &[]).1));
    assert!(is_logged(&route(&[], &[("CAXTON_LOG_LEVEL", "info")]).1));
    assert!(is_logged(&route(&[], &[("RUST_LOG", "info")]).1));
    assert_eq!(route(&[], &[("RUST_LOG", "info"), ("CAXTON_LOG_LEVEL", "off")]).1, "");
    assert_eq!(route(&["--log", "off"], &[("RUST_LOG", "info")]).1, "");
    assert_eq!(route(&[], &[("RUST_LOG", "")]).1, "");
}

#[test]
fn every_line_of_a_log_in_json_is_an_object() {
    let (_, errors) = route(&["--preset", "production", "--log", "trace"], &[]);
    let lines: Vec<Value> = errors.lines().map(|line| serde_json::from_str(line).expect("it is JSON")).collect();
    let stopped = lines.last().expect("there are lines");
    assert_eq!(
        (stopped["message"].as_str(), stopped["target"].as_str()),
        (Some("router stopped"), Some("caxton::router"))
    );
    assert!(stopped["accepted"].as_u64().is_some_and(|accepted| accepted > 0), "{stopped}");
}

#[test]
fn a_level_that_is_none_is_refused_before_anything_is_done() {
    for (arguments, variable) in [(&["--log", "loud"][..], ""), (&[][..], "loud")] {
        let mut command = caxton();
        command.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data")).args(["route", "exchange.acl"]);
        let output = command.args(arguments).env("RUST_LOG", variable).output().expect("the program runs");
        assert_eq!(output.status.code(), Some(2));
        let (output, errors) = texts(output);
        assert!(output.is_empty() && errors.contains("log level \"loud\" is not allowed"), "{errors}");
    }
}

#[test]
fn a_benchmark_logs_beside_its_results() {
    let mut command = caxton();
    command.args(["bench", "local", "--messages", "1000", "--json", "--log", "info"]);
    let (output, errors) = texts(command.output().expect("the program runs"));
    assert!(is_logged(&errors), "{errors}");
    assert!(serde_json::from_str::<Value>(&output).is_ok(), "{output}");
}
