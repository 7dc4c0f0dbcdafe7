//! A checked and compiled module, from which agents are created.

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
#[cfg(feature = "store")]
use std::sync::Mutex;

use caxton_shards::agent::{Agent, Factory, Registration};
use caxton_shards::domain::{AgentName, DomainError};
use caxton_shards::message::AgentId;
use wasmtime::component::Component;
use wasmtime::{Engine, InstancePre, Module};

use super::bounds::{self, ExcessError};
use super::component::{self, ComponentAgent, Prepared};
#[cfg(feature = "store")]
use super::host::Memory;
use super::host::{GuestLimits, Host, Permissions, SharedMemory};
use super::log::LogGate;
use super::manifest::Manifest;
use super::raw::{self, RawAgent};
use super::sandbox::Sandbox;
#[cfg(feature = "store")]
use super::states::GuestStates;
use super::{encode, wasi};
use crate::config::Grants;

/// What a module is meant to be.
const AGENT: &str = "agent";
pub(super) const PLUGIN: &str = "routing plugin";

/// The interface by which a guest is called.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GuestKind {
    /// A component of the world `caxton:agent/agent@1.0.0`.
    Component,
    /// A core module with the exports of [`raw`].
    Raw,
}

impl fmt::Display for GuestKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Component => "component",
            Self::Raw => "raw module",
        })
    }
}

/// A reason why a module cannot be an agent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem(pub String);

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// A module cannot be used. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GuestError {
    /// The file cannot be read.
    #[error("{}: cannot be read: {reason}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// The operating system's error.
        reason: String,
    },
    /// The bytes are not WebAssembly.
    #[error("{name}: this is not WebAssembly: it begins with neither \\0asm nor a version that is known")]
    NotWasm {
        /// The module.
        name: String,
    },
    /// Compiling it would exceed a limit of the settings.
    #[error("{name}: the module is too large, and was not compiled: {excess}")]
    TooLarge {
        /// The module.
        name: String,
        /// The limit that is exceeded.
        excess: ExcessError,
    },
    /// It is invalid, or uses an unsupported feature.
    #[error("{name}: the module is not valid: {reason}")]
    Invalid {
        /// The module.
        name: String,
        /// What is wrong, and where.
        reason: String,
    },
    /// Its manifest requests parts of WASI that the settings do not allow.
    #[error("{name}: its manifest asks for {asked}, which wasm.wasi forbids: it allows {}", or_nothing(*allowed))]
    Forbidden {
        /// The module.
        name: String,
        /// The requested grants.
        asked: Grants,
        /// The allowed grants.
        allowed: Grants,
    },
    /// It is valid, but has the wrong interface.
    #[error("{name}: this is not a valid {wanted}: {}", list(problems))]
    Unfit {
        /// The module.
        name: String,
        /// The intended kind: an agent or a routing plugin.
        wanted: &'static str,
        /// What is missing, has the wrong type, or is imported but not granted.
        problems: Vec<Problem>,
    },
}

/// A guest's name, which may be invalid.
pub(super) struct GuestName(Result<AgentName, DomainError>);

impl GuestName {
    pub fn new(name: impl TryInto<AgentName, Error: Into<DomainError>>) -> Self {
        Self(name.try_into().map_err(Into::into))
    }

    /// Returns the agent's id. No agent has that of an invalid name.
    pub fn id(&self) -> AgentId {
        self.0.as_ref().map_or_else(|_| AgentId::of_text(""), AgentId::of)
    }
}

impl TryFrom<GuestName> for AgentName {
    type Error = DomainError;

    fn try_from(name: GuestName) -> Result<Self, DomainError> {
        name.0
    }
}

impl GuestError {
    pub(super) fn unfit(name: &str, wanted: &'static str, problems: Vec<Problem>) -> Self {
        Self::Unfit { name: name.to_owned(), wanted, problems }
    }
}

fn or_nothing(grants: Grants) -> String {
    if grants.is_empty() { "nothing".to_owned() } else { grants.to_string() }
}

