//! Replacing the routing rules of a running router.

use std::sync::PoisonError;

use caxton_shards::api::{Answer, Input};
use caxton_shards::routing::rules::{RULES_MAX, Rule, RuleSet};

use super::Router;
use super::calls::not_on_a_shard;
use super::error::CallError;

/// More routing rules than a router takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{count} routing rules: the limit is {RULES_MAX}; the rules stay as they are")]
#[non_exhaustive]
pub struct TooManyRulesError {
    /// The number of rules.
    pub count: usize,
}

impl Router {
    /// Returns the routing rules, in the order in which they are tried.
    pub fn rules(&self) -> Vec<Rule> {
        self.rule_set().as_slice().to_vec()
    }

    /// Returns the routing rules without copying them.
    pub(crate) fn rule_set(&self) -> RuleSet {
        self.inner.rules.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces all routing rules, also those of the builder, and returns once every shard has the new ones. Each shard
    /// changes between two messages; messages that have their receiver keep it. If this is called several times at once, all
    /// shards have the rules of the same call in the end.
    ///
    /// # Errors
    ///
    /// Returns an error and changes nothing if there are more rules than [`RULES_MAX`] or this is a shard's own thread. If a
    /// shard does not respond in time, that is an error too: it takes the rules over as soon as it does anything.
    pub async fn replace_rules(&self, rules: Vec<Rule>) -> Result<(), CallError<TooManyRulesError>> {
        if rules.len() > RULES_MAX {
            return Err(CallError::Refused(TooManyRulesError { count: rules.len() }));
        }
        not_on_a_shard()?;
        let deadline = self.deadline();
        let rules = {
            let mut current = self.inner.rules.lock().unwrap_or_else(PoisonError::into_inner);
            *current = current.next(rules);
            current.clone()
        };
        // A call can be withdrawn; what is left for a shard cannot.
        for (shard, link) in self.shared().links.iter().enumerate() {
            link.leave_rules(rules.clone());
            self.shared().ring(shard);
        }
        let mut result = Ok(());
        for shard in 0..self.shared().links.len() {
            match self.query(shard, deadline, |token| Input::ReplaceRules(rules.clone(), Some(token))).await {
                Ok(Answer::RulesReplaced) => {}
                Err(CallError::Unresponsive(_)) => {
                    result = Err(CallError::Unresponsive(self.shared().unresponsive(shard, true)));
                }
                Ok(_) => return Err(CallError::Stopped),
                Err(error) => return Err(error),
            }
        }
        result
    }
}
