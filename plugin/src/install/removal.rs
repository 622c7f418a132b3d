//! `uninstall`: what is to be removed, and in which order.

use std::time::Duration;

use pgscale_guard::Seen;

use super::{Found, Named, Owner, Target, idle, owned, the_release};
use crate::error::Failure;
use crate::helm::{Call, Touch};

/// What is to be done to uninstall.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Removal {
    pub(crate) target: Target,
    /// There is a registration, which goes first: without it, no write is refused because the
    /// webhook is gone.
    pub(crate) registration: bool,
    /// There is a release.
    pub(crate) release: bool,
}

impl Removal {
    /// Returns whether there is nothing to remove.
    pub(crate) fn is_empty(&self) -> bool {
        !self.registration && !self.release
    }

    /// Returns its lines for a person.
    pub(crate) fn lines(&self) -> Vec<String> {
        let mut lines = vec![format!("Uninstall the {}:", self.target)];
        if self.registration {
            lines.push(
                "- first the registration pgscale.dev: from then on no write is judged".to_owned(),
            );
        }
        if self.release {
            lines.push("- then everything else of the release, by helm".to_owned());
        }
        lines.push("- the definitions stay, with all policies and overrides".to_owned());
        lines
    }

    /// Returns the run of helm that carries it out.
    pub(crate) fn call(&self) -> Call {
        let Target { release, namespace } = &self.target;
        let words = ["uninstall".to_owned(), release.clone(), format!("--namespace={namespace}")];
        Call::new(words, Touch::Writes, Duration::from_secs(360))
    }
}

/// Decides on a removal.
///
/// # Errors
/// What is there is not known, or is not Helm's.
pub(crate) fn uninstall(found: &Found, named: &Named) -> Result<Removal, Failure> {
    let release = the_release(found, named)?;
    let target = match (release, &found.registration) {
        (Some(release), _) => release.target(),
        // An earlier removal was cut off, or the release is lost.
        (None, Seen::Known(Owner::Helm(owner))) if named.fits(owner) => owner.clone(),
        (None, _) => named.new_target(),
    };
    if let Some(release) = release {
        idle(release)?;
    }
    owned(found, &target, "removed")?;
    let registration = found.registration.known().is_some();
    Ok(Removal { target, registration, release: release.is_some() })
}
