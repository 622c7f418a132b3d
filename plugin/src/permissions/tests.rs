use clap::CommandFactory as _;

use super::table::MEMBERS;
use super::*;
use crate::cli::Cli;
use crate::testing::{World, facts, run};

#[test]
fn every_command_says_in_its_help_which_rights_it_needs() {
    let mut command = Cli::command_as(None).term_width(100);
    command.build();
    let verbs: Vec<String> =
        Cli::command().get_subcommands().map(|verb| verb.get_name().to_owned()).collect();
    let mut known: Vec<&str> = COMMANDS.iter().map(|(name, _)| *name).collect();
    known.sort_unstable();
    for verb in &verbs {
        assert!(known.contains(&verb.as_str()), "{verb} has no row in the table of rights");
        let command = command.find_subcommand_mut(verb).unwrap();
        let long = command.render_long_help().to_string();
        assert_eq!(long.matches("Rights").count(), 1, "{long}");
        assert!(long.contains("Examples:"), "{long}");
        let short = command.render_help().to_string();
        assert!(!short.contains("Rights"), "{short}");
    }
    assert_eq!(known.len(), verbs.len(), "{known:?} {verbs:?}");
}

#[test]
fn the_help_of_a_change_names_what_is_needed_and_what_each_of_the_others_is_for() {
    insta::assert_snapshot!(help("down").unwrap(), @"
    Rights, in the namespace of the cluster unless said otherwise:
      - get postgresqls.acid.zalan.do (needed)
      - patch postgresqls.acid.zalan.do (needed)
      - get statefulsets.apps (without: what the operator has applied is unknown, and a shrink is refused)
      - list pods (without: the members are unknown, and a shrink is refused)
      - get configmaps or endpoints (without: the leader is unknown, and a shrink is refused)
      - get and create pods/portforward or pods/exec (needed to move the leader; without: members cannot be asked how far they are, and a shrink is refused)
      - get and create pods/exec (without: no CHECKPOINT before the leader moves, which may take longer)
      - list scalepolicies.pgscale.dev (without: the policies are unknown, and a shrink is refused)
      - list clusterscalepolicies.pgscale.dev in the whole cluster (without: the policies of the platform are unknown, and a shrink is refused)
      - get namespaces (without: whether a policy that selects namespaces holds is unknown, and a shrink is refused)
      - list scaleoverrides.pgscale.dev (without: what somebody allowed in spite of the rules is unknown)
      - list persistentvolumeclaims (without: volumes are not seen)
      - list endpointslices.discovery.k8s.io or get endpoints (without: whether the Services lead to the members is not seen)
      - list resourcequotas (without: whether the quotas have room is unknown, and the plan does not show it)
      - list limitranges (without: whether a LimitRange forbids a new member is unknown)
      - list nodes in the whole cluster (without: whether there are nodes for members that are kept apart is unknown)
      - list poddisruptionbudgets.policy (without: whether the last member's node could be drained is unknown)
      - get cronjobs.batch (without: the age of the last backup is unknown where a policy limits it)
      - get and create pods/exec (without: what only PostgreSQL itself knows is not shown)
      - list events (without: what hinders a new member is not read from Events)
      - get pods/log (without: what hinders a base backup is not read from its log)
      - get and create and patch configmaps (without: the change is not in the history)
      - create and patch events.events.k8s.io (without: there is no Event on the cluster)
      - get configmaps in namespace kube-public (without: which Deployment is the operator is unknown (or name it: --operator))
      - list deployments.apps in the whole cluster (without: the operator and its limits are unknown)
      - get configmaps or operatorconfigurations.acid.zalan.do in the operator's namespace (without: the operator's limits are unknown)
      - get nodes in the whole cluster (without: members on a lost node look well)
    ");
    assert_eq!(help("up"), help("down"));
    assert_eq!(help("nothing"), None);
}

#[test]
fn any_way_is_enough_and_every_verb_of_it_is_needed() {
    let (no, yes) = (Said::Denied, Said::Allowed);
    let unknown = Said::Unknown("broken".into());
    for (said, any, all) in [
        ([no.clone(), yes.clone()], &yes, &no),
        ([unknown.clone(), yes.clone()], &yes, &unknown),
        ([no.clone(), no.clone()], &no, &no),
        ([no.clone(), unknown.clone()], &unknown, &no),
        ([yes.clone(), yes.clone()], &yes, &yes),
    ] {
        assert_eq!(&any_of(said.to_vec()), any, "{said:?}");
        assert_eq!(&all_of(said.to_vec()), all, "{said:?}");
    }
}

#[test]
fn an_authorizer_that_broke_has_denied_nothing() {
    let answer = |status: serde_json::Value| {
        understand(Ok(serde_json::from_value(serde_json::json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
            "metadata": {}, "spec": {}, "status": status}))
        .unwrap()))
    };
    let broken = serde_json::json!({"allowed": false, "evaluationError": "webhook timed out"});
    assert_eq!(answer(broken), Said::Unknown("webhook timed out".into()));
    let both =
        serde_json::json!({"allowed": false, "denied": true, "evaluationError": "role gone"});
    assert_eq!(answer(both), Said::Denied);
    assert_eq!(answer(serde_json::json!({"allowed": false})), Said::Denied);
    assert_eq!(answer(serde_json::json!({"allowed": true, "evaluationError": "x"})), Said::Allowed);
}

