//! Dead letters: how they are kept, found, replayed and purged.

use std::num::{NonZeroU8, NonZeroU64};

use caxton_shards::agent::Outcome;
use caxton_shards::api::{
    Answer, InboxNumber, Input, OverflowPolicy, REPLAY_ANSWER_MS, REPLAYS_MAX, ReplayError, ReplayPortion,
    SendErrorKind, is_notice,
};
use caxton_shards::dead_letter::{
    DeadLetter, DeadLetterFilter, DeadLetterId, DeadLetterReason, DeadLetterSearch, LAST_ERROR_BYTES_MAX,
    LETTERS_PER_ANSWER_MAX,
};
use caxton_shards::message::{
    AgentId, Choice, ConversationId, ConversationRole, Correlation, Message, MessageId, Performative, WallTime,
};
use caxton_shards::routing::partition::ShardIndex;

use crate::common::{Log, Script, Setup, WALL_START_MS, World, at, capability, inform, request, text};

fn find(
    world: &mut World,
    shard: usize,
    search: DeadLetterSearch,
    limit: usize,
) -> (Vec<DeadLetter>, Option<DeadLetterId>) {
    let input = |token| Input::DeadLetters(Box::new(search), limit, token);
    let Answer::DeadLetters(portion) = world.answer_now(shard, input) else { panic!("no dead letters") };
    (portion.letters, portion.next)
}

fn matching(world: &mut World, shard: usize, filter: DeadLetterFilter) -> Vec<String> {
    let search = DeadLetterSearch { filter, ..DeadLetterSearch::default() };
    find(world, shard, search, usize::MAX).0.iter().map(|letter| text(&letter.message)).collect()
}

fn replay_all(world: &mut World, shard: usize, search: DeadLetterSearch, to: Option<AgentId>) -> ReplayPortion {
    let token = world.token();
    world.give(shard, Input::ReplayDeadLetters(Box::new(search), to, token));
    world.step(shard);
    for wait_ms in [0, REPLAY_ANSWER_MS] {
        match world.take_answer(shard, token) {
            Some(Answer::DeadLettersReplayed(portion)) => return *portion,
            Some(_) => panic!("no replays"),
            // The response arrives when the messages have reached another shard.
            None => world.run(),
        }
        world.advance(wait_ms);
    }
    let Some(Answer::DeadLettersReplayed(portion)) = world.take_answer(shard, token) else { panic!("no replays") };
    *portion
}

fn replay(world: &mut World, id: DeadLetterId, to: Option<AgentId>) -> Result<MessageId, ReplayError> {
    let search = DeadLetterSearch { filter: DeadLetterFilter::only(id), ..DeadLetterSearch::default() };
    let portion = replay_all(world, id.shard.as_usize(), search, to);
    assert!(portion.replayed.len() + portion.refused.len() + usize::from(portion.stopped.is_some()) <= 1);
    match (portion.replayed.first(), portion.refused.first().or(portion.stopped.as_ref())) {
        (Some((letter, message)), None) => {
            assert_eq!(*letter, id);
            Ok(*message)
        }
        (None, Some(error)) => Err(error.clone()),
        _ => Err(ReplayError::Unknown { id }),
    }
}

fn purge(world: &mut World, shard: usize, filter: DeadLetterFilter) -> u64 {
    let search = DeadLetterSearch { filter, ..DeadLetterSearch::default() };
    let input = |token| Input::PurgeDeadLetters(Box::new(search), token);
    let Answer::DeadLettersPurged { letters, next } = world.answer_now(shard, input) else { panic!("not purged") };
    assert_eq!(next, None);
    letters
}

/// Returns the only dead letter of all shards.
#[track_caller]
fn only_letter(world: &mut World) -> DeadLetter {
    let mut letters: Vec<_> = (0..world.nodes.len()).flat_map(|shard| world.dead_letters(shard)).collect();
    assert_eq!(letters.len(), 1, "{letters:?}");
    letters.pop().unwrap()
}

#[track_caller]
fn assert_no_letters(world: &mut World) {
    for shard in 0..world.nodes.len() {
        assert!(world.dead_letters(shard).is_empty(), "{:?}", world.dead_letters(shard));
    }
}

