//! Agents of other nodes: the search for them, their proxies, and notices of other routers.

use caxton_shards::agent::{Outcome, Registration};
use caxton_shards::api::{
    AgentKind, Answer, AskError, InboxNumber, Input, OverflowPolicy, RegistrationError, Rejection, ReplayPortion,
    StopReason, WANTED_MAX, is_notice,
};
use caxton_shards::dead_letter::DeadLetterReason;
use caxton_shards::domain::{AgentName, NodeId};
use caxton_shards::journal::record::Durability;
use caxton_shards::message::{
    AgentId, Correlation, Message, MessageBuilder, Performative, Receipt, Reliability, WallTime,
};
use caxton_shards::routing::partition::ShardIndex;

use crate::common::{Log, Script, Setup, WALL_START_MS, World, at, inform, lifetime, request, text};

const AMS: &str = "ams";
/// The inbox of the proxy.
const INBOX: InboxNumber = InboxNumber(5);
/// How many messages the inbox takes at once.
const WINDOW: u32 = 10;

/// A router that looks for agents that are not registered.
fn looking(shards: u16) -> Setup {
    Setup::new(shards).configured(|config| config.looks_for_absent = true)
}

/// Like [`looking`], with a journal.
fn journalled(boot_epoch: u64) -> Setup {
    looking(1).configured(|config| {
        config.durability = Durability::Journal;
        config.id_space.boot_epoch = boot_epoch;
    })
}

/// A router with a sender on shard 0, and with a receiver that is not registered: it may live on another node.
struct Fixture {
    world: World,
    sender: AgentId,
    /// What the sender received.
    told: Log<Message>,
    receiver: AgentId,
    receiver_name: AgentName,
    receiver_shard: usize,
}

impl Fixture {
    /// Starts a router whose receiver belongs to this shard.
    fn start(setup: Setup, receiver_shard: u16) -> Self {
        let mut world = setup.start();
        let (sender, told) = world.add_listener(0, "sender");
        let receiver_name = world.name_on(receiver_shard, "receiver");
        let receiver = AgentId::of(&receiver_name);
        Self { world, sender, told, receiver, receiver_name, receiver_shard: receiver_shard.into() }
    }

    /// Returns a message from the sender to the receiver.
    fn message(&self, content: &str) -> MessageBuilder {
        inform(self.sender, self.receiver, content)
    }

    fn durable(&self, content: &str) -> Message {
        self.message(content).reliability(Reliability::Durable).build().unwrap()
    }

    /// Sends messages from the sender to the receiver.
    fn send(&mut self, contents: &[&str]) {
        let messages: Vec<Message> = contents.iter().map(|content| self.message(content).build().unwrap()).collect();
        self.send_all(messages);
    }

    /// Sends a message from the sender to another agent.
    fn send_to(&mut self, receiver: AgentId) {
        self.send_all([inform(self.sender, receiver, "x").build().unwrap()]);
    }

    fn send_all(&mut self, messages: impl IntoIterator<Item = Message>) {
        for message in messages {
            self.world.send(message).unwrap();
        }
        self.world.run();
    }

    /// Returns the agents that the shards look for, each once.
    fn take_wanted(&mut self) -> Vec<AgentId> {
        self.world.nodes.iter_mut().flat_map(|node| std::mem::take(&mut node.wanted)).collect()
    }

    /// Responds that no node has the receiver.
    fn give_up(&mut self) {
        self.give_up_agent(self.receiver);
    }

    fn give_up_agent(&mut self, agent: AgentId) {
        let shard = self.world.shard_of(agent);
        self.world.give(shard, Input::Unwanted { agent, why: "no node has it".into() });
        self.world.run();
    }

    /// Responds that another node has the receiver: registers its proxy.
    fn add_proxy(&mut self) {
        let registration = Registration::outside(self.receiver_name.clone(), INBOX, WINDOW).acknowledged().proxy();
        assert_eq!(self.world.register(registration), self.receiver);
    }

    /// Returns what the proxy's inbox received.
    fn take_delivered(&mut self) -> Vec<Message> {
        self.world.run();
        self.world.take_delivered(self.receiver_shard)
    }

    /// Acknowledges messages that the proxy's inbox received.
    fn acknowledge(&mut self, numbers: &[u64]) {
        let input = Input::Acknowledged { agent: self.receiver, inbox: INBOX, numbers: numbers.to_vec() };
        self.world.give(self.receiver_shard, input);
        self.world.run();
    }

    /// Returns how many messages were dead-lettered because no node has their receiver.
    fn unknown_receivers(&self) -> u64 {
        self.world.dead(DeadLetterReason::UnknownReceiver)
    }

