//! The protocols that a shard's conversations are checked against.
//!
//! A conversation keeps the definition and the mode with which it began. When protocols are replaced, those that have not
//! changed go on as they are; a replaced one is kept for as long as open conversations are checked against it.
//!
//! Invariants: a guard names a slot with a definition; a replaced definition is kept only while open conversations are
//! checked against it; the counters of a name are those of its definition in force, if there is one.

use std::sync::Arc;

use super::{Conversation, Conversations, Passage, ProtocolFigures, StateFigures};
use crate::message::{AgentId, Message, Performative, Term, WallTime};
use crate::protocol::{Guard, PROTOCOLS_MAX, ProtocolView, Rulebook, Rules, Verdict, Violation};

/// Maximum number of replaced definitions that a shard keeps for conversations that began with them. Beyond it, those of
/// the definition that was replaced first are no longer checked.
pub const REPLACED_PROTOCOLS_MAX: usize = 1_024;
const _: () = assert!(PROTOCOLS_MAX + REPLACED_PROTOCOLS_MAX < u16::MAX as usize, "a slot's number is a slot's number");
/// Maximum number of guards kept for reuse.
const SPARE_GUARDS_MAX: usize = 1_024;

/// The protocol checks of a shard's conversations.
#[derive(Debug)]
pub(super) struct Protocols {
    /// What new conversations are checked against.
    rulebook: Rulebook,
    /// The slots of the rulebook's protocols, by their indices.
    in_force: Vec<u16>,
    /// The definitions that conversations are checked against, by the numbers that guards have.
    slots: Vec<Slot>,
    /// The number of slots with a definition.
    taken: usize,
    /// How often protocols were replaced.
    version: u32,
    /// Guards of closed conversations, for reuse.
    #[allow(clippy::vec_box)] // The allocations are what is kept.
    spare_guards: Vec<Box<Guard>>,
    /// The number of messages that followed their protocol, and how many of them were late.
    steps: u64,
    steps_late: u64,
}

#[derive(Debug)]
struct Slot {
    /// `None` if the slot is vacant.
    rules: Option<Arc<Rules>>,
    /// The version with which the definition came into force.
    since: u32,
    /// The version that replaced it.
    replaced: Option<u32>,
    figures: ProtocolFigures,
}

impl Slot {
    fn new(rules: &Arc<Rules>, since: u32) -> Self {
        Self { rules: Some(Arc::clone(rules)), since, replaced: None, figures: ProtocolFigures::of(&rules.name) }
    }

    fn is_in_force(&self) -> bool {
        self.rules.is_some() && self.replaced.is_none()
    }
}

impl Protocols {
    pub fn new(rulebook: Rulebook) -> Self {
        let mut protocols = Self {
            rulebook: Rulebook::default(),
            in_force: Vec::new(),
            slots: Vec::new(),
            taken: 0,
            version: 0,
            spare_guards: Vec::new(),
            steps: 0,
            steps_late: 0,
        };
        protocols.put_in_force(rulebook);
        protocols
    }

    /// Whether anything is checked.
    #[inline]
    pub fn check(&self) -> bool {
        self.taken > 0
    }

    /// Returns how often protocols were replaced.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Returns the number of messages that followed their protocol, and how many of them were late.
    pub fn steps(&self) -> (u64, u64) {
        (self.steps, self.steps_late)
    }

    /// Replaces the protocols that new conversations are checked against.
    fn replace(&mut self, rulebook: Rulebook) {
        self.version = self.version.saturating_add(1);
        for place in std::mem::take(&mut self.in_force) {
            let slot = &mut self.slots[usize::from(place)];
            let goes_on = |rules: &Arc<Rules>| rulebook.rules().iter().any(|new| new == rules);
            if !slot.rules.as_ref().is_some_and(goes_on) {
                slot.replaced = Some(self.version);
            }
        }
        self.put_in_force(rulebook);
        for place in 0..self.slots.len() {
            self.vacate_if_unused(place);
        }
    }

    fn put_in_force(&mut self, rulebook: Rulebook) {
        for rules in rulebook.rules() {
            let same = |slot: &Slot| slot.is_in_force() && slot.rules.as_ref() == Some(rules);
            let place = self.slots.iter().position(same).unwrap_or_else(|| self.add(rules));
            self.in_force.push(number_of(place));
        }
        self.rulebook = rulebook;
    }

    /// Puts a new definition into a slot. It takes over the counters of its name.
    fn add(&mut self, rules: &Arc<Rules>) -> usize {
        let mut slot = Slot::new(rules, self.version);
        for former in self.slots.iter_mut().filter(|former| *former.figures.name == *rules.name) {
            slot.figures.take_counters(&mut former.figures);
        }
        self.taken += 1;
        if let Some(place) = self.slots.iter().position(|slot| slot.rules.is_none()) {
            self.slots[place] = slot;
            return place;
        }
        self.slots.push(slot);
        self.slots.len() - 1
    }

