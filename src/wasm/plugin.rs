//! Routing plugins in WebAssembly: components of the world `caxton:routing/plugin@1.0.0`.
//!
//! Each shard has its own instance. A plugin is called while a message is being accepted, so it is never suspended:
//! beyond its time limit it traps. After a trap it is restarted, and [`OnFailure`] decides about the message.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use caxton_shards::api::{RoutePlugin, Verdict};
use caxton_shards::domain::{AgentName, CapabilityName, GuestCallMs, GuestCount};
use caxton_shards::message::{
    AgentId, Choice, Message, MessageContent, ParameterValue, Receiver, Reliability, capability_term,
};
use caxton_shards::routing::rules::Destination;
use wasmtime::Store;
use wasmtime::component::{Component, HasSelf, Linker};

use self::bindings::caxton::routing::{current, types};
use self::bindings::{Plugin as Instance, PluginPre};
use super::guest::{GuestError, PLUGIN, Problem, compiled_component, explain};
use super::host::{GuestLimits, Usage};
use super::sandbox::{Sandbox, SandboxError, read_module};
use super::wasi;
use crate::config::{OnFailure, PluginsConfig, WasmConfig};

mod bindings {
    wasmtime::component::bindgen!({
        path: "src/wasm/wit/routing.wit",
        world: "plugin",
        imports: { default: trappable },
    });
}

/// Number of ordinary guests whose room is reserved for each instance of a plugin. A language runtime consists of as
/// many parts.
const ROOM_PER_INSTANCE: u32 = 16;
/// The world's exports.
const EXPORTS: [&str; 1] = ["route"];
/// The imports allowed for a plugin.
const IMPORTS: [&str; 2] = ["caxton:routing/types@1.0.0", "caxton:routing/current@1.0.0"];

/// The configured plugins cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PluginsError {
    /// No guest can run.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// One of them is not a plugin.
    #[error(transparent)]
    Module(#[from] GuestError),
}

/// Counters of a plugin, over all shards.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct PluginFigures {
    /// Messages that it inspected, or failed on.
    pub asked: AtomicU64,
    /// Messages that it rerouted.
    pub rerouted: AtomicU64,
    /// Messages that it refused.
    pub refused: AtomicU64,
    /// Messages to which it added parameters.
    pub annotated: AtomicU64,
    /// Messages on which it trapped or exceeded its time limit.
    pub failed: AtomicU64,
}

/// A checked and compiled plugin. Clones share its figures.
#[derive(Clone)]
pub struct Plugin {
    name: Arc<str>,
    sandbox: Sandbox,
    prepared: Arc<PluginPre<Judge>>,
    limits: GuestLimits,
    on_failure: OnFailure,
    figures: Arc<PluginFigures>,
    /// The hash of its module.
    hash: blake3::Hash,
}

impl std::fmt::Debug for Plugin {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Plugin")
            .field("name", &self.name)
            .field("on_failure", &self.on_failure)
            .finish_non_exhaustive()
    }
}

impl Plugin {
    /// Checks and compiles a plugin. `call_ms` is its time limit for one message.
    ///
    /// # Errors
    ///
    /// Returns what is wrong with the module, or missing.
    pub fn load(
        sandbox: &Sandbox,
        name: &str,
        bytes: &[u8],
        call_ms: GuestCallMs,
        on_failure: OnFailure,
    ) -> Result<Self, GuestError> {
        let component = compiled_component(sandbox, name, bytes, "plugin")?;
        let prepared = prepare(sandbox, &component).map_err(|problems| GuestError::unfit(name, PLUGIN, problems))?;
        sandbox.0.ticker.outlast(call_ms.into_inner());
        Ok(Self {
            name: name.into(),
            sandbox: sandbox.clone(),
            prepared: Arc::new(prepared),
            limits: GuestLimits { call_ms, ..sandbox.limits() },
            on_failure,
            figures: Arc::default(),
            hash: blake3::hash(bytes),
        })
    }

    /// Like [`Plugin::load`], from a file. Files that end in `.wat` are text.
    ///
    /// # Errors
    ///
    /// As for [`Plugin::load`]; or the file cannot be read.
    pub fn load_file(
        sandbox: &Sandbox,
        name: &str,
        path: &Path,
        call_ms: GuestCallMs,
        on_failure: OnFailure,
    ) -> Result<Self, GuestError> {
        Self::load(sandbox, name, &read_module(path, sandbox.config())?, call_ms, on_failure)
    }

