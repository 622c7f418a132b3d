//! The versions of everything that takes part, and where they do not fit together.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt as _, stream};
use k8s_openapi::api::apps::v1::Deployment;
use kube::Api;
use kube::api::ListParams;
use pgscale_guard::object_ref::ObjectRef;
use pgscale_guard::read::AskWhom;
use pgscale_guard::{Change, Facts, Seen};
use serde::Serialize;
use serde_json::Value;

use crate::doctor::{tag_of_image, version_of_image};
use crate::session::Session;

/// This program's version.
pub(crate) const CLIENT: &str = env!("CARGO_PKG_VERSION");

/// The labels of the webhook's Deployment (charts/pgscale/templates/_helpers.tpl).
const WEBHOOKS: &str = "app.kubernetes.io/name=pgscale-webhook";
const VERSION: &str = "app.kubernetes.io/version";
const CHART: &str = "helm.sh/chart";

/// The first numbers of the versions that are supported.
const OPERATORS: [u32; 2] = [1, 2];
const PATRONIS: [u32; 3] = [2, 3, 4];

/// The number of clusters that are read at a time.
const AT_ONCE: usize = 8;

/// One part with its version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(crate) struct Part {
    /// `kubernetes`, `webhook`, `chart`, `definition`, `operator`, `patroni` or `postgresql`.
    pub(crate) what: &'static str,
    /// The object that says so, or how many do.
    pub(crate) place: String,
    /// The version. `null` where it is not known.
    pub(crate) version: Option<String>,
    /// What is missing, or the reason for which it could not be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) problem: Option<String>,
}

impl Part {
    fn new(what: &'static str, place: impl Into<String>, version: Option<String>) -> Self {
        Self { what, place: place.into(), version, problem: None }
    }

    fn problem(what: &'static str, place: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { problem: Some(problem.into()), ..Self::new(what, place, None) }
    }
}

/// Reads the versions of everything that serves the clusters of the present namespace.
pub(crate) async fn read(session: &Session) -> Vec<Part> {
    let (kubernetes, webhooks, definitions, clusters) = futures::join!(
        kubernetes(session),
        webhooks(session),
        definitions(session),
        clusters(session)
    );
    [kubernetes, webhooks, definitions, clusters].concat()
}

/// Returns what does not fit together, one sentence each.
pub(crate) fn skews(parts: &[Part]) -> Vec<String> {
    let mut found = Vec::new();
    let of = |what: &str| parts.iter().filter(move |part| part.what == what).collect::<Vec<_>>();
    for part in of("webhook") {
        let Some(version) = &part.version else { continue };
        if version != CLIENT {
            found.push(format!(
                "the webhook {} is {version}, and this program is {CLIENT}: they may judge differently",
                part.place
            ));
        }
    }
    if of("webhook").iter().filter(|part| part.version.is_some()).count() > 1 {
        found.push("more than one webhook is installed".to_owned());
    }
    for part in of("definition") {
        if let Some(problem) = &part.problem {
            found.push(format!("the definition {}: {problem}", part.place));
        }
    }
    for (what, called, known) in
        [("operator", "operator", &OPERATORS[..]), ("patroni", "Patroni", &PATRONIS[..])]
    {
        let versions: BTreeSet<&str> =
            of(what).into_iter().filter_map(|part| part.version.as_deref()).collect();
        for version in &versions {
            if major(version).is_some_and(|major| !known.contains(&major)) {
                found.push(format!("the version {version} of {called} is not supported"));
            }
        }
        if what == "patroni" && versions.len() > 1 {
            let versions: Vec<&str> = versions.into_iter().collect();
            found.push(format!(
                "members run different versions of Patroni: {}",
                versions.join(", ")
            ));
        }
    }
    found
}

/// Returns the first number of a version such as `v1.15.1`.
fn major(version: &str) -> Option<u32> {
    version.trim_start_matches('v').split('.').next()?.parse().ok()
}

async fn kubernetes(session: &Session) -> Vec<Part> {
    vec![match session.client.apiserver_version().await {
        Ok(info) => Part::new("kubernetes", "API server", Some(info.git_version)),
        Err(error) => Part::problem("kubernetes", "API server", crate::error::chain(&error)),
    }]
}

