//! Tables, wrapped lines, and numbers in a notation for people.

use std::time::Duration;

use anstyle::Style;
use k8s_openapi::jiff::Timestamp;
use pgscale_guard::duration;
use pgscale_guard::printable::printable;
use pgscale_guard::remedy::Line;
use unicode_width::UnicodeWidthStr as _;

/// One cell of a table.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cell {
    text: String,
    style: Style,
}

impl Cell {
    /// Returns a cell that stands out.
    pub(crate) fn styled(text: impl Into<String>, style: Style) -> Self {
        Self { text: printable(&text.into()), style }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self { text: printable(&text.into()), style: Style::new() }
    }
}

/// Columns between two columns of a table, as in kubectl, and where they would not fit otherwise.
const GAP: usize = 3;
const CLOSE: usize = 2;

/// The least width of a column with sentences.
const NARROWEST: usize = 20;

/// Aligns columns as kubectl does: three spaces between them, no lines. Empty cells become `-`.
pub(crate) fn table(header: &[&str], rows: &[Vec<Cell>]) -> String {
    fitted(header, rows, None)
}

/// Aligns columns within `width` columns where that is possible.
///
/// Columns stand closer together, and sentences in cells continue below, under themselves. A table
/// of words that are too wide together keeps its width.
pub(crate) fn fitted(header: &[&str], rows: &[Vec<Cell>], width: Option<usize>) -> String {
    rows_of(header, rows, width).join("\n")
}

/// Returns the table without the columns of these titles.
pub(crate) fn without<'a>(
    header: &[&'a str],
    rows: Vec<Vec<Cell>>,
    titles: &[&str],
) -> (Vec<&'a str>, Vec<Vec<Cell>>) {
    let keep: Vec<bool> = header.iter().map(|title| !titles.contains(title)).collect();
    let kept = |row: Vec<Cell>| {
        let cells = row.into_iter().zip(&keep);
        cells.filter_map(|(cell, keep)| keep.then_some(cell)).collect()
    };
    let titles = header.iter().zip(&keep).filter_map(|(title, keep)| keep.then_some(*title));
    (titles.collect(), rows.into_iter().map(kept).collect())
}

/// Returns the table without as many columns of `spare` as it takes to fit into `width`, the first
/// one first.
pub(crate) fn spared<'a>(
    header: &[&'a str],
    rows: Vec<Vec<Cell>>,
    width: Option<usize>,
    spare: &[&str],
) -> (Vec<&'a str>, Vec<Vec<Cell>>) {
    spared_for(header, rows, width, spare, None)
}

/// Returns the same, where the column with the title of `roomy` should not get narrower than so many
/// columns for its sentences.
pub(crate) fn spared_for<'a>(
    header: &[&'a str],
    rows: Vec<Vec<Cell>>,
    width: Option<usize>,
    spare: &[&str],
    roomy: Option<(&str, usize)>,
) -> (Vec<&'a str>, Vec<Vec<Cell>>) {
    let (mut header, mut rows) = (header.to_vec(), rows);
    for title in spare {
        let laid = rows_of(&header, &rows, width);
        let fits = |width: usize| {
            laid.iter().flat_map(|row| row.lines()).all(|line| columns(line) <= width)
                && roomy.is_none_or(|roomy| has_room(&header, &rows, width, roomy))
        };
        if width.is_none_or(fits) {
            break;
        }
        (header, rows) = without(&header, rows, &[title]);
    }
    (header, rows)
}

/// Returns whether the column of `roomy` gets so many columns, or as many as its cells need.
fn has_room(header: &[&str], rows: &[Vec<Cell>], width: usize, roomy: (&str, usize)) -> bool {
    let Some(place) = header.iter().position(|title| *title == roomy.0) else { return true };
    let (natural, least) = measured(header, rows);
    let wanted = natural.get(place).map_or(0, |natural| roomy.1.min(*natural));
    let given = narrowed(&natural, &least, width);
    given.is_some_and(|(widths, _)| widths.get(place).is_some_and(|width| *width >= wanted))
}

