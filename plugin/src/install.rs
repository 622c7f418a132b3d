//! `install`, `upgrade` and `uninstall`: what is there, and what is to be done about it.
//!
//! Facts go in, and a plan or a refusal comes out. [`read`] reads the facts and [`act`] carries a
//! plan out. Helm writes the objects of the chart. The definitions are written here, because Helm
//! never upgrades those below `crds` of a chart (`pkg/action/install.go` of helm, `installCRDs`).

use std::fmt;
use std::time::Duration;

use pgscale_guard::Seen;
use pgscale_guard::remedy::Command;
use semver::Version;
use serde::Deserialize;

use crate::error::Failure;
use crate::helm::{CHART, Call, Touch};

pub(crate) mod act;
pub(crate) mod changes;
pub(crate) mod read;
pub(crate) mod remains;
mod removal;

pub(crate) use removal::{Removal, uninstall};

/// The name of a release, where the person gives none.
const RELEASE: &str = "pgscale";
/// The namespace of a release, where the person gives none.
const NAMESPACE: &str = "pgscale-system";
/// The name of the chart. Helm writes its version behind it.
const CHART_NAME: &str = "pgscale-";

/// A Helm release, by which Helm knows an installation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) release: String,
    pub(crate) namespace: String,
}

impl fmt::Display for Target {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "release {} in namespace {}", self.release, self.namespace)
    }
}

/// A release as `helm list --output=json` has it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Release {
    pub(crate) name: String,
    pub(crate) namespace: String,
    /// Such as `deployed`, `failed` or `pending-upgrade` (`pkg/release/common/status.go` of helm).
    pub(crate) status: String,
    /// The number of its changes so far: 1 for the installation alone.
    pub(crate) revision: String,
    /// The name of the chart and its version, such as `pgscale-0.1.0`.
    pub(crate) chart: String,
}

impl Release {
    /// Returns whether it is one of our chart.
    pub(crate) fn is_ours(&self) -> bool {
        self.chart.strip_prefix(CHART_NAME).is_some_and(|rest| {
            // Another chart may be called pgscale-something.
            rest.starts_with(|first: char| first.is_ascii_digit())
        })
    }

    fn target(&self) -> Target {
        Target { release: self.name.clone(), namespace: self.namespace.clone() }
    }

    /// Returns the version of its chart. `None` where it has none that can be compared.
    fn version(&self) -> Option<Version> {
        Version::parse(self.chart.strip_prefix(CHART_NAME)?).ok()
    }
}

/// The installer of a registration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// Helm, by the annotations that Helm writes.
    Helm(Target),
    /// Another program, such as a GitOps controller, or a person.
    Other,
}

/// An installed definition, beside the one in this program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    /// Fields and values that the installed one lacks.
    pub(crate) lacks: Vec<String>,
    /// Fields and values that only the installed one has.
    pub(crate) more: Vec<String>,
    /// It is being deleted, with all its objects.
    pub(crate) terminating: bool,
}

/// What is there.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Found {
    /// The releases of our chart, in all namespaces.
    pub(crate) releases: Vec<Release>,
    pub(crate) registration: Seen<Owner>,
    /// Each definition of this program, by its name.
    pub(crate) definitions: Vec<(String, Seen<Standing>)>,
}

/// What the person says about the release.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) release: Option<String>,
    pub(crate) namespace: Option<String>,
}

impl Named {
    /// Returns the release of a new installation.
    pub(crate) fn new_target(&self) -> Target {
        let or = |name: &Option<String>, default: &str| {
            name.clone().unwrap_or_else(|| default.to_owned())
        };
        Target { release: or(&self.release, RELEASE), namespace: or(&self.namespace, NAMESPACE) }
    }

    fn fits(&self, target: &Target) -> bool {
        let same = |name: &Option<String>, of: &String| name.as_ref().is_none_or(|it| it == of);
        same(&self.release, &target.release) && same(&self.namespace, &target.namespace)
    }
}

