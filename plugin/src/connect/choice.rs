//! The cluster and the user that kubectl would take from a kubeconfig and the flags.
//!
//! The rules are those of client-go (`DirectClientConfig`, `tools/clientcmd/client_config.go`, and
//! `tools/clientcmd/validation.go`). kube alone knows fewer: for it an empty value is a value, a
//! context is always needed, and contradictions pass.

use kube::config::{AuthInfo, Cluster, Context, ExecAuthCluster, Kubeconfig};
use pgscale_guard::remedy::Command;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::Flags;
use crate::error::{Failure, chain};

/// The part of a user's entry that says how its credentials are obtained.
type Fields = Map<String, Value>;

/// The server to ask, and the user to ask as.
pub(super) struct Chosen {
    /// The cluster's entry, with a server.
    pub(super) cluster: Cluster,
    /// The user's entry.
    pub(super) user: AuthInfo,
    /// The namespace of the context.
    pub(super) namespace: Option<String>,
}

/// Returns the entries that `flags` lead to. `None` where they lead to no server at all.
///
/// # Errors
/// A name that the kubeconfig does not have, or an entry that contradicts itself.
pub(super) fn chosen(all: &Kubeconfig, flags: &Flags) -> Result<Option<Chosen>, Failure> {
    let context = context(all, flags)?;
    let Some((mut cluster, name)) = cluster(all, &context, flags)? else { return Ok(None) };
    let mut user = user(all, &context, flags)?;
    let (of_cluster, mut of_user) = (fields(&cluster)?, fields(&user)?);
    if flags.token.is_some() {
        of_user.insert("token".to_owned(), Value::Null);
    }
    if let Some(why) = contradiction(&of_cluster, &of_user) {
        return Err(Failure::error(format!("the kubeconfig cannot be used: {why}")).hint_to(
            format!("look at the entries of cluster {name:?} and of its user"),
            Command::kubectl(["config", "view", "--minify"]),
        ));
    }
    if cluster.server.as_deref().is_some_and(is_plain) {
        // Nothing of this is looked at without TLS.
        cluster.certificate_authority = None;
        cluster.certificate_authority_data = None;
        user = without_secrets(user);
    }
    if let Some(exec) = user.exec.as_mut().filter(|exec| exec.provide_cluster_info) {
        let known = ExecAuthCluster::try_from(&cluster);
        exec.cluster = Some(known.map_err(|error| {
            Failure::error(format!("the kubeconfig cannot be used: {}", chain(&error)))
        })?);
    }
    let namespace = context.namespace.filter(|name| !name.is_empty());
    Ok(Some(Chosen { cluster, user, namespace }))
}

/// Returns the user's entry with the user to act as alone.
///
/// Without TLS, the credentials would cross the network as plain text, and kubectl does not send them
/// either (`IsConfigTransportTLS`, `tools/clientcmd/client_config.go`).
fn without_secrets(user: AuthInfo) -> AuthInfo {
    let AuthInfo {
        impersonate, impersonate_uid, impersonate_groups, impersonate_user_extra, ..
    } = user;
    AuthInfo {
        impersonate,
        impersonate_uid,
        impersonate_groups,
        impersonate_user_extra,
        ..AuthInfo::default()
    }
}

/// Returns the context of the flag, or else the current one. An empty one where there is none: the
/// flags may name a cluster and a user.
fn context(all: &Kubeconfig, flags: &Flags) -> Result<Context, Failure> {
    let current = all.current_context.as_ref().filter(|name| !name.is_empty());
    let Some(name) = flags.context.as_ref().or(current) else { return Ok(Context::default()) };
    let found = all.contexts.iter().find(|named| named.name == *name);
    found.and_then(|named| named.context.clone()).ok_or_else(|| {
        let known: Vec<_> = all.contexts.iter().map(|named| named.name.as_str()).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        Failure::error(format!("there is no context {name:?} in the kubeconfig (it has: {known})"))
            .hint_to("see them", Command::kubectl(["config", "get-contexts"]))
    })
}

/// Returns the cluster's entry with its name, and with the server of the flag.
fn cluster(
    all: &Kubeconfig,
    context: &Context,
    flags: &Flags,
) -> Result<Option<(Cluster, String)>, Failure> {
    let name = flags.cluster.as_ref().unwrap_or(&context.cluster);
    let found = all.clusters.iter().find(|named| named.name == *name);
    let found = found.and_then(|named| named.cluster.clone());
    let missing = found.is_none() && !name.is_empty();
    if missing && (flags.cluster.is_some() || flags.server.is_none()) {
        return Err(Failure::error(format!("the kubeconfig describes no cluster {name:?}"))
            .hint_to("see them", Command::kubectl(["config", "get-clusters"])));
    }
    let mut cluster: Cluster = without_empty(&found.unwrap_or_default())?;
    if let Some(server) = &flags.server {
        cluster.server = Some(server.clone());
        // It belongs to the server of the entry.
        cluster.tls_server_name = None;
    }
    if flags.insecure_skip_tls_verify || flags.certificate_authority.is_some() {
        cluster.insecure_skip_tls_verify = None;
        cluster.certificate_authority = None;
        cluster.certificate_authority_data = None;
    }
    let Some(server) = &cluster.server else {
        if missing || !fields(&cluster)?.is_empty() || !name.is_empty() {
            return Err(Failure::error(format!(
                "the kubeconfig names no server of cluster {name:?}"
            ))
            .hint_to("see it", Command::kubectl(["config", "view", "--minify"])));
        }
        return Ok(None);
    };
    cluster.server = Some(spelled(server));
    Ok(Some((cluster, name.clone())))
}

