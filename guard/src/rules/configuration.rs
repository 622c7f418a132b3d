//! The dynamic configuration of Patroni against the manifest: what the operator writes back.

use std::borrow::Cow;
use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::assessment::Assessment;
use crate::evidence::Evidence;
use crate::facts::{Facts, Seen};
use crate::object_ref::{Kind as ObjectKind, ObjectRef};
use crate::operator::dynamic::{SetBack, set_back};
use crate::policy::Policies;
use crate::remedy::Remedy;
use crate::rule_id::RuleId;
use crate::rules::applies::{Applies, CHANGE};
use crate::rules::reads::{self, Read};
use crate::rules::{Kind, NAMED, Rule, inputs, kubectl, unread};
use crate::verdict::{Finding, Outcome};

pub(super) const CONFIGURATION_DRIFT: Rule = Rule {
    id: RuleId::CONFIGURATION_DRIFT,
    title: "the operator would set Patroni's configuration back to the manifest",
    applies: Applies::on(&[CHANGE.to_at_least(1)]),
    default: "warn",
    kind: Kind::Advisory,
    page: "\
Patroni's dynamic configuration was changed by hand and says something else than the manifest. With any update
of the cluster, a change of the count included, the operator writes the values of the manifest back: strict
synchronous mode is on again, a lock expires sooner, a parameter has its old value. Where a parameter is read
at the start of PostgreSQL only, the operator restarts the members for it, the leader included.

Signals: the annotation `config` of `<cluster>-config` against `spec.patroni` and
`spec.postgresql.parameters` of the manifest, and `enable_patroni_failsafe_mode` of the operator. The operator
compares synchronous_mode, synchronous_mode_strict and synchronous_node_count also where the manifest does not
have them: it then writes false and 0. Numbers, slots and parameters that the manifest does not have stay as
they are. Where the operator cannot decode the configuration, it writes nothing: `synchronous_mode: quorum` is
such a value. A setting that this very write changes is not found.

Blind spots: a parameter of an extension that needs a restart. A restart is certain only where PostgreSQL's
value differs; restart-pending sees it afterwards.

Way out: put the live values into the manifest first (the finding prints the patch, which replaces no pod), and
into Git where that is the source. Or accept the values of the manifest, at a time when a restart does no harm.
These show the patch, and what Patroni runs by:

    kubectl pgscale plan NAME --to N -n NAMESPACE
    kubectl exec NAME-0 -n NAMESPACE -c postgres -- patronictl show-config

Upstream: syncPatroniConfig, checkAndSetGlobalPostgreSQLConfiguration and restartInstances, pkg/cluster/sync.go;
GetConfig, pkg/util/patroni/patroni.go.",
    reads: &[inputs::drift],
    needs: reads::COUNT.and(&[Read::StatefulSet, Read::Leader, Read::Configuration]),
    check: configuration_drift,
    #[cfg(any(test, feature = "testing"))]
    table: tests::configuration_drift,
};

fn configuration_drift(facts: &Assessment<'_>, _: &Policies) -> Outcome {
    let configuration = match &facts.configuration {
        Seen::Known(configuration) => configuration,
        // A cluster that never ran has nothing to set back.
        Seen::Absent => return Outcome::Pass,
        Seen::Unreadable(why) => return unread("Patroni's configuration", why),
    };
    let found = differences(facts, &configuration.document);
    if found.is_empty() {
        return match facts.operator.unreadable() {
            Some(why) if rests_on_the_operator(facts) => {
                unread("the operator's enable_patroni_failsafe_mode", why)
            }
            Some(_) | None => Outcome::Pass,
        };
    }
    let more = found.len().saturating_sub(NAMED);
    let mut said: Vec<String> = found.iter().take(NAMED).map(said).collect();
    if more > 0 {
        said.push(format!("{more} more"));
    }
    let restarts = if found.iter().any(|it| it.restarts) {
        ", and restart PostgreSQL for it, the leader included"
    } else {
        ""
    };
    let mut finding = Finding::warn(
        CONFIGURATION_DRIFT.id,
        format!(
            "with this change the operator would set Patroni's configuration back: {}{restarts}",
            said.join(", ")
        ),
    );
    finding.evidence = found.iter().flat_map(|it| evidence(facts, it)).collect();
    Outcome::Found(finding.remedy(keep(facts, &found)))
}

/// Returns what the operator would set back, without the settings that this write itself changes.
fn differences(facts: &Facts, live: &Value) -> Vec<SetBack> {
    let failsafe = facts.operator.known().map(|operator| operator.settings.failsafe);
    let new = set_back(&facts.change.new, live, failsafe);
    let Some(old) = &facts.change.old else { return new };
    let before: BTreeSet<String> =
        set_back(old, live, failsafe).into_iter().map(|it| it.key).collect();
    new.into_iter().filter(|it| before.contains(&it.key)).collect()
}

