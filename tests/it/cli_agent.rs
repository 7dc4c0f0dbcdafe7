//! `caxton agent`, and `caxton route` with agents in WebAssembly, as a newcomer would use them.

use std::path::Path;
use std::process::{Command, Output};

use crate::program;

fn caxton(directory: &Path, arguments: &[&str]) -> Output {
    program::caxton().current_dir(directory).args(arguments).output().unwrap()
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn check_says_what_a_module_is_and_what_it_lacks() {
    let output =
        caxton(here(), &["agent", "check", "examples/guests/echo/raw.wat", "examples/guests/echo/component.wat"]);
    let text = said(&output);
    assert!(output.status.success(), "{text}");
    assert!(
        text.contains("raw.wat: an agent, raw module") && text.contains("component.wat: an agent, component"),
        "{text}"
    );

    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("empty.wat"), "(module)").unwrap();
    let output = caxton(directory.path(), &["agent", "check", "empty.wat"]);
    let text = said(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("empty.wat: this is not an agent") && text.contains("caxton_handle_v1"), "{text}");
    assert_eq!(caxton(directory.path(), &["agent", "check", "missing.wasm"]).status.code(), Some(2));
    std::fs::write(directory.path().join("empty.toml"), "[limits]\nmemory = 1\n").unwrap();
    let output = caxton(directory.path(), &["agent", "check", "empty.wat"]);
    assert_eq!(output.status.code(), Some(2), "the manifest is wrong: {}", said(&output));
}

#[test]
fn check_says_what_of_wasi_a_module_imports_is_granted_and_lacks() {
    let directory = tempfile::tempdir().unwrap();
    // The core of a component that prints, as C libraries do.
    let core = std::fs::read_to_string(here().join("examples/guests/echo/component.wat")).unwrap();
    let printing = core.replacen(
        "(memory ",
        "(import \"wasi_snapshot_preview1\" \"fd_write\" (func (param i32 i32 i32 i32) (result i32)))\n  (memory ",
        1,
    );
    std::fs::write(directory.path().join("printing.wat"), printing).unwrap();
    let check = || caxton(directory.path(), &["agent", "check", "printing.wat"]);
    let grant = |names: &str| {
        std::fs::write(directory.path().join("printing.toml"), format!("[permissions]\nwasi = [{names}]\n")).unwrap();
    };
    let output = check();
    let text = said(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("it imports wasi:cli/stdout@0.2.") && text.contains("not granted; `stdout`"), "{text}");
    assert!(text.contains("wasi:filesystem/types@0.2.") && text.contains("never granted; `stubs`"), "{text}");
    grant("\"stdout\"");
    let text = said(&check());
    assert!(!text.contains("`stdout`") && text.contains("never granted; `stubs`"), "{text}");
    grant("\"stdout\", \"stubs\"");
    let output = check();
    let text = said(&output);
    assert!(output.status.success() && text.contains("WASI: granted stdout, stubs; imports wasi:"), "{text}");
    grant("\"stdin\"");
    let output = check();
    let text = said(&output);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("clocks, random, stdout, stubs"), "{text}");
}

#[test]
fn a_plugin_is_recognised_and_judges_what_is_routed() {
    let plugin = here().join("examples/guests/gatekeeper/component.wat");
    let text = said(&caxton(here(), &["agent", "check", plugin.to_str().unwrap()]));
    assert!(text.contains("a routing plugin"), "{text}");
    let directory = tempfile::tempdir().unwrap();
    let message = |act: &str| {
        format!(
            "({act} :sender (agent-identifier :name ada) :receiver (set (agent-identifier :name bob)) :content \"x\")\n"
        )
    };
    std::fs::write(directory.path().join("two.acl"), message("inform") + &message("cancel")).unwrap();
    let argument = format!("gatekeeper={}", plugin.display());
    let output = caxton(directory.path(), &["route", "--plugin", &argument, "two.acl"]);
    let text = said(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("the routing plugin gatekeeper refuses it: no cancelling now"), "{text}");
    assert!(text.contains("inform ada -> bob: processed"), "{text}");

    let settings = format!("[plugins]\nfiles = \"keeper={}\"\n", plugin.display());
    std::fs::write(directory.path().join("caxton.toml"), settings).unwrap();
    let text = said(&caxton(directory.path(), &["route", "--config", "caxton.toml", "two.acl"]));
    assert!(text.contains("the routing plugin keeper refuses it: no cancelling now"), "{text}");
}

