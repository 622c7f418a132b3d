//! The chart agrees with the program: rendered by the real Helm, compared as objects.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use pgscale_tests::chart::{self, Rendered};
use pgscale_tests::programs::Programs;
use pgscale_tests::tools::Tools;
use serde_json::{Value, json};

use crate::sandbox::trial;

mod api;
mod running;
mod tested;
mod watching;

const NAMESPACE: &str = "somewhere";
const SECRET: &str = "pgscale-webhook-certificates";

pub(crate) fn trials() -> Vec<Trial> {
    let own = vec![
        trial("chart::permissions_are_those_the_program_prints", permissions),
        trial("chart::the_registration_is_the_one_the_program_prints", registration),
        trial("chart::definitions_are_those_the_program_prints", definitions),
        trial("chart::the_defaults_suit_production", production),
        trial("chart::a_mounted_certificate_still_has_a_secret_path", mounted),
        trial("chart::only_peers_with_a_client_certificate_are_answered", client_authority),
        trial("chart::pods_may_use_the_network_of_their_nodes", host_network),
        trial("chart::the_network_of_the_pods_is_closed_by_default", network),
        trial("chart::invalid_values_are_refused", invalid_values),
    ];
    [own, api::trials(), running::trials(), tested::trials(), watching::trials()]
        .into_iter()
        .flatten()
        .collect()
}

fn render(values: &Value) -> Result<Rendered> {
    chart::render(&Tools::helm()?, NAMESPACE, values)
}

/// Returns the specification of the webhook's pods.
fn pod(rendered: &Rendered) -> Result<Value> {
    let deployment = rendered.object("Deployment", "pgscale-webhook")?;
    Ok(deployment["spec"]["template"]["spec"].clone())
}

/// Returns the webhook as it is built now.
///
/// # Errors
/// Fails when it does not compile.
pub(crate) fn webhook() -> Result<PathBuf> {
    static WEBHOOK: Mutex<Option<PathBuf>> = Mutex::new(None);
    // A panic during a build says nothing about the program.
    let mut built = WEBHOOK.lock().unwrap_or_else(PoisonError::into_inner);
    if built.is_none() {
        *built = Some(Programs::build()?.webhook);
    }
    built.clone().context("the webhook is not built")
}

/// Returns the memory that the chart gives one pod of the webhook by default, in bytes.
///
/// # Errors
/// Fails when the chart has no limit, or not in MiB.
pub(crate) fn memory_limit() -> Result<u64> {
    let values = Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/pgscale/values.yaml");
    let text = fs::read_to_string(&values).context("failed to read the chart's values")?;
    let values: Value = serde_saphyr::from_str(&text).context("the values are not YAML")?;
    let limit = values.pointer("/resources/limits/memory").and_then(Value::as_str);
    let limit = limit.context("resources.limits.memory is not set")?;
    let mebibytes = limit.strip_suffix("Mi").with_context(|| format!("{limit} is not in Mi"))?;
    Ok(mebibytes.parse::<u64>().with_context(|| format!("{limit} is no amount"))? << 20)
}

/// Returns the objects that a subcommand of the webhook prints.
fn printed(args: &[&str]) -> Result<Vec<Value>> {
    let output =
        Command::new(webhook()?).args(args).output().context("failed to run the webhook")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).context("the output is not UTF-8")?;
    chart::objects(&text)
}

/// Fails unless the objects of the chart and those of the program are the same, except for labels.
fn ensure_same(rendered: &[Value], printed: &[Value]) -> Result<()> {
    let sorted = |objects: &[Value]| {
        let mut objects = objects.to_vec();
        for object in &mut objects {
            if let Some(metadata) = object["metadata"].as_object_mut() {
                metadata.remove("labels");
            }
        }
        objects.sort_by_key(|object| format!("{} {}", object["kind"], object["metadata"]["name"]));
        objects
    };
    let (rendered, printed) = (sorted(rendered), sorted(printed));
    ensure!(!printed.is_empty(), "the program prints nothing");
    for (chart, program) in rendered.iter().zip(&printed) {
        ensure!(chart == program, "the chart has\n{chart:#}\nand the program prints\n{program:#}");
    }
    ensure!(rendered.len() == printed.len(), "one has more objects than the other");
    Ok(())
}

