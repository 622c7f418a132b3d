//! The places where a count must be changed so that it stays changed, when others write it too.

use serde_json::{Value, json};

use super::Plan;

/// The manifest to commit, and its places.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Commit {
    /// Each other writer, and the place from which it takes the count.
    pub(crate) places: Vec<(String, &'static str)>,
    /// The part of the manifest that must say the new count.
    pub(crate) manifest: Value,
}

impl Commit {
    /// Returns the commit that `plan` needs. `None` where no other writer writes the count.
    pub(crate) fn of(plan: &Plan) -> Option<Self> {
        (!plan.other_writers.is_empty()).then(|| Self {
            places: plan.other_writers.iter().map(|it| (it.clone(), place(it))).collect(),
            manifest: json!({
                "apiVersion": "acid.zalan.do/v1",
                "kind": "postgresql",
                "metadata": {"name": plan.name, "namespace": plan.namespace},
                "spec": {"numberOfInstances": plan.count},
            }),
        })
    }

    /// Returns the manifest as it stands in a file.
    pub(crate) fn yaml(&self) -> String {
        serde_saphyr::to_string(&self.manifest).unwrap_or_else(|_| self.manifest.to_string())
    }
}

/// Returns the place from which a manager takes its manifest.
fn place(manager: &str) -> &'static str {
    let known = [
        ("argocd", "the source of the Argo CD Application"),
        ("kustomize-controller", "the source of the Flux Kustomization"),
        ("helm-controller", "the values of the Flux HelmRelease"),
        ("flux", "the source that Flux applies"),
        ("helm", "the values of the Helm release"),
        ("fleet", "the Fleet GitRepo"),
        ("crossplane", "the Crossplane composition or claim"),
    ];
    known
        .iter()
        .find(|(prefix, _)| manager.starts_with(prefix))
        .map_or("wherever it takes the manifest from", |(_, place)| place)
}

#[cfg(test)]
mod tests {
    use pgscale_guard::Policies;

    use super::*;
    use crate::testing::facts;

    #[test]
    fn each_writer_has_its_own_place_of_the_count() {
        let mut plan = Plan::of(&facts(3, 5, 0), &Policies::default());
        assert_eq!(Commit::of(&plan), None);
        plan.other_writers =
            ["helm", "helm-controller", "our-reconciler"].map(str::to_owned).into();
        let commit = Commit::of(&plan).unwrap();
        let places: Vec<&str> = commit.places.iter().map(|(_, place)| *place).collect();
        assert_eq!(
            places,
            [
                "the values of the Helm release",
                "the values of the Flux HelmRelease",
                "wherever it takes the manifest from"
            ]
        );
        assert_eq!(commit.manifest["spec"]["numberOfInstances"], 5);
    }
}
