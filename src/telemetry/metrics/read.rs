//! How metrics with labels, and those that take more than a figure, are read.

#[cfg(feature = "serve")]
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use caxton_shards::api::{LaneFigures, Stage};
use caxton_shards::dead_letter::DeadLetterReason;

#[cfg(feature = "store")]
use crate::telemetry::figures::Disk;
use crate::telemetry::figures::{ExportTotals, Figures, ShardFigures};
use crate::telemetry::metric::Points;

pub(super) fn dead_lettered(shard: &ShardFigures, points: &mut Points) {
    for (reason, count) in DeadLetterReason::ALL.iter().zip(shard.snapshot.account.dead_by_reason) {
        points.add_labelled([("reason", reason.as_str().into())], count);
    }
}

pub(super) fn expired(shard: &ShardFigures, points: &mut Points) {
    for (stage, count) in Stage::ALL.iter().zip(shard.snapshot.account.expired_by_stage) {
        points.add_labelled([("stage", stage.as_str().into())], count);
    }
}

pub(super) fn crossing(figures: &Figures, points: &mut Points) {
    let account = |read: fn(&ShardFigures) -> u64| figures.shards.iter().map(read).sum::<u64>();
    let departed = account(|shard| shard.snapshot.account.departed);
    // The shards' figures are not of the same moment.
    points.add(departed.saturating_sub(account(|shard| shard.snapshot.account.arrived)));
}

pub(super) fn agents(figures: &Figures, points: &mut Points) {
    let all: usize = figures.shards.iter().map(|shard| shard.snapshot.agents).sum();
    points.add(all.saturating_sub(figures.own_agents));
}

pub(super) fn breakers(shard: &ShardFigures, points: &mut Points) {
    let half_open = shard.details.breakers_half_open.min(shard.snapshot.breakers_open);
    points.add_labelled([("state", "open".into())], shard.snapshot.breakers_open - half_open);
    points.add_labelled([("state", "half-open".into())], half_open);
}

pub(super) fn oldest_dead_letter(figures: &Figures, points: &mut Points) {
    let oldest = figures.shards.iter().filter_map(|shard| shard.details.oldest_dead_letter).min();
    points.add(oldest.map_or(0.0, |since| figures.now.0.saturating_sub(since.0) as f64 / 1e3));
}

pub(super) fn closed(shard: &ShardFigures, points: &mut Points) {
    let (closed, timed_out) = (shard.details.conversations_closed, shard.details.conversations_timed_out);
    points.add_labelled([("how", "completed".into())], closed - timed_out);
    points.add_labelled([("how", "timed-out".into())], timed_out);
}

pub(super) fn open_by_protocol(shard: &ShardFigures, points: &mut Points) {
    for protocol in &shard.details.protocols {
        points.add_labelled([("protocol", protocol.name.to_string().into())], protocol.open);
    }
}

pub(super) fn open_by_state(shard: &ShardFigures, points: &mut Points) {
    for protocol in &shard.details.protocols {
        for state in &protocol.states {
            let labels = [("protocol", protocol.name.to_string().into()), ("state", state.name.to_string().into())];
            points.add_labelled(labels, state.open);
        }
    }
}

pub(super) fn begun_by_protocol(shard: &ShardFigures, points: &mut Points) {
    for protocol in &shard.details.protocols {
        points.add_labelled([("protocol", protocol.name.to_string().into())], protocol.begun);
    }
}

pub(super) fn violations(shard: &ShardFigures, points: &mut Points) {
    for protocol in &shard.details.protocols {
        for (action, counts) in [("observed", protocol.observed), ("refused", protocol.refused)] {
            for (kind, count) in ["act", "protocol"].into_iter().zip(counts) {
                let protocol = protocol.name.to_string().into();
                points.add_labelled([("protocol", protocol), ("kind", kind.into()), ("action", action.into())], count);
            }
        }
    }
}

pub(super) fn of_lanes(shard: &ShardFigures, points: &mut Points, read: fn(&LaneFigures) -> u64) {
    for (to, lane) in shard.details.lanes.iter().enumerate().filter(|(_, lane)| lane.credits_max > 0) {
        points.add_labelled([("to", to.to_string().into())], read(lane));
    }
}

pub(super) fn in_rings(shard: &ShardFigures) -> usize {
    shard.details.lanes.iter().map(|lane| lane.in_flight).sum()
}

pub(super) fn rings_exhausted(shard: &ShardFigures) -> usize {
    shard.details.lanes.iter().filter(|lane| lane.credits_max > 0 && lane.credits == 0).count()
}

#[cfg(feature = "store")]
pub(super) fn disk(figures: &Figures) -> Option<Disk> {
    figures.store.as_ref()?.disk
}

#[cfg(feature = "wasm")]
pub(super) fn inspected(figures: &Figures, points: &mut Points) {
    for plugin in &figures.plugins {
        points.add_labelled([("plugin", plugin.name.to_string().into())], plugin.inspected);
    }
}

#[cfg(feature = "wasm")]
pub(super) fn plugin_outcomes(figures: &Figures, points: &mut Points) {
    for plugin in &figures.plugins {
        for (outcome, count) in plugin.outcomes {
            let plugin = plugin.name.to_string().into();
            points.add_labelled([("plugin", plugin), ("outcome", outcome.into())], count);
        }
    }
}

pub(super) fn exported(figures: &Figures, points: &mut Points) {
    for export in &figures.exports {
        for (signal, outcomes) in &export.outcomes {
            for (outcome, count) in outcomes {
                let destination = ("destination", export.destination.into());
                points
                    .add_labelled([destination, ("signal", (*signal).into()), ("outcome", (*outcome).into())], *count);
            }
        }
    }
}

pub(super) fn export_failures(figures: &Figures, points: &mut Points) {
    for export in &figures.exports {
        let outcomes = export.outcomes.iter().flat_map(|(_, outcomes)| outcomes);
        let lost: u64 = outcomes.filter(|(outcome, _)| *outcome != "exported").map(|(_, count)| count).sum();
        points.add_labelled([("destination", export.destination.into())], lost);
    }
}

pub(super) fn of_exports(figures: &Figures, points: &mut Points, read: fn(&ExportTotals) -> u64) {
    for export in &figures.exports {
        points.add_labelled([("destination", export.destination.into())], read(export));
    }
}

pub(super) fn connections_closed(figures: &Figures, points: &mut Points) {
    for (reason, count) in figures.connections_closed {
        points.add_labelled([("reason", reason.into())], count);
    }
}

#[cfg(feature = "serve")]
pub(super) fn by_reason(counts: &crate::edge::ByReason, points: &mut Points) {
    for (reason, count) in counts.all() {
        points.add_labelled([("reason", reason.into())], count);
    }
}

#[cfg(feature = "serve")]
pub(super) fn of_traffic(figures: &Figures, points: &mut Points, read: fn(&crate::edge::Traffic) -> &AtomicU64) {
    for (direction, traffic) in [("in", &figures.nats.published), ("out", &figures.nats.delivered)] {
        points.add_labelled([("direction", direction.into())], read(traffic).load(Relaxed));
    }
}

pub(super) fn health(figures: &Figures, points: &mut Points) {
    for component in &figures.health {
        points.add_labelled([("component", component.name().to_owned().into())], component.status() as u64);
    }
}

pub(super) fn cpu_time(figures: &Figures, points: &mut Points) {
    points.add_labelled([("mode", "user".into())], figures.process.user_seconds);
    points.add_labelled([("mode", "system".into())], figures.process.system_seconds);
}
