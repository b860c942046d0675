//! Whether an agent's directory still is what its image was made from (scheduler.md §9).

use std::fs::{self, File};
use std::io::{ErrorKind, Read as _};
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use ring::digest;

use crate::base::files::read_optional;
use crate::docker::{dockerfile, user_files};

/// Files of an agent's directory that count.
const FILES: [&str; 5] = ["agent-config.toml", "ACTIONS.md", "Dockerfile", "test-script.sh", "mock.toml"];
/// Directory of further scripts of the `mock` provider.
const SCRIPTS: &str = "mock";

/// What counts of an agent's directory: content and absence of the files that go into its image or say how it runs. Equal
/// ones mean that there is nothing to do, whatever else happened in the directory.
///
/// To be taken before the files are read for good: then what changes in between is noticed the next time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint([u8; digest::SHA256_OUTPUT_LEN]);

/// Takes the fingerprint of an agent's directory; one that does not exist has the fingerprint of an empty one.
///
/// # Errors
/// When one of the files cannot be read, or when its Dockerfile copies files and there is too much to copy.
pub fn fingerprint(agent_dir: &Path) -> Result<Fingerprint> {
    let mut summary = Summary(digest::Context::new(&digest::SHA256));
    for name in FILES {
        summary.add_file(agent_dir, name)?;
    }
    for name in scripts(agent_dir)? {
        summary.add_file(agent_dir, &name)?;
    }
    if read_optional(&agent_dir.join("Dockerfile"))?.is_some_and(|text| dockerfile::copies_user_files(&text)) {
        summary.add_user_files(agent_dir)?;
    }
    Ok(summary.finish())
}

/// `mock/*.toml` in order.
fn scripts(agent_dir: &Path) -> Result<Vec<String>> {
    let dir = agent_dir.join(SCRIPTS);
    let entries = match fs::read_dir(&dir) {
        Ok(entries) => entries,
        Err(error) if is_absence(error.kind()) => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("read directory {}", dir.display())),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.with_context(|| format!("read directory {}", dir.display()))?;
        names.extend(
            entry.file_name().to_str().filter(|name| name.ends_with(".toml")).map(|name| format!("{SCRIPTS}/{name}")),
        );
    }
    names.sort();
    Ok(names)
}

fn is_absence(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::NotFound | ErrorKind::NotADirectory)
}

/// Names and values, with their lengths, so that no two lists of them look alike.
struct Summary(digest::Context);

impl Summary {
    fn add(&mut self, name: &str, value: &[u8]) {
        for part in [name.as_bytes(), value] {
            self.0.update(&(part.len() as u64).to_be_bytes());
            self.0.update(part);
        }
    }

    fn add_file(&mut self, dir: &Path, name: &str) -> Result<()> {
        match digest_of(&dir.join(name))? {
            Some(digest) => self.add(name, digest.as_ref()),
            None => self.add(name, b"is missing"),
        }
        Ok(())
    }

    fn add_user_files(&mut self, dir: &Path) -> Result<()> {
        let mut files = user_files::list(dir)?;
        files.sort_by(|a, b| a.path.cmp(&b.path));
        for file in files {
            if file.is_link {
                let path = dir.join(&file.path);
                let target = fs::read_link(&path).with_context(|| format!("read link {}", path.display()))?;
                self.add(&file.path, target.as_os_str().as_encoded_bytes());
            } else {
                self.add(&file.path, &file.mode.to_be_bytes());
                self.add_file(dir, &file.path)?;
            }
        }
        Ok(())
    }

    fn finish(self) -> Fingerprint {
        let mut bytes = [0; digest::SHA256_OUTPUT_LEN];
        bytes.copy_from_slice(self.0.finish().as_ref());
        Fingerprint(bytes)
    }
}

