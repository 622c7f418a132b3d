//! The question before one cluster changes, and the effect of the answer.

use std::io::{self, Read};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use tokio::time::{sleep, timeout};

use crate::terminal::testing::Screen;
use crate::testing::{Mishap, World, give, run};

#[tokio::test]
async fn a_shrink_asks_and_no_answer_is_no() {
    for (person, want) in [
        (Some("y\n"), 0),
        (Some("YES\n"), 0),
        (Some("n\n"), 7),
        (Some("\n"), 7),
        (Some(""), 7),
        (None, 7),
    ] {
        let world = World::new(3, 0);
        let (screen, code, why) = run(&world, "down acid-a --to 2", person).await;
        assert_eq!(code, want, "{person:?}: {why}");
        assert_eq!(world.writes().is_empty(), want == 7, "{person:?}");
        assert!(screen.stderr().contains("3 -> 2 instances"), "the plan was not shown");
    }
}

#[tokio::test]
async fn growth_that_could_not_be_judged_asks() {
    for (flags, person, want) in [
        ("", None, 7),
        ("", Some("n\n"), 7),
        ("", Some("y\n"), 0),
        ("--yes", None, 0),
        ("--dry-run=client", None, 0),
    ] {
        for verb in ["up acid-a --to 4", "set acid-a 4"] {
            let world = World::new(3, 0).hiding(&["persistentvolumeclaims"]);
            let line = format!("{verb} --wait=false {flags}");
            let (screen, code, why) = run(&world, &line, person).await;
            assert_eq!(code, want, "{line} {person:?}: {why}");
            let written = want == 0 && !flags.contains("dry-run");
            assert_eq!(world.writes().len(), usize::from(written), "{line} {person:?}");
            let question = "Set numberOfInstances to 4, although stale-volume, foreign-volume, volume-resizing could not be judged? [y/N]";
            assert_eq!(screen.stderr().contains(question), person.is_some(), "{}", screen.stderr());
            if person.is_none() && want == 7 {
                insta::allow_duplicates! {
                    insta::assert_snapshot!(why, @"
                    error: stale-volume, foreign-volume, volume-resizing could not be judged, and there is no terminal to ask on; nothing was changed
                    hint: add --yes
                    ");
                }
                let (_, code, why) = run(&world, &format!("{line} -o json"), None).await;
                assert_eq!(code, 7);
                assert!(
                    why.contains("\n  stale-volume: cannot be judged: the volume claims"),
                    "{why}"
                );
            }
        }
    }
}

#[tokio::test]
async fn growth_that_could_be_judged_and_cannot_after_another_write_is_not_carried_out() {
    for (flags, want) in [("", 3), ("--yes", 0)] {
        let world = World::new(3, 0).with(Mishap::ConflictAndHiddenClaims);
        let line = format!("up acid-a --wait=false {flags}");
        let (_, code, why) = run(&world, &line, None).await;
        assert_eq!(code, want, "{flags}: {why}");
        assert_eq!(world.declared(), if want == 0 { 4 } else { 3 }, "{flags}");
        let refused =
            why.contains("volume-resizing could be judged then, and not now; nothing was");
        assert_eq!(refused, want == 3, "{why}");
    }
}

/// A person at the terminal who says nothing.
struct Silent(mpsc::Receiver<()>);

impl Read for Silent {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        // Longer than the test waits, so that a program that sleeps here as well fails.
        self.0.recv_timeout(Duration::from_secs(20)).ok();
        Ok(0)
    }
}

#[tokio::test]
async fn an_interruption_at_the_question_ends_it() {
    let (world, screen) = (World::new(3, 0), Screen::default());
    let mut session = world.session(&screen, None);
    let (person, silence) = mpsc::channel();
    let terminal = io::BufReader::new(Silent(silence));
    session.out = Arc::new(screen.output_for(Some(Box::new(terminal))));
    let asked = async || {
        while !screen.stderr().contains("[y/N]") {
            sleep(Duration::from_millis(5)).await;
        }
    };
    let work = Box::pin(give(&session, "down acid-a"));
    let ended = crate::unless(asked, work, &session.interruption);
    let failure = timeout(Duration::from_secs(10), ended).await.unwrap().unwrap_err();
    session.out.failure(&failure);
    drop(person);
    assert_eq!((failure.kind.code(), world.writes().len()), (130, 0));
    assert!(screen.stderr().ends_with("interrupted; nothing was changed\n"), "{}", screen.stderr());
}

#[tokio::test]
async fn growth_that_was_asked_about_is_judged_again_after_the_answer() {
    let world = World::new(3, 0).hiding(&["persistentvolumeclaims"]).with(Mishap::BoundedAtPrompt);
    let (_, code, why) = run(&world, "up acid-a", Some("y\n")).await;
    assert_eq!((code, world.writes().len()), (3, 0), "{why}");
    assert!(why.contains("above-max") && why.contains("nothing was changed"), "{why}");
}

#[tokio::test]
async fn an_undo_that_grows_and_could_not_be_judged_asks() {
    let world = World::new(3, 0);
    assert_eq!(run(&world, "down acid-a --yes", None).await.1, 0);
    let world = world.hiding(&["persistentvolumeclaims"]);
    let (_, code, why) = run(&world, "undo acid-a", None).await;
    assert_eq!((code, world.declared()), (7, 2), "{why}");
    let (_, code, why) = run(&world, "undo acid-a --yes", None).await;
    assert_eq!((code, world.declared()), (0, 3), "{why}");
}

#[tokio::test]
async fn zero_needs_a_confirmation_of_its_own() {
    for (flags, person, want) in [
        ("--confirm=db/acid-a", None, 0),
        ("", Some("db/acid-a\n"), 0),
        ("--yes", None, 7),
        ("--yes", Some("y\n"), 7),
        ("--confirm=acid-a", Some("db/acid-a\n"), 7),
    ] {
        let world = World::new(1, 0).zero_allowed();
        let line = format!("down acid-a --to 0 --wait=false {flags}");
        let (_, code, why) = run(&world, &line, person).await;
        assert_eq!(code, want, "{flags} {person:?}: {why}");
        assert_eq!(world.declared(), i64::from(want != 0), "{flags} {person:?}");
    }
}
