//! The operator: its identity, its presence, and its effect on this cluster.

use crate::assessment::Assessment;
use crate::change::Direction;
use crate::evidence::Evidence;
use crate::facts::{Facts, Seen};
use crate::operator::account::{create_list, edit_list};
use crate::policy::Policies;
use crate::postgresql::CONTROLLER_ANNOTATION;
use crate::remedy::{Command, Remedy};
use crate::rule_id::RuleId;
use crate::rules::applies::{Applies, CHANGE, CREATE, DOWN, UP};
use crate::rules::reads::{self, Read};
use crate::rules::{Kind, Rule, inputs, unread};
use crate::verdict::{Finding, Outcome, Severity};

/// The status words by which the operator says that its last work on a cluster failed
/// (`pkg/apis/acid.zalan.do/v1/const.go`).
const FAILED: &[&str] = &["CreateFailed", "Invalid", "SyncFailed", "UpdateFailed"];

pub(super) const LIMITS_UNKNOWN: Rule = Rule {
    id: RuleId::LIMITS_UNKNOWN,
    title: "no operator was found whose limits could be looked at",
    applies: Applies::on(&[CHANGE, CREATE]),
    default: "warn",
    kind: Kind::Bound,
    page: "\
The operator applies its `min_instances` and `max_instances` silently, and no operator was found that owns
this cluster. The count asked for is judged as it is written; what would run may be another number.

Looked for: Deployments that run under an account listed in ConfigMap kube-public/pgscale-operators. Without
that list: the only Deployment of the Kubernetes cluster that runs under an account named postgres-operator
or names an operator's configuration; of several none is believed. Labels decide nothing. Of those, the ones
whose CONTROLLER_ID is the cluster's annotation `acid.zalan.do/controller` and that watch its namespace. An
operator that is there and whose settings cannot be read is a matter of operator-limits.

Where several Deployments may be the operator and none is listed, operator-limits cannot be judged: a shrink
is refused, growth is warned of.

Way out: list the accounts of all operators, or correct the annotation (`acid.zalan.do/controller`) of the
cluster. This lists what was found, and the commands that make the list:

    kubectl pgscale doctor -n NAMESPACE
    kubectl get postgresql NAME -n NAMESPACE -o yaml",
    reads: &[inputs::operator_limits],
    needs: reads::COUNT,
    check: limits_unknown,
    #[cfg(any(test, feature = "testing"))]
    table: tests::limits_unknown,
};

fn limits_unknown(facts: &Assessment<'_>, _: &Policies) -> Outcome {
    match &facts.operator {
        Seen::Known(_) => Outcome::Pass,
        // One hidden fact is reported once, by operator-limits.
        Seen::Unreadable(_) => Outcome::NotApplicable,
        Seen::Absent => {
            let mut finding = Finding::warn(
                LIMITS_UNKNOWN.id,
                format!(
                    "no operator of {} was found: {} instances are asked for, its limits may make it another \
                     number",
                    facts.change.cluster(),
                    facts.requested()
                ),
            );
            finding.evidence.push(without_owner(facts));
            Outcome::Found(finding.remedy(own()))
        }
    }
}

pub(super) const OPERATOR_ABSENT: Rule = Rule {
    id: RuleId::OPERATOR_ABSENT,
    title: "no operator would carry the change out now",
    applies: Applies::on(&[UP, DOWN.to_at_least(1)]),
    default: "down: deny if the leader is removed, else warn; up: warn",
    kind: Kind::Live,
    page: "\
No operator owns this cluster or watches its namespace, or the operator that does is down. The new count would
be stored, and carried out when an operator comes back: hours later, in a state that no rule has checked.
Where the leader is on an ordinal that is removed, no check of the candidates is valid any more by then.

Signals: Deployments under the operators' accounts (see limits-unknown), their CONTROLLER_ID against the
cluster's annotation `acid.zalan.do/controller`, the namespaces they watch, their available replicas. Denied
where the leader is not known to stay.

Blind spots: an operator that is available and hangs, or is busy with another cluster of the same worker for
minutes. One that does not run as a Deployment is not found.

Way out: bring the operator back (here it is called postgres-operator, in its NAMESPACE). `kubectl pgscale down
NAME --to N` moves the leader first, which needs no operator; then only a warning is left.

    kubectl get deployment/postgres-operator -n NAMESPACE
    kubectl describe deployment/postgres-operator -n NAMESPACE

Upstream: hasOwnership and getEffectiveNamespace, pkg/controller/controller.go.",
    reads: &[inputs::operator_runs, inputs::leader],
    needs: reads::COUNT.and(&[Read::Pods, Read::Leader]),
    check: operator_absent,
    #[cfg(any(test, feature = "testing"))]
    table: tests::operator_absent,
};

