//! The world's actions in a run.

use crate::message::AgentId;
use crate::shard::io::Input;
use crate::sim::dice::Dice;

use super::cast::{INBOX_NAMES, any_capability};
use super::faults::Fault;
use super::play::Play;

/// An action of the world.
pub(super) struct Action {
    /// Its relative frequency.
    weight: u32,
    /// The fault that has to be enabled.
    fault: Option<Fault>,
    act: fn(&mut Play, &mut Dice),
}

/// Maximum jump of a clock, in milliseconds.
const LEAP_MS_MAX: u64 = 20_000;
/// Maximum time for which an agent is drained, in milliseconds.
const DRAINED_WITHIN_MS_MAX: u32 = 2_000;
/// Maximum number of messages in one action.
const TELLS_MAX: u64 = 12;

/// The world's actions. A new action only needs a line here. Weights need not have a particular sum.
const ACTIONS: [Action; 23] = [
    Action {
        weight: 80,
        fault: None,
        act: |play, dice| {
            for _ in 0..=dice.below(TELLS_MAX) {
                play.tell(&mut Dice::new(dice.next()));
            }
        },
    },
    Action { weight: 40, fault: None, act: Play::send },
    Action { weight: 20, fault: None, act: Play::ask },
    Action { weight: 10, fault: Some(Fault::Overflow), act: Play::try_send },
    Action { weight: 420, fault: None, act: Play::take_a_turn },
    Action { weight: 40, fault: None, act: |play, dice| play.world.now_ms += dice.below(300) },
    Action { weight: 60, fault: Some(Fault::Membership), act: |play, dice| play.register(dice.next()) },
    Action {
        weight: 5,
        fault: Some(Fault::Membership),
        act: |play, dice| {
            let agent = play.cast.any_agent(dice);
            play.question(play.world.shard_of(agent), |token| Input::Deregister(agent, token));
        },
    },
    Action { weight: 10, fault: Some(Fault::Lifecycle), act: Play::change_a_life },
    Action { weight: 25, fault: Some(Fault::Inboxes), act: Play::open_inbox },
    Action { weight: 40, fault: Some(Fault::Inboxes), act: |play, dice| play.read_inboxes(dice.index(4)) },
    Action {
        weight: 3,
        fault: Some(Fault::Inboxes),
        act: |play, dice| {
            let open = play.world.open_inboxes();
            if !open.is_empty() {
                play.world.close_inbox(dice.pick(&open));
            }
        },
    },
    Action {
        weight: 40,
        fault: Some(Fault::Durable),
        act: |play, dice| {
            let shard = play.any_shard(dice);
            play.world.commit_next(shard, dice.below(6));
        },
    },
    Action {
        weight: 20,
        fault: Some(Fault::Pauses),
        act: |play, dice| {
            let shard = play.any_shard(dice);
            play.world.pause(shard, dice.once_in(2));
        },
    },
    Action { weight: 2, fault: Some(Fault::Clock), act: |play, dice| play.world.now_ms += dice.below(LEAP_MS_MAX) },
    Action { weight: 2, fault: Some(Fault::Clock), act: Play::set_wall_clock },
    Action {
        weight: 3,
        fault: None,
        act: |play, dice| {
            let shard = play.any_shard(dice);
            if let Some(term) = crate::message::capability_term(&any_capability(dice)) {
                play.question(shard, |token| Input::Discover(term, token));
            }
        },
    },
    Action {
        weight: 3,
        fault: None,
        act: |play, dice| {
            let shard = play.any_shard(dice);
            play.question(shard, |token| Input::DeadLetters(Box::default(), 5, token));
        },
    },
    Action { weight: 6, fault: None, act: Play::replay },
    Action {
        weight: 1,
        fault: None,
        act: |play, dice| {
            let shard = play.any_shard(dice);
            play.question(shard, |token| Input::PurgeDeadLetters(Box::default(), token));
        },
    },
    Action {
        weight: 2,
        fault: None,
        act: |play, dice| {
            let shard = play.any_shard(dice);
            play.question(shard, Input::Inspect);
        },
    },
    // After a drain or stop, little is left to go wrong, so most runs do without.
    Action {
        weight: 1,
        fault: Some(Fault::Shutdown),
        act: |play, dice| {
            if dice.once_in(20) {
                play.shut_down(dice, || Input::Drain);
            }
        },
    },
    Action {
        weight: 1,
        fault: Some(Fault::Shutdown),
        act: |play, dice| {
            if dice.once_in(20) {
                play.stopped = true;
                play.shut_down(dice, || Input::Stop);
            }
        },
    },
];

/// Performs an action chosen by the dice, or nothing if that is not enabled.
pub(super) fn act(play: &mut Play, dice: &mut Dice) {
    let mut choice = dice.below(ACTIONS.iter().map(|action| u64::from(action.weight)).sum());
    for action in &ACTIONS {
        let weight = u64::from(action.weight);
        if choice < weight {
            if action.fault.is_none_or(|fault| play.cast.allows(fault)) {
                (action.act)(play, dice);
            }
            return;
        }
        choice -= weight;
    }
}

impl Play {
    pub fn any_shard(&self, dice: &mut Dice) -> usize {
        dice.index(self.world.nodes.len())
    }

    fn tell(&mut self, dice: &mut Dice) {
        let message = self.outside_message(dice, 5);
        self.world.tell(message);
    }

    fn take_a_turn(&mut self, dice: &mut Dice) {
        let shard = self.any_shard(dice);
        if !self.world.nodes[shard].paused {
            self.world.step(shard);
        }
    }

    /// Suspends, resumes or drains an agent.
    fn change_a_life(&mut self, dice: &mut Dice) {
        let agent = self.cast.any_agent(dice);
        let shard = self.world.shard_of(agent);
        let within_ms = dice.between(0, DRAINED_WITHIN_MS_MAX);
        match dice.below(8) {
            0..=2 => self.question(shard, |token| Input::Suspend(agent, token)),
            3..=5 => self.question(shard, |token| Input::Resume(agent, token)),
            _ => self.question(shard, |token| Input::DrainAgent { agent, within_ms: u64::from(within_ms), token }),
        }
    }

    fn open_inbox(&mut self, dice: &mut Dice) {
        let name = self.cast.inbox_names()[dice.index(INBOX_NAMES)].clone();
        let agent = AgentId::of(&name);
        // The owner holds one inbox at a time, unless the agent is known in another way.
        let open = self.world.inboxes.values().any(|inbox| inbox.agent == agent);
        if !open || dice.once_in(4) {
            let (_, token) = self.world.open_inbox_later(name, dice.between(1, 6));
            self.asked(token, None);
        }
    }

    fn set_wall_clock(&mut self, dice: &mut Dice) {
        let leap_ms = i64::try_from(dice.below(LEAP_MS_MAX)).unwrap_or(0);
        if dice.once_in(2) {
            self.world.jump_wall_clock(leap_ms);
        } else {
            self.wall_set_back_ms += leap_ms.unsigned_abs();
            self.world.jump_wall_clock(-leap_ms);
        }
    }

    /// Stops all shards, in an order chosen by the dice, with other actions in between.
    fn shut_down(&mut self, dice: &mut Dice, input: impl Fn() -> Input) {
        let first = self.any_shard(dice);
        let shards = self.world.nodes.len();
        for place in 0..shards {
            let shard = (first + place) % shards;
            self.world.give(shard, input());
            if dice.once_in(2) && !self.world.nodes[shard].paused {
                self.world.step(shard);
            }
        }
    }
}
