//! Repairs of a damaged data directory, on request: everything that can be served is kept, losses are announced first,
//! and nothing is removed. Files in the way are moved into a directory beside it.
//!
//! An interrupted repair leaves a directory on which no router starts, and which can be repaired again: the manifest is
//! moved away first and written last.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use caxton_shards::domain::ShardCount;
use caxton_shards::routing::partition::{Partition, ShardIndex};
use caxton_shards::shard::recovery::{RecoveredState, Recovery};

use super::backup::{WINDOW, write_journal};
use super::directory::{Lock, StoreError, check_state, generation_directory, read_mark, shard_directory};
use super::disk::host::HostFiles;
use super::files;
use super::inspect::none;
use super::journal::{JournalError, JournalId, read_catalogue, salvage, scan};
use super::manifest::{MANIFEST, Manifest, write_manifest};
use super::survey::{Survey, shards_in};
use crate::clock::wall_time;

/// A planned repair, described before it is done.
#[derive(Debug)]
pub struct Repair {
    /// The steps.
    pub steps: Vec<String>,
    /// What will be lost that was acknowledged, as far as known. Empty if nothing is.
    pub lost: Vec<String>,
    directory: PathBuf,
    source: Source,
    manifest: Manifest,
    /// What is moved aside.
    aside: Vec<PathBuf>,
}

/// What is served after the repair.
#[derive(Debug)]
enum Source {
    /// A generation as it is.
    Whole,
    /// The readable part of a generation, written as a new one.
    Readable(State),
}

/// What is known of a generation.
#[derive(Debug)]
struct State {
    first: JournalId,
    shards: Vec<ShardState>,
}

#[derive(Debug)]
struct ShardState {
    /// The last readable record.
    read: u64,
    /// The last record known to have existed, and the last one written by the start.
    known: Option<(u64, u64)>,
    fault: Option<String>,
}

impl State {
    /// Reads a generation, up to the damage in each of its shards.
    fn of(directory: &Path, generation: u64, manifest: Option<&Manifest>) -> Option<Self> {
        let named = manifest.filter(|manifest| manifest.generation == Some(generation));
        let shards: BTreeSet<u16> = shards_in(directory, generation).ok()?;
        let own = |shard: &u16| read_catalogue(&HostFiles, &shard_directory(directory, generation, *shard)).ok();
        let first = named.and_then(|manifest| manifest.journals().next());
        let first = first.or_else(|| Some(JournalId { shard: 0, ..shards.iter().find_map(own)?.id }))?;
        let first = Some(first).filter(|first| first.generation == generation)?;
        let read = |shard| ShardState::of(directory, JournalId { shard, ..first }, named);
        Some(Self { first, shards: (0..first.shards).map(read).collect() })
    }

    fn is_whole(&self) -> bool {
        self.shards.iter().all(|shard| shard.fault.is_none())
    }

    /// Whether everything exists that was written by the start that created it.
    fn has_inherited(&self) -> bool {
        self.shards.iter().all(|shard| shard.known.is_some_and(|(_, inherited)| shard.read >= inherited))
    }

    /// Describes what of it is lost.
    fn losses(&self) -> impl Iterator<Item = String> {
        (0..).zip(&self.shards).filter_map(|(shard, state): (u16, &ShardState)| {
            let fault = state.fault.as_ref()?;
            let read = state.read;
            let known = match state.known {
                Some((known, _)) if known > read => format!("at least records {} to {known}", read + 1),
                Some(_) => format!("what may have been behind record {read}"),
                None => format!("everything behind record {read}; how much that is, nothing says"),
            };
            Some(format!("generation {}, shard {shard}: {known} ({fault})", self.first.generation))
        })
    }
}

impl ShardState {
    fn of(directory: &Path, id: JournalId, manifest: Option<&Manifest>) -> Self {
        let path = shard_directory(directory, id.generation, id.shard);
        let catalogue = read_catalogue(&HostFiles, &path).ok().filter(|found| found.id == id);
        let known = catalogue.map(|found| (found.committed.0, found.inherited.map_or(u64::MAX, |last| last.0)));
        let found = scan(&HostFiles, &path, &id, |_, _, _| Ok(()));
        let mut read = found.as_ref().map_or(0, |summary| summary.last.0);
        if found.is_err() {
            let _ = salvage(&HostFiles, &path, &id, |sequence, _, _| {
                read = sequence.0;
                Ok(())
            });
        }
        let checked = found.and_then(|summary| match manifest {
            Some(manifest) => check_state(&path, &summary.catalogue, manifest).map_err(JournalError::Mismatch),
            None if summary.catalogue.inherited.is_none() => Err(JournalError::Mismatch(unfinished(&path))),
            None => Ok(()),
        });
        Self { read, known, fault: checked.err().map(|fault| fault.to_string()) }
    }
}

