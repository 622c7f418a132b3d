//! Lists that are read page by page.

use kube::api::{ListParams, Request};
use kube::core::{ObjectList, ObjectMeta, PartialObjectMeta, Resource};
use serde::de::DeserializeOwned;

use super::{Kind, Objects, PAGE, attempt, reason};

/// The most objects of one list that are looked through.
const OBJECTS: usize = 25_000;
/// The most requests for them.
const REQUESTS: usize = 400;
/// The part of a page that is asked for where a page is too large to be read.
const SMALLER: u32 = 8;

impl Objects {
    /// Reads the objects of a known type that `keep` selects, page by page, because there may be
    /// thousands of others.
    ///
    /// A page of large objects may have more than is read at once. Then a smaller one is asked for.
    ///
    /// # Errors
    /// A reason: a page could not be read, one object is larger than is read at once, or there are more
    /// than [`OBJECTS`].
    pub(in crate::read) async fn list_matching<K>(
        &self,
        namespace: Option<&str>,
        keep: impl Fn(&K) -> bool,
    ) -> Result<Vec<K>, String>
    where
        K: Resource<DynamicType = ()> + DeserializeOwned + Clone,
    {
        let kind = Kind::of::<K>(namespace);
        let (mut kept, mut seen) = (Vec::new(), 0);
        let (mut next, mut limit): (Option<String>, u32) = (None, PAGE);
        for _ in 0..REQUESTS {
            let request = Request::new(kind.path.clone()).list(&page(limit, next.clone()));
            let list: ObjectList<K> = match self
                .send(|| attempt("list", &kind, None), request)
                .await
            {
                Ok(list) => list,
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
            seen += list.items.len();
            kept.extend(list.items.into_iter().filter(&keep));
            match list.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(_) if seen >= OBJECTS => break,
                Some(token) => next = Some(token),
                None => return Ok(kept),
            }
            limit = PAGE.min(limit * 2);
        }
        Err(format!("{}: there are more than {seen}", attempt("list", &kind, None)))
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
        let found = objects.list_matching::<Deployment>(None, |_| true).await;
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
