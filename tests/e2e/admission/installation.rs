//! The webhook as its chart installs it: its certificates, its permissions, and the data that
//! outlives an upgrade.

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::StatusCode;
use pgscale_tests::progress::say;
use pgscale_tests::wait::{Attempt, until};
use pgscale_tests::webhook::{ACCOUNT, NAMESPACE, REGISTRATION, SECRET, install};
use serde_json::json;

use super::{Idle as _, SOON, ensure_refused, to};
use crate::guarding::guarded;
use crate::trial::{Case, TestCtx, case};

const KIND: &str = "validatingwebhookconfiguration";
/// The number of times that a webhook without an API server is asked.
const WAITS: u32 = 8;

pub(super) fn cases() -> Vec<Case> {
    vec![
        case("admission::certificates_are_replaced_while_the_webhook_serves", certificate),
        case("admission::a_chart_upgrade_keeps_the_secret_and_the_authority", upgrade),
        case("admission::a_webhook_without_an_api_server_waits_for_it", no_api_server),
        case("admission::the_webhook_has_exactly_the_permissions_it_needs", permissions),
    ]
}

async fn certificate(ctx: TestCtx) -> Result<()> {
    let webhook = ctx.set().await?;
    let counted = async |line: &str| {
        let text = webhook.metrics().await?;
        let found =
            text.lines().find_map(|found| found.strip_prefix(line)?.trim().parse::<u64>().ok());
        found.with_context(|| format!("{line} is not counted"))
    };
    let failed = "pgscale_certificate_reloads_total{result=\"failed\"}";
    let before_failed = counted(failed).await?;
    let (authorities, path) = (webhook.kept("ca.crt").await?, webhook.path().await?);
    let judged = async |when: &str| ensure_refused(when, &ctx.patch(&to(9)).await?, "above-max");

    // A person applies the registration as Helm rendered it, by force.
    let published = format!("{} {path}", STANDARD.encode(webhook.bundle().await?));
    let config = json!({"service": {"namespace": NAMESPACE, "name": ACCOUNT, "port": 443}});
    let pointer = "/webhooks/0/clientConfig";
    let wipe = json!([{"op": "replace", "path": pointer, "value": config}]).to_string();
    ctx.run(&["patch", KIND, REGISTRATION, "--type=json", "-p", &wipe]).await?.ok()?;
    let wiped = Instant::now();
    let first = "--output=jsonpath={.webhooks[0].clientConfig['caBundle', 'service.path']}";
    until("authority and path to be published again", SOON, async || {
        let found = ctx.run(&["get", KIND, REGISTRATION, first]).await?.ok()?;
        Ok(if found == published { Attempt::Done(()) } else { Attempt::NotYet(found) })
    })
    .await?;
    say(&format!("a wiped entry was published again after {:?}", wiped.elapsed()));
    judged("after the entry was wiped").await?;

    // The Secret loses its contents, and then itself. No review is lost.
    let secret = ["secret", SECRET, "--namespace", NAMESPACE];
    let empty = json!([{"op": "remove", "path": "/data"}]).to_string();
    let changes = [
        [&["patch"][..], &secret, &["--type=json", "-p", &empty]].concat(),
        [&["delete"][..], &secret].concat(),
    ];
    let mut known = vec![authorities];
    for change in changes {
        ctx.bed.kubectl(&change).await?.ok()?;
        until("a new authority to be kept", SOON, async || {
            judged("without the Secret").await?;
            let kept = webhook.kept("ca.crt").await;
            Ok(match kept {
                Ok(kept) if !known.contains(&kept) => {
                    known.push(kept);
                    Attempt::Done(())
                }
                other => Attempt::NotYet(format!("{:?}", other.err())),
            })
        })
        .await?;
        until("all authorities to be published", SOON, async || {
            judged("beside a new authority").await?;
            let bundles = bundles(&ctx).await?;
            let all = |bundle: &String| known.iter().all(|one| bundle.contains(one.trim()));
            Ok(if bundles.iter().all(all) {
                Attempt::Done(())
            } else {
                Attempt::NotYet(format!("{bundles:?}"))
            })
        })
        .await?;
        ensure!(webhook.path().await? == path, "a new path before it was seen");
        ensure!(webhook.kept("paths").await?.contains(path.trim_start_matches("/validate/")));
    }
    ensure!(counted(failed).await? == before_failed, "a look failed");
    Ok(())
}

/// Returns the bundle of each entry.
async fn bundles(ctx: &TestCtx) -> Result<Vec<String>> {
    let bundle = "--output=jsonpath={.webhooks[*].clientConfig.caBundle}";
    let found = ctx.run(&["get", KIND, REGISTRATION, bundle]).await?.ok()?;
    let decoded = found
        .split_whitespace()
        .map(|bundle| String::from_utf8(STANDARD.decode(bundle)?).context("a bundle is not text"));
    decoded.collect()
}

