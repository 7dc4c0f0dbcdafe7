//! Two links over a network that loses, duplicates, delays and reorders frames. Now and then, one of the nodes is
//! restarted. A failure prints the seed that replays it.

use std::collections::{BTreeMap, HashMap, HashSet};

use caxton_shards::domain::AgentName;
use caxton_shards::message::AgentId;
use caxton_shards::sim::Dice;

use super::inbound::{EARLY_BYTES_MAX, EARLY_FRAMES_MAX};
use super::outbound::{CONTROL_FRAMES_MAX, LINK_BYTES_MAX, LINK_FRAMES_MAX};
use super::tests::{link, message, name};
use super::*;

const SEEDS: u64 = 60;
const STEPS: u32 = 400;

struct Side {
    link: Link,
    boot_epoch: u64,
    next_tag: u64,
    /// The number of the next message for each sender and target.
    next: HashMap<(usize, usize), u64>,
    /// Tags that are neither settled nor reported.
    open: HashSet<Tag>,
    held: Vec<Received>,
    /// The last number that arrived in the peer's current run, by sender and target.
    arrived: HashMap<(AgentId, AgentId), u64>,
    handled: u64,
}

impl Side {
    fn new(place: usize, boot_epoch: u64) -> Self {
        let [own, peer] = [[1, 2], [2, 1]][place];
        Self {
            link: link(own, boot_epoch, peer),
            boot_epoch,
            next_tag: 1,
            next: HashMap::new(),
            open: HashSet::new(),
            held: Vec::new(),
            arrived: HashMap::new(),
            handled: 0,
        }
    }
}

struct Simulation {
    dice: Dice,
    now_ms: u64,
    sides: [Side; 2],
    /// Frames on their way, by when they arrive, with the place of the receiving side.
    network: BTreeMap<(u64, u64), (usize, Bytes)>,
    frames: u64,
    is_lossy: bool,
    names: Vec<AgentName>,
}

impl Simulation {
    fn new(seed: u64) -> Self {
        Self {
            dice: Dice::new(seed),
            now_ms: 0,
            sides: [Side::new(0, 1), Side::new(1, 1)],
            network: BTreeMap::new(),
            frames: 0,
            is_lossy: true,
            names: (0..4).map(|number| name(&format!("agent-{number}"))).collect(),
        }
    }

    fn send(&mut self, place: usize) {
        let (from, to) = (self.dice.index(3), self.dice.index(3));
        let is_durable = self.dice.once_in(3);
        let content_bytes = if self.dice.once_in(40) { 100_000 } else { self.dice.index(100) };
        let side = &mut self.sides[place];
        let number = side.next.get(&(from, to)).copied().unwrap_or(1);
        let (sender, target) = (&self.names[from], AgentId::of(&self.names[to]));
        let message = message(sender, target, &format!("{number} {}", "x".repeat(content_bytes)));
        let tag = if is_durable { Tag::new(side.next_tag) } else { None };
        let outgoing = Outgoing { tag, sender: Some(sender), target, message: &message, remaining: None };
        let has_room = side.link.room_for(target);
        match side.link.send(&outgoing) {
            Ok(()) => {
                side.next.insert((from, to), number + 1);
                side.next_tag += u64::from(is_durable);
                side.open.extend(tag);
            }
            Err(error) => assert!(!has_room && matches!(error, SendError::Full | SendError::NoRoom), "{error}"),
        }
    }

    fn carry(&mut self, place: usize) {
        while let Some(frame) = self.sides[place].link.next_frame(self.now_ms) {
            assert!(frame.len() <= 1 << 20);
            let copies = match self.dice.below(10) {
                0 if self.is_lossy => 0,
                1 if self.is_lossy => 2,
                _ => 1,
            };
            for _ in 0..copies {
                let delay_ms = if self.is_lossy { 1 + self.dice.below(30) } else { 1 };
                self.frames += 1;
                self.network.insert((self.now_ms + delay_ms, self.frames), (1 - place, frame.clone()));
            }
        }
    }

