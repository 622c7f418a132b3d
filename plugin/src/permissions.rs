//! The permissions of each command: one table, for the help and for a check before the command
//! acts.
//!
//! The check asks the API server (`SelfSubjectAccessReview`), so that a command never stops
//! half-way for a missing permission.

use std::time::Duration;

use futures::future::join_all;
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
    SubjectAccessReviewStatus,
};
use kube::Api;
use kube::api::PostParams;
use pgscale_guard::Facts;
use pgscale_guard::duration::exact;
use pgscale_guard::facts::Live;
use pgscale_guard::read::forbidden;
use pgscale_guard::remedy::Command;
use tokio::time::timeout;

use crate::error::Failure;
use crate::session::Session;

pub(crate) mod grants;
#[cfg(test)]
mod helm_test;
#[cfg(test)]
mod roles;
mod table;

use pgscale_guard::operator::account::{LIST_NAME, LIST_NAMESPACE};
pub(crate) use table::{Access, COMMANDS, OVERRIDE, Parts, Permission, SCALE, SWITCHOVER};
use table::{Need, Place};

/// The time limit for the API server's answers about permissions.
const PATIENCE: Duration = Duration::from_secs(5);

impl Access {
    /// Returns `pods/exec` or `postgresqls.acid.zalan.do`, as in messages of the API server.
    fn named(&self) -> String {
        let group = if self.group.is_empty() { String::new() } else { format!(".{}", self.group) };
        let sub = if self.subresource.is_empty() {
            String::new()
        } else {
            format!("/{}", self.subresource)
        };
        format!("{}{group}{sub}", self.resource)
    }

    /// Returns a phrase such as `get and create pods/exec`.
    fn phrase(&self) -> String {
        format!("{} {}", self.verbs.join(" and "), self.named())
    }

    /// Returns the `kubectl auth can-i` command that tests one of its verbs.
    fn can_i(&self, verb: &str, namespace: &str) -> Command {
        let resource = Self { subresource: "", ..*self }.named();
        let mut words = vec!["auth".to_owned(), "can-i".to_owned(), verb.to_owned(), resource];
        // `pods/exec` would be the pod named exec.
        if !self.subresource.is_empty() {
            words.push(format!("--subresource={}", self.subresource));
        }
        match self.place {
            Place::Namespace => words.extend(["-n".to_owned(), namespace.to_owned()]),
            Place::Everywhere | Place::Operator => words.push("-A".to_owned()),
            Place::Public => words.extend(["-n".to_owned(), LIST_NAMESPACE.to_owned()]),
        }
        Command::kubectl(words)
    }

    /// Returns the rule of a Role that grants it.
    fn rule(&self) -> String {
        let sub = if self.subresource.is_empty() {
            String::new()
        } else {
            format!("/{}", self.subresource)
        };
        format!(
            "- {{apiGroups: [\"{}\"], resources: [\"{}{sub}\"], verbs: [{}]}}",
            self.group,
            self.resource,
            self.verbs.iter().map(|verb| format!("\"{verb}\"")).collect::<Vec<_>>().join(", ")
        )
    }

    /// Returns the question to the API server for one of its verbs.
    fn attributes(&self, verb: &str, namespace: &str, cluster: &str) -> ResourceAttributes {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        ResourceAttributes {
            group: some(self.group),
            // A Role may name the clusters that it covers.
            name: match self.place {
                Place::Public => some(LIST_NAME),
                Place::Everywhere | Place::Namespace | Place::Operator => {
                    (self.resource == "postgresqls").then(|| cluster.to_owned())
                }
            },
            namespace: match self.place {
                Place::Namespace => Some(namespace.to_owned()),
                Place::Public => some(LIST_NAMESPACE),
                Place::Everywhere | Place::Operator => None,
            },
            resource: some(self.resource),
            subresource: some(self.subresource),
            verb: some(verb),
            ..ResourceAttributes::default()
        }
    }
}

