//! The table of rules in the README is generated from the rules.

use std::fmt::Write as _;
use std::fs;

use pgscale_guard::rules::RULES;

#[cfg(test)]
mod generated;

const BEGIN: &str = "<!-- rules -->\n";
const END: &str = "<!-- /rules -->\n";

#[test]
fn the_readme_lists_every_rule() {
    let readme = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md")).unwrap();
    let (before, rest) = readme.split_once(BEGIN).unwrap();
    let (_, after) = rest.split_once(END).unwrap();
    let mut table =
        "| rule | refuses or warns about | fires on | default |\n|---|---|---|---|\n".to_owned();
    for rule in RULES {
        writeln!(table, "| {} | {} | {} | {} |", rule.id, rule.title, rule.applies, rule.default)
            .unwrap();
    }
    let wanted = format!("{before}{BEGIN}{table}{END}{after}");
    generated::check("README.md", &wanted, |stored, wanted| stored == wanted);
}
