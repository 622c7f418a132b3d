//! Members that are not copies yet.

use crate::assessment::Assessment;
use crate::change::Direction;
use crate::evidence::Evidence;
use crate::facts::{Health, Live, Member, Problem, Seen};
use crate::object_ref::ObjectRef;
use crate::policy::Policies;
use crate::remedy::Remedy;
use crate::rule_id::RuleId;
use crate::rules::applies::{Applies, DOWN, UP};
use crate::rules::reads::{self, Read};
use crate::rules::{Kind, NAMED, Rule, inputs, kubectl, members_unseen, set_count, wait};
use crate::verdict::{Finding, Outcome, Severity};

pub(super) const REBUILD_IN_PROGRESS: Rule = Rule {
    id: RuleId::REBUILD_IN_PROGRESS,
    title: "a member is being created, cloned, reinitialised or rewound",
    applies: Applies::on(&[UP.to_at_least(1), DOWN.to_at_least(1)]),
    default: "deny; warn if only unfinished members are removed, or no other member could take over",
    kind: Kind::Live,
    page: "\
A member that is being created, cloned, reinitialised or rewound is no copy yet. To delete a finished one
meanwhile leaves fewer copies than the count says; to add another makes the leader feed two base backups at
once, each of which takes up to two WAL senders.

For a shrink it denies when a healthy member would go while an unfinished one stays, and only warns when just
the unfinished ones go (their base backup ends) or nothing healthy does. For growth it denies, and only warns
where no healthy standby exists: then every new member counts. A pod that the StatefulSet wants and that is
missing, Pending or not yet started counts as being created.

A member that is kept, is stopped and did not say in its last report that it streams may be no copy yet. That
counts for a shrink as if it were being built, and only warns of growth: nothing copies to it.

Signals: several, because each has a blind spot. The member's live answer, which is believed before its
annotation `status`; the annotation's words, including those between two tries (\"stopped\" without a data
directory) and the ones of pg_rewind, which has no state of its own; an annotation that is still missing; the
label critical-operation; the pod's phase; whether its container runs; ordinals below spec.replicas without a
pod.

Blind spots: Patroni reports at most every loop (10s). A restart of PostgreSQL looks like a rebuild for a
moment. A member that streams may be hours behind; too-few-healthy-survivors looks at that.

Way out: wait (`kubectl pgscale wait NAME`). If it never ends, shrink so that only the unfinished member goes:
that is never refused.

Upstream: bootstrap and clone, patroni/postgresql/bootstrap.py; touch_member, patroni/ha.py.",
    reads: &[inputs::replicas, inputs::pods, inputs::answers, inputs::marks],
    needs: reads::HEALTH.and(&[Read::StatefulSet, Read::Claims]),
    check: rebuild_in_progress,
    #[cfg(any(test, feature = "testing"))]
    table: tests::rebuild_in_progress,
};

