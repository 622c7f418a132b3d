//! Reviews beyond the budget of all reviews together.

use tokio::time::sleep;

use super::*;
use crate::admit::limits::tests::places;

const BUSY: &str = "pgscale is busy with other";

/// Returns a webhook with one place, which another review holds for as long as it may take.
async fn busy(growth: FailurePolicy) -> (Admission, Place) {
    let admission = FakeApiServer { growth, ..three_to_seven() }.admission();
    let limits = places(1, Arc::clone(&admission.metrics));
    let place = limits.place(Instant::now() + Duration::from_secs(60)).await.unwrap();
    (Admission { limits, ..admission }, place)
}

#[tokio::test(start_paused = true)]
async fn review_that_waits_in_vain_is_answered_in_the_direction_that_fails_safely() {
    let (ignore, fail) = (FailurePolicy::Ignore, FailurePolicy::Fail);
    for (growth, from, to, allowed) in [
        (ignore, 5, 3, false),
        (fail, 5, 3, false),
        (ignore, 3, 5, true),
        (fail, 3, 5, false),
        // No member is there to copy: the volumes that are left out may hold the newest rows.
        (ignore, 0, 3, false),
        (fail, 0, 3, false),
    ] {
        let (admission, place) = busy(growth).await;
        let start = Instant::now();
        let answer = ask(&admission, &update(&object(from), &object(to))).await;
        assert_eq!(answer["allowed"], allowed, "{from} -> {to}: {answer}");
        // The API server waits for 5 s.
        assert_eq!(start.elapsed(), Duration::from_secs(3));
        let said = if allowed { &answer["warnings"] } else { &answer["status"]["message"] };
        assert!(said.to_string().contains(BUSY), "{answer}");
        let text = admission.metrics.text();
        assert!(text.contains("pgscale_reviews_busy_total 1\n"), "{text}");
        assert!(text.contains("pgscale_reviews_waited_total 1\n"), "{text}");
        // What needs no verdict passes, however busy it is.
        let answer = ask(&admission, &update(&object(5), &object(5))).await;
        assert_eq!((&answer["allowed"], &answer["warnings"]), (&json!(true), &Value::Null));
        // With the place, there is a verdict.
        drop(place);
        let answer = ask(&admission, &update(&object(3), &object(9))).await;
        let message = answer["status"]["message"].to_string();
        assert!(message.contains("above-max"), "{message}");
    }
}

/// Members that are silent keep the large reviews for as long as they may take.
#[tokio::test(start_paused = true)]
async fn small_reviews_are_judged_beside_large_ones_that_wait() {
    let api_server =
        FakeApiServer { policies: vec![policy(&json!({"max": 7}))], ..after_switchover::led_by(0) };
    let admission = Admission { ask: Arc::new(Hanging), ..api_server.admission() };
    let large = |count: i64| {
        let mut large = object(count);
        let variables = (0..780).map(|at| json!({"name": format!("A{at}"), "value": "x"}));
        large["spec"]["env"] = variables.collect();
        large
    };
    let review = update(&large(5), &large(3));
    // Twelve a second.
    let attack = tokio::spawn({
        let admission = admission.clone();
        async move {
            loop {
                let (admission, review) = (admission.clone(), review.clone());
                tokio::spawn(async move { ask(&admission, &review).await });
                sleep(Duration::from_millis(83)).await;
            }
        }
    });
    sleep(Duration::from_secs(4)).await;
    for _ in 0..8 {
        let start = Instant::now();
        let answer = ask(&admission, &update(&object(5), &object(9))).await;
        assert!(answer["status"]["message"].to_string().contains("above-max"), "{answer}");
        let answer = ask(&admission, &update(&object(5), &object(6))).await;
        assert_eq!(answer["allowed"], true, "{answer}");
        assert!(!answer["warnings"].to_string().contains(BUSY), "{answer}");
        assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
        sleep(Duration::from_secs(1)).await;
    }
    attack.abort();
}

/// Bounds that end where the load begins would hold against no tenant that makes the load.
#[tokio::test(start_paused = true)]
async fn growth_above_a_bound_is_refused_however_busy_the_webhook_is() {
    let (admission, _place) = busy(FailurePolicy::Ignore).await;
    for (review, rule) in [
        (update(&object(3), &object(9)), Some("above-max")),
        (update(&object(3), &object(5)), None),
        (create(&object(9)), None),
    ] {
        let start = Instant::now();
        let answer = ask(&admission, &review).await;
        assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
        assert_eq!(answer["allowed"], rule.is_none(), "{answer}");
        match rule {
            Some(rule) => {
                assert_eq!(answer["status"]["details"]["causes"][0]["reason"], rule);
                assert_eq!(answer["auditAnnotations"]["live-state"], "not looked at");
            }
            None => assert!(answer["warnings"].to_string().contains(BUSY), "{answer}"),
        }
    }
    let counted = "pgscale_admission_refused_early_total 1\n";
    assert!(admission.metrics.text().contains(counted), "{}", admission.metrics.text());
}

