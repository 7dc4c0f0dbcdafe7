//! What `caxton top` shows: a pure function of the samples and of what was asked for with keys.

use std::cmp::Reverse;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::Widget;
use serde_json::Value;

use super::super::{briefly, lasting, list, number, sized};
use super::sample::{LATENCIES, RATES, Row, Sample};
use crate::cli::{printable, thousands};

const BOLD: Style = Style::new().add_modifier(Modifier::BOLD);
const DIM: Style = Style::new().add_modifier(Modifier::DIM);
const BAD: Style = Style::new().fg(Color::Red).add_modifier(Modifier::BOLD);
const HEADING: Style = Style::new().add_modifier(Modifier::REVERSED);

/// What agents are sorted by.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Sort {
    #[default]
    Oldest,
    Messages,
    Bytes,
    Name,
}

impl Sort {
    /// The key of each.
    pub const KEYS: [(char, Self, &'static str); 4] = [
        ('o', Self::Oldest, "the age of the oldest message"),
        ('m', Self::Messages, "the number of messages"),
        ('b', Self::Bytes, "the bytes of messages"),
        ('n', Self::Name, "the name"),
    ];

    fn apply(self, rows: &mut [&Row]) {
        match self {
            Self::Oldest => rows.sort_by_key(|row| Reverse((row.oldest_ms, row.messages))),
            Self::Messages => rows.sort_by_key(|row| Reverse(row.messages)),
            Self::Bytes => rows.sort_by_key(|row| Reverse(row.bytes)),
            Self::Name => rows.sort_by_key(|row| &row.name),
        }
    }
}

/// Everything that is shown.
#[derive(Clone, Debug, Default)]
pub struct View {
    pub address: String,
    pub current: Sample,
    pub earlier: Option<Sample>,
    pub sort: Sort,
    pub is_paused: bool,
    pub shows_help: bool,
    /// Why there is no newer sample.
    pub trouble: Option<String>,
}

impl View {
    /// Returns the height at which everything is shown.
    pub fn height(&self) -> u16 {
        let tables = list(&self.current.stats, "shards").len() + self.current.agents.len();
        u16::try_from(self.head().len() + tables + 5).unwrap_or(u16::MAX)
    }

    /// The lines above the tables.
    fn head(&self) -> Vec<Line<'static>> {
        let Self { current, .. } = self;
        let stats = &current.stats;
        let figure = |name: &str| grouped(number(stats, name));
        let health = if current.unwell.is_empty() { BOLD } else { BAD };
        let paused = if self.is_paused { ", paused" } else { "" };
        let mut lines = vec![
            Line::from(vec![
                Span::styled("caxton top ", BOLD),
                Span::raw(format!("{}  ", printable(&self.address))),
                Span::styled(printable(&current.health).into_owned(), health),
                Span::raw(format!("  up {}{paused}", lasting(current.at_ms()))),
            ]),
            Line::from(format!(
                "agents {} ({} outside)  conversations {}  in progress {}  dead letters {}",
                figure("agents"),
                figure("outside_agents"),
                figure("conversations"),
                figure("in_progress"),
                figure("dead_letters"),
            )),
            Line::from(format!(
                "memory {} of {}  breakers open {}  mailboxes full {}  violations {}",
                sized(number(stats, "memory_bytes")),
                sized(number(stats, "memory_bytes_max")),
                figure("breakers_open"),
                figure("receivers_closed"),
                figure("protocol_violations"),
            )),
        ];
        let rates = self.earlier.as_ref().and_then(|earlier| current.rates_since(earlier));
        let rate = |place: usize| rates.map_or_else(|| "-".to_owned(), |rates| rounded(rates[place]));
        let rates: Vec<_> = RATES
            .iter()
            .enumerate()
            .map(|(place, name)| format!("{} {}", name.replace('_', "-"), rate(place)))
            .collect();
        lines.push(Line::styled(format!("per second: {}", rates.join("  ")), BOLD));
        lines.extend(self.latencies());
        lines.push(self.lanes());
        lines.extend(self.journal());
        lines.extend(self.cluster());
        lines.extend(current.unwell.iter().map(|line| Line::styled(printable(line).into_owned(), BAD)));
        for shard in list(stats, "blocked_shards") {
            lines.push(Line::styled(format!("shard {shard} is blocked: an agent does not return"), BAD));
        }
        lines.extend(self.trouble.iter().map(|line| Line::styled(printable(line).into_owned(), BAD)));
        lines
    }

