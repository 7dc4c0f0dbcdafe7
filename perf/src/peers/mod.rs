//! The compared systems. Each runs the same agents in its usual way, on all allowed cores.

mod actix;
mod caxton;
mod kameo;
mod ractor;
mod tokio_mpsc;

use std::fmt;

use clap::ValueEnum;

use crate::compare::cores;
use crate::work::{Figures, Work};

/// One system.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Peer {
    /// This router, with conversations, mailboxes and accounting
    Caxton,
    /// A task and a bounded channel per agent
    TokioMpsc,
    /// Actors on one thread per core
    Actix,
    /// Actors on tokio, with unbounded mailboxes
    Ractor,
    /// Actors on tokio, with bounded mailboxes
    Kameo,
}

impl Peer {
    pub const ALL: [Self; 5] = [Self::Caxton, Self::TokioMpsc, Self::Actix, Self::Ractor, Self::Kameo];

    /// Does the work once.
    ///
    /// # Errors
    ///
    /// The system could not be started, or lost messages.
    pub fn run(self, work: &Work) -> Result<Figures, String> {
        match self {
            Self::Caxton => caxton::run(work),
            Self::TokioMpsc => tokio_mpsc::run(work),
            Self::Actix => actix::run(work),
            Self::Ractor => ractor::run(work),
            Self::Kameo => kameo::run(work),
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Caxton => "caxton",
            Self::TokioMpsc => "tokio mpsc",
            Self::Actix => "actix",
            Self::Ractor => "ractor",
            Self::Kameo => "kameo",
        })
    }
}

/// A runtime with a worker per core.
fn tokio_runtime() -> Result<tokio::runtime::Runtime, String> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(cores()).enable_time().build().map_err(|error| error.to_string())
}
