//! actix: one thread per core, each with a share of the actors.

use actix::{Actor, Addr, Arbiter, Context, Handler, Message, System};

use crate::compare::cores;
use crate::work::{Ball, Figures, Player, Tally, Work, measure};

struct Actix {
    player: Player,
    work: Work,
    partner: Option<Addr<Self>>,
}

impl Actor for Actix {
    type Context = Context<Self>;
}

struct Shot(Ball);

impl Message for Shot {
    type Result = ();
}

struct Meet(Addr<Actix>);

impl Message for Meet {
    type Result = ();
}

impl Handler<Shot> for Actix {
    type Result = ();

    fn handle(&mut self, Shot(ball): Shot, _: &mut Self::Context) {
        if let (Some(back), Some(partner)) = (self.player.hit(&ball), &self.partner) {
            partner.do_send(Shot(back));
        }
    }
}

impl Handler<Meet> for Actix {
    type Result = ();

    fn handle(&mut self, Meet(partner): Meet, _: &mut Self::Context) {
        for exchange in 0..self.player.serves(&self.work) {
            partner.do_send(Shot(self.player.serve(exchange as u64)));
        }
        self.partner = Some(partner);
    }
}

pub fn run(work: &Work) -> Result<Figures, String> {
    let system = System::new();
    let arbiters: Vec<Arbiter> = (0..cores()).map(|_| Arbiter::new()).collect();
    let tally = Tally::new(work);
    let start = |number: usize| {
        let (player, work) = (Player::new(&tally, work, number), *work);
        // Half of the pairs span two threads, as when agents are spread by name.
        let arbiter = &arbiters[(number + number / 2 % 2 * (number % 2)) % arbiters.len()];
        Actix::start_in_arbiter(&arbiter.handle(), move |_| Actix { player, work, partner: None })
    };
    for pair in 0..work.pairs {
        let (first, second) = (start(2 * pair), start(2 * pair + 1));
        second.do_send(Meet(first.clone()));
        first.do_send(Meet(second));
    }
    let figures = measure(&tally, work);
    for arbiter in arbiters {
        arbiter.stop();
        let _ = arbiter.join();
    }
    drop(system);
    figures
}
