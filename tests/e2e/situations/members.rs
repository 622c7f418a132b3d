//! Members that are not healthy, and leaders that are about to move or cannot move.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use pgscale_tests::cluster::TIMEOUT;
use pgscale_tests::patroni::TagValue;
use pgscale_tests::stage::Fault;
use pgscale_tests::wait::{Attempt, until};

use super::{MEMBERS, NAME, SharedCluster, situation};
use crate::guarding;
use crate::trial::Case;

const FEW: &str = "too-few-healthy-survivors";
const DRAINING: &str = "survivors-draining";

pub(super) fn cases() -> Vec<Case> {
    vec![
        situation("situations::a_frozen_member_is_not_counted_as_healthy", frozen),
        situation("situations::a_stalled_receiver_is_detected_once_rows_are_written", stalled),
        situation("situations::a_replica_that_replays_late_is_not_counted_as_healthy", delayed),
        situation("situations::a_tag_in_text_bars_a_member_as_patroni_reads_it", barred),
        situation("situations::a_kept_member_on_a_node_that_is_emptied_is_named", emptied),
        situation("situations::two_pods_labelled_master_block_a_shrink", two_masters),
        situation("situations::a_scheduled_switchover_blocks_a_shrink", scheduled),
        situation("situations::a_paused_cluster_shrinks_after_the_printed_switchover", paused),
    ]
}

async fn frozen(shared: SharedCluster) -> Result<()> {
    shared.cluster.stage(1, Fault::FrozenPatroni).await?;
    shared.refuses(2, FEW, &shared.pod(1)).await?;
    // Both replicas may be removed: the leader is kept and healthy.
    shared.admits(1).await?;
    shared.cluster.unstage(1, Fault::FrozenPatroni).await?;
    shared.admits(2).await
}

async fn stalled(shared: SharedCluster) -> Result<()> {
    shared.cluster.stage(1, Fault::StalledReceiver).await?;
    shared.cluster.sql(0, "CREATE TABLE unreceived AS SELECT 1").await?;
    shared.refuses(2, FEW, "WAL not received").await?;
    shared.cluster.unstage(1, Fault::StalledReceiver).await?;
    shared.cluster.sql(0, "DROP TABLE unreceived").await?;
    shared.admits(2).await
}

async fn delayed(shared: SharedCluster) -> Result<()> {
    shared.cluster.stage(1, Fault::PausedReplay).await?;
    shared.refuses(2, FEW, "replay is paused").await?;
    shared.cluster.unstage(1, Fault::PausedReplay).await?;

    shared.cluster.sql(1, "ALTER SYSTEM SET recovery_min_apply_delay = '1h'").await?;
    shared.cluster.sql(1, "SELECT pg_reload_conf()").await?;
    // The replay of the commit waits for an hour. The segments after it exceed the lag that Patroni
    // allows a candidate.
    for _ in 0..3 {
        shared.cluster.sql(0, "SELECT pg_logical_emit_message(true, 'late', 'row')").await?;
        shared.cluster.sql(0, "SELECT pg_switch_wal()").await?;
    }
    let late = |finding: &super::Finding| finding.mentions("WAL not replayed");
    shared.found(2, FEW, late).await?;
    shared.patch_refused(2, FEW, "WAL not replayed").await?;
    shared.cluster.sql(1, "ALTER SYSTEM RESET recovery_min_apply_delay").await?;
    shared.cluster.sql(1, "SELECT pg_reload_conf()").await?;
    shared.admits(2).await
}

/// Patroni takes any text for true, and a priority of zero for `nofailover`.
async fn barred(shared: SharedCluster) -> Result<()> {
    for (tag, text) in [("nofailover", "false"), ("failover_priority", "0")] {
        shared.cluster.stage(1, Fault::Tagged { tag, value: TagValue::Text(text) }).await?;
        shared.refuses(2, FEW, &shared.pod(1)).await.with_context(|| format!("{tag}: {text:?}"))?;
    }
    shared.bed.kubelet().unstage_all(&shared.cluster.namespace);
    shared.admits(2).await
}

