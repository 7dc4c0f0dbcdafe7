//! Random walks through the FIPA protocols: agents that follow a protocol as far as they know it are not refused,
//! although each reads late what the other has sent; and forbidden messages are refused.
//!
//! Each side is played by the text of its standard, not by the router's tables.

use std::collections::VecDeque;

use caxton_shards::dead_letter::DeadLetterReason;
use caxton_shards::domain::AgentName;
use caxton_shards::message::{AgentId, Aid, ConversationId, ConversationRole, Message, MessageBuilder, Performative};
use caxton_shards::protocol::{Mode, Side, library_names};

use crate::common::{Dice, Script, World};

/// Number of walks through each protocol.
const WALKS: u64 = 150;
/// Number of turns of one walk.
const TURNS: usize = 30;
/// Maximum number of calls of one auction, or of one iterated contract net.
const CALLS_MAX: u32 = 4;

/// What one side of an exchange knows: what it sent and what it has read.
#[derive(Clone, Copy, Debug, Default)]
#[allow(clippy::struct_excessive_bools)] // Each is a message that was sent or read.
struct Mind {
    /// The number of its messages, except cancels.
    said: u32,
    calls: u32,
    /// Calls, proposals or cancels of the other side that it has read and not answered.
    open: u32,
    cancels: u32,
    asked: bool,
    agreed: bool,
    accepted: bool,
    closed: bool,
    requested: bool,
    over: bool,
}