    /// Returns the definition that was replaced first, if there are more replaced ones than a shard keeps.
    fn beyond_max(&self) -> Option<u16> {
        let replaced = || self.slots.iter().enumerate().filter(|(_, slot)| slot.rules.is_some());
        let replaced = || replaced().filter_map(|(place, slot)| Some((slot.replaced?, place)));
        if replaced().count() <= REPLACED_PROTOCOLS_MAX {
            return None;
        }
        replaced().min().map(|(_, place)| number_of(place))
    }

    #[cold]
    fn vacate_if_unused(&mut self, place: usize) {
        let slot = &mut self.slots[place];
        if slot.rules.is_some() && slot.replaced.is_some() && slot.figures.open == 0 {
            slot.rules = None;
            slot.figures = ProtocolFigures::of("");
            self.taken -= 1;
        }
    }

    #[inline]
    fn rules(&self, number: u16) -> Option<&Rules> {
        self.slots.get(usize::from(number))?.rules.as_deref()
    }

    /// Returns the number of the protocol in force with this name.
    #[inline]
    pub fn find(&self, name: Term) -> Option<u16> {
        self.in_force.get(usize::from(self.rulebook.find(name)?)).copied()
    }

    /// Whether an exchange of this protocol can begin with this act.
    pub fn may_begin(&self, protocol: u16, act: Performative) -> bool {
        self.rules(protocol).is_some_and(|rules| rules.may_begin(act))
    }

    /// Whether agents may speak in this protocol that its initiator did not address first.
    pub fn others_speak(&self, protocol: u16) -> bool {
        self.rules(protocol).is_some_and(Rules::others_speak)
    }

    /// Whether a message between these indices of a conversation would be allowed now.
    pub fn allows(&self, guard: &Guard, from: usize, to: usize, message: &Message) -> bool {
        self.rules(guard.protocol).is_none_or(|rules| rules.allows(guard, from, to, message))
    }

    /// Ends an exchange that a platform could not deliver to: the one with `named`, an index in the conversation, or
    /// the only one that is under way.
    pub fn lose(&self, guard: &mut Guard, named: Option<usize>, participants: usize) {
        let Some(rules) = self.rules(guard.protocol) else { return };
        let mut under_way = (1..participants).filter(|party| rules.is_under_way(guard, *party));
        let only = match (under_way.next(), under_way.next()) {
            (Some(party), None) => Some(party),
            _ => None,
        };
        match named.or(only) {
            Some(party) => rules.lose(guard, party),
            None => guard.delivery_failed = true,
        }
    }

    /// Describes what is wrong with a message that belongs to no conversation and does not begin one.
    pub fn explain_beginning(&self, protocol: u16, message: &Message) -> Option<Violation> {
        let mut guard = Guard::default();
        guard.begin(protocol);
        self.explain(&guard, (0, 1), message, message.sender()?)
    }

    /// Describes what is wrong with a forbidden message.
    pub fn explain(
        &self,
        guard: &Guard,
        between: (usize, usize),
        message: &Message,
        initiator: AgentId,
    ) -> Option<Violation> {
        self.rules(guard.protocol)?.explain(guard, between, message, initiator)
    }

    /// Advances a conversation that lost steps to where a message is allowed: see [`Rules::catch_up`].
    pub fn catch_up(&self, guard: &mut Guard, from: usize, to: usize, message: &Message) -> bool {
        self.rules(guard.protocol).is_some_and(|rules| rules.catch_up(guard, from, to, message))
    }

    /// Returns the number of a conversation's state: see [`Rules::standing`].
    pub fn standing(&self, guard: &Guard) -> u8 {
        self.rules(guard.protocol).map_or(0, |rules| rules.standing(guard))
    }

    /// Returns the names of a conversation's protocol and of the state it has reached.
    pub fn protocol_and_state(&self, guard: &Guard) -> Option<(&str, &str)> {
        let rules = self.rules(guard.protocol)?;
        Some((rules.name.as_str(), rules.state_name(rules.standing(guard))))
    }

    /// Returns the state of a conversation.
    pub fn view(&self, guard: &Guard, participants: &[AgentId]) -> Option<ProtocolView> {
        Some(self.rules(guard.protocol)?.view(guard, participants))
    }

