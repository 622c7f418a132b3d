//! Standbys that commits wait for by `synchronous_standby_names`, where it is set by hand.

use serde_json::Value;

use crate::assessment::Assessment;
use crate::evidence::Evidence;
use crate::facts::{Facts, Live};
use crate::object_ref::ObjectRef;
use crate::patroni::{SyncNames, Synchronous};
use crate::postgresql::ordinal;
use crate::remedy::Remedy;
use crate::rule_id::RuleId;
use crate::rules::{set_to, still_down};
use crate::verdict::Finding;

/// The parameter with the names.
const NAMES: &str = "synchronous_standby_names";
/// The parameter that makes commits wait, or not.
const COMMIT: &str = "synchronous_commit";

/// Returns a parameter of PostgreSQL as the cluster runs by it and as its manifest has it, each with
/// its place.
///
/// The operator writes parameters of the manifest into Patroni's configuration
/// (`checkAndSetGlobalPostgreSQLConfiguration`, pkg/cluster/sync.go).
pub(in crate::rules) fn parameter(facts: &Facts, name: &str) -> Vec<(ObjectRef, String, String)> {
    let live = facts.configuration.known().map(|configuration| &*configuration.document);
    let live = live.map(|document| {
        let field = format!("postgresql.parameters.{name}");
        (facts.patroni_source("config"), field, document)
    });
    let spec = &facts.change.new.spec;
    let declared = (facts.postgresql_source(), format!("spec.postgresql.parameters.{name}"), spec);
    let places = live.into_iter().chain([declared]);
    places
        .filter_map(|(source, field, document)| {
            let value = document.pointer("/postgresql/parameters")?.get(name)?;
            let text = match value {
                Value::String(text) => text.clone(),
                Value::Bool(_) | Value::Number(_) => value.to_string(),
                Value::Null | Value::Array(_) | Value::Object(_) => return None,
            };
            Some((source, field, text))
        })
        .collect()
}

/// Returns the finding that fewer standbys would be kept than commits wait for.
pub(super) fn missing(facts: &Assessment<'_>) -> Option<Finding> {
    // While Patroni chooses the standbys itself, it takes no names of others.
    let by_patroni =
        facts.configuration.known().is_some_and(|it| it.synchrony() != Synchronous::Off);
    let commit = parameter(facts, COMMIT);
    // The word that the cluster runs by comes first.
    let waits = commit.first().is_none_or(|(_, _, word)| !is_off(word));
    if by_patroni || !waits {
        return None;
    }
    let to = facts.to();
    let (source, field, text, wanted) =
        parameter(facts, NAMES).into_iter().find_map(|(source, field, text)| {
            let wanted = SyncNames::of(&text)?;
            let missing = standbys(facts, &wanted, to) < wanted.count;
            let there = facts.from().filter(|from| *from > 0);
            let already = there.is_some_and(|from| standbys(facts, &wanted, from) < wanted.count);
            (missing && !already).then_some((source, field, text, wanted))
        })?;
    let left = standbys(facts, &wanted, to);
    let message = format!(
        "commits of {} wait for {} of the standbys that {NAMES} names, and {left} of them would be \
         kept: every commit would hang",
        facts.change.cluster(),
        wanted.count
    );
    let finding = Finding::deny(RuleId::STRICT_SYNC_FLOOR, message).because(source, &field, text);
    let note = Remedy::note(format!("take them out of {NAMES} first"));
    let from = facts.from().unwrap_or(to);
    let enough = (to..=from.min(to.saturating_add(SEARCHED)))
        .find(|count| standbys(facts, &wanted, *count) >= wanted.count);
    Some(finding.remedy(match enough {
        Some(count) if still_down(facts, count).is_some() => {
            note.and(set_to(facts, "or keep more", count))
        }
        Some(_) | None => note,
    }))
}

/// The most counts that are tried.
const SEARCHED: i64 = 64;

/// Returns the standbys that commits may wait for, if `count` instances run: the members that the
/// names include, the leader left out, and receivers that are no members.
fn standbys(facts: &Facts, wanted: &SyncNames, count: i64) -> u64 {
    let cluster = &facts.change.new.name;
    let any = wanted.names.iter().any(|name| name == "*");
    let leader = facts.leader_member().map(|leader| leader.ordinal).filter(|it| *it < count);
    let members = if any {
        // One of them leads.
        count.saturating_sub(1)
    } else {
        let named = wanted.names.iter().filter_map(|name| ordinal(cluster, name));
        let kept = named.filter(|it| *it < count && Some(*it) != leader);
        let kept = i64::try_from(kept.count()).unwrap_or(i64::MAX);
        // Where it is open which of them leads, it may be one that is not named.
        kept.min(count.saturating_sub(1))
    };
    let members = u64::try_from(members).unwrap_or(0);
    let listed = facts.leader_member().map(|leader| &leader.live);
    let listed = match listed {
        Some(Live::Answered(answer)) => answer.replication.as_slice(),
        Some(Live::NotAsked | Live::Silent(_)) | None => &[],
    };
    let others =
        listed.iter().filter(|it| ordinal(cluster, &it.name).is_none() && wanted.counts(&it.name));
    members.saturating_add(others.count() as u64)
}

fn is_off(word: &str) -> bool {
    ["off", "local", "false", "no", "0"].iter().any(|off| word.eq_ignore_ascii_case(off))
}

/// Returns the parameters as they stand, and the receivers that are no members.
pub(in crate::rules) fn looked_at(facts: &Facts) -> Vec<Evidence> {
    let mut all = Vec::new();
    for name in [NAMES, COMMIT] {
        let found = parameter(facts, name);
        if found.is_empty() {
            all.push(Evidence::new(facts.patroni_source("config"), name, "unset"));
        }
        all.extend(
            found.into_iter().map(|(source, field, text)| Evidence::new(source, &field, text)),
        );
    }
    all
}
