//! One situation in all recordings: the same facts, and the same verdict.

use std::collections::BTreeMap;

use k8s_openapi::jiff::Timestamp;
use serde_json::json;

use crate::facts::{Facts, Live, Seen};
use crate::object_ref::{Kind, ObjectRef};
use crate::policy::Policies;
use crate::read::recorded::{Condition, Patroni, Recording};
use crate::rules::evaluate;
use crate::rules::testing::lowered;
use crate::verdict::Severity;

/// Returns facts without everything in which recordings of one situation may differ.
///
/// These are the time and the source of the reads, versions, and values that only newer Patronis
/// report.
fn essence(mut facts: Facts) -> Facts {
    facts.now = Timestamp::UNIX_EPOCH;
    if let Seen::Known(operator) = &mut facts.operator {
        operator.source = ObjectRef::all(Kind::BuiltIn);
        operator.major = None;
        operator.settings.use_config_maps = None;
    }
    if let Seen::Known(lock) = &mut facts.leader {
        lock.source = ObjectRef::all(Kind::BuiltIn);
    }
    if let Seen::Known(set) = &mut facts.stateful_set {
        set.store = None;
        set.image = None;
    }
    if let Seen::Known(members) = &mut facts.members {
        for member in members {
            member.pod.critical_operation = false;
            if let Seen::Known(report) = &mut member.report {
                report.version = None;
                report.replication_state = None;
            }
            if let Live::Answered(answer) = &mut member.live {
                answer.version = None;
                answer.replication_state = None;
            }
        }
    }
    facts
}

/// Returns every finding, in order, as `deny rule` or `warn rule`.
pub(super) fn findings(facts: &Facts) -> Vec<String> {
    findings_under(facts, &Policies::default())
}

/// Returns the findings where the platform leaves the leader to the operator's own switchover.
pub(super) fn findings_lowered(facts: &Facts) -> Vec<String> {
    let condemned = "warn leader-condemned";
    findings_under(facts, &lowered()).into_iter().filter(|it| it != condemned).collect()
}

fn findings_under(facts: &Facts, policies: &Policies) -> Vec<String> {
    let verdict = evaluate(facts, policies);
    let word = |severity| match severity {
        Severity::Deny => "deny",
        Severity::Warn => "warn",
    };
    verdict
        .findings
        .iter()
        .map(|finding| format!("{} {}", word(finding.severity), finding.rule))
        .collect()
}

