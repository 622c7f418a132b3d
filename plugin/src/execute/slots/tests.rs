use serde_json::json;

use super::*;
use crate::testing::{World, facts, run};

fn slot(catalog_xmin: Option<u32>) -> Slot {
    Slot {
        logical: true,
        plugin: "pgoutput".to_owned(),
        database: "shop".to_owned(),
        catalog_xmin,
        failover: false,
        synced: false,
        lost: false,
    }
}

#[test]
fn a_copied_slot_is_safe_when_patroni_says_so() {
    let lacks = |leader: u32, copy: Option<Option<u32>>, horizon: Option<u32>| {
        let copy = copy.map(slot);
        LogicalSlots::default().lacks("cdc", &slot(Some(leader)), copy.as_ref(), horizon)
    };
    for (leader, copy, horizon, want) in [
        (700, None, Some(700), Some(Lack::Copy)),
        (700, Some(Some(700)), None, Some(Lack::Feedback)),
        (700, Some(Some(700)), Some(700), None),
        // The leader may have removed rows that the copy needs.
        (710, Some(Some(700)), Some(700), Some(Lack::CatchUp)),
        // The copy needs rows that are older than those kept for it.
        (700, Some(Some(690)), Some(700), Some(Lack::CatchUp)),
        (700, Some(None), Some(700), Some(Lack::CatchUp)),
        // Transactions wrap around.
        (u32::MAX - 5, Some(Some(10)), Some(5), None),
        (10, Some(Some(u32::MAX - 5)), Some(5), Some(Lack::CatchUp)),
    ] {
        assert_eq!(lacks(leader, copy, horizon), want, "{leader} {copy:?} {horizon:?}");
    }
    let lost = Slot { lost: true, ..slot(Some(700)) };
    let found = LogicalSlots::default().lacks("cdc", &slot(Some(700)), Some(&lost), Some(700));
    assert_eq!(found, Some(Lack::Copy));
}

#[test]
fn a_busy_consumer_does_not_hold_the_slot_back_for_ever() {
    let mut slots = LogicalSlots::default();
    let mut look = |leader: u32, copy: u32, horizon: u32| {
        slots.lacks("cdc", &slot(Some(leader)), Some(&slot(Some(copy))), Some(horizon))
    };
    // The leader's slot moves on, and the copy follows some loops behind.
    assert_eq!(look(710, 700, 700), Some(Lack::CatchUp));
    assert_eq!(look(720, 705, 705), Some(Lack::CatchUp));
    assert_eq!(look(730, 712, 711), None);
    // What was safe stays so, however far the leader's slot goes.
    assert_eq!(look(900, 712, 711), None);
    assert_eq!(slots.lacks("cdc", &slot(Some(900)), None, Some(711)), Some(Lack::Copy));
}

#[test]
fn a_failover_slot_of_postgresql_17_must_be_synchronised() {
    let leader = Slot { failover: true, ..slot(Some(700)) };
    let mut slots = LogicalSlots::default();
    for (synced, want) in [(false, Some(Lack::Synced)), (true, None)] {
        let copy = Slot { failover: true, synced, ..slot(Some(600)) };
        assert_eq!(slots.lacks("cdc", &leader, Some(&copy), None), want);
    }
}

#[test]
fn feedback_comes_through_the_members_own_slot_or_that_of_its_source() {
    let replicating = |facts: Facts, member: usize, from: &str| {
        let mut facts = facts;
        if let Seen::Known(members) = &mut facts.members
            && let Live::Answered(answer) = &mut members[member].live
        {
            answer.tags.replicate_from = Some(from.to_owned());
        }
        facts
    };
    let plain = facts(4, 3, 3);
    assert_eq!(feedback_slot(&plain, "acid-a-0"), "acid_a_0");
    let cascading = replicating(facts(4, 3, 3), 0, "acid-a-1");
    assert_eq!(feedback_slot(&cascading, "acid-a-0"), "acid_a_1");
    assert_eq!(feedback_slot(&replicating(cascading, 1, "acid-a-3"), "acid-a-0"), "acid_a_1");
    let gone = replicating(facts(4, 3, 3), 0, "acid-a-9");
    assert_eq!(feedback_slot(&gone, "acid-a-0"), "acid_a_0");
    let circle = replicating(replicating(facts(4, 3, 3), 0, "acid-a-1"), 1, "acid-a-0");
    assert!(feedback_slot(&circle, "acid-a-0").starts_with("acid_a_"));
}

/// Returns the answer of `psql`: the logical slot `cdc`, and the physical slot of the candidate.
fn printed(cdc: Option<u32>, feedback: Option<u32>) -> String {
    let row = |columns: &[&str]| columns.join("\u{1f}");
    let mut rows = Vec::new();
    if let Some(xmin) = feedback {
        rows.push(row(&["acid_a_0", "physical", "", "", &xmin.to_string(), "", "", "reserved"]));
    }
    if let Some(xmin) = cdc {
        let xmin = xmin.to_string();
        rows.push(row(&["cdc", "logical", "pgoutput", "shop", &xmin, "", "", "reserved"]));
    }
    rows.join("\u{1e}") + "\n"
}

const ASKED: &str = "FROM pg_replication_slots AS slot";

