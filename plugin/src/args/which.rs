//! The clusters that a command looks at: by name, or by labels.

use clap::Args;

use super::cluster_name;

/// One cluster or several, by name or by labels.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Which {
    /// The clusters: NAME, pg/NAME or postgresql/NAME.
    #[arg(value_name = "NAME", value_parser = cluster_name,
        required_unless_present_any = ["selector", "all_namespaces"],
        conflicts_with_all = ["selector", "all_namespaces"])]
    pub(crate) name: Vec<String>,
    /// All clusters with these labels.
    #[arg(short = 'l', long, value_name = "LABELS")]
    pub(crate) selector: Option<String>,
    /// Clusters of all namespaces.
    #[arg(short = 'A', long)]
    pub(crate) all_namespaces: bool,
}

/// The form of a table of clusters, as in `kubectl get`.
///
/// Each word changes the table only. Documents are not changed by it.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Listing {
    /// Print the table without its first line.
    #[arg(long)]
    pub(crate) no_headers: bool,
    /// Order of the table, by a path.
    ///
    /// A path into the JSON document, such as .metadata.name.
    #[arg(long, value_name = "PATH", conflicts_with = "watch")]
    pub(crate) sort_by: Option<String>,
    /// Print labels in a last column.
    #[arg(long)]
    pub(crate) show_labels: bool,
    /// A cluster that is not there is no error.
    #[arg(long)]
    pub(crate) ignore_not_found: bool,
}