/// SHA-256 of a file's content; `None` when there is none.
fn digest_of(path: &Path) -> Result<Option<digest::Digest>> {
    let reading = || format!("read {}", path.display());
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => {}
        Ok(_) => bail!("{}: is no file", path.display()),
        Err(error) if is_absence(error.kind()) => return Ok(None),
        Err(error) => return Err(error).with_context(reading),
    }
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if is_absence(error.kind()) => return Ok(None),
        Err(error) => return Err(error).with_context(reading),
    };
    let mut context = digest::Context::new(&digest::SHA256);
    let mut buffer = [0; 16 * 1024];
    loop {
        match file.read(&mut buffer).with_context(reading)? {
            0 => return Ok(Some(context.finish())),
            count => context.update(&buffer[..count]),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use tempfile::TempDir;

    use super::*;

    /// An agent's directory, and the fingerprint that it had last.
    struct Case {
        dir: TempDir,
        last: Fingerprint,
    }

    impl Case {
        fn new(files: &[(&str, &str)]) -> Self {
            let dir = tempfile::tempdir().unwrap();
            for (path, content) in files {
                write(dir.path(), path, content);
            }
            let last = fingerprint(dir.path()).unwrap();
            Self { dir, last }
        }

        fn write(&self, path: &str, content: &str) {
            write(self.dir.path(), path, content);
        }

        fn remove(&self, path: &str) {
            fs::remove_file(self.dir.path().join(path)).unwrap();
        }

        #[track_caller]
        fn is_same(&self) {
            assert_eq!(fingerprint(self.dir.path()).unwrap(), self.last);
        }

        #[track_caller]
        fn is_other(&mut self) {
            let found = fingerprint(self.dir.path()).unwrap();
            assert_ne!(found, self.last);
            self.last = found;
        }
    }

    fn write(dir: &Path, path: &str, content: &str) {
        let path = dir.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    const PLAIN: &str = "FROM al-agent\nRUN true\n";
    const COPYING: &str = "FROM al-agent\nCOPY tools/ /opt/tools/\n";

    #[test]
    fn content_and_absence_of_every_file_that_counts_count() {
        let mut case = Case::new(&[("agent-config.toml", "a"), ("ACTIONS.md", "b")]);
        let all = FILES.into_iter().chain(["mock/a.toml", "mock/b.toml"]);
        for file in all {
            case.write(file, "first");
            case.is_other();
            case.write(file, "");
            case.is_other();
            case.remove(file);
            case.is_other();
            case.write(file, "first");
            case.is_other();
        }
        fs::rename(case.dir.path().join("mock/a.toml"), case.dir.path().join("mock/c.toml")).unwrap();
        case.is_other();
    }

    #[test]
    fn equal_content_is_the_same_however_it_came_there() {
        let mut case = Case::new(&[("ACTIONS.md", "text"), ("Dockerfile", PLAIN), ("mock/a.toml", "x")]);
        let first = case.last;
        case.write("ACTIONS.md", "text");
        case.is_same();
        case.write(".ACTIONS.md.swp", "text");
        case.is_same();
        fs::rename(case.dir.path().join(".ACTIONS.md.swp"), case.dir.path().join("ACTIONS.md")).unwrap();
        case.is_same();
        case.write("ACTIONS.md", "other");
        case.is_other();
        case.write("ACTIONS.md", "text");
        case.is_other();
        assert_eq!(case.last, first);
        case.write("shared/instructions.md", "text");
        case.remove("ACTIONS.md");
        symlink("shared/instructions.md", case.dir.path().join("ACTIONS.md")).unwrap();
        case.is_same();
    }

    #[test]
    fn other_files_do_not_count() {
        let case = Case::new(&[("ACTIONS.md", "text"), ("Dockerfile", PLAIN)]);
        for file in
            ["notes.md", "ACTIONS.md~", ".agent-config.toml.swp", "tools/run", "mock/README", "node_modules/x.js"]
        {
            case.write(file, "new");
            case.is_same();
        }
    }

    #[test]
    fn files_that_the_dockerfile_may_copy_count() {
        let mut case = Case::new(&[("Dockerfile", COPYING), ("tools/run", "a")]);
        case.write("tools/run", "b");
        case.is_other();
        fs::set_permissions(case.dir.path().join("tools/run"), fs::Permissions::from_mode(0o755)).unwrap();
        case.is_other();
        symlink("run", case.dir.path().join("tools/link")).unwrap();
        case.is_other();
        case.write("elsewhere", "may be copied, too");
        case.is_other();
        case.write("run.log", "never sent");
        case.write(".env", "never sent");
        case.is_same();
        case.write(".dockerignore", "elsewhere\n");
        case.is_other();
        case.write("elsewhere", "ignored now");
        case.is_same();
        case.write("Dockerfile", PLAIN);
        case.is_other();
        case.write("tools/run", "c");
        case.is_same();
    }

    #[test]
    fn a_directory_that_is_gone_is_like_an_empty_one() {
        let mut case = Case::new(&[("ACTIONS.md", "text")]);
        case.remove("ACTIONS.md");
        case.is_other();
        fs::remove_dir(case.dir.path()).unwrap();
        case.is_same();
        fs::write(case.dir.path(), "a file").unwrap();
        case.is_same();
        fs::remove_file(case.dir.path()).unwrap();
        fs::create_dir(case.dir.path()).unwrap();
    }

    #[test]
    fn a_directory_exchanged_behind_a_link_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "one/ACTIONS.md", "one");
        write(dir.path(), "two/ACTIONS.md", "two");
        let link = dir.path().join("dev");
        symlink("one", &link).unwrap();
        let first = fingerprint(&link).unwrap();
        fs::remove_file(&link).unwrap();
        symlink("two", &link).unwrap();
        assert_ne!(fingerprint(&link).unwrap(), first);
    }

    #[test]
    fn what_cannot_be_read_is_an_error_that_names_it() {
        let case = Case::new(&[("Dockerfile", COPYING)]);
        case.write("ACTIONS.md/file", "a directory");
        let error = fingerprint(case.dir.path()).unwrap_err().to_string();
        assert!(error.contains("ACTIONS.md: is no file"), "{error}");
        fs::remove_dir_all(case.dir.path().join("ACTIONS.md")).unwrap();
        File::create(case.dir.path().join("huge.bin")).unwrap().set_len(65 * 1024 * 1024).unwrap();
        let error = fingerprint(case.dir.path()).unwrap_err().to_string();
        assert!(error.contains("huge.bin (65 MiB)"), "{error}");
    }
}
