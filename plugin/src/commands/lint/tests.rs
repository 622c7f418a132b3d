use std::path::Path;

use serde_json::{Value, json};

use super::*;
use crate::cli::{Cli, Verb};
use crate::terminal::testing::Screen;
use crate::testing::World;

/// A directory with manifests.
struct Files(tempfile::TempDir);

impl Files {
    fn of(files: &[(&str, &str)]) -> Self {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            std::fs::write(root.path().join(path), text).unwrap();
        }
        Self(root)
    }

    fn root(&self) -> &Path {
        self.0.path()
    }

    /// Runs `lint` with `words`, in which `@` stands for the directory. Returns stdout without that
    /// directory, the exit code, and the failure.
    async fn lint(&self, words: &str) -> (String, u8, String) {
        self.lint_in(words, None).await
    }

    async fn lint_in(&self, words: &str, world: Option<&World>) -> (String, u8, String) {
        let root = self.root().to_string_lossy().into_owned();
        let line = format!("kubectl-pgscale lint {words}").replace('@', &format!("{root}/"));
        let cli = Cli::of(line.split_whitespace()).unwrap_or_else(|error| panic!("{error}"));
        let Verb::Lint(args) = cli.verb else { panic!("{line}") };
        let screen = Screen::default();
        let session = world.map(|world| world.session(&screen, None));
        let namespace = cli.connection.namespace.as_deref().unwrap_or("default");
        let result = match &session {
            Some(session) => run(&args, "db", &session.out, Some(session)).await,
            None => run(&args, namespace, &screen.output_for(None), None).await,
        };
        let (code, why) = match result {
            Ok(()) => (0, String::new()),
            Err(failure) => (failure.kind.code(), failure.text()),
        };
        (screen.stdout().replace(&format!("{root}/"), ""), code, why)
    }

    async fn json(&self, words: &str) -> Value {
        let (text, ..) = self.lint(&format!("{words} -o json")).await;
        serde_json::from_str(&text).unwrap()
    }
}

fn cluster(count: &str) -> String {
    format!(
        "apiVersion: acid.zalan.do/v1\nkind: postgresql\nmetadata:\n  namespace: db\n  name: acid-a\n\
         spec:\n  numberOfInstances: {count}\n  teamId: acid\n"
    )
}

const POLICY: &str = "\
apiVersion: pgscale.dev/v1alpha1
kind: ScalePolicy
metadata: {namespace: db, name: production}
spec: {instances: {min: 3, max: 7}, steps: {up: 1, down: 1}}
";

