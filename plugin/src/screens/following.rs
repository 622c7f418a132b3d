//! Waits, what was done before, and what this program is and needs.

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
    definition   scaleoverrides.pgscale.dev         not installed
    definition   scalepolicies.pgscale.dev          not installed
    operator     default/postgres-operator          unknown
    patroni      3 members                          4.1.4
    postgresql   1 cluster                          15

    skew: the definition clusterscalepolicies.pgscale.dev: not installed
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
