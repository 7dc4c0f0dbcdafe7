//! Counts what is open at a door, up to a limit that can change meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// The number of things that are open.
#[derive(Debug, Default)]
pub(crate) struct Room {
    open: AtomicUsize,
    emptied: Notify,
}

/// The place of one thing; dropping it frees the place.
#[derive(Debug)]
pub(crate) struct RoomPlace(Arc<Room>);

impl Room {
    /// Takes a place, unless this many or more are taken.
    pub fn enter(self: &Arc<Self>, max: usize) -> Option<RoomPlace> {
        let more = |open| (open < max).then_some(open + 1);
        self.open.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).ok()?;
        Some(RoomPlace(Arc::clone(self)))
    }

    /// Waits until no place is taken.
    pub async fn is_empty(&self) {
        loop {
            let mut emptied = std::pin::pin!(self.emptied.notified());
            // From here on nothing is missed.
            emptied.as_mut().enable();
            if self.open.load(Ordering::Acquire) == 0 {
                return;
            }
            emptied.await;
        }
    }
}

impl Drop for RoomPlace {
    fn drop(&mut self) {
        if self.0.open.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.emptied.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_up_to_the_limit_of_the_moment() {
        let room = Arc::new(Room::default());
        let mut places: Vec<_> = (0..3).map(|_| room.enter(3)).collect();
        assert!(places.iter().all(Option::is_some) && room.enter(3).is_none());
        places.push(room.enter(4));
        assert!(places[3].is_some());
        places.truncate(2);
        assert!(room.enter(2).is_none(), "as many as fit are there");
        let mut empty = std::pin::pin!(room.is_empty());
        assert!(futures_lite::future::block_on(futures_lite::future::poll_once(empty.as_mut())).is_none());
        places.clear();
        futures_lite::future::block_on(empty);
        assert!(room.enter(2).is_some());
    }
}
