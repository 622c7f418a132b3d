//! The template that the operator would make from a manifest, where there is no StatefulSet yet or
//! the same write changes the template.
//!
//! `generateResourceRequirements`, `generateSidecarContainers` and `generateStatefulSet`,
//! pkg/cluster/k8sres.go. A value that these do not determine is an error with its reason, never a
//! guess.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Container, PersistentVolumeClaimSpec, PodSpec, ResourceRequirements, VolumeResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde_json::Value;

use crate::capacity::footprint::amount;
use crate::capacity::{Look, Template, reduced};
use crate::operator::{POSTGRES_CONTAINER, PodSettings, Written};
use crate::postgresql::Postgresql;
use crate::quantity::Amount;

/// The operator's spellings of "none" (`fillResourceList`).
const NONE: [&str; 3] = ["", "0", "null"];

type Quantities = BTreeMap<String, Quantity>;

/// Returns the template of every member of `cluster`.
///
/// # Errors
/// A value that the manifest and the settings do not determine, with the reason.
pub fn template(cluster: &Postgresql, settings: &PodSettings) -> Look<Template> {
    if settings.scalyr {
        return Err(
            "the operator adds a log shipper (scalyr_api_key), whose amounts are not read here"
                .to_owned(),
        );
    }
    let spec = &cluster.spec;
    let bounded = !cluster.switches(settings.ignore_bounds_annotation.as_ref());
    let mut containers =
        vec![container(POSTGRES_CONTAINER, &spec["resources"], settings, bounded)?];
    let own = spec["sidecars"].as_array().filter(|_| settings.sidecars);
    for (index, sidecar) in own.into_iter().flatten().enumerate() {
        let name =
            sidecar["name"].as_str().map_or_else(|| format!("sidecar-{index}"), str::to_owned);
        containers.push(container(&name, &sidecar["resources"], settings, false)?);
    }
    for sidecar in &settings.global_sidecars {
        add(&mut containers, whole(sidecar, "sidecars of the operator")?);
    }
    for name in &settings.sidecar_images {
        add(&mut containers, container(name, &Value::Null, settings, false)?);
    }
    let first = ["initContainers", "init_containers"];
    let first = first.iter().find_map(|name| spec[*name].as_array());
    let first = first.filter(|_| settings.init_containers).into_iter().flatten();
    let init: Vec<Container> =
        first.map(|it| whole(it, "spec.initContainers")).collect::<Look<_>>()?;
    let class = ["podPriorityClassName", "pod_priority_class_name"];
    let class = class.iter().find_map(|name| spec[*name].as_str()).filter(|it| !it.is_empty());
    let pod = PodSpec {
        containers,
        init_containers: (!init.is_empty()).then_some(init),
        priority_class_name: class.map(str::to_owned).or_else(|| settings.priority_class.clone()),
        ..PodSpec::default()
    };
    Ok(Template {
        pod: reduced(&pod),
        claims: vec![claim(&spec["volume"])?],
        ..Template::default()
    })
}

/// Adds a container, unless one of that name exists: the operator leaves the later one out.
fn add(containers: &mut Vec<Container>, container: Container) {
    if containers.iter().all(|it| it.name != container.name) {
        containers.push(container);
    }
}

fn whole(container: &Value, of: &str) -> Look<Container> {
    serde_json::from_value(container.clone())
        .map_err(|error| format!("{of} holds what is no container: {error}"))
}

fn claim(volume: &Value) -> Look<PersistentVolumeClaimSpec> {
    let size = volume["size"].as_str().ok_or("spec.volume.size is missing")?;
    let requests = Quantities::from([("storage".to_owned(), Quantity(size.to_owned()))]);
    let class = volume["storageClass"].as_str().filter(|class| !class.is_empty());
    Ok(PersistentVolumeClaimSpec {
        resources: Some(VolumeResourceRequirements { requests: Some(requests), limits: None }),
        storage_class_name: class.map(str::to_owned),
        ..PersistentVolumeClaimSpec::default()
    })
}

