//! An agent's factory, which makes it when it is registered and again when it is restarted.

use crate::shard::agent::{Agent, Factory};
use crate::supervision::{catch_panic, drop_quietly};

/// An agent's factory, if it has one. Dropping it is guarded against panics, because it owns what its closure captured.
pub(crate) struct AgentFactory(Option<Factory>);

impl AgentFactory {
    /// For agents that cannot be recreated.
    pub const NONE: Self = Self(None);

    pub fn new(factory: Factory) -> Self {
        Self(Some(factory))
    }

    pub fn exists(&self) -> bool {
        self.0.is_some()
    }

    /// Returns a new agent, or the text of the factory's panic.
    pub fn make(&mut self) -> Result<Box<dyn Agent>, String> {
        match &mut self.0 {
            Some(factory) => catch_panic(factory),
            None => Err("its factory is gone".to_owned()),
        }
    }
}

impl Drop for AgentFactory {
    fn drop(&mut self) {
        drop_quietly(self.0.take());
    }
}
