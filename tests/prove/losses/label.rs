//! An edit of a label that the operator hands down, and a shrink before it has worked that through.

use std::time::Duration;

use anyhow::Result;
use kube::ResourceExt as _;
use pgscale_tests::operator::Settings;
use pgscale_tests::proof::stages::WARM;
use pgscale_tests::proof::with_plugin::State;
use pgscale_tests::trial::TestCtx;
use pgscale_tests::writer::Writer;
use pgscale_tests::writing::{acknowledged, finish, finish_with_any_loss};

use super::{NAME, Staged, row};
use crate::alone::{HandOver, change_of_leader};
use crate::document::Row;

/// The label that the operator hands down to the StatefulSet and the pods.
const LABEL: &str = "environment";

/// The operator acts on no edit of labels alone, so that the next change carries the edit along.
pub(super) async fn edited(ctx: TestCtx) -> Result<Row> {
    // No synchronisation comes between the edit and the shrink.
    let mut settings = Settings::with_production_intervals();
    settings.more.insert("inherited_labels".to_owned(), LABEL.to_owned());
    let staged = Staged::of(ctx, 3).await?;
    staged.operator(&settings).await?;
    let row = shrunk(&staged).await;
    staged.operator(&Settings::default()).await?;
    row
}

async fn shrunk(staged: &Staged) -> Result<Row> {
    let cluster = &staged.cluster;
    cluster.move_leader_to(2).await?;
    cluster.settled().await?;
    let writer = staged.writing().await?;
    staged.kubectl(&["label", "postgresql", NAME, &format!("{LABEL}=new")]).await?;
    let answered = staged.refused(2, &["down", NAME, "--to", "2"]).await?;
    let record = finish(writer).await?;

    let writer = staged.writing().await?;
    let before = State::of(cluster).await?;
    let hand_over = HandOver::of(cluster, before.leader).await?;
    staged.patch(2).await?;
    let hand_over = handed_over(staged, &writer, hand_over).await?;
    cluster.settled().await?;
    let pods = cluster.pods().await?;
    let renewed = pods.iter().filter(|pod| pod.labels().contains_key(LABEL)).count();
    acknowledged(&writer, WARM).await?;
    let after = State::of(cluster).await?;
    let what = format!(
        "{}; {renewed} of 2 pods that stay are renewed; promotions: {}",
        change_of_leader(before.leader, after.leader, hand_over),
        after.timeline - before.timeline,
    );
    let lost = finish_with_any_loss(writer).await;
    let words =
        "3 to 2 with the leader on 2, after an edit of a label that the operator hands down";
    Ok(row(words, (what, lost), answered, record))
}

/// Watches until the operator is done, and returns whether the leader was handed over before the
/// StatefulSet lost members.
async fn handed_over(staged: &Staged, writer: &Writer, mut hand_over: HandOver) -> Result<bool> {
    let watching = async {
        loop {
            hand_over.look_at(&staged.cluster).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::select! {
        led = staged.led(writer, 2) => led.map(drop)?,
        never = watching => never,
    }
    Ok(hand_over.seen)
}
