//! Routers of a cluster, and what they need: a server of NATS with faults.

pub mod broker;
mod broker_clients;
mod conversations;
pub mod nodes;
mod operations;
