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

/// Returns the help of a verb on a terminal of 80 columns.
fn help(verb: &str) -> String {
    let mut command = Cli::screen_as(None).term_width(80);
    command.build();
    command.find_subcommand_mut(verb).unwrap().render_help().to_string()
}

/// Returns the text that a command line prints instead of doing anything.
fn page(line: &str) -> String {
    let error = parse(line).expect_err(line);
    assert_eq!(error.exit_code(), 0, "{line}");
    error.render().to_string()
}

/// The flags that every verb takes.
fn everywhere() -> Vec<String> {
    let program = Cli::command();
    // Those that change nothing here are taken, and not shown.
    let all = program.get_arguments().filter(|arg| arg.is_global_set() && !arg.is_hide_set());
    all.map(|arg| format!("--{}", arg.get_long().unwrap())).collect()
}

#[test]
fn help_fits_on_a_screen_and_begins_with_examples() {
    const SCREEN: usize = 24;
    let program = Cli::command();
    for verb in program.get_subcommands().map(clap::Command::get_name) {
        let text = help(verb);
        assert!(text.lines().count() <= SCREEN, "{verb}: {}\n{text}", text.lines().count());
        // The usage is a form, and stays on one line.
        let mut lines = text.lines().filter(|line| !line.starts_with("Usage:"));
        let wide = lines.find(|line| line.chars().count() > 80);
        assert_eq!(wide, None, "{verb}:\n{text}");
        let (examples, usage) = (text.find("Examples:"), text.find("Usage:"));
        assert!(examples.is_some() && examples < usage, "{verb}:\n{text}");
        // kubectl makes no difference between the two.
        let [short, long] =
            ["-h", "--help"].map(|flag| page(&format!("kubectl-pgscale {verb} {flag}")));
        assert_eq!(short, long);
    }
}

#[test]
fn connection_flags_are_behind_options() {
    let options = page("kubectl-pgscale options");
    for flag in everywhere() {
        assert!(options.contains(&flag), "{flag} is missing:\n{options}");
    }
    assert!(options.contains("--as-group") && options.contains("--request-timeout"), "{options}");
    let program = Cli::command();
    for verb in program.get_subcommands().map(clap::Command::get_name) {
        let whole = page(&format!("kubectl-pgscale help {verb}"));
        for text in [help(verb), whole] {
            let (_, flags) = text.split_once("Usage:").unwrap();
            for flag in everywhere() {
                let documented = |line: &str| {
                    let words = line.split_whitespace().take(2);
                    line.starts_with("  ") && words.into_iter().any(|word| word == flag)
                };
                assert!(!flags.lines().any(documented), "{verb} {flag}:\n{text}");
            }
            assert!(text.contains("kubectl pgscale options"), "{verb}:\n{text}");
        }
    }
}

#[test]
fn help_works_and_explains_everything() {
    for line in
        ["help", "help up", "help policy", "help policy test", "--context c help up", "help -h"]
    {
        let text = page(&format!("kubectl-pgscale {line}"));
        assert!(text.contains("Usage: kubectl pgscale"), "{line}:\n{text}");
    }
    let up = page("kubectl-pgscale help up");
    for part in ["Permissions,", "--max-parallel", "--confirm", "24h at most", "Examples:"] {
        assert!(up.contains(part), "{part} is missing:\n{up}");
    }
    assert!(page("kubectl-pgscale help").contains("130  interrupted"));
    assert_eq!(parse("kubectl-pgscale help grow").unwrap_err().exit_code(), 2);
    // The flag that the short help leaves out is taken all the same.
    parse("kubectl-pgscale up -l env=staging --max-parallel 4 --stop-on-error").unwrap();
}