    /// Commits and runs until nothing more happens at the current time.
    fn settle(&mut self) {
        for _ in 0..10 {
            self.world.run();
            for shard in 0..self.world.nodes.len() {
                self.world.commit_next(shard, u64::MAX);
            }
        }
        self.world.run();
    }
}

#[test]
fn an_agent_that_is_not_registered_is_looked_for_once_and_gets_its_messages_in_order() {
    for shard in 0..2 {
        let mut fixture = Fixture::start(looking(2), shard);
        let receiver = fixture.receiver;
        fixture.send(&["0", "1", "2", "3", "4"]);
        assert_eq!(fixture.take_wanted(), [receiver]);
        let view = fixture.world.view(receiver).unwrap();
        assert_eq!((view.kind, view.mailbox_messages), (Some(AgentKind::Absent), 5));
        fixture.add_proxy();
        assert!(fixture.take_delivered().iter().map(text).eq(["0", "1", "2", "3", "4"]));
        assert_eq!((fixture.take_wanted().len(), fixture.told.len()), (0, 0));
        fixture.world.give(shard.into(), Input::Taken { agent: receiver, inbox: INBOX, messages: 5, notices: 0 });
        fixture.world.run();
        assert_eq!(fixture.world.total().processed, 5);
        fixture.world.assert_settled();
    }
}

#[test]
fn an_agent_that_is_registered_here_meanwhile_gets_what_waits_for_it() {
    let mut fixture = Fixture::start(looking(1), 0);
    let receiver = fixture.receiver;
    fixture.send(&["one"]);
    let log = Log::new();
    fixture.world.register(Script::listener(&log).registration(fixture.receiver_name.clone()));
    fixture.world.run();
    assert_eq!(log.texts(), ["one"]);
    // The responses of the other nodes come too late.
    fixture.give_up();
    fixture.send(&["two"]);
    assert_eq!(log.texts(), ["one", "two"]);
    assert_eq!(fixture.take_wanted(), [receiver], "it was looked for once");
    fixture.world.assert_settled();
}

#[test]
fn what_waits_for_an_agent_that_no_node_has_is_given_up_and_the_next_message_looks_again() {
    for shard in 0..2 {
        let mut fixture = Fixture::start(looking(2), shard);
        let receiver = fixture.receiver;
        for round in 1..=2 {
            fixture.send(&["x"; 3]);
            assert_eq!(fixture.take_wanted(), [receiver]);
            fixture.give_up();
            assert_eq!(fixture.unknown_receivers(), 3 * round);
        }
        let notices = fixture.told.notices();
        assert_eq!(notices.len(), 6);
        assert!(notices.iter().all(|notice| notice.contains("unknown-receiver") && notice.contains("no node has it")));
        let agents = fixture.world.snapshot(shard.into()).agents;
        assert_eq!((fixture.world.view(receiver), agents), (None, usize::from(shard == 0)));
        let letters = fixture.world.dead_letters(shard.into());
        assert_eq!(letters[0].last_error.as_deref(), Some("no node has it"));
        fixture.world.assert_settled();
    }
}

#[test]
fn without_other_nodes_nobody_is_looked_for() {
    let mut fixture = Fixture::start(Setup::new(1), 0);
    fixture.send(&["x"]);
    fixture.world.give(0, Input::WantAbsent);
    fixture.give_up();
    assert_eq!((fixture.take_wanted().len(), fixture.unknown_receivers(), fixture.told.len()), (0, 1, 1));
    fixture.world.assert_settled();
}

#[test]
fn a_former_agent_is_looked_for_and_its_end_is_the_reason_if_nobody_has_it() {
    let mut fixture = Fixture::start(looking(1), 0);
    let former = fixture.world.add(0, "former", Script::idle());
    assert!(fixture.world.deregister(former));
    fixture.send_to(former);
    assert_eq!(fixture.take_wanted(), [former]);
    fixture.give_up_agent(former);
    assert_eq!((fixture.world.dead(DeadLetterReason::Deregistered), fixture.told.len()), (1, 1));
    assert_eq!(fixture.world.view(former).unwrap().stopped_because, Some(StopReason::Deregistered));
}

#[test]
fn the_router_itself_is_not_looked_for() {
    let mut fixture = Fixture::start(looking(1), 0);
    fixture.send_to(AgentId::of_text(AMS));
    assert_eq!((fixture.take_wanted().len(), fixture.unknown_receivers()), (0, 1));
}

