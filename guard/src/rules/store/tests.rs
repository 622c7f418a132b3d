//! The table of the rule and its texts.

use std::collections::BTreeMap;

use k8s_openapi::jiff::SignedDuration;
use serde_json::json;

use super::*;
use crate::facts::{Claim, Elsewhere, Facts};
use crate::patroni::LeaderLock;
use crate::rules::testing::{Want, created, healthy, lock, now, table, text};

/// Returns the cluster with the store of the operator's setting, the template and every pod.
fn stores(facts: Facts, setting: Option<bool>, template: Store, pods: Store) -> Facts {
    let facts = facts
        .with_settings(|settings| settings.use_config_maps = setting)
        .with_stateful_set(|set| set.store = Some(template));
    let ordinals: Vec<i64> = facts.all_members().iter().map(|it| it.ordinal).collect();
    ordinals
        .into_iter()
        .fold(facts, |facts, it| facts.with_member(it, |it| it.pod.store = Some(pods)))
}

fn major(mut facts: Facts, major: Option<u32>) -> Facts {
    if let Seen::Known(operator) = &mut facts.operator {
        operator.major = major;
    }
    facts
}

fn without_operator(mut facts: Facts) -> Facts {
    facts.operator = Seen::Unreadable("2 deployments may be the operator".to_owned());
    facts
}

fn no_operator(mut facts: Facts) -> Facts {
    facts.operator = Seen::Absent;
    facts
}

const USE: &str = "KUBERNETES_USE_CONFIGMAPS";

/// Returns the cluster whose manifest sets the variable in both objects: the edit is not worked
/// through.
fn with_env(mut facts: Facts, value: &str) -> Facts {
    for cluster in facts.change.old.iter_mut().chain([&mut facts.change.new]) {
        cluster.spec["env"] = json!([{"name": USE, "value": value}]);
    }
    facts
}

/// Returns the cluster whose operator gives every pod these variables.
fn with_map(mut facts: Facts, variables: Seen<BTreeMap<String, bool>>) -> Facts {
    if let Seen::Known(operator) = &mut facts.operator {
        operator.settings.pods.environment_map = Some("default/pods".to_owned());
        operator.settings.pods.environment = variables;
    }
    facts
}

/// Returns the cluster whose manifest takes variables from a whole object, and its template from
/// those with these names.
fn whole(facts: Facts, known: &[&str]) -> Facts {
    let from = |name: &&str| json!({"configMapRef": {"name": name}});
    facts
        .with_stateful_set(|set| set.given.whole_objects = known.iter().map(from).collect())
        .editing(|spec| spec["envFrom"] = json!([from(&"c")]))
}

/// Returns the cluster whose template the operator wrote so many minutes after its start.
fn written(mut facts: Facts, minutes: i64) -> Facts {
    let start = now() - SignedDuration::from_hours(1);
    if let Seen::Known(operator) = &mut facts.operator {
        operator.started = Some(start);
    }
    let time = start + SignedDuration::from_mins(minutes);
    facts.with_stateful_set(|set| set.written = Some(time))
}

/// Returns five members, led by the last, of which fewer are asked for while the store changes.
fn doomed(from: i64, to: i64) -> Facts {
    let facts = healthy(5, 5).with_leader(4).with_count(from, to);
    facts.with_stateful_set(|set| set.replicas = from).like_endpoints()
}

impl Facts {
    fn like_endpoints(self) -> Self {
        stores(self, Some(true), Store::ConfigMaps, Store::Endpoints)
    }
}

/// Returns a cluster without members whose template names ConfigMaps, while Endpoints are left.
/// The lock was renewed a day ago there, and `hours` ago here.
fn left(facts: Facts, hours: Option<i64>, there: bool, known: bool) -> Facts {
    let mut facts = if facts.stateful_set == Seen::Absent {
        facts.with_settings(|it| it.use_config_maps = Some(true))
    } else {
        stores(facts, Some(true), Store::ConfigMaps, Store::ConfigMaps)
    };
    let ago = |hours| now() - SignedDuration::from_hours(hours);
    facts.claims = Seen::Known(vec![Claim { name: "pgdata-acid-a-0".into(), ..Claim::default() }]);
    facts.leader = match hours {
        None => Seen::Absent,
        Some(hours) => {
            Seen::Known(LeaderLock { holder: None, renewed: Some(ago(hours)), ..lock("acid-a-0") })
        }
    };
    facts.initialize = if known { Seen::Known("7".into()) } else { Seen::Absent };
    facts.elsewhere = Seen::Known(Box::new(Elsewhere {
        store: Store::Endpoints,
        initialize: there.then(|| "7".to_owned()),
        last_leader: Some("acid-a-2".to_owned()),
        renewed: Some(ago(24)),
    }));
    facts
}

