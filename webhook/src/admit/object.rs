//! An object of a review: split into parts that stay encoded, of which only the judged ones are
//! decoded.

use std::borrow::Cow;
use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use pgscale_guard::postgresql::writes::{
    ANNOTATIONS as ANNOTATION_FIELDS, LABELS, LAST_APPLIED, Owned, Writes,
};
use pgscale_guard::postgresql::{JUDGED_PARTS, Postgresql};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::budget::{Budget, Part, Refusal, Side};
use super::tree::{entries, items};

/// The metadata that is judged. Of `managedFields`, the largest part of many objects, only the times
/// of the last writes are, and only in the stored object.
const METADATA: [&str; 9] = [
    ANNOTATIONS,
    "creationTimestamp",
    "deletionTimestamp",
    "labels",
    MANAGED_FIELDS,
    "name",
    "namespace",
    "resourceVersion",
    "uid",
];
const ANNOTATIONS: &str = "annotations";
const MANAGED_FIELDS: &str = "managedFields";
const COUNT: &str = "numberOfInstances";
/// The field of the status with the operator's word for the state.
const STATUS: &str = "PostgresClusterStatus";

/// An object of any kind, its parts still encoded.
#[derive(Debug)]
pub(crate) struct Object<'a> {
    side: Side,
    /// The metadata that is judged, by key.
    metadata: BTreeMap<&'static str, &'a RawValue>,
    spec: Spec<'a>,
    status: Option<&'a RawValue>,
}

/// The spec of an object.
#[derive(Debug)]
enum Spec<'a> {
    /// Its fields.
    Fields(BTreeMap<Cow<'a, str>, &'a RawValue>),
    /// It is not an object.
    Other(&'a RawValue),
    /// There is none.
    Missing,
}

impl<'a> Object<'a> {
    /// Splits `json` into its parts.
    ///
    /// # Errors
    /// Fails when it is not an object, has a key twice that is read, or has more fields in its spec
    /// than the budget allows.
    pub(crate) fn of(side: Side, json: &'a RawValue, budget: &Budget) -> Result<Self, Refusal> {
        let [metadata, spec, status] = known(side, json, "", ["metadata", "spec", "status"])?;
        let metadata = match metadata.filter(|json| !is_null(json)) {
            Some(json) => known(side, json, "metadata", METADATA)?,
            None => [None; METADATA.len()],
        };
        let spec = match spec {
            Some(json) if json.get().starts_with('{') => {
                Spec::Fields(budget.fields(&Part::new(side, "spec"), json)?)
            }
            Some(json) => Spec::Other(json),
            None => Spec::Missing,
        };
        let metadata = METADATA.into_iter().zip(metadata);
        let metadata = metadata.filter_map(|(key, json)| Some((key, json?))).collect();
        Ok(Self { side, metadata, spec, status })
    }

    /// Returns the name and uid in the object, as far as they can be read.
    pub(crate) fn identity(&self, budget: &Budget) -> (Option<String>, Option<String>) {
        let text = |key| {
            let json = self.metadata.get(key)?;
            let value = budget.decode(&self.part("metadata", key), json).ok()?;
            value.as_str().map(str::to_owned)
        };
        (text("name"), text("uid"))
    }

    /// Decodes `spec.replicas`, `None` where it is not set.
    pub(crate) fn replicas(&self, budget: &Budget) -> Result<Option<i32>, Refusal> {
        let part = self.part("spec", "replicas");
        let json = match &self.spec {
            Spec::Fields(fields) => fields.get("replicas"),
            Spec::Other(json) if !is_null(json) => {
                return Err(Refusal::malformed(Part::new(self.side, "spec"), "it is no object"));
            }
            Spec::Other(_) | Spec::Missing => None,
        };
        let Some(json) = json else { return Ok(None) };
        let value = budget.decode(&part, json)?;
        serde_json::from_value(value).map_err(|error| Refusal::malformed(part, &error.to_string()))
    }

