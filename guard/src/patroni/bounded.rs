//! JSON that others write, decoded within a bound.
//!
//! A JSON value costs far more memory than its text: `{"":0}` has 6 bytes in an annotation and
//! about 700 decoded. Annotations and answers of members may be written by the editor of one
//! namespace, and one process judges the changes of all.

use serde::de::{DeserializeOwned, Error as _};

/// The most values of Patroni's configuration, of a member's report, or of its answer. Real ones
/// have a few hundred; a leader's answer has seven more for each replica.
pub(crate) const VALUES: usize = 2_000;
/// The most values of the history of leaders. A row has five, and one is added with each failover.
pub(crate) const HISTORY_VALUES: usize = 20_000;

/// Decodes `text`, unless it has more than `values` values.
///
/// # Errors
/// Fails also where `text` is not what `T` needs.
pub(crate) fn decode<T: DeserializeOwned>(
    text: &str,
    values: usize,
) -> Result<T, serde_json::Error> {
    if at_most(text) > values {
        return Err(serde_json::Error::custom(format_args!("more than {values} values")));
    }
    serde_json::from_str(text)
}

/// Returns a number that the values in `text` do not exceed: an opening bracket begins an array or
/// object and its first value, a comma another.
pub(crate) fn at_most(text: &str) -> usize {
    let mut scan = Scan::default();
    let mut values = 1;
    for byte in text.bytes() {
        if scan.outside(byte) && matches!(byte, b'{' | b'[' | b',') {
            values += 1;
        }
    }
    values
}

/// A walk through JSON text, byte by byte.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    text: bool,
    escaped: bool,
}

impl Scan {
    /// Takes the next byte. Returns whether it is outside of strings.
    pub(crate) fn outside(&mut self, byte: u8) -> bool {
        if self.text {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.text = false,
                _ => {}
            }
            return false;
        }
        self.text = byte == b'"';
        !self.text
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "it is for tests")]
pub(crate) mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn count(value: &Value) -> usize {
        match value {
            Value::Array(items) => 1 + items.iter().map(count).sum::<usize>(),
            Value::Object(fields) => 1 + fields.values().map(count).sum::<usize>(),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 1,
        }
    }

    pub(crate) fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            ".{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 64, 8, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
                prop::collection::btree_map(".{0,4}", inner, 0..8).prop_map(|fields| fields
                    .into_iter()
                    .collect::<serde_json::Map<_, _>>()
                    .into()),
            ]
        })
    }

    proptest! {
        #[test]
        fn no_value_is_overlooked(value in any_json()) {
            prop_assert!(at_most(&value.to_string()) >= count(&value), "{value}");
        }
    }

    #[test]
    fn text_with_too_many_values_is_not_decoded() {
        let of = |count: usize| format!("[{}]", vec!["{\"\":0}"; count].join(","));
        let error = decode::<Value>(&of(VALUES), VALUES).unwrap_err().to_string();
        assert_eq!(error, "more than 2000 values");
        assert!(decode::<Value>(&of(VALUES / 3), VALUES).is_ok());
        assert!(decode::<Value>("\",{[,{[\"", 1).is_ok(), "brackets in a string are no values");
    }
}
