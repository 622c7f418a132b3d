//! Patroni's DCS store, and the behaviour of a new member when the store changes.

use crate::assessment::Assessment;
use crate::change::Direction;
use crate::evidence::Evidence;
use crate::facts::Seen;
use crate::object_ref::ObjectRef;
use crate::patroni::Store;
use crate::policy::Policies;
use crate::rule_id::RuleId;
use crate::rules::applies::{Applies, CHANGE, CREATE};
use crate::rules::reads::{self, Read};
use crate::rules::{Kind, Rule, inputs, members_unseen, unread};
use crate::verdict::{Finding, Outcome};

/// The operator's own page on the change.
const MIGRATION: &str = "https://github.com/zalando/postgres-operator/blob/master/docs/migrate.md";

pub(super) const DCS_STORE_CHANGING: Rule = Rule {
    id: RuleId::DCS_STORE_CHANGING,
    title: "a new member would look for the cluster in another place and found an empty one",
    applies: Applies::on(&[CHANGE, CREATE]).noted("if it adds members"),
    default: "deny",
    kind: Kind::Bound,
    page: "\
Patroni keeps the leader lock and the cluster's identity in Endpoints (operators 1.x), in ConfigMaps (2.x)
or in an etcd. While that changes, the operator writes the new count and the new variables in one update:
the pod that is added finds an empty store, runs initdb and leads an empty database, and the members that
hold the rows end with \"system ID mismatch\". Staged on a real stack with 1.15.1 to 2.0.1, four times out
of four; with two members more, two leaders stood behind one Service.

Denied while the operator's setting (kubernetes_use_configmaps, etcd_host; unset means Endpoints in 1.x and
ConfigMaps in 2.x), the StatefulSet's template and the running pods do not all name one store. No repair
excuses it.

Signals: the operator's settings and the version in its image's tag; KUBERNETES_USE_CONFIGMAPS, ETCD_HOST and
DCS_ENABLE_KUBERNETES_API of the template and of each pod.

Blind spots: an operator whose image names no version and whose setting is unset is not known to agree: that
is warned of. Pods and templates that no operator made say nothing.

Way out: finish the migration at the present count, until every pod has been replaced; then grow. At zero: set
kubernetes_use_configmaps or etcd_host back to what the template says, restart the operator, start the cluster,
then migrate.

If it has happened, a new member (-1 here) leads an empty database, and -0 with the rows ends with \"system ID
mismatch\". Delete no volume and reinitialise no member. -0 touches nothing while the key `initialize` names
the other database, so there is time:
1. Stop the clients. Save what they wrote since, with pg_dumpall in the member that leads.
2. Allow the change to 1 with `kubectl pgscale override NAME --to 1 --rules RULE --reason TEXT`, with every
   rule that refuses it, and make it: the pod of the empty leader goes, and its volume stays.
3. Only when -1 has no pod any more: `kubectl annotate configmap/NAME-config initialize- -n NAMESPACE`
   (endpoints/ where Patroni keeps its state there). While -1 leads, -0 would be made again from it.
4. `kubectl delete pod NAME-0 -n NAMESPACE` starts -0 at once. It takes the lead with its rows: no key
   contradicts them now.
5. When you need nothing from -1: `kubectl delete pvc pgdata-NAME-1 -n NAMESPACE`. Then finish the migration.

Upstream: generateSpiloPodEnvVars, pkg/cluster/k8sres.go; docs/migrate.md; bootstrap, patroni/ha.py.",
    reads: &[inputs::stores],
    needs: reads::COUNT.and(&[Read::StatefulSet, Read::Pods]),
    check: dcs_store_changing,
    #[cfg(any(test, feature = "testing"))]
    table: tests::dcs_store_changing,
};