/// Fails every message while the switch is on, and logs the rest.
fn moody(bad: &Log<()>, log: &Log<Message>) -> Script {
    let (bad, log) = (bad.clone(), log.clone());
    Script::new(move |message, _| {
        if !bad.is_empty() && !is_notice(message) {
            return Outcome::failed("the tea is cold");
        }
        log.push(message.clone());
        Outcome::Done
    })
}

/// A message that is tried once.
fn once(from: AgentId, to: AgentId, content: &str) -> caxton_shards::message::MessageBuilder {
    inform(from, to, content).attempts_max(NonZeroU8::MIN)
}

fn switched_on() -> Log<()> {
    let switch = Log::new();
    switch.push(());
    switch
}

#[test]
fn a_dead_letter_tells_its_whole_story() {
    for shard in 0..2 {
        let mut world = World::new(2);
        let (sender, _) = world.add_listener(0, "sender");
        let receiver = world.add(shard, "receiver", moody(&switched_on(), &Log::new()));
        world.advance(5_000);
        let sent = world.send(inform(sender, receiver, "tea").build().unwrap()).unwrap();
        world.advance(10_000);
        let letter = only_letter(&mut world);
        assert_eq!(letter.id, DeadLetterId { shard: ShardIndex(shard), number: 1 });
        assert_eq!((letter.message.id(), text(&letter.message)), (Some(sent), "tea".to_owned()));
        assert_eq!((letter.reason, letter.attempts, letter.replays), (DeadLetterReason::AttemptsExhausted, 4, 0));
        assert_eq!(letter.last_error.as_deref(), Some("the tea is cold"));
        assert_eq!((letter.first, letter.last), (at(5_000), at(5_700)));
        assert_eq!(letter.shard, ShardIndex(shard));
        world.assert_settled();
    }
}

#[test]
fn the_text_of_a_failure_is_kept_up_to_its_limit_and_ends_with_a_whole_character() {
    let mut world = World::new(1);
    let agent = world.add(0, "agent", Script::new(|_, _| Outcome::failed("x".to_owned() + &"é".repeat(2_000))));
    world.send(once(agent, agent, "x").build().unwrap()).unwrap();
    world.run();
    let error = only_letter(&mut world).last_error.unwrap();
    assert!(error.len() == LAST_ERROR_BYTES_MAX - 1 && error.ends_with('é'), "{} bytes", error.len());
}

#[test]
fn a_letter_that_was_never_admitted_or_was_to_come_later_says_when_it_was_first_known() {
    let mut world = World::new(1);
    let agent = world.add(0, "agent", moody(&switched_on(), &Log::new()));
    let nobody = AgentId::of_text("nobody");
    world.advance(1_000);
    world.tell(inform(nobody, agent, "not admitted").build().unwrap());
    world.send(once(agent, agent, "later").deliver_at(at(3_000)).build().unwrap()).unwrap();
    world.advance(5_000);
    let times: Vec<_> = world.dead_letters(0).iter().map(|letter| (letter.first, letter.last)).collect();
    assert_eq!(times, [(at(3_000), at(3_000)), (at(1_000), at(1_000))]);
    assert!(world.dead_letters(0)[1].last_error.as_deref().unwrap().contains("not registered"));
}

#[test]
fn what_was_left_in_a_dropped_inbox_keeps_its_story() {
    let mut world = World::new(1);
    let (sender, _) = world.add_listener(0, "sender");
    let inbox = world.add_inbox(0, "inbox", 7, 10);
    world.send(inform(sender, inbox, "tea").build().unwrap()).unwrap();
    world.advance(500);
    let left = world.take_delivered(0);
    world.give(0, Input::Closed(inbox, InboxNumber(7), left));
    world.run();
    let letter = only_letter(&mut world);
    assert_eq!((letter.reason, letter.last_error), (DeadLetterReason::Deregistered, None));
    assert_eq!((letter.first, letter.last), (WallTime(WALL_START_MS), at(500)));
    world.assert_settled();
}

