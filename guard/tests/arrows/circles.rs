//! Circles among the top-level modules of a crate.

use std::collections::{BTreeMap, BTreeSet};

use super::{Source, below, only_for_tests, paths};

/// Returns the shortest circle through each module that is in one, beginning with the first module by name; a module
/// of a circle that was returned begins no other.
pub(crate) fn circles(name: &str, sources: &[Source]) -> Vec<Vec<String>> {
    let arrows = arrows(name, sources);
    let mut found: Vec<Vec<String>> = Vec::new();
    for module in arrows.keys() {
        if found.iter().flatten().any(|known| known == module) {
            continue;
        }
        found.extend(back_to(module, &arrows));
    }
    found
}

/// Returns the shortest way from `start` along the arrows back to it.
fn back_to(start: &str, arrows: &BTreeMap<String, BTreeSet<String>>) -> Option<Vec<String>> {
    let mut ways = vec![vec![start.to_owned()]];
    let mut seen = BTreeSet::new();
    while !ways.is_empty() {
        let mut longer = Vec::new();
        for way in &ways {
            for next in arrows.get(way.last()?).into_iter().flatten() {
                let on = [way.as_slice(), std::slice::from_ref(next)].concat();
                if next == start {
                    return Some(on);
                }
                if seen.insert(next.clone()) {
                    longer.push(on);
                }
            }
        }
        ways = longer;
    }
    None
}

/// Returns the top-level modules of the crate that each of them names. What the root of the crate exports again counts
/// as an arrow to the module that it is from.
fn arrows(name: &str, sources: &[Source]) -> BTreeMap<String, BTreeSet<String>> {
    let tests = only_for_tests(sources);
    let roots: BTreeSet<&str> =
        sources.iter().filter_map(|source| top(&source.module, name)).collect();
    let root = sources.iter().filter(|source| source.module == name);
    let exported: BTreeMap<String, String> = root
        .flat_map(|source| paths::paths(&source.text, name))
        .filter_map(|path| {
            let (module, _) = path.split_once("::")?;
            let last = path.rsplit("::").next()?;
            Some((last.to_owned(), module.to_owned()))
        })
        .filter(|(_, module)| roots.contains(module.as_str()))
        .collect();
    let mut arrows: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for source in sources {
        let Some(from) = top(&source.module, name) else { continue };
        if tests.iter().any(|test| below(&source.module, test)) {
            continue;
        }
        for path in paths::paths(&source.text, &source.module) {
            let Some(to) = top(&path, name) else { continue };
            let to =
                if roots.contains(to) { Some(to) } else { exported.get(to).map(String::as_str) };
            if let Some(to) = to.filter(|to| *to != from) {
                arrows.entry(from.to_owned()).or_default().insert(to.to_owned());
            }
        }
    }
    arrows
}

/// Returns the top-level module of the crate that `path` is in.
fn top<'a>(path: &'a str, name: &str) -> Option<&'a str> {
    path.strip_prefix(name)?.strip_prefix("::")?.split("::").next()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(sources: &[(&str, &str)]) -> Vec<String> {
        let source = |(module, text): &(&str, &str)| Source {
            module: (*module).into(),
            text: (*text).into(),
        };
        let sources: Vec<Source> = sources.iter().map(source).collect();
        circles("guard", &sources).into_iter().map(|circle| circle.join(" -> ")).collect()
    }

    #[test]
    fn a_circle_is_found_through_every_module_and_through_the_root() {
        let facts = ("guard::facts::deep", "use crate::policy::Limit;");
        for policy in ["use crate::facts::Facts;", "use crate::Facts;", "use crate::facts;"] {
            let sources = [
                ("guard", "pub mod facts;\npub use facts::Facts;"),
                facts,
                ("guard::policy", policy),
            ];
            assert_eq!(found(&sources), ["facts -> policy -> facts"], "{policy}");
        }
        let long = [
            ("guard::a", "use crate::b::B;"),
            ("guard::b", "use crate::c::C;"),
            ("guard::c::inner", "use crate::a::A;"),
            ("guard::d", "use crate::a::A;"),
        ];
        assert_eq!(found(&long), ["a -> b -> c -> a"]);
    }

    #[test]
    fn tests_and_a_module_that_names_itself_make_no_circle() {
        let sources = [
            ("guard::facts", "use crate::policy::Limit;\nuse crate::facts::Seen;"),
            ("guard::policy", "#[cfg(test)]\nmod tests;\n#[cfg(test)]\nuse crate::facts::Facts;"),
            ("guard::policy::tests", "use crate::facts::Facts;"),
        ];
        assert_eq!(found(&sources), [""; 0]);
    }
}