/// Returns whether the failsafe mode is left to the operator's setting, which would matter.
fn rests_on_the_operator(facts: &Facts) -> bool {
    let live = facts.configuration.known().map(|configuration| &configuration.document);
    live.is_some_and(|live| {
        [true, false].iter().any(|setting| {
            set_back(&facts.change.new, live, Some(*setting))
                .iter()
                .any(|it| it.key == "failsafe_mode" && it.field().is_none())
        })
    })
}

fn said(one: &SetBack) -> String {
    let restart = if one.restarts { " (restart)" } else { "" };
    format!("{} from {} to {}{restart}", one.name(), live(one), plain(&one.wanted))
}

fn live(one: &SetBack) -> Cow<'_, str> {
    one.live.as_ref().map_or(Cow::Borrowed("unset"), plain)
}

fn plain(value: &Value) -> Cow<'_, str> {
    value.as_str().map_or_else(|| Cow::Owned(value.to_string()), Cow::Borrowed)
}

/// Returns the live value and the one that the operator writes, each with its object.
fn evidence(facts: &Facts, one: &SetBack) -> [Evidence; 2] {
    let wanted = plain(&one.wanted);
    let (object, field) = match (one.field(), facts.operator.known()) {
        (None, Some(operator)) => {
            (operator.source.clone(), "enable_patroni_failsafe_mode".to_owned())
        }
        (field, _) => (facts.postgresql_source(), field.unwrap_or_default()),
    };
    [
        Evidence::new(facts.patroni_source("config"), &one.key, live(one)),
        Evidence::new(object, &field, wanted),
    ]
}

/// Returns what the operator would set back, as evidence.
pub(super) fn looked_at(facts: &Facts) -> Vec<Evidence> {
    let source = facts.patroni_source("config");
    let live = match &facts.configuration {
        Seen::Known(configuration) => &configuration.document,
        Seen::Absent => return vec![Evidence::absent(source)],
        Seen::Unreadable(why) => return vec![Evidence::unreadable(source, why)],
    };
    let mut all: Vec<Evidence> =
        differences(facts, live).iter().flat_map(|it| evidence(facts, it)).collect();
    if all.is_empty() {
        all.push(Evidence::new(source, "settings that the operator would set back", "none"));
    }
    if let Some(why) = facts.operator.unreadable() {
        all.push(Evidence::unreadable(ObjectRef::all(ObjectKind::Deployment), why));
    }
    all
}

/// Returns the command that puts the live values into the manifest.
fn keep(facts: &Facts, found: &[SetBack]) -> Remedy {
    let mut patch = json!({});
    for one in found {
        one.keep(&mut patch);
    }
    if patch == json!({}) {
        return Remedy::note("put the live value into the manifest, or accept the manifest's");
    }
    let (name, patch) = (&facts.change.new.name, patch.to_string());
    let words = ["patch", "postgresql", name, "--type=merge", "-p", &patch];
    Remedy::to("to keep the live values, put them into the manifest first", kubectl(facts, &words))
}

#[cfg(any(test, feature = "testing"))]
#[cfg_attr(not(test), allow(dead_code, unused_imports, reason = "only tables are used"))]
#[allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::wildcard_imports,
    reason = "a table is a test"
)]
mod tests {
    use super::*;
    use crate::patroni::Configuration;
    use crate::rules::testing::{Want, healthy, table, text};

    /// Returns the facts with this dynamic configuration beside the usual one.
    fn live(facts: Facts, more: &Value) -> Facts {
        let mut document = json!({"ttl": 30, "loop_wait": 10,
            "postgresql": {"parameters": {"max_connections": 100}}});
        json_patch::merge(&mut document, more);
        facts.with_configuration(|configuration| {
            *configuration = Configuration::of(&document.to_string()).unwrap();
        })
    }

    /// Returns the facts with this manifest, before and after the write.
    fn declared(mut facts: Facts, more: &Value) -> Facts {
        for cluster in facts.change.old.iter_mut().chain([&mut facts.change.new]) {
            json_patch::merge(&mut cluster.spec, more);
        }
        facts
    }