impl Mind {
    /// Returns what it may send next.
    fn moves(&self, protocol: &str, side: Side) -> Vec<&'static str> {
        match side {
            Side::Initiator => self.moves_of_initiator(protocol),
            Side::Participant => self.moves_of_participant(protocol),
        }
    }

    fn moves_of_initiator(&self, protocol: &str) -> Vec<&'static str> {
        let mut moves = Vec::new();
        if self.over {
            return moves;
        }
        let first = self.said == 0;
        match protocol {
            "fipa-request" if first => moves.push("request"),
            "fipa-query" if first => moves.extend(["query-if", "query-ref"]),
            "fipa-request-when" if first => moves.push("request-when"),
            "fipa-propose" if first => moves.push("propose"),
            "fipa-subscribe" if first => moves.push("subscribe"),
            "fipa-brokering" | "fipa-recruiting" if first => moves.push("proxy"),
            "fipa-brokering" if self.open > 0 => moves.extend(["accept-proposal", "reject-proposal", "inform"]),
            "fipa-contract-net" | "fipa-iterated-contract-net" if first => moves.push("cfp"),
            "fipa-contract-net" if self.open > 0 => moves.extend(["accept-proposal", "reject-proposal"]),
            "fipa-iterated-contract-net" => {
                // `closed` stands for a decision, or a refusal.
                if self.open > 0 {
                    moves.push("reject-proposal");
                }
                if self.open > 0 && !self.closed {
                    moves.push("accept-proposal");
                }
                if !self.closed && self.calls < CALLS_MAX {
                    moves.push("cfp");
                }
            }
            "fipa-english-auction" | "fipa-dutch-auction" if first => moves.push("inform"),
            "fipa-english-auction" => {
                if !self.closed && !self.requested && self.calls < CALLS_MAX {
                    moves.push("cfp");
                }
                if self.open > 0 {
                    moves.push("reject-proposal");
                    if !self.closed && !self.requested {
                        moves.push("accept-proposal");
                    }
                }
                if !self.closed {
                    moves.push("inform");
                }
                if self.accepted && !self.requested && (self.closed || self.agreed) {
                    moves.push("request");
                }
            }
            "fipa-dutch-auction" => {
                if !self.closed && !self.accepted && self.calls < CALLS_MAX {
                    moves.push("cfp");
                }
                if self.open > 0 {
                    moves.push("reject-proposal");
                    if !self.closed {
                        moves.push("accept-proposal");
                    }
                }
                if !self.closed {
                    moves.push("inform");
                }
            }
            _ => {}
        }
        moves
    }

    fn moves_of_participant(&self, protocol: &str) -> Vec<&'static str> {
        let mut moves = Vec::new();
        if self.over {
            return moves;
        }
        match protocol {
            "fipa-request-when" | "fipa-brokering" | "fipa-recruiting" if self.asked && !self.agreed => {
                moves.extend(["agree", "refuse"]);
            }
            "fipa-request" | "fipa-query" | "fipa-subscribe" if self.asked && !self.agreed => {
                moves.extend(["agree", "refuse", "failure", "inform"]);
            }
            "fipa-request" | "fipa-query" | "fipa-request-when" | "fipa-subscribe" if self.agreed => {
                moves.extend(["inform", "failure"]);
            }
            "fipa-brokering" if self.agreed => moves.extend(["inform", "propose", "failure"]),
            "fipa-recruiting" if self.agreed => {
                moves.extend(if self.closed { &["failure"][..] } else { &["inform", "failure"] });
            }
            "fipa-propose" if self.asked => moves.extend(["accept-proposal", "reject-proposal"]),
            "fipa-contract-net" | "fipa-iterated-contract-net" if self.accepted => moves.extend(["inform", "failure"]),
            "fipa-contract-net" | "fipa-iterated-contract-net" if self.open > 0 => moves.extend(["propose", "refuse"]),
            "fipa-english-auction" if self.requested && self.agreed => moves.extend(["inform", "failure"]),
            "fipa-english-auction" if self.requested => moves.extend(["agree", "refuse", "inform", "failure"]),
            "fipa-english-auction" if self.open > 0 && !self.closed => moves.push("propose"),
            "fipa-dutch-auction" if self.open > 0 && !self.closed && !self.accepted && !self.asked => {
                moves.push("propose");
            }
            _ => {}
        }
        moves
    }

    fn say(&mut self, protocol: &str, side: Side, act: &str) {
        self.said += 1;
        let rounds = protocol == "fipa-iterated-contract-net";
        match (side, act) {
            (Side::Initiator, "cfp") => {
                self.calls += 1;
                self.agreed = false;
                // Another call answers the proposals that were read.
                self.open = if rounds { 0 } else { self.open };
            }
            (Side::Initiator, "accept-proposal" | "reject-proposal") => {
                self.open -= 1;
                self.accepted |= act == "accept-proposal";
                // In an auction, the winner is asked to take what it bought before the auction is closed.
                self.agreed = act == "accept-proposal";
                self.closed |= rounds || (protocol == "fipa-contract-net");
            }
            (Side::Initiator, "inform") if protocol.ends_with("auction") => self.closed |= self.said > 1,
            (Side::Initiator, "request") => self.requested = true,
            (Side::Participant, "agree") => self.agreed = true,
            (Side::Participant, "propose" | "refuse") if rounds => self.open -= 1,
            (Side::Participant, "propose") if protocol == "fipa-dutch-auction" => (self.open, self.asked) = (0, true),
            (Side::Participant, "propose") if self.open > 0 => self.open -= 1,
            (Side::Participant, "inform") if protocol == "fipa-subscribe" => self.agreed = true,
            (Side::Participant, "inform") if protocol == "fipa-recruiting" => self.closed = true,
            (Side::Participant, "inform" | "propose") if protocol == "fipa-brokering" => self.closed = true,
            (Side::Participant, "failure") if protocol == "fipa-brokering" => self.over = !self.closed,
            (Side::Participant, "failure" | "refuse" | "inform" | "accept-proposal" | "reject-proposal") => {
                self.over = true;
            }
            _ => {}
        }
    }

    fn hear(&mut self, protocol: &str, side: Side, act: &str) {
        let auction = protocol.ends_with("auction");
        match (side, act) {
            (Side::Participant, "cancel") => self.cancels += 1,
            (Side::Participant, "cfp") | (Side::Initiator, "propose") => self.open += 1,
            (Side::Participant, "accept-proposal") => self.accepted = true,
            (Side::Participant, "reject-proposal") if protocol == "fipa-dutch-auction" => self.asked = false,
            (Side::Participant, "inform") if auction && self.closed => {}
            (Side::Participant, "inform") if auction => self.closed = self.calls > 0,
            (Side::Participant, "request") if auction => self.requested = true,
            (
                Side::Participant,
                "request" | "query-if" | "query-ref" | "request-when" | "proxy" | "subscribe" | "propose",
            ) => {
                self.asked = true;
            }
            (Side::Initiator, "refuse") => self.closed |= protocol == "fipa-iterated-contract-net",
            _ => {}
        }
        // The first message read in an auction is its opening.
        self.calls += u32::from(side == Side::Participant);
    }
}

/// A message, and the turn in which it was sent.
#[derive(Clone, Copy)]
struct Said {
    act: &'static str,
    turn: usize,
}

/// One exchange of the initiator with a participant.
struct Leg {
    participant: AgentId,
    minds: [Mind; 2],
    /// Unread messages of each side: the initiator, the participant.
    unread: [VecDeque<Said>; 2],
    cancelled: u32,
}

/// How the messages of a walk are written.
struct Style {
    text: bool,
    secretary: Option<(AgentId, Aid)>,
    asks: Option<&'static str>,
    cancel_asks: Option<&'static str>,
}

struct Walk {
    seed: u64,
    protocol: &'static str,
    dice: Dice,
    world: World,
    initiator: AgentId,
    legs: Vec<Leg>,
    style: Style,
    trace: Vec<String>,
}

