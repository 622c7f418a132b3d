//! What the person on call sees: twenty faults, each staged for real, and the screen that names it.
//!
//! `docs/on-call.md` lists them, with what a reader has to name. A part waits until the screen has
//! the expected words and the next command, and writes it to `target/screens`, for a reader who gets
//! nothing else. These parts run only when they are asked for: `prove --only screens`.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use pgscale_tests::cluster::Cluster;
use pgscale_tests::operator::Settings;
use pgscale_tests::stage::Fault;
use pgscale_tests::trial::{Case, TestCtx, case};
use pgscale_tests::wait::{Attempt, until};
use serde_json::json;

const NAME: &str = "acid-a";
const MEMBERS: u32 = 3;
/// The limit for a fault to show: a lock ends after 30 seconds, and a container is started again
/// with growing pauses.
const DEADLINE: Duration = Duration::from_secs(240);
/// A terminal of 80 columns, without colour.
const TERMINAL: &str = "stty cols 80 rows 60; export NO_COLOR=1; ";
/// The operator's next synchronisation would mend what a fault changes.
const SELDOM: Duration = Duration::from_secs(3600);

/// One fault, and what its screen has to say.
struct Row {
    /// `screens::` and the number of its row in `docs/on-call.md`.
    part: &'static str,
    /// The steps that stage it, in their order.
    steps: &'static [Step],
    /// The command whose output is the screen.
    screen: Screen,
    /// The word with which the screen begins.
    begins: &'static str,
    /// The words that name the cause.
    cause: &'static str,
    /// The next command, `NS` for the namespace.
    next: &'static str,
}

/// One step of staging.
#[derive(Clone, Copy)]
enum Step {
    /// A fault of a member.
    Fault(u32, Fault),
    /// Patroni is paused.
    Pause,
    /// Another count is written.
    Count(i64),
    /// The leader writes 24 MiB.
    Rows,
    /// The operator and its Deployment are stopped.
    StopOperator,
    /// The operator hangs, and its Deployment looks well.
    FreezeOperator,
    /// The operator runs no cluster with more instances.
    Limit(i32),
    /// The operator synchronises once an hour.
    Seldom,
    /// `kubectl` with these words, in the namespace.
    Kubectl(&'static [&'static str]),
}

/// The command whose output is the screen.
#[derive(Clone, Copy)]
enum Screen {
    /// `status`.
    Status,
    /// `status --why`.
    Why,
    /// `status` by a user without `pods` and `configmaps`.
    Blind,
    /// `up --timeout 30s`.
    Up,
}

use Step::{Count, FreezeOperator, Kubectl, Limit, Pause, Rows, Seldom, StopOperator};

