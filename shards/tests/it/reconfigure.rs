//! Protocols, plugins and limits are replaced while a shard runs: what has begun keeps what it began with.

use caxton_shards::api::{
    Answer, Input, LiveConfig, LiveLimits, PluginMaker, ProtocolFigures, REPLACED_PROTOCOLS_MAX, RoutePlugin,
    SendErrorKind, Verdict,
};
use caxton_shards::dead_letter::DeadLetterReason;
use caxton_shards::message::{AgentId, ConversationId, ConversationRole, Message, Performative};
use caxton_shards::protocol::{Act, Definition, Mode, Rulebook, Side, StepDefinition};

use crate::common::{Script, Setup, World, inform};

const HAGGLE: &str = "house-haggle";

/// Returns a protocol in which a request is followed by one of these acts.
fn haggle(replies: &[Performative]) -> Definition {
    let step =
        |from: &str, by, act, to: &str| StepDefinition { from: from.into(), by, act: Act::Is(act), to: to.into() };
    let mut steps = vec![step("idle", Side::Initiator, Performative::Request, "asked")];
    steps.extend(replies.iter().map(|act| step("asked", Side::Participant, *act, "answered")));
    Definition {
        name: HAGGLE.into(),
        aliases: Vec::new(),
        source: "this test".into(),
        start: "idle".into(),
        ends: vec!["answered".into()],
        steps,
        others_speak: false,
    }
}

fn rulebook(mode: Mode, own: &[Definition]) -> Rulebook {
    Rulebook::new(Mode::Off, &own.iter().map(|own| (own.name.clone(), mode)).collect::<Vec<_>>(), own).unwrap()
}

/// A shard with two agents, and its configuration.
struct Replaced {
    world: World,
    live: LiveConfig,
    pair: [AgentId; 2],
}

impl Replaced {
    fn start(protocols: Rulebook) -> Self {
        let setup = Setup::new(1).configured(|config| {
            config.protocols = protocols.clone();
            config.conversations.open_max = 2 * REPLACED_PROTOCOLS_MAX;
        });
        let mut world = setup.start();
        let pair = ["initiator", "participant"].map(|name| world.add(0, name, Script::idle()));
        Self { world, live: LiveConfig::new(Vec::new().into(), protocols), pair }
    }

    fn replace(&mut self, change: impl FnOnce(&mut LiveConfig)) {
        change(&mut self.live);
        self.live.advance();
        let token = self.world.token();
        self.world.give(0, Input::Reconfigure(Box::new(self.live.clone()), Some(token)));
        self.world.run();
        assert!(matches!(self.world.take_answer(0, token), Some(Answer::Reconfigured)));
    }

    fn replace_protocols(&mut self, protocols: Rulebook) {
        self.replace(|live| live.protocols = protocols);
    }

    /// Asks something in a conversation.
    fn ask(&mut self, conversation: &str) -> bool {
        let message = Message::builder(Performative::Request).sender(self.pair[0]).receiver(self.pair[1]);
        self.passes(message.conversation(ConversationId::of_text(conversation)).protocol(HAGGLE).build().unwrap())
    }

    /// Replies in a conversation. Returns whether that was let pass.
    fn reply(&mut self, conversation: &str, act: Performative) -> bool {
        let message = Message::builder(act).sender(self.pair[1]).receiver(self.pair[0]);
        let id = ConversationId::of_text(conversation);
        self.passes(message.conversation_as(id, ConversationRole::Participant).protocol(HAGGLE).build().unwrap())
    }

    fn passes(&mut self, message: Message) -> bool {
        let refused = self.world.dead(DeadLetterReason::ProtocolViolation);
        self.world.send(message).unwrap();
        self.world.run();
        self.world.dead(DeadLetterReason::ProtocolViolation) == refused
    }

    fn figures(&mut self) -> Option<ProtocolFigures> {
        let details = self.world.nodes[0].shard.details();
        details.protocols.into_iter().find(|figures| &*figures.name == HAGGLE)
    }
}

