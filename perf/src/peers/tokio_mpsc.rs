//! No framework: a task per agent and a bounded channel to each.

use tokio::sync::mpsc;

use super::tokio_runtime;
use crate::work::{Ball, Figures, Player, Tally, Work, measure};

pub fn run(work: &Work) -> Result<Figures, String> {
    let runtime = tokio_runtime()?;
    let tally = Tally::new(work);
    for pair in 0..work.pairs {
        // There is always room: at most `in_flight` messages wait.
        let (to_first, first) = mpsc::channel(work.in_flight);
        let (to_second, second) = mpsc::channel(work.in_flight);
        runtime.spawn(play(Player::new(&tally, work, 2 * pair), *work, first, to_second));
        runtime.spawn(play(Player::new(&tally, work, 2 * pair + 1), *work, second, to_first));
    }
    measure(&tally, work)
}

async fn play(mut player: Player, work: Work, mut balls: mpsc::Receiver<Ball>, partner: mpsc::Sender<Ball>) {
    for exchange in 0..player.serves(&work) {
        let _ = partner.send(player.serve(exchange as u64)).await;
    }
    while let Some(ball) = balls.recv().await {
        if let Some(back) = player.hit(&ball) {
            let _ = partner.send(back).await;
        }
    }
}
