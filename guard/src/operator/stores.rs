//! The store that Patroni would use in a member that the operator makes next, computed from all
//! that the operator takes a pod's variables from.
//!
//! `generateSpiloPodEnvVars` and `appendEnvVars` (pkg/cluster/k8sres.go, the same in 1.13.0, 1.15.1
//! and 2.0.1) collect the variables: the first of a name counts, in any case. Spilo makes Patroni's
//! configuration of them (`get_dcs_config`, `scripts/configure_spilo.py`).

use std::collections::BTreeMap;

use serde_json::Value;

use crate::operator::Operator;
use crate::patroni::Store;
use crate::seen::Seen;

/// Chooses Kubernetes over any other store.
const KUBERNETES: &str = "DCS_ENABLE_KUBERNETES_API";
/// Chooses ConfigMaps over Endpoints.
const CONFIG_MAPS: &str = "KUBERNETES_USE_CONFIGMAPS";
/// Chooses Endpoints all the same: Spilo hands it to Patroni as it is.
const ENDPOINTS: &str = "KUBERNETES_USE_ENDPOINTS";
/// Chooses etcd.
const ETCD: &str = "ETCD_HOST";
/// Variables that begin with these choose another store than etcd, which comes last.
const BEFORE_ETCD: [&str; 4] = ["ZOOKEEPER_", "EXHIBITOR_", "CONSUL_", "ETCD3_"];

/// The variables of a container by name, and whether each has a text. A value from elsewhere counts
/// as one: it is there to be set.
type Variables = BTreeMap<String, bool>;

/// Returns whether Patroni's store depends on the variable `name`, as far as the guard knows.
fn matters(name: &str) -> bool {
    let upper = name.to_ascii_uppercase();
    [KUBERNETES, CONFIG_MAPS, ENDPOINTS, ETCD].contains(&upper.as_str())
        || BEFORE_ETCD.iter().any(|prefix| upper.starts_with(prefix))
}

/// Returns those of the variables by which Patroni finds its store.
pub fn variables<'a>(all: impl IntoIterator<Item = (&'a str, bool)>) -> BTreeMap<String, bool> {
    let all = all.into_iter().filter(|(name, _)| matters(name));
    all.map(|(name, set)| (name.to_owned(), set)).collect()
}

impl Store {
    /// Returns the store of the Patroni that Spilo starts with these variables (`get_dcs_config`,
    /// `scripts/configure_spilo.py`).
    ///
    /// Any text means yes there, even "false".
    pub fn of_variables(variables: &BTreeMap<String, bool>) -> Self {
        let set = |name: &str| variables.get(name) == Some(&true);
        // It lowers the case of all names, and only then sets its own empty defaults in upper case.
        let in_any_case = |wanted: &str| {
            variables.iter().any(|(name, set)| *set && name.eq_ignore_ascii_case(wanted))
        };
        let before_etcd = || {
            let mut names = variables.keys().map(|name| name.to_ascii_uppercase());
            names.any(|name| BEFORE_ETCD.iter().any(|prefix| name.starts_with(prefix)))
        };
        if set(ETCD) && !set(KUBERNETES) {
            if before_etcd() { Self::Other } else { Self::Etcd }
        } else if set(CONFIG_MAPS) && !in_any_case(ENDPOINTS) {
            Self::ConfigMaps
        } else {
            Self::Endpoints
        }
    }
}

/// The part of a StatefulSet's template that the store depends on beside its variables.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Given {
    /// Variables of the template that come from a Secret's key of the same name, with the name of
    /// the Secret. Only those by which Patroni finds its store.
    pub from_secrets: BTreeMap<String, String>,
    /// `envFrom` of its container.
    pub whole_objects: Vec<Value>,
}

