//! A pool of message bodies, reused for the messages built next.
//!
//! A handler's reply reuses the body of a message settled just before, which is still in the cache. Each thread has its
//! own pool. Bodies that cross shards are copied, and each shard keeps their boxes in a separate [`BodyPool`]: keeping
//! them here too was measured to cost a fifth more where half of the messages cross.

use std::cell::RefCell;

use super::content::{InlineContent, MessageContent};
use super::{AgentId, Body, ConversationRole, Performative, Receipt, Receiver, Reliability, WhenUnavailable};
use crate::domain::Priority;
use crate::message::delivery_meta::DeliveryMeta;
use crate::message::journal_ref::JournalMark;

/// Maximum number of bodies in a thread's pool, and in a shard's: 384 KiB.
pub const BODIES_KEPT_MAX: usize = 1_024;

thread_local! {
    #[allow(clippy::vec_box)] // The heap allocation itself is what is kept.
    static BODIES: RefCell<Vec<Box<Body>>> = const { RefCell::new(Vec::new()) };
}

/// Returns a blank body.
#[inline(always)]
pub(super) fn take() -> Box<Body> {
    // While a thread ends, its pool is gone.
    let kept = BODIES.try_with(|bodies| bodies.borrow_mut().pop()).ok().flatten();
    match kept {
        // Wiped on reuse and not when it is returned, so that a reply's fields are written over it only once.
        Some(mut body) => {
            body.wipe();
            body
        }
        // Allocate first, so that the body is written in place instead of being copied there.
        None => Box::write(Box::new_uninit(), Body::BLANK),
    }
}

/// Allocations of plain messages that have left a shard, for those that arrive.
#[derive(Default)]
pub(crate) struct BodyPool(#[allow(clippy::vec_box)] Vec<Box<Body>>); // The heap allocation itself is what is kept.

impl BodyPool {
    /// Keeps the allocation of a plain message that was copied.
    #[inline]
    pub(super) fn give(&mut self, body: Box<Body>) {
        debug_assert!(body.plain().is_some(), "what it shares would never be dropped");
        if self.0.len() < BODIES_KEPT_MAX {
            self.0.push(body);
        }
    }

    /// Returns a body that equals a plain one.
    #[inline]
    pub(super) fn copy_of(&mut self, plain: PlainBody<'_>) -> Box<Body> {
        match self.0.pop() {
            Some(mut place) => {
                plain.copy_over(&mut place);
                place
            }
            // Allocate first, so that the copy is written in place.
            None => Box::write(Box::new_uninit(), plain.copy()),
        }
    }
}

/// Keeps a body's allocation for a later message.
#[inline(always)]
pub(super) fn give(mut body: Box<Body>) {
    body.release();
    let _ = BODIES.try_with(|bodies| {
        let mut bodies = bodies.borrow_mut();
        if bodies.len() < BODIES_KEPT_MAX {
            bodies.push(body);
        }
    });
}

/// A body that shares nothing with other messages.
#[derive(Clone, Copy)]
pub(crate) struct PlainBody<'a> {
    body: &'a Body,
    /// A reference rather than the id: an id passed on as a copy would be written in halves and read as a whole.
    receiver: &'a AgentId,
    content: InlineContent<'a>,
}

impl PlainBody<'_> {
    #[inline(always)]
    pub(crate) fn copy(self) -> Body {
        let body = self.body;
        // Every field is named, so that none is forgotten.
        Body {
            id: body.id,
            sender: body.sender,
            receiver: Receiver::Agent(*self.receiver),
            conversation: body.conversation,
            reply_with: body.reply_with,
            in_reply_to: body.in_reply_to,
            reply_by: body.reply_by,
            performative: body.performative,
            protocol: body.protocol,
            language: body.language,
            encoding: body.encoding,
            ontology: body.ontology,
            role: body.role,
            late: body.late,
            priority: body.priority,
            reliability: body.reliability,
            receipt: body.receipt,
            when_unavailable: body.when_unavailable,
            attempts_max: body.attempts_max,
            time_to_live_ms: body.time_to_live_ms,
            details: None,
            delivery_meta: DeliveryMeta { ..body.delivery_meta },
            journal: JournalMark(body.journal.0),
            content: self.content.copy(),
        }
    }

    /// Copies the body over another one that shares nothing either. A separate function, so that the compiler knows
    /// that the two do not overlap and copies directly.
    #[inline(never)]
    fn copy_over(self, place: &mut Body) {
        // There is nothing to drop, which the compiler cannot know.
        std::mem::forget(std::mem::replace(place, self.copy()));
    }
}

impl Body {
    const BLANK: Self = Self {
        id: None,
        sender: None,
        receiver: Receiver::Unaddressed,
        conversation: None,
        reply_with: None,
        in_reply_to: None,
        reply_by: None,
        performative: Performative::Inform,
        protocol: None,
        language: None,
        encoding: None,
        ontology: None,
        role: ConversationRole::Unresolved,
        late: false,
        priority: Priority::Normal,
        reliability: Reliability::Volatile,
        receipt: Receipt::None,
        when_unavailable: WhenUnavailable::Wait,
        attempts_max: None,
        time_to_live_ms: 0,
        details: None,
        delivery_meta: DeliveryMeta::NONE,
        journal: JournalMark::NONE,
        content: MessageContent::EMPTY,
    };

    /// Returns the body if it shares nothing with other messages.
    #[inline]
    pub(super) fn plain(&self) -> Option<PlainBody<'_>> {
        match (&self.receiver, &self.details, self.content.inline()) {
            (Receiver::Agent(receiver), None, Some(content)) => Some(PlainBody { body: self, receiver, content }),
            _ => None,
        }
    }

    /// Drops everything shared with other messages.
    #[inline]
    fn release(&mut self) {
        if matches!(self.receiver, Receiver::Agents(_) | Receiver::Member(..)) {
            self.receiver = Receiver::Unaddressed;
        }
        if self.details.is_some() {
            self.details = None;
        }
        self.content.clear();
    }

    /// Makes a body that shares nothing blank. Short content is not wiped, because the next content overwrites it.
    #[inline(always)]
    fn wipe(&mut self) {
        // Every field is named, so that none is forgotten.
        let Self {
            id,
            sender,
            receiver,
            conversation,
            reply_with,
            in_reply_to,
            reply_by,
            performative,
            protocol,
            language,
            encoding,
            ontology,
            role,
            late,
            priority,
            reliability,
            receipt,
            when_unavailable,
            attempts_max,
            time_to_live_ms,
            details,
            delivery_meta,
            journal,
            content,
        } = self;
        *id = None;
        *sender = None;
        // There is nothing to drop, which the compiler cannot know.
        std::mem::forget(std::mem::replace(receiver, Receiver::Unaddressed));
        *conversation = None;
        *reply_with = None;
        *in_reply_to = None;
        *reply_by = None;
        *performative = Performative::Inform;
        (*protocol, *language, *encoding, *ontology) = (None, None, None, None);
        *role = ConversationRole::Unresolved;
        *late = false;
        *priority = Priority::Normal;
        *reliability = Reliability::Volatile;
        *receipt = Receipt::None;
        *when_unavailable = WhenUnavailable::Wait;
        *attempts_max = None;
        *time_to_live_ms = 0;
        std::mem::forget(details.take());
        *delivery_meta = DeliveryMeta::NONE;
        *journal = JournalMark::NONE;
        debug_assert!(content.is_empty(), "it was let go of");
    }
}
