//! The cluster: routers on several hosts that reach each other's agents over NATS.
//!
//! An agent of another node is registered here as a *proxy*: an agent whose inbox the link thread reads. So mailboxes
//! and their limits, order, lifetimes, the journal and conversations work for it as for any agent of this router.
//! Membership is advisory: it speeds up what the links find out by themselves.
//!
//! A message for an agent of another node takes this path: its shard puts it into the proxy's mailbox; `proxies` takes
//! it out and puts it into the `link` to that node, which `transport` carries; there `inbound` hands it to the
//! router in the name of its sender, for which that node has a proxy. If no proxy is registered, `lookup` asks all
//! nodes for the agent first.

mod findings;
mod inbound;
mod link;
mod lookup;
mod membership;
mod node;
mod proxies;
mod transport;
mod view;

use std::cell::RefCell;
use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::task::LocalSet;

pub(crate) use self::findings::{complaint, examine};
use self::node::Node;
use self::transport::Transport;
#[cfg(test)]
pub(crate) use self::view::tests::view_of;
pub use self::view::{ClusterView, Health, LinkFigures, Load, NodeView, PacketsDropped, Versions};
pub(crate) use self::view::{Look, SharedView};
use crate::config::ConfigError;
use crate::doctor::Finding;
use crate::error::WouldDeadlockError;
use crate::router::Router;
use crate::router::calls::not_on_a_shard;

/// Why a router did not join a cluster.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClusterError {
    /// The settings name no cluster.
    #[error("cluster.nats is not set: it lists the servers over which the nodes of a cluster reach each other")]
    NotConfigured,
    /// The router has joined a cluster before. Each run of a router joins once: links between the same two runs cannot
    /// begin again.
    #[error("the router has joined a cluster before: it can do so again after a restart")]
    AlreadyJoined,
    /// The secret in `cluster.key_file` cannot be used.
    #[error(transparent)]
    Secret(Box<ConfigError>),
    /// The file in `cluster.credentials` cannot be read.
    #[error("cluster.credentials: {path}: {source}", path = .path.display())]
    Credentials {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: io::Error,
    },
    /// The servers in `cluster.nats` cannot be connected to with these settings.
    #[error("cluster.nats: {0}")]
    Servers(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The thread cannot be started.
    #[error("the thread of the cluster could not be started: {0}")]
    Thread(#[source] io::Error),
}

/// A router's place in a cluster. Dropping it leaves the cluster.
///
/// It holds a handle of the router, so that it runs as long as it is in the cluster.
#[derive(Debug)]
#[must_use = "dropping it leaves the cluster"]
pub struct Cluster {
    view: Arc<SharedView>,
    /// Ends the thread when it is dropped.
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Cluster {
    /// Joins the cluster that the router's settings name. The NATS servers need not be reachable yet: a thread connects
    /// in the background, and reconnects when the connection is lost.
    ///
    /// # Errors
    ///
    /// The settings name no cluster, or a file or an address that cannot be used, or the router has joined before.
    pub fn join(router: &Router) -> Result<Self, ClusterError> {
        if !router.config().cluster.is_enabled() {
            return Err(ClusterError::NotConfigured);
        }
        if !router.claim_place_in_cluster() {
            return Err(ClusterError::AlreadyJoined);
        }
        // Nothing was said to other nodes unless it succeeds.
        Self::start(router).inspect_err(|_| router.release_place_in_cluster())
    }

    fn start(router: &Router) -> Result<Self, ClusterError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build();
        let runtime = runtime.map_err(ClusterError::Thread)?;
        let (stop, stopped) = oneshot::channel::<()>();
        let (begun, begins) = flume::bounded(1);
        let view = Arc::new(SharedView::new(ClusterView::of(router), Instant::now()));
        let shown = Arc::clone(&view);
        router.shared().show_cluster(&view);
        let router = router.clone();
        let serve = move || {
            let tasks = LocalSet::new();
            tasks.block_on(&runtime, async move {
                let config = router.config();
                let prepared = async {
                    let secret = config.cluster.secret().map_err(|error| ClusterError::Secret(Box::new(error)))?;
                    let connected = Transport::connect(&config.cluster, config.router.node).await?;
                    Ok((secret, connected))
                };
                let (secret, (transport, packets)) = match prepared.await {
                    Ok(prepared) => prepared,
                    Err(error) => {
                        let _ = begun.send(Err(error));
                        return;
                    }
                };
                let node = Node::new(&router, secret.as_deref());
                let _ = begun.send(Ok(()));
                node::run(Rc::new(RefCell::new(node)), transport, packets, (shown, stopped)).await;
            });
        };
        let thread = std::thread::Builder::new().name("caxton-cluster".to_owned()).spawn(serve);
        let thread = thread.map_err(ClusterError::Thread)?;
        match begins.recv() {
            Ok(Ok(())) => Ok(Self { view, stop: Some(stop), thread: Some(thread) }),
            Ok(Err(error)) => Err(error),
            // The thread ends without a result only if it panics.
            Err(flume::RecvError::Disconnected) => Err(ClusterError::Thread(io::Error::other("it panicked"))),
        }
    }

    /// Returns what this node knows of the cluster.
    pub fn view(&self) -> ClusterView {
        ClusterView::clone(&self.view.look(Instant::now()).view)
    }

    /// Blocks until what this node knows of the cluster meets a condition, and returns that view. Returns nothing if no view
    /// did within the time limit. The condition is called for each new view, and must not call the cluster.
    ///
    /// # Errors
    ///
    /// The call was made on a shard's own thread, which must not wait.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use std::time::Duration;
    ///
    /// use caxton_router::cluster::{Cluster, Health};
    ///
    /// # fn wait(cluster: &Cluster) -> Result<(), Box<dyn std::error::Error>> {
    /// let is_alive = |node: &caxton_router::cluster::NodeView| node.health == Health::Alive;
    /// let view = cluster.wait_until(Duration::from_secs(10), |view| view.nodes.iter().any(is_alive))?;
    /// let view = view.ok_or("no other node is alive")?;
    /// # drop(view);
    /// # Ok(())
    /// # }
    /// ```
    pub fn wait_until(
        &self,
        time_limit: Duration,
        condition: impl FnMut(&ClusterView) -> bool,
    ) -> Result<Option<ClusterView>, WouldDeadlockError> {
        not_on_a_shard()?;
        Ok(self.view.wait_until(time_limit, condition).map(|view| ClusterView::clone(&view)))
    }

    /// Returns what is wrong with the cluster, and what is in order, as this node sees it.
    pub fn findings(&self) -> Vec<Finding> {
        examine(&self.view.look(Instant::now()))
    }

    /// Leaves the cluster, and waits until its thread has ended. The router goes on alone, and cannot join again.
    ///
    /// Volatile messages on their way to other nodes are lost. Messages that wait for agents of other nodes are
    /// dead-lettered. Shut the router down before this call to keep the durable ones in the journal for the next start.
    pub fn leave(mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
