//! Text that others wrote, made fit for headers, terminals and limits.

/// Without what a terminal would obey: some of the text is written by others than us (annotations, answers
/// of members), and kubectl prints it raw. The API server drops a warning with a control character.
pub(super) fn printable(text: &str) -> String {
    let tame = |c: char| {
        c == '\n'
            || !(c.is_control()
                || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'))
    };
    text.chars().map(|c| if tame(c) { c } else { ' ' }).collect()
}

/// At most `limit` bytes of `text`, with a sign where something is missing.
pub(super) fn cut(text: &str, limit: usize) -> String {
    const SIGN: &str = " [...]";
    if text.len() <= limit {
        return text.to_owned();
    }
    let room = limit.saturating_sub(SIGN.len());
    let end = (0..=room).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    format!("{}{SIGN}", text.get(..end).unwrap_or_default())
}

/// `text` in lines of at most `width` characters, broken between words where that is possible; the lines
/// after the first are indented, so that they are read as one.
pub(super) fn wrap(text: &str, width: usize) -> Vec<String> {
    const INDENT: &str = "  ";
    let mut lines: Vec<String> = Vec::new();
    let mut line = String::new();
    let mut length = 0;
    for word in text.split_whitespace() {
        let mut word: Vec<char> = word.chars().collect();
        loop {
            let begun = usize::from(!line.trim().is_empty());
            if length + begun + word.len() <= width {
                if begun == 1 {
                    line.push(' ');
                }
                length += begun + word.len();
                line.extend(word.drain(..));
                break;
            }
            if begun == 0 {
                // Longer than a line: break it anywhere.
                let rest = word.split_off(width - length);
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_cut_is_seen_and_falls_between_characters() {
        assert_eq!(cut("as it is", 8), "as it is");
        assert_eq!(cut("longer than that", 12), "longer [...]");
        assert_eq!(cut("한국어 문장", 10), "한 [...]");
    }

    proptest! {
        #[test]
        fn wrapping_loses_no_word(text in "[a-z ]{0,600}") {
            let lines = wrap(&text, 40);
            let all = lines.join("").replace(' ', "");
            prop_assert_eq!(all, text.replace(' ', ""));
        }
    }
}
