//! Finds out what is wrong with a cluster as one of its nodes sees it, and says so to operators.
//!
//! `caxton cluster doctor` prints all findings, and the router's health names those that need attention now. They
//! follow from the current view alone, so nothing has to be reset.

use std::time::Duration;

use super::view::{Health, Look, NodeView, Versions};
use crate::doctor::{Finding, Status};

/// If the view is older than this, the cluster's thread is stuck.
const AGE_MAX: Duration = Duration::from_secs(10);
/// Time for which dropped packets are reported. A node that sends such packets does so at least every five seconds.
const DROPPED_WITHIN: Duration = Duration::from_mins(1);
/// Time within which the link to a node that is alive has to open.
const OPENS_WITHIN: Duration = Duration::from_secs(10);
/// Time for which a dead node affects the health of the others.
const DEAD_RECENTLY: Duration = Duration::from_mins(1);

/// What is examined.
const THREAD: &str = "thread";
const NATS: &str = "nats";
const NUMBER: &str = "number";
const SEAL: &str = "seal";
const NODES: &str = "nodes";
const NODE: &str = "node";
const VERSIONS: &str = "versions";
const LINK: &str = "link";

/// Examines what a node knows of its cluster.
pub(crate) fn examine(look: &Look) -> Vec<Finding> {
    examine_with(look, Duration::MAX)
}

/// Returns why the cluster is not healthy now, and what to do. A node that died a while ago is no reason, because it
/// may have left for good.
pub(crate) fn complaint(look: &Look) -> Option<String> {
    let findings = examine_with(look, DEAD_RECENTLY);
    let is_of_health = |finding: &&Finding| finding.status == Status::Problem || finding.name == NODE;
    let complaints: Vec<_> = findings.iter().filter(is_of_health).map(complaint_of).collect();
    (!complaints.is_empty()).then(|| complaints.join("; "))
}

fn complaint_of(finding: &Finding) -> String {
    let Finding { found, mend, .. } = finding;
    mend.as_ref().map_or_else(|| found.clone(), |mend| format!("{found}: {mend}"))
}

/// Examines the cluster, without the nodes that have been dead for longer than this.
fn examine_with(look: &Look, dead_for_max: Duration) -> Vec<Finding> {
    let mut findings = Vec::from_iter(thread(look));
    findings.push(connection(look));
    findings.extend(number(look));
    findings.extend(seal(look));
    // Without a connection, all other nodes seem to be dead.
    if look.view.is_connected {
        findings.push(nodes(look));
        for node in &look.view.nodes {
            findings.extend(node_trouble(node, dead_for_max));
            findings.extend(versions(look.view.versions, node));
            findings.extend(link(&look.view.name, node));
        }
    }
    findings
}

fn thread(look: &Look) -> Option<Finding> {
    (look.age >= AGE_MAX).then(|| {
        let found = format!("the thread of the cluster has not reported for {}", seconds(look.age));
        Finding::problem(THREAD, found, "restart the router, and report the panic if its standard error has one")
    })
}

fn connection(look: &Look) -> Finding {
    let time = seconds(look.connection_for);
    if look.view.is_connected {
        return Finding::ok(NATS, format!("connected to NATS for {time}"));
    }
    let found = format!("not connected to NATS for {time}, so that nothing goes to other nodes or comes from them");
    let mend = "see whether the servers in cluster.nats run and can be reached, and whether they accept \
                cluster.credentials and cluster.ca";
    Finding::problem(NATS, found, mend)
}

fn number(look: &Look) -> Option<Finding> {
    let ago = look.same_node_ago.filter(|ago| *ago < DROPPED_WITHIN)?;
    let found = format!(
        "another router of the cluster has this node's number, {}: it was heard {} ago",
        look.view.node,
        seconds(ago)
    );
    Some(Finding::problem(NUMBER, found, "give each router its own router.node, and restart the one that is changed"))
}

fn seal(look: &Look) -> Option<Finding> {
    let ago = look.unsealed_ago.filter(|ago| *ago < DROPPED_WITHIN)?;
    let found = format!(
        "packets about membership have a wrong seal: {} so far, the last one {} ago",
        look.view.dropped.unsealed,
        seconds(ago)
    );
    let mend = "have the same secret in cluster.key_file on all nodes, and give other clusters other names";
    Some(Finding::problem(SEAL, found, mend))
}

