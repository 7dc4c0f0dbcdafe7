use std::time::Duration;

use caxton_shards::domain::AgentName;
use caxton_shards::message::{AgentId, Message, Performative};

use super::credits::{TARGET_BYTES_MAX, TARGET_MESSAGES_MAX};
use super::event::REASON_BYTES_MAX;
use super::inbound::{EARLY_BYTES_MAX, EARLY_FRAMES_MAX};
use super::outbound::{CONTROL_FRAMES_MAX, LINK_BYTES_MAX, LINK_FRAMES_MAX};
use super::*;

const CONFIG: LinkConfig = LinkConfig { payload_bytes_max: 1 << 20, silence_ms_max: 3_000 };

fn node(number: u16) -> NodeId {
    NodeId::try_new(number).expect("it is one")
}

pub(super) fn link(own: u16, boot_epoch: u64, peer: u16) -> Link {
    Link::new(CONFIG, NodeRun { node: node(own), boot_epoch }, node(peer))
}

pub(super) fn name(text: &str) -> AgentName {
    AgentName::try_new(text).expect("it is one")
}

pub(super) fn message(sender: &AgentName, target: AgentId, content: &str) -> Message {
    let draft = Message::builder(Performative::Inform).sender(AgentId::of(sender)).receiver(target);
    draft.content(content).build().expect("it is valid")
}

/// Sends a message of `seller`, which the peer is to settle if there is a tag.
fn send(link: &mut Link, tag: u64, target: &str, content: &str) -> Result<(), SendError> {
    let (sender, target) = (name("seller"), AgentId::of_text(target));
    let message = message(&sender, target, content);
    let remaining = Some(Duration::from_millis(700));
    link.send(&Outgoing { tag: Tag::new(tag), sender: Some(&sender), target, message: &message, remaining })
}

/// Hands everything that one end sends to the other, both ways, until there is nothing more. Returns what happened.
fn exchange(now_ms: u64, left: &mut Link, right: &mut Link) -> (Vec<LinkEvent>, Vec<LinkEvent>) {
    let (mut on_left, mut on_right) = (Vec::new(), Vec::new());
    loop {
        let mut is_quiet = true;
        while let Some(frame) = left.next_frame(now_ms) {
            right.receive(now_ms, &frame, &mut on_right).expect("it is a frame");
            is_quiet = false;
        }
        while let Some(frame) = right.next_frame(now_ms) {
            left.receive(now_ms, &frame, &mut on_left).expect("it is a frame");
            is_quiet = false;
        }
        if is_quiet {
            return (on_left, on_right);
        }
    }
}

fn connected() -> (Link, Link) {
    let (mut left, mut right) = (link(1, 10, 2), link(2, 20, 1));
    let (on_left, on_right) = exchange(0, &mut left, &mut right);
    assert_eq!(on_left, [LinkEvent::Connected(NodeRun { node: node(2), boot_epoch: 20 })]);
    assert_eq!(on_right, [LinkEvent::Connected(NodeRun { node: node(1), boot_epoch: 10 })]);
    (left, right)
}

fn arrivals(events: &[LinkEvent]) -> Vec<&Arrival> {
    let mut arrivals = Vec::new();
    for event in events {
        if let LinkEvent::Message(arrival) = event {
            arrivals.push(arrival);
        }
    }
    arrivals
}

fn contents(events: &[LinkEvent]) -> Vec<&str> {
    arrivals(events).into_iter().filter_map(|arrival| arrival.message.content().as_text()).collect()
}

fn frames(link: &mut Link, now_ms: u64) -> Vec<Bytes> {
    std::iter::from_fn(|| link.next_frame(now_ms)).collect()
}

#[test]
fn messages_arrive_in_order_in_one_frame_with_their_senders_names() {
    let (mut left, mut right) = connected();
    for number in 0..10 {
        send(&mut left, 0, "buyer", &number.to_string()).expect("there is room");
    }
    let sent = frames(&mut left, 1);
    assert_eq!(sent.len(), 1);
    let mut events = Vec::new();
    right.receive(1, &sent[0], &mut events).expect("it is a frame");
    assert_eq!(contents(&events), ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]);
    let arrival = arrivals(&events)[0];
    assert_eq!(arrival.sender.as_ref().map(|(_, name)| (**name).clone()), Some(name("seller")));
    assert_eq!(arrival.target, AgentId::of_text("buyer"));
    assert_eq!(arrival.message.options().time_to_live.map(caxton_shards::domain::LifetimeMs::into_inner), Some(700));
    assert!(!arrival.received.is_to_be_settled());
}

