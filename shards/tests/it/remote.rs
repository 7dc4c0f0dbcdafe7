//! Agents of other nodes: the search for them, their proxies, and notices of other routers.

use caxton_shards::agent::{Outcome, Registration};
use caxton_shards::api::{
    AgentKind, AskError, InboxNumber, Input, RegistrationError, ReplayPortion, StopReason, WANTED_MAX, is_notice,
};
use caxton_shards::dead_letter::DeadLetterReason;
use caxton_shards::domain::{AgentName, NodeId};
use caxton_shards::journal::record::Durability;
use caxton_shards::message::{AgentId, Correlation, Message, Performative, Receipt, Reliability, WallTime};
use caxton_shards::routing::partition::ShardIndex;

use crate::common::{Log, Script, Setup, WALL_START_MS, World, at, inform, lifetime, request, text};

const AMS: &str = "ams";

/// A router that looks for agents that are not registered.
fn looking(shards: u16) -> Setup {
    Setup::new(shards).configured(|config| config.looks_for_absent = true)
}

fn take_wanted(world: &mut World) -> Vec<AgentId> {
    world.nodes.iter_mut().flat_map(|node| std::mem::take(&mut node.wanted)).collect()
}

fn give_up(world: &mut World, agent: AgentId) {
    let shard = world.shard_of(agent);
    world.give(shard, Input::Unwanted { agent, why: "no node has it".into() });
    world.run();
}

/// Returns a name that belongs to this shard and is not registered.
fn stranger(world: &World, shard: u16) -> (AgentName, AgentId) {
    let name = world.name_on(shard, "stranger");
    (name.clone(), AgentId::of(&name))
}

fn add_proxy(world: &mut World, name: AgentName, inbox: u32, window: u32) -> AgentId {
    world.register(Registration::outside(name, InboxNumber(inbox), window).acknowledged().proxy())
}

fn send_all(world: &mut World, messages: impl IntoIterator<Item = Message>) {
    for message in messages {
        world.send(message).unwrap();
    }
    world.run();
}

/// Commits and runs until nothing more happens at the current time.
fn settle(world: &mut World) {
    for _ in 0..10 {
        world.run();
        for shard in 0..world.nodes.len() {
            world.commit_next(shard, u64::MAX);
        }
    }
    world.run();
}

#[test]
fn an_agent_that_is_not_registered_is_looked_for_once_and_gets_its_messages_in_order() {
    for shard in 0..2 {
        let mut world = looking(2).start();
        let (name, absent) = stranger(&world, shard);
        let (sender, told) = world.add_listener(0, "sender");
        let messages = (0..5).map(|number| inform(sender, absent, &number.to_string()).build().unwrap());
        send_all(&mut world, messages);
        assert_eq!(take_wanted(&mut world), [absent]);
        let view = world.view(absent).unwrap();
        assert_eq!((view.kind, view.mailbox_messages), (Some(AgentKind::Absent), 5));
        add_proxy(&mut world, name, 3, 10);
        world.run();
        let delivered = world.take_delivered(usize::from(shard));
        assert!(delivered.iter().map(text).eq(["0", "1", "2", "3", "4"]));
        assert_eq!((take_wanted(&mut world).len(), told.len()), (0, 0));
        world.give(usize::from(shard), Input::Taken { agent: absent, inbox: InboxNumber(3), messages: 5, notices: 0 });
        world.run();
        assert_eq!(world.total().processed, 5);
        world.assert_settled();
    }
}

#[test]
fn an_agent_that_is_registered_here_meanwhile_gets_what_waits_for_it() {
    let mut world = looking(1).start();
    let (name, absent) = stranger(&world, 0);
    let (sender, _) = world.add_listener(0, "sender");
    send_all(&mut world, [inform(sender, absent, "one").build().unwrap()]);
    let log = Log::new();
    world.register(Script::listener(&log).registration(name));
    world.run();
    assert_eq!(log.texts(), ["one"]);
    // The responses of the other nodes come too late.
    give_up(&mut world, absent);
    send_all(&mut world, [inform(sender, absent, "two").build().unwrap()]);
    assert_eq!(log.texts(), ["one", "two"]);
    assert_eq!(take_wanted(&mut world), [absent], "it was looked for once");
    world.assert_settled();
}

