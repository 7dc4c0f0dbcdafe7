//! The helpers for agents: both sides of request, query, subscribe and contract-net, in and out of sequence.

use std::time::Duration;

use caxton_shards::agent::{Context, Outcome, Registration};
use caxton_shards::domain::AgentName;
use caxton_shards::message::{AgentId, ConversationId, Message, Performative};
use caxton_shards::protocol::{Mode, Rulebook};
use caxton_shards::roles::{
    Answer, Bidder, Bidding, Heard, Inquired, Inquiries, Negotiated, Negotiations, RoleError, SESSIONS_MAX, Serve,
    Service, Subscribers,
};

use crate::common::{Log, Script, Setup, World, text};

const WITHIN: Duration = Duration::from_millis(500);

/// A world that refuses protocol violations, so that the helpers are checked as well.
fn world(shards: u16) -> World {
    Setup::new(shards)
        .configured(|config| {
            config.protocols = Rulebook::new(Mode::Enforce, &[], &[]).unwrap();
            config.conversations.participants_max = 20;
        })
        .start()
}

struct Clerk;

impl Serve for Clerk {
    fn serve(&mut self, request: &Message, _: &mut Context<'_>) -> Answer {
        match text(request).as_str() {
            "refuse" => Answer::Refuse("no".to_owned()),
            "fail" => Answer::Failure("broken".to_owned()),
            "agree" => Answer::Agree,
            "nonsense" => Answer::NotUnderstood("what?".to_owned()),
            said => Answer::Inform(format!("{said} done")),
        }
    }
}

fn clerk(world: &mut World, shard: u16) -> AgentId {
    let name = world.name_on(shard, "clerk");
    world.register(Registration::native(name, || Service(Clerk)))
}

/// An agent that sends inquiries to `other` and cancels them on command, and logs the results.
fn asker(world: &mut World, other: AgentId, act: Performative, notes: &Log<String>) -> AgentId {
    let notes = notes.clone();
    let (mut inquiries, mut last) = (Inquiries::default(), None);
    let script = Script::new(move |message, context| {
        let done = (|| -> Result<(), RoleError> {
            match inquiries.hear(message, context)? {
                Inquired::NotMine if text(message) == "cancel!" => inquiries.cancel(last.unwrap(), context)?,
                Inquired::NotMine if message.conversation().is_none() => {
                    let said = text(message);
                    last = Some(inquiries.begin(act, other, WITHIN, |builder| builder.content(said), context)?);
                }
                heard => notes.push(note(&heard)),
            }
            Ok(())
        })();
        notes.push(format!("{} open", inquiries.len()));
        done.into()
    });
    world.add(0, "asker", script)
}

fn note(heard: &Inquired) -> String {
    match heard {
        Inquired::NotMine => "not mine".to_owned(),
        Inquired::OutOfSequence => "out of sequence".to_owned(),
        Inquired::Agreed(_) => "agreed".to_owned(),
        Inquired::Informed(message) => format!("informed: {}", text(message)),
        Inquired::Refused(message) => format!("refused: {}", text(message)),
        Inquired::Failed(message) => {
            let said = text(message);
            if said == "broken" { "failed: broken".to_owned() } else { "failed".to_owned() }
        }
        Inquired::NotUnderstood(message) => format!("not understood: {}", text(message)),
        Inquired::NoAnswer(_) => "no answer".to_owned(),
        Inquired::Cancelled(_) => "cancelled".to_owned(),
    }
}

fn tell(world: &mut World, to: AgentId, said: &str) {
    world.tell(Message::builder(Performative::Inform).receiver(to).content(said).build().unwrap());
    world.run();
}

fn heard_when_asked(act: Performative, said: &str) -> Vec<String> {
    let (mut world, notes) = (world(2), Log::new());
    let clerk = clerk(&mut world, 1);
    let asker = asker(&mut world, clerk, act, &notes);
    tell(&mut world, asker, said);
    world.advance(1_000);
    notes.take()
}

