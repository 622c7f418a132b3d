//! Limit ranges: their defaults and their bounds (plugin/pkg/admission/limitranger).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{LimitRange, LimitRangeItem, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::capacity::footprint::amount;
use crate::capacity::{Amounts, Footprint, Look, Template};
use crate::quantity::Amount;

/// A bound of a `LimitRange` that a new pod or claim breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The `LimitRange`.
    pub range: String,
    /// The bound that is broken.
    pub field: String,
    /// The bound, and the value of the pod or claim.
    pub value: String,
}

/// Returns the template with the defaults of the namespace's limit ranges, where a container sets
/// nothing. The first limit range wins.
#[must_use]
pub fn defaulted(mut template: Template, ranges: &[LimitRange]) -> Template {
    let pod = &mut template.pod;
    let all = pod.init_containers.iter_mut().flatten().chain(&mut pod.containers);
    for container in all {
        // A limit without a request becomes the request before any LimitRange applies.
        let own = container.resources.get_or_insert_with(ResourceRequirements::default);
        let limits = own.limits.clone().unwrap_or_default();
        fill(&mut own.requests, &limits);
        for item in items(ranges, "Container").map(|(_, item)| item) {
            fill(&mut own.limits, item.default.as_ref().unwrap_or(&BTreeMap::new()));
            fill(&mut own.requests, item.default_request.as_ref().unwrap_or(&BTreeMap::new()));
        }
    }
    template
}

fn fill(own: &mut Option<BTreeMap<String, Quantity>>, with: &BTreeMap<String, Quantity>) {
    for (name, quantity) in with {
        own.get_or_insert_default().entry(name.clone()).or_insert_with(|| quantity.clone());
    }
}

/// Returns the bounds that a member breaks: with its pod where one will be made, and with its
/// claims where some will be made.
///
/// # Errors
/// A value that is no quantity.
pub fn violations(
    ranges: &[LimitRange],
    footprint: &Footprint,
    pod: bool,
    claims: bool,
) -> Look<Vec<Violation>> {
    let mut found = Vec::new();
    let mut judge = |range: &str, all: Vec<(String, String)>| {
        found.extend(all.into_iter().map(|(field, value)| Violation {
            range: range.to_owned(),
            field,
            value,
        }));
    };
    if pod {
        for (range, item) in items(ranges, "Container") {
            for needs in &footprint.containers {
                let what = Checked {
                    name: format!("container {}", needs.name),
                    requests: &needs.requests,
                    limits: Some(&needs.limits),
                };
                judge(range, what.against(item)?);
            }
        }
        for (range, item) in items(ranges, "Pod") {
            let (requests, limits) = (&footprint.requests, Some(&footprint.limits));
            judge(range, Checked { name: "the pod".to_owned(), requests, limits }.against(item)?);
        }
    }
    if claims {
        for (range, item) in items(ranges, "PersistentVolumeClaim") {
            for (size, _) in &footprint.volumes {
                let requests = Amounts::from([("storage".to_owned(), *size)]);
                let name = "the volume claim".to_owned();
                judge(range, Checked { name, requests: &requests, limits: None }.against(item)?);
            }
        }
    }
    Ok(found)
}

/// Returns the items of one type, each with the name of its `LimitRange`.
fn items<'a>(
    ranges: &'a [LimitRange],
    of: &'a str,
) -> impl Iterator<Item = (&'a str, &'a LimitRangeItem)> {
    ranges.iter().flat_map(move |range| {
        let name = range.metadata.name.as_deref().unwrap_or("");
        let items = range.spec.iter().flat_map(|spec| &spec.limits);
        items.filter(move |item| item.type_ == of).map(move |item| (name, item))
    })
}

/// Requests and limits to compare with an item.
struct Checked<'a> {
    name: String,
    requests: &'a Amounts,
    /// `None` for a claim, which needs none.
    limits: Option<&'a Amounts>,
}

