//! A container's environment, with every reference resolved.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use anyhow::{Context as _, Result, bail};
use k8s_openapi::api::core::v1::{ConfigMap, Container, EnvVarSource, Pod, Secret};
use kube::{Api, Client};

/// The data of the Secrets and ConfigMaps that a container refers to, by object name.
#[derive(Debug, Default)]
pub(super) struct Sources {
    secrets: BTreeMap<String, BTreeMap<String, String>>,
    config_maps: BTreeMap<String, BTreeMap<String, String>>,
}

impl Sources {
    /// Reads the objects to which `container` refers. An object that does not exist is left out.
    pub(super) async fn read(
        client: &Client,
        namespace: &str,
        container: &Container,
    ) -> Result<Self> {
        let mut sources = Self::default();
        let api = Api::<Secret>::namespaced(client.clone(), namespace);
        for name in names(container, |source| Some(source.secret_key_ref.as_ref()?.name.clone())) {
            if let Some(secret) = api.get_opt(&name).await? {
                let data = secret.data.unwrap_or_default().into_iter();
                let text = data.map(|(key, value)| (key, String::from_utf8_lossy(&value.0).into()));
                sources.secrets.insert(name, text.collect());
            }
        }
        let api = Api::<ConfigMap>::namespaced(client.clone(), namespace);
        let names =
            names(container, |source| Some(source.config_map_key_ref.as_ref()?.name.clone()));
        for name in names {
            if let Some(map) = api.get_opt(&name).await? {
                sources.config_maps.insert(name, map.data.unwrap_or_default());
            }
        }
        Ok(sources)
    }
}

fn names(
    container: &Container,
    reference: impl Fn(&EnvVarSource) -> Option<String>,
) -> BTreeSet<String> {
    let variables = container.env.iter().flatten();
    variables.filter_map(|variable| reference(variable.value_from.as_ref()?)).collect()
}

/// Returns the environment with which `container` of `pod` starts.
///
/// # Errors
/// Fails when a variable refers to something that does not exist, with the message of a kubelet.
/// The caller tries again, as a kubelet does.
pub(super) fn environment(
    pod: &Pod,
    container: &Container,
    address: Ipv4Addr,
    sources: &Sources,
) -> Result<BTreeMap<String, String>> {
    if container.env_from.iter().flatten().next().is_some() {
        bail!("envFrom of container {} is not supported by the test bed", container.name);
    }
    let mut env = BTreeMap::new();
    for variable in container.env.iter().flatten() {
        let value = match (&variable.value, &variable.value_from) {
            (Some(text), _) => Some(expand(text, &env)),
            (None, Some(source)) => resolve_reference(pod, source, address, sources)
                .with_context(|| format!("failed to set variable {}", variable.name))?,
            (None, None) => Some(String::new()),
        };
        if let Some(value) = value {
            env.insert(variable.name.clone(), value);
        }
    }
    Ok(env)
}

/// Returns the value of a reference. `None` for an optional one without a target.
fn resolve_reference(
    pod: &Pod,
    source: &EnvVarSource,
    address: Ipv4Addr,
    sources: &Sources,
) -> Result<Option<String>> {
    if let Some(reference) = &source.field_ref {
        return field(pod, &reference.field_path, address).map(Some);
    }
    let (kind, objects, name, key, optional) =
        match (&source.secret_key_ref, &source.config_map_key_ref) {
            (Some(at), _) => ("secret", &sources.secrets, &at.name, &at.key, at.optional),
            (None, Some(at)) => ("configmap", &sources.config_maps, &at.name, &at.key, at.optional),
            (None, None) => bail!("only fieldRef, secretKeyRef and configMapKeyRef are supported"),
        };
    match objects.get(name).map(|data| data.get(key)) {
        Some(Some(value)) => Ok(Some(value.clone())),
        _ if optional == Some(true) => Ok(None),
        Some(None) => bail!("couldn't find key {key} in {kind} {name}"),
        None => bail!("{kind} {name:?} not found"),
    }
}

