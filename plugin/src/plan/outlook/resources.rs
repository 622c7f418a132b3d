//! What the cluster asks of its namespace, before and after a change, and what its quotas leave.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Container, PodSpec, ResourceQuota};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::quantity::Amount;
use super::{Look, Turn};

/// Between a storage class and what of it a quota limits.
const OF_CLASS: &str = ".storageclass.storage.k8s.io/";

/// Amounts by the name of the resource.
pub(crate) type Amounts = BTreeMap<String, Amount>;

/// What one member asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Footprint {
    /// Requests of its pod.
    pub(crate) requests: Amounts,
    /// Limits of its pod.
    pub(crate) limits: Amounts,
    /// Resources of which some container of its pod may take as much as there is.
    pub(crate) unlimited: BTreeSet<&'static str>,
    /// Size and storage class of its volume claims; without a class it is the default one.
    pub(crate) volumes: Vec<(Amount, Option<String>)>,
    /// Its pod's priority class.
    priority_class: Option<String>,
}

/// What the cluster asks for, before and after.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Resources {
    /// Requests of all pods.
    pub(crate) requests: BTreeMap<String, Turn<Amount>>,
    /// Limits of all pods.
    pub(crate) limits: BTreeMap<String, Turn<Amount>>,
    /// Resources of which some container may take as much as there is.
    pub(crate) unlimited: BTreeSet<&'static str>,
}

/// Pods and claims that a change adds, or takes away where negative.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Added {
    /// Pods.
    pub(crate) pods: i64,
    /// Members whose claims are made or deleted.
    pub(crate) claims: Look<i64>,
}

/// One limit of one quota that the change touches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Room {
    /// The quota.
    pub(crate) quota: String,
    /// What it limits.
    pub(crate) resource: String,
    /// The limit.
    pub(crate) hard: Amount,
    /// What is used now, and what would be.
    pub(crate) used: Turn<Amount>,
}

impl Room {
    /// By how much the change would pass the limit; `None` where it does not, or frees something.
    pub(crate) fn exceeded(&self) -> Option<Amount> {
        let grows = self.used.after > self.used.before;
        (grows && self.used.after > self.hard).then(|| self.used.after.minus(self.hard))
    }
}

/// What the namespace's quotas say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Quotas {
    /// Every limit that the change touches.
    pub(crate) rooms: Vec<Room>,
    /// What could not be judged, in words.
    pub(crate) unjudged: Vec<String>,
}

impl Footprint {
    /// Reads it off the StatefulSet; the error says which quantity is none.
    pub(crate) fn of(set: &StatefulSet) -> Look<Self> {
        let Some(spec) = &set.spec else { return Ok(Self::default()) };
        let mut footprint = Self::default();
        for claim in spec.volume_claim_templates.iter().flatten() {
            let claim = claim.spec.clone().unwrap_or_default();
            let requests = claim.resources.and_then(|resources| resources.requests);
            let size = amounts(requests.as_ref())?.get("storage").copied().unwrap_or_default();
            footprint.volumes.push((size, claim.storage_class_name));
        }
        let Some(pod) = &spec.template.spec else { return Ok(footprint) };
        footprint.priority_class.clone_from(&pod.priority_class_name);
        footprint.requests = of_pod(pod, requests)?;
        footprint.limits = of_pod(pod, limits)?;
        let whole = pod.resources.clone().unwrap_or_default();
        footprint.requests.extend(amounts(whole.requests.as_ref())?);
        footprint.limits.extend(amounts(whole.limits.as_ref())?);
        let overhead = amounts(pod.overhead.as_ref())?;
        add(&mut footprint.requests, &overhead);
        for resource in ["cpu", "memory"] {
            let capped = |container: &Container| {
                limits(container).is_ok_and(|limits| limits.contains_key(resource))
            };
            let whole = whole.limits.as_ref().is_some_and(|limits| limits.contains_key(resource));
            if !whole && !pod.containers.iter().all(capped) {
                footprint.unlimited.insert(resource);
            }
        }
        Ok(footprint)
    }