fn dcs_store_changing(facts: &Assessment<'_>, _: &Policies) -> Outcome {
    if facts.direction() != Direction::Up && !facts.adds_members() {
        return Outcome::NotApplicable;
    }
    let Seen::Known(members) = &facts.members else { return members_unseen(facts) };
    let set = match &facts.stateful_set {
        Seen::Known(set) => set.store,
        Seen::Absent => None,
        Seen::Unreadable(why) => return unread("the StatefulSet", why),
    };
    let mut stated: Vec<(Store, Evidence)> = Vec::new();
    let mut unknown = None;
    let mut hidden = None;
    match &facts.operator {
        Seen::Known(operator) => match operator.store() {
            Some(store) => {
                let source = operator.source.clone();
                stated.push((store, Evidence::new(source, "store of Patroni", store)));
            }
            None => {
                unknown = Some(format!(
                    "kubernetes_use_configmaps is not set in {}, and the image of {} names no version",
                    operator.source, operator.deployment
                ));
            }
        },
        // Without an operator no member is made.
        Seen::Absent => {}
        Seen::Unreadable(why) => hidden = Some(why.as_str()),
    }
    let template = set.map(|store| {
        (store, Evidence::new(facts.stateful_set_source(), "store of Patroni", store))
    });
    let pods = members.iter().filter_map(|member| {
        let store = member.pod.store?;
        Some((store, Evidence::new(ObjectRef::pod(&member.name), "store of Patroni", store)))
    });
    let made: Vec<(Store, Evidence)> = template.into_iter().chain(pods).collect();
    if made.is_empty() {
        return Outcome::Pass;
    }
    stated.extend(made);
    let first = stated.first().map_or(Store::Unknown, |(store, _)| *store);
    if stated.iter().any(|(store, _)| *store != first) {
        let mut finding = Finding::deny(
            DCS_STORE_CHANGING.id,
            format!(
                "where Patroni keeps its state is being changed: a new member of {} would found an empty cluster",
                facts.change.cluster()
            ),
        );
        finding.evidence.extend(stated.into_iter().map(|(_, evidence)| evidence));
        return Outcome::Found(finding.remedy(format!(
            "finish that at the present count first, until every pod has been replaced: {MIGRATION}"
        )));
    }
    if let Some(why) = hidden {
        return unread("where the operator has Patroni keep its state", why);
    }
    match unknown {
        Some(why) => Outcome::Unsaid {
            why,
            remedy:
                "set kubernetes_use_configmaps there to what the pods use, and restart the operator"
                    .into(),
        },
        None => Outcome::Pass,
    }
}

#[cfg(any(test, feature = "testing"))]
#[cfg_attr(not(test), allow(dead_code, unused_imports, reason = "only tables are used"))]
#[allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::wildcard_imports,
    reason = "a table is a test"
)]
mod tests {
    use super::*;
    use crate::facts::Facts;
    use crate::rules::testing::{Want, healthy, table, text};

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

    pub(super) fn dcs_store_changing() {
        use Store::{ConfigMaps, Endpoints, Etcd};
        let grows = || healthy(1, 2);
        let asleep = || healthy(0, 3);
        let unset = |version| major(stores(grows(), None, Endpoints, Endpoints), version);
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
                ("unset, version not known", unset(None), Want::Unknown),
                ("the pods are of no operator", healthy(3, 5), Want::Pass),
                ("pods unreadable", grows().without_sight_of_members(), Want::Unknown),
                (
                    "operator unreadable",
                    without_operator(stores(grows(), None, Endpoints, Endpoints)),
                    Want::Unknown,
                ),
                (
                    "operator unreadable, and the pods differ",
                    without_operator(stores(grows(), None, ConfigMaps, Endpoints)),
                    Want::Deny,
                ),
                ("StatefulSet unreadable", grows().without_sight_of_the_set(), Want::Unknown),
                (
                    "a shrink",
                    stores(healthy(3, 2), Some(true), Endpoints, Endpoints),
                    Want::NotApplicable,
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
        insta::assert_snapshot!(text("dcs-store-changing", &unset(None)), @"
        dcs-store-changing: cannot be judged: kubernetes_use_configmaps is not set in configmap default/postgres-operator, and the image of deployment default/postgres-operator names no version
          Try: set kubernetes_use_configmaps there to what the pods use, and restart the operator
        ");
    }

    #[test]
    fn repair_never_excuses_a_change_of_the_store() {
        let facts = stores(healthy(0, 3), Some(true), Store::Endpoints, Store::Endpoints);
        assert!(facts.assess().repair().is_some());
        assert!(!crate::evaluate(&facts, &Policies::default()).allows());
    }
}
