//! Lists that are read page by page.

use std::borrow::Cow;
use std::sync::Arc;

use kube::api::{ListParams, Request};
use kube::core::{ListMeta, ObjectList, ObjectMeta, PartialObjectMeta, Resource};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;

use super::{Built, Kind, Objects, PAGE, ReadError, attempt, reason};
use crate::read::lean::without_managed_fields;

/// The most objects of one list that are looked through.
const OBJECTS: usize = 25_000;
/// The most requests for them.
const REQUESTS: usize = 400;
/// The part of a page that is asked for where a page is too large to be read.
const SMALLER: u32 = 8;

/// A page of a list, its objects still encoded.
#[derive(Deserialize)]
struct Page<'a> {
    #[serde(default)]
    metadata: ListMeta,
    #[serde(borrow, deserialize_with = "null_as_none")]
    items: Vec<&'a RawValue>,
}

/// Some lists without an object have null in place of the objects.
fn null_as_none<'de: 'a, 'a, D: Deserializer<'de>>(json: D) -> Result<Vec<&'a RawValue>, D::Error> {
    Option::<Vec<&'a RawValue>>::deserialize(json).map(Option::unwrap_or_default)
}

/// The name of an object, and nothing else.
#[derive(Deserialize)]
struct Named<'a> {
    #[serde(borrow, default)]
    metadata: Name<'a>,
}

#[derive(Default, Deserialize)]
struct Name<'a> {
    #[serde(borrow)]
    name: Option<Cow<'a, str>>,
}

/// The objects of a page that are kept, the number of all, and the token of the next page.
type Kept<K> = (Vec<K>, usize, Option<String>);

/// One page of a list.
#[derive(serde::Deserialize)]
struct WholePage {
    #[serde(default)]
    metadata: ListMeta,
    #[serde(default)]
    items: Vec<Value>,
}

impl Objects {
    /// Reads the objects of a known type with a name that `named` selects and with everything else that
    /// `keep` does, page by page, because there may be thousands of others.
    ///
    /// Of the others only the names are decoded, and of none the `managedFields`. A page of large objects
    /// may have more than is read at once. Then a smaller one is asked for.
    ///
    /// # Errors
    /// A reason: a page could not be read, one object is larger than is read at once, or there are more
    /// than [`OBJECTS`].
    pub(in crate::read) async fn list_matching<K>(
        &self,
        namespace: Option<&str>,
        named: impl Fn(&str) -> bool,
        keep: impl Fn(&K) -> bool,
    ) -> Result<Vec<K>, String>
    where
        K: Resource<DynamicType = ()> + DeserializeOwned + Clone,
    {
        let kind = Kind::of::<K>(namespace);
        let (mut all, mut seen) = (Vec::new(), 0);
        let (mut next, mut limit): (Option<String>, u32) = (None, PAGE);
        for _ in 0..REQUESTS {
            let request = Request::new(kind.path.clone()).list(&page(limit, next.clone()));
            let page = self.page(&kind, request, &named, &keep).await;
            let (kept, count, more) = match page {
                Ok(page) => page,
                Err(error) if error.is_too_large() && limit > 1 => {
                    limit = (limit / SMALLER).max(1);
                    continue;
                }
                Err(error) => {
                    let reason = reason("list", &kind, &error);
                    if !error.is_too_large() {
                        return Err(reason);
                    }
                    let which = self.name_of_next(&kind, next).await;
                    return Err(which.map_or(reason.clone(), |name| format!("{reason} ({name})")));
                }
            };
            seen += count;
            all.extend(kept);
            match more {
                Some(_) if seen >= OBJECTS => break,
                Some(token) => next = Some(token),
                None => return Ok(all),
            }
            limit = PAGE.min(limit * 2);
        }
        Err(format!("{}: there are more than {seen}", attempt("list", &kind, None)))
    }

