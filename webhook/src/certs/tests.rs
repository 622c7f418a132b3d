//! The pair in use, and the files that it comes from.

use std::os::unix::fs::symlink;
use std::path::Path;

use rcgen::{CertificateParams, CertifiedKey as Issued, KeyPair, date_time_ymd};
use tempfile::TempDir;

use super::*;

/// Returns a self-signed pair for `localhost`, PEM.
pub(crate) fn issue() -> (String, String) {
    let Issued { cert, signing_key } =
        rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    (cert.pem(), signing_key.serialize_pem())
}

/// Writes a pair to `directory`.
pub(crate) fn write(directory: &Path, (certificate, key): &(String, String)) -> Files {
    let files = Files { certificate: directory.join("tls.crt"), key: directory.join("tls.key") };
    fs::write(&files.certificate, certificate).unwrap();
    fs::write(&files.key, key).unwrap();
    files
}

/// Takes the pair in `files` into use.
pub(crate) fn load(files: &Files) -> Arc<Certificates> {
    let certificates = Certificates::none();
    certificates.replace(files.offer().unwrap()).unwrap();
    certificates.reached(Ok(()));
    certificates
}

fn served(certificates: &Certificates) -> Vec<u8> {
    certificates.pair().unwrap().certified.cert[0].to_vec()
}

#[test]
fn new_pair_replaces_the_old_one() {
    let directory = TempDir::new().unwrap();
    let files = write(directory.path(), &issue());
    let certificates = load(&files);
    let before = served(&certificates);
    assert!(!certificates.replace(files.offer().unwrap()).unwrap(), "nothing changed");
    write(directory.path(), &issue());
    assert!(certificates.replace(files.offer().unwrap()).unwrap());
    assert_ne!(served(&certificates), before);
    assert_eq!(certificates.generation(), 1);
}

#[test]
fn half_a_rotation_keeps_the_last_good_pair() {
    let directory = TempDir::new().unwrap();
    let files = write(directory.path(), &issue());
    let certificates = load(&files);
    let reload = || certificates.replace(files.offer().unwrap());
    let before = served(&certificates);
    let next = issue();

    fs::write(&files.certificate, &next.0).unwrap();
    let error = reload().unwrap_err();
    assert!(matches!(error, Unusable::NotAPair { .. }), "{error}");
    assert_eq!(served(&certificates), before);

    fs::write(&files.key, "half a wr").unwrap();
    assert!(matches!(reload().unwrap_err(), Unusable::NotPem { .. }));
    fs::write(&files.certificate, "").unwrap();
    assert!(matches!(reload().unwrap_err(), Unusable::NotPem { .. }));
    fs::remove_file(&files.key).unwrap();
    assert!(files.offer().is_err());
    assert_eq!((served(&certificates), certificates.generation()), (before, 0));

    write(directory.path(), &next);
    assert!(reload().unwrap(), "the other half is there");
}

#[test]
fn swapped_directory_of_a_mounted_secret_is_noticed() {
    let mount = TempDir::new().unwrap();
    let version = |name: &str| {
        let directory = mount.path().join(name);
        fs::create_dir(&directory).unwrap();
        write(&directory, &issue());
        symlink(name, mount.path().join("..data.new")).unwrap();
        fs::rename(mount.path().join("..data.new"), mount.path().join("..data")).unwrap();
    };
    version("..1");
    for file in ["tls.crt", "tls.key"] {
        symlink(Path::new("..data").join(file), mount.path().join(file)).unwrap();
    }
    let files =
        Files { certificate: mount.path().join("tls.crt"), key: mount.path().join("tls.key") };
    let certificates = load(&files);
    let before = served(&certificates);
    version("..2");
    assert!(certificates.replace(files.offer().unwrap()).unwrap());
    assert_ne!(served(&certificates), before);
}

#[test]
fn ended_pair_never_replaces_a_valid_one() {
    let directory = TempDir::new().unwrap();
    let certificates = load(&write(directory.path(), &issue()));
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2021, 1, 1);
    let ended = (params.self_signed(&key).unwrap().pem(), key.serialize_pem());

    let files = write(directory.path(), &ended);
    let error = certificates.replace(files.offer().unwrap()).unwrap_err();
    assert!(error.to_string().contains("ended at 2021-01-01T00:00:00Z"), "{error}");
    assert!(certificates.ready().is_ok());

    let started = load(&files);
    let why = started.ready().unwrap_err();
    assert_eq!(why, "ended at 2021-01-01T00:00:00Z", "at the start an ended one is served");
}

