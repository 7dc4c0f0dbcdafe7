//! The dashboard: how its files are served, that they load nothing from elsewhere, and what the page shows and does in a
//! browser, if there is one.

mod browser;
#[cfg(feature = "cluster")]
mod cluster;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use caxton_router::config::Config;
use caxton_router::message::ConversationId;
use caxton_router::serve::{Doors, NewToken};
use caxton_router::{Agent, AgentId, Inbox, Message, Performative, Router};

use self::browser::Browser;
use crate::common::{bounded, echo, message_to, shutdown, silent, start_with};
use crate::edge::get_as;

const POLICY: &str = "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'";
/// How long the figures of a picture have been gathered.
const PICTURED: Duration = Duration::from_mins(1);
/// The namespace of SVG, which nothing is loaded from.
const NAMESPACE: &str = "http://www.w3.org/2000/svg";

/// A router with an open HTTP door.
struct Served {
    router: Router,
    doors: Doors,
    address: SocketAddr,
}

impl Served {
    fn with(change: impl FnOnce(&mut Config)) -> Self {
        let router = start_with(2, |config| {
            config.set("http.listen", "0", "this test").expect("it is legal");
            change(config);
        });
        let doors = Doors::open(&router).expect("the doors open");
        let address = doors.http_address().expect("HTTP is served");
        Self { router, doors, address }
    }

    fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    fn register<A: Agent + 'static>(&self, name: &str, factory: impl FnMut() -> A + Send + 'static) -> AgentId {
        self.router.blocking().register(name, factory).expect("the agent is registered")
    }

    fn stop(self) {
        self.doors.close();
        shutdown(&self.router);
    }
}

/// Returns the files of the dashboard: where each is served, and its text.
fn files() -> Vec<(String, String)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/edge/dashboard/assets");
    let entries =
        std::fs::read_dir(directory).expect("the directory is there").map(|entry| entry.expect("it is a file"));
    let file = |entry: std::fs::DirEntry| {
        let name = entry.file_name().into_string().expect("it is text");
        let path = if name == "index.html" { "/".to_owned() } else { format!("/dashboard/{name}") };
        (path, std::fs::read_to_string(entry.path()).expect("it is text"))
    };
    entries.map(file).collect()
}

#[test]
fn every_file_is_served_with_its_type_and_under_a_strict_policy() {
    bounded(|| {
        let served = Served::with(|_| {});
        for (path, text) in files() {
            let (status, head, body) = get_as(served.address, &path, "");
            assert_eq!((status, body == text), (200, true), "{path}");
            let media = match path.rsplit('.').next() {
                Some("css") => "text/css; charset=utf-8",
                Some("js") => "text/javascript; charset=utf-8",
                Some("svg") => "image/svg+xml",
                _ => "text/html; charset=utf-8",
            };
            for header in [
                format!("content-type: {media}\r\n"),
                format!("content-security-policy: {POLICY}\r\n"),
                "x-content-type-options: nosniff\r\n".to_owned(),
                "referrer-policy: no-referrer\r\n".to_owned(),
                "cache-control: no-cache\r\n".to_owned(),
            ] {
                assert!(format!("{head}\r\n").contains(&header), "{path}: {head}");
            }
            let tag = head.lines().find_map(|line| line.strip_prefix("etag: ")).expect("it has a tag").to_owned();
            let (status, head, body) = get_as(served.address, &path, &format!("If-None-Match: \"x\", W/{tag}\r\n"));
            assert_eq!((status, body.as_str()), (304, ""), "{path}: {head}");
            assert!(head.contains(&tag), "{path}: {head}");
            assert_eq!(get_as(served.address, &path, "If-None-Match: \"x\"\r\n").0, 200);
        }
        assert_eq!(get_as(served.address, "/dashboard/other.js", "").0, 404);
        served.stop();
    });
}

#[test]
fn no_file_loads_anything_from_elsewhere_or_has_scripts_or_styles_between_its_lines() {
    for (path, text) in files() {
        // What a document says of itself loads nothing.
        let text = text.replace(NAMESPACE, "").replace("url(#", "");
        for forbidden in ["://", "\"//", "'//", "`//", "url(", "@import", "eval(", "innerHTML", "document.write"] {
            assert!(!text.contains(forbidden), "{path} contains {forbidden}");
        }
        if path == "/" {
            for forbidden in [" style=", "<style", " onclick=", " onload=", "javascript:", "<script>"] {
                assert!(!text.contains(forbidden), "{path} contains {forbidden}");
            }
        }
    }
}

/// A router with something in every section of the page, and with messages on their way until it is stopped.
struct Scene {
    served: Served,
    /// An agent with an open conversation, `deal-1`.
    buyer: Inbox,
    traffic: std::thread::JoinHandle<()>,
    ended: Arc<AtomicBool>,
}