#[test]
fn each_filter_finds_what_has_everything_that_it_names() {
    let mut world = World::new(1);
    let (anna, _) = world.add_listener(0, "anna");
    let (bert, _) = world.add_listener(0, "bert");
    let agent = world.add(0, "agent", moody(&switched_on(), &Log::new()));
    let nobody = AgentId::of_text("nobody");
    let talk = ConversationId::of_text("talk");
    for message in [
        once(anna, agent, "one"),
        once(bert, nobody, "two"),
        request(anna, nobody, "three").conversation(talk),
        once(bert, agent, "four").conversation(talk),
    ] {
        world.send(message.build().unwrap()).unwrap();
        world.advance(100);
    }
    let at = |milliseconds| Some(at(milliseconds));
    let all = DeadLetterFilter::default();
    let second = world.dead_letters(0)[2].id;
    for (filter, expected) in [
        (all, &["four", "three", "two", "one"][..]),
        (DeadLetterFilter::only(second), &["two"]),
        (DeadLetterFilter { reason: Some(DeadLetterReason::AttemptsExhausted), ..all }, &["four", "one"]),
        (DeadLetterFilter { receiver: Some(nobody), ..all }, &["three", "two"]),
        (DeadLetterFilter { sender: Some(anna), ..all }, &["three", "one"]),
        (DeadLetterFilter { conversation: Some(talk), ..all }, &["four", "three"]),
        (DeadLetterFilter { performative: Some(Performative::Request), ..all }, &["three"]),
        (DeadLetterFilter { since: at(200), ..all }, &["four", "three"]),
        (DeadLetterFilter { until: at(200), ..all }, &["two", "one"]),
        (DeadLetterFilter { sender: Some(bert), conversation: Some(talk), ..all }, &["four"]),
        (DeadLetterFilter { sender: Some(nobody), ..all }, &[]),
    ] {
        assert_eq!(matching(&mut world, 0, filter), expected, "{filter:?}");
    }
}

#[test]
fn a_letter_to_several_agents_that_was_not_admitted_is_found_by_each_of_them_and_replayed_to_all() {
    let mut world = World::new(2);
    let (first, heard_first) = world.add_listener(0, "first");
    let (second, heard_second) = world.add_listener(1, "second");
    let nobody = AgentId::of_text("nobody");
    let all = Message::builder(Performative::Inform).sender(nobody).receivers([first, second]).content("x");
    world.tell(all.build().unwrap());
    world.run();
    let letter = only_letter(&mut world);
    for receiver in [first, second] {
        let filter = DeadLetterFilter { receiver: Some(receiver), ..DeadLetterFilter::default() };
        assert_eq!(matching(&mut world, letter.shard.as_usize(), filter), ["x"]);
    }
    replay(&mut world, letter.id, None).unwrap();
    world.run();
    assert_eq!((heard_first.letters(), heard_second.letters()), (vec!["x".to_owned()], vec!["x".to_owned()]));
    world.assert_settled();
}

#[test]
fn pages_go_on_where_the_last_one_ended_whatever_came_meanwhile() {
    let mut world = World::new(1);
    let (sender, _) = world.add_listener(0, "sender");
    let nobody = AgentId::of_text("nobody");
    let die = |world: &mut World, number: usize| {
        world.tell(inform(sender, nobody, &number.to_string()).build().unwrap());
        world.run();
    };
    let count = LETTERS_PER_ANSWER_MAX + 4;
    (0..count).for_each(|number| die(&mut world, number));
    let (mut seen, mut search) = (Vec::new(), DeadLetterSearch::default());
    let (letters, next) = find(&mut world, 0, search, 3);
    seen.extend(letters);
    die(&mut world, count);
    // The letter at the end of the page need not exist any more.
    assert_eq!(purge(&mut world, 0, DeadLetterFilter::only(seen[2].id)), 1);
    search.before = next;
    let (letters, next) = find(&mut world, 0, search, usize::MAX);
    assert_eq!(letters.len(), LETTERS_PER_ANSWER_MAX);
    seen.extend(letters);
    search.before = next;
    let (letters, next) = find(&mut world, 0, search, usize::MAX);
    assert_eq!((letters.len(), next), (1, None));
    seen.extend(letters);
    assert!(seen.iter().map(|letter| text(&letter.message)).eq((0..count).rev().map(|number| number.to_string())));
}

