//! The disk of a store: its directory, its file system, its space, and the clock of its last run.

use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use caxton_shards::domain::ShardCount;
use rustix::fs::{Access, AtFlags, CWD, Mode, OFlags, StatVfsMountFlags, accessat, open, statfs, statvfs};
use rustix::io::Errno;

use super::demand::StoreDemand;
use super::{Finding, size};
use crate::store::disk::Buffer;
use crate::store::manifest::read_manifest;

/// Bytes written to an unnamed file, to test the disk.
const PROBE_BYTES: usize = 4_096;

/// The readings of a store's disk. A missing directory is created at the start, so the readings are those of its
/// nearest existing ancestor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreDisk {
    /// The directory, or its nearest existing ancestor.
    pub nearest: PathBuf,
    /// Whether that is a directory.
    pub is_directory: bool,
    /// A path, the directory or one inside it, that this process may not change.
    pub forbidden: Option<PathBuf>,
    /// The kernel's number of the file system type.
    pub file_system: Option<u64>,
    /// Whether it is mounted read-only.
    pub read_only: bool,
    /// Whether a block could be written bypassing the page cache.
    pub direct: DirectWrite,
    /// The free space available to an ordinary user, in bytes.
    pub free_bytes: Option<u64>,
    /// When the last run on this directory began, since 1970.
    pub last_start: Option<Duration>,
}

/// The result of a direct write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DirectWrite {
    /// It succeeded.
    Works,
    /// The file system does not support direct writes.
    Unsupported,
    /// It cannot be tried without leaving a file behind.
    Untried,
    /// It failed.
    Fails {
        /// The operating system's error number.
        raw_os_error: i32,
    },
}

impl StoreDisk {
    /// Takes the readings. The file written for it has no name and disappears at once.
    pub fn read(store: &StoreDemand) -> Self {
        let nearest = nearest(&store.directory);
        let is_directory = nearest.is_dir();
        let volume = statvfs(&nearest).ok();
        let is_there = nearest == store.directory;
        Self {
            forbidden: forbidden(&nearest, is_there),
            file_system: statfs(&nearest).ok().map(|found| found.f_type.cast_unsigned()),
            read_only: volume.as_ref().is_some_and(|volume| volume.f_flag.contains(StatVfsMountFlags::RDONLY)),
            direct: if is_directory { write_directly(&nearest) } else { DirectWrite::Untried },
            free_bytes: volume.map(|volume| volume.f_bavail.saturating_mul(volume.f_frsize)),
            last_start: read_manifest(&store.directory)
                .ok()
                .flatten()
                .map(|manifest| Duration::from_millis(manifest.boot_epoch)),
            is_directory,
            nearest,
        }
    }
}

/// Returns the path, or its nearest existing ancestor.
fn nearest(path: &Path) -> PathBuf {
    let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let there = whole.ancestors().find(|path| path.symlink_metadata().is_ok());
    there.map_or_else(|| PathBuf::from("/"), Path::to_owned)
}

/// Returns a path that this process may not change although a store has to: the directory or, if it is already the
/// store's own, something in it.
fn forbidden(nearest: &Path, is_there: bool) -> Option<PathBuf> {
    let may = |path: &Path, access| accessat(CWD, path, access, AtFlags::EACCESS).is_ok();
    let in_directory = Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK;
    if !may(nearest, in_directory) {
        return Some(nearest.to_owned());
    }
    let entries = if is_there { std::fs::read_dir(nearest).ok() } else { None };
    let mut paths = entries.into_iter().flatten().flatten().map(|entry| entry.path());
    paths.find(|path| {
        let access = if path.is_dir() { in_directory } else { Access::READ_OK | Access::WRITE_OK };
        !may(path, access)
    })
}

