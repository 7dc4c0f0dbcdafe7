//! This node of a cluster: what comes from the others, what goes to them, and what is due.
//!
//! Everything here runs on the link thread. The state is borrowed for a moment at a time, never across an await. `run` is
//! the main task: it hands what comes to `receive`, does the `duties` that are due, publishes what has gathered, and spawns
//! `tasks` for what takes time. Of each other node, `peer` keeps what was sent to it.

mod duties;
mod peer;
mod receive;
mod run;
mod tasks;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use caxton_shards::api::tells_that_time_is_up;
use caxton_shards::domain::{AgentName, NodeId};
use caxton_shards::message::{AgentId, Message};
use hashbrown::HashMap;
use tokio::sync::Notify;

use self::peer::Peer;
pub(super) use self::run::run;
use self::tasks::Task;
pub(super) use self::tasks::name_of;
use super::inbound::{Arrived, Inbound};
use super::link::{Link, LinkConfig, NodeRun, Outgoing, PAYLOAD_BYTES_MIN, Received, SendError, Tag, VERSIONS};
use super::lookup::{Located, Lookups};
use super::membership::{Health, Member, Membership, Seal};
use super::proxies::{NoProxyError, Proxies, Proxy};
use super::transport::{Destination, PacketKind};
use crate::router::Router;

/// The state of a node, which the tasks of its thread share.
pub(super) type Shared = Rc<RefCell<Node>>;

/// Maximum number of other nodes.
const NODES_MAX: usize = 256;
/// Maximum number of names that are remembered.
const NAMES_MAX: usize = 16_384;
/// Time without a frame after which a link counts as silent.
const SILENCE_MS_MAX: u64 = 2_000;
/// Maximum number of questions of other nodes that are answered at the same time.
const RESPONSES_MAX: usize = 64;
/// Time in which a node hears of all others after its start.
const OTHERS_HEARD_OF_MS: u64 = 3_000;
/// How often this node reports its load.
const REPORTED_EVERY_MS: u64 = 1_000;
/// This node, as the tasks of its thread see it.
pub(super) struct Node {
    pub router: Router,
    pub inbound: Inbound,
    pub proxies: Proxies,
    pub proxies_max: usize,
    own: NodeRun,
    /// The configuration of links that begin now.
    config: LinkConfig,
    peers: BTreeMap<NodeId, Peer>,
    lookups: Lookups,
    names: HashMap<AgentId, Rc<AgentName>>,
    last_tag: u64,
    /// Questions that are being answered.
    responses: usize,
    lost: u64,
    packets: Vec<(PacketKind, Destination, Bytes)>,
    members: Membership,
    reported_at_ms: u64,
    /// Whether something is to be shown that was not.
    has_news: bool,
    /// Wakes the task that publishes.
    changed: Rc<Notify>,
    began: Instant,
    /// Time since the router's start, as of this turn or batch.
    time: Duration,
}

impl Node {
    /// Creates the state of this node, whose packets about membership are sealed with this secret.
    pub fn new(router: &Router, secret: Option<&[u8]>) -> Self {
        let config = router.config();
        let (node, boot_epoch) = (config.router.node, router.boot_epoch());
        let shards = router.partition().shard_count();
        let own = Member { node, boot_epoch, renewal: 0, versions: VERSIONS, shards };
        let seal = Seal::new(config.cluster.name.as_str().unwrap_or_default(), secret);
        Self {
            inbound: Inbound::new(router),
            proxies: Proxies::default(),
            proxies_max: config.cluster.remote_agents_max.into_inner() as usize,
            own: NodeRun { node, boot_epoch },
            config: LinkConfig { payload_bytes_max: PAYLOAD_BYTES_MIN, silence_ms_max: SILENCE_MS_MAX },
            peers: BTreeMap::new(),
            lookups: Lookups::default(),
            names: HashMap::new(),
            last_tag: 0,
            responses: 0,
            lost: 0,
            packets: Vec::new(),
            members: Membership::new(Duration::ZERO, own, seal, router.boot_epoch()),
            reported_at_ms: 0,
            has_news: true,
            changed: Rc::new(Notify::new()),
            began: Instant::now(),
            time: router.running_for(),
            router: router.clone(),
        }
    }

