//! The names of senders: each is sent once, before its first message, and then referred to by a number.
//!
//! Invariant: both ends of a stream keep the same names under the same numbers, because new names are sent in the
//! stream, which is in order. At most [`NAMES_MAX`] names are kept; beyond that, a new name takes over the oldest
//! number.

use std::sync::Arc;

use caxton_shards::domain::AgentName;
use caxton_shards::message::AgentId;
use hashbrown::HashMap;

/// Maximum number of names that each end of a stream keeps.
pub const NAMES_MAX: u16 = 4_096;

/// The names that were sent.
#[derive(Default)]
pub(super) struct NamesSent {
    numbers: HashMap<AgentId, u16>,
    agents: Vec<AgentId>,
    /// The number that the next new name takes over, once all numbers are taken.
    oldest: u16,
}

impl NamesSent {
    /// Returns the number of the agent's name, and whether the name has to be sent under it first.
    pub fn number_of(&mut self, agent: AgentId) -> (u16, bool) {
        if let Some(number) = self.numbers.get(&agent) {
            return (*number, false);
        }
        let number = match u16::try_from(self.agents.len()) {
            Ok(number) if number < NAMES_MAX => {
                self.agents.push(agent);
                number
            }
            _ => {
                let number = self.oldest;
                self.oldest = (number + 1) % NAMES_MAX;
                if let Some(former) = self.agents.get_mut(usize::from(number)) {
                    self.numbers.remove(former);
                    *former = agent;
                }
                number
            }
        };
        self.numbers.insert(agent, number);
        (number, true)
    }
}

/// The names that were received.
#[derive(Default)]
pub(super) struct NamesReceived(Vec<Option<(AgentId, Arc<AgentName>)>>);

impl NamesReceived {
    /// Keeps a name under this number, which is below [`NAMES_MAX`].
    pub fn keep(&mut self, number: u16, name: AgentName) {
        let place = usize::from(number.min(NAMES_MAX - 1));
        if self.0.len() <= place {
            self.0.resize(place + 1, None);
        }
        self.0[place] = Some((AgentId::of(&name), Arc::new(name)));
    }

    pub fn get(&self, number: u16) -> Option<&(AgentId, Arc<AgentName>)> {
        self.0.get(usize::from(number))?.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_sent_once_until_its_number_has_another() {
        let (mut sent, mut received) = (NamesSent::default(), NamesReceived::default());
        let mut is_new = |number: u32| {
            let name = AgentName::try_new(format!("agent-{number}")).expect("it is one");
            let (place, is_first) = sent.number_of(AgentId::of(&name));
            if is_first {
                received.keep(place, name.clone());
            }
            let (id, known) = received.get(place).expect("it was sent");
            assert_eq!((*id, &**known), (AgentId::of(&name), &name));
            is_first
        };
        let most = u32::from(NAMES_MAX);
        assert!((0..most).all(&mut is_new));
        assert!(!(0..most).any(&mut is_new));
        assert!(is_new(most), "it takes the number of the first");
        assert!(!is_new(1) && is_new(0) && is_new(1), "the first takes that of the second");
        assert!(!is_new(most));
        assert_eq!((sent.numbers.len(), sent.agents.len()), (most as usize, most as usize));
    }
}
