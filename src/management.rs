//! The agents `ams` and `df` of a router: registered at start, with the limits of its settings.
//!
//! Their behaviour is in [`caxton_shards::management`]; they are on shards like all agents.

use caxton_shards::api::RegistrationError;
use caxton_shards::management::Platform;
use futures_lite::future::block_on;

use crate::config::Config;
use crate::router::Router;
use crate::router::error::CallError;

/// Number of agents that [`begin`] registers, if enabled.
const AGENTS: usize = 2;

/// Registers the platform's own agents, if enabled.
pub fn begin(router: &Router) -> Result<(), CallError<RegistrationError>> {
    if !router.config().management.enabled {
        return Ok(());
    }
    let registrations = platform(router.config()).registrations().into();
    block_on(router.register_all(registrations)).into_iter().try_for_each(|result| result.map(drop))
}

/// Returns the number of a router's agents that are the platform's own.
pub fn own_agents(config: &Config) -> usize {
    if config.management.enabled { AGENTS } else { 0 }
}

fn platform(config: &Config) -> Platform {
    let management = &config.management;
    Platform {
        name: management.platform.clone(),
        descriptions: management.descriptions,
        subscriptions: management.subscriptions,
    }
}
