//! Pages of the documentation with a generated part, between two markers.

use std::fs;
use std::path::Path;

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
}
