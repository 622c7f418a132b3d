//! The state that an interruption is said to leave behind, and a timeout to continue.

use crate::terminal::testing::Screen;
use crate::testing::{Mishap, World, give, run};

/// Returns what an interruption would say at the end of the command.
async fn meaning(world: &World, line: &str) -> String {
    let session = world.session(&Screen::default(), None);
    give(&session, line).await.ok();
    session.interruption.failure().text()
}

#[tokio::test]
async fn interruption_says_that_the_change_goes_on_only_where_one_was_made() {
    for line in [
        "status",
        "plan acid-a --to 4",
        "wait acid-a --timeout 0",
        "verify acid-a --sql=false",
        "history acid-a",
        "undo acid-a",
        "set acid-a 3",
        "up acid-a --dry-run=client",
        "up --all --yes --dry-run=client",
        "down acid-a",
    ] {
        let said = meaning(&World::new(3, 0), line).await;
        for word in ["continues", "goes on", "stay", "may have been"] {
            assert!(!said.contains(word), "{line}: {said}");
        }
    }
    for line in ["up acid-a --wait=false", "up acid-a --timeout 0"] {
        let world = World::new(3, 0).with(Mishap::UpdateDropped);
        let said = meaning(&world, line).await;
        assert_eq!(said, "interrupted; the change continues", "{line}");
    }
    let said = meaning(&World::new(3, 0), "up acid-a").await;
    assert_eq!(said, "interrupted; the cluster has converged");
}

#[tokio::test]
async fn interruption_after_the_leader_moved_says_so() {
    // The rules refuse the shrink after the leader has moved.
    let world = World::new(5, 4).with(Mishap::NobodyFollows);
    let said = meaning(&world, "down acid-a --to 3 --yes").await;
    assert_eq!(said, "interrupted; the leader was moved, and numberOfInstances is unchanged");
}

#[tokio::test]
async fn interruption_after_a_conflict_does_not_say_that_the_count_may_be_written() {
    // Another writer recreates the cluster, so the plan is not made again.
    let world = World::new(3, 0).with(Mishap::Recreated);
    let said = meaning(&world, "up acid-a").await;
    assert_eq!(said, "interrupted; nothing was changed");
}

#[tokio::test]
async fn timeout_says_that_the_change_goes_on_only_where_one_was_made() {
    let world = World::new(3, 0).quota_spent();
    let (_, code, why) = run(&world, "wait acid-a --timeout 20ms", None).await;
    assert_eq!(code, 4, "{why}");
    assert!(
        why.starts_with("error: postgresql db/acid-a has not converged within 0.02s\n"),
        "{why}"
    );
    let world = World::new(3, 0).with(Mishap::UpdateDropped);
    let (_, code, why) = run(&world, "up acid-a --timeout 20ms", None).await;
    assert_eq!(code, 4, "{why}");
    assert!(why.contains("; the change continues as soon as it acts\n"), "{why}");
    // It is not the change of the wait, and can be cancelled all the same.
    let (_, code, why) = run(&world, "wait acid-a --timeout 20ms", None).await;
    assert_eq!(code, 4, "{why}");
    assert!(!why.contains("the change continues"), "{why}");
    assert!(why.contains("cancel the change:\n    kubectl pgscale set acid-a 3 -n db"), "{why}");
}
