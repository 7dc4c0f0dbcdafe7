//! Finds out which node has an agent: asks all nodes, and collects their responses.
//!
//! A node that has the agent responds with the agent's name; a node that only has a proxy of it says that it does not
//! have it. If every live node says so, the agent does not exist. Nodes that do not respond are asked again, up to
//! [`QUESTIONS_MAX`] times in all.
//!
//! Invariant: at most [`LOOKUPS_MAX`] agents are looked for, and each of them ends.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use caxton_shards::domain::{AgentName, NodeId};
use caxton_shards::message::AgentId;
use hashbrown::HashMap;
use serde_json::{Value, json};

/// Maximum number of agents that are looked for at the same time.
pub(super) const LOOKUPS_MAX: usize = 65_536;
/// Maximum number of agents in one question.
pub(super) const AGENTS_PER_QUESTION_MAX: usize = 256;
/// Time that nodes have to respond to the first question. It doubles with each further one.
const RESPOND_WITHIN_MS: u64 = 500;
/// How often a node is asked.
const QUESTIONS_MAX: u32 = 4;

/// Agents that are looked for.
#[derive(Default)]
pub(super) struct Lookups {
    by_agent: HashMap<AgentId, Lookup>,
    /// Agents for which the next question asks.
    unasked: VecDeque<AgentId>,
    /// Agents that were asked for, by the time at which the question ends.
    due: BTreeSet<(u64, AgentId)>,
}

#[derive(Default)]
struct Lookup {
    /// The nodes that have said that they do not have the agent.
    denied: BTreeSet<NodeId>,
    questions: u32,
    due_ms: u64,
}

/// How a lookup ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Located {
    /// This node has it.
    At(NodeId, AgentName),
    /// No node has it.
    Nowhere,
    /// These nodes did not respond, and no other node has it.
    Unknown(Vec<NodeId>),
}

impl Lookups {
    /// Begins to look for an agent, unless it is looked for already. Returns false if too many agents are looked for.
    pub fn begin(&mut self, agent: AgentId) -> bool {
        if self.by_agent.contains_key(&agent) {
            return true;
        }
        if self.by_agent.len() >= LOOKUPS_MAX {
            return false;
        }
        self.by_agent.insert(agent, Lookup::default());
        self.unasked.push_back(agent);
        true
    }

    /// Returns the agents for which all nodes are to be asked now, at most [`AGENTS_PER_QUESTION_MAX`].
    pub fn next_question(&mut self, now_ms: u64) -> Option<Vec<AgentId>> {
        let mut agents = Vec::new();
        while agents.len() < AGENTS_PER_QUESTION_MAX
            && let Some(agent) = self.unasked.pop_front()
        {
            // It may have been found meanwhile.
            let Some(lookup) = self.by_agent.get_mut(&agent) else { continue };
            lookup.questions += 1;
            lookup.due_ms = now_ms + (RESPOND_WITHIN_MS << (lookup.questions - 1).min(QUESTIONS_MAX));
            self.due.insert((lookup.due_ms, agent));
            agents.push(agent);
        }
        (!agents.is_empty()).then_some(agents)
    }

    /// Takes in what a node said about an agent: `name` is the agent's name if the node has it. `nodes` are all other
    /// live nodes, or `None` if this node started too recently to know them all. Returns how the lookup ended, if it
    /// has.
    pub fn hear(
        &mut self,
        node: NodeId,
        agent: AgentId,
        name: Option<AgentName>,
        nodes: Option<&BTreeSet<NodeId>>,
    ) -> Option<Located> {
        let lookup = self.by_agent.get_mut(&agent)?;
        let located = match name {
            Some(name) if AgentId::of(&name) == agent => Located::At(node, name),
            _ => {
                lookup.denied.insert(node);
                if nodes.is_none_or(|nodes| !nodes.is_subset(&lookup.denied)) {
                    return None;
                }
                Located::Nowhere
            }
        };
        self.end(agent);
        Some(located)
    }

