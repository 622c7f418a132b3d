use super::*;
use crate::testing::{HANGS, World, facts, run};

fn follower(name: &str, sync: &str) -> Follower {
    Follower { name: name.to_owned(), state: "streaming".to_owned(), sync: sync.to_owned() }
}

fn testimony(member: &str, words: Words) -> Testimony {
    Testimony { member: member.to_owned(), words: Ok(words) }
}

fn leader() -> Words {
    Words {
        system_identifier: "7100".to_owned(),
        timeline: Some(3),
        written: Some(1000),
        followers: vec![follower("acid-a-1", "async"), follower("acid-a-2", "async")],
        ..Words::default()
    }
}

fn standby() -> Words {
    Words {
        in_recovery: true,
        system_identifier: "7100".to_owned(),
        timeline: Some(3),
        written: Some(1000),
        replayed: Some(1000),
        receiver: Some(Receiver {
            status: "streaming".to_owned(),
            slot: "acid_a_1".to_owned(),
            sender: "10.244.0.10".to_owned(),
        }),
        followers: Vec::new(),
    }
}

fn healthy() -> Vec<Testimony> {
    vec![
        testimony("acid-a-0", leader()),
        testimony("acid-a-1", standby()),
        testimony("acid-a-2", standby()),
    ]
}

/// Returns the answers of a healthy cluster, with those of one member changed.
fn but(member: usize, change: impl FnOnce(&mut Words)) -> Vec<Testimony> {
    let mut all = healthy();
    change(all[member].words.as_mut().unwrap());
    all
}

fn judged(testimonies: &[Testimony]) -> Checked {
    judge(&facts(3, 3, 0), testimonies)
}

fn texts(wrong: &[Wrong]) -> Vec<String> {
    wrong.iter().map(ToString::to_string).collect()
}

#[test]
fn nothing_is_wrong_with_a_healthy_cluster() {
    assert_eq!(judged(&healthy()), Checked::default());
}

#[test]
fn each_contradiction_is_found() {
    let receiver =
        |change: fn(&mut Receiver)| but(1, |words| change(words.receiver.as_mut().unwrap()));
    let cases = [
        (
            but(0, |words| words.in_recovery = true),
            "acid-a-0 holds the leader lock and is in recovery: it takes no writes",
        ),
        (
            but(2, |words| *words = Words { followers: Vec::new(), ..leader() }),
            "acid-a-2 is not in recovery although acid-a-0 leads: it takes writes of its own",
        ),
        (
            but(2, |words| words.system_identifier = "7200".to_owned()),
            "the members have different system identifiers: 7100 (acid-a-0, acid-a-1), 7200 (acid-a-2)",
        ),
        (
            but(1, |words| words.timeline = Some(2)),
            "the members have different timelines: 2 (acid-a-1), 3 (acid-a-0, acid-a-2)",
        ),
        (
            but(1, |words| words.receiver = None),
            "acid-a-1 has no WAL receiver: it receives nothing",
        ),
        (
            receiver(|receiver| receiver.status = "waiting".to_owned()),
            "the WAL receiver of acid-a-1 is waiting",
        ),
        (
            receiver(|receiver| receiver.sender = "10.9.9.9".to_owned()),
            "acid-a-1 receives from 10.9.9.9, which is no member of this cluster",
        ),
        (
            receiver(|receiver| receiver.sender = "10.244.0.12".to_owned()),
            "acid-a-1 says that it receives from acid-a-2, which does not list it",
        ),
        (
            but(0, |words| words.followers[0].state = "catchup".to_owned()),
            "acid-a-0 sends to acid-a-1 in state catchup",
        ),
    ];
    for (testimonies, want) in cases {
        assert_eq!(texts(&judged(&testimonies).wrong), [want]);
    }
}

#[test]
fn silence_is_reported_and_proves_nothing() {
    let mut testimonies = healthy();
    testimonies[2].words = Err(ExecError::Failed("no right to exec".to_owned()));
    let result = judged(&testimonies);
    assert_eq!(result.wrong, []);
    assert_eq!(result.unheard, ["acid-a-2 could not be asked: no right to exec"]);
}