/// Returns a container with the resources that the operator gives it, computed in the operator's
/// order.
fn container(
    name: &str,
    resources: &Value,
    settings: &PodSettings,
    bounded: bool,
) -> Look<Container> {
    let mut requests = filled(&resources["requests"], &settings.default_requests);
    let mut limits = filled(&resources["limits"], &settings.default_limits);
    if bounded {
        for (name, min) in meant(&settings.min_limits) {
            if at(&limits, name)?.unwrap_or_default() < of(name, min)? {
                limits.insert(name.to_owned(), Quantity(min.to_owned()));
            }
        }
    }
    for name in ["cpu", "memory"] {
        if let (Some(request), Some(limit)) = (at(&requests, name)?, at(&limits, name)?)
            && limit < request
            && let Some(request) = requests.get(name)
        {
            limits.insert(name.to_owned(), request.clone());
        }
    }
    if settings.memory_request_to_limit
        && at(&requests, "memory")?.unwrap_or_default() < at(&limits, "memory")?.unwrap_or_default()
        && let Some(limit) = limits.get("memory")
    {
        requests.insert("memory".to_owned(), limit.clone());
    }
    if bounded {
        for (name, max) in meant(&settings.max_requests) {
            if at(&requests, name)?.is_some_and(|request| Ok(request) > of(name, max)) {
                requests.insert(name.to_owned(), Quantity(max.to_owned()));
            }
        }
    }
    Ok(Container {
        name: name.to_owned(),
        resources: Some(ResourceRequirements {
            requests: Some(requests),
            limits: Some(limits),
            ..ResourceRequirements::default()
        }),
        ..Container::default()
    })
}

/// Returns the settings other than "none".
fn meant(written: &Written) -> impl Iterator<Item = (&str, &str)> {
    written
        .iter()
        .map(|(name, text)| (name.as_str(), text.as_str()))
        .filter(|(_, text)| !NONE.contains(text))
}

/// Returns the values of a manifest, and the defaults for the rest.
fn filled(own: &Value, defaults: &Written) -> Quantities {
    let text = |name: &str| own[name].as_str().filter(|text| !NONE.contains(text));
    let usual = ["cpu", "memory"].into_iter().filter_map(|name| {
        let default = || defaults.get(name).map(String::as_str).filter(|it| !NONE.contains(it));
        Some((name, text(name).or_else(default)?))
    });
    let pages = ["hugepages-2Mi", "hugepages-1Gi"];
    let huge = pages.into_iter().filter_map(|name| Some((name, own[name].as_str()?)));
    usual.chain(huge).map(|(name, text)| (name.to_owned(), Quantity(text.to_owned()))).collect()
}

fn at(quantities: &Quantities, name: &str) -> Look<Option<Amount>> {
    quantities.get(name).map(|quantity| amount(name, quantity)).transpose()
}

