//! Compares the contents of a data directory with its manifest, before anything is opened, created or removed.
//!
//! Invariants: nothing is changed here. Something missing is never taken for empty, and something unknown is never
//! taken for removable.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::{fs, io};

use super::directory::{LOCK, StoreError, generation_directory, read_mark, shard_directory};
use super::disk::host::HostFiles;
use super::journal::{JournalId, has_frames, read_catalogue};
use super::manifest::{Identity, MANIFEST, Manifest, read_manifest};

/// The prefix of every generation's directory.
const GENERATION: &str = "gen-";
/// The prefix of every shard's directory.
const SHARD: &str = "shard-";
/// The advice for most cases.
const RESTORE: &str = "Put back what is missing from a backup. `caxton store check` says what is intact, and `caxton store \
                       recover` what can be repaired without one";

/// The contents of a data directory are not as expected. Nothing was changed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{path}: {found}; expected: {expected}. Nothing was changed. {advice}", path = path.display())]
pub struct MismatchError {
    /// Where.
    pub path: PathBuf,
    /// What was found there.
    pub found: String,
    /// What was expected.
    pub expected: String,
    /// What is safe to do.
    pub advice: String,
}

/// The contents of a data directory, by name.
#[derive(Debug)]
pub struct Survey {
    /// The manifest; `None` if there is none.
    pub manifest: Option<Manifest>,
    /// Why the manifest could not be read.
    pub unreadable: Option<StoreError>,
    /// The existing generations.
    pub generations: BTreeSet<u64>,
    /// A generation written completely by a start that was interrupted before the manifest named it: it contains
    /// everything in the current one, and possibly more.
    pub finished: Option<Finished>,
    /// What prevents a router from starting.
    pub mismatches: Vec<MismatchError>,
    /// Observations that lose nothing.
    pub notes: Vec<String>,
}

/// A generation whose journals record that all of it was written and read back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Finished {
    /// Its number.
    pub generation: u64,
    /// Its number of shards.
    pub shards: u16,
    /// The boot epoch of the run that wrote it.
    pub boot_epoch: u64,
    /// The identity of its directory.
    pub identity: Identity,
}

impl Survey {
    /// Examines names only: the files' contents are left to the journals' readers.
    ///
    /// # Errors
    ///
    /// The directory or its manifest cannot be read.
    pub fn of(directory: &Path) -> Result<Self, StoreError> {
        let (manifest, unreadable) = match read_manifest(directory) {
            Ok(manifest) => (manifest, None),
            Err(error @ StoreError::Manifest { .. }) => (None, Some(error)),
            Err(error) => return Err(error),
        };
        let generations = numbered(directory, GENERATION)?;
        let mut survey =
            Self { manifest: None, unreadable, generations, finished: None, mismatches: Vec::new(), notes: Vec::new() };
        match &manifest {
            None if survey.unreadable.is_some() => {}
            None => survey.without_manifest(directory),
            Some(manifest) => {
                survey.compare(directory, manifest);
                survey.compare_unfinished(directory, manifest);
                survey.compare_mark(directory, manifest);
                survey.compare_shards(directory, manifest)?;
            }
        }
        Ok(Self { manifest, ..survey })
    }

    /// Returns an error that describes what prevents a router from starting, if anything.
    ///
    /// # Errors
    ///
    /// As described.
    pub fn refuse(mut self) -> Result<Self, StoreError> {
        if let Some(error) = self.unreadable.take() {
            return Err(error);
        }
        match self.mismatches.first() {
            Some(mismatch) => Err(mismatch.clone().into()),
            None => Ok(self),
        }
    }

    /// Returns the effective manifest, including what an interrupted start has finished.
    pub fn settled(self) -> Option<Manifest> {
        let mut manifest = self.manifest?;
        if let Some(Finished { generation, shards, boot_epoch, .. }) = self.finished {
            manifest.take_over(generation, shards, boot_epoch);
        }
        Some(manifest)
    }

