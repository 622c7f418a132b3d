//! The break glass: a group that bypasses a webhook that is down or wrong. The group has the
//! permissions for that, and every use is reported.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use pgscale_tests::bed::Said;
use pgscale_tests::pki::write;
use pgscale_tests::wait::{Attempt, until};
use pgscale_tests::webhook::NAMESPACE;
use serde_json::{Value, json};

use super::{Idle as _, NAME, SOON, cluster, ensure_refused, to};
use crate::trial::{Case, TestCtx, case};

/// The group that gives every user here the permission to edit clusters.
const DBAS: &str = "dbas";
/// The flags by which a user who keeps their own name breaks the glass.
pub(super) const GROUP: [&str; 2] =
    ["--as-group=pgscale:break-glass", "--as-group=system:authenticated"];
const WITNESS: &str = "validatingadmissionpolicy/break-glass.pgscale.dev";

pub(super) fn cases() -> Vec<Case> {
    vec![
        case("admission::break_glass_needs_the_permission_to_impersonate", needed),
        case("admission::break_glass_writes_are_reported_without_the_webhook", seen),
    ]
}

/// The users of these tests.
trait Users {
    /// Lets jane break the glass with the output of `pgscale-webhook rbac`, and lets the group of
    /// DBAs edit clusters here.
    async fn grant_permissions(&self) -> Result<()>;

    async fn kubeconfig_of(&self, user: &str) -> Result<PathBuf>;

    async fn run_as(&self, user: &str, args: &[&str]) -> Result<Said>;
}

impl Users for TestCtx {
    async fn grant_permissions(&self) -> Result<()> {
        let rbac = tokio::process::Command::new(&self.bed.programs()?.webhook)
            .args(["rbac", "--namespace", NAMESPACE, "--break-glass-user", "jane"])
            .output()
            .await
            .context("failed to run pgscale-webhook rbac")?;
        let directory = self.bed.directory().join(&self.namespace);
        let file = write(&directory, "rbac.yaml", &String::from_utf8(rbac.stdout)?)?;
        self.bed.kubectl(&["apply", "--server-side", "-f", &file.to_string_lossy()]).await?.ok()?;
        let resource = "--resource=postgresqls.acid.zalan.do";
        self.run(&["create", "role", "edit", "--verb=get,patch", resource]).await?.ok()?;
        self.run(&["create", "rolebinding", DBAS, "--role=edit", "--group", DBAS]).await?.ok()?;
        // The API server learns of a binding through its own watch, a moment later.
        for user in ["jane", "joe"] {
            until(&format!("the permissions of {user} to be in force"), SOON, async || {
                let may = self.run_as(user, &["auth", "can-i", "patch", "postgresqls"]).await?;
                Ok(settled(may.stdout.trim() == "yes", &may))
            })
            .await?;
        }
        let impersonate = ["auth", "can-i", "impersonate", "groups/pgscale:break-glass"];
        until("jane to be let into the group", SOON, async || {
            let may = self.run_as("jane", &impersonate).await?;
            Ok(settled(may.stdout.trim() == "yes", &may))
        })
        .await
    }

    async fn kubeconfig_of(&self, user: &str) -> Result<PathBuf> {
        self.bed.user_kubeconfig(user, &[DBAS]).await
    }

    async fn run_as(&self, user: &str, args: &[&str]) -> Result<Said> {
        let namespace = ["--namespace", self.namespace.as_str()];
        let kubeconfig = self.kubeconfig_of(user).await?;
        self.bed.kubectl_as(&kubeconfig, &[&namespace[..], args].concat()).await
    }
}

fn settled(done: bool, said: &Said) -> Attempt<()> {
    if done { Attempt::Done(()) } else { Attempt::NotYet(format!("{said:?}")) }
}

async fn needed(ctx: TestCtx) -> Result<()> {
    ctx.set().await?;
    ctx.grant_permissions().await?;
    let shrink = to(1).to_string();
    let shrink = ["patch", "postgresql", NAME, "--type=merge", "--patch", &shrink];
    let glass = |user: &'static str| [&[user][..], &GROUP, &shrink].concat();
    ensure_refused("jane as herself", &ctx.run_as("jane", &shrink).await?, "below-min")?;
    for (user, as_user) in [("joe", "--as=joe"), ("joe", "--as=jane"), ("jane", "--as=admin")] {
        let said = ctx.run_as(user, &glass(as_user)).await?;
        let barred = said.code == Some(1) && said.stderr.contains("cannot impersonate");
        ensure!(barred, "{user} {as_user}: {said:?}");
    }
    // An impersonated user has none of the groups that her permissions come from.
    let alone = [&["--as=jane", "--as-group=system:authenticated"][..], &shrink].concat();
    let said = ctx.run_as("jane", &alone).await?;
    ensure!(said.code == Some(1) && said.stderr.contains("cannot get resource"), "{said:?}");

    ctx.run_as("jane", &glass("--as=jane")).await?.ok()?;
    ensure!(ctx.count().await? == "1", "the break-glass write had no effect");
    // The group may change clusters, and nothing else.
    for question in [
        &["delete", "postgresqls"][..],
        &["create", "postgresqls"],
        &["list", "postgresqls"],
        &["patch", "postgresqls", "--subresource=status"],
        &["patch", "statefulsets"],
        &["get", "secrets"],
        &["create", "scaleoverrides"],
    ] {
        let asked = [&["--as=jane"][..], &GROUP, &["auth", "can-i"], question].concat();
        let said = ctx.run_as("jane", &asked).await?;
        ensure!(said.stdout.trim() == "no", "{question:?}: {said:?}");
    }
    Ok(())
}

