//! This node of a cluster: what comes from the others, what goes to them, and what is due.
//!
//! Everything here runs on the link thread. The state is borrowed for a moment at a time, never across an await.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::num::NonZeroU64;
use std::pin::pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_nats::Subscriber;
use bytes::Bytes;
use caxton_shards::api::{AgentKind, tells_of_timeout};
use caxton_shards::domain::{AgentName, NodeId};
use caxton_shards::message::{AgentId, Message};
use futures_lite::StreamExt as _;
use futures_lite::future::or;
use tokio::sync::{Notify, oneshot};
use tokio::time::sleep_until;

use super::inbound::{self, Arrived, Inbound};
use super::link::{Arrival, Incarnation, Link, LinkConfig, LinkEvent, Outgoing, Received, SendError, Tag};
use super::lookup::{Located, Lookups, Question, Response};
use super::membership::{Change, Health, Known, Load, Member, Membership, Seal, To, Versions};
use super::proxies::{self, Proxies, Proxy};
use super::transport::{Destination, PacketKind, Transport};
use super::view::{ClusterView, NodeView};
use crate::router::Router;

/// The state of a node, which the tasks of its thread share.
pub(super) type Shared = Rc<RefCell<Node>>;

/// Maximum number of other nodes.
const NODES_MAX: usize = 256;
/// Maximum number of names that are remembered.
const NAMES_MAX: usize = 16_384;
/// After how long without a word a node counts as gone.
const SILENCE_MS_MAX: u64 = 2_000;
/// Maximum number of questions of other nodes that are answered at the same time.
const RESPONSES_MAX: usize = 64;
/// Time in which a node hears of all others after its start.
const OTHERS_HEARD_OF_MS: u64 = 3_000;
/// How often this node reports its load.
const REPORTED_EVERY_MS: u64 = 1_000;
/// The versions of the frames that this node understands.
const VERSIONS: Versions = Versions { min: 1, max: 1 };

/// Another node.
struct Peer {
    link: Link,
    /// Durable messages that it has not settled. Each has a place in an inbox, which bounds them.
    unsettled: BTreeMap<Tag, Unsettled>,
    /// Those that are sent again before anything else, because it was restarted or their receivers moved.
    again: BTreeMap<Tag, Unsettled>,
}

/// A durable message that was sent and not settled.
struct Unsettled {
    proxy: Rc<Proxy>,
    sender: AgentName,
    message: Message,
}

/// This node, as the tasks of its thread see it.
pub(super) struct Node {
    pub router: Router,
    pub inbound: Inbound,
    pub proxies: Proxies,
    pub proxies_max: usize,
    own: Incarnation,
    config: LinkConfig,
    peers: BTreeMap<NodeId, Peer>,
    lookups: Lookups,
    names: HashMap<AgentId, AgentName>,
    last_tag: u64,
    /// Questions that are being answered.
    responses: usize,
    lost: u64,
    packets: Vec<(PacketKind, Destination, Bytes)>,
    members: Membership,
    /// Packets of another router with this node's number, so far.
    namesakes: u64,
    reported_at_ms: u64,
    /// Whether something is to be shown that was not.
    has_news: bool,
    /// Wakes the task that publishes.
    changed: Rc<Notify>,
    began: Instant,
}

/// What the main task was woken for.
enum Turn {
    Packet(async_nats::Message),
    Wanted(Vec<AgentId>),
    Due,
    Stop,
}

