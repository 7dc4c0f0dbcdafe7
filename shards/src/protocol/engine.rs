//! Compiled protocols, and the progress of a conversation in its protocol.
//!
//! A step is one table look-up: from state, side and act to the next state. Rare cases (user-defined acts, cancels,
//! deadlines, violations) are handled after it.

mod catch_up;

use smallvec::SmallVec;

use super::cancel::{Answer, READINGS_MAX, Reading, Readings};
use super::definition::{Act, Definition, STATES_MAX};
use super::violation::{PartyView, ProtocolView, Violation};
use super::{Mode, Side};
use crate::message::{AgentId, ConversationRole, Correlation, Message, Performative, Term, WallTime};

/// Columns of the table: the standard acts, and one for all others.
const COLUMNS: usize = Performative::STANDARD.len() + 1;
/// The table's entry for a forbidden step.
const FORBIDDEN: u8 = u8::MAX;
const _: () = assert!(STATES_MAX + EXTRA_STATES.len() < FORBIDDEN as usize, "a state's number is a state's number");
/// The initial state of every exchange.
const START: u8 = 0;
/// The states after those of the table, in this order: the participant has stopped because of a cancel; a platform
/// reported that the last message did not reach the participant; an agent that the initiator did not address first is
/// speaking, which may send anything.
const EXTRA_STATES: [&str; 3] = ["cancelled", "undeliverable", "recruited"];
/// Maximum number of agents named in `reply-to` by participants and kept per conversation.
const DELEGATES_MAX: usize = 64;
/// Maximum number of an initiator's `reply-with` values that are compared with that of its cancel. Beyond it, no reply
/// to the cancel can be identified with certainty.
const PENDING_REPLIES_MAX: usize = 16;

/// A protocol that is enforced or observed.
#[derive(Debug, PartialEq)]
pub(crate) struct Rules {
    pub name: String,
    pub mode: Mode,
    terms: Vec<Term>,
    states: Vec<State>,
    /// By state, side and act: the next state, or [`FORBIDDEN`].
    next: Vec<u8>,
    /// Steps with user-defined acts.
    own: Vec<(u8, Side, Term, u8)>,
    others_speak: bool,
    /// The number of the first of [`EXTRA_STATES`].
    cancelled: u8,
}

#[derive(Debug, PartialEq)]
struct State {
    name: String,
    end: bool,
    /// Whether a side may send anything here, under the name of any protocol: the initiator, the participant.
    open_to: [bool; 2],
}

/// The progress of one conversation in its protocol.
#[derive(Debug, Default)]
pub(crate) struct Guard {
    /// The number that its shard gave to the definition.
    pub protocol: u16,
    /// The `reply-with` values of the initiator's messages, to tell the reply to a cancel from other replies.
    questions: SmallVec<[Correlation; 2]>,
    /// Agents that participants want replies to go to (`reply-to`).
    delegates: Vec<Delegate>,
    /// Whether the router reported that a message of the conversation was not delivered: the last step may be repeated.
    pub delivery_failed: bool,
    /// The leg of the first participant, the only one in most conversations.
    first: Leg,
    /// The initiator's leg with itself and, in the conversation's order, those of the second and later participants.
    others: Vec<Leg>,
}

/// The index of the first participant in its conversation.
const FIRST: usize = 1;

/// An agent that continues in a participant's place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Delegate {
    agent: AgentId,
    party: u16,
}

/// The exchange between the initiator and one participant.
#[derive(Clone, Copy, Debug)]
struct Leg {
    /// The state according to the likeliest reading.
    state: u8,
    /// Whether more than the state has to be examined.
    special: bool,
    /// The last step: an act's column, or [`FORBIDDEN`] before the first one.
    last_act: u8,
    last_side: Side,
    /// The receiver of the participant's last message, as an index in the conversation.
    last_to: u16,
    /// Cancels without a reply, according to the likeliest reading.
    cancels: u8,
    /// The state before a platform reported that the initiator's last message was not delivered, or [`FORBIDDEN`].
    lost: u8,
    /// Whether the cancel's `reply-with` differs from that of every earlier message.
    cancel_is_distinct: bool,
    /// Whether there are more readings than can be kept: everything is allowed.
    unclear: bool,
    /// The other readings.
    others: [Option<Reading>; READINGS_MAX - 1],
    /// The `reply-with` of the last cancel, if it had one.
    cancel_asks: Option<Correlation>,
    next_by: Option<WallTime>,
}