#[test]
fn a_replayed_message_is_a_new_one_from_the_same_sender_to_the_same_receiver() {
    for shard in 0..2 {
        let mut world = World::new(2);
        let (sender, told) = world.add_listener(0, "sender");
        let (bad, heard) = (switched_on(), Log::new());
        let receiver = world.add(shard, "receiver", moody(&bad, &heard));
        let sent = world.send(once(sender, receiver, "tea").build().unwrap()).unwrap();
        world.run();
        assert_eq!(told.notices().len(), 1);
        bad.take();
        let letter = only_letter(&mut world);
        let again = replay(&mut world, letter.id, None).unwrap();
        world.run();
        let message = heard.take().pop().unwrap();
        assert!(message.id() == Some(again) && again != sent);
        assert_eq!((message.sender(), message.target()), (Some(sender), Some(receiver)));
        assert_eq!(message.replay().unwrap().times, 1);
        assert_no_letters(&mut world);
        assert_eq!(replay(&mut world, letter.id, None), Err(ReplayError::Unknown { id: letter.id }));
        let total = world.total();
        assert_eq!((total.accepted, total.processed, total.dead_lettered), (2, 1, 1));
        let snapshot = world.snapshot(usize::from(shard));
        assert_eq!((snapshot.dead_letters, snapshot.dead_letters_replayed), (0, 1));
        world.assert_settled();
    }
}

#[test]
fn a_letter_can_be_replayed_to_another_agent_on_any_shard_and_replies_go_to_its_sender() {
    for (sender_on, died_on, receiver_on) in [(0, 0, 0), (0, 0, 1), (0, 1, 1), (0, 1, 0), (0, 1, 2)] {
        let mut world = World::new(3);
        let (sender, told) = world.add_listener(sender_on, "sender");
        let gone = AgentId::of(&world.name_on(died_on, "gone"));
        let helper = world.add(receiver_on, "helper", Script::echo());
        let question = request(sender, gone, "tea?").reply_with(Correlation::new(NonZeroU64::MIN));
        world.send(question.build().unwrap()).unwrap();
        world.run();
        let letter = only_letter(&mut world);
        assert_eq!((letter.shard, letter.reason), (ShardIndex(died_on), DeadLetterReason::UnknownReceiver));
        replay(&mut world, letter.id, Some(helper)).unwrap();
        world.run();
        let answer = told.take().into_iter().find(|message| !is_notice(message)).unwrap();
        assert_eq!((text(&answer), answer.sender()), ("tea?".to_owned(), Some(helper)));
        assert_eq!(answer.in_reply_to(), Some(Correlation::new(NonZeroU64::MIN)));
        assert_eq!(answer.replay(), None, "the answer was not replayed");
        assert_no_letters(&mut world);
        world.assert_settled();
    }
}

#[test]
fn the_sender_of_a_letter_need_not_be_there_any_more() {
    let mut world = World::new(2);
    let (sender, _) = world.add_listener(0, "sender");
    let gone = AgentId::of(&world.name_on(1, "gone"));
    let (helper, heard) = world.add_listener(1, "helper");
    world.send(inform(sender, gone, "tea").build().unwrap()).unwrap();
    world.run();
    assert!(world.deregister(sender));
    let letter = only_letter(&mut world);
    replay(&mut world, letter.id, Some(helper)).unwrap();
    world.run();
    assert_eq!(heard.take()[0].sender(), Some(sender));
    world.assert_settled();
}

#[test]
fn a_letter_to_a_capability_goes_to_whoever_offers_it_now() {
    let mut world = World::new(2);
    let (sender, _) = world.add_listener(0, "sender");
    let bad = world.add(0, "bad", moody(&switched_on(), &Log::new()).offering("replay.tea"));
    let tea = || {
        let message = Message::builder(Performative::Request).sender(sender).content("tea");
        message.capability(&capability("replay.tea"), Choice::LeastLoaded).attempts_max(NonZeroU8::MIN).build().unwrap()
    };
    world.send(tea()).unwrap();
    world.run();
    assert!(world.deregister(bad));
    world.send(tea()).unwrap();
    world.run();
    let reasons: Vec<_> = world.dead_letters(0).iter().map(|letter| letter.reason).collect();
    assert_eq!(reasons, [DeadLetterReason::NoProvider, DeadLetterReason::AttemptsExhausted]);
    let heard = Log::new();
    let name = world.name_on(1, "good");
    world.register(Script::listener(&heard).offering("replay.tea").registration(name));
    let portion = replay_all(&mut world, 0, DeadLetterSearch::default(), None);
    assert_eq!((portion.replayed.len(), portion.next), (2, None));
    world.run();
    assert_eq!(heard.letters().len(), 2);
    assert_no_letters(&mut world);
    world.assert_settled();
}

