//! Texts that a person reads are in plain English: some words of our old dialect are not used (`CONTRIBUTING.md`, "How we
//! write").

/// Words and phrases that are not used, in lower case.
pub const AVOIDED: &[&str] = &[
    "whoever",
    "nobody",
    "somebody",
    "anew",
    "told",
    "heard",
    "shall",
    "of it",
    "by its own word",
];

/// Returns the text without what stands between backticks: commands, and the output of programs.
pub fn prose(markdown: &str) -> String {
    let (mut fenced, mut code) = (false, false);
    let mut kept = String::new();
    for line in markdown.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            // Code between backticks may go on in the next line, and ends with the paragraph.
            code &= !line.trim().is_empty();
            for (nth, part) in line.split('`').enumerate() {
                code ^= nth > 0;
                kept.push_str(if code { "`" } else { part });
            }
        }
        kept.push('\n');
    }
    kept
}

/// Returns a line for every avoided word in `text`, with the number of its line; a phrase is found
/// across a line break as well.
pub fn avoided(name: &str, text: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let parts = line.split(|char: char| !char.is_alphanumeric() && char != '\'');
        words.extend(parts.filter(|word| !word.is_empty()).map(|word| (number + 1, word)));
    }
    let mut found = Vec::new();
    for phrase in AVOIDED {
        let phrase: Vec<&str> = phrase.split(' ').collect();
        for window in words.windows(phrase.len()) {
            let same =
                window.iter().map(|(_, word)| word.to_lowercase()).eq(phrase.iter().copied());
            if let (true, Some((line, _))) = (same, window.first()) {
                found.push(format!("{name}, line {line}: {:?}", phrase.join(" ")));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn avoided_words_are_found_and_others_are_not() {
        for (text, line) in [
            ("Nobody leads.", 1),
            ("a\nb told c", 2),
            ("what comes of\nit", 1),
            ("lock, label and (by its\nown word) SQL", 1),
            ("(shall)", 1),
            ("`a\nb` nobody", 2),
            ("a ` b\n\nnobody", 3),
        ] {
            let found = avoided("page", &prose(text));
            assert_eq!(found.len(), 1, "{text}: {found:?}");
            assert!(
                found.concat().starts_with(&format!("page, line {line}: ")),
                "{text}: {found:?}"
            );
        }
        for text in
            ["of its own", "shallow", "untold", "of `it`", "`a\nnobody`", "```\nnobody\n```"]
        {
            assert_eq!(avoided("page", &prose(text)), Vec::<String>::new(), "{text}");
        }
    }
}
