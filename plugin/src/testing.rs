//! Facts for pure tests, and a cluster in memory for the rest: an API server and members that exist
//! only here.

use pgscale_guard::capacity::Template;
use pgscale_guard::facts::{Facts, Live, Member};
use pgscale_guard::policy::ScalePolicy;
use pgscale_guard::postgresql::Postgresql;
use pgscale_guard::testing::healthy;
pub(crate) use pgscale_guard::testing::{answer, now, report};
use pgscale_guard::{Change, Policies, Seen};
use serde_json::{Value, json};

pub(crate) mod browser;
mod growth;
mod with_resources;
mod world;

pub(crate) use growth::Stage;
pub(crate) use world::{HANGS, Mishap, World, give, run};

/// Returns a healthy cluster of `from` members, led by `leader`, that is to become `to`.
pub(crate) fn facts(from: i64, to: i64, leader: i64) -> Facts {
    let mut facts = healthy(from, to).with_leader(leader);
    facts.change = Change::of_count(Postgresql::of(&object(from)).unwrap(), to);
    if let Seen::Known(members) = &mut facts.members {
        for member in members {
            *member = self::member(member.ordinal, member.ordinal == leader);
        }
    }
    made_by(facts, &json!({}))
}

/// Returns the `postgresql` object of the test cluster.
pub(crate) fn object(instances: i64) -> Value {
    json!({
        "apiVersion": "acid.zalan.do/v1", "kind": "postgresql",
        "metadata": {"namespace": "db", "name": "acid-a", "uid": "u1", "resourceVersion": "7",
            "creationTimestamp": "2026-11-20T10:00:00Z"},
        "spec": {"numberOfInstances": instances, "teamId": "acid", "volume": {"size": "1Gi"},
                 "postgresql": {"version": "15"}},
        "status": {"PostgresClusterStatus": "Running"},
    })
}

/// Returns a healthy member, whose pod is some hours old.
pub(crate) fn member(ordinal: i64, leads: bool) -> Member {
    let mut member = pgscale_guard::testing::member(ordinal, leads);
    member.pod.created = Some("2026-11-24T08:30:00Z".parse().unwrap());
    member
}

/// Returns the policies of these names and specs, combined for the test cluster.
pub(crate) fn policies(specs: &[(&str, Value)]) -> Policies {
    let spec = |spec: &Value| serde_json::from_value(spec.clone()).unwrap();
    let all: Vec<ScalePolicy> =
        specs.iter().map(|(name, it)| ScalePolicy::new(name, spec(it))).collect();
    Policies::combine(&all, &Postgresql::of(&object(3)).unwrap())
}

/// Returns the facts of a cluster whose StatefulSet has these parts, and one-GiB volumes.
pub(crate) fn made_by(mut facts: Facts, parts: &Value) -> Facts {
    let mut whole = json!({"metadata": {"name": "acid-a"}, "spec": {"serviceName": "acid-a",
        "selector": {}, "template": {"spec": {"containers": [{"name": "postgres"}]}},
        "volumeClaimTemplates": [{"spec": {"resources": {"requests": {"storage": "1Gi"}}}}]}});
    whole["spec"].as_object_mut().unwrap().extend(parts.as_object().unwrap().clone());
    let whole = serde_json::from_value(whole).unwrap();
    let reduced = pgscale_guard::objects::stateful_set(&whole);
    if let Seen::Known(set) = &mut facts.stateful_set {
        set.deletes_volumes = reduced.deletes_volumes;
        set.parallel = reduced.parallel;
        set.probed = reduced.probed;
        if let Seen::Known(operator) = &mut facts.operator {
            operator.settings.deletes_volumes = set.deletes_volumes;
            operator.settings.shaping.parallel = set.parallel;
        }
    }
    facts.capacity.template = Seen::Known(Template::of(&whole, &[]));
    facts
}

/// Returns the facts with one member changed.
pub(crate) fn with(facts: Facts, ordinal: i64, change: impl FnOnce(&mut Member)) -> Facts {
    facts.with_member(ordinal, change)
}

/// Returns the facts with one member's receiver stalled.
pub(crate) fn stalled(facts: Facts, ordinal: i64) -> Facts {
    with(facts, ordinal, |member| {
        if let Live::Answered(answer) = &mut member.live {
            answer.received = Some(10);
            answer.replayed = Some(10);
        }
    })
}
