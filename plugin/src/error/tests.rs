//! Failures as the person reads them: reasons, hints and exit codes.

use kube::core::response::StatusDetails;

use super::*;

fn status(code: u16, message: &str) -> kube::Error {
    kube::Error::Api(Box::new(Status {
        code,
        message: message.to_owned(),
        reason: "Forbidden".to_owned(),
        ..Status::default()
    }))
}

#[test]
fn missing_permission_is_named_with_the_command_that_tests_it() {
    let error = status(
        403,
        "postgresqls.acid.zalan.do \"acid-a\" is forbidden: User \"eve\" cannot patch resource \
         \"postgresqls\" in API group \"acid.zalan.do\" in the namespace \"db\"",
    );
    let failure = Failure::of_kube(&error, "change postgresql db/acid-a");
    assert_eq!(failure.kind.code(), 1);
    insta::assert_snapshot!(failure, @r#"
    error: failed to change postgresql db/acid-a: not permitted: postgresqls.acid.zalan.do "acid-a" is forbidden: User "eve" cannot patch resource "postgresqls" in API group "acid.zalan.do" in the namespace "db"
    hint: ask for permission to patch postgresqls.acid.zalan.do in namespace db, then test it:
        kubectl auth can-i patch postgresqls.acid.zalan.do -n db
    "#);
    // `can-i` would take pods/exec for the pod named exec.
    let exec = "pods \"a-0\" is forbidden: User \"eve\" cannot get resource \"pods/exec\" in API group \"\" \
                in the namespace \"db\"";
    let failure = Failure::of_kube(&status(403, exec), "look").to_string();
    assert!(
        failure.contains("\n    kubectl auth can-i get pods --subresource=exec -n db"),
        "{failure}"
    );
}

#[test]
fn hints_carry_the_connection_flags() {
    let forbidden = status(
        403,
        "pods is forbidden: User \"eve\" cannot list resource \"pods\" in API group \"\" in the namespace \"db\"",
    );
    let failure = Failure::of_kube(&forbidden, "look")
        .hint_to("see them all", Command::kubectl(["pgscale", "rules"]));
    let reach = Reach {
        kubectl: vec!["--context=my cluster".to_owned()],
        pgscale: vec!["--operator=a/b".to_owned()],
    };
    assert_eq!(
        failure.reached_by(&reach).hint_lines("hint:"),
        [
            Line::Text(
                "hint: ask for permission to list pods in namespace db, then test it:".into()
            ),
            Line::Command("    kubectl auth can-i list pods -n db --context='my cluster'".into()),
            Line::Text("hint: see them all:".into()),
            Line::Command("    kubectl pgscale rules --context='my cluster' --operator=a/b".into()),
        ]
    );
}

#[test]
fn denial_of_a_webhook_is_a_refusal_and_a_broken_webhook_is_not() {
    let denial = status(
        403,
        "admission webhook \"shrink.pgscale.dev\" denied the request: below-min: 2 instances",
    );
    assert_eq!(Failure::of_kube(&denial, "change it").kind, Kind::Refused);
    let broken = status(
        500,
        "Internal error occurred: failed calling webhook \"shrink.pgscale.dev\": no endpoints",
    );
    assert_eq!(Failure::of_kube(&broken, "change it").kind, Kind::Error);
}

#[test]
fn a_cause_that_the_message_only_names_is_shown() {
    let message = "admission webhook \"shrink.pgscale.dev\" denied the request: 2 is refused:\n\
                   - paused: Patroni is paused\n- also refused by below-min";
    let cause = |reason: &str, message: &str| StatusCause {
        reason: reason.into(),
        message: message.into(),
        field: String::new(),
    };
    let causes = vec![cause("paused", "Patroni is [...]"), cause("below-min", "3 at least")];
    let failure = Failure::of_kube(
        &kube::Error::Api(Box::new(Status {
            code: 403,
            message: message.to_owned(),
            reason: "Forbidden".to_owned(),
            details: Some(StatusDetails {
                name: String::new(),
                group: String::new(),
                kind: String::new(),
                uid: String::new(),
                causes,
                retry_after_seconds: 0,
            }),
            ..Status::default()
        })),
        "change it",
    );
    let text = failure.text();
    assert!(text.ends_with("- also refused by below-min\nbelow-min: 3 at least"), "{text}");
}

#[test]
fn commands_in_a_webhooks_no_are_never_broken() {
    let command = "      kubectl pgscale set acid-a 3 -n db";
    let denial = status(
        403,
        &format!(
            "admission webhook \"shrink.pgscale.dev\" denied the request: 2 is refused:\n- below-min\n{command}"
        ),
    );
    let failure = Failure::of_kube(&denial, "change it");
    assert!(failure.details.contains(&Line::Command(command.to_owned())), "{failure:?}");
    assert!(failure.text().ends_with(&format!("\n{command}")), "{failure:?}");
}

#[test]
fn webhook_without_dry_runs_has_refused_nothing() {
    let message = "admission webhook \"audit.example.com\" does not support dry run";
    let error = status(400, message);
    assert!(is_dry_run_unsupported(&error));
    let failure = Failure::of_kube(&error, "change postgresql db/acid-a");
    assert_eq!(failure.kind, Kind::Error);
    insta::assert_snapshot!(failure, @r#"error: failed to test whether the API server would let you change postgresql db/acid-a: admission webhook "audit.example.com" does not support dry run (see sideEffects of its registration)"#);
    // The same words in a webhook's own message are no such sign.
    let denial = status(403, &format!("{message} denied the request: it does not support dry run"));
    assert!(!is_dry_run_unsupported(&denial));
}

#[test]
fn unknown_kind_points_at_the_operator() {
    let error = status(404, "the server could not find the requested resource");
    let failure = Failure::of_kube(&error, "read postgresql db/acid-a");
    assert_eq!(failure.kind.code(), 1);
    assert!(failure.message.contains("does not know the kind postgresql"), "{failure}");
}
