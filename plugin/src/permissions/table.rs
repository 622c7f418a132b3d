//! The permissions of every command: the one table.

mod doctor;
mod install;

/// Requests of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Access {
    pub(super) verbs: &'static [&'static str],
    pub(super) group: &'static str,
    pub(super) resource: &'static str,
    pub(super) subresource: &'static str,
    pub(super) place: Place,
}

/// The place of a permission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In the namespace of the cluster.
    Namespace,
    /// In all namespaces, or of a kind that has none.
    Everywhere,
    /// In the namespace of the operator.
    Operator,
    /// For the list of the operators' accounts, where every user can be allowed to read it.
    Public,
}

/// The part of a command that works without a permission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// Nothing.
    Always,
    /// Everything but moving the leader, with this loss.
    ToMoveTheLeader(&'static str),
    /// Everything, with this loss where the leader moves.
    WhenTheLeaderMoves(&'static str),
    /// Everything, with this loss, which the verdict reports itself: the facts were read before the
    /// permissions are checked.
    ToJudge(&'static str),
    /// Everything, with this loss.
    Never(&'static str),
    /// Everything, with this loss, which the command reports itself at its time.
    Reported(&'static str),
}

/// One part of a command's work, with the ways to be allowed to do it. One way is enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Permission {
    pub(super) ways: &'static [Access],
    pub(super) need: Need,
}

const fn access(
    verbs: &'static [&'static str],
    group: &'static str,
    resource: &'static str,
) -> Access {
    Access { verbs, group, resource, subresource: "", place: Place::Namespace }
}

const fn at(place: Place, access: Access) -> Access {
    Access { place, ..access }
}

/// Returns the access to a stream of a pod.
///
/// A WebSocket begins as a GET, so `get` is needed everywhere. Kubernetes 1.35 and later require
/// `create` as well (`AuthorizePodWebsocketUpgradeCreatePermission`).
const fn stream(subresource: &'static str) -> Access {
    Access { subresource, ..access(&["get", "create"], "", "pods") }
}

const GET_CLUSTER: Permission =
    Permission { ways: &[access(&["get"], "acid.zalan.do", "postgresqls")], need: Need::Always };
const GET_OR_LIST_CLUSTERS: Permission = Permission {
    ways: &[access(&["get", "list"], "acid.zalan.do", "postgresqls")],
    need: Need::Always,
};
const WRITE_COUNT: Permission =
    Permission { ways: &[access(&["patch"], "acid.zalan.do", "postgresqls")], need: Need::Always };
/// Needed where clusters are chosen by labels.
const CHOOSE: Permission = Permission {
    ways: &[access(&["list"], "acid.zalan.do", "postgresqls")],
    need: Need::Reported("clusters can be named, and not chosen by -l or -A"),
};
const WORKLOAD: Permission = Permission {
    ways: &[access(&["get"], "apps", "statefulsets")],
    need: Need::ToJudge(
        "the count that the operator has applied is unknown, and a shrink is refused",
    ),
};
const PODS: Permission = Permission {
    ways: &[access(&["list"], "", "pods")],
    need: Need::ToJudge("the members are unknown, and a shrink is refused"),
};
const PATRONI: Permission = Permission {
    ways: &[access(&["get"], "", "configmaps"), access(&["get"], "", "endpoints")],
    need: Need::ToJudge("the leader is unknown, and a shrink is refused"),
};
pub(super) const MEMBERS: Permission = Permission {
    ways: &[stream("portforward"), stream("exec")],
    need: Need::ToMoveTheLeader(
        "the WAL positions of the members are unknown, and a shrink is refused",
    ),
};
const CHECKPOINT: Permission = Permission {
    ways: &[stream("exec")],
    need: Need::WhenTheLeaderMoves(
        "no CHECKPOINT before the leader moves, which may take longer, and a leader with logical slots stays",
    ),
};
const POLICIES: Permission = Permission {
    ways: &[access(&["list"], "pgscale.dev", "scalepolicies")],
    need: Need::ToJudge("the policies are unknown, and a shrink is refused"),
};
const PLATFORM: Permission = Permission {
    ways: &[at(Place::Everywhere, access(&["list"], "pgscale.dev", "clusterscalepolicies"))],
    need: Need::ToJudge("the policies of the platform are unknown, and a shrink is refused"),
};
const LABELS: Permission = Permission {
    ways: &[access(&["get"], "", "namespaces")],
    need: Need::ToJudge(
        "policies that select namespaces cannot be matched, and a shrink is refused",
    ),
};
const OVERRIDES: Permission = Permission {
    ways: &[access(&["list"], "pgscale.dev", "scaleoverrides")],
    need: Need::ToJudge("the overrides are unknown"),
};
const GRANT: Permission = Permission {
    ways: &[access(&["create"], "pgscale.dev", "scaleoverrides")],
    need: Need::Always,
};
const VOLUMES: Permission = Permission {
    ways: &[access(&["list"], "", "persistentvolumeclaims")],
    need: Need::Never("the volumes are unknown"),
};
const SERVICES: Permission = Permission {
    ways: &[
        access(&["list"], "discovery.k8s.io", "endpointslices"),
        access(&["get"], "", "endpoints"),
    ],
    need: Need::Never("the members behind the Services are unknown"),
};
const OPERATOR: Permission = Permission {
    ways: &[at(Place::Everywhere, access(&["list"], "apps", "deployments"))],
    need: Need::ToJudge("the operator and its limits are unknown"),
};
const ACCOUNTS: Permission = Permission {
    ways: &[at(Place::Public, access(&["get"], "", "configmaps"))],
    need: Need::ToJudge("the operator's Deployment is unknown (or name it: --operator)"),
};
const SETTINGS: Permission = Permission {
    ways: &[
        at(Place::Operator, access(&["get"], "", "configmaps")),
        at(Place::Operator, access(&["get"], "acid.zalan.do", "operatorconfigurations")),
    ],
    need: Need::ToJudge("the operator's limits are unknown"),
};
const NODES: Permission = Permission {
    ways: &[at(Place::Everywhere, access(&["get"], "", "nodes"))],
    need: Need::Never("members on a lost node look healthy"),
};

const QUOTAS: Permission = Permission {
    ways: &[access(&["list"], "", "resourcequotas")],
    need: Need::ToJudge("the room in quotas is unknown, and the plan does not show it"),
};
const LIMIT_RANGES: Permission = Permission {
    ways: &[access(&["list"], "", "limitranges")],
    need: Need::ToJudge("the limits for a new member are unknown"),
};
const ALL_NODES: Permission = Permission {
    ways: &[at(Place::Everywhere, access(&["list"], "", "nodes"))],
    need: Need::ToJudge("the nodes for members that are kept apart are unknown"),
};
const DRAINS: Permission = Permission {
    ways: &[access(&["list"], "policy", "poddisruptionbudgets")],
    need: Need::ToJudge("the effect of one member on a drain of its node is unknown"),
};
const BACKUPS: Permission = Permission {
    ways: &[access(&["get"], "batch", "cronjobs")],
    need: Need::ToJudge("the age of the last backup is unknown where a policy limits it"),
};
const SQL: Permission = Permission {
    ways: &[stream("exec")],
    need: Need::Reported("details from PostgreSQL itself are not shown"),
};
const USAGE: Permission = Permission {
    ways: &[access(&["list"], "metrics.k8s.io", "pods")],
    need: Need::Reported("CPU and memory of members are not shown"),
};
const HISTORY: Permission = Permission {
    ways: &[access(&["get", "create", "patch"], "", "configmaps")],
    need: Need::Reported("the change is not in the history"),
};
const TELL: Permission = Permission {
    ways: &[access(&["create", "patch"], "events.k8s.io", "events")],
    need: Need::Reported("there is no Event on the cluster"),
};
const EVENTS: Permission = Permission {
    ways: &[access(&["list"], "", "events")],
    need: Need::Reported("obstacles of a new member are not read from Events"),
};
const LOGS: Permission = Permission {
    ways: &[Access { subresource: "log", ..access(&["get"], "", "pods") }],
    need: Need::Reported("obstacles of a base backup are not read from its log"),
};
const READ_HISTORY: Permission =
    Permission { ways: &[access(&["get"], "", "configmaps")], need: Need::Always };

/// Reads of the cluster itself.
const CLUSTER: &[Permission] = &[WORKLOAD, PODS, PATRONI, MEMBERS];
/// Reads of the platform under it.
const GROUND: &[Permission] = &[ACCOUNTS, OPERATOR, SETTINGS, NODES];
/// Reads of the policies.
const LAW: &[Permission] = &[POLICIES, PLATFORM, LABELS];
const LEDGERS: Permission = Permission {
    ways: &[access(&["get"], "pgscale.dev", "instanceledgers")],
    need: Need::ToJudge(
        "what counts against a budget is unknown, and growth is refused where a policy sets one",
    ),
};

/// For the budgets of a list.
const LIST_LEDGERS: Permission = Permission {
    ways: &[access(&["list"], "pgscale.dev", "instanceledgers")],
    need: Need::Reported("a list does not show what is used of budgets"),
};

/// Reads of the surroundings, by which a change of the count is judged.
const ROOM: &[Permission] = &[QUOTAS, LIMIT_RANGES, ALL_NODES, DRAINS, BACKUPS, LEDGERS];

/// The permissions of a command, part by part, in the order of its help.
pub(crate) type Parts = &'static [&'static [Permission]];

/// The permissions of `plan`.
const PLAN: Parts = &[&[GET_CLUSTER], CLUSTER, LAW, &[OVERRIDES, VOLUMES], ROOM, &[SQL], GROUND];
/// The permissions of `override`.
pub(crate) const OVERRIDE: Parts = &[&[GET_CLUSTER, GRANT], CLUSTER, LAW, &[VOLUMES], ROOM, GROUND];
/// The permissions of `verify`.
const VERIFY: Parts = &[&[GET_CLUSTER, CHOOSE], CLUSTER, &[SQL, SERVICES], GROUND];
/// The permissions of `history`.
const PAST: Parts = &[&[GET_CLUSTER, READ_HISTORY, CHOOSE]];
/// The permissions of `status`.
const STATUS: Parts = &[
    LAW,
    &[OVERRIDES, EVENTS, GET_OR_LIST_CLUSTERS, LIST_LEDGERS],
    CLUSTER,
    &[SQL, VOLUMES, SERVICES],
    GROUND,
    ROOM,
];
/// The permissions of `top`.
const TOP: Parts = &[&[GET_OR_LIST_CLUSTERS], CLUSTER, &[USAGE, SQL], GROUND];
/// The permissions of `policy`, most of them only for the trial of a new policy on clusters.
const POLICY: Parts = &[
    &[
        Permission { need: Need::Reported("there is nothing to show"), ..POLICIES },
        Permission {
            need: Need::Reported("the policies of the platform are not shown"),
            ..PLATFORM
        },
        Permission {
            need: Need::Reported("policies that select namespaces are not shown"),
            ..LABELS
        },
        GET_OR_LIST_CLUSTERS,
    ],
    CLUSTER,
    &[VOLUMES],
    GROUND,
    ROOM,
];
/// The permissions of `snapshot`: those of a plan, for any change.
const SNAPSHOT: Parts = &[&[GET_CLUSTER], CLUSTER, LAW, &[OVERRIDES, VOLUMES], ROOM, GROUND];
/// The permissions of `lint --live`. Without `--live` it needs none.
const LINT: Parts = SNAPSHOT;
/// The permissions of `wait`.
const WAIT: Parts = &[&[GET_CLUSTER, CHOOSE], CLUSTER, &[SQL, VOLUMES, SERVICES], GROUND];
/// The permissions of `version`.
const VERSIONS: Parts = &[
    &[
        Permission {
            need: Need::Reported("the versions of clusters and operators are not shown"),
            ..GET_OR_LIST_CLUSTERS
        },
        Permission {
            ways: &[at(
                Place::Everywhere,
                access(&["get"], "apiextensions.k8s.io", "customresourcedefinitions"),
            )],
            need: Need::Reported("our definitions are not compared"),
        },
        PODS,
    ],
    GROUND,
];
/// The permissions of every change of the count.
pub(crate) const SCALE: Parts = &[
    &[GET_CLUSTER, WRITE_COUNT, CHOOSE],
    CLUSTER,
    &[CHECKPOINT],
    LAW,
    &[OVERRIDES, VOLUMES, SERVICES],
    ROOM,
    &[SQL, USAGE, EVENTS, LOGS, HISTORY, TELL],
    GROUND,
];
/// The permissions of `autoscale`: those of every change, and the CPU that it follows.
const AUTOSCALE: Parts = &[
    &[GET_CLUSTER, WRITE_COUNT],
    &[Permission { need: Need::Reported("only a schedule is followed, and no load"), ..USAGE }],
    CLUSTER,
    &[CHECKPOINT],
    LAW,
    &[OVERRIDES, VOLUMES, SERVICES],
    ROOM,
    &[SQL, EVENTS, LOGS, HISTORY, TELL],
    GROUND,
];
/// The permissions of `switchover`. Those for policies, overrides and surroundings serve only
/// `--for`.
pub(crate) const SWITCHOVER: Parts = &[
    &[GET_CLUSTER],
    CLUSTER,
    &[
        CHECKPOINT,
        Permission {
            need: Need::ToJudge("the policies are unknown, and --for is refused"),
            ..POLICIES
        },
        Permission {
            need: Need::ToJudge("the policies of the platform are unknown, and --for is refused"),
            ..PLATFORM
        },
        Permission {
            need: Need::ToJudge(
                "policies that select namespaces cannot be matched, and --for is refused",
            ),
            ..LABELS
        },
        OVERRIDES,
        Permission { need: Need::ToJudge("--for does not see volumes"), ..VOLUMES },
        DRAINS,
        BACKUPS,
        HISTORY,
        TELL,
    ],
    GROUND,
];

/// The permissions of every command, by its name.
pub(crate) const COMMANDS: &[(&str, Parts)] = &[
    ("status", STATUS),
    ("top", TOP),
    ("plan", PLAN),
    ("up", SCALE),
    ("down", SCALE),
    ("set", SCALE),
    ("autoscale", AUTOSCALE),
    ("switchover", SWITCHOVER),
    ("wait", WAIT),
    ("verify", VERIFY),
    ("history", PAST),
    ("undo", SCALE),
    ("override", OVERRIDE),
    ("policy", POLICY),
    ("rules", &[]),
    ("rbac", &[]),
    ("lint", LINT),
    ("snapshot", SNAPSHOT),
    // What it does is permitted as the verb that a request becomes.
    ("serve", &[]),
    ("doctor", doctor::DOCTOR),
    ("install", install::INSTALL),
    ("upgrade", install::INSTALL),
    ("uninstall", install::UNINSTALL),
    ("completion", &[]),
    ("version", VERSIONS),
];