/// The rows of `docs/on-call.md`.
const ROWS: [Row; 20] = [
    Row {
        part: "screens::01",
        steps: &[
            Step::Fault(1, Fault::FrozenPatroni),
            Step::Fault(2, Fault::FrozenPatroni),
            Step::Fault(0, Fault::FrozenPatroni),
        ],
        screen: Screen::Status,
        begins: "DOWN",
        cause: "no member leads",
        next: "patronictl list",
    },
    Row {
        part: "screens::02",
        steps: &[Pause, Step::Fault(0, Fault::StoppedPatroni)],
        screen: Screen::Status,
        begins: "DOWN",
        cause: "paused",
        next: "patronictl resume",
    },
    Row {
        part: "screens::03",
        steps: &[Pause],
        screen: Screen::Status,
        begins: "HEALTHY",
        cause: "paused",
        next: "patronictl resume",
    },
    Row {
        part: "screens::04",
        steps: &[Step::Fault(1, Fault::StalledReceiver), Rows],
        screen: Screen::Status,
        begins: "DEGRADED",
        cause: "acid-a-1",
        next: "pg_stat_wal_receiver",
    },
    Row {
        part: "screens::05",
        steps: &[Step::Fault(2, Fault::PausedReplay), Rows],
        screen: Screen::Status,
        begins: "DEGRADED",
        cause: "paused",
        next: "pg_wal_replay_resume()",
    },
    Row {
        part: "screens::06",
        steps: &[Step::Fault(3, Fault::FailingBaseBackup), Count(4)],
        screen: Screen::Status,
        begins: "DEGRADED",
        cause: "acid-a-3",
        next: "kubectl logs acid-a-3",
    },
    Row {
        part: "screens::07",
        steps: &[Step::Fault(3, Fault::Unschedulable), Count(4)],
        screen: Screen::Status,
        begins: "DEGRADED",
        cause: "acid-a-3",
        next: "kubectl describe pod acid-a-3",
    },
    Row {
        part: "screens::08",
        steps: &[
            Step::Fault(2, Fault::ImageUnavailable),
            Kubectl(&["delete", "pod", "acid-a-2", "--wait=false"]),
        ],
        screen: Screen::Status,
        begins: "DEGRADED",
        cause: "image",
        next: "kubectl describe pod acid-a-2",
    },
    Row {
        part: "screens::09",
        steps: &[Step::Fault(2, Fault::Crashing)],
        screen: Screen::Status,
        begins: "DEGRADED",
        cause: "crash",
        next: "kubectl logs acid-a-2",
    },
    Row {
        part: "screens::10",
        steps: &[Step::Fault(1, Fault::NodeLost)],
        screen: Screen::Status,
        begins: "DEGRADED",
        cause: "node",
        next: "kubectl describe node",
    },
    Row {
        part: "screens::11",
        steps: &[Step::Fault(1, Fault::RestRefused)],
        screen: Screen::Status,
        begins: "DEGRADED",
        cause: "acid-a-1",
        next: "curl -sS --max-time 5 localhost:8008/patroni",
    },
    Row {
        part: "screens::12",
        steps: &[Step::Fault(2, Fault::FrozenPatroni)],
        screen: Screen::Status,
        begins: "DEGRADED",
        cause: "acid-a-2",
        next: "curl -sS --max-time 5 localhost:8008/patroni",
    },
    Row {
        part: "screens::13",
        steps: &[StopOperator, Count(4)],
        screen: Screen::Status,
        begins: "DEGRADED",
        cause: "the operator is down",
        next: "kubectl describe deployment postgres-operator",
    },
    Row {
        part: "screens::14",
        steps: &[StopOperator],
        screen: Screen::Status,
        begins: "HEALTHY",
        cause: "operator",
        next: "kubectl describe deployment postgres-operator",
    },
    Row {
        part: "screens::15",
        steps: &[Limit(3), Count(9)],
        screen: Screen::Status,
        begins: "HEALTHY",
        cause: "max_instances",
        next: "kubectl pgscale set acid-a 3",
    },
    Row {
        part: "screens::16",
        steps: &[Kubectl(&["create", "quota", "team", "--hard=pods=3"]), Count(4)],
        screen: Screen::Why,
        begins: "DEGRADED",
        cause: "no quota is left",
        next: "kubectl describe resourcequota",
    },
    Row {
        part: "screens::17",
        steps: &[
            Seldom,
            Kubectl(&[
                "patch",
                "service",
                "acid-a-repl",
                "-p",
                r#"{"spec":{"selector":{"spilo-role":"reader"}}}"#,
            ]),
        ],
        screen: Screen::Status,
        begins: "DEGRADED",
        cause: "leads to no member",
        next: "kubernetes.io/service-name=acid-a-repl",
    },
    Row {
        part: "screens::18",
        steps: &[StopOperator, Kubectl(&["scale", "statefulset", "acid-a", "--replicas=2"])],
        screen: Screen::Status,
        begins: "DEGRADED",
        cause: "scaled the StatefulSet to 2",
        next: "postgres-operator",
    },
    Row {
        part: "screens::19",
        steps: &[],
        screen: Screen::Blind,
        begins: "UNKNOWN",
        cause: "pods",
        next: "kubectl auth can-i",
    },
    Row {
        part: "screens::20",
        steps: &[FreezeOperator],
        screen: Screen::Up,
        begins: "PLANNED 3 -> 4",
        cause: "NOT DONE 3 -> 4: the operator has not acted",
        next: "kubectl pgscale set acid-a 3",
    },
];

/// Returns one part for each fault.
pub(crate) fn parts() -> Vec<Case> {
    ROWS.iter().map(|row| case(row.part, move |ctx| shown(ctx, row))).collect()
}