    /// Reads one page of a list.
    async fn page<K: DeserializeOwned>(
        &self,
        kind: &Kind,
        request: Built,
        named: impl Fn(&str) -> bool,
        keep: impl Fn(&K) -> bool,
    ) -> Result<Kept<K>, ReadError> {
        let asked = || attempt("list", kind, None);
        let text = self.text(&asked, request).await?;
        let read = || -> serde_json::Result<Kept<K>> {
            let Page { metadata, items } = serde_json::from_str(text.as_str())?;
            let count = items.len();
            let mut kept = Vec::new();
            for item in items {
                let Named { metadata } = serde_json::from_str(item.get())?;
                if !named(metadata.name.as_deref().unwrap_or_default()) {
                    continue;
                }
                let object = serde_json::from_str(&without_managed_fields(item.get()))?;
                if keep(&object) {
                    kept.push(object);
                }
            }
            Ok((kept, count, metadata.continue_.filter(|token| !token.is_empty())))
        };
        let read = read();
        text.leave();
        read.map_err(|error| ReadError::Kube {
            asked: asked(),
            source: Arc::new(kube::Error::SerdeError(error)),
        })
    }

    /// Reads all objects of a kind, at most this many, each reduced at once. Returns them with the one
    /// revision at which they all were so.
    ///
    /// # Errors
    /// A reason: a page could not be read, an object could not be reduced, there are more, or the
    /// pages are of several revisions.
    pub(in crate::read) async fn list_whole<T>(
        &self,
        kind: &Kind,
        most: usize,
        reduce: impl Fn(&Value) -> Result<T, String>,
    ) -> Result<(Vec<T>, String), String> {
        let asked = || attempt("list", kind, None);
        let mut found: Vec<T> = Vec::new();
        let mut at: Option<String> = None;
        let (mut next, mut limit): (Option<String>, u32) = (None, PAGE);
        for _ in 0..REQUESTS {
            let request = Request::new(kind.path.clone()).list(&page(limit, next.clone()));
            let list: WholePage = match self.send(asked, request).await {
                Ok(list) => list,
                Err(error) if error.is_too_large() && limit > 1 => {
                    limit = (limit / SMALLER).max(1);
                    continue;
                }
                Err(error) => return Err(reason("list", kind, &error)),
            };
            let revision = list.metadata.resource_version.unwrap_or_default();
            if at.get_or_insert_with(|| revision.clone()) != &revision {
                return Err(format!("{}: its pages are of several revisions", asked()));
            }
            if found.len() + list.items.len() > most {
                return Err(format!("{}: there are more than {most}", asked()));
            }
            for object in &list.items {
                found.push(reduce(object)?);
            }
            match list.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => next = Some(token),
                None => return Ok((found, revision)),
            }
            limit = PAGE.min(limit * 2);
        }
        Err(format!("{}: it has more than {REQUESTS} pages", asked()))
    }

    /// Returns the name of the next object of a list. It asks for its metadata alone.
    async fn name_of_next(&self, kind: &Kind, next: Option<String>) -> Option<String> {
        let request = Request::new(kind.path.clone()).list_metadata(&page(1, next));
        let asked = || attempt("list", kind, None);
        let list: ObjectList<PartialObjectMeta> = self.send(asked, request).await.ok()?;
        let ObjectMeta { namespace, name, .. } = list.items.into_iter().next()?.metadata;
        let parts = namespace.into_iter().chain(name);
        Some(parts.collect::<Vec<_>>().join("/"))
    }
}