impl Walk {
    fn new(protocol: &'static str, seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let shards = dice.between(1, 3);
        let mut world = super::world(u16::try_from(shards).unwrap(), Mode::Enforce);
        let mut add = |dice: &mut Dice, name: &str| {
            let shard = u16::try_from(dice.below(u64::from(shards))).unwrap();
            (world.add(shard, name, Script::idle()), world.name_on(shard, name).to_string())
        };
        let (initiator, _) = add(&mut dice, "initiator");
        let (secretary, name) = add(&mut dice, "secretary");
        let leg = |participant| Leg {
            participant,
            minds: [Mind::default(); 2],
            unread: [VecDeque::new(), VecDeque::new()],
            cancelled: 0,
        };
        let participants = dice.between(1, 3);
        let legs = (0..participants).map(|number| leg(add(&mut dice, &format!("participant-{number}")).0)).collect();
        let asks = dice.pick(&[None, Some("first")]);
        let style = Style {
            text: dice.once_in(2),
            secretary: dice.once_in(4).then(|| (secretary, Aid::new(AgentName::try_new(name).unwrap()))),
            asks,
            cancel_asks: dice.pick(&[None, asks, Some("cancel")]),
        };
        Self { seed, protocol, dice, world, initiator, legs, style, trace: Vec::new() }
    }

    /// Sends a message, identified by its `reply-with` and `in-reply-to`.
    fn send(&mut self, leg: usize, side: Side, act: &'static str, asks: Option<&str>, answers: Option<&str>) {
        let participant = self.legs[leg].participant;
        let id = ConversationId::of_text("a walk");
        let performative: Performative = act.parse().unwrap();
        let mut message = Message::builder(performative).protocol(self.protocol);
        let secretary = self.style.secretary.clone();
        let text = self.style.text;
        let in_conversation = |message: MessageBuilder, role: ConversationRole| {
            if text { message.conversation_text("a walk") } else { message.conversation_as(id, role) }
        };
        message = match (side, secretary) {
            (Side::Initiator, secretary) => {
                let message = message.sender(self.initiator).receiver(participant);
                let message = in_conversation(message, ConversationRole::Initiator);
                if let Some((_, aid)) = secretary { message.reply_to_aids(vec![aid]) } else { message }
            }
            (Side::Participant, None) => {
                in_conversation(message.sender(participant).receiver(self.initiator), ConversationRole::Participant)
            }
            (Side::Participant, Some((secretary, _))) => {
                let message = message.sender(participant).receiver(secretary);
                if text { message.conversation_text("a walk") } else { message.conversation_of(id, self.initiator) }
            }
        };
        if let Some(asks) = asks {
            message = message.reply_with_text(asks);
        }
        if let Some(answers) = answers {
            message = message.in_reply_to_text(answers);
        }
        self.trace.push(format!("{leg}: {side} {act} {asks:?} {answers:?}"));
        self.world.send_later(message.build().unwrap());
    }

    /// Lets one side of one exchange read or send a message.
    fn act(&mut self, turn: usize) {
        let (leg, side) = (self.dice.index(self.legs.len()), self.dice.pick(&[Side::Initiator, Side::Participant]));
        let it = &mut self.legs[leg];
        let place = side as usize;
        if self.dice.once_in(2) {
            // Only what was sent in an earlier turn has arrived.
            if it.unread[place].front().is_some_and(|said| said.turn < turn)
                && let Some(said) = it.unread[place].pop_front()
            {
                it.minds[place].hear(self.protocol, side, said.act);
                self.trace.push(format!("{leg}: {side} reads {}", said.act));
            }
            return;
        }
        let mind = it.minds[place];
        let begun = it.minds[0].said > 0 && (side == Side::Initiator || mind.calls > 0);
        if begun && self.dice.once_in(12) {
            return self.say_beside(leg, side, turn, "not-understood", None);
        }
        if side == Side::Initiator && begun && it.cancelled < 2 && self.dice.once_in(12) {
            it.cancelled += 1;
            it.minds[0].over = true;
            return self.say_beside(leg, side, turn, "cancel", self.style.cancel_asks);
        }
        if side == Side::Participant && mind.cancels > 0 && self.dice.once_in(2) {
            let act = self.dice.pick(&["inform", "failure"]);
            it.minds[1].cancels -= 1;
            it.minds[1].over |= act == "inform";
            let answers = self.style.cancel_asks;
            it.unread[0].push_back(Said { act: "an answer to the cancel", turn });
            return self.send(leg, side, act, None, answers);
        }
        let mut moves = mind.moves(self.protocol, side);
        if it.unread[0].iter().any(|said| said.act == "refuse") {
            // A refusal ends the rounds, even before the initiator has read it.
            moves.retain(|act| *act != "cfp");
        }
        if it.unread[1].iter().any(|said| said.turn == turn) {
            moves.retain(|act| *act != "refuse");
        }
        if moves.is_empty() {
            return;
        }
        let act = self.dice.pick(&moves);
        it.minds[place].say(self.protocol, side, act);
        it.unread[side.other() as usize].push_back(Said { act, turn });
        let (asks, answers) = if side == Side::Initiator { (self.style.asks, None) } else { (None, self.style.asks) };
        self.send(leg, side, act, asks, answers);
    }

