//! The open conversations of a router: one, or a list page by page.

use std::fmt;
use std::str::FromStr;

use caxton_shards::api::{Answer, ConversationFilter, ConversationSummary, ConversationView, Input};
use caxton_shards::message::{AgentId, ConversationId};

use super::Router;
use super::cursor::Place;
use super::error::CallError;

/// The end of a page of conversations. Its text form is the shard and a place there, such as `0-17`, or the shard alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ConversationCursor(Place);

impl fmt::Display for ConversationCursor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// The text is not the cursor of a page of conversations.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("this is not the cursor of a page of conversations: expected the one that the previous page ended with")]
pub struct ConversationCursorError;

impl FromStr for ConversationCursor {
    type Err = ConversationCursorError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self).map_err(|_| ConversationCursorError)
    }
}

/// A page of a router's open conversations.
#[derive(Clone, Debug, Default)]
pub struct ConversationPage {
    /// The conversations, by shard.
    pub conversations: Vec<ConversationSummary>,
    /// Where to continue if there may be more.
    pub next: Option<ConversationCursor>,
}

impl Router {
    /// Returns an open conversation, by its initiator and id.
    ///
    /// # Errors
    ///
    /// Returns an error if the router has stopped.
    pub async fn conversation(
        &self,
        initiator: AgentId,
        id: ConversationId,
    ) -> Result<Option<ConversationView>, CallError> {
        let shard = self.shared().partition.shard_of(initiator).as_usize();
        match self.query(shard, self.deadline(), |token| Input::Conversation(initiator, id, token)).await? {
            Answer::Conversation(view) => Ok(view.map(|view| *view)),
            _ => Err(CallError::Stopped),
        }
    }

    /// Returns a page of at most `limit` open conversations that pass a filter. It begins with the first one or, given the
    /// cursor of the previous page, where that ended. A conversation that is open all the while is on exactly one page;
    /// one that begins or ends meanwhile may be on none. A page may have fewer than `limit` and yet a `next`: a page looks
    /// at a bounded number of conversations.
    ///
    /// Each shard replies in portions of
    /// [`CONVERSATIONS_PER_ANSWER_MAX`](caxton_shards::api::CONVERSATIONS_PER_ANSWER_MAX).
    ///
    /// # Errors
    ///
    /// Returns an error if the router has stopped.
    pub async fn conversations(
        &self,
        filter: &ConversationFilter,
        limit: usize,
        cursor: Option<ConversationCursor>,
    ) -> Result<ConversationPage, CallError> {
        let input = |after, limit, token| {
            let filter = Box::new(filter.clone());
            Input::Conversations { filter, after, limit, token }
        };
        let portion = |answer| match answer {
            Answer::Conversations(portion) => Some((portion.conversations, portion.next)),
            _ => None,
        };
        let (conversations, next) = self.page((cursor.unwrap_or_default().0, limit), None, input, portion).await?;
        Ok(ConversationPage { conversations, next: next.map(ConversationCursor) })
    }
}