    /// Ends the lookups that have waited long enough, and returns how each ended. Agents whose nodes have further time
    /// to respond go into the next question. `nodes` are all other live nodes.
    pub fn on_deadline(&mut self, now_ms: u64, nodes: &BTreeSet<NodeId>) -> Vec<(AgentId, Located)> {
        let mut ended = Vec::new();
        while let Some((due_ms, agent)) = self.due.first().copied()
            && due_ms <= now_ms
        {
            self.due.pop_first();
            let Some(lookup) = self.by_agent.get(&agent) else { continue };
            let silent: Vec<NodeId> = nodes.difference(&lookup.denied).copied().collect();
            // A node that still knows no other after the second question is alone.
            let is_alone = nodes.is_empty() && lookup.questions > 1;
            if silent.is_empty() && !nodes.is_empty() || is_alone {
                ended.push((agent, Located::Nowhere));
            } else if lookup.questions >= QUESTIONS_MAX {
                ended.push((agent, Located::Unknown(silent)));
            } else {
                self.unasked.push_back(agent);
                continue;
            }
            self.by_agent.remove(&agent);
        }
        ended
    }

    /// Returns when [`Lookups::on_deadline`] is due.
    pub fn next_deadline_ms(&self) -> Option<u64> {
        self.due.first().map(|(due_ms, _)| *due_ms)
    }

    fn end(&mut self, agent: AgentId) {
        let Some(lookup) = self.by_agent.remove(&agent) else { return };
        self.due.remove(&(lookup.due_ms, agent));
    }
}

/// A question that goes to all nodes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Question {
    /// The node that asks.
    pub node: NodeId,
    pub agents: Vec<AgentId>,
}

/// A node's response to a question.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Response {
    /// The node that responds.
    pub node: NodeId,
    /// For each agent, its name if the node has it.
    pub agents: BTreeMap<AgentId, Option<AgentName>>,
}

impl Question {
    pub fn encode(&self) -> Vec<u8> {
        let agents: Vec<String> = self.agents.iter().map(written).collect();
        json!({ "node": self.node.into_inner(), "agents": agents }).to_string().into_bytes()
    }

    /// Returns nothing if the bytes are not a question.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let value: Value = serde_json::from_slice(bytes).ok()?;
        let agents = value["agents"].as_array().filter(|agents| agents.len() <= AGENTS_PER_QUESTION_MAX)?;
        let agents = agents.iter().map(|agent| read(agent.as_str()?)).collect::<Option<_>>()?;
        Some(Self { node: read_node(&value["node"])?, agents })
    }
}

impl Response {
    pub fn encode(&self) -> Vec<u8> {
        let agents: serde_json::Map<String, Value> = self
            .agents
            .iter()
            .map(|(agent, name)| (written(agent), json!(name.as_ref().map(AsRef::<str>::as_ref))))
            .collect();
        json!({ "node": self.node.into_inner(), "agents": agents }).to_string().into_bytes()
    }

    /// Returns nothing if the bytes are not a response.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let value: Value = serde_json::from_slice(bytes).ok()?;
        let agents = value["agents"].as_object().filter(|agents| agents.len() <= AGENTS_PER_QUESTION_MAX)?;
        let one = |(agent, name): (&String, &Value)| {
            let name = match name {
                Value::Null => None,
                name => Some(AgentName::try_new(name.as_str()?).ok()?),
            };
            Some((read(agent)?, name))
        };
        Some(Self { node: read_node(&value["node"])?, agents: agents.iter().map(one).collect::<Option<_>>()? })
    }
}

fn read_node(value: &Value) -> Option<NodeId> {
    NodeId::try_new(u16::try_from(value.as_u64()?).ok()?).ok()
}

fn written(agent: &AgentId) -> String {
    format!("{:032x}", agent.to_u128())
}

