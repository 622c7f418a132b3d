//! A plan as a person reads it.

use std::collections::BTreeSet;

use anstyle::Style;
use pgscale_guard::RuleId;
use pgscale_guard::evidence::{self, Evidence};
use pgscale_guard::remedy::Remedy;
use pgscale_guard::rules::Cause;
use pgscale_guard::verdict::{Finding, Grouped, Severity, grouped};

use super::impact as impact_view;
use crate::impact::Impact;
use crate::permissions::check_of;
use crate::plan::{Commit, Judged, Outcome, Plan, Says, Step, every_rule};
use crate::terminal::text::{Cell, fitted, instances, laid_out, wrap};
use crate::terminal::{BAD, BOLD, CARE, GOOD};

/// Renders a plan that is carried out next, between two lines with its verdict. A wide one has all
/// of its impact and every rule.
pub(crate) fn render(
    plan: &Plan,
    impact: Option<&Impact>,
    wide: bool,
    width: Option<usize>,
) -> String {
    between(&verdict(plan, true, width), sections(plan, impact, wide, width))
}

/// Renders a plan that this program does not carry out: with what it means for other writers.
pub(crate) fn render_for_all(
    plan: &Plan,
    impact: Option<&Impact>,
    wide: bool,
    width: Option<usize>,
) -> String {
    let mut sections = sections(plan, impact, wide, width);
    sections.extend(plain_write(plan, width));
    between(&verdict(plan, false, width), sections)
}

/// Returns the sections between two lines with the verdict.
fn between(verdict: &str, sections: Vec<String>) -> String {
    let verdict = || std::iter::once(verdict.to_owned());
    verdict().chain(sections).chain(verdict()).collect::<Vec<_>>().join("\n")
}

fn sections(plan: &Plan, impact: Option<&Impact>, wide: bool, width: Option<usize>) -> Vec<String> {
    let mut sections = vec![heading(plan)];
    sections.extend(members(plan, impact, width));
    if let Some(leader_move) = &plan.leader_move {
        sections.push(wrap(
            &format!(
                "{BOLD}Leader:{BOLD:#} {} -> {} ({})",
                leader_move.from, leader_move.to, leader_move.why
            ),
            width,
            2,
        ));
    }
    for unfit in &plan.unfit {
        sections.push(wrap(
            &format!("{CARE}Not counted on:{CARE:#} {}: {}", unfit.pod, unfit.why),
            width,
            2,
        ));
    }
    sections.extend(Commit::of(plan).map(|it| commit(plan, &it, width)));
    if let Some(impact) = impact {
        sections.push(impact_view::render(plan, impact, wide, width));
    }
    if plan.outcome() == Outcome::Ready {
        sections.push(steps(plan));
    }
    sections.extend(found(plan, wide, width));
    if wide {
        sections.push(format!("{BOLD}Hash:{BOLD:#} {} (for --expect-plan)", plan.hash));
        sections.push(rules(plan, width));
    }
    sections
}

fn heading(plan: &Plan) -> String {
    let declared = plan.declared.map_or("unset".to_owned(), |count| count.to_string());
    let mut odd = Vec::new();
    if plan.declared != Some(plan.from) || plan.count != plan.to {
        odd.push(format!("declared {declared} -> {}", plan.count));
    }
    if let Some(running) = plan.running.filter(|running| *running != plan.from) {
        odd.push(format!("the StatefulSet asks for {running}"));
    }
    let odd = if odd.is_empty() { String::new() } else { format!(" ({})", odd.join("; ")) };
    format!(
        "{BOLD}postgresql {}:{BOLD:#} {} -> {}{odd}",
        plan.cluster(),
        plan.from,
        instances(plan.to)
    )
}

