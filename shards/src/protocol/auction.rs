//! Auctions: one agent sells to the highest bidder (English) or to the first one (Dutch). Both standards are
//! experimental.
//!
//! Bids and calls cross each other: while a bid waits to be read, the auctioneer may call the next price because of
//! another bid and reply to this one afterwards.

use super::{Table, initiator, participant};
use crate::message::Performative::{
    AcceptProposal, Agree, Cfp, Failure, Inform, Propose, Refuse, RejectProposal, Request,
};

/// XC00031. The highest bid so far is accepted. Every bidder is informed that the auction is closed, and the winner
/// receives a request to take what it bought, before or after that.
pub(super) const ENGLISH_AUCTION: Table = Table {
    name: "fipa-english-auction",
    aliases: &["fipa-auction-english"],
    source: "FIPA XC00031",
    ends: &["closed", "refused", "failed", "done"],
    steps: &[
        initiator("start", Inform, "opened"),
        initiator("opened", Cfp, "called"),
        initiator("opened", Inform, "closed"),
        initiator("called", Cfp, "called-again"),
        participant("called", Propose, "bid"),
        initiator("called", RejectProposal, "called"),
        initiator("called", Inform, "closed"),
        initiator("bid", AcceptProposal, "answered"),
        initiator("bid", RejectProposal, "answered"),
        initiator("bid", Cfp, "outbid"),
        initiator("bid", Inform, "closed"),
        initiator("answered", Cfp, "called"),
        initiator("answered", Inform, "closed"),
        initiator("answered", Request, "requested"),
        // Several calls are unanswered, so several bids may arrive.
        initiator("called-again", Cfp, "called-again"),
        participant("called-again", Propose, "bids"),
        initiator("called-again", RejectProposal, "called-again"),
        initiator("called-again", Inform, "closed"),
        // A bid is answered after the next call, which another bidder may answer before.
        initiator("outbid", AcceptProposal, "bids"),
        initiator("outbid", RejectProposal, "called"),
        initiator("outbid", Cfp, "bids"),
        initiator("outbid", Inform, "closed"),
        participant("outbid", Propose, "bids"),
        initiator("bids", AcceptProposal, "bids"),
        initiator("bids", RejectProposal, "bids"),
        initiator("bids", Cfp, "bids"),
        initiator("bids", Inform, "closed"),
        initiator("bids", Request, "requested"),
        participant("bids", Propose, "bids"),
        participant("closed", Propose, "too-late"),
        participant("too-late", Propose, "too-late"),
        initiator("closed", RejectProposal, "closed"),
        initiator("too-late", RejectProposal, "closed"),
        initiator("too-late", Request, "requested"),
        initiator("closed", Request, "requested"),
        initiator("requested", Inform, "requested"),
        initiator("requested", RejectProposal, "requested"),
        participant("requested", Propose, "requested"),
        participant("requested", Refuse, "refused"),
        participant("requested", Agree, "agreed"),
        participant("requested", Failure, "failed"),
        participant("requested", Inform, "done"),
        initiator("agreed", Inform, "agreed"),
        initiator("agreed", RejectProposal, "agreed"),
        participant("agreed", Failure, "failed"),
        participant("agreed", Inform, "done"),
        initiator("refused", Inform, "refused"),
        initiator("refused", RejectProposal, "refused"),
        initiator("failed", Inform, "failed"),
        initiator("failed", RejectProposal, "failed"),
        initiator("done", Inform, "done"),
        initiator("done", RejectProposal, "done"),
    ],
    others_speak: false,
};

/// XC00032. The price falls from call to call. A rejected bid arrived after another one. Every bidder, including the
/// winner, is informed that the auction is closed.
pub(super) const DUTCH_AUCTION: Table = Table {
    name: "fipa-dutch-auction",
    aliases: &["fipa-auction-dutch"],
    source: "FIPA XC00032",
    ends: &["won", "closed"],
    steps: &[
        initiator("start", Inform, "opened"),
        initiator("opened", Cfp, "called"),
        initiator("opened", Inform, "closed"),
        initiator("called", Cfp, "called-again"),
        participant("called", Propose, "bid"),
        initiator("called", Inform, "closed"),
        initiator("bid", AcceptProposal, "won"),
        initiator("won", Inform, "closed"),
        initiator("bid", RejectProposal, "rejected"),
        initiator("bid", Cfp, "outcried"),
        initiator("bid", Inform, "closed"),
        // Several calls are unanswered, or the bid is answered after the next call.
        initiator("called-again", Cfp, "called-again"),
        participant("called-again", Propose, "outcried"),
        initiator("called-again", Inform, "closed"),
        initiator("outcried", AcceptProposal, "won"),
        initiator("outcried", RejectProposal, "called-again"),
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
