//! The fence around the registration: what the webhook's own account may write there, and what
//! happens to the registration when its Namespace is deleted.

use anyhow::{Context as _, Result, ensure};
use pgscale_tests::pki::write as write_file;
use pgscale_tests::wait::{Attempt, until};
use pgscale_tests::webhook::{ACCOUNT, NAMESPACE, REGISTRATION};
use serde_json::{Value, json};

use super::{Idle as _, SOON};
use crate::guarding::guarded;
use crate::trial::{Case, TestCtx, case};

const KIND: &str = "validatingwebhookconfiguration";
const POLICY: &str = "validatingadmissionpolicy/registration.pgscale.dev";

pub(super) fn cases() -> Vec<Case> {
    vec![
        case("admission::the_webhook_writes_nothing_else_to_its_registration", fenced),
        case("admission::the_registration_goes_with_its_namespace", owned),
        case("budget::the_webhook_writes_one_label_of_a_cluster", labelled),
    ]
}

async fn json_of(ctx: &TestCtx, object: &[&str]) -> Result<Value> {
    let said = ctx.run(&[&["get", "--output=json"], object].concat()).await?.ok()?;
    serde_json::from_str(&said).context("failed to decode an object")
}

async fn fenced(ctx: TestCtx) -> Result<()> {
    let webhook = guarded(&ctx).await?;
    let account = format!("--as=system:serviceaccount:{NAMESPACE}:{ACCOUNT}");
    let write = async |as_whom: &[&str], patch: &Value| {
        let patch = patch.to_string();
        let args = ["patch", KIND, REGISTRATION, "--type=json", "--dry-run=server", "-p", &patch];
        ctx.run(&[&args[..], as_whom].concat()).await
    };
    let itself = [account.as_str()];
    let owner = json_of(&ctx, &["namespace", NAMESPACE]).await?["metadata"]["uid"].clone();
    let foreign = json_of(&ctx, &["namespace", &ctx.namespace]).await?["metadata"]["uid"].clone();
    let own = |uid: &Value| json!({"apiVersion": "v1", "kind": "Namespace", "name": NAMESPACE, "uid": uid});
    until("the registration to have its owner", SOON, async || {
        let owners = json_of(&ctx, &[KIND, REGISTRATION]).await?;
        let owners = owners["metadata"]["ownerReferences"].clone();
        let done = owners == json!([own(&owner)]);
        Ok(if done { Attempt::Done(()) } else { Attempt::NotYet(owners.to_string()) })
    })
    .await?;

    let replace =
        |path: &str, value: Value| json!([{"op": "replace", "path": path, "value": value}]);
    let add = |path: &str, value: Value| json!([{"op": "add", "path": path, "value": value}]);
    let service = |key: &str| format!("/webhooks/0/clientConfig/service/{key}");
    let more = json!({
        "name": "more.pgscale.dev", "admissionReviewVersions": ["v1"], "sideEffects": "None",
        "clientConfig": {"url": "https://10.0.0.1/"},
    });
    let refused = [
        ("secrets", replace("/webhooks/0/rules/0/resources", json!(["secrets"]))),
        ("any group", replace("/webhooks/3/rules/0/apiGroups", json!(["*"]))),
        ("a URL", replace("/webhooks/0/clientConfig", json!({"url": "https://10.0.0.1/"}))),
        ("another service", replace(&service("name"), json!("other"))),
        ("another namespace", replace(&service("namespace"), json!("default"))),
        ("another port", replace(&service("port"), json!(8443))),
        ("a shrink that passes", replace("/webhooks/0/failurePolicy", json!("Ignore"))),
        ("a growth that fails", replace("/webhooks/1/failurePolicy", json!("Fail"))),
        (
            "no namespaces",
            replace("/webhooks/0/namespaceSelector", json!({"matchLabels": {"a": "b"}})),
        ),
        ("no objects", add("/webhooks/0/objectSelector/matchLabels", json!({"a": "b"}))),
        ("no conditions", json!([{"op": "remove", "path": "/webhooks/0/matchConditions"}])),
        ("a condition", replace("/webhooks/0/matchConditions/1/expression", json!("false"))),
        ("no time", replace("/webhooks/0/timeoutSeconds", json!(1))),
        ("another match policy", replace("/webhooks/0/matchPolicy", json!("Exact"))),
        ("other side effects", replace("/webhooks/0/sideEffects", json!("None"))),
        ("another name", replace("/webhooks/0/name", json!("other.pgscale.dev"))),
        ("an entry more", add("/webhooks/-", more)),
        ("an entry less", json!([{"op": "remove", "path": "/webhooks/0"}])),
        ("no entries", json!([{"op": "remove", "path": "/webhooks"}])),
        ("a label", add("/metadata/labels/a", json!("b"))),
        ("an annotation", add("/metadata/annotations", json!({"a": "b"}))),
        ("a finalizer", add("/metadata/finalizers", json!(["pgscale.dev/stay"]))),
        ("no owner", json!([{"op": "remove", "path": "/metadata/ownerReferences"}])),
        ("an owner that is gone", replace("/metadata/ownerReferences/0", own(&foreign))),
        (
            "an owner more",
            add(
                "/metadata/ownerReferences/-",
                json!({
                    "apiVersion": "v1", "kind": "Namespace", "name": ctx.namespace, "uid": foreign,
                }),
            ),
        ),
        ("a stronger owner", add("/metadata/ownerReferences/0/blockOwnerDeletion", json!(true))),
    ];
    // The API server learns of a policy through its own watch, a moment later.
    until("the fence to be in force", SOON, async || {
        let said = write(&itself, &refused[0].1).await?;
        let done = said.code == Some(1);
        Ok(if done { Attempt::Done(()) } else { Attempt::NotYet(format!("{said:?}")) })
    })
    .await?;
    for (what, patch) in &refused {
        let said = write(&itself, patch).await?;
        let fenced = said.stderr.contains("pgscale's webhook may write to its registration");
        ensure!(said.code == Some(1) && fenced, "{what}: {said:?}");
    }
    let bundle = json_of(&ctx, &[KIND, REGISTRATION]).await?;
    let bundle = bundle["webhooks"][0]["clientConfig"]["caBundle"].clone();
    ensure!(bundle.is_string(), "no authority is published");
    let emptied: Vec<_> = (0..4)
        .map(|at| json!({"op": "remove", "path": format!("/webhooks/{at}/clientConfig/caBundle")}))
        .collect();
    for (what, patch) in [
        ("no authority", json!(emptied)),
        ("an authority", replace("/webhooks/3/clientConfig/caBundle", bundle)),
        ("a path", replace(&service("path"), json!("/validate/0123456789abcdef"))),
    ] {
        write(&itself, &patch).await?.ok().with_context(|| what.to_owned())?;
    }
    // A person may change everything, within the rules of Kubernetes.
    for (what, patch) in [&refused[6], &refused[17], &refused[20], &refused[22]] {
        write(&[], patch).await?.ok().with_context(|| (*what).to_owned())?;
    }

    let checked = until("the API server to check the fence's expressions", SOON, async || {
        let policy = json_of(&ctx, &[POLICY]).await?;
        let current = policy["status"]["observedGeneration"] == policy["metadata"]["generation"];
        let status = policy["status"].clone();
        Ok(if current { Attempt::Done(status) } else { Attempt::NotYet(status.to_string()) })
    })
    .await?;
    let doubts = checked.pointer("/typeChecking/expressionWarnings");
    ensure!(doubts.is_none(), "the API server doubts an expression: {checked:#}");
    let metrics = webhook.metrics().await?;
    ensure!(metrics.contains("\npgscale_registration_present 1\n"), "{metrics}");
    Ok(())
}

