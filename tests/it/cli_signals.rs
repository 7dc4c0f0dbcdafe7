//! SIGTERM and SIGINT sent to the working program: it drains, reports what it did, and ends in time.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use caxton_router::sim::Dice;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::program;

/// Far longer than anything here takes: reaching it means a defect.
const PATIENCE: Duration = Duration::from_mins(1);

/// The program with some arguments, killed if the test does not see its end.
struct Run {
    child: Child,
    errors: BufReader<ChildStderr>,
}

impl Run {
    fn start(arguments: &[&str], input: &str) -> Self {
        let mut command = program::caxton();
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program starts");
        let (mut stdin, input) = (child.stdin.take().expect("its input is piped"), input.to_owned());
        // A pipe holds less than some of these inputs, and the program may be stopped before it has read them.
        std::thread::spawn(move || stdin.write_all(input.as_bytes()));
        let errors = BufReader::new(child.stderr.take().expect("its complaints are piped"));
        Self { child, errors }
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Returns the path of the kernel's information about the program.
    fn look(&self, file: &str) -> PathBuf {
        Path::new("/proc").join(self.child.id().to_string()).join(file)
    }

    /// Waits until the program handles signals: before that, a signal has its default action.
    fn wait_for_listener(&self) {
        let bits = [Signal::TERM, Signal::INT].map(|signal| 1_u64 << (signal.as_raw() - 1)).iter().sum::<u64>();
        wait_until("the program listens", || {
            let status = std::fs::read_to_string(self.look("status")).expect("the program runs");
            let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).expect("the kernel says it");
            u64::from_str_radix(caught.trim(), 16).expect("it is a number") & bits == bits
        });
    }

    /// Waits until the program has a thread of this name.
    fn wait_for_thread(&self, name: &str) {
        wait_until(name, || {
            let threads = std::fs::read_dir(self.look("task")).expect("the program runs").flatten();
            let mut names = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("comm")).ok());
            names.any(|found| found.trim() == name)
        });
    }

    fn send(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("the program runs");
    }

    /// Waits for the end, and returns the output and standard error.
    fn end(mut self) -> (ExitStatus, String, String) {
        let [mut printed, mut complaints] = [String::new(), String::new()];
        let mut stdout = self.child.stdout.take().expect("its output is piped");
        stdout.read_to_string(&mut printed).expect("it prints text");
        // A pipe has room for its few lines of errors.
        self.errors.read_to_string(&mut complaints).expect("it writes text");
        (self.child.wait().expect("it ends"), printed, complaints)
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        // It has ended, unless the test failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "still not: {what}");
        std::thread::yield_now();
    }
}

/// One run under load with a signal at a moment derived from the seed, and its output.
fn stop_under_load(seed: u64) -> (Duration, Value) {
    const SCENARIOS: [&str; 9] =
        ["local", "cross", "mixed", "request", "contract-net", "broadcast", "overload", "slow-consumer", "poison"];
    let mut dice = Dice::new(seed);
    let scenario = dice.pick(&SCENARIOS);
    let signal = if dice.once_in(4) { Signal::INT } else { Signal::TERM };
    let moment = Duration::from_micros(dice.below(1_500_000));
    let paced = dice.once_in(4);
    let mut arguments = vec!["bench", scenario, "--seconds", "600", "--agents", "300", "--shards", "2", "--json"];
    arguments.extend(["--shutdown-timeout", "20"]);
    if paced {
        arguments.extend(["--rate", "50000"]);
    }
    let run = Run::start(&arguments, "");
    run.wait_for_listener();
    // The moment is part of the test.
    std::thread::sleep(moment);
    let asked = Instant::now();
    run.send(signal);
    let (status, printed, complaints) = run.end();
    let took = asked.elapsed();
    let case = format!("seed {seed}: {scenario}, {signal:?} after {moment:?}, in {took:?}: {printed} {complaints}");
    let object: Value = serde_json::from_str(&printed).unwrap_or_else(|error| panic!("no object: {error}: {case}"));
    let measured = object["measured_messages"].as_u64() > Some(0);
    assert_eq!(status.code(), Some(i32::from(!measured)), "{case}");
    assert_eq!(object["messages_per_second"].is_null(), !measured, "{case}");
    assert_eq!(object["latency_us"]["p50"].is_null(), object["latency_samples"] == 0, "{case}");
    let name = if signal == Signal::TERM { "SIGTERM" } else { "SIGINT" };
    assert_eq!((&object["interrupted"], &object["balances"]), (&name.into(), &true.into()), "{case}");
    let end = &object["shutdown"];
    assert_eq!((&end["drained"], &end["balances"]), (&true.into(), &true.into()), "{case}");
    let figure = |name: &str| end[name].as_u64().unwrap_or_else(|| panic!("{name}: {case}"));
    let settled = figure("processed") + figure("dead_lettered") + figure("expired");
    assert_eq!((figure("accepted"), figure("left_behind")), (settled, 0), "{case}");
    // Two threads begin the end, one shortly after the other.
    let allowed_ms = end["allowed_ms"].as_f64().unwrap_or_default();
    assert!(allowed_ms > 0.0 && allowed_ms <= 20_000.0, "{case}");
    (took, object)
}

