//! Where everything that a shard keeps many of lives: numbered places that are given out and taken back.
//!
//! The place that was given back last is given out first, because it is still in the cache. The slab grows by a quarter
//! at a time, so that at most a fifth of its memory waits for values.

/// The fewest places that are added at a time.
const GROWTH_MIN: usize = 256;
/// The mark for "no place" in lists that are threaded through a slab.
pub const NONE: u32 = u32::MAX;

/// A growing set of numbered places, up to a bound.
#[derive(Debug)]
pub struct Slab<T> {
    places: Vec<Place<T>>,
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
        Self { places: Vec::new(), free: NONE, live: 0, places_max: places_max.min(NONE as usize) }
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
    #[inline]
    pub fn insert(&mut self, value: T) -> Result<u32, T> {
        let index = self.free;
        match self.places.get_mut(index as usize) {
            Some(place) => {
                if let Place::Free { next } = *place {
                    self.free = next;
                }
                *place = Place::Taken(value);
                self.live += 1;
                Ok(index)
            }
            None => self.append(value),
        }
    }

    /// Gives the place back and answers what stood there.
    #[inline]
    pub fn remove(&mut self, index: u32) -> Option<T> {
        let place = self.places.get_mut(index as usize)?;
        match std::mem::replace(place, Place::Free { next: self.free }) {
            Place::Taken(value) => {
                self.free = index;
                self.live -= 1;
                Some(value)
            }
            free @ Place::Free { .. } => {
                *place = free;
                None
            }
        }
    }

    /// What stands at a place.
    #[inline]
    pub fn get(&self, index: u32) -> Option<&T> {
        match self.places.get(index as usize)? {
            Place::Taken(value) => Some(value),
            Place::Free { .. } => None,
        }
    }

    /// What stands at a place, to change it.
    #[inline]
    pub fn get_mut(&mut self, index: u32) -> Option<&mut T> {
        match self.places.get_mut(index as usize)? {
            Place::Taken(value) => Some(value),
            Place::Free { .. } => None,
        }
    }

    /// Everything in the slab with its place.
    #[allow(clippy::cast_possible_truncation)] // There are fewer places than `NONE`.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        self.places.iter().enumerate().filter_map(|(index, place)| match place {
            Place::Taken(value) => Some((index as u32, value)),
            Place::Free { .. } => None,
        })
    }

    /// Adds a place when none is free.
    #[cold]
    #[allow(clippy::cast_possible_truncation)] // There are fewer places than `NONE`.
    fn append(&mut self, value: T) -> Result<u32, T> {
        let index = self.places.len();
        if index >= self.places_max {
            return Err(value);
        }
        if index == self.places.capacity() {
            self.places.reserve_exact(GROWTH_MIN.max(index / 4));
        }
        self.places.push(Place::Taken(value));
        self.live += 1;
        Ok(index as u32)
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
