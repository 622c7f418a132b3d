//! Patroni's DCS store, and the behaviour of a new member when the store changes.

use crate::assessment::Assessment;
use crate::change::Direction;
use crate::evidence::Evidence;
use crate::facts::{CLOCK_GRACE, Seen, StatefulSet};
use crate::object_ref::{self, ObjectRef};
use crate::operator::account::{create_list, edit_list};
use crate::operator::{Operator, SPEC_ENV, SPEC_ENV_FROM};
use crate::patroni::Store;
use crate::policy::Policies;
use crate::remedy::{Command, Remedy};
use crate::rule_id::RuleId;
use crate::rules::applies::{Applies, CHANGE, CREATE};
use crate::rules::reads::{self, Read};
use crate::rules::{Kind, Rule, inputs, members_unseen, pgscale, status, unread, wait};
use crate::verdict::{Finding, Outcome};

/// The operator's own page on the change.
const MIGRATION: &str = "https://github.com/zalando/postgres-operator/blob/master/docs/migrate.md";

pub(super) const DCS_STORE_CHANGING: Rule = Rule {
    id: RuleId::DCS_STORE_CHANGING,
    title: "a new member would look for the cluster in another place and found an empty one",
    applies: Applies::on(&[CHANGE, CREATE]).noted("if it adds members"),
    default: "deny",
    kind: Kind::Bound,
    page: "\
Patroni keeps the leader lock and the cluster's identity in Endpoints (operators 1.x), in ConfigMaps (2.x) or
in an etcd. While that changes, the operator writes the new count and the new variables in one update: the pod
that is added finds an empty store, runs initdb and leads an empty database, and the members that hold the
rows end with \"system ID mismatch\". Staged on a real stack with 1.15.1 to 2.0.1, four times out of four; with
two members more, two leaders stood behind one Service.

Denied while the store that the operator would give new members, the StatefulSet's template and the running
pods do not all name one. The operator takes it from its settings (kubernetes_use_configmaps, etcd_host; unset
means Endpoints in 1.x and ConfigMaps in 2.x), then from spec.env, from pod_environment_secret and from
pod_environment_configmap; the first variable of a name counts, and any text means yes, even \"false\". Denied
as well where spec.envFrom names an object that the template does not, and where the pods are in Endpoints,
kubernetes_use_configmaps is unset and the operator's version is not known. No repair excuses it. Warned of
where every member runs and the change keeps a leader that would be deleted otherwise. Growth is only warned
of where the operator could not be read or none was found, as all growth on an unread fact is: a user without
the right to read the operator could never grow a cluster, and a Deployment that only looks like an operator
would stop all growth. `whenUnknown: {up: Deny}` of a policy refuses it.

At zero, or for a CREATE over kept volumes, denied where Patroni's state is in the other kind of object, or is
newer there: the operator's resync moved the store while the cluster slept, and the first member to start
would lead from its own data. Denied as well where a fact that this rests on could not be read, unless the one
volume that is left is all that starts.

Signals: the operator's settings; its version by the tag of its image, else by the labels of its chart, else
by a template that it wrote since its start; spec.env and spec.envFrom; the ConfigMap of
pod_environment_configmap; KUBERNETES_USE_CONFIGMAPS, KUBERNETES_USE_ENDPOINTS, ETCD_HOST and
DCS_ENABLE_KUBERNETES_API of the template and of each pod; at zero, Patroni's objects of both kinds.

Blind spots: a key that was added to the Secret of pod_environment_secret since the operator's last write, as
no Secret is read; an object of spec.envFrom that was edited since; another address of the same kind of store.
Pods and templates that no operator made say nothing.

Way out: this shows the store that each object names, and the object of the operator's settings:

    kubectl pgscale plan NAME --to N -n NAMESPACE -o wide

Set kubernetes_use_configmaps or etcd_host back to what the template and the pods say, at zero to where the
state is. Other clusters of the same operator follow that setting, so look at their plans first. Here the
settings and the operator are called postgres-operator, in the operator's NAMESPACE:

    kubectl edit configmap/postgres-operator -n NAMESPACE
    kubectl rollout restart deployment/postgres-operator -n NAMESPACE

It is over when the plan above does not name this rule any more. To move the store, which the operator's page
on migration does with a single member, because several would have two leaders for some time: shrink to 1, edit
the setting and restart the operator as above, wait until the pod was replaced, and grow again:

    kubectl pgscale down NAME --to 1 -n NAMESPACE
    kubectl pgscale wait NAME -n NAMESPACE
    kubectl pgscale up NAME --to N -n NAMESPACE

If it has happened, a new member (-1 here) leads an empty database, and -0 with the rows ends with \"system ID
mismatch\". Delete no volume and reinitialise no member. -0 touches nothing while the key `initialize` names
the other database, so there is time. Stop the clients, and save what they wrote since, with pg_dumpall in the
member that leads. Allow the change to 1 with every rule that refuses it, and make it: the pod of the empty
leader goes, and its volume stays. Only when -1 has no pod any more remove the key (endpoints/ where Patroni
keeps its state there): while -1 leads, -0 would be made again from it. Then -0 starts at once, and takes the
lead with its rows. When you need nothing from -1, delete its claim, and finish the migration:

    kubectl pgscale override NAME --to 1 --rules RULE --reason TEXT -n NAMESPACE
    kubectl pgscale set NAME 1 -n NAMESPACE
    kubectl annotate configmap/NAME-config initialize- -n NAMESPACE
    kubectl delete pod NAME-0 -n NAMESPACE
    kubectl delete pvc pgdata-NAME-1 -n NAMESPACE

Upstream: generateSpiloPodEnvVars and appendEnvVars, pkg/cluster/k8sres.go; get_dcs_config,
scripts/configure_spilo.py; docs/migrate.md; bootstrap, patroni/ha.py.",
    reads: &[inputs::stores, inputs::elsewhere],
    needs: reads::COUNT.and(&[
        Read::StatefulSet,
        Read::Pods,
        Read::Leader,
        Read::Claims,
        Read::Initialize,
    ]),
    check: dcs_store_changing,
    #[cfg(any(test, feature = "testing"))]
    table: tests::dcs_store_changing,
};

