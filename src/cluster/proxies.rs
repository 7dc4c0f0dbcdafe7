//! Proxies: agents of this router that stand for agents of other nodes. The link thread reads their inboxes.
//!
//! A proxy hands over no more than there is room for in the link to its node. The rest waits in its mailbox, under the
//! limits and policies of any mailbox. A durable message stays in its inbox until the other node has it on disk.

use std::cell::Cell;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;

use caxton_shards::domain::{AgentName, NodeId};
use caxton_shards::message::{AgentId, Message};
use hashbrown::HashMap;
use tokio::sync::{Notify, OnceCell};

use super::link::SendError;
use super::node::{self, Shared};
use crate::error::{CallError, RegistrationError};
use crate::message::is_notice;
use crate::router::Inbox;
use crate::router::flow::Flow;

/// Maximum number of messages that are taken out of an inbox together, and their maximum size in bytes.
const TAKEN_MAX: (usize, usize) = (128, 256 << 10);

/// An agent of another node.
pub(super) struct Proxy {
    pub inbox: Inbox,
    /// The node where it was last known to live.
    pub node: Cell<NodeId>,
    /// Notified when the link has room for the agent, or when the agent is found on another node.
    pub room: Notify,
    /// What it sends to agents of this node.
    pub flow: Arc<Flow>,
    is_closed: Cell<bool>,
}

impl Proxy {
    pub fn id(&self) -> AgentId {
        self.inbox.id()
    }

    /// Deregisters it. The messages that wait in it are given up.
    pub fn close(&self) {
        self.is_closed.set(true);
        self.inbox.close();
        self.room.notify_one();
    }
}

/// The agents of other nodes that are registered here.
#[derive(Default)]
pub(super) struct Proxies(HashMap<AgentId, Rc<OnceCell<Rc<Proxy>>>>);

impl Proxies {
    /// Returns an agent's proxy, if it is registered.
    pub fn get(&self, agent: AgentId) -> Option<&Rc<Proxy>> {
        self.0.get(&agent)?.get()
    }

    /// Returns the number of proxies.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns all that are registered.
    pub fn iter(&self) -> impl Iterator<Item = &Rc<Proxy>> {
        self.0.values().filter_map(|cell| cell.get())
    }

    /// Removes and returns an agent's proxy.
    pub fn remove(&mut self, agent: AgentId) -> Option<Rc<Proxy>> {
        self.0.remove(&agent)?.get().cloned()
    }

    /// Removes this proxy, unless another one has taken its place.
    pub fn forget(&mut self, proxy: &Rc<Proxy>) {
        if self.get(proxy.id()).is_some_and(|current| Rc::ptr_eq(current, proxy)) {
            self.0.remove(&proxy.id());
        }
    }
}

/// Why an agent of another node has no proxy.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum NoProxyError {
    /// This node knows the maximum number of agents of other nodes.
    #[error("this node knows {0} agents of other nodes: the limit is cluster.remote_agents_max")]
    TooMany(usize),
    /// The router did not register it.
    #[error(transparent)]
    NotRegistered(#[from] CallError<RegistrationError>),
}

impl NoProxyError {
    /// Whether the router stops, so that what arrives now is for its next run.
    pub fn is_end(&self) -> bool {
        matches!(self, Self::NotRegistered(CallError::Stopped | CallError::Refused(RegistrationError::Stopping)))
    }

    /// Whether it may have one later.
    pub fn is_temporary(&self) -> bool {
        matches!(self, Self::NotRegistered(CallError::Unresponsive(_)))
    }
}

/// Registers a proxy for an agent of another node, unless there is one already, and returns it.
///
/// # Errors
///
/// An agent of this router has the name, or there are too many, or the router stops.
pub(super) async fn ensure(node: &Shared, name: &AgentName, at: NodeId) -> Result<Rc<Proxy>, NoProxyError> {
    let agent = AgentId::of(name);
    let (cell, router) = {
        let mut node = node.borrow_mut();
        if !node.proxies.0.contains_key(&agent) && node.proxies.len() >= node.proxies_max {
            return Err(NoProxyError::TooMany(node.proxies.len()));
        }
        (Rc::clone(node.proxies.0.entry(agent).or_default()), node.router.clone())
    };
    let opened = cell.get_or_try_init(async || {
        let inbox = router.inbox(name.clone()).proxy().open().await?;
        let (room, flow) = (Notify::new(), node.borrow().inbound.flow_of(agent));
        let proxy = Rc::new(Proxy { inbox, node: Cell::new(at), room, flow, is_closed: Cell::new(false) });
        tokio::task::spawn_local(forward(Rc::clone(node), Rc::clone(&proxy)));
        Ok::<_, NoProxyError>(proxy)
    });
    match opened.await {
        Ok(proxy) => {
            // The newest information about where the agent lives is right.
            let before = proxy.node.replace(at);
            node.borrow_mut().move_unsettled(agent, before, at);
            Ok(Rc::clone(proxy))
        }
        Err(error) => {
            node.borrow_mut().proxies.0.remove(&agent);
            Err(error)
        }
    }
}

/// Sends what arrives for a proxy to its node, until the proxy is gone.
async fn forward(node: Shared, proxy: Rc<Proxy>) {
    let (mut wait, mut taken) = (None, Vec::new());
    while !proxy.is_closed.get() {
        if !node.borrow().has_room(&proxy) {
            proxy.room.notified().await;
            continue;
        }
        let took = poll_fn(|context| proxy.inbox.poll_take(&mut wait, context, TAKEN_MAX, &mut taken)).await;
        if took.is_err() {
            return node.borrow_mut().forget(&proxy);
        }
        node.borrow_mut().read_clock();
        for (message, is_kept) in taken.drain(..) {
            send(&node, &proxy, message, is_kept).await;
        }
    }
}

/// Puts a message into the link, as soon as there is room.
async fn send(node: &Shared, proxy: &Rc<Proxy>, message: Message, is_kept: bool) {
    if is_notice(&message) {
        return node.borrow_mut().send_notice(proxy, &message);
    }
    let Some(sender) = node::name_of(node, message.sender()).await else {
        return node.borrow_mut().give_up(proxy, &message, is_kept, "its sender is not registered any more");
    };
    while !proxy.is_closed.get() {
        let sent = node.borrow_mut().send(proxy, &sender, &message, is_kept);
        match sent {
            Ok(()) => return,
            Err(SendError::TooLarge { .. }) => {
                let why = sent.map_or_else(|error| error.to_string(), |()| String::new());
                return node.borrow_mut().give_up(proxy, &message, is_kept, &why);
            }
            Err(_) => proxy.room.notified().await,
        }
    }
    if !is_kept {
        node.borrow_mut().count_lost(1);
    }
}