const _: () = assert!(size_of::<Leg>() <= 48, "there may be thousands of participants in a conversation");

impl Default for Leg {
    fn default() -> Self {
        Self::NEW
    }
}

impl Leg {
    const NEW: Self = Self {
        state: START,
        special: false,
        last_act: FORBIDDEN,
        last_side: Side::Initiator,
        last_to: 0,
        cancels: 0,
        lost: FORBIDDEN,
        cancel_is_distinct: false,
        unclear: false,
        others: [None; READINGS_MAX - 1],
        cancel_asks: None,
        next_by: None,
    };

    fn readings(&self) -> impl Iterator<Item = Reading> {
        let first = Reading { state: self.state, cancels: self.cancels };
        [first].into_iter().chain(self.others.into_iter().flatten())
    }

    /// Replaces the readings by those that remain after the last message; there is at least one.
    fn read_as(&mut self, readings: &Readings) {
        let mut left = readings.iter();
        if let Some(first) = left.next() {
            (self.state, self.cancels) = (first.state, first.cancels);
        }
        self.others = std::array::from_fn(|_| left.next());
        self.unclear |= readings.overflowed();
        if self.readings().all(|reading| reading.cancels == 0) {
            (self.cancel_asks, self.cancel_is_distinct) = (None, false);
        }
    }

    fn is_special(&self) -> bool {
        self.readings().any(|reading| reading.cancels > 0)
            || self.others.iter().any(Option::is_some)
            || self.unclear
            || self.lost != FORBIDDEN
            || self.next_by.is_some()
    }
}

/// What the protocol says about a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// The message is allowed.
    Allowed,
    /// The message is allowed, but arrived after the deadline set by the previous one.
    Late,
    /// The message is not allowed now.
    Forbidden,
}

/// The exchange that a message belongs to, and the side that sends it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Place {
    party: usize,
    side: Side,
}

impl Guard {
    /// Resets the guard for another conversation.
    pub fn begin(&mut self, protocol: u16) {
        self.protocol = protocol;
        self.questions.clear();
        self.delegates.clear();
        self.delivery_failed = false;
        self.first = Leg::NEW;
        self.others.clear();
    }

    /// Whether the conversation has taken its first step.
    pub fn has_begun(&self) -> bool {
        self.legs().any(|leg| leg.state != START)
    }

    fn legs(&self) -> impl Iterator<Item = &Leg> {
        [&self.first].into_iter().chain(&self.others)
    }

    /// Returns the number of exchanges kept.
    pub fn exchanges(&self) -> usize {
        1 + self.others.len()
    }

    /// Whether the guard holds no large allocations, so that it is worth keeping for another conversation.
    pub fn is_small(&self) -> bool {
        self.others.capacity() == 0 && !self.questions.spilled() && self.delegates.capacity() == 0
    }

    /// Records the `reply-with` of a message from the initiator.
    pub fn note_question(&mut self, asked: Correlation) {
        if self.questions.len() < PENDING_REPLIES_MAX {
            self.questions.push(asked);
        }
    }

    /// Whether the initiator certainly uses this `reply-with` for the first time.
    fn is_new_question(&self, asked: Correlation) -> bool {
        self.questions.len() < PENDING_REPLIES_MAX && !self.questions.contains(&asked)
    }

    /// Records that a participant wants replies to go to this agent.
    pub fn delegate(&mut self, party: u16, agent: AgentId) {
        let delegate = Delegate { agent, party };
        if self.delegates.len() < DELEGATES_MAX && !self.delegates.contains(&delegate) {
            self.delegates.push(delegate);
        }
    }

    /// Whether an agent may speak in a participant's place.
    pub fn is_delegate(&self, agent: AgentId) -> bool {
        self.delegates.iter().any(|delegate| delegate.agent == agent)
    }

    /// Returns the exchanges that a message may belong to because a participant redirected its replies.
    #[cold]
    fn places_of_delegates(&self, from: usize, to: usize, message: &Message) -> Vec<Place> {
        let named = |delegate: &Delegate| {
            let party = usize::from(delegate.party);
            if from == 0 && message.target() == Some(delegate.agent) {
                Some(Place { party, side: Side::Initiator })
            } else if to == 0 && message.sender() == Some(delegate.agent) {
                Some(Place { party, side: Side::Participant })
            } else {
                None
            }
        };
        self.delegates.iter().filter_map(named).collect()
    }

