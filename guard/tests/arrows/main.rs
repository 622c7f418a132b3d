//! The arrows between our modules that must not exist: the table that `docs/architecture.md`
//! explains.
//!
//! An arrow that still exists and must disappear is listed as known, with its reason. A known arrow
//! that has disappeared fails the test as well, so that it does not come back unnoticed.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "this crate is a test")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

mod circles;
mod paths;
mod table;

use circles::Closing;
use table::RULES;

/// Modules that must not name other modules or crates.
struct Rule {
    /// The modules meant, with all below them. `guard::read` is the module `read` of the guard.
    from: &'static [&'static str],
    /// The modules and crates that they must not name, with all below them.
    to: &'static [&'static str],
    /// Modules below `from` that are exempt.
    except: &'static [&'static str],
    /// The damage that the arrow would do.
    why: &'static str,
    /// The forbidden arrows that still exist.
    known: &'static [Known],
}

/// One arrow that a rule forbids and that exists today.
struct Known {
    /// The module that holds the arrow.
    from: &'static str,
    /// The module or crate that it names, with all below it.
    to: &'static str,
    /// The reason for its existence, and the work that removes it.
    why: &'static str,
}

const fn known(from: &'static str, to: &'static str, why: &'static str) -> Known {
    Known { from, to, why }
}

/// The arrows that close a circle among the top-level modules of a crate today.
const CLOSING: &[Closing] = &[];

/// One source file.
struct Source {
    module: String,
    text: String,
}

/// The crates that the table is about.
const CRATES: [&str; 3] = ["guard", "plugin", "webhook"];

#[test]
fn no_forbidden_arrow_exists() {
    let sources = sources();
    let mut wrong = check(RULES, &sources);
    wrong.extend(renamed(RULES, &sources));
    assert!(wrong.is_empty(), "guard/tests/arrows/table.rs:\n{}", wrong.join("\n"));
}

#[test]
fn no_circle_exists() {
    let sources = sources();
    let check = |name| circles::check(&sources, name, CLOSING);
    let wrong: Vec<String> = CRATES.into_iter().flat_map(check).collect();
    assert!(wrong.is_empty(), "guard/tests/arrows/main.rs:\n{}", wrong.join("\n"));
}

/// Reads the sources of all crates.
fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut sources = Vec::new();
    for name in CRATES {
        collect(&root.join(name).join("src"), name, &mut sources);
    }
    sources
}

/// Reads the production files of a directory. Files that only tests compile are left out.
fn collect(directory: &Path, module: &str, sources: &mut Vec<Source>) {
    let mut files: Vec<_> = fs::read_dir(directory).unwrap().map(|it| it.unwrap().path()).collect();
    files.sort();
    for path in files.iter().filter(|path| path.extension().is_some_and(|it| it == "rs")) {
        let stem = path.file_stem().unwrap().to_str().unwrap();
        let top = matches!(stem, "lib" | "main");
        let module = if top { module.to_owned() } else { format!("{module}::{stem}") };
        sources.push(Source { module, text: fs::read_to_string(path).unwrap() });
    }
    for path in files.iter().filter(|path| path.is_dir()) {
        let name = path.file_name().unwrap().to_str().unwrap();
        collect(path, &format!("{module}::{name}"), sources);
    }
}

/// Returns a line for every forbidden arrow that is not known, and for every known one that has
/// disappeared.
fn check(rules: &[Rule], sources: &[Source]) -> Vec<String> {
    let tests = test_modules(sources);
    let within = |module: &str, any: &[&str]| any.iter().any(|it| below(module, it));
    let mut wrong = Vec::new();
    for rule in rules {
        let mut seen = BTreeSet::new();
        for source in sources {
            let from = source.module.as_str();
            let test = tests.iter().any(|test| below(from, test));
            if test || !within(from, rule.from) || within(from, rule.except) {
                continue;
            }
            for path in paths::paths(&source.text, from) {
                let path = path.replacen("pgscale_guard", "guard", 1);
                if !within(&path, rule.to) {
                    continue;
                }
                let is = |it: &&Known| it.from == from && below(&path, it.to);
                match rule.known.iter().position(|it| is(&it)) {
                    Some(known) => drop(seen.insert(known)),
                    None => wrong.push(format!("{from} must not name {path}: {}", rule.why)),
                }
            }
        }
        for (at, Known { from, to, why }) in rule.known.iter().enumerate() {
            if !seen.contains(&at) {
                wrong.push(format!("{from} names {to} no more ({why}): take it off the table"));
            }
        }
    }
    wrong
}

/// Returns the modules that only tests compile.
fn test_modules(sources: &[Source]) -> Vec<String> {
    let names = |source: &Source| {
        let names = paths::test_modules(&source.text).into_iter();
        names.map(|name| format!("{}::{name}", source.module)).collect::<Vec<_>>()
    };
    sources.iter().flat_map(names).collect()
}

