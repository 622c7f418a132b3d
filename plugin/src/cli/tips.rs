//! Hints that clap cannot give when a command line makes no sense: the choice of several clusters,
//! and the count for each one.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::Cli;
use crate::args::count;

/// The verbs that take one cluster by name, or several by labels, each with a command that changes
/// several.
const VERBS: [(&str, &str); 3] = [
    ("down", "kubectl pgscale down -l env=staging -A --to 1"),
    ("set", "kubectl pgscale set -l env=staging -A --to 2"),
    ("up", "kubectl pgscale up -l env=staging -A --by 1"),
];

/// The verbs that only look. A wrong word never suggests another one: a slip of the hand must not
/// become a change.
const HARMLESS: [&str; 13] = [
    "completion",
    "doctor",
    "history",
    "lint",
    "plan",
    "policy",
    "rbac",
    "rules",
    "snapshot",
    "status",
    "verify",
    "version",
    "wait",
];

/// Returns the error without a suggestion of a verb that changes something. Where none is left, the
/// list of verbs is named.
fn harmless(mut error: clap::Error) -> clap::Error {
    let changes = |word: &str| !HARMLESS.contains(&word);
    if let Some(ContextValue::Strings(words)) = error.remove(ContextKind::SuggestedSubcommand) {
        let words: Vec<String> = words.into_iter().filter(|word| !changes(word)).collect();
        if !words.is_empty() {
            error.insert(ContextKind::SuggestedSubcommand, ContextValue::Strings(words));
        }
    }
    if let Some(ContextValue::StyledStrs(tips)) = error.remove(ContextKind::Suggested) {
        // "'up --by' exists": another verb has such a flag.
        let names_change = |tip: &str| {
            let verb = tip.strip_prefix('\'').and_then(|rest| rest.split_whitespace().next());
            tip.ends_with("exists")
                && verb.is_some_and(|verb| !verb.starts_with('-') && changes(verb))
        };
        let plain = |tip: &clap::builder::StyledStr| tip.to_string();
        let tips: Vec<_> = tips.into_iter().filter(|tip| !names_change(&plain(tip))).collect();
        if !tips.is_empty() {
            error.insert(ContextKind::Suggested, ContextValue::StyledStrs(tips));
        }
    }
    let unknown = error.kind() == ErrorKind::InvalidSubcommand;
    let suggests = [ContextKind::SuggestedSubcommand, ContextKind::Suggested];
    if unknown && suggests.into_iter().all(|kind| error.get(kind).is_none()) {
        let tip = vec!["see the verbs: kubectl pgscale help".into()];
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(tip));
    }
    error
}

/// Returns the error with a line that would work: where NAME is missing, or stands beside `-l` or
/// `-A`, or where neither labels nor `--all` stand beside `-A`.
pub(super) fn advised(error: clap::Error, arguments: &[OsString]) -> clap::Error {
    let mut error = harmless(error);
    let without_labels = error.kind() == ErrorKind::MissingRequiredArgument
        && names(&error, "<--selector <LABELS>|--all>");
    let about_name = (error.kind() == ErrorKind::ArgumentConflict && names(&error, "[NAME]"))
        || (error.kind() == ErrorKind::MissingRequiredArgument && names(&error, "<NAME>"));
    let usage = error.get(ContextKind::Usage).map(ToString::to_string).unwrap_or_default();
    let verb =
        VERBS.into_iter().find(|(verb, _)| usage.split_whitespace().any(|word| word == *verb));
    if let Some((_, example)) = verb.filter(|_| without_labels) {
        let text = format!(
            "--all-namespaces (-A) alone would change every cluster of every namespace: add -l LABELS, or --all\n\n  \
             tip: {example}\n\nFor more information, try '--help'.\n"
        );
        return clap::Error::raw(error.kind(), text);
    }
    if let Some((verb, _)) = verb.filter(|_| about_name) {
        let tip = match number(arguments) {
            Some(number) => format!("for several clusters the count is a flag: --to {number}"),
            None if verb == "set" => {
                "name one cluster and N, or choose several with -l LABELS and --to N; -A takes those of all \
                 namespaces"
                    .to_owned()
            }
            None => "name one cluster, or choose several with -l LABELS; -A takes those of all namespaces"
                .to_owned(),
        };
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    }
    error
}

/// Returns whether the error names this argument.
fn names(error: &clap::Error, argument: &str) -> bool {
    [ContextKind::InvalidArg, ContextKind::PriorArg].into_iter().any(|kind| match error.get(kind) {
        Some(ContextValue::String(one)) => one == argument,
        Some(ContextValue::Strings(all)) => all.iter().any(|one| one == argument),
        _ => false,
    })
}

