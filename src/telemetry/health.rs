//! The health of a router's parts: what is wrong, since when, and what to do.
//!
//! Health is derived from figures that are there anyway, each time somebody asks and twice a second by the thread that
//! serves HTTP, if there is one. Nothing has to be reset: a part is healthy again when its figures are.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, UNIX_EPOCH};

use caxton_shards::api::BREAKERS_NAMED_MAX;
use caxton_shards::message::WallTime;
use caxton_shards::routing::partition::ShardIndex;
use serde_json::{Value, json};

use crate::clock::wall_time;
use crate::edge::CloseReason;
use crate::shard_handle::{RouterPhase, Shared};
use crate::telemetry::export::{Activity, DestinationState, Signal};
#[cfg(feature = "store")]
use crate::telemetry::figures::Disk;

/// How often the thread that serves HTTP checks. What is wrong shows within this and the shard's own limit.
pub(crate) const CHECK_EVERY: Duration = Duration::from_millis(500);
/// A shard that has been blocked for this long is unhealthy.
const BLOCKED_LONG: Duration = Duration::from_secs(10);
/// A shard that has been blocked for this long stands still: the router is not live any more.
const STANDS_STILL: Duration = Duration::from_mins(1);
/// A ring without a credit through which nothing has passed for this long is stuck.
const RING_STUCK: Duration = Duration::from_secs(1);
/// Losses count as current for this long.
const RECENT: Duration = Duration::from_secs(10);
/// The part of the memory budget from which on messages are about to be refused.
const MEMORY_NEARLY_FULL: f64 = 0.95;
/// A disk with less room than this many segments for each shard is nearly full; with less than one it is full.
#[cfg(feature = "store")]
const SEGMENTS_SPARE: u64 = 4;
/// A database that is this many records behind its journal is late.
#[cfg(feature = "store")]
const RECORDS_BEHIND_MAX: u64 = 1_000_000;

/// How well a part of the router works.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[non_exhaustive]
pub enum Status {
    /// It works.
    Healthy,
    /// It works in part, or may soon not work: somebody should look at it.
    Degraded,
    /// It does not work.
    Unhealthy,
}

impl Status {
    /// Returns the status as one word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::Unhealthy => "unhealthy",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}

/// The phase of a router's life.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Phase {
    /// It is starting, and accepts nothing yet.
    Starting,
    /// It accepts messages.
    Running,
    /// It is stopping and handles what it has.
    Draining,
    /// It has stopped, or is about to.
    Stopped,
    /// A shard's thread has panicked.
    Failed,
}

impl Phase {
    /// Returns the phase as one word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Draining => "draining",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
        }
    }
}

/// The health of one part of a router.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ComponentHealth {
    name: String,
    status: Status,
    since: WallTime,
    why: Option<String>,
}

impl ComponentHealth {
    /// Returns its name, such as `shard-0` or `journal`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns its status.
    pub fn status(&self) -> Status {
        self.status
    }

    /// Returns since when it has had this status: the time of the check that found it, or for a blocked shard the time
    /// at which the call began.
    pub fn since(&self) -> WallTime {
        self.since
    }

    /// Returns what is wrong and what to do, unless it is healthy.
    pub fn why(&self) -> Option<&str> {
        self.why.as_deref()
    }
}

/// The health of a router at one moment: see [`Router::health`](crate::Router::health).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Health {
    phase: Phase,
    live: bool,
    components: Vec<ComponentHealth>,
}

impl Health {
    /// Returns the worst status of any part; a router that has failed is unhealthy.
    pub fn status(&self) -> Status {
        let worst = self.components.iter().map(ComponentHealth::status).max().unwrap_or(Status::Healthy);
        if self.phase == Phase::Failed { Status::Unhealthy } else { worst }
    }

    /// Returns the phase of the router's life.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Whether the router should go on: false only if the thread of a shard has died, or has stood still for a minute.
    /// Then only a restart of the process helps.
    pub fn is_live(&self) -> bool {
        self.live
    }

