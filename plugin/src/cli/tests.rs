//! Tests of the command line: the words that it takes, and its answers to those that it does not.

use super::*;

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::of(line.split_whitespace())
}

/// Returns the exit code and the first line that a wrong command line gets.
fn refusal(line: &str) -> String {
    let error = parse(line).expect_err(line);
    let text = error.render().to_string();
    format!("{}: {}", error.exit_code(), text.lines().next().unwrap())
}

#[test]
fn the_command_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn connection_flags_go_anywhere_after_the_plugin_name() {
    for line in [
        "kubectl-pgscale -n db --context c up acid-a --to 5",
        "kubectl-pgscale up -n db acid-a --to 5 --context c",
        "kubectl-pgscale up acid-a --to 5 --namespace=db --context=c",
    ] {
        let cli = parse(line).unwrap();
        assert_eq!(cli.connection.namespace.as_deref(), Some("db"), "{line}");
        assert_eq!(cli.connection.context.as_deref(), Some("c"), "{line}");
    }
}

#[test]
fn bad_counts_are_usage_errors_that_say_why() {
    for (word, why) in [
        ("-1", "negative"),
        ("-99999999999999999999", "negative"),
        ("2.5", "not a whole number"),
        ("-2.5", "not a whole number"),
        ("three", "not a whole number"),
        ("2147483648", "above 2147483647"),
        ("99999999999999999999", "above 2147483647"),
    ] {
        for line in [
            format!("kubectl-pgscale set acid-a {word}"),
            format!("kubectl-pgscale up acid-a --to {word}"),
            format!("kubectl-pgscale down acid-a --to={word}"),
            format!("kubectl-pgscale plan acid-a --to {word}"),
            format!("kubectl-pgscale up acid-a --by {word}"),
        ] {
            let refusal = refusal(&line);
            assert!(refusal.starts_with("2: ") && refusal.contains(why), "{line} -> {refusal}");
        }
    }
    assert!(refusal("kubectl-pgscale down acid-a --by 0").contains("nothing would change"));
}

#[test]
fn an_expression_is_a_way_to_print_the_document() {
    let cli = parse("kubectl-pgscale plan acid-a --to 2 -o jsonpath={.outcome}").unwrap();
    assert!(cli.expression.is_some());
    let Verb::Plan(args) = cli.verb else { panic!("it is a plan") };
    assert!(format!("{args:?}").contains("output: Json"));
    assert!(parse("kubectl-pgscale plan acid-a --to 2 -o json").unwrap().expression.is_none());
    assert_eq!(
        refusal("kubectl-pgscale status -o jsonpath={.a"),
        "2: error: invalid value 'jsonpath={.a' for '--output <FORMAT>': the brace before \".a\" is not closed"
    );
    let unknown = refusal("kubectl-pgscale status -o go-template=x");
    assert!(unknown.starts_with("2: error: invalid value 'go-template=x'"), "{unknown}");
}

#[test]
fn usage_errors_end_with_2_and_help_with_0() {
    for line in [
        "kubectl-pgscale",
        "kubectl-pgscale grow acid-a",
        "kubectl-pgscale set acid-a",
        "kubectl-pgscale set pod/acid-a 3",
        "kubectl-pgscale set Acid_A 3",
        "kubectl-pgscale up acid-a --to 3 --by 1",
        "kubectl-pgscale up acid-a --timeout soon",
        "kubectl-pgscale up acid-a --dry-run=maybe",
        "kubectl-pgscale switchover acid-a --to acid-a-1 --for 2",
    ] {
        assert_eq!(parse(line).unwrap_err().exit_code(), 2, "{line}");
    }
    for line in ["kubectl-pgscale --help", "kubectl-pgscale up -h", "kubectl-pgscale --version"] {
        assert_eq!(parse(line).unwrap_err().exit_code(), 0, "{line}");
    }
}

#[test]
fn usage_names_the_program_as_it_was_called() {
    let plugin = parse("kubectl-pgscale up").unwrap_err().render().to_string();
    assert!(plugin.contains("Usage: kubectl pgscale up"), "{plugin}");
    let renamed = parse("/usr/bin/pgscale up").unwrap_err().render().to_string();
    assert!(renamed.contains("Usage: pgscale up"), "{renamed}");
}

