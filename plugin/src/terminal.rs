//! The only place that prints: data on stdout, everything else on stderr.
//!
//! Text is rendered with styles in it, and they are removed here where the channel has no colours.
//! A reader of stdout that closes it is no error, and no failure of stderr may end a change
//! half-way.

use std::ffi::OsStr;
use std::io::{self, BufRead, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use anstyle::{AnsiColor, Style};
use pgscale_guard::remedy::{Line, Remedy};
use serde::Serialize;

use crate::error::{Failure, Kind};

pub(crate) mod expression;
pub(crate) mod live;
pub(crate) mod text;

use expression::Expression;
use text::{laid_out, wrap};

/// Headings.
pub(crate) const BOLD: Style = Style::new().bold();
/// Text about a good state.
pub(crate) const GOOD: Style = AnsiColor::Green.on_default();
/// Text that deserves a look.
pub(crate) const CARE: Style = AnsiColor::Yellow.on_default();
/// Text about a broken or refused thing.
pub(crate) const BAD: Style = AnsiColor::Red.on_default();

/// The use of colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Color {
    /// Colour on a terminal.
    #[default]
    Auto,
    /// Colour, whatever the output is.
    Always,
    /// No colour.
    Never,
}

/// The format of the output on stdout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Text,
    /// For people, with more columns.
    Wide,
    /// A versioned JSON object.
    Json,
    /// The same as YAML.
    Yaml,
    /// Only the name, such as `postgresql.acid.zalan.do/NAME`.
    Name,
}

/// The indentation of a continued line.
const HANG: usize = 2;

/// Stdout, stderr and the person in front of them.
pub(crate) struct Output {
    stdout: Arc<Mutex<Channel>>,
    stderr: Arc<Mutex<Channel>>,
    /// The beginning of every line to stderr: the name of its cluster, where a command works on
    /// several.
    prefix: String,
    /// Columns of the terminal. `None` where stdout is no terminal, and lines are not wrapped.
    pub(crate) width: Option<usize>,
    /// Columns of stderr's terminal.
    pub(crate) width_of_notes: Option<usize>,
    /// The terminal for live lines. `None` where stderr is no terminal, or a dumb one.
    terminal: Option<live::Terminal>,
    /// The live lines at the foot of the terminal now. All other output goes above them.
    foot: Mutex<Option<indicatif::ProgressBar>>,
    /// Stdout is a terminal whose content can be redrawn.
    pub(crate) redraws: bool,
    /// Columns and lines of the window, for tests. Otherwise the system says them at each look: a
    /// person may change the window.
    window: Option<(usize, usize)>,
    /// The source of answers. `None` without a terminal to ask on.
    person: Option<Arc<Mutex<Box<dyn BufRead + Send>>>>,
    /// The parts of documents to print, where not all is wanted.
    expression: OnceLock<Expression>,
    /// The reader of stdout has closed it.
    reader_left: AtomicBool,
    /// `--yes` was named already.
    consent_noted: AtomicBool,
}

struct Channel {
    to: Box<dyn Write + Send>,
    coloured: bool,
}