    /// Whether the router should get work: it runs, and no part is unhealthy.
    pub fn is_ready(&self) -> bool {
        self.phase == Phase::Running && self.live && self.status() != Status::Unhealthy
    }

    /// Returns the health of every part.
    pub fn components(&self) -> &[ComponentHealth] {
        &self.components
    }

    /// Returns the health of the part with this name.
    pub fn component(&self, name: &str) -> Option<&ComponentHealth> {
        self.components.iter().find(|component| component.name == name)
    }

    /// Returns the health as one JSON object. Times are milliseconds since 1970.
    pub fn to_json(&self) -> Value {
        let component = |component: &ComponentHealth| {
            json!({
                "name": component.name,
                "status": component.status.as_str(),
                "since_ms": component.since.0,
                "why": component.why,
            })
        };
        json!({
            "status": self.status().as_str(),
            "phase": self.phase.as_str(),
            "live": self.is_live(),
            "ready": self.is_ready(),
            "components": self.components.iter().map(component).collect::<Vec<_>>(),
        })
    }
}

impl fmt::Display for Health {
    /// Writes the status, and a line for each part that is not healthy.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}, {}", self.status(), self.phase.as_str())?;
        for component in self.components.iter().filter(|component| component.status != Status::Healthy) {
            let why = component.why.as_deref().unwrap_or_default();
            write!(formatter, "\n{:<9} {}: {why}", component.status, component.name)?;
        }
        Ok(())
    }
}

/// Keeps since when each part has had its status, and what only two checks can show.
#[derive(Default)]
pub(crate) struct HealthMonitor {
    started: AtomicBool,
    seen: Mutex<Seen>,
}

impl HealthMonitor {
    /// Notes that the start is complete.
    pub fn set_started(&self) {
        self.started.store(true, Ordering::Release);
    }
}

/// What earlier checks have seen.
#[derive(Default)]
struct Seen {
    components: Vec<ComponentHealth>,
    /// For each ring without a credit, what had passed through it at that time and since when.
    rings: Vec<(usize, usize, u64, Instant)>,
    losses: [Loss; 5],
}

/// A counter of losses, and when it last grew. What it was at the first look does not count: that may be long ago, or
/// another router's.
#[derive(Clone, Copy, Default)]
struct Loss {
    count: Option<u64>,
    grew: Option<Instant>,
    lost: u64,
}

impl Loss {
    /// Returns the number of losses of the time that counts as current.
    fn follow(&mut self, count: u64, now: Instant) -> u64 {
        let more = count.saturating_sub(self.count.unwrap_or(count));
        if more > 0 {
            self.grew = Some(now);
            self.lost += more;
        }
        self.count = Some(count);
        if self.grew.is_none_or(|grew| now.saturating_duration_since(grew) > RECENT) {
            self.lost = 0;
        }
        self.lost
    }
}

/// What a check finds of one part.
struct Finding {
    name: String,
    status: Status,
    why: Option<String>,
    /// Since when, if the part itself says so.
    since: Option<WallTime>,
}

impl Finding {
    fn healthy(name: &str) -> Self {
        Self { name: name.to_owned(), status: Status::Healthy, why: None, since: None }
    }

    fn of(name: &str, trouble: Option<(Status, String)>) -> Self {
        match trouble {
            None => Self::healthy(name),
            Some((status, why)) => Self { name: name.to_owned(), status, why: Some(why), since: None },
        }
    }
}

/// Returns whether the shards' threads run, and the phase. It reads nothing but memory.
pub(crate) fn liveness(shared: &Shared) -> (bool, Phase) {
    (is_live(shared), phase(shared))
}

