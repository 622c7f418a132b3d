//! The table of the rule and its texts.

use k8s_openapi::jiff::SignedDuration;

use super::*;
use crate::facts::{Claim, Facts, Live};
use crate::patroni::State;
use crate::rules::testing::{Want, healthy, now, table, text};

/// Returns the cluster, made ten days ago, with claims of the ordinals in `old` from before.
fn aged(mut facts: Facts, claims: i64, old: &[i64]) -> Facts {
    let ago = |days: i64| Some(now() - SignedDuration::from_hours(24 * days));
    for cluster in facts.change.old.iter_mut().chain([&mut facts.change.new]) {
        cluster.created = ago(10);
    }
    let claim = |ordinal| Claim {
        name: format!("pgdata-acid-a-{ordinal}"),
        ordinal,
        created: ago(if old.contains(&ordinal) { 90 } else { 9 }),
        capacity: Some(1 << 30),
        ..Claim::default()
    };
    facts.claims = Seen::Known((0..claims).map(claim).collect());
    facts
}

/// Starts a member's Patroni over and over, as long as its pod is up.
fn mismatched(facts: Facts, ordinal: i64, up: SignedDuration) -> Facts {
    facts.with_member(ordinal, |it| {
        it.pod.ready = false;
        it.pod.started = Some(now() - up);
        it.report = Seen::Absent;
        it.live = Live::Silent("connection refused".into());
    })
}

/// Returns a member that was reported as stopped when its Patroni ended.
fn stopped(facts: Facts, ordinal: i64) -> Facts {
    let report = healthy(2, 2).member("acid-a-1").unwrap().report.clone();
    mismatched(facts, ordinal, SignedDuration::from_hours(30)).with_member(ordinal, |it| {
        it.report = report.map(|mut report| {
            report.state = State::Stopped;
            report.replication_state = None;
            report
        });
    })
}

fn identified(facts: Facts, ordinal: i64, identifier: &str) -> Facts {
    facts.with_answer(ordinal, |it| {
        it.system_identifier = identifier.parse().ok();
        it.replication_state = None;
    })
}

/// Three volumes at zero; only the one of ordinal 0 is older than the cluster.
fn slept(last: Option<&str>) -> Facts {
    let mut facts = aged(healthy(0, 3), 3, &[0]);
    facts.leader = Seen::Absent;
    facts.last_leader = last.map_or(Seen::Absent, |last| Seen::Known(last.to_owned()));
    facts
}

