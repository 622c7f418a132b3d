//! The body of a request for another count.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, StatusCode, header};
use serde_json::{Map, Value};
use tokio::time::timeout;

use super::names::Place;
use super::problem::Problem;
use crate::args;
use crate::plan::PlanHash;

/// The most bytes of a body. The largest well-formed one has less than a tenth.
pub(crate) const MOST: usize = 16 << 10;
/// The time for a whole body.
const PATIENCE: Duration = Duration::from_secs(5);

/// The guide's answer where there is no count.
pub(crate) const NO_COUNT: &str = "Valid replicas count is required";

/// Instances that are asked for, and the manner.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(rename_all = "camelCase", deny_unknown_fields))]
pub(crate) struct Ask {
    /// Instances to run. 0 ends the service, and needs `confirm`.
    #[cfg_attr(test, schemars(range(min = 0, max = 2_147_483_647)))]
    pub(crate) replicas: i64,
    /// The hash of the plan that was looked at. Another plan by now ends with 409.
    #[cfg_attr(test, schemars(with = "Option<String>", default, extend("pattern" = "^[0-9a-f]{16}$")))]
    pub(crate) expect_plan: Option<PlanHash>,
    /// The reason, for the history and the Event.
    #[cfg_attr(test, schemars(default, length(min = 1, max = 500)))]
    pub(crate) reason: Option<String>,
    /// `NAMESPACE/NAME`, to confirm a change to 0.
    #[cfg_attr(test, schemars(default))]
    pub(crate) confirm: Option<String>,
}

/// Reads a body that is bounded in bytes and in time.
///
/// # Errors
/// 408, 413 or 415.
pub(crate) async fn read(headers: &HeaderMap, body: Body) -> Result<Vec<u8>, Problem> {
    let json =
        headers.get(header::CONTENT_TYPE).and_then(|it| it.to_str().ok()).is_some_and(|it| {
            let kind = it.split(';').next().unwrap_or_default().trim();
            kind.eq_ignore_ascii_case("application/json")
                || kind.eq_ignore_ascii_case("application/merge-patch+json")
        });
    if !json {
        return Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "the body must be application/json",
        )
        .hint("add -H 'Content-Type: application/json'"));
    }
    match timeout(PATIENCE, axum::body::to_bytes(body, MOST)).await {
        Ok(Ok(bytes)) => Ok(bytes.to_vec()),
        Ok(Err(_)) => Err(Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("the body is not read: it ended early, or has more than {MOST} bytes"),
        )),
        Err(_) => Err(Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            format!("the body did not come within {} s", PATIENCE.as_secs()),
        )),
    }
}

/// Reads the body of a request for another count of the cluster at `place`.
///
/// # Errors
/// 400 where there is no count, 422 where something else is not as it should be.
pub(crate) fn ask(bytes: &[u8], place: &Place) -> Result<Ask, Problem> {
    let bad = |message: String| Problem::new(StatusCode::BAD_REQUEST, message);
    let mut fields: Map<String, Value> = match serde_json::from_slice(bytes) {
        Ok(Value::Object(fields)) => fields,
        Ok(_) => return Err(bad(NO_COUNT.to_owned()).hint("send an object: {\"replicas\": 5}")),
        Err(error) => return Err(bad(format!("the body is not JSON: {error}"))),
    };
    let no_count = |why: String| bad(NO_COUNT.to_owned()).hint(why);
    let replicas = match fields.remove("replicas") {
        None => return Err(no_count("replicas is missing: {\"replicas\": 5}".to_owned())),
        Some(value) => {
            value.as_i64().filter(|count| (0..=i64::from(i32::MAX)).contains(count)).ok_or_else(
                || no_count(format!("replicas is {value}, and not a whole number of 1 or more")),
            )?
        }
    };
    let wrong = |field: &str, why: String| {
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, format!("{field}: {why}"))
    };
    let mut text = |field: &str| match fields.remove(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(wrong(field, "it is not a text".to_owned())),
    };
    let expect_plan = text("expectPlan")?;
    let (reason, confirm) = (text("reason")?, text("confirm")?);
    if let Some(field) = fields.keys().next() {
        return Err(wrong(field, "unknown field".to_owned())
            .hint("known are replicas, expectPlan, reason and confirm"));
    }
    let ask = Ask {
        replicas,
        expect_plan: expect_plan
            .map(|hash| PlanHash::read(&hash))
            .transpose()
            .map_err(|why| wrong("expectPlan", why))?,
        reason: reason
            .map(|reason| args::reason(&reason))
            .transpose()
            .map_err(|why| wrong("reason", why))?,
        confirm,
    };
    let cluster = format!("{}/{}", place.namespace, place.name);
    if ask.replicas == 0 && ask.confirm.as_deref() != Some(&cluster) {
        return Err(no_count(format!(
            "0 ends the service: add \"confirm\": \"{cluster}\" to mean it"
        )));
    }
    Ok(ask)
}

