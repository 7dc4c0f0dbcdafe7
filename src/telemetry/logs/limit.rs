//! A limit on the number of lines from one place in the code.
//!
//! Invariant: of each place every event either passes or is counted, and each count is logged once: when its interval
//! is over, or when [`RateLimit::report_all`] is called.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::callsite::Identifier;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

use super::LOG;

/// Maximum number of places that are told apart. All further ones share one limit.
pub const SITES_MAX: usize = 1_024;

/// A layer that lets a number of events per interval pass from each place in the code (call site of `tracing`), and
/// counts the others. It has to be the outermost layer, added last.
///
/// The counts are logged by [`RateLimit::report_due`], which has to be called from time to time;
/// [`LogWriter`](super::writer::LogWriter) does so. Those lines have the target [`LOG`], which is not limited.
///
/// Filter with layers such as `Targets` below it, and not with filters of single layers (`with_filter`):
/// tracing-subscriber 0.3 keeps their decision about an event that another layer refuses, and applies it to the next one.
///
/// ```
/// use std::time::Duration;
///
/// use caxton_router::logs::RateLimit;
/// use tracing_subscriber::layer::SubscriberExt as _;
///
/// let limit = RateLimit::new(10, Duration::from_secs(1));
/// let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
/// let subscriber = tracing_subscriber::registry().with(lines).with(limit.clone());
/// tracing::subscriber::with_default(subscriber, || {
///     for attempt in 0..1_000 {
///         tracing::warn!(attempt, "it did not work");
///     }
///     // One line more, "suppressed 990 more like this".
///     limit.report_all();
/// });
/// ```
#[derive(Clone)]
pub struct RateLimit(Arc<Limit>);

struct Limit {
    lines: u32,
    interval: Duration,
    /// The time since some moment.
    clock: Box<dyn Fn() -> Duration + Send + Sync>,
    sites: Mutex<Sites>,
    /// Notified when an event is the first to be suppressed, and at the end.
    changed: Condvar,
}

#[derive(Default)]
struct Sites {
    by_identifier: HashMap<Identifier, Site>,
    /// Shared by the sites for which there is no room.
    others: Option<Site>,
    ended: bool,
}

/// One place in the code.
struct Site {
    metadata: &'static Metadata<'static>,
    /// When its interval began.
    began: Duration,
    /// Lines that passed in this interval.
    passed: u32,
    /// Events suppressed in this interval.
    suppressed: u64,
    /// Events suppressed in earlier intervals and not yet reported.
    due: u64,
}

impl Site {
    /// Begins another interval if the current one is over.
    fn renew(&mut self, now: Duration, interval: Duration) {
        if now.saturating_sub(self.began) >= interval {
            self.began = now;
            self.passed = 0;
            self.due += std::mem::take(&mut self.suppressed);
        }
    }
}

impl RateLimit {
    /// Creates a layer that lets this number of lines pass from each place in each interval.
    pub fn new(lines: u32, interval: Duration) -> Self {
        let start = Instant::now();
        Self::with_clock(lines, interval, move || start.elapsed())
    }

    /// Like [`RateLimit::new`], with a clock of the caller's.
    pub fn with_clock(lines: u32, interval: Duration, clock: impl Fn() -> Duration + Send + Sync + 'static) -> Self {
        let (clock, sites) = (Box::new(clock), Mutex::default());
        Self(Arc::new(Limit { lines, interval, clock, sites, changed: Condvar::new() }))
    }

