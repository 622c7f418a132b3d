//! The certificates that the webhook makes for itself: authorities, which all replicas share, and a
//! serving certificate, which each replica signs and keeps in memory.
//!
//! cert-manager's webhook works like that, too (`pkg/server/tls/dynamic_source.go`
//! and `pkg/server/tls/authority/authority.go`). A certificate that a replica made by a wrong clock, or
//! for another name, is then no trouble of the others.
//!
//! The next authorities follow from the present ones, from the bundles that the API server trusts,
//! and from the time. [`super::kept`] reads and writes them. A new authority is trusted before it
//! signs anything. It goes in front of the old ones, and all of them are published. When every API
//! server has had the time to see it, it signs the next serving certificates, and the old keys are
//! removed.

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PublicKeyData as _,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer as _, X509Certificate};

#[cfg(test)]
mod tests;

const AUTHORITY_LIFE: SignedDuration = SignedDuration::from_hours(730 * 24);
/// The remaining life at which an authority is replaced: longer than that of any serving
/// certificate.
const AUTHORITY_RENEWED: SignedDuration = SignedDuration::from_hours(240 * 24);
const SERVING_LIFE: SignedDuration = SignedDuration::from_hours(90 * 24);
const SERVING_RENEWED: SignedDuration = SignedDuration::from_hours(30 * 24);
/// The life that a renewal has to add. An authority near its end cannot give more than it has.
const WORTH_IT: SignedDuration = SignedDuration::from_hours(24);
/// The time by which a new certificate begins in the past, because the clocks of API servers and
/// nodes differ.
const BACKDATED: SignedDuration = SignedDuration::from_mins(5);
/// The time from making an authority to the first certificate that it signs beside an older one.
/// Every API server sees a changed registration within seconds.
const SEEN: SignedDuration = SignedDuration::from_mins(10);
/// The most authorities that are kept or published. Each rotation adds one, and each ends.
const MOST: usize = 8;
const CERTIFICATE: &str = "CERTIFICATE";
const KEY: &str = "PRIVATE KEY";

/// The authorities that all replicas share, PEM.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Held {
    /// The authorities, the newest first.
    pub(super) certificates: String,
    /// The private keys of those that still sign.
    pub(super) keys: String,
}

/// An authority.
#[derive(Clone)]
struct Authority {
    pem: String,
    der: CertificateDer<'static>,
    begins: Timestamp,
    ends: Timestamp,
    /// Its private key, where it is held.
    key: Option<String>,
}

/// A serving certificate in the memory of this replica.
#[derive(Clone)]
pub(super) struct Leaf {
    /// The certificate, PEM.
    pub(super) certificate: String,
    /// Its private key, PEM.
    pub(super) key: String,
    /// The authority that signed it, PEM.
    pub(super) authority: String,
    names: Vec<String>,
    begins: Timestamp,
    ends: Timestamp,
}

/// The bundles by which the API server trusts the webhook, one for each entry of the registration.
pub(super) struct Trusted(Vec<Vec<Authority>>);

impl Trusted {
    /// Reads the bundles of all entries.
    pub(super) fn of(bundles: &[Vec<u8>]) -> Self {
        Self(bundles.iter().map(|bundle| read(&String::from_utf8_lossy(bundle))).collect())
    }

    /// Returns whether every entry has this certificate.
    fn everywhere(&self, der: &CertificateDer<'_>) -> bool {
        self.0.iter().all(|bundle| bundle.iter().any(|found| found.der == *der))
    }
}

impl Held {
    /// Returns the authorities that are valid at `now`, with their keys.
    fn authorities(&self, now: Timestamp) -> Vec<Authority> {
        let keys = blocks(&self.keys, KEY);
        let mut authorities = read(&self.certificates);
        authorities.retain(|authority| authority.begins <= now && now < authority.ends);
        for authority in &mut authorities {
            authority.key = keys.iter().find(|key| authority.signs_with(key)).cloned();
        }
        authorities
    }

