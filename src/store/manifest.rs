//! The manifest: the directory's identity, its current generation, and which others may exist.
//!
//! Invariants: it is replaced in one step, and durable before what it announces is done. A generation that it does not
//! name is not the router's own, and is never removed. Its last line is a checksum of all others, which reveals edits
//! and torn writes.

use std::fmt::{self, Write as _};
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write as _};
use std::path::Path;
use std::time::Duration;

use caxton_shards::message::WallTime;
use caxton_shards::routing::partition::BUCKETS;
use toml::{Table, Value};

use super::clock::Stamp;
use super::directory::StoreError;
use super::files;
use super::journal::JournalId;

/// The version of the directory format that is written, and the only one that is read.
pub const DIRECTORY_VERSION: i64 = 2;
/// The manifest's file in a data directory.
pub const MANIFEST: &str = "manifest.toml";
/// The next manifest, until it replaces the current one.
pub(super) const NEXT: &str = "manifest.new";
/// The beginning of the last line.
const CHECKSUM: &str = "checksum = ";
/// Longer files are not manifests.
const BYTES_MAX: u64 = 64 << 10;

/// The identity of a data directory: drawn at random when it is created.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Identity(pub u128);

impl Identity {
    /// Returns a new identity.
    pub fn random() -> Self {
        // Each state is keyed with random numbers from the system.
        let half = || u128::from(RandomState::new().hash_one(std::process::id()));
        Self(half() << 64 | half())
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:032x}", self.0)
    }
}

/// The contents of the manifest.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Manifest {
    /// The identity of the directory.
    pub identity: Identity,
    /// The current generation; `None` before the first start has finished.
    pub generation: Option<u64>,
    /// The previous generation, which is kept until the router stops cleanly.
    pub previous: Option<u64>,
    /// Generations being created or removed: they may exist, complete or in part, and nothing in them is needed.
    pub unfinished: Vec<u64>,
    /// The generation's number of shards.
    pub shards: u16,
    /// The boot epoch of the run that wrote the generation.
    pub boot_epoch: u64,
    /// Whether this is an unfinished backup.
    pub copying: bool,
    /// Whether the router has stopped with nothing left to write.
    pub clean: bool,
    /// When it was written.
    pub stamp: Stamp,
}

impl Manifest {
    /// Creates the manifest of a directory in which no start has finished.
    pub fn new(copying: bool) -> Self {
        Self {
            identity: Identity::random(),
            generation: None,
            previous: None,
            unfinished: Vec::new(),
            shards: 0,
            boot_epoch: 0,
            copying,
            clean: false,
            stamp: Stamp::now(),
        }
    }

    /// Whether a generation may exist.
    pub fn names(&self, generation: u64) -> bool {
        self.generation == Some(generation)
            || self.previous == Some(generation)
            || self.unfinished.contains(&generation)
    }

    /// Returns the journals of the current generation.
    pub(super) fn journals(&self) -> impl Iterator<Item = JournalId> + use<> {
        let Self { identity, generation, shards, boot_epoch, .. } = *self;
        let of = move |generation| {
            (0..shards).map(move |shard| JournalId { directory: identity, generation, shards, shard, boot_epoch })
        };
        generation.into_iter().flat_map(of)
    }

    /// Makes another generation current, which was written completely. The current one becomes the previous one.
    pub(super) fn take_over(&mut self, generation: u64, shards: u16, boot_epoch: u64) {
        let given_up = self.previous.take();
        self.unfinished.extend(given_up);
        self.unfinished.retain(|number| *number != generation);
        self.previous = self.generation.replace(generation);
        (self.shards, self.boot_epoch, self.clean) = (shards, boot_epoch, false);
    }

    /// Describes which generations may exist.
    pub(super) fn generations(&self) -> String {
        let mut text = match self.generation {
            Some(generation) => format!("generation {generation}, which is current"),
            None => "no current generation".to_owned(),
        };
        if let Some(previous) = self.previous {
            let _ = write!(text, ", and {previous} before it");
        }
        if !self.unfinished.is_empty() {
            let _ = write!(text, ", and perhaps {:?}, which are being made or removed", self.unfinished);
        }
        text
    }

