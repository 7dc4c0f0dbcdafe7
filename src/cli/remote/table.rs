//! Tables for people.

use std::fmt;

use crate::cli::printable;

/// A table with a line of headings. Texts from outside are escaped.
pub struct Table {
    headings: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// Creates a table. A heading that begins with `>` is that of numbers, which stand at the right.
    pub fn new<const COLUMNS: usize>(headings: [&'static str; COLUMNS]) -> Self {
        Self { headings: headings.into(), rows: Vec::new() }
    }

    /// Adds a row, which has a cell for each heading.
    pub fn row<const COLUMNS: usize>(&mut self, cells: &[String; COLUMNS]) {
        assert_eq!(COLUMNS, self.headings.len(), "a row has a cell for each heading");
        self.rows.push(cells.iter().map(|cell| printable(cell).into_owned()).collect());
    }

    /// Whether it has no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let titles: Vec<_> = self.headings.iter().map(|heading| heading.trim_start_matches('>').to_owned()).collect();
        let lines = || std::iter::once(&titles).chain(&self.rows);
        let width = |column: usize| lines().map(|cells| cells[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<_> = (0..titles.len()).map(width).collect();
        for cells in lines() {
            let mut line = String::new();
            for ((cell, width), heading) in cells.iter().zip(&widths).zip(&self.headings) {
                let padding = " ".repeat(width - cell.chars().count());
                if heading.starts_with('>') {
                    line.push_str(&padding);
                    line.push_str(cell);
                } else {
                    line.push_str(cell);
                    line.push_str(&padding);
                }
                line.push_str("  ");
            }
            writeln!(formatter, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_what_a_terminal_obeys_is_escaped() {
        let mut table = Table::new(["agent", ">messages", "state"]);
        assert!(table.is_empty());
        table.row(&["ann\u{1b}".to_owned(), "5".to_owned(), "active".to_owned()]);
        table.row(&["b".to_owned(), "1234567890".to_owned(), String::new()]);
        assert_eq!(
            table.to_string(),
            "agent        messages  state\nann\\u{1b}           5  active\nb          1234567890\n"
        );
    }
}
