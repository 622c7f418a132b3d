//! Pages of the documentation with a generated part, between two markers.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

/// Replaces the part of `file` between the markers, or makes the file.
///
/// # Errors
/// Fails when it cannot be written.
pub fn write(file: &Path, (begin, end): (&str, &str), text: &str) -> Result<()> {
    let generated = format!("{begin}\n\n{text}\n{end}\n");
    let old = fs::read_to_string(file).unwrap_or_default();
    let new = match (old.split_once(begin), old.split_once(end)) {
        (Some((before, _)), Some((_, after))) => {
            format!("{before}{generated}{}", after.trim_start_matches('\n'))
        }
        _ => generated,
    };
    fs::write(file, new).with_context(|| format!("failed to write {}", file.display()))
}

/// The beginning of a section.
const SECTION: &str = "\n### ";

/// Replaces, in the part of `file` between the markers, the sections that `text` has too, and adds
/// the others at its end. What comes before the first section of `text` is left out.
///
/// # Errors
/// Fails when the file cannot be read or written, or has no such part.
pub fn update(file: &Path, markers: (&str, &str), text: &str) -> Result<()> {
    let (begin, end) = markers;
    let old =
        fs::read_to_string(file).with_context(|| format!("failed to read {}", file.display()))?;
    let part = old.split_once(begin).and_then(|(_, rest)| rest.split_once(end));
    let (part, _) = part.with_context(|| format!("{} has no generated part", file.display()))?;
    let (head, mut sections) = sections(part.trim());
    let (_, new) = self::sections(text);
    for (title, body) in new {
        match sections.iter_mut().find(|(known, _)| *known == title) {
            Some((_, known)) => *known = body,
            None => sections.push((title, body)),
        }
    }
    let mut text = head.trim_end().to_owned();
    for (title, body) in sections {
        _ = write!(text, "\n{SECTION}{title}\n\n{}", body.trim());
    }
    text.push('\n');
    write(file, markers, &text)
}

/// Returns what comes before the first section, and each section with its title.
fn sections(text: &str) -> (&str, Vec<(&str, &str)>) {
    let mut parts = text.split(SECTION);
    let head = parts.next().unwrap_or_default();
    let titled = parts.map(|part| part.split_once('\n').unwrap_or((part, "")));
    (head, titled.collect())
}

/// Returns the commit of the working directory, with a mark where files are changed.
pub fn commit() -> String {
    let git = Command::new("git")
        .args(["describe", "--always", "--dirty", "--exclude=*"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output();
    let text = git.ok().filter(|output| output.status.success()).map(|output| output.stdout);
    let text = text.and_then(|text| String::from_utf8(text).ok()).unwrap_or_default();
    if text.trim().is_empty() { "unknown".to_owned() } else { text.trim().to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_generated_part_of_the_document_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("page.md");
        let (begin, end) = ("<!-- begin -->", "<!-- end -->");
        fs::write(&file, format!("# Title\n\n{begin}\n\nold\n\n{end}\n\n## After\n")).unwrap();
        write(&file, (begin, end), "new\n").unwrap();
        write(&file, (begin, end), "newer\n").unwrap();
        let text = fs::read_to_string(&file).unwrap();
        assert_eq!(text, format!("# Title\n\n{begin}\n\nnewer\n\n{end}\n## After\n"));
    }

    #[test]
    fn only_the_sections_that_were_made_are_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("page.md");
        let markers = ("<!-- begin -->", "<!-- end -->");
        let before = "One run.\n\n### A\n\nold a\n\n### B\n\nold b\n";
        write(&file, markers, before).unwrap();
        update(&file, markers, "Another run.\n\n### B\n\nnew b\n\n### C\n\nnew c\n").unwrap();
        let text = fs::read_to_string(&file).unwrap();
        let after = "One run.\n\n### A\n\nold a\n\n### B\n\nnew b\n\n### C\n\nnew c\n";
        assert_eq!(text, format!("<!-- begin -->\n\n{after}\n<!-- end -->\n"));
        update(&file, markers, after).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), text, "it is the same again");
    }

    #[test]
    fn file_without_the_part_is_not_updated() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("page.md");
        fs::write(&file, "# Title\n").unwrap();
        assert!(update(&file, ("<!-- begin -->", "<!-- end -->"), "### A\n").is_err());
        assert_eq!(fs::read_to_string(&file).unwrap(), "# Title\n");
    }
}
