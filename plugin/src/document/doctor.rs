//! The document of `doctor`.

use serde::Serialize;

use super::API_VERSION;
use crate::doctor::{Diagnosis, Finding, Verdict};

/// `kind: GuardDiagnosis`.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(crate) struct GuardDiagnosis<'a> {
    #[cfg_attr(test, schemars(extend("const" = API_VERSION)))]
    api_version: &'static str,
    #[cfg_attr(test, schemars(extend("const" = "GuardDiagnosis")))]
    kind: &'static str,
    verdict: Verdict,
    /// What became of the canary, in one sentence.
    canary: &'a str,
    /// The heaviest first.
    findings: &'a [Finding],
}

impl<'a> GuardDiagnosis<'a> {
    /// Returns the document of a diagnosis.
    pub(crate) fn of(diagnosis: &'a Diagnosis) -> Self {
        Self {
            api_version: API_VERSION,
            kind: "GuardDiagnosis",
            verdict: diagnosis.verdict(),
            canary: &diagnosis.canary,
            findings: &diagnosis.findings,
        }
    }
}
