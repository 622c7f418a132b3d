//! The certificates that the webhook makes for itself: an authority of its own, and a serving
//! certificate signed by it.
//!
//! All replicas share [`Contents`]. The next contents follow from the present ones, from the
//! bundles that the API server trusts, and from the time. [`super::self_signed`] reads and writes
//! them.
//!
//! A new authority is trusted before it signs anything. It goes in front of the old ones, and all
//! of them are published. When every API server has had the time to see it, it signs the next
//! serving certificate. The old authority needs no key any more: the certificate that it signed
//! stays valid until it ends.

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PublicKeyData as _,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

const AUTHORITY_LIFE: SignedDuration = SignedDuration::from_hours(730 * 24);
/// The remaining life at which an authority is replaced: longer than that of any serving
/// certificate.
const AUTHORITY_RENEWED: SignedDuration = SignedDuration::from_hours(240 * 24);
const SERVING_LIFE: SignedDuration = SignedDuration::from_hours(90 * 24);
const SERVING_RENEWED: SignedDuration = SignedDuration::from_hours(30 * 24);
/// The time by which a new certificate begins in the past, because the clocks of API servers and
/// nodes differ.
const BACKDATED: SignedDuration = SignedDuration::from_mins(5);
/// The time from making an authority to the first certificate that it signs. Every API server sees
/// a changed registration within seconds.
const SEEN: SignedDuration = SignedDuration::from_mins(10);
const END: &str = "-----END CERTIFICATE-----\n";

/// The texts that the replicas share, PEM; empty where there is nothing yet.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Contents {
    /// The authorities to trust, the newest first.
    pub(crate) authorities: String,
    /// The private key of the newest authority.
    pub(crate) authority_key: String,
    /// The serving certificate.
    pub(crate) certificate: String,
    /// Its private key.
    pub(crate) key: String,
}

/// An authority, or the serving certificate.
struct Certificate {
    pem: String,
    der: CertificateDer<'static>,
}

/// The state of the serving certificate.
enum Serving {
    /// It can be served.
    Good {
        /// The end of its validity.
        ends: Timestamp,
        /// The newest authority signed it.
        by_newest: bool,
    },
    /// It is no certificate for `names`, has ended, or no trusted authority signed it.
    Useless,
}

/// Returns the contents to share instead of `held`, `None` where those are fine.
///
/// `published` holds the bundles by which the API server trusts the webhook, one for each entry of
/// the registration. `names` are the names by which the API server calls the webhook.
///
/// # Errors
/// Fails when no key can be made, or one of the names is no DNS name.
pub(crate) fn next(
    held: &Contents,
    published: &[Vec<u8>],
    names: &[String],
    now: Timestamp,
) -> Result<Option<Contents>, rcgen::Error> {
    let mut next = held.clone();
    let mut authorities = trusted(&held.authorities, now);
    let lasting = authorities.first().is_some_and(|newest| {
        newest.signs_with(&held.authority_key)
            && newest.ends().is_some_and(|ends| ends.duration_since(now) > AUTHORITY_RENEWED)
    });
    if !lasting {
        let (newest, key) = Certificate::authority(now)?;
        authorities.insert(0, newest);
        next.authority_key = key;
    }
    next.authorities = authorities.iter().map(|authority| authority.pem.as_str()).collect();
    let due = match serving(held, &authorities, names, now) {
        Serving::Useless => true,
        Serving::Good { ends, by_newest: true } => ends.duration_since(now) < SERVING_RENEWED,
        Serving::Good { ends: _, by_newest: false } => {
            authorities.first().is_some_and(|newest| newest.known(published, now))
        }
    };
    if due {
        (next.certificate, next.key) = issue(&next, names, now)?;
    }
    Ok((next != *held).then_some(next))
}

/// Returns the authorities of a bundle that have not ended, without any text that is no
/// certificate.
fn trusted(bundle: &str, now: Timestamp) -> Vec<Certificate> {
    bundle
        .split_inclusive(END)
        .filter_map(Certificate::read)
        .filter(|authority| authority.ends().is_some_and(|ends| ends > now))
        .collect()
}

fn serving(
    held: &Contents,
    authorities: &[Certificate],
    names: &[String],
    now: Timestamp,
) -> Serving {
    let judge = || {
        let serving = Certificate::read(&held.certificate)?;
        let ends = serving.ends().filter(|ends| *ends > now)?;
        let fits = serving.signs_with(&held.key) && serving.is_for(names);
        let signed = authorities.iter().position(|authority| serving.is_signed_by(authority));
        let by_newest = signed.filter(|_| fits)? == 0;
        Some(Serving::Good { ends, by_newest })
    };
    judge().unwrap_or(Serving::Useless)
}

