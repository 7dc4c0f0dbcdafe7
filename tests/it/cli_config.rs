//! `caxton config` and `caxton doctor`: which settings apply, what is wrong with them, and whether this host can run a
//! router.

use std::process::Output;

use serde_json::Value;

use crate::program;

fn caxton(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    program::caxton().args(arguments).envs(environment.iter().copied()).output().expect("the program runs")
}

fn printed(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("it prints UTF-8");
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// A configuration file with this text, and its directory.
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
    assert_eq!((code, text.as_str()), (Some(2), ""));
    assert!(errors.contains(":2:1: unknown key mailbox.mesages; did you mean mailbox.messages?\n"), "{errors}");
    assert!(errors.contains("ring capacity 0 is out of range: expected auto, or 1 to 1000000 messages"), "{errors}");
}

#[test]
fn mistakes_on_the_command_line_and_in_the_environment_are_told() {
    let many = ("CAXTON_MAILBOX_MESSAGES", "many");
    let cases = [
        ("config check /no/such/file", None, "/no/such/file: cannot read the configuration file"),
        ("config check", Some(many), "environment variable CAXTON_MAILBOX_MESSAGES"),
        ("config show --set mailbox.messages", None, "expected KEY=VALUE"),
        ("config show --preset prod", None, "expected development, testing or production"),
        ("config", None, "Usage"),
    ];
    for (arguments, environment, complaint) in cases {
        let words: Vec<_> = arguments.split(' ').collect();
        let (code, text, errors) = printed(&caxton(&words, environment.as_slice()));
        assert_eq!((code, text.as_str()), (Some(2), ""), "{arguments}: {errors}");
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
    assert_eq!((code, output.as_str()), (Some(2), ""));
    for mistake in [
        "caxton.toml:1:2: to_agent or to_capability is missing",
        "caxton.toml:2:16: performative: performative \"reqest\" is not allowed: expected an act of FIPA SC00037",
        "caxton.toml:3:1: unknown key to_agnt; did you mean to_agent?",
    ] {
        assert!(errors.contains(mistake), "no {mistake:?} in {errors}");
    }
    let missing = "protocols.files=/no/such/protocols";
    let (code, _, errors) = printed(&caxton(&["config", "check", "--set", missing], &[]));
    assert_eq!(code, Some(2));
    assert!(errors.starts_with("/no/such/protocols: cannot read"), "{errors}");
    // The program may define its own protocol.
    let (code, _, errors) =
        printed(&caxton(&["config", "check", "--set", "protocols.modes=house-haggle=enforce"], &[]));
    assert_eq!((code, errors.as_str()), (Some(0), ""));
}

#[test]
fn the_same_mistake_ends_every_verb_with_the_same_status() {
    let (directory, settings) = file("[mailbox]\nmesages = 5\n");
    let path = |name: &str| directory.path().join(name).to_str().expect("the path is UTF-8").to_owned();
    std::fs::write(path("one.acl"), "(inform :sender a :receiver b)\n").expect("it is written");
    let (acl, missing) = (path("one.acl"), path("missing"));
    for (mistake, lines) in [
        (
            "a mistake in the settings' file",
            vec![
                format!("config check {settings}"),
                format!("config show {settings}"),
                format!("route {acl} --config {settings}"),
                format!("bench local --config {settings}"),
                format!("doctor --config {settings}"),
                format!("agent check {acl} --config {settings}"),
            ],
        ),
        (
            "a file of rules that is not there",
            vec![
                format!("config check --set rules.files={missing}"),
                format!("route {acl} --set rules.files={missing}"),
                format!("bench local --set rules.files={missing}"),
                format!("doctor --set rules.files={missing}"),
            ],
        ),
        (
            "an input that is not there",
            vec![
                format!("route {missing}"),
                format!("acl check {missing}"),
                format!("acl convert {missing} --to xml"),
                format!("agent check {missing}"),
                format!("agent build {missing} -o {missing}"),
                format!("store check {missing}"),
                format!("store dump {missing}"),
                format!("store backup {missing} {missing}-copy"),
                format!("store compact {missing}"),
                format!("dlq ls {missing}"),
                format!("dlq show {missing} d0-1"),
                format!("dlq replay {missing}"),
                format!("dlq purge {missing} --all"),
                format!("conv ls {missing}"),
                format!("conv show {missing} x"),
            ],
        ),
        (
            "an argument that does not exist",
            [
                "acl check",
                "agent check",
                "agent ls",
                "bench",
                "conv ls",
                "config show",
                "dlq ls",
                "doctor",
                "route",
                "send",
                "sim",
                "stats",
                "store check",
                "top",
            ]
            .map(|verb| format!("{verb} --no-such-option"))
            .into(),
        ),
    ] {
        for line in lines {
            let words: Vec<_> = line.split(' ').collect();
            let (code, output, errors) = printed(&caxton(&words, &[]));
            assert_eq!((code, output.as_str()), (Some(2), ""), "{mistake}: {line}: {errors}");
            assert!(!errors.is_empty(), "{mistake}: {line}");
        }
    }
    assert!(!std::path::Path::new(&missing).exists(), "a mistyped path becomes nothing");
    let (_, help, _) = printed(&caxton(&["--help"], &[]));
    assert!(help.contains("Exit status, the same for every verb"), "{help}");
}

#[test]
fn shells_and_manual_pages_know_every_verb() {
    let (_, help, _) = printed(&caxton(&["--help"], &[]));
    let verbs = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let verbs: Vec<_> = verbs.map_while(|line| line.split_whitespace().next()).collect();
    assert!(verbs.contains(&"serve") && verbs.len() > 10, "{help}");
    for shell in ["bash", "zsh", "fish"] {
        let (code, completions, errors) = printed(&caxton(&["completions", shell], &[]));
        assert_eq!(code, Some(0), "{errors}");
        assert!(verbs.iter().all(|verb| completions.contains(verb)), "{shell}");
    }
    let pages = tempfile::tempdir().expect("there is a place for files");
    let directory = pages.path().to_str().expect("the path is UTF-8");
    assert_eq!(printed(&caxton(&["man", directory], &[])).0, Some(0));
    for verb in verbs.iter().filter(|verb| **verb != "help") {
        let page = std::fs::read_to_string(pages.path().join(format!("caxton-{verb}.1"))).expect(verb);
        assert!(page.contains(".SH SYNOPSIS"), "{verb}");
    }
    assert_eq!(printed(&caxton(&["man", &format!("{directory}/missing")], &[])).0, Some(1));
}

#[test]
fn a_token_is_shown_once_and_its_file_keeps_the_hash() {
    let directory = tempfile::tempdir().expect("there is a place for files");
    let file = directory.path().join("tokens.toml");
    let path = file.to_str().expect("the path is UTF-8");
    let arguments = ["token", "billing", "--agents", "billing,bill-*", "--expires-in", "90d", "--file", path];
    let (code, secret, errors) = printed(&caxton(&arguments, &[]));
    assert_eq!(code, Some(0), "{errors}");
    assert!(secret.starts_with("cxt_") && secret.trim().len() == 68, "{secret}");
    let entry = std::fs::read_to_string(&file).expect("it was created");
    assert!(entry.contains("name = \"billing\"") && entry.contains("expires = \"20"), "{entry}");
    assert!(!entry.contains(secret.trim()), "only its hash is kept");
    assert_eq!(printed(&caxton(&["token", "x", "--file", "/nowhere/tokens.toml"], &[])).0, Some(1));
    assert_eq!(printed(&caxton(&["token", "x", "--operations", "fly"], &[])).0, Some(2));
    assert_eq!(printed(&caxton(&["token", "x", "--expires-in", "8000y", "--file", path], &[])).0, Some(2));
    assert_eq!(std::fs::read_to_string(&file).expect("it is there"), entry, "a refused token leaves the file alone");
}

#[test]
fn nothing_that_a_terminal_would_obey_is_printed_raw() {
    let directory = tempfile::tempdir().expect("there is a place for files");
    let name = "evil\u{1b}]0;owned\u{7}\u{9b}31m\u{202e}";
    let path = |name: &str| directory.path().join(name).to_str().expect("the path is UTF-8").to_owned();
    let (file, folder, settings) = (path(name), path(&format!("{name}.d")), path(&format!("{name}.toml")));
    let malformed = "(inform :sender a :receiver b :content \"\u{1b}[2J\")\n(inform :sender \u{1b}[31m a)\n";
    std::fs::write(&file, malformed).expect("it is written");
    std::fs::write(&settings, "[mailbox]\n\"mes\u{1b}ages\" = 5\n").expect("it is written");
    std::fs::create_dir(&folder).expect("it is made");
    for arguments in [
        vec!["route", &file],
        vec!["route", "--json", &file],
        vec!["acl", "check", &file],
        vec!["acl", "check", "--json", &file],
        vec!["acl", "convert", "--to", "xml", &folder],
        vec!["agent", "check", &file],
        vec!["agent", "new", &file],
        vec!["agent", "build", &file, "-o", &folder],
        vec!["config", "check", &settings],
        vec!["route", &file, "--config", &settings],
        vec!["doctor", "--data", &file],
        vec!["doctor", "--data", &folder],
        vec!["store", "check", &folder],
        vec!["store", "backup", &folder, &file],
        vec!["dlq", "ls", &file],
        vec!["dlq", "show", &folder, name],
        vec!["conv", "show", &folder, name],
        vec!["route", &file, &settings],
        vec!["bench", name],
        vec!["bench", "local", "--messages", "10", "--agents", "5", "--hdr", &folder],
    ] {
        let output = caxton(&arguments, &[]);
        let text =
            [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).expect("it prints UTF-8")).concat();
        let obeyed = |letter: char| letter.is_control() && !matches!(letter, '\n' | '\t') || letter == '\u{202e}';
        assert!(!text.contains(obeyed), "{arguments:?}: {text:?}");
        assert!(!text.is_empty(), "{arguments:?}");
    }
}

