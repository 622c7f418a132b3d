//! Kubernetes objects as YAML: what the printing commands print and the chart carries.

use anyhow::{Context as _, Result};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt as _;
use pgscale_guard::ledger::InstanceLedger;
use pgscale_guard::overrides::ScaleOverride;
use pgscale_guard::policy::{ClusterScalePolicy, ScalePolicy};
use serde::Serialize;

/// Returns one YAML document.
pub(crate) fn yaml(object: &impl Serialize) -> Result<String> {
    serde_saphyr::to_string(object).context("failed to write YAML")
}

/// Returns one YAML document for each object.
pub(crate) fn documents(objects: &[impl Serialize]) -> Result<String> {
    let documents = objects.iter().map(yaml).collect::<Result<Vec<_>>>()?;
    Ok(documents.join("---\n"))
}

/// Returns the definitions of pgscale's own resources, as the chart ships them.
pub(crate) fn definitions() -> Vec<CustomResourceDefinition> {
    vec![ScalePolicy::crd(), ClusterScalePolicy::crd(), ScaleOverride::crd(), InstanceLedger::crd()]
}

#[cfg(test)]
mod tests {
    use pgscale_guard::operator::Account;

    use super::*;
    use crate::registration::{FailurePolicy, Registration, Target};
    use crate::{generated, rbac, registration};

    /// The chart replaces the words in capitals by its values.
    #[test]
    fn the_chart_carries_the_present_permissions_and_entries() {
        let values = Registration {
            target: Target::service("NAMESPACE/pgscale-webhook").unwrap(),
            authority: None,
            token: None,
            operator_accounts: vec![Account {
                namespace: "OPERATOR-NAMESPACE".into(),
                name: "OPERATOR-ACCOUNT".into(),
            }],
            growth: FailurePolicy::default(),
        };
        let users = ["BREAK-GLASS-USER".to_owned()];
        let objects = rbac::manifest("NAMESPACE", Some("pgscale-webhook-certificates"), &users);
        for (name, present) in [
            ("configuration", yaml(&registration::configuration(&values)).unwrap()),
            ("rbac", documents(&objects).unwrap()),
        ] {
            let path = format!("charts/pgscale/files/{name}.yaml");
            generated::check(&path, &present, |stored, present| stored == present);
        }
    }

    #[test]
    fn the_shipped_definitions_are_the_present_ones() {
        for definition in definitions() {
            let name = definition.metadata.name.clone().unwrap();
            let path = format!("charts/pgscale/crds/{name}.yaml");
            let present = yaml(&definition).unwrap();
            generated::check(&path, &present, |stored, present| stored == present);
        }
    }
}
