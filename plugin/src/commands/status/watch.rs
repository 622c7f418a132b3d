//! `status --watch`: `status` again and again, until interrupted.

use std::time::Duration;

use pgscale_guard::duration::exact;
use tokio::time::sleep;

use super::{Args, gather, show, text};
use crate::error::Failure;
use crate::session::Session;
use crate::status::{Digest, Status};
use crate::terminal::Format;
use crate::view::status::rows;

/// Looks again and again. The first look has to work. Later ones may fail for a while: an API
/// server restarts.
pub(super) async fn run(session: &Session, args: &Args) -> Result<(), Failure> {
    let people = matches!(args.shape.output, Format::Text | Format::Wide);
    let redraws = people && session.out.redraws && !args.timestamps;
    // It is left when the watch ends, an interruption included: then this value is dropped.
    let other = redraws.then(|| session.out.other_screen());
    session.interruption.means("interrupted; watching changes nothing");
    let mut known: Vec<Seen> = Vec::new();
    let mut first = true;
    let mut blind: Option<Failure> = None;
    let mut clusters = 1;
    loop {
        match Box::pin(gather(session, args)).await {
            Ok(all) => {
                blind = None;
                clusters = all.len();
                let now: Vec<Seen> = all.iter().map(Seen::of).collect();
                if redraws {
                    redraw(session, args, &all)?;
                } else if first || now != known {
                    report(session, args, &all, first, &known)?;
                }
                if session.out.reader_left() {
                    return Ok(());
                }
                known = now;
                first = false;
            }
            Err(failure) if first => {
                drop(other);
                return Err(failure);
            }
            Err(failure) => {
                if blind.as_ref() != Some(&failure) {
                    session.out.warning(&failure.text());
                }
                blind = Some(failure);
            }
        }
        sleep(pause(session.pace.poll, clusters)).await;
    }
}

/// One cluster as it was shown, without the parts that change at every look.
#[derive(Clone, Debug, PartialEq)]
struct Seen {
    cluster: String,
    digest: Digest,
}

impl Seen {
    fn of(status: &Status) -> Self {
        Self { cluster: status.snapshot.facts.change.cluster(), digest: status.digest() }
    }
}

/// Returns the pause between two looks. One cluster costs about 20 requests: every 2 s that is 10 a
/// second. In a list each costs about 15, and half a second of pause: at most 30 a second, however
/// many there are. client-go's own limit is 50.
fn pause(poll: Duration, clusters: usize) -> Duration {
    let halves = u32::try_from(clusters).unwrap_or(u32::MAX).max(4);
    poll.saturating_mul(halves) / 2
}

fn redraw(session: &Session, args: &Args, all: &[Status]) -> Result<(), Failure> {
    let every = exact(pause(session.pace.poll, all.len()));
    let now =
        all.first().map_or(String::new(), |status| format!("{:.0}, ", status.snapshot.facts.now));
    let width = session.out.window().map(|(columns, _)| columns).or(session.out.width);
    session.out.redraw(&text(args, all, width), &format!("Ctrl-C ends; {now}every {every}"))
}

/// Prints the changes: the changed lines of a list, or the whole text of one cluster.
fn report(
    session: &Session,
    args: &Args,
    all: &[Status],
    first: bool,
    known: &[Seen],
) -> Result<(), Failure> {
    match args.shape.output {
        Format::Yaml if !first => session.out.data("---")?,
        format @ (Format::Text | Format::Wide) if !first && args.name.is_none() => {
            // One line for each, however wide the reader is.
            let table = rows(all, args.all_namespaces, format == Format::Wide, None);
            let changed = table
                .iter()
                .skip(1)
                .zip(all)
                .filter(|(_, status)| !known.contains(&Seen::of(status)))
                .map(|(row, _)| row.as_str());
            let gone = known.iter().filter(|seen| {
                all.iter().all(|status| status.snapshot.facts.change.cluster() != seen.cluster)
            });
            for seen in gone {
                session.out.note(&format!("postgresql {} is gone", seen.cluster));
            }
            let time = time(args, all).map(|time| format!("{time}  ")).unwrap_or_default();
            let changed: Vec<String> = changed.map(|row| format!("{time}{row}")).collect();
            return if changed.is_empty() { Ok(()) } else { session.out.data(&changed.join("\n")) };
        }
        Format::Text | Format::Wide if !first => session.out.data("")?,
        Format::Json | Format::Name | Format::Text | Format::Wide | Format::Yaml => {}
    }
    if let Some(time) = time(args, all) {
        session.out.data(&time)?;
    }
    show(session, args, all, &[])
}

