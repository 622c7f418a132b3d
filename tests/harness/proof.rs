//! The proof: what tests assert in every run, and what the program `prove` also records.
//!
//! A [`stages::Stage`] is a state in which a change of the count may do harm. The end-to-end tests
//! run `kubectl pgscale` on it. `prove` also lets the operator alone make the change, and shows the
//! answer of the webhook to a plain edit.

pub mod admission;
pub mod floor;
pub mod random_walk;
pub mod stages;
pub mod with_plugin;

use std::fmt;

use anyhow::{Context as _, Result};
use serde_json::{Map, Value, json};

use crate::cluster::{Cluster, TIMEOUT};
use crate::wait::{Attempt, until};
use crate::writing::Record;

/// The outcome of a change.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// A description in words.
    pub what: String,
    /// The writer's rows.
    pub record: Record,
}

impl fmt::Display for Outcome {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Record { acknowledged, missing, longest_gap } = self.record;
        let emphasis = if missing > 0 { "**" } else { "" };
        write!(
            out,
            "{} | {emphasis}{missing} of {acknowledged}{emphasis} | {:.1} s",
            self.what,
            longest_gap.as_secs_f64()
        )
    }
}

/// Returns the answer of the webhook to a plain edit of the count, without making the edit.
///
/// # Errors
/// Fails when the webhook gives no verdict.
pub async fn answered(cluster: &Cluster, to: u32) -> Result<String> {
    let patch = json!({"spec": {"numberOfInstances": to}}).to_string();
    let dry =
        ["patch", "postgresql", &cluster.name, "--type=merge", "--dry-run=server", "-p", &patch];
    until(&format!("a verdict on {to}"), TIMEOUT, async || {
        let said = cluster.kubectl(&dry).await?;
        let rules = denied(&said.stderr);
        Ok(if said.code == Some(0) {
            Attempt::Done("admitted".to_owned())
        } else if rules.is_empty() {
            Attempt::NotYet(format!("{said:?}"))
        } else {
            Attempt::Done(format!("refused by {}", rules.join(", ")))
        })
    })
    .await
}

/// Pauses Patroni, or resumes it, in its kept configuration: no member runs that `patronictl pause`
/// could ask.
///
/// # Errors
/// Fails when the cluster has no such configuration, or it cannot be written.
pub async fn pause_kept(cluster: &Cluster, pause: Option<bool>) -> Result<()> {
    let config = format!("{}-config", cluster.name);
    let get = ["get", "endpoints", &config, "--output=jsonpath={.metadata.annotations.config}"];
    let kept = cluster.kubectl(&get).await?.ok()?;
    let mut settings: Map<String, Value> =
        serde_json::from_str(&kept).with_context(|| format!("not Patroni's settings: {kept}"))?;
    settings.insert("pause".to_owned(), json!(pause));
    let settings = format!("config={}", Value::Object(settings));
    let annotate = ["annotate", "endpoints", &config, "--overwrite", &settings];
    cluster.kubectl(&annotate).await?.ok().map(drop)
}

/// Returns the rules that a refusal names: those of each line that begins with `- RULE: `, or with
/// `- RULE, RULE: ` where several rules say the same.
fn denied(refusal: &str) -> Vec<&str> {
    let lines = refusal.lines().filter_map(|line| line.strip_prefix("- "));
    let rules = lines.filter_map(|line| line.split_once(": "));
    let rules = rules.flat_map(|(rules, _)| rules.split(", "));
    rules.filter(|rule| rule.bytes().all(|b| b.is_ascii_lowercase() || b == b'-')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rules_of_a_refusal_are_those_at_the_beginning_of_lines() {
        let refusal = "pgscale refuses 5 to 2:\n- leader-condemned: acid-a-4 would go\n  - seen: \
                       Pod/acid-a-4\n- too-few-healthy-survivors, paused: none\n- Try: nothing\n";
        assert_eq!(denied(refusal), ["leader-condemned", "too-few-healthy-survivors", "paused"]);
    }
}
