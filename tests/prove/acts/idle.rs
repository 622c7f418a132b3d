//! An operator that does not act on the count (D1).

use std::time::Duration;

use anyhow::{Result, ensure};
use kube::ResourceExt as _;
use pgscale_tests::cluster::Cluster;
use pgscale_tests::operator::Settings;
use pgscale_tests::trial::TestCtx;

use super::screen::{Printed, Screen, Seen};
use super::{NAME, Staged};
use crate::document::Act;

/// The line after the write of the count.
const WRITTEN: &str = "numberOfInstances is ";
const LATE: &str = "the operator has not acted yet (the StatefulSet says 3)";
const MAKE_IT_ACT: &str = "make it act:";
/// The time after the write until an operator that does not act is reported, on a busy machine.
const REPORTED: Duration = Duration::from_secs(10);
/// The bounds of the time until the reasons and the command come.
const EXPLAINED: (Duration, Duration) = (Duration::from_secs(18), Duration::from_secs(35));

/// Reads the screen of a change on which the operator does not act, up to the command that makes it
/// act.
async fn explained(screen: &mut Screen) -> Result<()> {
    let Printed { at: written, .. } = screen.says(WRITTEN).await?;
    let late = screen.says(LATE).await?.at.saturating_sub(written);
    ensure!(late <= REPORTED, "the operator is reported after {late:?}");
    let stuck = screen.says(MAKE_IT_ACT).await?.at.saturating_sub(written);
    let (earliest, latest) = EXPLAINED;
    ensure!((earliest..=latest).contains(&stuck), "the reasons come after {stuck:?}");
    Ok(())
}

/// Returns the row of a change on which the operator did not act.
fn row(
    staged: &'static str,
    command: String,
    seen: &Seen,
    more: &[&str],
    end: String,
) -> Result<Act> {
    let mut said =
        seen.lines(&[LATE, "the operator may have dropped the update", "kubectl pgscale set"])?;
    said.extend(seen.lines(more)?);
    Ok(Act { case: "D1", staged, command, said, end })
}

/// The operator hangs: it sees nothing until it goes on.
pub(super) async fn hangs(ctx: TestCtx) -> Result<Vec<Act>> {
    let staged = Staged::of(ctx, 3).await?;
    let cluster = &staged.cluster;
    staged.freeze_operator().await;
    let up = format!("up {NAME} --to 4 --yes");
    let mut screen = Screen::start(cluster, &format!("{up} --timeout 40s"))?;
    explained(&mut screen).await?;
    let seen = screen.end().await?;
    ensure!(seen.code == Some(4), "{}", seen.text());
    seen.lines(&["make the operator act:", "or cancel the change:"])?;
    ensure!(cluster.replicas().await? == 3, "the operator acted");
    staged.thaw_operator().await;
    staged.done(&format!("{up} --timeout 4m")).await?;
    cluster.converged(4).await?;
    let end = "exit code 4 after 40 s; with the operator back, the same command ends with 0";
    let grown = row("the operator hangs", up, &seen, &[], end.to_owned())?;

    // The operator writes the status at its end, and the next change is refused until then.
    cluster.settled().await?;
    cluster.move_leader_to(0).await?;
    staged.freeze_operator().await;
    let down = format!("down {NAME} --to 3 --yes");
    let mut screen = Screen::start(cluster, &format!("{down} --timeout 4m"))?;
    screen.says(WRITTEN).await?;
    screen.says("the operator has not acted yet (the StatefulSet says 4)").await?;
    screen.says(MAKE_IT_ACT).await?;
    screen.never_said("stopping")?;
    ensure!(!ends(cluster, 3).await?, "the operator acted");
    staged.thaw_operator().await;
    // A pod may end between two looks.
    screen.says("acid-act-3: ").await?;
    ensure!(ends(cluster, 3).await?, "acid-act-3 is said to stop, and no deletion was asked for");
    let seen = screen.end().await?;
    ensure!(seen.code == Some(0), "{}", seen.text());
    cluster.converged(3).await?;
    let said =
        seen.lines(&["has not acted yet", MAKE_IT_ACT, "kubectl pgscale set", "acid-act-3: "])?;
    let end = format!("\"stopping\" only once the pod is being deleted; {}", seen.code());
    let staged = "the operator hangs, and goes on while the command waits";
    let shrunk = Act { case: "D1", staged, command: down, said, end };
    Ok(vec![grown, shrunk])
}

/// Returns whether the pod with `ordinal` is being deleted, or is gone.
async fn ends(cluster: &Cluster, ordinal: u32) -> Result<bool> {
    let name = cluster.pod_name(ordinal);
    let pods = cluster.pods().await?;
    let pod = pods.iter().find(|pod| pod.name_any() == name);
    Ok(pod.is_none_or(|pod| pod.metadata.deletion_timestamp.is_some()))
}

/// The StatefulSet has the count of before, and the operator runs and sees no reason to act, as
/// after an update that it dropped.
///
/// Operator 1.15 drops none: each update of a cluster synchronises the StatefulSet (`Update`,
/// pkg/cluster/cluster.go). Operator 2.0 does. So another writer sets the StatefulSet back here. The
/// operator's next synchronisation comes 30 minutes later.
pub(super) async fn asked_again(ctx: TestCtx) -> Result<Vec<Act>> {
    ctx.bed.operator().lock().await.start(&Settings::with_production_intervals()).await?;
    let staged = Staged::of(ctx, 4).await?;
    let cluster = &staged.cluster;
    cluster.move_leader_to(0).await?;
    cluster.kubectl(&["scale", "statefulset", NAME, "--replicas=3"]).await?.ok()?;
    cluster.converged(3).await?;
    ensure!(cluster.declared().await? == 4, "the declared count changed");
    let up = format!("up {NAME} --to 4 --yes");
    let seen = staged.done(&format!("{up} --timeout 4m")).await?;
    cluster.converged(4).await?;
    Ok(vec![Act {
        case: "D1",
        staged: "4 are declared, the StatefulSet says 3, and the operator, which runs, has nothing \
                 to do",
        command: up,
        said: seen.lines(&["the operator was asked again", "acid-act-3: in service"])?,
        end: seen.code(),
    }])
}
