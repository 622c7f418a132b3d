//! The end of a watch: remarks after convergence, and the failure where the time is up.

use std::time::Duration;

use pgscale_guard::Seen;
use pgscale_guard::duration::{exact, human};
use pgscale_guard::remedy::Line::{self, Text};

use super::unacted::again;
use super::{Snapshot, Watch};
use crate::error::{Failure, Kind};
use crate::services;

/// The number of stalled members for which the timeout names the position.
const NAMED: usize = 10;

impl Watch<'_> {
    /// Reports the rest after convergence.
    pub(super) async fn conclude(&mut self, snapshot: &Snapshot) {
        let facts = &snapshot.facts;
        for name in &self.goal.unfit {
            let now = facts.member(name).map(|member| facts.assessment().health(member));
            if let Some(health) = now
                && health != pgscale_guard::facts::Health::Healthy
            {
                self.done
                    .notes
                    .push(format!("{name} is still not fit: {}", crate::plan::describe(&health)));
            }
        }
        self.done.notes.extend(snapshot.services.unchecked(&self.goal.name));
        let slots = services::read_slots(&self.session.client, facts).await;
        if let (Seen::Unreadable(why), false) = (&slots, self.goal.removed.is_empty()) {
            self.done.notes.push(format!(
                "whether the replication slots of removed members are gone was not checked: {why}"
            ));
        }
        let slots = slots.known().cloned().unwrap_or_default();
        for member in &self.goal.removed {
            if let Some(oldest) = slots.get(&services::slot_of(member)) {
                let held = facts.leader_position().map_or(String::new(), |now| {
                    format!(
                        ", holding {}",
                        crate::terminal::text::bytes(now.saturating_sub(*oldest))
                    )
                });
                self.done.notes.push(format!(
                    "the replication slot of {member} is still there{held}; Patroni drops it later \
                     (member_slots_ttl)"
                ));
            }
        }
    }

    /// Returns the failure of a watch that took all of `timeout`.
    pub(super) fn timed_out(&mut self, timeout: Duration) -> Failure {
        for (subject, text) in self.blockers.all() {
            self.done.missing.push(format!("{subject}: {text}"));
        }
        let failure = match (self.goal.change, timeout.is_zero()) {
            (Some(change), _) => {
                let outcome = self.not_done(change, timeout);
                Failure::new(Kind::Timeout, format!("{outcome}\nMissing:")).closing_with(outcome)
            }
            (None, true) => {
                Failure::new(Kind::Timeout, format!("{} has not converged:", self.name()))
            }
            (None, false) => Failure::new(
                Kind::Timeout,
                format!("{} has not converged within {}\nMissing:", self.name(), exact(timeout)),
            ),
        };
        let failure = failure.with(self.stand(timeout));
        // In this order: to look changes nothing, and to cancel gives up.
        let name = self.goal.name.as_str();
        let wait = || self.session.suggest(&["wait", name]);
        if self.goal.change.is_none() && self.unacted.has.is_none() {
            return failure.hint_to("wait on", wait());
        }
        let look = self.session.suggest(&["status", name, "--why"]);
        let failure = failure.hint_to("first see why", look);
        if self.unacted.has.is_none() {
            return failure.hint_to("then wait on", wait());
        }
        let act = again(self.session, self.goal);
        let failure = failure.hint_to("then make the operator act", act);
        match self.cancels() {
            Some(cancels) => failure.hint_to("or cancel the change", cancels),
            None => failure,
        }
    }

    fn name(&self) -> String {
        format!("postgresql {}/{}", self.goal.namespace, self.goal.name)
    }

    /// Returns the outcome of a change that this run began, in one line.
    fn not_done(&self, (from, to): (i64, i64), timeout: Duration) -> String {
        let (name, limit) = (self.name(), exact(timeout));
        let (what, once) = match self.unacted.has {
            Some(_) => (
                format!("the operator has not acted on {name} within {limit}"),
                " as soon as it acts",
            ),
            None => (format!("{name} has not converged within {limit}"), ""),
        };
        format!("NOT DONE {from} -> {to}: {what}; the change continues{once}")
    }

    /// Returns what is missing, and where each member stands.
    fn stand(&self, timeout: Duration) -> Vec<Line> {
        let mut lines = Vec::new();
        if self.done.missing.is_empty() {
            lines.push(Text("  it has to stay as it is for some seconds".to_owned()));
        }
        lines.extend(self.done.missing.iter().map(|missing| Text(format!("  {missing}"))));
        let stands: Vec<_> = self.stands.iter().take(NAMED).collect();
        if !stands.is_empty() {
            lines.push(Text("Where it stands, and where to look:".to_owned()));
        }
        for (subject, stand) in stands {
            let mut words = stand.progress.words();
            if !timeout.is_zero() {
                words = format!("{words}, for {}", human(stand.since.elapsed()));
            }
            if let Some(progress) = self.backups.progress(subject, self.start.elapsed()) {
                words = format!("{words}, {}", progress.words());
            }
            let command = stand.progress.command(self.goal, subject, self.operator.as_ref());
            let command = command.reached_by(&self.session.reach);
            lines.push(Text(format!("  {subject}: {words}")));
            lines.push(Line::Command(format!("    {command}")));
        }
        lines
    }
}
