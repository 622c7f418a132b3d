//! `-o jsonpath=` and `-o custom-columns=`: kubectl's templates over the printed documents.
//!
//! kubectl's dialect is older than RFC 9535 and nearly its subset: `{.a.b}` becomes
//! `$['a']['b']`, and the text in brackets is the same in both. The library evaluates the paths.

use jsonpath_rust::parser::model::JpQuery;
use jsonpath_rust::parser::parse_json_path;
use jsonpath_rust::query::js_path_process;
use serde_json::Value;

use super::text::{Cell, table};

/// The word before the template of a path.
const JSON_PATH: &str = "jsonpath=";

/// The word before the list of columns.
const CUSTOM_COLUMNS: &str = "custom-columns=";

/// The parts of a document to print.
#[derive(Clone, Debug)]
pub(crate) enum Expression {
    /// A table with one row per item.
    Columns(Vec<Column>),
    /// A template.
    Template(Vec<Node>),
}

/// One column of a table.
#[derive(Clone, Debug)]
pub(crate) struct Column {
    header: String,
    path: Path,
}

/// A part of a template.
#[derive(Clone, Debug)]
pub(crate) enum Node {
    /// The value at a path.
    Path(Path),
    /// A repetition for every value at a path.
    Range(Path, Vec<Self>),
    /// Plain text.
    Text(String),
}

/// A path, from the document (`$`) or from the present value.
#[derive(Clone, Debug)]
pub(crate) struct Path {
    from_root: bool,
    query: JpQuery,
}

impl Expression {
    /// Reads the argument of `-o`. `None` where it is neither of the two.
    pub(crate) fn of(word: &str) -> Option<Result<Self, String>> {
        if let Some(text) = word.strip_prefix(JSON_PATH) {
            return Some(template(text).map(Self::Template));
        }
        word.strip_prefix(CUSTOM_COLUMNS).map(|text| columns(text).map(Self::Columns))
    }

    /// Returns the selected parts of `document`.
    pub(crate) fn render(&self, document: &Value) -> Result<String, String> {
        match self {
            Self::Columns(columns) => render_columns(columns, document),
            Self::Template(nodes) => {
                let mut text = String::new();
                render(nodes, document, document, &mut text)?;
                Ok(text)
            }
        }
    }
}

/// Reads a template: text, paths in braces, `{range PATH}...{end}` and quoted text in braces.
fn template(text: &str) -> Result<Vec<Node>, String> {
    if text.is_empty() {
        return Err("jsonpath= needs a template such as {.members[*].name}".to_owned());
    }
    // As in kubectl, the braces of a single path may be left out.
    if !text.contains('{') {
        return Ok(vec![Node::Path(path(text)?)]);
    }
    let mut open: Vec<(Path, Vec<Node>)> = Vec::new();
    let mut nodes = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        if !before.is_empty() {
            nodes.push(Node::Text(before.to_owned()));
        }
        let end =
            closing(after).ok_or_else(|| format!("the brace before {after:?} is not closed"))?;
        let (inner, after) = after.split_at(end);
        let inner = inner.trim();
        // `after` begins with the brace.
        rest = after.get(1..).unwrap_or_default();
        if inner == "end" {
            let (over, outer) = open.pop().ok_or("{end} without {range}")?;
            let body = std::mem::replace(&mut nodes, outer);
            nodes.push(Node::Range(over, body));
        } else if let Some(over) = inner.strip_prefix("range ") {
            open.push((path(over)?, std::mem::take(&mut nodes)));
        } else if let Some(quoted) = quoted(inner) {
            nodes.push(Node::Text(quoted));
        } else {
            nodes.push(Node::Path(path(inner)?));
        }
    }
    if !rest.is_empty() {
        nodes.push(Node::Text(rest.to_owned()));
    }
    if open.is_empty() { Ok(nodes) } else { Err("{range} without {end}".to_owned()) }
}

/// Returns the position of the closing brace. Braces in quotes are text.
fn closing(text: &str) -> Option<usize> {
    let mut quote = None;
    let mut escaped = false;
    for (index, character) in text.char_indices() {
        match (quote, character) {
            _ if escaped => escaped = false,
            (_, '\\') => escaped = true,
            (Some(open), _) if open == character => quote = None,
            (None, '\'' | '"') => quote = Some(character),
            (None, '}') => return Some(index),
            _ => {}
        }
    }
    None
}

/// Returns the text of `"\n"`, and of the same in single quotes.
fn quoted(text: &str) -> Option<String> {
    let quote = text.chars().next().filter(|first| matches!(first, '"' | '\''))?;
    let inner = text.strip_prefix(quote)?.strip_suffix(quote)?;
    let mut plain = String::new();
    let mut characters = inner.chars();
    while let Some(character) = characters.next() {
        plain.push(match character {
            '\\' => match characters.next()? {
                'n' => '\n',
                't' => '\t',
                'r' => '\r',
                other => other,
            },
            other => other,
        });
    }
    Some(plain)
}

