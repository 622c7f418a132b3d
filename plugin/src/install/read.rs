//! The edge of an installation: what is there. It changes nothing.

use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use pgscale_guard::Seen;
use semver::Version;
use serde_json::Value;

use super::changes::{Changes, objects};
use super::{Found, Owner, Plan, Release, Standing, Target, listing, manifests};
use crate::doctor::definitions::Difference;
use crate::doctor::shipped::{NAME, definitions};
use crate::error::{Failure, chain};
use crate::helm::chart::OLDEST_KUBERNETES;
use crate::helm::{Call, Helm, Touch};
use crate::session::Session;

/// The annotations by which Helm knows its objects (`pkg/action/validate.go` of helm).
const RELEASE_NAME: &str = "meta.helm.sh/release-name";
const RELEASE_NAMESPACE: &str = "meta.helm.sh/release-namespace";
/// The API group of the Prometheus operator, on which the chart's value `auto` depends.
const MONITORING: &str = "monitoring.coreos.com";
/// The oldest helm with --reset-then-reuse-values.
const OLDEST_HELM: Version = Version::new(3, 14, 0);

/// Reads what is there.
///
/// # Errors
/// There is no helm that fits, or it cannot list the releases.
pub(crate) async fn found(session: &Session) -> Result<Found, Failure> {
    check_helm(session.helm.as_ref()).await?;
    let (releases, registration, definitions) =
        futures::join!(releases(session), registration(session), all_definitions(session));
    Ok(Found { releases: releases?, registration, definitions: definitions? })
}

/// Fails unless there is a helm that knows the flags that it gets.
///
/// # Errors
/// There is none on the path, or it is too old.
pub(crate) async fn check_helm(helm: &dyn Helm) -> Result<(), Failure> {
    let words = ["version", "--template={{.Version}}"];
    let call = Call::new(words, Touch::Nothing, std::time::Duration::from_secs(30));
    let said = helm
        .run(call.clone())
        .await
        .map_err(|why| why.failure("find the version of helm", &call))?;
    // A build of a developer has another word than a version, and is taken as it is.
    match Version::parse(said.trim().trim_start_matches('v')) {
        Ok(version) if version < OLDEST_HELM => Err(Failure::error(format!(
            "helm {version} is too old: {OLDEST_HELM} or later is needed"
        ))
        .hint("get a newer one from https://helm.sh/docs/intro/install")),
        Ok(_) | Err(_) => Ok(()),
    }
}

async fn releases(session: &Session) -> Result<Vec<Release>, Failure> {
    let call = listing();
    let asked = "list the Helm releases";
    let said = session.helm.run(call.clone()).await.map_err(|why| why.failure(asked, &call))?;
    let all: Vec<Release> = serde_json::from_str(&said).map_err(|error| {
        Failure::error(format!("failed to {asked}: helm's answer is not understood: {error}"))
    })?;
    Ok(all.into_iter().filter(Release::is_ours).collect())
}

async fn registration(session: &Session) -> Seen<Owner> {
    let api: Api<ValidatingWebhookConfiguration> = Api::all(session.client.clone());
    let found = match api.get_opt(NAME).await {
        Ok(Some(found)) => found,
        Ok(None) => return Seen::Absent,
        Err(error) => return Seen::Unreadable(chain(&error)),
    };
    let annotation = |name| found.metadata.annotations.as_ref()?.get(name).cloned();
    Seen::Known(match (annotation(RELEASE_NAME), annotation(RELEASE_NAMESPACE)) {
        (Some(release), Some(namespace)) => Owner::Helm(Target { release, namespace }),
        _ => Owner::Other,
    })
}

async fn all_definitions(session: &Session) -> Result<Vec<(String, Seen<Standing>)>, Failure> {
    let shipped = definitions()
        .map_err(|why| Failure::error(format!("the chart in this program is broken: {why}")))?;
    let api: Api<CustomResourceDefinition> = Api::all(session.client.clone());
    let api = &api;
    let read = shipped.iter().map(|own| async move {
        let name = own.metadata.name.clone().unwrap_or_default();
        let standing = match api.get_opt(&name).await {
            Ok(Some(live)) => Seen::Known(standing(&live, own)),
            Ok(None) => Seen::Absent,
            Err(error) => Seen::Unreadable(chain(&error)),
        };
        (name, standing)
    });
    Ok(futures::future::join_all(read).await)
}

