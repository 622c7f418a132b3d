//! The effect of a change: CPU, memory, lag and reads of each member before it, and after a time in
//! which caches and clients settle.
//!
//! It answers whether a change helped. It never changes how the change ends.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::FutureExt as _;
use pgscale_guard::Change;
use pgscale_guard::Facts;
use pgscale_guard::duration::exact;
use pgscale_guard::postgresql::Postgresql;
use pgscale_guard::read::AskWhom;
use tokio::time::sleep;

use crate::members::{lag_bytes, reported_lag};
use crate::reads::{self, MemberReads};
use crate::session::Session;
use crate::usage::{self, Usages};

/// The figures before and after a change.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Effect {
    /// The time between the end of the change and the second look.
    pub(crate) settled: Duration,
    /// The first look.
    pub(crate) before: Shot,
    /// The second one, or the reason why there is none.
    pub(crate) after: Result<Shot, String>,
}

/// The figures of all members at one time.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Shot {
    /// The member that leads.
    pub(crate) leader: Option<String>,
    /// The figures of each member, by its ordinal and name.
    pub(crate) members: BTreeMap<(i64, String), Figures>,
    /// The figures that are not known, each with the reason.
    pub(crate) unread: Vec<String>,
}

impl Shot {
    /// Returns the rows that all members read in a second. `None` where one is not known.
    pub(crate) fn rows(&self) -> Option<f64> {
        let rows = self.members.values().map(|figures| figures.rows);
        rows.sum::<Option<f64>>().filter(|_| !self.members.is_empty())
    }

    /// Returns the rows that the leader reads in a second.
    pub(crate) fn rows_of_the_leader(&self) -> Option<f64> {
        let leader = self.leader.as_deref()?;
        let mut all = self.members.iter();
        all.find(|((_, name), _)| name == leader).and_then(|(_, figures)| figures.rows)
    }
}

/// The figures of one member. `None` is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Figures {
    /// Thousandths of a core.
    pub(crate) millicores: Option<u64>,
    /// Bytes of memory.
    pub(crate) memory: Option<u64>,
    /// Bytes that a replica has not replayed, or else not received. `None` for the leader.
    pub(crate) lag: Option<u64>,
    /// Rows that scans read in a second.
    pub(crate) rows: Option<f64>,
}

/// Looks at all members.
pub(crate) async fn look(session: &Session, facts: &Facts) -> Shot {
    let namespace = facts.change.new.namespace.as_str();
    let (usages, reads) = futures::join!(
        usage::read(session, Some(namespace)).boxed(),
        reads::ask(session, facts, 0).boxed()
    );
    shot(facts, usages, &reads)
}

/// Waits until the cluster has settled, and looks again. An interruption ends the wait, and not the
/// program.
pub(crate) async fn settle(
    session: &Session,
    before: Shot,
    cluster: &str,
    settled: Duration,
) -> Effect {
    let interrupted = session.interruption.ends_only(sleep(settled));
    session.out.note(&format!("looking again at what members read in {} ...", exact(settled)));
    let after = if interrupted.await {
        Err("interrupted while it settled; the change itself has converged".to_owned())
    } else {
        match session.cluster(cluster).await {
            Ok(cluster) => Ok(look(session, &facts(session, cluster).await).await),
            Err(failure) => Err(failure.message),
        }
    };
    Effect { settled, before, after }
}

async fn facts(session: &Session, cluster: Postgresql) -> Facts {
    let count = cluster.instances.unwrap_or(0);
    session.reader.facts(Change::of_count(cluster, count), AskWhom::AsNeeded).await
}

/// Puts the answers together.
fn shot(facts: &Facts, usages: Result<Usages, String>, reads: &[MemberReads]) -> Shot {
    let leader = facts.leader_name();
    let namespace = &facts.change.new.namespace;
    let measured = |member: &str| {
        reads.iter().find(|one| one.member == member).and_then(|one| one.said.as_ref().ok())
    };
    let replayed = |member: &str| {
        let replicas = &measured(leader?)?.sample.replicas;
        replicas.iter().find(|it| it.name.eq_ignore_ascii_case(member))?.replay
    };
    let mut unread = Vec::new();
    let usages = usages.unwrap_or_else(|why| {
        unread.push(format!("CPU and memory: {why}"));
        Usages::new()
    });
    let mut members = BTreeMap::new();
    for member in facts.all_members() {
        let name = member.name.as_str();
        let usage = usages.get(&(namespace.clone(), name.to_owned()));
        let rates = measured(name).and_then(|measured| measured.rates.as_ref().ok());
        let lag = replayed(name)
            .or_else(|| lag_bytes(facts, member))
            .or_else(|| reported_lag(facts, member));
        let figures = Figures {
            millicores: usage.map(|usage| usage.millicores),
            memory: usage.map(|usage| usage.memory),
            lag: lag.filter(|_| leader != Some(name)),
            rows: rates.and_then(|rates| rates.rows),
        };
        members.insert((member.ordinal, name.to_owned()), figures);
    }
    unread.extend(reads::unread(reads));
    Shot { leader: leader.map(str::to_owned), members, unread }
}
