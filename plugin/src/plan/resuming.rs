//! A plan that makes the operator act on a count that is declared already.

use pgscale_guard::RuleId;
use pgscale_guard::object_ref::Kind;
use pgscale_guard::verdict::Finding;

use super::{Plan, Step};

impl Plan {
    /// Turns a plan from `running`, the count of the StatefulSet, into one that makes the operator act
    /// on the declared count.
    ///
    /// The plan rests on facts in which the count before is `running`. Two rules say that the
    /// operator has not worked the write through, which is what the plan mends.
    #[must_use]
    pub(crate) fn resuming(mut self, running: i64) -> Self {
        let of_the_object = |finding: &Finding| {
            finding.evidence.iter().all(|it| it.object.kind == Kind::Postgresql)
        };
        self.verdict.findings.retain(|finding| {
            finding.rule != RuleId::CHANGE_NOT_APPLIED
                && !(finding.rule == RuleId::OPERATION_IN_PROGRESS && of_the_object(finding))
        });
        for step in &mut self.steps {
            if let Step::SetCount(count) = step {
                *step = Step::AskAgain(*count);
            }
        }
        Self { declared: Some(self.count), resumes: Some(running), ..self }
    }
}