/// What is to be done to install or upgrade.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) target: Target,
    /// The version that is replaced. `None` where nothing is, or where it is not known.
    pub(crate) from: Option<Version>,
    /// An upgrade keeps the values that are stored with the release.
    pub(crate) upgrade: bool,
    /// The definitions that are written, each with what is new in it.
    pub(crate) definitions: Vec<(String, String)>,
}

impl Plan {
    /// Returns its lines for a person.
    pub(crate) fn lines(&self) -> Vec<String> {
        let new = env!("CARGO_PKG_VERSION");
        let title = match (&self.from, self.upgrade) {
            (Some(from), _) if from.to_string() == new => {
                format!("Write {new} again as the {}:", self.target)
            }
            (Some(from), _) => format!("Upgrade the {} from {from} to {new}:", self.target),
            (None, true) => format!("Upgrade the {} to {new}:", self.target),
            (None, false) => format!("Install {new} as the {}:", self.target),
        };
        let mut lines = vec![title];
        if self.definitions.is_empty() {
            lines.push("- definitions: all are as in this program".to_owned());
        }
        let all = self.definitions.iter();
        lines.extend(all.map(|(name, what)| format!("- definition {name}: {what}")));
        lines
    }

    /// Returns the run of helm that carries it out, with the words for values that the person gave.
    pub(crate) fn call(&self, values: &[String]) -> Call {
        Call::new(self.words(values), Touch::Writes, Duration::from_secs(360))
    }

    /// Returns the run of helm that says what an upgrade would write, with the stored values.
    pub(crate) fn rehearsal(&self, values: &[String]) -> Call {
        let more = ["--dry-run=server", "--output=json"].map(str::to_owned);
        let words = self.words(values).into_iter().chain(more);
        Call::new(words, Touch::Reads, Duration::from_secs(60))
    }

    fn words(&self, values: &[String]) -> Vec<String> {
        let Target { release, namespace } = &self.target;
        let mut words: Vec<String> =
            ["upgrade", "--install", release, CHART].map(str::to_owned).into();
        words.push(format!("--namespace={namespace}"));
        // The definitions are written before, and helm would not change one that is there.
        words.extend(["--create-namespace", "--skip-crds"].map(str::to_owned));
        let kept = if self.upgrade { "--reset-then-reuse-values" } else { "--reset-values" };
        words.push(kept.to_owned());
        words.extend_from_slice(values);
        words
    }
}

/// Returns the run of helm that prints the manifests of a new installation, and asks no API server.
///
/// `kubernetes` is the version that the chart is checked against, and `kinds` the API groups that
/// the cluster has beside those of Kubernetes.
pub(crate) fn manifests(
    target: &Target,
    values: &[String],
    kubernetes: &str,
    kinds: &[String],
) -> Call {
    let mut words: Vec<String> = ["template", &target.release, CHART].map(str::to_owned).into();
    words.push(format!("--namespace={}", target.namespace));
    words.push(format!("--kube-version={kubernetes}"));
    words.extend(kinds.iter().map(|kind| format!("--api-versions={kind}")));
    words.push("--include-crds".to_owned());
    // The manifests are applied as they are, and the pod of `helm test` is no part of the guard.
    words.push("--skip-tests".to_owned());
    words.extend_from_slice(values);
    Call::new(words, Touch::Nothing, Duration::from_secs(60))
}

/// Returns the run of helm that lists all releases. Our chart serves a whole cluster, so a second
/// release in another namespace matters.
pub(crate) fn listing() -> Call {
    // Helm 3 lists pending releases only where they are asked for, and Helm 4 has no --all.
    let states = ["--deployed", "--failed", "--pending", "--uninstalling"];
    let words = ["list", "--all-namespaces", "--max=5000", "--output=json"];
    Call::new(words.into_iter().chain(states), Touch::Reads, Duration::from_secs(60))
}

