//! `caxton health`: asks a running router whether it is healthy.

use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use std::{fmt, io};

use caxton_router::config::Preset;
use clap::Args;
use serde_json::Value;

use super::settings::Settings;
use super::{fail, print, refuse};

/// The path that is asked for if the URL has none.
const DEFAULT_PATH: &str = "/healthz";
/// Maximum length of a response that is read, in bytes.
const RESPONSE_BYTES_MAX: usize = 1 << 20;

/// Arguments of `caxton health`.
#[derive(Debug, Args)]
#[command(after_help = "\
Without URL the address is that of the setting metrics.listen, from --config, CAXTON_METRICS_LISTEN or --set, so that a \
container whose router has it needs no argument.

Exit status: 0 if the router is ready, also if a part is degraded; 1 if it is starting, draining or unhealthy, or does \
not respond; 2 if the arguments or the settings cannot be used. With --slow: 0 if every shard has responded, and 1 \
otherwise.")]
pub struct HealthArguments {
    /// Where the router serves its health, such as `http://127.0.0.1:9464`. With a path, such as /livez, that is asked
    /// for instead of /healthz. Or the daemon's Unix socket, such as `unix:/run/caxton/caxton.sock`
    url: Option<Url>,
    #[command(flatten)]
    settings: Settings,
    /// Seconds to wait for a response
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = parse_timeout)]
    timeout: Duration,
    /// Print the response as it is: for /healthz it is JSON
    #[arg(long)]
    json: bool,
    /// Print the N agents whose messages wait longest, by default 10, instead of the health
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "10",
        value_parser = clap::value_parser!(u16).range(1..=256))]
    slow: Option<u16>,
}

/// Where to ask.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Url {
    host: Host,
    path: String,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Host {
    /// Host and port.
    Authority(String),
    /// A Unix socket.
    Socket(PathBuf),
}

impl std::str::FromStr for Url {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const ALLOWED: &str =
            "expected a URL such as http://127.0.0.1:9464, or a Unix socket such as unix:/run/caxton.sock";
        if let Some(path) = text.strip_prefix("unix:") {
            let path = PathBuf::from(path.strip_prefix("//").unwrap_or(path));
            let host = path.is_absolute().then_some(Host::Socket(path)).ok_or(ALLOWED)?;
            return Ok(Self { host, path: DEFAULT_PATH.to_owned() });
        }
        let rest = match text.split_once("://") {
            Some(("http", rest)) => rest,
            Some(_) => return Err(format!("only http is supported: {ALLOWED}")),
            None => text,
        };
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let odd = |letter: char| letter.is_whitespace() || letter.is_control();
        if authority.is_empty() || rest.contains(odd) {
            return Err(ALLOWED.to_owned());
        }
        // A port follows the last colon, unless that is inside an IPv6 address.
        let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let port = if has_port { "" } else { ":80" };
        let path = if path.len() > 1 { path } else { DEFAULT_PATH };
        Ok(Self { host: Host::Authority(format!("{authority}{port}")), path: path.to_owned() })
    }
}

impl fmt::Display for Url {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Authority(authority) => write!(formatter, "http://{authority}{}", self.path),
            Host::Socket(path) => write!(formatter, "unix:{}", path.display()),
        }
    }
}

/// Runs `caxton health`.
pub fn run(arguments: &HealthArguments) -> ExitCode {
    let mut url = match arguments.url() {
        Ok(url) => url,
        Err(complaint) => return refuse(&complaint),
    };
    if let Some(limit) = arguments.slow {
        if url.path != DEFAULT_PATH {
            return refuse(&format!("--slow and the path {}: give one of them", url.path));
        }
        url.path = format!("{DEFAULT_PATH}/slow?limit={limit}");
    }
    let (status, body) = match ask(&url, arguments.timeout) {
        Ok(response) => response,
        Err(error) => return fail(&format!("{url}: no response: {error}")),
    };
    let text = match arguments.slow {
        _ if arguments.json => body,
        Some(_) => slow_table(&body),
        None => readable(&body),
    };
    let printed = print(&format!("{}\n", text.trim_end()));
    if status == 200 { printed } else { ExitCode::FAILURE }
}