async fn seen(ctx: TestCtx) -> Result<()> {
    let webhook = ctx.set().await?;
    ctx.grant_permissions().await?;
    webhook.stop().await?;
    let passed = unjudged(&ctx).await;
    webhook.run().await?;
    passed?;

    // A write from outside of the group is not reported.
    let said = ctx.patch(&to(4)).await?;
    ensure!(said.code == Some(0) && !said.stderr.contains("break glass"), "{said:?}");
    let checked = until("the API server to check the witness's expressions", SOON, async || {
        let said = ctx.run(&["get", WITNESS, "--output=json"]).await?.ok()?;
        let witness: Value = serde_json::from_str(&said).context("failed to decode the witness")?;
        let current = witness["status"]["observedGeneration"] == witness["metadata"]["generation"];
        let status = witness["status"].clone();
        Ok(if current { Attempt::Done(status) } else { Attempt::NotYet(status.to_string()) })
    })
    .await?;
    let doubts = checked.pointer("/typeChecking/expressionWarnings");
    ensure!(doubts.is_none(), "the API server doubts an expression: {checked:#}");

    let log = ctx.bed.control_plane().lock().await.audit_log();
    let text = fs::read_to_string(&log).context("failed to read the audit log")?;
    let failure = "validation.policy.admission.k8s.io/validation_failure";
    let mut witnessed = Vec::new();
    for line in text.lines().filter(|line| line.contains(failure)) {
        let event: Value = serde_json::from_str(line).context("failed to decode an audit event")?;
        if event["objectRef"]["namespace"] == ctx.namespace.as_str() {
            witnessed.push(event);
        }
    }
    witnessed.retain(|event| event["verb"] != "create" && event["verb"] != "delete");
    ensure!(witnessed.len() == 3, "not every use is in the audit log: {witnessed:#?}");
    for (event, span) in witnessed.iter().zip(["3 -> 1", "1 -> 2", "2 -> 3"]) {
        ensure!(event["impersonatedUser"]["username"] == "jane", "{event:#}");
        let said = event["annotations"][failure].as_str().unwrap_or_default();
        let said: Value = serde_json::from_str(said).context("failed to decode an annotation")?;
        let message = said[0]["message"].as_str().unwrap_or_default();
        ensure!(message.contains("break glass: jane wrote ") && message.contains(span), "{said:#}");
    }
    Ok(())
}

/// Changes the count by every verb of kubectl while the webhook is down, as a user whose
/// permissions come from a group.
async fn unjudged(ctx: &TestCtx) -> Result<()> {
    let glass = [&["--as=jane"][..], &GROUP].concat();
    let shrink = to(1).to_string();
    let patch = ["patch", "postgresql", NAME, "--type=merge", "--patch", &shrink];
    let barred = ctx.run_as("jane", &patch).await?;
    ensure!(barred.stderr.contains("failed calling webhook"), "it passed unjudged: {barred:?}");

    let place = format!("{}/{NAME}", ctx.namespace);
    let ensure_seen = |way: &str, said: &Said, span: &str| {
        let warned = said.stderr.lines().find(|line| line.starts_with("Warning: "));
        let warned = warned.unwrap_or_default();
        for part in ["break glass: jane wrote postgresql", &place, span] {
            ensure!(said.code == Some(0) && warned.contains(part), "{way}: {part}: {said:?}");
        }
        Ok(())
    };
    let said = ctx.run_as("jane", &[&glass[..], &patch].concat()).await?;
    ensure_seen("patch", &said, "numberOfInstances 3 -> 1")?;

    let kubeconfig = ctx.kubeconfig_of("jane").await?;
    let mut edit = ctx.bed.command(&ctx.bed.tools().kubectl, &kubeconfig)?;
    let edited = edit
        .args(["--namespace", &ctx.namespace, "edit", "postgresql", NAME])
        .args(&glass)
        .env("KUBE_EDITOR", "sed -i 's/numberOfInstances: 1/numberOfInstances: 2/'")
        .output()
        .await
        .context("failed to run kubectl edit")?;
    let said = Said {
        code: edited.status.code(),
        stdout: String::from_utf8_lossy(&edited.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&edited.stderr).into_owned(),
    };
    ensure_seen("edit", &said, "numberOfInstances 1 -> 2")?;

    let three = ctx.file("three.json", &cluster(3))?;
    let replace = [&glass[..], &["replace", "--filename", &three]].concat();
    ensure_seen("replace", &ctx.run_as("jane", &replace).await?, "numberOfInstances 2 -> 3")?;

    // A member with more permissions is reported for any write.
    let all = ["--as=jane", GROUP[0], "--as-group=system:masters", "--dry-run=server"];
    let mut another = cluster(4);
    another["metadata"]["name"] = json!("acid-another");
    let another = ctx.file("another.json", &another)?;
    for (way, args, span) in [
        ("create", ["create", "--filename", &another], "(CREATE), numberOfInstances none -> 4"),
        ("delete", ["delete", "postgresql", NAME], "(DELETE), numberOfInstances 3 -> none"),
    ] {
        let said = ctx.run(&[&all[..], &args].concat()).await?;
        ensure!(said.code == Some(0) && said.stderr.contains(span), "{way}: {said:?}");
    }
    Ok(())
}
