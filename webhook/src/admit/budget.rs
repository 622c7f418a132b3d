//! The budget of one review: the most that it may make this process decode.
//!
//! A JSON value costs far more memory than its text: `{"":0}` has 6 bytes in a body and about 700
//! in memory, and a verdict needs several copies. Everything is therefore counted before it is
//! kept, and decoding ends at [`VALUES`], [`TEXT`], [`DEPTH`] or [`PATH`].

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::fmt;

use super::text::cut;

/// The most JSON values that are decoded of one review, both objects together. An array or object
/// counts as one value, and each value in it as another.
///
/// The operator's complete manifest (manifests/complete-postgres-manifest.yaml, 1.15.1) has 84, and
/// about 240 with everything that it has in comments. A verdict on 5,000 values of the costliest
/// shape took 11 to 14 MiB in a debug build, of the chart's 128. The end-to-end test
/// `hostile::reviews_are_answered_in_the_memory_of_the_chart` prints the figure.
pub(crate) const VALUES: usize = 5_000;
/// The most bytes that the strings and keys of those values have together. Annotations can take
/// half: the API server allows 256 KiB in each object (`TotalAnnotationSizeLimitB`,
/// k8s.io/apimachinery/pkg/api/validation).
pub(crate) const TEXT: usize = 1 << 20;
/// The most arrays and objects around one value. A real spec has fewer than 12.
pub(crate) const DEPTH: usize = 64;
/// The most bytes that the keys on the way to one value have together. Each difference between two
/// specs is named by its path, so long keys around many values multiply. The longest key that
/// Kubernetes allows, of a label or an annotation, has 317 bytes.
pub(crate) const PATH: usize = 1024;

/// The most bytes of the sender's text in one message.
pub(super) const QUOTED: usize = 256;

/// One of the limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limit {
    /// [`DEPTH`].
    Depth,
    /// [`PATH`].
    Path,
    /// [`TEXT`].
    Text,
    /// [`VALUES`].
    Values,
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Depth => write!(f, "{DEPTH} levels of arrays and objects"),
            Self::Path => write!(f, "{PATH} bytes of keys on the way to one value"),
            Self::Text => write!(f, "{} KiB of text in one write", TEXT >> 10),
            Self::Values => write!(f, "{VALUES} JSON values in one write"),
        }
    }
}

/// The half of a review that a part belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// `request.object`.
    New,
    /// Neither object.
    Request,
    /// `request.oldObject`, or the object behind a `Scale`.
    Stored,
}

/// A part of a review, named as people find it in their manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// The half that it belongs to.
    pub(crate) side: Side,
    /// Its path: `spec.env`, `request.userInfo`; empty for the whole object.
    pub(crate) path: Cow<'static, str>,
}

impl Part {
    /// Names a part.
    pub(crate) fn new(side: Side, path: impl Into<Cow<'static, str>>) -> Self {
        Self { side, path: path.into() }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let object = match self.side {
            Side::New => "the new object",
            Side::Request => return f.write_str(&self.path),
            Side::Stored => "the stored object",
        };
        if self.path.is_empty() {
            f.write_str(object)
        } else {
            write!(f, "{} of {object}", self.path)
        }
    }
}

/// The reason why a part of a review is not decoded.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub(crate) enum Refusal {
    /// The part has a wrong type, or it is ambiguous.
    #[error("{part} is malformed: {why}")]
    Malformed {
        /// The part.
        part: Part,
        /// The reason, for people.
        why: String,
    },
    /// The part is beyond a limit.
    #[error("{part} is too large to judge (limit: {limit})")]
    TooLarge {
        /// The part, or the largest of several that exceed the limit together.
        part: Part,
        /// The limit.
        limit: Limit,
    },
}

impl Refusal {
    /// Returns the refusal of a part that has a wrong type or cannot be read.
    pub(crate) fn malformed(part: Part, why: &str) -> Self {
        // Errors of serde quote the value, which may be as long as the body.
        Self::Malformed { part, why: cut(why, QUOTED) }
    }

    /// Returns the refusal of a part that has a key twice.
    ///
    /// Readers of JSON differ in which of the two values they take. The API server encodes the
    /// objects itself and never writes a key twice, so only another sender does.
    pub(crate) fn twice(part: Part, key: &str) -> Self {
        Self::malformed(part, &format!("the key {:?} is there twice", cut(key, 64)))
    }

    /// Returns the refusal in words, with `advice` where the part is too large.
    pub(crate) fn advised(&self, advice: &str) -> String {
        match self {
            Self::Malformed { .. } => self.to_string(),
            Self::TooLarge { .. } => format!("{self}. {advice}"),
        }
    }
}

