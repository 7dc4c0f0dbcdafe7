//! Figures and events: `/v1/stats` and `/v1/events`.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt::Write as _;
use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::Method;
use axum::http::request::Parts;
use axum::response::Response;
use bytes::Bytes;
use caxton_shards::api::{Event, LaneFigures, Snapshot, Stage};
use caxton_shards::dead_letter::DeadLetterReason;
use caxton_shards::stats::Account;
use caxton_shards::supervision::breaker::BreakerState;
use futures_lite::stream::unfold;
use serde_json::{Map, Value, json};

use super::Api;
use super::caller::Caller;
use super::endpoint::{Endpoint, responds};
use super::parameters::Parameters;
use super::problem::Problem;
use super::reply::{JSON, Reply};
use super::stream::{EVENTS, OpenStream, TOKEN_ENDED, events, heartbeat, while_permitted};
use crate::edge::OpenConnection;
use crate::edge::doors::identity::{Identity, Operation};
use crate::router::events::Events;
use crate::router::inbox::ReceiveError;
use crate::router::report::Stats;
use crate::telemetry::exposition::{BOUNDS_SECONDS, NS_PER_SECOND, bucket_counts};
use crate::telemetry::figures::{JournalTotals, ShardFigures, StoreFigures, request_details};
use crate::telemetry::latency::{Latencies, Latency};

/// Maximum number of events sent in one piece.
const EVENTS_TOGETHER_MAX: usize = 64;

pub(super) fn endpoints() -> Vec<Endpoint> {
    let show_stats = Endpoint::new(Method::GET, "/v1/stats", "getStats", "Returns the router's figures.", stats);
    let follow = Endpoint::new(
        Method::GET,
        "/v1/events",
        "streamEvents",
        "Sends the router's events from now on as server-sent events: agents, dead letters, violations, breakers, journals.",
        follow,
    );
    vec![
        show_stats
            .requires(&[Operation::Observe])
            .responds([responds(200, "The figures of the router and of each shard.", &[(JSON, "Stats")])])
            .problems(&[400]),
        follow
            .requires(&[Operation::Observe])
            .responds([responds(
                200,
                "The events. A client that is too slow is told how many it has lost.",
                &[(EVENTS, "Events")],
            )])
            .problems(&[400]),
    ]
}

async fn stats(State(api): State<Arc<Api>>, caller: Caller, parts: Parts) -> Result<Reply, Problem> {
    caller.require(Operation::Observe)?;
    Parameters::read(&parts.uri, &[])?;
    let router = &api.context.router;
    let mut figures = in_json(&router.stats());
    let shared = router.shared();
    // What the shards give on request is there at the next look; this one does not wait for it.
    request_details(shared);
    let shards: Vec<_> = (0..shared.links.len()).map(|shard| ShardFigures::read(shared, shard)).collect();
    figures["latencies"] = latencies_in_json(&shared.telemetry.latencies());
    figures["lanes"] = lanes_in_json(&shards);
    figures["journal"] = StoreFigures::read(shared).map(|store| journal_in_json(&store, &shards)).into();
    figures["mailbox_messages"] = shards.iter().map(|shard| shard.details.mailbox_messages).sum::<usize>().into();
    figures["outside_agents"] = api.context.outside.count().into();
    figures["running_for_ms"] = u64::try_from(router.shared().running_for().as_millis()).unwrap_or(u64::MAX).into();
    Ok(Reply::ok(&figures))
}

fn in_json(stats: &Stats) -> Value {
    let (memory_bytes, memory_bytes_max) = stats.memory_bytes();
    let shards: Vec<_> = (0..).zip(&stats.shards).map(|(number, shard)| shard_in_json(number, shard)).collect();
    json!({
        "account": account_in_json(&stats.account()),
        "in_progress": stats.in_progress(),
        "queued": stats.queued,
        "agents": stats.agents(),
        "conversations": stats.conversations(),
        "dead_letters": stats.dead_letters(),
        "breakers_open": stats.breakers_open(),
        "receivers_closed": stats.receivers_closed(),
        "stalled": stats.stalled(),
        "replies_missing": stats.replies_missing(),
        "protocol_violations": stats.conformance().violations(),
        "memory_bytes": memory_bytes,
        "memory_bytes_max": memory_bytes_max,
        "blocked_shards": stats.blocked.iter().map(|shard| shard.0).collect::<Vec<_>>(),
        "shards": shards,
    })
}

fn shard_in_json(number: u16, shard: &Snapshot) -> Value {
    json!({
        "shard": number,
        "account": account_in_json(&shard.account),
        "agents": shard.agents,
        "conversations": shard.conversations,
        "dead_letters": shard.dead_letters,
        "breakers_open": shard.breakers_open,
        "receivers_closed": shard.receivers_closed,
        "stalled": shard.stalled,
        "waiting": shard.waiting,
        "timers": shard.timers,
        "memory_bytes": shard.memory_bytes,
        "memory_bytes_max": shard.memory_bytes_max,
    })
}