    fn leg(&self, party: usize) -> Leg {
        if party == FIRST {
            return self.first;
        }
        self.others.get(party.saturating_sub(FIRST)).copied().unwrap_or(Leg::NEW)
    }

    #[inline(always)]
    fn leg_mut(&mut self, party: usize) -> Option<&mut Leg> {
        if party == FIRST { Some(&mut self.first) } else { self.other_leg_mut(party) }
    }

    fn other_leg_mut(&mut self, party: usize) -> Option<&mut Leg> {
        let place = party.saturating_sub(FIRST);
        if self.others.len() <= place {
            self.others.resize(place + 1, Leg::NEW);
        }
        self.others.get_mut(place)
    }

    /// Returns the exchange of a message between two participants; zero is the initiator.
    ///
    /// A reply that goes to another agent than the initiator, because the initiator asked for that (`reply-to`), is the
    /// participant's step; and the agent that receives such replies may continue in the initiator's place.
    #[inline(always)]
    fn place(&self, from: usize, to: usize, message: &Message) -> Option<Place> {
        match (from, to) {
            (0, 1..) => Some(Place { party: to, side: Side::Initiator }),
            (1.., 0) => Some(Place { party: from, side: Side::Participant }),
            _ => self.rare_place(from, to, message),
        }
    }

    /// Like [`Guard::place`], for a message from the initiator to itself or between two participants.
    #[cold]
    fn rare_place(&self, from: usize, to: usize, message: &Message) -> Option<Place> {
        match (from, to) {
            // For an agent that talks to itself, the role tells the side.
            (0, 0) if message.role() == ConversationRole::Participant => {
                Some(Place { party: 0, side: Side::Participant })
            }
            (0, 0) => Some(Place { party: 0, side: Side::Initiator }),
            _ if self.leg(from).state != START => Some(Place { party: from, side: Side::Participant }),
            _ if self.leg(to).state != START => Some(Place { party: to, side: Side::Initiator }),
            _ => None,
        }
    }
}

impl Rules {
    /// Compiles a valid definition. `terms` are its names.
    pub fn new(definition: &Definition, mode: Mode, terms: Vec<Term>) -> Self {
        let names = definition.states();
        let number = |name: &str| {
            let place = names.iter().position(|state| *state == name).unwrap_or(usize::from(START));
            u8::try_from(place).unwrap_or(FORBIDDEN)
        };
        let mut rules = Self {
            name: definition.name.clone(),
            mode,
            terms,
            states: Vec::new(),
            next: vec![FORBIDDEN; (names.len() + EXTRA_STATES.len()) * 2 * COLUMNS],
            own: Vec::new(),
            others_speak: definition.others_speak,
            cancelled: u8::try_from(names.len()).unwrap_or(FORBIDDEN),
        };
        for name in &names {
            let end = definition.ends.iter().any(|end| end == name);
            let any =
                |by| definition.steps.iter().any(|step| step.from == *name && step.by == by && step.act == Act::Any);
            let open_to = [Side::Initiator, Side::Participant].map(any);
            rules.states.push(State { name: (*name).to_owned(), end, open_to });
        }
        for name in EXTRA_STATES {
            rules.states.push(State { name: name.to_owned(), end: true, open_to: [false; 2] });
        }
        let recruited = rules.recruited();
        for side in [Side::Initiator, Side::Participant] {
            let row = row_of(recruited, side);
            rules.next[row..row + COLUMNS].fill(recruited);
        }
        if let Some(state) = rules.states.last_mut() {
            state.open_to = [true; 2];
        }
        // Steps for any act come first, so that those for specific acts override them.
        for step in definition.steps.iter().filter(|step| step.act == Act::Any) {
            let row = row_of(number(&step.from), step.by);
            rules.next[row..row + COLUMNS].fill(number(&step.to));
        }
        for state in (0..=FORBIDDEN).take(rules.states.len()).skip(1) {
            for side in [Side::Initiator, Side::Participant] {
                rules.next[row_of(state, side) + Performative::NotUnderstood.place()] = state;
            }
        }
        for step in &definition.steps {
            let (from, to) = (number(&step.from), number(&step.to));
            match step.act {
                Act::Any => {}
                Act::Is(Performative::UserDefined(term)) => rules.own.push((from, step.by, term, to)),
                Act::Is(act) => rules.next[row_of(from, step.by) + act.place()] = to,
            }
        }
        rules
    }

