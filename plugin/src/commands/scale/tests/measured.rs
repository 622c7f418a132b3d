//! The effect of a change is measured where that is asked for, and never changes how it ends.

use std::time::Duration;

use serde_json::Value;
use tokio::time::{sleep, timeout};

use crate::reads::tests::reading;
use crate::terminal::testing::Screen;
use crate::testing::{Mishap, World, give, run};

/// Returns the report of a command, and its exit code.
async fn report(world: &World, line: &str) -> (Value, u8) {
    let (screen, code, _) = run(world, line, None).await;
    (serde_json::from_str(&screen.stdout()).unwrap(), code)
}

#[tokio::test]
async fn figures_are_those_before_and_after_the_change() {
    for line in ["up acid-a --settle 5ms -o json", "up acid-a --report json"] {
        let (said, code) = report(&reading(World::new(3, 0).metered()), line).await;
        assert_eq!(code, 0);
        let rows = |when: &str, member: usize| {
            said["effect"][when]["members"][member]["rowsReturnedPerSecond"].as_f64()
        };
        assert_eq!((rows("before", 0), rows("after", 0)), (Some(12_000.0), Some(3000.0)), "{line}");
        assert_eq!(said["effect"]["before"]["members"].as_array().unwrap().len(), 3);
        let added = &said["effect"]["after"]["members"][3];
        assert_eq!((&added["member"], &added["cpuMillicores"]), (&"acid-a-3".into(), &400.into()));
    }
}

#[tokio::test]
async fn nothing_is_measured_unless_it_is_asked_for_and_the_change_is_seen_to_its_end() {
    for line in [
        "up acid-a -o json",
        "up acid-a --settle 5ms --wait=false -o json",
        "up acid-a --settle 5ms --dry-run=client -o json",
        "set acid-a 3 --settle 5ms -o json",
    ] {
        let (said, code) = report(&reading(World::new(3, 0)), line).await;
        assert_eq!((code, &said["effect"]), (0, &Value::Null), "{line}");
    }
    let world = reading(World::new(3, 0).with(Mishap::Reverted));
    let (said, code) = report(&world, "set acid-a 5 --settle 5ms -o json").await;
    assert_eq!((code, &said["effect"]), (6, &Value::Null));
}

#[tokio::test]
async fn figures_that_cannot_be_read_change_no_exit_code() {
    let world = World::new(5, 4).hiding(&["metrics.k8s.io"]);
    let (said, code) = report(&world, "down acid-a --to 3 --yes --settle 5ms -o json").await;
    assert_eq!((code, &said["result"]), (0, &"Converged".into()));
    let unread = said["effect"]["after"]["unread"].as_array().unwrap();
    let want = "CPU and memory: may not read pods.metrics.k8s.io";
    assert_eq!(unread[0], want);
    assert!(unread[1].as_str().unwrap().starts_with("what acid-a-0 and 2 more"), "{unread:?}");
}

#[tokio::test]
async fn interruption_while_it_settles_ends_only_the_wait_and_is_said() {
    let (world, screen) = (reading(World::new(3, 0)), Screen::default());
    let session = world.session(&screen, None);
    let mut interruptions = 0;
    let once = async || {
        interruptions += 1;
        if interruptions > 1 {
            std::future::pending::<()>().await;
        }
        while !screen.stderr().contains("looking again") {
            sleep(Duration::from_millis(5)).await;
        }
    };
    let work = Box::pin(give(&session, "up acid-a --settle 10m"));
    let ended = crate::unless(once, work, &session.interruption);
    assert_eq!(timeout(Duration::from_secs(60), ended).await.unwrap(), Ok(()));
    let said = screen.stdout();
    assert!(said.starts_with("postgresql/acid-a scaled from 3 to 4"), "{said}");
    assert!(said.contains("interrupted while it settled"), "{said}");
}
