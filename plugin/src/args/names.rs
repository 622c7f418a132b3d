//! Names of Kubernetes, and templates of them.

/// What stands for the name in a template.
pub(crate) const NAME_IN_TEMPLATE: &str = "{name}";

/// The longest name of a namespace (a label of DNS, RFC 1123), which a cluster's name keeps to as
/// well: the operator makes Services of it.
const LABEL: usize = 63;

/// Returns whether it is a label of DNS.
pub(crate) fn is_label(word: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    word.len() <= LABEL
        && !word.is_empty()
        && word.bytes().all(allowed)
        && !word.starts_with('-')
        && !word.ends_with('-')
}

/// Reads a template.
pub(crate) fn name_template(word: &str) -> Result<String, String> {
    if !is_label(&word.replace(NAME_IN_TEMPLATE, "a")) {
        return Err(format!("with a name for {NAME_IN_TEMPLATE} it is no name of DNS"));
    }
    Ok(word.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_make_names() {
        for (word, well) in [
            ("{name}-cluster", true),
            ("db", true),
            ("{namen}", false),
            ("-{name}", false),
            ("", false),
        ] {
            assert_eq!(name_template(word).is_ok(), well, "{word}");
        }
    }
}
