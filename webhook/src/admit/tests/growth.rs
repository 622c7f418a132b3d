//! Growth that cannot be judged, under either `growFailurePolicy` of the installation.

use super::super::testing::stateful_set;
use super::*;

#[tokio::test]
async fn growth_that_cannot_be_judged_in_time_is_refused_where_the_installation_fails_closed() {
    let nine = |from| update(&object(from), &object(9));
    let by_scale = || scale(Some(3), Some(9));
    tokio::time::pause();
    for growth in [FailurePolicy::Ignore, FailurePolicy::Fail] {
        // One answer comes after the API server stopped waiting, the other never.
        for (slow, silent) in [(Duration::from_secs(6), false), (Duration::ZERO, true)] {
            let api_server = FakeApiServer { silent, slow, growth, ..three_to_seven() };
            let admission = api_server.admission();
            for (way, review) in [
                ("growth", nine(3)),
                ("a scale", by_scale()),
                ("a new cluster", create(&object(9))),
            ] {
                let started = Instant::now();
                let answer = ask(&admission, &review).await;
                assert!(started.elapsed() < Duration::from_secs(5), "{way}: in time");
                assert_eq!(answer["allowed"], growth == FailurePolicy::Ignore, "{way}: {answer}");
                let message = answer["status"]["message"].as_str().unwrap_or_default();
                let said = message.contains("growFailurePolicy: Fail");
                assert_eq!(said, growth == FailurePolicy::Fail, "{way}: {answer}");
                assert_eq!(answer["warnings"].is_array(), growth == FailurePolicy::Ignore, "{way}");
            }
            let shrink = ask(&admission, &update(&object(5), &object(2))).await;
            assert_eq!(shrink["allowed"], false);
            // A write of a StatefulSet passes under either choice.
            for by_scale in [false, true] {
                let answer = ask(&admission, &stateful_set(3, 5, by_scale)).await;
                assert_eq!(answer["allowed"], true, "{answer}");
            }
        }
    }
}

#[tokio::test]
async fn return_from_zero_that_cannot_be_judged_in_time_is_refused_whatever_the_installation_says()
{
    tokio::time::pause();
    for growth in [FailurePolicy::Ignore, FailurePolicy::Fail] {
        for (slow, silent) in [(Duration::from_secs(6), false), (Duration::ZERO, true)] {
            let admission = FakeApiServer { silent, slow, growth, ..three_to_seven() }.admission();
            for (way, review) in [
                ("an update", update(&object(0), &object(3))),
                ("a scale", scale(Some(0), Some(3))),
                ("a scale of an omitted count", scale(None, Some(3))),
            ] {
                let started = Instant::now();
                let answer = ask(&admission, &review).await;
                assert!(started.elapsed() < Duration::from_secs(5), "{way}: in time");
                assert_eq!(answer["allowed"], false, "{way}: {answer}");
            }
        }
    }
}

#[tokio::test]
async fn growth_on_an_unknown_fact_is_refused_where_the_installation_fails_closed() {
    // The members do not answer, and there is no operator.
    let member = json!({
        "metadata": {"namespace": "db", "name": "acid-a-0",
            "labels": {"cluster-name": "acid-a", "application": "spilo", "spilo-role": "master"}},
        "spec": {"containers": [{"name": "postgres"}], "nodeName": "n"},
        "status": {"phase": "Running", "podIP": "10.0.0.1"},
    });
    let growth = update(&object(3), &object(5));
    let api_server = FakeApiServer { pods: vec![member], ..three_to_seven() };
    let lenient = ask(&api_server.admission(), &growth).await;
    assert_eq!(lenient["allowed"], true, "{lenient}");
    let strict = FakeApiServer { growth: FailurePolicy::Fail, ..api_server };
    let refused = ask(&strict.admission(), &growth).await;
    assert_eq!(refused["allowed"], false, "{refused}");
    let message = refused["status"]["message"].as_str().unwrap();
    assert!(message.contains("(this installation says growFailurePolicy: Fail)"), "{message}");
    // Growth with every fact known is judged alike under either choice.
    let known = FakeApiServer { growth: FailurePolicy::Fail, ..three_to_seven() }.admission();
    let over = ask(&known, &update(&object(3), &object(9))).await;
    assert!(over["auditAnnotations"]["rules"].as_str().unwrap().contains("above-max=deny"));
}
