//! One agent has another find agents of a kind and pass a message on to them: brokering and recruiting.

use super::{Table, initiator, initiator_any, participant, participant_any};
use crate::message::Performative::{Agree, Failure, Inform, Proxy, Refuse};

/// SC00033. The inform says that the message was passed on; whatever the agents found answer to it, the broker passes
/// back, and one failure among several answers is not the last of them. What is passed on may begin a protocol of its
/// own, in which the initiator goes on through the broker.
pub(super) const BROKERING: Table = Table {
    name: "fipa-brokering",
    aliases: &[],
    source: "FIPA SC00033",
    ends: &["refused", "failed", "passed-on"],
    steps: &[
        initiator("start", Proxy, "asked"),
        participant("asked", Refuse, "refused"),
        participant("asked", Agree, "agreed"),
        participant("agreed", Failure, "failed"),
        participant("agreed", Inform, "passed-on"),
        participant_any("agreed", "passed-on"),
        participant_any("passed-on", "passed-on"),
        initiator_any("passed-on", "passed-on"),
    ],
    others_speak: false,
};

/// SC00034. The agents found answer themselves, to the initiator or to whom it wants answers to go, in the protocol that
/// the message begins that was passed on to them.
pub(super) const RECRUITING: Table = Table {
    name: "fipa-recruiting",
    aliases: &[],
    source: "FIPA SC00034",
    ends: &["refused", "failed", "passed-on"],
    steps: &[
        initiator("start", Proxy, "asked"),
        participant("asked", Refuse, "refused"),
        participant("asked", Agree, "agreed"),
        participant("agreed", Failure, "failed"),
        participant("agreed", Inform, "passed-on"),
        participant("passed-on", Failure, "failed"),
    ],
    others_speak: true,
};
