//! The state before the change: from a file, or from another revision.

use serde_json::Value;

use super::manifest::Document;
use super::objects::Manifest;
use super::{Place, Problem};

/// The clusters as they are before the change.
#[derive(Clone, Debug)]
pub(crate) enum Current {
    /// Not known.
    Unknown,
    /// As a file has them: objects of the cluster, which the manifests are applied to.
    Stored(Vec<Manifest>),
    /// As another revision has them: the manifests before.
    Revision(Vec<Manifest>),
}

impl Current {
    /// Returns the object before a change of `manifest`. `None` where it is a new one, or nothing is
    /// known.
    ///
    /// # Errors
    /// Several objects have that name, and none of them in the same file.
    pub(crate) fn before(&self, manifest: &Manifest) -> Result<Option<&Value>, Problem> {
        let known = match self {
            Self::Unknown => return Ok(None),
            Self::Stored(known) | Self::Revision(known) => known,
        };
        let same = |it: &&Manifest| it.namespace == manifest.namespace && it.name == manifest.name;
        let found: Vec<&Manifest> = known.iter().filter(same).collect();
        let file = |it: &&&Manifest| it.document.place.file == manifest.document.place.file;
        let beside: Vec<&&Manifest> = found.iter().filter(file).collect();
        match (found.as_slice(), beside.as_slice()) {
            ([], _) => Ok(None),
            ([only], _) => Ok(Some(&only.document.value)),
            (_, [only]) => Ok(Some(&only.document.value)),
            ([first, ..], _) => Err(Problem::new(
                manifest.document.place.clone(),
                format!(
                    "the current state has {} objects called {}/{}, the first at {}",
                    found.len(),
                    manifest.namespace,
                    manifest.name,
                    first.document.place
                ),
            )),
        }
    }

    /// Returns the clusters of the other revision that `manifests` do not have any more.
    pub(crate) fn removed<'a>(
        &'a self,
        manifests: &'a [Manifest],
    ) -> impl Iterator<Item = &'a Manifest> {
        let known: &[Manifest] = match self {
            Self::Revision(known) => known,
            Self::Unknown | Self::Stored(_) => &[],
        };
        known.iter().filter(move |old| {
            !manifests.iter().any(|it| it.namespace == old.namespace && it.name == old.name)
        })
    }

    /// Returns the only cluster there is, for a patch.
    ///
    /// # Errors
    /// There is none, or there are several.
    pub(crate) fn only(&self, patch: &Place) -> Result<&Manifest, Problem> {
        match self {
            Self::Stored(known) | Self::Revision(known) => match known.as_slice() {
                [only] => Ok(only),
                many => Err(Problem::new(
                    patch.clone(),
                    format!(
                        "a patch needs exactly one current cluster, and there are {}",
                        many.len()
                    ),
                )),
            },
            Self::Unknown => Err(Problem::new(patch.clone(), "a patch needs --current or --facts")),
        }
    }
}

/// Returns the manifest after a patch of the current state.
///
/// # Errors
/// The patch fits no object, or not this one.
pub(crate) fn patched(current: &Current, patch: &Document) -> Result<Manifest, Problem> {
    let before = current.only(&patch.place)?;
    let value = super::merge::patched(&before.document.value, &patch.value)
        .map_err(|why| Problem::new(patch.place.clone(), why))?;
    let same = |pointer: &str| value.pointer(pointer) == before.document.value.pointer(pointer);
    if !same("/metadata/name") || !same("/metadata/namespace") {
        let why = "it changes the name or the namespace of the cluster, which no write can";
        return Err(Problem::new(patch.place.clone(), why));
    }
    let document = Document::at(patch.count_place(), value);
    Ok(Manifest { document, ..before.clone() })
}
