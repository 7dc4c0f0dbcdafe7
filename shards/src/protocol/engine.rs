//! A protocol made ready for use, and the place of one conversation in it.
//!
//! A step is one look into a table: by state, side and act to the next state. What is rare (acts of the user's own,
//! cancels, deadlines, what is not allowed) is looked at behind it.

use super::cancel::{Answer, Cancelling};
use super::definition::{Act, Definition, STATES_MAX};
use super::violation::{PartyView, ProtocolView, Violation};
use super::{Mode, Side};
use crate::message::{AgentId, Message, Performative, Term, WallTime};

/// Columns of the table: the standard acts, and one for all others.
const COLUMNS: usize = Performative::STANDARD.len() + 1;
/// The table's word for what is not allowed.
const FORBIDDEN: u8 = u8::MAX;
const _: () = assert!(STATES_MAX + 1 < FORBIDDEN as usize, "a state's number is a state's number");
/// The state in which every exchange begins.
const START: u8 = 0;
/// The state behind those of the table, in which the participant has stopped because of a cancel.
const CANCELLED: &str = "cancelled";

/// A protocol that conversations are held to.
#[derive(Debug)]
pub(super) struct Rules {
    pub name: String,
    pub mode: Mode,
    terms: Vec<Term>,
    states: Vec<State>,
    /// By state, side and act: the next state, or [`FORBIDDEN`].
    next: Vec<u8>,
    /// Steps with acts of the user's own.
    own: Vec<(u8, Side, Term, u8)>,
    others_speak: bool,
}

#[derive(Debug)]
struct State {
    name: String,
    end: bool,
}

/// The place of one conversation in its protocol.
#[derive(Debug, Default)]
pub(crate) struct Guard {
    /// The protocol's place in the rulebook.
    pub protocol: u16,
    /// The router reported that something of the conversation was not delivered: what was said last may be said again.
    pub delivery_failed: bool,
    /// The first participant's, who is the only one of most conversations.
    first: Leg,
    /// The initiator's with itself and, in the conversation's order, those of the participants from the second on.
    others: Vec<Leg>,
}

/// The place of the first participant in its conversation.
const FIRST: usize = 1;

/// How the initiator and one participant stand.
#[derive(Clone, Copy, Debug)]
struct Leg {
    state: u8,
    /// Whether there is a cancel or a deadline to look at.
    special: bool,
    /// The last step: an act's column, or [`FORBIDDEN`] before the first one.
    last_act: u8,
    last_side: Side,
    cancelling: Option<Cancelling>,
    next_by: Option<WallTime>,
}

const _: () = assert!(size_of::<Leg>() <= 40, "there may be thousands of participants in a conversation");

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
        cancelling: None,
        next_by: None,
    };
}

/// What the protocol says to a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// It may be sent.
    Allowed,
    /// It may be sent, and the last message wanted it sooner.
    Late,
    /// It may not be sent now.
    Forbidden,
}

/// Whose exchange a message belongs to, and which side sends it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Place {
    party: usize,
    side: Side,
}

impl Guard {
    /// Makes it ready for another conversation.
    pub fn begin(&mut self, protocol: u16) {
        self.protocol = protocol;
        self.delivery_failed = false;
        self.first = Leg::NEW;
        self.others.clear();
    }

    /// Whether the conversation has taken its first step.
    pub fn has_begun(&self) -> bool {
        [&self.first].into_iter().chain(&self.others).any(|leg| leg.state != START)
    }

    /// Whether it kept no room of its own for many participants, so that it is worth keeping for another conversation.
    pub fn is_small(&self) -> bool {
        self.others.capacity() == 0
    }

    fn leg(&self, party: usize) -> Leg {
        if party == FIRST {
            return self.first;
        }
        self.others.get(party.saturating_sub(FIRST)).copied().unwrap_or(Leg::NEW)
    }

    #[inline]
    fn leg_mut(&mut self, party: usize) -> Option<&mut Leg> {
        if party == FIRST {
            return Some(&mut self.first);
        }
        let place = party.saturating_sub(FIRST);
        if self.others.len() <= place {
            self.others.resize(place + 1, Leg::NEW);
        }
        self.others.get_mut(place)
    }

    /// Which exchange a message between two participants belongs to: zero is the initiator.
    ///
    /// An answer that goes to someone else than the initiator, because the initiator wants that (`reply-to`), is the
    /// participant's step; and whoever gets such answers may go on in the initiator's name.
    #[inline]
    fn place(&self, from: usize, to: usize, message: &Message) -> Option<Place> {
        use crate::message::ConversationRole;
        match (from, to) {
            // Who talks to itself says by the role on which side it is.
            (0, 0) if message.role() == ConversationRole::Participant => {
                Some(Place { party: 0, side: Side::Participant })
            }
            (0, _) => Some(Place { party: to, side: Side::Initiator }),
            (_, 0) => Some(Place { party: from, side: Side::Participant }),
            _ if self.leg(from).state != START => Some(Place { party: from, side: Side::Participant }),
            _ if self.leg(to).state != START => Some(Place { party: to, side: Side::Initiator }),
            _ => None,
        }
    }
}