fn unfinished(path: &Path) -> super::survey::MismatchError {
    super::survey::MismatchError {
        path: path.to_owned(),
        found: "a journal that the start which made it did not finish".to_owned(),
        expected: "a whole one".to_owned(),
        advice: String::new(),
    }
}

impl Repair {
    /// Plans a repair; returns `None` if none is needed. Changes nothing.
    ///
    /// # Errors
    ///
    /// The directory cannot be read, or nothing in it can be served.
    pub fn plan(directory: &Path) -> Result<Option<Self>, StoreError> {
        let mut survey = Survey::of(directory)?;
        // A manifest that the journals contradict belongs to another directory, or to another time.
        let manifest = survey.manifest.take();
        let contradicted = manifest.as_ref().is_some_and(|manifest| contradicts(directory, manifest));
        survey.manifest = manifest.filter(|_| !contradicted);
        let mut states: Vec<State> = Vec::new();
        for generation in survey.generations.iter().rev() {
            states.extend(State::of(directory, *generation, survey.manifest.as_ref()));
        }
        let identity = survey.manifest.as_ref().map(|manifest| manifest.identity);
        let identity = identity.or(states.first().map(|state| state.first.directory)).ok_or_else(|| none(directory))?;
        states.retain(|state| state.first.directory == identity);
        let holds = survey.manifest.as_ref().and_then(|manifest| manifest.generation);
        let refused = contradicted || survey.unreadable.is_some() || !survey.mismatches.is_empty();
        let taken = survey.finished.map(|finished| finished.generation).or(holds);
        let present = states.iter().position(|state| Some(state.first.generation) == taken);
        if !refused && present.is_none_or(|place| states[place].is_whole()) {
            return Ok(None);
        }
        // Generations that no router has used count only if there is no other one.
        let used = |state: &State| state.has_inherited() || Some(state.first.generation) == holds;
        let newest = states.iter().position(used).or((!states.is_empty()).then_some(0));
        let newest = newest.ok_or_else(|| none(directory))?;
        let chosen = if states[newest].is_whole() || states[newest].has_inherited() {
            newest
        } else {
            // The part written by the start is itself damaged; the previous generation has that.
            (newest..states.len()).find(|place| states[*place].is_whole()).unwrap_or(newest)
        };
        let mut lost: Vec<String> = states[newest].losses().collect();
        if chosen != newest {
            let (older, newer) = (states[chosen].first.generation, states[newest].first.generation);
            lost.push(format!("everything that was acknowledged after generation {newer} took the place of {older}"));
        }
        let held = read_mark(directory).filter(|(owner, _)| *owner == identity).map(|(_, generation)| generation);
        if let Some(missing) =
            holds.max(held).filter(|holds| *holds > states[chosen].first.generation && chosen == newest)
        {
            lost.push(format!(
                "everything that was acknowledged since generation {missing} was begun: it is not there"
            ));
        }
        let epoch =
            states.iter().map(|state| state.first.boot_epoch).chain(survey.manifest.iter().map(|m| m.boot_epoch));
        let epoch = epoch.max().unwrap_or(0);
        let highest = survey.generations.iter().copied().chain(holds).chain(held).max().unwrap_or(0);
        Ok(Some(Self::of(directory, &survey, states.swap_remove(chosen), (highest, epoch), lost)))
    }

