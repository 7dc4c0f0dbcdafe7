//! A look into a data directory, also while a router uses it: nothing is changed and nothing is locked.
//!
//! What is seen is what the journals hold at some moment of the look. A router that writes meanwhile may have a frame written
//! between two reads, which looks like damage; so a look that finds damage is repeated a few times before it is believed.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};

use caxton_shards::message::{AgentId, ConversationId};
use caxton_shards::partition::ShardIndex;
use caxton_shards::record::{ConversationStep, Record};
use caxton_shards::recovery::Recovery;
use rustix::fs::{FlockOperation, flock};

use super::directory::{LOCK, StoreError, shard_directory};
use super::disk::direct::DirectDisk;
use super::journal::{JournalSummary, scan};
use super::manifest::{MANIFEST, Manifest};
use super::projector::DATABASE;
use super::survey::Survey;

/// How often a look is repeated that finds damage.
const LOOKS_MAX: u32 = 5;

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
    /// Its manifest.
    pub manifest: Manifest,
    /// The generation that holds.
    pub generation: u64,
    /// Whether a router uses it now.
    pub in_use: bool,
    /// What a start would find.
    pub recovery: Recovery,
    /// Conversations, also those that have ended, as far back as the journals reach.
    pub conversations: BTreeMap<(AgentId, ConversationId), Exchange>,
    /// What was found in each shard's journal.
    pub journals: Vec<JournalSummary>,
    /// The databases that there are, by shard.
    pub databases: Vec<PathBuf>,
}

/// Looks into a data directory.
///
/// # Errors
/// It is none, it cannot be read, or a journal in it is damaged.
pub fn inspect(directory: &Path) -> Result<Inspection, StoreError> {
    let mut looks = 0;
    loop {
        looks += 1;
        match look(directory) {
            Err(StoreError::Journal(_)) if looks < LOOKS_MAX && is_in_use(directory) => {}
            result => return result,
        }
    }
}

fn look(directory: &Path) -> Result<Inspection, StoreError> {
    let survey = Survey::of(directory)?;
    survey.refuse()?;
    let none = || StoreError::Manifest {
        path: directory.join(MANIFEST),
        what: "there is none: this is no data directory, or no router has started on it yet".to_owned(),
    };
    let manifest = survey.manifest.ok_or_else(none)?;
    let Some(generation) = manifest.generation else { return Err(none()) };
    let mut disk = DirectDisk::new().map_err(StoreError::Ring)?;
    let mut inspection = Inspection {
        generation,
        manifest,
        in_use: is_in_use(directory),
        recovery: Recovery::new(0),
        conversations: BTreeMap::new(),
        journals: Vec::new(),
        databases: Vec::new(),
    };
    for shard in 0..inspection.manifest.shards {
        let path = shard_directory(directory, generation, shard);
        let Inspection { recovery, conversations, .. } = &mut inspection;
        let summary = scan(&mut disk, &path, shard, |sequence, kind, body| {
            match Record::read(kind, body).map_err(|fault| fault.to_string())? {
                Record::ConversationStep(step) => {
                    if let Some(id) = step.message.conversation() {
                        conversations.entry((step.initiator, id)).or_default().steps.push(*step);
                    }
                }
                Record::ConversationClosed(initiator, id) => {
                    if let Some(exchange) = conversations.get_mut(&(initiator, id)) {
                        exchange.closed = true;
                    }
                }
                _ => {}
            }
            recovery.take(ShardIndex(shard), sequence, kind, body).map_err(|fault| fault.to_string())
        })?;
        inspection.journals.push(summary);
        inspection.databases.extend(Some(path.join(DATABASE)).filter(|path| path.exists()));
    }
    Ok(inspection)
}

/// Whether a router holds the directory's lock.
fn is_in_use(directory: &Path) -> bool {
    let lock = OpenOptions::new().read(true).open(directory.join(LOCK));
    lock.is_ok_and(|lock| flock(&lock, FlockOperation::NonBlockingLockShared).is_err())
}
