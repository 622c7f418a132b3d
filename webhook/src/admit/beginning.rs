//! The namespace of a review of which only the beginning has arrived.
//!
//! The API server writes the fields of a review in the order of its type (`AdmissionRequest`,
//! k8s.io/api/admission/v1/types.go): the namespace comes before the objects, which may have megabytes. So
//! a large review is known as its namespace's before there is room for it. Another sender may write
//! another order. Then the namespace counts as unknown.

use std::cell::OnceCell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};

/// The bytes in which the namespace is looked for. The fields before it have a few hundred.
pub(super) const BEGINNING: usize = 4 << 10;
/// The most characters of the name of a namespace.
const LONGEST: usize = 63;

/// Returns the namespace in the beginning of a review, if it is there.
pub(super) fn namespace(begun: &[u8]) -> Option<String> {
    let found = OnceCell::new();
    let begun = begun.get(..BEGINNING).unwrap_or(begun);
    let mut json = serde_json::Deserializer::from_slice(begun);
    // It ends early, and that is an error. What was found before it counts.
    drop(json.deserialize_map(Fields { depth: 0, found: &found }));
    found.into_inner().filter(|name: &String| name.len() <= LONGEST)
}

/// The fields of the review, or of its request.
struct Fields<'a> {
    depth: usize,
    found: &'a OnceCell<String>,
}

impl<'de> DeserializeSeed<'de> for Fields<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Fields<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a review")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<(), A::Error> {
        while let Some(key) = fields.next_key::<String>()? {
            match (self.depth, key.as_str()) {
                (0, "request") => {
                    fields.next_value_seed(Fields { depth: 1, found: self.found })?;
                }
                // The first one counts, as one of two.
                (1, "namespace") => drop(self.found.set(fields.next_value()?)),
                _ => _ = fields.next_value::<IgnoredAny>()?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespace_is_known_before_the_objects_have_arrived() {
        let whole = r#"{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{
            "uid":"1","kind":{"group":"acid.zalan.do"},"options":{"namespace":"other"},"name":"a",
            "namespace":"db","operation":"UPDATE","object":{"metadata":{"namespace":"x"}}}}"#;
        let (at, _) = whole.match_indices("\"operation\"").next().unwrap();
        for length in at..whole.len() {
            assert_eq!(namespace(&whole.as_bytes()[..length]).as_deref(), Some("db"), "{length}");
        }
        let (before, _) = whole.match_indices("\"db\"").next().unwrap();
        for length in 0..before {
            assert_eq!(namespace(&whole.as_bytes()[..length]), None, "{length}");
        }
    }

    #[test]
    fn beginning_that_is_no_review_has_no_namespace() {
        let deep = "[".repeat(100_000);
        let late = format!(r#"{{"request":{{"a":"{}","namespace":"db"}}}}"#, "x".repeat(BEGINNING));
        let long = format!(r#"{{"request":{{"namespace":"{}"}}}}"#, "x".repeat(LONGEST + 1));
        let other = r#"{"namespace":"db","request":{"namespace":7}}"#;
        for text in
            ["", "null", "{", &deep, &late, &long, other, r#"{"request":[{"namespace":"db"}]}"#]
        {
            assert_eq!(namespace(text.as_bytes()), None, "{}", &text[..text.len().min(60)]);
        }
    }
}
