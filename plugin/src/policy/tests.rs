use serde_json::{Value, json};

use super::*;
use crate::testing::{now, policies};

/// Returns one line per value: `FIELD VALUE SOURCE EFFECT`.
fn lines(specs: &[(&str, Value)], field: &str) -> Vec<String> {
    let entries = entries(&policies(specs), now());
    let of_field = entries.into_iter().filter(|entry| entry.field == field);
    of_field.map(|it| format!("{} {} {:?}", it.value, it.source, it.effect)).collect()
}

#[test]
fn strictest_enforced_value_decides_and_trials_are_named() {
    let specs = [
        ("a", json!({"instances": {"min": 2}})),
        ("b", json!({"instances": {"min": 3}})),
        ("c", json!({"mode": "Warn", "instances": {"min": 5}})),
        ("d", json!({"mode": "Audit", "instances": {"min": 6}})),
    ];
    assert_eq!(
        lines(&specs, "instances.min"),
        [
            "2 scalepolicy/a Weaker",
            "3 scalepolicy/b InForce",
            "5 scalepolicy/c Warns",
            "6 scalepolicy/d Recorded"
        ]
    );
    assert_eq!(lines(&[], "instances.min"), ["1 built-in InForce"]);
    assert_eq!(lines(&[], "instances.max"), Vec::<String>::new());
}

#[test]
fn loosening_value_counts_in_every_mode_without_a_stricter_enforced_one() {
    let zero = |mode: &str, zero: &str| json!({"mode": mode, "instances": {"zero": zero}});
    for (specs, want) in [
        (vec![("a", zero("Warn", "Allow"))], vec!["Allow scalepolicy/a InForce"]),
        (
            vec![("a", zero("Enforce", "Allow")), ("b", zero("Warn", "Deny"))],
            vec!["Allow scalepolicy/a InForce", "Deny scalepolicy/b Warns"],
        ),
        (
            vec![("a", zero("Enforce", "Allow")), ("b", zero("Enforce", "Deny"))],
            vec!["Allow scalepolicy/a Weaker", "Deny scalepolicy/b InForce"],
        ),
    ] {
        assert_eq!(lines(&specs, "instances.zero"), want);
    }
    let rule = |weight: &str| json!({"rules": {"paused": weight}});
    assert_eq!(
        lines(&[("a", rule("Ignore")), ("b", rule("Warn"))], "rules.paused"),
        ["Ignore scalepolicy/a Weaker", "Warn scalepolicy/b InForce"]
    );
}

#[test]
fn calendars_report_their_present_state() {
    // It is a Tuesday, 10:00 UTC.
    let seoul =
        json!({"windows": {"timeZone": "Asia/Seoul", "allow": [{"from": "09:00", "to": "17:00"}]}});
    let peak = json!({"freeze": {"until": "2026-11-24T11:00:00Z", "reason": "peak", "directions": ["Up"]}});
    assert_eq!(
        lines(&[("a", seoul.clone())], "windows"),
        ["Down 09:00-17:00 Asia/Seoul, shut now, opens Wed 2026-11-25 09:00 Asia/Seoul \
             scalepolicy/a InForce"]
    );
    assert_eq!(
        lines(&[("a", peak.clone())], "freeze"),
        ["Up until 2026-11-24T11:00:00Z (peak), holds now scalepolicy/a InForce"]
    );
    let both = allowed(&policies(&[("a", seoul), ("b", peak)]), now());
    let next: Vec<_> = both.iter().map(|it| it.next.unwrap().to_string()).collect();
    assert_eq!(next, ["2026-11-25T00:00:00Z", "2026-11-24T11:00:00Z"]);
    assert_eq!(allowed(&Policies::default(), now()), Vec::new());
}
