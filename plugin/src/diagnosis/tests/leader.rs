//! Causes where no member leads.

use super::*;

#[test]
fn resume_is_never_suggested_during_a_major_upgrade() {
    let mark = |facts, ordinal| with(facts, ordinal, |it| it.pod.critical_operation = true);
    let upgrade = (0..3).fold(leaderless(true), mark);
    insta::assert_snapshot!(first(upgrade, Vec::new()), @"no member leads, and Patroni is paused: no member takes over | configmap/acid-a-leader: leader: none; configmap/acid-a-config: pause: true; pod/acid-a-0: label critical-operation: true; pod/acid-a-1: label critical-operation: true; pod/acid-a-2: label critical-operation: true | kubectl get pods -L critical-operation -w -n db --context=c");
}

/// Back from zero, the first member may not lead, and the StatefulSet waits for it: no other is made.
#[test]
fn tag_that_bars_every_member_is_named_where_no_member_leads() {
    let mut nothing_leads = without_pods_from(1, leaderless(false));
    nothing_leads = with(nothing_leads, 0, |member| {
        member.pod.ready = false;
        if let Live::Answered(answer) = &mut member.live {
            answer.role = Role::Replica;
            answer.tags.nofailover = true;
        }
    });
    let causes = found(&snapshot(nothing_leads), Vec::new());
    assert_eq!(
        causes[0].what,
        "no member leads, and every member that is there is tagged nofailover"
    );
    let evidence: Vec<String> = causes[0].evidence.iter().map(ToString::to_string).collect();
    let named = evidence
        .iter()
        .any(|it| it.starts_with("pod/acid-a-0: health: ") && it.ends_with("tagged nofailover"));
    assert!(named, "{evidence:?}");
    let next = causes[0].next.to_string();
    assert!(next.contains("remove the tag nofailover"), "{next}");
    assert!(next.contains("patronictl list"), "{next}");
    assert_eq!(causes[1].what, "acid-a-1 is started only once acid-a-0 is Ready");
}
