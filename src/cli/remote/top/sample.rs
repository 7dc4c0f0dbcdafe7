//! One look at a router.

use std::cmp::Reverse;

use serde_json::{Value, json};

use super::super::client::{Client, Trouble};
use super::super::{list, number, text};

/// The number of agents that are asked for.
const AGENTS: u64 = 50;
/// The number of agents that are looked at if the router does not say which are slow.
const AGENTS_LISTED: u64 = 1_000;

/// What is counted per second.
pub const RATES: [&str; 6] = ["accepted", "processed", "dead_lettered", "expired", "refused", "retried"];

/// The latencies of messages, and what people call them.
pub const LATENCIES: [(&str, &str); 5] = [
    ("end_to_end", "end to end"),
    ("mailbox", "mailbox"),
    ("handler", "handler"),
    ("crossing", "between shards"),
    ("journal", "journal"),
];

/// What a router says of itself at one time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sample {
    /// The health, and each part that is not healthy.
    pub health: String,
    pub unwell: Vec<String>,
    pub stats: Value,
    /// The cluster as the router sees it, or nothing.
    pub cluster: Value,
    /// The agents whose messages wait longest, or that have the most.
    pub agents: Vec<Row>,
}

/// An agent whose messages wait.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    pub name: String,
    pub shard: u64,
    pub state: String,
    pub messages: u64,
    pub bytes: u64,
    /// How long its oldest message has waited, if the router says so.
    pub oldest_ms: Option<u64>,
}

impl Sample {
    /// Asks a router.
    ///
    /// # Errors
    ///
    /// It does not respond, or refuses.
    pub fn take(client: &Client) -> Result<Self, Trouble> {
        let stats = client.get(&["v1", "stats"]).document()?;
        let (health, unwell) = match client.get(&["healthz"]).even_if_unavailable().document() {
            Ok(health) => health_of(&health),
            Err(Trouble::Problem(problem)) => (problem.reason, Vec::new()),
            Err(trouble) => return Err(trouble),
        };
        Ok(Self { health, unwell, stats, cluster: cluster(client)?, agents: agents(client)? })
    }

    /// Returns how long the router has been running, by its own clock.
    pub fn at_ms(&self) -> u64 {
        number(&self.stats, "running_for_ms")
    }

    fn count(&self, name: &str) -> u64 {
        number(&self.stats["account"], name)
    }

    /// Returns what was counted per second since an earlier sample; nothing if the router was started meanwhile.
    pub fn rates_since(&self, earlier: &Self) -> Option<[f64; RATES.len()]> {
        let passed_ms = self.at_ms().checked_sub(earlier.at_ms()).filter(|passed| *passed > 0)?;
        let per_second = |name: &str| {
            let counted = self.count(name).saturating_sub(earlier.count(name));
            counted as f64 * 1e3 / passed_ms as f64
        };
        Some(RATES.map(per_second))
    }

    /// Returns how often something of the journal was counted per second since an earlier sample.
    pub fn journal_rate_since(&self, earlier: &Self, name: &str) -> Option<f64> {
        let passed_ms = self.at_ms().checked_sub(earlier.at_ms()).filter(|passed| *passed > 0)?;
        let count = |sample: &Self| number(&sample.stats["journal"], name);
        Some(count(self).saturating_sub(count(earlier)) as f64 * 1e3 / passed_ms as f64)
    }

    /// Returns how often something of all links to other nodes was counted per second since an earlier sample.
    pub fn link_rate_since(&self, earlier: &Self, name: &str) -> Option<f64> {
        let passed_ms = self.at_ms().checked_sub(earlier.at_ms()).filter(|passed| *passed > 0)?;
        let count = |sample: &Self| sample.of_links(name);
        Some(count(self).saturating_sub(count(earlier)) as f64 * 1e3 / passed_ms as f64)
    }

    /// Returns the sum of a figure over all links to other nodes.
    pub fn of_links(&self, name: &str) -> u64 {
        list(&self.cluster, "nodes").iter().map(|node| number(&node["link"], name)).sum()
    }

