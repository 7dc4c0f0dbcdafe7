//! Dead letters for embedders: search, replay, purge.
//!
//! Each shard keeps and filters its own letters. It replies in portions, so that a large store does not block it; the
//! calls here combine the portions.

use caxton_shards::api::{Answer, Input, ReplayError, ReplayPortion, UnresponsiveError};
use caxton_shards::dead_letter::{DeadLetter, DeadLetterFilter, DeadLetterId, DeadLetterSearch};
use caxton_shards::message::{AgentId, MessageId};
use caxton_shards::routing::partition::ShardIndex;

use super::Router;
use super::error::CallError;
use crate::deadline::Deadline;

/// The end of a page of dead letters: the next page begins before these letters, one per shard. They need not exist any
/// more. A shard without an entry begins with its newest letter.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct DeadLetterCursor(pub Vec<DeadLetterId>);

impl DeadLetterCursor {
    fn of_shard(&self, shard: usize) -> Option<DeadLetterId> {
        self.0.iter().find(|id| id.shard.as_usize() == shard).copied()
    }
}

/// A page of a router's dead letters.
#[derive(Clone, Debug, Default)]
pub struct DeadLetterPage {
    /// The letters, newest first by the time of their failure.
    pub letters: Vec<DeadLetter>,
    /// Where to continue if there may be older ones.
    pub next: Option<DeadLetterCursor>,
}

/// The result of replaying several dead letters.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct ReplaySummary {
    /// Number of replayed letters.
    pub replayed: u64,
    /// Number of individually refused letters, which are kept. Letters that a full or stopping shard did not reach are
    /// kept as well, but not counted.
    pub refused: u64,
    /// The first refusal, of a letter or by a shard that had no room.
    pub refusal: Option<ReplayError>,
}

impl Router {
    /// Returns the newest dead letters of every shard, at most `count` of each, newest first within a shard.
    ///
    /// # Errors
    ///
    /// Returns an error if the router has stopped.
    pub async fn dead_letters(&self, count: usize) -> Result<Vec<DeadLetter>, CallError> {
        self.newest_letters(count, self.deadline()).await
    }

    /// Like [`Router::dead_letters`], with a deadline.
    pub(super) async fn newest_letters(&self, count: usize, deadline: Deadline) -> Result<Vec<DeadLetter>, CallError> {
        let mut letters = Vec::new();
        for shard in 0..self.shared().links.len() {
            letters.extend(self.search_shard(shard, DeadLetterSearch::default(), count, deadline).await?.0);
        }
        Ok(letters)
    }

    /// Returns a page of at most `limit` dead letters that match a filter, newest of all shards first. It begins with
    /// the newest one or, given the cursor of the previous page, where that ended: letters added meanwhile are on no
    /// further page, and no letter is on two. The shards examine
    /// [`LETTERS_SEARCHED_MAX`](caxton_shards::dead_letter::LETTERS_SEARCHED_MAX) letters per turn, and every shard's
    /// reply has up to `limit` letters.
    ///
    /// # Errors
    ///
    /// Returns an error if the router has stopped.
    pub async fn find_dead_letters(
        &self,
        filter: &DeadLetterFilter,
        limit: usize,
        cursor: Option<&DeadLetterCursor>,
    ) -> Result<DeadLetterPage, CallError> {
        let (mut found, deadline) = (Vec::new(), self.deadline());
        for shard in self.shards_of(filter) {
            let before = cursor.and_then(|cursor| cursor.of_shard(shard));
            let search = DeadLetterSearch { filter: *filter, after: None, before };
            let (letters, next) = self.search_shard(shard, search, limit, deadline).await?;
            found.push(Found { shard, letters, next });
        }
        Ok(merge(found, limit))
    }

    /// Returns the dead letter with this id, if it exists.
    ///
    /// # Errors
    ///
    /// Returns an error if the router has stopped.
    pub async fn dead_letter(&self, id: DeadLetterId) -> Result<Option<DeadLetter>, CallError> {
        Ok(self.find_dead_letters(&DeadLetterFilter::only(id), 1, None).await?.letters.pop())
    }

    /// Sends a dead letter's message again, to its receiver or to another agent. Returns its new id once it has reached
    /// its receiver, or is on disk there if it is durable: its lifetime starts again, and the letter is removed. If it
    /// does not arrive, for example because no agent has the receiver's name, the letter is unchanged.
    ///
    /// A durable message also reaches a persistent agent that is not registered again yet, and waits for it. The
    /// original sender is kept, is notified of another failure and gets the reply. A message that has not arrived
    /// within five seconds counts as replayed, and its letter stays until it has. In a conversation, another agent
    /// joins it. If the message fails again, that is a new letter, which counts its replays: there are at most
    /// [`REPLAYS_MAX`](caxton_shards::api::REPLAYS_MAX).
    ///
    /// # Errors
    ///
    /// Returns [`ReplayError`] if the letter was not replayed and is kept, or an error if the router has stopped.
    pub async fn replay_dead_letter(
        &self,
        id: DeadLetterId,
        to: Option<AgentId>,
    ) -> Result<MessageId, CallError<ReplayError>> {
        let filter = DeadLetterFilter::only(id);
        let (search, deadline) = (DeadLetterSearch { filter, ..DeadLetterSearch::default() }, self.deadline());
        for shard in self.shards_of(&filter) {
            let portion = self.replay_on_shard(shard, search, to, deadline).await?;
            if let Some((_, message)) = portion.replayed.first() {
                return Ok(*message);
            }
            if let Some(error) = portion.refused.first().cloned().or(portion.stopped) {
                return Err(CallError::Refused(error));
            }
        }
        Err(CallError::Refused(ReplayError::Unknown { id }))
    }