    fn to_text(&self) -> String {
        let mut text = format!(
            "# Written by the router at every start and stop. Do not edit it: its checksum would no longer match.\n\
             version = {DIRECTORY_VERSION}\nidentity = \"{}\"\n",
            self.identity
        );
        let generations = [("generation", self.generation), ("previous", self.previous)];
        for (key, generation) in generations {
            let _ = generation.map(|generation| writeln!(text, "{key} = {generation}"));
        }
        let _ = writeln!(text, "unfinished = {:?}", self.unfinished);
        let _ = writeln!(text, "shards = {}\nboot_epoch = {}", self.shards, self.boot_epoch);
        let _ = writeln!(text, "copying = {}\nclean = {}\nwall_ms = {}", self.copying, self.clean, self.stamp.wall.0);
        if let Some((boot, up)) = &self.stamp.boot {
            let _ = writeln!(text, "boot_id = {boot:?}\nuptime_ms = {}", up.as_millis());
        }
        let checksum = checksum(&text);
        let _ = writeln!(text, "{CHECKSUM}\"{checksum}\"");
        text
    }

    fn of_text(text: &str) -> Result<Self, String> {
        let damaged = |what: String| {
            format!(
                "{what}; nothing was changed: put the file back from a backup, or see with `caxton store recover` what can be repaired"
            )
        };
        let table: Table = text.parse().map_err(|error: toml::de::Error| damaged(error.message().to_owned()))?;
        let table = Keys(&table);
        let version = table.integer("version").map_err(damaged)?;
        if version != DIRECTORY_VERSION {
            return Err(format!(
                "the directory is of version {version}, and this program reads version {DIRECTORY_VERSION}: use the program \
                 that wrote it"
            ));
        }
        Self::of_table(&table, text).map_err(damaged)
    }

    fn of_table(table: &Keys<'_>, text: &str) -> Result<Self, String> {
        let (summed, last) = text.rfind(CHECKSUM).map(|at| text.split_at(at)).ok_or("the checksum is missing")?;
        if last != format!("{CHECKSUM}\"{}\"\n", checksum(summed)) {
            return Err("its checksum does not match: it was edited or is damaged".to_owned());
        }
        let identity =
            u128::from_str_radix(table.text("identity")?, 16).map_err(|error| format!("identity: {error}"))?;
        let boot = table.0.get("boot_id").and_then(Value::as_str).zip(table.optional("uptime_ms")?);
        let shards = table.number("shards")?;
        let manifest = Self {
            identity: Identity(identity),
            generation: table.optional("generation")?,
            previous: table.optional("previous")?,
            unfinished: table.numbers("unfinished")?,
            shards: u16::try_from(shards).map_err(|_| format!("{shards} shards are too many"))?,
            boot_epoch: table.number("boot_epoch")?,
            copying: table.flag("copying")?,
            clean: table.flag("clean")?,
            stamp: Stamp {
                wall: WallTime(table.number("wall_ms")?),
                boot: boot.map(|(id, up)| (id.to_owned(), Duration::from_millis(up))),
            },
        };
        manifest.is_possible().map(|()| manifest)
    }

    /// Refuses contents that no router writes.
    fn is_possible(&self) -> Result<(), String> {
        let named = [self.generation, self.previous].into_iter().flatten().chain(self.unfinished.iter().copied());
        let named: Vec<u64> = named.collect();
        let impossible = if named.contains(&0) {
            "there is no generation 0"
        } else if named.iter().any(|number| named.iter().filter(|other| *other == number).count() > 1) {
            "it names a generation twice"
        } else if self.generation.is_none() && self.previous.is_some() {
            "it names a previous generation, and no current one"
        } else if self.previous >= self.generation && self.previous.is_some() {
            "the previous generation is not older than the current one"
        } else if self.generation.is_some() && (self.shards == 0 || self.shards > BUCKETS) {
            "no router has this many shards"
        } else {
            return Ok(());
        };
        Err(format!(
            "{impossible}: generation {:?}, previous {:?}, unfinished {:?}, {} shards",
            self.generation, self.previous, self.unfinished, self.shards
        ))
    }
}

/// Reads values of a table, and reports invalid ones.
struct Keys<'a>(&'a Table);