    fn without_manifest(&mut self, directory: &Path) {
        let identity = fs::read_to_string(directory.join(LOCK)).unwrap_or_default();
        let found = if !self.generations.is_empty() {
            format!("there is no manifest beside {}", self.found())
        } else if !identity.is_empty() {
            format!("there is neither a manifest nor a generation, and the lock file says: {}", identity.trim_end())
        } else {
            return;
        };
        self.mismatches.push(MismatchError {
            path: directory.join(MANIFEST),
            found,
            expected: "the manifest that names the current generation, or an empty directory".to_owned(),
            advice: format!("{RESTORE}; to begin with nothing, name another directory"),
        });
    }

    fn compare(&mut self, directory: &Path, manifest: &Manifest) {
        let beside = self.found();
        let mut mismatch = |path: PathBuf, found: String, expected: String, advice: &str| {
            self.mismatches.push(MismatchError { path, found, expected, advice: advice.to_owned() });
        };
        if manifest.copying {
            mismatch(
                directory.to_owned(),
                "an unfinished backup".to_owned(),
                "a whole one".to_owned(),
                "Copy to this directory again, or remove it; the source is unchanged",
            );
        }
        for number in self.generations.iter().filter(|number| !manifest.names(**number)) {
            let than = match manifest.generation {
                Some(holds) if holds < *number => ": the manifest is older than the directory",
                _ => "",
            };
            mismatch(
                generation_directory(directory, *number),
                format!("generation {number}, which the manifest does not name{than}"),
                manifest.generations(),
                "Put back the manifest that belongs to it, or move away what does not belong to this directory. `caxton \
                 store recover` says which generations are whole",
            );
        }
        if let Some(holds) = manifest.generation.filter(|holds| !self.generations.contains(holds)) {
            let path = generation_directory(directory, holds);
            mismatch(path, format!("nothing, and {beside}"), format!("generation {holds}"), RESTORE);
        }
        if let Some(previous) = manifest.previous.filter(|previous| !self.generations.contains(previous)) {
            self.notes.push(format!(
                "generation {previous}, which is kept until the router stops cleanly, is not there; it is not needed"
            ));
        }
    }

    /// A generation left by an interrupted start may be complete; then it is as good as the current one. One that was
    /// served and is incomplete is not the remains of a start.
    fn compare_unfinished(&mut self, directory: &Path, manifest: &Manifest) {
        let newer = |number: &&u64| Some(**number) > manifest.generation && self.generations.contains(number);
        let newer: Vec<u64> = manifest.unfinished.iter().filter(newer).copied().collect();
        for number in newer {
            let finished = finished(directory, number);
            if let Some(finished) = finished.filter(|finished| finished.identity == manifest.identity) {
                self.finished = Some(finished);
                self.notes.push(format!(
                    "generation {number} was written as a whole by a start that was interrupted before the manifest said so; it is \
                     taken over"
                ));
            } else if !is_rest_of_a_start(directory, number, manifest.identity) {
                self.mismatches.push(MismatchError {
                    path: generation_directory(directory, number),
                    found: "a generation that is more than what an interrupted start leaves, and not whole".to_owned(),
                    expected: format!("{}; the manifest is older than the directory", manifest.generations()),
                    advice: RESTORE.to_owned(),
                });
            }
        }
    }

    /// Compares the lock file, which records the directory's identity and a lower bound of the current generation.
    fn compare_mark(&mut self, directory: &Path, manifest: &Manifest) {
        let Some((identity, generation)) = read_mark(directory) else { return };
        let holds = self.finished.map(|finished| finished.generation).max(manifest.generation).unwrap_or(0);
        if identity == manifest.identity && generation <= holds {
            return;
        }
        self.mismatches.push(MismatchError {
            path: directory.join(MANIFEST),
            found: format!("the manifest of directory {} with generation {holds}", manifest.identity),
            expected: format!(
                "the one of directory {identity} with generation {generation} at least, as the lock file says"
            ),
            advice: RESTORE.to_owned(),
        });
    }