fn members(plan: &Plan, impact: Option<&Impact>, width: Option<usize>) -> Option<String> {
    let leaving = plan.leaving.iter().map(|member| {
        let volume = match &member.claim {
            Some(claim) => impact_view::volume(impact, claim, true),
            None => Cell::default(),
        };
        vec![
            Cell::from(&member.pod),
            Cell::styled("removed", CARE),
            member.role.word().into(),
            (&member.state).into(),
            volume,
        ]
    });
    let coming = plan.coming.iter().map(|member| {
        let volume = match &member.claim {
            Some(claim) => impact_view::volume(impact, claim, false),
            None => impact_view::new_volume(impact).into(),
        };
        vec![
            Cell::from(&member.pod),
            Cell::styled("added", GOOD),
            "replica".into(),
            "".into(),
            volume,
        ]
    });
    let rows: Vec<Vec<Cell>> = leaving.chain(coming).collect();
    (!rows.is_empty()).then(|| {
        let shown = fitted(&["MEMBER", "CHANGE", "ROLE", "STATE", "VOLUME"], &rows, width);
        match plan.coming_besides {
            0 => shown,
            besides => format!("{shown}\n... and {besides} more"),
        }
    })
}

/// Renders the values that other writers must commit so that they do not undo the change.
fn commit(plan: &Plan, commit: &Commit, width: Option<usize>) -> String {
    let writers: Vec<&str> = commit.places.iter().map(|(writer, _)| writer.as_str()).collect();
    let places: Vec<&str> = commit.places.iter().map(|(_, place)| *place).collect();
    let when =
        if plan.plain_write_refused_by.is_empty() { "" } else { ", once the leader has moved" };
    let said = format!(
        "{CARE}Also written by:{CARE:#} {} (may undo the change: commit this to {}{when})",
        writers.join(", "),
        places.join(", and to ")
    );
    let manifest = commit.yaml();
    let manifest = manifest.lines().map(|line| format!("    {line}"));
    std::iter::once(wrap(&said, width, 2)).chain(manifest).collect::<Vec<_>>().join("\n")
}

/// Renders every rule: its verdict, its evidence, and the change that would satisfy it.
fn rules(plan: &Plan, width: Option<usize>) -> String {
    let led = plan.leader_move.as_ref().map(|it| format!(", as if {} led already", it.to));
    let heading =
        format!("{BOLD}Every rule{}, and what it looked at:{BOLD:#}", led.unwrap_or_default());
    let judged = every_rule(plan);
    let mut before: Option<&Judged<'_>> = None;
    let mut blocks = vec![heading];
    for this in &judged {
        let same = before.filter(|it| this.says == Says::Pass && it.looked_at == this.looked_at);
        blocks.push(rule(this, same.map(|it| it.rule), width));
        if this.says != Says::NotApplicable {
            before = Some(this);
        }
    }
    blocks.join("\n")
}

/// Renders one rule. `same` is one above that looked at the same objects.
fn rule(judged: &Judged<'_>, same: Option<&str>, width: Option<usize>) -> String {
    let (word, style) = match judged.says {
        Says::Audit => ("AUDIT", CARE),
        Says::Deny => ("DENY", BAD),
        Says::Ignored => ("IGNORED", CARE),
        Says::NotApplicable => ("n/a ", Style::new()),
        Says::Pass => ("PASS", GOOD),
        Says::Unknown(Severity::Deny) => ("UNKNOWN, DENY", BAD),
        Says::Unknown(Severity::Warn) => ("UNKNOWN, WARN", CARE),
        Says::Warn => ("WARN", CARE),
    };
    let message = judged.message.map(|message| format!(": {message}")).unwrap_or_default();
    let head = format!("  {style}{word}{style:#} {}{message}", judged.rule);
    let mut lines = vec![wrap(&head, width, 5)];
    let mut detail = |text: String| lines.push(wrap(&format!("     {text}"), width, 2));
    match same {
        Some(rule) => detail(format!("the same as {rule}")),
        None => evidence::lines(judged.looked_at).into_iter().for_each(&mut detail),
    }
    if let Some(finding) = judged.finding {
        finding
            .severity_reason
            .iter()
            .for_each(|severity_reason| detail(format!("({severity_reason})")));
        lines.extend(finding.remedy.iter().map(|remedy| way("     To pass:", remedy, width)));
    }
    lines.join("\n")
}

