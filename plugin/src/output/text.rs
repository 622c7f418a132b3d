//! Tables, wrapped lines, and numbers as people write them.

use anstyle::Style;
use k8s_openapi::jiff::{SignedDuration, Timestamp};

/// One cell of a table.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cell {
    text: String,
    style: Style,
}

impl Cell {
    /// A cell that stands out.
    pub(crate) fn styled(text: impl Into<String>, style: Style) -> Self {
        Self { text: text.into(), style }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self { text: text.into(), style: Style::new() }
    }
}

/// Aligns columns as kubectl does: three spaces between them, no lines. Empty cells become `-`.
pub(crate) fn table(header: &[&str], rows: &[Vec<Cell>]) -> String {
    let mut widths: Vec<usize> = header.iter().map(|title| title.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.text.chars().count());
        }
    }
    let mut lines = Vec::with_capacity(rows.len() + 1);
    let titles: Vec<Cell> = header.iter().map(|title| Cell::from(*title)).collect();
    for row in std::iter::once(&titles).chain(rows) {
        let mut line = String::new();
        let mut gap = 0;
        for (cell, width) in row.iter().zip(&widths) {
            let text = if cell.text.is_empty() { "-" } else { cell.text.as_str() };
            let style = cell.style;
            line = format!("{line}{:gap$}{style}{text}{style:#}", "");
            gap = width.saturating_sub(text.chars().count()) + 3;
        }
        lines.push(line);
    }
    lines.join("\n")
}

/// Breaks lines at spaces so that none is wider than `width`; continued lines are indented like the line they
/// continue, and by `hang` more. A number stays with its unit, and a command of kubectl's in one piece: it is there to
/// be copied.
pub(crate) fn wrap(text: &str, width: Option<usize>, hang: usize) -> String {
    let Some(width) = width else { return text.to_owned() };
    text.lines().map(|line| wrap_line(line, width, hang)).collect::<Vec<_>>().join("\n")
}

fn wrap_line(line: &str, width: usize, hang: usize) -> String {
    if visible(line) <= width {
        return line.to_owned();
    }
    let indent = line.chars().take_while(|character| *character == ' ').count();
    let mut lines = Vec::new();
    let mut current = " ".repeat(indent);
    let mut empty = true;
    // Every single space separates: what is aligned by several stays aligned.
    for word in line.trim_start().split(' ') {
        let wide = visible(&current) + usize::from(!empty) + visible(word);
        if !empty && wide > width {
            lines.push(current.trim_end().to_owned());
            current = " ".repeat(indent + hang);
            empty = true;
        }
        if !empty {
            current.push(' ');
        }
        current.push_str(word);
        empty = false;
    }
    lines.push(current);
    lines.join("\n").replace(GLUE, " ")
}

/// Holds together what belongs together while lines are broken.
const GLUE: char = '\u{a0}';

/// The line, glued where it must not be broken.
fn held(line: &str) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "s"];
    let mut held = String::with_capacity(line.len());
    let mut command = false;
    for (place, word) in line.split(' ').enumerate() {
        // Before the end of a style, and of the sentence.
        let bare = word.split('\u{1b}').next().unwrap_or_default();
        let bare = bare.trim_end_matches([',', ';', ')']).trim_end_matches("/s");
        command = command && !word.starts_with('(');
        match place {
            0 => {}
            _ if command || UNITS.contains(&bare) => held.push(GLUE),
            _ => held.push(' '),
        }
        held.push_str(word);
        command = command || word.trim_start_matches(['(', '`']) == "kubectl";
        command = command && !word.ends_with([',', ';', ')', '`', ':']);
    }
    held
}

/// Columns a text takes, styles not counted.
fn visible(text: &str) -> usize {
    anstream::adapter::strip_str(text).to_string().chars().count()
}

/// `1 instance`, `3 instances`.
pub(crate) fn instances(count: i64) -> String {
    if count == 1 { "1 instance".to_owned() } else { format!("{count} instances") }
}

/// Seconds to the tenth: more would claim more than looks can tell.
pub(crate) fn tenths(seconds: f64) -> f64 {
    (seconds * 10.0).round() / 10.0
}

/// A write-ahead log position as PostgreSQL writes it (`pg_lsn`).
pub(crate) fn lsn(position: u64) -> String {
    format!("{:X}/{:X}", position >> 32, position & 0xFFFF_FFFF)
}

/// A size in bytes, in binary units.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut tenths = u128::from(count) * 10 / 1024;
    let mut unit = UNITS[0];
    for larger in &UNITS[1..] {
        if tenths < 10_240 {
            break;
        }
        tenths /= 1024;
        unit = larger;
    }
    format!("{}.{} {unit}", tenths / 10, tenths % 10)
}

    let line = held(line);
/// A span of time, to the second: `42s`, `7m05s`, `3h20m`.
pub(crate) fn span(time: std::time::Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h{:02}m", seconds / 3600, seconds % 3600 / 60),
    }
}

/// Time since `then`, as kubectl writes ages: `42s`, `7m`, `3h`, `12d`.
pub(crate) fn age(then: Option<Timestamp>, now: Timestamp) -> String {
    let Some(then) = then else { return String::new() };
    let seconds = SignedDuration::from_secs(now.as_second() - then.as_second()).as_secs().max(0);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7200 => format!("{}m", seconds / 60),
        7200..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_align_and_say_when_a_cell_is_empty() {
        let rows = vec![
            vec!["acid-a-0".into(), Cell::styled("leader", crate::output::GOOD), "1".into()],
            vec!["acid-a-10".into(), "".into(), "2".into()],
        ];
        let table =
            anstream::adapter::strip_str(&table(&["NAME", "ROLE", "TL"], &rows)).to_string();
        insta::assert_snapshot!(table, @r"
        NAME        ROLE     TL
        acid-a-0    leader   1
        acid-a-10   -        2
        ");
    }

    #[test]
    fn long_lines_are_broken_under_themselves() {
        insta::assert_snapshot!(wrap("  Try: kubectl pgscale down acid-a --to 4", Some(24), 2), @"
        Try:
          kubectl pgscale down acid-a --to 4
        ");
        assert_eq!(wrap("a b", None, 0), "a b");
    }

    #[test]
    fn numbers_read_as_people_write_them() {
        assert_eq!(lsn(0x1_0300_0060), "1/3000060");
        for (count, want) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1536, "1.5 KiB"),
            (16 << 20, "16.0 MiB"),
            (5 << 40, "5.0 TiB"),
        ] {
            assert_eq!(bytes(count), want);
        }
        for (seconds, want) in [(0, "0s"), (59, "59s"), (425, "7m05s"), (12_000, "3h20m")] {
            assert_eq!(span(std::time::Duration::from_secs(seconds)), want);
        }
        let now: Timestamp = "2026-11-24T10:00:00Z".parse().unwrap();
        for (then, want) in [
            ("2026-11-24T09:59:18Z", "42s"),
            ("2026-11-24T09:30:00Z", "30m"),
            ("2026-11-20T10:00:00Z", "4d"),
        ] {
            assert_eq!(age(Some(then.parse().unwrap()), now), want);
        }
    }
}