#[test]
fn what_was_sent_before_the_peer_is_known_arrives_once_it_is() {
    let (mut left, mut right) = (link(1, 10, 2), link(2, 20, 1));
    send(&mut left, 0, "buyer", "early").expect("there is room");
    assert_eq!(frames(&mut left, 0).len(), 1, "only a hello");
    assert_eq!(left.next_deadline_ms(), Some(HELLO_MS_MIN));
    left.on_deadline(HELLO_MS_MIN);
    let (_, on_right) = exchange(HELLO_MS_MIN, &mut left, &mut right);
    assert_eq!(contents(&on_right), ["early"]);
}

#[test]
fn tags_are_settled_or_refused_and_credits_come_back() {
    let (mut left, mut right) = connected();
    send(&mut left, 7, "buyer", "good").expect("there is room");
    send(&mut left, 8, "buyer", "bad").expect("there is room");
    let (_, on_right) = exchange(1, &mut left, &mut right);
    for arrival in arrivals(&on_right) {
        right.credit(arrival.received);
        match arrival.message.content().as_text() {
            Some("good") => right.settle(arrival.received),
            _ => right.refuse(arrival.received, &"é".repeat(400)),
        }
    }
    right.gone(AgentId::of_text("former"));
    let (on_left, _) = exchange(2, &mut left, &mut right);
    let tag = |number| Tag::new(number).expect("it is not zero");
    let reason = "é".repeat(REASON_BYTES_MAX / 2).into();
    let refused = LinkEvent::Refused { tag: tag(8), reason };
    assert_eq!(on_left, [LinkEvent::Settled(tag(7)), refused, LinkEvent::Gone(AgentId::of_text("former"))]);
    assert_eq!((left.figures().unsettled, left.figures().targets), (0, 0));
}

#[test]
fn a_slow_target_holds_up_only_what_is_for_it() {
    let (mut left, mut right) = connected();
    let slow = AgentId::of_text("slow");
    for _ in 0..TARGET_MESSAGES_MAX {
        assert!(left.room_for(slow));
        send(&mut left, 0, "slow", "x").expect("there is room");
    }
    assert_eq!((left.room_for(slow), send(&mut left, 0, "slow", "x")), (false, Err(SendError::NoRoom)));
    send(&mut left, 0, "other", "x").expect("there is room");
    let (_, on_right) = exchange(1, &mut left, &mut right);
    assert_eq!(arrivals(&on_right).len(), TARGET_MESSAGES_MAX as usize + 1);
    for arrival in arrivals(&on_right) {
        right.credit(arrival.received);
    }
    let (on_left, _) = exchange(2, &mut left, &mut right);
    assert_eq!((on_left, left.figures().targets), (vec![LinkEvent::Room(slow)], 0));
    let large = "x".repeat(usize::try_from(TARGET_BYTES_MAX / 2).expect("it is small"));
    send(&mut left, 0, "slow", &large).expect("there is room");
    send(&mut left, 0, "slow", &large).expect("there is room");
    assert_eq!(send(&mut left, 0, "slow", "x"), Err(SendError::NoRoom));
}

#[test]
fn a_message_larger_than_a_frame_is_refused_and_one_as_large_has_a_frame_of_its_own() {
    let (mut left, mut right) = connected();
    send(&mut left, 0, "buyer", "before").expect("there is room");
    let error = send(&mut left, 9, "buyer", &"x".repeat(1 << 20)).expect_err("it is too large");
    assert!(matches!(error, SendError::TooLarge { bytes_max: 0x10_0000, .. }), "{error:?}");
    let large = "x".repeat((1 << 20) - 500);
    send(&mut left, 0, "buyer", &large).expect("it fits");
    send(&mut left, 0, "other", "after").expect("there is room");
    let sent = frames(&mut left, 1);
    assert_eq!(sent.len(), 3);
    assert!(sent.iter().all(|frame| frame.len() <= CONFIG.payload_bytes_max));
    let mut events = Vec::new();
    for frame in sent {
        right.receive(1, &frame, &mut events).expect("it is a frame");
    }
    assert_eq!(contents(&events), ["before", &large, "after"]);
    assert_eq!(left.figures().unsettled, 0);
}

#[test]
fn a_full_link_takes_messages_again_when_half_is_acknowledged() {
    let (mut left, mut right) = connected();
    let large = "x".repeat(1_000_000);
    let mut sent = 0;
    while send(&mut left, 0, &format!("buyer-{sent}"), &large) != Err(SendError::Full) {
        sent += 1;
    }
    assert!(left.figures().bytes_in_flight < LINK_BYTES_MAX + (1 << 20) && sent > 30, "{sent}");
    assert!(left.figures().is_full);
    let (on_left, on_right) = exchange(1, &mut left, &mut right);
    assert_eq!(arrivals(&on_right).len(), sent);
    assert_eq!(on_left, [LinkEvent::Writable]);
    assert!(!left.figures().is_full);
}

