//! The parts of a StatefulSet that the operator compares beside the spec of its pods: as they are,
//! and as the operator would write them.
//!
//! `labelsSet` and `annotationsSet` (pkg/cluster/util.go), `generatePodAnnotations` and
//! `generateStatefulSet` (pkg/cluster/k8sres.go), `AnnotationsToPropagate` (pkg/cluster/sync.go)
//! write them; `compareStatefulSetWith` and `compareAnnotations` (pkg/cluster/cluster.go) compare
//! them. These functions are the same in 1.15.1 and 2.0.1.

#![expect(
    clippy::indexing_slicing,
    reason = "only JSON values are indexed: a missing value reads as null"
)]

use std::collections::{BTreeMap, BTreeSet};

use jiff::SignedDuration;
use regex_lite::Regex;
use serde_json::Value;

use crate::operator::Settings;
use crate::postgresql::Postgresql;

/// The template annotation that names a role of the cloud provider
/// (pkg/util/constants/annotations.go).
const IAM_ROLE: &str = "iam.amazonaws.com/role";
/// The label with the team of a cluster.
const TEAM: &str = "team";

/// Labels or annotations, by key.
pub type Pairs = BTreeMap<String, String>;

/// The operator's settings for the parts that it compares.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Shaping {
    /// Labels of a cluster that its pods get, too.
    pub inherited_labels: Vec<String>,
    /// Annotations of a cluster that its StatefulSet and its pods get, too.
    pub inherited_annotations: Vec<String>,
    /// Regular expressions. Annotations of a cluster with a matching key go to its StatefulSet.
    pub downscaler_annotations: Vec<String>,
    /// Annotations of all pods.
    pub pod_annotations: Pairs,
    /// The role that every pod is annotated with.
    pub iam_role: Option<String>,
    /// The pods' service account.
    pub service_account: String,
    /// The pods' termination grace period in seconds. `None` where the setting is not understood.
    pub grace_seconds: Option<i64>,
    /// Pods come and go at once (`pod_management_policy: parallel`).
    pub parallel: bool,
    /// Kubernetes deletes the claims of a deleted StatefulSet
    /// (`persistent_volume_claim_retention_policy.when_deleted: delete`).
    pub when_deleted: bool,
    /// The time between two synchronisations of a cluster. `None` where the setting is not
    /// understood.
    pub resync: Option<SignedDuration>,
}

impl Default for Shaping {
    fn default() -> Self {
        Self {
            inherited_labels: Vec::new(),
            inherited_annotations: Vec::new(),
            downscaler_annotations: Vec::new(),
            pod_annotations: Pairs::new(),
            iam_role: None,
            service_account: "postgres-pod".to_owned(),
            grace_seconds: Some(300),
            parallel: false,
            when_deleted: false,
            resync: Some(SignedDuration::from_mins(30)),
        }
    }
}

impl Shaping {
    /// Reads the flat keys of an operator ConfigMap.
    ///
    /// Items of a list are taken as they stand: the operator does not trim them (`processField`,
    /// pkg/util/config/util.go), so a key after `, ` matches nothing.
    pub(super) fn of_config_map(data: &BTreeMap<String, String>) -> Self {
        let text = |name: &str| data.get(name).filter(|text| !text.is_empty());
        let list = |name: &str| {
            let items = text(name).into_iter().flat_map(|text| text.split(','));
            items.map(str::to_owned).collect()
        };
        Self::read(
            |name| text(name).map(|text| text.trim().to_owned()),
            list,
            |name| {
                let pairs = text(name).map(|text| unquoted(text)).unwrap_or_default();
                let pairs =
                    pairs.into_iter().filter_map(|pair| pair.trim_matches(BLANK).split_once(':'));
                pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
            },
        )
    }

    /// Reads `configuration` of an `OperatorConfiguration` object.
    pub(super) fn of_operator_configuration(configuration: &Value) -> Self {
        let value = |name: &str| {
            let sections =
                [&configuration["kubernetes"], &configuration["aws_or_gcp"], configuration];
            sections.into_iter().map(|section| &section[name]).find(|value| !value.is_null())
        };
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let list = |name: &str| {
            let items = value(name).and_then(Value::as_array);
            items.into_iter().flatten().filter_map(text).collect()
        };
        let one = |name: &str| value(name).and_then(text).filter(|text| !text.is_empty());
        Self::read(one, list, |name| pairs(value(name).unwrap_or(&Value::Null)))
    }

