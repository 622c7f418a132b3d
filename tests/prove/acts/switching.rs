//! A switchover in which the new leader (D4) or the candidate (D5) freezes.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use k8s_openapi::api::core::v1::Endpoints;
use kube::ResourceExt as _;
use kube::api::Api;
use pgscale_tests::cluster::{Cluster, TIMEOUT};
use pgscale_tests::proof::with_plugin::State;
use pgscale_tests::stage::Fault;
use pgscale_tests::trial::TestCtx;
use pgscale_tests::wait::{Attempt, until};

use super::screen::Screen;
use super::{NAME, SILENCE, Staged};
use crate::document::Act;

const SWITCHING: &str = "switching over from acid-act-3 to ";
/// The `--timeout` of a command, and the time that it may take to end after it.
const GIVEN: Duration = Duration::from_secs(60);
const SLACK: Duration = Duration::from_secs(10);

/// Returns the ordinal of the candidate in the line of a switchover.
fn candidate_of(line: &str) -> Result<u32> {
    let name = line.strip_prefix(SWITCHING).and_then(|rest| rest.split(' ').next());
    let ordinal = name.and_then(|name| name.strip_prefix("acid-act-")?.parse().ok());
    ordinal.with_context(|| format!("no candidate in {line:?}"))
}

/// Returns the holder of the leader lock.
async fn holder(cluster: &Cluster) -> Result<Option<String>> {
    let locks: Api<Endpoints> = Api::namespaced(cluster.bed().client(), &cluster.namespace);
    let lock = locks.get_opt(&cluster.name).await?;
    Ok(lock.and_then(|lock| lock.annotations().get("leader").cloned()))
}

/// The moment at which the new leader freezes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    /// As soon as it holds the lock, before it confirms that it leads.
    Lock,
    /// When the plugin has just confirmed that it leads.
    Leads,
}

/// The new leader's Patroni freezes after the switchover and before the end.
pub(super) async fn new_leader(ctx: TestCtx) -> Result<Vec<Act>> {
    let staged = Staged::of(ctx, 4).await?;
    let mut acts = Vec::new();
    for moment in [Moment::Lock, Moment::Leads] {
        acts.push(frozen(&staged, moment).await.with_context(|| format!("{moment:?}"))?);
    }
    Ok(acts)
}

async fn frozen(staged: &Staged, moment: Moment) -> Result<Act> {
    let cluster = &staged.cluster;
    cluster.move_leader_to(3).await?;
    cluster.settled().await?;
    cluster.reported().await?;
    let down = format!("down {NAME} --to 3 --yes");
    let mut screen = Screen::start(cluster, &format!("{down} --timeout {}s", GIVEN.as_secs()))?;
    let ordinal = candidate_of(&screen.says(SWITCHING).await?.line)?;
    let member = cluster.pod_name(ordinal);
    match moment {
        Moment::Lock => {
            until("the candidate to hold the lock", TIMEOUT, async || {
                let holder = holder(cluster).await?;
                let holds = holder.as_deref() == Some(member.as_str());
                Ok(if holds { Attempt::Done(()) } else { Attempt::NotYet(format!("{holder:?}")) })
            })
            .await?;
        }
        Moment::Leads => drop(screen.says(" leads (lock, label and Patroni agree)").await?),
    }
    cluster.stage(ordinal, Fault::FrozenPatroni).await?;
    let seen = screen.end().await?;
    ensure!(seen.code == Some(5), "{}", seen.text());
    ensure!(seen.took < GIVEN + SLACK, "it took {:?}:\n{}", seen.took, seen.text());
    ensure!(seen.silence() < SILENCE, "{:?} without a line:\n{}", seen.silence(), seen.text());
    ensure!(cluster.declared().await? == 4, "the count was written:\n{}", seen.text());
    let why = match moment {
        Moment::Lock => format!("{member} does not answer any more"),
        // Patroni of the frozen leader takes its label off no more, and another one leads by now.
        Moment::Leads => "pods of".to_owned(),
    };
    let status = "kubectl pgscale status acid-act --why";
    let said = seen.lines(&["still waiting after", "error: ", &why, status])?;
    cluster.unstage(ordinal, Fault::FrozenPatroni).await?;
    cluster.converged(4).await?;
    cluster.reported().await?;
    let again = staged.done(&format!("{down} --timeout 4m")).await?;
    cluster.converged(3).await?;
    let end = format!(
        "{} after {:.0} s, never more than {:.0} s without a line, nothing written; with {member} \
         back, the same command ends with {}",
        seen.code(),
        seen.took.as_secs_f64(),
        seen.silence().as_secs_f64(),
        again.code.unwrap_or_default(),
    );
    staged.done(&format!("up {NAME} --to 4 --yes --timeout 4m")).await?;
    let words = match moment {
        Moment::Lock => "the new leader freezes as soon as it holds the lock",
        Moment::Leads => "the new leader freezes once it leads, before the count is written",
    };
    Ok(Act { case: "D4", staged: words, command: down, said, end })
}

