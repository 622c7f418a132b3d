//! `wait`: the wait until clusters have converged.

use futures::future::join_all;

use super::each::{Place, Places, places, together};
use super::scale::{conclude, resource, show_notes};
use crate::args::{Shape, WaitOptions, Which};
use crate::document::ScaleReportList;
use crate::error::Failure;
use crate::outcome::Outcome;
use crate::patience::Patience;
use crate::session::Session;
use crate::terminal::Format;
use crate::watch::{Goal, watch};

/// Wait until clusters have converged on the counts they ask for.
///
/// Converged means: StatefulSet and pods match the count, every member streams on one timeline and
/// is caught up, one leader holds the lock and the label, and both Services lead to exactly the
/// members, for some seconds. The operator's `Running` means none of that. Several clusters are
/// waited for at the same time.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  kubectl pgscale wait acid-a
  kubectl pgscale wait acid-a acid-b --timeout 3h
  kubectl pgscale wait -l env=staging -A
  kubectl pgscale wait acid-a --timeout 0      look once")]
pub(crate) struct Args {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    patience: WaitOptions,
    #[command(flatten)]
    shape: Shape,
}

/// Waits until the clusters have converged, or until the time is over.
pub(crate) async fn run(session: &Session, args: Args) -> Result<(), Failure> {
    session.interruption.means("interrupted; waiting changes nothing");
    let all = match places(session, &args.which).await? {
        Places::One(name) => {
            let outcome = Box::pin(converged(session, &name, &args)).await?;
            show_notes(session, &outcome);
            return conclude(session, &outcome, args.shape.output, None);
        }
        Places::Several(all) => all,
    };
    let looks = all.iter().map(async |place| {
        let outcome = Box::pin(converged(&place.session, &place.name, &args)).await;
        let outcome = outcome.unwrap_or_else(|failure| Outcome {
            namespace: place.session.namespace.clone(),
            name: place.name.clone(),
            failure: Some(failure),
            ..Outcome::default()
        });
        show_notes(&place.session, &outcome);
        outcome
    });
    let ended = join_all(looks).await;
    let done = ended.iter().filter(|outcome| outcome.failure().is_none());
    match args.shape.output {
        format @ (Format::Json | Format::Yaml) => {
            session.out.document(format, &ScaleReportList::of(&ended))?;
        }
        Format::Name => {
            for outcome in done {
                session.out.data(&resource(&outcome.name))?;
            }
        }
        Format::Text | Format::Wide => {
            for outcome in done {
                session.out.said(&outcome.said)?;
            }
        }
    }
    let ended: Vec<(&Place, Option<Failure>)> =
        all.iter().zip(&ended).map(|(place, it)| (place, it.failure().cloned())).collect();
    together(&ended, "have not converged")
}

/// Waits for one cluster.
async fn converged(session: &Session, name: &str, args: &Args) -> Result<Outcome, Failure> {
    let cluster = session.cluster(name).await?;
    let goal = Goal::of_cluster(&cluster);
    let timeout = if let Some(timeout) = args.patience.timeout {
        timeout
    } else {
        let patience = Patience::of_cluster(session, &cluster).await;
        patience.tell(session);
        patience.limit
    };
    let watched = watch(session, &goal, timeout).await;
    let said = format!(
        "postgresql/{} has converged on {}",
        goal.name,
        crate::terminal::text::instances(goal.count)
    );
    Ok(Outcome {
        namespace: cluster.namespace,
        name: cluster.name,
        said,
        result: "Converged",
        watched: Some(watched),
        ..Outcome::default()
    })
}

#[cfg(test)]
mod tests {
    use crate::testing::{World, run};

    #[tokio::test]
    async fn several_clusters_are_waited_for_at_once() {
        let (screen, code, failure) = run(&World::new(3, 0), "wait acid-a acid-a", None).await;
        assert_eq!((code, failure.as_str()), (0, ""));
        assert_eq!(screen.stdout(), "postgresql/acid-a has converged on 3 instances\n");
        let (screen, code, _) = run(&World::new(3, 0), "wait -A -o name", None).await;
        assert_eq!((code, screen.stdout().as_str()), (0, "postgresql.acid.zalan.do/acid-a\n"));
        let line = "wait acid-a acid-c --timeout 0 -o json";
        let (screen, code, failure) = run(&World::new(3, 0), line, None).await;
        let document: serde_json::Value = serde_json::from_str(&screen.stdout()).unwrap();
        assert_eq!(document["kind"], "ScaleReportList");
        assert_eq!(document["items"].as_array().unwrap().len(), 2);
        assert_eq!(code, 1);
        assert!(failure.contains("of 2 clusters have not converged"), "{failure}");
        assert!(screen.stderr().contains("db/acid-c: error: postgresql acid-c not found"));
    }
}
