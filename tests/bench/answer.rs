//! A question with its right answer, and what came back.

use http::StatusCode;
use serde_json::Value;

use crate::https::{Call, Https, Reply};

/// The id that the webhook gives an answer without a verdict (`webhook/src/admit/decision.rs`).
const CANNOT_BE_JUDGED: &str = "cannot-be-judged";

/// A write to send, and the right answer.
#[derive(Clone, Debug)]
pub(crate) struct Shot {
    /// The request.
    pub(crate) call: Call,
    /// The right answer.
    pub(crate) right: Right,
}

/// The right answer to a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Right {
    /// The write passes.
    Allowed,
    /// The write is refused by this rule. Empty for a server that names no rules.
    Refused(&'static str),
    /// Any verdict is right.
    Any,
}

/// The answer to a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The write passes.
    Allowed,
    /// The write is refused, by these rules.
    Refused(Vec<String>),
    /// The webhook reached no verdict, and the write passes or not.
    Unjudged {
        /// Whether the write passes.
        passes: bool,
    },
    /// No answer, or one that is none about the write.
    Failed(String),
}

/// An answer beside the right one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Grade {
    /// It is the right answer.
    Right,
    /// It is no verdict, and the write does not pass where it must not.
    Unjudged,
    /// It is a wrong verdict that refuses.
    WrongRefusal,
    /// It lets a write pass that must be refused.
    WrongAllow,
    /// It is no answer.
    Failed,
}

/// A server that answers writes.
pub(crate) enum Target {
    /// The API server: a write comes back stored or refused.
    ApiServer(Https),
    /// A webhook: a review comes back.
    Webhook(Https),
}

impl Target {
    /// Sends a write. Its answer is decoded by [`Self::answer`].
    pub(crate) async fn send(&self, shot: &Shot) -> Result<Reply, String> {
        let (Self::ApiServer(https) | Self::Webhook(https)) = self;
        https.send(&shot.call).await.map_err(|error| format!("{error:#}"))
    }

    /// Decodes an answer.
    pub(crate) fn answer(&self, reply: Result<Reply, String>) -> Answer {
        let reply = match reply {
            Ok(reply) => reply,
            Err(why) => return Answer::Failed(why),
        };
        match self {
            Self::ApiServer(_) => of_api_server(&reply),
            Self::Webhook(_) => of_webhook(&reply),
        }
    }

    /// Sends a write and returns its answer.
    pub(crate) async fn ask(&self, shot: &Shot) -> Answer {
        self.answer(self.send(shot).await)
    }
}

fn of_api_server(Reply { status, warnings, body }: &Reply) -> Answer {
    if status.is_success() {
        let unjudged = warnings.iter().any(|warning| warning.contains(CANNOT_BE_JUDGED));
        return if unjudged { Answer::Unjudged { passes: true } } else { Answer::Allowed };
    }
    let text = || format!("{status}: {}", String::from_utf8_lossy(body));
    match (*status, serde_json::from_slice::<Value>(body)) {
        (StatusCode::FORBIDDEN | StatusCode::UNPROCESSABLE_ENTITY, Ok(status)) => refused(&status),
        _ => Answer::Failed(text()),
    }
}

fn of_webhook(Reply { status, body, .. }: &Reply) -> Answer {
    let review: Value = match serde_json::from_slice(body) {
        Ok(review) if status.is_success() => review,
        _ => return Answer::Failed(format!("{status}: {}", String::from_utf8_lossy(body))),
    };
    match review.pointer("/response/allowed").and_then(Value::as_bool) {
        None => Answer::Failed(format!("no review: {review}")),
        Some(true) => {
            let warnings = review.pointer("/response/warnings").and_then(Value::as_array);
            let mut warnings = warnings.into_iter().flatten().filter_map(Value::as_str);
            if warnings.any(|warning| warning.contains(CANNOT_BE_JUDGED)) {
                Answer::Unjudged { passes: true }
            } else {
                Answer::Allowed
            }
        }
        Some(false) => refused(review.pointer("/response/status").unwrap_or(&Value::Null)),
    }
}

/// Returns the refusal that a `Status` describes.
fn refused(status: &Value) -> Answer {
    let causes = status.pointer("/details/causes").and_then(Value::as_array);
    let reasons = causes.into_iter().flatten().filter_map(|cause| cause.get("reason")?.as_str());
    let rules: Vec<_> = reasons.map(str::to_owned).collect();
    if rules.iter().any(|rule| rule == CANNOT_BE_JUDGED) {
        return Answer::Unjudged { passes: false };
    }
    Answer::Refused(rules)
}

