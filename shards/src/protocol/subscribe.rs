//! Subscribe: one agent asks to be informed of something each time it changes.

use super::{Table, initiator, participant};
use crate::message::Performative::{Agree, Failure, Inform, Refuse, Subscribe};

/// SC00035. The agree is optional. The initiator ends a subscription by cancelling it.
pub(super) const SUBSCRIBE: Table = Table {
    name: "fipa-subscribe",
    aliases: &[],
    source: "FIPA SC00035",
    ends: &["refused", "failed"],
    steps: &[
        initiator("start", Subscribe, "requested"),
        participant("requested", Refuse, "refused"),
        participant("requested", Agree, "subscribed"),
        participant("requested", Inform, "subscribed"),
        participant("requested", Failure, "failed"),
        participant("subscribed", Inform, "subscribed"),
        participant("subscribed", Failure, "failed"),
    ],
    others_speak: false,
};
