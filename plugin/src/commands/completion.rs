//! `completion`: scripts that make a shell complete our command line.

use clap::ValueEnum;
use clap_complete::env::Shells;

use crate::error::Failure;
use crate::terminal::Output;

mod install;

/// The name of the executable that kubectl runs for completions.
pub(crate) const FOR_KUBECTL: &str = "kubectl_complete-pgscale";

/// The program's own name, by which shells choose the completion.
pub(crate) const PROGRAM: &str = "kubectl-pgscale";

/// The variable that the scripts set to the name of the shell, where the shell asks for the
/// possible words.
pub(crate) const VARIABLE: &str = "KUBECTL_PGSCALE_COMPLETE";

/// Make a shell complete our command line.
///
/// `kubectl pgscale` is completed by kubectl's own completion: it asks an executable
/// `kubectl_complete-pgscale` in PATH, which is this very program under another name (kubectl 1.26
/// and later). `completion install` puts that name beside this program. For a shell, the script that
/// makes it complete `kubectl-pgscale` is printed.
///
/// Clusters, namespaces, contexts, members and counts are looked up when they are asked for; the
/// script belongs to the version that printed it, so let the shell ask for it at each start.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  kubectl pgscale completion install
  source <(kubectl-pgscale completion bash)   # ~/.bashrc
  source <(kubectl-pgscale completion zsh)    # ~/.zshrc
  kubectl-pgscale completion fish | source
  kubectl-pgscale completion powershell | Out-String | Invoke-Expression")]
pub(crate) struct Args {
    /// The shell, or install.
    #[arg(value_name = "SHELL", value_enum)]
    shell: Shell,
}

/// A shell that can complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shell {
    /// The Bourne-again shell.
    Bash,
    /// The friendly interactive shell.
    Fish,
    /// No shell: let kubectl's own completion ask this program.
    Install,
    /// Microsoft's shell, on any system.
    Powershell,
    /// The Z shell.
    Zsh,
}

/// Prints the completion script of a shell.
pub(crate) fn run(args: &Args, out: &Output) -> Result<(), Failure> {
    let shell = match args.shell {
        Shell::Bash => "bash",
        Shell::Fish => "fish",
        Shell::Install => return install::run(out),
        Shell::Powershell => "powershell",
        Shell::Zsh => "zsh",
    };
    out.data(&script(shell)?)
}

/// Returns the script that makes `shell` complete us.
pub(crate) fn script(shell: &str) -> Result<String, Failure> {
    let shells = Shells::builtins();
    let shell = shells
        .completer(shell)
        .ok_or_else(|| Failure::usage(format!("no script is known for the shell {shell}")))?;
    let mut script = Vec::new();
    shell.write_registration(VARIABLE, PROGRAM, PROGRAM, PROGRAM, &mut script)?;
    Ok(String::from_utf8_lossy(&script).trim().to_owned())
}
