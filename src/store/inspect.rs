//! A look into a data directory, also while a router uses it: nothing is changed, nothing is locked, and only the right to read
//! is needed.
//!
//! What is damaged does not hide what is not: each shard and each generation is looked at by itself. What is seen is what the
//! journals hold at some moment of the look. A router that writes meanwhile may have a frame written between two reads, which
//! looks like damage; so a look that finds damage is repeated a few times before it is believed.

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

/// How often a look is repeated that finds damage.
const LOOKS_MAX: u32 = 10;
/// As [`LOOKS_MAX`] where no router seems to use the directory: not every lock can be seen from everywhere.
const IDLE_LOOKS_MAX: u32 = 2;
/// What the kernel says about locks.
const LOCKS: &str = "/proc/locks";

/// A conversation as the journals know it.
#[derive(Debug, Default)]
pub struct Exchange {
    /// The durable messages that passed it, in their order, without their contents.
    pub steps: Vec<ConversationStep>,
    /// Whether it has ended.
    pub closed: bool,
}

/// What lies in a data directory.
#[derive(Debug)]
pub struct Inspection {
    /// What the manifest says; nothing where it is missing or damaged.
    pub manifest: Option<Manifest>,
    /// The generation that was looked at: the one that holds or, where no manifest says so, the newest one that is whole.
    pub generation: u64,
    /// Of how many shards it is.
    pub shards: u16,
    /// Whether a router uses it now.
    pub in_use: bool,
    /// What a start would find; where something is damaged, what is intact of that.
    pub recovery: Recovery,
    /// Conversations, also those that have ended, as far back as the journals reach.
    pub conversations: BTreeMap<(AgentId, ConversationId), Exchange>,
    /// What was found in each shard's journal; nothing where it is damaged.
    pub journals: Vec<Option<JournalSummary>>,
    /// The databases that there are, by shard.
    pub databases: Vec<PathBuf>,
    /// What keeps a router from starting.
    pub damage: Vec<String>,
    /// What is worth to be known and loses nothing.
    pub notes: Vec<String>,
}

/// Looks into a data directory.
///
/// # Errors
/// It is none, or it cannot be read. Damage is in what is returned.
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

/// Returns the manifest of a directory in which nothing is missing or unknown, with the generation that holds.
pub(super) fn whole(directory: &Path) -> Result<(Manifest, u64), StoreError> {
    let manifest = Survey::of(directory)?.refuse()?.settled().ok_or_else(|| none(directory))?;
    let generation = manifest.generation.ok_or_else(|| none(directory))?;
    Ok((manifest, generation))
}

pub(super) fn none(directory: &Path) -> StoreError {
    StoreError::Manifest {
        path: directory.join(MANIFEST),
        what: "there is none: this is no data directory, or no router has started on it yet".to_owned(),
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

    /// Reads every journal as far as it can be read. What a first reading took before it found the damage is taken anew.
    fn take_what_is_left(&mut self, directory: &Path, first: JournalId) {
        self.recovery = Recovery::new(0);
        self.conversations.clear();
        for shard in 0..first.shards {
            let path = shard_directory(directory, first.generation, shard);
            // Its damage was reported.
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

    /// The first thing that keeps a router from starting, with how many others there are.
    pub fn complaint(&self) -> Option<String> {
        let first = self.damage.first()?;
        Some(match self.damage.len() - 1 {
            0 => first.clone(),
            more => format!("{first}\n{more} more: see `caxton store check`"),
        })
    }
}

/// Whether a router holds the directory's lock. It is looked up and not tried: a lock that was taken for a moment would be in the
/// way of a router that starts.
pub(super) fn is_in_use(directory: &Path) -> bool {
    let Ok(lock) = std::fs::metadata(directory.join(LOCK)) else { return false };
    std::fs::read_to_string(LOCKS).is_ok_and(|locks| locks.lines().any(|line| is_lock_of(line, lock.ino())))
}

/// A line such as `1: FLOCK  ADVISORY  WRITE 708 08:02:131 0 EOF`. The device is left out: some file systems have several.
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
