//! Agent management (FIPA SC00023): the agents `ams` and `df` of a platform, spoken to in ACL with the ontology
//! fipa-agent-management in SL0.
//!
//! The registry and the capability index are what they serve. What an agent offers, however it came to offer it, is what
//! [`Df`] finds; what [`Df`] is told of an agent's services, that agent offers to everybody. An agent that is gone is in
//! neither. Agents that this router does not know are kept as descriptions, and messages can't be routed to them.
//!
//! # What the directory facilitator makes of services
//!
//! The name and the type of each service become capabilities of the agent that registers itself. A capability that no
//! registered service has is found as a service of that name and type. An agent that registers another one does so on
//! paper only: nobody can have somebody else's agent offer something.
//!
//! # Who may do what
//!
//! The agent management system lists every agent of the router and those that were registered with it. An agent may
//! suspend, resume and deregister itself through it, as far as it is an agent of this router.
//!
//! Anybody may search, subscribe, and register whom the directory does not know. A description is changed and removed by
//! the agent that it describes or by whoever registered it. `ams` and `df` themselves can't be registered or removed.

mod ams;
mod description;
mod df;
mod directory;
mod exception;
mod fields;
mod matching;
mod request;
mod subscription;

pub use ams::Ams;
pub use description::{
    AgentDescription, ManagedAgent, ManagedState, Property, SearchConstraints, ServiceDescription, aid_term,
    platform_term, read_aid,
};
pub use df::Df;
pub use exception::Exception;
pub use fields::ELEMENTS_MAX;
pub use request::{EXPLANATION, ObservedReply, Observer, REPLIES_WAITING_MAX, REQUEST_BYTES_MAX};

use crate::domain::{AgentName, DescriptionCapacity, PlatformName, SubscriptionCapacity};
use crate::shard::agent::Registration;

/// The local name of the agent management system.
pub const AMS: &str = "ams";
/// The local name of the directory facilitator.
pub const DF: &str = "df";
/// The ontology of agent management.
pub const ONTOLOGY: &str = "fipa-agent-management";
/// How many descriptions a search gives, unless it asks for fewer.
pub const RESULTS_MAX: usize = 1_000;

/// What the two agents of a platform need to know.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Platform {
    /// The platform's name, behind the @ of its agents' names.
    pub name: PlatformName,
    /// How many descriptions each of the two keeps of agents that were registered with it.
    pub descriptions: DescriptionCapacity,
    /// How many subscriptions the directory facilitator keeps.
    pub subscriptions: SubscriptionCapacity,
}

impl Platform {
    /// The name of the platform's agent management system.
    pub fn ams(&self) -> AgentName {
        self.agent(AMS)
    }

    /// The name of the platform's directory facilitator.
    pub fn df(&self) -> AgentName {
        self.agent(DF)
    }

    #[allow(clippy::expect_used)] // A platform's name is checked to make a legal name behind the @ of a short one.
    fn agent(&self, local: &str) -> AgentName {
        AgentName::try_new(format!("{local}@{}", self.name)).expect("the name of a platform ends an agent's name")
    }

    /// Both agents, to be registered before others.
    pub fn registrations(&self) -> [Registration; 2] {
        let (ams, df) = (self.clone(), self.clone());
        [
            Registration::native(self.ams(), move || Ams::new(ams.clone())),
            Registration::native(self.df(), move || Df::new(df.clone())),
        ]
    }
}