    fn say_beside(&mut self, leg: usize, side: Side, turn: usize, act: &'static str, asks: Option<&str>) {
        self.legs[leg].unread[side.other() as usize].push_back(Said { act, turn });
        self.send(leg, side, act, asks, None);
    }

    fn refused(&self) -> u64 {
        let reasons = [
            DeadLetterReason::ProtocolViolation,
            DeadLetterReason::NotInConversation,
            DeadLetterReason::AmbiguousConversation,
        ];
        reasons.into_iter().map(|reason| self.world.dead(reason)).sum()
    }

    fn run(&mut self) {
        for turn in 0..TURNS {
            for _ in 0..self.dice.between(1, 3) {
                self.act(turn);
            }
            self.world.run();
            assert!(
                self.refused() == 0,
                "a legal message was refused: {} with seed {}:\n{}\n{:?}",
                self.protocol,
                self.seed,
                self.trace.join("\n"),
                super::violations(&mut self.world)
            );
        }
    }
}

#[test]
fn whoever_keeps_to_a_protocol_as_far_as_it_knows_is_never_refused() {
    for protocol in library_names() {
        for seed in 0..WALKS {
            Walk::new(protocol, seed).run();
        }
    }
}

/// Acts that a side uses in a protocol at some point.
fn vocabulary(protocol: &str, side: Side) -> &'static [&'static str] {
    match (protocol, side) {
        ("fipa-request", Side::Initiator) => &["request"],
        ("fipa-query", Side::Initiator) => &["query-if", "query-ref"],
        ("fipa-request-when", Side::Initiator) => &["request-when"],
        ("fipa-propose", Side::Initiator) | ("fipa-dutch-auction", Side::Participant) => &["propose"],
        ("fipa-propose", Side::Participant) => &["accept-proposal", "reject-proposal"],
        ("fipa-subscribe", Side::Initiator) => &["subscribe"],
        ("fipa-recruiting", Side::Initiator) => &["proxy"],
        ("fipa-contract-net" | "fipa-iterated-contract-net", Side::Initiator) => {
            &["cfp", "accept-proposal", "reject-proposal"]
        }
        ("fipa-contract-net" | "fipa-iterated-contract-net", Side::Participant) => {
            &["propose", "refuse", "inform", "failure"]
        }
        ("fipa-english-auction", Side::Initiator) => {
            &["inform", "cfp", "accept-proposal", "reject-proposal", "request"]
        }
        ("fipa-english-auction", Side::Participant) => &["propose", "agree", "refuse", "inform", "failure"],
        ("fipa-dutch-auction", Side::Initiator) => &["inform", "cfp", "accept-proposal", "reject-proposal"],
        (_, Side::Participant) => &["agree", "refuse", "inform", "failure"],
        (_, Side::Initiator) => &[],
    }
}

#[test]
fn what_a_side_never_says_in_a_protocol_is_refused_wherever_it_is_said() {
    // A broker forwards whatever it receives, so its messages cannot be predicted.
    for protocol in library_names().filter(|protocol| *protocol != "fipa-brokering") {
        for seed in 0..WALKS {
            let mut walk = Walk::new(protocol, seed);
            let wrong = walk.dice.index(TURNS);
            for turn in 0..wrong {
                walk.act(turn);
                walk.world.run();
            }
            let leg = walk.dice.index(walk.legs.len());
            if walk.legs[leg].unread[1].is_empty() && walk.legs[leg].minds[1].calls == 0 {
                continue; // Nothing was sent that could be continued wrongly.
            }
            let side = walk.dice.pick(&[Side::Initiator, Side::Participant]);
            let says = |act: &Performative| {
                vocabulary(protocol, side).contains(&act.as_str())
                    || *act == Performative::NotUnderstood
                    || *act == Performative::Cancel
            };
            let acts: Vec<Performative> = Performative::STANDARD.into_iter().filter(|act| !says(act)).collect();
            // Both replies to a cancel are legal in every protocol.
            let act = walk.dice.pick(&acts);
            if walk.legs[leg].cancelled > 0 && matches!(act, Performative::Inform | Performative::Failure) {
                continue;
            }
            assert_eq!(walk.refused(), 0);
            walk.send(leg, side, act.as_str(), None, None);
            walk.world.run();
            assert_eq!(walk.refused(), 1, "{protocol} with seed {seed}:\n{}", walk.trace.join("\n"));
        }
    }
}
