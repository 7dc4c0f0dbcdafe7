//! Reports of a run: a table for people, one JSON object for programs, a histogram for plots.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

use caxton_router::dead_letter::DeadLetterReason;
use caxton_router::signals::Signal;
use hdrhistogram::Histogram;
use serde_json::{Value, json};

use super::run::Outcome;
use super::trial::Trial;
use crate::cli::thousands;

/// The commit that the program was built from, if it was built from a checkout.
pub const COMMIT: &str = env!("BUILD_COMMIT");

/// Returns one JSON object with everything measured.
pub fn json(trial: &Trial) -> Value {
    let mut object = json_of_run(&trial.outcome);
    trial.extend(&mut object);
    object
}

fn json_of_run(outcome: &Outcome) -> Value {
    let account = outcome.report.stats.account();
    let timed = |nanoseconds: u64| (!outcome.latencies.is_empty()).then(|| nanoseconds as f64 / 1_000.0);
    let microseconds = |quantile| timed(outcome.latencies.value_at_quantile(quantile));
    let measured = |value: f64| outcome.is_measured().then_some(value);
    json!({
        "scenario": outcome.plan.scenario.name(),
        "shards": outcome.shards,
        "agents": outcome.plan.agents,
        "size_bytes": outcome.plan.size,
        "durable": outcome.survives_power_cut,
        "seconds": outcome.seconds,
        "rate": outcome.plan.rate,
        "accepted": account.accepted,
        "processed": account.processed,
        "dead_lettered": account.dead_lettered,
        "dead_letters_by_reason": by_reason(&account.dead_by_reason),
        "expired": account.expired,
        "pending": account.pending,
        "crossed": account.departed,
        "measured_messages": outcome.messages,
        "rounds": outcome.rounds,
        "includes_warm_up": !outcome.warmed_up,
        "messages_per_second": measured(outcome.messages_per_second()),
        "cpu_ns_per_message": measured(outcome.cpu_ns_per_message),
        "latency_samples": outcome.latencies.len(),
        "latency_us": {
            "p50": microseconds(0.5),
            "p90": microseconds(0.9),
            "p99": microseconds(0.99),
            "p999": microseconds(0.999),
            "max": timed(outcome.latencies.max()),
        },
        "durable_per_second": outcome.plan.is_durable().then(|| measured(outcome.messages_per_second())),
        "ack_latency_us": outcome.plan.is_durable().then(|| json!({
            "p50": microseconds(0.5),
            "p99": microseconds(0.99),
        })),
        "registrations_per_second": outcome.registrations_per_second,
        "bytes_per_agent": weighed(outcome),
        "rss_bytes": outcome.rss_bytes,
        "watchdog_wakes": outcome.report.stats.watchdog_wakes,
        "machine": outcome.machine.json(outcome.share_of_others),
        "balances": outcome.complaint().is_none(),
        "interrupted": outcome.interrupted.map(Signal::name),
        "shutdown": outcome.report.to_json(),
        "preset": outcome.plan.config.chosen_preset().name(),
        "settings": outcome.plan.settings,
        "commit": COMMIT,
    })
}

/// Returns the reasons for which there were dead letters, with their numbers.
fn by_reason(counts: &[u64; DeadLetterReason::COUNT]) -> Value {
    let counts = DeadLetterReason::ALL.iter().map(|reason| (reason.as_str().to_owned(), counts[reason.index()]));
    Value::Object(counts.filter(|(_, count)| *count > 0).map(|(word, count)| (word, count.into())).collect())
}

/// Replaces a missing figure.
const NOT_MEASURED: &str = "-";

/// The headings and widths of the table's columns.
const COLUMNS: [(&str, usize); 10] = [
    ("scenario", 14),
    ("shards", 6),
    ("msg/s", 12),
    ("CPU ns/msg", 10),
    ("p50 us", 9),
    ("p99 us", 9),
    ("p99.9 us", 9),
    ("handled", 13),
    ("accounting", 10),
    ("others", 7),
];

/// Returns the table's heading.
pub fn head() -> String {
    let mut line = String::new();
    for (name, width) in COLUMNS {
        let _ = write!(line, "{name:>width$} ");
    }
    line
}

/// Returns a run as a line of the table.
pub fn row(trial: &Trial) -> String {
    let outcome = &trial.outcome;
    let measured = |text: String| if outcome.is_measured() { text } else { NOT_MEASURED.to_owned() };
    let cells = [
        outcome.plan.name(),
        outcome.shards.to_string(),
        measured(thousands(outcome.messages_per_second().round())),
        measured(format!("{:.0}", outcome.cpu_ns_per_message)),
        latency(outcome, 0.5),
        latency(outcome, 0.99),
        latency(outcome, 0.999),
        thousands(outcome.report.stats.account().processed as f64),
        if trial.complaint().is_none() { "balances".to_owned() } else { "FAILS".to_owned() },
        outcome.share_of_others.map_or_else(|| NOT_MEASURED.to_owned(), |share| format!("{:.0} %", 100.0 * share)),
    ];
    let mut line = String::new();
    for (cell, (_, width)) in cells.iter().zip(COLUMNS) {
        let _ = write!(line, "{cell:>width$} ");
    }
    line
}

/// Returns a latency in microseconds, if any message was timed.
fn latency(outcome: &Outcome, quantile: f64) -> String {
    if outcome.latencies.is_empty() {
        return NOT_MEASURED.to_owned();
    }
    format!("{:.1}", outcome.latencies.value_at_quantile(quantile) as f64 / 1_000.0)
}

