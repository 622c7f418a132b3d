//! `kubectl pgscale verify`: the answers of all members, and a message that every replica must
//! replay.

use anyhow::{Result, ensure};
use pgscale_tests::cluster::{Cluster, TIMEOUT, quick};
use pgscale_tests::stage::Fault;
use pgscale_tests::wait::{Attempt, until};
use serde_json::Value;

use crate::trial::{Case, TestCtx, case};

pub(crate) fn cases() -> Vec<Case> {
    vec![case("verify::every_member_answers_and_replays_the_canary", verify).beside_others()]
}

async fn verify(ctx: TestCtx) -> Result<()> {
    let TestCtx { bed, namespace } = &ctx;
    let cluster = Cluster::create(bed, namespace, "acid-proof", 3, quick()).await?;
    let name = cluster.name.as_str();
    // `verify` looks once, and the members of a new cluster answer before the labels and Services
    // are right.
    cluster.pgscale(&["wait", name, "--timeout", "4m"]).await?.ok()?;
    let leader = cluster.leader().await?;
    let all = ["verify", name, "--sql", "--canary", "-o", "json"];
    let said = until("every member to answer in time", TIMEOUT, async || {
        let said = cluster.pgscale(&all).await?;
        Ok(if said.code == Some(0) {
            Attempt::Done(said)
        } else {
            Attempt::NotYet(format!("{said:?}"))
        })
    })
    .await?;
    let said: Value = serde_json::from_str(&said.stdout)?;
    ensure!(said["kind"] == "ScaleVerification" && said["verified"] == true, "{said}");
    let identifier =
        cluster.sql(leader.ordinal, "SELECT system_identifier FROM pg_control_system()").await?;
    let members = said["members"].as_array().map(Vec::as_slice).unwrap_or_default();
    ensure!(members.len() == 3, "{said}");
    for member in members {
        let leads = member["name"] == leader.pod.as_str();
        ensure!(member["inRecovery"] == !leads, "{member}");
        ensure!(member["systemIdentifier"] == identifier.as_str(), "{member}");
        if !leads {
            let slot = member["name"].as_str().unwrap_or_default().replace('-', "_");
            ensure!(member["slot"] == slot.as_str(), "{member}");
            let address = leader.address.map(|address| address.to_string());
            ensure!(member["sender"].as_str() == address.as_deref(), "{member}");
        }
    }
    let replayed = said["canary"]["replayedSeconds"].as_object();
    ensure!(
        replayed.is_some_and(|standbys| {
            standbys.len() == 2 && standbys.values().all(Value::is_number)
        }),
        "{said}"
    );

    let stalled = cluster.pod_name(if leader.ordinal == 2 { 1 } else { 2 });
    bed.kubelet().stage(namespace, &stalled, Fault::StalledReceiver).await?;
    let late = ["verify", name, "--canary", "--timeout", "3s"];
    let said = cluster.pgscale(&late).await?;
    // The canary makes the stall visible, and Patroni's answer may show it already.
    ensure!(matches!(said.code, Some(4 | 5)), "{said:?}");
    ensure!(said.stdout.contains(&format!("{stalled}: not replayed in time")), "{said:?}");
    bed.kubelet().unstage(namespace, &stalled, Fault::StalledReceiver).await
}
