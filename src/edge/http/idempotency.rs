//! Idempotency keys: a request that is made again with the same key gets the response of the first time.
//!
//! A key belongs to an identity. It is kept while its request is being carried out, and [`KEPT_FOR`] from then on; a
//! response is dropped earlier when [`KEYS_MAX`] newer keys, or [`KEPT_BYTES_MAX`] of newer responses, need the room. A
//! request whose response was lost with its connection is carried out all the same. What has failed without any effect is
//! not kept, so that it can be tried again.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::http::HeaderMap;

use super::problem::Problem;
use super::reply::Reply;
use crate::edge::doors::reason;

/// The header.
pub(super) const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// Maximum number of keys kept.
const KEYS_MAX: usize = 10_000;
/// Maximum size of the responses kept, in bytes.
const KEPT_BYTES_MAX: usize = 64 << 20;
/// Maximum length of a key, in bytes.
const KEY_BYTES_MAX: usize = 255;
/// How long a key is kept.
const KEPT_FOR: Duration = Duration::from_mins(10);

/// Returns the key of a request.
pub(super) fn key_of(headers: &HeaderMap) -> Result<Option<Box<str>>, Problem> {
    let Some(key) = headers.get(IDEMPOTENCY_KEY) else { return Ok(None) };
    let key = key.to_str().ok().map(str::trim).filter(|key| !key.is_empty() && key.len() <= KEY_BYTES_MAX);
    let detail = "Idempotency-Key: expected 1 to 255 visible characters";
    key.map(|key| Some(key.into())).ok_or_else(|| Problem::new(reason::BAD_IDEMPOTENCY_KEY, detail))
}

type Key = (Arc<str>, Box<str>);

struct Entry {
    /// The hash of the request.
    request: blake3::Hash,
    /// The response, and how long it is kept; `None` while the request is being carried out.
    kept: Option<(Reply, Instant)>,
}

#[derive(Default)]
struct Store {
    entries: HashMap<Key, Entry>,
    /// The keys of the responses, oldest first.
    order: VecDeque<Key>,
    bytes: usize,
}

/// The keys, with their requests and responses.
#[derive(Clone, Default)]
pub(super) struct Idempotency(Arc<Mutex<Store>>);

/// What a key stands for.
pub(super) enum Begun {
    /// Nothing yet: the request is to be carried out.
    New(Ticket),
    /// A request that has this response.
    Known(Reply),
}

/// A request with a key that is being carried out. Dropping it forgets the key.
pub(super) struct Ticket {
    store: Idempotency,
    key: Key,
    is_kept: bool,
}

impl Idempotency {
    fn lock(&self) -> MutexGuard<'_, Store> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a request, or returns the response of the same one.
    pub fn begin(&self, identity: &Arc<str>, key: Box<str>, request: blake3::Hash) -> Result<Begun, Problem> {
        let key = (Arc::clone(identity), key);
        let mut store = self.lock();
        store.drop_old(Instant::now());
        if let Some(entry) = store.entries.get(&key) {
            if entry.request != request {
                let detail = "the Idempotency-Key was used for another request: choose a new one";
                return Err(Problem::new(reason::IDEMPOTENCY_KEY_REUSED, detail));
            }
            let detail = "the request with this Idempotency-Key is still being carried out";
            let kept = entry.kept.as_ref().map(|(reply, _)| Begun::Known(reply.clone()));
            return kept.ok_or_else(|| Problem::new(reason::IN_PROGRESS, detail));
        }
        if store.entries.len() >= KEYS_MAX && !store.drop_oldest() {
            let detail = format!("{KEYS_MAX} requests with an Idempotency-Key are being carried out: try again later");
            return Err(Problem::new(reason::IDEMPOTENCY_FULL, detail));
        }
        store.entries.insert(key.clone(), Entry { request, kept: None });
        Ok(Begun::New(Ticket { store: self.clone(), key, is_kept: false }))
    }
}

