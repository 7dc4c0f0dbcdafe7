//! `caxton top`: a running router, looked at again and again.
//!
//! A thread asks the router; this one draws and reads keys, so that it responds to keys and signals while the router does
//! not respond.

mod draw;
mod sample;

use std::io::{self, IsTerminal as _};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use ratatui::DefaultTerminal;
use ratatui::buffer::Buffer;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::layout::Rect;
use ratatui::widgets::Widget as _;

use self::draw::{Sort, View};
use self::sample::Sample;
use super::client::{Client, Trouble};
use super::output::{put, put_json};
use super::{Failure, Remote};
use crate::cli::interrupt::Interrupt;

/// How long a key is waited for before samples and signals are looked for.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Limits of `--interval`, in seconds.
const INTERVAL_SECONDS: std::ops::RangeInclusive<f64> = 0.1..=3_600.0;
/// The width of a sample that is printed as text.
const TEXT_WIDTH: u16 = 120;

/// Arguments of `caxton top`.
#[derive(Debug, Args)]
#[command(after_help = "\
Keys: q quits, ? shows the others.

Exit status: 0 if it was ended by q or by a signal, or has printed what it should; 1 if the router does not respond at the \
start, refuses, or the terminal fails; 2 if the arguments or the context cannot be used.")]
pub struct TopArguments {
    /// Seconds between two looks
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = parse_interval)]
    interval: Duration,
    /// Print one sample as text, with the rates of one interval, instead of drawing
    #[arg(long)]
    once: bool,
    /// Print samples as JSON, one per line, until a signal or, with --once, one
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    remote: Remote,
}

fn parse_interval(text: &str) -> Result<Duration, String> {
    super::parse_seconds(text, INTERVAL_SECONDS)
}

/// Runs `caxton top`.
pub fn run(arguments: &TopArguments) -> ExitCode {
    super::end(arguments.look())
}

impl TopArguments {
    fn look(&self) -> Result<ExitCode, Failure> {
        let is_drawn = !self.once && !self.json;
        if is_drawn && !(io::stdout().is_terminal() && io::stdin().is_terminal()) {
            let complaint =
                "standard input and output are not a terminal: --once prints a sample, --json prints samples";
            return Err(Failure::Unusable(complaint.to_owned()));
        }
        let interrupt = Interrupt::listen().map_err(Failure::Failed)?;
        let client = self.remote.client()?;
        let first = Sample::take(&client)?;
        if is_drawn {
            let view = View { address: client.address().to_string(), current: first, ..View::default() };
            return Screen::open()?.show(view, &sampler(client, self.interval), &interrupt);
        }
        self.print(&client, first, &interrupt)
    }

