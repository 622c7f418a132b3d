//! Tests that every command that is suggested or shown works, from each place that shows any.
//!
//! A command of ours is read by our own clap. A command of kubectl is checked against the list in
//! [`kubectl`]. A command that a finding suggests carries the caller's connection flags. A command
//! that asks for another count asks for a count that every rule admits on the same facts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use clap::CommandFactory as _;
use clap::error::ErrorKind;
use pgscale_guard::change::{Change, Direction};
use pgscale_guard::remedy::{Command, Reach};
use pgscale_guard::rules::{RULES, after_switchover};
use pgscale_guard::testing::prose::{avoided, prose};
use pgscale_guard::testing::{Situation, by_chance, lowered, of_scenarios, of_tables};
use pgscale_guard::verdict::Finding;
use pgscale_guard::{Facts, Policies, evaluate};

use crate::cli::Cli;
use crate::connect::Flags;
use crate::plan::{Outcome, Plan};

mod kubectl;
mod pages;

/// The number of random situations that are walked.
const BY_CHANCE: usize = 200;

/// Words that stand for a value that only the reader knows, and the value that a test puts in their
/// place. The words are those of our own help. A word in capitals that is not here, or that help
/// does not use, fails the test.
const PLACEHOLDERS: &[(&str, &str)] = &[
    ("FILE", "policy.yaml"),
    ("LABELS", "env=staging"),
    ("MEMBER", "acid-a-1"),
    ("N", "3"),
    ("NAME", "acid-a"),
    ("NAMESPACE", "db"),
    ("RULE", "paused"),
    ("SHELL", "bash"),
    ("TEXT", "why"),
];

/// Placeholders for values that our help does not name: any of our verbs, a service account, and
/// the user who reads the notes of the chart.
const OTHERS: &[(&str, &str)] =
    &[("VERB", "status"), ("SERVICEACCOUNT", "postgres-operator"), ("ME", "jane")];

/// Returns the word with the placeholder, or the placeholders between commas and slashes, replaced.
/// The error is the unknown one among them.
fn filled(word: &str) -> Result<String, String> {
    let value = word.rsplit('=').next().unwrap_or(word);
    let capitals = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_uppercase());
    if !value.split([',', '/']).all(capitals) {
        // This is the patch of a count.
        return Ok(word.replace("\"numberOfInstances\":N}", "\"numberOfInstances\":3}"));
    }
    let mut filled = word[..word.len() - value.len()].to_owned();
    for piece in value.split_inclusive([',', '/']) {
        let part = piece.trim_end_matches([',', '/']);
        let known = PLACEHOLDERS.iter().chain(OTHERS).find(|(name, _)| *name == part);
        let (_, value) = known.ok_or_else(|| format!("help has no placeholder {part}"))?;
        filled.push_str(&piece.replace(part, value));
    }
    Ok(filled)
}

/// Returns the fault in the words of one program. `None` where there is none.
pub(crate) fn wrong(argv: &[String]) -> Option<String> {
    let words: Vec<String> = match argv.iter().map(|word| filled(word)).collect() {
        Ok(words) => words,
        Err(unknown) => return Some(unknown),
    };
    match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["kubectl", "pgscale", rest @ ..] | ["kubectl-pgscale", rest @ ..] => {
            let cli = Cli::of(["kubectl-pgscale"].iter().chain(rest));
            let error = cli.err().filter(|error| error.kind() != ErrorKind::DisplayHelp)?;
            Some(error.render().to_string())
        }
        ["kubectl", rest @ ..] | ["xargs", "kubectl", rest @ ..] => kubectl::wrong(rest),
        ["helm", "install" | "upgrade", _, "charts/pgscale", ..]
        | ["helm", "get", "manifest", ..]
        | ["helm", "history" | "rollback" | "uninstall", ..] => None,
        [program, ..] if kubectl::READERS.contains(program) => None,
        other => Some(format!("no program that we suggest: {other:?}")),
    }
}

