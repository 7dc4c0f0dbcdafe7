//! How fast clients may be, each by its identity, whatever the door.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::identity::TOKENS_MAX;

/// An identity has sent as much as it may for now.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct TooFast {
    /// How much it may send per second.
    pub per_second: f64,
    /// How long it is until it may send again.
    pub wait: Duration,
}

/// How many requests or messages each identity may send: a token bucket that holds those of one second.
#[derive(Debug)]
pub(crate) struct Rates {
    /// Their number per second; zero for any number.
    per_second: AtomicU32,
    buckets: Mutex<HashMap<Arc<str>, Bucket>>,
}

#[derive(Debug)]
struct Bucket {
    left: f64,
    at: Instant,
}

impl Rates {
    pub fn new(per_second: u32) -> Self {
        Self { per_second: AtomicU32::new(per_second), buckets: Mutex::default() }
    }

    /// Sets their number per second.
    pub fn set(&self, per_second: u32) {
        self.per_second.store(per_second, Ordering::Relaxed);
    }

    /// Whether there is a limit.
    pub fn are_limited(&self) -> bool {
        self.per_second.load(Ordering::Relaxed) > 0
    }

    /// Counts a request or a message.
    ///
    /// # Errors
    ///
    /// The identity has to wait.
    pub fn take(&self, identity: &Arc<str>, now: Instant) -> Result<(), TooFast> {
        let most = f64::from(self.per_second.load(Ordering::Relaxed));
        if most <= 0.0 {
            return Ok(());
        }
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= TOKENS_MAX && !buckets.contains_key(identity) {
            // Those of tokens that are gone. A full bucket is as good as none.
            buckets.retain(|_, bucket| now.duration_since(bucket.at).as_secs_f64() < 1.0);
        }
        let bucket = buckets.entry(Arc::clone(identity)).or_insert(Bucket { left: most, at: now });
        bucket.left = (bucket.left + now.duration_since(bucket.at).as_secs_f64() * most).min(most);
        bucket.at = now;
        if bucket.left < 1.0 {
            return Err(TooFast { per_second: most, wait: Duration::from_secs_f64((1.0 - bucket.left) / most) });
        }
        bucket.left -= 1.0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_filled_again_and_each_identity_has_its_own() {
        let rates = Rates::new(2);
        let (ann, bob): (Arc<str>, Arc<str>) = ("ann".into(), "bob".into());
        let now = Instant::now();
        assert!(rates.take(&ann, now).is_ok() && rates.take(&ann, now).is_ok());
        let too_fast = rates.take(&ann, now).expect_err("it is the third one");
        assert_eq!((too_fast.per_second, too_fast.wait), (2.0, Duration::from_millis(500)));
        assert!(rates.take(&bob, now).is_ok());
        assert!(rates.take(&ann, now + Duration::from_millis(500)).is_ok());
        assert!(rates.take(&ann, now + Duration::from_millis(500)).is_err());
        rates.set(0);
        assert!((0..1_000).all(|_| rates.take(&ann, now).is_ok()));
    }
}