#[test]
fn a_conversation_keeps_the_protocol_with_which_it_began() {
    use Performative::{Inform, Propose};
    let [first, second] = [Inform, Propose].map(|reply| rulebook(Mode::Enforce, &[haggle(&[reply])]));
    let mut shard = Replaced::start(first.clone());
    assert!(shard.ask("begun before"));
    shard.replace_protocols(second);
    assert!(shard.ask("begun after"));
    assert!(!shard.reply("begun before", Propose) && !shard.reply("begun after", Inform));
    let figures = shard.figures().expect("it is checked");
    assert_eq!((figures.open, figures.begun, figures.refused), (2, 2, [2, 0]), "one name, one protocol");
    assert!(shard.reply("begun before", Inform) && shard.reply("begun after", Propose));
    shard.world.nodes[0].shard.count_states();
    shard.world.run();
    let states = shard.figures().expect("it is checked").states;
    assert_eq!(states.iter().map(|state| (&*state.name, state.open)).collect::<Vec<_>>(), [("answered", 2)]);
    // The first one again is one more: what begins now follows it, and the others what they began with.
    shard.replace_protocols(first);
    assert!(shard.ask("begun at last") && shard.reply("begun at last", Inform));
    shard.world.advance(60_000);
    let figures = shard.figures().expect("it is checked");
    assert_eq!((figures.open, figures.begun, figures.refused), (0, 3, [2, 0]));
    shard.world.assert_settled();
}

#[test]
fn a_conversation_that_began_unchecked_stays_so() {
    let mut shard = Replaced::start(Rulebook::default());
    assert!(shard.ask("begun before"));
    shard.replace_protocols(rulebook(Mode::Enforce, &[haggle(&[Performative::Inform])]));
    assert!(shard.reply("begun before", Performative::Propose) && shard.ask("begun before"));
    assert!(shard.ask("begun after") && !shard.reply("begun after", Performative::Propose));
    assert_eq!(shard.figures().map(|figures| (figures.open, figures.begun)), Some((1, 1)));
}

#[test]
fn a_protocol_that_is_gone_holds_until_its_conversations_end() {
    let checked = rulebook(Mode::Enforce, &[haggle(&[Performative::Inform])]);
    let mut shard = Replaced::start(checked.clone());
    assert!(shard.ask("begun before"));
    shard.replace_protocols(Rulebook::default());
    assert!(!shard.reply("begun before", Performative::Propose));
    assert!(shard.ask("begun after") && shard.reply("begun after", Performative::Propose));
    shard.world.advance(60_000);
    assert_eq!(shard.figures(), None, "nothing follows it any more");
    // An unchanged definition goes on as it is.
    shard.replace_protocols(checked.clone());
    assert!(shard.ask("checked"));
    shard.replace(|live| live.protocols = rulebook(Mode::Enforce, &[haggle(&[Performative::Inform])]));
    assert!(!shard.reply("checked", Performative::Propose));
    assert_eq!(shard.figures().map(|figures| (figures.open, figures.begun)), Some((1, 1)));
    shard.world.assert_settled();
}

#[test]
fn what_was_replaced_first_is_given_up_when_too_many_definitions_are_kept() {
    let replies = [Performative::Inform, Performative::Propose];
    let [even, odd] = replies.map(|reply| rulebook(Mode::Enforce, &[haggle(&[reply])]));
    let mut shard = Replaced::start(even.clone());
    for number in 0..=REPLACED_PROTOCOLS_MAX {
        assert!(shard.ask(&format!("conversation {number}")));
        shard.replace_protocols(if number % 2 == 0 { odd.clone() } else { even.clone() });
    }
    assert!(shard.reply("conversation 0", Performative::Failure), "it is no longer checked");
    assert!(
        !shard.reply("conversation 1", Performative::Inform) && shard.reply("conversation 1", Performative::Propose)
    );
    let last = format!("conversation {REPLACED_PROTOCOLS_MAX}");
    assert!(!shard.reply(&last, Performative::Propose) && shard.reply(&last, Performative::Inform));
    shard.world.assert_settled();
}

