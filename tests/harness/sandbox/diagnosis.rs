//! The reason why this machine does not allow a sandbox, and the command that helps.

use std::fs;
use std::path::PathBuf;

use anyhow::{Result, anyhow};

use super::path_with_sbin;

/// A kernel setting that forbids user namespaces, and the value that allows them.
struct Setting {
    /// Its name for `sysctl`.
    name: &'static str,
    /// The value that forbids.
    forbids: &'static str,
    /// A value that allows.
    allows: &'static str,
}

/// Debian's patch, Ubuntu's AppArmor rule since 23.10 (on by default on hosted CI runners), and the
/// kernel's own limit.
const SETTINGS: [Setting; 3] = [
    Setting { name: "kernel.unprivileged_userns_clone", forbids: "0", allows: "1" },
    Setting { name: "kernel.apparmor_restrict_unprivileged_userns", forbids: "1", allows: "0" },
    Setting { name: "user.max_user_namespaces", forbids: "0", allows: "15000" },
];

/// Finds `program` in `PATH` and in the directories that distributions leave out of an ordinary
/// user's `PATH`.
pub(super) fn find(program: &str) -> Result<PathBuf> {
    std::env::split_paths(&path_with_sbin())
        .map(|directory| directory.join(program))
        .find(|path| path.is_file())
        .ok_or_else(|| {
            anyhow!(
                "the test bed needs the program `{program}`, which is not installed; \
                 install it with `apt-get install util-linux iproute2` \
                 or `dnf install util-linux iproute`"
            )
        })
}

/// Explains why `unshare` failed with `stderr`, with the command that helps.
pub(super) fn explain(stderr: &str) -> anyhow::Error {
    let forbidding = SETTINGS.iter().find(|setting| {
        let path = format!("/proc/sys/{}", setting.name.replace('.', "/"));
        fs::read_to_string(path).is_ok_and(|value| value.trim() == setting.forbids)
    });
    anyhow!("{}", explanation(stderr, forbidding))
}

fn explanation(stderr: &str, forbidding: Option<&Setting>) -> String {
    let said = stderr.trim();
    match forbidding {
        Some(Setting { name, forbids, allows }) => format!(
            "the test bed needs user namespaces, and this machine forbids them ({name} = \
             {forbids}): {said}\nallow them with `sudo sysctl -w {name}={allows}`"
        ),
        None => format!(
            "the test bed needs user, network, PID, IPC and mount namespaces, and could not get \
             them: {said}\nin a container, start it with \
             `--security-opt seccomp=unconfined --security-opt systempaths=unconfined \
             --cap-add SYS_ADMIN`; elsewhere, see `dmesg | tail` for what denied it"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forbidding_setting_is_named_with_the_command_that_helps() {
        for setting in &SETTINGS {
            let text = explanation("unshare: Operation not permitted\n", Some(setting));
            assert!(text.contains("unshare: Operation not permitted"), "{text}");
            let command = format!("`sudo sysctl -w {}={}`", setting.name, setting.allows);
            assert!(text.ends_with(&command), "{text}");
        }
    }

    #[test]
    fn an_unknown_reason_still_names_the_requirements() {
        let text = explanation("unshare: Invalid argument", None);
        assert!(text.contains("user, network, PID, IPC and mount namespaces"), "{text}");
    }

    #[test]
    fn a_missing_program_is_named_with_the_package() {
        let error = find("no-such-program").unwrap_err().to_string();
        assert!(
            error.contains("`no-such-program`") && error.contains("apt-get install"),
            "{error}"
        );
    }
}
