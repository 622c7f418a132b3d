//! What the operator would write, and what its comparison finds.

use serde_json::json;

use super::*;

fn text(data: &[(&str, &str)]) -> BTreeMap<String, String> {
    data.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn cluster() -> Postgresql {
    Postgresql::of(&json!({
        "metadata": {"namespace": "db", "name": "acid-a",
            "labels": {"cost": "7", "team": "web", "other": "x"},
            "annotations": {"owner": "ann", "downscaler/uptime": "Mon-Fri", "other": "y"}},
        "spec": {"teamId": "acid", "podAnnotations": {"scrape": "true", "owner": "spec"}},
    }))
    .unwrap()
}

#[test]
fn both_sources_of_shaping_settings_are_read_alike() {
    let flat = text(&[
        ("inherited_labels", "cost,team"),
        ("inherited_annotations", "owner"),
        ("downscaler_annotations", "^downscaler/.*,x"),
        ("custom_pod_annotations", "scrape:false, quoted:\"a,b\""),
        ("kube_iam_role", "r"),
        ("pod_service_account_name", "spilo"),
        ("pod_terminate_grace_period", "2m30s"),
        ("pod_management_policy", "parallel"),
        ("persistent_volume_claim_retention_policy", "when_deleted:delete,when_scaled:retain"),
        ("resync_period", "5m"),
    ]);
    let object = json!({
        "resync_period": "5m",
        "aws_or_gcp": {"kube_iam_role": "r"},
        "kubernetes": {
            "inherited_labels": ["cost", "team"], "inherited_annotations": ["owner"],
            "downscaler_annotations": ["^downscaler/.*", "x"],
            "custom_pod_annotations": {"scrape": "false", "quoted": "\"a,b\""},
            "pod_service_account_name": "spilo", "pod_terminate_grace_period": "2m30s",
            "pod_management_policy": "parallel",
            "persistent_volume_claim_retention_policy": {"when_deleted": "delete", "when_scaled": "retain"},
        },
    });
    let settings = Shaping::of_config_map(&flat);
    assert_eq!(settings, Shaping::of_operator_configuration(&object));
    assert_eq!((settings.grace_seconds, settings.parallel), (Some(150), true));
    assert_eq!(settings.resync, Some(SignedDuration::from_mins(5)));
    assert!(settings.when_deleted);

    let empty = Shaping::of_operator_configuration(&json!({}));
    assert_eq!(Shaping::of_config_map(&BTreeMap::new()), empty);
    assert_eq!(empty, Shaping::default());
    let odd = Shaping::of_config_map(&text(&[("pod_terminate_grace_period", "soon")]));
    assert_eq!(odd.grace_seconds, None, "not understood is not the default");
}

#[test]
fn labels_and_annotations_are_those_of_the_operator() {
    let bare = Settings::default().compared(&cluster()).unwrap();
    let labels = [("application", "spilo"), ("cluster-name", "acid-a"), ("team", "acid")];
    assert_eq!(bare.pod_labels, text(&labels));
    assert_eq!(bare.annotations, Pairs::new());
    // Unlike an inherited annotation, the one of the manifest reaches the pods alone.
    assert_eq!(bare.pod_annotations, text(&[("owner", "spec"), ("scrape", "true")]));

    let data = [
        ("cluster_labels", "application:pg"),
        ("cluster_name_label", "cluster"),
        ("inherited_labels", "cost,team, other"),
        ("inherited_annotations", "owner"),
        ("downscaler_annotations", "^downscaler/"),
        ("custom_pod_annotations", "scrape:false,zone:a"),
        ("kube_iam_role", "r"),
    ];
    let all = Settings::of_config_map(&text(&data)).unwrap().compared(&cluster()).unwrap();
    // An inherited label wins over the team, and a key behind a blank matches nothing.
    let labels = [("application", "pg"), ("cluster", "acid-a"), ("cost", "7"), ("team", "web")];
    assert_eq!(all.pod_labels, text(&labels));
    let annotations = [("downscaler/uptime", "Mon-Fri"), ("owner", "ann")];
    assert_eq!(all.annotations, text(&annotations));
    let on_pods =
        [("iam.amazonaws.com/role", "r"), ("owner", "ann"), ("scrape", "true"), ("zone", "a")];
    assert_eq!(all.pod_annotations, text(&on_pods));
}

#[test]
fn pattern_that_is_not_understood_is_an_error() {
    let data = text(&[("downscaler_annotations", "(")]);
    let settings = Settings::of_config_map(&data).unwrap();
    assert_eq!(
        settings.compared(&cluster()).unwrap_err(),
        "downscaler_annotations holds \"(\", which is not understood here"
    );
}

#[test]
fn comparison_finds_what_the_operator_finds() {
    let wanted = Settings::default().compared(&cluster()).unwrap();
    let found = |change: fn(&mut Compared), ignored: &[&str]| {
        let mut live = wanted.clone();
        change(&mut live);
        let ignored: Vec<String> = ignored.iter().map(|key| (*key).to_owned()).collect();
        let found = live.differences(&wanted, &ignored);
        found.into_iter().map(|it| (it.place.renews(), it.place)).collect::<Vec<_>>()
    };
    let annotation = |key: &str| (false, Place::Annotation(key.to_owned()));
    let on_pods = |key: &str| (false, Place::PodAnnotation(key.to_owned()));
    let label = |key: &str| (true, Place::PodLabel(key.to_owned()));
    for (name, change, want) in [
        ("nothing", (|_| {}) as fn(&mut Compared), vec![]),
        (
            "an annotation of another program",
            |it| drop(it.annotations.insert("mesh".into(), "on".into())),
            vec![annotation("mesh")],
        ),
        (
            "kubectl rollout restart",
            |it| drop(it.pod_annotations.insert("mesh".into(), "on".into())),
            vec![on_pods("mesh")],
        ),
        (
            "an annotation with another value",
            |it| drop(it.pod_annotations.insert("scrape".into(), "no".into())),
            vec![on_pods("scrape")],
        ),
        (
            "one that is not there",
            |it| it.pod_annotations.clear(),
            vec![on_pods("owner"), on_pods("scrape")],
        ),
        (
            "another label",
            |it| drop(it.pod_labels.insert("team".into(), "b".into())),
            vec![label("team")],
        ),
        (
            "one label more",
            |it| drop(it.pod_labels.insert("cost".into(), "1".into())),
            vec![label("cost")],
        ),
        ("labels that were not read", |it| it.pod_labels.clear(), vec![]),
        ("a role", |it| it.service_account = Some("x".into()), vec![(true, Place::ServiceAccount)]),
        ("a role that was not read", |it| it.service_account = None, vec![]),
        ("less time to end", |it| it.grace_seconds = Some(30), vec![(true, Place::GracePeriod)]),
        ("pods at once", |it| it.parallel = true, vec![(false, Place::PodManagement)]),
        ("claims deleted", |it| it.when_scaled = true, vec![(false, Place::Retention)]),
        ("claims deleted later", |it| it.when_deleted = true, vec![(false, Place::Retention)]),
    ] {
        assert_eq!(found(change, &[]), want, "{name}");
        // Labels are never ignored.
        let ignored = found(change, &["mesh", "owner", "scrape", "team", "cost"]);
        let seen = |(_, place): &&(bool, Place)| {
            !matches!(place, Place::Annotation(_) | Place::PodAnnotation(_))
        };
        assert_eq!(ignored, want.iter().filter(seen).cloned().collect::<Vec<_>>(), "{name}");
    }
}