/// Checks every part. It asks no shard and looks at no agent.
pub(crate) fn observe(shared: &Shared) -> Health {
    let now = Instant::now();
    // Before the lock: a file system may take long to say how much room it has.
    #[cfg(feature = "store")]
    let disk = shared.config.store.directory.path().map(|directory| disk(shared, directory));
    let mut seen = shared.health.seen.lock().unwrap_or_else(PoisonError::into_inner);
    let mut findings: Vec<Finding> = (0..shared.links.len()).map(|shard| shard_finding(shared, shard)).collect();
    findings.push(rings(shared, &mut seen, now));
    findings.push(memory(shared));
    findings.push(breakers(shared));
    #[cfg(feature = "store")]
    if let Some(disk) = disk {
        findings.push(journal(shared));
        findings.push(disk);
        findings.push(projector(shared));
    }
    findings.push(telemetry(shared, &mut seen, now));
    #[cfg(feature = "wasm")]
    findings.push(wasm(shared, &mut seen, now));
    if shared.config.metrics.listen.address().is_some() {
        findings.push(edge(shared, &mut seen, now));
    }
    #[cfg(feature = "cluster")]
    findings.extend(shared.cluster().map(|look| cluster(&look)));
    let wall = wall_time();
    let components: Vec<_> = findings.into_iter().map(|finding| dated(finding, &seen.components, wall)).collect();
    seen.components.clone_from(&components);
    drop(seen);
    Health { phase: phase(shared), live: is_live(shared), components }
}

/// Adds since when a part has had its status.
fn dated(finding: Finding, before: &[ComponentHealth], now: WallTime) -> ComponentHealth {
    let Finding { name, status, why, since } = finding;
    let same = before.iter().find(|component| component.name == name && component.status == status);
    let since = since.or(same.map(|component| component.since)).unwrap_or(now);
    ComponentHealth { name, status, since, why }
}

fn phase(shared: &Shared) -> Phase {
    match shared.phase() {
        RouterPhase::Running if shared.health.started.load(Ordering::Acquire) => Phase::Running,
        RouterPhase::Running => Phase::Starting,
        RouterPhase::Draining => Phase::Draining,
        RouterPhase::Stopping | RouterPhase::Leaving => Phase::Stopped,
        RouterPhase::Failed => Phase::Failed,
    }
}

fn is_live(shared: &Shared) -> bool {
    let stands_still = |shard| shared.in_turn_for(shard).is_some_and(|time| time >= STANDS_STILL);
    shared.phase() != RouterPhase::Failed && !(0..shared.links.len()).any(stands_still)
}

