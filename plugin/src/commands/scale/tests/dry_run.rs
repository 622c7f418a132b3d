//! Writes that are judged and not stored: before the leader moves, and with `--dry-run=server`.

use pgscale_guard::rules::AFTER_SWITCHOVER;
use serde_json::json;

use crate::plan::FIELD_MANAGER;
use crate::testing::{Mishap, World, run};

fn managers(world: &World) -> Vec<String> {
    world.dry_runs().into_iter().map(|(manager, _)| manager).collect()
}

#[tokio::test]
async fn the_leader_moves_only_for_a_write_that_would_pass() {
    for line in ["down acid-a --to 3 --yes", "set acid-a 3 --yes", "down -l team=acid --to 3 --yes"]
    {
        let world = World::new(5, 4).with(Mishap::Denial);
        let (screen, code, why) = run(&world, line, None).await;
        assert_eq!((code, world.leader(), world.declared()), (3, 4, 5), "{line}: {why}");
        assert_eq!((world.switchovers().len(), world.writes().len()), (0, 0), "{line}");
        let said = format!("{}{why}", screen.stderr());
        assert!(!said.contains("CHECKPOINT on acid-a-4 ..."), "{line}: {said}");
        assert!(said.contains("denied the request: below-min"), "{line}: {said}");
        assert!(said.contains("nothing was changed"), "{line}: {said}");
        let patch = json!({"metadata": {"resourceVersion": "7", "uid": "u1"},
            "spec": {"numberOfInstances": 3}});
        assert_eq!(world.dry_runs(), [(AFTER_SWITCHOVER.to_owned(), patch)], "{line}");
    }
}

#[tokio::test]
async fn an_undo_moves_the_leader_only_for_a_write_that_would_pass() {
    let world = World::new(3, 0);
    assert_eq!(run(&world, "up acid-a --to 5", None).await.1, 0);
    world.lead(4);
    let world = world.with(Mishap::Denial);
    let (_, code, why) = run(&world, "undo acid-a --yes", None).await;
    assert_eq!((code, world.leader(), world.declared()), (3, 4, 5), "{why}");
    assert_eq!(world.switchovers().len(), 0);
    assert_eq!(world.recorded()[1]["result"], "Refused");
}

#[tokio::test]
async fn a_webhook_that_takes_no_dry_runs_leaves_the_leader_where_it_is() {
    let world = World::new(5, 4).with(Mishap::DryRunUnsupported);
    let (screen, code, why) = run(&world, "down acid-a --to 3 --yes", None).await;
    assert_eq!((code, world.leader(), world.declared()), (1, 4, 5), "{why}");
    assert_eq!((world.switchovers().len(), world.writes().len()), (0, 0));
    assert!(!screen.stderr().contains("CHECKPOINT on acid-a-4 ..."), "{}", screen.stderr());
    insta::assert_snapshot!(why, @r#"
    error: failed to test whether the API server would let you change postgresql db/acid-a: admission webhook "audit.example.com" does not support dry run (see sideEffects of its registration)
    nothing was changed
    hint: move the leader first:
        kubectl pgscale switchover acid-a --for 3 -n db
    hint: then lower the count:
        kubectl pgscale set acid-a 3 -n db
    "#);
    // The commands that it names work.
    for line in ["switchover acid-a --for 3", "set acid-a 3 --yes"] {
        let (_, code, why) = run(&world, line, None).await;
        assert_eq!((code, why.as_str()), (0, ""), "{line}");
    }
    assert_eq!((world.leader(), world.declared()), (0, 3));
}

#[tokio::test]
async fn a_server_dry_run_says_that_a_webhook_takes_none() {
    let world = World::new(3, 0).with(Mishap::DryRunUnsupported);
    let (_, code, why) = run(&world, "up acid-a --dry-run=server", None).await;
    assert_eq!(code, 1);
    insta::assert_snapshot!(why, @r#"
    error: failed to test whether the API server would let you change postgresql db/acid-a: admission webhook "audit.example.com" does not support dry run (see sideEffects of its registration)
    hint: to see what the rules say:
        kubectl pgscale plan acid-a --to 4 -n db
    "#);
}

#[tokio::test]
async fn a_write_that_comes_between_is_judged_again_before_the_leader_moves() {
    let world = World::new(5, 4).with(Mishap::Conflict);
    let (_, code, why) = run(&world, "down acid-a --to 3 --yes", None).await;
    assert_eq!((code, world.leader(), world.declared()), (0, 0, 3), "{why}");
    assert_eq!(managers(&world), [AFTER_SWITCHOVER, AFTER_SWITCHOVER]);
    assert_eq!((world.switchovers().len(), world.writes().len()), (1, 1));
    let world = World::new(5, 4).with(Mishap::Recreated);
    let (_, code, why) = run(&world, "down acid-a --to 3 --yes", None).await;
    assert_eq!((code, world.switchovers().len(), world.writes().len()), (1, 0, 0), "{why}");
    assert_eq!(why.matches("nothing was changed").count(), 1, "{why}");
}

#[tokio::test]
async fn a_write_that_is_refused_all_the_same_says_that_the_leader_moved() {
    let world = World::new(5, 4).with(Mishap::DenialAfterDryRun);
    let (_, code, why) = run(&world, "down acid-a --to 3 --yes", None).await;
    assert_eq!((code, world.leader(), world.declared()), (5, 0, 5), "{why}");
    assert!(why.contains("the leader was moved; numberOfInstances is unchanged"), "{why}");
}

#[tokio::test]
async fn only_a_leader_that_would_move_is_assumed_to_have_moved() {
    for (world, line, want) in [
        (World::new(5, 4), "down acid-a --to 3 --dry-run=server", &[AFTER_SWITCHOVER][..]),
        (World::new(5, 0), "down acid-a --to 3 --dry-run=server", &[FIELD_MANAGER]),
        (World::new(3, 2), "up acid-a --dry-run=server", &[FIELD_MANAGER]),
        // Nothing else is asked for twice.
        (World::new(5, 0), "down acid-a --to 3 --yes", &[]),
        (World::new(3, 2), "up acid-a", &[]),
    ] {
        let (_, code, why) = run(&world, line, None).await;
        assert_eq!(code, 0, "{line}: {why}");
        assert_eq!(managers(&world), want, "{line}");
    }
}

#[tokio::test]
async fn a_dry_run_that_met_another_write_is_planned_again() {
    let world = World::new(3, 0).with(Mishap::Conflict);
    let (screen, code, why) = run(&world, "up acid-a --dry-run=server", None).await;
    assert_eq!(code, 0, "{why}");
    assert!(screen.stdout().contains("(server dry run)"), "{}", screen.stdout());
    assert_eq!((world.dry_runs().len(), world.writes().len(), world.declared()), (2, 0, 3));
}

#[tokio::test]
async fn dry_runs_change_nothing() {
    let world = World::new(5, 4);
    let (screen, code, _) = run(&world, "down acid-a --to 3 --dry-run=client", None).await;
    assert_eq!((code, world.writes().len(), world.dry_runs().len()), (0, 0, 0));
    assert_eq!(screen.stdout(), "postgresql/acid-a scaled from 5 to 3 instances (dry run)\n");
    let (screen, code, _) = run(&world, "down acid-a --to 3 --dry-run=server", None).await;
    assert_eq!((code, world.writes().len(), world.declared()), (0, 0, 5));
    assert_eq!(
        screen.stdout(),
        "postgresql/acid-a scaled from 5 to 3 instances (server dry run)\n"
    );
    assert!(!screen.stderr().contains("Warning"), "{}", screen.stderr());
    assert_eq!(world.switchovers().len(), 0);
}