/// Returns the word that makes sense of the command line as the value of `--to`. Labels beside `-A`
/// may be missing too.
fn number(arguments: &[OsString]) -> Option<i64> {
    arguments.iter().enumerate().find_map(|(place, word)| {
        let number = count(word.to_str()?).ok()?;
        let mut meant = arguments.to_vec();
        // The flag takes the place of the word: the value of another flag makes no sense as a flag.
        *meant.get_mut(place)? = format!("--to={number}").into();
        let labelled = meant.iter().cloned().chain(["--selector=any".into()]).collect::<Vec<_>>();
        let makes_sense = |words| Cli::command_as(None).try_get_matches_from(words).is_ok();
        (makes_sense(meant) || makes_sense(labelled)).then_some(number)
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use crate::cli::Cli;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::of(line.split_whitespace())
    }

    fn tip(line: &str) -> Option<String> {
        let error = parse(&format!("kubectl-pgscale {line}")).expect_err(line);
        let text = error.render().to_string();
        text.lines().find_map(|line| line.trim().strip_prefix("tip: ").map(str::to_owned))
    }

    #[test]
    fn a_bare_count_beside_labels_gets_a_hint() {
        for line in ["set -l a=b 3", "set 3 -A", "set -l a=b --max-parallel 4 3 --yes"] {
            let tip = tip(line);
            assert_eq!(
                tip.as_deref(),
                Some("for several clusters the count is a flag: --to 3"),
                "{line}"
            );
        }
    }

    #[test]
    fn a_missing_name_gets_a_hint_about_labels_and_namespaces() {
        for line in ["down", "up", "up --to 3", "down acid-a -l a=b"] {
            let tip = tip(line);
            assert_eq!(
                tip.as_deref(),
                Some(
                    "name one cluster, or choose several with -l LABELS; -A takes those of all namespaces"
                ),
                "{line}"
            );
        }
        for line in ["set", "set -l a=b", "set acid-a -l a=b 3"] {
            let tip = tip(line);
            assert_eq!(
                tip.as_deref(),
                Some(
                    "name one cluster and N, or choose several with -l LABELS and --to N; -A takes those \
                     of all namespaces"
                ),
                "{line}"
            );
        }
        // These commands take one cluster, and by name.
        for line in ["plan --to 3", "wait", "set acid-a 3 --to 3"] {
            assert_eq!(tip(line), None, "{line}");
        }
    }

    #[test]
    fn wrong_words_never_suggest_a_verb_that_changes_something() {
        let program = Cli::command();
        let verbs: Vec<&str> = program.get_subcommands().map(clap::Command::get_name).collect();
        let writing: Vec<&str> =
            verbs.into_iter().filter(|verb| !super::HARMLESS.contains(verb)).collect();
        for word in [
            "sett",
            "ste",
            "dwon",
            "dow",
            "downn",
            "upp",
            "pu",
            "u",
            "undoo",
            "udno",
            "switchove",
            "swichover",
            "overide",
            "overrid",
            "grow",
            "shrink",
            "delete",
            "stauts",
            "pln",
        ] {
            for line in [format!("{word} acid-a"), format!("{word} acid-a --to 1 --yes")] {
                let error = parse(&format!("kubectl-pgscale {line}")).expect_err(&line);
                let text = error.render().to_string();
                assert_eq!(error.exit_code(), 2, "{line}");
                let tips: Vec<&str> = text.lines().filter(|it| it.contains("tip:")).collect();
                assert!(!tips.is_empty(), "{line} -> {text}");
                for verb in &writing {
                    let named = tips.iter().any(|tip| tip.contains(&format!("'{verb}")));
                    assert!(!named, "{line} -> {text}");
                }
            }
        }
        assert_eq!(tip("stauts").as_deref(), Some("a similar subcommand exists: 'status'"));
        assert_eq!(tip("dwon acid-a").as_deref(), Some("see the verbs: kubectl pgscale help"));
        // A flag of a verb that changes something, without a verb.
        for line in ["--by 2", "--confirm=all", "--stop-on-error", "status --by 2"] {
            let text =
                parse(&format!("kubectl-pgscale {line}")).expect_err(line).render().to_string();
            for verb in &writing {
                assert!(!text.contains(&format!("'{verb} ")), "{line} -> {text}");
            }
        }
    }

    #[test]
    fn all_namespaces_alone_never_selects_clusters_to_change() {
        let program = Cli::command();
        let takes =
            |verb: &clap::Command, id: &str| verb.get_arguments().any(|it| it.get_id() == id);
        let acting = program.get_subcommands();
        let acting: Vec<&str> = acting
            .filter(|verb| takes(verb, "all_namespaces") && takes(verb, "dry_run"))
            .map(clap::Command::get_name)
            .collect();
        assert_eq!(acting, ["up", "down", "set"]);
        for verb in acting {
            for flags in ["-A", "-A --yes", "--all-namespaces --to 2", "-A --to 2 --dry-run=client"]
            {
                let line = format!("kubectl-pgscale {verb} {flags}");
                let error = parse(&line).expect_err(&line);
                let text = error.render().to_string();
                assert_eq!(error.exit_code(), 2, "{line}");
                assert!(text.starts_with("error: --all-namespaces (-A) alone"), "{line} -> {text}");
                let example =
                    text.lines().find_map(|line| line.trim().strip_prefix("tip: ")).unwrap();
                let example = example.replace("kubectl pgscale", "kubectl-pgscale");
                assert!(example.contains(&format!("{verb} -l ")), "{line} -> {text}");
                parse(&example).expect(&example);
            }
            let chosen = format!("kubectl-pgscale {verb} -l env=staging -A --to 2");
            parse(&chosen).expect(&chosen);
        }
        // These commands only look.
        for line in ["kubectl-pgscale status -A", "kubectl-pgscale policy test -A -f p.yaml"] {
            parse(line).expect(line);
        }
    }

    #[test]
    fn empty_labels_never_select_clusters_to_change() {
        for verb in ["up", "down", "set"] {
            for labels in ["", "  "] {
                for place in [&[][..], &["-A"]] {
                    let words = ["kubectl-pgscale", verb, "--to", "2", "-l", labels];
                    let error = Cli::of(words.iter().chain(place)).expect_err(verb);
                    assert_eq!(error.exit_code(), 2, "{verb} -l {labels:?}");
                    let text = error.render().to_string();
                    assert!(text.contains("it is empty, and would choose every cluster"), "{text}");
                }
            }
        }
    }
}
