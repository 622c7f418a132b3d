use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::{Request, Response};
use kube::client::Body;

use super::*;

const PATH: &str = "/apis/pgscale.dev/v1alpha1/namespaces/db/scalepolicies";
const ROOT: &str = "/apis/pgscale.dev/v1alpha1/scalepolicies";
const QUICK: Duration = Duration::from_millis(10);

/// An API server that answers each request with what it held when the request began.
#[derive(Clone)]
struct Server(Arc<Mutex<State>>);

struct State {
    holds: String,
    status: u16,
    slow: Duration,
    asked: usize,
}

impl Server {
    fn new(holds: &str) -> Self {
        let holds = holds.to_owned();
        Self(Arc::new(Mutex::new(State { holds, status: 200, slow: QUICK, asked: 0 })))
    }

    fn edit(&self, edit: impl FnOnce(&mut State)) {
        edit(&mut locked(&self.0));
    }

    fn asked(&self) -> usize {
        locked(&self.0).asked
    }

    fn shared(&self) -> (Shared, Arc<AtomicUsize>) {
        let server = self.clone();
        let service = tower::service_fn(move |_: Request<Body>| {
            let server = server.clone();
            async move {
                let (status, holds, slow) = {
                    let mut state = locked(&server.0);
                    state.asked += 1;
                    (state.status, state.holds.clone(), state.slow)
                };
                tokio::time::sleep(slow).await;
                let answer = Response::builder().status(status);
                Ok::<_, Infallible>(answer.body(Body::from(holds.into_bytes())).unwrap())
            }
        });
        let joined = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&joined);
        let observe: Observe = Arc::new(move |how| {
            if how == Served::Shared {
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
        (Shared::new(Client::new(service, "default"), observe), joined)
    }
}

async fn read(sharing: &Sharing, lasting: bool) -> Result<String, String> {
    let request = Request::get(PATH).body(Vec::new()).unwrap();
    let answer = sharing.ask(request, lasting).await;
    answer.map(|text| text.as_str().to_owned()).map_err(|error| error.to_string())
}

/// Reads for a reader that arrives now.
async fn fresh(shared: &Shared, lasting: bool) -> Result<String, String> {
    read(&shared.aged(Age::Since(Moment::now())), lasting).await
}

fn known(shared: &Shared) -> usize {
    locked(&shared.0.table).requests.len()
}

#[tokio::test(start_paused = true)]
async fn readers_that_wait_together_share_one_request() {
    let server = Server::new("a");
    let (shared, joined) = server.shared();
    let readers = (0..100).map(|_| fresh(&shared, false));
    let read = futures::future::join_all(readers).await;
    assert!(read.iter().all(|text| text.as_deref() == Ok("a")));
    assert_eq!((server.asked(), joined.load(Ordering::Relaxed)), (1, 99));
    assert_eq!(known(&shared), 0, "nothing of a cluster stays");
}

#[tokio::test(start_paused = true)]
async fn request_that_began_before_a_reader_arrived_never_serves_it() {
    let server = Server::new("before");
    let (shared, _) = server.shared();
    let earlier = tokio::spawn({
        let shared = shared.clone();
        async move { fresh(&shared, true).await }
    });
    tokio::time::sleep(QUICK / 2).await;
    server.edit(|state| state.holds = "after".to_owned());
    assert_eq!(fresh(&shared, true).await.unwrap(), "after");
    assert_eq!(earlier.await.unwrap().unwrap(), "before");
    // Nor does an answer that is kept for others.
    server.edit(|state| state.holds = "later".to_owned());
    assert_eq!(fresh(&shared, true).await.unwrap(), "later");
}

#[tokio::test(start_paused = true)]
async fn reader_that_leaves_takes_nothing_from_the_others() {
    let server = Server::new("a");
    let (shared, _) = server.shared();
    let arrived = Moment::now();
    let first = shared.aged(Age::Since(arrived));
    let other = shared.aged(Age::Since(arrived));
    let (left, stayed) = tokio::join!(
        tokio::time::timeout(QUICK / 2, read(&first, false)),
        tokio::time::timeout(QUICK * 2, read(&other, false)),
    );
    assert!(left.is_err(), "the reader that asked has left");
    assert_eq!(stayed.unwrap().unwrap(), "a");
    assert_eq!(server.asked(), 1);
    // Without any reader the request ends.
    server.edit(|state| state.slow = Duration::from_secs(3600));
    let late = fresh(&shared, false);
    assert!(tokio::time::timeout(QUICK, late).await.is_err());
    tokio::task::yield_now().await;
    assert_eq!(known(&shared), 0);
}

#[tokio::test(start_paused = true)]
async fn request_has_a_deadline_of_its_own() {
    let server = Server::new("a");
    server.edit(|state| state.slow = Duration::from_secs(3600));
    let (shared, _) = server.shared();
    let start = Instant::now();
    let why = fresh(&shared, true).await.unwrap_err();
    assert!(why.contains("within 10s"), "{why}");
    assert_eq!(start.elapsed(), REQUEST_TIME);
    assert_eq!(known(&shared), 0);
}

#[tokio::test(start_paused = true)]
async fn error_reaches_those_that_wait_and_is_never_kept() {
    let server = Server::new("broken");
    server.edit(|state| state.status = 500);
    let (shared, _) = server.shared();
    let arrived = Moment::now();
    let readers: Vec<_> = (0..3).map(|_| shared.aged(Age::Since(arrived))).collect();
    let answers = futures::future::join_all(readers.iter().map(|it| read(it, true))).await;
    assert!(answers.iter().all(Result::is_err), "{answers:?}");
    assert_eq!(server.asked(), 1);
    server.edit(|state| {
        state.status = 200;
        state.holds = "mended".to_owned();
    });
    // The readers still hold the failed request, and a reader of any age asks again.
    assert_eq!(read(&readers[0].aged(Age::Recent), true).await.unwrap(), "mended");
}

#[tokio::test(start_paused = true)]
async fn lasting_answer_serves_others_for_a_second_and_no_longer() {
    let server = Server::new("old");
    let (shared, _) = server.shared();
    let recent = shared.aged(Age::Recent);
    assert_eq!(fresh(&shared, true).await.unwrap(), "old");
    assert_eq!(shared.kept_bytes(), 3);
    server.edit(|state| state.holds = "new".to_owned());
    tokio::time::sleep(LASTS.saturating_sub(QUICK * 2)).await;
    assert_eq!(read(&recent.aged(Age::Recent), true).await.unwrap(), "old");
    tokio::time::sleep(QUICK * 2).await;
    // The holder keeps the text until it ends, but its age serves no reader.
    assert_eq!(read(&recent, true).await.unwrap(), "new");
    drop(recent);
    tokio::time::sleep(LASTS * 2).await;
    assert_eq!(
        (shared.kept_bytes(), known(&shared)),
        (0, 0),
        "nothing stays while nothing is asked"
    );
    // That it does not exist is an answer as well.
    server.edit(|state| state.status = 404);
    assert!(fresh(&shared, true).await.is_err());
    let asked = server.asked();
    assert!(read(&shared.aged(Age::Recent), true).await.is_err());
    assert_eq!((server.asked(), shared.kept_bytes()), (asked, ABSENCE));
    server.edit(|state| state.status = 200);
    // What does not last serves only those that wait.
    assert_eq!(fresh(&shared, false).await.unwrap(), "new");
    let asked = server.asked();
    read(&shared.aged(Age::Recent), false).await.unwrap();
    assert_eq!(server.asked(), asked + 1);
}

#[tokio::test(start_paused = true)]
async fn kept_answers_are_bounded_in_bytes_and_requests_in_number() {
    let server = Server::new(&"x".repeat(MOST_BYTES / 8));
    let (shared, _) = server.shared();
    let ask = |namespace: usize| {
        let path = format!("/apis/pgscale.dev/v1alpha1/namespaces/n{namespace}/scalepolicies");
        let sharing = shared.aged(Age::Since(Moment::now()));
        async move { sharing.ask(Request::get(path).body(Vec::new()).unwrap(), true).await.is_ok() }
    };
    let answers = futures::future::join_all((0..100).map(ask)).await;
    assert!(answers.into_iter().all(|ok| ok));
    assert_eq!(shared.kept_bytes(), MOST_BYTES);
    server.edit(|state| state.holds = "x".repeat(MOST_BYTES_EACH + 1));
    tokio::time::sleep(LASTS * 2).await;
    assert!(ask(0).await, "one that is too large is read, and not kept");
    assert_eq!((shared.kept_bytes(), known(&shared)), (0, 0));
    server.edit(|state| state.holds = "x".to_owned());
    let answers = futures::future::join_all((0..MOST + 10).map(ask));
    let (answers, most) = tokio::join!(answers, async {
        tokio::time::sleep(QUICK / 2).await;
        known(&shared)
    });
    assert!(answers.into_iter().all(|ok| ok), "a reader for which there is no room asks alone");
    assert_eq!(most, MOST);
}

#[tokio::test(start_paused = true)]
async fn kept_answer_counts_as_unchanged_only_while_a_watch_says_so() {
    let server = Server::new("a");
    let (shared, _) = server.shared();
    let unchanged = async || {
        tokio::time::sleep(QUICK).await;
        let before = server.asked();
        read(&shared.aged(Age::Unchanged(Moment::now())), true).await.unwrap();
        server.asked() > before
    };
    assert!(unchanged().await);
    assert!(unchanged().await, "no watch: each reader needs a request that began after it arrived");
    shared.announced(ROOT);
    assert!(unchanged().await, "a change before the watch began was not announced");
    assert!(!unchanged().await);
    shared.changed("/api/v1/namespaces");
    assert!(!unchanged().await, "another resource");
    shared.changed(ROOT);
    assert!(unchanged().await, "it may be older than the change");
    assert!(!unchanged().await);
    tokio::time::sleep(LASTS).await;
    assert!(unchanged().await, "a watch alone does not say how old an answer is");
    shared.unannounced(ROOT);
    assert!(unchanged().await, "the watch has ended");
}

#[test]
fn resource_of_a_path_is_named_without_its_namespace() {
    for (path, want) in [
        (PATH, ROOT),
        (ROOT, ROOT),
        ("/api/v1/namespaces/db", "/api/v1/namespaces"),
        ("/api/v1/namespaces/db/pods", "/api/v1/pods"),
    ] {
        assert_eq!(root(path), want);
    }
}
