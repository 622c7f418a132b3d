//! Replicas with an API server in memory.

use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::*;
use crate::certs::Source;
use crate::metrics::Metrics;

mod fake;

use fake::{Shared, api_server, client};

const SEEN: SignedDuration = SignedDuration::from_mins(10);

/// One replica, with what it serves.
struct Replica {
    source: Source,
    certificates: Arc<Certificates>,
    caller: Arc<Caller>,
}

fn replica(api_server: &Shared) -> Replica {
    named(api_server, "pgscale-webhook.ns.svc")
}

fn named(api_server: &Shared, name: &str) -> Replica {
    with(api_server, Some(vec![name.to_owned()]), Timestamp::now)
}

fn with(api_server: &Shared, names: Option<Vec<String>>, clock: fn() -> Timestamp) -> Replica {
    let place = ("ns".to_owned(), "kept".to_owned());
    let kept = Kept::new(client(api_server), place, names, true, Duration::from_secs(10));
    Replica {
        source: Source { kept: Some(Kept { clock, ..kept }), ..Source::default() },
        certificates: Certificates::none(),
        caller: Caller::authenticated(),
    }
}

impl Replica {
    async fn look(&self) -> Result<bool> {
        self.source.look(&self.certificates, &self.caller).await
    }

    fn leaf(&self) -> Leaf {
        self.source.kept.as_ref().unwrap().leaf().expect("a certificate is in use")
    }

    fn ready(&self) -> Result<(), String> {
        self.certificates.ready()
    }

    /// Checks that an API server that reads the registration now reaches it.
    fn ensure_reached(&self, api_server: &Shared) {
        let (bundle, path) = api_server.lock().unwrap().published();
        assert!(bundle.contains(&self.leaf().authority), "not trusted");
        assert!(self.caller.knows(&path), "{path} is not answered");
    }
}

/// Behind one address there are often three API servers, and a connection leads to one of them by chance.
#[tokio::test]
async fn wrong_clock_of_one_api_server_takes_no_replica_away() {
    const DAYS: SignedDuration = SignedDuration::from_hours(24 * 61);
    let [wrong, right] = [api_server(), api_server()];
    wrong.lock().unwrap().ahead = DAYS;
    for (others, ready) in [(vec![&wrong, &right], true), (vec![&wrong], false), (vec![], false)] {
        let replica = replica(&wrong);
        let clients: Vec<_> = others.into_iter().map(client).collect();
        let asked = std::sync::atomic::AtomicUsize::new(0);
        let connect = move || {
            let at = asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            clients.get(at % clients.len().max(1)).cloned().context("there is no other")
        };
        let Source { kept, .. } = replica.source;
        let source =
            Source { kept: kept.map(|kept| kept.with_others(connect)), ..Source::default() };
        let replica = Replica { source, ..replica };
        assert_eq!(replica.look().await.is_ok(), ready);
        assert_eq!(replica.ready().is_ok(), ready);
        let certificate = replica.source.kept.as_ref().unwrap().leaf();
        assert_eq!(certificate.is_some(), ready, "a certificate is made by the right time");
    }
    assert_eq!(right.lock().unwrap().written, 0, "it is only asked for the time");
}

#[tokio::test]
async fn empty_secret_is_filled_and_published_once() {
    let api_server = api_server();
    let replica = replica(&api_server);
    assert!(replica.ready().is_err(), "not looked at yet");
    assert!(replica.look().await.unwrap());
    assert_eq!(api_server.lock().unwrap().written, 2);
    let (bundle, path) = api_server.lock().unwrap().published();
    assert_eq!(bundle, api_server.lock().unwrap().stored(AUTHORITIES));
    let token = path.strip_prefix("/validate/").unwrap();
    assert!(api_server.lock().unwrap().stored(PATHS).starts_with(token));
    assert!(!replica.caller.knows("/validate"));
    assert_eq!(replica.ready(), Ok(()));
    assert!(!replica.look().await.unwrap());
    assert_eq!(api_server.lock().unwrap().written, 2, "nothing was due");
    let secret = api_server.lock().unwrap().secret.clone().unwrap();
    assert!(secret["data"].as_object().unwrap().keys().eq([AUTHORITIES, AUTHORITY_KEYS, PATHS]));
}

