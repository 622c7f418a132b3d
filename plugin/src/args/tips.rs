//! What clap cannot know when a command line makes no sense: how several clusters are chosen, and how many each
//! shall run then.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::{Cli, count};

/// The verbs that take one cluster by name, or several by labels or namespace.
const VERBS: [&str; 3] = ["down", "set", "up"];

/// The error, with what would work where NAME is missing, or there beside `-l` or `-A`.
pub(super) fn advised(mut error: clap::Error, arguments: &[OsString]) -> clap::Error {
    let about_name = (error.kind() == ErrorKind::ArgumentConflict && names(&error, "[NAME]"))
        || (error.kind() == ErrorKind::MissingRequiredArgument && names(&error, "<NAME>"));
    let usage = error.get(ContextKind::Usage).map(ToString::to_string).unwrap_or_default();
    let verb = VERBS.into_iter().find(|verb| usage.split_whitespace().any(|word| word == *verb));
    if let Some(verb) = verb.filter(|_| about_name) {
        let tip = match number(arguments) {
            Some(number) => format!("for several clusters the count is a flag: --to {number}"),
            None if verb == "set" => {
                "name one cluster and N, or choose several with -l LABELS or -A, and --to N"
                    .to_owned()
            }
            None => "name one cluster, or choose several with -l LABELS or -A".to_owned(),
        };
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    }
    error
}

/// The error names this argument.
fn names(error: &clap::Error, argument: &str) -> bool {
    [ContextKind::InvalidArg, ContextKind::PriorArg].into_iter().any(|kind| match error.get(kind) {
        Some(ContextValue::String(one)) => one == argument,
        Some(ContextValue::Strings(all)) => all.iter().any(|one| one == argument),
        _ => false,
    })
}

/// The word that makes sense of the command line as the value of `--to`.
fn number(arguments: &[OsString]) -> Option<i64> {
    arguments.iter().enumerate().find_map(|(place, word)| {
        let number = count(word.to_str()?).ok()?;
        let mut meant = arguments.to_vec();
        // In its place: what is the value of another flag does not make sense as a flag.
        *meant.get_mut(place)? = format!("--to={number}").into();
        Cli::command_as(None).try_get_matches_from(meant).is_ok().then_some(number)
    })
}

#[cfg(test)]
mod tests {
    use crate::args::Cli;

    fn tip(line: &str) -> Option<String> {
        let error = Cli::of(format!("kubectl-pgscale {line}").split_whitespace()).expect_err(line);
        let text = error.render().to_string();
        text.lines().find_map(|line| line.trim().strip_prefix("tip: ").map(str::to_owned))
    }

    #[test]
    fn a_bare_count_beside_labels_was_taken_for_a_name_and_refused_without_a_hint() {
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
    fn a_missing_name_said_nothing_of_labels_and_namespaces() {
        for line in ["down", "up", "up --to 3", "down acid-a -l a=b"] {
            let tip = tip(line);
            assert_eq!(
                tip.as_deref(),
                Some("name one cluster, or choose several with -l LABELS or -A"),
                "{line}"
            );
        }
        for line in ["set", "set -l a=b", "set acid-a -l a=b 3"] {
            let tip = tip(line);
            assert_eq!(
                tip.as_deref(),
                Some("name one cluster and N, or choose several with -l LABELS or -A, and --to N"),
                "{line}"
            );
        }
        // These take one cluster, and by name.
        for line in ["plan --to 3", "wait", "set acid-a 3 --to 3"] {
            assert_eq!(tip(line), None, "{line}");
        }
    }
}