/// The stores that new members of a cluster may get.
#[derive(Clone, Debug, PartialEq)]
pub struct Stores {
    /// Each possible one. More than one where the operator's version decides and is not known.
    pub possible: Vec<Store>,
    /// The field of the cluster, or the setting of the operator, that makes it another one than the
    /// operator's settings name.
    pub moved_by: Option<&'static str>,
    /// A source of variables that may make it any other one, and the reason why it is not known.
    pub unread: Option<(&'static str, String)>,
}

impl Stores {
    /// Returns the only possible store.
    pub fn only(&self) -> Option<Store> {
        match self.possible.as_slice() {
            [store] if self.unread.is_none() => Some(*store),
            _ => None,
        }
    }
}

/// The field of a cluster with variables.
pub const SPEC_ENV: &str = "spec.env";
/// The field of a cluster with whole objects of variables. Operators 1.x do not know it.
pub const SPEC_ENV_FROM: &str = "spec.envFrom";
/// The setting with a Secret of variables.
const SECRET: &str = "pod_environment_secret";
/// The setting with a ConfigMap of variables.
const MAP: &str = "pod_environment_configmap";

impl Operator {
    /// Returns the stores that new members get from this operator, where `spec` is the cluster's and
    /// `template` what the operator wrote last.
    ///
    /// The keys of the Secret of `pod_environment_secret` are those that the template has: the guard
    /// reads no Secret.
    pub fn stores(&self, spec: &Value, template: Option<&Given>) -> Stores {
        let settings = &self.settings;
        let bases = match self.store() {
            Some(store) => vec![store],
            None => vec![Store::Endpoints, Store::ConfigMaps],
        };
        let mut stores = Stores { possible: Vec::new(), moved_by: None, unread: None };
        for base in bases {
            let mut all = own(base);
            let mut store = Store::of_variables(&all);
            let mut layer = |name: &'static str, more: Variables| {
                for (variable, set) in more {
                    if !present(&all, &variable) {
                        all.insert(variable, set);
                    }
                }
                let moved = Store::of_variables(&all);
                if moved != store {
                    (store, stores.moved_by) = (moved, Some(name));
                }
            };
            layer(SPEC_ENV, of_spec(spec));
            let secret = settings.pods.environment_secret.as_ref();
            let from_secrets = template.into_iter().flat_map(|it| &it.from_secrets);
            let of_secret = from_secrets.filter(|(_, from)| Some(*from) == secret);
            layer(SECRET, of_secret.map(|(variable, _)| (variable.clone(), true)).collect());
            layer(MAP, self.settings.pods.environment.known().cloned().unwrap_or_default());
            let may_move = [KUBERNETES, CONFIG_MAPS, ENDPOINTS, ETCD].iter().any(|variable| {
                let mut more = all.clone();
                if !present(&more, variable) {
                    more.insert((*variable).to_owned(), true);
                }
                Store::of_variables(&more) != store
            });
            if may_move && let Seen::Unreadable(why) = &self.settings.pods.environment {
                stores.unread = Some((MAP, why.clone()));
            }
            if may_move && self.adds_whole_objects(spec, template) {
                let why = "it is not what the running template was made with".to_owned();
                stores.unread = Some((SPEC_ENV_FROM, why));
            }
            if !stores.possible.contains(&store) {
                stores.possible.push(store);
            }
        }
        stores
    }

    /// Returns whether the cluster takes variables from whole objects that the template does not
    /// take them from.
    fn adds_whole_objects(&self, spec: &Value, template: Option<&Given>) -> bool {
        let named = spec["envFrom"].as_array().map_or(&[][..], Vec::as_slice);
        let known = template.map_or(&[][..], |it| it.whole_objects.as_slice());
        self.major.is_none_or(|major| major >= 2) && named.iter().any(|it| !known.contains(it))
    }
}

/// Returns the variables that the operator sets for a store itself.
fn own(store: Store) -> Variables {
    let names: &[&str] = match store {
        Store::Etcd | Store::Other => &[ETCD],
        Store::ConfigMaps => &[KUBERNETES, CONFIG_MAPS],
        Store::Endpoints | Store::Unknown => &[KUBERNETES],
    };
    variables(names.iter().map(|name| (*name, true)))
}

/// Returns whether a variable of this name is there, in any case (`isEnvVarPresent`).
fn present(all: &Variables, name: &str) -> bool {
    all.keys().any(|known| known.eq_ignore_ascii_case(name))
}

