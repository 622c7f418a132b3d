//! Text of other writers, made safe to print.

/// Returns `text` on one line, without characters that control a terminal or turn the direction of
/// reading.
///
/// Annotations, Events and the answers of members have other writers. A line break in them could
/// begin a text that looks like the advice of a rule.
pub fn printable(text: &str) -> String {
    let controls = |c: char| {
        c.is_control()
            || matches!(
                c,
                '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}'
            )
    };
    text.chars().map(|c| if controls(c) { ' ' } else { c }).collect()
}
