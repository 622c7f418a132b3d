//! Text written by others, made safe to print.

/// Returns `text` on one line, without characters that a terminal obeys or that turn the direction of reading.
///
/// Annotations, Events and the answers of members are written by others. A line break in them could begin what reads like
/// the advice of a rule.
pub fn printable(text: &str) -> String {
    let obeyed = |c: char| {
        c.is_control()
            || matches!(
                c,
                '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}'
            )
    };
    text.chars().map(|c| if obeyed(c) { ' ' } else { c }).collect()
}
