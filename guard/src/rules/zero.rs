//! The way back from zero: the volumes that are mounted must hold the newest data.

use crate::facts::{Facts, Seen};
use crate::policy::Policies;
use crate::postgresql::ordinal;
use crate::rules::{Kind, Rule, readings, set, status, unread};
use crate::verdict::{Finding, Outcome};

pub(super) const RETURN_FROM_ZERO: Rule = Rule {
    id: "return-from-zero",
    title: "the volume of the member that led last would not be mounted",
    fires_on: "0 to 1 or more, create over kept volumes",
    default: "deny; warn where nobody can tell who led last",
    kind: Kind::Bound,
    page: "\
At zero instances only the volumes are left, and the one of the last leader holds the newest data. A new count
that leaves its ordinal out starts the cluster from older data: what was written after the others had stopped is
missing, and the timelines part when the leader's volume is mounted later.

Signals: the last row of Patroni's history (annotation `history` of `<cluster>-config`): its fifth column names
who took the lead then; the cluster's volume claims. Where the history names nobody, because nobody ever took
over or the object is gone, it cannot be told and is warned of. While pods are left, because they still end or
because zero was never carried out, the holder of the leader lock counts, valid or not, and the history only
where nobody holds it. No repair excuses this rule: there are no members to judge, but there is data to lose.

Blind spots: the history is written by the new leader, seconds after it took over. A volume that was deleted is
not there to be left out: that is warned of.

Way out: a count that includes that ordinal; shrink afterwards, when every member has caught up.

Upstream: history in patroni/dcs/kubernetes.py and patroni/ha.py; #1816 of zalando/postgres-operator.",
    reads: &[
        readings::count,
        readings::pods,
        readings::leader,
        readings::last_leader,
        readings::claims,
    ],
    check: return_from_zero,
};

fn return_from_zero(facts: &Facts, _: &Policies) -> Outcome {
    if facts.from().is_some_and(|from| from != 0) || facts.to() < 1 {
        return Outcome::NotApplicable;
    }
    let created = facts.from().is_none();
    match &facts.members {
        Seen::Known(members) if members.is_empty() => {}
        Seen::Known(_) if created => return Outcome::NotApplicable,
        Seen::Known(_) => return pods_are_left(facts),
        Seen::Absent | Seen::Unreadable(_) => {
            let why = facts.members.unreadable().unwrap_or("there are none");
            return Outcome::Unknown(format!(
                "whether members still run could not be seen ({why})"
            ));
        }
    }
    let claims = match &facts.claims {
        // Nothing is kept: nothing can be left out.
        Seen::Known(claims) if claims.is_empty() => return Outcome::Pass,
        Seen::Absent => return Outcome::Pass,
        Seen::Known(claims) => Some(claims),
        Seen::Unreadable(_) => None,
    };
    let last = match &facts.last_leader {
        Seen::Known(last) => last,
        Seen::Absent => {
            return unsaid(
                facts,
                "volumes of an earlier life are kept, and Patroni's history does not name who led last"
                    .to_owned(),
            );
        }
        Seen::Unreadable(why) => return unread("who led last", why),
    };
    let cluster = &facts.change.new;
    let Some(led) = ordinal(&cluster.name, last) else {
        return unsaid(facts, format!("{last} led last, which is no member of this cluster"));
    };
    let claim = format!("pgdata-{last}");
    let history = facts.patroni_source("config");
    let says = took_the_lead(last);
    if let Some(claims) = claims
        && claims.iter().all(|claim| claim.ordinal != led)
    {
        let kept: Vec<&str> = claims.iter().map(|claim| claim.name.as_str()).collect();
        return Outcome::Found(
            Finding::warn(
                RETURN_FROM_ZERO.id,
                format!("{last} led last and its volume is gone: the newest data may be missing"),
            )
            .because(history, says)
            .because(
                format!("persistentvolumeclaim/{claim}"),
                format!("not there; kept are {}", kept.join(", ")),
            )
            .remedy("restore the volume, or be sure that the others hold every row"),
        );
    }
    if led < facts.to() {
        return Outcome::Pass;
    }
    Outcome::Found(
        Finding::deny(
            RETURN_FROM_ZERO.id,
            format!(
                "{last} led last, and {} instances leave its volume out: the cluster would start from older \
                 data",
                facts.to()
            ),
        )
        .because(history, says)
        .because(format!("persistentvolumeclaim/{claim}"), "holds the newest data")
        .remedy(format!("to mount it: {}", set(facts, led.saturating_add(1)))),
    )
}

/// What Patroni's history says of the member that led last.
pub(super) fn took_the_lead(last: &str) -> String {
    format!("history: {last} took the lead last")
}