fn shard_finding(shared: &Shared, place: usize) -> Finding {
    let index = ShardIndex(u16::try_from(place).unwrap_or(u16::MAX));
    let name = format!("shard-{place}");
    if shared.links[place].left.load(Ordering::Acquire) && shared.phase() == RouterPhase::Failed {
        let why = "its thread has panicked: stop the process and start it again; report the panic on standard error";
        return Finding::of(&name, Some((Status::Unhealthy, why.to_owned())));
    }
    let Some(time) = shared.in_turn_for(place).filter(|_| shared.is_blocked(place)) else {
        return Finding::healthy(&name);
    };
    let who = match shared.called_agent(index) {
        Some(agent) => format!("a call of the agent {agent:?} has not returned for {:.1} s", time.as_secs_f64()),
        None => format!("a turn has not ended for {:.1} s", time.as_secs_f64()),
    };
    let why = format!("{who}, and nothing else on this shard makes progress: give blocking work its own thread");
    let status = if time >= BLOCKED_LONG { Status::Unhealthy } else { Status::Degraded };
    let since = wall_time().0.saturating_sub(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
    Finding { name, status, why: Some(why), since: Some(WallTime(since)) }
}

/// Finds rings without a credit through which nothing passes. Shards that are asked for their details, as by a scrape,
/// say how their rings are.
fn rings(shared: &Shared, seen: &mut Seen, now: Instant) -> Finding {
    let mut without_credit = Vec::new();
    for (from, link) in shared.links.iter().enumerate() {
        for (to, lane) in link.details.latest().lanes.iter().enumerate() {
            if lane.credits_max > 0 && lane.credits == 0 {
                let same = seen.rings.iter().find(|ring| (ring.0, ring.1, ring.2) == (from, to, lane.sent));
                without_credit.push((from, to, lane.sent, same.map_or(now, |ring| ring.3)));
            }
        }
    }
    let stuck = without_credit.iter().find(|ring| now.saturating_duration_since(ring.3) >= RING_STUCK);
    let trouble = stuck.map(|(from, to, ..)| {
        let why = format!(
            "the ring from shard {from} to shard {to} is full and nothing passes through it: shard {to} is blocked, or its \
             agents take less than they are sent"
        );
        (Status::Degraded, why)
    });
    seen.rings = without_credit;
    Finding::of("rings", trouble)
}

fn memory(shared: &Shared) -> Finding {
    let used = |link: &crate::shard_handle::ShardHandle| {
        let figures = link.published.read();
        figures.memory_bytes as f64 / figures.memory_bytes_max.max(1) as f64
    };
    let fullest = shared.links.iter().map(used).enumerate().max_by(|(_, one), (_, other)| one.total_cmp(other));
    let trouble = fullest.filter(|(_, used)| *used >= MEMORY_NEARLY_FULL).map(|(shard, used)| {
        let why = format!(
            "shard {shard} uses {:.0} % of its share of the memory budget, beyond which messages are refused: find the full \
             mailboxes, or raise memory.budget",
            used * 100.0
        );
        (Status::Degraded, why)
    });
    Finding::of("memory", trouble)
}

fn breakers(shared: &Shared) -> Finding {
    let open: usize = shared.links.iter().map(|link| link.published.read().breakers_open).sum();
    let details: Vec<_> = shared.links.iter().map(|link| link.details.latest()).collect();
    let named = details.iter().flat_map(|details| details.breakers_named.iter().map(AsRef::as_ref));
    Finding::of("breakers", breakers_open(open, named).map(|why| (Status::Degraded, why)))
}

/// Says that this many breakers are open, with the names of some of their agents.
fn breakers_open<'a>(open: usize, agents: impl Iterator<Item = &'a str>) -> Option<String> {
    if open == 0 {
        return None;
    }
    // The names may be a little older than the number.
    let mut names: Vec<_> = agents.take(open.min(BREAKERS_NAMED_MAX)).map(|name| format!("{name:?}")).collect();
    let count = if open == 1 { "1 agent is".to_owned() } else { format!("{open} agents are") };
    let more = open - names.len();
    let who = if names.is_empty() {
        "the events BreakerChanged name the agents".to_owned()
    } else {
        if more > 0 {
            names.push(format!("{more} more"));
        }
        names.join(", ")
    };
    let they = if open == 1 { "it" } else { "they" };
    Some(format!(
        "{count} not called because of an open circuit breaker: {who}; {they} failed too often or took too long"
    ))
}

#[cfg(feature = "store")]
fn journal(shared: &Shared) -> Finding {
    let complaint = |(shard, link): (usize, &crate::shard_handle::ShardHandle)| {
        let complaint = link.journal.complaint.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
        let failed = link.journal.failed.load(Ordering::Relaxed);
        Some((failed, shard, complaint))
    };
    let worst =
        shared.links.iter().enumerate().filter_map(complaint).min_by_key(|(failed, shard, _)| (!failed, *shard));
    let trouble = worst.map(|(failed, shard, complaint)| {
        let then = if failed {
            "it takes no durable messages until the router is restarted: check the disk first"
        } else {
            "it takes no durable messages until there is room, and then continues by itself"
        };
        let status = if failed { Status::Unhealthy } else { Status::Degraded };
        (status, format!("the journal of shard {shard}: {complaint}; {then}"))
    });
    Finding::of("journal", trouble)
}

