//! The remedy of a finding: commands as data, and a note for everything else.

use std::fmt;

use serde::Serialize;

/// A command line: the words of one program, or of several that pipe into each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Command {
    /// The words of the program, as the program gets them.
    pub argv: Vec<String>,
    /// The words of the programs that read its output, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub piped_into: Vec<Vec<String>>,
    /// The number of instances that it asks for, where it asks for one.
    #[serde(skip)]
    count: Option<i64>,
}

impl Command {
    /// Returns a program with these words, such as helm.
    pub fn program<W: AsRef<str>>(words: impl IntoIterator<Item = W>) -> Self {
        let argv = words.into_iter().map(|word| word.as_ref().to_owned()).collect();
        Self { argv, piped_into: Vec::new(), count: None }
    }

    /// Returns `kubectl` with these words.
    pub fn kubectl<W: AsRef<str>>(words: impl IntoIterator<Item = W>) -> Self {
        let argv = std::iter::once("kubectl".to_owned())
            .chain(words.into_iter().map(|word| word.as_ref().to_owned()))
            .collect();
        Self { argv, piped_into: Vec::new(), count: None }
    }

    /// Records that the command asks for `count` instances.
    #[must_use]
    pub(crate) fn asking_for(self, count: i64) -> Self {
        Self { count: Some(count), ..self }
    }

    /// Returns the number of instances that the command asks for. `None` where it asks for none.
    pub fn count(&self) -> Option<i64> {
        self.count
    }

    /// Adds a program that reads the output of those before.
    #[must_use]
    pub fn piped_into<W: AsRef<str>>(mut self, words: impl IntoIterator<Item = W>) -> Self {
        self.piped_into.push(words.into_iter().map(|word| word.as_ref().to_owned()).collect());
        self
    }

    /// Adds the flags by which a caller reached its API server to every kubectl of the line.
    ///
    /// They stand before the words that run inside a pod.
    #[must_use]
    pub fn reached_by(mut self, reach: &Reach) -> Self {
        for argv in std::iter::once(&mut self.argv).chain(&mut self.piped_into) {
            if argv.first().is_some_and(|program| program == "helm") {
                argv.extend(reach.kubectl.iter().filter_map(|flag| helms(flag)));
                continue;
            }
            let mut words = argv.iter().filter(|word| *word != "xargs");
            if words.next().is_none_or(|program| program != "kubectl") {
                continue;
            }
            let ours = words.next().is_some_and(|plugin| plugin == "pgscale");
            let more: &[String] = if ours { &reach.pgscale } else { &[] };
            let end = argv.iter().position(|word| word == "--").unwrap_or(argv.len());
            argv.splice(end..end, reach.kubectl.iter().chain(more).cloned());
        }
        self
    }
}

/// Returns a flag of kubectl as helm spells it (`pkg/cli/environment.go` of helm). `None` where it
/// has no meaning for helm.
///
/// A flag that leads to another cluster or user, and that helm does not have, is left as it is:
/// helm then refuses to run, and does not act on the cluster of the current context.
fn helms(flag: &str) -> Option<String> {
    let (name, value) = flag.split_once('=')?;
    let spelled = match name {
        "--kubeconfig" => "--kubeconfig",
        "--context" => "--kube-context",
        "--as" => "--kube-as-user",
        "--as-group" => "--kube-as-group",
        "--server" => "--kube-apiserver",
        "--token" => "--kube-token",
        "--certificate-authority" => "--kube-ca-file",
        "--tls-server-name" => "--kube-tls-server-name",
        "--insecure-skip-tls-verify" => "--kube-insecure-skip-tls-verify",
        "--as-uid" | "--client-certificate" | "--client-key" | "--cluster" | "--user" => name,
        _ => return None,
    };
    Some(format!("{spelled}={value}"))
}

impl fmt::Display for Command {
    /// Writes the line for a POSIX shell.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = std::iter::once(&self.argv)
            .chain(&self.piped_into)
            .map(|argv| argv.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" "))
            .collect();
        out.write_str(&lines.join(" | "))
    }
}

