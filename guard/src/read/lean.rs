//! Answers without what no rule looks at.
//!
//! Half of the JSON values of a pod are in `metadata.managedFields`, which say who has written which field.
//! Decoded, they are the costliest part of a review.

use std::borrow::Cow;

use crate::patroni::bounded::Scan;

/// The beginning of the entries as the API server writes them. In a string the quotes are escaped, so this
/// is always the name of a field.
const BEGIN: &str = "\"managedFields\":[";

/// Returns `text` with no entries in any `managedFields`.
pub(super) fn without_managed_fields(text: &str) -> Cow<'_, str> {
    let mut lean = String::new();
    let mut rest = text;
    while let Some((before, entries)) = rest.split_once(BEGIN) {
        let Some(after) = end(entries).and_then(|end| entries.get(end..)) else { break };
        lean.push_str(before);
        lean.push_str(BEGIN);
        rest = after;
    }
    if lean.is_empty() {
        return Cow::Borrowed(text);
    }
    lean.push_str(rest);
    Cow::Owned(lean)
}

/// Returns the place of the bracket that ends the array whose values `text` begins with.
fn end(text: &str) -> Option<usize> {
    let (mut scan, mut depth) = (Scan::default(), 1_usize);
    text.bytes().position(|byte| {
        if scan.outside(byte) {
            match byte {
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth -= 1,
                _ => {}
            }
        }
        depth == 0
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "it is for tests")]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::patroni::bounded::tests::any_json;

    /// Empties each array of this name.
    fn emptied(value: &mut Value) {
        match value {
            Value::Array(items) => items.iter_mut().for_each(emptied),
            Value::Object(fields) => {
                if let Some(Value::Array(entries)) = fields.get_mut("managedFields") {
                    entries.clear();
                }
                fields.values_mut().for_each(emptied);
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    proptest! {
        #[test]
        fn nothing_else_is_left_out(
            one in any_json(), entries in prop::collection::vec(any_json(), 0..4), other in any_json(),
        ) {
            let mut whole = json!({"items": [
                {"a": one, "metadata": {"managedFields": entries, "name": "\"managedFields\":["}},
                {"metadata": {"managedFields": [other, []], "z": "managedFields\":["}, "b": other},
                {"managedFields": "text", "managedFields\":[": [1]},
            ]});
            let lean = without_managed_fields(&whole.to_string()).into_owned();
            emptied(&mut whole);
            prop_assert_eq!(serde_json::from_str::<Value>(&lean).unwrap(), whole);
        }
    }

    #[test]
    fn text_that_ends_early_stays_as_it_is() {
        for text in ["", "{}", r#"{"managedFields":[{"a":1}"#, r#"{"managedFields":["]"#] {
            assert_eq!(without_managed_fields(text), text);
        }
    }
}
