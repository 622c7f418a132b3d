//! The permissions of `doctor`, which looks at the whole cluster.

use super::{
    ACCOUNTS, DRAINS, Need, Parts, Permission, Place, QUOTAS, SETTINGS, access, at, stream,
};

/// The permissions of `doctor`: to read the whole cluster. It reports itself what it may not read.
pub(super) const DOCTOR: Parts = &[&[
    Permission {
        ways: &[at(
            Place::Everywhere,
            access(&["get"], "admissionregistration.k8s.io", "validatingwebhookconfigurations"),
        )],
        need: Need::Reported("whether the API server asks the webhook is unknown"),
    },
    Permission {
        ways: &[at(
            Place::Everywhere,
            access(&["list"], "admissionregistration.k8s.io", "validatingadmissionpolicies"),
        )],
        need: Need::Reported("the fences are unknown"),
    },
    Permission {
        ways: &[at(
            Place::Everywhere,
            access(&["list"], "admissionregistration.k8s.io", "validatingadmissionpolicybindings"),
        )],
        need: Need::Reported("the fences are unknown"),
    },
    Permission {
        ways: &[at(
            Place::Everywhere,
            access(&["get"], "apiextensions.k8s.io", "customresourcedefinitions"),
        )],
        need: Need::Reported("the installed versions of our resources are unknown"),
    },
    Permission {
        ways: &[at(Place::Everywhere, access(&["list"], "apps", "deployments"))],
        need: Need::Reported("webhook and operators are unknown"),
    },
    Permission {
        ways: &[at(Place::Everywhere, access(&["list"], "", "namespaces"))],
        need: Need::Reported("the guarded namespaces are unknown"),
    },
    Permission {
        ways: &[at(Place::Everywhere, access(&["list"], "networking.k8s.io", "networkpolicies"))],
        need: Need::Reported("whether a network policy cuts the webhook off is unknown"),
    },
    Permission {
        ways: &[at(Place::Everywhere, access(&["list"], "scheduling.k8s.io", "priorityclasses"))],
        need: Need::Reported("whether a new replica may start is unknown"),
    },
    Permission {
        ways: &[at(Place::Everywhere, access(&["list"], "acid.zalan.do", "postgresqls"))],
        need: Need::Reported("the clusters are unknown"),
    },
    Permission {
        ways: &[at(Place::Everywhere, access(&["list"], "pgscale.dev", "scalepolicies"))],
        need: Need::Reported("policies that cannot be kept are unknown"),
    },
    Permission {
        ways: &[at(Place::Everywhere, access(&["list"], "pgscale.dev", "clusterscalepolicies"))],
        need: Need::Reported("policies that cannot be kept are unknown"),
    },
    Permission {
        ways: &[at(Place::Everywhere, access(&["list"], "pgscale.dev", "scaleoverrides"))],
        need: Need::Reported("no canary is sent"),
    },
    Permission {
        ways: &[at(
            Place::Everywhere,
            access(&["list"], "autoscaling", "horizontalpodautoscalers"),
        )],
        need: Need::Reported("autoscalers of clusters are unknown"),
    },
    Permission {
        ways: &[at(Place::Everywhere, access(&["list"], "keda.sh", "scaledobjects"))],
        need: Need::Reported("autoscalers of KEDA are unknown"),
    },
    Permission {
        ways: &[at(
            Place::Everywhere,
            access(&["list"], "rbac.authorization.k8s.io", "clusterroles"),
        )],
        need: Need::Reported("who may pass the guard is unknown"),
    },
    Permission {
        ways: &[at(
            Place::Everywhere,
            access(&["list"], "rbac.authorization.k8s.io", "clusterrolebindings"),
        )],
        need: Need::Reported("who may pass the guard is unknown"),
    },
    Permission {
        ways: &[at(Place::Everywhere, access(&["list"], "rbac.authorization.k8s.io", "roles"))],
        need: Need::Reported("who may pass the guard is unknown"),
    },
    Permission {
        ways: &[at(
            Place::Everywhere,
            access(&["list"], "rbac.authorization.k8s.io", "rolebindings"),
        )],
        need: Need::Reported("who may pass the guard is unknown"),
    },
    ACCOUNTS,
    SETTINGS,
    Permission {
        ways: &[access(&["list"], "", "pods")],
        need: Need::Reported("the replicas are unknown"),
    },
    Permission {
        ways: &[access(&["get"], "", "services")],
        need: Need::Reported("the way to the replicas is unknown"),
    },
    Permission {
        ways: &[access(&["list"], "discovery.k8s.io", "endpointslices")],
        need: Need::Reported("the way to the replicas is unknown"),
    },
    Permission { need: Need::Reported("the effect of a drain is unknown"), ..DRAINS },
    Permission { need: Need::Reported("the room for a new replica is unknown"), ..QUOTAS },
    Permission {
        ways: &[stream("portforward")],
        need: Need::Reported("the certificates of the replicas are unknown"),
    },
    Permission {
        ways: &[access(&["patch"], "acid.zalan.do", "postgresqls")],
        need: Need::Reported("the canary, a dry run, is not answered"),
    },
]];