#[cfg(feature = "store")]
fn disk(shared: &Shared, directory: &std::path::Path) -> Finding {
    let Some(disk) = Disk::of(directory) else {
        let why = format!("the space left in {} cannot be determined: is it mounted?", directory.display());
        return Finding::of("disk", Some((Status::Degraded, why)));
    };
    let segment = crate::router::store::segment_bytes(&shared.config);
    let trouble = room(disk, segment, shared.links.len() as u64).map(|status| {
        let mebibytes = disk.available_bytes >> 20;
        let why = format!(
            "{mebibytes} MiB are left on the file system of {}: make room, or durable messages will be refused",
            directory.display()
        );
        (status, why)
    });
    Finding::of("disk", trouble)
}

/// Returns the status of a disk that has too little room for the journals' next segments.
#[cfg(feature = "store")]
fn room(disk: Disk, segment_bytes: u64, shards: u64) -> Option<Status> {
    if disk.available_bytes < segment_bytes {
        Some(Status::Unhealthy)
    } else if disk.available_bytes < segment_bytes.saturating_mul(shards).saturating_mul(SEGMENTS_SPARE) {
        Some(Status::Degraded)
    } else {
        None
    }
}

#[cfg(feature = "store")]
fn projector(shared: &Shared) -> Finding {
    let trouble = |(shard, link): (usize, &crate::shard_handle::ShardHandle)| {
        let projection = &link.journal.projection;
        let complaint = projection.complaint.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(complaint) = complaint {
            return Some((Status::Degraded, complaint));
        }
        let behind = link.journal.records.load(Ordering::Relaxed).saturating_sub(projection.projected().0);
        (behind > RECORDS_BEHIND_MAX).then(|| {
            let why = format!("the database of shard {shard} is {behind} records behind: queries show an older state");
            (Status::Degraded, why)
        })
    };
    Finding::of("projector", shared.links.iter().enumerate().find_map(trouble))
}

fn telemetry(shared: &Shared, seen: &mut Seen, now: Instant) -> Finding {
    let state = &shared.telemetry;
    let destinations = [&state.export.collector, &state.export.files];
    let lost = |destination: &Arc<DestinationState>| -> u64 {
        let counts = Signal::ALL.map(|signal| destination.of(signal));
        counts.iter().map(|counts| read(&counts.dropped) + read(&counts.failed) + read(&counts.rejected)).sum()
    };
    let records = seen.losses[0].follow(read(&state.records_dropped) + read(&state.traces_dropped), now);
    let exported = seen.losses[1].follow(destinations.into_iter().map(lost).sum(), now);
    let mut troubles = Vec::new();
    let mut began = None;
    for destination in destinations {
        if let Activity::Failing { since, why } = destination.activity() {
            troubles.push(format!("the export fails: {why}"));
            began.get_or_insert(since);
        }
    }
    if exported > 0 {
        troubles.push(format!(
            "{exported} spans, data points or log records were not exported: is the collector too slow?"
        ));
    }
    if records > 0 {
        troubles.push(format!("{records} records of sampled messages found no room: sample fewer"));
    }
    let trouble = (!troubles.is_empty()).then(|| (Status::Degraded, troubles.join("; ")));
    let since_ms = began.map(|since| since.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis());
    let since = since_ms.and_then(|since_ms| u64::try_from(since_ms).ok()).map(WallTime);
    Finding { since, ..Finding::of("telemetry", trouble) }
}

fn read(count: &AtomicU64) -> u64 {
    count.load(Ordering::Relaxed)
}

#[cfg(feature = "wasm")]
fn wasm(shared: &Shared, seen: &mut Seen, now: Instant) -> Finding {
    let failed = shared.plugins().iter().map(|plugin| plugin.figures().failed.load(Ordering::Relaxed)).sum();
    let failed = seen.losses[2].follow(failed, now);
    let traps = seen.losses[3].follow(crate::wasm::figures::traps(), now);
    let trouble = if failed > 0 {
        Some(format!("routing plugins failed on {failed} messages: plugins.on_failure says what became of them"))
    } else {
        (traps > 0).then(|| format!("{traps} calls of guests failed: dead letters and events say whose"))
    };
    Finding::of("wasm", trouble.map(|why| (Status::Degraded, why)))
}