    fn take(&mut self, place: usize, events: Vec<LinkEvent>) {
        let side = &mut self.sides[place];
        for event in events {
            match event {
                LinkEvent::Message(arrival) => {
                    let text = arrival.message.content().as_text().unwrap_or_default();
                    let number: u64 = text.split(' ').next().and_then(|digits| digits.parse().ok()).expect("it is one");
                    let sender = arrival.sender.expect("it has one").0;
                    let last = side.arrived.insert((sender, arrival.target), number).unwrap_or(0);
                    assert_eq!(number, last + 1, "once, and in order");
                    side.held.push(arrival.received);
                    side.handled += 1;
                }
                LinkEvent::Settled(tag) | LinkEvent::Refused { tag, .. } => {
                    assert!(side.open.remove(&tag), "it is settled once");
                }
                LinkEvent::PeerRestarted { unsettled, .. } => {
                    let open: HashSet<_> = unsettled.into_iter().collect();
                    assert_eq!(std::mem::take(&mut side.open), open);
                    // The stream begins again.
                    side.next.clear();
                    side.arrived.clear();
                }
                LinkEvent::Connected(_) => side.arrived.clear(),
                _ => {}
            }
        }
    }

    fn handle(&mut self, place: usize) {
        let side = &mut self.sides[place];
        let count = self.dice.index(side.held.len() + 1);
        for received in side.held.drain(..count) {
            side.link.credit(received);
            if self.dice.once_in(5) {
                side.link.refuse(received, "for the test");
            } else {
                side.link.settle(received);
            }
        }
    }

    /// Advances the time to the next frame or deadline.
    fn wait(&mut self) {
        let deadlines = self.sides.iter().filter_map(|side| side.link.next_deadline_ms());
        let frame = self.network.first_key_value().map(|((at, _), _)| *at);
        let next = deadlines.chain(frame).min().expect("a link always has a deadline");
        self.now_ms = self.now_ms.max(next);
        let mut events = [Vec::new(), Vec::new()];
        while let Some(first) = self.network.first_entry()
            && first.key().0 <= self.now_ms
        {
            let (to, frame) = first.remove();
            self.sides[to].link.receive(self.now_ms, &frame, &mut events[to]).expect("it is a frame");
            let taken = std::mem::take(&mut events[to]);
            self.take(to, taken);
        }
        for (place, events) in events.into_iter().enumerate() {
            if self.sides[place].link.next_deadline_ms().is_some_and(|at| at <= self.now_ms) {
                self.sides[place].link.on_deadline(self.now_ms);
            }
            self.take(place, events);
        }
    }

    fn check_limits(&self) {
        for side in &self.sides {
            let figures = side.link.figures();
            assert!(figures.frames_in_flight <= LINK_FRAMES_MAX + CONTROL_FRAMES_MAX + 1);
            assert!(figures.bytes_in_flight <= LINK_BYTES_MAX + (2 << 20));
            assert_eq!(figures.unsettled, side.open.len());
            let (frames, bytes) = side.link.stream.inbound.kept();
            assert!(frames <= EARLY_FRAMES_MAX && bytes <= EARLY_BYTES_MAX);
        }
    }

    fn run(&mut self) {
        for _ in 0..STEPS {
            for place in 0..2 {
                for _ in 0..self.dice.below(4) {
                    self.send(place);
                }
                self.handle(place);
                self.carry(place);
            }
            if self.dice.once_in(150) {
                let place = self.dice.index(2);
                self.sides[place] = Side::new(place, self.sides[place].boot_epoch + 1);
            }
            self.wait();
            self.check_limits();
        }
        self.settle();
    }

    /// Lets everything arrive and be handled. Nothing may be left then.
    fn settle(&mut self) {
        self.is_lossy = false;
        let until = self.now_ms + 60_000;
        while self.now_ms < until {
            for place in 0..2 {
                self.handle(place);
                self.carry(place);
            }
            self.wait();
        }
        for place in 0..2 {
            let (side, peer) = (&self.sides[place], &self.sides[1 - place]);
            let figures = side.link.figures();
            assert_eq!((figures.targets, figures.unsettled), (0, 0), "all credits and tags are back");
            assert_eq!((figures.frames_in_flight, side.open.len(), figures.unreadable), (0, 0, 0));
            for ((from, to), next) in &side.next {
                let pair = (AgentId::of(&self.names[*from]), AgentId::of(&self.names[*to]));
                assert_eq!(peer.arrived.get(&pair), Some(&(next - 1)), "everything arrived");
            }
        }
    }
}

#[test]
fn everything_arrives_once_and_in_order_over_a_network_that_loses_and_reorders() {
    let mut handled = 0;
    for seed in 0..SEEDS {
        let mut simulation = Simulation::new(seed);
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| simulation.run()));
        if let Err(failure) = result {
            eprintln!("replay it with Simulation::new({seed}).run()");
            std::panic::resume_unwind(failure);
        }
        handled += simulation.sides.iter().map(|side| side.handled).sum::<u64>();
    }
    assert!(handled > 100 * SEEDS, "{handled} messages");
}
