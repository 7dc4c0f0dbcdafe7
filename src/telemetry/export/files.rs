//! Export to files: OTLP in JSON, one request per line, one series of numbered files for each signal.
//!
//! Every line of every file can be parsed, but for one that is being written: a line that was torn, by a full disk or by
//! the end of the process, is cut off before the next is written. Nothing is synced: a power cut loses the last seconds.

use std::collections::VecDeque;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use glommio::io::{BufferedFile, OpenOptions, remove};

use super::helper::Helper;
use super::queue::Entry;
use super::sender::{Destination, Outcome};
use super::state::Signal;

/// The end of the files' names.
const EXTENSION: &str = ".jsonl";
/// Number of digits in the files' names, at least.
const NUMBER_DIGITS: usize = 8;
/// Locked while a process writes into the directory.
const LOCK: &str = ".lock";
/// Bytes written at a time, and searched at a time for the end of the last line.
const CHUNK_BYTES: usize = 256 << 10;
/// Rights of new files: telemetry is for the operator only.
const FILE_MODE: u32 = 0o640;

/// Where and how much to write.
pub(super) struct FileSettings {
    pub directory: PathBuf,
    /// Size from which a file is followed by the next. Only a file with a single line can be larger.
    pub bytes: u64,
    /// Maximum number of files of each signal.
    pub files_max: usize,
}

/// The files in a directory.
pub(super) struct Files {
    settings: FileSettings,
    helper: Helper,
    /// Held while files are written.
    lock: Option<File>,
    /// By signal; opened when they are first needed, and again after a failure.
    series: [Option<Series>; Signal::COUNT],
}

/// The files of one signal.
struct Series {
    /// The numbers of all files, ascending; the last is being written.
    numbers: VecDeque<u64>,
    file: BufferedFile,
    /// The size of the file, which ends with a whole line.
    size: u64,
}

impl Files {
    pub fn new(settings: FileSettings) -> Self {
        Self { settings, helper: Helper::default(), lock: None, series: Default::default() }
    }

    async fn append(&mut self, signal: Signal, line: &Bytes) -> io::Result<()> {
        let mut series = match self.series[signal as usize].take() {
            Some(series) => series,
            None => self.open(signal).await?,
        };
        let end = series.size.saturating_add(line.len() as u64);
        if series.size > 0 && end > self.settings.bytes {
            series = self.rotate(signal, series).await?;
        }
        if let Err(error) = write(&series.file, line, series.size).await {
            // If this fails too, the next opening cuts the line off.
            let _ = series.file.truncate(series.size).await;
            let _ = series.file.close().await;
            return Err(error);
        }
        series.size += line.len() as u64;
        self.series[signal as usize] = Some(series);
        Ok(())
    }

    /// Opens the newest file of a signal, or the first.
    async fn open(&mut self, signal: Signal) -> io::Result<Series> {
        let (directory, held) = (self.settings.directory.clone(), self.lock.take());
        let (lock, mut numbers) = self.helper.call(move || survey(&directory, held, signal)).await??;
        self.lock = Some(lock);
        if numbers.is_empty() {
            numbers.push_back(1);
        }
        self.remove_oldest(signal, &mut numbers).await?;
        let newest = numbers.back().copied().unwrap_or(1);
        let file = open_file(&self.path(signal, newest)).await?;
        let size = cut_torn_line(&file).await?;
        Ok(Series { numbers, file, size })
    }

    /// Continues with the next file.
    async fn rotate(&self, signal: Signal, series: Series) -> io::Result<Series> {
        let Series { mut numbers, file, .. } = series;
        file.close().await?;
        let next = numbers.back().map_or(1, |last| last + 1);
        numbers.push_back(next);
        self.remove_oldest(signal, &mut numbers).await?;
        let file = open_file(&self.path(signal, next)).await?;
        let size = cut_torn_line(&file).await?;
        Ok(Series { numbers, file, size })
    }

    async fn remove_oldest(&self, signal: Signal, numbers: &mut VecDeque<u64>) -> io::Result<()> {
        while numbers.len() > self.settings.files_max {
            let Some(oldest) = numbers.pop_front() else { break };
            match remove(self.path(signal, oldest)).await.map_err(io::Error::from) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    fn path(&self, signal: Signal, number: u64) -> PathBuf {
        self.settings.directory.join(format!("{}-{number:0NUMBER_DIGITS$}{EXTENSION}", signal.name()))
    }
}

impl Destination for Files {
    const NAME: &str = "the files";

    async fn prepare(&mut self, entry: &Entry) -> Bytes {
        entry.body.clone()
    }

    async fn send(&mut self, entry: &Entry, prepared: &Bytes) -> Outcome {
        match self.append(entry.signal, prepared).await {
            Ok(()) => Outcome::Delivered { rejected: 0 },
            Err(error) => {
                Outcome::Again { why: format!("{}: {error}", self.settings.directory.display()), after: None }
            }
        }
    }

    async fn close(self) {
        for series in self.series.into_iter().flatten() {
            // Nothing can be done about it.
            let _ = series.file.close().await;
        }
    }
}

/// Creates the directory, takes its lock unless it is held, and lists the files of a signal. This blocks.
fn survey(directory: &Path, held: Option<File>, signal: Signal) -> io::Result<(File, VecDeque<u64>)> {
    fs::create_dir_all(directory)?;
    let lock = match held {
        Some(lock) => lock,
        None => lock(directory)?,
    };
    let mut numbers = Vec::new();
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name();
        let middle = name.to_str().and_then(|name| name.strip_prefix(signal.name())?.strip_suffix(EXTENSION));
        numbers.extend(middle.and_then(|middle| middle.strip_prefix('-')?.parse::<u64>().ok()));
    }
    numbers.sort_unstable();
    Ok((lock, numbers.into()))
}

fn lock(directory: &Path) -> io::Result<File> {
    let lock = File::options().create(true).truncate(false).write(true).open(directory.join(LOCK))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::Error(error)) => Err(error),
        Err(TryLockError::WouldBlock) => {
            Err(io::Error::new(io::ErrorKind::ResourceBusy, "another process writes its telemetry here"))
        }
    }
}

async fn open_file(path: &Path) -> io::Result<BufferedFile> {
    let file = OpenOptions::new().create(true).read(true).write(true).mode(FILE_MODE).buffered_open(path).await?;
    Ok(file)
}

async fn write(file: &BufferedFile, line: &[u8], start: u64) -> io::Result<()> {
    let mut rest = line;
    while !rest.is_empty() {
        let chunk = &rest[..rest.len().min(CHUNK_BYTES)];
        let written = file.write_at(chunk.to_vec(), start + (line.len() - rest.len()) as u64).await?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        rest = &rest[written.min(rest.len())..];
    }
    Ok(())
}

/// Cuts off what follows the last end of a line. Returns the size of the file then.
async fn cut_torn_line(file: &BufferedFile) -> io::Result<u64> {
    let size = file.file_size().await?;
    let mut end = size;
    while end > 0 {
        let start = end.saturating_sub(CHUNK_BYTES as u64);
        let chunk = file.read_at(start, usize::try_from(end - start).unwrap_or(CHUNK_BYTES)).await?;
        if let Some(place) = chunk.iter().rposition(|byte| *byte == b'\n') {
            end = start + place as u64 + 1;
            break;
        }
        end = start;
    }
    if end < size {
        file.truncate(end).await?;
    }
    Ok(end)
}