    /// Returns the median and the 99th percentile of a latency since an earlier sample, in seconds: the limits of their
    /// buckets, infinite for the last one. Nothing if no message was sampled meanwhile.
    pub fn latency_since(&self, earlier: Option<&Self>, latency: &str) -> Option<[f64; 2]> {
        let earlier = earlier.filter(|earlier| earlier.at_ms() <= self.at_ms());
        let before = earlier.map(|earlier| buckets(&earlier.stats, latency)).unwrap_or_default();
        let mut between = buckets(&self.stats, latency);
        for (bound, count) in &mut between {
            let former = before.iter().find(|(other, _)| other.total_cmp(bound).is_eq()).map_or(0, |(_, count)| *count);
            *count = count.saturating_sub(former);
        }
        let all: u64 = between.iter().map(|(_, count)| *count).sum();
        let quantile = |per_cent: u64| {
            let wanted = (all * per_cent).div_ceil(100);
            let mut seen = 0;
            let found = between.iter().find(|(_, count)| {
                seen += count;
                seen >= wanted
            });
            found.map_or(f64::INFINITY, |(bound, _)| *bound)
        };
        (all > 0).then(|| [quantile(50), quantile(99)])
    }

    /// Returns it in JSON, with the rates since an earlier sample.
    pub fn in_json(&self, earlier: Option<&Self>) -> Value {
        let rates = earlier.and_then(|earlier| self.rates_since(earlier)).map(|rates| {
            let rounded = rates.map(|rate| (rate * 10.0).round() / 10.0);
            RATES.iter().map(|name| (*name).to_owned()).zip(rounded.map(Value::from)).collect::<serde_json::Map<_, _>>()
        });
        let latencies = LATENCIES.map(|(name, _)| {
            let [p50, p99] = self.latency_since(earlier, name).map_or([None; 2], |quantiles| quantiles.map(Some));
            (name.to_owned(), json!({ "p50_seconds": p50, "p99_seconds": p99 }))
        });
        let agents = self.agents.iter().map(|row| {
            json!({
                "agent": row.name,
                "shard": row.shard,
                "state": row.state,
                "messages": row.messages,
                "bytes": row.bytes,
                "oldest_ms": row.oldest_ms,
            })
        });
        json!({
            "health": self.health,
            "unwell": self.unwell,
            "per_second": rates,
            "latencies": latencies.into_iter().collect::<serde_json::Map<_, _>>(),
            "stats": self.stats,
            "cluster": self.cluster,
            "agents": agents.collect::<Vec<_>>(),
        })
    }
}

/// Returns the buckets of a latency, with their upper limits in seconds.
fn buckets(stats: &Value, latency: &str) -> Vec<(f64, u64)> {
    let buckets = list(&stats["latencies"][latency], "buckets").iter();
    buckets.map(|bucket| (bucket["up_to_seconds"].as_f64().unwrap_or(f64::INFINITY), number(bucket, "count"))).collect()
}

fn health_of(health: &Value) -> (String, Vec<String>) {
    let parts = list(health, "components").iter().filter(|part| text(part, "status") != "healthy");
    let unwell = parts.map(|part| format!("{} {}: {}", text(part, "status"), text(part, "name"), text(part, "why")));
    (format!("{}, {}", text(health, "status"), text(health, "phase")), unwell.collect())
}

/// Returns the cluster as the router sees it, or nothing if it is in none.
fn cluster(client: &Client) -> Result<Value, Trouble> {
    match client.get(&["v1", "cluster"]).document() {
        Err(Trouble::Problem(problem)) if problem.status == 404 => Ok(Value::Null),
        cluster => cluster,
    }
}

