//! The pages in a headless Chromium, driven over the WebDriver protocol, before a server with canned
//! answers.

use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::super::*;
use super::{status, stranger_plan};

/// What a stranger would like to run.
const ATTACK: &str = "\"><img src=x onerror=\"window.broken=1\"><script>window.broken=1</script>";

/// Sends one request and returns the body of the answer.
async fn ask(port: u16, method: &str, path: &str, body: &Value) -> String {
    let body = if method == "GET" { String::new() } else { body.to_string() };
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost:{port}\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    read_message(&mut stream).await.1
}

/// Returns the head and the body of a message, as long as its head says.
async fn read_message(stream: &mut TcpStream) -> (String, String) {
    let mut all = Vec::new();
    loop {
        let mut part = [0; 4096];
        let count = stream.read(&mut part).await.unwrap_or(0);
        all.extend_from_slice(&part[..count]);
        let text = String::from_utf8_lossy(&all).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| {
                line.to_lowercase().strip_prefix("content-length:")?.trim().parse::<usize>().ok()
            });
            if body.len() >= length.unwrap_or(0) || count == 0 {
                return (head.to_owned(), body.to_owned());
            }
        }
        if count == 0 {
            return (text, String::new());
        }
    }
}

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
                good.verdict = super::super::model::Health::Healthy;
                good.reasons.clear();
                let items = vec![good, one(), status(ATTACK, "DOWN")];
                fleet(&Fleet { items, budgets: vec![], unread: vec![] })
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
                metadata: super::super::model::Metadata {
                    namespace: "db".to_owned(),
                    name: "acid-a".to_owned(),
                },
                title: "Run 2 instead of 3".to_owned(),
                lines: vec![],
                ended: false,
            }),
            "/operations/7/events" => {
                let line = |kind: &str, seq: u64, text: &str| {
                    let data = json!({"seq": seq, "at": format!("2026-11-24T12:00:0{seq}Z"), "text": text});
                    format!("id: {seq}\nevent: {kind}\ndata: {data}\n\n")
                };
                let all = line("progress", 1, "The leader is acid-a-1.")
                    + &line("progress", 1, "The leader is acid-a-1.")
                    + &line("progress", 2, ATTACK)
                    + &line("end", 3, "Converged: 2 members.");
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
                let mut answer =
                    format!("HTTP/1.1 {status} X\r\nConnection: close\r\nContent-Type: {kind}\r\n");
                for (name, value) in HEADERS {
                    answer += &format!("{name}: {value}\r\n");
                }
                answer += &format!("Content-Length: {}\r\n\r\n{body}", body.len());
                stream.write_all(answer.as_bytes()).await.ok();
            });
        }
    });
    port
}

/// A browser, which ends with the value.
struct Browser {
    driver: Child,
    port: u16,
    session: String,
}

impl Drop for Browser {
    fn drop(&mut self) {
        self.driver.kill().ok();
        self.driver.wait().ok();
    }
}

impl Browser {
    async fn open(script: bool) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let driver = Command::new("chromedriver")
            .arg(format!("--port={port}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("no browser: apt-get install -y chromium chromium-driver");
        let mut browser = Self { driver, port, session: String::new() };
        for _ in 0..100 {
            if TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let scripts = if script { 1 } else { 2 };
        let wanted = json!({"capabilities": {"alwaysMatch": {"browserName": "chrome",
            "goog:loggingPrefs": {"browser": "ALL"},
            "goog:chromeOptions": {
                "args": ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"],
                "prefs": {"profile.managed_default_content_settings.javascript": scripts}}}}});
        let said = ask(port, "POST", "/session", &wanted).await;
        let said: Value = serde_json::from_str(&said).expect(&said);
        browser.session = said["value"]["sessionId"].as_str().expect("a session").to_owned();
        browser
    }

    async fn give(&self, path: &str, body: Value) -> Value {
        let path = format!("/session/{}/{path}", self.session);
        let said = ask(self.port, "POST", &path, &body).await;
        serde_json::from_str::<Value>(&said).expect(&said)["value"].take()
    }

    async fn go(&self, port: u16, path: &str) {
        self.give("url", json!({"url": format!("http://127.0.0.1:{port}{path}")})).await;
    }

    /// Returns the value of an expression of the page.
    async fn see(&self, expression: &str) -> Value {
        let script = format!("return {expression}");
        self.give("execute/sync", json!({"script": script, "args": []})).await
    }

    /// Waits until an expression holds, 20 s at most.
    async fn until(&self, expression: &str) {
        for _ in 0..100 {
            if self.see(expression).await == json!(true) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        panic!("never: {expression}: {}", self.see("document.body.innerText").await);
    }

    /// Writes a picture where `PGSCALE_PICTURES` names a directory, narrow and wide.
    async fn picture(&self, name: &str) {
        let Ok(directory) = std::env::var("PGSCALE_PICTURES") else { return };
        for (width, scheme) in [(1280, "light"), (390, "dark")] {
            let cdp = |cmd: &str, params: Value| json!({"cmd": cmd, "params": params});
            let metrics = json!({"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600});
            self.give("goog/cdp/execute", cdp("Emulation.setDeviceMetricsOverride", metrics)).await;
            let media = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
            self.give("goog/cdp/execute", cdp("Emulation.setEmulatedMedia", media)).await;
            let shot = json!({"captureBeyondViewport": true, "format": "png"});
            let shot = self.give("goog/cdp/execute", cdp("Page.captureScreenshot", shot)).await;
            std::fs::write(
                format!("{directory}/{name}-{width}.b64"),
                shot["data"].as_str().unwrap(),
            )
            .unwrap();
            let wide = self.see("document.documentElement.scrollWidth > innerWidth").await;
            assert_eq!(wide, json!(false), "{name} at {width} scrolls to the side");
        }
    }

    /// Checks that no attack ran and nothing was blocked by the policy.
    async fn is_clean(&self) {
        assert_eq!(self.see("window.broken === undefined").await, json!(true));
        let log = self.give("se/log", json!({"type": "browser"})).await.to_string();
        assert!(!log.contains("Content Security Policy"), "{log}");
    }
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
        .until("document.getElementById('progress')?.textContent.startsWith('Ended') === true")
        .await;
    let lines = browser.see("document.querySelectorAll('#timeline li').length").await;
    assert_eq!(lines, json!(3), "a line that is repeated is shown once");
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
