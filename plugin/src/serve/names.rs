//! The names of the guide's API, and which words are names at all.

use axum::extract::{FromRequestParts, Path, Query};
use axum::http::StatusCode;
use axum::http::request::Parts;

use super::body::NO_COUNT;
use super::problem::Problem;
use crate::args::{NAME_IN_TEMPLATE, is_label};

/// A cluster, by its namespace and its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Namespace.
    pub(crate) namespace: String,
    /// Name of the `postgresql` object.
    pub(crate) name: String,
}

impl Place {
    /// Returns the cluster of a path.
    ///
    /// # Errors
    /// One of both cannot be a name: nothing has it.
    pub(crate) fn of(namespace: &str, name: &str) -> Result<Self, Problem> {
        for (what, word) in [("a namespace", namespace), ("a cluster", name)] {
            if !is_label(word) {
                return Err(Problem::new(
                    StatusCode::NOT_FOUND,
                    format!("{word:?} cannot be the name of {what}"),
                )
                .hint("a name has 1 to 63 of a-z, 0-9 and -, and neither begins nor ends with -"));
            }
        }
        Ok(Self { namespace: namespace.to_owned(), name: name.to_owned() })
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Place {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path = Path::<(String, String)>::from_request_parts(parts, state).await;
        let Path((namespace, name)) =
            path.map_err(|error| Problem::new(error.status(), "the path cannot be understood"))?;
        Self::of(&namespace, &name)
    }
}

/// The count of `?to=5`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct To(i32);

impl To {
    /// Returns it as a flag.
    pub(crate) fn flag(self) -> String {
        format!("--to={}", self.0)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for To {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let query = Query::<Vec<(String, String)>>::from_request_parts(parts, state).await;
        let to = match query.as_ref().map(|Query(query)| query.as_slice()) {
            Ok([(name, to)]) if name == "to" => to.parse().ok().filter(|to| *to >= 0),
            Ok(_) | Err(_) => None,
        };
        to.map(Self).ok_or_else(|| {
            Problem::new(StatusCode::BAD_REQUEST, NO_COUNT)
                .hint("name the instances to plan for: ?to=5")
        })
    }
}

/// The way from a name of the guide's API to a cluster: `zalando-test` is the cluster
/// `zalando-test-cluster` in the namespace `dbaas-zalando-test`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Naming {
    /// Makes the name of the cluster.
    pub(crate) cluster: String,
    /// Makes its namespace.
    pub(crate) namespace: String,
}

impl Naming {
    /// Returns the cluster that `name` stands for.
    pub(crate) fn place(&self, name: &str) -> Result<Place, Problem> {
        if !is_label(name) {
            return Place::of("default", name);
        }
        let made = |template: &str| template.replace(NAME_IN_TEMPLATE, name);
        Place::of(&made(&self.namespace), &made(&self.cluster))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn naming(cluster: &str, namespace: &str) -> Naming {
        Naming { cluster: cluster.to_owned(), namespace: namespace.to_owned() }
    }

    #[test]
    fn names_of_the_guide_lead_to_clusters() {
        let place = |cluster: &str, namespace: &str, name: &str| {
            let place = naming(cluster, namespace).place(name).ok()?;
            Some(format!("{}/{}", place.namespace, place.name))
        };
        let guide = ("{name}-cluster", "dbaas-{name}");
        for (template, name, want) in [
            (guide, "zalando-test", Some("dbaas-zalando-test/zalando-test-cluster")),
            (("{name}", "db"), "acid-a", Some("db/acid-a")),
            (guide, "", None),
            (guide, "-o", None),
            (guide, "a/b", None),
            (guide, "{name}", None),
            (guide, "Acid", None),
            (guide, "a..b", None),
            (guide, &"a".repeat(60), None),
        ] {
            assert_eq!(place(template.0, template.1, name).as_deref(), want, "{name}");
        }
    }
}