    /// Decodes the identity and the count of a cluster, without annotations, labels and the rest of
    /// the spec.
    ///
    /// With [`Object::switches_alike`] that is enough to find that a write needs no verdict.
    pub(crate) fn head(&self, budget: &Budget) -> Result<Postgresql, Refusal> {
        let metadata = |key: &str| !matches!(key, ANNOTATIONS | MANAGED_FIELDS | "labels");
        self.cluster(metadata, |part| part == COUNT, budget)
    }

    /// Returns whether annotations and the declaration of a standby, which change the effective
    /// count, are the same text in both objects.
    ///
    /// Equal text has equal values. Different text may have equal values too, and is decoded to
    /// find out.
    pub(crate) fn switches_alike(&self, other: &Self) -> bool {
        let same = |one: Option<&RawValue>, other: Option<&RawValue>| {
            one.map(RawValue::get) == other.map(RawValue::get)
        };
        let annotations = |it: &Self| it.metadata.get(ANNOTATIONS).copied();
        same(annotations(self), annotations(other))
            && ["env", "standby"]
                .iter()
                .all(|part| same(self.spec_part(part), other.spec_part(part)))
    }

    /// Decodes the judged parts of a cluster: of the spec those that rules read, and those with
    /// another text in `other`.
    pub(crate) fn judged(
        &self,
        other: Option<&Self>,
        budget: &Budget,
    ) -> Result<Postgresql, Refusal> {
        let differs = |part: &str| {
            other.is_some_and(|other| {
                self.spec_part(part).map(RawValue::get) != other.spec_part(part).map(RawValue::get)
            })
        };
        let metadata = |key: &str| key != MANAGED_FIELDS;
        let spec = |part: &str| JUDGED_PARTS.contains(&part) || differs(part);
        let cluster = self.cluster(metadata, spec, budget)?;
        // The new object already holds the entry of this very write.
        let stored = self.side == Side::Stored;
        let managed = self.metadata.get(MANAGED_FIELDS).filter(|_| stored);
        Ok(Postgresql { writes: managed.map(|json| writes(json)).unwrap_or_default(), ..cluster })
    }

    fn spec_part(&self, part: &str) -> Option<&'a RawValue> {
        match &self.spec {
            Spec::Fields(fields) => fields.get(part).copied(),
            Spec::Other(_) | Spec::Missing => None,
        }
    }

    fn cluster(
        &self,
        metadata: impl Fn(&str) -> bool,
        spec: impl Fn(&str) -> bool,
        budget: &Budget,
    ) -> Result<Postgresql, Refusal> {
        let fields = self.metadata.iter().filter(|(key, _)| metadata(key));
        let metadata = fields
            .map(|(key, json)| {
                let value = budget.decode(&self.part("metadata", key), json)?;
                Ok(((*key).to_owned(), value))
            })
            .collect::<Result<Map<_, _>, _>>()?;
        let spec = match &self.spec {
            Spec::Fields(fields) => fields
                .iter()
                .filter(|(part, _)| spec(part))
                .map(|(part, json)| {
                    let value = budget.decode(&self.part("spec", part), json)?;
                    Ok((part.clone().into_owned(), value))
                })
                .collect::<Result<Map<_, _>, _>>()
                .map(Value::Object)?,
            Spec::Other(json) => budget.decode(&Part::new(self.side, "spec"), json)?,
            Spec::Missing => Value::Null,
        };
        let status = self.operator_status(budget)?;
        Postgresql::of_parts(Value::Object(metadata), spec, &status)
            .map_err(|error| Refusal::malformed(Part::new(self.side, ""), &error.to_string()))
    }

    /// Decodes the operator's word for the state, which operators before 1.0 wrote as a bare string
    /// in place of the status.
    fn operator_status(&self, budget: &Budget) -> Result<Value, Refusal> {
        let Some(json) = self.status else { return Ok(Value::Null) };
        match json.get().as_bytes().first() {
            Some(b'"') => budget.decode(&Part::new(self.side, "status"), json),
            Some(b'{') => {
                let [word] = known(self.side, json, "status", [STATUS])?;
                let word = word.map(|json| budget.decode(&self.part("status", STATUS), json));
                Ok(json!({STATUS: word.transpose()?}))
            }
            _ => Ok(Value::Null),
        }
    }

    fn part(&self, parent: &str, key: &str) -> Part {
        Part::new(self.side, format!("{parent}.{key}"))
    }
}

