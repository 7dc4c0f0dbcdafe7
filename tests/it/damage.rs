//! Damaged data directories: a start serves everything that was acknowledged, or it refuses and changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use caxton_router::domain::ShardCount;
use caxton_router::message::Reliability;
use caxton_router::message::WallTime;
use caxton_router::sim::Dice;
use caxton_router::store::clock::Stamp;
use caxton_router::store::disk::direct::DirectDisk;
use caxton_router::store::disk::host::HostFiles;
use caxton_router::store::journal::{Journal, JournalOptions, read_catalogue};
use caxton_router::store::recover::Repair;
use caxton_router::store::{DataDirectory, StoreError};
use caxton_router::{AgentId, Message, Performative, Router};
use caxton_shards::journal::record::{DurableMessage, Lsn, Record, Records, split};
use caxton_shards::message::MessageId;
use caxton_shards::routing::partition::Partition;
use caxton_shards::shard::recovery::RecoveredState;

/// Far longer than any of the waits here takes.
const PATIENCE: Duration = Duration::from_mins(1);

/// Every file below a directory with its bytes.
type Tree = BTreeMap<PathBuf, Option<Vec<u8>>>;

fn tree(directory: &Path) -> Tree {
    let read = |path: &Path| (!path.is_dir()).then(|| fs::read(path).expect("it can be read"));
    paths(directory).into_iter().map(|path| (path.clone(), read(&path))).collect()
}

/// Returns everything below a directory, in order.
fn paths(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut waiting = vec![directory.to_owned()];
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(&directory).expect("it can be read") {
            let path = entry.expect("it can be read").path();
            if path.is_dir() {
                waiting.push(path.clone());
            }
            found.push(path);
        }
    }
    found.sort_unstable();
    found
}

fn start(directory: &Path, shards: u16) -> Router {
    let shards = ShardCount::try_new(shards).expect("a legal number of shards");
    Router::builder().shards(shards).store(directory).start().expect("the router starts")
}

/// Creates dead letters, which stay until somebody removes them.
fn keep(router: &Router, count: usize) {
    for number in 0..count {
        let receiver = AgentId::of_text(&format!("nobody-{number}"));
        let message = Message::builder(Performative::Inform).receiver(receiver).reliability(Reliability::Durable);
        router.blocking().send(message.build().expect("a legal message")).expect_err("there is no such agent");
    }
}

fn stop(router: &Router) {
    router.shutdown(Duration::from_secs(10)).expect("it stops");
}

/// Opens a directory as a start does, up to where it would begin to write. Returns the number of dead letters found.
fn open(directory: &Path) -> Result<usize, StoreError> {
    let one = ShardCount::try_new(1).expect("one shard");
    let (_, found) = DataDirectory::open(directory, 1, 1)?.recover(1_000, Partition::new(one))?;
    Ok(found.dead_letters)
}

/// Creates the directory of a stopped router of two shards, with 20 dead letters.
fn stopped() -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    let router = start(directory.path(), 2);
    keep(&router, 20);
    stop(&router);
    directory
}

