//! The decisions: facts of an installation in, a plan or a refusal out.

use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::{Value, json};

use super::*;
use crate::doctor::shipped::definitions;

const OWN: &str = env!("CARGO_PKG_VERSION");
/// The fields of a policy, in its definition.
const SPEC: &str = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties";

/// A change of a Deployment and of a registration.
type Change<'a> = &'a dyn Fn(&mut Value, &mut Value);

fn target(release: &str, namespace: &str) -> Target {
    Target { release: release.to_owned(), namespace: namespace.to_owned() }
}

fn release(name: &str, namespace: &str, status: &str, chart: &str) -> Release {
    let text = str::to_owned;
    Release {
        name: text(name),
        namespace: text(namespace),
        status: text(status),
        revision: text("1"),
        chart: text(chart),
    }
}

/// Returns a cluster with nothing of ours.
fn bare() -> Found {
    let names = definitions().unwrap().into_iter().map(|it| it.metadata.name.unwrap());
    Found {
        releases: Vec::new(),
        registration: Seen::Absent,
        definitions: names.map(|name| (name, Seen::Absent)).collect(),
    }
}

fn standing(lacks: &[&str], more: &[&str]) -> Seen<Standing> {
    let all = |of: &[&str]| of.iter().map(|it| (*it).to_owned()).collect();
    Seen::Known(Standing { lacks: all(lacks), more: all(more), terminating: false })
}

/// Returns a cluster with an installation of this chart and this status.
fn installed(status: &str, chart: &str) -> Found {
    let mut found = bare();
    found.releases.push(release("pgscale", "pgscale-system", status, chart));
    found.registration = Seen::Known(Owner::Helm(target("pgscale", "pgscale-system")));
    for (_, standing) in &mut found.definitions {
        *standing = self::standing(&[], &[]);
    }
    found
}

fn present() -> Found {
    installed("deployed", &format!("pgscale-{OWN}"))
}

fn with(mut found: Found, change: impl FnOnce(&mut Found)) -> Found {
    change(&mut found);
    found
}

fn first(found: &mut Found, standing: Seen<Standing>) {
    found.definitions[0].1 = standing;
}

fn named(release: &str, namespace: &str) -> Named {
    Named { release: Some(release.to_owned()), namespace: Some(namespace.to_owned()) }
}

/// Returns the lines of a plan, or the refusal.
fn said<T>(result: Result<T, Failure>, lines: impl FnOnce(T) -> Vec<String>) -> String {
    match result {
        Ok(done) => lines(done).join("\n"),
        Err(failure) => failure.to_string(),
    }
}

/// Checks each row: the text contains every word, and begins as a refusal where that is wanted.
fn table(rows: &[(&str, String, bool, &[&str])]) {
    for (name, text, refused, words) in rows {
        assert_eq!(text.starts_with("error: "), *refused, "{name}: {text}");
        for word in *words {
            assert!(text.contains(word), "{name} lacks {word:?}: {text}");
        }
    }
}

