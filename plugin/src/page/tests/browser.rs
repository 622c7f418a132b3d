//! The pages in a headless Chromium, driven over the `WebDriver` protocol, before a server with canned
//! answers.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;

use super::super::*;
use super::{status, stranger_plan};
use crate::testing::browser::{Browser, read_message};

/// What a stranger would like to run.
const ATTACK: &str = "\"><img src=x onerror=\"window.broken=1\"><script>window.broken=1</script>";

/// Answers as `serve` does, with canned documents.
struct Canned {
    looks: AtomicU64,
    sent: Mutex<Vec<(String, Value)>>,
}

impl Canned {
    fn status(&self) -> Value {
        let lag = self.looks.fetch_add(1, Ordering::Relaxed) * 70_000;
        json!({"metadata": {"namespace": "db", "name": "acid-a"}, "time": "2026-11-24T12:00:00Z",
            "verdict": "DEGRADED", "reasons": ["acid-a-2 lags"], "warnings": [], "declared": 3,
            "effective": 3, "running": 3, "healthyMembers": 2, "leader": "acid-a-0",
            "worstLagBytes": lag, "why": [],
            "members": [
                {"name": "acid-a-0", "role": "Leader", "state": "running", "health": "healthy",
                 "healthy": true, "lagBytes": null, "node": "node-1", "zone": "a"},
                {"name": "acid-a-1", "role": "Replica", "state": "streaming", "health": "healthy",
                 "healthy": true, "lagBytes": 4096, "node": "node-2", "zone": "b"},
                {"name": "acid-a-2", "role": "Replica", "state": "streaming", "healthy": false,
                 "health": "it lags", "lagBytes": lag, "node": "node-3", "zone": "c"}],
            "wouldSay": [
                {"to": 2, "by": "Command", "allowed": true, "rules": [], "leaderMovesTo": null, "message": null},
                {"to": 4, "by": "Command", "allowed": false, "rules": ["above-max"],
                 "leaderMovesTo": null, "message": "4 instances are more than 3."}]})
    }

    /// Returns status, type and body.
    fn answer(&self, request: &str, body: &str) -> (u16, &'static str, String) {
        let html = "text/html; charset=utf-8";
        let path = request.split(' ').nth(1).unwrap_or_default();
        if let Some(asset) = asset(path) {
            return (200, asset.content_type, asset.body.to_owned());
        }
        let one = || serde_json::from_value::<Status>(self.status()).unwrap();
        let page = match path {
            "/" => {
                let mut good = one();
                good.metadata.name = "fine".to_owned();
                good.verdict = model::Health::Healthy;
                good.reasons.clear();
                let items = vec![good, one(), status(ATTACK, "DOWN")];
                fleet(&Fleet { items, budgets: vec![] })
            }
            "/cluster/db/acid-a" => cluster(&one()),
            "/cluster/attack" => cluster(&status(ATTACK, "DOWN")),
            "/cluster/attack/plan" => plan(&stranger_plan(ATTACK, 2)),
            "/cluster/db/acid-a/plan?to=2" => {
                let text = json!({"metadata": {"namespace": "db", "name": "acid-a"}, "hash": "f00d",
                    "outcome": "Ready", "asked": 2, "from": 3, "to": 2, "leader": "acid-a-2",
                    "leaderMove": {"from": "acid-a-2", "to": "acid-a-1", "why": "acid-a-2 goes."},
                    "leaving": [{"pod": "acid-a-2", "role": "Leader", "claim": "pgdata-acid-a-2"}],
                    "coming": [], "unfit": {}, "otherWriters": [], "nearestAllowed": [],
                    "steps": [{"action": "Checkpoint", "member": "acid-a-2"},
                        {"action": "MoveLeader", "from": "acid-a-2", "to": "acid-a-1"},
                        {"action": "SetCount", "instances": 2}, {"action": "Converge", "instances": 2}],
                    "findings": [{"rule": "last-replica", "severity": "Warn", "remedy": null,
                        "message": "One replica is left."}]});
                plan(&serde_json::from_value(text).unwrap())
            }
            "/operation/7" => operation(&Operation {
                id: "7".to_owned(),
                metadata: Metadata { namespace: "db".to_owned(), name: "acid-a".to_owned() },
                title: "Run 2 instead of 3".to_owned(),
                lines: vec![],
                result: None,
                message: None,
                hints: vec![],
            }),
            "/operations/7/events" => {
                let line = |kind: &str, seq: u64, text: &str| {
                    let data = json!({"seq": seq, "at": format!("2026-11-24T12:00:0{seq}Z"), "text": text});
                    format!("id: {seq}\nevent: {kind}\ndata: {data}\n\n")
                };
                let all = line("progress", 1, "The leader is acid-a-1.")
                    + &line("progress", 1, "The leader is acid-a-1.")
                    + &line("progress", 2, ATTACK)
                    + &format!("event: end\ndata: {}\n\n", json!({"result": "Converged"}));
                return (200, "text/event-stream", all);
            }
            "/namespaces/db/clusters/acid-a" => {
                return (200, "application/json", self.status().to_string());
            }
            "/namespaces/db/clusters/acid-a/scale" => {
                let body = serde_json::from_str(body).unwrap_or_default();
                self.sent.lock().unwrap().push((request.to_owned(), body));
                let said = json!({"success": true, "message": "", "operation": {"id": "7"}});
                return (202, "application/json", said.to_string());
            }
            _ => return (404, html, failure(404, "Not found", path, &[]).into_string()),
        };
        (200, html, page.into_string())
    }
}

