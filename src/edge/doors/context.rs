//! What the doors share: the router, who may do what, the outside agents and the limits.

use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use caxton_shards::domain::ContentLimit;
use rustls::ServerConfig;
use tokio::sync::watch;

use super::DoorsError;
use super::audit::{Audit, AuditFile};
use super::identity::{Identity, TokenError, Tokens};
use super::outside::OutsideAgents;
use super::rates::Rates;
use super::spin::Woken;
use super::tls::server_config;
use crate::config::{Config, DoorsConfig};
use crate::edge::EdgeLimits;
use crate::edge::http::WAIT_MS_MAX;
use crate::router::Router;

/// Time limit for a request that waits for nothing.
const REQUEST_WITHIN: Duration = Duration::from_mins(1);

/// Who may connect, and how.
#[derive(Debug)]
pub(crate) struct Access {
    /// `None` if everybody on this host may.
    tokens: Option<Tokens>,
    /// The certificate; `None` without TLS.
    pub tls: Option<Arc<ServerConfig>>,
    local: Arc<Identity>,
}

impl Access {
    pub(super) fn read(doors: &DoorsConfig) -> Result<Self, DoorsError> {
        let tokens = doors.tokens.path().map(Tokens::read).transpose()?;
        let tls = server_config(doors)?;
        Ok(Self { tokens, tls, local: Arc::new(Identity::local()) })
    }

    /// Takes over who is recognised already, and revokes what is permitted no more.
    fn succeed(&mut self, former: &Self) {
        match (&mut self.tokens, &former.tokens) {
            (Some(tokens), Some(former)) => tokens.succeed(former),
            (Some(_), None) => former.local.revoke(),
            (None, Some(former)) => Tokens::default().succeed(former),
            (None, None) => self.local = Arc::clone(&former.local),
        }
    }

    /// Whether tokens are required.
    pub fn requires_token(&self) -> bool {
        self.tokens.is_some()
    }

    /// Returns the identity of everybody on this host where no tokens are used, and of this process's user in any case.
    pub fn local(&self) -> Arc<Identity> {
        Arc::clone(&self.local)
    }

    /// Returns who has this token. Without tokens everybody is the same.
    ///
    /// # Errors
    ///
    /// There is none, or it gives no access.
    pub fn identify(&self, token: Option<&str>) -> Result<Arc<Identity>, TokenError> {
        match (&self.tokens, token) {
            (None, _) => Ok(Arc::clone(&self.local)),
            (Some(_), None) => Err(TokenError::Missing),
            (Some(tokens), Some(token)) => tokens.identify(token),
        }
    }
}

/// What the doors share.
#[derive(Debug)]
pub(crate) struct DoorContext {
    /// The router.
    pub router: Router,
    /// The agents of outside clients.
    pub outside: Arc<OutsideAgents>,
    /// The record of what operators change.
    pub audit: Audit,
    /// The HTTP requests of each identity.
    pub requests: Rates,
    /// The messages that each identity publishes as a client of NATS.
    pub published: Rates,
    limits: DoorLimits,
    /// Whether the doors are being closed: what is under way ends, and nothing new begins.
    pub closing: watch::Receiver<bool>,
    /// Whether a shard has woken a connection, for which the doors' thread waits a moment before it sleeps.
    pub woken: Woken,
    access: RwLock<Arc<Access>>,
}

/// Limits that can change while the doors are open.
#[derive(Debug, Default)]
struct DoorLimits {
    connections_max: AtomicUsize,
    idle_ms: AtomicU64,
    content_bytes_max: AtomicU32,
}

impl DoorLimits {
    fn set(&self, config: &Config) {
        self.connections_max.store(config.doors.connections_max.as_usize(), Ordering::Relaxed);
        self.idle_ms.store(config.doors.idle_ms.into_inner().into(), Ordering::Relaxed);
        self.content_bytes_max.store(config.message.content_bytes_max.into_inner(), Ordering::Relaxed);
    }
}

impl DoorContext {
    pub(super) fn new(
        router: &Router,
        access: Access,
        audit: Option<AuditFile>,
        closing: watch::Receiver<bool>,
    ) -> Self {
        let doors = &router.config().doors;
        let limits = DoorLimits::default();
        limits.set(router.config());
        let outside = OutsideAgents::new(doors.agents_max.as_usize(), doors.grace_ms.as_duration());
        Self {
            router: router.clone(),
            outside: Arc::new(outside),
            requests: Rates::new(doors.requests_per_second.into_inner()),
            published: Rates::new(router.config().nats.messages_per_second.into_inner()),
            limits,
            closing,
            woken: Woken::default(),
            audit: Audit::new(audit),
            access: RwLock::new(Arc::new(access)),
        }
    }

    /// Returns the maximum number of connections of each door.
    pub fn connections_max(&self) -> usize {
        self.limits.connections_max.load(Ordering::Relaxed)
    }

    /// Returns the time after which a connection that carries nothing is closed.
    pub fn idle(&self) -> Duration {
        Duration::from_millis(self.limits.idle_ms.load(Ordering::Relaxed))
    }

    /// Returns the maximum size of a message's content.
    pub fn content_max(&self) -> ContentLimit {
        ContentLimit::try_new(self.limits.content_bytes_max.load(Ordering::Relaxed)).unwrap_or_default()
    }

    /// Replaces the limits. What is open stays open.
    pub(super) fn set_limits(&self, config: &Config) {
        self.limits.set(config);
        self.requests.set(config.doors.requests_per_second.into_inner());
        self.published.set(config.nats.messages_per_second.into_inner());
        self.outside.set_limits(config.doors.agents_max.as_usize(), config.doors.grace_ms.as_duration());
    }

    /// Returns the limits of the HTTP door.
    pub fn http_limits(&self) -> EdgeLimits {
        // The longest wait for a reply, and time for its request.
        let request_within = Duration::from_millis(WAIT_MS_MAX) + REQUEST_WITHIN;
        let (connections, idle_within) = (self.connections_max(), self.idle());
        EdgeLimits { connections, request_within, idle_within, ..EdgeLimits::DEFAULT }
    }

    /// Returns who may connect at the moment.
    pub fn access(&self) -> Arc<Access> {
        Arc::clone(&self.access.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces it. Connections keep the certificate that they were shown; what they may do follows the new tokens.
    pub(super) fn set_access(&self, mut access: Access) {
        let mut current = self.access.write().unwrap_or_else(PoisonError::into_inner);
        access.succeed(&current);
        *current = Arc::new(access);
    }
}