/// Returns a serving certificate for `names`, signed by the newest authority, and its key.
fn issue(
    contents: &Contents,
    names: &[String],
    now: Timestamp,
) -> Result<(String, String), rcgen::Error> {
    let newest = contents.authorities.split_inclusive(END).next().unwrap_or_default();
    let authority = KeyPair::from_pem(&contents.authority_key)?;
    let issuer = Issuer::from_ca_cert_pem(newest, authority)?;
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "pgscale-webhook");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    set_validity(&mut params, now, SERVING_LIFE)?;
    let key = KeyPair::generate()?;
    Ok((lines(&params.signed_by(&key, &issuer)?.pem()), key.serialize_pem()))
}

fn set_validity(
    params: &mut CertificateParams,
    now: Timestamp,
    life: SignedDuration,
) -> Result<(), rcgen::Error> {
    let at = |time: Timestamp| {
        OffsetDateTime::from_unix_timestamp(time.as_second()).map_err(|_| rcgen::Error::Time)
    };
    params.not_before = at(now - BACKDATED)?;
    params.not_after = at(now + life)?;
    Ok(())
}

/// Returns `pem` with line feeds alone. rcgen ends lines as the platform does, which RFC 7468
/// allows.
fn lines(pem: &str) -> String {
    pem.replace("\r\n", "\n")
}

