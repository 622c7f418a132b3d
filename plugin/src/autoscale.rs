//! One look at a cluster for `autoscale`: whether it has converged, and what its replicas use.

use std::collections::BTreeMap;

use futures::future::try_join_all;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::ListParams;
use pgscale_guard::autoscale::{Cpu, Replica, Sample, Spec};
use pgscale_guard::postgresql::Postgresql;
use pgscale_guard::quantity::Amount;
use pgscale_guard::read::AskWhom;
use pgscale_guard::{Change, Facts};
use tokio::time::timeout;

use crate::error::Failure;
use crate::members::Role;
use crate::services;
use crate::session::Session;
use crate::usage;
use crate::watch::{Goal, Snapshot, missing};

/// The container whose CPU counts.
const CONTAINER: &str = "postgres";

/// The number of lacks that a line names.
const NAMED: usize = 2;

/// What one look found.
pub(crate) struct Looked {
    /// The cluster.
    pub(crate) cluster: Postgresql,
    /// The values to decide by.
    pub(crate) sample: Sample,
}

/// A look that failed.
pub(crate) struct Blind {
    /// Why.
    pub(crate) failure: Failure,
    /// Later looks will fail too: the cluster is gone.
    pub(crate) ends: bool,
}

/// Looks at the cluster `name` of the present namespace.
pub(crate) async fn look(session: &Session, name: &str, spec: &Spec) -> Result<Looked, Blind> {
    let blind = |failure| Blind { failure, ends: false };
    let cluster = session.cluster_if_there(name).await.map_err(blind)?;
    let cluster = cluster
        .filter(|cluster| !cluster.terminating)
        .ok_or_else(|| Blind { failure: session.missing(name), ends: true })?;
    let goal = Goal::of_cluster(&cluster);
    let change = Change::of_count(cluster.clone(), goal.count);
    let (facts, services) = futures::join!(
        session.reader.facts(change, AskWhom::All),
        services::read(&session.client, &goal.namespace, &goal.name)
    );
    session.show_warnings();
    let snapshot = Snapshot { facts: facts.into(), services };
    let lacks = in_a_line(missing(&goal, &snapshot));
    let replicas = match (&lacks, spec.cpu) {
        (None, Some(_)) => measure(session, &snapshot.facts).await,
        (Some(_), _) | (None, None) => Vec::new(),
    };
    let last = cluster.count_managers.iter().max_by_key(|(.., time)| *time);
    let sample = Sample {
        declared: goal.count,
        lacks,
        writer: last.map(|(manager, ..)| manager.clone()),
        replicas,
    };
    Ok(Looked { cluster, sample })
}

/// Returns the first lacks in a line. `None` where there are none.
fn in_a_line(lacks: Vec<String>) -> Option<String> {
    let more = lacks.len().saturating_sub(NAMED);
    let named: Vec<String> = lacks.into_iter().take(NAMED).collect();
    match (named.is_empty(), more) {
        (true, _) => None,
        (false, 0) => Some(named.join("; ")),
        (false, more) => Some(format!("{}; and {more} more", named.join("; "))),
    }
}

/// Measures every replica. Patroni's lock says which member is none, and the names are those of the
/// cluster's own pods.
async fn measure(session: &Session, facts: &Facts) -> Vec<Replica> {
    let members = facts.all_members().iter();
    let names: Vec<String> = members
        .filter(|member| Role::of(facts, member) != Role::Leader)
        .map(|member| member.name.clone())
        .collect();
    let (usages, requests) = futures::join!(
        usage::of_postgres(session, &facts.change.new.namespace),
        requests(session, &facts.change.new.namespace, &names)
    );
    let cpu = |name: &str| match (&usages, &requests) {
        (Err(why), _) | (Ok(_), Err(why)) => Cpu::Missing(why.clone()),
        (Ok(usages), Ok(_)) => usages
            .get(name)
            .cloned()
            .unwrap_or_else(|| Cpu::Missing("metrics.k8s.io does not know it".to_owned())),
    };
    let request = |name: &str| {
        requests.as_ref().ok().and_then(|requests| requests.get(name)).copied().unwrap_or(0)
    };
    let replica =
        |name: &String| Replica { name: name.clone(), request: request(name), cpu: cpu(name) };
    names.iter().map(replica).collect()
}

/// Reads the thousandths of a core that the `postgres` containers of these pods request.
///
/// # Errors
/// One line for people.
async fn requests(
    session: &Session,
    namespace: &str,
    names: &[String],
) -> Result<BTreeMap<String, u64>, String> {
    let pods: Api<Pod> = Api::namespaced(session.client.clone(), namespace);
    let lists =
        names.iter().map(|name| {
            let pods = pods.clone();
            async move {
                pods.list(&ListParams::default().fields(&format!("metadata.name={name}"))).await
            }
        });
    let limit = session.pace.impact;
    match timeout(limit, try_join_all(lists)).await {
        Err(_) => Err(format!("pods: no answer within {}", pgscale_guard::duration::exact(limit))),
        Ok(Err(error)) => Err(services::short(&error, "pods")),
        Ok(Ok(lists)) => Ok(lists.into_iter().flatten().filter_map(|pod| request(&pod)).collect()),
    }
}

fn request(pod: &Pod) -> Option<(String, u64)> {
    let containers = &pod.spec.as_ref()?.containers;
    let own = containers.iter().find(|container| container.name == CONTAINER)?;
    let cpu = own.resources.as_ref()?.requests.as_ref()?.get("cpu")?;
    Some((pod.metadata.name.clone()?, Amount::of(cpu)?.times(1000).units()))
}
