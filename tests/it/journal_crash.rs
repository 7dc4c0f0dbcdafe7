//! Power cuts under the journal: at any moment of writing, what was committed is there, in order and byte for byte.
//!
//! The disk is simulated: a write that was not reported may or may not be there, decided by the dice for each sector,
//! and so may names whose directory was not synced. `CAXTON_CRASH_SEEDS=0..20000` selects other seeds than the usual
//! ones.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use caxton_router::sim::Dice;
use caxton_router::store::disk::simulated::{Faults, SimulatedDisk};
use caxton_router::store::disk::{Disk, DiskFile, Files};
use caxton_router::store::journal::{
    Journal, JournalError, JournalId, JournalOptions, JournalState, WRITE_TIME_MAX_MS, scan,
};
use caxton_router::store::manifest::Identity;
use caxton_shards::journal::record::{Lsn, Record, RecordKind, Records};
use caxton_shards::message::{AgentId, MessageId, WallTime};
use rustix::io::Errno;

/// Seeds of the usual run.
const SEEDS: Range<u64> = 0..500;

fn seeds() -> Range<u64> {
    let Ok(text) = std::env::var("CAXTON_CRASH_SEEDS") else { return SEEDS };
    let (first, end) = text.split_once("..").expect("CAXTON_CRASH_SEEDS is a range such as 0..20000");
    first.parse().expect("a number")..end.parse().expect("a number")
}

fn options(shard: u16) -> JournalOptions {
    JournalOptions {
        directory: PathBuf::from("/journal"),
        id: JournalId { directory: Identity(1), generation: 1, shards: 5, shard, boot_epoch: 7 },
        segment_bytes: 512 << 10,
        segments_max: 4,
        retained_messages: 20,
        history: 1_000,
    }
}

/// A journal written at random, and its expected contents.
struct Story {
    disk: SimulatedDisk,
    journal: Journal<SimulatedDisk>,
    dice: Dice,
    /// What was passed to it: each record's kind and body, from sequence number one.
    written: Vec<(u8, Vec<u8>)>,
    now_ms: u64,
    settles: bool,
}

impl Story {
    fn begin(seed: u64) -> Self {
        let disk = SimulatedDisk::new(seed);
        let journal = Journal::create(disk.clone(), options(3)).expect("there is room for the first segment");
        Self { disk, journal, dice: Dice::of(seed, 1), written: Vec::new(), now_ms: 0, settles: true }
    }

    fn last(&self) -> u64 {
        self.written.len() as u64
    }

    fn append(&mut self) {
        let mut records = Records::after(Lsn(self.last()));
        for _ in 0..self.dice.between(1, 5) {
            let pairs = self.dice.index(400);
            let id = MessageId::from_u128(u128::from(self.dice.next()) | 1).expect("it is not zero");
            let record = match self.dice.below(3) {
                // Some records release another one at once, if it still exists; and some are long.
                0 if self.settles && self.last() > 0 => Record::Settled(Lsn(1 + self.dice.below(self.last())), false),
                _ => Record::Handled(vec![(id, AgentId::of_text("somebody")); pairs]),
            };
            record.write(&mut records);
        }
        for record in caxton_shards::journal::record::split(records.bytes()) {
            let (kind, body) = record.expect("whole records are written");
            self.written.push((kind, body.to_vec()));
        }
        self.journal.append(records.bytes());
    }

    /// Appends a first record that is never released.
    fn append_needed(&mut self) {
        assert_eq!(self.last(), 0);
        self.settles = false;
        let message = caxton_router::Message::builder(caxton_router::Performative::Inform)
            .receiver(AgentId::of_text("somebody"))
            .build()
            .expect("a legal message");
        let kept = caxton_shards::journal::record::DurableMessage {
            replaces: None,
            first: None,
            shown: false,
            expires: caxton_router::message::WallTime(1),
            receiver_name: "somebody".into(),
            attempts: 0,
            message,
        };
        let mut records = Records::after(Lsn(0));
        Record::Message(kept).write(&mut records);
        let bytes = records.bytes().to_vec();
        self.written.push((RecordKind::Message as u8, bytes[5..].to_vec()));
        self.journal.append(&bytes);
    }

    fn act(&mut self, actions: u32) {
        for _ in 0..actions {
            if self.dice.once_in(3) {
                self.append();
            }
            self.now_ms += self.dice.below(200);
            if self.journal.wants_mark(self.now_ms) {
                self.journal.mark(self.now_ms, WallTime(self.now_ms));
            }
            self.journal.poll(self.now_ms);
        }
    }
}

