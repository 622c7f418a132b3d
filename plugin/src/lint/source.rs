//! The texts that are checked: files, directories and standard input, within bounds.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::{Place, Problem};

/// The most bytes of one file. An object of Kubernetes has at most 3 MiB.
pub(crate) const MOST_BYTES: u64 = 16 << 20;
/// The most bytes of all files together.
const MOST_TOGETHER: u64 = 256 << 20;
/// The most files.
pub(crate) const MOST_FILES: usize = 10_000;
/// The most directories inside each other.
const DEEPEST: usize = 32;
/// The name of standard input in messages.
const STDIN: &str = "stdin";

/// One text with its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Text {
    /// The path as it was given or found, or `stdin`.
    pub(crate) name: String,
    /// The text, without a byte order mark.
    pub(crate) text: String,
}

impl Text {
    /// Decodes the content of a file.
    pub(crate) fn of(name: &str, bytes: Vec<u8>) -> Result<Self, Problem> {
        let text = String::from_utf8(bytes).map_err(|error| {
            let valid = error.utf8_error().valid_up_to();
            let before = error.as_bytes().get(..valid).unwrap_or_default();
            let line = before.split(|byte| *byte == b'\n').count();
            let line = u64::try_from(line).unwrap_or(u64::MAX);
            Problem::new(Place::line(name, line), "it is not UTF-8 text")
        })?;
        let text = match text.strip_prefix('\u{feff}') {
            Some(rest) => rest.to_owned(),
            None => text,
        };
        Ok(Self { name: name.to_owned(), text })
    }
}

/// The texts that were read so far, and what could not be read.
#[derive(Default)]
struct Reading {
    texts: Vec<Text>,
    problems: Vec<Problem>,
    /// The directories that were entered, without symbolic links in their paths.
    entered: BTreeSet<PathBuf>,
    bytes: u64,
    files: usize,
}

/// Reads every file of `paths`: files as they are, YAML and JSON files of directories with all below
/// them, and standard input for `-`.
///
/// A directory that symbolic links lead to twice is read once.
pub(crate) fn read(paths: &[PathBuf], stdin: &mut dyn Read) -> (Vec<Text>, Vec<Problem>) {
    let mut reading = Reading::default();
    for path in paths {
        if path.as_os_str() == "-" {
            reading.content(STDIN, stdin);
            continue;
        }
        let name = path.to_string_lossy();
        match fs::metadata(path) {
            Ok(found) if found.is_dir() => reading.directory(path, 0),
            // A pipe has a name too, as in `-f <(helm template .)`.
            Ok(_) => reading.file(path),
            Err(error) => reading.failed(&name, &error),
        }
    }
    (reading.texts, reading.problems)
}

/// Returns whether the name is that of a manifest.
pub(crate) fn is_manifest(path: &Path) -> bool {
    let extension = path.extension().and_then(|it| it.to_str()).unwrap_or_default();
    ["json", "yaml", "yml"].iter().any(|known| extension.eq_ignore_ascii_case(known))
}

impl Reading {
    fn failed(&mut self, name: &str, error: &io::Error) {
        self.problems.push(Problem::new(Place::file(name), format!("it cannot be read: {error}")));
    }

    fn directory(&mut self, path: &Path, depth: usize) {
        let name = path.to_string_lossy().into_owned();
        if depth > DEEPEST {
            let why = format!("it lies more than {DEEPEST} directories deep, and is not read");
            self.problems.push(Problem::new(Place::file(&name), why));
            return;
        }
        let is_new = match path.canonicalize() {
            Ok(whole) => self.entered.insert(whole),
            Err(error) => return self.failed(&name, &error),
        };
        if !is_new {
            return;
        }
        let entries = fs::read_dir(path).and_then(Iterator::collect::<io::Result<Vec<_>>>);
        let mut entries = match entries {
            Ok(entries) => entries.into_iter().map(|it| it.path()).collect::<Vec<_>>(),
            Err(error) => return self.failed(&name, &error),
        };
        entries.sort();
        for entry in entries {
            let file = entry.file_name().unwrap_or_default().to_string_lossy();
            if file.starts_with('.') && file != "." {
                continue;
            }
            match fs::metadata(&entry) {
                Ok(found) if found.is_dir() => self.directory(&entry, depth + 1),
                // A link that leads nowhere is only worth a word where it is named as a manifest.
                _ if !is_manifest(&entry) => {}
                Ok(found) if found.is_file() => self.file(&entry),
                Ok(_) => {
                    let place = Place::file(&entry.to_string_lossy());
                    self.problems.push(Problem::new(place, "it is no regular file"));
                }
                Err(error) => self.failed(&entry.to_string_lossy(), &error),
            }
        }
    }

