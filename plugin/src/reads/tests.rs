//! The answers of members, odd ones too, and what is shown of them.

use std::time::Duration;

use super::*;
use crate::testing::{World, run};

/// Returns rows as `psql` prints them: `|` between columns, a line for each row.
fn printed(rows: &str) -> String {
    let rows: Vec<String> =
        rows.trim().lines().map(|row| row.trim().replace('|', "\u{1f}")).collect();
    rows.join("\u{1e}") + "\n"
}

/// Returns a look at the leader at a second of its clock, which has read so many rows.
fn leader(at: u64, returned: u64) -> String {
    // A MiB of WAL in two seconds.
    let wal = 5000 + (at << 19);
    format!(
        "member|false|{at}.0|{wal}|3|1||
         reads|{returned}|410000|500|99500|1795000000||
         database|shop||||||
         replica|acid-a-1|0|0|1048576|0.0012|0.04|75.3
         replica|acid-a-2|0|0|-8|||
         slot|acid_a_1|physical|true|1048576|reserved||
         slot|acid_a_7|physical|false|9663676416|extended||
         slot|cdc|logical|false|20971520|unreserved|shop|"
    )
}

/// Returns a look at a replica.
fn replica(at: u64, returned: u64) -> String {
    format!("member|true|{at}|5000|0|1||\nreads|{returned}|10|0|0|||\ndatabase|shop||||||")
}

/// The tables of the leader.
const TABLES_OF_SHOP: &str = "public|orders|120|960000|4000|30000
    public|log|9|9000||";

/// Lets every member answer in SQL, at four looks: two before a change, and two after it.
pub(crate) fn reading(world: World) -> World {
    let mut world = world
        .printing(0, "pg_stat_user_tables", Ok(&printed(TABLES_OF_SHOP)))
        .printing(1, "pg_stat_user_tables", Ok("\n"))
        .printing(2, "pg_stat_user_tables", Ok("\n"));
    // What is scripted last is printed first.
    for (at, of_leader, of_others) in [
        (1062, 1_230_000, 46_020),
        (1060, 1_224_000, 40_020),
        (1002, 1_024_000, 120),
        (1000, 1_000_000, 20),
    ] {
        world = world.printing_once(0, "pg_stat_database", Ok(&printed(&leader(at, of_leader))));
        for ordinal in 1..=3 {
            let look = printed(&replica(at, of_others));
            world = world.printing_once(ordinal, "pg_stat_database", Ok(&look));
        }
    }
    world
}

fn rows(text: &str) -> Vec<Vec<String>> {
    text.trim().lines().map(|row| row.trim().split('|').map(str::to_owned).collect()).collect()
}

#[test]
fn sample_of_a_leader_is_read() {
    let sample = rows::sample(&rows(&leader(1002, 1_024_000))).unwrap();
    assert!(!sample.standby);
    assert_eq!((sample.wal, sample.slots_in_all), (Some(5000 + (1002 << 19)), 3));
    assert_eq!(sample.counters.hit_ratio(), Some(0.995));
    assert_eq!(sample.databases, ["shop"]);
    let [one, two] = sample.replicas.as_slice() else { panic!("{sample:?}") };
    assert_eq!((one.replay, one.delays.replay), (Some(1 << 20), Some(75.3)));
    // The position of the replica was read a moment later than the leader's.
    assert_eq!((two.replay, two.delays), (Some(0), Delays::default()));
    let slot = &sample.slots[2];
    assert_eq!(
        (slot.database.as_deref(), slot.state.as_deref()),
        (Some("shop"), Some("unreserved"))
    );
}

#[test]
fn null_is_unknown_and_never_zero() {
    let sample = rows::sample(&rows(
        "member|t|1.5||1|0||
         reads|0|0|0|0|||
         replica|acid-a-1|||||
         slot|new|physical|f||||",
    ));
    // A row that lacks a column is odd, too.
    assert!(sample.is_err(), "{sample:?}");
    let sample = rows::sample(&rows(
        "member|t|1.5||1|0||
         reads|0|0|0|0|||
         replica|acid-a-1||||||
         slot|new|physical|f||||",
    ))
    .unwrap();
    assert_eq!(
        (sample.wal, sample.counters.hit_ratio(), sample.counters.since),
        (None, None, None)
    );
    assert_eq!((sample.replicas[0].replay, sample.slots[0].held), (None, None));
    assert!(sample.standby && !sample.slots[0].active);
}

