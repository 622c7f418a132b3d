//! Certificates of the bed: one authority, and the certificates that it signs.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use serde_json::json;

/// The group with all permissions.
pub const ADMINISTRATORS: &str = "system:masters";
/// The name of cluster and context in every kubeconfig of the bed.
pub const CONTEXT: &str = "bed";

/// The object identifier of an organisation name. rcgen keeps one value per kind of name. The same
/// identifier spelled as a number is another kind for rcgen, so a second group fits.
const ORGANIZATION: [u64; 4] = [2, 5, 4, 10];

/// A certificate with its private key, both PEM.
#[derive(Clone, Debug)]
pub struct Pair {
    /// The certificate.
    pub certificate: String,
    /// Its private key, PKCS#8.
    pub key: String,
}

/// The certificate authority of one bed.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
}

impl Authority {
    /// Makes a new authority.
    ///
    /// # Errors
    /// Fails when no key can be generated.
    pub fn new() -> Result<Self> {
        let key = KeyPair::generate().context("failed to generate a key")?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "bed");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let certificate = params.self_signed(&key).context("failed to sign")?.pem();
        Ok(Self { issuer: Issuer::new(params, key), certificate })
    }

    /// Returns the authority's own certificate, PEM.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// Makes a certificate for a server with these DNS names and addresses.
    ///
    /// # Errors
    /// Fails when a name is invalid.
    pub fn server(&self, name: &str, reachable: &[&str]) -> Result<Pair> {
        let names: Vec<_> = reachable.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).context("failed to name a server")?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign(&params)
    }

    /// Makes a certificate that makes its holder the Kubernetes user `name`, member of `groups`.
    ///
    /// # Errors
    /// Fails with more than two groups: use a service account or impersonation for such a user.
    pub fn client(&self, name: &str, groups: &[&str]) -> Result<Pair> {
        ensure!(groups.len() <= 2, "a client certificate of the bed holds at most two groups");
        let mut params = CertificateParams::default();
        // The default name is "rcgen self signed cert".
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        let kinds = [DnType::OrganizationName, DnType::CustomDnType(ORGANIZATION.to_vec())];
        for (kind, group) in kinds.into_iter().zip(groups) {
            params.distinguished_name.push(kind, *group);
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(&params)
    }

    /// Makes a kubeconfig, certificates embedded, for the user `name` at the API server `url`.
    ///
    /// # Errors
    /// Fails like [`Authority::client`].
    pub fn kubeconfig(&self, url: &str, name: &str, groups: &[&str]) -> Result<String> {
        let Pair { certificate, key } = self.client(name, groups)?;
        let user = json!({
            "client-certificate-data": base64(&certificate),
            "client-key-data": base64(&key),
        });
        self.kubeconfig_for(url, name, &user)
    }

    /// Makes a kubeconfig for `name`, authenticated by a bearer `token`.
    ///
    /// # Errors
    /// Fails when it cannot be encoded.
    pub fn kubeconfig_with_token(&self, url: &str, name: &str, token: &str) -> Result<String> {
        self.kubeconfig_for(url, name, &json!({ "token": token }))
    }

    fn kubeconfig_for(&self, url: &str, name: &str, user: &serde_json::Value) -> Result<String> {
        let cluster = json!({
            "server": url,
            "certificate-authority-data": base64(&self.certificate),
        });
        // JSON is YAML, so every client can read it.
        serde_json::to_string_pretty(&json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{ "name": CONTEXT, "cluster": cluster }],
            "users": [{ "name": name, "user": user }],
            "contexts": [{ "name": CONTEXT, "context": { "cluster": CONTEXT, "user": name } }],
            "current-context": CONTEXT,
        }))
        .context("failed to encode a kubeconfig")
    }

    fn sign(&self, params: &CertificateParams) -> Result<Pair> {
        let key = KeyPair::generate().context("failed to generate a key")?;
        let certificate = params.signed_by(&key, &self.issuer).context("failed to sign")?;
        Ok(Pair { certificate: certificate.pem(), key: key.serialize_pem() })
    }
}

/// Makes the key that signs service-account tokens. Returns its private and its public half, PEM.
///
/// # Errors
/// Fails when no key can be generated.
pub fn token_keys() -> Result<(String, String)> {
    let key = KeyPair::generate().context("failed to generate a key")?;
    Ok((key.serialize_pem(), key.public_key_pem()))
}

/// Writes `text` to `directory`/`name` and returns that path.
///
/// # Errors
/// Fails when it cannot be written.
pub fn write(directory: &Path, name: &str, text: &str) -> Result<PathBuf> {
    let path = directory.join(name);
    fs::write(&path, text).with_context(|| format!("failed to write {}", path.display()))?;
    Ok(path)
}

fn base64(text: &str) -> String {
    STANDARD.encode(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::config::Kubeconfig;

    #[test]
    fn a_kubeconfig_names_user_server_and_context() {
        let authority = Authority::new().unwrap();
        let text = authority.kubeconfig("https://10.244.255.1:6443", "dba", &["a", "b"]).unwrap();
        let read = Kubeconfig::from_yaml(&text).unwrap();
        assert_eq!(read.current_context.as_deref(), Some(CONTEXT));
        assert_eq!(read.auth_infos[0].name, "dba");
        let server = read.clusters[0].cluster.as_ref().unwrap().server.as_deref();
        assert_eq!(server, Some("https://10.244.255.1:6443"));
    }

    #[test]
    fn both_groups_are_in_the_certificate() {
        let pair = Authority::new().unwrap().client("dba", &["first", "second"]).unwrap();
        let der = rustls::pki_types::pem::PemObject::from_pem_slice(pair.certificate.as_bytes());
        let der: rustls::pki_types::CertificateDer<'_> = der.unwrap();
        for name in ["dba", "first", "second"] {
            assert!(der.windows(name.len()).any(|bytes| bytes == name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn a_third_group_is_refused() {
        let error = Authority::new().unwrap().client("dba", &["a", "b", "c"]).unwrap_err();
        assert!(error.to_string().contains("at most two groups"), "{error}");
    }
}
