//! What a service manager such as systemd is told: readiness, the end, and that the daemon still lives.

use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use caxton_router::Router;
use sd_notify::NotifyState;

use crate::cli::complain;

/// Tells the service manager something, if there is one. It may have gone; the daemon runs all the same.
fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        complain(&format!("the service manager cannot be told: {error}"));
    }
}

/// Says that the start failed, and why.
pub fn failed(complaint: &str) {
    tell(&[NotifyState::Status(complaint.lines().next().unwrap_or_default())]);
}

/// Says that the daemon drains.
pub fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("draining")]);
}

/// Says that settings are being read again.
pub fn reloading() {
    let mut states = vec![NotifyState::Reloading];
    states.extend(NotifyState::monotonic_usec_now());
    tell(&states);
}

/// Says that they were.
pub fn reloaded() {
    tell(&[NotifyState::Ready]);
}

/// Tells the service manager at half of its watchdog's time that the router lives; not while a shard stands still.
/// Dropping it ends that.
pub struct Watchdog {
    end: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Says that the daemon is ready, and begins to feed the watchdog if the service manager has one.
pub fn ready(router: &Router) -> Watchdog {
    tell(&[NotifyState::Ready, NotifyState::Status("serving")]);
    let Some(limit) = sd_notify::watchdog_enabled() else { return Watchdog { end: None, thread: None } };
    let (end, ended) = mpsc::channel();
    let router = router.clone();
    let feed = move || {
        while ended.recv_timeout(limit / 2) == Err(RecvTimeoutError::Timeout) {
            if router.health().is_live() {
                tell(&[NotifyState::Watchdog]);
            }
        }
    };
    match std::thread::Builder::new().name("caxton-manager".to_owned()).spawn(feed) {
        Ok(thread) => Watchdog { end: Some(end), thread: Some(thread) },
        Err(error) => {
            let seconds = Duration::as_secs_f64(&limit);
            complain(&format!("the watchdog of {seconds} s is not fed, because no thread could be started: {error}"));
            Watchdog { end: None, thread: None }
        }
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.end.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
