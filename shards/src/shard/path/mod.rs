//! The data plane: admit, outbox, route, transfer, converse, deliver (overflow where there is no room), enqueue, schedule,
//! dispatch, settle, and notify for what the router reports to agents.

mod admit;
mod converse;
mod deliver;
pub mod dispatch;
mod enqueue;
mod notify;
mod outbox;
pub mod overflow;
pub(crate) mod route;
mod schedule;
pub mod settle;
mod transfer;
