//! The write of the count, which is sent once.

use kube::api::{Patch, PatchParams};
use pgscale_guard::postgresql::Postgresql;
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::{Count, Done, left_behind, so_far};
use crate::error::{Failure, Kind};
use crate::plan::{Outcome, Plan};
use crate::session::Session;

/// The annotation that makes the operator act again on a count that it has not acted on. Its value is
/// the time.
pub(crate) const ASKED_AGAIN: &str = "pgscale.dev/asked-again";

/// Sends the count, once. Where another writer came first the count stays unwritten, which is no
/// failure.
pub(super) async fn write_count(
    session: &Session,
    plan: &Plan,
    done: &mut Done,
) -> Result<(), Failure> {
    if plan.outcome() == Outcome::Nothing {
        done.count = Count::Written;
        return Ok(());
    }
    let moved = done.moved();
    session.interrupted_means(
        "interrupted while numberOfInstances was being written; it may have been",
        "see",
        session.suggest(&["status", &plan.name]),
    );
    done.count = Count::InDoubt;
    let sent = send(session, plan, &session.manager, false).await;
    session.show_warnings();
    let asked = format!("change postgresql {}", plan.cluster());
    match sent {
        Ok(()) => {
            done.count = Count::Written;
            Ok(())
        }
        Err(kube::Error::Api(status)) if status.is_conflict() => {
            done.count = Count::Unwritten;
            session.interruption.means(format!("interrupted; {}", left_behind(moved)));
            Ok(())
        }
        // The API server answered with a refusal. Other 5xx say nothing about the content of etcd.
        Err(error @ kube::Error::Api(_)) if is_refusal(&error) => {
            done.count = Count::Unwritten;
            let count = if moved { "; numberOfInstances is unchanged" } else { "" };
            let mut failure =
                Failure::of_kube(&error, &asked).with_line(format!("{}{count}", so_far(moved)));
            if moved {
                failure.kind = Kind::NotAsPlanned;
            }
            Err(failure)
        }
        Err(error) => {
            look_for(session, plan, moved, &error).await?;
            done.count = Count::Written;
            Ok(())
        }
    }
}

fn is_refusal(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status)
        if ((400..500).contains(&status.code) && status.code != 408)
            || status.message.contains("failed calling webhook"))
}

pub(super) async fn send(
    session: &Session,
    plan: &Plan,
    field_manager: &str,
    dry_run: bool,
) -> Result<(), kube::Error> {
    let mut patch = json!({
        "metadata": {"resourceVersion": plan.resource_version, "uid": plan.uid},
        "spec": {"numberOfInstances": plan.count},
    });
    if plan.resumes.is_some() {
        // The count is there. The operator ignores a write that changes neither the spec nor an
        // annotation (`postgresqlUpdate`, pkg/controller/postgresql.go), and hands no annotation
        // down whose key its `inherited_annotations` does not name.
        let now = (session.reader.clock)().to_string();
        patch = json!({"metadata": {"resourceVersion": plan.resource_version, "uid": plan.uid,
            "annotations": {ASKED_AGAIN: now}}});
    }
    let params = PatchParams {
        dry_run,
        field_manager: Some(field_manager.to_owned()),
        ..PatchParams::default()
    };
    let clusters = session.clusters(&plan.namespace);
    clusters.patch(&plan.name, &params, &Patch::Merge(&patch)).await.map(drop)
}

/// Reads the object after the answer to the write was lost: it shows whether the write arrived.
async fn look_for(
    session: &Session,
    plan: &Plan,
    moved: bool,
    lost: &kube::Error,
) -> Result<(), Failure> {
    session.out.note(&format!(
        "the answer to the write was lost ({}); looking whether it arrived ...",
        crate::error::chain(lost)
    ));
    let deadline = Instant::now() + session.pace.lost_answer;
    let mut seen: Option<Postgresql> = None;
    loop {
        if let Ok(cluster) = session.reader.cluster(&plan.namespace, &plan.name).await {
            if cluster.uid == plan.uid && cluster.instances == Some(plan.count) {
                session.out.note("it arrived");
                return Ok(());
            }
            seen = Some(cluster);
        }
        if Instant::now() >= deadline {
            break;
        }
        sleep(session.pace.poll).await;
    }
    let mut failure = match seen {
        Some(cluster) => Failure::error(format!(
            "the answer to the write was lost, and postgresql {} still says numberOfInstances {}",
            plan.cluster(),
            cluster.instances.map_or("unset".to_owned(), |count| count.to_string())
        )),
        None => Failure::of_kube(
            lost,
            &format!("learn whether postgresql {} was changed", plan.cluster()),
        ),
    };
    if moved {
        failure.kind = Kind::NotAsPlanned;
        failure.message = format!("{}; {}", failure.message, so_far(moved));
    }
    // The count itself, because one more or one fewer than the count then may be another count.
    let repeat = session.suggest(&["set", &plan.name, &plan.count.to_string()]);
    Err(failure.hint_to("the write may still arrive; safe to repeat", repeat))
}
