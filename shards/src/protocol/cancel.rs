//! The cancel meta-protocol, part of every protocol of the library: the initiator may withdraw at any time, and the
//! participant replies that it stopped (`inform`) or could not (`failure`).
//!
//! Messages that the participant sent before it read the cancel are still on their way, so everything allowed before
//! stays allowed until the reply arrives. If a reply could also be the next step of the protocol, `in-reply-to`
//! distinguishes the two, provided that the cancel has a `reply-with` of its own. Otherwise both readings are kept, and
//! whatever either of them allows is allowed, until a later message contradicts one.

use crate::message::Performative;

/// A participant's reply to a cancel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Answer {
    /// It has stopped: the exchange is over.
    Stopped,
    /// It continues.
    GoesOn,
}

impl Answer {
    /// Returns the reply that an act stands for, if it is one.
    pub fn of(act: Performative) -> Option<Self> {
        match act {
            Performative::Inform => Some(Self::Stopped),
            Performative::Failure => Some(Self::GoesOn),
            _ => None,
        }
    }
}

/// Maximum number of readings kept for one exchange.
pub(super) const READINGS_MAX: usize = 5;

/// One reading of an exchange.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Reading {
    pub state: u8,
    /// Cancels without a reply.
    pub cancels: u8,
}

/// The possible readings of an exchange, the likeliest one first.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Readings {
    kept: [Option<Reading>; READINGS_MAX],
    overflowed: bool,
}

impl Readings {
    pub fn add(&mut self, reading: Reading) {
        match self.kept.iter_mut().find(|kept| kept.is_none_or(|kept| kept == reading)) {
            Some(free) => *free = Some(reading),
            None => self.overflowed = true,
        }
    }

    pub fn extend(&mut self, others: &Self) {
        others.iter().for_each(|reading| self.add(reading));
        self.overflowed |= others.overflowed;
    }

    pub fn iter(&self) -> impl Iterator<Item = Reading> {
        self.kept.into_iter().flatten()
    }

    pub fn is_empty(&self) -> bool {
        self.kept[0].is_none()
    }

    /// Whether there are more readings than can be kept.
    pub const fn overflowed(&self) -> bool {
        self.overflowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reading_is_kept_once_and_what_does_not_fit_is_known_to_be_missing() {
        let mut readings = Readings::default();
        assert!(readings.is_empty());
        for state in [1, 1, 2, 3, 4, 5, 5] {
            readings.add(Reading { state, cancels: 0 });
        }
        assert_eq!((readings.iter().count(), readings.overflowed()), (READINGS_MAX, false));
        readings.add(Reading { state: 6, cancels: 0 });
        assert!(readings.overflowed());
    }
}
