//! Nodes on a virtual network that loses packets, in virtual time. Each test prints the seed that replays it.

use std::collections::BTreeMap;

use super::*;
use crate::cluster::link::VERSIONS;

const SECRET: &[u8] = &[7; 32];
/// The time within which all nodes know that a node is dead, for up to 20 nodes and no lost packets.
const DETECTION_MAX: Duration = Duration::from_secs(3);

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn member(node: u16, boot_epoch: u64) -> Member {
    let node = NodeId::try_new(node).expect("it is legal");
    Member { node, boot_epoch, renewal: 0, versions: VERSIONS, shards: 2 }
}

struct Node {
    membership: Membership,
    is_stopped: bool,
    /// What arrived while it was stopped.
    waiting: Vec<Vec<u8>>,
    changes: Vec<(Duration, Change)>,
}

struct Network {
    now: Duration,
    nodes: BTreeMap<u16, Node>,
    /// Packets by the time at which they arrive.
    on_their_way: BTreeMap<(Duration, u64), (u16, Vec<u8>)>,
    sent: u64,
    lost_per_mille: u64,
    dice: SmallRng,
}

impl Network {
    fn new(seed: u64, nodes: u16, lost_per_mille: u64) -> Self {
        println!("seed {seed}, {nodes} nodes, {lost_per_mille} of 1000 packets lost");
        let dice = SmallRng::seed_from_u64(seed);
        let (now, sent) = (Duration::ZERO, 0);
        let mut network =
            Self { now, nodes: BTreeMap::new(), on_their_way: BTreeMap::new(), sent, lost_per_mille, dice };
        (1..=nodes).for_each(|node| network.start(member(node, 1)));
        network
    }

    fn roll(&mut self, limit: u64) -> u64 {
        rand::RngExt::random_range(&mut self.dice, 0..limit)
    }

    fn start(&mut self, own: Member) {
        let seed = self.roll(u64::MAX);
        let membership = Membership::new(self.now, own, Seal::new("plant", Some(SECRET)), seed);
        let node = Node { membership, is_stopped: false, waiting: Vec::new(), changes: Vec::new() };
        self.nodes.insert(own.node.into_inner(), node);
    }

    fn node(&mut self, node: u16) -> &mut Node {
        self.nodes.get_mut(&node).expect("it runs")
    }

    fn resume(&mut self, node: u16) {
        let now = self.now;
        let resumed = self.node(node);
        resumed.is_stopped = false;
        // Timers come before packets here, which is the worse order.
        resumed.membership.on_timer(now);
        for packet in std::mem::take(&mut resumed.waiting) {
            resumed.membership.receive(now, &packet);
        }
        self.collect(node);
    }

    /// Runs until a time, or until something holds; returns whether it does.
    fn run_until(&mut self, end: Duration, mut holds: impl FnMut(&Self) -> bool) -> bool {
        loop {
            if holds(self) {
                return true;
            }
            let running = self.nodes.iter().filter(|(_, node)| !node.is_stopped);
            let timer = running.map(|(number, node)| (node.membership.next_due(), *number)).min();
            let arrival = self.on_their_way.keys().next().copied();
            let next = timer.map(|(due, _)| due).into_iter().chain(arrival.map(|(due, _)| due)).min();
            let Some(next) = next.filter(|next| *next <= end) else {
                self.now = end;
                return holds(self);
            };
            self.now = self.now.max(next);
            match arrival {
                Some(key) if key.0 == next => self.arrive(key),
                _ => {
                    let (_, number) = timer.expect("something is due");
                    let now = self.now;
                    self.node(number).membership.on_timer(now);
                    self.collect(number);
                }
            }
        }
    }

    fn run_for(&mut self, time: Duration) {
        self.run_until(self.now + time, |_| false);
    }

    fn arrive(&mut self, key: (Duration, u64)) {
        let (to, bytes) = self.on_their_way.remove(&key).expect("it is on its way");
        let now = self.now;
        let Some(node) = self.nodes.get_mut(&to) else { return };
        if node.is_stopped {
            node.waiting.push(bytes);
        } else {
            node.membership.receive(now, &bytes);
            self.collect(to);
        }
    }

    fn collect(&mut self, number: u16) {
        let now = self.now;
        let node = self.node(number);
        node.changes.extend(node.membership.take_changes().into_iter().map(|change| (now, change)));
        for Packet { to, bytes } in node.membership.take_packets() {
            assert!(bytes.len() <= PACKET_BYTES_MAX);
            let receivers = match to {
                To::All => self.nodes.keys().copied().collect(),
                To::Node(node) => vec![node.into_inner()],
            };
            for receiver in receivers {
                self.sent += 1;
                if self.roll(1_000) >= self.lost_per_mille {
                    let delay = Duration::from_micros(500 + self.roll(5_000));
                    self.on_their_way.insert((now + delay, self.sent), (receiver, bytes.clone()));
                }
            }
        }
    }

    /// Whether every node that runs believes this of a node.
    fn all_believe(&self, node: u16, believed: impl Fn(&Known) -> bool) -> bool {
        let others = self.nodes.iter().filter(|(other, of)| **other != node && !of.is_stopped);
        let view = |of: &Node| of.membership.members().find(|known| known.member.node.into_inner() == node).copied();
        others.into_iter().all(|(_, other)| view(other).is_some_and(|known| believed(&known)))
    }