/// Returns the latencies of sampled messages since the start of the router. The counts of two looks tell those of the
/// messages between.
fn latencies_in_json(latencies: &Latencies) -> Value {
    let in_json = |latency: Latency| {
        let histogram = latencies.of(latency);
        let bounds = BOUNDS_SECONDS.into_iter().map(Some).chain([None]);
        let buckets = bounds.zip(bucket_counts(histogram)).filter(|(_, count)| *count > 0);
        let buckets = buckets.map(|(bound, count)| json!({ "up_to_seconds": bound, "count": count }));
        let quantile = |quantile| {
            let recorded = !histogram.is_empty();
            recorded.then(|| histogram.value_at_quantile(quantile) as f64 / NS_PER_SECOND)
        };
        let figures = json!({
            "count": histogram.len(),
            "p50_seconds": quantile(0.5),
            "p99_seconds": quantile(0.99),
            "buckets": buckets.collect::<Vec<_>>(),
        });
        (latency.as_str().to_owned(), figures)
    };
    Latency::ALL.map(in_json).into_iter().collect::<Map<_, _>>().into()
}

/// Returns the lanes from each shard to each other one.
fn lanes_in_json(shards: &[ShardFigures]) -> Value {
    let of_shard = |(from, shard): (usize, &ShardFigures)| {
        let lanes = shard.details.lanes.iter().enumerate().filter(|(_, lane)| lane.credits_max > 0);
        let in_json = |(to, lane): (usize, &LaneFigures)| {
            json!({
                "from": from,
                "to": to,
                "in_flight": lane.in_flight,
                "credits": lane.credits,
                "credits_max": lane.credits_max,
                "sent": lane.sent,
                "senders_waiting": lane.senders_waiting,
            })
        };
        lanes.map(in_json).collect::<Vec<_>>()
    };
    shards.iter().enumerate().flat_map(of_shard).collect::<Vec<_>>().into()
}

/// Returns the figures of all journals, and of the disk they are on.
fn journal_in_json(store: &StoreFigures, shards: &[ShardFigures]) -> Value {
    let sum = |figure: fn(&JournalTotals) -> u64| shards.iter().map(|shard| figure(&shard.journal)).sum::<u64>();
    let refusing = (0_u16..).zip(shards).filter(|(_, shard)| shard.journal.is_refusing).map(|(number, _)| number);
    json!({
        "commits": sum(|journal| journal.commits),
        "records": sum(|journal| journal.records),
        "written_bytes": sum(|journal| journal.written_bytes),
        "journal_bytes": store.journal_bytes,
        "database_bytes": store.database_bytes,
        "disk_available_bytes": store.disk.map(|disk| disk.available_bytes),
        "disk_bytes": store.disk.map(|disk| disk.size_bytes),
        "refusing_shards": refusing.collect::<Vec<_>>(),
    })
}