/// Returns the time of a look in seconds, where people want it before each change. Documents carry
/// it anyway.
fn time(args: &Args, all: &[Status]) -> Option<String> {
    let people = matches!(args.shape.output, Format::Text | Format::Wide);
    let now = all.first()?.snapshot.facts.now;
    (args.timestamps && people).then(|| format!("{now:.0}"))
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;
    use crate::terminal::testing::Screen;
    use crate::testing::{World, give, run};

    #[test]
    fn more_clusters_are_looked_at_less_often() {
        let seconds = |clusters| pause(Duration::from_secs(1), clusters).as_secs_f64();
        for (clusters, want) in [(0, 2.0), (1, 2.0), (4, 2.0), (5, 2.5), (100, 50.0)] {
            assert!((seconds(clusters) - want).abs() < f64::EPSILON, "{clusters}");
        }
    }

    /// Waits until the screen shows `text`.
    async fn shown(screen: &Screen, text: &str) {
        let shown = async {
            while !screen.stdout().contains(text) {
                sleep(Duration::from_millis(5)).await;
            }
        };
        let patience = Duration::from_secs(60);
        let ended = timeout(patience, shown).await;
        ended.unwrap_or_else(|_| panic!("no {text:?} in {}", screen.stdout()));
    }

    /// Returns the output of a watch while the lead goes to member 1 in between. `leader` is the
    /// text before the leader's name.
    async fn watched(line: &str, leader: &str) -> String {
        let world = World::new(3, 0);
        let screen = Screen::default();
        let session = world.session(&screen, None);
        let driver = async {
            shown(&screen, &format!("{leader}acid-a-0")).await;
            world.lead(1);
            shown(&screen, &format!("{leader}acid-a-1")).await;
            // More looks, while nothing changes.
            sleep(Duration::from_millis(100)).await;
        };
        tokio::select! {
            ended = give(&session, line) => panic!("{ended:?}"),
            () = driver => screen.stdout(),
        }
    }

    /// Returns the changes. The look during which the lead went over may see something of both, so
    /// two lines or three are right, and never one per look.
    fn changes<'a>(words: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
        let mut words: Vec<&str> = words.collect();
        assert!((2..=3).contains(&words.len()), "{words:?}");
        words.dedup();
        words
    }

    #[tokio::test]
    async fn only_changes_are_printed() {
        let one = watched("status acid-a -w", "Leader:    ").await;
        let leaders = one.lines().filter_map(|line| line.strip_prefix("  Leader:    ")?.get(..8));
        assert_eq!(changes(leaders), ["acid-a-0", "acid-a-1"], "{one}");

        let list = watched("status -w", " ").await;
        let leaders = list.lines().skip(1).filter_map(|line| line.split_whitespace().nth(2));
        assert_eq!(changes(leaders), ["acid-a-0", "acid-a-1"], "{list}");

        let paths = watched("status acid-a -w -o jsonpath={.leader}", "").await;
        assert_eq!(changes(paths.lines()), ["acid-a-0", "acid-a-1"]);
        let yaml = watched("status acid-a -w -o yaml", "leader: ").await;
        assert!((1..=2).contains(&yaml.matches("\n---\n").count()), "{yaml}");
    }

    #[tokio::test]
    async fn changes_carry_their_time_where_that_is_wanted() {
        let list = watched("status -w --timestamps", " ").await;
        let changed = list.lines().skip(1).filter(|line| line.starts_with('2'));
        assert!(changed.filter(|line| line.contains("Z  acid-a ")).count() >= 1, "{list}");
        let one = watched("status acid-a -w --timestamps", "Leader:    ").await;
        let times = one.lines().filter(|line| line.ends_with('Z') && line.starts_with("20"));
        assert!((2..=3).contains(&times.count()), "{one}");
    }

    #[tokio::test]
    async fn watch_keeps_to_the_window_and_leaves_the_terminal_as_it_was() {
        let world = World::new(3, 0);
        for (columns, lines) in [(80, 24), (40, 8), (160, 50)] {
            let screen = Screen::window(columns, lines);
            let session = world.session(&screen, None);
            let two_looks = async {
                while screen.stdout().matches("\u{1b}[J").count() < 3 {
                    sleep(Duration::from_millis(5)).await;
                }
            };
            tokio::select! {
                ended = give(&session, "status acid-a -w") => panic!("{ended:?}"),
                ended = timeout(Duration::from_secs(60), two_looks) => ended.unwrap(),
            }
            let shown = screen.stdout();
            assert!(shown.starts_with("\u{1b}[?1049h"), "{shown:?}");
            assert!(shown.ends_with("\u{1b}[?1049l"), "{shown:?}");
            let look = shown.split("\u{1b}[J").nth(2).unwrap();
            let plain = anstream::adapter::strip_str(look).to_string();
            assert!(plain.lines().count() <= lines, "{columns} x {lines}: {plain}");
            let wide = plain.lines().find(|line| crate::terminal::text::columns(line) > columns);
            assert_eq!(wide, None, "{columns} x {lines}: {plain}");
            assert!(plain.starts_with("HEALTHY"), "{plain}");
            assert!(plain.contains("Ctrl-C ends"), "{plain}");
        }
    }

    #[tokio::test]
    async fn a_first_look_that_fails_ends_the_watch() {
        let (_, code, why) = run(&World::new(3, 0), "status acid-x -w", None).await;
        assert_eq!(code, 1, "{why}");
    }
}
