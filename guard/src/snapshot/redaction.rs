//! Secrets in JSON, replaced by words that say nothing.

use std::collections::BTreeMap;

use serde_json::Value;

/// The beginning of every word that stands for a secret. A number follows: equal secrets of one
/// document have equal numbers.
pub const REDACTED: &str = "redacted-";

/// Parts of the names of fields that hold secrets, in lower case and without separators.
const NAMES: &[&str] = &[
    "accesskey",
    "apikey",
    "authorization",
    "conninfo",
    "credential",
    "dsn",
    "lastappliedconfiguration",
    "passphrase",
    "passwd",
    "password",
    "privatekey",
    "pwd",
    "secret",
    "token",
];

/// Parts of texts that hold secrets, in lower case.
const SIGNS: &[&str] = &[
    "--password",
    "-----begin ",
    "_key=",
    "accesskey=",
    "apikey=",
    "authorization:",
    "bearer ",
    "passwd=",
    "password=",
    "password:",
    "pwd=",
    "secret=",
    "sig=",
    "token=",
];

/// Replaces every value of `document` that is, or may be, a secret: the values of environment
/// variables, fields with such a name, connection strings, and the annotation in which kubectl keeps
/// whole manifests.
///
/// The names of fields and variables stay, because rules look at those.
pub fn redact(document: &mut Value) {
    Redaction::default().walk(document, false);
}

/// The words for the secrets that were found, by the secret.
#[derive(Default)]
struct Redaction(BTreeMap<String, String>);

impl Redaction {
    /// Replaces the secrets below `value`; every text is one where its field is `named` as such.
    fn walk(&mut self, value: &mut Value, named: bool) {
        match value {
            Value::String(text) => {
                if named || is_secret(text) {
                    self.replace(text);
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.walk(item, named)),
            Value::Object(fields) => {
                let variable = fields.get("name").is_some_and(Value::is_string);
                for (key, value) in fields.iter_mut() {
                    self.walk(value, names_a_secret(key) || (variable && key == "value"));
                }
            }
            Value::Bool(_) | Value::Null | Value::Number(_) => {}
        }
    }

    fn replace(&mut self, text: &mut String) {
        // A record that is recorded again stays as it is. An empty text hides nothing, and rules
        // tell it from others.
        if text.is_empty() || text.starts_with(REDACTED) {
            return;
        }
        let next = self.0.len() + 1;
        let word = self.0.entry(text.clone()).or_insert_with(|| format!("{REDACTED}{next}"));
        text.clone_from(word);
    }
}

/// Returns whether the name of a field says that it holds a secret. A field that holds the name of a
/// Secret or of a key in it does not.
fn names_a_secret(key: &str) -> bool {
    let plain: String =
        key.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase();
    let refers = ["name", "ref", "refs", "encryption"].iter().any(|end| plain.ends_with(end));
    !refers && NAMES.iter().any(|name| plain.contains(name))
}

/// Returns whether a text holds a secret by its own form.
fn is_secret(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    // `postgres://user:password@host`
    let in_url = lower.split("://").skip(1).any(|rest| {
        let place = rest.split(['/', '?', ' ', '"', '\'']).next().unwrap_or_default();
        place.rsplit_once('@').is_some_and(|(user, _)| user.contains(':'))
    });
    in_url || SIGNS.iter().any(|sign| lower.contains(sign))
}
