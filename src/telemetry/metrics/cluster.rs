//! How the metrics of a cluster are read. A label is the number of a node, of which a node knows a bounded number.

use crate::cluster::{ClusterView, Health, LinkFigures};
use crate::telemetry::figures::Figures;
use crate::telemetry::metric::{Number, Points};

fn view(figures: &Figures) -> Option<&ClusterView> {
    figures.cluster.as_ref().map(|look| &*look.view)
}

pub(super) fn connected(figures: &Figures, points: &mut Points) {
    points.add_all(view(figures).map(|view| view.is_connected));
}

pub(super) fn nodes(figures: &Figures, points: &mut Points) {
    let Some(view) = view(figures) else { return };
    for health in Health::ALL {
        let count = view.nodes.iter().filter(|node| node.health == health).count();
        points.add_labelled([("health", health.as_str().into())], count);
    }
}

pub(super) fn agents(figures: &Figures, points: &mut Points) {
    points.add_all(view(figures).map(|view| view.remote_agents));
}

pub(super) fn lost(figures: &Figures, points: &mut Points) {
    points.add_all(view(figures).map(|view| view.lost));
}

pub(super) fn packets_dropped(figures: &Figures, points: &mut Points) {
    let Some(view) = view(figures) else { return };
    let dropped = view.dropped;
    let by_reason =
        [("unsealed", dropped.unsealed), ("malformed", dropped.malformed), ("same-node", dropped.same_node)];
    for (reason, count) in by_reason {
        points.add_labelled([("reason", reason.into())], count);
    }
}

pub(super) fn messages(figures: &Figures, points: &mut Points) {
    both_ways(figures, points, |link| [link.messages_received, link.messages_sent]);
}

pub(super) fn frames(figures: &Figures, points: &mut Points) {
    both_ways(figures, points, |link| [link.frames_received, link.frames_sent]);
}

pub(super) fn traffic(figures: &Figures, points: &mut Points) {
    both_ways(figures, points, |link| [link.bytes_received, link.bytes_sent]);
}

pub(super) fn retransmitted(figures: &Figures, points: &mut Points) {
    of_links(figures, points, |link| Some(link.retransmitted.into()));
}

pub(super) fn in_flight(figures: &Figures, points: &mut Points) {
    of_links(figures, points, |link| Some(link.frames_in_flight.into()));
}

pub(super) fn unsettled(figures: &Figures, points: &mut Points) {
    of_links(figures, points, |link| Some(link.unsettled.into()));
}

pub(super) fn round_trip(figures: &Figures, points: &mut Points) {
    of_links(figures, points, |link| link.round_trip_ms.map(|time_ms| (time_ms as f64 / 1e3).into()));
}

/// Returns the links, each with the number of its node.
fn links(figures: &Figures) -> impl Iterator<Item = (String, &LinkFigures)> {
    let nodes = view(figures).into_iter().flat_map(|view| &view.nodes);
    nodes.filter_map(|node| Some((node.node.to_string(), node.link.as_ref()?)))
}

/// Adds what came in and what went out over each link.
fn both_ways(figures: &Figures, points: &mut Points, read: fn(&LinkFigures) -> [u64; 2]) {
    for (node, link) in links(figures) {
        for (direction, count) in ["in", "out"].into_iter().zip(read(link)) {
            points.add_labelled([("node", node.clone().into()), ("direction", direction.into())], count);
        }
    }
}

fn of_links(figures: &Figures, points: &mut Points, read: fn(&LinkFigures) -> Option<Number>) {
    for (node, link) in links(figures) {
        if let Some(value) = read(link) {
            points.add_labelled([("node", node.into())], value);
        }
    }
}