    /// Whether both have the same definition, in whatever mode.
    pub fn has_definition_of(&self, other: &Self) -> bool {
        (&self.name, &self.terms, &self.states, &self.next, &self.own, self.others_speak)
            == (&other.name, &other.terms, &other.states, &other.next, &other.own, other.others_speak)
    }

    /// Returns the state of an exchange that the participant has stopped because of a cancel.
    const fn stopped(&self) -> u8 {
        self.cancelled
    }

    /// Returns the state of an exchange whose last message a platform could not deliver.
    const fn undeliverable(&self) -> u8 {
        self.cancelled + 1
    }

    /// Returns the state of an exchange begun by an agent that the initiator did not address.
    const fn recruited(&self) -> u8 {
        self.cancelled + 2
    }

    /// Whether the message names this protocol, or none.
    #[inline]
    fn is_meant_by(&self, message: &Message) -> bool {
        let same = |term| self.terms.first() == Some(&term) || self.terms.contains(&term);
        message.protocol_term().is_none_or(same) || self.is_meant_in_another_spelling(message)
    }

    /// Protocol names are words, which are case-insensitive.
    #[cold]
    fn is_meant_in_another_spelling(&self, message: &Message) -> bool {
        let names = || self.terms.iter().map(|term| term.as_str());
        message.protocol().is_some_and(|named| names().any(|name| name.eq_ignore_ascii_case(named)))
    }

    #[inline]
    fn look_up(&self, state: u8, side: Side, column: usize) -> u8 {
        self.next.get(row_of(state, side) + column).copied().unwrap_or(FORBIDDEN)
    }

    /// Whether an exchange can begin with this act.
    pub fn may_begin(&self, act: Performative) -> bool {
        self.next_state(START, Side::Initiator, act) != FORBIDDEN
    }

    /// Whether agents may speak that the initiator did not address first.
    pub const fn others_speak(&self) -> bool {
        self.others_speak
    }

    /// Takes the step of a message between two participants, given by their indices in the conversation. A receiver
    /// without an index is new there. Nothing changes if the step is not allowed.
    #[inline(always)]
    pub fn step(&self, guard: &mut Guard, from: usize, to: usize, message: &Message, now: WallTime) -> Verdict {
        let Some(place) = guard.place(from, to, message) else { return Verdict::Allowed };
        let Some(leg) = guard.leg_mut(place.party) else { return Verdict::Forbidden };
        let column = message.performative().place();
        let next = self.look_up(leg.state, place.side, column);
        let plain = !leg.special && message.reply_by().is_none() && column < Performative::OWN;
        if plain && next != FORBIDDEN && self.is_meant_by(message) {
            leg.state = next;
            leg.last_side = place.side;
            leg.last_act = column_byte(column);
            leg.last_to = short(to);
            return Verdict::Allowed;
        }
        self.step_specially(guard, (from, to), place, message, now)
    }

    #[cold]
    fn step_specially(
        &self,
        guard: &mut Guard,
        (from, to): (usize, usize),
        place: Place,
        message: &Message,
        now: WallTime,
    ) -> Verdict {
        if self.is_copy(guard, place, to, message) {
            if let Some(leg) = guard.leg_mut(place.party) {
                leg.last_to = short(to);
            }
            return Verdict::Allowed;
        }
        let mut places = [place].into_iter().chain(guard.places_of_delegates(from, to, message));
        let after = places.find_map(|place| Some((place, self.leg_after(guard, place, message)?)));
        let Some((place, mut leg)) = after else { return Verdict::Forbidden };
        leg.last_to = short(to);
        let late = leg.next_by.is_some_and(|next_by| now > next_by) && place.side != Side::Initiator;
        leg.next_by = message.reply_by();
        leg.special = leg.is_special();
        if let Some(kept) = guard.leg_mut(place.party) {
            *kept = leg;
        }
        if late { Verdict::Late } else { Verdict::Allowed }
    }

    /// Whether a message between these indices would be allowed now.
    #[cold]
    pub fn allows(&self, guard: &Guard, from: usize, to: usize, message: &Message) -> bool {
        let Some(place) = guard.place(from, to, message) else { return true };
        let mut places = [place].into_iter().chain(guard.places_of_delegates(from, to, message));
        places.any(|place| self.leg_after(guard, place, message).is_some()) || self.is_copy(guard, place, to, message)
    }

