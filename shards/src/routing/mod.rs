//! Where messages go: which shard has an agent, who offers what, and the rules in between.

pub mod capabilities;
pub mod partition;
pub mod rules;
