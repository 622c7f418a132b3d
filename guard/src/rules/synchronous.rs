//! Synchronous replication: are there standbys left that a commit can wait for?

use crate::change::Direction;
use crate::facts::{Facts, Health, Member, Seen};
use crate::patroni::{Configuration, Synchronous};
use crate::policy::Policies;
use crate::rules::{Kind, Rule, members_unseen, readings};
use crate::verdict::{Finding, Outcome, Severity};

pub(super) const SYNC_STANDBYS_CONDEMNED: Rule = Rule {
    id: "sync-standbys-condemned",
    title: "every synchronous standby would be deleted",
    fires_on: "down, to 1 or more",
    default: "deny if the leader goes too or no other survivor is caught up, else warn",
    kind: Kind::Live,
    page: "\
Where replication is synchronous only its synchronous standbys are sure to have every acknowledged row, and only
they may take over. When all of them are on ordinals that go, and the leader as well, nobody is left who may
lead. When the leader stays, commits wait until Patroni has chosen another standby, which takes up to two loops
(20 s); with none that is caught up it goes on without any, silently, or with synchronous_mode_strict hangs.

To shrink to one instance takes every standby away by request: that is warned of (no-standby-left), and refused
where the mode is strict (strict-sync-floor).

Signals: `synchronous_mode` in the dynamic configuration; the standbys in `<cluster>-sync`, which count only
while the leader it names still leads; the survivors' live answers. Denied where the leader is not known to
stay; leader-cannot-move then says the same of the leader.

Blind spots: Patroni chooses standbys anew every loop; what was read is up to ten seconds old.

Way out: a count that keeps a synchronous standby, or wait until one that stays has become one.

Upstream: process_sync_replication and _is_healthiest_node, patroni/ha.py.",
    reads: &[readings::synchrony, readings::sync_standbys, readings::leader, readings::answers],
    check: sync_standbys_condemned,
};

fn sync_standbys_condemned(facts: &Facts, _: &Policies) -> Outcome {
    if facts.direction() != Direction::Down || facts.to() < 1 {
        return Outcome::NotApplicable;
    }
    let configuration = match synchronous(facts) {
        Ok(Some(configuration)) => configuration,
        Ok(None) => return Outcome::Pass,
        Err(why) => return Outcome::Unknown(why),
    };
    let leader = facts.leader_name();
    let sync = match &facts.sync {
        Seen::Known(sync) => sync,
        // Nobody is one: leader-cannot-move and too-few-healthy-survivors look at what that means.
        Seen::Absent => return Outcome::Pass,
        Seen::Unreadable(why) => {
            return Outcome::Unknown(format!("the synchronous standbys could not be read ({why})"));
        }
    };
    if facts.members.known().is_none() {
        return members_unseen(facts);
    }
    let current = sync.leader.is_some() && sync.leader.as_deref() == leader;
    let stays =
        |name: &String| facts.survivors().any(|survivor| survivor.name.eq_ignore_ascii_case(name));
    if !current || sync.standbys.is_empty() || sync.standbys.iter().any(stays) {
        return Outcome::Pass;
    }
    let all = sync.standbys.join(", ");
    let others: Vec<&Member> =
        facts.survivors().filter(|member| Some(member.name.as_str()) != leader).collect();
    let states: Vec<Health> = others.iter().map(|member| facts.health(member)).collect();
    let caught_up = states.contains(&Health::Healthy);
    let (severity, message) = if !facts.leader_stays() {
        (
            Severity::Deny,
            format!("every synchronous standby ({all}) would be deleted together with the leader"),
        )
    } else if caught_up {
        (
            Severity::Warn,
            format!(
                "every synchronous standby ({all}) would be deleted: commits wait until Patroni has chosen \
                 another"
            ),
        )
    } else if facts.to() == 1 {
        (
            Severity::Warn,
            format!(
                "every synchronous standby ({all}) would be deleted, and no other member stays"
            ),
        )
    } else {
        let unknown = states.iter().find_map(|state| match state {
            Health::Unknown(why) => Some(why),
            Health::Healthy | Health::Unhealthy(_) => None,
        });
        if let Some(why) = unknown {
            return Outcome::Unknown(format!(
                "every synchronous standby ({all}) would go, and whether another could become one cannot be \
                 told ({why})"
            ));
        }
        (
            Severity::Deny,
            format!(
                "every synchronous standby ({all}) would be deleted, and no member that stays is caught up"
            ),
        )
    };
    Outcome::Found(
        Finding::new(SYNC_STANDBYS_CONDEMNED.id, severity, message)
            .because(facts.patroni_source("sync"), format!("sync_standby: {all}"))
            .because(facts.patroni_source("config"), mode(configuration))
            .remedy(keep_one(facts)),
    )
}

