//! One agent calls for proposals and accepts some of them: the contract net, once or in rounds.

use super::{Table, initiator, participant};
use crate::message::Performative::{AcceptProposal, Cfp, Failure, Inform, Propose, Refuse, RejectProposal};

/// SC00029. A proposal that comes late is still a proposal: the initiator rejects it.
pub(super) const CONTRACT_NET: Table = Table {
    name: "fipa-contract-net",
    aliases: &[],
    source: "FIPA SC00029",
    ends: &["refused", "rejected", "failed", "done"],
    steps: &[
        initiator("start", Cfp, "called"),
        participant("called", Refuse, "refused"),
        participant("called", Propose, "proposed"),
        initiator("proposed", RejectProposal, "rejected"),
        initiator("proposed", AcceptProposal, "accepted"),
        participant("accepted", Failure, "failed"),
        participant("accepted", Inform, "done"),
    ],
    others_speak: false,
};

/// SC00030: a proposal may be answered with another call. So may silence, once the deadline has passed.
pub(super) const ITERATED_CONTRACT_NET: Table = Table {
    name: "fipa-iterated-contract-net",
    aliases: &[],
    source: "FIPA SC00030",
    ends: &["refused", "rejected", "failed", "done"],
    steps: &[
        initiator("start", Cfp, "called"),
        initiator("called", Cfp, "called"),
        participant("called", Refuse, "refused"),
        participant("called", Propose, "proposed"),
        initiator("proposed", Cfp, "called"),
        initiator("proposed", RejectProposal, "rejected"),
        initiator("proposed", AcceptProposal, "accepted"),
        participant("accepted", Failure, "failed"),
        participant("accepted", Inform, "done"),
    ],
    others_speak: false,
};
