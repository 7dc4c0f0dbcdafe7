//! What a node does that takes time: tasks of its thread, one for each.

use std::collections::BTreeMap;
use std::rc::Rc;

use caxton_shards::api::AgentKind;
use caxton_shards::domain::{AgentName, NodeId};
use caxton_shards::message::{AgentId, Message};

use super::{NAMES_MAX, Shared};
use crate::cluster::link::Received;
use crate::cluster::lookup::{Located, Question, Response};
use crate::cluster::transport::{Destination, PacketKind};
use crate::cluster::{inbound, proxies};
use crate::router::Router;

/// What takes time.
pub(super) enum Task {
    /// Hands the messages of a sender on another node to the router.
    Admit { sender: AgentId, name: AgentName, from: NodeId },
    /// Hands a notice of another node's router to an agent.
    Notify { from: NodeId, received: Received, notice: Message },
    /// Says which agents are here.
    Respond(Question),
    /// Registers an agent that was found, or gives up the messages for one that was not.
    Located(AgentId, Located),
    /// Looks for agents for which messages of an earlier run wait.
    LookForAbsent,
}

impl Task {
    /// Performs the task.
    pub async fn run(self, node: Shared) {
        let router = node.borrow().router.clone();
        match self {
            Self::Admit { sender, name, from } => inbound::empty(node, sender, name, from).await,
            Self::Notify { from, received, notice } => {
                let lost = router.notify(vec![notice]).await.is_err();
                let mut node = node.borrow_mut();
                node.count_lost(u64::from(lost));
                node.return_credit(from, received);
            }
            Self::Respond(question) => respond(&node, &router, question).await,
            Self::Located(agent, located) => settle_in(&node, &router, agent, located).await,
            // An error means that the router is stopping, and then nothing has to be looked for.
            Self::LookForAbsent => drop(router.want_absent().await),
        }
    }
}

/// Says which of the agents that a node looks for are here.
async fn respond(node: &Shared, router: &Router, question: Question) {
    let mut agents = BTreeMap::new();
    for agent in question.agents {
        let Ok(view) = router.agent(agent).await else { continue };
        let name = match view {
            Some(view) => match view.kind {
                Some(AgentKind::Handler | AgentKind::Inbox) => AgentName::try_new(view.name).ok(),
                // The agent was registered here and may be again, so neither response would be right.
                Some(AgentKind::Absent) if !view.name.is_empty() => continue,
                _ => None,
            },
            None => None,
        };
        agents.insert(agent, name);
    }
    let mut node = node.borrow_mut();
    let response = Response { node: node.own.node, agents };
    node.responses -= 1;
    node.packets.push((PacketKind::Found, Destination::Node(question.node), response.encode().into()));
    node.changed.notify_one();
}

/// Registers an agent that was found, or gives up what waits for one that was not.
async fn settle_in(node: &Shared, router: &Router, agent: AgentId, located: Located) {
    node.borrow_mut().tell_gone(agent);
    let is_unknown = matches!(located, Located::Unknown(_));
    let why = match located {
        Located::At(at, name) => match proxies::ensure(node, &name, at).await {
            Ok(proxy) => return proxy.room.notify_one(),
            // This run ends, and the next one looks for the agent again.
            Err(error) if error.is_end() => return,
            Err(error) if error.is_temporary() => {
                let mut node = node.borrow_mut();
                node.lookups.begin(agent);
                return node.changed.notify_one();
            }
            Err(error) => error.to_string(),
        },
        Located::Nowhere => "no node of the cluster has it".to_owned(),
        Located::Unknown(nodes) => {
            let nodes: Vec<String> = nodes.iter().map(ToString::to_string).collect();
            format!("no node of the cluster says that it has it, and these did not respond: {}", nodes.join(", "))
        }
    };
    if is_unknown && node.borrow().proxies.get(agent).is_some() || node.borrow().may_come_back(agent) {
        return;
    }
    let proxy = node.borrow_mut().proxies.remove(agent);
    match proxy {
        Some(proxy) => proxy.close(),
        // An error means that the router is stopping, which gives up all such messages.
        None => drop(router.give_up_wanted(agent, why).await),
    }
}

/// Returns the name of an agent of this router, or of one that was removed not long ago.
pub(in crate::cluster) async fn name_of(node: &Shared, agent: Option<AgentId>) -> Option<Rc<AgentName>> {
    let agent = agent?;
    let router = {
        let node = node.borrow();
        if let Some(name) = node.names.get(&agent) {
            return Some(Rc::clone(name));
        }
        node.router.clone()
    };
    let name = Rc::new(router.name_of(agent).await?);
    let mut node = node.borrow_mut();
    if node.names.len() >= NAMES_MAX {
        node.names.clear();
    }
    node.names.insert(agent, Rc::clone(&name));
    Some(name)
}