/// Returns `word` quoted for a POSIX shell, and as it is where it holds no special character.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:,@%+=".contains(c);
    // At the beginning zsh reads `=word` as the path of a program.
    if !word.is_empty() && word.chars().all(plain) && !word.starts_with('=') {
        return word.to_owned();
    }
    // `--context='my cluster'` reads better than quotes around all of it.
    match word.split_once('=') {
        Some((flag, value)) if !flag.is_empty() && flag.chars().all(plain) => {
            format!("{flag}={}", quoted(value))
        }
        _ => format!("'{}'", word.replace('\'', "'\\''")),
    }
}

/// The flags by which a caller reached its API server, as the same user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// Flags that kubectl knows.
    pub kubectl: Vec<String>,
    /// Flags that only `kubectl pgscale` knows.
    pub pgscale: Vec<String>,
}

/// Returns flags as they stand behind a command: each after a space.
pub fn spelled<'a>(flags: impl IntoIterator<Item = &'a String>) -> String {
    let words: Vec<String> = flags.into_iter().map(|flag| quoted(flag)).collect();
    if words.is_empty() { String::new() } else { format!(" {}", words.join(" ")) }
}

/// A suggested command, with its reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct Suggested {
    /// Its purpose, where the finding does not say it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// The command.
    #[serde(flatten)]
    pub command: Command,
}

/// The remedy of a finding.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct Remedy {
    /// Advice that no command expresses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Commands, the most useful one first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub commands: Vec<Suggested>,
}

/// A line of a remedy for people. Only text may be broken at the width of a screen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// A command, alone on its line.
    Command(String),
    /// A sentence.
    Text(String),
}

impl Remedy {
    /// Suggests `command`. The finding itself is the reason.
    pub fn run(command: Command) -> Self {
        Self::default().or(command)
    }

    /// Suggests `command` for the reason `why`.
    pub fn to(why: impl Into<String>, command: Command) -> Self {
        Self::default().or_to(why, command)
    }

    /// Puts `note` before the commands.
    pub fn note(note: impl Into<String>) -> Self {
        Self { note: Some(note.into()), commands: Vec::new() }
    }

    /// Suggests `command` as well.
    #[must_use]
    pub fn or(mut self, command: Command) -> Self {
        self.commands.push(Suggested { why: None, command });
        self
    }

    /// Suggests `command` as well, for the reason `why`.
    #[must_use]
    pub fn or_to(mut self, why: impl Into<String>, command: Command) -> Self {
        self.commands.push(Suggested { why: Some(why.into()), command });
        self
    }

    /// Suggests everything that `other` suggests as well.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        let Self { note, mut commands } = other;
        match (note, commands.first_mut()) {
            (Some(note), Some(first)) => {
                let why = first.why.as_ref().map(|why| format!("{note}; {why}"));
                first.why = Some(why.unwrap_or(note));
            }
            (Some(note), None) => {
                self.note = Some(self.note.map_or(note.clone(), |own| format!("{own}; {note}")));
            }
            (None, _) => {}
        }
        self.commands.append(&mut commands);
        self
    }

    /// Adds the flags by which a caller reached its API server to every command.
    #[must_use]
    pub fn reached_by(mut self, reach: &Reach) -> Self {
        for suggested in &mut self.commands {
            suggested.command = suggested.command.clone().reached_by(reach);
        }
        self
    }

    /// Returns the remedy line by line.
    pub fn lines(&self) -> Vec<Line> {
        let mut lines: Vec<Line> = self.note.iter().cloned().map(Line::Text).collect();
        for Suggested { why, command } in &self.commands {
            lines.extend(why.iter().map(|why| Line::Text(format!("{why}:"))));
            lines.push(Line::Command(command.to_string()));
        }
        lines
    }
}

impl Remedy {
    /// Returns the remedy line by line behind `title`.
    ///
    /// Sentences are indented by two more than the title, commands by four, each alone on its line.
    pub fn behind(&self, title: &str) -> Vec<Line> {
        let indent = title.chars().take_while(|character| *character == ' ').count();
        let mut lines = Vec::new();
        for line in self.lines() {
            match line {
                Line::Text(text) if lines.is_empty() => {
                    lines.push(Line::Text(format!("{title} {text}")));
                }
                Line::Text(text) => lines.push(Line::Text(format!("{:indent$}  {text}", ""))),
                Line::Command(command) => {
                    if lines.is_empty() {
                        lines.push(Line::Text(title.to_owned()));
                    }
                    lines.push(Line::Command(format!("{:indent$}    {command}", "")));
                }
            }
        }
        lines
    }
}

