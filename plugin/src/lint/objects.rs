//! The objects among the documents: clusters, and everything by which they are judged.

use std::collections::BTreeMap;
use std::sync::Arc;

use pgscale_guard::object_ref::{Kind, ObjectRef};
use pgscale_guard::operator::{Operator, Settings};
use pgscale_guard::overrides::{Overrides, ScaleOverride};
use pgscale_guard::policy::{ClusterScalePolicy, ScalePolicy, Undecodable, Written, decode, named};
use pgscale_guard::postgresql::{GROUP, KIND, VERSION};
use pgscale_guard::seen::Seen;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::manifest::Document;
use super::{Place, Problem};

/// `apiVersion` of our own objects.
const OURS: &str = "pgscale.dev/v1alpha1";

/// A cluster's manifest.
#[derive(Clone, Debug)]
pub(crate) struct Manifest {
    /// Its namespace; the default one where it names none.
    pub(crate) namespace: String,
    /// Its name.
    pub(crate) name: String,
    /// The document, with the namespace in it.
    pub(crate) document: Document,
}

/// Policies, overrides, labels of namespaces and settings of the operator.
#[derive(Clone, Debug, Default)]
pub(crate) struct Laws {
    own: Vec<ScalePolicy>,
    everywhere: Vec<ClusterScalePolicy>,
    /// Policies that cannot be decoded. Those of a namespace with its name.
    undecodable: Vec<(Option<String>, Undecodable)>,
    overrides: Vec<ScaleOverride>,
    /// Overrides that cannot be decoded, with their namespaces and the decoder's messages.
    undecodable_overrides: Vec<(String, (Value, String))>,
    namespaces: BTreeMap<String, BTreeMap<String, String>>,
    operators: Vec<(Place, Operator)>,
}

impl Laws {
    /// Returns the number of policies.
    pub(crate) fn policies(&self) -> usize {
        self.own.len() + self.everywhere.len() + self.undecodable.len()
    }

    /// Returns the operator whose settings are among the documents. The error is that there are
    /// several.
    pub(crate) fn operator(&self) -> Result<Option<&Operator>, Problem> {
        match self.operators.as_slice() {
            [] => Ok(None),
            [(_, only)] => Ok(Some(only)),
            [(_, one), (_, other), ..] if one.settings == other.settings => Ok(Some(one)),
            [(first, _), (second, _), ..] => Err(Problem::new(
                second.clone(),
                format!(
                    "the operator's settings are here and at {first}: which of them hold is not known. Give one \
                     with --operator-config"
                ),
            )),
        }
    }

    /// Returns the policies for a namespace, as they would be stored.
    pub(crate) fn written(&self, namespace: &str) -> Written {
        let labels = match self.namespaces.get(namespace) {
            Some(labels) => Seen::Known(labels.clone()),
            None => Seen::Unreadable(format!(
                "the manifest of namespace {namespace} is not among the files"
            )),
        };
        let nothing = Written {
            own: Arc::default(),
            everywhere: Arc::default(),
            undecodable: Vec::new(),
            labels,
            unreadable: None,
        };
        self.beside(nothing, namespace)
    }

    /// Returns the stored policies `there` of a namespace with these among them. One of these takes
    /// the place of the stored one with its kind and name.
    pub(crate) fn beside(&self, mut there: Written, namespace: &str) -> Written {
        let here = |of: Option<&String>| of.is_some_and(|of| of == namespace);
        for policy in self.own.iter().filter(|it| here(it.metadata.namespace.as_ref())) {
            Arc::make_mut(&mut there.own).retain(|old| old.metadata.name != policy.metadata.name);
            let source = named(Kind::ScalePolicy, policy.metadata.name.as_deref());
            there.undecodable.retain(|old| old.source != source);
            Arc::make_mut(&mut there.own).push(policy.clone());
        }
        for policy in &self.everywhere {
            Arc::make_mut(&mut there.everywhere)
                .retain(|old| old.metadata.name != policy.metadata.name);
            let source = named(Kind::ClusterScalePolicy, policy.metadata.name.as_deref());
            there.undecodable.retain(|old| old.source != source);
            Arc::make_mut(&mut there.everywhere).push(policy.clone());
        }
        for (of, policy) in &self.undecodable {
            if of.is_none() || here(of.as_ref()) {
                Arc::make_mut(&mut there.own).retain(|old| {
                    named(Kind::ScalePolicy, old.metadata.name.as_deref()) != policy.source
                });
                Arc::make_mut(&mut there.everywhere).retain(|old| {
                    named(Kind::ClusterScalePolicy, old.metadata.name.as_deref()) != policy.source
                });
                there.undecodable.push(policy.clone());
            }
        }
        if let Some(labels) = self.namespaces.get(namespace) {
            there.labels = Seen::Known(labels.clone());
        }
        there
    }

