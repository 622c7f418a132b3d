//! `install`: from a cluster without the guard to one with it, and what `upgrade` shares with that.

use std::sync::Arc;
use std::time::Duration;

use pgscale_guard::remedy::Command;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::doctor;
use crate::args::{ChartValues, Rehearsal, ReleaseFlag, Shape, timeout};
use crate::doctor::Verdict;
use crate::error::{Failure, Kind};
use crate::helm::{OnPath, chart};
use crate::install::changes::objects;
use crate::install::read::{Preview, check_helm, found, offline, preview};
use crate::install::{Named, Plan, Target, act};
use crate::session::Session;
use crate::terminal::{Format, Output};

/// Install the webhook and everything around it, and check that the guard holds.
///
/// Writes the definitions of policies and overrides, then has helm install the chart that this
/// program was built with. It waits until the webhook answers, and ends as `kubectl pgscale doctor`
/// does: with the verdict whether the guard holds. First it shows what it writes, and asks.
///
/// Helm is run from the path, with the cluster and the user of this command, whatever its own
/// variables say. For GitOps, --dry-run=client -o yaml prints every manifest, the namespace and the
/// definitions included. That asks no API server, so it works on any machine with helm.
///
/// Ends with 0 where the guard holds, with 5 where it does not or helm failed half-way, and with 4
/// where the webhook does not answer in time.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  kubectl pgscale install --set image.repository=registry.example.com/pgscale-webhook
  kubectl pgscale install -f my-values.yaml -n pgscale-system
  kubectl pgscale install -f my-values.yaml --dry-run=client -o yaml > guard.yaml")]
pub(crate) struct Args {
    #[command(flatten)]
    pub(super) how: How,
}

/// The manner in which the chart is installed or upgraded.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct How {
    #[command(flatten)]
    values: ChartValues,
    #[command(flatten)]
    release: ReleaseFlag,
    /// Do not ask.
    #[arg(short, long)]
    yes: bool,
    /// Change nothing: client.
    ///
    /// `client` shows the plan, and with -o yaml or -o json the manifests.
    #[arg(long, value_enum, default_value_t, value_name = "MODE")]
    dry_run: Rehearsal,
    /// Time to wait until the webhook answers, such as 5m.
    ///
    /// 0 looks once, a negative value waits a week.
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = timeout,
        allow_hyphen_values = true)]
    timeout: Duration,
    #[command(flatten)]
    shape: Shape,
}

impl How {
    /// Returns what the person says about the release.
    pub(super) fn named(&self, namespace: Option<String>) -> Named {
        Named { release: self.release.release.clone(), namespace }
    }

    /// Returns whether manifests are asked for, and nothing else.
    fn prints(&self) -> bool {
        let machine = !matches!(self.shape.output, Format::Text | Format::Wide);
        self.dry_run == Rehearsal::Client && machine
    }
}

impl Args {
    /// Returns whether it prints manifests, for which no API server is needed.
    pub(crate) fn prints_alone(&self) -> bool {
        self.how.prints()
    }
}

/// Prints the manifests of a new installation.
pub(crate) async fn print_alone(
    args: &Args,
    namespace: Option<String>,
    out: &Arc<Output>,
) -> Result<(), Failure> {
    let target = args.how.named(namespace).new_target();
    let manifests = offline(&OnPath::new(None), &target, &args.how.values.words()).await?;
    print(out, args.how.shape.output, &target, &manifests)
}

/// Decides, shows, asks, and installs.
pub(crate) async fn run(session: &Session, args: Args) -> Result<(), Failure> {
    let named = args.how.named(session.named_namespace.clone());
    if args.prints_alone() {
        let target = named.new_target();
        let values = args.how.values.words();
        let manifests = offline(session.helm.as_ref(), &target, &values).await?;
        return print(&session.out, args.how.shape.output, &target, &manifests);
    }
    check_helm(session.helm.as_ref()).await.map_err(|failure| {
        failure.hint_to(
            "or print the manifests on a machine that has it, and apply them here",
            Command::kubectl(["pgscale", "install", "--dry-run=client", "-o", "yaml"]),
        )
    })?;
    let plan = crate::install::install(&found(session).await?, &named)?;
    carry_out(session, &plan, &args.how, "Install it?").await
}