    /// Sends the messages of all dead letters that match a filter again, as [`Router::replay_dead_letter`] does with
    /// one. Those of a shard are sent in the order in which they failed. Letters added meanwhile are left alone,
    /// including those of messages that fail again at once. When a shard has no more room, the rest of its letters is
    /// kept: the summary says so, and the call can be repeated.
    ///
    /// # Errors
    ///
    /// Returns an error if the router has stopped or a shard did not respond in time; some letters may have been
    /// replayed.
    pub async fn replay_dead_letters(
        &self,
        filter: &DeadLetterFilter,
        to: Option<AgentId>,
    ) -> Result<ReplaySummary, CallError> {
        let (mut summary, deadline) = (ReplaySummary::default(), self.deadline());
        for (shard, mut search) in self.present_letters(filter, deadline).await? {
            loop {
                let portion = self.replay_on_shard(shard, search, to, deadline).await;
                let portion = portion.map_err(|error| after_a_part(error, summary.replayed > 0))?;
                summary.replayed += portion.replayed.len() as u64;
                summary.refused += portion.refused.len() as u64;
                summary.refusal = summary.refusal.or(portion.refused.first().cloned());
                if let Some(error) = portion.stopped.filter(|_| portion.replayed.is_empty()) {
                    summary.refusal = summary.refusal.or(Some(error));
                    break;
                }
                // A shard that was full after some letters has had a turn since, and may accept more.
                search.after = portion.next;
                if portion.next.is_none() {
                    break;
                }
            }
        }
        Ok(summary)
    }

    /// Deletes all dead letters that match a filter, or the one that it names. Letters added meanwhile are left alone.
    /// Returns the number deleted.
    ///
    /// # Errors
    ///
    /// Returns an error if the router has stopped or a shard did not respond in time; some letters may have been
    /// deleted.
    pub async fn purge_dead_letters(&self, filter: &DeadLetterFilter) -> Result<u64, CallError> {
        let (mut purged, deadline) = (0, self.deadline());
        for (shard, mut search) in self.present_letters(filter, deadline).await? {
            loop {
                let asked = Box::new(search);
                let answer = self.query(shard, deadline, |token| Input::PurgeDeadLetters(asked, token)).await;
                let answer = answer.map_err(|error| after_a_part(error, purged > 0))?;
                let Answer::DeadLettersPurged { letters, next } = answer else { return Err(CallError::Stopped) };
                purged += letters;
                search.after = next;
                if next.is_none() {
                    break;
                }
            }
        }
        Ok(purged)
    }

    /// Returns the shards that may have matching letters.
    fn shards_of(&self, filter: &DeadLetterFilter) -> std::ops::Range<usize> {
        let shards = self.shared().links.len();
        match filter.id.map(|id| id.shard.as_usize()) {
            Some(shard) if shard < shards => shard..shard + 1,
            Some(_) => 0..0,
            None => 0..shards,
        }
    }

    /// Returns, for each shard that may have matching letters, a search that ends with its newest letter at this time.
    /// Processing the letters of one shard may create new ones on another, and those are excluded.
    async fn present_letters(
        &self,
        filter: &DeadLetterFilter,
        deadline: Deadline,
    ) -> Result<Vec<(usize, DeadLetterSearch)>, CallError> {
        let mut searches = Vec::new();
        for shard in self.shards_of(filter) {
            let search = DeadLetterSearch { filter: *filter, ..DeadLetterSearch::default() };
            if let (_, Some(end)) = self.search_shard(shard, search, 0, deadline).await? {
                searches.push((shard, DeadLetterSearch { before: Some(end), ..search }));
            }
        }
        Ok(searches)
    }

    /// Returns up to `limit` letters of a shard, newest first, and where to continue if there may be more.
    async fn search_shard(
        &self,
        shard: usize,
        mut search: DeadLetterSearch,
        limit: usize,
        deadline: Deadline,
    ) -> Result<(Vec<DeadLetter>, Option<DeadLetterId>), CallError> {
        let mut letters = Vec::new();
        loop {
            let (asked, wanted) = (Box::new(search), limit - letters.len());
            let answer = self.query(shard, deadline, |token| Input::DeadLetters(asked, wanted, token)).await?;
            let Answer::DeadLetters(portion) = answer else { return Err(CallError::Stopped) };
            letters.extend(portion.letters);
            if portion.next.is_none() || letters.len() >= limit {
                return Ok((letters, portion.next));
            }
            search.before = portion.next;
        }
    }