    /// Returns the overrides of a cluster.
    pub(crate) fn overrides(&self, namespace: &str, cluster: &str) -> Overrides {
        let here = |it: &&ScaleOverride| it.metadata.namespace.as_deref() == Some(namespace);
        let broken = self.undecodable_overrides.iter().filter(|(of, _)| of == namespace);
        let broken: Vec<(Value, String)> = broken.map(|(_, it)| it.clone()).collect();
        Overrides::of(self.overrides.iter().filter(here).cloned().collect(), cluster)
            .and_undecodable(&broken, cluster)
    }
}

/// The documents, sorted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Objects {
    /// The clusters, in their order.
    pub(crate) clusters: Vec<Manifest>,
    /// Everything by which clusters are judged.
    pub(crate) laws: Laws,
    /// The number of objects of other kinds.
    pub(crate) others: usize,
    /// Documents that are no objects of Kubernetes.
    pub(crate) strangers: Vec<Place>,
    /// Objects that cannot be judged.
    pub(crate) problems: Vec<Problem>,
}

impl Objects {
    /// Sorts `documents`. Those that name no namespace belong to `namespace`.
    pub(crate) fn of(documents: Vec<Document>, namespace: &str) -> Self {
        let mut objects = Self::default();
        for document in documents {
            objects.add(document, namespace);
        }
        objects
    }

    /// Adds the documents of files with nothing but the operator's settings.
    pub(crate) fn add_operator(&mut self, documents: Vec<Document>) {
        for document in documents {
            let place = document.place.clone();
            let settings = match document.text("/kind") {
                "ConfigMap" => {
                    let data = document.value.get("data").cloned().unwrap_or_default();
                    let data: Result<BTreeMap<String, String>, _> = serde_json::from_value(data);
                    data.map_err(|error| error.to_string()).and_then(|data| {
                        Settings::of_config_map(&data).map_err(|error| error.to_string())
                    })
                }
                "OperatorConfiguration" => Settings::of_operator_configuration(&document.value)
                    .map_err(|error| error.to_string()),
                other => Err(format!(
                    "{other:?} is neither an OperatorConfiguration nor the operator's ConfigMap"
                )),
            };
            self.operator(&document, place, settings);
        }
    }

    fn operator(&mut self, document: &Document, place: Place, settings: Result<Settings, String>) {
        let kind = match document.text("/kind") {
            "ConfigMap" => Kind::ConfigMap,
            _ => Kind::OperatorConfiguration,
        };
        let source = ObjectRef::new(kind, document.text("/metadata/name"));
        match settings {
            Ok(settings) => {
                self.laws.operators.push((place, Operator::of_settings(source, settings)));
            }
            Err(why) => self.problems.push(Problem::new(place, why)),
        }
    }

    fn add(&mut self, document: Document, namespace: &str) {
        let (version, kind) =
            (document.text("/apiVersion").to_owned(), document.text("/kind").to_owned());
        if version.is_empty() || kind.is_empty() {
            self.strangers.push(document.place);
            return;
        }
        let (group, _) = version.split_once('/').unwrap_or(("", &version));
        let group = group.to_owned();
        match (version.as_str(), kind.as_str()) {
            (OURS, "ScalePolicy") => self.policy(&document, namespace),
            (OURS, "ClusterScalePolicy") => self.platform_policy(&document),
            (OURS, "ScaleOverride") => self.grant(&document, namespace),
            ("v1", "Namespace") => {
                let labels = document.value.pointer("/metadata/labels").cloned();
                let labels = labels.and_then(|it| serde_json::from_value(it).ok());
                let name = document.text("/metadata/name").to_owned();
                self.laws.namespaces.insert(name, labels.unwrap_or_default());
            }
            (_, "OperatorConfiguration") if group == GROUP => {
                let settings = Settings::of_operator_configuration(&document.value)
                    .map_err(|error| error.to_string());
                self.operator(&document, document.place.clone(), settings);
            }
            (_, KIND) if version == format!("{GROUP}/{VERSION}") => {
                self.cluster(document, namespace);
            }
            (_, word) if group == GROUP && word.eq_ignore_ascii_case(KIND) => {
                let why = format!(
                    "{version} {kind} is no kind that the API server knows: it is {GROUP}/{VERSION} {KIND}"
                );
                self.problems.push(Problem::new(document.place, why));
            }
            _ if group == "pgscale.dev" => {
                let why = format!("{version} {kind} is no kind that this version of pgscale knows");
                self.problems.push(Problem::new(document.place, why));
            }
            _ => self.others += 1,
        }
    }

