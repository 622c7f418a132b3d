//! Says every few seconds what is waited for, so that a wait is never taken for a program that
//! hangs.

use tokio::time::Instant;

use pgscale_guard::duration::human;

use crate::session::Session;

/// A wait that says what it is for.
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

    /// Says what is missing, unless something was said a moment ago.
    pub(crate) fn tell(&mut self, missing: &str) {
        if self.said.elapsed() < self.session.pace.tell {
            return;
        }
        self.said = Instant::now();
        let waited = human(self.began.elapsed());
        self.session.out.note(&format!("still waiting after {waited}: {missing}"));
    }
}