    fn read(
        text: impl Fn(&str) -> Option<String>,
        list: impl Fn(&str) -> Vec<String>,
        map: impl Fn(&str) -> Pairs,
    ) -> Self {
        let default = Self::default();
        let time = |name: &str, default: Option<SignedDuration>| match text(name) {
            Some(text) => text.parse::<SignedDuration>().ok(),
            None => default,
        };
        let grace = default.grace_seconds.map(SignedDuration::from_secs);
        Self {
            inherited_labels: list("inherited_labels"),
            inherited_annotations: list("inherited_annotations"),
            downscaler_annotations: list("downscaler_annotations"),
            pod_annotations: map("custom_pod_annotations"),
            iam_role: text("kube_iam_role"),
            service_account: text("pod_service_account_name").unwrap_or(default.service_account),
            grace_seconds: time("pod_terminate_grace_period", grace).map(|it| it.as_secs()),
            parallel: text("pod_management_policy").as_deref() == Some("parallel"),
            when_deleted: map(super::RETENTION).get("when_deleted").map(String::as_str)
                == Some("delete"),
            resync: time("resync_period", default.resync),
        }
    }
}

/// The blanks around a pair that the operator leaves out.
const BLANK: [char; 2] = [' ', '\t'];

/// Splits a text at the commas outside of quotes (`getMapPairsFromString`,
/// pkg/util/config/util.go).
fn unquoted(text: &str) -> Vec<&str> {
    let mut quote = None;
    text.split(|character| {
        match (quote, character) {
            (None, '"' | '\'') => quote = Some(character),
            (Some(open), close) if open == close => quote = None,
            (None, ',') => return true,
            _ => {}
        }
        false
    })
    .collect()
}

fn pairs(map: &Value) -> Pairs {
    let fields = map.as_object().into_iter().flatten();
    fields.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

/// The parts of a StatefulSet that the operator compares, beside the spec of its pods.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Compared {
    /// Annotations of the StatefulSet.
    pub annotations: Pairs,
    /// Annotations of its pod template.
    pub pod_annotations: Pairs,
    /// Labels of its pod template. Empty where they were not read: no StatefulSet is stored without.
    pub pod_labels: Pairs,
    /// The service account of its pods.
    pub service_account: Option<String>,
    /// Seconds that its pods have to end.
    pub grace_seconds: Option<i64>,
    /// Its pods come and go at once.
    pub parallel: bool,
    /// Kubernetes deletes the claims of removed members.
    pub when_scaled: bool,
    /// Kubernetes deletes the claims of a deleted StatefulSet.
    pub when_deleted: bool,
}

impl Settings {
    /// Returns the compared parts as the operator would write them for `cluster`.
    ///
    /// # Errors
    /// A pattern of the settings that is not understood.
    pub fn compared(&self, cluster: &Postgresql) -> Result<Compared, String> {
        let shaping = &*self.shaping;
        let chosen = |from: &Pairs, keys: &[String]| -> Pairs {
            let some = from.iter().filter(|(key, _)| keys.contains(key));
            some.map(|(key, value)| (key.clone(), value.clone())).collect()
        };
        let mut pod_labels = self.selector(&cluster.name);
        let team = cluster.spec["teamId"].as_str().unwrap_or_default();
        pod_labels.insert(TEAM.to_owned(), team.to_owned());
        pod_labels.extend(chosen(&cluster.labels, &shaping.inherited_labels));

        let inherited = chosen(&cluster.annotations, &shaping.inherited_annotations);
        let mut pod_annotations = shaping.pod_annotations.clone();
        pod_annotations.extend(pairs(&cluster.spec["podAnnotations"]));
        pod_annotations.extend(inherited.clone());
        pod_annotations.extend(shaping.iam_role.clone().map(|role| (IAM_ROLE.to_owned(), role)));

        let mut annotations = inherited;
        for pattern in &shaping.downscaler_annotations {
            let pattern = Regex::new(pattern).map_err(|_| {
                format!("downscaler_annotations holds {pattern:?}, which is not understood here")
            })?;
            let matching = cluster.annotations.iter().filter(|(key, _)| pattern.is_match(key));
            annotations.extend(matching.map(|(key, value)| (key.clone(), value.clone())));
        }
        Ok(Compared {
            annotations,
            pod_annotations,
            pod_labels,
            service_account: Some(shaping.service_account.clone()),
            grace_seconds: shaping.grace_seconds,
            parallel: shaping.parallel,
            when_scaled: self.deletes_volumes,
            when_deleted: shaping.when_deleted,
        })
    }
}