fn operator_absent(facts: &Assessment<'_>, _: &Policies) -> Outcome {
    let harmless = match facts.direction() {
        Direction::Up => true,
        Direction::Create | Direction::Down | Direction::Same => facts.leader_stays(),
    };
    let (absence, evidence) = match &facts.operator {
        Seen::Known(operator) => match operator.available {
            Some(true) => return Outcome::Pass,
            None if harmless => return Outcome::Pass,
            None => {
                return Outcome::Unknown(format!(
                    "whether {} runs is not known",
                    operator.deployment
                ));
            }
            Some(false) => (
                "the operator is down",
                Evidence::new(operator.deployment.clone(), "status.availableReplicas", 0),
            ),
        },
        // The rule operator-limits reports it. Here it only matters where a denial might be missed.
        Seen::Unreadable(_) if harmless => return Outcome::NotApplicable,
        Seen::Unreadable(why) => return unread("whether an operator runs", why),
        Seen::Absent => (
            "no operator was found that owns this cluster and watches its namespace",
            without_owner(facts),
        ),
    };
    let cluster = facts.change.cluster();
    let (severity, message) = if harmless {
        (Severity::Warn, format!("{absence}: the new count of {cluster} will wait for one"))
    } else {
        (
            Severity::Deny,
            format!(
                "{absence}: the new count of {cluster} would wait for one, and the leader be deleted then, on \
                 facts that no rule checked"
            ),
        )
    };
    let mut finding = Finding::new(OPERATOR_ABSENT.id, severity, message)
        .if_leader_goes(!harmless && facts.leader_condemned());
    finding.evidence.push(evidence);
    Outcome::Found(finding.remedy(start_operator(facts).unwrap_or_else(own)))
}

/// Returns the remedy that makes an operator work on the cluster. `None` where one runs, or where
/// that is not known.
pub(super) fn start_operator(facts: &Facts) -> Option<Remedy> {
    let operator = match &facts.operator {
        Seen::Known(operator) if operator.available == Some(false) => operator,
        Seen::Absent => return Some(own()),
        Seen::Known(_) | Seen::Unreadable(_) => return None,
    };
    let deployment = operator.deployment.argument();
    let namespace = operator.deployment.namespace.as_deref().unwrap_or_default();
    let scale = ["scale", &deployment, "--replicas=1", "-n", namespace];
    let see = Command::kubectl(["get", "deployment,pods", "-n", namespace]);
    Some(
        Remedy::to("see why the operator is down", see)
            .or_to("if it was scaled to 0", Command::kubectl(scale)),
    )
}

pub(super) const OPERATOR_FAILED: Rule = Rule {
    id: RuleId::OPERATOR_FAILED,
    title: "the operator's last work on this cluster failed",
    applies: Applies::on(&[CHANGE]),
    default: "warn",
    kind: Kind::Live,
    page: "\
The operator says of this cluster UpdateFailed, SyncFailed, CreateFailed or Invalid. Whatever stopped it then
may stop it again, half-way through this change. An invalid manifest is not carried out at all.

Signals: `status.PostgresClusterStatus` of the postgresql object.

Blind spots: the word may be about something else, such as a role or a database; it goes back to Running with
the next synchronisation that works; most failures to reach single pods are only logged. Running proves
nothing.

Way out: the operator's log says what failed (here it is called postgres-operator, in its NAMESPACE), and so do
the Events of the cluster. Mend that first, or go on: the change itself may be the cure.

    kubectl logs deployment/postgres-operator -n NAMESPACE --tail=100
    kubectl describe postgresql NAME -n NAMESPACE

Upstream: Update and Sync, pkg/cluster/cluster.go and sync.go; #2101 and #2102 of zalando/postgres-operator.",
    reads: &[inputs::status],
    needs: reads::COUNT,
    check: operator_failed,
    #[cfg(any(test, feature = "testing"))]
    table: tests::operator_failed,
};

