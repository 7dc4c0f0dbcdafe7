//! A thread for calls that block: name resolution, and listing directories.

use std::io;
use std::thread;

/// Work for the thread.
type Job = Box<dyn FnOnce() + Send>;

/// Starts its thread with the first call; the thread ends after the call in progress when the helper is dropped.
#[derive(Default)]
pub(super) struct Helper {
    jobs: Option<flume::Sender<Job>>,
}

impl Helper {
    /// Runs a call on the thread.
    ///
    /// # Errors
    ///
    /// An earlier call is still running, or there is no thread to be had; the call was not made.
    pub async fn call<T: Send + 'static>(&mut self, call: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
        let jobs = match &self.jobs {
            Some(jobs) => jobs,
            None => self.jobs.insert(start()?),
        };
        let (answer, answered) = flume::bounded(1);
        let job = Box::new(move || {
            // The caller may have stopped waiting.
            let _ = answer.try_send(call());
        });
        jobs.try_send(job).map_err(|_| io::Error::new(io::ErrorKind::WouldBlock, "an earlier call still blocks"))?;
        answered.recv_async().await.map_err(|_| io::Error::other("the helper thread ended"))
    }
}

fn start() -> io::Result<flume::Sender<Job>> {
    let (jobs, waiting) = flume::bounded::<Job>(1);
    thread::Builder::new().name("caxton-export".to_owned()).spawn(move || {
        for job in waiting {
            job();
        }
    })?;
    Ok(jobs)
}