/// Returns a cluster at zero whose Patroni, and whose template, use this store. Volumes of these
/// ordinals are kept.
fn at_zero(to: i64, store: Store, kept: &[i64]) -> Facts {
    let facts = healthy(0, to).with_settings(|it| it.use_config_maps = None);
    let mut facts = facts.with_stateful_set(|set| set.store = Some(store));
    let claim = |ordinal: &i64| Claim {
        name: format!("pgdata-acid-a-{ordinal}"),
        ordinal: *ordinal,
        ..Claim::default()
    };
    facts.claims = Seen::Known(kept.iter().map(claim).collect());
    facts
}

fn claims_unread(mut facts: Facts) -> Facts {
    facts.claims = Seen::Unreadable("timed out".to_owned());
    facts
}

fn without_claims(mut facts: Facts) -> Facts {
    facts.claims = Seen::Known(Vec::new());
    facts
}

fn unread_elsewhere(mut facts: Facts) -> Facts {
    facts.elsewhere = Seen::Unreadable("endpoints is forbidden".to_owned());
    facts
}

pub(super) fn dcs_store_changing() {
    use Store::{ConfigMaps, Endpoints, Etcd};
    let grows = || healthy(1, 2);
    let asleep = || healthy(0, 3);
    let unset = |version| major(stores(grows(), None, Endpoints, Endpoints), version);
    let unset_in_maps = || major(stores(grows(), None, ConfigMaps, ConfigMaps), None);
    let here = || stores(grows(), Some(false), Endpoints, Endpoints);
    table(
        "dcs-store-changing",
        vec![
            ("all agree", stores(grows(), Some(true), ConfigMaps, ConfigMaps), Want::Pass),
            (
                "in etcd",
                stores(grows(), None, Etcd, Etcd).with_settings(|it| {
                    it.etcd_host = Some("etcd:2379".into());
                }),
                Want::Pass,
            ),
            ("the setting", stores(grows(), Some(true), Endpoints, Endpoints), Want::Deny),
            ("the template", stores(grows(), Some(true), ConfigMaps, Endpoints), Want::Deny),
            (
                "one pod",
                stores(healthy(2, 3), Some(true), ConfigMaps, ConfigMaps)
                    .with_member(1, |it| it.pod.store = Some(Endpoints)),
                Want::Deny,
            ),
            ("from zero", stores(asleep(), Some(true), Endpoints, Endpoints), Want::Deny),
            (
                "from zero, all agree",
                stores(asleep(), Some(false), Endpoints, Endpoints),
                Want::Pass,
            ),
            ("unset, 1.x", unset(Some(1)), Want::Pass),
            ("unset, 2.x", unset(Some(2)), Want::Deny),
            ("unset, version not known", unset(None), Want::Deny),
            ("unset, version not known, written since", written(unset(None), 5), Want::Pass),
            ("unset, version not known, written before", written(unset(None), -5), Want::Deny),
            ("unset, version not known, in ConfigMaps", unset_in_maps(), Want::Unknown),
            ("the pods are of no operator", healthy(3, 5), Want::Pass),
            ("pods unreadable", grows().without_sight_of_members(), Want::Unknown),
            (
                "operator unreadable",
                without_operator(stores(grows(), None, Endpoints, Endpoints)),
                Want::Unknown,
            ),
            (
                "operator unreadable, in ConfigMaps",
                without_operator(unset_in_maps()),
                Want::Unknown,
            ),
            (
                "operator unreadable, and the pods differ",
                without_operator(stores(grows(), None, ConfigMaps, Endpoints)),
                Want::Deny,
            ),
            ("no operator", no_operator(unset(None)), Want::Unknown),
            ("no operator, in ConfigMaps", no_operator(unset_in_maps()), Want::Pass),
            (
                "from zero, operator unreadable",
                without_operator(at_zero(3, Endpoints, &[0, 1, 2])),
                Want::Deny,
            ),
            (
                "from zero, operator unreadable, in ConfigMaps",
                without_operator(at_zero(3, ConfigMaps, &[0, 1, 2])),
                Want::Deny,
            ),
            (
                "from zero, operator and claims unreadable",
                claims_unread(without_operator(at_zero(1, Endpoints, &[0]))),
                Want::Deny,
            ),
            (
                "from zero, operator unreadable, a member more than volumes",
                without_operator(at_zero(2, Endpoints, &[0])),
                Want::Deny,
            ),
            (
                "from zero, operator unreadable, the only volume",
                without_operator(at_zero(1, Endpoints, &[0])),
                Want::Unknown,
            ),
            (
                "from zero, operator unreadable, nothing kept",
                without_operator(at_zero(3, Endpoints, &[])),
                Want::Unknown,
            ),
            ("from zero, no operator", no_operator(at_zero(3, Endpoints, &[0, 1, 2])), Want::Deny),
            (
                "from zero, no operator, in ConfigMaps",
                no_operator(at_zero(3, ConfigMaps, &[0, 1, 2])),
                Want::Pass,
            ),
            (
                "from zero, StatefulSet unreadable",
                at_zero(3, Endpoints, &[0, 1, 2]).without_sight_of_the_set(),
                Want::Deny,
            ),
            ("StatefulSet unreadable", grows().without_sight_of_the_set(), Want::Unknown),
            (
                "a shrink",
                stores(healthy(3, 2), Some(true), Endpoints, Endpoints),
                Want::NotApplicable,
            ),
            ("its own variable", with_env(here(), "true"), Want::Deny),
            ("its own variable says no", with_env(here(), "false"), Want::Deny),
            ("its own variable is empty", with_env(here(), ""), Want::Pass),
            (
                "its own variable names the store of the pods",
                with_env(stores(grows(), Some(false), ConfigMaps, ConfigMaps), "true"),
                Want::Pass,
            ),
            (
                "its own variable was removed",
                stores(grows(), Some(false), ConfigMaps, ConfigMaps),
                Want::Deny,
            ),
            (
                "variables of every pod",
                with_map(here(), Seen::Known([(USE.to_owned(), true)].into())),
                Want::Deny,
            ),
            (
                "variables of every pod, others",
                with_map(here(), Seen::Known([].into())),
                Want::Pass,
            ),
            (
                "variables of every pod unread",
                with_map(here(), Seen::Unreadable("forbidden".into())),
                Want::Unknown,
            ),
            (
                "variables of every pod unread, nothing to add",
                with_map(
                    with_env(stores(grows(), Some(false), ConfigMaps, ConfigMaps), "true"),
                    Seen::Unreadable("forbidden".into()),
                )
                .editing(|spec| {
                    spec["env"] = json!([{"name": USE, "value": "true"},
                        {"name": "KUBERNETES_USE_ENDPOINTS", "value": ""}]);
                }),
                Want::Pass,
            ),
            ("whole objects of variables, 1.x", whole(here(), &[]), Want::Pass),
            ("whole objects of variables", whole(major(here(), Some(2)), &[]), Want::Deny),
            ("whole objects that it has", whole(major(here(), Some(2)), &["c"]), Want::Pass),
            ("every member runs, the leader is kept", doomed(3, 5), Want::Warn),
            ("the leader is kept, and a member added", doomed(3, 6), Want::Deny),
            ("a leader that stays", doomed(3, 5).with_leader(0).like_endpoints(), Want::Deny),
            ("moved while asleep", left(asleep(), None, true, false), Want::Deny),
            ("moved while asleep, newer there", left(asleep(), None, true, true), Want::Deny),
            ("left over from a migration", left(asleep(), Some(1), true, true), Want::Pass),
            (
                "moved, and no volume is kept",
                without_claims(left(asleep(), None, true, false)),
                Want::Pass,
            ),
            ("created over kept volumes", left(created(3), None, true, false), Want::Deny),
            (
                "the other kind unreadable",
                unread_elsewhere(left(asleep(), None, true, true)),
                Want::Deny,
            ),
        ],
    );
    let facts = stores(healthy(2, 3), Some(true), ConfigMaps, Endpoints);
    insta::assert_snapshot!(text("dcs-store-changing", &facts), @"
    dcs-store-changing: where Patroni keeps its state is being changed: a new member of db/acid-a would found an empty cluster
      configmap default/postgres-operator, statefulset/acid-a: store of Patroni: ConfigMaps
      pod/acid-a-0, pod/acid-a-1: store of Patroni: Endpoints
      Try: finish that at the present count first, until every pod has been replaced: https://github.com/zalando/postgres-operator/blob/master/docs/migrate.md
    ");
    insta::assert_snapshot!(text("dcs-store-changing", &unset(None)), @r#"
    dcs-store-changing: cannot be judged: kubernetes_use_configmaps is not set in configmap default/postgres-operator, and neither the image nor a label of deployment default/postgres-operator names a version, and a new member may found an empty cluster
      statefulset/acid-a, pod/acid-a-0: store of Patroni: Endpoints
      Try: set kubernetes_use_configmaps to false, which is what the pods use, and restart the operator
          kubectl patch configmap/postgres-operator -n default --type merge -p '{"data":{"kubernetes_use_configmaps":"false"}}'
          kubectl rollout restart deployment/postgres-operator -n default
    "#);
    let unseen = without_operator(at_zero(3, Endpoints, &[0, 1, 2]));
    insta::assert_snapshot!(text("dcs-store-changing", &unseen), @"
    dcs-store-changing: cannot be judged: the operator and its settings could not be read (2 deployments may be the operator), and members that look elsewhere for Patroni's state may start from older data
      deployments: could not be read: 2 deployments may be the operator
      statefulset/acid-a: store of Patroni: Endpoints
      Try: ask again once they can be read
        where several Deployments may be the operator, list its account:
          kubectl edit configmap pgscale-operators -n kube-public
        where there is no list yet:
          kubectl create configmap pgscale-operators -n kube-public --from-literal=accounts=NAMESPACE/SERVICEACCOUNT,NAMESPACE/SERVICEACCOUNT
    ");
    insta::assert_snapshot!(text("dcs-store-changing", &with_env(here(), "x")), @"
    dcs-store-changing: where Patroni keeps its state is being changed: a new member of db/acid-a would found an empty cluster
      postgresql/acid-a: store of Patroni by spec.env: ConfigMaps
      statefulset/acid-a, pod/acid-a-0: store of Patroni: Endpoints
      Try: leave the variables of Patroni's store out of spec.env: first the count, then the rest
    ");
    insta::assert_snapshot!(text("dcs-store-changing", &whole(major(here(), Some(2)), &[])), @"
    dcs-store-changing: cannot be judged: spec.envFrom is not read, it is not what the running template was made with, and a new member may found an empty cluster
      statefulset/acid-a, pod/acid-a-0: store of Patroni: Endpoints
      Try: leave spec.envFrom as it is in this change: first the count, then the rest
    ");
    insta::assert_snapshot!(text("dcs-store-changing", &doomed(3, 5)), @"
    dcs-store-changing: where Patroni keeps its state is being changed; every member of db/acid-a runs, and this keeps the leader acid-a-4
      configmap default/postgres-operator, statefulset/acid-a: store of Patroni: ConfigMaps
      pod/acid-a-0, pod/acid-a-1, pod/acid-a-2, pod/acid-a-3, pod/acid-a-4: store of Patroni: Endpoints
      Try: then move the leader off the removed members:
          kubectl pgscale switchover acid-a --for 3 -n db
    ");
    insta::assert_snapshot!(text("dcs-store-changing", &doomed(3, 6)), @"
    dcs-store-changing: where Patroni keeps its state is being changed: a new member of db/acid-a would found an empty cluster
      configmap default/postgres-operator, statefulset/acid-a: store of Patroni: ConfigMaps
      pod/acid-a-0, pod/acid-a-1, pod/acid-a-2, pod/acid-a-3, pod/acid-a-4: store of Patroni: Endpoints
      Try: do not wait, the leader acid-a-4 is about to be deleted
        keep it:
          kubectl pgscale set acid-a 5 -n db
    ");
    insta::assert_snapshot!(text("dcs-store-changing", &left(asleep(), None, true, false)), @r#"
    dcs-store-changing: Patroni's state of db/acid-a is in Endpoints, and its members would look for it elsewhere: the first to start would lead, whatever it lacks
      endpoints/acid-a-config: initialize: 7; last leader: acid-a-2
      configmap/acid-a-config: initialize: unset
      Try: set kubernetes_use_configmaps to false, which is where the state is, and restart the operator
          kubectl patch configmap/postgres-operator -n default --type merge -p '{"data":{"kubernetes_use_configmaps":"false"}}'
          kubectl rollout restart deployment/postgres-operator -n default
    "#);
}

#[test]
fn repair_never_excuses_a_change_of_the_store() {
    let facts = stores(healthy(0, 3), Some(true), Store::Endpoints, Store::Endpoints);
    assert!(facts.assess().repair().is_some());
    assert!(!crate::evaluate(&facts, &Policies::default()).allows());
}
