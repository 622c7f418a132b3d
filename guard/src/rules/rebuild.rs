//! Members that are not copies yet.

use std::time::Duration;

use crate::assessment::Assessment;
use crate::change::Direction;
use crate::duration::human;
use crate::evidence::Evidence;
use crate::facts::{Foreign, Health, Live, Member, Problem, Seen};
use crate::object_ref::ObjectRef;
use crate::patroni::{Role, State};
use crate::policy::Policies;
use crate::remedy::Remedy;
use crate::rule_id::RuleId;
use crate::rules::applies::{Applies, DOWN, UP};
use crate::rules::reads::{self, Read};
use crate::rules::{
    Kind, NAMED, Rule, inputs, inside_asking, kubectl, members_unseen, set_count, wait,
};
use crate::verdict::{Finding, Outcome, Severity};

pub(super) const REBUILD_IN_PROGRESS: Rule = Rule {
    id: RuleId::REBUILD_IN_PROGRESS,
    title: "a member is being created, cloned, reinitialised or rewound",
    applies: Applies::on(&[UP.to_at_least(1), DOWN.to_at_least(1)]),
    default: "deny; warn if only unfinished members are removed, no other member could take over, or growth has waited for an hour",
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

After an hour an unfinished member only warns of growth: it may never finish. So does one whose volume holds
the data of another cluster (foreign-volume), and one without a pod whose claim has waited for an hour.

Signals: several, because each has a blind spot. The member's live answer, which is believed before its
annotation `status`; the annotation's words, including those between two tries (\"stopped\" without a data
directory) and the ones of pg_rewind, which has no state of its own; an annotation that is still missing; the
label critical-operation; the pod's phase; whether its container runs; ordinals below spec.replicas without a
pod. For the hour: the last start of its container; its pod's creation where it never reported.

Blind spots: Patroni reports at most every loop (10s). A restart of PostgreSQL looks like a rebuild for a
moment. A member that streams may be hours behind; too-few-healthy-survivors looks at that. The hour counts
from the last start of the container, or from when its pod stopped to be Ready: no object says when a copy
began. So one that is reinitialised in a pod that has run for long may weigh less at once.

Way out: wait (`kubectl pgscale wait NAME`). If it never ends, its log says why
(`kubectl logs MEMBER -n NAMESPACE -c postgres --tail=50`); where a pod is missing, the Events of the
StatefulSet do (`kubectl describe statefulset NAME -n NAMESPACE`). Have it copied again
(`kubectl exec
NAME-0 -n NAMESPACE -c postgres -- patronictl reinit NAME MEMBER --force`), or
shrink so that only the unfinished member goes:
this rule does not refuse that.

Upstream: bootstrap and clone, patroni/postgresql/bootstrap.py; touch_member, patroni/ha.py.",
    reads: &[inputs::replicas, inputs::pods, inputs::answers, inputs::marks],
    needs: reads::HEALTH.and(&[Read::StatefulSet, Read::Claims, Read::Initialize, Read::LastLeader]),
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
            // Nor does removing one that starts again, as each leader does that was moved away.
            Ok(Some(unfinished)) if unfinished.how == How::Built && !restarts(member) => {
                going.push(unfinished);
            }
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
                let lasts = never_made(facts, ordinal);
                staying.push(Unfinished { ordinal, name, how: How::Built, lasts, evidence });
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
    let stuck = staying.iter().all(|it| it.how == How::Stopped || it.lasts.is_some());
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
    } else if only_stopped || stuck {
        (Severity::Warn, in_words(&staying))
    } else if has_spare(facts) {
        (Severity::Deny, in_words(&staying))
    } else {
        (Severity::Warn, format!("{}; no healthy standby exists yet", in_words(&staying)))
    };
    let counts_copies =
        !staying.is_empty() && (direction == Direction::Down || !(only_stopped || stuck));
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

/// Returns whether `member` has its data and only starts again, or lost the lead just now.
fn restarts(member: &Member) -> bool {
    let said = match (&member.live, &member.report) {
        (Live::Answered(answer), _) => Some((&answer.state, answer.role)),
        (Live::NotAsked | Live::Silent(_), Seen::Known(report)) => {
            Some((&report.state, report.role))
        }
        (Live::NotAsked | Live::Silent(_), Seen::Absent | Seen::Unreadable(_)) => None,
    };
    matches!(
        said,
        Some((State::Starting, Role::Demoted | Role::Replica) | (State::Stopped, Role::Demoted))
    )
}

