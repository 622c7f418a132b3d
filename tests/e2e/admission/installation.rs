//! The webhook as its chart installs it: its certificates, its permissions, and the data that
//! outlives an upgrade.

use anyhow::{Context as _, Result, ensure};
use pgscale_tests::wait::{Attempt, until};
use pgscale_tests::webhook::{ACCOUNT, NAMESPACE, REGISTRATION, SECRET, install};
use serde_json::{Value, json};

use super::{Idle as _, SOON, ensure_refused, to};
use crate::guarding::guarded;
use crate::trial::{Case, TestCtx, case};

pub(super) fn cases() -> Vec<Case> {
    vec![
        case("admission::certificates_are_replaced_while_the_webhook_serves", certificate),
        case("admission::a_chart_upgrade_keeps_the_secret_and_the_authority", upgrade),
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
    let reaches = async |line: &str, wanted: u64| {
        until(&format!("{line} to reach {wanted}"), SOON, async || {
            let seen = counted(line).await?;
            Ok(if seen >= wanted { Attempt::Done(()) } else { Attempt::NotYet(seen.to_string()) })
        })
        .await
    };
    let (ok, failed) = (
        "pgscale_certificate_reloads_total{result=\"ok\"}",
        "pgscale_certificate_reloads_total{result=\"failed\"}",
    );
    let (before_ok, before_failed) = (counted(ok).await?, counted(failed).await?);
    let forget = async |keys: &[&str]| {
        let forgotten = keys.iter().map(|key| ((*key).to_owned(), Value::Null));
        let patch = json!({"data": Value::Object(forgotten.collect())}).to_string();
        let secret = ["patch", "secret", SECRET, "--namespace", NAMESPACE, "--type=merge", "-p"];
        ctx.bed.kubectl(&[&secret[..], &[&patch]].concat()).await?.ok()
    };
    let authorities = webhook.kept("ca.crt").await?;
    forget(&["tls.crt"]).await?;
    reaches(ok, before_ok + 1).await?;
    ensure!(
        webhook.kept("ca.crt").await? == authorities,
        "the authority was replaced with the certificate"
    );
    for _ in 0..3 {
        ensure_refused("after a renewal", &ctx.patch(&to(9)).await?, "above-max")?;
    }

    // A person applies the registration as Helm rendered it, by force.
    let wipe = json!([{"op": "remove", "path": "/webhooks/0/clientConfig/caBundle"}]).to_string();
    let kind = "validatingwebhookconfiguration";
    ctx.run(&["patch", kind, REGISTRATION, "--type=json", "-p", &wipe]).await?.ok()?;
    let bundle = "--output=jsonpath={.webhooks[0].clientConfig.caBundle}";
    until("the authority to be published again", SOON, async || {
        let found = ctx.run(&["get", kind, REGISTRATION, bundle]).await?.ok()?;
        Ok(if found.is_empty() { Attempt::NotYet("empty".into()) } else { Attempt::Done(()) })
    })
    .await?;

    forget(&["ca.crt", "ca.key", "tls.crt", "tls.key"]).await?;
    reaches(ok, before_ok + 2).await?;
    ensure!(
        webhook.kept("ca.crt").await? != authorities,
        "no new authority was made after the loss of the old one"
    );
    until("the new authority to be in force", SOON, async || {
        let said = ctx.patch(&to(1)).await?;
        Ok(match ensure_refused("under a new authority", &said, "below-min") {
            Ok(()) => Attempt::Done(()),
            Err(error) => Attempt::NotYet(format!("{error:#}")),
        })
    })
    .await?;
    ensure!(counted(failed).await? == before_failed, "a round failed");
    Ok(())
}

/// Checks that an upgrade keeps the Secret's contents and the published authority: neither is in
/// the chart.
async fn upgrade(ctx: TestCtx) -> Result<()> {
    let webhook = ctx.set().await?;
    let kept = webhook.kept("tls.key").await?;
    let notes = install(&ctx.bed)?;
    for part in ["STATUS: deployed", "pgscale guards", "in the namespaces you selected"] {
        ensure!(notes.contains(part), "{part:?} is not in {notes}");
    }
    ensure!(webhook.kept("tls.key").await? == kept, "the Secret was changed");
    let bundle = "--output=jsonpath={.webhooks[*].clientConfig.caBundle}";
    let bundles =
        ctx.run(&["get", "validatingwebhookconfiguration", REGISTRATION, bundle]).await?.ok()?;
    ensure!(bundles.split_whitespace().count() == 4, "an entry lost its authority: {bundles}");
    ensure_refused("after an upgrade", &ctx.patch(&to(9)).await?, "above-max")
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
        (&["patch", "postgresqls.acid.zalan.do"], false),
        (&["create", "pods", "--subresource=exec"], false),
        (&["get", "pods", "--subresource=proxy"], false),
        (&["get", "secrets"], false),
        (&["update", "configmaps"], false),
        (&["impersonate", "users"], false),
        (&[&["get", &secret], &here[..]].concat(), true),
        (&[&["patch", &secret], &here[..]].concat(), true),
        (&[&["delete", &secret], &here[..]].concat(), false),
        (&[&["get", "secrets/other"], &here[..]].concat(), false),
        (&[&["create", "secrets"], &here[..]].concat(), false),
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
    Ok(())
}