    fn of(authorities: &[Authority]) -> Self {
        Self {
            certificates: authorities.iter().map(|authority| authority.pem.as_str()).collect(),
            keys: authorities.iter().filter_map(|authority| authority.key.as_deref()).collect(),
        }
    }
}

/// Returns the authorities to hold from `now` on.
///
/// # Errors
/// Fails when no key can be made.
pub(super) fn next(held: &Held, trusted: &Trusted, now: Timestamp) -> Result<Held, rcgen::Error> {
    let mut authorities = held.authorities(now);
    let lasting = authorities.first().is_some_and(|newest| {
        newest.key.is_some() && newest.ends.duration_since(now) > AUTHORITY_RENEWED
    });
    if !lasting {
        authorities.insert(0, Authority::new(now)?);
    }
    authorities.truncate(MOST);
    if let Some((newest, older)) = authorities.split_first_mut()
        && newest.known(trusted, now)
    {
        for authority in older {
            authority.key = None;
        }
    }
    Ok(Held::of(&authorities))
}

/// Returns the bundle to publish: the held authorities, those that are published, and the one that
/// signed the certificate in use.
///
/// So the loss of the Secret takes no authority away from a replica that still serves under it. An
/// authority that has ended is left out.
pub(super) fn bundle(
    held: &Held,
    trusted: &Trusted,
    leaf: Option<&Leaf>,
    now: Timestamp,
) -> String {
    let mut bundle = held.authorities(now);
    let in_use = leaf.map(|leaf| read(&leaf.authority)).unwrap_or_default();
    // The one in use comes before those that others published, so that it is within the limit.
    let missing = |bundle: &[Authority], one: &Authority| {
        one.ends > now && bundle.iter().all(|found| found.der != one.der)
    };
    let published: Vec<_> = trusted.0.iter().flatten().cloned().collect();
    let own = in_use.into_iter().filter(|one| published.iter().all(|found| found.der != one.der));
    for authority in own.collect::<Vec<_>>().into_iter().chain(published) {
        if missing(&bundle, &authority) {
            bundle.push(authority);
        }
    }
    bundle.truncate(MOST);
    bundle.into_iter().map(|authority| authority.pem).collect()
}

/// Returns whether every API server accepts `leaf` by the bundles of all entries.
pub(super) fn accepted(leaf: &Leaf, trusted: &Trusted) -> bool {
    read(&leaf.authority).first().is_some_and(|authority| trusted.everywhere(&authority.der))
}

/// Returns the serving certificate to use instead of `leaf`, `None` where that one is fine or where
/// no authority can sign.
///
/// `names` are the names by which the API server calls the webhook.
///
/// # Errors
/// Fails when no key can be made, or one of the names is no DNS name.
pub(super) fn renewed(
    leaf: Option<&Leaf>,
    held: &Held,
    trusted: &Trusted,
    names: &[String],
    now: Timestamp,
) -> Result<Option<Leaf>, rcgen::Error> {
    let authorities = held.authorities(now);
    let signing = || authorities.iter().filter(|authority| authority.key.is_some());
    let signer = signing()
        .find(|authority| authority.known(trusted, now))
        .or_else(|| signing().find(|authority| trusted.everywhere(&authority.der)))
        .or_else(|| signing().next());
    let Some(signer) = signer else { return Ok(None) };
    let ends = signer.ends.min(now + SERVING_LIFE);
    let due = leaf.is_none_or(|leaf| {
        let valid = leaf.begins <= now && now < leaf.ends && leaf.names == names;
        let renewable = leaf.ends.duration_since(now) < SERVING_RENEWED
            && ends.duration_since(leaf.ends) > WORTH_IT;
        let other = leaf.authority != signer.pem;
        let better = signer.known(trusted, now)
            || trusted.everywhere(&signer.der) && !accepted(leaf, trusted);
        !valid || renewable || other && better
    });
    if due { signer.sign(names, (now - BACKDATED, ends)).map(Some) } else { Ok(None) }
}

