//! The needs of one member in its namespace, and the room that quotas leave.
//!
//! The arithmetic is that of Kubernetes (pkg/quota/v1/evaluator/core), for the rules and for views
//! of a plan.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Container, PodSpec, ResourceQuota};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::capacity::{Look, Template};
use crate::quantity::Amount;
use crate::selector::meets;

/// Separator between a storage class and the resource that a quota limits in that class.
const OF_CLASS: &str = ".storageclass.storage.k8s.io/";

/// Resources that every container must set where a quota limits them (`validationSet`, pods.go).
const MUST_BE_SET: [&str; 6] =
    ["cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"];

/// Amounts by the name of the resource.
pub type Amounts = BTreeMap<String, Amount>;

/// The needs of one member.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Footprint {
    /// Requests of its pod.
    pub requests: Amounts,
    /// Limits of its pod.
    pub limits: Amounts,
    /// Resources without a limit in some container of its pod.
    pub unlimited: BTreeSet<&'static str>,
    /// Size and storage class of its volume claims. A claim without a class gets the default one.
    pub volumes: Vec<(Amount, Option<String>)>,
    /// Each container of its pod, init containers included.
    pub containers: Vec<Needs>,
    /// Its pod's priority class.
    priority_class: Option<String>,
    /// The additions of admission are in it: a pod without a priority class then has none.
    admitted: bool,
    /// Resources that are set for the pod as a whole, in a quota's words.
    whole: BTreeSet<String>,
}

/// The needs of one container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Its name.
    pub name: String,
    /// Its requests. A limit without a request counts as the request.
    pub requests: Amounts,
    /// Its limits.
    pub limits: Amounts,
}

/// Pods and claims that a change adds, or removes where negative.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Added {
    /// Pods.
    pub pods: i64,
    /// Members whose claims are made or deleted.
    pub claims: Look<i64>,
}

/// One limit of one quota that the change touches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Room {
    /// The quota.
    pub quota: String,
    /// The resource that it limits.
    pub resource: String,
    /// The limit.
    pub hard: Amount,
    /// The amount that is used now.
    pub used: Amount,
    /// The amount that would be used after the change.
    pub after: Amount,
}

impl Room {
    /// Returns the amount by which the change would pass the limit.
    ///
    /// `None` where it stays within the limit or frees something.
    pub fn exceeded(&self) -> Option<Amount> {
        let grows = self.after > self.used;
        (grows && self.after > self.hard).then(|| self.after.minus(self.hard))
    }
}

/// Containers that a quota forbids because they do not set a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unspecified {
    /// The quota.
    pub quota: String,
    /// The resource that it limits and that they do not set.
    pub resource: String,
    /// The containers.
    pub containers: Vec<String>,
}

/// The answers of the namespace's quotas.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Quotas {
    /// Every limit that the change touches.
    pub rooms: Vec<Room>,
    /// Quotas that forbid every new pod, however much room there is.
    pub unspecified: Vec<Unspecified>,
    /// Limits that could not be judged, in words.
    pub unjudged: Vec<String>,
}

impl Footprint {
    /// Reads it off the template of the members. The error names a value that is no quantity.
    pub fn of(template: &Template) -> Look<Self> {
        let mut footprint = Self { admitted: template.admitted, ..Self::default() };
        for claim in &template.claims {
            let requests = claim.resources.as_ref().and_then(|it| it.requests.as_ref());
            let size = amounts(requests)?.get("storage").copied().unwrap_or_default();
            footprint.volumes.push((size, claim.storage_class_name.clone()));
        }
        let pod = &template.pod;
        footprint.priority_class.clone_from(&pod.priority_class_name);
        footprint.requests = of_pod(pod, requests)?;
        footprint.limits = of_pod(pod, limits)?;
        let whole = pod.resources.clone().unwrap_or_default();
        let (requests, limits) =
            (amounts(whole.requests.as_ref())?, amounts(whole.limits.as_ref())?);
        footprint.whole = requests
            .keys()
            .flat_map(|name| [name.clone(), format!("requests.{name}")])
            .chain(limits.keys().map(|name| format!("limits.{name}")))
            .collect();
        footprint.requests.extend(requests);
        footprint.limits.extend(limits);
        let overhead = amounts(pod.overhead.as_ref())?;
        add(&mut footprint.requests, &overhead);
        for container in pod.init_containers.iter().flatten().chain(&pod.containers) {
            footprint.containers.push(Needs::of(container)?);
        }
        for resource in ["cpu", "memory"] {
            let capped = |container: &Container| {
                self::limits(container).is_ok_and(|limits| limits.contains_key(resource))
            };
            let whole = whole.limits.as_ref().is_some_and(|limits| limits.contains_key(resource));
            if !whole && !pod.containers.iter().all(capped) {
                footprint.unlimited.insert(resource);
            }
        }
        Ok(footprint)
    }

