//! Lines at the foot of the terminal that are redrawn in place during a wait.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use pgscale_guard::duration::human;

use super::text::{columns, cut, padded};
use super::{CARE, GOOD, Output};

/// The narrowest bar that shows anything, and the widest useful one.
const BAR: std::ops::RangeInclusive<usize> = 10..=40;

/// The width of the column of phases: `replication configured` fits.
const PHASE: usize = 22;

/// The progress of one member.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Line {
    /// Its name.
    pub(crate) member: String,
    /// Its phase.
    pub(crate) phase: String,
    /// The time in this phase. `None` for a member that has arrived.
    pub(crate) elapsed: Option<Duration>,
    /// The completed part of the phase, where it is known.
    pub(crate) percent: Option<u64>,
    /// The remaining time, where it is known.
    pub(crate) left: Option<Duration>,
    /// It has arrived.
    pub(crate) settled: bool,
    /// The obstacle in its way, or a detail of its phase.
    pub(crate) more: Option<String>,
}

/// Returns the lines, none wider than `width`: name, phase, time, bar, per cent, time left, and
/// details.
pub(crate) fn render(lines: &[Line], width: usize) -> Vec<String> {
    let widest = |of: fn(&Line) -> &str| {
        lines.iter().map(|line| columns(of(line))).max().unwrap_or_default()
    };
    // A long reason must not push the numbers off the line.
    let names = widest(|line| &line.member);
    let phases = widest(|line| &line.phase).min(PHASE.max(width / 4));
    lines.iter().map(|line| render_one(line, names, phases, width)).collect()
}

fn render_one(line: &Line, names: usize, phases: usize, width: usize) -> String {
    let elapsed = line.elapsed.map_or(String::new(), human);
    // A line without numbers has room for the whole reason.
    let alone = line.percent.is_none() && line.more.is_none();
    let room = if alone { width.saturating_sub(names + elapsed.len().max(6) + 4) } else { phases };
    let phase = cut(&line.phase, room.max(phases));
    let style = if line.settled { GOOD } else { CARE };
    let phase = padded(&phase, phases);
    let start = format!("{}  {phase}  {elapsed:>6}", padded(&line.member, names));
    let mut rest = String::new();
    if let Some(percent) = line.percent {
        let left = line.left.map_or(String::new(), |left| format!("  {} left", human(left)));
        let numbers = format!("{percent:>3} %{left}");
        let room = width.saturating_sub(columns(&start) + columns(&numbers) + 6);
        let bar = room.min(width / 4).min(*BAR.end());
        rest = if BAR.contains(&bar) {
            format!("  {}  {numbers}", bar_of(percent, bar))
        } else {
            format!("  {numbers}")
        };
    }
    // Beside numbers it is a detail. Alone, a part is better than nothing.
    let room = width.saturating_sub(columns(&start) + columns(&rest) + 2);
    if let Some(more) = &line.more
        && (line.percent.is_none() || columns(more) <= room)
    {
        rest = format!("{rest}  {more}");
    }
    let plain = cut(&format!("{start}{rest}"), width);
    // Coloured after the width was measured.
    match plain.find(&phase) {
        Some(at) if !phase.trim().is_empty() => {
            let (before, after) = plain.split_at(at);
            let after = after.strip_prefix(&phase).unwrap_or_default();
            format!("{before}{style}{phase}{style:#}{after}")
        }
        Some(_) | None => plain,
    }
}

fn bar_of(percent: u64, width: usize) -> String {
    let inner = width.saturating_sub(2);
    let done = usize::try_from(percent.min(100)).map_or(inner, |percent| inner * percent / 100);
    format!("[{:<inner$}]", "=".repeat(done))
}

/// A terminal that can redraw lines.
pub(super) struct Terminal {
    target: Box<dyn Fn() -> ProgressDrawTarget + Send + Sync>,
    columns: Box<dyn Fn() -> Option<usize> + Send + Sync>,
}

impl Terminal {
    /// Returns the terminal of stderr. `None` where its width is not known.
    pub(super) fn of_stderr() -> Option<Self> {
        let columns = || {
            let size = terminal_size::terminal_size_of(std::io::stderr());
            size.map(|(terminal_size::Width(columns), _)| usize::from(columns))
        };
        columns()?;
        Some(Self { target: Box::new(ProgressDrawTarget::stderr), columns: Box::new(columns) })
    }
}

