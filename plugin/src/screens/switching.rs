//! The screens of switchovers.

use super::{BROAD, NARROW, on};

#[tokio::test(start_paused = true)]
async fn switchover() {
    insta::assert_snapshot!(on("switchover", NARROW).await, @"
    [stderr]
    leader acid-a-0 -> acid-a-1: moving it away from acid-a-0; acid-a-1 is the best
      caught-up member that is kept
    CHECKPOINT on acid-a-0 ...
    switching over from acid-a-0 to acid-a-1 ...
    acid-a-1 leads (lock, label and Patroni agree), 0.0s after the request; how long
      writes stopped could not be measured
    [stdout]
    postgresql/acid-a: leader moved from acid-a-0 to acid-a-1
    [exit 0]
    ");
    insta::assert_snapshot!(on("switchover", BROAD).await, @"
    [stderr]
    leader acid-a-0 -> acid-a-1: moving it away from acid-a-0; acid-a-1 is the best caught-up member that is kept
    CHECKPOINT on acid-a-0 ...
    switching over from acid-a-0 to acid-a-1 ...
    acid-a-1 leads (lock, label and Patroni agree), 0.0s after the request; how long writes stopped could not be measured
    [stdout]
    postgresql/acid-a: leader moved from acid-a-0 to acid-a-1
    [exit 0]
    ");
}

#[tokio::test(start_paused = true)]
async fn switchover_patroni_says_no() {
    insta::assert_snapshot!(on("switchover, Patroni says no", NARROW).await, @"
    [stderr]
    leader acid-a-0 -> acid-a-2: acid-a-2 was asked for and is caught up
    CHECKPOINT on acid-a-0 ...
    switching over from acid-a-0 to acid-a-2 ...
    error: Patroni refused to switch over from acid-a-0 to acid-a-2: 412 candidate
      name does not match with sync_standby; nothing was changed
    hint: see how the members are:
        kubectl pgscale status acid-a --why -n db
    hint: run the same command again once acid-a-2 is fit, or name another member
    [exit 3]
    ");
    insta::assert_snapshot!(on("switchover, Patroni says no", BROAD).await, @"
    [stderr]
    leader acid-a-0 -> acid-a-2: acid-a-2 was asked for and is caught up
    CHECKPOINT on acid-a-0 ...
    switching over from acid-a-0 to acid-a-2 ...
    error: Patroni refused to switch over from acid-a-0 to acid-a-2: 412 candidate name does not match with sync_standby; nothing was changed
    hint: see how the members are:
        kubectl pgscale status acid-a --why -n db
    hint: run the same command again once acid-a-2 is fit, or name another member
    [exit 3]
    ");
}

#[tokio::test(start_paused = true)]
async fn switchover_for_a_count() {
    insta::assert_snapshot!(on("switchover, for a count", NARROW).await, @"
    [stderr]
    leader acid-a-4 -> acid-a-0: acid-a-4 would be removed at 3 instances; acid-a-0
      is the best caught-up member that is kept
    CHECKPOINT on acid-a-4 ...
    switching over from acid-a-4 to acid-a-0 ...
    acid-a-0 leads (lock, label and Patroni agree), 0.0s after the request; how long
      writes stopped could not be measured
    still waiting after 5s: operation-in-progress: an operation on db/acid-a is not
      finished
    [stdout]
    postgresql/acid-a: leader moved from acid-a-4 to acid-a-0
    3 is admitted now:
        kubectl pgscale set acid-a 3 -n db
    where Git sets the count: commit 3 there, or synchronise again
    [exit 0]
    ");
    insta::assert_snapshot!(on("switchover, for a count", BROAD).await, @"
    [stderr]
    leader acid-a-4 -> acid-a-0: acid-a-4 would be removed at 3 instances; acid-a-0 is the best caught-up member that is kept
    CHECKPOINT on acid-a-4 ...
    switching over from acid-a-4 to acid-a-0 ...
    acid-a-0 leads (lock, label and Patroni agree), 0.0s after the request; how long writes stopped could not be measured
    still waiting after 5s: operation-in-progress: an operation on db/acid-a is not finished
    [stdout]
    postgresql/acid-a: leader moved from acid-a-4 to acid-a-0
    3 is admitted now:
        kubectl pgscale set acid-a 3 -n db
    where Git sets the count: commit 3 there, or synchronise again
    [exit 0]
    ");
}

#[tokio::test(start_paused = true)]
async fn switchover_for_a_count_that_stays_refused() {
    insta::assert_snapshot!(on("switchover, for a count that stays refused", NARROW).await, @"
    [stderr]
    error: the leader of acid-a is not moved, because 2 instances would be refused
      all the same; nothing was changed
    below-min: 2 instances asked for, 3 is the minimum
      scalepolicy/production: instances.min: 3
      Try:
          kubectl pgscale set acid-a 3 -n db
    hint: 3 instances would be admitted:
        kubectl pgscale switchover acid-a --for 3 -n db
    [exit 3]
    ");
    insta::assert_snapshot!(on("switchover, for a count that stays refused", BROAD).await, @"
    [stderr]
    error: the leader of acid-a is not moved, because 2 instances would be refused all the same; nothing was changed
    below-min: 2 instances asked for, 3 is the minimum
      scalepolicy/production: instances.min: 3
      Try:
          kubectl pgscale set acid-a 3 -n db
    hint: 3 instances would be admitted:
        kubectl pgscale switchover acid-a --for 3 -n db
    [exit 3]
    ");
}

#[tokio::test(start_paused = true)]
async fn switchover_in_vain() {
    insta::assert_snapshot!(on("switchover, in vain", NARROW).await, @"
    [stderr]
    leader acid-a-4 -> acid-a-0: acid-a-4 would be removed at 3 instances; acid-a-0
      is the best caught-up member that is kept
    CHECKPOINT on acid-a-4 ...
    switching over from acid-a-4 to acid-a-0 ...
    acid-a-0 leads (lock, label and Patroni agree), 0.9s after the request; writes
      stopped for 0.1s at most
    still waiting after 6s: acid-a-1: 990 bytes behind the leader after a second;
      acid-a-2: 990 bytes behind the leader after a second
    error: NOT DONE: the leader has moved, and a change to 3 instances is not
      admitted yet:
      acid-a-1: 990 bytes behind the leader after a second
      acid-a-2: 990 bytes behind the leader after a second
    hint: to see why these members lag:
        kubectl pgscale status acid-a --why -n db
    hint: when that is mended, wait again:
        kubectl pgscale switchover acid-a --for 3 -n db
    NOT DONE: the leader has moved, and a change to 3 instances is not admitted yet
    [exit 4]
    ");
    insta::assert_snapshot!(on("switchover, in vain", BROAD).await, @"
    [stderr]
    leader acid-a-4 -> acid-a-0: acid-a-4 would be removed at 3 instances; acid-a-0 is the best caught-up member that is kept
    CHECKPOINT on acid-a-4 ...
    switching over from acid-a-4 to acid-a-0 ...
    acid-a-0 leads (lock, label and Patroni agree), 0.9s after the request; writes stopped for 0.1s at most
    still waiting after 6s: acid-a-1: 990 bytes behind the leader after a second; acid-a-2: 990 bytes behind the leader after a second
    error: NOT DONE: the leader has moved, and a change to 3 instances is not admitted yet:
      acid-a-1: 990 bytes behind the leader after a second
      acid-a-2: 990 bytes behind the leader after a second
    hint: to see why these members lag:
        kubectl pgscale status acid-a --why -n db
    hint: when that is mended, wait again:
        kubectl pgscale switchover acid-a --for 3 -n db
    NOT DONE: the leader has moved, and a change to 3 instances is not admitted yet
    [exit 4]
    ");
}

#[tokio::test(start_paused = true)]
async fn autoscale() {
    insta::assert_snapshot!(on("autoscale", BROAD).await, @"
    [stdout]
    2026-11-24T10:00:00Z db/acid-a stays at 3: StabilisingUp: more are wanted; not before 10:01:00Z (CPU 160%)
    [exit 0]
    ");
}