    /// Returns the number and the total size of a member's claims, of one storage class or of all.
    pub fn claims(&self, class: Option<&str>) -> (i64, Amount) {
        self.volumes
            .iter()
            .filter(|(_, own)| class.is_none() || own.as_deref() == class)
            .fold((0, Amount::default()), |(count, sum), (size, _)| (count + 1, sum.plus(*size)))
    }

    /// Returns the amount that the change adds to the resource that a quota counts under `name`.
    ///
    /// `None` where the change does not touch it. An error where this is not known.
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

    /// Returns whether a quota of this scope counts the pod. `None` where this is not known.
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
                // Admission may yet give it the cluster's default class.
                if self.priority_class.is_none() && !self.admitted {
                    return None;
                }
                meets(self.priority_class.as_ref(), operator, values)
            }
            // Neither a pod nor a claim that the operator makes has such a class.
            "VolumeAttributesClass" if matches!(operator, "In" | "Exists") => Some(false),
            _ => None,
        }
    }

    /// Returns the room that the quotas leave after `added`.
    pub fn quotas(&self, quotas: &[ResourceQuota], added: &Added) -> Quotas {
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
                if added.pods > 0 {
                    let containers = self.without(resource);
                    if !containers.is_empty() {
                        let (quota, resource) = (name.clone(), resource.clone());
                        seen.unspecified.push(Unspecified { quota, resource, containers });
                    }
                }
                let room = self.adds(resource, added).and_then(|adds| {
                    let Some(adds) = adds else { return Ok(None) };
                    let used = used
                        .and_then(|used| used.get(resource))
                        .ok_or("what is used was not counted yet")?;
                    let used = amount(resource, used)?;
                    Ok(Some(Room {
                        quota: name.clone(),
                        resource: resource.clone(),
                        hard: amount(resource, hard)?,
                        used,
                        after: used.plus(adds),
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

    /// Returns the containers that must set `resource` because a quota limits it, and do not
    /// (`Constraints`, pods.go).
    fn without(&self, resource: &str) -> Vec<String> {
        if !MUST_BE_SET.contains(&resource) || self.whole.contains(resource) {
            return Vec::new();
        }
        let sets = |needs: &Needs| match resource.strip_prefix("limits.") {
            Some(name) => needs.limits.contains_key(name),
            None => {
                needs.requests.contains_key(resource.strip_prefix("requests.").unwrap_or(resource))
            }
        };
        self.containers.iter().filter(|it| !sets(it)).map(|it| it.name.clone()).collect()
    }

    /// Returns whether the quota counts the cluster's pods.
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

impl Needs {
    fn of(container: &Container) -> Look<Self> {
        Ok(Self {
            name: container.name.clone(),
            requests: requests(container)?,
            limits: limits(container)?,
        })
    }
}

/// Returns the amounts that a pod counts with (`PodRequests`, k8s.io/component-helpers/resource).
///
/// These are all containers at once, or the largest init container beside those that keep running.
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

/// Returns a container's requests. A limit without a request counts as the request
/// (`SetDefaults_Pod`, pkg/apis/core/v1).
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

pub(super) fn amount(name: &str, quantity: &Quantity) -> Look<Amount> {
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
