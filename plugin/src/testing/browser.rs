//! A headless Chromium, driven over the `WebDriver` protocol of the W3C.

use std::io::{Read as _, Write as _};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

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
pub(crate) async fn read_message(stream: &mut TcpStream) -> (String, String) {
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

/// A browser, which ends with the value.
pub(crate) struct Browser {
    driver: Child,
    port: u16,
    session: String,
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The driver leaves its browser running when it is killed.
        self.end().ok();
        self.driver.kill().ok();
        self.driver.wait().ok();
    }
}

impl Browser {
    /// Ends the browser, without an executor: also where a test fails.
    fn end(&self) -> std::io::Result<()> {
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let line = format!("DELETE /session/{} HTTP/1.1", self.session);
        let head = format!("{line}\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(head.as_bytes())?;
        stream.read_to_end(&mut Vec::new()).map(|_| ())
    }

    pub(crate) async fn open(script: bool) -> Self {
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

    pub(crate) async fn give(&self, path: &str, body: Value) -> Value {
        let path = format!("/session/{}/{path}", self.session);
        let said = ask(self.port, "POST", &path, &body).await;
        serde_json::from_str::<Value>(&said).expect(&said)["value"].take()
    }

    pub(crate) async fn go(&self, port: u16, path: &str) {
        self.give("url", json!({"url": format!("http://127.0.0.1:{port}{path}")})).await;
    }

    /// Returns the value of an expression of the page.
    pub(crate) async fn see(&self, expression: &str) -> Value {
        let script = format!("return {expression}");
        self.give("execute/sync", json!({"script": script, "args": []})).await
    }

    /// Waits until an expression holds, 20 s at most.
    pub(crate) async fn until(&self, expression: &str) {
        for _ in 0..100 {
            if self.see(expression).await == json!(true) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        panic!("never: {expression}: {}", self.see("document.body.innerText").await);
    }

    /// Writes a picture where `PGSCALE_PICTURES` names a directory, narrow and wide.
    pub(crate) async fn picture(&self, name: &str) {
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
    pub(crate) async fn is_clean(&self) {
        assert_eq!(self.see("window.broken === undefined").await, json!(true));
        let log = self.give("se/log", json!({"type": "browser"})).await.to_string();
        assert!(!log.contains("Content Security Policy"), "{log}");
    }
}
