//! Requests that are not as they should be: each has the one shape of failures, and changes nothing.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn bad_requests_get_a_clear_answer_and_change_nothing() {
    let world = World::new(3, 0);
    let server = Server::of(&world).await;
    let json = ("Content-Type", "application/json");
    let five = "{\"replicas\": 5}";
    let large = format!("{{\"reason\": \"{}\"}}", "x".repeat(super::super::body::MOST));
    for (method, path, headers, body, status) in [
        ("PATCH", SCALE, &[json][..], "{}", 400),
        ("PATCH", SCALE, &[json], "{\"replicas\": 0}", 400),
        ("PATCH", SCALE, &[json], "{\"replicas\": 1e3}", 400),
        ("PATCH", SCALE, &[json], "{\"replicas\": 5, \"x\": 1}", 422),
        ("PATCH", SCALE, &[], five, 415),
        ("PATCH", SCALE, &[("Content-Type", "text/plain")], five, 415),
        ("PATCH", SCALE, &[json], &large, 413),
        ("PATCH", SCALE, &[json, ("Origin", "http://evil.test")], five, 403),
        ("PATCH", SCALE, &[json, ("Sec-Fetch-Site", "cross-site")], five, 403),
        ("PATCH", SCALE, &[json, ("Host", "evil.test")], five, 403),
        ("GET", "/clusters", &[("Host", "evil.test")], "", 403),
        ("POST", SCALE, &[json], five, 405),
        ("GET", SCALE, &[], "", 405),
        ("DELETE", "/operations/x", &[], "", 405),
        ("GET", "/nothing", &[], "", 404),
        ("GET", "/operations/x", &[], "", 404),
        ("GET", "/operations/x/events", &[], "", 404),
        ("GET", "/namespaces/db/clusters/nothing", &[], "", 404),
        ("PATCH", "/namespaces/db/clusters/nothing/scale", &[json], five, 404),
        ("PATCH", "/namespaces/db/clusters/-o/scale", &[json], five, 404),
        ("PATCH", "/namespaces/..%2F..%2Fdb/clusters/acid-a/scale", &[json], five, 404),
        ("PATCH", "/namespaces/db/clusters/%ff/scale", &[json], five, 400),
        ("PATCH", "/ha-clusters/acid%20-n%20x/scale", &[json], five, 404),
        ("GET", "/namespaces/db/clusters/acid-a/plan", &[], "", 400),
        ("GET", "/namespaces/db/clusters/acid-a/plan?to=x", &[], "", 400),
        ("GET", "/namespaces/db/clusters/acid-a/plan?to=-1", &[], "", 400),
        ("GET", "/namespaces/db/clusters/acid-a/plan?to=4&to=5", &[], "", 400),
    ] {
        let got = server.ask(method, path, headers, body).await;
        assert_eq!(got.status, status, "{method} {path} {body}: {got:?}");
        let answer = got.json();
        assert_eq!(
            (&answer["success"], &answer["status"]),
            (&serde_json::json!(false), &serde_json::json!(status)),
            "{method} {path}"
        );
        assert!(answer["message"].as_str().is_some_and(|it| it.len() > 5), "{answer}");
        assert!(got.head.contains("application/problem+json"), "{}", got.head);
        assert!(got.head.to_ascii_lowercase().contains("x-content-type-options: nosniff"));
    }
    assert_eq!((world.declared(), world.writes().len()), (3, 0));
    assert!(server.app.operations.all().is_empty());
    let got = server.ask("GET", SCALE, &[], "").await;
    assert!(got.head.to_ascii_lowercase().contains("allow: patch"), "{}", got.head);
}

fn quick() -> Limits {
    Limits { connections: 2, headers: Duration::from_millis(200), ..Limits::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_are_bounded_in_bytes_and_in_time() {
    let server = Server::with(&World::new(3, 0), |_| {}, quick()).await;
    let flood = format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: {}", "x".repeat(64 << 10));
    assert_eq!(server.raw(flood.as_bytes()).await.status, 431);
    // It ends, and nothing was answered.
    let got = server.raw(b"GET /healthz HTTP/1.1\r\nHost: ").await;
    assert!(matches!(got.status, 0 | 408), "{got:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_ask_nothing_lose_their_place() {
    let server = Server::with(&World::new(3, 0), |_| {}, quick()).await;
    let mut idle = Vec::new();
    for _ in 0..8 {
        idle.push(TcpStream::connect(server.address).await.unwrap());
    }
    // It waits behind them, two at a time.
    assert_eq!(server.get("/healthz").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn body_that_does_not_come_is_not_waited_for() {
    let world = World::new(3, 0);
    let server = Server::of(&world).await;
    let head = format!(
        "PATCH {SCALE} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: \
         application/json\r\nContent-Length: 15\r\n\r\n{{\"rep"
    );
    let got = server.raw(head.as_bytes()).await;
    assert_eq!((got.status, world.declared()), (408, 3), "{got:?}");
}
