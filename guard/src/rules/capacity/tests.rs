//! Changes with room, and changes without.

use k8s_openapi::api::core::v1::{LimitRange, ResourceQuota};
use serde_json::{Value, json};

use super::*;
use crate::capacity::Template;
use crate::facts::Facts;
use crate::facts::{Claim, Node};
use crate::rules::testing::{Want, healthy, table, text};

/// Returns the template of the test cluster's members: a core, a gibibyte, and a volume of 10 GiB.
fn template() -> Template {
    let pod = json!({"priorityClassName": "db", "containers": [{"name": "postgres", "resources": {
        "requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "2", "memory": "1Gi"}}}],
        "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
            {"topologyKey": "kubernetes.io/hostname",
                "labelSelector": {"matchLabels": {"cluster-name": "acid-a"}}}]}}});
    Template {
        pod: serde_json::from_value(pod).unwrap(),
        labels: [("cluster-name".to_owned(), "acid-a".to_owned())].into(),
        claims: serde_json::from_value(json!([{"resources": {"requests": {"storage": "10Gi"}}}]))
            .unwrap(),
        admitted: false,
    }
}

/// Returns the cluster with a claim for each of its members.
fn sized(from: i64, to: i64) -> Facts {
    let mut facts = healthy(from, to);
    facts.capacity.template = Seen::Known(template());
    facts.claims = Seen::Known((0..from).map(claim).collect());
    facts
}

fn claim(ordinal: i64) -> Claim {
    Claim { name: format!("pgdata-acid-a-{ordinal}"), ordinal, ..Claim::default() }
}

fn quota(name: &str, limits: &[(&str, &str, &str)]) -> ResourceQuota {
    let of = |which: fn(&(&str, &str, &str)) -> Value| -> serde_json::Map<String, Value> {
        limits.iter().map(|limit| (limit.0.to_owned(), which(limit))).collect()
    };
    serde_json::from_value(json!({"metadata": {"name": name},
        "spec": {"hard": of(|limit| json!(limit.2))}, "status": {"used": of(|limit| json!(limit.1))}}))
    .unwrap()
}

fn under(mut facts: Facts, quotas: Vec<ResourceQuota>) -> Facts {
    facts.capacity.quotas = Some(Seen::Known(quotas));
    facts
}

fn ranged(mut facts: Facts, item: &Value) -> Facts {
    let range: LimitRange =
        serde_json::from_value(json!({"metadata": {"name": "small"}, "spec": {"limits": [item]}}))
            .unwrap();
    facts.capacity.limit_ranges = Some(Seen::Known(vec![range]));
    facts
}

fn with(mut facts: Facts, change: impl FnOnce(&mut Facts)) -> Facts {
    change(&mut facts);
    facts
}

