//! The foundation of all other modules: index types, time, slabs, timers and hashing.

pub(crate) mod hashing;
pub mod index;
pub(crate) mod rng;
pub(crate) mod slab;
pub mod time;
pub mod timer_wheel;