/// A kind of damage to a directory, and what the refusal has to name.
type Damage = (fn(&Path), &'static str);

#[test]
fn what_the_manifest_does_not_account_for_is_refused_and_stays_as_it_is() {
    let generation = |directory: &Path, number: u64| directory.join(format!("gen-{number}"));
    let damages: [Damage; 9] = [
        (|directory| fs::remove_file(directory.join("manifest.toml")).expect("it is there"), "no manifest"),
        (|directory| fs::write(directory.join("manifest.toml"), "").expect("it is written"), "manifest.toml"),
        (
            |directory| {
                let path = directory.join("manifest.toml");
                let text = fs::read_to_string(&path).expect("it is there");
                fs::write(&path, text.replace("shards = 2", "shards = 1")).expect("it is written");
            },
            "checksum",
        ),
        (|directory| fs::remove_dir_all(directory.join("gen-1")).expect("it is there"), "expected: generation 1"),
        (|directory| fs::create_dir(directory.join("gen-7")).expect("it is made"), "older than the directory"),
        (
            |directory| fs::remove_dir_all(directory.join("gen-1/shard-1")).expect("it is there"),
            "directory of a shard is missing",
        ),
        (
            |directory| fs::remove_dir_all(directory.join("gen-1/shard-0")).expect("it is there"),
            "directory of a shard is missing",
        ),
        (|directory| fs::create_dir(directory.join("gen-1/shard-2")).expect("it is made"), "a shard more"),
        (
            |directory| {
                fs::remove_file(directory.join("manifest.toml")).expect("it is there");
                fs::remove_dir_all(directory.join("gen-1")).expect("it is there");
            },
            "lock file says",
        ),
    ];
    for (place, (damage, named)) in damages.iter().enumerate() {
        let directory = stopped();
        assert!(generation(directory.path(), 1).exists());
        damage(directory.path());
        for lock in ["there", "removed"] {
            if lock == "removed" && *named != "lock file says" {
                fs::remove_file(directory.path().join("lock")).expect("it is there");
            }
            let before = tree(directory.path());
            let refusal = open(directory.path()).expect_err("it is damaged").to_string();
            assert!(refusal.contains(named), "damage {place}: {refusal}");
            let refusal = Router::builder().store(directory.path()).start().expect_err("it is damaged").to_string();
            assert!(refusal.contains(named), "damage {place}: {refusal}");
            assert!(tree(directory.path()) == before, "damage {place}: something was changed");
        }
    }
}

#[test]
fn the_generation_before_the_present_one_is_kept_until_the_router_stops() {
    let directory = stopped();
    let generations = || {
        let mut names: Vec<_> = fs::read_dir(directory.path())
            .expect("it can be read")
            .filter_map(|entry| entry.expect("it can be read").file_name().into_string().ok())
            .filter(|name| name.starts_with("gen-"))
            .collect();
        names.sort_unstable();
        names
    };
    assert_eq!(generations(), ["gen-1"]);
    let router = start(directory.path(), 3);
    assert_eq!(generations(), ["gen-1", "gen-2"]);
    stop(&router);
    drop(router);
    assert_eq!(generations(), ["gen-2"]);
    assert_eq!(open(directory.path()).expect("it is whole"), 20);
}

#[test]
fn a_router_that_has_nothing_to_do_has_noted_what_is_on_disk() {
    let directory = tempfile::tempdir().expect("a directory");
    let router = start(directory.path(), 1);
    let catalogue = || read_catalogue(&HostFiles, &directory.path().join("gen-1/shard-0"));
    let mut kept = 0;
    for count in 1..4 {
        keep(&router, count);
        kept += count as u64;
        let began = Instant::now();
        // A read may happen between the two halves of a write.
        let committed = || catalogue().map_or(0, |found| found.committed.0);
        while committed() < kept {
            assert!(began.elapsed() < PATIENCE, "nothing was noted");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    stop(&router);
    assert!(catalogue().expect("it is whole").closed);
}

#[test]
fn nobody_else_can_read_what_the_store_writes() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().join("data");
    let router = start(&data, 1);
    keep(&router, 1);
    let copy = directory.path().join("copy");
    caxton_router::store::backup::backup(&data, &copy).expect("it is copied");
    for (path, bytes) in tree(directory.path()) {
        let mode = fs::metadata(&path).expect("it is there").permissions().mode() & 0o777;
        let expected = if bytes.is_some() { 0o600 } else { 0o700 };
        assert_eq!(mode, expected, "{} has the mode {mode:o}", path.display());
    }
    stop(&router);
}

/// Number of directories damaged at random in a usual run, and the environment variable that changes it.
const CASES: u64 = 500;
/// The length of a segment in bytes: short, so that many are used and copying is quick.
const SEGMENT_BYTES: u64 = 256 << 10;

fn number_of(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{variable} is a number")))
}

/// A data directory, and what was acknowledged and is not settled in it.
struct Source {
    directory: tempfile::TempDir,
    expected: BTreeSet<String>,
    /// Manifests that preceded the current one.
    manifests: Vec<Vec<u8>>,
}

impl Source {
    /// Whether anything in a copy still records the current generation if the manifest does not: its own directory, or
    /// the lock file. If all three are gone or older, the copy is in its earlier state.
    fn left_a_trace_in(&self, copy: &Path) -> bool {
        let own = self.directory.path();
        let read = |directory: &Path, name: &str| fs::read(directory.join(name)).ok();
        let generations = paths(own).into_iter().filter(|path| path.parent() == Some(own) && path.is_dir());
        let newest = generations.max().expect("there is one");
        copy.join(newest.file_name().expect("it has a name")).exists()
            || read(copy, "lock") == read(own, "lock")
            || read(copy, "manifest.toml") == read(own, "manifest.toml")
    }

    fn empty() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        Self { directory, expected: BTreeSet::new(), manifests: Vec::new() }
    }
}

/// Writes a directory as a router does, and ends as after a stop or a kill.
struct Writer {
    dice: Dice,
    source: Source,
    written: u64,
}

impl Writer {
    fn source(seed: u64, starts: &[u16], stops: bool) -> Source {
        let mut writer = Self { dice: Dice::new(seed), source: Source::empty(), written: 0 };
        for (place, shards) in starts.iter().enumerate() {
            writer.start(*shards, stops || place + 1 < starts.len() && writer.written.is_multiple_of(2));
        }
        writer.source
    }

    fn note_manifest(&mut self) {
        let manifest = fs::read(self.source.directory.path().join("manifest.toml")).expect("there is one");
        self.source.manifests.push(manifest);
    }

    fn start(&mut self, shards: u16, stops: bool) {
        let path = self.source.directory.path().to_owned();
        let partition = Partition::new(ShardCount::try_new(shards).expect("a legal number of shards"));
        let mut directory = DataDirectory::open(&path, shards, 7).expect("it is whole");
        let (left, _) = directory.recover(0, partition).expect("it is whole");
        directory.prepare().expect("it can be written");
        self.note_manifest();
        let mut journals = Vec::new();
        for (shard, part) in (0..shards).zip(&left) {
            journals.push(begin(&directory, shard, part));
        }
        directory.commit().expect("it can be written");
        self.note_manifest();
        for journal in &mut journals {
            self.fill(journal);
        }
        if stops {
            for journal in &mut journals {
                journal.close(WallTime(9)).expect("nothing waits");
            }
            directory.close().expect("it can be written");
            self.note_manifest();
        }
    }

    /// Adds messages, of which a few stay unsettled, and enough others that segments are reused.
    fn fill(&mut self, journal: &mut Journal<DirectDisk>) {
        for _ in 0..self.dice.between(3, 60) {
            let mut records = Records::after(journal.committed());
            let content = format!("message {}", self.written);
            self.written += 1;
            let message = Message::builder(Performative::Inform)
                .id(MessageId::from_u128(u128::from(self.written)).expect("it is not zero"))
                .receiver(AgentId::of_text("somebody"))
                .content(content.clone());
            let kept = DurableMessage {
                replaces: None,
                first: None,
                shown: false,
                expires: WallTime(u64::MAX / 4),
                receiver_name: "somebody".into(),
                attempts: 0,
                message: message.build().expect("a legal message"),
            };
            let sequence = Lsn(records.last().0 + 1);
            Record::Message(kept).write(&mut records);
            if self.dice.once_in(8) && self.source.expected.len() < 12 {
                self.source.expected.insert(content);
            } else {
                Record::Settled(sequence, false).write(&mut records);
            }
            let filler = vec![(MessageId::from_u128(1).expect("it is not zero"), AgentId::of_text("x")); 400];
            for _ in 0..self.dice.below(5) {
                Record::Handled(filler.clone()).write(&mut records);
            }
            journal.append(records.bytes());
            settle(journal);
        }
        journal.mark(0, WallTime(8));
        settle(journal);
    }
}

/// Begins a journal with what is left for it.
fn begin(directory: &DataDirectory, shard: u16, left: &RecoveredState) -> Journal<DirectDisk> {
    let options = JournalOptions {
        directory: directory.shard(shard),
        id: directory.journal(shard),
        segment_bytes: SEGMENT_BYTES,
        segments_max: 8,
        retained_messages: 20,
        history: 0,
    };
    let disk = DirectDisk::new().expect("the kernel has io_uring");
    let mut journal = Journal::create(disk, options).expect("there is room");
    let mut records = Records::after(Lsn(0));
    left.write_down(&mut records, |_| ());
    journal.append(records.bytes());
    settle(&mut journal);
    journal.complete(&HostFiles, WallTime(8)).expect("it comes back");
    journal
}

/// Waits until everything is on disk and the next segment is ready.
fn settle(journal: &mut Journal<DirectDisk>) {
    let began = Instant::now();
    while journal.is_busy() || journal.makes_segment() || journal.writes_catalogue() {
        journal.poll(0);
        journal.wait(Duration::from_millis(1));
        assert!(began.elapsed() < PATIENCE, "the disk does not respond: {:?}", journal.state());
    }
}

/// Returns what a start finds: the contents of all unsettled messages.
fn served(directory: &DataDirectory) -> Result<BTreeSet<String>, StoreError> {
    let partition = Partition::new(ShardCount::try_new(2).expect("two shards"));
    let (shares, _) = directory.recover(0, partition)?;
    let mut contents = BTreeSet::new();
    for share in shares {
        let mut records = Records::after(Lsn(0));
        share.write_down(&mut records, |_| ());
        for record in split(records.bytes()) {
            let (kind, body) = record.expect("whole records are written");
            if let Ok(Record::Message(kept)) = Record::read(kind, body) {
                contents.insert(kept.message.content().as_text().unwrap_or_default().to_owned());
            }
        }
    }
    Ok(contents)
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("it is made");
    for entry in fs::read_dir(from).expect("it can be read") {
        let path = entry.expect("it can be read").path();
        let target = to.join(path.file_name().expect("it has a name"));
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).expect("it is copied");
        }
    }
}

