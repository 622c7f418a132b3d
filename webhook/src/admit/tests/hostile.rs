//! Bodies that are made to cost memory or to mislead, through the router.

use super::super::budget::VALUES;
use super::super::request::Unjudgeable;
use super::*;

fn endless() -> Value {
    json!(vec![json!({"a": 0}); VALUES])
}

fn reads(api_server: &FakeApiServer) -> usize {
    let requests = api_server.requests.lock().unwrap();
    requests.iter().filter(|(method, ..)| method == Method::GET).count()
}

#[tokio::test]
async fn write_that_is_too_large_is_refused_before_anything_is_read() {
    let mut large = object(9);
    large["spec"]["initContainers"] = endless();
    let api_server = three_to_seven();
    let admission = api_server.admission();
    let answer = ask(&admission, &update(&object(3), &large)).await;
    assert_eq!(answer["allowed"], false, "growth is refused, too");
    let status = &answer["status"];
    assert_eq!((&status["code"], &status["reason"]), (&json!(403), &json!("Forbidden")));
    insta::assert_snapshot!(status["message"].as_str().unwrap(), @"
    pgscale cannot judge this change: spec.initContainers of the new object is too large to judge (limit: 5000 JSON values in one write). Leave spec.initContainers as it is and change only the count:
        kubectl pgscale set acid-a 9 -n db
    ");
    assert_eq!(status["details"]["causes"][0]["reason"], CANNOT_BE_JUDGED);
    assert_eq!(reads(&api_server), 0);
    assert_eq!(count(&admission, "UPDATE", "denied", false), "1");
    // The advice works, also where a part that no rule reads is as large.
    let mut stored = object(3);
    stored["spec"]["users"] = endless();
    let mut set = stored.clone();
    set["spec"]["numberOfInstances"] = json!(5);
    assert_eq!(ask(&admission, &update(&stored, &set)).await["allowed"], true);
}

#[tokio::test]
async fn cluster_of_a_scale_is_held_to_the_same_budget() {
    let mut stored = object(5);
    stored["spec"]["users"] = endless();
    stored["metadata"]["managedFields"] = endless();
    let api_server = FakeApiServer { stored: Some(stored.clone()), ..three_to_seven() };
    let answer = ask(&api_server.admission(), &scale(Some(5), Some(9))).await;
    let causes = answer["status"]["details"]["causes"].as_array().unwrap();
    assert_eq!(causes[0]["reason"], "above-max", "a part that no rule reads is not decoded");

    stored["spec"]["initContainers"] = endless();
    let api_server = FakeApiServer { stored: Some(stored), ..three_to_seven() };
    for to in [4, 6] {
        let answer = ask(&api_server.admission(), &scale(Some(5), Some(to))).await;
        assert_eq!(answer["allowed"], false, "5 -> {to}");
        let message = answer["status"]["message"].as_str().unwrap();
        let part = "spec.initContainers of the stored object is too large to judge";
        assert!(message.contains(part), "{message}");
        assert!(message.ends_with(&format!("kubectl pgscale set acid-a {to} -n db")), "{message}");
    }
}

#[tokio::test]
async fn oversized_user_info_is_refused_under_the_uid() {
    let mut review = update(&object(3), &object(5));
    review["request"]["userInfo"]["extra"] = endless();
    let api_server = three_to_seven();
    let answer = ask(&api_server.admission(), &review).await;
    assert_eq!((&answer["allowed"], &answer["status"]["code"]), (&json!(false), &json!(403)));
    insta::assert_snapshot!(answer["status"]["message"].as_str().unwrap(), @"pgscale cannot judge this change: request.userInfo is too large to judge (limit: 5000 JSON values in one write). An ordinary review has fewer than a hundred values there. Look for this review in the API server's audit log. If the part is userInfo, the authenticator of the API server made it");
    assert_eq!(reads(&api_server), 0);
}

/// One change of the bytes of a body.
#[derive(Clone, Debug)]
enum Damage {
    Cut(prop::sample::Index),
    Insert(prop::sample::Index, Vec<u8>),
    Repeat(prop::sample::Index, prop::sample::Index),
    Take(prop::sample::Index, prop::sample::Index),
}

fn damage() -> impl Strategy<Value = Damage> {
    let index = any::<prop::sample::Index>;
    let tokens: Vec<&[u8]> = vec![
        b"{",
        b"}",
        b"[",
        b"]",
        b"\"",
        b",",
        b":",
        b"null",
        b"\"uid\":\"r1\",",
        b"\\u0000",
        b"\\ud800",
        b"\xff",
        b"1e999",
        b"-0",
        b"9999999999999999999999",
        b"\"spec\":{},",
        b"\"object\":null,",
        b"\0",
    ];
    let bytes = prop_oneof![
        3 => prop::sample::select(tokens).prop_map(<[u8]>::to_vec),
        1 => prop::collection::vec(any::<u8>(), 1..4),
    ];
    prop_oneof![
        1 => index().prop_map(Damage::Cut),
        4 => (index(), bytes).prop_map(|(at, bytes)| Damage::Insert(at, bytes)),
        2 => (index(), index()).prop_map(|(from, to)| Damage::Repeat(from, to)),
        2 => (index(), index()).prop_map(|(from, to)| Damage::Take(from, to)),
    ]
}

impl Damage {
    fn to(self, body: &mut Vec<u8>) {
        if body.is_empty() {
            return;
        }
        let span = |from: prop::sample::Index, to: prop::sample::Index| {
            let (from, to) = (from.index(body.len()), to.index(body.len()));
            from.min(to)..from.max(to)
        };
        match self {
            Self::Cut(at) => body.truncate(at.index(body.len())),
            Self::Insert(at, bytes) => {
                let at = at.index(body.len());
                body.splice(at..at, bytes);
            }
            Self::Repeat(from, to) => {
                let span = span(from, to);
                let again = body[span.clone()].to_vec();
                body.splice(span.end..span.end, again);
            }
            Self::Take(from, to) => {
                body.drain(span(from, to));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn damaged_body_is_answered_by_a_review_or_a_client_error(
        damages in prop::collection::vec(damage(), 1..4), by_scale in any::<bool>(),
    ) {
        let review = if by_scale { scale(Some(3), Some(2)) } else { update(&object(3), &object(2)) };
        let mut body = review.to_string().into_bytes();
        for damage in damages {
            damage.to(&mut body);
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (status, answer) = runtime.block_on(async {
            let admission = three_to_seven().admission();
            post(router(admission), "/validate?timeout=1s", body.clone()).await
        });
        prop_assert!(status == 200 || status == 400, "{status}: {answer}");
        if status == 200 {
            let answer: Value = serde_json::from_str(&answer).unwrap();
            prop_assert!(answer["response"]["uid"].as_str().is_some_and(|uid| !uid.is_empty()));
            // A reader that takes the last of two equal keys, or the only one, finds the same uid.
            let review: Value = serde_json::from_slice(&body).unwrap_or_default();
            if !review.is_null() && answer["response"]["allowed"] == json!(true) {
                prop_assert_eq!(&answer["response"]["uid"], &review["request"]["uid"]);
            }
        }
    }
}

/// Returns JSON as text, for what no `Value` can hold: keys twice, numbers and escapes that readers
/// take differently, more levels and more values than are decoded.
fn hostile_json() -> impl Strategy<Value = String> {
    let leaves = [
        "null",
        "true",
        "5",
        "-0",
        "0.1",
        "1e2",
        "1e999",
        "-1e999",
        "1e-999",
        "9223372036854775808",
        "18446744073709551616",
        r#""a""#,
        r#""\u0000""#,
        r#""\ud800""#,
        r#""\udc00\ud800""#,
        r#""\ud83d\ude00""#,
    ];
    let keys = ["a", r"\u0061", "b", "", "name", "value", r"\ud800", r"\ud83d\ude00"];
    let key = move || prop::sample::select(keys.to_vec());
    let leaf = prop::sample::select(leaves.to_vec()).prop_map(str::to_owned);
    let tree = leaf.prop_recursive(4, 24, 4, move |inner| {
        let field = (key(), inner.clone()).prop_map(|(key, value)| format!("\"{key}\":{value}"));
        prop_oneof![
            prop::collection::vec(inner, 0..4).prop_map(|items| format!("[{}]", items.join(","))),
            prop::collection::vec(field, 0..4).prop_map(|all| format!("{{{}}}", all.join(","))),
        ]
    });
    let levels = prop_oneof![6 => 0..3usize, 2 => 60..70usize, 1 => Just(100_000)];
    let times = prop_oneof![6 => Just(1usize), 1 => 2_400..2_600usize, 1 => 100_000..100_001usize];
    (tree, levels, times).prop_map(|(tree, levels, times)| {
        // The product is bounded as an object of the API server is.
        let times = times.min((1 << 20) / (tree.len() + 1)).max(1);
        let list = format!("[{}]", vec![tree.as_str(); times].join(","));
        format!("{}{list}{}", r#"{"k":["#.repeat(levels / 2), "]}".repeat(levels / 2))
    })
}

/// Returns the number of values in `value`, itself included.
fn values(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(values).sum(),
        Value::Object(fields) => fields.values().map(values).sum::<usize>(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn hostile_parts_are_judged_as_they_are_or_refused(
        json in hostile_json(),
        part in prop::sample::select(vec!["env", "initContainers", "patroni", "users", "volume"]),
        in_the_stored_one in any::<bool>(),
    ) {
        let mark = json!("HOSTILE");
        let (mut old, mut new) = (object(3), object(5));
        let changed = if in_the_stored_one { &mut old } else { &mut new };
        changed["spec"][part] = mark.clone();
        let body = update(&old, &new).to_string().replace(&mark.to_string(), &json);
        let received = Received::of(body.as_bytes()).unwrap();
        // serde_json reads no more than 128 levels, and we no more than half of that.
        let read = serde_json::from_str::<Value>(&json).ok();
        match Question::of(&received) {
            Ok(Question::Write(change)) => {
                let old = change.old.as_ref().unwrap();
                let decoded = if in_the_stored_one { &old.spec } else { &change.new.spec };
                prop_assert_eq!(decoded.get(part), read.as_ref(), "{}", part);
                prop_assert!(values(&old.spec) + values(&change.new.spec) <= VALUES);
                prop_assert_eq!((old.instances, change.new.instances), (Some(3), Some(5)));
            }
            other => {
                let refused = matches!(other, Err(Unjudgeable::Undecoded { .. }));
                prop_assert!(refused, "{:?}", other);
            }
        }
    }
}
