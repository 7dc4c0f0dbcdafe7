//! Who makes a request, and whether they may.
//!
//! At the Unix socket the user of the router and root are known by their processes, and need no token. Elsewhere, where
//! no tokens are used, everybody on this host may do everything. A web page that somebody opens on this host is
//! not meant by that: requests with the name of another host (DNS rebinding), or sent by a page of another origin, are
//! refused.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::FromRequestParts;
use axum::http::header::{AUTHORIZATION, HOST, ORIGIN};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Uri};
use caxton_shards::domain::AgentName;

use super::Api;
use super::problem::Problem;
use crate::edge::doors::identity::{Identity, Operation};
use crate::edge::doors::reason;
use crate::edge::doors::socket::Peer;

/// Who makes a request.
pub(super) struct Caller {
    pub identity: Arc<Identity>,
}

impl Caller {
    /// Checks that they may do this.
    pub fn require(&self, operation: Operation) -> Result<(), Problem> {
        if self.identity.may(operation) {
            return Ok(());
        }
        let (name, operation) = (self.identity.name(), operation.as_str());
        Err(Problem::new(reason::OPERATION_NOT_PERMITTED, format!("the token \"{name}\" does not permit {operation}")))
    }

    /// Checks that they may see what concerns this agent: it is one of theirs, or they may observe all.
    pub fn require_sight_of(&self, agent: &AgentName) -> Result<(), Problem> {
        if self.identity.may_receive_as(agent) {
            return Ok(());
        }
        self.require(Operation::Observe)
    }
}

impl FromRequestParts<Arc<Api>> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, Problem> {
        let access = api.context.access();
        let peer = parts.extensions.get::<Peer>().copied().unwrap_or(Peer::Network);
        let identity = match (peer, bearer(&parts.headers)) {
            // It may read this process's memory, so a token would keep nothing from it.
            (Peer::Owner, None) => access.local(),
            (Peer::OtherUser, _) if !access.requires_token() => {
                let detail = "without tokens only the user of the router and root are served at this socket";
                return Err(Problem::new(reason::FOREIGN_USER, detail));
            }
            (Peer::Network, token) => {
                if !access.requires_token() {
                    refuse_foreign_pages(&parts.headers, &parts.uri)?;
                }
                access.identify(token)?
            }
            (_, token) => access.identify(token)?,
        };
        api.context.requests.take(identity.name(), Instant::now())?;
        Ok(Self { identity })
    }
}

/// Returns the token of a request.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Refuses requests that a web page of somebody else has sent.
fn refuse_foreign_pages(headers: &HeaderMap, uri: &Uri) -> Result<(), Problem> {
    let host = match uri.authority() {
        Some(authority) => Some(authority.as_str()),
        None => headers.get(HOST).and_then(|host| host.to_str().ok()),
    };
    let Some(host) = host.filter(|host| is_loopback(host)) else {
        return Err(Problem::new(
            reason::FOREIGN_HOST,
            "without tokens this is served under the names of the loopback interface only, such as localhost: the \
             header Host names another host",
        ));
    };
    let origin = headers.get(ORIGIN).map(|origin| origin.to_str().unwrap_or_default());
    let is_own = |origin: &str| {
        let authority = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host))
    };
    let site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
    if origin.is_some_and(|origin| !is_own(origin))
        || site.is_some_and(|site| !matches!(site, b"same-origin" | b"none"))
    {
        return Err(Problem::new(reason::FOREIGN_ORIGIN, "without tokens no page of another origin is served"));
    }
    Ok(())
}

/// Whether an authority names the loopback interface.
fn is_loopback(authority: &str) -> bool {
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    let host = host.strip_suffix('.').unwrap_or(host);
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_the_loopback_interface_are_known() {
        for own in ["localhost", "LOCALHOST:7411", "127.0.0.1", "127.8.9.1:80", "[::1]", "[::1]:7411", "localhost."] {
            assert!(is_loopback(own), "{own}");
        }
        for foreign in ["", "example.org", "localhost.example.org", "10.0.0.1", "[::2]:80", "127.0.0.1.example.org"] {
            assert!(!is_loopback(foreign), "{foreign}");
        }
    }
}
