//! What the log says of a cluster: what differs between two views of it.

use tracing::{debug, error, info, warn};

use super::{CLUSTER, RouterLog};
use crate::cluster::{ClusterView, Health, NodeView};

impl RouterLog {
    /// Logs what has changed in the cluster. Does not wait.
    pub fn cluster(&self, before: &ClusterView, now: &ClusterView) {
        let changes = changes(before, now);
        if !changes.is_empty() {
            self.write_later(Box::new(move || changes.iter().for_each(Change::log)));
        }
    }
}

/// A change in a cluster.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Change {
    Connected,
    Disconnected,
    Alive { node: u16, boot_epoch: u64 },
    Suspect { node: u16 },
    Dead { node: u16 },
    Silent { node: u16 },
    Heard { node: u16 },
    Lost { messages: u64 },
    Unsealed { packets: u64 },
    SameNode { node: u16 },
}

fn changes(before: &ClusterView, now: &ClusterView) -> Vec<Change> {
    let mut changes = Vec::new();
    match (before.is_connected, now.is_connected) {
        (false, true) => changes.push(Change::Connected),
        (true, false) => changes.push(Change::Disconnected),
        _ => {}
    }
    for node in &now.nodes {
        let former = before.nodes.iter().find(|former| former.node == node.node);
        changes.extend(change_of_health(former, node));
        changes.extend(change_of_link(former, node));
    }
    let grew = |count: fn(&ClusterView) -> u64| Some(count(now).saturating_sub(count(before))).filter(|more| *more > 0);
    changes.extend(grew(|view| view.lost).map(|messages| Change::Lost { messages }));
    changes.extend(grew(|view| view.dropped.unsealed).map(|packets| Change::Unsealed { packets }));
    changes.extend(grew(|view| view.dropped.same_node).map(|_| Change::SameNode { node: now.node.into_inner() }));
    changes
}

fn change_of_health(former: Option<&NodeView>, node: &NodeView) -> Option<Change> {
    let is_same = |former: &NodeView| (former.boot_epoch, former.health) == (node.boot_epoch, node.health);
    if former.is_some_and(is_same) {
        return None;
    }
    let number = node.node.into_inner();
    match node.health {
        Health::Alive => Some(Change::Alive { node: number, boot_epoch: node.boot_epoch }),
        Health::Suspect => Some(Change::Suspect { node: number }),
        Health::Dead => Some(Change::Dead { node: number }),
    }
}

fn change_of_link(former: Option<&NodeView>, node: &NodeView) -> Option<Change> {
    let is_silent = |node: &NodeView| node.link.is_some_and(|link| link.is_silent);
    // That a dead node is silent is no news.
    if node.health != Health::Alive || former.is_none_or(|former| is_silent(former) == is_silent(node)) {
        return None;
    }
    let number = node.node.into_inner();
    Some(if is_silent(node) { Change::Silent { node: number } } else { Change::Heard { node: number } })
}

impl Change {
    fn log(&self) {
        match *self {
            Self::Connected => info!(target: CLUSTER, "connected to NATS"),
            Self::Disconnected => {
                warn!(target: CLUSTER, "not connected to NATS: nothing goes to other nodes or comes from them");
            }
            Self::Alive { node, boot_epoch } => info!(target: CLUSTER, node, boot_epoch, "node is alive"),
            Self::Suspect { node } => debug!(target: CLUSTER, node, "node does not reply"),
            Self::Dead { node } => warn!(target: CLUSTER, node, "node is dead, or has left"),
            Self::Silent { node } => {
                warn!(target: CLUSTER, node, "nothing comes over the link from a node that is alive");
            }
            Self::Heard { node } => info!(target: CLUSTER, node, "the link to a node works again"),
            Self::Lost { messages } => {
                warn!(target: CLUSTER, messages, "volatile messages to or from other nodes got lost");
            }
            Self::Unsealed { packets } => warn!(
                target: CLUSTER,
                packets,
                "packets about membership have a wrong seal: have the same secret in cluster.key_file on all nodes"
            ),
            Self::SameNode { node } => error!(
                target: CLUSTER,
                node,
                "another router of the cluster has the same number: give each its own router.node"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::view_of;

    #[test]
    fn a_view_that_shows_nothing_new_is_not_logged() {
        let mut now = view_of(&[2, 3]);
        now.remote_agents = 7;
        assert_eq!(changes(&view_of(&[2, 3]), &now), []);
    }

    #[test]
    fn nodes_that_come_and_go_are_logged_once() {
        let (alone, before) = (view_of(&[]), view_of(&[2]));
        assert_eq!(changes(&alone, &before), [Change::Alive { node: 2, boot_epoch: 1 }]);
        let with = |change: fn(&mut NodeView)| {
            let mut view = before.clone();
            change(&mut view.nodes[0]);
            view
        };
        let suspect = with(|node| node.health = Health::Suspect);
        assert_eq!(changes(&before, &suspect), [Change::Suspect { node: 2 }]);
        let dead = with(|node| node.health = Health::Dead);
        assert_eq!(changes(&suspect, &dead), [Change::Dead { node: 2 }]);
        assert_eq!(changes(&dead, &alone), [], "it is forgotten");
        let restarted = with(|node| node.boot_epoch = 9);
        assert_eq!(changes(&before, &restarted), [Change::Alive { node: 2, boot_epoch: 9 }]);
    }

    #[test]
    fn links_connections_and_losses_are_logged() {
        let before = view_of(&[2]);
        let mut now = before.clone();
        if let Some(link) = &mut now.nodes[0].link {
            link.is_silent = true;
        }
        (now.is_connected, now.lost) = (false, 4);
        (now.dropped.unsealed, now.dropped.same_node) = (2, 1);
        assert_eq!(
            changes(&before, &now),
            [
                Change::Disconnected,
                Change::Silent { node: 2 },
                Change::Lost { messages: 4 },
                Change::Unsealed { packets: 2 },
                Change::SameNode { node: 1 },
            ]
        );
        assert_eq!(changes(&now, &before), [Change::Connected, Change::Heard { node: 2 }]);
    }
}
