//! The edge that writes: the definitions, the release, and the end of the registration.

use std::time::Duration;

use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use pgscale_guard::Seen;
use pgscale_guard::duration::exact;
use pgscale_guard::remedy::Command;
use tokio::time::{Instant, sleep};

use super::{Plan, Removal};
use crate::doctor::shipped::{NAME, WEBHOOK, definitions};
use crate::error::{Failure, Kind, chain};
use crate::plan::FIELD_MANAGER;
use crate::session::Session;

/// The time limit until the API server serves new definitions, or has removed a registration.
const SOON: Duration = Duration::from_secs(30);

/// Writes the definitions of the plan, and waits until the API server serves them.
///
/// # Errors
/// The API server refuses one, or does not serve it in time.
pub(crate) async fn write_definitions(session: &Session, plan: &Plan) -> Result<(), Failure> {
    let shipped = definitions()
        .map_err(|why| Failure::error(format!("the chart in this program is broken: {why}")))?;
    let api: Api<CustomResourceDefinition> = Api::all(session.client.clone());
    let params = PatchParams::apply(FIELD_MANAGER).force();
    let mut done = Vec::new();
    for own in &shipped {
        let name = own.metadata.name.as_deref().unwrap_or_default();
        if plan.definitions.iter().any(|(written, _)| written == name) {
            let asked = format!("write the definition {name}");
            api.patch(name, &params, &Patch::Apply(own))
                .await
                .map_err(|error| half_way(Failure::of_kube(&error, &asked), &done))?;
            done.push(name);
        }
    }
    let limit = Instant::now() + SOON;
    for own in &shipped {
        let name = own.metadata.name.as_deref().unwrap_or_default();
        while !is_served(&api, name).await {
            if Instant::now() >= limit {
                return Err(Failure::new(
                    Kind::Timeout,
                    format!("the API server does not serve {name} after {}", exact(SOON)),
                )
                .hint_to(
                    "see why",
                    Command::kubectl(["describe", "customresourcedefinition", name]),
                ));
            }
            sleep(session.pace.poll).await;
        }
    }
    Ok(())
}

/// Returns the failure to write a definition, after these were written.
fn half_way(failure: Failure, done: &[&str]) -> Failure {
    if done.is_empty() {
        return failure;
    }
    let done = done.join(", ");
    Failure { kind: Kind::NotAsPlanned, ..failure }.hint(format!(
        "written before: {done}. A definition alone guards nothing and breaks nothing. Run the same command again \
         once the API server takes this one: it goes on here"
    ))
}

async fn is_served(api: &Api<CustomResourceDefinition>, name: &str) -> bool {
    let Ok(found) = api.get(name).await else { return false };
    let conditions = found.status.and_then(|status| status.conditions).unwrap_or_default();
    conditions.iter().any(|it| it.type_ == "Established" && it.status == "True")
}

/// Lets helm write the release of the plan.
///
/// # Errors
/// Helm fails. A part may be written.
pub(crate) async fn write_release(
    session: &Session,
    plan: &Plan,
    values: &[String],
) -> Result<(), Failure> {
    let call = plan.call(values);
    let asked = if plan.upgrade { "upgrade the release" } else { "install the release" };
    match session.helm.run(call.clone()).await {
        Ok(_) => Ok(()),
        Err(why) => Err(Failure { kind: Kind::NotAsPlanned, ..why.failure(asked, &call) }),
    }
}

/// Waits until every replica is of this release and ready, and the registration leads to them.
///
/// # Errors
/// That does not happen within `limit`.
pub(crate) async fn wait_until_it_answers(
    session: &Session,
    namespace: &str,
    limit: Duration,
) -> Result<(), Failure> {
    let deployments: Api<Deployment> = Api::namespaced(session.client.clone(), namespace);
    let registrations: Api<ValidatingWebhookConfiguration> = Api::all(session.client.clone());
    let (end, mut said) = (Instant::now() + limit, Instant::now());
    loop {
        let (deployment, registration) =
            futures::join!(deployments.get_opt(WEBHOOK), registrations.get_opt(NAME));
        let Some(lack) = lacking(&seen(deployment), &seen(registration)) else { return Ok(()) };
        let now = Instant::now();
        if now >= end {
            return Err(Failure::new(
                Kind::Timeout,
                format!("the webhook does not answer after {}: {lack}", exact(limit)),
            )
            .hint_to("see its pods", Command::kubectl(["get", "pods", "-n", namespace]))
            .hint_to(
                "see what it says",
                Command::kubectl(["logs", &format!("deployment/{WEBHOOK}"), "-n", namespace]),
            ));
        }
        if now >= said {
            session.out.note(&format!("waiting: {lack}"));
            said = now + session.pace.tell;
        }
        sleep(session.pace.poll).await;
    }
}

