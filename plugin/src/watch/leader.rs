//! A leader on a member that is to be removed: reported at once, and mended where this run wrote the
//! count.

use pgscale_guard::remedy::{Command, Line, Remedy};

use super::unacted::again;
use super::{Snapshot, Watch};
use crate::error::{Failure, Kind};
use crate::execute::recover::{OperatorWas, Recovered, Written, recover};
use crate::execute::switchover::Lead;

impl Watch<'_> {
    /// Reports a leader that is to be removed. Where this run wrote the count, moves the leader
    /// again or sets the count back, and then returns the failure.
    pub(super) async fn keep_leader(&mut self, snapshot: &Snapshot) -> Option<Failure> {
        let facts = &snapshot.facts;
        let doomed = facts.leader_member().filter(|leader| {
            let stays = facts.to() < 1 || leader.ordinal < facts.to();
            // A pod that ends hands the lead over itself.
            !stays && !leader.pod.terminating
        });
        let Some(leader) = doomed.map(|leader| leader.name.clone()) else {
            self.condemned = None;
            return None;
        };
        if self.condemned.as_ref().is_none_or(|(known, _)| *known != leader) {
            self.condemned = Some((leader.clone(), Vec::new()));
            let mends = if self.goal.ours { "; moving it again ..." } else { "" };
            self.event(format!("{leader} leads, and is to be removed{mends}"), true);
            if !self.goal.ours {
                self.session.advise("hint:", self.way_out());
            }
        }
        let before = self.goal.before.filter(|_| self.goal.ours)?;
        let written = Written {
            namespace: self.goal.namespace.clone(),
            name: self.goal.name.clone(),
            uid: self.goal.uid.clone(),
            count: self.goal.count,
            before,
        };
        match recover(self.session, &written, &facts.change.new).await {
            Recovered::Moved(lead) => {
                if let Some((made, _)) = lead.switchover() {
                    let note =
                        format!("the leader was moved again from {} to {}", made.from, made.to);
                    self.event(note.clone(), true);
                    self.done.notes.push(note);
                }
                self.condemned = None;
                None
            }
            Recovered::Held(lead, reasons) => Some(self.held(&lead, before, reasons)),
            Recovered::Restored(reasons, operator) => {
                Some(self.restored(&leader, before, reasons, operator))
            }
            Recovered::Not(reasons) => {
                let said = self.condemned.as_mut().map(|(_, said)| said);
                if !reasons.is_empty() && said.is_some_and(|said| *said != reasons) {
                    self.condemned = Some((leader.clone(), reasons.clone()));
                    self.event(
                        format!("{leader} could not be moved: {}", reasons.join("; ")),
                        true,
                    );
                    self.session.advise("hint:", self.way_out());
                }
                None
            }
        }
    }

    fn held(&self, lead: &Lead, before: i64, reasons: Vec<String>) -> Failure {
        let goal = self.goal;
        let moved = lead.switchover().map_or_else(String::new, |(made, _)| {
            format!("the leader was moved again from {} to {}, and ", made.from, made.to)
        });
        let message = format!(
            "{moved}numberOfInstances of postgresql {}/{} was set back to {before} meanwhile and could \
             not be written again; no member is removed",
            goal.namespace, goal.name
        );
        self.not_as_planned(message, reasons)
    }

    fn restored(
        &self,
        leader: &str,
        before: i64,
        reasons: Vec<String>,
        operator: OperatorWas,
    ) -> Failure {
        let goal = self.goal;
        let so = match operator {
            OperatorWas::Idle => "no member is removed",
            OperatorWas::AtWork => {
                "the operator was at work: it may still remove members once, and adds them again"
            }
        };
        let message = format!(
            "{leader} leads again and would be removed, and no kept member can take over; \
             numberOfInstances of postgresql {}/{} is {before} again; {so}",
            goal.namespace, goal.name
        );
        self.not_as_planned(message, reasons)
    }

    /// Returns the failure of a change that this run has set back, for these reasons.
    fn not_as_planned(&self, message: String, reasons: Vec<String>) -> Failure {
        Failure::new(Kind::NotAsPlanned, message)
            .with(reasons.into_iter().map(Line::Text))
            .hint_to("see what ails the members", self.status())
            .hint_to("when that is mended", again(self.session, self.goal))
    }

    /// Returns the ways out for a leader that is to be removed.
    fn way_out(&self) -> Remedy {
        let count = self.goal.count.to_string();
        let moves = self.session.suggest(&["switchover", &self.goal.name, "--for", &count]);
        let remedy = Remedy::to("move it", moves);
        match self.cancels() {
            Some(cancels) => remedy.or_to("cancel the change", cancels),
            None => remedy,
        }
    }

    /// Returns the command that takes the count back before the operator has acted on it.
    pub(super) fn cancels(&self) -> Option<Command> {
        let has = self.unacted.has?;
        let before = self.goal.before.filter(|before| *before != self.goal.count);
        let count = before.unwrap_or(has);
        (count != self.goal.count)
            .then(|| self.session.suggest(&["set", &self.goal.name, &count.to_string()]))
    }

    fn status(&self) -> Command {
        self.session.suggest(&["status", &self.goal.name, "--why"])
    }
}