fn steps(plan: &Plan) -> String {
    let numbered =
        plan.steps.iter().zip(1..).map(|(step, number)| format!("  {number}. {}", step_text(step)));
    let lines: Vec<String> =
        std::iter::once(format!("{BOLD}Steps:{BOLD:#}")).chain(numbered).collect();
    lines.join("\n")
}

/// Returns one step in one sentence.
pub(crate) fn step_text(step: &Step) -> String {
    match step {
        Step::Checkpoint(member) => format!("CHECKPOINT on {member}"),
        Step::MoveLeader(from, to) => {
            format!("switch over from {from} to {to}, and see it done")
        }
        Step::SetCount(count) => format!("set numberOfInstances to {count}"),
        Step::AskAgain(count) => {
            format!("make the operator act on numberOfInstances {count}, by an annotation")
        }
        Step::Converge(1) => "wait until 1 instance has converged".to_owned(),
        Step::Converge(count) => format!("wait until {} have converged", instances(*count)),
    }
}

/// Returns the verdict in one line: the word, the change, and the rules that refuse it or warn.
///
/// It is the first line that a tired person sees and the last one. Of a change that is carried out
/// next the word says that nothing is done yet: the line may be the first one above a failure.
fn verdict(plan: &Plan, acts: bool, width: Option<usize>) -> String {
    let change = format!("{} -> {}", plan.from, plan.to);
    let line = if plan.outcome() == Outcome::Nothing {
        format!("{GOOD}NOTHING TO DO:{GOOD:#} {} asked for already", instances(plan.count))
    } else if plan.verdict.allows() {
        let (found, blind) = by_sight(plan, plan.verdict.warnings());
        let warnings = format!(", {}: {}", counted(found.len(), "warning"), found.join(", "));
        let says = match (found.as_slice(), blind) {
            ([], None) => String::new(),
            ([], Some(blind)) => format!(", but {blind}"),
            (_, None) => warnings,
            (_, Some(blind)) => format!("{warnings}; and {blind}"),
        };
        let style = if says.is_empty() { GOOD } else { CARE };
        let (word, allowed) = if acts { ("PLANNED", ", allowed") } else { ("ALLOWED", "") };
        format!("{style}{word}{style:#} {change}{allowed}{says}")
    } else {
        let (found, blind) = by_sight(plan, plan.verdict.denials());
        let found = (!found.is_empty()).then(|| found.join(", "));
        let says: Vec<String> = found.into_iter().chain(blind).collect();
        format!("{BAD}REFUSED{BAD:#} {change}: {}", says.join("; and "))
    };
    wrap(&line, width, 2)
}

/// Returns the rules that found something, and what keeps the others from judging.
fn by_sight<'a>(
    plan: &Plan,
    findings: impl Iterator<Item = &'a Finding>,
) -> (Vec<&'static str>, Option<String>) {
    let (blind, found): (Vec<&Finding>, Vec<&Finding>) =
        findings.partition(|finding| is_hidden(plan, finding));
    let found = found.iter().map(|finding| finding.rule.as_str()).collect();
    let hides = |cause: &&Cause| blind.iter().any(|finding| cause.rules.contains(&finding.rule));
    let why = plan.causes.iter().filter(hides).map(|cause| cause.why.as_str());
    let says = format!("{} could not be judged: {}", counted(blind.len(), "rule"), reasons(why));
    (found, (!blind.is_empty()).then_some(says))
}

/// The number of reasons for unread facts that one line names.
const REASONS: usize = 2;

/// Returns the first reasons for unread facts, and the number of the others.
pub(super) fn reasons<'a>(all: impl IntoIterator<Item = &'a str>) -> String {
    let all: Vec<&str> = all.into_iter().collect();
    let besides = all.len().saturating_sub(REASONS);
    let more = (besides > 0).then(|| format!("and {besides} more"));
    let named = all.iter().take(REASONS).map(|why| (*why).to_owned());
    named.chain(more).collect::<Vec<_>>().join("; ")
}