    /// Reads the time since the router's start, from which the lifetimes of messages are counted.
    pub fn read_clock(&mut self) {
        self.time = self.router.running_for();
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Returns the other nodes that are not known to be dead.
    fn live_nodes(&self) -> BTreeSet<NodeId> {
        let live = self.members.members().filter(|known| known.health != Health::Dead);
        live.map(|known| known.member.node).collect()
    }

    /// Returns another node, and begins a link to it if there is none. Returns nothing for this node itself, and if there
    /// are too many nodes.
    fn peer(&mut self, node: NodeId) -> Option<&mut Peer> {
        if node == self.own.node || (self.peers.len() >= NODES_MAX && !self.peers.contains_key(&node)) {
            return None;
        }
        let (config, own) = (self.config, self.own);
        Some(self.peers.entry(node).or_insert_with(|| Peer::new(Link::new(config, own, node))))
    }

    // From agents here to other nodes.

    /// Whether the link takes another message for an agent.
    pub fn has_room(&self, proxy: &Proxy) -> bool {
        self.peers.get(&proxy.node.get()).is_some_and(|peer| peer.has_room_for(proxy.id()))
    }

    /// Sends a message to an agent of another node.
    ///
    /// # Errors
    ///
    /// The link cannot take it, now or at all.
    pub fn send(
        &mut self,
        proxy: &Rc<Proxy>,
        sender: &Rc<AgentName>,
        message: &Message,
        is_kept: bool,
    ) -> Result<(), SendError> {
        let Some(peer) = self.peers.get_mut(&proxy.node.get()) else { return Err(SendError::Full) };
        if is_kept {
            let tag = Tag::MIN.saturating_add(self.last_tag);
            peer.send_durable(self.time, tag, proxy, sender, message)?;
            self.last_tag = tag.get();
        } else {
            peer.send(self.time, proxy, sender, message)?;
        }
        self.changed.notify_one();
        Ok(())
    }

    /// Sends a notice of this node's router to an agent of another node. If there is no room for it, it is dropped, as in a
    /// full control lane. A notice that time is up is not sent: each node tells its own agents.
    pub fn send_notice(&mut self, proxy: &Proxy, notice: &Message) {
        if tells_that_time_is_up(notice) {
            return;
        }
        let Some(peer) = self.peers.get_mut(&proxy.node.get()) else { return };
        let outgoing = Outgoing { tag: None, sender: None, target: proxy.id(), message: notice, remaining: None };
        if peer.link.send(&outgoing).is_err() {
            self.lost += 1;
        }
        self.changed.notify_one();
    }

    /// Gives up a message that cannot be sent.
    pub fn give_up(&mut self, proxy: &Proxy, message: &Message, is_kept: bool, why: &str) {
        if is_kept {
            proxy.inbox.reject(message, why);
        } else {
            self.lost += 1;
        }
    }

    /// Forgets a proxy whose agent was removed.
    pub fn forget(&mut self, proxy: &Rc<Proxy>) {
        self.proxies.forget(proxy);
    }

    // From other nodes to agents here.

    /// Tells a node that another message may be sent to the same agent.
    pub fn return_credit(&mut self, node: NodeId, received: Received) {
        self.with_link(node, |link| link.credit(received));
    }

    /// Tells a node that a message is safe here.
    pub fn settle(&mut self, node: NodeId, received: Received) {
        self.with_link(node, |link| link.settle(received));
    }

    /// Tells a node that a message was refused.
    pub fn refuse(&mut self, node: NodeId, received: Received, why: &str) {
        if !received.is_to_be_settled() {
            self.lost += 1;
        }
        self.with_link(node, |link| link.refuse(received, why));
    }

    /// Gives up the messages of a sender that has no proxy.
    pub fn give_up_sender(&mut self, sender: AgentId, from: NodeId, error: &NoProxyError) {
        let why = error.to_string();
        for Arrived { received, .. } in self.inbound.give_up(sender) {
            self.return_credit(from, received);
            // If this router stops, the sender's node keeps durable messages and sends them to the next run.
            if error.is_end() && received.is_to_be_settled() {
                continue;
            }
            self.refuse(from, received, &why);
        }
    }

    /// Counts volatile messages that got lost.
    pub fn count_lost(&mut self, messages: u64) {
        self.lost += messages;
    }

    fn with_link(&mut self, node: NodeId, what: impl FnOnce(&mut Link)) {
        if let Some(peer) = self.peers.get_mut(&node) {
            what(&mut peer.link);
            self.changed.notify_one();
        }
    }

    /// Sends what is to be sent again to a node, as far as there is room. Then its proxies go on.
    fn send_again(&mut self, node: NodeId) {
        let Some(peer) = self.peers.get_mut(&node) else { return };
        let was_last = peer.send_again(self.time);
        self.changed.notify_one();
        if was_last {
            self.wake(node);
        }
    }

    /// Sends an agent's messages that its former node has not settled to its new node, before any others.
    pub fn move_unsettled(&mut self, agent: AgentId, from: NodeId, to: NodeId) {
        let Some(former) = self.peers.get_mut(&from).filter(|_| from != to) else { return };
        let moved = former.take_all_of(agent);
        if let Some(peer) = self.peer(to) {
            peer.send_first(moved);
        }
        self.send_again(to);
    }

    /// Has the proxies of a node look whether there is room.
    fn wake(&self, node: NodeId) {
        for proxy in self.proxies.iter().filter(|proxy| proxy.node.get() == node) {
            proxy.room.notify_one();
        }
    }

    /// Looks for an agent that is not where it was.
    fn relocate(&mut self, agent: AgentId, not_at: NodeId) {
        if self.proxies.get(agent).is_some_and(|proxy| proxy.node.get() == not_at) {
            // If too many agents are looked for, the next message that is refused starts another attempt.
            self.lookups.begin(agent);
            self.changed.notify_one();
        }
    }

    /// Looks for the agents of a node that is dead.
    fn relocate_all(&mut self, not_at: NodeId) {
        let agents: Vec<AgentId> =
            self.proxies.iter().filter(|proxy| proxy.node.get() == not_at).map(|proxy| proxy.id()).collect();
        for agent in agents {
            self.lookups.begin(agent);
        }
        self.changed.notify_one();
    }

    /// Tells the other nodes that an agent is not here, unless it is known to be elsewhere: questions may have got lost.
    fn tell_gone(&mut self, agent: AgentId) {
        if self.proxies.get(agent).is_none() {
            for peer in self.peers.values_mut() {
                peer.link.gone(agent);
            }
            self.changed.notify_one();
        }
    }

    /// Whether an agent's node may come back with it.
    fn may_come_back(&self, agent: AgentId) -> bool {
        let node = self.proxies.get(agent).map(|proxy| proxy.node.get());
        node.is_some_and(|node| !self.live_nodes().contains(&node))
    }

    /// Looks for agents. Returns the tasks that give up those for which there is no room among the lookups.
    fn look_for_all(&mut self, agents: Vec<AgentId>) -> Vec<Task> {
        if agents.is_empty() {
            return Vec::new();
        }
        let too_many = |agent: &AgentId| !self.lookups.begin(*agent);
        let refused: Vec<AgentId> = agents.into_iter().filter(too_many).collect();
        self.changed.notify_one();
        refused.into_iter().map(|agent| Task::Located(agent, Located::Unknown(Vec::new()))).collect()
    }
}