#[test]
fn odd_row_is_an_error_that_shows_it() {
    for row in [
        "what",
        "member|maybe|1|1|0|0||",
        "member|t|NaN|1|0|0||",
        "member|t|1|-1|0|0||",
        "reads|-1|0|0|0|||",
        "reads||0|0|0|||",
        "database|||||||",
        "replica|acid-a-1|x|0|0|||",
        "replica|acid-a-1|0|0|0|inf||",
        "slot|a|physical|?|0|||",
    ] {
        let all = format!("member|t|1|1|0|0||\nreads|0|0|0|0|||\n{row}");
        let why = rows::sample(&rows(&all)).unwrap_err();
        assert!(why.starts_with("psql printed an unexpected row: "), "{row}: {why}");
    }
    for half in ["", "member|t|1|1|0|0||", "reads|0|0|0|0|||"] {
        let why = rows::sample(&rows(half)).unwrap_err();
        assert!(!why.is_empty(), "{half}");
    }
    for row in ["public|orders|1|2|3", "public|orders|x|2|3|4", "public|orders|1|2|3|-4"] {
        assert!(rows::tables("shop", &rows(row)).is_err(), "{row}");
    }
    let table = rows::tables("shop", &rows("public|log|1|2||")).unwrap();
    assert_eq!((table[0].idx_scan, table[0].idx_tup_fetch), (None, None));
}

#[test]
fn rate_needs_a_clock_that_goes_on_and_counters_that_grow() {
    let at = |at: f64, returned: u64, wal: Option<u64>| Sample {
        at,
        wal,
        counters: Counters { returned, ..Counters::default() },
        ..Sample::default()
    };
    let rates = |one, other| Rates::between(&one, &other).map(|rates| (rates.rows, rates.wal));
    for (one, other, want) in [
        (at(1.0, 10, Some(0)), at(3.0, 30, Some(8)), Ok((Some(10.0), Some(4.0)))),
        // The statistics were reset, and the member has another timeline.
        (at(1.0, 10, Some(9)), at(3.0, 0, Some(8)), Ok((None, None))),
        (at(1.0, 0, None), at(3.0, 0, Some(8)), Ok((Some(0.0), None))),
    ] {
        assert_eq!(rates(one, other), want);
    }
    assert!(rates(at(3.0, 0, None), at(3.0, 9, None)).is_err());
    assert!(rates(at(3.0, 0, None), at(1.0, 9, None)).is_err());
}

#[tokio::test]
async fn every_member_is_asked_and_its_busiest_tables_come_first() {
    let world = reading(World::new(3, 0));
    let session = world.session(&crate::terminal::testing::Screen::default(), None);
    let facts = crate::testing::facts(3, 3, 0);
    let all = ask(&session, &facts, 1).await;
    let names: Vec<&str> = all.iter().map(|one| one.member.as_str()).collect();
    assert_eq!(names, ["acid-a-0", "acid-a-1", "acid-a-2"]);
    let leader = all[0].said.as_ref().unwrap();
    let rates = leader.rates.as_ref().unwrap();
    assert_eq!((rates.rows, rates.wal), (Some(12_000.0), Some(524_288.0)));
    let tables: Vec<&str> = leader.tables.iter().map(|table| table.name.as_str()).collect();
    assert_eq!(tables, ["orders"]);
}

#[tokio::test]
async fn a_member_that_fails_hides_no_other_one() {
    let world = reading(World::new(3, 0))
        .printing(1, "pg_stat_database", Err("no more connections"))
        .printing(2, "pg_stat_user_tables", Err("permission denied"));
    let (screen, code, why) = run(&world, "status acid-a --sql", None).await;
    assert_eq!((code, why.as_str()), (0, ""));
    let shown = screen.stdout();
    for part in [
        "Not known: what acid-a-1 reads: no more connections",
        "Not known: acid-a-2: tables of database shop: permission denied",
        "shop.public.orders",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
}

#[tokio::test]
async fn missing_permission_is_named_once_with_its_check() {
    let world = World::new(3, 0).hiding(&["exec"]);
    let (screen, code, _) = run(&world, "status acid-a --sql", None).await;
    assert_eq!(code, 0);
    let shown = screen.stdout();
    let line = "Not known: what the members read: pods/exec is not permitted";
    assert_eq!(shown.matches(line).count(), 1, "{shown}");
    let check = "kubectl auth can-i create pods --subresource=exec -n db";
    assert!(shown.contains(check), "{shown}");
}

#[tokio::test]
async fn every_answer_has_a_time_limit() {
    let world = World::new(3, 0).printing(0, "pg_stat_database", Err(crate::testing::HANGS));
    let look = run(&world, "status acid-a --sql", None);
    let (screen, ..) = timeout(Duration::from_secs(20), look).await.unwrap();
    assert!(screen.stdout().contains("what acid-a-0 reads"), "{}", screen.stdout());
}

#[tokio::test]
async fn tables_are_those_that_were_asked_for() {
    for (line, tables) in [
        ("status acid-a --sql", 2),
        ("status acid-a --tables 1", 1),
        ("status acid-a --sql --tables 0", 0),
    ] {
        let (screen, code, why) = run(&reading(World::new(3, 0)), line, None).await;
        assert_eq!(code, 0, "{why}");
        assert_eq!(screen.stdout().matches("shop.public.").count(), tables, "{line}");
    }
}
