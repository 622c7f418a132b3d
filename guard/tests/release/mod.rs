//! What `.ci/release` makes of two programs: names, sums and versions agree.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde::Deserialize;

use super::root;

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A manifest of krew, as far as its own validation looks at it (`internal/index/validation` of
/// krew). An unknown field fails.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Manifest {
    api_version: String,
    kind: String,
    metadata: Metadata,
    spec: Spec,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Metadata {
    name: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Spec {
    version: String,
    homepage: String,
    short_description: String,
    description: String,
    caveats: String,
    platforms: Vec<Platform>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Platform {
    selector: Selector,
    uri: String,
    sha256: String,
    bin: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Selector {
    match_labels: Labels,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Labels {
    os: String,
    arch: String,
}

/// Runs steps of the script on two small programs, and returns what it says.
fn release(out: &Path, programs: &Path, steps: &[&str]) -> String {
    let ran = Command::new(root().join(".ci/release"))
        .args(steps)
        .env("RELEASE_OUT", out)
        .env("RELEASE_PROGRAMS", programs)
        .env("RELEASE_URL", "https://example.com/d")
        .env("RELEASE_TARGET", "x86_64-unknown-linux-gnu")
        .env("SOURCE_DATE_EPOCH", "1700000000")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert!(ran.status.success(), "{said}");
    String::from_utf8(ran.stdout).unwrap()
}

fn programs(place: &Path) {
    fs::create_dir_all(place).unwrap();
    fs::write(place.join("kubectl-pgscale"), "a program").unwrap();
    fs::write(place.join("pgscale-webhook"), "another program").unwrap();
}

#[test]
fn a_version_is_the_same_everywhere_and_its_archives_are_reproducible() {
    let place = tempfile::tempdir().unwrap();
    let given = place.path().join("programs");
    programs(&given);
    let sums: Vec<String> = ["one", "two"]
        .iter()
        .map(|name| {
            let out = place.path().join(name);
            release(&out, &given, &["check", "archives", "krew", "sums"]);
            fs::read_to_string(out.join("SHA256SUMS")).unwrap()
        })
        .collect();
    assert_eq!(sums[0], sums[1]);

    let out = place.path().join("one");
    let manifest = fs::read_to_string(out.join("pgscale.yaml")).unwrap();
    assert!(!manifest.contains('@'), "{manifest}");
    let manifest: Manifest = serde_saphyr::from_str(&manifest).unwrap();
    assert_eq!(manifest.api_version, "krew.googlecontainertools.github.com/v1alpha2");
    assert_eq!((&*manifest.kind, &*manifest.metadata.name), ("Plugin", "pgscale"));
    let Spec { version, homepage, short_description, description, caveats, platforms } =
        manifest.spec;
    assert_eq!(version, format!("v{VERSION}"));
    assert!(homepage.starts_with("https://"), "{homepage}");
    // A line of `kubectl krew search`.
    assert!(!short_description.contains('\n') && short_description.len() <= 50);
    assert!(!description.is_empty() && !caveats.is_empty());
    let [Platform { selector, uri, sha256, bin }] = &platforms[..] else {
        panic!("{platforms:?}");
    };
    assert_eq!((&*selector.match_labels.os, &*selector.match_labels.arch), ("linux", "amd64"));
    assert_eq!(bin, "kubectl-pgscale");
    let archive = format!("kubectl-pgscale-v{VERSION}-linux-amd64.tar.gz");
    assert_eq!(*uri, format!("https://example.com/d/v{VERSION}/{archive}"));
    assert!(sums[0].contains(&format!("{sha256}  {archive}\n")), "{}", sums[0]);

    let listed = Command::new("tar").arg("-tzf").arg(out.join(archive)).output().unwrap();
    assert_eq!(String::from_utf8(listed.stdout).unwrap(), "kubectl-pgscale\nLICENSE\n");
}

#[test]
fn images_run_as_the_user_of_the_chart_and_have_the_same_digest_twice() {
    let place = tempfile::tempdir().unwrap();
    let given = place.path().join("programs");
    programs(&given);
    let digests = ["one", "two"].map(|name| release(&place.path().join(name), &given, &["images"]));
    assert_eq!(digests[0], digests[1]);
    assert_eq!(digests[0].matches("sha256:").count(), 2, "{}", digests[0]);
    let values = fs::read_to_string(root().join("charts/pgscale/values.yaml")).unwrap();
    let value = |name: &str| {
        let line = values.lines().find_map(|line| line.trim().strip_prefix(&format!("{name}: ")));
        line.unwrap_or_else(|| panic!("the chart has no {name}")).to_owned()
    };
    let user = format!("{}:{}", value("runAsUser"), value("runAsGroup"));
    for (image, program) in [("plugin", "kubectl-pgscale"), ("webhook", "pgscale-webhook")] {
        let file = format!("{image}-image-v{VERSION}-linux-amd64.tar");
        let layout = place.path().join("one").join(file);
        let unpacked = place.path().join(image);
        fs::create_dir(&unpacked).unwrap();
        let tar = Command::new("tar").arg("-xf").arg(layout).arg("-C").arg(&unpacked).status();
        assert!(tar.unwrap().success());
        let blobs = fs::read_dir(unpacked.join("blobs/sha256")).unwrap();
        let texts: Vec<String> =
            blobs.filter_map(|blob| fs::read_to_string(blob.unwrap().path()).ok()).collect();
        let config = texts.iter().find(|text| text.contains("rootfs")).unwrap();
        for part in [format!("\"User\":\"{user}\""), format!("\"Entrypoint\":[\"/{program}\"]")] {
            assert!(config.contains(&part), "{part} is not in {config}");
        }
    }
}

#[test]
fn a_step_that_does_not_exist_is_refused_before_anything_is_made() {
    let place = tempfile::tempdir().unwrap();
    let out = place.path().join("out");
    let script = root().join(".ci/release");
    let ran = Command::new(script).args(["krew", "publish"]).env("RELEASE_OUT", &out).output();
    let ran = ran.unwrap();
    assert_eq!(ran.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&ran.stderr).contains("no such step: publish"));
    assert!(!out.exists());
}