impl HealthArguments {
    fn url(&self) -> Result<Url, String> {
        if let Some(url) = &self.url {
            return Ok(url.clone());
        }
        let config = self.settings.load(Preset::Development)?;
        let Some(mut address) = config.metrics.listen.address().filter(|address| address.port() > 0) else {
            return Err("no URL is given and metrics.listen names no port: where does the router listen?".to_owned());
        };
        if address.ip().is_unspecified() {
            let loopback = if address.is_ipv6() { "::1" } else { "127.0.0.1" };
            address.set_ip(loopback.parse().expect("it is an address"));
        }
        Ok(Url { host: Host::Authority(address.to_string()), path: DEFAULT_PATH.to_owned() })
    }
}

/// A connection to a router.
trait Connection: io::Read + io::Write {
    fn limit_reads(&self, timeout: Duration) -> io::Result<()>;
    fn limit_writes(&self, timeout: Duration) -> io::Result<()>;
}

impl Connection for TcpStream {
    fn limit_reads(&self, timeout: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(timeout))
    }

    fn limit_writes(&self, timeout: Duration) -> io::Result<()> {
        self.set_write_timeout(Some(timeout))
    }
}

impl Connection for UnixStream {
    fn limit_reads(&self, timeout: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(timeout))
    }

    fn limit_writes(&self, timeout: Duration) -> io::Result<()> {
        self.set_write_timeout(Some(timeout))
    }
}

