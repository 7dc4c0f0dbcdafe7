//! The main task of a node: takes what comes, does what is due, publishes what has gathered.

use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::Subscriber;
use futures_lite::StreamExt as _;
use futures_lite::future::{or, poll_once};
use tokio::sync::{Notify, oneshot};
use tokio::task::{spawn_local, yield_now};
use tokio::time::sleep_until;

use super::Shared;
use super::tasks::Task;
use crate::cluster::transport::Transport;
use crate::cluster::view::SharedView;
use crate::router::Router;

/// Maximum number of packets of a subscription that are taken before anything is published.
const PACKETS_TOGETHER_MAX: usize = 64;

/// Why the main task goes on.
enum Turn {
    /// A packet came.
    Packet(async_nats::Message),
    /// Something is due, or is to be published, or an agent is looked for.
    Due,
    /// The node is to stop.
    Stop,
}

/// What the main task waits for.
struct Sources {
    router: Router,
    /// Packets for this node, and those for all nodes.
    packets: [Subscriber; 2],
    changed: Rc<Notify>,
    /// Its sender is dropped when the node is to stop.
    stopped: oneshot::Receiver<()>,
}

impl Sources {
    /// Waits until something comes, or is due after this time.
    async fn next(&mut self, due_in: Duration) -> Turn {
        let due = tokio::time::Instant::now() + due_in;
        let [own, all] = &mut self.packets;
        let packet = async { or(own.next(), all.next()).await.map_or(Turn::Stop, Turn::Packet) };
        let changed = async {
            or(or(self.changed.notified(), self.router.wants()), sleep_until(due)).await;
            Turn::Due
        };
        let stop = async {
            // Nothing is ever sent, so this ends when the sender is dropped.
            let _ = (&mut self.stopped).await;
            Turn::Stop
        };
        or(pin!(stop), or(pin!(packet), pin!(changed))).await
    }

    /// Hands over packets that have come already, from both subscriptions.
    async fn take_waiting(&mut self, mut take: impl FnMut(&async_nats::Message)) {
        for packets in &mut self.packets {
            for _ in 0..PACKETS_TOGETHER_MAX {
                let Some(Some(packet)) = poll_once(packets.next()).await else { break };
                take(&packet);
            }
        }
    }
}

/// Runs a node until it is to stop.
pub(in crate::cluster) async fn run(
    node: Shared,
    transport: Transport,
    packets: [Subscriber; 2],
    (shown, stopped): (Arc<SharedView>, oneshot::Receiver<()>),
) {
    let mut sources = {
        let node = node.borrow();
        Sources { router: node.router.clone(), packets, changed: Rc::clone(&node.changed), stopped }
    };
    let publish = |node: &Shared| {
        for (kind, to, packet) in node.borrow_mut().take_packets() {
            transport.publish(kind, to, packet);
        }
    };
    loop {
        let due_in = node.borrow().due_in();
        let mut tasks: Vec<Task> = match sources.next(due_in).await {
            Turn::Stop => break,
            Turn::Packet(packet) => node.borrow_mut().take(&packet),
            Turn::Due => Vec::new(),
        };
        if let Some(bytes_max) = transport.payload_bytes_max() {
            node.borrow_mut().config.payload_bytes_max = bytes_max;
        }
        sources.take_waiting(|packet| tasks.extend(node.borrow_mut().take(packet))).await;
        {
            let mut node = node.borrow_mut();
            node.read_clock();
            let wanted = node.router.take_wanted();
            tasks.extend(node.look_for_all(wanted));
            tasks.extend(node.on_deadline());
        }
        for task in tasks {
            spawn_local(task.run(Rc::clone(&node)));
        }
        publish(&node);
        let view = node.borrow_mut().next_view(transport.is_connected());
        if let Some(view) = view.map(Arc::new) {
            let former = shown.renew(&view, Instant::now());
            sources.router.log_cluster(&former, &view);
        }
        // The other tasks go on, however fast packets come.
        yield_now().await;
    }
    node.borrow_mut().leave();
    publish(&node);
    transport.flush().await;
}
