//! The permissions of `install`, `upgrade` and `uninstall`: an administrator's. Helm writes the
//! objects of the chart and reports itself what it may not write.

use super::{Need, Parts, Permission, Place, access, at};

const RELEASES: Permission = Permission {
    ways: &[at(Place::Everywhere, access(&["list", "create", "update"], "", "secrets"))],
    need: Need::Reported("helm knows no release"),
};
const LOOK: Permission = Permission {
    ways: &[at(
        Place::Everywhere,
        access(&["get"], "admissionregistration.k8s.io", "validatingwebhookconfigurations"),
    )],
    need: Need::Reported("nothing is changed"),
};
const ROLLOUT: Permission = Permission {
    ways: &[at(Place::Everywhere, access(&["get"], "apps", "deployments"))],
    need: Need::Reported("whether the webhook answers is unknown"),
};

/// The permissions of `install` and `upgrade`, beside those for every object of the chart.
pub(super) const INSTALL: Parts = &[&[
    RELEASES,
    LOOK,
    ROLLOUT,
    Permission {
        ways: &[at(
            Place::Everywhere,
            access(
                &["get", "create", "patch"],
                "apiextensions.k8s.io",
                "customresourcedefinitions",
            ),
        )],
        need: Need::Reported("nothing is changed"),
    },
    Permission {
        ways: &[at(
            Place::Everywhere,
            access(
                &["create", "patch", "delete", "bind", "escalate"],
                "rbac.authorization.k8s.io",
                "clusterroles",
            ),
        )],
        need: Need::Reported("helm fails"),
    },
]];

/// The permissions of `uninstall`, beside those to delete every object of the chart.
pub(super) const UNINSTALL: Parts = &[&[
    RELEASES,
    LOOK,
    Permission {
        ways: &[at(
            Place::Everywhere,
            access(&["delete"], "admissionregistration.k8s.io", "validatingwebhookconfigurations"),
        )],
        need: Need::Reported("nothing is changed"),
    },
]];