#[test]
fn a_request_or_a_query_is_answered_in_each_way_that_its_protocol_knows() {
    for act in [Performative::Request, Performative::QueryRef, Performative::QueryIf] {
        assert_eq!(heard_when_asked(act, "it"), ["1 open", "informed: it done", "0 open"], "{act}");
        assert_eq!(heard_when_asked(act, "refuse"), ["1 open", "refused: no", "0 open"], "{act}");
        assert_eq!(heard_when_asked(act, "fail"), ["1 open", "failed: broken", "0 open"], "{act}");
        assert_eq!(heard_when_asked(act, "agree"), ["1 open", "agreed", "1 open"], "{act}");
        assert_eq!(heard_when_asked(act, "nonsense"), ["1 open", "not understood: what?", "0 open"], "{act}");
    }
}

#[test]
fn what_nobody_answers_ends_at_its_deadline_and_what_does_not_arrive_at_once() {
    for (script, expected) in [(Some(Script::idle()), "no answer"), (None, "failed")] {
        let (mut world, notes) = (world(2), Log::new());
        let silent = match script {
            Some(script) => world.add(1, "silent", script),
            None => AgentId::of(&AgentName::try_new("nobody").unwrap()),
        };
        let asker = asker(&mut world, silent, Performative::Request, &notes);
        tell(&mut world, asker, "it");
        world.advance(499);
        assert_eq!(notes.len() > 1, expected == "failed", "before the deadline");
        world.advance(2);
        assert_eq!(notes.take(), ["1 open", expected, "0 open"]);
    }
}

#[test]
fn what_was_agreed_on_can_be_cancelled() {
    let (mut world, notes) = (world(2), Log::new());
    let clerk = clerk(&mut world, 1);
    let asker = asker(&mut world, clerk, Performative::Request, &notes);
    tell(&mut world, asker, "agree");
    tell(&mut world, asker, "cancel!");
    assert_eq!(notes.take(), ["1 open", "agreed", "1 open", "1 open", "cancelled", "0 open"]);
}

#[test]
fn an_answer_out_of_sequence_is_not_understood_and_the_inquiry_goes_on() {
    // Without enforcement, so that the message reaches the helper.
    let (mut world, notes) = (Setup::new(1).start(), Log::new());
    let objections = Log::new();
    let heard = objections.clone();
    let odd = world.add(
        0,
        "odd",
        Script::new(move |message, context| {
            if message.performative() == Performative::Request {
                for (act, said) in [(Performative::Propose, "why not"), (Performative::Inform, "well")] {
                    context.answer(message, act, said).unwrap();
                }
            } else {
                heard.push(format!("{}", message.performative()));
            }
            Outcome::Done
        }),
    );
    let asker = asker(&mut world, odd, Performative::Request, &notes);
    tell(&mut world, asker, "it");
    assert_eq!(notes.take(), ["1 open", "out of sequence", "1 open", "informed: well", "0 open"]);
    assert_eq!(objections.take(), ["not-understood"]);
}

#[test]
fn a_service_does_not_understand_what_is_no_request() {
    let mut world = world(1);
    let clerk = clerk(&mut world, 0);
    let (sender, log) = world.add_listener(0, "sender");
    world.send(Message::builder(Performative::Propose).sender(sender).receiver(clerk).build().unwrap()).unwrap();
    world.send(Message::builder(Performative::NotUnderstood).sender(sender).receiver(clerk).build().unwrap()).unwrap();
    world.run();
    assert_eq!(
        log.take().iter().map(Message::performative).collect::<Vec<_>>(),
        [Performative::NotUnderstood, Performative::NotUnderstood][..1]
    );
}

/// Bids its price; fails to perform if told so.
struct Trader(Option<u32>);

impl Bidder for Trader {
    fn bid(&mut self, _: &Message, _: &mut Context<'_>) -> Result<String, String> {
        self.0.map(|price| price.to_string()).ok_or_else(|| "busy".to_owned())
    }

    fn perform(&mut self, award: &Message, _: &mut Context<'_>) -> Result<String, String> {
        if text(award) == "13" { Err("bad luck".to_owned()) } else { Ok(format!("done for {}", text(award))) }
    }
}

