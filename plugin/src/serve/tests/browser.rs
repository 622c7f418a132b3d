//! The pages of the real server, in a real browser.

use super::*;
use crate::testing::browser::Browser;

const SENT: &str = "document.getElementById('send')";

#[tokio::test(flavor = "multi_thread")]
async fn change_is_planned_sent_and_followed_in_a_browser() {
    let world = World::new(3, 2);
    let server = Server::of(&world).await;
    let (browser, port) = (Browser::open(true).await, server.address.port());

    browser.go(port, "/").await;
    assert_eq!(browser.see("document.querySelectorAll('.card').length").await, json!(1));
    browser.see("document.querySelector('.card a').click()").await;
    browser.until("document.getElementById('cluster') !== null").await;
    browser.until("Number(document.querySelector('#chart polyline')?.dataset.points) >= 2").await;
    let one_fewer = "document.querySelector('a[href=\"/cluster/db/acid-a/plan?to=2\"]')";
    browser.until(&format!("{one_fewer} !== null")).await;
    browser.see(&format!("{one_fewer}.click()")).await;
    browser.until(&format!("{SENT}?.disabled === false")).await;
    let says = browser.see(&format!("{SENT}.textContent")).await.to_string();
    assert!(
        says.contains("Run 2 instead of 3: acid-a-2 goes; leader moves from acid-a-2"),
        "{says}"
    );
    browser.picture("real-plan").await;
    browser.see(&format!("{SENT}.click()")).await;
    browser
        .until("document.getElementById('progress')?.textContent.startsWith('Converged') === true")
        .await;
    let timeline = browser.see("document.getElementById('timeline').innerText").await.to_string();
    assert!(timeline.contains("numberOfInstances is 2"), "{timeline}");
    browser.is_clean().await;
    browser.picture("real-operation").await;
    assert!(world.declared() == 2 && world.leader() < 2 && world.switchovers().len() == 1);

    // The page of an operation that has ended needs no script.
    let id = server.app.operations.all()[0].link.id.clone();
    let page = server.get(&format!("/operation/{id}")).await;
    assert!(
        page.body.contains("Converged") && page.body.contains("numberOfInstances is 2"),
        "{page:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_change_has_no_button_and_a_failure_is_a_page() {
    let world = World::new(3, 0).policy("small", &json!({"instances": {"max": 4}}));
    let server = Server::of(&world).await;
    let page = server.get("/cluster/db/acid-a/plan?to=9").await;
    assert_eq!(page.status, 200);
    assert!(page.body.contains("above-max") && !page.body.contains("id=\"send\""), "{page:?}");
    for (path, status) in
        [("/cluster/db/nothing", 404), ("/cluster/db/acid-a/plan?to=x", 400), ("/operation/x", 404)]
    {
        let page = server.get(path).await;
        let head = page.head.to_ascii_lowercase();
        assert_eq!(page.status, status, "{path}");
        assert!(
            head.contains("content-type: text/html") && page.body.contains("<main"),
            "{page:?}"
        );
        assert!(head.contains("script-src 'self'"), "{head}");
    }
    assert_eq!(server.get("/assets/app-0.js").await.status, 404);
    // Pages of another origin cannot read this one by a name of their own.
    let got = server.ask("GET", "/", &[("Host", "evil.test")], "").await;
    assert_eq!(got.status, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_ask_for_a_token_where_tokens_are_passed_on() {
    let shape = |app: &mut App| app.passes_tokens = true;
    let server = Server::with(&World::new(3, 0), shape, Limits::default()).await;
    for path in ["/", "/cluster/db/acid-a", "/operation/x"] {
        assert_eq!(server.get(path).await.status, 401, "{path}");
    }
}
