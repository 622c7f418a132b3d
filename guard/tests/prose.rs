//! Tests of the texts that a person reads: they are in plain English, without some words of our old
//! dialect, and the paths that the documentation names exist (`CONTRIBUTING.md`, "How we write").

#![expect(clippy::unwrap_used, reason = "this crate is a test")]

use std::fs;
use std::path::{Path, PathBuf};

use pgscale_guard::rules::RULES;
use pgscale_guard::testing::prose::{avoided, prose};

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

/// Returns the chart's texts for the installer: its notes, and the comments of its values.
fn chart() -> [(String, String); 2] {
    let chart = root().join("charts/pgscale");
    let notes = fs::read_to_string(chart.join("templates/NOTES.txt")).unwrap();
    let values = fs::read_to_string(chart.join("values.yaml")).unwrap();
    let comments: Vec<&str> = values
        .lines()
        .map(|line| line.split_once('#').map_or("", |(_, comment)| comment))
        .collect();
    [("NOTES.txt".to_owned(), notes), ("values.yaml".to_owned(), comments.join("\n"))]
}

#[test]
fn pages_and_rules_are_in_plain_english() {
    let mut found = Vec::new();
    for (name, text) in pages().into_iter().chain(chart()) {
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
