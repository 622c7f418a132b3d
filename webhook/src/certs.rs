//! The serving certificate: from mounted files, or signed by this replica. It is replaced while the
//! webhook runs, and never by a worse one. The secret path is kept and read with it.
//!
//! The webhook polls files and compares them byte by byte. The kubelet swaps a mounted Secret by
//! renaming a symlink of its directory, which a watch on the file itself does not see. Between two
//! renames the certificate may be new and the key still old. The webhook refuses such a pair and
//! keeps the last good one.
//!
//! Nothing that is missing at the start ends the process. It looks again, soon and then less often,
//! and is not ready until the API server reaches and trusts it.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use std::{fmt, fs, io};

use anyhow::{Context as _, Result, anyhow, ensure};
use k8s_openapi::jiff::Timestamp;
use pgscale_guard::duration::exact;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::caller::Caller;
use crate::certs::clock::Clock;
use crate::certs::kept::Kept;
use crate::certs::pair::{Offer, Pair, Part, Unusable, pair};
use crate::metrics::Metrics;

mod authority;
mod clock;
mod entries;
pub(crate) mod kept;
mod pair;
pub(crate) mod paths;
#[cfg(test)]
pub(crate) mod tests;

/// The time for one look. The client of the API server may try again for longer.
const LOOK: Duration = Duration::from_secs(30);
/// The pause after the first look that failed. It doubles until it is as long as any other.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// The places where certificate and secret path come from.
#[derive(Default)]
pub(crate) struct Source {
    /// A mounted pair that another program writes. Without it, the webhook signs its own.
    pub(crate) files: Option<Files>,
    /// A mounted file with secret paths.
    pub(crate) path_file: Option<PathBuf>,
    /// The Secret and the registration that the webhook writes.
    pub(crate) kept: Option<Kept>,
}

/// The paths of a mounted pair.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    /// The certificate chain, PEM, with the server's own certificate first.
    pub(crate) certificate: PathBuf,
    /// Its private key, PEM: PKCS#8, PKCS#1 or SEC1.
    pub(crate) key: PathBuf,
}

/// The kind of failure of a look, by which a repeated one is recognized.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Problem {
    /// The API server answered with this HTTP code.
    Api(u16),
    /// The clock cannot be relied on.
    Clock,
    /// A file could not be read.
    File(io::ErrorKind),
    /// This place does not hold the expected kind of PEM.
    NotPem(String),
    /// Key and certificate do not belong together.
    NotAPair,
    /// The certificate has ended.
    Ended,
    /// The certificate is not valid yet.
    NotYet,
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
                Unusable::NotYet { .. } => Self::NotYet,
            };
        }
        if error.is::<Clock>() {
            return Self::Clock;
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
    current: RwLock<Option<Arc<Pair>>>,
    /// Whether the API server reaches this replica by path and bundle, as far as it is known, and
    /// the reason where it does not.
    reached: RwLock<Result<(), String>>,
}

impl Source {
    /// Looks once at every place, and takes what is new into use. Returns whether the certificate
    /// is another one than before.
    ///
    /// # Errors
    /// Fails when a place cannot be read or written, or holds nothing usable. What was in use stays
    /// in use.
    pub(crate) async fn look(&self, certificates: &Certificates, caller: &Caller) -> Result<bool> {
        // Every place is looked at, whatever is wrong with another.
        let pair = match &self.files {
            Some(files) => files.offer().and_then(|offer| Ok(certificates.replace(offer)?)),
            None => Ok(false),
        };
        let paths = match &self.path_file {
            Some(file) => read_tokens(file).map(|tokens| caller.accept(tokens)),
            None => Ok(()),
        };
        let kept = if let Some(kept) = &self.kept {
            kept.look(certificates, caller).await
        } else {
            // Whether the registration has this path, only its author knows.
            certificates.reached(match &paths {
                Err(error) if caller.knows_none() => Err(format!("{error:#}")),
                Ok(()) | Err(_) => Ok(()),
            });
            Ok(false)
        };
        paths?;
        Ok(pair? | kept?)
    }
}