fn write_directly(directory: &Path) -> DirectWrite {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let fails = |error: Errno| DirectWrite::Fails { raw_os_error: error.raw_os_error() };
    let file = match open(directory, flags | OFlags::DIRECT | OFlags::DSYNC, Mode::RUSR | Mode::WUSR) {
        Ok(file) => std::fs::File::from(file),
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::NOENT) => return DirectWrite::Untried,
        // Either unnamed files or direct writes are not supported here.
        Err(Errno::INVAL) => {
            let indirect = open(directory, flags, Mode::RUSR | Mode::WUSR);
            return if indirect.is_ok() { DirectWrite::Unsupported } else { DirectWrite::Untried };
        }
        Err(error) => return fails(error),
    };
    let mut block = Buffer::new(PROBE_BYTES);
    block.resize(PROBE_BYTES).fill(0);
    match file.write_all_at(block.bytes(), 0) {
        Ok(()) => DirectWrite::Works,
        Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => DirectWrite::Unsupported,
        Err(error) => DirectWrite::Fails { raw_os_error: error.raw_os_error().unwrap_or_default() },
    }
}

/// Judges the readings of a store's disk, at this time since 1970.
pub fn examine_disk(disk: &StoreDisk, store: &StoreDemand, shards: ShardCount, now: Duration) -> Vec<Finding> {
    vec![directory(disk, store), file_system(disk), space(disk, store, shards), last_start(disk, now)]
}

fn directory(disk: &StoreDisk, store: &StoreDemand) -> Finding {
    let name = "store directory";
    let (path, nearest) = (store.directory.display(), disk.nearest.display());
    let elsewhere = "give another directory with --data or store.directory";
    if !disk.is_directory {
        return Finding::problem(name, format!("{nearest} is not a directory"), elsewhere);
    }
    if disk.read_only {
        let mend = format!("{elsewhere}, on a file system that can be written; for a container a volume");
        return Finding::problem(name, format!("{path} lies on a file system that is mounted read-only"), mend);
    }
    if let Some(forbidden) = &disk.forbidden {
        let forbidden = forbidden.display();
        let mend = format!(
            "have the user that runs the router own it: `chown -R USER {forbidden}`; in Kubernetes securityContext.fsGroup; or \
             {elsewhere}"
        );
        return Finding::problem(name, format!("this process may not read and write {forbidden}"), mend);
    }
    if disk.nearest == store.directory || store.directory.exists() {
        return Finding::ok(name, format!("{path} can be read and written"));
    }
    Finding::ok(name, format!("{path} is created at the start, in {nearest}"))
}

fn file_system(disk: &StoreDisk) -> Finding {
    let name = "store disk";
    let kind = disk.file_system.and_then(kind_of);
    let called = match (kind, disk.file_system) {
        (Some(kind), _) => kind.name.to_owned(),
        (None, Some(magic)) => format!("a file system of the kind 0x{magic:x}"),
        (None, None) => "a file system that does not say its kind".to_owned(),
    };
    if let DirectWrite::Fails { raw_os_error } = disk.direct {
        let error = io::Error::from_raw_os_error(raw_os_error);
        return Finding::problem(
            name,
            format!("{called}; a block of {PROBE_BYTES} bytes could not be written: {error}"),
            "free space or raise the quota if it is full, and look into the kernel's log for errors of the device if it is not",
        );
    }
    match kind.map_or(Keeps::Everything, |kind| kind.keeps) {
        Keeps::Nothing => Finding::warning(
            name,
            format!("{called}, which is memory: a power cut or a restart of the machine loses what was acknowledged"),
            "put the store on a disk",
        ),
        Keeps::WhatOthersKeep => Finding::warning(
            name,
            format!("{called}: whether a write survives a power cut, and whether locks hold, is up to the other side"),
            "put the store on a disk of this host",
        ),
        Keeps::Everything if disk.direct == DirectWrite::Unsupported => Finding::warning(
            name,
            format!(
                "{called}, which takes no direct writes: each write goes through the page cache and is synced, which takes longer"
            ),
            "use ext4 or XFS",
        ),
        Keeps::Everything if disk.direct == DirectWrite::Untried => {
            Finding::ok(name, format!("{called}; direct writes were not tried, because it has no files without names"))
        }
        Keeps::Everything => Finding::ok(name, format!("{called}, with direct writes")),
    }
}

