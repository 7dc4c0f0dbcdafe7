//! The router's use of its store: opening the directory, and giving each shard its share of the recovered state.

use std::io;
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;

use caxton_shards::journal::record::Durability;
use caxton_shards::routing::partition::Partition;
use caxton_shards::shard::ShardConfig;
use caxton_shards::shard::recovery::RecoveredState;

use super::{CancelStart, Router};
use crate::config::{Config, StoreConfig};
use crate::drive::StoreLaunch;
use crate::shard_handle::{JournalFigures, Shared};
use crate::store::journal::JournalOptions;
use crate::store::presence::Watch;
#[cfg(feature = "telemetry")]
use crate::store::projector::DATABASE;
use crate::store::projector::{ProjectionSender, Projector};
use crate::store::sizing::{check_room, segments_needed};
use crate::store::{DataDirectory, Recovered, StoreError};

/// An open data directory.
pub(super) struct Store {
    pub directory: DataDirectory,
    pub recovered: Recovered,
    shares: Vec<RecoveredState>,
    /// Number of segments that each shard's journal needs for its share.
    segments: Vec<u64>,
    /// Present until it is spawned.
    projector: Option<(Projector, ProjectionSender)>,
    /// Ends after all shards.
    pub thread: Option<JoinHandle<()>>,
    /// Watches the files.
    watch: Option<Watch>,
}

/// The progress of a shard's database.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct ProjectionLag {
    /// The shard.
    pub shard: u16,
    /// The last record of its journal that is on disk.
    pub committed: u64,
    /// The last record that the database has seen. Later records may contain nothing for the database.
    pub shown: u64,
    /// Conversation steps that never became rows because `store.history` newer ones waited.
    pub steps_left_out: u64,
    /// How often the database was emptied and rewritten because it was too far behind or could not be written.
    pub rebuilds: u64,
    /// Why it cannot be written now.
    pub complaint: Option<String>,
}

impl Store {
    /// Opens and reads the directory named in the settings, if any.
    pub fn open(
        config: &Config,
        partition: Partition,
        epoch: u64,
        cancel: &CancelStart,
    ) -> Result<Option<Self>, StoreError> {
        let Some(path) = config.store.directory.path() else { return Ok(None) };
        let mut directory = DataDirectory::open(path, partition.shard_count(), epoch)?.cancelled_by(cancel);
        let window = config.store.duplicates_window.as_usize();
        let (shares, recovered) = match directory.recover(window, partition) {
            Ok(found) => found,
            Err(error) => {
                directory.give_up();
                return Err(error);
            }
        };
        let segment_bytes = segment_bytes(config);
        let segments: Vec<u64> = shares.iter().map(|share| segments_needed(share, segment_bytes)).collect();
        if let Err(error) = check_room(path, segments.iter().sum(), segment_bytes, partition.shard_count()) {
            directory.give_up();
            return Err(error);
        }
        directory.prepare()?;
        let directories: Vec<_> = (0..partition.shard_count()).map(|shard| directory.shard(shard)).collect();
        let history = config.store.history.as_usize() as u64;
        let projector = Projector::create(&directories, directory.boot_epoch(), config.store.vfs, history)
            .map_err(|error| StoreError::Directory { path: path.to_owned(), error })?;
        Ok(Some(Self { directory, recovered, shares, segments, projector: Some(projector), thread: None, watch: None }))
    }

    /// Returns a shard's initial state. The cores are those without a shard.
    #[allow(clippy::cast_possible_truncation)] // There are at most 1024 shards.
    pub fn launch(
        &mut self,
        config: &Config,
        shard: usize,
        spare_cores: &[usize],
        cancel: &CancelStart,
    ) -> Option<StoreLaunch> {
        let (_, door) = self.projector.as_ref()?;
        let recovered = self.shares.get_mut(shard).map(std::mem::take).unwrap_or_default();
        let segments = self.segments.get(shard).and_then(|count| usize::try_from(*count).ok()).unwrap_or_default();
        let journal = JournalOptions {
            directory: self.directory.shard(shard as u16),
            id: self.directory.journal(shard as u16),
            segment_bytes: segment_bytes(config),
            // What an earlier run left was acknowledged, so there is room for it whatever the limit is now.
            segments_max: config.store.segments_max.as_usize().max(segments + 1),
            retained_messages: config.store.duplicates_window.as_usize() as u64,
            history: config.store.history.as_usize() as u64,
        };
        let disk_core = shard.checked_rem(spare_cores.len()).map(|place| spare_cores[place]);
        Some(StoreLaunch { journal, disk_core, door: door.clone(), recovered, cancel: cancel.clone() })
    }
}