/// Returns the contents of a journal on this disk: the records by LSN.
fn read(disk: &SimulatedDisk, shard: u16) -> Result<BTreeMap<u64, (u8, Vec<u8>)>, JournalError> {
    let mut found = BTreeMap::new();
    scan(disk, Path::new("/journal"), &options(shard).id, |sequence, kind, body| {
        found.insert(sequence.0, (kind, body.to_vec()));
        Ok(())
    })?;
    Ok(found)
}

/// Plays a story, cuts the power and checks the result. Returns what is wrong.
fn cut(seed: u64, faults: &Faults) -> Result<(), String> {
    let mut story = Story::begin(seed);
    story.disk.set_faults(faults.clone());
    let actions = story.dice.between(1, 400);
    story.act(actions);
    let committed = story.journal.committed().0;
    let disk = story.disk.power_cut(seed ^ 0x5eed);
    let found = read(&disk, 3).map_err(|fault| fault.to_string())?;
    for (sequence, record) in &found {
        let place = usize::try_from(*sequence).map_err(|error| error.to_string())? - 1;
        if story.written.get(place) != Some(record) {
            return Err(format!("record {sequence} is not the one that was written"));
        }
    }
    if let (Some(first), Some(last)) = (found.keys().next(), found.keys().next_back())
        && *last - *first + 1 != found.len() as u64
    {
        return Err("records are missing in between".to_owned());
    }
    let last = found.keys().next_back().copied().unwrap_or(0);
    if last < committed {
        return Err(format!("{committed} records were committed and {last} are there"));
    }
    // Nothing here holds a segment, so old ones are reused; but the newest records stay for their ids.
    let first = found.keys().next().copied().unwrap_or(1);
    if committed > 0 && first > committed.saturating_sub(20).max(1) {
        return Err(format!("records from {first} on are there, and the last 20 before {committed} were to stay"));
    }
    if read(&disk, 3).map_err(|fault| fault.to_string())? != found {
        return Err("reading it again finds something else".to_owned());
    }
    Ok(())
}

#[test]
fn what_was_committed_survives_a_power_cut_and_nothing_else_is_served() {
    for seed in seeds() {
        if let Err(what) = cut(seed, &Faults::default()) {
            panic!("seed {seed}: {what}; run it with CAXTON_CRASH_SEEDS={seed}..{}", seed + 1);
        }
    }
}

#[test]
fn a_file_that_is_missing_is_told_whichever_it_is() {
    let mut told = 0;
    for seed in 0..100 {
        let mut story = Story::begin(seed);
        let actions = story.dice.between(1, 600);
        story.act(actions);
        let disk = story.disk.power_cut(seed);
        let found = read(&disk, 3).expect("nothing is missing yet");
        let names = disk.names(Path::new("/journal")).expect("there are files");
        for path in names.iter().map(|name| Path::new("/journal").join(name)) {
            let mut without = disk.power_cut(seed);
            without.remove(&path).expect("it is removed");
            match read(&without, 3) {
                Err(_) => told += 1,
                // One that is being created, or was given up.
                Ok(rest) => assert_eq!(rest, found, "seed {seed}: nothing was said of {}", path.display()),
            }
        }
    }
    assert!(told > 300, "only {told} were told");
}

#[test]
fn a_journal_that_was_closed_ends_with_its_last_record() {
    let mut story = Story::begin(14);
    story.act(300);
    while story.journal.is_busy() {
        story.now_ms += 10;
        story.journal.poll(story.now_ms);
    }
    story.journal.close(WallTime(1)).expect("nothing waits to be written");
    let disk = story.disk.power_cut(1);
    let found = read(&disk, 3).expect("it is whole");
    assert_eq!(found.keys().next_back().copied(), Some(story.last()));
    // Bytes of the last frame are damaged as by a torn write, although nothing was being written.
    let summary = scan(&disk, Path::new("/journal"), &options(3).id, |_, _, _| Ok(())).expect("it is whole");
    let last = summary.segments.iter().rfind(|segment| segment.frames > 0).expect("there are frames");
    disk.damage(&last.path, usize::try_from(last.bytes).expect("it is small") - 4096, &[0; 4096]);
    let fault = read(&disk, 3).expect_err("it is damaged");
    assert!(matches!(fault, JournalError::Damaged { .. }), "{fault}");
}

