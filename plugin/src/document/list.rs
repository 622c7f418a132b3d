//! The documents of looks at several clusters.

use serde::Serialize;
use serde_json::Value;

use super::API_VERSION;
#[cfg(test)]
use super::ScaleVerification;

/// `kind: ScaleVerificationList`: what was found out about several clusters.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(crate) struct ScaleVerificationList {
    #[cfg_attr(test, schemars(extend("const" = API_VERSION)))]
    api_version: &'static str,
    #[cfg_attr(test, schemars(extend("const" = "ScaleVerificationList")))]
    kind: &'static str,
    /// One for each cluster that could be looked at.
    #[cfg_attr(test, schemars(with = "Vec<ScaleVerification<'static>>"))]
    items: Vec<Value>,
}

impl ScaleVerificationList {
    /// Returns the document of several verifications, each a `ScaleVerification`.
    pub(crate) fn of(items: Vec<Value>) -> Self {
        Self { api_version: API_VERSION, kind: "ScaleVerificationList", items }
    }
}
