//! The lifetime of a message: at which stage it expires, and how much of its time a handler passes on.

use std::time::Duration;

use caxton_shards::agent::{Context, Outcome};
use caxton_shards::api::{Event, InboxNumber, Input, JournalCondition, Stage, is_notice};
use caxton_shards::journal::record::Durability;
use caxton_shards::message::{AgentId, ConversationId, Message, MessageBuilder, Performative, Reliability, WallTime};

use crate::common::{Log, Script, Setup, World, at, inform, lifetime};

// Stages at which a message expires.

fn stages(world: &mut World) -> Vec<Stage> {
    let shards = 0..world.nodes.len();
    let events: Vec<Event> = shards.flat_map(|shard| world.take_events(shard)).collect();
    let stage = |event: &Event| if let Event::Expired { stage, .. } = event { Some(*stage) } else { None };
    events.iter().filter_map(stage).collect()
}

/// Asserts that one message expired, at this stage: by the event, the counters and the notice to its sender.
#[track_caller]
fn assert_expired(world: &mut World, told: &Log<Message>, stage: Stage) {
    assert_eq!(stages(world), [stage]);
    let total = world.total();
    let mut expected = [0; Stage::COUNT];
    expected[stage.index()] = 1;
    assert_eq!((total.expired, total.expired_by_stage), (1, expected));
    let notices = told.notices();
    assert!(notices.len() == 1 && notices[0].contains("(expired "), "{notices:?}");
    assert!(notices[0].contains(stage.explanation()), "{notices:?}");
}

fn mortal(from: AgentId, to: AgentId) -> MessageBuilder {
    inform(from, to, "x").time_to_live(lifetime(1_000))
}

#[test]
fn what_waits_for_credit_expires_while_crossing() {
    let mut world = Setup::new(2).lanes(1, 1).start();
    world.watch_events();
    let (sender, told) = world.add_listener(0, "sender");
    let far = world.add(1, "far", Script::idle());
    world.pause(1, true);
    world.send(inform(sender, far, "takes the credit").build().unwrap()).unwrap();
    world.send(mortal(sender, far).build().unwrap()).unwrap();
    world.advance(3_000);
    assert_expired(&mut world, &told, Stage::Crossing);
    world.pause(1, false);
    world.run();
    world.assert_settled();
}

#[test]
fn what_is_in_a_ring_for_too_long_expires_while_crossing() {
    let mut world = World::new(2);
    world.watch_events();
    let (sender, told) = world.add_listener(0, "sender");
    let far = world.add(1, "far", Script::idle());
    world.pause(1, true);
    world.send(mortal(sender, far).build().unwrap()).unwrap();
    world.advance(1_000);
    world.pause(1, false);
    world.run();
    assert_expired(&mut world, &told, Stage::Crossing);
    world.assert_settled();
}

#[test]
fn what_waits_in_transit_at_the_conversations_home_expires_while_crossing() {
    let mut world = Setup::new(3).lanes(1, 1).start();
    world.watch_events();
    let id = ConversationId::of_text("talk");
    let initiator = world.add(1, "initiator", Script::idle());
    let (sender, told) = world.add_listener(0, "sender");
    let far = world.add(2, "far", Script::idle());
    for participant in [sender, far] {
        world.send(inform(initiator, participant, "join").conversation(id).build().unwrap()).unwrap();
        world.run();
    }
    told.take();
    world.pause(2, true);
    // Takes the only credit from the home to the paused shard.
    world.send(inform(initiator, far, "x").conversation(id).build().unwrap()).unwrap();
    world.run();
    for _ in 0..2 {
        world.send(mortal(sender, far).conversation_of(id, initiator).build().unwrap()).unwrap();
        world.run();
    }
    world.advance(3_000);
    world.pause(2, false);
    world.run();
    let total = world.total();
    assert!(total.expired > 0 && told.notices().iter().all(|notice| notice.contains(Stage::Crossing.explanation())));
    assert_eq!(total.expired_by_stage[Stage::Crossing.index()], total.expired);
    assert!(stages(&mut world).iter().all(|stage| *stage == Stage::Crossing));
    world.assert_settled();
}