fn account_in_json(account: &Account) -> Value {
    let occurred = |words: &[&'static str], counts: &[u64]| -> BTreeMap<&'static str, u64> {
        words.iter().copied().zip(counts.iter().copied()).filter(|(_, count)| *count > 0).collect()
    };
    json!({
        "accepted": account.accepted,
        "recovered": account.recovered,
        "processed": account.processed,
        "dead_lettered": account.dead_lettered,
        "dead_lettered_by_reason": occurred(&DeadLetterReason::ALL.map(DeadLetterReason::as_str), &account.dead_by_reason),
        "expired": account.expired,
        "expired_by_stage": occurred(&Stage::ALL.map(Stage::as_str), &account.expired_by_stage),
        "kept": account.kept,
        "pending": account.pending,
        "retried": account.retried,
        "refused": account.refused,
    })
}

/// The events of one client.
struct Following {
    api: Arc<Api>,
    events: Events,
    identity: Arc<Identity>,
    begun: bool,
    lost: u64,
    _open: OpenStream,
}

async fn follow(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Extension(connection): Extension<Arc<OpenConnection>>,
    parts: Parts,
) -> Result<Response, Problem> {
    caller.require(Operation::Observe)?;
    Parameters::read(&parts.uri, &[])?;
    let subscription = api.context.router.events().await?;
    let open = OpenStream::begin(&api, connection)?;
    let identity = caller.identity;
    let following = Following { api, events: subscription, identity, begun: false, lost: 0, _open: open };
    Ok(events(unfold(Some(following), |following| async {
        let mut following = following?;
        let (piece, goes_on) = following.next().await;
        Some((Ok::<_, Infallible>(piece), goes_on.then_some(following)))
    })))
}

impl Following {
    /// Returns the next piece, and whether another one follows.
    async fn next(&mut self) -> (Bytes, bool) {
        if !std::mem::replace(&mut self.begun, true) {
            return (Bytes::from_static(b": subscribed\n\n"), true);
        }
        let within = heartbeat(&self.api);
        let Some(first) = while_permitted(&self.identity, within, self.events.next()).await else {
            return (Bytes::from_static(TOKEN_ENDED), false);
        };
        let first = match first {
            Err(_) | Ok(Err(ReceiveError::TimedOut)) => return (Bytes::from_static(b":\n\n"), true),
            Ok(Err(_)) => return (Bytes::from_static(b"event: end\ndata: stopped\n\n"), false),
            Ok(Ok(event)) => event,
        };
        let mut text = String::new();
        let more = std::iter::from_fn(|| self.events.try_next()).take(EVENTS_TOGETHER_MAX - 1);
        let together: Vec<Event> = std::iter::once(first).chain(more).collect();
        for event in &together {
            if let Event::Registered { name, .. } = event
                && let Ok(name) = name.parse()
            {
                self.api.names.note(&name);
            }
            let mut names = [None, None];
            for (name, agent) in names.iter_mut().zip(event.agents()) {
                if let Some(agent) = agent {
                    let known = self.api.names.of(&self.api.context.router, agent).await;
                    *name = Some(known.map_or_else(|| agent.to_string(), |name| name.to_string()));
                }
            }
            let (kind, data) = event_in_json(event, names);
            let _ = write!(text, "event: {kind}\ndata: {data}\n\n");
        }
        let lost = self.events.lost();
        if lost > self.lost {
            let _ = write!(text, "event: lost\ndata: {{\"events\":{}}}\n\n", lost - self.lost);
            self.lost = lost;
        }
        (Bytes::from(text), true)
    }
}

/// Returns the kind of an event, and what it says. The names are those of [`Event::agents`].
fn event_in_json(event: &Event, [first, second]: [Option<String>; 2]) -> (&'static str, Value) {
    match event {
        Event::Registered { .. } => ("agent-registered", json!({ "agent": first })),
        Event::StateChanged { state, .. } => ("agent-changed", json!({ "agent": first, "state": state.as_str() })),
        Event::Deregistered { why, .. } => ("agent-deregistered", json!({ "agent": first, "reason": why.as_str() })),
        Event::AgentRestarted { restarts, delay_ms, .. } => {
            ("agent-restarted", json!({ "agent": first, "restarts": restarts, "delay_ms": delay_ms }))
        }
        Event::AgentPanicked { what, .. } => ("agent-panicked", json!({ "agent": first, "panic": what })),
        Event::FailureHandlerPanicked { what } => ("failure-handler-panicked", json!({ "panic": what })),
        Event::BreakerChanged { state, .. } => {
            let word = match state {
                BreakerState::Open { .. } => "open",
                BreakerState::HalfOpen => "half-open",
                BreakerState::Closed => "closed",
            };
            ("breaker-changed", json!({ "agent": first, "state": word }))
        }
        Event::JournalChanged { shard, condition } => {
            ("journal-changed", json!({ "shard": shard.0, "condition": format!("{condition:?}").to_lowercase() }))
        }
        Event::DeadLettered { message, conversation, reason, shard, .. } => (
            "dead-lettered",
            json!({
                "message": message.to_string(),
                "sender": first,
                "receiver": second,
                "conversation": conversation.map(|conversation| conversation.to_string()),
                "reason": reason.as_str(),
                "shard": shard.0,
            }),
        ),
        Event::Expired { message, conversation, stage, .. } => (
            "expired",
            json!({
                "message": message.to_string(),
                "sender": first,
                "receiver": second,
                "conversation": conversation.map(|conversation| conversation.to_string()),
                "stage": stage.as_str(),
            }),
        ),
        Event::ReplyMissing { message, reply_by, .. } => (
            "reply-missing",
            json!({ "agent": first, "asked": second, "message": message.to_string(), "reply_by_ms": reply_by.0 }),
        ),
        Event::SlowCall { took_ms, unreported, .. } => {
            ("slow-call", json!({ "agent": first, "took_ms": took_ms, "unreported": unreported }))
        }
        Event::ProtocolViolation(violation) => (
            "protocol-violation",
            json!({
                "message": violation.message.map(|message| message.to_string()),
                "conversation": violation.conversation_text,
                "protocol": violation.protocol,
                "state": violation.state,
                "performative": violation.performative.as_str(),
                "sender": first,
                "receiver": second,
                "refused": violation.refused,
                "explanation": violation.to_string(),
            }),
        ),
        Event::ShardBlocked { shard, agent, for_ms } => {
            ("shard-blocked", json!({ "shard": shard.0, "agent": agent.as_deref(), "for_ms": for_ms }))
        }
        Event::ShardUnblocked { shard, for_ms } => ("shard-unblocked", json!({ "shard": shard.0, "for_ms": for_ms })),
        Event::ConversationTimedOut { conversation, .. } => {
            ("conversation-timed-out", json!({ "initiator": first, "conversation": conversation.to_string() }))
        }
        other => ("other", json!({ "event": format!("{other:?}") })),
    }
}

#[cfg(test)]
mod tests {
    use caxton_shards::api::AgentState;
    use caxton_shards::message::AgentId;

    use super::*;

    #[test]
    fn an_event_names_its_agents() {
        let agent = AgentId::of_text("ann");
        let event = Event::StateChanged { agent, state: AgentState::Suspended };
        let (kind, data) = event_in_json(&event, [Some("ann".to_owned()), None]);
        assert_eq!((kind, &data["agent"], &data["state"]), ("agent-changed", &"ann".into(), &"suspended".into()));
    }
}
