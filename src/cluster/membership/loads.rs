//! The nodes' reports of how busy they are, which spread with the packets of membership.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Buf as _, BufMut as _};
use caxton_shards::domain::NodeId;
use foca::{BroadcastHandler, Invalidates};

use super::codec::{CodecError, get_node};
use super::member::Member;

/// How busy a node is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Load {
    /// Its own agents.
    pub agents: u32,
    /// Messages that it holds.
    pub pending: u32,
}

/// A node's report. The reports since one start of a node are numbered in ascending order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Report {
    node: NodeId,
    boot_epoch: u64,
    number: u32,
    load: Load,
}

impl Report {
    /// Creates a report of a node's own load.
    pub fn new(own: &Member, number: u32, load: Load) -> Self {
        Self { node: own.node, boot_epoch: own.boot_epoch, number, load }
    }

    /// Returns its bytes.
    pub fn to_bytes(self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.put_u16(self.node.into_inner());
        bytes.put_u64(self.boot_epoch);
        bytes.put_u32(self.number);
        bytes.put_u32(self.load.agents);
        bytes.put_u32(self.load.pending);
        bytes
    }

    fn from_bytes(mut bytes: &[u8]) -> Result<Self, CodecError> {
        let buffer = &mut bytes;
        let (node, boot_epoch, number) = (get_node(buffer)?, buffer.try_get_u64()?, buffer.try_get_u32()?);
        let load = Load { agents: buffer.try_get_u32()?, pending: buffer.try_get_u32()? };
        if buffer.has_remaining() { Err(CodecError::NotAllowed) } else { Ok(Self { node, boot_epoch, number, load }) }
    }

    fn is_newer_than(&self, other: &Self) -> bool {
        (self.boot_epoch, self.number) > (other.boot_epoch, other.number)
    }
}

impl Invalidates for Report {
    fn invalidates(&self, other: &Self) -> bool {
        self.node == other.node && !other.is_newer_than(self)
    }
}

/// The latest report of each node.
///
/// The protocol owns its handler and does not hand it out, so the handler and [`Membership`](super::Membership) share
/// the table. Both are on the same thread.
#[derive(Clone, Default)]
pub struct Loads(Arc<Mutex<BTreeMap<NodeId, Report>>>);

impl Loads {
    /// Returns how busy a node was according to its latest report, if it has reported since this start.
    pub fn of(&self, member: &Member) -> Option<Load> {
        let report = self.lock().get(&member.node).copied()?;
        (report.boot_epoch == member.boot_epoch).then_some(report.load)
    }

    /// Forgets a node.
    pub fn forget(&self, node: NodeId) {
        self.lock().remove(&node);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<NodeId, Report>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl BroadcastHandler<Member> for Loads {
    type Key = Report;
    type Error = CodecError;

    fn receive_item(&mut self, data: &[u8], _: Option<&Member>) -> Result<Option<Report>, CodecError> {
        let report = Report::from_bytes(data)?;
        let mut reports = self.lock();
        if reports.get(&report.node).is_some_and(|known| !report.is_newer_than(known)) {
            return Ok(None);
        }
        reports.insert(report.node, report);
        Ok(Some(report))
    }
}