#[test]
fn what_waits_for_an_agent_that_no_node_has_is_given_up_and_the_next_message_looks_again() {
    for shard in 0..2 {
        let mut world = looking(2).start();
        let (_, absent) = stranger(&world, shard);
        let (sender, told) = world.add_listener(0, "sender");
        for round in 1..=2 {
            send_all(&mut world, (0..3).map(|_| inform(sender, absent, "x").build().unwrap()));
            assert_eq!(take_wanted(&mut world), [absent]);
            give_up(&mut world, absent);
            assert_eq!(world.dead(DeadLetterReason::UnknownReceiver), 3 * round);
        }
        let notices = told.notices();
        assert_eq!(notices.len(), 6);
        assert!(notices.iter().all(|notice| notice.contains("unknown-receiver") && notice.contains("no node has it")));
        assert_eq!(
            (world.view(absent), world.snapshot(usize::from(shard)).agents),
            (None, u32::from(shard == 0) as usize)
        );
        let letters = world.dead_letters(usize::from(shard));
        assert_eq!(letters[0].last_error.as_deref(), Some("no node has it"));
        world.assert_settled();
    }
}

#[test]
fn without_other_nodes_nobody_is_looked_for() {
    let mut world = World::new(1);
    let (_, absent) = stranger(&world, 0);
    let (sender, told) = world.add_listener(0, "sender");
    send_all(&mut world, [inform(sender, absent, "x").build().unwrap()]);
    world.give(0, Input::WantAbsent);
    give_up(&mut world, absent);
    assert_eq!((take_wanted(&mut world).len(), world.dead(DeadLetterReason::UnknownReceiver)), (0, 1));
    assert_eq!(told.len(), 1);
    world.assert_settled();
}

#[test]
fn a_former_agent_is_looked_for_and_its_end_is_the_reason_if_nobody_has_it() {
    let mut world = looking(1).start();
    let former = world.add(0, "former", Script::idle());
    let (sender, told) = world.add_listener(0, "sender");
    assert!(world.deregister(former));
    send_all(&mut world, [inform(sender, former, "x").build().unwrap()]);
    assert_eq!(take_wanted(&mut world), [former]);
    give_up(&mut world, former);
    assert_eq!((world.dead(DeadLetterReason::Deregistered), told.len()), (1, 1));
    assert_eq!(world.view(former).unwrap().stopped_because, Some(StopReason::Deregistered));
}

#[test]
fn the_router_itself_is_not_looked_for() {
    let mut world = looking(1).start();
    let (sender, _) = world.add_listener(0, "sender");
    send_all(&mut world, [inform(sender, AgentId::of_text(AMS), "x").build().unwrap()]);
    assert_eq!((take_wanted(&mut world).len(), world.dead(DeadLetterReason::UnknownReceiver)), (0, 1));
}

#[test]
fn so_many_agents_are_looked_for_at_a_time_and_messages_for_others_are_dead_letters() {
    let mut world = looking(1).configured(|config| config.outbox = 10_000.try_into().unwrap()).start();
    let (sender, told) = world.add_listener(0, "sender");
    let agent = |number: usize| AgentId::of_text(&format!("stranger-{number}"));
    for number in 0..=WANTED_MAX {
        world.tell(inform(sender, agent(number), "x").build().unwrap());
    }
    world.run();
    assert_eq!(take_wanted(&mut world).len(), WANTED_MAX);
    let notices = told.notices();
    assert!(notices.len() == 1 && notices[0].contains("looks for 4096 agents"), "{notices:?}");
    // Each that is found makes room for another one.
    give_up(&mut world, agent(0));
    send_all(&mut world, [inform(sender, agent(WANTED_MAX), "x").build().unwrap()]);
    assert_eq!(take_wanted(&mut world), [agent(WANTED_MAX)]);
}

