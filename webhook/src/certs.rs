//! The serving certificate: from mounted files, or from a Secret that the webhook keeps itself. It
//! is replaced while the webhook runs, and never by a worse one.
//!
//! The webhook polls files and compares them byte by byte. The kubelet swaps a mounted Secret by
//! renaming a symlink of its directory, which a watch on the file itself does not see. Between two
//! renames the certificate may be new and the key still old. The webhook refuses such a pair and
//! keeps the last good one.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use std::{fmt, fs, io};

use anyhow::{Context as _, Result};
use k8s_openapi::jiff::Timestamp;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::certs::pair::{Offer, Pair, Part, Unusable, pair};
use crate::certs::self_signed::SelfSigned;
use crate::metrics::Metrics;

mod authority;
mod pair;
pub(crate) mod self_signed;

/// The source of pairs.
pub(crate) enum Source {
    /// Another program writes them, and they are mounted.
    Files(Files),
    /// The webhook makes them itself.
    SelfSigned(Box<SelfSigned>),
}

/// The paths of a mounted pair.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    /// The certificate chain, PEM, with the server's own certificate first.
    pub(crate) certificate: PathBuf,
    /// Its private key, PEM: PKCS#8, PKCS#1 or SEC1.
    pub(crate) key: PathBuf,
}

/// The kind of failure to get a new pair, by which a repeated one is recognized.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Problem {
    /// The API server answered with this HTTP code.
    Api(u16),
    /// A file could not be read.
    File(io::ErrorKind),
    /// This place does not hold the expected kind of PEM.
    NotPem(String),
    /// Key and certificate do not belong together.
    NotAPair,
    /// The certificate has ended.
    Ended,
    /// Any other failure.
    Other,
}

impl Problem {
    fn of(error: &anyhow::Error) -> Self {
        if let Some(unusable) = error.downcast_ref::<Unusable>() {
            return match unusable {
                Unusable::NotPem { place, .. } => Self::NotPem(place.clone()),
                Unusable::NotAPair { .. } => Self::NotAPair,
                Unusable::Ended { .. } => Self::Ended,
            };
        }
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return Self::File(error.kind());
        }
        match error.downcast_ref::<kube::Error>() {
            Some(kube::Error::Api(status)) => Self::Api(status.code),
            _ => Self::Other,
        }
    }
}

/// The pair in use.
pub(crate) struct Certificates {
    current: RwLock<Arc<Pair>>,
}

impl Source {
    /// Reads the pair that the source has now.
    pub(crate) async fn offer(&self) -> Result<Offer> {
        match self {
            Self::Files(files) => files.offer(),
            Self::SelfSigned(self_signed) => self_signed.offer().await,
        }
    }
}

impl Files {
    /// Reads both files.
    pub(crate) fn offer(&self) -> Result<Offer> {
        let read = |path: &PathBuf| {
            let place = path.display().to_string();
            let text = fs::read(path).with_context(|| format!("failed to read {place}"))?;
            anyhow::Ok(Part { place, text })
        };
        Ok(Offer { certificate: read(&self.certificate)?, key: read(&self.key)? })
    }
}

impl Certificates {
    /// Takes the first pair into use.
    ///
    /// # Errors
    /// Fails when `offer` is not a pair: a server without one cannot start. One that has ended is
    /// taken, so that readiness can say so until it is replaced.
    pub(crate) fn new(offer: Offer) -> Result<Arc<Self>, Unusable> {
        Ok(Arc::new(Self { current: RwLock::new(Arc::new(pair(offer, 0)?)) }))
    }

    /// Takes the pair `offer` into use. Returns whether it is another one than before.
    ///
    /// # Errors
    /// Fails when it is not usable. The old pair stays in use.
    pub(crate) fn replace(&self, offer: Offer) -> Result<bool, Unusable> {
        let old = self.pair();
        if (&offer.certificate.text, &offer.key.text) == (&old.read.0, &old.read.1) {
            return Ok(false);
        }
        let place = offer.certificate.place.clone();
        let new = pair(offer, old.generation + 1)?;
        let now = Timestamp::now();
        if new.not_after <= now && now < old.not_after {
            return Err(Unusable::Ended { place, not_after: new.not_after });
        }
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(new);
        Ok(true)
    }

    /// Takes the pair of `source` into use every `period`, for ever.
    pub(crate) async fn keep_fresh(
        self: Arc<Self>,
        source: Source,
        period: Duration,
        metrics: Arc<Metrics>,
    ) {
        let mut ticks = tokio::time::interval(period);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        // The first pair was read a moment ago.
        ticks.reset();
        let mut last_problem = None;
        loop {
            ticks.tick().await;
            // The files are small, and on tmpfs where they are mounted. They are not worth a
            // thread.
            let offered = source.offer().await;
            match offered.and_then(|offer| Ok(self.replace(offer)?)) {
                Ok(true) => {
                    tracing::info!(not_after = %self.not_after(), "serving a new certificate");
                    metrics.certificate_reloaded(self.not_after());
                    last_problem = None;
                }
                Ok(false) => last_problem = None,
                Err(error) => {
                    metrics.certificate_reload_failed();
                    let problem = Some(Problem::of(&error));
                    // The same problem is logged once, and not every period. The metric counts
                    // each.
                    if last_problem != problem {
                        tracing::error!("keeping the certificate in use: {error:#}");
                        last_problem = problem;
                    }
                }
            }
        }
    }

    /// Returns the earliest end of the certificates in the chain in use.
    pub(crate) fn not_after(&self) -> Timestamp {
        self.pair().not_after
    }

    /// Returns a number that grows with every new pair. A connection made under an older one should
    /// be replaced.
    pub(crate) fn generation(&self) -> u64 {
        self.pair().generation
    }

    fn pair(&self) -> Arc<Pair> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.pair().certified))
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The key is never printed.
        out.debug_struct("Certificates")
            .field("not_after", &self.not_after())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(crate) mod tests {
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
        let files =
            Files { certificate: directory.join("tls.crt"), key: directory.join("tls.key") };
        fs::write(&files.certificate, certificate).unwrap();
        fs::write(&files.key, key).unwrap();
        files
    }

    /// Takes the pair in `files` into use.
    pub(crate) fn load(files: &Files) -> Arc<Certificates> {
        Certificates::new(files.offer().unwrap()).unwrap()
    }

    fn served(certificates: &Certificates) -> Vec<u8> {
        certificates.pair().certified.cert[0].to_vec()
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
        assert!(certificates.not_after() > Timestamp::now());

        let started = load(&files);
        assert!(started.not_after() < Timestamp::now(), "at the start an ended one is served");
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
}
