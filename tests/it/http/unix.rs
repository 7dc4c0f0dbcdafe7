//! The Unix socket of the API: the same operations, and who needs a token there.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::Path;

use caxton_router::config::Config;
use caxton_router::serve::{Doors, DoorsError};
use serde_json::json;

use super::access::tokens;
use super::{Client, Served};
use crate::common::{PATIENCE, bounded, shutdown, start_with};

fn connect(path: &Path) -> Client<UnixStream> {
    let stream = UnixStream::connect(path).expect("it accepts");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time is legal");
    // Any host may be named: no web page reaches a socket.
    Client { headers: "Host: example.org\r\n".to_owned(), ..Client::on(stream) }
}

fn with_socket(path: &Path) -> impl FnOnce(&mut Config) {
    let path = path.display().to_string();
    move |config| config.set("http.socket", &path, "this test").expect("it is legal")
}

#[test]
fn the_api_is_served_at_a_socket_that_is_gone_afterwards() {
    bounded(|| {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("caxton.sock");
        let served = Served::with(with_socket(&path));
        assert_eq!(served.doors.socket_path(), Some(&*path));
        let file = fs::symlink_metadata(&path).expect("it is there");
        assert!(file.file_type().is_socket());
        assert_eq!(file.permissions().mode() & 0o777, 0o600);
        let mut client = connect(&path);
        client.json("PUT", "/v1/agents/clerk", &json!({})).expect(201);
        client.get("/readyz");
        let mut other = served.client();
        assert_eq!(other.get("/v1/agents/clerk").expect(200)["outside"]["owner"], "local", "it is the same router");
        served.stop();
        assert!(!path.exists());
    });
}

#[test]
fn the_owner_needs_no_token_and_may_use_one() {
    bounded(|| {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("caxton.sock");
        let file = directory.path().join("tokens.toml");
        let secrets = tokens(&file, &[("watcher", "", "'observe'")]);
        let served = Served::with(|config| {
            config.doors.tokens = file.into();
            with_socket(&path)(config);
        });
        served.client().get("/v1/stats").problem(401, "token-missing");
        connect(&path).json("PUT", "/v1/agents/clerk", &json!({})).expect(201);
        let mut limited = connect(&path).with_token(&secrets[0]);
        limited.get("/v1/stats").expect(200);
        limited.request("POST", "/v1/agents/clerk/suspend", "", "").problem(403, "operation-not-permitted");
        connect(&path).with_token("cxt_0").get("/v1/stats").problem(401, "token-unknown");
        served.stop();
    });
}

#[test]
fn a_socket_that_is_in_use_stops_the_start() {
    bounded(|| {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("caxton.sock");
        let served = Served::with(with_socket(&path));
        let router = start_with(1, with_socket(&path));
        let error = Doors::open(&router).expect_err("somebody listens");
        assert!(matches!(error, DoorsError::Socket { .. }), "{error}");
        assert!(error.to_string().starts_with(&format!("http.socket: {}: cannot be listened on", path.display())));
        connect(&path).get("/v1/stats").expect(200);
        shutdown(&router);
        served.stop();
        assert!(!path.exists());
    });
}