/// The reason why a decoding stopped early.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Stop {
    /// A limit is reached.
    At(Limit),
    /// A key is there twice.
    Twice(String),
}

/// The budget of one review, less the part that is used up.
#[derive(Debug, Default)]
pub(crate) struct Budget {
    values: Cell<usize>,
    text: Cell<usize>,
    /// The part that was decoded last, with its number of values. Several calls in a row for one
    /// part add up.
    last: RefCell<Option<(Part, usize)>>,
    /// The part that took the most values.
    largest: RefCell<Option<(Part, usize)>>,
    /// The reason why the present decoding stopped. An error of serde carries only prose, which is
    /// never parsed.
    stopped: RefCell<Option<Stop>>,
}

impl Budget {
    /// Returns the number of values that have been decoded.
    pub(crate) fn used(&self) -> usize {
        self.values.get()
    }

    /// Runs `decode` on the part called `part`, and turns an early stop into its refusal.
    pub(super) fn within<T>(
        &self,
        part: &Part,
        decode: impl FnOnce() -> Result<T, serde_json::Error>,
    ) -> Result<T, Refusal> {
        let before = self.values.get();
        let decoded = decode();
        self.took(part, self.values.get() - before);
        decoded.map_err(|error| match self.stopped.take() {
            Some(Stop::At(limit)) => {
                let largest = self.largest.borrow();
                let largest = largest.as_ref().filter(|_| limit == Limit::Values);
                Refusal::TooLarge { part: largest.map_or(part, |(part, _)| part).clone(), limit }
            }
            Some(Stop::Twice(key)) => Refusal::twice(part.clone(), &key),
            None => Refusal::malformed(part.clone(), &error.to_string()),
        })
    }

    fn took(&self, part: &Part, values: usize) {
        let (mut last, mut largest) = (self.last.borrow_mut(), self.largest.borrow_mut());
        match &mut *last {
            Some((of, sum)) if of == part => *sum += values,
            _ => *last = Some((part.clone(), values)),
        }
        let size = |taken: &Option<(Part, usize)>| taken.as_ref().map_or(0, |(_, sum)| *sum);
        if size(&last) > size(&largest) {
            largest.clone_from(&last);
        }
    }

    fn stop<E: serde::de::Error>(&self, why: Stop) -> E {
        self.stopped.replace(Some(why));
        E::custom("stopped")
    }
}

/// A position within a part.
#[derive(Clone, Copy)]
pub(super) struct Place<'b> {
    budget: &'b Budget,
    /// The number of arrays and objects around it.
    depth: usize,
    /// The number of bytes of the keys on the way to it.
    path: usize,
}

impl<'b> Place<'b> {
    /// Returns the place of a whole part.
    pub(super) fn top(budget: &'b Budget, part: &Part) -> Self {
        Self { budget, depth: 0, path: part.path.len() }
    }

    /// Counts one value.
    pub(super) fn value<E: serde::de::Error>(self) -> Result<(), E> {
        let values = self.budget.values.get() + 1;
        if values > VALUES {
            return Err(self.budget.stop(Stop::At(Limit::Values)));
        }
        self.budget.values.set(values);
        Ok(())
    }

    /// Counts the bytes of a string.
    pub(super) fn text<E: serde::de::Error>(self, text: &str) -> Result<(), E> {
        let bytes = self.budget.text.get() + text.len();
        if bytes > TEXT {
            return Err(self.budget.stop(Stop::At(Limit::Text)));
        }
        self.budget.text.set(bytes);
        Ok(())
    }

    /// Returns the place of the values in this array or object.
    pub(super) fn inside<E: serde::de::Error>(self) -> Result<Self, E> {
        let depth = self.depth + 1;
        if depth > DEPTH {
            return Err(self.budget.stop(Stop::At(Limit::Depth)));
        }
        Ok(Self { depth, ..self })
    }

    /// Counts a key and returns the place of its value.
    pub(super) fn under<E: serde::de::Error>(self, key: &str) -> Result<Self, E> {
        let path = self.path + key.len();
        if path > PATH {
            return Err(self.budget.stop(Stop::At(Limit::Path)));
        }
        self.text(key)?;
        Ok(Self { path, ..self })
    }

