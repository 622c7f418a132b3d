//! Failures in words for a person, and their exit codes.

use std::error::Error as _;
use std::fmt;

use kube::core::Status;
use kube::core::response::StatusCause;
use pgscale_guard::remedy::{Command, Line, Reach, Remedy};
use pgscale_guard::rules::rule;

mod credentials;

pub(crate) use credentials::NoCredentials;

/// The exit codes, which scripts rely on.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0    done, or nothing to do
  1    error, missing permissions included
  2    wrong usage
  3    refused by a rule: of the plan, the admission webhook or Patroni
  4    not finished within --timeout. A change that was written continues
  5    changed, but not as planned. For verify and doctor: something is wrong
  6    reverted or superseded by another writer
  7    declined, or no terminal to ask on and no --yes
  8    for plan --exit-code: the change is allowed, and would change something
  130  interrupted. A change that was written continues";

/// The reason that kube gives an answer that is no `Status` of Kubernetes, such as a web page
/// (`handle_api_errors`, kube-client/src/client/mod.rs).
pub(crate) const UNPARSED: &str = "Failed to parse error data";

/// The kind of a failure, which decides the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Nothing is wrong: the plan would change something, and the person asked for that as a code.
    Differs,
    /// The person declined, or there was no person to ask.
    Declined,
    /// Another failure: network, permissions, missing objects.
    Error,
    /// Ctrl-C.
    Interrupted,
    /// Something was changed, and the outcome is not the planned one.
    NotAsPlanned,
    /// A rule refused: of this program, of the webhook or of Patroni.
    Refused,
    /// Another writer changed the count afterwards.
    Reverted,
    /// The deadline passed.
    Timeout,
    /// The command line is malformed.
    Usage,
}

impl Kind {
    /// Returns the word for it in reports and in the history.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Declined => "Declined",
            Self::Differs => "Differs",
            Self::Error | Self::Interrupted | Self::Usage => "Failed",
            Self::NotAsPlanned => "NotAsPlanned",
            Self::Refused => "Refused",
            Self::Reverted => "Reverted",
            Self::Timeout => "TimedOut",
        }
    }

    /// Returns its exit code.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Error => 1,
            Self::Usage => 2,
            Self::Refused => 3,
            Self::Timeout => 4,
            Self::NotAsPlanned => 5,
            Self::Reverted => 6,
            Self::Declined => 7,
            Self::Differs => 8,
            Self::Interrupted => 130,
        }
    }
}

/// A failure: the request, the cause, and the remedies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// The kind, which decides the exit code.
    pub(crate) kind: Kind,
    /// The request and the cause.
    pub(crate) message: String,
    /// The lines below the message. A line that another program wrote may be a command, and counts as one.
    pub(crate) details: Vec<Line>,
    /// Commands or edits that mend it.
    pub(crate) hints: Vec<Remedy>,
    /// The outcome once more, as the last line: the message may be out of sight by then.
    pub(crate) closing: Option<String>,
    /// The HTTP status that the API server answered with, or 504 where it did not answer in time.
    pub(crate) status: Option<u16>,
}