fn dcs_store_changing(facts: &Assessment<'_>, policies: &Policies) -> Outcome {
    let outcome = judged(facts);
    if !starts_from_volumes(facts) {
        return outcome;
    }
    // Growth on an unknown fact passes elsewhere. Here it may start the cluster from older data.
    let (why, remedy) = match outcome {
        Outcome::Unknown(why) => {
            (why, Remedy::to("ask again once it can be read; what is seen", status(facts)))
        }
        Outcome::Unsaid { why, remedy } => (why, remedy),
        Outcome::NotApplicable | Outcome::Pass | Outcome::Found(_) => return outcome,
    };
    let message = format!(
        "cannot be judged: {why}, and members that look elsewhere for Patroni's state may start from \
         older data"
    );
    let finding = Finding::deny(DCS_STORE_CHANGING.id, message);
    let seen = inputs::stores(facts, policies);
    let finding = seen.into_iter().fold(finding, Finding::because_of);
    Outcome::Found(finding.unexcused().remedy(remedy))
}

fn judged(facts: &Assessment<'_>) -> Outcome {
    if facts.direction() != Direction::Up && !facts.adds_members() {
        return Outcome::NotApplicable;
    }
    let Seen::Known(members) = &facts.members else { return members_unseen(facts) };
    let set = match &facts.stateful_set {
        Seen::Known(set) => Some(set),
        Seen::Absent => None,
        Seen::Unreadable(why) => return unread("the StatefulSet", why),
    };
    if members.is_empty()
        && let Some(outcome) = moved_while_asleep(facts)
    {
        return outcome;
    }
    let template = set
        .and_then(|set| set.store)
        .map(|store| (store, Evidence::new(facts.stateful_set_source(), STORE, store)));
    let pods = members.iter().filter_map(|member| {
        let store = member.pod.store?;
        Some((store, Evidence::new(ObjectRef::pod(&member.name), STORE, store)))
    });
    let made: Vec<(Store, Evidence)> = template.into_iter().chain(pods).collect();
    if made.is_empty() {
        return Outcome::Pass;
    }
    let next = next_store(facts, set);
    let in_endpoints = made.iter().any(|(store, _)| *store == Store::Endpoints);
    let mut stated: Vec<(Store, Evidence)> = Vec::new();
    if let Next::Known { store, evidence, .. } = &next {
        stated.push((*store, evidence.clone()));
    }
    stated.extend(made);
    let first = stated.first().map_or(Store::Unknown, |(store, _)| *store);
    let evidence: Vec<Evidence> = stated.iter().map(|(_, evidence)| evidence.clone()).collect();
    if stated.iter().any(|(store, _)| *store != first) {
        return Outcome::Found(changing(facts, &next, evidence));
    }
    match next {
        Next::Known { .. } => Outcome::Pass,
        Next::Unreadable { what, why } => unread(what, &why),
        Next::Unresolved(why) => {
            let finding = Finding::deny(DCS_STORE_CHANGING.id, cannot_be_judged(&why));
            let finding = evidence.into_iter().fold(finding, Finding::because_of);
            let note = "leave spec.envFrom as it is in this change: first the count, then the rest";
            Outcome::Found(finding.remedy(note))
        }
        // An operator of 2.x moves Endpoints to ConfigMaps with its next write.
        Next::Unsaid { why, remedy, by: By::Version } if in_endpoints => {
            let finding = Finding::deny(DCS_STORE_CHANGING.id, cannot_be_judged(&why));
            let finding = evidence.into_iter().fold(finding, Finding::because_of);
            Outcome::Found(finding.remedy(remedy))
        }
        Next::Unsaid { by: By::Absence, .. } if !in_endpoints => Outcome::Pass,
        Next::Unsaid { why, remedy, .. } => Outcome::Unsaid { why, remedy },
    }
}

