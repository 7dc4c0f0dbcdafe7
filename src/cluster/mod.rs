//! The cluster: routers on several hosts that reach each other's agents over NATS.
//!
//! An agent of another node is registered here as a *proxy*: an agent whose inbox the link thread reads. So everything
//! that holds between the agents of one router holds on each node: mailboxes and their limits, order, lifetimes, the
//! journal, conversations. Membership is advisory: it speeds up what the links find out by themselves.

#[allow(dead_code, reason = "what carries the frames comes with the link thread")]
mod link;
#[allow(dead_code, unused_imports, reason = "what carries the packets comes with the link thread")]
mod membership;