/// What survives a power failure.
#[derive(Clone, Copy)]
enum Keeps {
    Everything,
    Nothing,
    WhatOthersKeep,
}

#[derive(Clone, Copy)]
struct Kind {
    magic: u64,
    name: &'static str,
    keeps: Keeps,
}

/// File systems by their numbers: see statfs(2).
const KINDS: [Kind; 14] = [
    Kind { magic: 0xef53, name: "ext4", keeps: Keeps::Everything },
    Kind { magic: 0x5846_5342, name: "XFS", keeps: Keeps::Everything },
    Kind { magic: 0x9123_683e, name: "Btrfs", keeps: Keeps::Everything },
    Kind { magic: 0x2fc1_2fc1, name: "ZFS", keeps: Keeps::Everything },
    Kind { magic: 0xf2f5_2010, name: "F2FS", keeps: Keeps::Everything },
    Kind { magic: 0xca45_1a4e, name: "bcachefs", keeps: Keeps::Everything },
    Kind { magic: 0x794c_7630, name: "overlay", keeps: Keeps::Everything },
    Kind { magic: 0x0102_1994, name: "tmpfs", keeps: Keeps::Nothing },
    Kind { magic: 0x8584_58f6, name: "ramfs", keeps: Keeps::Nothing },
    Kind { magic: 0x6969, name: "NFS", keeps: Keeps::WhatOthersKeep },
    Kind { magic: 0xff53_4d42, name: "CIFS", keeps: Keeps::WhatOthersKeep },
    Kind { magic: 0xfe53_4d42, name: "SMB", keeps: Keeps::WhatOthersKeep },
    Kind { magic: 0x6573_5546, name: "FUSE", keeps: Keeps::WhatOthersKeep },
    Kind { magic: 0x0102_1997, name: "9P", keeps: Keeps::WhatOthersKeep },
];

fn kind_of(magic: u64) -> Option<Kind> {
    KINDS.into_iter().find(|kind| kind.magic == magic)
}

fn space(disk: &StoreDisk, store: &StoreDemand, shards: ShardCount) -> Finding {
    let name = "store space";
    let Some(free) = disk.free_bytes else {
        return Finding::warning(name, "the free space cannot be read", "make sure that the file system answers `df`");
    };
    let (first, most) = (u64::from(shards.into_inner()) * store.segment_bytes, store.bytes_max(shards));
    let mend = "free space or use a larger disk; or lower store.segment_bytes, store.segments_max or router.shards";
    if free < first {
        return Finding::problem(
            name,
            format!("{} are free; the first segments of {shards} journals need {}", size(free), size(first)),
            mend,
        );
    }
    let early = store.bytes_at_start(shards);
    if free < early {
        let found = format!("{} are free; {shards} journals write {} early in a run", size(free), size(early));
        return Finding::warning(name, found, mend);
    }
    if free < most {
        let found = format!(
            "{} are free; {shards} journals may grow to {} before durable messages are refused: the disk will be full before that",
            size(free),
            size(most)
        );
        return Finding::warning(name, found, mend);
    }
    Finding::ok(name, format!("{} are free; {shards} journals may grow to {}", size(free), size(most)))
}