    /// The latencies of the messages since the sample before, two lines for a usual terminal.
    fn latencies(&self) -> impl Iterator<Item = Line<'static>> {
        let quantiles = |(name, called): &(&str, &str)| {
            let quantiles = self.current.latency_since(self.earlier.as_ref(), name);
            let [p50, p99] = quantiles.map_or(["-".to_owned(), "-".to_owned()], |quantiles| quantiles.map(briefly));
            format!("{called} {p50}, {p99}")
        };
        let (first, rest) = LATENCIES.split_at(3);
        let line = |latencies: &[(&str, &str)]| latencies.iter().map(quantiles).collect::<Vec<_>>().join("  ");
        let lines = [format!("p50, p99: {}", line(first)), format!("          {}", line(rest))];
        lines.into_iter().map(Line::from)
    }

    /// Where messages are: in mailboxes, and in the lanes between shards.
    fn lanes(&self) -> Line<'static> {
        let stats = &self.current.stats;
        let lanes = list(stats, "lanes");
        let sum = |name: &str| grouped(lanes.iter().map(|lane| number(lane, name)).sum());
        let without = lanes.iter().filter(|lane| number(lane, "credits") == 0).count() as u64;
        let text = format!(
            "in mailboxes {}  calls queued {}  in lanes {}  lanes without credit {} of {}  senders waiting {}",
            grouped(number(stats, "mailbox_messages")),
            grouped(number(stats, "queued")),
            sum("in_flight"),
            without,
            lanes.len(),
            sum("senders_waiting"),
        );
        if without > 0 { Line::styled(text, BOLD) } else { Line::from(text) }
    }

    /// The journal, if there is one, and what it refuses.
    fn journal(&self) -> Vec<Line<'static>> {
        let journal = &self.current.stats["journal"];
        if !journal.is_object() {
            return Vec::new();
        }
        let rate =
            |name: &str| self.earlier.as_ref().and_then(|earlier| self.current.journal_rate_since(earlier, name));
        let shown = |name: &str| rate(name).map_or_else(|| "-".to_owned(), rounded);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // Rates are not negative.
        let written = rate("written_bytes").map_or_else(|| "-".to_owned(), |rate| sized(rate as u64));
        let disk = match (journal["disk_available_bytes"].as_u64(), journal["disk_bytes"].as_u64()) {
            (Some(available), Some(all)) => format!("  disk {} of {} free", sized(available), sized(all)),
            _ => String::new(),
        };
        let text = format!(
            "journal: commits {}/s  records {}/s  {written}/s  size {}{disk}",
            shown("commits"),
            shown("records"),
            sized(number(journal, "journal_bytes")),
        );
        let refusing = list(journal, "refusing_shards").iter();
        let refusing = refusing.map(|shard| format!("the journal of shard {shard} takes no durable messages"));
        std::iter::once(Line::from(text)).chain(refusing.map(|text| Line::styled(text, BAD))).collect()
    }

    /// The other nodes and the links to them, if the router is in a cluster.
    fn cluster(&self) -> Option<Line<'static>> {
        let cluster = &self.current.cluster;
        let name = printable(cluster["name"].as_str()?);
        let nodes = list(cluster, "nodes");
        let count = |health: &str| nodes.iter().filter(|node| node["health"] == health).count();
        let (suspect, dead) = (count("suspect"), count("dead"));
        let is_connected = cluster["connected"] == true;
        let rate = |name: &str| {
            let rate = self.earlier.as_ref().and_then(|earlier| self.current.link_rate_since(earlier, name));
            rate.map_or_else(|| "-".to_owned(), rounded)
        };
        let text = format!(
            "cluster {name}: node {}{}  nodes alive {}  suspect {suspect}  dead {dead}  out {}/s  in {}/s  resent {}/s  unsettled {}",
            number(cluster, "node"),
            if is_connected { "" } else { " not connected" },
            count("alive"),
            rate("messages_sent"),
            rate("messages_received"),
            rate("retransmitted"),
            grouped(self.current.of_links("unsettled")),
        );
        Some(if !is_connected || suspect + dead > 0 { Line::styled(text, BAD) } else { Line::from(text) })
    }

    fn shards(&self, width: usize) -> Vec<Line<'static>> {
        const HEADINGS: [&str; 9] =
            ["shard", "agents", "waiting", "pending", "accepted", "dead letters", "breakers", "full", "memory"];
        let row = |shard: &Value| {
            let figure = |name: &str| grouped(number(shard, name));
            let counted = |name: &str| grouped(number(&shard["account"], name));
            [
                figure("shard"),
                figure("agents"),
                figure("waiting"),
                counted("pending"),
                counted("accepted"),
                figure("dead_letters"),
                figure("breakers_open"),
                figure("receivers_closed"),
                sized(number(shard, "memory_bytes")),
            ]
        };
        let rows: Vec<_> = list(&self.current.stats, "shards").iter().map(row).collect();
        table(HEADINGS, &rows, width)
    }

    fn agents(&self, width: usize) -> Vec<Line<'static>> {
        const HEADINGS: [&str; 6] = ["oldest", "messages", "shard", "bytes", "state", "agent"];
        let mut rows: Vec<_> = self.current.agents.iter().collect();
        self.sort.apply(&mut rows);
        let row = |row: &&Row| {
            [
                row.oldest_ms.map_or_else(|| "-".to_owned(), |age| format!("{:.1} s", age as f64 / 1e3)),
                grouped(row.messages),
                row.shard.to_string(),
                sized(row.bytes),
                row.state.clone(),
                printable(&row.name).into_owned(),
            ]
        };
        let rows: Vec<_> = rows.iter().map(row).collect();
        // The name is what the table is for, so it comes first if there is not room for everything.
        if width < 60 {
            let rows: Vec<_> =
                rows.into_iter().map(|[oldest, messages, _, _, _, name]| [oldest, messages, name]).collect();
            return table(["oldest", "messages", "agent"], &rows, width);
        }
        table(HEADINGS, &rows, width)
    }

    fn help() -> Vec<Line<'static>> {
        let mut lines = vec![Line::styled("keys", BOLD)];
        for (key, _, what) in Sort::KEYS {
            lines.push(Line::from(format!("  {key}  sort agents by {what}")));
        }
        lines.push(Line::from("  p  pause, and go on"));
        lines.push(Line::from("  ?  show or hide this help"));
        lines.push(Line::from("  q  quit"));
        lines
    }
}

