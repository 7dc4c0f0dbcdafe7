//! A bounded slab: numbered places that are allocated and reused.
//!
//! The place freed last is reused first, because it is still in the cache. The slab grows in chunks, so growth never
//! copies existing values.

/// The number of places added at a time.
const CHUNK: usize = 1_024;
/// Marks "no place" in lists threaded through a slab.
pub const NONE: u32 = u32::MAX;

/// A bounded, growing set of numbered places.
#[derive(Debug)]
pub struct Slab<T> {
    /// The chunk length is part of the type, so an access needs one bounds check instead of two.
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
    /// Creates an empty slab of at most `places_max` places.
    pub fn new(places_max: usize) -> Self {
        Self { chunks: Vec::new(), free: NONE, live: 0, places_max: places_max.min(NONE as usize) }
    }

    /// Returns an exclusive upper bound of all place numbers.
    pub fn places(&self) -> u32 {
        u32::try_from(self.chunks.len() * CHUNK).unwrap_or(NONE)
    }

    /// Returns the number of occupied places.
    #[inline]
    pub fn len(&self) -> usize {
        self.live
    }

    /// Stores a value and returns its place.
    ///
    /// # Errors
    ///
    /// Returns the value when the slab is full.
    #[inline(always)]
    pub fn insert(&mut self, value: T) -> Result<u32, T> {
        if self.free == NONE {
            self.grow();
        }
        let index = self.free;
        match self.place_mut(index) {
            Some(place @ &mut Place::Free { next }) => {
                // A free place holds nothing that would have to be dropped.
                std::mem::forget(std::mem::replace(place, Place::Taken(value)));
                self.free = next;
                self.live += 1;
                Ok(index)
            }
            _ => Err(value),
        }
    }

    /// Frees a place and returns its value.
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

    /// Frees a place after `take` has extracted the parts still needed. The rest is dropped in place, so that large
    /// values are not moved only to be dropped.
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

    /// Returns the value at a place.
    #[inline(always)]
    pub fn get(&self, index: u32) -> Option<&T> {
        match &self.chunks.get(index as usize / CHUNK)?[index as usize % CHUNK] {
            Place::Taken(value) => Some(value),
            Place::Free { .. } => None,
        }
    }

    /// Returns the value at a place, mutably.
    #[inline(always)]
    pub fn get_mut(&mut self, index: u32) -> Option<&mut T> {
        match self.place_mut(index)? {
            Place::Taken(value) => Some(value),
            Place::Free { .. } => None,
        }
    }

    /// Iterates over all values with their places.
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

    /// Adds a chunk if no place is free and the limit allows it.
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