impl Ask {
    /// Returns the command line that does what is asked.
    pub(crate) fn words(&self, name: &str) -> Vec<String> {
        let mut words: Vec<String> =
            ["set", name, &self.replicas.to_string(), "--yes", "-o", "json"]
                .map(str::to_owned)
                .into();
        let mut flag = |flag: &str, value: Option<String>| {
            words.extend(value.map(|value| format!("{flag}={value}")));
        };
        flag("--expect-plan", self.expect_plan.as_ref().map(ToString::to_string));
        flag("--reason", self.reason.clone());
        flag("--confirm", self.confirm.clone().filter(|_| self.replicas == 0));
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> Place {
        Place { namespace: "db".to_owned(), name: "acid-a".to_owned() }
    }

    #[test]
    fn only_a_count_in_an_object_is_taken() {
        let long = format!("{{\"replicas\":5,\"reason\":\"{}\"}}", "x".repeat(501));
        for (body, status, part) in [
            ("", 400, "not JSON"),
            ("{", 400, "not JSON"),
            ("5", 400, NO_COUNT),
            ("[]", 400, NO_COUNT),
            ("null", 400, NO_COUNT),
            ("{}", 400, NO_COUNT),
            ("{\"replicas\": null}", 400, NO_COUNT),
            ("{\"replicas\": \"5\"}", 400, NO_COUNT),
            ("{\"replicas\": 5.5}", 400, NO_COUNT),
            ("{\"replicas\": -1}", 400, NO_COUNT),
            ("{\"replicas\": 0}", 400, NO_COUNT),
            ("{\"replicas\": 0, \"confirm\": \"acid-a\"}", 400, NO_COUNT),
            ("{\"replicas\": 2147483648}", 400, NO_COUNT),
            ("{\"replicas\": 100000000000000000000}", 400, NO_COUNT),
            ("{\"replicas\": true}", 400, NO_COUNT),
            ("{\"replicas\": 5, \"force\": true}", 422, "force: unknown field"),
            ("{\"replicas\": 5, \"expectPlan\": \"x\"}", 422, "expectPlan"),
            ("{\"replicas\": 5, \"expectPlan\": 7}", 422, "not a text"),
            ("{\"replicas\": 5, \"reason\": \" \"}", 422, "reason"),
            (&long, 422, "reason"),
        ] {
            let problem = ask(body.as_bytes(), &place()).unwrap_err();
            let text = serde_json::to_string(&problem).unwrap();
            assert_eq!(problem.status(), status, "{body} -> {text}");
            assert!(text.contains(part), "{body} -> {text}");
        }
    }

    #[test]
    fn words_of_a_caller_cannot_become_flags() {
        let body = br#"{"replicas": 0, "reason": "--force\n-n other", "confirm": "db/acid-a"}"#;
        let words = ask(body, &place()).unwrap().words("acid-a");
        assert_eq!(
            words.join("|"),
            "set|acid-a|0|--yes|-o|json|--reason=--force -n other|--confirm=db/acid-a"
        );
        assert!(super::super::verbs::command(words).is_ok());
    }
}