/// Returns the variables of `spec.env`. Of those with one name, the first counts.
fn of_spec(spec: &Value) -> Variables {
    let mut all = Variables::new();
    for variable in spec["env"].as_array().into_iter().flatten() {
        let Some(name) = variable["name"].as_str().filter(|name| matters(name)) else { continue };
        let from_elsewhere = variable["valueFrom"].is_object();
        let text = variable["value"].as_str().is_some_and(|text| !text.is_empty());
        if !present(&all, name) {
            all.insert(name.to_owned(), from_elsewhere || text);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::rules::testing::healthy;

    fn operator(change: impl FnOnce(&mut Operator)) -> Operator {
        let mut operator = healthy(1, 1).operator.known().unwrap().clone();
        change(&mut operator);
        operator
    }

    fn env(name: &str, value: &str) -> Value {
        json!({"env": [{"name": name, "value": value}]})
    }

    #[test]
    fn variable_that_the_operator_sets_itself_wins() {
        let maps = operator(|it| it.settings.use_config_maps = Some(true));
        let spec = env(CONFIG_MAPS, "");
        assert_eq!(maps.stores(&spec, None).only(), Some(Store::ConfigMaps));
        let etcd = operator(|it| it.settings.etcd_host = Some("etcd:2379".into()));
        assert_eq!(etcd.stores(&env(CONFIG_MAPS, "true"), None).only(), Some(Store::Etcd));
    }

    #[test]
    fn variable_of_the_cluster_moves_the_store_where_the_operator_sets_none() {
        let endpoints = operator(|it| it.settings.use_config_maps = Some(false));
        for (name, value, want) in [
            (CONFIG_MAPS, "true", Store::ConfigMaps),
            (CONFIG_MAPS, "false", Store::ConfigMaps),
            (CONFIG_MAPS, "", Store::Endpoints),
            ("kubernetes_use_configmaps", "true", Store::Endpoints),
            (ETCD, "etcd:2379", Store::Endpoints),
        ] {
            let stores = endpoints.stores(&env(name, value), None);
            assert_eq!(stores.only(), Some(want), "{name}={value}");
            let moved = (want != Store::Endpoints).then_some(SPEC_ENV);
            assert_eq!(stores.moved_by, moved, "{name}={value}");
        }
        let from = json!({"env": [{"name": CONFIG_MAPS, "valueFrom": {"configMapKeyRef": {"name": "c"}}}]});
        assert_eq!(endpoints.stores(&from, None).only(), Some(Store::ConfigMaps));
        let maps = operator(|it| it.settings.use_config_maps = Some(true));
        let back = maps.stores(&env("kubernetes_use_endpoints", "no"), None);
        assert_eq!(back.only(), Some(Store::Endpoints));
        let etcd = operator(|it| it.settings.etcd_host = Some("etcd:2379".into()));
        assert_eq!(etcd.stores(&env(KUBERNETES, "true"), None).only(), Some(Store::Endpoints));
        assert_eq!(etcd.stores(&env("ETCD3_HOST", "e"), None).only(), Some(Store::Other));
    }

    #[test]
    fn first_variable_of_a_name_counts_in_any_case() {
        let mut given = operator(|it| it.settings.use_config_maps = Some(false));
        given.settings.pods.environment =
            Seen::Known(BTreeMap::from([(CONFIG_MAPS.to_owned(), true)]));
        assert_eq!(given.stores(&json!({}), None).only(), Some(Store::ConfigMaps));
        let blocked = env("kubernetes_use_configmaps", "");
        assert_eq!(given.stores(&blocked, None).only(), Some(Store::Endpoints));
        let twice = json!({"env": [{"name": CONFIG_MAPS, "value": ""}, {"name": CONFIG_MAPS, "value": "1"}]});
        assert_eq!(given.stores(&twice, None).only(), Some(Store::Endpoints));
    }

    #[test]
    fn variable_of_the_secret_counts_while_the_operator_names_that_secret() {
        let template = Given {
            from_secrets: BTreeMap::from([(CONFIG_MAPS.to_owned(), "s".to_owned())]),
            whole_objects: Vec::new(),
        };
        let named = operator(|it| it.settings.pods.environment_secret = Some("s".into()));
        assert_eq!(named.stores(&json!({}), Some(&template)).only(), Some(Store::ConfigMaps));
        let unnamed = operator(|_| {});
        assert_eq!(unnamed.stores(&json!({}), Some(&template)).only(), Some(Store::Endpoints));
    }

    #[test]
    fn unread_variables_matter_only_where_they_could_move_the_store() {
        let hidden =
            |it: &mut Operator| it.settings.pods.environment = Seen::Unreadable("forbidden".into());
        let one = operator(hidden);
        assert_eq!(one.stores(&json!({}), None).unread.unwrap().0, MAP);
        let blocked = env(CONFIG_MAPS, "");
        let both =
            json!({"env": [{"name": CONFIG_MAPS, "value": ""}, {"name": ETCD, "value": ""}]});
        assert_eq!(one.stores(&blocked, None).unread, None);
        assert_eq!(one.stores(&both, None).only(), Some(Store::Endpoints));
    }

    #[test]
    fn whole_objects_of_variables_are_unread_unless_the_template_has_them() {
        let from = json!({"envFrom": [{"configMapRef": {"name": "c"}}]});
        let second =
            operator(|it| (it.major, it.settings.use_config_maps) = (Some(2), Some(false)));
        assert_eq!(second.stores(&from, None).unread.unwrap().0, SPEC_ENV_FROM);
        let known = Given {
            whole_objects: vec![json!({"configMapRef": {"name": "c"}})],
            ..Given::default()
        };
        assert_eq!(second.stores(&from, Some(&known)).only(), Some(Store::Endpoints));
        assert_eq!(operator(|_| {}).stores(&from, None).unread, None, "1.x does not know it");
    }
}
