//! Tests that the published schemas are those of the types, and that commands keep to them.

use std::collections::BTreeSet;

use clap::CommandFactory as _;
use pgscale_guard::overrides::ScaleOverride;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema};
use serde_json::Value;

use super::{
    AutoscaleDecision, ClusterSnapshot, ClusterUsageList, EffectivePolicy, GuardDiagnosis,
    LintReport, PolicyTest, Program, RuleList, ScaleHistory, ScaleHistoryList, ScalePlan,
    ScaleReport, ScaleReportList, ScaleStatus, ScaleStatusList, ScaleVerification,
    ScaleVerificationList,
};
use crate::cli::Cli;
use crate::generated;
use crate::reads::tests::reading;
use crate::testing::{Mishap, World, run};
use crate::verify::talkative;

fn schema<T: JsonSchema>() -> Schema {
    SchemaSettings::draft2020_12().for_serialize().into_generator().into_root_schema_for::<T>()
}

/// Returns every kind of document, with its schema.
fn schemas() -> Vec<(&'static str, Value)> {
    [
        ("AutoscaleDecision", schema::<AutoscaleDecision>()),
        ("ClusterSnapshot", schema::<ClusterSnapshot>()),
        ("ClusterUsageList", schema::<ClusterUsageList<'static>>()),
        ("EffectivePolicy", schema::<EffectivePolicy>()),
        ("GuardDiagnosis", schema::<GuardDiagnosis<'static>>()),
        ("LintReport", schema::<LintReport<'static>>()),
        ("PolicyTest", schema::<PolicyTest>()),
        ("RuleList", schema::<RuleList<'static>>()),
        ("ScaleHistory", schema::<ScaleHistory<'static>>()),
        ("ScaleHistoryList", schema::<ScaleHistoryList<'static>>()),
        // The definition of the resource holds more. This is the part that a reader of our output
        // needs.
        ("ScaleOverride", schema::<ScaleOverride>()),
        ("ScalePlan", schema::<ScalePlan<'static>>()),
        ("ScaleReport", schema::<ScaleReport<'static>>()),
        ("ScaleReportList", schema::<ScaleReportList<'static>>()),
        ("ScaleStatus", schema::<ScaleStatus<'static>>()),
        ("ScaleStatusList", schema::<ScaleStatusList<'static>>()),
        ("ScaleVerification", schema::<ScaleVerification<'static>>()),
        ("ScaleVerificationList", schema::<ScaleVerificationList>()),
        ("Version", schema::<Program<'static>>()),
    ]
    .map(|(kind, schema)| (kind, schema.to_value()))
    .into()
}

/// Returns whether both texts hold the same value: the order of keys is not ours to keep.
fn same(stored: &str, schema: &str) -> bool {
    let value = |text| serde_json::from_str::<Value>(text).ok();
    value(stored) == value(schema)
}

#[test]
fn the_published_schemas_are_up_to_date() {
    for (kind, schema) in schemas() {
        let text = serde_json::to_string_pretty(&schema).unwrap() + "\n";
        generated::check(&format!("docs/schemas/{kind}.json"), &text, same);
    }
}

#[tokio::test]
async fn printed_documents_keep_to_their_schemas() {
    let schemas = schemas();
    let (mut kinds, mut verbs) = (BTreeSet::new(), BTreeSet::new());
    let policy = concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/pgscale/examples/platform.yaml");
    let tried = format!("policy test -f {policy} -o json");
    for (world, line) in [
        (World::new(3, 0), "status acid-a -o json"),
        (
            World::new(3, 0).using("1600m", 10),
            "autoscale acid-a --cpu 80 --min 3 --max 7 --once -o json",
        ),
        (World::new(3, 0).silent(), "status acid-a -o json"),
        (World::new(3, 0).quota_spent(), "status acid-a --why -o json"),
        (World::new(3, 0).limited(1, 3, 9), "status -A -o json"),
        (reading(World::new(3, 0)), "status acid-a --sql -o json"),
        (World::new(3, 0).hiding(&["exec"]), "status acid-a --tables 2 -o json"),
        (reading(World::new(3, 0).metered()), "top --sql -o json"),
        (World::new(3, 0), "top -A -o json"),
        (reading(World::new(3, 0).metered()), "up acid-a --settle 1ms -o json"),
        (World::new(3, 2), "plan acid-a --to 2 -o json"),
        (World::new(3, 0).stalled(&[1, 2]), "plan acid-a --to 1 -o json"),
        (World::new(3, 0), "plan acid-a --to 5 -o json"),
        (World::new(3, 2), "down acid-a --yes -o json"),
        (World::new(3, 0), "up acid-a -o json"),
        (World::new(3, 0).with_another(), "up -l team=acid -A --yes -o json"),
        (World::new(3, 0), "verify acid-a --sql=false -o json"),
        (talkative(), "verify acid-a --sql --canary -o json"),
        (World::new(3, 0).silent(), "down acid-a --yes -o json"),
        (World::new(3, 0), "switchover acid-a --to acid-a-1 -o json"),
        (World::new(5, 4), "switchover acid-a --for 3 -o json"),
        (World::new(3, 0), "set acid-a 4 -o json"),
        (World::new(3, 0), "set acid-a 3 -o json"),
        (World::new(3, 0), "up acid-a --report json"),
        (World::new(3, 0).with(Mishap::Reverted), "up acid-a -o json"),
        (changed().await, "undo acid-a -o json"),
        (World::new(3, 0), "switchover acid-a --dry-run=client -o json"),
        (World::new(3, 0).with(Mishap::SwitchoverRefused), "switchover acid-a -o json"),
        (World::new(3, 0), "wait acid-a -o json"),
        (World::new(3, 0).quota_spent(), "wait acid-a --timeout 0 -o json"),
        (World::new(3, 0), "verify acid-a --sql --canary -o json"),
        (World::new(3, 0), "override acid-a --to 9 --rules above-max --reason sale --yes -o json"),
        (World::new(3, 0).zero_allowed(), "policy acid-a -o json"),
        (World::new(3, 0), &tried),
        (World::new(3, 0).zero_allowed(), "policy -o json"),
        (World::new(3, 0), "rules -o json"),
        (World::new(3, 0), "rules paused -o json"),
        (World::new(3, 0), "doctor -o json"),
        (World::new(3, 0), "version -o json"),
        (World::new(3, 0), "snapshot acid-a -o json"),
        (World::new(3, 0), &format!("lint -f {MANIFESTS} --current {MANIFESTS} -o json")),
        (World::new(3, 2), &format!("lint -f {MANIFESTS}/acid-a.yaml --live -o json")),
        (changed().await, "history acid-a -o json"),
        (changed().await, "history -A -o json"),
        (World::new(3, 0), "verify -A -o json"),
        (World::new(3, 0), "wait -A -o json"),
    ] {
        let (screen, ..) = run(&world, line, None).await;
        let printed: Value = serde_json::from_str(&screen.stdout()).expect(line);
        let kind = printed["kind"].as_str().unwrap().to_owned();
        let (_, schema) = schemas.iter().find(|(name, _)| *name == kind).expect(&kind);
        let validator = jsonschema::draft202012::new(schema).unwrap();
        let wrong: Vec<String> = validator
            .iter_errors(&printed)
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        assert!(wrong.is_empty(), "{line}: {wrong:#?}");
        kinds.insert(kind);
        verbs.extend(line.split(' ').next().map(str::to_owned));
    }
    let program = Cli::command();
    for verb in program.get_subcommands() {
        let prints = verb.get_arguments().any(|argument| argument.get_id() == "output");
        // Theirs are objects of Kubernetes.
        let prints = prints && !["install", "rbac", "upgrade"].contains(&verb.get_name());
        assert_eq!(prints, verbs.contains(verb.get_name()), "{}", verb.get_name());
    }
    assert_eq!(kinds.len(), schemas.len(), "every kind is printed by something: {kinds:?}");
}

/// Manifests with a cluster and a policy.
const MANIFESTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/screens/manifests");

/// Returns a cluster with a change in its history.
async fn changed() -> World {
    let world = World::new(3, 2);
    run(&world, "down acid-a --yes --reason night", None).await;
    world
}