fn nodes(look: &Look) -> Finding {
    let alive = look.view.nodes.iter().filter(|node| node.health == Health::Alive).count();
    match alive {
        0 if look.view.nodes.is_empty() => {
            let mend = "start others, with the same cluster.name and the same NATS servers";
            Finding::warning(NODES, "no other node was heard of", mend)
        }
        1 => Finding::ok(NODES, "1 other node is alive"),
        _ => Finding::ok(NODES, format!("{alive} other nodes are alive")),
    }
}

fn node_trouble(node: &NodeView, dead_for_max: Duration) -> Option<Finding> {
    let (number, time) = (node.node, seconds(node.for_time));
    match node.health {
        Health::Alive => None,
        Health::Suspect => {
            let found = format!("node {number} has not replied for {time}, and may be dead");
            Some(Finding::warning(NODE, found, "look again in a few seconds"))
        }
        Health::Dead if node.for_time > dead_for_max => None,
        Health::Dead => {
            let found = format!("node {number} has been dead for {time}, or has left: messages for its agents wait");
            let mend = "start it again; if it has left for good, nothing is to be done, and it is forgotten after ten \
                        minutes";
            Some(Finding::problem(NODE, found, mend))
        }
    }
}

fn versions(own: Versions, node: &NodeView) -> Option<Finding> {
    let theirs = node.versions;
    if node.health == Health::Dead || theirs == own {
        return None;
    }
    let words = |versions: Versions| match versions {
        Versions { lowest, highest } if lowest == highest => format!("version {lowest}"),
        Versions { lowest, highest } => format!("versions {lowest} to {highest}"),
    };
    let found = format!(
        "node {} speaks {} of the protocol between nodes, and this one {}",
        node.node,
        words(theirs),
        words(own)
    );
    let Some(common) = own.common(theirs) else {
        let found = format!("{found}: no messages pass between them");
        return Some(Finding::problem(VERSIONS, found, "upgrade the older one"));
    };
    let found = format!("{found}: they use version {common}");
    Some(Finding::warning(VERSIONS, found, "upgrade the older one when it suits"))
}