fn of_kind(rendered: &Rendered, fits: impl Fn(&str) -> bool) -> Vec<Value> {
    let objects = rendered.objects.iter();
    objects.filter(|object| object["kind"].as_str().is_some_and(&fits)).cloned().collect()
}

/// Returns whether `pgscale-webhook rbac` prints objects of this kind.
fn is_permission(kind: &str) -> bool {
    kind == "ServiceAccount"
        || kind.contains("Role")
        || kind.starts_with("ValidatingAdmissionPolicy")
}

fn permissions() -> Result<()> {
    let program = |more: &[&str]| {
        let namespace = ["rbac", "--namespace", NAMESPACE, "--certificate-secret", SECRET];
        printed(&[&namespace[..], more].concat())
    };
    ensure_same(&of_kind(&render(&json!({}))?, is_permission), &program(&[])?)?;
    let names = [
        "jane",
        "oidc:joe@example.com",
        "arn:aws:iam::123456789012:user/jane",
        "https://idp.example.com#jane",
        "auth0|5f7c",
        "svc-NAMESPACE-dba",
    ];
    let values = json!({"breakGlass": {"users": names}});
    let users = names.map(|name| ["--break-glass-user", name]).concat();
    ensure_same(&of_kind(&render(&values)?, is_permission), &program(&users)?)?;
    // Impersonation may be granted elsewhere, so the witness does not depend on breakGlass.users.
    let witness = "ValidatingAdmissionPolicyBinding";
    let binding = render(&json!({}))?.object(witness, "break-glass.pgscale.dev")?.clone();
    ensure!(binding["spec"]["validationActions"] == json!(["Warn", "Audit"]), "{binding:#}");
    Ok(())
}

fn registration() -> Result<()> {
    let is_registration = |kind: &str| kind == "ValidatingWebhookConfiguration";
    let service = format!("{NAMESPACE}/pgscale-webhook");
    let program = |more: &[&str]| {
        printed(&[&["configuration", "--service", service.as_str()], more].concat())
    };
    ensure_same(&of_kind(&render(&json!({}))?, is_registration), &program(&[])?)?;
    let values = json!({
        "operatorAccounts": ["a/operator", "b/operator"],
        "growFailurePolicy": "Fail",
    });
    let args = [
        ["--operator-account", "system:serviceaccount:a:operator"],
        ["--operator-account", "system:serviceaccount:b:operator"],
        ["--grow-failure-policy", "Fail"],
    ];
    let rendered = render(&values)?;
    ensure_same(&of_kind(&rendered, is_registration), &program(&args.concat())?)?;
    let list = rendered.object("ConfigMap", "pgscale-operators")?;
    ensure!(list["metadata"]["namespace"] == "kube-public", "{list:#}");
    ensure!(list["data"]["accounts"] == "a/operator\nb/operator\n", "{list:#}");
    ensure!(render(&json!({}))?.object("ConfigMap", "pgscale-operators").is_err(), "an empty list");
    let trial = render(&json!({"builtIn": {"mode": "Warn"}}))?;
    let policy = trial.object("ClusterScalePolicy", "pgscale-trial")?;
    ensure!(policy["spec"] == json!({"builtIn": {"mode": "Warn"}}), "{policy:#}");
    let enforced = render(&json!({}))?;
    ensure!(
        enforced.object("ClusterScalePolicy", "pgscale-trial").is_err(),
        "nothing is tried out"
    );
    // The Deployment passes the growth policy of the registration to the program.
    for (rendered, choice) in [(&rendered, "Fail"), (&render(&json!({}))?, "Ignore")] {
        let deployment = rendered.object("Deployment", "pgscale-webhook")?;
        let args = &deployment["spec"]["template"]["spec"]["containers"][0]["args"];
        let flag = json!(format!("--grow-failure-policy={choice}"));
        ensure!(args.as_array().is_some_and(|args| args.contains(&flag)), "{args}");
    }

    let selected = render(&json!({"namespaceSelector": {"matchLabels": {"a": "b"}}}))?;
    let registration = selected.object("ValidatingWebhookConfiguration", "pgscale.dev")?;
    for entry in registration["webhooks"].as_array().context("no entries")? {
        ensure!(entry["namespaceSelector"] == json!({"matchLabels": {"a": "b"}}), "{entry:#}");
    }
    Ok(())
}

