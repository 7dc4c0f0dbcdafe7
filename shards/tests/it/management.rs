//! Agent management: replies of `ams` and `df`, and the consistency of registry and directory.

mod agents;
mod directory;
mod requests;
mod subscriptions;

use caxton_shards::api::{Answer, Input, is_notice};
use caxton_shards::codec::sl::{self, Argument, Term};
use caxton_shards::codec::text::{Limits, Messages};
use caxton_shards::management::{Platform, read_aid};
use caxton_shards::message::{AgentId, Message, Performative};

use crate::common::{Log, Script, World};

/// A router with a platform named `shop`, and one of its agents that sends requests.
struct Shop {
    world: World,
    asker: AgentId,
    heard: Log<Message>,
    answers: usize,
}

const ASKER: &str = "asker@shop";

fn platform(name: &str) -> Platform {
    Platform {
        name: name.parse().unwrap(),
        descriptions: 100.try_into().unwrap(),
        subscriptions: 10.try_into().unwrap(),
    }
}

impl Shop {
    fn open(shards: u16) -> Self {
        Self::on(World::new(shards), &platform("shop"))
    }

    fn on(mut world: World, platform: &Platform) -> Self {
        for registration in platform.registrations() {
            world.register(registration);
        }
        let heard = Log::new();
        let asker = world.register(Script::listener(&heard).registration(ASKER.parse().unwrap()));
        Self { world, asker, heard, answers: 0 }
    }

    /// Adds an idle agent with capabilities.
    fn add(&mut self, name: &str, capabilities: &[&str]) -> AgentId {
        let script = capabilities.iter().fold(Script::idle(), |script, capability| script.offering(capability));
        self.world.register(script.registration(name.parse().unwrap()))
    }

    fn remove(&mut self, agent: AgentId) {
        let (shard, token) = (self.world.shard_of(agent), self.world.token());
        self.world.give(shard, Input::Deregister(agent, token));
        self.world.run();
        assert!(matches!(self.world.take_answer(shard, token), Some(Answer::Deregistered(true))));
    }

    /// Returns the replies to a message of the asking agent, written as text.
    fn hear_text(&mut self, text: &str) -> Vec<(Performative, String)> {
        let message = Messages::new(text.as_bytes(), self.world.now().wall, &Limits::default()).next().unwrap();
        self.world.send(message.unwrap().value).unwrap();
        self.world.run();
        self.take()
    }

    /// Returns the replies to a request to perform an act.
    fn request(&mut self, receiver: &str, act: &str) -> Vec<(Performative, String)> {
        self.answers += 1;
        let text = format!(
            "(request :sender (agent-identifier :name {ASKER}) :receiver (set (agent-identifier :name {receiver})) \
             :language fipa-sl0 :ontology fipa-agent-management :reply-with r{0} :conversation-id c{0} \
             :content \"((action (agent-identifier :name {receiver}) {1}))\")",
            self.answers,
            act.replace('"', "\\\"")
        );
        self.hear_text(&text)
    }

    /// Returns the single reply of the directory facilitator.
    fn df(&mut self, act: &str) -> (Performative, String) {
        let mut answers = self.request("df@shop", act);
        assert_eq!(answers.len(), 1, "{answers:?}");
        answers.remove(0)
    }

    /// Returns the names that a search of the directory finds.
    fn search(&mut self, template: &str) -> Vec<String> {
        let (performative, content) =
            self.df(&format!("(search (df-agent-description {template}) (search-constraints))"));
        assert_eq!(performative, Performative::Inform, "{content}");
        names(&content)
    }

    /// Returns what the asking agent has received since the last call.
    fn take(&mut self) -> Vec<(Performative, String)> {
        // Conversations of earlier requests may have timed out.
        let heard = self.heard.take().into_iter().filter(|message| !is_notice(message));
        heard.map(|message| (message.performative(), crate::common::text(&message))).collect()
    }

    /// Returns the providers of a capability, as known to every shard.
    fn discover(&mut self, capability: &str) -> Vec<AgentId> {
        let found = self.world.discover(0, capability);
        for shard in 1..self.world.nodes.len() {
            let mut there = self.world.discover(shard, capability);
            let mut here = found.clone();
            there.sort();
            here.sort();
            assert_eq!(there, here, "every shard knows the same");
        }
        found
    }
}

/// Returns the names of the agents listed in a result.
fn names(content: &str) -> Vec<String> {
    let content = sl::parse(content).unwrap();
    let [_, found] = content[0].parts_of("result").or_else(|| content[0].parts_of("=")).unwrap();
    let name_of = |found: &Term| {
        let ((Some(arguments), _) | (None, Some(arguments))) =
            (found.arguments_of("df-agent-description"), found.arguments_of("ams-agent-description"))
        else {
            panic!("{found} is no description")
        };
        let Some(Argument::Named(_, Some(aid))) = arguments.first() else { panic!("{found} has no name") };
        read_aid(aid).unwrap().name.to_string()
    };
    found.elements().unwrap().iter().map(name_of).collect()
}