async fn emptied(shared: SharedCluster) -> Result<()> {
    let at = "--output=jsonpath={.spec.nodeName}";
    let node = shared.kubectl(&["get", "pod", &shared.pod(1), at]).await?;
    shared.kubectl(&["cordon", &node]).await?;
    let seen = named_draining(&shared, &node).await;
    // Other tests need the node, also after a failure of this one.
    shared.kubectl(&["uncordon", &node]).await?;
    seen?;
    ensure!(shared.plan(2).await?.silent(DRAINING), "the node takes pods again");
    Ok(())
}

async fn named_draining(shared: &SharedCluster, node: &str) -> Result<()> {
    let finding = shared.found(2, DRAINING, |finding| finding.mentions(node)).await?;
    ensure!(finding.severity == "Warn" && finding.mentions(&shared.pod(1)), "{finding:?}");
    shared.admits(2).await?;
    // The member of that node is removed.
    ensure!(shared.plan(1).await?.silent(DRAINING), "-1 is not kept");
    Ok(())
}

/// Staged by writing the label: the Patroni of a frozen member does not correct it.
async fn two_masters(shared: SharedCluster) -> Result<()> {
    shared.cluster.stage(2, Fault::FrozenPatroni).await?;
    shared.kubectl(&["label", "pod", &shared.pod(2), "spilo-role=master", "--overwrite"]).await?;
    shared.refuses(2, "no-leader", &shared.pod(2)).await?;
    shared.cluster.unstage(2, Fault::FrozenPatroni).await?;
    shared.admits(2).await
}

async fn scheduled(shared: SharedCluster) -> Result<()> {
    let tomorrow = Timestamp::now() + SignedDuration::from_hours(24);
    let (leader, candidate) = (shared.pod(0), shared.pod(2));
    let ends = ["--leader", leader.as_str(), "--candidate", candidate.as_str()];
    let when = ["--scheduled", &tomorrow.to_string(), "--force"];
    shared.patronictl(&[&["switchover", NAME], &ends[..], &when[..]].concat()).await?;
    let finding = shared.refuses(2, "switchover-pending", &candidate).await?;
    let flush =
        format!("exec {leader} -n NS -c postgres -- patronictl flush {NAME} switchover --force");
    shared.run_remedy(finding.remedy()?, &flush, &[]).await?;
    shared.admits(2).await
}

async fn paused(shared: SharedCluster) -> Result<()> {
    let cluster = &shared.cluster;
    cluster.move_leader_to(2).await?;
    shared.bed.kubelet().pause(&cluster.namespace, NAME).await?;
    let said = shared.patch_refused(2, "leader-condemned", "paused").await?;
    // A pause does not forbid a move of the leader.
    shared.make_way(&said, 2).await?;

    let finding = shared.found(1, "paused", |_| true).await?;
    let resume = format!("exec {} -n NS -c postgres -- patronictl resume", shared.pod(0));

    // Growth is admitted with a warning: a paused Patroni starts no member.
    let grown = guarding::admitted(cluster, MEMBERS.into()).await?;
    ensure!(grown.stderr.contains("paused"), "there is no warning: {grown:?}");
    until("the new member to wait for the end of the pause", TIMEOUT, async || {
        let members = cluster.members().await?;
        let newest = members.iter().find(|member| member.ordinal == 2);
        let answer = newest.and_then(|member| member.answer.as_ref());
        Ok(match answer {
            Some(answer) if answer.pause && answer.state != "running" => Attempt::Done(()),
            _ => Attempt::NotYet(format!("{newest:?}")),
        })
    })
    .await?;
    shared.run_remedy(finding.remedy()?, &resume, &[]).await?;
    cluster.converged(MEMBERS).await?;
    Ok(())
}
