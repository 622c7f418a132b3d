//! The memory of the webhook at rest, alone and beside many objects that it is not asked about.

use std::time::Duration;

use anyhow::{Context as _, Result};
use hyper::Method;
use pgscale_tests::progress::Step;
use serde_json::json;
use tokio::time::sleep;

use super::{Extent, Found};
use crate::clusters::{all, every};
use crate::https::Call;
use crate::load::closed_loop;
use crate::meter::memory as of_process;
use crate::report::{Line, Target, Unit};
use crate::rig::{Column, Rig, namespace, policies};
use crate::shots::Kind;

const NAMESPACES: usize = 1000;
/// The clusters of each namespace.
const CLUSTERS: usize = 10;
/// The time after the last review, in which it gives back what it does not need.
const REST: Duration = Duration::from_secs(2);
/// The time of reviews before each look.
const BUSY: Duration = Duration::from_millis(500);

/// Measures the memory after a start and some reviews, before and after many objects are made.
pub(super) async fn memory(rig: &Rig, extent: Extent) -> Result<Found> {
    let repeats = extent.repeats;
    let (mut idle, mut idle_peak) = (Vec::new(), Vec::new());
    for _ in 0..repeats {
        let (resident, peak) = at_rest(rig).await?;
        idle.push(resident);
        idle_peak.push(peak);
    }
    let namespaces = extent.number(NAMESPACES);
    let step = Step::begin(format!("making {namespaces} namespaces with {CLUSTERS} clusters each"));
    many(rig, namespaces).await?;
    step.done();
    let (mut beside, mut beside_peak) = (Vec::new(), Vec::new());
    for _ in 0..repeats {
        let (resident, peak) = at_rest(rig).await?;
        beside.push(resident);
        beside_peak.push(peak);
    }
    let more = beside.iter().zip(&idle).map(|(beside, idle)| beside - idle).collect();
    let row = format!(
        "beside {} clusters, {namespaces} namespaces and {namespaces} policies",
        namespaces * CLUSTERS
    );
    let lines = vec![
        Line::of("at rest", "memory", Unit::MiB, Target::AtMost(20.0), idle),
        Line::of("at rest", "most memory since the start", Unit::MiB, Target::None, idle_peak),
        Line::of(&row, "more than at rest", Unit::MiB, Target::AtMost(2.0), more),
        Line::of(&row, "memory", Unit::MiB, Target::None, beside),
        Line::of(&row, "most memory since the start", Unit::MiB, Target::None, beside_peak),
    ];
    Ok(Found { lines, notes: Vec::new() })
}

/// Starts the webhook, lets it judge a little, and returns its memory and the most that it had.
async fn at_rest(rig: &Rig) -> Result<(f64, f64)> {
    rig.webhook.stop().await?;
    rig.webhook.run().await?;
    let target = rig.straight(Column::Ours).await?;
    for kind in [Kind::AboveMax, Kind::Growth, Kind::Shrink] {
        let shots = rig.reviews(Column::Ours, kind).await?;
        let outcome = closed_loop(&target, &shots, 1, BUSY).await?;
        anyhow::ensure!(outcome.right > 0, "no right answer: {:?}", outcome.examples);
    }
    sleep(REST).await;
    let memory = of_process(rig.process(Column::Ours).await?)?;
    Ok((memory.resident, memory.peak))
}

/// Makes namespaces with clusters and a policy each.
async fn many(rig: &Rig, namespaces: usize) -> Result<()> {
    let names: Vec<_> = (0..namespaces).map(|index| format!("many-{index}")).collect();
    let api = rig.https();
    let calls =
        names.iter().map(|name| Call::json(Method::POST, "/api/v1/namespaces", &namespace(name)));
    every(api, calls.collect()).await.context("failed to make namespaces")?;
    let mut calls = Vec::new();
    for name in &names {
        let bounds = json!({
            "apiVersion": "pgscale.dev/v1alpha1", "kind": "ScalePolicy",
            "metadata": {"name": "bounds"}, "spec": {"instances": {"min": 1, "max": 7}},
        });
        calls.push(Call::json(Method::POST, policies(name), &bounds));
        calls.extend((0..CLUSTERS).map(|index| {
            let cluster = json!({
                "apiVersion": "acid.zalan.do/v1", "kind": "postgresql",
                "metadata": {"name": format!("acid-{index}")},
                "spec": {
                    "teamId": "acid", "numberOfInstances": 2,
                    "postgresql": {"version": "17"}, "volume": {"size": "1Gi"},
                },
            });
            Call::json(Method::POST, all(name), &cluster)
        }));
    }
    every(api, calls).await.context("failed to make clusters")
}
