//! Tables for people: no frames, words left, figures right.
//!
//! **Invariant**: a table that is piped looks as in a terminal (test `tables_are_plain`).

use comfy_table::{CellAlignment, ContentArrangement, LineStyle, Table, TableStyle};

/// No borders; a rule under the head.
const STYLE: TableStyle =
    TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─'));

/// How a column is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Set {
    /// Words.
    Left,
    /// Figures.
    Right,
}

/// A table with these heads and rows, as text that ends with a line break.
pub(crate) fn table(heads: &[(&str, Set)], rows: &[Vec<String>]) -> String {
    let mut table = Table::new();
    table
        .load_style(STYLE)
        .set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(heads.iter().map(|(head, _)| *head).collect::<Vec<_>>());
    for (index, (_, set)) in heads.iter().enumerate() {
        if let Some(column) = table.column_mut(index) {
            column.set_padding((0, 1));
            column.set_cell_alignment(match set {
                Set::Left => CellAlignment::Left,
                Set::Right => CellAlignment::Right,
            });
        }
    }
    for row in rows {
        table.add_row(row.clone());
    }
    let mut text = String::new();
    for line in table.lines() {
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_plain() {
        let rows = vec![
            vec!["a".to_owned(), "1".to_owned()],
            vec!["bcd".to_owned(), "10".to_owned()],
        ];
        let text = table(&[("name", Set::Left), ("calls", Set::Right)], &rows);
        assert_eq!(
            text,
            "name  calls\n────────────\na         1\nbcd      10\n"
        );
    }
}
