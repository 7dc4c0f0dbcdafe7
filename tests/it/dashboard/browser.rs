//! A headless Chromium, controlled over the protocol of its developer tools.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::common::{PATIENCE, skipped};

/// The names that Chromium goes by.
const NAMES: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "chrome"];
/// The version of axe-core that looks for what keeps people out.
const AXE: &str = "axe-core@4.14.1";
/// What it looks for.
const AXE_RULES: &str = r#"["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]"#;

/// A browser with one page, ended when it is dropped.
pub struct Browser {
    child: Child,
    stream: BufReader<TcpStream>,
    /// The session of the page.
    session: Value,
    commands: u64,
    /// Errors and warnings of the page: its own, of its policy, and of what it could not load.
    complaints: Vec<String>,
    _profile: tempfile::TempDir,
}

/// Returns where a program is.
fn find(names: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .flat_map(|place| names.iter().map(move |name| place.join(name)))
        .find(|file| file.is_file())
}

/// The source of axe-core, or none where it cannot be had. The tests fetch it once.
static AXE_SOURCE: LazyLock<Option<String>> = LazyLock::new(|| {
    let source = fetch_axe();
    if source.is_none() {
        skipped(&format!("{AXE} cannot be had from npm: pages are not checked with it"));
    }
    source
});

fn fetch_axe() -> Option<String> {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("axe");
    let source = directory.join("package/axe.min.js");
    if !source.is_file() {
        std::fs::create_dir_all(&directory).expect("the directory can be made");
        let run = |command: &mut Command| command.current_dir(&directory).stdin(Stdio::null()).output().ok();
        let packed = run(Command::new("npm").args(["pack", "--silent", AXE]))?;
        let archive = String::from_utf8(packed.stdout).ok()?.trim().to_owned();
        run(Command::new("tar").args(["xzf", &archive]))?;
    }
    std::fs::read_to_string(source).ok()
}