#[test]
fn a_message_of_a_conversation_passes_it_again_and_a_redirected_one_joins_its_new_receiver() {
    for (died_on, helper_on) in [(0, 0), (0, 1), (1, 0), (1, 1), (1, 2)] {
        for redirected in [false, true] {
            let mut world = World::new(3);
            let (initiator, told) = world.add_listener(0, "initiator");
            let gone = world.name_on(died_on, "gone");
            let id = ConversationId::of_text("talk");
            world.send(request(initiator, AgentId::of(&gone), "tea?").conversation(id).build().unwrap()).unwrap();
            world.run();
            let letter = only_letter(&mut world);
            let name = if redirected { world.name_on(helper_on, "helper") } else { gone };
            let helper = world.register(Script::echo().registration(name));
            replay(&mut world, letter.id, redirected.then_some(helper)).unwrap();
            world.run();
            let answer = told.take().into_iter().find(|message| !is_notice(message)).unwrap();
            assert_eq!((answer.sender(), answer.conversation()), (Some(helper), Some(id)));
            assert_eq!(answer.initiator(), Some(initiator));
            let view = world.conversation(initiator, id).unwrap();
            assert!(view.participants.contains(&helper), "{died_on} {helper_on} {redirected}");
            assert_eq!(view.messages, 3, "the question twice and its answer");
            for shard in 0..3 {
                assert_eq!(world.snapshot(shard).conversations, usize::from(shard == 0));
            }
            assert_no_letters(&mut world);
            world.assert_settled();
        }
    }
}

#[test]
fn a_participants_message_can_go_to_another_participant_or_a_new_one() {
    for helper_on in 0..3 {
        let mut world = World::new(3);
        let bad = switched_on();
        let initiator = world.add(0, "initiator", moody(&bad, &Log::new()));
        let participant = world.add(1, "participant", Script::idle());
        let (helper, heard) = world.add_listener(helper_on, "helper");
        let id = ConversationId::of_text("talk");
        world.send(inform(initiator, participant, "hello").conversation(id).build().unwrap()).unwrap();
        world.run();
        let answer = once(participant, initiator, "hi").conversation_as(id, ConversationRole::Participant);
        world.send(answer.build().unwrap()).unwrap();
        world.run();
        let letter = only_letter(&mut world);
        replay(&mut world, letter.id, Some(helper)).unwrap();
        world.run();
        let message = heard.take().pop().unwrap();
        assert_eq!((message.sender(), message.initiator()), (Some(participant), Some(initiator)));
        let view = world.conversation(initiator, id).unwrap();
        assert_eq!((view.participants, view.messages), (vec![initiator, participant, helper], 3));
        world.assert_settled();
    }
}

#[test]
fn a_message_between_participants_goes_by_way_of_the_conversations_home_again() {
    let mut world = World::new(3);
    let initiator = world.add(1, "initiator", Script::idle());
    let speaker = world.add(0, "speaker", Script::idle());
    let bad = switched_on();
    let heard = Log::new();
    let listener = world.add(2, "listener", moody(&bad, &heard));
    let id = ConversationId::of_text("talk");
    world.send(inform(initiator, speaker, "hello").conversation(id).build().unwrap()).unwrap();
    world.run();
    world.send(once(speaker, listener, "psst").conversation_of(id, initiator).build().unwrap()).unwrap();
    world.run();
    bad.take();
    let letter = only_letter(&mut world);
    assert_eq!(letter.shard, ShardIndex(2));
    replay(&mut world, letter.id, None).unwrap();
    world.run();
    assert_eq!((heard.letters(), world.conversation(initiator, id).unwrap().messages), (vec!["psst".to_owned()], 3));
    world.assert_settled();
}

#[test]
fn a_message_of_a_closed_conversation_does_not_begin_it_anew_and_its_letter_stays_as_it_was() {
    for died_on in 0..2 {
        let mut world = World::new(2);
        let (initiator, told) = world.add_listener(0, "initiator");
        let receiver = world.add(died_on, "receiver", moody(&switched_on(), &Log::new()));
        let id = ConversationId::of_text("talk");
        world.send(once(initiator, receiver, "tea?").conversation(id).build().unwrap()).unwrap();
        world.advance(20_000);
        assert!(world.conversation(initiator, id).is_none(), "it has timed out");
        told.take();
        let letter = only_letter(&mut world);
        for _ in 0..2 {
            let refusal = ReplayError::Refused { id: letter.id, reason: DeadLetterReason::NotInConversation };
            assert_eq!(replay(&mut world, letter.id, None), Err(refusal));
            world.run();
            assert_eq!(format!("{:?}", only_letter(&mut world)), format!("{letter:?}"));
            assert!(told.take().iter().all(is_notice), "its sender hears of it each time");
            assert!(world.conversation(initiator, id).is_none());
        }
        world.assert_settled();
    }
}