    /// What so many pods come to.
    pub(super) fn resources(&self, pods: Turn<i64>) -> Resources {
        let turn = |amounts: &Amounts| -> BTreeMap<String, Turn<Amount>> {
            amounts
                .iter()
                .map(|(name, amount)| (name.clone(), pods.map(|pods| amount.times(pods))))
                .collect()
        };
        Resources {
            requests: turn(&self.requests),
            limits: turn(&self.limits),
            unlimited: self.unlimited.clone(),
        }
    }

    /// What the claims of so many members come to.
    pub(super) fn storage(&self, members: Turn<i64>) -> Turn<Amount> {
        let (_, each) = self.claims(None);
        members.map(|members| each.times(members))
    }

    /// A member's claims of a storage class, or of all: how many, and their size.
    fn claims(&self, class: Option<&str>) -> (i64, Amount) {
        self.volumes
            .iter()
            .filter(|(_, own)| class.is_none() || own.as_deref() == class)
            .fold((0, Amount::default()), |(count, sum), (size, _)| (count + 1, sum.plus(*size)))
    }

    /// What the change adds to what a quota counts under `name`: `None` where it does not touch it, an error where
    /// nobody can tell.
    fn adds(&self, name: &str, added: &Added) -> Look<Option<Amount>> {
        let (class, name) = match name.split_once(OF_CLASS) {
            Some((class, name)) => (Some(class), name),
            None => (None, name.strip_prefix("count/").unwrap_or(name)),
        };
        if class.is_some() && self.volumes.iter().any(|(_, own)| own.is_none()) {
            return Err(
                "the volumes name no storage class, and the default one was not read".to_owned()
            );
        }
        let (claims, bytes) = self.claims(class);
        let amount = match name {
            "pods" => Some(Amount::whole(added.pods)),
            "persistentvolumeclaims" => Some(Amount::whole(claims).times(added.claims.clone()?)),
            "requests.storage" => Some(bytes.times(added.claims.clone()?)),
            _ => match name.strip_prefix("limits.") {
                Some(name) => self.limits.get(name),
                None => self.requests.get(name.strip_prefix("requests.").unwrap_or(name)),
            }
            .map(|amount| amount.times(added.pods)),
        };
        Ok(amount.filter(|amount| *amount != Amount::default()))
    }

    /// The pod is one that a quota of this scope counts; `None` where nobody can tell.
    fn in_scope(&self, scope: &str, operator: &str, values: &[String]) -> Option<bool> {
        match scope {
            "Terminating" => Some(false),
            "NotTerminating" => Some(true),
            "BestEffort" | "NotBestEffort" => {
                let cared = ["cpu", "memory"].iter().any(|resource| {
                    self.requests.contains_key(*resource) || self.limits.contains_key(*resource)
                });
                Some(cared == (scope == "NotBestEffort"))
            }
            "PriorityClass" => {
                let listed = self.priority_class.as_ref().is_some_and(|own| values.contains(own));
                match operator {
                    "In" => Some(listed),
                    "NotIn" => Some(self.priority_class.is_some() && !listed),
                    "Exists" => Some(self.priority_class.is_some()),
                    "DoesNotExist" => Some(self.priority_class.is_none()),
                    _ => None,
                }
            }
            _ => None,
        }
    }