/// Returns the header and each row as [`fitted`] lays them out.
pub(crate) fn rows_of(header: &[&str], rows: &[Vec<Cell>], width: Option<usize>) -> Vec<String> {
    let (natural, least) = measured(header, rows);
    let (widths, gap) = width
        .and_then(|width| narrowed(&natural, &least, width))
        .unwrap_or_else(|| (natural.clone(), GAP));
    let titles: Vec<Cell> = header.iter().map(|title| Cell::from(*title)).collect();
    let rows = std::iter::once(&titles).chain(rows);
    rows.map(|row| lines_of(row, &widths, gap).join("\n")).collect()
}

/// Returns the width that each column needs on one line, and the least that its words allow.
fn measured(header: &[&str], rows: &[Vec<Cell>]) -> (Vec<usize>, Vec<usize>) {
    let mut natural: Vec<usize> = header.iter().map(|title| columns(title)).collect();
    let words = |title: &&str| title.split(' ').map(columns).max().unwrap_or_default();
    let mut least: Vec<usize> = header.iter().map(words).collect();
    for row in rows {
        for ((natural, least), cell) in natural.iter_mut().zip(&mut least).zip(row) {
            let wide = columns(&cell.text);
            let glued = glued(&cell.text);
            let words = glued.split(' ').map(columns);
            *natural = (*natural).max(wide);
            *least = (*least).max(words.max().unwrap_or_default()).max(wide.min(NARROWEST));
        }
    }
    (natural, least)
}

/// Returns widths, and a gap between them, with a sum of at most `width`.
fn narrowed(natural: &[usize], least: &[usize], width: usize) -> Option<(Vec<usize>, usize)> {
    let fits = |widths: &[usize], gap: usize| {
        widths.iter().sum::<usize>() + gap * widths.len().saturating_sub(1) <= width
    };
    for gap in [GAP, CLOSE] {
        if fits(natural, gap) {
            return Some((natural.to_vec(), gap));
        }
    }
    for gap in [GAP, CLOSE] {
        let mut widths = natural.to_vec();
        // The widest column is narrowed first, down to its least width.
        while !fits(&widths, gap) {
            let broad = widths.iter_mut().zip(least).filter(|(width, least)| **width > **least);
            let Some((widest, _)) = broad.max_by_key(|(width, _)| **width) else { break };
            *widest -= 1;
        }
        if fits(&widths, gap) {
            return Some((widths, gap));
        }
    }
    None
}

/// Returns one row, on as many lines as its cells need.
fn lines_of(row: &[Cell], widths: &[usize], between: usize) -> Vec<String> {
    let cells: Vec<(Vec<String>, Style)> = row
        .iter()
        .zip(widths)
        .map(|(cell, width)| {
            let text = if cell.text.is_empty() { "-" } else { cell.text.as_str() };
            (wrap(text, Some(*width), 0).lines().map(str::to_owned).collect(), cell.style)
        })
        .collect();
    let height = cells.iter().map(|(lines, _)| lines.len()).max().unwrap_or_default();
    let line = |index: usize| {
        let mut line = String::new();
        let mut gap = 0;
        for ((lines, style), width) in cells.iter().zip(widths) {
            let text = lines.get(index).map_or("", String::as_str);
            let style = if text.is_empty() { Style::new() } else { *style };
            line = format!("{line}{:gap$}{style}{text}{style:#}", "");
            gap = width.saturating_sub(columns(text)) + between;
        }
        line.trim_end().to_owned()
    };
    (0..height).map(line).collect()
}

/// Breaks lines at spaces so that none is wider than `width`.
///
/// Continued lines are indented like the line that they continue, and by `hang` more. A number
/// stays with its unit, and a kubectl command in one piece, because people copy it.
pub(crate) fn wrap(text: &str, width: Option<usize>, hang: usize) -> String {
    let Some(width) = width else { return text.to_owned() };
    text.lines().map(|line| wrap_line(line, width, hang)).collect::<Vec<_>>().join("\n")
}

