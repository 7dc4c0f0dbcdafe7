//! What operators see of a cluster: findings, health, metrics, the HTTP API, and the commands.

use caxton_router::Router;
use caxton_router::doctor::Status;
use caxton_router::health::Status as HealthStatus;
use caxton_router::logs::CLUSTER;
use tracing::Level;

use super::broker::Broker;
use super::fixture::{Node, Pair};
use crate::common::{bounded, shutdown, start};
use crate::edge::wait_until;
use crate::logs::Capture;

/// Returns the health of a router's part `cluster`, and what is wrong with it.
fn health(router: &Router) -> Option<(HealthStatus, String)> {
    let health = router.health();
    let part = health.component("cluster")?;
    Some((part.status(), part.why().unwrap_or_default().to_owned()))
}

/// Waits until the cluster is healthy as a node sees it.
fn wait_until_healthy(node: &Node) {
    wait_until("the cluster is healthy", || {
        health(&node.router).is_some_and(|(status, _)| status == HealthStatus::Healthy)
    });
}

/// Waits until the cluster is degraded because of this, as a node sees it.
fn wait_until_degraded(node: &Node, because: &str) {
    wait_until(&format!("the cluster is degraded: {because}"), || {
        health(&node.router).is_some_and(|(status, why)| status == HealthStatus::Degraded && why.contains(because))
    });
}

/// Returns what is not in order, as a node sees it: the name, and what was found.
fn troubles(node: &Node) -> Vec<(&'static str, String)> {
    let findings = node.cluster().findings().into_iter().filter(|finding| finding.status != Status::Ok);
    findings.map(|finding| (finding.name, finding.found)).collect()
}

#[test]
fn a_node_that_is_cut_off_or_alone_is_degraded_and_ready() {
    bounded(|| {
        let Pair { mut broker, one, two } = Pair::start();
        for node in [&one, &two] {
            wait_until_healthy(node);
        }
        wait_until("nothing is wrong", || troubles(&one).is_empty());
        broker.stop();
        wait_until_degraded(&one, "not connected to NATS");
        assert!(one.router.health().is_ready(), "a node works alone");
        assert_eq!(troubles(&one).first().map(|(name, _)| *name), Some("nats"));
        broker.restart();
        wait_until("the nodes see each other again", || troubles(&one).is_empty() && troubles(&two).is_empty());
        wait_until_healthy(&one);
        two.stop();
        wait_until_degraded(&one, "node 2 has been dead");
        assert!(one.router.health().is_ready());
        one.stop();
    });
}

#[test]
fn two_routers_with_one_number_are_found() {
    bounded(|| {
        let broker = Broker::start();
        let (one, other) = (Node::start(1, &broker), Node::start(1, &broker));
        wait_until_degraded(&one, "another router of the cluster has this node's number, 1");
        wait_until("the other one is told too", || troubles(&other).iter().any(|(name, _)| *name == "number"));
        one.stop();
        other.stop();
    });
}

#[test]
fn nodes_with_different_secrets_are_found() {
    bounded(|| {
        let broker = Broker::start();
        let directory = tempfile::tempdir().expect("a directory");
        let start = |number: u16| {
            let file = directory.path().join(number.to_string());
            std::fs::write(&file, [u8::try_from(number).expect("it is small"); 32]).expect("it can be written");
            Node::start_with(number, &broker, &[("cluster.key_file", file.to_str().expect("it is text"))])
        };
        let (one, two) = (start(1), start(2));
        wait_until_degraded(&one, "packets about membership have a wrong seal");
        assert!(one.view().dropped.unsealed > 0 && one.view().nodes.is_empty());
        one.stop();
        two.stop();
    });
}

#[test]
fn a_router_in_no_cluster_has_no_health_of_one() {
    bounded(|| {
        let router = start(1);
        assert_eq!(health(&router), None);
        shutdown(&router);
        let broker = Broker::start();
        let node = Node::start(1, &broker);
        let router = node.router.clone();
        assert!(health(&router).is_some());
        node.stop();
        assert_eq!(health(&router), None, "it has left");
    });
}

/// Returns the value of a metric, if there is such a series.
fn metric(text: &str, series: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))?;
    line.parse().ok()
}

#[test]
fn the_metrics_of_a_node_are_those_of_its_view() {
    const MESSAGES: u16 = 20;
    bounded(|| {
        let Pair { broker: _broker, one, two } = Pair::start();
        two.register("clerk");
        for _ in 0..MESSAGES {
            one.ask("clerk", "hello");
        }
        let count = MESSAGES.into();
        let expected = [
            ("connected", 1.0),
            ("agents", 1.0),
            ("nodes{health=\"alive\"}", 1.0),
            ("nodes{health=\"suspect\"}", 0.0),
            ("nodes{health=\"dead\"}", 0.0),
            ("messages_lost_total", 0.0),
            ("packets_dropped_total{reason=\"unsealed\"}", 0.0),
            ("packets_dropped_total{reason=\"malformed\"}", 0.0),
            ("packets_dropped_total{reason=\"same-node\"}", 0.0),
            ("link_messages_total{node=\"2\",direction=\"in\"}", count),
            ("link_messages_total{node=\"2\",direction=\"out\"}", count),
            ("link_unsettled{node=\"2\"}", 0.0),
            ("link_in_flight{node=\"2\"}", 0.0),
        ];
        let mut text = String::new();
        // On a busy machine a node may seem to be dead for a moment.
        wait_until("all is counted", || {
            text = one.router.metrics();
            let is_so = |(name, value): &(&str, f64)| metric(&text, &format!("caxton_cluster_{name}")) == Some(*value);
            expected.iter().all(is_so)
        });
        let of_link = |name: &str| metric(&text, &format!("caxton_cluster_link_{name}"));
        for direction in ["in", "out"] {
            for name in ["frames_total", "traffic_bytes_total"] {
                let name = format!("{name}{{node=\"2\",direction=\"{direction}\"}}");
                assert!(of_link(&name) > Some(0.0), "{name}");
            }
        }
        assert!(of_link("round_trip_seconds{node=\"2\"}").is_some());
        assert!(of_link("retransmitted_total{node=\"2\"}").is_some());
        let router = one.router.clone();
        one.stop();
        two.stop();
        assert!(!router.metrics().contains("\ncaxton_cluster_connected "), "it has left");
    });
}

#[test]
fn a_link_over_which_nothing_comes_is_found() {
    Pair::run(|pair| {
        pair.meet();
        let Pair { broker, one, .. } = pair;
        broker.pause("caxton.t.node.1.frame");
        wait_until_degraded(one, "nothing comes over the link from node 2, although it is alive");
        broker.resume();
        wait_until("nothing is wrong", || troubles(one).is_empty());
    });
}

#[test]
fn what_changes_in_a_cluster_is_logged() {
    bounded(|| {
        let mut broker = Broker::start();
        let capture = Capture::default();
        let one = capture.during(Level::INFO, || Node::start(1, &broker));
        let is_logged = |message: &str, level: Level, node: &str| {
            wait_until(&format!("{message:?} is logged"), || {
                capture
                    .of(message)
                    .iter()
                    .any(|line| (line.level, line.target, line.text("node")) == (level, CLUSTER, node))
            });
        };
        is_logged("connected to NATS", Level::INFO, "");
        let two = Node::start(2, &broker);
        is_logged("node is alive", Level::INFO, "2");
        two.stop();
        is_logged("node is dead, or has left", Level::WARN, "2");
        broker.stop();
        is_logged("not connected to NATS: nothing goes to other nodes or comes from them", Level::WARN, "");
        one.stop();
    });
}
