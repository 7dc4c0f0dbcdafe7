//! The control plane. Its stages in calling order, the lowest first: `journal`, `replies`, `backpressure`, `commits`,
//! `breakers`, `offers`, `remove`, `start`, `lifecycle`, `register`, `wanting`, `admin`, `survey`, `peers`, `replay`,
//! `inboxes`, `stop`, `inspect`, `reconfigure`, `inputs`, `restore`. A stage calls components, the stages of the path,
//! and those before it.

pub mod admin;
pub mod backpressure;
mod breakers;
mod commits;
mod inboxes;
mod inputs;
mod inspect;
pub(crate) mod journal;
pub mod lifecycle;
mod offers;
pub mod peers;
mod reconfigure;
pub(crate) mod register;
mod remove;
pub mod replay;
mod replies;
pub mod restore;
mod start;
pub mod stop;
pub(crate) mod survey;
mod wanting;

use replay::Replays;
use survey::Surveys;

use crate::shard::wanted::Wanted;

/// Operations that take several turns.
#[derive(Default)]
pub(in crate::shard) struct Operations {
    pub(in crate::shard) replays: Replays,
    pub(in crate::shard) surveys: Surveys,
    /// The agents that are looked for on other nodes.
    pub(in crate::shard) wanted: Wanted,
}
