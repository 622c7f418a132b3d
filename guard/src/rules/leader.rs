//! Who leads, and whether the leader can get out of the way of a shrink.
//!
//! The StatefulSet always deletes the highest ordinals. When the leader is one of them the operator asks
//! Patroni to hand over to ordinal 0, and only to it; when that is refused it logs a warning and lets the
//! leader be deleted all the same (`preScaleDown`, pkg/cluster/resources.go).

use crate::change::Direction;
use crate::facts::{Facts, Live, Member, Seen};
use crate::policy::Policies;
use crate::rules::{Kind, Rule, inside, members_unseen, readings, status};
use crate::verdict::{Finding, Outcome, Severity};

pub(super) const NO_LEADER: Rule = Rule {
    id: "no-leader",
    title: "nobody leads, or more than one claims to",
    fires_on: "down, up",
    default: "deny down, warn up",
    kind: Kind::Live,
    page: "\
A cluster without a leader takes no writes, and nothing can say which member has the newest data: a shrink
may delete the only one that has it. Two leaders are worse.

Signals: the leader lock that Patroni renews every loop (annotations of `<cluster>-leader` or of the
Endpoints `<cluster>`), valid until renewTime + ttl; whether its holder is a pod of the cluster; how many pods
carry the role label of a leader, `master` or whatever else Patroni is told to write (with two masters the
operator's own hand-over gives up: `getRolePods`, pkg/cluster/pod.go).

Blind spots: the lock says who led up to ttl seconds ago, and clocks may differ: five seconds are allowed for.
A leader that dies between the reading and the shrink is not seen.

Way out: let a leader be elected (`kubectl pgscale status NAME` shows what each member says), resume a paused
Patroni, or repair the member that should lead. Where the pod of one that led and died goes on saying that it
leads, delete that pod, by force if its node is lost: it comes back as a standby. A shrink that removes only
unhealthy members needs a leader to be sure that none of them led. To bring back a count that was not applied
yet is never refused.

Upstream: `patroni/dcs/kubernetes.py`; preScaleDown, pkg/cluster/resources.go.",
    reads: &[readings::leader, readings::role_labels, readings::answers],
    check: no_leader,
};

fn no_leader(facts: &Facts, _: &Policies) -> Outcome {
    let Some(severity) = weight(facts) else { return Outcome::NotApplicable };
    let Seen::Known(members) = &facts.members else { return members_unseen(facts) };
    if members.is_empty() && facts.from() == Some(0) {
        return Outcome::NotApplicable;
    }
    let cluster = facts.change.cluster();
    let status = format!("{}, then ask again when one member leads", status(facts));
    let lock = match &facts.leader {
        Seen::Unreadable(why) => {
            return Outcome::Unknown(format!("the leader lock could not be read ({why})"));
        }
        Seen::Absent => {
            return Outcome::Found(
                Finding::new(
                    NO_LEADER.id,
                    severity,
                    format!("nobody leads {cluster}: Patroni has no leader lock"),
                )
                .because(facts.lock_source(), "not there")
                .remedy(status),
            );
        }
        Seen::Known(lock) => lock,
    };
    let Some(holder) = facts.leader_name() else {
        let why = if lock.holder.is_none() { "was released" } else { "has expired" };
        return Outcome::Found(
            Finding::new(
                NO_LEADER.id,
                severity,
                format!("nobody leads {cluster}: the leader lock {why}"),
            )
            .because(lock.source.clone(), lock.told())
            .remedy(status),
        );
    };
    if facts.leader_member().is_none() {
        return Outcome::Found(
            Finding::new(
                NO_LEADER.id,
                severity,
                format!("the leader lock is held by {holder}, which is not a pod of {cluster}"),
            )
            .because(lock.source.clone(), format!("leader: {holder}"))
            .remedy(status),
        );
    }
    let masters: Vec<_> = facts.labelled_leaders().collect();
    if masters.len() > 1 {
        let mut finding = Finding::new(
            NO_LEADER.id,
            severity,
            format!(
                "{} pods of {cluster} are labelled as leaders, {holder} holds the lock",
                masters.len()
            ),
        );
        for master in &masters {
            let label = master.pod.role.as_deref().unwrap_or_default();
            finding =
                finding.because(format!("pod/{}", master.name), format!("role label: {label}"));
        }
        let claims = masters.into_iter().filter(|master| master.name != holder);
        return Outcome::Found(finding.remedy(end_the_dead(facts, claims).unwrap_or(status)));
    }
    let contradicting: Vec<_> =
        facts.all_members().iter().filter(|member| facts.contradicts_lock(member)).collect();
    if !contradicting.is_empty() {
        let mut finding = Finding::new(
            NO_LEADER.id,
            severity,
            format!("{holder} holds the leader lock, but not every member agrees"),
        )
        .because(lock.source.clone(), format!("leader: {holder}"));
        for member in &contradicting {
            let claim = if member.name == holder { "does not lead" } else { "leads" };
            finding = finding.because(facts.witness(member), format!("{}: {claim}", member.name));
        }
        let remedy = end_the_dead(facts, contradicting.into_iter());
        return Outcome::Found(finding.remedy(remedy.unwrap_or(status)));
    }
    match facts.all_members().iter().find(|member| facts.may_contradict_lock(member)) {
        None => Outcome::Pass,
        Some(member) => Outcome::Unknown(format!(
            "{} did not say whether it leads, and left no report that could be read",
            member.name
        )),
    }
}

pub(super) const PAUSED: Rule = Rule {
    id: "paused",
    title: "Patroni is in maintenance mode: nobody takes over",
    fires_on: "down",
    default: "deny if the leader goes, else warn",
    kind: Kind::Live,
    page: "\
In Patroni's maintenance mode (`patronictl pause`) nobody takes over: when a paused leader's pod is deleted the
leader lock is kept and writes stop until a person resumes Patroni (200 s and counting when measured). A
switchover to a named candidate still works, so the operator's hand-over to ordinal 0 may succeed; when it
does not, nothing else helps. The mode is also set while a major upgrade runs.

Signals: `pause` in the dynamic configuration (annotation `config` of `<cluster>-config`). Denied unless the
leader is known to stay.

Blind spots: a pause that begins after the reading.

Way out: `patronictl resume` in any pod of the cluster, or `kubectl pgscale down NAME --to N`, which moves the
leader by a switchover to a named member first.

Upstream: Ha.shutdown and is_paused, patroni/ha.py; do_POST_switchover, patroni/api.py.",
    reads: &[readings::pause, readings::leader],
    check: paused,
};

fn paused(facts: &Facts, _: &Policies) -> Outcome {
    if facts.direction() != Direction::Down || facts.to() < 1 {
        return Outcome::NotApplicable;
    }
    let configuration = match &facts.configuration {
        Seen::Known(configuration) => configuration,
        Seen::Absent => {
            return Outcome::Unknown("Patroni's configuration is not there".to_owned());
        }
        Seen::Unreadable(why) => {
            return Outcome::Unknown(format!("Patroni's configuration could not be read ({why})"));
        }
    };
    if !configuration.paused {
        return Outcome::Pass;
    }
    // Only a leader that is known to stay makes it harmless.
    let stays = facts.leader_member().is_some_and(|leader| leader.ordinal < facts.to());
    let (severity, message) = match (stays, facts.leader_name()) {
        (true, Some(leader)) => {
            (Severity::Warn, format!("Patroni is paused: should {leader} fail, nobody takes over"))
        }
        (_, Some(leader)) => (
            Severity::Deny,
            format!(
                "{leader} leads and would be deleted while Patroni is paused: nobody takes over"
            ),
        ),
        (_, None) => {
            (Severity::Deny, "nobody leads and Patroni is paused: nobody takes over".to_owned())
        }
    };
    Outcome::Found(
        Finding::new(PAUSED.id, severity, message)
            .because(facts.patroni_source("config"), "pause: true")
            .remedy(inside(facts, "patronictl resume")),
    )
}

/// How to be rid of what those left behind who led once, are dead, and whose pods go on saying that they lead:
/// another member leads by now. `None` where that is not all there is to it.
fn end_the_dead<'a>(facts: &Facts, claims: impl Iterator<Item = &'a Member>) -> Option<String> {
    let leads = |member: &Member| match &member.live {
        Live::Answered(answer) => answer.role.leads(),
        Live::NotAsked | Live::Silent(_) => false,
    };
    if !facts.leader_member().is_some_and(leads) {
        return None;
    }
    let mut ways = Vec::new();
    for member in claims {
        let Member { name, pod, .. } = member;
        let delete = format!("kubectl delete pod {name} -n {}", facts.change.new.namespace);
        if pod.node_ready == Some(false) {
            let node = pod.node.as_deref().unwrap_or_default();
            ways.push(format!("{delete} --force --grace-period=0 (once {node} is sure to be off)"));
        } else if pod.containers_running {
            return None;
        } else {
            ways.push(delete);
        }
    }
    (!ways.is_empty()).then(|| ways.join("; "))
}