/// Reads the secret paths in a file, one a line.
///
/// # Errors
/// Fails when it cannot be read, holds none, or one that could be guessed.
pub(crate) fn read_tokens(file: &PathBuf) -> Result<Vec<String>> {
    let place = file.display();
    let text = fs::read_to_string(file).with_context(|| format!("failed to read {place}"))?;
    let tokens: Vec<_> = text.split_whitespace().map(str::to_owned).collect();
    ensure!(
        !tokens.is_empty() && tokens.iter().all(|token| paths::is_token(token)),
        "{place} does not hold secret paths: each line must have 32 to 128 small letters, digits \
         and hyphens, and begin and end with no hyphen"
    );
    Ok(tokens)
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
    /// Returns no pair. Handshakes fail until there is one.
    pub(crate) fn none() -> Arc<Self> {
        Arc::new(Self {
            current: RwLock::default(),
            reached: RwLock::new(Err("it was not looked at yet".to_owned())),
        })
    }

    /// Takes the pair `offer` into use. Returns whether it is another one than before.
    ///
    /// # Errors
    /// Fails when it is not usable. The old pair stays in use. A first pair that is not valid now is
    /// taken, so that readiness can say so until it is replaced.
    pub(crate) fn replace(&self, offer: Offer) -> Result<bool, Unusable> {
        self.replace_at(offer, Timestamp::now())
    }

    /// Does what [`Self::replace`] does, at the time `now` of the API server.
    pub(crate) fn replace_at(&self, offer: Offer, now: Timestamp) -> Result<bool, Unusable> {
        let old = self.pair();
        if let Some(old) = &old
            && (&offer.certificate.text, &offer.key.text) == (&old.read.0, &old.read.1)
        {
            return Ok(false);
        }
        let place = offer.certificate.place.clone();
        let new = pair(offer, old.as_ref().map_or(0, |old| old.generation + 1))?;
        if old.is_some_and(|old| old.is_valid(now)) {
            if new.not_after <= now {
                return Err(Unusable::Ended { place, not_after: new.not_after });
            }
            if now < new.not_before {
                return Err(Unusable::NotYet { place, not_before: new.not_before });
            }
        }
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(new));
        Ok(true)
    }

    /// Looks at `source` now and every `period`, for ever.
    ///
    /// After a look that failed the next one is sooner.
    pub(crate) async fn keep_fresh(
        self: Arc<Self>,
        source: Source,
        caller: Arc<Caller>,
        period: Duration,
        metrics: Arc<Metrics>,
    ) {
        let mut last_problem = None;
        let mut pause = FIRST_PAUSE;
        loop {
            // The files are small, and on tmpfs where they are mounted. They are not worth a
            // thread.
            let looked = tokio::time::timeout(LOOK, source.look(&self, &caller)).await;
            let late = || Err(anyhow!("no answer within {}", exact(LOOK)));
            match looked.unwrap_or_else(|_| late()) {
                Ok(changed) => {
                    if let Some(not_after) = self.not_after().filter(|_| changed) {
                        tracing::info!(%not_after, "serving a new certificate");
                        metrics.certificate_reloaded(not_after);
                    }
                    last_problem = None;
                    pause = FIRST_PAUSE;
                    tokio::time::sleep(period).await;
                }
                Err(error) => {
                    metrics.certificate_reload_failed();
                    // What was found good stays good: an API server that is away reaches no
                    // replica, and must find all of them when it is back.
                    if self.ready().is_err() {
                        self.reached(Err(format!("{error:#}")));
                    }
                    let problem = Some(Problem::of(&error));
                    // The same problem is logged once, and not every period. The metric counts
                    // each.
                    if last_problem != problem {
                        tracing::error!("keeping certificate and path in use: {error:#}");
                        last_problem = problem;
                    }
                    tokio::time::sleep(pause.min(period)).await;
                    pause = (pause * 2).min(period);
                }
            }
        }
    }

    /// Records whether the API server reaches this replica, and the reason where it does not.
    pub(crate) fn reached(&self, reached: Result<(), String>) {
        *self.reached.write().unwrap_or_else(PoisonError::into_inner) = reached;
    }

    /// Returns whether a review can arrive.
    ///
    /// # Errors
    /// Fails with the reason: no certificate that is valid now, a clock that is wrong, or a
    /// registration with another bundle or path.
    pub(crate) fn ready(&self) -> Result<(), String> {
        let reached = self.reached.read().unwrap_or_else(PoisonError::into_inner).clone();
        let now = Timestamp::now();
        match self.pair() {
            None => Err(reached.err().unwrap_or_else(|| "there is none yet".to_owned())),
            Some(pair) if pair.not_after <= now => Err(format!("ended at {}", pair.not_after)),
            Some(pair) if now < pair.not_before => {
                Err(format!("not valid before {}", pair.not_before))
            }
            Some(_) => reached,
        }
    }

    /// Returns the earliest end of the certificates in the chain in use.
    pub(crate) fn not_after(&self) -> Option<Timestamp> {
        self.pair().map(|pair| pair.not_after)
    }

    /// Returns a number that grows with every new pair. A connection made under an older one should
    /// be replaced.
    pub(crate) fn generation(&self) -> u64 {
        self.pair().map_or(0, |pair| pair.generation)
    }

    fn pair(&self) -> Option<Arc<Pair>> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.pair()?.certified))
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
