//! The Deployment of the HTTP API.

use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use serde_json::{Value, json};

use super::{NAMESPACE, of_kind, pod, render};
use crate::sandbox::trial;

const NAME: &str = "pgscale-api";

pub(super) fn trials() -> Vec<Trial> {
    vec![
        trial("chart::the_api_has_no_permission_and_no_token", closed),
        trial("chart::the_api_is_left_out_by_default", left_out),
    ]
}

fn values() -> Value {
    json!({"api": {"enabled": true, "tlsSecret": "api-tls", "clusterTemplate": "{name}"},
        "commonLabels": {"team": "databases"}})
}

fn closed() -> Result<()> {
    let (rendered, without) = (render(&values())?, render(&json!({}))?);
    let permissions = |of| of_kind(of, |kind| kind.contains("Role")).len();
    ensure!(permissions(&rendered) == permissions(&without), "the API has permissions");
    let account = rendered.object("ServiceAccount", NAME)?;
    let deployment = rendered.object("Deployment", NAME)?;
    let spec = &deployment["spec"]["template"]["spec"];
    ensure!(account["automountServiceAccountToken"] == false, "{account:#}");
    ensure!(spec["automountServiceAccountToken"] == false, "{spec:#}");
    ensure!(spec["serviceAccountName"] == NAME, "{spec:#}");
    // No source of what the pod has at the usual place is a token.
    let sources = spec["volumes"][1]["projected"]["sources"].as_array().cloned();
    let sources = sources.unwrap_or_default();
    ensure!(sources.len() == 2 && sources.iter().all(|it| it.get("serviceAccountToken").is_none()));
    let container = &spec["containers"][0];
    let args = json!([
        "serve",
        "--address=::",
        "--port=8443",
        "--pass-token",
        "--tls-cert-file=/certificates/tls.crt",
        "--tls-private-key-file=/certificates/tls.key",
        "--cluster-template={name}",
        "--namespace-template=dbaas-{name}",
    ]);
    ensure!(container["args"] == args, "{container:#}");
    ensure!(spec["volumes"][0]["secret"]["secretName"] == "api-tls", "{spec:#}");
    let webhook = pod(&rendered)?;
    ensure!(spec["securityContext"] == webhook["securityContext"], "{spec:#}");
    ensure!(container["securityContext"] == webhook["containers"][0]["securityContext"]);

    // Its Service leads to it alone, and the webhook's does not.
    let labels = &deployment["spec"]["template"]["metadata"]["labels"];
    ensure!(labels["team"] == "databases" && labels["app.kubernetes.io/name"] == NAME);
    for (service, leads) in [(NAME, true), ("pgscale-webhook", false)] {
        let service = rendered.object("Service", service)?;
        let selector = service["spec"]["selector"].as_object().cloned().unwrap_or_default();
        let selects = selector.iter().all(|(key, value)| labels[key] == *value);
        ensure!(selects == leads && !selector.is_empty(), "{service:#}");
    }
    let network = rendered.object("NetworkPolicy", NAME)?;
    let out = json!([443, 6443, 8443, 16443]);
    let ports = network["spec"]["egress"][0]["ports"].as_array().cloned().unwrap_or_default();
    let ports: Vec<Value> = ports.iter().map(|port| port["port"].clone()).collect();
    ensure!(
        json!(ports) == out && network["spec"]["egress"].as_array().is_some_and(|it| it.len() == 1)
    );
    ensure!(network["spec"]["ingress"][0]["from"] == json!([{"namespaceSelector": {}}]));
    ensure!(network["metadata"]["namespace"] == NAMESPACE, "{network:#}");
    Ok(())
}

fn left_out() -> Result<()> {
    let rendered = render(&json!({}))?;
    ensure!(rendered.object("Deployment", NAME).is_err(), "it is there by default");
    Ok(())
}