fn seen<T>(answer: Result<Option<T>, kube::Error>) -> Seen<T> {
    match answer {
        Ok(Some(found)) => Seen::Known(found),
        Ok(None) => Seen::Absent,
        Err(error) => Seen::Unreadable(chain(&error)),
    }
}

/// Returns what is missing until the webhook answers. `None` where nothing is.
pub(super) fn lacking(
    deployment: &Seen<Deployment>,
    registration: &Seen<ValidatingWebhookConfiguration>,
) -> Option<String> {
    let deployment = match deployment {
        Seen::Known(deployment) => deployment,
        Seen::Absent => return Some(format!("there is no Deployment {WEBHOOK}")),
        Seen::Unreadable(why) => return Some(format!("the Deployment could not be read: {why}")),
    };
    let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    let status = deployment.status.clone().unwrap_or_default();
    let count = |number: Option<i32>| number.unwrap_or_default();
    if status.observed_generation < deployment.metadata.generation {
        return Some("the rollout has not begun".to_owned());
    }
    if count(status.updated_replicas) < wanted {
        let updated = count(status.updated_replicas);
        return Some(format!("{updated} of {wanted} replicas are of this release"));
    }
    if count(status.available_replicas) < wanted {
        let ready = count(status.available_replicas);
        return Some(format!("{ready} of {wanted} replicas are ready"));
    }
    if count(status.replicas) > wanted {
        return Some("replicas of the release before still run".to_owned());
    }
    let entries = match registration {
        Seen::Known(registration) => registration.webhooks.as_deref().unwrap_or_default(),
        Seen::Absent => return Some(format!("there is no registration {NAME}")),
        Seen::Unreadable(why) => {
            return Some(format!("the registration could not be read: {why}"));
        }
    };
    let unpublished = entries.iter().find(|entry| {
        let config = &entry.client_config;
        let authority = config.ca_bundle.as_ref().is_some_and(|bundle| !bundle.0.is_empty());
        let path = config.service.as_ref().and_then(|service| service.path.as_ref());
        !(authority && path.is_some())
    });
    match unpublished {
        Some(entry) => Some(format!("no authority or no path is published in {}", entry.name)),
        None if entries.is_empty() => Some(format!("the registration {NAME} has no entry")),
        None => None,
    }
}

/// Removes the registration, and returns when no API server asks the webhook any more.
///
/// # Errors
/// The API server refuses, or the registration stays.
pub(crate) async fn remove_registration(session: &Session) -> Result<(), Failure> {
    let api: Api<ValidatingWebhookConfiguration> = Api::all(session.client.clone());
    let asked = format!("delete the registration {NAME}");
    match api.delete(NAME, &DeleteParams::default()).await {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if status.code == 404 => {}
        Err(error) => return Err(Failure::of_kube(&error, &asked)),
    }
    let limit = Instant::now() + SOON;
    loop {
        match api.get_opt(NAME).await {
            Ok(None) => break,
            Ok(Some(_)) if Instant::now() >= limit => {
                return Err(Failure::new(
                    Kind::Timeout,
                    format!("the registration {NAME} is still there after {}", exact(SOON)),
                )
                .hint_to(
                    "see its finalizers",
                    Command::kubectl(["get", "validatingwebhookconfiguration", NAME, "-o", "yaml"]),
                ));
            }
            Err(error) if Instant::now() >= limit => {
                return Err(Failure::of_kube(&error, &asked));
            }
            Ok(Some(_)) | Err(_) => sleep(session.pace.poll).await,
        }
    }
    // Every API server learns of it by a watch. Until then the webhook answers them.
    sleep(session.pace.stable).await;
    Ok(())
}

/// Lets helm remove the release.
///
/// # Errors
/// Helm fails. A part may be removed.
pub(crate) async fn remove_release(session: &Session, removal: &Removal) -> Result<(), Failure> {
    let call = removal.call();
    match session.helm.run(call.clone()).await {
        Ok(_) => Ok(()),
        Err(why) => {
            Err(Failure { kind: Kind::NotAsPlanned, ..why.failure("uninstall the release", &call) }
                .with_line("the registration is gone: no write is judged, and none is refused"))
        }
    }
}