/// Live lines, until this value is dropped. Then they disappear from the terminal.
pub(crate) struct LiveLines {
    output: Arc<Output>,
    bar: ProgressBar,
}

impl Output {
    /// Starts live lines. `None` where they cannot be drawn, or are drawn already.
    pub(crate) fn live(self: &Arc<Self>) -> Option<LiveLines> {
        let terminal = self.terminal.as_ref()?;
        let style = ProgressStyle::with_template("{msg}").ok()?;
        let mut foot = self.foot.lock().unwrap_or_else(PoisonError::into_inner);
        if foot.is_some() {
            return None;
        }
        let bar = ProgressBar::with_draw_target(None, (terminal.target)()).with_style(style);
        *foot = Some(bar.clone());
        drop(foot);
        Some(LiveLines { output: Arc::clone(self), bar })
    }
}

impl LiveLines {
    /// Draws these lines in place of the previous ones.
    pub(crate) fn show(&self, lines: &[Line]) {
        // Read each time, because windows are resized.
        let columns = self.output.terminal.as_ref().and_then(|terminal| (terminal.columns)());
        // The last column stays free: a terminal may break the line after it.
        let width = columns.unwrap_or(80).saturating_sub(1);
        self.bar.set_message(render(lines, width).join("\n"));
    }
}

impl Drop for LiveLines {
    fn drop(&mut self) {
        let mut foot = self.output.foot.lock().unwrap_or_else(PoisonError::into_inner);
        self.bar.finish_and_clear();
        *foot = None;
    }
}

#[cfg(test)]
mod tests {
    use std::fmt;
    use std::io;

    use indicatif::TermLike;

    use super::*;
    use crate::terminal::testing::Screen;

    impl Terminal {
        /// Returns a terminal for tests that records its output: text, `<up N>`, `<clear>`.
        pub(in crate::terminal) fn recorded(
            columns: u16,
            record: impl Fn(&str) + Clone + Send + Sync + 'static,
        ) -> Self {
            Self {
                target: Box::new(move || {
                    let terminal = Recorded { columns, record: Box::new(record.clone()) };
                    ProgressDrawTarget::term_like(Box::new(terminal))
                }),
                columns: Box::new(move || Some(usize::from(columns))),
            }
        }
    }

    struct Recorded {
        columns: u16,
        record: Box<dyn Fn(&str) + Send + Sync>,
    }

