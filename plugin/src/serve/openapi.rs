//! The description of the API (`OpenAPI` 3.1), made from the types of the answers.

use std::collections::BTreeSet;

use schemars::generate::{SchemaGenerator, SchemaSettings};
use serde_json::{Map, Value, json};

use super::answers::{Listed, Started, Summary};
use super::body::Ask;
use super::operations::{Event, Operation};
use super::problem::Parts;
use super::routes::ROUTES;
use crate::document::{ScaleHistory, ScalePlan, ScaleStatus, ScaleStatusList};
use crate::generated;

const FILE: &str = "plugin/src/serve/openapi.json";

/// One operation: its method, path, id, summary, answer, statuses beside those that every one has,
/// and the parameter of its query.
struct Route {
    method: &'static str,
    path: &'static str,
    id: &'static str,
    summary: &'static str,
    answer: Content,
    statuses: &'static [u16],
}

/// The answer of a route that succeeds.
enum Content {
    Json(Value),
    /// Begun, or nothing to do.
    Started(Value),
    Text(&'static str),
}

/// Statuses of every route that reads the cluster.
const READS: &[u16] = &[401, 403, 404, 502, 503, 504];

/// Statuses of a plan.
const PLAN: &[u16] = &[400, 401, 403, 404, 502, 503, 504];
/// Statuses of a change.
const SCALE: &[u16] = &[400, 401, 403, 404, 408, 409, 413, 415, 422, 429, 502, 503, 504];

fn routes(of: &mut SchemaGenerator) -> Vec<Route> {
    let json = |schema: schemars::Schema| Content::Json(schema.to_value());
    let operation = of.subschema_for::<Operation>();
    let history = of.subschema_for::<ScaleHistory<'static>>();
    let plan = of.subschema_for::<ScalePlan<'static>>();
    let status = of.subschema_for::<ScaleStatus<'static>>();
    let list = of.subschema_for::<ScaleStatusList<'static>>();
    let summary = of.subschema_for::<Summary>();
    let started = || Content::Started(json!({"$ref": "#/components/schemas/Started"}));
    of.subschema_for::<Started>();
    let listed = of.subschema_for::<Listed>();
    let route = |method, path, id, summary, answer, statuses| Route {
        method,
        path,
        id,
        summary,
        answer,
        statuses,
    };
    vec![
        route(
            "get",
            "/clusters",
            "listClusters",
            "All clusters, the worst first",
            json(list.clone()),
            READS,
        ),
        route(
            "get",
            "/ha-clusters/{name}",
            "getSummary",
            "One cluster in a few words",
            json(summary),
            READS,
        ),
        route(
            "patch",
            "/ha-clusters/{name}/scale",
            "scaleByName",
            "Change the count of instances",
            started(),
            SCALE,
        ),
        route(
            "get",
            "/healthz",
            "health",
            "The server answers",
            Content::Text("text/plain"),
            &[503],
        ),
        route(
            "get",
            "/metrics",
            "metrics",
            "Counters for Prometheus",
            Content::Text("application/openmetrics-text"),
            &[503],
        ),
        route(
            "get",
            "/namespaces/{namespace}/clusters",
            "listClustersOf",
            "The clusters of a namespace, the worst first",
            json(list),
            READS,
        ),
        route(
            "get",
            "/namespaces/{namespace}/clusters/{name}",
            "getStatus",
            "One cluster in full, as kubectl pgscale status",
            json(status),
            READS,
        ),
        route(
            "get",
            "/namespaces/{namespace}/clusters/{name}/history",
            "getHistory",
            "The recorded changes of a cluster",
            json(history),
            READS,
        ),
        route(
            "get",
            "/namespaces/{namespace}/clusters/{name}/plan",
            "getPlan",
            "What a change would do, as kubectl pgscale plan",
            json(plan),
            PLAN,
        ),
        route(
            "patch",
            "/namespaces/{namespace}/clusters/{name}/scale",
            "scale",
            "Change the count of instances",
            started(),
            SCALE,
        ),
        route(
            "get",
            "/operations",
            "listOperations",
            "The changes that were begun here",
            json(listed),
            &[401, 502, 503, 504],
        ),
        route("get", "/operations/{id}", "getOperation", "One change", json(operation), READS),
        route(
            "get",
            "/operations/{id}/events",
            "followOperation",
            "The lines of a change as they come; the last event is its end",
            Content::Text("text/event-stream"),
            READS,
        ),
    ]
}

fn document() -> Value {
    let settings = SchemaSettings::draft2020_12()
        .for_serialize()
        .with(|settings| settings.definitions_path = "/components/schemas".into());
    let mut generator = settings.into_generator();
    let routes = routes(&mut generator);
    let ask = generator.subschema_for::<Ask>().to_value();
    let problem = generator.subschema_for::<Parts>().to_value();
    // Not referred to: the data of each event.
    generator.subschema_for::<Event>();
    let mut paths: Map<String, Value> = Map::new();
    for route in routes {
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        path[route.method] = described(&route, &ask, &problem);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "kubectl pgscale serve",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Scale PostgreSQL clusters of the Zalando postgres-operator as planned, verified acts.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": generator.take_definitions(true),
            "securitySchemes": {"token": {
                "type": "http", "scheme": "bearer",
                "description": "A token of the Kubernetes API server, with --pass-token.",
            }},
        },
    })
}