/// The smallest count that keeps a synchronous standby.
fn keep_one(facts: &Facts) -> String {
    let lowest = facts.sync.known().and_then(|sync| {
        facts
            .condemned()
            .filter(|member| {
                sync.standbys.iter().any(|name| name.eq_ignore_ascii_case(&member.name))
            })
            .map(|member| member.ordinal.saturating_add(1))
            .min()
    });
    let cluster = &facts.change.new;
    match lowest.filter(|count| facts.from().is_some_and(|from| *count < from)) {
        Some(count) => format!(
            "keep one: kubectl pgscale down {} --to {count} -n {}",
            cluster.name, cluster.namespace
        ),
        None => "wait until a member that stays has become a synchronous standby".to_owned(),
    }
}

pub(super) const STRICT_SYNC_FLOOR: Rule = Rule {
    id: "strict-sync-floor",
    title: "one instance cannot commit in strict synchronous mode",
    fires_on: "any change to 1, create with 1",
    default: "deny",
    kind: Kind::Live,
    page: "\
With synchronous_mode_strict every commit waits for a synchronous standby, also when there is none. A cluster of
one has none: every commit hangs until another member has joined. Standby clusters commit nothing of their own
and are left out.

Signals: `synchronous_mode` and `synchronous_mode_strict` in the dynamic configuration (annotation `config` of
`<cluster>-config`), which is what the cluster runs by, and in `spec.patroni` of the manifest, which it will.

Blind spots: a configuration that is changed after the reading.

Way out: keep two instances, or switch synchronous_mode_strict off first.

Upstream: process_sync_replication, patroni/ha.py; is_synchronous_mode_strict, patroni/global_config.py.",
    reads: &[readings::count, readings::synchrony, readings::declared_synchrony],
    check: strict_sync_floor,
};

fn strict_sync_floor(facts: &Facts, _: &Policies) -> Outcome {
    let created = facts.change.old.is_none();
    if facts.to() != 1 || !(created || facts.direction() != Direction::Same) {
        return Outcome::NotApplicable;
    }
    let cluster = &facts.change.new;
    let configuration = facts.configuration.known();
    if cluster.is_standby() || configuration.is_some_and(|config| config.standby_cluster) {
        return Outcome::Pass;
    }
    let declared = ["synchronous_mode", "synchronous_mode_strict"].iter().all(|key| {
        cluster.spec.pointer(&format!("/patroni/{key}")).and_then(serde_json::Value::as_bool)
            == Some(true)
    });
    let runs = configuration
        .is_some_and(|config| config.synchronous_strict && config.synchronous != Synchronous::Off);
    if !declared && !runs {
        // A cluster that is created, or never ran, has nothing but its manifest.
        return match &facts.configuration {
            Seen::Known(_) => Outcome::Pass,
            Seen::Absent if created || facts.from() == Some(0) => Outcome::Pass,
            Seen::Absent | Seen::Unreadable(_) if created => Outcome::Pass,
            Seen::Absent => Outcome::Unknown("Patroni's configuration is not there".to_owned()),
            Seen::Unreadable(why) => {
                Outcome::Unknown(format!("Patroni's configuration could not be read ({why})"))
            }
        };
    }
    let mut finding = Finding::deny(
        STRICT_SYNC_FLOOR.id,
        format!(
            "{} replicates in strict synchronous mode: with 1 instance every commit would hang",
            facts.change.cluster()
        ),
    );
    if runs {
        finding = finding.because(facts.patroni_source("config"), "synchronous_mode_strict: true");
    }
    if declared {
        finding = finding.because(
            format!("postgresql/{}", cluster.name),
            "spec.patroni.synchronous_mode_strict: true",
        );
    }
    let remedy = if created {
        "numberOfInstances: 2 in the manifest, or no synchronous_mode_strict".to_owned()
    } else {
        format!(
            "kubectl pgscale set {} 2 -n {}, or switch synchronous_mode_strict off first",
            cluster.name, cluster.namespace
        )
    };
    Outcome::Found(finding.remedy(remedy))
}

