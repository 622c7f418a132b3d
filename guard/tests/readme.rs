//! The table of rules in the README is generated: this test compares, and names the command that rewrites.

use std::fmt::Write as _;
use std::{env, fs};

use pgscale_guard::rules::RULES;

const BEGIN: &str = "<!-- rules -->\n";
const END: &str = "<!-- /rules -->\n";

#[test]
fn the_readme_lists_every_rule() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md");
    let readme = fs::read_to_string(path).unwrap();
    let (before, rest) = readme.split_once(BEGIN).unwrap();
    let (_, after) = rest.split_once(END).unwrap();
    let mut table =
        "| rule | refuses or warns about | fires on | default |\n|---|---|---|---|\n".to_owned();
    for rule in RULES {
        writeln!(table, "| {} | {} | {} | {} |", rule.id, rule.title, rule.fires_on, rule.default)
            .unwrap();
    }
    let wanted = format!("{before}{BEGIN}{table}{END}{after}");
    if env::var_os("UPDATE_README").is_some() {
        fs::write(path, &wanted).unwrap();
    }
    assert!(
        readme == wanted,
        "README.md lists other rules than there are; write them anew:\n\
         UPDATE_README=1 cargo test -p pgscale-guard --test readme"
    );
}