#[test]
fn a_message_that_died_before_its_conversation_began_begins_it() {
    let mut world = Setup::new(1).configured(|config| config.conversations.open_max = 1).start();
    let (initiator, heard) = world.add_listener(0, "initiator");
    for id in ["first", "second"] {
        let message = inform(initiator, initiator, id).conversation(ConversationId::of_text(id));
        world.send(message.build().unwrap()).unwrap();
        world.run();
    }
    let letter = only_letter(&mut world);
    assert_eq!(letter.reason, DeadLetterReason::TooManyConversations);
    world.advance(20_000);
    replay(&mut world, letter.id, None).unwrap();
    world.run();
    assert_eq!(heard.letters(), ["first", "second"]);
    assert!(world.conversation(initiator, ConversationId::of_text("second")).is_some());
    world.assert_settled();
}

#[test]
fn a_message_that_came_as_text_finds_its_conversation_and_so_do_the_answers_to_it() {
    for died_on in 0..2 {
        let mut world = World::new(3);
        let (initiator, told) = world.add_listener(0, "initiator");
        let gone = AgentId::of(&world.name_on(died_on, "gone"));
        let (helper, heard) = world.add_listener(2, "helper");
        let say = |from, to, content| inform(from, to, content).conversation_text("talk about tea").build().unwrap();
        world.send(say(initiator, gone, "tea?")).unwrap();
        world.run();
        let letter = only_letter(&mut world);
        replay(&mut world, letter.id, Some(helper)).unwrap();
        world.run();
        assert_eq!(heard.texts(), ["tea?"]);
        world.send(say(helper, initiator, "yes")).unwrap();
        world.run();
        assert_eq!(told.letters(), ["yes"]);
        let id = ConversationId::of_text("talk about tea");
        assert_eq!(world.conversation(initiator, id).unwrap().messages, 3);
        assert!(world.conversation(helper, id).is_none(), "the answer belongs to the conversation that there was");
        world.assert_settled();
    }
}

#[test]
fn a_replay_that_finds_the_shard_full_leaves_the_letter() {
    let mut world = Setup::new(2).lanes(2, 16).configured(|config| config.outbox = 3.try_into().unwrap()).start();
    let (sender, _) = world.add_listener(0, "sender");
    let gone = AgentId::of(&world.name_on(0, "gone"));
    let (helper, heard) = world.add_listener(1, "helper");
    for number in 0..8 {
        world.send(inform(sender, gone, &number.to_string()).build().unwrap()).unwrap();
        world.run();
    }
    // The other shard receives nothing: some messages find credit and three a place in the outbox.
    world.pause(1, true);
    let portion = replay_all(&mut world, 0, DeadLetterSearch::default(), Some(helper));
    let replayed = portion.replayed.len();
    assert!((4..8).contains(&replayed) && portion.refused.is_empty(), "{portion:?}");
    let stopped = portion.stopped.unwrap();
    assert!(matches!(stopped, ReplayError::NotAccepted { error: SendErrorKind::Full, .. }), "{stopped}");
    assert_eq!(world.snapshot(0).dead_letters, 8 - replayed);
    world.run();
    world.pause(1, false);
    world.run();
    let search = DeadLetterSearch { after: portion.next, ..DeadLetterSearch::default() };
    let portion = replay_all(&mut world, 0, search, Some(helper));
    assert_eq!((portion.replayed.len(), portion.stopped, portion.next), (8 - replayed, None, None));
    world.run();
    assert_eq!(heard.letters(), ["0", "1", "2", "3", "4", "5", "6", "7"], "in the order in which they died");
    assert_no_letters(&mut world);
    world.assert_settled();
}