impl Ticket {
    /// Keeps the response.
    pub fn keep(mut self, reply: &Reply) {
        self.is_kept = true;
        let mut store = self.store.lock();
        let now = Instant::now();
        if let Some(entry) = store.entries.get_mut(&self.key) {
            entry.kept = Some((reply.clone(), now + KEPT_FOR));
            store.bytes += reply.body.len();
            store.order.push_back(self.key.clone());
        }
        store.drop_old(now);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.is_kept {
            self.store.lock().entries.remove(&self.key);
        }
    }
}

impl Store {
    /// Drops the responses that are too old or too much.
    fn drop_old(&mut self, now: Instant) {
        let is_over = |entry: &Entry| entry.kept.as_ref().is_some_and(|(_, until)| *until <= now);
        while self.bytes > KEPT_BYTES_MAX
            || self.order.front().and_then(|key| self.entries.get(key)).is_some_and(is_over)
        {
            if !self.drop_oldest() {
                return;
            }
        }
    }

    /// Drops the oldest response, with its key. Returns false if there is none.
    fn drop_oldest(&mut self) -> bool {
        let Some(key) = self.order.pop_front() else { return false };
        if let Some(Entry { kept: Some((reply, _)), .. }) = self.entries.remove(&key) {
            self.bytes -= reply.body.len();
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_key_stands_for_one_request_and_its_response() {
        let (store, ann, hash) = (Idempotency::default(), Arc::from("ann"), blake3::hash(b"one"));
        let begin = |key: &str, hash| store.begin(&ann, key.into(), hash);
        let Ok(Begun::New(ticket)) = begin("k", hash) else { panic!("it is new") };
        assert!(begin("k", hash).is_err(), "it is being carried out");
        ticket.keep(&Reply::json(StatusCode::ACCEPTED, &json!({})));
        assert!(matches!(begin("k", hash), Ok(Begun::Known(reply)) if reply.status == StatusCode::ACCEPTED));
        assert!(begin("k", blake3::hash(b"two")).is_err(), "another request");
        assert!(matches!(store.begin(&Arc::from("bob"), "k".into(), hash), Ok(Begun::New(_))), "another identity");
        drop(begin("failed", hash));
        assert!(matches!(begin("failed", hash), Ok(Begun::New(_))), "what was not kept can be tried again");
    }

    #[test]
    fn the_oldest_keys_make_room() {
        let (store, ann, hash) = (Idempotency::default(), Arc::from("ann"), blake3::hash(b"one"));
        for number in 0..=KEYS_MAX {
            let Ok(Begun::New(ticket)) = store.begin(&ann, number.to_string().into(), hash) else { panic!("new") };
            ticket.keep(&Reply::empty());
        }
        assert!(store.lock().entries.len() <= KEYS_MAX);
        assert!(matches!(store.begin(&ann, "0".into(), hash), Ok(Begun::New(_))));
        assert!(matches!(store.begin(&ann, KEYS_MAX.to_string().into(), hash), Ok(Begun::Known(_))));
    }

    #[test]
    fn what_is_being_carried_out_makes_no_room() {
        let (store, ann, hash) = (Idempotency::default(), Arc::from("ann"), blake3::hash(b"one"));
        let begin = |key: usize| store.begin(&ann, key.to_string().into(), hash);
        let mut tickets: Vec<_> = (0..KEYS_MAX).map(begin).collect();
        let Err(full) = begin(KEYS_MAX) else { panic!("there is no room") };
        assert_eq!(full.reason(), "idempotency-full");
        let Err(first) = begin(0) else { panic!("it is being carried out") };
        assert_eq!(first.reason(), "in-progress");
        let Some(Ok(Begun::New(ticket))) = tickets.pop() else { panic!("it was new") };
        ticket.keep(&Reply::empty());
        assert!(begin(KEYS_MAX).is_ok(), "a response makes room");
    }
}
