use super::*;
use crate::commands::completion::script;
use crate::terminal::testing::Screen;
use crate::testing::World;

/// Returns the answer to kubectl for these words behind `kubectl pgscale`, of which the last is
/// being typed.
fn answered(world: &World, words: &[&str]) -> String {
    let world = world.clone();
    let connect: Arc<Connect> = Arc::new(move |flags| {
        let reader = world.session(&Screen::default(), None).reader;
        let namespace = flags.namespace.unwrap_or("db".to_owned());
        async move { Some(Cluster { reader, namespace }) }.boxed()
    });
    for_kubectl(words.iter().map(OsString::from).collect(), &connect).replace('\t', "  ")
}

#[test]
fn verbs_flags_and_their_values_come_from_the_definition_of_the_command_line() {
    let world = World::new(3, 0);
    insta::assert_snapshot!(answered(&world, &["st"]), @"
    status  Show members, health, roles, lag and what to do next
    :36
    ");
    insta::assert_snapshot!(answered(&world, &["down", "acid-a", "--t"]), @"
    --to  Number of instances to run
    --timeout  Time to wait, such as 5s, 2m or 3h
    --token  Bearer token for the API server
    --tls-server-name  Name the API server's certificate is checked against
    :36
    ");
    insta::assert_snapshot!(answered(&world, &["up", "acid-a", "--dry-run", ""]), @r"
    none  The change is made
    client  Only the plan is shown
    server  The write is sent and judged by every admission webhook, and not stored
    :36
    ");
    insta::assert_snapshot!(answered(&world, &["up", "acid-a", "--dry-run=c"]), @r"
    --dry-run=client  Only the plan is shown
    :36
    ");
    insta::assert_snapshot!(answered(&world, &["status", "-o", "j"]), @r"
    json  A versioned JSON object
    :36
    ");
    insta::assert_snapshot!(answered(&world, &["--color", "a"]), @r"
    auto  Colour on a terminal
    always  Colour, whatever the output is
    :36
    ");
    insta::assert_snapshot!(answered(&world, &["completion", ""]), @"
    bash  The Bourne-again shell
    fish  The friendly interactive shell
    install  No shell: let kubectl's own completion ask this program
    powershell  Microsoft's shell, on any system
    zsh  The Z shell
    :36
    ");
    insta::assert_snapshot!(answered(&world, &["rules", "leader-ca"]), @r"
    leader-cannot-move  the leader's pod would be deleted and ordinal 0 cannot take over
    :36
    ");
    let verbs = answered(&world, &[""]);
    assert!(verbs.starts_with("status  ") && !verbs.contains("--"), "{verbs}");
    assert_eq!(answered(&world, &[]), verbs);
    assert!(answered(&world, &["-"]).contains("-n  Namespace of the cluster"));
}

#[test]
fn names_come_from_the_cluster() {
    let world = World::new(3, 1);
    insta::assert_snapshot!(answered(&world, &["status", ""]), @r"
    acid-a  3 instances
    :36
    ");
    insta::assert_snapshot!(answered(&world, &["down", "-n", "db", "pg/a"]), @r"
    pg/acid-a  3 instances
    :36
    ");
    insta::assert_snapshot!(answered(&world, &["up", "acid-a", "-n", ""]), @r"
    db
    default
    :36
    ");
    insta::assert_snapshot!(answered(&world, &["switchover", "acid-a", "--to", ""]), @r"
    acid-a-0  replica
    acid-a-2  replica
    :36
    ");
    for words in [["status", "b"], ["wait", "rs/"]] {
        assert_eq!(answered(&world, &words), ":36\n", "{words:?}");
    }
}

#[test]
fn counts_are_near_the_present_one_and_never_0() {
    let world = World::new(3, 1);
    insta::assert_snapshot!(answered(&world, &["set", "acid-a", ""]), @r"
    1  two fewer
    2  one fewer
    3  now
    4  one more
    5  two more
    6  three more
    :36
    ");
    insta::assert_snapshot!(answered(&world, &["up", "acid-a", "--to", ""]), @r"
    4  one more
    5  two more
    6  three more
    :36
    ");
    insta::assert_snapshot!(answered(&world, &["down", "pg/acid-a", "--to="]), @r"
    --to=2  one fewer
    --to=1  two fewer
    :36
    ");
    insta::assert_snapshot!(answered(&world, &["switchover", "acid-a", "--for", "1"]), @r"
    1  two fewer
    :36
    ");
    assert_eq!(answered(&world, &["plan", "acid-b", "--to", ""]), ":36\n");
    assert_eq!(answered(&world, &["set", "acid-a", "3", ""]), ":36\n");
}

#[test]
fn contexts_come_from_the_kubeconfig_of_the_flags() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let kubeconfig = "{apiVersion: v1, kind: Config, current-context: here, \
        contexts: [{name: here, context: {cluster: c, user: u, namespace: db}}, {name: there}], \
        clusters: [{name: c}], users: [{name: u}]}";
    std::fs::write(file.path(), kubeconfig).unwrap();
    let path = file.path().to_str().unwrap();
    let world = World::new(3, 0);
    insta::assert_snapshot!(answered(&world, &["--kubeconfig", path, "up", "--context", ""]), @r"
    here  current, namespace db
    there
    :36
    ");
    assert_eq!(answered(&world, &["--kubeconfig", path, "--user", ""]), "u\n:36\n");
    assert_eq!(answered(&world, &["--kubeconfig=/nowhere", "--context", ""]), ":36\n");
}

#[test]
fn slow_lookup_is_abandoned_without_an_error() {
    let nowhere: Arc<Connect> = Arc::new(|_| async { None }.boxed());
    let words = || ["set", "acid-a", ""].iter().map(OsString::from).collect::<Vec<_>>();
    assert_eq!(for_kubectl(words(), &nowhere), ":36\n");
    let slept = within(Duration::from_millis(10), || std::thread::sleep(Duration::from_secs(60)));
    assert_eq!(slept, None);
    assert_eq!(within(Duration::from_secs(60), || 7), Some(7));
}

#[test]
fn shells_get_the_same_candidates() {
    let nowhere: Arc<Connect> = Arc::new(|_| async { None }.boxed());
    let words = [PROGRAM, "st"].iter().map(OsString::from).collect();
    let answer = for_shell("fish", words, &nowhere).unwrap();
    assert!(String::from_utf8(answer).unwrap().starts_with("status\tShow members"));
    assert_eq!(for_shell("tcsh", Vec::new(), &nowhere), None);
    for shell in ["bash", "fish", "powershell", "zsh"] {
        let script = script(shell).unwrap();
        assert!(script.contains(VARIABLE) && script.contains(PROGRAM), "{script}");
    }
}