/// Applies the store's settings to a shard's configuration.
pub(super) fn with_durability(shard: ShardConfig, settings: &StoreConfig) -> ShardConfig {
    ShardConfig {
        durability: match settings.directory.path() {
            Some(_) => Durability::Journal,
            None => Durability::Unavailable,
        },
        durable_lifetime_ms: settings.lifetime_ms.into_inner(),
        duplicates_window: settings.duplicates_window.as_usize(),
        ..shard
    }
}

/// Returns the length of a segment, rounded to whole write portions.
pub(crate) fn segment_bytes(config: &Config) -> u64 {
    config.store.segment_bytes.into_inner().next_multiple_of(256 << 10)
}

impl Store {
    /// Removes what was written for a start that failed.
    pub fn give_up(self) {
        // The databases must be closed before their files are removed.
        drop(self.projector);
        self.directory.give_up();
    }

    /// Starts writing the databases.
    pub fn begin(&mut self, shared: &Arc<Shared>) -> io::Result<()> {
        if let Some((projector, _)) = self.projector.take() {
            self.thread = Some(projector.spawn(Arc::clone(shared))?);
        }
        let directories: Vec<_> =
            (0..shared.partition.shard_count()).map(|shard| self.directory.shard(shard)).collect();
        #[cfg(feature = "telemetry")]
        let _ = shared.databases.set(directories.iter().map(|directory| directory.join(DATABASE)).collect());
        self.watch = Some(Watch::begin(self.directory.path(), &directories, Arc::clone(shared))?);
        Ok(())
    }
}

impl Router {
    /// Returns what the start found in the data directory; none without a store.
    pub fn recovered(&self) -> Option<Recovered> {
        let store = self.inner.store.lock().unwrap_or_else(PoisonError::into_inner);
        store.as_ref().map(|store| store.recovered.clone())
    }

    /// Whether journal writes survive a power cut. A file system in memory keeps nothing, and without a store nothing
    /// is written.
    pub fn is_durable(&self) -> bool {
        let store = self.inner.store.lock().unwrap_or_else(PoisonError::into_inner);
        store.as_ref().is_some_and(|store| store.directory.is_durable())
    }

    /// Returns how far the shards' databases are behind their journals. No acknowledgement waits for them.
    pub fn projections(&self) -> Vec<ProjectionLag> {
        use std::sync::atomic::Ordering::Relaxed;
        if self.config().store.directory.path().is_none() {
            return Vec::new();
        }
        let lag = |(shard, link): (u16, &crate::shard_handle::ShardHandle)| {
            let JournalFigures { records, projection, .. } = &link.journal;
            ProjectionLag {
                shard,
                committed: records.load(Relaxed),
                shown: projection.projected().0,
                steps_left_out: projection.left_out.load(Relaxed),
                rebuilds: projection.rebuilds.load(Relaxed),
                complaint: projection.complaint.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            }
        };
        (0..).zip(&self.shared().links).map(lag).collect()
    }

    /// Returns why journals accept nothing now, by shard: the file system is full, or a write failed.
    pub fn journal_complaints(&self) -> Vec<(u16, String)> {
        let complaint = |link: &crate::shard_handle::ShardHandle| {
            link.journal.complaint.lock().unwrap_or_else(PoisonError::into_inner).clone()
        };
        let links = (0_u16..).zip(&self.shared().links);
        links.filter_map(|(shard, link)| complaint(link).map(|complaint| (shard, complaint))).collect()
    }
}
