//! The review as it arrives: one pass over the bytes finds its fields, of which only the judged
//! ones are decoded.
//!
//! kube's `AdmissionReview` would decode everything: both objects with all their `managedFields`,
//! and all values that the API server's authenticator put into `userInfo`.

use std::fmt;

use kube::core::admission::{AdmissionResponse, META_API_VERSION_V1, META_KIND, Operation};
use kube::core::{GroupVersionKind, GroupVersionResource, Status};
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use super::advice::ELSEWHERE;
use super::budget::{Budget, Part, QUOTED, Refusal, Side};
use super::object::Object;
use super::text::cut;
use super::tree::{Key, entries};

/// The fields of a review beside its objects.
#[derive(Clone, Debug)]
pub(crate) struct Review {
    /// Identity of the review, for the answer.
    pub(crate) uid: String,
    /// The operation.
    pub(crate) operation: Operation,
    /// The kind of the objects.
    pub(crate) kind: GroupVersionKind,
    /// The resource that is written.
    pub(crate) resource: GroupVersionResource,
    /// The subresource that is written, if any.
    pub(crate) sub_resource: Option<String>,
    /// The name of the object, empty where the API server generates it later.
    pub(crate) name: String,
    /// Its namespace.
    pub(crate) namespace: Option<String>,
    /// The name of the user who writes.
    pub(crate) user: Option<String>,
    /// The API server will store nothing.
    pub(crate) dry_run: bool,
    /// The field manager in the options of the write.
    pub(crate) field_manager: Option<String>,
    /// The name in the object, if it can be read. A generated name is only there.
    pub(crate) object_name: Option<String>,
    /// The uid of the stored object. An object that is being created has none yet.
    pub(crate) object_uid: Option<String>,
}

impl Review {
    /// Returns the answer that lets the write pass.
    pub(crate) fn allowed(&self) -> AdmissionResponse {
        let mut response = AdmissionResponse::invalid("");
        response.uid.clone_from(&self.uid);
        response.allowed = true;
        response.result = Status::default();
        response
    }
}

/// A review with its objects, which are still encoded in the body.
#[derive(Debug)]
pub(crate) struct Received<'a> {
    /// Its other fields.
    pub(crate) review: Review,
    /// `request.object`, split into parts, `None` where it is null.
    pub(crate) object: Result<Option<Object<'a>>, Refusal>,
    /// `request.oldObject`, the same.
    pub(crate) old_object: Result<Option<Object<'a>>, Refusal>,
    /// The budget, less the fields beside the objects.
    pub(crate) budget: Budget,
}

/// The reason why a body is not a review that can be judged.
#[derive(Debug, PartialEq)]
pub(crate) enum Undecodable {
    /// It is no review, or has no uid. The only possible answer is an HTTP status.
    Request(String),
    /// It is a review that cannot be read or is too large.
    Review {
        /// Identity of the review, for the answer.
        uid: String,
        /// The reason, for people.
        why: String,
    },
}

impl<'a> Received<'a> {
    /// Reads the body of a request.
    ///
    /// # Errors
    /// Fails when it is no review, or one whose fields beside the objects cannot be read. Objects
    /// that cannot be read are no error here, because not every write is judged by them.
    pub(crate) fn of(body: &'a [u8]) -> Result<Self, Undecodable> {
        let budget = Budget::default();
        let envelope = Envelope::of(body, &budget).map_err(Undecodable::Request)?;
        let Envelope { kind, version, request, refusal } = envelope;
        // A budget of its own, because the other one may be used up by now, and the answer needs
        // the uid.
        let identity = Budget::default();
        let text = |path, json| text(&identity, path, json).ok().flatten();
        let uid = request.and_then(|request| text("request.uid", request.get(Field::Uid)));
        let uid = uid.unwrap_or_default();
        let undecodable = |why: String| {
            if uid.is_empty() {
                Undecodable::Request(why)
            } else {
                Undecodable::Review { uid: uid.clone(), why }
            }
        };
        let is = (text("kind", kind), text("apiVersion", version));
        if (is.0.as_deref(), is.1.as_deref()) != (Some(META_KIND), Some(META_API_VERSION_V1)) {
            let (kind, version) = (is.0.as_deref(), is.1.as_deref());
            return Err(undecodable(format!(
                "the body is {} of {}: {EXPECTED}",
                cut(kind.unwrap_or("nothing"), 64),
                cut(version.unwrap_or("no version"), 64)
            )));
        }
        let Some(request) = request else {
            return Err(undecodable("the review has no request".to_owned()));
        };
        if uid.is_empty() {
            return Err(undecodable(
                "request.uid is missing, and the answer must repeat it".into(),
            ));
        }
        let review = match refusal {
            Some(refusal) => Err(refusal),
            None => request.review(uid.clone(), &budget),
        };
        let review = review.map_err(|refusal| undecodable(refusal.advised(ELSEWHERE)))?;
        let object = |side, field| {
            let json = request.get(field).filter(|json| json.get() != NULL);
            json.map(|json| Object::of(side, json, &budget)).transpose()
        };
        let object = (object(Side::New, Field::Object), object(Side::Stored, Field::OldObject));
        let mut received = Self { review, object: object.0, old_object: object.1, budget };
        received.identify();
        Ok(received)
    }

