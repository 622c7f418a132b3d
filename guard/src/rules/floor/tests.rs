//! The table of the floor, and what must not weaken it.

use serde_json::json;

use super::*;
use crate::facts::Facts;
use crate::overrides::{Overrides, ScaleOverride};
use crate::policy::ScalePolicy;
use crate::postgresql::Postgresql;
use crate::rules::testing::{Want, created, healthy, table_with};

/// Returns the policies of one that has this spec.
fn policies(spec: serde_json::Value) -> Policies {
    let policy = ScalePolicy::new("production", serde_json::from_value(spec).unwrap());
    Policies::combine([&policy], &Postgresql::default())
}

/// Returns a change under an operator with these limits.
fn limited(from: i64, to: i64, (min, max): (i64, i64)) -> Facts {
    healthy(from, to).with_settings(|settings| {
        settings.min_instances = min;
        settings.max_instances = max;
    })
}

pub(super) fn outside_floor() {
    table_with(
        "outside-floor",
        &policies(json!({"mode": "Audit", "floor": {"min": 2, "max": 5}})),
        vec![
            ("at the most", healthy(3, 5), Want::Pass),
            ("above it", healthy(3, 6), Want::Deny),
            ("created above it", created(6), Want::Deny),
            ("above it, and towards it", healthy(8, 7), Want::Pass),
            ("above it, and further away", healthy(7, 8), Want::Deny),
            ("at the fewest", healthy(3, 2), Want::Pass),
            ("below it", healthy(3, 1), Want::Deny),
            ("created below it", created(1), Want::Deny),
            ("created without an instance", created(0), Want::Deny),
            ("to zero", healthy(3, 0), Want::Deny),
            ("below it, and towards it", healthy(0, 1), Want::Pass),
            ("the count stays", healthy(7, 7), Want::NotApplicable),
            (
                "written above it, and the operator would run fewer",
                limited(3, 9, (-1, 4)),
                Want::Deny,
            ),
            ("written within, and the operator would run more", limited(3, 4, (9, -1)), Want::Pass),
            (
                "written within, and the operator would run fewer",
                limited(5, 3, (-1, 1)),
                Want::Deny,
            ),
        ],
    );
    table_with(
        "outside-floor",
        &Policies::unreadable("forbidden"),
        vec![
            ("policies unreadable", healthy(5, 3), Want::Unknown),
            ("policies unreadable, growing", healthy(3, 5), Want::Unknown),
        ],
    );
}

#[test]
fn a_floor_is_weakened_by_no_mode_no_rule_and_no_override() {
    let grant: ScaleOverride = serde_json::from_value(json!({
        "apiVersion": "pgscale.dev/v1alpha1", "kind": "ScaleOverride",
        "metadata": {"name": "night", "creationTimestamp": "2026-11-24T09:00:00Z"},
        "spec": {"cluster": "acid-a", "clusterUid": "u1", "to": 6, "rules": ["outside-floor"],
            "reason": "sale", "expiresAt": "2026-11-24T11:00:00Z"},
    }))
    .unwrap();
    for mode in ["Audit", "Warn", "Enforce"] {
        let mut policies = policies(json!({"mode": mode, "floor": {"max": 5},
            "rules": {"outside-floor": "Ignore"}}));
        policies.overrides = Overrides::of(vec![grant.clone()], "acid-a");
        let verdict = crate::evaluate(&healthy(3, 6), &policies);
        assert!(!verdict.allows(), "{mode}");
        insta::allow_duplicates! {
            insta::assert_snapshot!(verdict.finding("outside-floor").unwrap(), @"
            outside-floor: 6 instances asked for, 5 is the most that the API server allows: no override lifts it
              scalepolicy/production: floor.max: 5
              scaleoverride/night: does not apply: no override lifts a floor
              Try:
                  kubectl pgscale set acid-a 5 -n db
            ");
        }
    }
}

#[test]
fn the_strictest_floor_holds() {
    let mut both = policies(json!({"floor": {"min": 2, "max": 5}}));
    let more = policies(json!({"floor": {"min": 3, "max": 7}}));
    both.floor_min.extend(more.floor_min);
    both.floor_max.extend(more.floor_max);
    table_with(
        "outside-floor",
        &both,
        vec![("under one", healthy(4, 2), Want::Deny), ("above one", healthy(4, 6), Want::Deny)],
    );
}
