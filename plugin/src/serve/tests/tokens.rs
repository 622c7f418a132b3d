//! Requests in the name of others.

use super::*;

async fn server(world: &World) -> Server {
    Server::with(world, |app| app.passes_tokens = true, Limits::default()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn request_without_a_token_is_refused_before_anything_is_read() {
    let server = server(&World::new(3, 0)).await;
    for path in ["/clusters", "/operations", "/namespaces/db/clusters/acid-a", "/ha-clusters/acid"]
    {
        let got = server.get(path).await;
        assert_eq!(got.status, 401, "{path}: {got:?}");
        assert!(got.head.to_ascii_lowercase().contains("www-authenticate: bearer"));
    }
    let got = server.patch(SCALE, &json!({"replicas": 4})).await;
    assert_eq!(got.status, 401);
    assert!(server.tokens.lock().unwrap().is_empty());
    // What every probe may ask.
    assert_eq!(server.get("/healthz").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn act_runs_in_the_name_of_its_caller() {
    let world = World::new(3, 0);
    let server = server(&world).await;
    let headers = [
        ("Content-Type", "application/json"),
        ("Authorization", "Bearer of-alice"),
        ("Host", "api.pgscale-system.svc"),
    ];
    let got = server.ask("PATCH", SCALE, &headers, "{\"replicas\": 4}").await;
    assert_eq!(got.status, 202, "{got:?}");
    let path = got.json()["operation"]["events"].as_str().unwrap().to_owned();
    let events = server.ask("GET", &path, &headers[1..], "").await;
    assert!(events.body.contains("event: end"), "{events:?}");
    let tokens = server.tokens.lock().unwrap().clone();
    assert!(tokens.len() >= 3 && tokens.iter().all(|token| token == "of-alice"), "{tokens:?}");
    assert_eq!(world.declared(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn operations_of_clusters_that_a_caller_cannot_read_are_not_there() {
    let server = server(&World::new(3, 0)).await;
    let about = About { namespace: "db", name: "acid-a", from: 3, to: 4 };
    let act = server.app.operations.begin(&about, server_time, 1).unwrap();
    act.say("secret");
    let link = act.operation().link;
    for (token, status, items) in [("Bearer of-alice", 200, 1), ("Bearer stranger", 404, 0)] {
        let headers = [("Authorization", token)];
        let got = server.ask("GET", &link.href, &headers, "").await;
        assert_eq!(got.status, status, "{token}: {got:?}");
        let list = server.ask("GET", "/operations", &headers, "").await.json();
        assert_eq!(list["items"].as_array().unwrap().len(), items, "{token}: {list}");
    }
    act.end(&Ok(()), b"");
    let headers = [("Authorization", "Bearer stranger")];
    let got = server.ask("GET", &link.events, &headers, "").await;
    assert!(got.status == 404 && !got.body.contains("secret"), "{got:?}");
    let list = server.ask("GET", "/namespaces/db/clusters", &headers, "").await;
    assert_eq!(list.status, 403, "{list:?}");
}
