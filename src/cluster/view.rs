//! What a node knows of its cluster, for people and programs.

use std::time::Duration;

use caxton_shards::domain::NodeId;

pub use super::link::LinkFigures;
pub use super::membership::{Health, Load};
use crate::config::Config;

/// A cluster as one of its nodes saw it within the last second.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub struct ClusterView {
    /// The cluster's name.
    pub name: String,
    /// This node's number.
    pub node: NodeId,
    /// Whether this node is connected to NATS.
    pub is_connected: bool,
    /// Number of agents of other nodes that are known here.
    pub remote_agents: usize,
    /// Volatile messages and notices that got lost on their way, so far.
    pub lost: u64,
    /// The other nodes, by number: those that are alive, and those that died not long ago.
    pub nodes: Vec<NodeView>,
}

impl ClusterView {
    /// Returns what a node knows that has not heard of anybody.
    pub(super) fn of(config: &Config) -> Self {
        let name = config.cluster.name.as_str().unwrap_or_default().to_owned();
        Self { name, node: config.router.node, is_connected: false, remote_agents: 0, lost: 0, nodes: Vec::new() }
    }
}

/// Another node.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub struct NodeView {
    /// Its number.
    pub node: NodeId,
    /// Tells its run from others.
    pub boot_epoch: u64,
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
