//! kameo: an actor is a task on tokio with a bounded mailbox.

use std::convert::Infallible;

use kameo::actor::{Actor, ActorRef, Spawn};
use kameo::mailbox;
use kameo::message::{Context, Message};

use super::tokio_runtime;
use crate::work::{Ball, Figures, Player, Tally, Work, measure};

struct Kameo {
    player: Player,
    work: Work,
    partner: Option<ActorRef<Self>>,
}

impl Actor for Kameo {
    type Args = Self;
    type Error = Infallible;

    async fn on_start(agent: Self, _: ActorRef<Self>) -> Result<Self, Infallible> {
        Ok(agent)
    }
}

struct Meet(ActorRef<Kameo>);

impl Message<Ball> for Kameo {
    type Reply = ();

    async fn handle(&mut self, ball: Ball, _: &mut Context<Self, ()>) {
        if let (Some(back), Some(partner)) = (self.player.hit(&ball), &self.partner) {
            let _ = partner.tell(back).send().await;
        }
    }
}

impl Message<Meet> for Kameo {
    type Reply = ();

    async fn handle(&mut self, Meet(partner): Meet, _: &mut Context<Self, ()>) {
        for exchange in 0..self.player.serves(&self.work) {
            let _ = partner.tell(self.player.serve(exchange as u64)).send().await;
        }
        self.partner = Some(partner);
    }
}

pub fn run(work: &Work) -> Result<Figures, String> {
    let runtime = tokio_runtime()?;
    let tally = Tally::new(work);
    runtime.block_on(async {
        for pair in 0..work.pairs {
            let spawn = |number| {
                let agent = Kameo { player: Player::new(&tally, work, number), work: *work, partner: None };
                // There is always room: at most `in_flight` messages and the introduction wait.
                Kameo::spawn_with_mailbox(agent, mailbox::bounded(work.in_flight + 1))
            };
            let (first, second) = (spawn(2 * pair), spawn(2 * pair + 1));
            second.tell(Meet(first.clone())).send().await.map_err(|error| error.to_string())?;
            first.tell(Meet(second)).send().await.map_err(|error| error.to_string())?;
        }
        Ok::<(), String>(())
    })?;
    measure(&tally, work)
}
