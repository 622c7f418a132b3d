//! The edge: a program in the place of helm.

use serde_json::json;

use super::*;

/// Returns the shell, in the place of helm.
fn shell() -> OnPath {
    OnPath { kubeconfig: Some(json!({"kind": "Config"})), program: "sh" }
}

fn call(words: &[&str], reach: Touch) -> Call {
    Call::new(words.iter().copied(), reach, Duration::from_secs(20))
}

/// Runs a script in the place of helm, with these words.
async fn run(script: &str, words: &[&str], reach: Touch) -> Result<String, HelmError> {
    shell().run(call(&[&["-c", script, "helm"], words].concat(), reach)).await
}

#[tokio::test]
async fn helm_gets_its_words_and_the_cluster_that_this_program_reaches() {
    let script = "for word; do echo \"[$word]\"; done; env | grep -c '^HELM_KUBE'
        cat \"${7#*=}\"; stat -c %a \"${7#*=}\"; stat -c %a \"$(dirname \"${7#*=}\")\"";
    let words = ["template", "a b", "--set=x=$(id);'", CHART, "--namespace=n", "-f="];
    let said = run(script, &words, Touch::Reads).await.unwrap();
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[..3], ["[template]", "[a b]", "[--set=x=$(id);']"]);
    assert!(lines[3].ends_with("/chart]"), "{said}");
    assert!(lines[6].starts_with("[--kubeconfig=") && lines[7] == "[--kube-context=pgscale]");
    // No other user of the machine may put another file into its place.
    assert_eq!(lines[8..], ["0", "{\"kind\":\"Config\"}600", "700"], "{said}");
}

#[tokio::test]
async fn interruption_of_the_terminal_reaches_no_helm_that_writes() {
    let leads = "test \"$(ps -o pgid= -p $$ | tr -d ' ')\" = $$ && echo a group of its own";
    assert_eq!(run(leads, &[], Touch::Writes).await.unwrap(), "a group of its own\n");
    let along = run(leads, &[], Touch::Reads).await;
    assert!(matches!(along, Err(HelmError::Failed(_))), "{along:?}");
}

#[tokio::test]
async fn helm_without_a_cluster_gets_no_kubeconfig() {
    let script = "echo $#; test -f \"$2/Chart.yaml\" && echo chart";
    let said = run(script, &["template", CHART], Touch::Nothing).await.unwrap();
    assert_eq!(said, "2\nchart\n");
}

#[tokio::test]
async fn failure_shows_what_helm_says_and_the_command() {
    let asked = call(&["upgrade", "pgscale", CHART, "--set=a=b c"], Touch::Writes);
    let failing = run("echo 'Error: no such value' >&2; exit 3", &[], Touch::Writes).await;
    let failure = failing.unwrap_err().failure("install the release", &asked);
    insta::assert_snapshot!(failure.to_string(), @"
    error: failed to install the release: helm says:
      Error: no such value
    hint: it ran this, with the chart in this program:
        helm upgrade pgscale charts/pgscale --set=a='b c'
    ");
    let silent = run("exit 3", &[], Touch::Writes).await;
    assert_eq!(silent, Err(HelmError::Failed("exit status: 3".to_owned())));
    let gone = OnPath { kubeconfig: None, program: "/nowhere/helm" };
    let failure = gone.run(asked.clone()).await.unwrap_err().failure("install it", &asked);
    insta::assert_snapshot!(failure.to_string(), @"
    error: failed to install it: helm is not on the path
    hint: get Helm 3.14 or later from https://helm.sh/docs/intro/install
    ");
}

#[tokio::test]
async fn time_and_answers_of_helm_are_bounded() {
    let limit = Duration::from_millis(50);
    let late = Call { patience: limit, ..call(&["-c", "exec sleep 60"], Touch::Writes) };
    assert_eq!(shell().run(late).await, Err(HelmError::Late(limit)));
    let loud = run("head -c 20000000 /dev/zero", &[], Touch::Reads).await;
    let why = HelmError::Unusable("helm's answer has more than 16 MiB".to_owned());
    assert_eq!(loud, Err(why));
    let script = "head -c 200000 /dev/zero | tr '\\0' x >&2; echo end >&2; exit 1";
    let Err(HelmError::Failed(said)) = run(script, &[], Touch::Reads).await else {
        panic!("it failed")
    };
    assert!(said.ends_with("end") && said.len() <= MOST_SAID, "{}", said.len());
}