pub(super) const SYNC_COUNT_FLOOR: Rule = Rule {
    id: "sync-count-floor",
    title: "fewer standbys would stay than synchronous_node_count asks for",
    fires_on: "down, to 1 or more",
    default: "warn",
    kind: Kind::Live,
    page: "\
synchronous_node_count is the number of standbys that shall have a row before its commit is acknowledged.
With fewer standbys than that Patroni takes those there are, and says so only in its log.

Signals: `synchronous_mode` and `synchronous_node_count` (1 when unset) in the dynamic configuration, against
the new count less one, the leader.

Blind spots: standbys tagged nosync never become synchronous and are counted here.

Way out: keep one more instance than synchronous_node_count, or lower that first.

Upstream: get_synchronous_node_count and min_synchronous_nodes, patroni/global_config.py.",
    reads: &[readings::count, readings::synchrony],
    check: sync_count_floor,
};

fn sync_count_floor(facts: &Facts, _: &Policies) -> Outcome {
    if facts.direction() != Direction::Down || facts.to() < 1 {
        return Outcome::NotApplicable;
    }
    let configuration = match synchronous(facts) {
        Ok(Some(configuration)) => configuration,
        Ok(None) => return Outcome::Pass,
        Err(why) => return Outcome::Unknown(why),
    };
    let standbys = facts.to().saturating_sub(1);
    let wanted = i64::try_from(configuration.synchronous_node_count).unwrap_or(i64::MAX);
    if standbys >= wanted {
        return Outcome::Pass;
    }
    let cluster = &facts.change.new;
    let finding = Finding::warn(
        SYNC_COUNT_FLOOR.id,
        format!("{standbys} standbys would stay, and {wanted} are to be synchronous"),
    )
    .because(
        facts.patroni_source("config"),
        format!("{}, synchronous_node_count: {wanted}", mode(configuration)),
    );
    let floor = wanted.saturating_add(1);
    Outcome::Found(finding.remedy(if facts.from().is_some_and(|from| floor < from) {
        format!(
            "kubectl pgscale down {} --to {floor} -n {}, or lower synchronous_node_count first",
            cluster.name, cluster.namespace
        )
    } else {
        "lower synchronous_node_count first".to_owned()
    }))
}

/// The configuration of a cluster that replicates synchronously; `None` of one that does not, an error where nobody
/// can tell.
fn synchronous(facts: &Facts) -> Result<Option<&Configuration>, String> {
    match &facts.configuration {
        Seen::Known(configuration) => {
            Ok(Some(configuration).filter(|it| it.synchronous != Synchronous::Off))
        }
        Seen::Absent => Err("Patroni's configuration is not there".to_owned()),
        Seen::Unreadable(why) => Err(format!("Patroni's configuration could not be read ({why})")),
    }
}