#[test]
fn the_way_to_the_members_is_needed_to_move_the_leader_and_only_then() {
    let said = [(&MEMBERS, Said::Denied)];
    let still = judge(&said, "db", false);
    assert_eq!(still.missing, Vec::<&[Access]>::new());
    insta::assert_snapshot!(still.warnings.join("\n"), @"no right to get and create pods/portforward or pods/exec in namespace db: members cannot be asked how far they are, and a shrink is refused");
    let moves = judge(&said, "db", true);
    assert_eq!((moves.missing, moves.warnings), (vec![MEMBERS.ways], vec![]));
}

#[test]
fn members_that_answered_have_proven_the_way_to_them() {
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
async fn a_missing_right_ends_a_change_before_anything_is_touched() {
    for line in ["up acid-a", "down acid-a --to 2 --yes", "set acid-a 3 --yes"] {
        let world = World::new(5, 4).denied(&["patch postgresqls"]);
        let (_, code, _) = run(&world, line, None).await;
        assert_eq!((code, world.writes().len(), world.switchovers().len()), (1, 0, 0), "{line}");
    }
    let world = World::new(5, 4).denied(&["patch postgresqls"]);
    let (screen, _, why) = run(&world, "down acid-a --to 2 --yes", None).await;
    assert!(!screen.stderr().contains("CHECKPOINT on acid-a-4 ..."), "{}", screen.stderr());
    insta::assert_snapshot!(why, @r#"
    error: postgresql db/acid-a is not touched, because a right is missing: patch postgresqls.acid.zalan.do in namespace db
    hint: test it:
        kubectl auth can-i patch postgresqls.acid.zalan.do -n db
    hint: ask for a Role in namespace db with these rules:
      - {apiGroups: ["acid.zalan.do"], resources: ["postgresqls"], verbs: ["patch"]}
    "#);
}

#[tokio::test]
async fn what_is_not_done_needs_no_right() {
    let world = World::new(3, 0).denied(&["patch postgresqls"]);
    assert_eq!(run(&world, "up acid-a --dry-run=client", None).await.1, 0);
    assert_eq!(run(&world, "set acid-a 3", None).await.1, 0);
    // A switchover writes no count.
    assert_eq!(run(&world, "switchover acid-a", None).await.1, 0);
    assert_eq!(world.switchovers().len(), 1);
}

#[tokio::test]
async fn rights_one_can_do_without_are_warned_of_and_no_more() {
    let world = World::new(3, 2).denied(&["get nodes", "create pods/exec", "list endpointslices"]);
    let (screen, code, _) = run(&world, "down acid-a --yes --wait=false", None).await;
    assert_eq!((code, world.declared(), world.switchovers().len()), (0, 2, 1));
    let said = screen.stderr();
    let warnings: Vec<&str> = said.lines().filter(|line| line.contains("no right")).collect();
    insta::assert_snapshot!(warnings.join("\n"), @r"
    Warning: no right to get and create pods/exec in namespace db: no CHECKPOINT before the leader moves, which may take longer
    Warning: no right to get nodes in the whole cluster: members on a lost node look well
    ");
    // The checkpoint is for a leader that moves.
    let (screen, _, _) = run(&World::new(3, 0).denied(&["get pods/exec"]), "up acid-a", None).await;
    assert!(!screen.stderr().contains("no right"), "{}", screen.stderr());
}

#[tokio::test]
async fn rights_that_cannot_be_learned_are_left_to_the_api_server() {
    let world = World::new(3, 0).denied(&["review"]);
    let (screen, code, _) = run(&world, "up acid-a --wait=false", None).await;
    assert_eq!((code, world.declared()), (0, 4));
    assert_eq!(screen.stderr().matches("Warning: rights not checked: nobody may ask").count(), 1);
}
