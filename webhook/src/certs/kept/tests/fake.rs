//! An API server in memory: a Secret and a registration, with the conflicts, dates and refusals of a
//! real one.

use std::sync::{Arc, Mutex};

use axum::http::{Method, Request, Response};
use k8s_openapi::ByteString;
use k8s_openapi::jiff::fmt::rfc2822::DateTimePrinter;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};

/// A Secret and a registration as an API server keeps them: a patch made from another version than
/// the present one is a conflict.
pub(super) struct FakeApiServer {
    pub(super) secret: Option<Value>,
    pub(super) configuration: Option<Value>,
    /// The number of writes that will be in conflict with another writer.
    pub(super) overtaken: usize,
    /// The number of writes that were stored.
    pub(super) written: usize,
    /// The kinds of objects whose writes are refused, or "path" for those that write a path.
    pub(super) refuses: Vec<&'static str>,
    /// The time of the server, beside that of the machine.
    pub(super) ahead: SignedDuration,
    pub(super) away: bool,
}

pub(super) type Shared = Arc<Mutex<FakeApiServer>>;

pub(super) fn api_server() -> Shared {
    let entry = |name: &str| {
        json!({"name": name, "admissionReviewVersions": ["v1"], "sideEffects": "None",
            "clientConfig": {"service": {"namespace": "ns", "name": "pgscale-webhook"}}})
    };
    Arc::new(Mutex::new(FakeApiServer {
        secret: Some(json!({"metadata": {"name": "kept", "resourceVersion": "1"}})),
        configuration: Some(json!({
            "metadata": {"name": "pgscale.dev", "resourceVersion": "1"},
            "webhooks": [entry("shrink.pgscale.dev"), entry("grow.pgscale.dev")],
        })),
        overtaken: 0,
        written: 0,
        refuses: vec![],
        ahead: SignedDuration::ZERO,
        away: false,
    }))
}

pub(super) fn client(api_server: &Shared) -> Client {
    let api_server = Arc::clone(api_server);
    let service = tower::service_fn(move |request: Request<Body>| {
        let api_server = Arc::clone(&api_server);
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect_bytes().await.unwrap();
            let mut server = api_server.lock().unwrap();
            if server.away {
                return Err(std::io::Error::from(std::io::ErrorKind::ConnectionRefused));
            }
            let (status, answer) = server.answer(&head.method, head.uri.path(), &body);
            let date = DateTimePrinter::new()
                .timestamp_to_rfc9110_string(&(Timestamp::now() + server.ahead))
                .unwrap();
            let response = Response::builder().status(status).header("date", date);
            Ok(response.body(Body::from(answer.to_string().into_bytes())).unwrap())
        }
    });
    Client::new(service, "default")
}

impl FakeApiServer {
    fn answer(&mut self, method: &Method, path: &str, body: &[u8]) -> (u16, Value) {
        let status = |code: u16, reason: &str| {
            (
                code,
                json!({"kind": "Status", "apiVersion": "v1", "status": "Failure",
                "message": reason, "reason": reason, "code": code}),
            )
        };
        let kind = if path.contains("/secrets") { "secret" } else { "registration" };
        if *method != Method::GET && self.refuses.contains(&kind) {
            return status(403, "Forbidden");
        }
        if self.refuses.contains(&"path") && String::from_utf8_lossy(body).contains("\"path\"") {
            return status(403, "Forbidden");
        }
        let object = if kind == "secret" { &mut self.secret } else { &mut self.configuration };
        let change: Value = serde_json::from_slice(body).unwrap_or_default();
        if *method == Method::POST {
            if object.is_some() {
                return status(409, "AlreadyExists");
            }
            self.written += 1;
            let mut made = change;
            made["metadata"]["resourceVersion"] = json!("1");
            *object = Some(made.clone());
            return (201, made);
        }
        let Some(object) = object else { return status(404, "NotFound") };
        if *method == Method::GET {
            return (200, object.clone());
        }
        let version: u64 = object["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();
        if self.overtaken > 0 {
            self.overtaken -= 1;
            object["metadata"]["resourceVersion"] = json!((version + 1).to_string());
            return status(409, "Conflict");
        }
        if change["metadata"]["resourceVersion"] != *version.to_string() {
            return status(409, "Conflict");
        }
        self.written += 1;
        object["metadata"]["resourceVersion"] = json!((version + 1).to_string());
        for (key, value) in change["data"].as_object().into_iter().flatten() {
            if value.is_null() {
                object["data"].as_object_mut().unwrap().remove(key);
            } else {
                object["data"][key] = value.clone();
            }
        }
        for entry in change["webhooks"].as_array().into_iter().flatten() {
            let mut stored = object["webhooks"].as_array_mut().unwrap().iter_mut();
            let stored = stored.find(|stored| stored["name"] == entry["name"]).unwrap();
            let (stored, new) = (&mut stored["clientConfig"], &entry["clientConfig"]);
            if new.get("caBundle").is_some() {
                stored["caBundle"] = new["caBundle"].clone();
            }
            if new.get("service").is_some() {
                stored["service"]["path"] = new["service"]["path"].clone();
            }
        }
        (200, object.clone())
    }

    /// Returns bundle and path that both entries have.
    pub(super) fn published(&self) -> (String, String) {
        let entry = |at: usize| {
            let config = &self.configuration.as_ref().unwrap()["webhooks"][at]["clientConfig"];
            assert_eq!(config["service"]["name"], "pgscale-webhook", "the rest stays");
            let path = config["service"]["path"].as_str().unwrap_or_default().to_owned();
            (text(&config["caBundle"]), path)
        };
        assert_eq!(entry(0), entry(1));
        entry(0)
    }

    pub(super) fn stored(&self, key: &str) -> String {
        text(&self.secret.as_ref().unwrap()["data"][key])
    }

    /// Removes bundle and path of one entry, as a forced replace of the chart's object would.
    pub(super) fn wipe(&mut self, at: usize) {
        let entry = &mut self.configuration.as_mut().unwrap()["webhooks"][at];
        entry["clientConfig"] = json!({"service": {"namespace": "ns", "name": "pgscale-webhook"}});
    }

    /// Dates everything that is kept back, as if `age` had passed.
    pub(super) fn elapse(&mut self, age: SignedDuration) {
        self.ahead += age;
    }
}

pub(super) fn text(bytes: &Value) -> String {
    let bytes: Option<ByteString> = serde_json::from_value(bytes.clone()).unwrap();
    String::from_utf8(bytes.map(|ByteString(bytes)| bytes).unwrap_or_default()).unwrap()
}