impl<'a> Keys<'a> {
    fn get(&self, key: &str) -> Result<&'a Value, String> {
        self.0.get(key).ok_or_else(|| format!("the key {key} is missing"))
    }

    fn integer(&self, key: &str) -> Result<i64, String> {
        self.get(key)?.as_integer().ok_or_else(|| format!("{key} is not a number"))
    }

    fn number(&self, key: &str) -> Result<u64, String> {
        u64::try_from(self.integer(key)?).map_err(|_| format!("{key} is negative"))
    }

    fn optional(&self, key: &str) -> Result<Option<u64>, String> {
        self.0.contains_key(key).then(|| self.number(key)).transpose()
    }

    fn numbers(&self, key: &str) -> Result<Vec<u64>, String> {
        let wrong = || format!("{key} is not a list of numbers");
        let values = self.get(key)?.as_array().ok_or_else(wrong)?;
        let number = |value: &Value| value.as_integer().and_then(|number| u64::try_from(number).ok()).ok_or_else(wrong);
        values.iter().map(number).collect()
    }

    fn text(&self, key: &str) -> Result<&'a str, String> {
        self.get(key)?.as_str().ok_or_else(|| format!("{key} is no text"))
    }

    fn flag(&self, key: &str) -> Result<bool, String> {
        self.get(key)?.as_bool().ok_or_else(|| format!("{key} is neither true nor false"))
    }
}

fn checksum(text: &str) -> String {
    blake3::hash(text.as_bytes()).to_hex()[..32].to_owned()
}

/// Reads the manifest of a data directory; returns `None` if there is none.
///
/// # Errors
///
/// It cannot be read, is damaged, or is of another version.
pub fn read_manifest(directory: &Path) -> Result<Option<Manifest>, StoreError> {
    let path = directory.join(MANIFEST);
    let bytes = match fs::metadata(&path) {
        Ok(found) if found.len() > BYTES_MAX => Err(io::Error::new(io::ErrorKind::InvalidData, "it is too long")),
        Ok(_) => fs::read(&path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => Err(error),
    };
    let bytes = bytes.map_err(|error| StoreError::Directory { path: path.clone(), error })?;
    let wrong = |what: String| StoreError::Manifest { path: path.clone(), what };
    let text = String::from_utf8(bytes).map_err(|_| wrong("it is no text".to_owned()))?;
    Manifest::of_text(&text).map(Some).map_err(wrong)
}

/// Replaces the manifest in one step; it is durable when this returns.
pub(super) fn write_manifest(directory: &Path, manifest: &Manifest) -> Result<(), StoreError> {
    let (path, next) = (directory.join(MANIFEST), directory.join(NEXT));
    let written = files::create(&next).and_then(|mut file| {
        file.write_all(manifest.to_text().as_bytes())?;
        file.sync_all()
    });
    let replaced = written.and_then(|()| fs::rename(&next, &path)).and_then(|()| files::sync_directory(directory));
    replaced.map_err(|error| StoreError::Directory { path, error })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        Manifest {
            generation: Some(7),
            previous: Some(6),
            unfinished: vec![5, 8],
            shards: 3,
            boot_epoch: 99,
            ..Manifest::new(false)
        }
    }

    #[test]
    fn what_is_written_is_read() {
        for manifest in [manifest(), Manifest::new(true), Manifest { unfinished: vec![], ..manifest() }] {
            assert_eq!(Manifest::of_text(&manifest.to_text()), Ok(manifest));
        }
    }

    #[test]
    fn one_that_was_edited_is_refused_wherever_it_was() {
        let text = manifest().to_text();
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= 1;
            let edited = String::from_utf8(bytes).expect("ASCII stays ASCII");
            assert!(Manifest::of_text(&edited).is_err(), "{edited}");
            let cut = Manifest::of_text(&text[..at]).expect_err(&text[..at]);
            assert!(cut.contains("store recover"), "{cut}");
        }
        assert!(Manifest::of_text(&(text + "generation = 9\n")).is_err());
    }

    #[test]
    fn what_cannot_be_is_refused_although_the_checksum_matches() {
        for manifest in [
            Manifest { shards: 0, ..manifest() },
            Manifest { shards: BUCKETS + 1, ..manifest() },
            Manifest { generation: Some(0), previous: None, ..manifest() },
            Manifest { previous: Some(7), ..manifest() },
            Manifest { previous: Some(9), ..manifest() },
            Manifest { unfinished: vec![7], ..manifest() },
            Manifest { generation: None, ..manifest() },
        ] {
            let refused = Manifest::of_text(&manifest.to_text());
            assert!(refused.is_err(), "{manifest:?}");
        }
    }
}
