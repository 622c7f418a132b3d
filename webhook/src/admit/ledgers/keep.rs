//! The look at all ledgers: it makes those of new budgets, and decides what replicas have left that
//! are gone.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ListMeta;
use kube::api::ListParams;
use kube::{Client, Resource};
use pgscale_guard::Seen;
use pgscale_guard::ledger::{InstanceLedger, Ledger};
use pgscale_guard::policy::{ClusterScalePolicy, Policies, ScalePolicy};
use pgscale_guard::read::{instances, machine_time};
use serde::de::DeserializeOwned;
use tokio::time::MissedTickBehavior;

use super::{Ledgers, Terms};

/// The time between two looks.
const INTERVAL: Duration = Duration::from_secs(15);
/// Each look of this many also compares ledgers that seem to be complete with what is stored: a
/// write past the webhook shows in no ledger.
const WHOLE: u32 = 4;
/// The time for one list.
const LIST_TIME: Duration = Duration::from_secs(10);
/// The most objects of one page, and of all pages.
const PAGE: u32 = 500;
const MOST: usize = 10_000;
/// The most namespaces that are looked at.
const NAMESPACES: usize = 1_000;

impl Ledgers {
    /// Looks at all ledgers until the task ends.
    pub(crate) async fn keep(self) {
        let mut interval = tokio::time::interval(INTERVAL);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut looks: u32 = 0;
        loop {
            interval.tick().await;
            if let Err(why) = self.look_at_all(looks.is_multiple_of(WHOLE)).await {
                tracing::debug!(why, "could not look at the budgets");
            }
            looks = looks.wrapping_add(1);
        }
    }

    /// Looks at the ledger of each namespace with a budget: at all of them, or at those with
    /// something to do.
    pub(in crate::admit) async fn look_at_all(&self, whole: bool) -> Result<(), String> {
        let budgets = self.budgets().await?;
        if budgets.is_empty() {
            self.metrics.budgets_of(|_| false);
            return Ok(());
        }
        self.metrics.budgets_of(|namespace| budgets.contains_key(namespace));
        let ledgers: Vec<InstanceLedger> = list(&self.client).await?;
        let mut known: BTreeMap<String, Ledger> = BTreeMap::new();
        for object in ledgers {
            let namespace = object.metadata.namespace.clone().unwrap_or_default();
            if let Some(stored) = object.stored() {
                known.insert(namespace, stored.ledger);
            }
        }
        for (namespace, terms) in budgets.into_iter().take(NAMESPACES) {
            let ledger = known.get(&namespace);
            if let Some(ledger) = ledger {
                let oldest = ledger.oldest(machine_time());
                self.metrics.budget(&namespace, terms.budget, ledger.totals(), oldest);
            }
            let settled = |ledger: &Ledger| {
                ledger.basis == terms.basis
                    && ledger.settles.is_none()
                    && ledger.undecided().next().is_none()
            };
            if !whole && ledger.is_some_and(settled) {
                continue;
            }
            if let Err(why) = self.heal(&namespace, &terms).await {
                tracing::warn!(namespace, why, "could not look after its budget");
            }
        }
        Ok(())
    }

    /// Returns the enforced budget of each namespace that has one.
    async fn budgets(&self) -> Result<BTreeMap<String, Terms>, String> {
        let own: Vec<ScalePolicy> = list(&self.client).await?;
        let everywhere: Vec<ClusterScalePolicy> = list(&self.client).await?;
        let everywhere: Vec<ClusterScalePolicy> =
            everywhere.into_iter().filter(|it| it.spec.policy.budget.is_some()).collect();
        let mut namespaces: BTreeMap<String, Vec<ScalePolicy>> = BTreeMap::new();
        for policy in own.into_iter().filter(|policy| policy.spec.budget.is_some()) {
            let namespace = policy.metadata.namespace.clone().unwrap_or_default();
            namespaces.entry(namespace).or_default().push(policy);
        }
        let mut labels: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
        if !everywhere.is_empty() {
            for one in list::<Namespace>(&self.client).await? {
                let name = one.metadata.name.unwrap_or_default();
                namespaces.entry(name.clone()).or_default();
                labels.insert(name, one.metadata.labels.unwrap_or_default());
            }
        }
        let none = BTreeMap::new();
        let budgets = namespaces.into_iter().filter_map(|(namespace, own)| {
            let labels = Seen::Known(labels.remove(&namespace).unwrap_or_default());
            let policies = Policies::of(&own, &everywhere, &labels, &none);
            let terms = Terms::of(&policies)?;
            Some((namespace, terms))
        });
        Ok(budgets.collect())
    }
}

impl Terms {
    /// Returns the budgets that growth has to be reserved in. `None` where none is enforced.
    pub(in crate::admit) fn of(policies: &Policies) -> Option<Self> {
        let budget = instances(policies.budget.enforced()?.value);
        Some(Self { budget, basis: policies.budget.basis.clone() })
    }
}

/// One page of a list, each object for itself.
#[derive(serde::Deserialize)]
struct Page {
    #[serde(default)]
    metadata: ListMeta,
    #[serde(default)]
    items: Vec<serde_json::Value>,
}

/// Lists all objects of a kind, page by page. One that cannot be decoded is left out: the rules say
/// what it means. Without the kind there are none.
async fn list<K>(client: &Client) -> Result<Vec<K>, String>
where
    K: Resource<DynamicType = ()> + DeserializeOwned + Clone + std::fmt::Debug,
{
    let path = kube::api::Request::new(K::url_path(&(), None));
    let mut found = Vec::new();
    let mut params = ListParams::default().limit(PAGE);
    loop {
        let request = path.list(&params).map_err(|error| error.to_string())?;
        let page = client.request::<Page>(request);
        let page = match tokio::time::timeout(LIST_TIME, page).await {
            Ok(Ok(page)) => page,
            Ok(Err(kube::Error::Api(status))) if status.code == 404 => return Ok(found),
            Ok(Err(error)) => return Err(format!("list {}: {error}", K::plural(&()))),
            Err(_) => return Err(format!("list {}: no answer in time", K::plural(&()))),
        };
        found.extend(page.items.into_iter().filter_map(|it| serde_json::from_value(it).ok()));
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(_) if found.len() >= MOST => return Ok(found),
            Some(token) => params = params.continue_token(&token),
            None => return Ok(found),
        }
    }
}