#[test]
fn pair_that_is_not_valid_yet_never_replaces_a_valid_one() {
    let directory = TempDir::new().unwrap();
    let certificates = load(&write(directory.path(), &issue()));
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.not_before = date_time_ymd(2400, 1, 1);
    params.not_after = date_time_ymd(2401, 1, 1);
    let early = (params.self_signed(&key).unwrap().pem(), key.serialize_pem());

    let files = write(directory.path(), &early);
    let error = certificates.replace(files.offer().unwrap()).unwrap_err();
    assert!(error.to_string().contains("not valid before 2400-01-01"), "{error}");
    assert!(certificates.ready().is_ok());
    let started = load(&files);
    assert_eq!(started.ready().unwrap_err(), "not valid before 2400-01-01T00:00:00Z");
    write(directory.path(), &issue());
    assert!(started.replace(files.offer().unwrap()).unwrap(), "mended");
    assert!(started.ready().is_ok());
}

#[tokio::test(start_paused = true)]
async fn files_that_are_missing_at_the_start_are_served_as_soon_as_they_are_there() {
    let directory = TempDir::new().unwrap();
    let files = Files {
        certificate: directory.path().join("tls.crt"),
        key: directory.path().join("tls.key"),
    };
    let (certificates, caller) = (Certificates::none(), Caller::unauthenticated());
    let source = Source { files: Some(files), ..Source::default() };
    let period = Duration::from_secs(10);
    let fresh =
        Arc::clone(&certificates).keep_fresh(source, caller, period, Arc::new(Metrics::new()));
    let task = tokio::spawn(fresh);
    tokio::time::sleep(period * 6).await;
    let why = certificates.ready().unwrap_err();
    assert!(why.contains("failed to read") && why.contains("tls.crt"), "{why}");
    write(directory.path(), &issue());
    tokio::time::sleep(period).await;
    assert!(certificates.ready().is_ok());
    task.abort();
}

#[tokio::test]
async fn replica_without_its_given_path_is_not_ready() {
    let directory = TempDir::new().unwrap();
    let files = write(directory.path(), &issue());
    let file = directory.path().join("path");
    let path_file = Some(file.clone());
    let source = Source { files: Some(files), path_file, ..Source::default() };
    let (certificates, caller) = (Certificates::none(), Caller::authenticated());
    source.look(&certificates, &caller).await.unwrap_err();
    let why = certificates.ready().unwrap_err();
    assert!(why.contains("failed to read") && why.contains("path"), "{why}");

    let token = "a".repeat(40);
    fs::write(&file, &token).unwrap();
    source.look(&certificates, &caller).await.unwrap();
    assert!(certificates.ready().is_ok() && caller.knows(&format!("/validate/{token}")));
    // What is known stays known while the file is being replaced.
    fs::remove_file(&file).unwrap();
    source.look(&certificates, &caller).await.unwrap_err();
    assert!(certificates.ready().is_ok() && caller.knows(&format!("/validate/{token}")));
}

#[test]
fn file_of_paths_holds_one_or_more_that_cannot_be_guessed() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("path");
    let (one, other) = ("a".repeat(32), "b".repeat(64));
    for (text, tokens) in [
        (format!("{one}\n"), Some(vec![one.clone()])),
        (format!("{one}\n{other}"), Some(vec![one.clone(), other])),
        (String::new(), None),
        ("short".to_owned(), None),
        (format!("{one}\nshort\n"), None),
    ] {
        fs::write(&file, &text).unwrap();
        assert_eq!(read_tokens(&file).ok(), tokens, "{text:?}");
    }
}

#[test]
fn repeated_problem_is_recognized_by_its_kind() {
    let directory = TempDir::new().unwrap();
    let files = write(directory.path(), &issue());
    let certificates = load(&files);
    let problem = || {
        let replaced = files.offer().and_then(|offer| Ok(certificates.replace(offer)?));
        Problem::of(&replaced.unwrap_err())
    };
    fs::write(&files.key, "half a wr").unwrap();
    let place = files.key.display().to_string();
    assert_eq!(problem(), Problem::NotPem(place));
    fs::write(&files.key, issue().1).unwrap();
    assert_eq!(problem(), Problem::NotAPair);
    fs::remove_file(&files.certificate).unwrap();
    assert_eq!(problem(), Problem::File(io::ErrorKind::NotFound));
    let conflict = kube::core::Status::failure("conflict", "Conflict").with_code(409);
    let error = anyhow::Error::from(kube::Error::Api(Box::new(conflict)));
    assert_eq!(Problem::of(&error.context("failed to write")), Problem::Api(409));
}