impl Widget for &View {
    fn render(self, area: Rect, buffer: &mut Buffer) {
        let Some(height) = usize::from(area.height).checked_sub(1) else { return };
        let width = usize::from(area.width);
        let mut lines = self.head();
        if self.shows_help {
            lines.extend(View::help());
        } else {
            let agents = self.agents(width);
            let mut shards = self.shards(width);
            // Many shards leave half of the rest to the agents.
            let rest = height.saturating_sub(lines.len() + 1);
            shards.truncate((rest - rest.min(agents.len())).max(rest / 2).max(2));
            lines.push(Line::default());
            lines.extend(shards);
            lines.push(Line::default());
            lines.extend(agents);
        }
        for (line, y) in lines.iter().take(height).zip(area.y..) {
            buffer.set_line(area.x, y, line, area.width);
        }
        let keys = Line::styled("q quit  ? help  p pause  o m b n sort", DIM);
        buffer.set_line(area.x, area.y + area.height - 1, &keys, area.width);
    }
}

/// Returns a table of the columns that fit. All but the last one stand at the right.
fn table<const COLUMNS: usize>(
    headings: [&str; COLUMNS],
    rows: &[[String; COLUMNS]],
    width: usize,
) -> Vec<Line<'static>> {
    let is_text = |column: usize| matches!(headings[column], "state" | "agent");
    let widest = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; COLUMNS] = std::array::from_fn(|column| widest(column).max(headings[column].len()));
    let mut end = 0;
    let fits = |wide: &&usize| {
        end += **wide + 2;
        end <= width + 2
    };
    let columns = widths.iter().take_while(fits).count();
    // The last column, if it is a name, may be cut off.
    let columns = if columns + 1 == COLUMNS && is_text(COLUMNS - 1) { COLUMNS } else { columns };
    let line = |cells: &[&str]| {
        let padded = cells.iter().enumerate().take(columns).map(|(column, cell)| {
            let padding = " ".repeat(widths[column].saturating_sub(cell.chars().count()));
            if is_text(column) { format!("{cell}{padding}") } else { format!("{padding}{cell}") }
        });
        padded.collect::<Vec<_>>().join("  ")
    };
    let heading = Line::styled(format!("{:<width$}", line(&headings)), HEADING);
    let rows = rows.iter().map(|row| Line::from(line(&row.each_ref().map(String::as_str))));
    std::iter::once(heading).chain(rows).collect()
}

fn grouped(number: u64) -> String {
    thousands(number as f64)
}

/// Returns a rate: small ones with a decimal.
fn rounded(rate: f64) -> String {
    if rate >= 10.0 || rate == 0.0 {
        return thousands(rate.round());
    }
    format!("{rate:.1}")
}
