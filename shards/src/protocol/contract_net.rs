//! The contract net, once or in rounds: one agent calls for proposals and accepts some of them.

use super::{Table, initiator, participant};
use crate::message::Performative::{AcceptProposal, Cfp, Failure, Inform, Propose, Refuse, RejectProposal};

/// SC00029. A late proposal is still a proposal: the initiator rejects it.
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
///
/// Calls and proposals cross each other. A proposal that the initiator has not read when it calls again may still be
/// accepted or rejected, and each of several calls may be answered while the initiator decides and afterwards. The
/// states record how many calls may be unanswered: none, one, or several.
pub(super) const ITERATED_CONTRACT_NET: Table = Table {
    name: "fipa-iterated-contract-net",
    aliases: &[],
    source: "FIPA SC00030",
    ends: &[
        "refused",
        "refused-late",
        "refused-again",
        "rejected",
        "rejected-late",
        "rejected-again",
        "failed",
        "failed-late",
        "done",
        "done-late",
    ],
    steps: &[
        initiator("start", Cfp, "called"),
        initiator("called", Cfp, "called-again"),
        participant("called", Refuse, "refused"),
        participant("called", Propose, "proposed"),
        initiator("proposed", Cfp, "recalled"),
        initiator("proposed", RejectProposal, "rejected"),
        initiator("proposed", AcceptProposal, "accepted"),
        participant("accepted", Failure, "failed"),
        participant("accepted", Inform, "done"),
        // One call is unanswered, and possibly one proposal.
        initiator("recalled", Cfp, "crossed"),
        participant("recalled", Refuse, "refused-again"),
        participant("recalled", Propose, "proposed-again"),
        initiator("recalled", RejectProposal, "rejected-late"),
        initiator("recalled", AcceptProposal, "accepted-late"),
        // No call is unanswered, and possibly more than one proposal.
        initiator("proposed-again", Cfp, "recalled"),
        initiator("proposed-again", RejectProposal, "rejected-again"),
        initiator("proposed-again", AcceptProposal, "accepted-again"),
        initiator("rejected-again", RejectProposal, "rejected-again"),
        initiator("rejected-again", AcceptProposal, "accepted-again"),
        initiator("refused-again", RejectProposal, "refused-again"),
        initiator("refused-again", AcceptProposal, "accepted-again"),
        initiator("accepted-again", RejectProposal, "accepted-again"),
        participant("accepted-again", Failure, "failed-late"),
        participant("accepted-again", Inform, "done-late"),
        initiator("failed-late", RejectProposal, "failed-late"),
        initiator("done-late", RejectProposal, "done-late"),
        // Several calls are unanswered.
        initiator("called-again", Cfp, "called-again"),
        participant("called-again", Refuse, "refused-late"),
        participant("called-again", Propose, "crossed"),
        initiator("crossed", Cfp, "crossed"),
        participant("crossed", Refuse, "crossed"),
        participant("crossed", Propose, "crossed"),
        initiator("crossed", RejectProposal, "rejected-late"),
        initiator("crossed", AcceptProposal, "accepted-late"),
        participant("refused-late", Refuse, "refused-late"),
        participant("refused-late", Propose, "crossed"),
        initiator("rejected-late", RejectProposal, "rejected-late"),
        participant("rejected-late", Refuse, "rejected-late"),
        participant("rejected-late", Propose, "crossed"),
        initiator("accepted-late", RejectProposal, "accepted-late"),
        participant("accepted-late", Refuse, "accepted-late"),
        participant("accepted-late", Propose, "accepted-late"),
        participant("accepted-late", Failure, "failed-late"),
        participant("accepted-late", Inform, "done-late"),
    ],
    others_speak: false,
};