/// Damages a copy of a source at random, and describes how.
struct Vandal<'a> {
    dice: Dice,
    directory: &'a Path,
    source: &'a Source,
    other: &'a Source,
}

impl Vandal<'_> {
    fn pick(&mut self, directories: bool) -> Option<PathBuf> {
        let mut found = paths(self.directory);
        found.retain(|path| path.is_dir() == directories);
        (!found.is_empty()).then(|| found[self.dice.index(found.len())].clone())
    }

    /// Applies one kind of damage. Returns `None` if there was nothing to damage.
    fn damage(&mut self) -> Option<String> {
        let file = self.pick(false)?;
        let name = file.strip_prefix(self.directory).expect("it is in it").display().to_string();
        let bytes = fs::read(&file).expect("it can be read");
        let done = match self.dice.below(12) {
            0 => {
                fs::remove_file(&file).expect("it is there");
                format!("{name} removed")
            }
            1 => {
                let length = self.dice.pick(&[0, 1, 4096, bytes.len() / 2, bytes.len().saturating_sub(1)]);
                fs::write(&file, &bytes[..length.min(bytes.len())]).expect("it is written");
                format!("{name} cut to {length}")
            }
            2 => {
                fs::write(&file, [bytes, vec![0; 4096 * (1 + self.dice.index(200))]].concat()).expect("it is written");
                format!("{name} made longer")
            }
            3 | 4 => self.flip(&file, bytes, &name),
            5 => self.exchange(&file, &name)?,
            6 => {
                let directory = self.pick(true)?;
                fs::remove_dir_all(&directory).expect("it is there");
                format!("{} removed", directory.display())
            }
            7 => self.rename()?,
            8 => self.edit_manifest()?,
            9 => {
                let (source, path) = (&self.other.directory, Path::new(&name));
                fs::copy(source.path().join(path), &file).ok()?;
                format!("{name} from another directory")
            }
            10 => {
                let place = self.dice.index(self.source.manifests.len());
                fs::write(self.directory.join("manifest.toml"), &self.source.manifests[place]).expect("it is written");
                "an old manifest".to_owned()
            }
            _ => self.overwrite(&file, bytes, &name)?,
        };
        Some(done)
    }

    fn flip(&mut self, file: &Path, mut bytes: Vec<u8>, name: &str) -> String {
        // Mostly where something is written.
        let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        let mut places = Vec::new();
        for _ in 0..=self.dice.index(4) {
            if used > 0 {
                let place = self.dice.index(used);
                bytes[place] ^= 1 << self.dice.index(8);
                places.push(place);
            }
        }
        fs::write(file, bytes).expect("it is written");
        format!("{name} with bits flipped at {places:?}")
    }

    fn exchange(&mut self, file: &Path, name: &str) -> Option<String> {
        let other = self.pick(false).filter(|other| other != file)?;
        let (one, two) = (fs::read(file).expect("it is there"), fs::read(&other).expect("it is there"));
        fs::write(file, two).expect("it is written");
        if self.dice.once_in(2) {
            fs::write(&other, one).expect("it is written");
        }
        Some(format!("{name} exchanged with {}", other.display()))
    }

    fn rename(&mut self) -> Option<String> {
        let directories = self.dice.once_in(2);
        let from = self.pick(directories)?;
        let name = from.file_name()?.to_str()?.to_owned();
        let digits = name.rfind(|letter: char| letter.is_ascii_digit())?;
        let first = name[..digits].rfind(|letter: char| !letter.is_ascii_digit()).map_or(0, |at| at + 1);
        let number: u64 = name[first..=digits].parse().ok()?;
        let width = digits + 1 - first;
        let width = if width > 10 { width } else { 0 };
        let other = if self.dice.once_in(2) { number + 1 } else { number.checked_sub(1)? };
        let to = from.with_file_name(format!("{}{other:0width$}{}", &name[..first], &name[digits + 1..]));
        if to.exists() {
            return None;
        }
        if directories || self.dice.once_in(2) {
            fs::rename(&from, &to).expect("it is renamed");
        } else {
            fs::copy(&from, &to).expect("it is copied");
        }
        Some(format!("{} as {}", from.display(), to.display()))
    }

    fn edit_manifest(&mut self) -> Option<String> {
        let path = self.directory.join("manifest.toml");
        let text = fs::read_to_string(&path).ok()?;
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        if lines.is_empty() {
            return None;
        }
        let place = self.dice.index(lines.len());
        let before = lines[place].clone();
        if self.dice.once_in(3) {
            lines.remove(place);
        } else {
            let digit = char::from(b'0' + u8::try_from(self.dice.below(10)).expect("a digit"));
            lines[place] = before.chars().map(|letter| if letter.is_ascii_digit() { digit } else { letter }).collect();
        }
        fs::write(&path, lines.join("\n") + "\n").expect("it is written");
        Some(format!("the manifest's line {before:?} edited"))
    }

    /// Overwrites a block with another one of the same file, or with zeros.
    fn overwrite(&mut self, file: &Path, mut bytes: Vec<u8>, name: &str) -> Option<String> {
        let blocks = bytes.len() / 4096;
        if blocks == 0 {
            return None;
        }
        let (from, to) = (self.dice.index(blocks) * 4096, self.dice.index(blocks) * 4096);
        if self.dice.once_in(2) {
            bytes[to..to + 4096].fill(0);
        } else {
            bytes.copy_within(from..from + 4096, to);
        }
        fs::write(file, bytes).expect("it is written");
        Some(format!("{name} overwritten at {to}"))
    }
}

