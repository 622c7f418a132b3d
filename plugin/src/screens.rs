//! Every command as a person meets it: at 80 and at 160 columns, with colours and without, and
//! behind a pipe.
//!
//! A case is run once for each of these, in a new world every time. The clock of the world stands
//! still unless a program waits, so that times and spans are data like everything else. Live lines
//! are not drawn here. Tests in `terminal/live.rs` show their look, and that they are left out
//! where no person could see them.

use std::cell::Cell;
use std::collections::BTreeSet;

use anstyle::Style;
use clap::CommandFactory as _;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use crate::cli::Cli;
use crate::session::Pace;
use crate::terminal::testing::Screen;
use crate::terminal::text::columns;
use crate::testing::{World, give, now};

mod acting;
mod cases;
mod following;
mod looking;
mod planning;
mod policies;
mod reading;
mod switching;
mod verifying;

use cases::CASES;

/// One command, and the world that it runs in.
struct Case {
    name: &'static str,
    world: fn() -> World,
    /// Commands that were run there before.
    before: &'static [&'static str],
    line: &'static str,
    /// The exit code.
    code: u8,
    /// The words that stand out, each with its style.
    styled: &'static [(Style, &'static str)],
    /// The beginnings of lines that are wider than 80 columns: rows of tables, which are not
    /// broken.
    wide: &'static [&'static str],
}

/// The number of columns that is enough for these.
const NARROW: usize = 80;
const BROAD: usize = 160;

thread_local! {
    /// The time at which the world of this thread began.
    static BEGAN: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Returns the time in the world of this thread: that of the pure tests, and the waits since.
fn clock() -> Timestamp {
    let waited = BEGAN.get().map_or_else(Default::default, |began| began.elapsed());
    now() + SignedDuration::try_from(waited).unwrap()
}

fn case(name: &str) -> &'static Case {
    CASES.iter().find(|case| case.name == name).expect(name)
}

/// Runs a case, and returns the text that a person sees, with the exit code.
async fn shown(case: &Case, width: Option<usize>, coloured: bool) -> String {
    BEGAN.set(Some(Instant::now()));
    let world = (case.world)().timed_by(clock);
    for line in case.before {
        assert_eq!(run_on(&Screen::default(), &world, line).await, 0, "{line}");
    }
    let screen = Screen::of(width, coloured);
    let code = run_on(&screen, &world, case.line).await;
    assert_eq!(code, case.code, "{}: {}", case.name, screen.transcript());
    format!("{}[exit {code}]", screen.transcript())
}

/// Runs a command line as the program does, and prints the reason of a failure.
async fn run_on(screen: &Screen, world: &World, line: &str) -> u8 {
    let mut session = world.session(screen, None);
    session.pace = Pace::default();
    session.chance = || 7;
    match give(&session, line).await {
        Ok(()) => 0,
        Err(failure) => {
            session.out.failure(&failure);
            failure.kind.code()
        }
    }
}

/// Returns the text of a case on a terminal of so many columns without colours.
async fn on(name: &str, width: usize) -> String {
    shown(case(name), Some(width), false).await
}

/// Returns the words of a text, without their order, because a cell of a table goes on below.
fn words(text: &str) -> Vec<&str> {
    let mut words: Vec<&str> = text.split_whitespace().collect();
    words.sort_unstable();
    words
}

#[test]
fn every_verb_has_a_screen() {
    let verbs = Cli::command();
    let verbs: BTreeSet<&str> = verbs.get_subcommands().map(clap::Command::get_name).collect();
    let seen = CASES.iter().filter_map(|case| case.line.split(' ').next()).collect();
    assert_eq!(verbs, seen);
}

#[tokio::test(start_paused = true)]
async fn a_coloured_terminal_adds_only_colours() {
    for case in CASES {
        let plain = shown(case, Some(NARROW), false).await;
        let coloured = shown(case, Some(NARROW), true).await;
        assert_eq!(anstream::adapter::strip_str(&coloured).to_string(), plain, "{}", case.name);
        for (style, text) in case.styled {
            let want = format!("{style}{text}{style:#}");
            assert!(coloured.contains(&want), "{}: {text}: {coloured:?}", case.name);
        }
        let codes = coloured.contains('\u{1b}');
        assert_eq!(codes, !case.styled.is_empty(), "{}: {coloured:?}", case.name);
    }
}

#[tokio::test(start_paused = true)]
async fn a_pipe_gets_the_same_words_in_unbroken_lines() {
    for case in CASES {
        let piped = shown(case, None, false).await;
        let terminal = shown(case, Some(NARROW), false).await;
        assert!(!piped.contains(['\u{1b}', '\r']), "{}: {piped:?}", case.name);
        if LISTS.contains(&case.name) {
            // Columns that a narrow terminal has no room for.
            let all = words(&piped);
            assert!(words(&terminal).iter().all(|word| all.contains(word)), "{}", case.name);
        } else {
            assert_eq!(words(&piped), words(&terminal), "{}", case.name);
        }
        assert!(piped.lines().count() <= terminal.lines().count(), "{}", case.name);
    }
}

/// Lists, which leave out columns on a narrow terminal.
const LISTS: [&str; 3] = ["status -A", "status -A, something is wrong", "status, several"];

/// Pages in which a command is named within a sentence, and a script.
const PROSE: [&str; 3] = ["rules", "rules ID", "completion"];

#[tokio::test(start_paused = true)]
async fn command_stands_alone_on_its_line() {
    for case in CASES.iter().filter(|case| !PROSE.contains(&case.name)) {
        for width in [NARROW, BROAD] {
            let shown = shown(case, Some(width), false).await;
            for line in shown.lines().filter(|line| line.contains("kubectl pgscale ")) {
                let alone = line.trim_start().starts_with("kubectl pgscale ");
                assert!(alone, "{} at {width}: {line}", case.name);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn only_unbreakable_lines_are_wider_than_the_terminal() {
    let mut wrong = Vec::new();
    for case in CASES {
        for width in [NARROW, BROAD] {
            let shown = shown(case, Some(width), false).await;
            let wide: Vec<&str> = shown.lines().filter(|line| columns(line) > width).collect();
            let listed =
                |line: &str| case.wide.iter().any(|start| line.trim_start().starts_with(start));
            for line in wide.iter().filter(|line| words(line).len() > 1 && !listed(line)) {
                wrong.push(format!("{} at {width}: {line}", case.name));
            }
            if width == NARROW {
                for start in case.wide {
                    let met = wide.iter().any(|line| line.trim_start().starts_with(start));
                    assert!(met, "{}: no line is wider that begins with {start:?}", case.name);
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
