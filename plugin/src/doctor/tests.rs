//! One defect at a time: a healthy installation, then one thing broken.
//!
//! `docs/doctor.md` is written from these cases, and fails the test while it is stale. So every
//! finding that the page lists was found here, by what is planted, with the command that cures it.

#![expect(clippy::needless_pass_by_value, reason = "a planted object is written in place")]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::sync::LazyLock;

use pgscale_guard::testing::prose::{avoided, prose};

use super::facts::Facts;
use super::{Diagnosis, Level, Verdict, diagnose};
use crate::generated;
use crate::walk;
use healthy::healthy;

mod certificates;
mod edge;
mod healthy;
mod installed;
mod judging;
mod outside;
mod people;

/// One planted defect.
struct Case {
    /// The finding that it leads to.
    id: &'static str,
    /// How it is planted, for the page.
    planted: &'static str,
    plant: fn(&mut Facts),
    /// Findings that follow from it as well.
    also: &'static [&'static str],
}

const fn case(id: &'static str, planted: &'static str, plant: fn(&mut Facts)) -> Case {
    Case { id, planted, plant, also: &[] }
}

const fn followed(case: Case, also: &'static [&'static str]) -> Case {
    Case { also, ..case }
}

/// Notes that a healthy installation with one break-glass user has.
const HEALTHY: &[&str] = &["who-breaks-glass"];

fn cases() -> impl Iterator<Item = &'static Case> {
    [installed::CASES, certificates::CASES, outside::CASES, people::CASES].into_iter().flatten()
}

/// Every case, with what is found.
static ILL: LazyLock<Vec<(&'static Case, Diagnosis)>> = LazyLock::new(|| {
    let diagnosed = |case: &'static Case| {
        let mut facts = healthy();
        (case.plant)(&mut facts);
        (case, diagnose(&facts).unwrap())
    };
    cases().map(diagnosed).collect()
});

fn ids(diagnosis: &Diagnosis) -> BTreeSet<&'static str> {
    diagnosis.findings.iter().map(|finding| finding.id).collect()
}

#[test]
fn healthy_installation_holds_without_a_weakness() {
    let diagnosis = diagnose(&healthy()).unwrap();
    assert_eq!(ids(&diagnosis), HEALTHY.iter().copied().collect(), "{:#?}", diagnosis.findings);
    assert_eq!(diagnosis.verdict(), Verdict::Holds);
}

#[test]
fn every_planted_defect_is_found_and_nothing_else() {
    let mut wrong = Vec::new();
    for (case, diagnosis) in ILL.iter() {
        let found = ids(diagnosis);
        let also = case.also.iter().copied();
        let wanted: BTreeSet<_> = std::iter::once(case.id).chain(also).collect();
        let healthy: BTreeSet<_> = HEALTHY.iter().copied().collect();
        let found: BTreeSet<_> =
            found.into_iter().filter(|id| !healthy.contains(id) || wanted.contains(id)).collect();
        if found != wanted {
            wrong.push(format!(
                "{} ({}): found {found:?}, wanted {wanted:?}",
                case.id, case.planted
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn at_least_forty_defects_are_planted() {
    let all: BTreeSet<&str> = cases().map(|case| case.id).collect();
    assert!(all.len() >= 40, "{}", all.len());
    println!("{} findings, {} defects", all.len(), cases().count());
}

#[test]
fn the_verdict_follows_the_heaviest_finding() {
    for (case, diagnosis) in ILL.iter() {
        let level = diagnosis.findings.iter().map(|finding| finding.level).min().unwrap();
        let wanted = match level {
            Level::Fails => Verdict::DoesNotHold,
            Level::Unread => Verdict::CannotBeJudged,
            Level::Weakens | Level::Note => Verdict::Holds,
        };
        assert_eq!(diagnosis.verdict(), wanted, "{}", case.id);
        let levels: Vec<Level> = diagnosis.findings.iter().map(|finding| finding.level).collect();
        assert!(levels.is_sorted(), "{}: {levels:?}", case.id);
    }
}

#[test]
fn every_finding_has_evidence_and_a_command_that_works() {
    let mut wrong = Vec::new();
    for (_, diagnosis) in ILL.iter() {
        for finding in &diagnosis.findings {
            if finding.evidence.is_empty() {
                wrong.push(format!("{}: no evidence", finding.id));
            }
            if finding.remedy.commands.is_empty() && finding.level != Level::Note {
                wrong.push(format!("{}: no command", finding.id));
            }
            for suggested in &finding.remedy.commands {
                let command = &suggested.command;
                let programs = std::iter::once(&command.argv).chain(&command.piped_into);
                for argv in programs {
                    wrong.extend(
                        walk::wrong(argv).map(|why| format!("{}: {command}: {why}", finding.id)),
                    );
                }
                let read = shlex::split(&command.to_string());
                if read.is_none_or(|words| words[..command.argv.len()] != command.argv) {
                    wrong.push(format!("{}: {command}: a shell reads other words", finding.id));
                }
            }
            wrong.extend(avoided(finding.id, &prose(&finding.message)));
        }
    }
    wrong.sort_unstable();
    wrong.dedup();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Every part that can be unread is unread in one case, and then nothing else is said of it.
#[test]
fn unread_part_is_never_taken_as_fine() {
    let unread = cases().filter(|case| case.id == "part-unread");
    assert_eq!(unread.count(), outside::PARTS);
    for (case, diagnosis) in ILL.iter().filter(|(case, _)| case.id == "part-unread") {
        assert_eq!(diagnosis.verdict(), Verdict::CannotBeJudged, "{}", case.planted);
    }
}

const BEGIN: &str = "<!-- findings -->\n";
const END: &str = "<!-- /findings -->\n";

#[test]
fn the_page_lists_every_finding() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/doctor.md");
    let page = fs::read_to_string(path).unwrap();
    let (before, rest) = page.split_once(BEGIN).unwrap();
    let (_, after) = rest.split_once(END).unwrap();
    let mut table =
        "| id | weight | planted as | doctor says | cure |\n|---|---|---|---|---|\n".to_owned();
    let mut listed = BTreeSet::new();
    for (case, diagnosis) in ILL.iter().filter(|(case, _)| listed.insert(case.id)) {
        let finding = diagnosis.findings.iter().find(|finding| finding.id == case.id);
        let finding = finding.unwrap_or_else(|| panic!("{} is not found", case.id));
        let command = finding.remedy.commands.first();
        let command = command.map_or_else(
            || "nothing to cure".to_owned(),
            |suggested| format!("`{}`", suggested.command),
        );
        let cells = [finding.message.as_str(), &command].map(|cell| cell.replace('|', "\\|"));
        writeln!(
            table,
            "| <a id=\"{0}\"></a>{0} | {1:?} | {2} | {3} | {4} |",
            case.id, finding.level, case.planted, cells[0], cells[1]
        )
        .unwrap();
    }
    let wanted = format!("{before}{BEGIN}{table}{END}{after}");
    generated::check("docs/doctor.md", &wanted, |stored, wanted| stored == wanted);
}
