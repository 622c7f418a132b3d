//! Advice for the writer of an object with a part that is too large to judge.

use super::budget::{Refusal, Side};

/// Advice about a part that no writer of the object can change.
pub(super) const ELSEWHERE: &str = "An ordinary review has fewer than a hundred values there. Look \
                                    for this review in the API server's audit log. If the part is \
                                    userInfo, the authenticator of the API server made it";

/// The count that a writer wants for a cluster.
#[derive(Clone, Copy)]
pub(super) struct Wanted<'a> {
    /// Namespace of the cluster.
    pub(super) namespace: &'a str,
    /// Its name.
    pub(super) name: &'a str,
    /// The count.
    pub(super) count: i64,
}

/// Returns the advice about `refusal`. It is empty where the part is malformed, because the API
/// server sends nothing malformed.
///
/// The writer leaves a part of the new object out. The writer first removes a part of the stored
/// object, which works because the registration sends no write here that leaves the count as it is.
/// `created` says that there is no stored object. `wanted` makes a command of the last step.
pub(super) fn advice(refusal: &Refusal, created: bool, wanted: Option<Wanted<'_>>) -> String {
    let Refusal::TooLarge { part, .. } = refusal else { return String::new() };
    let path = &part.path;
    let set = wanted.map_or(String::new(), |Wanted { namespace, name, count }| {
        format!(":\n    kubectl pgscale set {name} {count} -n {namespace}")
    });
    match part.side {
        Side::New if created => format!("Create the cluster with less in {path}"),
        Side::New => format!("Leave {path} as it is and change only the count{set}"),
        Side::Request => ELSEWHERE.to_owned(),
        Side::Stored => format!(
            "First remove from {path} what is not needed: a write that leaves numberOfInstances as \
             it is passes unjudged. Then change the count{set}"
        ),
    }
}
