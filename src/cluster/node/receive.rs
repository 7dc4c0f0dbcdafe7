//! What a node does with the packets of the others.

use caxton_shards::domain::{AgentName, NodeId};

use super::peer::Durable;
use super::tasks::Task;
use super::{Node, OTHERS_HEARD_OF_MS, RESPONSES_MAX};
use crate::cluster::inbound::Arrived;
use crate::cluster::link::{Arrival, Link, LinkEvent};
use crate::cluster::lookup::{Question, Response};
use crate::cluster::membership::Change;
use crate::cluster::transport::PacketKind;

impl Node {
    /// Takes a packet. Returns what a task of its own has to do.
    pub(super) fn take(&mut self, packet: &async_nats::Message) -> Vec<Task> {
        match PacketKind::of(&packet.subject) {
            Some(PacketKind::Frame) => self.take_frame(&packet.payload),
            Some(PacketKind::Swim) => {
                self.members.receive(self.began.elapsed(), &packet.payload);
                self.take_changes()
            }
            Some(PacketKind::Lookup) => {
                let question = Question::decode(&packet.payload).filter(|question| question.node != self.own.node);
                let Some(question) = question else { return Vec::new() };
                // A node that looks for an agent does not have it.
                for agent in &question.agents {
                    self.relocate(*agent, question.node);
                }
                if self.responses >= RESPONSES_MAX {
                    // The node asks again.
                    return Vec::new();
                }
                self.responses += 1;
                vec![Task::Respond(question)]
            }
            Some(PacketKind::Found) => Response::decode(&packet.payload).map_or_else(Vec::new, |response| {
                let knows_all = self.now_ms() >= OTHERS_HEARD_OF_MS;
                let nodes = knows_all.then(|| self.live_nodes());
                let located = response.agents.into_iter().filter_map(|(agent, name)| {
                    let located = self.lookups.hear(response.node, agent, name, nodes.as_ref())?;
                    Some(Task::Located(agent, located))
                });
                located.collect()
            }),
            None => Vec::new(),
        }
    }

    /// Begins links to nodes that have joined.
    pub(super) fn take_changes(&mut self) -> Vec<Task> {
        let mut tasks = Vec::new();
        for change in self.members.take_changes() {
            self.has_news = true;
            match change {
                Change::Joined(member) | Change::Rejoined(member) if self.peer(member.node).is_some() => {
                    // The node may have agents for which messages wait.
                    tasks.push(Task::LookForAbsent);
                    self.changed.notify_one();
                }
                // Other nodes may have its agents by now.
                Change::Died(member) => self.relocate_all(member.node),
                _ => {}
            }
        }
        tasks
    }

    fn take_frame(&mut self, frame: &[u8]) -> Vec<Task> {
        let (Ok(from), now_ms) = (Link::sender_of(frame), self.now_ms()) else { return Vec::new() };
        let mut events = Vec::new();
        let Some(peer) = self.peer(from.node) else { return Vec::new() };
        if peer.link.receive(now_ms, frame, &mut events).is_err() {
            // The link has counted the frame as damaged.
            return Vec::new();
        }
        self.changed.notify_one();
        events.into_iter().filter_map(|event| self.take_event(from.node, event)).collect()
    }

    fn take_event(&mut self, node: NodeId, event: LinkEvent) -> Option<Task> {
        match event {
            LinkEvent::Message(arrival) => return self.take_message(node, arrival),
            LinkEvent::Settled(tag) => {
                let Durable { proxy, message, .. } = self.peers.get_mut(&node)?.take_settled(tag)?;
                proxy.inbox.acknowledge(&message);
            }
            LinkEvent::Refused { tag, reason } => {
                let Durable { proxy, message, .. } = self.peers.get_mut(&node)?.take_settled(tag)?;
                proxy.inbox.reject(&message, reason);
            }
            LinkEvent::Gone(agent) => self.relocate(agent, node),
            LinkEvent::Room(agent) => {
                self.send_again(node);
                if let Some(proxy) = self.proxies.get(agent) {
                    proxy.room.notify_one();
                }
            }
            LinkEvent::Writable | LinkEvent::Connected(_) => {
                self.send_again(node);
                self.wake(node);
            }
            LinkEvent::PeerRestarted { volatile_lost, unsettled, .. } => {
                self.lost += volatile_lost;
                self.peers.get_mut(&node)?.begin_again(&unsettled);
                self.send_again(node);
                self.wake(node);
            }
        }
        None
    }

    fn take_message(&mut self, node: NodeId, arrival: Arrival) -> Option<Task> {
        let Arrival { received, sender, message, .. } = arrival;
        let Some((sender, name)) = sender else {
            return Some(Task::Notify { from: node, received, notice: message });
        };
        if self.inbound.is_full() {
            // The node sends more than it has credits for.
            self.return_credit(node, received);
            self.refuse(node, received, "the node has no room for more messages");
            return None;
        }
        let is_new = self.inbound.add(sender, Arrived { message, received });
        is_new.then(|| Task::Admit { sender, name: AgentName::clone(&name), from: node })
    }
}
