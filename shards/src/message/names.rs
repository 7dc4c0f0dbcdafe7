//! A cache of recently seen names and their ids.
//!
//! Messages in text or bit-efficient form name their agents, and the same few agents occur again and again. An id is
//! 128 bits of a cryptographic hash, so that nobody can choose a name with another agent's id; computing it takes
//! longer than looking up the name.
//!
//! Invariants: an entry is used only for exactly the name it was created for; each thread has [`NAMES_KEPT`] entries,
//! whatever names occur.

use std::cell::RefCell;
use std::hash::BuildHasher as _;

use foldhash::fast::RandomState;

use super::id::AgentId;

/// Number of names cached per thread; a power of two.
const NAMES_KEPT: usize = 256;
/// Maximum length of a cached name, in bytes. With its id, such a name fills two cache lines.
const NAME_BYTES_KEPT: usize = 96;

struct Entry {
    length: u8,
    name: [u8; NAME_BYTES_KEPT],
    id: AgentId,
}

struct Names {
    hasher: RandomState,
    entries: Vec<Option<Entry>>,
}

thread_local! {
    static NAMES: RefCell<Names> =
        RefCell::new(Names { hasher: RandomState::default(), entries: Vec::new() });
}

/// Returns the id of a name, from the cache or from `id_of`.
pub(super) fn recall(name: &str, id_of: impl FnOnce() -> AgentId) -> AgentId {
    let bytes = name.as_bytes();
    let Some(length) = u8::try_from(bytes.len()).ok().filter(|_| bytes.len() <= NAME_BYTES_KEPT) else {
        return id_of();
    };
    let seen = NAMES.try_with(|names| {
        let place = usize::try_from(names.borrow().hasher.hash_one(bytes)).unwrap_or_default() % NAMES_KEPT;
        (place, names.borrow().entries.get(place).and_then(Option::as_ref).and_then(|entry| entry.id_of(bytes)))
    });
    match seen {
        Ok((_, Some(id))) => id,
        Ok((place, None)) => {
            let id = id_of();
            let _ = NAMES.try_with(|names| names.borrow_mut().keep(place, Entry::new(length, bytes, id)));
            id
        }
        // While a thread ends, its cache is gone.
        Err(_) => id_of(),
    }
}

impl Entry {
    fn new(length: u8, bytes: &[u8], id: AgentId) -> Self {
        let mut name = [0; NAME_BYTES_KEPT];
        if let Some(start) = name.get_mut(..bytes.len()) {
            start.copy_from_slice(bytes);
        }
        Self { length, name, id }
    }

    #[inline]
    fn id_of(&self, bytes: &[u8]) -> Option<AgentId> {
        (self.name.get(..usize::from(self.length)) == Some(bytes)).then_some(self.id)
    }
}

impl Names {
    fn keep(&mut self, place: usize, entry: Entry) {
        if self.entries.is_empty() {
            self.entries.resize_with(NAMES_KEPT, || None);
        }
        if let Some(kept) = self.entries.get_mut(place) {
            *kept = Some(entry);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_names_each_keep_their_own_id_and_are_found_again() {
        let names: Vec<String> = (0..4 * NAMES_KEPT).map(|number| format!("agent-{number}@shop.example")).collect();
        for _ in 0..3 {
            for name in &names {
                assert_eq!(AgentId::of_text(name), AgentId::hashed(name), "{name}");
            }
        }
        let lately = names.last().expect("there are names");
        assert_eq!(recall(lately, || unreachable!("it was seen last")), AgentId::hashed(lately));
    }

    #[test]
    fn a_name_that_is_the_beginning_of_another_is_another() {
        let (short, long) = ("a", "aa");
        for name in [short, long, short, long, "", &"x".repeat(NAME_BYTES_KEPT), &"x".repeat(NAME_BYTES_KEPT + 1)] {
            assert_eq!(AgentId::of_text(name), AgentId::hashed(name), "{name:?}");
        }
    }
}