/// Returns the command that checks the permission whose lack is the reason `why` of unread facts.
/// `None` where that is another reason.
pub(crate) fn check_of(why: &str, namespace: &str) -> Option<Command> {
    let ways = COMMANDS.iter().flat_map(|(_, parts)| parts.iter().copied().flatten());
    ways.flat_map(|permission| permission.ways).find_map(|way| {
        let place = match way.place {
            Place::Namespace => Some(namespace),
            Place::Everywhere => None,
            Place::Public => Some(LIST_NAMESPACE),
            // Which namespace that is depends on facts.
            Place::Operator => return None,
        };
        let verb = way.verbs.iter().find(|verb| forbidden(verb, way.resource, place) == why)?;
        way.subresource.is_empty().then(|| way.can_i(verb, namespace))
    })
}

/// Returns the paragraph of a command's help. `None` for a command that is not in the table.
pub(crate) fn help(command: &str) -> Option<String> {
    let (_, permissions) = COMMANDS.iter().find(|(name, _)| *name == command)?;
    if permissions.is_empty() {
        return Some("Permissions: none.".to_owned());
    }
    let mut lines =
        vec!["Permissions, in the namespace of the cluster unless said otherwise:".to_owned()];
    for Permission { ways, need } in permissions.iter().copied().flatten() {
        let need = match need {
            Need::Always => "needed".to_owned(),
            Need::ToMoveTheLeader(loss) => format!("needed to move the leader; without: {loss}"),
            Need::WhenTheLeaderMoves(loss)
            | Need::ToJudge(loss)
            | Need::Never(loss)
            | Need::Reported(loss) => {
                format!("without: {loss}")
            }
        };
        lines.push(format!("- {} ({need})", spell(ways, None)));
    }
    Some(lines.join("\n  "))
}

/// The API server's answer about one permission.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Answer {
    Allowed,
    Denied,
    /// The API server could not decide.
    Unknown(String),
}

/// Ends with the permissions that are missing for the change of the cluster of `facts`, and warns
/// of the loss without the others.
///
/// The API server decides at the time of the write where they cannot be checked.
pub(crate) async fn check(
    session: &Session,
    permissions: Parts,
    facts: &Facts,
    leader_moves: bool,
) -> Result<(), Failure> {
    let cluster = &facts.change.new;
    let asked = permissions.iter().copied().flatten().filter(|permission| match permission.need {
        Need::Always | Need::Never(_) => true,
        Need::ToMoveTheLeader(_) => !members_answer(facts),
        Need::WhenTheLeaderMoves(_) => leader_moves,
        Need::ToJudge(_) | Need::Reported(_) => false,
    });
    let asked = asked.map(async |permission| {
        let ways = permission.ways.iter();
        let answers = ways.map(|way| may(session, way, &cluster.namespace, &cluster.name));
        (permission, any_of(join_all(answers).await))
    });
    let Ok(answers) = timeout(PATIENCE, join_all(asked)).await else {
        let limit = exact(PATIENCE);
        session.out.warning(&format!("permissions not checked: no answer within {limit}"));
        return Ok(());
    };
    let found = judge(&answers, &cluster.namespace, leader_moves);
    for warning in &found.warnings {
        session.out.warning(warning);
    }
    if found.missing.is_empty() {
        return Ok(());
    }
    let missing: Vec<String> =
        found.missing.iter().map(|ways| spell(ways, Some(&cluster.namespace))).collect();
    let mut failure = Failure::error(format!(
        "postgresql {}/{} was not changed, because you need permission to {}",
        cluster.namespace,
        cluster.name,
        missing.join(", and to ")
    ));
    let first: Vec<&Access> = found.missing.iter().filter_map(|ways| ways.first()).collect();
    for way in &first {
        for verb in way.verbs {
            failure = failure.hint_to("test it", way.can_i(verb, &cluster.namespace));
        }
    }
    let rules: Vec<String> = first.iter().map(|way| way.rule()).collect();
    Err(failure.hint(format!(
        "ask for a Role in namespace {} with these rules:\n  {}",
        cluster.namespace,
        rules.join("\n  ")
    )))
}

/// Returns whether a member answered, which proves the permission better than any review: older API
/// servers require fewer verbs than newer ones.
fn members_answer(facts: &Facts) -> bool {
    facts.all_members().iter().any(|member| matches!(member.live, Live::Answered(_)))
}

