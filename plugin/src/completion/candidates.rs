//! Candidates from a kubeconfig or a cluster: names, and sensible counts.

use std::sync::Arc;

use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use kube::api::ListParams;
use kube::config::{Kubeconfig, NamedContext};
use pgscale_guard::Change;
use pgscale_guard::read::{AskWhom, ReadScope, Reader};
use pgscale_guard::rules::RULES;

use crate::completion::PATIENCE;
use crate::connect::clock::server_time;
use crate::connect::{Connection, Flags, Way, kubeconfig};
use crate::forward::Forward;
use crate::terminal::text::instances;

/// The greatest distance of a proposed count from the present one. [`counts`] has words up to here.
const NEAR: i64 = 3;

/// A candidate, and its meaning.
pub(super) type Candidate = (String, String);

/// A kind of word with candidates of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// The name of a cluster.
    Cluster,
    /// A namespace.
    Namespace,
    /// A context of the kubeconfig.
    Context,
    /// A cluster entry of the kubeconfig.
    ClusterEntry,
    /// A user entry of the kubeconfig.
    User,
    /// The id of a rule.
    Rule,
    /// A member that could lead.
    Member,
    /// A count in either direction.
    Count,
    /// A count above the present one.
    More,
    /// A count below the present one, and never 0: no key may lead to an outage.
    Fewer,
}

impl Word {
    /// Returns the kind of the argument with this id of this verb. Verbs share most.
    pub(super) fn of(verb: &str, id: &str) -> Option<Self> {
        match (verb, id) {
            (_, "name" | "others") => Some(Self::Cluster),
            ("", "namespace") => Some(Self::Namespace),
            ("", "context") => Some(Self::Context),
            ("", "cluster") => Some(Self::ClusterEntry),
            ("", "user") => Some(Self::User),
            ("rules", "id") | ("override", "rules") => Some(Self::Rule),
            ("switchover", "to") => Some(Self::Member),
            ("set" | "plan" | "override", "count") => Some(Self::Count),
            ("up", "count") => Some(Self::More),
            ("down" | "switchover", "count") => Some(Self::Fewer),
            _ => None,
        }
    }
}

/// A connection to an API server that never asks a person a question.
pub(super) struct Cluster {
    /// Reads clusters.
    pub(super) reader: Reader,
    /// The namespace of `-n` or of the context.
    pub(super) namespace: String,
}

impl Cluster {
    /// Connects by the flags.
    pub(super) async fn connect(flags: Flags) -> Option<Self> {
        // An error means that it is installed already.
        rustls::crypto::ring::default_provider().install_default().ok();
        let Connection { client, namespace, operators, .. } =
            Way::of(flags).ok()?.connect().await.ok()?;
        let ask = Arc::new(Forward::new(client.clone()));
        Some(Self {
            reader: Reader {
                client,
                ask,
                deadline: PATIENCE,
                breadth: ReadScope::Review,
                operators,
                clock: server_time,
                sharing: None,
            },
            namespace,
        })
    }
}

/// A function that connects with the flags typed so far.
pub(super) type Connect = dyn Fn(Flags) -> BoxFuture<'static, Option<Cluster>> + Send + Sync;

/// Returns every candidate for a word, with the connection flags and the NAME typed so far.
/// Unreadable names are not proposed.
pub(super) fn look_up(
    word: Word,
    flags: &Flags,
    name: Option<&str>,
    connect: &Connect,
) -> Vec<Candidate> {
    match word {
        Word::Rule => {
            RULES.iter().map(|rule| (rule.id.to_string(), rule.title.to_owned())).collect()
        }
        Word::Context | Word::ClusterEntry | Word::User => {
            of_kubeconfig(word, flags).unwrap_or_default()
        }
        Word::Cluster | Word::Namespace | Word::Member | Word::Count | Word::More | Word::Fewer => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let asked = async { connect(flags.clone()).await?.candidates(word, name).await };
            runtime.ok().and_then(|runtime| runtime.block_on(asked)).unwrap_or_default()
        }
    }
}

