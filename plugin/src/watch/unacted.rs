//! An operator that does not act on the count: reported after some seconds, and explained later.

use pgscale_guard::Seen;
use pgscale_guard::facts::Facts;
use pgscale_guard::remedy::{Command, Remedy};
use tokio::time::Instant;

use super::Goal;
use super::leaving::not_acted;
use crate::session::Session;

/// The time for which the operator has not acted, and what was reported of that.
#[derive(Debug, Default)]
pub(super) struct Unacted {
    /// The count of the StatefulSet on which the operator has not acted.
    pub(super) has: Option<i64>,
    since: Option<Instant>,
    reported: bool,
    explained: bool,
}

/// News about an operator that does not act.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum News {
    /// It has not acted for some seconds.
    Late(String),
    /// It has not acted for long: why that may be, and what to do.
    Stuck(String, Remedy),
}

impl Unacted {
    /// Takes one look into account.
    pub(super) fn observe(&mut self, session: &Session, goal: &Goal, facts: &Facts) -> Vec<News> {
        let Some(has) = not_acted(facts) else {
            *self = Self::default();
            return Vec::new();
        };
        self.has = Some(has);
        let waited = self.since.get_or_insert_with(Instant::now).elapsed();
        let mut news = Vec::new();
        if !self.reported && waited >= session.pace.tell {
            self.reported = true;
            let what = format!("the operator has not acted yet (the StatefulSet says {has})");
            news.push(News::Late(what));
        }
        if !self.explained && waited >= session.pace.stuck {
            self.explained = true;
            news.push(News::Stuck(why(facts), remedy(session, goal, facts)));
        }
        news
    }
}

/// Returns the possible reasons for which the operator does not act.
///
/// Operator 2.0 drops an update where its own write of the status conflicts, and does the work at
/// its next resync, 30 minutes later by default (`Update`, pkg/cluster/cluster.go).
fn why(facts: &Facts) -> String {
    match &facts.operator {
        Seen::Absent => "no operator was found that owns this cluster".to_owned(),
        Seen::Unreadable(why) => format!("the operator could not be read ({why})"),
        Seen::Known(operator) if operator.available == Some(false) => {
            format!("{} has no pod that runs", operator.deployment)
        }
        Seen::Known(_) if facts.change.new.status.as_deref() == Some("Updating") => {
            "its status is Updating: the operator works on this cluster, or was stopped meanwhile"
                .to_owned()
        }
        Seen::Known(_) => "the operator may have dropped the update (another write came within \
                           milliseconds), be busy with another cluster, or leave this cluster to \
                           another operator"
            .to_owned(),
    }
}

/// Returns what makes the operator act, and where to look.
fn remedy(session: &Session, goal: &Goal, facts: &Facts) -> Remedy {
    let look = operator_log(goal, facts);
    let absent = match &facts.operator {
        Seen::Known(operator) => operator.available == Some(false),
        Seen::Absent => true,
        Seen::Unreadable(_) => false,
    };
    if absent {
        return Remedy::to("see why no operator runs", look);
    }
    Remedy::to("first see what it does", look).or_to("then make it act", again(session, goal))
}

/// Returns the command that makes the operator act on the count.
pub(super) fn again(session: &Session, goal: &Goal) -> Command {
    session.suggest(&["set", &goal.name, &goal.count.to_string()])
}

fn operator_log(goal: &Goal, facts: &Facts) -> Command {
    let Some(operator) = facts.operator.known() else {
        let words = ["get", "deployments", "-A", "-l", "app.kubernetes.io/name=postgres-operator"];
        return Command::kubectl(words);
    };
    let place = operator.deployment.namespace.as_deref().unwrap_or(&goal.namespace);
    let deployment = operator.deployment.argument();
    if operator.available == Some(false) {
        return Command::kubectl(["describe", &deployment, "-n", place]);
    }
    Command::kubectl(["logs", &deployment, "--tail=50", "-n", place])
}