/// One situation: its name, the changes to a healthy recording, the requested count, and the
/// findings.
///
/// For a removed leader, these are the findings after the platform has left that to the
/// operator.
type Situation = (&'static str, fn(Recording) -> Recording, i64, &'static [&'static str]);

const SITUATIONS: &[Situation] = &[
    ("healthy, shrinks", |it| it, 2, &[]),
    ("healthy, to one", |it| it, 1, &["warn no-standby-left"]),
    ("healthy, same count", |it| it, 3, &[]),
    ("healthy, grows", |it| it, 5, &[]),
    ("below the operator's limit", |it| it, 0, &["deny operator-limits", "warn no-standby-left"]),
    (
        "beyond the operator's limit",
        |it| it,
        10,
        &["deny operator-limits", "warn too-few-wal-senders"],
    ),
    ("the highest leads", |it| it.led_by(2), 2, &[]),
    (
        "the highest leads, the first is stalled",
        |it| it.led_by(2).with(0, Condition::Stalled),
        2,
        &["deny leader-cannot-move", "deny too-few-healthy-survivors", "warn survivor-unhealthy"],
    ),
    (
        "the highest leads, the first must not",
        |it| it.led_by(2).with(0, Condition::NoFailover),
        2,
        &["deny leader-cannot-move", "deny too-few-healthy-survivors"],
    ),
    (
        "the highest leads, the first is silent",
        |it| it.led_by(2).with(0, Condition::Silent),
        2,
        &["deny leader-cannot-move", "deny too-few-healthy-survivors", "warn survivor-unhealthy"],
    ),
    (
        "the highest leads, paused",
        |mut it| {
            it.paused = true;
            it.led_by(2)
        },
        2,
        &["deny paused"],
    ),
    (
        "paused",
        |mut it| {
            it.paused = true;
            it
        },
        2,
        &["warn paused"],
    ),
    (
        "a kept one is being rebuilt",
        |it| it.with(1, Condition::Rebuilding),
        2,
        &["deny too-few-healthy-survivors", "warn survivor-unhealthy", "deny rebuild-in-progress"],
    ),
    (
        "one is being rebuilt, the cluster grows",
        |it| it.with(1, Condition::Rebuilding),
        4,
        &["deny rebuild-in-progress"],
    ),
    (
        "the removed one is being rebuilt",
        |it| it.with(2, Condition::Rebuilding),
        2,
        &["warn rebuild-in-progress"],
    ),
    (
        "a kept one has only the archive",
        |it| it.with(1, Condition::ArchiveOnly),
        2,
        &["deny too-few-healthy-survivors", "warn survivor-unhealthy"],
    ),
    (
        "a kept one is stopped",
        |it| it.with(1, Condition::Stopped),
        2,
        &["deny too-few-healthy-survivors", "warn survivor-unhealthy"],
    ),
    (
        "a switchover onto a removed one is scheduled",
        |mut it| {
            it.failover = json!({"leader": "acid-a-0", "member": "acid-a-2",
                "scheduled_at": "2026-12-01T03:00:00+00:00"});
            it
        },
        2,
        &["deny switchover-pending"],
    ),
    (
        "synchronous, the standby is kept",
        |mut it| {
            it.synchronous = Some((json!(true), vec![1]));
            it
        },
        2,
        &["warn configuration-drift"],
    ),
    (
        "synchronous, the highest leads, the first is the standby",
        |mut it| {
            it.synchronous = Some((json!("on"), vec![0]));
            it.led_by(2)
        },
        2,
        &[],
    ),
    (
        "synchronous, the highest leads, the first is none of the standbys",
        |mut it| {
            it.synchronous = Some((json!(true), vec![1]));
            it.led_by(2)
        },
        2,
        &["deny leader-cannot-move", "warn configuration-drift"],
    ),
    (
        "a standby cluster shrinks",
        |mut it| {
            it.standby = true;
            it
        },
        2,
        &["warn standby-cluster"],
    ),
];

#[tokio::test(start_paused = true)]
async fn every_recording_of_a_situation_gives_the_same_facts_and_verdict() {
    // All of them at once: the different findings, and their recordings.
    let mut wrong = BTreeMap::<_, Vec<_>>::new();
    for (name, come_about, to, want) in SITUATIONS {
        let mut first = None;
        for recording in Recording::all() {
            let recording = come_about(recording);
            let facts = recording.read(*to).await;
            let combination =
                (recording.patroni, recording.kept, recording.set_by, recording.operator);
            let found = findings(&facts);
            let refused = found.first().is_some_and(|it| it == "deny leader-condemned");
            let alone: Vec<_> =
                found.into_iter().filter(|it| it != "deny leader-condemned").collect();
            let found = if refused { findings_lowered(&facts) } else { alone };
            if found != *want || refused != (facts.leader_condemned() && *to > 0) {
                wrong.entry((*name, found)).or_default().push(combination);
            }
            let facts = essence(facts);
            let first = first.get_or_insert_with(|| facts.clone());
            assert_eq!(*first, facts, "{name}: {combination:?}");
        }
    }
    let wrong: Vec<_> = wrong.iter().map(|it| format!("{it:?}")).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Before 4.0, `quorum` is no value of `synchronous_mode`. In no version does it bind the choice of
/// the candidate.
#[tokio::test(start_paused = true)]
async fn quorum_binds_no_candidate() {
    for mut recording in Recording::all() {
        recording.synchronous = Some((json!("quorum"), vec![1]));
        let facts = recording.led_by(2).read(2).await;
        assert_eq!(findings(&facts), ["deny leader-condemned"]);
        assert_eq!(findings_lowered(&facts), Vec::<&str>::new());
    }
}

/// Checks the reports of each Patroni, so that `essence` leaves out no more than it must.
#[tokio::test(start_paused = true)]
async fn only_newer_patronis_report_the_replication_state() {
    for recording in Recording::all() {
        let facts = recording.read(2).await;
        let standby = facts.member("acid-a-1").unwrap();
        let report = standby.report.known().unwrap();
        let reported = recording.patroni != Patroni::V2_1;
        assert_eq!(report.replication_state.as_deref(), reported.then_some("streaming"));
        assert_eq!(report.tells_replication_state(), reported);
    }
}
