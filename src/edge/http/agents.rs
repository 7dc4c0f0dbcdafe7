//! Agents: `/v1/agents` and `/v1/capabilities`.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{Method, StatusCode};
use caxton_shards::api::{AgentFilter, AgentKind, AgentState, AgentView, LifecycleError, OverflowPolicy, StopReason};
use caxton_shards::domain::{AgentName, CapabilityName};
use caxton_shards::message::AgentId;
use caxton_shards::routing::partition::ShardIndex;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Api;
use super::audit::audited;
use super::body::read_json;
use super::caller::Caller;
use super::endpoint::{AGENT, Endpoint, Parameter, Place, query, responds};
use super::parameters::{AgentOfPath, Parameters, path_text};
use super::problem::{Effect, Problem};
use super::receive::stream_permit;
use super::reply::{JSON, Reply};
use crate::edge::doors::identity::Operation;
use crate::edge::doors::outside::{OutsideAgent, OutsideOptions};
use crate::edge::doors::reason;
use crate::router::Router;
use crate::router::error::CallError;
use crate::router::lifecycle::AgentCursor;

/// Maximum number of agents of a page.
const PAGE_MAX: u64 = 1_000;
/// Usual number of agents of a page.
const PAGE: u64 = 100;
/// Maximum number of capabilities of an outside agent.
const CAPABILITIES_MAX: usize = 256;
/// The longest and the usual time for draining an agent, in milliseconds.
const DRAIN_MS_MAX: u64 = 300_000;
const DRAIN_MS: u64 = 30_000;
/// The parameters of the list.
const LIST: [&str; 7] = ["limit", "cursor", "prefix", "capability", "shard", "state", "kind"];
/// The states and the kinds of agents that are listed.
const STATES: &str = r#"{"type":"string","enum":["initiated","active","suspended","draining","stopped"]}"#;
const KINDS: &str = r#"{"type":"string","enum":["handler","inbox","absent","proxy","outside"]}"#;
/// The kind of the agents of the doors' clients, whose messages are in inboxes too.
const OUTSIDE: &str = "outside";
/// How long a deregistration waits until the agent is gone.
const GONE_WITHIN: Duration = Duration::from_secs(10);

