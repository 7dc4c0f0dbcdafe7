//! Finding the agents whose messages wait longest.

use std::cmp::Reverse;
use std::sync::Arc;

use caxton_shards::api::{Answer, Input, SlowConsumer};

use super::Router;
use super::calls::{not_on_a_shard, put_question};
use super::error::CallError;
use crate::call::NoAnswer;
use crate::deadline::Deadline;
use crate::shard_handle::Shared;

impl Router {
    /// Returns the agents whose messages have waited longest, the slowest first: at most `limit` and
    /// [`SLOW_CONSUMERS_MAX`](crate::stats::SLOW_CONSUMERS_MAX).
    ///
    /// The shards look for them when this is called, and keep no list otherwise. They look at a portion of their agents
    /// in each turn, so that messages do not wait for it, and the result is of the few turns that this takes. An agent
    /// that keeps up with its messages can be among the last: compare
    /// [`oldest_ms`](crate::stats::SlowConsumer::oldest_ms).
    ///
    /// # Errors
    ///
    /// Returns an error if a shard did not respond in time, which names the agent that holds it up, or if the router has
    /// stopped.
    pub async fn slow_consumers(&self, limit: usize) -> Result<Vec<SlowConsumer>, CallError> {
        not_on_a_shard()?;
        let (found, failed) = slow_consumers(self.shared(), limit, self.deadline()).await;
        failed.into_iter().next().map_or(Ok(found), |error| Err(error.into()))
    }
}

/// Asks all shards for their slow consumers. Returns those of the shards that respond, and why the others do not.
pub(crate) async fn slow_consumers(
    router: &Arc<Shared>,
    limit: usize,
    deadline: Deadline,
) -> (Vec<SlowConsumer>, Vec<NoAnswer>) {
    let (mut found, mut failed) = (Vec::new(), Vec::new());
    let mut calls = Vec::new();
    for shard in 0..router.links.len() {
        calls.push(put_question(router, shard, deadline, |token| Input::SlowConsumers(limit, token)).await);
    }
    for call in calls {
        let answer = match call {
            Ok(caller) => caller.answer(deadline).await,
            Err(error) => Err(error),
        };
        match answer {
            Ok(Answer::SlowConsumers(agents)) => found.extend(agents),
            Ok(_) => failed.push(NoAnswer::Stopped),
            Err(error) => failed.push(error),
        }
    }
    found.sort_by(|one, other| slowness(other).cmp(&slowness(one)).then_with(|| one.name.cmp(&other.name)));
    found.truncate(limit);
    (found, failed)
}

fn slowness(agent: &SlowConsumer) -> (u64, u32, Reverse<u16>) {
    (agent.oldest_ms, agent.messages, Reverse(agent.shard.0))
}
