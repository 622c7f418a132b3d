//! Tests only: the examples of policies get the verdicts that the documentation promises.

use std::path::Path;

use serde_json::Value;

use crate::testing::{World, run};

/// Returns a path of the repository.
fn repository(path: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join(path).display().to_string()
}

fn manifest(namespace: &str, count: &str) -> String {
    format!(
        "apiVersion: acid.zalan.do/v1\nkind: postgresql\nmetadata: {{namespace: {namespace}, name: acid-a}}\n\
         spec: {{teamId: acid, numberOfInstances: {count}}}\n"
    )
}

#[tokio::test]
async fn examples_of_policies_get_the_verdicts_that_the_page_promises() {
    let page = std::fs::read_to_string(repository("docs/scenarios.md")).unwrap();
    let root = tempfile::tempdir().unwrap();
    let mut tried = 0;
    for line in page.lines() {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [policy, change, at, refused] = cells.as_slice() else { continue };
        let Some((from, to)) = change.split_once(" -> ") else { continue };
        let file = |name: &str, count: &str| {
            let path = root.path().join(name);
            std::fs::write(&path, manifest(policy, count)).unwrap();
            path.display().to_string()
        };
        let (old, new) = (file("old.yaml", from), file("new.yaml", to));
        let policies = repository(&format!("charts/pgscale/examples/{policy}.yaml"));
        let words = format!("lint -f {new} --current {old} --policy {policies} --at {at} -o json");
        let (screen, code, _) = run(&World::new(3, 0), &words, None).await;
        let report: Value = serde_json::from_str(&screen.stdout()).unwrap();
        let findings = report["items"][0]["findings"].as_array().unwrap();
        let denials = findings.iter().filter(|finding| finding["severity"] == "Deny");
        let mut rules: Vec<&str> = denials.map(|it| it["rule"].as_str().unwrap()).collect();
        rules.sort_unstable();
        let said = if rules.is_empty() { "-".to_owned() } else { rules.join(", ") };
        assert_eq!(
            (said.as_str(), code),
            (*refused, if *refused == "-" { 0 } else { 3 }),
            "{line}"
        );
        tried += 1;
    }
    assert!(tried >= 15, "{tried}");
}

#[tokio::test]
async fn test_cluster_of_the_guide_has_no_password_and_passes() {
    let path = repository("docs/examples/scale-test-cluster.yaml");
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(!text.contains("password:") && !text.contains("kind: Secret\n"), "{text}");
    let (screen, code, why) =
        run(&World::new(3, 0), &format!("lint -f {path} -o json"), None).await;
    assert_eq!(code, 0, "{why}");
    let report: Value = serde_json::from_str(&screen.stdout()).unwrap();
    assert_eq!(report["items"][0]["metadata"]["name"], "scale-test-cluster", "{report}");
}