impl Output {
    /// Returns the process's own channels.
    pub(crate) fn of_process(color: Color) -> Self {
        let (stdout, stderr) = (io::stdout(), io::stderr());
        let by_terminal = |terminal: bool| match color {
            _ if std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty()) => false,
            Color::Always => true,
            Color::Never => false,
            Color::Auto => terminal && std::env::var_os("TERM").is_none_or(|term| term != "dumb"),
        };
        let asks = io::stdin().is_terminal() && stderr.is_terminal();
        let width = stdout
            .is_terminal()
            .then(terminal_size::terminal_size)
            .flatten()
            .map(|(terminal_size::Width(columns), _)| usize::from(columns));
        let width_of_notes = stderr
            .is_terminal()
            .then(|| terminal_size::terminal_size_of(&stderr))
            .flatten()
            .map(|(terminal_size::Width(columns), _)| usize::from(columns));
        let coloured = by_terminal(stderr.is_terminal());
        let draws = can_draw(stderr.is_terminal(), coloured, std::env::var_os("TERM").as_deref());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self {
            width,
            width_of_notes,
            terminal: draws.then(live::Terminal::of_stderr).flatten(),
            foot: Mutex::new(None),
            redraws: stdout.is_terminal() && !dumb,
            window: None,
            person: asks.then(|| {
                let stdin: Box<dyn BufRead + Send> = Box::new(io::BufReader::new(io::stdin()));
                Arc::new(Mutex::new(stdin))
            }),
            stdout: Arc::new(Mutex::new(Channel {
                coloured: by_terminal(stdout.is_terminal()),
                to: Box::new(stdout),
            })),
            stderr: Arc::new(Mutex::new(Channel { coloured, to: Box::new(stderr) })),
            prefix: String::new(),
            expression: OnceLock::new(),
            reader_left: AtomicBool::new(false),
            consent_noted: AtomicBool::new(false),
        }
    }

    /// Returns an output to these writers, without colours, widths and a person.
    pub(crate) fn to_writers(
        stdout: impl Write + Send + 'static,
        stderr: impl Write + Send + 'static,
    ) -> Self {
        let channel =
            |to: Box<dyn Write + Send>| Arc::new(Mutex::new(Channel { to, coloured: false }));
        Self {
            stdout: channel(Box::new(stdout)),
            stderr: channel(Box::new(stderr)),
            prefix: String::new(),
            width: None,
            width_of_notes: None,
            terminal: None,
            foot: Mutex::new(None),
            redraws: false,
            window: None,
            person: None,
            expression: OnceLock::new(),
            reader_left: AtomicBool::new(false),
            consent_noted: AtomicBool::new(false),
        }
    }

    /// Returns the same channels, with a word before every line to stderr. Live lines are for one
    /// cluster, so none are drawn.
    pub(crate) fn about(&self, whom: &str) -> Self {
        Self {
            stdout: Arc::clone(&self.stdout),
            stderr: Arc::clone(&self.stderr),
            prefix: format!("{whom}: "),
            width: self.width,
            width_of_notes: self.width_of_notes,
            terminal: None,
            foot: Mutex::new(None),
            redraws: false,
            window: None,
            person: self.person.clone(),
            expression: OnceLock::new(),
            reader_left: AtomicBool::new(false),
            consent_noted: AtomicBool::new(false),
        }
    }

    /// Writes a result to stdout. A closed stdout is no error.
    pub(crate) fn data(&self, text: &str) -> Result<(), Failure> {
        self.written(self.above(|| write(&self.stdout, text)))
    }

    /// Returns whether the reader of stdout has closed it: an endless output may end.
    pub(crate) fn reader_left(&self) -> bool {
        self.reader_left.load(Ordering::Relaxed)
    }

    /// Returns the columns and the lines of the window now. `None` where stdout is no terminal.
    pub(crate) fn window(&self) -> Option<(usize, usize)> {
        let now = || {
            let (columns, lines) = terminal_size::terminal_size_of(io::stdout())?;
            Some((usize::from(columns.0), usize::from(lines.0)))
        };
        self.window.or_else(now)
    }

    /// Goes to the other screen of the terminal until the value is dropped: the lines above stay as
    /// they are.
    pub(crate) fn other_screen(&self) -> OtherScreen<'_> {
        // The other screen, and no cursor on it (xterm's control sequences 1049 and 25).
        self.control("\x1b[?1049h\x1b[?25l").ok();
        OtherScreen(self)
    }

    /// Clears the terminal, and writes to it as much as the window holds, with `foot` as the last
    /// line. No line is broken by the terminal, so that the lines can be counted.
    pub(crate) fn redraw(&self, text: &str, foot: &str) -> Result<(), Failure> {
        let shown = match self.window() {
            Some((columns, lines)) => within(text, foot, columns, lines),
            None => format!("{text}\n\n{foot}"),
        };
        // Cursor home, erase everything below.
        self.control("\x1b[H\x1b[J")?;
        let mut channel = self.stdout.lock().unwrap_or_else(PoisonError::into_inner);
        let shown =
            if channel.coloured { shown } else { anstream::adapter::strip_str(&shown).to_string() };
        // Without an end of line, which would move a full window up by one.
        let written = write!(channel.to, "{shown}").and_then(|()| channel.to.flush());
        drop(channel);
        self.written(written)
    }

    /// Writes a control sequence to stdout. It is no style, so it is written with and without
    /// colours.
    fn control(&self, sequence: &str) -> Result<(), Failure> {
        let mut channel = self.stdout.lock().unwrap_or_else(PoisonError::into_inner);
        let written = write!(channel.to, "{sequence}").and_then(|()| channel.to.flush());
        drop(channel);
        self.written(written)
    }

    /// Returns the failure of a write to stdout. A closed stdout is no error.
    fn written(&self, written: io::Result<()>) -> Result<(), Failure> {
        match written {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.reader_left.store(true, Ordering::Relaxed);
                Ok(())
            }
            Err(error) => Err(Failure::error(format!("failed to write to stdout: {error}"))),
            Ok(()) => Ok(()),
        }
    }

    /// Restricts all further documents to the parts that `expression` selects.
    pub(crate) fn print_by(&self, expression: Option<Expression>) {
        if let Some(expression) = expression {
            self.expression.get_or_init(|| expression);
        }
    }

    /// Writes an object to stdout in a format for machines, or its parts that the expression
    /// selects.
    pub(crate) fn document(&self, format: Format, object: &impl Serialize) -> Result<(), Failure> {
        if let Some(expression) = self.expression.get() {
            let text = serde_json::to_value(object)
                .map_err(|error| error.to_string())
                .and_then(|value| expression.render(&value))
                .map_err(|why| {
                    Failure::error(format!("failed to print by the expression: {why}"))
                })?;
            return self.data(&text);
        }
        let text = match format {
            Format::Yaml => serde_saphyr::to_string(object)
                .map_err(|error| Failure::error(format!("failed to write YAML: {error}")))?,
            Format::Json | Format::Name | Format::Text | Format::Wide => {
                serde_json::to_string_pretty(object)
                    .map_err(|error| Failure::error(format!("failed to write JSON: {error}")))?
            }
        };
        self.data(&text)
    }

    /// Writes one object of several to stdout, as a line of JSON, or its parts that the expression
    /// selects.
    pub(crate) fn json_line(&self, object: &impl Serialize) -> Result<(), Failure> {
        if self.expression.get().is_some() {
            return self.document(Format::Json, object);
        }
        let text = serde_json::to_string(object)
            .map_err(|error| Failure::error(format!("failed to write JSON: {error}")))?;
        self.data(&text)
    }

    /// Writes a result in words to stdout.
    pub(crate) fn said(&self, text: &str) -> Result<(), Failure> {
        self.data(&wrap(text, self.width, HANG))
    }

    /// Writes a result to stdout, line by line.
    pub(crate) fn said_in_lines(&self, lines: &[Line]) -> Result<(), Failure> {
        self.data(&laid_out(lines, self.width, HANG))
    }

    /// Writes a line for the person to stderr.
    pub(crate) fn note(&self, text: &str) {
        self.note_in_lines(text.lines().map(|line| Line::Text(line.to_owned())));
    }

    /// Writes a message for the person, line by line.
    fn note_in_lines(&self, lines: impl IntoIterator<Item = Line>) {
        let prefixed = |line: &str| format!("{}{line}", self.prefix);
        let lines: Vec<Line> = lines
            .into_iter()
            .map(|line| match line {
                Line::Text(text) => Line::Text(prefixed(&text)),
                Line::Command(command) => Line::Command(prefixed(&command)),
            })
            .collect();
        self.page(&laid_out(&lines, self.width_of_notes, HANG));
    }

    /// Writes the next thing to do for the person, behind `title`.
    pub(crate) fn advice(&self, title: &str, remedy: &Remedy) {
        self.note_in_lines(remedy.behind(title));
        self.note_consent([remedy]);
    }

    /// Writes text with a finished layout to stderr.
    pub(crate) fn page(&self, text: &str) {
        // A failure to write ends nothing: the work continues.
        self.above(|| write(&self.stderr, text)).ok();
    }

    /// Prints above the live lines, where there are any.
    fn above<T>(&self, print: impl FnOnce() -> T) -> T {
        match &*self.foot.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(foot) => foot.suspend(print),
            None => print(),
        }
    }

    /// Warns the person.
    pub(crate) fn warning(&self, text: &str) {
        self.note(&format!("{CARE}Warning:{CARE:#} {text}"));
    }

    /// Reports the reason for which the program ends.
    pub(crate) fn failure(&self, failure: &Failure) {
        let message = if failure.kind == Kind::Interrupted {
            failure.message.clone()
        } else {
            format!("{BAD}error:{BAD:#} {}", failure.message)
        };
        let message = message.lines().map(|line| Line::Text(line.to_owned()));
        let hints = failure.hint_lines(&format!("{CARE}hint:{CARE:#}"));
        self.note_in_lines(message.chain(failure.details.iter().cloned()).chain(hints));
        self.note_consent(failure.hints.iter());
        if let Some(outcome) = &failure.closing {
            self.note(&format!("{BAD}{outcome}{BAD:#}"));
        }
    }

    /// Names `--yes`, where there is no terminal and a command of `remedies` would ask.
    pub(crate) fn note_consent<'a>(&self, remedies: impl IntoIterator<Item = &'a Remedy>) {
        if !self.is_interactive()
            && remedies.into_iter().any(asks)
            && !self.consent_noted.swap(true, Ordering::Relaxed)
        {
            self.note("note: there is no terminal to ask on: add --yes to a command that changes the count");
        }
    }

    /// Returns whether there is a person to ask.
    pub(crate) fn is_interactive(&self) -> bool {
        self.person.is_some()
    }

    /// Asks the person. `None` where there is no person or no answer.
    ///
    /// The program keeps running meanwhile, because an interruption must end it.
    pub(crate) async fn ask(self: &Arc<Self>, question: &str) -> Option<String> {
        let (output, question) = (Arc::clone(self), question.to_owned());
        tokio::task::spawn_blocking(move || output.read_answer(&question)).await.ok().flatten()
    }

    /// Returns whether the person agrees to `question`. `None` where there is no person to ask.
    pub(crate) async fn agrees(self: &Arc<Self>, question: &str) -> Option<bool> {
        if !self.is_interactive() {
            return None;
        }
        let answer = self.ask(&format!("{question} [y/N]")).await;
        let answer = answer.map(|answer| answer.to_ascii_lowercase());
        Some(matches!(answer.as_deref(), Some("y" | "yes")))
    }

    fn read_answer(&self, question: &str) -> Option<String> {
        let mut person = self.person.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner);
        {
            // Not held during the wait for an answer: other tasks write too.
            let mut channel = self.stderr.lock().unwrap_or_else(PoisonError::into_inner);
            write!(channel.to, "{question} ").and_then(|()| channel.to.flush()).ok()?;
        }
        let mut line = String::new();
        match person.read_line(&mut line) {
            Ok(0) | Err(_) => None,
            Ok(_) => Some(line.trim().to_owned()),
        }
    }
}

