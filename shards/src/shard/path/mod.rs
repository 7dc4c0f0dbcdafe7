//! The data plane, in order: admit, outbox, route, transfer, converse, deliver (overflow if there is no room), enqueue,
//! schedule, dispatch, settle; room for callers that wait until messages have left; and notify for the router's reports to
//! agents.

mod admit;
mod converse;
mod deliver;
pub mod dispatch;
mod enqueue;
mod notify;
mod outbox;
pub mod overflow;
mod room;
pub(crate) mod route;
mod schedule;
pub mod settle;
mod transfer;
pub(crate) mod watch;
