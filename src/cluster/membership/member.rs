//! Who a node is.

use caxton_shards::domain::NodeId;
use foca::Identity;

use crate::cluster::link::Versions;

/// One incarnation of a node: a restart, or a return after it was declared dead, makes another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Member {
    /// Its number in the cluster.
    pub node: NodeId,
    /// It grows with every start of the node.
    pub boot_epoch: u64,
    /// How often the node came back since its start after others had declared it dead.
    pub renewal: u32,
    /// What it speaks.
    pub versions: Versions,
    /// Its number of shards.
    pub shards: u16,
}

impl Member {
    /// Whether both are the same start of a node, whatever the others believed meanwhile.
    pub fn is_same_start(&self, other: &Self) -> bool {
        (self.node, self.boot_epoch) == (other.node, other.boot_epoch)
    }
}

impl Identity for Member {
    type Addr = NodeId;

    fn renew(&self) -> Option<Self> {
        Some(Self { renewal: self.renewal.checked_add(1)?, ..*self })
    }

    fn addr(&self) -> NodeId {
        self.node
    }

    fn win_addr_conflict(&self, other: &Self) -> bool {
        (self.boot_epoch, self.renewal) > (other.boot_epoch, other.renewal)
    }
}
