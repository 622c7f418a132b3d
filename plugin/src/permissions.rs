//! Which rights each command needs: one table, from which the help is written and by which a command that is about
//! to act asks the API server (`SelfSubjectAccessReview`), so that it never stops half-way for a missing one.

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
use pgscale_guard::remedy::Command;
use tokio::time::timeout;

use crate::error::Failure;
use crate::session::Session;

mod table;

use pgscale_guard::operator::account::{LIST_NAME, LIST_NAMESPACE};
pub(crate) use table::{Access, COMMANDS, OVERRIDE, Parts, Right, SCALE, SWITCHOVER};
use table::{Need, Place};

/// How long the API server may take to tell what we may do.
const PATIENCE: Duration = Duration::from_secs(5);

impl Access {
    /// `pods/exec`, `postgresqls.acid.zalan.do`: as in messages of the API server.
    fn named(&self) -> String {
        let group = if self.group.is_empty() { String::new() } else { format!(".{}", self.group) };
        let sub = if self.subresource.is_empty() {
            String::new()
        } else {
            format!("/{}", self.subresource)
        };
        format!("{}{group}{sub}", self.resource)
    }

    /// `get and create pods/exec`.
    fn phrase(&self) -> String {
        format!("{} {}", self.verbs.join(" and "), self.named())
    }

    /// What `kubectl auth can-i` is asked to test one of its verbs.
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

    /// The rule of a Role that grants it.
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

    /// What the API server is asked for one of its verbs.
    fn attributes(&self, verb: &str, namespace: &str, cluster: &str) -> ResourceAttributes {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        ResourceAttributes {
            group: some(self.group),
            // A Role may name the clusters it is for.
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

/// The paragraph of a command's help; `None` for a command that is not in the table.
pub(crate) fn help(command: &str) -> Option<String> {
    let (_, rights) = COMMANDS.iter().find(|(name, _)| *name == command)?;
    if rights.is_empty() {
        return Some("Rights: none.".to_owned());
    }
    let mut lines =
        vec!["Rights, in the namespace of the cluster unless said otherwise:".to_owned()];
    for Right { ways, need } in rights.iter().copied().flatten() {
        let need = match need {
            Need::Always => "needed".to_owned(),
            Need::ToMoveTheLeader(loss) => format!("needed to move the leader; without: {loss}"),
            Need::WhenTheLeaderMoves(loss)
            | Need::ToJudge(loss)
            | Need::Never(loss)
            | Need::Told(loss) => {
                format!("without: {loss}")
            }
        };
        lines.push(format!("- {} ({need})", spell(ways, None)));
    }
    Some(lines.join("\n  "))
}

/// What the API server says of one right.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Said {
    Allowed,
    Denied,
    /// It could not tell.
    Unknown(String),
}

/// Ends with the rights that are missing for what is about to be done to the cluster of `facts`; says what will be
/// lost for want of others. Where it cannot be learned, the API server decides when it is asked to act.
pub(crate) async fn check(
    session: &Session,
    rights: Parts,
    facts: &Facts,
    leader_moves: bool,
) -> Result<(), Failure> {
    let cluster = &facts.change.new;
    let asked = rights.iter().copied().flatten().filter(|right| match right.need {
        Need::Always | Need::Never(_) => true,
        Need::ToMoveTheLeader(_) => !members_answer(facts),
        Need::WhenTheLeaderMoves(_) => leader_moves,
        Need::ToJudge(_) | Need::Told(_) => false,
    });
    let asked = asked.map(async |right| {
        let ways = right.ways.iter();
        let said = ways.map(|way| may(session, way, &cluster.namespace, &cluster.name));
        (right, any_of(join_all(said).await))
    });
    let Ok(said) = timeout(PATIENCE, join_all(asked)).await else {
        let limit = exact(PATIENCE);
        session.out.warning(&format!("rights not checked: no answer within {limit}"));
        return Ok(());
    };
    let found = judge(&said, &cluster.namespace, leader_moves);
    for warning in &found.warnings {
        session.out.warning(warning);
    }
    if found.missing.is_empty() {
        return Ok(());
    }
    let missing: Vec<String> =
        found.missing.iter().map(|ways| spell(ways, Some(&cluster.namespace))).collect();
    let mut failure = Failure::error(format!(
        "postgresql {}/{} is not touched, because {} missing: {}",
        cluster.namespace,
        cluster.name,
        if missing.len() == 1 { "a right is" } else { "rights are" },
        missing.join("; ")
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

/// Having done it is a better proof than any review: older API servers ask for fewer verbs than newer ones.
fn members_answer(facts: &Facts) -> bool {
    facts.all_members().iter().any(|member| matches!(member.live, Live::Answered(_)))
}

/// Asks about every verb of one way.
async fn may(session: &Session, way: &Access, namespace: &str, cluster: &str) -> Said {
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

fn understand(answer: Result<SelfSubjectAccessReview, kube::Error>) -> Said {
    match answer {
        Err(kube::Error::Api(status)) => Said::Unknown(status.message.clone()),
        Err(error) => Said::Unknown(crate::error::chain(&error)),
        Ok(review) => match review.status {
            Some(SubjectAccessReviewStatus { allowed: true, .. }) => Said::Allowed,
            // An authorizer that broke has denied nothing.
            Some(SubjectAccessReviewStatus {
                evaluation_error: Some(why),
                denied: None | Some(false),
                ..
            }) if !why.is_empty() => Said::Unknown(why),
            Some(_) => Said::Denied,
            None => Said::Unknown("the answer says nothing".to_owned()),
        },
    }
}

/// Every verb of a way is needed.
fn all_of(said: Vec<Said>) -> Said {
    if said.contains(&Said::Denied) {
        return Said::Denied;
    }
    said.into_iter().find(|said| matches!(said, Said::Unknown(_))).unwrap_or(Said::Allowed)
}

/// One way is enough; denied is only what is denied every way.
fn any_of(said: Vec<Said>) -> Said {
    if said.contains(&Said::Allowed) {
        return Said::Allowed;
    }
    said.into_iter().find(|said| matches!(said, Said::Unknown(_))).unwrap_or(Said::Denied)
}

/// What a review comes to.
#[derive(Debug, Default, PartialEq)]
struct Found {
    /// The ways of every right without which nothing may begin.
    missing: Vec<&'static [Access]>,
    /// What is lost for want of the others, and once why some could not be checked.
    warnings: Vec<String>,
}

fn judge(said: &[(&Right, Said)], namespace: &str, leader_moves: bool) -> Found {
    let mut found = Found::default();
    let mut unchecked = None;
    for (right, said) in said {
        match said {
            Said::Allowed => {}
            Said::Unknown(why) => unchecked = unchecked.or(Some(why)),
            Said::Denied => match right.need {
                Need::Always => found.missing.push(right.ways),
                Need::ToMoveTheLeader(_) if leader_moves => found.missing.push(right.ways),
                Need::ToMoveTheLeader(loss)
                | Need::WhenTheLeaderMoves(loss)
                | Need::ToJudge(loss)
                | Need::Never(loss)
                | Need::Told(loss) => {
                    let what = spell(right.ways, Some(namespace));
                    found.warnings.push(format!("no right to {what}: {loss}"));
                }
            },
        }
    }
    if let Some(why) = unchecked {
        found.warnings.push(format!("rights not checked: {why}"));
    }
    found
}

/// The ways, and where; in `namespace`, unless that goes without saying.
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
