//! Asks the API server to judge a write that is not stored.

use pgscale_guard::rules::AFTER_SWITCHOVER;

use super::{Agreed, CONFLICTS, PLANNING_AGAIN, as_agreed, contended, read_plan, send, so_far};
use crate::error::{Failure, is_dry_run_unsupported};
use crate::plan::Plan;
use crate::session::Session;

/// Sends the write of `plan` to every admission webhook and policy, and stores nothing.
///
/// If the plan moves the leader first, our webhook judges the write as it will be after that
/// move. Every other webhook judges the present state.
///
/// # Errors
/// `Refused` where one refuses it. Every other error means that it is not known whether the write
/// would pass.
pub(crate) async fn ask_server(session: &Session, plan: &Plan) -> Result<(), Failure> {
    match judged(session, plan).await {
        Ok(()) => Ok(()),
        Err(NotPassed { failure, by_kind: true, .. }) => {
            let plan = session.suggest(&["plan", &plan.name, "--to", &plan.count.to_string()]);
            Err(failure.hint_to("to see what the rules say", plan))
        }
        Err(NotPassed { failure, by_kind: false, .. }) => Err(failure),
    }
}

/// Checks that the write of `plan` would pass after the switchover that it begins with.
///
/// # Errors
/// As [`ask_server`]. Nothing was changed then.
pub(super) async fn must_pass(session: &Session, plan: &Plan) -> Result<(), Failure> {
    let NotPassed { mut failure, by_kind, says_so_far } = match judged(session, plan).await {
        Ok(()) => return Ok(()),
        Err(not_passed) => not_passed,
    };
    if !says_so_far {
        failure = failure.with_line(so_far(false));
    }
    if !by_kind {
        return Err(failure);
    }
    let (name, count) = (&plan.name, plan.count.to_string());
    Err(failure
        .hint_to("move the leader first", session.suggest(&["switchover", name, "--for", &count]))
        .hint_to("then lower the count", session.suggest(&["set", name, &count])))
}

/// The reason for which a write is not known to pass.
struct NotPassed {
    failure: Failure,
    /// An admission webhook takes no dry runs, so no dry run of this kind of object can pass.
    by_kind: bool,
    /// The failure already names the work that was done.
    says_so_far: bool,
}

async fn judged(session: &Session, plan: &Plan) -> Result<(), NotPassed> {
    let not_passed = |failure| NotPassed { failure, by_kind: false, says_so_far: false };
    let mut plan = plan.clone();
    for _ in 0..CONFLICTS {
        let manager = if plan.leader_move.is_some() { AFTER_SWITCHOVER } else { &*session.manager };
        let sent = send(session, &plan, manager, true).await;
        session.show_warnings();
        match sent {
            Ok(()) => return Ok(()),
            Err(kube::Error::Api(status)) if status.is_conflict() => {
                // Rules that lost a fact are asked about, or refuse, when the plan is carried out.
                session.out.note(PLANNING_AGAIN);
                let (now, _) = read_plan(session, &plan).await.map_err(not_passed)?;
                plan = as_agreed(&plan, now, Agreed { unjudged: true, same_hash: false })
                    .map_err(|failure| NotPassed { says_so_far: true, ..not_passed(failure) })?;
            }
            Err(error) => {
                let asked = format!("change postgresql {}", plan.cluster());
                let failure = Failure::of_kube(&error, &asked);
                let by_kind = is_dry_run_unsupported(&error);
                return Err(NotPassed { by_kind, ..not_passed(failure) });
            }
        }
    }
    Err(not_passed(contended(&plan, false)))
}