/// Reads one path, with or without braces around it.
fn path(text: &str) -> Result<Path, String> {
    let text = text.trim();
    let text = text.strip_prefix('{').and_then(|it| it.strip_suffix('}')).unwrap_or(text).trim();
    if text.is_empty() {
        return Err("a path is empty".to_owned());
    }
    let from_root = text.starts_with('$');
    let rest = text.strip_prefix(['$', '@']).unwrap_or(text);
    let translated = translate(rest)?;
    let query = parse_json_path(&translated)
        .map_err(|_| format!("{text:?} is not a path such as .members[*].name"))?;
    Ok(Path { from_root, query })
}

/// Returns kubectl's path in the spelling of RFC 9535. Names are quoted, because kubectl's may hold
/// dashes and escaped dots.
fn translate(path: &str) -> Result<String, String> {
    let mut translated = "$".to_owned();
    let mut rest = path;
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix("..") {
            translated.push_str("..");
            rest = after;
        } else if let Some(after) = rest.strip_prefix('.') {
            rest = after;
        }
        if rest.starts_with('[') {
            let end =
                bracket(rest).ok_or_else(|| format!("the bracket in {path:?} is not closed"))?;
            let (selection, after) = rest.split_at(end);
            translated.push_str(selection);
            rest = after;
            continue;
        }
        let (name, after) = name(rest);
        rest = after;
        if name == "*" {
            translated.push_str("[*]");
        } else if !name.is_empty() {
            let quoted = name.replace('\\', "\\\\").replace('\'', "\\'");
            translated.extend(["['", &quoted, "']"]);
        }
    }
    Ok(translated)
}

/// Returns a name up to the next dot or bracket, with escapes resolved, and the rest.
fn name(text: &str) -> (String, &str) {
    let mut name = String::new();
    let mut characters = text.char_indices();
    while let Some((index, character)) = characters.next() {
        match character {
            '\\' => name.extend(characters.next().map(|(_, escaped)| escaped)),
            '.' | '[' => return (name, text.get(index..).unwrap_or_default()),
            other => name.push(other),
        }
    }
    (name, "")
}

/// Returns the end of the bracket at the beginning. Brackets in quotes are text.
fn bracket(text: &str) -> Option<usize> {
    let mut depth = 0_usize;
    let mut quote = None;
    for (index, character) in text.char_indices() {
        match (quote, character) {
            (Some(open), _) if open == character => quote = None,
            (None, '\'' | '"') => quote = Some(character),
            (None, '[') => depth += 1,
            (None, ']') => {
                depth -= 1;
                if depth == 0 {
                    return Some(index + 1);
                }
            }
            _ => {}
        }
    }
    None
}