    /// Loads the configured plugins, for this many shards. Of `former` ones, those that have not changed are returned as they
    /// are, and a changed one goes on with the counters of its name.
    ///
    /// # Errors
    ///
    /// Returns the first that cannot be used, with the reason.
    pub(crate) fn configured(
        plugins: &PluginsConfig,
        wasm: &WasmConfig,
        shards: u16,
        former: &[Self],
    ) -> Result<Vec<Self>, PluginsError> {
        let PluginsConfig { files, call_ms, on_failure } = plugins;
        let mut loaded = Vec::with_capacity(files.len());
        let mut sandbox = None;
        for (name, file) in files.iter() {
            let bytes = read_module(file, wasm)?;
            let former = former.iter().find(|former| former.name() == name);
            let hash = blake3::hash(&bytes);
            let is_same = |former: &&Self| {
                (former.hash, former.limits.call_ms, former.on_failure) == (hash, *call_ms, *on_failure)
            };
            if let Some(same) = former.filter(is_same) {
                loaded.push(same.clone());
                continue;
            }
            let sandbox = match &sandbox {
                Some(sandbox) => sandbox,
                None => sandbox.insert(sandbox_for(files.len(), wasm, shards)?),
            };
            let mut plugin = Self::load(sandbox, name, &bytes, *call_ms, *on_failure)?;
            if let Some(former) = former {
                plugin.figures = Arc::clone(&former.figures);
            }
            loaded.push(plugin);
        }
        Ok(loaded)
    }

    /// Whether both are clones of one.
    pub(crate) fn is_clone_of(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.prepared, &other.prepared)
    }

    /// Returns its name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Returns its counters.
    pub fn figures(&self) -> &PluginFigures {
        &self.figures
    }

    /// Creates an instance for one shard.
    pub(crate) fn for_shard(&self) -> Box<dyn RoutePlugin> {
        Box::new(Judging { plugin: self.clone(), instance: None })
    }

    fn instantiate(&self) -> wasmtime::Result<(Store<Judge>, Instance)> {
        let judge = Judge { content: MessageContent::default(), usage: Usage::new(self.limits) };
        let mut store = Store::new(&self.sandbox.0.engine, judge);
        wasi::bound(&mut store, &self.limits);
        store.limiter(|judge| &mut judge.usage);
        store.epoch_deadline_trap();
        store.set_epoch_deadline(u64::from(self.limits.call_ms.into_inner()));
        let instance = self.prepared.instantiate(&mut store)?;
        Ok((store, instance))
    }
}

/// Returns the sandbox for this many plugins. Each has one instance on each shard, which may consist of many parts; but
/// address space is limited.
fn sandbox_for(plugins: usize, wasm: &WasmConfig, shards: u16) -> Result<Sandbox, SandboxError> {
    let instances = u32::from(shards).saturating_mul(u32::try_from(plugins).unwrap_or(u32::MAX));
    let room = instances.saturating_mul(ROOM_PER_INSTANCE).min(wasm.guests.into_inner()).max(instances);
    let guests = GuestCount::try_new(room).unwrap_or(wasm.guests);
    Sandbox::start(&WasmConfig { guests, ..wasm.clone() })
}

