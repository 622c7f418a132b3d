//! A platform's admission policy that annotates every StatefulSet of a namespace.
//!
//! The API server books the annotation on the writer whose write it changes, so that no manager of
//! fields tells the operator's own annotations from this one. The operator finds an annotation that
//! it does not generate (`compareAnnotations` in pkg/cluster/cluster.go), and replaces the
//! StatefulSet at every change.

use std::time::Duration;

use anyhow::{Context as _, Result};
use k8s_openapi::api::apps::v1::StatefulSet;
use kube::ResourceExt as _;
use kube::api::{Api, PostParams};
use serde_json::{Value, json};

use crate::bed::Bed;
use crate::pki::write;
use crate::wait::{Attempt, until};

/// The annotation.
pub const ANNOTATION: &str = "example.com/seen";
/// The limit for the API server to learn of a policy.
const IN_FORCE: Duration = Duration::from_secs(120);

/// Annotates every StatefulSet that is written in `namespace`, and returns when that is in force.
///
/// # Errors
/// Fails when the API server refuses the policy, or does not apply it in time.
pub async fn annotate(bed: &Bed, namespace: &str) -> Result<()> {
    let name = name(namespace);
    let file = write(bed.directory(), &format!("{name}.json"), &policy(namespace).to_string())?;
    let file = file.to_string_lossy();
    bed.kubectl(&["apply", "--server-side", "-f", &file]).await?.ok()?;
    let probe: StatefulSet = serde_json::from_value(json!({
        "metadata": {"name": "probe"},
        "spec": {
            "replicas": 0, "serviceName": "probe", "selector": {"matchLabels": {"probe": "yes"}},
            "template": {
                "metadata": {"labels": {"probe": "yes"}},
                "spec": {"containers": [{"name": "probe", "image": "probe"}]},
            },
        },
    }))?;
    let sets = Api::<StatefulSet>::namespaced(bed.client(), namespace);
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    until("the policy to be in force", IN_FORCE, async || {
        let set = sets.create(&dry, &probe).await.context("failed to try the policy")?;
        let annotated = set.annotations().contains_key(ANNOTATION);
        Ok(if annotated { Attempt::Done(()) } else { Attempt::NotYet("no annotation".into()) })
    })
    .await
}

/// Ends what [`annotate`] began. Annotations that exist stay until the operator replaces the
/// StatefulSet.
///
/// # Errors
/// Fails when the API server refuses.
pub async fn stop_annotating(bed: &Bed, namespace: &str) -> Result<()> {
    let name = name(namespace);
    for kind in ["mutatingadmissionpolicybinding", "mutatingadmissionpolicy"] {
        bed.kubectl(&["delete", kind, &name, "--ignore-not-found"]).await?.ok()?;
    }
    Ok(())
}

fn name(namespace: &str) -> String {
    format!("annotate-{namespace}")
}

fn policy(namespace: &str) -> Value {
    let name = name(namespace);
    let rule = json!({
        "apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"],
        "resources": ["statefulsets"],
    });
    let expression = format!(
        "Object{{metadata: Object.metadata{{annotations: {{\"{ANNOTATION}\": \"yes\"}}}}}}"
    );
    json!({"apiVersion": "v1", "kind": "List", "items": [
        {
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingAdmissionPolicy",
            "metadata": {"name": name},
            "spec": {
                "failurePolicy": "Fail", "reinvocationPolicy": "Never",
                "matchConstraints": {
                    "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
                    "resourceRules": [rule],
                },
                "mutations": [{
                    "patchType": "ApplyConfiguration",
                    "applyConfiguration": {"expression": expression},
                }],
            },
        },
        {
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingAdmissionPolicyBinding",
            "metadata": {"name": name}, "spec": {"policyName": name},
        },
    ]})
}
