//! A cluster in JSON, as [`Look`] has it.

use std::time::Duration;

use serde_json::{Value, json};

use crate::cluster::{LinkFigures, Look, NodeView, Versions, examine};
use crate::doctor::Finding;

/// Returns the cluster as this node sees it.
pub(super) fn cluster_in_json(look: &Look) -> Value {
    let view = &look.view;
    json!({
        "name": view.name,
        "node": view.node.into_inner(),
        "boot_epoch": view.boot_epoch,
        "versions": versions_in_json(view.versions),
        "connected": view.is_connected,
        "connection_for_ms": milliseconds(look.connection_for),
        "age_ms": milliseconds(look.age),
        "remote_agents": view.remote_agents,
        "lost": view.lost,
        "packets_dropped": {
            "unsealed": view.dropped.unsealed,
            "malformed": view.dropped.malformed,
            "same_node": view.dropped.same_node,
        },
        "nodes": view.nodes.iter().map(node_in_json).collect::<Vec<_>>(),
        "findings": examine(look).iter().map(finding_in_json).collect::<Vec<_>>(),
    })
}

fn node_in_json(node: &NodeView) -> Value {
    json!({
        "node": node.node.into_inner(),
        "boot_epoch": node.boot_epoch,
        "versions": versions_in_json(node.versions),
        "health": node.health.as_str(),
        "for_ms": milliseconds(node.for_time),
        "shards": node.shards,
        "load": node.load.map(|load| json!({ "agents": load.agents, "pending": load.pending })),
        "link": node.link.as_ref().map(link_in_json),
    })
}

fn link_in_json(link: &LinkFigures) -> Value {
    json!({
        "open": link.is_open,
        "silent": link.is_silent,
        "full": link.is_full,
        "messages_sent": link.messages_sent,
        "messages_received": link.messages_received,
        "frames_sent": link.frames_sent,
        "frames_received": link.frames_received,
        "bytes_sent": link.bytes_sent,
        "bytes_received": link.bytes_received,
        "retransmitted": link.retransmitted,
        "duplicates": link.duplicates,
        "out_of_order": link.out_of_order,
        "stale": link.stale,
        "damaged": link.damaged,
        "unreadable": link.unreadable,
        "volatile_lost": link.volatile_lost,
        "peer_restarts": link.peer_restarts,
        "frames_in_flight": link.frames_in_flight,
        "bytes_in_flight": link.bytes_in_flight,
        "unsettled": link.unsettled,
        "targets": link.targets,
        "round_trip_ms": link.round_trip_ms,
    })
}

fn finding_in_json(finding: &Finding) -> Value {
    json!({
        "name": finding.name,
        "status": finding.status.name(),
        "found": finding.found,
        "mend": finding.mend,
    })
}

fn versions_in_json(versions: Versions) -> Value {
    json!({ "lowest": versions.lowest, "highest": versions.highest })
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
