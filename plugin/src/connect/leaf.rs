//! Certificates that are trusted and are no certificates of an authority.
//!
//! Go trusts a server's own certificate in `certificate-authority-data` as it is. rustls (webpki)
//! trusts authorities, and finds no issuer for such a server. The error alone would not say so.

use std::error::Error;
use std::io;

/// The sentence about the reason.
pub(super) const REASON: &str = "the certificate that is trusted for it is the certificate of a \
                                 server (CA:FALSE) and of no authority: put that of the authority \
                                 that signed it into certificate-authority-data";

/// Returns whether one of these DER certificates belongs to no authority.
pub(super) fn any(certificates: Option<&Vec<Vec<u8>>>) -> bool {
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

/// Returns whether the server's certificate was not accepted.
pub(super) fn is_untrusted(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(rustls::Error::InvalidCertificate(_)) = error.downcast_ref() {
            return true;
        }
        // The source of an `io::Error` is the source of the error in it, which would be left out.
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = inner.map_or_else(|| error.source(), |inner| Some(inner as &(dyn Error + 'static)));
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
        let unknown = rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
        assert!(is_untrusted(&unknown));
        let wrapped = io::Error::other(unknown);
        assert!(is_untrusted(&wrapped));
        assert!(is_untrusted(&io::Error::other(wrapped)));
        assert!(!is_untrusted(&io::Error::other(rustls::Error::HandshakeNotComplete)));
    }
}
