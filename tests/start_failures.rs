//! A router that can't start says why and what to do about it, and leaves nothing running.
//!
//! Limits hold for a whole process, so each case runs the `caxton` command in a process of its own.

mod common;
mod program;

use std::process::{Command, Output};

use common::bounded;

/// A load that is over at once.
const BENCH: &str = "bench mixed --messages 1000 --agents 100";
/// Longer than any of these commands takes, in seconds. Whatever is still running then is killed, and the test fails.
const SECONDS_MAX: u32 = 60;

/// Runs `caxton` from a shell that has set a limit before, or through a command that does so.
fn caxton(limit: &str, through: &str, arguments: &str) -> Output {
    let binary = program::caxton().get_program().to_string_lossy().into_owned();
    let script = format!("{limit}\nexec {through} timeout -s KILL {SECONDS_MAX} '{binary}' {arguments}");
    let mut command = Command::new("sh");
    program::without_settings(&mut command);
    command.args(["-c", &script]).output().expect("there is a shell")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn too_little_lockable_memory_is_explained() {
    bounded(|| {
        let output = caxton("ulimit -l 64", "", BENCH);
        let said = text(&output.stderr);
        assert!(!output.status.success(), "64 KiB are too little: {said}");
        assert_eq!(output.status.code(), Some(1), "it ends by itself, without a panic: {said}");
        for words in ["shard 0 could not start", "524288 bytes of locked memory", "may lock 65536", "To mend it: "] {
            assert!(said.contains(words), "{words:?} is missing in: {said}");
        }
        assert!(!said.contains("panicked"), "{said}");
    });
}

#[test]
fn the_doctor_finds_too_little_lockable_memory_before_a_start() {
    bounded(|| {
        let output = caxton("ulimit -l 64", "", "doctor");
        let said = text(&output.stdout) + &text(&output.stderr);
        assert!(!output.status.success(), "{said}");
        assert!(said.contains("memory lock: this process may lock 65536 bytes; a shard needs 524288"), "{said}");
    });
}

#[test]
fn the_automatic_number_of_shards_follows_the_cores_that_are_allowed() {
    bounded(|| {
        let core = core_affinity::get_core_ids().and_then(|cores| cores.first().map(|core| core.id));
        let core = core.expect("this process may run on some core");
        let output = caxton("", &format!("taskset -c {core}"), &format!("{BENCH} --json"));
        let said = text(&output.stdout);
        assert!(output.status.success(), "{said}{}", text(&output.stderr));
        let report: serde_json::Value = serde_json::from_str(&said).expect("the report is JSON");
        assert_eq!(report["shards"], 1, "{report}");
    });
}