#[test]
fn the_mailbox_of_an_agent_that_is_looked_for_has_the_limits_of_any_and_its_messages_expire() {
    let mut world = looking(1).configured(|config| config.mailbox_messages = 2.try_into().unwrap()).start();
    let (_, absent) = stranger(&world, 0);
    let (sender, _) = world.add_listener(0, "sender");
    let message = || inform(sender, absent, "x").time_to_live(lifetime(1_000)).build().unwrap();
    send_all(&mut world, [message(), message(), message()]);
    assert_eq!(world.dead(DeadLetterReason::MailboxFull), 1);
    world.advance(2_100);
    assert_eq!(world.total().expired, 2);
    world.assert_settled();
    // It is still looked for.
    send_all(&mut world, [message()]);
    assert_eq!(take_wanted(&mut world), [absent]);
    give_up(&mut world, absent);
    assert_eq!(world.dead(DeadLetterReason::UnknownReceiver), 1);
    world.assert_settled();
}

#[test]
fn senders_that_wait_for_an_agent_in_vain_go_on() {
    for shard in 0..2 {
        let setup = looking(2).configured(|config| {
            config.mailbox_messages = 2.try_into().unwrap();
            config.overflow = caxton_shards::api::OverflowPolicy::BackPressure;
        });
        let mut world = setup.start();
        let (_, absent) = stranger(&world, shard);
        let (sender, told) = world.add_listener(0, "sender");
        for _ in 0..6 {
            world.tell(inform(sender, absent, "x").build().unwrap());
        }
        world.run();
        assert_eq!(take_wanted(&mut world), [absent]);
        // What waited at its sender arrives when there is room, and the agent is looked for again.
        let mut given_up = 0;
        loop {
            give_up(&mut world, absent);
            given_up += 1;
            if take_wanted(&mut world).is_empty() {
                break;
            }
            assert!(given_up < 10, "it ends");
        }
        assert_eq!((world.dead(DeadLetterReason::UnknownReceiver), told.len()), (6, 6));
        world.assert_settled();
    }
}

#[test]
fn a_delayed_message_for_an_agent_that_was_given_up_is_for_an_unknown_receiver() {
    let mut world = looking(1).start();
    let (_, absent) = stranger(&world, 0);
    let (sender, _) = world.add_listener(0, "sender");
    send_all(&mut world, [inform(sender, absent, "x").deliver_at(at(5_000)).build().unwrap()]);
    assert_eq!(take_wanted(&mut world), [absent]);
    give_up(&mut world, absent);
    world.advance(5_100);
    assert_eq!(world.dead(DeadLetterReason::UnknownReceiver), 1);
    world.assert_settled();
}

#[test]
fn a_draining_router_looks_for_nobody_and_gives_up_whom_it_looks_for() {
    let mut world = looking(2).start();
    let (_, absent) = stranger(&world, 1);
    let (_, other) = stranger(&world, 0);
    let resend = Script::new(move |message, context| {
        let copy = inform(context.id(), other, "late").build().unwrap();
        if is_notice(message) {
            Outcome::Done
        } else {
            context.send(copy).map_or(Outcome::failed("full"), |_| Outcome::Done)
        }
    });
    let late = world.add(0, "late", resend);
    let (sender, told) = world.add_listener(0, "sender");
    world.suspend(late).unwrap();
    send_all(&mut world, [inform(sender, absent, "x").build().unwrap(), inform(sender, late, "x").build().unwrap()]);
    assert_eq!(take_wanted(&mut world), [absent]);
    world.drain_all();
    assert_eq!((world.dead(DeadLetterReason::UnknownReceiver), told.len()), (1, 1));
    world.resume(late).unwrap();
    world.run();
    assert_eq!((take_wanted(&mut world).len(), world.dead(DeadLetterReason::UnknownReceiver)), (0, 2));
    world.assert_settled();
}

#[test]
fn a_stop_gives_up_what_waits_for_agents_that_are_looked_for() {
    let mut world = looking(1).start();
    let (_, absent) = stranger(&world, 0);
    let (sender, _) = world.add_listener(0, "sender");
    send_all(&mut world, [inform(sender, absent, "x").build().unwrap()]);
    world.stop_all();
    give_up(&mut world, absent);
    assert_eq!((world.dead(DeadLetterReason::Stopped), world.total().pending), (1, 0));
}