#[tokio::test]
async fn shared_certificate_of_an_earlier_version_is_removed_with_the_next_write() {
    let api_server = api_server();
    let old = ByteString(b"old".to_vec());
    let data = json!({"tls.crt": old, "tls.key": old, "mine": old});
    api_server.lock().unwrap().secret.as_mut().unwrap()["data"] = data;
    replica(&api_server).look().await.unwrap();
    let secret = api_server.lock().unwrap().secret.clone().unwrap();
    let keys: Vec<_> = secret["data"].as_object().unwrap().keys().cloned().collect();
    assert_eq!(keys, [AUTHORITIES, AUTHORITY_KEYS, "mine", PATHS]);
}

#[tokio::test]
async fn replicas_that_start_together_share_authorities_and_path() {
    let api_server = api_server();
    let replicas: Vec<_> = (0..4).map(|_| replica(&api_server)).collect();
    let looks = replicas.iter().map(Replica::look);
    for looked in futures::future::join_all(looks).await {
        looked.unwrap();
    }
    for replica in &replicas {
        replica.ensure_reached(&api_server);
        assert_eq!(replica.ready(), Ok(()));
    }
    let keys: std::collections::BTreeSet<_> = replicas.iter().map(|it| it.leaf().key).collect();
    assert_eq!(keys.len(), 4, "each has a key of its own, which nothing stores");
}

#[tokio::test]
async fn conflict_is_read_again_until_the_attempts_are_used_up() {
    let api_server = api_server();
    api_server.lock().unwrap().overtaken = 3;
    replica(&api_server).look().await.unwrap();
    api_server.lock().unwrap().secret.as_mut().unwrap()["data"] = Value::Null;
    api_server.lock().unwrap().overtaken = ATTEMPTS;
    let error = replica(&api_server).look().await.err().unwrap();
    assert!(error.to_string().starts_with("other writers kept changing the Secret ns/kept"));
}

#[tokio::test]
async fn leaf_of_a_wrong_clock_is_never_published() {
    const DAYS: SignedDuration = SignedDuration::from_hours(61 * 24);
    let clocks: [fn() -> Timestamp; 2] = [|| Timestamp::now() + DAYS, || Timestamp::now() - DAYS];
    for wrong in clocks {
        let api_server = api_server();
        let before = api_server.lock().unwrap().configuration.clone();
        let mut first = with(&api_server, Some(vec!["name.ns.svc".to_owned()]), wrong);
        let error = first.look().await.unwrap_err();
        assert!(error.is::<Clock>(), "{error:#}");
        assert_eq!(api_server.lock().unwrap().written, 0);
        assert_eq!(api_server.lock().unwrap().configuration, before);
        let why = first.ready().unwrap_err();
        assert!(why.contains("correct the clock"), "{why}");
        assert!(first.certificates.not_after().is_none(), "nothing was signed");

        // Beside a replica with a right clock it disturbs nothing.
        let right = replica(&api_server);
        right.look().await.unwrap();
        let (published, written) = {
            let server = api_server.lock().unwrap();
            (server.published(), server.written)
        };
        first.look().await.unwrap_err();
        assert_eq!(api_server.lock().unwrap().published(), published);
        assert_eq!(api_server.lock().unwrap().written, written);

        // Its clock is corrected, and goes wrong again while it serves.
        first.source.kept.as_mut().unwrap().clock = Timestamp::now;
        first.look().await.unwrap();
        assert_eq!(first.ready(), Ok(()));
        let leaf = first.leaf();
        first.source.kept.as_mut().unwrap().clock = wrong;
        first.look().await.unwrap_err();
        assert!(first.ready().is_err());
        assert_eq!(first.leaf().certificate, leaf.certificate, "it signs nothing by that clock");
    }
}

