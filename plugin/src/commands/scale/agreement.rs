//! The question before anything changes: one, whatever the number of clusters.

use super::job::Job;
use super::{ScaleRequest, is_shown};
use crate::args::DryRun;
use crate::error::{Failure, Kind};
use crate::execute::Agreed;
use crate::plan::Plan;
use crate::session::Session;
use crate::terminal::text::instances;

/// The most clusters that `--yes` agrees to. More are confirmed by their number.
const WITHOUT_NUMBER: usize = 3;

/// Asks for agreement to all `jobs` that would change something.
///
/// # Errors
/// `Declined` where a person says no, or where there is no terminal to ask on.
pub(super) async fn seek(
    session: &Session,
    request: &ScaleRequest,
    jobs: &[Job],
) -> Result<Agreed, Failure> {
    let ready: Vec<&Plan> = jobs.iter().filter_map(Job::ready).collect();
    if request.acting.dry_run == DryRun::None && !ready.is_empty() {
        match ready.as_slice() {
            [plan] if request.by_name() => about_one(session, request, plan).await?,
            plans => about_several(session, request, plans, jobs.len()).await?,
        }
    }
    Ok(Agreed { unjudged: request.acting.yes, same_hash: request.acting.expect_plan.is_some() })
}

/// Asks one question about all clusters. It always asks where the labels found several, because
/// they may have found more than was meant. It treats a single one as if it were named. Many are
/// confirmed by their number, which `--yes` does not answer.
async fn about_several(
    session: &Session,
    request: &ScaleRequest,
    plans: &[&Plan],
    found: usize,
) -> Result<(), Failure> {
    let must_ask = found > 1 || plans.iter().any(|it| it.shrinks() || !it.unjudged().is_empty());
    if !must_ask {
        return Ok(());
    }
    if plans.len() > WITHOUT_NUMBER {
        return about_many(session, request, plans).await;
    }
    let why = format!("{} would be changed", clusters(plans.len()));
    agree(session, request, &question(plans), &why).await
}

/// Asks for the number of clusters. One slip of the hand does not change a whole fleet.
async fn about_many(
    session: &Session,
    request: &ScaleRequest,
    plans: &[&Plan],
) -> Result<(), Failure> {
    let many = clusters(plans.len());
    let wanted = format!("{}-clusters", plans.len());
    match &request.acting.confirm {
        Some(given) if *given == wanted => Ok(()),
        Some(given) => {
            let why = format!("--confirm={given} does not confirm a change of {many}");
            Err(declined(&why).hint(format!("add --confirm={wanted}")))
        }
        None if !session.out.is_interactive() => {
            let why =
                format!("{many} would be changed, and that must be confirmed by their number");
            Err(declined(&why).hint(format!("add --confirm={wanted}")))
        }
        None => {
            let asked = format!("{} Type {} to confirm:", question(plans), plans.len());
            match session.out.ask(&asked).await {
                Some(typed) if typed == plans.len().to_string() => Ok(()),
                _ => Err(declined("not confirmed")),
            }
        }
    }
}

fn clusters(count: usize) -> String {
    if count == 1 { "1 cluster".to_owned() } else { format!("{count} clusters") }
}

/// Returns the question about `plans`: the numbers of instances that are added and removed, and the
/// clusters that were not judged in full.
pub(super) fn question(plans: &[&Plan]) -> String {
    let differences = || plans.iter().map(|plan| plan.to - plan.from);
    let (added, removed): (Vec<i64>, Vec<i64>) = (
        differences().filter(|count| *count > 0).collect(),
        differences().filter(|count| *count < 0).map(i64::abs).collect(),
    );
    let mut parts = Vec::new();
    if !added.is_empty() {
        let count = instances(added.iter().sum());
        parts.push(format!("add {count} to {}", clusters(added.len())));
    }
    if !removed.is_empty() {
        let count = instances(removed.iter().sum());
        parts.push(format!("remove {count} from {}", clusters(removed.len())));
    }
    let same = plans.len() - added.len() - removed.len();
    if same > 0 {
        parts.push(format!("write numberOfInstances of {}", clusters(same)));
    }
    let unjudged = plans.iter().filter(|plan| !plan.unjudged().is_empty()).count();
    let although = match unjudged {
        0 => String::new(),
        count => format!(", although not every rule could be judged for {}", clusters(count)),
    };
    let question = format!("{}{although}?", parts.join(" and "));
    let mut letters = question.chars();
    letters.next().map_or_else(String::new, |first| {
        format!("{}{}", first.to_ascii_uppercase(), letters.as_str())
    })
}

/// Asks where members are lost, and where a rule could not be judged.
async fn about_one(session: &Session, request: &ScaleRequest, plan: &Plan) -> Result<(), Failure> {
    if !plan.shrinks() {
        return about_unjudged(session, request, plan).await;
    }
    if plan.to == 0 {
        return about_zero(session, request, &plan.cluster()).await;
    }
    let question = format!("Remove {}?", instances(plan.from - plan.to));
    agree(session, request, &question, "instances would be removed").await
}

/// Asks about the end of a service, which --yes does not answer.
async fn about_zero(
    session: &Session,
    request: &ScaleRequest,
    cluster: &str,
) -> Result<(), Failure> {
    match &request.acting.confirm {
        Some(given) if given == cluster => Ok(()),
        Some(given) => Err(declined(&format!("--confirm={given} is not {cluster}"))),
        None if !session.out.is_interactive() => {
            Err(declined("a change to 0 instances ends the service and must be confirmed")
                .hint(format!("add --confirm={cluster}")))
        }
        None => {
            let question = format!("This ends the service. Type {cluster} to confirm:");
            match session.out.ask(&question).await {
                Some(typed) if typed == cluster => Ok(()),
                _ => Err(declined("not confirmed")),
            }
        }
    }
}

/// Asks about growth that not every rule could judge. Nothing is known to be wrong with it, and
/// nothing is known to be well.
async fn about_unjudged(
    session: &Session,
    request: &ScaleRequest,
    plan: &Plan,
) -> Result<(), Failure> {
    let rules = plan.unjudged();
    if rules.is_empty() {
        return Ok(());
    }
    let rules = rules.join(", ");
    let question =
        format!("Set numberOfInstances to {}, although {rules} could not be judged?", plan.count);
    let why = format!("{rules} could not be judged");
    let agreed = agree(session, request, &question, &why).await;
    if is_shown(request.acting.shape.output) {
        return agreed;
    }
    agreed.map_err(|failure| {
        // No plan was shown that says which fact is missing.
        let unseen = plan.verdict.unjudged().map(|it| format!("\n  {}: {}", it.rule, it.message));
        Failure { message: format!("{}{}", failure.message, unseen.collect::<String>()), ..failure }
    })
}

/// Asks for agreement to a change, by --yes or by the answer to `question`. `why` names the point
/// that must be agreed to.
async fn agree(
    session: &Session,
    request: &ScaleRequest,
    question: &str,
    why: &str,
) -> Result<(), Failure> {
    if request.acting.yes {
        return Ok(());
    }
    match session.out.agrees(question).await {
        Some(true) => Ok(()),
        Some(false) => Err(declined("declined")),
        None => {
            Err(declined(&format!("{why}, and there is no terminal to ask on")).hint("add --yes"))
        }
    }
}

fn declined(why: &str) -> Failure {
    Failure::new(Kind::Declined, format!("{why}; nothing was changed"))
}
