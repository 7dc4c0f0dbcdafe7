//! Routing: which shard an agent is on, who provides which capability, and content-based rules.

pub mod capabilities;
pub mod partition;
pub mod rules;