/// Renders everything that the rules found, and the nearest count that would be allowed.
fn found(plan: &Plan, wide: bool, width: Option<usize>) -> Vec<String> {
    let mut lines = Vec::new();
    if plan.outcome() != Outcome::Nothing {
        lines.extend(render_verdict(plan, wide, width));
    }
    if plan.outcome() == Outcome::Refused {
        let title = format!("{BOLD}Nearest count that would be allowed now:{BOLD:#}");
        lines.extend(plan.next().map(|next| way(&title, &next, width)));
    }
    lines
}

pub(super) fn counted(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

/// Returns the meaning of a plan that moves the leader for writers that do not move it. `None`
/// where they may write the count now.
fn plain_write(plan: &Plan, width: Option<usize>) -> Option<String> {
    if plan.plain_write_refused_by.is_empty() {
        return None;
    }
    let rules = plan.plain_write_refused_by.join(", ");
    let title = format!(
        "{CARE}A plain write{CARE:#} (kubectl edit, Argo CD, Helm) is refused by {rules} until the leader has moved:"
    );
    plan.next().map(|next| way(&title, &next, width))
}

/// The number of lines of evidence to which a longer list is cut. A list with one line more takes as
/// many lines whole.
const EVIDENCE: usize = 2;

/// Returns evidence as lines: of a long list the first two, and the number of the others. A wide view
/// has them all.
pub(super) fn shown_evidence(all: &[Evidence], wide: bool) -> Vec<String> {
    let mut lines = evidence::lines(all);
    let besides = lines.len().saturating_sub(EVIDENCE);
    if !wide && besides > 1 {
        lines.truncate(EVIDENCE);
        lines.push(format!("and {besides} more lines: -o wide shows all"));
    }
    lines
}

/// Renders everything that refuses a plan, then everything that warns. What could not be read is said
/// once for each reason.
pub(super) fn render_verdict(plan: &Plan, wide: bool, width: Option<usize>) -> Vec<String> {
    let denials: Vec<&Finding> = plan.verdict.denials().collect();
    let warnings: Vec<&Finding> = plan.verdict.warnings().collect();
    let says = |findings: &[&Finding]| {
        let own = findings.iter().copied().filter(|finding| !is_hidden(plan, finding));
        render_findings(own, wide, width)
    };
    let of = |cause: &Cause, findings: &[&Finding]| -> Vec<RuleId> {
        let rules = findings.iter().map(|finding| finding.rule);
        rules.filter(|rule| cause.rules.contains(rule)).collect()
    };
    let hides = |cause: &Cause| (of(cause, &denials), of(cause, &warnings));
    let (refusing, warning): (Vec<&Cause>, Vec<&Cause>) =
        plan.causes.iter().partition(|cause| !hides(cause).0.is_empty());
    let blind = |causes: &[&Cause]| {
        let all: Vec<Blind<'_>> = causes
            .iter()
            .map(|cause| {
                let (denied, warned) = hides(cause);
                Blind { why: &cause.why, denied, warned }
            })
            .filter(|blind| blind.rules().next().is_some())
            .collect();
        render_blind(plan, &all, width)
    };
    let mut lines = says(&denials);
    lines.extend(blind(&refusing));
    lines.extend(says(&warnings));
    lines.extend(blind(&warning));
    lines
}

/// Returns whether a finding only says that a fact is unread, which its cause says.
pub(super) fn is_hidden(plan: &Plan, finding: &Finding) -> bool {
    plan.causes.iter().any(|cause| cause.rules.contains(&finding.rule))
}

/// One reason for unread facts, with the rules that it keeps from judging.
struct Blind<'a> {
    why: &'a str,
    /// The rules that refuse because of it.
    denied: Vec<RuleId>,
    /// Those that warn.
    warned: Vec<RuleId>,
}

impl Blind<'_> {
    fn rules(&self) -> impl Iterator<Item = RuleId> {
        self.denied.iter().chain(&self.warned).copied()
    }
}