/// Returns the cluster's manifest before any part of the cluster exists.
fn created(count: i64) -> Facts {
    with(healthy(count, count), |facts| {
        facts.change.old = None;
        facts.members = Seen::Known(Vec::new());
        facts.stateful_set = Seen::Absent;
        facts.capacity.template = Seen::Absent;
        facts.change.new.spec["resources"] = json!({"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "1", "memory": "1Gi"}});
    })
}

pub(super) fn quota_headroom() {
    let pods = |used: &str, hard: &str| vec![quota("team", &[("pods", used, hard)])];
    let claims = |used: &str, hard: &str| {
        vec![quota(
            "disk",
            &[("persistentvolumeclaims", used, hard), ("requests.storage", "30Gi", "1Ti")],
        )]
    };
    let unreadable = || Some(Seen::Unreadable("forbidden".to_owned()));
    let no_limits = |facts: Facts| {
        with(facts, |facts| {
            if let Seen::Known(template) = &mut facts.capacity.template {
                template.pod.containers[0].resources = None;
            }
        })
    };
    let cpu = || vec![quota("team", &[("requests.cpu", "3", "40")])];
    let scoped = |scope: Value| {
        let mut limited = quota("team", &[("pods", "3", "3")]);
        limited.spec.as_mut().unwrap().scopes = serde_json::from_value(scope).unwrap();
        vec![limited]
    };
    let by_default_class =
        || vec![quota("fast", &[("fast.storageclass.storage.k8s.io/requests.storage", "0", "1")])];
    table(
        "quota-headroom",
        vec![
            ("no quota", sized(3, 5), Want::Pass),
            ("room for all", under(sized(3, 5), pods("3", "5")), Want::Pass),
            ("room for one of two", under(sized(3, 5), pods("3", "4")), Want::Deny),
            (
                "already over, and not by this",
                under(sized(3, 5), vec![quota("q", &[("services", "9", "1")])]),
                Want::Pass,
            ),
            ("a claim too many", under(sized(3, 5), claims("3", "4")), Want::Deny),
            (
                "a kept claim is charged already",
                under(
                    with(sized(3, 5), |facts| {
                        facts.claims = Seen::Known((0..4).map(claim).collect());
                    }),
                    claims("4", "5"),
                ),
                Want::Pass,
            ),
            (
                "one of an earlier growth is still to come",
                under(sized(4, 5).without(3), pods("3", "4")),
                Want::Deny,
            ),
            (
                "one that ended is made again",
                under(
                    sized(3, 4).with_member(2, |member| member.pod.phase = "Failed".into()),
                    pods("2", "3"),
                ),
                Want::Deny,
            ),
            (
                "a quota for pods that end",
                under(sized(3, 5), scoped(json!(["Terminating"]))),
                Want::Pass,
            ),
            (
                "a quota for pods that stay",
                under(sized(3, 5), scoped(json!(["NotTerminating"]))),
                Want::Deny,
            ),
            (
                "a scope nobody knows",
                under(sized(3, 5), scoped(json!(["CrossNamespacePodAffinity"]))),
                Want::Unknown,
            ),
            ("what it needs is not said", under(no_limits(sized(3, 5)), cpu()), Want::Deny),
            (
                "unless a limit range says it",
                ranged(
                    under(no_limits(sized(3, 5)), cpu()),
                    &json!({"type": "Container", "defaultRequest": {"cpu": "1"}}),
                ),
                Want::Pass,
            ),
            (
                "the default class is not known",
                under(sized(3, 5), by_default_class()),
                Want::Unknown,
            ),
            (
                "a volume that the same write enlarges",
                under(
                    sized(3, 4).editing(|spec| spec["volume"]["size"] = json!("2Ti")),
                    claims("3", "9"),
                ),
                Want::Deny,
            ),
            ("a shrink", under(sized(5, 3), pods("9", "3")), Want::NotApplicable),
            ("to nothing", under(sized(3, 0), pods("9", "3")), Want::NotApplicable),
            ("created within", under(created(3), pods("0", "3")), Want::Pass),
            ("created beyond", under(created(3), pods("1", "3")), Want::Deny),
            (
                "created by an operator nobody knows",
                under(with(created(3), |facts| facts.operator = Seen::Absent), pods("0", "9")),
                Want::Unknown,
            ),
            ("created with 0", under(created(0), pods("9", "3")), Want::NotApplicable),
            (
                "quotas unreadable",
                with(sized(3, 5), |facts| facts.capacity.quotas = unreadable()),
                Want::Unknown,
            ),
            (
                "quotas not read",
                with(sized(3, 5), |facts| facts.capacity.quotas = None),
                Want::Unknown,
            ),
            (
                "limit ranges unreadable",
                with(under(sized(3, 5), pods("3", "5")), |facts| {
                    facts.capacity.limit_ranges = Some(Seen::Unreadable("forbidden".to_owned()));
                }),
                Want::Unknown,
            ),
            (
                "pods unreadable",
                under(sized(3, 5), pods("3", "9")).without_sight_of_members(),
                Want::Unknown,
            ),
            (
                "claims unreadable",
                with(under(sized(3, 5), claims("3", "9")), |facts| {
                    facts.claims = Seen::Unreadable("forbidden".to_owned());
                }),
                Want::Unknown,
            ),
            (
                "the StatefulSet unreadable",
                with(under(sized(3, 5), pods("3", "9")), |facts| {
                    facts.capacity.template = Seen::Unreadable("forbidden".to_owned());
                }),
                Want::Unknown,
            ),
        ],
    );
    let small = vec![
        quota("compute", &[("requests.cpu", "3", "4500m"), ("requests.memory", "3Gi", "64Gi")]),
        quota("disk", &[("requests.storage", "30Gi", "45Gi")]),
    ];
    insta::assert_snapshot!(text("quota-headroom", &under(sized(3, 5), small)), @"
    quota-headroom: no room for 5 instances: 2 limits would be passed
      resourcequota/compute: requests.cpu: 3 of 4.5 used, 2 needed: 0.5 too many
      resourcequota/disk: requests.storage: 30Gi of 45Gi used, 20Gi needed: 5Gi too many
      Try: ask for fewer:
          kubectl pgscale up acid-a --to 4 -n db
        or have the quota raised:
          kubectl describe resourcequota -n db
    ");
    insta::assert_snapshot!(text("quota-headroom", &under(no_limits(sized(3, 5)), cpu())), @"
    quota-headroom: no new pod can be made: a quota wants every container to say what it needs
      resourcequota/team: requests.cpu: limited, and not set for postgres
      Try: set it in spec.resources and in every sidecar, or in a LimitRange's defaults
    ");
    insta::assert_snapshot!(text("quota-headroom", &under(created(3), pods("1", "3"))), @"
    quota-headroom: no room for 3 instances: a limit would be passed
      resourcequota/team: pods: 1 of 3 used, 3 needed: 1 too many
      Try: ask for fewer: numberOfInstances: 2 in the manifest
        or have the quota raised:
          kubectl describe resourcequota -n db
    ");
}

/// A quota that is exceeded must not be mistaken for one that was not checked, whatever the counts.
#[test]
fn huge_counts_are_judged_at_once() {
    let pods = vec![quota("team", &[("pods", "3", "7")])];
    let verdict = crate::evaluate(&under(sized(3, i64::MAX), pods), &Policies::default());
    let remedy = verdict.finding("quota-headroom").unwrap().remedy.clone().unwrap();
    let first = remedy.commands.first().unwrap().command.to_string();
    assert_eq!(first, "kubectl pgscale up acid-a --to 7 -n db");
}

pub(super) fn limit_range() {
    let max = |cpu: &str| json!({"type": "Container", "max": {"cpu": cpu}});
    let disk = json!({"type": "PersistentVolumeClaim", "max": {"storage": "5Gi"}});
    table(
        "limit-range",
        vec![
            ("no limit range", sized(3, 4), Want::Pass),
            ("within", ranged(sized(3, 4), &max("2")), Want::Pass),
            ("beyond", ranged(sized(3, 4), &max("1")), Want::Deny),
            ("a claim beyond", ranged(sized(3, 4), &disk), Want::Deny),
            (
                "a kept claim stays as it is",
                ranged(
                    with(sized(3, 4), |facts| {
                        facts.claims = Seen::Known((0..4).map(claim).collect());
                    }),
                    &disk,
                ),
                Want::Pass,
            ),
            ("a shrink", ranged(sized(4, 3), &max("1")), Want::NotApplicable),
            ("created within", ranged(created(3), &max("1")), Want::Pass),
            ("created beyond", ranged(created(3), &max("500m")), Want::Deny),
            (
                "reshaped by the same write",
                ranged(
                    sized(3, 4).editing(|spec| spec["resources"] = json!({"limits": {"cpu": "8"}})),
                    &max("4"),
                ),
                Want::Deny,
            ),
            (
                "not read",
                with(sized(3, 4), |facts| facts.capacity.limit_ranges = None),
                Want::Unknown,
            ),
            (
                "unreadable",
                with(sized(3, 4), |facts| {
                    facts.capacity.limit_ranges = Some(Seen::Unreadable("forbidden".to_owned()));
                }),
                Want::Unknown,
            ),
            (
                "the template unreadable",
                with(ranged(sized(3, 4), &max("1")), |facts| {
                    facts.capacity.template = Seen::Unreadable("forbidden".to_owned());
                }),
                Want::Unknown,
            ),
        ],
    );
    insta::assert_snapshot!(text("limit-range", &ranged(sized(3, 4), &max("1"))), @"
    limit-range: the new member would be forbidden: its pod or its volume claim is never made
      limitrange/small: max cpu of a Container: 1; container postgres is limited to 2
      Try: bring spec.resources, sidecars or spec.volume within it, or have it changed:
          kubectl describe limitrange -n db
    ");
}

pub(super) fn too_few_nodes() {
    let on = |facts: Facts, count: usize| {
        with(facts, |facts| {
            let node = |index: usize| {
                let mut node = Node { name: format!("n{index}"), ..Node::default() };
                node.labels.insert("kubernetes.io/hostname".to_owned(), node.name.clone());
                node
            };
            facts.capacity.nodes = Some(Seen::Known((0..count).map(node).collect()));
        })
    };
    table(
        "too-few-nodes",
        vec![
            ("nobody looks", sized(3, 5), Want::NotApplicable),
            ("one each", on(sized(3, 5), 5), Want::Pass),
            ("one too few", on(sized(3, 5), 4), Want::Warn),
            (
                "they need not be kept apart",
                with(on(sized(3, 5), 1), |facts| {
                    facts.capacity.template = Seen::Known(Template::default());
                }),
                Want::Pass,
            ),
            ("a shrink", on(sized(5, 3), 1), Want::NotApplicable),
            (
                "nodes unreadable",
                with(sized(3, 5), |facts| {
                    facts.capacity.nodes = Some(Seen::Unreadable("forbidden".to_owned()));
                }),
                Want::Unknown,
            ),
            (
                "the StatefulSet unreadable",
                with(on(sized(3, 5), 1), |facts| {
                    facts.capacity.template = Seen::Unreadable("forbidden".to_owned());
                }),
                Want::Unknown,
            ),
        ],
    );
    insta::assert_snapshot!(text("too-few-nodes", &on(sized(3, 6), 4)), @"
    too-few-nodes: 6 members must be kept apart by kubernetes.io/hostname, and 4 fit: 2 would stay Pending
      statefulset/acid-a: required pod anti-affinity by: kubernetes.io/hostname
      nodes: count: 4; fitting places: 4
      Try: add nodes
        or ask for fewer:
          kubectl pgscale up acid-a --to 4 -n db
    ");
}

pub(super) fn too_few_wal_senders() {
    let limited = |from, to, senders, slots| {
        healthy(from, to).with_configuration(|configuration| {
            configuration.max_wal_senders = senders;
            configuration.max_replication_slots = slots;
        })
    };
    table(
        "too-few-wal-senders",
        vec![
            ("enough", limited(3, 5, 10, 10), Want::Pass),
            ("exactly, copies included", limited(3, 4, 4, 3), Want::Pass),
            ("one base backup has to wait", limited(3, 5, 5, 5), Want::Warn),
            ("one standby never streams", limited(3, 5, 3, 10), Want::Deny),
            ("one standby has no slot", limited(3, 5, 10, 3), Want::Deny),
            ("from zero: the first member is no standby", limited(0, 3, 4, 2), Want::Pass),
            (
                "the defaults, where nothing is configured",
                with(healthy(3, 12), |facts| facts.configuration = Seen::Absent),
                Want::Deny,
            ),
            ("a shrink", limited(5, 3, 1, 1), Want::NotApplicable),
            (
                "unreadable",
                with(healthy(3, 5), |facts| {
                    facts.configuration = Seen::Unreadable("forbidden".to_owned());
                }),
                Want::Unknown,
            ),
        ],
    );
    insta::assert_snapshot!(text("too-few-wal-senders", &limited(3, 6, 4, 4)), @"
    too-few-wal-senders: 5 standbys need as many WAL senders and slots, the leader has 4
      configmap/acid-a-config: max_wal_senders: 4; max_replication_slots: 4
      Try: raise both in spec.postgresql.parameters, which restarts PostgreSQL
        or ask for fewer:
          kubectl pgscale up acid-a --to 5 -n db
    ");
    insta::assert_snapshot!(text("too-few-wal-senders", &limited(3, 5, 5, 5)), @"
    too-few-wal-senders: up to 6 WAL senders while 2 new members are copied, the leader has 5: base backups may fail and be tried again
      configmap/acid-a-config: max_wal_senders: 5; max_replication_slots: 5
      Try: add fewer members at a time, or raise max_wal_senders
    ");
}

/// A refusal would cost members that run, for the sake of a pod that is asked for already. At zero
/// no member runs that a change could rescue: what is never made never starts.
#[test]
fn no_room_is_excused_only_where_members_run() {
    let full = |facts| under(facts, vec![quota("small", &[("pods", "0", "1")])]);
    let forbidden = |facts| ranged(facts, &json!({"type": "Container", "max": {"cpu": "500m"}}));
    let denied = |facts: &Facts| {
        assert!(facts.assess().repair().is_some());
        let verdict = crate::evaluate(facts, &Policies::default());
        verdict.denials().map(|it| it.rule).collect::<Vec<_>>()
    };
    let asleep = |to| with(sized(0, to), |it| it.claims = Seen::Known(vec![claim(0)]));
    assert_eq!(denied(&full(asleep(3))), ["quota-headroom"]);
    assert_eq!(denied(&full(asleep(1))), Vec::<&str>::new(), "there is room for one");
    assert_eq!(denied(&forbidden(asleep(3))), ["limit-range"]);
    // A change that was not applied is cancelled: the StatefulSet asks for -4 as before.
    let cancelled = sized(5, 5).without(4).with_count(3, 5);
    assert_eq!(denied(&full(forbidden(cancelled))), Vec::<&str>::new());
    // Every pod that the count adds is there, and -0 was asked for before.
    let keeping = sized(5, 5).without(0).with_leader(1).with_count(2, 5);
    let keeping = keeping.with_stateful_set(|set| set.replicas = 2);
    assert_eq!(denied(&full(forbidden(keeping))), Vec::<&str>::new());
    // -0 cannot come back, and the way back to 5 still keeps the leader on -4.
    let stuck = sized(5, 5).with_leader(4).without(0).with_count(2, 5);
    let stuck = stuck.with_stateful_set(|set| set.replicas = 2);
    assert_eq!(denied(&full(forbidden(stuck))), Vec::<&str>::new());
}
