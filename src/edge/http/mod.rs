//! The HTTP API: agents, messages, conversations, dead letters and figures, for clients in any language.
//!
//! There is one module for each resource; each lists its [`Endpoint`]s, from which both the routes and the OpenAPI
//! document are made. A request comes in through [`Caller`](caller::Caller), which says who makes it, and every error
//! goes out as a [`Problem`].
//!
//! Everything is bounded: bodies by the limits of messages and a common memory, streams by the limit of connections,
//! requests per identity by `doors.requests_per_second`, and what is kept between requests by constants.

mod agents;
mod audit;
mod backup;
mod body;
mod caller;
mod cluster;
mod conversations;
mod dead_letters;
mod document;
mod endpoint;
mod figures;
mod idempotency;
mod messages;
mod names;
mod parameters;
mod problem;
mod receive;
mod reply;
mod route;
mod socket;
mod stream;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::Response;
use axum::routing::MethodRouter;
use caxton_shards::api::ROUTER_NAME;
use caxton_shards::codec::{json, text};
use caxton_shards::management::DF;
use caxton_shards::message::AgentId;
use tokio::sync::Semaphore;

use self::body::BodyMemory;
use self::caller::Caller;
use self::endpoint::Endpoint;
use self::idempotency::Idempotency;
use self::names::Names;
use self::problem::Problem;
use crate::edge::doors::context::DoorContext;
use crate::edge::doors::identity::Operation;
use crate::edge::doors::room::Room;
use crate::edge::{dashboard, routes};

pub(crate) use self::messages::WAIT_MS_MAX;

/// The state of the API.
struct Api {
    context: Arc<DoorContext>,
    bodies: BodyMemory,
    /// Streams and long polls: a part of the connections, so that some are left for other requests.
    streams: Arc<Room>,
    idempotency: Idempotency,
    names: Names,
    /// The router's own agents, in whose names nobody else sends.
    reserved: HashSet<AgentId>,
    /// One backup is made at a time.
    backups: Arc<Semaphore>,
}

impl Api {
    fn new(context: &Arc<DoorContext>) -> Self {
        let gateways = (0..context.router.shard_count()).map(|shard| context.router.gateway(shard));
        let own = [ROUTER_NAME, DF].map(str::to_owned).into_iter().chain(gateways);
        Self {
            context: Arc::clone(context),
            bodies: BodyMemory::new(),
            streams: Arc::default(),
            idempotency: Idempotency::default(),
            names: Names::default(),
            reserved: own.map(|name| AgentId::of_text(&name)).collect(),
            backups: Arc::new(Semaphore::new(1)),
        }
    }

    /// Returns the limits of a message as ACL text.
    fn text_limits(&self) -> text::Limits {
        let strictness = self.context.router.config().message.reading;
        text::Limits::with_content(self.context.content_max()).with_strictness(strictness)
    }

    /// Returns the limits of a message in JSON.
    fn json_limits(&self) -> text::Limits {
        json::limits(self.context.content_max()).with_strictness(self.context.router.config().message.reading)
    }

    /// Returns the maximum length of a message's form.
    fn message_bytes_max(&self) -> usize {
        self.text_limits().message_bytes_max.max(self.json_limits().message_bytes_max)
    }

    /// Whether an agent is one of the router's own.
    fn is_reserved(&self, agent: AgentId) -> bool {
        self.reserved.contains(&agent)
    }
}

/// Returns all operations.
fn endpoints() -> Vec<Endpoint> {
    let resources = [
        messages::endpoints(),
        receive::endpoints(),
        agents::endpoints(),
        conversations::endpoints(),
        dead_letters::endpoints(),
        route::endpoints(),
        figures::endpoints(),
        cluster::endpoints(),
        backup::endpoints(),
        document::endpoints(),
    ];
    resources.into_iter().flatten().collect()
}

/// Returns the routes of the HTTP door: the API, metrics and health, and the dashboard.
pub(crate) fn routes(context: &Arc<DoorContext>) -> axum::Router {
    let api = Arc::new(Api::new(context));
    let mut paths: BTreeMap<&str, (MethodRouter<Arc<Api>>, Vec<&str>)> = BTreeMap::new();
    let endpoints = endpoints();
    for endpoint in &endpoints {
        let (handler, methods) = paths.entry(endpoint.path).or_default();
        *handler = std::mem::take(handler).merge(endpoint.handler());
        methods.push(endpoint.method.as_str());
    }
    let mut routes = axum::Router::new();
    for (path, (handler, methods)) in paths {
        let allowed = HeaderValue::from_str(&methods.join(","));
        let refusal = [(ALLOW, allowed.unwrap_or_else(|_| HeaderValue::from_static("")))];
        let refuse = move || std::future::ready((StatusCode::METHOD_NOT_ALLOWED, refusal.clone()));
        let handler = handler.fallback(refuse.clone());
        // GET would be carried out for HEAD: what a client then does not get is lost.
        let handler = if methods.contains(&"GET") { handler.head(refuse) } else { handler };
        routes = routes.route(path, handler);
    }
    let shared = context.router.shared();
    let api_routes = routes.layer(from_fn_with_state(Arc::clone(shared), routes::count)).with_state(Arc::clone(&api));
    let figures = routes::metrics(shared).layer(from_fn_with_state(api, observers_only));
    let dashboard = dashboard::routes().layer(from_fn_with_state(Arc::clone(shared), routes::count));
    api_routes.merge(figures).merge(routes::health(shared)).merge(dashboard).layer(from_fn(as_problems))
}

/// Refuses figures to a caller whose token does not permit `observe`, and without tokens to pages of other origins.
async fn observers_only(
    State(api): State<Arc<Api>>,
    caller: Result<Caller, Problem>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let caller = caller?;
    if api.context.access().requires_token() {
        caller.require(Operation::Observe)?;
    }
    Ok(next.run(request).await)
}

/// Gives errors that have no document one, and says that nothing is to be kept or guessed.
async fn as_problems(request: Request, next: Next) -> Response {
    const NO_SNIFFING: (HeaderName, HeaderValue) =
        (HeaderName::from_static("x-content-type-options"), HeaderValue::from_static("nosniff"));
    let mut response = next.run(request).await;
    let status = response.status();
    if (status.is_client_error() || status.is_server_error()) && !response.headers().contains_key(CONTENT_TYPE) {
        response = Problem::of_status(status).instead_of(response.headers());
    }
    let headers = response.headers_mut();
    headers.insert(NO_SNIFFING.0, NO_SNIFFING.1);
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
pub(crate) mod told {
    //! What a client is told of the engine's errors.

    use caxton_shards::api::{AskError, SendErrorKind};

    use super::problem::Problem;

    /// Returns reason and status of a message that is not accepted.
    pub(crate) fn of_send(kind: &SendErrorKind) -> (String, u16) {
        told(&Problem::of_send(kind))
    }

    /// Returns reason and status of a message without reply.
    pub(crate) fn of_ask(error: &AskError) -> (String, u16) {
        told(&Problem::of_ask(error))
    }

    fn told(problem: &Problem) -> (String, u16) {
        let document = problem.to_json();
        let status = document["status"].as_u64().and_then(|status| status.try_into().ok());
        (problem.reason().to_owned(), status.unwrap_or_default())
    }
}
