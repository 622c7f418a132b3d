//! A certificate with its key: as a source has it, and as the server can use it.

use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// A pair as its source has it.
pub(crate) struct Offer {
    /// The certificate chain, PEM.
    pub(super) certificate: Part,
    /// Its private key, PEM.
    pub(super) key: Part,
}

/// Half of a pair.
pub(super) struct Part {
    /// Its place, for messages.
    pub(super) place: String,
    pub(super) text: Vec<u8>,
}

/// The reason why a pair cannot be served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unusable {
    /// A place does not hold the expected kind of PEM.
    #[error("{place} does not hold {expected}: {why}")]
    NotPem {
        /// The place.
        place: String,
        /// The expected contents.
        expected: &'static str,
        /// The error of the parser.
        why: String,
    },
    /// Key and certificate do not belong together, or the key is of an unknown kind.
    #[error("{certificate} and {key} are not a pair: {why}")]
    NotAPair {
        /// The place of the certificate.
        certificate: String,
        /// The place of the key.
        key: String,
        /// The error of rustls.
        why: String,
    },
    /// It has ended, and the one in use has not.
    #[error("{place} ended at {not_after}, and the certificate in use is still valid")]
    Ended {
        /// The place of the certificate.
        place: String,
        /// The end of its validity.
        not_after: Timestamp,
    },
    /// It is not valid yet, and the one in use is.
    #[error("{place} is not valid before {not_before}, and the certificate in use is valid")]
    NotYet {
        /// The place of the certificate.
        place: String,
        /// The beginning of its validity.
        not_before: Timestamp,
    },
}

/// A pair that can be served.
pub(super) struct Pair {
    pub(super) certified: Arc<CertifiedKey>,
    /// The texts that it was read from: certificate, key.
    pub(super) read: (Vec<u8>, Vec<u8>),
    pub(super) not_before: Timestamp,
    pub(super) not_after: Timestamp,
    /// The number of pairs that were in use before it.
    pub(super) generation: u64,
}

impl Pair {
    /// Returns whether all of the chain is valid at `now`.
    pub(super) fn is_valid(&self, now: Timestamp) -> bool {
        self.not_before <= now && now < self.not_after
    }
}

/// Checks that `offer` can be served, as the pair after `generation` others.
///
/// # Errors
/// Fails when it is no PEM, or key and certificate are not a pair.
pub(super) fn pair(Offer { certificate, key }: Offer, generation: u64) -> Result<Pair, Unusable> {
    let no_certificates = |why: String| Unusable::NotPem {
        place: certificate.place.clone(),
        expected: "PEM certificates",
        why,
    };
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&certificate.text)
        .collect::<Result<_, _>>()
        .map_err(|error| no_certificates(error.to_string()))?;
    let validities = chain.iter().map(validity).collect::<Result<Vec<_>, _>>();
    let validities = validities.map_err(no_certificates)?;
    // The chain is valid while all of it is.
    let not_before = validities.iter().map(|(begins, _)| *begins).max();
    let not_after = validities.iter().map(|(_, ends)| *ends).min();
    let (Some(not_before), Some(not_after)) = (not_before, not_after) else {
        return Err(no_certificates("it holds none".to_owned()));
    };
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
        not_before,
        not_after,
        generation,
    })
}

/// Returns the beginning and the end of a certificate's validity.
pub(super) fn validity(certificate: &CertificateDer<'_>) -> Result<(Timestamp, Timestamp), String> {
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|error| error.to_string())?;
    let at = |seconds| Timestamp::from_second(seconds).map_err(|error| error.to_string());
    let validity = parsed.validity();
    Ok((at(validity.not_before.timestamp())?, at(validity.not_after.timestamp())?))
}
