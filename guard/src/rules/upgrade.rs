//! A major upgrade of PostgreSQL that the operator has not started yet.

use crate::assessment::Assessment;
use crate::change::Direction;
use crate::evidence::Evidence;
use crate::facts::{Facts, Live, Seen};
use crate::object_ref::{Kind as ObjectKind, ObjectRef};
use crate::operator::upgrade::{declared, declared_windows};
use crate::patroni::Role;
use crate::policy::Policies;
use crate::remedy::Remedy;
use crate::rule_id::RuleId;
use crate::rules::applies::{Applies, CHANGE};
use crate::rules::reads::{self, Read};
use crate::rules::{Kind, Rule, inputs, kubectl, members_unseen, unread};
use crate::verdict::{Finding, Outcome};

pub(super) const UPGRADE_PENDING: Rule = Rule {
    id: RuleId::UPGRADE_PENDING,
    title: "this change may start a major upgrade of PostgreSQL",
    applies: Applies::on(&[CHANGE.to_at_least(1)]),
    default: "warn",
    kind: Kind::Advisory,
    page: "\
The manifest asks for a newer PostgreSQL than the one that runs. The operator upgrades as the last step of
every update of the cluster, whatever that is about: a change of the count starts it, while pods end or are
being built. The script of the upgrade counts the members and stops when their number is not the one it
expects. While it runs, writes stop.

Signals: `spec.postgresql.version` against `server_version` in the leader's answer; of the operator's settings
major_version_upgrade_mode, major_version_upgrade_team_allow_list, minimal_major_version,
target_major_version, enable_maintenance_windows and maintenance_windows; `spec.maintenanceWindows`. Outside of
the window the operator starts none, and after one that failed it starts none until the annotation
`last-major-upgrade-failure` is gone. It upgrades no standby cluster.

Blind spots: growth for which the leader does not answer: then nothing is said. An operator whose clock is not
in UTC. The operator also waits until every replica streams with little lag, which is not looked at here.

Way out: let the upgrade happen first, in its own window, and change the count afterwards. Or change the count
outside of the window. This shows the version that the manifest asks for, and the windows:

    kubectl get postgresql NAME -n NAMESPACE -o jsonpath='{.spec.postgresql.version} {.spec.maintenanceWindows}'
    kubectl exec NAME-0 -n NAMESPACE -c postgres -- psql -U postgres -c 'SHOW server_version'

Upstream: majorVersionUpgrade and GetDesiredMajorVersion, pkg/cluster/majorversionupgrade.go; Update,
pkg/cluster/cluster.go; isInMaintenanceWindow, pkg/cluster/util.go.",
    reads: &[inputs::upgrades, inputs::server_version, inputs::leader],
    needs: reads::COUNT.and(&[Read::Pods, Read::Answers, Read::Leader]),
    check: upgrade_pending,
    #[cfg(any(test, feature = "testing"))]
    table: tests::upgrade_pending,
};

