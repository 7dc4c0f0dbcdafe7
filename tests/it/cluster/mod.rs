//! Routers of a cluster, and what they need: a server of NATS with faults.

mod broker;
mod broker_clients;
mod conversations;
mod nodes;
mod operations;
