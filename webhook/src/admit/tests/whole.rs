//! The change in a review is the same as if the whole review were decoded.

use std::fmt::Write as _;

use kube::core::DynamicObject;
use kube::core::admission::{AdmissionRequest, AdmissionReview, Operation};
use pgscale_guard::postgresql::{JUDGED_PARTS, Postgresql, Writes};

use super::*;

/// Returns the change in `body`, decoded as a whole: by kube's types and [`Postgresql::of`].
fn as_a_whole(body: &str) -> Option<Change> {
    let review: Value = serde_json::from_str(body).ok()?;
    let review: AdmissionReview<DynamicObject> = serde_json::from_value(review).ok()?;
    let request: AdmissionRequest<DynamicObject> = review.try_into().ok()?;
    let cluster = |object: Option<&DynamicObject>| {
        let mut cluster = Postgresql::of(&serde_json::to_value(object?).ok()?).ok()?;
        cluster.namespace = request.namespace.clone().unwrap_or(cluster.namespace);
        if !request.name.is_empty() {
            cluster.name.clone_from(&request.name);
        }
        Some(cluster)
    };
    let old = match request.operation {
        Operation::Create => None,
        Operation::Update | Operation::Delete | Operation::Connect => {
            Some(cluster(request.old_object.as_ref())?)
        }
    };
    let new = cluster(request.object.as_ref())?;
    let user = request.user_info.username.clone();
    Some(Change { old, new, dry_run: request.dry_run, undo: false, user })
}

/// Returns `change` without the owners of the count, which no rule reads, without the times of writes
/// in the new object, and without the parts of the spec that no rule reads and that are the same in
/// both objects.
fn without_the_unjudged(mut change: Change) -> Change {
    change.new.writes = Writes::default();
    let specs = (change.old.as_ref().map(|old| old.spec.clone()), change.new.spec.clone());
    for cluster in change.old.iter_mut().chain([&mut change.new]) {
        cluster.count_managers.clear();
        if let Some(spec) = cluster.spec.as_object_mut() {
            spec.retain(|part, _| {
                let differs =
                    specs.0.as_ref().is_some_and(|old| old.get(part) != specs.1.get(part));
                JUDGED_PARTS.contains(&part.as_str()) || differs
            });
        }
    }
    change
}

/// A writer of JSON with white space, escapes and an order of its own choice.
struct Speller<I> {
    choices: I,
    text: String,
}

impl<I: Iterator<Item = u8>> Speller<I> {
    /// Returns the JSON of `value`.
    fn spell(value: &Value, choices: I) -> String {
        let mut speller = Self { choices, text: String::new() };
        speller.value(value);
        speller.text
    }

    /// Decides for something with a chance of one in `of`.
    fn choose(&mut self, of: u8) -> bool {
        self.choices.next().is_some_and(|choice| choice % of == 0)
    }

    fn space(&mut self) {
        if self.choose(7) {
            self.text.push_str(" \n\t");
        }
    }

    fn value(&mut self, value: &Value) {
        self.space();
        match value {
            Value::Null | Value::Bool(_) | Value::Number(_) => self.text += &value.to_string(),
            Value::String(word) => self.string(word),
            Value::Array(items) => {
                self.text.push('[');
                for (index, item) in items.iter().enumerate() {
                    self.comma(index);
                    self.value(item);
                }
                self.text.push(']');
            }
            Value::Object(fields) => {
                let mut fields: Vec<_> = fields.iter().collect();
                if self.choose(2) {
                    fields.reverse();
                }
                self.text.push('{');
                for (index, (key, field)) in fields.into_iter().enumerate() {
                    self.comma(index);
                    self.space();
                    self.string(key);
                    self.space();
                    self.text.push(':');
                    self.value(field);
                }
                self.text.push('}');
            }
        }
        self.space();
    }

    fn comma(&mut self, index: usize) {
        if index > 0 {
            self.text.push(',');
        }
    }

    fn string(&mut self, word: &str) {
        self.text.push('"');
        for c in word.chars() {
            if c.is_ascii() && (!c.is_ascii_alphanumeric() || self.choose(9)) {
                _ = write!(self.text, "\\u{:04x}", u32::from(c));
            } else {
                self.text.push(c);
            }
        }
        self.text.push('"');
    }
}