/// Returns whether the change brings a cluster back from zero by more than the one volume that is left.
///
/// In an empty store the first member to start leads, whatever it lacks, and one without data founds an
/// empty cluster. A single member with the only volume has all that is left.
fn starts_from_volumes(facts: &Assessment<'_>) -> bool {
    if facts.from() != Some(0) || !facts.all_members().is_empty() {
        return false;
    }
    match &facts.claims {
        Seen::Known(claims) => {
            let alone = facts.to() == 1 && claims.iter().all(|claim| claim.ordinal == 0);
            !claims.is_empty() && !alone
        }
        Seen::Absent => false,
        Seen::Unreadable(_) => true,
    }
}

/// The field of every object that names the store.
const STORE: &str = "store of Patroni";

fn cannot_be_judged(why: &str) -> String {
    format!("cannot be judged: {why}, and a new member may found an empty cluster")
}

/// The store of the members that the operator makes next.
enum Next {
    Known {
        store: Store,
        evidence: Evidence,
        /// The field or the setting that names another one than the operator's own settings.
        moved_by: Option<&'static str>,
    },
    /// Where nothing says it.
    Unsaid { why: String, remedy: Remedy, by: By },
    /// The write takes variables from whole objects that are not read.
    Unresolved(String),
    /// Where a source could not be read.
    Unreadable { what: &'static str, why: String },
}

/// The reason for which nothing says where the next members keep their state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    /// No operator was found.
    Absence,
    /// The operator could not be read. Growth on an unread fact passes with a warning: a user without
    /// the rights to read the operator grows a healthy cluster, and no look-alike keeps one from it.
    Sight,
    /// The operator is there, and its version decides and is not known.
    Version,
}

