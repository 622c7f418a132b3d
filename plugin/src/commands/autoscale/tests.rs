use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use pgscale_guard::testing::now;

use crate::terminal::testing::Screen;
use crate::testing::{World, give, run};

const AT_ONCE: &str =
    "autoscale acid-a --cpu 80 --min 3 --max 7 --up-after 0 --down-after 0 --once";

fn fixed() -> Timestamp {
    now()
}

fn world(members: i64, cpu: &'static str) -> World {
    World::new(members, 0).using(cpu, 10)
}

/// Returns the line on stdout without its time.
fn line(screen: &Screen) -> String {
    let text = screen.stdout();
    text.trim_end().split_once(' ').map_or(String::new(), |(_, rest)| rest.to_owned())
}

#[tokio::test]
async fn load_adds_one_instance_and_its_end_removes_one() {
    let busy = world(3, "1600m");
    let (screen, code, why) = run(&busy, AT_ONCE, None).await;
    assert_eq!((code, why.as_str(), busy.declared()), (0, "", 4));
    insta::assert_snapshot!(line(&screen), @"db/acid-a 3 -> 4: StepUp: the load asks for one more (CPU 160%) [Converged]");
    let idle = world(5, "10m");
    let (screen, code, why) = run(&idle, AT_ONCE, None).await;
    assert_eq!((code, why.as_str(), idle.declared()), (0, "", 4));
    insta::assert_snapshot!(line(&screen), @"db/acid-a 5 -> 4: StepDown: the load asks for one less (CPU 1%) [Converged]");
    let reason = &idle.recorded()[0]["reason"];
    assert_eq!(reason, "autoscale: the load asks for one less (CPU 1%)");
    assert!(idle.events().iter().any(|note| note.contains("autoscale: ")), "{:?}", idle.events());
    // The change counts for the next run, which is another process.
    let (screen, ..) = run(&idle, AT_ONCE, None).await;
    assert!(line(&screen).starts_with("db/acid-a stays at 4: Cooldown: "), "{}", line(&screen));
}

#[tokio::test]
async fn a_leader_on_a_removed_member_is_moved_first() {
    let world = World::new(4, 3).using("10m", 10);
    let (screen, code, why) = run(&world, AT_ONCE, None).await;
    assert_eq!((code, why.as_str(), world.declared()), (0, "", 3), "{}", screen.stderr());
    assert_eq!(world.switchovers().len(), 1);
    assert_ne!(world.leader(), 3);
}

#[tokio::test]
async fn a_look_that_cannot_judge_changes_nothing_and_says_why() {
    for (world, want) in [
        (
            World::new(3, 0),
            "MetricMissing: no CPU value of acid-a-1: metrics.k8s.io is not served here (metrics-server does that)",
        ),
        (world(3, "NaN"), "MetricNotANumber: the CPU value of acid-a-1 is no number: \"NaN\""),
        (
            World::new(3, 0).using("1600m", 200),
            "MetricStale: the CPU value of acid-a-1 is 3m20s old",
        ),
        (
            World::new(3, 0).metered(),
            "NoRequest: acid-a-1 requests no CPU to take a percentage of: set spec.resources.requests.cpu",
        ),
        (world(3, "1600m").stalled(&[2]), "NotConverged: "),
        (
            world(3, "1600m").hiding(&["metrics.k8s.io"]),
            "MetricMissing: no CPU value of acid-a-1: may not read pods.metrics.k8s.io",
        ),
    ] {
        let world = world.timed_by(fixed);
        let (screen, code, why) = run(&world, AT_ONCE, None).await;
        assert_eq!((code, why.as_str()), (0, ""), "{want}");
        let line = line(&screen);
        assert!(line.starts_with(&format!("db/acid-a stays at 3: {want}")), "{line}");
        assert_eq!((world.declared(), world.writes().len()), (3, 0), "{want}");
    }
}

#[tokio::test]
async fn one_look_without_a_window_of_zero_waits() {
    let world = world(3, "1600m");
    let (screen, code, _) =
        run(&world, "autoscale acid-a --cpu 80 --min 3 --max 7 --once", None).await;
    assert_eq!((code, world.declared()), (0, 3));
    assert!(line(&screen).contains("StabilisingUp"), "{}", line(&screen));
}

