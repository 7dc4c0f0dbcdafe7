//! Routing: which shard an agent is on, who provides which capability, content-based rules, and plugins.

pub mod capabilities;
pub mod partition;
pub mod plugins;
pub mod rules;
