//! Responses that are complete: a status, a media type and a body.

use axum::body::Body;
use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, HeaderValue};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde_json::Value;

/// The media type of JSON.
pub(super) const JSON: &str = "application/json";

/// A complete response.
#[derive(Clone, Debug)]
pub(super) struct Reply {
    pub status: StatusCode,
    pub media: &'static str,
    pub body: Bytes,
}

impl Reply {
    /// Returns a value in JSON.
    pub fn json(status: StatusCode, value: &Value) -> Self {
        Self { status, media: JSON, body: Bytes::from(format!("{value}\n")) }
    }

    /// Returns a value in JSON, with the status 200.
    pub fn ok(value: &Value) -> Self {
        Self::json(StatusCode::OK, value)
    }

    /// Returns no content.
    pub fn empty() -> Self {
        Self { status: StatusCode::NO_CONTENT, media: JSON, body: Bytes::new() }
    }
}

impl IntoResponse for Reply {
    fn into_response(self) -> Response {
        let is_empty = self.status == StatusCode::NO_CONTENT;
        let mut response = Response::new(Body::from(self.body));
        *response.status_mut() = self.status;
        if !is_empty {
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(self.media));
        }
        response
    }
}
