//! The server on a real socket.

use std::sync::atomic::Ordering;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::AsyncWriteExt as _;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;

use self::peers::{HERE, Options, SOON, answered, ask, closed, last_words, open, running, until};
use super::*;
use crate::certs::tests::{issue, write};

mod certificates;
mod peers;

#[tokio::test]
async fn every_peer_is_answered_until_the_server_stops() {
    let mut server = running(Options::default()).await;
    let mut early = server.connect().await.unwrap();
    let text = ask(&mut early).await;
    assert!(text.starts_with("HTTP/1.1 200 OK"), "{text}");
    assert!(!text.contains("connection: close"), "{text}");
    let mut idle = server.connect().await.unwrap();
    ask(&mut idle).await;

    server.phase.send_replace(Phase::Draining);
    // A late peer is still served, and is asked to open another connection next time.
    let mut late = server.connect().await.unwrap();
    for stream in [&mut early, &mut late] {
        let text = ask(stream).await;
        assert!(text.contains("connection: close"), "{text}");
        assert!(closed(stream).await);
    }
    assert!(!server.task.is_finished(), "still accepting");

    server.phase.send_replace(Phase::Stopping);
    assert!(closed(&mut idle).await, "an idle connection delays nothing");
    timeout(SOON, &mut server.task).await.unwrap().unwrap();
    assert!(server.connect().await.is_err(), "the socket is closed");
}

#[tokio::test]
async fn new_certificate_serves_new_connections_and_closes_old_ones_after_an_answer() {
    let mut server = running(Options::default()).await;
    let mut old = server.connect().await.unwrap();
    ask(&mut old).await;
    server.issued = issue();
    write(server.directory.path(), &server.issued);
    assert!(server.certificates.replace(server.files.offer().unwrap()).unwrap());

    let mut new = server.connect().await.expect("trusts the new certificate only");
    assert!(!ask(&mut new).await.contains("connection: close"));
    assert!(ask(&mut old).await.contains("connection: close"));
}

#[tokio::test]
async fn silent_peer_is_dropped() {
    let limits = Limits {
        handshake: Duration::from_millis(50),
        first_request: Duration::from_millis(50),
        ..Limits::default()
    };
    let server = running(Options { limits, ..Options::default() }).await;
    let mut before_tls = TcpStream::connect(server.address).await.unwrap();
    assert!(closed(&mut before_tls).await, "no handshake");
    let limits = Limits { handshake: SOON, ..limits };
    let server = running(Options { limits, ..Options::default() }).await;
    let mut after_tls = server.connect().await.unwrap();
    after_tls.write_all(b"GET / HT").await.unwrap();
    assert!(closed(&mut after_tls).await, "no whole request");
}

#[tokio::test]
async fn connection_waits_while_every_place_has_a_request_in_flight() {
    let server = running(Options { connections: 1, ..Options::default() }).await;
    let mut first = server.ask_slowly(HERE).await;
    assert!(server.limiter.reviews.is_full());
    let mut second = pin!(server.connect());
    let turn = timeout(Duration::from_millis(100), second.as_mut()).await;
    assert!(turn.is_err(), "the only place is taken");
    server.answers.add_permits(1);
    answered(&mut first).await;
    ask(&mut timeout(SOON, second).await.unwrap().unwrap()).await;
    assert!(closed(&mut first).await, "its place was taken after its answer");
}

#[tokio::test]
async fn idlest_connection_is_evicted() {
    let server = running(Options { connections: 4, ..Options::default() }).await;
    let mut busy = server.ask_slowly(HERE).await;
    let mut idle = Vec::new();
    for from in [2, 3, 4] {
        let mut stream = server.connect_from(from).await.unwrap();
        ask(&mut stream).await;
        idle.push(stream);
    }
    // The first of them was asked last.
    ask(&mut idle[0]).await;
    let mut new = server.connect_from(5).await.unwrap();
    assert!(closed(&mut idle[1]).await);
    ask(&mut new).await;
    assert!(open(&mut idle[0]).await && open(&mut idle[2]).await);
    assert!(open(&mut busy).await, "its request is in flight");
    assert!(!server.limiter.reviews.is_full());
    server.answers.add_permits(1);
    answered(&mut busy).await;
}

#[tokio::test]
async fn one_address_cannot_lock_the_others_out() {
    let server = running(Options { connections: 16, ..Options::default() }).await;
    // It may have 14 of 16, and more of them wait.
    let mut greedy = Vec::new();
    for _ in 0..14 {
        greedy.push(server.ask_slowly(HERE).await);
    }
    let mut waiting = Vec::new();
    for _ in 0..20 {
        waiting.push(server.tcp(HERE).await.unwrap());
    }
    for _ in 0..5 {
        ask(&mut server.connect_from(2).await.unwrap()).await;
    }
    let mut other = server.connect_from(2).await.unwrap();
    ask(&mut other).await;
    assert!(!server.limiter.reviews.is_full());
    for stream in &mut greedy {
        assert!(open(stream).await, "a request in flight is never cut off");
    }
    // Idle ones take each other's places.
    server.answers.add_permits(14);
    for stream in &mut greedy {
        answered(stream).await;
    }
    ask(&mut server.connect().await.unwrap()).await;
    assert!(open(&mut other).await);
}