/// The other screen of the terminal, until it is dropped.
pub(crate) struct OtherScreen<'a>(&'a Output);

impl Drop for OtherScreen<'_> {
    fn drop(&mut self) {
        self.0.control("\x1b[?25h\x1b[?1049l").ok();
    }
}

/// Returns as much of `text` as a window holds, with `foot` as the last line. Lines that do not fit
/// are cut. The number of lines that are left out is said.
fn within(text: &str, foot: &str, columns: usize, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    // An empty line stands before the foot.
    let room = lines.saturating_sub(2).max(1);
    let mut shown: Vec<String> = if all.len() <= room {
        all.iter().map(|line| (*line).to_owned()).collect()
    } else {
        // The first lines and the very last one say most.
        let first = room.saturating_sub(2);
        let left_out = all.len() - first - 1;
        let kept = all.iter().take(first).map(|line| (*line).to_owned());
        let note = format!("... {left_out} more lines, the window is too low");
        kept.chain([note]).chain(all.last().map(|line| (*line).to_owned())).collect()
    };
    if lines > 2 {
        shown.push(String::new());
    }
    shown.push(foot.to_owned());
    shown.truncate(lines.max(1));
    let cut = |line: &String| text::cut_styled(line, columns);
    shown.iter().map(cut).collect::<Vec<_>>().join("\n")
}

/// Returns whether a command of `remedy` asks a person before it acts.
fn asks(remedy: &Remedy) -> bool {
    remedy.commands.iter().any(|suggested| {
        let argv: Vec<&str> = suggested.command.argv.iter().map(String::as_str).collect();
        matches!(
            argv.as_slice(),
            ["kubectl", "pgscale", "down" | "override" | "set" | "undo", more @ ..]
                if !more.contains(&"--yes")
        )
    })
}

/// Returns whether lines may be redrawn on stderr: `--color=always` is for pipes too, and a dumb
/// terminal cannot move its cursor.
fn can_draw(is_terminal: bool, coloured: bool, term: Option<&OsStr>) -> bool {
    is_terminal && coloured && term.is_none_or(|term| term != "dumb")
}

fn write(channel: &Mutex<Channel>, text: &str) -> io::Result<()> {
    let mut channel = channel.lock().unwrap_or_else(PoisonError::into_inner);
    let text = if channel.coloured {
        text.to_owned()
    } else {
        anstream::adapter::strip_str(text).to_string()
    };
    writeln!(channel.to, "{}", text.trim_end_matches('\n'))?;
    channel.to.flush()
}

#[cfg(test)]
pub(crate) mod testing;
