//! The doubt whether an API server answers at all, and what it does not know.

use pgscale_guard::read::ReadError;
use pgscale_guard::remedy::Command;

use super::{Session, unreadable};
use crate::error::{Failure, UNPARSED};

/// The group and version of our own kinds, as in a path.
const OWN_KINDS: &str = "pgscale.dev/v1alpha1";

impl Session {
    /// Returns a failed read as a failure, which says so where no API server answered.
    pub(crate) async fn failure_of(&self, error: &ReadError, asked: &str) -> Failure {
        let Some(code) = error.kube().and_then(strange) else { return unreadable(error, asked) };
        if self.is_api_server().await {
            return unreadable(error, asked);
        }
        Failure::error(format!(
            "failed to {asked}: the answer (HTTP {code}) does not come from Kubernetes: the address is no \
             API server, or a proxy or a gateway answers in its place"
        ))
        .hint_to("check the server of the context", Command::kubectl(["config", "view", "--minify"]))
    }

    /// Returns whether the server gives its version as API servers do. Every user may ask for it
    /// (`system:public-info-viewer`). A server that cannot be reached is in no doubt.
    async fn is_api_server(&self) -> bool {
        match self.client.apiserver_version().await {
            Ok(_) => true,
            Err(error) => strange(&error).is_none(),
        }
    }

    /// Returns whether our own definitions are installed. `true` where that cannot be read.
    pub(crate) async fn knows_own_kinds(&self) -> bool {
        let found = self.client.list_api_group_resources(OWN_KINDS).await;
        !matches!(found, Err(kube::Error::Api(status)) if status.code == 404)
    }
}

/// Returns the HTTP code of an answer that API servers do not give. Only a path that they do not
/// know has such an answer, too.
fn strange(error: &kube::Error) -> Option<u16> {
    if let kube::Error::Api(status) = error {
        return (status.reason == UNPARSED).then_some(status.code);
    }
    matches!(error, kube::Error::SerdeError(_)).then_some(200)
}

#[cfg(test)]
mod tests {
    use crate::testing::{World, run};

    async fn said(world: World, line: &str) -> String {
        let (_, code, failure) = run(&world, line, None).await;
        assert_eq!(code, 1, "{line}");
        failure
    }

    #[tokio::test]
    async fn page_that_is_not_of_kubernetes_is_no_missing_cluster() {
        for line in ["status", "status acid-a", "plan acid-a --to 4", "wait acid-a"] {
            let text = said(World::new(3, 0).answered_by_another(), line).await;
            assert!(text.contains("(HTTP 404) does not come from Kubernetes"), "{line} -> {text}");
            assert!(!text.contains("<html>"), "{line} -> {text}");
        }
    }

    #[tokio::test]
    async fn unknown_kind_of_an_api_server_is_named() {
        for line in ["status", "status acid-a"] {
            let text = said(World::new(3, 0).without_definitions(), line).await;
            assert!(text.contains("does not know the kind postgresql"), "{line} -> {text}");
        }
    }
}
