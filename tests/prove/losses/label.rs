//! An edit of a label that the operator hands down, and a shrink before it has worked that through.

use anyhow::Result;
use kube::ResourceExt as _;
use pgscale_tests::operator::Settings;
use pgscale_tests::proof::stages::WARM;
use pgscale_tests::proof::with_plugin::State;
use pgscale_tests::trial::TestCtx;
use pgscale_tests::writing::{acknowledged, finish, finish_with_any_loss};

use super::{NAME, Staged, row};
use crate::alone::{change_of_leader, switchovers};
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
    let (made, before) = (switchovers(cluster).await?, State::of(cluster).await?);
    staged.patch(2).await?;
    staged.led(&writer, 2).await?;
    cluster.settled().await?;
    let pods = cluster.pods().await?;
    let renewed = pods.iter().filter(|pod| pod.labels().contains_key(LABEL)).count();
    acknowledged(&writer, WARM).await?;
    let after = State::of(cluster).await?;
    let moved = switchovers(cluster).await? > made;
    let what = format!(
        "{}; {renewed} of 2 pods that stay are renewed; promotions: {}",
        change_of_leader(before.leader, after.leader, moved),
        after.timeline - before.timeline,
    );
    let lost = finish_with_any_loss(writer).await;
    let words =
        "3 to 2 with the leader on 2, after an edit of a label that the operator hands down";
    Ok(row(words, (what, lost), answered, record))
}
