//! What beside the count shapes the pods, and what of it is shown.

use serde_json::json;

use super::*;
use crate::rules::testing::{Want, healthy, table, text};

/// Returns facts in which another controller is named, and no operator of that name is found:
/// its limits may make the count smaller.
fn in_doubt(mut facts: Facts) -> Facts {
    let key = crate::postgresql::CONTROLLER_ANNOTATION.to_owned();
    facts.change.new.annotations.insert(key, "another".to_owned());
    facts.operator = Seen::Absent;
    facts
}

/// Returns facts whose operator hands down the label `cost` and two annotations, and whose write
/// sets one more label or annotation.
fn handed(facts: Facts, label: Option<&str>, annotation: Option<&str>) -> Facts {
    let mut facts = facts.with_settings(|settings| {
        settings.shaping.inherited_labels = vec!["cost".into()];
        settings.shaping.inherited_annotations = vec!["owner".into()];
        settings.shaping.downscaler_annotations = vec!["^downscaler/".into()];
    });
    let new = &mut facts.change.new;
    new.labels.extend(label.map(|key| (key.to_owned(), "7".to_owned())));
    new.annotations.extend(annotation.map(|key| (key.to_owned(), "hunter2".to_owned())));
    facts
}

#[test]
fn labels_and_annotations_that_are_handed_down_shape_the_pods() {
    let hidden = |mut facts: Facts| {
        facts.operator = Seen::Unreadable("deployments is forbidden".into());
        facts
    };
    let ignoring = |facts: Facts| {
        facts.with_settings(|settings| settings.ignored_annotations = vec!["owner".into()])
    };
    let (label, annotation) = (Some("cost"), Some("owner"));
    let last_applied = Some("kubectl.kubernetes.io/last-applied-configuration");
    table(
        "mixed-change",
        vec![
            ("a label", handed(healthy(5, 3), label, None), Want::Deny),
            ("an annotation", handed(healthy(5, 3), None, annotation), Want::Deny),
            (
                "an annotation for downscalers",
                handed(healthy(5, 3), None, Some("downscaler/uptime")),
                Want::Deny,
            ),
            ("both, growing", handed(healthy(3, 5), label, annotation), Want::Warn),
            ("another label", handed(healthy(5, 3), Some("tier"), None), Want::Pass),
            ("another annotation", handed(healthy(5, 3), None, last_applied), Want::Pass),
            ("an ignored one", ignoring(handed(healthy(5, 3), None, annotation)), Want::Pass),
            (
                "not known what is handed down",
                hidden(handed(healthy(5, 3), None, last_applied)),
                Want::Unknown,
            ),
            ("not known, and nothing edited", hidden(healthy(5, 3)), Want::Pass),
        ],
    );
    let both = handed(healthy(5, 3), label, annotation);
    insta::assert_snapshot!(text("mixed-change", &both), @"
    mixed-change: the write that changes 5 to 3 instances also changes metadata.annotations.owner, metadata.labels.cost: the operator would replace or renew the pods instead of handing the leader over
      postgresql/acid-a: metadata.annotations.owner: added, not shown; metadata.labels.cost: unset → 7
      Try: two commits, the count first and the rest when it is done
          kubectl pgscale set acid-a 3 -n db
    ");
    assert!(!text("mixed-change", &both).contains("hunter2"));
}

pub(super) fn mixed_change() {
    let volume = |from, to| healthy(from, to).editing(|spec| spec["volume"]["size"] = json!("2Gi"));
    let users = |from, to| healthy(from, to).editing(|spec| spec["users"] = json!({"app": []}));
    let of_version = |major, part: &'static str| {
        let mut facts = healthy(5, 3).editing(move |spec| spec[part] = json!(["x"]));
        if let Seen::Known(operator) = &mut facts.operator {
            operator.major = major;
        }
        facts
    };
    let parameter = |name: &str| {
        let name = name.to_owned();
        healthy(5, 3).editing(move |spec| spec["postgresql"]["parameters"] = json!({name: "x"}))
    };
    table(
        "mixed-change",
        vec![
            ("the count alone", healthy(5, 3), Want::Pass),
            ("the count alone, growing", healthy(3, 5), Want::Pass),
            ("a larger volume", volume(5, 3), Want::Deny),
            ("a larger volume, growing", volume(3, 5), Want::Warn),
            (
                "another controller and a larger volume, its limits not known",
                in_doubt(volume(3, 3)),
                Want::NotApplicable,
            ),
            ("a user", users(5, 3), Want::Warn),
            ("a user, growing", users(3, 5), Want::Warn),
            (
                "a parameter of the pods' environment",
                parameter("shared_preload_libraries"),
                Want::Deny,
            ),
            ("a parameter of Patroni's configuration", parameter("max_connections"), Want::Warn),
            (
                "Patroni's own",
                healthy(5, 3).editing(|spec| {
                    spec["patroni"] = json!({"ttl": 20, "pg_hba": []});
                }),
                Want::Warn,
            ),
            (
                "an empty list is no edit of the pods",
                healthy(5, 3).editing(|spec| {
                    spec["sidecars"] = json!([]);
                }),
                Want::Warn,
            ),
            (
                "the StatefulSet runs no more than that",
                { volume(5, 3).with_stateful_set(|set| set.replicas = 3) },
                Want::Warn,
            ),
            ("sources of variables, version 1", of_version(Some(1), "envFrom"), Want::Warn),
            ("sources of variables, version 2", of_version(Some(2), "envFrom"), Want::Deny),
            ("sources of variables, some version", of_version(None, "envFrom"), Want::Deny),
            ("a probe, version 1", of_version(Some(1), "livenessProbe"), Want::Warn),
            ("a probe, version 2", of_version(Some(2), "livenessProbe"), Want::Deny),
            ("another scheduler", of_version(Some(2), "schedulerName"), Want::Warn),
            ("it cannot be seen", volume(5, 3).without_sight_of_the_set(), Want::Deny),
            ("zero has its own rule", volume(5, 0), Want::NotApplicable),
            ("the count stays", volume(5, 5), Want::NotApplicable),
        ],
    );
    let id = "mixed-change";
    insta::assert_snapshot!(text(id, &volume(5, 3).editing(|spec| {
        spec["resources"] = json!({"requests": {"cpu": "1"}});
        spec["teamId"] = json!("other");
        spec["databases"] = json!({"app": "owner"});
    })), @r#"
    mixed-change: the write that changes 5 to 3 instances also changes spec.resources, spec.teamId, spec.volume.size: the operator would replace or renew the pods instead of handing the leader over
      postgresql/acid-a: /spec/databases: unset → {…}; /spec/resources: unset → {…}
      postgresql/acid-a: /spec/teamId: "acid" → "other"; /spec/volume/size: "1Gi" → "2Gi"
      Try: two commits, the count first and the rest when it is done
          kubectl pgscale set acid-a 3 -n db
    "#);
    insta::assert_snapshot!(text(id, &users(3, 5)), @"
    mixed-change: the write that changes 3 to 5 instances also changes other parts
      postgresql/acid-a: /spec/users: unset → {…}
      Try: two commits, the count first and the rest when it is done
          kubectl pgscale set acid-a 5 -n db
    ");
}

#[test]
fn secrets_are_never_shown() {
    let marker = "hunter2";
    let facts = healthy(5, 3).editing(|spec| {
        spec["env"] = json!([{"name": "PGPASSWORD", "value": marker}]);
        spec["sidecars"] = json!([{"name": "s", "env": [{"name": "A", "value": marker}]}]);
        spec["clone"] = json!({"cluster": marker, "s3_secret_access_key": marker});
        spec["standby"] = json!({"standby_host": marker});
        spec["podAnnotations"] = json!({"a": marker});
        spec["postgresql"]["parameters"] = json!({"archive_command": marker});
        spec["users"] = json!({marker.to_owned(): [marker]});
    });
    let edits = shown_edits(&facts);
    assert_eq!(edits.len(), 7);
    for edit in edits {
        assert!(!edit.contains(marker), "{edit}");
    }
    let one_by_one = healthy(5, 3).editing(|spec| {
        spec["postgresql"]["parameters"] = json!({"max_connections": "100"});
    });
    let mut later = one_by_one.clone();
    later.change.old = Some(Postgresql {
        spec: one_by_one.change.new.spec.clone(),
        ..one_by_one.change.new.clone()
    });
    later.change.new.spec["postgresql"]["parameters"] = json!({
        "max_connections": "200", "ssl_passphrase_command": marker, "primary_conninfo": marker});
    insta::assert_snapshot!(shown_edits(&later).join("\n"), @r#"
    /spec/postgresql/parameters/max_connections: "100" → "200"
    /spec/postgresql/parameters/primary_conninfo: added, not shown
    /spec/postgresql/parameters/ssl_passphrase_command: added, not shown
    "#);
}

fn shown_edits(facts: &Facts) -> Vec<String> {
    let edits = described(&facts.change);
    edits.iter().map(|edit| format!("{}: {}", edit.field, edit.value)).collect()
}

#[test]
fn values_are_shown_as_each_edit_found_them() {
    let mut facts = healthy(5, 3);
    if let Some(old) = &mut facts.change.old {
        old.spec["tolerations"] = json!(["a", "b", "c"]);
    }
    facts.change.new.spec["tolerations"] = json!(["c"]);
    facts.change.new.spec["dockerImage"] = json!("x".repeat(200));
    insta::assert_snapshot!(shown_edits(&facts).join("\n"), @r#"
    /spec/dockerImage: unset → "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…
    /spec/tolerations/0: "a" → "c"
    /spec/tolerations/1: "b" → unset
    /spec/tolerations/1: "c" → unset
    "#);
}
