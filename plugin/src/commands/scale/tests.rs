//! `up`, `down` and `set` on a cluster in memory: their writes, their texts and their ends.

use std::time::Duration;

use serde_json::json;

use crate::terminal::testing::Screen;
use crate::testing::{Mishap, World, give, run};

mod asking;
mod dry_run;
mod expecting;
mod idle;
mod interrupted;
mod measured;
mod several;
mod switching;

#[tokio::test]
async fn growth_is_written_once_with_its_preconditions_and_waited_for() {
    let world = World::new(3, 0);
    let (screen, code, why) = run(&world, "up acid-a --to 5", None).await;
    assert_eq!((code, why.as_str()), (0, ""));
    assert_eq!(
        world.writes(),
        [
            json!({"metadata": {"resourceVersion": "7", "uid": "u1"}, "spec": {"numberOfInstances": 5}})
        ]
    );
    let said = screen.stdout();
    assert!(said.starts_with("postgresql/acid-a scaled from 3 to 5 instances in "), "{said}");
}

#[tokio::test]
async fn by_default_one_instance_comes_or_goes() {
    let world = World::new(3, 0);
    assert_eq!(run(&world, "up pg/acid-a", None).await.1, 0);
    assert_eq!(world.declared(), 4);
    assert_eq!(run(&world, "down postgresql/acid-a --yes", None).await.1, 0);
    assert_eq!(world.declared(), 3);
}

#[tokio::test]
async fn a_condemned_leader_moves_before_the_count_is_lowered() {
    let world = World::new(5, 4);
    let (_, code, why) = run(&world, "down acid-a --to 3 --yes", None).await;
    assert_eq!((code, why.as_str()), (0, ""));
    assert_eq!(world.switchovers(), [json!({"leader": "acid-a-4", "candidate": "acid-a-0"})]);
    assert_eq!((world.declared(), world.leader(), world.writes().len()), (3, 0, 1));
}

#[tokio::test]
async fn a_failover_while_the_question_is_open_stops_the_shrink() {
    for (mishap, reason) in [
        (Mishap::FailoverAtPrompt, "acid-a-4 leads now"),
        (Mishap::FailoverAndStallAtPrompt, "too-few-healthy-survivors"),
    ] {
        let world = World::new(5, 0).with(mishap);
        let (_, code, why) = run(&world, "down acid-a --to 3", Some("y\n")).await;
        assert_eq!((code, world.declared(), world.leader()), (3, 5, 4), "{why}");
        assert_eq!((world.writes().len(), world.switchovers().len()), (0, 0), "{mishap:?}");
        assert!(why.contains(reason) && why.contains("nothing was changed"), "{why}");
    }
}

#[tokio::test]
async fn a_failover_during_the_checkpoint_stops_shrink_and_switchover() {
    for line in ["down acid-a --to 3 --yes", "switchover acid-a --for 3"] {
        let world = World::new(5, 4).with(Mishap::FailoverAtCheckpoint);
        let (_, code, why) = run(&world, line, None).await;
        assert_eq!((code, world.declared(), world.leader()), (3, 5, 3), "{line}: {why}");
        assert_eq!((world.writes().len(), world.switchovers().len()), (0, 0), "{line}");
        assert!(why.contains("acid-a-3") && why.contains("nothing was changed"), "{line}: {why}");
    }
}

#[tokio::test]
async fn a_leader_that_another_writer_moves_is_not_moved_by_us() {
    for mishap in [Mishap::SwitchoverPending, Mishap::SwitchoversHidden] {
        for line in ["down acid-a --to 3 --yes", "switchover acid-a"] {
            let world = World::new(5, 4).with(mishap);
            let (_, code, why) = run(&world, line, None).await;
            assert_eq!(
                (code, world.declared(), world.leader()),
                (3, 5, 4),
                "{mishap:?} {line}: {why}"
            );
            assert_eq!(
                (world.writes().len(), world.switchovers().len()),
                (0, 0),
                "{mishap:?} {line}"
            );
            assert!(why.contains("switchover-pending"), "{mishap:?} {line}: {why}");
            // `patronictl flush` would do nothing about either.
            assert!(!why.contains("flush"), "{mishap:?} {line}: {why}");
        }
    }
}