/// Returns the number of instances that a command of ours, or a patch of the object, asks for.
fn count(argv: &[String]) -> Option<i64> {
    let words: Vec<&str> = argv.iter().map(String::as_str).collect();
    let after = |flag: &str| {
        words.iter().skip_while(|word| **word != flag).nth(1).and_then(|word| word.parse().ok())
    };
    match words.as_slice() {
        ["kubectl", "pgscale", "set", _, count, ..] => count.parse().ok().or_else(|| after("--to")),
        ["kubectl", "pgscale", "up" | "down", ..] => after("--to"),
        ["kubectl", "patch", ..] => {
            let patch = words.iter().find(|word| word.contains("numberOfInstances"))?;
            let patch: serde_json::Value = serde_json::from_str(patch).unwrap();
            patch["spec"]["numberOfInstances"].as_i64()
        }
        _ => None,
    }
}

/// Returns the connection flags of a caller.
fn reach() -> Reach {
    let words = "kubectl-pgscale version --context=blue --kubeconfig=/tmp/k --as=eve --operator=ops/operator";
    Flags::from(Cli::of(words.split(' ')).unwrap().connection).to_repeat()
}

/// Returns the fault in a command that a finding of this situation suggests.
fn wrong_there(command: &Command, (facts, policies): &Situation) -> Option<String> {
    let programs = || std::iter::once(&command.argv).chain(&command.piped_into);
    if let Some(wrong) = programs().find_map(|argv| wrong(argv)) {
        return Some(wrong);
    }
    if shlex::split(&command.to_string())
        .is_none_or(|words| words[..command.argv.len()] != command.argv)
    {
        return Some("a shell reads other words".to_owned());
    }
    let (namespace, reach) = (&facts.change.new.namespace, reach());
    let reached = command.clone().reached_by(&reach);
    for argv in std::iter::once(&reached.argv).chain(&reached.piped_into) {
        let argv: Vec<&str> = argv.iter().map(String::as_str).collect();
        let own = match argv.as_slice() {
            ["kubectl", "pgscale", rest @ ..] => {
                let words = rest.iter().map(|word| filled(word).unwrap());
                let cli =
                    Cli::of(std::iter::once("kubectl-pgscale".to_owned()).chain(words)).unwrap();
                let carried = Flags::from(cli.connection.clone()).to_repeat() == reach;
                let named = cli.connection.namespace.as_ref() == Some(namespace);
                carried && named
            }
            ["kubectl", rest @ ..] | ["xargs", "kubectl", rest @ ..] => {
                let before = rest.iter().take_while(|word| **word != "--");
                let flags: BTreeSet<_> = before.map(|word| (*word).to_owned()).collect();
                reach.kubectl.iter().all(|flag| flags.contains(flag))
            }
            _ => true,
        };
        if !own {
            return Some(format!("it does not lead where the caller came from: {reached}"));
        }
    }
    refused(command, facts, policies)
}

/// Returns the rules that refuse the count that the command asks for, by the same facts.
fn refused(command: &Command, facts: &Facts, policies: &Policies) -> Option<String> {
    let asked = count(&command.argv);
    if asked != command.count() {
        let taken = command.count();
        return Some(format!("it asks for {asked:?}, and is taken to ask for {taken:?}"));
    }
    let words: Vec<&str> = command.argv.iter().map(String::as_str).collect();
    let prepares = match words.as_slice() {
        ["kubectl", "pgscale", "switchover", _, "--for", count, ..] => count.parse().ok(),
        ["kubectl", "scale", "statefulset", _, replicas, ..] => {
            let from = facts.from().map(|from| format!("--replicas={from}"));
            let other = from.is_none_or(|from| from != *replicas);
            return other.then(|| "it is not the count of the cluster".to_owned());
        }
        _ => None,
    };
    let old = facts.change.old.clone()?;
    let there = Change { dry_run: true, ..Change::of_count(old, asked.or(prepares)?) };
    let mut facts = facts.clone();
    facts.change = there;
    if words.get(1) == Some(&"pgscale") {
        facts = after_switchover(&facts, policies).into_owned();
    }
    let verdict = evaluate(&facts, policies);
    let rules: Vec<&str> = verdict.denials().map(|finding| finding.rule.as_str()).collect();
    (!rules.is_empty()).then(|| format!("refused by {rules:?}"))
}

/// The distinct commands of each source, and the faults in them.
#[derive(Default)]
struct Walk {
    commands: BTreeMap<&'static str, BTreeSet<String>>,
    wrong: BTreeMap<String, String>,
    /// Every finding, as a person reads it.
    findings: BTreeSet<String>,
}