fn next_store(facts: &Assessment<'_>, set: Option<&StatefulSet>) -> Next {
    let operator = match &facts.operator {
        Seen::Known(operator) => operator,
        // Without an operator no member is made, but the one that comes makes all that are missing.
        Seen::Absent => {
            return Next::Unsaid {
                why: "no operator was found, and one of 2.x would have Patroni keep its state in \
                      ConfigMaps"
                    .to_owned(),
                remedy:
                    "set kubernetes_use_configmaps of the operator that comes to what the pods \
                         use"
                    .into(),
                by: By::Absence,
            };
        }
        Seen::Unreadable(why) => {
            return Next::Unsaid {
                why: format!("the operator and its settings could not be read ({why})"),
                remedy: Remedy::note("ask again once they can be read")
                    .or_to(
                        "where several Deployments may be the operator, list its account",
                        edit_list(),
                    )
                    .or_to("where there is no list yet", create_list()),
                by: By::Sight,
            };
        }
    };
    let stores = operator.stores(&facts.change.new.spec, set.map(|set| &*set.given));
    if let Some((what, why)) = stores.unread {
        return match what {
            SPEC_ENV_FROM => Next::Unresolved(format!("{what} is not read, {why}")),
            _ => Next::Unreadable { what, why },
        };
    }
    let by_template = set.and_then(|set| set.store).filter(|_| wrote(operator, set));
    let (store, source, field) = match (stores.possible.as_slice(), by_template) {
        ([store], _) => {
            let (source, field) = match stores.moved_by {
                None => (operator.source.clone(), STORE.to_owned()),
                Some(by @ SPEC_ENV) => (facts.postgresql_source(), format!("{STORE} by {by}")),
                Some(by) => (operator.source.clone(), format!("{STORE} by {by}")),
            };
            (*store, source, field)
        }
        (possible, Some(store)) if possible.contains(&store) => {
            (store, operator.deployment.clone(), format!("{STORE} by its last write"))
        }
        _ => {
            let why = format!(
                "kubernetes_use_configmaps is not set in {}, and neither the image nor a label of {} names a \
                 version",
                operator.source, operator.deployment
            );
            let used = set.and_then(|set| set.store).unwrap_or(Store::Endpoints);
            return Next::Unsaid {
                why,
                remedy: keep(operator, used, "which is what the pods use"),
                by: By::Version,
            };
        }
    };
    Next::Known { store, evidence: Evidence::new(source, &field, store), moved_by: stores.moved_by }
}

/// Returns whether the operator wrote the template since its start: then the template is what it
/// makes of its settings, whatever its version.
fn wrote(operator: &Operator, set: Option<&StatefulSet>) -> bool {
    let (Some(started), Some(written)) = (operator.started, set.and_then(|set| set.written)) else {
        return false;
    };
    started.checked_add(CLOCK_GRACE).is_ok_and(|started| written > started)
}

