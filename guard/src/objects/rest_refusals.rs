//! The settings of a pod for which Patroni's REST interface refuses the operator.
//!
//! The operator asks `http://POD_IP:8008` without a password (`apiURL`, pkg/util/patroni/patroni.go).
//! Spilo makes Patroni's own configuration from the container's environment and from a document in
//! `SPILO_CONFIGURATION`, which wins (postgres-appliance/scripts/configure_spilo.py).

use k8s_openapi::api::core::v1::{Container, Pod};
use serde_json::Value;

use super::{Variable, environment, postgres_container};
use crate::facts::RestRefusal;
use crate::patroni::bounded;

/// The port at which the operator asks, and Spilo's default.
const PORT: &str = "8008";

/// Variables that hold Patroni's whole configuration. Spilo reads the first one that is set.
const DOCUMENTS: [&str; 2] = ["SPILO_CONFIGURATION", "PATRONI_CONFIGURATION"];

/// Pairs of variables for the certificate and its key, as files and as text: TLS needs both.
const TLS: [[&str; 2]; 2] = [
    ["SSL_RESTAPI_CERTIFICATE_FILE", "SSL_RESTAPI_PRIVATE_KEY_FILE"],
    ["SSL_RESTAPI_CERTIFICATE", "SSL_RESTAPI_PRIVATE_KEY"],
];

/// Variables of Patroni itself (`patroni/config.py`). Spilo takes most variables away before it
/// starts Patroni (postgres-appliance/runit/patroni/run), and other images do not.
const PATRONIS_OWN: [&str; 6] = [
    "PATRONI_RESTAPI_USERNAME",
    "PATRONI_RESTAPI_PASSWORD",
    "PATRONI_RESTAPI_CERTFILE",
    "PATRONI_RESTAPI_LISTEN",
    "PATRONI_RESTAPI_ALLOWLIST",
    "PATRONI_RESTAPI_ALLOWLIST_INCLUDE_MEMBERS",
];

/// Returns the settings of `pod` for which the REST interface of its Patroni refuses the operator,
/// or may.
pub(super) fn rest_refusals(pod: &Pod) -> Vec<RestRefusal> {
    let mut found = Vec::new();
    if let Some(container) = postgres_container(pod.spec.as_ref()) {
        by_variables(container, &mut found);
        let document = DOCUMENTS
            .into_iter()
            .find_map(|name| environment(container, name).map(|variable| (name, variable)));
        if let Some((name, variable)) = document {
            by_document(name, variable, &mut found);
        }
    }
    by_report(pod, &mut found);
    found
}

fn by_variables(container: &Container, found: &mut Vec<RestRefusal>) {
    let set = |name: &str| match environment(container, name) {
        Some(Variable::Text(text)) => !text.is_empty(),
        Some(Variable::Field(_) | Variable::Elsewhere(_)) => true,
        None => false,
    };
    let tls = TLS.into_iter().filter(|pair| pair.iter().all(|name| set(name)));
    found.extend(tls.map(|[certificate, _]| certain(&env(certificate), "set")));
    match environment(container, "APIPORT") {
        Some(Variable::Text(PORT)) | None => {}
        Some(Variable::Text(port)) => found.push(certain(&env("APIPORT"), port)),
        Some(Variable::Field(_) | Variable::Elsewhere(_)) => {
            found.push(possible(&env("APIPORT"), "set"));
        }
    }
    // Their values may be secrets.
    let own = PATRONIS_OWN.into_iter().filter(|name| set(name));
    found.extend(own.map(|name| possible(&env(name), "set")));
}

fn by_document(name: &str, variable: Variable<'_>, found: &mut Vec<RestRefusal>) {
    let Variable::Text(text) = variable else {
        return found.push(possible(&env(name), "set from another object"));
    };
    // The operator writes JSON. A person may have written any YAML.
    if !text.contains("restapi") {
        return;
    }
    let Ok(document) = bounded::decode::<Value>(text, bounded::VALUES) else {
        return found.push(possible(&env(name), "has restapi and is not JSON"));
    };
    let field = |key: &str| env(&format!("{name} restapi.{key}"));
    let set = |value: &Value| match value {
        Value::Null | Value::Bool(false) => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(all) => !all.is_empty(),
        Value::Object(all) => !all.is_empty(),
        Value::Bool(true) | Value::Number(_) => true,
    };
    let Some(section) = document.get("restapi") else { return };
    let value = |key: &str| section.get(key).unwrap_or(&Value::Null);
    for key in ["auth", "authentication", "certfile"] {
        if set(value(key)) {
            found.push(certain(&field(key), "set"));
        }
    }
    for key in ["allowlist", "allowlist_include_members"] {
        if set(value(key)) {
            found.push(possible(&field(key), &value(key).to_string()));
        }
    }
    if let Some(listen) = value("listen").as_str()
        && listen.rsplit(':').next() != Some(PORT)
    {
        found.push(certain(&field("listen"), listen));
    }
}

/// Looks at the address that Patroni writes down itself. Its protocol is the one that it speaks, and
/// its port may be that of a proxy in front.
fn by_report(pod: &Pod, found: &mut Vec<RestRefusal>) {
    let text = pod.metadata.annotations.as_ref().and_then(|all| all.get("status"));
    let report = text.and_then(|text| bounded::decode::<Value>(text, bounded::VALUES).ok());
    let Some(url) = report.as_ref().and_then(|report| report.get("api_url")?.as_str()) else {
        return;
    };
    let field = "annotation status.api_url";
    let Some(authority) = url.strip_prefix("http://") else {
        return found.push(certain(field, url));
    };
    let authority = authority.split('/').next().unwrap_or_default();
    if authority.rsplit(':').next() != Some(PORT) {
        found.push(possible(field, url));
    }
}