#[tokio::test]
async fn a_rule_that_refuses_holds_the_count() {
    let world = world(3, "1600m").policy("few", &serde_json::json!({"instances": {"max": 3}}));
    let (screen, code, why) = run(&world, AT_ONCE, None).await;
    assert_eq!((code, world.declared(), world.writes().len()), (3, 3, 0), "{why}");
    assert!(line(&screen).ends_with("(CPU 160%) [Refused]"), "{}", line(&screen));
    assert!(why.contains("refused by"), "{why}");
}

#[tokio::test]
async fn dry_run_decides_and_writes_nothing() {
    let world = world(3, "1600m");
    let (screen, code, _) = run(&world, &format!("{AT_ONCE} --dry-run"), None).await;
    assert_eq!((code, world.declared(), world.writes().len()), (0, 3, 0));
    assert!(line(&screen).ends_with("[DryRun]"), "{}", line(&screen));
}

#[tokio::test]
async fn another_writer_that_took_the_step_back_is_named() {
    let world = world(3, "1600m");
    assert_eq!(run(&world, AT_ONCE, None).await.1, 0);
    world.set_back(3, "argocd-controller");
    let (screen, ..) = run(&world, AT_ONCE, None).await;
    insta::assert_snapshot!(line(&screen), @"db/acid-a stays at 3: Undone: argocd-controller took the last step back (1 of 2 times)");
}

#[tokio::test]
async fn schedule_is_followed_at_once_and_the_loop_takes_every_step() {
    let world = World::new(3, 0);
    let screen = Screen::default();
    let session = world.session(&screen, None);
    let line = "autoscale acid-a --min 3 --max 5 --schedule 00:00=5 --interval 10ms -o json";
    let ran = tokio::time::timeout(Duration::from_secs(3), give(&session, line)).await;
    assert!(ran.is_err(), "it runs until it is interrupted");
    assert_eq!(world.declared(), 5);
    let said: Vec<serde_json::Value> =
        screen.stdout().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |nth: usize| (said[nth]["reason"].clone(), said[nth]["wanted"].clone());
    assert_eq!(of(0), ("Scheduled".into(), 4.into()));
    assert_eq!(of(1), ("Scheduled".into(), 5.into()));
    assert_eq!(of(2), ("OnSchedule".into(), 5.into()));
    assert_eq!(said[0]["result"], "Converged");
}

#[tokio::test]
async fn a_policy_says_what_is_wanted_and_its_mode_whether_it_acts() {
    let autoscale = serde_json::json!({"cpu": 80, "min": 3, "max": 7, "upAfter": "0s"});
    for (mode, declared, end) in [("Enforce", 4, "[Converged]"), ("Audit", 3, "[DryRun]")] {
        let spec = serde_json::json!({"mode": mode, "autoscale": autoscale.clone()});
        let world = world(3, "1600m").policy("load", &spec);
        let (screen, code, why) = run(&world, "autoscale acid-a --once", None).await;
        assert_eq!((code, world.declared()), (0, declared), "{why}");
        assert!(line(&screen).ends_with(end), "{}", line(&screen));
        let (screen, ..) = run(&world, "policy acid-a", None).await;
        assert!(screen.stdout().contains("3 to 7 by 80% CPU"), "{}", screen.stdout());
    }
    let (_, code, why) = run(&world(3, "1600m"), "autoscale acid-a --once", None).await;
    assert_eq!(code, 2);
    assert!(why.contains("no policy of postgresql db/acid-a has autoscale"), "{why}");
}

#[tokio::test]
async fn impossible_wishes_are_usage_errors() {
    for (flags, want) in [
        ("--cpu 80 --min 5 --max 3", "min 5 is above max 3"),
        ("--cpu 80 --min 1 --max 3", "min is 1: the CPU of the replicas is measured"),
        ("--min 3 --max 5 --schedule 25:00=3", "--schedule: \"25:00\" is no time of day"),
        ("--min 3 --max 5 --schedule 20:00=9", "is outside of min 3 and max 5"),
        ("--min 3 --max 5 --schedule 20:00=3 --time-zone Moon", "is no time zone"),
    ] {
        let line = format!("autoscale acid-a {flags} --once");
        let (_, code, why) = run(&World::new(3, 0), &line, None).await;
        assert_eq!(code, 2, "{why}");
        assert!(why.contains(want), "{why}");
    }
}

#[tokio::test]
async fn a_cluster_that_is_gone_ends_it() {
    let (_, code, why) =
        run(&World::new(3, 0), "autoscale acid-c --cpu 80 --min 3 --max 7", None).await;
    assert_eq!(code, 1);
    assert!(why.contains("not found"), "{why}");
}