/// Runs one case: returns whether the damaged directory was served, or what is wrong.
fn case(seed: u64, sources: &[Source], scratch: &Path) -> Result<bool, String> {
    let mut dice = Dice::new(seed);
    let source = &sources[dice.index(sources.len())];
    let other = &sources[dice.index(sources.len())];
    let directory = scratch.join("data");
    let _ = fs::remove_dir_all(&directory);
    copy(source.directory.path(), &directory);
    let damages = dice.between(1, 3);
    let mut vandal = Vandal { dice, directory: &directory, source, other };
    let done: Vec<String> = (0..damages).filter_map(|_| vandal.damage()).collect();
    let before = tree(&directory);
    let found = DataDirectory::open(&directory, 2, 7).and_then(|opened| served(&opened).map(|found| (opened, found)));
    match found {
        Err(_) if tree(&directory) == before => {
            if seed.is_multiple_of(4) {
                repair(&directory, &before, &source.expected).map_err(|what| format!("{what}; after {done:?}"))?;
            }
            Ok(false)
        }
        Err(refusal) => Err(format!("it was refused and changed: {refusal}; after {done:?}")),
        Ok(_) if !source.left_a_trace_in(&directory) => Ok(true),
        Ok((_, found)) if found != source.expected => {
            Err(format!("{found:?} is served instead of {:?}; after {done:?}", source.expected))
        }
        Ok((mut opened, found)) => {
            // What the start removes is not needed: a start interrupted now finds the same.
            opened.prepare().map_err(|error| error.to_string())?;
            drop(opened);
            let again = DataDirectory::open(&directory, 1, 7).and_then(|opened| served(&opened));
            let again =
                again.map_err(|error| format!("an interrupted start cannot be repeated: {error}; after {done:?}"))?;
            if again == found { Ok(true) } else { Err(format!("the next start finds {again:?}; after {done:?}")) }
        }
    }
}

