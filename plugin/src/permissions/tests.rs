use clap::CommandFactory as _;

use super::table::MEMBERS;
use super::*;
use crate::cli::Cli;
use crate::testing::{World, facts, run};

#[test]
fn help_of_every_command_lists_its_permissions() {
    let mut command = Cli::command_as(None).term_width(100);
    command.build();
    let verbs: Vec<String> =
        Cli::command().get_subcommands().map(|verb| verb.get_name().to_owned()).collect();
    let mut known: Vec<&str> = COMMANDS.iter().map(|(name, _)| *name).collect();
    known.sort_unstable();
    for verb in &verbs {
        assert!(known.contains(&verb.as_str()), "{verb} has no row in the table of permissions");
        let command = command.find_subcommand_mut(verb).unwrap();
        let long = command.render_long_help().to_string();
        assert_eq!(long.matches("Permissions").count(), 1, "{long}");
        assert!(long.contains("Examples:"), "{long}");
        let short = command.render_help().to_string();
        assert!(!short.contains("Permissions"), "{short}");
    }
    assert_eq!(known.len(), verbs.len(), "{known:?} {verbs:?}");
}

#[test]
fn help_of_a_change_names_each_permission_and_the_loss_without_it() {
    insta::assert_snapshot!(help("down").unwrap(), @"
    Permissions, in the namespace of the cluster unless said otherwise:
      - get postgresqls.acid.zalan.do (needed)
      - patch postgresqls.acid.zalan.do (needed)
      - list postgresqls.acid.zalan.do (without: clusters can be named, and not chosen by -l or -A)
      - get statefulsets.apps (without: the count that the operator has applied is unknown, and a shrink is refused)
      - list pods (without: the members are unknown, and a shrink is refused)
      - get configmaps or endpoints (without: the leader is unknown, and a shrink is refused)
      - get and create pods/portforward or pods/exec (needed to move the leader; without: the WAL positions of the members are unknown, and a shrink is refused)
      - get and create pods/exec (without: no CHECKPOINT before the leader moves, which may take longer, and a leader with logical slots stays)
      - list scalepolicies.pgscale.dev (without: the policies are unknown, and a shrink is refused)
      - list clusterscalepolicies.pgscale.dev in the whole cluster (without: the policies of the platform are unknown, and a shrink is refused)
      - get namespaces (without: policies that select namespaces cannot be matched, and a shrink is refused)
      - list scaleoverrides.pgscale.dev (without: the overrides are unknown)
      - list persistentvolumeclaims (without: the volumes are unknown)
      - list endpointslices.discovery.k8s.io or get endpoints (without: the members behind the Services are unknown)
      - list resourcequotas (without: the room in quotas is unknown, and the plan does not show it)
      - list limitranges (without: the limits for a new member are unknown)
      - list nodes in the whole cluster (without: the nodes for members that are kept apart are unknown)
      - list poddisruptionbudgets.policy (without: the effect of one member on a drain of its node is unknown)
      - get cronjobs.batch (without: the age of the last backup is unknown where a policy limits it)
      - get instanceledgers.pgscale.dev (without: what counts against a budget is unknown, and growth is refused where a policy sets one)
      - get and create pods/exec (without: details from PostgreSQL itself are not shown)
      - list pods.metrics.k8s.io (without: CPU and memory of members are not shown)
      - list events (without: obstacles of a new member are not read from Events)
      - get pods/log (without: obstacles of a base backup are not read from its log)
      - get and create and patch configmaps (without: the change is not in the history)
      - create and patch events.events.k8s.io (without: there is no Event on the cluster)
      - get configmaps in namespace kube-public (without: the operator's Deployment is unknown (or name it: --operator))
      - list deployments.apps in the whole cluster (without: the operator and its limits are unknown)
      - get configmaps or operatorconfigurations.acid.zalan.do in the operator's namespace (without: the operator's limits are unknown)
      - get nodes in the whole cluster (without: members on a lost node look healthy)
    ");
    assert_eq!(help("up"), help("down"));
    assert_eq!(help("nothing"), None);
}

#[test]
fn one_way_is_enough_and_needs_every_verb() {
    let (no, yes) = (Answer::Denied, Answer::Allowed);
    let unknown = Answer::Unknown("broken".into());
    for (answers, any, all) in [
        ([no.clone(), yes.clone()], &yes, &no),
        ([unknown.clone(), yes.clone()], &yes, &unknown),
        ([no.clone(), no.clone()], &no, &no),
        ([no.clone(), unknown.clone()], &unknown, &no),
        ([yes.clone(), yes.clone()], &yes, &yes),
    ] {
        assert_eq!(&any_of(answers.to_vec()), any, "{answers:?}");
        assert_eq!(&all_of(answers.to_vec()), all, "{answers:?}");
    }
}

#[test]
fn broken_authorizer_has_denied_nothing() {
    let answer = |status: serde_json::Value| {
        understand(Ok(serde_json::from_value(serde_json::json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
            "metadata": {}, "spec": {}, "status": status}))
        .unwrap()))
    };
    let broken = serde_json::json!({"allowed": false, "evaluationError": "webhook timed out"});
    assert_eq!(answer(broken), Answer::Unknown("webhook timed out".into()));
    let both =
        serde_json::json!({"allowed": false, "denied": true, "evaluationError": "role gone"});
    assert_eq!(answer(both), Answer::Denied);
    assert_eq!(answer(serde_json::json!({"allowed": false})), Answer::Denied);
    assert_eq!(
        answer(serde_json::json!({"allowed": true, "evaluationError": "x"})),
        Answer::Allowed
    );
}

