//! The journal's records: what is written reads back, and no bytes make the reader panic.

use caxton_shards::dead_letter::{DeadLetter, DeadLetterId, DeadLetterReason};
use caxton_shards::journal::record::{
    ConversationStep, DurableMessage, HandledMessage, Lsn, Origin, PersistentAgent, Projects, Record, RecordClass,
    RecordKind, Records, split,
};
use caxton_shards::message::{AgentId, MessageId, WallTime};
use caxton_shards::routing::partition::ShardIndex;
use proptest::prelude::*;

use crate::generators::{message, name};

/// Writes a record and reads it back.
fn again(record: &Record) -> Record {
    let mut records = Records::after(Lsn(6));
    assert_eq!(record.write(&mut records), Lsn(7));
    let mut found = split(records.bytes());
    let (kind, body) = found.next().expect("there is one").expect("it is whole");
    assert!(found.next().is_none(), "there is one");
    for length in 0..body.len() {
        assert!(Record::read(kind, &body[..length]).is_err(), "a record that is cut short is none");
    }
    Record::read(kind, body).expect("what was written reads back")
}

proptest! {
    #[test]
    fn a_message_reads_back_with_everything_that_it_is(message in message(), expires: u64, shown: bool) {
        let kept = DurableMessage {
            replaces: Some(Lsn(3)),
            first: shown.then_some(Lsn(2)),
            shown,
            expires: WallTime(expires),
            receiver_name: "somebody".into(),
            attempts: 0,
            message,
        };
        match again(&Record::Message(kept.clone())) {
            Record::Message(found) => prop_assert_eq!(found, kept),
            other => prop_assert!(false, "{:?}", other),
        }
    }

    #[test]
    fn a_dead_letter_and_a_step_read_back(message in message(), number: u64, attempts: u8, reason in 0..DeadLetterReason::COUNT) {
        let letter = DeadLetter {
            id: DeadLetterId { shard: ShardIndex(5), number },
            message: message.clone(),
            reason: DeadLetterReason::ALL[reason],
            attempts,
            last_error: Some("it failed".into()),
            first: WallTime(1),
            last: WallTime(2),
            shard: ShardIndex(5),
            replays: 3,
        };
        match again(&Record::DeadLetter(Box::new(letter.clone()), None)) {
            Record::DeadLetter(found, None) => prop_assert_eq!(format!("{found:?}"), format!("{letter:?}")),
            other => prop_assert!(false, "{:?}", other),
        }
        let step = ConversationStep {
            initiator: AgentId::of_text("one"),
            initiator_name: "one".into(),
            at: WallTime(9),
            violates: true,
            message,
        };
        match again(&Record::ConversationStep(Box::new(step.clone()))) {
            Record::ConversationStep(found) => {
                prop_assert!(found.message.content().is_empty(), "a step is remembered without its content");
                prop_assert_eq!(found.message.details(), step.message.details());
                prop_assert_eq!((found.initiator, found.at, found.violates), (step.initiator, step.at, step.violates));
            }
            other => prop_assert!(false, "{:?}", other),
        }
    }

    #[test]
    fn an_agent_reads_back(name in name(), capabilities in proptest::collection::vec("[a-z]{1,20}", 0..5)) {
        let capabilities = capabilities.into_iter().map(String::into_boxed_str).collect();
        let agent = PersistentAgent { name, capabilities };
        match again(&Record::Agent(agent.clone(), Some(Lsn(1)))) {
            Record::Agent(found, Some(Lsn(1))) => prop_assert_eq!(found, agent),
            other => prop_assert!(false, "{:?}", other),
        }
    }

    #[test]
    fn junk_is_refused_and_never_panics(kind: u8, junk in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = Record::read(kind, &junk);
        let _ = RecordClass::of(kind, &junk);
        prop_assert!(split(&junk).count() <= junk.len());
    }
}

#[test]
fn every_kind_is_known_by_its_number_and_says_what_it_holds() {
    for kind in RecordKind::ALL {
        assert_eq!(RecordKind::of(kind as u8), Some(kind));
    }
    assert_eq!(RecordKind::of(0), None);
    let mut records = Records::default();
    Record::Settled(Lsn(12), true).write(&mut records);
    let (kind, body) = split(records.bytes()).next().expect("there is one").expect("it is whole");
    let class = RecordClass { releases: Some(Lsn(12)), projects: Projects::State, ..RecordClass::default() };
    assert_eq!(RecordClass::of(kind, body), class);
}

#[test]
fn what_came_how_often_it_was_tried_and_what_was_withdrawn_read_back() {
    let [one, two] = ["one", "two"].map(AgentId::of_text);
    let handled = |number, sender| HandledMessage { id: MessageId::from_u128(number).unwrap(), receiver: one, sender };
    let seen = vec![handled(7, Origin::Outside), handled(u128::MAX, Origin::Agent(two))];
    match again(&Record::Seen(seen.clone())) {
        Record::Seen(found) => assert_eq!(found, seen),
        other => panic!("{other:?}"),
    }
    let without_senders = vec![(seen[0].id, one)];
    match again(&Record::Handled(without_senders.clone())) {
        Record::Handled(found) => assert_eq!(found, without_senders),
        other => panic!("{other:?}"),
    }
    match again(&Record::Attempts(Lsn(9), 3)) {
        Record::Attempts(Lsn(9), 3) => {}
        other => panic!("{other:?}"),
    }
    match again(&Record::Withdrawn(Lsn(9))) {
        Record::Withdrawn(Lsn(9)) => {}
        other => panic!("{other:?}"),
    }
}