#[test]
fn installation_is_refused_where_one_is_there_or_something_is_not_known() {
    let install = |found: &Found, named: &Named| said(install(found, named), |it| it.lines());
    let default = Named::default();
    let chart = format!("pgscale-{OWN}");
    table(&[
        (
            "a bare cluster",
            install(&bare(), &default),
            false,
            &["release pgscale in namespace pgscale-system", "scalepolicies.pgscale.dev: new"],
        ),
        (
            "another name",
            install(&bare(), &named("g", "ops")),
            false,
            &["release g in namespace ops"],
        ),
        (
            "definitions of an earlier installation",
            install(
                &with(present(), |it| {
                    it.releases.clear();
                    it.registration = Seen::Absent;
                }),
                &default,
            ),
            false,
            &["all are as in this program"],
        ),
        (
            "installed",
            install(&present(), &default),
            true,
            &["installed already", "kubectl pgscale upgrade -n pgscale-system"],
        ),
        (
            "installed elsewhere",
            install(
                &with(bare(), |it| it.releases.push(release("g", "ops", "deployed", &chart))),
                &default,
            ),
            true,
            &["one installation serves", "kubectl pgscale upgrade -n ops --release g"],
        ),
        (
            "the first run failed",
            install(&installed("failed", &chart), &default),
            false,
            &["Install"],
        ),
        (
            "an upgrade failed: an installation would drop the stored values",
            install(
                &with(installed("failed", &chart), |it| it.releases[0].revision = "2".to_owned()),
                &default,
            ),
            true,
            &["its last change failed", "kubectl pgscale upgrade -n pgscale-system"],
        ),
        (
            "helm does not list the release of the registration",
            install(&with(installed("deployed", &chart), |it| it.releases.clear()), &default),
            true,
            &["which helm does not list", "HELM_DRIVER"],
        ),
        (
            "another run is at work",
            install(&installed("pending-install", &chart), &default),
            true,
            &[
                "pending-install",
                "helm history pgscale -n pgscale-system",
                "helm uninstall pgscale",
            ],
        ),
        (
            "GitOps",
            install(&with(bare(), |it| it.registration = Seen::Known(Owner::Other)), &default),
            true,
            &["GitOps", "--dry-run=client -o yaml"],
        ),
        (
            "the registration of a lost release elsewhere",
            install(
                &with(bare(), |it| it.registration = Seen::Known(Owner::Helm(target("g", "ops")))),
                &default,
            ),
            true,
            &["belongs to the release g in namespace ops"],
        ),
        (
            "the registration is unread",
            install(&with(bare(), |it| it.registration = Seen::Unreadable("no".into())), &default),
            true,
            &["could not be read: no"],
        ),
        (
            "a definition is unread",
            install(&with(bare(), |it| first(it, Seen::Unreadable("no".into()))), &default),
            true,
            &["could not be read: no", "nothing was changed"],
        ),
        (
            "definitions of a newer version",
            install(&with(bare(), |it| first(it, standing(&[], &[".spec.roof"]))), &default),
            true,
            &["newer than this program", ".spec.roof", "get a newer"],
        ),
        (
            "a definition is being deleted",
            install(
                &with(bare(), |it| {
                    first(
                        it,
                        Seen::Known(Standing { lacks: vec![], more: vec![], terminating: true }),
                    );
                }),
                &default,
            ),
            true,
            &["kubectl wait --for=delete customresourcedefinition/"],
        ),
    ]);
}

#[test]
fn upgrade_says_what_changes_and_never_goes_back() {
    let upgrade = |found: &Found, named: &Named| said(upgrade(found, named), |it| it.lines());
    let default = Named::default();
    let older = installed("deployed", "pgscale-0.0.9");
    let two = with(present(), |it| {
        it.releases.push(release("g", "ops", "deployed", "pgscale-0.0.9"));
    });
    table(&[
        (
            "nothing there",
            upgrade(&bare(), &default),
            true,
            &["nothing to upgrade", "kubectl pgscale install"],
        ),
        (
            "older",
            upgrade(
                &with(older.clone(), |it| {
                    first(it, standing(&[".spec.a", ".spec.b"], &[".spec.c"]));
                }),
                &default,
            ),
            false,
            &["from 0.0.9 to", "new: .spec.a, .spec.b; taken away: .spec.c"],
        ),
        ("the same", upgrade(&present(), &default), false, &["all are as in this program"]),
        (
            "the same version of another build",
            upgrade(&with(present(), |it| first(it, standing(&[], &[".spec.c"]))), &default),
            true,
            &["newer than this program"],
        ),
        (
            "newer",
            upgrade(&installed("deployed", "pgscale-99.0.0"), &default),
            true,
            &["pgscale-99.0.0", "get a newer", "helm rollback pgscale -n pgscale-system"],
        ),
        (
            "a release candidate of this version",
            upgrade(&installed("deployed", &format!("pgscale-{OWN}-rc.1")), &default),
            false,
            &["-rc.1 to"],
        ),
        (
            "the last upgrade failed",
            upgrade(&installed("failed", "pgscale-0.0.9"), &default),
            false,
            &["Upgrade"],
        ),
        (
            "the last upgrade was cut off",
            upgrade(&installed("pending-upgrade", "pgscale-0.0.9"), &default),
            true,
            &["helm rollback pgscale"],
        ),
        ("two of them", upgrade(&two, &default), true, &["several releases", "--release"]),
        (
            "one of two, which the registration does not belong to",
            upgrade(&two, &named("g", "ops")),
            true,
            &["belongs to the release pgscale"],
        ),
        (
            "found where it is",
            upgrade(
                &with(bare(), |it| {
                    it.releases.push(release("g", "ops", "deployed", "pgscale-0.0.9"));
                }),
                &default,
            ),
            false,
            &["release g in namespace ops"],
        ),
    ]);
}

