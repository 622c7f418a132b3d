//! What a plugin leaves behind that is ended while helm works.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::row::programs;

/// Ends the plugin by `signal` while a helm that does not end has the files that were written for it.
/// Returns its exit code and the entries that are left.
fn ended_by(signal: &str, wrapper: &[&str]) -> (Option<i32>, usize) {
    let place = tempfile::tempdir().unwrap();
    let (path, temporary) = (place.path().join("bin"), place.path().join("tmp"));
    fs::create_dir(&path).unwrap();
    fs::create_dir(&temporary).unwrap();
    let helm = "#!/bin/sh\n[ \"$1\" = version ] && { echo v3.15.0; exit; }\nexec sleep 30\n";
    fs::write(path.join("helm"), helm).unwrap();
    fs::set_permissions(path.join("helm"), fs::Permissions::from_mode(0o755)).unwrap();
    let (_, plugin) = programs();
    let plugin = plugin.to_str().unwrap();
    let words = [wrapper, &[plugin, "install", "--dry-run=client", "-o", "yaml"]].concat();
    let mut child = Command::new(words[0])
        .args(&words[1..])
        .env("PATH", format!("{}:/usr/bin:/bin", path.display()))
        .env("TMPDIR", &temporary)
        .env("HOME", place.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let limit = Instant::now() + Duration::from_secs(20);
    while !holds_a_chart(&temporary) {
        assert!(Instant::now() < limit, "no chart is written for helm");
        std::thread::sleep(Duration::from_millis(20));
    }
    let id = child.id().to_string();
    assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
    let limit = Instant::now() + Duration::from_secs(3);
    let code = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status.code();
        }
        if Instant::now() >= limit {
            child.kill().unwrap();
            child.wait().unwrap();
            break Some(-1);
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    (code, fs::read_dir(&temporary).unwrap().count())
}

fn holds_a_chart(temporary: &Path) -> bool {
    let entries = fs::read_dir(temporary).unwrap();
    entries.flatten().any(|entry| entry.path().join("chart/Chart.yaml").exists())
}

#[test]
fn nothing_that_was_written_for_helm_outlives_the_plugin() {
    for signal in ["-INT", "-TERM", "-HUP"] {
        let (code, left) = ended_by(signal, &["env"]);
        assert_eq!((code, left), (Some(130), 0), "{signal}");
    }
}

#[test]
fn hang_up_does_not_end_what_nohup_runs() {
    let (code, _) = ended_by("-HUP", &["nohup"]);
    assert_eq!(code, Some(-1), "it ended");
}
