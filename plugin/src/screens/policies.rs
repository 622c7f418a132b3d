//! The screens of policies, overrides and rules.

use super::{BROAD, NARROW, on};

#[tokio::test(start_paused = true)]
async fn policy() {
    insta::assert_snapshot!(on("policy", NARROW).await, @"
    [stdout]
    Effective policy of postgresql db/acid-a
    Policies:  clusterscalepolicy/platform (Enforce), scalepolicy/production
      (Enforce), scalepolicy/trial (Warn)
    The calendar allows down:  from 2026-11-27T00:00:00Z
    The calendar allows up:  now

    FIELD               VALUE                  FROM                         EFFECT
    instances.min       2                      clusterscalepolicy/platform  in force
    instances.min       2                      scalepolicy/production       in force
    instances.min       5                      scalepolicy/trial            warns
    instances.max       7                      scalepolicy/production       in force
    instances.zero      Deny                   built-in                     in force
    steps.down          2                      scalepolicy/production       in force
    whenUnknown.down    Deny                   built-in                     in force
    whenUnknown.up      Deny                   clusterscalepolicy/platform  in force
    freeze              Down from              clusterscalepolicy/platform  in force
                        2026-11-20T00:00:00Z
                        until
                        2026-11-27T00:00:00Z
                        (peak season), holds
                        now
    builtIn.mode        Enforce                built-in                     in force
    builtIn.loosenable  all but 6 rules        built-in                     in force
    [exit 0]
    ");
    insta::assert_snapshot!(on("policy", BROAD).await, @"
    [stdout]
    Effective policy of postgresql db/acid-a
    Policies:  clusterscalepolicy/platform (Enforce), scalepolicy/production (Enforce), scalepolicy/trial (Warn)
    The calendar allows down:  from 2026-11-27T00:00:00Z
    The calendar allows up:  now

    FIELD                VALUE                                                                                FROM                          EFFECT
    instances.min        2                                                                                    clusterscalepolicy/platform   in force
    instances.min        2                                                                                    scalepolicy/production        in force
    instances.min        5                                                                                    scalepolicy/trial             warns
    instances.max        7                                                                                    scalepolicy/production        in force
    instances.zero       Deny                                                                                 built-in                      in force
    steps.down           2                                                                                    scalepolicy/production        in force
    whenUnknown.down     Deny                                                                                 built-in                      in force
    whenUnknown.up       Deny                                                                                 clusterscalepolicy/platform   in force
    freeze               Down from 2026-11-20T00:00:00Z until 2026-11-27T00:00:00Z (peak season), holds now   clusterscalepolicy/platform   in force
    builtIn.mode         Enforce                                                                              built-in                      in force
    builtIn.loosenable   all but 6 rules                                                                      built-in                      in force
    [exit 0]
    ");
}

#[tokio::test(start_paused = true)]
async fn policy_test() {
    let narrow = on("policy test", NARROW).await;
    insta::assert_snapshot!(narrow, @"
    [stdout]
    NAME     INSTANCES   AS IT IS        ONE LESS   ONE MORE
    acid-a   3           within bounds   allowed    allowed
    [exit 0]
    ");
    assert_eq!(on("policy test", BROAD).await, narrow);
}

#[tokio::test(start_paused = true)]
async fn an_override() {
    insta::assert_snapshot!(on("override", NARROW).await, @"
    [stderr]
    postgresql db/acid-a: 4 -> 2 instances
    would warn: too-few-healthy-survivors: acid-a-3 would be removed, and of the
      kept members only 1 can be counted on; at least 2 must
    [stdout]
    scaleoverride.pgscale.dev/acid-a-x7k2p created, until 2026-11-24T11:00:00Z
    [stderr]
    the change is admitted now:
        kubectl pgscale set acid-a 2 -n db
    note: there is no terminal to ask on: add --yes to a command that changes the
      count
    [exit 0]
    ");
    insta::assert_snapshot!(on("override", BROAD).await, @"
    [stderr]
    postgresql db/acid-a: 4 -> 2 instances
    would warn: too-few-healthy-survivors: acid-a-3 would be removed, and of the kept members only 1 can be counted on; at least 2 must
    [stdout]
    scaleoverride.pgscale.dev/acid-a-x7k2p created, until 2026-11-24T11:00:00Z
    [stderr]
    the change is admitted now:
        kubectl pgscale set acid-a 2 -n db
    note: there is no terminal to ask on: add --yes to a command that changes the count
    [exit 0]
    ");
}

#[tokio::test(start_paused = true)]
async fn rules() {
    insta::assert_snapshot!(on("rules", NARROW).await, @"
    [stdout]
    RULE                        MEANING
    below-min                   fewer instances than the policy's minimum
    above-max                   more instances than the policy's maximum
    outside-floor               outside the bounds that the API server holds
    scale-to-zero               no instance left: a full outage
    namespace-budget            more instances than the namespace's budget
    return-from-zero            the volume with the newest data would not be
                                mounted, or no volume is left to start from
    operator-limits             the operator would run another number than the one
                                asked for
    limits-unknown              no operator was found whose limits could be looked
                                at
    standby-cluster             a standby cluster is supported with one instance
                                only
    dcs-store-changing          a new member would look for the cluster in another
                                place and found an empty one
    step-too-large              more instances at once than the policy's step
    change-freeze               a time in which the count must not change
    outside-window              outside the hours in which the count may change
    no-leader                   no member leads, or more than one claims to
    leader-condemned            the leader's pod would be deleted
    leader-cannot-move          the leader's pod would be deleted and ordinal 0
                                cannot take over
    last-to-stop                the member that stops last, and starts first again,
                                lacks the newest rows
    too-few-healthy-survivors   healthy members would be removed and too few healthy
                                ones kept
    survivor-unhealthy          a kept member is not healthy
    logical-slots               the leader goes, and the next one may lack its
                                logical replication slots
    sync-standbys-condemned     every synchronous standby would be deleted
    strict-sync-floor           every commit would wait for a standby that is not
                                there
    sync-count-floor            fewer standbys would be kept than
                                synchronous_node_count asks for
    no-standby-left             one instance is left: nothing to fail over to
    paused                      Patroni is in maintenance mode: no member takes
                                over, and none starts
    switchover-pending          a switchover was requested and is not done yet
    rebuild-in-progress         a member is being created, cloned, reinitialised or
                                rewound
    operation-in-progress       Kubernetes or the operator is still busy with this
                                cluster
    change-not-applied          the operator has not applied the last change of the
                                count
    major-upgrade               PostgreSQL is being upgraded to another major
                                version, or that failed
    upgrade-pending             this change may start a major upgrade of PostgreSQL
    operator-failed             the operator's last work on this cluster failed
    operator-absent             no operator would carry the change out now
    mixed-change                the same write also changes something else
    replace-pending             the operator would replace the StatefulSet instead
                                of updating it
    restart-pending             the operator restarts PostgreSQL together with this
                                change
    configuration-drift         the operator would set Patroni's configuration back
                                to the manifest
    parallel-shrink             several members would be deleted at the same moment
    will-not-progress           the StatefulSet waits for a pod that is not Ready
                                and would act later, or can make no pod
    survivors-one-zone          the kept members would all be in one zone
    survivors-draining          kept members are on nodes that are being emptied, or
                                would all be on one node
    cascade-condemned           a kept member replicates from one that would be
                                deleted
    quota-headroom              a ResourceQuota leaves no room for the new members
    limit-range                 a LimitRange forbids the new pod or its volume claim
    too-few-nodes               members must be kept apart, and there are fewer
                                fitting nodes than members
    too-few-wal-senders         the leader has too few WAL senders or replication
                                slots for the new members
    images-differ               new members would run another image than those that
                                run
    volumes-deleted             the volumes of the members that are removed are
                                deleted, and their data with them
    stale-volume                a volume of an earlier life will be attached to a
                                new member
    foreign-volume              a volume holds the data of another cluster: its
                                member never joins
    volume-resizing             a volume is being resized
    pdb-blocks-drain            a PodDisruptionBudget would keep the last member's
                                node from being drained
    no-recent-backup            the last logical backup is older than the policy
                                allows
    statefulset-scaled          someone other than the operator scales the
                                StatefulSet itself
    [exit 0]
    ");
    insta::assert_snapshot!(on("rules", BROAD).await, @"
    [stdout]
    RULE                        MEANING
    below-min                   fewer instances than the policy's minimum
    above-max                   more instances than the policy's maximum
    outside-floor               outside the bounds that the API server holds
    scale-to-zero               no instance left: a full outage
    namespace-budget            more instances than the namespace's budget
    return-from-zero            the volume with the newest data would not be mounted, or no volume is left to start from
    operator-limits             the operator would run another number than the one asked for
    limits-unknown              no operator was found whose limits could be looked at
    standby-cluster             a standby cluster is supported with one instance only
    dcs-store-changing          a new member would look for the cluster in another place and found an empty one
    step-too-large              more instances at once than the policy's step
    change-freeze               a time in which the count must not change
    outside-window              outside the hours in which the count may change
    no-leader                   no member leads, or more than one claims to
    leader-condemned            the leader's pod would be deleted
    leader-cannot-move          the leader's pod would be deleted and ordinal 0 cannot take over
    last-to-stop                the member that stops last, and starts first again, lacks the newest rows
    too-few-healthy-survivors   healthy members would be removed and too few healthy ones kept
    survivor-unhealthy          a kept member is not healthy
    logical-slots               the leader goes, and the next one may lack its logical replication slots
    sync-standbys-condemned     every synchronous standby would be deleted
    strict-sync-floor           every commit would wait for a standby that is not there
    sync-count-floor            fewer standbys would be kept than synchronous_node_count asks for
    no-standby-left             one instance is left: nothing to fail over to
    paused                      Patroni is in maintenance mode: no member takes over, and none starts
    switchover-pending          a switchover was requested and is not done yet
    rebuild-in-progress         a member is being created, cloned, reinitialised or rewound
    operation-in-progress       Kubernetes or the operator is still busy with this cluster
    change-not-applied          the operator has not applied the last change of the count
    major-upgrade               PostgreSQL is being upgraded to another major version, or that failed
    upgrade-pending             this change may start a major upgrade of PostgreSQL
    operator-failed             the operator's last work on this cluster failed
    operator-absent             no operator would carry the change out now
    mixed-change                the same write also changes something else
    replace-pending             the operator would replace the StatefulSet instead of updating it
    restart-pending             the operator restarts PostgreSQL together with this change
    configuration-drift         the operator would set Patroni's configuration back to the manifest
    parallel-shrink             several members would be deleted at the same moment
    will-not-progress           the StatefulSet waits for a pod that is not Ready and would act later, or can make no pod
    survivors-one-zone          the kept members would all be in one zone
    survivors-draining          kept members are on nodes that are being emptied, or would all be on one node
    cascade-condemned           a kept member replicates from one that would be deleted
    quota-headroom              a ResourceQuota leaves no room for the new members
    limit-range                 a LimitRange forbids the new pod or its volume claim
    too-few-nodes               members must be kept apart, and there are fewer fitting nodes than members
    too-few-wal-senders         the leader has too few WAL senders or replication slots for the new members
    images-differ               new members would run another image than those that run
    volumes-deleted             the volumes of the members that are removed are deleted, and their data with them
    stale-volume                a volume of an earlier life will be attached to a new member
    foreign-volume              a volume holds the data of another cluster: its member never joins
    volume-resizing             a volume is being resized
    pdb-blocks-drain            a PodDisruptionBudget would keep the last member's node from being drained
    no-recent-backup            the last logical backup is older than the policy allows
    statefulset-scaled          someone other than the operator scales the StatefulSet itself
    [exit 0]
    ");
}

#[tokio::test(start_paused = true)]
async fn rules_id() {
    insta::assert_snapshot!(on("rules ID", NARROW).await, @r#"
    [stdout]
    leader-cannot-move: the leader's pod would be deleted and ordinal 0 cannot take
      over
      fires on: down to 1 or more, up from 1 or more, another written count that
        keeps the members
      default:  deny

    The leader is on an ordinal that the new count leaves out, and the operator's
    hand-over would fail. It asks Patroni to switch over to ordinal 0 and to no
    other, whatever its state. When that is refused it logs one warning ("could not
    scale down") and lets the StatefulSet delete the leader all the same; no event,
    and the status stays Running. Measured on a real cluster, 5 to 2 under load:
    with the survivors' WAL receivers stalled every row acknowledged since then was
    lost; with Patroni paused and ordinal 0 unfit no member took over until a person
    resumed Patroni.

    Signals: those of leader-condemned. It is found when ordinal 0 has no pod, is
    not caught up (another timeline, or had not received within a second what the
    leader had when asked), is tagged nofailover, does not run or does not answer;
    when replication is synchronous (not quorum) and it is not among the synchronous
    standbys; when the role label master is not on the leader alone (the operator
    knows no other name for it, whatever KUBERNETES_LEADER_LABEL_VALUE makes Patroni
    write), the leader has no address or does not answer, so that the operator
    cannot ask; when the leader's container turns on TLS or a password for Patroni's
    REST interface or moves it to another port, because the operator asks http on
    8008 without a password; and when the StatefulSet is gone or carries annotations
    that make the operator replace it, which skips the hand-over. It cannot be
    judged where an allowlist or a variable of Patroni itself may refuse the
    operator.

    Blind spots: a network that lets this program through to port 8008 and not the
    operator (NetworkPolicy, service mesh), or that answers GET and not POST;
    variables that come from a whole Secret or ConfigMap (envFrom). The operator is
    then refused, and the leader is deleted without a hand-over. The webhook writes
    the Event LeaderCondemned where the operator has lowered the count and a removed
    member still leads.

    Way out: `kubectl pgscale down NAME --to N` moves the leader to any fit survivor
    first. Where no survivor is fit, ask for a count that keeps a fit member, or
    mend one. This shows each member:

        kubectl pgscale status NAME -n NAMESPACE --why

    Upstream: preScaleDown, pkg/cluster/resources.go; Switchover,
    pkg/cluster/pod.go; is_failover_possible, patroni/api.py;
    process_manual_failover_from_leader, patroni/ha.py; apiURL,
    pkg/util/patroni/patroni.go; postgres-appliance/scripts/configure_spilo.py of
    zalando/spilo.
    [exit 0]
    "#);
    insta::assert_snapshot!(on("rules ID", BROAD).await, @r#"
    [stdout]
    leader-cannot-move: the leader's pod would be deleted and ordinal 0 cannot take over
      fires on: down to 1 or more, up from 1 or more, another written count that keeps the members
      default:  deny

    The leader is on an ordinal that the new count leaves out, and the operator's hand-over would fail.
    It asks Patroni to switch over to ordinal 0 and to no other, whatever its state. When that is
    refused it logs one warning ("could not scale down") and lets the StatefulSet delete the leader all
    the same; no event, and the status stays Running. Measured on a real cluster, 5 to 2 under load:
    with the survivors' WAL receivers stalled every row acknowledged since then was lost; with Patroni
    paused and ordinal 0 unfit no member took over until a person resumed Patroni.

    Signals: those of leader-condemned. It is found when ordinal 0 has no pod, is not caught up (another
    timeline, or had not received within a second what the leader had when asked), is tagged nofailover,
    does not run or does not answer; when replication is synchronous (not quorum) and it is not among
    the synchronous standbys; when the role label master is not on the leader alone (the operator knows
    no other name for it, whatever KUBERNETES_LEADER_LABEL_VALUE makes Patroni write), the leader has no
    address or does not answer, so that the operator cannot ask; when the leader's container turns on
    TLS or a password for Patroni's REST interface or moves it to another port, because the operator
    asks http on 8008 without a password; and when the StatefulSet is gone or carries annotations that
    make the operator replace it, which skips the hand-over. It cannot be judged where an allowlist or a
    variable of Patroni itself may refuse the operator.

    Blind spots: a network that lets this program through to port 8008 and not the operator
    (NetworkPolicy, service mesh), or that answers GET and not POST; variables that come from a whole
    Secret or ConfigMap (envFrom). The operator is then refused, and the leader is deleted without a
    hand-over. The webhook writes the Event LeaderCondemned where the operator has lowered the count and
    a removed member still leads.

    Way out: `kubectl pgscale down NAME --to N` moves the leader to any fit survivor first. Where no
    survivor is fit, ask for a count that keeps a fit member, or mend one. This shows each member:

        kubectl pgscale status NAME -n NAMESPACE --why

    Upstream: preScaleDown, pkg/cluster/resources.go; Switchover, pkg/cluster/pod.go;
    is_failover_possible, patroni/api.py; process_manual_failover_from_leader, patroni/ha.py; apiURL,
    pkg/util/patroni/patroni.go; postgres-appliance/scripts/configure_spilo.py of zalando/spilo.
    [exit 0]
    "#);
}
