//! The door for clients of NATS, spoken to in its protocol.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use caxton_router::message::{Choice, Reliability};
use caxton_router::serve::{Doors, NewToken};
use caxton_router::{AgentId, Config, Message, Outcome, Performative, Router};

use crate::common::{PATIENCE, bounded, capability, echo, on, start_with, text_of};

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
            change(config);
        });
        let doors = Doors::open(&router).expect("the doors open");
        let address = doors.nats_address().expect("it listens");
        Self { router, doors, address }
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

fn wait_until(is_so: impl Fn() -> bool) {
    while !is_so() {
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Waits until an agent has no client any more.
fn wait_until_left(served: &Served, name: &str) {
    wait_until(|| agent_over_http(served, name).contains("\"clients\":0"));
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

#[test]
fn the_server_says_who_it_is_and_answers_pings() {
    bounded(|| {
        let served = Served::start(1, |_| {});
        let mut client = served.client();
        for member in ["\"headers\":true", "\"proto\":1", "\"auth_required\":false", "\"max_payload\":10551296"] {
            assert!(client.info.contains(member), "{}", client.info);
        }
        client.settle();
        client.say("ping\nPiNg \r\n");
        assert_eq!([client.line(), client.line()], ["PONG", "PONG"]);
        client.say("CONNECT {\"verbose\":true}\r\nSUB _INBOX.a 1\r\nPUB agent.nobody 0\r\n\r\nUNSUB 1\r\n");
        assert_eq!([client.line(), client.line(), client.line(), client.line()], ["+OK"; 4]);
        served.stop();
    });
}

#[test]
fn a_client_sends_to_an_agent_and_another_one_receives() {
    bounded(|| {
        let served = Served::start(2, |_| {});
        let inbox = router_gets(&served, "Night Porter@plant");
        let mut client = served.client();
        client.publish("agent.Night%20Porter@plant", "", &[], "good evening");
        let message = inbox.blocking().recv_within(PATIENCE).expect("it comes");
        assert_eq!((message.performative(), text_of(&message).as_str()), (Performative::Inform, "good evening"));
        let mut subscriber = served.client();
        subscriber.subscribe("agent.seller", "7");
        for number in 0..1_000 {
            client.publish("agent.seller", "", &[], &number.to_string());
        }
        for number in 0..1_000 {
            let expected = Arrived {
                subject: "agent.seller".to_owned(),
                sid: "7".to_owned(),
                reply: None,
                headers: String::new(),
                payload: number.to_string(),
            };
            assert_eq!(subscriber.next(), expected);
        }
        served.stop();
    });
}

#[test]
fn a_request_comes_back_at_its_reply_subject() {
    bounded(|| {
        let served = Served::start(2, |_| {});
        served.router.blocking().register("echo", echo).expect("the agent is registered");
        let mut client = served.client();
        client.say("SUB _INBOX.me.* 1\r\n");
        for number in 0..10 {
            client.publish("agent.echo", &format!("_INBOX.me.{number}"), &[], &format!("question {number}"));
        }
        for number in 0..10 {
            let reply = client.next();
            assert_eq!((reply.subject, reply.payload), (format!("_INBOX.me.{number}"), format!("question {number}")));
            assert_eq!((reply.sid.as_str(), reply.reply), ("1", None));
        }
        served.stop();
    });
}

#[test]
fn a_subscriber_is_asked_and_answers() {
    bounded(|| {
        let served = Served::start(2, |_| {});
        let (mut asker, mut answerer) = (served.client(), served.client());
        answerer.subscribe("agent.oracle", "1");
        asker.subscribe("agent.pythia", "3");
        asker.say("SUB _INBOX.a 2\r\n");
        asker.publish("agent.oracle", "_INBOX.a", &[("Caxton-Conversation-Id", "c1"), ("Shop", "5")], "why?");
        let question = answerer.next();
        assert_eq!(question.payload, "why?");
        for header in ["Caxton-Performative: request", "Caxton-Sender: pythia", "Caxton-Conversation-Id: c1", "Shop: 5"]
        {
            assert!(question.headers.contains(header), "{}", question.headers);
        }
        let reply = question.reply.expect("it asks");
        answerer.publish(&reply, "", &[("Caxton-Performative", "agree")], "");
        answerer.publish(&reply, "", &[("Caxton-Performative", "inform")], "because");
        let agreed = asker.next();
        assert!(agreed.headers.contains("Caxton-Performative: agree"), "{}", agreed.headers);
        let because = asker.next();
        assert_eq!((because.subject.as_str(), because.payload.as_str()), ("_INBOX.a", "because"));
        assert!(because.headers.contains("Caxton-Sender: oracle"), "{}", because.headers);
        // The router's own callers get replies too.
        let request = Message::builder(Performative::QueryRef).receiver("oracle").content("when?").build().unwrap();
        let router = served.router.clone();
        let call = std::thread::spawn(move || router.blocking().ask(request, PATIENCE));
        let question = answerer.next();
        assert!(question.headers.contains("Caxton-Performative: query-ref"), "{}", question.headers);
        answerer.publish(&question.reply.expect("it asks"), "", &[], "soon");
        assert_eq!(text_of(&call.join().expect("no panic").expect("a reply")), "soon");
        served.stop();
    });
}

#[test]
fn only_the_agent_that_was_asked_replies() {
    bounded(|| {
        let served = Served::start(2, |_| {});
        let (oracle, mallory) = (router_gets(&served, "oracle"), router_gets(&served, "mallory"));
        let mut asker = served.client();
        asker.subscribe("agent.pythia", "3");
        asker.say("SUB _INBOX.a 2\r\n");
        asker.publish("agent.oracle", "_INBOX.a", &[], "why?");
        let question = oracle.blocking().recv_within(PATIENCE).expect("it comes");
        let forged = Message::builder(Performative::Inform).receiver("pythia").content("forged");
        let forged = forged.in_reply_to(question.reply_with().expect("it asks"));
        mallory.blocking().send(forged.build().expect("it is valid")).expect("it is accepted");
        let forged = asker.next();
        assert_eq!((forged.subject.as_str(), forged.payload.as_str()), ("agent.pythia", "forged"));
        assert!(forged.headers.contains("Caxton-Sender: mallory"), "{}", forged.headers);
        let reply = question.reply(Performative::Inform).content("because");
        oracle.blocking().send(reply.build().expect("it is valid")).expect("it is accepted");
        let reply = asker.next();
        assert_eq!((reply.subject.as_str(), reply.payload.as_str()), ("_INBOX.a", "because"));
        let other = Served::start(1, |_| {});
        let number = |client: &Client| {
            let info: serde_json::Value = serde_json::from_str(&client.info).expect("it is JSON");
            info["client_id"].as_u64()
        };
        assert_ne!(number(&served.client()), number(&other.client()), "numbers do not begin anew");
        other.stop();
        served.stop();
    });
}

#[test]
fn a_connection_replies_as_an_agent_that_it_still_has() {
    bounded(|| {
        let served = Served::start(1, |_| {});
        let (mut asker, mut oracle) = (served.client(), served.client());
        oracle.subscribe("agent.oracle", "1");
        asker.publish("agent.oracle", "_INBOX.a", &[], "why?");
        let question = oracle.next();
        oracle.say("UNSUB 1\r\n");
        oracle.publish(&question.reply.expect("it asks"), "", &[], "because");
        let refused = oracle.line();
        assert!(refused.contains("has given up the agent that was asked"), "{refused}");
        served.stop();
    });
}

#[test]
fn nobody_to_answer_is_told_as_in_nats() {
    bounded(|| {
        let served = Served::start(2, |_| {});
        let mut client = served.client();
        client.say("SUB _INBOX.me.* 1\r\n");
        for subject in ["agent.nobody", "capability.nothing", "route", "$JS.API.INFO", "foo.bar", "_R.1.99"] {
            client.publish(subject, "_INBOX.me.1", &[], "x");
            let refused = client.next();
            assert!(refused.headers.starts_with("NATS/1.0 503\r\n"), "{subject}: {}", refused.headers);
            assert_eq!(refused.payload, "", "{subject}");
        }
        let mut simple = Client::open(served.address);
        simple.say("CONNECT {\"verbose\":false}\r\nSUB _INBOX.1 1\r\nPUB agent.nobody _INBOX.1 0\r\n\r\n");
        assert_eq!(simple.next().payload, "no agent with that name is registered");
        served.stop();
    });
}

#[test]
fn refusals_carry_the_reason() {
    bounded(|| {
        let served = Served::start(1, |_| {});
        let agent = || {
            on(|message, context| {
                let reply = context.reply(message, Performative::Refuse).content("not today").build();
                let _ = context.send(reply.expect("it is valid"));
                Outcome::Done
            })
        };
        served.router.blocking().register("refuser", agent).expect("the agent is registered");
        let mut client = served.client();
        client.say("SUB _INBOX.me 1\r\n");
        client.publish("agent.refuser", "_INBOX.me", &[], "please");
        let refused = client.next();
        for header in ["Nats-Service-Error-Code: 400", "Nats-Service-Error: not today", "Caxton-Performative: refuse"] {
            assert!(refused.headers.contains(header), "{}", refused.headers);
        }
        client.publish("agent.refuser", "_INBOX.me", &[("Caxton-Priority", "very")], "please");
        let refused = client.next();
        assert!(refused.headers.contains("Caxton-Reason: invalid-header"), "{}", refused.headers);
        client.publish("agent.refuser", "_INBOX.me", &[("Caxton-Reliability", "durable")], "please");
        let refused = client.next();
        assert!(refused.headers.contains("Caxton-Reason: durability-unavailable"), "{}", refused.headers);
        client.publish("agent.refuser", "_INBOX.me", &[("Nats-Msg-Id", "7")], "please");
        let refused = client.next();
        assert!(refused.headers.contains("Nats-Msg-Id: subscribe to agent.NAME first"), "{}", refused.headers);
        client.publish("foo.bar", "", &[], "x");
        assert!(client.line().starts_with("-ERR 'Permissions Violation for Publish to \"foo.bar\""));
        client.settle();
        served.stop();
    });
}

#[test]
fn subscriptions_are_for_agents_and_replies() {
    bounded(|| {
        let served = Served::start(1, |_| {});
        let _taken = router_gets(&served, "taken");
        let mut client = served.client();
        for subject in ["foo", "agent.>", "agent.*", "agent.taken", ">", "_INBOXfoo"] {
            client.say(&format!("SUB {subject} 9\r\n"));
            let error = client.line();
            let expected = format!("-ERR 'Permissions Violation for Subscription to \"{subject}\": ");
            assert!(error.starts_with(&expected), "{error}");
        }
        client.say("SUB a..b 1\r\n");
        assert_eq!(client.line(), "-ERR 'Invalid Subject'");
        client.subscribe("agent.mine", "1");
        client.say("SUB agent.mine 2\r\n");
        assert!(client.line().contains("this connection has subscribed to it"));
        client.settle();
        served.stop();
    });
}

#[test]
fn a_subscription_ends_when_it_should() {
    bounded(|| {
        let served = Served::start(1, |_| {});
        served.router.blocking().register("echo", echo).expect("the agent is registered");
        let mut client = served.client();
        client.say("SUB _INBOX.1 1\r\nUNSUB 1 2\r\n");
        for number in 0..3 {
            client.publish("agent.echo", "_INBOX.1", &[], &number.to_string());
        }
        assert_eq!([client.next().payload, client.next().payload], ["0", "1"]);
        client.subscribe("agent.mine", "2");
        client.say("UNSUB 2\r\nSUB _INBOX.2 3\r\n");
        client.publish("agent.mine", "_INBOX.2", &[], "x");
        let gone = client.next();
        assert!(gone.headers.starts_with("NATS/1.0 503"), "{}", gone.headers);
        served.stop();
    });
}

#[test]
fn a_subscription_that_ends_takes_no_more_than_it_wants() {
    bounded(|| {
        let served = Served::start(1, |_| {});
        let mut client = served.client();
        client.subscribe("agent.mine", "1");
        drop(client);
        wait_until_left(&served, "mine");
        let mut sender = served.client();
        for number in 0..20 {
            sender.publish("agent.mine", "", &[], &number.to_string());
        }
        sender.settle();
        let mut client = served.client();
        client.say("SUB agent.mine 1\r\nUNSUB 1 5\r\n");
        for number in 0..5 {
            assert_eq!(client.next().payload, number.to_string());
        }
        client.settle();
        wait_until(|| served.router.stats().account().dead_lettered == 15);
        served.stop();
    });
}

#[test]
fn what_is_written_of_an_agent_that_is_given_up_is_no_dead_letter() {
    const MESSAGES: usize = 1_000;
    bounded(|| {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().to_path_buf();
        let served = Served::start(1, |config| {
            config.store.directory = path.into();
            config.set("mailbox.messages", "10000", "the test").expect("a number");
            config.set("mailbox.bytes", "64 MiB", "the test").expect("a size");
        });
        let (mut slow, mut sender) = (served.client(), served.client());
        slow.subscribe("agent.slow", "1");
        // More than the kernel takes for a client that does not read, in messages that do not keep it from being read.
        sender.publish_durably("agent.slow", MESSAGES, |_| "x".repeat(20_000));
        let account = || served.router.stats().account();
        let mut processed = 0;
        while std::mem::replace(&mut processed, account().processed) != processed || processed == 0 {
            std::thread::sleep(Duration::from_millis(50));
        }
        let done = router_gets(&served, "done");
        slow.say("UNSUB 1\r\nPUB agent.done 0\r\n\r\nPING\r\n");
        // It is carried out before anything more is read.
        done.blocking().recv_within(PATIENCE).expect("it comes");
        let (messages, mut written) = (MESSAGES as u64, 0);
        loop {
            let line = slow.line();
            if line == "PONG" {
                break;
            }
            let total: usize = line.rsplit(' ').next().and_then(|total| total.parse().ok()).expect("a message");
            slow.stream.read_exact(&mut vec![0; total + 2]).expect("a payload comes");
            written += 1;
        }
        // With the message to the other inbox.
        wait_until(|| account().processed + account().dead_lettered > messages);
        let account = account();
        assert_eq!((account.processed, account.dead_lettered), (written + 1, messages - written));
        served.stop();
    });
}

#[test]
fn what_a_broken_connection_was_not_written_is_handed_out_again() {
    const MESSAGES: usize = 1_000;
    bounded(|| {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().to_path_buf();
        let served = Served::start(1, |config| {
            config.store.directory = path.into();
            config.set("mailbox.messages", "10000", "the test").expect("a number");
            config.set("mailbox.bytes", "64 MiB", "the test").expect("a size");
        });
        let (mut slow, mut sender) = (served.client(), served.client());
        slow.subscribe("agent.slow", "1");
        let payload = "x".repeat(20_000);
        sender.publish_durably("agent.slow", MESSAGES, |number| format!("{number} {payload}"));
        // What the kernel does not take of it stays with the router.
        slow.stream.get_ref().shutdown(std::net::Shutdown::Write).expect("it is connected");
        wait_until_left(&served, "slow");
        let number_of = |text: &[u8]| -> usize {
            let digits: String = text.iter().map(|byte| char::from(*byte)).take_while(char::is_ascii_digit).collect();
            digits.parse().expect("a number")
        };
        let mut read = Vec::new();
        slow.stream.read_to_end(&mut read).expect("it is closed");
        // Each message ends with its payload; the last one may be cut off.
        let whole = read.windows(payload.len() + 2).filter(|bytes| bytes.ends_with(b"x\r\n")).count();
        assert!(whole < MESSAGES, "the kernel has taken everything");
        let mut next = served.client();
        next.say("SUB agent.slow 1\r\n");
        let first = number_of(next.next().payload.as_bytes());
        assert!(first <= whole, "{whole} were read, and {first} came next");
        for number in first + 1..MESSAGES {
            assert_eq!(number_of(next.next().payload.as_bytes()), number);
        }
        next.settle();
        wait_until(|| served.router.stats().account().processed >= MESSAGES as u64);
        served.stop();
    });
}

#[test]
fn a_reply_subject_has_a_length_that_can_be_remembered() {
    bounded(|| {
        let served = Served::start(1, |_| {});
        let mut client = served.client();
        for _ in 0..2 {
            client.publish("agent.nobody", &format!("_INBOX.{}", "x".repeat(250)), &[], "x");
            assert!(client.line().contains("the reply subject is longer than 256 bytes"));
        }
        client.settle();
        served.stop();
    });
}

#[test]
fn a_reply_that_many_subscriptions_match_is_not_copied_without_limit() {
    bounded(|| {
        let served = Served::start(1, |_| {});
        served.router.blocking().register("echo", echo).expect("the agent is registered");
        let mut client = served.client();
        for number in 0..1_000 {
            client.say(&format!("SUB _INBOX.> {number}\r\n"));
        }
        client.settle();
        client.publish("agent.echo", "_INBOX.1", &[], &"x".repeat(1_000_000));
        let mut read = Vec::new();
        client.stream.read_to_end(&mut read).expect("it is closed");
        assert!(read.len() < 30_000_000, "{} bytes", read.len());
        assert!(read.ends_with(b"-ERR 'Slow Consumer'\r\n") || read.len() > 1_000_000);
        served.client().settle();
        served.stop();
    });
}

#[test]
fn connections_of_a_queue_group_share_a_mailbox_and_get_their_own_replies() {
    bounded(|| {
        let served = Served::start(2, |_| {});
        served.router.blocking().register("echo", echo).expect("the agent is registered");
        let mut workers = [served.client(), served.client()];
        for worker in &mut workers {
            worker.say("SUB agent.worker group 1\r\nSUB _INBOX.w 2\r\n");
            worker.settle();
        }
        for round in 0..20 {
            for (place, worker) in workers.iter_mut().enumerate() {
                let text = format!("{round} of {place}");
                worker.publish("agent.echo", "_INBOX.w", &[], &text);
                let reply = worker.next();
                assert_eq!((reply.sid.as_str(), reply.payload), ("2", text));
            }
        }
        let mut client = served.client();
        for number in 0..100 {
            client.publish("agent.worker", "", &[], &number.to_string());
        }
        client.settle();
        let mut seen: Vec<u32> = Vec::new();
        for worker in &mut workers {
            worker.stream.get_mut().set_read_timeout(Some(Duration::from_millis(10))).expect("a timeout");
        }
        let mut lines = [String::new(), String::new()];
        while seen.len() < 100 {
            for (worker, line) in workers.iter_mut().zip(&mut lines) {
                // What was read of a line when the time is over is continued.
                while worker.stream.read_line(line).is_ok() && line.ends_with('\n') {
                    if !line.starts_with("MSG") && !line.starts_with("HMSG") {
                        seen.extend(line.trim().parse::<u32>());
                    }
                    line.clear();
                }
            }
        }
        seen.sort_unstable();
        assert_eq!(seen, (0..100).collect::<Vec<_>>());
        served.stop();
    });
}

#[test]
fn a_lost_connection_finds_its_mailbox_again() {
    bounded(|| {
        let served = Served::start(1, |_| {});
        let mut client = served.client();
        client.subscribe("agent.mine", "1");
        drop(client);
        wait_until_left(&served, "mine");
        let mut sender = served.client();
        sender.publish("agent.mine", "", &[], "while you were out");
        sender.settle();
        let mut client = served.client();
        client.say("SUB agent.mine 1\r\n");
        assert_eq!(client.next().payload, "while you were out");
        served.stop();
    });
}

#[test]
fn a_client_is_told_that_the_doors_are_closed() {
    bounded(|| {
        let served = Served::start(1, |_| {});
        let mut clients = [served.client(), served.client()];
        for client in &mut clients {
            client.settle();
        }
        served.stop();
        for client in &mut clients {
            let info = client.line();
            assert!(info.starts_with("INFO ") && info.contains("\"ldm\":true"), "{info}");
            assert_eq!(client.line(), "", "it is closed");
        }
    });
}

#[test]
fn an_agent_that_the_router_removes_is_lost_and_the_connection_is_not() {
    bounded(|| {
        let served = Served::start(1, |_| {});
        let mut client = served.client();
        client.subscribe("agent.mine", "1");
        let drained = served.router.blocking().drain(AgentId::of_text("mine"), PATIENCE).expect("it is there");
        assert_eq!(drained.left, 0);
        let error = client.line();
        assert!(error.contains("the router has removed the agent"), "{error}");
        client.subscribe("agent.mine", "2");
        client.publish("agent.mine", "", &[], "again");
        assert_eq!(client.next().sid, "2");
        served.stop();
    });
}

#[test]
fn a_second_connection_takes_the_agent_over_unless_they_share() {
    bounded(|| {
        let served = Served::start(1, |_| {});
        let (mut first, mut second) = (served.client(), served.client());
        first.subscribe("agent.mine", "1");
        second.subscribe("agent.mine", "1");
        let error = first.line();
        assert!(error.starts_with("-ERR 'Permissions Violation for Subscription to \"agent.mine\""), "{error}");
        let mut sender = served.client();
        for number in 0..10 {
            sender.publish("agent.mine", "", &[], &number.to_string());
            assert_eq!(second.next().payload, number.to_string());
        }
        first.settle();
        served.stop();
    });
}

#[test]
fn echo_is_left_out_on_request() {
    bounded(|| {
        let served = Served::start(1, |_| {});
        let mut client = Client::connect(served.address, ",\"echo\":false");
        client.subscribe("agent.mine", "1");
        client.publish("agent.mine", "", &[], "to myself");
        let mut other = served.client();
        other.publish("agent.mine", "", &[], "to you");
        assert_eq!(client.next().payload, "to you");
        served.stop();
    });
}

#[test]
fn capabilities_are_subjects_too() {
    bounded(|| {
        let served = Served::start(1, |_| {});
        let opened = ["first", "second"].map(|name| {
            let inbox = served.router.inbox(name).offering(capability("stamp"));
            inbox.blocking().open().expect("the inbox is opened")
        });
        let mut client = served.client();
        client.publish("capability.stamp", "", &[("Caxton-Choice", Choice::All.as_str())], "x");
        for inbox in &opened {
            assert_eq!(text_of(&inbox.blocking().recv_within(PATIENCE).expect("it comes")), "x");
        }
        served.stop();
    });
}

#[test]
fn durable_messages_are_acknowledged_when_they_are_on_disk() {
    bounded(|| {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().to_path_buf();
        let served = Served::start(1, |config| config.store.directory = path.into());
        let inbox = router_gets(&served, "clerk");
        let mut client = served.client();
        client.say("SUB _INBOX.acks 1\r\n");
        for number in 0..50 {
            client.publish("agent.clerk", "_INBOX.acks", &[("Caxton-Reliability", "durable")], &number.to_string());
        }
        for _ in 0..50 {
            let ack = client.next();
            assert!(ack.headers.contains("Caxton-Accepted: m"), "{}", ack.headers);
            assert!(ack.payload.starts_with("{\"stream\":\"caxton\",\"seq\":"), "{}", ack.payload);
        }
        for number in 0..50 {
            let message = inbox.blocking().recv_within(PATIENCE).expect("it comes");
            assert_eq!((message.reliability(), text_of(&message)), (Reliability::Durable, number.to_string()));
        }
        let receipt = [("Caxton-Ack", "receipt")];
        client.publish("agent.clerk", "_INBOX.acks", &receipt, "tell me");
        let told_of = inbox.blocking().recv_within(PATIENCE).expect("it comes");
        assert_eq!(text_of(&told_of), "tell me");
        let accepted = format!("Caxton-Accepted: {}\r\n", told_of.id().expect("it has one"));
        let receipt = client.next();
        assert!(receipt.headers.contains(&accepted), "{} {accepted}", receipt.headers);
        served.stop();
    });
}

#[test]
fn what_is_no_protocol_ends_the_connection() {
    bounded(|| {
        let served = Served::start(1, |_| {});
        for (said, expected) in [
            ("GET / HTTP/1.1\r\n\r\n".to_owned(), "-ERR 'Unknown Protocol Operation'"),
            ("PUB agent.x 99999999\r\n".to_owned(), "-ERR 'Maximum Payload Violation'"),
            (format!("PUB {} 0\r\n\r\n", "x".repeat(5_000)), "-ERR 'Maximum Control Line Exceeded'"),
            ("CONNECT nonsense\r\n".to_owned(), "-ERR 'Unknown Protocol Operation'"),
        ] {
            let mut client = Client::open(served.address);
            client.say(&said);
            assert_eq!(client.line(), expected);
            let mut rest = String::new();
            let _ = client.stream.read_to_string(&mut rest);
            assert_eq!(rest, "", "{said}");
        }
        served.client().settle();
        served.stop();
    });
}

#[test]
fn a_large_message_arrives_in_pieces_and_goes_through() {
    bounded(|| {
        let served = Served::start(1, |_| {});
        let (mut sender, mut receiver) = (served.client(), served.client());
        receiver.subscribe("agent.bulk", "1");
        let payload: String = (0..3_000_000_u32).map(|number| char::from(b'a' + (number % 26) as u8)).collect();
        sender.publish("agent.bulk", "", &[], &payload);
        sender.publish("agent.bulk", "", &[], "small");
        assert!(receiver.next().payload == payload, "it is the same");
        assert_eq!(receiver.next().payload, "small");
        served.stop();
    });
}

#[test]
fn a_token_says_who_a_client_is() {
    bounded(|| {
        let directory = tempfile::tempdir().expect("a directory");
        let (mine, other) = (NewToken::random().expect("random"), NewToken::random().expect("random"));
        let file = directory.path().join("tokens.toml");
        let text = format!(
            "[[token]]\nname = 'billing'\nhash = '{}'\nagents = ['bill-*']\noperations = ['send', 'receive']\n\
             [[token]]\nname = 'reader'\nhash = '{}'\nagents = ['reader']\noperations = ['receive']\n",
            mine.hash, other.hash
        );
        std::fs::write(&file, text).expect("it can be written");
        let served = Served::start(1, |config| config.doors.tokens = file.clone().into());
        let inbox = router_gets(&served, "clerk");
        for said in ["CONNECT {\"auth_token\":\"wrong\"}\r\n", "CONNECT {}\r\n", "PING\r\n"] {
            let mut client = Client::open(served.address);
            assert!(client.info.contains("\"auth_required\":true"), "{}", client.info);
            client.say(said);
            assert_eq!(client.line(), "-ERR 'Authorization Violation'", "{said}");
        }
        let mut client = Client::connect(served.address, &format!(",\"auth_token\":\"{}\"", mine.secret));
        client.say("SUB agent.clark 1\r\n");
        assert!(client.line().starts_with("-ERR 'Permissions Violation for Subscription to \"agent.clark\""));
        client.publish("agent.clerk", "", &[], "from whom?");
        let message = inbox.blocking().recv_within(PATIENCE).expect("it comes");
        let view =
            served.router.blocking().agent(message.sender().expect("a sender")).expect("it runs").expect("it is there");
        assert!(view.name.starts_with("billing-nats-"), "{}", view.name);
        client.subscribe("agent.bill-7", "1");
        client.publish("agent.clerk", "", &[("Caxton-Sender", "bill-8")], "forged");
        assert!(client.line().starts_with("-ERR 'Permissions Violation for Publish to \"agent.clerk\""));
        let mut reader = Client::connect(served.address, &format!(",\"user\":\"x\",\"pass\":\"{}\"", other.secret));
        reader.subscribe("agent.reader", "1");
        reader.publish("agent.clerk", "", &[], "may not");
        assert!(reader.line().contains("this token may not send"));
        // Whose the agents of a connection are does not change.
        let mut client = Client::connect(served.address, &format!(",\"auth_token\":\"{}\"", mine.secret));
        client.subscribe("agent.bill-9", "1");
        client.say(&format!("CONNECT {{\"verbose\":true,\"auth_token\":\"{}\"}}\r\n", mine.secret));
        assert_eq!(client.line(), "+OK");
        client.say(&format!("CONNECT {{\"auth_token\":\"{}\"}}\r\n", other.secret));
        assert_eq!(client.line(), "-ERR 'Authorization Violation'");
        let mut client = Client::connect(served.address, &format!(",\"auth_token\":\"{}\"", mine.secret));
        // A token that is removed ends what was connected with it.
        let text = std::fs::read_to_string(&file).expect("it is there");
        let (kept, _) = text.rsplit_once("[[token]]").expect("there are two");
        std::fs::write(&file, kept).expect("it can be written");
        served.doors.reload(served.router.config()).expect("the file is right");
        reader.say("PING\r\n");
        assert_eq!(reader.line(), "-ERR 'User Authentication Revoked'");
        client.settle();
        served.stop();
    });
}

#[test]
fn a_client_that_does_not_read_holds_up_its_own_mailbox_alone() {
    bounded(|| {
        let served = Served::start(1, |config| {
            config.set("mailbox.messages", "1000", "the test").expect("a number");
        });
        let (mut slow, mut sender) = (served.client(), served.client());
        slow.subscribe("agent.slow", "1");
        let payload = "x".repeat(10_000);
        for _ in 0..5_000 {
            sender.publish("agent.slow", "", &[], &payload);
        }
        sender.settle();
        let stats = served.router.stats().account();
        assert!(stats.dead_lettered > 0, "what finds no room is given up: {stats:?}");
        // Others are served meanwhile, and what was kept arrives in the end.
        served.router.blocking().register("echo", echo).expect("the agent is registered");
        sender.say("SUB _INBOX.1 1\r\n");
        sender.publish("agent.echo", "_INBOX.1", &[], "still here");
        assert_eq!(sender.next().payload, "still here");
        assert_eq!(slow.next().payload, payload);
        served.stop();
    });
}

#[test]
fn a_full_receiver_holds_up_its_sender_and_nobody_else() {
    bounded(|| {
        const MESSAGES: usize = 20_000;
        let served = Served::start(1, |config| {
            config.set("mailbox.overflow", "back-pressure", "the test").expect("a policy");
            config.set("message.timeout_ms", "300000", "the test").expect("a time");
        });
        served.router.blocking().register("echo", echo).expect("the agent is registered");
        let (mut slow, mut other) = (served.client(), served.client());
        slow.subscribe("agent.slow", "1");
        let address = served.address;
        let sender = std::thread::spawn(move || {
            let mut sender = Client::connect(address, "");
            let payload = "x".repeat(1_000);
            for number in 0..MESSAGES {
                sender.publish("agent.slow", "", &[], &format!("{number} {payload}"));
            }
            sender
        });
        other.say("SUB _INBOX.1 1\r\n");
        for number in 0..200 {
            std::thread::sleep(Duration::from_millis(2));
            other.publish("agent.echo", "_INBOX.1", &[], &number.to_string());
            assert_eq!(other.next().payload, number.to_string());
        }
        for number in 0..MESSAGES {
            let payload = slow.next().payload;
            assert_eq!(payload.split(' ').next(), Some(number.to_string().as_str()));
        }
        sender.join().expect("everything was taken").settle();
        assert_eq!(served.router.stats().account().dead_lettered, 0);
        served.stop();
    });
}

#[test]
fn a_member_of_a_queue_group_that_does_not_read_keeps_nothing_from_the_others() {
    bounded(|| {
        let served = Served::start(1, |config| {
            config.set("mailbox.bytes", "64 MiB", "the test").expect("a size");
        });
        let (mut stuck, mut other, mut sender) = (served.client(), served.client(), served.client());
        stuck.say("SUB agent.worker group 1\r\n");
        stuck.settle();
        sender.publish("agent.worker", "", &[], "first");
        assert_eq!(stuck.next().payload, "first");
        for _ in 0..100 {
            stuck.settle();
        }
        // More than the kernel takes for a client that does not read.
        let large = "x".repeat(2_000_000);
        for _ in 0..20 {
            sender.publish("agent.worker", "", &[], &large);
        }
        sender.settle();
        other.say("SUB agent.worker group 1\r\n");
        for number in 0..20 {
            sender.publish("agent.worker", "", &[], &number.to_string());
            while other.next().payload != number.to_string() {}
        }
        // The stuck one was not given up meanwhile, which would have left its share to the other one.
        let agent = agent_over_http(&served, "worker");
        assert!(agent.contains("\"clients\":2"), "{agent}");
        served.stop();
    });
}

#[test]
fn an_agent_that_others_deregister_is_lost() {
    bounded(|| {
        let served = Served::start(1, |_| {});
        let mut client = served.client();
        client.subscribe("agent.mine", "1");
        let mut http = TcpStream::connect(served.doors.http_address().expect("it listens")).expect("it listens");
        http.write_all(b"DELETE /v1/agents/mine HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            .expect("it is read");
        let mut reply = String::new();
        http.read_to_string(&mut reply).expect("it is text");
        assert!(reply.starts_with("HTTP/1.1 2"), "{reply}");
        let error = client.line();
        assert!(error.contains("the agent was deregistered"), "{error}");
        client.settle();
        served.stop();
    });
}
