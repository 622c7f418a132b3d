//! The serving certificate: from mounted files or from a Secret the webhook keeps itself, replaced while it
//! runs, never by something worse.
//!
//! Files are polled and compared byte by byte. A mounted Secret is swapped by renaming a symlink of
//! its directory, which a watch on the file itself does not see. Between two renames the certificate
//! may already be new and the key still old; such a pair is refused and the last good one stays.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use std::{fmt, fs};

use anyhow::{Context as _, Result};
use k8s_openapi::jiff::Timestamp;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::certs::self_signed::SelfSigned;
use crate::metrics::Metrics;

mod authority;
pub(crate) mod self_signed;

/// Where pairs come from.
pub(crate) enum Source {
    /// Somebody else lays them down.
    Files(Files),
    /// The webhook makes them itself.
    Own(Box<SelfSigned>),
}

/// Where a mounted pair is.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    /// The certificate chain, PEM, the server's own first.
    pub(crate) certificate: PathBuf,
    /// Its private key, PEM: PKCS#8, PKCS#1 or SEC1.
    pub(crate) key: PathBuf,
}

/// A pair as it was read.
pub(crate) struct Offer {
    /// The certificate chain, PEM.
    certificate: Part,
    /// Its private key, PEM.
    key: Part,
}

/// Half of a pair.
struct Part {
    /// Where it is from, for messages.
    place: String,
    text: Vec<u8>,
}

/// Why a pair cannot be served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unusable {
    /// A place holds something else.
    #[error("{place} does not hold {expected}: {why}")]
    NotPem {
        /// The place.
        place: String,
        /// What it should hold.
        expected: &'static str,
        /// What the parser said.
        why: String,
    },
    /// Key and certificate do not belong together, or the key is of an unknown kind.
    #[error("{certificate} and {key} are not a pair: {why}")]
    NotAPair {
        /// Where the certificate is.
        certificate: String,
        /// Where the key is.
        key: String,
        /// What rustls said.
        why: String,
    },
    /// It ended before the one in use does.
    #[error("{place} ended at {not_after}, before the certificate in use does")]
    Ended {
        /// Where the certificate is.
        place: String,
        /// The end of its validity.
        not_after: Timestamp,
    },
}

/// The pair in use.
pub(crate) struct Certificates {
    current: RwLock<Arc<Pair>>,
}

struct Pair {
    certified: Arc<CertifiedKey>,
    /// As it was read: certificate, key.
    read: (Vec<u8>, Vec<u8>),
    not_after: Timestamp,
    /// How many pairs there were before it.
    generation: u64,
}

impl Source {
    /// Reads what is to be served now.
    pub(crate) async fn offer(&self) -> Result<Offer> {
        match self {
            Self::Files(files) => files.offer(),
            Self::Own(self_signed) => self_signed.offer().await,
        }
    }
}

impl Files {
    /// Reads them.
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
    /// Begins with the pair `offer`.
    ///
    /// # Errors
    /// When it is not a pair: a server without one cannot start. One that has ended is taken, so that
    /// readiness can say so until it is replaced.
    pub(crate) fn new(offer: Offer) -> Result<Arc<Self>, Unusable> {
        Ok(Arc::new(Self { current: RwLock::new(Arc::new(pair(offer, 0)?)) }))
    }

    /// Takes the pair `offer` into use; `true` when it is another one than before.
    ///
    /// # Errors
    /// When it is not usable; the old pair stays in use.
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

    /// Takes what `source` offers every `period`, for ever.
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
        let mut last_complaint = None;
        loop {
            ticks.tick().await;
            // Two small files, on tmpfs where they are mounted: not worth a thread of its own.
            let offered = source.offer().await;
            match offered.and_then(|offer| Ok(self.replace(offer)?)) {
                Ok(true) => {
                    tracing::info!(not_after = %self.not_after(), "serving a new certificate");
                    metrics.certificate_reloaded(self.not_after());
                    last_complaint = None;
                }
                Ok(false) => last_complaint = None,
                Err(error) => {
                    metrics.certificate_reload_failed();
                    let complaint = format!("{error:#}");
                    // Said once, not every period until it is mended; the metric keeps counting.
                    if last_complaint.as_ref() != Some(&complaint) {
                        tracing::error!("keeping the certificate in use: {complaint}");
                        last_complaint = Some(complaint);
                    }
                }
            }
        }
    }

    /// When the first certificate of the chain in use to end does so.
    pub(crate) fn not_after(&self) -> Timestamp {
        self.pair().not_after
    }

    /// Grows with every new pair: a connection made under an older one should be replaced.
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
        // Never the key.
        out.debug_struct("Certificates")
            .field("not_after", &self.not_after())
            .finish_non_exhaustive()
    }
}

