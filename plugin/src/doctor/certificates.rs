//! The certificates: what each replica shows, held against the bundle by which the API server
//! trusts it, by the API server's clock.
//!
//! The check is the one of a TLS client, by rustls. Go's client, which the API server is, also
//! wants the authority itself to be valid (`isValid`, crypto/x509/verify.go), so an authority that
//! is over is left out of the bundle here.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::admissionregistration::v1::{
    ValidatingWebhook, ValidatingWebhookConfiguration,
};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use pgscale_guard::duration::exact;
use pgscale_guard::remedy::{Command, Remedy};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, RootCertStore};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::registration::logs;
use super::shipped::{NAME, WEBHOOK};
use super::{Case, Finding, Object, fails, weakens};

/// The rest of a certificate's life below which it has to be renewed. The webhook renews its own
/// certificate 30 days before the end, and its authority long before.
const SOON: SignedDuration = SignedDuration::from_hours(14 * 24);
/// The annotation that makes cert-manager fill in the bundle.
const INJECTED: &str = "cert-manager.io/inject-ca-from";

fn object() -> Object {
    Object::global("validatingwebhookconfiguration", NAME)
}

pub(super) fn findings(case: &Case<'_>) -> Vec<Finding> {
    let Some(live) = case.facts.registration.known() else { return Vec::new() };
    let mut found = Vec::new();
    let entries = live.webhooks.as_deref().unwrap_or_default();
    let ours = entries
        .iter()
        .filter(|live| case.shipped.entries().iter().any(|shipped| shipped.name == live.name));
    let mut seen: Vec<Option<&[u8]>> = Vec::new();
    for entry in ours {
        let bundle = entry.client_config.ca_bundle.as_ref().map(|bundle| bundle.0.as_slice());
        // All entries have one bundle, as a rule, and what is wrong with it is said once.
        if seen.contains(&bundle) {
            continue;
        }
        seen.push(bundle);
        match bundle {
            None | Some([]) => found.push(empty(case, entry)),
            Some(bundle) => match authorities(bundle) {
                Err(why) => found.push(
                    fails(
                        "bundle-unreadable",
                        "the API server cannot read the caBundle: it refuses every shrink, and \
                         growth passes unjudged",
                    )
                    .because(object(), &field(entry), why)
                    .cure_to("remove it: the webhook writes it again", remove(live, entry)),
                ),
                Ok(authorities) => found.extend(bundled(case, entry, &authorities)),
            },
        }
    }
    found.extend(lives(case));
    found
}

fn field(entry: &ValidatingWebhook) -> String {
    format!("webhooks[{}].clientConfig.caBundle", entry.name)
}

fn remove(live: &ValidatingWebhookConfiguration, entry: &ValidatingWebhook) -> Command {
    let entries = live.webhooks.as_deref().unwrap_or_default();
    let at = entries.iter().position(|one| one.name == entry.name).unwrap_or_default();
    let patch = serde_json::json!([
        {"op": "test", "path": format!("/webhooks/{at}/name"), "value": entry.name},
        {"op": "remove", "path": format!("/webhooks/{at}/clientConfig/caBundle")},
    ]);
    Command::kubectl([
        "patch",
        "validatingwebhookconfiguration",
        NAME,
        "--type=json",
        "-p",
        &patch.to_string(),
    ])
}

fn empty(case: &Case<'_>, entry: &ValidatingWebhook) -> Finding {
    let annotations =
        case.facts.registration.known().and_then(|it| it.metadata.annotations.as_ref());
    let injected = annotations.and_then(|all| all.get(INJECTED));
    let finding = fails(
        "bundle-empty",
        "the registration has no caBundle: the API server trusts no webhook. It refuses every \
         shrink, and growth passes unjudged",
    )
    .because(object(), &field(entry), "none");
    match injected.and_then(|place| place.split_once('/')) {
        Some((namespace, name)) => finding.cure_to(
            "cert-manager is to fill it in: see why it does not",
            Command::kubectl(["describe", "certificate", name, "-n", namespace]),
        ),
        None => finding
            .cure_to("the webhook writes it itself: see why no replica does", logs(case.home)),
    }
}

/// Returns the certificates of a bundle.
fn authorities(bundle: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(bundle)
        .collect::<Result<_, _>>()
        .map_err(|error| error.to_string())?;
    if found.is_empty() {
        return Err("no certificate in it".to_owned());
    }
    match found.iter().find(|one| life(one).is_none()) {
        Some(_) => Err("a certificate in it cannot be read".to_owned()),
        None => Ok(found),
    }
}

/// Returns the beginning and the end of a certificate's life.
fn life(certificate: &[u8]) -> Option<(Timestamp, Timestamp)> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let validity = parsed.validity();
    let time = |seconds| Timestamp::from_second(seconds).ok();
    Some((time(validity.not_before.timestamp())?, time(validity.not_after.timestamp())?))
}

