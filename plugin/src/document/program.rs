//! The documents about the program itself: its version, and its rules.

use pgscale_guard::rules::Rule;
use serde::Serialize;

use super::API_VERSION;
use crate::versions::Part;

/// `kind: Version`.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(crate) struct Program<'a> {
    #[cfg_attr(test, schemars(extend("const" = API_VERSION)))]
    api_version: &'static str,
    #[cfg_attr(test, schemars(extend("const" = "Version")))]
    kind: &'static str,
    client: &'static str,
    /// Everything else. Empty where no API server was asked.
    parts: &'a [Part],
    /// What does not fit together.
    skews: &'a [String],
}

impl<'a> Program<'a> {
    /// Returns the document of the version `client` of this program, and of the other parts.
    pub(crate) fn of(client: &'static str, parts: &'a [Part], skews: &'a [String]) -> Self {
        Self { api_version: API_VERSION, kind: "Version", client, parts, skews }
    }
}

/// `kind: RuleList`.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(crate) struct RuleList<'a> {
    #[cfg_attr(test, schemars(extend("const" = API_VERSION)))]
    api_version: &'static str,
    #[cfg_attr(test, schemars(extend("const" = "RuleList")))]
    kind: &'static str,
    items: Vec<RulePage<'a>>,
}

/// One rule with its page.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
struct RulePage<'a> {
    id: &'a str,
    title: &'a str,
    fires_on: String,
    default: &'a str,
    page: &'a str,
}

impl<'a> RuleList<'a> {
    /// Returns the document of these rules.
    pub(crate) fn of(rules: &[&'a Rule]) -> Self {
        let page = |rule: &&'a Rule| RulePage {
            id: rule.id.as_str(),
            title: rule.title,
            fires_on: rule.applies.to_string(),
            default: rule.default,
            page: rule.page,
        };
        let items = rules.iter().map(page).collect();
        Self { api_version: API_VERSION, kind: "RuleList", items }
    }
}
