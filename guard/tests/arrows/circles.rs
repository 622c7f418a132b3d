//! Circles among the top-level modules of a crate: modules that cannot be read, changed or moved
//! one without the other.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{Source, below, paths};

/// One arrow that closes a circle and that exists today.
pub(crate) struct Closing {
    /// The top-level module where it begins, such as `guard::facts`.
    pub(crate) from: &'static str,
    /// The top-level module that it names.
    pub(crate) to: &'static str,
    /// The reason for its existence, and the work that removes it.
    pub(crate) why: &'static str,
}

/// The arrows between top-level modules, by where they begin.
type Arrows = BTreeMap<String, BTreeSet<String>>;

/// Returns the circles among the top-level modules of the crate `name`, each as the modules that it
/// goes through: of all circles through one arrow a shortest, and each once.
///
/// The root of the crate counts as a module where others name an item of its own. Modules that only
/// tests compile are left out, and so are tests within modules.
pub(crate) fn circles(sources: &[Source], name: &str) -> Vec<Vec<String>> {
    through(&arrows(sources, name))
}

/// Returns a line for every circle that no `known` arrow closes, and for every known arrow that
/// closes none.
pub(crate) fn check(sources: &[Source], name: &str, known: &[Closing]) -> Vec<String> {
    let known = || known.iter().filter(|it| below(it.from, name));
    let mut arrows = arrows(sources, name);
    let closing: BTreeSet<(String, String)> = through(&arrows)
        .iter()
        .flat_map(|circle| {
            let next = circle.iter().cycle().skip(1);
            circle.iter().cloned().zip(next.cloned()).collect::<Vec<_>>()
        })
        .collect();
    let mut wrong = Vec::new();
    for Closing { from, to, why } in known() {
        if !closing.contains(&((*from).to_owned(), (*to).to_owned())) {
            wrong.push(format!("{from} -> {to} closes no circle ({why}): take it off the table"));
        }
        arrows.get_mut(*from).map(|it| it.remove(*to));
    }
    let line = |circle: Vec<String>| format!("{} -> {}", circle.join(" -> "), circle[0]);
    wrong.extend(through(&arrows).into_iter().map(line).map(|it| format!("a circle: {it}")));
    wrong
}

/// Returns the arrows between the top-level modules of the crate `name`.
fn arrows(sources: &[Source], name: &str) -> Arrows {
    let tests = super::test_modules(sources);
    let sources = sources
        .iter()
        .filter(|source| below(&source.module, name))
        .filter(|source| !tests.iter().any(|test| below(&source.module, test)));
    let named: Vec<(&str, BTreeSet<String>)> = sources
        .map(|source| (source.module.as_str(), paths::paths(&source.text, &source.module)))
        .collect();
    let modules: BTreeSet<String> = named.iter().map(|(module, _)| top(module)).collect();
    // In the root a module is named without `crate`.
    let in_root = |path: &String| {
        let long = format!("{name}::{path}");
        if modules.contains(&top(&long)) { long } else { path.clone() }
    };
    let named: Vec<(&str, BTreeSet<String>)> = named
        .into_iter()
        .map(|(module, paths)| {
            let root = module == name;
            (module, if root { paths.iter().map(in_root).collect() } else { paths })
        })
        .collect();
    // The items that the root passes on, by the name that they have there.
    let passed_on: BTreeMap<&str, String> = named
        .iter()
        .filter(|(module, _)| *module == name)
        .flat_map(|(_, paths)| paths)
        .filter_map(|path| Some((path.rsplit("::").next()?, top(path))))
        .filter(|(_, module)| module != name && modules.contains(module))
        .collect();
    let mut arrows = Arrows::new();
    for (from, paths) in &named {
        for path in paths.iter().filter(|path| below(path, name)) {
            let module = top(path);
            let item = module.rsplit("::").next().unwrap_or_default();
            let to = match passed_on.get(item) {
                _ if modules.contains(&module) => module.clone(),
                Some(passed_on) => passed_on.clone(),
                None => name.to_owned(),
            };
            if to != top(from) {
                arrows.entry(top(from)).or_default().insert(to);
            }
        }
    }
    arrows
}

/// Returns the top-level module of a path: crate and module.
fn top(path: &str) -> String {
    path.splitn(3, "::").take(2).collect::<Vec<_>>().join("::")
}

/// Returns a shortest circle through each arrow, each circle once.
fn through(arrows: &Arrows) -> Vec<Vec<String>> {
    let all = arrows.iter().flat_map(|(from, to)| to.iter().map(move |to| (from, to)));
    let found: BTreeSet<Vec<String>> = all
        .filter_map(|(from, to)| way(arrows, to, from))
        .map(|mut circle| {
            let first = circle.iter().enumerate().min_by_key(|(_, module)| *module);
            let first = first.map_or(0, |(at, _)| at);
            circle.rotate_left(first);
            circle
        })
        .collect();
    found.into_iter().collect()
}