#[test]
fn patroni_and_postgresql_agree_on_who_is_synchronous() {
    use pgscale_guard::Seen;
    use pgscale_guard::patroni::SyncState;
    let mut facts = facts(3, 3, 0);
    if let Seen::Known(configuration) = &mut facts.configuration {
        configuration.synchronous = Synchronous::On;
    }
    facts.sync = Seen::Known(SyncState {
        leader: Some("acid-a-0".to_owned()),
        standbys: vec!["acid-a-1".to_owned()],
    });
    assert_eq!(
        texts(&judge(&facts, &healthy()).wrong),
        ["acid-a-1 is a synchronous standby by Patroni's word and not by acid-a-0's"]
    );
    let agreed = but(0, |words| words.followers[0].sync = "sync".to_owned());
    assert_eq!(judge(&facts, &agreed).wrong, []);
}

/// A cluster of three whose members speak SQL.
pub(crate) fn talkative() -> World {
    let standby = "t\u{1f}7100\u{1f}00000001\u{1f}1000\u{1f}1000\n";
    let receiver = |slot: &str| format!("streaming\u{1f}{slot}\u{1f}10.244.0.10\n");
    World::new(3, 0)
        .printing(0, "FROM pg_stat_wal_receiver", Ok("\n"))
        .printing(
            0,
            "FROM pg_stat_replication",
            Ok("acid-a-1\u{1f}streaming\u{1f}async\u{1e}acid-a-2\u{1f}streaming\u{1f}async\n"),
        )
        .printing(0, "pg_control_system", Ok("f\u{1f}7100\u{1f}00000001\u{1f}1000\u{1f}\n"))
        .printing(1, "FROM pg_stat_replication", Ok("\n"))
        .printing(1, "FROM pg_stat_wal_receiver", Ok(&receiver("acid_a_1")))
        .printing(1, "pg_control_system", Ok(standby))
        .printing(2, "FROM pg_stat_replication", Ok("\n"))
        .printing(2, "FROM pg_stat_wal_receiver", Ok(&receiver("acid_a_2")))
        .printing(2, "pg_control_system", Ok(standby))
        .printing(0, "synchronous_standby_names", Ok(&waits("", 0)))
        .printing(0, "pg_logical_emit_message", Ok("0/3E8\n"))
        .printing(0, "SELECT pg_current_wal_lsn()", Ok("1000\n"))
        .printing(1, "SELECT pg_last_wal_replay_lsn()", Ok("1000\n"))
        .printing(2, "SELECT pg_last_wal_replay_lsn()", Ok("1000\n"))
}

/// Returns the leader's answer about the standbys that its commits wait for, and the number of them
/// that are there.
fn waits(names: &str, there: u32) -> String {
    format!("{names}\u{1f}on\u{1f}{there}\n")
}

/// Removes delays, which differ from run to run.
fn timeless(text: &str) -> String {
    let mut words: Vec<String> = Vec::new();
    for word in text.split(' ') {
        words.push(match word.split_once('s') {
            Some((number, rest)) if number.parse::<f64>().is_ok() => format!("Ns{rest}"),
            Some(_) | None => word.to_owned(),
        });
    }
    words.join(" ")
}

#[tokio::test]
async fn verify_verifies_in_sql_by_default() {
    let receiver = "WAITING\u{1f}acid_a_1\u{1f}10.244.0.10\n";
    let world = talkative().printing(1, "SELECT status, slot_name", Ok(receiver));
    let (screen, code, failure) = run(&world, "verify acid-a", None).await;
    assert_eq!(code, 5, "{failure}");
    assert!(screen.stdout().contains("the WAL receiver of acid-a-1 is WAITING"));
    let (screen, code, failure) = run(&talkative(), "verify acid-a", None).await;
    assert_eq!(code, 0, "{failure}");
    assert!(screen.stdout().contains("Confirmed by all 3 members"), "{}", screen.stdout());
}