#[test]
fn so_many_agents_are_looked_for_at_a_time_and_messages_for_others_are_dead_letters() {
    let setup = looking(1).configured(|config| config.outbox = 10_000.try_into().unwrap());
    let mut fixture = Fixture::start(setup, 0);
    let agent = |number: usize| AgentId::of_text(&format!("stranger-{number}"));
    for number in 0..=WANTED_MAX {
        fixture.world.tell(inform(fixture.sender, agent(number), "x").build().unwrap());
    }
    fixture.world.run();
    assert_eq!(fixture.take_wanted().len(), WANTED_MAX);
    let notices = fixture.told.notices();
    assert!(notices.len() == 1 && notices[0].contains("looks for 4096 agents"), "{notices:?}");
    // The end of a search makes room for another one.
    fixture.give_up_agent(agent(0));
    fixture.send_to(agent(WANTED_MAX));
    assert_eq!(fixture.take_wanted(), [agent(WANTED_MAX)]);
}

#[test]
fn the_mailbox_of_an_agent_that_is_looked_for_has_the_limits_of_any_and_its_messages_expire() {
    let setup = looking(1).configured(|config| config.mailbox_messages = 2.try_into().unwrap());
    let mut fixture = Fixture::start(setup, 0);
    let receiver = fixture.receiver;
    let message = fixture.message("x").time_to_live(lifetime(1_000)).build().unwrap();
    fixture.send_all([message.clone(), message.clone(), message.clone()]);
    assert_eq!(fixture.world.dead(DeadLetterReason::MailboxFull), 1);
    fixture.world.advance(2_100);
    assert_eq!(fixture.world.total().expired, 2);
    fixture.world.assert_settled();
    // It is still looked for.
    fixture.send_all([message]);
    assert_eq!(fixture.take_wanted(), [receiver]);
    fixture.give_up();
    assert_eq!(fixture.unknown_receivers(), 1);
    fixture.world.assert_settled();
}

#[test]
fn senders_that_wait_for_an_agent_in_vain_go_on() {
    for shard in 0..2 {
        let setup = looking(2).configured(|config| {
            config.mailbox_messages = 2.try_into().unwrap();
            config.overflow = OverflowPolicy::BackPressure;
        });
        let mut fixture = Fixture::start(setup, shard);
        let receiver = fixture.receiver;
        for _ in 0..6 {
            fixture.world.tell(fixture.message("x").build().unwrap());
        }
        fixture.world.run();
        assert_eq!(fixture.take_wanted(), [receiver]);
        // The messages that waited at their sender arrive when there is room, and the receiver is looked for again.
        let mut given_up = 0;
        loop {
            fixture.give_up();
            given_up += 1;
            if fixture.take_wanted().is_empty() {
                break;
            }
            assert!(given_up < 10, "it ends");
        }
        assert_eq!((fixture.unknown_receivers(), fixture.told.len()), (6, 6));
        fixture.world.assert_settled();
    }
}

#[test]
fn a_delayed_message_for_an_agent_that_was_given_up_is_for_an_unknown_receiver() {
    let mut fixture = Fixture::start(looking(1), 0);
    let receiver = fixture.receiver;
    let delayed = fixture.message("x").deliver_at(at(5_000)).build().unwrap();
    fixture.send_all([delayed]);
    assert_eq!(fixture.take_wanted(), [receiver]);
    fixture.give_up();
    fixture.world.advance(5_100);
    assert_eq!(fixture.unknown_receivers(), 1);
    fixture.world.assert_settled();
}

#[test]
fn a_draining_router_looks_for_nobody_and_gives_up_whom_it_looks_for() {
    let mut fixture = Fixture::start(looking(2), 1);
    let receiver = fixture.receiver;
    let other = AgentId::of(&fixture.world.name_on(0, "other"));
    let resend = Script::new(move |message, context| {
        let copy = inform(context.id(), other, "late").build().unwrap();
        if is_notice(message) {
            Outcome::Done
        } else {
            context.send(copy).map_or(Outcome::failed("full"), |_| Outcome::Done)
        }
    });
    let late = fixture.world.add(0, "late", resend);
    fixture.world.suspend(late).unwrap();
    fixture.send(&["x"]);
    fixture.send_to(late);
    assert_eq!(fixture.take_wanted(), [receiver]);
    fixture.world.drain_all();
    assert_eq!((fixture.unknown_receivers(), fixture.told.len()), (1, 1));
    fixture.world.resume(late).unwrap();
    fixture.world.run();
    assert_eq!((fixture.take_wanted().len(), fixture.unknown_receivers()), (0, 2));
    fixture.world.assert_settled();
}

