//! `override`: allow one change in spite of named rules, for some hours.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::Api;
use kube::api::PostParams;
use pgscale_guard::duration::exact;
use pgscale_guard::overrides::{LONGEST, Overrides, ScaleOverride, ScaleOverrideSpec};
use pgscale_guard::read::AskWhom;
use pgscale_guard::remedy::Command;
use pgscale_guard::rules::rule;
use pgscale_guard::{Change, Facts, Verdict, evaluate};

use crate::args::{DryRun, Shape, Target, count, positive, reason};
use crate::error::{Failure, Kind};
use crate::permissions;
use crate::plan::FIELD_MANAGER;
use crate::session::Session;
use crate::terminal::Format;
use crate::terminal::text::instances;

/// Allow one change of the count in spite of named rules.
///
/// Writes an object of kind `ScaleOverride`: for this very cluster, this count, these rules, and at
/// most 4 hours. The writer that makes the change meanwhile reads what was overridden and why, in a
/// warning and in an Event; any other change is refused as before. First it shows which rules
/// refuse the change now.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  kubectl pgscale override acid-a --to 9 --rules above-max --reason 'a sale'
  kubectl pgscale override acid-a --to 2 --rules below-min,paused --reason TEXT")]
pub(crate) struct Args {
    #[command(flatten)]
    target: Target,
    /// The number of instances to allow, and no other.
    #[arg(long = "to", value_name = "N", value_parser = count, allow_negative_numbers = true)]
    count: i64,
    /// Ids of the rules that warn instead of refuse.
    #[arg(long, value_name = "RULE[,RULE]", required = true, value_delimiter = ',')]
    rules: Vec<String>,
    /// Reason; shown wherever the override is used.
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    reason: String,
    /// Time it holds: at most 4h.
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = expires)]
    expires: Duration,
    /// Do not ask.
    #[arg(short, long)]
    yes: bool,
    /// Write nothing: client or server.
    ///
    /// `client` only shows what refuses the change, `server` has the write judged and not stored.
    #[arg(long, value_enum, default_value_t, value_name = "MODE")]
    dry_run: DryRun,
    #[command(flatten)]
    shape: Shape,
}

fn expires(word: &str) -> Result<Duration, String> {
    let duration = positive(word)?;
    if duration > LONGEST.unsigned_abs() {
        return Err(format!("it is longer than {}", exact(LONGEST.unsigned_abs())));
    }
    Ok(duration)
}

/// Shows the effect of the override, asks, and writes it.
pub(crate) async fn run(session: &Session, args: Args) -> Result<(), Failure> {
    if let Some(id) = args.rules.iter().find(|id| rule(id).is_none()) {
        return Err(Failure::usage(format!("there is no rule {id:?}"))
            .hint_to("see them all", Command::kubectl(["pgscale", "rules"])));
    }
    let cluster = session.cluster(&args.target.name).await?;
    let change = Change::of_count(cluster, args.count);
    let (facts, mut policies) = session.facts(change, AskWhom::All).await;
    session.show_warnings();
    // The new override must lift every refusal itself. Earlier overrides do not count.
    policies.overrides = Overrides::default();
    let name = &facts.change.new.name;
    if facts.change.old.as_ref().is_some_and(|old| old.instances == Some(args.count)) {
        return Err(Failure::usage(format!(
            "postgresql {} asks for {} already: there is nothing to allow",
            facts.change.cluster(),
            instances(args.count)
        )));
    }
    let ends = facts.now + SignedDuration::try_from(args.expires).unwrap_or(LONGEST);
    // People read seconds, and clocks are exact to seconds.
    let ends = Timestamp::from_second(ends.as_second()).unwrap_or(ends);
    let verdict = evaluate(&facts, &policies);
    let wanted = wanted(&facts, &args, ends)?;
    // The object as it will be stored. A finding that it lifts may have hidden another one that
    // then refuses the change.
    let mut granted = wanted.clone();
    granted.metadata.creation_timestamp = Some(Time(facts.now));
    policies.overrides = Overrides::of(vec![granted], name);
    let with_it = evaluate(&facts, &policies);
    let remain = show(session, &facts, &verdict, &with_it, &args.rules);
    if args.dry_run == DryRun::None {
        confirm(session, &args, &format!("Allow it until {ends}?")).await?;
        permissions::check(session, permissions::OVERRIDE, &facts, false).await?;
    }
    let stored = match args.dry_run {
        DryRun::Client => wanted,
        mode @ (DryRun::None | DryRun::Server) => {
            write(session, &facts, &wanted, mode == DryRun::Server).await?
        }
    };
    let rehearsed = if args.dry_run == DryRun::None { "" } else { " (dry run)" };
    let resource =
        format!("scaleoverride.pgscale.dev/{}", stored.metadata.name.as_deref().unwrap_or("NAME"));
    match args.shape.output {
        Format::Name => session.out.data(&resource),
        Format::Text | Format::Wide => {
            session.out.said(&format!("{resource} created, until {ends}{rehearsed}"))?;
            if args.dry_run == DryRun::None {
                let to = args.count.to_string();
                if remain.is_empty() {
                    let set = session.suggest(&["set", name, &to]);
                    session.advise("the change is admitted now:", set.into());
                } else {
                    let remain = remain.join(", ");
                    let title = format!("it lifts only what it names; still refused by {remain}:");
                    session.advise(&title, session.suggest(&["plan", name, "--to", &to]).into());
                }
            }
            Ok(())
        }
        format @ (Format::Json | Format::Yaml) => session.out.document(format, &stored),
    }
}