/// Checks that an upgrade keeps the Secret's contents, and the published authority and path: none
/// is in the chart.
async fn upgrade(ctx: TestCtx) -> Result<()> {
    let webhook = ctx.set().await?;
    let (kept, path) = (webhook.kept("ca.key").await?, webhook.path().await?);
    let notes = install(&ctx.bed)?;
    for part in ["STATUS: deployed", "pgscale guards", "in the namespaces you selected"] {
        ensure!(notes.contains(part), "{part:?} is not in {notes}");
    }
    ensure!(webhook.kept("ca.key").await? == kept, "the Secret was changed");
    let bundles = bundles(&ctx).await?;
    ensure!(bundles.len() == 4, "an entry lost its authority: {bundles:?}");
    let paths = "--output=jsonpath={.webhooks[*].clientConfig.service.path}";
    let paths = ctx.run(&["get", KIND, REGISTRATION, paths]).await?.ok()?;
    ensure!(paths.split_whitespace().eq([path.as_str(); 4]), "an entry lost its path: {paths}");
    ensure_refused("after an upgrade", &ctx.patch(&to(9)).await?, "above-max")
}

/// Starts the webhook while the API server is away, as after a power failure.
async fn no_api_server(ctx: TestCtx) -> Result<()> {
    let webhook = ctx.set().await?;
    webhook.stop().await?;
    let mut control_plane = ctx.bed.control_plane().lock().await;
    control_plane.stop_api_server().await?;
    webhook.spawn().await?;
    // Several looks fail in this time. None of them ends the process.
    let mut seen = 0;
    let waiting = until("the webhook to wait", SOON, async || {
        Ok(match webhook.readiness().await? {
            Ok(StatusCode::SERVICE_UNAVAILABLE) if seen == WAITS => Attempt::Done(()),
            Ok(StatusCode::SERVICE_UNAVAILABLE) => {
                seen += 1;
                Attempt::NotYet(format!("not ready {seen} times"))
            }
            other => Attempt::NotYet(format!("{other:?}")),
        })
    })
    .await;
    control_plane.start_api_server().await?;
    drop(control_plane);
    let there = Instant::now();
    waiting?;
    until("the webhook to be ready", SOON, async || {
        Ok(match webhook.readiness().await? {
            Ok(StatusCode::OK) => Attempt::Done(()),
            other => Attempt::NotYet(format!("{other:?}")),
        })
    })
    .await?;
    say(&format!("ready {:?} after the API server", there.elapsed()));
    ensure_refused("after the start", &ctx.patch(&to(9)).await?, "above-max")
}

async fn permissions(ctx: TestCtx) -> Result<()> {
    guarded(&ctx).await?;
    let account = format!("--as=system:serviceaccount:{NAMESPACE}:{ACCOUNT}");
    let own = format!("validatingwebhookconfigurations/{REGISTRATION}");
    let secret = format!("secrets/{SECRET}");
    let here = ["--namespace", NAMESPACE];
    for (question, allowed) in [
        (&["get", "postgresqls.acid.zalan.do"][..], true),
        (&["list", "scalepolicies.pgscale.dev"], true),
        (&["list", "scaleoverrides.pgscale.dev"], true),
        (&["create", "scaleoverrides.pgscale.dev"], false),
        (&["list", "pods"], true),
        (&["create", "events.events.k8s.io"], true),
        // The fence of a budget is a label. A policy of the API server refuses everything else.
        (&["patch", "postgresqls.acid.zalan.do"], true),
        (&["delete", "postgresqls.acid.zalan.do"], false),
        (&["update", "postgresqls.acid.zalan.do"], false),
        (&["create", "instanceledgers.pgscale.dev"], true),
        (&["delete", "instanceledgers.pgscale.dev"], false),
        (&["create", "pods", "--subresource=exec"], false),
        (&["get", "pods", "--subresource=proxy"], false),
        (&["get", "secrets"], false),
        (&["update", "configmaps"], false),
        (&["impersonate", "users"], false),
        (&[&["get", &secret], &here[..]].concat(), true),
        (&[&["patch", &secret], &here[..]].concat(), true),
        (&[&["delete", &secret], &here[..]].concat(), false),
        (&[&["get", "secrets/other"], &here[..]].concat(), false),
        // RBAC cannot name a Secret that is not there.
        (&[&["create", "secrets"], &here[..]].concat(), true),
        (&["create", "secrets"], false),
        (&["get", &secret], false),
        (&["patch", &own], true),
        (&["delete", &own], false),
        (&["patch", "validatingwebhookconfigurations/other"], false),
    ] {
        until(&format!("{question:?} to be allowed: {allowed}"), SOON, async || {
            let said = ctx.run(&[&["auth", "can-i", account.as_str()], question].concat()).await?;
            let answer = said.stdout.trim() == "yes";
            Ok(if answer == allowed {
                Attempt::Done(())
            } else {
                Attempt::NotYet(format!("{said:?}"))
            })
        })
        .await?;
    }
    // The right to make Secrets ends at its own.
    let make = |name: &str, kind: &str| {
        json!({
            "apiVersion": "v1", "kind": "Secret", "type": kind,
            "metadata": {
                "name": name, "namespace": NAMESPACE,
                "annotations": {"kubernetes.io/service-account.name": "default"},
            },
        })
    };
    for (name, kind) in [("other", "Opaque"), (SECRET, "kubernetes.io/service-account-token")] {
        let file = ctx.file("made.json", &make(name, kind))?;
        let create = ["create", account.as_str(), "--dry-run=server", "--filename", &file];
        let said = ctx.bed.kubectl(&create).await?;
        let refused = said.stderr.contains(&format!("may make the Secret {SECRET} and no other"));
        ensure!(said.code == Some(1) && refused, "{name} of type {kind}: {said:?}");
    }
    Ok(())
}
