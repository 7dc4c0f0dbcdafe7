//! Request, query and request-when: one agent asks another to do or to tell something.

use super::{Table, initiator, participant};
use crate::message::Performative::{Agree, Failure, Inform, QueryIf, QueryRef, Refuse, Request, RequestWhen};

/// SC00026. The agree is optional: a participant that acts at once may omit it.
pub(super) const REQUEST: Table = Table {
    name: "fipa-request",
    aliases: &[],
    source: "FIPA SC00026",
    ends: &["refused", "failed", "done"],
    steps: &[
        initiator("start", Request, "requested"),
        participant("requested", Refuse, "refused"),
        participant("requested", Agree, "agreed"),
        participant("requested", Failure, "failed"),
        participant("requested", Inform, "done"),
        participant("agreed", Failure, "failed"),
        participant("agreed", Inform, "done"),
    ],
    others_speak: false,
};

/// SC00027. The agree is optional here too.
pub(super) const QUERY: Table = Table {
    name: "fipa-query",
    aliases: &[],
    source: "FIPA SC00027",
    ends: &["refused", "failed", "answered"],
    steps: &[
        initiator("start", QueryIf, "queried"),
        initiator("start", QueryRef, "queried"),
        participant("queried", Refuse, "refused"),
        participant("queried", Agree, "agreed"),
        participant("queried", Failure, "failed"),
        participant("queried", Inform, "answered"),
        participant("agreed", Failure, "failed"),
        participant("agreed", Inform, "answered"),
    ],
    others_speak: false,
};

/// SC00028. The condition may take long to come true, so the agree is mandatory.
pub(super) const REQUEST_WHEN: Table = Table {
    name: "fipa-request-when",
    aliases: &[],
    source: "FIPA SC00028",
    ends: &["refused", "failed", "done"],
    steps: &[
        initiator("start", RequestWhen, "requested"),
        participant("requested", Refuse, "refused"),
        participant("requested", Agree, "agreed"),
        participant("agreed", Failure, "failed"),
        participant("agreed", Inform, "done"),
    ],
    others_speak: false,
};
