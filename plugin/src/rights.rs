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
use pgscale_guard::facts::Live;
use tokio::time::timeout;

use crate::error::Failure;
use crate::session::Session;

/// How long the API server may take to tell what we may do.
const PATIENCE: Duration = Duration::from_secs(5);

/// Requests of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Access {
    verbs: &'static [&'static str],
    group: &'static str,
    resource: &'static str,
    subresource: &'static str,
    place: Place,
}

/// Where a right must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// In the namespace of the cluster.
    Namespace,
    /// In all namespaces, or of a kind that has none.
    Everywhere,
    /// In the namespace of the operator.
    Operator,
}

/// What a command can do without a right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    /// Nothing.
    Always,
    /// Everything but moving the leader, at this loss.
    ToMoveTheLeader(&'static str),
    /// Everything, at this loss, where the leader moves.
    WhenTheLeaderMoves(&'static str),
    /// Everything, at this loss, which the verdict tells of itself: what is to be judged has been read already when
    /// rights are asked about.
    ToJudge(&'static str),
    /// Everything, at this loss.
    Never(&'static str),
    /// Everything, at this loss, which the command tells of itself when it comes to it.
    Told(&'static str),
}

/// One thing a command does, and the ways to be allowed to: any one of them is enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Right {
    ways: &'static [Access],
    need: Need,
}

const fn access(
    verbs: &'static [&'static str],
    group: &'static str,
    resource: &'static str,
) -> Access {
    Access { verbs, group, resource, subresource: "", place: Place::Namespace }
}

const fn at(place: Place, access: Access) -> Access {
    Access { place, ..access }
}

/// A WebSocket begins as a GET, so `get` is needed everywhere; Kubernetes 1.35 and later ask for `create` as well
/// (`AuthorizePodWebsocketUpgradeCreatePermission`).
const fn stream(subresource: &'static str) -> Access {
    Access { subresource, ..access(&["get", "create"], "", "pods") }
}

const GET_CLUSTER: Right =
    Right { ways: &[access(&["get"], "acid.zalan.do", "postgresqls")], need: Need::Always };
const GET_OR_LIST_CLUSTERS: Right =
    Right { ways: &[access(&["get", "list"], "acid.zalan.do", "postgresqls")], need: Need::Always };
const WRITE_COUNT: Right =
    Right { ways: &[access(&["patch"], "acid.zalan.do", "postgresqls")], need: Need::Always };
const WORKLOAD: Right = Right {
    ways: &[access(&["get"], "apps", "statefulsets")],
    need: Need::ToJudge("what the operator has applied is unknown, and a shrink is refused"),
};
const PODS: Right = Right {
    ways: &[access(&["list"], "", "pods")],
    need: Need::ToJudge("the members are unknown, and a shrink is refused"),
};
const PATRONI: Right = Right {
    ways: &[access(&["get"], "", "configmaps"), access(&["get"], "", "endpoints")],
    need: Need::ToJudge("the leader is unknown, and a shrink is refused"),
};
const MEMBERS: Right = Right {
    ways: &[stream("portforward"), stream("exec")],
    need: Need::ToMoveTheLeader(
        "members cannot be asked how far they are, and a shrink is refused",
    ),
};
const CHECKPOINT: Right = Right {
    ways: &[stream("exec")],
    need: Need::WhenTheLeaderMoves("no CHECKPOINT before the leader moves, which may take longer"),
};
const POLICIES: Right = Right {
    ways: &[access(&["list"], "pgscale.dev", "scalepolicies")],
    need: Need::ToJudge("the policies are unknown, and a shrink is refused"),
};
const VOLUMES: Right = Right {
    ways: &[access(&["list"], "", "persistentvolumeclaims")],
    need: Need::Never("volumes are not seen"),
};
const SERVICES: Right = Right {
    ways: &[
        access(&["list"], "discovery.k8s.io", "endpointslices"),
        access(&["get"], "", "endpoints"),
    ],
    need: Need::Never("whether the Services lead to the members is not seen"),
};
const OPERATOR: Right = Right {
    ways: &[at(Place::Everywhere, access(&["list"], "apps", "deployments"))],
    need: Need::ToJudge("the operator and its limits are unknown"),
};
const SETTINGS: Right = Right {
    ways: &[
        at(Place::Operator, access(&["get"], "", "configmaps")),
        at(Place::Operator, access(&["get"], "acid.zalan.do", "operatorconfigurations")),
    ],
    need: Need::ToJudge("the operator's limits are unknown"),
};
const NODES: Right = Right {
    ways: &[at(Place::Everywhere, access(&["get"], "", "nodes"))],
    need: Need::Never("members on a lost node look well"),
};

const QUOTAS: Right = Right {
    ways: &[access(&["list"], "", "resourcequotas")],
    need: Need::ToJudge("whether the quotas have room is unknown, and the plan does not show it"),
};
const LIMIT_RANGES: Right = Right {
    ways: &[access(&["list"], "", "limitranges")],
    need: Need::ToJudge("whether a LimitRange forbids a new member is unknown"),
};
const ALL_NODES: Right = Right {
    ways: &[at(Place::Everywhere, access(&["list"], "", "nodes"))],
    need: Need::ToJudge("whether there are nodes for members that are kept apart is unknown"),
};
const DRAINS: Right = Right {
    ways: &[access(&["list"], "policy", "poddisruptionbudgets")],
    need: Need::ToJudge("whether the last member's node could be drained is unknown"),
};
const BACKUPS: Right = Right {
    ways: &[access(&["get"], "batch", "cronjobs")],
    need: Need::ToJudge("the age of the last backup is unknown where a policy limits it"),
};
const SQL: Right = Right {
    ways: &[stream("exec")],
    need: Need::Told("what only PostgreSQL itself knows is not shown"),
};
const HISTORY: Right = Right {
    ways: &[access(&["get", "create", "patch"], "", "configmaps")],
    need: Need::Told("the change is not in the history"),
};
const TELL: Right = Right {
    ways: &[access(&["create", "patch"], "events.k8s.io", "events")],
    need: Need::Told("there is no Event on the cluster"),
};
const EVENTS: Right = Right {
    ways: &[access(&["list"], "", "events")],
    need: Need::Told("what hinders a new member is not read from Events"),
};
const LOGS: Right = Right {
    ways: &[Access { subresource: "log", ..access(&["get"], "", "pods") }],
    need: Need::Told("what hinders a base backup is not read from its log"),
};
const READ_HISTORY: Right =
    Right { ways: &[access(&["get"], "", "configmaps")], need: Need::Always };

/// What `plan` needs.
const PLAN: &[Right] = &[
    GET_CLUSTER,
    WORKLOAD,
    PODS,
    PATRONI,
    MEMBERS,
    POLICIES,
    VOLUMES,
    QUOTAS,
    LIMIT_RANGES,
    ALL_NODES,
    DRAINS,
    BACKUPS,
    SQL,
    OPERATOR,
    SETTINGS,
    NODES,
];
/// What `verify` needs.
const VERIFY: &[Right] =
    &[GET_CLUSTER, WORKLOAD, PODS, PATRONI, MEMBERS, SQL, SERVICES, OPERATOR, SETTINGS, NODES];
/// What `history` needs.
const PAST: &[Right] = &[GET_CLUSTER, READ_HISTORY];
/// What `status` needs.
const STATUS: &[Right] = &[
    POLICIES,
    EVENTS,
    GET_OR_LIST_CLUSTERS,
    WORKLOAD,
    PODS,
    PATRONI,
    MEMBERS,
    VOLUMES,
    SERVICES,
    OPERATOR,
    SETTINGS,
    NODES,
];
/// What `wait` needs.
const WAIT: &[Right] =
    &[GET_CLUSTER, WORKLOAD, PODS, PATRONI, MEMBERS, VOLUMES, SERVICES, OPERATOR, SETTINGS, NODES];
/// What every change of the count needs.
pub(crate) const SCALE: &[Right] = &[
    GET_CLUSTER,
    WRITE_COUNT,
    WORKLOAD,
    PODS,
    PATRONI,
    MEMBERS,
    CHECKPOINT,
    POLICIES,
    VOLUMES,
    SERVICES,
    QUOTAS,
    LIMIT_RANGES,
    ALL_NODES,
    DRAINS,
    BACKUPS,
    SQL,
    EVENTS,
    LOGS,
    HISTORY,
    TELL,
    OPERATOR,
    SETTINGS,
    NODES,
];
/// What `switchover` needs.
pub(crate) const SWITCHOVER: &[Right] = &[
    GET_CLUSTER,
    WORKLOAD,
    PODS,
    PATRONI,
    MEMBERS,
    CHECKPOINT,
    HISTORY,
    TELL,
    OPERATOR,
    SETTINGS,
    NODES,
];

/// The rights of every command, by its name.
pub(crate) const COMMANDS: &[(&str, &[Right])] = &[
    ("status", STATUS),
    ("plan", PLAN),
    ("up", SCALE),
    ("down", SCALE),
    ("set", SCALE),
    ("switchover", SWITCHOVER),
    ("wait", WAIT),
    ("verify", VERIFY),
    ("history", PAST),
    ("undo", SCALE),
    ("rules", &[]),
    ("completion", &[]),
    ("version", &[]),
];

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
    fn can_i(&self, verb: &str, namespace: &str) -> String {
        let resource = Self { subresource: "", ..*self }.named();
        // `pods/exec` would be the pod named exec.
        let sub = if self.subresource.is_empty() {
            String::new()
        } else {
            format!(" --subresource={}", self.subresource)
        };
        let place = match self.place {
            Place::Namespace => format!(" -n {namespace}"),
            Place::Everywhere | Place::Operator => " -A".to_owned(),
        };
        format!("kubectl auth can-i {verb} {resource}{sub}{place}")
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
            name: (self.resource == "postgresqls").then(|| cluster.to_owned()),
            namespace: (self.place == Place::Namespace).then(|| namespace.to_owned()),
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
    for Right { ways, need } in *rights {
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
    rights: &[Right],
    facts: &Facts,
    leader_moves: bool,
) -> Result<(), Failure> {
    let cluster = &facts.change.new;
    let asked = rights.iter().filter(|right| match right.need {
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
        let seconds = PATIENCE.as_secs();
        session.out.warning(&format!("rights not checked: no answer within {seconds} s"));
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
            failure = failure.hint(format!(
                "test it: {}{}",
                way.can_i(verb, &cluster.namespace),
                session.flags
            ));
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
        (_, Some(namespace)) => format!(" in namespace {namespace}"),
        (_, None) => String::new(),
    };
    format!("{}{place}", words.join(" or "))
}

#[cfg(test)]
mod tests;
