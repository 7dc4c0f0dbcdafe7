//! The shards' events as events of `tracing`. Contents of messages are not among their fields.

use std::sync::Arc;

use caxton_shards::api::{Event, JournalCondition};
use caxton_shards::message::AgentId;
use caxton_shards::supervision::breaker::BreakerState;
use caxton_shards::trace::TraceIds;
use tracing::{debug, error, info, trace, warn};

use super::EVENT;

/// Returns how an agent is called in the log: by its name or, if that is unknown, by its id.
fn label(agent: Option<AgentId>, name: Option<&Arc<str>>) -> Option<String> {
    name.map(ToString::to_string).or_else(|| agent.map(|agent| agent.to_string()))
}

/// Logs an event. `names` are those of [`Event::agents`], if known.
pub(super) fn log(event: &Event, names: &[Option<Arc<str>>; 2], ids: TraceIds) {
    let [first, second] = event.agents();
    let (first, second) = (label(first, names[0].as_ref()), label(second, names[1].as_ref()));
    match event {
        Event::Registered { name, .. } => debug!(target: EVENT, agent = &**name, "agent registered"),
        Event::StateChanged { state, .. } => {
            trace!(target: EVENT, agent = first, state = %state, "agent changed its state");
        }
        Event::Deregistered { why, .. } if why.is_exceptional() => {
            warn!(target: EVENT, agent = first, reason = why.as_str(), "agent stopped");
        }
        Event::Deregistered { why, .. } => {
            debug!(target: EVENT, agent = first, reason = why.as_str(), "agent deregistered");
        }
        Event::AgentRestarted { restarts, delay_ms, .. } => {
            warn!(target: EVENT, agent = first, restarts, delay_ms, "agent restarts after a failure");
        }
        Event::AgentPanicked { what, .. } => {
            error!(target: EVENT, agent = first, panic = what.as_str(), "agent panicked");
        }
        Event::FailureHandlerPanicked { what } => {
            error!(target: EVENT, panic = what.as_str(), "failure handler panicked");
        }
        Event::BreakerChanged { state: BreakerState::Open { for_ms }, .. } => {
            warn!(target: EVENT, agent = first, open_ms = for_ms, "circuit breaker opened");
        }
        Event::BreakerChanged { state: BreakerState::HalfOpen, .. } => {
            info!(target: EVENT, agent = first, "circuit breaker is half-open");
        }
        Event::BreakerChanged { state: BreakerState::Closed, .. } => {
            info!(target: EVENT, agent = first, "circuit breaker closed");
        }
        Event::JournalChanged { shard, condition: JournalCondition::Failed } => {
            error!(target: EVENT, shard = shard.0, "journal failed: it accepts nothing until the router is restarted");
        }
        Event::JournalChanged { shard, condition: JournalCondition::Full } => {
            error!(target: EVENT, shard = shard.0, "journal is full: it continues by itself once there is room");
        }
        Event::JournalChanged { shard, .. } => {
            info!(target: EVENT, shard = shard.0, "journal accepts records again");
        }
        Event::ShardBlocked { shard, agent, for_ms } => {
            let agent = agent.as_deref();
            error!(target: EVENT, shard = shard.0, agent, blocked_ms = for_ms, "shard blocked: a handler does not return");
        }
        Event::ShardUnblocked { shard, for_ms } => {
            warn!(target: EVENT, shard = shard.0, blocked_ms = for_ms, "shard continues");
        }
        Event::DeadLettered { message, conversation, trace, reason, shard, .. } => debug!(
            target: EVENT,
            trace_id = ids.text(*message, *conversation, *trace),
            message_id = %message,
            conversation_id = conversation.map(display),
            sender = first,
            receiver = second,
            reason = reason.as_str(),
            shard = shard.0,
            "message was dead-lettered"
        ),
        Event::Expired { message, conversation, trace, stage, .. } => debug!(
            target: EVENT,
            trace_id = ids.text(*message, *conversation, *trace),
            message_id = %message,
            conversation_id = conversation.map(display),
            sender = first,
            receiver = second,
            stage = stage.as_str(),
            "message expired"
        ),
        Event::ReplyMissing { message, conversation, trace, .. } => debug!(
            target: EVENT,
            trace_id = ids.text(*message, *conversation, *trace),
            message_id = %message,
            conversation_id = conversation.map(display),
            agent = first,
            asked = second,
            "no reply in time"
        ),
        Event::SlowCall { name, took_ms, unreported, .. } => {
            warn!(target: EVENT, agent = &**name, took_ms, unreported, "slow call: other agents of the shard waited");
        }
        Event::ProtocolViolation(violation) => debug!(
            target: EVENT,
            message_id = violation.message.map(display),
            conversation_id = %violation.conversation,
            initiator = %violation.initiator,
            sender = first,
            receiver = second,
            protocol = violation.protocol.as_str(),
            state = violation.state.as_str(),
            performative = violation.performative.as_str(),
            refused = violation.refused,
            "message violates its protocol"
        ),
        Event::ConversationTimedOut { conversation, .. } => {
            debug!(target: EVENT, conversation_id = %conversation, initiator = first, "conversation timed out");
        }
        other => debug!(target: EVENT, event = ?other, "event"),
    }
}