/// Asks about every verb of one way.
async fn may(session: &Session, way: &Access, namespace: &str, cluster: &str) -> Answer {
    let reviews: Api<SelfSubjectAccessReview> = Api::all(session.client.clone());
    let asked = way.verbs.iter().map(|verb| {
        let attributes = way.attributes(verb, namespace, cluster);
        let review = SelfSubjectAccessReview {
            spec: SelfSubjectAccessReviewSpec {
                resource_attributes: Some(attributes),
                ..SelfSubjectAccessReviewSpec::default()
            },
            ..SelfSubjectAccessReview::default()
        };
        let reviews = &reviews;
        async move { understand(reviews.create(&PostParams::default(), &review).await) }
    });
    all_of(join_all(asked).await)
}

fn understand(answer: Result<SelfSubjectAccessReview, kube::Error>) -> Answer {
    match answer {
        Err(kube::Error::Api(status)) => Answer::Unknown(status.message.clone()),
        Err(error) => Answer::Unknown(crate::error::chain(&error)),
        Ok(review) => match review.status {
            Some(SubjectAccessReviewStatus { allowed: true, .. }) => Answer::Allowed,
            // A broken authorizer has denied nothing.
            Some(SubjectAccessReviewStatus {
                evaluation_error: Some(why),
                denied: None | Some(false),
                ..
            }) if !why.is_empty() => Answer::Unknown(why),
            Some(_) => Answer::Denied,
            None => Answer::Unknown("the answer has no status".to_owned()),
        },
    }
}

/// Returns the answer for a way: it needs every verb.
fn all_of(answers: Vec<Answer>) -> Answer {
    if answers.contains(&Answer::Denied) {
        return Answer::Denied;
    }
    answers
        .into_iter()
        .find(|answer| matches!(answer, Answer::Unknown(_)))
        .unwrap_or(Answer::Allowed)
}

/// Returns the answer for a permission: one way is enough, and it is denied only where every way
/// is.
fn any_of(answers: Vec<Answer>) -> Answer {
    if answers.contains(&Answer::Allowed) {
        return Answer::Allowed;
    }
    answers
        .into_iter()
        .find(|answer| matches!(answer, Answer::Unknown(_)))
        .unwrap_or(Answer::Denied)
}

/// The result of a review.
#[derive(Debug, Default, PartialEq)]
struct Found {
    /// The ways of every missing permission without which the command must not begin.
    missing: Vec<&'static [Access]>,
    /// The losses without the others, and once the reason for which some could not be checked.
    warnings: Vec<String>,
}

fn judge(answers: &[(&Permission, Answer)], namespace: &str, leader_moves: bool) -> Found {
    let mut found = Found::default();
    let mut unchecked = None;
    for (permission, answer) in answers {
        match answer {
            Answer::Allowed => {}
            Answer::Unknown(why) => unchecked = unchecked.or(Some(why)),
            Answer::Denied => match permission.need {
                Need::Always => found.missing.push(permission.ways),
                Need::ToMoveTheLeader(_) if leader_moves => found.missing.push(permission.ways),
                Need::ToMoveTheLeader(loss)
                | Need::WhenTheLeaderMoves(loss)
                | Need::ToJudge(loss)
                | Need::Never(loss)
                | Need::Reported(loss) => {
                    let what = spell(permission.ways, Some(namespace));
                    found.warnings.push(format!("no permission to {what}: {loss}"));
                }
            },
        }
    }
    if let Some(why) = unchecked {
        found.warnings.push(format!("permissions not checked: {why}"));
    }
    found
}

/// Returns the ways with their place. The place is left out where `namespace` is `None`.
fn spell(ways: &[Access], namespace: Option<&str>) -> String {
    let first = ways.first();
    let words: Vec<String> = ways
        .iter()
        .enumerate()
        .map(|(index, way)| {
            let same = index > 0 && first.is_some_and(|first| first.verbs == way.verbs);
            if same { way.named() } else { way.phrase() }
        })
        .collect();
    let place = match (first.map(|way| way.place), namespace) {
        (Some(Place::Everywhere), _) => " in the whole cluster".to_owned(),
        (Some(Place::Operator), _) => " in the operator's namespace".to_owned(),
        (Some(Place::Public), _) => format!(" in namespace {LIST_NAMESPACE}"),
        (_, Some(namespace)) => format!(" in namespace {namespace}"),
        (_, None) => String::new(),
    };
    format!("{}{place}", words.join(" or "))
}

#[cfg(test)]
mod tests;
