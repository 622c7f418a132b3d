//! Waits, a change that comes to nothing, what was done before, and what this program is and needs.

use super::{BROAD, NARROW, on};

#[tokio::test(start_paused = true)]
async fn wait() {
    let narrow = on("wait", NARROW).await;
    insta::assert_snapshot!(narrow, @"
    [stdout]
    postgresql/acid-a has converged on 3 instances
    [exit 0]
    ");
    assert_eq!(on("wait", BROAD).await, narrow);
}

#[tokio::test(start_paused = true)]
async fn wait_in_vain() {
    let narrow = on("wait, in vain", NARROW).await;
    insta::assert_snapshot!(narrow, @"
    [stderr]
    error: postgresql db/acid-a has not converged within 20s
    Missing:
      acid-a-3: no pod yet
    Where it stands, and where to look:
      acid-a-3: no pod yet, for 20s
        kubectl describe statefulset acid-a -n db
    hint: wait on:
        kubectl pgscale wait acid-a -n db
    [exit 4]
    ");
    assert_eq!(on("wait, in vain", BROAD).await, narrow);
}

#[tokio::test(start_paused = true)]
async fn up_in_vain_begins_and_ends_without_a_word_of_success() {
    insta::assert_snapshot!(on("up, in vain", NARROW).await, @"
    [stderr]
    PLANNED 3 -> 4, allowed
    postgresql db/acid-a: 3 -> 4 instances
    MEMBER     CHANGE   ROLE      STATE   VOLUME
    acid-a-3   added    replica   -       new
    Impact:
      Requests:           storage 0 B as before
      Readers:            2 -> 3 behind acid-a-repl
      Failures tolerated: 2 -> 3
      Base backups:       1 of unknown size: psql is not installed; ETA unknown: no
                          base backup of this cluster was measured yet
      Leader disk:        acid-a-0: unknown: psql is not installed
    Steps:
      1. set numberOfInstances to 4
      2. wait until 4 instances have converged
    PLANNED 3 -> 4, allowed
    numberOfInstances is 4
    [   5.0s] the operator has not acted yet (the StatefulSet says 3)
    [  20.0s] the operator may have dropped the update (another write came within
      milliseconds), be busy with another cluster, or leave this cluster to another
      operator
    hint: first see what it does:
        kubectl logs deployment/postgres-operator --tail=50 -n default
      then make it act:
        kubectl pgscale set acid-a 4 -n db
    note: there is no terminal to ask on: add --yes to a command that changes the
      count
    error: NOT DONE 3 -> 4: the operator has not acted on postgresql db/acid-a
      within 30s; the change continues as soon as it acts
    Missing:
      the StatefulSet still asks for 3 and not 4: the operator has not acted yet
      acid-a-3: no pod yet
    Where it stands, and where to look:
      acid-a: the StatefulSet still asks for 3 and not 4: the operator has not acted
        yet, for 30s
        kubectl logs deployment/postgres-operator --tail=50 -n default
      acid-a-3: no pod yet, for 30s
        kubectl describe statefulset acid-a -n db
    hint: first see why:
        kubectl pgscale status acid-a --why -n db
    hint: then make the operator act:
        kubectl pgscale set acid-a 4 -n db
    hint: or cancel the change:
        kubectl pgscale set acid-a 3 -n db
    NOT DONE 3 -> 4: the operator has not acted on postgresql db/acid-a within 30s;
      the change continues as soon as it acts
    [exit 4]
    ");
    insta::assert_snapshot!(on("up, in vain", BROAD).await, @"
    [stderr]
    PLANNED 3 -> 4, allowed
    postgresql db/acid-a: 3 -> 4 instances
    MEMBER     CHANGE   ROLE      STATE   VOLUME
    acid-a-3   added    replica   -       new
    Impact:
      Requests:           storage 0 B as before
      Readers:            2 -> 3 behind acid-a-repl
      Failures tolerated: 2 -> 3
      Base backups:       1 of unknown size: psql is not installed; ETA unknown: no base backup of this cluster was measured yet
      Leader disk:        acid-a-0: unknown: psql is not installed
    Steps:
      1. set numberOfInstances to 4
      2. wait until 4 instances have converged
    PLANNED 3 -> 4, allowed
    numberOfInstances is 4
    [   5.0s] the operator has not acted yet (the StatefulSet says 3)
    [  20.0s] the operator may have dropped the update (another write came within milliseconds), be busy with another cluster, or leave this cluster to another
      operator
    hint: first see what it does:
        kubectl logs deployment/postgres-operator --tail=50 -n default
      then make it act:
        kubectl pgscale set acid-a 4 -n db
    note: there is no terminal to ask on: add --yes to a command that changes the count
    error: NOT DONE 3 -> 4: the operator has not acted on postgresql db/acid-a within 30s; the change continues as soon as it acts
    Missing:
      the StatefulSet still asks for 3 and not 4: the operator has not acted yet
      acid-a-3: no pod yet
    Where it stands, and where to look:
      acid-a: the StatefulSet still asks for 3 and not 4: the operator has not acted yet, for 30s
        kubectl logs deployment/postgres-operator --tail=50 -n default
      acid-a-3: no pod yet, for 30s
        kubectl describe statefulset acid-a -n db
    hint: first see why:
        kubectl pgscale status acid-a --why -n db
    hint: then make the operator act:
        kubectl pgscale set acid-a 4 -n db
    hint: or cancel the change:
        kubectl pgscale set acid-a 3 -n db
    NOT DONE 3 -> 4: the operator has not acted on postgresql db/acid-a within 30s; the change continues as soon as it acts
    [exit 4]
    ");
}

#[tokio::test(start_paused = true)]
async fn history() {
    let narrow = on("history", NARROW).await;
    insta::assert_snapshot!(narrow, @"
    [stdout]
    AGE   WHO   CHANGE   LEADER                 RESULT      TOOK   REASON
    3s    dba   3 -> 5   -                      Converged   3.0s   undo of 5 -> 3
    6s    dba   5 -> 3   acid-a-4 -> acid-a-0   Converged   3.0s   maintenance
    [exit 0]
    ");
    assert_eq!(on("history", BROAD).await, narrow);
}

#[tokio::test(start_paused = true)]
async fn version() {
    insta::assert_snapshot!(on("version", NARROW).await, @"
    [stdout]
    kubectl-pgscale 0.1.0

    PART         WHERE                              VERSION
    kubernetes   API server                         v1.36.3
    webhook      all namespaces                     not installed by the chart
    definition   clusterscalepolicies.pgscale.dev   not installed
    definition   instanceledgers.pgscale.dev        not installed
    definition   scaleoverrides.pgscale.dev         not installed
    definition   scalepolicies.pgscale.dev          not installed
    operator     default/postgres-operator          unknown
    patroni      3 members                          4.1.4
    postgresql   1 cluster                          15

    skew: the definition clusterscalepolicies.pgscale.dev: not installed
    skew: the definition instanceledgers.pgscale.dev: not installed
    skew: the definition scaleoverrides.pgscale.dev: not installed
    skew: the definition scalepolicies.pgscale.dev: not installed
    [exit 0]
    ");
    let broad = on("version", BROAD).await;
    assert!(broad.contains("PART"), "{broad}");
    let client = on("version --client", NARROW).await;
    insta::assert_snapshot!(client, @"
    [stdout]
    kubectl-pgscale 0.1.0
    [exit 0]
    ");
    assert_eq!(on("version --client", BROAD).await, client);
}

#[tokio::test(start_paused = true)]
async fn rbac() {
    let narrow = on("rbac", NARROW).await;
    insta::assert_snapshot!(narrow, @r#"
    [stdout]
    apiVersion: rbac.authorization.k8s.io/v1
    kind: Role
    metadata:
      name: pgscale-history
      namespace: db
    rules:
    - apiGroups:
      - acid.zalan.do
      resources:
      - postgresqls
      verbs:
      - get
      - list
    - apiGroups:
      - ""
      resources:
      - configmaps
      verbs:
      - get
    [stderr]
    bind it:
        kubectl create rolebinding pgscale-history --role=pgscale-history --user=ME -n db
    [exit 0]
    "#);
    assert_eq!(on("rbac", BROAD).await, narrow);
}

#[tokio::test(start_paused = true)]
async fn serve_for_others_needs_tokens_and_tls() {
    insta::assert_snapshot!(on("serve for others", NARROW).await, @"
    [stderr]
    error: --address=0.0.0.0 can be reached from other machines: that needs
      --pass-token, --tls-cert-file and --tls-private-key-file
    [exit 2]
    ");
}
