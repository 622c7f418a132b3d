//! The history, `undo`, and one command for several clusters.

use anyhow::{Context as _, Result, ensure};
use pgscale_tests::cluster::{Cluster, TIMEOUT, quick};
use pgscale_tests::wait::{Attempt, until};
use serde_json::Value;

use crate::trial::{Case, TestCtx, case};

pub(crate) fn cases() -> Vec<Case> {
    [
        case("history::a_change_is_recorded_and_can_be_undone", undone),
        case("history::a_batch_asks_once_and_prints_one_table", batch),
    ]
    .map(Case::beside_others)
    .into()
}

async fn undone(ctx: TestCtx) -> Result<()> {
    let TestCtx { bed, namespace } = &ctx;
    let cluster = Cluster::create(bed, namespace, "acid-past", 2, quick()).await?;
    let name = cluster.name.as_str();
    cluster.move_leader_to(1).await?;
    let before = cluster.object().await?;
    let down = ["down", name, "--yes", "--reason", "saving money", "--timeout", "4m", "-o", "json"];
    let report: Value = serde_json::from_str(&cluster.pgscale(&down).await?.ok()?)?;
    ensure!(report["record"]["result"] == "Converged", "{report}");

    // kubectl alone shows the history, and nothing is written to the cluster object.
    let map = cluster.kubectl(&["get", "configmap", "pgscale-history-acid-past", "-o", "json"]);
    let map: Value = serde_json::from_str(&map.await?.ok()?)?;
    let changes = map["data"]["changes"].as_str().context("no changes are kept")?;
    let entry: Value = serde_json::from_str(changes.lines().next().unwrap_or_default())?;
    ensure!(entry == report["record"], "kept: {entry}, reported: {}", report["record"]);
    ensure!(entry["reason"] == "saving money" && entry["leaderTo"] == "acid-past-0", "{entry}");
    ensure!(entry["who"].as_str().is_some_and(|who| !who.is_empty()), "{entry}");
    // The pause is measured from outside, and only where the plugin looked in time.
    let pause = &entry["pauseSeconds"];
    ensure!(pause.is_number() || pause.is_null(), "{entry}");
    let events = cluster.kubectl(&["get", "events"]).await?.ok()?;
    ensure!(events.contains("numberOfInstances 2 -> 1"), "{events}");
    let after = cluster.object().await?;
    ensure!(before.metadata.annotations == after.metadata.annotations, "{after:?}");

    let undo = cluster.pgscale(&["undo", name, "--timeout", "4m"]).await?;
    ensure!(undo.clone().ok()?.contains("scaled from 1 to 2 instances"), "{undo:?}");
    let history = cluster.pgscale(&["history", name, "-o", "json"]).await?.ok()?;
    let history: Value = serde_json::from_str(&history)?;
    ensure!(history["items"][0]["undoes"] == entry["id"], "{history}");
    // The change disturbed nothing of Patroni or the operator: the cluster is verified as soon as
    // every member answers in time.
    until("the cluster to be verified", TIMEOUT, async || {
        let said = cluster.pgscale(&["verify", name, "--sql"]).await?;
        Ok(if said.code == Some(0) {
            Attempt::Done(())
        } else {
            Attempt::NotYet(format!("{said:?}"))
        })
    })
    .await
}

async fn batch(ctx: TestCtx) -> Result<()> {
    let TestCtx { bed, namespace } = &ctx;
    let one = Cluster::create(bed, namespace, "acid-one", 1, quick()).await?;
    let two = Cluster::create(bed, namespace, "acid-two", 1, quick()).await?;
    let up = ["up", "-l", "team=acid", "--max-parallel", "2", "--yes", "--timeout", "4m"];
    let none = one.pgscale(&up).await?;
    ensure!(
        none.code == Some(1) && none.stderr.contains("no postgresql clusters found"),
        "{none:?}"
    );
    for cluster in [&one, &two] {
        cluster.kubectl(&["label", "postgresql", &cluster.name, "team=acid"]).await?.ok()?;
    }
    for unconfirmed in [&["up", "-l", "team=acid"][..], &["up", "-A", "--yes"]] {
        let said = one.pgscale(unconfirmed).await?;
        let (code, named) =
            if unconfirmed.contains(&"-A") { (2, "-l LABELS") } else { (7, "--yes") };
        ensure!(
            said.code == Some(code) && said.stderr.contains(named),
            "{unconfirmed:?}: {said:?}"
        );
        ensure!(one.declared().await? == 1, "{unconfirmed:?} was written");
    }
    let said = one.pgscale(&up).await?;
    let table = said.clone().ok()?;
    for cluster in [&one, &two] {
        ensure!(
            table.lines().any(|line| {
                line.contains(cluster.name.as_str()) && line.contains("1 -> 2   Converged")
            }),
            "{said:?}"
        );
        ensure!(cluster.declared().await? == 2, "{} was not written", cluster.name);
    }
    let down = ["down", "-l", "team=acid", "--stop-on-error"];
    let said = one.pgscale(&down).await?;
    ensure!(said.code == Some(7) && said.stderr.contains("--yes"), "{said:?}");
    ensure!(
        one.declared().await? == 2 && two.declared().await? == 2,
        "written without confirmation"
    );
    Ok(())
}
