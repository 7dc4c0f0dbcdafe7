//! Operations with an entry in the [audit](crate::edge::doors::audit).
//!
//! What an operator has begun is completed and gets its entry, whether or not the client waits for the response.

use std::future::Future;
use std::sync::Arc;

use serde_json::Value;

use super::Api;
use super::caller::Caller;
use super::problem::Problem;
use super::reply::Reply;
use crate::edge::doors::reason;

/// Carries out an operation to its end, and adds its entry.
pub(super) async fn audited(
    api: &Arc<Api>,
    caller: &Caller,
    operation: &'static str,
    subject: String,
    work: impl Future<Output = Result<(Reply, Value), Problem>> + Send + 'static,
) -> Result<Reply, Problem> {
    let (api, identity) = (Arc::clone(api), Arc::clone(&caller.identity));
    let done = tokio::spawn(async move {
        match work.await {
            Ok((reply, result)) => {
                api.context.audit.note(identity.name(), operation, &subject, "done", result).await;
                Ok(reply)
            }
            Err(problem) => {
                api.context.audit.note(identity.name(), operation, &subject, problem.reason(), Value::Null).await;
                Err(problem)
            }
        }
    });
    done.await.unwrap_or_else(|_| Err(Problem::new(reason::STOPPING, "the doors are being closed")))
}