async fn webhooks(session: &Session) -> Vec<Part> {
    let all: Api<Deployment> = Api::all(session.client.clone());
    let found = match all.list(&ListParams::default().labels(WEBHOOKS)).await {
        Ok(found) => found.items,
        Err(error) => {
            let problem = crate::error::chain(&error);
            return vec![Part::problem("webhook", "all namespaces", problem)];
        }
    };
    if found.is_empty() {
        return vec![Part::problem("webhook", "all namespaces", "not installed by the chart")];
    }
    let parts = found.iter().flat_map(|deployment| {
        let label = |key: &str| deployment.metadata.labels.as_ref()?.get(key).cloned();
        let place = format!(
            "{}/{}",
            deployment.metadata.namespace.as_deref().unwrap_or_default(),
            deployment.metadata.name.as_deref().unwrap_or_default()
        );
        // Such as pgscale-0.1.0.
        let chart = label(CHART).map(|chart| match chart.rsplit_once('-') {
            Some((_, version)) => version.to_owned(),
            None => chart,
        });
        [Part::new("webhook", place.as_str(), runs(deployment)), Part::new("chart", place, chart)]
    });
    parts.collect()
}

/// Returns the version that runs: that of the image where its tag is a version, or else the one that
/// the chart wrote.
fn runs(deployment: &Deployment) -> Option<String> {
    let label = || deployment.metadata.labels.as_ref()?.get(VERSION).map(String::as_str);
    let runs = version_of_image(deployment).or_else(label);
    runs.or_else(|| tag_of_image(deployment)).map(str::to_owned)
}

async fn definitions(session: &Session) -> Vec<Part> {
    let all = match crate::doctor::shipped_definitions() {
        Ok(all) => all,
        Err(why) => return vec![Part::problem("definition", "this program", why)],
    };
    let parts = all.iter().map(async |shipped| {
        let name = shipped.metadata.name.as_deref().unwrap_or_default();
        match definition(session, name).await {
            Err(kube::Error::Api(status)) if status.code == 404 => {
                Part::problem("definition", name, "not installed")
            }
            Err(error) => Part::problem("definition", name, crate::error::chain(&error)),
            Ok(installed) => {
                let is_on = |version: &&Value| version.get("served") == Some(&Value::Bool(true));
                let served = versions(&installed).filter(is_on);
                let served = served.filter_map(|version| version.get("name")?.as_str());
                let served = served.collect::<Vec<_>>().join(", ");
                let shipped = serde_json::to_value(shipped).unwrap_or_default();
                Part {
                    problem: lacking(&shipped, &installed),
                    ..Part::new("definition", name, Some(served))
                }
            }
        }
    });
    futures::future::join_all(parts).await
}

/// Reads one definition.
async fn definition(session: &Session, name: &str) -> Result<Value, kube::Error> {
    let path = format!("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}");
    let request = http::Request::get(path).body(Vec::new()).map_err(kube::Error::HttpError)?;
    session.client.request(request).await
}

/// Returns which fields of the `shipped` definition the `installed` one lacks: the API server drops
/// them without a word.
fn lacking(shipped: &Value, installed: &Value) -> Option<String> {
    let (known, there) = (fields(shipped), fields(installed));
    let missing: Vec<&str> = known.difference(&there).map(String::as_str).collect();
    (!missing.is_empty())
        .then(|| format!("older than this program, without {}", missing.join(", ")))
}

/// Returns the versions in a definition.
fn versions(definition: &Value) -> impl Iterator<Item = &Value> {
    let versions = definition.pointer("/spec/versions").and_then(Value::as_array);
    versions.into_iter().flatten()
}

/// Returns the paths of all fields in the schemas of a definition.
fn fields(definition: &Value) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for schema in
        versions(definition).filter_map(|version| version.pointer("/schema/openAPIV3Schema"))
    {
        collect(schema, "", &mut found);
    }
    found
}

fn collect(schema: &Value, at: &str, found: &mut BTreeSet<String>) {
    let properties = schema.get("properties").and_then(Value::as_object);
    for (name, below) in properties.into_iter().flatten() {
        let path = if at.is_empty() { name.clone() } else { format!("{at}.{name}") };
        collect(below, &path, found);
        found.insert(path);
    }
    for items in ["items", "additionalProperties"] {
        if let Some(items) = schema.get(items).filter(|items| items.is_object()) {
            collect(items, at, found);
        }
    }
}