/// Returns the remedy that makes the operator keep `store`, for the reason `used`.
fn keep(operator: &Operator, store: Store, used: &str) -> Remedy {
    let (field, word) = ("kubernetes_use_configmaps", store == Store::ConfigMaps);
    let note = format!("set {field} to {word}, {used}, and restart the operator");
    let source = &operator.source;
    let patch = if source.kind == object_ref::Kind::ConfigMap {
        format!(r#"{{"data":{{"{field}":"{word}"}}}}"#)
    } else if source.kind == object_ref::Kind::OperatorConfiguration {
        format!(r#"{{"configuration":{{"{field}":{word}}}}}"#)
    } else {
        return Remedy::note(note);
    };
    let namespace = |it: &ObjectRef| it.namespace.clone().unwrap_or_default();
    let (object, own) = (source.argument(), namespace(source));
    let patch = ["patch", &object, "-n", &own, "--type", "merge", "-p", &patch];
    let (deployment, place) = (operator.deployment.argument(), namespace(&operator.deployment));
    let restart = ["rollout", "restart", &deployment, "-n", &place];
    Remedy::note(note).or(Command::kubectl(patch)).or(Command::kubectl(restart))
}

/// Returns the finding that the stores differ.
fn changing(facts: &Assessment<'_>, next: &Next, evidence: Vec<Evidence>) -> Finding {
    let leader = facts.doomed_leader();
    let stays = |ordinal: i64| {
        let members = facts.all_members();
        members.iter().any(|member| member.ordinal == ordinal && !member.pod.terminating)
    };
    // No member is added, and without the change the leader's pod goes.
    if let Some(leader) = leader
        && (0..facts.to()).all(stays)
    {
        let finding = Finding::warn(
            DCS_STORE_CHANGING.id,
            format!(
                "where Patroni keeps its state is being changed; every member of {} runs, and this \
                 keeps the leader {}",
                facts.change.cluster(),
                leader.name
            ),
        );
        let finding = evidence.into_iter().fold(finding, Finding::because_of);
        let lowest = facts.from().unwrap_or(1).max(1).to_string();
        let first = pgscale(facts, "switchover", &["--for", &lowest]);
        return finding.remedy(Remedy::to("then move the leader off the removed members", first));
    }
    let finding = Finding::deny(
        DCS_STORE_CHANGING.id,
        format!(
            "where Patroni keeps its state is being changed: a new member of {} would found an empty cluster",
            facts.change.cluster()
        ),
    );
    let finding = evidence.into_iter().fold(finding, Finding::because_of);
    if leader.is_some() {
        return finding.remedy(wait(facts));
    }
    let moved_by = match next {
        Next::Known { moved_by, .. } => *moved_by,
        Next::Unsaid { .. } | Next::Unresolved(_) | Next::Unreadable { .. } => None,
    };
    finding.remedy(match moved_by {
        Some(SPEC_ENV) => {
            "leave the variables of Patroni's store out of spec.env: first the count, then the rest"
                .to_owned()
        }
        Some(setting) => format!(
            "take the variables of Patroni's store out of the object that {setting} names, or finish that at the present \
             count first: {MIGRATION}"
        ),
        None => format!(
            "finish that at the present count first, until every pod has been replaced: {MIGRATION}"
        ),
    })
}

/// Judges a cluster without members whose state is in the other kind of object.
///
/// The first member to start writes the key `initialize` from its own data there and leads, whatever
/// it lacks: the new store knows no position of the last leader (`post_recover` and `bootstrap`,
/// patroni/ha.py).
fn moved_while_asleep(facts: &Assessment<'_>) -> Option<Outcome> {
    let nothing_kept = match &facts.claims {
        Seen::Known(claims) => claims.is_empty(),
        Seen::Absent => true,
        Seen::Unreadable(_) => false,
    };
    // A new cluster has nothing to lose.
    if nothing_kept {
        return None;
    }
    let left = match &facts.elsewhere {
        Seen::Known(left) => left,
        Seen::Unreadable(why) if facts.from() == Some(0) => {
            return Some(unread(
                "what is left of Patroni's state in the other kind of object",
                why,
            ));
        }
        Seen::Absent | Seen::Unreadable(_) => return None,
    };
    let here = facts.leader.known().and_then(|lock| lock.renewed);
    let newer = left.renewed > here;
    if !newer && facts.initialize != Seen::Absent {
        return None;
    }
    let there = left.source(&facts.change.new.name);
    let name = facts.change.cluster();
    let mut finding = Finding::deny(
        DCS_STORE_CHANGING.id,
        format!(
            "Patroni's state of {name} is in {}, and its members would look for it elsewhere: the first to start would lead, \
             whatever it lacks",
            left.store
        ),
    );
    if let Some(id) = &left.initialize {
        finding = finding.because(there.clone(), "initialize", id);
    }
    if let Some(leader) = &left.last_leader {
        finding = finding.because(there, "last leader", leader);
    }
    finding = match &facts.initialize {
        Seen::Known(id) => finding.because(facts.patroni_source("config"), "initialize", id),
        Seen::Absent | Seen::Unreadable(_) => {
            finding.because(facts.patroni_source("config"), "initialize", "unset")
        }
    };
    let by_cluster = facts.operator.known().and_then(|operator| {
        operator.stores(&facts.change.new.spec, None).moved_by.filter(|by| *by == SPEC_ENV)
    });
    let remedy = match (facts.operator.known(), by_cluster) {
        (_, Some(by)) => Remedy::note(format!("take the variables of Patroni's store out of {by}")),
        (Some(operator), None) => keep(operator, left.store, "which is where the state is"),
        (None, None) => format!("have the operator keep Patroni's state in {}", left.store).into(),
    };
    Some(Outcome::Found(finding.remedy(remedy).unexcused()))
}

#[cfg(any(test, feature = "testing"))]
#[cfg_attr(not(test), allow(dead_code, unused_imports, reason = "only tables are used"))]
#[allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::wildcard_imports,
    reason = "a table is a test"
)]
mod tests;
