//! Routers of a cluster, and what they need: a server of NATS with faults.

pub mod broker;
mod broker_clients;
mod conversations;
mod deadlines;
mod faults;
pub mod fixture;
mod limits;
mod nodes;
mod operations;