fn journalled(shards: u16, boot_epoch: u64) -> Setup {
    looking(shards).configured(|config| {
        config.durability = Durability::Journal;
        config.id_space.boot_epoch = boot_epoch;
    })
}

fn durable(sender: AgentId, receiver: AgentId, content: &str) -> Message {
    inform(sender, receiver, content).reliability(Reliability::Durable).build().unwrap()
}

#[test]
fn durable_messages_for_an_agent_that_is_looked_for_survive_a_restart_and_can_be_looked_for_again() {
    let mut earlier = journalled(1, 1).start();
    let (name, absent) = stranger(&earlier, 0);
    let persistent = world_persistent(&mut earlier);
    let (sender, _) = earlier.add_listener(0, "sender");
    for message in
        [durable(sender, absent, "one"), durable(sender, absent, "two"), durable(sender, persistent, "three")]
    {
        earlier.send_later(message);
    }
    settle(&mut earlier);
    let kept = earlier.nodes[0].records.len() as u64;
    let recovery = earlier.journals(&[kept], 100);
    let mut world = journalled(1, 2).start_from(recovery, WallTime(WALL_START_MS + earlier.now_ms));
    settle(&mut world);
    assert_eq!(take_wanted(&mut world), [], "whoever has other nodes to ask says when");
    world.give(0, Input::WantAbsent);
    world.give(0, Input::WantAbsent);
    settle(&mut world);
    assert_eq!(take_wanted(&mut world), [absent], "a persistent agent waits for its registration");
    give_up(&mut world, absent);
    assert_eq!(world.dead(DeadLetterReason::UnknownReceiver), 0, "its node may not have started yet");
    world.give(0, Input::WantAbsent);
    settle(&mut world);
    assert_eq!(take_wanted(&mut world), [absent]);
    add_proxy(&mut world, name, 4, 10);
    settle(&mut world);
    assert!(world.take_delivered(0).iter().map(text).eq(["one", "two"]));
    world.give(0, Input::Acknowledged { agent: absent, inbox: InboxNumber(4), numbers: vec![2, 1] });
    settle(&mut world);
    assert_eq!((world.total().processed, world.total().pending), (2, 1));
}

/// Registers a persistent agent that handles nothing.
fn world_persistent(world: &mut World) -> AgentId {
    let name = world.name_on(0, "persistent");
    let persistent = world.register(Registration::outside(name, InboxNumber(9), 1).persistent());
    world.suspend(persistent).unwrap();
    persistent
}

#[test]
fn draining_leaves_durable_messages_for_an_agent_that_is_looked_for_to_the_next_start() {
    let mut world = journalled(1, 1).start();
    let (_, absent) = stranger(&world, 0);
    let (sender, _) = world.add_listener(0, "sender");
    world.send_later(durable(sender, absent, "x"));
    settle(&mut world);
    world.send(inform(sender, absent, "y").build().unwrap()).unwrap();
    world.drain_all();
    settle(&mut world);
    let total = world.total();
    assert_eq!((total.kept, world.dead(DeadLetterReason::UnknownReceiver), total.pending), (1, 1, 0));
}

#[test]
fn a_proxy_sends_no_receipts() {
    for shard in 0..2 {
        for wanted_first in [false, true] {
            let mut world = looking(2).start();
            let (name, proxy) = stranger(&world, shard);
            let (sender, told) = world.add_listener(0, "sender");
            if !wanted_first {
                add_proxy(&mut world, name.clone(), 5, 10);
            }
            let with = |receipt| inform(sender, proxy, "x").receipt(receipt).build().unwrap();
            send_all(&mut world, [with(Receipt::Delivered), with(Receipt::Processed)]);
            if wanted_first {
                add_proxy(&mut world, name, 5, 10);
            }
            world.run();
            assert_eq!(world.take_delivered(usize::from(shard)).len(), 2);
            world.give(
                usize::from(shard),
                Input::Acknowledged { agent: proxy, inbox: InboxNumber(5), numbers: vec![1, 2] },
            );
            world.run();
            assert_eq!((world.total().processed, told.notices()), (2, Vec::new()));
            world.assert_settled();
        }
    }
}