/// Returns the modules on a shortest way along the arrows, both ends included.
fn way(arrows: &Arrows, from: &str, to: &str) -> Option<Vec<String>> {
    let mut before: BTreeMap<&str, &str> = BTreeMap::new();
    let mut next = VecDeque::from([from]);
    while let Some(module) = next.pop_front() {
        if module == to {
            let back = std::iter::successors(Some(module), |it| before.get(it).copied());
            let mut way: Vec<String> = back.map(str::to_owned).collect();
            way.reverse();
            return Some(way);
        }
        for seen in arrows.get(module).into_iter().flatten() {
            if seen != from && !before.contains_key(seen.as_str()) {
                before.insert(seen, module);
                next.push_back(seen);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::{Closing, Source, check, circles};

    fn sources(texts: &[(&str, &str)]) -> Vec<Source> {
        let source = |(module, text): &(&str, &str)| Source {
            module: (*module).into(),
            text: (*text).into(),
        };
        texts.iter().map(source).collect()
    }

    /// Each circle as the last segments of its modules.
    fn found(texts: &[(&str, &str)]) -> Vec<String> {
        let short = |circle: Vec<String>| {
            let names = circle.iter().map(|it| it.rsplit("::").next().unwrap().to_owned());
            names.collect::<Vec<_>>().join(" ")
        };
        circles(&sources(texts), "guard").into_iter().map(short).collect()
    }

    #[test]
    fn circles_are_found_however_long() {
        let two = [("guard::a", "use crate::b::B;"), ("guard::b", "use crate::a::A;")];
        assert_eq!(found(&two), ["a b"]);
        let three = [
            ("guard::c::deep", "fn f() { crate::a::f() }"),
            ("guard::a", "use crate::{b, d};"),
            ("guard::b", "use super::c::deep;"),
            ("guard::d", ""),
        ];
        assert_eq!(found(&three), ["a b c"]);
    }

    #[test]
    fn circles_that_share_a_module_are_all_found() {
        let texts = [
            ("guard::a", "use crate::b::B; use crate::c::C;"),
            ("guard::b", "use crate::a::A;"),
            ("guard::c", "use crate::a::A;"),
        ];
        assert_eq!(found(&texts), ["a b", "a c"]);
    }

    #[test]
    fn item_passed_on_by_the_root_is_found_at_its_origin() {
        let root = ("guard", "pub use a::A;\nmod a;\nmod b;");
        let texts = [root, ("guard::a", "use crate::b::B;"), ("guard::b", "use crate::A;")];
        assert_eq!(found(&texts), ["a b"]);
        // An item of the root itself, which names the module too.
        let root = ("guard", "pub use a::A;\nmod a;\npub const X: u8 = 1;");
        assert_eq!(found(&[root, ("guard::a", "use crate::X;")]), ["guard a"]);
    }

    #[test]
    fn no_circle_is_found_where_there_is_none() {
        for texts in [
            [("guard::a", "use crate::b::B;"), ("guard::b", "use kube::a::A;")],
            [("guard::a", "use crate::b::B;"), ("guard::b::deep", "use super::B;")],
            [("guard::a", "use crate::b::B;"), ("guard::b", "#[cfg(test)]\nuse crate::a::A;\n")],
            [("guard::a", "use crate::a::deep::B;"), ("guard::a::deep", "use crate::a::A;")],
            [
                ("guard::a", "#[cfg(test)]\nmod tests;\nuse crate::b::B;"),
                ("guard::a::tests", "use crate::a::A;"),
            ],
            [("guard::a", "use crate::b::B;"), ("plugin::b", "use crate::a::A;")],
        ] {
            assert_eq!(found(&texts), Vec::<String>::new(), "{texts:?}");
        }
    }

    #[test]
    fn a_known_arrow_passes_until_its_circle_is_gone() {
        let known = [Closing { from: "guard::b", to: "guard::a", why: "to go" }];
        let circle = sources(&[("guard::a", "use crate::b::B;"), ("guard::b", "use crate::a::A;")]);
        assert_eq!(check(&circle, "guard", &known), Vec::<String>::new());
        let all = check(&circle, "guard", &[]);
        assert_eq!(all, ["a circle: guard::a -> guard::b -> guard::a"]);
        let gone = sources(&[("guard::a", ""), ("guard::b", "use crate::a::A;")]);
        let line = "guard::b -> guard::a closes no circle (to go): take it off the table";
        assert_eq!(check(&gone, "guard", &known), [line]);
        // The arrows of other crates are not this crate's.
        assert_eq!(check(&[], "plugin", &known), Vec::<String>::new());
    }
}