/// An agent that awards its task to the cheapest of the others, and logs the result.
fn manager(world: &mut World, others: &[AgentId], notes: &Log<String>) -> AgentId {
    let (notes, others) = (notes.clone(), others.to_vec());
    let mut negotiations = Negotiations::default();
    let script = Script::new(move |message, context| {
        if text(message) == "begin" && message.conversation().is_none() {
            let called = negotiations.call(&others, WITHIN, |call| call.content("a task"), context);
            return called.into();
        }
        let price = |proposal: &&Message| text(proposal).parse::<u32>().unwrap();
        let done = (|| -> Result<(), RoleError> {
            match negotiations.hear(message, context)? {
                Negotiated::Proposals(conversation, proposals) => {
                    let best = proposals.iter().min_by_key(price).and_then(Message::sender);
                    notes.push(format!("{} proposals", proposals.len()));
                    negotiations.award(conversation, best, context)?;
                }
                Negotiated::Done(result) => notes.push(text(&result)),
                Negotiated::Failed(result) => notes.push(format!("failed: {}", text(&result))),
                Negotiated::OutOfSequence => notes.push("out of sequence".to_owned()),
                Negotiated::Waiting | Negotiated::NotMine => {}
            }
            Ok(())
        })();
        if negotiations.is_empty() {
            notes.push("over".to_owned());
        }
        done.into()
    });
    world.add(0, "manager", script)
}

fn traders(world: &mut World, prices: &[Option<u32>]) -> Vec<AgentId> {
    let shards = u16::try_from(world.nodes.len()).unwrap();
    let names: Vec<AgentName> = (0..prices.len())
        .map(|number| world.name_on(u16::try_from(number).unwrap() % shards, &format!("trader{number}")))
        .collect();
    let trader =
        |(name, price): (AgentName, Option<u32>)| Registration::native(name, move || Bidding::new(Trader(price)));
    names.into_iter().zip(prices.iter().copied()).map(|each| world.register(trader(each))).collect()
}

fn negotiated(prices: &[Option<u32>], strangers: usize) -> Vec<String> {
    let (mut world, notes) = (world(2), Log::new());
    let mut others = traders(&mut world, prices);
    others.extend((0..strangers).map(|number| AgentId::of(&AgentName::try_new(format!("stranger-{number}")).unwrap())));
    let manager = manager(&mut world, &others, &notes);
    tell(&mut world, manager, "begin");
    world.advance(5_000);
    notes.take()
}

#[test]
fn the_best_of_several_proposals_gets_the_contract() {
    assert_eq!(negotiated(&[Some(9), Some(7), None, Some(12)], 0), ["3 proposals", "done for 7", "over"]);
    assert_eq!(negotiated(&[Some(13)], 0), ["1 proposals", "failed: bad luck", "over"]);
    assert_eq!(negotiated(&[None, None], 0), ["0 proposals", "over"]);
}

#[test]
fn those_who_do_not_exist_are_not_waited_for() {
    assert_eq!(negotiated(&[Some(9)], 3), ["1 proposals", "done for 9", "over"]);
    assert_eq!(negotiated(&[], 2), ["0 proposals", "over"]);
}

#[test]
fn who_is_silent_is_waited_for_until_the_deadline_and_a_late_proposal_is_rejected() {
    let (mut world, notes) = (world(2), Log::new());
    let name = world.name_on(1, "trader");
    let trader = world.register(Registration::native(name, || Bidding::new(Trader(Some(9)))));
    let answers = Log::new();
    let (heard, mut call) = (answers.clone(), None);
    // It proposes only when told to.
    let slow = world.add(
        0,
        "slow",
        Script::new(move |message, context| {
            match (message.performative(), &call) {
                (Performative::Cfp, _) => call = Some(message.clone()),
                (Performative::Inform, Some(call)) => {
                    context.answer(call, Performative::Propose, "1").unwrap();
                }
                (act, _) => heard.push(act.to_string()),
            }
            Outcome::Done
        }),
    );
    // The other one takes its time, so that the negotiation is still open when the late proposal arrives.
    let manager = manager(&mut world, &[trader, slow], &notes);
    tell(&mut world, manager, "begin");
    assert!(notes.is_empty(), "the slow one is waited for");
    world.advance(499);
    assert!(notes.is_empty(), "still");
    world.pause(1, true);
    world.advance(2);
    assert_eq!(notes.take(), ["1 proposals"]);
    tell(&mut world, slow, "now");
    assert_eq!(
        (notes.take(), answers.take()),
        (vec!["out of sequence".to_owned()], vec!["reject-proposal".to_owned()])
    );
    world.pause(1, false);
    world.run();
    assert_eq!(notes.take(), ["done for 9", "over"]);
}

