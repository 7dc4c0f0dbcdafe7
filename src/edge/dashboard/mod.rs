//! The dashboard: a page in the browser, served beside the HTTP API at `/`.
//!
//! Its files are part of the binary, and everything that it shows comes from the API, with the token of the person who
//! looks at it. The files are the same for everybody and tell nothing, so they are served without a token. They load
//! nothing from elsewhere, and their content security policy lets the browser refuse what would.

use std::future::ready;

use axum::Router;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderValue, IF_NONE_MATCH, REFERRER_POLICY,
};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

/// Scripts, styles and requests are those of this origin only; no page may show it in a frame.
const POLICY: &str = "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'";
/// The browser asks each time whether its copy is that of this binary.
const REVALIDATE: &str = "no-cache";
/// Pages that open the dashboard in a window cannot reach into it.
const OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");

const JAVASCRIPT: &str = "text/javascript; charset=utf-8";

/// A file of the dashboard.
struct Asset {
    path: &'static str,
    media: &'static str,
    bytes: &'static [u8],
}

/// Lists files below `assets`, each with its path and its media type.
macro_rules! assets {
    ($($path:literal $media:expr, $file:literal;)+) => {
        static ASSETS: &[Asset] = &[
            $(Asset { path: $path, media: $media, bytes: include_bytes!(concat!("assets/", $file)) },)+
        ];
    };
}

assets! {
    "/" "text/html; charset=utf-8", "index.html";
    "/dashboard/style.css" "text/css; charset=utf-8", "style.css";
    "/dashboard/icon.svg" "image/svg+xml", "icon.svg";
    "/dashboard/agents.js" JAVASCRIPT, "agents.js";
    "/dashboard/api.js" JAVASCRIPT, "api.js";
    "/dashboard/cluster.js" JAVASCRIPT, "cluster.js";
    "/dashboard/conversations.js" JAVASCRIPT, "conversations.js";
    "/dashboard/dialog.js" JAVASCRIPT, "dialog.js";
    "/dashboard/dom.js" JAVASCRIPT, "dom.js";
    "/dashboard/events.js" JAVASCRIPT, "events.js";
    "/dashboard/health.js" JAVASCRIPT, "health.js";
    "/dashboard/letters.js" JAVASCRIPT, "letters.js";
    "/dashboard/main.js" JAVASCRIPT, "main.js";
    "/dashboard/metrics.js" JAVASCRIPT, "metrics.js";
    "/dashboard/plot.js" JAVASCRIPT, "plot.js";
    "/dashboard/send.js" JAVASCRIPT, "send.js";
    "/dashboard/sequence.js" JAVASCRIPT, "sequence.js";
    "/dashboard/shards.js" JAVASCRIPT, "shards.js";
    "/dashboard/theme.js" JAVASCRIPT, "theme.js";
    "/dashboard/traffic.js" JAVASCRIPT, "traffic.js";
}

/// Returns the routes of the dashboard.
pub(crate) fn routes() -> Router {
    ASSETS.iter().fold(Router::new(), |routes, asset| {
        let tag = tag_of(asset.bytes);
        routes.route(asset.path, get(move |headers: HeaderMap| ready(serve(asset, tag, &headers))))
    })
}

/// Returns the entity tag of a file: it changes with its bytes.
fn tag_of(bytes: &[u8]) -> u64 {
    let mut first = [0; 8];
    first.copy_from_slice(&blake3::hash(bytes).as_bytes()[..8]);
    u64::from_be_bytes(first)
}

fn serve(asset: &'static Asset, tag: u64, headers: &HeaderMap) -> Response {
    let tag = format!("\"{tag:016x}\"");
    let is_known = headers.get_all(IF_NONE_MATCH).iter().filter_map(|known| known.to_str().ok()).any(|known| {
        known.split(',').map(|known| known.trim().trim_start_matches("W/")).any(|known| known == tag || known == "*")
    });
    let mut response = if is_known {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        ([(CONTENT_TYPE, asset.media)], asset.bytes).into_response()
    };
    let own = response.headers_mut();
    if let Ok(tag) = HeaderValue::try_from(tag) {
        own.insert(ETAG, tag);
    }
    for (name, value) in [
        (CACHE_CONTROL, REVALIDATE),
        (CONTENT_SECURITY_POLICY, POLICY),
        (REFERRER_POLICY, "no-referrer"),
        (OPENER_POLICY, "same-origin"),
    ] {
        own.insert(name, HeaderValue::from_static(value));
    }
    response
}