#[tokio::test]
async fn nothing_changes_when_no_member_can_take_over() {
    let world = World::new(5, 4).stalled(&[0, 1]);
    let (_, code, why) = run(&world, "down acid-a --to 2 --yes", None).await;
    assert_eq!(code, 3);
    assert!(why.contains("leader-condemned") && why.contains("set acid-a 4 -n db"), "{why}");
    assert_eq!((world.writes().len(), world.switchovers().len()), (0, 0));
    // The alternative that it names works.
    let (_, code, why) = run(&world, "set acid-a 4 --yes --wait=false", None).await;
    assert_eq!((code, why.as_str()), (0, ""));
    assert_eq!((world.declared(), world.leader()), (4, 2));
}

#[tokio::test]
async fn members_that_cannot_be_asked_refuse_a_shrink_and_not_growth() {
    let world = World::new(3, 0).silent();
    let (screen, code, _) = run(&world, "down acid-a --yes", None).await;
    assert_eq!(code, 3);
    assert!(screen.stderr().contains("pods/portforward"), "{}", screen.stderr());
    let (screen, code, why) = run(&world, "up acid-a", None).await;
    assert_eq!((code, why.as_str()), (0, ""));
    assert!(screen.stderr().contains("no member could be asked"), "{}", screen.stderr());
}

#[tokio::test]
async fn a_conflict_is_planned_again_and_written_once() {
    let world = World::new(3, 0).with(Mishap::Conflict);
    assert_eq!(run(&world, "up acid-a --to 4", None).await.1, 0);
    let versions: Vec<_> =
        world.writes().iter().map(|write| write["metadata"]["resourceVersion"].clone()).collect();
    assert_eq!(versions, ["7", "8"]);
}

#[tokio::test]
async fn a_recreated_cluster_is_another_cluster() {
    let world = World::new(3, 0).with(Mishap::Recreated);
    let (_, code, why) = run(&world, "up acid-a --to 4", None).await;
    assert_eq!((code, world.declared()), (1, 3));
    assert!(why.contains("deleted and created again"), "{why}");
}

#[tokio::test]
async fn a_lost_answer_is_looked_for_and_never_sent_again() {
    let arrived = World::new(3, 0).with(Mishap::LostAfter);
    assert_eq!(run(&arrived, "up acid-a --to 4", None).await.1, 0);
    assert_eq!((arrived.declared(), arrived.writes().len()), (4, 1));

    let lost = World::new(3, 0).with(Mishap::LostBefore);
    let (_, code, why) = run(&lost, "up acid-a --to 4", None).await;
    assert_eq!((code, lost.declared(), lost.writes().len()), (1, 3, 1));
    assert!(why.contains("still says numberOfInstances 3"), "{why}");
}

#[tokio::test]
async fn a_denial_by_the_webhook_ends_like_our_own() {
    let world = World::new(3, 0).with(Mishap::Denial);
    let (_, code, why) = run(&world, "down acid-a --yes", None).await;
    assert_eq!((code, world.declared()), (3, 3));
    assert!(why.contains("denied the request: below-min"), "{why}");
    assert!(why.contains("nothing was changed"), "{why}");
}

#[tokio::test]
async fn a_refused_switchover_leaves_everything_as_it_was() {
    let world = World::new(5, 4).with(Mishap::SwitchoverRefused);
    let (_, code, why) = run(&world, "down acid-a --to 3 --yes", None).await;
    assert_eq!((code, world.declared(), world.leader(), world.writes().len()), (3, 5, 4, 0));
    assert!(why.contains("412 candidate name does not match"), "{why}");
}

