//! An output that a test reads.

use super::*;

/// The text on both channels, in the order of its writes: each part with the name of its
/// channel.
type Stretches = Vec<(&'static str, Vec<u8>)>;

/// A screen that records the output, with a scripted person.
#[derive(Clone, Default)]
pub(crate) struct Screen {
    written: Arc<Mutex<Stretches>>,
    width: Option<usize>,
    window: Option<(usize, usize)>,
    coloured: bool,
}

#[derive(Clone)]
struct Part {
    name: &'static str,
    written: Arc<Mutex<Stretches>>,
}

impl Part {
    fn add(&self, bytes: &[u8]) {
        let mut written = self.written.lock().unwrap();
        match written.last_mut() {
            Some((name, stretch)) if *name == self.name => stretch.extend(bytes),
            Some(_) | None => written.push((self.name, bytes.to_vec())),
        }
    }
}

impl Write for Part {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.add(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Screen {
    /// Returns a screen of `width` columns, or without a width, with colours or without.
    pub(crate) fn of(width: Option<usize>, coloured: bool) -> Self {
        Self { width, coloured, ..Self::default() }
    }

    /// Returns a terminal with a window of so many columns and lines.
    pub(crate) fn window(columns: usize, lines: usize) -> Self {
        Self { width: Some(columns), window: Some((columns, lines)), ..Self::default() }
    }

    /// Returns the text on both channels in order, each part with its channel.
    pub(crate) fn transcript(&self) -> String {
        let written = self.written.lock().unwrap();
        let stretch =
            |(name, text): &(&str, Vec<u8>)| format!("[{name}]\n{}", String::from_utf8_lossy(text));
        written.iter().map(stretch).collect()
    }

    /// Returns an output to this screen. `person` types these lines. `None` means that there is
    /// no person.
    pub(crate) fn output(&self, person: Option<&str>) -> Output {
        self.output_for(person.map(|lines| {
            Box::new(io::Cursor::new(lines.to_owned().into_bytes())) as Box<dyn BufRead + Send>
        }))
    }

    /// Returns an output to this screen, with this person at the terminal.
    pub(crate) fn output_for(&self, person: Option<Box<dyn BufRead + Send>>) -> Output {
        let channel = |name| {
            let to = Box::new(self.part(name));
            Arc::new(Mutex::new(Channel { to, coloured: self.coloured }))
        };
        Output {
            stdout: channel("stdout"),
            stderr: channel("stderr"),
            width: self.width,
            width_of_notes: self.width,
            redraws: self.window.is_some(),
            window: self.window,
            person: person.map(|person| Arc::new(Mutex::new(person))),
            ..Output::to_writers(io::sink(), io::sink())
        }
    }

    /// Returns an output to this screen, on a terminal of `columns` columns that can draw.
    pub(crate) fn terminal(&self, columns: u16) -> Output {
        let stderr = self.part("stderr");
        let terminal = live::Terminal::recorded(columns, move |text| stderr.add(text.as_bytes()));
        Output { terminal: Some(terminal), ..self.output(None) }
    }

    fn part(&self, name: &'static str) -> Part {
        Part { name, written: Arc::clone(&self.written) }
    }

    /// Returns the text on stdout.
    pub(crate) fn stdout(&self) -> String {
        self.came_to("stdout")
    }

    /// Returns the text on stderr.
    pub(crate) fn stderr(&self) -> String {
        self.came_to("stderr")
    }

    fn came_to(&self, channel: &str) -> String {
        let written = self.written.lock().unwrap();
        let stretches = written.iter().filter(|(name, _)| *name == channel);
        let bytes = stretches.flat_map(|(_, text)| text).copied().collect();
        String::from_utf8(bytes).unwrap()
    }
}

struct Closed;

impl Write for Closed {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn lines_are_redrawn_only_on_a_capable_terminal_with_colours() {
    for (is_terminal, coloured, term, want) in [
        (true, true, Some("xterm"), true),
        (true, true, None, true),
        (true, true, Some("dumb"), false),
        // NO_COLOR, or --color=never.
        (true, false, Some("xterm"), false),
        // --color=always, piped.
        (false, true, Some("xterm"), false),
    ] {
        assert_eq!(can_draw(is_terminal, coloured, term.map(OsStr::new)), want, "{term:?}");
    }
}

#[test]
fn closed_stdout_is_no_error() {
    let mut output = Screen::default().output(None);
    output.stdout = Arc::new(Mutex::new(Channel { to: Box::new(Closed), coloured: false }));
    assert_eq!((output.data("rows"), output.reader_left()), (Ok(()), true));
}

#[test]
fn redraw_clears_the_terminal_first() {
    let screen = Screen::window(80, 24);
    screen.output(None).redraw("rows", "foot").unwrap();
    assert_eq!(screen.stdout(), "\u{1b}[H\u{1b}[Jrows\n\nfoot");
}

#[test]
fn redrawn_text_fits_the_window() {
    let text: Vec<String> =
        (0..30).map(|line| format!("{BAD}{line}{BAD:#} {}", "x".repeat(100))).collect();
    let text = text.join("\n");
    for columns in [1, 4, 20, 80] {
        for lines in 1..40 {
            let shown = within(&text, "foot", columns, lines);
            assert!(shown.lines().count() <= lines, "{columns} x {lines}: {shown}");
            let wide = shown.lines().find(|line| text::columns(line) > columns);
            assert_eq!(wide, None, "{columns} x {lines}");
        }
    }
    insta::assert_snapshot!(
        anstream::adapter::strip_str(&within(&text, "foot", 40, 8)).to_string(), @"
    0 xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx
    1 xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx
    2 xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx
    3 xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx
    ... 25 more lines, the window is too low
    29 xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx

    foot
    ");
}

#[test]
fn other_screen_is_left_at_the_end() {
    let screen = Screen::window(80, 24);
    let output = screen.output(None);
    drop(output.other_screen());
    assert_eq!(screen.stdout(), "\u{1b}[?1049h\u{1b}[?25l\u{1b}[?25h\u{1b}[?1049l");
}

#[test]
fn styles_are_removed_without_colours() {
    let screen = Screen::default();
    screen.output(None).warning("mind the gap");
    assert_eq!(screen.stderr(), "Warning: mind the gap\n");
}

#[tokio::test]
async fn missing_person_and_closed_terminal_give_no_answer() {
    for (person, want) in [(None, None), (Some(""), None), (Some("y\n"), Some("y"))] {
        let output = Arc::new(Screen::default().output(person));
        assert_eq!(output.ask("Continue? [y/N]").await.as_deref(), want, "{person:?}");
    }
}
