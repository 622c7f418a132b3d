//! Where an entry leads: the Service of the webhook, its port, and the secret path.

use k8s_openapi::api::admissionregistration::v1::{ServiceReference, ValidatingWebhook};
use serde_json::json;

use super::super::shipped::WEBHOOK;
use super::super::{Case, Finding};
use super::{logs, object, set};

/// The beginning of the path; a secret part follows (`webhook/src/registration.rs`).
const PATH: &str = "/validate/";

/// Returns what is wrong with the address. `heavy` gives a finding the weight of the entry.
pub(super) fn findings(
    case: &Case<'_>,
    at: usize,
    live: &ValidatingWebhook,
    shipped: &ValidatingWebhook,
    heavy: impl Fn(&'static str, String) -> Finding,
) -> Vec<Finding> {
    let name = live.name.as_str();
    let Some(service) = &live.client_config.service else {
        let url = live.client_config.url.as_deref().unwrap_or("none");
        return vec![
            heavy(
                "address-foreign",
                format!(
                    "the entry {name} leads to an address, and not to the Service {WEBHOOK}: \
                     doctor cannot follow it"
                ),
            )
            .because(object(), &format!("webhooks[{name}].clientConfig.url"), url)
            .cured(case.restore()),
        ];
    };
    let field = |part: &str| format!("webhooks[{name}].clientConfig.service.{part}");
    let mut found = Vec::new();
    let home = case.facts.home.as_deref().unwrap_or(&service.namespace);
    if service.name != WEBHOOK || service.namespace != home {
        let part = if service.name == WEBHOOK { "namespace" } else { "name" };
        found.push(
            heavy(
                "address-foreign",
                format!("the entry {name} leads to another Service than that of the webhook"),
            )
            .because(object(), &field(part), format!("{}/{}", service.namespace, service.name))
            .cure(set(at, name, "clientConfig/service/name", Some(json!(WEBHOOK))))
            .cure(set(at, name, "clientConfig/service/namespace", Some(json!(home)))),
        );
    }
    let path = service.path.as_deref().unwrap_or_default();
    if path.strip_prefix(PATH).is_none_or(str::is_empty) {
        found.push(
            heavy(
                "path-missing",
                format!(
                    "the entry {name} has no secret path: the webhook answers it with 404. The \
                     webhook writes the path itself as soon as a replica runs"
                ),
            )
            .because(
                object(),
                &field("path"),
                if path.is_empty() { "none" } else { "no secret part" },
            )
            .cure_to("see why no replica writes it", logs(case.home)),
        );
    }
    found.extend(port(case, at, name, service, shipped, heavy));
    found
}

fn port(
    case: &Case<'_>,
    at: usize,
    name: &str,
    service: &ServiceReference,
    shipped: &ValidatingWebhook,
    heavy: impl Fn(&'static str, String) -> Finding,
) -> Option<Finding> {
    let wants = shipped.client_config.service.as_ref().and_then(|it| it.port).unwrap_or(443);
    let port = service.port.unwrap_or(443);
    let known = case.facts.service.known()?;
    let spec = known.spec.as_ref()?;
    if spec.ports.iter().flatten().any(|it| it.port == port) {
        return None;
    }
    Some(
        heavy(
            "port-closed",
            format!("the entry {name} calls port {port}, which the Service does not have"),
        )
        .because(object(), &format!("webhooks[{name}].clientConfig.service.port"), port)
        .cure(set(at, name, "clientConfig/service/port", Some(json!(wants))))
        .cured(case.restore()),
    )
}