#[test]
fn a_stop_gives_up_what_waits_for_agents_that_are_looked_for() {
    let mut fixture = Fixture::start(looking(1), 0);
    fixture.send(&["x"]);
    fixture.world.stop_all();
    fixture.give_up();
    assert_eq!((fixture.world.dead(DeadLetterReason::Stopped), fixture.world.total().pending), (1, 0));
}

/// Registers a persistent agent that is not called.
fn add_persistent(world: &mut World) -> AgentId {
    let name = world.name_on(0, "persistent");
    let persistent = world.register(Registration::outside(name, InboxNumber(9), 1).persistent());
    world.suspend(persistent).unwrap();
    persistent
}

#[test]
fn durable_messages_for_an_agent_that_is_looked_for_survive_a_restart_and_can_be_looked_for_again() {
    let mut earlier = Fixture::start(journalled(1), 0);
    let persistent = add_persistent(&mut earlier.world);
    let for_persistent = inform(earlier.sender, persistent, "three").reliability(Reliability::Durable);
    for message in [earlier.durable("one"), earlier.durable("two"), for_persistent.build().unwrap()] {
        earlier.world.send_later(message);
    }
    earlier.settle();
    let kept = earlier.world.nodes[0].records.len() as u64;
    let recovery = earlier.world.journals(&[kept], 100);
    let wall = WallTime(WALL_START_MS + earlier.world.now_ms);
    let mut fixture = Fixture { world: journalled(2).start_from(recovery, wall), ..earlier };
    let receiver = fixture.receiver;
    fixture.settle();
    assert_eq!(fixture.take_wanted(), [], "whoever has other nodes to ask says when");
    fixture.world.give(0, Input::WantAbsent);
    fixture.world.give(0, Input::WantAbsent);
    fixture.settle();
    assert_eq!(fixture.take_wanted(), [receiver], "a persistent agent waits for its registration");
    fixture.give_up();
    assert_eq!(fixture.unknown_receivers(), 0, "its node may not have started yet");
    fixture.world.give(0, Input::WantAbsent);
    fixture.settle();
    assert_eq!(fixture.take_wanted(), [receiver]);
    fixture.add_proxy();
    fixture.settle();
    assert!(fixture.take_delivered().iter().map(text).eq(["one", "two"]));
    fixture.acknowledge(&[2, 1]);
    fixture.settle();
    assert_eq!((fixture.world.total().processed, fixture.world.total().pending), (2, 1));
}

#[test]
fn draining_leaves_durable_messages_for_an_agent_that_is_looked_for_to_the_next_start() {
    let mut fixture = Fixture::start(journalled(1), 0);
    fixture.world.send_later(fixture.durable("x"));
    fixture.settle();
    fixture.world.send(fixture.message("y").build().unwrap()).unwrap();
    fixture.world.drain_all();
    fixture.settle();
    let total = fixture.world.total();
    assert_eq!((total.kept, fixture.unknown_receivers(), total.pending), (1, 1, 0));
}

#[test]
fn a_proxy_sends_no_receipts() {
    for shard in 0..2 {
        for is_wanted_first in [false, true] {
            let mut fixture = Fixture::start(looking(2), shard);
            if !is_wanted_first {
                fixture.add_proxy();
            }
            let messages = [Receipt::Delivered, Receipt::Processed]
                .map(|receipt| fixture.message("x").receipt(receipt).build().unwrap());
            fixture.send_all(messages);
            if is_wanted_first {
                fixture.add_proxy();
            }
            assert_eq!(fixture.take_delivered().len(), 2);
            fixture.acknowledge(&[1, 2]);
            assert_eq!((fixture.world.total().processed, fixture.told.notices()), (2, Vec::new()));
            fixture.world.assert_settled();
        }
    }
}

#[test]
fn the_agent_registered_here_meanwhile_sends_the_receipts_of_what_waited() {
    let mut fixture = Fixture::start(looking(1), 0);
    let messages = [Receipt::Delivered, Receipt::Processed, Receipt::None]
        .map(|receipt| fixture.message("x").receipt(receipt).build().unwrap());
    fixture.send_all(messages);
    assert_eq!(fixture.told.notices(), Vec::<String>::new());
    fixture.world.register(Script::idle().registration(fixture.receiver_name.clone()));
    fixture.world.run();
    let notices = fixture.told.notices();
    assert!(notices.len() == 2 && notices[0].contains("delivered") && notices[1].contains("processed"), "{notices:?}");
    fixture.world.assert_settled();
}

