//! Three nodes of a cluster and a NATS server on this machine: agents of different nodes talk, a node is killed, and a
//! durable message waits until it is back.
//!
//! Run it with `cargo run --example cluster`; `README.md` beside this file shows its output. The program starts one
//! further process of itself for each node, and sends it commands through a pipe. What your own program needs is in
//! `node.rs`.

mod nats;
mod node;

use std::error::Error;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use tempfile::TempDir;

/// What a node prints when it has done something.
const DONE: &str = "done";

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => demonstrate(),
        ["node", number, nats, data] => node::run(number, nats, data),
        _ => Err("there are no arguments: `cargo run --example cluster`".into()),
    }
}

fn demonstrate() -> Result<(), Box<dyn Error>> {
    let server = nats::Server::start()?;
    let data = TempDir::new()?;
    println!("nats-server listens at {}.", server.url());
    let start = |number: u16| Process::start(number, &server.url(), data.path());
    let (mut one, mut two, mut three) = (start(1)?, start(2)?, start(3)?);
    for node in [&mut one, &mut two, &mut three] {
        node.does("wait-for 2")?;
    }

    println!("Agents of different nodes talk:");
    one.does("ask clerk-2 the price of tea")?;
    two.does("ask clerk-3 the price of salt")?;
    one.does("send inbox-3 the first message")?;
    three.does("receive")?;

    println!("Node 3 is killed:");
    let killed = Instant::now();
    three.kill();
    for node in [&mut one, &mut two] {
        node.does("wait-for-death-of 3")?;
    }
    println!("  both know it after {:.1} s", killed.elapsed().as_secs_f64());

    println!("A durable message waits for it:");
    one.does("send-durable inbox-3 the second message")?;

    println!("Node 3 is started again:");
    let mut three = start(3)?;
    three.does("receive")?;
    two.does("wait-for 2")?;
    two.does("ask clerk-3 the price of salt")?;

    println!("All stop:");
    for node in [&mut one, &mut two, &mut three] {
        node.does("stop")?;
    }
    Ok(())
}

/// The process of a node. It ends when this process ends.
struct Process {
    number: u16,
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Process {
    fn start(number: u16, nats: &str, data: &Path) -> Result<Self, Box<dyn Error>> {
        let data = data.join(number.to_string());
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["node", &number.to_string(), nats]).arg(data);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let (Some(input), Some(output)) = (input, output) else { return Err("there are no pipes".into()) };
        Ok(Self { number, child, input, output: BufReader::new(output) })
    }

    /// Makes the node execute a command, and shows what it prints meanwhile.
    fn does(&mut self, what: &str) -> Result<(), Box<dyn Error>> {
        writeln!(self.input, "{what}")?;
        loop {
            let mut line = String::new();
            if self.output.read_line(&mut line)? == 0 {
                return Err(format!("node {} ended while it was to {what}", self.number).into());
            }
            match line.trim_end() {
                DONE => return Ok(()),
                line => println!("  node {}: {line}", self.number),
            }
        }
    }

    /// Ends the process like a crash, with SIGKILL.
    fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
