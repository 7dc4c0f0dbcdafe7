//! `caxton cluster`: what it prints of daemons in a cluster, and when it fails.

use serde_json::Value;

use crate::cli_serve::Daemon;
use crate::cluster::broker::Broker;
use crate::common::bounded;
use crate::edge::wait_until;
use crate::program;

/// Runs `caxton cluster` for the router at this address. Returns its exit status, and what it printed.
fn cluster(verb: &str, url: &str, more: &[&str]) -> (Option<i32>, String, String) {
    let mut command = program::caxton();
    command.args(["cluster", verb, "--url", url]).args(more).env("HOME", "/nowhere").env_remove("XDG_CONFIG_HOME");
    let output = command.output().expect("the program runs");
    let text = |bytes| String::from_utf8(bytes).expect("it prints UTF-8");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// Starts a daemon that serves the HTTP API at a free port and at a Unix socket, with these settings.
fn serve(directory: &std::path::Path, settings: &[String]) -> (Daemon, String, String) {
    let socket = directory.join("socket").display().to_string();
    let mut arguments = vec!["--http", "0", "--socket", &socket];
    arguments.extend(settings.iter().flat_map(|setting| ["--set", setting.as_str()]));
    let mut daemon = Daemon::start(&directory.join("data"), &arguments);
    let url = format!("http://{}", daemon.http());
    (daemon, url, format!("unix:{socket}"))
}

#[test]
fn a_cluster_is_shown_and_examined() {
    bounded(|| {
        let mut broker = Broker::start();
        let directories = [tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory")];
        let start = |number: usize| {
            let settings = [
                format!("cluster.nats={}", broker.url()),
                "cluster.name=plant".to_owned(),
                format!("router.node={number}"),
            ];
            serve(directories[number - 1].path(), &settings)
        };
        let ((one, url, socket), (two, ..)) = (start(1), start(2));
        wait_until("the nodes know each other", || {
            let (_, text, _) = cluster("status", &url, &[]);
            text.contains("this node:     1, connected to NATS for")
                && text.lines().any(|line| line.starts_with("   2  alive"))
        });
        let (code, text, _) = cluster("status", &socket, &["--json"]);
        let view: Value = serde_json::from_str(&text).expect("it is JSON");
        assert_eq!((code, &view["name"], &view["nodes"][0]["node"]), (Some(0), &"plant".into(), &2.into()));
        // On a busy machine a node may seem to be dead for a moment.
        wait_until("nothing is wrong", || {
            let (code, text, _) = cluster("doctor", &socket, &[]);
            code == Some(0)
                && text.starts_with("ok       nats: connected to NATS for ")
                && text.ends_with("\nMessages reach every node that is alive.\n")
        });
        wait_until("the other node is counted", || {
            let top = program::caxton().args(["top", "--once", "--interval", "0.1", "--url", &url]).output();
            let text = String::from_utf8(top.expect("the program runs").stdout).expect("it prints UTF-8");
            text.contains("\ncluster plant: node 1  nodes alive 1  suspect 0  dead 0  out ")
        });
        broker.stop();
        wait_until("the connection is missed", || cluster("doctor", &url, &[]).0 == Some(1));
        let (_, text, _) = cluster("doctor", &url, &[]);
        assert!(text.starts_with("problem  nats: not connected to NATS for "), "{text}");
        let (code, text, _) = cluster("doctor", &url, &["--json"]);
        let found: Value = serde_json::from_str(&text).expect("it is JSON");
        assert_eq!((code, &found["in_order"], &found["findings"][0]["name"]), (Some(1), &false.into(), &"nats".into()));
        for daemon in [one, two] {
            daemon.send(rustix::process::Signal::TERM);
            assert!(daemon.end().0.success());
        }
        let (code, _, complaint) = cluster("doctor", &url, &[]);
        assert_eq!(code, Some(1));
        assert!(complaint.contains("no router responds"), "{complaint}");
    });
}

#[test]
fn a_router_in_no_cluster_says_so() {
    bounded(|| {
        let directory = tempfile::tempdir().expect("a directory");
        let (daemon, url, _) = serve(directory.path(), &[]);
        for verb in ["status", "doctor"] {
            let (code, text, complaint) = cluster(verb, &url, &[]);
            assert_eq!((code, text.as_str()), (Some(1), ""));
            assert!(complaint.starts_with("no-cluster: the router is in no cluster"), "{complaint}");
        }
        daemon.send(rustix::process::Signal::TERM);
        assert!(daemon.end().0.success());
    });
}