/// The candidate's Patroni freezes during the switchover.
pub(super) async fn candidate(ctx: TestCtx) -> Result<Vec<Act>> {
    let staged = Staged::of(ctx, 4).await?;
    let cluster = &staged.cluster;
    cluster.move_leader_to(3).await?;
    cluster.settled().await?;
    cluster.reported().await?;
    let before = State::of(cluster).await?;
    let down = format!("down {NAME} --to 3 --yes");
    let mut screen = Screen::start(cluster, &format!("{down} --timeout 2m"))?;
    let ordinal = candidate_of(&screen.says(SWITCHING).await?.line)?;
    let member = cluster.pod_name(ordinal);
    cluster.stage(ordinal, Fault::FrozenPatroni).await?;
    let seen = screen.end().await?;
    ensure!(seen.silence() < SILENCE, "{:?} without a line:\n{}", seen.silence(), seen.text());
    let after = State::of(cluster).await?;
    let (end, words) = match seen.code {
        // Patroni refuses the request, or gives up after it.
        Some(3) => {
            ensure!(after == before, "something changed: {before:?}, {after:?}\n{}", seen.text());
            let again = "run the same command again: it chooses the best member that is fit then";
            (
                "nothing was changed",
                [format!("{member} does not answer any more"), again.to_owned()],
            )
        }
        // Its leader has stepped down already, and another member takes over.
        Some(5) => {
            let counts = (before.declared, before.replicas);
            ensure!((after.declared, after.replicas) == counts, "{after:?}\n{}", seen.text());
            let lower = "when that is mended, lower the count:";
            ("numberOfInstances was not changed", [format!("{member}: does not"), lower.to_owned()])
        }
        _ => bail!("{}", seen.text()),
    };
    let [silent, next] = words;
    let status = "kubectl pgscale status acid-act --why";
    let said = seen.lines(&["error: ", &silent, status, &next])?;
    ensure!(seen.line("error: ")?.1.contains(end), "{}", seen.text());
    // The best member that is fit now is another one.
    let again = staged.run(&format!("{down} --timeout 4m")).await?;
    let moved = again.lines.iter().find(|printed| printed.line.contains(SWITCHING));
    let other = moved.map(|printed| candidate_of(&printed.line)).transpose()?;
    ensure!(other != Some(ordinal), "the frozen one is chosen again:\n{}", again.text());
    ensure!(again.code == Some(0), "{}", again.text());
    cluster.unstage(ordinal, Fault::FrozenPatroni).await?;
    cluster.converged(3).await?;
    let end = format!(
        "{}; {end}; the same command, run again while {member} is still frozen, ends with 0 and \
         another leader",
        seen.code()
    );
    let words = "the candidate freezes while Patroni switches over";
    Ok(vec![Act { case: "D5", staged: words, command: down, said, end }])
}
