//! `kubectl pgscale down` on a stage: it shrinks the cluster and loses nothing, or it refuses and
//! changes nothing.
#![expect(
    clippy::indexing_slicing,
    reason = "a missing field of a report is null, which no check accepts"
)]

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::Outcome;
use crate::cluster::{Cluster, Member, TIMEOUT};
use crate::wait::{Attempt, until};
use crate::writer::Writer;
use crate::writing::{PAUSE, acknowledged, finish};

/// The number of rows that must be acknowledged afterwards: writes continue on the present leader.
const AFTER: usize = 100;

/// The expected answer to a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// The plan is refused with exit code 3. A count given here must be the nearest count that is
    /// allowed, and it must work.
    Refuses(Option<u32>),
    /// The count is lowered, after the leader was moved if necessary.
    Shrinks,
}

/// The state that a refusal leaves unchanged. It also shows that a change was made exactly once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// `metadata.generation`: rises by one with every write to the spec.
    pub generation: i64,
    /// `spec.numberOfInstances`.
    pub declared: i64,
    /// `spec.replicas` of the StatefulSet.
    pub replicas: i32,
    /// The ordinal of the leader.
    pub leader: u32,
    /// The leader's timeline: rises by one with every promotion.
    pub timeline: u32,
    /// The uids of the pods.
    pub pods: Vec<Option<String>>,
}

impl State {
    /// Reads the state of `cluster`.
    pub async fn of(cluster: &Cluster) -> Result<Self> {
        let leader = cluster.leader().await?;
        let timeline = Self::timeline(&leader)?;
        let pods = cluster.pods().await?;
        Ok(Self {
            generation: generation(cluster).await?,
            declared: cluster.declared().await?,
            replicas: cluster.replicas().await?,
            leader: leader.ordinal,
            timeline,
            pods: pods.into_iter().map(|pod| pod.metadata.uid).collect(),
        })
    }

    /// Returns the timeline of a leader, which rises by one with every promotion.
    pub fn timeline(leader: &Member) -> Result<u32> {
        let timeline = leader.answer.as_ref().and_then(|answer| answer.timeline);
        timeline.context("the leader reports no timeline")
    }
}

/// Returns how often the spec of the cluster was written.
pub async fn generation(cluster: &Cluster) -> Result<i64> {
    cluster.object().await?.metadata.generation.context("the object has no generation")
}

/// Scales the cluster to `to` instances while `writer` writes, or to the nearest count that is
/// allowed, and checks every promise.
pub async fn down(
    cluster: &Cluster,
    writer: Writer,
    to: u32,
    expected: Expected,
) -> Result<Outcome> {
    let before = State::of(cluster).await?;
    let what = match expected {
        Expected::Shrinks => shrinks(cluster, &before, to).await?,
        Expected::Refuses(alternative) => {
            let rules = refuses(cluster, &before, to, alternative).await?;
            match alternative {
                None => format!("refused by {rules}"),
                Some(count) => {
                    let instead = shrinks(cluster, &before, count).await?;
                    format!("refused by {rules}; `down --to {count}`: {instead}")
                }
            }
        }
    };
    acknowledged(&writer, AFTER).await?;
    let record = finish(writer).await?;
    ensure!(record.missing == 0, "acknowledged rows are lost: {what}: {record:?}");
    ensure!(record.longest_gap < PAUSE, "writes stopped for too long: {what}: {record:?}");
    Ok(Outcome { what, record })
}

/// Returns the report on stdout and the exit code.
async fn report(cluster: &Cluster, to: u32) -> Result<(Value, i32)> {
    let count = to.to_string();
    let args = ["down", &cluster.name, "--to", &count, "--yes", "-o", "json", "--timeout", "4m"];
    let said = cluster.pgscale(&args).await?;
    let code = said.code.context("a signal ended it")?;
    let report: Value = serde_json::from_str(&said.stdout)
        .with_context(|| format!("the report is no JSON: {said:?}"))?;
    ensure!(report["kind"] == "ScaleReport" && report["exitCode"] == code, "{said:?}");
    Ok((report, code))
}