/// A member that is no copy yet, or perhaps none.
struct Unfinished {
    ordinal: i64,
    name: String,
    how: How,
    /// The reason to believe that it never ends. `None` for one that is at work.
    lasts: Option<String>,
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
    let stuck = || staying.iter().chain(going).filter(|it| it.lasts.is_some());
    let first = stuck().next().filter(|_| facts.doomed_leader().is_none());
    let no_pod = staying.iter().find(|it| it.how == How::Built && !facts.has_pod(it.ordinal));
    // OrderedReady makes no pod while a lower one is not Ready: that one comes first.
    let lowest = staying.iter().map(|it| it.ordinal).min();
    let parallel = facts.stateful_set.known().is_some_and(|set| set.parallel);
    let no_pod = no_pod.filter(|it| parallel || lowest == Some(it.ordinal));
    let no_pod = no_pod.filter(|_| facts.doomed_leader().is_none());
    let wait = if let Some(none) = no_pod {
        // The StatefulSet's Events name what refuses the pod: a quota, a webhook, a limit.
        let set = facts.stateful_set_source().argument();
        let why = format!("its Events say why {} has no pod", none.name);
        Remedy::to(why, kubectl(facts, &["describe", &set])).and(wait(facts))
    } else if let Some(first) = first {
        // Waiting is no remedy for what has not ended in an hour.
        let log = ["logs", &first.name, "-c", "postgres", "--tail=100"];
        let log = Remedy::to("its log says why it does not end", kubectl(facts, &log));
        let cluster = &facts.change.new.name;
        let reinit = inside_asking(facts, &["patronictl", "reinit", cluster, &first.name]);
        let foreign = facts.foreign(first.ordinal).is_some();
        if foreign { log } else { log.or_to("have it copied again", reinit) }
    } else if stopped.is_empty() {
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
        Ok(Some(Unfinished { ordinal, name, how, lasts: lasts(facts, member), evidence }))
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
            if facts.direction() == Direction::Up && facts.foreign(member.ordinal).is_some() {
                return found(How::Stopped, pod(report.state.word().to_owned()));
            }
            Err(format!("whether {} is being rebuilt: it does not answer ({why})", member.name))
        }
        _ => Ok(None),
    }
}

/// Returns the reason to believe that `member` never becomes a copy. `None` where it may be at work.
fn lasts(facts: &Assessment<'_>, member: &Member) -> Option<String> {
    if let Some(Foreign::Identifier { .. } | Foreign::Older { .. }) = facts.foreign(member.ordinal)
    {
        return Some("its volume is of another cluster".to_owned());
    }
    let lasts = facts.lasting(member)?;
    Some(format!("for {}", human(Duration::try_from(lasts).unwrap_or_default())))
}

/// Returns the reason to believe that the pod of `ordinal` cannot be made: its claim has waited for
/// it for over an hour.
///
/// The StatefulSet makes the claim before the pod (`CreateStatefulPod`, `stateful_pod_control.go` of
/// Kubernetes). One with a volume may be of a pod that comes back.
fn never_made(facts: &Assessment<'_>, ordinal: i64) -> Option<String> {
    let claims = facts.claims.known()?;
    let claim = claims.iter().find(|claim| claim.ordinal == ordinal && !claim.terminating)?;
    let waits = facts.over_an_hour(claim.created.filter(|_| claim.capacity.is_none())?)?;
    Some(format!("for {}", human(Duration::try_from(waits).unwrap_or_default())))
}

/// Returns the unfinished members, each with its state.
fn in_words(members: &[Unfinished]) -> String {
    let words =
        [(How::Built, "still being built"), (How::Stopped, "stopped, and perhaps no copy yet")];
    let parts = words.into_iter().filter_map(|(how, words)| {
        let those = members.iter().filter(|member| member.how == how);
        let shown = |it: &Unfinished| match &it.lasts {
            Some(lasts) => format!("{} ({lasts})", it.name),
            None => it.name.clone(),
        };
        let names: Vec<String> = those.map(shown).collect();
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
mod tests;
