//! How the conversations of a file followed their protocols.

use std::fmt::Write as _;

use caxton_router::protocol::Violation;
use caxton_shards::api::Conformance;
use serde_json::{Value, json};

use super::agents::Cast;

/// All protocol violations.
#[derive(Debug, Default)]
pub struct ConformanceReport {
    /// The router's figures.
    pub figures: Conformance,
    /// The violations, in the order in which they were found on each shard.
    pub violations: Vec<Told>,
}

/// A violation, with the names of agents.
#[derive(Debug)]
pub struct Told {
    violation: Violation,
    sender: String,
    receiver: String,
    initiator: String,
}

impl Told {
    /// Creates it with the names in the file.
    pub fn of(violation: &Violation, cast: &Cast) -> Self {
        Self {
            sender: cast.name_of(violation.sender),
            receiver: cast.name_of(violation.receiver),
            initiator: cast.name_of(violation.initiator),
            violation: violation.clone(),
        }
    }

    fn json(&self) -> Value {
        let Violation {
            conversation_text, protocol, named, state, side, message, performative, allowed, refused, ..
        } = &self.violation;
        json!({
            "conversation": conversation_text,
            "initiator": self.initiator,
            "protocol": protocol,
            "named": named,
            "state": state,
            "side": side.as_str(),
            "message": message.map(|id| id.to_string()),
            "performative": performative.as_str(),
            "sender": self.sender,
            "receiver": self.receiver,
            "allowed": allowed.iter().map(|act| act.as_str()).collect::<Vec<_>>(),
            "refused": refused,
            "text": self.violation.to_string(),
        })
    }
}

impl ConformanceReport {
    /// Returns the report as text.
    pub fn text(&self) -> String {
        let Conformance { steps, late, observed, refused, unchecked, .. } = self.figures;
        let mut text = format!(
            "{:<11} {steps} messages in protocol, {late} of them late; {} violations: {observed} observed, {refused} refused\n",
            "conformance",
            self.figures.violations()
        );
        if unchecked > 0 {
            let _ =
                writeln!(text, "  {unchecked} not checked: they name a protocol, and no conversation that is known");
        }
        for Told { violation, sender, receiver, initiator } in &self.violations {
            let _ = writeln!(
                text,
                "  {} {sender} -> {receiver}: {violation} (conversation {} of {initiator})",
                violation.performative, violation.conversation_text
            );
        }
        let untold = self.figures.violations().saturating_sub(self.violations.len() as u64);
        if untold > 0 {
            let _ = writeln!(text, "  and {untold} more");
        }
        text
    }

    /// Returns the report as JSON.
    pub fn json(&self) -> Value {
        json!({
            "steps": self.figures.steps,
            "late": self.figures.late,
            "observed": self.figures.observed,
            "refused": self.figures.refused,
            "unchecked": self.figures.unchecked,
            "violations": self.violations.iter().map(Told::json).collect::<Vec<_>>(),
        })
    }
}