/// Shows the rules that refuse the change now, and those that would refuse it `with_it`.
fn show(
    session: &Session,
    facts: &Facts,
    verdict: &Verdict,
    with_it: &Verdict,
    named: &[String],
) -> Vec<&'static str> {
    let span = facts.from().map_or(String::new(), |from| format!("{from} -> "));
    session.out.note(&format!(
        "postgresql {}: {span}{}",
        facts.change.cluster(),
        instances(facts.to())
    ));
    let remain: Vec<&'static str> = with_it.denials().map(|denial| denial.rule.as_str()).collect();
    let refusing: Vec<&'static str> =
        verdict.denials().map(|denial| denial.rule.as_str()).collect();
    for denial in verdict.denials().filter(|denial| !remain.contains(&denial.rule.as_str())) {
        session.out.note(&format!("would warn: {}: {}", denial.rule, denial.message));
    }
    for denial in with_it.denials() {
        session.out.note(&format!("would still refuse: {}: {}", denial.rule, denial.message));
    }
    let idle: Vec<&str> =
        named.iter().map(String::as_str).filter(|id| !refusing.contains(id)).collect();
    if !idle.is_empty() {
        session.out.note(&format!("does not refuse it now: {}", idle.join(", ")));
    }
    if !remain.is_empty() {
        session.out.warning("the change would be refused in spite of this override");
    }
    remain
}

async fn confirm(session: &Session, args: &Args, question: &str) -> Result<(), Failure> {
    if args.yes {
        return Ok(());
    }
    let declined = |why: &str| Failure::new(Kind::Declined, format!("{why}; nothing was written"));
    match session.out.agrees(question).await {
        Some(true) => Ok(()),
        Some(false) => Err(declined("declined")),
        None => Err(declined("rules would be overridden, and there is no terminal to ask on")
            .hint("add --yes")),
    }
}

/// Returns the object to write. The API server completes its name.
fn wanted(facts: &Facts, args: &Args, ends: Timestamp) -> Result<ScaleOverride, Failure> {
    let cluster = &facts.change.new;
    let mut rules = args.rules.clone();
    rules.sort_unstable();
    rules.dedup();
    let spec = ScaleOverrideSpec {
        cluster: cluster.name.clone(),
        cluster_uid: cluster.uid.clone(),
        to: i32::try_from(args.count)
            .map_err(|_| Failure::usage(format!("{} is no number of instances", args.count)))?,
        rules,
        reason: args.reason.clone(),
        expires_at: Time(ends),
    };
    let mut object = ScaleOverride::new("", spec);
    object.metadata.name = None;
    object.metadata.generate_name = Some(format!("{}-", cluster.name));
    object.metadata.namespace = Some(cluster.namespace.clone());
    Ok(object)
}

async fn write(
    session: &Session,
    facts: &Facts,
    object: &ScaleOverride,
    dry_run: bool,
) -> Result<ScaleOverride, Failure> {
    let cluster = &facts.change.new;
    let overrides: Api<ScaleOverride> = Api::namespaced(session.client.clone(), &cluster.namespace);
    let params = PostParams { dry_run, field_manager: Some(FIELD_MANAGER.to_owned()) };
    let stored = overrides.create(&params, object).await;
    session.show_warnings();
    let asked = format!("write an override of postgresql {}", facts.change.cluster());
    stored.map_err(|error| {
        let unknown = matches!(&error, kube::Error::Api(status) if status.code == 404);
        if !unknown {
            return Failure::of_kube(&error, &asked);
        }
        Failure::error(format!(
            "failed to {asked}: this Kubernetes cluster does not know the kind ScaleOverride (pgscale.dev/v1alpha1)"
        ))
        .hint("have its definition installed, which `pgscale-webhook crd` prints")
    })
}

#[cfg(test)]
mod tests;
