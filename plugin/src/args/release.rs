//! The flags of an installation: the Helm release, and the values of the chart.

use clap::{Args, ValueEnum};

/// The longest name of a release (`pkg/chart/common/util` of helm).
const LONGEST: usize = 53;

/// `--release`.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct ReleaseFlag {
    /// Helm release; pgscale or the installed one when unset.
    ///
    /// Its namespace is that of -n, or else the installed one's, or else pgscale-system.
    #[arg(long, value_name = "NAME", value_parser = release)]
    pub(crate) release: Option<String>,
}

/// The values of the chart, as helm takes them.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct ChartValues {
    /// File with values of the chart, as in helm; repeatable.
    #[arg(short = 'f', long = "values", value_name = "FILE", value_parser = file)]
    files: Vec<String>,
    /// One value of the chart, as in helm; repeatable.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// The same, always as text.
    #[arg(long, value_name = "KEY=VALUE", hide_short_help = true)]
    set_string: Vec<String>,
}

impl ChartValues {
    /// Returns the words for helm. Each is one word with its flag, so that no value is taken for
    /// another flag.
    pub(crate) fn words(&self) -> Vec<String> {
        let of = |flag: &str, values: &[String]| {
            values.iter().map(|value| format!("--{flag}={value}")).collect::<Vec<_>>()
        };
        [of("values", &self.files), of("set", &self.set), of("set-string", &self.set_string)]
            .concat()
    }
}

/// The dry run of an installation, if it is one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Rehearsal {
    /// It is done.
    #[default]
    None,
    /// Only the plan or the manifests are shown.
    Client,
}

fn release(word: &str) -> Result<String, String> {
    let part = |part: &str| {
        let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        !part.is_empty()
            && part.chars().all(inner)
            && !part.starts_with('-')
            && !part.ends_with('-')
    };
    if word.len() > LONGEST {
        return Err(format!("it is longer than {LONGEST} characters"));
    }
    if word.split('.').all(part) {
        return Ok(word.to_owned());
    }
    Err("a release has a name of a-z, 0-9, - and .".to_owned())
}

fn file(word: &str) -> Result<String, String> {
    match word {
        "" => Err("it is empty".to_owned()),
        "-" => Err("helm gets no stdin here: name a file".to_owned()),
        // helm takes several in one word.
        word => Ok(word.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_of_a_release_is_one_that_helm_takes_and_no_flag() {
        for good in ["pgscale", "a", "pg-scale.2", "0a"] {
            assert_eq!(release(good), Ok(good.to_owned()));
        }
        for bad in ["", "-x", "x-", "Pg", "a/b", "a..b", "--all", &"a".repeat(54)] {
            assert!(release(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn each_value_is_one_word_with_its_flag() {
        let values = ChartValues {
            files: vec!["--my values.yaml".to_owned()],
            set: vec!["a=b,c=d".to_owned(), "--debug".to_owned()],
            set_string: vec!["e=1".to_owned()],
        };
        let want =
            ["--values=--my values.yaml", "--set=a=b,c=d", "--set=--debug", "--set-string=e=1"];
        assert_eq!(values.words(), want);
        assert!(file("-").is_err() && file("").is_err());
    }
}