    /// Prints samples until a signal, or one.
    fn print(&self, client: &Client, first: Sample, interrupt: &Interrupt) -> Result<ExitCode, Failure> {
        let mut earlier = first;
        while !interrupt.wait(self.interval) {
            let current = Sample::take(client)?;
            if self.json {
                put_json(&current.in_json(Some(&earlier)))?;
            } else {
                let address = client.address().to_string();
                let view = View { address, current: current.clone(), earlier: Some(earlier), ..View::default() };
                put(&in_text(&view))?;
            }
            if self.once {
                break;
            }
            earlier = current;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Asks a router again and again, until nobody receives.
fn sampler(client: Client, interval: Duration) -> flume::Receiver<Result<Sample, Trouble>> {
    let (sender, receiver) = flume::bounded(1);
    std::thread::spawn(move || {
        loop {
            std::thread::sleep(interval);
            if sender.send(Sample::take(&client)).is_err() {
                return;
            }
        }
    });
    receiver
}

/// Returns what would be drawn, without colours and keys.
fn in_text(view: &View) -> String {
    let area = Rect::new(0, 0, TEXT_WIDTH, view.height());
    let mut buffer = Buffer::empty(area);
    view.render(area, &mut buffer);
    let mut text = String::new();
    for y in 0..area.height.saturating_sub(1) {
        let line: String = (0..area.width).map(|x| buffer[(x, y)].symbol()).collect();
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// The terminal while something is drawn. Dropping it restores the terminal; so does a panic.
struct Screen(DefaultTerminal);

impl Drop for Screen {
    fn drop(&mut self) {
        // Standard output may be closed.
        let _ = ratatui::try_restore();
    }
}

impl Screen {
    fn open() -> Result<Self, Failure> {
        ratatui::try_init().map(Self).map_err(|error| {
            let _ = ratatui::try_restore();
            terminal_failed(&error)
        })
    }

    fn show(
        mut self,
        mut view: View,
        samples: &flume::Receiver<Result<Sample, Trouble>>,
        interrupt: &Interrupt,
    ) -> Result<ExitCode, Failure> {
        let mut is_changed = true;
        while interrupt.signal().is_none() {
            if is_changed {
                self.0
                    .draw(|frame| frame.render_widget(&view, frame.area()))
                    .map_err(|error| terminal_failed(&error))?;
            }
            is_changed = false;
            if event::poll(LOOK_EVERY).map_err(|error| terminal_failed(&error))? {
                match event::read().map_err(|error| terminal_failed(&error))? {
                    Event::Key(key) if key.kind != KeyEventKind::Release && !view.press(key) => {
                        return Ok(ExitCode::SUCCESS);
                    }
                    _ => {}
                }
                is_changed = true;
            }
            match samples.try_recv() {
                Ok(_) if view.is_paused => {}
                Ok(sample) => {
                    view.see(sample);
                    is_changed = true;
                }
                Err(flume::TryRecvError::Empty) => {}
                Err(flume::TryRecvError::Disconnected) => {
                    return Err(Failure::Failed("the thread that asks the router has ended".to_owned()));
                }
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn terminal_failed(error: &io::Error) -> Failure {
    Failure::Failed(format!("the terminal cannot be used: {error}"))
}

impl View {
    /// Takes note of a sample, or of why there is none.
    fn see(&mut self, sample: Result<Sample, Trouble>) {
        match sample {
            Ok(sample) => {
                self.earlier = Some(std::mem::replace(&mut self.current, sample));
                self.trouble = None;
            }
            Err(trouble) => self.trouble = Some(trouble.to_string()),
        }
    }

    /// Does what a key says. Returns whether to go on.
    fn press(&mut self, key: KeyEvent) -> bool {
        match key.code {
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return false,
            KeyCode::Esc if self.shows_help => self.shows_help = false,
            KeyCode::Char('q') | KeyCode::Esc => return false,
            KeyCode::Char('?' | 'h') => self.shows_help = !self.shows_help,
            KeyCode::Char('p') => self.is_paused = !self.is_paused,
            KeyCode::Char(letter) => {
                if let Some((_, sort, _)) = Sort::KEYS.into_iter().find(|(key, ..)| *key == letter) {
                    self.sort = sort;
                }
            }
            _ => {}
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use serde_json::{Value, json};

    use super::sample::Row;
    use super::*;

    fn sample(at_ms: u64, accepted: u64) -> Sample {
        let account = json!({"accepted": accepted, "processed": accepted, "dead_lettered": 1, "pending": 3});
        let shard = |number: u64| {
            json!({"shard": number, "agents": 6, "waiting": 2, "dead_letters": 1, "breakers_open": 0, "receivers_closed": 1,
                   "memory_bytes": 1_048_576, "account": account})
        };
        let lane = |from: u64, to: u64, credits: u64| json!({"from": from, "to": to, "in_flight": 3, "credits": credits, "credits_max": 8, "senders_waiting": 1});
        let buckets =
            json!([{"up_to_seconds": 2.5e-5, "count": accepted}, {"up_to_seconds": 0.0025, "count": accepted / 20}]);
        let latencies = json!({"end_to_end": {"buckets": buckets}, "mailbox": {"buckets": buckets}});
        let stats = json!({
            "running_for_ms": at_ms, "account": account, "agents": 12, "outside_agents": 3, "conversations": 4,
            "in_progress": 7, "dead_letters": 1, "memory_bytes": 2_097_152, "memory_bytes_max": 1_073_741_824_u64,
            "breakers_open": 0, "receivers_closed": 1, "protocol_violations": 0, "blocked_shards": [],
            "mailbox_messages": 1_236, "queued": 2, "lanes": [lane(0, 1, 5), lane(1, 0, 0)], "latencies": latencies,
            "journal": {"commits": accepted, "records": 3 * accepted, "written_bytes": 2_048 * accepted,
                        "journal_bytes": 67_108_864, "disk_available_bytes": 1_073_741_824, "disk_bytes": 2_147_483_648_u64,
                        "refusing_shards": []},
            "shards": [shard(0), shard(1)],
        });
        let row = |name: &str, messages: u64, oldest_ms: u64| Row {
            name: name.to_owned(),
            shard: 1,
            state: "active".to_owned(),
            messages,
            bytes: messages * 100,
            oldest_ms: Some(oldest_ms),
        };
        let agents = vec![row("slow\u{1b}", 2, 9_500), row("busy", 1_234, 20)];
        Sample { health: "healthy, running".to_owned(), unwell: Vec::new(), stats, cluster: Value::Null, agents }
    }

    fn view() -> View {
        View {
            address: "http://127.0.0.1:7411".to_owned(),
            current: sample(61_000, 12_345),
            earlier: Some(sample(60_000, 12_000)),
            ..View::default()
        }
    }

    fn drawn(view: &View, width: u16, height: u16) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("it needs nothing");
        terminal.draw(|frame| frame.render_widget(view, frame.area())).expect("it is drawn");
        let buffer = terminal.backend().buffer();
        let line = |y: u16| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>();
        (0..height).map(|y| line(y).trim_end().to_owned()).collect()
    }

    #[test]
    fn everything_is_shown_on_a_usual_terminal() {
        let expected = "\
caxton top http://127.0.0.1:7411  healthy, running  up 1m 1s
agents 12 (3 outside)  conversations 4  in progress 7  dead letters 1
memory 2.0 MiB of 1.0 GiB  breakers open 0  mailboxes full 1  violations 0
per second: accepted 345  processed 345  dead-lettered 0  expired 0  refused 0
p50, p99: end to end 25 us, 2.5 ms  mailbox 25 us, 2.5 ms  handler -, -
          between shards -, -  journal -, -
in mailboxes 1,236  calls queued 2  in lanes 6  lanes without credit 1 of 2  sen
journal: commits 345/s  records 1,035/s  690.0 KiB/s  size 64.0 MiB  disk 1.0 Gi

shard  agents  waiting  pending  accepted  dead letters  breakers  full   memory
    0       6        2        3    12,345             1         0     1  1.0 MiB
    1       6        2        3    12,345             1         0     1  1.0 MiB

oldest  messages  shard      bytes  state   agent
 9.5 s         2      1      200 B  active  slow\\u{1b}
 0.0 s     1,234      1  120.5 KiB  active  busy

";
        let lines = drawn(&view(), 80, 24);
        assert_eq!(lines[23], "q quit  ? help  p pause  o m b n sort");
        assert_eq!(lines[..17].join("\n") + "\n", expected);
    }

    #[test]
    fn a_small_terminal_shows_what_fits() {
        let lines = drawn(&view(), 40, 16);
        assert_eq!(lines[0], "caxton top http://127.0.0.1:7411  health");
        assert_eq!(lines[9], "shard  agents  waiting  pending");
        assert_eq!(lines[13], "oldest  messages  agent");
        assert_eq!(lines[14], " 9.5 s         2  slow\\u{1b}");
        assert_eq!(lines[15], "q quit  ? help  p pause  o m b n sort");
        for (width, height) in [(1, 1), (3, 2), (200, 3), (0, 0)] {
            drawn(&view(), width, height);
        }
    }

    #[test]
    fn keys_sort_pause_help_and_quit() {
        let mut view = view();
        let key = |letter: char| KeyEvent::new(KeyCode::Char(letter), KeyModifiers::NONE);
        assert!(view.press(key('m')) && view.sort == Sort::Messages);
        assert!(drawn(&view, 80, 24)[14].contains("busy"));
        assert!(view.press(key('p')) && view.is_paused && drawn(&view, 80, 24)[0].ends_with("up 1m 1s, paused"));
        assert!(view.press(key('?')) && drawn(&view, 80, 24).contains(&"  q  quit".to_owned()));
        assert!(view.press(KeyEvent::new(KeyCode::Esc, KeyModifiers::NONE)) && !view.shows_help);
        assert!(view.press(key('z')), "other keys mean nothing");
        assert!(!view.press(key('q')) && !view.press(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL)));
    }

    #[test]
    fn trouble_is_shown_until_it_is_over() {
        let mut view = view();
        view.see(Err(Trouble::Unreachable("no router responds".to_owned())));
        assert_eq!(drawn(&view, 80, 24)[8], "no router responds");
        view.see(Ok(sample(62_000, 12_400)));
        assert_eq!(view.trouble, None);
        assert!(drawn(&view, 80, 24)[3].starts_with("per second: accepted 55  "));
        view.current.unwell = vec!["degraded disk: it is full".to_owned()];
        assert_eq!(drawn(&view, 80, 24)[8], "degraded disk: it is full");
        view.current.stats["journal"]["refusing_shards"] = json!([1]);
        assert_eq!(drawn(&view, 80, 24)[8], "the journal of shard 1 takes no durable messages");
        view.current.stats["journal"] = Value::Null;
        assert!(drawn(&view, 80, 24).iter().all(|line| !line.contains("journal:")));
    }

    #[test]
    fn a_router_of_a_cluster_has_a_line_for_the_others() {
        let cluster = |sent: u64, dead: &str, connected: bool| {
            let node = |health: &str| {
                json!({"health": health, "link": {"messages_sent": sent, "messages_received": 5, "retransmitted": 0,
                       "unsettled": 700}})
            };
            json!({"name": "plant", "node": 7, "connected": connected, "nodes": [node("alive"), node(dead)]})
        };
        let mut view = view();
        let line = |view: &View| {
            let text = in_text(view);
            text.lines().find(|line| line.starts_with("cluster")).map(str::to_owned)
        };
        assert_eq!(line(&view), None);
        view.current.cluster = cluster(20, "alive", true);
        view.earlier.as_mut().expect("there is one").cluster = cluster(10, "alive", true);
        let expected =
            "cluster plant: node 7  nodes alive 2  suspect 0  dead 0  out 20/s  in 0/s  resent 0/s  unsettled 1,400";
        assert_eq!(line(&view).as_deref(), Some(expected));
        view.current.cluster = cluster(20, "dead", false);
        let expected = "cluster plant: node 7 not connected  nodes alive 1  suspect 0  dead 1  out 20/s";
        assert!(line(&view).is_some_and(|line| line.starts_with(expected)));
    }

    #[test]
    fn as_text_everything_is_printed() {
        let text = in_text(&view());
        assert!(text.contains("senders waiting 2\n") && text.contains("disk 1.0 GiB of 2.0 GiB free\n"), "{text}");
        assert!(text.contains("retried 0\n") && text.contains("1.0 MiB\n") && text.ends_with("busy\n"), "{text}");
    }
}