impl Failure {
    /// Returns a failure of `kind`.
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            details: Vec::new(),
            hints: Vec::new(),
            closing: None,
            status: None,
        }
    }

    /// Returns a failure of the kind `Error`.
    pub(crate) fn error(message: impl Into<String>) -> Self {
        Self::new(Kind::Error, message)
    }

    /// Returns a failure of the command line.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Kind::Usage, message)
    }

    /// Returns a refusal by a rule.
    pub(crate) fn refused(message: impl Into<String>) -> Self {
        Self::new(Kind::Refused, message)
    }

    /// Adds the HTTP status that is behind it.
    #[must_use]
    pub(crate) fn answered(self, status: u16) -> Self {
        Self { status: Some(status), ..self }
    }

    /// Adds lines below the message.
    #[must_use]
    pub(crate) fn with(mut self, details: impl IntoIterator<Item = Line>) -> Self {
        self.details.extend(details);
        self
    }

    /// Adds a sentence below the message.
    #[must_use]
    pub(crate) fn with_line(self, text: impl Into<String>) -> Self {
        self.with([Line::Text(text.into())])
    }

    /// Adds the outcome as the last line.
    #[must_use]
    pub(crate) fn closing_with(self, outcome: impl Into<String>) -> Self {
        Self { closing: Some(outcome.into()), ..self }
    }

    /// Returns what is wrong in full, without the hints.
    pub(crate) fn text(&self) -> String {
        let details = self.details.iter().map(|(Line::Text(line) | Line::Command(line))| line);
        std::iter::once(&self.message).chain(details).cloned().collect::<Vec<_>>().join("\n")
    }

    /// Adds a remedy.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<Remedy>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Adds `command` as a remedy, for the reason `why`.
    #[must_use]
    pub(crate) fn hint_to(self, why: impl Into<String>, command: Command) -> Self {
        self.hint(Remedy::to(why, command))
    }

    /// Adds the connection flags to the commands of the hints. They are not known where a failure
    /// is created.
    #[must_use]
    pub(crate) fn reached_by(mut self, reach: &Reach) -> Self {
        self.hints = self.hints.into_iter().map(|hint| hint.reached_by(reach)).collect();
        self
    }

    /// Returns the hints line by line, each hint behind `title`; a command stands alone on its line.
    pub(crate) fn hint_lines(&self, title: &str) -> Vec<Line> {
        self.hints.iter().flat_map(|hint| hint.behind(title)).collect()
    }

    /// Returns the error of the API server, or of the way to it, for the attempt to `asked` ("read
    /// postgresql db/acid-a").
    pub(crate) fn of_kube(error: &kube::Error, asked: &str) -> Self {
        if let kube::Error::Api(status) = error {
            return Self::of_status(status, asked).answered(status.code);
        }
        if let kube::Error::Service(error) = error
            && let Some(error) = error.downcast_ref::<NoCredentials>()
        {
            return error.failure(asked);
        }
        if matches!(error, kube::Error::Auth(_)) {
            return Self::error(format!(
                "failed to {asked}: the credentials could not be obtained: {}",
                causes(error)
            ))
            .hint_to(
                "log in again, or check the user of the context",
                Command::kubectl(["config", "view", "--minify"]),
            );
        }
        if matches!(error, kube::Error::Service(_) | kube::Error::HyperError(_)) {
            let why = causes(error);
            return Self::error(format!(
                "failed to {asked}: the API server cannot be reached: {why}"
            ))
            .hint_to("check the server of the context", Command::kubectl(["cluster-info"]));
        }
        Self::error(format!("failed to {asked}: {}", chain(error)))
    }

    fn of_status(status: &Status, asked: &str) -> Self {
        let page = format!("HTTP {}, with a page that Kubernetes did not write", status.code);
        let foreign = status.reason == UNPARSED && status.message.starts_with('<');
        let message = if foreign { page.as_str() } else { status.message.as_str() };
        if denied_by_admission(status) {
            return Self::of_denial(status, asked);
        }
        if takes_no_dry_runs(status) {
            return Self::error(format!(
                "failed to test whether the API server would let you {asked}: {message} (see sideEffects \
                 of its registration)"
            ));
        }
        match status.code {
            401 => Self::error(format!(
                "failed to {asked}: the API server does not accept the credentials: {message}"
            ))
            .hint_to(
                "they may have expired: log in again, or check them",
                Command::kubectl(["auth", "whoami"]),
            ),
            403 => {
                let failure = Self::error(format!("failed to {asked}: not permitted: {message}"));
                match Permission::of(message) {
                    Some(permission) => failure.hint_to(
                        format!("ask for permission to {}, then test it", permission.phrase()),
                        permission.command(),
                    ),
                    None => failure,
                }
            }
            404 if message.contains("the server could not find the requested resource")
                || message.contains("page not found") =>
            {
                Self::error(format!(
                    "failed to {asked}: this Kubernetes cluster does not know the kind postgresql \
                     (acid.zalan.do/v1)"
                ))
                .hint("install the Zalando postgres-operator, or choose another --context")
            }
            _ if message.contains("failed calling webhook \"")
                && message.contains(".pgscale.dev\"") =>
            {
                Self::error(format!("failed to {asked}: {message}")).hint_to(
                    "the webhook does not answer (in an emergency: docs/break-glass.md)",
                    Command::kubectl([
                        "get",
                        "pods",
                        "-A",
                        "-l",
                        "app.kubernetes.io/name=pgscale-webhook",
                    ]),
                )
            }
            _ => Self::error(format!("failed to {asked}: {message}")),
        }
    }

    /// Returns a refusal of an admission webhook or policy, which the API server passes on.
    fn of_denial(status: &Status, asked: &str) -> Self {
        let mut lines = status.message.lines();
        let first = lines.next().unwrap_or_default();
        let causes = status.details.iter().flat_map(|details| &details.causes);
        // A cause repeats a part of the message. Of a long refusal the message names further rules
        // alone, and their causes say the rest.
        let in_full = |cause: &StatusCause| {
            let rule = rule(&cause.reason);
            rule.is_some_and(|rule| status.message.contains(&format!("- {}: ", rule.id)))
        };
        let causes = causes
            .filter(|cause| !in_full(cause))
            .filter(|cause| !status.message.contains(cause.message.as_str()))
            .map(|StatusCause { reason, message, .. }| format!("{reason}: {message}"));
        let failure = Self::refused(format!("refused to {asked}: {first}"))
            .with(lines.map(str::to_owned).chain(causes).map(Line::Command));
        failure.hint_to("every rule has a page", Command::kubectl(["pgscale", "rules", "RULE"]))
    }
}

