//! The commands that a text shows, and the texts of the repository.

use std::fs;
use std::path::Path;

/// Returns the command lines that a text shows: lines that begin with kubectl, behind a prompt or not, and what stands
/// between backticks. The name of a program, or of one of its verbs, is no command.
pub(super) fn commands(text: &str) -> Vec<String> {
    let (mut found, mut fenced) = (Vec::new(), false);
    let mut paragraph = String::new();
    let text = text.replace("\\\n", " ");
    for line in text.lines().chain([""]) {
        let line = line.trim();
        if line.starts_with("```") {
            fenced = !fenced;
        } else if let Some(command) = shown(line) {
            found.push(command);
        } else if !fenced && !line.is_empty() {
            paragraph.push_str(line);
            paragraph.push(' ');
            continue;
        }
        // Code between backticks may go on in the next line, and ends with the paragraph.
        let code = std::mem::take(&mut paragraph);
        found.extend(code.split('`').skip(1).step_by(2).filter_map(shown));
    }
    found
}

/// Acts of other people with kubectl that a sentence names and no page suggests.
const ACTS: &[&str] =
    &["kubectl replace --force", "kubectl rollout restart", "kubectl scale statefulset"];

/// Returns the command with which `line` begins, without the comment behind it.
fn shown(line: &str) -> Option<String> {
    let line = line.trim().trim_start_matches("$ ");
    let line = match line.find("kubectl-pgscale ") {
        // In the completion of a shell.
        Some(at) => line[at..].split([')', '`']).next()?,
        None => line,
    };
    let command = line.split("   ").next()?.split(" #").next()?;
    let words = command.split_whitespace().collect::<Vec<_>>().join(" ");
    let begins = words.starts_with("kubectl ") || words.starts_with("kubectl-pgscale ");
    let named = words.split(' ').count() < 3 && !words.starts_with("kubectl pgscale ");
    (begins && !named && !ACTS.contains(&&*words)).then_some(words)
}

/// Returns the words of each program of the line; `None` where no shell reads it.
pub(super) fn programs(line: &str) -> Option<Vec<Vec<String>>> {
    let mut words = shlex::split(line)?;
    // What a program reads from a file, or writes to one, is no word of it.
    while let Some(at) = words.iter().position(|word| word == "<" || word == ">") {
        words.drain(at..(at + 2).min(words.len()));
    }
    Some(words.split(|word| word == "|").map(<[String]>::to_vec).collect())
}

/// Returns the pages of the repository, and the notes of the chart with each of their values called acid-a.
pub(super) fn documentation() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut found = Vec::new();
    for directory in [root.to_owned(), root.join("docs")] {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "md") {
                found.push((path.display().to_string(), fs::read_to_string(&path).unwrap()));
            }
        }
    }
    let notes = fs::read_to_string(root.join("charts/pgscale/templates/NOTES.txt")).unwrap();
    let mut plain = String::new();
    for (nth, part) in notes.split("{{").enumerate() {
        let text = if nth == 0 { part } else { part.split_once("}}").unwrap().1 };
        plain.push_str(if nth == 0 { "" } else { "acid-a" });
        plain.push_str(text);
    }
    found.push(("NOTES.txt".to_owned(), plain));
    found
}

#[test]
fn commands_of_a_text_are_found() {
    let text = "Before `kubectl pgscale\nwait NAME`, and `kubectl edit`, not `kubectl pgscale`.\n\n  $ kubectl get pods -n db\n\
        kubectl pgscale up acid-a      one more\n  source <(kubectl-pgscale completion bash)   # ~/.bashrc";
    assert_eq!(
        commands(text),
        [
            "kubectl pgscale wait NAME",
            "kubectl get pods -n db",
            "kubectl pgscale up acid-a",
            "kubectl-pgscale completion bash",
        ]
    );
}
