//! The definitions of our resources, and of the operator's.

use std::collections::BTreeSet;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, CustomResourceDefinitionVersion, JSONSchemaProps,
    JSONSchemaPropsOrArray,
};
use pgscale_guard::Seen;
use pgscale_guard::postgresql::{GROUP, PLURAL, VERSION};
use pgscale_guard::remedy::Command;

use super::{Case, Finding, Object, fails, note, weakens};

/// The name of the operator's definition.
pub(super) fn operators_definition() -> String {
    format!("{PLURAL}.{GROUP}")
}

fn object(name: &str) -> Object {
    Object::global("customresourcedefinition", name)
}

pub(super) fn findings(case: &Case<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    for shipped in &case.shipped.definitions {
        let name = shipped.metadata.name.clone().unwrap_or_default();
        match case.facts.definitions.get(&name) {
            Some(Seen::Known(live)) => found.extend(ours(case, &name, live, shipped)),
            Some(Seen::Unreadable(_)) => {}
            Some(Seen::Absent) | None => found.push(
                fails(
                    "definition-missing",
                    format!(
                        "the definition {name} is not installed: the webhook cannot read such \
                         objects, and refuses every shrink"
                    ),
                )
                .of(object(&name), "not there")
                .cure(case.upgrade(&[])),
            ),
        }
    }
    let name = operators_definition();
    match case.facts.definitions.get(&name) {
        Some(Seen::Known(live)) => found.extend(theirs(&name, live)),
        Some(Seen::Unreadable(_)) => {}
        Some(Seen::Absent) | None => found.push(
            weakens(
                "operator-definition-missing",
                "the operator's resource postgresql is not installed: there is nothing to guard",
            )
            .of(object(&name), "not there")
            .cure_to(
                "install the operator, then look again",
                Command::kubectl(["get", "customresourcedefinition", &name]),
            ),
        ),
    }
    found
}

fn ours(
    case: &Case<'_>,
    name: &str,
    live: &CustomResourceDefinition,
    shipped: &CustomResourceDefinition,
) -> Vec<Finding> {
    let mut found = Vec::new();
    if live.metadata.deletion_timestamp.is_some() {
        found.push(
            fails(
                "definition-terminating",
                format!("the definition {name} is being deleted, and all its objects with it"),
            )
            .because(object(name), "metadata.deletionTimestamp", "set")
            .cure_to(
                "save the objects, and install the definition again when it is gone",
                Command::kubectl([
                    "get",
                    name.split('.').next().unwrap_or(name),
                    "-A",
                    "-o",
                    "yaml",
                ]),
            )
            .cure(case.upgrade(&[])),
        );
    }
    let established = live.status.iter().flat_map(|status| status.conditions.iter().flatten());
    if !established.into_iter().any(|it| it.type_ == "Established" && it.status == "True") {
        found.push(
            fails(
                "definition-not-established",
                format!(
                    "the API server does not serve {name} yet: its names conflict, or it is new"
                ),
            )
            .because(object(name), "status.conditions[Established]", "not True")
            .cure(Command::kubectl(["describe", "customresourcedefinition", name])),
        );
    }
    for version in &shipped.spec.versions {
        let Some(there) = live.spec.versions.iter().find(|it| it.name == version.name && it.served)
        else {
            found.push(
                fails(
                    "definition-version",
                    format!(
                        "{name} is not served in version {}: the webhook cannot read such objects",
                        version.name
                    ),
                )
                .because(object(name), "spec.versions", format!("no served {}", version.name))
                .cure(case.upgrade(&[])),
            );
            continue;
        };
        let Difference { lacks, more } = Difference::between(there, version);
        let few = |all: &[String]| all.iter().take(5).cloned().collect::<Vec<_>>().join(", ");
        if !lacks.is_empty() {
            found.push(
                weakens(
                    "definition-older",
                    format!(
                        "the definition {name} is older than this program: the API server drops \
                         fields that it does not know, or refuses their values"
                    ),
                )
                .because(object(name), "schema", format!("lacks {}", few(&lacks)))
                .cure(case.upgrade(&[])),
            );
        } else if !more.is_empty() {
            found.push(
                note(
                    "definition-newer",
                    format!(
                        "the definition {name} is newer than this program, which does not know \
                         all its fields"
                    ),
                )
                .because(
                    object(name),
                    "schema",
                    format!("also has {}", few(&more)),
                ),
            );
        }
    }
    found
}

/// What one version of a definition has and another has not: fields and enumerated values.
pub(crate) struct Difference {
    /// What the installed one lacks.
    pub(crate) lacks: Vec<String>,
    /// What only the installed one has.
    pub(crate) more: Vec<String>,
}

impl Difference {
    /// Compares an installed version with the shipped one.
    pub(crate) fn between(
        installed: &CustomResourceDefinitionVersion,
        shipped: &CustomResourceDefinitionVersion,
    ) -> Self {
        let (has, wants) = (fields(installed), fields(shipped));
        Self {
            lacks: wants.difference(&has).cloned().collect(),
            more: has.difference(&wants).cloned().collect(),
        }
    }
}

/// Returns every field and every enumerated value of a version.
fn fields(version: &CustomResourceDefinitionVersion) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let schema = version.schema.as_ref().and_then(|it| it.open_api_v3_schema.as_ref());
    if let Some(schema) = schema {
        paths("", schema, &mut found);
    }
    found
}

/// Adds every field and every enumerated value below `at`.
fn paths(at: &str, schema: &JSONSchemaProps, found: &mut BTreeSet<String>) {
    for (name, below) in schema.properties.iter().flatten() {
        let path = format!("{at}.{name}");
        found.insert(path.clone());
        paths(&path, below, found);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(below)) = &schema.items {
        paths(&format!("{at}[]"), below, found);
    }
    for value in schema.enum_.iter().flatten() {
        found.insert(format!("{at}={}", value.0));
    }
}

fn theirs(name: &str, live: &CustomResourceDefinition) -> Vec<Finding> {
    let mut found = Vec::new();
    let versions: Vec<&str> =
        live.spec.versions.iter().filter(|it| it.served).map(|it| it.name.as_str()).collect();
    if !versions.contains(&VERSION) {
        found.push(
            fails(
                "operator-version-unknown",
                format!(
                    "{name} is not served in version {VERSION}: no entry of the registration \
                     matches its writes"
                ),
            )
            .because(object(name), "spec.versions", versions.join(", "))
            .cure(Command::kubectl([
                "get",
                "customresourcedefinition",
                name,
                "-o",
                "yaml",
            ])),
        );
    }
    let scales = live
        .spec
        .versions
        .iter()
        .any(|version| version.subresources.as_ref().is_some_and(|it| it.scale.is_some()));
    if scales {
        found.push(
            note(
                "scale-subresource",
                format!(
                    "{name} has the scale subresource: `kubectl scale` and autoscalers can write \
                     the count, and the entry scale judges them"
                ),
            )
            .because(object(name), "subresources.scale", "set"),
        );
    }
    found
}