#[test]
fn a_load_that_is_told_to_end_is_drained_and_accounted_for() {
    // This variable selects other seeds, or a range such as 0..20.
    let seeds = std::env::var("CAXTON_TEST_SIGNAL_SEEDS").unwrap_or_else(|_| "0..3".to_owned());
    let (first, end) = seeds.split_once("..").expect("the seeds are a range");
    let [first, end] = [first, end].map(|text| text.parse::<u64>().expect("a seed is a number"));
    for seed in first..end {
        let (took, object) = stop_under_load(seed);
        let name = object["scenario"].as_str().unwrap_or_default();
        println!("seed {seed}: {name}, {} accepted, ended {took:?} after the signal", object["shutdown"]["accepted"]);
    }
}

/// A malformed message, which the program reports, followed by one with a delivery time in an hour.
const DELAYED: &str = "(inform :sender a :receiver b :content)\n\
    (inform :sender a :receiver b :content \"later\" :X-caxton-deliver-at +00000000T010000000)\n";

/// The program running on [`DELAYED`], after everything has been sent.
fn route_delayed(shutdown_timeout: &str) -> Run {
    let arguments = ["route", "-", "--shards", "2", "--timeout", "3600", "--shutdown-timeout", shutdown_timeout];
    let mut run = Run::start(&arguments, DELAYED);
    // Malformed input is reported in file order, so once it is reported the program waits for the next message.
    let mut complaint = String::new();
    run.errors.read_line(&mut complaint).expect("it writes text");
    assert!(complaint.contains("malformed"), "{complaint}");
    run
}

#[test]
fn what_is_left_at_the_deadline_is_told_by_reason_and_place() {
    let run = route_delayed("0.2");
    run.send(Signal::TERM);
    let (status, printed, complaints) = run.end();
    assert_eq!(status.code(), Some(1), "{printed} {complaints}");
    for told in [
        "inform a -> b: dead-lettered: stopped, the router stopped before the message was handled",
        "1 accepted = 0 processed + 1 dead-lettered + 0 expired + 0 left behind: balances",
        "1 dead-lettered as stopped",
        "1 waiting for its delivery time",
        "SIGTERM: the rest of the file was not sent",
    ] {
        assert!(printed.contains(told), "{told}: {printed} {complaints}");
    }
}

#[test]
fn a_file_that_is_cut_off_is_accounted_for_as_far_as_it_was_sent() {
    const MESSAGES: u64 = 50_000;
    let mut dice = Dice::new(7);
    let file = "(request :sender a :receiver b :content \"?\")\n".repeat(usize::try_from(MESSAGES).expect("it fits"));
    for _ in 0..3 {
        let moment = Duration::from_micros(dice.below(100_000));
        let run = Run::start(&["route", "-", "--json", "--shards", "2", "--preset", "production"], &file);
        run.wait_for_listener();
        // The moment is part of the test.
        std::thread::sleep(moment);
        run.send(Signal::TERM);
        let (status, printed, complaints) = run.end();
        let last = printed.lines().last().unwrap_or_default();
        assert_eq!(status.code(), Some(0), "after {moment:?}: {last} {complaints}");
        let summary: Value = serde_json::from_str(last).expect("it prints a summary");
        let summary = &summary["summary"];
        assert_eq!(
            (&summary["interrupted"], &summary["account"]["balances"]),
            (&"SIGTERM".into(), &true.into()),
            "{last}"
        );
        assert_eq!(summary["shutdown"]["drained"], true, "{last}");
        // Unread output fills a pipe long before that, and then the program waits.
        let sent = summary["accepted"].as_u64().expect("it is a number");
        assert!(sent < MESSAGES, "after {moment:?} the whole file was sent: {last}");
        // Each message has a reply.
        assert_eq!(summary["account"]["processed"], 2 * sent, "{last}");
    }
}

#[test]
fn a_second_signal_ends_the_program_at_once_and_says_what_is_left_behind() {
    for (signal, status) in [(Signal::TERM, 143), (Signal::INT, 130)] {
        let run = route_delayed("3600");
        run.send(Signal::TERM);
        // Two signals of the same kind in the same instant would be one.
        run.wait_for_thread("caxton-shutdown");
        run.send(signal);
        let (ended, _, complaints) = run.end();
        assert_eq!(ended.code(), Some(status), "{ended} {complaints}");
        // Whether the message had been accepted by then, and what else was called, depends on scheduling.
        let (before, behind) = complaints.split_once(" queued calls and ").expect(&complaints);
        let queued: u64 = before.rsplit(char::is_whitespace).next().and_then(|word| word.parse().ok()).expect(before);
        let accepted = [0_u64, 1].into_iter().find(|count| behind.starts_with(&format!("{count} of {count} accepted")));
        let accepted = accepted.unwrap_or_else(|| panic!("{complaints}"));
        assert!(queued + accepted > 0, "{complaints}");
    }
}

#[test]
fn a_simulation_ends_after_the_seed_that_it_is_at() {
    let run = Run::start(&["sim", "--seeds", "0..1000000000", "--json"], "");
    run.wait_for_listener();
    run.send(Signal::INT);
    let (status, printed, complaints) = run.end();
    assert_eq!(status.code(), Some(0), "{printed} {complaints}");
    let object: Value = serde_json::from_str(&printed).expect("it prints one JSON object");
    assert_eq!((&object["interrupted"], &object["clean"]), (&"SIGINT".into(), &true.into()), "{printed}");
    assert!(object["seeds"].as_u64().is_some_and(|seeds| (1..1_000_000).contains(&seeds)), "{printed}");
}