#[tokio::test]
async fn sql_that_is_not_permitted_is_said_and_fails_only_where_it_was_asked_for() {
    let world = || talkative().hiding(&["exec"]);
    let (screen, code, failure) = run(&world(), "verify acid-a", None).await;
    assert_eq!(code, 0, "{failure}");
    insta::assert_snapshot!(screen.stdout(), @"
    VERIFIED, but not in SQL: db/acid-a has converged on 3 instances
    postgresql db/acid-a
    No member was asked in SQL: pods/exec is not permitted
    VERIFIED, but not in SQL: db/acid-a has converged on 3 instances
    ");
    let (screen, ..) = run(&world(), "verify acid-a -o jsonpath={.notAskedInSql}", None).await;
    assert_eq!(screen.stdout(), "pods/exec is not permitted\n");
    let (screen, code, failure) = run(&world(), "verify acid-a --sql", None).await;
    assert_eq!(code, 1, "{failure}");
    assert!(!screen.stdout().contains("Confirmed by"), "{}", screen.stdout());
    // A member that could be asked is no missing permission.
    let world = talkative().printing(2, "psql", Err("timed out"));
    let (_, code, failure) = run(&world, "verify acid-a", None).await;
    assert_eq!(code, 1, "{failure}");
}

#[tokio::test]
async fn without_sql_only_the_convergence_is_looked_at() {
    let (screen, code, _) = run(&World::new(3, 0), "verify acid-a --sql=false", None).await;
    assert_eq!(code, 0);
    insta::assert_snapshot!(screen.stdout(), @"
    VERIFIED: db/acid-a has converged on 3 instances
    postgresql db/acid-a
    VERIFIED: db/acid-a has converged on 3 instances
    ");
}

#[tokio::test]
async fn found_problem_exits_with_5() {
    let world = talkative().printing(1, "FROM pg_stat_wal_receiver", Ok("\n")).printing(
        1,
        "pg_control_system",
        Ok("t\u{1f}7100\u{1f}\u{1f}\u{1f}1000\n"),
    );
    let (screen, code, failure) = run(&world, "verify acid-a --sql", None).await;
    assert_eq!(code, 5, "{failure}");
    insta::assert_snapshot!(screen.stdout(), @"
    WRONG: acid-a-1 has no WAL receiver: it receives nothing
    postgresql db/acid-a
    MEMBER     ROLE      TL   WAL     REPLAYED   FROM       SLOT       SYNC
    acid-a-0   primary   1    0/3E8   -          -          -          -
    acid-a-1   standby   -    -       0/3E8      -          -          async
    acid-a-2   standby   1    0/3E8   0/3E8      acid-a-0   acid_a_2   async
    Wrong:
      acid-a-1 has no WAL receiver: it receives nothing
    WRONG: acid-a-1 has no WAL receiver: it receives nothing
    ");
}

#[tokio::test]
async fn missing_permissions_are_no_problem_of_the_cluster() {
    for world in [
        World::new(3, 0).silent(),
        World::new(3, 0).hiding(&["pods"]),
        World::new(3, 0).hiding(&["configmaps", "endpoints"]),
        World::new(3, 0).hiding(&["statefulsets"]),
        World::new(3, 0).hiding(&["endpointslices", "endpoints"]),
        World::new(3, 0).silent().hiding(&["pods", "statefulsets", "endpoints", "configmaps"]),
    ] {
        for line in ["verify acid-a --sql=false", "verify acid-a --sql", "verify acid-a --canary"] {
            let (screen, code, failure) = run(&world, line, None).await;
            assert_eq!(code, 1, "{failure}\n{}", screen.stdout());
            assert!(!screen.stdout().contains("\nVERIFIED"), "{}", screen.stdout());
            assert!(screen.stdout().starts_with("NOT VERIFIED"), "{}", screen.stdout());
        }
    }
    let world = World::new(3, 0).silent();
    let (screen, _, failure) = run(&world, "verify acid-a --sql=false", None).await;
    insta::assert_snapshot!(screen.stdout(), @"
    NOT VERIFIED: acid-a-0: unknown: no member answered; acid-a-0: neither pods/portforward nor pods/exec is permitted; and 2 more
    postgresql db/acid-a
    Not verified:
      acid-a-0: unknown: no member answered; acid-a-0: neither pods/portforward nor pods/exec is permitted
      acid-a-1: unknown: no member answered; acid-a-1: neither pods/portforward nor pods/exec is permitted
      acid-a-2: unknown: no member answered; acid-a-2: neither pods/portforward nor pods/exec is permitted
    NOT VERIFIED: acid-a-0: unknown: no member answered; acid-a-0: neither pods/portforward nor pods/exec is permitted; and 2 more
    ");
    insta::assert_snapshot!(failure, @"error: postgresql db/acid-a could not be verified in full: something could not be read");
}

#[tokio::test]
async fn failover_between_two_looks_is_no_problem() {
    let gone = Ok("\n");
    let world = talkative().printing_once(1, "FROM pg_stat_wal_receiver", gone).printing_once(
        1,
        "pg_control_system",
        Ok("t\u{1f}7100\u{1f}\u{1f}\u{1f}1000\n"),
    );
    let (screen, code, failure) = run(&world, "verify acid-a --sql", None).await;
    assert_eq!(code, 0, "{failure}");
    assert!(screen.stderr().contains("looking again"), "{}", screen.stderr());
    assert!(screen.stdout().contains("Confirmed by all 3 members"), "{}", screen.stdout());
}

#[tokio::test]
async fn passing_problem_is_not_reported_with_a_lasting_one() {
    let receiver = "WAITING\u{1f}acid_a_1\u{1f}10.244.0.10\n";
    let world = talkative()
        .printing(2, "SELECT status, slot_name", Ok("starting\u{1f}acid_a_2\u{1f}10.244.0.10\n"))
        .printing_once(1, "SELECT status, slot_name", Ok(receiver));
    let (screen, code, _) = run(&world, "verify acid-a --sql", None).await;
    assert_eq!(code, 5);
    let text = screen.stdout();
    let (_, wrong) = text.split_once("Wrong:").unwrap();
    assert_eq!(
        wrong.lines().nth(1).map(str::trim),
        Some("the WAL receiver of acid-a-2 is starting"),
        "{wrong}"
    );
    assert!(!wrong.contains("acid-a-1"), "{wrong}");
}

#[tokio::test]
async fn member_that_cannot_be_asked_exits_with_1() {
    let world = talkative().printing(2, "psql", Err("pods/exec is not permitted"));
    let (screen, code, failure) = run(&world, "verify acid-a --sql", None).await;
    assert_eq!(code, 1, "{failure}");
    assert!(screen.stdout().contains("acid-a-2 could not be asked: pods/exec is not permitted"));
}

#[tokio::test]
async fn canary_that_does_not_arrive_exits_with_4() {
    let world = talkative().printing(2, "SELECT pg_last_wal_replay_lsn()", Ok("10\n"));
    let (screen, code, failure) = run(&world, "verify acid-a --canary --timeout 0", None).await;
    assert_eq!(code, 4, "{failure}");
    assert!(screen.stdout().contains("acid-a-2: not replayed in time, 990 B behind"));
}

#[tokio::test]
async fn a_canary_that_would_hang_its_backend_is_not_written() {
    for (names, there) in [("*", 0), ("ANY 2 (\"acid-a-1\",\"acid-a-2\")", 1)] {
        let world = talkative()
            .printing(0, "synchronous_standby_names", Ok(&waits(names, there)))
            .printing(0, "pg_logical_emit_message", Err("it was written"));
        let (screen, code, failure) = run(&world, "verify acid-a --canary", None).await;
        assert_eq!(code, 5, "{failure}");
        assert!(screen.stdout().contains("nothing was written"), "{}", screen.stdout());
        assert!(failure.contains("nothing was written"), "{failure}");
    }
    // The standbys are there, so it is written.
    let world = talkative().printing(0, "synchronous_standby_names", Ok(&waits("*", 1)));
    assert_eq!(run(&world, "verify acid-a --canary", None).await.1, 0);
}

#[tokio::test]
async fn a_canary_that_meets_a_change_of_the_synchronous_standby_is_sent_again() {
    let world = talkative().printing_once(0, "synchronous_standby_names", Ok(&waits("*", 0)));
    let (_, code, failure) = run(&world, "verify acid-a --canary", None).await;
    assert_eq!(code, 0, "{failure}");
}

#[tokio::test]
async fn canary_keeps_to_the_timeout_and_frees_its_backend() {
    let world = talkative().printing(0, "pg_logical_emit_message", Err(HANGS)).printing(
        0,
        "pg_cancel_backend",
        Ok("t\n"),
    );
    let (screen, code, failure) = run(&world, "verify acid-a --canary --timeout 5ms", None).await;
    assert_eq!(code, 4, "{failure}");
    assert!(
        screen.stdout().contains("was not committed within 0.005s; its wait was ended"),
        "{}",
        screen.stdout()
    );
}

#[tokio::test]
async fn canary_without_a_standby_to_replay_it_is_no_success() {
    let world = World::new(1, 0)
        .printing(0, "FROM pg_stat_wal_receiver", Ok("\n"))
        .printing(0, "FROM pg_stat_replication", Ok("\n"))
        .printing(0, "pg_control_system", Ok("f\u{1f}7100\u{1f}00000001\u{1f}1000\u{1f}\n"))
        .printing(0, "synchronous_standby_names", Ok(&waits("", 0)))
        .printing(0, "pg_logical_emit_message", Ok("0/3E8\n"))
        .printing(0, "SELECT pg_current_wal_lsn()", Ok("1000\n"));
    let (screen, code, failure) = run(&world, "verify acid-a --canary", None).await;
    assert_eq!(code, 1, "{failure}");
    insta::assert_snapshot!(timeless(&screen.stdout()), @"
    NOT VERIFIED: no standby could replay the canary
    postgresql db/acid-a
    MEMBER     ROLE      TL   WAL     REPLAYED   FROM   SLOT   SYNC
    acid-a-0   primary   1    0/3E8   -          -      -      -
    Canary: committed on acid-a-0 in Ns
      no standby: no member could replay it
    Confirmed by its only member: one primary, one system identifier (7100), one timeline, every standby streams
    NOT VERIFIED: no standby could replay the canary
    ");
    let (screen, ..) = run(&world, "verify acid-a --canary -o jsonpath={.verified}", None).await;
    assert_eq!(screen.stdout().trim(), "false");
}

#[tokio::test]
async fn canary_without_permission_to_exec_is_no_problem() {
    let world = World::new(3, 0).printing(0, "psql", Err("pods/exec is not permitted"));
    let (_, code, failure) = run(&world, "verify acid-a --canary", None).await;
    assert_eq!(code, 1, "{failure}");
    assert!(failure.contains("took no canary: pods/exec is not permitted"), "{failure}");
    // A leader that refuses to write is a failure.
    let no = "ERROR:  cannot execute it in a read-only transaction";
    let world = talkative().printing(0, "pg_logical_emit_message", Err(no));
    assert_eq!(run(&world, "verify acid-a --canary", None).await.1, 5);
}

#[tokio::test]
async fn canary_is_never_written_in_a_standby_cluster() {
    let world = World::new(1, 0).standby_cluster();
    let (_, code, failure) = run(&world, "verify acid-a --canary --sql=false", None).await;
    // No rule refuses it: no member could write one.
    assert_eq!(code, 1, "{failure}");
    assert!(failure.contains("no member can write a canary"), "{failure}");
}

#[tokio::test]
async fn the_document_holds_everything() {
    let (screen, code, _) = run(&talkative(), "verify acid-a -o json", None).await;
    assert_eq!(code, 0);
    let document: serde_json::Value = serde_json::from_str(&screen.stdout()).unwrap();
    assert_eq!(document["kind"], "ScaleVerification");
    assert_eq!(document["verified"], true);
    assert_eq!(document["members"][0]["followers"][1]["name"], "acid-a-2");
    assert_eq!(document["members"][2]["slot"], "acid_a_2");
}