fn described(route: &Route, ask: &Value, problem: &Value) -> Value {
    let problem = json!({"application/problem+json": {"schema": problem}});
    let mut responses = Map::new();
    let mut add = |status: u16, description: &str, content: Value| {
        responses
            .insert(status.to_string(), json!({"description": description, "content": content}));
    };
    match &route.answer {
        Content::Json(schema) => add(200, "Read", json!({"application/json": {"schema": schema}})),
        Content::Started(schema) => {
            let content = json!({"application/json": {"schema": schema}});
            add(200, "The count is there already", content.clone());
            add(202, "The change has begun", content);
        }
        Content::Text(kind) => add(200, "Read", json!({*kind: {"schema": {"type": "string"}}})),
    }
    for status in route.statuses {
        add(*status, why(*status), problem.clone());
    }
    let mut parameters: Vec<Value> = Vec::new();
    for name in ["namespace", "name", "id"] {
        if route.path.contains(&format!("{{{name}}}")) {
            parameters.push(json!({
                "name": name, "in": "path", "required": true, "schema": {"type": "string"},
            }));
        }
    }
    if route.id == "getPlan" {
        parameters.push(json!({
            "name": "to", "in": "query", "required": true, "description": "Instances to plan for",
            "schema": {"type": "integer", "minimum": 0, "maximum": i32::MAX},
        }));
    }
    if route.id == "followOperation" {
        parameters.push(json!({
            "name": "Last-Event-ID", "in": "header", "description": "The last event that was seen",
            "schema": {"type": "integer", "minimum": 0},
        }));
    }
    let mut described = json!({
        "operationId": route.id, "summary": route.summary, "responses": responses,
    });
    if !parameters.is_empty() {
        described["parameters"] = Value::Array(parameters);
    }
    if matches!(route.answer, Content::Started(_)) {
        let content = json!({"schema": ask});
        described["requestBody"] =
            json!({"required": true, "content": {"application/json": content}});
    }
    // With --pass-token; without it, nothing is asked for.
    if route.statuses.contains(&401) {
        described["security"] = json!([{"token": []}, {}]);
    }
    described
}

/// Returns what a status means here.
fn why(status: u16) -> &'static str {
    match status {
        400 => "No count, or no count that can be",
        401 => "No token, or one that the API server does not accept",
        403 => "Not permitted, refused by rules, or from another origin",
        404 => "Not there",
        408 => "The body did not come in time",
        409 => "Another operation works on the cluster, or the plan is another one by now",
        413 => "The body is too large",
        415 => "The body is not application/json",
        422 => "A field is not as it should be",
        429 => "Too many operations at a time",
        502 => "The API server, or a part of the cluster, could not be read",
        503 => "Too many requests at a time, or the server is about to stop",
        504 => "No answer in time",
        _ => "Failed",
    }
}

#[test]
fn the_description_is_that_of_the_types() {
    let text = serde_json::to_string_pretty(&document()).unwrap() + "\n";
    generated::check(FILE, &text, |stored, wanted| {
        let value = |text| serde_json::from_str::<Value>(text).ok();
        value(stored) == value(wanted)
    });
}

#[test]
fn every_route_is_described_and_nothing_else() {
    let document = document();
    let paths = document["paths"].as_object().unwrap();
    let described: BTreeSet<(&str, &str)> = paths
        .iter()
        .flat_map(|(path, methods)| {
            methods.as_object().unwrap().keys().map(move |method| (method.as_str(), path.as_str()))
        })
        .collect();
    assert_eq!(described, BTreeSet::from(ROUTES));
}

#[test]
fn answers_of_the_description_are_schemas() {
    let document = document();
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        // References lead out of it: the whole document is the place to look them up.
        let mut whole = schema.clone();
        whole["components"] = document["components"].clone();
        assert!(jsonschema::meta::is_valid(&whole), "{name}");
    }
    assert!(document["components"]["schemas"].get("Problem").is_some());
}
