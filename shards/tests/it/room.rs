//! Callers outside that wait until what an agent has sent has left it.

use caxton_shards::api::{Answer, Input, OverflowPolicy, ROOM_WAITERS_MAX, RoomError, Token};
use caxton_shards::message::{AgentId, Message};

use crate::common::{Log, Setup, World, inform, lifetime};

/// An agent outside that has sent `sent` messages to an agent that is suspended and has room for four of them.
fn backed_up(shards: u16, sent: u32) -> (World, AgentId, AgentId, Log<Message>) {
    let setup = Setup::new(shards).configured(|config| {
        config.overflow = OverflowPolicy::BackPressure;
        config.mailbox_messages = 4.try_into().unwrap();
    });
    let mut world = setup.start();
    let sender = world.add_inbox(0, "sender", 1, 10);
    let (receiver, log) = world.add_listener(shards - 1, "receiver");
    world.suspend(receiver).unwrap();
    for number in 0..sent {
        world.tell(inform(sender, receiver, &number.to_string()).time_to_live(lifetime(60_000)).build().unwrap());
        // Each closes the receiver before the next one.
        world.run();
    }
    (world, sender, receiver, log)
}

fn await_room(world: &mut World, agent: AgentId, at_most: u32) -> Token {
    let (shard, token) = (world.shard_of(agent), world.token());
    world.give(shard, Input::AwaitRoom { agent, at_most, token });
    world.run();
    token
}

/// Returns the response, if there is one.
fn room(world: &mut World, agent: AgentId, token: Token) -> Option<Result<u32, RoomError>> {
    let shard = world.shard_of(agent);
    match world.take_answer(shard, token)? {
        Answer::Room(room) => Some(room),
        _ => panic!("it is the response to another request"),
    }
}

#[test]
fn room_is_there_once_enough_has_left() {
    for shards in 1..=2 {
        let (mut world, sender, receiver, log) = backed_up(shards, 12);
        let on_way = world.view(sender).unwrap().waiting;
        assert!((6..=8).contains(&on_way), "{on_way}");
        let enough = await_room(&mut world, sender, on_way);
        assert_eq!(room(&mut world, sender, enough), Some(Ok(on_way)));
        let (fewer, none) = (await_room(&mut world, sender, on_way - 1), await_room(&mut world, sender, 0));
        assert_eq!((room(&mut world, sender, fewer), room(&mut world, sender, none)), (None, None));
        world.resume(receiver).unwrap();
        world.run();
        assert!(room(&mut world, sender, fewer).unwrap().unwrap() < on_way);
        assert_eq!(room(&mut world, sender, none), Some(Ok(0)));
        assert_eq!(log.len(), 12);
        world.assert_settled();
    }
}

#[test]
fn what_expires_makes_room_too() {
    let (mut world, sender, _, _) = backed_up(2, 12);
    let token = await_room(&mut world, sender, 0);
    world.advance(61_000);
    assert_eq!(room(&mut world, sender, token), Some(Ok(0)));
}

#[test]
fn nobody_waits_for_room_of_an_agent_that_is_gone() {
    let (mut world, sender, receiver, _) = backed_up(1, 12);
    let token = await_room(&mut world, sender, 0);
    assert!(world.deregister(sender));
    assert_eq!(room(&mut world, sender, token), Some(Err(RoomError::UnknownAgent)));
    let late = await_room(&mut world, sender, 0);
    assert_eq!(room(&mut world, sender, late), Some(Err(RoomError::UnknownAgent)));
    world.resume(receiver).unwrap();
    world.run();
    world.assert_settled();
}

#[test]
fn few_callers_wait_for_the_same_agent_and_those_that_have_gone_free_their_places() {
    let (mut world, sender, receiver, _) = backed_up(1, 12);
    let waiting: Vec<_> = (0..ROOM_WAITERS_MAX).map(|_| await_room(&mut world, sender, 0)).collect();
    let beyond = await_room(&mut world, sender, 0);
    assert_eq!(room(&mut world, sender, beyond), Some(Err(RoomError::TooManyWaiters)));
    world.give(0, Input::Cancel(waiting[1..].to_vec()));
    world.run();
    let next = await_room(&mut world, sender, 0);
    world.resume(receiver).unwrap();
    world.run();
    assert_eq!(room(&mut world, sender, waiting[0]), Some(Ok(0)));
    assert_eq!(room(&mut world, sender, next), Some(Ok(0)));
    assert!(waiting[1..].iter().all(|token| room(&mut world, sender, *token).is_none()), "nobody waits for it");
}

#[test]
fn waiting_for_room_ends_when_the_router_stops() {
    let (mut world, sender, _, _) = backed_up(1, 12);
    let token = await_room(&mut world, sender, 0);
    world.stop_all();
    assert_eq!(room(&mut world, sender, token), Some(Err(RoomError::Stopping)));
    let late = await_room(&mut world, sender, 0);
    assert_eq!(room(&mut world, sender, late), Some(Err(RoomError::Stopping)));
}

#[test]
fn messages_before_it_were_admitted_when_there_is_room() {
    let setup = Setup::new(1).configured(|config| {
        config.overflow = OverflowPolicy::BackPressure;
        config.mailbox_messages = 4.try_into().unwrap();
        config.outbox = 2.try_into().unwrap();
    });
    let mut world = setup.start();
    let sender = world.add_inbox(0, "sender", 1, 10);
    let (receiver, log) = world.add_listener(0, "receiver");
    world.suspend(receiver).unwrap();
    for number in 0..12 {
        world.tell(inform(sender, receiver, &number.to_string()).build().unwrap());
    }
    let token = await_room(&mut world, sender, 2);
    assert_eq!(world.view(sender).unwrap().waiting, 2);
    assert_eq!(room(&mut world, sender, token), None, "messages before it have found no room");
    world.resume(receiver).unwrap();
    world.run();
    assert!(room(&mut world, sender, token).unwrap().unwrap() <= 2);
    assert_eq!(log.len(), 12);
    world.assert_settled();
}
