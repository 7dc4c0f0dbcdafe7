//! What a node does from time to time, and what has gathered to be published or shown.

use std::time::Duration;

use bytes::Bytes;
use caxton_shards::domain::NodeId;

use super::tasks::Task;
use super::{Node, REPORTED_EVERY_MS};
use crate::cluster::lookup::Question;
use crate::cluster::membership::{Known, Load, To};
use crate::cluster::transport::{Destination, PacketKind};
use crate::cluster::view::{ClusterView, NodeView};

impl Node {
    /// Returns the time until something is due.
    pub(super) fn due_in(&self) -> Duration {
        Duration::from_millis(self.next_deadline_ms()).saturating_sub(self.began.elapsed())
    }

    fn next_deadline_ms(&self) -> u64 {
        let links = self.peers.values().filter_map(|peer| peer.link.next_deadline_ms());
        let reported = self.reported_at_ms + REPORTED_EVERY_MS;
        let members = u64::try_from(self.members.next_due().as_millis()).unwrap_or(u64::MAX).saturating_add(1);
        links.chain(self.lookups.next_deadline_ms()).chain([members]).min().unwrap_or(reported).min(reported)
    }

    /// Does what is due. Returns what a task of its own has to do.
    pub(super) fn on_deadline(&mut self) -> Vec<Task> {
        let (now_ms, mut tasks) = (self.now_ms(), Vec::new());
        if now_ms < self.next_deadline_ms() {
            return tasks;
        }
        let due: Vec<NodeId> = self
            .peers
            .iter()
            .filter(|(_, peer)| peer.link.next_deadline_ms().is_some_and(|due_ms| due_ms <= now_ms))
            .map(|(node, _)| *node)
            .collect();
        for node in due {
            self.with_link(node, |link| link.on_deadline(now_ms));
        }
        let nodes = self.live_nodes();
        let ended = self.lookups.on_deadline(now_ms, &nodes);
        tasks.extend(ended.into_iter().map(|(agent, located)| Task::Located(agent, located)));
        if now_ms >= self.reported_at_ms + REPORTED_EVERY_MS {
            self.reported_at_ms = now_ms;
            self.report();
        }
        let now = self.began.elapsed();
        if self.members.next_due() <= now {
            self.members.on_timer(now);
        }
        tasks.extend(self.take_changes());
        tasks
    }

    /// Spreads how busy this node is.
    fn report(&mut self) {
        self.has_news = true;
        let stats = self.router.stats();
        let rounded = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        let (agents, pending) = (rounded(stats.agents() as u64), rounded(stats.account().pending));
        self.members.report(Load { agents, pending });
    }

    /// Tells the others that this node leaves.
    pub(super) fn leave(&mut self) {
        let now = self.began.elapsed();
        self.members.leave(now);
    }

    /// Returns what this node knows, if that has changed or is a second old.
    pub(super) fn next_view(&mut self, is_connected: bool) -> Option<ClusterView> {
        if !std::mem::take(&mut self.has_news) {
            return None;
        }
        let now = self.began.elapsed();
        let node = |known: &Known| NodeView {
            node: known.member.node,
            boot_epoch: known.member.boot_epoch,
            versions: known.member.versions,
            health: known.health,
            for_time: now.saturating_sub(known.since),
            shards: known.member.shards,
            load: self.members.load_of(&known.member),
            link: self.peers.get(&known.member.node).map(|peer| peer.link.figures()),
        };
        let nodes = self.members.members().map(node).collect();
        let remote_agents = self.proxies.len();
        Some(ClusterView {
            is_connected,
            remote_agents,
            lost: self.lost,
            dropped: self.members.figures().into(),
            nodes,
            ..ClusterView::of(&self.router)
        })
    }

    /// Returns what is to be published now.
    pub(super) fn take_packets(&mut self) -> Vec<(PacketKind, Destination, Bytes)> {
        let now_ms = self.now_ms();
        let mut packets = std::mem::take(&mut self.packets);
        while let Some(agents) = self.lookups.next_question(now_ms) {
            let question = Question { node: self.own.node, agents };
            packets.push((PacketKind::Lookup, Destination::All, question.encode().into()));
        }
        for packet in self.members.take_packets() {
            let to = match packet.to {
                To::All => Destination::All,
                To::Node(node) => Destination::Node(node),
            };
            packets.push((PacketKind::Swim, to, packet.bytes.into()));
        }
        for (node, peer) in &mut self.peers {
            while let Some(frame) = peer.link.next_frame(now_ms) {
                packets.push((PacketKind::Frame, Destination::Node(*node), frame));
            }
        }
        packets
    }
}
