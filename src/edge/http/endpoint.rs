//! One operation of the API: how it is documented, and what fulfils it.
//!
//! Routes and document come from the same list, so that none is without the other.

use std::sync::Arc;

use axum::handler::Handler;
use axum::http::Method;
use axum::routing::{MethodFilter, MethodRouter, on};

use super::Api;
use crate::edge::doors::identity::Operation;

/// Where a parameter stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Place {
    Path,
    Query,
    Header,
}

/// A parameter.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parameter {
    pub name: &'static str,
    pub place: Place,
    pub meaning: &'static str,
    /// The schema in JSON.
    pub schema: &'static str,
}

/// Creates a parameter of the query.
pub(super) const fn query(name: &'static str, schema: &'static str, meaning: &'static str) -> Parameter {
    Parameter { name, place: Place::Query, meaning, schema }
}

/// The agent of the path.
pub(super) const AGENT: Parameter = Parameter {
    name: "name",
    place: Place::Path,
    meaning: "The agent's name.",
    schema: r#"{"type":"string","minLength":1,"maxLength":512}"#,
};

/// A response: its status, its meaning, and the media type and schema of its body.
#[derive(Clone, Copy, Debug)]
pub(super) struct Documented {
    pub status: u16,
    pub meaning: &'static str,
    /// Media types, each with the name of a schema.
    pub content: &'static [(&'static str, &'static str)],
}

/// Creates a response.
pub(super) const fn responds(
    status: u16,
    meaning: &'static str,
    content: &'static [(&'static str, &'static str)],
) -> Documented {
    Documented { status, meaning, content }
}

/// One operation of the API.
pub(super) struct Endpoint {
    pub method: Method,
    pub path: &'static str,
    /// Its name in generated clients.
    pub name: &'static str,
    pub summary: &'static str,
    /// What a token has to permit; several if one of them is enough.
    pub requires: &'static [Operation],
    pub parameters: Vec<Parameter>,
    /// Media types of the body, each with the name of a schema; none without a body.
    pub body: &'static [(&'static str, &'static str)],
    /// The responses of an operation that was fulfilled.
    pub responses: Vec<Documented>,
    /// The statuses of problems that are its own, besides those of every operation.
    pub problems: &'static [u16],
    handler: MethodRouter<Arc<Api>>,
}

impl Endpoint {
    /// Creates an operation without parameters, body, responses and problems of its own.
    pub fn new<H: Handler<T, Arc<Api>>, T: 'static>(
        method: Method,
        path: &'static str,
        name: &'static str,
        summary: &'static str,
        handler: H,
    ) -> Self {
        let filter = MethodFilter::try_from(method.clone()).unwrap_or(MethodFilter::GET);
        Self {
            method,
            path,
            name,
            summary,
            requires: &[],
            parameters: Vec::new(),
            body: &[],
            responses: Vec::new(),
            problems: &[],
            handler: on(filter, handler),
        }
    }

    /// Says what a token has to permit.
    pub fn requires(self, requires: &'static [Operation]) -> Self {
        Self { requires, ..self }
    }

    /// Adds parameters.
    pub fn parameters<const COUNT: usize>(self, parameters: [Parameter; COUNT]) -> Self {
        Self { parameters: parameters.into(), ..self }
    }

    /// Adds a body.
    pub fn body(self, body: &'static [(&'static str, &'static str)]) -> Self {
        Self { body, ..self }
    }

    /// Adds responses.
    pub fn responds<const COUNT: usize>(self, responses: [Documented; COUNT]) -> Self {
        Self { responses: responses.into(), ..self }
    }

    /// Adds statuses of problems.
    pub fn problems(self, problems: &'static [u16]) -> Self {
        Self { problems, ..self }
    }

    /// Returns what fulfils it.
    pub fn handler(&self) -> MethodRouter<Arc<Api>> {
        self.handler.clone()
    }
}
