//! Where a page of what the shards list ended.

use std::fmt;
use std::str::FromStr;

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
