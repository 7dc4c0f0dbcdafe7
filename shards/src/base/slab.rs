//! Where everything that a shard keeps many of lives: numbered places that are given out and taken back.
//!
//! The place that was given back last is given out first, because it is still in the cache. Places come in chunks, so
//! that growing never copies what is there.

/// How many places are added at a time.
const CHUNK: usize = 1_024;
/// The mark for "no place" in lists that are threaded through a slab.
pub const NONE: u32 = u32::MAX;

/// A growing set of numbered places, up to a bound.
#[derive(Debug)]
pub struct Slab<T> {
    /// Their length is part of their type, so that finding a place takes one comparison and not two.
    chunks: Vec<Box<[Place<T>; CHUNK]>>,
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
        Self { chunks: Vec::new(), free: NONE, live: 0, places_max: places_max.min(NONE as usize) }
    }

    /// All places have numbers below this one.
    pub fn places(&self) -> u32 {
        u32::try_from(self.chunks.len() * CHUNK).unwrap_or(NONE)
    }

    /// How many places are taken.
    #[inline]
    pub fn len(&self) -> usize {
        self.live
    }

    /// Takes a place, or gives the value back when all are taken.
    ///
    /// # Errors
    /// The value itself, when the slab is full.
    #[inline(always)]
    pub fn insert(&mut self, value: T) -> Result<u32, T> {
        if self.free == NONE {
            self.grow();
        }
        let index = self.free;
        match self.place_mut(index) {
            Some(place @ &mut Place::Free { next }) => {
                *place = Place::Taken(value);
                self.free = next;
                self.live += 1;
                Ok(index)
            }
            _ => Err(value),
        }
    }

    /// Gives the place back and answers what stood there.
    #[inline(always)]
    pub fn remove(&mut self, index: u32) -> Option<T> {
        let next = self.free;
        let place = self.place_mut(index)?;
        if let Place::Free { .. } = place {
            return None;
        }
        match std::mem::replace(place, Place::Free { next }) {
            Place::Taken(value) => {
                self.free = index;
                self.live -= 1;
                Some(value)
            }
            Place::Free { .. } => None,
        }
    }

    /// Gives the place back when `take` has taken what is still wanted of what stands there. The rest is dropped where it
    /// is, so that something large is not moved to be forgotten.
    #[inline]
    pub fn release<R>(&mut self, index: u32, take: impl FnOnce(&mut T) -> R) -> Option<R> {
        let next = self.free;
        let place = self.place_mut(index)?;
        let Place::Taken(value) = place else { return None };
        let taken = take(value);
        *place = Place::Free { next };
        self.free = index;
        self.live -= 1;
        Some(taken)
    }

    /// What stands at a place.
    #[inline(always)]
    pub fn get(&self, index: u32) -> Option<&T> {
        match &self.chunks.get(index as usize / CHUNK)?[index as usize % CHUNK] {
            Place::Taken(value) => Some(value),
            Place::Free { .. } => None,
        }
    }

    /// What stands at a place, to change it.
    #[inline(always)]
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

    #[inline(always)]
    fn place_mut(&mut self, index: u32) -> Option<&mut Place<T>> {
        Some(&mut self.chunks.get_mut(index as usize / CHUNK)?[index as usize % CHUNK])
    }

    /// Adds places when none is free, as far as the bound allows.
    #[cold]
    #[allow(clippy::cast_possible_truncation)] // There are fewer places than `NONE`.
    fn grow(&mut self) {
        let first = self.chunks.len() * CHUNK;
        let last = self.places_max.min(first + CHUNK);
        if first >= last {
            return;
        }
        let places = (first..first + CHUNK).map(|index| {
            let next = if index + 1 < last { index as u32 + 1 } else { NONE };
            Place::Free { next }
        });
        if let Ok(chunk) = places.collect::<Box<[_]>>().try_into() {
            self.chunks.push(chunk);
            self.free = first as u32;
        }
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
        for (value, place) in places.iter().enumerate() {
            assert_eq!(slab.get(*place), Some(&value));
        }
        assert_eq!(slab.remove(places[7]), Some(7));
        assert_eq!(slab.remove(places[7]), None);
        assert_eq!(slab.get(places[7]), None);
        assert_eq!(slab.insert(1_000), Ok(places[7]));
        assert_eq!(slab.release(places[7], std::mem::take), Some(1_000));
        assert_eq!(slab.release(places[7], |value| *value), None);
        assert_eq!(slab.insert(1_001), Ok(places[7]));
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
