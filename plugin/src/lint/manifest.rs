//! The documents of a text, with the line of every value.
//!
//! The values are those that kubectl sends: YAML as its library reads it, with anchors, merge keys
//! and several documents in one text, or a row of JSON objects.

use std::fmt;
use std::io::Cursor;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use serde_saphyr::{
    DefaultMessageFormatter, MessageFormatter as _, Options, Spanned, UserMessageFormatter,
};

use super::source::Text;
use super::{Place, Problem};

/// The most values inside each other.
const DEEPEST: usize = 100;
/// The stack of the thread that decodes: many times what the deepest value takes.
const STACK: usize = 64 << 20;
/// The most events of one document, those of repeated anchors included.
const MOST_EVENTS: usize = 500_000;

/// One document, or one item of a list.
#[derive(Clone, Debug)]
pub(crate) struct Document {
    /// Its value.
    pub(crate) value: Value,
    /// Its first line.
    pub(crate) place: Place,
    /// The line and the column of `spec.numberOfInstances`, where it has one.
    count: Option<(u64, u64)>,
}

impl Document {
    /// Returns a document that was made from another one, such as by a patch.
    pub(crate) fn at(place: Place, value: Value) -> Self {
        Self { value, place, count: None }
    }

    /// Returns the text at a pointer such as `/metadata/name`. Empty where there is none.
    pub(crate) fn text(&self, pointer: &str) -> &str {
        self.value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
    }

    /// Returns the place of its count, or else its own.
    pub(crate) fn count_place(&self) -> Place {
        match self.count {
            Some((line, column)) => {
                Place { line: Some(line), column: Some(column), ..self.place.clone() }
            }
            None => self.place.clone(),
        }
    }
}

/// A value whose parts know their places.
#[derive(Clone, Debug)]
enum Node {
    Leaf(Value),
    List(Vec<Spanned<Self>>),
    Fields(Vec<(String, Spanned<Self>)>),
}

impl Node {
    fn value(self) -> Value {
        match self {
            Self::Leaf(value) => value,
            Self::List(items) => items.into_iter().map(|item| item.value.value()).collect(),
            Self::Fields(fields) => {
                let fields = fields.into_iter().map(|(key, node)| (key, node.value.value()));
                Value::Object(fields.collect::<Map<_, _>>())
            }
        }
    }

    fn field(&self, name: &str) -> Option<&Spanned<Self>> {
        match self {
            Self::Fields(fields) => fields.iter().find(|(key, _)| key == name).map(|(_, it)| it),
            Self::Leaf(_) | Self::List(_) => None,
        }
    }

    fn text(&self, name: &str) -> Option<&str> {
        match &self.field(name)?.value {
            Self::Leaf(Value::String(text)) => Some(text),
            Self::Leaf(_) | Self::List(_) | Self::Fields(_) => None,
        }
    }
}

struct Nodes;

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(decoder: D) -> Result<Self, D::Error> {
        decoder.deserialize_any(Nodes)
    }
}

impl<'de> Visitor<'de> for Nodes {
    type Value = Node;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a value that JSON can hold")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Leaf(Value::Bool(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Leaf(Value::from(value)))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Leaf(Value::from(value)))
    }

    #[expect(clippy::cast_precision_loss, reason = "JSON keeps such numbers as floats too")]
    fn visit_i128<E: serde::de::Error>(self, value: i128) -> Result<Node, E> {
        self.visit_f64(value as f64)
    }

    #[expect(clippy::cast_precision_loss, reason = "JSON keeps such numbers as floats too")]
    fn visit_u128<E: serde::de::Error>(self, value: u128) -> Result<Node, E> {
        self.visit_f64(value as f64)
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Node, E> {
        let number = Number::from_f64(value);
        number.map(|it| Node::Leaf(it.into())).ok_or_else(|| E::custom("it is no finite number"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Leaf(Value::String(value.to_owned())))
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Leaf(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Leaf(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, decoder: D) -> Result<Node, D::Error> {
        Node::deserialize(decoder)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Node::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Node, A::Error> {
        let mut fields: Vec<(String, Spanned<Node>)> = Vec::new();
        while let Some((key, value)) = entries.next_entry::<String, Spanned<Node>>()? {
            if fields.iter().any(|(known, _)| *known == key) {
                return Err(A::Error::custom(format!("duplicate key {key:?}")));
            }
            fields.push((key, value));
        }
        Ok(Node::Fields(fields))
    }
}

fn options() -> Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: DEEPEST,
            max_events: MOST_EVENTS,
            max_nodes: MOST_EVENTS,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 100_000,
        },
        // As kubectl reads them.
        legacy_octal_numbers: true,
    }
}

/// Returns the documents of a text, the items of lists one by one, and what cannot be read.
///
/// A thread of its own has room for values that lie deep: the decoder takes several calls for each
/// level.
pub(crate) fn documents(text: &Text) -> (Vec<Document>, Vec<Problem>) {
    let failed = |why: String| (Vec::new(), vec![Problem::new(Place::file(&text.name), why)]);
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK);
        match thread.spawn_scoped(scope, || decoded(text)) {
            Ok(thread) => {
                thread.join().unwrap_or_else(|_| failed("it cannot be read: internal error".into()))
            }
            Err(error) => failed(format!("it cannot be read: no thread can be started: {error}")),
        }
    })
}