/// Returns whether a dry run was not even tried, because a webhook has side effects in dry runs
/// too.
///
/// The API server has no other sign of it than these words (`NewDryRunUnsupportedErr`,
/// apiserver/pkg/admission/plugin/webhook/errors/statuserror.go).
pub(crate) fn is_dry_run_unsupported(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if takes_no_dry_runs(status))
}

fn takes_no_dry_runs(status: &Status) -> bool {
    status.code == 400 && status.message.ends_with("does not support dry run")
}

/// Returns whether the refusal comes from an admission webhook or policy, and not from missing
/// permissions.
fn denied_by_admission(status: &Status) -> bool {
    let message = status.message.as_str();
    (400..500).contains(&status.code)
        && !takes_no_dry_runs(status)
        && (message.contains("denied the request")
            || message.contains("denied request")
            || message.contains("admission webhook"))
        && !message.contains("failed calling webhook")
}

/// A missing permission, read from the API server's sentence.
///
/// `postgresqls.acid.zalan.do "a" is forbidden: User "u" cannot patch resource "postgresqls" in API
/// group "acid.zalan.do" in the namespace "db"`
/// (`k8s.io/apiserver/pkg/endpoints/handlers/responsewriters/errors.go`).
struct Permission {
    verb: String,
    resource: String,
    namespace: Option<String>,
}

impl Permission {
    fn of(message: &str) -> Option<Self> {
        let (_, rest) = message.split_once(" cannot ")?;
        let (verb, rest) = rest.split_once(" resource \"")?;
        let (resource, rest) = rest.split_once('"')?;
        let group = rest
            .split_once("in API group \"")
            .and_then(|(_, rest)| rest.split_once('"'))
            .map(|(group, _)| group)
            .filter(|group| !group.is_empty());
        let namespace = rest
            .split_once("in the namespace \"")
            .and_then(|(_, rest)| rest.split_once('"'))
            .map(|(namespace, _)| namespace.to_owned());
        let resource = match (group, resource.split_once('/')) {
            (Some(group), Some((resource, sub))) => format!("{resource}.{group}/{sub}"),
            (Some(group), None) => format!("{resource}.{group}"),
            (None, _) => resource.to_owned(),
        };
        Some(Self { verb: verb.to_owned(), resource, namespace })
    }

    fn phrase(&self) -> String {
        match &self.namespace {
            Some(namespace) => {
                format!("{} {} in namespace {namespace}", self.verb, self.resource)
            }
            None => format!("{} {} in all namespaces", self.verb, self.resource),
        }
    }

    fn command(&self) -> Command {
        // `pods/exec` would be the pod named exec.
        let (resource, below) = match self.resource.split_once('/') {
            Some((resource, below)) => (resource, Some(format!("--subresource={below}"))),
            None => (self.resource.as_str(), None),
        };
        let words = ["auth", "can-i", &self.verb, resource].into_iter().chain(below.as_deref());
        match &self.namespace {
            Some(namespace) => Command::kubectl(words.chain(["-n", namespace.as_str()])),
            None => Command::kubectl(words.chain(["-A"])),
        }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::error(format!("failed to write: {error}"))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "error: {}", self.text())?;
        for Line::Text(line) | Line::Command(line) in self.hint_lines("hint:") {
            write!(out, "\n{line}")?;
        }
        self.closing.iter().try_for_each(|outcome| write!(out, "\n{outcome}"))
    }
}

/// Returns an error and all its causes, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        // Several crates repeat their source's text in their own.
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}

/// Returns all causes of an error, without its own words.
fn causes(error: &kube::Error) -> String {
    error.source().map_or_else(|| error.to_string(), chain)
}

#[cfg(test)]
mod tests;