    fn file(&mut self, path: &Path) {
        let name = path.to_string_lossy();
        match fs::File::open(path) {
            Ok(mut file) => self.content(&name, &mut file),
            Err(error) => self.failed(&name, &error),
        }
    }

    fn content(&mut self, name: &str, from: &mut dyn Read) {
        self.files += 1;
        if self.files > MOST_FILES || self.bytes > MOST_TOGETHER {
            // One word is enough: each further file would repeat it.
            if !self.problems.iter().any(|it| it.message == TOO_MUCH) {
                self.problems.push(Problem::new(Place::file(name), TOO_MUCH));
            }
            return;
        }
        let mut bytes = Vec::new();
        if let Err(error) = from.take(MOST_BYTES + 1).read_to_end(&mut bytes) {
            return self.failed(name, &error);
        }
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.bytes = self.bytes.saturating_add(length);
        if length > MOST_BYTES {
            let why = format!("it is larger than {} MiB", MOST_BYTES >> 20);
            self.problems.push(Problem::new(Place::file(name), why));
            return;
        }
        match Text::of(name, bytes) {
            Ok(text) => self.texts.push(text),
            Err(problem) => self.problems.push(problem),
        }
    }
}

/// The reason for which no further file is read.
const TOO_MUCH: &str = "there are more than 10000 files or 256 MiB: this file and those after it \
                        are not read. Check fewer directories at a time";

#[cfg(test)]
mod tests {
    use super::*;

    fn names(texts: &[Text], root: &Path) -> Vec<String> {
        let root = root.to_string_lossy();
        texts.iter().map(|it| it.name.replace(&*root, "")).collect()
    }

    fn messages(problems: &[Problem]) -> Vec<&str> {
        problems.iter().map(|it| it.message.as_str()).collect()
    }

    #[test]
    fn directory_is_read_with_all_below_it_in_the_order_of_names() {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in [
            ("b.yaml", "b"),
            ("a/c.yml", "c"),
            ("a/d.JSON", "d"),
            ("a/notes.txt", "no manifest"),
            (".git/config.yaml", "hidden"),
        ] {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let (texts, problems) = read(&[root.path().to_owned()], &mut io::empty());
        assert_eq!(names(&texts, root.path()), ["/a/c.yml", "/a/d.JSON", "/b.yaml"]);
        assert_eq!(problems, []);
    }

    #[cfg(unix)]
    #[test]
    fn loop_of_symbolic_links_ends() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("a")).unwrap();
        fs::write(root.path().join("a/x.yaml"), "x").unwrap();
        std::os::unix::fs::symlink(root.path(), root.path().join("a/up")).unwrap();
        std::os::unix::fs::symlink("nowhere.yaml", root.path().join("gone.yaml")).unwrap();
        let (texts, problems) = read(&[root.path().to_owned()], &mut io::empty());
        assert_eq!(names(&texts, root.path()), ["/a/x.yaml"]);
        assert_eq!(problems.len(), 1, "the link that leads nowhere is named: {problems:?}");
    }

    #[test]
    fn bytes_that_are_no_text_are_named_with_their_line() {
        let problem = Text::of("a.yaml", b"a: 1\nb: \xff\n".to_vec()).unwrap_err();
        assert_eq!(problem.place.to_string(), "a.yaml:2");
        let text = Text::of("a.yaml", b"\xef\xbb\xbfa: 1".to_vec()).unwrap();
        assert_eq!(text.text, "a: 1", "the byte order mark is no part of the text");
    }

    #[test]
    fn bounds_are_named_and_end_the_reading() {
        let mut endless = io::repeat(b'#');
        let (texts, problems) = read(&[PathBuf::from("-")], &mut endless);
        assert_eq!((texts.len(), messages(&problems)), (0, vec!["it is larger than 16 MiB"]));

        let missing = PathBuf::from("/nowhere/a.yaml");
        let (_, problems) = read(&[missing], &mut io::empty());
        assert!(problems[0].message.starts_with("it cannot be read: "), "{problems:?}");

        let mut many = Reading { files: MOST_FILES, ..Reading::default() };
        many.content("a", &mut io::empty());
        many.content("b", &mut io::empty());
        assert_eq!(messages(&many.problems), [TOO_MUCH], "it is said once");
    }

    #[test]
    fn deep_directories_are_named_and_not_read() {
        let root = tempfile::tempdir().unwrap();
        let deep = (0..40).fold(root.path().to_owned(), |path, _| path.join("d"));
        fs::create_dir_all(&deep).unwrap();
        fs::write(deep.join("x.yaml"), "x").unwrap();
        let (texts, problems) = read(&[root.path().to_owned()], &mut io::empty());
        assert_eq!(texts, []);
        assert!(problems[0].message.contains("directories deep"), "{problems:?}");
    }
}
