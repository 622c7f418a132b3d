//! `rbac`: Roles that grant what commands need.

use clap::builder::PossibleValuesParser;
use pgscale_guard::remedy::{Command, Remedy};

use crate::args::Shape;
use crate::connect::Flags;
use crate::error::Failure;
use crate::permissions::grants::{Grant, Namespaces, commands, grants};
use crate::terminal::{Format, Output};

/// Print the Roles that a command needs, ready for `kubectl apply`.
///
/// Made from the table by which commands check their permissions, the optional ones included: the
/// help of each verb says what each is for. Objects without a namespace, and operators outside of the
/// namespace, need a `ClusterRole`. Nothing is read from a cluster and nothing is written. Bind each
/// Role to the users.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  kubectl pgscale rbac status -n db
  kubectl pgscale rbac -n db | kubectl apply -f -")]
pub(crate) struct Args {
    /// The verb; all of them when unset.
    #[arg(value_name = "VERB", value_parser = PossibleValuesParser::new(commands()))]
    command: Option<String>,
    #[command(flatten)]
    shape: Shape,
}

/// Prints the Roles.
pub(crate) fn run(args: &Args, flags: &Flags, out: &Output) -> Result<(), Failure> {
    let operator = flags.operator.as_ref().map(|operator| operator.namespace.as_str());
    let namespaces = Namespaces { clusters: flags.namespace.as_deref(), operator };
    let grants = grants(args.command.as_deref(), namespaces);
    match args.shape.output {
        Format::Name => {
            let names: Vec<String> = grants.iter().map(Grant::resource).collect();
            out.data(&names.join("\n"))?;
        }
        Format::Json => {
            let list = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": grants});
            out.document(Format::Json, &list)?;
        }
        Format::Text | Format::Wide | Format::Yaml => {
            let texts: Result<Vec<String>, _> = grants.iter().map(yaml).collect();
            out.data(&texts?.join("---\n"))?;
        }
    }
    let bound: Vec<Command> = grants.iter().map(|grant| binding(grant, flags)).collect();
    for command in bound {
        out.advice("bind it:", &Remedy::from(command));
    }
    Ok(())
}

fn yaml(grant: &Grant) -> Result<String, Failure> {
    serde_saphyr::to_string(grant)
        .map_err(|error| Failure::error(format!("failed to write YAML: {error}")))
}

/// Returns the command that gives a Role to a user.
fn binding(grant: &Grant, flags: &Flags) -> Command {
    let words = |kind: &str, name: &str, role: String| {
        let words = ["create", kind, name].map(str::to_owned).into_iter();
        words.chain([role, "--user=ME".to_owned()]).collect::<Vec<_>>()
    };
    match grant {
        Grant::Everywhere(role) => {
            let name = role.metadata.name.clone().unwrap_or_default();
            Command::kubectl(words("clusterrolebinding", &name, format!("--clusterrole={name}")))
        }
        Grant::Local(role) => {
            let name = role.metadata.name.clone().unwrap_or_default();
            let namespace = role.metadata.namespace.as_deref().or(flags.namespace.as_deref());
            let mut words = words("rolebinding", &name, format!("--role={name}"));
            words.extend(["-n".to_owned(), namespace.unwrap_or("NAMESPACE").to_owned()]);
            Command::kubectl(words)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;
    use crate::terminal::testing::Screen;

    fn screen(line: &str) -> Screen {
        let screen = Screen::default();
        let cli = Cli::of(format!("kubectl-pgscale {line}").split_whitespace()).unwrap();
        let crate::cli::Verb::Rbac(args) = cli.verb else { panic!("{line}") };
        run(&args, &cli.connection.into(), &screen.output(None)).unwrap();
        screen
    }

    #[test]
    fn roles_of_a_reader_are_ready_to_apply() {
        let screen = screen("rbac history -n db");
        insta::assert_snapshot!(screen.stdout(), @r#"
        apiVersion: rbac.authorization.k8s.io/v1
        kind: Role
        metadata:
          name: pgscale-history
          namespace: db
        rules:
        - apiGroups:
          - acid.zalan.do
          resources:
          - postgresqls
          verbs:
          - get
          - list
        - apiGroups:
          - ""
          resources:
          - configmaps
          verbs:
          - get
        "#);
        insta::assert_snapshot!(screen.stderr(), @"
        bind it:
            kubectl create rolebinding pgscale-history --role=pgscale-history --user=ME -n db
        ");
    }

    #[test]
    fn operator_of_the_flag_decides_the_place_of_its_role() {
        let json = screen("rbac plan --operator=ops/op -o json").stdout();
        let list: serde_json::Value = serde_json::from_str(&json).unwrap();
        let places: Vec<&str> = list["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|role| role["metadata"]["namespace"].as_str().unwrap_or("-"))
            .collect();
        assert_eq!(places, ["-", "-", "ops", "kube-public"]);
        assert_eq!(list["items"][0]["kind"], "Role");
        assert_eq!(list["items"][1]["kind"], "ClusterRole");
    }
}