/// Compares an installed definition with the shipped one.
pub(super) fn standing(
    live: &CustomResourceDefinition,
    shipped: &CustomResourceDefinition,
) -> Standing {
    let (mut lacks, mut more) = (Vec::new(), Vec::new());
    for version in &shipped.spec.versions {
        match live.spec.versions.iter().find(|it| it.name == version.name && it.served) {
            Some(there) => {
                let difference = Difference::between(there, version);
                lacks.extend(difference.lacks);
                more.extend(difference.more);
            }
            None => lacks.push(format!("version {}", version.name)),
        }
    }
    let known = |name: &str| shipped.spec.versions.iter().any(|it| it.name == name);
    let others = live.spec.versions.iter().filter(|it| !known(&it.name));
    more.extend(others.map(|it| format!("version {}", it.name)));
    Standing { lacks, more, terminating: live.metadata.deletion_timestamp.is_some() }
}

/// What helm would write.
pub(crate) struct Preview {
    /// The manifest, without the definitions.
    pub(crate) manifest: String,
    /// The difference from what the release has. `None` for a new installation.
    pub(crate) changes: Option<Changes>,
}

/// Has helm make what it would write, which also checks the values.
///
/// # Errors
/// Helm refuses the values, or fails.
pub(crate) async fn preview(
    session: &Session,
    plan: &Plan,
    values: &[String],
) -> Result<Preview, Failure> {
    if !plan.upgrade {
        // Not a rehearsal by the server: it knows no kind whose definition is not written yet.
        let (version, kinds) = surroundings(session).await?;
        let call = manifests(&plan.target, values, &version, &kinds);
        let manifest = says(session, &call, "make the manifests").await?;
        return Ok(Preview { manifest, changes: None });
    }
    let call = plan.rehearsal(values);
    let said = says(session, &call, "rehearse the upgrade").await?;
    let release: Value = serde_json::from_str(&said)
        .map_err(|error| Failure::error(format!("helm's rehearsal is not understood: {error}")))?;
    let manifest = release.get("manifest").and_then(Value::as_str);
    let manifest = manifest.ok_or_else(|| Failure::error("helm's rehearsal has no manifest"))?;
    let Target { release, namespace } = &plan.target;
    let words =
        ["get", "manifest", release, &format!("--namespace={namespace}")].map(str::to_owned);
    let call = Call::new(words, Touch::Reads, std::time::Duration::from_secs(60));
    let before = says(session, &call, "read what the release has").await?;
    let decoded = |text: &str| {
        objects(text)
            .map_err(|why| Failure::error(format!("a manifest of helm is not understood: {why}")))
    };
    let changes = Changes::between(&decoded(&before)?, &decoded(manifest)?);
    Ok(Preview { manifest: manifest.to_owned(), changes: Some(changes) })
}

/// Returns the version of the API server, and those of the chart's optional kinds that it has.
async fn surroundings(session: &Session) -> Result<(String, Vec<String>), Failure> {
    let failed = |error| Failure::of_kube(&error, "find the version of the API server");
    let info = session.client.apiserver_version().await.map_err(failed)?;
    let groups = session.client.list_api_groups().await;
    let groups = groups.map_err(|error| Failure::of_kube(&error, "list the API groups"))?;
    let versions = groups.groups.into_iter().filter(|group| group.name == MONITORING);
    let kinds = versions.flat_map(|group| group.versions).map(|it| it.group_version).collect();
    Ok((info.git_version, kinds))
}

async fn says(session: &Session, call: &Call, asked: &str) -> Result<String, Failure> {
    session.helm.run(call.clone()).await.map_err(|why| why.failure(asked, call))
}

/// Returns the manifests of a new installation, definitions included. No API server is asked.
///
/// # Errors
/// There is no helm that fits, or it refuses the values.
pub(crate) async fn offline(
    helm: &dyn Helm,
    target: &Target,
    values: &[String],
) -> Result<String, Failure> {
    check_helm(helm).await?;
    let call = manifests(target, values, OLDEST_KUBERNETES, &[]);
    helm.run(call.clone()).await.map_err(|why| why.failure("make the manifests", &call))
}
