//! The walk of the guide with `kubectl pgscale`: three members, five, three again, and proof of
//! each step.

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use kube::api::{Patch, PatchParams};
use pgscale_tests::cluster::{Cluster, quick};
use pgscale_tests::wait::{Attempt, until};
use serde_json::{Value, json};

use crate::cloning::SLOW;
use crate::guarding;
use crate::trial::{Case, TestCtx, case};

/// The limit for steps that need no base backup.
const SOON: Duration = Duration::from_secs(180);

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case("scale::every_step_from_3_to_5_and_back_is_verified", walk).beside_others(),
        case("scale::a_leader_on_the_highest_ordinal_is_moved_before_the_shrink", leader_goes)
            .beside_others(),
        case("scale::nothing_is_written_without_confirmation", declined),
        case("scale::another_writer_is_named", reverted),
    ]
}

async fn walk(ctx: TestCtx) -> Result<()> {
    let TestCtx { bed, namespace } = &ctx;
    guarding::guarded(&ctx).await?;
    let cluster = Cluster::create(bed, namespace, "acid-walk", 3, quick()).await?;
    let name = cluster.name.as_str();
    let leader = cluster.leader().await?.ordinal;
    cluster
        .sql(
            leader,
            "CREATE TABLE walk AS SELECT n, md5(n::text) AS sum FROM generate_series(1, 1000) n",
        )
        .await?;

    let said = cluster.pgscale(&["up", name, "--to", "5", "--timeout", "4m"]).await?;
    ensure!(said.stderr.contains("acid-walk-3: in service as replica"), "{said:?}");
    ensure!(said.stderr.contains("acid-walk-4: in service as replica"), "{said:?}");
    let said = said.ok()?;
    ensure!(said.starts_with("postgresql/acid-walk scaled from 3 to 5 instances"), "{said}");
    // The change has converged: nothing is left to wait for.
    let members = cluster.answering().await?;
    ensure!(members.iter().filter(|member| member.streams()).count() == 4, "{members:?}");

    cluster.sql(leader, "INSERT INTO walk VALUES (1001, 'new')").await?;
    let sum = "SELECT count(*), md5(string_agg(sum, ',' ORDER BY n)) FROM walk WHERE n <= 1000";
    let want = cluster.sql(leader, sum).await?;
    for ordinal in [3, 4] {
        ensure!(cluster.sql(ordinal, sum).await? == want, "the rows differ on {ordinal}");
        let new = "SELECT sum FROM walk WHERE n = 1001";
        until(&format!("the new row on {ordinal}"), SOON, async || {
            let row = cluster.sql(ordinal, new).await?;
            Ok(if row == "new" { Attempt::Done(()) } else { Attempt::NotYet(row) })
        })
        .await?;
    }
    for member in &members {
        let recovers = cluster.sql(member.ordinal, "SELECT pg_is_in_recovery()").await?;
        let want = if member.ordinal == leader { "f" } else { "t" };
        ensure!(recovers == want, "{} says pg_is_in_recovery() = {recovers}", member.pod);
    }
    services(&cluster, 5).await?;

    let status: Value =
        serde_json::from_str(&cluster.pgscale(&["status", name, "-o", "json"]).await?.ok()?)?;
    ensure!(status["kind"] == "ScaleStatus" && status["converged"] == true, "{status}");
    ensure!(status["members"].as_array().map(Vec::len) == Some(5), "{status}");

    let said =
        cluster.pgscale(&["down", name, "--to", "3", "--yes", "--timeout", "4m"]).await?.ok()?;
    ensure!(said.starts_with("postgresql/acid-walk scaled from 5 to 3 instances"), "{said}");
    let mut left: Vec<_> = cluster.members().await?.into_iter().map(|member| member.pod).collect();
    left.sort();
    ensure!(left == ["acid-walk-0", "acid-walk-1", "acid-walk-2"], "{left:?}");
    services(&cluster, 3).await?;

    let said = cluster.pgscale(&["set", name, "3"]).await?.ok()?;
    ensure!(said.contains("nothing to do"), "{said}");
    Ok(())
}

/// Checks that `<cluster>` leads to the leader and `<cluster>-repl` to all other members.
async fn services(cluster: &Cluster, members: usize) -> Result<()> {
    let leader = cluster.leader().await?.address.map(|address| address.to_string());
    let leader_service = cluster.endpoints(&cluster.name).await?;
    ensure!(
        leader_service == Vec::from_iter(leader.clone()),
        "the service leads to {leader_service:?}"
    );
    let replicas = cluster.endpoints(&format!("{}-repl", cluster.name)).await?;
    ensure!(
        replicas.len() == members - 1 && !replicas.iter().any(|ip| Some(ip) == leader.as_ref()),
        "the replica service leads to {replicas:?}, the leader is {leader:?}"
    );
    Ok(())
}

