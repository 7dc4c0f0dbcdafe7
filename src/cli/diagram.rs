//! Sequence diagrams of conversations, for a terminal and in Mermaid syntax.

use std::fmt::Write as _;

use super::printable;

/// Width of a participant's column, in characters.
const COLUMN: usize = 24;

/// A conversation to draw.
#[derive(Default)]
pub struct Diagram {
    /// The names of the participants.
    pub participants: Vec<String>,
    pub steps: Vec<Step>,
}

/// A message from one participant to another, by their places.
pub struct Step {
    pub from: usize,
    pub to: usize,
    pub performative: String,
    /// Whether it violates the protocol.
    pub violates: bool,
}

impl Diagram {
    /// Draws columns for participants, arrows for messages.
    pub fn in_text(&self) -> String {
        let mut text = String::new();
        for name in &self.participants {
            let name: String = printable(name).chars().take(COLUMN - 2).collect();
            let _ = write!(text, "{name:<COLUMN$}");
        }
        text = text.trim_end().to_owned() + "\n";
        for step in &self.steps {
            text.push_str(&step.arrow(self.participants.len()));
            text.push('\n');
        }
        text
    }

    /// Draws it in Mermaid syntax.
    pub fn in_mermaid(&self) -> String {
        let mut text = String::from("sequenceDiagram\n");
        for (place, name) in self.participants.iter().enumerate() {
            let _ = writeln!(text, "    participant a{place} as {}", printable(name).replace([';', ':', '#'], " "));
        }
        for Step { from, to, performative, violates } in &self.steps {
            let _ = writeln!(text, "    a{from}->>a{to}: {}", printable(performative));
            if *violates {
                let _ = writeln!(text, "    Note over a{to}: violates the protocol");
            }
        }
        text
    }
}

impl Step {
    fn arrow(&self, participants: usize) -> String {
        let Self { from, to, performative, violates } = self;
        let label = printable(performative);
        let mut line: Vec<char> = vec![' '; participants * COLUMN];
        for column in 0..participants {
            line[column * COLUMN] = '|';
        }
        let (left, right) = (from.min(to) * COLUMN, from.max(to) * COLUMN);
        if from == to {
            let arrow = format!("<- {label}");
            line.splice(left + 1..(left + 1 + arrow.chars().count()).min(left + COLUMN), arrow.chars());
        } else {
            line[left + 1..right].fill('-');
            if from < to {
                line[right - 1] = '>';
            } else {
                line[left + 1] = '<';
            }
            let at = left + 3;
            for (place, letter) in format!(" {label} ").chars().enumerate().take(right.saturating_sub(at + 1)) {
                line[at + place] = letter;
            }
        }
        let mut line: String = line.into_iter().collect::<String>().trim_end().to_owned();
        if *violates {
            line.push_str("   violates the protocol");
        }
        line
    }
}