fn link(cluster: &str, node: &NodeView) -> Option<Finding> {
    if node.health != Health::Alive {
        return None;
    }
    // Without one, there are too many nodes.
    let (number, link) = (node.node, node.link.unwrap_or_default());
    let found = if !link.is_open && node.for_time >= OPENS_WITHIN {
        format!("no link to node {number} has come about, although it has been alive for {}", seconds(node.for_time))
    } else if link.is_silent {
        format!("nothing comes over the link from node {number}, although it is alive")
    } else if link.is_full {
        let found = format!(
            "the link to node {number} takes no more messages: {} bytes are on their way, and {} messages are not settled",
            link.bytes_in_flight, link.unsettled
        );
        let mend = format!("see what holds up node {number}: full mailboxes, its journal, or its network");
        return Some(Finding::warning(LINK, found, mend));
    } else {
        return None;
    };
    let mend = format!(
        "have NATS let every node publish and receive caxton.{cluster}.node.*.frame, and see whether node {number} is \
         overloaded"
    );
    Some(Finding::problem(LINK, found, mend))
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::link::LinkFigures;
    use super::super::view::tests::view_of;
    use super::super::view::{ClusterView, PacketsDropped};
    use super::*;

    fn look_at(view: ClusterView) -> Look {
        let time = Duration::from_secs(3);
        Look { view: Arc::new(view), age: time, connection_for: time, unsealed_ago: None, same_node_ago: None }
    }

    /// Returns what is not in order, as its names and statuses.
    fn troubles(look: &Look) -> Vec<(&'static str, Status)> {
        let found = examine(look).into_iter().filter(|finding| finding.status != Status::Ok);
        found.map(|finding| (finding.name, finding.status)).collect()
    }

    /// Returns a cluster whose node 2 was changed.
    fn with(change: impl FnOnce(&mut NodeView)) -> Look {
        let mut view = view_of(&[2, 3]);
        change(&mut view.nodes[0]);
        look_at(view)
    }

    #[test]
    fn a_cluster_in_order_has_findings_that_say_so() {
        let look = look_at(view_of(&[2, 3]));
        let found: Vec<_> = examine(&look).into_iter().map(|finding| finding.to_string()).collect();
        assert_eq!(found, ["nats: connected to NATS for 3.0 s", "nodes: 2 other nodes are alive"]);
        assert_eq!(complaint(&look), None);
    }

    #[test]
    fn without_a_connection_nothing_is_said_of_the_other_nodes() {
        let view = ClusterView { is_connected: false, ..view_of(&[2]) };
        let look = look_at(view);
        assert_eq!(troubles(&look), [("nats", Status::Problem)]);
        let complaint = complaint(&look).expect("it is not healthy");
        assert!(complaint.starts_with("not connected to NATS for 3.0 s") && complaint.contains("cluster.nats"));
    }

    #[test]
    fn a_node_alone_is_warned_and_healthy() {
        let look = look_at(view_of(&[]));
        assert_eq!((troubles(&look), complaint(&look)), (vec![("nodes", Status::Warning)], None));
    }

    #[test]
    fn a_node_that_is_dead_concerns_health_for_a_minute() {
        let dead = |for_time| {
            with(|node| {
                node.health = Health::Dead;
                node.for_time = for_time;
            })
        };
        let (recently, long_ago) = (dead(Duration::from_secs(59)), dead(Duration::from_secs(61)));
        for look in [&recently, &long_ago] {
            assert_eq!(troubles(look), [("node", Status::Problem)]);
        }
        assert!(complaint(&recently).is_some_and(|why| why.starts_with("node 2 has been dead for 59.0 s")));
        assert_eq!(complaint(&long_ago), None);
        let suspect = with(|node| node.health = Health::Suspect);
        assert_eq!(troubles(&suspect), [("node", Status::Warning)]);
        assert!(complaint(&suspect).is_some());
    }

    #[test]
    fn what_was_dropped_is_reported_for_a_minute() {
        let dropped = PacketsDropped { unsealed: 5, ..PacketsDropped::default() };
        let mut look = look_at(ClusterView { dropped, ..view_of(&[2]) });
        (look.unsealed_ago, look.same_node_ago) = (Some(Duration::from_secs(2)), Some(Duration::from_secs(4)));
        assert_eq!(troubles(&look), [("number", Status::Problem), ("seal", Status::Problem)]);
        let complaint = complaint(&look).expect("it is not healthy");
        assert!(complaint.contains("this node's number, 1: it was heard 4.0 s ago"), "{complaint}");
        assert!(complaint.contains("5 so far, the last one 2.0 s ago: have the same secret"), "{complaint}");
        (look.unsealed_ago, look.same_node_ago) = (Some(DROPPED_WITHIN), Some(DROPPED_WITHIN));
        assert_eq!(troubles(&look), []);
    }

    #[test]
    fn links_that_carry_nothing_are_named() {
        let linked = |change: fn(&mut LinkFigures)| with(|node| change(node.link.as_mut().expect("there is one")));
        assert_eq!(troubles(&linked(|link| link.is_open = false)), [("link", Status::Problem)]);
        assert_eq!(troubles(&with(|node| node.link = None)), [("link", Status::Problem)]);
        let silent = linked(|link| link.is_silent = true);
        assert!(complaint(&silent).is_some_and(|why| why.contains("from node 2, although it is alive")));
        let full = linked(|link| (link.is_full, link.unsettled) = (true, 7));
        assert_eq!((troubles(&full), complaint(&full)), (vec![("link", Status::Warning)], None));
        let opening = with(|node| {
            node.for_time = Duration::from_secs(1);
            node.link = Some(LinkFigures::default());
        });
        assert_eq!(troubles(&opening), []);
    }

    #[test]
    fn nodes_of_other_versions_are_named_whether_they_understand_each_other_or_not() {
        let speaking = |lowest, highest| with(|node| node.versions = Versions { lowest, highest });
        let older = Versions { lowest: 1, highest: 1 };
        assert_eq!(look_at(view_of(&[])).view.versions, older);
        assert_eq!(troubles(&speaking(1, 2)), [("versions", Status::Warning)]);
        let apart = speaking(2, 3);
        assert_eq!(troubles(&apart), [("versions", Status::Problem)]);
        let complaint = complaint(&apart).expect("it is not healthy");
        assert!(complaint.contains("node 2 speaks versions 2 to 3 of the protocol"), "{complaint}");
    }

    #[test]
    fn a_view_that_is_old_is_reported() {
        let look = Look { age: Duration::from_secs(12), ..look_at(view_of(&[2])) };
        assert_eq!(troubles(&look), [("thread", Status::Problem)]);
    }
}
