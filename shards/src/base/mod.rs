//! What everything else stands on: numbers, time, tables, timers, hashing.

pub(crate) mod hashing;
pub mod index;
pub(crate) mod rng;
pub(crate) mod slab;
pub mod time;
pub mod timer_wheel;
