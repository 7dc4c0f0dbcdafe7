//! Who belongs to the cluster: SWIM, as a pure value.
//!
//! Every node probes another one each 300 ms, asks others to probe it if it does not reply, suspects it if they get no
//! reply either, and declares it dead if it does not object within a second. What a node learns spreads with the
//! probes. A node that was declared dead but is alive comes back with a higher [renewal](Member::renewal).
//!
//! [`Membership`] has no socket and no clock: its owner passes packets and the time in, and takes [packets](Packet) and
//! [changes](Change) out after each call. The time is what a monotonic clock shows, from any beginning. Packets may be
//! lost, doubled, delayed and reordered.
//!
//! The result is advice: a node that is declared dead may be alive, and one that is believed to be alive may be dead.

mod codec;
mod loads;
mod member;
mod seal;
mod timers;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::num::{NonZeroU8, NonZeroUsize};
use std::time::Duration;

use caxton_shards::domain::NodeId;
use foca::{Config, Error, Foca, Notification, PeriodicParams, Runtime, State, Timer};
use rand::SeedableRng as _;
use rand::rngs::SmallRng;

use codec::MemberCodec;
pub use loads::Load;
use loads::{Loads, Report};
pub use member::Member;
pub use seal::Seal;
use timers::Timers;

/// Maximum size of a packet, in bytes.
pub const PACKET_BYTES_MAX: usize = SWIM_BYTES_MAX + 2 + seal::SEAL_BYTES;
/// Maximum number of packets and of changes that wait to be taken.
pub const OUTPUTS_MAX: usize = 4_096;

/// Maximum size of what the protocol puts into a packet, in bytes: about 50 members.
const SWIM_BYTES_MAX: usize = 1_200;

/// How often a member is probed.
const PROBE_PERIOD: Duration = Duration::from_millis(300);
/// How long to wait for a reply before others are asked to probe.
const REPLY_TIME: Duration = Duration::from_millis(100);
/// How long a suspect has to object.
const SUSPICION: Duration = Duration::from_secs(1);
/// How long the dead are remembered.
const DEATH_REMEMBERED: Duration = Duration::from_mins(10);
/// How often a node that knows no other looks for some.
const HELLO_PERIOD_ALONE: Duration = Duration::from_millis(500);
/// How often a node looks for others that it does not know, such as nodes that the network had cut off.
const HELLO_PERIOD: Duration = Duration::from_secs(5);

/// The kinds of packets.
const HELLO: u8 = 1;
const SWIM: u8 = 2;

/// The members of a cluster, as one node sees them.
pub struct Membership {
    foca: Foca<Member, MemberCodec, SmallRng, Loads>,
    seal: Seal,
    timers: Timers,
    hello_due: Duration,
    /// The members as of the last reported changes.
    known: BTreeMap<NodeId, Known>,
    loads: Loads,
    /// The number of this node's last report of its own load, and that load.
    last_report: u32,
    own_load: Load,
    packets: Vec<Packet>,
    changes: Vec<Change>,
    figures: Figures,
}

/// Who gets a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum To {
    /// All nodes. This node ignores it.
    All,
    /// One node.
    Node(NodeId),
}

/// Bytes to be sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Packet {
    /// Who gets them.
    pub to: To,
    /// At most [`PACKET_BYTES_MAX`].
    pub bytes: Vec<u8>,
}

/// What a node is believed to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Health {
    /// It replies to probes.
    Alive,
    /// It does not reply, and still has time to object.
    Suspect,
    /// It did not object, or has left.
    Dead,
}

impl Health {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Alive, Self::Suspect, Self::Dead];

    /// Returns the health as one word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Alive => "alive",
            Self::Suspect => "suspect",
            Self::Dead => "dead",
        }
    }
}