    /// Returns the error that ends a decoding at a key that is there twice.
    pub(super) fn twice<E: serde::de::Error>(self, key: Cow<'_, str>) -> E {
        self.budget.stop(Stop::Twice(key.into_owned()))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;

    fn raw(json: &str) -> &RawValue {
        serde_json::from_str(json).unwrap()
    }

    fn part() -> Part {
        Part::new(Side::New, "spec.env")
    }

    fn limit(json: &str) -> Option<Limit> {
        let decoded = Budget::default().decode(&part(), raw(json)).err();
        let counted = Budget::default().count(&part(), raw(json)).err();
        let limit = |refusal: Option<Refusal>| match refusal? {
            Refusal::TooLarge { limit, part: named } => {
                assert_eq!(named, part());
                Some(limit)
            }
            malformed @ Refusal::Malformed { .. } => panic!("{malformed}"),
        };
        let (decoded, counted) = (limit(decoded), limit(counted));
        // Where nothing is kept, text costs nothing.
        if matches!(decoded, None | Some(Limit::Depth | Limit::Values)) {
            assert_eq!(decoded, counted, "counting alone differs");
        } else {
            assert_eq!(counted, None);
        }
        decoded
    }

    #[test]
    fn each_limit_holds_to_the_last_value_or_byte() {
        let list = |items: usize| format!("[{}]", vec!["0"; items].join(","));
        let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        let key = |length: usize| format!(r#"{{"{}":{{"ab":0}}}}"#, "k".repeat(length));
        let path = PATH - "spec.env".len() - "ab".len();
        for (name, json, want) in [
            ("values", list(VALUES - 1), None),
            ("one value more", list(VALUES), Some(Limit::Values)),
            ("text", format!("{:?}", "x".repeat(TEXT)), None),
            ("one byte more", format!("{:?}", "x".repeat(TEXT + 1)), Some(Limit::Text)),
            ("keys are text", format!(r#"{{"a":{:?}}}"#, "x".repeat(TEXT)), Some(Limit::Text)),
            ("levels", deep(DEPTH), None),
            ("one level more", deep(DEPTH + 1), Some(Limit::Depth)),
            ("as many as the body can have", deep(1 << 20), Some(Limit::Depth)),
            ("keys", key(path), None),
            ("one byte of a key more", key(path + 1), Some(Limit::Path)),
        ] {
            assert_eq!(limit(&json), want, "{name}");
        }
    }

    #[test]
    fn all_parts_share_one_budget_and_the_largest_is_named() {
        let budget = Budget::default();
        let list = |items: usize| format!("[{}]", vec!["0"; items].join(","));
        let part = |name: &'static str| Part::new(Side::Stored, name);
        budget.decode(&part("spec.volume"), raw(&list(VALUES / 10))).unwrap();
        budget.decode(&part("spec.env"), raw(&list(VALUES / 2))).unwrap();
        let refusal = budget.decode(&part("spec.patroni"), raw(&list(VALUES / 2))).unwrap_err();
        let limit = Limit::Values;
        assert_eq!(refusal, Refusal::TooLarge { part: part("spec.env"), limit });
    }

    #[test]
    fn many_small_fields_of_one_part_add_up() {
        let budget = Budget::default();
        let request = Part::new(Side::Request, "request");
        let spec = Part::new(Side::New, "spec.env");
        budget.decode(&spec, raw("[1, 2, 3]")).unwrap();
        let refusal = (0..VALUES).find_map(|_| budget.count(&request, raw("0")).err());
        let limit = Limit::Values;
        assert_eq!(refusal, Some(Refusal::TooLarge { part: request, limit }));
    }

    #[test]
    fn key_that_is_there_twice_is_refused_at_every_level() {
        for json in [
            r#"{"a": 1, "a": 1}"#,
            r#"{"a": 1, "\u0061": 2}"#,
            r#"{"b": [{"c": {"a": null, "x": 0, "a": {}}}]}"#,
        ] {
            let refusal = Budget::default().decode(&part(), raw(json)).unwrap_err();
            assert_eq!(refusal, Refusal::twice(part(), "a"), "{json}");
        }
        let refusal = Budget::default().fields(&part(), raw(r#"{"a": 1, "\u0061": 2}"#));
        assert_eq!(refusal.unwrap_err(), Refusal::twice(part(), "a"));
        assert!(Budget::default().decode(&part(), raw(r#"[{"a": 1}, {"a": 1}]"#)).is_ok());
    }

    #[test]
    fn unreadable_number_or_text_is_malformed() {
        for (json, why) in [
            ("1e999", "number out of range"),
            (r#"["\ud800"]"#, "escape"),
            ("-1e999", "number out of range"),
        ] {
            let refusal = Budget::default().decode(&part(), raw(json)).unwrap_err().to_string();
            assert!(refusal.starts_with("spec.env of the new object is malformed: "), "{refusal}");
            assert!(refusal.contains(why), "{json}: {refusal}");
        }
    }
}