#[test]
fn what_an_inbox_does_not_take_expires_in_the_mailbox() {
    let mut world = World::new(2);
    world.watch_events();
    let (sender, told) = world.add_listener(0, "sender");
    let inbox = world.add_inbox(1, "inbox", 7, 1);
    world.send(inform(sender, inbox, "fills it").build().unwrap()).unwrap();
    world.send(mortal(sender, inbox).build().unwrap()).unwrap();
    world.advance(3_000);
    assert_expired(&mut world, &told, Stage::Mailbox);
}

#[test]
fn what_fails_and_has_no_time_for_another_attempt_expires_while_it_waits_for_it() {
    let mut world = Setup::new(2).configured(|config| config.retry.delay_ms = 5_000).start();
    world.watch_events();
    let (sender, told) = world.add_listener(0, "sender");
    let failing = world.add(1, "failing", Script::new(|_, _| Outcome::failed("no")));
    // Its former delivery time no longer matters.
    world.send(mortal(sender, failing).deliver_at(at(500)).build().unwrap()).unwrap();
    world.advance(1_499);
    assert_eq!(world.total().expired, 0);
    world.advance(1);
    assert_expired(&mut world, &told, Stage::Retry);
    world.assert_settled();
}

#[test]
fn a_message_for_later_does_not_outlive_its_lifetime_when_the_wall_clock_jumps_back_on_its_way() {
    let mut world = World::new(2);
    world.watch_events();
    let (sender, told) = world.add_listener(0, "sender");
    let (far, heard) = world.add_listener(1, "far");
    world.pause(1, true);
    world.send(mortal(sender, far).deliver_at(at(500)).build().unwrap()).unwrap();
    world.jump_wall_clock(-3_600_000);
    world.pause(1, false);
    world.advance(1_499);
    assert_eq!(world.total().expired, 0);
    world.advance(1);
    assert_expired(&mut world, &told, Stage::Delayed);
    assert_eq!(heard.len(), 0);
    world.assert_settled();
}

#[test]
fn a_jump_of_the_wall_clock_does_not_move_a_message_that_is_held_for_its_moment() {
    for jump_ms in [-3_600_000, 3_600_000] {
        let mut world = World::new(1);
        let (agent, heard) = world.add_listener(0, "agent");
        world.send(mortal(agent, agent).deliver_at(at(500)).build().unwrap()).unwrap();
        world.run();
        world.jump_wall_clock(jump_ms);
        world.advance(499);
        assert_eq!(heard.len(), 0);
        world.advance(1);
        assert_eq!(heard.len(), 1);
        world.assert_settled();
    }
}

// Time that a handler passes on.

/// Returns what an agent receives after another was sent `incoming` and, having received it after 700 ms, sent `build`
/// on its behalf: the remaining time, and its reply-by.
fn passed_on(
    incoming: impl Fn(MessageBuilder) -> MessageBuilder,
    build: impl Fn(MessageBuilder) -> MessageBuilder + Send + 'static,
) -> (u64, Option<WallTime>) {
    let mut world = World::new(2);
    let sender = world.add(0, "sender", Script::idle());
    let log = Log::new();
    let hears = log.clone();
    let last = world.add(
        0,
        "last",
        Script::new(move |message, context| {
            hears.push((remaining_ms(context, message), message.reply_by()));
            Outcome::Done
        }),
    );
    let middle = world.add(
        1,
        "middle",
        Script::new(move |message, context| {
            if !is_notice(message) {
                let builder = build(Message::builder(Performative::Request).receiver(last).content("on"));
                context.send(context.pass_deadline(message, builder).build().unwrap()).unwrap();
            }
            Outcome::Done
        }),
    );
    world.pause(1, true);
    world.send(incoming(inform(sender, middle, "x")).build().unwrap()).unwrap();
    world.advance(700);
    world.pause(1, false);
    world.advance(100);
    let passed_on = log.take();
    assert_eq!(passed_on.len(), 1);
    passed_on[0]
}

fn remaining_ms(context: &Context<'_>, message: &Message) -> u64 {
    u64::try_from(context.remaining(message).as_millis()).unwrap_or(u64::MAX)
}

fn a_second(builder: MessageBuilder) -> MessageBuilder {
    builder.time_to_live(lifetime(1_000))
}

#[test]
fn what_is_left_of_a_second_is_all_that_the_message_sent_on_its_behalf_has() {
    assert_eq!(passed_on(a_second, |builder| builder), (300, None));
}