async fn shown(ctx: TestCtx, row: &'static Row) -> Result<()> {
    // A hanging operator of an earlier part must not keep this cluster from coming up.
    let cluster = Cluster::create(&ctx.bed, &ctx.namespace, NAME, MEMBERS, json!({})).await?;
    cluster.reported().await?;
    if cluster.leader().await?.ordinal != 0 {
        cluster.move_leader_to(0).await?;
    }
    let outcome = seen(&cluster, row).await;
    for step in row.steps {
        if let Step::Fault(ordinal, Fault::NodeLost) = *step {
            cluster.unstage(ordinal, Fault::NodeLost).await?;
        }
    }
    let mut operator = ctx.bed.operator().lock().await;
    operator.thaw();
    operator.start(&Settings::default()).await?;
    outcome
}

async fn seen(cluster: &Cluster, row: &Row) -> Result<()> {
    for step in row.steps {
        set(cluster, *step).await?;
    }
    let next = row.next.replace("NS", &cluster.namespace);
    let command = command(cluster, row.screen).await?;
    let file = screens().join(format!("{}.txt", row.part.replace("::", "-")));
    fs::create_dir_all(screens()).context("failed to make the directory of screens")?;
    until(&format!("{} with {:?} and {next:?}", row.part, row.cause), DEADLINE, async || {
        let screen = cluster.bed().paste(&command).await?.stdout.replace('\r', "");
        fs::write(&file, &screen).with_context(|| format!("failed to write {}", file.display()))?;
        // A command may go over several lines of the screen.
        let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let flat = words(&screen);
        let says = |text: &str| flat.contains(&words(text));
        Ok(if screen.starts_with(row.begins) && says(row.cause) && says(&next) {
            Attempt::Done(())
        } else {
            Attempt::NotYet(screen)
        })
    })
    .await
}

async fn set(cluster: &Cluster, step: Step) -> Result<()> {
    let bed = cluster.bed();
    match step {
        Step::Fault(ordinal, fault) => cluster.stage(ordinal, fault).await,
        Pause => bed.kubelet().pause(&cluster.namespace, NAME).await,
        Count(count) => cluster.patch(count).await?.ok().map(drop),
        Rows => {
            let rows = "CREATE TABLE rows AS SELECT repeat(md5(n::text), 8) FROM \
                        generate_series(1, 80000) n";
            cluster.sql(0, rows).await.map(drop)
        }
        StopOperator => bed.operator().lock().await.stop().await,
        FreezeOperator => {
            bed.operator().lock().await.freeze();
            Ok(())
        }
        Limit(max_instances) => {
            let limited = Settings { max_instances, ..Settings::default() };
            bed.operator().lock().await.start(&limited).await
        }
        Seldom => {
            let seldom = Settings { resync: SELDOM, ..Settings::default() };
            bed.operator().lock().await.start(&seldom).await
        }
        Kubectl(words) => cluster.kubectl(words).await?.ok().map(drop),
    }
}

/// Returns the line that shows the screen in a terminal of 80 columns.
async fn command(cluster: &Cluster, screen: Screen) -> Result<String> {
    let namespace = &cluster.namespace;
    let mut user = String::new();
    let line = match screen {
        Screen::Status => format!("kubectl pgscale status {NAME} -n {namespace}"),
        Screen::Why => format!("kubectl pgscale status {NAME} --why -n {namespace}"),
        Screen::Up => {
            format!("kubectl pgscale up {NAME} --to 4 --yes --timeout 30s -n {namespace}")
        }
        Screen::Blind => {
            user = format!("export KUBECONFIG={}; ", blinded(cluster).await?.display());
            format!("kubectl pgscale status {NAME} -n {namespace}")
        }
    };
    ensure!(!line.contains('\''), "the line cannot be quoted: {line}");
    Ok(format!("script -qec '{TERMINAL}{user}{line}' /dev/null"))
}

/// Makes a user who may read everything but pods and ConfigMaps.
async fn blinded(cluster: &Cluster) -> Result<PathBuf> {
    let kinds = "--resource=postgresqls.acid.zalan.do,statefulsets.apps,endpoints,services,\
                 persistentvolumeclaims,events,endpointslices.discovery.k8s.io";
    cluster.kubectl(&["create", "role", "half", "--verb=get,list", kinds]).await?.ok()?;
    let user = "half-blind";
    let binding = ["create", "rolebinding", "half", "--role=half", "--user", user];
    cluster.kubectl(&binding).await?.ok()?;
    cluster.bed().user_kubeconfig(user, &[]).await
}

fn screens() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/screens")
}