impl Walk {
    /// Walks the commands that the findings of these situations suggest.
    fn situations(&mut self, source: &'static str, situations: &[Situation]) {
        for situation in situations {
            self.findings(source, situation, &evaluate(&situation.0, &situation.1).findings);
        }
    }

    /// Walks the commands that the plans for these situations suggest. The plugin judges with the
    /// leader moved first.
    fn plans(&mut self, source: &'static str, situations: &[Situation]) {
        for situation in situations {
            let (facts, policies) = situation;
            let plan = Plan::keeping(facts, policies, None);
            self.findings(source, situation, &plan.verdict.findings);
            let remedies = plan.verdict.findings.iter().filter_map(|it| it.remedy.as_ref());
            let commands = remedies.flat_map(|remedy| &remedy.commands);
            let further = |count: &i64| match facts.direction() {
                Direction::Down => *count < plan.from,
                Direction::Up => *count > plan.from,
                Direction::Create | Direction::Same => false,
            };
            let Some(count) = commands.filter_map(|it| it.command.count()).find(further) else {
                continue;
            };
            // The plugin changes nothing but the count.
            let count_alone = facts.change.other_edits().is_empty();
            if count_alone
                && plan.outcome() == Outcome::Refused
                && Plan::of(facts, policies).nearest.counts().next().is_none()
            {
                let shown =
                    format!("{source}: {} to {}, and {count} beside it", plan.from, plan.to);
                self.wrong.insert(shown, "the nearest count allowed is said to be none".into());
            }
        }
    }

    fn findings(&mut self, source: &'static str, situation: &Situation, findings: &[Finding]) {
        for finding in findings.iter().filter(|finding| !finding.audit_only) {
            self.findings.insert(finding.to_string());
            for suggested in finding.remedy.iter().flat_map(|remedy| &remedy.commands) {
                let command = &suggested.command;
                self.commands.entry(source).or_default().insert(command.to_string());
                if let Some(wrong) = wrong_there(command, situation) {
                    self.wrong.insert(format!("{source}, {}: {command}", finding.rule), wrong);
                }
            }
        }
    }

    /// Walks the commands that a text shows.
    fn text(&mut self, source: &'static str, name: &str, text: &str) {
        for line in pages::commands(text) {
            let Some(programs) = pages::programs(&line) else {
                self.wrong.insert(format!("{source}, {name}: {line}"), "no shell reads it".into());
                continue;
            };
            for argv in programs {
                if let Some(wrong) = wrong(&argv) {
                    self.wrong.insert(format!("{source}, {name}: {line}"), wrong);
                }
            }
            self.commands.entry(source).or_default().insert(line);
        }
    }
}

/// Adds the commands of the whole help: of the verbs, and of those below them.
fn help(command: &mut clap::Command, found: &mut Vec<(String, String)>) {
    let text = command.render_long_help().to_string();
    // The usage is a form, and no command.
    let (before, rest) = text.split_once("Usage:").unwrap();
    let (_, after) = rest.split_once("\n\n").unwrap();
    found.push((command.get_name().to_owned(), format!("{before}{after}")));
    for below in command.get_subcommands_mut() {
        help(below, found);
    }
}

/// Returns the name and the long help of the program and of every verb.
pub(crate) fn helps() -> Vec<(String, String)> {
    let mut command = Cli::command_as(None).term_width(usize::MAX);
    command.build();
    let mut found = Vec::new();
    help(&mut command, &mut found);
    found
}

/// The walk, which both tests below look at.
static WALK: LazyLock<Walk> = LazyLock::new(|| {
    let mut walk = Walk::default();
    let tables = of_tables();
    walk.situations("tables", &tables);
    walk.plans("plans of tables", &tables);
    // A finding that becomes evidence of leader-condemned stands alone where a platform lowers that
    // rule.
    let folded = |(facts, policies): &&Situation| {
        *policies == Policies::default() && !evaluate(facts, policies).folded.is_empty()
    };
    let lower: Vec<_> =
        tables.iter().filter(folded).map(|(facts, _)| (facts.clone(), lowered())).collect();
    walk.situations("tables, leader-condemned lowered", &lower);
    let scenarios = of_scenarios();
    walk.situations("scenarios", &scenarios);
    walk.plans("plans of scenarios", &scenarios);
    walk.situations("by chance", &by_chance(BY_CHANCE));
    for (name, text) in helps() {
        walk.text("help", &name, &text);
    }
    for rule in RULES {
        walk.text("rule pages", rule.id.as_str(), rule.page);
    }
    for (name, text) in pages::documentation() {
        walk.text("documentation", &name, &text);
    }
    walk
});