impl Checked<'_> {
    fn against(&self, item: &LimitRangeItem) -> Look<Vec<(String, String)>> {
        let mut found = Vec::new();
        for (resource, quantity) in item.min.iter().flatten() {
            let min = amount(resource, quantity)?;
            let limit = self.limit(resource);
            let why = match self.requests.get(resource) {
                None => Some("has no request".to_owned()),
                Some(request) if *request < min => Some(format!("requests {request}")),
                Some(_) => {
                    limit.filter(|limit| *limit < min).map(|limit| format!("is limited to {limit}"))
                }
            };
            found.extend(self.broken(item, "min", resource, quantity, why));
        }
        for (resource, quantity) in item.max.iter().flatten() {
            let max = amount(resource, quantity)?;
            let request = self.requests.get(resource).filter(|request| **request > max);
            let why = match (self.limits.is_some(), self.limit(resource)) {
                (true, None) => Some("has no limit".to_owned()),
                (true, Some(limit)) if limit > max => Some(format!("is limited to {limit}")),
                (_, _) => request.map(|request| format!("requests {request}")),
            };
            found.extend(self.broken(item, "max", resource, quantity, why));
        }
        for (resource, quantity) in item.max_limit_request_ratio.iter().flatten() {
            let ratio = amount(resource, quantity)?;
            let request = self.requests.get(resource).copied().unwrap_or_default();
            let limit = self.limit(resource).unwrap_or_default();
            let why = if request == Amount::default() || limit == Amount::default() {
                Some("lacks a request or a limit".to_owned())
            } else {
                limit
                    .exceeds(ratio, request)
                    .then(|| format!("requests {request} and is limited to {limit}"))
            };
            found.extend(self.broken(item, "maxLimitRequestRatio", resource, quantity, why));
        }
        Ok(found)
    }

    fn limit(&self, resource: &str) -> Option<Amount> {
        self.limits?.get(resource).copied()
    }

    fn broken(
        &self,
        item: &LimitRangeItem,
        bound: &str,
        resource: &str,
        quantity: &Quantity,
        why: Option<String>,
    ) -> Option<(String, String)> {
        let (name, of) = (&self.name, &item.type_);
        let value = why.map(|why| format!("{}; {name} {why}", quantity.0))?;
        Some((format!("{bound} {resource} of a {of}"), value))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn range(item: &Value) -> LimitRange {
        serde_json::from_value(json!({"metadata": {"name": "r"}, "spec": {"limits": [item]}}))
            .unwrap()
    }

    fn judged(item: &Value, resources: &Value) -> String {
        let template = Template {
            pod: serde_json::from_value(json!({"containers": [
                {"name": "a", "resources": resources}, {"name": "b", "resources": resources}]}))
            .unwrap(),
            claims: serde_json::from_value(
                json!([{"resources": {"requests": {"storage": "10Gi"}}}]),
            )
            .unwrap(),
            ..Template::default()
        };
        let ranges = [range(item)];
        let footprint = Footprint::of(&defaulted(template, &ranges)).unwrap();
        let found = violations(&ranges, &footprint, true, true).unwrap();
        found
            .into_iter()
            .map(|it| format!("{}: {}", it.field, it.value))
            .collect::<Vec<_>>()
            .join(" | ")
    }

    #[test]
    fn limit_ranges_forbid_the_same_as_kubernetes() {
        let sized = json!({"requests": {"cpu": "1"}, "limits": {"cpu": "2"}});
        for (item, resources, want) in [
            (json!({"type": "Container", "min": {"cpu": "1"}, "max": {"cpu": "2"}}), &sized, ""),
            (
                json!({"type": "Container", "max": {"cpu": "1500m"}}),
                &sized,
                "max cpu of a Container: 1500m; container a is limited to 2 | \
                 max cpu of a Container: 1500m; container b is limited to 2",
            ),
            (
                json!({"type": "Pod", "max": {"cpu": "3"}}),
                &sized,
                "max cpu of a Pod: 3; the pod is limited to 4",
            ),
            (
                json!({"type": "Pod", "min": {"cpu": "3"}}),
                &sized,
                "min cpu of a Pod: 3; the pod requests 2",
            ),
            (
                json!({"type": "Pod", "max": {"memory": "1Gi"}}),
                &sized,
                "max memory of a Pod: 1Gi; the pod has no limit",
            ),
            (
                json!({"type": "Pod", "min": {"memory": "1Gi"}}),
                &sized,
                "min memory of a Pod: 1Gi; the pod has no request",
            ),
            (json!({"type": "Pod", "maxLimitRequestRatio": {"cpu": "2"}}), &sized, ""),
            (
                json!({"type": "Pod", "maxLimitRequestRatio": {"cpu": "1500m"}}),
                &sized,
                "maxLimitRequestRatio cpu of a Pod: 1500m; the pod requests 2 and is limited to 4",
            ),
            (
                json!({"type": "Pod", "maxLimitRequestRatio": {"memory": "2"}}),
                &sized,
                "maxLimitRequestRatio memory of a Pod: 2; the pod lacks a request or a limit",
            ),
            // A missing value is filled in first.
            (
                json!({"type": "Container", "max": {"cpu": "2"}, "default": {"cpu": "1"},
                    "defaultRequest": {"cpu": "500m"}, "min": {"cpu": "500m"}}),
                &json!({}),
                "",
            ),
            (
                json!({"type": "PersistentVolumeClaim", "min": {"storage": "1Gi"}, "max": {"storage": "5Gi"}}),
                &sized,
                "max storage of a PersistentVolumeClaim: 5Gi; the volume claim requests 10737418240",
            ),
            (
                json!({"type": "PersistentVolumeClaim", "min": {"storage": "20Gi"}}),
                &sized,
                "min storage of a PersistentVolumeClaim: 20Gi; the volume claim requests 10737418240",
            ),
        ] {
            assert_eq!(judged(&item, resources), want, "{item}");
        }
    }

    #[test]
    fn only_things_to_be_made_are_forbidden() {
        let ranges = [range(&json!({"type": "Pod", "min": {"cpu": "1"}}))];
        let nothing = Footprint::default();
        assert_eq!(violations(&ranges, &nothing, false, true), Ok(Vec::new()));
        assert_eq!(violations(&ranges, &nothing, true, false).unwrap().len(), 1);
        let odd = [range(&json!({"type": "Pod", "min": {"cpu": "lots"}}))];
        assert!(violations(&odd, &nothing, true, true).is_err());
    }
}
