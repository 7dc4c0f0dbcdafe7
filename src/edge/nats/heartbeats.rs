//! Heartbeats of agents that can be prompted, for connections that subscribe to them.
//!
//! They are looked up once for all connections, and only while there is one that subscribes.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};

use super::prompts::{self, Instance};
use crate::router::Router;

/// Time between two heartbeats of an agent.
pub(super) const INTERVAL: Duration = Duration::from_secs(30);

/// The agents whose heartbeats are due, whenever that changes.
pub(super) type Beats = watch::Receiver<Arc<[Instance]>>;

/// The heartbeats of a door.
pub(super) struct Heartbeats {
    agents: watch::Sender<Arc<[Instance]>>,
    /// A connection has subscribed.
    subscribed: Notify,
}

impl Heartbeats {
    pub fn new() -> Self {
        Self { agents: watch::Sender::new(Arc::default()), subscribed: Notify::new() }
    }

    /// Subscribes a connection. It is given the last heartbeats at once.
    pub fn subscribe(&self) -> Beats {
        let mut beats = self.agents.subscribe();
        beats.mark_changed();
        self.subscribed.notify_one();
        beats
    }

    /// Has the heartbeats sent, for as long as it is polled.
    pub async fn send(&self, router: &Router) {
        loop {
            while self.agents.receiver_count() == 0 {
                self.subscribed.notified().await;
            }
            self.agents.send_replace(prompts::agents(router.clone()).await.into());
            tokio::time::sleep(INTERVAL).await;
        }
    }
}
