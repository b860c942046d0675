//! The user's own files in a build context: what stands beside a Dockerfile, for `COPY requirements.txt /tmp/`.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use super::context::{Context, DOCKERFILE, PROGRAMS_DIR, STATIC_DIR};
use crate::base::files::read_optional;

/// More is nearly always a data directory that nobody wants to send.
const LIMIT_BYTES: u64 = 64 * 1024 * 1024;
const IGNORE_FILE: &str = ".dockerignore";

/// Adds the files below a directory that [`list`] gives.
///
/// # Errors
/// As [`list`], or when a file cannot be read.
pub fn add(context: &mut Context, directory: &Path) -> Result<()> {
    for file in list(directory)? {
        let source = directory.join(&file.path);
        if file.is_link {
            let target = fs::read_link(&source).with_context(|| format!("read link {}", source.display()))?;
            context.add_link(&file.path, &target.to_string_lossy());
        } else {
            let content = fs::read(&source).with_context(|| format!("read {}", source.display()))?;
            context.add_file(&file.path, content, file.mode);
        }
    }
    Ok(())
}

/// A file that can be copied into an image.
#[derive(Debug)]
pub struct UserFile {
    /// Relative to the directory.
    pub path: String,
    pub bytes: u64,
    /// As it has it in the image.
    pub mode: u32,
    /// A symbolic link that stays in the directory.
    pub is_link: bool,
}

/// The files below a directory that can be copied into an image, in no order. Left out: state, secrets, version control,
/// logs, links that lead outside, and what `.dockerignore` names.
///
/// # Errors
/// When something cannot be read, or there is too much of it, with the largest entries.
pub fn list(directory: &Path) -> Result<Vec<UserFile>> {
    let ignore = Ignore::parse(&read_optional(&directory.join(IGNORE_FILE))?.unwrap_or_default());
    let mut found = Vec::new();
    collect(directory, "", &ignore, &mut found)?;
    let total: u64 = found.iter().map(|file| file.bytes).sum();
    if total > LIMIT_BYTES {
        found.sort_by_key(|file| std::cmp::Reverse(file.bytes));
        let megabytes = |bytes: u64| bytes.div_ceil(1024 * 1024);
        let largest: Vec<String> =
            found.iter().take(5).map(|file| format!("{} ({} MiB)", file.path, megabytes(file.bytes))).collect();
        bail!(
            "{} is too large to build from: {} MiB, at most 64; name what is not needed in {IGNORE_FILE}; largest: {}",
            directory.display(),
            megabytes(total),
            largest.join(", ")
        );
    }
    Ok(found)
}

fn collect(root: &Path, below: &str, ignore: &Ignore, found: &mut Vec<UserFile>) -> Result<()> {
    let directory = root.join(below);
    let entries = fs::read_dir(&directory).with_context(|| format!("read directory {}", directory.display()))?;
    for entry in entries {
        let entry = entry.with_context(|| format!("read directory {}", directory.display()))?;
        // A name that is no UTF-8 cannot be named in a Dockerfile either.
        let Ok(name) = entry.file_name().into_string() else { continue };
        let path = if below.is_empty() { name.clone() } else { format!("{below}/{name}") };
        if is_never_sent(&name, below) {
            continue;
        }
        let metadata = entry.metadata().with_context(|| format!("look at {}", entry.path().display()))?;
        if metadata.is_dir() {
            collect(root, &path, ignore, found)?;
        } else if !ignore.excludes(&path) && (metadata.is_file() || stays_inside(root, &path)) {
            let mode = if metadata.permissions().mode() & 0o100 == 0 { 0o644 } else { 0o755 };
            found.push(UserFile { path, bytes: metadata.len(), mode, is_link: metadata.is_symlink() });
        }
    }
    Ok(())
}

fn is_never_sent(name: &str, below: &str) -> bool {
    // The Dockerfile that is sent is the transformed one. Ours must not fall under the user's ignore rules.
    let is_ours = below.is_empty()
        && [DOCKERFILE, IGNORE_FILE, "Dockerfile.dockerignore", STATIC_DIR, PROGRAMS_DIR].contains(&name);
    is_ours
        || [".al", ".git", ".workspace", "node_modules"].contains(&name)
        || name.starts_with(".env")
        || name.ends_with(".log")
}

/// Whether an entry is a symbolic link that leads to something in the tree; other entries are no files.
fn stays_inside(root: &Path, path: &str) -> bool {
    let Ok(target) = fs::read_link(root.join(path)) else { return false };
    let mut depth: Vec<Component<'_>> =
        Path::new(path).parent().map(|dir| dir.components().collect()).unwrap_or_default();
    for part in target.components() {
        match part {
            Component::ParentDir if depth.pop().is_none() => return false,
            Component::RootDir | Component::Prefix(_) => return false,
            Component::Normal(_) => depth.push(part),
            Component::ParentDir | Component::CurDir => {}
        }
    }
    // Further links on the way may lead outside.
    let resolved: PathBuf = root.join(path);
    match (fs::canonicalize(&resolved), fs::canonicalize(root)) {
        (Ok(target), Ok(root)) => target.starts_with(root),
        _ => false,
    }
}

/// Rules of a `.dockerignore`; the last one that fits decides.
struct Ignore(Vec<Rule>);

struct Rule {
    parts: Vec<String>,
    is_exception: bool,
}