#[test]
fn a_shorter_lifetime_stays_and_a_longer_one_is_cut() {
    let within = |milliseconds| move |builder: MessageBuilder| builder.within(Duration::from_millis(milliseconds));
    assert_eq!(passed_on(a_second, within(250)), (250, None));
    assert_eq!(passed_on(a_second, within(5_000)), (300, None));
}

#[test]
fn more_time_than_the_router_gives_is_not_passed_on() {
    let minutes = |builder: MessageBuilder| builder.time_to_live(lifetime(300_000));
    assert_eq!(passed_on(minutes, |builder| builder), (30_000, None));
    // A requested lifetime is granted within the remaining time.
    assert_eq!(passed_on(minutes, minutes), (299_300, None));
}

#[test]
fn a_reply_by_ends_the_time_too_and_cuts_another_one_but_makes_none() {
    let incoming = |builder| a_second(builder).reply_by(at(900));
    assert_eq!(passed_on(incoming, |builder| builder), (200, None));
    let later = |builder: MessageBuilder| builder.reply_by(at(5_000));
    assert_eq!(passed_on(incoming, later), (200, Some(at(900))));
    let earlier = |builder: MessageBuilder| builder.reply_by(at(850));
    assert_eq!(passed_on(incoming, earlier), (150, Some(at(850))));
}

#[test]
fn a_message_for_later_has_what_is_left_from_then() {
    // It is handled at 800 ms of a lifetime that ends at 1,000 ms.
    assert_eq!(passed_on(a_second, |builder| builder.deliver_at(at(800))), (200, None));
}

#[test]
fn less_than_a_millisecond_is_one_and_a_copy_knows_what_is_left() {
    let mut world = World::new(1);
    let (sender, told) = world.add_listener(0, "sender");
    let inbox = world.add_inbox(0, "inbox", 7, 1);
    let left = Log::new();
    let log = left.clone();
    let agent = world.add(
        0,
        "agent",
        Script::new(move |message, context| {
            log.push((remaining_ms(context, message), remaining_ms(context, &message.clone())));
            Outcome::Done
        }),
    );
    let short = |to| inform(sender, to, "x").within(Duration::from_micros(1)).build().unwrap();
    world.send(short(agent)).unwrap();
    assert_eq!(left.take(), [(1, 1)]);
    world.send(short(inbox)).unwrap();
    world.send(short(inbox)).unwrap();
    world.run();
    world.now_ms += 1;
    world.give(0, Input::Taken { agent: inbox, inbox: InboxNumber(7), messages: 1, notices: 0 });
    world.run();
    assert_eq!((world.total().expired, told.notices().len()), (1, 1));
    world.assert_settled();
}

#[test]
fn a_notice_of_the_router_has_all_the_time_and_limits_nothing() {
    let mut world = World::new(1);
    let (last, heard) = world.add_listener(0, "last");
    let log = Log::new();
    let left = log.clone();
    let agent = world.add(
        0,
        "agent",
        Script::new(move |message, context| {
            left.push(context.remaining(message));
            let builder = Message::builder(Performative::Inform).receiver(last).content("on");
            context.send(context.pass_deadline(message, builder).build().unwrap()).unwrap();
            Outcome::Done
        }),
    );
    world.send(inform(agent, AgentId::of_text("nobody"), "x").build().unwrap()).unwrap();
    world.run();
    assert_eq!(log.take(), [Duration::MAX]);
    assert_eq!(heard.texts(), ["on"]);
    world.assert_settled();
}

#[test]
fn what_waits_for_a_full_journal_expires_before_its_commit_and_is_not_dispatched_after_it() {
    let mut world = Setup::new(1).configured(|config| config.durability = Durability::Journal).start();
    world.watch_events();
    let (sender, told) = world.add_listener(0, "sender");
    let (receiver, heard) = world.add_listener(0, "receiver");
    world.tell(mortal(sender, receiver).reliability(Reliability::Durable).build().unwrap());
    world.run();
    world.give(0, Input::Journal(JournalCondition::Full));
    world.run();
    world.advance(999);
    assert_eq!(world.total().expired, 0);
    world.advance(2);
    assert_expired(&mut world, &told, Stage::Commit);
    world.give(0, Input::Journal(JournalCondition::Ready));
    world.commit_next(0, u64::MAX);
    world.run();
    assert!(heard.is_empty());
    world.assert_settled();
}