fn definitions() -> Result<()> {
    let rendered = render(&json!({}))?;
    let definitions = of_kind(&rendered, |kind| kind == "CustomResourceDefinition");
    ensure_same(&definitions, &printed(&["crd"])?)
}

fn production() -> Result<()> {
    let rendered = render(&json!({}))?;
    for word in ["caBundle:", "/validate", "BEGIN CERTIFICATE", "PRIVATE KEY"] {
        ensure!(!rendered.text.contains(word), "{word} is rendered");
    }
    let secret = rendered.object("Secret", SECRET)?;
    ensure!(secret.get("data").is_none() && secret.get("stringData").is_none(), "{secret:#}");

    let deployment = rendered.object("Deployment", "pgscale-webhook")?;
    ensure!(deployment["spec"]["replicas"] == 2, "{deployment:#}");
    let pod = &deployment["spec"]["template"];
    let container = &pod["spec"]["containers"][0];
    for (path, wanted) in [
        ("/spec/serviceAccountName", json!("pgscale-webhook")),
        ("/spec/securityContext/runAsNonRoot", json!(true)),
        ("/spec/securityContext/seccompProfile/type", json!("RuntimeDefault")),
        ("/spec/containers/0/securityContext/allowPrivilegeEscalation", json!(false)),
        ("/spec/containers/0/securityContext/readOnlyRootFilesystem", json!(true)),
        ("/spec/containers/0/securityContext/capabilities/drop", json!(["ALL"])),
        ("/spec/containers/0/readinessProbe/httpGet/path", json!("/readyz")),
        ("/spec/containers/0/livenessProbe/httpGet/path", json!("/healthz")),
        ("/spec/containers/0/image", json!("pgscale-webhook:0.1.0")),
    ] {
        ensure!(pod.pointer(path) == Some(&wanted), "{path} is not {wanted} in {pod:#}");
    }
    ensure!(container["resources"]["limits"]["memory"].is_string(), "{container:#}");
    ensure!(pod["spec"].get("affinity").is_none(), "{pod:#}");

    // Every selector selects the pods of the Deployment.
    let labels = &pod["metadata"]["labels"];
    let budget = rendered.object("PodDisruptionBudget", "pgscale-webhook")?;
    let service = rendered.object("Service", "pgscale-webhook")?;
    for selector in [
        &deployment["spec"]["selector"]["matchLabels"],
        &budget["spec"]["selector"]["matchLabels"],
        &service["spec"]["selector"],
    ] {
        for (key, value) in selector.as_object().context("no selector")? {
            ensure!(labels[key] == *value, "{key} is not on the pods: {labels:#}");
        }
    }
    let lone = render(&json!({"replicas": 1}))?;
    ensure!(lone.object("PodDisruptionBudget", "pgscale-webhook").is_err(), "it blocks drains");

    let digest = format!("sha256:{}", "0".repeat(64));
    let pinned = render(&json!({"image": {"repository": "r.example.com/p", "digest": digest}}))?;
    let image = &pinned.object("Deployment", "pgscale-webhook")?["spec"]["template"]["spec"]["containers"]
        [0]["image"];
    ensure!(*image == format!("r.example.com/p@{digest}"), "{image}");
    Ok(())
}

