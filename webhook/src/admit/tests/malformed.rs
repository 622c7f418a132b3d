//! Bodies that are no review, reviews of an unknown shape, and any JSON at any place of a review.

use super::*;

#[tokio::test]
async fn body_that_is_no_review_gets_an_http_error() {
    let admission = FakeApiServer::default().admission();
    let router = || router(admission.clone());
    let (status, text) = post(router(), "/validate", "not JSON").await;
    assert_eq!(status, 400);
    assert!(text.starts_with("the body is not JSON"), "{text}");
    let (status, text) =
        post(router(), "/validate", r#"{"kind": "Pod", "apiVersion": "v1"}"#).await;
    assert_eq!(status, 400);
    assert_eq!(text, "the body is Pod of v1: send an AdmissionReview of admission.k8s.io/v1\n");
    let empty = json!({"kind": META_KIND, "apiVersion": META_API_VERSION_V1}).to_string();
    assert_eq!(post(router(), "/validate", empty).await.0, 400);
    let (status, text) = post(router(), "/validate", vec![b' '; 20 << 20]).await;
    assert_eq!(status, 413);
    assert!(text.contains("7 MiB"), "{text}");
    let request = Request::get("/validate").body(Body::empty()).unwrap();
    assert_eq!(router().oneshot(request).await.unwrap().status(), 405);
    assert_eq!(post(router(), "/mutate", "{}").await.0, 404);
    assert_eq!(count(&admission, "unknown", "malformed", false), "4");
}

#[tokio::test]
async fn review_of_an_unknown_shape_is_refused_under_its_uid() {
    let admission = FakeApiServer::default().admission();
    let mut old = update(&object(3), &object(5));
    old["apiVersion"] = json!("admission.k8s.io/v1beta1");
    let mut operation = update(&object(3), &object(5));
    operation["request"]["operation"] = json!("RENAME");
    let mut metadata = update(&object(3), &object(5));
    metadata["request"]["object"]["metadata"]["annotations"] = json!("none");
    for review in [old, operation, metadata] {
        let answer = ask(&admission, &review).await;
        assert_eq!((&answer["allowed"], &answer["status"]["code"]), (&json!(false), &json!(403)));
    }
}

#[tokio::test]
async fn body_that_never_ends_is_given_up() {
    tokio::time::pause();
    let drip = futures::stream::pending::<Result<Vec<u8>, Infallible>>();
    let admission = FakeApiServer::default().admission();
    let (status, _) = post(router(admission), "/validate", Body::from_stream(drip)).await;
    assert_eq!(status, 408);
}

/// The places of a review that the property fills with any JSON.
const PLACES: [&str; 16] = [
    "",
    "/request",
    "/request/uid",
    "/request/kind",
    "/request/resource",
    "/request/subResource",
    "/request/operation",
    "/request/userInfo",
    "/request/name",
    "/request/namespace",
    "/request/object",
    "/request/oldObject",
    "/request/object/metadata",
    "/request/object/spec",
    "/request/object/spec/numberOfInstances",
    "/request/oldObject/spec",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn every_review_is_answered_under_its_uid(
        places in prop::collection::vec((prop::sample::select(&PLACES[..]), any_json()), 1..4),
        by_scale in any::<bool>(),
    ) {
        let mut review =
            if by_scale { scale(Some(3), Some(2)) } else { update(&object(3), &object(2)) };
        for (place, value) in places {
            if let Some(found) = review.pointer_mut(place) {
                *found = value;
            }
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (status, body) = runtime.block_on(async {
            let admission = three_to_seven().admission();
            let answer = post(router(admission), "/validate?timeout=1s", review.to_string()).await;
            prop_assert!(answer.0 == 200 || answer.0 == 400, "{answer:?}");
            Ok(answer)
        })?;
        if status == 200 {
            let answer: Value = serde_json::from_str(&body).unwrap();
            prop_assert_eq!(&answer["response"]["uid"], &review["request"]["uid"]);
            let refused = answer["response"]["allowed"] == json!(false);
            prop_assert_eq!(refused, answer["response"]["status"]["code"] == json!(403));
        }
    }
}
