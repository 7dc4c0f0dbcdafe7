//! Metrics and health of a running router, in the program and over HTTP.

use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, PoisonError};

use super::{Inner, Router};
use crate::edge::{Edge, EdgeLimits, routes};
use crate::shard_handle::Shared;
use crate::telemetry::figures::{Figures, refresh_details};
use crate::telemetry::health::{CHECK_EVERY, Health, observe};
use crate::telemetry::{Audience, TextForm, expose};

impl Router {
    /// Returns the health of the router's parts: what is wrong, since when, and what to do.
    ///
    /// It needs no listener, and asks no agent. Parts are the shards (`shard-0` and so on), `rings`, `memory`,
    /// `breakers`, `telemetry`, and with their features and settings `journal`, `disk`, `projector`, `wasm` and `edge`.
    /// Nothing has to be reset: a part is healthy again when its figures are.
    ///
    /// A part has its status since the check that found it. The thread behind the setting `metrics.listen` checks twice
    /// a second; without it only these calls do.
    ///
    /// ```
    /// use caxton_router::Router;
    /// use caxton_router::health::Status;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let router = Router::builder().start()?;
    /// let health = router.health();
    /// assert!(health.is_live() && health.is_ready());
    /// for part in health.components().iter().filter(|part| part.status() != Status::Healthy) {
    ///     eprintln!("{}: {}", part.name(), part.why().unwrap_or_default());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn health(&self) -> Health {
        refresh_details(self.shared());
        observe(self.shared())
    }

    /// Returns the metrics in the text of `OpenMetrics` 1.0, for programs with a server of their own: those of `/metrics`.
    /// It blocks the calling thread for up to 2 ms.
    pub fn metrics(&self) -> String {
        expose(Figures::gather(self.shared()), Audience::Public, TextForm::OpenMetrics)
    }

    /// Returns the address at which metrics and health are served, if `metrics.listen` is set. If its port is 0, this
    /// is where the real one is known.
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.inner.edge.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(Edge::address)
    }
}

/// Starts serving metrics and health.
///
/// # Errors
///
/// The thread cannot be started.
pub(super) fn serve(shared: &Arc<Shared>, listener: TcpListener) -> std::io::Result<Edge> {
    let checked = Arc::clone(shared);
    let check = (CHECK_EVERY, move || routes::check(&checked));
    Edge::start(listener, routes::routes(shared), Arc::clone(&shared.edge), EdgeLimits::DEFAULT, check)
}

impl Inner {
    /// Ends serving metrics and health.
    pub(super) fn end_edge(&self) {
        let edge = self.edge.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(edge) = edge {
            edge.stop();
        }
    }
}
