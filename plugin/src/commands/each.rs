//! The same look at several clusters, one after the other or all at once.

use crate::args::Which;
use crate::error::Failure;
use crate::session::Session;

/// A cluster, and the session for it alone.
pub(super) struct Place {
    pub(super) session: Session,
    pub(super) name: String,
}

/// The clusters that a command is about.
pub(super) enum Places {
    /// One, by its name.
    One(String),
    /// Several, or those that labels found.
    Several(Vec<Place>),
}

/// Finds the clusters that `which` means.
///
/// # Errors
/// Where labels find none.
pub(super) async fn places(session: &Session, which: &Which) -> Result<Places, Failure> {
    let at = |namespace: &str, name: String| Place { session: session.of(namespace, &name), name };
    match which.name.as_slice() {
        [name] => return Ok(Places::One(name.clone())),
        [] => {}
        names => {
            let mut known = std::collections::BTreeSet::new();
            let names = names.iter().filter(|name| known.insert(*name)).cloned();
            return Ok(Places::Several(names.map(|name| at(&session.namespace, name)).collect()));
        }
    }
    let clusters = session.clusters_of(which.all_namespaces, which.selector.as_deref()).await?;
    if clusters.is_empty() {
        let place = session.place(which.all_namespaces);
        return Err(Failure::error(format!("no postgresql clusters found in {place}")));
    }
    let mut found: Vec<_> = clusters.into_iter().map(|it| (it.namespace, it.name)).collect();
    found.sort();
    Ok(Places::Several(found.into_iter().map(|(namespace, name)| at(&namespace, name)).collect()))
}

/// Ends as the looks at all clusters ended: each failure is printed under its cluster's name, and
/// the one that needs a person most decides the exit code.
pub(super) fn together(ended: &[(&Place, Option<Failure>)], what: &str) -> Result<(), Failure> {
    let failures: Vec<(&Place, &Failure)> = ended
        .iter()
        .filter_map(|(place, failure)| failure.as_ref().map(|failure| (*place, failure)))
        .collect();
    for (place, failure) in &failures {
        place.session.out.failure(&(*failure).clone().reached_by(&place.session.reach));
    }
    let kinds: Vec<&Failure> = failures.iter().map(|(_, failure)| *failure).collect();
    let Some(kind) = super::scale::worst(&kinds) else { return Ok(()) };
    let clusters = match ended.len() {
        1 => "1 cluster".to_owned(),
        many => format!("{many} clusters"),
    };
    Err(Failure::new(kind, format!("{} of {clusters} {what}", failures.len())))
}