#[tokio::test]
async fn headers_beyond_32_kib_are_refused() {
    for tls in [true, false] {
        let server = running(Options { tls, ..Options::default() }).await;
        let one_long = format!("x: {}\r\n", "a".repeat(HEADERS));
        let never_ending = "x: ".to_owned() + &"a".repeat(2 * HEADERS);
        let many = "a: b\r\n".repeat(101);
        for (name, headers) in [
            ("one long header", one_long + "\r\n"),
            ("a header without an end", never_ending),
            ("many headers", many + "\r\n"),
        ] {
            let request = format!("GET / HTTP/1.1\r\nhost: localhost\r\n{headers}");
            let words = if tls {
                let mut stream = server.connect().await.unwrap();
                // The server may close the connection before it has read everything.
                _ = stream.write_all(request.as_bytes()).await;
                last_words(&mut stream).await
            } else {
                let mut stream = server.tcp(HERE).await.unwrap();
                _ = stream.write_all(request.as_bytes()).await;
                last_words(&mut stream).await
            };
            assert!(words.is_empty() || words.starts_with("HTTP/1.1 431 "), "{name}: {words}");
            assert!(!words.contains("here"), "{name}: {words}");
        }
        let fits = format!("x: {}\r\n\r\n", "a".repeat(HEADERS - 1024));
        let request = format!("GET / HTTP/1.1\r\nhost: localhost\r\n{fits}");
        if tls {
            let mut stream = server.connect().await.unwrap();
            stream.write_all(request.as_bytes()).await.unwrap();
            answered(&mut stream).await;
        }
    }
}

/// Returns a request for `/eat` whose body has these bytes, without the body.
fn eat(bytes: usize) -> Vec<u8> {
    let head = "POST /eat HTTP/1.1\r\nhost: localhost\r\ncontent-length: ";
    format!("{head}{bytes}\r\n\r\n").into_bytes()
}

/// Any process in the network can send them. A body is read only from a peer that knows the path.
#[tokio::test]
async fn headers_without_an_end_delay_no_review() {
    // None is given up: a review that waits for them is never answered.
    let grace = Duration::from_secs(3600);
    let room = RoomLimits { most: 256 << 10, share: 192 << 10, grace };
    let server = running(Options { room, ..Options::default() }).await;
    let mut strangers = Vec::new();
    for at in 0..40 {
        let mut stream = server.connect_from(2 + at % 2).await.unwrap();
        strangers.push(tokio::spawn(async move {
            let head = format!("GET / HTTP/1.1\r\nx: {}", "a".repeat(30 << 10));
            _ = stream.write_all(head.as_bytes()).await;
            last_words(&mut stream).await
        }));
    }
    until(async || server.limiter.room.used() >= 40 * (6 << 10)).await;
    for _ in 0..3 {
        // A client of Go sends headers and the beginning of the body in one piece.
        let mut review = server.connect_from(9).await.unwrap();
        let mut first = eat(20 << 10);
        let sent = (4 << 10) - first.len();
        first.resize(4 << 10, b'a');
        review.write_all(&first).await.unwrap();
        review.write_all(&vec![b'a'; (20 << 10) - sent]).await.unwrap();
        timeout(SOON, answered(&mut review)).await.unwrap();
    }
    strangers.iter().for_each(JoinHandle::abort);
    assert!(server.limiter.room.used() <= 64 * (10 << 10), "{}", server.limiter.room.used());
}

