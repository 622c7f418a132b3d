//! Reads the policies: those of a namespace and those of all, in parallel.

use futures::FutureExt as _;
use k8s_openapi::api::core::v1::Namespace;

use crate::change::Change;
use crate::policy::{ClusterScalePolicy, Policies, ScalePolicy, Written};
use crate::read::Reader;

impl Reader {
    /// Reads the policies that hold for a change. Where a CRD is missing there are none of that kind;
    /// [`Policies::unreadable`] names those that cannot be read.
    pub async fn policies(&self, change: &Change) -> Policies {
        self.written_policies(&change.new.namespace).await.of(change)
    }

    /// The policies of a namespace and of all namespaces, as they are written.
    pub async fn written_policies(&self, namespace: &str) -> Written {
        let objects = self.objects(self.deadline);
        // Boxed: what is kept between these answers would make every caller's future large.
        let (own, everywhere, labels) = futures::join!(
            objects.ours::<ScalePolicy>(Some(namespace)).boxed(),
            objects.ours::<ClusterScalePolicy>(None).boxed(),
            objects.get::<Namespace>(None, namespace).boxed(),
        );
        let unreadable = [own.as_ref().err(), everywhere.as_ref().err()];
        let unreadable = unreadable.into_iter().flatten().next().map(ToString::to_string);
        let labels = labels.map(|namespace| namespace.metadata.labels.unwrap_or_default());
        Written {
            own: own.unwrap_or_default(),
            everywhere: everywhere.unwrap_or_default(),
            labels,
            unreadable,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::policy::Mode;
    use crate::read::testing::{Fault, Members, World, change};
    use crate::rules::evaluate;
    use crate::rules::testing::healthy;

    #[tokio::test(start_paused = true)]
    async fn policies_are_read_or_the_reason_is_told() {
        let members = Members::healthy();
        let cluster = change(3, 3);
        let policy = World::default().with(
            "/apis/pgscale.dev/v1alpha1/namespaces/db/scalepolicies/floor",
            json!({"apiVersion": "pgscale.dev/v1alpha1", "kind": "ScalePolicy",
                "metadata": {"namespace": "db", "name": "floor"},
                "spec": {"mode": "Warn", "instances": {"min": 3}}}),
        );
        let found = policy.reader(&members).policies(&cluster).await;
        assert_eq!((found.mode, found.min[0].value), (Mode::Warn, 3));

        let without_crds = World::default()
            .fault("scalepolicies", Fault::Status(404))
            .fault("clusterscalepolicies", Fault::Status(404));
        assert_eq!(without_crds.reader(&members).policies(&cluster).await, Policies::default());

        for (kind, why) in [
            ("scalepolicies", "failed to list scalepolicies in db: forbidden"),
            ("clusterscalepolicies", "failed to list clusterscalepolicies: forbidden"),
        ] {
            let forbidden = policy.clone().fault(kind, Fault::Status(403));
            let found = forbidden.reader(&members).policies(&cluster).await;
            assert_eq!(found.unreadable.as_deref(), Some(why));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_trial_switches_no_denial_off_where_the_policies_of_the_platform_cannot_be_read() {
        let members = Members::healthy();
        let denied = healthy(5, 2).pause().with_leader(4).nofailover(0);
        for mode in ["Warn", "Audit"] {
            let tenant = World::default().with(
                "/apis/pgscale.dev/v1alpha1/namespaces/db/scalepolicies/trial",
                json!({"apiVersion": "pgscale.dev/v1alpha1", "kind": "ScalePolicy",
                    "metadata": {"namespace": "db", "name": "trial"},
                    "spec": {"mode": mode, "instances": {"min": 3}}}),
            );
            let read = tenant.reader(&members).policies(&denied.change).await;
            assert!(evaluate(&denied, &read).allows(), "{mode}: it is the only policy");
            let hidden = tenant.fault("clusterscalepolicies", Fault::Status(403));
            let read = hidden.reader(&members).policies(&denied.change).await;
            assert_eq!(read.mode, Mode::Enforce, "{mode}");
            assert_ne!(read.min[0].mode, Mode::Enforce, "{mode}: its own limit stays on trial");
            let verdict = evaluate(&denied, &read);
            let refused: Vec<_> = verdict.denials().map(|denial| denial.rule).collect();
            assert!(refused.contains(&"leader-cannot-move"), "{mode}: {refused:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn policies_of_the_platform_are_read_with_the_labels_of_the_namespace() {
        let members = Members::healthy();
        let cluster = change(3, 3);
        let namespace = |env: &str| {
            json!({"apiVersion": "v1", "kind": "Namespace",
                "metadata": {"name": "db", "labels": {"env": env}}})
        };
        let world = |env| {
            World::default().with("/api/v1/namespaces/db", namespace(env)).with(
                "/apis/pgscale.dev/v1alpha1/clusterscalepolicies/prod",
                json!({"apiVersion": "pgscale.dev/v1alpha1", "kind": "ClusterScalePolicy",
                    "metadata": {"name": "prod"},
                    "spec": {"namespaceSelector": {"matchLabels": {"env": "prod"}},
                        "steps": {"down": 1}}}),
            )
        };
        let read = async |world: World| world.reader(&members).policies(&cluster).await;
        let there = read(world("prod")).await;
        assert_eq!(there.step_down[0].source, "clusterscalepolicy/prod");
        assert_eq!(there.unreadable, None);
        assert_eq!(read(world("dev")).await, Policies::default());
        let hidden = read(world("prod").fault("namespaces", Fault::Status(403))).await;
        assert_eq!(
            hidden.unreadable.as_deref(),
            Some("clusterscalepolicy/prod: the namespace's labels: get namespaces: forbidden")
        );
    }
}