#[test]
fn the_failure_of_what_a_proxy_does_not_finish_is_told_to_its_sender() {
    let mut fixture = Fixture::start(looking(1), 0);
    fixture.add_proxy();
    fixture.send(&["x"]);
    let message = fixture.take_delivered().remove(0);
    let rejection = Rejection { number: 1, message, why: "its node refuses it".into() };
    fixture.world.give(0, Input::Rejected { agent: fixture.receiver, inbox: INBOX, messages: vec![rejection] });
    fixture.world.run();
    assert!(fixture.told.notices()[0].contains("its node refuses it"));
    fixture.world.assert_settled();
}

#[test]
fn a_proxy_is_seen_as_one_and_its_name_is_taken() {
    let mut fixture = Fixture::start(looking(1), 0);
    fixture.add_proxy();
    let name = fixture.receiver_name.clone();
    let world = &mut fixture.world;
    assert_eq!(world.view(fixture.receiver).unwrap().kind, Some(AgentKind::Proxy));
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
    let mut fixture = Fixture::start(looking(1), 0);
    let receiver = fixture.receiver;
    fixture.add_proxy();
    assert!(fixture.world.deregister(receiver));
    assert_eq!(fixture.world.view(receiver), None);
    fixture.send(&["x"]);
    assert_eq!(fixture.take_wanted(), [receiver]);
    fixture.give_up();
    assert_eq!(fixture.unknown_receivers(), 1);
}

/// Returns a failure as another node's router reports it.
fn failure(to: AgentId, in_reply_to: Correlation) -> Message {
    let builder = Message::builder(Performative::Failure).sender(AgentId::of_text(AMS)).receiver(to);
    builder.in_reply_to(in_reply_to).content("((request m1) (mailbox-full \"far away\"))").build().unwrap()
}

#[test]
fn the_notice_of_another_router_reaches_its_agent_from_either_shard() {
    for shard in 0..2 {
        let mut world = looking(2).start();
        let (agent, told) = world.add_listener(1, "agent");
        world.give(shard, Input::Notice(failure(agent, Correlation::of_text("r"))));
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
    let mut fixture = Fixture::start(looking(1), 0);
    fixture.world.give(0, Input::Notice(failure(fixture.receiver, Correlation::of_text("r"))));
    fixture.world.run();
    let total = fixture.world.total();
    assert_eq!((total.notices, total.notices_coalesced, fixture.take_wanted().len()), (1, 1, 0));
    fixture.world.assert_settled();
}

#[test]
fn the_failure_of_a_question_to_another_node_ends_it() {
    let mut fixture = Fixture::start(looking(1), 0);
    fixture.add_proxy();
    let question = Message::builder(Performative::Request).receiver(fixture.receiver).content("x").build().unwrap();
    let asked = fixture.world.ask(0, question, 10_000);
    let message = fixture.take_delivered().remove(0);
    let gateway = message.sender().unwrap();
    fixture.world.give(0, Input::Notice(failure(gateway, message.reply_with().unwrap())));
    fixture.world.run();
    let Err(AskError::Undeliverable(error)) = fixture.world.take_reply(0, asked).unwrap() else { panic!("it failed") };
    assert!(error.explanation().contains("far away"));
}

#[test]
fn the_failure_of_an_agents_question_to_another_node_ends_its_wait() {
    let mut fixture = Fixture::start(looking(1), 0);
    fixture.add_proxy();
    let correlation = Correlation::of_text("r1");
    let question = request(fixture.sender, fixture.receiver, "x").reply_with(correlation).reply_by(at(5_000));
    fixture.send_all([question.build().unwrap()]);
    assert_eq!(fixture.world.snapshot(0).questions, 1);
    fixture.world.give(0, Input::Notice(failure(fixture.sender, correlation)));
    fixture.world.run();
    assert_eq!((fixture.world.snapshot(0).questions, fixture.told.len()), (0, 1));
    fixture.world.advance(6_000);
    assert_eq!(fixture.told.len(), 1, "it is not told again that there is no reply");
}

#[test]
fn a_dead_letter_is_sent_again_to_an_agent_of_another_node() {
    let mut fixture = Fixture::start(looking(1), 0);
    fixture.send(&["x"]);
    fixture.give_up();
    let token = fixture.world.token();
    fixture.world.give(0, Input::ReplayDeadLetters(Box::default(), None, token));
    fixture.world.run();
    fixture.take_wanted();
    fixture.add_proxy();
    assert_eq!(fixture.take_delivered().len(), 1);
    let Some(Answer::DeadLettersReplayed(portion)) = fixture.world.take_answer(0, token) else {
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
