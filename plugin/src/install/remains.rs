//! What stays after the removal, and the commands that remove it.

use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::Api;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, ListParams};
use pgscale_guard::Seen;
use pgscale_guard::remedy::{Command, Remedy};

use super::Target;
use crate::doctor::shipped::definitions;
use crate::error::chain;
use crate::session::Session;

/// The Secret of the webhook. It may make it again while it ends.
const SECRET: &str = "pgscale-webhook-certificates";
/// The label of the histories, which the plugin keeps beside each cluster.
const HISTORY: &str = "pgscale.dev/record=history";
/// Namespaces that are part of every cluster.
const OF_KUBERNETES: [&str; 4] = ["default", "kube-node-lease", "kube-public", "kube-system"];

/// The numbers of what is left.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Left {
    /// The names of the definitions that are there.
    pub(crate) definitions: Seen<Vec<String>>,
    /// Policies of namespaces and of the platform.
    pub(crate) policies: Seen<usize>,
    pub(crate) overrides: Seen<usize>,
    /// The histories of clusters.
    pub(crate) histories: Seen<usize>,
    /// Whether the namespace of the release is there.
    pub(crate) namespace: Seen<()>,
}

/// Reads what is left.
pub(crate) async fn left(session: &Session, target: &Target) -> Left {
    let client = &session.client;
    let ours = |kind: &str, plural: &str| {
        let kind = GroupVersionKind::gvk("pgscale.dev", "v1alpha1", kind);
        let resource = ApiResource::from_gvk_with_plural(&kind, plural);
        count(Api::<DynamicObject>::all_with(client.clone(), &resource), ListParams::default())
    };
    let maps: Api<ConfigMap> = Api::all(client.clone());
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let (definitions, policies, platform, overrides, histories, namespace) = futures::join!(
        installed(session),
        ours("ScalePolicy", "scalepolicies"),
        ours("ClusterScalePolicy", "clusterscalepolicies"),
        ours("ScaleOverride", "scaleoverrides"),
        count(maps, ListParams::default().labels(HISTORY)),
        namespaces.get_opt(&target.namespace),
    );
    let policies = match (policies, platform) {
        (Seen::Known(own), Seen::Known(platform)) => Seen::Known(own + platform),
        (Seen::Unreadable(why), _) | (_, Seen::Unreadable(why)) => Seen::Unreadable(why),
        (some @ Seen::Known(_), Seen::Absent) | (Seen::Absent, some) => some,
    };
    let namespace = match namespace {
        Ok(Some(_)) => Seen::Known(()),
        Ok(None) => Seen::Absent,
        Err(error) => Seen::Unreadable(chain(&error)),
    };
    Left { definitions, policies, overrides, histories, namespace }
}

async fn installed(session: &Session) -> Seen<Vec<String>> {
    use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;

    let api: Api<CustomResourceDefinition> = Api::all(session.client.clone());
    let names = definitions().unwrap_or_default();
    let names = names.into_iter().filter_map(|definition| definition.metadata.name);
    let mut there = Vec::new();
    for name in names {
        match api.get_metadata_opt(&name).await {
            Ok(Some(_)) => there.push(name),
            Ok(None) => {}
            Err(error) => return Seen::Unreadable(chain(&error)),
        }
    }
    if there.is_empty() { Seen::Absent } else { Seen::Known(there) }
}

/// Counts objects by their metadata, one page of them and what the API server says of the rest.
async fn count<K>(api: Api<K>, params: ListParams) -> Seen<usize>
where
    K: Clone + serde::de::DeserializeOwned + std::fmt::Debug,
{
    match api.list_metadata(&params.limit(500)).await {
        Ok(page) => {
            let more = page.metadata.remaining_item_count.unwrap_or_default();
            Seen::Known(page.items.len() + usize::try_from(more).unwrap_or_default())
        }
        Err(kube::Error::Api(status)) if status.code == 404 => Seen::Absent,
        Err(error) => Seen::Unreadable(chain(&error)),
    }
}

/// Returns the number in words, with the words for one and for several of what is counted.
fn number(count: &Seen<usize>, one: &str, several: &str) -> String {
    match count {
        Seen::Known(1) => format!("1 {one}"),
        Seen::Known(count) => format!("{count} {several}"),
        Seen::Absent => format!("no {several}"),
        Seen::Unreadable(why) => format!("{several} that could not be counted ({why})"),
    }
}

/// Returns what stays, each with the command that removes it.
pub(crate) fn remedies(left: &Left, target: &Target) -> Remedy {
    let mut remedy = Remedy::default();
    let namespace = target.namespace.as_str();
    let names = match &left.definitions {
        Seen::Known(names) => names.clone(),
        Seen::Absent => Vec::new(),
        Seen::Unreadable(_) => {
            let all = definitions().unwrap_or_default();
            all.into_iter().filter_map(|it| it.metadata.name).collect()
        }
    };
    if !names.is_empty() {
        let why = format!(
            "the definitions, with {} and {}, which are lost with them",
            number(&left.policies, "policy", "policies"),
            number(&left.overrides, "override", "overrides")
        );
        let words = ["delete", "customresourcedefinition"].into_iter();
        let names = names.iter().map(String::as_str);
        remedy = remedy.or_to(why, Command::kubectl(words.chain(names)));
    }
    if !matches!(left.histories, Seen::Known(0) | Seen::Absent) {
        let why = format!(
            "{} of changes, which Kubernetes deletes with their clusters",
            number(&left.histories, "record", "records")
        );
        let words = ["delete", "configmap", "-A", "-l", HISTORY];
        remedy = remedy.or_to(why, Command::kubectl(words));
    }
    if left.namespace != Seen::Absent {
        remedy = remedy.or_to(
            "the Secret with the certificates, where the webhook wrote it again while it ended",
            Command::kubectl(["delete", "secret", SECRET, "-n", namespace, "--ignore-not-found"]),
        );
        if !OF_KUBERNETES.contains(&namespace) {
            remedy = remedy.or_to(
                format!("the namespace {namespace}, with everything else in it"),
                Command::kubectl(["delete", "namespace", namespace]),
            );
        }
    }
    remedy
}