/// Judges one bundle: is it valid itself, and does it vouch for each replica?
fn bundled(
    case: &Case<'_>,
    entry: &ValidatingWebhook,
    authorities: &[CertificateDer<'static>],
) -> Vec<Finding> {
    let now = case.facts.now;
    let mut found = Vec::new();
    let valid: Vec<_> = authorities
        .iter()
        .filter(|one| life(one).is_some_and(|(begins, ends)| begins <= now && now < ends))
        .collect();
    if valid.is_empty() {
        let ends = authorities.iter().filter_map(|one| life(one)).map(|(_, ends)| ends).max();
        let ends = ends.map_or_else(String::new, |ends| format!(", the last one until {ends}"));
        return vec![
            fails(
                "authority-over",
                format!(
                    "no authority in the caBundle is valid at {now}, the API server's time: it \
                     trusts no replica"
                ),
            )
            .because(object(), &field(entry), format!("{} certificates{ends}", authorities.len()))
            .cured(renew(case)),
        ];
    }
    let last = valid.iter().filter_map(|one| life(one)).map(|(_, ends)| ends).max();
    if let Some(ends) = last.filter(|ends| ends.duration_since(now) < SOON) {
        found.push(
            weakens(
                "authority-ends-soon",
                format!(
                    "the last authority in the caBundle ends at {ends}: then the API server \
                     trusts no replica"
                ),
            )
            .because(object(), &field(entry), format!("valid until {ends}"))
            .cured(renew(case)),
        );
    }
    for (pod, chain) in &case.facts.served {
        let Ok(chain) = chain else { continue };
        if let Err(why) = trusted(&valid, chain, case.home, now) {
            let named = why.is_the_name;
            let id = if named { "certificate-name" } else { "certificate-untrusted" };
            // A certificate that is over is said as such.
            if chain
                .first()
                .and_then(|leaf| life(leaf))
                .is_some_and(|(begins, ends)| now < begins || ends <= now)
            {
                continue;
            }
            found.push(
                fails(
                    id,
                    if named {
                        format!(
                            "the certificate of replica {pod} is not for {}",
                            server_name(case.home)
                        )
                    } else {
                        format!(
                            "the caBundle of {} does not vouch for the certificate of replica \
                             {pod}: the API server does not trust it",
                            entry.name
                        )
                    },
                )
                .because(Object::within("pod", case.home, pod), "certificate", why.why)
                .cured(renew(case)),
            );
        }
    }
    found
}

/// Returns the name for which the API server checks the certificate of a Service
/// (`serverName`, apiserver/pkg/util/webhook/serviceresolver.go).
fn server_name(home: &str) -> String {
    format!("{WEBHOOK}.{home}.svc")
}

/// The reason for which a TLS client does not trust a replica.
struct Distrust {
    /// The certificate is for another name.
    is_the_name: bool,
    why: String,
}

impl From<rustls::Error> for Distrust {
    fn from(error: rustls::Error) -> Self {
        let is_the_name = matches!(
            &error,
            rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }
            )
        );
        Self { is_the_name, why: error.to_string() }
    }
}

impl Distrust {
    fn otherwise(why: &impl ToString) -> Self {
        Self { is_the_name: false, why: why.to_string() }
    }
}

fn trusted(
    authorities: &[&CertificateDer<'static>],
    chain: &[Vec<u8>],
    home: &str,
    now: Timestamp,
) -> Result<(), Distrust> {
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        roots.add((*authority).clone())?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|error| Distrust::otherwise(&error))?;
    let all: Vec<CertificateDer<'_>> =
        chain.iter().map(|der| CertificateDer::from(der.as_slice())).collect();
    let Some((leaf, rest)) = all.split_first() else {
        return Err(Distrust::otherwise(&"it shows no certificate"));
    };
    let name =
        ServerName::try_from(server_name(home)).map_err(|error| Distrust::otherwise(&error))?;
    let seconds = u64::try_from(now.as_second()).unwrap_or_default();
    let now = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
    verifier.verify_server_cert(leaf, rest, &name, &[], now)?;
    Ok(())
}

/// Judges the life of each replica's own certificate.
fn lives(case: &Case<'_>) -> Vec<Finding> {
    let now = case.facts.now;
    let mut found = Vec::new();
    for (pod, chain) in &case.facts.served {
        let Ok(chain) = chain else { continue };
        let Some((begins, ends)) = chain.first().and_then(|leaf| life(leaf)) else { continue };
        let finding = if ends <= now {
            fails(
                "certificate-over",
                format!(
                    "the certificate of replica {pod} is over since {ends}, by the API server's \
                     time: the API server does not trust it"
                ),
            )
        } else if now < begins {
            fails(
                "certificate-not-yet",
                format!(
                    "the certificate of replica {pod} begins at {begins}, by the API server's \
                     time in {}: the API server does not trust it",
                    exact(begins.duration_since(now).unsigned_abs())
                ),
            )
        } else if ends.duration_since(now) < SOON {
            weakens(
                "certificate-ends-soon",
                format!(
                    "the certificate of replica {pod} ends at {ends}, and was not renewed in time"
                ),
            )
        } else {
            continue;
        };
        found.push(
            finding
                .because(
                    Object::within("pod", case.home, pod),
                    "certificate",
                    format!("{begins} to {ends}"),
                )
                .cured(renew(case)),
        );
    }
    found
}

/// Returns the commands that bring a new certificate: the mounted one is another program's, and a
/// replica that starts signs its own.
fn renew(case: &Case<'_>) -> Remedy {
    let restart =
        Command::kubectl(["rollout", "restart", &format!("deployment/{WEBHOOK}"), "-n", case.home]);
    Remedy::to(
        "a replica that starts signs a new one, and publishes what it needs (a mounted \
         certificate: renew it in its Secret first)",
        restart,
    )
    .or_to("see why no replica did", logs(case.home))
}
