//! What the doors share: the router, who may do what, the outside agents and the limits.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rustls::ServerConfig;
use tokio::sync::watch;

use super::DoorsError;
use super::audit::Audit;
use super::identity::{Identity, TokenError, Tokens};
use super::outside::OutsideAgents;
use super::spin::Woken;
use super::tls::server_config;
use crate::config::DoorsConfig;
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
    pub audit: Audit,
    /// Maximum number of connections of each door.
    pub connections_max: usize,
    /// Time after which a connection that carries nothing is closed.
    pub idle: Duration,
    /// Whether the doors are being closed: what is under way ends, and nothing new begins.
    pub closing: watch::Receiver<bool>,
    /// Whether a shard has woken a connection, for which the doors' thread waits a moment before it sleeps.
    pub woken: Woken,
    access: RwLock<Arc<Access>>,
}

impl DoorContext {
    pub(super) fn new(router: &Router, access: Access, audit: Audit, closing: watch::Receiver<bool>) -> Self {
        let doors = &router.config().doors;
        let outside = OutsideAgents::new(doors.agents_max.as_usize(), doors.grace_ms.as_duration());
        Self {
            router: router.clone(),
            outside: Arc::new(outside),
            audit,
            connections_max: doors.connections_max.as_usize(),
            idle: doors.idle_ms.as_duration(),
            closing,
            woken: Woken::default(),
            access: RwLock::new(Arc::new(access)),
        }
    }

    /// Returns the limits of the HTTP door.
    pub fn http_limits(&self) -> EdgeLimits {
        // The longest wait for a reply, and time for its request.
        let request_within = Duration::from_millis(WAIT_MS_MAX) + REQUEST_WITHIN;
        let connections = self.connections_max;
        EdgeLimits { connections, request_within, idle_within: self.idle, ..EdgeLimits::DEFAULT }
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
