//! `kubectl pgscale verify`: the answers of all members, and a message that every replica must
//! replay.

use anyhow::{Context as _, Result, ensure};
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

    reads(&cluster, leader.ordinal).await?;

    let stalled = cluster.pod_name(if leader.ordinal == 2 { 1 } else { 2 });
    bed.kubelet().stage(namespace, &stalled, Fault::StalledReceiver).await?;
    let late = ["verify", name, "--canary", "--timeout", "3s"];
    let said = cluster.pgscale(&late).await?;
    // The canary makes the stall visible, and Patroni's answer may show it already.
    ensure!(matches!(said.code, Some(4 | 5)), "{said:?}");
    ensure!(said.stdout.contains(&format!("{stalled}: not replayed in time")), "{said:?}");
    bed.kubelet().unstage(namespace, &stalled, Fault::StalledReceiver).await
}

/// Reads a table on the leader and on a replica, and sees both in `status --sql`, each on its member.
async fn reads(cluster: &Cluster, leader: u32) -> Result<()> {
    let replica = if leader == 2 { 1 } else { 2 };
    let rows = "CREATE TABLE read_often AS SELECT generate_series(1, 5000) AS id";
    cluster.sql(leader, rows).await?;
    let statement = ["status", cluster.name.as_str(), "--sql", "--tables", "3", "-o", "json"];
    // The table arrives on the replica, and its scans in the statistics, some time later.
    let said = until("the scans of both members to be counted", TIMEOUT, async || {
        let scan = "SELECT count(*) FROM read_often";
        if cluster.sql(replica, scan).await.is_err() {
            return Ok(Attempt::NotYet("the table is not on the replica yet".to_owned()));
        }
        cluster.sql(leader, scan).await?;
        let said: Value = serde_json::from_str(&cluster.pgscale(&statement).await?.ok()?)?;
        let counted = [leader, replica].iter().all(|ordinal| {
            of_member(&said, &cluster.pod_name(*ordinal)).is_some_and(|member| {
                let tables = member["tables"].as_array().map(Vec::as_slice).unwrap_or_default();
                let table = tables.iter().find(|table| table["name"] == "read_often");
                table.is_some_and(|table| {
                    table["seqScan"].as_u64() >= Some(1)
                        && table["seqTupRead"].as_u64() >= Some(5000)
                        && table["idxScan"].is_null()
                })
            })
        });
        Ok(if counted { Attempt::Done(said) } else { Attempt::NotYet(said["reads"].to_string()) })
    })
    .await?;
    let all = said["reads"].as_array().map(Vec::as_slice).unwrap_or_default();
    ensure!(all.len() == 3, "{said}");
    for member in all {
        let ratio = member["cacheHitRatio"].as_f64();
        ensure!(ratio.is_some_and(|ratio| (0.0..=1.0).contains(&ratio)), "{member}");
        ensure!(member["rowsReturnedPerSecond"].is_number(), "{member}");
        ensure!(member["walBytesPerSecond"].is_number(), "{member}");
    }
    let led = of_member(&said, &cluster.pod_name(leader)).context("the leader is not listed")?;
    let replicas = led["replicas"].as_array().map(Vec::as_slice).unwrap_or_default();
    ensure!(replicas.len() == 2, "{led}");
    for replica in replicas {
        ensure!(replica["replayLagBytes"].is_u64(), "{replica}");
    }
    let slots = led["slots"].as_array().map(Vec::as_slice).unwrap_or_default();
    // Patroni drops every slot that it does not know, so the one to be found is a replica's.
    let own = cluster.pod_name(replica).replace('-', "_");
    let slot = slots.iter().find(|slot| slot["name"] == own.as_str());
    let slot = slot.with_context(|| format!("no slot {own} in {led}"))?;
    ensure!(slot["active"] == true && slot["heldBytes"].is_u64(), "{slot}");

    // The bed serves no metrics.k8s.io: that is said, and hides nothing else.
    let top = cluster.pgscale(&["top", "--sql"]).await?;
    ensure!(top.code == Some(0), "{top:?}");
    ensure!(top.stdout.contains(&cluster.name), "{top:?}");
    ensure!(top.stderr.contains("metrics.k8s.io is not served"), "{top:?}");
    Ok(())
}

/// Returns the reads of a member in a status.
fn of_member<'a>(status: &'a Value, name: &str) -> Option<&'a Value> {
    status["reads"].as_array()?.iter().find(|member| member["member"] == name)
}