impl Browser {
    /// Starts a browser, or says that it is not installed.
    pub fn start() -> Option<Self> {
        let Some(program) = find(&NAMES) else {
            skipped("Chromium is not installed: the dashboard is not tried in a browser");
            return None;
        };
        let profile = tempfile::tempdir().expect("a directory");
        let mut child = Command::new(program)
            .args([
                "--headless=new",
                "--no-sandbox",
                "--disable-gpu",
                "--no-first-run",
                "--disable-background-networking",
            ])
            .args(["--disable-dev-shm-usage", "--disable-component-update", "--remote-debugging-port=0", "about:blank"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("Chromium starts");
        let mut errors = BufReader::new(child.stderr.take().expect("it is piped"));
        let mut line = String::new();
        let (address, path) = loop {
            line.clear();
            assert!(errors.read_line(&mut line).expect("it writes text") > 0, "Chromium ended");
            if let Some(place) = line.trim().strip_prefix("DevTools listening on ws://") {
                break place
                    .split_once('/')
                    .map(|(address, path)| (address.to_owned(), path.to_owned()))
                    .expect("a path");
            }
        };
        // It would wait if nobody read what else it says.
        std::thread::spawn(move || std::io::copy(&mut errors, &mut std::io::sink()));
        let stream = TcpStream::connect(&address).expect("Chromium listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time is legal");
        let mut browser = Self {
            child,
            stream: BufReader::new(stream),
            session: Value::Null,
            commands: 0,
            complaints: Vec::new(),
            _profile: profile,
        };
        browser.upgrade(&address, &path);
        let target = browser.command("Target.createTarget", &json!({ "url": "about:blank" }));
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        browser.session = browser.command("Target.attachToTarget", &attach)["sessionId"].clone();
        for domain in ["Page", "Runtime", "Log", "Network"] {
            browser.command(&format!("{domain}.enable"), &json!({}));
        }
        Some(browser)
    }

    /// Makes the connection a WebSocket.
    fn upgrade(&mut self, address: &str, path: &str) {
        let request = format!(
            "GET /{path} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        self.stream.get_mut().write_all(request.as_bytes()).expect("it is sent");
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(self.stream.read_line(&mut head).expect("the head goes on") > 0, "{head}");
        }
        assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    }

    /// Sends a frame of text, with an empty mask.
    fn send(&mut self, text: &str) {
        let mut frame = vec![0x81, 0x80 | 127];
        frame.extend_from_slice(&(text.len() as u64).to_be_bytes());
        frame.extend_from_slice(&[0; 4]);
        frame.extend_from_slice(text.as_bytes());
        self.stream.get_mut().write_all(&frame).expect("it is sent");
    }

    /// Returns the next message, which may be sent in several frames.
    fn next(&mut self) -> Value {
        let mut text = Vec::new();
        loop {
            let mut head = [0; 2];
            self.stream.read_exact(&mut head).expect("Chromium says something");
            let mut long = [0; 8];
            let places = match head[1] {
                126 => &mut long[6..],
                127 => &mut long[..],
                short => {
                    long[7] = short;
                    &mut []
                }
            };
            self.stream.read_exact(places).expect("a frame has a length");
            let length = usize::try_from(u64::from_be_bytes(long)).expect("it fits");
            let mut piece = vec![0; length];
            self.stream.read_exact(&mut piece).expect("a frame has its content");
            assert_ne!(head[0] & 0xf, 8, "Chromium closed the connection");
            text.append(&mut piece);
            if head[0] & 0x80 != 0 {
                return serde_json::from_slice(&text).expect("it is JSON");
            }
        }
    }

    /// Carries out a command, and returns its result.
    pub fn command(&mut self, method: &str, parameters: &Value) -> Value {
        self.commands += 1;
        let id = self.commands;
        let mut command = json!({ "id": id, "method": method, "params": parameters });
        if !self.session.is_null() {
            command["sessionId"] = self.session.clone();
        }
        self.send(&command.to_string());
        loop {
            let mut message = self.next();
            if message["id"] == id {
                assert!(message["error"].is_null(), "{method}: {}", message["error"]);
                return message["result"].take();
            }
            self.note(&message);
        }
    }

    /// Notes what a page complains about.
    fn note(&mut self, event: &Value) {
        let parameters = &event["params"];
        let complaint = match event["method"].as_str() {
            Some("Runtime.exceptionThrown") => Some(parameters["exceptionDetails"].to_string()),
            Some("Runtime.consoleAPICalled") if parameters["type"] != "log" => Some(parameters["args"].to_string()),
            Some("Log.entryAdded") => Some(format!("{}: {}", parameters["entry"]["text"], parameters["entry"]["url"])),
            _ => None,
        };
        self.complaints.extend(complaint);
    }

    /// Returns what the page has complained about so far.
    pub fn take_complaints(&mut self) -> Vec<String> {
        // What came before this command was noted.
        self.evaluate("0");
        std::mem::take(&mut self.complaints)
    }

    /// Loads a page.
    pub fn open(&mut self, url: &str) {
        self.command("Page.navigate", &json!({ "url": url }));
        self.wait("the page is loaded", "document.readyState === 'complete' && location.protocol !== 'about:'");
    }

    /// Evaluates an expression in the page; promises are awaited.
    pub fn evaluate(&mut self, expression: &str) -> Value {
        let parameters = json!({ "expression": expression, "awaitPromise": true, "returnByValue": true });
        let mut result = self.command("Runtime.evaluate", &parameters);
        assert!(result["exceptionDetails"].is_null(), "{expression}: {}", result["exceptionDetails"]);
        result["result"]["value"].take()
    }

    /// Waits until an expression is true.
    pub fn wait(&mut self, what: &str, expression: &str) {
        let began = Instant::now();
        while self.evaluate(expression) != true {
            if began.elapsed() > PATIENCE {
                let shown = self.evaluate("document.body.innerText");
                panic!("it does not come true that {what}: {:?}, {shown}", self.complaints);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Presses a key, such as `Tab`.
    pub fn press(&mut self, key: &str) {
        let code = match key {
            "Tab" => 9,
            "Enter" => 13,
            "Escape" => 27,
            _ => panic!("{key} has no code here"),
        };
        let mut event = json!({ "type": "keyDown", "key": key, "code": key, "windowsVirtualKeyCode": code });
        if key == "Enter" {
            event["text"] = "\r".into();
        }
        self.command("Input.dispatchKeyEvent", &event);
        event["type"] = "keyUp".into();
        self.command("Input.dispatchKeyEvent", &event);
    }

    /// Types a text where the focus is.
    pub fn insert(&mut self, text: &str) {
        self.command("Input.insertText", &json!({ "text": text }));
    }

    /// Gives the page this size, in pixels.
    pub fn resize(&mut self, width: u32, height: u32) {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.command("Emulation.setDeviceMetricsOverride", &size);
    }

    /// Prefers a theme: `light` or `dark`.
    pub fn prefer(&mut self, scheme: &str) {
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.command("Emulation.setEmulatedMedia", &features);
    }

    /// Returns what axe-core finds on the page as it is, or none where axe-core cannot be had.
    pub fn barriers(&mut self) -> Option<Vec<Value>> {
        let source = AXE_SOURCE.as_ref()?;
        if self.evaluate("typeof axe") == "undefined" {
            self.evaluate(&format!("{source}; 0"));
        }
        let found = self.evaluate(&format!(
            "axe.run(document, {{ runOnly: {AXE_RULES} }}).then(({{ violations }}) => violations.map(({{ id, nodes }}) => \
             ({{ id, nodes: nodes.map(({{ target, failureSummary }}) => [target, failureSummary]) }})))"
        ));
        Some(found.as_array().expect("it is a list").clone())
    }

    /// Saves a picture of what is shown after this time, if the variable `CAXTON_SCREENSHOTS` names a directory.
    pub fn picture(&mut self, name: &str, after: Duration) {
        let Some(directory) = std::env::var_os("CAXTON_SCREENSHOTS") else { return };
        std::thread::sleep(after);
        let parameters = json!({ "format": "webp", "quality": 80 });
        let picture = self.command("Page.captureScreenshot", &parameters);
        let file = Path::new(&directory).join(format!("{name}.webp"));
        std::fs::write(file, decode(picture["data"].as_str().expect("there is data"))).expect("it can be written");
    }
}

/// Decodes Base64.
fn decode(text: &str) -> Vec<u8> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = text.bytes().filter_map(|byte| DIGITS.iter().position(|digit| *digit == byte));
    let (mut bytes, mut bits, mut held) = (Vec::with_capacity(text.len() / 4 * 3), 0_usize, 0);
    for digit in digits {
        bits = ((bits << 6) | digit) & 0xffff;
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push(u8::try_from((bits >> held) & 0xff).expect("it is a byte"));
        }
    }
    bytes
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