/// The mode as the configuration spells it.
pub(super) fn mode(configuration: &Configuration) -> &'static str {
    match configuration.synchronous {
        Synchronous::Off => "synchronous_mode: false",
        Synchronous::On => "synchronous_mode: true",
        Synchronous::Quorum => "synchronous_mode: quorum",
    }
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::*;
    use crate::rules::testing::{Want, healthy, table, text};

    /// Five members, the last of them leads.
    fn led_by_the_last(to: i64) -> Facts {
        healthy(5, to).with_leader(4)
    }

    fn unconfigured(mut facts: Facts) -> Facts {
        facts.configuration = Seen::Unreadable("timed out".into());
        facts
    }

    #[test]
    pub(in crate::rules) fn sync_standbys_condemned() {
        let last = &["acid-a-3", "acid-a-4"][..];
        let quorum = |facts: Facts| {
            facts.with_configuration(|configuration| {
                configuration.synchronous = Synchronous::Quorum;
            })
        };
        let mut unseen = healthy(5, 3).synchronous(last);
        unseen.sync = Seen::Unreadable("timed out".into());
        let mut nobody = healthy(5, 3).synchronous(&[]);
        nobody.sync = Seen::Absent;
        let mut gone = healthy(5, 3);
        gone.configuration = Seen::Absent;
        let mut old = healthy(5, 3).synchronous(last);
        if let Seen::Known(sync) = &mut old.sync {
            sync.leader = Some("acid-a-1".into());
        }
        table(
            "sync-standbys-condemned",
            vec![
                ("asynchronous", healthy(5, 3), Want::Pass),
                ("one stays", healthy(5, 3).synchronous(&["ACID-A-1", "acid-a-4"]), Want::Pass),
                ("all go, others are caught up", healthy(5, 3).synchronous(last), Want::Warn),
                ("all go, quorum", quorum(healthy(5, 3).synchronous(last)), Want::Warn),
                (
                    "all go, no other is caught up",
                    healthy(5, 3).synchronous(last).stalled([1, 2]),
                    Want::Deny,
                ),
                (
                    "all go, nobody can tell whether another is caught up",
                    (1..3).fold(healthy(5, 3).synchronous(last), |facts, ordinal| {
                        facts.with_answer(ordinal, |answer| answer.timeline = None)
                    }),
                    Want::Unknown,
                ),
                ("all go, to one", healthy(5, 1).synchronous(last), Want::Warn),
                (
                    "all go, the leader too",
                    led_by_the_last(3).synchronous(&["acid-a-3"]),
                    Want::Deny,
                ),
                (
                    "all go, the leader too, quorum",
                    quorum(led_by_the_last(3).synchronous(&["acid-a-3"])),
                    Want::Deny,
                ),
                ("written by an earlier leader", old, Want::Pass),
                ("there is none", healthy(5, 3).synchronous(&[]), Want::Pass),
                ("there is none, by its absence", nobody, Want::Pass),
                ("standbys unreadable", unseen, Want::Unknown),
                ("configuration unreadable", unconfigured(healthy(5, 3)), Want::Unknown),
                ("configuration gone", gone, Want::Unknown),
                (
                    "pods unreadable",
                    healthy(5, 3).synchronous(last).without_sight_of_members(),
                    Want::Unknown,
                ),
                ("zero has its own rule", healthy(5, 0).synchronous(last), Want::NotApplicable),
                ("growing", healthy(3, 5).synchronous(&["acid-a-2"]), Want::NotApplicable),
            ],
        );
        let id = "sync-standbys-condemned";
        insta::assert_snapshot!(text(id, &healthy(5, 3).synchronous(last)), @"
        sync-standbys-condemned: every synchronous standby (acid-a-3, acid-a-4) would be deleted: commits wait until Patroni has chosen another
          configmap/acid-a-sync: sync_standby: acid-a-3, acid-a-4
          configmap/acid-a-config: synchronous_mode: true
          Try: keep one: kubectl pgscale down acid-a --to 4 -n db
        ");
        insta::assert_snapshot!(text(id, &led_by_the_last(3).synchronous(&["acid-a-3"])), @"
        sync-standbys-condemned: every synchronous standby (acid-a-3) would be deleted together with the leader
          configmap/acid-a-sync: sync_standby: acid-a-3
          configmap/acid-a-config: synchronous_mode: true
          Try: kubectl pgscale down acid-a --to 4 -n db (moves the leader to acid-a-3 first)
        ");
    }

    #[test]
    pub(in crate::rules) fn strict_sync_floor() {
        let strict = |from, to| {
            healthy(from, to).synchronous(&["acid-a-1"]).with_configuration(|configuration| {
                configuration.synchronous_strict = true;
            })
        };
        let declared = |facts: Facts| {
            facts.editing(|spec| {
                spec["patroni"] =
                    json!({"synchronous_mode": true, "synchronous_mode_strict": true});
            })
        };
        let created = |mut facts: Facts| {
            facts.change.old = None;
            facts.configuration = Seen::Absent;
            facts
        };
        let standby =
            |facts: Facts| facts.editing(|spec| spec["standby"] = json!({"standby_host": "h"}));
        let gone = |mut facts: Facts| {
            facts.configuration = Seen::Absent;
            facts
        };
        table(
            "strict-sync-floor",
            vec![
                ("asynchronous", healthy(5, 1), Want::Pass),
                ("synchronous", healthy(5, 1).synchronous(&["acid-a-1"]), Want::Pass),
                ("strict", strict(5, 1), Want::Deny),
                ("strict, from zero", strict(0, 1), Want::Deny),
                ("strict, two stay", strict(5, 2), Want::NotApplicable),
                (
                    "strict alone binds nobody",
                    healthy(5, 1).with_configuration(|config| config.synchronous_strict = true),
                    Want::Pass,
                ),
                ("declared by the same write", declared(healthy(5, 1)), Want::Deny),
                ("a standby cluster", standby(strict(2, 1)), Want::Pass),
                (
                    "a standby cluster by its configuration",
                    strict(2, 1).with_configuration(|config| config.standby_cluster = true),
                    Want::Pass,
                ),
                ("created", created(declared(healthy(1, 1))), Want::Deny),
                ("created, not strict", created(healthy(1, 1)), Want::Pass),
                ("created with two", created(declared(healthy(2, 2))), Want::NotApplicable),
                ("from zero, never ran", gone(healthy(0, 1)), Want::Pass),
                ("configuration gone", gone(healthy(5, 1)), Want::Unknown),
                ("configuration unreadable", unconfigured(healthy(5, 1)), Want::Unknown),
                ("the count stays", strict(1, 1), Want::NotApplicable),
            ],
        );
        insta::assert_snapshot!(text("strict-sync-floor", &strict(5, 1)), @"
        strict-sync-floor: db/acid-a replicates in strict synchronous mode: with 1 instance every commit would hang
          configmap/acid-a-config: synchronous_mode_strict: true
          Try: kubectl pgscale set acid-a 2 -n db, or switch synchronous_mode_strict off first
        ");
        insta::assert_snapshot!(
            text("strict-sync-floor", &created(declared(healthy(1, 1)))), @"
        strict-sync-floor: db/acid-a replicates in strict synchronous mode: with 1 instance every commit would hang
          postgresql/acid-a: spec.patroni.synchronous_mode_strict: true
          Try: numberOfInstances: 2 in the manifest, or no synchronous_mode_strict
        ");
    }

    #[test]
    pub(in crate::rules) fn sync_count_floor() {
        let wanting = |count, to| {
            healthy(5, to).synchronous(&["acid-a-1"]).with_configuration(|configuration| {
                configuration.synchronous_node_count = count;
            })
        };
        table(
            "sync-count-floor",
            vec![
                ("asynchronous", healthy(5, 2), Want::Pass),
                ("enough stay", wanting(2, 3), Want::Pass),
                ("one too few stays", wanting(2, 2), Want::Warn),
                ("none stays", wanting(1, 1), Want::Warn),
                ("more than there ever were", wanting(u64::MAX, 4), Want::Warn),
                ("configuration unreadable", unconfigured(healthy(5, 2)), Want::Unknown),
                ("zero has its own rule", wanting(2, 0), Want::NotApplicable),
                ("growing", healthy(1, 2).synchronous(&[]), Want::NotApplicable),
            ],
        );
        insta::assert_snapshot!(text("sync-count-floor", &wanting(2, 2)), @"
        sync-count-floor: 1 standbys would stay, and 2 are to be synchronous
          configmap/acid-a-config: synchronous_mode: true, synchronous_node_count: 2
          Try: kubectl pgscale down acid-a --to 3 -n db, or lower synchronous_node_count first
        ");
    }
}