fn pair(Offer { certificate, key }: Offer, generation: u64) -> Result<Pair, Unusable> {
    let no_certificates = |why: String| Unusable::NotPem {
        place: certificate.place.clone(),
        expected: "PEM certificates",
        why,
    };
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&certificate.text)
        .collect::<Result<_, _>>()
        .map_err(|error| no_certificates(error.to_string()))?;
    let not_after = chain
        .iter()
        .map(not_after)
        .collect::<Result<Vec<_>, _>>()
        .map_err(no_certificates)?
        .into_iter()
        .min()
        .ok_or_else(|| no_certificates("there is none in it".to_owned()))?;
    let private = PrivateKeyDer::from_pem_slice(&key.text).map_err(|error| Unusable::NotPem {
        place: key.place.clone(),
        expected: "a PEM private key",
        why: error.to_string(),
    })?;
    let certified = CertifiedKey::from_der(chain, private, &ring::default_provider());
    let certified = certified.map_err(|error| Unusable::NotAPair {
        certificate: certificate.place,
        key: key.place,
        why: error.to_string(),
    })?;
    Ok(Pair {
        certified: Arc::new(certified),
        read: (certificate.text, key.text),
        not_after,
        generation,
    })
}

fn not_after(certificate: &CertificateDer<'_>) -> Result<Timestamp, String> {
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|error| error.to_string())?;
    Timestamp::from_second(parsed.validity().not_after.timestamp())
        .map_err(|error| error.to_string())
}

#[cfg(test)]
pub(crate) mod tests {
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use rcgen::{CertificateParams, CertifiedKey as Issued, KeyPair, date_time_ymd};
    use tempfile::TempDir;

    use super::*;

    /// A self-signed pair for `localhost`, PEM.
    pub(crate) fn issue() -> (String, String) {
        let Issued { cert, signing_key } =
            rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        (cert.pem(), signing_key.serialize_pem())
    }

    /// The same pair written to `directory`.
    pub(crate) fn lay_down(directory: &Path, (certificate, key): &(String, String)) -> Files {
        let files =
            Files { certificate: directory.join("tls.crt"), key: directory.join("tls.key") };
        fs::write(&files.certificate, certificate).unwrap();
        fs::write(&files.key, key).unwrap();
        files
    }

    /// What `files` hold, taken into use.
    pub(crate) fn load(files: &Files) -> Arc<Certificates> {
        Certificates::new(files.offer().unwrap()).unwrap()
    }

    fn served(certificates: &Certificates) -> Vec<u8> {
        certificates.pair().certified.cert[0].to_vec()
    }

    #[test]
    fn a_new_pair_replaces_the_old_one() {
        let directory = TempDir::new().unwrap();
        let files = lay_down(directory.path(), &issue());
        let certificates = load(&files);
        let before = served(&certificates);
        assert!(!certificates.replace(files.offer().unwrap()).unwrap(), "nothing changed");
        lay_down(directory.path(), &issue());
        assert!(certificates.replace(files.offer().unwrap()).unwrap());
        assert_ne!(served(&certificates), before);
        assert_eq!(certificates.generation(), 1);
    }

    #[test]
    fn half_a_rotation_keeps_the_last_good_pair() {
        let directory = TempDir::new().unwrap();
        let files = lay_down(directory.path(), &issue());
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

        lay_down(directory.path(), &next);
        assert!(reload().unwrap(), "the other half arrived");
    }

    #[test]
    fn the_swapped_directory_of_a_mounted_secret_is_seen() {
        let mount = TempDir::new().unwrap();
        let version = |name: &str| {
            let directory = mount.path().join(name);
            fs::create_dir(&directory).unwrap();
            lay_down(&directory, &issue());
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
    fn a_pair_that_has_ended_does_not_replace_one_that_has_not() {
        let directory = TempDir::new().unwrap();
        let certificates = load(&lay_down(directory.path(), &issue()));
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2021, 1, 1);
        let ended = (params.self_signed(&key).unwrap().pem(), key.serialize_pem());

        let files = lay_down(directory.path(), &ended);
        let error = certificates.replace(files.offer().unwrap()).unwrap_err();
        assert!(error.to_string().contains("ended at 2021-01-01T00:00:00Z"), "{error}");
        assert!(certificates.not_after() > Timestamp::now());

        let started = load(&files);
        assert!(started.not_after() < Timestamp::now(), "at the start it is better than nothing");
    }
}