/// Checks the requested grants against the settings, which take precedence.
fn check_grants(sandbox: &Sandbox, name: &str, asked: Grants) -> Result<(), GuestError> {
    let allowed = sandbox.config().wasi;
    let asked = asked.without(allowed);
    if asked.is_empty() { Ok(()) } else { Err(GuestError::Forbidden { name: name.to_owned(), asked, allowed }) }
}

fn list(problems: &[Problem]) -> String {
    problems.iter().map(|problem| problem.0.as_str()).collect::<Vec<_>>().join("; ")
}

/// An agent that is an instance of a guest.
pub(super) trait Instantiated: Agent {
    /// Whether a start that took longer has ended, and why it failed if it did.
    fn has_started(&mut self) -> Option<Result<(), String>>;
}

/// Compiled code, ready to be instantiated.
pub(super) enum Code {
    Raw(InstancePre<Host>),
    /// Granted parts of WASI are linked into it, so it is prepared again for other grants.
    Component {
        component: Component,
        prepared: Prepared,
    },
}

/// A module from which agents can be created. Clones share the compiled code.
#[derive(Clone)]
pub struct Guest {
    name: Arc<str>,
    pub(super) sandbox: Sandbox,
    pub(super) code: Arc<Code>,
    limits: GuestLimits,
    permissions: Arc<Permissions>,
    #[cfg(feature = "store")]
    states: Option<GuestStates>,
}

impl fmt::Debug for Guest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Guest")
            .field("kind", &self.kind())
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

impl Guest {
    pub(super) fn load(sandbox: &Sandbox, name: &str, bytes: &[u8], manifest: &Manifest) -> Result<Self, GuestError> {
        let (name, permissions) = (name.to_owned(), manifest.permissions());
        check_grants(sandbox, &name, permissions.wasi)?;
        if let Err(excess) = bounds::check(bytes, sandbox.config()) {
            return Err(GuestError::TooLarge { name, excess });
        }
        let engine = &sandbox.0.engine;
        let invalid = |error: wasmtime::Error| GuestError::Invalid { name: name.clone(), reason: format!("{error:#}") };
        let Some(mut kind) = kind_of(bytes) else { return Err(GuestError::NotWasm { name }) };
        let mut bytes = Cow::Borrowed(bytes);
        if kind == GuestKind::Raw && is_core_of_component(&bytes) {
            Module::validate(engine, &bytes).map_err(invalid)?;
            let component = encode::component_of(&bytes, "agent");
            bytes = component.map_err(|reason| GuestError::unfit(&name, AGENT, vec![Problem(reason)]))?.into();
            kind = GuestKind::Component;
        }
        let prepared = match kind {
            GuestKind::Raw => {
                let module = compiled(sandbox, engine, &bytes, Module::from_binary).map_err(invalid)?;
                raw::prepare(&sandbox.0.raw, &module).map(Code::Raw)
            }
            GuestKind::Component => {
                let component = compiled(sandbox, engine, &bytes, Component::from_binary).map_err(invalid)?;
                component::prepare(&sandbox.0.components, &component, permissions.wasi)
                    .map(|prepared| Code::Component { component, prepared })
            }
        };
        match prepared {
            Ok(code) => Ok(Self {
                name: name.into(),
                sandbox: sandbox.clone(),
                code: Arc::new(code),
                limits: manifest.limits(sandbox.limits()),
                permissions: Arc::new(permissions),
                #[cfg(feature = "store")]
                states: None,
            }),
            Err(problems) => Err(GuestError::Unfit { name, wanted: AGENT, problems }),
        }
    }

    /// Returns its interface.
    pub fn kind(&self) -> GuestKind {
        match *self.code {
            Code::Raw(_) => GuestKind::Raw,
            Code::Component { .. } => GuestKind::Component,
        }
    }

