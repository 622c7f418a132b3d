use std::fmt::Write as _;

use serde_json::json;

use super::*;

fn text(text: &str) -> Text {
    Text { name: "a.yaml".to_owned(), text: text.to_owned() }
}

fn good(yaml: &str) -> Vec<Document> {
    let (documents, problems) = documents(&text(yaml));
    assert_eq!(problems, [], "{yaml}");
    documents
}

/// Returns the place and the message of the first problem.
fn bad(yaml: &str) -> String {
    let (_, problems) = documents(&text(yaml));
    let problem = problems.first().unwrap_or_else(|| panic!("no problem in {yaml:?}"));
    format!("{}: {}", problem.place, problem.message)
}

fn places(yaml: &str) -> Vec<String> {
    good(yaml).iter().map(|it| it.count_place().to_string()).collect()
}

const CLUSTER: &str = "kind: postgresql\nmetadata:\n  name: a\nspec:\n  numberOfInstances: 3\n";

#[test]
fn place_of_a_count_is_its_line_in_the_file() {
    assert_eq!(places(CLUSTER), ["a.yaml:5"]);
    let several = format!("# first\n---\n{CLUSTER}---\n\n# second\n{CLUSTER}...\n");
    assert_eq!(places(&several), ["a.yaml:7", "a.yaml:15"]);
    let list = "kind: List\nitems:\n- kind: postgresql\n  spec:\n    teamId: t\n    numberOfInstances: 2\n- kind: ConfigMap\n";
    assert_eq!(places(list), ["a.yaml:6", "a.yaml:7"]);
    let nested = "kind: List\nitems:\n- kind: postgresqlList\n  items:\n  - kind: postgresql\n    spec: {numberOfInstances: 2}\n";
    assert_eq!(places(nested), ["a.yaml:6"]);
    assert_eq!(
        places("kind: postgresql\nspec: {}\n"),
        ["a.yaml:1"],
        "the document, where there is no count"
    );
    let windows = CLUSTER.replace('\n', "\r\n");
    assert_eq!(places(&windows), ["a.yaml:5"]);
    let json =
        "{\n  \"kind\": \"postgresql\",\n  \"spec\": {\n    \"numberOfInstances\": 3\n  }\n}\n";
    assert_eq!(places(json), ["a.yaml:4"]);
    let tabs = json.replace("  ", "\t");
    assert_eq!(good(&tabs).len(), 1, "JSON may be indented with tabs");
}

#[test]
fn row_of_json_objects_is_read_as_kubectl_reads_it() {
    let row = "{\"kind\": \"postgresql\"}\n{\"kind\": \"List\", \"items\": [{\"kind\": \"A\"}, {\"kind\": \"B\"}]}\n\n{\"kind\": \"C\"}";
    let found = good(row);
    let kinds: Vec<(&str, String)> =
        found.iter().map(|it| (it.text("/kind"), it.place.to_string())).collect();
    let at = |line: u64| format!("a.yaml:{line}");
    assert_eq!(kinds, [("postgresql", at(1)), ("A", at(2)), ("B", at(2)), ("C", at(4))]);
}

#[test]
fn values_are_those_that_kubectl_sends() {
    let yaml = "a: &base {x: 1}\nb: {<<: *base, y: 2}\nc: \"3\"\nd: 2.5\ne: ~\nf: true\ng: |\n  text\nh: 010\n1: one\n";
    let found = good(yaml);
    assert_eq!(
        found[0].value,
        json!({"a": {"x": 1}, "b": {"x": 1, "y": 2}, "c": "3", "d": 2.5, "e": null, "f": true,
            "g": "text\n", "h": 8, "1": "one"})
    );
    assert_eq!(good("").len(), 0);
    assert_eq!(good("---\n# nothing\n---\n").len(), 0);
    let huge = good("spec: {numberOfInstances: 99999999999999999999999}");
    assert!(huge[0].value.pointer("/spec/numberOfInstances").unwrap().is_f64());
}

#[test]
fn text_that_is_no_yaml_is_named_with_its_line() {
    for (yaml, place, words) in [
        ("a: 1\na: 2\n", "a.yaml:2", "duplicate"),
        ("spec:\n  numberOfInstances: 3\n  numberOfInstances: 2\n", "a.yaml:3", "duplicate"),
        ("a: [1, 2\n", "a.yaml:", "cannot be read as YAML or JSON"),
        ("a:\n\tb: 1\n", "a.yaml:2", "cannot be read as YAML or JSON"),
        ("a: *nowhere\n", "a.yaml:1", "cannot be read as YAML or JSON"),
        ("a: .nan\n", "a.yaml:1", "cannot be read as YAML or JSON"),
    ] {
        let said = bad(yaml);
        assert!(said.starts_with(place) && said.contains(words), "{yaml:?}: {said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}

#[test]
fn template_is_named_as_one() {
    for yaml in [
        "{{- if .Values.on }}\nkind: postgresql\n{{- end }}\n",
        "kind: postgresql\nspec:\n  numberOfInstances: {{ .Values.count }}\n",
    ] {
        let said = bad(yaml);
        assert!(said.contains("looks like a template"), "{said}");
    }
    assert_eq!(good("a: \"{{ quoted }}\"\n").len(), 1, "a quoted one is plain text");
}

#[test]
fn repeated_anchors_and_deep_values_are_bounded() {
    let mut laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..10 {
        let below = format!("*a{}", level - 1);
        let row = [below.as_str(); 9].join(", ");
        _ = writeln!(laughs, "a{level}: &a{level} [{row}]");
    }
    assert!(bad(&laughs).contains("cannot be read"), "{}", bad(&laughs));
    let deep = format!("{}1{}", "[".repeat(5000), "]".repeat(5000));
    assert!(bad(&deep).contains("cannot be read"), "{}", bad(&deep));
    let deep: Vec<String> = (0..5000).map(|depth| format!("{}a:", " ".repeat(depth))).collect();
    let deep = deep.join("\n");
    assert!(bad(&deep).contains("cannot be read"), "{}", bad(&deep));
}

#[test]
fn document_that_cannot_be_decoded_hides_no_later_one() {
    let yaml = format!("a: 1\na: 2\n---\n{CLUSTER}");
    let (found, problems) = documents(&text(&yaml));
    assert_eq!((found.len(), problems.len()), (1, 1), "{problems:?}");
}