fn of(name: &str, text: &str) -> Look<Amount> {
    amount(name, &Quantity(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::capacity::Footprint;

    fn settings() -> PodSettings {
        PodSettings {
            default_requests: [("cpu", "100m"), ("memory", "100Mi")]
                .map(|(a, b): (&str, &str)| (a.into(), b.into()))
                .into(),
            default_limits: [("cpu", "1"), ("memory", "500Mi")]
                .map(|(a, b): (&str, &str)| (a.into(), b.into()))
                .into(),
            ..PodSettings::default()
        }
    }

    fn made(spec: &Value, settings: &PodSettings) -> String {
        let mut object = json!({"metadata": {"name": "acid-a", "annotations": {"big": "true"}},
            "spec": {"volume": {"size": "10Gi"}}});
        object["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        let template = match template(&Postgresql::of(&object).unwrap(), settings) {
            Ok(template) => template,
            Err(why) => return why,
        };
        let footprint = Footprint::of(&template).unwrap();
        let shown = |amounts: &crate::capacity::Amounts| {
            let all: Vec<String> =
                amounts.iter().map(|(name, amount)| format!("{name}={amount}")).collect();
            all.join(" ")
        };
        let containers: Vec<String> = footprint
            .containers
            .iter()
            .map(|it| format!("{}: {} / {}", it.name, shown(&it.requests), shown(&it.limits)))
            .collect();
        containers.join("; ")
    }

    #[test]
    fn resources_are_those_of_the_operator() {
        let mib = "104857600";
        let usual = format!("postgres: cpu=100m memory={mib} / cpu=1 memory=524288000");
        let with = |change: fn(&mut PodSettings)| {
            let mut changed = settings();
            change(&mut changed);
            changed
        };
        for (name, spec, settings, want) in [
            ("defaults", json!({}), settings(), usual.clone()),
            ("no defaults", json!({}), PodSettings::default(), "postgres:  / ".to_owned()),
            (
                "none is spelt in three ways",
                json!({"resources": {"requests": {"cpu": "0", "memory": "null"}, "limits": {"cpu": ""}}}),
                settings(),
                usual.clone(),
            ),
            (
                "the limit follows the request",
                json!({"resources": {"requests": {"cpu": "3"}}}),
                settings(),
                format!("postgres: cpu=3 memory={mib} / cpu=3 memory=524288000"),
            ),
            (
                "limits are raised",
                json!({"resources": {"limits": {"cpu": "100m"}}}),
                with(|it| it.min_limits = [("cpu".to_owned(), "250m".to_owned())].into()),
                format!("postgres: cpu=100m memory={mib} / cpu=250m memory=524288000"),
            ),
            (
                "unless the cluster says not to",
                json!({"resources": {"limits": {"cpu": "100m"}}}),
                with(|it| {
                    it.min_limits = [("cpu".to_owned(), "250m".to_owned())].into();
                    it.ignore_bounds_annotation = Some("big".to_owned());
                }),
                format!("postgres: cpu=100m memory={mib} / cpu=100m memory=524288000"),
            ),
            (
                "memory is requested up to the limit, then capped",
                json!({}),
                with(|it| {
                    it.memory_request_to_limit = true;
                    it.max_requests = [
                        ("memory".to_owned(), "300Mi".to_owned()),
                        ("cpu".to_owned(), "0".to_owned()),
                    ]
                    .into();
                }),
                "postgres: cpu=100m memory=314572800 / cpu=1 memory=524288000".to_owned(),
            ),
            (
                "sidecars get the defaults, and no bounds",
                json!({"sidecars": [{"name": "x", "resources": {"requests": {"cpu": "1m"}}}]}),
                with(|it| it.min_limits = [("cpu".to_owned(), "2".to_owned())].into()),
                format!(
                    "postgres: cpu=100m memory={mib} / cpu=2 memory=524288000; \
                     x: cpu=1m memory={mib} / cpu=1 memory=524288000"
                ),
            ),
            (
                "sidecars of the operator: whole ones as they are, images with the defaults, each name once",
                json!({"sidecars": [{"name": "x"}]}),
                with(|it| {
                    it.sidecars = false;
                    it.global_sidecars =
                        vec![json!({"name": "g", "resources": {"requests": {"cpu": "5m"}}})];
                    it.sidecar_images = vec!["g".to_owned(), "i".to_owned()];
                }),
                format!("{usual}; g: cpu=5m / ; i: cpu=100m memory={mib} / cpu=1 memory=524288000"),
            ),
            (
                "init containers as they are",
                json!({"initContainers": [{"name": "first", "resources": {"requests": {"cpu": "2"}}}]}),
                settings(),
                format!("first: cpu=2 / ; {usual}"),
            ),
            (
                "not known",
                json!({}),
                with(|it| it.scalyr = true),
                "the operator adds a log shipper (scalyr_api_key), whose amounts are not read here"
                    .to_owned(),
            ),
            (
                "no size",
                json!({"volume": {}}),
                settings(),
                "spec.volume.size is missing".to_owned(),
            ),
            (
                "no quantity",
                json!({"resources": {"requests": {"cpu": "lots"}}}),
                settings(),
                "cpu is \"lots\", which is no quantity".to_owned(),
            ),
        ] {
            assert_eq!(made(&spec, &settings), want, "{name}");
        }
    }
}
