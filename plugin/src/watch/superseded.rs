//! The check that the goal of a wait still holds.

use pgscale_guard::postgresql::Postgresql;

use super::Goal;
use crate::error::{Failure, Kind};

/// Returns the failure where another writer than the field manager `own`, or a deletion, has made
/// the goal void.
pub(super) fn superseded(goal: &Goal, cluster: &Postgresql, own: &str) -> Option<Failure> {
    let name = format!("postgresql {}/{}", goal.namespace, goal.name);
    if cluster.uid != goal.uid {
        let what = format!("{name} was deleted and created again meanwhile");
        return Some(Failure::new(Kind::NotAsPlanned, what));
    }
    if cluster.terminating {
        return Some(Failure::new(Kind::NotAsPlanned, format!("{name} is being deleted")));
    }
    if cluster.instances == Some(goal.count) {
        return None;
    }
    let latest = cluster
        .count_managers
        .iter()
        .filter(|(manager, ..)| manager != own)
        .max_by_key(|(.., time)| *time);
    let by = latest.map_or("another writer", |(manager, ..)| manager.as_str());
    let count = cluster.instances.map_or("nothing".to_owned(), |count| count.to_string());
    let verb = if cluster.instances == goal.before { "set back" } else { "changed" };
    Some(
        Failure::new(
            Kind::Reverted,
            format!(
                "numberOfInstances of {name} was {verb} to {count} by {by}; {} was asked for",
                goal.count
            ),
        )
        .hint(format!(
            "change it where {by} takes it from: spec.numberOfInstances: {}",
            goal.count
        )),
    )
}
