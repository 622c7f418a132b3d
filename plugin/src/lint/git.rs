//! The manifests of another revision, by the `git` on the path.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tokio::time::timeout;

use super::source::{MOST_BYTES, MOST_FILES, Text, is_manifest};
use super::{Place, Problem};

/// The time limit of one call of git.
const PATIENCE: Duration = Duration::from_secs(30);

/// Returns the texts that `paths` had at the revision `base`.
///
/// # Errors
/// The reason for which git does not say.
pub(crate) async fn at_revision(
    base: &str,
    paths: &[PathBuf],
) -> Result<(Vec<Text>, Vec<Problem>), String> {
    let (mut texts, mut problems) = (Vec::new(), Vec::new());
    for path in paths {
        let (some, wrong) = one(base, path).await?;
        for text in some {
            if !texts.contains(&text) {
                texts.push(text);
            }
        }
        problems.extend(wrong);
    }
    Ok((texts, problems))
}

/// One file of a revision.
struct Entry {
    object: String,
    size: u64,
    /// The path below the top of the work tree.
    path: String,
}

async fn one(base: &str, path: &Path) -> Result<(Vec<Text>, Vec<Problem>), String> {
    let directory = nearest(path);
    let top = git(&directory, &["rev-parse", "--show-toplevel"], None)
        .await
        .map_err(|why| format!("{} is in no work tree of git: {why}", path.display()))?;
    let top = PathBuf::from(line(top)?);
    let commit = format!("{base}^{{commit}}");
    let words = ["rev-parse", "--verify", "--quiet", "--end-of-options", &commit];
    let commit = git(&directory, &words, None).await.map_err(|why| {
        let why = if why.is_empty() { "no such revision".to_owned() } else { why };
        format!(
            "git does not know the revision {base:?}: {why}. A shallow clone has to fetch it first"
        )
    })?;
    let commit = line(commit)?;
    let inside = below(path, &directory, &top)?;
    let listed = ["ls-tree", "-r", "-l", "-z", "--full-tree", &commit, "--", &inside];
    let listed = git(&top, &listed, None).await?;
    let mut entries = entries(&listed);
    let whole = inside == "." || entries.iter().any(|it| it.path != inside);
    entries.retain(|it| !whole || visible(&it.path, &inside));
    let mut problems = Vec::new();
    let shown = |entry: &Entry| name(path, &inside, &entry.path);
    if entries.len() > MOST_FILES {
        let why = format!("revision {base} has more than {MOST_FILES} files here");
        problems.push(Problem::new(Place::file(&path.to_string_lossy()), why));
        entries.truncate(MOST_FILES);
    }
    entries.retain(|entry| {
        let fits = entry.size <= MOST_BYTES;
        if !fits {
            let why = format!("it is larger than {} MiB at {base}", MOST_BYTES >> 20);
            problems.push(Problem::new(Place::file(&shown(entry)), why));
        }
        fits
    });
    if entries.is_empty() {
        return Ok((Vec::new(), problems));
    }
    let mut asked =
        entries.iter().map(|entry| entry.object.as_str()).collect::<Vec<_>>().join("\n");
    asked.push('\n');
    let answer = git(&top, &["cat-file", "--batch"], Some(asked)).await?;
    let mut texts = Vec::new();
    let mut rest = answer.as_slice();
    for entry in &entries {
        let content =
            content(&mut rest).ok_or("git cat-file gave an answer that is not understood")?;
        match Text::of(&shown(entry), content) {
            Ok(text) => texts.push(text),
            Err(problem) => {
                problems
                    .push(Problem::new(problem.place, format!("at {base}: {}", problem.message)));
            }
        }
    }
    Ok((texts, problems))
}

/// Returns the nearest directory that exists: the file may be new, or gone.
fn nearest(path: &Path) -> PathBuf {
    let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut ancestors = whole.ancestors();
    ancestors.find(|it| it.is_dir()).map_or_else(|| PathBuf::from("."), Path::to_owned)
}

/// Returns the path below the top of the work tree, as git spells it.
fn below(path: &Path, directory: &Path, top: &Path) -> Result<String, String> {
    let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let rest = whole.strip_prefix(directory).unwrap_or(Path::new("")).to_owned();
    let real = directory.canonicalize().map_err(|error| error.to_string())?.join(rest);
    let top = top.canonicalize().map_err(|error| error.to_string())?;
    let inside = real
        .strip_prefix(&top)
        .map_err(|_| format!("{} is not below {}", path.display(), top.display()))?;
    let words: Vec<String> =
        inside.components().map(|it| it.as_os_str().to_string_lossy().into_owned()).collect();
    Ok(if words.is_empty() { ".".to_owned() } else { words.join("/") })
}

/// Returns whether a check of the directory `inside` reads the file.
fn visible(path: &str, inside: &str) -> bool {
    let rest = path.strip_prefix(inside).unwrap_or(path);
    is_manifest(Path::new(path)) && !rest.split('/').any(|part| part.starts_with('.'))
}

/// Returns the name of a file as a check of `path` would name it.
fn name(path: &Path, inside: &str, found: &str) -> String {
    let rest = match inside {
        "." => Some(found),
        _ => found.strip_prefix(inside).map(|rest| rest.trim_start_matches('/')),
    };
    match rest {
        Some("") | None => path.to_string_lossy().into_owned(),
        Some(rest) => path.join(rest).to_string_lossy().into_owned(),
    }
}

