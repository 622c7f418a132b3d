//! The member that stops last on the way to zero.

use crate::assessment::Assessment;
use crate::evidence::Evidence;
use crate::facts::{Health, Seen};
use crate::object_ref::ObjectRef;
use crate::policy::Policies;
use crate::remedy::Remedy;
use crate::rule_id::RuleId;
use crate::rules::applies::{Applies, DOWN};
use crate::rules::reads::{self, Read};
use crate::rules::{Kind, Rule, inputs, members_unseen, status, unread};
use crate::verdict::{Finding, Outcome};

pub(super) const LAST_TO_STOP: Rule = Rule {
    id: RuleId::LAST_TO_STOP,
    title: "the member that stops last, and starts first again, lacks the newest rows",
    applies: Applies::on(&[DOWN.to_exactly(0)]),
    default: "deny",
    kind: Kind::Live,
    page: "\
On the way to zero the StatefulSet deletes the highest ordinals first, and the operator asks Patroni to move
the leader to ordinal 0. Patroni moves it to a member that is asked for by name even where that member lacks
rows, up to maximum_lag_on_failover. Ordinal 0 then stops last, as the leader, and starts first when the
cluster comes back: what it lacks is gone, and the volume that holds it is rewound. Nothing on the way back
shows that.

Signals: the holder of the leader lock; where that is not ordinal 0, whether ordinal 0 has a pod, runs,
answers, is on the leader's timeline, had received within a second what the leader had when asked, is not
tagged nofailover, and, where replication is synchronous (not quorum), is a synchronous standby.

Blind spots: what happens between the admission and the operator's act. Where no member leads, this rule is
silent: return-from-zero looks at the volumes when the cluster comes back.

Way out: `kubectl pgscale set NAME 0 -n NAMESPACE --confirm=NAMESPACE/NAME` moves the leader to ordinal 0 first,
and then writes 0 (scale-to-zero still needs a policy with `zero: Allow`). Where ordinal 0 is not fit, see
`kubectl pgscale status NAME -n NAMESPACE`: mend it, or wait until it has caught up. A policy's
`rules: {last-to-stop: Warn}` or an override lets the change pass, and what ordinal 0 lacks may be lost.

Upstream: preScaleDown, pkg/cluster/resources.go of zalando/postgres-operator; is_failover_possible,
patroni/api.py; is_healthiest_node and manual_failover_process_no_leader, patroni/ha.py.",
    reads: &[inputs::leader, inputs::pods, inputs::answers, inputs::lag, inputs::max_lag, inputs::synchrony, inputs::sync_standbys],
    needs: reads::HEALTH.and(&[Read::Sync]),
    check: last_to_stop,
    #[cfg(any(test, feature = "testing"))]
    table: tests::last_to_stop,
};

fn last_to_stop(facts: &Assessment<'_>, _: &Policies) -> Outcome {
    if facts.members.known().is_none() {
        return members_unseen(facts);
    }
    let lock = match &facts.leader {
        Seen::Known(lock) => lock,
        // No member takes over at the end of this that would not without it.
        Seen::Absent => return Outcome::Pass,
        Seen::Unreadable(why) => return unread("the leader lock", why),
    };
    let Some(leader) = facts.leader_name() else { return Outcome::Pass };
    let first = facts.pod_name(0);
    if leader == first {
        return Outcome::Pass;
    }
    let mut finding = Finding::deny(
        LAST_TO_STOP.id,
        format!("{leader} leads, but {first} stops last and starts first again, and it is not fit to lead"),
    )
    .because(lock.source.clone(), "leader", leader);
    let mend = Remedy::to(format!("mend {first} first; its state"), status(facts));
    let Some(member) = facts.member(&first) else {
        let none = Evidence::absent(ObjectRef::pod(&first));
        return Outcome::Found(finding.because_of(none).remedy(mend));
    };
    match facts.takeover(member) {
        Health::Unknown(why) => return Outcome::Unknown(why),
        Health::Unhealthy(problems) => {
            let evidence = problems.iter().map(|problem| facts.evidence_for(member, problem));
            finding.evidence.extend(evidence);
        }
        Health::Healthy => match facts.in_sync_set(member) {
            Ok(()) => return Outcome::Pass,
            Err(why) => {
                finding = finding.because(facts.source_of(member), "cannot take over", why);
            }
        },
    }
    let by_policy = facts.takeover(member).lags_by_policy();
    Outcome::Found(finding.remedy(mend).if_by_policy_lag(by_policy))
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
    use super::*;
    use crate::facts::Facts;
    use crate::rules::testing::{Want, healthy, table, text};

    fn led(ordinal: i64) -> Facts {
        healthy(3, 0).with_leader(ordinal)
    }

    fn leaderless() -> Facts {
        let mut facts = led(2);
        facts.leader = Seen::Absent;
        facts
    }

    pub(super) fn last_to_stop() {
        table(
            "last-to-stop",
            vec![
                ("ordinal 0 leads", led(0), Want::Pass),
                ("another leads, and 0 is caught up", led(2), Want::Pass),
                ("0 does not receive", led(2).stalled([0]), Want::Deny),
                ("0 leads, others do not receive", led(0).stalled([1, 2]), Want::Pass),
                ("another does not receive", led(2).stalled([1]), Want::Pass),
                ("0 must not lead", led(2).nofailover(0), Want::Deny),
                ("0 is no synchronous standby", led(2).synchronous(&["acid-a-1"]), Want::Deny),
                ("0 is a synchronous standby", led(2).synchronous(&["acid-a-0"]), Want::Pass),
                ("0 has no pod", led(2).without(0), Want::Deny),
                ("no member leads", leaderless(), Want::Pass),
                ("the lock is unreadable", led(2).without_sight_of_the_lock(), Want::Unknown),
                ("pods unreadable", led(2).without_sight_of_members(), Want::Unknown),
                ("one stays", healthy(3, 1).with_leader(2).stalled([0]), Want::NotApplicable),
                ("growth", healthy(0, 3), Want::NotApplicable),
            ],
        );
        insta::assert_snapshot!(text("last-to-stop", &led(2).stalled([0])), @"
        last-to-stop: acid-a-2 leads, but acid-a-0 stops last and starts first again, and it is not fit to lead
          configmap/acid-a-leader: leader: acid-a-2
          http://10.244.0.10:8008/patroni: acid-a-0: WAL not received after 1s: 600 bytes
          Try: mend acid-a-0 first; its state:
              kubectl pgscale status acid-a -n db
        ");
    }
}