fn rules(report: &Value) -> Vec<&str> {
    let findings = report["items"][0]["findings"].as_array().unwrap();
    findings.iter().map(|it| it["rule"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn refused_change_is_shown_with_its_line_and_what_is_not_known() {
    let files = Files::of(&[
        ("a.yaml", &format!("{}---\nkind: Service\napiVersion: v1\n", cluster("2"))),
        ("old.yaml", &cluster("3")),
        ("policy.yaml", POLICY),
    ]);
    let (text, code, why) =
        files.lint("-f @a.yaml --current @old.yaml --policy @policy.yaml").await;
    assert_eq!((code, why.as_str()), (3, "the change of 1 cluster is refused"));
    insta::assert_snapshot!(text, @"
    a.yaml:7: postgresql db/acid-a (3 -> 2): refused
      below-min: 2 instances asked for, 3 is the minimum
        scalepolicy/production: instances.min: 3
      Note: the operator's own limits are not known, so the written counts are judged: --operator-config gives them
      Not judged: 32 rules, because the cluster was not read; 1 rule (operator-limits), because the operator's limits could not be read (the cluster was not read)
    1 cluster (1 refused), 0 errors, 1 policy, 1 object of another kind in 1 file
    ");
}

#[tokio::test]
async fn manifest_without_a_current_state_is_judged_by_its_bounds() {
    let files = Files::of(&[("a.yaml", &cluster("2")), ("policy.yaml", POLICY)]);
    let report = files.json("-f @a.yaml @policy.yaml").await;
    assert_eq!(rules(&report), ["below-min"]);
    assert_eq!(report["items"][0]["comparedWith"], "None");
    assert_eq!(report["items"][0]["certain"], json!(["below-min"]));
    // Without a policy nothing refuses it, and the rules that need the cluster are named.
    let alone = files.json("-f @a.yaml").await;
    assert_eq!((&alone["result"], rules(&alone)), (&json!("AllowedSoFar"), vec![]));
    assert!(!alone["items"][0]["notJudged"].as_array().unwrap().is_empty());
    assert_eq!(files.lint("-f @a.yaml").await.1, 0);
}

#[tokio::test]
async fn policies_hold_where_they_select_as_in_the_cluster() {
    let labelled = cluster("2").replace("  name: acid-a", "  name: acid-a\n  labels: {env: prod}");
    let platform = "apiVersion: pgscale.dev/v1alpha1\nkind: ClusterScalePolicy\nmetadata: {name: p}\n\
        spec: {namespaceSelector: {matchLabels: {tier: gold}}, clusterSelector: {matchLabels: {env: prod}},\n\
        instances: {min: 3}}\n";
    let namespace = |tier: &str| {
        format!(
            "apiVersion: v1\nkind: Namespace\nmetadata: {{name: db, labels: {{tier: {tier}}}}}\n"
        )
    };
    let files = Files::of(&[
        ("a.yaml", &labelled),
        ("plain.yaml", &cluster("2")),
        ("platform.yaml", platform),
        ("gold.yaml", &namespace("gold")),
        ("iron.yaml", &namespace("iron")),
        ("other.yaml", &POLICY.replace("namespace: db", "namespace: other")),
    ]);
    assert_eq!(rules(&files.json("-f @a.yaml @platform.yaml @gold.yaml").await), ["below-min"]);
    assert_eq!(rules(&files.json("-f @a.yaml @platform.yaml @iron.yaml").await), [""; 0]);
    assert_eq!(rules(&files.json("-f @plain.yaml @platform.yaml @gold.yaml").await), [""; 0]);
    assert_eq!(rules(&files.json("-f @plain.yaml @other.yaml").await), [""; 0]);
    // Whether it selects the namespace is not known, so it refuses nothing and is named.
    let unknown = files.json("-f @a.yaml @platform.yaml").await;
    assert_eq!(rules(&unknown), [""; 0]);
    let why = unknown["items"][0]["notJudged"].as_array().unwrap();
    let why = why.iter().find(|it| it["rule"] == "below-min").unwrap()["why"].as_str().unwrap();
    assert!(why.contains("namespace db is not among the files"), "{why}");
}

#[tokio::test]
async fn override_lets_the_change_of_that_cluster_pass() {
    let grant = "apiVersion: pgscale.dev/v1alpha1\nkind: ScaleOverride\n\
        metadata: {namespace: db, name: night, creationTimestamp: \"2026-11-24T09:00:00Z\"}\n\
        spec: {cluster: acid-a, clusterUid: u1, to: 2, rules: [below-min], reason: sale,\n\
        expiresAt: \"2026-11-24T11:00:00Z\"}\n";
    let stored = cluster("3").replace("  name: acid-a", "  name: acid-a\n  uid: u1");
    let files = Files::of(&[
        ("a.yaml", &cluster("2")),
        ("old.yaml", &stored),
        ("policy.yaml", POLICY),
        ("grant.yaml", grant),
    ]);
    let line = "-f @a.yaml @policy.yaml @grant.yaml --current @old.yaml";
    assert_eq!(files.lint(&format!("{line} --at 2026-11-24T10:00:00Z")).await.1, 0);
    assert_eq!(files.lint(&format!("{line} --at 2026-11-24T12:00:00Z")).await.1, 3);
}

#[tokio::test]
async fn freeze_is_judged_at_the_time_that_is_given() {
    let policy = "apiVersion: pgscale.dev/v1alpha1\nkind: ScalePolicy\n\
        metadata: {namespace: db, name: frozen}\n\
        spec: {freeze: {reason: audit, until: \"2026-11-24T12:00:00Z\"}}\n";
    let files =
        Files::of(&[("a.yaml", &cluster("4")), ("old.yaml", &cluster("5")), ("p.yaml", policy)]);
    let line = "-f @a.yaml @p.yaml --current @old.yaml --at";
    assert_eq!(files.lint(&format!("{line} 2026-11-24T11:00:00Z")).await.1, 3);
    assert_eq!(files.lint(&format!("{line} 2026-11-24T13:00:00Z")).await.1, 0);
}

#[tokio::test]
async fn settings_of_the_operator_make_the_counts() {
    let settings = "apiVersion: acid.zalan.do/v1\nkind: OperatorConfiguration\n\
        metadata: {name: settings}\nconfiguration: {min_instances: 2, max_instances: 4}\n";
    let map = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: postgres-operator}\n\
        data: {max_instances: \"4\"}\n";
    let files = Files::of(&[
        ("a.yaml", &cluster("6")),
        ("old.yaml", &cluster("4")),
        ("settings.yaml", settings),
        ("map.yaml", map),
    ]);
    for config in [
        "--operator-config @settings.yaml",
        "--operator-config @map.yaml",
        "--policy @settings.yaml",
    ] {
        let report = files.json(&format!("-f @a.yaml --current @old.yaml {config}")).await;
        assert!(rules(&report).contains(&"operator-limits"), "{config}: {report}");
    }
    let (_, code, why) = files.lint("-f @a.yaml --operator-config @old.yaml").await;
    assert_eq!((code, why.as_str()), (1, "1 input cannot be judged"));
}

#[tokio::test]
async fn every_input_that_cannot_be_judged_is_named_with_its_place() {
    let files = Files::of(&[
        ("1-null.yaml", &cluster("~")),
        ("2-text.yaml", &cluster("\"3\"")),
        ("3-float.yaml", &cluster("2.5")),
        ("4-negative.yaml", &cluster("-1")),
        ("5-large.yaml", &cluster("2147483648")),
        ("6-twice.yaml", &cluster("3\n  numberOfInstances: 4")),
        ("7-template.yaml", &cluster("{{ .Values.n }}")),
        ("8-kind.yaml", &cluster("3").replace("kind: postgresql", "kind: Postgresql")),
        ("9-version.yaml", &cluster("3").replace("do/v1", "do/v2")),
        ("a-nameless.yaml", &cluster("3").replace("  name: acid-a\n", "")),
        ("b-policy.yaml", &POLICY.replace("min: 3", "min: many")),
        ("c-typo.yaml", &POLICY.replace("min: 3", "minimum: 3")),
        ("d-missing.yaml", &cluster("3").replace("numberOfInstances", "instances")),
        ("e-values.yaml", "replicas: 3\n"),
        ("f-whole.yaml", &cluster("3.0")),
    ]);
    let (text, code, _) = files.lint("-f @").await;
    assert_eq!(code, 1);
    let errors: Vec<&str> =
        text.lines().filter(|line| line.contains("error:") || line.contains("note:")).collect();
    insta::assert_snapshot!(errors.join("\n"), @r#"
    1-null.yaml:7: error: spec.numberOfInstances is null, and the API server demands a number
    2-text.yaml:7: error: spec.numberOfInstances is "3", which is not a whole number of instances
    3-float.yaml:7: error: spec.numberOfInstances is 2.5, which is not a whole number of instances
    4-negative.yaml:7: error: spec.numberOfInstances is -1, and 0 is the fewest
    5-large.yaml:7: error: spec.numberOfInstances is 2147483648, and an int32 holds at most 2147483647
    6-twice.yaml:8: error: it cannot be read as YAML or JSON: duplicate mapping key `numberOfInstances` is not allowed here
    7-template.yaml:7: error: it cannot be read as YAML or JSON: expected string scalar. It looks like a template: render it first, and give the result on standard input (-f -)
    8-kind.yaml:1: error: acid.zalan.do/v1 Postgresql is no kind that the API server knows: it is acid.zalan.do/v1 postgresql
    9-version.yaml:1: error: acid.zalan.do/v2 postgresql is no kind that the API server knows: it is acid.zalan.do/v1 postgresql
    a-nameless.yaml:1: error: metadata.name is missing
    b-policy.yaml:1: error: the ScalePolicy cannot be decoded: spec.instances: invalid type: string "many", expected i32
    c-typo.yaml:1: error: spec.instances.minimum is no field of a ScalePolicy: it has no effect
    d-missing.yaml:1: error: spec.numberOfInstances is missing, and the API server demands it
    e-values.yaml:1: note: it has no apiVersion or no kind, so it is no object of Kubernetes and is not judged
    "#);
}

#[tokio::test]
async fn patches_change_the_current_state() {
    let files = Files::of(&[
        ("old.yaml", &cluster("3")),
        ("policy.yaml", POLICY),
        ("merge.yaml", "spec:\n  numberOfInstances: 2\n"),
        ("json.json", r#"[{"op": "replace", "path": "/spec/numberOfInstances", "value": 2}]"#),
        ("name.yaml", "metadata: {name: other}\n"),
        ("two.yaml", &format!("{}---\n{}", cluster("3"), cluster("3").replace("acid-a", "acid-b"))),
    ]);
    for patch in ["merge.yaml", "json.json"] {
        let report = files
            .json(&format!("--patch @{patch} --current @old.yaml --policy @policy.yaml"))
            .await;
        assert_eq!(rules(&report), ["below-min"], "{patch}: {report}");
        assert_eq!(
            (&report["items"][0]["from"], &report["items"][0]["to"]),
            (&json!(3), &json!(2))
        );
    }
    for (line, words) in [
        ("--patch @name.yaml --current @old.yaml", "changes the name"),
        ("--patch @merge.yaml --current @two.yaml", "exactly one"),
        ("--patch @merge.yaml", "needs --current"),
    ] {
        let (text, code, _) = files.lint(line).await;
        assert!(code == 1 && text.contains(words), "{line}: {code} {text}");
    }
}

#[tokio::test]
async fn two_revisions_are_compared() {
    let files = Files::of(&[
        ("a.yaml", &cluster("3")),
        ("gone.yaml", &cluster("3").replace("acid-a", "acid-gone")),
        ("policy.yaml", POLICY),
    ]);
    for words in [
        "init --quiet",
        "add -A",
        "-c user.name=a -c user.email=a@b -c commit.gpgsign=false commit --quiet -m x",
    ] {
        let mut git = std::process::Command::new("git");
        git.arg("-C").arg(files.root()).args(words.split(' '));
        assert!(git.status().unwrap().success(), "{words}");
    }
    std::fs::write(files.root().join("a.yaml"), cluster("2")).unwrap();
    std::fs::remove_file(files.root().join("gone.yaml")).unwrap();
    let report = files.json("-f @ --diff HEAD").await;
    assert_eq!(rules(&report), ["below-min"]);
    assert_eq!(report["items"][0]["comparedWith"], "Revision");
    assert_eq!(report["items"][1]["verdict"], "Removed");
    let (_, code, why) = files.lint("-f @ --diff nowhere").await;
    assert!(code == 1 && why.contains("does not know the revision"), "{why}");
    let (_, code, _) = files.lint("-f - --diff HEAD").await;
    assert_eq!(code, 2);
}

#[tokio::test]
async fn live_verdict_is_that_of_the_cluster() {
    let files = Files::of(&[
        ("a.yaml", &cluster("2")),
        ("new.yaml", &cluster("2").replace("acid-a", "acid-n")),
    ]);
    // The leader of this world would be removed.
    let world = World::new(3, 2);
    let (text, code, _) = files.lint_in("-f @a.yaml --live -o json", Some(&world)).await;
    let report: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(code, 3);
    assert!(rules(&report).contains(&"leader-condemned"), "{report}");
    assert_eq!(report["items"][0]["notJudged"], json!([]));
    let (text, code, _) = files.lint_in("-f @a.yaml --live -o json", Some(&World::new(3, 0))).await;
    let report: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((code, &report["result"]), (0, &json!("Allowed")), "{report}");
    let (text, ..) = files.lint_in("-f @new.yaml --live -o json", Some(&World::new(3, 0))).await;
    let report: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(report["items"][0]["from"], Value::Null, "{report}");
}

#[tokio::test]
async fn count_that_stays_needs_no_verdict() {
    let frozen = POLICY.replace("instances: {min: 3, max: 7}", "instances: {min: 5}");
    let files =
        Files::of(&[("a.yaml", &cluster("3")), ("old.yaml", &cluster("3")), ("p.yaml", &frozen)]);
    let report = files.json("-f @a.yaml @p.yaml --current @old.yaml").await;
    assert_eq!((&report["items"][0]["verdict"], rules(&report)), (&json!("Unchanged"), vec![]));
}

#[tokio::test]
async fn machine_formats_name_the_line_and_hold_hostile_texts() {
    let files = Files::of(&[
        ("a,b%.yaml", &cluster("2").replace("acid-a", "\"<a&b>\\n::error::x\"")),
        ("policy.yaml", POLICY),
        ("broken.yaml", "a: [\n"),
    ]);
    let (text, code, _) = files.lint("-f @ -o github").await;
    assert_eq!(code, 3);
    let first = text.lines().next().unwrap();
    assert!(first.contains("line=7,col="), "{first}");
    for line in text.lines() {
        assert!(line.starts_with("::error ") || line.starts_with("::notice "), "{line}");
    }
    assert!(first.contains("a%2Cb%25.yaml"), "{first}");

    let (text, ..) = files.lint("-f @ -o junit").await;
    assert!(text.contains("tests=\"2\" failures=\"1\" errors=\"1\""), "{text}");
    assert!(text.contains("&lt;a&amp;b&gt;") && !text.contains("<a&b>"), "{text}");
}

#[test]
fn wrong_combinations_are_usage_errors() {
    for line in [
        "lint -f a --current b --live",
        "lint -f a --diff b --current c",
        "lint --live",
        "lint --diff main",
        "lint --to 3",
        "lint -f a --to 3 --facts b",
        "lint -f a --at soon",
        "lint -f a -o name",
    ] {
        let words = format!("kubectl-pgscale {line}");
        let error = Cli::of(words.split_whitespace()).expect_err(line);
        assert_eq!(error.exit_code(), 2, "{line}");
    }
    for line in ["kubectl-pgscale lint -f a b c", "kubectl-pgscale lint --diff HEAD a b c"] {
        assert!(Cli::of(line.split_whitespace()).is_ok(), "a hook adds the names of files: {line}");
    }
}

#[tokio::test]
async fn nothing_to_check_is_wrong_usage() {
    let (_, code, why) = Files::of(&[]).lint("").await;
    assert!(code == 2 && why.contains("nothing to check"), "{why}");
    let (_, code, _) = Files::of(&[]).lint("-f - --policy -").await;
    assert_eq!(code, 2);
}

/// Runs the script of the action for GitHub with a program that prints its words. Returns them, one
/// per line, and the exit code.
#[cfg(unix)]
fn action(files: &Files, inputs: &[(&str, &str)]) -> (String, i32) {
    use std::os::unix::fs::PermissionsExt as _;
    let program = files.root().join("program");
    std::fs::write(&program, "#!/bin/sh\nprintf '%s\\n' \"$@\"\nexit 3\n").unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../actions/lint/lint.sh");
    let mut shell = std::process::Command::new("bash");
    shell.arg(script).env("INPUT_PROGRAM", &program).envs(inputs.iter().copied());
    let output = shell.output().unwrap();
    (String::from_utf8(output.stdout).unwrap(), output.status.code().unwrap())
}

#[cfg(unix)]
#[test]
fn action_for_github_gives_every_input_as_one_word_and_ends_as_the_program() {
    let files = Files::of(&[]);
    let sarif = files.root().join("out.sarif");
    let (words, code) = action(
        &files,
        &[
            ("INPUT_PATH", "a b.yaml\n$(touch x)\n\n-n"),
            ("INPUT_POLICY", "p.yaml"),
            ("INPUT_BASE", "origin/main"),
            ("INPUT_SARIF", sarif.to_str().unwrap()),
        ],
    );
    assert_eq!(code, 3);
    assert_eq!(
        words.lines().collect::<Vec<_>>(),
        [
            "lint",
            "--filename=a b.yaml",
            "--filename=$(touch x)",
            "--filename=-n",
            "--policy=p.yaml",
            "--diff=origin/main",
            "--output=github",
        ]
    );
    assert!(std::fs::read_to_string(sarif).unwrap().ends_with("--output=sarif\n"));
}

#[test]
fn inputs_of_the_action_and_of_the_hook_are_flags_of_the_program() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let hook = std::fs::read_to_string(format!("{root}/.pre-commit-hooks.yaml")).unwrap();
    let hook: Value = serde_saphyr::from_str(&hook).unwrap();
    let entry = hook[0]["entry"].as_str().unwrap();
    let line = format!("{entry} --diff HEAD a.yaml b.json");
    assert!(Cli::of(line.split_whitespace()).is_ok(), "{line}");
    let action = std::fs::read_to_string(format!("{root}/actions/lint/action.yml")).unwrap();
    let action: Value = serde_saphyr::from_str(&action).unwrap();
    let step = &action["runs"]["steps"][0];
    for input in action["inputs"].as_object().unwrap().keys() {
        let variable = format!("INPUT_{}", input.to_uppercase().replace('-', "_"));
        let want = format!("${{{{ inputs.{input} }}}}");
        assert_eq!(step["env"][&variable], want, "{input}");
    }
    assert!(!step["run"].as_str().unwrap().contains("inputs."), "no input is part of the script");
    let argo =
        std::fs::read_to_string(format!("{root}/docs/examples/argocd-presync.yaml")).unwrap();
    let argo: Vec<Value> = serde_saphyr::from_multiple(&argo).unwrap();
    let command = argo[0].pointer("/spec/template/spec/containers/0/command").unwrap();
    let words: Vec<&str> =
        command.as_array().unwrap().iter().map(|it| it.as_str().unwrap()).collect();
    assert!(Cli::of(words.iter()).is_ok(), "{words:?}");
}
