//! Read-only inspection of a data directory, even while a router uses it: nothing is changed or locked, and only read
//! permission is needed.
//!
//! Damage in one place does not hide the rest: each shard and each generation is read separately. The result is what
//! the journals contain at some moment of the inspection. If a router writes meanwhile, a frame may be written between
//! two reads, which looks like damage; so an inspection that finds damage is repeated a few times before it is
//! believed.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use caxton_shards::journal::record::{ConversationStep, Lsn, Record};
use caxton_shards::message::{AgentId, ConversationId};
use caxton_shards::routing::partition::ShardIndex;
use caxton_shards::shard::recovery::Recovery;

use super::clock::Stamp;
use super::directory::{LOCK, StoreError, check_state, clock_jump, shard_directory};
use super::disk::host::HostFiles;
use super::journal::{JournalError, JournalId, JournalSummary, salvage, scan};
use super::manifest::{MANIFEST, Manifest};
use super::projector::DATABASE;
use super::survey::{Finished, Survey, finished};

/// Maximum number of passes that find damage.
const LOOKS_MAX: u32 = 10;
/// Like [`LOOKS_MAX`], if no router seems to use the directory: not every lock is visible everywhere.
const IDLE_LOOKS_MAX: u32 = 2;
/// Where the kernel lists locks.
const LOCKS: &str = "/proc/locks";

/// A conversation, as recorded in the journals.
#[derive(Debug, Default)]
pub struct Exchange {
    /// The durable messages that passed it, in order, without their contents.
    pub steps: Vec<ConversationStep>,
    /// Whether it has ended.
    pub closed: bool,
}

/// The contents of a data directory.
#[derive(Debug)]
pub struct Inspection {
    /// The manifest; `None` if it is missing or damaged.
    pub manifest: Option<Manifest>,
    /// The inspected generation: the current one or, if no manifest says so, the newest complete one.
    pub generation: u64,
    /// Its number of shards.
    pub shards: u16,
    /// Whether a router uses it now.
    pub in_use: bool,
    /// What a start would find; if something is damaged, what is intact.
    pub recovery: Recovery,
    /// Conversations, including ended ones, as far back as the journals reach.
    pub conversations: BTreeMap<(AgentId, ConversationId), Exchange>,
    /// What was found in each shard's journal; `None` if it is damaged.
    pub journals: Vec<Option<JournalSummary>>,
    /// The existing databases, by shard.
    pub databases: Vec<PathBuf>,
    /// What prevents a router from starting.
    pub damage: Vec<String>,
    /// Observations that lose nothing.
    pub notes: Vec<String>,
}

/// Inspects a data directory.
///
/// # Errors
///
/// It is not a data directory, or cannot be read. Damage is part of the result.
pub fn inspect(directory: &Path) -> Result<Inspection, StoreError> {
    let mut looks = 0;
    loop {
        looks += 1;
        let inspection = look(directory)?;
        let looks_max = if inspection.in_use { LOOKS_MAX } else { IDLE_LOOKS_MAX };
        if inspection.damage.is_empty() || looks >= looks_max {
            return Ok(inspection);
        }
    }
}

/// Returns the manifest of a directory in which nothing is missing or unknown, with its current generation.
pub(super) fn whole(directory: &Path) -> Result<(Manifest, u64), StoreError> {
    let manifest = Survey::of(directory)?.refuse()?.settled().ok_or_else(|| none(directory))?;
    let generation = manifest.generation.ok_or_else(|| none(directory))?;
    Ok((manifest, generation))
}

pub(super) fn none(directory: &Path) -> StoreError {
    StoreError::Manifest {
        path: directory.join(MANIFEST),
        what: "there is none: this is not a data directory, or no router has started on it yet".to_owned(),
    }
}

fn look(directory: &Path) -> Result<Inspection, StoreError> {
    let survey = Survey::of(directory)?;
    let Survey { manifest, unreadable, generations, finished: taken_over, mismatches, notes } = survey;
    let mut damage: Vec<String> = unreadable.iter().map(ToString::to_string).collect();
    damage.extend(mismatches.iter().map(ToString::to_string));
    let holds = manifest.as_ref().and_then(|manifest| manifest.journals().next());
    let newest = || generations.iter().rev().find_map(|number| finished(directory, *number));
    let of_finished = |found: Finished| JournalId {
        directory: found.identity,
        generation: found.generation,
        shards: found.shards,
        shard: 0,
        boot_epoch: found.boot_epoch,
    };
    let first = match taken_over {
        Some(found) => Some(of_finished(found)),
        None => holds.or_else(|| manifest.is_none().then(newest).flatten().map(of_finished)),
    };
    if first.is_none() && damage.is_empty() {
        return Err(none(directory));
    }
    let mut inspection = Inspection {
        manifest,
        generation: first.map_or(0, |id| id.generation),
        shards: first.map_or(0, |id| id.shards),
        in_use: is_in_use(directory),
        recovery: Recovery::new(0),
        conversations: BTreeMap::new(),
        journals: Vec::new(),
        databases: Vec::new(),
        damage,
        notes,
    };
    if let Some(first) = first {
        inspection.look_at_journals(directory, first);
        if inspection.journals.iter().any(Option::is_none) {
            inspection.take_what_is_left(directory, first);
        }
    }
    Ok(inspection)
}