    pub(super) fn configuration_drift() {
        let strict =
            json!({"patroni": {"synchronous_mode": true, "synchronous_mode_strict": true}});
        let off = json!({"synchronous_mode": true, "synchronous_mode_strict": false});
        let switched_off = |from, to| live(declared(healthy(from, to), &strict), &off);
        let connections = || {
            let manifest = json!({"postgresql": {"parameters": {"max_connections": "100"}}});
            let now = json!({"postgresql": {"parameters": {"max_connections": 200}}});
            live(declared(healthy(3, 4), &manifest), &now)
        };
        let failsafe = || live(healthy(3, 4), &json!({"failsafe_mode": true}));
        let unread = |mut facts: Facts| {
            facts.configuration = Seen::Unreadable("configmaps is forbidden".into());
            facts
        };
        let absent = |mut facts: Facts| {
            facts.configuration = Seen::Absent;
            facts
        };
        let without_operator = |mut facts: Facts| {
            facts.operator = Seen::Unreadable("deployments is forbidden".into());
            facts
        };
        table(
            "configuration-drift",
            vec![
                ("as declared", live(healthy(3, 4), &json!({})), Want::Pass),
                (
                    "by hand, not in the manifest",
                    live(healthy(3, 4), &json!({"ttl": 60})),
                    Want::Pass,
                ),
                (
                    "by hand, and other in the manifest",
                    live(
                        declared(healthy(3, 4), &json!({"patroni": {"ttl": 30}})),
                        &json!({"ttl": 60}),
                    ),
                    Want::Warn,
                ),
                ("strict mode off by hand", switched_off(3, 4), Want::Warn),
                ("strict mode off by hand, shrinks", switched_off(4, 3), Want::Warn),
                (
                    "the operator rewrites the same count",
                    switched_off(4, 3).with_settings(|it| {
                        (it.min_instances, it.max_instances) = (3, 3);
                    }),
                    Want::Warn,
                ),
                ("a parameter that needs a restart", connections(), Want::Warn),
                (
                    "the same write declares it",
                    live(healthy(3, 4), &json!({})).editing(|spec| {
                        spec["patroni"] = json!({"ttl": 60});
                    }),
                    Want::Pass,
                ),
                (
                    "the same write declares what runs",
                    switched_off(3, 4).editing(|spec| {
                        spec["patroni"]["synchronous_mode_strict"] = json!(false);
                    }),
                    Want::Pass,
                ),
                (
                    "quorum: the operator cannot decode it",
                    live(declared(healthy(3, 4), &strict), &json!({"synchronous_mode": "quorum"})),
                    Want::Pass,
                ),
                ("failsafe mode by hand", failsafe(), Want::Warn),
                (
                    "failsafe mode by the operator",
                    failsafe().with_settings(|settings| settings.failsafe = true),
                    Want::Pass,
                ),
                ("failsafe mode, operator unreadable", without_operator(failsafe()), Want::Unknown),
                (
                    "strict mode, operator unreadable",
                    without_operator(switched_off(3, 4)),
                    Want::Warn,
                ),
                ("never ran", absent(healthy(3, 4)), Want::Pass),
                ("from zero", switched_off(0, 3), Want::Warn),
                ("configuration unreadable", unread(healthy(3, 4)), Want::Unknown),
                ("to zero", switched_off(3, 0), Want::NotApplicable),
                ("the count stays", switched_off(3, 3), Want::NotApplicable),
            ],
        );
        insta::assert_snapshot!(text("configuration-drift", &switched_off(3, 4)), @r#"
        configuration-drift: with this change the operator would set Patroni's configuration back: synchronous_mode_strict from false to true
          configmap/acid-a-config: synchronous_mode_strict: false
          postgresql/acid-a: spec.patroni.synchronous_mode_strict: true
          Try: to keep the live values, put them into the manifest first:
              kubectl patch postgresql acid-a --type=merge -p '{"spec":{"patroni":{"synchronous_mode_strict":false}}}' -n db
        "#);
        insta::assert_snapshot!(text("configuration-drift", &connections()), @r#"
        configuration-drift: with this change the operator would set Patroni's configuration back: max_connections from 200 to 100 (restart), and restart PostgreSQL for it, the leader included
          configmap/acid-a-config: postgresql.parameters.max_connections: 200
          postgresql/acid-a: spec.postgresql.parameters.max_connections: 100
          Try: to keep the live values, put them into the manifest first:
              kubectl patch postgresql acid-a --type=merge -p '{"spec":{"postgresql":{"parameters":{"max_connections":"200"}}}}' -n db
        "#);
        insta::assert_snapshot!(text("configuration-drift", &failsafe()), @r#"
        configuration-drift: with this change the operator would set Patroni's configuration back: failsafe_mode from true to false
          configmap/acid-a-config: failsafe_mode: true
          configmap default/postgres-operator: enable_patroni_failsafe_mode: false
          Try: to keep the live values, put them into the manifest first:
              kubectl patch postgresql acid-a --type=merge -p '{"spec":{"patroni":{"failsafe_mode":true}}}' -n db
        "#);
    }

    #[test]
    fn every_setting_that_is_set_back_is_evidence() {
        let parameters: Value = (0..8)
            .map(|number| (format!("p{number}"), json!("1")))
            .collect::<serde_json::Map<_, _>>()
            .into();
        let manifest = json!({"postgresql": {"parameters": parameters}});
        let facts = live(declared(healthy(3, 4), &manifest), &json!({}));
        let verdict = crate::rules::evaluate(&facts, &Policies::default());
        let finding = verdict.finding("configuration-drift").unwrap();
        assert_eq!(finding.evidence.len(), 2 * 8);
        assert!(finding.message.ends_with("p4 from unset to 1, 3 more"), "{}", finding.message);
    }
}
