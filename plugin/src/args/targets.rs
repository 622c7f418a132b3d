//! The cluster, or the clusters, that a command is about.

use clap::Args;

/// NAME: the cluster.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Target {
    /// The cluster: NAME, pg/NAME or postgresql/NAME.
    #[arg(value_name = "NAME", value_parser = cluster_name)]
    pub(crate) name: String,
}

/// The cluster, or the clusters.
#[derive(Args, Clone, Debug)]
pub(crate) struct Targets {
    /// The cluster: NAME, pg/NAME or postgresql/NAME.
    #[arg(value_name = "NAME", value_parser = cluster_name,
        required_unless_present_any = ["selector", "all_namespaces", "all"],
        conflicts_with_all = ["selector", "all_namespaces", "all"])]
    pub(crate) name: Option<String>,
    /// All clusters with these labels.
    #[arg(short = 'l', long, value_name = "LABELS", value_parser = labels,
        group = "which", help_heading = "Several clusters")]
    pub(crate) selector: Option<String>,
    /// All clusters, whatever their labels are.
    #[arg(long, group = "which", help_heading = "Several clusters")]
    pub(crate) all: bool,
    /// Those of all namespaces; needs -l or --all.
    #[arg(short = 'A', long, requires = "which", help_heading = "Several clusters")]
    pub(crate) all_namespaces: bool,
    /// Clusters that are changed at a time.
    #[arg(long, value_name = "N", default_value = "1", value_parser = at_a_time,
        help_heading = "Several clusters")]
    pub(crate) max_parallel: usize,
    /// Begin nothing if one is refused, end at a failure.
    ///
    /// Nothing is begun if any cluster's change is refused, and nothing more after one failed.
    #[arg(long, help_heading = "Several clusters")]
    pub(crate) stop_on_error: bool,
}

impl Targets {
    /// Returns the cluster `name` alone.
    pub(crate) fn one(name: String) -> Self {
        Self {
            name: Some(name),
            selector: None,
            all: false,
            all_namespaces: false,
            max_parallel: 1,
            stop_on_error: false,
        }
    }
}

/// Reads the labels of clusters to change. None at all would choose every cluster, as an unset
/// variable of a script does.
fn labels(word: &str) -> Result<String, String> {
    if word.trim().is_empty() {
        return Err("it is empty, and would choose every cluster".to_owned());
    }
    Ok(word.to_owned())
}

fn at_a_time(word: &str) -> Result<usize, String> {
    match word.parse() {
        Ok(0) | Err(_) => Err("it is not a number of clusters, 1 or more".to_owned()),
        Ok(number) => Ok(number),
    }
}

/// Reads `acid-a`, `pg/acid-a`, `postgresql/acid-a` or the name `-o name` prints.
pub(crate) fn cluster_name(word: &str) -> Result<String, String> {
    let name = match word.split_once('/') {
        None => word,
        Some((kind, name)) => {
            let kind = kind.to_ascii_lowercase();
            let kind = kind.strip_suffix(".acid.zalan.do").unwrap_or(&kind);
            if !matches!(kind, "pg" | "postgresql" | "postgresqls") {
                return Err(format!(
                    "{kind:?} is not a kind this command knows; use postgresql/NAME"
                ));
            }
            name
        }
    };
    let allowed = |character: char| {
        character.is_ascii_lowercase() || character.is_ascii_digit() || "-.".contains(character)
    };
    if name.is_empty() || !name.chars().all(allowed) {
        return Err(format!("{name:?} cannot be the name of a cluster"));
    }
    Ok(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::cluster_name;

    #[test]
    fn a_cluster_has_several_spellings() {
        for word in ["acid-a", "pg/acid-a", "postgresql/acid-a", "postgresql.acid.zalan.do/acid-a"]
        {
            assert_eq!(cluster_name(word).as_deref(), Ok("acid-a"), "{word}");
        }
    }
}
