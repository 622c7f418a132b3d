//! The serving certificate: loaded from files, replaced while running, never by something worse.
//!
//! The files are polled and compared byte by byte. A mounted Secret is swapped by renaming a symlink of
//! its directory, which a watch on the file itself does not see. Between two renames the certificate
//! may already be new and the key still old; such a pair is refused and the last good one stays.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use std::{fmt, fs, io};

use k8s_openapi::jiff::Timestamp;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::metrics::Metrics;

/// Where the pair is kept.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    /// The certificate chain, PEM, the server's own first.
    pub(crate) certificate: PathBuf,
    /// Its private key, PEM: PKCS#8, PKCS#1 or SEC1.
    pub(crate) key: PathBuf,
}

/// Why a pair cannot be served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unusable {
    /// A file could not be read.
    #[error("failed to read {path}: {why}", path = path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        why: io::Error,
    },
    /// A file holds something else.
    #[error("{path} does not hold {expected}: {why}", path = path.display())]
    NotPem {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        expected: &'static str,
        /// What the parser said.
        why: String,
    },
    /// Key and certificate do not belong together, or the key is of an unknown kind.
    #[error("{certificate} and {key} are not a pair: {why}", certificate = certificate.display(), key = key.display())]
    NotAPair {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// What rustls said.
        why: String,
    },
    /// It ended before the one in use does.
    #[error("{path} ended at {not_after}, before the certificate in use does", path = path.display())]
    Ended {
        /// The certificate's file.
        path: PathBuf,
        /// The end of its validity.
        not_after: Timestamp,
    },
}

/// The pair in use, and how to get the next one.
pub(crate) struct Certificates {
    files: Files,
    current: RwLock<Arc<Pair>>,
}

struct Pair {
    certified: Arc<CertifiedKey>,
    /// The files' contents: certificate, key.
    read: (Vec<u8>, Vec<u8>),
    not_after: Timestamp,
    /// How many pairs there were before it.
    generation: u64,
}

impl Certificates {
    /// Loads the first pair.
    ///
    /// # Errors
    /// When it cannot be read or is not a pair: a server without one cannot start. One that has ended is
    /// loaded, so that readiness can say so until it is replaced.
    pub(crate) fn load(files: Files) -> Result<Arc<Self>, Unusable> {
        let read = read(&files)?;
        let pair = pair(&files, read, 0)?;
        Ok(Arc::new(Self { files, current: RwLock::new(Arc::new(pair)) }))
    }

    /// Reads the files again; `true` when there was something new and it is in use now.
    ///
    /// # Errors
    /// When the new contents are not usable; the old pair stays in use.
    pub(crate) fn reload(&self) -> Result<bool, Unusable> {
        let old = self.pair();
        let read = read(&self.files)?;
        if read == old.read {
            return Ok(false);
        }
        let new = pair(&self.files, read, old.generation + 1)?;
        let now = Timestamp::now();
        if new.not_after <= now && now < old.not_after {
            let path = self.files.certificate.clone();
            return Err(Unusable::Ended { path, not_after: new.not_after });
        }
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(new);
        Ok(true)
    }

