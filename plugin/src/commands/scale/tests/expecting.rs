//! `--expect-plan`: the change of a plan that another person or program looked at.

use serde_json::Value;

use crate::testing::{Mishap, World, run};

/// Returns the hash that `plan` prints for `to` instances.
async fn hash(world: &World, to: i64) -> String {
    let (screen, ..) = run(world, &format!("plan acid-a --to {to} -o json"), None).await;
    let plan: Value = serde_json::from_str(&screen.stdout()).unwrap();
    plan["hash"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn expected_plan_is_carried_out() {
    for (leader, line, to) in
        [(0, "down acid-a", 2), (2, "down acid-a", 2), (0, "up acid-a", 4), (0, "set acid-a 4", 4)]
    {
        let world = World::new(3, leader);
        let expected = hash(&world, to).await;
        let line = format!("{line} --yes --wait=false --expect-plan {expected}");
        let (_, code, failure) = run(&world, &line, None).await;
        assert_eq!((code, world.declared()), (0, to), "{line}: {failure}");
    }
}

#[tokio::test]
async fn plan_that_has_moved_on_changes_nothing() {
    let before = hash(&World::new(3, 0), 2).await;
    let world = World::new(3, 1);
    let line = format!("down acid-a --yes --wait=false --expect-plan {before}");
    let (_, code, failure) = run(&world, &line, None).await;
    assert_eq!((code, world.writes().len()), (3, 0), "{failure}");
    let text = failure.replace(&before, "BEFORE").replace(&hash(&world, 2).await, "NOW");
    insta::assert_snapshot!(text, @"
    error: the plan of postgresql db/acid-a is NOW now, not the expected BEFORE: its members, its leader, its steps or its findings have changed; nothing was changed
    hint: look at it again:
        kubectl pgscale plan acid-a --to 2 -o wide -n db
    ");

    // It moves on while the question is open.
    let world = World::new(3, 0).hiding(&["persistentvolumeclaims"]).with(Mishap::BoundedAtPrompt);
    let shown = hash(&world, 4).await;
    let line = format!("up acid-a --wait=false --expect-plan {shown}");
    let (_, code, failure) = run(&world, &line, Some("y\n")).await;
    assert_eq!((code, world.writes().len()), (3, 0), "{failure}");
}

#[tokio::test]
async fn hash_names_one_plan_of_one_cluster() {
    let world = World::new(3, 0);
    let line = "up -l team=acid --expect-plan 0123456789abcdef";
    let (_, code, failure) = run(&world, line, None).await;
    assert_eq!((code, world.writes().len()), (2, 0), "{failure}");
    assert!(failure.contains("--expect-plan is about one plan"), "{failure}");
}
