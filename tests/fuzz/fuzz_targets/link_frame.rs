//! Reads arbitrary bytes as frames of a link between two nodes.
//!
//! Reading must terminate and never panic, a frame that is refused must leave no event, and the link must go on: it still
//! has a deadline and a bounded number of frames to send.

#![no_main]

// The links are private to the router's crate, so their files are included here.
#[path = "../../../src/cluster/link/mod.rs"]
#[allow(dead_code, unused_imports)] // The router uses more of them than this target.
mod link;

use caxton_shards::domain::NodeId;
use libfuzzer_sys::fuzz_target;

use self::link::{NodeRun, Link, LinkConfig};

const FRAMES_MAX: usize = 64;

fuzz_target!(|input: &[u8]| {
    let node = |number| NodeId::try_new(number).expect("it is one");
    let config = LinkConfig { payload_bytes_max: 1 << 20, silence_ms_max: 3_000 };
    let mut link = Link::new(config, NodeRun { node: node(1), boot_epoch: 1 }, node(2));
    let mut peer = Link::new(config, NodeRun { node: node(2), boot_epoch: 1 }, node(1));
    let mut events = Vec::new();
    for _ in 0..2 {
        while let Some(frame) = peer.next_frame(0) {
            link.receive(0, &frame, &mut events).expect("it is a frame");
        }
        while let Some(frame) = link.next_frame(0) {
            peer.receive(0, &frame, &mut events).expect("it is a frame");
        }
    }
    // The bytes are a whole frame first, and then the body of a frame.
    let mut next = header();
    next.extend_from_slice(input);
    for (now_ms, frame) in [(1, input), (2, &next)] {
        events.clear();
        if link.receive(now_ms, frame, &mut events).is_err() {
            assert!(events.is_empty());
        }
        let sent = (0..FRAMES_MAX).map_while(|_| link.next_frame(now_ms)).count();
        assert!(sent < FRAMES_MAX && link.next_deadline_ms().is_some());
    }
});

/// Returns the header of the peer's first frame of data.
fn header() -> Vec<u8> {
    let mut bytes = b"CxLk\x01\x02".to_vec();
    for (node, boot_epoch) in [(2_u16, 1_u64), (1, 1)] {
        bytes.extend(node.to_le_bytes());
        bytes.extend(boot_epoch.to_le_bytes());
    }
    bytes.extend(1_u64.to_le_bytes());
    bytes.extend(0_u64.to_le_bytes());
    bytes
}