fn upgrade_pending(facts: &Assessment<'_>, _: &Policies) -> Outcome {
    let cluster = &facts.change.new;
    let operator = match &facts.operator {
        Seen::Known(operator) => operator,
        // No operator, no upgrade.
        Seen::Absent => return Outcome::Pass,
        Seen::Unreadable(why) => return unread("the operator's settings about upgrades", why),
    };
    let Some(wanted) = facts.upgrade_wanted() else { return Outcome::Pass };
    // An answer that was not asked for, or did not come, says nothing about growth.
    let silent = |why: String| match facts.direction() {
        Direction::Down => Outcome::Unknown(why),
        Direction::Create | Direction::Same | Direction::Up => Outcome::NotApplicable,
    };
    if let Seen::Unreadable(why) = &facts.leader {
        return silent(format!("the leader lock could not be read ({why})"));
    }
    if facts.members.known().is_none() {
        return match facts.direction() {
            Direction::Down => members_unseen(facts),
            Direction::Create | Direction::Same | Direction::Up => Outcome::NotApplicable,
        };
    }
    // Without a leader the operator starts none.
    let Some(leader) = facts.leader_member() else { return Outcome::Pass };
    let answer = match &leader.live {
        Live::Answered(answer) => answer,
        Live::NotAsked => return silent(format!("{} was not asked for its version", leader.name)),
        Live::Silent(why) => {
            return silent(format!("{} does not say its version ({why})", leader.name));
        }
    };
    if answer.role == Role::StandbyLeader {
        return Outcome::Pass;
    }
    let Some(runs) = answer.server_version else {
        return silent(format!("{} does not say its version", leader.name));
    };
    if u64::from(runs / 10_000) >= wanted {
        return Outcome::Pass;
    }
    let mut finding = Finding::warn(
        UPGRADE_PENDING.id,
        format!(
            "this change may start the upgrade of {} from PostgreSQL {} to {wanted}, which counts its members",
            facts.change.cluster(),
            runs / 10_000
        ),
    )
    .because(facts.source_of(leader), "server_version", runs)
    .because(
        facts.postgresql_source(),
        "spec.postgresql.version",
        declared(cluster).map_or("unset".to_owned(), |version| version.to_string()),
    );
    if declared(cluster) != Some(wanted) {
        finding = finding
            .because(operator.source.clone(), "major_version_upgrade_mode", "full")
            .because(operator.source.clone(), "target_major_version", wanted);
    }
    if let Some(windows) = declared_windows(cluster) {
        finding = finding.because(facts.postgresql_source(), "spec.maintenanceWindows", windows);
    }
    let name = &cluster.name;
    let about = format!("--field-selector=involvedObject.name={name}");
    let watch = ["get", "events", &about, "-w"];
    Outcome::Found(
        finding.remedy(
            Remedy::note("let the upgrade happen first, or change the count outside of the window")
                .or_to("its beginning and end", kubectl(facts, &watch)),
        ),
    )
}

impl Facts {
    /// Returns the major version to which the operator would upgrade the cluster with this change,
    /// where it runs an older one. `None` where it would start no upgrade now.
    pub(crate) fn upgrade_wanted(&self) -> Option<u64> {
        let operator = self.operator.known()?;
        operator.settings.upgrades.wanted(&self.change.new, operator.major, self.now)
    }
}