fn decoded(text: &Text) -> (Vec<Document>, Vec<Problem>) {
    let (mut found, mut problems) = (Vec::new(), Vec::new());
    let mut reader = Cursor::new(text.text.as_bytes());
    for node in serde_saphyr::read_with_options::<_, Spanned<Node>>(&mut reader, options()) {
        match node {
            Ok(node) => flatten(node, &text.name, &mut found),
            Err(error) => problems.push(problem(text, &error)),
        }
    }
    if problems.is_empty() {
        return (found, problems);
    }
    // Several JSON objects in a row are no YAML, and kubectl reads them.
    match rows(text) {
        Some(rows) => (rows, Vec::new()),
        None => (found, problems),
    }
}

/// Adds a document: a list item by item.
fn flatten(node: Spanned<Node>, name: &str, found: &mut Vec<Document>) {
    let (line, column) = (node.referenced.line(), node.referenced.column());
    let is_list = node.value.text("kind").is_some_and(|kind| kind.ends_with("List"));
    if let (true, Node::Fields(fields)) = (is_list, &node.value)
        && let Some((_, items)) = fields.iter().find(|(key, _)| key == "items")
        && let Node::List(items) = &items.value
    {
        for item in items.clone() {
            flatten(item, name, found);
        }
        return;
    }
    let count = node.value.field("spec").and_then(|spec| spec.value.field("numberOfInstances"));
    let count = count.map(|it| (it.referenced.line(), it.referenced.column()));
    let place = Place { file: name.to_owned(), line: Some(line), column: Some(column) };
    found.push(Document { value: node.value.value(), place, count });
}

/// Returns the objects of a text that is a row of JSON objects. `None` where it is none.
fn rows(text: &Text) -> Option<Vec<Document>> {
    if !text.text.trim_start().starts_with('{') {
        return None;
    }
    let mut found = Vec::new();
    let mut stream = serde_json::Deserializer::from_str(&text.text).into_iter::<Value>();
    loop {
        let rest = text.text.get(stream.byte_offset()..)?;
        let start = stream.byte_offset() + (rest.len() - rest.trim_start().len());
        let Some(value) = stream.next() else { return Some(found) };
        let line = 1 + text.text.get(..start)?.matches('\n').count();
        let place = Place::line(&text.name, u64::try_from(line).ok()?);
        let value = value.ok()?;
        let kind = value.get("kind").and_then(Value::as_str);
        let listed = kind.is_some_and(|kind| kind.ends_with("List"));
        match value.get("items").and_then(Value::as_array).filter(|_| listed) {
            Some(items) => {
                let at = |item: &Value| Document::at(place.clone(), item.clone());
                found.extend(items.iter().map(at));
            }
            None => found.push(Document::at(place, value)),
        }
    }
}

/// Returns what is wrong with a text.
fn problem(text: &Text, error: &serde_saphyr::Error) -> Problem {
    let plain = error.without_snippet();
    let at = plain.location().filter(|at| at.line() > 0);
    let place = Place {
        file: text.name.clone(),
        line: at.map(|at| at.line()),
        column: at.map(|at| at.column()),
    };
    // The text for developers names what the parser expected, and for this error an option of it.
    let said = if matches!(plain, serde_saphyr::Error::DuplicateMappingKey { .. }) {
        UserMessageFormatter.format_message(plain)
    } else {
        DefaultMessageFormatter.format_message(plain)
    };
    let first = said.lines().next().unwrap_or_default();
    let mut message = format!("it cannot be read as YAML or JSON: {first}");
    if text.text.contains("{{") {
        message.push_str(
            ". It looks like a template: render it first, and give the result on standard input (-f -)",
        );
    }
    Problem::new(place, message)
}

#[cfg(test)]
mod tests;
