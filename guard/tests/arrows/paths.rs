//! Reads from the text of a Rust file the paths that its production code names.
//!
//! This is no parser. It knows comments, literals, `use` groups, `super`, imported names and the
//! reach of `#[cfg(test)]`. It does not see paths that a macro makes up.

use std::collections::{BTreeMap, BTreeSet};

/// Returns every path that `source` names as the module `module` (such as `guard::facts::health`).
///
/// `crate`, `self` and `super` are resolved, and so is the first segment of a path that a `use` of
/// the same file brought in.
pub(crate) fn paths(source: &str, module: &str) -> BTreeSet<String> {
    let code = production(&plain(source));
    let tokens = tokens(&code);
    let (mut uses, mut others) = (Vec::new(), Vec::new());
    let mut at = 0;
    while at < tokens.len() {
        let begins = is_name(&tokens[at])
            && tokens.get(at + 1).is_some_and(|next| next == "::")
            && (at == 0 || !matches!(tokens[at - 1].as_str(), "::" | "."));
        let imports = at > 0 && tokens[at - 1] == "use";
        if imports || begins {
            let found = if imports { &mut uses } else { &mut others };
            at = tree(&tokens, at, "", found).max(at + 1);
        } else {
            at += 1;
        }
    }
    let mut names = BTreeMap::new();
    let mut all = BTreeSet::new();
    for (path, name) in uses {
        let path = resolve(&path, module);
        names.insert(name, path.clone());
        all.insert(path);
    }
    for (path, _) in others {
        let (first, rest) = path.split_once("::").unwrap_or((&path, ""));
        all.insert(match names.get(first) {
            Some(imported) => format!("{imported}::{rest}"),
            None => resolve(&path, module),
        });
    }
    all
}

/// Returns the modules that `source` declares for tests only, by name.
pub(crate) fn test_modules(source: &str) -> Vec<String> {
    let code = plain(source);
    let mut lines = code.lines().map(str::trim).peekable();
    let mut found = Vec::new();
    while let Some(line) = lines.next() {
        if line != "#[cfg(test)]" {
            continue;
        }
        while lines.peek().is_some_and(|next| next.starts_with("#[")) {
            lines.next();
        }
        let declared = lines.peek().and_then(|next| next.strip_suffix(';'));
        let name = declared.and_then(|next| next.rsplit_once("mod ")).map(|(_, name)| name);
        found.extend(name.map(str::to_owned));
    }
    found
}

/// Reads one path or one group that begins at `at`: pushes each path with the name that it gets,
/// and returns where it ends.
fn tree(
    tokens: &[String],
    mut at: usize,
    before: &str,
    found: &mut Vec<(String, String)>,
) -> usize {
    let mut path = before.to_owned();
    loop {
        let Some(token) = tokens.get(at) else { return at };
        if token == "{" {
            at += 1;
            while tokens.get(at).is_some_and(|token| token != "}") {
                let end = tree(tokens, at, &path, found);
                at = if tokens.get(end).is_some_and(|token| token == ",") { end + 1 } else { end };
                if end == at && tokens.get(at).is_none_or(|token| token != "}") {
                    // Not a group of paths: the caller goes on behind it.
                    return at;
                }
            }
            return at + 1;
        }
        if !is_name(token) && token != "*" {
            return at;
        }
        // `self` in a group is the module before it.
        if token != "self" || path.is_empty() {
            let joint = if path.is_empty() { "" } else { "::" };
            path = format!("{path}{joint}{token}");
        }
        at += 1;
        if tokens.get(at).is_some_and(|token| token == "::") {
            at += 1;
            if tokens.get(at).is_some_and(|token| is_name(token) || token == "{" || token == "*") {
                continue;
            }
        }
        let mut name = path.rsplit("::").next().unwrap_or(&path).to_owned();
        if tokens.get(at).is_some_and(|token| token == "as") {
            name = tokens.get(at + 1).cloned().unwrap_or(name);
            at += 2;
        }
        found.push((path, name));
        return at;
    }
}

/// Returns the path without `crate`, `self` and `super`, as seen from `module`.
fn resolve(path: &str, module: &str) -> String {
    let mut base: Vec<&str> = module.split("::").collect();
    let mut relative = false;
    let mut rest = path;
    loop {
        let (first, after) = rest.split_once("::").unwrap_or((rest, ""));
        match first {
            "crate" => base.truncate(1),
            "self" => {}
            "super" => drop(base.pop()),
            _ => break,
        }
        relative = true;
        rest = after;
    }
    match (relative, rest) {
        (false, _) => path.to_owned(),
        (true, "") => base.join("::"),
        (true, _) => format!("{}::{rest}", base.join("::")),
    }
}

/// Returns the code without the items that only tests compile.
///
/// The item ends where rustfmt puts its end: on the first line of the same depth that closes it.
fn production(code: &str) -> String {
    let mut kept = String::new();
    let mut lines = code.lines();
    while let Some(line) = lines.next() {
        let depth = line.len() - line.trim_start().len();
        if line.trim() != "#[cfg(test)]" {
            kept.push_str(line);
            kept.push('\n');
            continue;
        }
        for line in lines.by_ref() {
            let text = line.trim();
            let same = line.len() - line.trim_start().len() == depth;
            if same && !text.starts_with("#[") && (text.ends_with([';', '}']) || text == "},") {
                break;
            }
        }
    }
    kept
}

/// Returns the source with comments and the insides of literals taken out.
fn plain(source: &str) -> String {
    let mut out = String::new();
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if first == '"' {
            out.push_str("\"\"");
            quoted(rest)
        } else if let Some(hashes) = raw(rest).filter(|_| !out.ends_with(is_part)) {
            let end = format!("\"{}", "#".repeat(hashes));
            let inside = hashes + 2;
            out.push_str("\"\"");
            rest[inside..].find(&end).map_or(rest.len(), |at| inside + at + end.len())
        } else if let Some(length) = character(rest) {
            out.push_str("' '");
            length
        } else {
            out.push(first);
            first.len_utf8()
        };
        rest = &rest[skipped..];
    }
    out
}

/// Returns how many hashes a raw string that begins here has.
fn raw(text: &str) -> Option<usize> {
    let after = text.strip_prefix('r')?;
    let hashes = after.len() - after.trim_start_matches('#').len();
    after[hashes..].starts_with('"').then_some(hashes)
}

/// Returns the length of the string literal that begins here.
fn quoted(text: &str) -> usize {
    let mut escaped = false;
    for (at, char) in text.char_indices().skip(1) {
        match char {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// Returns the length of the character literal that begins here, which a lifetime is not.
fn character(text: &str) -> Option<usize> {
    let inside = text.strip_prefix('\'')?;
    if let Some(escape) = inside.strip_prefix('\\') {
        let end = escape.char_indices().skip(1).find(|(_, char)| *char == '\'')?.0;
        return Some(end + 3);
    }
    let char = inside.chars().next()?;
    inside[char.len_utf8()..].starts_with('\'').then_some(char.len_utf8() + 2)
}

/// Splits code into names, `::` and single other characters, without whitespace.
fn tokens(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = code.trim_start();
    while let Some(first) = rest.chars().next() {
        let length = if is_part(first) {
            rest.find(|char| !is_part(char)).unwrap_or(rest.len())
        } else if rest.starts_with("::") {
            2
        } else {
            first.len_utf8()
        };
        found.push(rest[..length].to_owned());
        rest = rest[length..].trim_start();
    }
    found
}

fn is_part(char: char) -> bool {
    char.is_alphanumeric() || char == '_'
}

fn is_name(token: &str) -> bool {
    token.starts_with(is_part)
}