fn env(name: &str) -> String {
    format!("env {name}")
}

fn certain(field: &str, value: &str) -> RestRefusal {
    RestRefusal { field: field.to_owned(), value: value.to_owned(), certain: true }
}

fn possible(field: &str, value: &str) -> RestRefusal {
    RestRefusal { certain: false, ..certain(field, value) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Returns what is found in a pod with these variables and this address, as
    /// `field: value`, and a question mark where it is not certain.
    fn found(env: &Value, api_url: &str) -> Vec<String> {
        let status = json!({"api_url": api_url}).to_string();
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "acid-a-0", "annotations": {"status": status}},
            "spec": {"containers": [
                {"name": "exporter", "env": [{"name": "APIPORT", "value": "9999"}]},
                {"name": "postgres", "env": env},
            ]},
        }))
        .unwrap();
        let printed = |it: RestRefusal| {
            let mark = if it.certain { "" } else { "?" };
            format!("{}: {}{mark}", it.field, it.value)
        };
        rest_refusals(&pod).into_iter().map(printed).collect()
    }

    const PLAIN: &str = "http://10.244.0.10:8008/patroni";

    fn document(restapi: &Value) -> Value {
        let text = json!({"bootstrap": {}, "restapi": restapi}).to_string();
        json!([{"name": "SPILO_CONFIGURATION", "value": text}])
    }

    #[test]
    fn plain_interface_refuses_no_operator() {
        for env in [
            json!([]),
            json!([{"name": "APIPORT", "value": "8008"}]),
            json!([{"name": "SSL_RESTAPI_CERTIFICATE_FILE", "value": ""},
                {"name": "SSL_RESTAPI_PRIVATE_KEY_FILE", "value": ""}]),
            // Spilo passes both on, and Patroni speaks TLS with a certificate only.
            json!([{"name": "SSL_RESTAPI_CA", "value": "PEM"}]),
            json!([{"name": "SPILO_CONFIGURATION", "value": "bootstrap: {dcs: {}}"}]),
            document(
                &json!({"listen": ":8008", "allowlist": [], "http_extra_headers": {"a": "b"}}),
            ),
        ] {
            assert_eq!(found(&env, PLAIN), Vec::<String>::new(), "{env}");
        }
        assert_eq!(found(&json!([]), "http://[fd00::10]:8008/patroni"), Vec::<String>::new());
    }

    #[test]
    fn tls_passwords_allowlists_and_other_ports_are_found() {
        let secret = json!({"secretKeyRef": {"name": "pod-env", "key": "k"}});
        for (env, url, want) in [
            (
                json!([{"name": "SSL_RESTAPI_CERTIFICATE", "valueFrom": secret},
                    {"name": "SSL_RESTAPI_PRIVATE_KEY", "valueFrom": secret}]),
                PLAIN,
                &["env SSL_RESTAPI_CERTIFICATE: set"][..],
            ),
            (
                json!([]),
                "https://10.244.0.10:8008/patroni",
                &["annotation status.api_url: https://10.244.0.10:8008/patroni"],
            ),
            (
                json!([]),
                "http://10.244.0.10:8009/patroni",
                &["annotation status.api_url: http://10.244.0.10:8009/patroni?"],
            ),
            (json!([{"name": "APIPORT", "value": "8009"}]), PLAIN, &["env APIPORT: 8009"]),
            (
                json!([{"name": "PATRONI_RESTAPI_USERNAME", "valueFrom": secret},
                    {"name": "PATRONI_RESTAPI_PASSWORD", "valueFrom": secret}]),
                PLAIN,
                &["env PATRONI_RESTAPI_USERNAME: set?", "env PATRONI_RESTAPI_PASSWORD: set?"],
            ),
            (
                document(&json!({"authentication": {"username": "u", "password": "hidden"}})),
                PLAIN,
                &["env SPILO_CONFIGURATION restapi.authentication: set"],
            ),
            (
                document(&json!({"certfile": "/c.pem", "listen": "0.0.0.0:8009"})),
                PLAIN,
                &[
                    "env SPILO_CONFIGURATION restapi.certfile: set",
                    "env SPILO_CONFIGURATION restapi.listen: 0.0.0.0:8009",
                ],
            ),
            (
                document(&json!({"allowlist": ["10.0.0.0/8"], "allowlist_include_members": true})),
                PLAIN,
                &[
                    "env SPILO_CONFIGURATION restapi.allowlist: [\"10.0.0.0/8\"]?",
                    "env SPILO_CONFIGURATION restapi.allowlist_include_members: true?",
                ],
            ),
            (
                json!([{"name": "SPILO_CONFIGURATION", "value": "restapi: {auth: 'a:b'}"}]),
                PLAIN,
                &["env SPILO_CONFIGURATION: has restapi and is not JSON?"],
            ),
            (
                json!([{"name": "SPILO_CONFIGURATION", "valueFrom": secret}]),
                PLAIN,
                &["env SPILO_CONFIGURATION: set from another object?"],
            ),
        ] {
            assert_eq!(found(&env, url), want, "{env} {url}");
        }
    }
}