#[test]
fn a_disk_that_lies_is_found_out() {
    let forgets_writes = Faults { forgets_every: Some(7), ..Faults::default() };
    let forgets_names = Faults { forgets_names: true, ..Faults::default() };
    for faults in [forgets_writes, forgets_names] {
        assert!((0..100).any(|seed| cut(seed, &faults).is_err()), "nothing is noticed of {faults:?}");
    }
}

#[test]
fn a_record_that_is_needed_keeps_its_segment_and_is_named_to_be_written_anew() {
    let mut story = Story::begin(11);
    story.append_needed();
    let mut wanted = None;
    for _ in 0..4_000 {
        story.act(1);
        wanted = wanted.or(story.journal.wants_carried());
    }
    assert!(wanted.is_some_and(|upto| upto.0 >= 1), "the message stands in the way: {wanted:?}");
    assert_eq!(story.journal.state(), JournalState::Full);
    let committed = story.journal.committed();
    let mut records = Records::after(Lsn(story.last()));
    Record::Settled(Lsn(1), false).write(&mut records);
    story.written.push((RecordKind::Settled as u8, records.bytes()[5..].to_vec()));
    story.journal.append(records.bytes());
    for _ in 0..200 {
        story.now_ms += 1_000;
        story.journal.poll(story.now_ms);
    }
    assert!(story.journal.committed() > committed, "there is room again");
}

#[test]
fn a_full_disk_is_waited_for_and_any_other_failure_is_the_end() {
    let mut story = Story::begin(12);
    story.act(100);
    story.disk.set_faults(Faults { writes: vec![Errno::NOSPC.raw_os_error(); 3], ..Faults::default() });
    story.append();
    let mut was_full = false;
    for _ in 0..100 {
        story.now_ms += 100;
        story.journal.poll(story.now_ms);
        was_full |= matches!(story.journal.state(), JournalState::NoSpace(_));
    }
    assert!(was_full && !story.journal.is_busy(), "it goes on by itself");
    assert_eq!(story.journal.committed().0, story.last());
    story.disk.set_faults(Faults { writes: vec![Errno::IO.raw_os_error()], ..Faults::default() });
    let before = story.journal.committed();
    for _ in 0..50 {
        story.append();
        story.now_ms += 1_000;
        story.journal.poll(story.now_ms);
    }
    assert!(matches!(story.journal.state(), JournalState::Failed(_)), "{:?}", story.journal.state());
    assert_eq!(story.journal.committed(), before, "nothing is tried again");
}

/// Makes one kind of operation fail.
type Failing = fn(&mut Faults, Vec<i32>);

const STEPS: [(&str, Failing); 9] = [
    ("open", |faults, errors| faults.opens = errors),
    ("create", |faults, errors| faults.creates = errors),
    ("create, then open", |faults, errors| faults.creates_unopened = errors),
    ("rename", |faults, errors| faults.renames = errors),
    ("remove", |faults, errors| faults.removes = errors),
    ("begin a write", |faults, errors| faults.submits = errors),
    ("write", |faults, errors| faults.writes = errors),
    ("begin a sync", |faults, errors| faults.sync_begins = errors),
    ("sync", |faults, errors| faults.syncs = errors),
];

const PASSING: [Errno; 10] = [
    Errno::NOSPC,
    Errno::DQUOT,
    Errno::FBIG,
    Errno::MFILE,
    Errno::NFILE,
    Errno::NOMEM,
    Errno::INTR,
    Errno::AGAIN,
    Errno::BUSY,
    Errno::NOBUFS,
];

/// Plays a story in which one kind of operation fails `times` times in a row, from some moment on, and cuts the power
/// at its end.
fn fail_and_cut(seed: u64, failing: Failing, errno: Errno, times: usize) -> Result<(), String> {
    let mut story = Story::begin(seed);
    let actions = story.dice.between(1, 600);
    story.act(actions);
    let mut faults = Faults::default();
    failing(&mut faults, vec![errno.raw_os_error(); times]);
    story.disk.set_faults(faults);
    // A new segment that finds no room is removed, which can fail as well.
    let actions = story.dice.between(1, 600);
    story.act(actions);
    let failed = matches!(story.journal.state(), JournalState::Failed(_));
    if failed && PASSING.contains(&errno) {
        return Err(format!("it has failed for good: {:?}", story.journal.state()));
    }
    story.disk.set_faults(Faults::default());
    if !failed {
        let actions = story.dice.between(1, 300);
        story.act(actions);
        while story.journal.is_busy() {
            story.now_ms += 100;
            story.journal.poll(story.now_ms);
        }
        if story.journal.committed().0 != story.last() {
            return Err("not everything was written when nothing failed any more".to_owned());
        }
    }
    let committed = story.journal.committed().0;
    for disk in [story.disk.clone(), story.disk.power_cut(seed ^ 0x5eed)] {
        let found = read(&disk, 3).map_err(|fault| fault.to_string())?;
        let last = found.keys().next_back().copied().unwrap_or(0);
        let first = found.keys().next().copied().unwrap_or(1);
        if last < committed || committed > 0 && first > committed.saturating_sub(20).max(1) {
            return Err(format!("{committed} records were committed, and {first} to {last} are there"));
        }
        if found.len() as u64 != last + 1 - first {
            return Err("records are missing in between".to_owned());
        }
    }
    Ok(())
}

