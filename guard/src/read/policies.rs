//! Reads the policies: those of a namespace and those of all, in parallel.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::FutureExt as _;
use k8s_openapi::api::core::v1::Namespace;
use serde_json::Value;

use crate::change::Change;
use crate::object_ref::Kind;
use crate::policy::{ClusterScalePolicy, Policies, ScalePolicy, Undecodable, Written};
use crate::read::Reader;
use crate::seen::Seen;

impl Reader {
    /// Reads the policies that hold for a change.
    ///
    /// A missing CRD means that there are none of that kind. [`Policies::unreadable`] names those
    /// that cannot be read.
    pub async fn policies(&self, change: &Change) -> Policies {
        self.written_policies(&change.new.namespace).await.of(change)
    }

    /// Reads the policies of a namespace and of all namespaces, as they are written.
    pub async fn written_policies(&self, namespace: &str) -> Written {
        let objects = self.objects(self.deadline).lasting();
        // Boxed: the state between these answers would make every caller's future large.
        let (own, everywhere) = futures::join!(
            objects.ours::<ScalePolicy>(Some(namespace)).boxed(),
            objects.ours::<ClusterScalePolicy>(None).boxed(),
        );
        let mut written = Written {
            own: Arc::default(),
            everywhere: Arc::default(),
            undecodable: Vec::new(),
            labels: Seen::Known(BTreeMap::new()),
            unreadable: None,
        };
        let mut undecodable = |kind: Kind, objects: &[(Value, String)]| {
            let objects = objects.iter();
            let objects = objects.map(|(object, why)| Undecodable::of(kind, object, why.clone()));
            written.undecodable.extend(objects);
        };
        match own {
            Ok(own) => {
                undecodable(Kind::ScalePolicy, &own.undecodable);
                written.own = Arc::clone(&own.decoded);
            }
            Err(error) => written.unreadable = Some(error.to_string()),
        }
        match everywhere {
            Ok(everywhere) => {
                undecodable(Kind::ClusterScalePolicy, &everywhere.undecodable);
                written.everywhere = Arc::clone(&everywhere.decoded);
            }
            // One reason is enough where the API server does not answer.
            Err(error) => {
                written.unreadable.get_or_insert_with(|| error.to_string());
            }
        }
        if written.selects_namespaces() {
            let labels = objects.get::<Namespace>(None, namespace).boxed().await;
            written.labels = labels.map(|it| it.metadata.labels.unwrap_or_default());
        }
        written
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::facts::Facts;
    use crate::policy::{Mode, Policies};
    use crate::read::testing::{Fault, Members, World, change};
    use crate::read::{Age, Moment, Shared};
    use crate::rule_id::RuleId;
    use crate::rules::evaluate;
    use crate::rules::testing::healthy;

    #[tokio::test(start_paused = true)]
    async fn policies_are_read_or_the_reason_is_named() {
        let members = Members::healthy();
        let cluster = change(3, 3);
        let policy = World::default().with(
            "/apis/pgscale.dev/v1alpha1/namespaces/db/scalepolicies/floor",
            json!({"apiVersion": "pgscale.dev/v1alpha1", "kind": "ScalePolicy",
                "metadata": {"namespace": "db", "name": "floor"},
                "spec": {"mode": "Warn", "instances": {"min": 3}}}),
        );
        let found = policy.reader(&members).policies(&cluster).await;
        assert_eq!((found.min[0].mode, found.min[0].value), (Mode::Warn, 3));

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

    /// A process decodes policies once, and again only where they have changed: neither for each review
    /// nor for each look.
    #[tokio::test(start_paused = true)]
    async fn policies_are_decoded_once_for_all_reviews() {
        let path = "/apis/pgscale.dev/v1alpha1/namespaces/db/scalepolicies/floor";
        let policy = json!({"apiVersion": "pgscale.dev/v1alpha1", "kind": "ScalePolicy",
            "metadata": {"namespace": "db", "name": "floor"}, "spec": {"instances": {"min": 3}}});
        let world = World::default().with(path, policy);
        let plain = world.reader(&Members::healthy());
        let shared = Shared::new(plain.client.clone(), Arc::new(|_| {}));
        let reviewer = |age| Reader { sharing: Some(shared.aged(age)), ..plain.clone() };
        let recent = reviewer(Age::Recent);
        let first = recent.written_policies("db").await;
        let asked = world.requested().len();
        let remembered = reviewer(Age::Recent).written_policies("db").await;
        assert_eq!(world.requested().len(), asked);
        let fresh = reviewer(Age::Since(Moment::now())).written_policies("db").await;
        assert!(world.requested().len() > asked, "it asks again, and gets the same");
        for written in [&remembered, &fresh] {
            assert!(Arc::ptr_eq(&written.own, &first.own));
            assert!(Arc::ptr_eq(&written.everywhere, &first.everywhere));
        }
    }

    /// Each costs time, and none is a reason to take the others as not there.
    #[tokio::test(start_paused = true)]
    async fn policies_beyond_what_a_review_looks_at_are_never_taken_as_none() {
        let platform = "/apis/pgscale.dev/v1alpha1/clusterscalepolicies/known";
        let cap = json!({"apiVersion": "pgscale.dev/v1alpha1", "kind": "ClusterScalePolicy",
            "metadata": {"name": "known"}, "spec": {"instances": {"max": 7}}});
        let crowd = |count: usize, spec: &Value| {
            (0..count).fold(World::default().with(platform, cap.clone()), |world, number| {
                let path =
                    format!("/apis/pgscale.dev/v1alpha1/namespaces/db/scalepolicies/p{number:04}");
                let one = json!({"apiVersion": "pgscale.dev/v1alpha1", "kind": "ScalePolicy",
                    "metadata": {"namespace": "db", "name": format!("p{number:04}")}, "spec": spec});
                world.with(&path, one)
            })
        };
        let any = json!({"instances": {"min": 1}});
        let calendar =
            json!({"instances": {"min": 1}, "freeze": {"until": "2020-01-01T00:00:00Z"}});
        let other = json!({"clusterSelector": {"matchLabels": {"env": "x"}}});
        let strange = json!({"mode": "Quarantine"});
        let held =
            "scalepolicy/p0064: more than 64 policies of its kind with a freeze or windows hold";
        let many = "failed to list scalepolicies in db: the answer has more than 1000 objects";
        for (count, spec, why) in [
            (64, &any, None),
            (65, &any, None),
            (1000, &any, None),
            (64, &calendar, None),
            (65, &calendar, Some(held)),
            (300, &calendar, Some(held)),
            (1000, &other, None),
            (1001, &other, Some(many)),
            (300, &strange, Some("284 more policies cannot be decoded")),
        ] {
            let world = crowd(count, spec);
            let facts = healthy(5, 3);
            let read = world.reader(&Members::healthy()).policies(&facts.change).await;
            assert_eq!(read.unreadable.is_some(), why.is_some(), "{count} {spec}");
            let said = read.unreadable.clone().unwrap_or_default();
            assert!(said.contains(why.unwrap_or_default()), "{count} {spec}: {said}");
            assert!(said.len() < 8 << 10, "{}", said.len());
            assert!(read.min.len() <= 64 && read.max.len() == 1, "{count} {spec}");
            // A shrink is refused, the limit of the platform holds, and growth passes with a warning.
            assert_eq!(refusing(&world, &healthy(5, 3)).await.is_empty(), why.is_none(), "{spec}");
            assert_eq!(refusing(&world, &healthy(3, 9)).await, ["above-max"], "{count} {spec}");
            assert_eq!(refusing(&world, &healthy(3, 5)).await, [""; 0], "{count} {spec}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn mode_of_a_namespaced_policy_switches_no_built_in_denial_off() {
        let members = Members::healthy();
        let denied = healthy(5, 2).pause().with_leader(4).nofailover(0);
        for mode in ["Warn", "Audit"] {
            let tenant = World::default().with(
                "/apis/pgscale.dev/v1alpha1/namespaces/db/scalepolicies/trial",
                json!({"apiVersion": "pgscale.dev/v1alpha1", "kind": "ScalePolicy",
                    "metadata": {"namespace": "db", "name": "trial"},
                    "spec": {"mode": mode, "instances": {"min": 3}}}),
            );
            let hidden = tenant.clone().fault("clusterscalepolicies", Fault::Status(403));
            for world in [&tenant, &hidden] {
                let read = world.reader(&members).policies(&denied.change).await;
                assert_eq!(read.mode, Mode::Enforce, "{mode}");
                assert_ne!(read.min[0].mode, Mode::Enforce, "{mode}: its own limit stays on trial");
                let verdict = evaluate(&denied, &read);
                let refused: Vec<_> = verdict.denials().map(|denial| denial.rule).collect();
                assert!(refused.contains(&RuleId::LEADER_CONDEMNED), "{mode}: {refused:?}");
            }
            let platform = tenant.with(
                "/apis/pgscale.dev/v1alpha1/clusterscalepolicies/trial",
                json!({"apiVersion": "pgscale.dev/v1alpha1", "kind": "ClusterScalePolicy",
                    "metadata": {"name": "trial"}, "spec": {"builtIn": {"mode": mode}}}),
            );
            let read = platform.reader(&members).policies(&denied.change).await;
            assert!(evaluate(&denied, &read).allows(), "{mode}: the platform has them on trial");
            let hidden = platform.fault("scalepolicies", Fault::Status(403));
            let read = hidden.reader(&members).policies(&denied.change).await;
            assert!(!evaluate(&denied, &read).allows(), "{mode}: one that is hidden may enforce");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn cluster_policies_are_selected_by_labels_of_the_namespace() {
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
        assert_eq!(there.step_down[0].source.to_string(), "clusterscalepolicy/prod");
        assert_eq!(there.unreadable, None);
        assert_eq!(read(world("dev")).await, Policies::default());
        let hidden = read(world("prod").fault("namespaces", Fault::Status(403))).await;
        assert_eq!(
            hidden.unreadable.as_deref(),
            Some("clusterscalepolicy/prod: the namespace's labels: get namespaces: forbidden")
        );
    }

    /// Returns a world with a cluster policy as a newer version would write it, and one that this
    /// version can decode.
    fn with_a_strange_one(selectors: &Value) -> World {
        let platform = |name: &str, spec: Value| {
            let path = format!("/apis/pgscale.dev/v1alpha1/clusterscalepolicies/{name}");
            (
                path,
                json!({"apiVersion": "pgscale.dev/v1alpha1", "kind": "ClusterScalePolicy",
                "metadata": {"name": name}, "spec": spec}),
            )
        };
        let mut strange = json!({"mode": "Quarantine", "instances": {"zero": "Allow"}});
        strange.as_object_mut().unwrap().extend(selectors.as_object().unwrap().clone());
        let (path, strange) = platform("strange", strange);
        let (known, limits) =
            platform("known", json!({"instances": {"max": 7}, "steps": {"up": 9}}));
        World::default().with(&path, strange).with(&known, limits).with(
            "/api/v1/namespaces/db",
            json!({"apiVersion": "v1", "kind": "Namespace",
                "metadata": {"name": "db", "labels": {"env": "prod"}}}),
        )
    }

    async fn refusing(world: &World, facts: &Facts) -> Vec<&'static str> {
        let policies = world.reader(&Members::healthy()).policies(&facts.change).await;
        evaluate(facts, &policies).denials().map(|denial| denial.rule.as_str()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn undecodable_policy_binds_only_where_it_selects() {
        let select = |env: &str| json!({"matchLabels": {"env": env}});
        for (selectors, binds) in [
            (json!({"namespaceSelector": select("test")}), false),
            (json!({"clusterSelector": select("test")}), false),
            (
                json!({"namespaceSelector": select("prod"), "clusterSelector": select("test")}),
                false,
            ),
            (json!({"namespaceSelector": select("prod")}), true),
            (json!({"namespaceSelector": "everywhere"}), true),
            (json!({}), true),
        ] {
            let world = with_a_strange_one(&selectors);
            let bound: &[&str] = if binds {
                &["below-min", "outside-floor", "step-too-large", "change-freeze", "outside-window"]
            } else {
                &[]
            };
            assert_eq!(refusing(&world, &healthy(5, 3)).await, bound, "{selectors}");
            // It hides none of the others: their limits refuse as before.
            assert_eq!(refusing(&world, &healthy(3, 9)).await, ["above-max"], "{selectors}");
            assert_eq!(refusing(&world, &healthy(3, 5)).await, [""; 0], "{selectors}");
        }
        let world = with_a_strange_one(&json!({}));
        let facts = healthy(5, 3);
        let policies = world.reader(&Members::healthy()).policies(&facts.change).await;
        assert_eq!(policies.names(), ["clusterscalepolicy/known"]);
        insta::assert_snapshot!(evaluate(&facts, &policies).finding("below-min").unwrap(), @"
        below-min: cannot be judged: clusterscalepolicy/strange cannot be decoded by pgscale 0.1.0 (spec.mode: unknown variant `Quarantine`, expected one of `Audit`, `Warn`, `Enforce`): upgrade pgscale or correct the policy
          Try:
              kubectl edit clusterscalepolicy/strange -n db
        ");
    }

    #[tokio::test(start_paused = true)]
    async fn undecodable_policy_of_the_namespace_hides_no_other() {
        let own = |name: &str, spec: Value| {
            let path = format!("/apis/pgscale.dev/v1alpha1/namespaces/db/scalepolicies/{name}");
            (
                path,
                json!({"apiVersion": "pgscale.dev/v1alpha1", "kind": "ScalePolicy",
                "metadata": {"namespace": "db", "name": name}, "spec": spec}),
            )
        };
        let selector = json!({"matchLabels": {"env": "test"}});
        let strange = json!({"clusterSelector": selector, "rules": {"paused": "Shout"}});
        let (strange_path, strange) = own("strange", strange);
        let (path, floor) = own("floor", json!({"instances": {"min": 4}}));
        let world = World::default().with(&strange_path, strange).with(&path, floor);
        assert_eq!(refusing(&world, &healthy(5, 3)).await, ["below-min"]);
        let mut labelled = healthy(5, 4);
        assert_eq!(refusing(&world, &labelled).await, [""; 0]);
        let label = ("env".to_owned(), "test".to_owned());
        labelled.change.new.labels.extend([label]);
        // Its selector applies to the labels after this write.
        let bound =
            ["below-min", "outside-floor", "step-too-large", "change-freeze", "outside-window"];
        assert_eq!(refusing(&world, &labelled).await, bound);
    }
}
