//! The verbs and flags of plain kubectl, as far as commands suggest them.

/// Programs that read the output of kubectl.
pub(super) const READERS: &[&str] = &["Invoke-Expression", "Out-String", "jq", "sed", "source"];

/// Verbs of kubectl whose next word is a kind of object.
const ON_KINDS: &[&str] = &[
    "annotate", "create", "delete", "describe", "edit", "get", "label", "patch", "rollout",
    "scale", "set", "wait",
];

/// Verbs that name no object in a namespace.
const ELSEWHERE: &[&str] = &["auth", "cluster-info", "config", "explain"];

/// Kinds in a namespace, as we spell them.
const KINDS: &[&str] = &[
    "certificate",
    "configmap",
    "deployment",
    "endpoints",
    "endpointslices",
    "events",
    "horizontalpodautoscaler",
    "job",
    "limitrange",
    "networkpolicy",
    "persistentvolumeclaim",
    "pod",
    "poddisruptionbudget",
    "pods",
    "postgresql",
    "pvc",
    "resourcequota",
    "rolebinding",
    "scaledobject",
    "scaleoverride",
    "scaleoverrides",
    "instanceledgers",
    "scalepolicies",
    "scalepolicy",
    "secret",
    "service",
    "statefulset",
];

/// Kinds of the whole cluster.
const CLUSTER_KINDS: &[&str] = &[
    "clusterrolebinding",
    "clusterscalepolicies",
    "clusterscalepolicy",
    "customresourcedefinition",
    "namespace",
    "node",
    "persistentvolume",
    "pv",
    "validatingwebhookconfiguration",
];

/// Flags whose value is the next word.
const WITH_VALUE: &[&str] = &["-c", "-f", "-l", "-L", "-n", "-o", "-p", "--namespace"];

/// Returns what is wrong with these words of kubectl; `None` where nothing is.
pub(super) fn wrong(words: &[&str]) -> Option<String> {
    let (own, inside) = match words.iter().position(|word| *word == "--") {
        Some(at) => (&words[..at], Some(&words[at + 1..])),
        None => (words, None),
    };
    let (mut flags, mut names) = (Vec::new(), Vec::new());
    let mut rest = own.iter();
    while let Some(word) = rest.next() {
        if word.starts_with('-') && *word != "-" {
            let value = WITH_VALUE.contains(word).then(|| rest.next());
            if value == Some(None) {
                return Some(format!("{word} has no value"));
            }
            flags.push(*word);
        } else {
            names.push(*word);
        }
    }
    let (verb, objects) = names.split_first()?;
    let namespaced = flags.iter().any(|flag| {
        ["-n", "--namespace", "-A", "--all-namespaces"].contains(flag)
            || flag.starts_with("--namespace=")
    });
    let from_file = flags.iter().any(|flag| *flag == "-f" || flag.starts_with("--filename"));
    match *verb {
        verb if ELSEWHERE.contains(&verb) => None,
        // The plugin manager, https://krew.sigs.k8s.io: on release pages only.
        "krew" if objects.first() == Some(&"install") => None,
        "apply" | "create" | "delete" | "replace" if from_file => None,
        "logs" | "exec" if objects.len() != 1 => Some("one pod is meant".to_owned()),
        "logs" | "exec" if !namespaced => Some("no namespace".to_owned()),
        "exec" if inside.is_none_or(<[_]>::is_empty) => Some("nothing to run inside".to_owned()),
        "exec" if !flags.contains(&"-c") => Some("no container".to_owned()),
        "logs" | "exec" => None,
        verb if ON_KINDS.contains(&verb) => {
            let objects =
                if ["rollout", "set"].contains(&verb) { objects.get(1..)? } else { objects };
            let Some(first) = objects.first() else { return Some("no object".to_owned()) };
            let kinds = first.split('/').next().unwrap_or(first).split(',');
            let (mut inside, mut unknown) = (false, None);
            for kind in kinds {
                inside |= KINDS.contains(&kind);
                if !KINDS.contains(&kind) && !CLUSTER_KINDS.contains(&kind) {
                    unknown = Some(format!("no kind {kind}"));
                }
            }
            let created = verb == "create" && objects.len() < 2;
            let unknown = unknown.or_else(|| created.then(|| "no name".to_owned()));
            unknown.or_else(|| (inside && !namespaced).then(|| "no namespace".to_owned()))
        }
        verb => Some(format!("no verb {verb}")),
    }
}
