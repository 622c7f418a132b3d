//! The certificates that are trusted, as Go trusts them.
//!
//! Go takes a certificate of `certificate-authority-data` as it is, be it an authority's or the
//! server's own (`Certificate.Verify`, crypto/x509/verify.go). rustls (webpki) takes authorities
//! only, and no authority as the certificate of a server.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

/// The sentence that names a certificate of a server among the trusted ones.
pub(super) const REASON: &str = "the certificate that is trusted for it is the certificate of a \
                                 server (CA:FALSE) and of no authority, and the server shows \
                                 another one: put that of the authority that signed it into \
                                 certificate-authority-data";

/// A verifier that also accepts a server's certificate that is itself among the trusted ones.
pub(super) struct Verifier {
    authorities: Arc<WebPkiServerVerifier>,
    trusted: Vec<CertificateDer<'static>>,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Verifier").field("trusted", &self.trusted.len()).finish_non_exhaustive()
    }
}

impl Verifier {
    /// Returns a verifier that trusts these DER certificates. `None` where one of them is none.
    pub(super) fn of(certificates: &[Vec<u8>]) -> Option<Self> {
        let trusted: Vec<_> =
            certificates.iter().map(|der| CertificateDer::from(der.clone())).collect();
        let mut store = RootCertStore::empty();
        for certificate in &trusted {
            store.add(certificate.clone()).ok()?;
        }
        let authorities = WebPkiServerVerifier::builder(Arc::new(store)).build().ok()?;
        Some(Self { authorities, trusted })
    }
}

/// Returns whether this error leaves only the issuer in doubt.
///
/// webpki checks the time first (`check_issuer_independent_properties`,
/// rustls-webpki/src/verify_cert.rs), so a certificate with one of these errors is valid now.
fn is_about_issuer(error: &Error) -> bool {
    let Error::InvalidCertificate(error) = error else { return false };
    if let CertificateError::Other(other) = error {
        let inner = other.source().and_then(|inner| inner.downcast_ref::<webpki::Error>());
        return inner == Some(&webpki::Error::CaUsedAsEndEntity);
    }
    matches!(error, CertificateError::UnknownIssuer | CertificateError::BadSignature)
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self.authorities.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        );
        let Err(error) = verified else { return verified };
        if !is_about_issuer(&error) || !self.trusted.iter().any(|one| one == end_entity) {
            return Err(error);
        }
        verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.authorities.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.authorities.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.authorities.supported_verify_schemes()
    }
}

/// Returns whether one of these DER certificates belongs to no authority.
pub(super) fn any_of_server(certificates: Option<&Vec<Vec<u8>>>) -> bool {
    certificates.into_iter().flatten().any(|der| !is_authority(der))
}

/// Returns whether a certificate's extension `basicConstraints` (2.5.29.19) says `CA:TRUE`.
///
/// Certificates without extensions (version 1) are old authorities, and count as such.
fn is_authority(der: &[u8]) -> bool {
    const ID: [u8; 5] = [0x06, 0x03, 0x55, 0x1d, 0x13];
    const TRUE: [u8; 3] = [0x01, 0x01, 0xff];
    // Version 3 is the explicit tag 0 with the integer 2 at the beginning of the body.
    const VERSION_3: [u8; 5] = [0xa0, 0x03, 0x02, 0x01, 0x02];
    let after = |bytes: &[u8]| {
        let place = der.windows(bytes.len()).position(|window| window == bytes)?;
        der.get(place + bytes.len()..)
    };
    let Some(rest) = after(&ID) else { return after(&VERSION_3).is_none() };
    // An octet string, perhaps behind `critical`, that holds a sequence.
    let rest = rest.strip_prefix(&TRUE).unwrap_or(rest);
    matches!(rest, [0x04, _, 0x30, _, inner @ ..] if inner.starts_with(&TRUE))
}

/// Returns whether no trusted certificate leads to the server's.
pub(super) fn is_untrusted(error: &(dyn StdError + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        let cause = error.downcast_ref();
        if let Some(Error::InvalidCertificate(CertificateError::UnknownIssuer)) = cause {
            return true;
        }
        // The source of an `io::Error` is the source of the error in it, which would be left out.
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next =
            inner.map_or_else(|| error.source(), |inner| Some(inner as &(dyn StdError + 'static)));
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificate_of_a_server_is_recognised() {
        let version_3 = [0xa0, 0x03, 0x02, 0x01, 0x02];
        let constraints = |rest: &[u8]| {
            [&[0x30, 0x82][..], &version_3, &[0x06, 0x03, 0x55, 0x1d, 0x13], rest].concat()
        };
        for (der, authority) in [
            (constraints(&[0x01, 0x01, 0xff, 0x04, 0x05, 0x30, 0x03, 0x01, 0x01, 0xff]), true),
            (constraints(&[0x04, 0x05, 0x30, 0x03, 0x01, 0x01, 0xff]), true),
            (constraints(&[0x01, 0x01, 0xff, 0x04, 0x02, 0x30, 0x00]), false),
            (constraints(&[0x04, 0x02, 0x30, 0x00]), false),
            // A server's certificate needs no such extension.
            ([&[0x30, 0x82][..], &version_3].concat(), false),
            (vec![0x30, 0x82], true),
        ] {
            assert_eq!(is_authority(&der), authority, "{der:02x?}");
        }
    }

    #[test]
    fn only_an_error_about_the_certificate_counts() {
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        assert!(!is_untrusted(&refused));
        let unknown = Error::InvalidCertificate(CertificateError::UnknownIssuer);
        assert!(is_untrusted(&unknown));
        let wrapped = io::Error::other(unknown);
        assert!(is_untrusted(&wrapped));
        assert!(is_untrusted(&io::Error::other(wrapped)));
        assert!(!is_untrusted(&io::Error::other(Error::HandshakeNotComplete)));
    }
}