/// Reads the lines of `git ls-tree -l -z`: mode, type, object, size, and the path after a tab.
fn entries(listed: &[u8]) -> Vec<Entry> {
    let lines = listed.split(|byte| *byte == 0);
    lines
        .filter_map(|line| {
            let line = std::str::from_utf8(line).ok()?;
            let (head, path) = line.split_once('\t')?;
            let mut words = head.split_whitespace();
            let (mode, kind, object) = (words.next()?, words.next()?, words.next()?);
            let size = words.next()?.parse().ok()?;
            // No symbolic link and no submodule.
            let file = kind == "blob" && mode.starts_with("100");
            file.then(|| Entry { object: object.to_owned(), size, path: path.to_owned() })
        })
        .collect()
}

/// Takes one object off the answer of `git cat-file --batch`.
fn content(rest: &mut &[u8]) -> Option<Vec<u8>> {
    let end = rest.iter().position(|byte| *byte == b'\n')?;
    let head = std::str::from_utf8(rest.get(..end)?).ok()?;
    let size: usize = head.rsplit(' ').next()?.parse().ok()?;
    let start = end + 1;
    let content = rest.get(start..start.checked_add(size)?)?.to_vec();
    *rest = rest.get(start + size + 1..)?;
    Some(content)
}

fn line(output: Vec<u8>) -> Result<String, String> {
    let text =
        String::from_utf8(output).map_err(|_| "git answered with no UTF-8 text".to_owned())?;
    Ok(text.trim_end_matches(['\n', '\r']).to_owned())
}

/// Runs git in `directory`, and returns its output. The error is its message.
async fn git(directory: &Path, words: &[&str], input: Option<String>) -> Result<Vec<u8>, String> {
    let mut command = Command::new("git");
    command
        .arg("-C")
        .arg(directory)
        .args(words)
        .env("GIT_OPTIONAL_LOCKS", "0")
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_NO_LAZY_FETCH", "1")
        .env("GIT_LITERAL_PATHSPECS", "1")
        .env("LC_ALL", "C")
        .stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let run = async {
        let mut child = command.spawn().map_err(|error| {
            if error.kind() == std::io::ErrorKind::NotFound {
                "git is not on the path".to_owned()
            } else {
                format!("git cannot be run: {error}")
            }
        })?;
        let stdin = child.stdin.take();
        // The answer is read meanwhile: it may be larger than the pipe.
        let writing = async {
            if let (Some(mut stdin), Some(input)) = (stdin, input) {
                stdin.write_all(input.as_bytes()).await.ok();
            }
        };
        let ((), output) = futures::join!(writing, child.wait_with_output());
        let output = output.map_err(|error| format!("git cannot be run: {error}"))?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.lines().next().unwrap_or_default();
        Err(said.trim_start_matches("fatal: ").to_owned())
    };
    timeout(PATIENCE, run)
        .await
        .unwrap_or_else(|_| Err(format!("git gave no answer in {}s", PATIENCE.as_secs())))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn repository() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for words in [
            &["init", "--quiet", "--initial-branch=main"][..],
            &["config", "user.email", "a@b"],
            &["config", "user.name", "a"],
            &["config", "commit.gpgsign", "false"],
        ] {
            git(root.path(), words, None).await.unwrap();
        }
        root
    }

    async fn commit(root: &Path, files: &[(&str, &str)]) {
        for (path, text) in files {
            let path = root.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        git(root, &["add", "-A"], None).await.unwrap();
        git(root, &["commit", "--quiet", "-m", "x"], None).await.unwrap();
    }

    #[tokio::test]
    async fn files_of_another_revision_have_the_names_of_this_one() {
        let root = repository().await;
        let root = root.path();
        commit(
            root,
            &[
                ("db/a.yaml", "one"),
                ("db/deep er/b.yml", "two\n"),
                ("c.yaml", "three"),
                ("db/note.txt", "none"),
                ("db/.hidden/d.yaml", "none"),
            ],
        )
        .await;
        std::fs::write(root.join("db/a.yaml"), "changed").unwrap();
        std::fs::remove_file(root.join("db/deep er/b.yml")).unwrap();
        let (texts, problems) = at_revision("HEAD", &[root.join("db")]).await.unwrap();
        let found: Vec<(String, &str)> = texts
            .iter()
            .map(|it| (it.name.replace(&*root.to_string_lossy(), ""), it.text.as_str()))
            .collect();
        let want = [("/db/a.yaml".to_owned(), "one"), ("/db/deep er/b.yml".to_owned(), "two\n")];
        assert_eq!((found.as_slice(), problems), (&want[..], vec![]));
        let (file, _) = at_revision("HEAD", &[root.join("db/a.yaml")]).await.unwrap();
        assert_eq!((file.len(), file[0].text.as_str()), (1, "one"));
        let (gone, _) = at_revision("HEAD", &[root.join("db/new.yaml")]).await.unwrap();
        assert_eq!(gone, [], "a file that is new had nothing before");
    }

    #[tokio::test]
    async fn unknown_revision_and_missing_work_tree_are_named() {
        let root = repository().await;
        commit(root.path(), &[("a.yaml", "one")]).await;
        for base in ["nowhere", "--output=x", "-h", ""] {
            let why = at_revision(base, &[root.path().to_owned()]).await.unwrap_err();
            assert!(why.contains("does not know the revision"), "{base}: {why}");
        }
        let outside = tempfile::tempdir().unwrap();
        let why = at_revision("HEAD", &[outside.path().to_owned()]).await.unwrap_err();
        assert!(why.contains("is in no work tree of git"), "{why}");
    }
}