    /// Whether a participant repeats its last message to another agent: the initiator may have asked for replies to
    /// several agents (`reply-to`), and all of these messages are one step.
    fn is_copy(&self, guard: &Guard, Place { party, side }: Place, to: usize, message: &Message) -> bool {
        let leg = guard.leg(party);
        let said = (side, column_byte(message.performative().place()));
        side == Side::Participant
            && said.1 < column_byte(Performative::OWN)
            && (leg.last_side, leg.last_act) == said
            && leg.last_to != short(to)
            && self.is_meant_by(message)
    }

    /// Returns the state of an exchange after a message, or `None` if the message is not allowed.
    fn leg_after(&self, guard: &Guard, Place { party, side }: Place, message: &Message) -> Option<Leg> {
        let mut leg = guard.leg(party);
        let (act, column) = (message.performative(), column_byte(message.performative().place()));
        let speaks_first = self.others_speak && leg.state == START && side == Side::Participant && party != 0;
        let open = |reading: Reading| {
            self.states.get(usize::from(reading.state)).is_some_and(|state| state.open_to[side as usize])
        };
        if !self.is_meant_by(message) && !speaks_first && !leg.unclear && !leg.readings().any(open) {
            return None;
        }
        let again = (leg.last_side, leg.last_act) == (side, column);
        if leg.lost != FORBIDDEN && again && side == Side::Initiator {
            // A message that did not reach the participant is sent again.
            leg.state = std::mem::replace(&mut leg.lost, FORBIDDEN);
            return Some(leg);
        }
        let readings = self.readings_after(&leg, side, message);
        if !readings.is_empty() {
            if act == Performative::Cancel && readings.iter().any(|reading| reading.cancels > 0) {
                let first = leg.readings().all(|reading| reading.cancels == 0);
                leg.cancel_asks = message.reply_with();
                leg.cancel_is_distinct = first && leg.cancel_asks.is_some_and(|asked| guard.is_new_question(asked));
            }
            leg.read_as(&readings);
            if leg.state != self.undeliverable() {
                leg.lost = FORBIDDEN;
            }
        } else if speaks_first {
            leg.state = self.recruited();
        } else if !(leg.unclear || (guard.delivery_failed && again)) {
            return None;
        } else if !leg.unclear {
            return Some(leg);
        }
        (leg.last_side, leg.last_act) = (side, column);
        Some(leg)
    }

    /// Returns the possible readings of a message. A reply to a cancel may also be the next step of the exchange, sent
    /// before the cancel was read; then both are kept until something tells them apart.
    fn readings_after(&self, leg: &Leg, side: Side, message: &Message) -> Readings {
        let act = message.performative();
        let names_cancel = leg.cancel_is_distinct && leg.cancel_asks == message.in_reply_to();
        let names_other = leg.cancel_is_distinct && !names_cancel && message.in_reply_to().is_some();
        let mut after = Readings::default();
        let mut answered = Readings::default();
        for reading in leg.readings() {
            let next = self.next_state(reading.state, side, act);
            let answer = if side == Side::Participant && reading.cancels > 0 { Answer::of(act) } else { None };
            let steps = next != FORBIDDEN && !(names_cancel && answer.is_some());
            if steps {
                after.add(Reading { state: next, ..reading });
            } else if side == Side::Initiator && act == Performative::Cancel && reading.state != START {
                after.add(Reading { cancels: reading.cancels.saturating_add(1), ..reading });
            }
            if let Some(answer) = answer
                && !(steps && names_other)
            {
                let state = if answer == Answer::Stopped { self.stopped() } else { reading.state };
                answered.add(Reading { state, cancels: reading.cancels - 1 });
            }
        }
        after.extend(&answered);
        after
    }

    /// Ends the exchange with a participant to whom a platform could not deliver the last message.
    pub fn lose(&self, guard: &mut Guard, party: usize) {
        let undeliverable = self.undeliverable();
        let Some(leg) = guard.leg_mut(party) else { return };
        let ended = leg.readings().any(|reading| self.is_end(reading.state)) && leg.last_side == Side::Participant;
        if leg.state == START || leg.lost != FORBIDDEN || ended {
            return;
        }
        let (lost, last_act, last_side) = (leg.state, leg.last_act, leg.last_side);
        *leg = Leg { state: undeliverable, special: true, last_act, last_side, lost, ..Leg::NEW };
    }