/// Serves canned answers until the test ends. Returns the port.
async fn serve(canned: Arc<Canned>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let canned = Arc::clone(&canned);
            tokio::spawn(async move {
                let (head, body) = read_message(&mut stream).await;
                let (status, kind, body) = canned.answer(head.lines().next().unwrap_or(""), &body);
                let headers = HEADERS.iter().map(|(name, value)| format!("{name}: {value}\r\n"));
                let headers = headers.collect::<Vec<_>>().concat();
                let answer = format!(
                    "HTTP/1.1 {status} X\r\nConnection: close\r\nContent-Type: {kind}\r\n{headers}\
                     Content-Length: {}\r\n\r\n{body}",
                    body.len()
                );
                stream.write_all(answer.as_bytes()).await.ok();
            });
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_shows_and_changes() {
    let canned = Arc::new(Canned { looks: AtomicU64::new(1), sent: Mutex::default() });
    let port = serve(Arc::clone(&canned)).await;
    let browser = Browser::open(true).await;

    browser.go(port, "/").await;
    let order =
        "[...document.querySelectorAll('.card > h2 .badge')].map((it) => it.textContent).join()";
    assert_eq!(browser.see(order).await, json!("Down,Degraded,Healthy"));
    browser.is_clean().await;
    browser.picture("fleet").await;
    for path in ["/cluster/attack", "/cluster/attack/plan"] {
        browser.go(port, path).await;
        browser.is_clean().await;
    }

    browser.go(port, "/cluster/db/acid-a").await;
    browser.until("Number(document.querySelector('#chart polyline')?.dataset.points) >= 3").await;
    assert_eq!(browser.see("document.querySelectorAll('#legend li').length").await, json!(2));
    browser.is_clean().await;
    browser.picture("cluster").await;

    browser.go(port, "/cluster/db/acid-a/plan?to=2").await;
    let says = browser.see("document.getElementById('send').textContent").await;
    assert_eq!(
        says,
        json!("Run 2 instead of 3: acid-a-2 goes; leader moves from acid-a-2 to acid-a-1")
    );
    browser.is_clean().await;
    browser.picture("plan").await;
    browser.see("document.getElementById('send').click()").await;
    browser
        .until("document.getElementById('progress')?.textContent.startsWith('Converged') === true")
        .await;
    let lines = browser.see("document.querySelectorAll('#timeline li').length").await;
    assert_eq!(lines, json!(2), "a line that is repeated is shown once");
    browser.is_clean().await;
    browser.picture("operation").await;

    let sent = canned.sent.lock().unwrap();
    assert_eq!(sent.len(), 1, "{sent:?}");
    assert!(sent[0].0.starts_with("PATCH "), "{sent:?}");
    assert_eq!(sent[0].1, json!({"replicas": 2, "expectPlan": "f00d"}));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_script_a_browser_reads() {
    let port = serve(Arc::new(Canned { looks: AtomicU64::new(1), sent: Mutex::default() })).await;
    let browser = Browser::open(false).await;
    browser.go(port, "/cluster/db/acid-a").await;
    let page = browser.see("document.body.innerText").await.to_string();
    assert!(page.contains("68.3 KiB") && page.contains("Reload the page"), "{page}");
    browser.go(port, "/cluster/db/acid-a/plan?to=2").await;
    assert_eq!(browser.see("document.getElementById('send').disabled").await, json!(true));
    let page = browser.see("document.body.innerText").await.to_string();
    assert!(page.contains("kubectl pgscale down acid-a --to 2 --expect-plan f00d -n db"), "{page}");
}