    impl fmt::Debug for Recorded {
        fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
            out.write_str("Recorded")
        }
    }

    impl Recorded {
        fn note(&self, what: &str) {
            (self.record)(what);
        }

        fn moved(&self, where_to: &str, n: usize) {
            if n > 0 {
                self.note(&format!("<{where_to} {n}>"));
            }
        }
    }

    impl TermLike for Recorded {
        fn width(&self) -> u16 {
            self.columns
        }
        fn move_cursor_up(&self, n: usize) -> io::Result<()> {
            self.moved("up", n);
            Ok(())
        }
        fn move_cursor_down(&self, n: usize) -> io::Result<()> {
            self.moved("down", n);
            Ok(())
        }
        fn move_cursor_right(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_left(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn write_line(&self, text: &str) -> io::Result<()> {
            self.note(&format!("{text}\n"));
            Ok(())
        }
        fn write_str(&self, text: &str) -> io::Result<()> {
            // indicatif ends a line by filling it up.
            let line = text.trim_end();
            self.note(line);
            if line.len() < text.len() {
                self.note("\n");
            }
            Ok(())
        }
        fn clear_line(&self) -> io::Result<()> {
            self.note("<clear>");
            Ok(())
        }
        fn flush(&self) -> io::Result<()> {
            Ok(())
        }
    }

    fn lines() -> [Line; 5] {
        let line = |member: &str, phase: &str, elapsed| Line {
            member: member.into(),
            phase: phase.into(),
            elapsed: Some(Duration::from_secs(elapsed)),
            ..Line::default()
        };
        [
            Line {
                percent: Some(42),
                left: Some(Duration::from_secs(185)),
                more: Some("of 12.3 GiB".into()),
                ..line("acid-a-3", "base backup", 80)
            },
            Line {
                more: Some("FailedAttachVolume: Multi-Attach error for volume pvc-1".into()),
                ..line(
                    "acid-a-4",
                    "pod created, waiting: 0/3 nodes are available: 3 node(s) didn't match",
                    7,
                )
            },
            line("acid-a", "the StatefulSet still asks for 3: the operator has not acted yet", 5),
            line("acid-a-5", "no pod yet", 0),
            Line { settled: true, elapsed: None, ..line("acid-a-10", "in service as replica", 0) },
        ]
    }

    fn plain(lines: &[String]) -> String {
        anstream::adapter::strip_str(&lines.join("\n")).to_string()
    }

    #[test]
    fn lines_fit_80_columns() {
        let rendered = render(&lines(), 80);
        insta::assert_snapshot!(plain(&rendered), @"
        acid-a-3   base backup                80s  [======         ]   42 %  3m5s left
        acid-a-4   pod created, waitin...      7s  FailedAttachVolume: Multi-Attach e...
        acid-a     the StatefulSet still asks for 3: the operator has not act...      5s
        acid-a-5   no pod yet                  0s
        acid-a-10  in service as replica
        ");
        assert!(plain(&rendered).lines().all(|line| columns(line) <= 80));
        assert!(rendered[4].contains(&format!("{GOOD}in service as replica")), "{rendered:?}");
    }

    #[test]
    fn lines_use_160_columns() {
        insta::assert_snapshot!(plain(&render(&lines(), 160)), @"
        acid-a-3   base backup                                  80s  [===============                       ]   42 %  3m5s left  of 12.3 GiB
        acid-a-4   pod created, waiting: 0/3 nodes are a...      7s  FailedAttachVolume: Multi-Attach error for volume pvc-1
        acid-a     the StatefulSet still asks for 3: the operator has not acted yet      5s
        acid-a-5   no pod yet                                    0s
        acid-a-10  in service as replica
        ");
    }

    #[test]
    fn no_width_is_too_small_to_draw() {
        for width in 0..60 {
            for lines in [&lines()[..], &korean()] {
                let rendered = plain(&render(lines, width));
                assert!(rendered.lines().all(|line| columns(line) <= width), "{width}");
            }
        }
    }

    /// Reasons may be written in any language.
    fn korean() -> [Line; 2] {
        let line = |phase: &str, elapsed| Line {
            member: "acid-a-3".into(),
            phase: phase.into(),
            elapsed: Some(Duration::from_secs(elapsed)),
            ..Line::default()
        };
        [
            Line { percent: Some(42), ..line("기본 백업", 80) },
            Line {
                more: Some("볼륨을 아직 붙일 수 없음".into()),
                ..line("파드가 아직 예약되지 않아 기다리는 중", 7)
            },
        ]
    }

    #[test]
    fn korean_phase_aligns_the_next_columns() {
        insta::assert_snapshot!(plain(&render(&korean(), 80)), @"
        acid-a-3  기본 백업                  80s  [=======           ]   42 %
        acid-a-3  파드가 아직 예약되...       7s  볼륨을 아직 붙일 수 없음
        ");
    }

    #[test]
    fn notes_stand_above_the_lines_and_the_lines_disappear() {
        let screen = Screen::default();
        let output = Arc::new(screen.terminal(60));
        let live = output.live().unwrap();
        assert!(output.live().is_none(), "one foot is enough");
        live.show(&lines()[..2]);
        output.note("the leader changed");
        drop(live);
        output.note("done");
        insta::assert_snapshot!(anstream::adapter::strip_str(&screen.stderr()).to_string(), @"
        acid-a-3  base backup                80s   42 %  3m5s left
        acid-a-4  pod created, waitin...      7s  FailedAttachVo...
        <up 1><clear><down 1><clear><up 1>the leader changed
        acid-a-3  base backup                80s   42 %  3m5s left
        acid-a-4  pod created, waitin...      7s  FailedAttachVo...
        <up 1><clear><down 1><clear><up 1>done
        ");
    }

    #[test]
    fn no_live_lines_without_a_terminal() {
        assert!(Arc::new(Screen::default().output(None)).live().is_none());
    }
}