    /// Returns the WASI interfaces that it imports.
    pub fn wasi_imports(&self) -> Vec<String> {
        match &*self.code {
            Code::Raw(_) => Vec::new(),
            Code::Component { component, .. } => {
                wasi::imports(&component.component_type(), component.engine()).collect()
            }
        }
    }

    /// Returns the limits of its agents.
    pub fn limits(&self) -> GuestLimits {
        self.limits
    }

    /// Sets the limits of its agents, instead of those in the settings.
    #[must_use]
    pub fn limited(mut self, limits: GuestLimits) -> Self {
        self.limits = limits;
        self
    }

    /// Sets the permissions of its agents: receivers, capabilities, and parts of WASI.
    ///
    /// # Errors
    ///
    /// `wasm.wasi` does not allow these parts of WASI; or they are less than the module imports.
    pub fn permitted(mut self, permissions: Permissions) -> Result<Self, GuestError> {
        if permissions.wasi != self.permissions.wasi {
            check_grants(&self.sandbox, &self.name, permissions.wasi)?;
            if let Code::Component { component, .. } = &*self.code {
                let prepared = component::prepare(&self.sandbox.0.components, component, permissions.wasi);
                let prepared = prepared.map_err(|problems| GuestError::unfit(&self.name, AGENT, problems))?;
                self.code = Arc::new(Code::Component { component: component.clone(), prepared });
            }
        }
        self.permissions = Arc::new(permissions);
        Ok(self)
    }

    /// Makes the state of its agents survive the process.
    #[cfg(feature = "store")]
    #[must_use]
    pub fn remembering(mut self, states: &GuestStates) -> Self {
        self.states = Some(states.clone());
        self
    }

    /// Applies a manifest.
    ///
    /// # Errors
    ///
    /// As for [`Guest::permitted`].
    pub fn with(self, manifest: &Manifest) -> Result<Self, GuestError> {
        let limits = manifest.limits(self.limits);
        self.limited(limits).permitted(manifest.permissions())
    }

    /// Returns the registration of an agent with this name. Its stored state survives its restarts. With
    /// [`Guest::remembering`] the state is read from disk here, so do not call this on a shard's thread.
    ///
    /// An invalid name is refused when the registration is handed over.
    pub fn agent(&self, name: impl TryInto<AgentName, Error: Into<DomainError>>) -> Registration {
        let name = GuestName::new(name);
        let factory = self.factory_of(name.id());
        Registration::boxed(name, factory)
    }

    /// Returns the factory of the agent with this name, for an embedder whose own agent calls it.
    pub fn factory(&self, name: &AgentName) -> Factory {
        self.factory_of(AgentId::of(name))
    }

    fn factory_of(&self, me: AgentId) -> Factory {
        let guest = self.clone();
        #[cfg(feature = "store")]
        let memory = self.memory_of(me);
        #[cfg(not(feature = "store"))]
        let memory = SharedMemory::default();
        Box::new(move || guest.instance(me, &memory))
    }

    /// Returns an agent's stored state, from earlier runs if it survives the process.
    #[cfg(feature = "store")]
    pub(super) fn memory_of(&self, me: AgentId) -> SharedMemory {
        let memory = match self.states.as_ref().map(|states| states.read(me)) {
            None => Memory::default(),
            Some(Ok(entries)) => Memory::holding(entries),
            Some(Err(reason)) => Memory::lost(reason),
        };
        SharedMemory::new(Mutex::new(memory))
    }

    /// Returns an instance that is not started yet.
    pub(super) fn instance(&self, me: AgentId, memory: &SharedMemory) -> Box<dyn Instantiated> {
        match *self.code {
            Code::Raw(_) => Box::new(RawAgent::new(self.clone(), me, Arc::clone(memory))),
            Code::Component { .. } => Box::new(ComponentAgent::new(self.clone(), me, Arc::clone(memory))),
        }
    }

    /// Returns the permissions.
    pub fn permissions(&self) -> &Permissions {
        &self.permissions
    }

