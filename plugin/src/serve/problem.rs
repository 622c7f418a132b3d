//! The one shape of every refusal and failure: `application/problem+json` (RFC 9457), with the
//! guide's `success` and `message`.

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use pgscale_guard::remedy::{Line, Remedy};
use serde::Serialize;

use super::operations::Link;
use crate::error::{Failure, Kind};
use crate::plan::Plan;

/// A refusal or a failure. Boxed: it is the rare answer of functions that mostly have a small one.
#[derive(Clone, Debug, Serialize)]
#[serde(transparent)]
pub(crate) struct Problem(Box<Parts>);

/// What it says.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(rename = "Problem"))]
#[serde(rename_all = "camelCase")]
pub(crate) struct Parts {
    /// Always `false`.
    success: bool,
    /// The HTTP status in words.
    title: String,
    /// The HTTP status.
    status: u16,
    /// What was asked, and why it was not done.
    message: String,
    /// The rules that refuse the change, each with what it found.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    causes: Vec<Cause>,
    /// What to do next: sentences, and commands that can be pasted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    hints: Vec<String>,
    /// The operation that is in the way.
    #[serde(skip_serializing_if = "Option::is_none")]
    operation: Option<Link>,
    /// Seconds after which the same request may pass. Also in `Retry-After`.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_seconds: Option<u32>,
}

/// A rule that refuses a change.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Cause {
    /// The id of the rule: see docs/rules.md.
    rule: String,
    /// What it found, and its limit.
    message: String,
}

impl Problem {
    /// Returns a problem of `status`.
    pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self(Box::new(Parts {
            success: false,
            title: status.canonical_reason().unwrap_or("Error").to_owned(),
            status: status.as_u16(),
            message: message.into(),
            causes: Vec::new(),
            hints: Vec::new(),
            operation: None,
            retry_after_seconds: None,
        }))
    }

    /// Returns the HTTP status.
    pub(crate) fn status(&self) -> u16 {
        self.0.status
    }

    /// Adds what to do next.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hints.push(hint.into());
        self
    }

    /// Names the operation that is in the way.
    #[must_use]
    pub(crate) fn because_of(mut self, operation: Link) -> Self {
        self.0.operation = Some(operation);
        self
    }

    /// Names the seconds after which the same request may pass.
    #[must_use]
    pub(crate) fn after(mut self, seconds: u32) -> Self {
        self.0.retry_after_seconds = Some(seconds);
        self
    }

    /// Returns a failure with this status.
    pub(crate) fn of(status: StatusCode, failure: &Failure) -> Self {
        let mut problem = Self::new(status, failure.text());
        let lines = failure.hint_lines("").into_iter();
        let lines = lines.map(|(Line::Text(line) | Line::Command(line))| line.trim().to_owned());
        problem.0.hints = lines.filter(|line| !line.is_empty()).collect();
        problem
    }

    /// Returns a failure of a verb. Its kind decides the status, and where it is an error, the API
    /// server's own answer.
    pub(crate) fn of_failure(failure: &Failure) -> Self {
        let status = match failure.kind {
            Kind::Refused => StatusCode::FORBIDDEN,
            Kind::Declined | Kind::Usage => StatusCode::UNPROCESSABLE_ENTITY,
            Kind::Reverted => StatusCode::CONFLICT,
            Kind::Timeout => StatusCode::GATEWAY_TIMEOUT,
            Kind::Interrupted => StatusCode::SERVICE_UNAVAILABLE,
            Kind::Differs | Kind::NotAsPlanned => StatusCode::INTERNAL_SERVER_ERROR,
            Kind::Error => match failure.status {
                Some(401) => StatusCode::UNAUTHORIZED,
                Some(403) => StatusCode::FORBIDDEN,
                Some(404) => StatusCode::NOT_FOUND,
                Some(429) => StatusCode::SERVICE_UNAVAILABLE,
                Some(504) => StatusCode::GATEWAY_TIMEOUT,
                Some(_) | None => StatusCode::BAD_GATEWAY,
            },
        };
        Self::of(status, failure)
    }

    /// Returns the refusal of a plan by rules.
    pub(crate) fn of_plan(plan: &Plan) -> Self {
        let denials: Vec<_> = plan.verdict.denials().collect();
        let rules: Vec<&str> = denials.iter().map(|finding| finding.rule.as_str()).collect();
        let message = format!(
            "postgresql {} stays at {}: {} refused by {}",
            plan.cluster(),
            plan.from,
            plan.to,
            rules.join(", ")
        );
        // Of the next thing to do, the commands alone: its words belong to the screen of a plan.
        let next = plan.next().map(|next| Remedy { note: None, ..next });
        let remedies = plan.ways_out().cloned().chain(next);
        let failure = remedies.fold(Failure::refused(message), Failure::hint);
        let mut problem = Self::of(StatusCode::FORBIDDEN, &failure);
        problem.0.hints.dedup();
        let cause = |it: &&pgscale_guard::verdict::Finding| Cause {
            rule: it.rule.as_str().to_owned(),
            message: it.message.clone(),
        };
        problem.0.causes = denials.iter().map(cause).collect();
        problem
    }

    /// Returns the HTTP status in words.
    pub(crate) fn title(&self) -> &str {
        &self.0.title
    }

    /// Returns what was asked, and why it was not done.
    pub(crate) fn message(&self) -> &str {
        &self.0.message
    }

    /// Returns what to do next.
    pub(crate) fn hints(&self) -> &[String] {
        &self.0.hints
    }

    /// Returns it as an answer.
    pub(crate) fn answer(&self) -> Response<Body> {
        let mut text = serde_json::to_vec(self).unwrap_or_default();
        text.push(b'\n');
        let mut answer = Response::new(Body::from(text));
        *answer.status_mut() =
            StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = answer.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if self.0.status == StatusCode::UNAUTHORIZED.as_u16() {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(seconds) = self.0.retry_after_seconds {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        // For a page that draws it.
        answer.extensions_mut().insert(self.clone());
        answer
    }
}

impl axum::response::IntoResponse for Problem {
    fn into_response(self) -> Response<Body> {
        self.answer()
    }
}