/// Returns the certificates in `pem`, each once, without any other text.
fn read(pem: &str) -> Vec<Authority> {
    let mut all: Vec<Authority> = Vec::new();
    for authority in blocks(pem, CERTIFICATE).into_iter().filter_map(Authority::read) {
        if all.iter().all(|found| found.der != authority.der) {
            all.push(authority);
        }
    }
    all
}

/// Returns the PEM blocks of this kind in `text`, with line feeds alone.
///
/// rcgen ends lines as the platform does, which RFC 7468 allows.
fn blocks(text: &str, kind: &str) -> Vec<String> {
    let (begin, end) = (format!("-----BEGIN {kind}-----\n"), format!("-----END {kind}-----\n"));
    let text = text.replace("\r\n", "\n") + "\n";
    text.split_inclusive(end.as_str())
        .filter_map(|part| Some(part.get(part.rfind(&begin)?..)?.to_owned()))
        .filter(|block| block.ends_with(&end))
        .collect()
}

impl Authority {
    /// Returns a new authority with its key.
    fn new(now: Timestamp) -> Result<Self, rcgen::Error> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        // People tell authorities apart by name. A chain is built by key identifiers.
        let name = format!("pgscale-webhook authority {}", now.as_second());
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let (begins, ends) = (now - BACKDATED, now + AUTHORITY_LIFE);
        set_validity(&mut params, (begins, ends))?;
        let key = KeyPair::generate()?;
        let made = params.self_signed(&key)?;
        let made = Self::read(lines(&made.pem())).ok_or(rcgen::Error::CouldNotParseCertificate)?;
        Ok(Self { key: Some(lines(&key.serialize_pem())), ..made })
    }

    fn read(pem: String) -> Option<Self> {
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).ok()?;
        let (begins, ends) = super::pair::validity(&der).ok()?;
        Some(Self { pem, der, begins, ends, key: None })
    }

    /// Returns whether `key` is its private key.
    fn signs_with(&self, key: &str) -> bool {
        let (Ok((_, parsed)), Ok(key)) =
            (X509Certificate::from_der(&self.der), KeyPair::from_pem(key))
        else {
            return false;
        };
        parsed.public_key().raw == key.subject_public_key_info()
    }

    /// Returns whether every API server trusts it by now.
    fn known(&self, trusted: &Trusted, now: Timestamp) -> bool {
        trusted.everywhere(&self.der) && now.duration_since(self.begins) >= BACKDATED + SEEN
    }

    /// Returns a serving certificate for `names`, with a key of its own.
    fn sign(
        &self,
        names: &[String],
        validity: (Timestamp, Timestamp),
    ) -> Result<Leaf, rcgen::Error> {
        let key = KeyPair::from_pem(self.key.as_deref().unwrap_or_default())?;
        let issuer = Issuer::from_ca_cert_pem(&self.pem, key)?;
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "pgscale-webhook");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        set_validity(&mut params, validity)?;
        let key = KeyPair::generate()?;
        Ok(Leaf {
            certificate: lines(&params.signed_by(&key, &issuer)?.pem()),
            key: lines(&key.serialize_pem()),
            authority: self.pem.clone(),
            names: names.to_vec(),
            begins: validity.0,
            ends: validity.1,
        })
    }
}

fn set_validity(
    params: &mut CertificateParams,
    (begins, ends): (Timestamp, Timestamp),
) -> Result<(), rcgen::Error> {
    let at = |time: Timestamp| {
        OffsetDateTime::from_unix_timestamp(time.as_second()).map_err(|_| rcgen::Error::Time)
    };
    params.not_before = at(begins)?;
    params.not_after = at(ends)?;
    Ok(())
}

/// Returns `pem` with line feeds alone.
fn lines(pem: &str) -> String {
    pem.replace("\r\n", "\n")
}
