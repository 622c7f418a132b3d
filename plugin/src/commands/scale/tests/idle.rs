//! An operator that has not acted on the written count: what is printed, what makes it act, and what
//! happens to a leader that comes back.

use serde_json::json;

use crate::execute::ASKED_AGAIN;
use crate::testing::{Mishap, World, run};

/// Returns the text after the write of the count, without times.
fn after_the_write(stderr: &str) -> String {
    let lines = stderr.lines().skip_while(|line| !line.starts_with("numberOfInstances"));
    let plain = lines.map(|line| match line.split_once("s] ") {
        Some((_, what)) if line.starts_with('[') => what,
        _ => line,
    });
    plain.collect::<Vec<_>>().join("\n")
}

/// Returns the failure without the times that a member stood still.
fn without_spans(why: &str) -> String {
    let lines = why.lines().map(|line| match line.split_once(", for ") {
        Some((before, _)) => before,
        None => line,
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn operator_that_does_not_act_is_reported_and_explained() {
    let world = World::new(5, 0).with(Mishap::UpdateDropped);
    let (screen, code, why) = run(&world, "down acid-a --yes --timeout 200ms", None).await;
    assert_eq!((code, world.declared()), (4, 4), "{why}");
    assert!(!screen.stderr().contains("stopping"), "{}", screen.stderr());
    insta::assert_snapshot!(after_the_write(&screen.stderr()), @"
    numberOfInstances is 4
    the operator has not acted yet (the StatefulSet says 5)
    the operator may have dropped the update (another write came within milliseconds), be busy with another cluster, or leave this cluster to another operator
    hint: first see what it does:
        kubectl logs deployment/postgres-operator --tail=50 -n default
      then make it act:
        kubectl pgscale set acid-a 4 -n db
    note: there is no terminal to ask on: add --yes to a command that changes the count
    ");
    insta::assert_snapshot!(without_spans(&why), @"
    error: NOT DONE 5 -> 4: the operator has not acted on postgresql db/acid-a within 0.2s; the change continues as soon as it acts
    Missing:
      the StatefulSet still asks for 5 and not 4: the operator has not acted yet
      acid-a-4: still there
      service acid-a-repl still leads to acid-a-4
    Where it stands, and where to look:
      acid-a: the StatefulSet still asks for 5 and not 4: the operator has not acted yet
        kubectl logs deployment/postgres-operator --tail=50 -n default
      acid-a-4: to be removed
        kubectl logs deployment/postgres-operator --tail=50 -n default
    hint: first see why:
        kubectl pgscale status acid-a --why -n db
    hint: then make the operator act:
        kubectl pgscale set acid-a 4 -n db
    hint: or cancel the change:
        kubectl pgscale set acid-a 5 -n db
    NOT DONE 5 -> 4: the operator has not acted on postgresql db/acid-a within 0.2s; the change continues as soon as it acts
    ");
}

#[tokio::test]
async fn operator_that_does_not_act_on_growth_is_reported() {
    let world = World::new(3, 0).with(Mishap::UpdateDropped);
    let (screen, code, why) = run(&world, "up acid-a --timeout 200ms", None).await;
    assert_eq!((code, world.declared()), (4, 4), "{why}");
    let said = screen.stderr();
    assert!(said.contains("the operator has not acted yet (the StatefulSet says 3)"), "{said}");
    assert!(why.contains("kubectl pgscale set acid-a 3 -n db"), "{why}");
}

#[tokio::test]
async fn same_command_makes_the_operator_act() {
    for (from, line, to) in [(5, "down acid-a --to 3 --yes", 3), (3, "up acid-a --to 5", 5)] {
        let world = World::new(from, from - 1).with(Mishap::UpdateDropped);
        assert_eq!(run(&world, &format!("{line} --timeout 50ms"), None).await.1, 4, "{line}");
        let (screen, code, why) = run(&world, line, None).await;
        assert_eq!((code, world.declared()), (0, to), "{line}: {why}\n{}", screen.stderr());
        let [count, again] = world.writes().try_into().unwrap();
        assert_eq!(count["spec"], json!({"numberOfInstances": to}), "{line}");
        assert!(again["metadata"]["annotations"][ASKED_AGAIN].is_string(), "{line}: {again}");
        assert_eq!(again["spec"], json!(null), "nothing else is written");
        assert_eq!(again["metadata"]["uid"], "u1");
        let said = screen.stderr();
        assert!(said.contains(&format!("act on numberOfInstances {to}")), "{line}: {said}");
    }
}

#[tokio::test]
async fn operator_that_acts_within_some_seconds_is_not_asked_again() {
    let world = World::new(5, 0).with(Mishap::ActsLate(2));
    let line = "down acid-a --to 3 --yes";
    assert_eq!(run(&world, &format!("{line} --wait=false"), None).await.1, 0);
    let (_, code, why) = run(&world, line, None).await;
    assert_eq!((code, world.declared(), world.writes().len()), (0, 3, 1), "{why}");
}

#[tokio::test]
async fn operator_is_not_asked_again_without_a_yes_to_the_shrink() {
    let world = World::new(5, 0).with(Mishap::UpdateDropped);
    run(&world, "down acid-a --to 3 --yes --timeout 50ms", None).await;
    let (_, code, why) = run(&world, "down acid-a --to 3", None).await;
    assert_eq!((code, world.writes().len()), (7, 1), "{why}");
}

#[tokio::test]
async fn leader_is_moved_before_the_operator_is_asked_again() {
    let world = World::new(5, 0).with(Mishap::UpdateDropped);
    run(&world, "down acid-a --to 3 --yes --timeout 50ms", None).await;
    world.lead(4);
    let (_, code, why) = run(&world, "down acid-a --to 3 --yes", None).await;
    assert_eq!((code, world.leader(), world.switchovers().len()), (0, 0, 1), "{why}");
}

#[tokio::test]
async fn operator_is_not_asked_again_to_delete_a_leader_that_cannot_move() {
    let world = World::new(5, 0).with(Mishap::UpdateDropped);
    run(&world, "down acid-a --to 3 --yes --timeout 50ms", None).await;
    world.lead(4);
    let world = world.stalled(&[0, 1, 2]);
    let (screen, code, why) = run(&world, "set acid-a 3 --yes --timeout 100ms", None).await;
    assert_eq!((code, world.writes().len(), world.switchovers().len()), (4, 1, 0), "{why}");
    let said = screen.stderr();
    assert!(said.contains("acid-a-4 leads, and is to be removed"), "{said}");
    assert!(said.contains("kubectl pgscale set acid-a 5 -n db"), "{said}");
}

#[tokio::test]
async fn leader_that_comes_back_is_moved_again() {
    let world = World::new(5, 4).with(Mishap::LeadReturns);
    let (screen, code, why) = run(&world, "down acid-a --to 3 --yes", None).await;
    assert_eq!((code, world.declared(), world.leader()), (0, 3, 0), "{why}\n{}", screen.stderr());
    assert_eq!(world.switchovers().len(), 2);
    let said = screen.stderr();
    assert!(said.contains("acid-a-4 leads, and is to be removed; moving it again ..."), "{said}");
    assert!(said.contains("numberOfInstances is 5 until the leader has moved"), "{said}");
    assert!(said.contains("numberOfInstances is 3 again"), "{said}");
    assert!(said.contains("note: the leader was moved again from acid-a-4 to acid-a-0"), "{said}");
}

/// An operator that acts while the leader moves deletes it, unless the count is set back first.
#[tokio::test]
async fn count_is_held_while_a_leader_that_comes_back_moves_again() {
    let world = World::new(5, 4).with(Mishap::LeadReturns);
    let (_, code, why) = run(&world, "down acid-a --to 3 --yes", None).await;
    assert_eq!(code, 0, "{why}");
    let writes = world.writes();
    let counts = writes.iter().map(|write| write["spec"]["numberOfInstances"].as_i64());
    assert_eq!(counts.collect::<Vec<_>>(), [Some(3), Some(5), Some(3)]);
    for write in &writes {
        assert_eq!(write["metadata"]["uid"], "u1", "{write}");
        assert!(write["metadata"]["resourceVersion"].is_string(), "{write}");
    }
}

#[tokio::test]
async fn leader_moves_at_once_where_the_operator_has_begun_to_act() {
    let world = World::new(5, 0).with(Mishap::LeadReturnsLate);
    let (_, code, why) = run(&world, "down acid-a --to 3 --yes", None).await;
    assert_eq!((code, world.declared(), world.leader()), (0, 3, 0), "{why}");
    assert_eq!((world.switchovers().len(), world.writes().len()), (1, 1), "{why}");
}

#[tokio::test]
async fn held_count_stays_where_the_rules_refuse_it_after_the_move() {
    let world = World::new(5, 0).with(Mishap::LeadReturnsFrozen);
    let (_, code, why) = run(&world, "down acid-a --to 3 --yes", None).await;
    assert_eq!((code, world.declared(), world.leader()), (5, 5, 0), "{why}");
    assert_eq!((world.switchovers().len(), world.writes().len()), (1, 2), "{why}");
    insta::assert_snapshot!(why, @"
    error: the leader was moved again from acid-a-4 to acid-a-0, and numberOfInstances of postgresql db/acid-a was set back to 5 meanwhile and could not be written again; no member is removed
    change-freeze: db/acid-a is frozen until 2099-01-01T00:00:00Z (audit)
    hint: see what ails the members:
        kubectl pgscale status acid-a --why -n db
    hint: when that is mended:
        kubectl pgscale set acid-a 3 -n db
    ");
}

#[tokio::test]
async fn count_is_restored_where_a_leader_that_comes_back_cannot_move() {
    let world = World::new(5, 0).with(Mishap::LeadReturnsForGood);
    let (_, code, why) = run(&world, "down acid-a --to 3 --yes", None).await;
    assert_eq!((code, world.declared(), world.leader()), (5, 5, 4), "{why}");
    let [_, back] = world.writes().try_into().unwrap();
    assert_eq!(
        back,
        json!({"metadata": {"resourceVersion": "8", "uid": "u1"}, "spec": {"numberOfInstances": 5}})
    );
    insta::assert_snapshot!(why, @"
    error: acid-a-4 leads again and would be removed, and no kept member can take over; numberOfInstances of postgresql db/acid-a is 5 again; no member is removed
    leader-condemned: acid-a-4 is the leader, and its pod would be deleted: acid-a-0 to acid-a-2 are kept
    too-few-healthy-survivors: acid-a-3, acid-a-4 would be removed, and of the kept members none can be counted on; at least 2 must
    hint: see what ails the members:
        kubectl pgscale status acid-a --why -n db
    hint: when that is mended:
        kubectl pgscale set acid-a 3 -n db
    ");
}