    fn of(directory: &Path, survey: &Survey, chosen: State, highest: (u64, u64), lost: Vec<String>) -> Self {
        let (first, (number, epoch)) = (chosen.first, highest);
        let whole = chosen.is_whole() && first.boot_epoch == epoch;
        let mut steps = Vec::new();
        let manifest = Manifest { identity: first.directory, ..Manifest::new(false) };
        let (manifest, source) = if whole {
            steps.push(format!("generation {} is whole: a manifest that names it is written", first.generation));
            let Manifest { identity, stamp, .. } = manifest;
            let stamp = survey.manifest.as_ref().map_or(stamp, |manifest| manifest.stamp.clone());
            let manifest = Manifest { identity, stamp, ..Manifest::new(false) };
            let held = (Some(first.generation), first.shards, first.boot_epoch);
            (Manifest { generation: held.0, shards: held.1, boot_epoch: held.2, ..manifest }, Source::Whole)
        } else {
            let (generation, boot_epoch) = (Some(number + 1), epoch + 1);
            steps.push(format!(
                "what can be read of generation {} is written as generation {}",
                first.generation,
                number + 1
            ));
            (Manifest { generation, shards: 1, boot_epoch, ..manifest }, Source::Readable(chosen))
        };
        let kept = |generation: u64| whole && generation == first.generation;
        let others = survey.generations.iter().filter(|number| !kept(**number));
        let mut aside: Vec<PathBuf> = others.map(|number| generation_directory(directory, *number)).collect();
        if whole {
            let more = shards_in(directory, first.generation).unwrap_or_default();
            let more = more.range(first.shards..);
            aside.extend(more.map(|shard| shard_directory(directory, first.generation, *shard)));
        }
        steps.extend(aside.iter().map(|path| format!("{} is moved away", path.display())));
        Self { steps, lost, directory: directory.to_owned(), source, manifest, aside }
    }

    /// Performs the repair. Returns the directory to which files were moved.
    ///
    /// # Errors
    ///
    /// A router uses the directory, or something cannot be written. Files already moved stay there.
    pub fn apply(self) -> Result<PathBuf, StoreError> {
        let Self { directory, source, manifest, aside, .. } = self;
        let lock = Lock::take(&directory)?;
        let place = directory.join(format!("set-aside-{}", wall_time().0));
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |error| StoreError::Directory { path, error }
        };
        files::make_directory(&place).map_err(failed(&place))?;
        let old = directory.join(MANIFEST);
        if old.exists() {
            fs::rename(&old, place.join(MANIFEST)).map_err(failed(&old))?;
            files::sync_directory(&directory).map_err(failed(&directory))?;
        }
        if let (Source::Readable(state), Some(id)) = (source, manifest.journals().next()) {
            rewrite(&directory, &state, id)?;
        }
        for path in &aside {
            let name = path.strip_prefix(&directory).unwrap_or(path).to_string_lossy().replace('/', "-");
            fs::rename(path, place.join(name)).map_err(failed(path))?;
        }
        for path in [&place, &directory] {
            files::sync_directory(path).map_err(failed(path))?;
        }
        write_manifest(&directory, &manifest)?;
        lock.mark(&manifest)?;
        Ok(place)
    }
}

/// Whether a journal contradicts the manifest.
fn contradicts(directory: &Path, manifest: &Manifest) -> bool {
    manifest.journals().any(|id| {
        let found = read_catalogue(&HostFiles, &shard_directory(directory, id.generation, id.shard));
        // A file from another shard or generation says nothing about the manifest.
        found.is_ok_and(|found| {
            let same = JournalId { directory: id.directory, boot_epoch: id.boot_epoch, shards: id.shards, ..found.id };
            found.id.generation == id.generation && found.id.shard == id.shard && found.id != same
        })
    })
}

/// Writes the readable part of a generation as a new one of one shard.
fn rewrite(directory: &Path, state: &State, id: JournalId) -> Result<(), StoreError> {
    let mut recovery = Recovery::new(WINDOW).of_shards(state.first.shards);
    for shard in 0..state.first.shards {
        let path = shard_directory(directory, state.first.generation, shard);
        // Its damage is known: what precedes it is taken.
        let _ = salvage(&HostFiles, &path, &JournalId { shard, ..state.first }, |sequence, kind, body| {
            recovery.take(ShardIndex(shard), sequence, kind, body).map_err(|fault| fault.to_string())
        });
    }
    let one = ShardCount::try_new(1).map_err(|error| StoreError::NotWritten(error.to_string()))?;
    let share: RecoveredState = recovery.divide(Partition::new(one)).into_iter().next().unwrap_or_default();
    let path = shard_directory(directory, id.generation, 0);
    files::make_directory(&path).map_err(|error| StoreError::Directory { path: path.clone(), error })?;
    write_journal(&path, id, &share)?;
    for path in [&path, &generation_directory(directory, id.generation)] {
        files::sync_directory(path).map_err(|error| StoreError::Directory { path: path.clone(), error })?;
    }
    Ok(())
}
