//! The names in `docs/cases.md` and `docs/incidents.md` exist in the sources: tests, end-to-end
//! tests, rules and the rows of their tables.

#![expect(clippy::unwrap_used, reason = "this crate is a test")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use pgscale_guard::rules::rule;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Returns the text of every source file below these directories.
fn sources(directories: &[&str]) -> String {
    let mut open: Vec<PathBuf> = directories.iter().map(|it| root().join(it)).collect();
    let mut text = String::new();
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text.push_str(&fs::read_to_string(&path).unwrap());
        }
    }
    text
}

/// Returns the cells of each case: its number, and the others.
fn cases() -> Vec<(String, Vec<String>)> {
    let page = fs::read_to_string(root().join("docs/cases.md")).unwrap();
    let numbered = |cells: &[String]| {
        let first = cells.first().map_or("", String::as_str);
        let digits = first.trim_start_matches(|letter: char| letter.is_ascii_uppercase());
        first.len() == digits.len() + 1 && digits.parse::<u32>().is_ok()
    };
    page.lines()
        .filter_map(|line| line.strip_prefix("| "))
        .map(|line| line.trim_end_matches(" |").split(" | ").map(str::to_owned).collect())
        .filter(|cells: &Vec<String>| numbered(cells))
        .map(|mut cells| (cells.remove(0), cells))
        .collect()
}

/// Returns what stands between two of these marks.
fn between(text: &str, mark: char) -> Vec<&str> {
    text.split(mark).skip(1).step_by(2).collect()
}

/// Returns whether `sources` hold the test `name`, a function or a case of the end-to-end tests.
fn is_test(sources: &str, name: &str) -> bool {
    if name.contains("::") {
        return sources.contains(&format!("\"{name}\""));
    }
    ["(", "<"].iter().any(|end| sources.contains(&format!("fn {name}{end}")))
}

#[test]
fn every_incident_has_tests_that_are_in_the_sources() {
    let all = sources(&["guard/src", "plugin/src", "webhook/src", "tests"]);
    let page = fs::read_to_string(root().join("docs/incidents.md")).unwrap();
    let (_, table) = page.split_once("|---|").unwrap();
    let mut wrong = Vec::new();
    for row in table.lines().filter_map(|line| line.strip_prefix("| ")) {
        let tests = between(row.rsplit(" | ").next().unwrap(), '`');
        if tests.is_empty() {
            wrong.push(format!("no test: {row}"));
        }
        let missing = tests.into_iter().filter(|name| !is_test(&all, name));
        wrong.extend(missing.map(|name| format!("no test {name}")));
    }
    assert!(wrong.is_empty(), "docs/incidents.md:\n{}", wrong.join("\n"));
}

#[test]
fn every_name_of_a_case_is_in_the_sources() {
    let all = sources(&["guard/src", "plugin/src", "webhook/src", "tests"]);
    // Where a literal is too long for its line, it goes on in the next.
    let rows = sources(&["guard/src/rules"]).replace("\\\n", "");
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let rows = words(&rows);
    let mut wrong = Vec::new();
    for (case, cells) in cases() {
        let [_, tests, _, _] = cells.as_slice() else {
            wrong.push(format!("{case}: {} cells", cells.len()));
            continue;
        };
        for name in between(tests, '`') {
            if !(is_test(&all, name) || rule(name).is_some()) {
                wrong.push(format!("{case}: no test and no rule {name}"));
            }
        }
        for row in between(tests, '"') {
            if !rows.contains(&format!("\"{row}\"")) {
                wrong.push(format!("{case}: no row {row:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "docs/cases.md:\n{}", wrong.join("\n"));
}

#[test]
fn every_case_has_a_test_or_says_where_it_is_held() {
    let found = cases();
    for (case, cells) in &found {
        let tests = cells.get(1).map_or("", String::as_str);
        assert!(tests.contains('`') || tests.contains('"') || tests.contains("]("), "{case}");
        assert!(cells.iter().all(|cell| !cell.trim().is_empty()), "{case}: an empty cell");
    }
    let names: BTreeSet<&str> = found.iter().map(|(case, _)| case.as_str()).collect();
    assert_eq!(names.len(), found.len(), "a case is there twice");
    let numbered = |letter: &str, last: u32| -> Vec<String> {
        (1..=last).map(|number| format!("{letter}{number}")).collect()
    };
    let wanted = [numbered("A", 22), numbered("B", 8), numbered("D", 12), numbered("S", 23)];
    for case in wanted.concat() {
        assert!(names.contains(case.as_str()), "{case} is missing");
    }
}

#[test]
fn names_that_do_not_exist_are_seen() {
    assert_eq!(between("`a_b` \"x\" `c`", '`'), ["a_b", "c"]);
    assert_eq!(between("`a` \"to zero\", \"x\"", '"'), ["to zero", "x"]);
    assert!(rule("no-such-rule").is_none());
    assert!(!cases().is_empty());
}