/// Returns the short help of a verb, 80 columns wide, without the connection flags that all verbs
/// share.
fn help(verb: &str) -> String {
    let mut command = Cli::command_as(None).term_width(80);
    command.build();
    let verb = command.find_subcommand_mut(verb).unwrap();
    let help = verb.render_help().to_string();
    let (head, rest) = help.split_once("Connection, as in kubectl:").unwrap();
    let (_, tail) = rest.split_once("Examples:").unwrap();
    format!("{}\n\nExamples:{tail}", head.trim_end())
}

#[test]
fn help_of_the_verbs_that_change_something() {
    insta::assert_snapshot!(help("up"), @"
    Run more instances

    Usage: kubectl pgscale up [OPTIONS] [NAME]

    Arguments:
      [NAME]  The cluster: NAME, pg/NAME or postgresql/NAME

    Options:
          --color <WHEN>        Colours in the output; `NO_COLOR` wins [default:
                                auto] [possible values: auto, always, never]
          --to <N>              Number of instances to run
          --by <N>              Number of instances to add [default: 1]
      -y, --yes                 Answer yes to the question before a change
          --confirm <WHAT>      Confirms a change to 0 instances (NAMESPACE/NAME),
                                or of more than three clusters (N-clusters)
          --expect-plan <HASH>  Change nothing (exit 3) unless the plan is still the
                                one with this hash, of plan -o json
          --dry-run <MODE>      Change nothing: `client` only plans, `server` has
                                the write judged and not stored [default: none]
                                [possible values: none, client, server]
          --wait[=<BOOL>]       Wait until the cluster has converged; --wait=false
                                returns after the write [default: true] [possible
                                values: true, false]
          --timeout <DURATION>  Time to wait, such as 5s, 2m or 3h; 0 looks once, a
                                negative value waits a week [default: 30m]
          --reason <TEXT>       Reason: kept in the history, and shown in the Event
                                on the cluster
          --report <FORMAT>     Print a full report of the change to stdout: a page
                                of Markdown, or JSON [possible values: json, md]
      -o, --output <FORMAT>     Output format [default: text] [possible values:
                                text, wide, json, yaml, name]
      -h, --help                Print help (see more with '--help')

    Several clusters:
      -l, --selector <LABELS>  All clusters with these labels, instead of one by
                               name
          --all                All clusters, whatever their labels are
      -A, --all-namespaces     Clusters of all namespaces; needs -l or --all
          --max-parallel <N>   Number of clusters that are changed at a time
                               [default: 1]
          --stop-on-error      Begin nothing if any cluster's change is refused, and
                               nothing more after one failed

    Examples:
      kubectl pgscale up acid-a                one instance more
      kubectl pgscale up acid-a --to 5         five instances
      kubectl pgscale up acid-a --by 2 -n db --timeout 3h
      kubectl pgscale up acid-a --to 5 --dry-run=server
      kubectl pgscale up -l env=staging -A --by 1 --max-parallel 4
    ");
    insta::assert_snapshot!(help("down"), @"
    Run fewer instances; the leader is moved out of the way first

    Usage: kubectl pgscale down [OPTIONS] [NAME]

    Arguments:
      [NAME]  The cluster: NAME, pg/NAME or postgresql/NAME

    Options:
          --color <WHEN>        Colours in the output; `NO_COLOR` wins [default:
                                auto] [possible values: auto, always, never]
          --to <N>              Number of instances to run
          --by <N>              Number of instances to remove [default: 1]
      -y, --yes                 Answer yes to the question before a change
          --confirm <WHAT>      Confirms a change to 0 instances (NAMESPACE/NAME),
                                or of more than three clusters (N-clusters)
          --expect-plan <HASH>  Change nothing (exit 3) unless the plan is still the
                                one with this hash, of plan -o json
          --dry-run <MODE>      Change nothing: `client` only plans, `server` has
                                the write judged and not stored [default: none]
                                [possible values: none, client, server]
          --wait[=<BOOL>]       Wait until the cluster has converged; --wait=false
                                returns after the write [default: true] [possible
                                values: true, false]
          --timeout <DURATION>  Time to wait, such as 5s, 2m or 3h; 0 looks once, a
                                negative value waits a week [default: 30m]
          --reason <TEXT>       Reason: kept in the history, and shown in the Event
                                on the cluster
          --report <FORMAT>     Print a full report of the change to stdout: a page
                                of Markdown, or JSON [possible values: json, md]
      -o, --output <FORMAT>     Output format [default: text] [possible values:
                                text, wide, json, yaml, name]
      -h, --help                Print help (see more with '--help')

    Several clusters:
      -l, --selector <LABELS>  All clusters with these labels, instead of one by
                               name
          --all                All clusters, whatever their labels are
      -A, --all-namespaces     Clusters of all namespaces; needs -l or --all
          --max-parallel <N>   Number of clusters that are changed at a time
                               [default: 1]
          --stop-on-error      Begin nothing if any cluster's change is refused, and
                               nothing more after one failed

    Examples:
      kubectl pgscale down acid-a              one instance less
      kubectl pgscale down acid-a --to 3       three instances
      kubectl pgscale down acid-a --to 3 --yes --timeout 10m
      kubectl pgscale down acid-a --to 0 --confirm=db/acid-a
      kubectl pgscale down -l env=staging -n db --to 1 --stop-on-error
    ");
    insta::assert_snapshot!(help("set"), @"
    Run exactly N instances, whether that is more or fewer

    Usage: kubectl pgscale set [OPTIONS] [NAME] [N]

    Arguments:
      [NAME]  The cluster: NAME, pg/NAME or postgresql/NAME
      [N]     Number of instances to run

    Options:
          --color <WHEN>        Colours in the output; `NO_COLOR` wins [default:
                                auto] [possible values: auto, always, never]
          --to <N>              The same, where several clusters are named by labels
      -y, --yes                 Answer yes to the question before a change
          --confirm <WHAT>      Confirms a change to 0 instances (NAMESPACE/NAME),
                                or of more than three clusters (N-clusters)
          --expect-plan <HASH>  Change nothing (exit 3) unless the plan is still the
                                one with this hash, of plan -o json
          --dry-run <MODE>      Change nothing: `client` only plans, `server` has
                                the write judged and not stored [default: none]
                                [possible values: none, client, server]
          --wait[=<BOOL>]       Wait until the cluster has converged; --wait=false
                                returns after the write [default: true] [possible
                                values: true, false]
          --timeout <DURATION>  Time to wait, such as 5s, 2m or 3h; 0 looks once, a
                                negative value waits a week [default: 30m]
          --reason <TEXT>       Reason: kept in the history, and shown in the Event
                                on the cluster
          --report <FORMAT>     Print a full report of the change to stdout: a page
                                of Markdown, or JSON [possible values: json, md]
      -o, --output <FORMAT>     Output format [default: text] [possible values:
                                text, wide, json, yaml, name]
      -h, --help                Print help (see more with '--help')

    Several clusters:
      -l, --selector <LABELS>  All clusters with these labels, instead of one by
                               name
          --all                All clusters, whatever their labels are
      -A, --all-namespaces     Clusters of all namespaces; needs -l or --all
          --max-parallel <N>   Number of clusters that are changed at a time
                               [default: 1]
          --stop-on-error      Begin nothing if any cluster's change is refused, and
                               nothing more after one failed

    Examples:
      kubectl pgscale set acid-a 3
      kubectl pgscale set acid-a 3 --yes -o json
      kubectl pgscale set -l env=staging --to 2 --reason 'load test is over'
    ");
    insta::assert_snapshot!(help("switchover"), @"
    Move the leader, and nothing else

    Usage: kubectl pgscale switchover [OPTIONS] <NAME>

    Arguments:
      <NAME>  The cluster: NAME, pg/NAME or postgresql/NAME

    Options:
          --color <WHEN>        Colours in the output; `NO_COLOR` wins [default:
                                auto] [possible values: auto, always, never]
          --to <MEMBER>         The member that is to lead
          --for <N>             Move the leader so that a shrink to N passes, and
                                wait until it does
          --dry-run <MODE>      Change nothing: show what would be done; `server`
                                does the same as `client` here [default: none]
                                [possible values: none, client, server]
          --reason <TEXT>       Reason: kept in the history, and shown in the Event
                                on the cluster
          --timeout <DURATION>  Time to wait, such as 5s, 2m or 3h; 0 looks once, a
                                negative value waits a week [default: 30m]
      -o, --output <FORMAT>     Output format [default: text] [possible values:
                                text, wide, json, yaml, name]
      -h, --help                Print help (see more with '--help')

    Examples:
      kubectl pgscale switchover acid-a
      kubectl pgscale switchover acid-a --to acid-a-1
      kubectl pgscale switchover acid-a --for 3     before a scale to 3 elsewhere
    ");
}

#[test]
fn help_of_the_verbs_that_look() {
    insta::assert_snapshot!(help("status"), @"
    Show members, roles, lag, services and counts

    Usage: kubectl pgscale status [OPTIONS] [NAME]

    Arguments:
      [NAME]  The cluster: NAME, pg/NAME or postgresql/NAME; all of the namespace
              when unset

    Options:
      -A, --all-namespaces     All namespaces
          --color <WHEN>       Colours in the output; `NO_COLOR` wins [default:
                               auto] [possible values: auto, always, never]
      -l, --selector <LABELS>  Only clusters with these labels
          --why                Say what keeps the cluster from converging: causes,
                               evidence and the next command
      -w, --watch              Look again and again: redraws on a terminal, and
                               prints what changed elsewhere
      -o, --output <FORMAT>    Output format [default: text] [possible values: text,
                               wide, json, yaml, name]
      -h, --help               Print help (see more with '--help')

    Examples:
      kubectl pgscale status acid-a
      kubectl pgscale status acid-a --why
      kubectl pgscale status acid-a -w
      kubectl pgscale status -n db
      kubectl pgscale status -A -l env=production
      kubectl pgscale status -A -o custom-columns=NAME:.metadata.name,BY:.leader
      kubectl pgscale status acid-a -o jsonpath='{.members[0].node}'
      kubectl pgscale status acid-a -o json | jq .members
    ");
    insta::assert_snapshot!(help("plan"), @"
    Show what a change would do and what every rule says about it

    Usage: kubectl pgscale plan [OPTIONS] --to <N> <NAME>

    Arguments:
      <NAME>  The cluster: NAME, pg/NAME or postgresql/NAME

    Options:
          --color <WHEN>     Colours in the output; `NO_COLOR` wins [default: auto]
                             [possible values: auto, always, never]
          --to <N>           Number of instances to plan for
      -o, --output <FORMAT>  Output format [default: text] [possible values: text,
                             wide, json, yaml, name]
      -h, --help             Print help (see more with '--help')

    Examples:
      kubectl pgscale plan acid-a --to 2
      kubectl pgscale plan acid-a --to 5 -o wide
      kubectl pgscale plan acid-a --to 2 -o json | jq '.findings[].rule'
    ");
    insta::assert_snapshot!(help("wait"), @"
    Wait until a cluster has converged on the count it asks for

    Usage: kubectl pgscale wait [OPTIONS] <NAME>

    Arguments:
      <NAME>  The cluster: NAME, pg/NAME or postgresql/NAME

    Options:
          --color <WHEN>        Colours in the output; `NO_COLOR` wins [default:
                                auto] [possible values: auto, always, never]
          --timeout <DURATION>  Time to wait, such as 5s, 2m or 3h; 0 looks once, a
                                negative value waits a week [default: 30m]
      -o, --output <FORMAT>     Output format [default: text] [possible values:
                                text, wide, json, yaml, name]
      -h, --help                Print help (see more with '--help')

    Examples:
      kubectl pgscale wait acid-a
      kubectl pgscale wait acid-a --timeout 3h
      kubectl pgscale wait acid-a --timeout 0      look once
    ");
    insta::assert_snapshot!(help("rules"), @"
    Print the table of rules, or one rule's page

    Usage: kubectl pgscale rules [OPTIONS] [RULE]

    Arguments:
      [RULE]  One rule's id

    Options:
          --color <WHEN>     Colours in the output; `NO_COLOR` wins [default: auto]
                             [possible values: auto, always, never]
      -o, --output <FORMAT>  Output format [default: text] [possible values: text,
                             wide, json, yaml, name]
      -h, --help             Print help (see more with '--help')

    Examples:
      kubectl pgscale rules
      kubectl pgscale rules leader-cannot-move
    ");
    insta::assert_snapshot!(help("version"), @"
    Print the version

    Usage: kubectl pgscale version [OPTIONS]

    Options:
          --color <WHEN>     Colours in the output; `NO_COLOR` wins [default: auto]
                             [possible values: auto, always, never]
      -o, --output <FORMAT>  Output format [default: text] [possible values: text,
                             wide, json, yaml, name]
      -h, --help             Print help (see more with '--help')

    Examples:
      kubectl pgscale version
      kubectl pgscale version -o json
    ");
}

#[test]
fn the_long_help_explains_and_names_the_permissions() {
    let mut command = Cli::command_as(None).term_width(80);
    command.build();
    let down = command.find_subcommand_mut("down").unwrap().render_long_help().to_string();
    let down = down.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in
        ["the count is lowered only after", "Permissions,", "--as-group", "--request-timeout"]
    {
        assert!(down.contains(part), "{part} is missing:\n{down}");
    }
    let all = command.render_long_help().to_string();
    assert!(all.contains("130  interrupted"), "{all}");
}
