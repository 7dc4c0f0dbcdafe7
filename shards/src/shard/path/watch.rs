//! Recording the stages of watched messages. Nothing here changes what a shard does.

use crate::mailbox::{DeliveryFlags, Envelope, EnvelopeKind};
use crate::shard::Shard;
use crate::shard::agent::Effect;
use crate::shard::agent::registry::AgentIndex;
use crate::trace::{Admitted, StageEvent, StageRecord, Watching};

impl Shard {
    /// Sets which messages are watched from now on.
    pub fn watch_messages(&mut self, watching: Watching) {
        self.outputs.recorder.watch(watching);
    }

    /// Returns the records so far, to be taken. There are at most
    /// [`RECORDS_PER_TURN_MAX`](crate::trace::RECORDS_PER_TURN_MAX).
    pub fn stage_records(&mut self) -> &mut Vec<StageRecord> {
        self.outputs.recorder.records_mut()
    }

    /// Returns the number of records that were dropped because there were too many.
    pub fn stage_records_lost(&self) -> u64 {
        self.outputs.recorder.lost()
    }

    /// Returns the number of messages that fail, expire or are slow and that were not kept because there were too many.
    pub fn unkept_messages(&self) -> u64 {
        self.outputs.recorder.unkept()
    }

    /// Returns the number of messages of traces sampled elsewhere that were not watched because there were too many.
    pub fn unfollowed_messages(&self) -> u64 {
        self.outputs.recorder.unfollowed()
    }

    /// Records something that happened to a watched message now.
    #[cold]
    pub(in crate::shard) fn record_stage(&mut self, envelope: &Envelope, event: StageEvent) {
        let now_ns = self.clock.now().monotonic_ns;
        let at_ns = self.supervision.call_times.read_ns().map_or(now_ns, |read_ns| read_ns.max(now_ns));
        self.record_stage_at(envelope, at_ns, event);
    }

    fn record_stage_at(&mut self, envelope: &Envelope, at_ns: u64, event: StageEvent) {
        let Some(message) = envelope.message.id() else { return };
        self.outputs.recorder.record(StageRecord { at_ns, message, receiver: envelope.message.target(), event });
    }

    /// Gives a message that is being admitted the trace that it belongs to, and begins to watch it if it is chosen.
    #[cold]
    pub(in crate::shard) fn trace_admitted(&mut self, mut envelope: Envelope, sender: AgentIndex) -> Envelope {
        self.outputs.recorder.hand_on(&mut envelope.message);
        if !self.outputs.recorder.chooses(&envelope.message) {
            return envelope;
        }
        envelope.flags.set(DeliveryFlags::WATCHED, true);
        let name = self.agents.get(sender).map(|slot| slot.name.clone());
        let admitted = Admitted::of(&envelope.message, name, self.outputs.recorder.cause());
        self.record_stage(&envelope, StageEvent::Admitted(admitted));
        envelope
    }

    /// Watches a message from now on that fails, expires or is slow, unless there are too many of them.
    #[cold]
    pub(in crate::shard) fn keep_watching(&mut self, envelope: &mut Envelope) {
        if envelope.is_watched()
            || envelope.kind() == EnvelopeKind::Notice
            || !self.outputs.recorder.may_keep(self.clock.now_ms())
        {
            return;
        }
        envelope.flags.set(DeliveryFlags::WATCHED, true);
        let name = envelope.message.sender().and_then(|sender| self.agents.find(sender));
        let name = name.and_then(|index| self.agents.get(index)).map(|slot| slot.name.clone());
        let began_ms = self.lifetime_began(&envelope.message).unwrap_or(self.clock.now_ms());
        let admitted = Admitted::of(&envelope.message, name, None);
        self.record_stage(envelope, StageEvent::Kept(admitted, began_ms * 1_000_000));
    }

    /// Watches a message from now on if its handler gets it late.
    #[cold]
    pub(in crate::shard) fn keep_if_slow(&mut self, mut envelope: Envelope) -> Envelope {
        let watching = self.outputs.recorder.watching();
        let now_ms = self.clock.now_ms();
        if watching.keeps
            && !envelope.is_watched()
            && self.lifetime_began(&envelope.message).is_some_and(|began_ms| now_ms >= began_ms + watching.slow_ms)
        {
            self.keep_watching(&mut envelope);
        }
        envelope
    }

    /// Notes that the handler of a message is called that is watched or has a trace context.
    #[cold]
    pub(in crate::shard) fn begin_traced(&mut self, envelope: &Envelope, index: AgentIndex) {
        self.outputs.recorder.begin_handling(&envelope.message);
        if envelope.is_watched()
            && let Some(name) = self.agents.get(index).map(|slot| slot.name.clone())
        {
            self.record_stage(envelope, StageEvent::Begun(name, envelope.attempts));
        }
    }

    /// Notes that such a message is handled.
    #[cold]
    pub(in crate::shard) fn end_traced(&mut self, envelope: &Envelope) {
        self.outputs.recorder.end_handling();
        if envelope.is_watched() && envelope.kind() == EnvelopeKind::Message {
            self.record_stage(envelope, StageEvent::Processed);
        }
    }

    /// Records that a watched message is handed to a reader outside the shard, and gives it the context in which that one
    /// goes on.
    #[cold]
    pub(in crate::shard) fn hand_out_watched(&mut self, envelope: &mut Envelope) {
        self.record_stage(envelope, StageEvent::Processed);
        self.outputs.recorder.send_on(&mut envelope.message);
    }

    /// Discards the effects of a handler that failed.
    #[cold]
    pub(in crate::shard) fn discard_effects(&mut self) {
        if self.outputs.recorder.watching() != Watching::default() {
            let mut effects = self.effects.take();
            self.record_withdrawn(&effects);
            effects.clear();
            self.effects.put_back(effects);
        }
        self.effects.discard();
    }

    /// Records that what a handler wanted to send is not sent.
    #[cold]
    pub(in crate::shard) fn record_withdrawn(&mut self, effects: &[Effect]) {
        for effect in effects {
            if let Effect::Send(envelope) = effect
                && envelope.is_watched()
            {
                self.record_stage(envelope, StageEvent::Withdrawn);
            }
        }
    }
}