/// Returns the report as soon as it is `expected` or no refusal.
///
/// A refusal changes nothing. An unexpected one may come from a member that answered too late on a
/// busy machine, so the command runs again.
async fn settled_report(
    cluster: &Cluster,
    before: &State,
    to: u32,
    expected: impl Fn(&Value) -> bool,
) -> Result<(Value, i32)> {
    until("the expected report", TIMEOUT, async || {
        let (report, code) = report(cluster, to).await?;
        if code != 3 {
            return Ok(Attempt::Done((report, code)));
        }
        ensure!(report["result"] == "Refused" && report["leaderMoved"].is_null(), "{report}");
        let after = State::of(cluster).await?;
        ensure!(after == *before, "refused, and changed: {before:?}, then {after:?}");
        Ok(if expected(&report) {
            Attempt::Done((report, code))
        } else {
            Attempt::NotYet(report.to_string())
        })
    })
    .await
}

/// Checks that the plan is refused and nothing changes, and returns the rules that deny.
async fn refuses(
    cluster: &Cluster,
    before: &State,
    to: u32,
    alternative: Option<u32>,
) -> Result<String> {
    let names_it = |report: &Value| {
        let named = report["plan"]["alternative"].as_u64();
        alternative.is_none_or(|count| named == Some(count.into()))
    };
    let (report, code) = settled_report(cluster, before, to, names_it).await?;
    ensure!(code == 3, "expected a refusal: {report}");
    denied(&report)
}

/// Runs a change that must be refused, such as `set NAME 0`, and returns the rules that deny it.
///
/// # Errors
/// Fails when it is not refused, or changes something.
pub async fn refused(cluster: &Cluster, args: &[&str]) -> Result<String> {
    let before = generation(cluster).await?;
    let said =
        cluster.pgscale(&[args, &["--yes", "-o", "json", "--timeout", "4m"]].concat()).await?;
    ensure!(said.code == Some(3), "expected a refusal: {said:?}");
    ensure!(generation(cluster).await? == before, "refused, and changed: {said:?}");
    let report: Value = serde_json::from_str(&said.stdout)
        .with_context(|| format!("the report is no JSON: {said:?}"))?;
    Ok(format!("refused by {}", denied(&report)?))
}

/// Returns the rules that deny in a report.
fn denied(report: &Value) -> Result<String> {
    let findings = report["plan"]["findings"].as_array().context("the plan has no findings")?;
    let denials = findings.iter().filter(|finding| finding["severity"] == "Deny");
    let rules: Vec<&str> = denials.filter_map(|denial| denial["rule"].as_str()).collect();
    ensure!(!rules.is_empty(), "no rule says why: {report}");
    Ok(rules.join(", "))
}

/// Checks that the cluster shrinks by one write and at most one move of the leader, and describes
/// how.
async fn shrinks(cluster: &Cluster, before: &State, to: u32) -> Result<String> {
    let (report, code) = settled_report(cluster, before, to, |_| false).await?;
    ensure!(code == 0 && report["result"] == "Converged", "expected a shrink: {report}");
    ensure!(report["missing"] == json!([]), "{report}");
    shrunk(before, &State::of(cluster).await?, to, &report)
}

fn shrunk(before: &State, after: &State, to: u32, report: &Value) -> Result<String> {
    ensure!(
        after.declared == i64::from(to) && i64::from(after.replicas) == i64::from(to),
        "{after:?}"
    );
    ensure!(after.generation == before.generation + 1, "written more than once: {after:?}");
    ensure!(after.leader < to, "{after:?}");
    if before.leader < to {
        ensure!(report["leaderMoved"].is_null() && after.leader == before.leader, "{report}");
        ensure!(after.timeline == before.timeline, "{before:?}, then {after:?}");
        return Ok(format!("shrinks; -{} stays the leader", after.leader));
    }
    let moved = &report["leaderMoved"];
    let named = |end: &str, ordinal: u32| {
        moved[end].as_str().is_some_and(|pod| pod.ends_with(&format!("-{ordinal}")))
    };
    ensure!(named("from", before.leader) && named("to", after.leader), "{report}");
    // The program measures the pause too, but from outside: it may have looked too late.
    ensure!(moved["pauseSeconds"].as_f64().is_none_or(|pause| pause > 0.0), "{report}");
    ensure!(
        after.timeline == before.timeline + 1,
        "moved more than once: {before:?}, then {after:?}"
    );
    Ok(format!("moves the leader to -{}, then shrinks", after.leader))
}
