//! What the chart has for `helm test`.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use pgscale_tests::chart::Rendered;
use serde_json::{Value, json};

use super::{NAMESPACE, pod, render};
use crate::sandbox::trial;

const NAME: &str = "pgscale-doctor";
const POLICY: &str = "helm.sh/hook-delete-policy";

pub(super) fn trials() -> Vec<Trial> {
    vec![
        trial("chart::helm_test_runs_doctor_as_an_account_of_its_own", doctor),
        trial("chart::helm_test_may_write_only_where_a_canary_is_wanted", canary),
        trial("chart::helm_test_can_be_left_out", left_out),
    ]
}

fn test_object<'a>(rendered: &'a Rendered, kind: &str) -> Result<&'a Value> {
    let found =
        rendered.tests.iter().find(|it| it["kind"] == kind && it["metadata"]["name"] == NAME);
    found.with_context(|| format!("helm test has no {kind}"))
}

fn doctor() -> Result<()> {
    let rendered = render(&json!({"commonLabels": {"team": "databases"}}))?;
    let kinds: BTreeSet<_> = rendered.tests.iter().filter_map(|it| it["kind"].as_str()).collect();
    let wanted =
        ["ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding", "Pod"];
    ensure!(kinds == wanted.into(), "{kinds:?}");
    for object in &rendered.tests {
        let metadata = &object["metadata"];
        ensure!(metadata["annotations"]["helm.sh/hook"] == "test", "{object:#}");
        let labels = &metadata["labels"];
        ensure!(labels["team"] == "databases", "{object:#}");
        // The Service of the webhook must not lead to it.
        ensure!(labels["app.kubernetes.io/name"] == NAME, "{object:#}");
        let policy = metadata["annotations"][POLICY].as_str().unwrap_or_default();
        ensure!(policy.contains("hook-succeeded") && policy.contains("before-hook-creation"));
        // The pod's log is read after a failure. Permissions never outlive the test.
        ensure!(policy.contains("hook-failed") == (object["kind"] != "Pod"), "{object:#}");
    }
    let tested = &test_object(&rendered, "Pod")?["spec"];
    let container = &tested["containers"][0];
    ensure!(
        tested["serviceAccountName"] == NAME && tested["restartPolicy"] == "Never",
        "{tested:#}"
    );
    ensure!(container["args"] == json!(["doctor", "--no-canary"]), "{tested:#}");
    ensure!(container.get("command").is_none(), "the image has its entrypoint: {tested:#}");
    let image = format!("kubectl-pgscale:{}", env!("CARGO_PKG_VERSION"));
    ensure!(container["image"] == image, "{tested:#}");
    let webhook = pod(&rendered)?;
    ensure!(tested["securityContext"] == webhook["securityContext"], "{tested:#}");
    ensure!(container["securityContext"] == webhook["containers"][0]["securityContext"]);
    let binding = test_object(&rendered, "ClusterRoleBinding")?;
    let subject = json!({"kind": "ServiceAccount", "name": NAME, "namespace": NAMESPACE});
    ensure!(binding["subjects"] == json!([subject]) && binding["roleRef"]["name"] == NAME);
    Ok(())
}

fn writes(rendered: &Rendered) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for kind in ["ClusterRole", "Role"] {
        for rule in test_object(rendered, kind)?["rules"].as_array().into_iter().flatten() {
            for verb in rule["verbs"].as_array().into_iter().flatten() {
                if verb != "get" && verb != "list" {
                    found.push(format!("{kind}: {verb} {}", rule["resources"]));
                }
            }
        }
    }
    Ok(found)
}

fn canary() -> Result<()> {
    let forward = r#"Role: "create" ["pods/portforward"]"#;
    ensure!(writes(&render(&json!({}))?)? == [forward], "{:?}", writes(&render(&json!({}))?)?);
    let digest = format!("sha256:{}", "a".repeat(64));
    let rendered = render(&json!({"helmTest": {
        "canary": true, "image": {"repository": "r.example.com/p", "digest": digest},
    }}))?;
    let patch = r#"ClusterRole: "patch" ["postgresqls"]"#;
    ensure!(writes(&rendered)? == [patch, forward], "{:?}", writes(&rendered)?);
    let container = &test_object(&rendered, "Pod")?["spec"]["containers"][0];
    ensure!(container["args"] == json!(["doctor"]), "{container:#}");
    ensure!(container["image"] == format!("r.example.com/p@{digest}"), "{container:#}");
    Ok(())
}

fn left_out() -> Result<()> {
    let rendered = render(&json!({"helmTest": {"enabled": false}}))?;
    ensure!(rendered.tests.is_empty(), "{:#?}", rendered.tests);
    Ok(())
}