impl Rules {
    /// Makes a definition without flaws ready for use. `terms` are its names.
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
            next: vec![FORBIDDEN; (names.len() + 1) * 2 * COLUMNS],
            own: Vec::new(),
            others_speak: definition.others_speak,
        };
        for name in &names {
            let end = definition.ends.iter().any(|end| end == name);
            rules.states.push(State { name: (*name).to_owned(), end });
        }
        rules.states.push(State { name: CANCELLED.to_owned(), end: true });
        // What is meant for every act first, so that what is meant for one comes on top of it.
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

    /// Whether this is the protocol that the message names, or the message names none.
    #[inline]
    fn is_meant_by(&self, message: &Message) -> bool {
        let same = |term| self.terms.first() == Some(&term) || self.terms.contains(&term);
        message.protocol_term().is_none_or(same)
    }

    #[inline]
    fn look_up(&self, state: u8, side: Side, column: usize) -> u8 {
        self.next.get(row_of(state, side) + column).copied().unwrap_or(FORBIDDEN)
    }

    /// Takes the step that a message is from one participant to another, by their places in the conversation. Without a
    /// place for the receiver it is new there. Nothing changes if the step is not allowed.
    #[inline]
    pub fn step(&self, guard: &mut Guard, from: usize, to: usize, message: &Message, now: WallTime) -> Verdict {
        let Some(place) = guard.place(from, to, message) else { return Verdict::Allowed };
        let repeats = guard.delivery_failed;
        let Some(leg) = guard.leg_mut(place.party) else { return Verdict::Forbidden };
        let column = message.performative().place();
        let next = self.look_up(leg.state, place.side, column);
        let plain = !leg.special && message.reply_by().is_none() && column < Performative::OWN;
        if plain && next != FORBIDDEN && self.is_meant_by(message) {
            leg.state = next;
            leg.last_side = place.side;
            leg.last_act = column_byte(column);
            return Verdict::Allowed;
        }
        self.step_specially(leg, place, message, now, repeats)
    }

    #[cold]
    fn step_specially(&self, leg: &mut Leg, place: Place, message: &Message, now: WallTime, repeats: bool) -> Verdict {
        let act = message.performative();
        let column = act.place();
        if !self.is_meant_by(message) {
            return Verdict::Forbidden;
        }
        let Place { party, side } = place;
        let answers_cancel = side == Side::Participant && leg.cancelling.is_some();
        let certain = leg.cancelling.is_some_and(|cancel| cancel.is_answered_by(message.in_reply_to()));
        let answer = if answers_cancel { Answer::of(act) } else { None };
        let next = self.next_state(leg.state, side, act);
        if let Some(answer) = answer
            && (certain || next == FORBIDDEN)
        {
            self.end_cancel(leg, answer);
        } else if next != FORBIDDEN {
            leg.state = next;
        } else if side == Side::Initiator && act == Performative::Cancel && leg.state != START {
            leg.cancelling = Some(Cancelling { reply_with: message.reply_with() });
        } else if (repeats && (leg.last_side, leg.last_act) == (side, column_byte(column)))
            || (self.others_speak && leg.state == START && side == Side::Participant && party != 0)
        {
            return Verdict::Allowed;
        } else {
            return Verdict::Forbidden;
        }
        leg.last_side = side;
        leg.last_act = column_byte(column);
        let late = leg.next_by.is_some_and(|next_by| now > next_by) && side != Side::Initiator;
        leg.next_by = message.reply_by();
        leg.special = leg.cancelling.is_some() || leg.next_by.is_some();
        if late { Verdict::Late } else { Verdict::Allowed }
    }

    /// The participant has stopped, wherever it was, or goes on as if nothing had been said.
    fn end_cancel(&self, leg: &mut Leg, answer: Answer) {
        leg.cancelling = None;
        if answer == Answer::Stopped {
            leg.state = column_byte(self.states.len() - 1);
        }
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

    /// Says what was wrong with a message that is forbidden.
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

    /// What a side may send.
    fn allowed(&self, leg: &Leg, side: Side) -> Vec<Performative> {
        let standard = Performative::STANDARD.into_iter().filter(|act| {
            let cancels = side == Side::Initiator && *act == Performative::Cancel && leg.state != START;
            let answers = side == Side::Participant && leg.cancelling.is_some() && Answer::of(*act).is_some();
            cancels || answers || self.look_up(leg.state, side, act.place()) != FORBIDDEN
        });
        let own = self.own.iter().filter(|own| (own.0, own.1) == (leg.state, side));
        standard.chain(own.map(|own| Performative::UserDefined(own.2))).collect()
    }

    fn state_name(&self, state: u8) -> &str {
        self.states.get(usize::from(state)).map_or("", |state| state.name.as_str())
    }

    /// How a conversation stands.
    pub fn view(&self, guard: &Guard, participants: &[AgentId]) -> ProtocolView {
        let legs = participants.iter().enumerate().map(|(party, participant)| (participant, guard.leg(party)));
        let parties = legs.filter(|(_, leg)| leg.state != START);
        let parties = parties.map(|(participant, leg)| PartyView {
            participant: *participant,
            state: self.state_name(leg.state).to_owned(),
            may_end: self.states.get(usize::from(leg.state)).is_some_and(|state| state.end),
            cancelling: leg.cancelling.is_some(),
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
#[allow(clippy::cast_possible_truncation)] // There are fewer columns, and states, than a byte can count.
const fn column_byte(column: usize) -> u8 {
    column as u8
}