/// Returns the details of one run, as text.
pub fn details(trial: &Trial) -> String {
    let outcome = &trial.outcome;
    let account = outcome.report.stats.account();
    let loop_kind = match outcome.plan.rate {
        Some(rate) => format!("open loop at {} messages/s, from the moment each was due", thousands(rate)),
        None => "closed loop, one message in 65 sampled".to_owned(),
    };
    let mut text = String::new();
    if outcome.plan.durable.is_some() {
        let kept = match (outcome.survives_power_cut, outcome.plan.is_durable()) {
            (true, true) => "on disk before it is handled; latencies include that",
            (true, false) => "on disk before it is handled; latencies are those of the volatile ones beside it",
            (false, true) => "written to a file system in memory, which does not survive a power cut: see --data",
            (false, false) => {
                "written to a file system in memory, which does not survive a power cut: see --data; latencies are those of \
                 the volatile ones beside it"
            }
        };
        let which = if outcome.plan.is_durable() { "every message" } else { "a durable one" };
        let _ = writeln!(text, "{which:<19} {kept}");
    }
    let _ = writeln!(text, "latency             {loop_kind}");
    for (name, quantile) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0)] {
        let unit = if outcome.latencies.is_empty() { "" } else { " us" };
        let _ = writeln!(text, "  {name:<17} {}{unit}", latency(outcome, quantile));
    }
    let _ = writeln!(
        text,
        "accounting          {}",
        if outcome.report.balances() { "balances" } else { "DOES NOT BALANCE" }
    );
    for (name, value) in [
        ("accepted", account.accepted),
        ("processed", account.processed),
        ("dead-lettered", account.dead_lettered),
        ("expired", account.expired),
        ("pending", account.pending),
        ("crossed shards", account.departed),
    ] {
        let _ = writeln!(text, "  {name:<17} {}", thousands(value as f64));
    }
    if outcome.rounds > 0 {
        let _ = writeln!(text, "rounds              {} finished", thousands(outcome.rounds as f64));
    }
    let weight =
        weighed(outcome).map_or_else(String::new, |bytes| format!(", {bytes:.0} bytes each with the load's own data"));
    let _ = writeln!(
        text,
        "agents              {} registered at {}/s{weight}",
        thousands(outcome.plan.agents as f64),
        thousands(outcome.registrations_per_second.round())
    );
    let _ = writeln!(text, "resident memory     {:.1} MiB", outcome.rss_bytes as f64 / 1_048_576.0);
    let _ = writeln!(text, "watchdog wake-ups   {}", outcome.report.stats.watchdog_wakes);
    let others = outcome.share_of_others.map_or_else(
        || "how much of its cores other processes used cannot be read".to_owned(),
        |share| format!("other processes used {:.0} % of its cores during the run", 100.0 * share),
    );
    let _ = writeln!(text, "machine             {}; {others}", outcome.machine);
    if outcome.interrupted.is_some() {
        text.push_str(&shutdown(outcome));
    }
    text + &trial.details()
}

/// Describes the router's shutdown after a signal.
pub fn shutdown(outcome: &Outcome) -> String {
    let signal = outcome.interrupted.map_or("", Signal::name);
    let figures = match (outcome.is_measured(), outcome.warmed_up) {
        (false, _) => "nothing was measured before it",
        (true, false) => "it arrived in the warm-up: the figures are those of the run until then",
        (true, true) => "the figures are those of the run until then",
    };
    format!("{signal}: {figures}; the router {}", outcome.report)
}

/// Returns the memory per agent; `None` for few agents, which do not show in the memory of the process.
fn weighed(outcome: &Outcome) -> Option<f64> {
    const AGENTS_MIN: usize = 10_000;
    (outcome.plan.agents >= AGENTS_MIN).then_some(outcome.bytes_per_agent)
}

/// Describes the machine, the commit and the settings of the figures.
pub fn provenance(outcome: &Outcome) -> String {
    let settings = outcome.plan.settings.iter().fold(String::new(), |text, setting| text + ", " + setting);
    format!(
        "{} bytes of content, {} agents, preset {}{settings}, commit {COMMIT}\non {}",
        outcome.plan.size,
        thousands(outcome.plan.agents as f64),
        outcome.plan.config.chosen_preset().name(),
        outcome.machine
    )
}

/// Writes the latencies as an HDR percentile distribution, in microseconds, for the usual plotters.
///
/// # Errors
///
/// The file cannot be written.
pub fn write_histogram(path: &Path, latencies: &Histogram<u64>) -> std::io::Result<()> {
    let mut file = std::io::BufWriter::new(std::fs::File::create(path)?);
    writeln!(file, "{:>12} {:>14} {:>10} {:>14}\n", "Value", "Percentile", "TotalCount", "1/(1-Percentile)")?;
    let mut seen = 0;
    for value in latencies.iter_quantiles(5) {
        seen += value.count_since_last_iteration();
        let quantile = value.quantile_iterated_to();
        let microseconds = value.value_iterated_to() as f64 / 1_000.0;
        if quantile < 1.0 {
            writeln!(file, "{microseconds:>12.3} {quantile:>14.12} {seen:>10} {:>14.2}", 1.0 / (1.0 - quantile))?;
        } else {
            writeln!(file, "{microseconds:>12.3} {quantile:>14.12} {seen:>10}")?;
        }
    }
    writeln!(
        file,
        "#[Mean    = {:>12.3}, StdDeviation   = {:>12.3}]",
        latencies.mean() / 1_000.0,
        latencies.stdev() / 1_000.0
    )?;
    writeln!(
        file,
        "#[Max     = {:>12.3}, Total count    = {:>12}]",
        latencies.max() as f64 / 1_000.0,
        latencies.len()
    )?;
    file.flush()
}
