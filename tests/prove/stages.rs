//! The stages of the end-to-end tests, with the operator alone beside `kubectl pgscale`.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use pgscale_tests::cluster::Cluster;
use pgscale_tests::guarding;
use pgscale_tests::operator::{Reach, Settings};
use pgscale_tests::progress::say;
use pgscale_tests::proof::admission::{annotate, stop_annotating};
use pgscale_tests::proof::answered;
use pgscale_tests::proof::stages::{self, STAGES, Stage, WARM};
use pgscale_tests::trial::{Case, TestCtx, case};
use pgscale_tests::writer::Writer;
use pgscale_tests::writing::acknowledged;
use serde_json::json;

use crate::alone;
use crate::document::{Proof, Row};

pub(crate) fn parts(proof: &Arc<Proof>) -> Vec<Case> {
    let part = |stage: &'static Stage| {
        let proof = Arc::clone(proof);
        case(stage.name, move |ctx| async move {
            let row = compared(ctx, stage, stage.words, Surroundings::Usual).await?;
            proof.staged(row);
            Ok(())
        })
        .within(LIMIT)
    };
    STAGES.iter().map(part).collect()
}

/// The time limit of one stage: both halves, and a person's help.
pub(crate) const LIMIT: Duration = Duration::from_secs(1500);

/// What surrounds the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Surroundings {
    /// The operator as it is.
    Usual,
    /// Every StatefulSet of the namespace is annotated by admission.
    Annotated,
    /// The operator reaches no member.
    CutOff,
}

/// Lets `kubectl pgscale` and then the operator alone scale a cluster on `stage`, which `words`
/// describes.
pub(crate) async fn compared(
    ctx: TestCtx,
    stage: &'static Stage,
    words: &str,
    surroundings: Surroundings,
) -> Result<Row> {
    if surroundings == Surroundings::Annotated {
        annotate(&ctx.bed, &ctx.namespace).await?;
    }
    let row = both(&ctx, stage, words, surroundings).await;
    match surroundings {
        Surroundings::Usual => {}
        Surroundings::Annotated => stop_annotating(&ctx.bed, &ctx.namespace).await?,
        Surroundings::CutOff => {
            ctx.bed.operator().lock().await.start(&Settings::default()).await?;
        }
    }
    row
}

async fn both(
    ctx: &TestCtx,
    stage: &'static Stage,
    words: &str,
    surroundings: Surroundings,
) -> Result<Row> {
    let TestCtx { bed, namespace } = ctx;
    let cluster = Cluster::create(bed, namespace, "acid-plain", stages::BEFORE, json!({})).await?;
    if surroundings == Surroundings::CutOff {
        let cut_off = Settings { patroni: Reach::CutOff, ..Settings::default() };
        bed.operator().lock().await.start(&cut_off).await?;
    }
    let webhook = guarding::guarded(ctx).await?;
    let writer = stage.set(&cluster).await?;
    let answered = answered(&cluster, stages::AFTER).await?;
    say(&format!("  a plain edit: {answered}"));
    let with_plugin = stage.with_plugin(&cluster, writer).await?;
    say(&format!("  kubectl pgscale: {with_plugin}"));

    webhook.unguard(namespace).await?;
    let writer = if stage.unchanged() {
        let writer = Writer::start(bed.client(), namespace, &cluster.name).await?;
        acknowledged(&writer, WARM).await?;
        writer
    } else {
        stage.lift(&cluster).await?;
        stages::restore(&cluster).await?;
        stage.set(&cluster).await?
    };
    let alone = alone::patched(&cluster, stage, writer).await.context("the operator alone")?;
    say(&format!("  the operator alone: {alone}"));
    Ok(Row { words: words.to_owned(), alone, answered, with_plugin })
}
