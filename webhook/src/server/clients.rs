//! The peers that may connect, where they must show a client certificate.
//!
//! The API server shows one to a webhook when the file of `--admission-control-config-file` gives
//! it a kubeconfig (apiserver/pkg/util/webhook/authentication.go). The file of authorities is read
//! again when it changes. A file that cannot be used leaves the last good one in use.
//!
//! The handshake tells the peer no names of authorities. So it may have any number of them, and a
//! client sends the certificate that it has.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{
    WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore,
    SignatureScheme,
};
use tokio::time::{MissedTickBehavior, interval};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

/// The rule by which client certificates are accepted.
#[derive(Debug)]
pub(crate) struct Clients {
    file: PathBuf,
    /// The names of which a certificate must have one; empty for any name.
    names: Vec<String>,
    current: RwLock<Current>,
    algorithms: WebPkiSupportedAlgorithms,
}

/// The authorities in use.
#[derive(Clone, Debug)]
struct Current {
    text: Vec<u8>,
    verifier: Arc<dyn ClientCertVerifier>,
}

impl Clients {
    /// Accepts certificates of the authorities in `file` that have one of `names`, if any are
    /// given.
    ///
    /// # Errors
    /// Fails when the file holds no authority: without one, no peer could connect.
    pub(crate) fn new(file: PathBuf, names: Vec<String>) -> Result<Arc<Self>> {
        let current = RwLock::new(current(&file)?);
        let algorithms = ring::default_provider().signature_verification_algorithms;
        Ok(Arc::new(Self { file, names, current, algorithms }))
    }

    /// Takes the authorities in the file into use. Returns whether they are others than before.
    ///
    /// # Errors
    /// Fails when it holds none. Those before stay in use.
    pub(super) fn reload(&self) -> Result<bool> {
        let new = current(&self.file)?;
        let mut held = self.current.write().unwrap_or_else(PoisonError::into_inner);
        let changed = held.text != new.text;
        *held = new;
        Ok(changed)
    }

    /// Does so every `period`, for ever.
    pub(crate) async fn keep_fresh(self: Arc<Self>, period: Duration) {
        let mut ticks = interval(period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.reset();
        let mut failed = false;
        loop {
            ticks.tick().await;
            match self.reload() {
                Ok(changed) => {
                    failed = false;
                    if changed {
                        tracing::info!("accepting clients of other authorities");
                    }
                }
                Err(error) if !failed => {
                    failed = true;
                    tracing::error!("keeping the authorities of clients in use: {error:#}");
                }
                Err(_) => {}
            }
        }
    }

    fn verifier(&self) -> Arc<dyn ClientCertVerifier> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner).verifier)
    }

    fn is_named(&self, certificate: &CertificateDer<'_>) -> bool {
        let Ok((_, parsed)) = X509Certificate::from_der(certificate) else { return false };
        let common = parsed.subject().iter_common_name().filter_map(|name| name.as_str().ok());
        let alternative = parsed.subject_alternative_name().ok().flatten();
        let alternative = alternative.iter().flat_map(|names| &names.value.general_names);
        let alternative = alternative.filter_map(|name| {
            if let GeneralName::DNSName(text)
            | GeneralName::RFC822Name(text)
            | GeneralName::URI(text) = name
            {
                Some(*text)
            } else {
                None
            }
        });
        common.chain(alternative).any(|name| self.names.iter().any(|allowed| allowed == name))
    }
}

/// Reads the authorities in `file`.
fn current(file: &Path) -> Result<Current> {
    let place = file.display();
    let text = std::fs::read(file).with_context(|| format!("failed to read {place}"))?;
    let mut roots = RootCertStore::empty();
    for authority in CertificateDer::pem_slice_iter(&text) {
        let authority = authority.with_context(|| format!("{place} holds no PEM certificates"))?;
        roots.add(authority).with_context(|| format!("{place} holds no authority"))?;
    }
    ensure!(!roots.is_empty(), "{place} holds no PEM certificates");
    let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build()?;
    Ok(Current { text, verifier })
}

impl ClientCertVerifier for Clients {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.verifier().verify_client_cert(certificate, intermediates, now)?;
        if !self.names.is_empty() && !self.is_named(certificate) {
            return Err(CertificateError::ApplicationVerificationFailure.into());
        }
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