/// What changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// A node that was not known is alive.
    Joined(Member),
    /// A node does not reply.
    Suspected(Member),
    /// A suspect is alive.
    Trusted(Member),
    /// A node is dead, or has left.
    Died(Member),
    /// A node is alive again after a restart, or after it had been declared dead. The member is its new incarnation.
    Rejoined(Member),
    /// This node had been declared dead, and continues as this incarnation.
    Renewed(Member),
}

/// A member as this node sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Known {
    /// Its latest incarnation.
    pub member: Member,
    /// What it is believed to be.
    pub health: Health,
    /// When it became so.
    pub since: Duration,
}

/// Numbers of packets, since the beginning.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Figures {
    /// Packets received, of any kind.
    pub received: u64,
    /// Packets sent.
    pub sent: u64,
    /// Packets with a wrong seal, a missing one, or one that nobody expected; they were dropped.
    pub unsealed: u64,
    /// Packets that could not be read or were too large; they were dropped.
    pub malformed: u64,
    /// Packets from another router with this node's number; they were dropped.
    pub same_node: u64,
    /// Packets and changes that were dropped because nobody took the outputs.
    pub overflowed: u64,
    /// How often the node was stopped, and its timers were put off.
    pub stopped: u64,
    /// Steps that the protocol did not finish.
    pub failed: u64,
}

impl Membership {
    /// Creates the view of a node that knows no other. Its first packet, which is due immediately, looks for others.
    /// The seed decides the order of probes.
    pub fn new(now: Duration, own: Member, seal: Seal, seed: u64) -> Self {
        let loads = Loads::default();
        let random = SmallRng::seed_from_u64(seed);
        Self {
            foca: Foca::with_custom_broadcast(own, config(), random, MemberCodec, loads.clone()),
            seal,
            timers: Timers::default(),
            hello_due: now,
            known: BTreeMap::new(),
            loads,
            last_report: 0,
            own_load: Load::default(),
            packets: Vec::new(),
            changes: Vec::new(),
            figures: Figures::default(),
        }
    }

    /// Returns this node's own incarnation.
    pub fn own(&self) -> Member {
        *self.foca.identity()
    }

    /// Takes in a packet. A packet that does not belong to this cluster only changes the figures.
    pub fn receive(&mut self, now: Duration, packet: &[u8]) {
        self.figures.received += 1;
        if packet.len() > PACKET_BYTES_MAX {
            self.figures.malformed += 1;
            return;
        }
        let Some(content) = self.seal.open(packet) else {
            self.figures.unsealed += 1;
            return;
        };
        match content.split_first() {
            Some((&SWIM, mut data)) => {
                // Nothing of a packet is used if its sender has this node's number.
                match codec::get_member(&mut data) {
                    Ok(sender) if sender.node == self.own().node => self.same_node(&sender),
                    _ => self.step(now, |foca, effects| foca.handle_data(&content[1..], effects)),
                }
            }
            Some((&HELLO, mut data)) => match codec::get_member(&mut data) {
                Ok(member) if data.is_empty() => self.hear(now, member),
                _ => self.figures.malformed += 1,
            },
            _ => self.figures.malformed += 1,
        }
    }

    /// Returns when [`Membership::on_timer`] is to be called next.
    pub fn next_due(&self) -> Duration {
        self.timers.next_due().map_or(self.hello_due, |due| due.min(self.hello_due))
    }

    /// Does what is due. Packets that have arrived should be [received](Membership::receive) before.
    pub fn on_timer(&mut self, now: Duration) {
        if self.timers.forgive(now) {
            self.figures.stopped += 1;
        }
        if self.hello_due <= now {
            self.say_hello(now);
        }
        while let Some(timer) = self.timers.pop(now) {
            if !self.is_refuted(&timer) {
                self.step(now, |foca, effects| foca.handle_timer(timer, effects));
            }
        }
    }

    /// Spreads how busy this node is, if that has changed. Call it at most about once a second, because every new value
    /// is sent to all nodes.
    pub fn report(&mut self, load: Load) {
        if self.last_report > 0 && self.own_load == load {
            return;
        }
        self.own_load = load;
        self.spread_load();
    }

