//! The control plane: registration, life cycle and restarts of agents, back-pressure, journal, replays, statistics.

pub mod admin;
pub mod backpressure;
mod breakers;
pub mod conformance;
mod inspect;
pub(crate) mod journal;
pub mod lifecycle;
pub mod peers;
pub(crate) mod register;
pub mod replay;
mod replies;
pub(crate) mod restart;
pub mod restore;
pub mod stop;
