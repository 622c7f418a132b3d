//! What holds at once: the first answer after a start, and a freeze.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use hyper::Method;
use serde_json::json;
use tokio::time::sleep;

use super::{Extent, Found};
use crate::answer::{Answer, Grade, Right, Shot, Target as Server};
use crate::https::Call;
use crate::report::{Line, Target, Unit};
use crate::rig::{Column, Rig, is_right, policies, with_right};
use crate::shots::Kind;
use crate::window::count;

/// The pause after a connection that was refused.
const PAUSE: Duration = Duration::from_millis(2);
/// The time after which a webhook that gives no right answer has failed.
const PATIENCE: Duration = Duration::from_secs(30);
/// The freezes of one repeat.
const FREEZES: usize = 10;

/// Measures the time from the start of the webhook to its first right answers: a refusal and an
/// admission.
pub(super) async fn start(rig: &Rig, extent: Extent) -> Result<Found> {
    let (mut times, mut wrong, mut notes) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..extent.repeats {
        let asked = Asked::new(rig).await?;
        rig.webhook.stop().await?;
        let begun = Instant::now();
        let (ready, first) = tokio::join!(rig.webhook.run(), first_right(rig, asked, begun));
        ready?;
        let First { took, wrong: before, example } = first?;
        times.push(took.as_secs_f64() * 1000.0);
        wrong.push(count(before));
        notes.extend(example.map(|example| format!("start: not right: {example}")));
    }
    let row = "start";
    let lines = vec![
        Line::of(row, "to the first right answers", Unit::Ms, Target::AtMost(500.0), times),
        Line::of(row, "wrong answers before", Unit::Plain, Target::AlwaysAtMost(0.0), wrong),
    ];
    Ok(Found { lines, notes })
}

struct First {
    took: Duration,
    wrong: u64,
    example: Option<String>,
}

/// The webhook, and the reviews that it must answer right.
struct Asked {
    target: Arc<Server>,
    refused: Arc<Vec<Shot>>,
    admitted: Arc<Vec<Shot>>,
}

impl Asked {
    /// Returns them as the present registration has them.
    async fn new(rig: &Rig) -> Result<Self> {
        Ok(Self {
            target: rig.straight(Column::Ours).await?,
            refused: rig.reviews(Column::Ours, Kind::AboveMax).await?,
            admitted: rig.reviews(Column::Ours, Kind::Growth).await?,
        })
    }
}

/// Asks until a refusal and an admission are both answered right.
async fn first_right(rig: &Rig, mut asked: Asked, begun: Instant) -> Result<First> {
    let (mut wrong, mut example) = (0, None);
    let mut missing = vec![Kind::AboveMax, Kind::Growth];
    while let Some(kind) = missing.last() {
        let shots = if *kind == Kind::Growth { &asked.admitted } else { &asked.refused };
        let shot = shots.first().context("no review")?;
        let answer = asked.target.ask(shot).await;
        match shot.right.grade(&answer) {
            Grade::Right => {
                missing.pop();
                continue;
            }
            Grade::Failed => {}
            Grade::Unjudged | Grade::WrongRefusal | Grade::WrongAllow => {
                wrong += 1;
                example = Some(format!("{answer:?}"));
            }
        }
        ensure!(begun.elapsed() < PATIENCE, "no right answer within {PATIENCE:?}: {answer:?}");
        sleep(PAUSE).await;
        // A start may change the path and the authority.
        if matches!(&answer, Answer::Failed(why) if !why.contains("failed to connect")) {
            asked = Asked::new(rig).await?;
        }
    }
    Ok(First { took: begun.elapsed(), wrong, example })
}

/// Counts the shrinks that pass directly after a freeze was created, and those that are refused
/// directly after its end.
pub(super) async fn freeze(rig: &Rig, extent: Extent) -> Result<Found> {
    let shots = rig.shots(Column::Ours, Kind::Shrink);
    let frozen = with_right(&shots, Right::Refused("change-freeze"));
    let path = policies(Column::Ours.namespace());
    let policy = json!({
        "apiVersion": "pgscale.dev/v1alpha1", "kind": "ScalePolicy",
        "metadata": {"name": "freeze"}, "spec": {"freeze": {}},
    });
    let create = Call::json(Method::POST, &path, &policy);
    let delete = Call::bare(Method::DELETE, format!("{path}/freeze"));
    let (mut passed, mut refused, mut notes) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..extent.repeats {
        let (mut during, mut after) = (0, 0);
        for (free, frozen) in shots.iter().zip(&frozen).cycle().take(FREEZES) {
            rig.https().expect(&create).await?;
            let answer = rig.api.ask(frozen).await;
            if !is_right(frozen, &answer) {
                during += 1;
                notes.push(format!("freeze: not right: {answer:?}"));
            }
            rig.https().expect(&delete).await?;
            let answer = rig.api.ask(free).await;
            if !is_right(free, &answer) {
                after += 1;
                notes.push(format!("after a freeze: not right: {answer:?}"));
            }
        }
        passed.push(count(during));
        refused.push(count(after));
    }
    notes.truncate(2);
    let row = "freeze";
    let passing = format!("shrinks not refused directly after, of {FREEZES}");
    let refusing = format!("shrinks refused directly after its end, of {FREEZES}");
    let lines = vec![
        Line::of(row, &passing, Unit::Plain, Target::AlwaysAtMost(0.0), passed),
        Line::of(row, &refusing, Unit::Plain, Target::None, refused),
    ];
    Ok(Found { lines, notes })
}