/// Returns three members, led by the last, with the slot `cdc` on the leader.
fn with_slot(kept_by_patroni: bool) -> World {
    let world = World::new(3, 2).printing(2, ASKED, Ok(&printed(Some(700), Some(700))));
    if kept_by_patroni { world.with_logical_slot("cdc") } else { world }
}

#[tokio::test]
async fn the_leader_waits_for_its_logical_slots() {
    for line in
        ["down acid-a --to 2 --yes", "switchover acid-a --for 2", "switchover acid-a --to acid-a-0"]
    {
        let world = with_slot(true)
            .printing(0, ASKED, Ok(&printed(Some(700), None)))
            .printing_once(0, ASKED, Ok(&printed(None, None)));
        let (screen, code, why) = run(&world, line, None).await;
        assert_eq!(code, 0, "{line}: {why}{}", screen.stderr());
        assert_eq!(world.leader(), 0, "{line}");
        let said = screen.stderr();
        let waits = "waiting until acid-a-0 holds the logical replication slots of acid-a-2 ...";
        assert!(said.contains(waits), "{line}: {said}");
    }
}

#[tokio::test]
async fn the_leader_stays_where_the_candidate_never_gets_a_slot() {
    for (line, candidate, reason) in [
        (
            "down acid-a --to 2 --yes --timeout 300ms",
            Ok(printed(None, None)),
            "cdc: not on acid-a-0 yet",
        ),
        (
            "switchover acid-a --for 2 --timeout 300ms",
            Ok(printed(None, None)),
            "cdc: not on acid-a-0 yet",
        ),
        (
            "switchover acid-a --to acid-a-0 --timeout 300ms",
            Err("psql: error: connection refused"),
            "the replication slots of acid-a-0 could not be read: psql: error: connection refused",
        ),
    ] {
        let candidate = candidate.as_deref().map_err(|why| *why);
        let world = with_slot(true).printing(0, ASKED, candidate);
        let (screen, code, why) = run(&world, line, None).await;
        assert_eq!(code, 3, "{line}: {why}{}", screen.stderr());
        assert_eq!((world.leader(), world.declared(), world.writes().len()), (2, 3, 0), "{line}");
        let said = format!("{why}{}", screen.stderr());
        assert!(said.contains(reason), "{line}: {said}");
    }
    // The slots of a leader that cannot be asked are never taken as none.
    let blind = World::new(3, 2).with_logical_slot("cdc").printing(
        2,
        ASKED,
        Err("pods/exec is not permitted"),
    );
    let (_, code, _) = run(&blind, "down acid-a --to 2 --yes --timeout 300ms", None).await;
    assert_eq!((code, blind.leader(), blind.declared()), (3, 2, 3));
}

#[tokio::test]
async fn a_slot_made_by_hand_is_named_and_holds_nothing_back() {
    let world = with_slot(false);
    let (screen, code, why) = run(&world, "down acid-a --to 2 --yes", None).await;
    assert_eq!((code, world.leader()), (0, 0), "{why}");
    let said = screen.stderr();
    let named = "logical replication slot cdc of acid-a-2 (plugin pgoutput, database shop) is none that Patroni keeps";
    assert_eq!(said.matches(named).count(), 1, "{said}");
}

#[tokio::test]
async fn a_leader_that_stays_is_not_asked_for_its_slots() {
    let world = World::new(3, 0).with_logical_slot("cdc").printing(
        0,
        ASKED,
        Err("pods/exec is not permitted"),
    );
    let (_, code, why) = run(&world, "down acid-a --to 2 --yes", None).await;
    assert_eq!(code, 0, "{why}");
}

#[tokio::test]
async fn a_standby_cluster_has_no_logical_slots_to_wait_for() {
    let world = with_slot(true).standby_cluster();
    let (screen, code, why) = run(&world, "switchover acid-a --to acid-a-0", None).await;
    assert_eq!((code, world.leader()), (0, 0), "{why}{}", screen.stderr());
}

/// Without a time that a person gave it lasts for minutes.
#[tokio::test]
async fn the_wait_for_slots_ends_with_the_time_that_was_given() {
    for line in ["down acid-a --to 2 --yes --timeout 1s", "switchover acid-a --for 2 --timeout 1s"]
    {
        let world = with_slot(true).printing(0, ASKED, Ok(&printed(None, None)));
        let (_, code, why) = run(&world, line, None).await;
        assert_eq!((code, world.leader(), world.declared()), (3, 2, 3), "{line}: {why}");
        assert!(why.contains("cdc: not on acid-a-0 yet"), "{line}: {why}");
        assert!(!why.contains("after 20s"), "{line}: {why}");
    }
}

/// The rule warns of what a plain edit does. The plugin's wait is no finding that can be lowered.
#[tokio::test]
async fn no_policy_lifts_the_wait_for_slots() {
    let world = with_slot(true)
        .platform_policy("all", &json!({"rules": {"logical-slots": "Ignore"}}))
        .printing(0, ASKED, Ok(&printed(None, None)));
    let line = "down acid-a --to 2 --yes --timeout 300ms";
    let (screen, code, why) = run(&world, line, None).await;
    assert_eq!((code, world.leader(), world.declared()), (3, 2, 3), "{why}{}", screen.stderr());
    assert!(why.contains("cdc: not on acid-a-0 yet"), "{why}");
}