fn rebuild_in_progress(facts: &Assessment<'_>, _: &Policies) -> Outcome {
    let direction = facts.direction();
    let Seen::Known(members) = &facts.members else { return members_unseen(facts) };
    let mut staying = Vec::new();
    let mut going = Vec::new();
    let mut unknown = None;
    for member in members {
        let stays = member.ordinal < facts.to();
        match unfinished(facts, member) {
            Ok(Some(unfinished)) if stays => staying.push(unfinished),
            // Removing a stopped member ends no rebuild, whatever data the member holds.
            Ok(Some(unfinished)) if unfinished.how == How::Built => going.push(unfinished),
            Err(why) if stays => {
                unknown.get_or_insert(why);
            }
            Ok(_) | Err(_) => {}
        }
    }
    match &facts.stateful_set {
        Seen::Known(set) => {
            for ordinal in facts.missing_survivors().take_while(|it| *it < set.replicas).take(NAMED)
            {
                let name = facts.pod_name(ordinal);
                let value = format_args!("{}, and {name} has no pod yet", set.replicas);
                let evidence = Evidence::new(facts.stateful_set_source(), "spec.replicas", value);
                staying.push(Unfinished { ordinal, name, how: How::Built, evidence });
            }
        }
        Seen::Absent => {}
        Seen::Unreadable(why) => {
            unknown.get_or_insert(format!("the StatefulSet could not be read ({why})"));
        }
    }
    let only_stopped = staying.iter().all(|unfinished| unfinished.how == How::Stopped);
    if let (true, Some(why)) = (only_stopped, unknown) {
        return Outcome::Unknown(why);
    }
    let healthy_goes = facts.condemned().any(|member| facts.missed(member))
        || !facts.missed_claims().is_ok_and(|claims| claims.is_empty());
    let (severity, message) = if direction == Direction::Down {
        match (staying.is_empty(), going.is_empty()) {
            (true, true) => return Outcome::Pass,
            (true, false) => {
                (Severity::Warn, format!("{}; to remove it ends that", in_words(&going)))
            }
            (false, _) if healthy_goes => (
                Severity::Deny,
                format!("{}; a healthy member would be removed meanwhile", in_words(&staying)),
            ),
            (false, _) => (
                Severity::Warn,
                format!("{}; only unhealthy members are removed", in_words(&staying)),
            ),
        }
    } else if staying.is_empty() {
        return Outcome::Pass;
    } else if only_stopped {
        (Severity::Warn, in_words(&staying))
    } else if has_spare(facts) {
        (Severity::Deny, in_words(&staying))
    } else {
        (Severity::Warn, format!("{}; no healthy standby exists yet", in_words(&staying)))
    };
    let counts_copies = !staying.is_empty() && (direction == Direction::Down || !only_stopped);
    let remedy = remedy(facts, members, &staying, &going);
    let mut finding = Finding::new(REBUILD_IN_PROGRESS.id, severity, message)
        .remedy(remedy)
        .if_by_policy_lag(counts_copies && decided_by_lag(facts));
    finding.evidence.extend(staying.into_iter().chain(going).map(|unfinished| unfinished.evidence));
    Outcome::Found(finding)
}

/// Returns whether a policy's limit on the lag decides which copies count beside the unfinished ones.
fn decided_by_lag(facts: &Assessment<'_>) -> bool {
    if facts.direction() != Direction::Down {
        let would_do = |member: &Member| match facts.health(member) {
            Health::Unhealthy(problems) => {
                problems.iter().all(|problem| problem.by_policy() || !member.proves(problem))
            }
            Health::Healthy | Health::Unknown(_) => false,
        };
        return !has_spare(facts) && facts.all_members().iter().any(would_do);
    }
    let missed = facts.condemned().any(|member| facts.missed(member));
    match facts.missed_claims() {
        Ok(claims) if claims.is_empty() => {
            !missed && facts.condemned().any(|member| facts.spared_by_policy(member))
        }
        Ok(_) | Err(_) => !missed && facts.enough_fit_by_patroni(),
    }
}

/// A member that is no copy yet, or perhaps none.
struct Unfinished {
    ordinal: i64,
    name: String,
    how: How,
    /// The evidence, with the object that shows it.
    evidence: Evidence,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    /// The member is being built.
    Built,
    /// The member is stopped, and the progress of its copy is unknown.
    Stopped,
}

/// Returns whether a standby is there that may be healthy: missing data about it is no proof that
/// it is not.
pub(super) fn has_spare(facts: &Assessment<'_>) -> bool {
    let leader = facts.leader_name();
    facts.all_members().iter().filter(|it| leader != Some(it.name.as_str())).any(|member| {
        match facts.health(member) {
            Health::Unhealthy(problems) => problems.iter().all(|problem| !member.proves(problem)),
            Health::Healthy | Health::Unknown(_) => true,
        }
    })
}