async fn leader_goes(ctx: TestCtx) -> Result<()> {
    let TestCtx { bed, namespace } = &ctx;
    guarding::guarded(&ctx).await?;
    let cluster = Cluster::create(bed, namespace, "acid-top", 3, quick()).await?;
    cluster.move_leader_to(2).await?;
    let name = cluster.name.as_str();

    let plan = cluster.pgscale(&["plan", name, "--to", "2", "-o", "json"]).await?.ok()?;
    let plan: Value = serde_json::from_str(&plan)?;
    ensure!(plan["outcome"] == "Ready" && plan["leaderMove"]["from"] == "acid-top-2", "{plan}");

    let said = cluster.pgscale(&["down", name, "--yes", "-o", "json", "--timeout", "4m"]).await?;
    let report: Value = serde_json::from_str(&said.clone().ok()?)?;
    ensure!(report["result"] == "Converged", "{said:?}");
    ensure!(report["leaderMoved"]["from"] == "acid-top-2", "{said:?}");
    ensure!(cluster.leader().await?.ordinal < 2, "the leader is among the removed");
    Ok(())
}

async fn declined(ctx: TestCtx) -> Result<()> {
    let TestCtx { bed, namespace } = &ctx;
    let cluster = Cluster::create(bed, namespace, "acid-ask", 2, quick()).await?;
    let name = cluster.name.as_str();
    let before = cluster.written().await?;
    // A test has no terminal at which a person could answer.
    for (args, hint) in [(vec!["down", name], "--yes"), (vec!["set", name, "1"], "--yes")] {
        let said = cluster.pgscale(&args).await?;
        ensure!(said.code == Some(7) && said.stderr.contains(hint), "{args:?}: {said:?}");
    }
    let said = cluster.pgscale(&["down", name, "--dry-run=client"]).await?.ok()?;
    ensure!(said.contains("(dry run)"), "{said}");
    let said = cluster.pgscale(&["up", name, "--dry-run=server"]).await?.ok()?;
    ensure!(said.contains("(server dry run)"), "{said}");
    let after = cluster.written().await?;
    ensure!(before == after, "the cluster was written: {before:?}, then {after:?}");
    Ok(())
}

/// Another writer keeps a manifest in force, as Argo CD does: server-side apply, again and again.
async fn reverted(ctx: TestCtx) -> Result<()> {
    const MANAGER: &str = "argocd-controller";
    let TestCtx { bed, namespace } = &ctx;
    let cluster = Cluster::create(bed, namespace, "acid-git", 1, quick()).await?;
    let name = cluster.name.as_str();
    let manifest = json!({
        "apiVersion": "acid.zalan.do/v1", "kind": "postgresql",
        "metadata": {"name": name}, "spec": {"numberOfInstances": 1},
    });
    let apply = async || {
        let params = PatchParams::apply(MANAGER).force();
        cluster.objects().patch(name, &params, &Patch::Apply(&manifest)).await
    };
    apply().await?;

    // The plan names the writer, for people and for programs.
    let plan = cluster.pgscale(&["plan", name, "--to", "2", "-o", "json"]).await?.ok()?;
    let plan: Value = serde_json::from_str(&plan)?;
    ensure!(plan["otherWriters"] == json!([MANAGER]), "{plan}");

    // A slow base backup keeps the change open until the manifest is applied again, on any machine.
    cluster.stage(1, SLOW).await?;
    let mut up = cluster.follow_pgscale(&["up", name, "--timeout", "4m"])?;
    let foreseen = format!("Also written by: {MANAGER}");
    for words in [foreseen.as_str(), "numberOfInstances is 2"] {
        if !up.says(|line| line.starts_with(words)).await? {
            bail!("{words:?} was not said: {:?}", up.end().await?);
        }
    }
    apply().await?;

    // The wait detects the writer, and does not report success.
    let said = up.end().await?;
    ensure!(said.code == Some(6) && said.stdout.is_empty(), "{said:?}");
    ensure!(said.stderr.contains(&format!("was set back to 1 by {MANAGER}")), "{said:?}");
    ensure!(cluster.declared().await? == 1, "the plugin wrote the count again: {said:?}");
    Ok(())
}