/// Renders the reasons for which rules could not judge, under one heading.
fn render_blind(plan: &Plan, all: &[Blind<'_>], width: Option<usize>) -> Option<String> {
    let denies = all.iter().any(|blind| !blind.denied.is_empty());
    let (style, word) = if denies { (BAD, "DENY") } else { (CARE, "WARN") };
    if let [only] = all {
        let what = format!("  {style}{word}{style:#} cannot be judged: {}", only.why);
        let detail = blind_rules(plan, only, "       ", width);
        return Some([wrap(&what, width, 5), detail].join("\n"));
    }
    let rules: BTreeSet<&str> = all.iter().flat_map(Blind::rules).map(RuleId::as_str).collect();
    if rules.is_empty() {
        return None;
    }
    let count = counted(rules.len(), "rule");
    let mut lines = vec![format!("  {style}{word}{style:#} {count} cannot be judged:")];
    for blind in all {
        lines.push(wrap(&format!("       {}", blind.why), width, 2));
        lines.push(blind_rules(plan, blind, "         ", width));
    }
    Some(lines.join("\n"))
}

/// Renders the rules that a reason keeps from judging, and the check of it.
fn blind_rules(plan: &Plan, blind: &Blind<'_>, indent: &str, width: Option<usize>) -> String {
    let Blind { why, denied, warned } = blind;
    let mut lines = Vec::new();
    let mut detail = |text: &str| lines.push(wrap(&format!("{indent}{text}"), width, 2));
    let ids = |rules: &[RuleId]| -> String {
        rules.iter().map(|rule| rule.as_str()).collect::<Vec<_>>().join(", ")
    };
    match (denied.as_slice(), warned.as_slice()) {
        (some, []) | ([], some) => detail(&format!("hides {}", ids(some))),
        _ => detail(&format!("hides {}; with a warning only: {}", ids(denied), ids(warned))),
    }
    let all: Vec<RuleId> = blind.rules().collect();
    let of_cause = plan.verdict.findings.iter().filter(|finding| all.contains(&finding.rule));
    let mut reasons: Vec<&str> =
        of_cause.clone().filter_map(|finding| finding.severity_reason.as_deref()).collect();
    reasons.dedup();
    for reason in reasons {
        detail(&format!("({reason})"));
    }
    let check = check_of(why, &plan.namespace).map(|it| it.reached_by(&plan.reach));
    let remedy =
        check.map(Remedy::run).or_else(|| of_cause.clone().next().and_then(|it| it.remedy.clone()));
    lines.extend(remedy.iter().map(|remedy| way(&format!("{indent}Try:"), remedy, width)));
    lines.join("\n")
}

/// Renders findings, those that say the same as one.
pub(crate) fn render_findings<'a>(
    findings: impl IntoIterator<Item = &'a Finding>,
    wide: bool,
    width: Option<usize>,
) -> Vec<String> {
    grouped(findings).iter().map(|group| render_group(group, wide, width)).collect()
}

/// Renders findings that say the same, with their evidence and their remedy.
fn render_group(group: &Grouped<'_>, wide: bool, width: Option<usize>) -> String {
    let finding = group.finding;
    let (style, word) = match finding.severity {
        Severity::Deny => (BAD, "DENY"),
        Severity::Warn => (CARE, "WARN"),
    };
    let (rules, message) = (group.ids(), &finding.message);
    let mut lines = vec![wrap(&format!("  {style}{word}{style:#} {rules}: {message}"), width, 5)];
    let mut detail = |text: String| lines.push(wrap(&format!("       {text}"), width, 2));
    shown_evidence(&finding.evidence, wide).into_iter().for_each(&mut detail);
    finding
        .severity_reason
        .iter()
        .for_each(|severity_reason| detail(format!("({severity_reason})")));
    lines.extend(finding.remedy.iter().map(|remedy| way("       Try:", remedy, width)));
    lines.join("\n")
}

/// Renders a remedy behind `title`. Sentences are broken at the width, commands never are.
fn way(title: &str, remedy: &Remedy, width: Option<usize>) -> String {
    laid_out(&remedy.behind(title), width, 2)
}
