//! In whose name the API server is asked.

use std::sync::Arc;

use axum::http::{HeaderMap, StatusCode, header};
use futures::future::BoxFuture;

use super::problem::Problem;
use crate::connect::Way;
use crate::error::Failure;
use crate::session::{Interruption, Session};
use crate::terminal::Output;

/// The longest token. Tokens of service accounts have about 1 KiB, those of identity providers
/// with many groups some more.
const TOKEN: usize = 16 << 10;

/// The identity of one request.
#[derive(Clone)]
pub(crate) enum Caller {
    /// The person who started this process, by the kubeconfig.
    Own,
    /// The bearer of a token.
    Bearer(Arc<str>),
}

impl Caller {
    /// Returns the caller of a request, where tokens are passed on.
    ///
    /// # Errors
    /// There is no token, or no single one.
    pub(crate) fn of_token(headers: &HeaderMap) -> Result<Self, Problem> {
        let missing = || {
            Problem::new(StatusCode::UNAUTHORIZED, "no bearer token in the request")
                .hint("send Authorization: Bearer TOKEN, a token of the Kubernetes API server")
        };
        let mut all = headers.get_all(header::AUTHORIZATION).iter();
        let (Some(one), None) = (all.next(), all.next()) else { return Err(missing()) };
        let token = one.to_str().ok().and_then(|text| {
            let (scheme, token) = text.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
        });
        match token {
            Some(token) if is_token(token) => Ok(Self::Bearer(token.into())),
            Some(_) | None => Err(missing()),
        }
    }
}

/// Returns whether it may be a token (`b64token`, RFC 6750, section 2.1).
fn is_token(word: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
    !word.is_empty() && word.len() <= TOKEN && word.bytes().all(allowed)
}

/// Opens sessions in the name of callers.
pub(crate) trait Callers: Send + Sync {
    /// Returns a session that speaks to `out`.
    fn session(
        &self,
        caller: Caller,
        out: Arc<Output>,
    ) -> BoxFuture<'static, Result<Session, Failure>>;
}

/// Connects to one API server, for each request again: the warnings of one caller are not shown to
/// another, and a token that was revoked opens nothing.
pub(crate) struct To {
    /// The way to it.
    pub(crate) way: Arc<Way>,
    /// The field manager of writes of the count.
    pub(crate) manager: Option<String>,
}

impl Callers for To {
    fn session(
        &self,
        caller: Caller,
        out: Arc<Output>,
    ) -> BoxFuture<'static, Result<Session, Failure>> {
        let (way, manager) = (Arc::clone(&self.way), self.manager.clone());
        Box::pin(async move {
            let connection = match caller {
                Caller::Own => way.connect().await?,
                Caller::Bearer(token) => way.connect_as(&token).await?,
            };
            let session = Session::new(connection, out, Interruption::default());
            Ok(session.writing_as(manager.as_deref()))
        })
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn only_one_well_formed_token_is_taken() {
        let asked = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::AUTHORIZATION, HeaderValue::from_str(value).unwrap());
            }
            match Caller::of_token(&headers) {
                Ok(Caller::Bearer(token)) => Ok(token.to_string()),
                Ok(Caller::Own) => unreachable!("a token was asked for"),
                Err(problem) => Err(problem.status()),
            }
        };
        let long = format!("Bearer {}", "a".repeat(TOKEN + 1));
        for wrong in [
            &[][..],
            &["Basic YTpi"],
            &["Bearer"],
            &["Bearer "],
            &["Bearer a b"],
            &["Bearer a\tb"],
            &["Bearer a", "Bearer b"],
            &[&long],
        ] {
            assert_eq!(asked(wrong), Err(401), "{wrong:?}");
        }
        assert_eq!(asked(&["bearer eyJ.a_b-c~="]), Ok("eyJ.a_b-c~=".to_owned()));
    }
}