fn wrap_line(line: &str, width: usize, hang: usize) -> String {
    if columns(line) <= width {
        return line.to_owned();
    }
    let line = glued(line);
    let indent = line.chars().take_while(|character| *character == ' ').count();
    let mut lines = Vec::new();
    let mut current = " ".repeat(indent);
    let mut empty = true;
    // Every single space separates, so columns that are aligned by several spaces stay aligned.
    for word in line.trim_start().split(' ') {
        let wide = columns(&current) + usize::from(!empty) + columns(word);
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

/// A space at which lines are not broken.
const GLUE: char = '\u{a0}';

/// Returns the line with every number glued to its unit.
fn glued(line: &str) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "s"];
    let mut glued = String::with_capacity(line.len());
    for (place, word) in line.split(' ').enumerate() {
        // Without the end of a style, and of the sentence.
        let bare = word.split('\u{1b}').next().unwrap_or_default();
        let bare = bare.trim_end_matches([',', ';', ')']).trim_end_matches("/s");
        match place {
            0 => {}
            _ if UNITS.contains(&bare) => glued.push(GLUE),
            _ => glued.push(' '),
        }
        glued.push_str(word);
    }
    glued
}

/// Returns lines as one text: sentences are broken as [`wrap`] does, commands never are.
pub(crate) fn laid_out(lines: &[Line], width: Option<usize>, hang: usize) -> String {
    let lines = lines.iter().map(|line| match line {
        Line::Text(text) => wrap(text, width, hang),
        Line::Command(command) => command.clone(),
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Returns the number of columns that a text takes on a terminal.
///
/// Styles and combining marks take none, a Korean syllable takes two.
pub(crate) fn columns(text: &str) -> usize {
    anstream::adapter::strip_str(text).to_string().width()
}

/// Returns the text, filled up with spaces to `width` columns.
///
/// `{:<width$}` counts characters, and would move the next column for Korean text.
pub(crate) fn padded(text: &str, width: usize) -> String {
    format!("{text}{}", " ".repeat(width.saturating_sub(columns(text))))
}

/// Returns the first `width` columns of a text without styles. Three dots stand for the rest.
pub(crate) fn cut(text: &str, width: usize) -> String {
    if columns(text) <= width {
        return text.to_owned();
    }
    let dots = ".".repeat(width.min(3));
    let mut kept = String::new();
    for character in text.chars() {
        kept.push(character);
        if columns(&kept) + dots.len() > width {
            kept.pop();
            break;
        }
    }
    kept + &dots
}

/// Returns the first `width` columns of a text, its styles kept, and ended where it is cut.
pub(crate) fn cut_styled(text: &str, width: usize) -> String {
    if columns(text) <= width {
        return text.to_owned();
    }
    let mut kept = String::new();
    let mut rest = text.chars();
    while let Some(character) = rest.next() {
        if character == '\u{1b}' {
            // A style takes no column: it goes on to its letter.
            kept.push(character);
            for part in rest.by_ref() {
                kept.push(part);
                if part.is_ascii_alphabetic() {
                    break;
                }
            }
            continue;
        }
        kept.push(character);
        if columns(&kept) > width {
            kept.pop();
            break;
        }
    }
    if kept.contains('\u{1b}') {
        kept.push_str("\u{1b}[0m");
    }
    kept
}

/// Returns `1 instance` or `3 instances`.
pub(crate) fn instances(count: i64) -> String {
    if count == 1 { "1 instance".to_owned() } else { format!("{count} instances") }
}

/// Returns seconds to the tenth: polling cannot measure more precisely.
pub(crate) fn tenths(seconds: f64) -> f64 {
    (seconds * 10.0).round() / 10.0
}

/// Returns a WAL position as PostgreSQL writes it (`pg_lsn`).
pub(crate) fn lsn(position: u64) -> String {
    format!("{:X}/{:X}", position >> 32, position & 0xFFFF_FFFF)
}

/// Returns a size in bytes, in binary units.
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

/// Returns the time since `then` as kubectl writes ages. Empty where it is not known.
pub(crate) fn age(then: Option<Timestamp>, now: Timestamp) -> String {
    then.map_or(String::new(), |then| duration::age(then, now))
}

/// Returns measured seconds in the notation for people.
pub(crate) fn took(seconds: f64) -> String {
    // A record is a text that others can write: negative seconds are no duration.
    Duration::try_from_secs_f64(seconds).map_or("unknown".to_owned(), duration::measured)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_aligns_and_marks_empty_cells() {
        let rows = vec![
            vec!["acid-a-0".into(), Cell::styled("leader", crate::terminal::GOOD), "1".into()],
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
    fn too_wide_table_closes_up_before_it_breaks_sentences() {
        let rows = vec![
            vec!["acid-a-0".into(), "leader".into(), "".into()],
            vec![
                "acid-a-1".into(),
                "replica".into(),
                "990 B behind the leader, and stalled".into(),
            ],
        ];
        let at = |width| fitted(&["MEMBER", "ROLE", "STATE"], &rows, width);
        insta::assert_snapshot!(at(Some(57)), @"
        MEMBER     ROLE      STATE
        acid-a-0   leader    -
        acid-a-1   replica   990 B behind the leader, and stalled
        ");
        insta::assert_snapshot!(at(Some(55)), @"
        MEMBER    ROLE     STATE
        acid-a-0  leader   -
        acid-a-1  replica  990 B behind the leader, and stalled
        ");
        insta::assert_snapshot!(at(Some(45)), @"
        MEMBER     ROLE      STATE
        acid-a-0   leader    -
        acid-a-1   replica   990 B behind the leader,
                             and stalled
        ");
        assert_eq!(at(Some(30)), at(None), "no column can become narrower");
    }

    /// Returns the beginning of the second column in each line, in columns of the terminal.
    fn starts(table: &str, second: &[&str]) -> Vec<usize> {
        let lines = table.lines().zip(second);
        lines.map(|(line, cell)| columns(line.split_once(cell).unwrap().0)).collect()
    }

    #[test]
    fn korean_cell_aligns_the_next_column() {
        let rows = vec![
            vec!["명절 동결".into(), "eve".into()],
            vec![Cell::styled("freeze", crate::terminal::CARE), "adam".into()],
            // The accent is a character on its own that takes no column.
            vec!["cafe\u{301}".into(), "mary".into()],
        ];
        let shown = table(&["REASON", "BY"], &rows);
        insta::assert_snapshot!(anstream::adapter::strip_str(&shown).to_string(), @"
        REASON      BY
        명절 동결   eve
        freeze      adam
        cafe\u{301}        mary
        ");
        assert_eq!(starts(&shown, &["BY", "eve", "adam", "mary"]), [12; 4]);
    }

    #[test]
    fn korean_sentence_is_wrapped_within_the_width() {
        let sentence =
            "  명절 동결: 설 연휴 동안에는 아무도 데이터베이스 클러스터의 크기를 바꾸지 않습니다";
        // The longest word takes 20 columns, and four go before it.
        for width in 24..90 {
            let wrapped = wrap(sentence, Some(width), 2);
            assert!(wrapped.lines().all(|line| columns(line) <= width), "{width}: {wrapped}");
            let words = |text: &str| text.split_whitespace().collect::<String>();
            assert_eq!(words(&wrapped), words(sentence));
        }
        insta::assert_snapshot!(wrap(sentence, Some(40), 2), @"
          명절 동결: 설 연휴 동안에는 아무도
            데이터베이스 클러스터의 크기를
            바꾸지 않습니다
        ");
    }

    #[test]
    fn cut_never_splits_a_wide_character() {
        for (width, want) in
            [(0, ""), (2, ".."), (5, "한..."), (6, "한..."), (7, "한국..."), (8, "한국어임")]
        {
            assert_eq!(cut("한국어임", width), want, "{width}");
        }
        assert_eq!(cut("as it is", 8), "as it is");
        assert_eq!(cut("as it is.", 8), "as it...");
    }

    #[test]
    fn long_lines_are_broken_under_themselves() {
        insta::assert_snapshot!(wrap("  to keep two that are 2.0 KiB behind", Some(24), 2), @"
          to keep two that are
            2.0 KiB behind
        ");
        assert_eq!(wrap("a b", None, 0), "a b");
    }

    #[test]
    fn command_is_never_broken() {
        let command = "    kubectl pgscale down acid-a --to 4";
        let lines = [Line::Text("Try: to keep two of them:".into()), Line::Command(command.into())];
        insta::assert_snapshot!(laid_out(&lines, Some(16), 2), @"
        Try: to keep two
          of them:
            kubectl pgscale down acid-a --to 4
        ");
        assert_eq!(laid_out(&lines, None, 2).lines().last(), Some(command));
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
        for (seconds, want) in [(1.62, "1.6s"), (45.2, "45s"), (-1.0, "unknown")] {
            assert_eq!(took(seconds), want);
        }
    }
}