/// Returns the remedy: to wait, or to give up the unfinished members where they are the last ones.
fn remedy(
    facts: &Assessment<'_>,
    members: &[Member],
    staying: &[Unfinished],
    going: &[Unfinished],
) -> Remedy {
    let stopped = staying.iter().filter(|unfinished| unfinished.how == How::Stopped);
    let stopped: Vec<&str> = stopped.map(|unfinished| unfinished.name.as_str()).collect();
    let wait = if stopped.is_empty() {
        wait(facts)
    } else {
        let words = [&["delete", "pod"], &stopped[..]].concat();
        let wait = wait(facts);
        let why = format!("start {}, or have it made again", stopped.join(", "));
        Remedy::to(why, kubectl(facts, &words)).and(wait)
    };
    let unfinished = || staying.iter().chain(going).map(|unfinished| unfinished.ordinal);
    let Some(lowest) = unfinished().min() else { return wait };
    let only_they = members
        .iter()
        .filter(|member| member.ordinal >= lowest)
        .all(|member| unfinished().any(|ordinal| ordinal == member.ordinal));
    if lowest > 0 && only_they && facts.to() > lowest {
        wait.or_to("or give it up", set_count(facts, lowest))
    } else {
        wait
    }
}

/// Returns in which way `member` is unfinished. `Err` where that is unknown.
fn unfinished(facts: &Assessment<'_>, member: &Member) -> Result<Option<Unfinished>, String> {
    let found = |how, evidence| {
        let (ordinal, name) = (member.ordinal, member.name.clone());
        Ok(Some(Unfinished { ordinal, name, how, evidence }))
    };
    let pod = |value| Evidence::new(ObjectRef::pod(&member.name), "status", value);
    let waiting = member.pod.waiting.as_ref().map_or_else(String::new, |why| format!(" ({why})"));
    // A kept member comes back, and continues.
    if member.pod.terminating && member.ordinal >= facts.to() {
        return Ok(None);
    }
    if let Some(how) = facts.rebuilding(member) {
        let evidence = facts.evidence_for(member, &Problem::Rebuilding(how));
        return found(How::Built, evidence);
    }
    let started = member.pod.phase == "Running" || !matches!(member.report, Seen::Absent);
    if member.pod.phase == "Pending" || !started {
        return found(How::Built, pod(format!("{}{waiting}", member.pod.phase)));
    }
    match (&member.live, &member.report) {
        (Live::NotAsked | Live::Silent(_), Seen::Unreadable(why)) => {
            Err(format!("whether {} is being rebuilt: {why}", member.name))
        }
        // A frozen member that streams said so. One that only said "running" may have nothing yet.
        (Live::Silent(why), Seen::Known(report))
            if !report.role.leads()
                && report.tells_replication_state()
                && report.replication_state.is_none() =>
        {
            if !member.pod.containers_running {
                return found(How::Stopped, pod(format!("not running{waiting}")));
            }
            Err(format!("whether {} is being rebuilt: it does not answer ({why})", member.name))
        }
        _ => Ok(None),
    }
}