/// Returns the agents whose messages wait, the slowest first.
fn agents(client: &Client) -> Result<Vec<Row>, Trouble> {
    let row = |agent: &Value, name: &str, messages: &str, bytes: &str| Row {
        name: text(agent, name).to_owned(),
        shard: number(agent, "shard"),
        state: text(agent, "state").to_owned(),
        messages: number(agent, messages),
        bytes: number(agent, bytes),
        oldest_ms: agent["oldest_ms"].as_u64(),
    };
    match client.get(&["healthz", "slow"]).query("limit", AGENTS).even_if_unavailable().document() {
        Ok(slow) => {
            return Ok(list(&slow, "agents").iter().map(|agent| row(agent, "agent", "messages", "bytes")).collect());
        }
        // It is not served, or not for this token.
        Err(Trouble::Problem(_)) => {}
        Err(trouble) => return Err(trouble),
    }
    let (agents, _) = super::super::agents::all(client, AGENTS_LISTED)?;
    let rows = agents.iter().map(|agent| row(agent, "name", "mailbox_messages", "mailbox_bytes"));
    let mut rows: Vec<_> = rows.filter(|row| row.messages > 0).collect();
    rows.sort_by_key(|row| Reverse(row.messages));
    rows.truncate(usize::try_from(AGENTS).unwrap_or(usize::MAX));
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(at_ms: u64, accepted: u64) -> Sample {
        let stats = json!({"running_for_ms": at_ms, "account": {"accepted": accepted}});
        Sample { stats, ..Sample::default() }
    }

    #[test]
    fn rates_are_by_the_clock_of_the_router() {
        let (earlier, later) = (sample(1_000, 10), sample(3_000, 110));
        assert_eq!(later.rates_since(&earlier).map(|rates| rates[0]), Some(50.0));
        assert_eq!(later.in_json(Some(&earlier))["per_second"]["accepted"], 50.0);
        assert_eq!(earlier.rates_since(&later), None, "it was started again");
        assert_eq!(later.rates_since(&later), None);
        assert!(later.in_json(None)["per_second"].is_null());
    }

    #[test]
    fn latencies_are_those_of_the_messages_between_two_samples() {
        let sample = |at_ms: u64, counts: &[(Option<f64>, u64)]| {
            let buckets: Vec<_> =
                counts.iter().map(|(bound, count)| json!({"up_to_seconds": bound, "count": count})).collect();
            let latencies = json!({"end_to_end": {"buckets": buckets}});
            Sample { stats: json!({"running_for_ms": at_ms, "latencies": latencies}), ..Sample::default() }
        };
        let earlier = sample(1_000, &[(Some(1.0), 100)]);
        let later = sample(2_000, &[(Some(1e-6), 50), (Some(1e-3), 49), (Some(1.0), 101)]);
        assert_eq!(later.latency_since(Some(&earlier), "end_to_end"), Some([1e-6, 1e-3]));
        assert_eq!(later.latency_since(None, "end_to_end"), Some([1.0, 1.0]));
        assert_eq!(later.latency_since(Some(&later), "end_to_end"), None);
        assert_eq!(later.latency_since(Some(&earlier), "handler"), None);
        let long = sample(3_000, &[(None, 1)]);
        assert_eq!(long.latency_since(None, "end_to_end"), Some([f64::INFINITY; 2]));
        assert!(long.in_json(None)["latencies"]["end_to_end"]["p99_seconds"].is_null());
        assert_eq!(later.in_json(Some(&earlier))["latencies"]["end_to_end"]["p99_seconds"], 1e-3);
        assert_eq!(earlier.latency_since(Some(&later), "end_to_end"), Some([1.0, 1.0]), "it was started again");
    }

    #[test]
    fn the_journal_is_counted_per_second() {
        let sample = |at_ms: u64, commits: u64| {
            let stats = json!({"running_for_ms": at_ms, "journal": {"commits": commits}});
            Sample { stats, ..Sample::default() }
        };
        assert_eq!(sample(3_000, 110).journal_rate_since(&sample(1_000, 10), "commits"), Some(50.0));
        assert_eq!(sample(1_000, 110).journal_rate_since(&sample(1_000, 10), "commits"), None);
    }

    #[test]
    fn what_is_not_healthy_is_named() {
        let health = json!({"status": "degraded", "phase": "running", "components": [
            {"name": "rings", "status": "healthy", "why": null}, {"name": "disk", "status": "degraded", "why": "it is full"}]});
        assert_eq!(health_of(&health), ("degraded, running".to_owned(), vec!["degraded disk: it is full".to_owned()]));
    }
}
