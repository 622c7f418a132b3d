//! The screens of `verify`.

use super::{BROAD, NARROW, on};

#[tokio::test(start_paused = true)]
async fn verify() {
    insta::assert_snapshot!(on("verify", NARROW).await, @"
    [stdout]
    VERIFIED: db/acid-a has converged on 3 instances
    postgresql db/acid-a
    MEMBER     ROLE      TL   WAL     REPLAYED   FROM       SLOT       SYNC
    acid-a-0   primary   1    0/3E8   -          -          -          -
    acid-a-1   standby   1    0/3E8   0/3E8      acid-a-0   acid_a_1   async
    acid-a-2   standby   1    0/3E8   0/3E8      acid-a-0   acid_a_2   async
    Canary: committed on acid-a-0 in 0s
      acid-a-1: replayed within 0s of the commit
      acid-a-2: replayed within 0s of the commit
    Confirmed by all 3 members: one primary, one system identifier (7100), one
      timeline, every standby streams
    VERIFIED: db/acid-a has converged on 3 instances
    [exit 0]
    ");
    insta::assert_snapshot!(on("verify", BROAD).await, @"
    [stdout]
    VERIFIED: db/acid-a has converged on 3 instances
    postgresql db/acid-a
    MEMBER     ROLE      TL   WAL     REPLAYED   FROM       SLOT       SYNC
    acid-a-0   primary   1    0/3E8   -          -          -          -
    acid-a-1   standby   1    0/3E8   0/3E8      acid-a-0   acid_a_1   async
    acid-a-2   standby   1    0/3E8   0/3E8      acid-a-0   acid_a_2   async
    Canary: committed on acid-a-0 in 0s
      acid-a-1: replayed within 0s of the commit
      acid-a-2: replayed within 0s of the commit
    Confirmed by all 3 members: one primary, one system identifier (7100), one timeline, every standby streams
    VERIFIED: db/acid-a has converged on 3 instances
    [exit 0]
    ");
}

#[tokio::test(start_paused = true)]
async fn verify_something_is_wrong() {
    let narrow = on("verify, something is wrong", NARROW).await;
    insta::assert_snapshot!(narrow, @"
    [stderr]
    something looks wrong; looking again in 3s ...
    [stdout]
    WRONG: acid-a-1: 990 bytes behind the leader after a second
    postgresql db/acid-a
    MEMBER     ROLE     TL   WAL   REPLAYED   FROM   SLOT   SYNC
    acid-a-0   silent
    acid-a-1   silent
    acid-a-2   silent
    Wrong:
      acid-a-1: 990 bytes behind the leader after a second
    Not verified:
      acid-a-0 could not be asked: psql is not installed
      acid-a-1 could not be asked: psql is not installed
      acid-a-2 could not be asked: psql is not installed
    WRONG: acid-a-1: 990 bytes behind the leader after a second
    [stderr]
    error: postgresql db/acid-a is not what it should be
    [exit 5]
    ");
    assert_eq!(on("verify, something is wrong", BROAD).await, narrow);
}
