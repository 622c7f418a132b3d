//! Pages of the documentation that rest on the code, and what holds for all of them.

#![expect(clippy::unwrap_used, reason = "this crate is a test")]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use pgscale_guard::rules::RULES;

#[cfg(test)]
mod generated;
#[cfg(all(test, target_os = "linux"))]
mod release;

const BEGIN: &str = "<!-- rules -->\n";
const END: &str = "<!-- /rules -->\n";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

#[test]
fn the_page_of_rules_has_every_rule_under_its_anchor() {
    let stored = fs::read_to_string(root().join("docs/rules.md")).unwrap();
    let (before, _) = stored.split_once(BEGIN).unwrap();
    let mut rules =
        "| rule | refuses or warns about | fires on | default |\n|---|---|---|---|\n".to_owned();
    for rule in RULES {
        writeln!(
            rules,
            "| [{id}](#{id}) | {} | {} | {} |",
            rule.title,
            rule.applies,
            rule.default,
            id = rule.id
        )
        .unwrap();
    }
    for rule in RULES {
        writeln!(rules, "\n## {}\n\n{}", rule.id, rule.page).unwrap();
    }
    let wanted = format!("{before}{BEGIN}{rules}{END}");
    generated::check("docs/rules.md", &wanted, |stored, wanted| stored == wanted);
}

#[test]
fn the_readme_is_read_in_two_minutes() {
    let lines = fs::read_to_string(root().join("README.md")).unwrap().lines().count();
    assert!(lines <= 150, "README.md has {lines} lines: move details to docs/");
}

/// Returns the pages at the top, in `docs` and in `fuzz`.
fn pages() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for directory in ["", "docs", "docs/ko", "fuzz"] {
        for entry in fs::read_dir(root().join(directory)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "md") {
                found.push(path);
            }
        }
    }
    found
}

/// Returns the lines of a page outside of its code blocks.
fn text(page: &Path) -> String {
    let mut code = false;
    let stored = fs::read_to_string(page).unwrap();
    let lines = stored.lines().filter(|line| {
        let fence = line.trim_start().starts_with("```");
        code ^= fence;
        !fence && !code
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Returns the anchors of a page's headings, as GitHub makes them.
fn anchors(page: &Path) -> BTreeSet<String> {
    let headings = text(page);
    let headings = headings.lines().filter_map(|line| line.strip_prefix('#'));
    headings
        .map(|heading| {
            let heading = heading.trim_start_matches('#').trim().to_lowercase();
            let kept = heading.chars().filter(|c| c.is_alphanumeric() || "-_ ".contains(*c));
            kept.map(|c| if c == ' ' { '-' } else { c }).collect()
        })
        .collect()
}

#[test]
fn links_of_pages_lead_to_files_and_headings_that_exist() {
    let mut broken = Vec::new();
    for page in pages() {
        for link in text(&page).split("](").skip(1) {
            let link = link.split(')').next().unwrap();
            if link.contains("://") {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = match file {
                "" => page.clone(),
                file => page.parent().unwrap().join(file),
            };
            let led = target.exists()
                && (anchor.is_empty() || target.is_file() && anchors(&target).contains(anchor));
            if !led {
                let name = page.strip_prefix(root()).unwrap().display().to_string();
                broken.push(format!("{name}: {link}"));
            }
        }
    }
    assert!(broken.is_empty(), "these links lead nowhere:\n{}", broken.join("\n"));
}