#[tokio::test]
async fn leaf_and_authority_that_are_not_valid_yet_are_mended() {
    let api_server = api_server();
    // All clocks, that of the API server too, were wrong when they were made.
    let days = SignedDuration::from_hours(61 * 24);
    api_server.lock().unwrap().ahead = days;
    let ahead = || Timestamp::now() + SignedDuration::from_hours(61 * 24);
    let mut replica = with(&api_server, Some(vec!["name.ns.svc".to_owned()]), ahead);
    replica.look().await.unwrap();
    assert!(replica.ready().unwrap_err().starts_with("not valid before"));
    api_server.lock().unwrap().ahead = SignedDuration::ZERO;
    replica.source.kept.as_mut().unwrap().clock = Timestamp::now;
    assert!(replica.look().await.unwrap(), "signed again");
    assert_eq!(replica.ready(), Ok(()));
    replica.ensure_reached(&api_server);
}

#[tokio::test(start_paused = true)]
async fn start_without_an_api_server_serves_as_soon_as_it_is_there() {
    let api_server = api_server();
    api_server.lock().unwrap().away = true;
    let Replica { source, certificates, caller } = replica(&api_server);
    let period = Duration::from_secs(10);
    let (metrics, own) = (Arc::new(Metrics::new()), Arc::clone(&certificates));
    let task = tokio::spawn(own.keep_fresh(source, Arc::clone(&caller), period, metrics));
    tokio::time::sleep(period * 30).await;
    assert!(!task.is_finished(), "it waits inside the process");
    let why = certificates.ready().unwrap_err();
    assert!(why.contains("failed to read the Secret ns/kept"), "{why}");

    api_server.lock().unwrap().away = false;
    tokio::time::sleep(period).await;
    assert_eq!(certificates.ready(), Ok(()));
    let (_, path) = api_server.lock().unwrap().published();
    assert!(caller.knows(&path));

    // Away again, it serves with what it holds.
    api_server.lock().unwrap().away = true;
    tokio::time::sleep(period * 30).await;
    assert_eq!(certificates.ready(), Ok(()));
    assert!(caller.knows(&path));
    task.abort();
}

#[tokio::test]
async fn deleted_secret_is_created_again() {
    let api_server = api_server();
    api_server.lock().unwrap().secret = None;
    let replicas = [replica(&api_server), replica(&api_server)];
    for looked in futures::future::join_all(replicas.iter().map(Replica::look)).await {
        looked.unwrap();
    }
    let (old, path) = api_server.lock().unwrap().published();
    assert_eq!(old, api_server.lock().unwrap().stored(AUTHORITIES));

    // And while they serve.
    api_server.lock().unwrap().secret = None;
    for replica in &replicas {
        assert!(!replica.look().await.unwrap(), "the certificate in use is still trusted");
        replica.ensure_reached(&api_server);
        assert_eq!(replica.ready(), Ok(()));
    }
    let (bundle, now) = api_server.lock().unwrap().published();
    assert!(bundle.contains(&old) && bundle.len() > old.len(), "held and published");
    assert_eq!(now, path, "others do not know the new one yet");
    assert_eq!(api_server.lock().unwrap().secret.as_ref().unwrap()["type"], "Opaque");
}

#[tokio::test]
async fn emptied_secret_drops_no_published_authority() {
    let api_server = api_server();
    let replicas = [replica(&api_server), replica(&api_server)];
    for replica in &replicas {
        replica.look().await.unwrap();
    }
    let (old, path) = api_server.lock().unwrap().published();
    for contents in [Value::Null, json!({}), json!({"ca.crt": ByteString(b"half a c".to_vec())})] {
        api_server.lock().unwrap().secret.as_mut().unwrap()["data"] = contents;
        replicas[0].look().await.unwrap();
        let (bundle, now) = api_server.lock().unwrap().published();
        assert!(bundle.contains(&old), "the others serve under it");
        assert_eq!(now, path, "and answer this path alone");
        for replica in &replicas {
            replica.ensure_reached(&api_server);
        }
        // One that starts now knows everything that is in use.
        let started = replica(&api_server);
        started.look().await.unwrap();
        started.ensure_reached(&api_server);
        assert_eq!(started.ready(), Ok(()));
        replicas[1].look().await.unwrap();
    }
    // The new authority signs when every API server has seen it.
    api_server.lock().unwrap().elapse(SEEN);
    let later: fn() -> Timestamp = || Timestamp::now() + SignedDuration::from_mins(10);
    let [mut one, _] = replicas;
    one.source.kept.as_mut().unwrap().clock = later;
    assert!(one.look().await.unwrap());
    assert!(!old.contains(&one.leaf().authority));
    one.ensure_reached(&api_server);
    // By then a person can take the old one out.
    api_server.lock().unwrap().wipe(0);
    api_server.lock().unwrap().wipe(1);
    one.look().await.unwrap();
    one.ensure_reached(&api_server);
    assert!(!api_server.lock().unwrap().published().0.contains(&old));
}