    fn cluster(&mut self, mut document: Document, namespace: &str) {
        let name = document.text("/metadata/name").to_owned();
        if name.is_empty() {
            self.problems.push(Problem::new(document.place, "metadata.name is missing"));
            return;
        }
        let namespace = set_namespace(&mut document.value, namespace);
        if let Some(count) = document.value.pointer_mut("/spec/numberOfInstances") {
            whole(count);
        }
        self.clusters.push(Manifest { namespace, name, document });
    }

    fn policy(&mut self, document: &Document, namespace: &str) {
        let mut value = document.value.clone();
        let namespace = set_namespace(&mut value, namespace);
        match self.decoded::<ScalePolicy>(document, &value) {
            Ok(policy) => self.laws.own.push(policy),
            Err(why) => {
                let broken = Undecodable::of(Kind::ScalePolicy, &value, why);
                self.laws.undecodable.push((Some(namespace), broken));
            }
        }
    }

    fn platform_policy(&mut self, document: &Document) {
        match self.decoded::<ClusterScalePolicy>(document, &document.value) {
            Ok(policy) => self.laws.everywhere.push(policy),
            Err(why) => {
                let broken = Undecodable::of(Kind::ClusterScalePolicy, &document.value, why);
                self.laws.undecodable.push((None, broken));
            }
        }
    }

    fn grant(&mut self, document: &Document, namespace: &str) {
        let mut value = document.value.clone();
        let namespace = set_namespace(&mut value, namespace);
        match self.decoded::<ScaleOverride>(document, &value) {
            Ok(grant) => self.laws.overrides.push(grant),
            Err(why) => self.laws.undecodable_overrides.push((namespace, (value, why))),
        }
    }

    /// Decodes an object of our own. One that cannot be decoded, and fields that no version of it
    /// has, are problems.
    fn decoded<K: DeserializeOwned + Serialize>(
        &mut self,
        document: &Document,
        value: &Value,
    ) -> Result<K, String> {
        let kind = document.text("/kind");
        let object = decode::<K>(value);
        let known = object.as_ref().ok().and_then(|it| serde_json::to_value(it).ok());
        let unknown = known.map(|known| {
            let part = |value: &Value| value.get("spec").cloned().unwrap_or_default();
            unknown_fields("spec", &part(value), &part(&known))
        });
        for field in unknown.into_iter().flatten() {
            let why = format!("{field} is no field of a {kind}: it has no effect");
            self.problems.push(Problem::new(document.place.clone(), why));
        }
        object.inspect_err(|why| {
            let why = format!("the {kind} cannot be decoded: {why}");
            self.problems.push(Problem::new(document.place.clone(), why));
        })
    }
}

/// Returns the namespace of an object, and puts `namespace` into one that names none.
fn set_namespace(object: &mut Value, namespace: &str) -> String {
    let named = object.pointer("/metadata/namespace").and_then(Value::as_str);
    if let Some(named) = named.filter(|named| !named.is_empty()) {
        return named.to_owned();
    }
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.insert("namespace".to_owned(), Value::from(namespace));
    }
    namespace.to_owned()
}

/// Turns a float without a fraction into a whole number: kubectl sends `3.0` of YAML as 3.
#[expect(clippy::cast_possible_truncation, reason = "it is within an int32")]
fn whole(count: &mut Value) {
    let float = count.as_f64().filter(|_| count.is_f64());
    let fits = |it: &f64| it.fract() == 0.0 && it.abs() <= f64::from(i32::MAX);
    if let Some(float) = float.filter(fits) {
        *count = Value::from(float as i64);
    }
}

/// Returns the paths of fields of `value` that `known`, the same value decoded and encoded again,
/// does not have.
fn unknown_fields(path: &str, value: &Value, known: &Value) -> Vec<String> {
    match (value, known) {
        (Value::Object(fields), Value::Object(known)) => fields
            .iter()
            .filter(|(_, value)| !value.is_null())
            .flat_map(|(key, value)| {
                let path = format!("{path}.{key}");
                match known.get(key) {
                    Some(known) => unknown_fields(&path, value, known),
                    // What is empty may be left out on the way back.
                    None if is_empty(value) => Vec::new(),
                    None => vec![path],
                }
            })
            .collect(),
        (Value::Array(items), Value::Array(known)) if items.len() == known.len() => items
            .iter()
            .zip(known)
            .enumerate()
            .flat_map(|(at, (item, known))| unknown_fields(&format!("{path}[{at}]"), item, known))
            .collect(),
        _ => Vec::new(),
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Null => true,
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}