    /// What the quotas leave after `added`.
    pub(super) fn quotas(&self, quotas: &[ResourceQuota], added: &Added) -> Quotas {
        let mut seen = Quotas::default();
        for quota in quotas {
            let name = quota.metadata.name.clone().unwrap_or_default();
            match self.counted(quota) {
                Ok(true) => {}
                Ok(false) => continue,
                Err(why) => {
                    seen.unjudged.push(format!("{name}: {why}"));
                    continue;
                }
            }
            let used = quota.status.as_ref().and_then(|status| status.used.as_ref());
            let hard = quota.spec.as_ref().and_then(|spec| spec.hard.as_ref());
            for (resource, hard) in hard.into_iter().flatten() {
                let room = self.adds(resource, added).and_then(|adds| {
                    let Some(adds) = adds else { return Ok(None) };
                    let used = used
                        .and_then(|used| used.get(resource))
                        .ok_or("what is used was not counted yet")?;
                    let before = amount(resource, used)?;
                    Ok(Some(Room {
                        quota: name.clone(),
                        resource: resource.clone(),
                        hard: amount(resource, hard)?,
                        used: Turn { before, after: before.plus(adds) },
                    }))
                });
                match room {
                    Ok(room) => seen.rooms.extend(room),
                    Err(why) => seen.unjudged.push(format!("{name}: {resource}: {why}")),
                }
            }
        }
        seen
    }

    /// The quota counts the cluster's pods.
    fn counted(&self, quota: &ResourceQuota) -> Look<bool> {
        let Some(spec) = &quota.spec else { return Ok(false) };
        let plain = spec.scopes.iter().flatten().map(|scope| (scope, "Exists", &[][..]));
        let chosen = spec
            .scope_selector
            .iter()
            .flat_map(|selector| selector.match_expressions.iter().flatten())
            .map(|it| (&it.scope_name, it.operator.as_str(), it.values.as_deref().unwrap_or(&[])));
        for (scope, operator, values) in plain.chain(chosen) {
            match self.in_scope(scope, operator, values) {
                Some(true) => {}
                Some(false) => return Ok(false),
                None => return Err(format!("its scope {scope} is not judged here")),
            }
        }
        Ok(true)
    }
}

/// What a pod counts with: all containers at once, or the hungriest init container beside those that keep running
/// (`PodRequests`, k8s.io/component-helpers/resource).
fn of_pod(pod: &PodSpec, of: fn(&Container) -> Look<Amounts>) -> Look<Amounts> {
    let (mut beside, mut peak) = (Amounts::new(), Amounts::new());
    for container in pod.init_containers.iter().flatten() {
        let mut now = of(container)?;
        if container.restart_policy.as_deref() == Some("Always") {
            add(&mut beside, &now);
            now.clone_from(&beside);
        } else {
            add(&mut now, &beside);
        }
        for (name, amount) in now {
            let most = peak.entry(name).or_default();
            *most = amount.max(*most);
        }
    }
    let mut all = beside;
    for container in &pod.containers {
        add(&mut all, &of(container)?);
    }
    for (name, amount) in peak {
        let most = all.entry(name).or_default();
        *most = amount.max(*most);
    }
    Ok(all)
}

/// A container's requests; where it has only a limit, that is its request (`SetDefaults_Pod`, pkg/apis/core/v1).
fn requests(container: &Container) -> Look<Amounts> {
    let mut requests = limits(container)?;
    let own = container.resources.as_ref().and_then(|resources| resources.requests.as_ref());
    requests.extend(amounts(own)?);
    Ok(requests)
}

fn limits(container: &Container) -> Look<Amounts> {
    amounts(container.resources.as_ref().and_then(|resources| resources.limits.as_ref()))
}

fn amounts(quantities: Option<&BTreeMap<String, Quantity>>) -> Look<Amounts> {
    quantities
        .into_iter()
        .flatten()
        .map(|(name, quantity)| Ok((name.clone(), amount(name, quantity)?)))
        .collect()
}

fn amount(name: &str, quantity: &Quantity) -> Look<Amount> {
    Amount::of(quantity).ok_or_else(|| format!("{name} is {:?}, which is no quantity", quantity.0))
}

fn add(sum: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        let total = sum.entry(name.clone()).or_default();
        *total = total.plus(*amount);
    }
}

#[cfg(test)]
mod tests;
