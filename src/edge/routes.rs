//! Metrics and health over HTTP.
//!
//! | path | what it serves |
//! |---|---|
//! | `/metrics` | the public metrics, over all shards |
//! | `/metrics/internal` | the metrics of each shard |
//! | `/livez` | 200, or 503 if only a restart of the process helps |
//! | `/readyz` | 200, or 503 if the router should get no work |
//! | `/healthz` | the health of every part in JSON; 503 if the router is not ready |
//! | `/healthz/slow` | the agents whose messages wait longest, in JSON; 503 if a shard did not respond |

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use caxton_shards::api::{SLOW_CONSUMERS_MAX, SlowConsumer};
use serde_json::json;

use crate::deadline::Deadline;
use crate::router::error::CallError;
use crate::router::slow_consumers::slow_consumers;
use crate::shard_handle::Shared;
use crate::telemetry::figures::{Figures, refresh_details, request_details};
use crate::telemetry::health::{liveness, observe};
use crate::telemetry::{Audience, TextForm, expose};

/// Number of slow agents that are returned if the query does not say how many.
const SLOW_AGENTS: usize = 10;
/// How long the shards are given to find slow agents.
const SLOW_PATIENCE: Duration = Duration::from_secs(1);

/// Returns the routes for metrics and health.
pub(crate) fn routes(shared: &Arc<Shared>) -> Router {
    metrics(shared).merge(health(shared))
}

/// Returns the routes for figures, among them names of agents.
pub(crate) fn metrics(shared: &Arc<Shared>) -> Router {
    let routes = Router::new()
        .route("/metrics", get(public))
        .route("/metrics/internal", get(internal))
        .route("/healthz/slow", get(slow));
    routes.layer(from_fn_with_state(Arc::clone(shared), count)).with_state(Arc::clone(shared))
}

/// Returns the routes for health.
pub(crate) fn health(shared: &Arc<Shared>) -> Router {
    let routes =
        Router::new().route("/livez", get(livez)).route("/readyz", get(readyz)).route("/healthz", get(healthz));
    routes.layer(from_fn_with_state(Arc::clone(shared), count)).with_state(Arc::clone(shared))
}

/// Checks the health, so that what is wrong has a time even if nobody asks.
pub(crate) fn check(shared: &Shared) {
    request_details(shared);
    observe(shared);
}

/// Counts requests, and says of responses that do not say it that they are not to be kept.
pub(crate) async fn count(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    shared.edge.requests.fetch_add(1, Ordering::Relaxed);
    let mut response = next.run(request).await;
    response.headers_mut().entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

async fn public(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> impl IntoResponse {
    scrape(&shared, Audience::Public, &headers)
}

async fn internal(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> impl IntoResponse {
    scrape(&shared, Audience::Internal, &headers)
}

fn scrape(shared: &Shared, audience: Audience, headers: &HeaderMap) -> impl IntoResponse + use<> {
    let form = form_of(headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default());
    ([(CONTENT_TYPE, form.media_type())], expose(Figures::gather(shared), audience, form))
}

/// Returns the form of the metrics for what a client accepts: `OpenMetrics` for every scraper that knows it, plain text
/// for the others and for people.
fn form_of(accept: &str) -> TextForm {
    let knows = |media: &str| accept.split(',').any(|range| range.trim().starts_with(media));
    if !knows("application/openmetrics-text") && knows("text/") { TextForm::Prometheus } else { TextForm::OpenMetrics }
}

async fn livez(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    // Nothing but the shards' threads is looked at: a disk that does not respond is no reason for a restart.
    let (live, phase) = liveness(&shared);
    let text = if live { "live" } else { "not live" };
    (status(live), [(CONTENT_TYPE, "text/plain; charset=utf-8")], format!("{text}, {}\n", phase.as_str()))
}

async fn readyz(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    refresh_details(&shared);
    let health = observe(&shared);
    (status(health.is_ready()), [(CONTENT_TYPE, "text/plain; charset=utf-8")], format!("{health}\n"))
}

async fn healthz(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    refresh_details(&shared);
    let health = observe(&shared);
    (status(health.is_ready()), [(CONTENT_TYPE, "application/json")], format!("{:#}\n", health.to_json()))
}

async fn slow(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let Some(limit) = slow_limit(request.uri().query()) else {
        let text = format!("expected limit=NUMBER, from 1 to {SLOW_CONSUMERS_MAX}\n");
        return (StatusCode::BAD_REQUEST, [(CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response();
    };
    let (found, failed) = slow_consumers(&shared, limit, Deadline::after(SLOW_PATIENCE)).await;
    let row = |agent: &SlowConsumer| {
        json!({
            "agent": *agent.name,
            "shard": agent.shard.0,
            "state": agent.state.as_str(),
            "messages": agent.messages,
            "bytes": agent.bytes,
            "in_inbox": agent.in_inbox,
            "oldest_ms": agent.oldest_ms,
        })
    };
    let failed: Vec<String> =
        failed.into_iter().map(|error| CallError::<Infallible>::from(error).to_string()).collect();
    let body = json!({ "agents": found.iter().map(row).collect::<Vec<_>>(), "failed": failed });
    (status(failed.is_empty()), [(CONTENT_TYPE, "application/json")], format!("{body:#}\n")).into_response()
}

/// Returns how many agents a query asks for.
fn slow_limit(query: Option<&str>) -> Option<usize> {
    let Some(query) = query.filter(|query| !query.is_empty()) else { return Some(SLOW_AGENTS) };
    let limit = query.strip_prefix("limit=")?.parse().ok()?;
    (1..=SLOW_CONSUMERS_MAX).contains(&limit).then_some(limit)
}

fn status(ok: bool) -> StatusCode {
    if ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_says_how_many_slow_agents() {
        let limits =
            [None, Some(""), Some("limit=3"), Some("limit=0"), Some("limit=257"), Some("many")].map(slow_limit);
        assert_eq!(limits, [Some(10), Some(10), Some(3), None, None, None]);
    }

    #[test]
    fn scrapers_get_open_metrics_and_others_text() {
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        assert_eq!([prometheus, "", "*/*"].map(form_of), [TextForm::OpenMetrics; 3]);
        assert_eq!(["text/plain", "text/html,application/xml;q=0.9"].map(form_of), [TextForm::Prometheus; 2]);
    }
}
