//! Progress on stderr while the bed is provisioned: one live line on a terminal, one line per event
//! elsewhere.

use std::io::{IsTerminal, Write, stderr};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// Writes one line to stderr. An error is ignored: a closed stderr is no reason to fail.
pub fn say(line: &str) {
    _ = writeln!(stderr(), "{line}");
}

/// A piece of work that takes long enough to be announced.
#[derive(Debug)]
pub struct Step {
    what: String,
    start: Instant,
    bar: Option<ProgressBar>,
}

impl Step {
    /// Announces `what`, such as "building kube-apiserver v1.36.3".
    pub fn begin(what: impl Into<String>) -> Self {
        let what = what.into();
        let bar = stderr().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner().with_message(what.clone());
            if let Ok(style) = ProgressStyle::with_template("{spinner} {wide_msg} {elapsed}") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        if bar.is_none() {
            say(&format!("{what} …"));
        }
        Self { what, start: Instant::now(), bar }
    }

    /// Shows the progress of the work, on a terminal only.
    pub fn detail(&self, detail: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(format!("{} … {detail}", self.what));
        }
    }

    /// Announces the end of the work and its duration.
    pub fn done(self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        say(&format!("{}: done in {}", self.what, brief(self.start.elapsed())));
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Returns a short duration: `0.4s`, `12s`, `2m10s`.
pub fn brief(duration: Duration) -> String {
    match duration.as_secs() {
        0..10 => format!("{:.1}s", duration.as_secs_f64()),
        seconds @ 10..60 => format!("{seconds}s"),
        seconds => format!("{}m{:02}s", seconds / 60, seconds % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_brief() {
        for (milliseconds, text) in [(400, "0.4s"), (12_700, "12s"), (130_000, "2m10s")] {
            assert_eq!(brief(Duration::from_millis(milliseconds)), text);
        }
    }
}
