//! `caxton stats`: the figures of a running router.

use std::fmt::Write as _;
use std::process::ExitCode;

use clap::Args;
use serde_json::Value;

use super::output::{put, put_json};
use super::table::Table;
use super::{Failure, Remote, briefly, lasting, list, number, sized};
use crate::cli::{counted, printable};

/// Arguments of `caxton stats`.
#[derive(Debug, Args)]
pub struct StatsArguments {
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    remote: Remote,
}

/// Runs `caxton stats`.
pub fn run(arguments: &StatsArguments) -> ExitCode {
    super::end(arguments.show())
}

impl StatsArguments {
    fn show(&self) -> Result<ExitCode, Failure> {
        let stats = self.remote.client()?.get(&["v1", "stats"]).document()?;
        if self.json {
            put_json(&stats)?;
        } else {
            put(&readable(&stats))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn readable(stats: &Value) -> String {
    let account = &stats["account"];
    let figure = |name: &str| number(stats, name);
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "{:<15}{value}", format!("{name}:"));
    };
    line("running for", lasting(figure("running_for_ms")));
    line("agents", format!("{}, {} from outside", figure("agents"), figure("outside_agents")));
    line("conversations", format!("{} open", figure("conversations")));
    line(
        "messages",
        format!(
            "{} accepted, {} processed, {} in progress, {} refused, {} retried",
            number(account, "accepted"),
            number(account, "processed"),
            figure("in_progress"),
            number(account, "refused"),
            number(account, "retried"),
        ),
    );
    line(
        "dead letters",
        format!("{} kept, {}", figure("dead_letters"), by(account, "dead_lettered", "dead_lettered_by_reason")),
    );
    line("expired", by(account, "expired", "expired_by_stage"));
    line("memory", format!("{} of {}", sized(figure("memory_bytes")), sized(figure("memory_bytes_max"))));
    line("latency", latency(&stats["latencies"]["end_to_end"]));
    if let Some(journal) = stats["journal"].as_object() {
        let size = |name: &str| journal.get(name).and_then(Value::as_u64).map_or_else(|| "-".to_owned(), sized);
        line("journal", format!("{}, {} free on the disk", size("journal_bytes"), size("disk_available_bytes")));
    }
    line(
        "protection",
        format!(
            "{} open, {} full, {} waiting for room",
            counted(figure("breakers_open"), "breaker"),
            counted(figure("receivers_closed"), "mailbox").replace("mailboxs", "mailboxes"),
            counted(figure("stalled"), "sender"),
        ),
    );
    line(
        "protocols",
        format!(
            "{}, {} missing",
            counted(figure("protocol_violations"), "violation"),
            counted(figure("replies_missing"), "reply").replace("replys", "replies"),
        ),
    );
    let blocked: Vec<_> = list(stats, "blocked_shards").iter().map(ToString::to_string).collect();
    if !blocked.is_empty() {
        line("blocked", format!("shard {}: an agent does not return", blocked.join(", ")));
    }
    format!("{text}\n{}", shards(stats))
}

/// Returns the median and the 99th percentile.
fn latency(latency: &Value) -> String {
    let quantile = |name: &str| latency[name].as_f64().map(briefly);
    match (quantile("p50_seconds"), quantile("p99_seconds")) {
        (Some(p50), Some(p99)) => {
            format!("half within {p50}, 99 % within {p99}, from sending to the end of the handler")
        }
        _ => "not sampled".to_owned(),
    }
}

/// Returns a count, with its parts.
fn by(account: &Value, whole: &str, parts: &str) -> String {
    let parts = account[parts].as_object().into_iter().flatten();
    let parts: Vec<_> = parts.map(|(word, count)| format!("{} {}", count, printable(word))).collect();
    let whole = number(account, whole);
    if parts.is_empty() { format!("{whole} in all") } else { format!("{whole} in all ({})", parts.join(", ")) }
}

fn shards(stats: &Value) -> Table {
    let mut table = Table::new([
        ">shard",
        ">agents",
        ">accepted",
        ">processed",
        ">pending",
        ">waiting",
        ">dead letters",
        ">breakers",
        ">full",
        ">memory",
    ]);
    for shard in list(stats, "shards") {
        let figure = |name: &str| number(shard, name).to_string();
        let counted = |name: &str| number(&shard["account"], name).to_string();
        table.row(&[
            figure("shard"),
            figure("agents"),
            counted("accepted"),
            counted("processed"),
            counted("pending"),
            figure("waiting"),
            figure("dead_letters"),
            figure("breakers_open"),
            figure("receivers_closed"),
            sized(number(shard, "memory_bytes")),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn figures_are_lines_and_a_table() {
        let account = json!({"accepted": 9, "processed": 7, "refused": 0, "retried": 1, "pending": 1, "dead_lettered": 1,
            "dead_lettered_by_reason": {"mailbox-full": 1}, "expired": 0, "expired_by_stage": {}});
        let stats = json!({
            "running_for_ms": 61_000, "agents": 3, "outside_agents": 1, "conversations": 2, "in_progress": 1,
            "dead_letters": 1, "breakers_open": 1, "receivers_closed": 2, "stalled": 0, "replies_missing": 2,
            "protocol_violations": 1, "memory_bytes": 1_024, "memory_bytes_max": 1_048_576, "blocked_shards": [0],
            "account": account, "latencies": {"end_to_end": {"p50_seconds": 1e-6, "p99_seconds": 2.5e-3}},
            "journal": {"journal_bytes": 1_024, "disk_available_bytes": null},
            "shards": [{"shard": 0, "account": account, "agents": 3, "waiting": 4, "dead_letters": 1, "breakers_open": 1,
                        "receivers_closed": 2, "memory_bytes": 1_024}],
        });
        let text = readable(&stats);
        for line in [
            "running for:   1m 1s\n",
            "messages:      9 accepted, 7 processed, 1 in progress, 0 refused, 1 retried\n",
            "dead letters:  1 kept, 1 in all (1 mailbox-full)\n",
            "latency:       half within 1 us, 99 % within 2.5 ms, from sending to the end of the handler\n",
            "journal:       1.0 KiB, - free on the disk\n",
            "protection:    1 breaker open, 2 mailboxes full, 0 senders waiting for room\n",
            "protocols:     1 violation, 2 replies missing\n",
            "blocked:       shard 0: an agent does not return\n",
            "    0       3         9          7        1        4             1         1     2  1.0 KiB\n",
        ] {
            assert!(text.contains(line), "no {line:?} in {text}");
        }
    }
}