    /// Whether the exchange with a participant has begun and has not ended.
    pub fn is_under_way(&self, guard: &Guard, party: usize) -> bool {
        let leg = guard.leg(party);
        let ended = self.is_end(leg.state) && leg.last_side == Side::Participant;
        leg.state != START && leg.lost == FORBIDDEN && !ended
    }

    fn is_end(&self, state: u8) -> bool {
        self.states.get(usize::from(state)).is_some_and(|state| state.end)
    }

    fn next_state(&self, state: u8, side: Side, act: Performative) -> u8 {
        let own = match act {
            Performative::UserDefined(term) => {
                self.own.iter().find(|own| (own.0, own.1, own.2) == (state, side, term)).map(|own| own.3)
            }
            _ => None,
        };
        own.unwrap_or_else(|| self.look_up(state, side, act.place()))
    }

    /// Describes what is wrong with a forbidden message.
    #[cold]
    pub fn explain(
        &self,
        guard: &Guard,
        (from, to): (usize, usize),
        message: &Message,
        initiator: AgentId,
    ) -> Option<Violation> {
        let place = guard.place(from, to, message)?;
        let leg = guard.leg(place.party);
        let named = if self.is_meant_by(message) { None } else { message.protocol().map(str::to_owned) };
        Some(Violation {
            initiator,
            conversation: message.conversation()?,
            conversation_text: message.conversation_text()?,
            protocol: self.name.clone(),
            named,
            state: self.state_name(leg.state).to_owned(),
            side: place.side,
            message: message.id(),
            performative: message.performative(),
            sender: message.sender()?,
            receiver: message.target()?,
            allowed: self.allowed(&leg, place.side),
            refused: self.mode == Mode::Enforce,
        })
    }

    /// Returns the acts that a side may send.
    fn allowed(&self, leg: &Leg, side: Side) -> Vec<Performative> {
        let standard = Performative::STANDARD.into_iter().filter(|act| {
            let cancels = side == Side::Initiator && *act == Performative::Cancel && leg.state != START;
            let answers = side == Side::Participant && Answer::of(*act).is_some();
            let allows = |reading: Reading| {
                (answers && reading.cancels > 0) || self.look_up(reading.state, side, act.place()) != FORBIDDEN
            };
            cancels || leg.readings().any(allows)
        });
        let own = self.own.iter().filter(|own| leg.readings().any(|it| (own.0, own.1) == (it.state, side)));
        standard.chain(own.map(|own| Performative::UserDefined(own.2))).collect()
    }

    pub fn state_name(&self, state: u8) -> &str {
        self.states.get(usize::from(state)).map_or("", |state| state.name.as_str())
    }

    /// Returns the names of all states, by number.
    pub fn state_names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.states.iter().map(|state| state.name.as_str())
    }

    /// Returns the number of a conversation's state: that of its exchange. Of several, one that has not ended decides,
    /// the one that is least far in the order of the states.
    pub fn standing(&self, guard: &Guard) -> u8 {
        let begun = guard.legs().filter(|leg| leg.state != START);
        begun.map(|leg| (self.is_end(leg.state), leg.state)).min().map_or(START, |(_, state)| state)
    }

    /// Returns the state of a conversation.
    pub fn view(&self, guard: &Guard, participants: &[AgentId]) -> ProtocolView {
        let legs = participants.iter().enumerate().map(|(party, participant)| (participant, guard.leg(party)));
        let parties = legs.filter(|(_, leg)| leg.state != START);
        let parties = parties.map(|(participant, leg)| PartyView {
            participant: *participant,
            state: self.state_name(leg.state).to_owned(),
            may_end: self.states.get(usize::from(leg.state)).is_some_and(|state| state.end),
            cancelling: leg.readings().any(|reading| reading.cancels > 0),
            next_by: leg.next_by,
        });
        ProtocolView { name: self.name.clone(), parties: parties.collect() }
    }
}

#[inline]
fn row_of(state: u8, side: Side) -> usize {
    (usize::from(state) * 2 + side as usize) * COLUMNS
}

#[inline]
#[allow(clippy::cast_possible_truncation)] // A conversation has fewer participants than this can count.
const fn short(place: usize) -> u16 {
    place as u16
}

#[inline]
#[allow(clippy::cast_possible_truncation)] // There are fewer columns and states than a byte can count.
const fn column_byte(column: usize) -> u8 {
    column as u8
}
