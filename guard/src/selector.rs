//! Label selectors as the API server understands them (`LabelSelectorAsSelector`).

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

/// Returns whether `labels` match. A missing selector matches everything.
///
/// # Errors
/// As [`selects`].
pub fn matches(
    selector: Option<&LabelSelector>,
    labels: &BTreeMap<String, String>,
) -> Result<bool, String> {
    selector.map_or(Ok(true), |selector| selects(selector, labels))
}

/// Returns whether `labels` match.
///
/// # Errors
/// The selector has an operator that is not known.
pub fn selects(
    selector: &LabelSelector,
    labels: &BTreeMap<String, String>,
) -> Result<bool, String> {
    let mut all =
        selector.match_labels.iter().flatten().all(|(key, value)| labels.get(key) == Some(value));
    for expression in selector.match_expressions.iter().flatten() {
        let values = expression.values.as_deref().unwrap_or(&[]);
        let operator = expression.operator.as_str();
        all &= meets(labels.get(&expression.key), operator, values)
            .ok_or_else(|| format!("a selector has the unknown operator {operator:?}"))?;
    }
    Ok(all)
}

/// Returns whether `value`, which may be missing, meets a requirement (`Requirement.Matches`,
/// apimachinery). A missing value is in no list. `None` for an operator that is none of the four.
pub fn meets(value: Option<&String>, operator: &str, values: &[String]) -> Option<bool> {
    let listed = value.is_some_and(|value| values.contains(value));
    match operator {
        "In" => Some(listed),
        "NotIn" => Some(!listed),
        "Exists" => Some(value.is_some()),
        "DoesNotExist" => Some(value.is_none()),
        _ => None,
    }
}

/// Returns whether it matches all labels, so that they need not be known.
pub fn matches_all(selector: Option<&LabelSelector>) -> bool {
    selector.is_none_or(|selector| {
        selector.match_labels.as_ref().is_none_or(BTreeMap::is_empty)
            && selector.match_expressions.as_ref().is_none_or(Vec::is_empty)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn selectors_match_as_the_api_server_does() {
        let labelled = BTreeMap::from([("env".to_owned(), "prod".to_owned())]);
        let bare = BTreeMap::new();
        for (operator, values, with, without) in [
            ("In", json!(["prod"]), true, false),
            ("NotIn", json!(["prod"]), false, true),
            ("Exists", json!(null), true, false),
            ("DoesNotExist", json!(null), false, true),
        ] {
            let selector: LabelSelector = serde_json::from_value(json!({"matchExpressions": [
                {"key": "env", "operator": operator, "values": values}]}))
            .unwrap();
            assert_eq!(matches(Some(&selector), &labelled), Ok(with), "{operator}");
            assert_eq!(matches(Some(&selector), &bare), Ok(without), "{operator}");
            assert!(!matches_all(Some(&selector)));
        }
        assert_eq!(matches(None, &bare), Ok(true));
        assert!(matches_all(None) && matches_all(Some(&LabelSelector::default())));
        let odd: LabelSelector = serde_json::from_value(
            json!({"matchExpressions": [{"key": "env", "operator": "Near"}]}),
        )
        .unwrap();
        assert!(matches(Some(&odd), &bare).is_err());
    }
}
