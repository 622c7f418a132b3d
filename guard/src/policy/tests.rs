use serde_json::json;

use super::*;

fn policy(name: &str, spec: serde_json::Value) -> ScalePolicy {
    ScalePolicy::new(name, serde_json::from_value(spec).unwrap())
}

fn everywhere(name: &str, spec: serde_json::Value) -> ClusterScalePolicy {
    ClusterScalePolicy::new(name, serde_json::from_value(spec).unwrap())
}

fn cluster(labels: &serde_json::Value) -> Postgresql {
    Postgresql::of(&json!({"metadata": {"name": "acid-a", "labels": labels}})).unwrap()
}

fn labels(env: &str) -> Seen<BTreeMap<String, String>> {
    Seen::Known(BTreeMap::from([("env".to_owned(), env.to_owned())]))
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

#[test]
fn every_matching_limit_is_kept_with_its_mode() {
    let policies = [
        policy("trial", json!({"mode": "Warn", "instances": {"min": 5}})),
        policy("floor", json!({"instances": {"min": 3, "max": 7}})),
        policy(
            "other",
            json!({"clusterSelector": {"matchLabels": {"env": "dev"}},
                "instances": {"zero": "Allow"}}),
        ),
    ];
    let combined = Policies::combine(&policies, &cluster(&json!({"env": "prod"})));
    let min: Vec<_> =
        combined.min.iter().map(|limit| (limit.value, &limit.source, limit.mode)).collect();
    assert_eq!(
        min,
        [
            (5, &ObjectRef::policy("trial"), Mode::Warn),
            (3, &ObjectRef::policy("floor"), Mode::Enforce)
        ]
    );
    assert_eq!((combined.zero.len(), combined.mode), (0, Mode::Enforce));
}

#[test]
fn no_policy_means_enforce_without_bounds() {
    let combined = Policies::combine(&[], &cluster(&json!({})));
    assert_eq!(combined, Policies::default());
    assert_eq!(combined.mode, Mode::Enforce);
}

#[test]
fn policies_of_the_platform_hold_where_their_namespaces_are() {
    let all = [
        everywhere("all", json!({"instances": {"max": 9}})),
        everywhere(
            "prod",
            json!({"namespaceSelector": {"matchLabels": {"env": "prod"}}, "instances": {"min": 3}}),
        ),
    ];
    let matched = |namespace: &Seen<_>| {
        let combined = Policies::of(&[], &all, namespace, &BTreeMap::new());
        let names: Vec<String> = combined.matched.iter().map(|(name, _)| name.clone()).collect();
        (names, combined.unreadable)
    };
    let both = vec!["clusterscalepolicy/all".to_owned(), "clusterscalepolicy/prod".to_owned()];
    assert_eq!(matched(&labels("prod")), (both.clone(), None));
    assert_eq!(matched(&labels("dev")), (both[..1].to_vec(), None));
    let (names, why) = matched(&Seen::Unreadable("get namespaces: forbidden".to_owned()));
    assert_eq!(names, both[..1]);
    assert_eq!(
        why.unwrap(),
        "clusterscalepolicy/prod: the namespace's labels: get namespaces: forbidden"
    );
    // A policy of other clusters needs no namespace.
    let others = [everywhere(
        "x",
        json!({"namespaceSelector": {"matchLabels": {"env": "prod"}},
            "clusterSelector": {"matchLabels": {"app": "shop"}}}),
    )];
    let unseen = Seen::Unreadable("forbidden".to_owned());
    assert_eq!(Policies::of(&[], &others, &unseen, &BTreeMap::new()), Policies::default());
}

#[test]
fn a_policy_tempers_its_own_limits_and_no_others() {
    let combined = Policies::combine(
        &[
            policy("a", json!({"instances": {"min": 3}})),
            policy("b", json!({"instances": {"min": 5}, "rules": {"below-min": "Warn"}})),
            policy("c", json!({"instances": {"min": 6}, "rules": {"below-min": "Ignore"}})),
        ],
        &cluster(&json!({})),
    );
    let min: Vec<_> = combined.min.iter().map(|limit| (limit.value, limit.mode)).collect();
    assert_eq!(min, [(3, Mode::Enforce), (5, Mode::Warn)]);
}

#[test]
fn quantities_and_durations_are_read_or_the_policy_is_not() {
    let of = |spec| Policies::combine(&[policy("p", spec)], &cluster(&json!({})));
    let fine = of(json!({"survivors": {"maxLag": "16Mi"}, "backup": {"maxAge": "26h"}}));
    assert_eq!(fine.max_lag[0].value, 16 << 20);
    assert_eq!(fine.backup_max_age.unwrap().value, SignedDuration::from_hours(26));
    for wrong in [
        json!({"survivors": {"maxLag": "lots"}}),
        json!({"backup": {"maxAge": "0s"}}),
        json!({"windows": {"allow": [{"from": "9", "to": "17:00"}]}}),
    ] {
        let why = of(wrong.clone()).unreadable.unwrap_or_else(|| panic!("{wrong} is read"));
        assert!(why.starts_with("scalepolicy/p: "), "{why}");
    }
}

#[test]
fn the_least_age_of_a_backup_wins_within_the_strictest_mode() {
    let backup = |name, mode: &str, age: &str| {
        policy(name, json!({"mode": mode, "backup": {"maxAge": age}}))
    };
    let policies =
        [backup("a", "Enforce", "48h"), backup("b", "Enforce", "24h"), backup("c", "Warn", "1h")];
    let age = Policies::combine(&policies, &cluster(&json!({}))).backup_max_age.unwrap();
    assert_eq!((&age.source, age.mode), (&ObjectRef::policy("b"), Mode::Enforce));
}

#[test]
fn the_next_allowed_time_obeys_every_enforced_calendar() {
    let window = json!({"timeZone": "Asia/Seoul",
        "allow": [{"days": ["Mon", "Tue", "Wed", "Thu"], "from": "09:00", "to": "17:00"}]});
    let policies = [
        policy("hours", json!({"windows": window})),
        policy("peak", json!({"freeze": {"until": "2026-11-25T02:00:00Z"}})),
        policy("trial", json!({"mode": "Warn", "freeze": {}})),
    ];
    let combined = Policies::combine(&policies, &cluster(&json!({})));
    let now = at("2026-11-24T10:00:00Z");
    assert_eq!(combined.next_allowed(now, Direction::Down), Some(at("2026-11-25T02:00:00Z")));
    let evening = at("2026-11-25T08:00:00Z");
    assert_eq!(combined.next_allowed(evening, Direction::Down), Some(at("2026-11-26T00:00:00Z")));
    assert_eq!(combined.next_allowed(now, Direction::Up), Some(now), "both are about shrinks");
    let for_ever = Policies::combine(&[policy("p", json!({"freeze": {}}))], &cluster(&json!({})));
    assert_eq!(for_ever.next_allowed(now, Direction::Down), None);
}

/// The shipped files are read as written, and mean what their comments claim.
#[test]
fn the_examples_mean_what_they_say() {
    let read = |name: &str| {
        let root = env!("CARGO_MANIFEST_DIR");
        std::fs::read_to_string(format!("{root}/../charts/pgscale/examples/{name}.yaml")).unwrap()
    };
    let own = |name| {
        let policy: ScalePolicy = serde_saphyr::from_str(&read(name)).unwrap();
        Policies::combine([&policy], &cluster(&json!({})))
    };
    let verdict = |policies: &Policies, from, to| {
        let verdict = crate::evaluate(&crate::rules::testing::healthy(from, to), policies);
        verdict.denials().map(|finding| finding.rule).collect::<Vec<_>>()
    };
    let development = own("development");
    assert_eq!(verdict(&development, 1, 3), Vec::<&str>::new());
    assert_eq!(verdict(&development, 3, 0), Vec::<&str>::new());
    assert_eq!(verdict(&development, 3, 4), ["above-max"]);
    let staging = own("staging");
    assert_eq!(verdict(&staging, 3, 6), Vec::<&str>::new(), "it only warns");
    assert_eq!(staging.max[0].value, 5);
    // The facts were read at 19:00 in Seoul.
    let production = own("production");
    assert_eq!(verdict(&production, 5, 2), ["below-min", "step-too-large", "outside-window"]);
    assert_eq!(verdict(&production, 5, 0), ["scale-to-zero"]);
    assert_eq!(verdict(&production, 3, 8), ["above-max", "step-too-large"]);
    assert_eq!(verdict(&production, 3, 7), Vec::<&str>::new());
    let platform: ClusterScalePolicy = serde_saphyr::from_str(&read("platform")).unwrap();
    let both = Policies::of(&[], &[platform], &labels("production"), &BTreeMap::new());
    assert_eq!(verdict(&both, 3, 1), ["below-min"]);
}

#[test]
fn the_crd_names_every_rule_that_a_namespace_does_not_lower() {
    let schema = serde_json::to_string(&schemars::schema_for!(BuiltIn)).unwrap();
    for rule in FIXED {
        assert!(schema.contains(rule.as_str()), "{rule}");
    }
}