/// Returns the parameters of a page of a list that goes on at `next`.
fn page(limit: u32, next: Option<String>) -> ListParams {
    ListParams { limit: Some(limit), continue_token: next, ..ListParams::default() }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use http::{Request, Response};
    use k8s_openapi::api::apps::v1::Deployment;
    use kube::Client;
    use kube::client::Body;
    use serde_json::{Value, json};

    use super::*;

    /// Returns the value of a parameter of a request.
    fn parameter(query: &str, name: &str) -> usize {
        let parts = query.split('&').filter_map(|part| part.split_once('='));
        parts.filter(|(key, _)| *key == name).find_map(|(_, text)| text.parse().ok()).unwrap_or(0)
    }

    /// Lists Deployments with these numbers of annotations. Returns their names, or the reason, and the
    /// size of each page that was asked for.
    async fn listed(annotations: &[usize]) -> (Result<Vec<String>, String>, Vec<usize>) {
        let all: Vec<Value> = annotations
            .iter()
            .enumerate()
            .map(|(at, count)| {
                let many = (0..*count).map(|at| (format!("a{at}"), json!("")));
                let many: serde_json::Map<_, _> = many.collect();
                json!({"metadata": {"namespace": "t", "name": format!("d{at}"), "annotations": many},
                    "spec": {"selector": {}, "template": {}}})
            })
            .collect();
        let (all, pages) = (Arc::new(all), Arc::new(Mutex::new(Vec::new())));
        let asked = Arc::clone(&pages);
        let service = tower::service_fn(move |request: Request<Body>| {
            let query = request.uri().query().unwrap_or_default();
            let (limit, from) = (parameter(query, "limit"), parameter(query, "continue"));
            let accept = request.headers().get(http::header::ACCEPT);
            let accept = accept.and_then(|accept| accept.to_str().ok()).unwrap_or_default();
            let names_only = accept.contains("PartialObjectMetadataList");
            asked.lock().unwrap().push(limit);
            let end = all.len().min(from + limit);
            let mut items = all[from..end].to_vec();
            if names_only {
                for item in &mut items {
                    item["metadata"]["annotations"] = Value::Null;
                }
            }
            let next = if end < all.len() { end.to_string() } else { String::new() };
            let page = json!({"metadata": {"continue": next}, "items": items}).to_string();
            async move { Ok::<_, Infallible>(Response::new(Body::from(page.into_bytes()))) }
        });
        let objects = Objects::of(Client::new(service, "default"), Duration::from_secs(60));
        let found = objects.list_matching::<Deployment>(None, |_| true, |_| true).await;
        let names = found.map(|all| all.into_iter().filter_map(|it| it.metadata.name).collect());
        let pages = pages.lock().unwrap().clone();
        (names, pages)
    }

    #[tokio::test]
    async fn page_of_large_objects_is_read_in_smaller_ones() {
        let mut sizes = vec![1; 300];
        sizes[3..6].fill(20_000);
        let (found, pages) = listed(&sizes).await;
        let names: Vec<String> = (0..300).map(|at| format!("d{at}")).collect();
        assert_eq!(found.as_deref(), Ok(&names[..]));
        assert_eq!(pages[..3], [250, 31, 3], "{pages:?}");
        assert!(pages.len() < 20, "{pages:?}");
    }

    /// Of the other objects only the names are looked at: whatever else they hold is no matter.
    #[tokio::test]
    async fn objects_with_other_names_are_not_decoded() {
        let item = |name: &str, replicas: Value| {
            json!({"metadata": {"name": name, "managedFields": [{"manager": "kubectl"}]},
                "spec": {"replicas": replicas, "selector": {}, "template": {}}})
        };
        let read = async |own: Value| {
            let items = [item("other", json!("many")), own, json!({"metadata": {}}), json!({})];
            let page = json!({"metadata": {}, "items": items}).to_string();
            let service = tower::service_fn(move |_: Request<Body>| {
                let page = page.clone();
                async move { Ok::<_, Infallible>(Response::new(Body::from(page.into_bytes()))) }
            });
            let objects = Objects::of(Client::new(service, "default"), Duration::from_secs(60));
            objects.list_matching::<Deployment>(None, |name| name == "own", |_| true).await
        };
        let found = read(item("own", json!(3))).await.unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].spec.as_ref().and_then(|spec| spec.replicas), Some(3));
        assert_eq!(found[0].metadata.managed_fields, Some(Vec::new()));
        assert!(
            read(item("own", json!("many"))).await.is_err(),
            "one of its own is not passed over"
        );
    }

    #[tokio::test]
    async fn object_that_is_too_large_is_named_with_the_bound() {
        let (found, pages) = listed(&[1, 60_000, 1]).await;
        assert_eq!(
            found.unwrap_err(),
            "list deployments: the answer has more than 50000 JSON values, the most that pgscale reads at \
             once: delete what is not needed there (t/d1)"
        );
        assert!(pages.len() < 10, "{pages:?}");
    }
}