/// The time of the last start is the only evidence of a clock that was set back since.
fn last_start(disk: &StoreDisk, now: Duration) -> Finding {
    let name = "store clock";
    match disk.last_start {
        None => Finding::ok(name, "no run has begun here"),
        Some(last) if last > now => Finding::warning(
            name,
            format!(
                "the clock is {:.0?} behind the moment at which the last run began: it was set back, and lifetimes count from a \
                 moment that is still to come",
                last.saturating_sub(now)
            ),
            "set the clock right before the start, and keep it so with an NTP client",
        ),
        Some(_) => Finding::ok(name, "the last run began before now"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Status;

    const NOW: Duration = Duration::from_secs(1_800_000_007);

    fn store(directory: &Path) -> StoreDemand {
        StoreDemand { directory: directory.to_owned(), segment_bytes: 8 << 20, segments_max: 32 }
    }

    fn healthy() -> StoreDisk {
        StoreDisk {
            nearest: PathBuf::from("/data"),
            is_directory: true,
            forbidden: None,
            file_system: Some(0xef53),
            read_only: false,
            direct: DirectWrite::Works,
            free_bytes: Some(100 << 30),
            last_start: Some(Duration::from_secs(1)),
        }
    }

    fn judged(disk: &StoreDisk) -> Vec<Finding> {
        examine_disk(disk, &store(Path::new("/data")), ShardCount::try_new(2).expect("it is allowed"), NOW)
    }

    #[test]
    fn a_healthy_disk_has_nothing_to_mend() {
        for finding in judged(&healthy()) {
            assert_eq!((finding.status, &finding.mend), (Status::Ok, &None), "{finding:?}");
        }
    }

    #[test]
    fn each_fault_is_found_and_comes_with_a_cure() {
        type Fault = fn(&mut StoreDisk);
        let faults: [(Fault, &str, Status, &str); 12] = [
            (|disk| disk.is_directory = false, "store directory", Status::Problem, "is not a directory"),
            (|disk| disk.read_only = true, "store directory", Status::Problem, "mounted read-only"),
            (
                |disk| disk.forbidden = Some(PathBuf::from("/data/lock")),
                "store directory",
                Status::Problem,
                "may not read and write /data/lock",
            ),
            (|disk| disk.file_system = Some(0x0102_1994), "store disk", Status::Warning, "tmpfs, which is memory"),
            (|disk| disk.file_system = Some(0x6969), "store disk", Status::Warning, "NFS: whether"),
            (|disk| disk.direct = DirectWrite::Unsupported, "store disk", Status::Warning, "no direct writes"),
            (
                |disk| disk.direct = DirectWrite::Fails { raw_os_error: Errno::NOSPC.raw_os_error() },
                "store disk",
                Status::Problem,
                "could not be written: No space left",
            ),
            (|disk| disk.free_bytes = None, "store space", Status::Warning, "cannot be read"),
            (|disk| disk.free_bytes = Some(15 << 20), "store space", Status::Problem, "need 16.0 MiB"),
            (|disk| disk.free_bytes = Some(20 << 20), "store space", Status::Warning, "write 32.0 MiB early"),
            (|disk| disk.free_bytes = Some(300 << 20), "store space", Status::Warning, "grow to 512.0 MiB"),
            (
                |disk| disk.last_start = Some(NOW + Duration::from_secs(90)),
                "store clock",
                Status::Warning,
                "90s behind",
            ),
        ];
        for (index, (fault, name, status, found)) in faults.iter().enumerate() {
            let mut disk = healthy();
            fault(&mut disk);
            let findings = judged(&disk);
            let finding = findings.iter().find(|finding| finding.name == *name).expect("every check is made");
            assert_eq!(finding.status, *status, "fault {index}: {finding:?}");
            assert!(finding.found.contains(found) && finding.mend.is_some(), "fault {index}: {finding:?}");
        }
    }

    #[test]
    fn a_directory_that_is_not_there_is_judged_by_the_one_above_and_nothing_is_left_behind() {
        let directory = tempfile::tempdir().expect("there is a place for files");
        let store = store(&directory.path().join("not/yet/there"));
        let disk = StoreDisk::read(&store);
        assert_eq!(disk.nearest, directory.path());
        assert!(disk.is_directory && disk.forbidden.is_none() && disk.free_bytes > Some(0), "{disk:?}");
        assert!(!matches!(disk.direct, DirectWrite::Fails { .. }), "{disk:?}");
        assert_eq!(std::fs::read_dir(directory.path()).expect("it is there").count(), 0);
        let file = directory.path().join("file");
        std::fs::write(&file, "").expect("it is written");
        let disk = StoreDisk::read(&StoreDemand { directory: file.join("below"), ..store });
        assert!(!disk.is_directory, "{disk:?}");
    }
}