/// Returns the user's entry, without what the flags replace.
fn user(all: &Kubeconfig, context: &Context, flags: &Flags) -> Result<AuthInfo, Failure> {
    let name = flags.user.as_ref().or(context.user.as_ref());
    let found = all.auth_infos.iter().find(|named| Some(&named.name) == name);
    let found = found.and_then(|named| named.auth_info.clone());
    if let (None, Some(name)) = (&found, &flags.user) {
        return Err(Failure::error(format!("the kubeconfig describes no user {name:?}"))
            .hint_to("see them", Command::kubectl(["config", "get-users"])));
    }
    let mut user: AuthInfo = without_empty(&found.unwrap_or_default())?;
    if flags.client_certificate.is_some() {
        user.client_certificate = None;
        user.client_certificate_data = None;
        user.client_key = None;
        user.client_key_data = None;
    }
    if user.client_certificate.is_none() && user.client_certificate_data.is_none() {
        // A key alone identifies no user, and is not looked at.
        user.client_key = None;
        user.client_key_data = None;
    }
    if flags.token.is_some() {
        user.token_file = None;
    }
    if user.username.is_some() != user.password.is_some() {
        // Half of a pair is sent with an empty other half.
        user.username.get_or_insert_default();
        if user.password.is_none() {
            user.password = parsed::<AuthInfo>(json!({"password": ""}))?.password;
        }
    }
    if flags.token.is_some()
        || user.token.is_some()
        || user.token_file.is_some()
        || user.username.is_some()
    {
        // No program is asked where the credentials are there already. That it could be run is
        // checked all the same, as in kubectl.
        let exec = user.exec.take();
        if let Some(why) = exec.and_then(|exec| program(&json!(exec))) {
            return Err(Failure::error(format!("the kubeconfig cannot be used: {why}")));
        }
    }
    if flags.as_user.is_some() {
        user.impersonate.clone_from(&flags.as_user);
    }
    Ok(user)
}

/// Returns whether a server is asked without TLS. A scheme has no case.
fn is_plain(server: &str) -> bool {
    server.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case("http://"))
}

/// Returns the address of a server with a scheme: without one, client-go means http.
pub(super) fn spelled(server: &str) -> String {
    if server.contains("://") { server.to_owned() } else { format!("http://{server}") }
}

/// Returns why kubectl does not take these entries, if it does not.
fn contradiction(cluster: &Fields, user: &Fields) -> Option<String> {
    let both = |fields: &Fields, one: &str, other: &str| {
        (fields.contains_key(one) && fields.contains_key(other))
            .then(|| format!("{one} and {other} are both given; remove one of them"))
    };
    let has = |key: &str| user.contains_key(key);
    let authority = ["certificate-authority", "certificate-authority-data"];
    let insecure = cluster.get("insecure-skip-tls-verify") == Some(&Value::Bool(true));
    let certificate = has("client-certificate") || has("client-certificate-data");
    let key = has("client-key") || has("client-key-data");
    let methods =
        [has("token"), has("username") || has("password")].into_iter().filter(|it| *it).count();
    let impersonated = ["as-uid", "as-groups", "as-user-extra"].into_iter().any(has);
    both(cluster, "certificate-authority-data", "certificate-authority")
        .or_else(|| {
            let known = authority.into_iter().find(|key| cluster.contains_key(*key));
            known.filter(|_| insecure).map(|key| {
                format!("insecure-skip-tls-verify and {key} are both given; remove one of them")
            })
        })
        .or_else(|| both(user, "client-certificate-data", "client-certificate"))
        .or_else(|| both(user, "client-key-data", "client-key").filter(|_| certificate))
        .or_else(|| {
            (certificate && !key).then(|| "client-certificate is given without client-key".into())
        })
        .or_else(|| {
            (methods > 1).then(|| "token and username are both given; remove one of them".into())
        })
        .or_else(|| {
            (impersonated && !has("as"))
                .then(|| "as-uid, as-groups or as-user-extra is given without as".into())
        })
        .or_else(|| both(user, "exec", "auth-provider"))
        .or_else(|| user.get("exec").and_then(program))
}

/// Returns why kubectl does not run this credential program, if it does not.
fn program(exec: &Value) -> Option<String> {
    const V1: &str = "client.authentication.k8s.io/v1";
    const BETA: &str = "client.authentication.k8s.io/v1beta1";
    let text = |key: &str| exec.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
    if text("command").is_none() {
        return Some("exec has no command".to_owned());
    }
    match (text("apiVersion"), text("interactiveMode")) {
        (None, _) => Some(format!("exec has no apiVersion, such as {V1}")),
        (Some(V1), None) => Some("exec has no interactiveMode, such as IfAvailable".to_owned()),
        (Some(V1 | BETA), _) => None,
        (Some(other), _) => Some(format!("exec has the apiVersion {other:?}, and not {V1}")),
    }
}

/// Returns an entry as the fields that are written in it.
fn fields<T: Serialize>(entry: &T) -> Result<Fields, Failure> {
    match serde_json::to_value(entry) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) | Err(_) => Err(Failure::error("an entry of the kubeconfig cannot be read")),
    }
}

/// Returns an entry without its empty values, which are none for kubectl.
fn without_empty<T: Serialize + DeserializeOwned>(entry: &T) -> Result<T, Failure> {
    let mut fields = fields(entry)?;
    fields.retain(|_, value| match value {
        Value::Null => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::Object(_) => true,
    });
    parsed(Value::Object(fields))
}

/// Returns an entry from its fields.
pub(super) fn parsed<T: DeserializeOwned>(fields: Value) -> Result<T, Failure> {
    serde_json::from_value(fields)
        .map_err(|_| Failure::error("an entry of the kubeconfig cannot be read"))
}
