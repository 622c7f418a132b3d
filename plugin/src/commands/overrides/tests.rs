use serde_json::Value;

use super::*;
use crate::testing::{World, run};

/// Returns a cluster of four that needs its last member, because the other standbys stall.
fn stalled() -> World {
    World::new(4, 0).stalled(&[1, 2])
}

const TO_TWO: &str =
    "override acid-a --to 2 --rules too-few-healthy-survivors --reason night --expires 20m";

/// Returns `text` without the times, which differ from run to run.
fn settled(text: &str) -> String {
    let mut parts = text.split("until 20");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| {
        let (_, after) = part.split_once('Z').unwrap_or_default();
        text + "until THEN" + after
    })
}

#[tokio::test]
async fn an_override_is_shown_asked_written_and_honoured() {
    let world = stalled();
    assert_eq!(run(&world, "down acid-a --to 2 --yes", None).await.1, 3, "refused without");
    let (screen, code, why) = run(&world, TO_TWO, Some("y\n")).await;
    assert_eq!((code, &*why), (0, ""), "{}", screen.stderr());
    insta::assert_snapshot!(settled(&screen.stderr()), @"
    postgresql db/acid-a: 4 -> 2 instances
    would warn: too-few-healthy-survivors: acid-a-3 would be removed, and of the kept members only 1 can be counted on; at least 2 must
    Allow it until THEN? [y/N] the change is admitted now:
        kubectl pgscale set acid-a 2 -n db
    ");
    insta::assert_snapshot!(settled(&screen.stdout()), @"scaleoverride.pgscale.dev/acid-a-x7k2p created, until THEN");
    let written = world.overrides();
    assert_eq!(written.len(), 1);
    let spec = &written[0]["spec"];
    assert_eq!(
        (&spec["cluster"], &spec["clusterUid"], &spec["to"]),
        (&"acid-a".into(), &"u1".into(), &2.into())
    );
    assert_eq!((&spec["reason"], spec["rules"].as_array().unwrap().len()), (&"night".into(), 1));

    let (screen, code, _) = run(&world, "plan acid-a --to 2", None).await;
    assert_eq!(code, 0, "{}", screen.stdout());
    insta::assert_snapshot!(settled(&screen.stdout()), @"
    ALLOWED 4 -> 2, 2 warnings: too-few-healthy-survivors, survivor-unhealthy
    postgresql db/acid-a: 4 -> 2 instances
    MEMBER     CHANGE    ROLE      STATE                                        VOLUME
    acid-a-2   removed   replica   990 bytes behind the leader after a second   -
    acid-a-3   removed   replica   healthy                                      -
    Not counted on: acid-a-1: 990 bytes behind the leader after a second
    Impact:
      Requests:           storage 0 B as before
      Readers:            3 -> 1 behind acid-a-repl
      Failures tolerated: 1 -> 0
      Clients:            acid-a-2, acid-a-3: unknown: psql is not installed
    Steps:
      1. set numberOfInstances to 2
      2. wait until 2 instances have converged
      WARN too-few-healthy-survivors: acid-a-3 would be removed, and of the kept members only 1 can be counted on; at least 2 must
           http://10.244.0.11:8008/patroni: acid-a-1: WAL not received after 1s: 990 bytes
           (not refused: scaleoverride/acid-a-x7k2p allows it until THEN: night)
           Try: mend the members named here; to see when they are fit:
               kubectl pgscale status acid-a -n db
      WARN survivor-unhealthy: of the kept members, acid-a-1 cannot be counted on
           http://10.244.0.11:8008/patroni: acid-a-1: WAL not received after 1s: 990 bytes
           Try: mend what this names:
               kubectl pgscale status acid-a -n db
    ALLOWED 4 -> 2, 2 warnings: too-few-healthy-survivors, survivor-unhealthy
    ");
    // The override holds for this count and for no other.
    assert_eq!(run(&world, "plan acid-a --to 3", None).await.1, 3);
    let (screen, code, why) = run(&world, "down acid-a --to 2 --yes --wait=false", None).await;
    assert_eq!((code, world.declared()), (0, 2), "{why} {}", screen.stderr());
}

#[tokio::test]
async fn rules_that_stay_in_force_are_named_before_the_write() {
    let line = "override acid-a --to 2 --rules paused,above-max --reason night --dry-run=client";
    let world = stalled();
    let (screen, code, _) = run(&world, line, None).await;
    assert_eq!((code, world.overrides().len()), (0, 0));
    insta::assert_snapshot!(settled(&screen.stderr()), @"
    postgresql db/acid-a: 4 -> 2 instances
    would still refuse: too-few-healthy-survivors: acid-a-3 would be removed, and of the kept members only 1 can be counted on; at least 2 must
    does not refuse it now: paused, above-max
    Warning: the change would be refused in spite of this override
    ");
    assert!(screen.stdout().trim_end().ends_with("(dry run)"), "{}", screen.stdout());

    let too_little = "override acid-a --to 2 --rules above-max --reason night --yes";
    let (screen, code, _) = run(&stalled(), too_little, None).await;
    assert_eq!(code, 0);
    let reported = screen.stderr();
    let last = "it lifts only what it names; still refused by too-few-healthy-survivors:\n    \
                kubectl pgscale plan acid-a --to 2 -n db\n";
    assert!(reported.ends_with(last), "{reported}");

    let server = format!("{TO_TWO} --dry-run=server");
    assert_eq!((run(&world, &server, None).await.1, world.overrides().len()), (0, 0));
}

#[tokio::test]
async fn nothing_is_written_without_consent_or_sense() {
    for (line, person, code, part) in [
        (TO_TWO, None, 7, "add --yes"),
        (TO_TWO, Some("n\n"), 7, "declined"),
        (
            "override acid-a --to 2 --rules pausd --reason x --yes",
            None,
            2,
            "there is no rule \"pausd\"",
        ),
        (
            "override acid-a --to 4 --rules paused --reason x --yes",
            None,
            2,
            "there is nothing to allow",
        ),
        ("override acid-b --to 3 --rules paused --reason x --yes", None, 1, "not found"),
    ] {
        let world = stalled();
        let (_, got, why) = run(&world, line, person).await;
        assert_eq!((got, world.overrides().len()), (code, 0), "{line}: {why}");
        assert!(why.contains(part), "{line}: {why}");
    }
    let world = stalled().denied(&["create scaleoverrides"]);
    let (_, code, why) = run(&world, &format!("{TO_TWO} --yes"), None).await;
    assert_eq!(code, 1);
    assert!(why.contains("create scaleoverrides.pgscale.dev in namespace db"), "{why}");
}

#[tokio::test]
async fn a_machine_gets_the_object_itself() {
    let line = format!("{TO_TWO} --yes -o json");
    let (screen, code, _) = run(&stalled(), &line, None).await;
    assert_eq!(code, 0);
    let printed: Value = serde_json::from_str(&screen.stdout()).unwrap();
    let written: ScaleOverride = serde_json::from_value(printed.clone()).unwrap();
    assert_eq!((&*written.spec.cluster, &printed["kind"]), ("acid-a", &"ScaleOverride".into()));
    let (screen, ..) = run(&stalled(), &format!("{TO_TWO} --yes -o name"), None).await;
    assert_eq!(screen.stdout(), "scaleoverride.pgscale.dev/acid-a-x7k2p\n");
}

#[tokio::test]
async fn unreadable_overrides_are_named_where_they_would_matter() {
    let world = stalled().hiding(&["scaleoverrides"]);
    let (screen, code, _) = run(&world, "plan acid-a --to 2", None).await;
    assert_eq!(code, 3);
    let said = screen.stdout();
    assert!(said.contains("scaleoverrides: could not be read: "), "{said}");
    let fine = World::new(3, 0).hiding(&["scaleoverrides"]);
    let (screen, code, _) = run(&fine, "plan acid-a --to 4", None).await;
    assert!(code == 0 && !screen.stdout().contains("scaleoverrides"), "{}", screen.stdout());
}

#[test]
fn an_override_ends_after_some_hours_at_most() {
    for (word, fits) in [
        ("20m", true),
        ("4h", true),
        ("4h1s", false),
        ("0", false),
        ("-1h", false),
        ("soon", false),
    ] {
        assert_eq!(expires(word).is_ok(), fits, "{word}");
    }
}
