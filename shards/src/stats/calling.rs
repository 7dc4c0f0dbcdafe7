//! The agent that a shard is calling, readable from another thread: for a watchdog of a shard that makes no progress.
//!
//! A shard whose handler does not return cannot respond, so it announces the agent before each visit: one store per
//! visit. The names are recorded when agents are added and removed.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::base::index::AgentIndex;
use crate::base::slab::NONE;

/// The agent that a shard is calling.
#[derive(Debug)]
pub struct Calling {
    agent: AtomicU32,
    /// By agent index.
    names: Mutex<Vec<Option<Arc<str>>>>,
}

impl Calling {
    pub(crate) fn new() -> Self {
        Self { agent: AtomicU32::new(NONE), names: Mutex::default() }
    }

    /// Returns the name of the agent being called, if any, as of a very recent moment.
    pub fn agent(&self) -> Option<Arc<str>> {
        let place = self.agent.load(Ordering::Relaxed);
        self.names().get(place as usize)?.clone()
    }

    #[inline(always)]
    pub(crate) fn begin(&self, agent: AgentIndex) {
        self.agent.store(agent.0, Ordering::Relaxed);
    }

    pub(crate) fn end(&self) {
        self.agent.store(NONE, Ordering::Relaxed);
    }

    pub(crate) fn enter(&self, agent: AgentIndex, name: Arc<str>) {
        let mut names = self.names();
        let place = agent.0 as usize;
        if names.len() <= place {
            names.resize(place + 1, None);
        }
        names[place] = Some(name);
    }

    pub(crate) fn leave(&self, agent: AgentIndex) {
        if let Some(name) = self.names().get_mut(agent.0 as usize) {
            *name = None;
        }
    }

    fn names(&self) -> MutexGuard<'_, Vec<Option<Arc<str>>>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