/// Returns a line for every module of ours on the table that does not exist: its rule would forbid
/// nothing.
fn renamed(rules: &[Rule], sources: &[Source]) -> BTreeSet<String> {
    let ours = |name: &&&str| ["guard", "plugin", "webhook"].iter().any(|it| below(name, it));
    let names = rules.iter().flat_map(|rule| rule.from.iter().chain(rule.to).chain(rule.except));
    let exists = |name: &str| sources.iter().any(|source| below(&source.module, name));
    names
        .filter(ours)
        .filter(|name| !exists(name))
        .map(|name| format!("there is no module {name}: put its new name on the table"))
        .collect()
}

/// Returns whether `path` is `module` or something in it.
fn below(path: &str, module: &str) -> bool {
    path.strip_prefix(module).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

#[cfg(test)]
mod tests {
    use super::{Known, Rule, Source, check, known, paths, renamed};

    const KNOWN: &[Known] = &[known("guard::facts::health", "guard::policy", "to go")];

    fn rule(known: &'static [Known]) -> [Rule; 1] {
        let (from, to) = (&["guard::facts"], &["guard::policy", "tokio"]);
        [Rule { from, to, except: &["guard::facts::read"], why: "facts are data", known }]
    }

    fn wrong(module: &str, text: &str, known: &'static [Known]) -> Vec<String> {
        check(&rule(known), &[Source { module: module.into(), text: text.into() }])
    }

    #[test]
    fn an_added_import_is_found_however_it_is_spelled() {
        for text in [
            "use crate::policy::Policies;",
            "use crate::policy;",
            "use crate::{change::Change, policy::{self, Limit}};",
            "pub use crate::policy::*;",
            "use super::super::policy::Policies as P;",
            "use crate as it; fn f(_: it::policy::Limit) {}",
            "fn f() -> crate::policy::Limit { panic!() }",
            "fn f() { match 1 { _ => crate::policy::limit::<u8>() } }",
            "const A: char = '\"'; use crate::policy::Limit; const B: char = '\"';",
            "fn f() { tokio::spawn(async {}); }",
            "use tokio;",
            "#[cfg(test)]\nmod tests;\nuse crate::policy::Policies;",
            "#[cfg(test)]\nuse a::{\n    b,\n};\nuse crate::policy::Policies;",
        ] {
            assert!(!wrong("guard::facts::health", text, &[]).is_empty(), "{text}");
        }
    }

    #[test]
    fn text_that_is_no_arrow_is_ignored() {
        for text in [
            "use crate::change::Change;",
            "use crate::policymaker::Policies;",
            "/// See [`crate::policy::Policies`].\nstruct A;",
            "/* use crate::policy::Policies; */",
            "const A: &str = \"use crate::policy::Policies;\";",
            "const A: &str = r#\"a \" use crate::policy::Policies;\"#;",
            "fn f<'a>(facts: &'a Facts) { facts.policy::<u8>() }",
            "#[cfg(test)]\nmod tests {\n    use crate::policy::Policies;\n}\n",
            "#[cfg(test)]\nuse crate::policy::Policies;\n",
        ] {
            assert_eq!(wrong("guard::facts::health", text, &[]), Vec::<String>::new(), "{text}");
        }
        let text = "use crate::policy::Policies;";
        for module in ["guard::factsheet", "guard::facts::read::rest", "guard::rules"] {
            assert_eq!(wrong(module, text, &[]), Vec::<String>::new(), "{module}");
        }
    }

    #[test]
    fn a_module_for_tests_may_name_everything() {
        let source = |module: &str, text: &str| Source { module: module.into(), text: text.into() };
        let declared = "#[cfg(test)]\n#[path = \"x.rs\"]\npub(crate) mod testing;\nmod health;";
        let sources = [
            source("guard::facts", declared),
            source("guard::facts::testing::deep", "use crate::policy::Policies;"),
        ];
        assert_eq!(check(&rule(&[]), &sources), Vec::<String>::new());
        assert_eq!(paths::test_modules(declared), ["testing"]);
    }

    #[test]
    fn a_known_arrow_passes_until_it_is_gone() {
        let there = wrong("guard::facts::health", "use crate::policy::Policies;", KNOWN);
        assert_eq!(there, Vec::<String>::new());
        let elsewhere = wrong("guard::facts::count", "use crate::policy::Policies;", KNOWN);
        assert_eq!(elsewhere.len(), 2, "one is new and one is gone: {elsewhere:?}");
        let gone = wrong("guard::facts::health", "use crate::change::Change;", KNOWN);
        let wanted =
            "guard::facts::health names guard::policy no more (to go): take it off the table";
        assert_eq!(gone, [wanted]);
    }

    #[test]
    fn a_renamed_module_does_not_empty_its_rule() {
        let sources = [Source { module: "guard::facts::read".into(), text: String::new() }];
        let wanted = "there is no module guard::policy: put its new name on the table";
        assert!(renamed(&rule(&[]), &sources).iter().eq([wanted]));
    }
}
