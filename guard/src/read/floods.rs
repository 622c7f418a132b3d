//! Answers that are larger than a review decodes.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::policy::Mode;
use crate::read::testing::{Fault, LIST, Members, REAL, accounts, change, world};
use crate::read::{Age, AskWhom, Moment, Reader, Shared};
use crate::rules::evaluate;
use crate::verdict::Severity;

/// Returns every finding on a change of the count of three where each answer for `resource` has this
/// `fault`, and the reasons that are given.
async fn findings(
    resource: &'static str,
    fault: Fault,
    to: i64,
    shared: bool,
) -> (BTreeSet<(String, bool)>, String) {
    let there = world("endpoints").with(LIST, accounts(REAL)).fault(resource, fault);
    let reader = there.reader(&Members::healthy());
    let sharing = Shared::new(reader.client.clone(), Arc::new(|_| {}));
    let sharing = shared.then(|| sharing.aged(Age::Since(Moment::now())));
    let reader = Reader { sharing, ..reader };
    let (facts, policies) = reader.facts_and_policies(change(3, to), AskWhom::AsNeeded).await;
    let verdict = evaluate(&facts, &policies);
    assert_eq!(policies.mode, Mode::Enforce);
    let found = verdict.findings.iter();
    let found = found.map(|it| (it.rule.to_string(), it.severity == Severity::Deny));
    (found.collect(), format!("{:?}", verdict.findings))
}

/// It counts as any answer that cannot be read, and the reason names what was asked for and the bound.
#[tokio::test(start_paused = true)]
async fn answer_beyond_its_bound_is_unread_to_the_rules_that_need_it() {
    for (resource, shrink_refused, named) in [
        ("statefulsets", true, "get statefulsets acid-a in db"),
        ("pods", true, "list pods in db"),
        ("endpoints", true, "list endpoints in db"),
        ("persistentvolumeclaims", false, "list persistentvolumeclaims in db"),
        ("deployments", true, "list deployments in default"),
        ("configmaps", true, "get configmaps pgscale-operators in kube-public"),
        ("scalepolicies", true, "list scalepolicies in db"),
        ("clusterscalepolicies", true, "list clusterscalepolicies"),
        ("resourcequotas", false, "list resourcequotas in db"),
        ("limitranges", false, "list limitranges in db"),
        ("nodes", false, ""),
    ] {
        for to in [2, 4] {
            for shared in [false, true] {
                let (found, why) = findings(resource, Fault::Flood, to, shared).await;
                let (unread, _) = findings(resource, Fault::Status(500), to, shared).await;
                assert_eq!(found, unread, "{resource}, to {to}");
                let refused = found.iter().any(|(_, denies)| *denies);
                assert_eq!(refused, shrink_refused && to == 2, "{resource}, to {to}: {why}");
                if refused {
                    let bound = "the answer has more than 50000 JSON values";
                    assert!(why.contains(&format!("{named}: {bound}")), "{resource}: {why}");
                }
            }
        }
    }
}
