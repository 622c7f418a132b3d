//! The end of a JSON text that arrives in pieces.

use crate::patroni::bounded::Scan;

/// A walk through a text until its first object or array has ended.
#[derive(Debug, Default)]
pub(super) struct JsonEnd {
    scan: Scan,
    depth: usize,
    ended: bool,
    /// Whether it begins with a bracket. `None` before the first byte that is no white space.
    json: Option<bool>,
}

impl JsonEnd {
    /// Takes the next bytes. Returns whether the object or array has ended.
    ///
    /// Each byte is looked at once, however many pieces the text comes in.
    pub(super) fn reached(&mut self, bytes: &[u8]) -> bool {
        for &byte in bytes {
            if !byte.is_ascii_whitespace() {
                self.json.get_or_insert(matches!(byte, b'{' | b'['));
            }
            // Words, which may have brackets as well, have no end that can be seen.
            if !self.scan.outside(byte) || self.json == Some(false) {
                continue;
            }
            match byte {
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => {
                    self.depth = self.depth.saturating_sub(1);
                    self.ended |= self.depth == 0;
                }
                _ => {}
            }
        }
        self.ended
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "it is for tests")]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::patroni::bounded::tests::any_json;

    proptest! {
        #[test]
        fn end_is_found_in_whatever_pieces_the_text_comes(value in any_json(), size in 1_usize..9) {
            let text = json!({"state": value}).to_string();
            let mut end = JsonEnd::default();
            let pieces: Vec<&[u8]> = text.as_bytes().chunks(size).collect();
            let (last, before) = pieces.split_last().unwrap();
            for piece in before {
                prop_assert!(!end.reached(piece), "{text}");
            }
            prop_assert!(end.reached(last), "{text}");
        }
    }

    #[test]
    fn words_have_no_end() {
        assert!(!JsonEnd::default().reached(b"no candidates: ['acid-a-1']"));
    }
}