/// Refuses everything, and says which number it has.
struct Refusing(u32);

impl RoutePlugin for Refusing {
    fn name(&self) -> &'static str {
        "refusing"
    }

    fn judge(&mut self, _: &Message) -> Verdict {
        self.0 += 1;
        Verdict::Refuse(self.0.to_string().into())
    }
}

#[test]
fn plugins_are_replaced_with_their_state_only_when_they_change() {
    let mut shard = Replaced::start(Rulebook::default());
    let pair = shard.pair;
    let send = |shard: &mut Replaced| match shard.world.send(inform(pair[0], pair[1], "x").build().unwrap()) {
        Ok(_) => None,
        Err(error) => match error.kind() {
            SendErrorKind::RefusedByPlugin { reason, .. } => Some(reason.to_string()),
            other => panic!("{other}"),
        },
    };
    assert_eq!(send(&mut shard), None);
    let refusing = |first| PluginMaker::new(move || vec![Box::new(Refusing(first)) as Box<dyn RoutePlugin>]);
    shard.replace(|live| live.plugins = Some(refusing(0)));
    assert_eq!(send(&mut shard).as_deref(), Some("1"));
    shard.replace(|live| live.rules = Vec::new().into());
    assert_eq!(send(&mut shard).as_deref(), Some("2"), "it is the same instance");
    shard.replace(|live| live.plugins = Some(refusing(10)));
    assert_eq!(send(&mut shard).as_deref(), Some("11"));
    shard.replace(|live| live.plugins = Some(PluginMaker::new(Vec::new)));
    assert_eq!(send(&mut shard), None);
}

#[test]
fn limits_are_those_of_what_comes_next() {
    let mut shard = Replaced::start(Rulebook::default());
    let [sender, receiver] = shard.pair;
    shard.world.suspend(receiver).unwrap();
    let send = |shard: &mut Replaced, content: &str| {
        let sent = shard.world.send(inform(sender, receiver, content).build().unwrap());
        shard.world.run();
        sent.map_err(|error| error.kind().clone())
    };
    for _ in 0..3 {
        send(&mut shard, "waits").unwrap();
    }
    let mut limits = LiveLimits {
        mailbox_messages: 2.try_into().unwrap(),
        mailbox_bytes: (1 << 20).try_into().unwrap(),
        message_timeout: 5_000.try_into().unwrap(),
        content_max: 1_024.try_into().unwrap(),
        batch: 2.try_into().unwrap(),
        turn_quota: 2.try_into().unwrap(),
        conversation_timeout_ms: 2_000,
        participants_max: 2,
    };
    shard.replace(|live| live.limits = Some(limits));
    assert_eq!(shard.world.dead(DeadLetterReason::MailboxFull), 0, "what was accepted stays");
    send(&mut shard, "one too many").unwrap();
    assert_eq!(shard.world.dead(DeadLetterReason::MailboxFull), 1);
    let refused = send(&mut shard, &"x".repeat(1_025));
    assert_eq!(refused, Err(SendErrorKind::ContentTooLarge { bytes: 1_025, limit: 1_024 }));
    limits.mailbox_messages = 5.try_into().unwrap();
    shard.replace(|live| live.limits = Some(limits));
    send(&mut shard, "there is room again").unwrap();
    assert_eq!(shard.world.dead(DeadLetterReason::MailboxFull), 1);
    // It lives for five seconds, and the earlier ones for thirty.
    shard.world.advance(10_000);
    assert_eq!(shard.world.total().expired, 1);
    shard.world.resume(receiver).unwrap();
    shard.world.run();
    assert_eq!(shard.world.total().processed, 3);
    // A conversation that begins now ends after two seconds without traffic.
    assert!(shard.ask("short"));
    shard.world.advance(2_500);
    assert!(shard.world.nodes[0].shard.snapshot().conversations == 0);
    shard.world.assert_settled();
}
