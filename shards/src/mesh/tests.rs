use std::{collections::VecDeque, num::NonZeroU16};

use proptest::prelude::*;

use super::*;

fn capacity(credits: usize, uncredited: usize) -> LaneCapacity {
    LaneCapacity {
        credits: NonZeroUsize::new(credits).expect("the tests use at least one credit"),
        uncredited: NonZeroUsize::new(uncredited).expect("the tests use at least one uncredited slot"),
    }
}

fn ports(shards: u16, credits: usize, uncredited: usize) -> Vec<Port<u64>> {
    mesh(NonZeroU16::new(shards).expect("a mesh has a shard"), capacity(credits, uncredited))
}

fn pair(credits: usize, uncredited: usize) -> (Port<u64>, Port<u64>) {
    let mut ports = ports(2, credits, uncredited).into_iter();
    let (Some(first), Some(second), None) = (ports.next(), ports.next(), ports.next()) else {
        panic!("a mesh of two shards has two ports")
    };
    (first, second)
}

fn received(port: &mut Port<u64>, from: usize, max: usize) -> Vec<u64> {
    let mut items = Vec::new();
    let count = port.receive(from, max, |item| items.push(item));
    assert_eq!(count, items.len());
    items
}

#[test]
fn a_single_shard_has_nobody_to_talk_to() {
    let mut ports = ports(1, 4, 4);
    let port = &mut ports[0];
    assert_eq!(port.shards(), 1);
    assert_eq!(port.credits(0), 0);
    assert!(!port.has_incoming());
    assert!(port.flush().is_empty());
}

#[test]
#[should_panic(expected = "shard 0 sent to itself")]
fn a_message_to_the_own_shard_is_a_mistake() {
    let _ = ports(2, 1, 1)[0].send(0, 1);
}

#[test]
fn every_pair_has_a_ring_of_its_own() {
    let mut ports = ports(4, 2, 1);
    for (from, port) in ports.iter_mut().enumerate() {
        for to in (0..4).filter(|to| *to != from) {
            let item = u64::try_from(from * 10 + to).expect("small numbers fit");
            port.send(to, item).expect("there are two credits");
        }
        let expected: Vec<usize> = (0..4).filter(|to| *to != from).collect();
        assert_eq!(port.flush(), expected);
        assert!(port.flush().is_empty(), "nothing is new any more");
        assert_eq!(port.in_flight(), 3);
    }
    for (to, port) in ports.iter_mut().enumerate() {
        assert_eq!(port.index(), to);
        assert!(port.has_incoming());
        for from in (0..4).filter(|from| *from != to) {
            let item = u64::try_from(from * 10 + to).expect("small numbers fit");
            assert_eq!(received(port, from, 8), [item]);
        }
        assert!(!port.has_incoming());
    }
    assert!(ports.iter().all(|port| port.in_flight() == 0));
}

#[test]
fn messages_are_invisible_until_flushed() {
    let (mut first, mut second) = pair(2, 1);
    first.send(1, 5).expect("there are two credits");
    assert_eq!(first.in_flight(), 1);
    assert!(!second.has_incoming());
    assert_eq!(first.flush(), [1]);
    assert_eq!(received(&mut second, 0, 8), [5]);
}

#[test]
fn a_credit_comes_back_when_returned_not_when_received() {
    let (mut first, mut second) = pair(1, 1);
    first.send(1, 1).expect("there is one credit");
    assert_eq!(first.send(1, 2), Err(2));
    first.flush();
    assert_eq!(received(&mut second, 0, 8), [1]);
    second.flush();
    assert_eq!(first.credits(1), 0);
    second.return_credits(0, 1);
    assert_eq!(first.credits(1), 0, "not before the flush");
    second.flush();
    assert_eq!(first.credits(1), 1);
    first.send(1, 2).expect("the credit came back");
}

#[test]
fn uncredited_items_never_take_the_room_of_credits() {
    let (mut first, mut second) = pair(2, 1);
    first.send_uncredited(1, 10).expect("there is one uncredited slot");
    assert_eq!(first.send_uncredited(1, 11), Err(11), "the other slots belong to the credits");
    first.send(1, 1).expect("there are two credits");
    first.send(1, 2).expect("there is another credit");
    first.flush();
    assert_eq!(received(&mut second, 0, 8), [10, 1, 2], "all travel in order");
    // The messages hold their credits beyond the ring, so the slots they left are not available to uncredited items.
    first.send_uncredited(1, 12).expect("the uncredited slot is empty again");
    assert_eq!(first.send_uncredited(1, 13), Err(13));
    second.return_credits(0, 2);
    second.flush();
    first.send(1, 3).expect("a credit is room");
    first.send(1, 4).expect("a credit is room");
    first.flush();
    assert_eq!(received(&mut second, 0, 8), [12, 3, 4]);
}

#[test]
fn a_refused_sender_is_rung_once_there_is_credit() {
    let (mut first, mut second) = pair(1, 1);
    first.send(1, 1).expect("there is one credit");
    first.flush();
    received(&mut second, 0, 8);
    second.return_credits(0, 1);
    assert!(second.flush().is_empty(), "nobody waits for this credit");
    first.send(1, 2).expect("the credit came back");
    assert_eq!(first.send(1, 3), Err(3));
    assert!(!first.has_awaited_room());
    first.flush();
    received(&mut second, 0, 8);
    second.return_credits(0, 1);
    assert_eq!(second.flush(), [0]);
    assert!(first.has_awaited_room());
    assert!(!first.has_awaited_room(), "the answer is yes once");
    first.send(1, 3).expect("the credit came back");
    assert!(second.flush().is_empty());
}

