//! `uninstall`: the end of the guard, without a write that is refused meanwhile.

use pgscale_guard::remedy::Remedy;

use super::install::confirm;
use crate::args::{Rehearsal, ReleaseFlag};
use crate::error::Failure;
use crate::install::read::found;
use crate::install::remains::{left, remedies};
use crate::install::{Named, Removal, act, ours};
use crate::session::Session;

/// End the guard: remove the webhook and everything around it, the registration first.
///
/// While a registration leads to a webhook that is gone, the API server refuses every shrink. So the
/// registration is removed first, and the rest by helm once no API server asks the webhook any more.
/// From then on no write is judged.
///
/// The definitions stay, with all policies and overrides. The command lists what stays, each with
/// the command that removes it.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  kubectl pgscale uninstall
  kubectl pgscale uninstall --dry-run=client      what would be removed, and what would stay")]
pub(crate) struct Args {
    #[command(flatten)]
    release: ReleaseFlag,
    /// Do not ask.
    #[arg(short, long)]
    yes: bool,
    /// Change nothing: client.
    #[arg(long, value_enum, default_value_t, value_name = "MODE")]
    dry_run: Rehearsal,
}

/// Decides, shows, asks, and removes.
pub(crate) async fn run(session: &Session, args: Args) -> Result<(), Failure> {
    let named =
        Named { release: args.release.release.clone(), namespace: session.named_namespace.clone() };
    let removal = crate::install::uninstall(&found(session).await?, &named)?;
    if removal.is_empty() {
        session.out.said("nothing is installed, so no write is judged")?;
        return stays(session, &removal, "what stays:").await;
    }
    let lines = removal.lines().join("\n");
    if args.dry_run == Rehearsal::Client {
        session.out.said(&lines)?;
        session.out.said("nothing was changed (dry run)")?;
        return stays(session, &removal, "what would stay:").await;
    }
    session.out.note(&lines);
    confirm(session, args.yes, "End the guard?").await?;
    session.interrupted_means(
        "interrupted; the guard may be off, and a part of it still there",
        "remove the rest",
        ours("uninstall", &removal.target),
    );
    if removal.registration {
        act::remove_registration(session).await?;
        session.out.note("the registration is gone: no write is judged from now on");
    }
    if removal.release {
        act::remove_release(session, &removal).await?;
    }
    session.out.said(&if removal.release {
        format!("the {} is uninstalled", removal.target)
    } else {
        "only the registration was there: helm lists no release of this chart".to_owned()
    })?;
    stays(session, &removal, "what stays:").await
}

/// Says what stays.
async fn stays(session: &Session, removal: &Removal, title: &str) -> Result<(), Failure> {
    let remedy = remedies(&left(session, &removal.target).await, &removal.target);
    if remedy != Remedy::default() {
        session.advise(title, remedy);
    }
    session.show_warnings();
    Ok(())
}
