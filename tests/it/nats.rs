//! The door for clients of NATS, spoken to in its protocol.

mod delivery;
mod exchanges;
mod prompts;
mod protocol;
mod subscriptions;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;

use caxton_router::serve::Doors;
use caxton_router::{Config, Router};

use crate::common::{PATIENCE, start_with};
use crate::edge::wait_until;

/// A router with a door for NATS.
struct Served {
    router: Router,
    doors: Doors,
    address: SocketAddr,
}

impl Served {
    fn start(shards: u16, change: impl FnOnce(&mut Config)) -> Self {
        let router = start_with(shards, |config| {
            config.set("nats.listen", "127.0.0.1:0", "the test").expect("it is an address");
            config.set("http.listen", "127.0.0.1:0", "the test").expect("it is an address");
            // A message that is traced has a header.
            config.set("telemetry.sampling", "0", "the test").expect("it is a part");
            change(config);
        });
        let doors = Doors::open(&router).expect("the doors open");
        let address = doors.nats_address().expect("it listens");
        Self { router, doors, address }
    }

    /// Starts one shard with a store in this directory, and with large mailboxes.
    fn with_store(directory: &Path) -> Self {
        Self::start(1, |config| {
            config.store.directory = directory.to_path_buf().into();
            config.set("mailbox.messages", "10000", "the test").expect("a number");
            config.set("mailbox.bytes", "64 MiB", "the test").expect("a size");
        })
    }

    fn client(&self) -> Client {
        Client::connect(self.address, "")
    }

    fn stop(self) {
        self.router.shutdown(PATIENCE).expect("it stops");
        self.doors.close();
    }
}

/// A message as it arrived.
#[derive(Debug, PartialEq, Eq)]
struct Arrived {
    subject: String,
    sid: String,
    reply: Option<String>,
    headers: String,
    payload: String,
}

/// A client that speaks the protocol.
struct Client {
    stream: BufReader<TcpStream>,
    info: String,
}

impl Client {
    fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let mut client = Self { stream: BufReader::new(stream), info: String::new() };
        let info = client.line();
        info.strip_prefix("INFO ").expect("the server begins").clone_into(&mut client.info);
        client
    }

    /// Connects with these further members of `CONNECT`.
    fn connect(address: SocketAddr, members: &str) -> Self {
        let mut client = Self::open(address);
        client.say(&format!(
            "CONNECT {{\"verbose\":false,\"pedantic\":false,\"headers\":true,\"no_responders\":true{members}}}\r\n"
        ));
        client
    }

    fn say(&mut self, text: &str) {
        self.stream.get_mut().write_all(text.as_bytes()).expect("it is read");
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).expect("a line comes");
        line.strip_suffix("\r\n").unwrap_or(&line).to_owned()
    }

    /// Waits until everything said so far was carried out, and expects nothing else to come.
    fn settle(&mut self) {
        self.say("PING\r\n");
        assert_eq!(self.line(), "PONG");
    }

    fn subscribe(&mut self, subject: &str, sid: &str) {
        self.say(&format!("SUB {subject} {sid}\r\n"));
        self.settle();
    }

    fn publish(&mut self, subject: &str, reply: &str, headers: &[(&str, &str)], payload: &str) {
        if headers.is_empty() {
            return self.say(&format!("PUB {subject} {reply} {}\r\n{payload}\r\n", payload.len()));
        }
        let begin = "NATS/1.0\r\n".to_owned();
        let block = headers.iter().fold(begin, |block, (name, value)| block + name + ": " + value + "\r\n") + "\r\n";
        let total = block.len() + payload.len();
        self.say(&format!("HPUB {subject} {reply} {} {total}\r\n{block}{payload}\r\n", block.len()));
    }

    /// Publishes durable messages, and waits until they are on disk.
    fn publish_durably(&mut self, subject: &str, count: usize, payload: impl Fn(usize) -> String) {
        /// On a slow disk more of them would find no room in the journal.
        const AT_A_TIME: usize = 20;
        self.say("SUB _INBOX.acks acks\r\n");
        for number in 0..count {
            self.publish(subject, "_INBOX.acks", &[("Caxton-Reliability", "durable")], &payload(number));
            let awaited = number % AT_A_TIME + 1;
            if awaited == AT_A_TIME || number + 1 == count {
                for _ in 0..awaited {
                    let ack = self.next();
                    assert!(ack.headers.contains("Caxton-Accepted: m"), "{}", ack.headers);
                }
            }
        }
        self.say("UNSUB acks\r\n");
    }

    /// Returns the next message.
    fn next(&mut self) -> Arrived {
        let line = self.line();
        let words: Vec<&str> = line.split(' ').collect();
        let (headers, numbers) = match words[0] {
            "MSG" => (0, 1),
            "HMSG" => (words[words.len() - 2].parse().expect("a number"), 2),
            _ => panic!("no message: {line}"),
        };
        let total: usize = words[words.len() - 1].parse().expect("a number");
        let mut bytes = vec![0; total + 2];
        self.stream.read_exact(&mut bytes).expect("a payload comes");
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("it is text");
        Arrived {
            subject: words[1].to_owned(),
            sid: words[2].to_owned(),
            reply: (words.len() > 3 + numbers).then(|| words[3].to_owned()),
            headers: text(&bytes[..headers]),
            payload: text(&bytes[headers..total]),
        }
    }
}

fn router_gets(served: &Served, name: &str) -> caxton_router::Inbox {
    served.router.inbox(name).blocking().open().expect("the inbox is opened")
}

/// Waits until an agent has no client any more.
fn wait_until_left(served: &Served, name: &str) {
    wait_until("it has no client", || agent_over_http(served, name).contains("\"clients\":0"));
}

/// Returns what the door for HTTP says about an agent.
fn agent_over_http(served: &Served, name: &str) -> String {
    let mut http = TcpStream::connect(served.doors.http_address().expect("it listens")).expect("it listens");
    let request = format!("GET /v1/agents/{name} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    http.write_all(request.as_bytes()).expect("it is read");
    let mut reply = String::new();
    http.read_to_string(&mut reply).expect("it is text");
    reply
}
