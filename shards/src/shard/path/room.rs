//! Callers outside that wait for room: until what an agent has sent has left it, up to a rest.

use crate::message::AgentId;
use crate::shard::Shard;
use crate::shard::ShardPhase;
use crate::shard::agent::registry::{AgentIndex, AgentSlot};
use crate::shard::io::{Answer, RoomError, Token};

impl Shard {
    /// Responds once an agent has at most so many messages on their way, or has gone.
    pub(in crate::shard) fn await_room(&mut self, agent: AgentId, at_most: u32, token: Token) {
        let slot = self.agents.find(agent).and_then(|index| self.agents.get(index));
        let answer = match slot.map(AgentSlot::on_way) {
            _ if self.phase == ShardPhase::Stopped => Err(RoomError::Stopping),
            None => Err(RoomError::UnknownAgent),
            Some(on_way) if on_way <= at_most => Ok(on_way),
            Some(_) if self.flow_control.room.add(agent, at_most, token) => return,
            Some(_) => Err(RoomError::TooManyWaiters),
        };
        self.outputs.answer(token, Answer::Room(answer));
    }

    /// Lets callers go on that wait for room of this agent, which has less on its way.
    #[inline]
    pub(in crate::shard) fn note_departure(&mut self, agent: AgentIndex) {
        if self.flow_control.room.exist() {
            self.let_room_waiters_go_on(agent);
        }
    }

    #[cold]
    fn let_room_waiters_go_on(&mut self, agent: AgentIndex) {
        let Some(slot) = self.agents.get(agent).filter(|slot| !slot.is_leaving()) else { return };
        let on_way = slot.on_way();
        for token in self.flow_control.room.take(slot.id, on_way) {
            self.outputs.answer(token, Answer::Room(Ok(on_way)));
        }
    }

    /// Ends the waiting for room of an agent that is removed.
    pub(in crate::shard) fn end_room_waiters_of(&mut self, agent: AgentId) {
        for token in self.flow_control.room.take_all_of(agent) {
            self.outputs.answer(token, Answer::Room(Err(RoomError::UnknownAgent)));
        }
    }

    /// Ends all waiting for room when the router stops.
    pub(in crate::shard) fn stop_room_waiters(&mut self) {
        for token in self.flow_control.room.take_all() {
            self.outputs.answer(token, Answer::Room(Err(RoomError::Stopping)));
        }
    }
}
