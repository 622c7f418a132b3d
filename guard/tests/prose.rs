//! Texts that a person reads are in plain English: some words of our old dialect are not used, and
//! paths that the documentation names exist (`CONTRIBUTING.md`, "How we write").

#![expect(clippy::unwrap_used, reason = "this crate is a test")]

use std::fs;
use std::path::{Path, PathBuf};

use pgscale_guard::rules::RULES;

/// Words and phrases that are not used, in lower case.
const AVOIDED: &[&str] = &[
    "whoever",
    "nobody",
    "somebody",
    "anew",
    "told",
    "heard",
    "shall",
    "of it",
    "by its own word",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Returns the name and the text of every page of the repository: those at the top and those in
/// `docs`.
fn pages() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for directory in [root(), root().join("docs")] {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "md") {
                let name = path.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
                found.push((name, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

/// Returns the text without what stands between backticks: commands, and the output of programs.
fn prose(markdown: &str) -> String {
    let (mut fenced, mut code) = (false, false);
    let mut kept = String::new();
    for line in markdown.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            // Code between backticks may go on in the next line, and ends with the paragraph.
            code &= !line.trim().is_empty();
            for (nth, part) in line.split('`').enumerate() {
                code ^= nth > 0;
                kept.push_str(if code { "`" } else { part });
            }
        }
        kept.push('\n');
    }
    kept
}

/// Returns a line for every avoided word in `text`, with the number of its line; a phrase is found
/// across a line break as well.
fn avoided(name: &str, text: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let parts = line.split(|char: char| !char.is_alphanumeric() && char != '\'');
        words.extend(parts.filter(|word| !word.is_empty()).map(|word| (number + 1, word)));
    }
    let mut found = Vec::new();
    for phrase in AVOIDED {
        let phrase: Vec<&str> = phrase.split(' ').collect();
        for window in words.windows(phrase.len()) {
            let same =
                window.iter().map(|(_, word)| word.to_lowercase()).eq(phrase.iter().copied());
            if let (true, Some((line, _))) = (same, window.first()) {
                found.push(format!("{name}, line {line}: {:?}", phrase.join(" ")));
            }
        }
    }
    found
}

#[test]
fn pages_and_rules_are_in_plain_english() {
    let mut found = Vec::new();
    for (name, text) in pages() {
        found.extend(avoided(&name, &prose(&text)));
    }
    for rule in RULES {
        let texts = [
            ("title", rule.title),
            ("page", rule.page),
            ("default", rule.default),
            ("applies", &rule.applies.to_string()),
        ];
        for (part, text) in texts {
            found.extend(avoided(&format!("{part} of rule {}", rule.id), &prose(text)));
        }
    }
    assert!(found.is_empty(), "say it in other words:\n{}", found.join("\n"));
}

#[test]
fn paths_that_pages_name_exist() {
    let mut missing = Vec::new();
    for (name, text) in pages() {
        // Every second part stands between backticks.
        for word in text.split('`').skip(1).step_by(2) {
            let word = word.trim_end_matches('/');
            let ours = ["guard", "plugin", "webhook", "tests", "charts", "docs", ".ci"];
            let (first, rest) = word.split_once('/').unwrap_or((word, ""));
            let literal = word.chars().all(|char| char.is_alphanumeric() || "/._-".contains(char));
            if !rest.is_empty() && literal && ours.contains(&first) && !root().join(word).exists() {
                missing.push(format!("{name}: {word}"));
            }
        }
    }
    assert!(missing.is_empty(), "there is no such file:\n{}", missing.join("\n"));
}

#[test]
fn avoided_words_are_found_and_others_are_not() {
    for (text, line) in [
        ("Nobody leads.", 1),
        ("a\nb told c", 2),
        ("what comes of\nit", 1),
        ("lock, label and (by its\nown word) SQL", 1),
        ("(shall)", 1),
        ("`a\nb` nobody", 2),
        ("a ` b\n\nnobody", 3),
    ] {
        let found = avoided("page", &prose(text));
        assert_eq!(found.len(), 1, "{text}: {found:?}");
        assert!(found.concat().starts_with(&format!("page, line {line}: ")), "{text}: {found:?}");
    }
    for text in ["of its own", "shallow", "untold", "of `it`", "`a\nnobody`", "```\nnobody\n```"] {
        assert_eq!(avoided("page", &prose(text)), Vec::<String>::new(), "{text}");
    }
}
