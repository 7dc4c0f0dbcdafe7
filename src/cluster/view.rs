//! What a node knows of its cluster, for people and programs.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use caxton_shards::domain::NodeId;

use super::link::VERSIONS;
pub use super::link::{LinkFigures, Versions};
use super::membership::Figures;
pub use super::membership::{Health, Load};
use crate::router::Router;

/// A cluster as one of its nodes saw it within the last second.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub struct ClusterView {
    /// The cluster's name.
    pub name: String,
    /// This node's number.
    pub node: NodeId,
    /// Distinguishes this node's run from its other runs.
    pub boot_epoch: u64,
    /// What this node speaks.
    pub versions: Versions,
    /// Whether this node is connected to NATS.
    pub is_connected: bool,
    /// Number of agents of other nodes that are known here.
    pub remote_agents: usize,
    /// Volatile messages and notices that got lost on their way, so far.
    pub lost: u64,
    /// Packets about membership that were dropped, so far.
    pub dropped: PacketsDropped,
    /// The other nodes, by number: those that are alive, and those that died not long ago.
    pub nodes: Vec<NodeView>,
}

impl ClusterView {
    /// Returns the view of a node that has not heard of any other.
    pub(super) fn of(router: &Router) -> Self {
        let config = router.config();
        Self {
            name: config.cluster.name.as_str().unwrap_or_default().to_owned(),
            node: config.router.node,
            boot_epoch: router.boot_epoch(),
            versions: VERSIONS,
            is_connected: false,
            remote_agents: 0,
            lost: 0,
            dropped: PacketsDropped::default(),
            nodes: Vec::new(),
        }
    }
}

/// Another node.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub struct NodeView {
    /// Its number.
    pub node: NodeId,
    /// Distinguishes its run from its other runs.
    pub boot_epoch: u64,
    /// What it speaks.
    pub versions: Versions,
    /// Whether it is alive, as far as is known.
    pub health: Health,
    /// For how long that has been so.
    pub for_time: Duration,
    /// Its number of shards.
    pub shards: u16,
    /// How busy it is, if it has said so.
    pub load: Option<Load>,
    /// Figures of the link to it, if there is one.
    pub link: Option<LinkFigures>,
}

/// Numbers of packets about membership that were dropped, by the reason.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct PacketsDropped {
    /// Their seal was missing, or not made with this node's secret.
    pub unsealed: u64,
    /// They are no packets.
    pub malformed: u64,
    /// They are from another router with this node's number.
    pub same_node: u64,
}

impl From<Figures> for PacketsDropped {
    fn from(figures: Figures) -> Self {
        Self { unsealed: figures.unsealed, malformed: figures.malformed, same_node: figures.same_node }
    }
}

/// The view that the cluster's thread renews each second, and other threads read.
#[derive(Debug)]
pub(crate) struct SharedView {
    latest: Mutex<Latest>,
    /// Notified when the view was renewed.
    renewed: Condvar,
}

#[derive(Debug)]
struct Latest {
    view: Arc<ClusterView>,
    renewed: Instant,
    connection_changed: Instant,
    unsealed: Option<Instant>,
    same_node: Option<Instant>,
}

/// The latest view with its age, and how long ago certain things happened, which a single view does not show.
#[derive(Clone, Debug)]
pub(crate) struct Look {
    pub view: Arc<ClusterView>,
    /// The age of the view. If it is more than a second or two, the thread is stuck.
    pub age: Duration,
    /// For how long this node has been connected to NATS, or has not been.
    pub connection_for: Duration,
    /// How long ago a packet was dropped for its seal, if one was.
    pub unsealed_ago: Option<Duration>,
    /// How long ago another router with this node's number was heard, if one was.
    pub same_node_ago: Option<Duration>,
}

impl SharedView {
    pub fn new(view: ClusterView, now: Instant) -> Self {
        let view = Arc::new(view);
        let latest = Latest { view, renewed: now, connection_changed: now, unsealed: None, same_node: None };
        Self { latest: Mutex::new(latest), renewed: Condvar::new() }
    }

    /// Replaces the view, and returns the former one. Only the cluster's thread may call this.
    pub fn renew(&self, view: &Arc<ClusterView>, now: Instant) -> Arc<ClusterView> {
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        let former = std::mem::replace(&mut latest.view, Arc::clone(view));
        latest.renewed = now;
        if latest.view.is_connected != former.is_connected {
            latest.connection_changed = now;
        }
        let (dropped, before) = (latest.view.dropped, former.dropped);
        latest.unsealed = Some(now).filter(|_| dropped.unsealed > before.unsealed).or(latest.unsealed);
        latest.same_node = Some(now).filter(|_| dropped.same_node > before.same_node).or(latest.same_node);
        self.renewed.notify_all();
        former
    }

    /// Blocks until a view meets the condition, and returns it. Returns nothing if none did within the time limit.
    pub fn wait_until(
        &self,
        time_limit: Duration,
        mut condition: impl FnMut(&ClusterView) -> bool,
    ) -> Option<Arc<ClusterView>> {
        let latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        let fails = |latest: &mut Latest| !condition(&latest.view);
        let waited = self.renewed.wait_timeout_while(latest, time_limit, fails);
        let (latest, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        (!timeout.timed_out()).then(|| Arc::clone(&latest.view))
    }

    /// Returns the latest view with its age.
    pub fn look(&self, now: Instant) -> Look {
        let latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        let since = |then: Instant| now.saturating_duration_since(then);
        Look {
            view: Arc::clone(&latest.view),
            age: since(latest.renewed),
            connection_for: since(latest.connection_changed),
            unsealed_ago: latest.unsealed.map(since),
            same_node_ago: latest.same_node.map(since),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Returns a number of a node.
    pub fn number(number: u16) -> NodeId {
        NodeId::try_new(number).expect("it is legal")
    }

    /// Returns the view of node 1 of a cluster with these other nodes, all of which it can reach.
    pub fn view_of(others: &[u16]) -> ClusterView {
        let of_node = |other: &u16| NodeView {
            node: number(*other),
            boot_epoch: 1,
            versions: VERSIONS,
            health: Health::Alive,
            for_time: Duration::from_mins(1),
            shards: 2,
            load: None,
            link: Some(LinkFigures { is_open: true, ..LinkFigures::default() }),
        };
        ClusterView {
            name: "test".to_owned(),
            node: number(1),
            boot_epoch: 1,
            versions: VERSIONS,
            is_connected: true,
            remote_agents: 0,
            lost: 0,
            dropped: PacketsDropped::default(),
            nodes: others.iter().map(of_node).collect(),
        }
    }

    #[test]
    fn a_look_says_how_long_ago_something_was_so() {
        let (start, seconds) = (Instant::now(), Duration::from_secs);
        let shared = SharedView::new(ClusterView { is_connected: false, ..view_of(&[]) }, start);
        let look = shared.look(start + seconds(1));
        assert_eq!((look.age, look.connection_for, look.same_node_ago), (seconds(1), seconds(1), None));
        let dropped = PacketsDropped { same_node: 3, ..PacketsDropped::default() };
        let view = Arc::new(ClusterView { dropped, ..view_of(&[2]) });
        assert!(!shared.renew(&view, start + seconds(2)).is_connected);
        assert!(shared.renew(&view, start + seconds(5)).is_connected);
        let look = shared.look(start + seconds(6));
        assert!(look.view.is_connected && look.view.nodes.len() == 1);
        assert_eq!((look.age, look.connection_for), (seconds(1), seconds(4)));
        assert_eq!((look.same_node_ago, look.unsealed_ago), (Some(seconds(4)), None));
    }
}