fn operator_failed(facts: &Assessment<'_>, _: &Policies) -> Outcome {
    let cluster = facts.change.old.as_ref().unwrap_or(&facts.change.new);
    let Some(word) = cluster.status.as_deref().filter(|word| FAILED.contains(word)) else {
        return Outcome::Pass;
    };
    Outcome::Found(
        Finding::warn(
            OPERATOR_FAILED.id,
            format!("the operator's last work on {} failed: {word}", facts.change.cluster()),
        )
        .because(facts.postgresql_source(), "status.PostgresClusterStatus", word)
        .remedy("look into the operator's log for the reason, and mend it first"),
    )
}

pub(super) const STANDBY_CLUSTER: Rule = Rule {
    id: RuleId::STANDBY_CLUSTER,
    title: "a standby cluster is supported with one instance only",
    applies: Applies::on(&[CHANGE.to_at_least(2), CREATE.to_at_least(2)]),
    default: "warn",
    kind: Kind::Bound,
    page: "\
The manifest declares a standby of another cluster (`spec.standby`, or STANDBY_WALE_… in `spec.env`). The
operator supports those with one instance; it logs that more are unsupported, applies its ordinary limits and
runs them (`getNumberOfInstances`, pkg/cluster/k8sres.go). The members beyond the first replicate from the
standby leader in cascade.

Way out: one instance, or promote the cluster before it grows (remove `spec.standby`: from then on it accepts
writes, and follows its source no more).

    kubectl pgscale set NAME 1 -n NAMESPACE
    kubectl edit postgresql NAME -n NAMESPACE",
    reads: &[inputs::count, inputs::standby],
    needs: reads::COUNT,
    check: standby_cluster,
    #[cfg(any(test, feature = "testing"))]
    table: tests::standby_cluster,
};

fn standby_cluster(facts: &Assessment<'_>, _: &Policies) -> Outcome {
    let cluster = &facts.change.new;
    if !cluster.is_standby() {
        return Outcome::Pass;
    }
    let (field, value) = if cluster.spec.get("standby").is_some_and(serde_json::Value::is_object) {
        ("spec.standby", "set")
    } else {
        ("spec.env", "sets STANDBY_WALE_…")
    };
    Outcome::Found(
        Finding::warn(
            STANDBY_CLUSTER.id,
            format!(
                "{} is a standby cluster, which the operator supports with 1 instance only; {} would run",
                facts.change.cluster(),
                facts.to()
            ),
        )
        .because(facts.postgresql_source(), field, value)
        .remedy("keep 1 instance until the cluster is promoted"),
    )
}

/// Returns the remedy that makes an operator own the cluster.
fn own() -> Remedy {
    Remedy::note("start an operator that owns the cluster and watches its namespace")
        .or_to(
            "if it runs, add its account to the list (operatorAccounts of the chart)",
            edit_list(),
        )
        .or_to("where there is no list yet", create_list())
}

/// Returns the cluster's part in the reason why no operator was found: the id by which it chooses one.
fn without_owner(facts: &Assessment<'_>) -> Evidence {
    let field = format!("annotation {CONTROLLER_ANNOTATION}");
    let namespace = &facts.change.new.namespace;
    let value = match facts.change.new.controller() {
        "" => format!("unset, and no operator without CONTROLLER_ID watches {namespace}"),
        id => format!("{id}, and no operator with this CONTROLLER_ID watches {namespace}"),
    };
    Evidence::new(facts.postgresql_source(), &field, value)
}