    /// Tells the others that this node leaves, so that they need not find out.
    pub fn leave(&mut self, now: Duration) {
        self.step(now, |foca, effects| foca.leave_cluster(effects));
    }

    /// Removes and returns the packets to be sent, in order.
    pub fn take_packets(&mut self) -> Vec<Packet> {
        std::mem::take(&mut self.packets)
    }

    /// Removes and returns what changed, in order.
    pub fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    /// Iterates over the other nodes that are known, in the order of their numbers; the dead are known for ten minutes.
    pub fn members(&self) -> impl Iterator<Item = &Known> {
        self.known.values()
    }

    /// Returns how busy a node was when it last said so, if it has.
    pub fn load_of(&self, member: &Member) -> Option<Load> {
        self.loads.of(member)
    }

    /// Returns the numbers of packets.
    pub fn figures(&self) -> Figures {
        self.figures
    }

    /// Whether this timer would declare a suspect dead that has objected in time. The protocol keeps such a node alive,
    /// but would still tell it that it is dead, and the node would come back with a higher renewal for nothing.
    fn is_refuted(&self, timer: &Timer<Member>) -> bool {
        let Timer::ChangeSuspectToDown { member_id, incarnation, .. } = timer else { return false };
        let is_suspect = |known: &foca::Member<Member>| {
            (known.id(), known.incarnation(), known.state()) == (member_id, *incarnation, State::Suspect)
        };
        !self.foca.iter_membership_state().any(is_suspect)
    }

    fn same_node(&mut self, sender: &Member) {
        // A packet of this very start is one that this node itself has sent to all.
        if !sender.is_same_start(&self.own()) {
            self.figures.same_node += 1;
        }
    }

    fn say_hello(&mut self, now: Duration) {
        let mut member = Vec::with_capacity(codec::MEMBER_BYTES);
        codec::put_member(&self.own(), &mut member).expect("a vector has room");
        let bytes = self.seal.close([&[HELLO], &member]);
        put(&mut self.packets, Packet { to: To::All, bytes }, &mut self.figures);
        self.figures.sent += 1;
        let is_alone = self.foca.num_members() == 0;
        self.hello_due = now + if is_alone { HELLO_PERIOD_ALONE } else { HELLO_PERIOD };
    }

    /// Announces this node to a node that is not known. That node responds with the members that it knows.
    fn hear(&mut self, now: Duration, member: Member) {
        if member.node == self.own().node {
            self.same_node(&member);
            return;
        }
        let is_known = |known: &Known| known.member == member && known.health != Health::Dead;
        if !self.known.get(&member.node).is_some_and(is_known) {
            self.step(now, |foca, effects| foca.announce(member, effects));
        }
    }

    fn spread_load(&mut self) {
        self.last_report += 1;
        let report = Report::new(&self.own(), self.last_report, self.own_load);
        if self.foca.add_broadcast(&report.to_bytes()).is_err() {
            self.figures.failed += 1;
        }
    }

