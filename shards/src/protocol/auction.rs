//! One agent sells to the highest bidder (English) or to the first one (Dutch). Both standards are experimental.
//!
//! Bids and calls cross each other: while a bid waits to be read, the auctioneer calls the next price because of another
//! bid, and answers this one afterwards.

use super::{Table, initiator, participant};
use crate::message::Performative::{
    AcceptProposal, Agree, Cfp, Failure, Inform, Propose, Refuse, RejectProposal, Request,
};

/// XC00031. Accepted is the highest bid so far. The winner is asked to take what it bought by a request.
pub(super) const ENGLISH_AUCTION: Table = Table {
    name: "fipa-english-auction",
    aliases: &["fipa-auction-english"],
    source: "FIPA XC00031",
    ends: &["closed", "refused", "failed", "done"],
    steps: &[
        initiator("start", Inform, "opened"),
        initiator("opened", Cfp, "called"),
        initiator("opened", Inform, "closed"),
        initiator("called", Cfp, "called"),
        participant("called", Propose, "bid"),
        initiator("called", RejectProposal, "called"),
        initiator("called", Inform, "closed"),
        initiator("bid", AcceptProposal, "answered"),
        initiator("bid", RejectProposal, "answered"),
        initiator("bid", Cfp, "called"),
        initiator("bid", Inform, "closed"),
        initiator("answered", Cfp, "called"),
        initiator("answered", Inform, "closed"),
        participant("closed", Propose, "too-late"),
        initiator("closed", RejectProposal, "closed"),
        initiator("too-late", RejectProposal, "closed"),
        initiator("closed", Request, "requested"),
        participant("requested", Refuse, "refused"),
        participant("requested", Agree, "agreed"),
        participant("requested", Failure, "failed"),
        participant("requested", Inform, "done"),
        participant("agreed", Failure, "failed"),
        participant("agreed", Inform, "done"),
    ],
    others_speak: false,
};

/// XC00032. The price falls from call to call. A bid that is rejected came after another one.
pub(super) const DUTCH_AUCTION: Table = Table {
    name: "fipa-dutch-auction",
    aliases: &["fipa-auction-dutch"],
    source: "FIPA XC00032",
    ends: &["won", "closed"],
    steps: &[
        initiator("start", Inform, "opened"),
        initiator("opened", Cfp, "called"),
        initiator("opened", Inform, "closed"),
        initiator("called", Cfp, "called"),
        participant("called", Propose, "bid"),
        initiator("called", Inform, "closed"),
        initiator("bid", AcceptProposal, "won"),
        initiator("bid", RejectProposal, "rejected"),
        initiator("bid", Cfp, "outcried"),
        initiator("bid", Inform, "closed"),
        // The bid is answered after the next call.
        initiator("outcried", AcceptProposal, "won"),
        initiator("outcried", RejectProposal, "called"),
        initiator("outcried", Cfp, "outcried"),
        initiator("outcried", Inform, "closed"),
        participant("outcried", Propose, "bid"),
        initiator("rejected", Cfp, "called"),
        initiator("rejected", Inform, "closed"),
        participant("closed", Propose, "too-late"),
        initiator("closed", RejectProposal, "closed"),
        initiator("too-late", RejectProposal, "closed"),
    ],
    others_speak: false,
};
