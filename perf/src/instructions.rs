//! Instructions per message: a measure of cost that other load on the machine cannot change.
//!
//! The engine's `step` benchmark runs under callgrind at two lengths. The cost of one message is the difference, which
//! excludes the set-up.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

/// The two lengths, in messages.
const LENGTHS: [u64; 2] = [40_000, 140_000];
/// The measured loads: number of agents, and number of a load of the `step` benchmark.
const LOADS: [(u32, u32); 9] =
    [(1_000, 0), (1_000, 1), (100_000, 1), (1_000, 2), (1_000, 3), (1_000, 4), (1_000, 5), (1_000, 6), (1_000, 7)];
/// Maximum growth of a figure before the comparison fails.
const GROWTH_MAX: f64 = 0.02;
/// The expected figures.
const EXPECTED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/instructions.json");

/// Prints instructions per message for each load, and compares them with the expected figures, or writes these.
///
/// # Errors
///
/// The benchmark cannot be built or run, or a load costs too much.
pub fn run(write: bool) -> Result<(), String> {
    let program = build()?;
    let directory = tempfile::tempdir().map_err(|error| format!("no temporary directory: {error}"))?;
    let expected = if write { Value::Null } else { read_expected()? };
    let tools = json!({ "rustc": version_of("rustc")?, "valgrind": version_of("valgrind")? });
    let comparable = ["rustc", "valgrind"].iter().all(|tool| expected[tool] == tools[tool]);
    let (mut measured, mut grown) = (BTreeMap::new(), Vec::new());
    println!("{:<44} {:>12} {:>10}", "instructions per message", "measured", "expected");
    for (agents, load) in LOADS {
        let mut counts = [0; LENGTHS.len()];
        let mut name = String::new();
        for (count, messages) in counts.iter_mut().zip(LENGTHS) {
            (*count, name) = count_one(&program, directory.path(), (agents, load), messages)?;
        }
        #[allow(clippy::cast_precision_loss)] // They are millions.
        let per_message = (counts[1] - counts[0]) as f64 / (LENGTHS[1] - LENGTHS[0]) as f64;
        let before = expected["loads"][&name].as_f64();
        let shown = before.map_or_else(|| "none".to_owned(), |before| format!("{before:.1}"));
        println!("{name:<44} {per_message:>12.1} {shown:>10}");
        if before.is_none_or(|before| per_message > before * (1.0 + GROWTH_MAX)) {
            grown.push(name.clone());
        }
        measured.insert(name, (per_message * 10.0).round() / 10.0);
    }
    if write {
        let text = json!({ "rustc": tools["rustc"], "valgrind": tools["valgrind"], "loads": measured });
        let text = serde_json::to_string_pretty(&text).map_err(|error| error.to_string())?;
        return fs::write(EXPECTED, text + "\n").map_err(|error| format!("{EXPECTED}: {error}"));
    }
    match (grown.is_empty(), comparable) {
        (true, _) => Ok(()),
        (false, false) => {
            println!(
                "The expected figures are from {expected}: with other tools they mean nothing, and the run passes."
            );
            Ok(())
        }
        (false, true) => Err(format!(
            "these loads cost more than {} % above what is expected: {}. Find out why, or write the new figures on purpose with \
             --write",
            GROWTH_MAX * 100.0,
            grown.join(", ")
        )),
    }
}

fn read_expected() -> Result<Value, String> {
    let text = fs::read_to_string(EXPECTED).map_err(|error| format!("{EXPECTED}: {error}"))?;
    serde_json::from_str(&text).map_err(|error| format!("{EXPECTED}: {error}"))
}

/// Returns the first line of a tool's version.
fn version_of(tool: &str) -> Result<String, String> {
    let output = Command::new(tool).arg("--version").output();
    let output = output.map_err(|error| format!("{tool} cannot be run: {error} (Debian: apt-get install valgrind)"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().next().unwrap_or_default().trim().to_owned())
}

/// Builds the benchmark with the project's own profile, whatever the environment changes for other builds.
fn build() -> Result<PathBuf, String> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["bench", "-p", "caxton-shards", "--bench", "step", "--no-run", "--message-format=json"]);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("CARGO_PROFILE_") {
            cargo.env_remove(name);
        }
    }
    let output = cargo.stderr(Stdio::inherit()).output().map_err(|error| format!("cargo cannot be run: {error}"))?;
    if !output.status.success() {
        return Err("the benchmark cannot be built".to_owned());
    }
    let said = String::from_utf8_lossy(&output.stdout);
    let artifacts = said.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut programs = artifacts.filter(|artifact| artifact["target"]["name"] == "step");
    let program = programs.find_map(|artifact| artifact["executable"].as_str().map(PathBuf::from));
    program.ok_or_else(|| "cargo does not say where the benchmark lies".to_owned())
}

/// Runs a load with this many messages. Returns its instructions and its name.
fn count_one(
    program: &Path,
    directory: &Path,
    (agents, load): (u32, u32),
    messages: u64,
) -> Result<(u64, String), String> {
    let counts = directory.join(format!("{agents}.{load}.{messages}"));
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", &format!("--callgrind-out-file={}", counts.display())])
        .arg(program)
        .args(["1", &messages.to_string(), &agents.to_string(), &load.to_string()])
        .output()
        .map_err(|error| format!("valgrind cannot be run: {error}"))?;
    let said = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        return Err(format!("load {load} failed: {said}{}", String::from_utf8_lossy(&output.stderr)));
    }
    // "     1000 agents, in conversations               best ..."
    let name = said.split_once(" best ").map(|(name, _)| name.split_whitespace().collect::<Vec<_>>().join(" "));
    let text = fs::read_to_string(&counts).map_err(|error| format!("{}: {error}", counts.display()))?;
    let total = text.lines().find_map(|line| line.strip_prefix("summary: ").or_else(|| line.strip_prefix("totals: ")));
    let total = total.and_then(|total| total.trim().parse().ok());
    total.zip(name).ok_or_else(|| format!("callgrind counted nothing for load {load}: {said}"))
}
