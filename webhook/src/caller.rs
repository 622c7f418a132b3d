//! The caller of the webhook: only requests under a secret path are answered.
//!
//! The path is in the registration, so API servers know it, and others in the network do not. A
//! request with another path gets 404 before its body is read. The answer says nothing about which
//! path would have been right, and neither does the time that it takes.

use std::sync::{Arc, PoisonError, RwLock};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::uri::PathAndQuery;
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use subtle::{Choice, ConstantTimeEq as _};
use tower::ServiceExt as _;

use crate::metrics::Metrics;
use crate::registration::PATH;

/// The paths that are answered.
#[derive(Debug)]
pub(crate) struct Caller(RwLock<Accepted>);

#[derive(Debug)]
enum Accepted {
    /// Any path that the registration may have without a secret one.
    Plain,
    /// The paths with one of these tokens.
    Secret(Vec<String>),
}

impl Caller {
    /// Answers every caller: there is no secret path.
    pub(crate) fn unauthenticated() -> Arc<Self> {
        Arc::new(Self(RwLock::new(Accepted::Plain)))
    }

    /// Answers no caller until [`Self::accept`].
    pub(crate) fn authenticated() -> Arc<Self> {
        Arc::new(Self(RwLock::new(Accepted::Secret(Vec::new()))))
    }

    /// Answers the callers that know one of these tokens, and no others.
    pub(crate) fn accept(&self, tokens: Vec<String>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Accepted::Secret(tokens);
    }

    /// Returns whether no path is answered, because none is known yet.
    pub(crate) fn knows_none(&self) -> bool {
        match &*self.0.read().unwrap_or_else(PoisonError::into_inner) {
            Accepted::Plain => false,
            Accepted::Secret(tokens) => tokens.is_empty(),
        }
    }

    /// Returns whether a request with this path is answered.
    pub(crate) fn knows(&self, path: &str) -> bool {
        match &*self.0.read().unwrap_or_else(PoisonError::into_inner) {
            Accepted::Plain => path == PATH || path == "/",
            Accepted::Secret(tokens) => {
                let given = path.strip_prefix(PATH).and_then(|rest| rest.strip_prefix('/'));
                let Some(given) = given else { return false };
                // Every token is compared as a whole. Only the length of a token shows.
                let equal = |token: &String| token.as_bytes().ct_eq(given.as_bytes());
                let known = tokens.iter().map(equal);
                known.fold(Choice::from(0), |known, equal| known | equal).into()
            }
        }
    }
}

/// Returns the routes of the TLS port: `reviews` for those that `caller` knows.
pub(crate) fn router(caller: Arc<Caller>, metrics: Arc<Metrics>, reviews: Router) -> Router {
    Router::new().fallback(answer).with_state(Door { caller, metrics, reviews })
}

#[derive(Clone)]
struct Door {
    caller: Arc<Caller>,
    metrics: Arc<Metrics>,
    reviews: Router,
}

async fn answer(State(door): State<Door>, mut request: Request) -> Response {
    if !door.caller.knows(request.uri().path()) {
        door.metrics.unknown_path();
        // The unread body ends with the connection.
        let close = [(header::CONNECTION, HeaderValue::from_static("close"))];
        return (StatusCode::NOT_FOUND, close, "no such path\n").into_response();
    }
    *request.uri_mut() = without_secret(request.uri());
    match door.reviews.oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

/// Returns the address of reviews with the query of `uri`. What comes after need not know the path.
fn without_secret(uri: &Uri) -> Uri {
    let plain = match uri.query() {
        Some(query) => format!("{PATH}?{query}"),
        None => PATH.to_owned(),
    };
    let path = plain.parse::<PathAndQuery>();
    Uri::from(path.unwrap_or_else(|_| PathAndQuery::from_static(PATH)))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use axum::body::{Body, Bytes};
    use axum::extract::RawQuery;
    use axum::routing::post;

    use super::*;

    const ONE: &str = "0123456789abcdef0123456789abcdef";
    const OTHER: &str = "0123456789abcdef0123456789abcdee";

    fn routes(caller: &Arc<Caller>, metrics: &Arc<Metrics>) -> Router {
        let answer = async |RawQuery(query): RawQuery, body: Bytes| {
            format!("{} {}", query.unwrap_or_default(), body.len())
        };
        let reviews = Router::new().route(PATH, post(answer));
        router(Arc::clone(caller), Arc::clone(metrics), reviews)
    }

    async fn send(router: &Router, path: &str, body: Body) -> (u16, String) {
        let request = Request::post(path).body(body).unwrap();
        let response = router.clone().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let body = axum::body::to_bytes(response.into_body(), 1 << 10).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    /// Returns a body that fails the test when it is read.
    fn unread() -> Body {
        let read = || -> Result<Bytes, Infallible> { panic!("the body was read") };
        Body::from_stream(futures::stream::once(async move { read() }))
    }

    #[tokio::test]
    async fn unknown_path_is_answered_404_before_its_body() {
        let (caller, metrics) = (Caller::authenticated(), Arc::new(Metrics::new()));
        let router = routes(&caller, &metrics);
        let known = format!("/validate/{ONE}?timeout=5s");
        assert_eq!(send(&router, &known, unread()).await.0, 404, "no token is known yet");
        caller.accept(vec![ONE.to_owned()]);
        let wrong = [
            "/".to_owned(),
            "/validate".to_owned(),
            "/validate/".to_owned(),
            "/validate/?timeout=5s".to_owned(),
            format!("/validate/{OTHER}"),
            format!("/validate/{ONE}/"),
            format!("/validate/{ONE}0"),
            format!("/validate//{ONE}"),
            format!("/validate/{}", ONE.to_uppercase()),
            format!("/validate/%30{}", &ONE[1..]),
            format!("/{ONE}"),
            format!("/?path=/validate/{ONE}"),
        ];
        for path in &wrong {
            let (status, text) = send(&router, path, unread()).await;
            assert_eq!((status, text.contains(ONE)), (404, false), "{path}");
        }
        let counted = format!("pgscale_unknown_paths_total {}\n", wrong.len() + 1);
        assert!(metrics.text().contains(&counted), "{}", metrics.text());
        let answered = send(&router, &known, Body::from("123")).await;
        assert_eq!(answered, (200, "timeout=5s 3".to_owned()));
    }

    #[tokio::test]
    async fn old_and_new_path_are_answered_while_both_are_accepted() {
        let (caller, metrics) = (Caller::authenticated(), Arc::new(Metrics::new()));
        let router = routes(&caller, &metrics);
        let status =
            async |token: &str| send(&router, &format!("/validate/{token}"), Body::empty()).await.0;
        caller.accept(vec![ONE.to_owned(), OTHER.to_owned()]);
        assert_eq!((status(ONE).await, status(OTHER).await), (200, 200));
        caller.accept(vec![OTHER.to_owned()]);
        assert_eq!((status(ONE).await, status(OTHER).await), (404, 200));
    }

    #[tokio::test]
    async fn webhook_without_a_secret_path_answers_what_a_registration_can_have() {
        let router = routes(&Caller::unauthenticated(), &Arc::new(Metrics::new()));
        for (path, status) in [("/validate", 200), ("/", 200), ("/validate/x", 404), ("/a", 404)] {
            assert_eq!(send(&router, path, Body::empty()).await.0, status, "{path}");
        }
    }
}