    /// Reloads every `period`, for ever.
    pub(crate) async fn keep_fresh(self: Arc<Self>, period: Duration, metrics: Arc<Metrics>) {
        let mut ticks = tokio::time::interval(period);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut last_complaint = None;
        loop {
            ticks.tick().await;
            // Two small files, on tmpfs where they come from a Secret: not worth a thread of its own.
            match self.reload() {
                Ok(true) => {
                    tracing::info!(not_after = %self.not_after(), "serving a new certificate");
                    metrics.certificate_reloaded(self.not_after());
                    last_complaint = None;
                }
                Ok(false) => last_complaint = None,
                Err(error) => {
                    metrics.certificate_reload_failed();
                    let complaint = error.to_string();
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
        out.debug_struct("Certificates").field("files", &self.files).finish_non_exhaustive()
    }
}

fn read(files: &Files) -> Result<(Vec<u8>, Vec<u8>), Unusable> {
    let bytes = |path: &PathBuf| {
        fs::read(path).map_err(|why| Unusable::Unreadable { path: path.clone(), why })
    };
    Ok((bytes(&files.certificate)?, bytes(&files.key)?))
}

fn pair(files: &Files, read: (Vec<u8>, Vec<u8>), generation: u64) -> Result<Pair, Unusable> {
    let no_certificates = |why: String| Unusable::NotPem {
        path: files.certificate.clone(),
        expected: "PEM certificates",
        why,
    };
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&read.0)
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
    let key = PrivateKeyDer::from_pem_slice(&read.1).map_err(|error| Unusable::NotPem {
        path: files.key.clone(),
        expected: "a PEM private key",
        why: error.to_string(),
    })?;
    let certified =
        CertifiedKey::from_der(chain, key, &ring::default_provider()).map_err(|error| {
            Unusable::NotAPair {
                certificate: files.certificate.clone(),
                key: files.key.clone(),
                why: error.to_string(),
            }
        })?;
    Ok(Pair { certified: Arc::new(certified), read, not_after, generation })
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

    fn served(certificates: &Certificates) -> Vec<u8> {
        certificates.pair().certified.cert[0].to_vec()
    }

    #[test]
    fn a_new_pair_replaces_the_old_one() {
        let directory = TempDir::new().unwrap();
        let certificates = Certificates::load(lay_down(directory.path(), &issue())).unwrap();
        let before = served(&certificates);
        assert!(!certificates.reload().unwrap(), "nothing changed");
        lay_down(directory.path(), &issue());
        assert!(certificates.reload().unwrap());
        assert_ne!(served(&certificates), before);
        assert_eq!(certificates.generation(), 1);
    }

    #[test]
    fn half_a_rotation_keeps_the_last_good_pair() {
        let directory = TempDir::new().unwrap();
        let files = lay_down(directory.path(), &issue());
        let certificates = Certificates::load(files.clone()).unwrap();
        let before = served(&certificates);
        let next = issue();

        fs::write(&files.certificate, &next.0).unwrap();
        let error = certificates.reload().unwrap_err();
        assert!(matches!(error, Unusable::NotAPair { .. }), "{error}");
        assert_eq!(served(&certificates), before);

        fs::write(&files.key, "half a wr").unwrap();
        assert!(matches!(certificates.reload().unwrap_err(), Unusable::NotPem { .. }));
        fs::write(&files.certificate, "").unwrap();
        assert!(matches!(certificates.reload().unwrap_err(), Unusable::NotPem { .. }));
        fs::remove_file(&files.key).unwrap();
        assert!(matches!(certificates.reload().unwrap_err(), Unusable::Unreadable { .. }));
        assert_eq!((served(&certificates), certificates.generation()), (before, 0));

        lay_down(directory.path(), &next);
        assert!(certificates.reload().unwrap(), "the other half arrived");
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
        let certificates = Certificates::load(Files {
            certificate: mount.path().join("tls.crt"),
            key: mount.path().join("tls.key"),
        })
        .unwrap();
        let before = served(&certificates);
        version("..2");
        assert!(certificates.reload().unwrap());
        assert_ne!(served(&certificates), before);
    }

    #[test]
    fn a_pair_that_has_ended_does_not_replace_one_that_has_not() {
        let directory = TempDir::new().unwrap();
        let certificates = Certificates::load(lay_down(directory.path(), &issue())).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2021, 1, 1);
        let ended = (params.self_signed(&key).unwrap().pem(), key.serialize_pem());

        let files = lay_down(directory.path(), &ended);
        let error = certificates.reload().unwrap_err();
        assert!(error.to_string().contains("ended at 2021-01-01T00:00:00Z"), "{error}");
        assert!(certificates.not_after() > Timestamp::now());

        let started = Certificates::load(files).unwrap();
        assert!(started.not_after() < Timestamp::now(), "at the start it is better than nothing");
    }
}