impl Scene {
    fn begin() -> Self {
        let settings = [("message.timeout_ms", "300000"), ("protocols.mode", "observe"), ("telemetry.sampling", "1")];
        let served = Served::with(|config| {
            for (key, value) in settings {
                config.set(key, value, "this test").expect("it is legal");
            }
        });
        let router = served.router.blocking();
        let buyer = served.router.inbox("buyer@example.org").blocking().open().expect("it is registered");
        let clerk = served.register("clerk@example.org", silent);
        served.register("seller@example.org", echo);
        let sleeper = served.register("night-shift@example.org", silent);
        router.suspend(sleeper).expect("it can be suspended");
        for _ in 0..7 {
            router.send(message_to(sleeper, "tomorrow")).expect("it is accepted");
        }
        for receiver in ["gone@example.org", "lost@example.org"] {
            for performative in [Performative::Inform, Performative::Request] {
                let message = Message::builder(performative).receiver(AgentId::of_text(receiver));
                router.send(message.content("hello").build().expect("it is valid")).expect("it is accepted");
            }
        }
        let ended = Arc::new(AtomicBool::new(false));
        let (sender, until) = (served.router.clone(), Arc::clone(&ended));
        let traffic = std::thread::spawn(move || {
            let mut number = 0;
            while !until.load(Ordering::Relaxed) {
                // More and less in turns, so that there is something to see.
                for _ in 0..=(number / 200) % 5 {
                    let _ = sender.try_tell(message_to(clerk, "an order"));
                }
                number += 1;
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        let scene = Self { served, buyer, traffic, ended };
        scene.buys(Performative::Request);
        scene
    }

    /// Sends a message of the open conversation.
    fn buys(&self, performative: Performative) {
        let message = Message::builder(performative).receiver(AgentId::of_text("clerk@example.org"));
        let message = message.conversation(ConversationId::of_text("deal-1")).protocol("fipa-request");
        let message = message.content("a pound of tea").build().expect("it is valid");
        self.buyer.blocking().send(message).expect("it is accepted");
    }

    fn end(self) {
        self.ended.store(true, Ordering::Relaxed);
        self.traffic.join().expect("it has not panicked");
        drop(self.buyer);
        let sleeper = AgentId::of_text("night-shift@example.org");
        let _ = self.served.router.blocking().resume(sleeper);
        self.served.stop();
    }
}

/// Checks the page as it is, in both themes and for two sizes.
fn check(browser: &mut Browser, what: &str) {
    for (scheme, width) in [("light", 1280), ("dark", 1280), ("dark", 400), ("light", 400)] {
        browser.prefer(scheme);
        browser.resize(width, 900);
        let too_wide = browser.evaluate("document.documentElement.scrollWidth - window.innerWidth");
        assert!(too_wide.as_i64() <= Some(0), "{what}, {width} pixels: the page is wider than the window");
        if let Some(barriers) = browser.barriers() {
            assert!(barriers.is_empty(), "{what}, {scheme}, {width} pixels: {barriers:#?}");
        }
    }
    browser.resize(1280, 900);
}

/// Presses a button by its name, as the keyboard does.
fn press_button(browser: &mut Browser, name: &str) {
    let button = format!(
        "[...document.querySelectorAll('button')].find((button) => button.checkVisibility() && !button.disabled && \
         (button.ariaLabel ?? button.textContent) === '{name}')"
    );
    browser.wait(&format!("there is a button {name}"), &format!("{button} !== undefined"));
    browser.evaluate(&format!("{button}.focus()"));
    browser.press("Enter");
}

fn fill(browser: &mut Browser, field: &str, text: &str) {
    browser.evaluate(&format!("document.getElementById('{field}').focus()"));
    browser.evaluate(&format!("document.getElementById('{field}').select()"));
    browser.insert(text);
}

/// An expression that is true once a part of the page has this text.
fn says(place: &str, text: &str) -> String {
    format!("document.querySelector('{place}').innerText.includes('{text}')")
}

#[test]
fn the_page_shows_and_controls_a_running_router_by_keyboard() {
    bounded(|| {
        let Some(mut browser) = Browser::start() else { return };
        let scene = Scene::begin();
        browser.prefer("light");
        browser.resize(1280, 900);
        browser.open(&scene.served.url());
        browser.press("Tab");
        assert_eq!(browser.evaluate("document.activeElement.className"), "skip");
        browser.wait("figures arrive", "/[1-9]/.test(document.querySelector('#totals dd').textContent)");
        browser.wait(
            "throughput is drawn",
            "/accepted [1-9]/.test(document.querySelector('#throughput .plot').ariaLabel)",
        );
        browser.wait("latency is drawn", "/median [0-9]/.test(document.querySelector('#latency .plot').ariaLabel)");
        browser.wait("waiting is drawn", "/median [0-9]/.test(document.querySelector('#waiting .plot').ariaLabel)");
        browser.wait("the slow agent is named", &says("#slow", "night-shift@example.org"));
        browser.wait("agents are listed", &says("#agents", "clerk@example.org"));
        browser.wait("dead letters are listed", &says("#dead-letters", "unknown-receiver"));
        browser.wait("shards are listed", "document.querySelectorAll('#shards tbody tr').length === 2");
        browser.wait("parts have a health", &says("#health", "healthy"));
        assert_eq!(browser.evaluate("document.getElementById('cluster').hidden"), true);
        browser.evaluate("document.activeElement.blur()");
        browser.resize(1280, 1100);
        browser.picture("figures", PICTURED);
        check(&mut browser, "as it comes");

        fill(&mut browser, "conversation-agent", "buyer@example.org");
        fill(&mut browser, "conversation-id", "deal-1");
        browser.press("Enter");
        browser.wait("it is drawn", "document.querySelectorAll('#diagram .arrow').length === 1");
        // No reply is there that this could follow on.
        scene.buys(Performative::AcceptProposal);
        browser.wait("it goes on", "document.querySelectorAll('#diagram .arrow').length === 2");
        browser.wait("the violation is told", &says("#violations", "accept-proposal"));
        browser.evaluate("document.getElementById('conversations').scrollIntoView()");
        browser.picture("conversation", Duration::ZERO);
        press_button(&mut browser, "Stop following");

        press_button(&mut browser, "Resume night-shift@example.org");
        browser.wait(
            "it can be suspended",
            "document.querySelector('[aria-label=\"Suspend night-shift@example.org\"]') !== null",
        );
        browser.wait("its messages are handled", "!document.querySelector('#slow').innerText.includes('night-shift')");

        fill(&mut browser, "send-receiver", "seller@example.org");
        fill(&mut browser, "send-content", "a pound of tea");
        fill(&mut browser, "send-conversation", "tea-1");
        press_button(&mut browser, "Send");
        browser.wait("the reply is shown", &says("#sent", "a pound of tea"));
        browser.wait("it is drawn", "document.querySelectorAll('#diagram .arrow').length === 2");

        fill(&mut browser, "send-receiver", "nobody@example.org");
        press_button(&mut browser, "Send");
        browser.wait("the problem is shown", &says("#send .problem", "unknown-receiver"));

        press_button(&mut browser, "Purge all that match...");
        browser.wait("it asks", "document.getElementById('dialog').open");
        browser.wait("what is harmless has the focus", "document.activeElement.id === 'dialog-cancel'");
        check(&mut browser, "while it asks");
        browser.press("Escape");
        browser.wait("nothing is done", "!document.getElementById('dialog').open");
        assert_eq!(browser.evaluate("document.activeElement.id"), "letters-purge");
        browser.press("Enter");
        browser.press("Tab");
        browser.press("Enter");
        browser.wait("they are gone", &says("#letters-none", "There are no dead letters"));

        // The message without receiver is the only thing that went wrong.
        let complaints = browser.take_complaints();
        let others = complaints.iter().filter(|complaint| !complaint.contains("/v1/messages?"));
        assert_eq!(others.collect::<Vec<_>>(), Vec::<&String>::new());
        check(&mut browser, "at the end");
        drop(browser);
        scene.end();
    });
}

#[test]
fn a_token_is_asked_for_and_kept_until_the_tab_is_closed() {
    bounded(|| {
        let Some(mut browser) = Browser::start() else { return };
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("tokens.toml");
        let token = NewToken::random().expect("there are random bytes");
        let entry =
            format!("[[token]]\nname = 'ann'\nhash = '{}'\nagents = []\noperations = ['observe']\n", token.hash);
        std::fs::write(&file, entry).expect("it can be written");
        let served = Served::with(|config| config.doors.tokens = file.clone().into());
        served.register("clerk", silent);
        browser.open(&served.url());
        browser.wait("it asks", "document.activeElement?.id === 'token'");
        assert_eq!(browser.evaluate("document.getElementById('content').hidden"), true);
        check(&mut browser, "at the login");
        browser.insert("cxt_00");
        browser.press("Enter");
        browser.wait("it is refused", &says("#login .problem", "token-unknown"));
        browser.insert(&token.secret);
        browser.press("Enter");
        browser.wait("agents are listed", &says("#agents", "clerk"));
        browser.wait("figures arrive", "/^[0-9]/.test(document.querySelector('#totals dd').textContent)");
        assert_eq!(browser.evaluate("Object.values(sessionStorage).length"), 1);
        assert_eq!(browser.evaluate("Object.keys(localStorage).length + document.cookie.length"), 0);
        press_button(&mut browser, "Suspend clerk");
        browser.wait("it is not permitted", &says("#agents .problem", "operation-not-permitted"));
        press_button(&mut browser, "Log out");
        browser.wait("it asks again", "document.activeElement?.id === 'token'");
        assert_eq!(browser.evaluate("Object.values(sessionStorage).length"), 0);
        drop(browser);
        served.stop();
    });
}