impl Inspection {
    fn look_at_journals(&mut self, directory: &Path, first: JournalId) {
        let mut last = None;
        for shard in 0..first.shards {
            let id = JournalId { shard, ..first };
            let path = shard_directory(directory, id.generation, shard);
            let found = scan(&HostFiles, &path, &id, |sequence, kind, body| self.take(shard, sequence, kind, body));
            let found = found.and_then(|summary| match &self.manifest {
                Some(manifest) if manifest.generation == Some(id.generation) => {
                    check_state(&path, &summary.catalogue, manifest).map_err(JournalError::Mismatch)?;
                    Ok(summary)
                }
                _ => Ok(summary),
            });
            match found {
                Ok(summary) => {
                    last = last.max(Some(summary.catalogue.wall));
                    self.journals.push(Some(summary));
                }
                Err(fault) => {
                    self.damage.push(format!("shard {shard}: {fault}"));
                    self.journals.push(None);
                }
            }
            self.databases.extend(Some(path.join(DATABASE)).filter(|path| path.exists()));
        }
        if let Some(manifest) = &self.manifest {
            let end = Stamp { wall: last.unwrap_or(manifest.stamp.wall).max(manifest.stamp.wall), boot: None };
            self.notes.extend(clock_jump(&Stamp::now(), &manifest.stamp, &end).map(|jump| jump.to_string()));
        }
    }

    /// Reads every journal as far as possible, discarding what a first pass took before it found the damage.
    fn take_what_is_left(&mut self, directory: &Path, first: JournalId) {
        self.recovery = Recovery::new(0);
        self.conversations.clear();
        for shard in 0..first.shards {
            let path = shard_directory(directory, first.generation, shard);
            // The damage was reported.
            let _ = salvage(&HostFiles, &path, &JournalId { shard, ..first }, |sequence, kind, body| {
                self.take(shard, sequence, kind, body)
            });
        }
    }

    fn take(&mut self, shard: u16, sequence: Lsn, kind: u8, body: &[u8]) -> Result<(), String> {
        match Record::read(kind, body).map_err(|fault| fault.to_string())? {
            Record::ConversationStep(step) => {
                if let Some(id) = step.message.conversation() {
                    self.conversations.entry((step.initiator, id)).or_default().steps.push(*step);
                }
            }
            Record::ConversationClosed(initiator, id) => {
                if let Some(exchange) = self.conversations.get_mut(&(initiator, id)) {
                    exchange.closed = true;
                }
            }
            _ => {}
        }
        self.recovery.take(ShardIndex(shard), sequence, kind, body).map_err(|fault| fault.to_string())
    }

    /// Returns the first problem that prevents a router from starting, and the number of others.
    pub fn complaint(&self) -> Option<String> {
        let first = self.damage.first()?;
        Some(match self.damage.len() - 1 {
            0 => first.clone(),
            more => format!("{first}\n{more} more: see `caxton store check`"),
        })
    }
}

/// Whether a router holds the directory's lock. Looked up and not tried: taking the lock briefly could make a starting
/// router fail.
pub(super) fn is_in_use(directory: &Path) -> bool {
    let Ok(lock) = std::fs::metadata(directory.join(LOCK)) else { return false };
    std::fs::read_to_string(LOCKS).is_ok_and(|locks| locks.lines().any(|line| is_lock_of(line, lock.ino())))
}

/// Parses a line such as `1: FLOCK  ADVISORY  WRITE 708 08:02:131 0 EOF`. The device is ignored: some file systems have
/// several.
fn is_lock_of(line: &str, inode: u64) -> bool {
    let fields: Vec<&str> = line.split_whitespace().collect();
    fields.contains(&"FLOCK")
        && fields.contains(&"WRITE")
        && fields.iter().any(|field| {
            field.matches(':').count() == 2
                && field.rsplit(':').next().and_then(|text| text.parse().ok()) == Some(inode)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_found_in_the_list_of_the_kernel() {
        let line = "3: FLOCK  ADVISORY  WRITE 708 08:02:131 0 EOF";
        assert!(is_lock_of(line, 131) && !is_lock_of(line, 708) && !is_lock_of(line, 31));
        assert!(!is_lock_of("3: FLOCK  ADVISORY  READ 708 08:02:131 0 EOF", 131));
        assert!(!is_lock_of("3: POSIX  ADVISORY  WRITE 708 08:02:131 0 EOF", 131));
    }
}
