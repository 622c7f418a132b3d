//! Lines that a cluster in memory does not bring about.

use pgscale_guard::facts::{Claim, Facts, Live};
use pgscale_guard::{Policies, Seen};
use serde_json::json;

use super::*;
use crate::impact::tests::inputs;
use crate::impact::{LeaderReadings, Readings, Wal};
use crate::testing::{facts, made_by, with};

/// Returns the text of the plan and its impact.
fn text(mut facts: Facts, inputs: Readings, wide: bool) -> String {
    let claim = |ordinal| Claim {
        name: format!("pgdata-acid-a-{ordinal}"),
        ordinal,
        created: Some("2026-11-20T10:00:00Z".parse().unwrap()),
        capacity: Some(1 << 30),
        ..Claim::default()
    };
    let from = facts.from().unwrap();
    facts.claims = Seen::Known((0..from).map(claim).collect());
    let plan = Plan::of(&facts, &Policies::default());
    let impact = Impact::of(&plan, &facts, inputs);
    let text = crate::view::plan::render(&plan, Some(&impact), wide, Some(80));
    let text = anstream::adapter::strip_str(&text).to_string();
    text.split("\nSteps:").next().unwrap_or_default().to_owned()
}

#[test]
fn volumes_that_are_deleted_and_standbys_that_hang_on_stand_out() {
    let hanging_on = with(facts(4, 3, 0), 1, |member| {
        if let Live::Answered(answer) = &mut member.live {
            answer.tags.replicate_from = Some("acid-a-3".into());
            answer.pending_restart = true;
        }
    });
    let delete = json!({"persistentVolumeClaimRetentionPolicy": {"whenScaled": "Delete"}});
    insta::assert_snapshot!(text(made_by(hanging_on, &delete), inputs(), false), @"
    PLANNED 4 -> 3, allowed, 3 warnings: restart-pending, cascade-condemned,
      volumes-deleted
    postgresql db/acid-a: 4 -> 3 instances
    MEMBER    CHANGE   ROLE     STATE    VOLUME
    acid-a-3  removed  replica  healthy  pgdata-acid-a-3 is deleted (1.0 GiB, 4d)
    Impact:
      Requests:           storage 4.0 GiB -> 3.0 GiB
      Readers:            3 -> 2 behind acid-a-repl
      Failures tolerated: 3 -> 2
      Cascading:          acid-a-1 replicates from acid-a-3, which is removed
      Restarts:           acid-a-1 waits for a restart of PostgreSQL, which the
                          operator makes with any change
    ");
}

#[test]
fn members_with_the_same_text_share_a_line() {
    let app = Clients { user: "app".into(), application: String::new(), count: 1 };
    let clients = vec![
        ("acid-a-1".to_owned(), Ok(vec![app])),
        ("acid-a-2".to_owned(), Ok(Vec::new())),
        ("acid-a-3".to_owned(), Err("pods/exec is not permitted".to_owned())),
        ("acid-a-4".to_owned(), Err("pods/exec is not permitted".to_owned())),
    ];
    let reported = Readings { clients, ..inputs() };
    insta::assert_snapshot!(text(facts(5, 1, 0), reported, true), @"
    PLANNED 5 -> 1, allowed, 1 warning: no-standby-left
    postgresql db/acid-a: 5 -> 1 instance
    MEMBER     CHANGE    ROLE      STATE     VOLUME
    acid-a-1   removed   replica   healthy   pgdata-acid-a-1 is kept (1.0 GiB, 4d)
    acid-a-2   removed   replica   healthy   pgdata-acid-a-2 is kept (1.0 GiB, 4d)
    acid-a-3   removed   replica   healthy   pgdata-acid-a-3 is kept (1.0 GiB, 4d)
    acid-a-4   removed   replica   healthy   pgdata-acid-a-4 is kept (1.0 GiB, 4d)
    Impact:
      Requests:           storage 5.0 GiB as before
      Limits:             cpu unlimited, memory unlimited
      Quota:              none that this change touches
      Readers:            4 -> 0 behind acid-a-repl
      Failures tolerated: 4 -> 0
      Zones:              without a zone x 5 -> without a zone x 1
      Clients:            acid-a-1: 1 client (app x 1)
                          acid-a-2: none
                          acid-a-3, acid-a-4: unknown: pods/exec is not permitted
                          connections end when their member is removed
    ");
}

#[test]
fn many_copies_are_summed_up_and_an_unseen_disk_is_named() {
    let leader = LeaderReadings {
        data: Ok(3 << 30),
        wal: Ok(Wal { held: None, free: Err("df is not installed".to_owned()) }),
        pace: Ok(None),
    };
    let reported = Readings { leader: Some(leader), ..inputs() };
    insta::assert_snapshot!(text(facts(1, 4, 0), reported, false), @"
    PLANNED 1 -> 4, allowed
    postgresql db/acid-a: 1 -> 4 instances
    MEMBER     CHANGE   ROLE      STATE   VOLUME
    acid-a-1   added    replica   -       new, 1.0 GiB
    acid-a-2   added    replica   -       new, 1.0 GiB
    acid-a-3   added    replica   -       new, 1.0 GiB
    Impact:
      Requests:           storage 1.0 GiB -> 4.0 GiB
      Readers:            0 -> 3 behind acid-a-repl
      Failures tolerated: 0 -> 3
      Base backups:       3 x 3.0 GiB = 9.0 GiB; at nearly the same time (no
                          readiness probe holds the next pod back); ETA unknown: no
                          base backup of this cluster was measured yet
      Leader disk:        acid-a-0: free unknown: df is not installed; no slot holds
                          WAL back
    ");
}
