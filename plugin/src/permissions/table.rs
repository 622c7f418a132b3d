//! Who needs what: the one table.

/// Requests of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Access {
    pub(super) verbs: &'static [&'static str],
    pub(super) group: &'static str,
    pub(super) resource: &'static str,
    pub(super) subresource: &'static str,
    pub(super) place: Place,
}

/// Where a right must hold.
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

/// What a command can do without a right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// Nothing.
    Always,
    /// Everything but moving the leader, at this loss.
    ToMoveTheLeader(&'static str),
    /// Everything, at this loss, where the leader moves.
    WhenTheLeaderMoves(&'static str),
    /// Everything, at this loss, which the verdict tells of itself: what is to be judged has been read already when
    /// rights are asked about.
    ToJudge(&'static str),
    /// Everything, at this loss.
    Never(&'static str),
    /// Everything, at this loss, which the command tells of itself when it comes to it.
    Told(&'static str),
}

/// One thing a command does, and the ways to be allowed to: any one of them is enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Right {
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

/// A WebSocket begins as a GET, so `get` is needed everywhere; Kubernetes 1.35 and later ask for `create` as well
/// (`AuthorizePodWebsocketUpgradeCreatePermission`).
const fn stream(subresource: &'static str) -> Access {
    Access { subresource, ..access(&["get", "create"], "", "pods") }
}

const GET_CLUSTER: Right =
    Right { ways: &[access(&["get"], "acid.zalan.do", "postgresqls")], need: Need::Always };
const GET_OR_LIST_CLUSTERS: Right =
    Right { ways: &[access(&["get", "list"], "acid.zalan.do", "postgresqls")], need: Need::Always };
const WRITE_COUNT: Right =
    Right { ways: &[access(&["patch"], "acid.zalan.do", "postgresqls")], need: Need::Always };
const WORKLOAD: Right = Right {
    ways: &[access(&["get"], "apps", "statefulsets")],
    need: Need::ToJudge("what the operator has applied is unknown, and a shrink is refused"),
};
const PODS: Right = Right {
    ways: &[access(&["list"], "", "pods")],
    need: Need::ToJudge("the members are unknown, and a shrink is refused"),
};
const PATRONI: Right = Right {
    ways: &[access(&["get"], "", "configmaps"), access(&["get"], "", "endpoints")],
    need: Need::ToJudge("the leader is unknown, and a shrink is refused"),
};
pub(super) const MEMBERS: Right = Right {
    ways: &[stream("portforward"), stream("exec")],
    need: Need::ToMoveTheLeader(
        "members cannot be asked how far they are, and a shrink is refused",
    ),
};
const CHECKPOINT: Right = Right {
    ways: &[stream("exec")],
    need: Need::WhenTheLeaderMoves("no CHECKPOINT before the leader moves, which may take longer"),
};
const POLICIES: Right = Right {
    ways: &[access(&["list"], "pgscale.dev", "scalepolicies")],
    need: Need::ToJudge("the policies are unknown, and a shrink is refused"),
};
const PLATFORM: Right = Right {
    ways: &[at(Place::Everywhere, access(&["list"], "pgscale.dev", "clusterscalepolicies"))],
    need: Need::ToJudge("the policies of the platform are unknown, and a shrink is refused"),
};
const LABELS: Right = Right {
    ways: &[access(&["get"], "", "namespaces")],
    need: Need::ToJudge(
        "whether a policy that selects namespaces holds is unknown, and a shrink is refused",
    ),
};
const OVERRIDES: Right = Right {
    ways: &[access(&["list"], "pgscale.dev", "scaleoverrides")],
    need: Need::ToJudge("which changes an override allows in spite of the rules is unknown"),
};
const GRANT: Right =
    Right { ways: &[access(&["create"], "pgscale.dev", "scaleoverrides")], need: Need::Always };
const VOLUMES: Right = Right {
    ways: &[access(&["list"], "", "persistentvolumeclaims")],
    need: Need::Never("volumes are not seen"),
};
const SERVICES: Right = Right {
    ways: &[
        access(&["list"], "discovery.k8s.io", "endpointslices"),
        access(&["get"], "", "endpoints"),
    ],
    need: Need::Never("whether the Services lead to the members is not seen"),
};
const OPERATOR: Right = Right {
    ways: &[at(Place::Everywhere, access(&["list"], "apps", "deployments"))],
    need: Need::ToJudge("the operator and its limits are unknown"),
};
const ACCOUNTS: Right = Right {
    ways: &[at(Place::Public, access(&["get"], "", "configmaps"))],
    need: Need::ToJudge("which Deployment is the operator is unknown (or name it: --operator)"),
};
const SETTINGS: Right = Right {
    ways: &[
        at(Place::Operator, access(&["get"], "", "configmaps")),
        at(Place::Operator, access(&["get"], "acid.zalan.do", "operatorconfigurations")),
    ],
    need: Need::ToJudge("the operator's limits are unknown"),
};
const NODES: Right = Right {
    ways: &[at(Place::Everywhere, access(&["get"], "", "nodes"))],
    need: Need::Never("members on a lost node look well"),
};

const QUOTAS: Right = Right {
    ways: &[access(&["list"], "", "resourcequotas")],
    need: Need::ToJudge("whether the quotas have room is unknown, and the plan does not show it"),
};
const LIMIT_RANGES: Right = Right {
    ways: &[access(&["list"], "", "limitranges")],
    need: Need::ToJudge("whether a LimitRange forbids a new member is unknown"),
};
const ALL_NODES: Right = Right {
    ways: &[at(Place::Everywhere, access(&["list"], "", "nodes"))],
    need: Need::ToJudge("whether there are nodes for members that are kept apart is unknown"),
};
const DRAINS: Right = Right {
    ways: &[access(&["list"], "policy", "poddisruptionbudgets")],
    need: Need::ToJudge("whether the last member's node could be drained is unknown"),
};
const BACKUPS: Right = Right {
    ways: &[access(&["get"], "batch", "cronjobs")],
    need: Need::ToJudge("the age of the last backup is unknown where a policy limits it"),
};
const SQL: Right = Right {
    ways: &[stream("exec")],
    need: Need::Told("what only PostgreSQL itself knows is not shown"),
};
const HISTORY: Right = Right {
    ways: &[access(&["get", "create", "patch"], "", "configmaps")],
    need: Need::Told("the change is not in the history"),
};
const TELL: Right = Right {
    ways: &[access(&["create", "patch"], "events.k8s.io", "events")],
    need: Need::Told("there is no Event on the cluster"),
};
const EVENTS: Right = Right {
    ways: &[access(&["list"], "", "events")],
    need: Need::Told("what hinders a new member is not read from Events"),
};
const LOGS: Right = Right {
    ways: &[Access { subresource: "log", ..access(&["get"], "", "pods") }],
    need: Need::Told("what hinders a base backup is not read from its log"),
};
const READ_HISTORY: Right =
    Right { ways: &[access(&["get"], "", "configmaps")], need: Need::Always };

/// What is read of the cluster itself.
const CLUSTER: &[Right] = &[WORKLOAD, PODS, PATRONI, MEMBERS];
/// What is read of the platform under it.
const GROUND: &[Right] = &[ACCOUNTS, OPERATOR, SETTINGS, NODES];
/// What is read of the policies.
const LAW: &[Right] = &[POLICIES, PLATFORM, LABELS];
/// What is read of the surroundings that a change of the count is judged by.
const ROOM: &[Right] = &[QUOTAS, LIMIT_RANGES, ALL_NODES, DRAINS, BACKUPS];

/// The rights of a command, part by part, in the order of its help.
pub(crate) type Parts = &'static [&'static [Right]];

/// What `plan` needs.
const PLAN: Parts = &[&[GET_CLUSTER], CLUSTER, LAW, &[OVERRIDES, VOLUMES], ROOM, &[SQL], GROUND];
/// What `override` needs.
pub(crate) const OVERRIDE: Parts = &[&[GET_CLUSTER, GRANT], CLUSTER, LAW, &[VOLUMES], ROOM, GROUND];
/// What `verify` needs.
const VERIFY: Parts = &[&[GET_CLUSTER], CLUSTER, &[SQL, SERVICES], GROUND];
/// What `history` needs.
const PAST: Parts = &[&[GET_CLUSTER, READ_HISTORY]];
/// What `status` needs.
const STATUS: Parts =
    &[LAW, &[OVERRIDES, EVENTS, GET_OR_LIST_CLUSTERS], CLUSTER, &[VOLUMES, SERVICES], GROUND, ROOM];
/// What `policy` needs; most of it only where a new policy is tried on clusters.
const POLICY: Parts = &[
    &[
        Right { need: Need::Told("there is nothing to show"), ..POLICIES },
        Right { need: Need::Told("the policies of the platform are not shown"), ..PLATFORM },
        Right { need: Need::Told("policies that select namespaces are not shown"), ..LABELS },
        GET_OR_LIST_CLUSTERS,
    ],
    CLUSTER,
    &[VOLUMES],
    GROUND,
    ROOM,
];
/// What `wait` needs.
const WAIT: Parts = &[&[GET_CLUSTER], CLUSTER, &[VOLUMES, SERVICES], GROUND];
/// What every change of the count needs.
pub(crate) const SCALE: Parts = &[
    &[GET_CLUSTER, WRITE_COUNT],
    CLUSTER,
    &[CHECKPOINT],
    LAW,
    &[OVERRIDES, VOLUMES, SERVICES],
    ROOM,
    &[SQL, EVENTS, LOGS, HISTORY, TELL],
    GROUND,
];
/// What `switchover` needs; the policies, overrides and surroundings only where it is for a count.
pub(crate) const SWITCHOVER: Parts = &[
    &[GET_CLUSTER],
    CLUSTER,
    &[
        CHECKPOINT,
        Right { need: Need::ToJudge("the policies are unknown, and --for is refused"), ..POLICIES },
        Right {
            need: Need::ToJudge("the policies of the platform are unknown, and --for is refused"),
            ..PLATFORM
        },
        Right {
            need: Need::ToJudge(
                "whether a policy that selects namespaces holds is unknown, and --for is refused",
            ),
            ..LABELS
        },
        OVERRIDES,
        Right { need: Need::ToJudge("--for does not see volumes"), ..VOLUMES },
        DRAINS,
        BACKUPS,
        HISTORY,
        TELL,
    ],
    GROUND,
];

/// The rights of every command, by its name.
pub(crate) const COMMANDS: &[(&str, Parts)] = &[
    ("status", STATUS),
    ("plan", PLAN),
    ("up", SCALE),
    ("down", SCALE),
    ("set", SCALE),
    ("switchover", SWITCHOVER),
    ("wait", WAIT),
    ("verify", VERIFY),
    ("history", PAST),
    ("undo", SCALE),
    ("override", OVERRIDE),
    ("policy", POLICY),
    ("rules", &[]),
    ("completion", &[]),
    ("version", &[]),
];