impl fmt::Display for Remedy {
    /// Writes one line after the other, with commands indented by two.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, line) in self.lines().into_iter().enumerate() {
            let begins = if index == 0 { "" } else { "\n" };
            match line {
                Line::Text(text) => write!(out, "{begins}{text}")?,
                Line::Command(command) => write!(out, "{begins}  {command}")?,
            }
        }
        Ok(())
    }
}

impl From<Command> for Remedy {
    fn from(command: Command) -> Self {
        Self::run(command)
    }
}

impl From<&str> for Remedy {
    fn from(note: &str) -> Self {
        Self::note(note)
    }
}

impl From<String> for Remedy {
    fn from(note: String) -> Self {
        Self::note(note)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shell_reads_back_the_same_words() {
        for words in [
            vec!["pgscale", "set", "acid-a", "3", "-n", "db"],
            vec!["patch", "pv", "-p", r#"{"spec":{"a":"b"}}"#],
            vec!["exec", "acid-a-0", "--", "sh", "-c", "it's $HOME; `id`", ""],
        ] {
            let command = Command::kubectl(&words);
            assert_eq!(shlex::split(&command.to_string()).unwrap(), command.argv, "{words:?}");
        }
        let elsewhere = Reach { kubectl: vec!["--cluster=prod".to_owned()], pgscale: Vec::new() };
        let refused = Command::program(["helm", "uninstall", "pgscale"]).reached_by(&elsewhere);
        assert_eq!(refused.to_string(), "helm uninstall pgscale --cluster=prod");
        let piped = Command::kubectl(["get", "pv"]).piped_into(["sed", "s/a b/c/"]);
        assert_eq!(piped.to_string(), "kubectl get pv | sed 's/a b/c/'");
    }

    #[test]
    fn flags_of_the_caller_reach_every_kubectl_and_no_program_in_a_pod() {
        let reach = Reach {
            kubectl: vec!["--context=my cluster".to_owned()],
            pgscale: vec!["--operator=a/b".to_owned()],
        };
        let exec = Command::kubectl(["exec", "acid-a-0", "--", "patronictl", "list"]);
        assert_eq!(
            exec.reached_by(&reach).to_string(),
            "kubectl exec acid-a-0 --context='my cluster' -- patronictl list"
        );
        let ours = Command::kubectl(["pgscale", "status", "acid-a"]).reached_by(&reach);
        assert_eq!(
            ours.to_string(),
            "kubectl pgscale status acid-a --context='my cluster' --operator=a/b"
        );
        let helm = Command::program(["helm", "get", "manifest", "pgscale", "-n", "ops"]);
        assert_eq!(
            helm.piped_into(["kubectl", "apply", "-f", "-"]).reached_by(&reach).to_string(),
            "helm get manifest pgscale -n ops --kube-context='my cluster' | kubectl apply -f - --context='my cluster'"
        );
        let piped = Command::kubectl(["get", "pv"]).piped_into(["xargs", "kubectl", "patch"]);
        let piped = piped.piped_into(["kubectl", "create", "-f", "-"]).reached_by(&reach);
        assert_eq!(
            piped.to_string(),
            "kubectl get pv --context='my cluster' | xargs kubectl patch --context='my cluster' | kubectl create -f - --context='my cluster'"
        );
    }

    #[test]
    fn command_stands_alone_on_its_line() {
        let command = || Command::kubectl(["get", "pods"]);
        let remedy = Remedy::note("wait").or(command()).or_to("to see why", command());
        let text = |text: &str| Line::Text(text.to_owned());
        let line = || Line::Command("kubectl get pods".to_owned());
        assert_eq!(remedy.lines(), [text("wait"), line(), text("to see why:"), line()]);
    }
}