/// What a finding about the leader weighs; `None` where there is nothing to judge.
fn weight(facts: &Facts) -> Option<Severity> {
    match facts.direction() {
        Direction::Down if facts.to() >= 1 => Some(Severity::Deny),
        Direction::Up => Some(Severity::Warn),
        Direction::Down | Direction::Create | Direction::Same => None,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use k8s_openapi::jiff::SignedDuration;

    use super::*;
    use crate::rules::testing::{Want, healthy, lock, now, table, text};

    fn locked(from: i64, to: i64, change: impl FnOnce(&mut crate::patroni::LeaderLock)) -> Facts {
        let mut facts = healthy(from, to);
        let mut lock = lock("acid-a-0");
        change(&mut lock);
        facts.leader = Seen::Known(lock);
        facts
    }

    fn expired(from: i64, to: i64) -> Facts {
        locked(from, to, |lock| lock.renewed = Some(now() - SignedDuration::from_secs(36)))
    }

    fn silence() -> Live {
        Live::Silent("no answer in 1 s".into())
    }

    fn replica_report() -> Seen<crate::patroni::Report> {
        healthy(2, 2).member("acid-a-1").unwrap().report.clone()
    }

    fn two_masters() -> Facts {
        healthy(5, 3).with_member(4, |member| member.pod.role = Some("master".into()))
    }

    /// Five members, the last of them leads.
    fn led_by_the_last(to: i64) -> Facts {
        healthy(5, to).with_leader(4)
    }

    #[test]
    pub(in crate::rules) fn no_leader() {
        let mut lockless = healthy(5, 3);
        lockless.leader = Seen::Absent;
        let mut empty = healthy(0, 3);
        empty.leader = Seen::Absent;
        table(
            "no-leader",
            vec![
                ("one leads", healthy(5, 3), Want::Pass),
                (
                    "renewed 34 s ago, by a clock that may differ",
                    locked(5, 3, |lock| {
                        lock.renewed = Some(now() - SignedDuration::from_secs(34));
                    }),
                    Want::Pass,
                ),
                (
                    "renewed in our future",
                    locked(5, 3, |lock| {
                        lock.renewed = Some(now() + SignedDuration::from_secs(60));
                    }),
                    Want::Pass,
                ),
                ("no lock", lockless, Want::Deny),
                ("released", locked(5, 3, |lock| lock.holder = None), Want::Deny),
                ("never renewed", locked(5, 3, |lock| lock.renewed = None), Want::Deny),
                ("expired", expired(5, 3), Want::Deny),
                ("expired, growing", expired(3, 5), Want::Warn),
                (
                    "held by a stranger",
                    locked(5, 3, |lock| {
                        lock.holder = Some("acid-b-0".into());
                    }),
                    Want::Deny,
                ),
                ("held by a pod that is gone", healthy(5, 3).without(0), Want::Deny),
                ("two masters", two_masters(), Want::Deny),
                (
                    "two leaders under another name",
                    two_masters().with_member(0, |it| it.pod.role = Some("primary".into())),
                    Want::Deny,
                ),
                (
                    "one that goes was promoted by hand",
                    healthy(5, 3).with_answer(4, |it| it.role = crate::patroni::Role::Primary),
                    Want::Deny,
                ),
                (
                    "the holder of the lock does not lead",
                    healthy(5, 3).with_answer(0, |it| it.role = crate::patroni::Role::Replica),
                    Want::Deny,
                ),
                (
                    "the holder of the lock does not lead, growing",
                    healthy(3, 5).with_answer(0, |it| it.role = crate::patroni::Role::Replica),
                    Want::Warn,
                ),
                (
                    "the holder is silent and last reported that it leads",
                    healthy(5, 3).with_member(0, |it| it.live = silence()),
                    Want::Pass,
                ),
                (
                    "the holder is silent and last reported a replica",
                    healthy(5, 3).with_member(0, |it| {
                        it.live = silence();
                        it.report = replica_report();
                    }),
                    Want::Deny,
                ),
                (
                    "one that goes is silent and last reported that it leads",
                    healthy(5, 3).with_member(4, |it| {
                        it.live = silence();
                        it.report = healthy(1, 1).member("acid-a-0").unwrap().report.clone();
                    }),
                    Want::Deny,
                ),
                (
                    "the holder is silent and never reported",
                    healthy(5, 3).with_member(0, |it| {
                        it.live = silence();
                        it.report = Seen::Absent;
                    }),
                    Want::Unknown,
                ),
                (
                    "a silent member's report cannot be read",
                    healthy(5, 3).with_member(4, |it| {
                        it.live = silence();
                        it.report = Seen::Unreadable("not JSON".into());
                    }),
                    Want::Unknown,
                ),
                ("lock unreadable", healthy(5, 3).without_sight_of_the_lock(), Want::Unknown),
                ("pods unreadable", healthy(5, 3).without_sight_of_members(), Want::Unknown),
                ("from zero nobody can lead", empty, Want::NotApplicable),
                ("zero has its own rule", expired(3, 0), Want::NotApplicable),
                ("the count stays", expired(3, 3), Want::NotApplicable),
            ],
        );
        insta::assert_snapshot!(text("no-leader", &expired(5, 3)), @r"
        no-leader: nobody leads db/acid-a: the leader lock has expired
          configmap/acid-a-leader: leader: acid-a-0, renewTime: 2026-11-24T09:59:24Z, ttl: 30
          Try: kubectl pgscale status acid-a -n db, then ask again when one member leads
        ");
        insta::assert_snapshot!(text("no-leader", &two_masters()), @r"
        no-leader: 2 pods of db/acid-a are labelled as leaders, acid-a-0 holds the lock
          pod/acid-a-0: role label: master
          pod/acid-a-4: role label: master
          Try: kubectl pgscale status acid-a -n db, then ask again when one member leads
        ");
        insta::assert_snapshot!(
            text("no-leader", &locked(3, 5, |lock| lock.holder = Some("acid-b-0".into()))), @r"
        no-leader: the leader lock is held by acid-b-0, which is not a pod of db/acid-a
          configmap/acid-a-leader: leader: acid-b-0
          Try: kubectl pgscale status acid-a -n db, then ask again when one member leads
        ");
    }

    /// The last of five led, died, and left its label and its report behind; -0 leads now.
    fn dead_leader(change: impl FnOnce(&mut Member)) -> Facts {
        two_masters().with_member(4, |it| {
            it.live = silence();
            it.report = healthy(1, 1).member("acid-a-0").unwrap().report.clone();
            change(it);
        })
    }

    #[test]
    fn a_dead_leader_does_not_block_the_way_for_ever() {
        let lost = dead_leader(|it| it.pod.node_ready = Some(false));
        insta::assert_snapshot!(text("no-leader", &lost), @"
        no-leader: 2 pods of db/acid-a are labelled as leaders, acid-a-0 holds the lock
          pod/acid-a-0: role label: master
          pod/acid-a-4: role label: master
          Try: kubectl delete pod acid-a-4 -n db --force --grace-period=0 (once node-4 is sure to be off)
        ");
        let mut stopped = dead_leader(|it| it.pod.containers_running = false);
        insta::assert_snapshot!(text("no-leader", &stopped), @"
        no-leader: 2 pods of db/acid-a are labelled as leaders, acid-a-0 holds the lock
          pod/acid-a-0: role label: master
          pod/acid-a-4: role label: master
          Try: kubectl delete pod acid-a-4 -n db
        ");
        stopped = stopped.with_member(4, |it| it.pod.role = None);
        insta::assert_snapshot!(text("no-leader", &stopped), @"
        no-leader: acid-a-0 holds the leader lock, but not every member agrees
          configmap/acid-a-leader: leader: acid-a-0
          http://10.244.0.14:8008/patroni: acid-a-4: leads
          Try: kubectl delete pod acid-a-4 -n db
        ");
        // Who may be alive is left alone, and so is everybody while nobody else is known to lead.
        let status = "Try: kubectl pgscale status acid-a -n db";
        let frozen = dead_leader(|_| {});
        let headless = dead_leader(|it| it.pod.node_ready = Some(false))
            .with_member(0, |it| it.live = silence());
        for facts in [frozen, headless] {
            let text = text("no-leader", &facts);
            assert!(text.contains(status), "{text}");
        }
    }

    #[test]
    fn patroni_is_resumed_where_it_runs() {
        let gone = expired(5, 3).pause().with_member(0, |it| {
            it.live = silence();
            it.pod.containers_running = false;
        });
        insta::assert_snapshot!(text("paused", &gone), @"
        paused: nobody leads and Patroni is paused: nobody takes over
          configmap/acid-a-config: pause: true
          Try: kubectl exec acid-a-1 -n db -c postgres -- patronictl resume
        ");
    }

    #[test]
    pub(in crate::rules) fn paused() {
        let mut unreadable = healthy(5, 3);
        unreadable.configuration = Seen::Unreadable("configmaps is forbidden".into());
        let mut absent = healthy(5, 3);
        absent.configuration = Seen::Absent;
        table(
            "paused",
            vec![
                ("not paused", led_by_the_last(3), Want::Pass),
                ("paused, the leader stays", healthy(5, 3).pause(), Want::Warn),
                ("paused, the leader goes", led_by_the_last(3).pause(), Want::Deny),
                ("paused, nobody leads", expired(5, 3).pause(), Want::Deny),
                (
                    "paused, who leads is hidden",
                    healthy(5, 3).pause().without_sight_of_the_lock(),
                    Want::Deny,
                ),
                ("configuration unreadable", unreadable, Want::Unknown),
                ("no configuration", absent, Want::Unknown),
                ("growing", healthy(3, 5).pause(), Want::NotApplicable),
                ("zero has its own rule", led_by_the_last(0).pause(), Want::NotApplicable),
            ],
        );
        insta::assert_snapshot!(text("paused", &healthy(5, 3).pause()), @r"
        paused: Patroni is paused: should acid-a-0 fail, nobody takes over
          configmap/acid-a-config: pause: true
          Try: kubectl exec acid-a-0 -n db -c postgres -- patronictl resume
        ");
        insta::assert_snapshot!(text("paused", &led_by_the_last(3).pause()), @r"
        paused: acid-a-4 leads and would be deleted while Patroni is paused: nobody takes over
          configmap/acid-a-config: pause: true
          Try: kubectl pgscale down acid-a --to 3 -n db (moves the leader to acid-a-0 first)
        ");
        insta::assert_snapshot!(text("paused", &led_by_the_last(2).pause().nofailover(0).nofailover(1)), @r"
        paused: acid-a-4 leads and would be deleted while Patroni is paused: nobody takes over
          configmap/acid-a-config: pause: true
          Try: kubectl pgscale down acid-a --to 4 -n db (moves the leader to acid-a-2 first)
        ");
    }
}