/// Checks with a cluster that no operator owns. Its fence moves its revision, and that is all.
async fn labelled(ctx: TestCtx) -> Result<()> {
    guarded(&ctx).await?;
    let cluster = json!({
        "apiVersion": "acid.zalan.do/v1", "kind": "postgresql",
        "metadata": {
            "name": "acid-fenced", "annotations": {"acid.zalan.do/controller": "no-operator"},
        },
        "spec": {
            "teamId": "acid", "numberOfInstances": 1,
            "postgresql": {"version": "17"}, "volume": {"size": "1Gi"},
        },
    });
    let file = write_file(ctx.bed.directory(), "fenced.json", &cluster.to_string())?;
    ctx.run(&["create", "--filename", &file.to_string_lossy()]).await?.ok()?;
    let account = format!("--as=system:serviceaccount:{NAMESPACE}:{ACCOUNT}");
    let write = async |patch: &Value| {
        let patch = patch.to_string();
        let args = ["patch", "postgresql", "acid-fenced", "--type=merge", "--dry-run=server"];
        ctx.run(&[&args[..], &["-p", &patch, &account]].concat()).await
    };
    let refused = [
        ("a count", json!({"spec": {"numberOfInstances": 2}})),
        ("a volume", json!({"spec": {"volume": {"size": "2Gi"}}})),
        ("another label", json!({"metadata": {"labels": {"a": "b"}}})),
        ("an annotation", json!({"metadata": {"annotations": {"a": "b"}}})),
        ("no annotation", json!({"metadata": {"annotations": null}})),
        ("a finalizer", json!({"metadata": {"finalizers": ["pgscale.dev/stay"]}})),
    ];
    until("the fence to be in force", SOON, async || {
        let said = write(&refused[0].1).await?;
        let done = said.code == Some(1);
        Ok(if done { Attempt::Done(()) } else { Attempt::NotYet(format!("{said:?}")) })
    })
    .await?;
    for (what, patch) in &refused {
        let said = write(patch).await?;
        let fenced = said.stderr.contains("pgscale's webhook may write the label");
        ensure!(said.code == Some(1) && fenced, "{what}: {said:?}");
    }
    let label = json!({"metadata": {"labels": {"pgscale.dev/fence": "7"}}});
    write(&label).await?.ok().context("the label")?;
    Ok(())
}

/// Checks with a copy of the registration, because the webhook serves all tests.
async fn owned(ctx: TestCtx) -> Result<()> {
    guarded(&ctx).await?;
    let namespace = format!("{}-owner", ctx.namespace);
    let copy = format!("{}.pgscale.dev", ctx.namespace);
    ctx.run(&["create", "namespace", &namespace]).await?.ok()?;
    let owner = json_of(&ctx, &["namespace", &namespace]).await?["metadata"]["uid"].clone();
    let registration = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": copy, "ownerReferences": [
            {"apiVersion": "v1", "kind": "Namespace", "name": namespace, "uid": owner},
        ]},
        "webhooks": [],
    });
    ctx.apply(&registration).await?.ok()?;
    ctx.run(&["delete", "namespace", &namespace, "--wait=false"]).await?.ok()?;
    until("the registration to go with its Namespace", SOON, async || {
        let said = ctx.run(&["get", KIND, &copy]).await?;
        let gone = said.code == Some(1) && said.stderr.contains("NotFound");
        Ok(if gone { Attempt::Done(()) } else { Attempt::NotYet(format!("{said:?}")) })
    })
    .await
}