#[tokio::test]
async fn unfinished_bodies_hold_no_memory() {
    const BODY: usize = 1 << 20;
    let grace = Duration::from_millis(200);
    let room = RoomLimits { most: 2 * BODY, share: BODY, grace };
    let server = running(Options { room, ..Options::default() }).await;
    // Twenty bodies of 1 MiB that lack their last byte, where one address may have 1 MiB.
    let mut unfinished = Vec::new();
    for _ in 0..20 {
        let mut stream = server.connect().await.unwrap();
        stream.write_all(&eat(BODY)).await.unwrap();
        unfinished.push(tokio::spawn(async move {
            _ = stream.write_all(&vec![b'a'; BODY - 1]).await;
            last_words(&mut stream).await
        }));
    }
    until(async || server.limiter.room.used() >= BODY).await;
    // Another address has room beside them.
    let mut other = server.connect_from(2).await.unwrap();
    other.write_all(&eat(BODY)).await.unwrap();
    other.write_all(&vec![b'b'; BODY]).await.unwrap();
    answered(&mut other).await;
    let most = room.most + BODY + 20 * 2 * HEADERS;
    assert!(server.limiter.room.used() <= most, "{} bytes", server.limiter.room.used());
    // The same address waits for them no longer than their grace, one after the other.
    let mut same = server.connect().await.unwrap();
    same.write_all(&eat(BODY / 2)).await.unwrap();
    same.write_all(&vec![b'c'; BODY / 2]).await.unwrap();
    answered(&mut same).await;
    let given_up = unfinished.iter().filter(|body| body.is_finished()).count();
    assert!(given_up > 0, "none was given up");
    // Whole bodies, however many at a time, are all answered.
    drop((other, same));
    unfinished.iter().for_each(JoinHandle::abort);
    until(async || server.limiter.room.used() == 0).await;
    let before = server.eaten.load(Ordering::Relaxed);
    let mut whole = Vec::new();
    for _ in 0..8 {
        let mut stream = server.connect().await.unwrap();
        whole.push(async move {
            stream.write_all(&eat(BODY)).await.unwrap();
            stream.write_all(&vec![b'd'; BODY]).await.unwrap();
            answered(&mut stream).await
        });
    }
    futures::future::join_all(whole).await;
    assert_eq!(server.eaten.load(Ordering::Relaxed) - before, 8 * BODY);
    assert_eq!(server.limiter.room.used(), 0, "everything is given back");
}

#[tokio::test]
async fn request_without_an_end_is_cut_off_in_time() {
    let limits = Limits { request: Duration::from_millis(100), ..Limits::default() };
    let server = running(Options { limits, ..Options::default() }).await;
    let mut stream = server.connect().await.unwrap();
    stream.write_all(&eat(100)).await.unwrap();
    assert!(closed(&mut stream).await);
    until(async || server.limiter.reviews.len() == 0).await;
}

#[tokio::test]
async fn metrics_port_is_bounded() {
    let server = running(Options { tls: false, connections: 8, ..Options::default() }).await;
    let mut first = server.tcp(2).await.unwrap();
    ask(&mut first).await;
    let mut idle = Vec::new();
    for _ in 0..100 {
        idle.push(server.tcp(HERE).await.unwrap());
    }
    until(async || server.limiter.probes.len() == 8).await;
    let mut still_open = 0;
    for stream in &mut idle {
        still_open += usize::from(open(stream).await);
    }
    assert_eq!(still_open, 7, "one address has its share, and the newest keep it");
    assert!(open(&mut first).await, "the place of another address");
    ask(&mut server.tcp(3).await.unwrap()).await;

    let limits = Limits {
        first_request: Duration::from_millis(50),
        next_request: Duration::from_millis(50),
        ..Limits::default()
    };
    let server = running(Options { tls: false, limits, ..Options::default() }).await;
    let mut silent = server.tcp(HERE).await.unwrap();
    assert!(closed(&mut silent).await, "no request");
    let mut idle = server.tcp(HERE).await.unwrap();
    ask(&mut idle).await;
    assert!(closed(&mut idle).await, "no second request");
}

#[tokio::test]
async fn no_new_connection_is_lost_while_leaving() {
    let mut server = running(Options::default()).await;
    server.phase.send_replace(Phase::Draining);
    for _ in 0..30 {
        let mut stream = server.connect().await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]), "no HTTP/2");
        assert!(ask(&mut stream).await.contains("connection: close"));
        assert!(closed(&mut stream).await);
    }
    // A request that has begun, connections without one, and connections that only the kernel has
    // accepted: this test runs on one thread, and the server has not run since they came.
    let mut begun = server.ask_slowly(HERE).await;
    let mut new = Vec::new();
    for _ in 0..15 {
        new.push(server.connect().await.unwrap());
    }
    let queued: Vec<_> =
        (0..15).map(|_| std::net::TcpStream::connect(server.address).unwrap()).collect();
    server.phase.send_replace(Phase::Stopping);
    for stream in &mut new {
        assert!(ask(stream).await.contains("connection: close"));
    }
    for stream in queued {
        stream.set_nonblocking(true).unwrap();
        let mut roots = RootCertStore::empty();
        let certificate = CertificateDer::from_pem_slice(server.issued.0.as_bytes()).unwrap();
        roots.add(certificate).unwrap();
        let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let name = ServerName::try_from("localhost").unwrap();
        let stream = TcpStream::from_std(stream).unwrap();
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
        assert!(ask(&mut stream.unwrap()).await.contains("connection: close"));
    }
    server.answers.add_permits(1);
    answered(&mut begun).await;
    timeout(SOON, &mut server.task).await.unwrap().unwrap();
}