    /// Fills in name and uid from the objects, for Events.
    fn identify(&mut self) {
        let identity = |object: &Result<Option<Object<'_>>, Refusal>| match object {
            Ok(Some(object)) => object.identity(&self.budget),
            Ok(None) | Err(_) => (None, None),
        };
        let (name, uid) = identity(&self.old_object);
        self.review.object_name = name.or_else(|| identity(&self.object).0);
        self.review.object_uid = uid;
    }
}

const NULL: &str = "null";
/// The most bytes of a name, a user or a uid, all of which are logged. Kubernetes allows 253 for
/// the longest name.
const WORD: usize = 1024;
const EXPECTED: &str = "send an AdmissionReview of admission.k8s.io/v1";

/// A body split into its fields, none of them decoded.
#[derive(Default)]
struct Envelope<'a> {
    kind: Option<&'a RawValue>,
    version: Option<&'a RawValue>,
    request: Option<Request<'a>>,
    /// The first reason to refuse it. The pass still reads to the end of the body, because the uid
    /// may come later.
    refusal: Option<Refusal>,
}

/// The fields of `request` that are read.
#[derive(Clone, Copy)]
enum Field {
    DryRun,
    Kind,
    Name,
    Namespace,
    Object,
    OldObject,
    Operation,
    Options,
    Resource,
    SubResource,
    Uid,
    UserInfo,
}

/// The names of the fields, in the same order.
const FIELDS: [&str; 12] = [
    "dryRun",
    "kind",
    "name",
    "namespace",
    "object",
    "oldObject",
    "operation",
    "options",
    "resource",
    "subResource",
    "uid",
    "userInfo",
];

/// `request`, its fields still encoded.
#[derive(Clone, Copy, Default)]
struct Request<'a>([Option<&'a RawValue>; FIELDS.len()]);

impl<'a> Envelope<'a> {
    fn of(body: &'a [u8], budget: &Budget) -> Result<Self, String> {
        let text = std::str::from_utf8(body)
            .map_err(|error| format!("the body is not JSON ({error}): {EXPECTED}"))?;
        let mut json = serde_json::Deserializer::from_str(text);
        let envelope = json.deserialize_map(EnvelopeVisitor { budget });
        envelope.and_then(|envelope| json.end().map(|()| envelope)).map_err(|error| {
            let what = if error.is_data() { "no review" } else { "not JSON" };
            let error = cut(&error.to_string(), QUOTED);
            format!("the body is {what} ({error}): {EXPECTED}")
        })
    }

    /// Remembers the first refusal.
    fn note(&mut self, checked: Result<(), Refusal>) {
        if let Err(refusal) = checked {
            self.refusal.get_or_insert(refusal);
        }
    }
}

struct EnvelopeVisitor<'b> {
    budget: &'b Budget,
}

impl<'de> Visitor<'de> for EnvelopeVisitor<'_> {
    type Value = Envelope<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(META_KIND)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Self::Value, A::Error> {
        let mut envelope = Envelope::default();
        let mut requested = false;
        let whole = Part::new(Side::Request, "the review");
        while let Some(key) = fields.next_key_seed(Key)? {
            if key == "request" {
                let twice = std::mem::replace(&mut requested, true);
                envelope.note(if twice {
                    Err(Refusal::twice(whole.clone(), &key))
                } else {
                    Ok(())
                });
                let seed = RequestSeed { envelope: &mut envelope, budget: self.budget };
                let request = fields.next_value_seed(seed)?;
                envelope.request = request;
                continue;
            }
            let json = fields.next_value()?;
            let checked = match &*key {
                "kind" => keep(&mut envelope.kind, json, &whole, &key),
                "apiVersion" => keep(&mut envelope.version, json, &whole, &key),
                _ if envelope.refusal.is_some() => Ok(()),
                _ => self.budget.count(&whole, json),
            };
            envelope.note(checked);
        }
        Ok(envelope)
    }
}

fn keep<'a>(
    place: &mut Option<&'a RawValue>,
    json: &'a RawValue,
    part: &Part,
    key: &str,
) -> Result<(), Refusal> {
    if place.replace(json).is_some() { Err(Refusal::twice(part.clone(), key)) } else { Ok(()) }
}