#[test]
fn a_replay_to_a_full_mailbox_or_on_a_stopping_shard_leaves_the_letter_and_uses_nothing_up() {
    let mut world = Setup::new(1).configured(|config| config.mailbox_messages = 1.try_into().unwrap()).start();
    let (sender, told) = world.add_listener(0, "sender");
    let inbox = world.add_inbox(0, "inbox", 7, 1);
    for content in ["in the inbox", "in the mailbox", "too much"] {
        world.send(inform(sender, inbox, content).build().unwrap()).unwrap();
        world.run();
    }
    let letter = only_letter(&mut world);
    assert_eq!((letter.reason, told.len()), (DeadLetterReason::MailboxFull, 1));
    let id = letter.id;
    assert_eq!(replay(&mut world, id, None), Err(ReplayError::ReceiverFull { id }));
    world.give(0, Input::Drain);
    world.run();
    assert_eq!(replay(&mut world, id, None), Err(ReplayError::NotAccepted { id, error: SendErrorKind::Stopping }));
    world.stop_all();
    assert_eq!(replay(&mut world, id, None), Err(ReplayError::NotAccepted { id, error: SendErrorKind::Stopping }));
    let letter = world.dead_letters(0).into_iter().find(|letter| letter.id == id).unwrap();
    assert_eq!((letter.replays, world.total().accepted), (0, 3));
}

#[test]
fn a_full_mailbox_does_not_keep_letters_to_others_from_being_replayed() {
    let mut world = Setup::new(1).configured(|config| config.mailbox_messages = 1.try_into().unwrap()).start();
    let (sender, _) = world.add_listener(0, "sender");
    let inbox = world.add_inbox(0, "inbox", 7, 1);
    for content in ["in the inbox", "in the mailbox", "too much"] {
        world.send(inform(sender, inbox, content).build().unwrap()).unwrap();
        world.run();
    }
    let name = world.name_on(0, "late");
    world.send(inform(sender, AgentId::of(&name), "early").build().unwrap()).unwrap();
    world.run();
    let heard = Log::new();
    world.register(Script::listener(&heard).registration(name));
    let portion = replay_all(&mut world, 0, DeadLetterSearch::default(), None);
    assert_eq!((portion.replayed.len(), portion.stopped), (1, None));
    assert!(matches!(portion.refused[..], [ReplayError::ReceiverFull { .. }]), "{:?}", portion.refused);
    world.run();
    assert_eq!(heard.letters(), ["early"]);
}

#[test]
fn a_message_is_replayed_so_often_and_no_more_on_whichever_shards_it_dies() {
    let mut world = World::new(3);
    let (sender, told) = world.add_listener(0, "sender");
    let failing = [1, 2, 0].map(|shard| world.add(shard, "failing", moody(&switched_on(), &Log::new())));
    world.send(inform(sender, failing[0], "x").build().unwrap()).unwrap();
    world.advance(2_000);
    for (replays, receiver) in (0..REPLAYS_MAX).zip(failing.into_iter().cycle()) {
        let letter = only_letter(&mut world);
        assert_eq!(letter.replays, replays);
        assert_eq!(letter.first, WallTime(WALL_START_MS), "replays do not change when it was first accepted");
        assert_eq!(told.take().len(), 1, "its sender hears of it each time");
        replay(&mut world, letter.id, Some(receiver)).unwrap();
        world.advance(2_000);
    }
    let letter = only_letter(&mut world);
    assert_eq!((letter.replays, told.len()), (REPLAYS_MAX, 1));
    assert_eq!(replay(&mut world, letter.id, None), Err(ReplayError::TooOften { id: letter.id }));
    assert_eq!(only_letter(&mut world).id, letter.id);
    assert_eq!(world.total().dead_lettered, u64::from(REPLAYS_MAX) + 1);
    world.assert_settled();
}

#[test]
fn letters_that_die_again_at_once_are_not_replayed_twice_in_one_go() {
    let mut world = World::new(1);
    let (sender, _) = world.add_listener(0, "sender");
    let failing = world.add(0, "failing", moody(&switched_on(), &Log::new()));
    for _ in 0..3 {
        world.send(once(sender, failing, "x").build().unwrap()).unwrap();
        world.run();
    }
    let portion = replay_all(&mut world, 0, DeadLetterSearch::default(), None);
    assert_eq!((portion.replayed.len(), portion.next), (3, None));
    assert!(world.dead_letters(0).iter().map(|letter| letter.replays).eq([1, 1, 1]));
    world.run();
    world.assert_settled();
}