/// Returns what decides about the start of an upgrade, as evidence.
pub(super) fn looked_at(facts: &Facts) -> Vec<Evidence> {
    let cluster = &facts.change.new;
    let own = |field, value: Option<String>| {
        let value = value.unwrap_or_else(|| "unset".to_owned());
        Evidence::new(facts.postgresql_source(), field, value)
    };
    let mut all = vec![
        own("spec.postgresql.version", declared(cluster).map(|version| version.to_string())),
        own("spec.maintenanceWindows", declared_windows(cluster)),
    ];
    match &facts.operator {
        Seen::Known(operator) => all.push(Evidence::new(
            operator.source.clone(),
            "major_version_upgrade_mode",
            operator.settings.upgrades.mode.word(),
        )),
        Seen::Absent => all.push(Evidence::absent(ObjectRef::all(ObjectKind::Deployment))),
        Seen::Unreadable(why) => {
            all.push(Evidence::unreadable(ObjectRef::all(ObjectKind::Deployment), why));
        }
    }
    all
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
    use crate::operator::upgrade::Mode;
    use crate::rules::testing::{Want, healthy, table, text};

    /// Returns the facts with a manifest that asks for this version. Version 15 runs.
    fn asking(mut facts: Facts, version: &str) -> Facts {
        for cluster in facts.change.old.iter_mut().chain([&mut facts.change.new]) {
            cluster.spec["postgresql"]["version"] = json!(version);
        }
        facts
    }

    fn windows(mut facts: Facts, windows: &[&str]) -> Facts {
        for cluster in facts.change.old.iter_mut().chain([&mut facts.change.new]) {
            cluster.spec["maintenanceWindows"] = json!(windows);
        }
        facts
    }

    pub(super) fn upgrade_pending() {
        let newer = |from, to| asking(healthy(from, to), "16");
        let silent = |facts: Facts| facts.frozen(0);
        let with_mode =
            |facts: Facts, mode| facts.with_settings(|settings| settings.upgrades.mode = mode);
        let failed = |mut facts: Facts| {
            let annotations = &mut facts.change.new.annotations;
            annotations.insert("last-major-upgrade-failure".into(), "2026-11-01".into());
            facts
        };
        let mut no_operator = newer(3, 4);
        no_operator.operator = Seen::Absent;
        let mut hidden_operator = newer(3, 4);
        hidden_operator.operator = Seen::Unreadable("deployments is forbidden".into());
        let mut leaderless = newer(4, 3);
        leaderless.leader = Seen::Absent;
        table(
            "upgrade-pending",
            vec![
                ("the declared version runs", healthy(3, 4), Want::Pass),
                ("a newer one runs", asking(healthy(3, 4), "14"), Want::Pass),
                ("grows", newer(3, 4), Want::Warn),
                ("shrinks", newer(4, 3), Want::Warn),
                ("the version is no number", asking(healthy(4, 3), "latest"), Want::Pass),
                (
                    "rewritten within the operator's limits",
                    newer(5, 7).with_settings(|settings| settings.max_instances = 5),
                    Want::Warn,
                ),
                (
                    "the same write asks for it",
                    healthy(3, 4).editing(|spec| {
                        spec["postgresql"]["version"] = json!("16");
                    }),
                    Want::Warn,
                ),
                ("mode off", with_mode(newer(3, 4), Mode::Off), Want::Pass),
                (
                    "mode off, and the team may",
                    newer(3, 4).with_settings(|settings| {
                        settings.upgrades.mode = Mode::Off;
                        settings.upgrades.teams = vec!["acid".into()];
                    }),
                    Want::Warn,
                ),
                (
                    "mode full, below the minimum",
                    with_mode(healthy(3, 4), Mode::Full)
                        .with_settings(|settings| settings.upgrades.minimal = Some(16)),
                    Want::Warn,
                ),
                ("in the window", windows(newer(3, 4), &["Tue:09:00-11:00"]), Want::Warn),
                ("outside of the window", windows(newer(3, 4), &["01:00-06:00"]), Want::Pass),
                ("the last one failed", failed(newer(3, 4)), Want::Pass),
                (
                    "a standby cluster",
                    newer(3, 4).editing(|spec| {
                        spec["standby"] = json!({"standby_host": "h"});
                    }),
                    Want::Pass,
                ),
                (
                    "a standby cluster by its leader",
                    newer(3, 4).with_answer(0, |answer| answer.role = Role::StandbyLeader),
                    Want::Pass,
                ),
                ("no leader", leaderless, Want::Pass),
                ("no operator", no_operator, Want::Pass),
                ("operator unreadable", hidden_operator, Want::Unknown),
                ("shrinks, the leader is silent", silent(newer(4, 3)), Want::Unknown),
                ("grows, the leader is silent", silent(newer(3, 4)), Want::NotApplicable),
                (
                    "shrinks, lock unreadable",
                    newer(4, 3).without_sight_of_the_lock(),
                    Want::Unknown,
                ),
                ("shrinks, pods unreadable", newer(4, 3).without_sight_of_members(), Want::Unknown),
                ("to zero", newer(3, 0), Want::NotApplicable),
                ("the count stays", newer(3, 3), Want::NotApplicable),
            ],
        );
        insta::assert_snapshot!(
            text("upgrade-pending", &windows(newer(3, 4), &["Tue:09:00-11:00"])), @"
        upgrade-pending: this change may start the upgrade of db/acid-a from PostgreSQL 15 to 16, which counts its members
          http://10.244.0.10:8008/patroni: acid-a-0: server_version: 150004
          postgresql/acid-a: spec.postgresql.version: 16; spec.maintenanceWindows: Tue:09:00-11:00
          Try: let the upgrade happen first, or change the count outside of the window
            its beginning and end:
              kubectl get events --field-selector=involvedObject.name=acid-a -w -n db
        ");
        let full = with_mode(healthy(3, 4), Mode::Full)
            .with_settings(|settings| settings.upgrades.minimal = Some(16));
        insta::assert_snapshot!(text("upgrade-pending", &full), @"
        upgrade-pending: this change may start the upgrade of db/acid-a from PostgreSQL 15 to 17, which counts its members
          http://10.244.0.10:8008/patroni: acid-a-0: server_version: 150004
          postgresql/acid-a: spec.postgresql.version: 15
          configmap default/postgres-operator: major_version_upgrade_mode: full; target_major_version: 17
          Try: let the upgrade happen first, or change the count outside of the window
            its beginning and end:
              kubectl get events --field-selector=involvedObject.name=acid-a -w -n db
        ");
    }
}
