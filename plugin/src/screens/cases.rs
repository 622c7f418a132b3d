//! The commands, each on a cluster that gives it something to say.

use serde_json::json;

use super::Case;
use crate::reads::tests::reading;
use crate::terminal::{BAD, BOLD, CARE, GOOD};
use crate::testing::{Mishap, Stage, World};
use crate::verify::talkative;

/// The values of a case that says nothing else.
const PLAIN: Case = Case {
    name: "",
    world: || World::new(3, 0),
    before: &[],
    line: "",
    code: 0,
    styled: &[],
    wide: &[],
};

/// The values of a case on a machine without helm.
const MISSING_HELM: Case = Case { styled: &[(BAD, "error:"), (CARE, "hint:")], ..PLAIN };

/// Returns a cluster with volumes and quotas, in a namespace with policies.
fn governed(members: i64, leader: i64) -> World {
    World::new(members, leader)
        .with_resources()
        .policy("production", &json!({"instances": {"min": 2, "max": 7}, "steps": {"down": 2}}))
        .policy("trial", &json!({"mode": "Warn", "instances": {"min": 5}}))
}

/// Returns the cluster with a leader that answers in SQL: its size, its archive, the delays.
fn asked(world: World) -> World {
    let flow = "archive\u{1f}on\u{1f}1795514388\u{1f}\u{1f}\u{1e}\
        replica\u{1f}acid-a-1\u{1f}0.0012\u{1f}0.04\u{1f}75.3\u{1e}\
        replica\u{1f}acid-a-2\u{1f}\u{1f}\u{1f}\n";
    world.printing(0, "pg_stat_archiver", Ok(flow)).printing(
        0,
        "sum(pg_database_size",
        Ok("13213121536\n"),
    )
}

/// Returns two clusters, one of which is being deleted.
fn two() -> World {
    World::new(3, 0).with_another()
}

