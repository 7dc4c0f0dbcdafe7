//! The cluster as this node sees it: `GET /v1/cluster`.

#[cfg(feature = "cluster")]
mod form;

use std::sync::Arc;

use axum::extract::State;
use axum::http::Method;
use axum::http::request::Parts;
use serde_json::Value;

use super::Api;
use super::caller::Caller;
use super::endpoint::{Endpoint, responds};
use super::parameters::Parameters;
use super::problem::Problem;
use super::reply::{JSON, Reply};
use crate::edge::doors::identity::Operation;
use crate::edge::doors::reason;
use crate::shard_handle::Shared;

pub(super) fn endpoints() -> Vec<Endpoint> {
    let show = Endpoint::new(
        Method::GET,
        "/v1/cluster",
        "getCluster",
        "Returns what this node knows of its cluster: the other nodes, the links to them, and what is wrong.",
        show,
    );
    vec![
        show.requires(&[Operation::Observe])
            .responds([responds(200, "The cluster as this node sees it.", &[(JSON, "Cluster")])])
            .problems(&[400, 404]),
    ]
}

async fn show(State(api): State<Arc<Api>>, caller: Caller, parts: Parts) -> Result<Reply, Problem> {
    caller.require(Operation::Observe)?;
    Parameters::read(&parts.uri, &[])?;
    let cluster = cluster(api.context.router.shared());
    let missing =
        || Problem::new(reason::NO_CLUSTER, "the router is in no cluster: cluster.nats would name its servers");
    cluster.map(|cluster| Reply::ok(&cluster)).ok_or_else(missing)
}

#[cfg(not(feature = "cluster"))]
fn cluster(_: &Shared) -> Option<Value> {
    None
}

/// Returns the cluster as this node sees it, if it is in one.
#[cfg(feature = "cluster")]
fn cluster(shared: &Shared) -> Option<Value> {
    shared.cluster().map(|look| form::cluster_in_json(&look))
}
