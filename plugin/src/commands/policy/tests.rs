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
async fn every_value_is_told_with_its_source() {
    let (text, code, _) = screen(&world(), "policy acid-a").await;
    assert_eq!(code, 0);
    insta::assert_snapshot!(text, @"
    Effective policy of postgresql db/acid-a
    Policies:  clusterscalepolicy/platform (Enforce), scalepolicy/production (Enforce), scalepolicy/trial (Warn)

    FIELD                      VALUE     FROM                          EFFECT
    instances.min              3         scalepolicy/production        in force
    instances.min              5         scalepolicy/trial             only warns
    instances.max              7         scalepolicy/production        in force
    instances.zero             Deny      built-in                      in force
    steps.down                 2         scalepolicy/production        in force
    whenUnknown.down           Deny      built-in                      in force
    whenUnknown.up             Deny      clusterscalepolicy/platform   in force
    rules.survivor-unhealthy   Deny      scalepolicy/production        in force
    builtIn.mode               Enforce   built-in                      in force
    ");
    let (text, ..) = screen(&world(), "policy -o wide").await;
    insta::assert_snapshot!(text, @"
    Effective policy of namespace db
    Policies:  clusterscalepolicy/platform (Enforce), scalepolicy/production (Enforce), scalepolicy/trial (Warn)
    For some clusters only:  scalepolicy/shops

    FIELD                      VALUE     FROM                          EFFECT
    instances.min              2         clusterscalepolicy/platform   a stricter one decides
    instances.min              3         scalepolicy/production        in force
    instances.min              5         scalepolicy/trial             only warns
    instances.max              7         scalepolicy/production        in force
    instances.zero             Deny      built-in                      in force
    steps.down                 2         scalepolicy/production        in force
    whenUnknown.down           Deny      built-in                      in force
    whenUnknown.up             Deny      clusterscalepolicy/platform   in force
    rules.survivor-unhealthy   Deny      scalepolicy/production        in force
    builtIn.mode               Enforce   built-in                      in force
    ");
    let (text, ..) = screen(&World::new(3, 0), "policy").await;
    insta::assert_snapshot!(text, @"
    Effective policy of namespace db
    Policies:  none

    FIELD              VALUE     FROM       EFFECT
    instances.min      1         built-in   in force
    instances.zero     Deny      built-in   in force
    whenUnknown.down   Deny      built-in   in force
    whenUnknown.up     Warn      built-in   in force
    builtIn.mode       Enforce   built-in   in force
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

fn file(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    file
}

#[tokio::test]
async fn a_new_policy_is_tried_on_the_clusters_there_are() {
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

    // It takes the place of the one that is there, and what only warns is no reason to fail.
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
    NAMESPACE   NAME     INSTANCES   AS IT IS                                                       ONE LESS                                       ONE MORE
    db          acid-a   3           breaks instances.min: 4 (scalepolicy/production, only warns)   allowed; warned of below-min (refused today)   allowed (refused today)
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