#[tokio::test]
async fn a_switchover_whose_answer_was_lost_is_found_and_not_sent_again() {
    let world = World::new(5, 4).with(Mishap::SwitchoverAnswerLost);
    assert_eq!(run(&world, "down acid-a --to 3 --yes", None).await.1, 0);
    assert_eq!((world.switchovers().len(), world.declared()), (1, 3));
}

#[tokio::test]
async fn a_standby_clusters_leader_moves_on_one_timeline() {
    let world = World::new(5, 4).standby_cluster();
    let (_, code, why) = run(&world, "down acid-a --to 3 --yes", None).await;
    assert_eq!((code, world.declared(), world.leader()), (0, 3, 0), "{why}");
    assert_eq!((world.switchovers().len(), world.writes().len()), (1, 1));
}

#[tokio::test]
async fn a_count_that_another_writer_set_during_the_switchover_stays() {
    let world = World::new(5, 4).with(Mishap::CountedDuringSwitchover(7));
    let (_, code, why) = run(&world, "down acid-a --to 3 --yes", None).await;
    assert_eq!((code, world.declared(), world.writes().len()), (5, 7, 0), "{why}");
    assert!(why.contains("another writer set numberOfInstances"), "{why}");
    assert!(why.contains("the leader was moved"), "{why}");
}

#[tokio::test]
async fn survivors_that_do_not_follow_stop_the_shrink() {
    let world = World::new(5, 4).with(Mishap::NobodyFollows);
    let (_, code, why) = run(&world, "down acid-a --to 3 --yes", None).await;
    assert_eq!((code, world.declared(), world.writes().len()), (5, 5, 0));
    assert!(why.contains("the leader was moved, and numberOfInstances was not changed"), "{why}");
}

#[tokio::test(start_paused = true)]
async fn a_shrink_says_what_it_waits_for_after_the_switchover() {
    let (world, screen) = (World::new(5, 4).with(Mishap::NobodyFollows), Screen::default());
    let mut session = world.session(&screen, None);
    session.pace.follow = Duration::from_secs(5);
    give(&session, "down acid-a --to 3 --yes").await.unwrap_err();
    let waits = "s: acid-a-1: 990 bytes behind the leader after a second; acid-a-2: ";
    assert!(screen.stderr().contains(waits), "{}", screen.stderr());
}

#[tokio::test]
async fn an_api_server_away_right_after_the_switchover_is_waited_out() {
    let world = World::new(5, 4).with(Mishap::AwayAfterSwitchover);
    let (_, code, why) = run(&world, "down acid-a --to 3 --yes", None).await;
    assert_eq!((code, world.declared(), world.switchovers().len()), (0, 3, 1), "{why}");
}

#[tokio::test(start_paused = true)]
async fn an_unfit_member_that_was_well_for_a_moment_is_not_waited_for() {
    let world = World::new(5, 4).stalled(&[0]).with(Mishap::StallsAgain);
    let (screen, code, why) = run(&world, "down acid-a --to 3 --yes --timeout 1s", None).await;
    assert_eq!((code, world.declared(), world.leader()), (0, 3, 1), "{why}");
    assert!(screen.stderr().contains("acid-a-0 is still not fit"), "{}", screen.stderr());
}

#[tokio::test]
async fn a_revert_is_named_and_never_called_success() {
    let world = World::new(3, 0).with(Mishap::Reverted);
    let (_, code, why) = run(&world, "up acid-a --to 4", None).await;
    assert_eq!(code, 6);
    assert!(why.contains("set back to 3 by argocd-controller"), "{why}");
}

#[tokio::test]
async fn a_member_that_never_starts_times_out_with_its_reason() {
    let world = World::new(3, 0).with(Mishap::Pending);
    let (_, code, why) = run(&world, "up acid-a --to 4 --timeout 50ms", None).await;
    assert_eq!(code, 4);
    assert!(why.contains("0/3 nodes are available"), "{why}");
    assert!(why.contains("kubectl pgscale wait acid-a -n db"), "{why}");
}