#[test]
fn an_award_for_what_was_not_proposed_is_not_understood() {
    let mut world = Setup::new(1).start();
    let trader = traders(&mut world, &[Some(9)])[0];
    let (sender, log) = world.add_listener(0, "sender");
    let id = ConversationId::of_text("out of the blue");
    let award = Message::builder(Performative::AcceptProposal).sender(sender).receiver(trader).conversation(id);
    world.send(award.build().unwrap()).unwrap();
    world.run();
    assert_eq!(log.take()[0].performative(), Performative::NotUnderstood);
}

#[test]
fn many_negotiations_run_at_once_and_none_is_left() {
    let (mut world, notes) = (world(2), Log::new());
    let others = traders(&mut world, &[Some(9), Some(7)]);
    let manager = manager(&mut world, &others, &notes);
    let begin = Message::builder(Performative::Inform).receiver(manager).content("begin");
    for _ in 0..50 {
        world.tell(begin.clone().build().unwrap());
    }
    world.run();
    let said = notes.take();
    assert_eq!(said.iter().filter(|note| *note == "done for 7").count(), 50);
    assert_eq!(said.last().map(String::as_str), Some("over"));
}

#[test]
fn nobody_to_ask_and_too_many_inquiries_are_errors_that_change_nothing() {
    let mut world = Setup::new(1).start();
    let notes = Log::new();
    let log = notes.clone();
    let (mut negotiations, mut inquiries) = (Negotiations::default(), Inquiries::default());
    let target = world.add(0, "target", Script::idle());
    let agent = world.add(
        0,
        "agent",
        Script::new(move |message, context| {
            if message.conversation().is_some() {
                return Outcome::Done;
            }
            log.push(negotiations.call(&[], WITHIN, |call| call, context).unwrap_err().to_string());
            let strange = inquiries.begin(Performative::Inform, target, WITHIN, |builder| builder, context);
            log.push(strange.unwrap_err().to_string());
            log.push(inquiries.cancel(ConversationId::of_text("none"), context).unwrap_err().to_string());
            log.push(format!("{} {}", negotiations.len(), inquiries.len()));
            Outcome::Done
        }),
    );
    tell(&mut world, agent, "go");
    let said = notes.take();
    assert_eq!(said.len(), 4, "{said:?}");
    assert!(said[0].contains("no participants"), "{said:?}");
    assert!(said[1].contains("not in a state") && said[2].contains("not open"), "{said:?}");
    assert_eq!(said[3], "0 0");
    assert!(RoleError::TooMany.to_string().contains(&SESSIONS_MAX.to_string()));
}

#[test]
fn subscribers_hear_of_news_until_they_cancel() {
    let (mut world, notes) = (world(2), Log::new());
    let mut subscribers = Subscribers::default();
    let counts = Log::new();
    let count = counts.clone();
    let publisher = world.add(
        1,
        "publisher",
        Script::new(move |message, context| {
            let heard = subscribers.hear(message, context).unwrap();
            if heard == Heard::NotMine && message.conversation().is_none() {
                subscribers.publish(&text(message), context).unwrap();
            }
            count.push(subscribers.len());
            Outcome::Done
        }),
    );
    let asker = asker(&mut world, publisher, Performative::Subscribe, &notes);
    tell(&mut world, asker, "news, please");
    tell(&mut world, publisher, "it rains");
    tell(&mut world, publisher, "it snows");
    tell(&mut world, asker, "cancel!");
    tell(&mut world, publisher, "it shines");
    assert_eq!(
        notes.take(),
        [
            "1 open",
            "agreed",
            "1 open",
            "informed: it rains",
            "1 open",
            "informed: it snows",
            "1 open",
            "1 open",
            "cancelled",
            "0 open"
        ]
    );
    assert_eq!(counts.take(), [1, 1, 1, 0, 0]);
}