/// Shows the plan, asks, carries it out, and says whether the guard holds.
pub(super) async fn carry_out(
    session: &Session,
    plan: &Plan,
    how: &How,
    question: &str,
) -> Result<(), Failure> {
    let values = how.values.words();
    let preview = preview(session, plan, &values).await?;
    if how.prints() {
        let manifests = format!("{}---\n{}", chart::definitions(), preview.manifest);
        return print(&session.out, how.shape.output, &plan.target, &manifests);
    }
    let lines = plan.lines().into_iter().chain(shown(&preview)?);
    let lines = lines.collect::<Vec<_>>().join("\n");
    if how.dry_run == Rehearsal::Client {
        session.out.said(&lines)?;
        return session.out.said("nothing was changed (dry run)");
    }
    session.out.note(&lines);
    confirm(session, how.yes, question).await?;
    let Target { release, namespace } = &plan.target;
    let verb = if plan.upgrade { "upgrade" } else { "install" };
    session.interrupted_means(
        "interrupted; a part may be written, and helm may be cut off",
        "see what helm did",
        Command::program(["helm", "history", release, "-n", namespace]),
    );
    act::write_definitions(session, plan).await?;
    act::write_release(session, plan, &values).await?;
    session.out.note(&format!("helm {verb}: the {} is written", plan.target));
    session.interrupted_means(
        "interrupted; everything is written, and whether the guard holds is not known yet",
        "check it",
        Command::kubectl(["pgscale", "doctor"]),
    );
    let waited = act::wait_until_it_answers(session, namespace, how.timeout).await;
    let diagnosis = settled(session, waited.is_ok()).await?;
    doctor::print(session, how.shape.output, &diagnosis)?;
    waited?;
    doctor::concluded(&diagnosis)
}

/// The time between two looks at a guard that does not hold yet.
const AGAIN: Duration = Duration::from_secs(2);

/// Returns the diagnosis. A guard that does not hold just after its rollout is looked at again for
/// some seconds: each API server learns of the registration by a watch.
async fn settled(session: &Session, answers: bool) -> Result<crate::doctor::Diagnosis, Failure> {
    let limit = Instant::now() + session.pace.stuck;
    loop {
        let diagnosis = doctor::examined(session, true).await?;
        let fails = diagnosis.verdict() == Verdict::DoesNotHold;
        if !fails || !answers || Instant::now() >= limit {
            return Ok(diagnosis);
        }
        sleep(AGAIN.min(session.pace.stuck)).await;
    }
}

/// Returns the lines about what helm writes.
fn shown(preview: &Preview) -> Result<Vec<String>, Failure> {
    let written = objects(&preview.manifest)
        .map_err(|why| Failure::error(format!("a manifest of helm is not understood: {why}")))?;
    let is = |object: &&Value, kind: &str| object.get("kind").and_then(Value::as_str) == Some(kind);
    let mut lines = if let Some(changes) = &preview.changes {
        changes.lines()
    } else {
        let own = written.iter().filter(|it| !is(it, "CustomResourceDefinition"));
        vec![format!("- {} objects, by helm", own.count())]
    };
    let image = written.iter().find(|it| is(it, "Deployment")).and_then(|deployment| {
        deployment.pointer("/spec/template/spec/containers/0/image")?.as_str()
    });
    if let Some(image) = image {
        let registry = if image.contains('/') {
            ""
        } else {
            ": its name has no registry, and none is published yet. Set image.repository to yours"
        };
        lines.push(format!("- image {image}{registry}"));
    }
    Ok(lines)
}

/// Asks, unless the person has agreed already.
pub(super) async fn confirm(session: &Session, yes: bool, question: &str) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    let declined = |why: &str| Failure::new(Kind::Declined, format!("{why}; nothing was changed"));
    match session.out.agrees(question).await {
        Some(true) => Ok(()),
        Some(false) => Err(declined("declined")),
        None => Err(declined("there is no terminal to ask on").hint("add --yes")),
    }
}

/// Prints manifests, with the namespace that they are for before them.
fn print(out: &Output, format: Format, target: &Target, manifests: &str) -> Result<(), Failure> {
    let namespace = json!({
        "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": target.namespace},
    });
    if format == Format::Yaml {
        let namespace = serde_saphyr::to_string(&namespace)
            .map_err(|error| Failure::error(format!("failed to write YAML: {error}")))?;
        let manifests = manifests.trim_start_matches("---\n");
        return out.data(format!("{namespace}---\n{manifests}").trim_end());
    }
    let broken = |why| Failure::error(format!("a manifest of helm is not understood: {why}"));
    let items: Vec<Value> =
        std::iter::once(namespace).chain(objects(manifests).map_err(broken)?).collect();
    if format == Format::Name {
        let text = |object: &Value, path: &str| {
            object.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        let name = |object: &Value| {
            format!("{}/{}", text(object, "/kind").to_lowercase(), text(object, "/metadata/name"))
        };
        return out.data(&items.iter().map(name).collect::<Vec<_>>().join("\n"));
    }
    out.document(format, &json!({"apiVersion": "v1", "kind": "List", "items": items}))
}

#[cfg(test)]
mod tests;