#[tokio::test]
async fn an_unfinished_growth_is_not_called_done_when_run_again() {
    let world = World::new(3, 0).with(Mishap::Pending);
    for attempt in 1..=2 {
        let (_, code, why) = run(&world, "up acid-a --to 4 --timeout 50ms", None).await;
        assert_eq!(code, 4, "{attempt}: {why}");
        assert!(why.contains("0/3 nodes are available"), "{attempt}: {why}");
    }
    assert_eq!((world.declared(), world.writes().len()), (4, 1));
}

#[tokio::test]
async fn a_count_that_another_writer_wrote_first_is_still_waited_for() {
    let world = World::new(3, 0).with(Mishap::PendingAndCounted);
    let (_, code, why) = run(&world, "up acid-a --to 4 --timeout 50ms", None).await;
    assert_eq!((code, world.declared(), world.writes().len()), (4, 4, 1), "{why}");
    assert!(why.contains("0/3 nodes are available"), "{why}");
}

#[tokio::test]
async fn a_count_that_is_reached_is_nothing_to_do() {
    let world = World::new(3, 0);
    for line in ["set acid-a 3", "up acid-a --to 3", "down acid-a --to 3"] {
        let (screen, code, why) = run(&world, line, None).await;
        assert_eq!((code, why.as_str()), (0, ""), "{line}");
        let said = screen.stdout();
        assert_eq!(
            said, "postgresql/acid-a asks for 3 instances already; nothing to do\n",
            "{line}"
        );
    }
    assert_eq!(world.writes().len(), 0);
}