    fn step(
        &mut self,
        now: Duration,
        step: impl FnOnce(&mut Foca<Member, MemberCodec, SmallRng, Loads>, &mut Effects<'_>) -> Result<(), Error>,
    ) {
        let Self { foca, seal, timers, packets, changes, figures, .. } = self;
        let mut effects = Effects { now, seal, timers, packets, changes, figures };
        match step(foca, &mut effects) {
            Ok(()) => {}
            Err(Error::DataFromOurselves) => figures.same_node += 1,
            Err(Error::Decode(_) | Error::MalformedPacket | Error::DataTooBig | Error::CustomBroadcast(_)) => {
                figures.malformed += 1;
            }
            Err(_) => figures.failed += 1,
        }
        self.compare(now);
    }

    /// Finds out what a step has changed.
    fn compare(&mut self, now: Duration) {
        let own = self.own().node;
        let mut has_newcomers = false;
        let Self { foca, known, changes, loads, figures, .. } = self;
        for state in foca.iter_membership_state().filter(|state| state.id().node != own) {
            let member = *state.id();
            let health = match state.state() {
                State::Alive => Health::Alive,
                State::Suspect => Health::Suspect,
                State::Down => Health::Dead,
            };
            let former = known.get(&member.node).copied();
            if former.is_some_and(|former| (former.member, former.health) == (member, health)) {
                continue;
            }
            known.insert(member.node, Known { member, health, since: now });
            let change = match (former, health) {
                (Some(former), Health::Dead) if former.health != Health::Dead => Some(Change::Died(former.member)),
                (_, Health::Dead) => None,
                (Some(former), Health::Suspect) if former.member == member => Some(Change::Suspected(member)),
                (Some(former), Health::Alive) if former.member == member && former.health == Health::Suspect => {
                    Some(Change::Trusted(member))
                }
                (Some(_), _) => Some(Change::Rejoined(member)),
                (None, _) => Some(Change::Joined(member)),
            };
            has_newcomers |= matches!(change, Some(Change::Joined(_) | Change::Rejoined(_)));
            if health == Health::Dead {
                loads.forget(member.node);
            }
            if let Some(change) = change {
                put(changes, change, figures);
            }
        }
        if known.len() > foca.iter_membership_state().len() {
            known.retain(|node, _| foca.iter_membership_state().any(|state| state.id().node == *node));
        }
        // Reports sent before they joined have stopped spreading, so the load is reported again.
        if has_newcomers && self.last_report > 0 {
            self.spread_load();
        }
    }
}

/// Appends an output, if there is room.
fn put<T>(outputs: &mut Vec<T>, output: T, figures: &mut Figures) {
    if outputs.len() < OUTPUTS_MAX {
        outputs.push(output);
    } else {
        figures.overflowed += 1;
    }
}

/// What a step of the protocol does to the world.
struct Effects<'a> {
    now: Duration,
    seal: &'a Seal,
    timers: &'a mut Timers,
    packets: &'a mut Vec<Packet>,
    changes: &'a mut Vec<Change>,
    figures: &'a mut Figures,
}

impl Runtime<Member> for Effects<'_> {
    /// Changes of other members are found by [`Membership::compare`], which knows suspects too.
    fn notify(&mut self, notification: Notification<'_, Member>) {
        if let Notification::Rejoin(own) = notification {
            put(self.changes, Change::Renewed(*own), self.figures);
        }
    }

    fn send_to(&mut self, to: Member, data: &[u8]) {
        let bytes = self.seal.close([&[SWIM], data]);
        self.figures.sent += 1;
        put(self.packets, Packet { to: To::Node(to.node), bytes }, self.figures);
    }

    fn submit_after(&mut self, timer: Timer<Member>, after: Duration) {
        self.timers.add(self.now + after, timer);
    }
}

/// The parameters of the protocol, for up to about 50 nodes on a network whose round trips take less than 100 ms.
fn config() -> Config {
    let count = |count| NonZeroUsize::new(count).expect("it is not zero");
    let every = |frequency, members| Some(PeriodicParams { frequency, num_members: count(members) });
    Config {
        probe_period: PROBE_PERIOD,
        probe_rtt: REPLY_TIME,
        num_indirect_probes: count(3),
        max_transmissions: NonZeroU8::new(10).expect("it is not zero"),
        suspect_to_down_after: SUSPICION,
        remove_down_after: Some(DEATH_REMEMBERED),
        max_packet_size: count(SWIM_BYTES_MAX),
        notify_down_members: true,
        periodic_announce: every(Duration::from_secs(10), 1),
        periodic_announce_to_down_members: every(Duration::from_secs(5), 2),
        periodic_gossip: every(Duration::from_millis(200), 3),
    }
}