    fn compare_shards(&mut self, directory: &Path, manifest: &Manifest) -> Result<(), StoreError> {
        let holds = manifest.generation.map(|generation| (generation, manifest.shards));
        let taken = self.finished.map(|finished| (finished.generation, finished.shards));
        if let Some((generation, shards)) = taken.or(holds).filter(|(number, _)| self.generations.contains(number)) {
            self.mismatches.extend(compare_shards(directory, generation, shards)?);
        }
        Ok(())
    }

    fn found(&self) -> String {
        match self.generations.len() {
            0 => "no other generation is there".to_owned(),
            _ => format!("generations {:?}", self.generations),
        }
    }
}

/// Compares the directories of a generation's shards with their expected number.
pub(super) fn compare_shards(directory: &Path, generation: u64, shards: u16) -> Result<Vec<MismatchError>, StoreError> {
    let found = numbered(&generation_directory(directory, generation), SHARD)?;
    let expected: BTreeSet<u64> = (0..u64::from(shards)).collect();
    let place = |number: u64| shard_directory(directory, generation, u16::try_from(number).unwrap_or(u16::MAX));
    let mismatch = |number: &u64, found: &str, advice: &str| MismatchError {
        path: place(*number),
        found: found.to_owned(),
        expected: format!("the directories of {shards} shards, numbered from 0"),
        advice: advice.to_owned(),
    };
    let missing =
        expected.difference(&found).map(|number| mismatch(number, "the directory of a shard is missing", RESTORE));
    let more = found.difference(&expected).map(|number| {
        mismatch(number, "a shard more than the manifest says", "Put back the manifest that belongs to this generation")
    });
    Ok(missing.chain(more).collect())
}

/// Returns what the journals of a generation record about it, if all of them say that it is complete.
pub(super) fn finished(directory: &Path, generation: u64) -> Option<Finished> {
    let catalogue = |shard| read_catalogue(&HostFiles, &shard_directory(directory, generation, shard)).ok();
    let first = catalogue(0)?;
    let whole = (0..first.id.shards).all(|shard| {
        let expected = JournalId { generation, shard, ..first.id };
        catalogue(shard).is_some_and(|found| found.id == expected && found.inherited.is_some())
    });
    let JournalId { directory: identity, shards, boot_epoch, .. } = first.id;
    whole.then_some(Finished { generation, shards, boot_epoch, identity })
}

/// Whether an unfinished generation can be the remains of an interrupted start, in which nothing was acknowledged. Such
/// a start creates all directories first, and every journal's catalogue before its first frame.
fn is_rest_of_a_start(directory: &Path, generation: u64, identity: Identity) -> bool {
    let Ok(found) = shards_in(directory, generation) else { return false };
    let mut complete = None;
    for shard in &found {
        let path = shard_directory(directory, generation, *shard);
        match read_catalogue(&HostFiles, &path) {
            Ok(catalogue) => {
                let JournalId { directory, generation: of, shard: number, .. } = catalogue.id;
                let served = catalogue.inherited.is_some_and(|inherited| catalogue.committed > inherited);
                if served || (directory, of, number) != (identity, generation, *shard) {
                    return false;
                }
                complete = complete.or(catalogue.inherited.map(|_| catalogue.id.shards));
            }
            Err(_) if has_frames(&HostFiles, &path) => return false,
            Err(_) => {}
        }
    }
    complete.is_none_or(|shards| found.iter().copied().eq(0..shards))
}

/// Returns the shards that have a directory in a generation.
pub(super) fn shards_in(directory: &Path, generation: u64) -> Result<BTreeSet<u16>, StoreError> {
    let found = numbered(&generation_directory(directory, generation), SHARD)?;
    Ok(found.into_iter().filter_map(|number| u16::try_from(number).ok()).collect())
}

/// Returns the numbers after this prefix, in names that the router itself could have chosen.
fn numbered(directory: &Path, beginning: &str) -> Result<BTreeSet<u64>, StoreError> {
    let failed = |error: io::Error| StoreError::Directory { path: directory.to_owned(), error };
    let mut numbers = BTreeSet::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix(beginning)?.parse::<u64>().ok());
        numbers.extend(number.filter(|number| name.to_str() == Some(&format!("{beginning}{number}"))));
    }
    Ok(numbers)
}