/// Repairs a directory that is refused, if possible. Returns what is wrong with that.
fn repair(directory: &Path, before: &Tree, expected: &BTreeSet<String>) -> Result<(), String> {
    let plan = Repair::plan(directory);
    if tree(directory) != *before {
        return Err("to look for a repair changed something".to_owned());
    }
    // If nothing is left of any generation there is nothing to serve.
    let Ok(Some(repair)) = plan else { return Ok(()) };
    let (lost, steps) = (repair.lost.clone(), repair.steps.clone());
    repair.apply().map_err(|error| format!("it cannot be repaired: {error}; {steps:?}"))?;
    let found = DataDirectory::open(directory, 1, 7).and_then(|opened| served(&opened));
    let found = found.map_err(|error| format!("it was repaired and is refused: {error}; {steps:?}"))?;
    if lost.is_empty() && found != *expected {
        return Err(format!("nothing was to be lost, and {found:?} is served instead of {expected:?}; {steps:?}"));
    }
    let after: Vec<_> = tree(directory).into_values().flatten().collect();
    // The repair rewrites the generation in the lock file.
    let kept = before.iter().filter(|(path, _)| !path.ends_with("lock"));
    let gone =
        kept.filter_map(|(path, bytes)| Some((path, bytes.as_ref()?))).find(|(_, bytes)| !after.contains(*bytes));
    gone.map_or(Ok(()), |(path, _)| Err(format!("{} was removed; {steps:?}", path.display())))
}