fn edge(shared: &Shared, seen: &mut Seen, now: Instant) -> Finding {
    let for_others = read(&shared.edge.closed[CloseReason::Room as usize]);
    let closed = seen.losses[4].follow(read(&shared.edge.refused) + for_others, now);
    let why =
        || format!("{closed} HTTP connections were closed because there were too many: check which clients open them");
    Finding::of("edge", (closed > 0).then(|| (Status::Degraded, why())))
}

/// Finds what is wrong with the cluster. A node works alone, so that it is ready all the same.
#[cfg(feature = "cluster")]
fn cluster(look: &crate::cluster::Look) -> Finding {
    Finding::of("cluster", crate::cluster::complaint(look).map(|why| (Status::Degraded, why)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_count_for_a_while() {
        let (mut loss, start) = (Loss::default(), Instant::now());
        assert_eq!(loss.follow(0, start), 0);
        assert_eq!(loss.follow(3, start), 3);
        assert_eq!(loss.follow(5, start + RECENT / 2), 5);
        assert_eq!(loss.follow(5, start + RECENT), 5);
        assert_eq!(loss.follow(5, start + RECENT * 2), 0);
        assert_eq!(loss.follow(6, start + RECENT * 3), 1);
    }

    #[test]
    fn open_breakers_are_named_up_to_a_number() {
        let why = |open, names: &[&'static str]| breakers_open(open, names.iter().copied()).unwrap_or_default();
        assert_eq!(breakers_open(0, ["a"].into_iter()), None);
        assert!(
            why(1, &["a", "b"])
                .starts_with("1 agent is not called because of an open circuit breaker: \"a\"; it failed")
        );
        assert!(
            why(7, &["a", "b", "c", "d", "e", "f"]).contains("\"d\", \"e\", 2 more; they failed"),
            "{}",
            why(7, &["a"])
        );
        assert!(why(2, &[]).contains("the events BreakerChanged name the agents"));
    }

    #[test]
    fn a_status_keeps_its_time_until_it_changes() {
        let failed = |why: &str| Finding::of("journal", Some((Status::Unhealthy, why.to_owned())));
        let first = dated(failed("a"), &[], WallTime(5));
        let second = dated(failed("b"), std::slice::from_ref(&first), WallTime(9));
        assert_eq!((second.since(), second.why()), (WallTime(5), Some("b")));
        assert_eq!(dated(Finding::healthy("journal"), &[second], WallTime(11)).since(), WallTime(11));
    }

    #[cfg(feature = "store")]
    #[test]
    fn a_disk_is_nearly_full_before_it_is_full() {
        let with = |available_bytes| room(Disk { available_bytes, size_bytes: 1_000 }, 10, 2);
        assert_eq!([with(80), with(79), with(9)], [None, Some(Status::Degraded), Some(Status::Unhealthy)]);
    }

    #[test]
    fn health_is_as_bad_as_its_worst_part() {
        let part = |finding| dated(finding, &[], WallTime(1));
        let trouble = Some((Status::Degraded, "it is full".to_owned()));
        let components = vec![part(Finding::healthy("rings")), part(Finding::of("disk", trouble))];
        let health = Health { phase: Phase::Running, live: true, components };
        assert!(health.is_ready() && health.status() == Status::Degraded);
        assert_eq!(health.to_string(), "degraded, running\ndegraded  disk: it is full");
        let json = health.to_json();
        assert_eq!((&json["status"], &json["components"][1]["why"]), (&"degraded".into(), &"it is full".into()));
        let draining = Health { phase: Phase::Draining, ..health };
        assert!(!draining.is_ready() && draining.is_live());
    }
}