struct RequestSeed<'e, 'b, 'a> {
    envelope: &'e mut Envelope<'a>,
    budget: &'b Budget,
}

impl<'de> DeserializeSeed<'de> for RequestSeed<'_, '_, 'de> {
    type Value = Option<Request<'de>>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_option(self)
    }
}

impl<'de> Visitor<'de> for RequestSeed<'_, '_, 'de> {
    type Value = Option<Request<'de>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the request of a review")
    }

    fn visit_none<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_some<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_map(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Self::Value, A::Error> {
        let mut request = Request::default();
        let part = Part::new(Side::Request, "request");
        while let Some(key) = fields.next_key_seed(Key)? {
            let json = fields.next_value()?;
            let place = FIELDS.iter().zip(&mut request.0).find(|(name, _)| **name == key);
            let checked = match place {
                Some((name, place)) => keep(place, json, &part, name),
                None if self.envelope.refusal.is_some() => Ok(()),
                None => self.budget.count(&part, json),
            };
            self.envelope.note(checked);
        }
        Ok(Some(request))
    }
}

impl<'a> Request<'a> {
    #[expect(
        clippy::indexing_slicing,
        reason = "there are as many fields as names, in the same order"
    )]
    fn get(&self, field: Field) -> Option<&'a RawValue> {
        self.0[field as usize]
    }

    fn review(&self, uid: String, budget: &Budget) -> Result<Review, Refusal> {
        let text = |path, field| text(budget, path, self.get(field));
        Ok(Review {
            uid,
            operation: self.required("request.operation", Field::Operation, budget)?,
            kind: self.required("request.kind", Field::Kind, budget)?,
            resource: self.required("request.resource", Field::Resource, budget)?,
            sub_resource: text("request.subResource", Field::SubResource)?
                .filter(|name| !name.is_empty()),
            name: text("request.name", Field::Name)?.unwrap_or_default(),
            namespace: text("request.namespace", Field::Namespace)?,
            user: self.inside("request.userInfo", Field::UserInfo, "username", budget)?,
            dry_run: self.optional("request.dryRun", Field::DryRun, budget)?.unwrap_or(false),
            field_manager: self.inside(
                "request.options",
                Field::Options,
                "fieldManager",
                budget,
            )?,
            object_name: None,
            object_uid: None,
        })
    }

    fn optional<T: DeserializeOwned>(
        &self,
        path: &'static str,
        field: Field,
        budget: &Budget,
    ) -> Result<Option<T>, Refusal> {
        let Some(json) = self.get(field) else { return Ok(None) };
        let part = Part::new(Side::Request, path);
        let value = budget.decode(&part, json)?;
        serde_json::from_value(value).map_err(|error| Refusal::malformed(part, &error.to_string()))
    }

    fn required<T: DeserializeOwned>(
        &self,
        path: &'static str,
        field: Field,
        budget: &Budget,
    ) -> Result<T, Refusal> {
        let missing = || Refusal::malformed(Part::new(Side::Request, path), "it is missing");
        self.optional(path, field, budget)?.ok_or_else(missing)
    }

    /// Decodes the text called `name` in an object, and counts the other values there.
    fn inside(
        &self,
        path: &'static str,
        field: Field,
        name: &'static str,
        budget: &Budget,
    ) -> Result<Option<String>, Refusal> {
        let Some(json) = self.get(field).filter(|json| json.get() != NULL) else { return Ok(None) };
        let part = Part::new(Side::Request, path);
        let (mut found, mut checked) = (None, Ok(()));
        let walked = entries(json, |key, json| {
            if checked.is_ok() {
                checked = if key == name {
                    keep(&mut found, json, &part, name)
                } else {
                    budget.count(&part, json)
                };
            }
        });
        walked.map_err(|error| Refusal::malformed(part, &error.to_string()))?;
        checked?;
        text(budget, path, found)
    }
}

/// Decodes a text of at most [`WORD`] bytes that may be missing or null.
fn text(
    budget: &Budget,
    path: &'static str,
    json: Option<&RawValue>,
) -> Result<Option<String>, Refusal> {
    let Some(json) = json else { return Ok(None) };
    let part = Part::new(Side::Request, path);
    match budget.decode(&part, json)? {
        Value::Null => Ok(None),
        Value::String(text) if text.len() > WORD => {
            Err(Refusal::malformed(part, &format!("it has more than {WORD} bytes")))
        }
        Value::String(text) => Ok(Some(text)),
        Value::Array(_) | Value::Bool(_) | Value::Number(_) | Value::Object(_) => {
            Err(Refusal::malformed(part, "it is no text"))
        }
    }
}