#[test]
fn the_agent_registered_here_meanwhile_sends_the_receipts_of_what_waited() {
    let mut world = looking(1).start();
    let (name, absent) = stranger(&world, 0);
    let (sender, told) = world.add_listener(0, "sender");
    let with = |receipt| inform(sender, absent, "x").receipt(receipt).build().unwrap();
    send_all(&mut world, [with(Receipt::Delivered), with(Receipt::Processed), with(Receipt::None)]);
    assert_eq!(told.notices(), Vec::<String>::new());
    world.register(Script::idle().registration(name));
    world.run();
    let notices = told.notices();
    assert!(notices.len() == 2 && notices[0].contains("delivered") && notices[1].contains("processed"), "{notices:?}");
    world.assert_settled();
}

#[test]
fn the_failure_of_what_a_proxy_does_not_finish_is_told_to_its_sender() {
    let mut world = looking(1).start();
    let (name, _) = stranger(&world, 0);
    let proxy = add_proxy(&mut world, name, 5, 10);
    let (sender, told) = world.add_listener(0, "sender");
    send_all(&mut world, [inform(sender, proxy, "x").build().unwrap()]);
    let message = world.take_delivered(0).remove(0);
    let rejection = caxton_shards::api::Rejection { number: 1, message, why: "its node refuses it".into() };
    world.give(0, Input::Rejected { agent: proxy, inbox: InboxNumber(5), messages: vec![rejection] });
    world.run();
    assert!(told.notices()[0].contains("its node refuses it"));
    world.assert_settled();
}

#[test]
fn a_proxy_is_seen_as_one_and_its_name_is_taken() {
    let mut world = looking(1).start();
    let (name, _) = stranger(&world, 0);
    let proxy = add_proxy(&mut world, name.clone(), 5, 10);
    assert_eq!(world.view(proxy).unwrap().kind, Some(AgentKind::Proxy));
    let again = world.try_register(Script::idle().registration(name.clone())).unwrap_err();
    assert_eq!(again, RegistrationError::OnOtherNode { name: name.to_string() });
    assert!(again.to_string().contains("another node"), "{again}");
    let own = world.name_on(0, "own");
    world.register(Script::idle().registration(own.clone()));
    let proxied = world.try_register(Registration::outside(own.clone(), InboxNumber(6), 1).proxy()).unwrap_err();
    assert_eq!(proxied, RegistrationError::Duplicate { name: own.to_string() });
}

#[test]
fn a_proxy_that_was_removed_leaves_no_trace_and_its_agent_is_looked_for_again() {
    let mut world = looking(1).start();
    let (name, _) = stranger(&world, 0);
    let proxy = add_proxy(&mut world, name, 5, 10);
    let (sender, _) = world.add_listener(0, "sender");
    assert!(world.deregister(proxy));
    assert_eq!(world.view(proxy), None);
    send_all(&mut world, [inform(sender, proxy, "x").build().unwrap()]);
    assert_eq!(take_wanted(&mut world), [proxy]);
    give_up(&mut world, proxy);
    assert_eq!(world.dead(DeadLetterReason::UnknownReceiver), 1);
}

/// A failure as another node's router reports it.
fn failure(to: AgentId, in_reply_to: Correlation, word: &str) -> Message {
    let content = format!("((request m1) ({word} \"far away\"))");
    let builder = Message::builder(Performative::Failure).sender(AgentId::of_text(AMS)).receiver(to);
    builder.in_reply_to(in_reply_to).content(content).build().unwrap()
}

