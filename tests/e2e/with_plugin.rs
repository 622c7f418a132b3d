//! `kubectl pgscale down` on a stage: it shrinks and nothing is lost, or it refuses and nothing has changed.

use anyhow::{Context as _, Result, ensure};
use pgscale_tests::cluster::{Cluster, TIMEOUT};
use pgscale_tests::wait::{Attempt, until};
use pgscale_tests::writer::Writer;
use serde_json::{Value, json};

use crate::table::Outcome;
use crate::writing::{PAUSE, acknowledged, finish};

/// Rows that must be acknowledged after it is over: writes go on, whoever leads now.
const AFTER: usize = 100;

/// What it does with a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expected {
    /// The plan is refused, exit code 3. The count that it says would be allowed, if one is given here, is.
    Refuses(Option<u32>),
    /// The count is lowered, after the leader has moved where it must.
    Shrinks,
}

/// What must not change when a plan is refused, and what tells that it was done once when it is not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct State {
    /// `metadata.generation`: rises by one with every write to the spec.
    pub(crate) generation: i64,
    /// `spec.numberOfInstances`.
    pub(crate) declared: i64,
    /// `spec.replicas` of the StatefulSet.
    pub(crate) replicas: i32,
    /// Who leads.
    pub(crate) leader: u32,
    /// The leader's timeline: rises by one whenever somebody is promoted.
    pub(crate) timeline: u32,
    /// The pods.
    pub(crate) pods: Vec<Option<String>>,
}

impl State {
    /// The state of `cluster` now.
    pub(crate) async fn of(cluster: &Cluster) -> Result<Self> {
        let leader = cluster.leader().await?;
        let timeline = leader.answer.and_then(|answer| answer.timeline);
        let pods = cluster.pods().await?;
        Ok(Self {
            generation: generation(cluster).await?,
            declared: cluster.declared().await?,
            replicas: cluster.replicas().await?,
            leader: leader.ordinal,
            timeline: timeline.context("the leader tells no timeline")?,
            pods: pods.into_iter().map(|pod| pod.metadata.uid).collect(),
        })
    }
}

/// How often the spec of the cluster was written.
pub(crate) async fn generation(cluster: &Cluster) -> Result<i64> {
    cluster.object().await?.metadata.generation.context("the object has no generation")
}

/// Takes the cluster to `to` instances while `writer` writes, or as near to it as is allowed, and checks all that is
/// promised.
pub(crate) async fn down(
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

/// What the program says on stdout, and how it ends.
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

/// The report, as soon as it is `expected` or no refusal. A refusal changes nothing; one that is not expected may come
/// of a member that answered too late on a busy machine, and is asked for again.
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

/// It refuses and changes nothing; the rules that say no.
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
    let findings = report["plan"]["findings"].as_array().context("the plan has no findings")?;
    let denials = findings.iter().filter(|finding| finding["severity"] == "Deny");
    let rules: Vec<&str> = denials.filter_map(|denial| denial["rule"].as_str()).collect();
    ensure!(!rules.is_empty(), "no rule says why: {report}");
    Ok(rules.join(", "))
}

/// It shrinks, by one write and at most one move of the leader; how, in words.
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
        return Ok(format!("shrinks; -{} leads on", after.leader));
    }
    let moved = &report["leaderMoved"];
    let named = |end: &str, ordinal: u32| {
        moved[end].as_str().is_some_and(|pod| pod.ends_with(&format!("-{ordinal}")))
    };
    ensure!(named("from", before.leader) && named("to", after.leader), "{report}");
    // The program measures it, too, but from outside: it may have looked too late.
    ensure!(moved["pauseSeconds"].as_f64().is_none_or(|pause| pause > 0.0), "{report}");
    ensure!(
        after.timeline == before.timeline + 1,
        "moved more than once: {before:?}, then {after:?}"
    );
    Ok(format!("moves the leader to -{}, then shrinks", after.leader))
}