pub(super) fn foreign_volume() {
    let days = SignedDuration::from_hours(24 * 300);
    let minutes = SignedDuration::from_mins(10);
    let hidden = |mut facts: Facts| {
        facts.claims = Seen::Unreadable("forbidden".into());
        facts
    };
    let starting = |facts: Facts| facts.with_answer(1, |it| it.state = State::Starting);
    table(
        "foreign-volume",
        vec![
            ("from zero, -0's is old and -1 led last", slept(Some("acid-a-1")), Want::Warn),
            ("from zero, -0's is old and none is known to have led", slept(None), Want::Pass),
            ("all are of its time", aged(healthy(3, 5), 5, &[]), Want::Pass),
            ("one that comes is older", aged(healthy(3, 5), 5, &[4]), Want::Warn),
            ("one beyond the count is older", aged(healthy(3, 4), 5, &[4]), Want::Pass),
            (
                "all are older: created again over them",
                aged(healthy(3, 5), 5, &[0, 1, 2, 3, 4]),
                Want::Pass,
            ),
            ("an older one streams", aged(healthy(3, 5), 3, &[1]), Want::Pass),
            ("an older one does not", starting(aged(healthy(3, 5), 3, &[1])), Want::Warn),
            (
                "an older one does not, and says that it is the cluster's",
                identified(starting(aged(healthy(3, 5), 3, &[1])), 1, "7401122334455667788"),
                Want::Pass,
            ),
            ("from zero, one is older", aged(healthy(0, 3), 3, &[2]), Want::Warn),
            ("one never joined", mismatched(healthy(2, 3), 1, days), Want::Warn),
            ("one is stopped, and its Patroni ends", stopped(healthy(2, 3), 1), Want::Warn),
            ("one may yet join", mismatched(healthy(2, 3), 1, minutes), Want::Pass),
            ("no member answers", mismatched(healthy(2, 3).frozen(0), 1, days), Want::Pass),
            ("paused, one says so", identified(healthy(2, 3).pause(), 1, "73099"), Want::Deny),
            ("claims unreadable", hidden(healthy(3, 5)), Want::Unknown),
            ("pods unreadable", healthy(3, 5).without_sight_of_members(), Want::Unknown),
            ("a shrink", aged(healthy(5, 3), 5, &[1]), Want::NotApplicable),
        ],
    );
    let id = "foreign-volume";
    insta::assert_snapshot!(text(id, &aged(healthy(3, 5), 5, &[4])), @"
    foreign-volume: pgdata-acid-a-4 is older than the cluster: its volume may be of another cluster, and then it never joins
      persistentvolumeclaim/pgdata-acid-a-4: created: 90d ago
      postgresql/acid-a: created: 10d ago
      Try: see what is kept:
          kubectl get pvc -n db
        if its volume is of another cluster and holds nothing that is needed, for a fresh copy:
          kubectl delete pvc pgdata-acid-a-4 --wait=false -n db
    ");
    insta::assert_snapshot!(text(id, &mismatched(healthy(2, 3), 1, days)), @r#"
    foreign-volume: acid-a-1 has not joined in 300d: its volume may be of another cluster, and then it never joins
      pod/acid-a-1: annotation status: unset; started: 300d ago
      Try: see whether its log says "system ID mismatch":
          kubectl logs acid-a-1 -c postgres --tail=1000 -n db
        if its volume is of another cluster and holds nothing that is needed, for a fresh copy:
          kubectl delete pvc pgdata-acid-a-1 --wait=false -n db
          kubectl delete pod acid-a-1 -n db
    "#);
    insta::assert_snapshot!(text(id, &identified(healthy(2, 3).pause(), 1, "73099")), @r#"
    foreign-volume: acid-a-1 holds another cluster's data: it never joins
      http://10.244.0.11:8008/patroni: acid-a-1: database_system_identifier: 73099
      configmap/acid-a-config: initialize: 7401122334455667788
      Try: see whether its log says "system ID mismatch":
          kubectl logs acid-a-1 -c postgres --tail=1000 -n db
        if its volume is of another cluster and holds nothing that is needed, for a fresh copy:
          kubectl delete pvc pgdata-acid-a-1 --wait=false -n db
          kubectl delete pod acid-a-1 -n db
    "#);
    let leaderless = |mut facts: Facts| {
        facts.leader = Seen::Absent;
        facts
    };
    let kept = text(id, &leaderless(mismatched(healthy(2, 3), 1, days)));
    assert!(!kept.contains("delete"), "{kept}");
}

/// A member whose volume is of another cluster crash-loops for ever. It blocked
/// growth as one that is being built, and the remedy was to wait.
#[test]
fn member_that_never_joins_is_named_and_blocks_no_growth() {
    let denials = |facts: &Facts| {
        let verdict = crate::evaluate(facts, &Policies::default());
        verdict.denials().map(|it| it.rule.as_str()).collect::<Vec<_>>()
    };
    let ill = |to| mismatched(healthy(2, to), 1, SignedDuration::from_hours(24 * 300));
    for facts in [ill(3), stopped(healthy(2, 3), 1), stopped(aged(healthy(2, 3), 2, &[1]), 1)] {
        assert_eq!(denials(&facts), Vec::<&str>::new());
        let verdict = crate::evaluate(&facts, &Policies::default());
        assert!(verdict.finding("foreign-volume").unwrap().message.contains("acid-a-1"));
        for finding in verdict.warnings() {
            assert!(!finding.to_string().contains("pgscale wait"), "{finding}");
        }
    }
    // With an older claim that is known at once.
    let fresh = mismatched(aged(healthy(2, 3), 2, &[1]), 1, SignedDuration::from_mins(10));
    assert_eq!(denials(&fresh), Vec::<&str>::new());
    assert_eq!(denials(&ill(1)), Vec::<&str>::new(), "to remove it passes");
    assert_eq!(denials(&stopped(healthy(3, 2), 2)), Vec::<&str>::new());
}
