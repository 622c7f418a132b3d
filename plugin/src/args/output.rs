//! Colour, and the shape of the output on stdout.

use std::ffi::OsStr;

use clap::builder::{EnumValueParser, PossibleValue, TypedValueParser};
use clap::{ArgMatches, ValueEnum};

use crate::terminal::expression::Expression;
use crate::terminal::{Color, Format};

impl ValueEnum for Color {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self::Auto, Self::Always, Self::Never]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        let (word, help) = match self {
            Self::Auto => ("auto", "Colour on a terminal"),
            Self::Always => ("always", "Colour, whatever the output is"),
            Self::Never => ("never", "No colour"),
        };
        Some(PossibleValue::new(word).help(help))
    }
}

impl ValueEnum for Format {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self::Text, Self::Wide, Self::Json, Self::Yaml, Self::Name]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        let (word, help) = match self {
            Self::Text => ("text", "For people"),
            Self::Wide => ("wide", "For people, with more columns"),
            Self::Json => ("json", "A versioned JSON object"),
            Self::Yaml => ("yaml", "The same as YAML"),
            Self::Name => ("name", "Only the name, such as `postgresql.acid.zalan.do/NAME`"),
        };
        Some(PossibleValue::new(word).help(help))
    }
}

/// `-o`.
#[derive(clap::Args, Clone, Copy, Debug, Default)]
pub(crate) struct Shape {
    /// Output: text, wide, json, yaml, name.
    ///
    /// Besides those named, jsonpath=TEMPLATE and custom-columns=HEADER:PATH,... print parts of the
    /// JSON document, as kubectl does.
    #[arg(short, long, default_value = "text", value_name = "FORMAT", value_parser = FormatParser)]
    pub(crate) output: Format,
}

/// The parser of `-o`. An expression chooses the printed parts of the JSON document, so every
/// command takes it as that format. The expression itself goes from [`expression`] straight to the
/// output.
#[derive(Clone, Copy)]
struct FormatParser;

impl TypedValueParser for FormatParser {
    type Value = Format;

    fn parse_ref(
        &self,
        command: &clap::Command,
        arg: Option<&clap::Arg>,
        value: &OsStr,
    ) -> Result<Format, clap::Error> {
        match value.to_str().and_then(Expression::of) {
            None => EnumValueParser::<Format>::new().parse_ref(command, arg, value),
            Some(Ok(_)) => Ok(Format::Json),
            Some(Err(why)) => {
                let name = arg.map(ToString::to_string).unwrap_or_default();
                let words = value.to_string_lossy();
                let text = format!(
                    "invalid value '{words}' for '{name}': {why}\n\nFor more information, try '--help'.\n"
                );
                Err(clap::Error::raw(clap::error::ErrorKind::ValueValidation, text)
                    .with_cmd(command))
            }
        }
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(Format::value_variants().iter().filter_map(Format::to_possible_value)))
    }
}

/// Returns the expression among the arguments of the verb, if there is one.
pub(crate) fn expression(matches: &ArgMatches) -> Option<Expression> {
    let (_, verb) = matches.subcommand()?;
    let word = verb.try_get_raw("output").ok().flatten().and_then(|mut words| words.next());
    let own = word.and_then(OsStr::to_str).and_then(Expression::of).and_then(Result::ok);
    own.or_else(|| expression(verb))
}