fn prepare(sandbox: &Sandbox, component: &Component) -> Result<PluginPre<Judge>, Vec<Problem>> {
    let mut problems = Vec::new();
    let (kind, engine) = (component.component_type(), component.engine());
    for wanted in EXPORTS.iter().filter(|wanted| !kind.exports(engine).any(|(name, _)| name == **wanted)) {
        problems.push(Problem(format!("the world caxton:routing/plugin@1.0.0 exports {wanted}, which is missing")));
    }
    for (name, _) in kind.imports(engine).filter(|(name, _)| !IMPORTS.contains(name)) {
        problems
            .push(Problem(format!("it imports {name}, which a plugin does not have: expected {}", IMPORTS.join(", "))));
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let problem = |error: wasmtime::Error| vec![Problem(format!("{error:#}"))];
    let mut linker = Linker::new(&sandbox.0.engine);
    Instance::add_to_linker::<_, HasSelf<Judge>>(&mut linker, |judge| judge).map_err(problem)?;
    let pre = linker.instantiate_pre(component).map_err(problem)?;
    PluginPre::new(pre).map_err(problem)
}

/// The data of a plugin's store.
struct Judge {
    content: MessageContent,
    usage: Usage,
}

impl types::Host for Judge {}

impl current::Host for Judge {
    fn content(&mut self, at: u64, length: u64) -> wasmtime::Result<Vec<u8>> {
        let bytes = self.content.as_bytes();
        let clamp = |place: u64| usize::try_from(place).unwrap_or(usize::MAX).min(bytes.len());
        Ok(bytes[clamp(at)..clamp(at.saturating_add(length))].to_vec())
    }
}

/// A plugin on one shard.
struct Judging {
    plugin: Plugin,
    instance: Option<(Store<Judge>, Instance)>,
}

impl Judging {
    fn ask(&mut self, message: &Message) -> Result<Verdict, String> {
        if self.instance.is_none() {
            self.instance = Some(self.plugin.instantiate().map_err(|error| explain(&error))?);
        }
        let Some((store, instance)) = &mut self.instance else { return Err("there is no instance".to_owned()) };
        store.data_mut().content = message.content().clone();
        store.set_epoch_deadline(u64::from(self.plugin.limits.call_ms.into_inner()));
        let verdict = instance.call_route(&mut *store, &header(message));
        store.data_mut().content = MessageContent::default();
        lift(verdict.map_err(|error| explain(&error))?)
    }
}

impl RoutePlugin for Judging {
    fn name(&self) -> &str {
        &self.plugin.name
    }

    fn judge(&mut self, message: &Message) -> Verdict {
        self.plugin.sandbox.0.ticker.touch();
        let judged = self.ask(message);
        let figures = &self.plugin.figures;
        let count = |figure: &AtomicU64| figure.fetch_add(1, Ordering::Relaxed);
        count(&figures.asked);
        match judged {
            Ok(verdict) => {
                match &verdict {
                    Verdict::Pass => 0,
                    Verdict::Reroute(_) => count(&figures.rerouted),
                    Verdict::Refuse(_) => count(&figures.refused),
                    Verdict::Annotate(_) => count(&figures.annotated),
                };
                verdict
            }
            Err(reason) => {
                count(&figures.failed);
                self.instance = None;
                match self.plugin.on_failure {
                    OnFailure::Pass => Verdict::Pass,
                    OnFailure::Refuse => Verdict::Refuse(format!("it failed: {reason}").into()),
                }
            }
        }
    }
}

#[allow(clippy::cast_possible_truncation)] // The two halves are split.
fn id(id: u128) -> types::Id {
    types::Id { high: (id >> 64) as u64, low: id as u64 }
}

/// Converts a message to the plugin's type.
fn header(message: &Message) -> types::Header {
    let words = [message.protocol(), message.language(), message.ontology(), message.encoding()];
    let [protocol, language, ontology, encoding] = words.map(|word| word.map(str::to_owned));
    let receiver = match message.receiver() {
        Receiver::Agent(agent) | Receiver::Provider(agent, _) => types::Target::Agent(id(agent.to_u128())),
        Receiver::Member(agents, index) => match agents.get(*index as usize) {
            Some(agent) => types::Target::Agent(id(agent.to_u128())),
            None => types::Target::Nobody,
        },
        Receiver::Agents(agents) => types::Target::Several(u32::try_from(agents.len()).unwrap_or(u32::MAX)),
        Receiver::Capability(term, _) => types::Target::Capability(term.as_str().to_owned()),
        Receiver::Unaddressed => types::Target::Nobody,
    };
    let parameters = message.details().map_or(&[][..], |details| &details.user_parameters);
    types::Header {
        performative: message.performative().as_str().to_owned(),
        sender: message.sender().map(|agent| id(agent.to_u128())),
        receiver,
        conversation: message.conversation().map(|conversation| id(conversation.to_u128())),
        is_reply: message.in_reply_to().is_some(),
        protocol,
        language,
        ontology,
        encoding,
        content_length: message.content().len() as u64,
        priority: message.priority() as u8,
        durable: message.reliability() == Reliability::Durable,
        parameters: parameters.iter().map(|parameter| (parameter.name.to_string(), text(&parameter.value))).collect(),
    }
}

fn text(value: &ParameterValue) -> String {
    match value {
        ParameterValue::Atom(text) | ParameterValue::Text(text) => text.to_string(),
        ParameterValue::List(expression) => expression.as_str().to_owned(),
        ParameterValue::Binary(bytes) => String::from_utf8_lossy(bytes).into_owned(),
    }
}

fn lift(verdict: types::Verdict) -> Result<Verdict, String> {
    Ok(match verdict {
        types::Verdict::Pass => Verdict::Pass,
        types::Verdict::RerouteToAgent(name) => {
            let name = AgentName::try_new(name).map_err(|error| error.to_string())?;
            Verdict::Reroute(Destination::Agent(AgentId::of(&name)))
        }
        types::Verdict::RerouteToCapability(name) => {
            let name = CapabilityName::try_new(name).map_err(|error| error.to_string())?;
            let term = capability_term(&name).ok_or("the vocabulary is full")?;
            Verdict::Reroute(Destination::Capability(term, Choice::Any))
        }
        types::Verdict::Refuse(reason) => Verdict::Refuse(reason.into()),
        types::Verdict::Annotate(parameters) => {
            Verdict::Annotate(parameters.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
        }
    })
}
