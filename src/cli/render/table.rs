use super::{Colour, Style};

/// Columns aligned by spaces, without borders, so that awk(1) can read them too.
#[derive(Debug)]
pub(in crate::cli) struct Table<const N: usize> {
    rows: Vec<[Cell; N]>,
}

#[derive(Debug, Clone, Default)]
pub(in crate::cli) struct Cell {
    text: String,
    colour: Option<Colour>,
}

impl Cell {
    pub(in crate::cli) fn new(text: impl Into<String>, colour: Option<Colour>) -> Self {
        Self {
            text: text.into(),
            colour,
        }
    }

    fn width(&self) -> usize {
        self.text.chars().count()
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::new(text, None)
    }
}

impl<const N: usize> Table<N> {
    pub(in crate::cli) fn new(heading: [&str; N]) -> Self {
        Self {
            rows: vec![heading.map(|word| Cell::new(word, Some(Colour::Bold)))],
        }
    }

    /// A table without a heading.
    pub(in crate::cli) const fn bare() -> Self {
        Self { rows: Vec::new() }
    }

    pub(in crate::cli) fn row(&mut self, cells: [Cell; N]) {
        self.rows.push(cells);
    }

    /// An empty cell is a "-": every line has as many words as the heading.
    pub(in crate::cli) fn render(mut self, style: Style) -> String {
        for cell in self.rows.iter_mut().flatten().filter(|cell| cell.text.is_empty()) {
            "-".clone_into(&mut cell.text);
        }
        let widths: [usize; N] = std::array::from_fn(|column| {
            let cells = self.rows.iter().map(|row| row[column].width());
            cells.max().unwrap_or(0)
        });
        let mut text = String::new();
        for row in &self.rows {
            for (column, cell) in row.iter().enumerate() {
                text += &style.paint(cell.colour, &cell.text);
                if column + 1 < N {
                    text.extend(std::iter::repeat_n(' ', widths[column] - cell.width() + 2));
                }
            }
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Style = Style {
        colours: false,
        relative_times: false,
    };

    #[test]
    fn columns_are_aligned_and_lines_have_no_trailing_space() {
        let mut table = Table::new(["ID", "STATE", "LABELS"]);
        table.row(["a".into(), "RUNNING".into(), "".into()]);
        table.row(["grün".into(), "".into(), "k=v".into()]);
        assert_eq!(
            table.render(PLAIN),
            "ID    STATE    LABELS\n\
             a     RUNNING  -\n\
             grün  -        k=v\n"
        );
    }

    #[test]
    fn colours_do_not_move_columns() {
        let mut table = Table::bare();
        table.row([Cell::new("ab", Some(Colour::Green)), "x".into()]);
        table.row(["abcd".into(), "y".into()]);
        let style = Style {
            colours: true,
            ..PLAIN
        };
        assert_eq!(table.render(style), "\u{1b}[32mab\u{1b}[0m    x\nabcd  y\n");
    }
}