#[test]
fn a_lost_frame_is_asked_for_and_what_came_early_is_kept_within_limits() {
    let (mut left, mut right) = connected();
    let mut sent = Vec::new();
    for number in 0..EARLY_FRAMES_MAX + 10 {
        send(&mut left, 0, "buyer", &number.to_string()).expect("there is room");
        sent.extend(frames(&mut left, 1));
    }
    let mut events = Vec::new();
    for frame in &sent[1..] {
        right.receive(1, frame, &mut events).expect("it is a frame");
    }
    assert_eq!(events, []);
    let (kept, bytes) = right.stream.inbound.kept();
    assert_eq!(kept, EARLY_FRAMES_MAX);
    assert!(bytes <= EARLY_BYTES_MAX);
    let asked = frames(&mut right, 1);
    assert_eq!(asked.len(), 1, "it asks once");
    left.receive(1, &asked[0], &mut Vec::new()).expect("it is a frame");
    let (_, mut on_right) = exchange(1, &mut left, &mut right);
    assert_eq!(on_right.len(), EARLY_FRAMES_MAX + 1);
    // The frames that were dropped because too many arrived early are asked for later.
    let again_ms = right.next_deadline_ms().expect("something is missing");
    right.on_deadline(again_ms);
    on_right.extend(exchange(again_ms, &mut left, &mut right).1);
    let all: Vec<_> = (0..EARLY_FRAMES_MAX + 10).map(|number| number.to_string()).collect();
    assert_eq!(contents(&on_right), all);
}

#[test]
fn a_lost_acknowledgement_is_repeated_and_a_duplicate_dropped() {
    let (mut left, mut right) = connected();
    send(&mut left, 0, "buyer", "once").expect("there is room");
    let sent = frames(&mut left, 1);
    let mut events = Vec::new();
    right.receive(1, &sent[0], &mut events).expect("it is a frame");
    assert_eq!(frames(&mut right, 1), Vec::<Bytes>::new(), "an acknowledgement waits for company");
    let at = right.next_deadline_ms().expect("it is due soon");
    assert_eq!(at, 6);
    right.on_deadline(at);
    assert_eq!(frames(&mut right, at).len(), 1, "this one is lost");
    let timeout = left.next_deadline_ms().expect("nothing was acknowledged");
    left.on_deadline(timeout);
    let repeated = frames(&mut left, timeout);
    assert_eq!(repeated, sent);
    right.receive(timeout, &repeated[0], &mut events).expect("it is a frame");
    assert_eq!((contents(&events), right.figures().duplicates), (vec!["once"], 1));
    exchange(timeout, &mut left, &mut right);
    assert_eq!((left.figures().frames_in_flight, left.figures().bytes_in_flight), (0, 0));
}

#[test]
fn a_peer_that_was_restarted_begins_again_and_what_was_lost_is_reported() {
    let (mut left, mut right) = connected();
    send(&mut left, 5, "buyer", "durable").expect("there is room");
    send(&mut left, 3, "buyer", "durable").expect("there is room");
    let (_, on_right) = exchange(1, &mut left, &mut right);
    send(&mut left, 0, "buyer", "volatile").expect("there is room");
    let stale = frames(&mut left, 2);
    let mut again = link(2, 21, 1);
    let (on_left, _) = exchange(3, &mut left, &mut again);
    let peer = NodeRun { node: node(2), boot_epoch: 21 };
    let unsettled = vec![Tag::new(3).expect("it is not zero"), Tag::new(5).expect("it is not zero")];
    assert_eq!(on_left, [LinkEvent::PeerRestarted { peer, volatile_lost: 1, unsettled }]);
    assert_eq!((left.figures().unsettled, left.figures().targets, left.figures().bytes_in_flight), (0, 0, 0));
    // Frames from the former run, and frames for it, change nothing.
    right.settle(arrivals(&on_right)[0].received);
    send(&mut right, 0, "seller", "old").expect("there is room");
    let mut events = Vec::new();
    for frame in frames(&mut right, 3) {
        left.receive(3, &frame, &mut events).expect("it is a frame");
    }
    for frame in stale {
        again.receive(3, &frame, &mut events).expect("it is a frame");
    }
    assert_eq!((events, frames(&mut again, 3).len()), (vec![], 1), "it says who it is");
    send(&mut left, 5, "buyer", "again").expect("there is room");
    assert_eq!(contents(&exchange(4, &mut left, &mut again).1), ["again"]);
    // A receipt of the former run settles nothing in this one.
    left.settle(arrivals(&on_right)[0].received);
    assert!(left.stream.owed.is_empty());
}

