//! Brokering and recruiting: one agent asks another to find agents of a kind and forward a message to them.

use super::{Table, initiator, initiator_any, participant, participant_any};
use crate::message::Performative::{Agree, Failure, Inform, Proxy, Refuse};

/// SC00033. The inform says that the message was forwarded. The broker returns every reply of the agents it found, and
/// one failure among several replies is not the last of them. The forwarded message may begin a protocol of its own, in
/// which the initiator continues through the broker.
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

/// SC00034. The agents found reply directly, to the initiator or to the agent it designates, in the protocol begun by
/// the forwarded message.
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