#[tokio::test]
async fn two_server_names_do_not_fight() {
    let api_server = api_server();
    let replicas = [named(&api_server, "old.ns.svc"), named(&api_server, "new.ns.svc")];
    for replica in &replicas {
        assert!(replica.look().await.unwrap());
    }
    let written = api_server.lock().unwrap().written;
    for _ in 0..10 {
        for replica in &replicas {
            assert!(!replica.look().await.unwrap(), "no new certificate");
            replica.ensure_reached(&api_server);
            let certificate = replica.leaf().certificate;
            let der = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
            let names = &replica.source.kept.as_ref().unwrap().server_names;
            let name = names.as_ref().unwrap()[0].as_bytes();
            assert!(der.windows(name.len()).any(|part| part == name));
        }
    }
    assert_eq!(api_server.lock().unwrap().written, written, "nothing was written");
}

#[tokio::test]
async fn rotated_path_is_accepted_on_all_replicas() {
    let minutes = |minutes| SignedDuration::from_mins(minutes);
    let clocks: [fn() -> Timestamp; 3] = [
        Timestamp::now,
        || Timestamp::now() + SignedDuration::from_mins(2),
        || Timestamp::now() + SignedDuration::from_mins(14),
    ];
    let api_server = api_server();
    let mut replicas = [replica(&api_server), replica(&api_server)];
    for replica in &replicas {
        replica.look().await.unwrap();
    }
    let (_, old) = api_server.lock().unwrap().published();
    // A person rotates the path.
    let secret = &mut api_server.lock().unwrap().secret.clone().unwrap();
    secret["data"].as_object_mut().unwrap().remove(PATHS);
    api_server.lock().unwrap().secret = Some(secret.clone());
    replicas[0].look().await.unwrap();
    assert_eq!(api_server.lock().unwrap().published().1, old, "the second one does not know yet");
    replicas[1].look().await.unwrap();

    for (clock, passed) in clocks.into_iter().zip([0, 2, 14]).skip(1) {
        api_server.lock().unwrap().ahead = minutes(passed);
        for at in [0, 1] {
            replicas[at].source.kept.as_mut().unwrap().clock = clock;
            replicas[at].look().await.unwrap();
            // After each step, every replica answers what the registration has.
            for replica in &replicas {
                replica.ensure_reached(&api_server);
            }
            if passed == 2 {
                assert!(replicas.iter().all(|it| it.caller.knows(&old)), "reviews on their way");
            }
        }
        assert_ne!(api_server.lock().unwrap().published().1, old);
    }
    assert!(replicas.iter().all(|it| !it.caller.knows(&old)), "for a while only");
}

#[tokio::test]
async fn wiped_entry_is_published_again_without_a_moment_of_not_ready() {
    let api_server = api_server();
    let replica = replica(&api_server);
    replica.look().await.unwrap();
    let published = api_server.lock().unwrap().published();
    for at in [0, 1] {
        api_server.lock().unwrap().wipe(at);
        replica.look().await.unwrap();
        assert_eq!(api_server.lock().unwrap().published(), published);
        assert_eq!(replica.ready(), Ok(()));
    }
    // Both at once: the certificate in use says which authority is missing.
    api_server.lock().unwrap().wipe(0);
    api_server.lock().unwrap().wipe(1);
    api_server.lock().unwrap().secret = None;
    replica.look().await.unwrap();
    replica.ensure_reached(&api_server);
}

