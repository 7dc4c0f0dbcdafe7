//! Pages of what the shards list, and where a page ended.

use std::fmt;
use std::str::FromStr;

use caxton_shards::api::{Answer, Input, Token};
use caxton_shards::routing::partition::ShardIndex;

use super::Router;
use super::error::CallError;

/// Maximum number of portions of a page. A page ends early there, so that a filter that few entries pass does not use up
/// the deadline.
const PORTIONS_PER_PAGE_MAX: usize = 64;

/// A place of a list that the shards give in portions, one shard after the other.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Place {
    pub shard: u16,
    /// The last place of this shard that was looked at; none at its beginning.
    pub after: Option<u32>,
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.after {
            Some(place) => write!(formatter, "{}-{place}", self.shard),
            None => write!(formatter, "{}", self.shard),
        }
    }
}

/// The text is no place.
pub(super) struct NoPlace;

impl FromStr for Place {
    type Err = NoPlace;

    fn from_str(text: &str) -> Result<Self, NoPlace> {
        let (shard, after) = match text.split_once('-') {
            Some((shard, place)) => (shard, Some(place.parse().map_err(|_| NoPlace)?)),
            None => (text, None),
        };
        Ok(Self { shard: shard.parse().map_err(|_| NoPlace)?, after })
    }
}

/// A portion of a shard's list: its entries, and the last place that was looked at if there are more.
pub(super) type Portion<T> = (Vec<T>, Option<u32>);

impl Router {
    /// Returns at most `limit` entries of what the shards list, one shard after the other or of one alone, and where to
    /// continue if there may be more. `input` asks a shard for entries behind a place, and `portion` takes them out of its
    /// response.
    pub(super) async fn page<T>(
        &self,
        (begin, limit): (Place, usize),
        only: Option<ShardIndex>,
        input: impl Fn(Option<u32>, usize, Token) -> Input,
        portion: impl Fn(Answer) -> Option<Portion<T>>,
    ) -> Result<(Vec<T>, Option<Place>), CallError> {
        let (mut entries, deadline, mut portions) = (Vec::new(), self.deadline(), 0);
        let mut after = begin.after;
        for shard in begin.shard..self.shard_count() {
            if only.is_some_and(|only| only != ShardIndex(shard)) {
                after = None;
                continue;
            }
            loop {
                let wanted = limit.saturating_sub(entries.len());
                if wanted == 0 || portions == PORTIONS_PER_PAGE_MAX {
                    return Ok((entries, Some(Place { shard, after })));
                }
                portions += 1;
                let answer = self.query(usize::from(shard), deadline, |token| input(after, wanted, token)).await?;
                let (found, next) = portion(answer).ok_or(CallError::Stopped)?;
                entries.extend(found);
                after = next;
                if after.is_none() {
                    break;
                }
            }
        }
        Ok((entries, None))
    }
}