/// The way through `scale` has the same bound, and an API server that is away changes no deadline.
#[tokio::test(start_paused = true)]
async fn growth_without_a_place_is_answered_in_time_by_what_can_be_read() {
    let mut stored = object(3);
    stored["spec"]["teamId"] = json!("acid");
    for (silent, allowed) in [(false, false), (true, true)] {
        let api_server = FakeApiServer { stored: Some(stored.clone()), silent, ..three_to_seven() };
        let admission = api_server.admission();
        let limits = places(1, Arc::clone(&admission.metrics));
        let _place = limits.place(Instant::now() + Duration::from_secs(60)).await.unwrap();
        let admission = Admission { limits, ..admission };
        let start = Instant::now();
        let reviews = (0..100).map(|_| ask_owned(admission.clone(), scale(Some(3), Some(9))));
        let answers = futures::future::join_all(reviews).await;
        assert!(start.elapsed() < Duration::from_millis(4500), "{:?}", start.elapsed());
        assert!(answers.iter().all(|answer| answer["allowed"] == allowed), "{silent}");
        let requests = api_server.requests.lock().unwrap().len();
        assert!(requests <= 120, "{requests} requests");
    }
}

#[tokio::test(start_paused = true)]
async fn review_that_waits_reads_nothing_and_then_judges() {
    let (admission, place) = busy(FailurePolicy::Ignore).await;
    let waiting = tokio::spawn({
        let admission = admission.clone();
        async move { ask(&admission, &update(&object(3), &object(9))).await }
    });
    sleep(Duration::from_secs(1)).await;
    assert!(admission.metrics.text().contains("pgscale_reviews_waiting 1\n"));
    drop(place);
    let answer = waiting.await.unwrap();
    assert_eq!(answer["allowed"], false);
    assert!(answer["status"]["message"].to_string().contains("above-max"), "{answer}");
    let text = admission.metrics.text();
    assert!(text.contains("pgscale_reviews_in_flight 0\n"), "{text}");
}

/// However many there are, each is answered before its deadline, and no shrink passes unjudged.
#[tokio::test(start_paused = true)]
async fn many_reviews_at_once_are_answered_in_time_and_none_wrongly() {
    let api_server = FakeApiServer { slow: Duration::from_millis(20), ..three_to_seven() };
    let admission = api_server.admission();
    let limits = places(2, Arc::clone(&admission.metrics));
    let admission = Admission { limits, ..admission };
    let start = Instant::now();
    let reviews = (0..200).map(|number| {
        let admission = admission.clone();
        let to = if number % 2 == 0 { 2 } else { 6 };
        tokio::spawn(async move {
            let answer = ask(&admission, &update(&object(5), &object(to))).await;
            (to, answer, start.elapsed())
        })
    });
    let answers = futures::future::join_all(reviews.collect::<Vec<_>>()).await;
    let mut judged = 0;
    for answer in answers {
        let (to, answer, took) = answer.unwrap();
        assert!(took < Duration::from_millis(4600), "{took:?}");
        let text = answer.to_string();
        judged += usize::from(!text.contains(BUSY));
        assert_eq!(answer["allowed"], to == 6, "{answer}");
    }
    // 2 places, 3 s, and 100 ms for each: the API server takes 20 ms, up to five times in a row.
    assert!(judged >= 2 * 3000 / 100 * 4 / 5, "{judged}");
}

#[tokio::test(start_paused = true)]
async fn silent_members_hold_no_place() {
    let api_server = FakeApiServer { pods: vec![running_pod()], ..three_to_seven() };
    let admission = Admission { ask: Arc::new(Hanging), ..api_server.admission() };
    let start = Instant::now();
    let shrinks = (0..64).map(|_| ask_owned(admission.clone(), update(&object(5), &object(3))));
    let answers = futures::future::join_all(shrinks).await;
    assert!(answers.iter().all(|answer| answer["allowed"] == false));
    // 64 reviews, 16 places, and a second for the members of each.
    assert!(start.elapsed() <= Duration::from_millis(1300), "{:?}", start.elapsed());
}

async fn ask_owned(admission: Admission, review: Value) -> Value {
    ask(&admission, &review).await
}

fn running_pod() -> Value {
    json!({"metadata": {"namespace": "db", "name": "acid-a-0",
            "labels": {"application": "spilo", "cluster-name": "acid-a"}},
        "spec": {"containers": [{"name": "postgres"}]},
        "status": {"phase": "Running", "podIP": "10.244.0.10"}})
}

/// Members that never answer.
struct Hanging;

impl MemberClient for Hanging {
    fn exchange<'a>(
        &'a self,
        _: &'a Address,
        _: RestRequest,
    ) -> BoxFuture<'a, Result<RestResponse, String>> {
        Box::pin(futures::future::pending())
    }
}