#[test]
fn help_of_the_verbs_that_change_something() {
    insta::assert_snapshot!(help("up"), @"
    Run more instances

    Examples:
      kubectl pgscale up acid-a                one instance more
      kubectl pgscale up acid-a --to 5         five instances
      kubectl pgscale up -l env=staging -A --by 1 --max-parallel 4
      kubectl pgscale help up            all flags and permissions
      kubectl pgscale options            flags that every verb takes

    Usage: kubectl pgscale up [OPTIONS] [NAME]

    Options:
      -l, --selector <LABELS>   All clusters with these labels
          --all                 All clusters, whatever their labels are
      -A, --all-namespaces      Those of all namespaces; needs -l or --all
          --to <N>              Number of instances to run
          --by <N>              Number of instances to add
      -y, --yes                 Answer yes to the question before a change
          --dry-run <MODE>      Change nothing: client or server
          --timeout <DURATION>  Time to wait, such as 5s, 2m or 3h
          --reason <TEXT>       Reason, for the history and the Event
      -o, --output <FORMAT>     Output: text, wide, json, yaml, name
      -h, --help                Print this help
    ");
    insta::assert_snapshot!(help("down"), @"
    Run fewer instances; the leader is moved out of the way first

    Examples:
      kubectl pgscale down acid-a              one instance less
      kubectl pgscale down acid-a --to 3       three instances
      kubectl pgscale down acid-a --to 0 --confirm=db/acid-a
      kubectl pgscale help down          all flags and permissions
      kubectl pgscale options            flags that every verb takes

    Usage: kubectl pgscale down [OPTIONS] [NAME]

    Options:
      -l, --selector <LABELS>   All clusters with these labels
          --all                 All clusters, whatever their labels are
      -A, --all-namespaces      Those of all namespaces; needs -l or --all
          --to <N>              Number of instances to run
          --by <N>              Number of instances to remove
      -y, --yes                 Answer yes to the question before a change
          --dry-run <MODE>      Change nothing: client or server
          --timeout <DURATION>  Time to wait, such as 5s, 2m or 3h
          --reason <TEXT>       Reason, for the history and the Event
      -o, --output <FORMAT>     Output: text, wide, json, yaml, name
      -h, --help                Print this help
    ");
    insta::assert_snapshot!(help("set"), @"
    Run exactly N instances, whether that is more or fewer

    Examples:
      kubectl pgscale set acid-a 3
      kubectl pgscale set acid-a 3 --yes -o json
      kubectl pgscale set -l env=staging --to 2 --reason 'load test is over'
      kubectl pgscale help set           all flags and permissions
      kubectl pgscale options            flags that every verb takes

    Usage: kubectl pgscale set [OPTIONS] [NAME] [N]

    Options:
      -l, --selector <LABELS>   All clusters with these labels
          --all                 All clusters, whatever their labels are
      -A, --all-namespaces      Those of all namespaces; needs -l or --all
          --to <N>              The same, where several clusters are named by labels
      -y, --yes                 Answer yes to the question before a change
          --dry-run <MODE>      Change nothing: client or server
          --timeout <DURATION>  Time to wait, such as 5s, 2m or 3h
          --reason <TEXT>       Reason, for the history and the Event
      -o, --output <FORMAT>     Output: text, wide, json, yaml, name
      -h, --help                Print this help
    ");
    insta::assert_snapshot!(help("switchover"), @"
    Move the leader, and nothing else

    Examples:
      kubectl pgscale switchover acid-a
      kubectl pgscale switchover acid-a --to acid-a-1
      kubectl pgscale switchover acid-a --for 3     before a scale to 3 elsewhere
      kubectl pgscale help switchover    all flags and permissions
      kubectl pgscale options            flags that every verb takes

    Usage: kubectl pgscale switchover [OPTIONS] <NAME>

    Options:
          --to <MEMBER>         The member that is to lead
          --for <N>             Move it so that a shrink to N passes
          --dry-run <MODE>      Change nothing: show what would be done
          --reason <TEXT>       Reason, for the history and the Event
          --timeout <DURATION>  Time to wait, such as 5s, 2m or 3h
      -o, --output <FORMAT>     Output: text, wide, json, yaml, name
      -h, --help                Print this help
    ");
}

#[test]
fn help_of_the_verbs_that_look() {
    insta::assert_snapshot!(help("status"), @"
    Show members, health, roles, lag and what to do next

    Examples:
      kubectl pgscale status acid-a
      kubectl pgscale status acid-a --why
      kubectl pgscale status acid-a --sql --tables 10
      kubectl pgscale status acid-a -w
      kubectl pgscale status -A -l env=production
      kubectl pgscale status -A -o custom-columns=NAME:.metadata.name,BY:.leader
      kubectl pgscale status acid-a -o jsonpath='{.members[0].node}'
      kubectl pgscale help status        all flags and permissions
      kubectl pgscale options            flags that every verb takes

    Usage: kubectl pgscale status [OPTIONS] [NAME]

    Options:
      -A, --all-namespaces     All namespaces
      -l, --selector <LABELS>  Only clusters with these labels
          --why                Every cause of not converging, with Events
          --sql                Reads, lag, WAL and slots of each member, in SQL
          --tables <N>         Tables of each member, the busiest first; means --sql
      -w, --watch              Look again and again
      -o, --output <FORMAT>    Output: text, wide, json, yaml, name
      -h, --help               Print this help
    ");
    insta::assert_snapshot!(help("plan"), @"
    Show what a change would do and what every rule says about it

    Examples:
      kubectl pgscale plan acid-a 2
      kubectl pgscale plan acid-a --to 2 --exit-code
      kubectl pgscale plan acid-a --to 5 -o wide
      kubectl pgscale plan acid-a --to 2 -o json | jq '.findings[].rule'
      kubectl pgscale help plan          all flags and permissions
      kubectl pgscale options            flags that every verb takes

    Usage: kubectl pgscale plan [OPTIONS] <NAME> [N]

    Options:
          --to <N>           The same
          --exit-code        End with 8 if something would change
      -o, --output <FORMAT>  Output: text, wide, json, yaml, name
      -h, --help             Print this help
    ");
    insta::assert_snapshot!(help("wait"), @"
    Wait until clusters have converged on the counts they ask for

    Examples:
      kubectl pgscale wait acid-a
      kubectl pgscale wait acid-a acid-b --timeout 3h
      kubectl pgscale wait -l env=staging -A
      kubectl pgscale wait acid-a --timeout 0      look once
      kubectl pgscale help wait          all flags and permissions
      kubectl pgscale options            flags that every verb takes

    Usage: kubectl pgscale wait [OPTIONS] [NAME]...

    Options:
      -l, --selector <LABELS>   All clusters with these labels
      -A, --all-namespaces      Clusters of all namespaces
          --timeout <DURATION>  Time to wait, such as 5s, 2m or 3h
      -o, --output <FORMAT>     Output: text, wide, json, yaml, name
      -h, --help                Print this help
    ");
    insta::assert_snapshot!(help("rules"), @"
    Print the table of rules, or one rule's page

    Examples:
      kubectl pgscale rules
      kubectl pgscale rules leader-cannot-move
      kubectl pgscale help rules         all flags and permissions
      kubectl pgscale options            flags that every verb takes

    Usage: kubectl pgscale rules [OPTIONS] [RULE]

    Options:
      -o, --output <FORMAT>  Output: text, wide, json, yaml, name
      -h, --help             Print this help
    ");
    insta::assert_snapshot!(help("version"), @"
    Print the versions of everything that takes part, and what does not fit together

    Examples:
      kubectl pgscale version
      kubectl pgscale version --client
      kubectl pgscale version -o json
      kubectl pgscale help version       all flags and permissions
      kubectl pgscale options            flags that every verb takes

    Usage: kubectl pgscale version [OPTIONS]

    Options:
          --client[=<BOOL>]  Print this program's version, without a request
      -o, --output <FORMAT>  Output: text, wide, json, yaml, name
      -h, --help             Print this help
    ");
}

#[test]
fn the_long_help_explains_and_names_the_permissions() {
    let mut command = Cli::command_as(None).term_width(80);
    command.build();
    let down = command.find_subcommand_mut("down").unwrap().render_long_help().to_string();
    let down = down.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in ["the count is lowered only after", "Permissions,", "N-clusters"] {
        assert!(down.contains(part), "{part} is missing:\n{down}");
    }
    let all = command.render_long_help().to_string();
    assert!(all.contains("130  interrupted"), "{all}");
}

#[test]
fn words_of_kubectl_mean_the_harmless_verb_or_the_same_change() {
    for word in ["get", "list", "ls", "describe"] {
        let cli = parse(&format!("kubectl-pgscale {word} acid-a")).unwrap();
        assert!(matches!(cli.verb, Verb::Status(_)), "{word}");
    }
    for line in [
        "scale acid-a --replicas 3",
        "scale acid-a --replicas=3 --current-replicas=2",
        "scale postgresql/acid-a --replicas=3 --current-replicas=-1",
        "set acid-a 3 --current-replicas 2",
        "scale -l a=b --replicas 3",
    ] {
        let cli = parse(&format!("kubectl-pgscale {line}")).expect(line);
        assert!(matches!(cli.verb, Verb::Set(_)), "{line}");
    }
    for line in [
        "scale acid-a",
        "scale acid-a --replicas=-1",
        "scale acid-a --replicas 1 --current-replicas=-2",
        "plan acid-a",
        "plan acid-a 3 --to 3",
        "plan acid-a x",
    ] {
        assert_eq!(parse(&format!("kubectl-pgscale {line}")).unwrap_err().exit_code(), 2, "{line}");
    }
    for line in ["plan acid-a 3", "plan acid-a --to 3", "plan acid-a 3 --exit-code"] {
        parse(&format!("kubectl-pgscale {line}")).expect(line);
    }
}

#[test]
fn verbs_that_only_look_take_several_names_or_labels() {
    for verb in ["wait", "verify", "history"] {
        for which in ["acid-a", "acid-a pg/acid-b", "-l a=b", "-A", "-A -l a=b"] {
            parse(&format!("kubectl-pgscale {verb} {which}")).expect(which);
        }
        for which in ["", "acid-a -A", "acid-a -l a=b"] {
            let error = parse(&format!("kubectl-pgscale {verb} {which}")).expect_err(which);
            assert_eq!(error.exit_code(), 2, "{verb} {which}");
        }
    }
}