#[test]
fn way_to_the_members_is_needed_only_to_move_the_leader() {
    let answers = [(&MEMBERS, Answer::Denied)];
    let still = judge(&answers, "db", false);
    assert_eq!(still.missing, Vec::<&[Access]>::new());
    insta::assert_snapshot!(still.warnings.join("\n"), @"no permission to get and create pods/portforward or pods/exec in namespace db: the WAL positions of the members are unknown, and a shrink is refused");
    let moves = judge(&answers, "db", true);
    assert_eq!((moves.missing, moves.warnings), (vec![MEMBERS.ways], vec![]));
}

#[test]
fn answer_of_a_member_proves_the_permission() {
    let mut facts = facts(3, 2, 0);
    assert!(members_answer(&facts));
    for ordinal in 0..3 {
        facts = crate::testing::with(facts, ordinal, |member| {
            member.live = Live::Silent("pods/exec is not permitted".into());
        });
    }
    assert!(!members_answer(&facts));
}

#[tokio::test]
async fn missing_permission_ends_a_change_before_any_write() {
    for line in ["up acid-a", "down acid-a --to 2 --yes", "set acid-a 3 --yes"] {
        let world = World::new(5, 4).denied(&["patch postgresqls"]);
        let (_, code, _) = run(&world, line, None).await;
        assert_eq!((code, world.writes().len(), world.switchovers().len()), (1, 0, 0), "{line}");
    }
    let world = World::new(5, 4).denied(&["patch postgresqls"]);
    let (screen, _, why) = run(&world, "down acid-a --to 2 --yes", None).await;
    assert!(!screen.stderr().contains("CHECKPOINT on acid-a-4 ..."), "{}", screen.stderr());
    insta::assert_snapshot!(why, @r#"
    error: postgresql db/acid-a was not changed, because you need permission to patch postgresqls.acid.zalan.do in namespace db
    hint: test it:
        kubectl auth can-i patch postgresqls.acid.zalan.do -n db
    hint: ask for a Role in namespace db with these rules:
      - {apiGroups: ["acid.zalan.do"], resources: ["postgresqls"], verbs: ["patch"]}
    "#);
}

#[tokio::test]
async fn dry_run_needs_no_permission_to_write() {
    let world = World::new(3, 0).denied(&["patch postgresqls"]);
    assert_eq!(run(&world, "up acid-a --dry-run=client", None).await.1, 0);
    assert_eq!(run(&world, "set acid-a 3", None).await.1, 0);
    // A switchover writes no count.
    assert_eq!(run(&world, "switchover acid-a", None).await.1, 0);
    assert_eq!(world.switchovers().len(), 1);
}

#[tokio::test]
async fn optional_permission_is_only_warned_about() {
    let world = World::new(3, 2).denied(&["get nodes", "create pods/exec", "list endpointslices"]);
    let (screen, code, _) = run(&world, "down acid-a --yes --wait=false", None).await;
    assert_eq!((code, world.declared(), world.switchovers().len()), (0, 2, 1));
    let answers = screen.stderr();
    let warnings: Vec<&str> =
        answers.lines().filter(|line| line.contains("no permission")).collect();
    insta::assert_snapshot!(warnings.join("\n"), @"
    Warning: no permission to get and create pods/exec in namespace db: no CHECKPOINT before the leader moves, which may take longer, and a leader with logical slots stays
    Warning: no permission to get nodes in the whole cluster: members on a lost node look healthy
    ");
    // The checkpoint is for a leader that moves.
    let (screen, _, _) = run(&World::new(3, 0).denied(&["get pods/exec"]), "up acid-a", None).await;
    assert!(!screen.stderr().contains("no permission"), "{}", screen.stderr());
}

#[tokio::test]
async fn unchecked_permissions_are_left_to_the_api_server() {
    let world = World::new(3, 0).denied(&["review"]);
    let (screen, code, _) = run(&world, "up acid-a --wait=false", None).await;
    assert_eq!((code, world.declared()), (0, 4));
    assert_eq!(
        screen.stderr().matches("Warning: permissions not checked: reviews are denied").count(),
        1
    );
}