/// Returns an object of a cluster: with the right shape where it must have it, with any elsewhere.
fn any_object() -> impl Strategy<Value = Value> {
    let count = prop_oneof![
        8 => (0_i64..5).prop_map(Value::from),
        1 => Just(Value::Null),
        1 => any::<i64>().prop_map(Value::from),
        1 => any_json(),
    ];
    let words = || {
        let map = prop::collection::btree_map("[a-z/.]{1,6}", "\\PC{0,5}", 0..3);
        prop_oneof![
            3 => Just(Value::Null),
            3 => map.prop_map(|map| map.into_iter().map(|(key, word)| (key, json!(word))).collect()),
        ]
    };
    let parts = JUDGED_PARTS.iter().copied().filter(|part| *part != "numberOfInstances");
    let parts: Vec<_> = parts.chain(["users", "databases", "teamId", "spiloFSGroup"]).collect();
    let parts = prop::collection::btree_map(prop::sample::select(parts), any_json(), 0..5);
    let status = prop_oneof![
        Just(Value::Null),
        Just(json!("Running")),
        Just(json!({"PostgresClusterStatus": "Updating", "x": [1]})),
        any_json(),
    ];
    let fields = prop_oneof![
        Just(json!({"f:spec": {"f:numberOfInstances": {}}})),
        Just(json!({"f:spec": {"f:users": {}}, "f:metadata": {"f:labels": {}}})),
        Just(json!({"f:spec": {"f:env": {}}, "f:metadata": {"f:labels": {}}})),
        Just(json!({"f:spec": {"f:env": {}}, "f:metadata": {"f:labels": {}, "f:annotations": {
            ".": {}, "f:kubectl.kubernetes.io/last-applied-configuration": {}}}})),
        any_json().prop_map(|any| json!({"f:spec": any, "f:metadata": any})),
    ];
    let subresource = prop_oneof![
        4 => Just(Value::Null), 2 => Just(json!("status")), 1 => Just(json!("scale"))];
    let entry = (fields, subresource, 0_u32..4).prop_map(|(fields, subresource, second)| {
        json!({"manager": "m", "operation": "Update", "fieldsType": "FieldsV1", "fieldsV1": fields,
            "subresource": subresource, "time": format!("2026-01-01T00:00:0{second}Z")})
    });
    let managed = prop::collection::vec(entry, 0..4);
    let time = prop_oneof![4 => Just(Value::Null), 1 => Just(json!("2026-01-01T00:00:00Z"))];
    (count, words(), words(), parts, status, (time, managed), any::<bool>(), any_json()).prop_map(
        |(count, labels, annotations, parts, status, (time, managed), named, other)| {
            let mut spec: serde_json::Map<_, _> =
                parts.into_iter().map(|(part, value)| (part.to_owned(), value)).collect();
            spec.insert("numberOfInstances".to_owned(), count);
            json!({
                "apiVersion": "acid.zalan.do/v1", "kind": "postgresql", "x": other,
                "metadata": {
                    "namespace": "db", "name": named.then_some("acid-a"), "uid": "c1",
                    "resourceVersion": "7", "labels": labels, "annotations": annotations,
                    "creationTimestamp": time, "deletionTimestamp": time,
                    "managedFields": managed,
                },
                "spec": spec, "status": status,
            })
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, ..ProptestConfig::default() })]

    #[test]
    fn change_is_the_same_as_if_everything_were_decoded(
        old in any_object(), new in any_object(), shared in prop::collection::vec(any::<bool>(), 5),
        created in any::<bool>(), dry_run in any::<bool>(), named in any::<bool>(),
        choices in prop::collection::vec(any::<u8>(), 1..64),
    ) {
        let mut new = new;
        // Most writes leave most parts of an object as they are.
        let places = [
            "/spec", "/metadata/annotations", "/metadata/labels", "/status",
            "/metadata/deletionTimestamp",
        ];
        for (place, shared) in places.into_iter().zip(shared) {
            if shared {
                *new.pointer_mut(place).unwrap() = old.pointer(place).unwrap().clone();
            }
        }
        let mut review = if created { create(&new) } else { update(&old, &new) };
        review["request"]["dryRun"] = json!(dry_run);
        if !named {
            review["request"]["name"] = json!("");
        }
        let body = Speller::spell(&review, choices.into_iter().cycle());
        let Some(whole) = as_a_whole(&body) else { return Ok(()) };
        let received = Received::of(body.as_bytes()).unwrap();
        match Question::of(&received) {
            Ok(Question::Nothing(why)) => prop_assert_eq!(exemption(&whole), Some(why)),
            Ok(Question::Write(change)) => {
                prop_assert_eq!(exemption(&whole), None);
                prop_assert_eq!(whole.other_edits(), change.other_edits());
                prop_assert_eq!(without_the_unjudged(whole), without_the_unjudged(*change));
            }
            other => prop_assert!(false, "{other:?}"),
        }
    }
}