#[test]
fn removal_begins_with_the_registration_and_never_takes_what_is_not_helms() {
    let default = Named::default();
    let removal = |found: &Found, named: &Named| uninstall(found, named);
    let all = removal(&present(), &default).unwrap();
    assert!(all.registration && all.release && all.target == target("pgscale", "pgscale-system"));
    insta::assert_snapshot!(all.lines().join("\n"), @"
    Uninstall the release pgscale in namespace pgscale-system:
    - first the registration pgscale.dev: from then on no write is judged
    - then everything else of the release, by helm
    - the definitions stay, with all policies and overrides
    ");
    let nothing = removal(&bare(), &default).unwrap();
    assert!(nothing.is_empty(), "{nothing:?}");
    // The command before was cut off after its first step, or the release was lost.
    let rest = removal(&with(present(), |it| it.registration = Seen::Absent), &default).unwrap();
    assert_eq!((rest.registration, rest.release), (false, true));
    let lost = removal(&with(present(), |it| it.releases.clear()), &default).unwrap();
    assert_eq!((lost.registration, lost.release), (true, false));
    for (name, found) in [
        ("GitOps", with(bare(), |it| it.registration = Seen::Known(Owner::Other))),
        ("unread", with(present(), |it| it.registration = Seen::Unreadable("no".to_owned()))),
        ("at work", installed("uninstalling", "pgscale-0.1.0")),
        (
            "another's",
            with(present(), |it| {
                it.registration = Seen::Known(Owner::Helm(target("g", "ops")));
            }),
        ),
    ] {
        assert!(removal(&found, &default).is_err(), "{name}");
    }
}

#[test]
fn helm_gets_the_release_the_namespace_and_each_value_as_one_word() {
    let values = ["--values=a b.yaml".to_owned(), "--set=x=y".to_owned()];
    let plan = install(&bare(), &named("g", "ops")).unwrap();
    insta::assert_snapshot!(plan.call(&values).command(), @"helm upgrade --install g charts/pgscale --namespace=ops --create-namespace --skip-crds --reset-values --values='a b.yaml' --set=x=y");
    let plan = upgrade(&present(), &Named::default()).unwrap();
    insta::assert_snapshot!(plan.call(&values).command(), @"helm upgrade --install pgscale charts/pgscale --namespace=pgscale-system --create-namespace --skip-crds --reset-then-reuse-values --values='a b.yaml' --set=x=y");
    insta::assert_snapshot!(plan.rehearsal(&[]).command(), @"helm upgrade --install pgscale charts/pgscale --namespace=pgscale-system --create-namespace --skip-crds --reset-then-reuse-values --dry-run=server --output=json");
    let printed = manifests(&plan.target, &values, "1.30.0", &["monitoring.coreos.com/v1".into()]);
    insta::assert_snapshot!(printed.command(), @"helm template pgscale charts/pgscale --namespace=pgscale-system --kube-version=1.30.0 --api-versions=monitoring.coreos.com/v1 --include-crds --skip-tests --values='a b.yaml' --set=x=y");
    assert_eq!(printed.reach, Touch::Nothing, "no API server is asked");
    let removal = uninstall(&present(), &Named::default()).unwrap();
    insta::assert_snapshot!(removal.call().command(), @"helm uninstall pgscale --namespace=pgscale-system");
}

#[test]
fn releases_of_other_charts_are_not_ours() {
    for (chart, ours) in [
        ("pgscale-0.1.0", true),
        ("pgscale-0.1.0+build", true),
        ("pgscale-extras-1.0.0", false),
        ("postgres-operator-1.15.1", false),
    ] {
        assert_eq!(release("pgscale", "n", "deployed", chart).is_ours(), ours, "{chart}");
    }
}

#[test]
fn installed_definition_is_compared_with_the_shipped_one() {
    let shipped = definitions().unwrap().remove(0);
    let changed = |change: fn(&mut Value)| {
        let mut live = json!(shipped);
        change(&mut live);
        let live: CustomResourceDefinition = serde_json::from_value(live).unwrap();
        read::standing(&live, &shipped)
    };
    let same = changed(|_| {});
    assert_eq!((same.lacks.len(), same.more.len(), same.terminating), (0, 0, false));
    let older = changed(|live| {
        live.pointer_mut(SPEC).unwrap().as_object_mut().unwrap().remove("mode");
    });
    assert!(older.lacks.contains(&".spec.mode".to_owned()) && older.more.is_empty(), "{older:?}");
    let newer = changed(|live| {
        live.pointer_mut(SPEC).unwrap()["roof"] = json!({"type": "object"});
        let version = live["spec"]["versions"][0].clone();
        live["spec"]["versions"].as_array_mut().unwrap().push(version);
        live["spec"]["versions"][1]["name"] = json!("v1");
    });
    assert_eq!(newer.more, [".spec.roof", "version v1"]);
    let gone =
        changed(|live| live["metadata"]["deletionTimestamp"] = json!("2026-11-24T10:00:00Z"));
    assert!(gone.terminating);
}

#[test]
fn webhook_answers_once_every_replica_is_ready_and_every_entry_leads_to_them() {
    let deployment = json!({
        "metadata": {"generation": 2},
        "spec": {"replicas": 2, "selector": {}, "template": {}},
        "status": {"observedGeneration": 2, "replicas": 2, "updatedReplicas": 2,
            "availableReplicas": 2},
    });
    let entry = |config: Value| {
        json!({"name": "shrink.pgscale.dev", "clientConfig": config, "sideEffects": "None",
            "admissionReviewVersions": ["v1"]})
    };
    let service = json!({"name": "pgscale-webhook", "namespace": "n", "path": "/validate/x"});
    let registration =
        json!({"webhooks": [entry(json!({"service": service, "caBundle": "QQ=="}))]});
    let lacking = |change: Change<'_>| {
        let (mut deployment, mut registration) = (deployment.clone(), registration.clone());
        change(&mut deployment, &mut registration);
        let deployment: Deployment = serde_json::from_value(deployment).unwrap();
        let registration: ValidatingWebhookConfiguration =
            serde_json::from_value(registration).unwrap();
        act::lacking(&Seen::Known(deployment), &Seen::Known(registration))
    };
    assert_eq!(lacking(&|_, _| {}), None);
    let rows: [(Change<'_>, &str); 8] = [
        (&|it, _| it["metadata"]["generation"] = json!(3), "the rollout has not begun"),
        (
            &|it, _| it["status"]["updatedReplicas"] = json!(1),
            "1 of 2 replicas are of this release",
        ),
        (&|it, _| it["status"]["availableReplicas"] = json!(0), "0 of 2 replicas are ready"),
        (&|it, _| it["status"]["replicas"] = json!(3), "replicas of the release before still run"),
        (&|it, _| it["status"] = json!({}), "the rollout has not begun"),
        (&|_, it| it["webhooks"] = json!([]), "the registration pgscale.dev has no entry"),
        (
            &|_, it| it["webhooks"][0]["clientConfig"]["caBundle"] = json!(null),
            "no authority or no path is published in shrink.pgscale.dev",
        ),
        (
            &|_, it| it["webhooks"][0]["clientConfig"]["service"]["path"] = json!(null),
            "no authority or no path is published in shrink.pgscale.dev",
        ),
    ];
    for (change, want) in rows {
        assert_eq!(lacking(change).as_deref(), Some(want));
    }
    let unread = act::lacking(&Seen::Unreadable("no".to_owned()), &Seen::Absent);
    assert_eq!(unread.as_deref(), Some("the Deployment could not be read: no"));
    assert!(act::lacking(&Seen::Absent, &Seen::Absent).is_some());
}

#[test]
fn what_stays_is_named_with_the_command_that_removes_it() {
    use remains::{Left, remedies};

    let target = target("pgscale", "pgscale-system");
    let names = ["a.pgscale.dev", "b.pgscale.dev"].map(str::to_owned).to_vec();
    let left = Left {
        definitions: Seen::Known(names),
        policies: Seen::Known(1),
        overrides: Seen::Known(0),
        histories: Seen::Known(3),
        namespace: Seen::Known(()),
    };
    let text = |left: &Left, target: &Target| remedies(left, target).to_string();
    insta::assert_snapshot!(text(&left, &target), @"
    the definitions, with 1 policy and 0 overrides, which are lost with them:
      kubectl delete customresourcedefinition a.pgscale.dev b.pgscale.dev
    3 records of changes, which Kubernetes deletes with their clusters:
      kubectl delete configmap -A -l pgscale.dev/record=history
    the Secret with the certificates, where the webhook wrote it again while it ended:
      kubectl delete secret pgscale-webhook-certificates -n pgscale-system --ignore-not-found
    the namespace pgscale-system, with everything else in it:
      kubectl delete namespace pgscale-system
    ");
    let gone = Left {
        definitions: Seen::Absent,
        policies: Seen::Absent,
        overrides: Seen::Absent,
        histories: Seen::Absent,
        namespace: Seen::Absent,
    };
    assert_eq!(text(&gone, &target), "");
    let unread = Seen::Unreadable("no".to_owned());
    let unknown = Left {
        definitions: Seen::Unreadable("no".to_owned()),
        policies: unread.clone(),
        ..left.clone()
    };
    let said = text(&unknown, &target);
    assert!(said.contains("policies that could not be counted (no)"), "{said}");
    assert!(said.contains("scalepolicies.pgscale.dev"), "{said}");
    let kubernetes = Target { namespace: "kube-system".to_owned(), ..target };
    assert!(!text(&left, &kubernetes).contains("delete namespace"));
}
