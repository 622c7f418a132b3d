//! Text that others wrote, made to fit headers, terminals and limits.

use pgscale_guard::printable::printable as line;
use unicode_width::UnicodeWidthChar as _;

/// Returns `text` without characters that a terminal obeys, line breaks aside.
///
/// Others wrote some of the text (annotations, answers of members), and kubectl prints it as it is.
/// The API server drops a warning with a control character.
pub(super) fn printable(text: &str) -> String {
    let lines: Vec<String> = text.split('\n').map(line).collect();
    lines.join("\n")
}

/// Returns at most `limit` bytes of `text`, with a sign at the end where something is missing.
pub(super) fn cut(text: &str, limit: usize) -> String {
    const SIGN: &str = " [...]";
    if text.len() <= limit {
        return text.to_owned();
    }
    let room = limit.saturating_sub(SIGN.len());
    let end = (0..=room).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    format!("{}{SIGN}", text.get(..end).unwrap_or_default())
}

/// Returns `text` in lines of at most `width` columns of a terminal and at most `width` characters.
///
/// It breaks them between words where that is possible. The lines after the first are indented, so
/// that people read all of them as one text.
pub(super) fn wrap(text: &str, width: usize) -> Vec<String> {
    const INDENT: &str = "  ";
    let mut lines: Vec<String> = Vec::new();
    let mut line = String::new();
    let mut length = 0;
    for word in text.split_whitespace() {
        let mut word: Vec<char> = word.chars().collect();
        loop {
            let begun = usize::from(!line.trim().is_empty());
            let wide: usize = word.iter().copied().map(columns).sum();
            if length + begun + wide <= width {
                if begun == 1 {
                    line.push(' ');
                }
                length += begun + wide;
                line.extend(word.drain(..));
                break;
            }
            if begun == 0 {
                // The word is longer than a line, so it is broken anywhere.
                let mut room = width.saturating_sub(length);
                let fits = word.iter().take_while(|character| {
                    let left = room.checked_sub(columns(**character));
                    room = left.unwrap_or_default();
                    left.is_some()
                });
                let fits = fits.count().max(1);
                let rest = word.split_off(fits);
                line.extend(word);
                word = rest;
            }
            lines.push(std::mem::replace(&mut line, INDENT.to_owned()));
            length = INDENT.len();
        }
    }
    if !line.trim().is_empty() {
        lines.push(line);
    }
    lines
}

/// Returns the share of a line that a character takes: its columns, and one at least, because the
/// API server counts characters.
fn columns(character: char) -> usize {
    character.width().unwrap_or_default().max(1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use unicode_width::UnicodeWidthStr as _;

    use super::*;

    #[test]
    fn cut_is_marked_and_falls_between_characters() {
        assert_eq!(cut("as it is", 8), "as it is");
        assert_eq!(cut("longer than that", 12), "longer [...]");
        assert_eq!(cut("한국어 문장", 10), "한 [...]");
    }

    #[test]
    fn korean_warning_is_wrapped_within_the_width() {
        let lines = wrap("명절 동결: 설 연휴 동안에는 아무도 크기를 바꾸지 않습니다", 24);
        assert_eq!(lines, ["명절 동결: 설 연휴", "  동안에는 아무도 크기를", "  바꾸지 않습니다"]);
        assert_eq!(wrap("데이터베이스클러스터", 11), ["데이터베이", "  스클러스", "  터"]);
    }

    proptest! {
        #[test]
        fn no_line_has_more_columns_or_characters_than_the_width(
            text in "[a-c한국語\\u{301}\\u{200d} ]{0,300}",
        ) {
            for line in wrap(&text, 40) {
                prop_assert!(line.width() <= 40, "{line}");
                prop_assert!(line.chars().count() <= 40, "{line}");
            }
        }

        #[test]
        fn wrapping_loses_no_word(text in "[a-z한국語 ]{0,600}") {
            let lines = wrap(&text, 40);
            let all = lines.join("").replace(' ', "");
            prop_assert_eq!(all, text.replace(' ', ""));
        }
    }
}