/// Requests a document. Returns its HTTP status and its body.
fn ask(url: &Url, timeout: Duration) -> Result<(u16, String), String> {
    let error = |error: std::io::Error| error.to_string();
    let deadline = Instant::now() + timeout;
    let late =
        || format!("no response within {} s: does the router run, and is this its address?", timeout.as_secs_f64());
    let left =
        || Some(deadline.saturating_duration_since(Instant::now())).filter(|left| !left.is_zero()).ok_or_else(late);
    let (mut stream, name): (Box<dyn Connection>, &str) = match &url.host {
        Host::Socket(path) => (Box::new(UnixStream::connect(path).map_err(error)?), "localhost"),
        Host::Authority(authority) => {
            let within = || left().unwrap_or(Duration::from_millis(1));
            (Box::new(connect(authority, within)?), authority)
        }
    };
    stream.limit_writes(left()?).map_err(error)?;
    let path = &url.path;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {name}\r\nAccept: */*\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(error)?;
    let mut response = Vec::new();
    let mut part = [0; 8 << 10];
    while response.len() < RESPONSE_BYTES_MAX {
        stream.limit_reads(left()?).map_err(error)?;
        match stream.read(&mut part).map_err(|problem| if is_late(&problem) { late() } else { problem.to_string() })? {
            0 => break,
            count => response.extend_from_slice(&part[..count]),
        }
    }
    let response = String::from_utf8_lossy(&response);
    let (head, body) = response.split_once("\r\n\r\n").ok_or("it is not HTTP")?;
    let status = head.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)).and_then(|status| status.parse().ok());
    Ok((status.ok_or("it is not HTTP")?, body.to_owned()))
}

/// Connects to the first address of a name that accepts.
fn connect(authority: &str, within: impl Fn() -> Duration) -> Result<TcpStream, String> {
    let addresses: Vec<SocketAddr> = authority.to_socket_addrs().map_err(|error| error.to_string())?.collect();
    let mut failed = "the name has no address".to_owned();
    for address in &addresses {
        match TcpStream::connect_timeout(address, within()) {
            Ok(connection) => return Ok(connection),
            Err(error) => failed = error.to_string(),
        }
    }
    Err(failed)
}

fn is_late(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut)
}

/// Returns the health as lines for people: the status, and each part that is not healthy.
fn readable(body: &str) -> String {
    let Ok(health) = serde_json::from_str::<Value>(body) else { return body.to_owned() };
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut lines = vec![format!("{}, {}", text(&health["status"]), text(&health["phase"]))];
    for part in health["components"].as_array().into_iter().flatten().filter(|part| part["status"] != "healthy") {
        lines.push(format!("{:<9} {}: {}", text(&part["status"]), text(&part["name"]), text(&part["why"])));
    }
    lines.join("\n")
}

/// Returns slow agents as a table for people, and which shards did not respond.
fn slow_table(body: &str) -> String {
    let Ok(found) = serde_json::from_str::<Value>(body) else { return body.to_owned() };
    let listed = |name: &str| found[name].as_array().cloned().unwrap_or_default();
    let agents = listed("agents");
    let mut lines = Vec::new();
    if agents.is_empty() {
        lines.push("no agent has waiting messages".to_owned());
    } else {
        lines.push(format!(
            "{:>10} {:>9} {:>11} {:>8} {:>5}  {:<12} agent",
            "oldest", "messages", "bytes", "in inbox", "shard", "state"
        ));
    }
    for agent in agents {
        let number = |name: &str| agent[name].as_u64().unwrap_or_default();
        let text = |name: &str| agent[name].as_str().unwrap_or_default().to_owned();
        lines.push(format!(
            "{:>8.3} s {:>9} {:>11} {:>8} {:>5}  {:<12} {:?}",
            number("oldest_ms") as f64 / 1e3,
            number("messages"),
            number("bytes"),
            number("in_inbox"),
            number("shard"),
            text("state"),
            text("agent"),
        ));
    }
    lines.extend(listed("failed").iter().map(|error| format!("not all: {}", error.as_str().unwrap_or_default())));
    lines.join("\n")
}

fn parse_timeout(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(seconds) if (0.1..=3_600.0).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err("expected 0.1 to 3600 seconds".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_have_a_port_and_a_path() {
        let parsed = |text: &str| text.parse::<Url>().map(|url| url.to_string());
        for (text, whole) in [
            ("http://127.0.0.1:9464", "http://127.0.0.1:9464/healthz"),
            ("127.0.0.1:9464/", "http://127.0.0.1:9464/healthz"),
            ("http://[::1]:9464/livez", "http://[::1]:9464/livez"),
            ("http://caxton", "http://caxton:80/healthz"),
            ("unix:/run/x.sock", "unix:/run/x.sock"),
            ("unix:///run/x.sock", "unix:/run/x.sock"),
        ] {
            assert_eq!(parsed(text), Ok(whole.to_owned()));
        }
        for text in ["https://a:1", "", "http://", "http://a b", "unix:", "unix:run/x"] {
            assert!(parsed(text).expect_err(text).contains("http://127.0.0.1:9464"), "{text}");
        }
    }

    #[test]
    fn what_is_not_healthy_is_listed() {
        let body = r#"{"status": "degraded", "phase": "running", "components": [
            {"name": "rings", "status": "healthy", "why": null}, {"name": "disk", "status": "degraded", "why": "it is full"}]}"#;
        assert_eq!(readable(body), "degraded, running\ndegraded  disk: it is full");
        assert_eq!(readable("plain"), "plain");
    }

    #[test]
    fn slow_agents_are_a_table() {
        let body = r#"{"agents": [{"agent": "bob\u001b", "shard": 1, "state": "handling", "messages": 5, "bytes": 640,
            "in_inbox": 0, "oldest_ms": 3100}], "failed": ["shard 0 did not respond in time"]}"#;
        let table = slow_table(body);
        let lines: Vec<_> = table.lines().collect();
        assert_eq!(lines[1], "   3.100 s         5         640        0     1  handling     \"bob\\u{1b}\"");
        assert_eq!(lines[2], "not all: shard 0 did not respond in time");
        assert_eq!(slow_table(r#"{"agents": [], "failed": []}"#), "no agent has waiting messages");
    }
}
