//! The way to the API server as a kubeconfig of one context, for another program.
//!
//! A program such as helm that reads the person's kubeconfig itself may come to another cluster: it
//! knows fewer flags than kubectl, has variables of its own, and reads the file at another time. So it
//! gets what this program connects with, and nothing else.

use std::path::Path;

use kube::config::{AuthInfo, Cluster};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::Flags;

/// The name of the only context, cluster and user.
pub(crate) const CONTEXT: &str = "pgscale";

/// The directory with token and authority of a pod's account
/// (client-go, `rest.InClusterConfig`).
const POD: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// The source of cluster and user.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// The entries that the person's files and the flags lead to, with absolute paths.
    Entries(Box<(Cluster, AuthInfo)>),
    /// The account of the pod that this program runs in.
    Pod,
}

/// Returns a kubeconfig that leads to `server` as the same user as `flags` do.
pub(crate) fn kubeconfig(source: &Source, flags: &Flags, server: &str) -> Value {
    let (mut cluster, mut user) = match source {
        Source::Entries(entries) => (object(&entries.0), object(&entries.1)),
        Source::Pod => (
            object(&json!({"certificate-authority": format!("{POD}/ca.crt")})),
            object(&json!({"tokenFile": format!("{POD}/token")})),
        ),
    };
    cluster.insert("server".to_owned(), json!(server.trim_end_matches('/')));
    of_cluster(&mut cluster, flags);
    of_user(&mut user, flags);
    json!({
        "apiVersion": "v1", "kind": "Config",
        "clusters": [{"name": CONTEXT, "cluster": cluster}],
        "users": [{"name": CONTEXT, "user": user}],
        "contexts": [{"name": CONTEXT, "context": {"cluster": CONTEXT, "user": CONTEXT}}],
        "current-context": CONTEXT,
    })
}

fn object(part: &impl Serialize) -> Map<String, Value> {
    match serde_json::to_value(part) {
        Ok(Value::Object(part)) => part,
        Ok(_) | Err(_) => Map::new(),
    }
}

fn of_cluster(cluster: &mut Map<String, Value>, flags: &Flags) {
    if let Some(file) = &flags.certificate_authority {
        cluster.remove("certificate-authority-data");
        cluster.insert("certificate-authority".to_owned(), json!(absolute(file)));
    }
    if let Some(name) = &flags.tls_server_name {
        cluster.insert("tls-server-name".to_owned(), json!(name));
    }
    if flags.insecure_skip_tls_verify {
        // client-go takes no authority beside it.
        cluster.remove("certificate-authority-data");
        cluster.remove("certificate-authority");
        cluster.insert("insecure-skip-tls-verify".to_owned(), json!(true));
    }
}

fn of_user(user: &mut Map<String, Value>, flags: &Flags) {
    if let Some(token) = &flags.token {
        // Beside it stays what kubectl sends beside it: a client certificate, for one.
        user.remove("tokenFile");
        user.insert("token".to_owned(), json!(token));
    }
    if let (Some(certificate), Some(key)) = (&flags.client_certificate, &flags.client_key) {
        user.remove("client-certificate-data");
        user.remove("client-key-data");
        user.insert("client-certificate".to_owned(), json!(absolute(certificate)));
        user.insert("client-key".to_owned(), json!(absolute(key)));
    }
    if let Some(name) = &flags.as_user {
        user.insert("as".to_owned(), json!(name));
    }
    if let Some(uid) = &flags.as_uid {
        user.insert("as-uid".to_owned(), json!(uid));
    }
    if !flags.as_group.is_empty() {
        user.insert("as-groups".to_owned(), json!(flags.as_group));
    }
}