fn mounted() -> Result<()> {
    let annotation = json!({"cert-manager.io/inject-ca-from": "somewhere/pgscale"});
    let rendered = render(&json!({
        "certificates": {"existingSecret": "from-cert-manager"}, "registrationAnnotations": annotation,
    }))?;
    let secret = rendered.object("Secret", SECRET)?;
    ensure!(secret.get("data").is_none() && secret.get("stringData").is_none(), "{secret:#}");
    let registration = rendered.object("ValidatingWebhookConfiguration", "pgscale.dev")?;
    ensure!(registration["metadata"]["annotations"] == annotation, "{registration:#}");
    let pod = &rendered.object("Deployment", "pgscale-webhook")?["spec"]["template"]["spec"];
    ensure!(pod["volumes"][0]["secret"]["secretName"] == "from-cert-manager", "{pod:#}");
    let args = pod["containers"][0]["args"].as_array().context("no arguments")?;
    ensure!(args.contains(&json!("--tls-cert=/certificates/tls.crt")), "{args:?}");
    let path = format!("--path-secret={NAMESPACE}/{SECRET}");
    ensure!(args.contains(&json!(path)), "{args:?}");
    let own = args.iter().filter_map(Value::as_str).any(|arg| arg.contains("certificate-secret"));
    ensure!(!own, "it makes authorities that are not used: {args:?}");
    let program = printed(&["rbac", "--namespace", NAMESPACE, "--certificate-secret", SECRET])?;
    // The fence is there in any case: the account may write the registration's owner.
    let fence = rendered.object("ValidatingAdmissionPolicyBinding", "registration.pgscale.dev")?;
    ensure!(fence["spec"]["validationActions"] == json!(["Deny"]), "{fence:#}");
    ensure_same(&of_kind(&rendered, is_permission), &program)
}

/// A webhook that answers only peers with a client certificate.
fn client_authority() -> Result<()> {
    let rendered = render(&json!({}))?;
    let pod = &rendered.object("Deployment", "pgscale-webhook")?["spec"]["template"]["spec"];
    ensure!(pod.get("volumes").is_none(), "{pod:#}");
    ensure!(!rendered.text.contains("--client-"), "a client authority that is not set");

    let authority = json!({"configMap": "api-server-ca", "names": ["kube-apiserver", "b"]});
    let certificates = json!({"existingSecret": "from-cert-manager"});
    for values in [
        json!({"clientAuthority": authority}),
        json!({"clientAuthority": authority, "certificates": certificates}),
    ] {
        let rendered = render(&values)?;
        let pod = &rendered.object("Deployment", "pgscale-webhook")?["spec"]["template"]["spec"];
        let volumes = pod["volumes"].as_array().context("no volumes")?;
        let volume = json!({"name": "client-authority", "configMap": {"name": "api-server-ca"}});
        ensure!(volumes.contains(&volume), "{pod:#}");
        let container = &pod["containers"][0];
        let mounts = container["volumeMounts"].as_array().context("no mounts")?;
        ensure!(mounts.len() == volumes.len(), "{container:#}");
        let args = container["args"].as_array().context("no arguments")?;
        for arg in ["ca=/client-authority/ca.crt", "name=kube-apiserver", "name=b"] {
            ensure!(args.contains(&json!(format!("--client-{arg}"))), "{arg} is not in {args:?}");
        }
    }
    Ok(())
}

/// An API server with a route to nodes and none to pods, and an IPv6 cluster.
fn host_network() -> Result<()> {
    let rendered = render(&json!({}))?;
    let pod = &rendered.object("Deployment", "pgscale-webhook")?["spec"]["template"]["spec"];
    ensure!(pod.get("hostNetwork").is_none() && pod.get("dnsPolicy").is_none(), "{pod:#}");
    let args = pod["containers"][0]["args"].as_array().context("no arguments")?;
    for arg in ["--listen=[::]:9443", "--metrics-listen=[::]:9090"] {
        ensure!(args.contains(&json!(arg)), "{arg} is not in {args:?}");
    }

    let values = json!({"hostNetwork": true, "ports": {"webhook": 10260, "metrics": 10261}});
    let rendered = render(&values)?;
    let deployment = &rendered.object("Deployment", "pgscale-webhook")?["spec"];
    let pod = &deployment["template"]["spec"];
    let container = &pod["containers"][0];
    let args = container["args"].as_array().context("no arguments")?;
    for arg in ["--listen=[::]:10260", "--metrics-listen=[::]:10261"] {
        ensure!(args.contains(&json!(arg)), "{arg} is not in {args:?}");
    }
    let ports = [("webhook", 10260), ("metrics", 10261)];
    let ports = ports.map(|(name, port)| json!({"name": name, "containerPort": port}));
    ensure!(container["ports"] == json!(ports), "{container:#}");
    ensure!(pod["hostNetwork"] == true && pod["dnsPolicy"] == "ClusterFirstWithHostNet", "{pod:#}");
    // A second pod finds no free port on a node, so the old one has to stop first.
    ensure!(deployment["strategy"]["rollingUpdate"]["maxSurge"] == 0, "{deployment:#}");
    let dns = render(&json!({"hostNetwork": true, "dnsPolicy": "Default"}))?;
    let pod = &dns.object("Deployment", "pgscale-webhook")?["spec"]["template"]["spec"];
    ensure!(pod["dnsPolicy"] == "Default", "{pod:#}");
    Ok(())
}