pub(super) fn endpoints() -> Vec<Endpoint> {
    const ONE: &str = "/v1/agents/{name}";
    let get = |path, name, summary| (Method::GET, path, name, summary);
    let (method, path, name, summary) = get("/v1/agents", "listAgents", "Lists agents, page by page.");
    let list_agents = Endpoint::new(method, path, name, summary, list)
        .requires(&[Operation::Observe])
        .parameters([
            query("limit", r#"{"type":"integer","minimum":1,"maximum":1000,"default":100}"#, "The size of a page."),
            query("cursor", r#"{"type":"string"}"#, "`next` of the previous page."),
            query("prefix", r#"{"type":"string","maxLength":512}"#, "What its name begins with."),
            query("capability", r#"{"type":"string","minLength":1,"maxLength":400}"#, "A capability that it provides."),
            query("shard", r#"{"type":"integer","minimum":0,"maximum":65535}"#, "The number of its shard."),
            query("state", STATES, "Its state in its life cycle."),
            query("kind", KINDS, "How it gets its messages; `outside` if it belongs to a client of the doors."),
        ])
        .responds([responds(
            200,
            "A page of agents. It may have fewer than `limit` and yet a `next`.",
            &[(JSON, "AgentPage")],
        )])
        .problems(&[400]);
    let show_agent = Endpoint::new(Method::GET, ONE, "getAgent", "Returns an agent.", show)
        .requires(&[Operation::Observe, Operation::Receive])
        .parameters([AGENT])
        .responds([responds(200, "The agent.", &[(JSON, "Agent")])])
        .problems(&[400, 404]);
    let register_agent = Endpoint::new(
        Method::PUT,
        ONE,
        "registerAgent",
        "Registers an outside agent, or returns the one that the same token has registered, if it has the options given. \
         Without a client it stays registered for doors.grace_ms.",
        register,
    )
    .requires(&[Operation::Receive])
    .parameters([AGENT])
    .body(&[(JSON, "Registration")])
    .responds([
        responds(201, "The agent was registered.", &[(JSON, "Agent")]),
        responds(200, "The agent was registered before.", &[(JSON, "Agent")]),
    ])
    .problems(&[400, 404, 409, 413, 415, 422]);
    let deregister_agent = Endpoint::new(
        Method::DELETE,
        ONE,
        "deregisterAgent",
        "Deregisters an agent: one's own outside agent or, with `operate`, any. What it has not handled becomes dead \
         letters.",
        deregister,
    )
    .requires(&[Operation::Receive, Operation::Operate])
    .parameters([AGENT])
    .responds([responds(204, "The agent is deregistered.", &[])])
    .problems(&[400, 404, 409]);
    let suspend_agent = Endpoint::new(
        Method::POST,
        "/v1/agents/{name}/suspend",
        "suspendAgent",
        "Suspends an agent: its messages wait.",
        suspend,
    );
    let resume_agent =
        Endpoint::new(Method::POST, "/v1/agents/{name}/resume", "resumeAgent", "Resumes a suspended agent.", resume);
    let changes = [suspend_agent, resume_agent].map(|change| {
        change
            .requires(&[Operation::Operate])
            .parameters([AGENT])
            .responds([responds(200, "The agent.", &[(JSON, "Agent")])])
            .problems(&[400, 404, 409])
    });
    let drain_agent = Endpoint::new(
        Method::POST,
        "/v1/agents/{name}/drain",
        "drainAgent",
        "Removes an agent once it has handled its messages, and returns then.",
        drain,
    )
    .requires(&[Operation::Operate])
    .parameters([
        AGENT,
        query(
            "deadline_ms",
            r#"{"type":"integer","minimum":0,"maximum":300000,"default":30000}"#,
            "What is left then is dead-lettered.",
        ),
    ])
    .responds([responds(200, "The agent is removed.", &[(JSON, "Drained")])])
    .problems(&[400, 404, 409]);
    let find_providers = Endpoint::new(
        Method::GET,
        "/v1/capabilities/{capability}",
        "getCapability",
        "Returns the agents that provide a capability.",
        providers,
    )
    .requires(&[Operation::Observe, Operation::Send])
    .parameters([Parameter {
        name: "capability",
        place: Place::Path,
        meaning: "The capability's name.",
        schema: r#"{"type":"string","minLength":1,"maxLength":400}"#,
    }])
    .responds([responds(200, "The providers; none if nobody provides it.", &[(JSON, "Capability")])])
    .problems(&[400]);
    let mut endpoints = vec![list_agents, show_agent, register_agent, deregister_agent];
    endpoints.extend(changes);
    endpoints.extend([drain_agent, find_providers]);
    endpoints
}

/// Returns an agent in JSON.
fn in_json(api: &Api, view: &AgentView) -> Value {
    let outside = view.name.parse::<AgentName>().ok().and_then(|name| api.context.outside.get(&name));
    json!({
        "name": view.name,
        "id": view.id.to_string(),
        "kind": if outside.is_some() { Some(OUTSIDE) } else { view.kind.map(AgentKind::as_str) },
        "state": view.state.as_str(),
        "stopped_because": view.stopped_because.map(StopReason::as_str),
        "shard": view.shard.0,
        "mailbox_messages": view.mailbox_messages,
        "mailbox_bytes": view.mailbox_bytes,
        "outbox": view.outbox,
        "waiting": view.waiting,
        "overflow": view.overflow.as_str(),
        "closed": view.closed,
        "restarts": view.restarts,
        "capabilities": view.capabilities.iter().map(|term| term.as_str()).collect::<Vec<_>>(),
        "outside": outside.map(|outside| json!({
            "owner": &**outside.owner(),
            "clients": outside.clients(),
            "acknowledged": outside.is_acknowledged(),
        })),
    })
}

/// Returns an agent that exists.
async fn look_up(api: &Api, name: &AgentName) -> Result<AgentView, Problem> {
    let view = api.context.router.agent(AgentId::of(name)).await?;
    view.ok_or_else(|| Problem::new(reason::UNKNOWN_AGENT, format!("no agent is named {name}")))
}

async fn list(State(api): State<Arc<Api>>, caller: Caller, parts: Parts) -> Result<Reply, Problem> {
    caller.require(Operation::Observe)?;
    let parameters = Parameters::read(&parts.uri, &LIST)?;
    let limit = parameters.number("limit", 1..=PAGE_MAX, PAGE)?;
    let cursor = parameters.value::<AgentCursor>("cursor")?;
    let (filter, kind) = filter_of(&parameters)?;
    let page = api.context.router.find_agents(&filter, usize::try_from(limit).unwrap_or(usize::MAX), cursor).await?;
    let agents = page.agents.iter().map(|view| in_json(&api, view));
    // The engine does not know which inboxes are those of clients.
    let agents = agents.filter(|agent| kind.is_none_or(|kind| agent["kind"] == kind));
    Ok(Reply::ok(&json!({
        "agents": agents.collect::<Vec<_>>(),
        "next": page.next.map(|next| next.to_string()),
    })))
}

/// Returns the filter of a request, and the kind of agents if it names one.
fn filter_of(parameters: &Parameters) -> Result<(AgentFilter, Option<&'static str>), Problem> {
    let kind = parameters.one_of("kind", AgentKind::ALL.map(AgentKind::as_str).into_iter().chain([OUTSIDE]))?;
    let state = parameters.one_of("state", AgentState::ALL.into_iter().map(AgentState::as_str))?;
    let shard = parameters.text("shard").map(|_| parameters.number("shard", 0..=u16::MAX.into(), 0)).transpose()?;
    let filter = AgentFilter {
        prefix: parameters.text("prefix").map(Into::into),
        capability: parameters.value::<CapabilityName>("capability")?.map(|name| name.as_ref().into()),
        shard: shard.and_then(|shard| u16::try_from(shard).ok()).map(ShardIndex),
        state: AgentState::ALL.into_iter().find(|known| Some(known.as_str()) == state),
        kind: match kind {
            Some(OUTSIDE) => Some(AgentKind::Inbox),
            kind => AgentKind::ALL.into_iter().find(|known| Some(known.as_str()) == kind),
        },
    };
    Ok((filter, kind))
}

async fn show(State(api): State<Arc<Api>>, caller: Caller, AgentOfPath(name): AgentOfPath) -> Result<Reply, Problem> {
    caller.require_sight_of(&name)?;
    Ok(Reply::ok(&in_json(&api, &look_up(&api, &name).await?)))
}

/// How an outside agent is to be registered. What is not given may be anything for one that is registered already.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Registration {
    capabilities: Option<Vec<String>>,
    acknowledged: bool,
    persistent: Option<bool>,
    overflow: Option<String>,
}

impl Registration {
    fn options(&self) -> Result<OutsideOptions, Problem> {
        let names = self.capabilities.as_deref().unwrap_or_default();
        if names.len() > CAPABILITIES_MAX {
            let detail = format!("{} capabilities: the limit is {CAPABILITIES_MAX}", names.len());
            return Err(Problem::new(reason::TOO_MANY_CAPABILITIES, detail));
        }
        let capabilities = names.iter().map(|name| name.parse::<CapabilityName>()).collect::<Result<Vec<_>, _>>();
        let mut capabilities = capabilities.map_err(|error| Problem::new(reason::INVALID_NAME, error))?;
        // Their order means nothing: the same ones are the same options.
        capabilities.sort_unstable();
        let unfit = |error| Problem::new(reason::BAD_DOCUMENT, error).with_status(StatusCode::UNPROCESSABLE_ENTITY);
        let overflow = self.overflow.as_ref().map(|word| word.parse::<OverflowPolicy>()).transpose();
        Ok(OutsideOptions {
            capabilities,
            acknowledged: self.acknowledged,
            persistent: self.persistent.unwrap_or_default(),
            overflow: overflow.map_err(unfit)?,
        })
    }

    /// Whether what is given are the options of an agent that is registered.
    fn agrees(&self, given: &OutsideOptions, registered: &OutsideOptions) -> bool {
        (self.capabilities.is_none() || given.capabilities == registered.capabilities)
            && (self.persistent.is_none() || given.persistent == registered.persistent)
            && (given.overflow.is_none() || given.overflow == registered.overflow)
    }
}

async fn register(
    State(api): State<Arc<Api>>,
    caller: Caller,
    AgentOfPath(name): AgentOfPath,
    request: Request,
) -> Result<Reply, Problem> {
    caller.require(Operation::Receive)?;
    let (parts, body) = request.into_parts();
    let registration: Option<Registration> = read_json(&api.bodies, &parts.headers, body).await?;
    let registration = registration.unwrap_or_default();
    let options = registration.options()?;
    let outside = &api.context.outside;
    let is_new = outside.get(&name).is_none();
    // Its client counts as gone from the end of the request on, until it reads its messages.
    let registered = outside.register(&api.context.router, &caller.identity, &name, options.clone()).await;
    if is_new || registered.is_err() {
        let outcome = registered.as_ref().map_or_else(|error| error.reason().word, |_| "done");
        let identity = caller.identity.name();
        api.context.audit.note(identity, "agents.register", name.as_str(), outcome, Value::Null).await;
    }
    let attachment = registered?;
    if !is_new && !registration.agrees(&options, attachment.agent().options()) {
        let detail = format!("{name} is registered with other options: deregister it first to change them");
        return Err(Problem::new(reason::OTHER_OPTIONS, detail));
    }
    api.names.note(&name);
    let view = look_up(&api, &name).await?;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    let reply = Reply::json(status, &in_json(&api, &view));
    drop(attachment);
    Ok(reply)
}

async fn deregister(
    State(api): State<Arc<Api>>,
    caller: Caller,
    AgentOfPath(name): AgentOfPath,
) -> Result<Reply, Problem> {
    let outside = api.context.outside.get(&name);
    let is_own = outside
        .as_ref()
        .is_some_and(|agent| agent.owner() == caller.identity.name() && caller.identity.may_receive_as(&name));
    if !is_own {
        caller.require(Operation::Operate)?;
    }
    let id = AgentId::of(&name);
    if api.is_reserved(id) {
        let detail = format!("{name} is the router's own agent");
        return Err(Problem::new(reason::RESERVED, detail).with_status(StatusCode::CONFLICT));
    }
    let own = Arc::clone(&api);
    audited(&api, &caller, "agents.deregister", name.to_string(), async move {
        if let Some(agent) = outside {
            own.let_go(&agent).await?;
        } else if !own.context.router.deregister(id).await? {
            return Err(Problem::new(reason::UNKNOWN_AGENT, format!("no agent is named {name}")));
        }
        Ok((Reply::empty(), Value::Null))
    })
    .await
}

impl Api {
    /// Deregisters an outside agent, and waits until its shard has removed it.
    async fn let_go(&self, agent: &Arc<OutsideAgent>) -> Result<(), Problem> {
        self.context.outside.deregister(agent);
        let gone = async {
            agent.inbox().ended().await;
            // A response proves that the shard has removed it, and not that the router has stopped instead.
            self.context.router.agent(agent.inbox().id()).await
        };
        let problem = match tokio::time::timeout(GONE_WITHIN, gone).await {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(error)) => Problem::from(error),
            Err(_) => {
                let name = agent.name();
                let detail = format!("{name} gets nothing further, but its shard has not removed it in time");
                Problem::new(reason::UNRESPONSIVE, detail)
            }
        };
        Err(problem.with_effect(Effect::Possible))
    }
}

/// Changes the state of an agent, and returns it.
async fn change<Changed>(
    api: &Arc<Api>,
    caller: &Caller,
    name: AgentName,
    operation: &'static str,
    change: impl FnOnce(Router, AgentId) -> Changed,
) -> Result<Reply, Problem>
where
    Changed: Future<Output = Result<(), CallError<LifecycleError>>> + Send + 'static,
{
    caller.require(Operation::Operate)?;
    let changing = change(api.context.router.clone(), AgentId::of(&name));
    let (own, subject) = (Arc::clone(api), name.to_string());
    audited(api, caller, operation, subject, async move {
        changing.await.map_err(|error| Problem::of_call(&error, Problem::of_lifecycle))?;
        let view = look_up(&own, &name).await?;
        Ok((Reply::ok(&in_json(&own, &view)), Value::Null))
    })
    .await
}

async fn suspend(
    State(api): State<Arc<Api>>,
    caller: Caller,
    AgentOfPath(name): AgentOfPath,
) -> Result<Reply, Problem> {
    change(&api, &caller, name, "agents.suspend", |router, agent| async move { router.suspend(agent).await }).await
}

async fn resume(State(api): State<Arc<Api>>, caller: Caller, AgentOfPath(name): AgentOfPath) -> Result<Reply, Problem> {
    change(&api, &caller, name, "agents.resume", |router, agent| async move { router.resume(agent).await }).await
}

async fn drain(
    State(api): State<Arc<Api>>,
    caller: Caller,
    AgentOfPath(name): AgentOfPath,
    parts: Parts,
) -> Result<Reply, Problem> {
    caller.require(Operation::Operate)?;
    let parameters = Parameters::read(&parts.uri, &["deadline_ms"])?;
    let deadline = parameters.milliseconds("deadline_ms", 0..=DRAIN_MS_MAX, DRAIN_MS)?;
    let permit = stream_permit(&api)?;
    let own = Arc::clone(&api);
    audited(&api, &caller, "agents.drain", name.to_string(), async move {
        let _permit = permit;
        // One that is registered under the name meanwhile is another one.
        let outside = own.context.outside.get(&name);
        let drained = own.context.router.drain(AgentId::of(&name), deadline).await;
        if let Some(agent) = outside.filter(|agent| agent.inbox().has_ended()) {
            own.context.outside.deregister(&agent);
        }
        let drained = drained.map_err(|error| Problem::of_call(&error, Problem::of_lifecycle))?;
        let result = json!({ "left": drained.left });
        Ok((Reply::ok(&result), result))
    })
    .await
}

async fn providers(State(api): State<Arc<Api>>, caller: Caller, mut parts: Parts) -> Result<Reply, Problem> {
    if !caller.identity.may(Operation::Send) {
        caller.require(Operation::Observe)?;
    }
    let capability: CapabilityName = path_text(&mut parts, "capability").await?.parse()?;
    let router = &api.context.router;
    let agents = api.names.shown(router, &router.discover(&capability).await?).await;
    Ok(Reply::ok(&json!({ "capability": capability.to_string(), "agents": agents })))
}