fn read(text: &str) -> Option<AgentId> {
    let digits = Some(text).filter(|text| text.len() == 32)?;
    AgentId::from_u128(u128::from_str_radix(digits, 16).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> AgentName {
        AgentName::try_new(text.to_owned()).expect("it is legal")
    }

    fn node(number: u16) -> NodeId {
        NodeId::try_new(number).expect("every number is legal")
    }

    fn nodes(numbers: impl IntoIterator<Item = u16>) -> BTreeSet<NodeId> {
        numbers.into_iter().map(node).collect()
    }

    #[test]
    fn an_agent_is_where_a_node_says_and_nowhere_when_all_deny() {
        let others = nodes([2, 3]);
        let (clerk, ghost) = (AgentId::of_text("clerk"), AgentId::of_text("ghost"));
        let mut lookups = Lookups::default();
        assert!(lookups.begin(clerk) && lookups.begin(ghost) && lookups.begin(clerk));
        assert_eq!(lookups.next_question(1_000), Some(vec![clerk, ghost]));
        assert_eq!(lookups.next_question(1_000), None);
        assert_eq!(lookups.hear(node(2), ghost, None, Some(&others)), None);
        assert_eq!(lookups.hear(node(2), ghost, None, Some(&others)), None, "it said so before");
        assert_eq!(lookups.hear(node(3), ghost, None, Some(&others)), Some(Located::Nowhere));
        assert_eq!(lookups.hear(node(2), clerk, None, None), None, "there may be others");
        let found = lookups.hear(node(3), clerk, Some(name("clerk")), Some(&others));
        assert_eq!(found, Some(Located::At(node(3), name("clerk"))));
        assert_eq!((lookups.by_agent.len(), lookups.next_deadline_ms()), (0, None));
        assert_eq!(lookups.hear(node(2), clerk, None, Some(&others)), None, "it is over");
    }

    #[test]
    fn a_name_with_another_id_is_not_believed() {
        let mut lookups = Lookups::default();
        let clerk = AgentId::of_text("clerk");
        lookups.begin(clerk);
        let heard = lookups.hear(node(2), clerk, Some(name("thief")), Some(&nodes([2])));
        assert_eq!(heard, Some(Located::Nowhere));
    }

    #[test]
    fn nodes_that_do_not_respond_are_asked_again_and_then_named() {
        let others = nodes([2, 3]);
        let clerk = AgentId::of_text("clerk");
        let mut lookups = Lookups::default();
        lookups.begin(clerk);
        let (mut now_ms, mut asked) = (0, 0);
        let ended = loop {
            if lookups.next_question(now_ms).is_some() {
                asked += 1;
                lookups.hear(node(2), clerk, None, Some(&others));
            }
            let due_ms = lookups.next_deadline_ms().expect("it was asked");
            assert!(lookups.on_deadline(due_ms - 1, &others).is_empty());
            now_ms = due_ms;
            let ended = lookups.on_deadline(now_ms, &others);
            if !ended.is_empty() {
                break ended;
            }
        };
        assert_eq!(ended, [(clerk, Located::Unknown(vec![node(3)]))]);
        assert_eq!((asked, lookups.by_agent.len()), (QUESTIONS_MAX, 0));
    }

    #[test]
    fn a_node_that_died_is_not_waited_for() {
        let clerk = AgentId::of_text("clerk");
        let mut lookups = Lookups::default();
        lookups.begin(clerk);
        lookups.next_question(0);
        assert_eq!(lookups.hear(node(2), clerk, None, Some(&nodes([2, 3]))), None);
        let due_ms = lookups.next_deadline_ms().expect("it was asked");
        assert_eq!(lookups.on_deadline(due_ms, &nodes([2])), [(clerk, Located::Nowhere)]);
    }

    #[test]
    fn only_so_many_agents_are_looked_for() {
        let mut lookups = Lookups::default();
        for number in 0..LOOKUPS_MAX {
            assert!(lookups.begin(AgentId::of_text(&format!("agent-{number}"))));
        }
        assert!(!lookups.begin(AgentId::of_text("one more")));
        let mut asked = 0;
        while let Some(agents) = lookups.next_question(0) {
            asked += agents.len();
        }
        assert_eq!(asked, LOOKUPS_MAX);
    }

    #[test]
    fn questions_and_responses_are_read_as_they_were_written() {
        let clerk = AgentId::of_text("clerk");
        let question = Question { node: node(7), agents: vec![clerk, AgentId::of_text("ghost")] };
        assert_eq!(Question::decode(&question.encode()), Some(question));
        let agents = BTreeMap::from([(clerk, Some(name("clerk"))), (AgentId::of_text("ghost"), None)]);
        let response = Response { node: node(7), agents };
        assert_eq!(Response::decode(&response.encode()), Some(response));
        for foreign in [&b""[..], b"{}", b"[1]", b"{\"node\":70000,\"agents\":[]}", b"{\"node\":1,\"agents\":[\"x\"]}"]
        {
            assert_eq!(Question::decode(foreign), None);
            assert_eq!(Response::decode(foreign), None);
        }
    }
}