/// Decides on a new installation.
///
/// # Errors
/// Something is installed already, or what is there is not known or does not fit.
pub(crate) fn install(found: &Found, named: &Named) -> Result<Plan, Failure> {
    let target = named.new_target();
    for release in &found.releases {
        let there = release.target();
        if there != target {
            return Err(Failure::error(format!(
                "the {there} is this chart already, and one installation serves a whole cluster"
            ))
            .hint_to("upgrade it", ours("upgrade", &there))
            .hint_to("or remove it first", ours("uninstall", &there)));
        }
        idle(release)?;
        if release.status == "deployed" {
            return Err(Failure::error(format!("the {there} is installed already"))
                .hint_to("upgrade it", ours("upgrade", &there))
                .hint_to("check it", Command::kubectl(["pgscale", "doctor"])));
        }
        if release.revision != "1" {
            // It was installed once. An installation would drop the values that are stored.
            return Err(Failure::error(format!(
                "the {there} is there already, and its last change failed"
            ))
            .hint_to("upgrade it, with the values that it has", ours("upgrade", &there)));
        }
    }
    owned(found, &target, "installed")?;
    if found.releases.is_empty() && found.registration.known().is_some() {
        return Err(Failure::error(format!(
            "the registration pgscale.dev belongs to the {target}, which helm does not list"
        ))
        .hint("where helm keeps releases elsewhere, set HELM_DRIVER as it was then")
        .hint_to(
            "or, where the release is lost, remove the registration",
            ours("uninstall", &target),
        ));
    }
    let definitions = definitions(found, None)?;
    Ok(Plan { target, from: None, upgrade: false, definitions })
}

/// Decides on an upgrade.
///
/// # Errors
/// Nothing is installed, something newer is, or what is there is not known or does not fit.
pub(crate) fn upgrade(found: &Found, named: &Named) -> Result<Plan, Failure> {
    let Some(release) = the_release(found, named)? else {
        let what = named.new_target();
        owned(found, &what, "upgraded")?;
        return Err(Failure::error(format!("there is no {what}: nothing to upgrade"))
            .hint_to("install it", ours("install", &what)));
    };
    let target = release.target();
    idle(release)?;
    owned(found, &target, "upgraded")?;
    let from = release.version();
    let own = Version::parse(env!("CARGO_PKG_VERSION"))
        .map_err(|error| Failure::error(format!("the version of this program: {error}")))?;
    if from.as_ref().is_some_and(|from| *from > own) {
        return Err(Failure::error(format!(
            "the {target} has {}, and this program has the older chart pgscale-{own}",
            release.chart
        ))
        .hint("get a newer kubectl pgscale")
        .hint_to(
            "or go back to what the release had before",
            Command::program(["helm", "rollback", &target.release, "-n", &target.namespace]),
        ));
    }
    // What a version that this one replaces knew may go. Of the same version it is another build.
    let replaces = from.as_ref().filter(|from| **from < own);
    let definitions = definitions(found, replaces)?;
    Ok(Plan { target, from, upgrade: true, definitions })
}

/// Returns a command of ours about this release.
pub(crate) fn ours(verb: &str, Target { release, namespace }: &Target) -> Command {
    let words = ["pgscale", verb, "-n", namespace];
    if release == RELEASE {
        return Command::kubectl(words);
    }
    Command::kubectl(words.into_iter().chain(["--release", release]))
}

/// Returns the release that the person means: the only one that fits.
fn the_release<'a>(found: &'a Found, named: &Named) -> Result<Option<&'a Release>, Failure> {
    let fitting: Vec<&Release> =
        found.releases.iter().filter(|release| named.fits(&release.target())).collect();
    match fitting.as_slice() {
        [] => Ok(None),
        [one] => Ok(Some(*one)),
        several => {
            let all: Vec<String> = several.iter().map(|it| it.target().to_string()).collect();
            Err(Failure::usage(format!("several releases have this chart: {}", all.join(", ")))
                .hint("name one by -n and --release"))
        }
    }
}

