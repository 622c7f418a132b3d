//! The entries of the registration: the bundle and the path in each, and the patch that changes
//! them and nothing else.

use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{
    ValidatingWebhook, ValidatingWebhookConfiguration,
};
use serde_json::{Map, Value, json};

use super::paths::is_token;
use crate::registration::{self, PATH};

/// Returns the bundle of each entry.
pub(super) fn bundles(configuration: &ValidatingWebhookConfiguration) -> Vec<Vec<u8>> {
    let bundle = |entry: &ValidatingWebhook| entry.client_config.ca_bundle.clone();
    entries(configuration)
        .map(|entry| bundle(entry).map(|ByteString(bytes)| bytes).unwrap_or_default())
        .collect()
}

/// Returns the token in the path of each entry, `None` for a path of another form.
pub(super) fn tokens(configuration: &ValidatingWebhookConfiguration) -> Vec<Option<String>> {
    let token = |entry: &ValidatingWebhook| {
        let config = &entry.client_config;
        let path = match (&config.service, &config.url) {
            (Some(service), _) => service.path.as_deref()?,
            (None, Some(url)) => url.get(url.rfind(PATH)?..)?,
            (None, None) => return None,
        };
        let token = path.strip_prefix(PATH)?.strip_prefix('/')?;
        is_token(token).then(|| token.to_owned())
    };
    entries(configuration).map(token).collect()
}

/// Returns the patch that puts `bundle` and `token` into every entry, `None` where all have them.
/// What is `None` stays as it is.
///
/// The API server merges entries by their names, and keeps their other fields.
pub(super) fn patch(
    configuration: &ValidatingWebhookConfiguration,
    bundle: Option<&str>,
    token: Option<&str>,
) -> Option<Value> {
    let other_bundle = bundle.is_some_and(|bundle| {
        bundles(configuration).iter().any(|found| found != bundle.as_bytes())
    });
    let other_token = token.is_some_and(|token| {
        tokens(configuration).iter().any(|found| found.as_deref() != Some(token))
    });
    if !other_bundle && !other_token {
        return None;
    }
    let entry = |entry: &ValidatingWebhook| {
        let mut config = Map::new();
        if let Some(bundle) = bundle {
            let bundle = ByteString(bundle.as_bytes().to_vec());
            config.insert("caBundle".to_owned(), json!(bundle));
        }
        if let Some(token) = token {
            let path = registration::path(token);
            if entry.client_config.service.is_some() {
                config.insert("service".to_owned(), json!({"path": path}));
            } else if let Some(url) = &entry.client_config.url {
                config.insert("url".to_owned(), json!(format!("{}{path}", base(url))));
            }
        }
        json!({"name": entry.name, "clientConfig": config})
    };
    Some(json!({
        "metadata": {"resourceVersion": configuration.metadata.resource_version},
        "webhooks": entries(configuration).map(entry).collect::<Vec<_>>(),
    }))
}

/// Returns the name of the first entry for which `fits` does not hold.
pub(super) fn first_other(
    configuration: &ValidatingWebhookConfiguration,
    fits: impl Fn(usize) -> bool,
) -> Option<&str> {
    let mut all = entries(configuration).enumerate();
    all.find_map(|(at, entry)| (!fits(at)).then_some(entry.name.as_str()))
}

/// Returns a URL without the path of the webhook: what a proxy in front of it needs stays.
fn base(url: &str) -> &str {
    let path = url.rfind(PATH).and_then(|at| url.get(..at));
    path.unwrap_or(url).trim_end_matches('/')
}

fn entries(
    configuration: &ValidatingWebhookConfiguration,
) -> impl Iterator<Item = &ValidatingWebhook> {
    configuration.webhooks.iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registration::{Registration, Target, configuration};

    const TOKEN: &str = "0123456789abcdef0123456789abcdef";

    fn at(target: Target) -> ValidatingWebhookConfiguration {
        configuration(&Registration {
            target,
            authority: None,
            token: None,
            operator_accounts: vec![],
            growth: registration::FailurePolicy::default(),
        })
    }

    fn patched(configuration: &ValidatingWebhookConfiguration) -> Vec<Value> {
        let patch = patch(configuration, Some("PEM"), Some(TOKEN)).unwrap();
        patch["webhooks"].as_array().unwrap().clone()
    }

    #[test]
    fn path_of_a_service_and_of_a_url_are_written_alike() {
        let path = format!("/validate/{TOKEN}");
        for entry in patched(&at(Target::service("ns/name").unwrap())) {
            let config = &entry["clientConfig"];
            assert_eq!(config["service"], json!({"path": path}), "the rest stays as it is");
            assert!(config["caBundle"].is_string() && config.get("url").is_none());
        }
        for base in ["https://10.0.0.1:9443", "https://proxy/prefix"] {
            for written in ["", "/", "/validate", "/validate/0123456789abcdef0123456789abcdee"] {
                let mut configuration = at(Target::url("https://10.0.0.1:9443").unwrap());
                for entry in configuration.webhooks.as_mut().unwrap() {
                    entry.client_config.url = Some(format!("{base}{written}"));
                }
                for entry in patched(&configuration) {
                    assert_eq!(entry["clientConfig"]["url"], format!("{base}{path}"), "{written}");
                }
            }
        }
    }

    #[test]
    fn registration_that_has_both_is_not_written() {
        let with = |token: &str| {
            let mut configuration = at(Target::service("ns/name").unwrap());
            for entry in configuration.webhooks.as_mut().unwrap() {
                entry.client_config.ca_bundle = Some(ByteString(b"PEM".to_vec()));
                let service = entry.client_config.service.as_mut().unwrap();
                service.path = Some(format!("/validate/{token}"));
            }
            configuration
        };
        assert!(tokens(&with(TOKEN)).iter().all(|token| token.as_deref() == Some(TOKEN)));
        assert!(tokens(&with("short")).iter().all(Option::is_none));
        assert!(patch(&with(TOKEN), Some("PEM"), Some(TOKEN)).is_none());
        assert!(patch(&with(TOKEN), None, None).is_none());
        assert!(patch(&with(TOKEN), Some("other"), Some(TOKEN)).is_some());
        let other = patch(&with("short"), None, Some(TOKEN)).unwrap();
        assert!(other["webhooks"][0]["clientConfig"].get("caBundle").is_none(), "not asked for");
    }
}
