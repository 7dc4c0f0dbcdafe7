//! Waits a moment for the shards before the doors' thread sleeps.
//!
//! To wake a sleeping thread takes longer than most messages spend in a shard. After a connection has handed something
//! over, the thread therefore polls for up to 30 microseconds whether a shard has woken a connection. Where nothing comes
//! back that soon, such as from an agent that takes its time, it polls ever more rarely.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Context, Wake, Waker};
use std::time::{Duration, Instant};

/// How long the thread polls.
const SPINS_FOR: Duration = Duration::from_micros(30);
/// Polls for each reading of the clock.
const POLLS_PER_CLOCK_READ: u32 = 16;
/// Maximum number of times that it sleeps at once after it has polled in vain.
const SKIPPED_MAX: u32 = 256;

thread_local! {
    static HANDED_OVER: Cell<bool> = const { Cell::new(false) };
}

/// Whether a connection of this thread was woken.
#[derive(Clone, Debug, Default)]
pub(crate) struct Woken(Arc<AtomicBool>);

impl Woken {
    /// Notes that something is about to be handed over to a shard.
    pub fn expect(&self) {
        self.0.store(false, Ordering::Relaxed);
        HANDED_OVER.set(true);
    }

    /// Returns what the thread does before it sleeps.
    pub fn before_sleep(self) -> impl Fn() + Send + Sync + 'static {
        let skips = Skips::default();
        move || {
            if HANDED_OVER.replace(false) && skips.is_due() {
                skips.count(self.comes_soon());
            }
        }
    }

    fn comes_soon(&self) -> bool {
        let began = Instant::now();
        loop {
            for _ in 0..POLLS_PER_CLOCK_READ {
                if self.0.load(Ordering::Acquire) {
                    return true;
                }
                std::hint::spin_loop();
            }
            if began.elapsed() >= SPINS_FOR {
                return false;
            }
        }
    }
}

/// How often the thread sleeps at once.
#[derive(Default)]
struct Skips {
    left: AtomicU32,
    in_vain: AtomicU32,
}

impl Skips {
    fn is_due(&self) -> bool {
        let left = self.left.load(Ordering::Relaxed);
        self.left.store(left.saturating_sub(1), Ordering::Relaxed);
        left == 0
    }

    fn count(&self, came: bool) {
        let in_vain = if came { 0 } else { (self.in_vain.load(Ordering::Relaxed) * 2 + 1).min(SKIPPED_MAX) };
        self.in_vain.store(in_vain, Ordering::Relaxed);
        self.left.store(in_vain, Ordering::Relaxed);
    }
}

/// A task's waker, which tells the thread as well.
struct Telling {
    task: Waker,
    woken: Woken,
}

impl Wake for Telling {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.task.wake_by_ref();
        self.woken.0.store(true, Ordering::Release);
    }
}

/// The waker of a task, kept as long as the task has the same.
#[derive(Default)]
pub(crate) struct TellingWaker(Option<(Waker, Waker)>);

impl TellingWaker {
    /// Returns a waker for the task of this context.
    pub fn of(&mut self, context: &Context<'_>, woken: &Woken) -> Waker {
        match &self.0 {
            Some((task, telling)) if task.will_wake(context.waker()) => telling.clone(),
            _ => {
                let telling = Waker::from(Arc::new(Telling { task: context.waker().clone(), woken: woken.clone() }));
                self.0 = Some((context.waker().clone(), telling.clone()));
                telling
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Counting(AtomicU32);

    impl Wake for Counting {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_task_is_woken_and_the_thread_told() {
        let (woken, task) = (Woken::default(), Arc::new(Counting::default()));
        let waker = Waker::from(Arc::clone(&task));
        let (context, mut telling) = (Context::from_waker(&waker), TellingWaker::default());
        woken.expect();
        let wake = telling.of(&context, &woken);
        assert!(wake.will_wake(&telling.of(&context, &woken)), "it is kept");
        wake.wake();
        assert_eq!(task.0.load(Ordering::Relaxed), 1);
        assert!(woken.comes_soon());
        woken.expect();
        assert!(!woken.comes_soon(), "it was woken before that was handed over");
    }

    #[test]
    fn a_thread_that_has_polled_in_vain_does_so_rarely() {
        let skips = Skips::default();
        let due = |times: u32| (0..times).filter(|_| skips.is_due()).count();
        assert_eq!(due(3), 3);
        for skipped in [1, 3, 7] {
            skips.count(false);
            assert_eq!(due(skipped), 0);
            assert!(skips.is_due());
        }
        for _ in 0..20 {
            skips.count(false);
        }
        assert_eq!(due(SKIPPED_MAX), 0);
        assert!(skips.is_due());
        skips.count(true);
        assert_eq!(due(3), 3);
    }
}