fn network() -> Result<()> {
    let policy = |values: &Value| -> Result<Value> {
        Ok(render(values)?.object("NetworkPolicy", "pgscale-webhook")?["spec"].clone())
    };
    let spec = policy(&json!({}))?;
    ensure!(spec["policyTypes"] == json!(["Ingress", "Egress"]), "{spec:#}");
    let rendered = render(&json!({}))?;
    let pods = &rendered.object("Deployment", "pgscale-webhook")?["spec"]["selector"];
    ensure!(spec["podSelector"] == *pods, "other pods: {spec:#}");
    let ports = |rule: &Value| -> Vec<String> {
        let ports = rule["ports"].as_array().into_iter().flatten();
        ports.map(|it| format!("{} {}", it["protocol"], it["port"]).replace('"', "")).collect()
    };
    let of = |way: &str| -> Vec<Vec<String>> {
        spec[way].as_array().into_iter().flatten().map(ports).collect()
    };
    ensure!(of("ingress") == [["TCP 9443"], ["TCP 9090"]], "{spec:#}");
    let api_server = ["TCP 443", "TCP 6443", "TCP 8443", "TCP 16443"].map(str::to_owned).to_vec();
    ensure!(of("egress") == [api_server, vec!["TCP 8008".to_owned()]], "{spec:#}");
    let everywhere = json!([{"namespaceSelector": {}}]);
    ensure!(spec["egress"][1]["to"] == everywhere, "Patroni outside of pods: {spec:#}");
    ensure!(spec["ingress"][1]["from"] == everywhere, "{spec:#}");
    ensure!(spec["ingress"][0].get("from").is_none(), "{spec:#}");

    let peers = json!([{"ipBlock": {"cidr": "10.0.0.0/28"}}]);
    let spec = policy(&json!({
        "ports": {"webhook": 10260, "metrics": 10261},
        "networkPolicy": {"apiServer": peers, "apiServerPorts": [7443], "patroniPorts": [8008, 8009]},
    }))?;
    ensure!(spec["ingress"][0]["from"] == peers && spec["egress"][0]["to"] == peers, "{spec:#}");
    ensure!(ports(&spec["ingress"][0]) == ["TCP 10260"], "{spec:#}");
    ensure!(ports(&spec["egress"][0]) == ["TCP 7443"], "{spec:#}");
    ensure!(ports(&spec["egress"][1]) == ["TCP 8008", "TCP 8009"], "{spec:#}");
    let spec = policy(&json!({"networkPolicy": {"dns": true}}))?;
    ensure!(ports(&spec["egress"][2]) == ["UDP 53", "TCP 53", "UDP 5353", "TCP 5353"], "{spec:#}");
    for values in [json!({"networkPolicy": {"enabled": false}}), json!({"hostNetwork": true})] {
        ensure!(policy(&values).is_err(), "{values} has a NetworkPolicy");
    }
    Ok(())
}