impl Certificate {
    /// Returns a new authority and its key.
    fn authority(now: Timestamp) -> Result<(Self, String), rcgen::Error> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        // People tell authorities apart by name. A chain is built by key identifiers.
        let name = format!("pgscale-webhook authority {}", now.as_second());
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        set_validity(&mut params, now, AUTHORITY_LIFE)?;
        let key = KeyPair::generate()?;
        let made = params.self_signed(&key)?;
        let made = Self { pem: lines(&made.pem()), der: made.der().clone() };
        Ok((made, key.serialize_pem()))
    }

    fn read(pem: &str) -> Option<Self> {
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).ok()?;
        Some(Self { pem: pem.to_owned(), der })
    }

    fn parsed(&self) -> Option<X509Certificate<'_>> {
        X509Certificate::from_der(&self.der).ok().map(|(_, parsed)| parsed)
    }

    fn ends(&self) -> Option<Timestamp> {
        super::pair::not_after(&self.der).ok()
    }

    /// Returns whether `key` is its private key.
    fn signs_with(&self, key: &str) -> bool {
        let (Some(parsed), Ok(key)) = (self.parsed(), KeyPair::from_pem(key)) else {
            return false;
        };
        parsed.public_key().raw == key.subject_public_key_info()
    }

    fn is_signed_by(&self, authority: &Self) -> bool {
        let (Some(own), Some(authority)) = (self.parsed(), authority.parsed()) else {
            return false;
        };
        own.verify_signature(Some(authority.public_key())).is_ok()
    }

    /// Returns whether it is for all of `names` and for no other name.
    fn is_for(&self, names: &[String]) -> bool {
        let Some(parsed) = self.parsed() else { return false };
        let Ok(Some(found)) = parsed.subject_alternative_name() else { return false };
        let found = &found.value.general_names;
        found.len() == names.len()
            && names.iter().all(|name| found.contains(&GeneralName::DNSName(name)))
    }

    /// Returns whether every API server trusts it by now.
    fn known(&self, published: &[Vec<u8>], now: Timestamp) -> bool {
        let pem = self.pem.as_bytes();
        let everywhere =
            published.iter().all(|bundle| bundle.windows(pem.len()).any(|part| part == pem));
        let began = self.parsed().map(|parsed| parsed.validity().not_before.timestamp());
        let began = began.and_then(|began| Timestamp::from_second(began).ok());
        everywhere && began.is_some_and(|began| now.duration_since(began) >= BACKDATED + SEEN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: SignedDuration = SignedDuration::from_hours(24);

    fn names() -> Vec<String> {
        vec!["pgscale-webhook.pgscale-system.svc".to_owned()]
    }

    fn start() -> Timestamp {
        "2026-01-01T00:00:00Z".parse().unwrap()
    }

    fn first() -> Contents {
        next(&Contents::default(), &[], &names(), start()).unwrap().unwrap()
    }

    fn bundle(contents: &Contents) -> Vec<Vec<u8>> {
        vec![contents.authorities.clone().into_bytes()]
    }

    /// Returns whether an API server that trusts `bundle` accepts the certificate in `held` at
    /// `now`.
    fn accepted(held: &Contents, bundle: &str, now: Timestamp) -> bool {
        matches!(serving(held, &trusted(bundle, now), &names(), now), Serving::Good { .. })
    }

    #[test]
    fn first_certificates_are_kept() {
        let made = first();
        assert!(accepted(&made, &made.authorities, start()));
        assert!(next(&made, &bundle(&made), &names(), start()).unwrap().is_none());
        let month = start() + DAY * 30;
        assert!(next(&made, &bundle(&made), &names(), month).unwrap().is_none());
    }

    #[test]
    fn serving_certificate_is_renewed_under_the_same_authority() {
        let made = first();
        let later = start() + DAY * 61;
        let renewed = next(&made, &bundle(&made), &names(), later).unwrap().unwrap();
        assert!(renewed.authorities == made.authorities && renewed.certificate != made.certificate);
        assert!(accepted(&renewed, &made.authorities, later + DAY * 60));
    }

    #[test]
    fn new_authority_signs_nothing_before_it_is_trusted() {
        let mut held = first();
        let mut now = start() + DAY * 460;
        held = next(&held, &bundle(&held), &names(), now).unwrap().unwrap();
        let old = held.authorities.clone();
        now += DAY * 31;
        held = next(&held, &bundle(&held), &names(), now).unwrap().unwrap();
        assert!(held.authorities.ends_with(&old) && held.authorities.len() > old.len());
        assert!(accepted(&held, &old, now), "the certificate in use is the old authority's");

        let unpublished = [old.clone().into_bytes(), held.authorities.clone().into_bytes()];
        let later = now + SEEN;
        assert!(next(&held, &unpublished, &names(), later).unwrap().is_none(), "in one entry only");
        let soon = now + SignedDuration::from_mins(1);
        assert!(next(&held, &bundle(&held), &names(), soon).unwrap().is_none(), "not seen yet");
        let moved = next(&held, &bundle(&held), &names(), later).unwrap().unwrap();
        assert!(!accepted(&moved, &old, later), "the new authority signed it");
        assert!(accepted(&moved, &held.authorities, later));
    }

    #[test]
    fn api_servers_accept_the_certificate_through_ten_years_of_rotations() {
        let mut held = first();
        let (mut now, mut seen, mut authorities) = (start(), held.authorities.clone(), 1);
        while now < start() + DAY * 3650 {
            now += DAY * 3;
            for pause in [SignedDuration::ZERO, SEEN] {
                now += pause;
                if let Some(changed) = next(&held, &bundle(&held), &names(), now).unwrap() {
                    if !held.authorities.starts_with(changed.authorities.split(END).next().unwrap())
                    {
                        authorities += 1;
                    }
                    // An API server that has not seen the new contents, and a replica that has not.
                    assert!(accepted(&changed, &seen, now), "{now}: the old bundle");
                    assert!(accepted(&held, &changed.authorities, now), "{now}: the old pair");
                    held = changed;
                }
                assert!(held.authorities.matches(END).count() <= 2, "ended ones are removed");
                seen.clone_from(&held.authorities);
            }
        }
        assert!((7..=9).contains(&authorities), "{authorities}");
    }

    #[test]
    fn damaged_contents_are_replaced_at_once() {
        let made = first();
        let other = first();
        for (what, damaged, same_authority) in [
            ("no certificate", Contents { certificate: String::new(), ..made.clone() }, true),
            ("no key", Contents { key: "half a k".into(), ..made.clone() }, true),
            ("another's key", Contents { key: other.key.clone(), ..made.clone() }, true),
            (
                "another's pair",
                Contents {
                    certificate: other.certificate.clone(),
                    key: other.key.clone(),
                    ..made.clone()
                },
                true,
            ),
            ("no authority", Contents { authorities: String::new(), ..made.clone() }, false),
            (
                "another's authority",
                Contents { authorities: other.authorities.clone(), ..made.clone() },
                false,
            ),
            (
                "no authority's key",
                Contents { authority_key: String::new(), ..made.clone() },
                false,
            ),
        ] {
            let repaired = next(&damaged, &bundle(&made), &names(), start()).unwrap().expect(what);
            assert!(accepted(&repaired, &repaired.authorities, start()), "{what}");
            assert_eq!(repaired.authorities == made.authorities, same_authority, "{what}");
        }
        let ended = start() + DAY * 800;
        let repaired = next(&made, &bundle(&made), &names(), ended).unwrap().unwrap();
        assert!(accepted(&repaired, &repaired.authorities, ended), "all certificates have ended");
        assert_eq!(repaired.authorities.matches(END).count(), 1);
    }

    #[test]
    fn other_server_name_gets_a_new_certificate_under_the_same_authority() {
        let made = first();
        let moved = vec!["pgscale-webhook.elsewhere.svc".to_owned()];
        let renamed = next(&made, &bundle(&made), &moved, start()).unwrap().unwrap();
        assert!(renamed.authorities == made.authorities && renamed.certificate != made.certificate);
    }
}
