//! Credentials that could not be obtained.

use std::fmt;

use pgscale_guard::remedy::Command;

use super::Failure;

/// The reason for which a program gave no credentials, without anything of its stdout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NoCredentials {
    pub(crate) why: String,
    /// The kubeconfig's advice where the program is missing.
    pub(crate) hint: Option<String>,
}

impl fmt::Display for NoCredentials {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.why)
    }
}

impl std::error::Error for NoCredentials {}

impl NoCredentials {
    /// Returns the reason `why`.
    pub(crate) fn new(why: String) -> Self {
        Self { why, hint: None }
    }

    /// Returns the failure of the attempt to `asked`.
    pub(crate) fn failure(&self, asked: &str) -> Failure {
        let failure = Failure::error(format!(
            "failed to {asked}: the credentials could not be obtained: {}",
            self.why
        ));
        let failure = match &self.hint {
            Some(hint) => failure.hint(hint.clone()),
            None => failure,
        };
        failure.hint_to(
            "log in again, or check the user of the context",
            Command::kubectl(["config", "view", "--minify"]),
        )
    }
}
