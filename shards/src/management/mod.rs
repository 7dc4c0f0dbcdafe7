//! Agent management (FIPA SC00023): the agents `ams` and `df` of a platform, which communicate in ACL with the ontology
//! fipa-agent-management in SL0.
//!
//! They serve the registry and the capability index. [`Df`] finds every capability of an agent, however the agent came
//! to provide it; and the services an agent registers with [`Df`] become capabilities that everybody can address. A
//! deregistered agent is in neither. Agents that this router does not host are kept as descriptions, and messages
//! cannot be routed to them.
//!
//! # How the directory facilitator treats services
//!
//! The name and the type of each service become capabilities of the agent that registers itself. A capability that no
//! registered service has is found as a service of that name and type. If an agent registers another one, only the
//! description is kept: no agent can make another agent provide something.
//!
//! # Permissions
//!
//! The agent management system lists every agent of the router and those registered with it. An agent of this router
//! may suspend, resume and deregister itself through it.
//!
//! Every agent may search, subscribe, and register agents that the directory does not know. A description can be
//! changed and removed by the agent that it describes or by the agent that registered it. `ams` and `df` themselves
//! cannot be registered or removed.

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
/// Maximum number of descriptions in a search result, unless the request asks for fewer.
pub const RESULTS_MAX: usize = 1_000;

/// Settings of the two agents of a platform.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Platform {
    /// The platform's name, which follows the `@` in its agents' names.
    pub name: PlatformName,
    /// Maximum number of registered descriptions kept by each of the two.
    pub descriptions: DescriptionCapacity,
    /// Maximum number of subscriptions kept by the directory facilitator.
    pub subscriptions: SubscriptionCapacity,
}

impl Platform {
    /// Returns the name of the platform's agent management system.
    pub fn ams(&self) -> AgentName {
        self.agent(AMS)
    }

    /// Returns the name of the platform's directory facilitator.
    pub fn df(&self) -> AgentName {
        self.agent(DF)
    }

    #[allow(clippy::expect_used)] // A valid platform name after the `@` of a short name always makes a valid agent name.
    fn agent(&self, local: &str) -> AgentName {
        AgentName::try_new(format!("{local}@{}", self.name)).expect("the name of a platform ends an agent's name")
    }

    /// Returns the registrations of both agents, to be made before others.
    pub fn registrations(&self) -> [Registration; 2] {
        let (ams, df) = (self.clone(), self.clone());
        [
            Registration::native(self.ams(), move || Ams::new(ams.clone())),
            Registration::native(self.df(), move || Df::new(df.clone())),
        ]
    }
}
