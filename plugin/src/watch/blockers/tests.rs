//! Events and logs that explain an obstacle, and those that do not.

use serde_json::{Value, json};

use super::*;

fn event(kind: &str, type_: &str, reason: &str, message: &str, more: &Value) -> Event {
    let mut event = json!({"metadata": {}, "involvedObject": {"kind": kind, "name": "acid-a"},
        "type": type_, "reason": reason, "message": message});
    json_merge(&mut event, more);
    serde_json::from_value(event).unwrap()
}

fn json_merge(into: &mut Value, more: &Value) {
    for (key, value) in more.as_object().unwrap() {
        into[key] = value.clone();
    }
}

#[test]
fn warnings_and_operator_events_are_obstacles() {
    let quota = "create Pod acid-a-3 in StatefulSet acid-a failed error: pods \"acid-a-3\" is forbidden: \
                 exceeded quota: small, requested: cpu=1, used: cpu=3, limited: cpu=3";
    let at = |time: &str| json!({"lastTimestamp": time});
    let by = |reporter: &str, uid: &str| {
        json!({"eventTime": "2026-11-24T10:00:02.000000Z", "lastTimestamp": null,
            "reportingComponent": reporter,
            "involvedObject": {"kind": "postgresql", "name": "acid-a", "uid": uid}})
    };
    let micro = by("postgres-operator/blue", "u1");
    let (ours, webhook) = (by("kubectl-pgscale", "u1"), by("pgscale.dev/webhook", "u1"));
    let former = by("postgres-operator", "u0");
    let events = [
        event("StatefulSet", "Warning", "FailedCreate", quota, &at("2026-11-24T10:00:01Z")),
        event(
            "StatefulSet",
            "Normal",
            "SuccessfulCreate",
            "create Pod",
            &at("2026-11-24T10:00:01Z"),
        ),
        event("StatefulSet", "Warning", "FailedCreate", "of long ago", &at("2026-11-24T09:00:00Z")),
        event("postgresql", "Normal", "Update", "Rolling update\n  postponed", &micro),
        event("postgresql", "Warning", "DownFailed", "our own", &ours),
        event("postgresql", "Warning", "ScaleDenied", "the webhook's", &webhook),
        event("postgresql", "Normal", "Update", "of another object", &former),
        event("Service", "Warning", "SyncFailed", "no address", &at("2026-11-24T10:00:01Z")),
        event("Pod", "Warning", "Undated", "of any time", &json!({})),
        event(
            "Pod",
            "Warning",
            "BackOff",
            "back-off 10s restarting failed container",
            &json!({"metadata": {"creationTimestamp": "2026-11-24T10:00:00Z"}}),
        ),
        event("Pod", "Warning", "Empty", " ", &at("2026-11-24T10:00:01Z")),
    ];
    let since = "2026-11-24T10:00:00Z".parse().ok();
    let reported = |known| -> Vec<String> {
        telling(&events, since, "u1", known).iter().map(ToString::to_string).collect()
    };
    let all = reported(None);
    assert_eq!(
        all,
        [
            "BackOff: back-off restarting failed container".to_owned(),
            format!("FailedCreate: {quota}"),
            "Update: Rolling update postponed".to_owned(),
        ]
    );
    // The kubelet's words are in the pod as well.
    assert_eq!(reported(Some("back-off restarting failed container postgres")), all[1..]);
}

#[test]
fn the_last_error_of_a_log_is_found() {
    for (log, want) in [
        ("", None),
        ("2026-11-24 10:00:00,1 INFO: trying to bootstrap from leader 'acid-a-0'\n", None),
        (
            "pg_basebackup: initiating base backup, waiting for checkpoint to complete\n\
             pg_basebackup: error: could not write to file: No space left on device\n\
             2026-11-24 10:00:01 ERROR: Error when fetching backup: pg_basebackup exited with code=1\n\
             2026-11-24 10:00:01 INFO: Lock owner: acid-a-0; I am acid-a-3\n",
            Some("pg_basebackup: error: could not write to file: No space left on device"),
        ),
        (
            "FATAL:  \u{1b}[31mno pg_hba.conf entry\u{1b}[0m\u{7}\nINFO: waiting\n",
            Some("FATAL: no pg_hba.conf entry"),
        ),
    ] {
        assert_eq!(last_error(log).as_deref(), want);
    }
    assert_eq!(short(&"x".repeat(400)).chars().count(), LENGTH + 4);
}

#[test]
fn obstacle_is_printed_once() {
    let mut blockers = Blockers::default();
    let (reason, message) = ("FailedCreate".to_owned(), "quota".to_owned());
    let one = BTreeSet::from([Blocker::Event { reason, message }]);
    assert_eq!(blockers.news("acid-a", &one), ["acid-a: FailedCreate: quota"]);
    assert_eq!(blockers.news("acid-a", &one), [""; 0]);
    assert_eq!(blockers.news("acid-b", &one).len(), 1);
}

#[test]
fn attempts_are_counted_by_state_and_by_the_leaders_report() {
    let mut blockers = Blockers::default();
    let at = |phase: Phase| BTreeMap::from([("acid-a-3".to_owned(), phase)]);
    let again = ["acid-a-3".to_owned()];
    let mut seen = Vec::new();
    for (phase, again) in [
        (Phase::Cloning, &[][..]),
        (Phase::Cloning, &[]),
        (Phase::Configured, &[]),
        (Phase::Cloning, &again),
        (Phase::Cloning, &again),
        (Phase::Streaming, &[]),
        (Phase::Cloning, &[]),
    ] {
        let begun = blockers.begun_anew(&at(phase), again);
        seen.push(begun.first().map(|(_, attempt)| *attempt));
    }
    assert_eq!(seen, [None, None, None, Some(2), Some(3), None, None]);
}