/// Returns the unfinished members, each with its state.
fn in_words(members: &[Unfinished]) -> String {
    let words =
        [(How::Built, "still being built"), (How::Stopped, "stopped, and perhaps no copy yet")];
    let parts = words.into_iter().filter_map(|(how, words)| {
        let those = members.iter().filter(|member| member.how == how);
        let names: Vec<&str> = those.map(|member| member.name.as_str()).collect();
        (!names.is_empty()).then(|| format!("{words}: {}", names.join(", ")))
    });
    parts.collect::<Vec<_>>().join("; ")
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

    pub(super) fn rebuild_in_progress() {
        let unread = |facts: Facts, ordinal| {
            facts
                .frozen(ordinal)
                .with_member(ordinal, |it| it.report = Seen::Unreadable("not JSON".into()))
        };
        let mute = |facts: Facts, ordinal| {
            facts.frozen(ordinal).with_member(ordinal, |it| {
                if let Seen::Known(report) = &mut it.report {
                    report.replication_state = None;
                }
            })
        };
        let stopped = |facts: Facts, ordinal| {
            mute(facts, ordinal).with_member(ordinal, |it| {
                it.pod.ready = false;
                it.pod.containers_running = false;
                it.pod.waiting = Some("container postgres: Completed, exit code 0".into());
            })
        };
        let unreported = |facts: Facts, ordinal| {
            facts.frozen(ordinal).with_member(ordinal, |it| it.report = Seen::Absent)
        };
        table(
            "rebuild-in-progress",
            vec![
                ("nothing is built, shrinking", healthy(5, 3), Want::Pass),
                ("nothing is built, growing", healthy(3, 5), Want::Pass),
                ("a survivor is cloned, a healthy one goes", healthy(5, 3).cloning(1), Want::Deny),
                (
                    "a survivor is cloned, a silent one goes",
                    healthy(3, 2).cloning(1).frozen(2),
                    Want::Deny,
                ),
                (
                    "a survivor is cloned, and a stalled one, the only other copy, goes",
                    healthy(3, 2).cloning(1).stalled([2]),
                    Want::Deny,
                ),
                (
                    "a survivor is cloned, one whose PostgreSQL is down goes",
                    healthy(3, 2)
                        .cloning(1)
                        .with_answer(2, |it| it.state = crate::patroni::State::Failed),
                    Want::Warn,
                ),
                ("the removed one is cloned", healthy(4, 3).cloning(3), Want::Warn),
                ("a healthy one goes with it", healthy(5, 3).cloning(4), Want::Warn),
                ("a survivor has not reported yet", unreported(healthy(5, 3), 1), Want::Deny),
                ("a survivor has no pod yet", healthy(5, 3).without(1), Want::Deny),
                ("a survivor is Pending", healthy(5, 3).pending(1), Want::Deny),
                ("growing while one is cloned", healthy(4, 5).cloning(3), Want::Deny),
                ("growing while one is Pending", healthy(4, 5).pending(3), Want::Deny),
                ("growing while one has no pod", healthy(4, 5).without(3), Want::Deny),
                ("growing while one has not reported", unreported(healthy(4, 5), 3), Want::Deny),
                (
                    "growing, labelled as busy",
                    healthy(4, 5).frozen(3).with_member(3, |it| {
                        it.pod.critical_operation = true;
                    }),
                    Want::Deny,
                ),
                ("growing while the only standby is cloned", healthy(2, 3).cloning(1), Want::Warn),
                (
                    "growing, the others are no standbys",
                    healthy(4, 5).stalled([1, 2]).cloning(3),
                    Want::Warn,
                ),
                (
                    "growing, of the other standbys nobody can tell",
                    healthy(4, 5).frozen(1).frozen(2).cloning(3),
                    Want::Deny,
                ),
                (
                    "growing while one that is cloned ends",
                    healthy(4, 5).cloning(3).with_member(3, |it| it.pod.terminating = true),
                    Want::Deny,
                ),
                (
                    "growing while one ends",
                    healthy(4, 5).with_member(3, |it| it.pod.terminating = true),
                    Want::Pass,
                ),
                (
                    "who answers is believed before an old word",
                    healthy(4, 5).cloning(3).with_member(3, |it| {
                        it.live = crate::rules::testing::member(3, false).live;
                    }),
                    Want::Pass,
                ),
                ("a frozen one said that it runs", healthy(5, 3).frozen(1), Want::Pass),
                (
                    "it is silent, and did not say that it streams",
                    mute(healthy(5, 3), 1),
                    Want::Unknown,
                ),
                ("it is stopped, and did not say so", stopped(healthy(5, 3), 1), Want::Deny),
                (
                    "it is stopped, and only one that is down goes",
                    stopped(healthy(3, 2), 1)
                        .with_answer(2, |it| it.state = crate::patroni::State::Failed),
                    Want::Warn,
                ),
                (
                    "one is stopped, of another nobody can tell",
                    mute(stopped(healthy(5, 3), 1), 2),
                    Want::Unknown,
                ),
                ("a removed one is stopped", stopped(healthy(5, 3), 4), Want::Pass),
                ("growing while one is stopped", stopped(healthy(4, 5), 3), Want::Warn),
                (
                    "growing while one is stopped and one is cloned",
                    stopped(healthy(4, 5), 3).cloning(2),
                    Want::Deny,
                ),
                ("what it said is unreadable", unread(healthy(5, 3), 1), Want::Unknown),
                ("what a removed one said is unreadable", unread(healthy(5, 3), 4), Want::Pass),
                ("StatefulSet unreadable", healthy(5, 3).without_sight_of_the_set(), Want::Unknown),
                ("pods unreadable", healthy(5, 3).without_sight_of_members(), Want::Unknown),
                ("zero has its own rule", healthy(5, 0).cloning(1), Want::NotApplicable),
                ("the count stays", healthy(5, 5).cloning(1), Want::NotApplicable),
            ],
        );
        let id = "rebuild-in-progress";
        insta::assert_snapshot!(text(id, &healthy(5, 3).cloning(1)), @"
        rebuild-in-progress: still being built: acid-a-1; a healthy member would be removed meanwhile
          http://10.244.0.11:8008/patroni: acid-a-1: state: being rebuilt (creating replica)
          Try:
              kubectl pgscale wait acid-a -n db
        ");
        insta::assert_snapshot!(text(id, &healthy(4, 3).cloning(3)), @"
        rebuild-in-progress: still being built: acid-a-3; to remove it ends that
          http://10.244.0.13:8008/patroni: acid-a-3: state: being rebuilt (creating replica)
          Try:
              kubectl pgscale wait acid-a -n db
        ");
        insta::assert_snapshot!(text(id, &healthy(5, 6).pending(3).without(4)), @"
        rebuild-in-progress: still being built: acid-a-3, acid-a-4
          pod/acid-a-3: status: Pending (0/3 nodes are available)
          statefulset/acid-a: spec.replicas: 5, and acid-a-4 has no pod yet
          Try:
              kubectl pgscale wait acid-a -n db
            or give it up:
              kubectl pgscale set acid-a 3 -n db
        ");
        insta::assert_snapshot!(text(id, &stopped(healthy(5, 2).with_leader(4), 0).cloning(1)), @"
        rebuild-in-progress: still being built: acid-a-1; stopped, and perhaps no copy yet: acid-a-0; a healthy member would be removed meanwhile
          pod/acid-a-0: status: not running (container postgres: Completed, exit code 0)
          http://10.244.0.11:8008/patroni: acid-a-1: state: being rebuilt (creating replica)
          Try: start acid-a-0, or have it made again:
              kubectl delete pod acid-a-0 -n db
              kubectl pgscale wait acid-a -n db
        ");
        insta::assert_snapshot!(text(id, &stopped(healthy(5, 2).with_leader(4), 0)), @"
        rebuild-in-progress: stopped, and perhaps no copy yet: acid-a-0; a healthy member would be removed meanwhile
          pod/acid-a-0: status: not running (container postgres: Completed, exit code 0)
          Try: start acid-a-0, or have it made again:
              kubectl delete pod acid-a-0 -n db
              kubectl pgscale wait acid-a -n db
        ");
        insta::assert_snapshot!(text(id, &healthy(2, 3).cloning(1)), @"
        rebuild-in-progress: still being built: acid-a-1; no healthy standby exists yet
          http://10.244.0.11:8008/patroni: acid-a-1: state: being rebuilt (creating replica)
          Try:
              kubectl pgscale wait acid-a -n db
            or give it up:
              kubectl pgscale set acid-a 1 -n db
        ");
    }
}