#[test]
fn the_notice_of_another_router_reaches_its_agent_from_either_shard() {
    for shard in 0..2 {
        let mut world = looking(2).start();
        let (agent, told) = world.add_listener(1, "agent");
        world.give(shard, Input::Notice(failure(agent, Correlation::of_text("r"), "mailbox-full")));
        // A message of anybody but a router is not a notice.
        world.give(shard, Input::Notice(inform(agent, agent, "forged").build().unwrap()));
        world.run();
        let notices = told.notices();
        assert!(notices.len() == 1 && notices[0].contains("far away"), "{notices:?}");
        let total = world.total();
        assert_eq!((total.notices, total.accepted), (1, 0));
        world.assert_settled();
    }
}

#[test]
fn the_notice_of_another_router_for_nobody_is_dropped_and_counted() {
    let mut world = looking(1).start();
    let nobody = stranger(&world, 0).1;
    world.give(0, Input::Notice(failure(nobody, Correlation::of_text("r"), "mailbox-full")));
    world.run();
    let total = world.total();
    assert_eq!((total.notices, total.notices_coalesced, take_wanted(&mut world).len()), (1, 1, 0));
    world.assert_settled();
}

#[test]
fn the_failure_of_a_question_to_another_node_ends_it() {
    let mut world = looking(1).start();
    let (name, _) = stranger(&world, 0);
    let proxy = add_proxy(&mut world, name, 5, 10);
    let question = Message::builder(Performative::Request).receiver(proxy).content("x").build().unwrap();
    let asked = world.ask(0, question, 10_000);
    world.run();
    let message = world.take_delivered(0).remove(0);
    let gateway = message.sender().unwrap();
    world.give(0, Input::Notice(failure(gateway, message.reply_with().unwrap(), "mailbox-full")));
    world.run();
    let Err(AskError::Undeliverable(error)) = world.take_reply(0, asked).unwrap() else { panic!("it failed") };
    assert!(error.explanation().contains("far away"));
}

#[test]
fn the_failure_of_an_agents_question_to_another_node_ends_its_wait() {
    let mut world = looking(1).start();
    let (name, _) = stranger(&world, 0);
    let proxy = add_proxy(&mut world, name, 5, 10);
    let (asker, told) = world.add_listener(0, "asker");
    let correlation = Correlation::of_text("r1");
    let question = request(asker, proxy, "x").reply_with(correlation).reply_by(at(5_000)).build().unwrap();
    send_all(&mut world, [question]);
    assert_eq!(world.snapshot(0).questions, 1);
    world.give(0, Input::Notice(failure(asker, correlation, "mailbox-full")));
    world.run();
    assert_eq!((world.snapshot(0).questions, told.len()), (0, 1));
    world.advance(6_000);
    assert_eq!(told.len(), 1, "it is not told again that there is no reply");
}

#[test]
fn a_dead_letter_is_sent_again_to_an_agent_of_another_node() {
    let mut world = looking(1).start();
    let (name, absent) = stranger(&world, 0);
    let (sender, _) = world.add_listener(0, "sender");
    send_all(&mut world, [inform(sender, absent, "x").build().unwrap()]);
    give_up(&mut world, absent);
    let token = world.token();
    world.give(0, Input::ReplayDeadLetters(Box::default(), None, token));
    world.run();
    take_wanted(&mut world);
    add_proxy(&mut world, name, 5, 10);
    world.run();
    assert_eq!(world.take_delivered(0).len(), 1);
    let Some(caxton_shards::api::Answer::DeadLettersReplayed(portion)) = world.take_answer(0, token) else {
        panic!("it was replayed")
    };
    let ReplayPortion { replayed, refused, .. } = *portion;
    assert_eq!((replayed.len(), refused.len()), (1, 0));
}

#[test]
fn the_gateways_of_two_nodes_have_different_names() {
    let names = [0, 7].map(|node| {
        let node = NodeId::try_new(node).unwrap();
        let world = Setup::new(1).configured(|config| config.id_space.node = node).start();
        (world.nodes[0].shard.gateway_id().unwrap(), world.partition.of_node(node).gateway_name(ShardIndex(0)))
    });
    assert!(names.iter().all(|(id, name)| *id == AgentId::of_text(name)), "{names:?}");
    assert_ne!(names[0].0, names[1].0);
    assert_eq!(names[0].1, "gateway-0-0");
}