    async fn replay_on_shard<E>(
        &self,
        shard: usize,
        search: DeadLetterSearch,
        to: Option<AgentId>,
        deadline: Deadline,
    ) -> Result<ReplayPortion, CallError<E>> {
        let search = Box::new(search);
        match self.query(shard, deadline, |token| Input::ReplayDeadLetters(search, to, token)).await? {
            Answer::DeadLettersReplayed(portion) => Ok(*portion),
            _ => Err(CallError::Stopped),
        }
    }
}

/// Returns the error of a call that proceeds in parts, some of which may be done.
fn after_a_part<E>(error: CallError<E>, part_done: bool) -> CallError<E> {
    match error {
        CallError::Unresponsive(late) => {
            CallError::Unresponsive(UnresponsiveError { may_have_changed: late.may_have_changed || part_done, ..late })
        }
        other => other,
    }
}

/// The letters found on one shard, newest first, and where to continue if there may be more.
struct Found {
    shard: usize,
    letters: Vec<DeadLetter>,
    next: Option<DeadLetterId>,
}

/// Returns the newest letters of all shards. Each shard's letters keep their order, even if its clock went back.
fn merge(found: Vec<Found>, limit: usize) -> DeadLetterPage {
    let mut more = false;
    let mut cursor = Vec::new();
    let mut heads = Vec::new();
    for Found { shard, letters, next } in found {
        more |= next.is_some();
        // Until a letter of the shard is on the page, the next page begins with the first one found.
        let start = letters.first().map(|letter| DeadLetterId { number: letter.id.number + 1, ..letter.id });
        let nothing_older = DeadLetterId { shard: ShardIndex(u16::try_from(shard).unwrap_or(u16::MAX)), number: 0 };
        cursor.push(start.or(next).unwrap_or(nothing_older));
        heads.push(letters.into_iter().peekable());
    }
    let mut letters = Vec::new();
    while letters.len() < limit {
        let moments = heads.iter_mut().enumerate().filter_map(|(place, head)| Some((head.peek()?.last, place)));
        let Some((_, place)) = moments.max() else { break };
        let Some(letter) = heads[place].next() else { break };
        cursor[place] = letter.id;
        letters.push(letter);
    }
    more |= heads.iter_mut().any(|head| head.peek().is_some());
    DeadLetterPage { letters, next: more.then_some(DeadLetterCursor(cursor)) }
}

#[cfg(test)]
mod tests {
    use caxton_shards::dead_letter::DeadLetterReason;
    use caxton_shards::message::{Message, Performative, WallTime};

    use super::*;

    fn id(shard: u16, number: u64) -> DeadLetterId {
        DeadLetterId { shard: ShardIndex(shard), number }
    }

    fn letter(id: DeadLetterId, last: u64) -> DeadLetter {
        DeadLetter {
            id,
            message: Message::builder(Performative::Inform).build().expect("the message is valid"),
            reason: DeadLetterReason::NoRoute,
            attempts: 0,
            last_error: None,
            first: WallTime(0),
            last: WallTime(last),
            shard: id.shard,
            replays: 0,
        }
    }

    /// Returns letters of a shard by number and time.
    fn found(shard: u16, letters: &[(u64, u64)], next: Option<u64>) -> Found {
        let letters = letters.iter().map(|(number, last)| letter(id(shard, *number), *last)).collect();
        Found { shard: usize::from(shard), letters, next: next.map(|number| id(shard, number)) }
    }

    fn ids(page: &DeadLetterPage) -> Vec<DeadLetterId> {
        page.letters.iter().map(|letter| letter.id).collect()
    }

    #[test]
    fn the_newest_of_all_shards_come_first_and_the_cursor_stands_behind_them() {
        let shards =
            || vec![found(0, &[(9, 50), (8, 20)], None), found(1, &[(3, 40), (2, 30)], Some(2)), found(2, &[], None)];
        let page = merge(shards(), 3);
        assert_eq!(ids(&page), [id(0, 9), id(1, 3), id(1, 2)]);
        assert_eq!(page.next, Some(DeadLetterCursor(vec![id(0, 9), id(1, 2), id(2, 0)])));
        let page = merge(shards(), 1);
        assert_eq!(page.next, Some(DeadLetterCursor(vec![id(0, 9), id(1, 4), id(2, 0)])));
    }

    #[test]
    fn the_last_page_says_so() {
        let page = merge(vec![found(0, &[(2, 5)], None), found(1, &[(1, 6)], None)], 2);
        assert_eq!((ids(&page), page.next), (vec![id(1, 1), id(0, 2)], None));
    }

    #[test]
    fn letters_of_a_shard_whose_clock_went_back_keep_their_order() {
        let page = merge(vec![found(0, &[(3, 10), (2, 90), (1, 5)], None), found(1, &[(7, 50)], None)], 9);
        assert_eq!(ids(&page), [id(1, 7), id(0, 3), id(0, 2), id(0, 1)]);
    }
}
