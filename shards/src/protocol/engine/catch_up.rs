//! Resumes conversations of an earlier run that lost steps: their state is inferred from the next message.

use std::collections::VecDeque;

use super::{COLUMNS, FORBIDDEN, Guard, Leg, Rules, START, column_byte};
use crate::message::{Message, Performative};
use crate::protocol::Side;

impl Rules {
    /// Takes the step of a message that its exchange does not allow yet, from the nearest state in which it is allowed,
    /// as if the steps between had been taken. Returns false, without changing anything, if no steps lead to such a
    /// state.
    #[cold]
    pub fn catch_up(&self, guard: &mut Guard, from: usize, to: usize, message: &Message) -> bool {
        let Some(place) = guard.place(from, to, message) else { return false };
        if !self.is_meant_by(message) {
            return false;
        }
        let Some(leg) = guard.leg_mut(place.party) else { return false };
        let act = message.performative();
        let allows = |state: &u8| self.next_state(*state, place.side, act) != FORBIDDEN;
        let states = self.reachable(leg.state);
        // The initiator may cancel whatever it has begun, which no table contains.
        let cancels = place.side == Side::Initiator && act == Performative::Cancel;
        let begun = || states.iter().find(|state| cancels && **state != START).copied();
        let next = states.iter().find(|state| allows(state)).map(|state| self.next_state(*state, place.side, act));
        let Some(state) = next.or_else(begun) else { return false };
        *leg = Leg {
            state,
            last_side: place.side,
            last_act: column_byte(act.place()),
            cancels: u8::from(next.is_none()),
            cancel_asks: message.reply_with().filter(|_| next.is_none()),
            next_by: message.reply_by(),
            ..Leg::NEW
        };
        leg.special = leg.is_special();
        true
    }

    /// Returns the states reachable from this one, the nearest first.
    fn reachable(&self, from: u8) -> Vec<u8> {
        let (mut found, mut waiting) = (vec![from], VecDeque::from([from]));
        while let Some(state) = waiting.pop_front() {
            let sides = [Side::Initiator, Side::Participant];
            let standard = sides.into_iter().flat_map(|side| (0..COLUMNS).map(move |column| (side, column)));
            let standard = standard.map(|(side, column)| self.look_up(state, side, column));
            let own = self.own.iter().filter(|own| own.0 == state).map(|own| own.3);
            for next in standard.chain(own) {
                if next != FORBIDDEN && !found.contains(&next) {
                    found.push(next);
                    waiting.push_back(next);
                }
            }
        }
        found
    }
}