    fn all_alive(&self) -> bool {
        let count = self.nodes.len() - 1;
        let is_complete = |node: &Node| {
            let alive = node.membership.members().filter(|known| known.health == Health::Alive);
            alive.count() == count
        };
        self.nodes.values().all(is_complete)
    }

    fn changes_of(&self, node: u16) -> impl Iterator<Item = Change> {
        let all = self.nodes.values().flat_map(|other| other.changes.iter().map(|(_, change)| *change));
        all.filter(move |change| match change {
            Change::Joined(member)
            | Change::Suspected(member)
            | Change::Trusted(member)
            | Change::Died(member)
            | Change::Rejoined(member)
            | Change::Renewed(member) => member.node.into_inner() == node,
        })
    }
}

#[test]
fn nodes_that_start_find_each_other() {
    for seed in 0..20 {
        let mut network = Network::new(seed, 5, 100);
        assert!(network.run_until(seconds(10), Network::all_alive), "they do not know each other");
        for node in 1..=5 {
            assert!(network.changes_of(node).filter(|change| matches!(change, Change::Joined(_))).count() >= 4);
        }
    }
}

#[test]
fn all_know_of_a_death_in_time() {
    for (nodes, seeds) in [(3, 40), (5, 40), (20, 10)] {
        for seed in 0..seeds {
            let mut network = Network::new(seed, nodes, 0);
            assert!(network.run_until(seconds(10), Network::all_alive));
            network.run_for(Duration::from_millis(seed * 37));
            assert_eq!(network.changes_of(1).find(|change| matches!(change, Change::Suspected(_))), None);
            let killed = network.now;
            network.nodes.remove(&1);
            let is_dead = |network: &Network| network.all_believe(1, |known| known.health == Health::Dead);
            assert!(network.run_until(killed + seconds(30), is_dead), "nobody noticed");
            let time = network.now.saturating_sub(killed);
            assert!(time <= DETECTION_MAX, "{time:?}");
            assert!(time >= SUSPICION, "{time:?}: a node has time to object");
            assert_eq!(network.nodes.len(), usize::from(nodes) - 1);
            for node in 2..=nodes {
                assert_eq!(
                    network.changes_of(node).find(|change| matches!(change, Change::Died(_))),
                    None,
                    "node {node}"
                );
            }
        }
    }
}

#[test]
fn with_loss_a_death_is_noticed_and_the_living_stay() {
    for seed in 0..20 {
        let mut network = Network::new(seed, 5, 50);
        assert!(network.run_until(seconds(10), Network::all_alive));
        network.run_for(seconds(20));
        network.nodes.remove(&1);
        let is_dead = |network: &Network| network.all_believe(1, |known| known.health == Health::Dead);
        assert!(network.run_until(network.now + 2 * DETECTION_MAX, is_dead), "nobody noticed");
        let others_live =
            |network: &Network| (2..=5).all(|node| network.all_believe(node, |known| known.health == Health::Alive));
        assert!(network.run_until(network.now + seconds(10), others_live), "a living node is lost");
    }
}

#[test]
fn a_restarted_node_is_alive_under_its_new_epoch() {
    for (seed, away) in [(1, 0), (2, 1), (3, 10)] {
        let mut network = Network::new(seed, 5, 20);
        assert!(network.run_until(seconds(10), Network::all_alive));
        network.nodes.remove(&1);
        network.run_for(seconds(away));
        network.start(member(1, 2));
        let is_back =
            |network: &Network| network.all_alive() && network.all_believe(1, |known| known.member.boot_epoch == 2);
        assert!(network.run_until(network.now + seconds(10), is_back), "it is not back");
        let returns =
            network.changes_of(1).filter(|change| matches!(change, Change::Rejoined(node) if node.boot_epoch == 2));
        assert_eq!(returns.count(), 4);
    }
}

#[test]
fn a_node_that_stops_shortly_is_suspected_and_comes_back() {
    for seed in 0..10 {
        let mut network = Network::new(seed, 5, 0);
        assert!(network.run_until(seconds(10), Network::all_alive));
        network.node(1).is_stopped = true;
        let is_suspected =
            |network: &Network| network.changes_of(1).any(|change| matches!(change, Change::Suspected(_)));
        assert!(network.run_until(network.now + seconds(5), is_suspected));
        network.resume(1);
        network.run_for(seconds(3));
        assert!(network.all_alive());
        assert!(network.changes_of(1).any(|change| matches!(change, Change::Trusted(_))));
        assert_eq!(network.changes_of(1).find(|change| matches!(change, Change::Died(_))), None);
        assert_eq!(network.node(1).membership.own().renewal, 0);
    }
}

