//! The body of a review: decoded, judged where nothing could be read, and answered.
//!
//! It is a module of the webhook's `admit`, because the way of a review is private there. Only a
//! build with `--cfg fuzzing`, by cargo-fuzz, has it.

use k8s_openapi::jiff::Timestamp;
use pgscale_guard::{Facts, Policies};
use serde_json::Value;

use super::{Decision, Fallback, JudgedChange, Question, Undecodable, evaluate, read, unreadable};

libfuzzer_sys::fuzz_target!(|body: &[u8]| one(body));

fn one(body: &[u8]) {
    let (review, question) = match read(body) {
        // The webhook answers with an HTTP status of 400.
        Err(Undecodable::Request(why)) => return assert!(!why.is_empty()),
        Err(Undecodable::Review { uid, why }) => {
            return check(&uid, &unreadable(uid.clone(), &why).into_review());
        }
        Ok((review, question, _)) => (review, question),
    };
    let unjudged = |why: String| Decision::Unjudged { why, fallback: Fallback::Refuse };
    let decision = match question {
        Ok(Question::Nothing(why)) => Decision::NothingToJudge(why),
        Ok(Question::PastTheOperator(write)) => {
            Decision::Judged(Box::new(JudgedChange::past_the_operator(&write)))
        }
        Ok(Question::Scale(write)) => unjudged(format!("{} is not there", write.name)),
        Ok(Question::Write(change)) => {
            let facts = Facts::unread(*change, Timestamp::UNIX_EPOCH);
            let policies = Policies::default();
            let verdict = evaluate(&facts, &policies);
            Decision::Judged(Box::new(JudgedChange::new(&facts, &policies, verdict)))
        }
        Err(why) => unjudged(why),
    };
    check(&review.uid, &decision.respond(&review).into_review());
}

/// Checks that `answer` is a review that the API server takes, under the uid of the question.
fn check(uid: &str, answer: &impl serde::Serialize) {
    let text = serde_json::to_vec(answer).expect("an answer can be encoded");
    assert!(text.len() < 1 << 20, "an answer of {} bytes", text.len());
    let answer: Value = serde_json::from_slice(&text).expect("an answer is JSON");
    let response = &answer["response"];
    assert!(!uid.is_empty() && response["uid"] == uid, "{answer}");
    let allowed = response["allowed"].as_bool().expect("a verdict");
    assert_eq!(allowed, response["status"]["code"] != 403, "{answer}");
}
