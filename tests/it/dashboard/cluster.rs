//! What the page shows of a cluster.

use std::time::Duration;

use caxton_router::cluster::Cluster;

use super::browser::Browser;
use super::{Served, check, says};
use crate::cluster::broker::Broker;
use crate::cluster::fixture::{Node, configure};
use crate::common::bounded;

#[test]
fn the_page_shows_the_other_nodes_and_what_is_wrong() {
    bounded(|| {
        let Some(mut browser) = Browser::start() else { return };
        let broker = Broker::start();
        let served = Served::with(|config| configure(config, 1, &broker, &[("cluster.name", "plant")]));
        let cluster = Cluster::join(&served.router).expect("it joins");
        let other = Node::start_with(2, &broker, &[("cluster.name", "plant")]);
        browser.open(&served.url());
        browser.wait("the node is listed", &says("#nodes", "alive"));
        browser.wait("the link is open", &says("#nodes", "open"));
        browser.wait("nothing is wrong", "document.getElementById('findings-table').hidden");
        browser.wait("the section can be reached", "document.getElementById('to-cluster').checkVisibility()");
        assert_eq!(browser.evaluate(&says("#cluster-state", "Node 1 of plant, connected to NATS")), true);
        browser.wait("all is drawn", "[...document.querySelectorAll('.plot')].every((plot) => plot.ariaLabel)");
        check(&mut browser, "with a cluster");
        other.stop();
        browser.wait("it is dead", &says("#nodes", "dead"));
        browser.wait("it says so", &says("#findings", "node 2 has been dead"));
        browser.evaluate("document.getElementById('cluster').scrollIntoView()");
        browser.picture("cluster", Duration::ZERO);
        check(&mut browser, "with a dead node");
        assert_eq!(browser.take_complaints(), Vec::<String>::new());
        drop(browser);
        served.stop();
        cluster.leave();
    });
}