impl Ignore {
    fn parse(text: &str) -> Self {
        let rule = |line: &str| {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                return None;
            }
            let (pattern, is_exception) = line.strip_prefix('!').map_or((line, false), |rest| (rest.trim(), true));
            let parts: Vec<String> =
                pattern.split('/').filter(|part| !part.is_empty() && *part != ".").map(str::to_owned).collect();
            (!parts.is_empty()).then_some(Rule { parts, is_exception })
        };
        Self(text.trim_start_matches('\u{FEFF}').lines().filter_map(rule).collect())
    }

    fn excludes(&self, path: &str) -> bool {
        let path: Vec<&str> = path.split('/').collect();
        let decides = |rule: &&Rule| (1..=path.len()).any(|depth| fits(&rule.parts, &path[..depth]));
        self.0.iter().rev().find(decides).is_some_and(|rule| !rule.is_exception)
    }
}

/// Whether a pattern fits a whole path; `**` stands for any number of components.
fn fits(pattern: &[String], path: &[&str]) -> bool {
    match (pattern.split_first(), path.split_first()) {
        (None, None) => true,
        (Some((first, rest)), _) if first == "**" => (0..=path.len()).any(|skip| fits(rest, &path[skip..])),
        (Some((first, rest)), Some((name, path))) => {
            let (pattern, name): (Vec<char>, Vec<char>) = (first.chars().collect(), name.chars().collect());
            name_fits(&pattern, &name) && fits(rest, path)
        }
        _ => false,
    }
}

/// `*`, `?` and `[a-z]` within one component.
fn name_fits(pattern: &[char], name: &[char]) -> bool {
    match (pattern.split_first(), name.split_first()) {
        (None, None) => true,
        (Some(('*', rest)), _) => (0..=name.len()).any(|skip| name_fits(rest, &name[skip..])),
        (Some(('?', rest)), Some((_, name))) => name_fits(rest, name),
        (Some(('[', rest)), Some((c, name))) => match rest.iter().position(|c| *c == ']') {
            Some(end) => class_has(&rest[..end], *c) && name_fits(&rest[end + 1..], name),
            None => false,
        },
        (Some(('\\', [escaped, rest @ ..])), Some((c, name))) => escaped == c && name_fits(rest, name),
        (Some((expected, rest)), Some((c, name))) => expected == c && name_fits(rest, name),
        _ => false,
    }
}

fn class_has(class: &[char], c: char) -> bool {
    let (class, negated) = match class {
        ['^', rest @ ..] => (rest, true),
        class => (class, false),
    };
    let mut rest = class;
    let mut has = false;
    while let [first, after @ ..] = rest {
        rest = match after {
            ['-', last, after @ ..] => {
                has |= (*first..=*last).contains(&c);
                after
            }
            _ => {
                has |= *first == c;
                after
            }
        };
    }
    has != negated
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn names(directory: &Path) -> Vec<String> {
        let mut context = Context::default();
        add(&mut context, directory).unwrap();
        context.own_files().map(|(path, _)| path.to_owned()).collect()
    }

    fn write(root: &Path, path: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "x").unwrap();
    }

    #[test]
    fn state_secrets_and_our_own_names_are_never_sent() {
        let dir = tempfile::tempdir().unwrap();
        for path in [
            "requirements.txt",
            "src/a.py",
            "src/static/b",
            ".env",
            "src/.env.local",
            ".al/state.db",
            ".git/config",
            "web/node_modules/x/y.js",
            "run.log",
            "static/x",
            ".al-bin/al-agent",
            "Dockerfile",
            "src/Dockerfile",
            ".workspace/w",
        ] {
            write(dir.path(), path);
        }
        assert_eq!(names(dir.path()), ["requirements.txt", "src/Dockerfile", "src/a.py", "src/static/b"]);
        // Not even when asked for.
        fs::write(dir.path().join(".dockerignore"), "src\n!src/a.py\n!.env\n").unwrap();
        assert_eq!(names(dir.path()), ["requirements.txt", "src/a.py"]);
    }

    #[test]
    fn links_that_leave_the_tree_stay_out() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "a/b");
        symlink("a/b", dir.path().join("inside")).unwrap();
        symlink("/etc/passwd", dir.path().join("absolute")).unwrap();
        symlink("../../etc/passwd", dir.path().join("a/up")).unwrap();
        symlink("../..", dir.path().join("a/out")).unwrap();
        symlink("a/out/x", dir.path().join("by-way-of")).unwrap();
        let mut context = Context::default();
        add(&mut context, dir.path()).unwrap();
        let bytes = context.to_tar().unwrap();
        let mut archive = tar::Archive::new(bytes.as_slice());
        let paths: Vec<String> =
            archive.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().display().to_string()).collect();
        assert_eq!(paths, ["a/", "a/b", "inside"]);
    }

    #[test]
    fn too_much_is_refused_with_the_largest_entries() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "small");
        fs::File::create(dir.path().join("huge.bin")).unwrap().set_len(LIMIT_BYTES).unwrap();
        let error = add(&mut Context::default(), dir.path()).unwrap_err().to_string();
        assert!(error.contains("huge.bin (64 MiB)") && error.contains(".dockerignore"), "{error}");
    }

    #[track_caller]
    fn ignored(rules: &str, path: &str, expected: bool) {
        assert_eq!(Ignore::parse(rules).excludes(path), expected, "{rules:?} {path}");
    }

    #[test]
    fn rules_of_dockerignore() {
        ignored("data", "data/x/y", true);
        ignored("/data/", "data/x", true);
        ignored("data", "src/data/x", false);
        ignored("**/data", "src/data/x", true);
        ignored("**/*.pyc", "a/b/c.pyc", true);
        ignored("*.pyc", "a/c.pyc", false);
        ignored("a/**/z", "a/z", true);
        ignored("file?.[ch]", "file1.c", true);
        ignored("file?.[^ch]", "file1.c", false);
        ignored("file[0-9]", "file7", true);
        ignored("# data\n\n", "data", false);
        ignored("*\n!keep", "keep/x", false);
        ignored("!keep\n*", "keep", true);
        ignored("a\\*", "a*", true);
    }
}
