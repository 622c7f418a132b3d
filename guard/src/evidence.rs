//! One fact that a finding rests on.

use std::fmt;

use serde::Serialize;

use crate::object_ref::{Kind, ObjectRef};
use crate::printable::printable;
use crate::rule_id::RuleId;

/// One fact that a finding rests on: an object, the part that was looked at, and its value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct Evidence {
    /// The object that it was read from.
    pub object: ObjectRef,
    /// The part of the object: a path, or the name that Kubernetes, Patroni or PostgreSQL has for it. Absent where the
    /// object as a whole is meant, as where it does not exist.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// The value of that part.
    pub value: String,
    /// The id of the rule that found it, where another rule shows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub rule: Option<RuleId>,
}

impl Evidence {
    /// Returns that `field` of `object` holds `value`.
    ///
    /// Characters that a terminal would obey are left out: any writer can put them into an object.
    pub fn new(object: ObjectRef, field: &str, value: impl fmt::Display) -> Self {
        let value = printable(&value.to_string());
        Self { object, field: Some(printable(field)), value, rule: None }
    }

    /// Returns that `object` does not exist, or no object of the kind.
    pub fn absent(object: ObjectRef) -> Self {
        let value = if object.name.is_some() { "not there" } else { "none" };
        Self { object, field: None, value: value.to_owned(), rule: None }
    }

    /// Returns that `object` could not be read, and the reason.
    pub fn unreadable(object: ObjectRef, why: &str) -> Self {
        let value = printable(&format!("could not be read: {why}"));
        Self { object, field: None, value, rule: None }
    }

    /// Returns what the rule with this id says that could not be judged.
    pub fn unjudged(rule: RuleId, message: &str) -> Self {
        let value = printable(message);
        Self { object: ObjectRef::new(Kind::Rule, rule.as_str()), field: None, value, rule: None }
    }

    /// Returns the same as found by the rule with this id.
    #[must_use]
    pub fn found_by(self, rule: RuleId) -> Self {
        Self { rule: Some(rule), ..self }
    }

    /// Returns whether `other` is the same fact, whichever rule found it.
    pub fn is_same_fact(&self, other: &Self) -> bool {
        (&self.object, &self.field, &self.value) == (&other.object, &other.field, &other.value)
    }

    /// Returns the fact without its object and without the rule.
    fn says(&self) -> String {
        let Self { field, value, .. } = self;
        let field = field.as_ref().map_or(String::new(), |field| format!("{field}: "));
        format!("{field}{value}")
    }
}

/// The number of characters after which a line takes no more facts.
const WIDTH: usize = 100;

/// Facts that one line holds.
struct Line<'a> {
    objects: Vec<&'a ObjectRef>,
    says: Vec<String>,
    rule: Option<RuleId>,
}

impl Line<'_> {
    /// Returns whether `fact` was found by the same rule, and there is room for `more` characters.
    fn takes(&self, fact: &Evidence, more: usize) -> bool {
        self.rule == fact.rule && self.to_string().chars().count() + more < WIDTH
    }
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let objects: Vec<String> = self.objects.iter().map(ToString::to_string).collect();
        write!(out, "{}: {}", objects.join(", "), self.says.join("; "))?;
        match self.rule {
            Some(rule) => write!(out, " ({rule})"),
            None => Ok(()),
        }
    }
}

/// Returns `all` as lines for a person.
///
/// Neighbours with equal facts share a line, and so do facts of one object in a row.
pub fn lines(all: &[Evidence]) -> Vec<String> {
    let mut lines: Vec<Line<'_>> = Vec::new();
    for fact in all {
        let (object, says) = (&fact.object, fact.says());
        let length = object.to_string().chars().count();
        match lines.last_mut() {
            // The address of a member leaves no room for another one.
            Some(line)
                if line.says == [says.as_str()]
                    && object.kind != Kind::Member
                    && line.takes(fact, length) =>
            {
                line.objects.push(object);
            }
            Some(line) if line.objects == [object] && line.takes(fact, says.chars().count()) => {
                line.says.push(says);
            }
            Some(_) | None => {
                lines.push(Line { objects: vec![object], says: vec![says], rule: fact.rule });
            }
        }
    }
    lines.iter().map(ToString::to_string).collect()
}

impl fmt::Display for Evidence {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = Line { objects: vec![&self.object], says: vec![self.says()], rule: self.rule };
        line.fmt(out)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn evidence_reads_as_object_field_and_value() {
        let floor = ObjectRef::new(Kind::ScalePolicy, "production");
        let floor = Evidence::new(floor, "instances.min", 3);
        assert_eq!(floor.to_string(), "scalepolicy/production: instances.min: 3");
        assert_eq!(
            floor.clone().found_by(RuleId::BELOW_MIN).to_string(),
            "scalepolicy/production: instances.min: 3 (below-min)"
        );
        assert_eq!(
            Evidence::absent(ObjectRef::pod("acid-a-1")).to_string(),
            "pod/acid-a-1: not there"
        );
        let want = json!({
            "object": {"kind": "scalepolicy", "name": "production"},
            "field": "instances.min",
            "value": "3",
        });
        assert_eq!(serde_json::to_value(floor).unwrap(), want);
    }

    #[test]
    fn line_repeats_neither_an_object_nor_what_neighbours_say() {
        let pod = |ordinal: u8| ObjectRef::pod(&format!("acid-a-{ordinal}"));
        let config = || ObjectRef::new(Kind::ConfigMap, "acid-a-config");
        let all = [
            Evidence::absent(pod(1)),
            Evidence::absent(pod(2)),
            Evidence::new(config(), "pause", true),
            Evidence::new(config(), "synchronous_mode", true),
            Evidence::new(pod(3), "status.phase", "Pending"),
        ];
        assert_eq!(
            lines(&all),
            [
                "pod/acid-a-1, pod/acid-a-2: not there",
                "configmap/acid-a-config: pause: true; synchronous_mode: true",
                "pod/acid-a-3: status.phase: Pending",
            ]
        );
    }

    #[test]
    fn fact_is_the_same_whichever_rule_found_it() {
        let fact = Evidence::new(ObjectRef::pod("acid-a-1"), "status.phase", "Pending");
        assert!(fact.is_same_fact(&fact.clone().found_by(RuleId::NO_LEADER)));
        assert!(!fact.is_same_fact(&Evidence::absent(ObjectRef::pod("acid-a-1"))));
    }
}
