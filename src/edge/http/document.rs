//! The OpenAPI document: `GET /openapi.json`.

use std::sync::LazyLock;

use axum::http::{Method, StatusCode};
use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::endpoint::{Endpoint, Place, responds};
use super::problem::PROBLEM;
use super::reply::{JSON, Reply};

/// The schemas of bodies.
const SCHEMAS: &str = include_str!("schemas.json");
/// The document, which is the same for everybody.
static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| Bytes::from(format!("{:#}\n", document(&super::endpoints()))));

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::new(Method::GET, "/openapi.json", "getDocument", "Returns this document.", show)
            .responds([responds(200, "The document.", &[(JSON, "Document")])]),
    ]
}

async fn show() -> Reply {
    Reply { status: StatusCode::OK, media: JSON, body: DOCUMENT.clone() }
}

/// Returns the document for these operations.
fn document(endpoints: &[Endpoint]) -> Value {
    let mut paths = Map::new();
    for endpoint in endpoints {
        let path = paths.entry(endpoint.path).or_insert_with(|| json!({}));
        path[endpoint.method.as_str().to_ascii_lowercase()] = operation(endpoint);
    }
    let schemas: Value = serde_json::from_str(SCHEMAS).unwrap_or_default();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Caxton",
            "summary": "A message router for multi-agent systems.",
            "version": env!("CARGO_PKG_VERSION"),
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
        },
    })
}

fn operation(endpoint: &Endpoint) -> Value {
    let content = |media: &[(&str, &str)]| {
        let content = media.iter().map(|(media, schema)| ((*media).to_owned(), json!({ "schema": reference(schema) })));
        Value::Object(content.collect())
    };
    let mut responses = Map::new();
    for documented in &endpoint.responses {
        let mut response = json!({ "description": documented.meaning });
        if !documented.content.is_empty() {
            response["content"] = content(documented.content);
        }
        responses.insert(documented.status.to_string(), response);
    }
    let general: &[u16] = if endpoint.requires.is_empty() { &[] } else { &[401, 403, 429, 503] };
    // The body may take too long.
    let of_bodies: &[u16] = if endpoint.body.is_empty() { &[] } else { &[408] };
    for status in general.iter().chain(of_bodies).chain(endpoint.problems) {
        let title = StatusCode::from_u16(*status).ok().and_then(|status| status.canonical_reason());
        let problem = json!({ "description": title.unwrap_or_default(), "content": content(&[(PROBLEM, "Problem")]) });
        responses.insert(status.to_string(), problem);
    }
    let parameters = endpoint.parameters.iter().map(|parameter| {
        let place = match parameter.place {
            Place::Path => "path",
            Place::Query => "query",
            Place::Header => "header",
        };
        json!({
            "name": parameter.name,
            "in": place,
            "required": parameter.place == Place::Path,
            "description": parameter.meaning,
            "schema": serde_json::from_str::<Value>(parameter.schema).unwrap_or_default(),
        })
    });
    let mut operation = json!({
        "operationId": endpoint.name,
        "summary": endpoint.summary,
        "parameters": parameters.collect::<Vec<_>>(),
        "responses": responses,
    });
    if !endpoint.requires.is_empty() {
        let words: Vec<_> = endpoint.requires.iter().map(|operation| operation.as_str()).collect();
        operation["description"] = format!("Where tokens are used, requires `{}`.", words.join("` or `")).into();
        operation["security"] = json!([{}, { "token": [] }]);
    }
    if !endpoint.body.is_empty() {
        operation["requestBody"] = json!({ "content": content(endpoint.body) });
    }
    operation
}

fn reference(schema: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{schema}") })
}