/// Fails where another run of helm is at work, or was cut off.
fn idle(release: &Release) -> Result<(), Failure> {
    if matches!(release.status.as_str(), "deployed" | "failed") {
        return Ok(());
    }
    let Target { release: name, namespace } = release.target();
    let failure = Failure::error(format!(
        "the {} is {}: another run of helm is at work, or was cut off",
        release.target(),
        release.status
    ))
    .hint_to("see what it did", Command::program(["helm", "history", &name, "-n", &namespace]));
    Err(match release.status.as_str() {
        "pending-upgrade" | "pending-rollback" => failure.hint_to(
            "if it was cut off, go back to what the release had before",
            Command::program(["helm", "rollback", &name, "-n", &namespace]),
        ),
        _ => failure.hint_to(
            "if it was cut off, remove what it began",
            Command::program(["helm", "uninstall", &name, "-n", &namespace]),
        ),
    })
}

/// Fails where the registration is not one of this release.
fn owned(found: &Found, target: &Target, done: &str) -> Result<(), Failure> {
    match &found.registration {
        Seen::Absent => Ok(()),
        Seen::Known(Owner::Helm(owner)) if owner == target => Ok(()),
        Seen::Known(Owner::Helm(owner)) => Err(Failure::error(format!(
            "the registration pgscale.dev belongs to the {owner}, and not to the {target}: nothing \
             was {done}"
        ))
        .hint_to("see what is installed", Command::kubectl(["pgscale", "doctor"]))),
        Seen::Known(Owner::Other) => Err(Failure::error(format!(
            "Helm did not install the registration pgscale.dev: nothing was {done}. A GitOps \
             controller would undo the change"
        ))
        .hint_to(
            "see who wrote it",
            Command::kubectl([
                "get",
                "validatingwebhookconfiguration",
                "pgscale.dev",
                "-o",
                "yaml",
                "--show-managed-fields",
            ]),
        )
        .hint_to(
            "under GitOps, commit the manifests instead",
            Command::kubectl(["pgscale", "install", "--dry-run=client", "-o", "yaml"]),
        )),
        Seen::Unreadable(why) => Err(Failure::error(format!(
            "the registration pgscale.dev could not be read: {why}: nothing was {done}"
        ))),
    }
}

/// The number of fields that a line names.
const NAMED: usize = 5;

/// Returns the definitions to write, each with what is new in it. A version that is replaced may
/// have had what this one lacks.
fn definitions(
    found: &Found,
    replaces: Option<&Version>,
) -> Result<Vec<(String, String)>, Failure> {
    let mut written = Vec::new();
    for (name, standing) in &found.definitions {
        match standing {
            Seen::Absent => written.push((name.clone(), "new".to_owned())),
            Seen::Unreadable(why) => {
                return Err(Failure::error(format!(
                    "the definition {name} could not be read: {why}: nothing was changed"
                )));
            }
            Seen::Known(Standing { terminating: true, .. }) => {
                return Err(Failure::error(format!(
                    "the definition {name} is being deleted, with all its objects: nothing was \
                     changed"
                ))
                .hint_to(
                    "wait until it is gone",
                    Command::kubectl([
                        "wait",
                        "--for=delete",
                        &format!("customresourcedefinition/{name}"),
                    ]),
                ));
            }
            Seen::Known(Standing { more, .. }) if !more.is_empty() && replaces.is_none() => {
                return Err(Failure::error(format!(
                    "the definition {name} is newer than this program: it also has {}. Stored \
                     policies would lose that, so nothing was changed",
                    few(more)
                ))
                .hint("get a newer kubectl pgscale"));
            }
            Seen::Known(Standing { lacks, more, .. }) => {
                let mut what = Vec::new();
                if !lacks.is_empty() {
                    what.push(format!("new: {}", few(lacks)));
                }
                if !more.is_empty() {
                    what.push(format!("taken away: {}", few(more)));
                }
                if !what.is_empty() {
                    written.push((name.clone(), what.join("; ")));
                }
            }
        }
    }
    Ok(written)
}

fn few(all: &[String]) -> String {
    let named = all.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
    match all.len().saturating_sub(NAMED) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

#[cfg(test)]
mod tests;