    /// Whether an event passes. If not, it is counted.
    fn admit(&self, metadata: &'static Metadata<'static>) -> bool {
        if metadata.target() == LOG {
            return true;
        }
        let limit = &*self.0;
        let now = (limit.clock)();
        let new = || Site { metadata, began: now, passed: 0, suppressed: 0, due: 0 };
        let mut sites = limit.sites.lock().unwrap_or_else(PoisonError::into_inner);
        let sites = &mut *sites;
        let is_full = sites.by_identifier.len() >= SITES_MAX;
        let site = match sites.by_identifier.entry(metadata.callsite()) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(_) if is_full => sites.others.get_or_insert_with(new),
            Entry::Vacant(free) => free.insert(new()),
        };
        site.renew(now, limit.interval);
        if site.passed < limit.lines {
            site.passed += 1;
            return true;
        }
        site.suppressed += 1;
        if site.suppressed == 1 {
            limit.changed.notify_all();
        }
        false
    }

    /// Logs a line for each place whose interval is over, if events were suppressed in it. Must not be called by a
    /// subscriber.
    pub fn report_due(&self) {
        self.report(false);
    }

    /// Like [`RateLimit::report_due`], also for intervals that are not over. To be called at the end.
    pub fn report_all(&self) {
        self.report(true);
    }

    fn report(&self, at_once: bool) {
        let limit = &*self.0;
        let now = (limit.clock)();
        let mut due = Vec::new();
        let mut sites = limit.sites.lock().unwrap_or_else(PoisonError::into_inner);
        for site in sites.all() {
            site.renew(now, limit.interval);
            let mut count = std::mem::take(&mut site.due);
            if at_once {
                count += std::mem::take(&mut site.suppressed);
            }
            if count > 0 {
                due.push((site.metadata, count));
            }
        }
        // Logging comes back to this layer.
        drop(sites);
        for (metadata, count) in due {
            report_suppressed(metadata, count);
        }
    }

    /// Waits until there is something to report, and reports it, until [`RateLimit::end`] is called.
    pub(super) fn report_until_end(&self) {
        let limit = &*self.0;
        let mut sites = limit.sites.lock().unwrap_or_else(PoisonError::into_inner);
        while !sites.ended {
            let now = (limit.clock)();
            let ends = sites.all().filter(|site| site.suppressed > 0 || site.due > 0);
            let next = ends.map(|site| (site.began + limit.interval).saturating_sub(now)).min();
            match next {
                None => sites = limit.changed.wait(sites).unwrap_or_else(PoisonError::into_inner),
                Some(time) if time.is_zero() => {
                    drop(sites);
                    self.report_due();
                    sites = limit.sites.lock().unwrap_or_else(PoisonError::into_inner);
                }
                Some(time) => {
                    let waited = limit.changed.wait_timeout(sites, time);
                    sites = waited.unwrap_or_else(PoisonError::into_inner).0;
                }
            }
        }
        drop(sites);
        self.report_all();
    }

    /// Ends [`RateLimit::report_until_end`].
    pub(super) fn end(&self) {
        self.0.sites.lock().unwrap_or_else(PoisonError::into_inner).ended = true;
        self.0.changed.notify_all();
    }
}

impl Sites {
    fn all(&mut self) -> impl Iterator<Item = &mut Site> {
        self.by_identifier.values_mut().chain(&mut self.others)
    }
}

/// Logs how many lines were suppressed, at their own level.
fn report_suppressed(site: &'static Metadata<'static>, count: u64) {
    macro_rules! report {
        ($level:ident) => {
            tracing::event!(
                target: LOG,
                Level::$level,
                site = site.name(),
                site_target = site.target(),
                suppressed = count,
                "suppressed {count} more like this"
            )
        };
    }
    match *site.level() {
        Level::ERROR => report!(ERROR),
        Level::WARN => report!(WARN),
        Level::INFO => report!(INFO),
        Level::DEBUG => report!(DEBUG),
        Level::TRACE => report!(TRACE),
    }
}

impl<S: Subscriber> Layer<S> for RateLimit {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        self.admit(event.metadata())
    }
}

impl fmt::Debug for RateLimit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (lines, interval) = (self.0.lines, self.0.interval);
        formatter.debug_struct("RateLimit").field("lines", &lines).field("interval", &interval).finish_non_exhaustive()
    }
}
