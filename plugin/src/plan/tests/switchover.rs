//! Plans of a switchover alone, and the findings of a plan beside those of the guard.

use super::*;

#[test]
fn switchover_goes_to_a_member_that_can_take_over() {
    let five = facts(5, 5, 4);
    let to = |handover: Handover| match handover {
        Handover::Ready(leader_move) => leader_move.to,
        Handover::Nothing(why) | Handover::Refused(why) => why,
    };
    assert_eq!(to(switchover(Assessment::new(&five, None), &Wanted::Best)), "acid-a-0");
    assert_eq!(
        to(switchover(Assessment::new(&five, None), &Wanted::Member("acid-a-2".into()))),
        "acid-a-2"
    );
    assert_eq!(
        to(switchover(Assessment::new(&stalled(five.clone(), 0), None), &Wanted::Within(2))),
        "acid-a-1"
    );
    assert_eq!(
        switchover(Assessment::new(&five, None), &Wanted::Member("acid-a-4".into())),
        Handover::Nothing("acid-a-4 leads already".into())
    );
    assert_eq!(
        switchover(Assessment::new(&facts(5, 5, 1), None), &Wanted::Within(3)),
        Handover::Nothing("acid-a-1 leads, and stays at 3 instances".into())
    );
}

#[test]
fn a_switchover_that_could_lose_data_is_refused() {
    let refused = |facts: &Facts, wanted: Wanted, says: &str| {
        let handover = switchover(Assessment::new(facts, None), &wanted);
        assert!(
            matches!(&handover, Handover::Refused(why) if why.contains(says)),
            "{wanted:?}: {handover:?}"
        );
    };
    let behind = stalled(facts(3, 3, 0), 1);
    refused(&behind, Wanted::Member("acid-a-1".into()), "acid-a-1 cannot take over");
    refused(&behind, Wanted::Member("acid-b-1".into()), "not a member");
    refused(&stalled(stalled(facts(5, 5, 4), 0), 1), Wanted::Within(2), "leader-cannot-move");
    let tagged = with(facts(2, 2, 0), 1, |member| {
        if let Live::Answered(answer) = &mut member.live {
            answer.tags.nofailover = true;
        }
    });
    refused(&tagged, Wanted::Best, "nofailover");
    let mut pending = facts(3, 3, 0);
    pending.failover = Seen::Known(PendingFailover {
        leader: Some("acid-a-0".into()),
        candidate: Some("acid-a-2".into()),
        scheduled: None,
    });
    refused(&pending, Wanted::Best, "switchover-pending");
    let mut leaderless = facts(3, 3, 0);
    leaderless.leader = Seen::Absent;
    refused(&leaderless, Wanted::Best, "no-leader");
}

#[test]
fn a_switchover_that_is_under_way_cannot_be_flushed() {
    let remedy = |failover: Seen<PendingFailover>| {
        let facts = Facts { failover, ..facts(5, 3, 4) };
        let plan = plan(&facts).reached_by(&reach("c"));
        let finding =
            plan.verdict.denials().find(|finding| finding.rule == RuleId::SWITCHOVER_PENDING);
        finding.unwrap().remedy.clone().unwrap().to_string()
    };
    let pending = |scheduled: Option<&str>| PendingFailover {
        leader: Some("acid-a-4".into()),
        candidate: Some("acid-a-2".into()),
        scheduled: scheduled.map(str::to_owned),
    };
    insta::assert_snapshot!(remedy(Seen::Known(pending(None))), @"
    run it again in some seconds: the leader does this switchover or drops it within a loop
    if it stays, no leader is there to act on it:
      kubectl pgscale status acid-a -n db --context=c
    then remove it:
      kubectl annotate configmap/acid-a-failover leader- member- -n db --context=c
    last resort: rows that the chosen member has not received are lost:
      kubectl exec -it acid-a-0 -n db -c postgres --context=c -- patronictl failover acid-a
    ");
    assert_eq!(
        remedy(Seen::Known(pending(Some("2026-11-25T02:00:00+00:00")))),
        "wait until it is done, or withdraw it:\n  kubectl exec acid-a-0 -n db -c postgres --context=c -- patronictl \
         flush acid-a switchover --force"
    );
    assert_eq!(
        remedy(Seen::Unreadable("forbidden".into())),
        "have configmap/acid-a-failover made readable"
    );
}

/// Equal facts and policies come to equal findings here and in the guard, with the leader where the
/// plan puts it. The same holds where a policy allows less lag than Patroni. The plan adds findings
/// about its own switchover alone.
#[test]
fn findings_are_byte_equal_to_those_of_the_guard() {
    let late = |facts: Facts, ordinal: i64| {
        with(facts, ordinal, |member| {
            if let Live::Answered(answer) = &mut member.live {
                answer.replayed = Some(850);
            }
        })
    };
    let bytes = |findings: &[Finding]| {
        findings.iter().map(|it| serde_json::to_string(it).unwrap()).collect()
    };
    let (mut named, mut moved, mut own) = (0, 0, 0);
    for max_lag in [None, Some("50")] {
        let policies =
            policies(&[("a", json!({"instances": {"max": 6}, "survivors": {"maxLag": max_lag}}))]);
        for (from, to) in [(5, 2), (5, 1), (5, 0), (3, 5), (5, 7), (4, 4)] {
            for leader in [0, from - 1] {
                for (stalls, lags) in
                    [(&[][..], &[][..]), (&[0], &[1]), (&[], &[0, 1]), (&[0, 1], &[2])]
                {
                    let facts =
                        stalls.iter().fold(facts(from, to, leader), |it, at| stalled(it, *at));
                    let facts = lags.iter().fold(facts, |it, at| late(it, *at));
                    let plan = Plan::of(&facts, &policies);
                    let there = after_switchover(&facts, &policies);
                    let wanted: Vec<String> = bytes(&evaluate(&there, &policies).findings);
                    let mut found: Vec<String> = bytes(&plan.verdict.findings);
                    if found.len() > wanted.len() {
                        let added = plan.verdict.findings.last().unwrap();
                        assert_eq!(added.rule, RuleId::LEADER_CANNOT_MOVE, "{added}");
                        found.pop();
                        own += 1;
                    }
                    assert_eq!(found, wanted, "{from} -> {to}, led by {leader}");
                    named += usize::from(found.concat().contains("survivors.maxLag"));
                    moved += usize::from(plan.leader_move.is_some());
                }
            }
        }
    }
    assert!(
        named > 0 && moved > 0,
        "{named} name the policy's lag, {moved} move the leader, {own}"
    );
}

#[test]
fn leader_moves_to_ordinal_0_before_all_members_stop() {
    let to = |facts: &Facts| plan(facts).leader_move.map(|it| it.to);
    assert_eq!(to(&facts(3, 0, 2)).as_deref(), Some("acid-a-0"));
    assert_eq!(to(&facts(3, 0, 0)), None, "it leads already");
    let behind = stalled(facts(3, 0, 2), 0);
    assert_eq!(to(&behind), None);
    let refused = plan(&behind).verdict;
    assert!(refused.denials().any(|it| it.rule == RuleId::LAST_TO_STOP), "{refused:?}");
    // Another than the last to stop may be behind.
    assert_eq!(to(&stalled(facts(3, 0, 2), 1)).as_deref(), Some("acid-a-0"));
}
