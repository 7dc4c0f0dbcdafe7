//! Propose: one agent offers to do something, and another accepts or rejects.

use super::{Table, initiator, participant};
use crate::message::Performative::{AcceptProposal, Propose, RejectProposal};

/// SC00036.
pub(super) const PROPOSE: Table = Table {
    name: "fipa-propose",
    aliases: &[],
    source: "FIPA SC00036",
    ends: &["rejected", "accepted"],
    steps: &[
        initiator("start", Propose, "proposed"),
        participant("proposed", RejectProposal, "rejected"),
        participant("proposed", AcceptProposal, "accepted"),
    ],
    others_speak: false,
};