pub(super) const CASES: &[Case] = &[
    Case {
        name: "autoscale",
        world: || World::new(3, 0).using("1600m", 10),
        line: "autoscale acid-a --cpu 80 --min 3 --max 7 --once",
        ..PLAIN
    },
    Case {
        name: "status",
        world: || governed(3, 0).stalled(&[2]),
        line: "status acid-a",
        styled: &[
            (BAD, "DEGRADED"),
            (BOLD, "postgresql db/acid-a"),
            (CARE, "Not converged:"),
            (BAD, "unhealthy"),
        ],
        // A command, which is never broken.
        wide: &["kubectl exec"],
        ..PLAIN
    },
    Case {
        name: "status, healthy",
        world: || asked(World::new(3, 0).with_resources()),
        line: "status acid-a",
        styled: &[(GOOD, "HEALTHY"), (GOOD, "healthy")],
        ..PLAIN
    },
    Case {
        name: "status, paused",
        world: || asked(World::new(3, 0).paused()),
        line: "status acid-a",
        styled: &[(CARE, "HEALTHY"), (BAD, "paused"), (BOLD, "Although it has converged:")],
        wide: &["kubectl exec"],
        ..PLAIN
    },
    Case {
        name: "status, unread",
        world: || World::new(3, 0).hiding(&["pods", "configmaps", "exec"]),
        line: "status acid-a",
        styled: &[(CARE, "UNKNOWN"), (BAD, "members cannot be listed:")],
        ..PLAIN
    },
    Case {
        name: "status -A",
        world: || World::new(3, 0).limited(1, 3, 9),
        line: "status -A",
        styled: &[(CARE, "3/3 of 9")],
        ..PLAIN
    },
    Case {
        name: "status -A, something is wrong",
        world: || two().quota_spent(),
        line: "status -A",
        styled: &[(BAD, "NoLeader"), (CARE, "CountDiffers")],
        ..PLAIN
    },
    Case {
        name: "status, several",
        world: || two().paused(),
        line: "status",
        styled: &[(BAD, "paused")],
        ..PLAIN
    },
    Case {
        name: "status --why",
        world: || World::new(3, 0).quota_spent(),
        line: "status acid-a --why",
        styled: &[(BAD, "DEGRADED"), (BOLD, "Why, the likeliest first:")],
        ..PLAIN
    },
    Case {
        name: "status --sql",
        world: || reading(asked(World::new(3, 0))),
        line: "status acid-a --sql",
        styled: &[(GOOD, "HEALTHY"), (BAD, "unreserved"), (CARE, "acid-a-7, no pod")],
        ..PLAIN
    },
    Case {
        name: "status --sql, not permitted",
        world: || World::new(3, 0).hiding(&["exec"]),
        line: "status acid-a --sql",
        styled: &[(GOOD, "HEALTHY"), (CARE, "Not known")],
        ..PLAIN
    },
    Case {
        name: "top",
        world: || reading(two().metered()),
        line: "top --sql",
        styled: &[(BAD, "NoLeader"), (GOOD, "Converged")],
        ..PLAIN
    },
    Case {
        name: "up, measured",
        world: || reading(World::new(3, 0).metered()),
        line: "up acid-a --settle 60s",
        styled: &[(GOOD, "added"), (BOLD, "Steps:"), (BOLD, "Did it help?")],
        wide: &["MEMBER", "acid-a-"],
        ..PLAIN
    },
    Case {
        name: "plan, allowed",
        world: || governed(5, 4).managed_by("argocd-controller"),
        line: "plan acid-a --to 3",
        styled: &[(BOLD, "Impact:"), (CARE, "removed"), (CARE, "ALLOWED")],
        ..PLAIN
    },
    Case {
        name: "plan, refused",
        world: || governed(4, 0).stalled(&[1, 2]),
        line: "plan acid-a --to 1",
        code: 3,
        styled: &[
            (BAD, "REFUSED"),
            (BAD, "DENY"),
            (BOLD, "Nearest count that would be allowed now:"),
            (BAD, "error:"),
        ],
        ..PLAIN
    },
    Case {
        name: "up",
        world: || {
            World::new(3, 0).with_resources().growing(&[
                (Stage::Unscheduled, 40),
                (Stage::Waiting("ContainerCreating"), 3),
                (Stage::Started(0), 2),
                (Stage::Empty, 2),
                (Stage::Cloning(7, 1 << 30, Some(4 << 30)), 30),
                (Stage::Cloning(7, 2 << 30, Some(4 << 30)), 30),
                (Stage::Streaming, 2),
                (Stage::Serving, 9),
            ])
        },
        line: "up acid-a",
        styled: &[(GOOD, "added"), (BOLD, "Steps:")],
        ..PLAIN
    },
    Case {
        name: "up, not judged in full",
        world: || World::new(3, 0).hiding(&["persistentvolumeclaims"]),
        line: "up acid-a",
        code: 7,
        styled: &[(CARE, "WARN"), (BAD, "error:"), (CARE, "hint:")],
        ..PLAIN
    },
    Case {
        name: "up, in vain",
        world: || World::new(3, 0).with(Mishap::UpdateDropped),
        line: "up acid-a --timeout 30s",
        code: 4,
        styled: &[(GOOD, "PLANNED"), (BAD, "error:"), (CARE, "hint:")],
        ..PLAIN
    },
    Case {
        name: "down, the leader moves",
        world: || World::new(5, 4).with_resources(),
        line: "down acid-a --to 3 --yes --reason night",
        styled: &[(BOLD, "Leader:"), (CARE, "removed")],
        ..PLAIN
    },
    Case {
        name: "down, no person to ask",
        world: || World::new(3, 0),
        line: "down acid-a",
        code: 7,
        styled: &[(BAD, "error:"), (CARE, "hint:")],
        ..PLAIN
    },
    Case {
        name: "down, the webhook says no",
        world: || World::new(3, 0).with(Mishap::Denial),
        line: "down acid-a --yes",
        code: 3,
        styled: &[(BAD, "error:"), (CARE, "hint:")],
        ..PLAIN
    },
    Case {
        name: "set, another writer takes it back",
        world: || World::new(3, 0).with(Mishap::Reverted),
        line: "set acid-a 5",
        code: 6,
        styled: &[(BAD, "error:")],
        ..PLAIN
    },
    Case { name: "set, nothing to do", line: "set acid-a 3", ..PLAIN },
    Case {
        name: "several",
        world: two,
        line: "up -l env=production --yes",
        code: 1,
        styled: &[(BAD, "failed"), (GOOD, "allowed"), (BOLD, "db/acid-b:")],
        ..PLAIN
    },
    Case {
        name: "several, no terminal",
        world: two,
        line: "up -l env=production -A",
        code: 7,
        styled: &[(BAD, "error:"), (CARE, "hint:")],
        ..PLAIN
    },
    Case { name: "switchover", line: "switchover acid-a --reason patch", ..PLAIN },
    Case {
        name: "switchover, Patroni says no",
        world: || World::new(3, 0).with(Mishap::SwitchoverRefused),
        line: "switchover acid-a --to acid-a-2",
        code: 3,
        styled: &[(BAD, "error:")],
        ..PLAIN
    },
    Case {
        name: "switchover, for a count",
        world: || World::new(5, 4).with(Mishap::BusyAfterSwitchover(8)),
        line: "switchover acid-a --for 3",
        ..PLAIN
    },
    Case {
        name: "switchover, for a count that stays refused",
        world: || World::new(5, 4).policy("production", &json!({"instances": {"min": 3}})),
        line: "switchover acid-a --for 2",
        code: 3,
        styled: &[(BAD, "error:"), (CARE, "hint:")],
        ..PLAIN
    },
    Case {
        name: "switchover, in vain",
        world: || World::new(5, 4).with(Mishap::NobodyFollows),
        line: "switchover acid-a --for 3 --timeout 12s",
        code: 4,
        styled: &[(BAD, "error:"), (CARE, "hint:")],
        ..PLAIN
    },
    Case { name: "wait", line: "wait acid-a", ..PLAIN },
    Case {
        name: "wait, in vain",
        world: || World::new(3, 0).quota_spent(),
        line: "wait acid-a --timeout 20s",
        code: 4,
        styled: &[(BAD, "error:")],
        ..PLAIN
    },
    Case {
        name: "verify",
        world: talkative,
        line: "verify acid-a --canary",
        styled: &[(BOLD, "Canary:"), (GOOD, "VERIFIED"), (GOOD, "Confirmed")],
        ..PLAIN
    },
    Case {
        name: "verify, something is wrong",
        world: || World::new(3, 0).stalled(&[1]),
        line: "verify acid-a --sql",
        code: 5,
        styled: &[(BAD, "WRONG"), (BAD, "Wrong:"), (CARE, "silent"), (CARE, "Not verified:")],
        ..PLAIN
    },
    Case {
        name: "history",
        world: || World::new(5, 4),
        before: &["down acid-a --to 3 --yes --reason maintenance", "undo acid-a"],
        line: "history acid-a",
        styled: &[(GOOD, "Converged")],
        ..PLAIN
    },
    Case {
        name: "undo",
        before: &["up acid-a --to 5 --reason sale"],
        line: "undo acid-a --yes",
        styled: &[(CARE, "removed")],
        ..PLAIN
    },
    Case {
        name: "undo, nothing to undo",
        line: "undo acid-a",
        code: 1,
        styled: &[(BAD, "error:"), (CARE, "hint:")],
        ..PLAIN
    },
    Case {
        name: "policy",
        world: || {
            governed(3, 0).platform_policy(
                "platform",
                &json!({"instances": {"min": 2}, "whenUnknown": {"up": "Deny"},
                    "freeze": {"from": "2026-11-20T00:00:00Z", "until": "2026-11-27T00:00:00Z",
                        "directions": ["Down"], "reason": "peak season"}}),
            )
        },
        line: "policy acid-a",
        styled: &[(GOOD, "in force"), (CARE, "warns")],
        ..PLAIN
    },
    Case {
        name: "policy test",
        line: concat!(
            "policy test -f ",
            env!("CARGO_MANIFEST_DIR"),
            "/../charts/pgscale/examples/production.yaml"
        ),
        styled: &[(GOOD, "within bounds")],
        ..PLAIN
    },
    Case {
        name: "override",
        world: || World::new(4, 0).stalled(&[1, 2]),
        line: "override acid-a --to 2 --rules too-few-healthy-survivors --reason night --yes",
        ..PLAIN
    },
    Case {
        name: "doctor",
        line: "doctor",
        code: 5,
        styled: &[(BAD, "the guard DOES NOT HOLD")],
        wide: &["kubectl create configmap"],
        ..PLAIN
    },
    Case { name: "install, no helm", line: "install", code: 1, ..MISSING_HELM },
    Case { name: "upgrade, no helm", line: "upgrade", code: 1, ..MISSING_HELM },
    Case { name: "uninstall, no helm", line: "uninstall", code: 1, ..MISSING_HELM },
    Case { name: "rules", line: "rules", ..PLAIN },
    Case {
        name: "rbac",
        line: "rbac history -n db",
        wide: &["kubectl create rolebinding"],
        ..PLAIN
    },
    Case {
        name: "rules ID",
        line: "rules leader-cannot-move",
        styled: &[(BOLD, "leader-cannot-move")],
        ..PLAIN
    },
    Case {
        name: "completion",
        line: "completion bash",
        // A script, printed as it is.
        wide: &["elif", "if", "complete"],
        ..PLAIN
    },
    Case { name: "version", line: "version", styled: &[(CARE, "skew:")], ..PLAIN },
    Case { name: "version --client", line: "version --client", ..PLAIN },
    Case {
        name: "lint",
        line: "lint -f src/screens/manifests/acid-a.yaml --current src/screens/manifests/stored.yaml",
        code: 3,
        styled: &[(BOLD, "postgresql db/acid-a"), (BAD, "refused")],
        ..PLAIN
    },
    Case { name: "snapshot", line: "snapshot acid-a --to 2", ..PLAIN },
    Case {
        name: "serve for others",
        line: "serve --address=0.0.0.0",
        code: 2,
        styled: &[(BAD, "error:")],
        ..PLAIN
    },
];