#[test]
fn what_would_be_lost_is_said_before_a_repair_and_nothing_is_removed() {
    let remove = |directory: &Path, name: &str| fs::remove_file(directory.join(name)).expect("it is there");
    let repaired = |directory: &Path, lost: bool| {
        let before = tree(directory);
        let repair = Repair::plan(directory).expect("it can be read").expect("it is damaged");
        assert_eq!(repair.lost.is_empty(), !lost, "{repair:?}");
        assert!(tree(directory) == before, "to plan changes nothing");
        repair.apply().expect("it can be written");
        assert!(Repair::plan(directory).expect("it can be read").is_none(), "it is whole now");
        open(directory).expect("it is whole")
    };
    let directory = stopped();
    assert!(Repair::plan(directory.path()).expect("it can be read").is_none(), "nothing is damaged");
    remove(directory.path(), "manifest.toml");
    assert_eq!(repaired(directory.path(), false), 20);
    // A router continues from there.
    let router = start(directory.path(), 3);
    keep(&router, 1);
    stop(&router);
    drop(router);
    assert_eq!(open(directory.path()).expect("it is whole"), 21);
    remove(directory.path(), "gen-2/shard-0/0000000000000001.journal");
    let left = repaired(directory.path(), true);
    assert!(left > 0 && left < 21, "{left} are left");
}