impl Right {
    /// Compares an answer with the right one.
    pub(crate) fn grade(self, answer: &Answer) -> Grade {
        match (self, answer) {
            (_, Answer::Failed(_)) => Grade::Failed,
            (Self::Refused(_), Answer::Allowed | Answer::Unjudged { passes: true }) => {
                Grade::WrongAllow
            }
            (_, Answer::Unjudged { .. }) => Grade::Unjudged,
            (Self::Allowed | Self::Any, Answer::Allowed) | (Self::Any, Answer::Refused(_)) => {
                Grade::Right
            }
            (Self::Refused(rule), Answer::Refused(rules)) => {
                let named = rule.is_empty() || rules.iter().any(|found| found == rule);
                if named { Grade::Right } else { Grade::WrongRefusal }
            }
            (Self::Allowed, Answer::Refused(_)) => Grade::WrongRefusal,
        }
    }
}

#[cfg(test)]
mod tests {
    use hyper::body::Bytes;
    use serde_json::json;

    use super::*;

    fn reply(status: u16, warnings: &[&str], body: &Value) -> Reply {
        Reply {
            status: StatusCode::from_u16(status).unwrap(),
            warnings: warnings.iter().map(ToString::to_string).collect(),
            body: Bytes::from(body.to_string()),
        }
    }

    #[test]
    fn write_that_passes_without_a_verdict_is_no_verdict() {
        let stored = json!({"kind": "postgresql"});
        let warning = r#"299 - "cannot-be-judged: pgscale let the change pass""#;
        assert_eq!(of_api_server(&reply(200, &[], &stored)), Answer::Allowed);
        let unjudged = Answer::Unjudged { passes: true };
        assert_eq!(of_api_server(&reply(200, &[warning], &stored)), unjudged);
        let review = |response| reply(200, &[], &json!({ "response": response }));
        assert_eq!(of_webhook(&review(json!({"allowed": true}))), Answer::Allowed);
        let warned = json!({"allowed": true, "warnings": ["cannot-be-judged: busy"]});
        assert_eq!(of_webhook(&review(warned)), unjudged);
        let cause = |rule| json!({"details": {"causes": [{"reason": rule}]}});
        let refused = |rule| json!({"allowed": false, "status": cause(rule)});
        let unjudged = Answer::Unjudged { passes: false };
        assert_eq!(of_webhook(&review(refused("cannot-be-judged"))), unjudged);
        let by_rule = Answer::Refused(vec!["above-max".into()]);
        assert_eq!(of_webhook(&review(refused("above-max"))), by_rule);
        assert_eq!(of_api_server(&reply(403, &[], &cause("above-max"))), by_rule);
        let failed = of_api_server(&reply(500, &[], &json!({"message": "failed calling webhook"})));
        assert!(matches!(failed, Answer::Failed(why) if why.contains("failed calling")));
    }

    #[test]
    fn write_that_must_be_refused_and_passes_is_a_wrong_allow() {
        let by = |rule: &str| Answer::Refused(vec![rule.into()]);
        let refused = Right::Refused("leader-condemned");
        for (right, answer, grade) in [
            (refused, Answer::Allowed, Grade::WrongAllow),
            (refused, Answer::Unjudged { passes: true }, Grade::WrongAllow),
            (refused, Answer::Unjudged { passes: false }, Grade::Unjudged),
            (refused, by("leader-condemned"), Grade::Right),
            (refused, by("paused"), Grade::WrongRefusal),
            (Right::Refused(""), by("any"), Grade::Right),
            (Right::Allowed, Answer::Allowed, Grade::Right),
            (Right::Allowed, by("paused"), Grade::WrongRefusal),
            (Right::Allowed, Answer::Unjudged { passes: true }, Grade::Unjudged),
            (Right::Any, by("paused"), Grade::Right),
            (Right::Any, Answer::Unjudged { passes: false }, Grade::Unjudged),
            (Right::Any, Answer::Failed(String::new()), Grade::Failed),
        ] {
            assert_eq!(right.grade(&answer), grade, "{right:?} {answer:?}");
        }
    }
}
