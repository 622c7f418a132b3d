//! The switchover of a shrink that goes wrong: what is printed meanwhile and at the end.

use std::time::Duration;

use crate::error::Failure;
use crate::terminal::testing::Screen;
use crate::testing::{Mishap, World, give, run};

/// Runs a command that fails, with waits of production's length.
async fn patient(world: &World, line: &str) -> (Screen, Failure, Duration) {
    let screen = Screen::default();
    let mut session = world.session(&screen, None);
    session.pace.follow = Duration::from_secs(60);
    session.pace.confirm = Duration::from_secs(60);
    session.pace.tell = Duration::from_secs(5);
    session.pace.poll = Duration::from_secs(1);
    let start = tokio::time::Instant::now();
    let failure = give(&session, line).await.unwrap_err();
    (screen, failure, start.elapsed())
}

#[tokio::test(start_paused = true)]
async fn wait_for_a_frozen_leader_is_reported_and_ends_within_the_timeout() {
    let world = World::new(5, 4).with(Mishap::NewLeaderFreezes);
    let (screen, failure, took) = patient(&world, "down acid-a --to 3 --yes --timeout 20s").await;
    assert_eq!((failure.kind.code(), world.declared()), (5, 5), "{failure}");
    assert!(took < Duration::from_secs(23), "{took:?}");
    let said = screen.stderr();
    assert!(said.matches("still waiting after").count() >= 3, "{said}");
    let why = failure.to_string();
    let signs = "the lock says acid-a-0, and the leader's label is on acid-a-0";
    assert!(said.contains(signs) && why.contains(signs), "{said}{why}");
    assert!(why.contains("acid-a-0 does not answer any more: timed out after 1s"), "{why}");
    assert!(why.contains("kubectl pgscale status acid-a --why -n db"), "{why}");
    assert!(why.contains("run the same command again"), "{why}");
}

#[tokio::test(start_paused = true)]
async fn candidate_that_freezes_is_named_with_the_next_command() {
    for line in ["down acid-a --to 3 --yes", "switchover acid-a"] {
        let world = World::new(5, 4).with(Mishap::CandidateFreezes);
        let (_, failure, _) = patient(&world, line).await;
        assert_eq!((failure.kind.code(), world.declared()), (3, 5), "{line}: {failure}");
        let why = failure.to_string();
        for part in [
            "503 Switchover failed",
            "nothing was changed",
            "acid-a-0 does not answer any more: timed out after 1s",
            "kubectl pgscale status acid-a --why -n db",
            "run the same command again",
        ] {
            assert!(why.contains(part), "{line}: {why}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn candidate_that_patroni_refuses_is_named_with_the_next_command() {
    for (line, next) in [
        ("down acid-a --to 3 --yes", "run the same command again: it chooses the best member"),
        ("switchover acid-a", "run the same command again: it chooses the best member"),
        (
            "switchover acid-a --to acid-a-0",
            "run the same command again once acid-a-0 is fit, or name another member",
        ),
    ] {
        let world = World::new(5, 4).with(Mishap::CandidateFrozen);
        let (_, failure, _) = patient(&world, line).await;
        assert_eq!((failure.kind.code(), world.declared()), (3, 5), "{line}: {failure}");
        let why = failure.to_string();
        for part in [
            "Patroni refused to switch over from acid-a-4 to acid-a-0: 412",
            "nothing was changed",
            "acid-a-0 does not answer any more: timed out after 1s",
            "kubectl pgscale status acid-a --why -n db",
            next,
        ] {
            assert!(why.contains(part), "{line}: {why}");
        }
    }
}

#[tokio::test]
async fn leader_that_is_gone_after_the_checkpoint_is_one_reason() {
    for line in ["down acid-a --to 3 --yes", "switchover acid-a --for 3", "switchover acid-a"] {
        let world = World::new(5, 4).with(Mishap::LeaderGoneAtCheckpoint);
        let (_, code, why) = run(&world, line, None).await;
        assert_eq!((code, world.declared(), world.switchovers().len()), (3, 5, 0), "{line}: {why}");
        assert_eq!(why.matches("no-leader").count(), 1, "{line}: {why}");
        assert!(why.contains("a new leader is being elected"), "{line}: {why}");
        assert!(why.contains("again in a few seconds"), "{line}: {why}");
    }
}

#[tokio::test]
async fn count_that_another_writer_set_before_the_switchover_is_superseded() {
    let world = World::new(5, 0).with(Mishap::CountedAtPrompt(4));
    let (_, code, why) = run(&world, "down acid-a --to 3", Some("y\n")).await;
    assert_eq!((code, world.declared(), world.writes().len()), (6, 4, 0), "{why}");
    assert!(why.contains("another writer set numberOfInstances"), "{why}");
}

#[tokio::test]
async fn consent_is_named_only_without_a_terminal() {
    let refused = || World::new(5, 4).stalled(&[0, 1]);
    let line = "down acid-a --to 2";
    let yes = "add --yes to a command that changes the count";
    let (screen, failure) = printed(&refused(), line, None).await;
    assert_eq!(failure.kind.code(), 3);
    assert_eq!(screen.stderr().matches(yes).count(), 1, "{}", screen.stderr());
    let (screen, _) = printed(&refused(), line, Some("y\n")).await;
    assert!(!screen.stderr().contains("--yes"), "{}", screen.stderr());
}

/// Runs a command that fails, and prints its failure.
async fn printed(world: &World, line: &str, lines: Option<&str>) -> (Screen, Failure) {
    let screen = Screen::default();
    let session = world.session(&screen, lines);
    let failure = give(&session, line).await.unwrap_err();
    session.out.failure(&failure);
    (screen, failure)
}

#[tokio::test]
async fn paused_cluster_shrinks_with_the_leader_moved_first() {
    let world = World::new(5, 4).paused();
    let (_, code, why) = run(&world, "down acid-a --to 3 --yes", None).await;
    assert_eq!((code, world.declared(), world.leader()), (0, 3, 0), "{why}");
    assert_eq!((world.switchovers().len(), world.writes().len()), (1, 1));
}
