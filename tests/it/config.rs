//! Configuration from presets, files and the environment, as an operator sees it.

use caxton_router::config::{Config, ConfigErrors, FILE_BYTES_MAX, Origin, Preset, ShardChoice};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A file in its own directory, which is removed at the end of the test.
fn file(text: &str) -> (TempDir, PathBuf) {
    let directory = TempDir::new().expect("a temporary directory can be made");
    let path = directory.path().join("caxton.toml");
    std::fs::write(&path, text).expect("the file can be written");
    (directory, path)
}

fn variables(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// Returns the lines of the error, with the directory of the file removed.
fn lines(result: Result<Config, ConfigErrors>, path: &Path) -> Vec<String> {
    let directory = format!("{}/", path.parent().expect("the file is in a directory").display());
    result.expect_err("there are mistakes").to_string().replace(&directory, "").lines().map(str::to_owned).collect()
}

#[test]
fn each_source_overrides_the_one_before() {
    let (_directory, path) = file("[mailbox]\nmessages = 200\n[retry]\nattempts = 5\ndelay_ms = \"2 s\"\n");
    let environment = variables(&[("CAXTON_RETRY_ATTEMPTS", "6"), ("HOME", "/nowhere"), ("CAXTONIAN", "yes")]);
    let mut config = Config::load(Some(Preset::Production), Some(&path), environment).expect("all values are allowed");
    config.set("retry.attempts", "7", "--set").expect("seven retries are allowed");

    assert_eq!(config.mailbox.messages.into_inner(), 200);
    assert_eq!(config.retry.attempts.into_inner(), 7);
    assert_eq!(config.retry.delay_ms.into_inner(), 2_000);
    assert_eq!(config.channel.capacity.into_inner(), 100_000);
    assert_eq!(config.router.shards, ShardChoice::Automatic);

    let origin = |key: &str| config.origin(key).expect("the key exists").to_string();
    assert_eq!(origin("mailbox.messages"), format!("{}:2:12", path.display()));
    assert_eq!(origin("retry.attempts"), "--set");
    assert_eq!(origin("retry.delay_ms"), format!("{}:5:12", path.display()));
    assert_eq!(origin("channel.capacity"), "preset production");
}

/// Runs in a program with any features.
#[test]
fn a_setting_of_an_absent_feature_is_refused_with_the_features_name() {
    for (section, key, value, feature, is_there) in [
        ("store", "segments_max", "9", "store", cfg!(feature = "store")),
        ("wasm", "guests", "9", "wasm", cfg!(feature = "wasm")),
        ("plugins", "call_ms", "9", "wasm", cfg!(feature = "wasm")),
        ("otlp", "files_max", "9", "telemetry", cfg!(feature = "telemetry")),
        ("cluster", "remote_agents_max", "9", "cluster", cfg!(feature = "cluster")),
    ] {
        let (_directory, path) = file(&format!("[{section}]\n{key} = {value}\n"));
        let variable = format!("CAXTON_{}_{}", section.to_uppercase(), key.to_uppercase());
        let from_file = Config::load(None, Some(&path), []);
        let from_environment = Config::load(None, None, variables(&[(&variable, value)]));
        let set = Config::default().set(&format!("{section}.{key}"), value, "--set");
        if is_there {
            assert!(from_file.is_ok() && from_environment.is_ok() && set.is_ok(), "{section}");
            continue;
        }
        let refusal = |origin: &str, setting: &str| {
            format!(
                "{origin}: {setting} belongs to the Cargo feature `{feature}`, which this program was built without: build it \
                 with that feature, or remove the setting"
            )
        };
        assert_eq!(lines(from_file, &path), [refusal("caxton.toml:1:2", section)]);
        let setting = format!("{section}.{key}");
        let error = from_environment.expect_err("the section is not there").to_string();
        assert_eq!(error, refusal(&format!("environment variable {variable}"), &setting));
        assert_eq!(set.expect_err("the section is not there").to_string(), refusal("--set", &setting));
        assert!(!Config::default().to_toml().contains(&format!("[{section}]")));
    }
}

#[test]
fn the_environment_overrides_the_file() {
    let (_directory, path) = file("mailbox.bytes = '2 MiB'\n");
    let environment = variables(&[("CAXTON_MAILBOX_BYTES", "3 MiB")]);
    let config = Config::load(None, Some(&path), environment).expect("both values are allowed");
    assert_eq!(config.mailbox.bytes.into_inner(), 3 << 20);
    assert_eq!(
        config.origin("mailbox.bytes"),
        Some(Origin::Environment { variable: "CAXTON_MAILBOX_BYTES".to_owned() })
    );
}

#[test]
fn the_strongest_choice_of_a_preset_wins() {
    use Preset::{Development, Production, Testing};
    for (argument, variable, in_file, expected) in [
        (None, None, None, Development),
        (None, None, Some("testing"), Testing),
        (None, Some("production"), Some("testing"), Production),
        (Some(Development), Some("production"), Some("testing"), Development),
    ] {
        let text = in_file.map_or_else(String::new, |name| format!("preset = \"{name}\"\n"));
        let (_directory, path) = file(&text);
        let environment = variable.map(|name| ("CAXTON_PRESET".to_owned(), name.to_owned()));
        let config = Config::load(argument, Some(&path), environment).expect("every choice is a preset");
        assert_eq!(config.chosen_preset(), expected);
        assert_eq!(config.mailbox, Config::preset(expected).mailbox);
    }
}

#[test]
fn the_preset_does_not_undo_what_stands_before_it() {
    let (_directory, path) = file("[mailbox]\nmessages = 7\n");
    let environment = variables(&[("CAXTON_CHANNEL_CAPACITY", "9"), ("CAXTON_PRESET", "production")]);
    let config = Config::load(None, Some(&path), environment).expect("all values are allowed");
    assert_eq!(config.mailbox.messages.into_inner(), 7);
    assert_eq!(config.channel.capacity.into_inner(), 9);
    assert_eq!(config.retry, Config::preset(Preset::Production).retry);
}

#[test]
fn every_mistake_is_reported_where_it_was_made() {
    let (_directory, path) = file(
        "preset = \"prod\"\n\
         [mailbox]\n\
         message = 5\n\
         bytes = \"1 B\"\n\
         \n\
         [mailboxx]\n\
         messages = 5\n",
    );
    let environment = variables(&[
        ("CAXTON_MESSAGE_TIMEOUT", "5 s"),
        ("CAXTON_COLOUR", "blue"),
        ("CAXTON_RETRY_FACTOR", "fast"),
        ("CAXTON_RETRY_DELAY_MS", ""),
    ]);
    assert_eq!(
        lines(Config::load(None, Some(&path), environment), &path),
        [
            "caxton.toml:3:1: unknown key mailbox.message; did you mean mailbox.messages?",
            "caxton.toml:6:2: unknown key mailboxx; did you mean mailbox?",
            "environment variable CAXTON_COLOUR is unknown; `caxton config show` lists the keys; \
             CAXTON_MAILBOX_MESSAGES sets mailbox.messages",
            "environment variable CAXTON_MESSAGE_TIMEOUT is unknown; did you mean CAXTON_MESSAGE_TIMEOUT_MS?",
            "caxton.toml:1:10: preset: preset \"prod\" is not allowed: expected development, testing or production",
            "caxton.toml:4:9: mailbox.bytes: mailbox bytes 1 is out of range: expected 1024 to 4294967296 bytes",
            "environment variable CAXTON_RETRY_DELAY_MS: retry.delay_ms: backoff delay \"\" is not a number: \
             expected 1 to 3600000 milliseconds, or text such as \"500 ms\"",
            "environment variable CAXTON_RETRY_FACTOR: retry.factor: backoff factor \"fast\" is not a number: \
             expected 1 to 10",
        ]
    );
}

#[test]
fn what_is_shown_can_be_loaded_and_names_its_origins() {
    for preset in Preset::ALL {
        let (_directory, path) = file("[message]\ntimeout_ms = 2500\n");
        let environment = variables(&[("CAXTON_DEAD_LETTERS_BYTES", "5000")]);
        let config = Config::load(Some(preset), Some(&path), environment).expect("all values are allowed");
        let shown = config.to_toml();
        for line in [
            format!("preset = \"{preset}\"  # command line or program"),
            format!("timeout_ms = 2500  # {}:2:14", path.display()),
            "bytes = 5000  # environment variable CAXTON_DEAD_LETTERS_BYTES".to_owned(),
            format!("shards = \"auto\"  # preset {preset}"),
        ] {
            assert!(shown.lines().any(|shown| shown == line), "{line}\n{shown}");
        }

        let (_directory, path) = file(&shown);
        let again = Config::load(None, Some(&path), []).expect("what is shown is valid");
        assert_eq!(again.chosen_preset(), preset);
        assert_eq!(
            (again.router, again.channel, again.mailbox, again.memory, again.message, again.delivery),
            (config.router, config.channel, config.mailbox, config.memory, config.message, config.delivery)
        );
        assert_eq!(
            (again.retry, again.supervision, again.dead_letters, again.conversation, again.ring, again.drive),
            (config.retry, config.supervision, config.dead_letters, config.conversation, config.ring, config.drive)
        );
    }
}

#[test]
fn a_key_may_not_be_given_twice() {
    let (_directory, path) = file("[ring]\ncapacity = 1\ncapacity = 2\n");
    let lines = lines(Config::load(None, Some(&path), []), &path);
    assert_eq!(lines.len(), 1);
    assert!(lines[0].starts_with("caxton.toml:3:1: "), "{}", lines[0]);
}

#[test]
fn files_that_are_no_configuration_are_refused() {
    let (directory, path) = file(&"#".repeat(usize::try_from(FILE_BYTES_MAX).expect("the limit is small") + 1));
    assert_eq!(
        lines(Config::load(None, Some(&path), []), &path),
        ["caxton.toml: the file is too large for a configuration: the limit is 1048576 bytes"]
    );
    std::fs::write(&path, b"# \xff\n").expect("the file can be written");
    assert!(lines(Config::load(None, Some(&path), []), &path)[0].contains("UTF-8"));

    let missing = directory.path().join("missing.toml");
    assert!(lines(Config::load(None, Some(&missing), []), &path)[0].starts_with("missing.toml: cannot read"));
}

#[cfg(feature = "cluster")]
mod cluster {
    use super::*;

    fn config(settings: &[(&str, &str)]) -> Config {
        let mut config = Config::default();
        for (key, value) in settings {
            config.set(key, value, "--set").expect("it is legal by itself");
        }
        config
    }

    fn refusals(settings: &[(&str, &str)]) -> Vec<String> {
        let errors = config(settings).check_files().expect_err("something is wrong");
        errors.all().iter().map(ToString::to_string).collect()
    }

    const NATS: (&str, &str) = ("cluster.nats", "nats://127.0.0.1:4222");
    const NAME: (&str, &str) = ("cluster.name", "plant");
    const NODE: (&str, &str) = ("router.node", "7");

    #[test]
    fn servers_turn_it_on() {
        let off = config(&[NAME]);
        off.check_files().expect("without servers there is no cluster");
        assert!(!off.cluster.is_enabled());
        let on = config(&[NATS, NAME, NODE]);
        on.check_files().expect("nothing is missing");
        assert_eq!((on.cluster.is_enabled(), on.cluster.name.as_str()), (true, Some("plant")));
    }

    #[test]
    fn what_is_missing_is_said_at_once() {
        assert_eq!(
            refusals(&[NATS]),
            [
                "preset development: cluster.name: cluster name \"\" is not allowed: expected a word of up to 64 letters of \
                 ASCII, digits, - and _; cluster.nats turns the cluster on, which needs a name",
                "preset development: router.node: node id \"0\" is not allowed: expected 1 to 65535 in a cluster, another \
                 number for each of its routers",
            ]
        );
        let started = caxton_router::Router::builder().config(config(&[NATS])).start();
        let Err(error) = started else { panic!("a start checks the same") };
        let error = error.to_string();
        assert!(error.contains("cluster.name"), "{error}");
    }

    #[test]
    fn files_are_read_before_anything_starts() {
        let directory = TempDir::new().expect("a temporary directory can be made");
        let path = |name: &str| directory.path().join(name).display().to_string();
        let write =
            |name: &str, bytes: &[u8]| std::fs::write(directory.path().join(name), bytes).expect("it is written");
        let creds = "-----BEGIN NATS USER JWT-----\nx\n------END NATS USER JWT------\n-----BEGIN USER NKEY SEED-----\n";
        write("key", &[7; 32]);
        write("short", &[7; 31]);
        write("large", &[7; 4_097]);
        write("creds", creds.as_bytes());
        let with = |key: &str, name: &str| {
            let settings = [NATS, NAME, NODE, (key, &path(name))];
            config(&settings).check_files().err().map(|errors| errors.to_string()).unwrap_or_default()
        };
        assert_eq!(with("cluster.key_file", "key"), "");
        assert_eq!(with("cluster.credentials", "creds"), "");
        for (key, name, problem) in [
            ("cluster.key_file", "none", "No such file"),
            ("cluster.key_file", "short", "it has 31 bytes: expected at least 32"),
            ("cluster.key_file", "large", "it is too large: the limit is 4096 bytes"),
            ("cluster.credentials", "key", "expected a .creds file of NATS"),
            ("cluster.ca", "key", "expected certificates in PEM"),
            ("cluster.ca", "none", "No such file"),
        ] {
            let error = with(key, name);
            assert!(error.starts_with(&format!("{key}: {}: ", path(name))) && error.contains(problem), "{error}");
        }
    }
}