#[test]
fn a_peer_counts_as_silent_until_something_comes_and_says_that_it_is_alive_before() {
    let (mut left, mut right) = connected();
    let mut now_ms = 0;
    while now_ms < 4 * CONFIG.silence_ms_max {
        now_ms = left.next_deadline_ms().into_iter().chain(right.next_deadline_ms()).min().expect("there is one");
        left.on_deadline(now_ms);
        right.on_deadline(now_ms);
        assert_eq!(exchange(now_ms, &mut left, &mut right), (vec![], vec![]));
        assert!(!left.figures().is_silent && !right.figures().is_silent);
    }
    let frames_sent = left.figures().frames_sent;
    assert!(frames_sent < 20, "{frames_sent} frames");
    while !left.figures().is_silent {
        now_ms = left.next_deadline_ms().expect("there is one");
        left.on_deadline(now_ms);
        frames(&mut left, now_ms);
    }
    assert!(left.figures().is_open);
    right.on_deadline(now_ms);
    exchange(now_ms, &mut left, &mut right);
    assert!(!left.figures().is_silent);
}

#[test]
fn a_frame_that_can_not_be_read_changes_nothing() {
    let (mut left, mut right) = connected();
    send(&mut left, 4, "buyer", "whole").expect("there is room");
    let sent = frames(&mut left, 1);
    let mut events = Vec::new();
    // A frame that is cut between two entries cannot be told from a shorter one, so these lengths are left out.
    let behind_name = HEADER_BYTES + 5 + 2 + "seller".len();
    for length in (0..sent[0].len()).filter(|length| ![HEADER_BYTES, behind_name].contains(length)) {
        assert!(right.receive(1, &sent[0][..length], &mut events).is_err(), "{length} bytes");
        assert_eq!((&events[..], right.stream.inbound.taken()), (&[][..], 0), "{length} bytes");
    }
    right.receive(1, &sent[0], &mut events).expect("it is whole");
    assert_eq!(contents(&events), ["whole"]);
}

#[test]
fn a_message_that_can_not_be_decoded_is_refused_and_the_stream_goes_on() {
    let (mut left, mut right) = connected();
    // The message names another agent as its sender.
    let (sender, target) = (name("seller"), AgentId::of_text("buyer"));
    let forged = message(&name("other"), target, "forged");
    let tag = Tag::new(6);
    let outgoing = Outgoing { tag, sender: Some(&sender), target, message: &forged, remaining: None };
    left.send(&outgoing).expect("there is room");
    left.send(&Outgoing { sender: None, ..outgoing }).expect("there is room");
    send(&mut left, 0, "buyer", "next").expect("there is room");
    let (on_left, on_right) = exchange(1, &mut left, &mut right);
    assert_eq!((contents(&on_right), right.figures().unreadable), (vec!["next"], 2));
    assert!(
        matches!(&on_left[..], [LinkEvent::Refused { reason, .. }] if reason.contains("another agent")),
        "{on_left:?}"
    );
    assert_eq!(left.figures().unsettled, 0);
}

#[test]
fn frames_of_other_links_and_versions_are_refused() {
    let (mut left, mut right) = connected();
    send(&mut left, 0, "buyer", "x").expect("there is room");
    let sent = frames(&mut left, 1);
    assert_eq!(Link::sender_of(&sent[0]), Ok(left.own));
    let mut other = link(3, 30, 1);
    let misdirected = FrameError::Misdirected { from: 1, to: 2 };
    assert_eq!(other.receive(1, &sent[0], &mut Vec::new()), Err(misdirected));
    let mut newer = sent[0].to_vec();
    newer[4] = 9;
    assert_eq!(right.receive(1, &newer, &mut Vec::new()), Err(FrameError::Version(9)));
    let mut hello = link(1, 11, 2).next_frame(0).expect("it begins with a hello").to_vec();
    let versions = hello.len() - 2;
    hello[versions..].copy_from_slice(&[8, 9]);
    assert_eq!(right.receive(1, &hello, &mut Vec::new()), Err(FrameError::NoCommonVersion(8, 9)));
    assert_eq!(right.figures().damaged, 2);
    assert!(right.figures().frames_in_flight <= LINK_FRAMES_MAX + CONTROL_FRAMES_MAX);
}