#[test]
fn a_node_that_stops_for_long_declares_nobody_dead_and_comes_back_renewed() {
    for seed in 0..10 {
        let mut network = Network::new(seed, 5, 0);
        assert!(network.run_until(seconds(10), Network::all_alive));
        network.node(1).is_stopped = true;
        network.run_for(seconds(20));
        assert!(network.all_believe(1, |known| known.health == Health::Dead));
        network.resume(1);
        assert!(network.run_until(network.now + seconds(10), Network::all_alive), "it is not back");
        assert_eq!(network.node(1).membership.figures().stopped, 1);
        let own = network.node(1).membership.own();
        assert!(own.is_same_start(&member(1, 1)) && own.renewal > 0, "{own:?}");
        assert!(network.changes_of(1).any(|change| change == Change::Renewed(own)));
        for node in 2..=5 {
            assert_eq!(network.changes_of(node).find(|change| matches!(change, Change::Died(_))), None, "node {node}");
        }
    }
}

#[test]
fn a_node_that_leaves_is_not_suspected() {
    let mut network = Network::new(1, 5, 0);
    assert!(network.run_until(seconds(10), Network::all_alive));
    let left = network.now;
    network.node(1).membership.leave(left);
    network.collect(1);
    network.nodes.remove(&1);
    let is_gone = |network: &Network| network.all_believe(1, |known| known.health == Health::Dead);
    assert!(network.run_until(left + seconds(1), is_gone), "they still look for it");
    assert_eq!(network.changes_of(1).find(|change| matches!(change, Change::Suspected(_))), None);
}

#[test]
fn loads_reach_all_nodes_and_those_that_come_later() {
    let mut network = Network::new(1, 3, 0);
    assert!(network.run_until(seconds(10), Network::all_alive));
    let load = |agents| Load { agents, pending: 7 };
    let knows = |network: &Network, node: u16, agents| {
        network.nodes[&node].membership.load_of(&member(1, 1)) == Some(load(agents))
    };
    for agents in [10, 11] {
        network.node(1).membership.report(load(agents));
        let arrived = |network: &Network| (2..=3).all(|node| knows(network, node, agents));
        assert!(network.run_until(network.now + seconds(5), arrived));
    }
    network.run_for(seconds(30));
    network.start(member(4, 1));
    assert!(network.run_until(network.now + seconds(5), |network| knows(network, 4, 11)));
    network.nodes.remove(&1);
    network.run_for(2 * DETECTION_MAX);
    assert_eq!(network.nodes[&2].membership.load_of(&member(1, 1)), None, "the dead are not busy");
}

#[test]
fn foreign_packets_change_nothing() {
    let mut network = Network::new(1, 2, 0);
    assert!(network.run_until(seconds(10), Network::all_alive));
    let view = |network: &Network| network.nodes[&1].membership.members().copied().collect::<Vec<_>>();
    let (before, figures, now) = (view(&network), network.nodes[&1].membership.figures(), network.now);
    let packet_of = |own: Member, seal: Seal| {
        let mut membership = Membership::new(now, own, seal, 1);
        membership.on_timer(now);
        membership.take_packets().swap_remove(0).bytes
    };
    let wrong = [Seal::new("plant", None), Seal::new("plant", Some(&[8; 32])), Seal::new("other", Some(SECRET))];
    let unsealed: Vec<_> = wrong.into_iter().map(|seal| packet_of(member(9, 1), seal)).collect();
    let right = Seal::new("plant", Some(SECRET));
    let mut malformed: Vec<_> = [&[][..], &[HELLO], &[SWIM, 0], &[9]].map(|part| right.close([part, &[]])).into();
    malformed.push(vec![0; PACKET_BYTES_MAX + 1]);
    let twin = packet_of(member(1, 7), Seal::new("plant", Some(SECRET)));
    for packet in unsealed.iter().chain(&malformed).chain([&twin]) {
        network.node(1).membership.receive(now, packet);
    }
    assert_eq!((view(&network), network.node(1).membership.take_packets()), (before, Vec::new()));
    let after = network.nodes[&1].membership.figures();
    assert_eq!((after.unsealed - figures.unsealed, after.malformed - figures.malformed), (3, 5));
    assert_eq!(after.same_node - figures.same_node, 1);
    assert_eq!(after.received - figures.received, 9);
}

#[test]
fn any_sealed_bytes_are_taken_or_refused() {
    let mut dice = SmallRng::seed_from_u64(1);
    let mut network = Network::new(1, 3, 0);
    assert!(network.run_until(seconds(10), Network::all_alive));
    let seal = Seal::new("plant", Some(SECRET));
    // Real packets are damaged and then sealed correctly.
    let mut samples = Vec::new();
    while samples.len() < 200 {
        let now = network.node(2).membership.next_due();
        network.node(2).membership.on_timer(now);
        samples.extend(network.node(2).membership.take_packets().into_iter().map(|packet| packet.bytes));
    }
    for sample in samples {
        let mut content = seal.open(&sample).expect("it is sealed").to_vec();
        for _ in 0..20 {
            let index = rand::RngExt::random_range(&mut dice, 0..content.len());
            content[index] = rand::RngExt::random_range(&mut dice, 0..=u8::MAX);
            let now = network.now;
            network.node(1).membership.receive(now, &seal.close([&content, &[]]));
            network.node(1).membership.take_packets();
            network.node(1).membership.take_changes();
        }
    }
}