/// Nobody can tell who led last: a count that leaves no volume out need not know.
fn unsaid(facts: &Facts, why: String) -> Outcome {
    let kept = facts.claims.known().into_iter().flatten().map(|claim| claim.ordinal);
    let members = facts.all_members().iter().map(|member| member.ordinal);
    let (None, Some(highest)) = (facts.claims.unreadable(), kept.chain(members).max()) else {
        return Outcome::Unknown(why);
    };
    let count = highest.saturating_add(1);
    let remedy = if facts.to() >= count {
        format!("every kept volume is mounted; see that all members catch up: {}", status(facts))
    } else {
        format!("mount every kept volume: {}", set(facts, count))
    };
    Outcome::Unsaid { why, remedy }
}

/// Zero was asked for and pods are left: they end, or zero was never carried out. It is written as growth, so that
/// no rule looks at a leader whose pod is, or is to be, among those that go.
fn pods_are_left(facts: &Facts) -> Outcome {
    // Whoever took the lock last led last, valid or not: it is rewritten before the history.
    let (last, source, says) = match (&facts.leader, &facts.last_leader) {
        (Seen::Unreadable(why), _) => return unread("members are left, and the leader lock", why),
        (Seen::Known(lock), _) if let Some(holder) = &lock.holder => {
            (holder, lock.source.clone(), format!("leader: {holder}"))
        }
        (Seen::Known(_) | Seen::Absent, Seen::Known(last)) => {
            (last, facts.patroni_source("config"), took_the_lead(last))
        }
        (Seen::Known(_) | Seen::Absent, Seen::Absent) => {
            return unsaid(
                facts,
                "members are left, and neither the leader lock nor Patroni's history names who led last"
                    .to_owned(),
            );
        }
        (Seen::Known(_) | Seen::Absent, Seen::Unreadable(why)) => {
            return unread("who led last", why);
        }
    };
    let cluster = &facts.change.new;
    let Some(led) = ordinal(&cluster.name, last) else {
        return unsaid(facts, format!("{last} led last, which is no member of this cluster"));
    };
    let to = facts.to();
    if led < to {
        return Outcome::Pass;
    }
    let pods: Vec<&str> = facts.all_members().iter().map(|member| member.name.as_str()).collect();
    Outcome::Found(
        Finding::deny(
            RETURN_FROM_ZERO.id,
            format!(
                "{last} led last, and a count of {to} leaves its pod and its volume out: the cluster would go \
                 on from older data"
            ),
        )
        .because(source, says)
        .because(format!("postgresql/{}", cluster.name), format!("asks for 0; left: {}", pods.join(", ")))
        .remedy(format!("to keep it: {}", set(facts, led.saturating_add(1)))),
    )
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::facts::Claim;
    use crate::rules::testing::{Want, healthy, table, text};

    /// A cluster at zero with these ordinals' volumes kept, led last by `last`.
    fn asleep(to: i64, kept: &[i64], last: Option<&str>) -> Facts {
        let mut facts = healthy(0, to);
        facts.leader = Seen::Absent;
        facts.last_leader = last.map_or(Seen::Absent, |last| Seen::Known(last.to_owned()));
        facts.claims = Seen::Known(
            kept.iter()
                .map(|ordinal| Claim {
                    name: format!("pgdata-acid-a-{ordinal}"),
                    ordinal: *ordinal,
                    ..Claim::default()
                })
                .collect(),
        );
        facts
    }

    /// Zero was asked for, and three members still run, led by `leader`.
    fn running(leader: i64, to: i64) -> Facts {
        healthy(3, 3).with_leader(leader).with_count(0, to)
    }

    fn created(mut facts: Facts) -> Facts {
        facts.change.old = None;
        facts
    }

    #[test]
    pub(in crate::rules) fn return_from_zero() {
        let three = &[0, 1, 2][..];
        let last = Some("acid-a-2");
        let mut hidden = asleep(2, three, last);
        hidden.last_leader = Seen::Unreadable("timed out".into());
        let mut blind = asleep(2, three, last);
        blind.claims = Seen::Unreadable("timed out".into());
        table(
            "return-from-zero",
            vec![
                ("its volume is mounted", asleep(3, three, last), Want::Pass),
                ("its volume is left out", asleep(2, three, last), Want::Deny),
                ("its volume is left out, of whatever is kept", blind, Want::Deny),
                ("nothing is kept", asleep(2, &[], last), Want::Pass),
                ("its volume is gone", asleep(3, &[0, 1], last), Want::Warn),
                ("nobody ever took over", asleep(2, three, None), Want::Unknown),
                ("a stranger led", asleep(2, three, Some("acid-b-0")), Want::Unknown),
                ("history unreadable", hidden, Want::Unknown),
                ("created over it", created(asleep(2, three, last)), Want::Deny),
                ("created over nothing", created(asleep(2, &[], None)), Want::Pass),
                (
                    "created over volumes of unknown rank",
                    created(asleep(2, three, None)),
                    Want::Unknown,
                ),
                (
                    "pods unreadable",
                    asleep(2, three, last).without_sight_of_members(),
                    Want::Unknown,
                ),
                ("members still run, the leader stays", running(0, 1), Want::Pass),
                ("members still run, the leader goes", running(2, 2), Want::Deny),
                ("members still run, created", created(running(2, 2)), Want::NotApplicable),
                ("stays at zero", asleep(0, three, last), Want::NotApplicable),
                ("from more than zero", healthy(3, 5), Want::NotApplicable),
            ],
        );
        insta::assert_snapshot!(text("return-from-zero", &asleep(2, three, last)), @"
        return-from-zero: acid-a-2 led last, and 2 instances leave its volume out: the cluster would start from older data
          configmap/acid-a-config: history: acid-a-2 took the lead last
          persistentvolumeclaim/pgdata-acid-a-2: holds the newest data
          Try: to mount it: kubectl pgscale set acid-a 3 -n db
        ");
        insta::assert_snapshot!(text("return-from-zero", &created(asleep(1, three, None))), @"
        return-from-zero: cannot be judged: volumes of an earlier life are kept, and Patroni's history does not name who led last
          Try: mount every kept volume: numberOfInstances: 3 in the manifest
        ");
        let remedy = |facts: &Facts| {
            let verdict = crate::evaluate(facts, &Policies::default());
            verdict.finding("return-from-zero").unwrap().remedy.clone().unwrap()
        };
        for last in [None, Some("acid-b-0")] {
            assert_eq!(
                remedy(&asleep(2, three, last)),
                "mount every kept volume: kubectl pgscale set acid-a 3 -n db"
            );
            assert_eq!(
                remedy(&asleep(3, three, last)),
                "every kept volume is mounted; see that all members catch up: kubectl pgscale status acid-a -n db"
            );
        }
    }

    #[test]
    fn a_pod_that_is_left_does_not_hide_who_led_last() {
        // The pods of a shrink to zero end, the leader last.
        let ending = |to| {
            running(2, to)
                .stalled([0])
                .without(1)
                .with_stateful_set(|set| set.replicas = 0)
                .with_member(2, |it| it.pod.terminating = true)
        };
        let released = |last: Seen<String>| {
            let mut facts = ending(1);
            if let Seen::Known(lock) = &mut facts.leader {
                lock.holder = None;
            }
            facts.last_leader = last;
            facts
        };
        let mut expired = ending(1);
        if let Seen::Known(lock) = &mut expired.leader {
            lock.renewed = None;
        }
        expired.last_leader = Seen::Known("acid-a-0".into());
        let mut lockless = released(Seen::Known("acid-a-2".into()));
        lockless.leader = Seen::Absent;
        let mut stranger = ending(1);
        stranger.leader = Seen::Known(crate::rules::testing::lock("acid-b-0"));
        table(
            "return-from-zero",
            vec![
                ("the leader's pod ends", ending(1), Want::Deny),
                ("it comes back", ending(3), Want::Pass),
                ("its lock has expired", expired, Want::Deny),
                ("it let go of the lock", released(Seen::Known("acid-a-2".into())), Want::Deny),
                ("the lock is gone", lockless, Want::Deny),
                ("another led last", released(Seen::Known("acid-a-0".into())), Want::Pass),
                ("nobody is named", released(Seen::Absent), Want::Unknown),
                ("history unreadable", released(Seen::Unreadable("x".into())), Want::Unknown),
                ("lock unreadable", ending(1).without_sight_of_the_lock(), Want::Unknown),
                ("a stranger leads", stranger, Want::Unknown),
                // The StatefulSet still runs three: it is a shrink to one.
                ("zero was never carried out", running(2, 1), Want::Deny),
            ],
        );
        let told = text("return-from-zero", &released(Seen::Absent));
        let way = "Try: mount every kept volume: kubectl pgscale set acid-a 3 -n db";
        assert!(told.ends_with(way), "{told}");
        for facts in [ending(1), running(2, 1)] {
            assert!(!crate::evaluate(&facts, &Policies::default()).allows());
        }
        insta::assert_snapshot!(text("return-from-zero", &ending(1)), @"
        return-from-zero: acid-a-2 led last, and a count of 1 leaves its pod and its volume out: the cluster would go on from older data
          configmap/acid-a-leader: leader: acid-a-2
          postgresql/acid-a: asks for 0; left: acid-a-0, acid-a-2
          Try: to keep it: kubectl pgscale set acid-a 3 -n db
        ");
    }

    #[test]
    fn no_repair_excuses_it() {
        let facts = asleep(2, &[0, 1, 2], Some("acid-a-2"));
        assert!(facts.repair().is_some());
        assert!(!crate::evaluate(&facts, &Policies::default()).allows());
        assert!(crate::evaluate(&facts.with_count(0, 3), &Policies::default()).allows());
    }
}