#[test]
fn whatever_step_of_making_a_segment_fails_nothing_is_lost_and_what_passes_is_tried_again() {
    for (name, failing) in STEPS {
        for errno in PASSING.into_iter().chain([Errno::IO, Errno::ROFS, Errno::ACCESS]) {
            for (seed, times) in (0..6).flat_map(|seed| [(seed, 1), (seed, 7)]) {
                if let Err(what) = fail_and_cut(seed, failing, errno, times) {
                    panic!("{name} fails {times} times with {errno} in story {seed}: {what}");
                }
            }
        }
    }
}

#[test]
fn a_full_disk_is_said_once_and_until_there_is_room() {
    let mut story = Story::begin(21);
    story.append_needed();
    let no_room = Faults { creates: vec![Errno::NOSPC.raw_os_error(); 10_000], ..Faults::default() };
    story.disk.set_faults(Faults { free_space: Some(0), ..no_room });
    // Nothing can be reused, because the first segment is needed: so the current one fills.
    let mut states = Vec::new();
    let mut take_note = |story: &Story| {
        let state = story.journal.state();
        if states.last() != Some(&state) {
            states.push(state);
        }
    };
    while !matches!(story.journal.state(), JournalState::NoSpace(_)) {
        story.act(1);
        take_note(&story);
    }
    for _ in 0..2_000 {
        story.now_ms += 20;
        story.journal.poll(story.now_ms);
        take_note(&story);
    }
    assert!(story.journal.is_stuck());
    story.disk.set_faults(Faults::default());
    for _ in 0..2_000 {
        story.now_ms += 20;
        story.journal.poll(story.now_ms);
        take_note(&story);
    }
    // A segment shorter than two frames has no room to spare.
    let expected = matches!(
        states[..],
        [JournalState::NoSpace(_), JournalState::Ready]
            | [JournalState::Ready, JournalState::NoSpace(_), JournalState::Ready]
    );
    assert!(expected, "{states:?}");
    assert_eq!(story.journal.committed().0, story.last());
}

#[test]
fn a_write_that_is_never_complete_is_said() {
    let mut story = Story::begin(22);
    story.append();
    while story.journal.is_busy() {
        story.journal.poll(0);
    }
    story.append();
    story.journal.poll(0);
    // The dice determine how often it is polled before it is complete.
    story.disk.set_faults(Faults { hangs: true, ..Faults::default() });
    story.journal.poll(WRITE_TIME_MAX_MS);
    assert_eq!(story.journal.state(), JournalState::Ready);
    story.journal.poll(WRITE_TIME_MAX_MS + 1);
    assert!(matches!(story.journal.state(), JournalState::Obstructed(_)));
    story.disk.set_faults(Faults::default());
    while story.journal.is_busy() {
        story.journal.poll(2 * WRITE_TIME_MAX_MS);
    }
    assert_eq!(story.journal.state(), JournalState::Ready);
}

#[test]
fn damage_in_the_middle_is_reported_with_its_place_and_nothing_is_served() {
    let mut story = Story::begin(13);
    story.act(600);
    while story.journal.is_busy() {
        story.now_ms += 10;
        story.journal.poll(story.now_ms);
    }
    let mut disk = story.disk.clone();
    let names = disk.list(Path::new("/journal")).expect("there are segments");
    let first = Path::new("/journal").join(&names[0]);
    assert!(disk.open(&first).expect("it is there").length().expect("it has one") > 0);
    assert!(read(&disk, 3).is_ok());
    disk.damage(&first, 70, b"damage");
    let fault = read(&disk, 3).expect_err("it is damaged");
    assert!(matches!(&fault, JournalError::Damaged { path, offset: 0, .. } if *path == first), "{fault}");
    assert!(read(&story.disk, 4).is_err(), "it is another shard's");
}
