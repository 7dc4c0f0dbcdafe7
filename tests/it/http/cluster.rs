//! The cluster as a node sees it, over HTTP.

use caxton_router::cluster::Cluster;
use serde_json::json;

use super::Served;
use crate::cluster::broker::Broker;
use crate::cluster::fixture::{Node, configure};
use crate::common::bounded;
use crate::edge::wait_until;

#[test]
pub fn the_cluster_is_shown_as_the_node_sees_it() {
    bounded(|| {
        let mut broker = Broker::start();
        let other = Node::start(2, &broker);
        other.register("clerk");
        let served = Served::with(|config| configure(config, 1, &broker, &[]));
        let mut client = served.client();
        client.get("/v1/cluster").problem(404, "no-cluster");
        let cluster = Cluster::join(&served.router).expect("it joins");
        let request = json!({"performative": "request", "receiver": ["clerk"], "content": "tea"});
        client.post("/v1/messages?wait=reply", &request).expect(200);
        let mut show = || client.get("/v1/cluster").expect(200);
        // On a busy machine a node may seem to be dead for a moment.
        let mut view = show();
        wait_until("the other node is shown", || {
            view = show();
            let (node, found) = (&view["nodes"][0], view["findings"].as_array().expect("it is a list"));
            node["link"]["messages_received"] == 1
                && node["load"]["agents"].as_u64() > Some(0)
                && found.iter().all(|finding| finding["status"] == "ok" && finding["mend"].is_null())
        });
        assert_eq!(
            (&view["name"], &view["node"], &view["connected"]),
            (&"t".into(), &1.into(), &true.into()),
            "{view}"
        );
        assert_eq!((&view["lost"], &view["remote_agents"]), (&0.into(), &1.into()), "{view}");
        let node = &view["nodes"][0];
        assert_eq!(
            (&node["node"], &node["health"], &node["shards"]),
            (&2.into(), &"alive".into(), &2.into()),
            "{node}"
        );
        assert_eq!(node["versions"], view["versions"]);
        let link = &node["link"];
        assert_eq!(
            (&link["open"], &link["full"], &link["messages_sent"]),
            (&true.into(), &false.into(), &1.into()),
            "{node}"
        );
        broker.stop();
        wait_until("the connection is gone", || show()["connected"] == json!(false));
        assert_eq!(show()["findings"][0]["name"], "nats");
        other.stop();
        served.stop();
        cluster.leave();
    });
}