    pub(super) fn host_limits(&self) -> &GuestLimits {
        &self.limits
    }

    /// Creates the host side of one instance.
    pub(super) fn host(&self, me: AgentId, memory: &SharedMemory) -> Host {
        let log = LogGate::new(&self.sandbox.0.log, self.limits.log_lines.into_inner());
        let slice_ms = self.sandbox.config().slice_ms.into_inner();
        let (permissions, memory) = (Arc::clone(&self.permissions), Arc::clone(memory));
        let host = Host::new(me, self.limits, permissions, memory, log, slice_ms);
        #[cfg(feature = "store")]
        let host = host.remembering(self.states.clone());
        host
    }
}

fn compiled<C: super::cache::Compiled>(
    sandbox: &Sandbox,
    engine: &Engine,
    bytes: &[u8],
    compile: impl FnOnce(&Engine, &[u8]) -> wasmtime::Result<C>,
) -> wasmtime::Result<C> {
    match &sandbox.0.cache {
        Some(cache) => cache.get(engine, bytes, || compile(engine, bytes)),
        None => compile(engine, bytes),
    }
}

/// Compiles a component of a world, wrapping a core module that was built for that world.
pub(super) fn compiled_component(
    sandbox: &Sandbox,
    name: &str,
    bytes: &[u8],
    world: &str,
) -> Result<Component, GuestError> {
    let name = name.to_owned();
    if let Err(excess) = bounds::check(bytes, sandbox.config()) {
        return Err(GuestError::TooLarge { name, excess });
    }
    let engine = &sandbox.0.engine;
    let invalid = |error: wasmtime::Error| GuestError::Invalid { name: name.clone(), reason: format!("{error:#}") };
    let bytes = match kind_of(bytes) {
        None => return Err(GuestError::NotWasm { name }),
        Some(GuestKind::Component) => Cow::Borrowed(bytes),
        Some(GuestKind::Raw) => {
            Module::validate(engine, bytes).map_err(invalid)?;
            let component = encode::component_of(bytes, world);
            component.map_err(|reason| GuestError::unfit(&name, PLUGIN, vec![Problem(reason)]))?.into()
        }
    };
    compiled(sandbox, engine, &bytes, Component::from_binary).map_err(invalid)
}

/// Determines the kind from the first bytes: the magic number, then version and layer.
fn kind_of(bytes: &[u8]) -> Option<GuestKind> {
    match bytes.get(..8)? {
        b"\0asm\x01\0\0\0" => Some(GuestKind::Raw),
        [b'\0', b'a', b's', b'm', _, _, 1, 0] => Some(GuestKind::Component),
        _ => None,
    }
}

/// Whether a core module exports what the world of components exports, and is not raw.
fn is_core_of_component(bytes: &[u8]) -> bool {
    let mut exports = Vec::new();
    for payload in wasmparser::Parser::new(0).parse_all(bytes) {
        match payload {
            Ok(wasmparser::Payload::ExportSection(section)) => {
                exports.extend(section.into_iter().flatten().map(|export| export.name));
            }
            Ok(_) => {}
            // The compiler reports the error.
            Err(_) => return false,
        }
    }
    exports.contains(&"handle") && !exports.iter().any(|name| name.starts_with("caxton_"))
}

/// Describes what went wrong in a guest, in one line: the cause, and the function in which it happened.
pub(super) fn explain(error: &wasmtime::Error) -> String {
    if error.is::<wasmtime::PoolConcurrencyLimitError>() {
        return format!("there are as many guests as wasm.guests allows: {error}");
    }
    let cause = error.root_cause().to_string();
    let frame = error.downcast_ref::<wasmtime::WasmBacktrace>().and_then(|trace| trace.frames().first());
    match frame.map(|frame| (frame.func_name(), frame.func_index())) {
        Some((Some(name), _)) => format!("{cause} (in {name})"),
        Some((None, index)) => format!("{cause} (in function {index})"),
        None => cause,
    }
}