/// Reads `HEADER:.path,...`.
fn columns(text: &str) -> Result<Vec<Column>, String> {
    let mut columns = Vec::new();
    let mut depth = 0_usize;
    let parts = text.split(|character| {
        match character {
            '[' => depth += 1,
            ']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        // A comma in brackets belongs to the path.
        character == ',' && depth == 0
    });
    for part in parts {
        let (header, words) = part
            .split_once(':')
            .filter(|(header, words)| !header.is_empty() && !words.is_empty())
            .ok_or_else(|| format!("{part:?} is not a column such as NAME:.metadata.name"))?;
        columns.push(Column { header: header.to_owned(), path: path(words)? });
    }
    Ok(columns)
}

impl Path {
    fn values<'a>(&self, root: &'a Value, here: &'a Value) -> Result<Vec<&'a Value>, String> {
        let from = if self.from_root { root } else { here };
        let found = js_path_process(&self.query, from).map_err(|error| error.to_string())?;
        Ok(found.into_iter().map(jsonpath_rust::query::QueryRef::val).collect())
    }
}

fn render(nodes: &[Node], root: &Value, here: &Value, out: &mut String) -> Result<(), String> {
    for node in nodes {
        match node {
            Node::Text(text) => out.push_str(text),
            Node::Path(path) => {
                let words: Vec<String> = path.values(root, here)?.into_iter().map(scalar).collect();
                out.push_str(&words.join(" "));
            }
            Node::Range(over, body) => {
                for value in over.values(root, here)? {
                    render(body, root, value, out)?;
                }
            }
        }
    }
    Ok(())
}

fn render_columns(columns: &[Column], document: &Value) -> Result<String, String> {
    let items = document.get("items").and_then(Value::as_array);
    let rows: Vec<&Value> = items.map_or(vec![document], |items| items.iter().collect());
    let cell = |column: &Column, row| -> Result<Cell, String> {
        let values = column.path.values(row, row)?;
        let words: Vec<String> =
            values.into_iter().filter(|value| !value.is_null()).map(scalar).collect();
        Ok(if words.is_empty() { Cell::from("<none>") } else { Cell::from(words.join(",")) })
    };
    let rows = rows
        .into_iter()
        .map(|row| columns.iter().map(|column| cell(column, row)).collect())
        .collect::<Result<Vec<Vec<Cell>>, String>>()?;
    let header: Vec<&str> = columns.iter().map(|column| column.header.as_str()).collect();
    Ok(table(&header, &rows))
}

/// Returns text as it is, and everything else as JSON.
fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(_) | Value::Bool(_) | Value::Null | Value::Number(_) | Value::Object(_) => {
            value.to_string()
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn document() -> Value {
        json!({"kind": "ScaleStatusList", "items": [
            {"metadata": {"name": "acid-a", "labels": {"pgscale.dev/a-b": "x"}}, "declared": 3,
                "leader": null, "members": [
                    {"name": "acid-a-0", "role": "leader", "lagBytes": null},
                    {"name": "acid-a-1", "role": "replica", "lagBytes": 16}]},
            {"metadata": {"name": "acid-b"}, "declared": 5, "leader": "acid-b-1", "members": []}]})
    }

    fn print(word: &str) -> String {
        match Expression::of(word) {
            Some(Ok(expression)) => expression.render(&document()).unwrap(),
            Some(Err(why)) => format!("error: {why}"),
            None => "no expression".to_owned(),
        }
    }

    #[test]
    fn template_prints_as_by_kubectl() {
        for (word, want) in [
            ("jsonpath={.items[*].metadata.name}", "acid-a acid-b"),
            ("jsonpath={$.items[0].declared}", "3"),
            ("jsonpath=.items[0].metadata.name", "acid-a"),
            ("jsonpath=kind", "ScaleStatusList"),
            ("jsonpath={.items[-1:].metadata['name']}", "acid-b"),
            ("jsonpath={.items[0].metadata.labels.pgscale\\.dev/a-b}", "x"),
            ("jsonpath={.items[0]['declared','leader']}", "3 null"),
            ("jsonpath={.items[?(@.declared>3)].leader}", "acid-b-1"),
            ("jsonpath={.items[?(@.leader==\"acid-b-1\")].metadata.name}", "acid-b"),
            ("jsonpath={..role}", "leader replica"),
            ("jsonpath={.items[1].members}", "[]"),
            ("jsonpath={.items[0].nothing}", ""),
            (
                "jsonpath=first: {.items[0].metadata.name}, {.items[1].declared}!",
                "first: acid-a, 5!",
            ),
            (
                "jsonpath={range .items[*]}{.metadata.name}{\"\\t\"}{.declared}{\"\\n\"}{end}",
                "acid-a\t3\nacid-b\t5\n",
            ),
            (
                "jsonpath={range .items[*]}{range .members[*]}{@.name}={.role} {$.kind};{end}{end}",
                "acid-a-0=leader ScaleStatusList;acid-a-1=replica ScaleStatusList;",
            ),
            ("jsonpath={'}'}{.kind}", "}ScaleStatusList"),
        ] {
            assert_eq!(print(word), want, "{word}");
        }
    }

    #[test]
    fn columns_print_a_row_per_item() {
        insta::assert_snapshot!(
            print("custom-columns=NAME:.metadata.name,LEADER:.leader,MEMBERS:{.members[*].name},BOTH:.members[0]['name','role']"),
            @r"
        NAME     LEADER     MEMBERS             BOTH
        acid-a   <none>     acid-a-0,acid-a-1   acid-a-0,leader
        acid-b   acid-b-1   <none>              <none>
        "
        );
    }

    #[test]
    fn error_names_the_malformed_part() {
        let words = [
            "jsonpath=",
            "jsonpath={.items[*}",
            "jsonpath={.items",
            "jsonpath={range .items[*]}{.a}",
            "jsonpath={end}",
            "jsonpath={}",
            "jsonpath={.items[?(@.a=]}",
            "custom-columns=",
            "custom-columns=NAME",
            "custom-columns=NAME:",
            "custom-columns=NAME:.items[",
        ];
        let printed: Vec<String> =
            words.iter().map(|word| format!("{word} -> {}", print(word))).collect();
        insta::assert_snapshot!(printed.join("\n"), @r#"
        jsonpath= -> error: jsonpath= needs a template such as {.members[*].name}
        jsonpath={.items[*} -> error: the bracket in ".items[*" is not closed
        jsonpath={.items -> error: the brace before ".items" is not closed
        jsonpath={range .items[*]}{.a} -> error: {range} without {end}
        jsonpath={end} -> error: {end} without {range}
        jsonpath={} -> error: a path is empty
        jsonpath={.items[?(@.a=]} -> error: ".items[?(@.a=]" is not a path such as .members[*].name
        custom-columns= -> error: "" is not a column such as NAME:.metadata.name
        custom-columns=NAME -> error: "NAME" is not a column such as NAME:.metadata.name
        custom-columns=NAME: -> error: "NAME:" is not a column such as NAME:.metadata.name
        custom-columns=NAME:.items[ -> error: the bracket in ".items[" is not closed
        "#);
        assert_eq!(print("json"), "no expression");
    }
}