#[tokio::test]
async fn registration_that_does_not_lead_here_is_not_ready() {
    let api_server = api_server();
    let replica = replica(&api_server);
    replica.look().await.unwrap();
    api_server.lock().unwrap().refuses = vec!["registration"];
    let good = api_server.lock().unwrap().configuration.clone();
    for (change, says) in [("caBundle", "does not trust"), ("path", "no path")] {
        let mut other = good.clone().unwrap();
        let config = &mut other["webhooks"][1]["clientConfig"];
        match change {
            "path" => config["service"]["path"] = json!("/validate"),
            key => drop(config.as_object_mut().unwrap().remove(key)),
        }
        api_server.lock().unwrap().configuration = Some(other);
        let error = format!("{:#}", replica.look().await.unwrap_err());
        assert!(error.starts_with("failed to write the webhook's registration"), "{error}");
        let why = replica.ready().unwrap_err();
        assert!(why.contains("the entry grow.pgscale.dev") && why.contains(says), "{why}");
    }
    // Not writable, and right as it is.
    api_server.lock().unwrap().configuration = good;
    replica.look().await.unwrap();
    assert_eq!(replica.ready(), Ok(()));

    let written = api_server.lock().unwrap().written;
    api_server.lock().unwrap().configuration = None;
    replica.look().await.unwrap();
    assert_eq!(api_server.lock().unwrap().written, written, "it is not made again");
    assert_eq!(replica.ready().unwrap_err(), "the registration pgscale.dev does not exist");
}

#[tokio::test]
async fn path_that_may_not_be_written_keeps_no_authority_from_being_published() {
    let api_server = api_server();
    api_server.lock().unwrap().refuses = vec!["path"];
    let mut replica = replica(&api_server);
    let error = format!("{:#}", replica.look().await.unwrap_err());
    assert!(error.starts_with("failed to write the webhook's registration"), "{error}");
    let (bundle, path) = api_server.lock().unwrap().published();
    assert!(bundle.contains(&replica.leaf().authority) && path.is_empty());
    let why = replica.ready().unwrap_err();
    assert!(why.contains("no path that is answered here"), "{why}");

    // A person gives both the path.
    let token = "0123456789abcdef0123456789abcdef";
    replica.source.kept.as_mut().unwrap().own_path = false;
    replica.caller.accept(vec![token.to_owned()]);
    for at in [0, 1] {
        let mut server = api_server.lock().unwrap();
        let entry = &mut server.configuration.as_mut().unwrap()["webhooks"][at];
        entry["clientConfig"]["service"]["path"] = json!(registration::path(token));
    }
    replica.look().await.unwrap();
    replica.ensure_reached(&api_server);
    assert_eq!(replica.ready(), Ok(()));
    assert!(!replica.caller.knows("/validate"));
}

#[tokio::test]
async fn secret_that_cannot_be_written_takes_nothing_out_of_service() {
    let api_server = api_server();
    let running = replica(&api_server);
    running.look().await.unwrap();
    let published = api_server.lock().unwrap().published();
    api_server.lock().unwrap().refuses = vec!["secret"];
    for gone in [false, true] {
        if gone {
            api_server.lock().unwrap().secret = None;
        } else {
            api_server.lock().unwrap().secret.as_mut().unwrap()["data"] = Value::Null;
        }
        let error = format!("{:#}", running.look().await.unwrap_err());
        assert!(error.starts_with("failed to write the Secret ns/kept"), "{error}");
        assert_eq!(api_server.lock().unwrap().published(), published);
        assert_eq!(running.ready(), Ok(()), "it serves with what it holds");
        let started = replica(&api_server);
        started.look().await.unwrap_err();
        assert!(started.ready().is_err(), "nothing is held");
    }
}

#[tokio::test]
async fn mounted_certificate_has_a_path_and_keeps_the_bundle_of_another_program() {
    let api_server = api_server();
    let bundle = ByteString(b"of cert-manager".to_vec());
    for at in [0, 1] {
        let mut server = api_server.lock().unwrap();
        let entry = &mut server.configuration.as_mut().unwrap()["webhooks"][at];
        entry["clientConfig"]["caBundle"] = json!(bundle);
    }
    let replica = with(&api_server, None, Timestamp::now);
    replica.look().await.unwrap();
    let (trusted, path) = api_server.lock().unwrap().published();
    assert_eq!(trusted, "of cert-manager");
    assert!(replica.caller.knows(&path));
    let secret = api_server.lock().unwrap().secret.clone().unwrap();
    assert!(secret["data"].as_object().unwrap().keys().eq([PATHS]), "no authority is made");
}
