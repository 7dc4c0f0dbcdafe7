//! `caxton config` and `caxton doctor`: what holds, what is wrong with it, and whether this host can run a router.

mod program;

use std::process::Output;

use serde_json::Value;

fn caxton(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    program::caxton().args(arguments).envs(environment.iter().copied()).output().expect("the program runs")
}

fn printed(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("it prints UTF-8");
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// A configuration file with this text, and the directory that it goes with.
fn file(text: &str) -> (tempfile::TempDir, String) {
    let directory = tempfile::tempdir().expect("there is a place for files");
    let path = directory.path().join("caxton.toml");
    std::fs::write(&path, text).expect("it can be written");
    let path = path.to_str().expect("the path is UTF-8").to_owned();
    (directory, path)
}

#[test]
fn the_values_of_a_preset_are_shown_with_their_origin() {
    let (code, text, errors) = printed(&caxton(&["config", "show", "--preset", "production"], &[]));
    assert_eq!((code, errors.as_str()), (Some(0), ""));
    for line in [
        "preset = \"production\"  # command line or program\n",
        "[mailbox]\n",
        "messages = 10000  # preset production\n",
        "bytes = \"64 MiB\"  # preset production\n",
    ] {
        assert!(text.contains(line), "no {line:?} in {text}");
    }
}

#[test]
fn what_is_shown_can_be_read_again() {
    let (_, text, _) = printed(&caxton(&["config", "show", "--preset", "testing"], &[("CAXTON_RING_CAPACITY", "64")]));
    assert!(text.contains("capacity = 64  # environment variable CAXTON_RING_CAPACITY"), "{text}");
    let (_directory, path) = file(&text);
    let (code, valid, errors) = printed(&caxton(&["config", "check", &path], &[]));
    assert_eq!((code, errors.as_str()), (Some(0), ""));
    assert_eq!(valid, "The configuration is valid; it builds on the preset testing.\n");
    let (_, again, _) = printed(&caxton(&["config", "show", &path], &[]));
    let values =
        |text: &str| text.lines().map(|line| line.split("  # ").next().unwrap_or("").to_owned()).collect::<Vec<_>>();
    assert_eq!(values(&text), values(&again));
}

#[test]
fn an_unknown_key_is_told_with_the_right_one() {
    let (_directory, path) = file("[mailbox]\nmesages = 5\n\n[ring]\ncapacity = 0\n");
    let (code, text, errors) = printed(&caxton(&["config", "check", &path], &[]));
    assert_eq!((code, text.as_str()), (Some(1), ""));
    assert!(errors.contains(":2:1: unknown key mailbox.mesages; did you mean mailbox.messages?\n"), "{errors}");
    assert!(errors.contains("ring capacity 0 is out of range: allowed is auto, or 1 to 1000000 messages"), "{errors}");
}

#[test]
fn mistakes_on_the_command_line_and_in_the_environment_are_told() {
    let many = ("CAXTON_MAILBOX_MESSAGES", "many");
    let cases = [
        ("config check /no/such/file", None, 1, "/no/such/file: cannot read the configuration file"),
        ("config check", Some(many), 1, "environment variable CAXTON_MAILBOX_MESSAGES"),
        ("config show --set mailbox.messages", None, 1, "allowed is KEY=VALUE"),
        ("config show --preset prod", None, 2, "allowed is development, testing or production"),
        ("config", None, 2, "Usage"),
    ];
    for (arguments, environment, expected, complaint) in cases {
        let words: Vec<_> = arguments.split(' ').collect();
        let (code, text, errors) = printed(&caxton(&words, environment.as_slice()));
        assert_eq!((code, text.as_str()), (Some(expected), ""), "{arguments}: {errors}");
        assert!(errors.contains(complaint), "{arguments}: {errors}");
    }
}

#[test]
fn the_doctor_says_the_same_to_people_and_to_programs() {
    let (code, text, _) = printed(&caxton(&["doctor"], &[]));
    let (json_code, json, _) = printed(&caxton(&["doctor", "--json"], &[]));
    assert_eq!(code, json_code);
    let findings: Value = serde_json::from_str(&json).expect("it prints JSON");
    assert_eq!(findings["can_start"], code == Some(0));
    assert_eq!(text.ends_with("The router can start.\n"), code == Some(0), "{text}");
    let names: Vec<_> = findings["findings"].as_array().expect("a list").iter().map(|one| &one["name"]).collect();
    assert!(names.len() > 3, "{json}");
    for name in names {
        let name = name.as_str().expect("it has a name");
        assert!(text.contains(&format!(" {name}: ")), "no {name} in {text}");
    }
}

#[test]
fn files_that_the_settings_name_are_checked_with_them() {
    let (_directory, rules) = file("[orders]\nperformative = \"reqest\"\nto_agnt = \"broker\"\n");
    let setting = format!("rules.files={rules}");
    let (code, output, errors) = printed(&caxton(&["config", "check", "--set", &setting], &[]));
    assert_eq!((code, output.as_str()), (Some(1), ""));
    for mistake in [
        "caxton.toml:1:2: to_agent or to_capability is missing",
        "caxton.toml:2:16: performative: performative \"reqest\" is not allowed: allowed is an act of FIPA SC00037",
        "caxton.toml:3:1: unknown key to_agnt; did you mean to_agent?",
    ] {
        assert!(errors.contains(mistake), "no {mistake:?} in {errors}");
    }
    let missing = "protocols.files=/no/such/protocols";
    let (code, _, errors) = printed(&caxton(&["config", "check", "--set", missing], &[]));
    assert_eq!(code, Some(1));
    assert!(errors.starts_with("/no/such/protocols: cannot read"), "{errors}");
    // The program may define a protocol of its own.
    let (code, _, errors) =
        printed(&caxton(&["config", "check", "--set", "protocols.modes=house-haggle=enforce"], &[]));
    assert_eq!((code, errors.as_str()), (Some(0), ""));
}