#[test]
fn the_doctor_examines_the_disk_of_a_store_and_leaves_nothing_there() {
    let directory = tempfile::tempdir().expect("there is a place for files");
    let place = directory.path().to_str().expect("the path is UTF-8");
    let (code, text, errors) = printed(&caxton(&["doctor", "--data", place], &[]));
    assert_eq!(code, Some(0), "{text}{errors}");
    for name in ["store directory", "store disk", "store space", "store clock", "clock", "mappings"] {
        assert!(text.contains(&format!(" {name}: ")), "no {name} in {text}");
    }
    assert_eq!(std::fs::read_dir(place).expect("it is there").count(), 0);
    let (_file, settings) = file(&format!("[store]\ndirectory = \"{place}/not/yet\"\nsegment_bytes = \"1 GiB\"\n"));
    let (code, by_settings, errors) = printed(&caxton(&["doctor", "--config", &settings], &[]));
    assert!(matches!(code, Some(0 | 1)), "{errors}");
    assert!(by_settings.contains("/not/yet is created at the start, in"), "{by_settings}");
    let blocked = directory.path().join("file");
    std::fs::write(&blocked, "").expect("it is written");
    let (code, text, _) = printed(&caxton(&["doctor", "--data", blocked.to_str().expect("UTF-8")], &[]));
    assert_eq!(code, Some(1));
    assert!(text.contains("problem  store directory: ") && text.contains("is not a directory"), "{text}");
}