#[test]
fn a_refused_notice_rings_once_there_is_room() {
    let (mut first, mut second) = pair(1, 1);
    first.send_uncredited(1, 1).expect("the slot is empty");
    assert_eq!(first.send_uncredited(1, 2), Err(2));
    first.flush();
    assert!(!first.has_awaited_room());
    received(&mut second, 0, 8);
    assert_eq!(second.flush(), [0], "room alone is reason enough");
    assert!(first.has_awaited_room());
    first.send_uncredited(1, 2).expect("the slot is empty again");
}

#[test]
fn a_sender_that_was_rung_too_early_is_rung_again() {
    let (mut first, mut second) = pair(1, 1);
    first.send_uncredited(1, 1).expect("the slot is empty");
    first.flush();
    received(&mut second, 0, 8);
    // The sender uses the room before the receiver's flush announces it.
    first.send_uncredited(1, 2).expect("the slot is empty again");
    assert_eq!(first.send_uncredited(1, 3), Err(3));
    assert_eq!(second.flush(), [0], "for room that is in use by now");
    assert!(!first.has_awaited_room(), "which is all it would find before it parks");
    first.flush();
    received(&mut second, 0, 8);
    assert_eq!(second.flush(), [0], "for the room that it waits for");
    assert!(first.has_awaited_room());
}

#[test]
fn two_shards_with_full_rings_can_both_receive() {
    let (mut first, mut second) = pair(2, 1);
    for item in 0..2 {
        first.send(1, item).expect("there are two credits");
        second.send(0, item).expect("there are two credits");
    }
    assert_eq!(first.send(1, 9), Err(9));
    assert_eq!(second.send(0, 9), Err(9));
    first.flush();
    second.flush();
    assert_eq!(received(&mut first, 1, 8), [0, 1]);
    assert_eq!(received(&mut second, 0, 8), [0, 1]);
}

#[test]
fn a_lost_peer_is_noticed() {
    let (first, second) = pair(1, 1);
    assert!(!first.is_abandoned(1));
    assert!(!first.is_abandoned(0), "the own shard is there");
    drop(second);
    assert!(first.is_abandoned(1));
}

#[test]
#[cfg(debug_assertions)]
#[should_panic(expected = "returned more credits")]
fn returning_what_was_not_received_is_a_mistake() {
    let (_first, mut second) = pair(1, 1);
    second.return_credits(0, 1);
}

#[test]
fn the_memory_of_a_mesh_grows_with_the_square_of_its_shards() {
    let shards = |count| NonZeroU16::new(count).expect("a mesh has a shard");
    let capacity = capacity(1024, 64);
    assert_eq!(capacity.slots().get(), 1088);
    assert_eq!(capacity.mesh_bytes::<[u64; 48]>(shards(1)), 0);
    assert_eq!(capacity.mesh_bytes::<[u64; 48]>(shards(2)), 2 * 1088 * 384);
    assert_eq!(capacity.mesh_bytes::<[u64; 48]>(shards(64)), 64 * 63 * 1088 * 384);
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Send,
    SendUncredited,
    FlushSender,
    Receive(usize),
    ReturnCredit,
    FlushReceiver,
}

proptest! {
    /// In any order of turns, credits and slots match a model, and items arrive in order.
    #[test]
    fn credits_are_room(
        credits in 1_usize..5,
        uncredited in 1_usize..4,
        steps in prop::collection::vec(
            prop_oneof![
                4 => Just(Step::Send),
                2 => Just(Step::SendUncredited),
                2 => Just(Step::FlushSender),
                2 => (1_usize..5).prop_map(Step::Receive),
                3 => Just(Step::ReturnCredit),
                2 => Just(Step::FlushReceiver),
            ],
            0..200,
        ),
    ) {
        let (mut first, mut second) = pair(credits, uncredited);
        // The items in the ring, each with whether it travels on a credit, and how many of them the receiver may see.
        let mut ring: VecDeque<(u64, bool)> = VecDeque::new();
        let mut visible = 0;
        let (mut held, mut returning, mut spent) = (0, 0, 0);
        for (number, step) in (0_u64..).zip(steps) {
            match step {
                Step::Send => {
                    prop_assert_eq!(first.send(1, number).is_ok(), spent < credits);
                    if spent < credits {
                        spent += 1;
                        ring.push_back((number, true));
                    }
                }
                Step::SendUncredited => {
                    let taken = ring.iter().filter(|(_, credited)| !credited).count();
                    prop_assert_eq!(first.send_uncredited(1, number).is_ok(), taken < uncredited);
                    if taken < uncredited {
                        ring.push_back((number, false));
                    }
                }
                Step::FlushSender => {
                    prop_assert_eq!(first.flush().contains(&1), visible < ring.len());
                    visible = ring.len();
                }
                Step::Receive(max) => {
                    for item in received(&mut second, 0, max) {
                        let (expected, credited) = ring.pop_front().expect("nothing arrives that was not sent");
                        prop_assert_eq!(item, expected);
                        held += usize::from(credited);
                        visible -= 1;
                    }
                }
                Step::ReturnCredit => {
                    if held > 0 {
                        held -= 1;
                        returning += 1;
                        second.return_credits(0, 1);
                    }
                }
                Step::FlushReceiver => {
                    second.flush();
                    spent -= returning;
                    returning = 0;
                }
            }
            prop_assert_eq!(first.credits(1) > 0, spent < credits);
            prop_assert!(first.credits(1) <= credits - spent);
            prop_assert_eq!(first.in_flight(), ring.len());
            prop_assert_eq!(second.has_incoming(), visible > 0);
        }
    }
}
