use serde_json::{Value, json};

use crate::testing::{World, run};

fn world() -> World {
    World::new(3, 0)
        .policy(
            "production",
            &json!({"instances": {"min": 3, "max": 7}, "steps": {"down": 2},
            "rules": {"survivor-unhealthy": "Deny"}}),
        )
        .policy("trial", &json!({"mode": "Warn", "instances": {"min": 5}}))
        .policy(
            "shops",
            &json!({"clusterSelector": {"matchLabels": {"app": "shop"}},
            "instances": {"max": 4}}),
        )
        .platform_policy(
            "platform",
            &json!({"instances": {"min": 2}, "whenUnknown": {"up": "Deny"}}),
        )
}

async fn screen(world: &World, line: &str) -> (String, u8, String) {
    let (screen, code, failure) = run(world, line, None).await;
    (screen.stdout(), code, failure)
}

#[tokio::test]
async fn every_value_is_shown_with_its_source() {
    let (text, code, _) = screen(&world(), "policy acid-a").await;
    assert_eq!(code, 0);
    insta::assert_snapshot!(text, @"
    Effective policy of postgresql db/acid-a
    Policies:  clusterscalepolicy/platform (Enforce), scalepolicy/production (Enforce), scalepolicy/trial (Warn)

    FIELD                      VALUE             FROM                          EFFECT
    instances.min              3                 scalepolicy/production        in force
    instances.min              5                 scalepolicy/trial             warns
    instances.max              7                 scalepolicy/production        in force
    instances.zero             Deny              built-in                      in force
    steps.down                 2                 scalepolicy/production        in force
    whenUnknown.down           Deny              built-in                      in force
    whenUnknown.up             Deny              clusterscalepolicy/platform   in force
    rules.survivor-unhealthy   Deny              scalepolicy/production        in force
    builtIn.mode               Enforce           built-in                      in force
    builtIn.loosenable         all but 6 rules   built-in                      in force
    ");
    let (text, ..) = screen(&world(), "policy -o wide").await;
    insta::assert_snapshot!(text, @"
    Effective policy of namespace db
    Policies:  clusterscalepolicy/platform (Enforce), scalepolicy/production (Enforce), scalepolicy/trial (Warn)
    For some clusters only:  scalepolicy/shops

    FIELD                      VALUE             FROM                          EFFECT
    instances.min              2                 clusterscalepolicy/platform   a stricter one decides
    instances.min              3                 scalepolicy/production        in force
    instances.min              5                 scalepolicy/trial             warns
    instances.max              7                 scalepolicy/production        in force
    instances.zero             Deny              built-in                      in force
    steps.down                 2                 scalepolicy/production        in force
    whenUnknown.down           Deny              built-in                      in force
    whenUnknown.up             Deny              clusterscalepolicy/platform   in force
    rules.survivor-unhealthy   Deny              scalepolicy/production        in force
    builtIn.mode               Enforce           built-in                      in force
    builtIn.loosenable         all but 6 rules   built-in                      in force
    ");
    let (text, ..) = screen(&World::new(3, 0), "policy").await;
    insta::assert_snapshot!(text, @"
    Effective policy of namespace db
    Policies:  none

    FIELD                VALUE             FROM       EFFECT
    instances.min        1                 built-in   in force
    instances.zero       Deny              built-in   in force
    whenUnknown.down     Deny              built-in   in force
    whenUnknown.up       Warn              built-in   in force
    builtIn.mode         Enforce           built-in   in force
    builtIn.loosenable   all but 6 rules   built-in   in force
    ");
}

#[tokio::test]
async fn the_document_holds_all_values() {
    let (text, ..) = screen(&world(), "policy acid-a -o json").await;
    let document: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(document["kind"], "EffectivePolicy");
    assert_eq!(document["metadata"], json!({"namespace": "db", "name": "acid-a"}));
    assert_eq!(
        document["fields"][0],
        json!({"field": "instances.min", "value": "2", "source": "clusterscalepolicy/platform",
            "mode": "Enforce", "effect": "Weaker"})
    );
    let (names, ..) = screen(&world(), "policy acid-a -o name").await;
    assert_eq!(
        names.trim(),
        "clusterscalepolicy/platform\nscalepolicy/production\nscalepolicy/trial"
    );
}

#[tokio::test]
async fn policies_that_cannot_be_read_are_an_error() {
    let (text, code, failure) =
        screen(&world().hiding(&["clusterscalepolicies"]), "policy acid-a").await;
    assert!(text.contains("scalepolicy/production"), "what can be read is shown: {text}");
    assert_eq!(code, 1);
    insta::assert_snapshot!(failure, @"error: not all policies could be read: failed to list clusterscalepolicies: forbidden");
}

/// Returns a world with policies of a newer version: for this cluster, for others, for other
/// namespaces.
fn with_strange_ones() -> World {
    let select = |app: &str| json!({"matchLabels": {"app": app}});
    World::new(3, 0)
        .policy("production", &json!({"instances": {"max": 7}}))
        .policy("strange", &json!({"mode": "Quarantine"}))
        .policy(
            "stranger",
            &json!({"clusterSelector": select("shop"), "rules": {"paused": "Shout"}}),
        )
}

#[tokio::test]
async fn a_policy_that_cannot_be_decoded_is_shown_with_the_reason() {
    let (text, code, failure) = screen(&with_strange_ones(), "policy acid-a").await;
    assert_eq!(code, 1);
    insta::assert_snapshot!(text, @"
    Effective policy of postgresql db/acid-a
    Policies:  scalepolicy/production (Enforce)
    Cannot be decoded:  scalepolicy/strange: spec.mode: unknown variant `Quarantine`, expected one of `Audit`, `Warn`, `Enforce`

    FIELD                VALUE             FROM                     EFFECT
    instances.min        1                 built-in                 in force
    instances.max        7                 scalepolicy/production   in force
    instances.zero       Deny              built-in                 in force
    whenUnknown.down     Deny              built-in                 in force
    whenUnknown.up       Warn              built-in                 in force
    builtIn.mode         Enforce           built-in                 in force
    builtIn.loosenable   all but 6 rules   built-in                 in force
    ");
    insta::assert_snapshot!(failure, @"
    error: not all policies could be read: scalepolicy/strange cannot be decoded by pgscale 0.1.0 (spec.mode: unknown variant `Quarantine`, expected one of `Audit`, `Warn`, `Enforce`): upgrade pgscale or correct the policy
    hint: open it for correction:
        kubectl edit scalepolicy/strange -n db
    ");
    let (text, code, _) = screen(&with_strange_ones(), "policy").await;
    assert_eq!(code, 1);
    insta::assert_snapshot!(text, @"
    Effective policy of namespace db
    Policies:  scalepolicy/production (Enforce)
    For some clusters only:  scalepolicy/stranger
    Cannot be decoded:  scalepolicy/strange: spec.mode: unknown variant `Quarantine`, expected one of `Audit`, `Warn`, `Enforce`
    Cannot be decoded:  scalepolicy/stranger: spec.rules: unknown variant `Shout`, expected one of `Ignore`, `Warn`, `Deny`

    FIELD                VALUE             FROM                     EFFECT
    instances.min        1                 built-in                 in force
    instances.max        7                 scalepolicy/production   in force
    instances.zero       Deny              built-in                 in force
    whenUnknown.down     Deny              built-in                 in force
    whenUnknown.up       Warn              built-in                 in force
    builtIn.mode         Enforce           built-in                 in force
    builtIn.loosenable   all but 6 rules   built-in                 in force
    ");
    let (text, ..) = screen(&with_strange_ones(), "policy acid-a -o json").await;
    let document: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        document["undecodable"],
        json!([{"name": "scalepolicy/strange",
            "reason": "spec.mode: unknown variant `Quarantine`, expected one of `Audit`, `Warn`, `Enforce`",
            "correction": "kubectl edit scalepolicy/strange -n db"}])
    );
    assert_eq!(document["fields"][1]["source"], "scalepolicy/production", "it hides no other");
}

#[tokio::test]
async fn a_policy_that_cannot_be_decoded_refuses_only_where_it_selects() {
    let (text, code, _) = screen(&with_strange_ones(), "plan acid-a --to 2").await;
    assert_eq!(code, 3);
    assert!(text.contains("scalepolicy/strange cannot be decoded"), "{text}");
    assert!(!text.contains("scalepolicy/stranger"), "{text}");
    let (text, code, _) = screen(&with_strange_ones(), "plan acid-a --to 9").await;
    assert_eq!(code, 3, "the limit of another policy still holds");
    assert!(text.contains("7 is the maximum"), "{text}");
    let elsewhere = World::new(3, 0).policy(
        "stranger",
        &json!({"clusterSelector": {"matchLabels": {"app": "shop"}}, "mode": "Quarantine"}),
    );
    let (_, code, failure) = run(&elsewhere, "down acid-a --yes", None).await;
    assert_eq!((code, failure.as_str()), (0, ""));
    let (text, code, failure) = screen(&elsewhere, "policy acid-a").await;
    assert_eq!((code, failure.as_str(), text.contains("stranger")), (0, "", false));
}

#[tokio::test]
async fn a_policy_that_cannot_be_decoded_is_tried_in_its_corrected_form() {
    let policy = file(
        "apiVersion: pgscale.dev/v1alpha1
kind: ScalePolicy
metadata: {name: strange}
spec: {mode: Enforce}
",
    );
    let line = format!("policy test -f {}", policy.path().display());
    let (run, code, _) = run(&with_strange_ones(), &line, None).await;
    assert_eq!(code, 0);
    insta::assert_snapshot!(run.stdout(), @"
    NAME     INSTANCES   AS IT IS        ONE LESS                  ONE MORE
    acid-a   3           within bounds   allowed (refused today)   allowed
    ");
    assert_eq!(run.stderr(), "", "the corrected form can be read");
    let other = file(
        "apiVersion: pgscale.dev/v1alpha1
kind: ScalePolicy
metadata: {name: other}
spec: {mode: Warn}
",
    );
    let line = format!("policy test -f {}", other.path().display());
    let (run, ..) = crate::testing::run(&with_strange_ones(), &line, None).await;
    let warned =
        "not all policies of db/acid-a could be read: scalepolicy/strange cannot be decoded";
    assert!(run.stderr().contains(warned), "{}", run.stderr());
}

fn file(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    file
}

#[tokio::test]
async fn a_new_policy_is_tried_on_the_existing_clusters() {
    let policy = file(
        "apiVersion: pgscale.dev/v1alpha1
kind: ScalePolicy
metadata: {name: production}
spec: {instances: {min: 4, max: 4}, freeze: {}}
",
    );
    let line = format!("policy test -f {}", policy.path().display());
    let (text, code, failure) = screen(&World::new(3, 0), &line).await;
    assert_eq!(code, 3);
    insta::assert_snapshot!(text, @"
    NAME     INSTANCES   AS IT IS                                           ONE LESS                                              ONE MORE
    acid-a   3           breaks instances.min: 4 (scalepolicy/production)   refused by below-min, change-freeze (allowed today)   allowed
    ");
    insta::assert_snapshot!(failure, @"
    error: these clusters would break an enforced bound as they are: db/acid-a
    hint: nothing happens to them by itself; they may only move towards the bound
    ");

    // The new policy replaces the existing one. A finding that only warns does not fail the trial.
    let policy = file(
        "apiVersion: pgscale.dev/v1alpha1
kind: ScalePolicy
metadata: {name: production, namespace: db}
spec: {mode: Warn, instances: {min: 4}}
",
    );
    let line = format!("policy test -A -f {}", policy.path().display());
    let there = World::new(3, 0).policy("production", &json!({"instances": {"min": 3, "max": 3}}));
    let (text, code, _) = screen(&there, &line).await;
    assert_eq!(code, 0);
    insta::assert_snapshot!(text, @"
    NAMESPACE   NAME     INSTANCES   AS IT IS                                                       ONE LESS                                        ONE MORE
    db          acid-a   3           breaks instances.min: 4 (scalepolicy/production, only warns)   allowed, 1 warning: below-min (refused today)   allowed (refused today)
    ");
    let (_, code, failure) = screen(&there, "policy test -f /nowhere.yaml").await;
    assert_eq!(code, 1);
    assert!(failure.contains("failed to read /nowhere.yaml: "), "{failure}");
}

#[tokio::test]
async fn an_undo_is_free_of_calendar_and_steps() {
    let world = World::new(3, 0);
    let (_, code, failure) = run(&world, "up acid-a --to 5", None).await;
    assert_eq!((code, failure.as_str()), (0, ""));
    let frozen =
        world.policy("peak", &json!({"steps": {"down": 1}, "freeze": {"reason": "peak season"}}));
    let (_, code, failure) = run(&frozen, "down acid-a --to 3 --yes", None).await;
    assert_eq!(code, 3, "{failure}");
    assert!(failure.contains("change-freeze") && failure.contains("step-too-large"), "{failure}");
    let (_, code, failure) = run(&frozen, "undo acid-a --yes", None).await;
    assert_eq!((code, failure.as_str()), (0, ""));
    assert_eq!(frozen.declared(), 3);
}

#[tokio::test]
async fn definitions_that_are_not_installed_are_not_called_none() {
    let (shown, code, _) = screen(&World::new(3, 0).without_definitions(), "policy").await;
    assert_eq!(code, 0);
    assert!(shown.contains("none: the kinds ScalePolicy and ClusterScalePolicy"), "{shown}");
    let (shown, ..) = screen(&World::new(3, 0), "policy").await;
    assert!(shown.contains("Policies:  none\n"), "{shown}");
}
