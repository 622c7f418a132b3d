//! The documents about the program itself: its version, and its rules.

use pgscale_guard::rules::Rule;
use serde::Serialize;

use super::API_VERSION;

/// `kind: Version`.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(crate) struct Program {
    #[cfg_attr(test, schemars(extend("const" = API_VERSION)))]
    api_version: &'static str,
    #[cfg_attr(test, schemars(extend("const" = "Version")))]
    kind: &'static str,
    client: &'static str,
}

impl Program {
    /// Returns the document of the version `client` of this program.
    pub(crate) fn of(client: &'static str) -> Self {
        Self { api_version: API_VERSION, kind: "Version", client }
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
