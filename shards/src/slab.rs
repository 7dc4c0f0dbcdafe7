//! Where everything that a shard keeps many of lives: numbered places that are given out and taken back.
//!
//! Places come in chunks, so that growing never copies what is there, and the place that was given back last is given
//! out first, because it is still in the cache.

/// How many places are allocated at a time.
const CHUNK: usize = 256;
/// The mark for "no place" in lists that are threaded through a slab.
pub const NONE: u32 = u32::MAX;

/// A growing set of numbered places, up to a bound.
#[derive(Debug)]
pub struct Slab<T> {
    chunks: Vec<Box<[Place<T>]>>,
    free: u32,
    live: usize,
    places_max: usize,
}

#[derive(Debug)]
enum Place<T> {
    Taken(T),
    Free { next: u32 },
}

impl<T> Slab<T> {
    /// An empty slab that grows up to `places_max` places.
    pub fn new(places_max: usize) -> Self {
        Self { chunks: Vec::new(), free: NONE, live: 0, places_max: places_max.min(NONE as usize - CHUNK) }
    }

    /// How many places are taken.
    #[inline]
    pub fn len(&self) -> usize {
        self.live
    }

    /// Whether no place is taken.
    pub fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// Whether another value fits.
    #[inline]
    pub fn has_room(&self) -> bool {
        self.live < self.places_max
    }

    /// Takes a place, or gives the value back when all are taken.
    ///
    /// # Errors
    /// The value itself, when the slab is full.
    #[inline]
    pub fn insert(&mut self, value: T) -> Result<u32, T> {
        if self.free == NONE && !self.grow() {
            return Err(value);
        }
        let index = self.free;
        let place = &mut self.chunks[index as usize / CHUNK][index as usize % CHUNK];
        if let Place::Free { next } = *place {
            self.free = next;
        }
        *place = Place::Taken(value);
        self.live += 1;
        Ok(index)
    }

    /// Gives the place back and answers what stood there.
    #[inline]
    pub fn remove(&mut self, index: u32) -> Option<T> {
        let place = self.place_mut(index)?;
        if let Place::Free { .. } = place {
            return None;
        }
        let Place::Taken(value) = std::mem::replace(place, Place::Free { next: NONE }) else { return None };
        let free = self.free;
        if let Some(Place::Free { next }) = self.place_mut(index) {
            *next = free;
        }
        self.free = index;
        self.live -= 1;
        Some(value)
    }

    /// What stands at a place.
    #[inline]
    pub fn get(&self, index: u32) -> Option<&T> {
        match self.chunks.get(index as usize / CHUNK)?.get(index as usize % CHUNK)? {
            Place::Taken(value) => Some(value),
            Place::Free { .. } => None,
        }
    }

    /// What stands at a place, to change it.
    #[inline]
    pub fn get_mut(&mut self, index: u32) -> Option<&mut T> {
        match self.place_mut(index)? {
            Place::Taken(value) => Some(value),
            Place::Free { .. } => None,
        }
    }

    /// Everything in the slab with its place.
    #[allow(clippy::cast_possible_truncation)] // There are fewer places than `NONE`.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        self.chunks.iter().flat_map(|chunk| chunk.iter()).enumerate().filter_map(|(index, place)| match place {
            Place::Taken(value) => Some((index as u32, value)),
            Place::Free { .. } => None,
        })
    }

    #[inline]
    fn place_mut(&mut self, index: u32) -> Option<&mut Place<T>> {
        self.chunks.get_mut(index as usize / CHUNK)?.get_mut(index as usize % CHUNK)
    }

    #[cold]
    #[allow(clippy::cast_possible_truncation)] // There are fewer places than `NONE`.
    fn grow(&mut self) -> bool {
        let first = self.chunks.len() * CHUNK;
        let places = CHUNK.min(self.places_max.saturating_sub(first));
        if places == 0 {
            return false;
        }
        let next_of = |place: usize| if place + 1 < places { (first + place + 1) as u32 } else { NONE };
        self.chunks.push((0..places).map(|place| Place::Free { next: next_of(place) }).collect());
        self.free = first as u32;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_reused_and_the_bound_holds() {
        let mut slab = Slab::new(300);
        let places: Vec<u32> = (0..300).map(|value| slab.insert(value).unwrap()).collect();
        assert_eq!(slab.insert(300), Err(300));
        assert!(!slab.has_room());
        for (value, place) in places.iter().enumerate() {
            assert_eq!(slab.get(*place), Some(&value));
        }
        assert_eq!(slab.remove(places[7]), Some(7));
        assert_eq!(slab.remove(places[7]), None);
        assert_eq!(slab.get(places[7]), None);
        assert_eq!(slab.insert(1_000), Ok(places[7]));
        assert_eq!(slab.len(), 300);
        assert_eq!(slab.iter().count(), 300);
    }

    #[test]
    fn an_index_that_was_never_given_out_finds_nothing() {
        let mut slab: Slab<u8> = Slab::new(10);
        assert_eq!(slab.get(5), None);
        assert_eq!(slab.remove(NONE), None);
    }
}
