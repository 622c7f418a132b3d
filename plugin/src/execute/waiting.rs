//! Reports every few seconds the thing that is waited for, so that a wait is never taken for a
//! program that hangs.

use tokio::time::Instant;

use pgscale_guard::duration::human;

use crate::session::Session;

/// A wait that reports its reason.
pub(crate) struct Waiting<'a> {
    session: &'a Session,
    began: Instant,
    said: Instant,
}

impl<'a> Waiting<'a> {
    /// A wait that begins now.
    pub(crate) fn begin(session: &'a Session) -> Self {
        let now = Instant::now();
        Self { session, began: now, said: now }
    }

    /// Reports the missing condition, unless there was a line a moment ago.
    pub(crate) fn tell(&mut self, missing: &str) {
        if self.said.elapsed() < self.session.pace.tell {
            return;
        }
        self.said = Instant::now();
        let waited = human(self.began.elapsed());
        self.session.out.note(&format!("still waiting after {waited}: {missing}"));
    }
}