    /// Takes a message's step in the conversation's protocol, or returns the violation. A conversation is checked
    /// against the first checked protocol that its initiator names, unless that came into force later.
    #[inline(always)]
    pub fn step(
        &mut self,
        conversation: &mut Conversation,
        from: u16,
        to: Option<u16>,
        passage: &Passage<'_>,
        wall: WallTime,
    ) -> Verdict {
        if conversation.guard.is_none() {
            let named = passage.message.protocol_term().filter(|_| from == 0);
            let Some(protocol) = named.and_then(|name| self.find(name)) else { return Verdict::Allowed };
            let slot = &mut self.slots[usize::from(protocol)];
            if slot.since > conversation.protocols_version {
                return Verdict::Allowed;
            }
            slot.figures.open += 1;
            slot.figures.begun += 1;
            let mut guard = self.spare_guards.pop().unwrap_or_default();
            guard.begin(protocol);
            conversation.guard = Some(guard);
        }
        let Some(guard) = &mut conversation.guard else { return Verdict::Allowed };
        let to = to.map_or(conversation.participants.len(), usize::from);
        let Some(rules) = self.slots.get(usize::from(guard.protocol)).and_then(|slot| slot.rules.as_deref()) else {
            return Verdict::Allowed;
        };
        let verdict = rules.step(guard, usize::from(from), to, passage.message, wall);
        self.steps += u64::from(verdict != Verdict::Forbidden);
        self.steps_late += u64::from(verdict == Verdict::Late);
        verdict
    }

    /// Like [`Protocols::step`], for a step that was counted before.
    pub fn step_uncounted(
        &mut self,
        conversation: &mut Conversation,
        from: u16,
        to: Option<u16>,
        passage: &Passage<'_>,
        wall: WallTime,
    ) -> Verdict {
        let steps = (self.steps, self.steps_late);
        let verdict = self.step(conversation, from, to, passage, wall);
        (self.steps, self.steps_late) = steps;
        verdict
    }

    /// Takes the guard of a conversation that is no longer checked.
    pub fn keep(&mut self, guard: Box<Guard>) {
        let place = usize::from(guard.protocol);
        if let Some(slot) = self.slots.get_mut(place) {
            slot.figures.open -= 1;
            if slot.replaced.is_some() {
                self.vacate_if_unused(place);
            }
        }
        if self.spare_guards.len() < SPARE_GUARDS_MAX && guard.is_small() {
            self.spare_guards.push(guard);
        }
    }

    /// Returns the figures of the protocol that a message violated.
    pub fn figures_of(&mut self, violation: &Violation) -> Option<&mut ProtocolFigures> {
        let in_force = self.slots.iter().position(|slot| slot.is_in_force() && slot.is_named(&violation.protocol));
        let place = in_force.or_else(|| self.slots.iter().position(|slot| slot.is_named(&violation.protocol)))?;
        Some(&mut self.slots[place].figures)
    }

    /// Returns the figures of each protocol by name: those in force first, in the order of the rulebook.
    pub fn by_name(&self) -> Vec<ProtocolFigures> {
        let mut figures: Vec<_> =
            self.in_force.iter().map(|place| self.slots[usize::from(*place)].figures.clone()).collect();
        for former in self.slots.iter().filter(|slot| slot.replaced.is_some() && slot.rules.is_some()) {
            match figures.iter_mut().find(|figures| figures.name == former.figures.name) {
                Some(figures) => figures.add(&former.figures),
                None => figures.push(former.figures.clone()),
            }
        }
        figures
    }

    /// Returns the names of the states of each definition, by number and by slot.
    pub fn state_names(&self) -> impl Iterator<Item = impl Iterator<Item = &str>> {
        self.slots.iter().map(|slot| slot.rules.iter().flat_map(|rules| rules.state_names()))
    }

    /// Sets the counts of open conversations by slot and state. The last state of each stands for those without a name.
    pub fn set_states(&mut self, counted: &[Vec<u64>], others: &str) {
        for (slot, open) in self.slots.iter_mut().zip(counted) {
            let Some(rules) = &slot.rules else { continue };
            let names = rules.state_names().take(open.len() - 1).chain([others]);
            let mut before = std::mem::take(&mut slot.figures.states).into_iter().peekable();
            for (number, (name, open)) in names.zip(open.iter().copied()).enumerate() {
                match before.next_if(|state| state.number == number) {
                    Some(state) => slot.figures.states.push(StateFigures { open, ..state }),
                    None if open > 0 => slot.figures.states.push(StateFigures { name: name.into(), open, number }),
                    None => {}
                }
            }
        }
    }
}

impl Slot {
    fn is_named(&self, name: &str) -> bool {
        self.rules.is_some() && *self.figures.name == *name
    }
}

impl Conversations {
    /// Replaces the protocols that new conversations are checked against. Open ones are checked, or not checked, as they
    /// were before.
    pub fn replace_protocols(&mut self, rulebook: Rulebook) {
        self.protocols.replace(rulebook);
        while let Some(first) = self.protocols.beyond_max() {
            for place in 0..self.slab.places() {
                let Some(conversation) = self.slab.get_mut(place) else { continue };
                if let Some(guard) = conversation.guard.take_if(|guard| guard.protocol == first) {
                    self.protocols.keep(guard);
                }
            }
        }
        self.restart_state_count();
    }
}

fn number_of(place: usize) -> u16 {
    u16::try_from(place).unwrap_or(u16::MAX)
}