#[tokio::test]
async fn the_wrong_direction_is_a_usage_error_with_the_right_verb() {
    let world = World::new(3, 0);
    for line in ["up acid-a --to 2", "down acid-a --to 4", "down acid-a --by 4"] {
        let (_, code, why) = run(&world, line, None).await;
        assert_eq!(code, 2, "{line}: {why}");
    }
    let (_, _, why) = run(&world, "up acid-a --to 2", None).await;
    insta::assert_snapshot!(why, @"
    error: 2 is not more than the 3 instances of acid-a
    hint: to ask for that count:
        kubectl pgscale set acid-a 2 -n db
    ");
}

#[tokio::test]
async fn a_count_within_the_operators_limits_is_never_moved_the_wrong_way() {
    let floor = || World::new(3, 0).limited(3, -1, 1);
    let ceiling = || World::new(5, 0).limited(-1, 5, 8);
    for (world, line) in [
        (ceiling(), "up acid-a"),
        (ceiling(), "up acid-a --by 3"),
        (ceiling(), "up acid-a --to 7"),
        (floor(), "down acid-a --yes"),
        (floor(), "down acid-a --by 2 --yes"),
        (floor(), "down acid-a --to 2 --yes"),
    ] {
        let declared = world.declared();
        let (screen, code, why) = run(&world, &format!("{line} -o json"), None).await;
        assert_eq!(
            (code, world.writes().len(), world.declared()),
            (3, 0, declared),
            "{line}: {why}"
        );
        assert!(why.contains("operator-limits"), "{line}: {why}");
        let report: serde_json::Value = serde_json::from_str(&screen.stdout()).unwrap();
        assert_eq!((&report["result"], &report["exitCode"]), (&json!("Refused"), &json!(3)));
    }
    // The change that the limits leave room for is made, whatever count was declared.
    for (world, line, want) in [
        (ceiling(), "down acid-a --yes", 4),
        (floor(), "up acid-a", 4),
        (ceiling(), "up acid-a --to 8", 8),
    ] {
        let (_, code, why) = run(&world, &format!("{line} --wait=false"), None).await;
        assert_eq!((code, world.declared()), (0, want), "{line}: {why}");
    }
}

#[tokio::test]
async fn zero_is_refused_unless_a_policy_allows_it() {
    let world = World::new(1, 0);
    let (_, code, why) = run(&world, "down acid-a --to 0 --confirm=db/acid-a", None).await;
    assert_eq!((code, world.writes().len()), (3, 0), "{why}");
}

#[tokio::test]
async fn an_unknown_cluster_is_an_error_that_shows_where_to_look() {
    let (_, code, why) = run(&World::new(3, 0), "up acid-b", None).await;
    assert_eq!(code, 1);
    insta::assert_snapshot!(why, @"
    error: postgresql acid-b not found in namespace db
    hint: see what is there:
        kubectl pgscale status -n db
    ");
}

#[tokio::test]
async fn a_report_names_the_actual_leader_and_not_the_wanted_one() {
    let world = World::new(5, 4).with(Mishap::AnotherTakesOver);
    let (screen, code, why) = run(&world, "down acid-a --to 3 --yes -o json", None).await;
    assert_eq!((code, world.leader(), world.declared()), (0, 1, 3), "{why}");
    assert_eq!(world.switchovers().len(), 1);
    let report: serde_json::Value = serde_json::from_str(&screen.stdout()).unwrap();
    assert_eq!(
        (&report["leaderMoved"]["from"], &report["leaderMoved"]["to"]),
        (&json!("acid-a-4"), &json!("acid-a-1"))
    );
}

#[tokio::test]
async fn reports_are_for_machines_and_complete() {
    let world = World::new(5, 4);
    let (screen, code, _) = run(&world, "down acid-a --to 3 --yes -o json", None).await;
    assert_eq!(code, 0);
    let report: serde_json::Value = serde_json::from_str(&screen.stdout()).unwrap();
    assert_eq!(report["kind"], "ScaleReport");
    assert_eq!((&report["result"], &report["exitCode"]), (&json!("Converged"), &json!(0)));
    assert_eq!(report["leaderMoved"]["to"], "acid-a-0");
    assert_eq!(report["plan"]["kind"], "ScalePlan");

    let refused = World::new(5, 4).stalled(&[0, 1]);
    let (screen, code, _) = run(&refused, "down acid-a --to 2 --yes -o yaml", None).await;
    assert_eq!(code, 3);
    assert!(screen.stdout().contains("result: Refused"), "{}", screen.stdout());
    assert!(screen.stdout().contains("rule: leader-cannot-move"), "{}", screen.stdout());

    let (screen, code, _) = run(&World::new(3, 0), "up acid-a -o name", None).await;
    assert_eq!((code, screen.stdout().as_str()), (0, "postgresql.acid.zalan.do/acid-a\n"));
}

#[tokio::test]
async fn a_write_lost_after_the_leader_moved_names_a_count_that_is_safe_to_repeat() {
    let world = World::new(3, 2).with(Mishap::LostBefore);
    let (_, code, why) = run(&world, "down acid-a --yes", None).await;
    assert_eq!(code, 5, "{why}");
    assert!(why.contains("the leader was moved"), "{why}");
    assert!(why.contains("safe to repeat:\n    kubectl pgscale set acid-a 2 -n db"), "{why}");
}

#[tokio::test]
async fn change_needs_the_present_count_where_that_is_named() {
    for (line, code, count) in [
        ("scale acid-a --replicas 4 --current-replicas 3 --yes", 0, 4),
        ("scale acid-a --replicas 4 --current-replicas=-1 --yes", 0, 4),
        ("scale acid-a --replicas 4 --current-replicas 2 --yes", 3, 3),
    ] {
        let world = World::new(3, 0);
        let (_, ended, failure) = run(&world, line, None).await;
        assert_eq!((ended, world.declared()), (code, count), "{line}: {failure}");
    }
}

#[tokio::test]
async fn count_is_written_under_the_field_manager_of_the_flag() {
    let world = World::new(3, 0);
    let screen = Screen::default();
    let session = world.session(&screen, None).writing_as(Some("me"));
    give(&session, "up acid-a --dry-run=server").await.unwrap();
    let managers: Vec<String> = world.dry_runs().into_iter().map(|(it, _)| it).collect();
    assert_eq!(managers, ["me"]);
}