#[cfg(any(test, feature = "testing"))]
#[cfg_attr(not(test), allow(dead_code, unused_imports, reason = "only tables are used"))]
#[allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::wildcard_imports,
    reason = "a table is a test"
)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::facts::Facts;
    use crate::rules::testing::{Want, healthy, led_by_the_last, table, text};

    fn seen(mut facts: Facts, operator: Seen<crate::operator::Operator>) -> Facts {
        facts.operator = operator;
        facts
    }

    fn hidden(facts: Facts) -> Facts {
        seen(facts, Seen::Unreadable("deployments is forbidden".into()))
    }

    fn none(facts: Facts) -> Facts {
        seen(facts, Seen::Absent)
    }

    fn available(mut facts: Facts, available: Option<bool>) -> Facts {
        if let Seen::Known(operator) = &mut facts.operator {
            operator.available = available;
        }
        facts
    }

    fn created(mut facts: Facts) -> Facts {
        facts.change.old = None;
        facts
    }

    pub(super) fn limits_unknown() {
        table(
            "limits-unknown",
            vec![
                ("an operator is there", healthy(5, 3), Want::Pass),
                ("none, shrinking", none(healthy(5, 3)), Want::Warn),
                ("none, growing", none(healthy(3, 5)), Want::Warn),
                ("none, to zero", none(healthy(3, 0)), Want::Warn),
                ("none, created", none(created(healthy(3, 3))), Want::Warn),
                ("none, the count stays", none(healthy(3, 3)), Want::NotApplicable),
                ("hidden: operator-limits tells", hidden(healthy(5, 3)), Want::NotApplicable),
            ],
        );
        insta::assert_snapshot!(text("limits-unknown", &none(healthy(3, 5))), @"
        limits-unknown: no operator of db/acid-a was found: 5 instances are asked for, its limits may make it another number
          postgresql/acid-a: annotation acid.zalan.do/controller: unset, and no operator without CONTROLLER_ID watches db
          Try: start an operator that owns the cluster and watches its namespace
            if it runs, add its account to the list (operatorAccounts of the chart):
              kubectl edit configmap pgscale-operators -n kube-public
            where there is no list yet:
              kubectl create configmap pgscale-operators -n kube-public --from-literal=accounts=NAMESPACE/SERVICEACCOUNT,NAMESPACE/SERVICEACCOUNT
        ");
    }

    pub(super) fn operator_absent() {
        let lockless = available(healthy(5, 3), Some(false)).without_sight_of_the_lock();
        table(
            "operator-absent",
            vec![
                ("it is up", healthy(5, 3), Want::Pass),
                ("it is up, the leader is removed", led_by_the_last(3), Want::Pass),
                ("it is up, growing", healthy(3, 5), Want::Pass),
                ("it is down", available(healthy(5, 3), Some(false)), Want::Warn),
                (
                    "it is down, the leader is removed",
                    available(led_by_the_last(3), Some(false)),
                    Want::Deny,
                ),
                ("it is down, the leader is hidden", lockless, Want::Deny),
                ("it is down, growing", available(healthy(3, 5), Some(false)), Want::Warn),
                ("none", none(healthy(5, 3)), Want::Warn),
                ("none, the leader is removed", none(led_by_the_last(3)), Want::Deny),
                ("none, growing", none(healthy(3, 5)), Want::Warn),
                ("it may be down", available(healthy(5, 3), None), Want::Pass),
                (
                    "it may be down, the leader is removed",
                    available(led_by_the_last(3), None),
                    Want::Unknown,
                ),
                ("hidden, the leader is removed", hidden(led_by_the_last(3)), Want::Unknown),
                ("hidden: operator-limits tells", hidden(healthy(5, 3)), Want::NotApplicable),
                ("zero has its own rule", none(led_by_the_last(0)), Want::NotApplicable),
                ("the count stays", none(healthy(3, 3)), Want::NotApplicable),
            ],
        );
        insta::assert_snapshot!(text("operator-absent", &available(led_by_the_last(3), Some(false))), @"
        operator-absent: the operator is down: the new count of db/acid-a would wait for one, and the leader be deleted then, on facts that no rule checked
          deployment default/postgres-operator: status.availableReplicas: 0
          Try: see why the operator is down:
              kubectl get deployment,pods -n default
            if it was scaled to 0:
              kubectl scale deployment/postgres-operator --replicas=1 -n default
        ");
        let mut foreign = none(healthy(3, 5));
        foreign.change.new.annotations.insert(CONTROLLER_ANNOTATION.into(), "second".into());
        insta::assert_snapshot!(text("operator-absent", &foreign), @"
        operator-absent: no operator was found that owns this cluster and watches its namespace: the new count of db/acid-a will wait for one
          postgresql/acid-a: annotation acid.zalan.do/controller: second, and no operator with this CONTROLLER_ID watches db
          Try: start an operator that owns the cluster and watches its namespace
            if it runs, add its account to the list (operatorAccounts of the chart):
              kubectl edit configmap pgscale-operators -n kube-public
            where there is no list yet:
              kubectl create configmap pgscale-operators -n kube-public --from-literal=accounts=NAMESPACE/SERVICEACCOUNT,NAMESPACE/SERVICEACCOUNT
        ");
    }

    pub(super) fn operator_failed() {
        let saying = |word: &str, from, to| {
            let mut facts = healthy(from, to);
            for cluster in [facts.change.old.as_mut(), Some(&mut facts.change.new)] {
                cluster.unwrap().status = Some(word.to_owned());
            }
            facts
        };
        table(
            "operator-failed",
            vec![
                ("Running", healthy(5, 3), Want::Pass),
                ("Updating is no failure", saying("Updating", 5, 3), Want::Pass),
                ("UpdateFailed", saying("UpdateFailed", 5, 3), Want::Warn),
                ("SyncFailed, growing", saying("SyncFailed", 3, 5), Want::Warn),
                ("CreateFailed", saying("CreateFailed", 3, 5), Want::Warn),
                ("Invalid", saying("Invalid", 5, 3), Want::Warn),
                ("the count stays", saying("Invalid", 3, 3), Want::NotApplicable),
                ("created", created(saying("Invalid", 3, 3)), Want::NotApplicable),
            ],
        );
        insta::assert_snapshot!(text("operator-failed", &saying("SyncFailed", 3, 5)), @"
        operator-failed: the operator's last work on db/acid-a failed: SyncFailed
          postgresql/acid-a: status.PostgresClusterStatus: SyncFailed
          Try: look into the operator's log for the reason, and mend it first
        ");
    }

    pub(super) fn standby_cluster() {
        let standby = |from, to| {
            healthy(from, to).editing(|spec| spec["standby"] = json!({"standby_host": "h"}))
        };
        let archive = healthy(1, 2).editing(|spec| {
            spec["env"] = json!([{"name": "STANDBY_WALE_S3_PREFIX", "value": "s3://x"}]);
        });
        table(
            "standby-cluster",
            vec![
                ("no standby", healthy(1, 3), Want::Pass),
                ("grows", standby(1, 2), Want::Warn),
                ("by its environment", archive, Want::Warn),
                ("shrinks, to more than one", standby(5, 2), Want::Warn),
                ("shrinks to one", standby(2, 1), Want::NotApplicable),
                ("created with two", created(standby(2, 2)), Want::Warn),
                ("created with one", created(standby(1, 1)), Want::NotApplicable),
                ("the count stays", standby(2, 2), Want::NotApplicable),
            ],
        );
        insta::assert_snapshot!(text("standby-cluster", &standby(1, 2)), @"
        standby-cluster: db/acid-a is a standby cluster, which the operator supports with 1 instance only; 2 would run
          postgresql/acid-a: spec.standby: set
          Try: keep 1 instance until the cluster is promoted
        ");
    }
}
