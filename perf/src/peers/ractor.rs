//! ractor: an actor is a task on tokio with an unbounded mailbox.

use ractor::{Actor, ActorProcessingErr, ActorRef};

use super::tokio_runtime;
use crate::work::{Ball, Figures, Player, Tally, Work, measure};

struct Ractor;

enum Shot {
    Meet(ActorRef<Shot>),
    Ball(Ball),
}

struct State {
    player: Player,
    work: Work,
    partner: Option<ActorRef<Shot>>,
}

impl Actor for Ractor {
    type Msg = Shot;
    type State = State;
    type Arguments = (Player, Work);

    async fn pre_start(&self, _: ActorRef<Shot>, (player, work): Self::Arguments) -> Result<State, ActorProcessingErr> {
        Ok(State { player, work, partner: None })
    }

    async fn handle(&self, _: ActorRef<Shot>, shot: Shot, state: &mut State) -> Result<(), ActorProcessingErr> {
        match shot {
            Shot::Ball(ball) => {
                if let (Some(back), Some(partner)) = (state.player.hit(&ball), &state.partner) {
                    partner.send_message(Shot::Ball(back))?;
                }
            }
            Shot::Meet(partner) => {
                for exchange in 0..state.player.serves(&state.work) {
                    partner.send_message(Shot::Ball(state.player.serve(exchange as u64)))?;
                }
                state.partner = Some(partner);
            }
        }
        Ok(())
    }
}

pub fn run(work: &Work) -> Result<Figures, String> {
    let runtime = tokio_runtime()?;
    let tally = Tally::new(work);
    runtime.block_on(async {
        for pair in 0..work.pairs {
            let spawn = |number| Actor::spawn(None, Ractor, (Player::new(&tally, work, number), *work));
            let (first, _) = spawn(2 * pair).await.map_err(|error| error.to_string())?;
            let (second, _) = spawn(2 * pair + 1).await.map_err(|error| error.to_string())?;
            second.send_message(Shot::Meet(first.clone())).map_err(|error| error.to_string())?;
            first.send_message(Shot::Meet(second)).map_err(|error| error.to_string())?;
        }
        Ok::<(), String>(())
    })?;
    measure(&tally, work)
}