fn of_kubeconfig(word: Word, flags: &Flags) -> Option<Vec<Candidate>> {
    let kubeconfig = kubeconfig::read(flags.kubeconfig.as_ref());
    let Kubeconfig { contexts, clusters, auth_infos, current_context, .. } = kubeconfig.ok()?;
    let context = |named: NamedContext| {
        let current = current_context.as_ref() == Some(&named.name);
        let meaning = match named.context.and_then(|context| context.namespace) {
            Some(namespace) if current => format!("current, namespace {namespace}"),
            Some(namespace) => format!("namespace {namespace}"),
            None if current => "current".to_owned(),
            None => String::new(),
        };
        (named.name, meaning)
    };
    let plain = |name: String| (name, String::new());
    Some(match word {
        Word::Context => contexts.into_iter().map(context).collect(),
        Word::ClusterEntry => clusters.into_iter().map(|named| plain(named.name)).collect(),
        Word::User => auth_infos.into_iter().map(|named| plain(named.name)).collect(),
        Word::Cluster
        | Word::Namespace
        | Word::Rule
        | Word::Member
        | Word::Count
        | Word::More
        | Word::Fewer => return None,
    })
}

impl Cluster {
    async fn candidates(&self, word: Word, name: Option<&str>) -> Option<Vec<Candidate>> {
        match (word, name) {
            (Word::Cluster, _) => {
                let clusters = self.reader.clusters(Some(&self.namespace), None).await.ok()?;
                let count = |count: Option<i64>| count.map(instances).unwrap_or_default();
                Some(clusters.into_iter().map(|it| (it.name, count(it.instances))).collect())
            }
            (Word::Namespace, _) => {
                let namespaces: Api<Namespace> = Api::all(self.reader.client.clone());
                let list = namespaces.list_metadata(&ListParams::default()).await.ok()?;
                let names = list.items.into_iter().filter_map(|it| it.metadata.name);
                Some(names.map(|name| (name, String::new())).collect())
            }
            (Word::Member, Some(name)) => self.members(name).await,
            (Word::Count | Word::More | Word::Fewer, Some(name)) => {
                let cluster = self.reader.cluster(&self.namespace, name).await.ok()?;
                Some(counts(word, cluster.instances?))
            }
            (Word::Member | Word::Count | Word::More | Word::Fewer, None)
            | (Word::Context | Word::ClusterEntry | Word::User | Word::Rule, _) => None,
        }
    }

    /// Returns the members that do not lead.
    async fn members(&self, name: &str) -> Option<Vec<Candidate>> {
        let cluster = self.reader.cluster(&self.namespace, name).await.ok()?;
        let count = cluster.instances.unwrap_or(0);
        let facts = self.reader.facts(Change::of_count(cluster, count), AskWhom::AsNeeded).await;
        let leader = facts.leader_name();
        let others =
            facts.all_members().iter().filter(|member| leader != Some(member.name.as_str()));
        let role = |role: &Option<String>| role.clone().unwrap_or_default();
        Some(others.map(|member| (member.name.clone(), role(&member.pod.role))).collect())
    }
}

/// Returns the counts near `now`, the nearest first where there is only one direction.
fn counts(word: Word, now: i64) -> Vec<Candidate> {
    let meaning = |count: i64| {
        let away = match (count - now).abs() {
            0 => return "now".to_owned(),
            1 => "one",
            2 => "two",
            _ => "three",
        };
        format!("{away} {}", if count > now { "more" } else { "fewer" })
    };
    let counts: Vec<i64> = match word {
        Word::More => (now + 1..=now + NEAR).collect(),
        Word::Fewer => (now - NEAR..now).rev().collect(),
        Word::Count
        | Word::Cluster
        | Word::ClusterEntry
        | Word::Context
        | Word::Member
        | Word::Namespace
        | Word::Rule
        | Word::User => (now - NEAR..=now + NEAR).collect(),
    };
    let sensible = counts.into_iter().filter(|count| *count > 0);
    sensible.map(|count| (count.to_string(), meaning(count))).collect()
}
