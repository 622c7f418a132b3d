//! Reads the inputs of a plan's impact beyond the facts.
//!
//! These are the namespace's quotas where the rules did not need them, and PostgreSQL's answers on
//! the leader and on removed members. All reads run at once and for a few seconds at most. No
//! change needs them to be safe: a missing answer is shown as such, and never reaches the verdict.

use std::fmt::Display;
use std::time::Duration;

use futures::{FutureExt as _, StreamExt as _, stream};
use k8s_openapi::api::core::v1::ResourceQuota;
use kube::Api;
use kube::api::ListParams;
use pgscale_guard::capacity::Look;
use pgscale_guard::duration::exact;
use pgscale_guard::{Facts, Seen};
use tokio::time::{Instant, timeout_at};

use crate::exec::sql;
use crate::impact::{Clients, Impact, LeaderReadings, Readings, Wal};
use crate::plan::{Outcome, Plan};
use crate::services::short;
use crate::session::{Session, address};

/// The number of removed members that are asked at a time.
const AT_ONCE: usize = 16;

/// Bytes of all databases: the size of a base backup without WAL.
const DATA: &str = "SELECT sum(pg_database_size(oid))::bigint FROM pg_database";

/// The data directory, and the slot that holds back most WAL.
const WAL: &str = "SELECT current_setting('data_directory'), slot_name, pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery() \
     THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END, restart_lsn)::bigint FROM (SELECT 1) AS leader \
     LEFT JOIN LATERAL (SELECT slot_name, restart_lsn FROM pg_replication_slots WHERE restart_lsn IS NOT NULL \
     ORDER BY restart_lsn LIMIT 1) AS slot ON true";

/// Bytes per second of the base backup that has sent most (PostgreSQL 13 and later).
const PACE: &str = "SELECT (backup_streamed / greatest(extract(epoch FROM clock_timestamp() - backend_start), 1))::bigint \
     FROM pg_stat_progress_basebackup JOIN pg_stat_activity USING (pid) WHERE backup_streamed > 0 \
     ORDER BY backup_streamed DESC LIMIT 1";

/// The clients, without Patroni's own connections and this one.
const CLIENTS: &str = "SELECT usename, application_name, count(*) FROM pg_stat_activity \
     WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() AND application_name NOT LIKE 'Patroni%' \
     GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2";

/// Reads the impact of `plan`, made from `facts`. `None` where nothing would change.
pub(crate) async fn impact(session: &Session, facts: &Facts, plan: &Plan) -> Option<Box<Impact>> {
    if plan.outcome() == Outcome::Nothing {
        return None;
    }
    let reader = Input { session, facts, until: Instant::now() + session.pace.impact };
    let clients = stream::iter(&plan.leaving)
        .map(async |member| (member.pod.clone(), reader.clients(&member.pod).await))
        .buffered(AT_ONCE)
        .collect::<Vec<_>>()
        .boxed();
    let leader = plan.leader.as_deref().filter(|_| plan.to > plan.from);
    let leader = async {
        match leader {
            Some(leader) => Some(reader.leader(leader).await),
            None => None,
        }
    }
    // Boxed: the state between all these answers would make every caller's future large.
    .boxed();
    let (quotas, leader, clients) = futures::join!(reader.quotas().boxed(), leader, clients);
    let inputs = Readings { quotas, leader, clients };
    Some(Box::new(Impact::of(plan, facts, inputs)))
}

/// One round of reads.
struct Input<'a> {
    session: &'a Session,
    facts: &'a Facts,
    until: Instant,
}

impl Input<'_> {
    fn namespace(&self) -> &str {
        &self.facts.change.new.namespace
    }

    /// Returns the quotas: those of the rules, where they needed them.
    async fn quotas(&self) -> Look<Vec<ResourceQuota>> {
        match &self.facts.capacity.quotas {
            Some(Seen::Known(quotas)) => return Ok(quotas.clone()),
            Some(Seen::Absent) => return Ok(Vec::new()),
            Some(Seen::Unreadable(why)) => return Err(why.clone()),
            None => {}
        }
        let quotas: Api<ResourceQuota> =
            Api::namespaced(self.session.client.clone(), self.namespace());
        let all = ListParams::default();
        let read = quotas.list(&all);
        self.in_time(async {
            read.await.map(|list| list.items).map_err(|error| short(&error, "resourcequotas"))
        })
        .await
    }

    async fn leader(&self, leader: &str) -> LeaderReadings {
        let data = async {
            let rows = self.ask(leader, DATA).await?;
            number(rows.first().and_then(|row| row.first()))
        };
        let pace = async {
            let rows = self.ask(leader, PACE).await?;
            rows.first().map(|row| number(row.first())).transpose()
        };
        let (data, wal, pace) = futures::join!(data, self.wal(leader), pace);
        LeaderReadings { data, wal, pace }
    }

    async fn wal(&self, leader: &str) -> Look<Wal> {
        let rows = self.ask(leader, WAL).await?;
        let row = rows.first().map_or(&[][..], Vec::as_slice);
        let [directory, slot, held] = row else {
            return Err(format!("PostgreSQL answered {row:?}"));
        };
        let held = if slot.is_empty() { None } else { Some((number(Some(held))?, slot.clone())) };
        Ok(Wal { held, free: self.free(leader, directory).await })
    }

    /// Returns the free bytes of the file system of the WAL, which may be a separate one.
    async fn free(&self, member: &str, directory: &str) -> Look<u64> {
        let command =
            ["df", "-B1", "--output=avail", &format!("{directory}/pg_wal")].map(str::to_owned);
        let address = address(self.facts, member);
        let run = self.session.exec.run(&address, command.into(), self.left());
        let printed = self.in_time(run).await?;
        number(printed.split_whitespace().last().map(str::to_owned).as_ref())
    }

    async fn clients(&self, member: &str) -> Look<Vec<Clients>> {
        let rows = self.ask(member, CLIENTS).await?;
        rows.into_iter()
            .map(|row| match row.as_slice() {
                [user, application, count] => Ok(Clients {
                    user: user.clone(),
                    application: application.clone(),
                    count: number(Some(count))?,
                }),
                row => Err(format!("PostgreSQL answered {row:?}")),
            })
            .collect()
    }

    /// Runs one statement on one member. PostgreSQL itself cancels it at the time limit.
    async fn ask(&self, member: &str, statement: &str) -> Look<Vec<Vec<String>>> {
        let left = self.left();
        let statement = format!("SET statement_timeout = {}; {statement}", left.as_millis().max(1));
        let address = address(self.facts, member);
        self.in_time(sql(self.session.exec.as_ref(), &address, &statement, left)).await
    }

    fn left(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }

    async fn in_time<T, E: Display>(&self, read: impl Future<Output = Result<T, E>>) -> Look<T> {
        match timeout_at(self.until, read).await {
            Ok(read) => read.map_err(|error| error.to_string()),
            Err(_) => Err(format!("no answer within {}", exact(self.session.pace.impact))),
        }
    }
}

fn number(text: Option<&String>) -> Look<u64> {
    let text = text.ok_or("no answer")?.trim();
    text.parse().map_err(|_| format!("{text:?} is no number of bytes or connections"))
}