#[test]
fn a_start_that_is_interrupted_at_any_step_is_repeated_by_itself() {
    for step in 0..6 {
        let mut writer = Writer { dice: Dice::new(step), source: Source::empty(), written: 0 };
        writer.start(2, step % 2 == 0);
        let path = writer.source.directory.path().to_owned();
        {
            let mut directory = DataDirectory::open(&path, 3, 7).expect("it is whole");
            let partition = Partition::new(ShardCount::try_new(3).expect("three shards"));
            let (left, _) = directory.recover(0, partition).expect("it is whole");
            if step > 0 {
                directory.prepare().expect("it can be written");
            }
            // After step 3 all of them are written.
            for (shard, part) in (0..u16::try_from(step).expect("it is small").min(3)).zip(&left) {
                drop(begin(&directory, shard, part));
            }
            if step == 2 {
                // A start killed while it removes what another one has left.
                fs::rename(path.join("gen-2"), path.join("gen-2.removed")).expect("it is renamed");
                fs::remove_file(path.join("gen-2.removed/shard-0/catalogue")).expect("it is there");
            }
            if step == 4 {
                directory.commit().expect("it can be written");
            }
        }
        let opened = DataDirectory::open(&path, 1, 7).unwrap_or_else(|error| panic!("step {step}: {error}"));
        assert_eq!(served(&opened).expect("it is whole"), writer.source.expected, "step {step}");
    }
}

#[test]
fn a_clock_that_was_set_between_two_runs_is_reported() {
    let directory = stopped();
    let one = Partition::new(ShardCount::try_new(1).expect("one shard"));
    let opened = DataDirectory::open(directory.path(), 1, 1).expect("it is whole");
    let now = Stamp::now();
    let hour = 3_600_000;
    for (wall, said) in [(now.wall.0, None), (now.wall.0 + hour, Some("forward")), (now.wall.0 - hour, Some("back"))] {
        let (_, found) =
            opened.recover_at(0, one, &Stamp { wall: WallTime(wall), ..now.clone() }).expect("it is whole");
        let warned = found.warnings.iter().any(|warning| said.is_some_and(|said| warning.contains(said)));
        // If the kernel does not report how long the machine runs, only a backward step is reported.
        let expected = said.is_some() && (now.boot.is_some() || said == Some("back"));
        assert!(warned == expected && found.clock.is_some() == expected, "{said:?}: {found:?}");
    }
}

#[test]
fn a_directory_that_is_damaged_at_random_is_served_as_a_whole_or_refused_and_left_alone() {
    let sources = [
        Writer::source(1, &[1], true),
        Writer::source(2, &[2], true),
        Writer::source(3, &[1, 3], true),
        Writer::source(4, &[2, 2], false),
        Writer::source(5, &[3, 1, 2], false),
        Writer::source(6, &[1], false),
    ];
    for source in &sources {
        let opened = DataDirectory::open(source.directory.path(), 1, 7).expect("it is whole");
        assert_eq!(served(&opened).expect("it is whole"), source.expected);
    }
    // In memory if possible: thousands of directories are created here.
    let scratch = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a directory");
    let first = number_of("CAXTON_DAMAGE_SEED");
    let cases = number_of("CAXTON_DAMAGE_CASES").unwrap_or(if first.is_some() { 1 } else { CASES });
    let first = first.unwrap_or(0);
    let mut served = 0;
    let mut failures = Vec::new();
    for seed in first..first + cases {
        match case(seed, &sources, scratch.path()) {
            Ok(was_served) => served += u64::from(was_served),
            Err(what) => {
                println!("CAXTON_DAMAGE_SEED={seed}: {what}");
                failures.push(seed);
            }
        }
    }
    println!("{served} of {cases} damaged directories were served, the others refused");
    assert!(failures.is_empty(), "{} failures, of the seeds {:?}", failures.len(), &failures[..failures.len().min(10)]);
    assert!(cases < 100 || served > 0 && served < cases);
}
