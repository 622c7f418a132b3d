use pgscale_guard::postgresql::Postgresql;

use super::*;
use crate::execute::switchover::Moved;
use crate::testing::{now, object};

fn change(id: &str, from: i64, to: i64, written: Option<bool>) -> Entry {
    Entry {
        id: id.to_owned(),
        uid: "u1".to_owned(),
        started: "2026-11-24T10:00:00Z".to_owned(),
        from: Some(from),
        to: Some(to),
        written,
        result: BEGUN.to_owned(),
        ..Entry::default()
    }
}

#[test]
fn entry_is_completed_in_its_place_and_the_oldest_is_dropped() {
    let mut history = History::of("what another version wrote\n");
    for number in 0..KEPT {
        history.put(&change(&number.to_string(), 3, 5, None));
    }
    assert_eq!(history.lines.len(), KEPT);
    assert!(!history.text().contains("another version"), "the oldest line is dropped");
    history.put(&Entry { result: "Converged".to_owned(), ..change("7", 3, 5, Some(true)) });
    let again = History::of(&history.text());
    assert_eq!(again, history);
    let entries = again.entries("u1");
    assert_eq!(entries.len(), KEPT);
    assert_eq!((entries[7].id.as_str(), entries[7].result.as_str()), ("7", "Converged"));
    assert_eq!(again.entries("another cluster of that name"), []);
}

#[test]
fn changes_of_the_same_second_are_two_entries() {
    let cluster = Postgresql::of(&object(5)).unwrap();
    let wanted = LeaderMove {
        from: "acid-a-4".to_owned(),
        to: "acid-a-0".to_owned(),
        why: "asked".to_owned(),
        named: true,
    };
    let mut history = History::default();
    for chance in [7, 8, 7] {
        history.put(&Entry::of_switchover(&cluster, &wanted, now(), chance, None));
    }
    let ids: Vec<String> = history.entries("u1").into_iter().map(|entry| entry.id).collect();
    assert_eq!(ids, ["2026-11-24T10:00:00Z-00000007", "2026-11-24T10:00:00Z-00000008"]);
}

#[test]
fn line_of_another_version_is_kept() {
    let mut history = History::of("what another version wrote\n\n");
    history.put(&change("1", 3, 5, None));
    assert!(history.text().starts_with("what another version wrote\n{"));
    assert_eq!(history.entries("u1").len(), 1);
}

#[test]
fn undo_reverts_the_last_change_that_was_written() {
    let five = change("1", 3, 5, Some(true));
    let refused = change("2", 5, 2, Some(false));
    let moved = change("3", 5, 5, None);
    let begun = change("4", 5, 4, None);
    for (entries, declared, want) in [
        (vec![&five, &refused, &moved], 5, Ok(3)),
        (vec![&five, &begun], 4, Ok(5)),
        (vec![], 3, Err("no change of the count is recorded")),
        (vec![&refused, &moved], 3, Err("no change of the count is recorded")),
        (
            vec![&five],
            7,
            Err(
                "the last recorded change (3 -> 5, 2026-11-24T10:00:00Z) does not match the present count: \
                 numberOfInstances is 7",
            ),
        ),
    ] {
        let entries: Vec<Entry> = entries.into_iter().cloned().collect();
        let undone = undo(&entries, Some(declared)).map(|(_, count)| count);
        assert_eq!(undone, want.map_err(str::to_owned));
    }
}

#[test]
fn actual_move_of_the_leader_replaces_the_intended_one() {
    let wanted = || LeaderMove {
        from: "acid-a-4".to_owned(),
        to: "acid-a-0".to_owned(),
        why: "it is removed".to_owned(),
        named: false,
    };
    let moved = |leader: &str| {
        let leader = leader.to_owned();
        Lead::moved(wanted(), Moved { leader, took: Duration::from_secs(3), pause: None })
    };
    for (lead, action, want) in [
        (Lead::Kept, "Scale", None),
        (Lead::Kept, SWITCHOVER, Some("not moved")),
        (Lead::InDoubt, "Scale", Some("acid-a-4 -> ?")),
        (moved("acid-a-0"), "Scale", Some("acid-a-4 -> acid-a-0")),
        (moved("acid-a-1"), SWITCHOVER, Some("acid-a-4 -> acid-a-1")),
    ] {
        let mut entry = change("1", 5, 3, None);
        action.clone_into(&mut entry.action);
        entry.leader_from = Some(wanted().from);
        entry.leader_to = Some(wanted().to);
        entry.led(&lead);
        assert_eq!(entry.lead().as_deref(), want, "{lead:?}");
    }
    for (result, written, want) in [
        (BEGUN, None, "5 -> 3"),
        ("Converged", Some(true), "5 -> 3"),
        ("Refused", Some(false), "not changed (5 -> 3 asked)"),
        ("Failed", None, "5 -> 3 (not certain)"),
    ] {
        let entry = Entry { result: result.to_owned(), ..change("1", 5, 3, written) };
        assert_eq!(entry.count().as_deref(), Some(want), "{result}");
    }
    assert_eq!(change("1", 3, 3, None).count(), None);
}

#[test]
fn message_is_one_line_of_limited_length() {
    let mut entry = Entry::default();
    entry.failed("refused:\n  below-min");
    assert_eq!(entry.message.as_deref(), Some("refused:; below-min"));
    entry.failed(&"ä".repeat(900));
    assert_eq!(entry.message.map(|message| message.chars().count()), Some(MESSAGE + 3));
}