impl Node {
    /// Creates the state of this node, whose packets about membership are sealed with this secret.
    pub fn new(router: &Router, payload_bytes_max: usize, secret: Option<&[u8]>) -> Self {
        let config = router.config();
        let (node, boot_epoch) = (config.router.node, router.boot_epoch());
        let shards = router.partition().shard_count();
        let own = Member { node, boot_epoch, renewal: 0, versions: VERSIONS, shards };
        let seal = Seal::new(config.cluster.name.as_str().unwrap_or_default(), secret);
        Self {
            inbound: Inbound::new(router),
            proxies: Proxies::default(),
            proxies_max: config.cluster.remote_agents_max.into_inner() as usize,
            own: Incarnation { node, boot_epoch },
            config: LinkConfig { payload_bytes_max, silence_ms_max: SILENCE_MS_MAX },
            peers: BTreeMap::new(),
            lookups: Lookups::default(),
            names: HashMap::new(),
            last_tag: 0,
            responses: 0,
            lost: 0,
            packets: Vec::new(),
            members: Membership::new(Duration::ZERO, own, seal, router.boot_epoch()),
            namesakes: 0,
            reported_at_ms: 0,
            has_news: true,
            changed: Rc::new(Notify::new()),
            began: Instant::now(),
            router: router.clone(),
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Returns the other nodes that are not known to be dead.
    fn live_nodes(&self) -> BTreeSet<NodeId> {
        let live = self.members.members().filter(|known| known.health != Health::Dead);
        live.map(|known| known.member.node).collect()
    }

    /// Returns the link to a node, which begins when the node is first heard of. None if there are too many nodes, or it
    /// is this one.
    fn peer(&mut self, node: NodeId) -> Option<&mut Peer> {
        if node == self.own.node || (self.peers.len() >= NODES_MAX && !self.peers.contains_key(&node)) {
            return None;
        }
        let (config, own) = (self.config, self.own);
        Some(self.peers.entry(node).or_insert_with(|| Peer {
            link: Link::new(config, own, node),
            unsettled: BTreeMap::new(),
            again: BTreeMap::new(),
        }))
    }

    // From agents here to other nodes.

    /// Whether the link takes another message for an agent.
    pub fn has_room(&self, proxy: &Proxy) -> bool {
        let peer = self.peers.get(&proxy.node.get());
        peer.is_some_and(|peer| peer.again.is_empty() && peer.link.room_for(proxy.id()))
    }

    /// Sends a message to an agent of another node.
    ///
    /// # Errors
    ///
    /// The link cannot take it, now or at all.
    pub fn send(
        &mut self,
        proxy: &Rc<Proxy>,
        sender: &AgentName,
        message: &Message,
        is_kept: bool,
    ) -> Result<(), SendError> {
        let remaining = self.router.lifetime_left(message);
        let Some(peer) = self.peers.get_mut(&proxy.node.get()).filter(|peer| peer.again.is_empty()) else {
            return Err(SendError::Full);
        };
        let tag = is_kept.then_some(NonZeroU64::MIN.saturating_add(self.last_tag));
        let outgoing = Outgoing { tag, sender: Some(sender), target: proxy.id(), message, remaining };
        peer.link.send(&outgoing)?;
        if let Some(tag) = tag {
            self.last_tag += 1;
            let (proxy, sender, message) = (Rc::clone(proxy), sender.clone(), message.clone());
            peer.unsettled.insert(tag, Unsettled { proxy, sender, message });
        }
        self.changed.notify_one();
        Ok(())
    }

    /// Sends a notice of this node's router to an agent of another node. One for which there is no room is dropped, as in a
    /// full control lane. Each node tells its own agents of conversations that timed out.
    pub fn send_notice(&mut self, proxy: &Proxy, notice: &Message) {
        if tells_of_timeout(notice) {
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

    // What other nodes say.

    /// Takes a packet. Returns what a task of its own has to do.
    fn take(&mut self, packet: &async_nats::Message) -> Vec<Task> {
        match PacketKind::of(&packet.subject) {
            Some(PacketKind::Frame) => self.take_frame(&packet.payload),
            Some(PacketKind::Swim) => {
                self.members.receive(self.began.elapsed(), &packet.payload);
                self.take_changes()
            }
            Some(PacketKind::Lookup) => {
                let question = Question::decode(&packet.payload).filter(|question| question.node != self.own.node);
                let Some(question) = question else { return Vec::new() };
                // Who looks for an agent does not have it.
                for agent in &question.agents {
                    self.relocate(*agent, question.node);
                }
                if self.responses >= RESPONSES_MAX {
                    // It asks again.
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
    fn take_changes(&mut self) -> Vec<Task> {
        let mut tasks = Vec::new();
        for change in self.members.take_changes() {
            self.has_news = true;
            match change {
                Change::Joined(member) | Change::Rejoined(member) if self.peer(member.node).is_some() => {
                    // It may have agents for which messages wait.
                    tasks.push(Task::LookForAbsent);
                    self.changed.notify_one();
                }
                // Others may have its agents by now.
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
            // The link counts it.
            return Vec::new();
        }
        self.changed.notify_one();
        events.into_iter().filter_map(|event| self.take_event(from.node, event)).collect()
    }

    fn take_event(&mut self, node: NodeId, event: LinkEvent) -> Option<Task> {
        match event {
            LinkEvent::Message(arrival) => return self.take_message(node, arrival),
            LinkEvent::Settled(tag) => {
                let Unsettled { proxy, message, .. } = self.peers.get_mut(&node)?.unsettled.remove(&tag)?;
                proxy.inbox.acknowledge(&message);
            }
            LinkEvent::Refused { tag, reason } => {
                let Unsettled { proxy, message, .. } = self.peers.get_mut(&node)?.unsettled.remove(&tag)?;
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
            LinkEvent::PeerRestarted { volatile_lost, .. } => {
                self.lost += volatile_lost;
                let peer = self.peers.get_mut(&node)?;
                let unsettled = std::mem::take(&mut peer.unsettled);
                peer.again.extend(unsettled);
                self.send_again(node);
                self.wake(node);
            }
            // Membership says which nodes are alive.
            LinkEvent::Silent | LinkEvent::Alive => {}
        }
        None
    }

    fn take_message(&mut self, node: NodeId, arrival: Arrival) -> Option<Task> {
        let Arrival { received, sender, message, .. } = arrival;
        let Some((sender, name)) = sender else {
            self.return_credit(node, received);
            return Some(Task::Notify(message));
        };
        if self.inbound.is_full() {
            // The node sends more than it has credits for.
            self.return_credit(node, received);
            self.refuse(node, received, "the node has no room for more messages");
            return None;
        }
        let is_new = self.inbound.add(sender, Arrived { message, received });
        is_new.then(|| Task::Admit(sender, AgentName::clone(&name), node))
    }

    /// Sends what is to be sent again to a node, as far as there is room. Then its proxies go on.
    fn send_again(&mut self, node: NodeId) {
        let Some(peer) = self.peers.get_mut(&node).filter(|peer| !peer.again.is_empty()) else { return };
        while let Some((tag, unsettled)) = peer.again.pop_first() {
            let Unsettled { proxy, sender, message } = &unsettled;
            let remaining = self.router.lifetime_left(message);
            let outgoing = Outgoing { tag: Some(tag), sender: Some(sender), target: proxy.id(), message, remaining };
            if peer.link.send(&outgoing).is_err() {
                peer.again.insert(tag, unsettled);
                return;
            }
            peer.unsettled.insert(tag, unsettled);
        }
        self.changed.notify_one();
        self.wake(node);
    }

    /// Has what an agent's former node has not settled sent to its new one, before what follows.
    pub fn move_unsettled(&mut self, agent: AgentId, from: NodeId, to: NodeId) {
        let Some(former) = self.peers.get_mut(&from).filter(|_| from != to) else { return };
        let is_its = |_: &Tag, unsettled: &mut Unsettled| unsettled.proxy.id() == agent;
        let mut moved: BTreeMap<Tag, Unsettled> = former.unsettled.extract_if(.., is_its).collect();
        moved.extend(former.again.extract_if(.., is_its));
        if let Some(peer) = self.peer(to) {
            peer.again.extend(moved);
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
            // If too many are looked for, the next message for it that is refused leads here again.
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

    /// Tells the other nodes that an agent is not here, if it was not known that it is elsewhere. Questions may get lost.
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

    fn look_for_all(&mut self, agents: Vec<AgentId>) -> Vec<Task> {
        let too_many = |agent: &AgentId| !self.lookups.begin(*agent);
        let refused: Vec<AgentId> = agents.into_iter().filter(too_many).collect();
        self.changed.notify_one();
        refused.into_iter().map(|agent| Task::Located(agent, Located::Unknown(Vec::new()))).collect()
    }

    // What is due.

    fn next_deadline_ms(&self) -> u64 {
        let links = self.peers.values().filter_map(|peer| peer.link.next_deadline_ms());
        let reported = self.reported_at_ms + REPORTED_EVERY_MS;
        let members = u64::try_from(self.members.next_due().as_millis()).unwrap_or(u64::MAX).saturating_add(1);
        links.chain(self.lookups.next_deadline_ms()).chain([members]).min().unwrap_or(reported).min(reported)
    }

    fn on_deadline(&mut self) -> Vec<Task> {
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
            let mut events = Vec::new();
            if let Some(peer) = self.peers.get_mut(&node) {
                peer.link.on_deadline(now_ms, &mut events);
            }
            tasks.extend(events.into_iter().filter_map(|event| self.take_event(node, event)));
        }
        let nodes = self.live_nodes();
        let ended = self.lookups.on_deadline(now_ms, &nodes);
        tasks.extend(ended.into_iter().map(|(agent, located)| Task::Located(agent, located)));
        if now_ms >= self.reported_at_ms + REPORTED_EVERY_MS {
            self.reported_at_ms = now_ms;
            self.has_news = true;
            let stats = self.router.stats();
            let rounded = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
            let (agents, pending) = (rounded(stats.agents() as u64), rounded(stats.account().pending));
            self.members.report(Load { agents, pending });
            let same_node = self.members.figures().same_node;
            if same_node > std::mem::replace(&mut self.namesakes, same_node) {
                tracing::error!(
                    node = self.own.node.into_inner(),
                    "another router of the cluster has the same number: give each its own router.node"
                );
            }
        }
        let now = self.began.elapsed();
        if self.members.next_due() <= now {
            self.members.on_timer(now);
        }
        tasks.extend(self.take_changes());
        tasks
    }

    /// Returns what this node knows, if that has changed or is a second old.
    fn next_view(&mut self, is_connected: bool) -> Option<ClusterView> {
        if !std::mem::take(&mut self.has_news) {
            return None;
        }
        let now = self.began.elapsed();
        let node = |known: &Known| NodeView {
            node: known.member.node,
            boot_epoch: known.member.boot_epoch,
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
            nodes,
            ..ClusterView::of(self.router.config())
        })
    }

    /// Returns what is to be published now.
    fn take_packets(&mut self) -> Vec<(PacketKind, Destination, Bytes)> {
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

/// What takes time, and is done by a task of its own.
enum Task {
    /// Hands a sender's messages to the router.
    Admit(AgentId, AgentName, NodeId),
    /// Hands a notice of another node's router to an agent.
    Notify(Message),
    /// Says which agents are here.
    Respond(Question),
    /// Does what the end of a lookup means.
    Located(AgentId, Located),
    /// Looks for agents for which messages of an earlier run wait.
    LookForAbsent,
}

impl Task {
    async fn run(self, node: Shared) {
        let router = node.borrow().router.clone();
        match self {
            Self::Admit(sender, name, from) => inbound::empty(node, sender, name, from).await,
            Self::Notify(notice) => {
                if router.notify(vec![notice]).await.is_err() {
                    node.borrow_mut().count_lost(1);
                }
            }
            Self::Respond(question) => respond(&node, &router, question).await,
            Self::Located(agent, located) => settle_in(&node, &router, agent, located).await,
            // The router stops otherwise.
            Self::LookForAbsent => drop(router.want_absent().await),
        }
    }
}

/// Says which of the agents that a node looks for are here.
async fn respond(node: &Shared, router: &Router, question: Question) {
    let mut agents = BTreeMap::new();
    for agent in question.agents {
        let Ok(view) = router.agent(agent).await else { continue };
        let name = match view {
            Some(view) => match view.kind {
                Some(AgentKind::Handler | AgentKind::Inbox) => AgentName::try_new(view.name).ok(),
                // It was here, and may be registered again: nothing can be said.
                Some(AgentKind::Absent) if !view.name.is_empty() => continue,
                _ => None,
            },
            None => None,
        };
        agents.insert(agent, name);
    }
    let mut node = node.borrow_mut();
    let response = Response { node: node.own.node, agents };
    node.responses -= 1;
    node.packets.push((PacketKind::Found, Destination::Node(question.node), response.encode().into()));
    node.changed.notify_one();
}

/// Registers an agent that was found, or gives up what waits for one that was not.
async fn settle_in(node: &Shared, router: &Router, agent: AgentId, located: Located) {
    node.borrow_mut().tell_gone(agent);
    let is_unknown = matches!(located, Located::Unknown(_));
    let why = match located {
        Located::At(at, name) => match proxies::ensure(node, &name, at).await {
            Ok(proxy) => return proxy.room.notify_one(),
            Err(why) => why,
        },
        Located::Nowhere => "no node of the cluster has it".to_owned(),
        Located::Unknown(nodes) => {
            let nodes: Vec<String> = nodes.iter().map(ToString::to_string).collect();
            format!("no node of the cluster says that it has it, and these did not respond: {}", nodes.join(", "))
        }
    };
    if is_unknown && node.borrow().proxies.get(agent).is_some() || node.borrow().may_come_back(agent) {
        return;
    }
    let proxy = node.borrow_mut().proxies.remove(agent);
    match proxy {
        Some(proxy) => proxy.close(),
        // The router stops otherwise, which gives up all.
        None => drop(router.give_up_wanted(agent, why).await),
    }
}

/// Returns the name of an agent of this router, or of one that was removed not long ago.
pub(super) async fn name_of(node: &Shared, agent: Option<AgentId>) -> Option<AgentName> {
    let agent = agent?;
    let router = {
        let node = node.borrow();
        if let Some(name) = node.names.get(&agent) {
            return Some(name.clone());
        }
        node.router.clone()
    };
    let name = router.name_of(agent).await?;
    let mut node = node.borrow_mut();
    if node.names.len() >= NAMES_MAX {
        node.names.clear();
    }
    node.names.insert(agent, name.clone());
    Some(name)
}

/// Keeps the node going until it is to stop.
pub(super) async fn run(
    node: Shared,
    transport: Transport,
    [mut own, mut all]: [Subscriber; 2],
    (shown, mut stopped): (Arc<Mutex<ClusterView>>, oneshot::Receiver<()>),
) {
    let (router, changed) = {
        let node = node.borrow();
        (node.router.clone(), Rc::clone(&node.changed))
    };
    loop {
        let due = {
            let node = node.borrow();
            node.began + Duration::from_millis(node.next_deadline_ms())
        };
        let packet = async {
            let packet = or(own.next(), all.next()).await;
            packet.map_or(Turn::Stop, Turn::Packet)
        };
        let asked = async { Turn::Wanted(router.wanted().await) };
        let timer = async {
            or(changed.notified(), sleep_until(due.into())).await;
            Turn::Due
        };
        let stop = async {
            // The sender is dropped.
            let _ = (&mut stopped).await;
            Turn::Stop
        };
        let turn = or(or(pin!(stop), pin!(packet)), or(pin!(asked), pin!(timer))).await;
        let tasks = match turn {
            Turn::Stop => break,
            Turn::Packet(packet) => node.borrow_mut().take(&packet),
            Turn::Wanted(agents) => node.borrow_mut().look_for_all(agents),
            Turn::Due => Vec::new(),
        };
        // Also between packets that come all the time.
        let due = node.borrow_mut().on_deadline();
        let tasks = tasks.into_iter().chain(due);
        for task in tasks {
            tokio::task::spawn_local(task.run(Rc::clone(&node)));
        }
        let packets = node.borrow_mut().take_packets();
        for (kind, to, packet) in packets {
            transport.publish(kind, to, packet);
        }
        if let Some(view) = node.borrow_mut().next_view(transport.is_connected()) {
            *shown.lock().unwrap_or_else(PoisonError::into_inner) = view;
        }
    }
    let farewell = {
        let mut node = node.borrow_mut();
        let now = node.began.elapsed();
        node.members.leave(now);
        node.take_packets()
    };
    for (kind, to, packet) in farewell {
        transport.publish(kind, to, packet);
    }
    transport.flush().await;
}