#[test]
fn a_letter_that_is_not_allowed_as_a_message_is_not_replayed() {
    let mut world = Setup::new(1).configured(|config| config.content_max = 1_024.try_into().unwrap()).start();
    let (agent, _) = world.add_listener(0, "agent");
    world.tell(inform(agent, agent, &"x".repeat(2_000)).build().unwrap());
    world.run();
    let id = only_letter(&mut world).id;
    let error = SendErrorKind::ContentTooLarge { bytes: 2_000, limit: 1_024 };
    assert_eq!(replay(&mut world, id, None), Err(ReplayError::NotAccepted { id, error }));
    assert_eq!(only_letter(&mut world).id, id);
}

#[test]
fn purging_throws_away_what_the_filter_means_and_answers_how_many() {
    let mut world = World::new(1);
    let (sender, _) = world.add_listener(0, "sender");
    for name in ["anna", "bert", "anna", "carl"] {
        world.send(inform(sender, AgentId::of_text(name), name).build().unwrap()).unwrap();
        world.run();
    }
    let all = DeadLetterFilter::default();
    assert_eq!(purge(&mut world, 0, DeadLetterFilter { receiver: Some(AgentId::of_text("anna")), ..all }), 2);
    assert_eq!(matching(&mut world, 0, all), ["carl", "bert"]);
    let only = DeadLetterFilter::only(world.dead_letters(0)[0].id);
    assert_eq!((purge(&mut world, 0, only), purge(&mut world, 0, only)), (1, 0));
    assert_eq!(purge(&mut world, 0, all), 1);
    let snapshot = world.snapshot(0);
    assert_eq!((snapshot.dead_letters, snapshot.account.dead_lettered), (0, 4), "the totals still count them");
    world.assert_settled();
}

#[test]
fn a_replay_that_does_not_come_to_its_receiver_leaves_the_letter_as_it_was() {
    for (died_on, to) in [(0, None), (0, Some(0)), (0, Some(1)), (1, Some(0)), (1, Some(2))] {
        let mut world = World::new(3);
        let (sender, _) = world.add_listener(0, "sender");
        let failing = world.add(died_on, "failing", moody(&switched_on(), &Log::new()));
        world.send(inform(sender, failing, "tea").build().unwrap()).unwrap();
        world.advance(2_000);
        assert!(world.deregister(failing));
        let letter = only_letter(&mut world);
        assert_eq!((letter.reason, letter.attempts), (DeadLetterReason::AttemptsExhausted, 4));
        let to = to.map(|shard| AgentId::of(&world.name_on(shard, "nobody")));
        for _ in 0..REPLAYS_MAX + 3 {
            let id = letter.id;
            assert_eq!(replay(&mut world, id, to), Err(ReplayError::NoReceiver { id }), "{died_on} {to:?}");
            world.run();
            assert_eq!(format!("{:?}", only_letter(&mut world)), format!("{letter:?}"));
        }
        assert_eq!(world.nodes[usize::from(died_on)].shard.snapshot().dead_letters_replayed, 0);
        // It can still be sent to another agent.
        let (helper, heard) = world.add_listener(1, "helper");
        replay(&mut world, letter.id, Some(helper)).unwrap();
        world.run();
        assert_eq!((heard.letters(), heard.take()[0].replay().unwrap().times), (vec!["tea".to_owned()], 1));
        assert_no_letters(&mut world);
        world.assert_settled();
    }
}

#[test]
fn a_replay_to_a_full_mailbox_of_another_shard_leaves_the_letter() {
    for policy in OverflowPolicy::ALL {
        let mut world = Setup::new(2).configured(|config| config.mailbox_messages = 1.try_into().unwrap()).start();
        let (sender, _) = world.add_listener(0, "sender");
        let gone = AgentId::of(&world.name_on(0, "gone"));
        let name = world.name_on(1, "suspended");
        let full = world.register(Script::idle().registration(name).overflow(policy));
        world.answer_now(1, |token| Input::Suspend(full, token));
        world.send(inform(sender, full, "in the mailbox").build().unwrap()).unwrap();
        world.send(inform(sender, gone, "tea").build().unwrap()).unwrap();
        world.run();
        let letter = only_letter(&mut world);
        let id = letter.id;
        assert_eq!(replay(&mut world, id, Some(full)), Err(ReplayError::ReceiverFull { id }), "{policy}");
        assert_eq!(format!("{:?}", only_letter(&mut world)), format!("{letter:?}"));
        world.answer_now(1, |token| Input::Resume(full, token));
        world.run();
        replay(&mut world, id, Some(full)).unwrap();
        world.run();
        assert_no_letters(&mut world);
        world.assert_settled();
    }
}