#[test]
fn build_makes_a_component_that_is_an_agent() {
    let directory = tempfile::tempdir().unwrap();
    let core = here().join("examples/guests/echo/component.wat");
    let output = caxton(directory.path(), &["agent", "build", core.to_str().unwrap(), "-o", "echo.wasm"]);
    assert!(output.status.success(), "{}", said(&output));
    let text = said(&caxton(directory.path(), &["agent", "check", "echo.wasm"]));
    assert!(text.contains("echo.wasm: an agent, component"), "{text}");
}

#[test]
fn new_begins_an_agent_in_every_language_and_overwrites_nothing() {
    let directory = tempfile::tempdir().unwrap();
    for (language, file) in [("c", "caxton.h"), ("js", "agent.js"), ("python", "agent.py"), ("rust", "src/lib.rs")] {
        let output = caxton(directory.path(), &["agent", "new", language, "--lang", language]);
        assert!(output.status.success() && said(&output).contains("caxton agent check"), "{}", said(&output));
        assert!(directory.path().join(language).join(file).exists(), "{language}");
        let again = caxton(directory.path(), &["agent", "new", language, "--lang", language]);
        assert_eq!(again.status.code(), Some(2), "{}", said(&again));
    }
    let wit = caxton(directory.path(), &["agent", "wit"]);
    assert_eq!(wit.stdout, std::fs::read(directory.path().join("js/agent.wit")).unwrap());
}

#[test]
fn an_agent_in_c_is_built_and_answers() {
    let there = |program: &str| Command::new(program).arg("--version").output().is_ok();
    if !there("clang") || !there("wasm-ld") || !there("make") {
        println!("clang, lld or make is missing: agents in C are not built");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    assert!(caxton(directory.path(), &["agent", "new", "guest", "--lang", "c"]).status.success());
    let made = Command::new("make").current_dir(directory.path().join("guest")).output().unwrap();
    assert!(made.status.success(), "{}", said(&made));
    let file = here().join("tests/data/guests.acl");
    let arguments = ["route", "--agent", "seller@example.org=guest/contractor.wasm", file.to_str().unwrap()];
    let output = caxton(directory.path(), &arguments);
    let text = said(&output);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("reply: propose from seller@example.org"), "{text}");
    assert!(text.contains("reply: inform from seller@example.org"), "{text}");
}

#[test]
fn with_a_data_directory_compiled_modules_are_kept() {
    let directory = tempfile::tempdir().unwrap();
    let guest = format!("seller@example.org={}", here().join("examples/guests/echo/raw.wat").display());
    let file = here().join("tests/data/guests.acl");
    let kept = || {
        let output = caxton(directory.path(), &["route", "--data", "data", "--agent", &guest, file.to_str().unwrap()]);
        assert!(output.status.success(), "{}", said(&output));
        let entries = std::fs::read_dir(directory.path().join("data/modules")).unwrap();
        let mut kept: Vec<_> = entries
            .map(|entry| entry.unwrap())
            .map(|entry| (entry.path(), entry.metadata().unwrap().modified().unwrap()))
            .collect();
        kept.sort();
        kept
    };
    let first = kept();
    assert_eq!(first.len(), 1);
    assert_eq!(kept(), first, "the entry is used again, and not written again");
}

#[test]
fn guests_and_plugins_that_cannot_be_used_are_refused_before_anything_is_routed() {
    let echo = here().join("examples/guests/echo/raw.wat");
    let bob = format!("bob={}", echo.display());
    let file = here().join("tests/data/guests.acl");
    for (arguments, complaint) in [
        (vec!["--agent", "bob=missing.wasm"], "missing.wasm: cannot be read"),
        (vec!["--agent", "bob"], "expected NAME=FILE"),
        (vec!["--agent", &bob, "--agent", &bob], "--agent is given twice for bob"),
        (vec!["--agent", &bob, "--reply", "bob=refuse"], "--agent and --reply are both given for bob"),
        (vec!["--plugin", &bob], "this is not a valid routing plugin"),
        (vec!["--plugins-fail-open"], "--plugin"),
        (vec!["--plugin", &bob, "--plugin-call-ms", "0"], "expected 1 to 3600000 milliseconds"),
    ] {
        let all: Vec<&str> = ["route", file.to_str().unwrap()].into_iter().chain(arguments.iter().copied()).collect();
        let output = caxton(here(), &all);
        let text = said(&output);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {text}");
        assert!(text.contains(complaint), "{arguments:?}: {text}");
        assert!(output.stdout.is_empty(), "{arguments:?}: {text}");
    }
    // An agent without messages is reported, and does no harm.
    let output = caxton(here(), &["route", "--agent", &bob, file.to_str().unwrap()]);
    assert!(output.status.success() && said(&output).contains("no message names this agent"), "{}", said(&output));
}