fn invalid_values() -> Result<()> {
    for (values, says) in [
        (json!({"replica": 3}), "replica"),
        (json!({"replicas": "3"}), "replicas"),
        (json!({"image": {"repository": ""}}), "repository"),
        (json!({"growFailurePolicy": "Allow"}), "growFailurePolicy"),
        (json!({"operatorAccounts": ["a', 'b"]}), "operatorAccounts"),
        (json!({"breakGlass": {"users": ["jane\nverbs: [\"*\"]"]}}), "users"),
        (json!({"drain": {"delay": "10"}}), "delay"),
        (json!({"log": {"format": "xml"}}), "format"),
        (json!({"ports": {"webhook": 443}}), "webhook"),
        (json!({"ports": {"webhook": 9090}}), "must differ"),
        (json!({"hostNetwork": "yes"}), "hostNetwork"),
        (json!({"networkPolicy": {"enabled": "yes"}}), "enabled"),
        (json!({"networkPolicy": {"patroniPorts": []}}), "patroniPorts"),
        (json!({"networkPolicy": {"apiServer": [{}]}}), "apiServer"),
        (json!({"networkPolicy": {"apiServer": ["10.0.0.0/28"]}}), "apiServer"),
        (json!({"clientAuthority": {"configMap": "A B"}}), "configMap"),
        (json!({"clientAuthority": {"names": ["a"]}}), "needs clientAuthority.configMap"),
        (json!({"api": {"enabled": true}}), "needs api.tlsSecret"),
        (json!({"api": {"port": 443}}), "port"),
        (json!({"api": {"clusterTemplate": "{namen}"}}), "clusterTemplate"),
        (json!({"replicas": 0}), "leaves no webhook"),
        (json!({"terminationGracePeriodSeconds": 30}), "is too short"),
        (json!({"drain": {"delay": "1m30s"}}), "is too short"),
        // Seconds and a half are no shorter than the whole ones.
        (json!({"drain": {"delay": "10.5s"}, "terminationGracePeriodSeconds": 30}), "is too short"),
        (json!({"podDisruptionBudget": {"maxUnavailable": 0}}), "allows no replica to go"),
        (json!({"podDisruptionBudget": {"maxUnavailable": "0%"}}), "allows no replica to go"),
        (json!({"podDisruptionBudget": {"maxUnavailable": 2}}), "all 2 replicas go"),
        (json!({"podDisruptionBudget": {"maxUnavailable": "51%"}}), "all 2 replicas go"),
        (json!({"podSecurityContext": {"runAsUser": 0}}), "runAsUser: 0 cannot work"),
        (json!({"securityContext": {"runAsUser": 0}}), "runAsUser: 0 cannot work"),
        (json!({"breakGlass": {"users": ["system:serviceaccount:a:b"]}}), "cannot break the glass"),
        (json!({"breakGlass": {"users": ["a/b", "a:b"]}}), "would have the same name"),
        (json!({"breakGlass": {"users": ["jane", "jane:group"]}}), "would have the same name"),
        (json!({"extraArgs": ["--listen=[::]:1"]}), "--listen is set by the chart"),
        (json!({"extraArgs": ["--log-format=text"]}), "--log-format is set by the chart"),
        (json!({"extraArgs": ["max-connections=1"]}), "extraArgs"),
        (json!({"extraEnv": [{"name": "A"}, {"name": "A"}]}), "named twice"),
        (json!({"extraVolumes": [{"name": "certificates"}]}), "is taken"),
        (json!({"extraVolumeMounts": [{"name": "a", "mountPath": "/a"}]}), "there is no volume a"),
        (json!({"podLabels": {"app.kubernetes.io/name": "a"}}), "cannot change"),
        (json!({"commonLabels": {"app.kubernetes.io/instance": "a"}}), "cannot change"),
        (json!({"listenAddress": "10.0.0.1"}), "listenAddress"),
        (json!({"service": {"ipFamilies": ["IPv5"]}}), "ipFamilies"),
        (json!({"monitoring": {"prometheusRule": {"enabled": "yes"}}}), "enabled"),
        (json!({"monitoring": {"prometheusRules": {}}}), "prometheusRules"),
        (json!({"apiPriority": {"shares": 0}}), "shares"),
        (json!({"affinity": {"nodeAffinities": {}}}), "nodeAffinities"),
    ] {
        let error = render(&values).err().with_context(|| format!("{values} was taken"))?;
        ensure!(format!("{error:#}").contains(says), "{values}: {error:#}");
    }
    // What is close to these, and works.
    for values in [
        json!({"terminationGracePeriodSeconds": 31}),
        json!({"replicas": 1}),
        json!({"podDisruptionBudget": {"maxUnavailable": "50%"}}),
        json!({"podSecurityContext": {"runAsUser": 0}, "securityContext": {"runAsUser": 5}}),
        json!({"podSecurityContext": {"runAsUser": null, "runAsGroup": null}}),
        json!({"breakGlass": {"users": ["jane", "group"]}}),
        json!({"hostNetwork": true, "replicas": 3}),
        json!({"topologySpreadConstraints": [], "priorityClassName": ""}),
    ] {
        render(&values).with_context(|| format!("{values} was refused"))?;
    }
    Ok(())
}
