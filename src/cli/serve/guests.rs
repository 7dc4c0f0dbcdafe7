//! The agents in WebAssembly that the settings name.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use caxton_router::domain::AgentName;
use caxton_router::store::directory::prepare_directory;
use caxton_router::wasm::{Deployment, Guest, GuestStates, Manifest, STATES_FILE, Sandbox, Strategy};
use caxton_router::{Config, Router};
use futures_lite::future::block_on;

use super::stamp::{Stamp, stamp};

/// Checked and compiled agents, before the router runs.
pub struct Guests {
    sandbox: Option<Sandbox>,
    states: Option<GuestStates>,
    agents: Vec<Loaded>,
}

/// An agent whose module was compiled.
struct Loaded {
    name: AgentName,
    file: PathBuf,
    guest: Guest,
    manifest: Manifest,
    read: Stamps,
}

/// The agents of a running router.
pub struct Deployed {
    sandbox: Option<Sandbox>,
    states: Option<GuestStates>,
    agents: Vec<Running>,
}

/// A running agent and its module.
struct Running {
    name: AgentName,
    file: PathBuf,
    deployment: Deployment,
    /// What its files were like before they were read.
    read: Mutex<Stamps>,
}

/// Those of a module and of its manifest.
type Stamps = [Stamp; 2];

/// Old conversations stay with the old version of a module for up to this time, in milliseconds.
const REPLACED_WITHIN_MS: u64 = 60_000;

fn stamps(module: &Path) -> Stamps {
    [stamp(module), stamp(&Manifest::path_beside(module))]
}

impl Guests {
    /// Loads all agents of the settings.
    ///
    /// # Errors
    ///
    /// Text for the operator: a module or its manifest cannot be used.
    pub fn load(config: &Config) -> Result<Self, String> {
        if config.agents.deploy.is_empty() {
            return Ok(Self { sandbox: None, states: None, agents: Vec::new() });
        }
        let sandbox = Sandbox::start(&config.wasm).map_err(|error| error.to_string())?;
        let states = match config.store.directory.path() {
            Some(directory) => {
                // Nothing is created in a directory that the router is going to refuse.
                prepare_directory(directory).map_err(|error| error.to_string())?;
                Some(GuestStates::open(&directory.join(STATES_FILE)).map_err(|error| error.to_string())?)
            }
            None => None,
        };
        let mut agents = Vec::with_capacity(config.agents.deploy.len());
        for (name, file) in config.agents.deploy.iter() {
            let read = stamps(file);
            let (guest, manifest) =
                load(&sandbox, states.as_ref(), file).map_err(|error| format!("agents.deploy: {name}: {error}"))?;
            agents.push(Loaded { name: name.clone(), file: file.to_owned(), guest, manifest, read });
        }
        Ok(Self { sandbox: Some(sandbox), states, agents })
    }

    /// Registers them.
    ///
    /// # Errors
    ///
    /// Text for the operator: the router refuses one.
    pub fn deploy(self, router: &Router) -> Result<Deployed, String> {
        let Self { sandbox, states, agents } = self;
        let mut deployed = Vec::with_capacity(agents.len());
        for Loaded { name, file, guest, manifest, read } in agents {
            let (mut registration, deployment) = guest.deploy(name.clone());
            for capability in manifest.offers {
                registration = registration.offering(capability);
            }
            let registered = router.blocking().register_one(registration);
            registered.map_err(|error| format!("agents.deploy: {name}: {error}"))?;
            deployed.push(Running { name, file, deployment, read: Mutex::new(read) });
        }
        Ok(Deployed { sandbox, states, agents: deployed })
    }
}

fn load(sandbox: &Sandbox, states: Option<&GuestStates>, file: &Path) -> Result<(Guest, Manifest), String> {
    let manifest = Manifest::beside(file).map_err(|error| error.to_string())?;
    let guest = sandbox.load_file_with(file, &manifest).map_err(|error| error.to_string())?;
    let guest = match states {
        Some(states) => guest.remembering(states),
        None => guest,
    };
    Ok((guest, manifest))
}

impl Deployed {
    /// Returns the number of agents.
    pub fn count(&self) -> usize {
        self.agents.len()
    }

    /// Loads the modules that have changed, or whose manifests have, for as long as `goes_on` says so. Nothing is replaced yet.
    ///
    /// # Errors
    ///
    /// Text for the operator: a module or its manifest cannot be used.
    pub fn load_changed(&self, goes_on: impl Fn() -> bool) -> Result<Vec<Replacement<'_>>, String> {
        let changed = self.agents.iter().take_while(|_| goes_on()).filter_map(|agent| self.load_if_changed(agent));
        changed.collect()
    }

    fn load_if_changed<'a>(&self, agent: &'a Running) -> Option<Result<Replacement<'a>, String>> {
        let Running { name, file, read, .. } = agent;
        let now = stamps(file);
        if *read.lock().unwrap_or_else(PoisonError::into_inner) == now {
            return None;
        }
        let loaded = load(self.sandbox.as_ref()?, self.states.as_ref(), file);
        let replacement = loaded.map(|(guest, _)| Replacement { agent, guest, read: now });
        Some(replacement.map_err(|error| format!("agents.deploy: {name}: {error}")))
    }
}

/// A module that was loaded to replace that of a running agent.
pub struct Replacement<'a> {
    agent: &'a Running,
    guest: Guest,
    read: Stamps,
}

impl Replacement<'_> {
    /// Replaces the module for new conversations. Returns one line that says what came of it.
    pub fn apply(self, router: &Router) -> String {
        let Self { agent, guest, read } = self;
        let strategy = Strategy::Graceful { within_ms: REPLACED_WITHIN_MS };
        match block_on(agent.deployment.replace(router, guest, strategy)) {
            Ok(()) => {
                *agent.read.lock().unwrap_or_else(PoisonError::into_inner) = read;
                format!("{}: its new module takes over", agent.name)
            }
            Err(error) => format!("{}: its module stays: {error}", agent.name),
        }
    }
}