/// Returns a field of the downward API.
fn field(pod: &Pod, path: &str, address: Ipv4Addr) -> Result<String> {
    let metadata = &pod.metadata;
    let of_map = |map: &Option<BTreeMap<String, String>>, rest: &str| {
        let key = rest.strip_suffix("']").unwrap_or(rest);
        map.as_ref().and_then(|map| map.get(key)).cloned().unwrap_or_default()
    };
    let text = |value: Option<&String>| value.cloned().unwrap_or_default();
    if let Some(rest) = path.strip_prefix("metadata.labels['") {
        return Ok(of_map(&metadata.labels, rest));
    }
    if let Some(rest) = path.strip_prefix("metadata.annotations['") {
        return Ok(of_map(&metadata.annotations, rest));
    }
    let spec = pod.spec.as_ref();
    Ok(match path {
        "metadata.name" => text(metadata.name.as_ref()),
        "metadata.namespace" => text(metadata.namespace.as_ref()),
        "metadata.uid" => text(metadata.uid.as_ref()),
        "spec.nodeName" => text(spec.and_then(|spec| spec.node_name.as_ref())),
        "spec.serviceAccountName" => text(spec.and_then(|spec| spec.service_account_name.as_ref())),
        "status.podIP" | "status.podIPs" => address.to_string(),
        "status.hostIP" | "status.hostIPs" => super::nodes::ADDRESS.to_owned(),
        _ => bail!("field {path} is not one the downward API has"),
    })
}

/// Replaces `$(NAME)` by the variable's value if it was set before, and `$$` by `$`.
fn expand(text: &str, env: &BTreeMap<String, String>) -> String {
    let mut expanded = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        expanded.push_str(before);
        let reference = after.strip_prefix('(').and_then(|inner| inner.split_once(')'));
        rest = match reference {
            Some((name, behind)) if env.contains_key(name) => {
                expanded.push_str(env.get(name).map_or("", String::as_str));
                behind
            }
            _ => {
                expanded.push('$');
                after.strip_prefix('$').unwrap_or(after)
            }
        };
    }
    expanded + rest
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 10);

    fn resolve(env: &serde_json::Value, sources: &Sources) -> Result<BTreeMap<String, String>> {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "acid-a-0", "namespace": "db", "labels": {"team": "acid"}},
            "spec": {"containers": [{"name": "postgres", "env": env}], "nodeName": "node-1"},
        }))
        .unwrap();
        environment(&pod, &pod.spec.as_ref().unwrap().containers[0], ADDRESS, sources)
    }

    fn sources() -> Sources {
        let data = BTreeMap::from([("password".to_owned(), "s3cret".to_owned())]);
        let objects = BTreeMap::from([("superuser".to_owned(), data)]);
        Sources { secrets: objects.clone(), config_maps: objects }
    }

    #[test]
    fn references_are_resolved() {
        let env = resolve(
            &json!([
                {"name": "PLAIN", "value": "a"},
                {"name": "EXPANDED", "value": "$(PLAIN)-$(UNKNOWN)-$$5"},
                {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                {"name": "TEAM", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['team']"}}},
                {"name": "PASSWORD",
                 "valueFrom": {"secretKeyRef": {"name": "superuser", "key": "password"}}},
                {"name": "SETTING",
                 "valueFrom": {"configMapKeyRef": {"name": "superuser", "key": "password"}}},
                {"name": "ABSENT",
                 "valueFrom": {"secretKeyRef": {"name": "x", "key": "y", "optional": true}}},
            ]),
            &sources(),
        );
        let env = env.unwrap();
        let pairs: Vec<_> =
            env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(
            pairs,
            [
                ("EXPANDED", "a-$(UNKNOWN)-$5"),
                ("IP", "10.244.0.10"),
                ("PASSWORD", "s3cret"),
                ("PLAIN", "a"),
                ("SETTING", "s3cret"),
                ("TEAM", "acid"),
            ]
        );
    }

    #[test]
    fn a_reference_without_a_target_names_the_target() {
        for (source, reason) in [
            (json!({"secretKeyRef": {"name": "gone", "key": "k"}}), "secret \"gone\" not found"),
            (
                json!({"secretKeyRef": {"name": "superuser", "key": "k"}}),
                "couldn't find key k in secret superuser",
            ),
            (json!({"fieldRef": {"fieldPath": "status.phase"}}), "field status.phase is not one"),
        ] {
            let error =
                resolve(&json!([{"name": "V", "valueFrom": source}]), &sources()).unwrap_err();
            assert!(format!("{error:#}").contains(reason), "{error:#}");
        }
    }
}