#[test]
fn every_suggested_command_works() {
    let walk = &*WALK;
    let all: BTreeSet<_> = walk.commands.values().flatten().collect();
    println!("{} distinct commands in all", all.len());
    let wrong: Vec<String> =
        walk.wrong.iter().map(|(command, wrong)| format!("{command}\n    {wrong}")).collect();
    assert!(wrong.is_empty(), "{} do not work:\n{}", wrong.len(), wrong.join("\n"));
    for (source, least) in [
        ("tables", 40),
        ("plans of tables", 30),
        ("tables, leader-condemned lowered", 8),
        ("scenarios", 25),
        ("plans of scenarios", 15),
        ("by chance", 40),
        ("help", 45),
        ("rule pages", 10),
        ("documentation", 30),
    ] {
        let walked = walk.commands.get(source).map_or(0, BTreeSet::len);
        println!("{source}: {walked} distinct commands");
        assert!(walked >= least, "{source}: only {walked} commands");
    }
}

#[test]
fn findings_and_help_are_in_plain_english() {
    let mut found: BTreeSet<String> = BTreeSet::new();
    for (name, text) in helps() {
        found.extend(avoided(&format!("help of {name}"), &prose(&text)));
    }
    for text in &WALK.findings {
        let (rule, _) = text.split_once(':').unwrap();
        found.extend(avoided(rule, &prose(text)).iter().map(|found| format!("{found}: {text}")));
    }
    let found: Vec<String> = found.into_iter().collect();
    assert!(found.is_empty(), "say it in other words:\n{}", found.join("\n"));
    println!("{} distinct findings", WALK.findings.len());
}

#[test]
fn placeholders_are_the_words_of_our_help() {
    let mut command = Cli::command();
    command.build();
    let verbs: Vec<&clap::Command> = command.get_subcommands().collect();
    let below = verbs.iter().flat_map(|verb| verb.get_subcommands());
    let all = std::iter::once(&command).chain(verbs.iter().copied()).chain(below);
    let names: BTreeSet<String> = all
        .flat_map(clap::Command::get_arguments)
        .flat_map(|argument| argument.get_value_names().unwrap_or_default().to_vec())
        .flat_map(|name| {
            let words = name.split(|c: char| !c.is_ascii_uppercase());
            words.map(str::to_owned).collect::<Vec<_>>()
        })
        .collect();
    for (placeholder, _) in PLACEHOLDERS {
        assert!(names.contains(*placeholder), "help has no {placeholder}: {names:?}");
    }
}

#[test]
fn commands_that_do_not_work_are_seen() {
    let words = |line: &str| shlex::split(line).unwrap();
    for line in [
        "kubectl pgscale set acid-a",
        "kubectl pgscale grow acid-a",
        "kubectl pgscale down acid-a --to few",
        "kubectl get pods",
        "kubectl get podz -n db",
        "kubectl gett pods -n db",
        "kubectl exec acid-a-0 -n db patronictl list",
        "rm -rf /",
    ] {
        assert!(wrong(&words(line)).is_some(), "{line}");
    }
    for line in [
        "kubectl pgscale set NAME N",
        "kubectl pgscale status --help",
        "kubectl get pods,statefulset -n db",
        "kubectl annotate configmap/acid-a-failover leader- -n db",
        "kubectl exec acid-a-0 -n db -c postgres -- patronictl list",
    ] {
        assert_eq!(wrong(&words(line)), None, "{line}");
    }
    // A count that is refused.
    let facts = pgscale_guard::testing::healthy(5, 2);
    let set = Command::kubectl(["pgscale", "set", "acid-a", "0", "-n", "db"]);
    let wrong = wrong_there(&set, &(facts, Policies::default())).unwrap();
    assert!(wrong.contains("is taken to ask for None"), "{wrong}");
}
