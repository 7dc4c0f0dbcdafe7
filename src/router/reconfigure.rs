//! Replacing routing rules and protocols of a running router.

use std::sync::{Arc, PoisonError};

use caxton_shards::api::{Answer, Input, LiveConfig};
use caxton_shards::protocol::Rulebook;
use caxton_shards::routing::rules::{RULES_MAX, Rule};

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
        self.rule_set().to_vec()
    }

    /// Returns the routing rules without copying them.
    pub(crate) fn rule_set(&self) -> Arc<[Rule]> {
        Arc::clone(&self.inner.live.lock().unwrap_or_else(PoisonError::into_inner).rules)
    }

    /// Returns the protocols that new conversations are checked against.
    pub fn protocols(&self) -> Rulebook {
        self.inner.live.lock().unwrap_or_else(PoisonError::into_inner).protocols.clone()
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
        self.replace(|live| live.rules = rules.into()).await
    }

    /// Replaces the protocols that conversations are checked against, also those of the builder, and returns once every
    /// shard has the new ones. Each shard changes between two messages.
    ///
    /// An open conversation keeps what it began with: the definition and the mode of its protocol, also if that is no longer
    /// checked; or no checks, also if its protocol is checked from now on. If this is called several times at once, all
    /// shards have the protocols of the same call in the end.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use caxton_router::Router;
    /// use caxton_router::protocol::{Act, Definition, Mode, Rulebook, Side, StepDefinition};
    /// use caxton_router::message::Performative;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let router = Router::builder().start()?;
    /// let step = |from: &str, by, act, to: &str| StepDefinition { from: from.into(), by, act: Act::Is(act), to: to.into() };
    /// let haggle = Definition {
    ///     name: "house-haggle".into(),
    ///     aliases: Vec::new(),
    ///     source: "our own".into(),
    ///     start: "idle".into(),
    ///     ends: vec!["sold".into()],
    ///     steps: vec![
    ///         step("idle", Side::Initiator, Performative::Request, "asked"),
    ///         step("asked", Side::Participant, Performative::Propose, "offered"),
    ///         step("offered", Side::Initiator, Performative::AcceptProposal, "sold"),
    ///     ],
    ///     others_speak: false,
    /// };
    /// // FIPA's protocols are observed, and this one is enforced. A definition with mistakes is refused here.
    /// let modes = [("house-haggle".to_owned(), Mode::Enforce)];
    /// router.blocking().replace_protocols(Rulebook::new(Mode::Observe, &modes, &[haggle])?)?;
    /// # router.shutdown(Duration::from_secs(5))?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns an error and changes nothing if this is a shard's own thread. If a shard does not respond in time, that is an
    /// error too: it takes the protocols over as soon as it does anything.
    pub async fn replace_protocols(&self, protocols: Rulebook) -> Result<(), CallError> {
        self.replace(|live| live.protocols = protocols).await
    }

    /// Changes what can be replaced while the router runs, and returns once every shard has the change.
    pub(super) async fn replace<E>(&self, change: impl FnOnce(&mut LiveConfig)) -> Result<(), CallError<E>> {
        not_on_a_shard()?;
        let deadline = self.deadline();
        let live = {
            let mut current = self.inner.live.lock().unwrap_or_else(PoisonError::into_inner);
            change(&mut current);
            current.advance();
            current.clone()
        };
        // A call can be withdrawn; what is left for a shard cannot.
        for (shard, link) in self.shared().links.iter().enumerate() {
            link.leave(live.clone());
            self.shared().ring(shard);
        }
        let mut result = Ok(());
        for shard in 0..self.shared().links.len() {
            let input = |token| Input::Reconfigure(Box::new(live.clone()), Some(token));
            match self.query(shard, deadline, input).await {
                Ok(Answer::Reconfigured) => {}
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