/// Returns the path that means the same in a kubeconfig of another directory.
fn absolute(file: &Path) -> String {
    let path = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use kube::config::Kubeconfig;

    use super::super::choice;
    use super::*;

    /// Returns what flags choose of the person's files: two clusters, two users, and a context of
    /// each.
    fn files(flags: &Flags) -> Source {
        let text = "
            apiVersion: v1
            kind: Config
            current-context: blue
            clusters:
            - {name: blue, cluster: {server: 'https://blue:6443', certificate-authority-data: QQ==}}
            - {name: red, cluster: {server: 'https://red:6443', proxy-url: 'http://proxy:3128'}}
            users:
            - {name: jane, user: {token: s3cret, as: ops, as-groups: [a]}}
            - {name: joe, user: {exec: {apiVersion: client.authentication.k8s.io/v1beta1, command: aws, args: [x]}}}
            contexts:
            - {name: blue, context: {cluster: blue, user: jane, namespace: db}}
            - {name: red, context: {cluster: red, user: joe}}
            ";
        let all = Kubeconfig::from_yaml(text).unwrap();
        let chosen = choice::chosen(&all, flags).ok().flatten().unwrap();
        Source::Entries(Box::new((chosen.cluster, chosen.user)))
    }

    /// Returns the only cluster and the only user of a kubeconfig, whose current context has both.
    fn parts(made: &Value) -> (Value, Value) {
        assert_eq!(made["current-context"], made["contexts"][0]["name"], "{made:#}");
        assert_eq!(made["contexts"].as_array().unwrap().len(), 1, "{made:#}");
        (made["clusters"][0]["cluster"].clone(), made["users"][0]["user"].clone())
    }

    #[test]
    fn another_program_gets_the_cluster_and_user_of_the_flags() {
        let of = |flags: Flags, server: &str| parts(&kubeconfig(&files(&flags), &flags, server));
        let blue = of(Flags::default(), "https://blue:6443/");
        let cluster = json!({"server": "https://blue:6443", "certificate-authority-data": "QQ=="});
        assert_eq!(blue, (cluster, json!({"token": "s3cret", "as": "ops", "as-groups": ["a"]})));

        let red = Flags { context: Some("red".to_owned()), ..Flags::default() };
        let (cluster, user) = of(red, "https://red:6443/");
        assert_eq!(cluster["proxy-url"], "http://proxy:3128");
        assert_eq!((user["exec"]["command"].as_str(), user.get("token")), (Some("aws"), None));

        let mixed = Flags {
            context: Some("red".to_owned()),
            user: Some("jane".to_owned()),
            cluster: Some("blue".to_owned()),
            ..Flags::default()
        };
        let (cluster, user) = of(mixed, "https://blue:6443/");
        assert_eq!(
            (&cluster["server"], &user["token"]),
            (&json!("https://blue:6443"), &json!("s3cret"))
        );
    }

    #[test]
    fn flags_of_the_connection_win_over_the_files() {
        let flags = Flags {
            token: Some("other".to_owned()),
            as_group: vec!["b".to_owned()],
            as_uid: Some("7".to_owned()),
            certificate_authority: Some("ca.pem".into()),
            tls_server_name: Some("api".to_owned()),
            ..Flags::default()
        };
        let (cluster, user) = parts(&kubeconfig(&files(&flags), &flags, "https://10.0.0.1:6443/"));
        assert_eq!(user, json!({"token": "other", "as": "ops", "as-uid": "7", "as-groups": ["b"]}));
        assert_eq!(cluster["server"], "https://10.0.0.1:6443");
        assert_eq!(cluster["tls-server-name"], "api");
        assert!(cluster.get("certificate-authority-data").is_none(), "{cluster:#}");
        let file = cluster["certificate-authority"].as_str().unwrap();
        assert!(Path::new(file).is_absolute() && file.ends_with("ca.pem"), "{file}");

        let certificate = AuthInfo {
            client_certificate_data: Some("QQ==".to_owned()),
            client_key_data: Some("QQ==".to_owned().into()),
            ..AuthInfo::default()
        };
        let both = Source::Entries(Box::new((Cluster::default(), certificate)));
        let (_, user) = parts(&kubeconfig(&both, &flags, "https://blue:6443/"));
        assert_eq!(
            (&user["token"], &user["client-certificate-data"]),
            (&json!("other"), &json!("QQ=="))
        );
        assert_eq!(user["client-key-data"], "QQ==", "{user:#}");

        let insecure = Flags { insecure_skip_tls_verify: true, ..Flags::default() };
        let (cluster, _) = parts(&kubeconfig(&files(&insecure), &insecure, "https://blue:6443/"));
        assert_eq!(
            cluster,
            json!({"server": "https://blue:6443", "insecure-skip-tls-verify": true})
        );
        let shown = Flags {
            client_certificate: Some("c.pem".into()),
            client_key: Some("k.pem".into()),
            ..Flags::default()
        };
        let (_, user) = parts(&kubeconfig(&files(&shown), &shown, "https://blue:6443/"));
        assert!(user["client-key"].as_str().unwrap().ends_with("k.pem"), "{user:#}");
    }

    #[test]
    fn pod_acts_as_its_account_without_a_kubeconfig() {
        let made = kubeconfig(&Source::Pod, &Flags::default(), "https://10.96.0.1:443/");
        let (cluster, user) = parts(&made);
        assert_eq!(cluster["certificate-authority"], format!("{POD}/ca.crt"));
        assert_eq!(user, json!({"tokenFile": format!("{POD}/token")}));
        let flags = Flags { server: Some("http://localhost:8080".to_owned()), ..Flags::default() };
        let chosen = choice::chosen(&Kubeconfig::default(), &flags).ok().flatten().unwrap();
        let source = Source::Entries(Box::new((chosen.cluster, chosen.user)));
        let alone = kubeconfig(&source, &flags, "http://localhost:8080/");
        assert_eq!(parts(&alone), (json!({"server": "http://localhost:8080"}), json!({})));
    }
}