/// Reads what runs the clusters of the namespace, and what they run.
async fn clusters(session: &Session) -> Vec<Part> {
    let clusters = match session.reader.clusters(Some(&session.namespace), None).await {
        Ok(clusters) => clusters,
        Err(error) => {
            return vec![Part::problem("postgresql", session.place(false), error.to_string())];
        }
    };
    let facts: Vec<Facts> = stream::iter(clusters)
        .map(|cluster| {
            let count = cluster.instances.unwrap_or(0);
            session.reader.facts(Change::of_count(cluster, count), AskWhom::AsNeeded)
        })
        .buffered(AT_ONCE)
        .collect()
        .await;
    let mut parts = operators(session, &facts).await;
    parts.extend(counted(
        "patroni",
        "member",
        facts.iter().flat_map(Facts::all_members).map(|member| match &member.report {
            Seen::Known(report) => report.version.clone(),
            Seen::Absent | Seen::Unreadable(_) => None,
        }),
    ));
    parts.extend(counted(
        "postgresql",
        "cluster",
        facts.iter().map(|facts| {
            let version = facts.change.new.spec.pointer("/postgresql/version");
            version.and_then(Value::as_str).map(str::to_owned)
        }),
    ));
    parts
}

/// Returns each version with how many have it.
fn counted(
    what: &'static str,
    noun: &str,
    versions: impl Iterator<Item = Option<String>>,
) -> Vec<Part> {
    let mut counts: BTreeMap<Option<String>, usize> = BTreeMap::new();
    for version in versions {
        *counts.entry(version).or_default() += 1;
    }
    let place = |count| if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") };
    counts.into_iter().map(|(version, count)| Part::new(what, place(count), version)).collect()
}

/// Reads the Deployments of the operators that own the clusters.
async fn operators(session: &Session, facts: &[Facts]) -> Vec<Part> {
    let mut known: BTreeMap<String, &ObjectRef> = BTreeMap::new();
    let mut problems = BTreeSet::new();
    for facts in facts {
        match &facts.operator {
            Seen::Known(operator) => {
                known.insert(operator.deployment.to_string(), &operator.deployment);
            }
            Seen::Absent => {
                problems.insert("no operator owns a cluster".to_owned());
            }
            Seen::Unreadable(why) => {
                problems.insert(why.clone());
            }
        }
    }
    let mut parts = Vec::new();
    for deployment in known.into_values() {
        let namespace = deployment.namespace.as_deref().unwrap_or_default();
        let name = deployment.name.as_deref().unwrap_or_default();
        let place = format!("{namespace}/{name}");
        let api: Api<Deployment> = Api::namespaced(session.client.clone(), namespace);
        parts.push(match api.get(name).await {
            Ok(found) => Part::new("operator", place, tag_of_image(&found).map(str::to_owned)),
            Err(error) => Part::problem("operator", place, crate::error::chain(&error)),
        });
    }
    parts.extend(problems.into_iter().map(|why| Part::problem("operator", "not found", why)));
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(what: &'static str, version: &str) -> Part {
        Part::new(what, "here", Some(version.to_owned()))
    }

    #[test]
    fn every_skew_is_named() {
        let fine = vec![
            of("webhook", CLIENT),
            of("operator", "v1.15.1"),
            of("patroni", "4.0.5"),
            of("definition", "v1alpha1"),
        ];
        assert_eq!(skews(&fine), [""; 0]);
        for (part, words) in [
            (of("webhook", "0.0.9"), "the webhook here is 0.0.9"),
            (of("webhook", CLIENT), "more than one webhook"),
            (of("operator", "v3.0.0"), "v3.0.0 of operator is not supported"),
            (of("patroni", "1.6.5"), "1.6.5 of Patroni is not supported"),
            (of("patroni", "3.3.0"), "different versions of Patroni: 3.3.0, 4.0.5"),
            (Part::problem("definition", "x", "not installed"), "definition x: not installed"),
        ] {
            let skews = skews(&[fine.clone(), vec![part]].concat());
            assert!(skews.iter().any(|skew| skew.contains(words)), "{words}: {skews:?}");
        }
    }

    #[test]
    fn definition_of_an_earlier_version_is_found_by_its_fields() {
        let all = crate::doctor::shipped_definitions().unwrap();
        let named =
            all.iter().find(|it| it.metadata.name.as_deref() == Some("scalepolicies.pgscale.dev"));
        let shipped = serde_json::to_value(named.unwrap()).unwrap();
        assert_eq!(lacking(&shipped, &shipped), None);
        let mut older = shipped.clone();
        let spec =
            &mut older["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
        spec["properties"].as_object_mut().unwrap().remove("steps").unwrap();
        let problem = lacking(&shipped, &older).unwrap();
        assert!(problem.contains("without spec.steps"), "{problem}");
        assert_eq!(lacking(&older, &shipped), None, "a newer one holds more");
    }
}