/// One place in a StatefulSet that the operator compares.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// An annotation of the StatefulSet.
    Annotation(String),
    /// An annotation of the pod template.
    PodAnnotation(String),
    /// A label of the pod template.
    PodLabel(String),
    /// The service account of the pods.
    ServiceAccount,
    /// The time that the pods have to end.
    GracePeriod,
    /// The order in which pods come and go.
    PodManagement,
    /// The fate of claims.
    Retention,
}

impl Place {
    /// Returns whether the operator renews the pods because of a difference here, beside replacing
    /// the StatefulSet.
    pub fn renews(&self) -> bool {
        match self {
            Self::PodLabel(_) | Self::ServiceAccount | Self::GracePeriod => true,
            Self::Annotation(_)
            | Self::PodAnnotation(_)
            | Self::PodManagement
            | Self::Retention => false,
        }
    }
}

/// A difference between a StatefulSet and the one that the operator would write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The place.
    pub place: Place,
    /// The value there now. `None` where there is none.
    pub is: Option<String>,
    /// The value that the operator would write. `None` where it would write none.
    pub becomes: Option<String>,
}

impl Compared {
    /// Returns the differences for which the operator would replace this StatefulSet by `wanted`.
    ///
    /// It looks at no annotation in `ignored`.
    pub fn differences(&self, wanted: &Self, ignored: &[String]) -> Vec<Difference> {
        let mut all = Vec::new();
        let noticed = |key: &String| !ignored.contains(key);
        by_key(&self.annotations, &wanted.annotations, noticed, Place::Annotation, &mut all);
        let (is, becomes) = (&self.pod_annotations, &wanted.pod_annotations);
        by_key(is, becomes, noticed, Place::PodAnnotation, &mut all);
        if !self.pod_labels.is_empty() {
            let (is, becomes) = (&self.pod_labels, &wanted.pod_labels);
            by_key(is, becomes, |_| true, Place::PodLabel, &mut all);
        }
        let mut one = |place, is: Option<String>, becomes: Option<String>| {
            if is.is_some() && becomes.is_some() && is != becomes {
                all.push(Difference { place, is, becomes });
            }
        };
        one(Place::ServiceAccount, self.service_account.clone(), wanted.service_account.clone());
        let seconds = |it: &Self| it.grace_seconds.map(|seconds| format!("{seconds}s"));
        one(Place::GracePeriod, seconds(self), seconds(wanted));
        let order = |it: &Self| if it.parallel { "Parallel" } else { "OrderedReady" };
        one(Place::PodManagement, Some(order(self).into()), Some(order(wanted).into()));
        let fate = |it: &Self| {
            let word = |deletes: bool| if deletes { "Delete" } else { "Retain" };
            format!("whenDeleted {}, whenScaled {}", word(it.when_deleted), word(it.when_scaled))
        };
        one(Place::Retention, Some(fate(self)), Some(fate(wanted)));
        all
    }
}

/// Adds the differences between two maps, in the order of their keys.
fn by_key(
    is: &Pairs,
    becomes: &Pairs,
    noticed: impl Fn(&String) -> bool,
    place: impl Fn(String) -> Place,
    all: &mut Vec<Difference>,
) {
    let keys: BTreeSet<&String> = is.keys().chain(becomes.keys()).collect();
    let differ = keys.into_iter().filter(|key| noticed(key) && is.get(*key) != becomes.get(*key));
    all.extend(differ.map(|key| Difference {
        place: place(key.clone()),
        is: is.get(key).cloned(),
        becomes: becomes.get(key).cloned(),
    }));
}

#[cfg(test)]
mod tests;
