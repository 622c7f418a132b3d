//! `completion install`: the name under which kubectl asks this program.

use std::io;
use std::path::{Path, PathBuf};

use super::{FOR_KUBECTL, PROGRAM};
use crate::error::Failure;
use crate::terminal::Output;

/// Puts the name beside this program.
pub(super) fn run(out: &Output) -> Result<(), Failure> {
    let itself = std::env::current_exe()
        .map_err(|error| Failure::error(format!("this program does not find itself: {error}")))?;
    let program = in_path(std::env::var_os("PATH").unwrap_or_default().as_ref(), &itself);
    let said = install(&program.unwrap_or(itself))?;
    out.said(&said)?;
    out.note(
        "kubectl's own completion asks it, once that is on, as by: source <(kubectl completion bash)",
    );
    Ok(())
}

/// Returns the place in `PATH` at which kubectl finds this program. A package manager may keep a
/// link there.
fn in_path(path: &std::ffi::OsStr, itself: &Path) -> Option<PathBuf> {
    let file = format!("{PROGRAM}{}", std::env::consts::EXE_SUFFIX);
    let real = itself.canonicalize().ok()?;
    std::env::split_paths(path)
        .map(|folder| folder.join(&file))
        .find(|candidate| candidate.canonicalize().is_ok_and(|found| found == real))
}

/// Puts the name beside `program`, and returns what was done.
fn install(program: &Path) -> Result<String, Failure> {
    let name = program.with_file_name(format!("{FOR_KUBECTL}{}", std::env::consts::EXE_SUFFIX));
    let shown = name.display();
    let real = |path: &Path| path.canonicalize().ok();
    match name.symlink_metadata() {
        Ok(_) if real(&name).is_some() && real(&name) == real(program) => {
            return Ok(format!("{shown} is there already"));
        }
        // A link that led to an earlier version.
        Ok(there) if there.is_symlink() => {
            std::fs::remove_file(&name).map_err(|error| refused(program, &name, &error))?;
        }
        Ok(_) => {
            return Err(Failure::error(format!("{shown} is there, and is another program"))
                .hint("move it away, or name its folder behind this one in PATH"));
        }
        Err(_) => {}
    }
    link(program, &name).map_err(|error| refused(program, &name, &error))?;
    Ok(format!("{shown} installed"))
}

fn refused(program: &Path, name: &Path, error: &io::Error) -> Failure {
    let (from, to) = (program.to_string_lossy(), name.to_string_lossy());
    let command = shlex::try_join(["ln", "-sf", from.as_ref(), to.as_ref()]).unwrap_or_default();
    Failure::error(format!("{to} cannot be made: {error}"))
        .hint(format!("as a user who may write there: {command}"))
}

#[cfg(unix)]
fn link(program: &Path, name: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(program, name)
}

/// Links may need a privilege elsewhere. A second name of the same file does not.
#[cfg(not(unix))]
fn link(program: &Path, name: &Path) -> io::Result<()> {
    std::fs::hard_link(program, name)
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn completion_is_installed_beside_the_program_once() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join(PROGRAM);
        std::fs::write(&program, "").unwrap();
        let name = folder.path().join(FOR_KUBECTL);
        assert!(install(&program).unwrap().ends_with("installed"));
        assert_eq!(name.canonicalize().unwrap(), program.canonicalize().unwrap());
        assert!(install(&program).unwrap().ends_with("is there already"));
        // An earlier version that is gone.
        std::fs::remove_file(&name).unwrap();
        std::os::unix::fs::symlink(folder.path().join("gone"), &name).unwrap();
        assert!(install(&program).unwrap().ends_with("installed"));
        std::fs::remove_file(&name).unwrap();
        std::fs::write(&name, "another").unwrap();
        let failure = install(&program).unwrap_err().to_string();
        assert!(failure.contains("is another program"), "{failure}");
        assert_eq!(std::fs::read_to_string(&name).unwrap(), "another");
    }

    #[test]
    fn link_of_a_package_manager_in_path_is_the_place() {
        let folder = tempfile::tempdir().unwrap();
        let (store, bin) = (folder.path().join("store"), folder.path().join("bin"));
        std::fs::create_dir_all(&store).unwrap();
        std::fs::create_dir_all(&bin).unwrap();
        let program = store.join("kubectl-pgscale-v1");
        std::fs::write(&program, "").unwrap();
        std::os::unix::fs::symlink(&program, bin.join(PROGRAM)).unwrap();
        let path = std::env::join_paths([&store, &bin]).unwrap();
        assert_eq!(in_path(&path, &program), Some(bin.join(PROGRAM)));
        assert_eq!(in_path(store.as_os_str(), &program), None);
    }
}
