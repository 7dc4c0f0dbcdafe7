//! Reading the body of a request, within limits of size, time and memory.

use std::time::Duration;

use axum::body::Body;
use axum::http::HeaderMap;
use axum::http::header::CONTENT_LENGTH;
use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::parameters::{media_type, unsupported};
use super::problem::Problem;
use super::reply::JSON;
use crate::edge::doors::reason;

/// Time limit for reading a body.
const BODY_WITHIN: Duration = Duration::from_secs(30);
/// Maximum length of a body that is no message, in bytes.
const DOCUMENT_BYTES_MAX: usize = 64 << 10;
/// Length from which a body counts against the memory for bodies, in bytes.
const LARGE_BYTES: usize = 64 << 10;
/// Memory for large bodies that are being read or handled, in KiB.
const LARGE_BODIES_KIB: u32 = 256 << 10;

/// The memory for large bodies.
pub(super) struct BodyMemory(Semaphore);

impl BodyMemory {
    pub fn new() -> Self {
        Self(Semaphore::new(LARGE_BODIES_KIB as usize))
    }

    /// Takes memory for a body of this length.
    fn take(&self, bytes: usize) -> Result<Option<SemaphorePermit<'_>>, Problem> {
        if bytes <= LARGE_BYTES {
            return Ok(None);
        }
        let kibibytes = u32::try_from(bytes.div_ceil(1 << 10)).unwrap_or(u32::MAX).min(LARGE_BODIES_KIB);
        let full = |_| Problem::new(reason::BODIES_FULL, "the memory for large bodies is used up: try again later");
        self.0.try_acquire_many(kibibytes).map(Some).map_err(full)
    }
}

/// A body, and its part of the memory for large ones.
pub(super) struct ReadBody<'a> {
    pub bytes: Bytes,
    _memory: Option<SemaphorePermit<'a>>,
}

/// Reads a body of up to `bytes_max`.
pub(super) async fn read_body<'a>(
    memory: &'a BodyMemory,
    headers: &HeaderMap,
    body: Body,
    bytes_max: usize,
) -> Result<ReadBody<'a>, Problem> {
    let too_large = || {
        let detail = format!("the body is larger than {bytes_max} bytes");
        Problem::new(reason::BODY_TOO_LARGE, detail)
    };
    let declared = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    let expected = declared.unwrap_or(bytes_max);
    if expected > bytes_max {
        return Err(too_large());
    }
    let memory = memory.take(expected)?;
    let read = tokio::time::timeout(BODY_WITHIN, Limited::new(body, bytes_max).collect()).await;
    let read = read.map_err(|_| Problem::new(reason::BODY_TOO_SLOW, "the body took too long"))?;
    match read {
        Ok(read) => Ok(ReadBody { bytes: read.to_bytes(), _memory: memory }),
        Err(error) if error.is::<LengthLimitError>() => Err(too_large()),
        Err(_) => Err(Problem::new(reason::BROKEN_BODY, "the body broke off")),
    }
}

/// Reads a document in JSON; an empty body is none.
pub(super) async fn read_json<T: DeserializeOwned>(
    memory: &BodyMemory,
    headers: &HeaderMap,
    body: Body,
) -> Result<Option<T>, Problem> {
    let body = read_body(memory, headers, body, DOCUMENT_BYTES_MAX).await?;
    if body.bytes.is_empty() {
        return Ok(None);
    }
    if media_type(headers).is_none_or(|media| media != JSON) {
        return Err(unsupported(JSON));
    }
    let read = serde_json::from_slice(&body.bytes);
    read.map(Some).map_err(|error| Problem::new(reason::BAD_DOCUMENT, format!("the body is not as expected: {error}")))
}
