//! What a request says besides its body: parameters of the query and of the path, and its media types.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{FromRequestParts, Query, RawPathParams};
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Uri};
use caxton_shards::domain::AgentName;

use super::Api;
use super::problem::Problem;
use crate::edge::doors::reason;

/// The parameters of a query, each of which may occur once.
pub(super) struct Parameters(Vec<(String, String)>);

impl Parameters {
    /// Reads the parameters of a request; others than the known ones are refused.
    pub fn read(uri: &Uri, known: &[&str]) -> Result<Self, Problem> {
        if uri.query().is_none() {
            return Ok(Self(Vec::new()));
        }
        let query = Query::<Vec<(String, String)>>::try_from_uri(uri);
        let Query(pairs) = query.map_err(|_| Problem::new(reason::BAD_PARAMETER, "the query cannot be read"))?;
        for (place, (name, _)) in pairs.iter().enumerate() {
            if !known.contains(&name.as_str()) {
                let detail = match known {
                    [] => format!("unknown parameter {name:?}: there are none here"),
                    known => format!("unknown parameter {name:?}: expected {}", known.join(", ")),
                };
                return Err(Problem::new(reason::BAD_PARAMETER, detail));
            }
            if pairs[..place].iter().any(|(other, _)| other == name) {
                return Err(Problem::new(reason::BAD_PARAMETER, format!("{name}: it occurs twice")));
            }
        }
        Ok(Self(pairs))
    }

    /// Returns a parameter's text.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Returns a parameter's value.
    pub fn value<T: FromStr<Err: Display>>(&self, name: &str) -> Result<Option<T>, Problem> {
        let parse =
            |text: &str| text.parse().map_err(|error| Problem::new(reason::BAD_PARAMETER, format!("{name}: {error}")));
        self.text(name).map(parse).transpose()
    }

    /// Returns a number within limits.
    pub fn number(&self, name: &str, allowed: RangeInclusive<u64>, default: u64) -> Result<u64, Problem> {
        let Some(text) = self.text(name) else { return Ok(default) };
        text.parse().ok().filter(|number| allowed.contains(number)).ok_or_else(|| {
            let (least, most) = (allowed.start(), allowed.end());
            Problem::new(
                reason::BAD_PARAMETER,
                format!("{name}: expected a number from {least} to {most}, not {text:?}"),
            )
        })
    }

    /// Returns a word that is one of those allowed.
    pub fn one_of(
        &self,
        name: &str,
        allowed: impl Iterator<Item = &'static str> + Clone,
    ) -> Result<Option<&'static str>, Problem> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let found = allowed.clone().find(|word| *word == text);
        found.map(Some).ok_or_else(|| {
            let words = allowed.collect::<Vec<_>>().join(", ");
            Problem::new(reason::BAD_PARAMETER, format!("{name}: expected one of {words}, not {text:?}"))
        })
    }

    /// Returns a time in milliseconds within limits.
    pub fn milliseconds(&self, name: &str, allowed: RangeInclusive<u64>, default: u64) -> Result<Duration, Problem> {
        self.number(name, allowed, default).map(Duration::from_millis)
    }
}

/// Returns a parameter of the path.
pub(super) async fn path_text(parts: &mut Parts, name: &str) -> Result<String, Problem> {
    let found = RawPathParams::from_request_parts(parts, &()).await;
    let found = found.map_err(|_| Problem::new(reason::BAD_PARAMETER, "the path is not UTF-8"))?;
    let value = found.iter().find(|(known, _)| *known == name).map(|(_, value)| value.to_owned());
    value.ok_or_else(|| Problem::new(reason::BAD_PARAMETER, "the path cannot be read"))
}

/// The agent that the path names.
pub(super) struct AgentOfPath(pub AgentName);

impl FromRequestParts<Arc<Api>> for AgentOfPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<Api>) -> Result<Self, Problem> {
        let name = path_text(parts, "name").await?;
        Ok(Self(name.parse::<AgentName>()?))
    }
}

/// Returns the media type of a request's body, in lower case and without parameters.
pub(super) fn media_type(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    Some(text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
}

/// Returns the problem of a body of another media type.
pub(super) fn unsupported(expected: &str) -> Problem {
    let detail = format!("the header Content-Type has to be one of {expected}");
    Problem::new(reason::UNSUPPORTED_MEDIA_TYPE, detail)
}

/// Whether the client prefers a message in the string form of FIPA SC00070 to JSON.
pub(super) fn accepts_text(headers: &HeaderMap) -> bool {
    let accept = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    let first = accept.split(',').next().unwrap_or_default().split(';').next().unwrap_or_default().trim();
    matches!(first, "text/x-fipa-acl" | "text/plain")
}