/// Decodes the judged parts of a cluster that the API server sent in answer to a GET.
pub(crate) fn stored(text: &str) -> Result<Postgresql, Refusal> {
    let budget = Budget::default();
    Object::of(Side::Stored, whole(text)?, &budget)?.judged(None, &budget)
}

/// Decodes no more than [`Object::head`] of such a cluster.
pub(crate) fn stored_head(text: &str) -> Result<Postgresql, Refusal> {
    let budget = Budget::default();
    Object::of(Side::Stored, whole(text)?, &budget)?.head(&budget)
}

fn whole(text: &str) -> Result<&RawValue, Refusal> {
    serde_json::from_str(text)
        .map_err(|error| Refusal::malformed(Part::new(Side::Stored, ""), &error.to_string()))
}

/// Reads the times of the last writes in constant memory. An entry that cannot be read is passed
/// over: the time of that write is then not known.
fn writes(json: &RawValue) -> Writes {
    let mut writes = Writes::default();
    let _ = items(json, |entry| {
        let names = ["fieldsV1", "subresource", "time"];
        let Ok([fields, subresource, time]) = fields_of(entry, names) else { return };
        let text = |json: Option<&RawValue>| serde_json::from_str(json?.get()).ok();
        let subresource: Option<String> = text(subresource);
        let time = time.and_then(|json| serde_json::from_str(json.get()).ok());
        let time = time.map(|Time(time)| time);
        writes.add(subresource.as_deref(), time, owned(fields).unwrap_or_default());
    });
    writes
}

/// Reads the fields of one entry, as far as they are looked at.
fn owned(fields: Option<&RawValue>) -> Result<Owned, serde_json::Error> {
    let mut owned = Owned::default();
    let Some(fields) = fields else { return Ok(owned) };
    let [metadata, spec] = fields_of(fields, ["f:metadata", "f:spec"])?;
    if let Some(spec) = spec {
        let _ = entries(spec, |key, _| owned.shaping |= Owned::shapes(&key));
    }
    if let Some(metadata) = metadata {
        let names = [LABELS, ANNOTATION_FIELDS];
        let [labels, annotations] = fields_of(metadata, names).unwrap_or_default();
        owned.labels = labels.is_some();
        if let Some(annotations) = annotations {
            let _ = entries(annotations, |key, _| owned.last_applied |= key == LAST_APPLIED);
        }
    }
    Ok(owned)
}

/// Finds the fields with these names. Of a name that is there twice the last one counts.
fn fields_of<'a, const N: usize>(
    json: &'a RawValue,
    names: [&str; N],
) -> Result<[Option<&'a RawValue>; N], serde_json::Error> {
    let mut found = [None; N];
    entries(json, |key, value| {
        if let Some((_, field)) = names.iter().zip(&mut found).find(|(name, _)| **name == key) {
            *field = Some(value);
        }
    })?;
    Ok(found)
}

fn is_null(json: &RawValue) -> bool {
    json.get() == "null"
}

/// Finds the fields with these names, and passes over the others in constant memory.
fn known<'a, const N: usize>(
    side: Side,
    json: &'a RawValue,
    path: &'static str,
    names: [&str; N],
) -> Result<[Option<&'a RawValue>; N], Refusal> {
    let mut found = [None; N];
    let mut twice = None;
    let walked = entries(json, |key, value| {
        let field = names.iter().zip(&mut found).find(|(name, _)| **name == key);
        if let Some((name, field)) = field
            && field.replace(value).is_some()
        {
            twice.get_or_insert((*name).to_owned());
        }
    });
    let part = || Part::new(side, path);
    walked.map_err(|error| Refusal::malformed(part(), &error.to_string()))?;
    match twice {
        Some(key) => Err(Refusal::twice(part(), &key)),
        None => Ok(found),
    }
}
